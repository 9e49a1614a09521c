"""Made-up sentences of two classes, as rows and as files."""

import csv

import numpy as np

GOOD = ("fine", "lovely", "bright", "grand")
BAD = ("dull", "weak", "bleak", "poor")
REST = ("the", "play", "was", "and", "its", "cast", "music", "rather", "a", "bit")


def sentences(rows, seed=0):
    """Return texts and their classes: a word of a class, and twice as many of either."""
    draw = np.random.default_rng(seed)
    made, classes = [], []
    for row in range(rows):
        good = row % 2 == 0
        words = [*draw.choice(REST, draw.integers(3, 12)), str(draw.choice(GOOD if good else BAD))]
        draw.shuffle(words)
        made.append(" ".join(words))
        classes.append("good" if good else "bad")
    return made, classes


def write_table(path, rows, seed=0, header=("text", "class")):
    """Write them as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *zip(*sentences(rows, seed), strict=True)])
    return path


def as_bytes(texts):
    """Return texts as a reader does."""
    rows = [text.encode() for text in texts]
    longest = max(map(len, rows))
    return np.frombuffer(bytearray().join(row.ljust(longest, b"\0") for row in rows), np.uint8).reshape(-1, longest)
