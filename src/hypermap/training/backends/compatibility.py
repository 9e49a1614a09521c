"""Which trainings can be stacked: those whose networks, data and batches have equal structure."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

# Values of a model that only affect its initial weights or its dropout.
FREE = frozenset({"dropout", "initialization", "frequency_scale"})
SHARED = ("batch_size", "device", "precision", "compile", "threads", "reports_per_epoch", "backend")  # of trainer


def batch_key(configuration: Mapping[str, Any], model: nn.Module, rows: int) -> str:
    """Return a key that is equal for trainings that can be stacked.

    Args:
        configuration: every group.
        model: the network.
        rows: number of training rows, which determines the number of steps.
    """
    chosen = {key: value for key, value in configuration["model"].items() if key not in FREE}
    layers = [(name, type(layer).__qualname__) for name, layer in model.named_modules()]
    shapes = [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()]
    trainer = {key: configuration["trainer"].get(key) for key in SHARED}
    loss = configuration["loss"]["_target_"]
    return json.dumps([chosen, layers, shapes, trainer, loss, rows], sort_keys=True, default=str)
