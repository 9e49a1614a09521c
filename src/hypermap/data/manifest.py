"""The manifest of a prepared data set: ``manifest.json`` beside its splits, and beside each model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from hypermap.core.errors import UserError

FORMAT = 3
MANIFEST = "manifest.json"
# Entries that only tables with a schema have, only images and plain tables, or only a task of a person's own.
OPTIONAL = (
    "table", "roles", "preparation", "layout", "shift", "scale", "input_mean", "input_std", "target",
    "preprocessor", "dtype", "extras", "target_columns", "twins", "arithmetic",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A data set, its split and preprocessing, and what was fitted on its training rows, as in the JSON file.

    Attributes:
        format: version of the format of prepared data.
        fingerprint: of everything that determines the content.
        reader: the dotted path of the function that read the raw data.
        arguments: the reader's.
        task: ``classification``, ``regression``, or the dotted path of a task of one's own.
        classes: class names; empty for regression.
        shape: of a row as a model sees it.
        rows: number of rows by split.
        class_counts: number of rows of each class, by split.
        raw_sha256: of each raw file.
        test_published: whether the test set is a published one.
        split_seed: of the split.
        validation: the share of the rows outside the test set; None if the validation set is a published one.
        test: the share of all rows; None if the test set is a published one.
        row_limit: maximum number of training and validation rows together; None for all.
        scaling: of numbers.
        maximum: of raw inputs, if known.
        target_transform: ``log``, ``log1p`` or None.
        oversample: whether classes are oversampled to equal size for training.
        warnings: for the user.
        table: the schema's entry; like everything else that only tables with a schema have, None for others.
        roles: of the matrix's columns.
        preparation: the settings of a table's preprocessing.
        versions: of the libraries that computed the data.
        shift: of each channel or feature; like the next three, empty for tables with a schema.
        scale: likewise: a network sees ``(inputs - shift) / scale``.
        input_mean: of each channel or feature as a network sees it.
        input_std: likewise.
        fitted_on: the split, and its number of rows.
        target_shift: of a regression target, as for inputs.
        target_scale: likewise.
        layout: the columns of a prepared row of a table.
        target: what a task of one's own has fitted.
        preprocessor: the dotted path of a preprocessor of one's own.
        dtype: of a row as a model is given it, where it is not ``float32``.
        extras: what a network is given, beside the shape, if its constructor takes it by name.
        target_columns: `name` and `classes` of each column of targets, where they are several.
        arithmetic: the picked features of two numbers (`hypermap.data.arithmetic`).
        twins: number of a table's test rows whose inputs equal those of a row outside the test set.
    """

    format: int = FORMAT
    fingerprint: str = ""
    reader: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    task: str
    classes: Sequence[str]
    shape: Sequence[int]
    rows: Mapping[str, int] = field(default_factory=dict)
    class_counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    raw_sha256: Any = ""
    test_published: bool = False
    split_seed: int = 0
    validation: float | None = 0.2
    test: float | None = None
    row_limit: int | None = None
    scaling: str = "unit"
    maximum: float | None = None
    target_transform: str | None = None
    oversample: bool = False
    warnings: Sequence[str] = ()
    table: Any = None
    roles: Any = None
    preparation: Any = None
    versions: Mapping[str, str] = field(default_factory=dict)
    shift: Sequence[float] = ()
    scale: Sequence[float] = ()
    input_mean: Sequence[float] = ()
    input_std: Sequence[float] = ()
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    target_shift: Any = None  # float; None for classes
    target_scale: Any = None  # float; None for classes
    layout: Any = None
    target: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: str | None = None
    dtype: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    target_columns: Sequence[Mapping[str, Any]] = ()
    arithmetic: Sequence[Mapping[str, Any]] = ()
    twins: int | None = None

    @property
    def width(self) -> int:
        """The number of classes, or of targets where they are several; 0 for one number."""
        return len(self.classes) or len(self.target_columns)

    @property
    def named(self) -> list[str]:
        """The dotted paths of a person's own code that the data calls for, its reader's aside."""
        return [path for path in (self.task, self.preprocessor or "") if "." in path]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest of a prepared folder.

        Raises:
            UserError: ``manifest.json`` is missing, unreadable, or of another version of the format.
        """
        path = folder / MANIFEST
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder} holds no prepared data: no {MANIFEST}. {advice(folder)}") from error
        except ValueError as error:
            raise UserError(f"{path} is unreadable ({error}). {advice(folder)}") from error
        try:
            if entries["format"] != FORMAT:
                raise KeyError("format")
            return cls(**entries)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} was written by another version. {advice(folder)}") from error

    def content(self) -> bytes:
        """Return the content of the file that `read` reads."""
        entries = {own.name: getattr(self, own.name) for own in fields(self)}
        own = {key: value for key, value in entries.items() if key not in OPTIONAL or value not in (None, (), [], {})}
        return (json.dumps(own, indent=2, allow_nan=False) + "\n").encode()


def advice(folder: Path) -> str:
    """Return advice on a prepared folder that cannot be read."""
    return f"Run `dvc repro` or `python src/preprocess.py`; if {folder} is damaged, delete it first."
