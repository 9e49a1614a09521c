"""What kind a column is, as a person would say; statistics, dates and targets with it."""

import datetime
import re
import shlex
from collections.abc import Callable
from email.utils import format_datetime
from pathlib import Path

import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hypermap.core.errors import UserError
from hypermap.datasets.tables import dates, numbers, statistics
from hypermap.datasets.tables.column_types import KINDS, check_kinds, understand
from hypermap.datasets.tables.columns import Column
from hypermap.datasets.tables.readers import open_table
from hypermap.datasets.tables.statistics import Statistics, gather
from hypermap.datasets.tables.target import find_name, understand_target

LONG = [f"a sentence of many words, the {k}th of its kind" for k in range(60)]


def of(folder: Path, cells: list[object], name: str = "x") -> Statistics:
    """The statistics of a column with these cells, beside another."""
    pl.DataFrame({name: pl.Series([str(c) if c is not None else None for c in cells], dtype=pl.String)}).with_columns(
        other=pl.lit("A")
    ).write_csv(folder / "my.csv", separator=";")
    return gather(open_table([folder / "my.csv"]))[name]


def kind_of(found: Column | str) -> str:
    return found.kind if isinstance(found, Column) else found


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1.5, 2, None, 4, 4], "number"),
        ([3, 1, 2, 2, 3], "number"),  # whole numbers of few values
        ([0, 1, 1, 0], "number"),
        (["yes", "no", None, "yes"], "boolean"),
        (["True", "false", "TRUE"], "boolean"),
        (["yes", "no", "maybe", "no"], "category"),
        (["red", "blue", "red", "green", "blue"], "category"),
        (["only", None, "only"], "category"),  # whether there is one may matter
        ([5, None, 5], "number"),
        (["2020-01-31", "2020-02-01", None], "date"),
        (["31/01/2020", "01/02/2020", "01/02/2020"], "date"),
        (["8:30", "12:15", "8:30"], "date"),
        (["02134", "10001", "02134", "94103"], "category"),
        (["1", "2", "1", "1", "1", "1", "1", "a", "2"], "category"),
        (["4 cyl", "6 cyl", "8 cyl", "4 cyl"], "category"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"], "category"),  # no numbers with points between thousands
        (["10-19", "20-29", "30-39", "10-19"], "category"),
        (["A1", "A2", "A3", "A4", "A5", "A6", "A1"], "category"),
        (["-1.5", "\u22122.5", "\u20133", "(4.5)", "5-", "- 6", "6"], "number"),
        (["1'234.5", "2\u202f345", "-4’567", "5"], "number"),
        (["2020Q1", "2020Q2", "2021Q1"], "date"),
        ([201901, 201902, 201903, 201912, 202001, 202001], "date"),
        ([201901, 201902, 201903, 201913, 202001, 202001], "number"),
        (["May-21", "Jun-21", "May-21"], "date"),
        (["2020-W01", "2020-W53", "2021-W02"], "date"),
        (["20210503", "20210504", "20220117", "19991231", "20000229", None], "date"),
        (["20210503.0", "20210504.0", "20220117.0", "19991231.0", "20000229.0", None], "date"),
        (["20210503", "20210504", "20220117", "19991231", "20210229"], "number"),  # no leap year
    ],
)
def test_kinds_are_found(tmp_path: Path, cells: list[object], kind: str) -> None:
    assert kind_of(understand(of(tmp_path, cells), None, "data.")) == kind


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("x", [None, None], "it has no values"),
        ("x", [7, 7, 7], "it has the same value in every row, '7'"),
        ("x", ["a", "a"], "it has the same value in every row, 'a'"),
        ("x", LONG, "free text"),
        ("x", [*LONG, *LONG, *LONG], "free text"),
        ("x", [f"key{k}" for k in range(9)], "an identifier"),
        ("x", [f"A{k % 60}" for k in range(100)], "an identifier"),
        ("x", [3, 1, 2], "an identifier"),  # a count of the rows
        ("x", range(9), "an identifier"),
        ("customer_id", [905, 107, 211], "an identifier"),
        ("PassengerId", [905, 107, 211], "an identifier"),
        ("tweet", [1234567890123456789, 1234567890123456790, 1234567890123456791], "an identifier"),
    ],
)
def test_columns_that_nothing_is_learnt_from(tmp_path: Path, name: str, cells: list[object], reason: str) -> None:
    assert str(understand(of(tmp_path, list(cells), name), None, "data.")).startswith(reason)


