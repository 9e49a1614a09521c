"""The start of a search: the configuration that the sweep starts from, and the best of earlier studies."""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.errors import UserError
from hypermap.core.files import without_apostrophe
from hypermap.search.earlier import EACH, EarlierStudy
from hypermap.search.scaled_sampler import nearest
from hypermap.search.space import Parameter, Space
from hypermap.search.study import find, ranked


@dataclass(frozen=True)
class Start:
    """The baseline, as a point of the space.

    Attributes:
        configuration: that the sweep starts from.
        params: its values by parameter name, with those outside a range moved to the nearer bound.
        moved: the parameters whose value is outside the space.
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
        parse: Callable[[Any], Any],
    ) -> "Start":
        """Return the baseline of a space; `parse` parses a category's value in the configuration."""
        params: dict[str, Any] = {}
        moved = []
        for parameter in space.parameters:
            if any(params.get(condition.group) not in condition.choices for condition in parameter.conditions):
                continue
            value = choices.get(parameter.key, _MISSING)
            if value is _MISSING:
                value = _select(configuration, parameter.key)
            inside, params_value = _inside(parameter, value, parse)
            if params_value is not None:
                params[parameter.name] = params_value
            if not inside:
                moved.append(parameter.name)
        return cls(configuration, params, tuple(moved))

    def record(self) -> dict[str, Any]:
        """Return the record for the study."""
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


def _inside(parameter: Parameter, value: Any, parse: Callable[[Any], Any]) -> tuple[bool, Any]:
    """Return whether a value is in the space, and the nearest value of the space; None if there is none."""
    d = parameter.distribution
    if isinstance(d, CategoricalDistribution):
        same = [choice for choice in d.choices if choice == value or parse(choice) == value]
        return bool(same), same[0] if same else None
    assert isinstance(d, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False, None
    found = nearest(d, value)
    return abs(found - value) <= 1e-9 * max(1.0, abs(value)), found


def earlier(source: str, space: Space, own: str) -> EarlierStudy:
    """Return the results of an earlier study, as far as they are in the space.

    Args:
        source: a study's name, or a file: a report's ``trials.csv``, or a JSON list of configurations, the best first.
        space: of the new search.
        own: its name.

    Raises:
        UserError: there is no such study or file, or it has none of the space's parameters.
    """
    if source == own:
        raise UserError(f"hydra.sweeper.prior names {own}, which is this study itself. Name another, or leave it out.")
    rows, scores = _of_file(Path(source)) if Path(source).suffix in (".csv", ".json") else _of_study(source)
    distributions = space.distributions()
    keys = {parameter.key: parameter.name for parameter in space.parameters}

    def fitting(row: Mapping[str, Any]) -> dict[str, Any]:
        named = ((name if name in distributions else keys.get(name), value) for name, value in row.items())
        found = {name: _fitting(distributions[name], value) for name, value in named if name is not None}
        return {name: value for name, value in found.items() if value is not None}

    best: list[dict[str, Any]] = []
    for params in map(fitting, rows):
        if params and params not in best:  # a trial that was measured again occurs twice in a file
            best.append(params)
    if not best:
        has = ", ".join(rows[0]) if rows else "no complete trial"
        raise UserError(
            f"hydra.sweeper.prior={source}: nothing of it lies in this space ({', '.join(distributions)}). "
            f"It has: {has}."
        )
    scored = ((fitting(row), score) for row, score in scores)
    return EarlierStudy(tuple(best[:EACH]), tuple((params, score) for params, score in scored if params))


Rows = list[dict[str, Any]]
Scored = list[tuple[dict[str, Any], float]]


def _of_study(name: str) -> tuple[Rows, Scored]:
    """Return the complete trials, the best first, and the score of each trial; higher is better."""
    study, _ = find(name)
    if len(study.directions) > 1:
        return [dict(trial.params) for trial in study.best_trials], []
    trials, maximizes = study.get_trials(deepcopy=False), study.direction.name == "MAXIMIZE"
    sign, complete = 1.0 if maximizes else -1.0, ranked(trials, maximizes=maximizes)
    scores = [(dict(trial.params), sign * trial.values[0]) for trial in complete]
    if (reached := _reading(complete, sign)) is not None:
        pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and _reports(trial, sign)]
        scores += [(dict(trial.params), reached(_reports(trial, sign))) for trial in pruned]
    return [dict(trial.params) for trial in complete], scores


def _reports(trial: FrozenTrial, sign: float) -> list[float]:
    return [sign * value for value in trial.intermediate_values.values() if math.isfinite(value)]


def _reading(complete: Sequence[FrozenTrial], sign: float) -> Callable[[list[float]], float] | None:
    """Return how reports are reduced to a score: the best of the epochs, or the mean of the folds.

    None if neither matches the values of the complete trials: then reports are of another metric than the objective.
    """
    pairs = [(sign * trial.values[0], _reports(trial, sign)) for trial in complete]
    known = [(value, reports) for value, reports in pairs if reports and math.isfinite(value)]
    if not known:
        return None
    if all(any(math.isclose(value, report, rel_tol=1e-6) for report in reports) for value, reports in known):
        return max
    if all(math.isclose(value, statistics.fmean(reports), rel_tol=1e-6) for value, reports in known):
        return statistics.fmean
    return None


def _of_file(path: Path) -> tuple[Rows, Scored]:
    """Return the same as `_of_study`; the direction follows from the order of a table's complete trials."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            loaded = json.loads(text)
            rows = loaded if isinstance(loaded, list) else [loaded]
            if odd := [row for row in rows if not isinstance(row, dict)]:
                raise ValueError(f"{odd[0]!r} is no configuration")
            return rows, []
        read = csv.DictReader(io.StringIO(text, newline=""))
        table = [{name: without_apostrophe(str(value or "")) for name, value in row.items()} for row in read]
        complete = [row for row in table if row.get("state", "complete") == "complete"]
        reached = [float(row.get("reached") or "nan") for row in complete]
        known = [value for value in reached if math.isfinite(value)]
        half = len(known) // 2
        better = statistics.fmean(known[:half]) - statistics.fmean(known[-half:]) if half else 0.0
        scores = [(row, math.copysign(1.0, better) * float(row["reached"])) for row in table if row.get("reached")]
        return complete, scores if better else []
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"hydra.sweeper.prior={path} cannot be read ({error}). It is a study's name, a report's trials.csv, or a "
            "JSON list of configurations by parameter."
        ) from None


def _fitting(distribution: BaseDistribution, value: Any) -> Any:
    """Return the nearest value of a distribution; None if there is none."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if str(choice) == str(value)), None)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return nearest(distribution, number) if math.isfinite(number) else None
