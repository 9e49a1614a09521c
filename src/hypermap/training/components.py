"""From the choices of a configuration to the parts of a training run."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.core.instantiate import build, check_arguments, locate
from hypermap.data.layout import Layout
from hypermap.models.sklearn_models import Family
from hypermap.tasks.losses import Loss
from hypermap.training.augment import Augment
from hypermap.training.lr_schedules import Schedule
from hypermap.training.regularizers import Regularizer

# What the program adds to a choice's own values when it builds it; a model that has a `layout` is given that, too.
RUNTIME = {"model": ("input_shape", "outputs"), "optimizer": ("params",)}
GROUPS = ("model", "optimizer", "scheduler", "loss", "regularizer", "augment")


MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Parts:
    """What a training run is made of, built and ready."""

    model: nn.Module
    loss: Loss
    make_optimizer: MakeOptimizer
    schedule: Schedule
    regularizer: Regularizer
    augment: Augment


@dataclass(frozen=True)
class Inputs:
    """How a model takes the rows of a data set.

    Attributes:
        shape: of a row, once encoded.
        runtime: what to give to the model when it is built, beside the width of its output.
        encode: features ``(rows, *manifest["shape"])`` to what the model takes, ``(rows, *shape)`` float32.
    """

    shape: tuple[int, ...]
    runtime: Mapping[str, Any]
    encode: Callable[[Tensor], Tensor]

    @property
    def layout(self) -> Layout | None:
        """What stands where in a row; None for images, plain tables and models that need not know."""
        return self.runtime.get("layout")


def understand(model: Mapping[str, Any], manifest: Mapping[str, Any]) -> Inputs:
    """How the model of this choice takes the categories of a table: as ``data.categories`` says.

    A model that takes a `layout` has the codes themselves, under ``auto``; any other has them one-hot. An embedding is
    learned by a network: to a model of scikit-learn, which stands beside one as a baseline, it is ``auto``.

    Raises:
        UserError: the network cannot embed what it is to embed.
    """
    target = locate(model.get("_target_"))
    takes_layout = "layout" in inspect.signature(target).parameters
    embeds = takes_layout or (isinstance(target, type) and issubclass(target, Family))
    if "layout" not in manifest:
        return _inputs(tuple(manifest["shape"]), None, takes_layout, lambda rows: rows)
    layout, categories = Layout.of(manifest["layout"]), manifest["preparation"]["categories"]
    if categories == "embedding" and not embeds:
        raise UserError(
            f"data.categories is embedding; model={model.get('name')} takes numbers alone: take model=tabular_mlp or "
            "model=tabular_resnet, or data.categories=auto."
        )
    if categories == "ordinal":
        plain = Layout(layout.numbers, layout.binary + len(layout.cardinalities))
        return _inputs((layout.width,), plain, takes_layout, layout.shares)
    if takes_layout and categories != "one_hot":
        return _inputs((layout.width,), layout, takes_layout, lambda rows: rows)
    return _inputs((layout.one_hot.width,), layout.one_hot, takes_layout, layout.spread)


def _inputs(
    shape: tuple[int, ...], layout: Layout | None, takes_layout: bool, encode: Callable[[Tensor], Tensor]
) -> Inputs:
    return Inputs(shape, {"input_shape": shape} | ({"layout": layout} if takes_layout else {}), encode)


def make_parts(configuration: Mapping[str, Any], manifest: Mapping[str, Any], device: torch.device) -> Parts:
    """Build all parts for data of this shape; a value that no signature takes is told before the first is built.

    Raises:
        UserError: a value that no signature takes, or a choice that does not suit the data.
    """
    inputs, classes = understand(configuration["model"], manifest), len(manifest["classes"])
    for group in GROUPS:
        check_arguments(configuration[group], *RUNTIME.get(group, ()), *(inputs.runtime if group == "model" else ()))
    loss: Loss = build(configuration["loss"])
    loss.check(manifest["task"], classes)
    augment = build(configuration["augment"])
    augment.check(inputs.shape)
    model = build(configuration["model"], outputs=loss.outputs(classes), **inputs.runtime)
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
