"""Greedy selection of an ensemble from a library of models, by their predictions for rows that they were not fitted to.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004
(https://doi.org/10.1145/1015330.1015432): models are added one at a time, with replacement, each time the one with
which the mean of all that were added has the least loss. A model's weight is the share of its additions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hypermap.core.typing import Array, Floats

ROUNDS = 40  # additions; the best number of them is kept
LEAST_SHARE = 1e-12  # of a loss: less is no difference, but that of rounding

RowLosses = Callable[[Array], Floats]
"""Predictions ``(rows, ...)`` to the loss of each row ``(rows,)``."""


@dataclass(frozen=True)
class Selection:
    """A weight for each model of the library, from 0, with the sum 1, and the loss of the weighted mean."""

    weights: Floats
    loss: float


def select(
    library: Sequence[Array], losses: RowLosses, sizes: Sequence[float] | None = None, limit: float = np.inf
) -> Selection:
    """Return the weights with which the models' mean prediction has the least mean loss.

    Of models with which the loss is equal, one that is in use already is preferred, then the first.

    Args:
        library: each model's predictions ``(rows, ...)``; they must be finite.
        losses: of each row.
        sizes: of each model; 0 if not given.
        limit: of the sum of the sizes of the models in use.

    Raises:
        ValueError: there are no models, or none is within the limit.
    """
    held = np.zeros(len(library)) if sizes is None else np.asarray(sizes, np.float64)
    counts = np.zeros(len(library), np.int64)
    total = np.zeros_like(np.asarray(library[0], np.float64))
    found: Selection | None = None
    for added in range(1, ROUNDS + 1):
        room = limit - held[counts > 0].sum()
        allowed = [k for k in range(len(library)) if counts[k] or held[k] <= room]
        if not allowed:
            break
        each = {k: float(losses((total + library[k]) / added).mean()) for k in allowed}
        least = min(each.values())
        near = [k for k in allowed if each[k] <= least + abs(least) * LEAST_SHARE]
        best = min(near, key=lambda k: (counts[k] == 0, k))
        counts[best] += 1
        total += library[best]
        if found is None or each[best] < found.loss - abs(found.loss) * LEAST_SHARE:
            found = Selection(counts / added, each[best])
    if found is None:
        raise ValueError("no model is within the limit")
    return found


def mean_of(library: Sequence[Array], weights: Floats) -> Array:
    """Return the weighted mean of predictions."""
    total = np.zeros_like(np.asarray(library[0], np.float64))
    for predictions, weight in zip(library, weights, strict=True):
        if weight:
            total += weight * predictions
    return total


def cross_fitted(
    library: Sequence[Array],
    losses: Callable[[slice | Array], RowLosses],
    folds: Sequence[Array],
    sizes: Sequence[float] | None = None,
    limit: float = np.inf,
) -> Array:
    """Return the predictions of ensembles for rows that had no part in their selection: an honest estimate.

    Args:
        library: as for `select`.
        losses: returns the losses of the rows at these positions.
        folds: positions of the rows of each fold; those of a fold are predicted by an ensemble that was selected on
            all others.
        sizes: as for `select`; `limit` too.
    """
    predicted = np.zeros_like(np.asarray(library[0], np.float64))
    every = np.concatenate(folds)
    for fold in folds:
        others = np.setdiff1d(every, fold)
        if not len(others):
            return mean_of(library, select(library, losses(fold), sizes, limit).weights)
        weights = select([one[others] for one in library], losses(others), sizes, limit).weights
        predicted[fold] = mean_of([one[fold] for one in library], weights)
    return predicted
