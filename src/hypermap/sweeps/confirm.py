"""A confirmation: retrains the best configurations of a study, and its baseline, with other seeds.

It is a separate study in the same storage: each of its trials is a trial of the confirmed study and a seed.
"""

import copy
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import IntDistribution

from hypermap.config.compose import resolve
from hypermap.config.overrides import parse_overrides
from hypermap.core.errors import UserError
from hypermap.core.moved import with_paths_of_now
from hypermap.reports.study.reading import read
from hypermap.reports.study.sentences import many
from hypermap.reports.study.view import BASELINE, CONFIRMATION, Confirmed
from hypermap.search.place import folder_of
from hypermap.search.progress import format_value
from hypermap.search.space import Parameter, Space, Suggests
from hypermap.search.storage import lock_folder
from hypermap.search.study import RECORD, SNAPSHOT, StudyConfig, failure, find, finished, open_study, trial_seed
from hypermap.sweeps.plan import NO_PRUNER, Planner
from hypermap.sweeps.trials import Composer

if TYPE_CHECKING:
    from hypermap.sweeps.sweep import Sweep

ROWS = "rows"  # a user attribute of the confirmation: for each of its trials, the study's trial and the seed
LISTED = "hypermap.search.counter_samplers.Listed"
SEEDS = 2**32


@dataclass(frozen=True)
class Wanted:
    """The value of ``hydra.sweeper.confirm``.

    Attributes:
        best: number of configurations besides the baseline.
        seeds: number of trainings of each.
        only: the name of an existing study; nothing is searched.
    """

    best: int = 3
    seeds: int = 5
    only: str | None = None


