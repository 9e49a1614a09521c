"""From raw rows to model inputs: a `Preprocessor` for inputs, a task for targets, and both as a `Transform`.

Everything is fitted on training rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """Rows ready for a model, or raw; `rows` are the indices within the raw array, or in a file from 1."""

    inputs: "Tensor"  # (rows, *shape), preprocessed or raw
    targets: "Tensor"  # (rows, ...), encoded by the task, or raw
    rows: "Tensor"  # (rows,) int64
    features: "Tensor | None" = None  # raw rows of a table: preprocessed `inputs`, of training rows for training
    groups: "Tensor | None" = None  # (rows,) int64, raw rows only
    times: "Tensor | None" = None  # (rows,) float64, raw rows only
    twins: "Tensor | None" = None  # (rows,) bool, raw test rows of a table: whether another split has equal inputs


@dataclass(frozen=True)
class Fitted:
    """The result of a fit on training rows: entries of the manifest, and the content of a file beside it."""

    entries: Mapping[str, Any]
    stored: bytes | None = None


@dataclass(frozen=True)
class Probes:
    """Inputs to ask a model about one by one, to see what it goes by.

    Attributes:
        noun: what each of them is, in the singular.
        names: of each.
        inputs: raw rows ``(1 + names, ...)``; the first is an empty row, without any of them.
    """

    noun: str
    names: Sequence[str]
    inputs: "Tensor"


@dataclass(frozen=True)
class Facts:
    """What a report says of the test rows of one kind of data alone.

    Attributes:
        title: of its section.
        sentences: about the rows.
        noun: what the rows are told apart by, such as how many neighbors a node has.
        names: the values of that.
        places: int64 ``(rows,)``: which of `names` each row has. The report gives the score of each.
    """

    title: str
    sentences: Sequence[str]
    noun: str
    names: Sequence[str]
    places: Array


class Preprocessor(ABC):
    """Maps raw inputs to model inputs, in the same way for training, validation and test rows and for prediction.

    Your own is a subclass, named by its dotted path in the reader's result
    (`hypermap.datasets.images.Raw.preprocessor`).

    Attributes:
        file: the name of its file, if it stores one.
        manifest: with the fitted entries.
        stored: the file's content, which is never unpickled.
        origin: the file's name in errors.
    """

    file: ClassVar[str] = "preprocessor.json"

    def __init__(self, manifest: Manifest, stored: bytes | None = None, origin: str = "") -> None:
        self.manifest = manifest
        self.stored = stored
        self.origin = origin or self.file

    @classmethod
    @abstractmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Fit to raw training rows.

        The entries may include `shape`, of a row of the model's inputs; `dtype`, if not float32; and `extras`, which
        are passed to a network whose constructor takes them by name.

        Where the reader's `Raw` has arrays that all rows share, such as a graph, these are a third argument, `shared`.

        Raises:
            UserError: the settings do not fit these rows.
        """

    @classmethod
    def fit_to(cls, inputs: Array, targets: Array, info: Manifest, **shared: Any) -> Fitted:
        """Fit to raw training rows and their raw targets; for a preprocessor that does not need targets, `fit`.

        Raises:
            UserError: the settings do not fit these rows.
        """
        return cls.fit(inputs, info, **shared)

    @property
    def shared(self) -> Mapping[str, Array] | None:
        """The arrays of `Raw.shared`, which another fit is given; None if there are none."""
        return None

    @property
    def extras(self) -> Mapping[str, Any]:
        """What a network, or a model of scikit-learn, is given if its constructor takes it by name."""
        return self.manifest.extras

    @abstractmethod
    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return raw rows as model inputs, on the same device."""

    def features(self, inputs: Array) -> Array:
        """Return the same of an array; a preprocessor that computes without torch needs none to be installed here."""
        import torch

        found: Array = self(torch.from_numpy(inputs)).numpy()
        return found

    def training_rows(self, inputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the raw rows that this was fitted to as model inputs for training.

        They are those of any other rows, unless targets had a part in the fit.
        """
        return self(inputs)

    def lengths(self, features: "Tensor") -> "Tensor | None":
        """Return how long each row of a model's inputs is, int64 ``(rows,)``, if rows are padded to one length.

        Batches in training are then of rows of similar length.
        """
        return None

    def words(self, inputs: Array) -> Sequence[str] | None:
        """Return each raw row as a reader of the report sees it, if words say it."""
        return None

    def points(self, features: "Tensor") -> Array | None:
        """Return rows of a model's inputs as points ``(rows, n)`` for a map; None where distances say nothing."""
        found: Array = features.flatten(1).cpu().numpy()
        return found

    def probes(self) -> Probes | None:
        """Return inputs that show what a model goes by, for the report."""
        return None

    def facts(self, inputs: Array, targets: Array) -> Facts | None:
        """Return what a report says of raw test rows, and their targets, for this kind of data alone."""
        return None

    def module(self) -> "nn.Module":
        """Return the same in torch, for an export.

        Raises:
            UserError: there is no such module.
        """
        raise UserError(f"{type(self).__name__} has no module, so that no network behind it can be exported.")


