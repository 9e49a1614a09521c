"""Oversampling: repeat training rows of the smaller classes until all classes are as large as the largest."""

import numpy as np
from numpy.typing import NDArray


def oversample(targets: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return positions ``(rows,)`` of training rows in which every class with rows is as large as the largest.

    All rows come first, in their order; then rows of the smaller classes, drawn with replacement, class by class, as in
    imbalanced-learn's RandomOverSampler. The same targets and seed give the same positions.

    Args:
        targets: class indices ``(rows,)`` of training rows only: a repeated row must not be used for validation.
        seed: for the drawing.
    """
    generator = np.random.default_rng(seed)
    present, counts = np.unique(targets, return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(targets == index), counts.max() - count)
        for index, count in zip(present, counts, strict=True)
    ]
    return np.concatenate([np.arange(len(targets)), *drawn])
