"""Preparation of a data set: from raw arrays to a folder with three splits and a manifest.

The folder holds ``train.safetensors``, ``validation.safetensors`` and ``test.safetensors``, each with raw `inputs`,
`targets` and `rows` (int64: the index within the raw array), and ``manifest.json``. The folder's transform
(`hypermap.data.preprocessor`) computes model inputs from `inputs`; for a table they are stored too, as `features`, and
the transform's scikit-learn part is ``preparation.skops``. Its test rows have `twins` as well (`TensorSplit`).
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hypermap.core import hashing
from hypermap.core.errors import UserError, near
from hypermap.core.instantiate import LABELS, check_arguments, locate
from hypermap.core.normalize import SCALINGS
from hypermap.core.typing import Array
from hypermap.data.manifest import FORMAT, Manifest
from hypermap.data.preparation import Settings, complete_rows
from hypermap.data.prepared import file_name
from hypermap.data.preprocessor import Transform
from hypermap.data.table_preprocessor import TablePreprocessor
from hypermap.data.table_rows import identities, matrix_of
from hypermap.datasets import artifact as folders
from hypermap.datasets.images import Raw
from hypermap.datasets.split import RawSplit, split
from hypermap.tasks.names import usual_task
from hypermap.tasks.regression import LOGS

Reader = Callable[..., Raw]

WRITTEN = ("data", "models", "outputs", "multirun", "reports", "studies")  # never a data set as a whole

OF_TABLES = frozenset(field.name for field in fields(Settings)) - {"scaling"}
"""Keys of a data group that only a table with a schema has."""


@dataclass(frozen=True)
class DataSettings:
    """Settings of the split and the preparation; validated on construction."""

    validation: float | None = 0.2  # share of the rows outside the test set; None if there is a published one
    test: float | None = None  # share of all rows; None if there is a published test set
    split_seed: int = 0
    scaling: str | None = None  # None: ``unit`` for images and plain tables, ``standard`` for tables with a schema
    rows: int | None = None  # maximum number of training and validation rows together; None: all
    target_transform: str | None = None  # ``log`` or ``log1p`` of the target, before it is standardized
    oversample: bool = False  # whether to repeat training rows so that all classes are as large as the largest

    def __post_init__(self) -> None:
        if self.validation is not None:
            _check_share("validation", self.validation)
        if self.test is not None:
            _check_share("test", self.test)
        _check_whole("split_seed", self.split_seed, 0)
        if self.rows is not None:
            _check_whole("rows", self.rows, 2)
        if self.target_transform not in (None, *LOGS):
            raise UserError(f"data.target_transform is {self.target_transform!r}; it is {', '.join(LOGS)} or null.")


@dataclass(frozen=True)
class Pinned:
    """The expected checksum of a table's files when they are read, and the message if it differs."""

    checksum: str  # from `file_checksum`
    message: str  # follows the files' names: ``changed during …; do …``


def prepare(folder: Path, *, reader: Reader, **settings: Any) -> Manifest:
    """Read, split and write a data set, the folder atomically; return the manifest.

    Same settings and same raw files give the same bytes. Two processes may prepare the same folder at once.

    Args:
        folder: replaced if it is a prepared data set; any other folder with content is refused.
        reader: a function that returns the raw arrays, see `hypermap.datasets.images`.
        **settings: the fields of `DataSettings`; for a table also those of `data.preparation.Settings`; all others are
            passed to `reader`.

    Raises:
        UserError: a value is out of range, the split is impossible, files change while they are read, or an error of
            `reader`.
        OSError: the disk is full, or the folder cannot be written to.
    """
    return _prepare(folder, _Wanted.of(reader, settings))


def _prepare(folder: Path, wanted: "_Wanted") -> Manifest:
    raw = wanted.read()
    raw = wanted.complete(raw) if raw.table else wanted.plain(raw)
    settings = wanted.settings
    parts = split(
        raw,
        wanted.reader.__name__,
        validation=settings.validation,
        test=settings.test,
        seed=settings.split_seed,
        row_limit=settings.rows,
    )
    _check_targets(raw, settings)
    train, twins = parts["train"], _twins(raw, parts)
    about = replace(_describe(raw, parts, wanted), twins=None if twins is None else int(twins.sum()))
    transform = Transform.fitted(train.inputs, train.targets, about, raw.shared)
    more = {"test": {} if twins is None else {"twins": twins}}
    contents = {
        file_name(name): _serialised(raw, name, part, transform, more.get(name, {})) for name, part in parts.items()
    }
    folders.write(folder, contents | transform.contents())
    return transform.manifest


