"""How far the score of one trial moves by chance: what a difference between two trials is held against."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypermap.reports.run.diagnosis import shake
from hypermap.reports.study.view import StudyData, TrialData

TOP = 20
"""No more of the best trials are asked: bad configurations often shake far more than those that can win."""


TOLERANCE_SD = 3.0
"""Deviations of the noise within which such a trial's score is repeated."""


@dataclass(frozen=True)
class Noise:
    """How far the objective of one trial moves when nothing but the seed, or the fold, changes.

    Attributes:
        sd: standard deviation.
        source: what it was estimated from, in words.
        n: how many scores it was estimated from.
        freedom: degrees of freedom of the estimate.
        stands_in: whether nothing was trained twice, so that seeds may well move a score by more.
    """

    sd: float
    source: str
    n: int
    freedom: float = math.inf
    stands_in: bool = False


def noise(view: StudyData) -> Noise | None:
    """Return how far the first objective of one trial moves by chance; None where nothing can be said.

    The first of these that a study has: configurations trained again; several fits a trial; equal trials with other
    seeds; and, as a stand-in, how much the curves of the best trials shake. Of a fixed validation set all but the fits
    tell only how training moves the score on those rows, not how it would move on others.
    """
    for source in (_retrainings, _fits, _equals, _shaking):
        with np.errstate(over="ignore", invalid="ignore"):  # squares of huge scores: then it is not known
            found = source(view)
        if found is not None and math.isfinite(found.sd):
            return found
    return None


def tolerance(view: StudyData) -> float | None:
    """Return how far a trial of a `ROUNDING` backend may come from its score when trained again; None where not known.

    It differs by the rounding of sums at first, which training enlarges, but not beyond what another seed would do.
    """
    known = noise(view)
    return None if known is None else TOLERANCE_SD * known.sd


def chance(view: StudyData, scores: Sequence[float]) -> float | None:
    """Return the share of the variance of some trials' scores that noise alone explains; None where that is not
    known.
    """
    known = noise(view)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return min(1.0, known.sd / spread) ** 2 if known is not None and 0 < spread < math.inf else None


def _retrainings(view: StudyData) -> Noise | None:
    groups = [confirmed.scores for confirmed in view.confirmed if len(confirmed.scores) > 1]
    return _within(groups, "retrainings") if groups else None


def _fits(view: StudyData) -> Noise | None:
    """Return the residuals of trial and fold, whose effects say nothing of chance: all trials have the same folds."""
    several = [t for t in _complete(view) if len(t.scores) > 1 and all(map(math.isfinite, t.scores))]
    if len(several) < 2:
        return None
    usual = Counter(len(trial.scores) for trial in several).most_common(1)[0][0]
    table = np.array([trial.scores for trial in _best([t for t in several if len(t.scores) == usual])])
    trials, fits = table.shape
    if trials < 2:
        return None
    residuals = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    freedom = (trials - 1) * (fits - 1)
    sd = math.sqrt(float((residuals**2).sum()) / freedom / fits)
    return Noise(sd, f"{fits} fits of each of {trials} trials", table.size, freedom)


def _equals(view: StudyData) -> Noise | None:
    """Return trials that differ in nothing but the seed; it may itself be a parameter that was searched."""
    seeds = {axis.name for axis in view.axes if axis.key == "seed"}
    found: dict[Any, dict[Any, float]] = defaultdict(dict)
    for trial in _complete(view):
        params = frozenset((name, str(value)) for name, value in trial.params.items() if name not in seeds)
        drawn = [trial.params[name] for name in seeds if name in trial.params] or [trial.seed]
        seed = f"trial {trial.number}" if drawn == [None] else str(drawn)  # unknown: likely another one
        found[params].setdefault(seed, trial.values[0])
    groups = _best([tuple(scores.values()) for scores in found.values() if len(scores) > 1])
    pooled = _within(groups, "trials") if groups else None
    return pooled if pooled is not None and pooled.sd > 0 else None  # 0: the seed changed nothing, or was the same


def _shaking(view: StudyData) -> Noise | None:
    """Return what a curve moves about its own trend late in training, which is not quite what another seed does."""
    if view.fits_several:  # reports are of fits, not of epochs
        return None
    best = _best(_complete(view))
    curves = [[value for value in trial.reports.values() if math.isfinite(value)] for trial in best]
    late = [np.array(curve[len(curve) // 2 :]) for curve in curves]
    late = [curve for curve in late if len(curve) >= 4]
    if not late:
        return None
    # A decaying schedule stills the curve at its end, where another seed still moves a row or two of a share.
    sd = max(float(np.median([shake(curve) for curve in late])), _grain(np.concatenate(late)))
    source = f"a stand-in: how the late curves of {_many(late, 'trial')} shake, without any retraining"
    freedom = sum(len(curve) - 2 for curve in late)
    return Noise(sd, source, sum(map(len, late)), freedom, stands_in=True) if sd > 0 else None


def _grain(values: NDArray[np.float64]) -> float:
    """Return the step between scores: of an accuracy one row's share; next to nothing of a score that is no count."""
    steps = np.diff(np.unique(values.round(12)))
    return float(steps.min()) if len(steps) else 0.0


def _complete(view: StudyData) -> list[TrialData]:
    """Return the complete trials, the best first."""
    return [trial for trial in view.ranking if trial.outcome == "complete"]


def _best(ranked: Sequence[Any]) -> Sequence[Any]:
    return ranked[: min(TOP, max(2, math.ceil(len(ranked) / 2)))]


def _within(groups: Sequence[Sequence[float]], name: str) -> Noise:
    """Return the noise within groups that have means of their own."""
    count = sum(map(len, groups))
    freedom = count - len(groups)
    sd = math.sqrt(sum(float(np.var(group)) * len(group) for group in groups) / freedom)
    return Noise(sd, f"{count} {name} of {_many(groups, 'configuration')}", count, freedom)


def _many(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
