"""Arithmetic features: sums, differences, products and ratios of two numbers of a table that say more of its target.

They are picked on training rows by what they explain of the residuals of a quick model, which is the idea of OpenFE
(Zhang et al. 2023, https://arxiv.org/abs/2211.12507). The model here is a sum of functions of one column each: what it
leaves is what columns say together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.core.typing import Array, Floats

SYMMETRIC, ORDERED = ("+", "*"), ("-", "/")
ROWS = 10_000  # maximum that features are picked by
COLUMNS = 20  # maximum that are combined: those that say most of the target by themselves
CLASSES = 10  # maximum that are told apart: the most frequent
FINALISTS = 200  # candidates that are compared in every round
FOLDS = 3  # of the quick model
TREES = 150  # of one split each
BINS = 32  # by quantiles; missing values have one more
SHRINKAGE = 10.0  # rows of mean 0 that are added to each bin
LEAST = 1e-3  # share of the residuals' variance that a feature explains at least
STANDARD_ERRORS = 3.0  # of what it explains, above 0: the best of many candidates explains something by chance


@dataclass(frozen=True)
class Arithmetic:
    """The columns `left` and `right` of a matrix, combined by `operation`: ``+``, ``-``, ``*`` or ``/``."""

    operation: str
    left: int
    right: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Arithmetic":
        """Return the feature of an entry from `as_entry`."""
        return cls(entry["operation"], entry["left"], entry["right"])

    def as_entry(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the feature as a JSON entry, with its name in words."""
        name = f"{names[self.left]} {self.operation} {names[self.right]}"
        return {"name": name, "operation": self.operation, "left": self.left, "right": self.right}

    def __call__(self, matrix: Any) -> Any:
        """Return the feature's values ``(rows,)`` of an array or a tensor ``(rows, columns)``, as they come."""
        left, right = matrix[:, self.left], matrix[:, self.right]
        match self.operation:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
        return left / right


def with_arithmetic(matrix: Floats, features: Sequence[Arithmetic]) -> Floats:
    """Return the matrix with the features behind it; NaN where a number is missing, or a result is not finite."""
    if not features:
        return matrix
    with np.errstate(all="ignore"):
        made = np.stack([feature(matrix) for feature in features], 1)
    return np.hstack([matrix, np.where(np.isfinite(made), made, np.nan)])


def pick(
    matrix: Floats, roles: Sequence[str], targets: Array, classes: Sequence[bool], count: int, seed: int
) -> list[Arithmetic]:
    """Return at most `count` features, the most telling first; fewer if no other explains anything.

    In each round the candidates' values are cut into bins, and the mean residual in each bin of one half of the rows
    predicts the residuals of the other. The candidate that explains most is picked, and what it explains subtracted.

    Args:
        matrix: training rows ``(rows, columns)``, NaN where missing.
        roles: of each column; those of ``number`` are combined.
        targets: of these rows ``(rows,)`` or ``(rows, targets)``.
        classes: whether each target is a class.
        count: maximum number of features.
        seed: for drawing `ROWS` rows, and the folds.

    Raises:
        UserError: there are fewer than two columns of numbers.
    """
    numbers = [k for k, role in enumerate(roles) if role == "number"]
    if len(numbers) < 2:
        raise UserError(
            f"data.arithmetic is {count}; it combines columns of numbers, of which the table has {len(numbers)}: set "
            "it to 0."
        )
    rows = np.random.default_rng(seed).permutation(len(matrix))[:ROWS]
    matrix, learned = matrix[rows], _learned(targets[rows], classes)
    if len(numbers) > COLUMNS:
        gains = _explained(_binned(matrix[:, numbers]), learned)[0]
        numbers = sorted(numbers[k] for k in np.argsort(-gains, kind="stable")[:COLUMNS])
    candidates = [
        *(Arithmetic(sign, a, b) for a, b in combinations(numbers, 2) for sign in SYMMETRIC + ORDERED),
        *(Arithmetic("/", b, a) for a, b in combinations(numbers, 2)),
    ]
    bins = _binned(with_arithmetic(matrix, candidates)[:, matrix.shape[1] :])
    residuals = learned - _quick_predictions(matrix, learned, seed)
    gains, _ = _explained(bins, residuals)
    finalists = np.sort(np.argsort(-gains, kind="stable")[:FINALISTS])
    least, picked = LEAST * float(np.square(residuals).mean(0).sum()), []
    for _ in range(count):
        gains, explained = _explained(bins[:, finalists], residuals)
        best = int(gains.argmax())
        left = residuals - explained(best)
        error = float((np.square(residuals) - np.square(left)).sum(1).std()) / len(residuals) ** 0.5
        if gains[best] < max(least, STANDARD_ERRORS * error):
            break
        picked.append(candidates[finalists[best]])
        residuals = left
    return picked


def _learned(targets: Array, classes: Sequence[bool]) -> Floats:
    """Return numbers with variance 1, and an indicator of each class but the rarest ``(rows, values)``."""
    columns = []
    for own, of_class in zip(targets.reshape(len(targets), -1).T.astype(np.float64), classes, strict=True):
        if not of_class:
            columns.append((own - own.mean()) / (own.std() or 1.0))
            continue
        values, counts = np.unique(own, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][: max(1, min(CLASSES, len(values) - 1))]
        columns += [(own == value).astype(np.float64) for value in frequent]
    return np.stack(columns, 1)


def _quick_predictions(matrix: Floats, learned: Floats, seed: int) -> Floats:
    """Return predictions ``(rows, values)`` by a sum of functions of one column each, fitted to other rows."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(min(FOLDS, len(matrix)), shuffle=True, random_state=seed)
    model = HistGradientBoostingRegressor(max_iter=TREES, max_leaf_nodes=2, early_stopping=False, random_state=seed)
    return np.stack([cross_val_predict(model, matrix, values, cv=folds) for values in learned.T], 1)


def _binned(values: Floats) -> NDArray[np.intp]:
    """Return the bin of each value ``(rows, columns)``, by the quantiles of its column; `BINS` if it is missing."""
    binned = np.full(values.shape, BINS, np.intp)
    for k, column in enumerate(values.T):
        known = np.isfinite(column)
        if known.any():
            edges = np.unique(np.quantile(column[known], np.linspace(0, 1, BINS + 1)[1:-1]))
            binned[known, k] = np.searchsorted(edges, column[known], side="right")
    return binned


def _explained(bins: NDArray[np.intp], residuals: Floats) -> tuple[Floats, Any]:
    """Return how much each column of bins lowers the mean square of the residuals, and a function of a column that
    returns what it predicts of them ``(rows, values)``. Either half of the rows is predicted by the other's means.
    """
    halves = np.arange(len(bins)) % 2  # the rows are in random order

    def predicted(column: int) -> Floats:
        found = np.empty_like(residuals)
        for half in (0, 1):
            others, own = bins[halves != half, column], bins[halves == half, column]
            counts = np.bincount(others, minlength=BINS + 1) + SHRINKAGE
            for k, values in enumerate(residuals[halves != half].T):
                found[halves == half, k] = (np.bincount(others, values, BINS + 1) / counts)[own]
        return found

    before = np.square(residuals).mean(0).sum()
    gains = [before - np.square(residuals - predicted(k)).mean(0).sum() for k in range(bins.shape[1])]
    return np.array(gains), predicted
