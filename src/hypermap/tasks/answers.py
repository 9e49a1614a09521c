"""The last step from a network's outputs to its predictions, as modules of torch for an exported program."""

import torch
from torch import Tensor, nn

from hypermap.tasks.calibration import LEAST


class Natural(nn.Module):
    """Standardised values back in the target's own unit, as `Regression.decode` has them; float64."""

    def __init__(self, shift: float, scale: float, log: str | None) -> None:
        super().__init__()
        self.shift, self.scale, self.log = shift, scale, log

    def forward(self, values: Tensor) -> Tensor:
        """Return the same shape."""
        values = values * self.scale + self.shift
        return {"log": torch.exp, "log1p": torch.expm1}[self.log](values) if self.log else values


class Shares(nn.Module):
    """Probabilities ``(rows, classes)``, float64, that sum to 1, under a temperature."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return the same shape."""
        shares = probabilities / probabilities.sum(1, keepdim=True)
        return shares if self.temperature == 1 else (shares.clamp(min=LEAST).log() / self.temperature).softmax(1)
