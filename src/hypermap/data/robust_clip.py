"""Robust scaling with a smooth clip: a scikit-learn transformer of numbers, for ``data.scaling=robust_clip``."""

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

LIMIT = 3.0
"""The bound of clipped values."""

Matrix = NDArray[np.float64]


class RobustClip(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Subtracts the median, divides by the spread, and maps ``x`` to ``x / sqrt(1 + (x / 3)^2)``, between -3 and 3.

    The spread is the distance between the quartiles, or half the range where these are equal, or 1 where that is zero.
    Holzmüller, Grinsztajn and Steinwart 2024 (https://arxiv.org/abs/2407.04491), section 3: outliers stay apart without
    growing, and most of a column is as it would be standardized.

    Attributes:
        center_: the medians ``(columns,)``.
        scale_: the spreads ``(columns,)``.
    """

    def fit(self, matrix: Matrix, _: object = None) -> "RobustClip":
        """Fit to training rows ``(rows, columns)``."""
        low, first, self.center_, third, high = np.quantile(matrix, [0, 0.25, 0.5, 0.75, 1], axis=0)
        spread = np.where(third > first, third - first, (high - low) / 2)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return self

    def transform(self, matrix: Matrix) -> Matrix:
        """Return the same shape."""
        scaled: Matrix = (matrix - self.center_) / self.scale_
        clipped: Matrix = scaled / np.sqrt(1 + np.square(scaled / LIMIT))
        return clipped
