"""A comparison: a search with each strategy and seed, and a page that compares them."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from hypermap.core.errors import UserError
from hypermap.core.paths import STUDY_REPORTS
from hypermap.search.study import connect

if TYPE_CHECKING:
    from hypermap.sweeps.sweep import Sweep


def search_each(
    sweep: "Sweep", strategies: Mapping[str, Mapping[str, Any] | None], seeds: int, arguments: list[str]
) -> None:
    """Search with each strategy, and write the page; a request to stop ends the running search and all others.

    With several seeds, the k-th search of a strategy has the study's seed + k, from which the trials' seeds are
    derived. All strategies are run with one seed before the next.

    Raises:
        UserError: a strategy has an unknown setting, a threshold is invalid, or as for a search.
    """
    from hypermap.reports.study.verdict import read_thresholds

    thresholds = read_thresholds()
    searches = [
        one_search(sweep, name, changes or {}, repeat if seeds > 1 else None)
        for repeat in range(seeds)
        for name, changes in strategies.items()
    ]
    plans = []
    for search in searches:
        plans.append(search.search(arguments))
        if search.stopped:
            sweep.status = search.status or 1
            print(f"{len(plans)} of {len(searches)} searches have started. Run the same command to resume.", flush=True)
            return
    from hypermap.core.passwords import shown
    from hypermap.reports.study.comparison import compare
    from hypermap.reports.study.reading import read

    views = [read(connect(plan), shown(plan.storage), trust=True) for plan in plans]
    print(compare(views, STUDY_REPORTS, thresholds, plans[0].name.removesuffix(searches[0].suffix)), flush=True)


def one_search(sweep: "Sweep", name: str, changes: Mapping[str, Any], repeat: int | None) -> "Sweep":
    """Return the sweep with a strategy's own settings, and with its own seed if there are several.

    Raises:
        UserError: there is no such setting, sampler or pruner.
    """
    if odd := set(changes) - set(sweep.settings):
        raise UserError(
            f"hydra.sweeper.compare.{name} sets {', '.join(odd)}; a sweep has: {', '.join(sweep.settings)}."
        )
    one = copy.copy(sweep)
    one.repeat, one.suffix = repeat or 0, f"-{name}" + ("" if repeat is None else f"-s{repeat}")
    one.settings = {**sweep.settings, "report": False, **{key: _named(key, value) for key, value in changes.items()}}
    one.settings["params"] = {**(sweep.settings["params"] or {}), **(changes.get("params") or {})}
    return one


def _named(kind: str, value: Any) -> Any:
    """Return a sampler or a pruner by its option's name, as in ``hydra/sweeper/sampler=NAME``."""
    if kind not in ("sampler", "pruner") or not isinstance(value, str):
        return value
    store = ConfigStore.instance()
    if f"{value}.yaml" not in (known := store.list(f"hydra/sweeper/{kind}")):
        names = ", ".join(sorted(name.removesuffix(".yaml") for name in known))
        raise UserError(f"hydra.sweeper.compare: no {kind} {value!r}. There are: {names}.")
    return OmegaConf.to_container(store.load(f"hydra/sweeper/{kind}/{value}.yaml").node, resolve=True, enum_to_str=True)
