"""Memory: how much is free, and how many trainings fit at once."""

import torch
from torch import Tensor, nn

from hypermap.core import memory

SHARE = 0.5  # share of the free memory for a stack: the rest is for other programs, and for errors of the estimate
VECTORS = 9  # vectors of the weights' length: weights, those of epochs to keep, gradients, moments, temporary ones
PASSES = 3  # copies of a network's activations: forward, backward, and temporary ones of an operation


def free_memory(device: torch.device | None = None) -> int | None:
    """Return the bytes that this process can still allocate, on a CUDA device or the host; None if unknown."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by torch for reuse
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return memory.free()


def most_members(model: nn.Module, inputs: Tensor, width: int, batch: int, free: int | None) -> int | None:
    """Return how many networks like this can be trained at once; at least 1, or None if free memory is unknown.

    Args:
        model: one of them.
        inputs: all training rows, ``(rows, *shape)``, stored once on the device.
        width: of the network's output.
        batch: rows per step.
        free: bytes.
    """
    if free is None:
        return None
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    step = batch * (inputs[0].numel() + _activations(model, inputs[:2]) / min(2, len(inputs)))
    outputs = 2 * len(inputs) * width  # of an epoch, plus the joined copy
    return max(1, int(SHARE * free / (VECTORS * weights + 4 * (PASSES * step + outputs))))


def _activations(model: nn.Module, rows: Tensor) -> int:
    """Return the number of values in the layers' outputs for these rows."""
    counted: list[int] = []

    def count(layer: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            counted.append(output.numel())

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if not list(layer.children())]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(rows)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return sum(counted)
