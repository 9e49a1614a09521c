"""Writes a table batch by batch, as CSV or Parquet depending on its suffix, and atomically."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hypermap.core.errors import UserError
from hypermap.core.files import csv_text

if TYPE_CHECKING:  # mistakes in the command are reported before polars is imported
    from polars import DataFrame, Series

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"

Write = Callable[["DataFrame"], None]


def check_output(path: Path, *inputs: Path) -> None:
    """Refuse a file that cannot be written here, before anything is computed for it.

    Raises:
        UserError: its suffix is not supported, its folder does not exist, or it is a folder or one of the inputs.
    """
    allowed = (*SEPARATORS, PARQUET)
    if path.suffix.lower() not in allowed:
        raise UserError(f"output={path}: the suffix says the format. There are: {', '.join(allowed)}.")
    if path.is_dir():
        raise UserError(
            f"output={path} is a folder; name a file in it, such as {path / ('predictions' + path.suffix)}."
        )
    if not path.parent.is_dir():
        raise UserError(f"output={path}: there is no folder {path.parent}. Make it first, or name another.")
    if path.exists() and any(path.samefile(given) for given in inputs):
        raise UserError(f"output={path} is the input too; predictions would replace it. Name another file.")


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Yield a function that appends a batch of rows; the file appears when the context ends without an error.

    All batches have the same columns. An existing file of this name is replaced.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        whole = folder / f"whole{path.suffix}"  # a name that no part has
        with (_parquet if path.suffix.lower() == PARQUET else _csv)(whole) as write:
            yield write
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    """Write CSV: numbers read back exactly; missing values are empty."""
    separator = SEPARATORS[path.suffix.lower()]
    with path.open("wb") as file:

        def write(batch: "DataFrame") -> None:
            plain = batch.with_columns(*(_inert(column) for column in batch if str(column.dtype) == "String"))
            plain.rename(csv_text).write_csv(file, include_header=file.tell() == 0, separator=separator)

        yield write


def _inert(column: "Series") -> "Series":
    """Return a text column escaped by `csv_text`, applied once per distinct text."""
    texts = [text for text in column.unique().to_list() if text is not None]
    return column.replace({text: csv_text(text) for text in texts if csv_text(text) != text})


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Write Parquet: a part for each batch, then one file of all parts, since polars cannot append."""
    import polars

    parts: list[Path] = []

    def write(batch: "DataFrame") -> None:
        parts.append(path.with_name(f"part {len(parts)}{PARQUET}"))
        batch.write_parquet(parts[-1])

    yield write
    polars.scan_parquet(parts, glob=False).sink_parquet(path)  # a folder's name may contain brackets
