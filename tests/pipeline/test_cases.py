"""Tables that people brought, where the folder of such cases is there (HYPERMAP_CASES, or ../shared/cases)."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.datasets.images import Raw
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.tables.readers import open_table

CASES = Path(os.environ.get("HYPERMAP_CASES", ROOT.parent / "shared/cases"))

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no folder of cases (HYPERMAP_CASES)")


def read(name: str, target: str | int = "y", **arguments: Any) -> Raw:
    return table(str(CASES / name), target, **arguments)


def column(raw: Raw, name: str) -> np.ndarray:
    assert raw.table is not None
    return raw.inputs[:, raw.table.matrix_names.index(name)]


def cells(name: str) -> pl.DataFrame:
    """As polars reads it where nothing is to be understood."""
    return pl.read_csv(CASES / name, infer_schema=False)


def pasted(text: str) -> dict[str, Any]:
    """The advised words of a command, as Hydra reads what a shell makes of them."""
    words = shlex.split(re.search(r"say (.*?)(?:[;.]$|[;.] |, which)", text)[1])  # type: ignore[index]
    parsed = OverridesParser.create().parse_overrides(words)
    return {override.key_or_group.removeprefix("data."): override.value() for override in parsed}


def test_quotes_in_cells() -> None:
    raw = read("inch_marks.csv")
    assert raw.table is not None
    assert len(raw.inputs) == 60
    assert '8" pipe' in raw.table.columns[1].categories


def test_a_target_with_a_unit() -> None:
    with pytest.raises(UserError, match="numbers with a unit"):
        read("percent_target.csv", "discount")


def test_an_index() -> None:
    raw = read("pandas_index.csv")
    assert raw.table is not None
    assert raw.table.names == ["x"]
    assert "it has no name" in " ".join(raw.notes)


def test_dates_of_bigquery() -> None:
    when = cells("bigquery_utc.csv")["sold"].str.to_datetime("%Y-%m-%d %H:%M:%S UTC")
    np.testing.assert_allclose(column(read("bigquery_utc.csv"), "sold.days"), when.dt.epoch("us") / 86_400e6)


def test_dates_to_predict_as_another_program_writes_them() -> None:
    raw = read("tz_train.parquet")
    assert raw.table is not None
    other = open_table([CASES / "tz_as_pandas_writes.csv"], expected=raw.table.expected)
    raw.table.check(other)
    (batch,) = other.batches()
    np.testing.assert_allclose(raw.table.encode(batch), raw.inputs)


def test_a_dash_for_missing() -> None:
    with pytest.raises(UserError, match=r"column 'a': .* are no finite numbers, such as '-'") as raised:
        read("dash_missing.csv")
    raw = read("dash_missing.csv", **pasted(str(raised.value)))
    dashes = (cells("dash_missing.csv")["a"] == "-").to_numpy()
    np.testing.assert_array_equal(np.isnan(column(raw, "a")), dashes)


@pytest.mark.parametrize("name", ["unicode_minus.csv", "accounting.csv"])
def test_negative_numbers(name: str) -> None:
    plain = cells(name)["profit"].str.replace("^[\u2212(]", "-").str.strip_chars_end(")").cast(pl.Float64)
    assert (plain < 0).any()
    np.testing.assert_array_equal(column(read(name), "profit"), plain)


def test_dates_in_two_forms() -> None:
    with pytest.raises(UserError, match=r"column 'sold' has dates in several forms: .*%Y-%m-%d.*%d/%m/%Y"):
        read("dates_two_forms.csv")


def test_classes_that_differ_in_case() -> None:
    (note,) = [note for note in read("class_case.csv", "bought").notes if "case" in note]
    raw = read("class_case.csv", "bought", **pasted(note))
    np.testing.assert_array_equal(raw.targets, cells("class_case.csv")["bought"].str.to_lowercase() == "yes")
    assert raw.classes == ("no", "yes")


def test_a_header_of_years() -> None:
    with pytest.raises(UserError, match="first line reads as data") as raised:
        read("year_headers.csv", 2022)
    raw = read("year_headers.csv", 2022, **pasted(str(raised.value)))
    np.testing.assert_array_equal(raw.targets, cells("year_headers.csv")["2022"].cast(pl.Float64))


def test_zstandard() -> None:
    np.testing.assert_array_equal(column(read("small.csv.zst"), "x"), cells("small.csv.zst")["x"].cast(pl.Float64))
