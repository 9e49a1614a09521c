"""The losses of all members of a stack at once; their settings may differ."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hypermap.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, plain

Losses = Callable[[Tensor, Tensor], Tensor]
"""Returns the losses ``(members,)`` for outputs ``(members, batch, width)`` and targets ``(members, batch)``."""


def together(losses: Sequence[Loss], device: torch.device) -> Losses:
    """Return one function for the losses of all members; a user's loss is called once per member."""
    own = [plain(loss) for loss in losses]
    if len(own) > 1 and len({type(loss) for loss in own}) == 1:
        first = own[0]
        if type(first) is MeanSquaredError:
            return lambda outputs, targets: (outputs.squeeze(2) - targets).square().mean(1)
        if type(first) is BinaryCrossEntropy:
            return _binary_cross_entropy([loss for loss in own if isinstance(loss, BinaryCrossEntropy)])
        if type(first) is CrossEntropy:
            return _cross_entropy([loss for loss in own if isinstance(loss, CrossEntropy)], device)
    return lambda outputs, targets: torch.stack(
        [loss(output, target) for loss, output, target in zip(own, outputs, targets, strict=True)]
    )


def _cross_entropy(losses: Sequence[CrossEntropy], device: torch.device) -> Losses:
    smoothing = torch.tensor([loss.label_smoothing for loss in losses], device=device)
    smooths = bool(smoothing.any())
    weighted = any(loss.weights is not None for loss in losses)
    weights = _stacked([loss.weights for loss in losses]) if weighted else None  # (members, classes)

    def losses_of(outputs: Tensor, targets: Tensor) -> Tensor:
        surprise = -outputs.log_softmax(2)
        true = surprise.gather(2, targets.unsqueeze(2)).squeeze(2)
        if weights is None:
            plain, spread = true.mean(1), surprise.mean((1, 2)) if smooths else None
        else:
            of_rows = weights.gather(1, targets)
            total = of_rows.sum(1)
            plain = (true * of_rows).sum(1) / total
            spread = (surprise * weights.unsqueeze(1)).mean(2).sum(1) / total if smooths else None
        if spread is None:
            return plain
        return (1 - smoothing) * plain + smoothing * spread

    return losses_of


def _binary_cross_entropy(losses: Sequence[BinaryCrossEntropy]) -> Losses:
    weighted = any(loss.weight is not None for loss in losses)
    weights = _stacked([loss.weight for loss in losses]).unsqueeze(1) if weighted else None  # (members, 1)

    def losses_of(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = outputs.squeeze(2)
        each = F.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), pos_weight=weights, reduction="none"
        )
        return each.mean(1)

    return losses_of


def _stacked(weights: Sequence[Tensor | None]) -> Tensor:
    """Return weights of equal shapes, ones for a loss without weights."""
    shape = next(weight for weight in weights if weight is not None)
    return torch.stack([torch.ones_like(shape) if weight is None else weight for weight in weights])