def prepare_settings(folder: Path, settings: Mapping[str, Any], pinned: Pinned | None = None) -> Manifest:
    """Call `prepare` with the data group of a configuration: `_target_` is the reader's dotted path.

    Raises:
        UserError: the reader cannot be imported, the keys do not fit it, the files are no longer those `pinned`, or as
            for `prepare`.
    """
    return _prepare(folder, _Wanted.parse(settings, pinned))


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Return the fingerprint of what `prepare_settings` would write, regardless of where the raw files are (`root`).

    Raises:
        UserError: the reader cannot be imported, the keys do not fit it, or a value is out of range.
    """
    return hashing.fingerprint(_Wanted.parse(settings).identity)


def file_checksum(settings: Mapping[str, Any]) -> str | None:
    """Return the checksum of a reader's files, to detect changes; None for files with published checksums.

    Raises:
        UserError: a file is missing.
    """
    return _Wanted.parse(settings).checksum


def find_or_prepare(
    settings: Mapping[str, Any], candidates: Sequence[Path], cache: Path, pinned: Pinned | None = None
) -> Path:
    """Return a folder prepared with these settings: a candidate, else ``cache/<fingerprint>``, created if needed.

    Raises:
        UserError: as for `prepare_settings`.
    """
    wanted = _Wanted.parse(settings, pinned)
    fingerprint = hashing.fingerprint(wanted.identity)
    cached = cache / fingerprint
    for folder in [*candidates, cached]:
        if _fingerprint_of(folder) == fingerprint:
            return folder
    _prepare(cached, wanted)
    return cached


def print_notes(manifest: Manifest) -> None:
    """Print the notes on a data set to stderr."""
    for note in manifest.warnings:
        print(f"Note: {note}", file=sys.stderr)


@dataclass(frozen=True)
class _Wanted:
    """The settings of a data set, sorted by their consumers."""

    reader: Reader
    settings: DataSettings
    preparing: dict[str, Any]  # only for a table with a schema
    arguments: dict[str, Any]

    @classmethod
    def of(cls, reader: Reader, settings: Mapping[str, Any]) -> "_Wanted":
        choices, own = asdict(DataSettings()).keys(), inspect.signature(reader).parameters.keys()
        of_tables = OF_TABLES - own  # a reader's own parameters take precedence
        splits = {"test", "validation"} <= own  # such a reader splits the rows by itself
        ours = choices - own if splits else choices
        return cls(
            reader,
            DataSettings(
                **{key: value for key, value in settings.items() if key in choices}
                | dict.fromkeys(("test", "validation") if splits else ())
            ),
            {key: value for key, value in settings.items() if key in of_tables},
            {key: value for key, value in settings.items() if key not in ours | of_tables},
        )

    @classmethod
    def parse(cls, settings: Mapping[str, Any], pinned: Pinned | None = None) -> "_Wanted":
        """Return the sorted settings of a configuration's data group; files with a checksum must match `pinned`."""
        wanted = cls.of(*_parse(settings))
        if pinned is not None and wanted.checksum not in (None, pinned.checksum):
            raise UserError(f"{wanted.names} {pinned.message}")
        return wanted

    @cached_property
    def preparation(self) -> Settings:
        """Return the preprocessing settings of a table with a schema."""
        scaling: dict[str, Any] = {} if self.settings.scaling is None else {"scaling": self.settings.scaling}
        return Settings(**self.preparing, **scaling)

    @property
    def identity(self) -> dict[str, Any]:
        """Return everything that determines a prepared data set's content, but not the location of the raw files."""
        named = {key: value for key, value in self.arguments.items() if key != "root"}
        dotted = f"{self.reader.__module__}.{self.reader.__qualname__}"
        of_table = {"preparing": self.preparing, "files": self.checksum}
        if self.checksum is not None:  # perhaps a table, whose preprocessing depends on scikit-learn's version
            of_table["scikit-learn"] = metadata.version("scikit-learn")
        return {"format": FORMAT, "reader": dotted, **asdict(self.settings), "arguments": named, **of_table}

    @cached_property
    def checksum(self) -> str | None:
        """The checksum of the reader's files at the first access; None if the reader has none."""
        return self._checksum_now()

    def _checksum_now(self) -> str | None:
        fingerprint = getattr(inspect.getmodule(self.reader), "fingerprint", None)
        if fingerprint is not None:
            return str(fingerprint(self.arguments))
        if self.reader.__module__.startswith("hypermap."):  # their files have published checksums
            return None
        code = inspect.getsourcefile(inspect.unwrap(self.reader))
        return hashing.checksum_of([*self.paths, *([Path(code)] if code else [])])

    @property
    def paths(self) -> list[Path]:
        """The files and folders that the arguments name, except those that are written to here."""
        given = [value for one in self.arguments.values() for value in (one if isinstance(one, list) else [one])]
        words = [value for value in given if isinstance(value, str) and value not in ("", *WRITTEN)]
        return [path for word in words if (path := Path(word).expanduser()).exists()]

    @property
    def names(self) -> str:
        """The names of the reader's files, for messages."""
        given = [self.arguments.get(key) or [] for key in ("path", "test_path")]
        paths = [path for one in given for path in ([one] if isinstance(one, str) else one)]
        return ", ".join(paths or map(str, self.paths)) or f"What {self.reader.__name__} reads"

    def read(self) -> Raw:
        """Return the raw arrays, from files with the expected checksum."""
        before = self.checksum
        raw = self.reader(**self.arguments)
        if self._checksum_now() != before:
            raise UserError(f"{self.names} changed while it was being read: run it again.")
        return raw

    def complete(self, raw: Raw) -> Raw:
        """Return a table without the rows that ``missing=drop`` drops."""
        if self.preparation.missing != "drop" or raw.table is None:
            return raw
        columns = len(raw.table.roles)
        matrix = matrix_of(raw.inputs, columns)
        kept = complete_rows(matrix)
        tested = None if raw.test_inputs is None else complete_rows(matrix_of(raw.test_inputs, columns))
        dropped = int((~kept).sum()) + (0 if tested is None else int((~tested).sum()))
        if not kept.any():
            raise UserError("data.missing is drop, and every row has missing values: choose another, such as median.")
        if not dropped:
            return raw
        lacking = np.isnan(matrix).mean(axis=0)
        note = (
            f"{dropped:,} rows have missing values and are left out (data.missing=drop); they cannot be predicted. "
            f"Most often missing: {raw.table.matrix_names[lacking.argmax()]!r}, in {lacking.max():.0%} of the rows."
        )
        return replace(
            raw,
            inputs=raw.inputs[kept],
            targets=raw.targets[kept],
            test_inputs=_rows(raw.test_inputs, tested),
            test_targets=_rows(raw.test_targets, tested),
            groups=_rows(raw.groups, kept),
            times=_rows(raw.times, kept),
            numbers=_rows(raw.numbers, kept),
            test_numbers=_rows(raw.test_numbers, tested),
            validation_rows=_rows(raw.validation_rows, kept),
            notes=(*raw.notes, note),
        )

    def plain(self, raw: Raw) -> Raw:
        """Return the same arrays; refuse settings that only tables have."""
        if self.preparing:
            given = ", ".join(f"data.{key}" for key in self.preparing)
            raise UserError(f"{given}: for tables that have a schema (data=table), which this data set has not.")
        if self.settings.scaling not in (None, *SCALINGS):
            hint = near(str(self.settings.scaling), SCALINGS)
            raise UserError(f"data.scaling is {self.settings.scaling!r}; it is one of {', '.join(SCALINGS)}{hint}.")
        return raw


