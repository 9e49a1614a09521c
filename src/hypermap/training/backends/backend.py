"""The interface of a backend: it trains on batches and computes outputs for all members of a stack at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hypermap.core import device

EVALUATION_ROWS = 2048  # rows of a forward pass in evaluation; limits memory, does not change results


@dataclass(frozen=True)
class StepOutputs:
    """The results of steps, for each member.

    Attributes:
        outputs: ``(members, rows, width)`` float32, as during training: with dropout and augmentation, and with weights
            that change from step to step; of networks of several members theirs, ``(members, rows, own, width)``.
        losses: ``(members, steps)`` float32.
        norms: ``(members, steps)`` float32: of the gradient, with penalties, before clipping.
    """

    outputs: Tensor
    losses: Tensor
    norms: Tensor

    @staticmethod
    def joined(parts: Sequence["StepOutputs"]) -> "StepOutputs":
        """Return consecutive steps joined into one object."""
        if len(parts) == 1:
            return parts[0]
        return StepOutputs(
            *(torch.cat([getattr(part, name) for part in parts], 1) for name in ("outputs", "losses", "norms"))
        )


class Backend(Protocol):
    """Trains the members that it was created with; each is up to date between calls."""

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """Train on the rows at these positions ``(members, rows)``, `batch` of them per step.

        Args:
            rows: int64; each member has its own order. The last step may have fewer rows.
            batch: rows per step.
            rates: ``(members, steps)`` float64, the learning rates.
        """
        ...

    def eval_outputs(self, inputs: Tensor, members: Sequence[int]) -> Tensor:
        """Return outputs of some members in evaluation mode: ``(members, rows, width)`` float32."""
        ...


def forward_all(model: nn.Module, inputs: Tensor, precision: str = "fp32") -> Tensor:
    """Return the network's outputs in evaluation mode for all rows, ``(rows, width)``, float32."""
    model.eval()
    with torch.no_grad(), device.autocast(inputs.device, precision):
        return torch.cat([model(part) for part in inputs.split(EVALUATION_ROWS)]).float()
