"""Files that are whole or absent: every write goes to a neighbour first and is renamed into place."""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hypermap.errors import UserError

SYNCING = 8  # files brought to the disk at a time

_together: ContextVar[set[Path] | None] = ContextVar("files to bring to the disk together", default=None)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` in one step, making its folder if there is none.

    A process killed at any moment leaves the old file or the new one, never a half.

    Raises:
        OSError: the disk is full or the folder cannot be written to; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if (together := _together.get()) is None:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private; ours are as public as any other
        temporary.replace(path)
        if together is not None:
            together.add(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    """Replace the file at `path` by a table with a header; floats are written so that they read back exactly."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_slice(path: Path) -> dict[str, Any]:
    """The part of the configuration that the compose stage wrote to `path`.

    Raises:
        UserError: it is missing or damaged.
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
    return configuration


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that name a JSON-like value: equal values, equal names; key order is ignored."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


@cache
def fingerprint_of_code(folder: Path, *others: Path) -> str:
    """The SHA-256 of the Python files below a folder, and of others: as they were at the first call, when imported."""
    sources = {*folder.rglob("*.py"), *others}
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
