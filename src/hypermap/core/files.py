"""Atomic file writes: every write goes to a temporary file beside the target, which is renamed into place."""

import base64
import csv
import io
import json
import os
import re
import secrets
import shutil
import zlib
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
"""Matches the beginning of text that a spreadsheet takes for a formula: not a number, nor a sign alone."""
SYNCING = 8  # files synced to disk at a time

_together: ContextVar[set[Path] | None] = ContextVar("files to bring to the disk together", default=None)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` atomically, creating its folder if needed.

    A process killed at any moment leaves the old file or the new one, never a partial one.

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
    """Make OS errors name the file: on a full disk they name none, otherwise the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).parent == path.parent:
            error.filename = str(path)
        raise


def _created(path: Path) -> BinaryIO:
    """Return a new file, creating its folder if that fails: to check first takes as long as writing."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


@contextmanager
def durable_together() -> Iterator[None]:
    """Sync the files written in this context in parallel at its end, which takes a quarter of the time.

    Each file is complete and in its place as soon as it is written, and remains so if the process is killed. Only a
    power loss before the end can lose it; so write whatever refers to a file after the end. A nested context ends with
    the outer one.

    Raises:
        OSError: a file may not have reached the disk.
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
    """Replace the file at `path` by UTF-8 `text` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by indented JSON, the keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file at `path` by a CSV table with a header; floats are written so that they read back exactly.

    Text cells are escaped by `csv_text`.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writerow({column: csv_text(column) for column in columns})
    writer.writerows({column: csv_text(value) for column, value in row.items()} for row in rows)
    write_text(path, buffer.getvalue())


def csv_text(value: Any) -> Any:
    """Return a cell, with an apostrophe before text that a spreadsheet would run as a formula (numbers are not)."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"\r\n?", "\n", value)  # Python does not quote a carriage return, which would end the row
    return f"'{text}" if FORMULA.match(text) else text


def without_apostrophe(text: str) -> str:
    """Undo `csv_text`."""
    return text[1:] if text[:1] == "'" and FORMULA.match(text[1:]) else text


def read_slice(path: Path) -> dict[str, Any]:
    """Return the part of the configuration that the compose stage wrote to `path`.

    Raises:
        UserError: it is missing or damaged, or names code that is not a part (see `instantiate.is_part`).
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
    configuration.pop("code_sha256", None)  # only for DVC to compare
    return configuration


def packed(texts: Mapping[str, str]) -> str:
    """Return named texts as one short text of ASCII."""
    return base64.b85encode(zlib.compress(json.dumps(texts).encode(), 9)).decode("ascii")


def unpacked(text: str) -> dict[str, str]:
    """Return the texts that `packed` was given.

    Raises:
        ValueError: it was not given any.
    """
    try:
        texts = json.loads(zlib.decompress(base64.b85decode(text)))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not isinstance(texts, dict):
        raise ValueError("these are no named texts")
    return {str(name): str(value) for name, value in texts.items()}


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `folder` at the end: all or nothing, also if the process dies.

    If another process was faster, its own is kept.
    """
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder, at any depth, sorted, but for hidden ones and those of hidden folders."""
    found = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))
