"""Files that are whole or absent: every write goes to a neighbour first and is renamed into place."""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hypermap.errors import UserError


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
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private; ours are as public as any other
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
