"""Files of every kind give the same frames; those that cannot be read whole are refused."""

import bz2
import csv
import datetime
import gc
import gzip
import io
import lzma
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hypermap.core.errors import UserError
from hypermap.datasets.tables import text_file
from hypermap.datasets.tables.csv_format import CsvFormat, Expected, Format
from hypermap.datasets.tables.readers import Table, open_table

ROWS = [("1.5", "A"), ("2", None), ("-3e2", "b c")]
PLAIN = "number,word\n1.5,A\n2,\n-3e2,b c\n"


def write(folder: Path, content: str | bytes, name: str = "my.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(table: Table, size: int | None = None) -> list[tuple[object, ...]]:
    return [row for batch in table.batches(size) for row in batch.rows()]


def test_cells_in_single_quotes_are_read_without_them(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "name,n\n'a, b',1\nO'Brien,2\n'c',3\n")], Format())
    assert table.columns == ("name", "n")
    assert rows(table) == [("a, b", "1"), ("O'Brien", "2"), ("c", "3")]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.removesuffix("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n"),  # blank lines
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace("A", '"A"'),
        PLAIN.replace("A", ' "A"'),
        PLAIN.replace("\n2,", "\n2,NA"),
        PLAIN.replace("\n2,", "\n2,?"),
        '"number";"word"\n"1,5";A\n2;\n-3e2;b c\n',
        PLAIN.replace(",", "\x01"),  # Hive
        PLAIN.replace("\n2,", "\n2,\\N"),  # MySQL and PostgreSQL
        "\ufeff" + PLAIN.replace("1.5", "\u200b1.5\u00a0").replace(",A", ",\u2060A\ufeff"),  # what nobody sees
        "number word\n1.5  A\n2 NA\n-3e2  'b c'\n",
        "sep=;\n" + PLAIN.replace(",", ";"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("number", '"number"').encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-32"),
        gzip.compress(PLAIN.encode(), mtime=0),
        bz2.compress(PLAIN.encode()),
        lzma.compress(PLAIN.encode()),
    ],
)
def test_one_table_in_many_files(tmp_path: Path, content: str | bytes) -> None:
    quote = "'" if isinstance(content, str) and "'" in content else '"'
    table = open_table([write(tmp_path, content)], Format(quote=quote))
    assert (table.columns, table.size, table.headed) == (("number", "word"), 3, True)
    assert rows(table) == ROWS


def test_parquet(tmp_path: Path) -> None:
    when = datetime.datetime(2020, 1, 2, 3)
    frame = pl.DataFrame(
        {
            "float": [1.5, float("nan")],
            "whole": [2**53 + 1, None],
            "word": [" a ", "NA"],
            "yes": [True, False],
            "day": [when.date(), None],
            "when": [when, when],
            "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
            "lasted": [datetime.timedelta(minutes=1), None],
            "clock": [datetime.time(1), datetime.time(2)],
            "list": [[1], [2]],
        }
    )
    frame.write_parquet(tmp_path / "my.data")
    table = open_table([tmp_path / "my.data"])
    assert table.columns == tuple(frame.columns)
    assert table.unsupported == {"list": "values of type List(Int64)"}
    midnight = datetime.datetime(2020, 1, 2)
    assert rows(table) == [
        (1.5, 2**53 + 1, "a", "true", midnight, when, "x", 60.0, 3600.0),
        (None, None, None, "false", None, when, "y", None, 7200.0),
    ]


def test_missing_numbers_of_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"a": [-999.0, 1.0], "b": [-999, 1]}).write_parquet(tmp_path / "my.parquet")
    table = open_table([tmp_path / "my.parquet"], Format(missing_values=["-999", "none"]))
    assert rows(table) == [(None, None), (1.0, 1)]


CELLS = st.text(st.sampled_from("ab,;'\"\n x1"), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(",;\t|"))
@example([('a"b,c"d', "x"), ('"', "")], ",")
@example([("", ""), ("", "")], ",")
def test_what_the_csv_module_writes_is_read(cells: list[tuple[str, str]], separator: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([("first", "second"), *cells])
    with tempfile.TemporaryDirectory() as folder:
        table = open_table(
            [write(Path(folder), text.getvalue())], Format(separator=separator, header=True, decimal=".")
        )
        read = rows(table)
    assert read == [tuple(cell.strip() or None for cell in row) for row in cells]


def test_batches_are_as_large_as_asked_and_in_order(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "n,m\n" + "".join(f"{k},x\n" for k in range(25)))])
    assert [batch.height for batch in table.batches(10)] == [10, 10, 5]
    assert [row[0] for row in rows(table, 10)] == [str(k) for k in range(25)]


