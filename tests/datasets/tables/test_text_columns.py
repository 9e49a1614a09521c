"""Columns of free text that are learned from: what is read of them, and mistakes in their settings."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from hypermap.core.errors import UserError
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.data.table_preprocessor import TablePreprocessor
from hypermap.data.table_rows import matrix_of, texts_of
from hypermap.datasets.images import Raw
from hypermap.datasets.prepare import prepare_settings
from hypermap.datasets.tables.dataset import table
from support.own_texts import sentences

ROWS = 80
ADVERTS, CLASSES = sentences(ROWS)
COLUMNS: Mapping[str, list[Any]] = {
    "area": [10.5 * (k % 37) for k in range(ROWS)],
    "advert": ADVERTS,
    "remark": [None if k % 3 else f"no {k}" for k in range(ROWS)],
    "y": CLASSES,
}
READER = "hypermap.datasets.tables.dataset.table"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Raw]:
    """Writes columns to a file and reads it."""

    def write_and_read(columns: Mapping[str, list[Any]] = COLUMNS, **arguments: Any) -> Raw:
        pl.DataFrame(columns, strict=False).write_csv(tmp_path / "my.csv")
        return table(str(tmp_path / "my.csv"), **{"target": "y", **arguments})

    return write_and_read


def texts(raw: Raw) -> list[list[str]]:
    assert raw.table is not None
    return texts_of(raw.inputs, len(raw.table.roles), len(raw.table.texts))


def test_texts_stand_beside_the_matrix(read: Callable[..., Raw]) -> None:
    raw = read(text=["remark", "advert"])
    assert raw.table is not None
    assert raw.table.matrix_names == ["area"]
    assert [column.name for column in raw.table.texts] == ["advert", "remark"]  # as in the file
    assert raw.table.texts[1].missing == 53
    np.testing.assert_array_equal(matrix_of(raw.inputs, 1)[:, 0], COLUMNS["area"])
    assert texts(raw) == [ADVERTS, ["" if k % 3 else f"no {k}" for k in range(ROWS)]]
    assert not raw.notes


@pytest.mark.parametrize("name", ["advert", 2, -3])
def test_a_column_is_named_or_placed(read: Callable[..., Raw], name: str | int) -> None:
    assert texts(read(text=name, drop=["remark"]))[0] == ADVERTS


def test_a_table_without_texts_is_read_as_ever(read: Callable[..., Raw]) -> None:
    raw = read(drop=["advert", "remark"])
    assert raw.table is not None
    assert raw.inputs.dtype == np.float64
    assert "texts" not in raw.table.as_entry()


def test_numbers_and_dates_are_text_if_they_are_said_to_be(read: Callable[..., Raw]) -> None:
    dated = {**COLUMNS, "remark": [f"2021-05-{1 + k % 28:02d}" for k in range(ROWS)]}
    assert texts(read(dated, text=["area", "remark"], drop=["advert"]))[1] == dated["remark"]


def test_odd_texts_are_read_and_long_ones_are_cut_with_a_note(read: Callable[..., Raw]) -> None:
    odd = ["", "  ", "🌷" * 2000, "שלום", "a\x1fb", "line\nbreak", '"quoted"', "x" * 100_000, *ADVERTS[8:]]
    raw = read({**COLUMNS, "advert": odd}, text="advert", drop=["remark"])
    found = texts(raw)[0]
    assert found[2] == "🌷" * 1024  # of four bytes each
    assert found[3:7] == ["שלום", "a b", "line\nbreak", '"quoted"']
    assert len(found[7]) == 4096
    assert "2 of 80 texts of 'advert' are longer than data.text_max_bytes=4,096 bytes, and cut there." in raw.notes[0]


def test_a_column_of_one_text_or_none_is_left_out(read: Callable[..., Raw]) -> None:
    raw = read({**COLUMNS, "advert": ["the same text"] * ROWS, "remark": [None] * ROWS}, text=["advert", "remark"])
    assert raw.table is not None
    assert not raw.table.texts
    assert "'advert' (it has the same value in every row, 'the same text'); 'remark' (it has no values)" in raw.notes[0]


def test_rows_with_other_texts_are_no_duplicates(read: Callable[..., Raw]) -> None:
    same = {
        **COLUMNS,
        "area": [float(k // 2) for k in range(2 * ROWS)],
        "y": ["a", "b"] * ROWS,
        "remark": [""] * 2 * ROWS,
    }
    same["y"] = [f"c{k // 2 % 2}" for k in range(2 * ROWS)]
    different = {**same, "advert": [f"advert {k}" for k in range(2 * ROWS)]}
    assert not read(different, text="advert", drop=["remark"]).notes
    alike = {**same, "advert": [f"advert {k // 2}" for k in range(2 * ROWS)]}
    assert "80 of 160 rows have the same values" in read(alike, text="advert", drop=["remark"]).notes[0]


def test_a_separate_test_file_may_have_longer_texts(read: Callable[..., Raw], tmp_path: Path) -> None:
    longer = {**COLUMNS, "advert": [f"{text} and then {'more ' * 50}" for text in ADVERTS]}
    pl.DataFrame(longer, strict=False).write_csv(tmp_path / "test.csv")
    raw = read(text="advert", drop=["remark"], test_path=str(tmp_path / "test.csv"))
    assert raw.test_inputs is not None
    assert raw.test_inputs.shape == raw.inputs.shape
    assert [text.strip() for text in texts_of(raw.test_inputs, 1, 1)[0]] == [t.strip() for t in longer["advert"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": "avert"}, "data.text names 'avert' (did you mean 'advert'?)"),
        ({"text": "y"}, "data.text names 'y', which is the target: name another."),
        (
            {"text": "advert", "drop": ["advert"]},
            "data.text names 'advert', and so does data.drop: leave it out of one",
        ),
        ({"text": 2, "kinds": {"advert": "category"}}, "data.text names 'advert', and so does data.kinds"),
        ({"text": "advert", "group": "advert"}, "data.text names 'advert', and so does data.group"),
        ({"text": "advert", "text_ngrams": "syllables"}, "data.text_ngrams is 'syllables'; it is one of"),
    ],
)
def test_mistakes_are_told(read: Callable[..., Raw], arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read(**arguments)


def test_a_kind_that_agrees_is_no_mistake(read: Callable[..., Raw]) -> None:
    assert texts(read(text="advert", kinds={"advert": "text"}))[0] == ADVERTS


def prepared(folder: Path, columns: Mapping[str, list[Any]] = COLUMNS, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    pl.DataFrame(columns, strict=False).write_csv(folder / "my.csv")
    given = {"_target_": READER, "path": str(folder / "my.csv"), "target": "y", "test": 0.2, "validation": 0.2}
    prepare_settings(folder / "prepared", given | {"text": ["advert", "remark"]} | settings)
    return folder / "prepared"


def test_nothing_of_other_rows_is_in_what_is_fitted(tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole")
    others = {int(row) - 1 for name in ("validation", "test") for row in load_raw(whole, name).rows}
    changed = [f"zebra {k}" if k in others else text for k, text in enumerate(ADVERTS)]
    again = prepared(tmp_path / "again", {**COLUMNS, "advert": changed})
    assert read_transform(again).stored == read_transform(whole).stored
    assert (load(again, "train").inputs == load(whole, "train").inputs).all()
    assert not (load(again, "test").inputs == load(whole, "test").inputs).all()


def test_each_fold_counts_the_texts_of_its_own_training_rows(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "whole")
    transform, train = read_transform(folder), load_raw(folder, "train")
    half = type(train)(train.inputs[::2], train.targets[::2], train.rows[::2])
    refitted = transform.refit(half).preprocessor
    assert isinstance(refitted, TablePreprocessor)
    for encoder, own in zip(refitted.encoders, texts_of(half.inputs.numpy(), 1, 2), strict=True):
        counted = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4)).fit(own)
        assert list(encoder.terms) == list(counted.get_feature_names_out())


def test_texts_of_test_rows_alone_are_told(tmp_path: Path) -> None:
    """In order of time: the earlier rows have no remark."""
    columns = {**COLUMNS, "day": [*range(ROWS)], "remark": [""] * 70 + [f"late {k}" for k in range(10)]}
    with pytest.raises(UserError, match=r"data\.text names 'remark', which is empty in all of the 51 training rows"):
        prepared(tmp_path, columns, time="day")


def test_missing_texts_are_empty_and_their_rows_are_kept(tmp_path: Path) -> None:
    folder = prepared(tmp_path, {**COLUMNS, "area": [None, *COLUMNS["area"][1:]]}, missing="drop")
    assert sum(read_transform(folder).manifest.rows.values()) == ROWS - 1


def test_texts_alone_are_a_table(tmp_path: Path) -> None:
    manifest = read_transform(prepared(tmp_path, drop=["area"])).manifest
    assert manifest.layout["numbers"] == manifest.shape[0] > 30
