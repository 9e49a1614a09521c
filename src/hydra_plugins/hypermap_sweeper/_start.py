"""What a search begins with: the configuration that the sweep starts from, and the best of earlier studies."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hypermap.errors import UserError
from hypermap.search.mapped import nearest
from hypermap.search.space import Parameter, Space
from hypermap.search.study import find, ranked

EACH = 3  # configurations that are taken of an earlier study


@dataclass(frozen=True)
class Start:
    """The baseline, as a point of the space.

    Attributes:
        configuration: that the sweep starts from.
        params: its values by the parameter's name, those outside of a range moved to its nearer end.
        moved: the parameters whose value is outside of the space.
    """

    configuration: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    moved: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        space: Space,
        configuration: dict[str, Any],
        choices: Mapping[str, Any],
        understood: Callable[[Any], Any],
    ) -> "Start":
        """Return the baseline of a space; `understood` gives what a choice stands for in the configuration."""
        params: dict[str, Any] = {}
        moved = []
        for parameter in space.parameters:
            if any(params.get(condition.group) not in condition.choices for condition in parameter.conditions):
                continue
            value = choices.get(parameter.key, _MISSING)
            if value is _MISSING:
                value = _select(configuration, parameter.key)
            inside, params_value = _inside(parameter, value, understood)
            if params_value is not None:
                params[parameter.name] = params_value
            if not inside:
                moved.append(parameter.name)
        return cls(configuration, params, tuple(moved))

    def record(self) -> dict[str, Any]:
        """Return what the study keeps."""
        return {"params": self.params, "moved": list(self.moved)}


_MISSING = object()


def _select(configuration: Any, key: str) -> Any:
    for part in key.lstrip("+").split("."):
        if isinstance(configuration, Mapping) and part in configuration:
            configuration = configuration[part]
        elif isinstance(configuration, Sequence) and part.isdigit() and int(part) < len(configuration):
            configuration = configuration[int(part)]
        else:
            return _MISSING
    return configuration


def _inside(parameter: Parameter, value: Any, understood: Callable[[Any], Any]) -> tuple[bool, Any]:
    """Return whether a value lies in the space, and the value of the space that is nearest; None: there is none."""
    d = parameter.distribution
    if isinstance(d, CategoricalDistribution):
        same = [choice for choice in d.choices if choice == value or understood(choice) == value]
        return bool(same), same[0] if same else None
    assert isinstance(d, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False, None
    found = nearest(d, value)
    return abs(found - value) <= 1e-9 * max(1.0, abs(value)), found


def earlier(sources: Sequence[str], space: Space, own: str) -> Iterator[dict[str, Any]]:
    """Yield the best configurations of earlier studies as far as they lie in the space, the best of each first.

    Args:
        sources: studies by name, or files: a report's ``trials.csv``, which has the best first, or a JSON list.
        space: of the search that is to begin.
        own: its name.

    Raises:
        UserError: there is no such study or file, or it has none of the space's parameters.
    """
    each = [list(_of_source(source, space, own)) for source in sources]
    for place in range(EACH):
        for found in each:
            if place < len(found):
                yield found[place]


def _of_source(source: str, space: Space, own: str) -> Iterator[dict[str, Any]]:
    if source == own:
        raise UserError(f"hydra.sweeper.prior names {own}, which is this study itself. Name another, or leave it out.")
    rows = list(_of_file(Path(source)) if Path(source).suffix in (".csv", ".json") else _of_study(source))
    distributions = space.distributions()
    keys = {parameter.key: parameter.name for parameter in space.parameters}
    found: list[dict[str, Any]] = []
    for row in rows:
        params = {}
        for name, value in row.items():
            own_name = name if name in distributions else keys.get(name)
            if own_name is not None and (fitting := _fitting(distributions[own_name], value)) is not None:
                params[own_name] = fitting
        if params and params not in found:  # in a file, a trial that was measured again is there twice
            found.append(params)
    yield from found[:EACH]
    if not found:
        has = ", ".join(rows[0]) if rows else "no complete trial"
        raise UserError(
            f"hydra.sweeper.prior={source}: nothing of it lies in this space ({', '.join(distributions)}). "
            f"It has: {has}."
        )


def _of_study(name: str) -> Iterator[dict[str, Any]]:
    study, _ = find(name)
    if len(study.directions) > 1:
        yield from (dict(trial.params) for trial in study.best_trials)
        return
    for trial in ranked(study.get_trials(deepcopy=False), maximizes=study.direction.name == "MAXIMIZE"):
        yield dict(trial.params)


def _of_file(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            loaded = json.loads(text)
            rows = loaded if isinstance(loaded, list) else [loaded]
            if odd := [row for row in rows if not isinstance(row, dict)]:
                raise ValueError(f"{odd[0]!r} is no configuration")
            yield from rows
            return
        yield from (row for row in csv.DictReader(text.splitlines()) if row.get("state", "complete") == "complete")
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"hydra.sweeper.prior={path} cannot be read ({error}). It is a study's name, a report's trials.csv, or a "
            "JSON list of configurations by parameter."
        ) from None


def _fitting(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value of a distribution that is nearest; None where there is none."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if str(choice) == str(value)), None)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return nearest(distribution, number) if math.isfinite(number) else None
