"""A single training on several processes: each computes its share of every batch, and all take the same steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from hypermap.core import device
from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout, RowShare
from hypermap.training.backends.backend import StepOutputs
from hypermap.training.backends.batch_norm import of_all_processes
from hypermap.training.backends.gather import gathered
from hypermap.training.backends.steppers import stepper
from hypermap.training.state import TrainState


class DataParallel:
    """The steps of one process, for a member that all processes have in equal states.

    The loss is that of the whole batch, whatever it makes of its rows: the outputs of all processes are gathered, and
    each process differentiates by its own. Gradients are summed in the order of the ranks. So the result is that of one
    process, but for the rounding of sums.

    Args:
        member: with the network and the optimizer.
        inputs: all training rows, ``(rows, *shape)``, on the device.
        targets: likewise, ``(rows, ...)``.

    Raises:
        UserError: the network draws random numbers that processes cannot share.
    """

    def __init__(self, member: TrainState, inputs: Tensor, targets: Tensor) -> None:
        self.member, self.inputs, self.targets = member, inputs, targets
        self.rank, self.processes = distributed.get_rank(), distributed.get_world_size()
        self.precision, self.model = member.settings.precision, member.parts.model
        check_network(self.model)
        self.multiple = max(getattr(layer, "row_multiple", 1) for layer in self.model.modules())
        self.dropouts = [layer for layer in self.model.modules() if isinstance(layer, Dropout)]
        self.step = stepper(member.optimizer)
        self.share = RowShare(0, 0, 0)

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """Train on the rows at these positions ``(rows,)``, `batch` of them per step, at these rates ``(steps,)``."""
        parts, weights = self.member.parts, self.member.weights
        outputs, losses, norms = [], [], []
        self.model.train()
        with self._sharing():
            for some, rate in zip(rows.to(self.inputs.device).split(batch), rates.tolist(), strict=True):
                self._take(len(some))
                weights.gradient.zero_()
                with device.autocast(self.inputs.device, self.precision):
                    output = self._whole(self.model(self._inputs(some)))
                    loss = parts.batch_loss(output, self.targets.index_select(0, some))
                loss.backward()
                self._add_up(weights.gradient)
                norms.append(parts.regularizer.apply(weights))
                self.step(rate)
                outputs.append(output.detach())
                losses.append(loss.detach())
        return StepOutputs(torch.cat(outputs).float()[None], torch.stack(losses)[None], torch.stack(norms)[None])

    def _take(self, rows: int) -> None:
        """Take this process's share of a batch."""
        self.share = RowShare.of(rows, self.rank, self.processes, self.multiple)
        for layer in self.dropouts:
            layer.share = None if self.share.is_whole else self.share

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        try:
            with of_all_processes(self.model, lambda: not self.share.is_whole):
                yield
        finally:
            for layer in self.dropouts:
                layer.share = None

    def _inputs(self, some: Tensor) -> Tensor:
        """Return the share's inputs; they are augmented with the whole batch, which is what the draws are for."""
        augment, own = self.member.parts.augment, slice(self.share.first, self.share.last)
        if not augment.active:
            return self.inputs.index_select(0, some[own])
        return augment(self.inputs.index_select(0, some), self.member.augment_rng)[own]

    def _whole(self, own: Tensor) -> Tensor:
        """Return the outputs of the whole batch; the gradient flows to this process's own."""
        if self.share.is_whole:
            return own
        shares = [RowShare.of(self.share.rows, rank, self.processes, self.multiple) for rank in range(self.processes)]
        padded = own.new_zeros((max(map(len, shares)), *own.shape[1:]))
        padded[: len(own)] = own.detach()
        parts = [part[: len(share)] for part, share in zip(gathered(padded), shares, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def _add_up(self, gradient: Tensor) -> None:
        """Replace a gradient by the sum over the processes."""
        if self.share.is_whole:  # each has computed all of it
            return
        first, *others = gathered(gradient)
        gradient.copy_(first)
        for other in others:
            gradient.add_(other)


def check_network(model: nn.Module) -> None:
    """Refuse layers whose draws would differ between one process and several.

    Raises:
        UserError: names one.
    """
    for name, layer in model.named_modules():
        rate = getattr(layer, "p", getattr(layer, "dropout", 0.0))
        draws = isinstance(layer, nn.modules.dropout._DropoutNd | nn.RNNBase | nn.MultiheadAttention)
        if draws and isinstance(rate, float | int) and rate > 0:
            raise UserError(
                f"{name or 'the model'} is a {type(layer).__name__} with dropout, whose draws several processes cannot "
                "share: take hypermap.models.layers.Dropout in its place, or trainer.processes=1."
            )
