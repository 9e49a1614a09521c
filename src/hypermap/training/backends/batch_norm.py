"""Batch norm over the rows of all processes, as one process would compute it.

`torch.nn.SyncBatchNorm` does so on CUDA alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hypermap.training.backends.gather import gathered_with_gradients


@contextmanager
def of_all_processes(model: nn.Module, shared: Callable[[], bool]) -> Iterator[None]:
    """Let the batch norms of a network in training see the rows of all processes in this context, if `shared`."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward, shared)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(
    layer: _BatchNorm, alone: Callable[[Tensor], Tensor], shared: Callable[[], bool], inputs: Tensor
) -> Tensor:
    return normalized(layer, inputs) if layer.training and shared() else alone(inputs)


def normalized(layer: _BatchNorm, inputs: Tensor) -> Tensor:
    """Return inputs ``(rows, channels, ...)`` as batch norm in training does, over the rows of all processes.

    Means and squared deviations of the processes are combined as in Chan, Golub and LeVeque 1979,
    http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf.
    """
    values = inputs.float()
    channels, axes = values.shape[1], [0, *range(2, values.ndim)]
    shape = [1, channels, *[1] * (values.ndim - 2)]
    own = values.mean(axes)
    squares = (values - own.view(shape)).square().sum(axes)
    count = values.new_full((1,), values.numel() / channels)
    of_all = gathered_with_gradients(torch.cat([count, own, squares]))
    counts, means, deviations = of_all.split([1, channels, channels], 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    deviation = (deviations + counts * (means - mean).square()).sum(0)
    _track(layer, mean.detach(), deviation.detach() / (total - 1).clamp(min=1))
    scale = torch.rsqrt(deviation / total + layer.eps)
    if layer.weight is not None:
        scale = scale * layer.weight
    outputs = (values - mean.view(shape)) * scale.view(shape)
    if layer.bias is not None:
        outputs = outputs + layer.bias.view(shape)
    made: Tensor = outputs.to(inputs.dtype)
    return made


def _track(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics, as torch's own layer does."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    weight = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, weight)
    layer.running_var.lerp_(variance, weight)
