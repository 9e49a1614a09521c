"""The mapping from cells to a matrix, and what it refuses."""

import datetime
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.tables.columns import Column, Target
from hypermap.datasets.tables.csv_format import CsvFormat
from hypermap.datasets.tables.number_format import Decimals
from hypermap.datasets.tables.readers import Table, open_table
from hypermap.datasets.tables.schema import Schema

NAN = float("nan")
COLUMNS = (
    Column("size", "number", missing=1, lowest=-2.0, highest=300.0),
    Column("town", "category", ("A", "B", "c d")),
    Column("stars", "category", ("1", "2.5"), numeric=True),
    Column("lift", "boolean", ("no", "yes")),
    Column("sold", "date", form="%d.%m.%Y", parts=("year", "month", "day", "days")),
)
FILE = ("size", "town", "stars", "lift", "sold", "id", "price")
SCHEMA = Schema(COLUMNS, (Target("price", "regression"),), FILE, dropped={"id": "an identifier"})
TEXT = """size,town,stars,lift,sold,id,price
1.5,A,1,yes,31.01.2020,1,10
,c d,2.50,no,01.02.1969,2,20
3e2,E,1.0,,,3,30
-2,,3,TRUE,29.02.2000,4,
"""
DAYS = [
    (datetime.date(*when) - datetime.date(1970, 1, 1)).days for when in ((2020, 1, 31), (1969, 2, 1), (2000, 2, 29))
]
MATRIX = [
    [1.5, 0, 0, 1, 2020, 1, 31, DAYS[0]],
    [NAN, 2, 1, 0, 1969, 2, 1, DAYS[1]],
    [300, -1, 0, NAN, NAN, NAN, NAN, NAN],
    [-2, NAN, -1, 1, 2000, 2, 29, DAYS[2]],
]


def opened(folder: Path, text: str, schema: Schema = SCHEMA) -> Table:
    (folder / "new.csv").write_text(text)
    return open_table([folder / "new.csv"], expected=schema.expected)


def matrix(table: Table, schema: Schema = SCHEMA) -> np.ndarray:
    return np.concatenate([schema.encode(batch) for batch in table.batches()])


def test_cells_become_numbers(tmp_path: Path) -> None:
    found = matrix(opened(tmp_path, TEXT))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, MATRIX)
    assert SCHEMA.matrix_names == ["size", "town", "stars", "lift", "sold.year", "sold.month", "sold.day", "sold.days"]
    assert SCHEMA.roles == ["number", "category", "category", "category", *["number"] * 4]


def test_json_and_back() -> None:
    assert Schema.of(json.loads(json.dumps(SCHEMA.as_entry(), allow_nan=False))) == SCHEMA
    spelled = Schema(COLUMNS, (Target("price", "binary", ("a", "b"), {"x": "a"}),), FILE, headed=False, group="id")
    assert Schema.of(json.loads(json.dumps(spelled.as_entry()))) == spelled
    spelling = CsvFormat(Decimals(",", grouped=True), ("a", "b"), "~", "cp1252", None, "#", ("gone",))
    spelled = Schema(COLUMNS, (Target("price", "regression"),), FILE, spelling=spelling)
    assert Schema.of(json.loads(json.dumps(spelled.as_entry()))) == spelled
    assert spelled.expected.spelling == spelling


def test_the_order_of_columns_does_not_matter_nor_do_others(tmp_path: Path) -> None:
    lines = [line.split(",") for line in TEXT.splitlines()]
    turned = opened(tmp_path, "\n".join(",".join([*line[:5][::-1], "x"]) for line in lines))
    np.testing.assert_array_equal(matrix(turned), MATRIX)


def test_csv_and_parquet_are_one(tmp_path: Path) -> None:
    """As pandas or a database would store them: numbers as numbers, dates as dates."""
    day = [datetime.date(2020, 1, 31), datetime.date(1969, 2, 1), None, datetime.date(2000, 2, 29)]
    frame = pl.DataFrame(
        {"size": [1.5, None, 300, -2], "town": ["A", "c d", "E", None], "stars": [1.0, 2.5, 1.0, 3.0]}
        | {"lift": [True, False, None, True], "sold": day}
    )
    frame.write_parquet(tmp_path / "new.parquet")
    table = open_table([tmp_path / "new.parquet"], expected=SCHEMA.expected)
    assert SCHEMA.check(table) == []
    np.testing.assert_array_equal(matrix(table), MATRIX)


def test_dates_learnt_from_parquet_are_read_from_text(tmp_path: Path) -> None:
    schema = Schema(
        (Column("sold", "date", form="date", parts=("days",)),), Target("price", "regression"), ("sold", "price")
    )
    words = ("2020-01-31", "2020-01-31 12:00:00", "2020-01-31T18:00:00.0", "2020-01-31T02:00:00+02:00")
    found = matrix(opened(tmp_path, "sold\n" + "\n".join(words)), schema)
    np.testing.assert_allclose(found[:, 0] - DAYS[0], [0, 0.5, 0.75, 0])