def _describe(raw: Raw, parts: Mapping[str, RawSplit], wanted: _Wanted) -> Manifest:
    """Return a manifest without fitted entries."""
    identity, settings = wanted.identity, wanted.settings
    return Manifest(
        format=FORMAT,
        fingerprint=hashing.fingerprint(identity),
        reader=identity["reader"],
        arguments=identity["arguments"],
        task=raw.task or usual_task(raw.classes),
        preprocessor=raw.preprocessor,
        classes=list(raw.classes),
        shape=list(raw.inputs.shape[1:]),
        rows={name: len(part.rows) for name, part in parts.items()},
        class_counts={name: _class_counts(raw, part) for name, part in parts.items()},
        raw_sha256=raw.checksum,
        test_published=raw.test_inputs is not None,
        split_seed=settings.split_seed,
        validation=settings.validation,
        test=settings.test,
        row_limit=settings.rows,
        scaling=wanted.preparation.scaling if raw.table else settings.scaling or "unit",
        target_columns=[asdict(column) | {"classes": list(column.classes)} for column in raw.target_columns] or (),
        maximum=None if raw.maximum is None else float(raw.maximum),
        target_transform=settings.target_transform,
        oversample=settings.oversample,
        warnings=list(raw.notes),
        **_of_table(raw, wanted),
        versions={"numpy": np.__version__, "scikit-learn": metadata.version("scikit-learn")},
    )


