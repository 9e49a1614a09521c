"""Temperature scaling: calibrated probabilities (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

A network's logits are divided by one number, its temperature: above 1 it becomes less confident, below 1 more. The
order of the classes does not change, nor does any prediction. As the softmax of z / T equals that of log(p) / T for
logits z with probabilities p, the temperature is applied to the probabilities, whatever loss they come from.
"""

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Floats

METHODS = ("temperature",)

LEAST = 2.0**-149
"""The smallest float32 above 0, used as the lower bound of probabilities in logarithms."""

STANDARD_ERRORS = 2.0
"""How far, in standard errors, the log loss has to be from its expected value before a temperature is fitted."""

LOGITS_RATIO = (1 / 64, 2.0)
"""The bounds of 1 / T, the factor of the logits. If all rows are correct, the minimum is at T = 0, with unbounded loss
for the first wrong row."""


def scale(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities (rows, classes) scaled by a temperature; 1 leaves them unchanged."""
    return probabilities if temperature == 1 else _softmax(_logarithms(probabilities) / temperature)


def fit_temperature(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss on `targets` (rows,); 1 if not significantly different from 1.

    That is the case if the log loss is within two standard errors of its expectation under the probabilities: if they
    were calibrated, the loss of a row would have the mean and variance of its log-probabilities. A temperature from few
    rows would follow their noise.
    """
    logits = _logarithms(probabilities)
    own = logits[np.arange(len(targets)), targets]
    excess, variance = _slope(logits, own, 1.0)
    if excess**2 * len(targets) <= STANDARD_ERRORS**2 * variance:
        return 1.0
    return 1 / _ratio(logits, own)


def refined_loss(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the log loss on `targets` (rows,) under the temperature that makes it least.

    Berta, Holzmüller, Jordan and Bach 2025, "Rethinking Early Stopping: Refine, Then Calibrate"
    (https://arxiv.org/abs/2501.19195): what is left of the loss once the confidence is right, which a network keeps
    improving after it has become too confident.
    """
    logits = _logarithms(probabilities)
    own = logits[np.arange(len(targets)), targets]
    shares = _softmax(_ratio(logits, own) * logits)
    return -float(_logarithms(shares[np.arange(len(targets)), targets]).mean())


def refined_label_loss(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the same of labels (rows, labels), as of as many rows of two classes."""
    return refined_loss(_pairs(probabilities), targets.ravel())


def scale_labels(probabilities: Floats, temperature: float) -> Floats:
    """Return the probabilities of labels (rows, labels), each under a sigmoid, scaled by a temperature."""
    return (
        probabilities
        if temperature == 1
        else scale(_pairs(probabilities), temperature)[:, 1].reshape(probabilities.shape)
    )


def fit_label_temperature(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Return the temperature of labels (rows, labels), as `fit_temperature` has it of as many rows of two classes."""
    return fit_temperature(_pairs(probabilities), targets.ravel())


def _pairs(probabilities: Floats) -> Floats:
    """Return the probabilities of no and of yes, (rows * labels, 2)."""
    flat = probabilities.ravel()
    return np.stack([1 - flat, flat], 1)


def _ratio(logits: Floats, own: Floats) -> float:
    """Return the factor b of the logits that minimizes the mean log loss, a convex function of b.

    By Newton's method in a bracket around the minimum, which is bisected (on a log scale) if a step leaves it.
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
    """Return the first and second derivative of the mean log loss with respect to the factor of the logits.

    They are the expected minus the observed log-probabilities, and their variance.
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
