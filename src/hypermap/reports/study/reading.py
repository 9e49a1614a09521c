"""From Optuna's objects to a study as its report sees it."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.instantiate import check_part
from hypermap.core.moved import with_keys_of_now
from hypermap.core.paths import PARAMS, STUDIES
from hypermap.reports.study.view import BASELINE, ROUNDING, Confirmed, Parameter, Provenance, StudyData, TrialData
from hypermap.search.scales import mapping
from hypermap.search.schedule import PROPOSED, REPEATS, SCHEDULE, SIZE, Allowed, Ledger, mapping_of
from hypermap.search.study import BUDGET, PURPOSE, RECORD, RESULT, TRAININGS, epochs, outcome, quiet

VALIDATION, TEST, INTERVALS = "validation.json", "test.json", "intervals.json"


def read(
    study: optuna.Study,
    storage: str = "",
    confirmation: optuna.Study | None = None,
    best: int = 5,
    results: Path | None = None,
    *,
    trust: bool = False,
) -> StudyData:
    """Return a study as its report sees it.

    Args:
        study: it may be running, and may be of another program.
        storage: where it is, for the reader; shown as it is.
        confirmation: the study in which some of its configurations were trained again.
        best: how many of the best trials' histories to read from the study's folder.
        results: the folder of the pipeline's metrics; whose test they tell is seen from its validation.
        trust: whether a mapping that the study names may be any code, as one that a person has named just now.

    Raises:
        UserError: the study names a mapping that is none, or that is no part (`hypermap.core.instantiate.is_part`).
    """
    study, confirmation = in_letters(study), None if confirmation is None else in_letters(confirmation)
    record = dict(study.user_attrs.get(RECORD) or {})
    purpose = dict(study.user_attrs.get(PURPOSE) or {})
    frozen = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    directions = tuple("maximize" if d == StudyDirection.MAXIMIZE else "minimize" for d in study.directions)
    names = tuple(record.get("objectives") or study.metric_names or ())
    if len(names) != len(directions):
        names = ("objective",) if len(directions) == 1 else tuple(f"objective {k}" for k in range(len(directions)))
    space = record.get("identity", {}).get("space", {})
    for name, entry in {} if trust else space.items():
        _check_mapping(entry.get("mapping"), f"study {study.study_name}: the mapping of {name}")
    axes = _axes(frozen, space)
    budget, horizon = study.user_attrs.get(TRAININGS), record.get("horizon")
    view = StudyData(
        name=study.study_name,
        objectives=names,
        directions=directions,
        axes=axes,
        trials=tuple(map(_tried, frozen)),
        study=study,
        n_trials=study.user_attrs.get(BUDGET),
        budget=budget,
        spent=0.0 if budget is None else Ledger(budget, horizon=horizon).spent(frozen),
        horizon=horizon,
        goal=" ".join(str(purpose.get("goal") or "").split()) or None,
        scientific=tuple(purpose.get("scientific") or ()),
        fixed=_fixed(record.get("identity", {}).get("configuration") or {}, axes),
        moved=tuple((record.get("baseline") or {}).get("moved") or ()),
        origin=_origin(record, storage),
    )
    if confirmation is not None:
        view = replace(view, confirmed=_confirmed(confirmation, view))
    if (folder := view.origin.folder) is not None:
        view = replace(view, histories=_histories(folder, view.ranking[:best]))
        if results is not None and view.best is not None:
            view = replace(view, test=_tested(view, view.best, folder / str(view.best.number), results))
    return view


def in_letters(study: optuna.Study) -> optuna.Study:
    """Return a study whose texts hold letters alone and whose values can be compared: it itself, or a copy in memory.

    Names of studies and parameters, choices and errors may be anybody's, with line breaks and the like, or backticks.
    Of choices that Optuna lets through with a warning, such as ``[64, 64]``, a value is its text, ``[64,64]``.
    """
    trials = study.get_trials(deepcopy=False)
    attributes = {**study.user_attrs}
    held = [study.study_name, attributes, [(t.params, t.distributions, t.user_attrs) for t in trials]]
    distributions = [d for trial in trials for d in trial.distributions.values()]
    choices = [d.choices for d in distributions if isinstance(d, CategoricalDistribution)]
    plain = all(_is_plain(choice) for each in choices for choice in each)
    if plain and not re.search(rf"{ODD}|\\[nrtx0u]", repr(held)):
        return study
    with quiet():
        copy = optuna.create_study(study_name=_letters(study.study_name), directions=study.directions)
        for key, value in attributes.items():
            copy.set_user_attr(key, _letters(value))
        if study.metric_names:
            copy.set_metric_names(_letters(study.metric_names))
        for trial in study.get_trials(deepcopy=True):
            trial.distributions = {_letters(name): _letters(d) for name, d in trial.distributions.items()}
            trial.params = {name: _plain(value) for name, value in _letters(trial.params).items()}
            trial.user_attrs = _letters(trial.user_attrs)
            copy._storage.create_new_trial(copy._study_id, template_trial=trial)
    return copy


ODD = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069`]"


def _letters(value: Any) -> Any:
    """Return the same with letters alone."""
    if isinstance(value, str):
        return re.sub(ODD, " ", value.replace("`", "'")).strip()
    if isinstance(value, Mapping):
        return {_letters(key): _letters(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_letters(inner) for inner in value)
    if isinstance(value, CategoricalDistribution):
        return CategoricalDistribution([_plain(_letters(choice)) for choice in value.choices])
    return value


def _is_plain(choice: Any) -> bool:
    return choice is None or isinstance(choice, str | int) or (isinstance(choice, float) and math.isfinite(choice))


def _plain(choice: Any) -> Any:
    return choice if _is_plain(choice) else json.dumps(choice, separators=(",", ":"), default=str)


def _tried(trial: FrozenTrial) -> TrialData:
    result = with_keys_of_now(mapping_of(trial, RESULT))
    how = "pruned" if (paused := outcome(trial) == "paused") else outcome(trial)
    values = tuple(trial.values) if trial.state == TrialState.COMPLETE and trial.values is not None else ()
    if how == "complete" and not all(map(math.isfinite, values)):
        how = "diverged"
    seconds = result.get("seconds")
    if seconds is None and trial.datetime_start and trial.datetime_complete:
        passed = (trial.datetime_complete - trial.datetime_start).total_seconds()
        seconds = passed if passed >= 0 else None  # the clock was set back meanwhile
    busy = _busy(trial, result)
    return TrialData(
        number=trial.number,
        outcome=how,
        values=values if how == "complete" else (),
        params=dict(trial.params),
        reports=dict(sorted(trial.intermediate_values.items())),
        scores=tuple(result.get("scores") or ()),
        metrics=result.get("figures") or {},
        epochs=epochs(trial),
        seconds=seconds,
        best_epoch=result.get("best_epoch"),
        backend=result.get("backend"),
        seed=result.get("seed"),
        error=result.get("error"),
        began=trial.datetime_start,
        ended=_ended(trial, busy),
        busy_s=busy,
        paused=paused,
        steps=mapping_of(trial, SIZE).get("steps"),
        proposed=str(trial.user_attrs.get(PROPOSED, "")),
        repeats=trial.user_attrs.get(REPEATS),
    )


def _busy(trial: FrozenTrial, result: Mapping[str, Any]) -> float | None:
    """Return for how long a trial that may have been paused was trained, as one waits for it; None of any other.

    Trials of a stack share the time, so each was at work for about as many times its own part as there are of them.
    """
    if SCHEDULE not in trial.user_attrs or result.get("seconds") is None:
        return None
    return float(result["seconds"]) * int(result.get("stacked", 1))


def _ended(trial: FrozenTrial, busy: float | None) -> datetime | None:
    """Return when a trial ended; of one that was paused to the last, not when it was told as pruned, much later."""
    if not Allowed.of(trial).paused or trial.datetime_start is None:
        return trial.datetime_complete
    ended = trial.datetime_start + timedelta(seconds=busy or 0.0)
    return min(ended, trial.datetime_complete or ended)


def _fixed(configuration: Mapping[str, Any], axes: Sequence[Parameter]) -> dict[str, Any]:
    """Return what no trial varied: not ``optimizer.betas`` either, where ``optimizer.betas.0`` is searched."""
    return {k: v for k, v in configuration.items() if not any(axis.key.startswith(f"{k}.") for axis in axes)}


def _axes(trials: Sequence[FrozenTrial], space: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return every parameter that a trial has, in the order of the study's record and then of appearance."""
    found: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            found[name] = _wider(found.get(name), distribution)
    names = [name for name in space if name in found] + [name for name in found if name not in space]
    return tuple(_axis(name, found[name], space.get(name, {})) for name in names)


