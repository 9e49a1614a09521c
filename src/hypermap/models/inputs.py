"""How a model receives the rows of a data set: their shape, and the encoding of a table's categories."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypermap.core.errors import UserError
from hypermap.core.instantiate import locate
from hypermap.data.layout import ColumnLayout
from hypermap.data.manifest import Manifest
from hypermap.models.sklearn_models import SklearnModel

if TYPE_CHECKING:  # models of scikit-learn need no torch
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class InputSpec:
    """How a model receives the rows of a data set.

    Attributes:
        shape: of a row, once encoded.
        runtime: arguments for building the model, besides the width of its output.
        encode: features ``(rows, *manifest.shape)`` to what the model takes, ``(rows, *shape)``: tensors of a network,
            arrays of a model of scikit-learn.
        dtype: of what the model takes, by its name.
    """

    shape: tuple[int, ...]
    runtime: Mapping[str, Any]
    encode: Callable[[Any], Any]
    dtype: str = "float32"

    def example(self, rows: int = 1, device: "torch.device | str" = "cpu") -> "Tensor":
        """Return so many rows of zeros ``(rows, *shape)``, which take the memory of one."""
        import torch

        zeros = torch.zeros((1, *self.shape), dtype=getattr(torch, self.dtype), device=device)
        return zeros.expand(rows, *self.shape)

    @property
    def layout(self) -> ColumnLayout | None:
        """The columns of a row; None for images, plain tables and models that do not use it."""
        return self.runtime.get("layout")


def resolve_input_spec(
    model: Mapping[str, Any], manifest: Manifest, extras: Mapping[str, Any] | None = None
) -> InputSpec:
    """Return how the model of this option receives the categories of a table, according to ``data.categories``.

    Under ``auto``, a model that takes a `layout` gets the codes themselves; any other gets them one-hot. Only networks
    learn an embedding: for a scikit-learn model, as a baseline beside one, ``embedding`` means ``auto``.

    Args:
        model: the option.
        manifest: of the data.
        extras: those of the preprocessor, where they are more than the manifest's.

    Raises:
        UserError: the network does not support embeddings, or it takes numbers and the rows are ids.
    """
    target = locate(model.get("_target_"))
    parameters = inspect.signature(target).parameters
    takes_layout = "layout" in parameters
    of_sklearn = isinstance(target, type) and issubclass(target, SklearnModel)
    embeds = takes_layout or of_sklearn
    if manifest.layout is None:
        spec = _inputs(tuple(manifest.shape), None, takes_layout, lambda rows: rows)
        extras = manifest.extras if extras is None else extras
        taken = {name: value for name, value in extras.items() if name in parameters}
        dtype = manifest.dtype or "float32"
        ships = target.__module__.startswith("hypermap.models.") and not of_sklearn
        if ships and "float" not in dtype and not taken:
            raise UserError(
                f"model={model.get('name')} takes numbers, and the rows of this data are ids ({manifest.dtype}): take "
                f"a network that embeds them, whose constructor takes {' or '.join(extras)}."
            )
        return replace(spec, runtime={**spec.runtime, **taken}, dtype=dtype)
    layout, categories = ColumnLayout.of(manifest.layout), manifest.preparation["categories"]
    if categories == "embedding" and not embeds:
        raise UserError(
            f"data.categories is embedding; model={model.get('name')} takes numbers alone: take model=tabular_mlp or "
            "model=tabular_resnet, or data.categories=auto."
        )
    if categories == "ordinal":
        plain = ColumnLayout(layout.numbers, layout.binary + len(layout.cardinalities))
        return _inputs((layout.width,), plain, takes_layout, layout.to_ordinal)
    if takes_layout and categories != "one_hot":
        return _inputs((layout.width,), layout, takes_layout, lambda rows: rows)
    return _inputs((layout.one_hot.width,), layout.one_hot, takes_layout, layout.to_one_hot)


def _inputs(
    shape: tuple[int, ...], layout: ColumnLayout | None, takes_layout: bool, encode: Callable[[Any], Any]
) -> InputSpec:
    return InputSpec(shape, {"input_shape": shape} | ({"layout": layout} if takes_layout else {}), encode)


def remember(model: "nn.Module", rows: "Tensor", targets: "Tensor") -> None:
    """Give the training rows to every part of a network that keeps them: that has a method `remember`."""
    for part in model.modules():
        keep = getattr(part, "remember", None)
        if keep is not None:
            keep(rows, targets)
