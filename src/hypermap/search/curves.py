"""Learning curves of trials: reports so far, predicted final scores, and how well early scores rank the final ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.typing import Floats

Mask = NDArray[np.bool_]

CLOSE = 1.5  # a rung closer to the end than this factor is left out
PRIOR_WEIGHT = 2.0  # weight of the prior of a regression from rung to rung, in trials
PRIOR_GAIN, PRIOR_VARIANCE = 0.5, 0.05  # over a whole training; of one rung; in units of `Table.scaled`
STEEPEST = 1.5  # slope of a regression from rung to rung
FLOOR = -1.0  # lower limit of a scaled score: how bad a bad trial is does not matter
PAIRED = 500  # trials up to which all pairs are compared: their number grows with the square
PRIOR_TAU, PRIOR_TRIALS = 0.7, 4.0  # assumed for an early score before any trial is complete


def second_half(value: float, reports: Mapping[int, float], sign: float) -> float | None:
    """Return the mean of the second half of a complete trial's reports; None if its value is not the best of them.

    Args:
        value: the objective. It is not the best report if it is another metric, or over folds.
        reports: by step.
        sign: 1 if higher is better, else -1.
    """
    finite = [report for _, report in sorted(reports.items()) if math.isfinite(report)]
    if len(finite) < 2 or not math.isclose(max(sign * report for report in finite), sign * value, rel_tol=1e-9):
        return None
    half = finite[len(finite) // 2 :]
    try:
        return math.fsum(half) / len(half)
    except OverflowError:  # for values near the largest float
        return math.fsum(report / len(half) for report in half)


def judged(trials: Mapping[int, tuple[float, Mapping[int, float]]], sign: float) -> dict[int, float]:
    """Return the scores that rank complete trials: means of the second half of their reports, shifted to their values.

    The best of thirty epochs is partly luck, and among many trials of similar quality the luckiest has the best value:
    on a few hundred validation rows it hardly ranks them at all, while the mean of their later epochs does. The mean
    difference between values and these means is added to each, so that they can be compared with trials without epochs.

    Args:
        trials: the objective and the reports, by number.
        sign: as for `second_half`.
    """
    values = {number: value for number, (value, _) in trials.items()}
    found = {number: second_half(value, reports, sign) for number, (value, reports) in trials.items()}
    halves = {number: half for number, half in found.items() if half is not None}
    above = math.fsum(values[number] - half for number, half in halves.items()) / max(1, len(halves))
    return values | {number: half + above for number, half in halves.items()}


def ranked(
    trials: Mapping[int, tuple[float, Mapping[int, float]]], repeats: Mapping[int, int], sign: float
) -> list[int]:
    """Return the numbers of complete trials, the best first by `judged`; of equal ones the first trial comes first.

    Trials that were measured again come before the others, by their means.

    Args:
        trials, sign: as for `judged`.
        repeats: for repetitions, the trial that they repeat; they are not ranked themselves.
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
    """The results of `n` trials so far; higher scores are better.

    Attributes:
        numbers: of the trials.
        rungs: K steps, ascending.
        last: the last step that each has reported ``(n,)``; 0 for none.
        complete: whether each was trained to the end.
        diverged: whether each ended with a non-finite loss or out of memory.
        scores: ``(n, K)``, of each at each rung; NaN where it has not reached it.
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
        """Return the predicted final score of each trial ``(n,)``, and its variance ``(n,)``.

        Scores are scaled, so that the median trial has 0 and a very good one 1. From each rung to the next a line is
        fitted through the trials that continued. A trial continues because of its observed scores, so missing scores
        are missing at random, and regression from rung to rung is not biased by the selection (Little and Rubin 2019,
        "Statistical Analysis with Missing Data", section 7.2, on monotone patterns). A prior helps with few trials: the
        next rung's score is the present one plus a little.
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
            steepest = STEEPEST if k + 1 < self.scores.shape[1] else math.inf  # another metric has its own scale
            line = _Line.fit(scaled[both, k], scaled[both, k + 1], PRIOR_GAIN / steps, steepest)
            before = (last >= 0) & (last <= k)
            mean = np.where(before, line(mean), mean)
            variance = np.where(before, line.slope**2 * variance + line.variance, variance)
        nothing = self.diverged | (last < 0)
        mean = np.where(nothing, min(FLOOR, mean.min(initial=0.0)), mean)
        return mean, np.where(nothing, 0.0, variance)

    def scaled(self) -> Floats:
        """Return the scores ``(n, K)``, or ``(n, K + 1)`` with the objective if that is another metric.

        Both are scaled by their upper half alone: how bad the bad ones are does not matter for the good ones.
        """
        reached = np.nanmax(np.where(np.isnan(self.scores), -math.inf, self.scores), axis=1, initial=-math.inf)
        scaled = np.maximum(_scale(self.scores, reached[~self.diverged]), FLOOR)
        finals = self.finals[self.complete & ~self.diverged]
        if len(finals) and not np.allclose(finals, reached[self.complete & ~self.diverged]):
            last = np.maximum(_scale(self.finals, finals), FLOOR)
            scaled = np.column_stack([scaled, last])
        return scaled

    def agreement(self) -> list["Agreement"]:
        """Return for each rung how well it ranks the complete trials, compared with their final scores."""
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
    """The agreement of the ranking at a step with the final one: Kendall's tau of `n` trials.

    Attributes:
        step: from 1.
        tau: the share of concordant minus that of discordant pairs, without ties (tau-b); 0 if all are tied, NaN for
            fewer than two trials.
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
        tau = min(1.0, max(-1.0, _tau(x, y)))
        if n < 5:
            return cls(step, n, tau, -1.0, 1.0)
        half = 1.96 * math.sqrt(0.437 / (n - 4))
        most = 1 - 2 / (n * (n - 1))  # if all pairs agree: as if half a pair did not, or nothing would be uncertain
        middle = math.atanh(min(most, max(-most, tau)))
        return cls(step, n, tau, min(tau, math.tanh(middle - half)), max(tau, math.tanh(middle + half)))

    @property
    def believed(self) -> float:
        """The value that a search uses: with few trials, mostly the prior."""
        own = self.n * self.tau if self.n >= 2 else 0.0
        return (own + PRIOR_TRIALS * PRIOR_TAU) / ((self.n if self.n >= 2 else 0) + PRIOR_TRIALS)


def _tau(x: Floats, y: Floats) -> float:
    """Return Kendall's tau-b; 0 if all are tied."""
    if len(x) > PAIRED:
        from scipy.stats import kendalltau  # takes a while to import

        tau = float(kendalltau(x, y, method="asymptotic").statistic)
        return 0.0 if math.isnan(tau) else tau
    rises, ends = np.sign(x[:, None] - x[None]), np.sign(y[:, None] - y[None])
    untied = math.sqrt(float((rises**2).sum()) * float((ends**2).sum()))
    return float((rises * ends).sum()) / untied if untied else 0.0


