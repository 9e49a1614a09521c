"""Duplicate rows: counted, left out, or kept on one side of every split (``data.duplicates``)."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.datasets.tables.schema import Matrix

Duplicates = Literal["keep", "group", "drop"]

ROWS = 10_000  # maximum that columns are judged by
BLOCK = 100_000  # rows at a time
FEW = 50  # distinct values: if no column has more, rows are equal by coincidence
TIMES = 100  # this many times the equal pairs of independent columns are not suspicious: columns are rarely independent


def duplicate_rows(matrix: Matrix, targets: NDArray[np.float64]) -> list[str]:
    """Return a sentence if more rows than by coincidence are duplicates in everything that the model sees.

    Args:
        matrix: ``(rows, columns)``.
        targets: ``(rows,)``; for several, ``(rows, targets)``.
    """
    copies = int((~first_of_equal(matrix, targets)).sum())
    if not copies or _coarse(matrix) or copies <= TIMES * _coincidences(matrix, _alone(targets)):
        return []
    return [
        f"{copies:,} of {len(matrix):,} rows have the same values as others in every column that is learned from, and "
        "the same target. One may be learned from and its copy tested on, which flatters the score. If they are no "
        "measurements of their own, leave the copies out with data.duplicates=drop; data.duplicates=group keeps rows "
        "with the same values on one side of every split."
    ]


def shared_rows(matrix: Matrix, test_matrix: Matrix) -> list[str]:
    """Return a sentence if test rows are among the training rows, whatever their target, and not by coincidence."""
    shared = int(twins(test_matrix, matrix).sum())
    if not shared or _coarse(matrix):
        return []
    return [f"{shared:,} of {len(test_matrix):,} test rows have the same values as rows that are learned from."]


def first_of_equal(matrix: Matrix, targets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows are the first with their values and target ``(rows,)``."""
    return row_hashes(matrix, _alone(targets)).is_first_distinct().to_numpy()


def groups_of_equal(matrix: Matrix, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return groups ``(rows,)`` that keep rows with the same values together, and those of each of the given groups.

    Rows are of one group if a chain of equal values and given groups connects them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    equal = row_hashes(matrix).rank("dense").cast(pl.Int64).to_numpy() - 1
    if groups is None:
        return equal
    given = np.unique(groups, return_inverse=True)[1]
    size = int(equal.max()) + 1 + int(given.max()) + 1
    edges = coo_array((np.ones(len(equal), np.int8), (equal, equal.max() + 1 + given)), shape=(size, size))
    joined: NDArray[np.int64] = connected_components(edges, directed=False)[1][equal].astype(np.int64)
    return joined


def twins(matrix: Matrix, others: Matrix) -> NDArray[np.bool_]:
    """Return which rows have the same values as one of the others ``(rows,)``, whatever their targets."""
    return row_hashes(matrix).is_in(row_hashes(others).unique().implode()).to_numpy()


def row_hashes(matrix: Matrix, targets: NDArray[np.float64] | None = None) -> pl.Series:
    """Return a hash for each row; equal rows (with NaN equal to NaN) have equal hashes."""
    parts = []
    for first in range(0, len(matrix), BLOCK):
        rows = pl.from_numpy(matrix[first : first + BLOCK])
        if targets is not None:
            rows = rows.with_columns(target=pl.Series(targets[first : first + BLOCK]))
        parts.append(rows.hash_rows(seed=0))
    return pl.concat(parts)


def _coarse(matrix: Matrix) -> bool:
    """Return whether no column has many distinct values, so that equal rows are to be expected."""
    return all(len(np.unique(column[:ROWS])) <= FEW for column in matrix.T)


def _coincidences(matrix: Matrix, targets: NDArray[np.float64]) -> float:
    """Return the expected number of equal pairs of rows if their columns were independent."""
    share, seen = 1.0, min(len(targets), ROWS)
    for column in (*matrix.T, targets):
        counts = np.unique_counts(np.nan_to_num(column[:seen], nan=np.inf)).counts
        share *= float((counts * (counts - 1)).sum()) / (seen * (seen - 1))
    return share * len(targets) * (len(targets) - 1) / 2


def _alone(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one number for each row's targets."""
    if targets.ndim == 1:
        return targets
    return np.unique(targets, axis=0, return_inverse=True)[1].astype(np.float64)
