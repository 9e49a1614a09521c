"""What a backend is: it learns from batches, and makes outputs, for all members of a stack at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hypermap.core import device

EVALUATION_ROWS = 2048  # rows a forward pass takes when nothing is learned; bounds memory, changes no figure


@dataclass(frozen=True)
class StepOutputs:
    """What steps came to, for each member.

    Attributes:
        outputs: ``(members, rows, width)`` float32, as they were learned from: under dropout and augmentation, and of
            weights that still changed.
        losses: ``(members, steps)`` float32.
        norms: ``(members, steps)`` float32: the gradient's, with its penalties, before it is cut.
    """

    outputs: Tensor
    losses: Tensor
    norms: Tensor

    @staticmethod
    def joined(parts: Sequence["StepOutputs"]) -> "StepOutputs":
        """Steps that followed each other, as one."""
        if len(parts) == 1:
            return parts[0]
        return StepOutputs(
            *(torch.cat([getattr(part, name) for part in parts], 1) for name in ("outputs", "losses", "norms"))
        )


class Backend(Protocol):
    """Trains the members it was made with; each is up to date whenever no call is under way."""

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """Learn from the rows at these positions ``(members, rows)``, `batch` of them a step.

        Args:
            rows: int64; for each member its own order. The last step may be of fewer.
            batch: rows of a step.
            rates: ``(members, steps)`` float64, the learning rates.
        """
        ...

    def eval_outputs(self, inputs: Tensor, members: Sequence[int]) -> Tensor:
        """Return what some members make of rows in evaluation mode: ``(members, rows, width)`` float32."""
        ...


def forward_all(model: nn.Module, inputs: Tensor, precision: str = "fp32") -> Tensor:
    """Return the network's outputs in evaluation mode for all rows, ``(rows, width)``, float32."""
    model.eval()
    with torch.no_grad(), device.autocast(inputs.device, precision):
        return torch.cat([model(part) for part in inputs.split(EVALUATION_ROWS)]).float()
