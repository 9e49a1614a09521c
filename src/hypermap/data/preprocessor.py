"""From raw rows to model inputs, and from model outputs back to the target's unit.

Images and plain tables of numbers are scaled, ``(inputs - shift) / scale``, with one number per channel or feature;
tables with a schema are preprocessed by `hypermap.data.preparation`. Everything is fitted on training rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypermap.core import files
from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.manifest import MANIFEST, Manifest, advice
from hypermap.data.normalize import fit, statistics
from hypermap.data.preparation import Preparation, Settings

if TYPE_CHECKING:  # preprocessing does not need torch, and a script's --help should not wait for it
    import torch

PREPARATION = "preparation.skops"

LOGS = {"log": (np.log, np.exp), "log1p": (np.log1p, np.expm1)}
"""Transforms of a target before it is standardized, and their inverses."""


@dataclass(frozen=True)
class TensorSplit:
    """Rows ready for a model, or raw; `rows` are the indices within the raw array, or in a file from 1."""

    inputs: "torch.Tensor"  # (rows, *shape) float32, scaled or preprocessed; or of the raw type
    targets: "torch.Tensor"  # (rows,) int64 class index, or float32 standardized (regression); or raw
    rows: "torch.Tensor"  # (rows,) int64
    features: "torch.Tensor | None" = (
        None  # raw rows of a table: `inputs` preprocessed by the fit to the whole training split
    )
    groups: "torch.Tensor | None" = None  # (rows,) int64, raw rows only
    times: "torch.Tensor | None" = None  # (rows,) float64, raw rows only


@dataclass(frozen=True)
class Transform:
    """What was fitted on training rows: a manifest's entries and, for a table, a stored preparation."""

    manifest: Manifest
    stored: bytes | None = None  # preparation.skops
    origin: str = PREPARATION  # its name in an error message

    @cached_property
    def preparation(self) -> Preparation | None:
        """The fitted preparation; None for images and plain tables.

        Raises:
            UserError: its file is damaged.
        """
        from hypermap.core import skops_io

        if self.stored is None:
            return None
        return Preparation(
            skops_io.loads(self.stored, self.origin, "Prepare the data and train again: dvc repro --force")
        )

    @classmethod
    def fitted(cls, inputs: Array, targets: Array, about: Manifest) -> "Transform":
        """Fit to raw training rows; return `about` with its fitted entries replaced.

        Raises:
            UserError: the settings do not fit these rows.
        """
        entries: dict[str, Any] = {"fitted_on": {"split": "train", "rows": len(inputs)}, **_fit_targets(targets, about)}
        if about.table is None:
            return cls(replace(about, **_fit_scale(inputs, about.scaling, about.maximum), **entries))
        from hypermap.core import skops_io

        preparation = Preparation.fit(inputs, about.roles, Settings(**about.preparation))
        layout = preparation.layout
        entries |= {"shape": [layout.width], "layout": layout.as_entry()}
        return cls(replace(about, **entries), skops_io.dumps(preparation.transformer))

    def refit(self, train: TensorSplit) -> "Transform":
        """Return the same, refitted on these raw rows."""
        return Transform.fitted(train.inputs.cpu().numpy(), train.targets.cpu().numpy(), self.manifest)

    def __call__(self, raw: TensorSplit) -> TensorSplit:
        """Return raw rows as a model sees them."""
        return TensorSplit(self.features(raw), self.transform_targets(raw.targets), raw.rows)

    def features(self, raw: TensorSplit) -> "torch.Tensor":
        """Return the inputs of raw rows as a model sees them, float32 on their device."""
        import torch

        if raw.features is not None:
            return raw.features
        if self.preparation is None:
            return _scaled(raw.inputs, self.manifest.shift, self.manifest.scale)
        return torch.from_numpy(self.preparation.transform(raw.inputs.cpu().numpy())).to(raw.inputs.device)

    def transform_targets(self, targets: "torch.Tensor") -> "torch.Tensor":
        """Return class indices unchanged; numbers standardized over the training rows, float32."""
        if self.manifest.task == "classification":
            return targets
        if log := self.manifest.target_transform:
            targets = targets.double().log() if log == "log" else targets.double().log1p()
        shift, scale = self.manifest.target_shift, self.manifest.target_scale
        return _scaled(targets[:, None], [shift], [scale]).squeeze(1)

    def inverse_transform_targets(self, standardised: Array) -> Array:
        """Return numbers (rows,) in the target's unit, float64."""
        values: Array = standardised * self.manifest.target_scale + self.manifest.target_shift
        return LOGS[log][1](values) if (log := self.manifest.target_transform) else values

    def write(self, folder: Path) -> None:
        """Write manifest.json, and preparation.skops of a table, into `folder`."""
        for name, content in self.contents().items():
            files.write_bytes(folder / name, content)

    def contents(self) -> dict[str, bytes]:
        """Return the files that `write` writes."""
        return {MANIFEST: self.manifest.content()} | ({} if self.stored is None else {PREPARATION: self.stored})


def read_transform(folder: Path) -> Transform:
    """Return what `Transform.write` wrote.

    Raises:
        UserError: a file is missing, unreadable, or of another version of the format.
    """
    manifest = Manifest.read(folder)
    if manifest.table is None:
        return Transform(manifest)
    try:
        return Transform(manifest, (folder / PREPARATION).read_bytes(), str(folder / PREPARATION))
    except OSError as error:
        raise UserError(f"{folder / PREPARATION} cannot be read ({error}). {advice(folder)}") from None


def _fit_scale(inputs: Array, scaling: str, maximum: float | None) -> dict[str, Any]:
    train = statistics(inputs)
    shift, scale = fit(scaling, train, maximum)
    return {
        "shift": shift.tolist(),
        "scale": scale.tolist(),
        "input_mean": ((train.mean - shift) / scale).tolist(),
        "input_std": (train.std / scale).tolist(),
    }


def _fit_targets(targets: Array, about: Manifest) -> dict[str, float | None]:
    if about.is_classification:
        return {"target_shift": None, "target_scale": None}
    if log := about.target_transform:
        targets = LOGS[log][0](targets.astype(np.float64))
    shift, scale = fit("standard", statistics(targets[:, np.newaxis]), None)
    return {"target_shift": float(shift[0]), "target_scale": float(scale[0])}


def _scaled(stored: "torch.Tensor", shift: Sequence[float], scale: Sequence[float]) -> "torch.Tensor":
    """Return ``(stored - shift) * (1 / scale)`` along dimension 1 as float32; computed in float64 if `stored` is."""
    import torch

    dtype = torch.float64 if stored.dtype == torch.float64 else torch.float32

    def along_channels(values: Sequence[float]) -> torch.Tensor:
        tensor = torch.tensor(values, dtype=dtype, device=stored.device)
        return tensor.view(1, -1, *[1] * (stored.ndim - 2))

    factor = along_channels([1 / value for value in scale])
    return (stored.to(dtype) - along_channels(shift)).mul_(factor).to(torch.float32)