@pytest.mark.parametrize("name", ["paid", "width", "grid", "year"])
def test_numbers_that_are_no_identifiers(tmp_path: Path, name: str) -> None:
    assert kind_of(understand(of(tmp_path, [2001, 2002, 2003, 2004], name), None, "data.")) == "number"


@pytest.mark.parametrize(
    ("cells", "asked", "kind"),
    [
        ([3, 1, 2], "number", "number"),
        ([3, 1, 2, 2], "category", "category"),
        ([0, 1, 1], "boolean", "boolean"),
        ([f"key{k}" for k in range(9)], "category", "category"),
        (["red", "blue", "red"], "text", "free text, as data.kinds says"),
        ([3.5, 1, 2], "identifier", "an identifier, as data.kinds says"),
        (["03/04/2020", "05/06/2020"], "%m/%d/%Y", "date"),
        ([1.6e9, 1.7e9], "date", "date"),
        ([20200131, 20200201], "%Y%m%d", "date"),
        (["a", "a"], "category", "category"),  # a constant that a person wants to keep
    ],
)
def test_kinds_that_are_said(tmp_path: Path, cells: list[object], asked: str, kind: str) -> None:
    assert kind_of(understand(of(tmp_path, cells), asked, "data.")) == kind


@pytest.mark.parametrize(
    ("cells", "asked", "message"),
    [
        ([1] * 20 + ["n.a.", "-"], None, r"2 of 22 cells are no finite numbers, such as '-', 'n\.a\.'.*missing_values"),
        ([1] * 20 + ["inf"], None, "1 of 21 cells are no finite numbers, such as 'inf'"),
        (["$1.50", "$20", "$1,234.00"], None, r"numbers with a unit or with blanks, such as '\$1,234.00'"),
        (["10%", "20%", "10%"], None, "numbers with a unit"),
        (["1 234", "5 678 901", "12"], None, "numbers with a unit"),
        (["1,600 EUR", "900 EUR", "12 EUR"], None, "numbers with a unit or with blanks, such as '1,600 EUR'"),
        (["CHF 1'600.50", "CHF 12", "(CHF 3)"], None, "numbers with a unit"),
        (["€110.5M", "€565K", "€0"], None, "numbers with a unit"),
        ([f"{k} kg" for k in range(9)], None, "numbers with a unit"),
        ([0, 0, 0, "5 %", "7 %"], None, "numbers with a unit or with blanks, such as '5 %', '7 %'"),
        ([*range(20), *["-"] * 20], None, "20 of 40 cells are no finite numbers, such as '-'"),
        ([*range(5), *["#DIV/0!", "n.a."] * 20], None, "such as '#DIV/0!', 'n.a.'"),
        (
            [f"{day:02}/01/2020" for day in range(10, 30)] + ["2021-02-14", "2021-02-15"],
            None,
            r"dates in several forms: '2021-02-14' \(%Y-%m-%d\), '10/01/2020' \(%d/%m/%Y\)",
        ),
        (["red", "2"], "number", "1 of 2 cells are no finite numbers"),
        (["red", "blue"], "boolean", r"data\.kinds\.x is boolean; the column has 'blue', 'red'"),
        (["red", "blue"], "date", r"data\.kinds\.x is date; no form"),
        (["red", "blue"], "%d/%m/%Y", "none of the cells|'blue'"),
        (
            [f"2020-01-{k + 1:02}" for k in range(30)] + ["0000-00-00"],
            None,
            "1 other values.*'0000-00-00'.*missing_values=.*0000",
        ),
        (["03/04/2020", "05/06/2021"], None, r"'03/04/2020', which %d/%m/%Y and %m/%d/%Y fit alike"),
    ],
)
def test_contradictions(tmp_path: Path, cells: list[object], asked: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        understand(of(tmp_path, cells), asked, "data.")


def test_kinds_that_there_are_not() -> None:
    check_kinds(dict.fromkeys("abcdef", "number") | {"g": "%d.%m.%Y"} | {k: k for k in KINDS}, "data.")
    with pytest.raises(UserError, match=r"data\.kinds\.x is 'numbr'; it is one of .*did you mean 'number'"):
        check_kinds({"x": "numbr"}, "data.")


def test_statistics_are_those_of_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypermap.datasets.tables.readers.ROWS", (2, 2))  # in three batches
    found = of(tmp_path, ["1.5", "-2", "word", None, "007 x", "1.5"])
    assert (found.rows, found.missing, found.numbers, found.whole) == (6, 1, 3, 1)
    assert (found.lowest, found.highest, found.distinct_share) == (-2, 1.5, 4 / 5)
    assert found.words() == ["-2", "007 x", "1.5", "word"]
    assert found.odd_words() == ["007 x", "word"]
    assert found.complete
    assert not found.all_numbers


def test_words_beyond_a_limit_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "VOCABULARY", 4)
    monkeypatch.setattr("hypermap.datasets.tables.readers.ROWS", (5, 5))
    found = of(tmp_path, [f"w{k % 30}" for k in range(60)])
    assert (len(found.values), found.valued, found.complete) == (5, 5, False)
    assert kind_of(understand(found, None, "data.")).startswith("an identifier")
    with pytest.raises(UserError, match=r"more than [0-9,]+ different values"):
        understand(found, "category", "data.")


