"""Atomic writes of a folder of files, safe against concurrent writers."""

import shutil
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from errno import EEXIST, ENOTEMPTY
from pathlib import Path

from hypermap.core import files
from hypermap.core.errors import UserError

STALE_S = 24 * 3600.0  # a temporary folder older than this was left by a killed process


def write(folder: Path, contents: Mapping[str, bytes], before: Collection[str] = ()) -> None:
    """Make `folder` contain exactly these files, by building a temporary folder and renaming it into place.

    If another process wrote identical files there first, they are kept. A folder with some or all of these names is
    replaced, or with names of `before`, which other versions of its content have; one with any other content is
    refused.

    Raises:
        UserError: the folder has other files.
        OSError: the disk is full, or the folder cannot be written to; the old folder is untouched.
    """
    known = {*contents, *before}
    _refuse_foreign(folder, known)
    _remove_stale(folder)
    built = _neighbour(folder)
    built.mkdir(parents=True)
    try:
        for name, content in contents.items():
            files.write_bytes(built / name, content)
        _publish(built, folder, contents, known)
    finally:
        shutil.rmtree(built, ignore_errors=True)  # after the rename, this path no longer exists


def _publish(built: Path, folder: Path, contents: Mapping[str, bytes], known: Collection[str]) -> None:
    while True:
        try:
            built.rename(folder)
            return
        except OSError as error:
            if error.errno not in (EEXIST, ENOTEMPTY):
                raise
        if _holds(folder, contents):
            return
        _set_aside(folder, known)


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    """Return whether the folder has exactly these files already."""
    try:
        names = _names(folder)
        return names == set(contents) and all((folder / n).read_bytes() == contents[n] for n in names)
    except FileNotFoundError:
        return False


def _set_aside(folder: Path, known: Collection[str]) -> None:
    """Remove a folder atomically."""
    _refuse_foreign(folder, known)
    old = _neighbour(folder)
    with suppress(FileNotFoundError):  # another process removed it
        folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(folder: Path, known: Collection[str]) -> None:
    with suppress(FileNotFoundError):
        if foreign := sorted(_names(folder) - set(known)):
            raise UserError(
                f"{folder} holds {foreign[0]!r}, which does not belong to what is written there, and the folder "
                "would be replaced as a whole. Name another folder, or move what is in it."
            )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _neighbour(folder: Path) -> Path:
    return folder.parent / f"{_prefix(folder)}{uuid.uuid4().hex}"


def _prefix(folder: Path) -> str:
    return f".{folder.name}.partial-"


def _remove_stale(folder: Path) -> None:
    with suppress(FileNotFoundError):  # no parent yet, or another process is removing them
        for path in folder.parent.iterdir():
            if path.name.startswith(_prefix(folder)) and time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)