def _check_mapping(path: object, prefix: str) -> None:
    """Refuse a mapping by a dotted path that is no part; those without a dot are the package's own."""
    if (isinstance(path, str) and "." not in path) or path is None:
        return
    for method in ("forward", "inverse"):
        check_part(f"{path}.{method}", prefix)


def _axis(name: str, distribution: BaseDistribution, entry: Mapping[str, Any]) -> Parameter:
    bijection = None
    if entry.get("mapping") and isinstance(distribution, FloatDistribution | IntDistribution):
        bijection = mapping(entry["mapping"], distribution.low, distribution.high)
    return Parameter(
        name=name,
        key=entry.get("key", name),
        distribution=distribution,
        expression=entry.get("space", ""),
        bijection=bijection,
        where=entry.get("where") or {},
    )


def _wider(one: BaseDistribution | None, other: BaseDistribution) -> BaseDistribution:
    """Return the range that holds both; of two kinds, two scales or two lists of choices, the later."""
    if one == other or type(one) is not type(other) or not isinstance(one, FloatDistribution | IntDistribution):
        return other
    assert isinstance(other, FloatDistribution | IntDistribution)
    if one.log != other.log:
        return other
    low, high = min(one.low, other.low), max(one.high, other.high)
    if isinstance(other, IntDistribution):
        return IntDistribution(int(low), int(high), log=other.log)
    return FloatDistribution(low, high, log=other.log)


