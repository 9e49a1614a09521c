"""A table's rows as one array, whether it has texts or not, so that whatever carries rows need not know.

Without texts the rows are the table's matrix, float64 ``(rows, columns)``. With texts a row is bytes: the float64
numbers of the matrix, then the row's texts in UTF-8, joined by `SEPARATOR`; uint8 ``(rows, 8 * columns + longest)``,
with zeros behind shorter texts.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Array
from hypermap.data.preprocessors.text import decoded, stacked

SEPARATOR = "\x1f"
"""The unit separator of ASCII: between the texts of a row, and therefore not in any."""

NUMBER = np.dtype("<f8")


def packed(matrix: NDArray[np.float64], texts: Sequence[bytes], longest: int = 0) -> Array:
    """Return the rows of a matrix and of texts, one joined text for each row, with room for `longest` bytes."""
    rows, columns = matrix.shape
    numbers = np.ascontiguousarray(matrix, NUMBER).reshape(-1).view(np.uint8).reshape(rows, NUMBER.itemsize * columns)
    return np.concatenate([numbers, stacked(texts, longest)], axis=1)


def matrix_of(rows: Array, columns: int) -> NDArray[np.float64]:
    """Return the matrix ``(rows, columns)`` of a table's rows."""
    if rows.dtype == np.float64:
        return rows
    return rows[:, : NUMBER.itemsize * columns].reshape(-1).view(NUMBER).reshape(len(rows), columns)


def texts_of(rows: Array, columns: int, count: int) -> list[list[str]]:
    """Return the texts of a table's rows: `count` lists, each with the texts of one column."""
    split = (text.split(SEPARATOR) for text in decoded(rows[:, NUMBER.itemsize * columns :]))
    return [list(column) for column in zip(*split, strict=True)] if len(rows) else [[] for _ in range(count)]


def identities(rows: Array, columns: int) -> NDArray[np.float64]:
    """Return the matrix of a table's rows, with a number for the texts of each behind it, so that equal rows have equal
    numbers.
    """
    matrix = matrix_of(rows, columns)
    if rows.dtype == np.float64:
        return matrix
    # float64 holds 48 bits
    digests = [hashlib.sha256(text.tobytes()).digest()[:6] for text in rows[:, NUMBER.itemsize * columns :]]
    return np.column_stack([matrix, np.array([int.from_bytes(digest) for digest in digests], np.float64)])
