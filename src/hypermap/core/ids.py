"""Ids of any kind, such as users and items, as rows of whole numbers.

An id that is written as a whole number below `LARGEST` is that number. Any other text is its bytes in UTF-8, seven to a
number behind a mark above `LARGEST`, so that the text can be told from the numbers again. Rows are filled up with -1.
"""

from collections.abc import Sequence

import numpy as np

from hypermap.core.typing import Array

LARGEST = 1 << 56
BYTES = 7  # of a text in each number
NOTHING = -1


def words_of(name: str) -> list[int]:
    """Return the numbers that stand for an id."""
    if name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0") and int(name) < LARGEST:
        return [int(name)]
    content = name.encode()
    parts = (content[start : start + BYTES] for start in range(0, len(content), BYTES))
    return [LARGEST + int.from_bytes(part.ljust(BYTES, b"\0"), "big") for part in parts]


def packed(names: Sequence[str], width: int | None = None) -> Array:
    """Return ids as numbers, int64 ``(ids, width)``; by default as wide as the longest; longer ones are cut."""
    distinct = {name: words_of(name) for name in dict.fromkeys(names)}
    wide = max(1, *map(len, distinct.values())) if width is None else width
    filled = {name: (words + [NOTHING] * wide)[:wide] for name, words in distinct.items()}
    return np.array([filled[name] for name in names], np.int64).reshape(len(names), wide)


def name_of(words: Sequence[int]) -> str:
    """Return the id that numbers stand for."""
    if words[0] < LARGEST:
        return str(words[0])
    content = b"".join((word - LARGEST).to_bytes(BYTES, "big") for word in words if word != NOTHING)
    return content.rstrip(b"\0").decode("utf-8", "replace")


def distinct(words: Array) -> Array:
    """Return the distinct ids among ``(rows, width)`` in their order, without rows of nothing."""
    found: Array = np.unique(words[words[:, 0] != NOTHING], axis=0)
    return found
