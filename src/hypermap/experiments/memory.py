"""Memory: how much is free, and how many trainings it holds at once."""

import torch
from torch import Tensor, nn

from hypermap.core import memory

SHARE = 0.5  # of the free memory for a stack: the rest is for whatever else runs, and for an estimate's error
VECTORS = 9  # as long as the weights: they, those of epochs to keep, gradients, moments, and what is in passing
PASSES = 3  # of a network's activations: forward, backward, and what an operation holds in passing


def free_memory(device: torch.device | None = None) -> int | None:
    """Return bytes that this process could still take, of a CUDA device or of the machine; None where nobody tells."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return memory.free()


def most_members(model: nn.Module, inputs: Tensor, width: int, batch: int, free: int | None) -> int | None:
    """Return how many networks like this can be trained at once; at least 1, and None where nobody tells what is free.

    Args:
        model: one of them.
        inputs: all training rows, ``(rows, *shape)``, which lie on the device once for all.
        width: of the network's output.
        batch: rows a step.
        free: bytes.
    """
    if free is None:
        return None
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    step = batch * (inputs[0].numel() + _activations(model, inputs[:2]) / min(2, len(inputs)))
    outputs = 2 * len(inputs) * width  # of an epoch, and joined
    return max(1, int(SHARE * free / (VECTORS * weights + 4 * (PASSES * step + outputs))))


def _activations(model: nn.Module, rows: Tensor) -> int:
    """Return the numbers that layers put out when these rows pass."""
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