def _of_table(raw: Raw, wanted: _Wanted) -> dict[str, Any]:
    if raw.table is None:
        return {}
    return {"table": raw.table.as_entry(), "roles": raw.table.roles, "preparation": asdict(wanted.preparation)}


def _class_counts(raw: Raw, part: RawSplit) -> list[int]:
    """Return the number of rows per class, in the order of the classes; empty for regression."""
    return [int(np.sum(part.targets == index)) for index in range(len(raw.classes))]


def _check_targets(raw: Raw, settings: DataSettings) -> None:
    """Refuse a transform or oversampling that does not fit the targets."""
    if settings.oversample and not raw.classes:
        held = "there are several targets" if raw.target_columns else "the target is a number"
        raise UserError(f"data.oversample is true; it evens out classes, and {held}: set it to false.")
    if not settings.target_transform:
        return
    if raw.classes or raw.target_columns:
        held = "the target is a class" if raw.classes else "there are several targets"
        raise UserError(f"data.target_transform is {settings.target_transform}; {held}: set it to null.")
    least = min(float(targets.min()) for targets in (raw.targets, raw.test_targets) if targets is not None)
    if least <= (-1 if settings.target_transform == "log1p" else 0):
        other = "log1p, or null" if settings.target_transform == "log" and least > -1 else "null"
        raise UserError(
            f"data.target_transform is {settings.target_transform}; the smallest target is {least:g}: take {other}."
        )


def _twins(raw: Raw, parts: Mapping[str, RawSplit]) -> Array | None:
    """Return which test rows of a table have the inputs of a row of another split ``(rows,)``; None for no table."""
    if raw.table is None:
        return None
    from hypermap.datasets.tables.duplicates import twins

    train, validation, test = (
        identities(parts[name].inputs, len(raw.table.roles)) for name in ("train", "validation", "test")
    )
    return twins(test, np.concatenate([train, validation]))


def _serialised(raw: Raw, name: str, part: RawSplit, transform: Transform, more: Mapping[str, Array]) -> bytes:
    from safetensors.numpy import save

    arrays = {**part._asdict(), **more}
    if isinstance(transform.preprocessor, TablePreprocessor):  # it takes a while, and is the same for each training
        arrays["features"] = (
            transform.preprocessor.training_features(part.inputs, part.targets)
            if name == "train"
            else transform.preprocessor.features(part.inputs)
        )
    if name != "test" or raw.test_inputs is None:
        arrays |= {key: whole[part.rows] for key in ("groups", "times") if (whole := getattr(raw, key)) is not None}
    numbers = raw.test_numbers if name == "test" and raw.test_inputs is not None else raw.numbers
    if numbers is not None:
        arrays["rows"] = numbers[part.rows]
    content: bytes = save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    return content


def _rows(array: Array | None, kept: Array | None) -> Array | None:
    return None if array is None or kept is None else array[kept]


def _fingerprint_of(folder: Path) -> str | None:
    """Return the fingerprint of a prepared folder; None if it is not one, or incomplete."""
    try:
        manifest = Manifest.read(folder)
        whole = all((folder / file_name(name)).is_file() for name in manifest.rows)
        return str(manifest.fingerprint) if whole else None
    except (UserError, KeyError):
        return None


def _parse(settings: Mapping[str, Any]) -> tuple[Reader, dict[str, Any]]:
    """Return the reader that `_target_` names, and all values, checked against its signature."""
    target = settings.get("_target_")
    values = {key: value for key, value in settings.items() if key not in LABELS}
    ours = asdict(DataSettings()).keys() | OF_TABLES
    reader = locate(target)
    check_arguments({"_target_": target, **{key: value for key, value in values.items() if key not in ours}})
    return reader, values


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"data.{name} is {value!r}; it is a share between 0 and 1, for instance 0.2.")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"data.{name} is {value!r}; it must be a whole number, {least} or more.")
