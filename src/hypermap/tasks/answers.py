"""The last step from a network's outputs to its predictions, as modules of torch for an exported program."""

from collections.abc import Sequence

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


class Decided(nn.Module):
    """Probabilities of labels ``(rows, labels)``, then 1 for each that reaches its threshold, else 0; float64."""

    def __init__(self, thresholds: Sequence[float], temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.thresholds: Tensor
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float64))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return ``(rows, 2 * labels)``."""
        if self.temperature != 1:
            pairs = torch.stack([1 - probabilities, probabilities], -1).clamp(min=LEAST)
            probabilities = (pairs.log() / self.temperature).softmax(-1)[..., 1]
        return torch.cat([probabilities, (probabilities >= self.thresholds).double()], 1)


class Beside(nn.Module):
    """The answers of several columns side by side.

    Args:
        modules: of each column.
        places: where its outputs begin and end, and whether they are several, ``(rows, width)``, or one, ``(rows,)``.
    """

    def __init__(self, modules: Sequence[nn.Module], places: Sequence[tuple[int, int, bool]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.places = list(places)

    def forward(self, outputs: Tensor) -> Tensor:
        """Return ``(rows, width)``."""
        answers = [
            part(outputs[:, start:end]) if several else part(outputs[:, start]).unsqueeze(1)
            for part, (start, end, several) in zip(self.parts, self.places, strict=True)
        ]
        return torch.cat(answers, 1)


class Averaged(nn.Module):
    """The weighted mean of several models' answers, as `Task.average` has it; float64.

    Args:
        weights: of the models.
        majority: the share of the weights that makes the second half of each row, which are decisions, 1 and not 0;
            None if there are no decisions.
    """

    weights: Tensor

    def __init__(self, weights: Sequence[float], majority: float | None = None) -> None:
        super().__init__()
        self.majority = majority
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))

    def forward(self, answers: Tensor) -> Tensor:
        """Map ``(models, rows, ...)`` to ``(rows, ...)``."""
        mean = (answers * self.weights.view(-1, *[1] * (answers.ndim - 1))).sum(0)
        if self.majority is None:
            return mean
        shares, votes = mean.chunk(2, dim=1)
        return torch.cat([shares, torch.where(votes.isnan(), votes, (votes >= self.majority).double())], 1)


class Shares(nn.Module):
    """Probabilities ``(rows, classes)``, float64, that sum to 1, under a temperature."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return the same shape."""
        shares = probabilities / probabilities.sum(1, keepdim=True)
        return shares if self.temperature == 1 else (shares.clamp(min=LEAST).log() / self.temperature).softmax(1)
