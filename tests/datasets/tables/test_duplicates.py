"""Duplicate rows, held to numpy's own search for equal ones."""

import numpy as np
import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load_raw
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.tables.duplicates import duplicate_rows, first_of_equal, groups_of_equal, shared_rows, twins


def drawn(rows=300, distinct=300):
    """Rows drawn with replacement from distinct ones, some of whose values are missing, and their targets."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(distinct, 3))
    matrix[generator.random((distinct, 3)) < 0.1] = np.nan
    y = generator.integers(0, 2, distinct).astype(float)
    chosen = generator.integers(0, distinct, rows)
    return matrix[chosen], y[chosen]


def test_copies_are_counted_as_by_numpy():
    matrix, y = drawn()
    unique = len(np.unique(np.nan_to_num(np.column_stack([matrix, y]), nan=9), axis=0))
    (sentence,) = duplicate_rows(matrix, y)
    assert sentence.startswith(f"{300 - unique} of 300 rows have the same values as others in every column that is")
    assert "and the same target." in sentence
    assert first_of_equal(matrix, y).sum() == unique
    first = first_of_equal(matrix, y)
    assert duplicate_rows(matrix[first], y[first]) == []


def test_rows_that_are_equal_by_coincidence_are_no_copies():
    generator = np.random.default_rng(0)
    words = generator.integers(0, 4, (300, 3)).astype(float)
    y = generator.integers(0, 2, 300).astype(float)
    assert duplicate_rows(words, y) == []
    assert shared_rows(words, words) == []
    mixed = np.column_stack([words[:, :2], generator.integers(0, 200, 300)])  # 200 ages
    assert 300 - len(np.unique(np.column_stack([mixed, y]), axis=0)) > 0
    assert duplicate_rows(mixed, y) == []


def test_test_rows_among_those_learnt_from():
    matrix = np.random.default_rng(0).normal(size=(100, 2))
    matrix[0, 1] = np.nan
    (sentence,) = shared_rows(matrix, np.array([matrix[0], matrix[1] + 1, matrix[0]]))
    assert sentence.startswith("2 of 3 test rows")
    assert shared_rows(matrix, matrix + 10) == []
    np.testing.assert_array_equal(twins(np.array([matrix[3], matrix[0] + 1]), matrix), [True, False])


def test_groups_are_of_equal_values_and_of_what_a_chain_of_given_groups_connects():
    matrix, _ = drawn()
    expected = np.unique(np.nan_to_num(matrix, nan=9), axis=0, return_inverse=True)[1]
    found = groups_of_equal(matrix, None)
    assert len(np.unique(np.column_stack([found, expected]), axis=0)) == len(np.unique(expected)) == found.max() + 1
    rows = np.array([[1.0], [1.0], [2.0], [2.0], [3.0], [4.0]])
    joined = groups_of_equal(rows, np.array([7, 8, 8, 9, 5, 5]))  # 7 and 8 share a row, and 8 and 9 another
    assert len(np.unique(joined[:4])) == len(np.unique(joined[4:])) == 1
    assert joined[0] != joined[5]


@pytest.fixture
def prepared(tmp_path):
    """Prepares a table of 400 rows, most of them several times, some with another target; returns its splits."""
    generator = np.random.default_rng(1)
    distinct = generator.normal(size=(150, 2))
    chosen = generator.integers(0, 150, 400)
    targets = np.where(generator.random(400) < 0.8, chosen % 2, 1 - chosen % 2)
    columns = {"x": distinct[chosen, 0], "z": distinct[chosen, 1], "owner": chosen // 7, "y": targets}
    pl.DataFrame(columns).write_csv(tmp_path / "my.csv")

    def of(**settings):
        settings = {"path": str(tmp_path / "my.csv"), "target": "y", "drop": ["owner"], "test": 0.2} | settings
        prepare(tmp_path / "data", reader=table, **settings)
        return {name: load_raw(tmp_path / "data", name) for name in ("train", "validation", "test")}, tmp_path / "data"

    return of


def rows_of(split):
    return {tuple(row) for row in split.inputs.tolist()}


def test_test_rows_with_a_twin_are_marked_and_counted(prepared):
    splits, folder = prepared()
    seen = rows_of(splits["train"]) | rows_of(splits["validation"])
    expected = [tuple(row) in seen for row in splits["test"].inputs.tolist()]
    assert splits["test"].twins.tolist() == expected
    assert Manifest.read(folder).twins == sum(expected) > 0
    assert splits["train"].twins is None


def test_dropped_rows_are_those_that_repeat_another(prepared):
    splits, folder = prepared(duplicates="drop")
    left = [
        (*row, y)
        for part in splits.values()
        for row, y in zip(part.inputs.tolist(), part.targets.tolist(), strict=True)
    ]
    whole = pl.read_csv(folder.parent / "my.csv")["x", "z", "y"]
    assert len(left) == len(set(left)) == len(whole.unique())
    (note,) = [note for note in Manifest.read(folder).warnings if "data.duplicates" in note]
    assert note.startswith(f"{400 - len(left)} of 400 rows repeat another")


@pytest.mark.parametrize("group", [None, "owner"])
def test_grouped_rows_are_on_one_side_of_every_split(prepared, group):
    splits, folder = prepared(duplicates="group", group=group, drop=[] if group else ["owner"])
    parts = [rows_of(part) for part in splits.values()]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert sum(len(part.rows) for part in splits.values()) == 400
    assert Manifest.read(folder).twins == 0
    if group:
        owners = pl.read_csv(folder.parent / "my.csv")["owner"].to_numpy()
        own = [{*owners[part.rows.numpy() - 1]} for part in splits.values()]
        assert len(set.union(*own)) == sum(map(len, own))


def test_the_order_of_time_cannot_keep_equal_rows_together(prepared):
    with pytest.raises(UserError, match=r"data.duplicates is group, and data.time orders the splits"):
        prepared(duplicates="group", time="x")
    with pytest.raises(UserError, match=r"data.duplicates is 'drp'; it is keep, group, drop \(did you mean 'drop'"):
        prepared(duplicates="drp")