def test_cells_of_another_kind_are_told_together(tmp_path: Path) -> None:
    text = "size,town,stars,lift,sold\n" + "1,A,1,yes,31.01.2020\n" * 6 + "big,A,1,maybe,01/31/2020\n" * 5
    with pytest.raises(UserError) as raised:
        matrix(opened(tmp_path, text))
    message = str(raised.value)
    assert (
        "column 'size' should hold numbers; it has 'big' in row 7, 'big' in row 8, 'big' in row 9 and 2 more."
        in message
    )
    assert "column 'lift' should hold 'no' or 'yes'; it has 'maybe' in row 7" in message
    assert "column 'sold' should hold dates in the form %d.%m.%Y; it has '01/31/2020' in row 7" in message


def test_rows_are_counted_from_the_files_first(tmp_path: Path) -> None:
    frame = next(opened(tmp_path, "size,town,stars,lift,sold\ninf,A,1,,\n").batches())
    with pytest.raises(UserError, match="'inf' in row 1,001"):
        SCHEMA.encode(frame, 1000)


def test_check_tells_all_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        SCHEMA.check(opened(tmp_path, "sise,town,lift,color,sold\n1,A,perhaps,red,31.01.2020\n"))
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("new.csv does not suit the table that was learned from:")
    assert [line.strip() for line in lines[1:]] == [
        "column 'size' is missing (did you mean 'sise'?).",
        "column 'stars' is missing.",
        "column 'lift' should hold 'no' or 'yes'; it has 'perhaps' in row 1.",
        "columns that the training table lacks: 'sise', 'color'.",
    ]


def test_check_tells_of_unknown_columns(tmp_path: Path) -> None:
    (note,) = SCHEMA.check(opened(tmp_path, "size,town,stars,lift,sold,color\n1,A,1,yes,31.01.2020,red\n"))
    assert note.endswith("new.csv: the training table has no 'color'; left out.")
    assert SCHEMA.check(opened(tmp_path, TEXT)) == []


def test_check_tells_of_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"size": [[1.0]], "town": ["A"], "stars": [datetime.date(2020, 1, 1)], "lift": [2.0], "sold": [True]}
    )
    frame.write_parquet(tmp_path / "new.parquet")
    with pytest.raises(UserError) as raised:
        SCHEMA.check(open_table([tmp_path / "new.parquet"]))
    message = str(raised.value)
    assert "column 'size' holds values of type List(Float64)." in message
    assert "column 'lift' should hold 'no' or 'yes'; it has 2.0 in row 1." in message
    assert "column 'sold' should hold dates" in message


def test_check_of_no_rows(tmp_path: Path) -> None:
    assert SCHEMA.check(opened(tmp_path, "size,town,stars,lift,sold\n")) == []


def test_a_file_without_a_header_is_named_by_its_width(tmp_path: Path) -> None:
    columns = (Column("column_2", "number"), Column("column_3", "category", ("A", "B")))
    names = ("column_1", "column_2", "column_3")
    schema = Schema(columns, (Target("column_1", "regression"),), names, headed=False)
    for text in ("9,1,A\n8,2,B\n", "1,A\n2,B\n"):
        np.testing.assert_array_equal(matrix(opened(tmp_path, text, schema), schema), [[1, 0], [2, 1]])


def test_columns_that_go_by_their_place_must_be_as_many(tmp_path: Path) -> None:
    columns = (Column("column_1", "number"), Column("column_2", "number"))
    schema = Schema(columns, (Target("column_3", "regression"),), ("column_1", "column_2", "column_3"), headed=False)
    with pytest.raises(UserError, match=r"has 4 columns and no header; as in training it should have 2 or 3"):
        schema.check(opened(tmp_path, "1,2,3,4\n5,6,7,8\n", schema))
    assert schema.check(opened(tmp_path, "1,2\n5,6\n", schema)) == []


def test_a_file_that_lacks_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'size' is missing[\s\S]*its first line reads as data"):
        SCHEMA.check(opened(tmp_path, "1.5,A,1,yes,31.01.2020,1,10\n"))


def test_targets_are_encoded() -> None:
    frame = pl.DataFrame(
        {"y": ["1", "2.0", None, "good", "7"], "z": ["b", "a", "A", None, "x"], "n": ["1.5", "x", None, "inf", "2"]}
    )

    def encoded(target: Target) -> list[float | None]:
        return frame.select(target.encoded(pl.String())).to_series().to_list()

    assert encoded(Target("y", "binary", ("good", "bad"), {"1": "good", "2": "bad"}, numeric=True)) == [
        0,
        1,
        None,
        0,
        -1,
    ]
    assert encoded(Target("z", "binary", ("a", "b"), {"A": "a"})) == [1, 0, 0, None, -1]
    assert encoded(Target("n", "regression")) == [1.5, None, None, None, 2]


def test_a_column_may_be_called_like_the_part_of_a_date(tmp_path: Path) -> None:
    columns = (Column("sold", "date", form="%Y-%m-%d", parts=("year",)), Column("sold.year", "number"))
    schema = Schema(columns, (Target("y", "regression"),), ("sold", "sold.year", "y"))
    np.testing.assert_array_equal(
        matrix(opened(tmp_path, "sold,sold.year\n2020-01-01,7\n", schema), schema), [[2020, 7]]
    )
