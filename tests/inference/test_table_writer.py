import csv

import polars
import pytest

from hypermap.core.errors import UserError
from hypermap.inference.table_writer import check_output, writing

ROWS = [("a", 0.1), ("b, c", 1 / 3), (None, None), ('"d"\ne', 1e-300), ("é", float(2**53)), ("f", -0.0)]


def batches(size: int) -> list[polars.DataFrame]:
    whole = polars.DataFrame(ROWS, {"word": polars.String, "a number": polars.Float64}, orient="row")
    return list(whole.iter_slices(size))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_csv_reads_back_exactly_by_another_reader(tmp_path, size):
    path = tmp_path / "rows.csv"
    with writing(path) as write:
        for batch in batches(size):
            write(batch)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["word", "a number"]
    assert [(word or None, float(number) if number else None) for word, number in rows] == ROWS


def test_batches_make_the_bytes_of_the_whole(tmp_path):
    for name, size in ("parts.csv", 2), ("whole.csv", 100):
        with writing(tmp_path / name) as write:
            for batch in batches(size):
                write(batch)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_tabs(tmp_path):
    with writing(tmp_path / "rows.tsv") as write:
        write(polars.DataFrame({"a": [1], "b": [2]}))
    assert (tmp_path / "rows.tsv").read_text() == "a\tb\n1\t2\n"


@pytest.mark.parametrize("size", [1, 4, 100])
def test_parquet_is_one_file_in_order(tmp_path, size):
    with writing(tmp_path / "rows.parquet") as write:
        for batch in batches(size):
            write(batch)
    assert polars.read_parquet(tmp_path / "rows.parquet").rows() == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_between_batches_leaves_what_was_there(tmp_path, name, error):
    path = tmp_path / name
    path.write_text("old")

    def fail() -> None:
        with writing(path) as write:
            write(batches(2)[0])
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_outputs_that_cannot_be_written_are_told_before(tmp_path):
    here = tmp_path / "new.csv"
    here.write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    check_output(tmp_path / "predictions.CSV", here)
    for path, words in [
        (tmp_path / "predictions.xlsx", r"\.csv, \.tsv, \.parquet"),
        (tmp_path / "nowhere" / "predictions.csv", "no folder .*nowhere"),
        (tmp_path / "folder.csv", "is a folder"),
        (tmp_path / "folder.csv" / ".." / "new.csv", "is the input too"),
    ]:
        with pytest.raises(UserError, match=words):
            check_output(path, here)


def test_parquet_under_names_that_polars_could_mistake(tmp_path):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    for name in ("0.parquet", "part 0.parquet", "[x]?.parquet"):
        with writing(folder / name) as write:
            for batch in batches(2):
                write(batch)
        assert polars.read_parquet(folder / name, glob=False).rows() == ROWS
