"""A single training in plain torch: module call, autograd, optimizer step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hypermap.core import device
from hypermap.training.backends.backend import StepOutputs, forward_all
from hypermap.training.backends.steppers import stepper
from hypermap.training.state import TrainState


class Eager:
    """A backend for a single member.

    Args:
        members: a single one.
        inputs: ``(rows, *shape)``, on the device.
        targets: ``(rows, ...)``.
    """

    def __init__(self, members: Sequence[TrainState], inputs: Tensor, targets: Tensor) -> None:
        (self.member,) = members
        self.inputs, self.targets = inputs, targets
        model, self.settings = self.member.parts.model, self.member.settings
        self.forward = torch.compile(model) if self.settings.compile else model
        self.step = stepper(self.member.optimizer)

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """See `Backend`."""
        parts, weights, noise = self.member.parts, self.member.weights, self.member.augment_rng
        inputs = self.inputs.new_empty((batch, *self.inputs.shape[1:]))
        targets = self.targets.new_empty((batch, *self.targets.shape[1:]))
        outputs, losses, norms = [], [], []
        parts.model.train()
        for some, rate in zip(rows[0].to(self.inputs.device).split(batch), rates[0].tolist(), strict=True):
            if len(some) < batch:
                inputs, targets = inputs[: len(some)], targets[: len(some)]
            torch.index_select(self.inputs, 0, some, out=inputs)
            torch.index_select(self.targets, 0, some, out=targets)
            weights.gradient.zero_()
            with device.autocast(inputs.device, self.settings.precision):
                output = self.forward(parts.augment(inputs, noise))
                loss = parts.batch_loss(output, targets)
            loss.backward()
            norms.append(parts.regularizer.apply(weights))
            self.step(rate)
            outputs.append(output.detach())
            losses.append(loss.detach())
        return StepOutputs(torch.cat(outputs).float()[None], torch.stack(losses)[None], torch.stack(norms)[None])

    def eval_outputs(self, inputs: Tensor, members: Sequence[int] = (0,)) -> Tensor:
        """See `Backend`."""
        return forward_all(self.member.parts.model, inputs, self.settings.precision)[None]
