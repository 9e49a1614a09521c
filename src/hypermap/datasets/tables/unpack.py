"""Detects the type of a file from its first bytes, not its name: text, Parquet, compressed, or unsupported."""

import bz2
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from hypermap.core.errors import UserError

CHUNK = 1 << 22  # bytes
DEEPEST = 3  # a gzip file in a zip archive is read; deeper nesting is malicious
LISTED = 5  # files of an archive in a message

OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
ZSTANDARD, ZIP = b"\x28\xb5\x2f\xfd", (b"PK\x03\x04", b"PK\x05\x06")  # the second of an empty archive
TAR, TAR_AT = b"ustar", 257
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
FOREIGN = {
    b"\xd0\xcf\x11\xe0": "an old file of Excel's (.xls) or of another of Microsoft's programs",
    b"ARROW1\0": "a Feather (Arrow) file", b"FEA1\0": "a Feather file", b"Obj\x01": "an Avro file",
    b"\x89HDF": "an HDF5 file", b"SQLite format 3": "a database of SQLite's", b"\x93NUMPY": "a NumPy array",
    b"$FL2@": "a file of SPSS's", b"$FL3@": "a file of SPSS's", b"<stata_dta>": "a file of Stata's",
    b"RDX2\n": "a file of R's", b"RDX3\n": "a file of R's", b"X\n\0\0": "a file of R's",
    b"\0" * 12 + b"\xc2\xea\x81\x60": "a file of SAS's", b"%PDF": "a PDF file",
    b"7z\xbc\xaf": "a 7-Zip archive", b"Rar!\x1a": "a RAR archive", b"\x04\x22\x4d\x18": "compressed with LZ4",
    b"\x1f\x9d": "compressed with compress", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"\x80\x02": "a pickle", b"\x80\x03": "a pickle", b"\x80\x04": "a pickle", b"\x80\x05": "a pickle",
}  # fmt: skip
LFS = b"version https://git-lfs"
OFFICE = {"xl/": "an Excel file", "word/": "a Word file", "ppt/": "a PowerPoint file"}
OPEN_DOCUMENT = {"spreadsheet": "a LibreOffice Calc file", "text": "a LibreOffice Writer file"}


def unpacked(path: Path, folder: Path) -> Path:
    """Return the file itself or, if compressed (gzip, bzip2, xz, Zstandard, zip of one file), its content in `folder`.

    Raises:
        UserError: it is damaged, or its content is not a table.
    """
    content = path
    for depth in range(DEEPEST + 1):
        start = _start(content)
        opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)
        _refuse(content, f"{path}" if content == path else f"{path} holds what")
        if opener is None and not start.startswith((ZSTANDARD, *ZIP)):
            break
        if depth == DEEPEST:
            raise UserError(f"{path} is packed more than {DEEPEST} times; unpack it and name what comes out.")
        target = folder / f"unpacked.{depth}"
        try:
            if opener is not None:
                _copy(opener(content, "rb"), target)
            elif start.startswith(ZIP):
                _extract(content, path, target)
            else:
                pl.scan_lines(content, glob=False).sink_csv(target, include_header=False, quote_style="never")
        except (*DAMAGED, pl.exceptions.ComputeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a fault of the disk, not the file
            raise UserError(f"{path}: truncated or damaged ({_first_line(error)}); get it again.") from error
        content = target
    if not content.stat().st_size:
        raise UserError(f"{path} is empty: it has neither a header nor rows. Export it again.")
    return content


def refuse_foreign(path: Path) -> None:
    """Refuse a file that is neither text nor Parquet, compressed or not.

    Raises:
        UserError: with the type of the file.
    """
    _refuse(path, f"{path}")


def _refuse(path: Path, called: str) -> None:
    start = _start(path)
    if start.startswith(LFS):
        raise UserError(f"{called} is a pointer of Git LFS in place of the file; fetch the file: git lfs pull.")
    kind = next((kind for magic, kind in FOREIGN.items() if start.lower().startswith(magic.lower())), None)
    if start[TAR_AT:].startswith(TAR):
        raise UserError(f"{called} is a tar archive; unpack it and name the table in it, or a list of tables.")
    if start.startswith(ZIP):
        kind = _office(path)
    if kind:
        raise UserError(f"{called} is {kind}; export the table as CSV or Parquet and name that.")


def _office(path: Path) -> str | None:
    """Return the type of a zip archive if it is a document; None for other archives, or damaged ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "[Content_Types].xml" in names:
                found = (kind for folder, kind in OFFICE.items() if any(name.startswith(folder) for name in names))
                return next(found, "a document of Microsoft Office's")
            if "mimetype" in names:
                kind = archive.read("mimetype").decode("ascii", "replace")
                found = (name for word, name in OPEN_DOCUMENT.items() if word in kind)
                return next(found, "a document of LibreOffice's")
            if names and all(name.endswith(".npy") for name in names):
                return "a NumPy archive"
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
        pass
    return None


def _extract(path: Path, called: Path, target: Path) -> None:
    """Extract the only file of a zip archive to `target`, whatever its name."""
    with zipfile.ZipFile(path) as archive:
        files = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/") and "/." not in f"/{member.filename}"
        ]
        if len(files) != 1:
            names = ", ".join(member.filename for member in files[:LISTED]) + ", ..." * (len(files) > LISTED)
            raise UserError(
                f"{called} is a zip archive of {len(files)} files{f' ({names})' * bool(files)}; unpack it and name the "
                "table, or a list of files with the same columns."
            )
        if files[0].flag_bits & 1:
            raise UserError(f"{called} is a zip archive with a password; unpack it and name the table in it.")
        try:
            _copy(archive.open(files[0]), target)
        except NotImplementedError as error:
            raise UserError(f"{called} is a zip archive that cannot be unpacked here ({error}); unpack it.") from error


def _copy(source: Any, target: Path) -> None:
    with source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, CHUNK)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(TAR_AT + len(TAR))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
