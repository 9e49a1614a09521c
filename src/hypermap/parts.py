"""From the choices of a configuration to the parts of a training run."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from hypermap.build import build, check_arguments, locate
from hypermap.losses import Loss
from hypermap.trainer import Parts

# What the program adds to a choice's own values when it builds it.
RUNTIME = {"model": ("input_shape", "outputs"), "optimizer": ("params",)}
GROUPS = ("model", "optimizer", "scheduler", "loss", "regularizer", "augment")


def make_parts(configuration: Mapping[str, Any], manifest: Mapping[str, Any], device: torch.device) -> Parts:
    """Build all parts for data of this shape; a value that no signature takes is told before the first is built.

    Raises:
        UserError: a value that no signature takes, or a choice that does not suit the data.
    """
    shape, classes = tuple(manifest["shape"]), len(manifest["classes"])
    for group in GROUPS:
        check_arguments(configuration[group], *RUNTIME.get(group, ()))
    loss: Loss = build(configuration["loss"])
    loss.check(manifest["task"], classes)
    augment = build(configuration["augment"])
    augment.check(shape)
    model = build(configuration["model"], input_shape=shape, outputs=loss.outputs(classes))
    return Parts(
        model=model.to(device),
        loss=loss,
        make_optimizer=partial(make_optimizer, configuration["optimizer"]),
        schedule=build(configuration["scheduler"]),
        regularizer=build(configuration["regularizer"]),
        augment=augment,
    )


def make_optimizer(choice: Mapping[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that `choice` names, fused where torch has it fused for this device."""
    signature = inspect.signature(locate(choice["_target_"]))
    device = parameters[0].device.type
    own = {"fused", "foreach"} & choice.keys()  # a choice that says how to step is left alone
    fused = "fused" in signature.parameters and not own and device in ("cpu", "cuda")
    optimizer = build(choice, params=parameters, **({"fused": True} if fused else {}))
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