def test_several_files_in_the_order_of_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a,b\n1,2\n", "1.csv"), write(tmp_path, "b;a\n4;3\n", "2.csv")]
    table = open_table(paths)
    assert (table.size, rows(table)) == (2, [("1", "2"), ("3", "4")])
    assert table.name == f"{paths[0]} and 1 more"


def test_files_with_other_columns(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a,b\n1,2\n", "1.csv"), write(tmp_path, "a,c\n4,3\n", "2.csv")]
    with pytest.raises(UserError, match=r"2\.csv lacks b and has c besides, compared with .*1\.csv"):
        open_table(paths)


def test_row_names_of_r_have_no_name(tmp_path: Path) -> None:
    for text in ('"x" "y"\n"1" 1.5 "a"\n"2" 2.5 "b"\n', '"x","y"\n"1",1.5,"a"\n"2",2.5,"b"\n'):
        table = open_table([write(tmp_path, text)])
        assert (table.columns, table.unnamed) == (("column_1", "x", "y"), ("column_1",))
        assert rows(table) == [("1", "1.5", "a"), ("2", "2.5", "b")]


def test_a_separator_that_ends_every_line_but_the_first(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "x,y\n1.5,a,\n2.5,b,\n")])
    assert (table.columns, table.unnamed) == (("x", "y", "column_3"), ("column_3",))
    assert rows(table) == [("1.5", "a", None), ("2.5", "b", None)]


def test_a_line_in_another_encoding_is_named(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "town,n\nKöln,1\nBonn,2\n".encode() + b"M\xfcnchen,3\n")])
    assert "UTF-8 up to line 4" in table.notes[0]


def test_windows_1252_is_found_and_told(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "town,n\nMünchen,1\n".encode("cp1252"))])
    assert rows(table) == [("München", "1")]
    assert "Windows-1252" in table.notes[0]


def test_an_encoding_that_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, "town,n\n東京,1\n".encode("shift_jis"))
    assert rows(open_table([path], Format(encoding="shift_jis"))) == [("東京", "1")]
    with pytest.raises(UserError, match="is not all ascii"):
        open_table([path], Format(encoding="ascii"))


def test_utf_8_that_ends_late(tmp_path: Path) -> None:
    """A letter that is no UTF-8 far behind the sample."""
    table = open_table([write(tmp_path, b"a,b\n" + b"1,x\n" * 70_000 + b"2,\xe9\n")])
    *_, last = rows(table)
    assert last == ("2", "é")
    assert "Windows-1252" in table.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells where the first has 2"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells"),
        ("a,b\n1,2\n\n3\n", "line 4 has 1 cells"),
        ('a,b\n1,"x\ny"\n3,4,5\n', "line 4 has 3 cells"),
        ('a,b\n1,2\n"3,4\n' + "5,6\n" * 50_000, "line 32771 .*a quote that is opened must be closed"),
        ('a,b\n1,"2\n3,4\n', "line 3 .*a quote that is opened must be closed"),
        ('a,b\n1,"x \\"y\\" z"\n', "line 2 has a quote behind a backslash.* write quotes within cells twice"),
        (b"a,b\n1,\0\n", "bytes of zero"),
        (gzip.compress(PLAIN.encode() * 100, mtime=0)[:-20], "truncated or damaged"),
        (b"PAR1 is no parquet", "cannot be read"),
        ('{"a": 1}\n', "as JSON or HTML does"),
        ('"a', "begins with what cannot be read"),
        ("", "is empty"),
        ("\n \n", "is empty"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_table([write(tmp_path, content)])


def test_a_quote_that_ends_within_a_cell(tmp_path: Path) -> None:
    for blank_line in ("", "\n"):
        with pytest.raises(UserError, match=r"line 2 .*a quote that is opened must be closed"):
            open_table([write(tmp_path, f'a,b\n1,"2"x\n{blank_line}3,4\n')])


@pytest.mark.parametrize(
    "lines",
    [
        ['8" pipe,1', "6,2", '3" pipe,3'],  # an even number of them, rows apart
        ['8",1', '6",2'],  # at the end of a cell, as a closing one is
        ['1,2" x 3" y', "3,4"],
        ['a"b,"c, ""d"""', '"""",1'],
        ['"a\nb",5" 6"', '7",8'],
    ],
)
def test_quotes_within_cells_are_characters_as_the_csv_module_has_it(tmp_path: Path, lines: list[str]) -> None:
    for end in ("\n", "\r\n"):
        text = end.join(["u,v", *lines]) + end
        expected = list(csv.reader(io.StringIO(text, newline="")))[1:]
        assert rows(open_table([write(tmp_path, text)])) == [tuple(row) for row in expected]


def test_late_ragged_lines_of_a_large_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 70003 has 3 cells"):
        open_table([write(tmp_path, "a,b\n" + "1,2\n" * 70_001 + "1,2,3\n")])


def test_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n"x,1\ny,2\n')
    with pytest.raises(UserError, match="quote"):
        open_table([path])
    assert rows(open_table([path], Format(quote=None))) == [('"x', "1"), ("y", "2")]


def test_decimal_commas_and_thousands(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "a;b;c\n1,5;x,y;1.234\n1.234,5;z;5\n")])
    assert rows(table) == [("1.5", "x,y", "1234"), ("1234.5", "z", "5")]
    table = open_table([write(tmp_path, 'a,b\n"1,234.5",x\n"1,234",y\n')])
    assert rows(table) == [("1234.5", "x"), ("1234", "y")]


