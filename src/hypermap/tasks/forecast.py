"""Forecasts: the next values of one or several columns, or their quantiles."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.core.typing import Array, Floats
from hypermap.tasks.base import PREDICTION, Resampled, TargetInfo, Task
from hypermap.tasks.metrics import check_finite
from hypermap.tasks.regression import LOGS, Regression

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss

TIME = "time"
"""The column of `Task.answers` with the times to come."""


class Forecast(Task):
    """The values of `columns` in the next `horizon` steps.

    Targets are float32 ``(rows, 1 + horizon * columns)``: the number of the series, and the values step by step.
    Predictions are ``(rows, horizon * columns)``, or ``(rows, horizon * columns * quantiles)``. Encoded they are
    standardised by the training steps, or their logarithms are. What was fitted stands in the manifest's `target`,
    and `hypermap.data.preprocessors.series.SeriesPreprocessor` has fitted it, since windows have the targets as well.
    """

    monitor = "r2"
    score_name = "R²"
    low_score = 0.30
    estimator = "forecaster"
    report = "hypermap.reports.run.forecast.ForecastReport"
    metrics: ClassVar = {
        "r2": True,
        "scaled_mse": False,
        "scaled_mae": False,
        "mse": False,
        "mae": False,
        "mase": False,
        "smape": False,
        "mape": False,
        "pinball": False,
        "coverage": True,
    }

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return nothing: the preprocessor has fitted everything to the training windows."""
        return {}

    @property
    def reach(self) -> float:
        """How many steps after its time the last value of a row is known."""
        return self.horizon - 1 + int(self.info.target.get("gap", 0))

    @property
    def horizon(self) -> int:
        """Steps to come."""
        return int(self.info.target["horizon"])

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self.info.target["columns"]]

    @property
    def quantiles(self) -> list[float]:
        """The levels that are forecast; empty for single values."""
        return list(self.info.target["quantiles"])

    @cached_property
    def scales(self) -> tuple[Floats, Floats]:
        """What is subtracted from a column, and what it is divided by then."""
        return np.array(self.info.target["shift"]), np.array(self.info.target["scale"])

    def steps(self, values: Array) -> Floats:
        """Return targets as ``(rows, horizon, columns)``, predictions as ``(rows, horizon, columns, quantiles)``."""
        size = self.horizon * len(self.names)
        if values.shape[1] == 1 + size:
            return values[:, 1:].reshape(len(values), self.horizon, -1)
        return values.reshape(len(values), self.horizon, len(self.names), -1)

    def points(self, predictions: Array) -> Floats:
        """Return predictions without quantiles, ``(rows, horizon, columns)``: the median stands for them."""
        middle = self.quantiles.index(0.5) if self.quantiles else 0
        return self.steps(predictions)[..., middle]

    def scaled(self, values: Floats) -> Floats:
        """Return values ``(..., columns)`` in their own unit standardised."""
        shift, scale = self.scales
        logs = LOGS[log][0](values) if (log := self.info.target_transform) else values
        return np.asarray((logs - shift) / scale)

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return the number of the series, and the values standardised, float32."""
        import torch

        shift, scale = (torch.tensor(own, device=targets.device).repeat(self.horizon) for own in self.scales)
        values = targets[:, 1:].double()
        if log := self.info.target_transform:
            values = values.log() if log == "log" else values.log1p()
        return torch.cat([targets[:, :1].double(), (values - shift) / scale], 1).float()

    def decode(self, encoded: Array) -> Array:
        """Return targets, or values predicted for them, in their own unit."""
        size = self.horizon * len(self.names)
        first = int(encoded.shape[1] == 1 + size)  # predictions have no number of a series
        each = (encoded.shape[1] - first) // size
        shift, scale = (np.repeat(np.tile(own, self.horizon), each) for own in self.scales)
        values = encoded[:, first:] * scale + shift
        values = LOGS[log][1](values) if (log := self.info.target_transform) else values
        return np.concatenate([encoded[:, :first], values], axis=1)

    def predictions(self, outputs: Array) -> Array:
        """Return values in the targets' own units."""
        return self.decode(outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return that of all values of a row."""
        return (self.horizon * len(self.names) * max(1, len(self.quantiles)),)

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """Return that they are values to come, step by step, and of which columns and quantiles."""
        levels = [f" at {level:g}" for level in self.quantiles] or [""]
        return f"values in {self.horizon} steps to come, one after the other,", [
            f"{name}{level}" for name in self.names for level in levels
        ]

    def answers(self, predictions: Array, columns: Mapping[str, Sequence[Any]]) -> "DataFrame":
        """Return a line for each step to come, with its time, and a column for each column and quantile."""
        if TIME not in columns:
            return super().answers(predictions, columns)
        from polars import DataFrame

        values = self.steps(predictions)
        lines: dict[str, Any] = {
            name: [cell for cell in cells for _ in range(self.horizon)] for name, cells in columns.items()
        }
        lines[TIME] = [moment for times in columns[TIME] for moment in times]
        levels = [f"_{level:g}" for level in self.quantiles] or [""]
        for k, name in enumerate(self.names):
            for q, level in enumerate(levels):
                lines[f"{PREDICTION}_{name}{level}"] = values[:, :, k, q].ravel()
        return DataFrame(lines)

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return R² over all steps and columns, standardised."""
        columns, middle = len(self.names), self.quantiles.index(0.5) if self.quantiles else 0
        found = []
        for loss, output, own in zip(losses, outputs, targets, strict=True):
            true = own[:, 1:].double().unflatten(1, (self.horizon, columns))
            predicted = loss.predictions(output).unflatten(1, (self.horizon, columns, -1))[..., middle]
            missed = (predicted - true).square().sum()
            spread = (true - true.mean((0, 1))).square().sum()
            found.append(float(missed == 0) if spread == 0 else float(1 - missed / spread))
        return found

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """Return the means over all rows, steps and columns (see `resampled`)."""
        once = self.resampled(targets, predictions)(np.ones((len(targets), 1)))
        return {name: float(value[0]) for name, value in once.items()}

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """Return the function that gives the metrics for any row counts.

        R² and the scaled errors are of standardised values, so that columns weigh alike; the others are in the targets'
        units. The mean absolute scaled error is over that of the seasonal naive forecast on the training steps of the
        series (Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001), sMAPE and MAPE are shares
        of 2 and 1, the latter only where all targets are above 0. Coverage is the share of targets between the lowest
        and the highest quantile.

        Raises:
            ValueError: a prediction that is not finite.
        """
        check_finite(predictions)
        true, found = self.steps(targets.astype(np.float64)), self.points(predictions)
        scaled = self.scaled(true)
        missed, error = scaled - self.scaled(found), np.abs(true - found)
        naive: Mapping[str, Sequence[float]] = self.info.target["naive"]
        mean = np.mean(list(naive.values()), axis=0).tolist()  # for a series that training rows lack
        usual = np.array([naive.get(str(int(number)), mean) for number in targets[:, 0]])[:, np.newaxis, :]
        size = np.abs(true) + np.abs(found)
        each = {
            "scaled_mse": missed**2,
            "scaled_mae": np.abs(missed),
            "mse": error**2,
            "mae": error,
            "mase": error / usual,
            "smape": 2 * error / np.where(size > 0, size, 1.0),
        }
        if (true > 0).all():
            each["mape"] = error / np.abs(true)
        if self.quantiles:
            levels, steps = np.array(self.quantiles), self.steps(predictions)
            short = true[..., np.newaxis] - steps
            each["pinball"] = np.maximum(levels * short, (levels - 1) * short).mean(axis=3)
            if len(levels) > 1:
                each["coverage"] = (steps[..., 0] <= true) & (true <= steps[..., -1])
        means = {name: values.mean(axis=(1, 2)) for name, values in each.items()}  # (rows,)
        sums, squares = scaled.sum(axis=1).T, (scaled**2).sum(axis=1).T  # (columns, rows)
        cells = true[0].size

        def values(counts: Floats) -> dict[str, Floats]:
            rows = counts.sum(axis=0)
            averaged = {name: own @ counts / rows for name, own in means.items()}
            spread = (squares @ counts - (sums @ counts) ** 2 / (rows * self.horizon)).sum(axis=0)
            unexplained = averaged["scaled_mse"] * rows * cells
            with np.errstate(divide="ignore", invalid="ignore"):
                r2 = np.where(spread > 1e-9, 1 - unexplained / spread, unexplained == 0)
            return {"r2": r2.astype(np.float64), **averaged}

        return values

    def default_loss(self, **settings: Any) -> "Loss":
        """Return the mean squared error, or the pinball loss of quantiles.

        Raises:
            UserError: a setting is given, which are of classes all.
        """
        from hypermap.tasks.forecast_losses import ForecastLoss

        if given := ", ".join(f"loss.{key} is {value!r}" for key, value in settings.items() if value):
            raise UserError(f"{given}, for classes; the data's targets are numbers: leave it out")
        return ForecastLoss(self.info)

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return that of R² for as many independent rows, which windows that overlap are not."""
        return Regression.standard_error(score, rows)

    def module(self) -> "nn.Module":
        """Return `predictions` in torch."""
        from hypermap.tasks.forecast_losses import Levels

        each = math.prod(self.shape) // (self.horizon * len(self.names))
        shift, scale = (np.repeat(np.tile(own, self.horizon), each).tolist() for own in self.scales)
        return Levels(shift, scale, self.info.target_transform)
