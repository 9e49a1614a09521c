"""How a model takes the rows of a data set: their shape, and what becomes of a table's categories."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hypermap.core.errors import UserError
from hypermap.core.instantiate import locate
from hypermap.data.layout import ColumnLayout
from hypermap.data.manifest import Manifest
from hypermap.models.sklearn_models import SklearnModel


@dataclass(frozen=True)
class InputSpec:
    """How a model takes the rows of a data set.

    Attributes:
        shape: of a row, once encoded.
        runtime: what to give to the model when it is built, beside the width of its output.
        encode: features ``(rows, *manifest.shape)`` to what the model takes, ``(rows, *shape)``.
        dtype: of what the model takes.
    """

    shape: tuple[int, ...]
    runtime: Mapping[str, Any]
    encode: Callable[[Tensor], Tensor]
    dtype: torch.dtype = torch.float32

    def example(self, rows: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return so many rows of zeros ``(rows, *shape)``, which take the memory of one."""
        return torch.zeros((1, *self.shape), dtype=self.dtype, device=device).expand(rows, *self.shape)

    @property
    def layout(self) -> ColumnLayout | None:
        """What stands where in a row; None for images, plain tables and models that need not know."""
        return self.runtime.get("layout")


def resolve_input_spec(model: Mapping[str, Any], manifest: Manifest) -> InputSpec:
    """Return how the model of this choice takes the categories of a table: as ``data.categories`` says.

    A model that takes a `layout` has the codes themselves, under ``auto``; any other has them one-hot. An embedding is
    learned by a network: to a model of scikit-learn, which stands beside one as a baseline, it is ``auto``.

    Raises:
        UserError: the network cannot embed what it is to embed.
    """
    target = locate(model.get("_target_"))
    parameters = inspect.signature(target).parameters
    takes_layout = "layout" in parameters
    embeds = takes_layout or (isinstance(target, type) and issubclass(target, SklearnModel))
    if manifest.layout is None:
        spec = _inputs(tuple(manifest.shape), None, takes_layout, lambda rows: rows)
        taken = {name: value for name, value in manifest.extras.items() if name in parameters}
        dtype = getattr(torch, manifest.dtype or "float32")
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
    shape: tuple[int, ...], layout: ColumnLayout | None, takes_layout: bool, encode: Callable[[Tensor], Tensor]
) -> InputSpec:
    return InputSpec(shape, {"input_shape": shape} | ({"layout": layout} if takes_layout else {}), encode)