@pytest.mark.parametrize(
    "written",
    [
        ["1. März 2024", "12. Dezember 2023", "3. Januar 2024"],
        ["1 mars 2024", "12 décembre 2023", "3 janvier 2024"],
        ["1 marzo 2024", "12 diciembre 2023", "3 enero 2024"],
        ["1 MARZO 2024", "12 DICEMBRE 2023", "3 GENNAIO 2024"],
        ["1 maart 2024", "12 december 2023", "3 januari 2024"],
        ["1 março 2024", "12 dezembro 2023", "3 janeiro 2024"],
        ["1. Mrz. 2024", "12. Dez. 2023", "3. Jan. 2024"],
        ["March 1, 2024", "December 12, 2023", "January 3, 2024"],
    ],
)
def test_months_have_their_names_in_other_languages(written):
    (form,) = dates.find_formats(written)
    when = pl.DataFrame({"x": written}).select(dates.moments(pl.col("x"), form)).to_series().to_list()
    assert when == [datetime.datetime(2024, 3, 1), datetime.datetime(2023, 12, 12), datetime.datetime(2024, 1, 3)]


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%Y-%m-%d %H:%M:%S", "%m/%d/%y", "%b %d, %Y", "%d/%m/%Y %I:%M %p"]
)
def test_dates_are_those_of_strftime(form: str) -> None:
    when = [datetime.datetime(2021, 3, 4, 15, 6, 7), datetime.datetime(1999, 12, 25, 0, 30)]
    words = [moment.strftime(form) for moment in when]
    assert form in dates.find_formats(words)
    read = pl.DataFrame({"x": words}).select(dates.moments(pl.col("x"), form)).to_series().to_list()
    assert read == [datetime.datetime.strptime(word, form) for word in words]


