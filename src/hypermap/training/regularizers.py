"""Weight penalties, gradient clipping, early stopping, and the choice of the epoch to keep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hypermap.training.flat_parameters import FlatParameters

ALIKE = 0.25
"""Standard errors of the best accuracy within which another epoch's accuracy counts as equal. Two epochs of a training
are wrong on mostly the same rows, so their difference has a smaller error than each accuracy by itself."""


@dataclass(frozen=True)
class Regularizer:
    """Changes to the gradient before the optimizer step, and the patience of early stopping.

    The penalties ``l1 * sum(abs(w)) + l2 * sum(w ** 2)`` are over weight matrices and filters; biases and norms are
    excluded, as in Keras's kernel regularizers. Their gradient is added in closed form, so the losses in the history
    are without penalties.
    """

    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    patience_epochs: int | None = None

    def apply(self, parameters: FlatParameters) -> Tensor:
        """Add the penalties' gradient, clip the norm; return the norm before clipping, a scalar tensor."""
        gradient, weights = parameters.gradient, parameters.vector.detach()
        if self.l1:
            gradient.addcmul_(weights.sign(), parameters.penalized, value=self.l1)
        if self.l2:
            gradient.addcmul_(weights, parameters.penalized, value=2 * self.l2)
        norm: Tensor = torch.linalg.vector_norm(gradient)
        if self.clip_norm is not None:
            gradient.mul_(torch.clamp(self.clip_norm / (norm + 1e-6), max=1.0))
        return norm

    def clipped(self, norms: NDArray[np.float64]) -> float:
        """Return the share of steps with a clipped gradient, given the norms ``(steps,)`` that `apply` returned."""
        return 0.0 if self.clip_norm is None else float((norms > self.clip_norm).mean())

    def stops(self, epochs_done: int, highest_epoch: int) -> bool:
        """Return whether the patience is exhausted; epochs count from 1."""
        return self.patience_epochs is not None and epochs_done - highest_epoch >= self.patience_epochs


def highest_epoch(scores: Sequence[tuple[float, ...]]) -> int:
    """Return the first epoch, counted from 1, with the highest score; later parts of a tuple break ties."""
    return max(range(len(scores)), key=scores.__getitem__) + 1


def kept_epochs(accuracies: Sequence[float], losses: Sequence[float], rows: int) -> list[int]:
    """Return the epoch to keep, counted from 1, followed by those that may be kept later in the training.

    Of the epochs whose accuracy on this number of validation rows counts as equal to the best (`ALIKE`), the one with
    the lowest loss is kept, the first of equal ones: a few more correct rows are luck, and the loss measures the
    quality of the probabilities. A higher accuracy later leaves fewer epochs to choose from; those with a higher
    accuracy and a higher loss remain candidates.
    """
    best = max(accuracies)
    share = min(max(best, 0.5 / rows), 1 - 0.5 / rows)  # otherwise the standard error would be zero
    least = best - ALIKE * math.sqrt(share * (1 - share) / rows)
    alike = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy >= least]
    kept, above = [], -math.inf
    for epoch in sorted(alike, key=lambda epoch: (losses[epoch], epoch)):
        if accuracies[epoch] > above:
            kept.append(epoch + 1)
            above = accuracies[epoch]
    return kept
