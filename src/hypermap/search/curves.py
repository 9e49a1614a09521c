"""What trials have reported so far, what that says of their ends, and how well an early score ranks the last one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.typing import Floats

Mask = NDArray[np.bool_]

CLOSE = 1.5  # a rung nearer to the end than this factor is left out
PRIOR_WEIGHT = 2.0  # how many trials the prior of a regression from rung to rung counts for
PRIOR_GAIN, PRIOR_VARIANCE = 0.5, 0.05  # over a whole training; of one rung; in units of `Table.scaled`
STEEPEST = 1.5  # slope of a regression from rung to rung
FLOOR = -1.0  # of a scaled score: how bad a bad trial is, says nothing of the good ones
PRIOR_TAU, PRIOR_TRIALS = 0.7, 4.0  # what is believed of an early score before any trial is complete


def second_half(value: float, reports: Mapping[int, float], sign: float) -> float | None:
    """Return the mean of the second half of a complete trial's reports; None where its value is not the best of some.

    Args:
        value: the objective. It is not the best report where that is another figure, or over folds.
        reports: by their steps.
        sign: 1 where higher is better, else -1.
    """
    finite = [report for _, report in sorted(reports.items()) if math.isfinite(report)]
    if len(finite) < 2 or not math.isclose(max(sign * report for report in finite), sign * value, rel_tol=1e-9):
        return None
    half = finite[len(finite) // 2 :]
    try:
        return math.fsum(half) / len(half)
    except OverflowError:  # of figures near the largest there are
        return math.fsum(report / len(half) for report in half)


def judged(trials: Mapping[int, tuple[float, Mapping[int, float]]], sign: float) -> dict[int, float]:
    """Return what complete trials are judged by: the second half of their reports, on the level of their values.

    The best of thirty epochs is partly luck, and of many trials that are about as good the luckiest has the best value:
    on a few hundred validation rows it ranks them hardly at all, where the mean of their later epochs does. By how much
    values are above that, in the mean, is added to each, so that they can be held against trials without epochs.

    Args:
        trials: of each number the objective and the reports.
        sign: as of `second_half`.
    """
    values = {number: value for number, (value, _) in trials.items()}
    found = {number: second_half(value, reports, sign) for number, (value, reports) in trials.items()}
    halves = {number: half for number, half in found.items() if half is not None}
    above = math.fsum(values[number] - half for number, half in halves.items()) / max(1, len(halves))
    return values | {number: half + above for number, half in halves.items()}


def ranked(
    trials: Mapping[int, tuple[float, Mapping[int, float]]], repeats: Mapping[int, int], sign: float
) -> list[int]:
    """Return the numbers of complete trials, the best first by what they are `judged` by, and the first of equals.

    Those that were measured again come before the others, by their means.

    Args:
        trials, sign: as of `judged`.
        repeats: of those of them that measure another again, which one that is; they have no place of their own.
    """
    measured = {number: [number] for number in trials if number not in repeats}
    for number, of in repeats.items():
        if of in measured:
            measured[of].append(number)
    scores = judged(trials, sign)
    means = {number: math.fsum(scores[n] for n in own) / len(own) for number, own in measured.items()}
    return sorted(measured, key=lambda number: (len(measured[number]) < 2, -sign * means[number], number))


def rungs(horizon: int) -> list[int]:
    """Return the steps at which trials are compared: 1, 2, 4, 8, … and the last."""
    steps = [2**k for k in range(horizon.bit_length()) if 2**k * CLOSE <= horizon]
    return [*steps, horizon]


@dataclass(frozen=True)
class Table:
    """What `n` trials have shown, higher scores being better.

    Attributes:
        numbers: of the trials.
        rungs: K steps, rising.
        last: the last step that each has reported ``(n,)``; 0 where it has reported none.
        complete: whether each was trained to its end.
        diverged: whether each came to nothing: a loss that is not finite, or want of memory.
        scores: ``(n, K)``, of each at each rung; NaN where it has not come that far.
        finals: the objective of each complete trial ``(n,)``; NaN for the others.
    """

    numbers: NDArray[np.intp]
    rungs: list[int]
    last: NDArray[np.intp]
    complete: Mask
    diverged: Mask
    scores: Floats
    finals: Floats

    def __len__(self) -> int:
        return len(self.numbers)

    def expected(self) -> tuple[Floats, Floats]:
        """Return what each trial's final score is expected to be ``(n,)``, and the variance of that ``(n,)``.

        Scores are scaled, so that the median trial has 0 and a very good one 1. From each rung to the next a line is
        fitted through the trials that went on. A trial goes on for what it has shown, so that what is missing is
        missing at random, and regression from rung to rung is not misled by the selection (Little and Rubin 2019,
        "Statistical Analysis with Missing Data", section 7.2, on monotone patterns). Few trials are helped by a prior:
        the next rung's score is the present one and a little more.
        """
        return self._expected

    @cached_property
    def _expected(self) -> tuple[Floats, Floats]:
        scaled = self.scaled()
        known = ~np.isnan(scaled)
        steps = scaled.shape[1]
        last = np.where(known.any(1), steps - 1 - known[:, ::-1].argmax(1), -1)
        mean = np.where(last >= 0, scaled[np.arange(len(self)), last], FLOOR)
        variance = np.zeros(len(self))
        for k in range(steps - 1):
            both = known[:, k] & known[:, k + 1]
            steepest = STEEPEST if k + 1 < self.scores.shape[1] else math.inf  # another figure has a scale of its own
            line = _Line.fit(scaled[both, k], scaled[both, k + 1], PRIOR_GAIN / steps, steepest)
            before = (last >= 0) & (last <= k)
            mean = np.where(before, line(mean), mean)
            variance = np.where(before, line.slope**2 * variance + line.variance, variance)
        nothing = self.diverged | (last < 0)
        mean = np.where(nothing, min(FLOOR, mean.min(initial=0.0)), mean)
        return mean, np.where(nothing, 0.0, variance)

    def scaled(self) -> Floats:
        """Return the scores ``(n, K)``, or ``(n, K + 1)`` with the objective where that is another figure.

        Both are scaled by their upper half alone: how bad the bad ones are says nothing of the good ones.
        """
        reached = np.nanmax(np.where(np.isnan(self.scores), -math.inf, self.scores), axis=1, initial=-math.inf)
        scaled = np.maximum(_scale(self.scores, reached[~self.diverged]), FLOOR)
        finals = self.finals[self.complete & ~self.diverged]
        if len(finals) and not np.allclose(finals, reached[self.complete & ~self.diverged]):
            last = np.maximum(_scale(self.finals, finals), FLOOR)
            scaled = np.column_stack([scaled, last])
        return scaled

    def agreement(self) -> list["Agreement"]:
        """Return how well each rung ranks the complete trials as their final score does."""
        return self._agreement

    @cached_property
    def _agreement(self) -> list["Agreement"]:
        rows = self.complete & ~self.diverged & ~np.isnan(self.finals)
        return [Agreement.of(step, self.scores[rows, k], self.finals[rows]) for k, step in enumerate(self.rungs)]


@dataclass(frozen=True)
class _Line:
    """A regression line: ``around + gain + slope * (x - around)``."""

    slope: float
    gain: float
    around: float
    variance: float

    def __call__(self, x: Floats) -> Floats:
        return self.around + self.gain + self.slope * (x - self.around)

    @classmethod
    def fit(cls, x: Floats, y: Floats, gain: float, steepest: float) -> "_Line":
        """Fit by least squares, with a slope of 1 and a gain as the prior."""
        weight = len(x) + PRIOR_WEIGHT
        around = float(x.mean()) if len(x) else 0.0
        gain = (float((y - x).sum()) + PRIOR_WEIGHT * gain) / weight
        away, risen = x - around, y - around - gain
        slope = (PRIOR_WEIGHT / 2 + float((away * risen).sum())) / (PRIOR_WEIGHT / 2 + float((away * away).sum()))
        slope = min(max(slope, 0.0), steepest)
        left = risen - slope * away
        return cls(slope, gain, around, (float((left * left).sum()) + PRIOR_WEIGHT * PRIOR_VARIANCE) / weight)


@dataclass(frozen=True)
class Agreement:
    """How well the scores at a step rank trials as their final scores do: Kendall's tau of `n` trials.

    Attributes:
        step: from 1.
        tau: the share of pairs in the same order less that of pairs in the other, ties left out (tau-b); 0 where all
            are tied, NaN for fewer than two trials.
        low, high: the ends of its 95 % interval, by Fisher's transformation (Fieller, Hartley and Pearson 1957, "Tests
            for rank correlation coefficients"); -1 and 1 for fewer than five trials.
    """

    step: int
    n: int
    tau: float
    low: float
    high: float

    @classmethod
    def of(cls, step: int, scores: Floats, finals: Floats) -> "Agreement":
        """Return the agreement of scores ``(n,)`` with final scores ``(n,)``."""
        known = ~np.isnan(scores) & ~np.isnan(finals)
        x, y = scores[known], finals[known]
        n = len(x)
        if n < 2:
            return cls(step, n, math.nan, -1.0, 1.0)
        rises, ends = np.sign(x[:, None] - x[None]), np.sign(y[:, None] - y[None])
        untied = math.sqrt(float((rises**2).sum()) * float((ends**2).sum()))
        tau = min(1.0, max(-1.0, float((rises * ends).sum()) / untied)) if untied else 0.0
        if n < 5:
            return cls(step, n, tau, -1.0, 1.0)
        half = 1.96 * math.sqrt(0.437 / (n - 4))
        most = 1 - 2 / (n * (n - 1))  # where all pairs agree: as if half of one did not, else nothing would be in doubt
        middle = math.atanh(min(most, max(-most, tau)))
        return cls(step, n, tau, min(tau, math.tanh(middle - half)), max(tau, math.tanh(middle + half)))

    @property
    def believed(self) -> float:
        """What a search takes it to be: with few trials, mostly what is usual."""
        own = self.n * self.tau if self.n >= 2 else 0.0
        return (own + PRIOR_TRIALS * PRIOR_TAU) / ((self.n if self.n >= 2 else 0) + PRIOR_TRIALS)


@dataclass
class CurveReader:
    """Reads trials into a `Table`; what has not changed since it was read last is not read again.

    Args:
        sign: 1 where a higher report is better, -1 where a lower one is.
        final_sign: the same of the objective.
        horizon: the steps of a full trial; None where trials differ or nobody knows.
        mean: whether a score is the mean of the reports so far, as it is over folds, and not the best of them.
    """

    sign: float = 1.0
    final_sign: float = 1.0
    horizon: int | None = None
    mean: bool = False

    def __post_init__(self) -> None:
        self._rows: dict[int, tuple[int, tuple[int, Floats]]] = {}  # by trial id, and how much it had told
        self._rungs: list[int] = []

    def read(self, trials: Sequence[FrozenTrial]) -> Table:
        """Return what these trials have shown."""
        most = self.horizon or max((trial.last_step or 1 for trial in trials), default=1)
        if self._rungs[-1:] != [most]:
            self._rungs, self._rows = rungs(most), {}
        steps = self._rungs
        rows = [self._row(trial, steps) for trial in trials]
        scores = np.array([row for _, row in rows], dtype=float).reshape(len(trials), len(steps))
        complete = np.array([trial.state == TrialState.COMPLETE for trial in trials], dtype=bool)
        finals = np.array([self._final(trial) for trial in trials], dtype=float)
        diverged = complete & ~np.isfinite(finals)
        without = complete & ~diverged & np.isnan(scores).all(1)  # a model that reports nothing before its end
        scores[without] = finals[without, None]
        ended = complete & ~diverged  # an early stop is a way to the end
        if ended.any():
            filled = np.where(np.isnan(scores), _best(scores)[:, None], scores)
            scores[ended] = filled[ended]
        return Table(
            numbers=np.array([trial.number for trial in trials], dtype=np.intp),
            rungs=steps,
            last=np.array([last for last, _ in rows], dtype=np.intp),
            complete=complete,
            diverged=diverged,
            scores=scores,
            finals=np.where(np.isfinite(finals), finals, math.nan),
        )

    def _final(self, trial: FrozenTrial) -> float:
        if trial.state != TrialState.COMPLETE or not trial.values or math.isnan(trial.values[0]):
            return math.nan
        return self.final_sign * float(trial.values[0])

    def _row(self, trial: FrozenTrial, steps: Sequence[int]) -> tuple[int, Floats]:
        """Return the last step and the scores; steps are told in order, so that more of them is what changes."""
        count = len(trial.intermediate_values)
        found = self._rows.get(trial._trial_id)
        if found is None or found[0] != count:
            found = self._rows[trial._trial_id] = (count, (trial.last_step or 0, self._scores(trial, steps)))
        return found[1]

    def _scores(self, trial: FrozenTrial, steps: Sequence[int]) -> Floats:
        reports = sorted(trial.intermediate_values.items())
        reached = reports[-1][0] if reports else 0
        row = []
        for rung in steps:
            values = [self.sign * value for step, value in reports if step <= rung and math.isfinite(value)]
            if rung > reached or not values:
                row.append(math.nan)
            else:
                row.append(math.fsum(values) / len(values) if self.mean else max(values))
        return np.array(row)


def _best(scores: Floats) -> Floats:
    return np.asarray(np.nanmax(np.where(np.isnan(scores), -math.inf, scores), axis=1))


def _scale(values: Floats, of: Floats) -> Floats:
    """Scale values so that the median of `of` becomes 0 and its upper end 1."""
    of = of[np.isfinite(of)]
    if not len(of):
        return values * 0.0
    middle = float(np.median(of))
    span = float(np.quantile(of, 0.95)) - middle or float(of.max()) - middle or float(of.std()) or 1.0
    return (values - middle) / span