def test_thousands_that_begin_behind_the_sample(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "a;b\n" + "1,5;x\n" * 50_000 + "1.443;y\n0.125;z\n")])
    assert not table.spelling.decimals.grouped
    assert rows(table)[-2:] == [("1443", "y"), ("0.125", "z")]


def test_an_encoding_that_the_training_table_had(tmp_path: Path) -> None:
    usual = Expected(spelling=CsvFormat(encoding="shift_jis"))
    for encoding, notes in (("shift_jis", 0), ("utf-8", 1), ("utf-16", 0)):
        table = open_table([write(tmp_path, "town,n\n東京,1\n".encode(encoding))], expected=usual)
        assert rows(table) == [("東京", "1")]
        assert ["unlike the training table" in note for note in table.notes] == [True] * notes
    assert open_table([write(tmp_path, PLAIN)], expected=usual).notes == ()
    found = open_table([write(tmp_path, "town,n\nMünchen \xa0,1\n".encode("cp1252"))], expected=usual)
    assert "Windows-1252" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("houses.cvs", r"data\.path is '.*houses\.cvs'; no such file \(did you mean 'houses\.csv'\?\)"),
        ("nowhere/houses.csv", "There is no folder"),
        ("", "that is a folder"),
        ("none.csv", "is empty"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, message: str) -> None:
    for other, content in (("houses.csv", PLAIN), ("none.csv", "")):
        write(tmp_path, content, other)
    with pytest.raises(UserError, match=message):
        open_table([tmp_path / name])


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    table = open_table([path])
    write(tmp_path, PLAIN + "4,d\n")
    with pytest.raises(UserError, match="changed while it was being read"):
        rows(table)
    path.unlink()
    with pytest.raises(UserError, match="changed while it was being read"):
        rows(table)


def test_what_is_written_anew_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (folder := tmp_path / "own").mkdir()
    table = open_table([write(folder, PLAIN.encode("utf-16"))])
    assert len(list(tmp_path.iterdir())) == 2
    assert rows(table) == ROWS
    del table
    gc.collect()
    with pytest.raises(UserError):
        open_table([write(folder, "a,b\n1\n")])
    assert list(tmp_path.iterdir()) == [folder]


def test_plain_files_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_file, "rewrite", None)
    monkeypatch.setattr(text_file, "CHUNK", 7)  # so that records lie across chunks
    for content in (PLAIN, PLAIN.replace("A", '"A,\n""B"'), PLAIN.replace("\n", "\r\n")):
        assert open_table([write(tmp_path, content)]).size == 3


def test_names_of_a_file_without_a_header(tmp_path: Path) -> None:
    table = open_table([write(tmp_path, "1,2\n3,4\n")], expected=Expected((), (("x", "y"),)))
    assert (table.columns, table.headed) == (("x", "y"), False)


@pytest.mark.parametrize("name", ["*", "^a.*$"])
def test_names_that_polars_takes_for_patterns(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="has a column called"):
        open_table([write(tmp_path, f"{name},b\nx,1\ny,2\n")])
