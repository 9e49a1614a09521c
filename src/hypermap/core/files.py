"""Files that are whole or absent: every write goes to a neighbour first and is renamed into place."""

import csv
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from hypermap.core.errors import UserError
from hypermap.core.instantiate import NAME_IT, check_record

FORMULA = re.compile(r"(?![-+]?(?:\d[\d_]*\.?\d*|\.\d+|inf|nan)(?:e[-+]?\d+)?$|[-+]$)[=+\-@\t\n]", re.IGNORECASE)
"""How a text begins that is a formula to a spreadsheet: a number is none, and a sign alone is none."""
SYNCING = 8  # files brought to the disk at a time

_together: ContextVar[set[Path] | None] = ContextVar("files to bring to the disk together", default=None)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` in one step, making its folder if there is none.

    A process killed at any moment leaves the old file or the new one, never a half.

    Raises:
        OSError: the disk is full or the folder cannot be written to; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with naming(path), _created(temporary) as file:
            file.write(content)
            file.flush()
            if (together := _together.get()) is None:
                os.fsync(file.fileno())
        temporary.replace(path)
        if together is not None:
            together.add(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of the system's tell the file: where the disk is full it tells none, else a temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).parent == path.parent:
            error.filename = str(path)
        raise


def _created(path: Path) -> BinaryIO:
    """Return a new file, its folder made where there is none: to look for that first takes as long as to write."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


@contextmanager
def durable_together() -> Iterator[None]:
    """Bring to the disk at the end, side by side, what is written inside, which takes a quarter of the time.

    Each file is in its place, whole, as soon as it is written, and stays so if the process is killed. Only a loss of
    power before the end may take it; so what says that a file is there is to be written after the end. Inside of
    another such context the end is that one's.

    Raises:
        OSError: a file may not have come to the disk.
    """
    if _together.get() is not None:
        yield
        return
    written: set[Path] = set()
    token = _together.set(written)
    try:
        yield
    finally:
        _together.reset(token)
        with ThreadPoolExecutor(SYNCING) as threads:
            list(threads.map(_bring_to_disk, sorted(written)))


def _bring_to_disk(path: Path) -> None:
    with suppress(FileNotFoundError):  # it was removed since
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by UTF-8 `text` in one step."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by indented JSON, the keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file at `path` by a table with a header; floats are written so that they read back exactly.

    Texts are written as `csv_text` has them.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writerow({column: csv_text(column) for column in columns})
    writer.writerows({column: csv_text(value) for column, value in row.items()} for row in rows)
    write_text(path, buffer.getvalue())


def csv_text(value: Any) -> Any:
    """Return a cell with an apostrophe before a text that a spreadsheet would run as a formula; a number is none."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"\r\n?", "\n", value)  # Python quotes no carriage return, which would end the row
    return f"'{text}" if FORMULA.match(text) else text


def without_apostrophe(text: str) -> str:
    """Return the text that `csv_text` was given."""
    return text[1:] if text[:1] == "'" and FORMULA.match(text[1:]) else text


def read_slice(path: Path) -> dict[str, Any]:
    """Return the part of the configuration that the compose stage wrote to `path`.

    Raises:
        UserError: it is missing or damaged, or names code that is no part.
    """
    remedy = "`dvc repro` writes it, as does python src/compose.py."
    try:
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not here. {remedy}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). {remedy}") from None
    if not isinstance(configuration, dict):
        raise UserError(f"{path} holds no configuration. {remedy}")
    check_record(configuration, str(path), remedy=NAME_IT)
    configuration.pop("code_sha256", None)  # is for DVC to compare
    return configuration
