"""From raw rows to what a model is given: a `Preprocessor` for inputs, a task for targets, and both as a `Transform`.

All that is fitted is fitted on training rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hypermap.core import files
from hypermap.core.errors import UserError
from hypermap.core.instantiate import locate
from hypermap.core.typing import Array
from hypermap.data.manifest import MANIFEST, Manifest, advice
from hypermap.tasks.base import Task, locate_task, make_task

if TYPE_CHECKING:  # preprocessing does not need torch, and a script's --help should not wait for it
    from torch import Tensor, nn


@dataclass(frozen=True)
class TensorSplit:
    """Rows ready for a model, or raw; `rows` are the indices within the raw array, or of a file from 1."""

    inputs: "Tensor"  # (rows, *shape), as the preprocessor makes them, or raw
    targets: "Tensor"  # (rows, ...), as the task encodes them, or raw
    rows: "Tensor"  # (rows,) int64
    features: "Tensor | None" = None  # raw rows of a table: `inputs` as the whole training split prepares them
    groups: "Tensor | None" = None  # (rows,) int64, raw rows only
    times: "Tensor | None" = None  # (rows,) float64, raw rows only


@dataclass(frozen=True)
class Fitted:
    """What was fitted on training rows: entries of the manifest, and the content of a file beside it."""

    entries: Mapping[str, Any]
    stored: bytes | None = None


class Preprocessor(ABC):
    """From raw inputs to what a model is given: the same for training, validation and test rows, and to predict.

    One of your own is a subclass, named by its dotted path in what the reader returns
    (`hypermap.datasets.images.Raw.preprocessor`).

    Attributes:
        file: the name of its file, where it stores something.
        manifest: with what was fitted.
        stored: the file's content, which is data: it is never unpickled.
        origin: what an error calls the file.
    """

    file: ClassVar[str] = "preprocessor.json"

    def __init__(self, manifest: Manifest, stored: bytes | None = None, origin: str = "") -> None:
        self.manifest = manifest
        self.stored = stored
        self.origin = origin or self.file

    @classmethod
    @abstractmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Return what is fitted to raw training rows.

        Among the entries may be `shape`, of a row as a model is given it; `dtype`, where it is not float32; and
        `extras`, which a network is given if its constructor takes them by name.

        Raises:
            UserError: the settings do not suit these rows.
        """

    @abstractmethod
    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return raw rows as a model is given them, on the same device."""

    def module(self) -> "nn.Module":
        """Return the same in torch, for an export.

        Raises:
            UserError: there is no such module.
        """
        raise UserError(f"{type(self).__name__} has no module, so that no network behind it can be exported.")


def locate_preprocessor(manifest: Manifest) -> type[Preprocessor]:
    """Return the class of a data set's preprocessor: its own, or that of a table with a schema, or `Scaling`.

    Raises:
        UserError: none stands at its path.
    """
    ours = "table_preprocessor.TablePreprocessor" if manifest.table is not None else "scaling.Scaling"
    path = manifest.preprocessor or f"hypermap.data.{ours}"
    found = locate(path)
    if not (isinstance(found, type) and issubclass(found, Preprocessor)):
        raise UserError(f"{path} is no preprocessor: one is a subclass of hypermap.data.preprocessor.Preprocessor.")
    return found


@dataclass(frozen=True)
class Transform:
    """What was fitted on training rows, as a manifest's entries and the content of a preprocessor's file."""

    manifest: Manifest
    stored: bytes | None = None
    origin: str = ""  # what an error calls the file

    @cached_property
    def task(self) -> Task:
        """What is predicted.

        Raises:
            UserError: it cannot be imported.
        """
        return make_task(self.manifest)

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """From raw inputs to what a model is given.

        Raises:
            UserError: it cannot be imported.
        """
        return locate_preprocessor(self.manifest)(self.manifest, self.stored, self.origin)

    @classmethod
    def fitted(cls, inputs: Array, targets: Array, about: Manifest) -> "Transform":
        """Fitted on raw training rows; of `about` what was fitted is replaced.

        Raises:
            UserError: the settings do not suit these rows.
        """
        of_inputs = locate_preprocessor(about).fit(inputs, about)
        of_targets = locate_task(about.task).fit(targets, about)
        fitted_on = {"split": "train", "rows": len(inputs)}
        return cls(replace(about, fitted_on=fitted_on, **of_targets, **of_inputs.entries), of_inputs.stored)

    def refit(self, train: TensorSplit) -> "Transform":
        """Return the same, fitted anew on these raw rows."""
        return Transform.fitted(train.inputs.cpu().numpy(), train.targets.cpu().numpy(), self.manifest)

    def __call__(self, raw: TensorSplit) -> TensorSplit:
        """Return raw rows as a model learns from them."""
        return TensorSplit(self.features(raw), self.task.encode(raw.targets), raw.rows)

    def features(self, raw: TensorSplit) -> "Tensor":
        """Return the inputs of raw rows as a model sees them, on their device."""
        return self.preprocessor(raw.inputs) if raw.features is None else raw.features

    def write(self, folder: Path) -> None:
        """Write manifest.json, and what the preprocessor stores, into `folder`."""
        for name, content in self.contents().items():
            files.write_bytes(folder / name, content)

    def contents(self) -> dict[str, bytes]:
        """Return the files that `write` writes."""
        stored = {} if self.stored is None else {locate_preprocessor(self.manifest).file: self.stored}
        return {MANIFEST: self.manifest.content()} | stored


def read_transform(folder: Path) -> Transform:
    """Return what `Transform.write` wrote.

    Raises:
        UserError: a file is missing, unreadable, or of another version of the format.
    """
    manifest = Manifest.read(folder)
    path = folder / locate_preprocessor(manifest).file
    if manifest.table is None and not path.exists():  # it stores nothing
        return Transform(manifest)
    try:
        return Transform(manifest, path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}). {advice(folder)}") from None
