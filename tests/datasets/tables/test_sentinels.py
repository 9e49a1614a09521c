"""Numbers that stand for missing are told with a word that reads them so, and measures are not."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hypermap.datasets.tables.dataset import table
from support.overrides import value_of

GENERATOR = np.random.default_rng(0)
AGES = GENERATOR.integers(18, 80, 60)


def cells(*odd: float, values: Any = AGES) -> list[Any]:
    return np.array([*values[: len(values) - len(odd)], *odd]).tolist()  # of one type


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., tuple[list[str], np.ndarray]]:
    """The notes on such numbers, and how many cells of each column are missing, of a table of these columns."""

    def write_and_read(columns: dict[str, Any], ending: str = "csv", **how: Any) -> tuple[list[str], np.ndarray]:
        path, classes = tmp_path / f"my.{ending}", ["ab"[k * k % 7 % 2] for k in range(60)]
        frame = pl.DataFrame({**columns, "y": classes}, strict=False)
        options = {"separator": ";", "decimal_comma": True} if how.pop("commas", False) else {}
        frame.write_parquet(path) if ending == "parquet" else frame.write_csv(path, **options)
        raw = table(str(path), "y", **how)
        return [note for note in raw.notes if "means missing" in note], np.isnan(raw.inputs).sum(axis=0)

    return write_and_read


def pasted(note: str) -> list[Any]:
    (word,) = re.findall(r"say ('?data\.missing_values=.*?\]'?)\.", note)
    (first,) = shlex.split(word)
    return list(value_of(first))


@pytest.mark.parametrize(
    "odd", [-999, -9999, -99, -9, 999, 9999, 99999, 999999, -888, -999.25, 9999.99, 2147483647, -1e30]
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_they_are_read_as_missing_as_advised(told: Any, odd: float, ending: str) -> None:
    values = AGES if odd != -9 else AGES % 4
    columns = {"x": cells(*[odd] * 7, values=values), "other": AGES}
    (note,), missing = told(columns, ending)
    assert note.startswith(f"Column 'x' is {odd:.15g} in 7 rows, and else from {values[:53].min():.15g} to ")
    assert missing.tolist() == [0, 0]
    notes, missing = told(columns, ending, missing_values=pasted(note))
    assert notes == []
    assert missing.tolist() == [7, 0]


def test_words_that_mean_missing_already_still_do(told: Any) -> None:
    columns = {"x": cells(*[-999] * 7), "other": ["?", *map(str, AGES[1:])]}
    (note,), _ = told(columns)
    assert pasted(note) == ["?", "-999"]
    assert told(columns, missing_values=pasted(note))[1].tolist() == [7, 1]


def test_decimal_commas(told: Any) -> None:
    columns = {"x": cells(*[-999.25] * 7, values=AGES + 0.5)}
    (note,), _ = told(columns, commas=True)
    assert told(columns, commas=True, missing_values=pasted(note))[1].tolist() == [7]
    assert told(columns, commas=True, missing_values=["-999,25"])[1].tolist() == [7]


@pytest.mark.parametrize("odd", ["-999", "-999.0"])
def test_whole_numbers_are_said_as_pandas_users_say_them(told: Any, odd: str) -> None:
    assert told({"x": cells(*[odd] * 7)}, missing_values=[-999])[1].tolist() == [7]


def test_several_columns_are_one_sentence(told: Any) -> None:
    columns = {"x": cells(*[-999] * 7), "rooms": cells(99, 99, 99, values=AGES % 6), "age": cells(99, 20, 20)}
    (note,), _ = told(columns)
    assert "'x' is -999 in 7 rows" in note
    assert "'rooms' is 99 in 3 rows, and else from 0 to 5" in note
    assert pasted(note) == ["-999", "99"]
    assert note.endswith(
        "In column 'age' it would be missing as well: where it is a value, write empty cells into the file."
    )


def test_survey_codes_beside_each_other(told: Any) -> None:
    (note,), _ = told({"x": cells(*[777] * 3, *[888] * 3, *[999] * 3, values=AGES % 11)})
    assert pasted(note) == ["777", "888", "999"]


@pytest.mark.parametrize(
    "values",
    [
        cells(*[99] * 7),  # ages go on to it
        cells(-999, -999),  # twice
        cells(*[-500] * 7),  # no number that people take
        cells(*[999] * 7, values=AGES * 12),
        [0, 99] * 30,  # two values are no measure
        np.linspace(-99, 99, 60).round().tolist(),
    ],
)
def test_values_that_are_none(told: Any, values: list[float]) -> None:
    assert told({"x": values, "other": AGES})[0] == []


def test_a_target_that_is_a_number(tmp_path: Path) -> None:
    rows = {"x": AGES, "y": cells(*[-9999] * 5, values=AGES + 0.5)}
    pl.DataFrame(rows, strict=False).write_csv(tmp_path / "my.csv")
    (note,) = table(str(tmp_path / "my.csv"), "y").notes
    assert note.startswith("Column 'y' is -9999 in 5 rows")
    raw = table(str(tmp_path / "my.csv"), "y", missing_values=pasted(note))
    assert raw.targets.min() > 0
    assert len(raw.targets) == 55
