"""Oversampling: training rows of the smaller classes repeated, so that all classes are as large as the largest."""

import numpy as np
from numpy.typing import NDArray


def oversample(targets: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions ``(rows,)`` of training rows, with which every class that has rows has as many as the largest.

    Every row is there, in its order; behind them stand rows of the smaller classes, drawn with replacement, class by
    class, as imbalanced-learn's RandomOverSampler has it. The same targets and seed give the same positions.

    Args:
        targets: class indices ``(rows,)`` of training rows alone: a repeated row must not validate.
        seed: of the drawing.
    """
    generator = np.random.default_rng(seed)
    present, counts = np.unique(targets, return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(targets == index), counts.max() - count)
        for index, count in zip(present, counts, strict=True)
    ]
    return np.concatenate([np.arange(len(targets)), *drawn])