UTC = datetime.UTC
MOMENTS = [
    datetime.datetime(2021, 3, 14, 15, 6, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    datetime.datetime(1999, 12, 25, 0, 30, 0, tzinfo=UTC),
]


@pytest.mark.parametrize(
    "spell",
    [
        format_datetime,  # RFC 2822
        lambda moment: format_datetime(moment.astimezone(UTC), usegmt=True),
        lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),  # BigQuery
        lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC"),
        lambda moment: moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        lambda moment: moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"),
        lambda moment: moment.isoformat(timespec="minutes"),
        lambda moment: moment.isoformat(" ", "minutes"),
        lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S %z"),  # Git
        lambda moment: moment.strftime("%d/%b/%Y:%H:%M:%S %z"),  # Apache
        lambda moment: moment.astimezone(UTC).ctime(),
        lambda moment: moment.astimezone(UTC).strftime("%a %b %d %H:%M:%S UTC %Y"),
        lambda moment: moment.astimezone(UTC).strftime("%A, %B %d, %Y %I:%M %p"),
        lambda moment: moment.isoformat() + "[Asia/Kolkata]",  # Java
    ],
)
def test_dates_as_programs_write_them(spell: Callable[[datetime.datetime], str]) -> None:
    (form,) = dates.find_formats([spell(moment) for moment in MOMENTS])
    read = dates.read(pl.Series([spell(moment) for moment in MOMENTS]), form)
    assert read.to_list() == [moment.astimezone(UTC).replace(tzinfo=None) for moment in MOMENTS]


def test_a_date_to_predict_may_be_spelled_in_a_way_that_cannot_be_mistaken() -> None:
    words = pl.Series(["31/12/2020", None, "2020-12-31", "Dec 31, 2020", "20201231", "2020-12-31 00:00:00"])
    day = datetime.datetime(2020, 12, 31)
    assert dates.read(words, "%d/%m/%Y").to_list() == [day, None, day, day, day, day]
    for form in ("%Y-%m-%d", dates.OF_PARQUET):
        read = dates.read(pl.Series(["2020-12-31", "03/04/2020", "2021", "x"]), form)
        assert read.to_list() == [day, None, None, None]


def test_quarters_and_weeks_are_their_first_days() -> None:
    read = dates.read(pl.Series(["2020Q1", "2020Q4"]), *dates.find_formats(["2020Q1", "2020Q4"]))
    assert read.to_list() == [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 10, 1)]
    weeks = ["2020-W01", "2020-W53"]
    read = dates.read(pl.Series(weeks), *dates.find_formats(weeks))
    assert read.to_list() == [datetime.datetime.strptime(f"{week}-1", "%G-W%V-%u") for week in weeks]


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("(12.50)", -12.5),
        ("( 3 )", -3),
        ("12.50-", -12.5),
        ("- 7", -7),
        ("+ 7", 7),
        ("\u22121e3", -1000),
        ("\u20130.5", -0.5),
        ("1'234'567", 1234567),
        ("\u22121\u202f234,5", -1234.5),
        ("1\u00a0234.5", 1234.5),
        ("1 234", None),
        ("5-6", None),
        ("(a)", None),
        ("6'2", None),
        ("--5", None),
        ("(-5)", None),
        ("", None),
    ],
)
def test_numbers_that_are_not_spelled_plainly(word: str, number: float | None) -> None:
    assert numbers.read(pl.Series([word, None, "1.5"])).to_list() == [number, None, 1.5]


def test_a_time_elsewhere_is_read_where_training_had_such() -> None:
    words = pl.Series(["2020-01-01 00:00:00+01:00"])
    utc = datetime.datetime(2019, 12, 31, 23)
    assert dates.read(words, dates.OF_PARQUET).to_list() == [utc]
    assert dates.read(words, "%Y-%m-%d %H:%M%#z").to_list() == [utc]
    assert dates.read(words, "%Y-%m-%d %H:%M:%S").to_list() == [None]


def test_dates_with_an_offset_are_in_utc() -> None:
    words = ["2020-01-01T00:30:00+02:00", "2020-01-01T00:30:00Z", "2020-06-01T00:30:00.5Z"]
    (form,) = dates.find_formats(words)
    read = pl.DataFrame({"x": words}).select(dates.moments(pl.col("x"), form)).to_series().to_list()
    mine = [datetime.datetime.fromisoformat(word).astimezone(datetime.UTC).replace(tzinfo=None) for word in words]
    assert read == mine