@dataclass
class CurveReader:
    """Reads trials into a `Table`; trials that have not changed since the last time are not read again.

    Args:
        sign: 1 if a higher report is better, -1 if a lower one is.
        final_sign: the same for the objective.
        horizon: the steps of a full trial; None if trials differ or it is unknown.
        mean: whether a score is the mean of the reports so far, as over folds, instead of the best of them.
    """

    sign: float = 1.0
    final_sign: float = 1.0
    horizon: int | None = None
    mean: bool = False

    def __post_init__(self) -> None:
        self._rows: dict[int, tuple[int, tuple[int, Floats]]] = {}  # by trial id, with the number of reports read
        self._rungs: list[int] = []

    def read(self, trials: Sequence[FrozenTrial]) -> Table:
        """Return the results of these trials."""
        most = self.horizon or max((trial.last_step or 1 for trial in trials), default=1)
        if self._rungs[-1:] != [most]:
            self._rungs, self._rows = rungs(most), {}
        steps = self._rungs
        rows = [self._row(trial, steps) for trial in trials]
        scores = np.array([row for _, row in rows], dtype=float).reshape(len(trials), len(steps))
        complete = np.array([trial.state == TrialState.COMPLETE for trial in trials], dtype=bool)
        finals = np.array([self._final(trial) for trial in trials], dtype=float)
        diverged = complete & ~np.isfinite(finals)
        without = complete & ~diverged & np.isnan(scores).all(1)  # models that report nothing before their end
        scores[without] = finals[without, None]
        ended = complete & ~diverged  # early stopping counts as an end
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
        """Return the last step and the scores; steps are reported in order, so that a change means more of them."""
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
