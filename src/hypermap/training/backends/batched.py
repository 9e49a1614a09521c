"""A stack in torch: the weights of all members are one matrix, and each operation runs for all at once."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hypermap.core import device
from hypermap.tasks.losses import members_as_rows
from hypermap.training.backends.backend import EVALUATION_ROWS, StepOutputs
from hypermap.training.backends.losses import together
from hypermap.training.backends.steppers import stepper
from hypermap.training.regularizers import Regularizer
from hypermap.training.state import TrainState


class Forward(Protocol):
    """The networks of all members as one function; the members' vectors are the rows of a matrix."""

    weights: list[Tensor]  # to differentiate by: views (members, *shape) of the matrix, in the vector's order

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return outputs ``(members, batch, width)`` in training mode for inputs ``(members, batch, *shape)``."""
        ...

    def evaluate(self, inputs: Tensor) -> Tensor:
        """Return outputs ``(members, rows, width)`` in evaluation mode for inputs ``(rows, *shape)`` shared by all."""
        ...


MakeForward = Callable[[Sequence[TrainState], Tensor], Forward]


class Batched:
    """Members whose networks `forward` runs as one.

    Args:
        members: with networks of equal structure.
        inputs: ``(rows, *shape)`` float32, on the device.
        targets: ``(rows,)``.
        make_forward: takes the members, and the matrix ``(members, weights)`` whose rows are their vectors.
    """

    def __init__(
        self, members: Sequence[TrainState], inputs: Tensor, targets: Tensor, make_forward: MakeForward
    ) -> None:
        self.members, self.inputs, self.targets = members, inputs, targets
        self.matrix = torch.empty((len(members), len(members[0].weights.vector)), device=inputs.device)
        self.gradient = torch.empty_like(self.matrix)
        for member, vector, gradient in zip(members, self.matrix, self.gradient, strict=True):
            member.weights.move(vector, gradient)
        self.forward = make_forward(members, self.matrix)
        self.regularize = _Regularizers([m.parts.regularizer for m in members], members[0].weights.penalized)
        self.of_members = members[0].parts.of_members
        self.losses = together([member.parts.loss for member in members], inputs.device)
        self.steppers = [stepper(member.optimizer) for member in members]
        self.precision = members[0].settings.precision

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """See `hypermap.training.backends.backend.Backend`."""
        outputs, losses, norms = [], [], []
        for some, now in zip(rows.to(self.inputs.device).split(batch, 1), rates.T.tolist(), strict=True):
            inputs = self.inputs.index_select(0, some.flatten()).unflatten(0, some.shape)
            targets = self.targets[some]
            with device.autocast(inputs.device, self.precision):
                output = self.forward(self.augmented(inputs))
                loss = self.losses(*(members_as_rows(output, targets, 1) if self.of_members else (output, targets)))
            slopes = torch.autograd.grad(loss.sum(), self.forward.weights, materialize_grads=True)
            torch.cat([slope.flatten(1) for slope in slopes], 1, out=self.gradient)
            norms.append(self.regularize(self.matrix, self.gradient))
            for step, rate in zip(self.steppers, now, strict=True):
                step(rate)
            outputs.append(output.detach())
            losses.append(loss.detach())
        return StepOutputs(torch.cat(outputs, 1).float(), torch.stack(losses, 1), torch.stack(norms, 1))

    def augmented(self, inputs: Tensor) -> Tensor:
        """Return each member's augmented batch."""
        if not any(member.parts.augment.active for member in self.members):
            return inputs
        return torch.stack([m.parts.augment(own, m.augment_rng) for m, own in zip(self.members, inputs, strict=True)])

    def eval_outputs(self, inputs: Tensor, members: Sequence[int]) -> Tensor:
        """See `hypermap.training.backends.backend.Backend`."""
        with torch.no_grad(), device.autocast(inputs.device, self.precision):
            portions = inputs.split(max(1, EVALUATION_ROWS // len(self.members)))
            every = torch.cat([self.forward.evaluate(part) for part in portions], 1).float()
        return every if len(members) == len(self.members) else every[list(members)]


class _Regularizers:
    """`Regularizer.apply` for the rows of a matrix of gradients."""

    def __init__(self, regularizers: Sequence[Regularizer], penalized: Tensor) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=penalized.device)[:, None]

        l1, l2 = column([own.l1 for own in regularizers]), column([own.l2 for own in regularizers])
        limit = column([torch.inf if own.clip_norm is None else own.clip_norm for own in regularizers])
        self.l1 = l1 * penalized if l1.any() else None  # (members, weights)
        self.l2 = 2 * l2 * penalized if l2.any() else None
        self.limit = limit if limit.isfinite().any() else None

    def __call__(self, matrix: Tensor, gradient: Tensor) -> Tensor:
        """Add the penalties' gradients, clip the norms; return the norms before clipping ``(members,)``."""
        if self.l1 is not None:
            gradient.addcmul_(matrix.sign(), self.l1)
        if self.l2 is not None:
            gradient.addcmul_(matrix, self.l2)
        norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        if self.limit is not None:
            gradient.mul_(torch.clamp(self.limit / (norms[:, None] + 1e-6), max=1.0))
        return norms


def views(members: Sequence[TrainState], matrix: Tensor) -> list[Tensor]:
    """Return views of the matrix's columns as parameters ``(members, *shape)``, to differentiate by."""
    flat, blocks = members[0].weights, matrix.split(members[0].weights.sizes, 1)
    shapes = [(len(members), *parameter.shape) for parameter in flat.parameters]
    return [block.view(shape).detach().requires_grad_() for block, shape in zip(blocks, shapes, strict=True)]