def locate_preprocessor(manifest: Manifest) -> type[Preprocessor]:
    """Return the class of a data set's preprocessor: its own, or that of a table with a schema, or `Scaling`.

    Raises:
        UserError: there is none at its path.
    """
    ours = "table_preprocessor.TablePreprocessor" if manifest.table is not None else "scaling.Scaling"
    path = manifest.preprocessor or f"hypermap.data.{ours}"
    found = locate(path)
    if not (isinstance(found, type) and issubclass(found, Preprocessor)):
        raise UserError(f"{path} is no preprocessor: one is a subclass of hypermap.data.preprocessor.Preprocessor.")
    return found


@dataclass(frozen=True)
class Transform:
    """The fit on training rows, as a manifest's entries and the content of a preprocessor's file."""

    manifest: Manifest
    stored: bytes | None = None
    origin: str = field(default="", compare=False)  # the file's name in errors

    @cached_property
    def task(self) -> Task:
        """The task of the data.

        Raises:
            UserError: it cannot be imported.
        """
        return make_task(self.manifest)

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """The preprocessor of the inputs.

        Raises:
            UserError: it cannot be imported.
        """
        return locate_preprocessor(self.manifest)(self.manifest, self.stored, self.origin)

    @classmethod
    def fitted(
        cls, inputs: Array, targets: Array, about: Manifest, shared: Mapping[str, Array] | None = None
    ) -> "Transform":
        """Fit to raw training rows, and what all rows share; return `about` with its fitted entries replaced.

        Raises:
            UserError: the settings do not fit these rows.
        """
        given = {} if shared is None else {"shared": shared}
        of_inputs = locate_preprocessor(about).fit_to(inputs, targets, about, **given)
        of_targets = locate_task(about.task).fit(targets, about)
        fitted_on = {"split": "train", "rows": len(inputs)}
        return cls(replace(about, fitted_on=fitted_on, **of_targets, **of_inputs.entries), of_inputs.stored)

    def refit(self, train: TensorSplit) -> "Transform":
        """Return the same, refitted on these raw rows."""
        inputs, targets = train.inputs.cpu().numpy(), train.targets.cpu().numpy()
        return Transform.fitted(inputs, targets, self.manifest, self.preprocessor.shared)

    def __call__(self, raw: TensorSplit) -> TensorSplit:
        """Return raw rows as a model sees them."""
        return TensorSplit(self.features(raw), self.task.encode(raw.targets), raw.rows)

    def training_rows(self, raw: TensorSplit) -> TensorSplit:
        """Return the raw rows that this was fitted to as a model learns from them (`Preprocessor.training_rows`)."""
        features = raw.features
        if features is None:
            features = self.preprocessor.training_rows(raw.inputs, raw.targets)
        return TensorSplit(features, self.task.encode(raw.targets), raw.rows)

    def features(self, raw: TensorSplit) -> "Tensor":
        """Return the inputs of raw rows as a model sees them, on their device."""
        return self.preprocessor(raw.inputs) if raw.features is None else raw.features

    def write(self, folder: Path) -> None:
        """Write manifest.json, and the preprocessor's file if any, into `folder`."""
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
