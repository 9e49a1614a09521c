"""Rows of numbers and texts, packed and unpacked."""

import numpy as np
import pytest

from hypermap.data.table_rows import SEPARATOR, matrix_of, packed, texts_of

MATRIX = np.array([[1.5, np.nan], [-0.0, 1e300], [2.0, 3.0]])
TEXTS = [("one", "δύο"), ("", ""), ("🌷🌷🌷", "")]
JOINED = [SEPARATOR.encode().join(text.encode() for text in texts) for texts in TEXTS]


def test_what_is_packed_is_unpacked():
    rows = packed(MATRIX, JOINED)
    assert rows.dtype == np.uint8
    assert matrix_of(rows, 2).tobytes() == MATRIX.tobytes()
    assert texts_of(rows, 2, 2) == [list(column) for column in zip(*TEXTS, strict=True)]


def test_a_table_without_texts_is_its_matrix():
    assert matrix_of(MATRIX, 2) is MATRIX


def test_texts_alone():
    rows = packed(np.empty((3, 0)), JOINED, 100)
    assert rows.shape == (3, 100)
    assert matrix_of(rows, 0).shape == (3, 0)
    assert texts_of(rows, 0, 2)[0] == ["one", "", "🌷🌷🌷"]


@pytest.mark.parametrize("count", [0, 2])
def test_no_rows(count):
    rows = packed(np.empty((0, 2)), [])
    assert matrix_of(rows, 2).shape == (0, 2)
    assert texts_of(rows, 2, count) == [[]] * count
