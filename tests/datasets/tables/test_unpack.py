"""Files go by their first bytes: what is packed is read, and what is no table is told for what it is."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from base64 import b64decode
from pathlib import Path

import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.tables.readers import open_table

TABLE = b"number,word\n1.5,A\n2,\n"
# TABLE by the zstd program, version 1.5.
ZSTANDARD = b64decode("KLUv/QRYqQAAbnVtYmVyLHdvcmQKMS41LEEKMiwKY4wfXg==")


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return stream.getvalue()


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        member = tarfile.TarInfo("my.csv")
        member.size = len(TABLE)
        packed.addfile(member, io.BytesIO(TABLE))
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    pl.read_csv(TABLE).write_parquet(stream)
    return stream.getvalue()


def arrow() -> bytes:
    stream = io.BytesIO()
    pl.read_csv(TABLE).write_ipc(stream)
    return stream.getvalue()


EXCEL = archive({"[Content_Types].xml": b"", "xl/workbook.xml": b""})


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        gzip.compress(TABLE),
        bz2.compress(TABLE),
        lzma.compress(TABLE),
        ZSTANDARD,
        archive({"data/my.csv": TABLE, "__MACOSX/data/._my.csv": b"\0\1", "data/": b""}),
        archive({"my.csv.gz": gzip.compress(TABLE)}),
        parquet(),
        gzip.compress(parquet()),
    ],
    ids=["text", "gzip", "bzip2", "xz", "zstandard", "zip", "gzip in zip", "parquet", "gzip of parquet"],
)
@pytest.mark.parametrize("name", ["my.csv", "my.xls", "table"])
def test_a_table_is_read_whatever_its_name(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    (batch,) = open_table([tmp_path / name]).batches()
    assert batch.with_columns(pl.col("number").cast(pl.Float64)).rows() == [(1.5, "A"), (2.0, None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EXCEL, r"my\.csv is an Excel file; export the table as CSV or Parquet"),
        (archive({"book.xlsx": EXCEL}), r"my\.csv holds what is an Excel file"),
        (archive({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}), "is a LibreOffice Calc file"),
        (archive({"a.npy": b"", "b.npy": b""}), "is a NumPy archive"),
        (archive({"train.csv": TABLE, "test.csv": TABLE}), r"zip archive of 2 files \(train\.csv, test\.csv\); unpack"),
        (archive({}), "zip archive of 0 files; unpack"),
        (archive({"my.csv": TABLE})[:80], "truncated or damaged"),
        (gzip.compress(gzip.compress(gzip.compress(gzip.compress(TABLE)))), "packed more than 3 times"),
        (gzip.compress(b""), "is empty"),
        (ZSTANDARD[:-8], "truncated or damaged"),
        (tar(), "is a tar archive; unpack"),
        (arrow(), r"is a Feather \(Arrow\) file"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500), r"Excel's \(\.xls\)"),
        (b"SQLite format 3\0" + bytes(84), "is a database of SQLite's"),
        (b"\x80\x04\x95", "is a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS .*git lfs pull"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_told_for_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "my.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_table([tmp_path / "my.csv"])


@pytest.mark.parametrize("name", ["ORC", "PDF", "Rar", "RDX", "PKs", "BZ", "arrow"])
def test_a_column_may_be_called_like_a_format(tmp_path: Path, name: str) -> None:
    (tmp_path / "my.csv").write_text(f"{name},y\n1,2\n")
    assert open_table([tmp_path / "my.csv"]).columns == (name, "y")
