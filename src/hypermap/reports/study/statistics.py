"""What a few noisy scores say about the truth: intervals, differences, the best of n, and how lucky it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Array = NDArray[np.float64]

ADDED = 0.5
"""Of the noise's variance, what `optimism` adds to see who would win then; more is steadier, less is less biased."""

DRAWS = 2000
"""How often it adds it: leaves the optimism uncertain by a twentieth of the noise or less."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its Student-t interval; what one score does not tell is None.

    Attributes:
        sd: of the sample, with n - 1 degrees of freedom.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A difference of two means and its interval; what too few scores do not tell is None.

    Attributes:
        probability: that the first one's true mean is the better one.
    """

    mean: float
    low: float | None
    high: float | None
    probability: float | None


@dataclass(frozen=True)
class BestOfN:
    """The best score that n trials are expected to have, and its bootstrap band."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Optimism:
    """How much of a study's best score is luck.

    Attributes:
        raw: the best score.
        corrected: what the same configuration is expected to score with other seeds.
        optimism: by how much the best score flatters: 0 or more, whether more or less is better.
        low: of the interval of the true mean of the best.
        high: likewise.
        n: the number of scores.
    """

    raw: float
    corrected: float
    optimism: float
    low: float
    high: float
    n: int


def estimate(scores: Sequence[float], confidence: float) -> Estimate:
    """Return the mean of independent scores and its interval by Student's t.

    Raises:
        ValueError: there are no scores.
    """
    if len(scores) == 0:
        raise ValueError("A mean of no scores.")
    mean = float(np.mean(scores))
    if len(scores) == 1:
        return Estimate(mean, None, 1, None, None)
    sd = float(np.std(scores, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, len(scores) - 1)) * sd / math.sqrt(len(scores))
    return Estimate(mean, sd, len(scores), mean - half, mean + half)


def difference(one: Sequence[float], other: Sequence[float], sign: float, confidence: float) -> Difference:
    """Return the mean of one minus the mean of another, in natural units, without assuming equal variances.

    The interval is Welch's (1947, https://doi.org/10.1093/biomet/34.1-2.28). The probability that `one` is truly better
    is read from the same t distribution: the posterior of the difference under flat priors, in Welch's approximation
    (Box and Tiao, *Bayesian Inference in Statistical Analysis*, 1973, section 2.5).

    Args:
        sign: 1 if more is better, -1 if less is.

    Raises:
        ValueError: there are no scores of one of them.
    """
    first, second = estimate(one, confidence), estimate(other, confidence)
    mean = first.mean - second.mean
    if first.sd is None or second.sd is None:
        return Difference(mean, None, None, None)
    parts = first.sd**2 / first.n, second.sd**2 / second.n
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(mean, mean, mean, 0.5 + 0.5 * float(np.sign(sign * mean)))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (first.n - 1) + parts[1] ** 2 / (second.n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Difference(mean, mean - half, mean + half, float(stats.t.cdf(sign * mean / error, freedom)))


def best_of_n(
    scores: Sequence[float], sizes: Sequence[int], sign: float, confidence: float, repeats: int, seed: int
) -> list[BestOfN]:
    """Return the expected best of n of a study's trials, and its band over resampled studies: scipy's percentile
    bootstrap.

    Drawn without replacement, which makes it the unbiased estimate for n independent trials; with replacement, as in
    Dodge et al. (2019, "Show Your Work", https://arxiv.org/abs/1909.03004), it is too low, the more so the nearer n
    comes to all of them (Tang et al. 2020, "Showing Your Work Doesn't Always Work", https://arxiv.org/abs/2004.13705).
    The band is too narrow there as well, and ends at the best score: no resampled study has a better one.

    Args:
        sizes: what is no number of trials of this study is left out, and so are scores that are not finite.
        sign: 1 if more is better, -1 if less is.
    """
    ordered = np.sort(sign * np.asarray(scores, dtype=float)[np.isfinite(scores)])
    total = len(ordered)
    wanted = [n for n in sizes if 1 <= n <= total]
    if not wanted:
        return []
    weights = np.stack([_weights(total, n) for n in wanted], axis=1)
    drawn = np.sort(np.random.default_rng(seed).integers(total, size=(repeats, total)), axis=1)
    band = sign * np.quantile(ordered[drawn] @ weights, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    means = sign * (ordered @ weights)
    return [
        BestOfN(n, float(mean), float(ends.min()), float(ends.max()))
        for n, mean, ends in zip(wanted, means, band.T, strict=True)
    ]


def _weights(total: int, n: int) -> Array:
    """Return the probability that the k-th smallest of `total` scores is the largest of n drawn without replacement."""
    below = np.arange(total)

    def log_choose(many: Any, few: int) -> Any:
        return special.gammaln(many + 1) - special.gammaln(few + 1) - special.gammaln(many - few + 1)

    weights = np.zeros(total)
    enough = below >= n - 1
    weights[enough] = np.exp(log_choose(below[enough], n - 1) - log_choose(total, n))
    weights /= weights.sum()  # rounding
    return weights


def optimism(
    scores: Sequence[float], sd: float, sign: float, confidence: float, seed: int, freedom: float = math.inf
) -> Optimism | None:
    """Return how lucky the best of n scores is, if each is a true mean and independent normal noise of a known size.

    Nothing is assumed of the true means. A coupled bootstrap (Oliveira, Lei and Tibshirani 2021,
    https://arxiv.org/abs/2111.09447) adds a little more noise and sees how lucky in it the winner is: that estimates
    the luck under the larger noise without bias. From there it is taken back to the noise as it is by the power of the
    noise with which luck grows, which is 1 for equal means and 2 for means spread wide: for normal means it is 2 - r²,
    if r is the luck as a share of what it would be for equal means. For other means that is not exact: see what
    `benchmarks/intervals.py` finds. It is right on average; for one study it is about as uncertain as one score.

    The interval is the hybrid one of Andrews, Kitagawa and McCloskey ("Inference on Winners", 2024,
    https://doi.org/10.1093/qje/qjad043). The corrected score is never below it, and where it is above, the
    interval is widened to hold it.

    Args:
        sd: of the noise of one score, see `hypermap.reports.study.noise`.
        sign: 1 if more is better, -1 if less is.
        freedom: degrees of freedom of `sd`, where it is an estimate; few widen the interval, as Student's t does.

    Returns:
        None if no score is finite, or the noise is not known.
    """
    ordered = np.sort(sign * np.asarray(scores, dtype=float)[np.isfinite(scores)])[::-1]
    if len(ordered) == 0 or not 0 <= sd < math.inf:
        return None
    best = float(ordered[0])
    luck = _luck(ordered, sd, seed) if sd > 0 else 0.0
    end = (1 + confidence) / 2
    wider = float(stats.t.ppf(end, freedom) / stats.norm.ppf(end))
    low, high = _hybrid(ordered, sd * wider, confidence) if sd > 0 else (best, best)
    luck = min(luck, best - low)  # else scores much more alike than the noise lets them be are corrected without end
    low, high = sorted((sign * low, sign * max(high, best - luck)))
    return Optimism(sign * best, sign * (best - luck), luck, low, high, len(ordered))


def _luck(ordered: Array, sd: float, seed: int) -> float:
    """Return the expected noise of the best of noisy scores, which are given from the best down."""
    scale = math.sqrt(ADDED) * sd
    near = ordered[ordered >= ordered[0] - 10 * scale]  # none of the others can win
    if len(near) == 1:
        return 0.0
    added = np.random.default_rng(seed).standard_normal((DRAWS, len(near)))
    added -= added.mean(axis=0)  # a winner that wins nearly always is hardly lucky, by no chance of these draws either
    winner = np.argmax(near + scale * added, axis=1)
    won, most = float(added[np.arange(DRAWS), winner].mean()), float(added.max(axis=1).mean())
    larger = (1 + ADDED) / math.sqrt(ADDED) * sd * won
    share = min(1.0, math.sqrt((1 + ADDED) / ADDED) * won / most)
    luck = larger / math.pow(1 + ADDED, (2 - share**2) / 2)
    return luck if luck > 1e-9 * sd else 0.0


def _hybrid(ordered: Array, sd: float, confidence: float) -> tuple[float, float]:
    """Return an interval of the best one's mean, given that it beat the next and that no noise is beyond all reason.

    A mean is in it if the best score is neither too high nor too low for a normal about it, cut off below at the
    runner-up and `reach` away on both sides. Only one in ten of the permitted errors is spent on the reach.
    """
    best, beyond = float(ordered[0]), (1 - confidence) / 10
    reach = float(stats.norm.ppf((1 + (1 - beyond) ** (1 / len(ordered))) / 2))
    tail = ((1 - confidence) - beyond) / (1 - beyond) / 2
    gap = max(_gap(ordered) / sd, 1e-6)

    def above(excess: float) -> float:  # of the best score over the mean: how probable one of at least this size is
        whole = special.ndtr(-max(excess - gap, -reach)) - special.ndtr(-reach)
        return float((special.ndtr(-excess) - special.ndtr(-reach)) / whole)

    most, least = (optimize.brentq(lambda x, p=p: above(x) - p, -reach, reach) for p in (tail, 1 - tail))
    return best - sd * most, best - sd * least


def _gap(ordered: Array) -> float:
    """Return the gap between the best and the next; of rounded scores that are equal, half the step to which they are
    rounded.
    """
    steps: list[float] = [*(-np.diff(ordered)).tolist(), math.inf]
    return steps[0] if steps[0] > 0 else min(step for step in steps if step > 0) / 2
