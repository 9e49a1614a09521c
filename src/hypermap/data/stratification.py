"""Splits that keep the share of each label in every part, where a row may have any number of labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Array


def labels_of(targets: Array, classes: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Return which classes of several targets each row has, ``(rows, labels)``; of two classes, the second alone.

    Args:
        targets: ``(rows, columns)``, class indices or numbers.
        classes: of each column; none for numbers.
    """
    found = []
    for values, names in zip(targets.T, classes, strict=True):
        found += [values == k for k in (range(1, 2) if len(names) == 2 else range(len(names)))]
    return np.stack(found, 1) if found else np.zeros((len(targets), 0), np.bool_)


def stratified(labels: NDArray[np.bool_], shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Return the part of each row, ``(rows,)``, such that each part has its share of the rows of each label.

    Iterative stratification (Sechidis et al. 2011, https://doi.org/10.1007/978-3-642-23808-6_10): rows of the rarest
    label are dealt out first, each to the part that lacks most of that label, then most rows, then at random.

    Args:
        labels: which labels each row has, ``(rows, labels)``.
        shares: of the parts; they sum to 1.
        seed: for ties, and the order of the rows.
    """
    generator = np.random.default_rng(seed)
    part = np.full(len(labels), -1)
    lacking_rows = np.array(shares) * len(labels)
    lacking = np.outer(shares, labels.sum(0)).astype(np.float64)  # (parts, labels)
    order = generator.permutation(len(labels))

    def deal(row: int, wanted: NDArray[np.float64]) -> None:
        best = np.flatnonzero(wanted == wanted.max())
        best = best[lacking_rows[best] == lacking_rows[best].max()]
        chosen = int(generator.choice(best)) if len(best) > 1 else int(best[0])
        part[row] = chosen
        lacking_rows[chosen] -= 1
        lacking[chosen] -= labels[row]

    left = labels.sum(0)
    while left.any():
        label = int(np.where(left > 0, left, len(labels) + 1).argmin())
        for row in order[labels[order, label] & (part[order] < 0)]:
            deal(row, lacking[:, label])
            left = left - labels[row]
    for row in order[part[order] < 0]:
        deal(row, lacking_rows)
    return part
