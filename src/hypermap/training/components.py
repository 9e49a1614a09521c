"""From the choices of a configuration to the parts of a training run."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hypermap.core.errors import UserError
from hypermap.core.instantiate import check_arguments, instantiate, locate
from hypermap.data.manifest import Manifest
from hypermap.models.inputs import InputSpec
from hypermap.tasks.losses import Loss
from hypermap.training.augment import Augment
from hypermap.training.lr_schedules import Schedule
from hypermap.training.regularizers import Regularizer

# What the program adds to a choice's own values when it builds it; a model that has a `layout` is given that, too.
RUNTIME = {"model": ("input_shape", "outputs"), "optimizer": ("params",)}
GROUPS = ("model", "optimizer", "scheduler", "loss", "regularizer", "augment")


MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Components:
    """What a training run is made of, built and ready."""

    model: nn.Module
    loss: Loss
    make_optimizer: MakeOptimizer
    schedule: Schedule
    regularizer: Regularizer
    augment: Augment
    base_lr: float  # what the schedule multiplies


def make_components(
    configuration: Mapping[str, Any], manifest: Manifest, inputs: InputSpec, device: torch.device
) -> Components:
    """Build all parts for data of this shape; a value that no signature takes is told before the first is built.

    Args:
        configuration: every group.
        manifest: of the data.
        inputs: how the model takes it (`resolve_input_spec`).
        device: where the model lies.

    Raises:
        UserError: a value that no signature takes, or a choice that does not suit the data.
    """
    classes = len(manifest.classes)
    for group in GROUPS:
        check_arguments(configuration[group], *RUNTIME.get(group, ()), *(inputs.runtime if group == "model" else ()))
    loss: Loss = instantiate(configuration["loss"])
    loss.check(manifest.task, classes)
    augment = instantiate(configuration["augment"])
    augment.check(inputs.shape)
    model = instantiate(configuration["model"], outputs=loss.outputs(classes), **inputs.runtime)
    return Components(
        model=model.to(device),
        loss=loss,
        make_optimizer=partial(make_optimizer, configuration["optimizer"]),
        schedule=instantiate(configuration["scheduler"]),
        regularizer=instantiate(configuration["regularizer"]),
        augment=augment,
        base_lr=base_lr(configuration["optimizer"]),
    )


def base_lr(option: Mapping[str, Any]) -> float:
    """Return the learning rate that a choice of an optimizer says, or else the optimizer's own.

    Raises:
        UserError: it has none, and schedules set nothing else.
    """
    parameters = inspect.signature(locate(option["_target_"])).parameters
    own = parameters["lr"].default if "lr" in parameters else None
    if not isinstance(found := option.get("lr", own), int | float):
        raise UserError(f"optimizer.lr is {found!r} of optimizer={option.get('name')}; give a number, such as 0.001.")
    return float(found)


def make_optimizer(option: Mapping[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that `option` names, fused where torch has it fused for this device."""
    signature = inspect.signature(locate(option["_target_"]))
    device = parameters[0].device.type
    own = {"fused", "foreach"} & option.keys()  # a choice that says how to step is left alone
    fused = "fused" in signature.parameters and not own and device in ("cpu", "cuda")
    optimizer = instantiate(option, params=parameters, **({"fused": True} if fused else {}))
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
