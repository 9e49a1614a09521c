"""The isolation plot's numbers: the best score for each value of one parameter, whatever the others were.

After Google's *Deep Learning Tuning Playbook*: if the nuisance parameters were searched well for each value, the best
scores tell what the parameter itself is worth.
"""

import bisect
import itertools
import math
from dataclasses import dataclass

from optuna.distributions import IntDistribution

from hypermap.reports.run.wording import value as written
from hypermap.reports.study.ticks import plain
from hypermap.reports.study.view import Parameter, StudyData, TrialData

BINS = 5
"""Parts into which a range is cut, of equal width on the scale on which it was searched."""


@dataclass(frozen=True)
class Level:
    """One value of a parameter, or one part of its range.

    Attributes:
        best: the score of its best complete trial; None where it has none.
        error: the standard deviation that the noise of training gives to a score; None where it is not known.
        trials: how many of its trials have a score, what pruned ones had reached among them.
        reached: where no trial is complete, the best that a pruned one had reached.
    """

    label: str
    best: float | None
    error: float | None
    trials: int
    reached: float | None = None


@dataclass(frozen=True)
class Isolated:
    """A parameter's levels, in the order of its choices or along its range."""

    name: str
    levels: tuple[Level, ...]


def isolate(view: StudyData, axis: Parameter, sd: float | None) -> Isolated:
    """Return the best score over all other parameters, for each choice of one parameter or each fifth of its range.

    Args:
        axis: the parameter.
        sd: the standard deviation of the score when a configuration is trained again; None where it is not known.
    """
    starts, labels = zip(*_parts(axis), strict=True)
    groups: list[list[TrialData]] = [[] for _ in labels]
    for trial in view.ranking:
        if place(axis, trial) is not None:
            value = trial.params[axis.name]
            at = axis.image(value) if axis.choices is not None else value
            groups[max(bisect.bisect_right(starts, at) - 1, 0)].append(trial)
    levels = []
    for label, group in zip(labels, groups, strict=True):
        top = view.score(group[0]) if group else None
        ended = bool(group) and group[0].outcome == "complete"  # these come first
        best, reached = (top, None) if ended else (None, top)
        levels.append(Level(label, best, sd if ended else None, len(group), reached))
    return Isolated(axis.name, tuple(levels))


def unevenness(isolated: Isolated) -> float | None:
    """Return how many times as many trials the fullest level has as the emptiest; inf where one has none.

    None where there are no two levels, or no trials at all.
    """
    counts = [level.trials for level in isolated.levels]
    if len(counts) < 2 or not any(counts):
        return None
    return max(counts) / min(counts) if min(counts) else math.inf


def place(axis: Parameter, trial: TrialData) -> float | None:
    """Return how far along the axis a trial lies, from 0 to 1; None where it lacks the parameter.

    None too where the value does not fit the axis: the study's space was changed to other choices meanwhile.
    """
    if axis.name not in trial.params:
        return None
    try:
        unit = axis.unit(trial.params[axis.name])
    except (ValueError, TypeError):
        return None
    return min(max(unit, 0.0), 1.0) if math.isfinite(unit) else None


def leaders(view: StudyData, axis: Parameter) -> list[TrialData]:
    """Return the best of the complete trials that have a parameter, and its equals: of those none is the best one.

    Empty of several objectives, which have no best trial.
    """
    trials = [t for t in view.ranking if t.outcome == "complete" and place(axis, t) is not None]
    return [] if len(view.directions) > 1 else [t for t in trials if view.standing(t) == view.standing(trials[0])]


def natural(axis: Parameter, unit: float) -> float:
    """Return the value that lies so far along a range: the inverse of `Parameter.unit`."""
    low, high = (axis.image(bound) for bound in axis.bounds)
    if unit in (0, 1) or low == high:  # the inverse may be off by a last bit
        return float(axis.bounds[int(unit == 1)])
    image = low + unit * (high - low)
    if axis.bijection is not None:
        return axis.bijection.inverse(image)
    return math.exp(image) if axis.scale == "log" else image


def _parts(axis: Parameter) -> list[tuple[float, str]]:
    """Return where each level of an axis begins, and its label; of choices, their places in the list.

    A range of few values has a level for each; whole numbers are told as such, and no level is without one.
    """
    if axis.choices is not None:
        return [(k - 0.5, written(choice)) for k, choice in enumerate(axis.choices)]
    low, high = axis.bounds
    step = getattr(axis.distribution, "step", None)
    whole = isinstance(axis.distribution, IntDistribution)
    if low == high or (step and axis.scale == "linear" and (high - low) / step < BINS - 0.5):
        values = [low + k * (step or 1.0) for k in range(round((high - low) / (step or 1.0)) + 1)]
        return [(value - (step or 1.0) / 2, plain(value)) for value in values]
    if not whole:
        edges = [natural(axis, k / BINS) for k in range(BINS + 1)]
        return [(start, f"{_short(start)} to {_short(end)}") for start, end in itertools.pairwise(edges)]
    starts = sorted({math.ceil(natural(axis, k / BINS) - 1e-6) for k in range(BINS)})
    ends = [*(start - 1 for start in starts[1:]), high]
    labels = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)]
    return [(float(start), label) for start, label in zip(starts, labels, strict=True)]


def _short(value: float) -> str:
    return plain(float(f"{value:.2g}"))
