"""A model's folder as one file: a zip archive of its files, which `predict.py` reads like the folder."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from hypermap.core.errors import UserError
from hypermap.core.files import files_below
from hypermap.training import artifacts

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold
MOST_BYTES = 2**32  # of an archive's files: more is no model, but made to fill the disk


def packed(model: Path) -> bytes:
    """Return the archive of a model's files; equal models give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in files_below(model):
            name = file.relative_to(model).as_posix()
            if _known(name):
                archive.writestr(zipfile.ZipInfo(name, LONG_AGO), file.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a model's folder: `path` itself, or one with the content of the archive that it is.

    Raises:
        UserError: the archive is damaged, or holds other files than those of a model.
    """
    if not path.is_file():
        yield path
        return
    with TemporaryDirectory(prefix="hypermap-") as made:
        folder = Path(made)
        try:
            with zipfile.ZipFile(path) as archive:
                if odd := [entry.filename for entry in archive.infolist() if not _known(entry.filename)]:
                    raise UserError(f"{path} is no model that make export has written: it holds {odd[0]!r}.")
                if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                    raise UserError(f"{path} is no model: its files are larger than {MOST_BYTES / 2**30:g} GiB.")
                archive.extractall(folder)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
            raise UserError(f"{path} cannot be read ({error}). Export the model again: make export") from None
        yield folder


def _known(name: str) -> bool:
    """Return whether a file, by its name in a model's folder, is one of the model or of an ensemble's member."""
    parts = PurePosixPath(name).parts
    if len(parts) == 3 and parts[0] == artifacts.MEMBERS and parts[1].isdecimal():
        parts = parts[2:]
    return len(parts) == 1 and parts[0] in artifacts.FILES