def _origin(record: Mapping[str, Any], storage: str) -> Provenance:
    taken = record.get("snapshot")
    snapshot = taken if isinstance(taken, dict) else {}
    places = [Path(record["folder"]), STUDIES / Path(record["folder"]).name] if record.get("folder") else []
    identity = record.get("identity", {})
    return Provenance(
        storage=storage,
        folder=next((place for place in places if place.is_dir()), None),  # the project may have been moved
        program="" if (program := str(record.get("program", ""))).startswith("-") else program,  # python -c …
        command=tuple(record.get("command") or ()),
        hydra=tuple(record.get("hydra") or ()),
        seed=record.get("seed"),
        sampler=_kind(record.get("sampler")),
        pruner=_kind(record.get("pruner")),
        commit=snapshot.get("commit", ""),
        dirty=bool(snapshot.get("dirty")),
        versions=record.get("versions") or {},
        data=identity.get("data") or {},
        code=(identity.get("code") or {}).get("src/", ""),
    )


def _kind(choice: Mapping[str, Any] | None) -> str:
    return str((choice or {}).get("_target_", "")).rpartition(".")[2]


def _confirmed(study: optuna.Study, view: StudyData) -> tuple[Confirmed, ...]:
    """Return the scores of each configuration by seed, in the order of the ranking."""
    tried = [_tried(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    place = {trial.number: k for k, trial in enumerate(view.ranking)}
    numbers = sorted(
        {int(t.params["trial"]) for t in tried}, key=lambda n: (n == BASELINE, place.get(n, len(place)), n)
    )
    return tuple(
        Confirmed(
            trial=number,
            scores=tuple(t.values[0] for t in tried if t.params["trial"] == number and t.outcome == "complete"),
            failed=sum(t.params["trial"] == number and t.outcome != "complete" for t in tried),
        )
        for number in numbers
    )


def _histories(folder: Path, trials: Sequence[TrialData]) -> dict[int, list[dict[str, float]]]:
    """Return what trials left of their epochs, as far as it is still there."""
    histories = {}
    for trial in trials:
        try:
            with (folder / str(trial.number) / "history.csv").open(newline="", encoding="utf-8") as file:
                histories[trial.number] = [
                    {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, TypeError):  # pruned, tidied away, or of another program
            continue
    return histories


def _tested(view: StudyData, best: TrialData, trial: Path, results: Path) -> dict[str, tuple[float, float, float]]:
    """Return the pipeline's test metrics with their intervals, if it trained what the trial was.

    Its validation metrics are then the same to the last bit; of a trial that no training by itself repeats so, the
    objective is as close as `tolerance` says.
    """
    try:
        same = (trial / VALIDATION).read_bytes() == (results / VALIDATION).read_bytes()
        if not same and (best.backend not in ROUNDING or not _close(view, trial, results)):
            return {}
        metrics = json.loads((results / TEST).read_text(encoding="utf-8"))
        intervals = json.loads((results / INTERVALS).read_text(encoding="utf-8"))["test"]
        values = {name.removeprefix("test_"): value for name, value in metrics.items()}
        return {name: (value, *intervals[name]) for name, value in values.items() if name in intervals}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):  # not run yet, or edited by hand
        return {}


def _close(view: StudyData, trial: Path, results: Path) -> bool:
    """Return whether the pipeline's order is the trial's, and its objective as near as it is to be."""
    from hypermap.reports.study.noise import tolerance  # brings matplotlib, which a search has no use for

    name, known = f"validation_{view.objective}", tolerance(view)
    recorded, repeated = (json.loads((folder / VALIDATION).read_text(encoding="utf-8")) for folder in (trial, results))
    orders = [yaml.safe_load((folder / PARAMS).read_text(encoding="utf-8")) for folder in (trial, results.parent)]
    return orders[0] == orders[1] and known is not None and abs(recorded[name] - repeated[name]) <= known
