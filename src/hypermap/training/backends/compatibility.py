"""Which trainings fit together: those whose networks, data and batches differ in nothing but numbers."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

# A model's own values that show in its first weights or its dropout alone.
FREE = frozenset({"dropout", "initialization", "frequency_scale"})
SHARED = ("batch_size", "device", "precision", "compile", "threads", "reports_per_epoch", "backend")  # of trainer


def batch_key(configuration: Mapping[str, Any], model: nn.Module, rows: int) -> str:
    """Return what trainings have in common that may be stacked, as a word to compare.

    Args:
        configuration: every group.
        model: the network it makes.
        rows: that it learns from: with another number it would take other steps.
    """
    chosen = {key: value for key, value in configuration["model"].items() if key not in FREE}
    layers = [(name, type(layer).__qualname__) for name, layer in model.named_modules()]
    shapes = [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()]
    trainer = {key: configuration["trainer"].get(key) for key in SHARED}
    loss = configuration["loss"]["_target_"]
    return json.dumps([chosen, layers, shapes, trainer, loss, rows], sort_keys=True, default=str)
