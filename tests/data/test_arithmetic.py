"""Features of two numbers: found where they were hidden, and computed as numpy does."""

import numpy as np
import polars as pl
import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.data.arithmetic import Arithmetic, pick, with_arithmetic
from hypermap.data.fold_data import Folds
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables.dataset import table


def hidden(rows=1500, seed=0):
    """Five numbers, of which the product of two says something, and the ratio of two others."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, 5))
    matrix[:, 3:] = np.exp(matrix[:, 3:])
    targets = matrix[:, 0] + 2 * matrix[:, 1] * matrix[:, 2] + np.log(matrix[:, 3] / matrix[:, 4])
    return matrix, targets + 0.3 * generator.normal(size=rows)


@pytest.mark.parametrize("of_class", [False, True])
def test_a_product_that_says_something_is_found(of_class):
    matrix, targets = hidden()
    targets = np.digitize(targets, [-1, 1]) if of_class else targets
    roles = ["number"] * 5
    first, *others = pick(matrix, roles, targets, [of_class], 3, seed=0)
    assert first == Arithmetic("*", 1, 2)
    assert len(others) <= 2
    assert pick(matrix, roles, targets, [of_class], 1, seed=0) == [first]
    several = np.stack([targets, np.random.default_rng(1).normal(size=len(targets))], 1)
    assert pick(matrix, roles, several, [of_class, False], 1, seed=0) == [first]
    without = pick(matrix, ["number", "number", "category", "number", "number"], targets, [of_class], 9, seed=0)
    assert not any(2 in (feature.left, feature.right) for feature in without)


def test_where_columns_say_all_by_themselves_nothing_is_added():
    matrix, noise = np.random.default_rng(0).normal(size=(2000, 4)), np.random.default_rng(1).normal(size=2000)
    assert pick(matrix, ["number"] * 4, np.sin(matrix[:, 0]) + noise, [False], 5, seed=0) == []
    assert pick(matrix, ["number"] * 4, (noise > 0).astype(np.int64), [True], 5, seed=0) == []


def test_it_takes_two_columns_of_numbers():
    with pytest.raises(
        UserError, match=r"data.arithmetic is 2; it combines columns of numbers, of which the table has 1"
    ):
        pick(np.zeros((9, 2)), ["number", "category"], np.zeros(9), [False], 2, seed=0)


def test_results_that_are_no_numbers_are_missing():
    matrix = np.array([[6.0, 3.0], [1.0, 0.0], [np.nan, 2.0], [1e200, 1e200]])
    features = [Arithmetic(operation, 0, 1) for operation in "+-*/"]
    found = with_arithmetic(matrix, features)
    np.testing.assert_array_equal(found[:, :2], matrix)
    np.testing.assert_array_equal(found[0, 2:], [9, 3, 18, 2])
    np.testing.assert_array_equal(found[1, 2:], [1, 1, 0, np.nan])
    assert np.isnan(found[2, 2:]).all()
    np.testing.assert_array_equal(found[3, 2:], [2e200, 0, np.nan, 1])


@pytest.fixture
def prepared(tmp_path):
    """Prepares the hidden features in a table; returns the folder."""

    def of(rows, name="data", **settings):
        matrix, targets = hidden()
        if rows is not None:
            matrix, targets = matrix[rows], targets[rows]
        pl.DataFrame({**{f"x{k}": matrix[:, k] for k in range(5)}, "y": targets}).write_csv(tmp_path / f"{name}.csv")
        path, folder = str(tmp_path / f"{name}.csv"), tmp_path / name
        prepare(folder, reader=table, path=path, target="y", test=0.2, arithmetic=2, **settings)
        return folder

    return of


def test_features_stand_behind_the_numbers_by_their_ranks_and_a_module_has_the_same(prepared):
    folder = prepared(None)
    transform, raw = read_transform(folder), load_raw(folder, "test")
    first = transform.manifest.arithmetic[0]
    assert first == {"name": "x1 * x2", "operation": "*", "left": 1, "right": 2}
    assert transform.manifest.layout["numbers"] == 5 + len(transform.manifest.arithmetic)
    product = (raw.inputs[:, 1] * raw.inputs[:, 2]).numpy()
    assert (np.diff(raw.features.numpy()[np.argsort(product), 5]) >= 0).all()
    assert abs(raw.features[:, 5].mean()) < 0.3
    rows = raw.inputs.clone()
    rows[0, 1], rows[1, 4] = torch.nan, 0.0
    np.testing.assert_allclose(
        transform.preprocessor.module()(rows), transform.preprocessor(rows), rtol=1e-5, atol=1e-5
    )


def test_test_rows_have_no_part_in_the_choice_and_each_fold_has_its_own(prepared):
    folder = prepared(None)
    folds = Folds(folder)
    manifest = folds.of(folds.development.holdout).transform.manifest
    again = read_transform(folder).refit(load_raw(folder, "train")).manifest
    assert again.arithmetic == manifest.arithmetic == read_transform(folder).manifest.arithmetic
