"""Tensors of all processes of a training, always in the order of their ranks, so that sums have one order."""

from typing import Any

import torch
from torch import Tensor, distributed


def gathered(own: Tensor) -> list[Tensor]:
    """Return the tensors that all processes pass here, by rank; all of one shape and dtype, and of any dtype."""
    sent = own.contiguous().reshape(-1).view(torch.uint8)  # gloo knows few dtypes
    parts = [torch.empty_like(sent) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, sent)
    return [part.view(own.dtype).view(own.shape) for part in parts]


def gathered_with_gradients(own: Tensor) -> Tensor:
    """Return what `gathered` does as one tensor ``(processes, *shape)``, through which gradients flow to all."""
    stack: Tensor = _Gathered.apply(own)  # type: ignore[no-untyped-call]
    return stack


class _Gathered(torch.autograd.Function):
    """`gathered`, stacked; its gradient is the sum over what all processes made of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Return the stack."""
        return torch.stack(gathered(own))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        """Return the gradient of this process's own tensor."""
        (slope,) = slopes
        return torch.stack([part[distributed.get_rank()] for part in gathered(slope)]).sum(0)
