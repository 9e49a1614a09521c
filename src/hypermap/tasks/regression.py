"""Regression: a number for each row."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core import normalize
from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.tasks import metrics
from hypermap.tasks.base import Resampled, TargetInfo, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss

LOGS = {"log": (np.log, np.exp), "log1p": (np.log1p, np.expm1)}
"""What is done to a target before it is standardised, and its inverse."""


class Regression(Task):
    """A number: targets and predictions are values ``(rows,)``; encoded they have mean 0 and deviation 1, float32."""

    monitor = "r2"
    score_name = "R²"
    low_score = 0.30
    least_rows = 2
    estimator = "regressor"
    report = "hypermap.reports.run.regression.RegressionReport"
    metrics: ClassVar = {"r2": True, "rmse": False, "mae": False}

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return the mean and the standard deviation of the training targets, or of their logarithms."""
        if log := info.target_transform:
            targets = LOGS[log][0](targets.astype(np.float64))
        shift, scale = normalize.fit("standard", normalize.statistics(targets[:, np.newaxis]), None)
        return {"target_shift": float(shift[0]), "target_scale": float(scale[0])}

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return the targets standardised."""
        if log := self.info.target_transform:
            targets = targets.double().log() if log == "log" else targets.double().log1p()
        return normalize.scaled(targets[:, None], [self.info.target_shift], [self.info.target_scale]).squeeze(1)

    def decode(self, encoded: Array) -> Array:
        """Return values in the target's own unit."""
        values: Array = encoded * self.info.target_scale + self.info.target_shift
        return LOGS[log][1](values) if (log := self.info.target_transform) else values

    def predictions(self, outputs: Array) -> Array:
        """Return values in the target's own unit."""
        return self.decode(outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return that of a number."""
        return ()

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return R²."""
        each = zip(losses, outputs, targets.double(), strict=True)
        return [r2(loss.predictions(output), own) for loss, output, own in each]

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """See `hypermap.tasks.metrics.regression`."""
        return metrics.regression(targets, predictions)

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """See `hypermap.tasks.metrics.regression_of`."""
        return metrics.regression_of(targets, predictions)

    def default_loss(self, **settings: Any) -> "Loss":
        """Return the mean squared error.

        Raises:
            UserError: a setting is given, which are of classes all.
        """
        from hypermap.tasks.losses import MeanSquaredError

        if given := ", ".join(f"loss.{key} is {value!r}" for key, value in settings.items() if value):
            raise UserError(f"{given}, for classes; the data's targets are numbers: leave it out")
        return MeanSquaredError()

    def module(self) -> "nn.Module":
        """Return `predictions` in torch."""
        from hypermap.tasks.answers import Natural

        return Natural(self.info.target_shift, self.info.target_scale, self.info.target_transform)

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return that of R², one minus a mean of squares, whose relative error is sqrt(2 / n) for normal residuals."""
        return (1 - score) * math.sqrt(2 / rows)


def r2(predicted: "Tensor", targets: "Tensor") -> float:
    """Return the coefficient of determination of predictions and targets ``(rows,)``, these float64."""
    residual, spread = (predicted - targets).square().sum(), (targets - targets.mean()).square().sum()
    if spread == 0:  # all targets are equal: what scikit-learn says then
        return float(residual == 0)
    return float(1 - residual / spread)
