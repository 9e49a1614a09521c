"""From published rows to what a model is given, and from what it answers back to the target's own unit.

Images and plain tables of numbers are scaled, ``(inputs - shift) / scale``, one number a channel or feature; tables
that have a schema are prepared by `hypermap.data.preparation`. All that is fitted is fitted on training rows.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core import files
from hypermap.core.errors import UserError
from hypermap.core.normalize import fit, scaled, statistics
from hypermap.core.typing import Array
from hypermap.data.manifest import MANIFEST, Manifest, advice
from hypermap.data.preparation import Preparation, Settings
from hypermap.tasks.base import Task, locate_task, make_task

if TYPE_CHECKING:  # preparing needs no torch, and a script's --help should not wait for it
    import torch

PREPARATION = "preparation.skops"


@dataclass(frozen=True)
class TensorSplit:
    """Rows ready for a model, or as published; `rows` are the indices within the raw array, or of a file from 1."""

    inputs: "torch.Tensor"  # (rows, *shape) float32, scaled or prepared; or of the published type
    targets: "torch.Tensor"  # (rows,) int64 class index, or float32 standardised (regression); or as published
    rows: "torch.Tensor"  # (rows,) int64
    features: "torch.Tensor | None" = (
        None  # published rows of a table: `inputs` as the whole training split prepares them
    )
    groups: "torch.Tensor | None" = None  # (rows,) int64, published rows only
    times: "torch.Tensor | None" = None  # (rows,) float64, published rows only


@dataclass(frozen=True)
class Transform:
    """What was fitted on training rows, as a manifest's entries and, for a table, a stored preparation."""

    manifest: Manifest
    stored: bytes | None = None  # preparation.skops
    origin: str = PREPARATION  # what an error calls that

    @cached_property
    def task(self) -> Task:
        """What is predicted.

        Raises:
            UserError: it cannot be imported.
        """
        return make_task(self.manifest)

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
        """Fitted on published training rows; of `about` what was fitted is replaced.

        Raises:
            UserError: the settings do not suit these rows.
        """
        entries: dict[str, Any] = {"fitted_on": {"split": "train", "rows": len(inputs)}}
        entries |= locate_task(about.task).fit(targets, about)
        if about.table is None:
            return cls(replace(about, **_fit_scale(inputs, about.scaling, about.maximum), **entries))
        from hypermap.core import skops_io

        preparation = Preparation.fit(inputs, about.roles, Settings(**about.preparation))
        layout = preparation.layout
        entries |= {"shape": [layout.width], "layout": layout.as_entry()}
        return cls(replace(about, **entries), skops_io.dumps(preparation.transformer))

    def refit(self, train: TensorSplit) -> "Transform":
        """Return the same, fitted anew on these published rows."""
        return Transform.fitted(train.inputs.cpu().numpy(), train.targets.cpu().numpy(), self.manifest)

    def __call__(self, raw: TensorSplit) -> TensorSplit:
        """Published rows as a model learns from them."""
        return TensorSplit(self.features(raw), self.task.encode(raw.targets), raw.rows)

    def features(self, raw: TensorSplit) -> "torch.Tensor":
        """Return the inputs of published rows as a model sees them, float32 on their device."""
        import torch

        if raw.features is not None:
            return raw.features
        if self.preparation is None:
            return scaled(raw.inputs, self.manifest.shift, self.manifest.scale)
        return torch.from_numpy(self.preparation.transform(raw.inputs.cpu().numpy())).to(raw.inputs.device)

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
