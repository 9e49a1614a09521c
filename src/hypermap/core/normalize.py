"""Scaling of numbers: statistics of the training rows, and the shift and scale computed from them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hypermap.core.typing import Array

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor

SCALINGS = ("unit", "standard", "none")
BLOCK_ROWS = 1024  # statistics are computed in blocks of rows, to keep the float64 copies small


class Statistics(NamedTuple):
    """Statistics of each channel (images) or feature (tables), as float64 arrays of that length."""

    mean: Array
    std: Array  # of the population, as in scikit-learn's StandardScaler
    low: Array
    high: Array


class Scale(NamedTuple):
    """One number per channel or feature: a network sees ``(inputs - shift) / scale``."""

    shift: Array
    scale: Array


def statistics(inputs: Array) -> Statistics:
    """Return statistics of ``(rows, channels or features, ...)`` along the second axis."""
    axes = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    blocks = [inputs[start : start + BLOCK_ROWS] for start in range(0, len(inputs), BLOCK_ROWS)]
    count = inputs.size // inputs.shape[1]
    low, high = inputs.min(axes).astype(np.float64), inputs.max(axes).astype(np.float64)
    mean = sum(block.sum(axes, dtype=np.float64) for block in blocks) / count
    centre = np.expand_dims(mean, axes)
    variance = sum(np.square(block - centre).sum(axes) for block in blocks) / count
    # Rounding gives a constant column a tiny standard deviation; dividing by it would amplify noise.
    return Statistics(mean, np.where(high > low, np.sqrt(variance), 0.0), low, high)


def fit(scaling: str, train: Statistics, maximum: float | None) -> Scale:
    """Return the scale for one of `SCALINGS`; a constant channel or feature is only shifted.

    ``unit`` divides by `maximum`, or maps the range of each feature to 0..1 if there is none; ``standard`` gives mean 0
    and standard deviation 1.
    """
    if scaling == "standard":
        return Scale(train.mean, _nonzero(train.std))
    if scaling == "unit" and maximum is None:
        return Scale(train.low, _nonzero(train.high - train.low))
    divisor = maximum if scaling == "unit" else 1.0
    return Scale(np.zeros_like(train.mean), np.full_like(train.mean, divisor))


def scaled(stored: "Tensor", shift: Sequence[float], scale: Sequence[float]) -> "Tensor":
    """Return ``(stored - shift) * (1 / scale)`` along dimension 1, float32; of float64 it is computed in float64."""
    import torch

    dtype = torch.float64 if stored.dtype == torch.float64 else torch.float32

    def along_channels(values: Sequence[float]) -> torch.Tensor:
        tensor = torch.tensor(values, dtype=dtype, device=stored.device)
        return tensor.view(1, -1, *[1] * (stored.ndim - 2))

    factor = along_channels([1 / value for value in scale])
    return (stored.to(dtype) - along_channels(shift)).mul_(factor).to(torch.float32)


def _nonzero(spread: Array) -> Array:
    return np.where(spread > 0, spread, 1.0)
