"""Instantiates the components of a training run from the options of a configuration."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.core.instantiate import check_arguments, instantiate, locate
from hypermap.data.manifest import Manifest
from hypermap.models.inputs import InputSpec
from hypermap.tasks.losses import Loss, MeanOfMembers, members_as_rows, pooled, wrapped
from hypermap.training.augment import Augment
from hypermap.training.lr_schedules import Schedule
from hypermap.training.regularizers import Regularizer

# Arguments that the program adds to an option's own values; a model that takes a `layout` gets that, too,
# and a loss that takes `info` what the manifest says of the targets.
RUNTIME = {"model": ("input_shape", "outputs"), "optimizer": ("params",)}
GROUPS = ("model", "optimizer", "scheduler", "loss", "regularizer", "augment")


MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Components:
    """The instantiated components of a training run."""

    model: nn.Module
    loss: Loss
    make_optimizer: MakeOptimizer
    schedule: Schedule
    regularizer: Regularizer
    augment: Augment
    base_lr: float  # multiplied by the schedule

    @cached_property
    def of_members(self) -> bool:
        """Whether the network gives, in training, the outputs of several members: ``(batch, members, width)``."""
        return any(isinstance(module, MeanOfMembers) for module in self.model.modules())

    def batch_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch in training: the mean of the members' losses, where there are several."""
        return self.loss(*(members_as_rows(outputs, targets) if self.of_members else (outputs, targets)))

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return outputs in training as they would be in evaluation: of members those that their mean has."""
        return pooled(self.loss, outputs) if self.of_members else outputs


def make_components(
    configuration: Mapping[str, Any], manifest: Manifest, inputs: InputSpec, device: torch.device
) -> Components:
    """Instantiate all components for this data; values that do not fit a signature are reported before the first one.

    Args:
        configuration: every group.
        manifest: of the data.
        inputs: how the model receives it (`resolve_input_spec`).
        device: of the model.

    Raises:
        UserError: a value does not fit a signature, or an option does not fit the data.
    """
    classes = manifest.width
    runtime = {"model": inputs.runtime, "loss": _runtime(configuration["loss"], manifest)}
    for group in GROUPS:
        check_arguments(configuration[group], *RUNTIME.get(group, ()), *runtime.get(group, ()))
    loss: Loss = instantiate(configuration["loss"], **runtime["loss"])
    loss.check(manifest.task, classes)
    augment = instantiate(configuration["augment"])
    augment.check(inputs.shape)
    model = wrapped(loss, instantiate(configuration["model"], outputs=loss.outputs(classes), **inputs.runtime))
    return Components(
        model=model.to(device),
        loss=loss,
        make_optimizer=partial(make_optimizer, configuration["optimizer"]),
        schedule=instantiate(configuration["scheduler"]),
        regularizer=instantiate(configuration["regularizer"]),
        augment=augment,
        base_lr=base_lr(configuration["optimizer"]),
    )


def _runtime(loss: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Return what a loss is given beside its option's values: what is known of the targets, if it takes `info`."""
    return {"info": manifest} if "info" in inspect.signature(locate(loss["_target_"])).parameters else {}


def base_lr(option: Mapping[str, Any]) -> float:
    """Return the learning rate of an optimizer's option, or else the optimizer's default.

    Raises:
        UserError: it has none, so schedules cannot be applied.
    """
    parameters = inspect.signature(locate(option["_target_"])).parameters
    own = parameters["lr"].default if "lr" in parameters else None
    if not isinstance(found := option.get("lr", own), int | float):
        raise UserError(f"optimizer.lr is {found!r} of optimizer={option.get('name')}; give a number, such as 0.001.")
    return float(found)


def make_optimizer(option: Mapping[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that `option` names, fused if torch has a fused version for this device."""
    signature = inspect.signature(locate(option["_target_"]))
    device = parameters[0].device.type
    own = {"fused", "foreach"} & option.keys()  # an option that sets these itself is left unchanged
    fused = "fused" in signature.parameters and not own and device in ("cpu", "cuda")
    optimizer = instantiate(option, params=parameters, **({"fused": True} if fused else {}))
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
