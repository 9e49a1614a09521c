"""Losses of forecasts, and their values in the targets' own units: what `hypermap.tasks.forecast` needs of torch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.tasks.base import TargetInfo


class ForecastLoss:
    """The mean squared error over all steps and columns, standardised; of quantiles, the mean pinball loss.

    The pinball loss of the quantile q is q times what a forecast is too low, or 1 - q times what it is too high
    (Koenker and Bassett 1978, https://doi.org/10.2307/1913643).

    Args:
        info: what the manifest says of the targets: `target` has the horizon, the columns and the quantiles.
    """

    task = "forecast"

    def __init__(self, info: TargetInfo) -> None:
        self.width = int(info.target["horizon"]) * int(info.target["targets"])
        self.quantiles = [float(level) for level in info.target["quantiles"]]

    def check(self, task: str, classes: int) -> None:
        """Refuse any other task."""
        if task != self.task:
            raise UserError(f"the loss is of forecasts; the task is {task}: use loss=auto")

    def outputs(self, classes: int) -> int:
        """Return a value for each step, column and quantile, in this order."""
        return self.width * max(1, len(self.quantiles))

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Do nothing."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of outputs (batch, width) and targets (batch, 1 + steps and columns)."""
        if not self.quantiles:
            return (outputs - targets[:, 1:]).square().mean()
        short = targets[:, 1:].unsqueeze(2) - outputs.unflatten(1, (self.width, -1))
        levels = torch.tensor(self.quantiles, dtype=outputs.dtype, device=outputs.device)
        return torch.maximum(levels * short, (levels - 1) * short).mean()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return values (rows, width); quantiles of a step in rising order."""
        values = outputs.float()
        return values.unflatten(1, (self.width, -1)).sort(2).values.flatten(1) if self.quantiles else values


class Levels(nn.Module):
    """Standardised values ``(rows, width)`` in the targets' own units, as `Forecast.decode` has them; float64."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Sequence[float], scale: Sequence[float], log: str | None) -> None:
        super().__init__()
        self.log = log
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        """Return the same shape."""
        values = values * self.scale + self.shift
        return {"log": torch.exp, "log1p": torch.expm1}[self.log](values) if self.log else values
