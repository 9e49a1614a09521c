"""Temperature scaling: probabilities as sure as they are right (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

A network's logits are divided by one number, its temperature: above 1 it is less sure than it was trained to be, below
1 surer. The order of the classes stays, and with it every prediction. As the softmax of logits z over T is that of
log p over T for their probabilities p, the temperature is applied to those, whatever loss they come from.
"""

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Floats

METHODS = ("temperature",)

LEAST = 2.0**-149
"""The least probability above 0 in float32: of less than that a logarithm says nothing."""

STANDARD_ERRORS = 2.0
"""How far a network's confidence has to be from what the rows say before a temperature is fitted."""

LOGITS_RATIO = (1 / 64, 2.0)
"""What logits are multiplied by, 1 / T, at the least and at the most. Where all rows are right the minimum is at T = 0,
under which the first row that is wrong costs without bound."""


def scale(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (rows, classes) under a temperature; 1 leaves them as they are."""
    return probabilities if temperature == 1 else _softmax(_logarithms(probabilities) / temperature)


def fit_temperature(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the temperature under which `targets` (rows,) have the least log loss; 1 where it cannot be told from 1.

    That is so where the log loss is within two standard errors of what the probabilities themselves expect: were they
    right, the loss of a row would have the mean and variance of its log-probabilities. A temperature from few rows
    would follow their noise.
    """
    logits = _logarithms(probabilities)
    own = logits[np.arange(len(targets)), targets]
    excess, variance = _slope(logits, own, 1.0)
    if excess**2 * len(targets) <= STANDARD_ERRORS**2 * variance:
        return 1.0
    return 1 / _ratio(logits, own)


def _ratio(logits: Floats, own: Floats) -> float:
    """Return the factor b of the logits under which the mean log loss, a convex function of b, is least.

    By Newton's method in a bracket around the minimum, which is halved (on a logarithmic scale) where a step leaves it.
    """
    low, high = LOGITS_RATIO
    ratio = 1.0
    for _ in range(100):
        slope, curvature = _slope(logits, own, ratio)
        low, high = (low, ratio) if slope > 0 else (ratio, high)
        step = ratio - slope / curvature if curvature > 0 else np.nan
        before, ratio = ratio, step if low <= step <= high else float(np.sqrt(low * high))
        if abs(ratio / before - 1) < 1e-12:
            break
    return ratio


def _slope(logits: Floats, own: Floats, ratio: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean log loss by the factor of the logits.

    They are what the log-probabilities are expected to be less what they are, and their variance.
    """
    shares = _softmax(ratio * logits)
    expected = (shares * logits).sum(axis=1)
    variance = (shares * (logits - expected[:, np.newaxis]) ** 2).sum(axis=1)
    return float((expected - own).mean()), float(variance.mean())


def _logarithms(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probabilities, LEAST)))


def _softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