def wanted(setting: Any) -> Wanted | None:
    """Return the parsed setting; None if nothing is to be confirmed.

    Raises:
        UserError: it is neither true nor a mapping, or a count is below 1.
    """
    if setting is None or setting is False:
        return None
    given = {} if setting is True else setting
    if not isinstance(given, Mapping) or not set(given) <= set(Wanted.__dataclass_fields__):
        raise UserError(f"hydra.sweeper.confirm is {setting!r}; it is true, or {{best: 3, seeds: 5}}.")
    for key in ("best", "seeds"):
        count = given.get(key, 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(f"hydra.sweeper.confirm.{key} is {count!r}; it must be a whole number of at least 1.")
    return Wanted(**given)


@dataclass(frozen=True)
class Source:
    """The study that is confirmed, and the composer of its trials' configurations."""

    study: optuna.Study
    storage: str
    folder: Path
    composer: Composer
    fixed: Sequence[str]  # overrides of every trial

    def __post_init__(self) -> None:
        self.composer.groups |= {key.lstrip("+") for key in self.searched if self.composer.chooses(key)}

    @property
    def record(self) -> dict[str, Any]:
        """The record from the start of the study."""
        kept: dict[str, Any] = self.study.user_attrs[RECORD]
        return kept

    @property
    def searched(self) -> set[str]:
        """The keys that trials have values for, including those of a custom search space."""
        space = self.record["identity"]["space"]
        drawn = {name for trial in self.study.get_trials(deepcopy=False) for name in trial.params}
        return {entry["key"] for entry in space.values()} | {name for name in drawn if name not in space}

    def values(self, number: int) -> dict[str, Any]:
        """Return a trial's values by configuration key; the baseline has none of the searched ones."""
        if number == BASELINE:
            return {}
        space = self.record["identity"]["space"]
        params = self.study.get_trials(deepcopy=False)[number].params
        return {space[name]["key"] if name in space else name: value for name, value in params.items()}

    def configuration(self, number: int) -> dict[str, Any]:
        """Return the configuration of a trial, without its seed."""
        return {key: value for key, value in resolve(*self.composer(self.values(number))).items() if key != "seed"}


@dataclass(frozen=True)
class Repeats(Space):
    """A space of pairs of a trial of another study and a seed, which set that trial's values and the seed."""

    values: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Return the values of a trial of the other study, by configuration key."""
        drawn = super().suggest(trial)
        return {**self.values[drawn["trial"]], "seed": drawn["seed"]}

    def values_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what to show: the number of the other study's trial, and the seed."""
        return {"of": Confirmed(params["trial"], ()).label, "seed": params["seed"]} if len(params) == 2 else {}


def again(sweep: "Sweep", confirmation: Wanted, arguments: Sequence[str]) -> None:
    """Confirm an existing study; `sweep` has the configuration that it started from.

    Raises:
        UserError: there is no such study, another program made it, or as for `confirm`.
    """
    study, storage = find(str(confirmation.only))
    if RECORD not in study.user_attrs:
        raise UserError(
            f"{confirmation.only} was made by another program, and does not tell what its trials were trained with."
        )
    parsed = parse_overrides(arguments)
    usual = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    fixed = study.user_attrs[RECORD].get("fixed", usual)
    composer = Composer(
        sweep.context.config_loader.get_search_path(),
        sweep.config.hydra.job.config_name,
        [*sweep.hydra_overrides, *fixed],
        added=frozenset(str(o.key_or_group) for o in parsed if o.is_add() or o.is_force_add()),
    )
    confirm(sweep, confirmation, Source(study, storage, folder_of(study.study_name), composer, fixed))
    sweep.report(study, storage)


def confirm(sweep: "Sweep", confirmation: Wanted, source: Source) -> None:
    """Train the best configurations and the baseline with other seeds, except those trained already.

    Its trials do not become DVC experiments: they only repeat configurations.

    Raises:
        UserError: the configuration or the data are no longer the study's, there is no seed to set, the same error
            occurred three times in a row; or, if this was the only request, no trial is complete.
    """
    numbers = pick(sweep, source, confirmation.best)
    if not numbers:
        message = f"No trial of {source.study.study_name} was trained to its end, so there is nothing to confirm."
        if confirmation.only is not None:
            raise UserError(message)
        print(message)
        return
    code = check(sweep, source, numbers[0])
    seeds = [trial_seed(source.record["seed"], "confirmation", j) for j in range(confirmation.seeds)]
    study, plan = begin(sweep, source, [(number, seed) for seed in seeds for number in numbers], code)
    one = copy.copy(sweep)
    one.settings = {**sweep.settings, "custom_search_space": None}
    one.application = copy.copy(sweep.application)
    one.application.resume(plan.name, study.user_attrs[RECORD], source.folder / SNAPSHOT)
    trainings = plan.n_trials or 0  # including those of an earlier confirmation
    done = len(finished(study.get_trials(deepcopy=False), trainings))
    print(_heading(source, plan, numbers, confirmation.seeds, done), flush=True)
    if done < trainings:
        planner, alike = Planner(sweep.settings, sweep.config), resolve(*source.composer(source.values(numbers[0])))
        plan = replace(plan, stack=planner.stack(plan, sweep.application, alike))
        one.launch(plan, study, source.composer, source.fixed, planner.jobs(), alike)
        sweep.stopped, sweep.status = one.stopped, one.status
    trials = study.get_trials(deepcopy=False)
    if (error := failure(plan, trials)) is not None:
        raise UserError(f"{error}\n       Its traceback: {plan.folder}/NUMBER/error.txt")
    if (done := len(finished(trials, trainings))) < trainings:
        print(f"{done} of {many(trainings, 'training')}. Run the same command to resume.")
    else:
        sweep.status = 0
    confirmed = read(source.study, confirmation=study, best=0).confirmed
    print(_table([each for each in confirmed if each.trial in numbers], plan), flush=True)


def pick(sweep: "Sweep", source: Source, best: int) -> list[int]:
    """Return the numbers of the best trials with distinct configurations, and the baseline if it is not among them."""
    view = read(source.study, best=0)
    ranked = [trial.number for trial in view.ranking if trial.outcome == "complete"]
    if len(view.directions) > 1:
        front = {trial.number for trial in source.study.best_trials}
        ranked = [number for number in ranked if number in front]
    if not ranked:  # pruned trials are never the best
        return []
    found: dict[int, dict[str, Any]] = {}
    for number in ranked:
        if (configuration := source.configuration(number)) not in found.values():
            found[number] = configuration
        if len(found) == best:
            break
    try:
        baseline = source.configuration(BASELINE)
        sweep.application.check(resolve(*source.composer({})))
    except (UserError, OmegaConfBaseException) as error:
        print(f"No baseline is trained: without the searched values, {str(error).splitlines()[0]}")
        return list(found)
    if same := [number for number, configuration in found.items() if configuration == baseline]:
        print(f"The baseline is the configuration of trial {same[0]}, and trained as such.")
        return list(found)
    return [*found, BASELINE]


def check(sweep: "Sweep", source: Source, number: int) -> Any:
    """Check that the configuration and the data still match the study's trials; return the code's fingerprint.

    Raises:
        UserError: the configuration or the data differ, or there is no seed to set.
    """
    record, name, searched = source.record, source.study.study_name, source.searched
    configuration = resolve(*source.composer(source.values(number)))
    check_seed(configuration)
    now = sweep.application.study_spec(configuration, sorted(searched), record["objectives"] or None).identity
    was = with_paths_of_now(record["identity"])
    changed = [
        f"\n         {key} was {old.get(key)} and is {new.get(key)}"
        for old, new in ((was.get(part) or {}, now.get(part) or {}) for part in ("configuration", "data"))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not any(_overlap(key, other) for other in searched)
    ]
    if changed:
        raise UserError(
            f"{name} cannot be confirmed: its trials were trained with something else than is here now:"
            f"{''.join(changed[:8])}\n       Put it back, or search anew."
        )
    if was.get("code") != now.get("code"):
        print(f"The code is not that with which {name} was searched; scores may differ for that reason alone.")
    return now.get("code")


def check_seed(configuration: Mapping[str, Any]) -> None:
    """Refuse a configuration without a seed.

    Raises:
        UserError: it has no seed.
    """
    if "seed" not in configuration:
        raise UserError(
            "hydra.sweeper.confirm trains configurations again with other seeds, and the configuration has no key "
            "seed. Give it one that the task uses, or leave confirm out."
        )


def begin(
    sweep: "Sweep", source: Source, rows: Sequence[tuple[int, int]], code: Any
) -> tuple[optuna.Study, StudyConfig]:
    """Create the confirmation, or resume it with the missing ones of these rows appended."""
    record, study = source.record, source.study
    parameters = {"trial": IntDistribution(BASELINE, len(study.get_trials(deepcopy=False)) - 1)}
    parameters["seed"] = IntDistribution(0, SEEDS - 1)
    space = Space(tuple(Parameter(key, key, key, distribution) for key, distribution in parameters.items()))
    plan = StudyConfig(
        name=study.study_name + CONFIRMATION,
        storage=source.storage,
        folder=source.folder / "confirmation",
        space=space,
        directions=tuple(direction.name.lower() for direction in study.directions),
        objectives=tuple(record["objectives"]),
        sampler={},
        pruner={"_target_": NO_PRUNER},
        n_trials=0,
        seed=record["seed"],
        began=time.time(),
    )
    identity = {key: value for key, value in record["identity"].items() if key not in ("space", "code")}
    own = {"identity": {**identity, "space": space.record()}, "of": study.study_name, "code": []}
    own |= sweep.application.begin(plan.name, publish=False)
    confirmation, kept = open_study(plan, own, force=sweep.settings["resume"] == "force")
    with FileLock(lock_folder(plan.storage, plan.name) / "study"):
        listed = _listed(confirmation, rows)
        confirmation.set_user_attr(ROWS, listed)
        if code not in kept["code"]:
            confirmation.set_user_attr(RECORD, {**kept, "code": [*kept["code"], code]})
    values = {number: source.values(number) for number, _ in listed}
    return confirmation, replace(
        plan,
        space=Repeats(space.parameters, values),
        sampler={"_target_": LISTED, "rows": [{"trial": number, "seed": seed} for number, seed in listed]},
        n_trials=len(listed),
    )


def _listed(confirmation: optuna.Study, rows: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the rows that have started, then the other ones of `rows`, which replace earlier requests."""
    begun = confirmation.user_attrs.get(ROWS, [])[: len(confirmation.get_trials(deepcopy=False))]
    return [*begun, *(list(row) for row in rows if list(row) not in begun)]


def _overlap(one: str, other: str) -> bool:
    """Return whether one key equals or contains the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _heading(source: Source, plan: StudyConfig, numbers: Sequence[int], seeds: int, done: int) -> str:
    best = sum(number != BASELINE for number in numbers)
    message = f"the best {best}" if best > 1 else "the best"
    message += " and the baseline" if BASELINE in numbers else ""
    each = f"{many(seeds, 'seed')}{' each' * (len(numbers) > 1)}"
    first = f"Confirming {message} with {each}: {many(seeds * len(numbers), 'training')}"
    names = ", ".join(Confirmed(number, ()).label for number in numbers)
    lines = [first, f"  study  {source.study.study_name}: {names}", f"  trials {_near(plan.folder)}/"]
    if done:
        lines.append(f"  {done} of {many(plan.n_trials or 0, 'training')} are done.")
    return "\n".join(lines)


def _table(confirmed: Sequence[Confirmed], plan: StudyConfig) -> str:
    """Return a table with mean, sample standard deviation and number of the scores of each configuration."""
    objective = plan.objectives[0] if plan.objectives else "objective"
    rows = [("", f"mean {objective}", "sd", "n", "")]
    for one in confirmed:
        mean = format_value(statistics.fmean(one.scores)) if one.scores else ""
        deviation = format_value(statistics.stdev(one.scores)) if len(one.scores) > 1 else ""
        rows.append((one.label, mean, deviation, str(len(one.scores)), f"({one.failed} failed)" if one.failed else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip() for row, cells in zip(rows, padded, strict=True)
    )


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
