"""Duplicate rows, held to numpy's own search for equal ones."""

import numpy as np

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