@pytest.mark.parametrize(
    "word", ["2020", "1.2.3", "1/2/20x", "2020-13-01", "127.0.0.1", "12", "1-2", "x", "", "30.02.2020"]
)
def test_words_that_are_no_dates(word: str) -> None:
    assert not [form for form in dates.find_formats([word]) if "%y" not in form]


def test_parts_of_dates() -> None:
    when = [datetime.datetime(2021, 3, 4, 15, 30), datetime.datetime(2021, 3, 9)]
    frame = pl.DataFrame({"x": when})
    year, month, day, weekday, hour, days = frame.select(dates.parts_of(pl.col("x"))).rows()[0]
    epoch = (when[0] - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
    assert (year, month, day, weekday, hour, days) == (2021, 3, 4, when[0].isoweekday(), 15.5, epoch)
    assert dates.varying_parts(frame["x"], dates.OF_PARQUET) == ("day", "weekday", "hour", "days")


@pytest.mark.parametrize(
    ("cells", "task", "classes", "expected"),
    [
        (["b", "a", "b"], None, None, ("binary", ("a", "b"))),
        (["yes", "no", "no"], None, None, ("binary", ("no", "yes"))),
        (["True", "False", "True"], None, None, ("binary", ("False", "True"))),
        ([10, 9, 2, 10, 9, 2], None, None, ("multiclass", ("2", "9", "10"))),
        ([1, 0, 1.0, 0], None, None, ("binary", ("0", "1"))),
        ([1.5, 2.5, 1.5, 2.5], None, None, ("regression", ())),
        (list(range(11)) * 2, None, None, ("regression", ())),
        ([1, 2, 3, 4], None, None, ("regression", ())),  # as many classes as rows
        ([3, 4, 5, 3, 4, 5], "regression", None, ("regression", ())),
        ([1.5, 2.5, 1.5], "multiclass", None, ("binary", ("1.5", "2.5"))),
        ([1, 2, 1], None, {2: "good", 1: "bad"}, ("binary", ("good", "bad"))),
        (["<=50K", ">50K", ">50K."], None, {">50K.": ">50K", "<=50K.": "<=50K"}, ("binary", (">50K", "<=50K"))),
        (["a", "b", "c", "a", "b"], None, {"c": "b"}, ("binary", ("a", "b"))),
        (["a", "b", "c", "a"], "multiclass", None, ("multiclass", ("a", "b", "c"))),
        (
            [1234567890123456789, 1234567890123456790] * 2,
            None,
            None,
            ("binary", ("1234567890123456789", "1234567890123456790")),
        ),
        (["30%", "20%", "30%"], "multiclass", None, ("binary", ("20%", "30%"))),
        (["\u22121", "1", "1", "\u22121"], None, None, ("binary", ("-1", "1"))),
        (["(1.5)", "2.5", "1.5", "2.5"], None, None, ("regression", ())),
    ],
)
def test_targets(
    tmp_path: Path, cells: list[object], task: str | None, classes: dict[object, str] | None, expected: object
) -> None:
    target, _ = understand_target(of(tmp_path, cells), task, classes, "data.")
    assert (target.task, target.classes) == expected


@pytest.mark.parametrize(
    ("cells", "classes", "joined"),
    [
        (["yes", "Yes", "YES", "no", "NO", "No"] * 2, {}, ("no", "yes")),
        (["JA", "nein", "ja", "nein"], {}, ("nein", "ja")),
        (["New York", "New  York", "new york", "Rome"] * 2, {}, ("new york", "Rome")),
        (["caf\u00e9", "cafe\u0301", "bar"] * 2, {}, ("bar", "caf\u00e9")),  # composed, and not
        (["a", "A", "a.", "b"] * 2, {"a.": "a"}, ("a", "b")),
    ],
)
def test_classes_that_differ_in_case_or_blanks_are_told_with_what_joins_them(
    tmp_path: Path, cells: list[object], classes: dict[object, str], joined: tuple[str, ...]
) -> None:
    column = of(tmp_path, cells)
    _, notes = understand_target(column, None, classes, "data.")
    (word,) = shlex.split(re.search(r"say (.*)\.$", notes[0])[1])
    override = OverridesParser.create().parse_override(word)
    target, notes = understand_target(column, None, dict(override.value()), "data.")
    assert (override.key_or_group, target.classes, notes) == ("data.classes", joined, [])


def test_classes_that_differ_in_more_are_not_told(tmp_path: Path) -> None:
    for cells in (["<=50K", ">50K", ">50K."] * 2, ["a", "b", "c", "a"], ["1", "1.0", "2", "1"], ["naive", "naïve"] * 2):
        assert not [note for note in understand_target(of(tmp_path, cells), None, None, "data.")[1] if "case" in note]


def test_classes_of_numbers_are_told(tmp_path: Path) -> None:
    _, notes = understand_target(of(tmp_path, [3, 4, 5, 3, 4, 5]), None, None, "data.")
    assert "3 different whole numbers, which were taken for classes; data.task=regression" in notes[0]
    assert not understand_target(of(tmp_path, [3, 4, 5, 3, 4, 5]), "multiclass", None, "data.")[1]


@pytest.mark.parametrize(
    ("cells", "task", "classes", "message"),
    [
        ([None, None], None, None, "has no values"),
        (["a", "a", None], None, None, "'a' in every row that has one"),
        ([1, 1], "regression", None, "'1' in every row"),
        (["a", "b"], "regression", None, r"2 values that are no finite numbers, such as 'a', 'b'"),
        (["a", "b", "c", "a"], "binary", None, "has 3 classes: a, b, c"),
        (["a", "b", "c"], None, None, "3 different values in 3 rows, too many for classes"),
        (["a", "b", "a"], "clasification", None, "data.task is 'clasification'"),
        (["a", "b", "a"], None, {"A": "first"}, "data.classes names 'A', which column 'x' has not"),
        (["30%", "20%", "30%", "20%"], None, None, "has numbers with a unit or with blanks, such as '20%', '30%'"),
        (["30%", "20%", "30%"], "regression", None, "numbers with a unit .*Write plain numbers into the file"),
        (["$1,600", "$20", "$1,600"], None, None, r"such as '\$1,600', '\$20'.*data\.task=multiclass"),
        ([*range(20), *["-"] * 10], None, None, r"'-' in others.*say 'data\.missing_values=\[\"-\"\]', which leaves"),
        (["2021-02-14", "2021-02-15", "2021-02-14"], None, None, "holds dates, such as '2021-02-14'"),
        (["2021-02-14", "15/02/2021", "2021-02-14"], None, None, "holds dates"),
        ([20210214 + k for k in range(9)], None, None, "holds dates, .*or data.task=regression"),
        (["a", "b", "a"], "regression", {"a": "b"}, "data.classes is set, and data.task is regression"),
    ],
)
def test_targets_that_cannot_be(
    tmp_path: Path, cells: list[object], task: str | None, classes: dict[object, str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        understand_target(of(tmp_path, cells), task, classes, "data.")


@pytest.mark.parametrize(("given", "name"), [("b", "b"), (1, "a"), (-1, "3"), (3, "3"), ("3", "3"), (-3, "a")])
def test_targets_by_name_or_position(given: object, name: str) -> None:
    assert find_name(given, ["a", "b", "3"], "data.") == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "data.target is not set: name the column to predict; the table has: price, b"),
        (
            "prise",
            r"data.target is 'prise'; there is no such column \(did you mean 'price'\?\); the table has: price, b",
        ),
        (0, "positions go from 1 to 2"),
        (3, "positions go from 1 to 2"),
        (True, "there is no such column"),
    ],
)
def test_targets_that_there_are_not(given: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_name(given, ["price", "b"], "data.")
