"""Columns with another model's predictions: class probabilities, classes, or numbers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Floats
from hypermap.datasets.tables.column_types import NOTHING, Given
from hypermap.datasets.tables.columns import Column
from hypermap.datasets.tables.schema import Matrix, Schema

NAMED = re.compile(r"(?i:pred|prob|forecast|posterior|y_?hat)|^[pP][_.( ]")  # usual names of such columns
LEAST_ROWS = 50
PROMISING = 0.1  # minimum R² of an unfitted column whose name or neighbors suggest a prediction
TELLING = 0.65  # otherwise; measurements scaled to 0..1 reach 0.6
OF_NUMBERS = 0.5  # for regression, if its name suggests it: measurements are often close to the target
ROUNDING = 0.01  # maximum rounding error of a probability
NEARLY = 0.99  # of the rows


def answers(
    schema: Schema, matrix: Matrix, targets: Floats, known: Sequence[str] = (), given: Given = NOTHING
) -> list[str]:
    """Return a sentence on the columns that predict the target without any fit.

    For classification, a column is interpreted as the probability of a class or, if its words are the classes, as the
    class; for regression as the number. No ordinary measurement reaches a high R² in this way: it would have to be in
    the unit of the target.

    Args:
        matrix: ``(rows, columns)``.
        targets: ``(rows,)``, class indices or numbers.
        known: columns that have been reported already.
        given: the user's settings of columns, for advice.
    """
    columns = [column for column in schema.columns if column.kind != "date" and column.name not in known]
    cells = dict(zip(schema.matrix_names, matrix.T, strict=True))
    found = [c.name for c in columns if _answers(c, cells[c.name], targets, schema)]
    shares = {c.name: scaled for c in columns if (scaled := _as_shares(c, cells[c.name])) is not None}
    size, names = len(schema.target.classes), list(shares)
    for first in range(len(names) - size + 1 if size else 0):
        together = names[first : first + size]
        if _are_probabilities(np.column_stack([shares[name] for name in together]), targets):
            found += together
    named = [column.name for column in columns if column.name in found]
    if not named:
        return []
    s, predicts, it = ("", "predicts", "it") if len(named) == 1 else ("s", "predict", "them")
    return [
        f"Column{s} {listed(named)} {predicts} {schema.target.name!r} as the cells stand, as another model's answers "
        "do: the target may be given away. If that model learned from these rows, or its answers are not known when "
        f"predictions are made, leave {it} out: {given.and_drop(*named)}."
    ]


def listed(names: Sequence[str]) -> str:
    """Return names in quotes, the first five of them."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _answers(column: Column, cells: Floats, targets: Floats, schema: Schema) -> bool:
    """Return whether a column by itself is the prediction of a model."""
    present = ~np.isnan(cells)
    if present.sum() < LEAST_ROWS:
        return False
    cells, targets, classes = cells[present], targets[present], schema.target.classes
    named, several = NAMED.search(column.name) is not None, len(np.unique(cells)) > 2
    if not classes:
        return column.kind == "number" and named and r2(cells, targets) >= OF_NUMBERS
    least = PROMISING if named else TELLING if several else np.inf
    if words := column.categories:
        if not {*words} <= {*classes}:
            return False
        said = np.array([classes.index(word) for word in words])[cells.astype(int)]
        indices = np.arange(len(classes))
        return r2(said[:, np.newaxis] == indices, targets[:, np.newaxis] == indices) >= least
    shares = _as_shares(column, cells, two=True)
    return shares is not None and max(r2(shares, targets == which) for which in range(len(classes))) >= least


def _as_shares(column: Column, cells: Floats, *, two: bool = False) -> Floats | None:
    """Return cells from 0 to 1, or 0 to 100 %, as shares of 1; None if they are not, or only two values."""
    if column.kind != "number" or np.isnan(cells).any() or cells.min() < 0 or (len(np.unique(cells)) <= 2 and not two):
        return None
    scaled: Floats = cells / (100 if cells.max() > 1 + ROUNDING else 1)
    return scaled if scaled.max() <= 1 + ROUNDING else None


def _are_probabilities(shares: Floats, targets: Floats) -> bool:
    """Return whether columns, one for each class, sum to one and each predicts a different class."""
    from scipy.optimize import linear_sum_assignment

    if len(shares) < LEAST_ROWS or (np.abs(shares.sum(axis=1) - 1) <= ROUNDING * shares.shape[1]).mean() < NEARLY:
        return False
    is_class = targets[:, np.newaxis] == np.arange(shares.shape[1])
    means = np.stack([shares[rows].mean(axis=0) if rows.any() else np.zeros(shares.shape[1]) for rows in is_class.T])
    return r2(shares[:, linear_sum_assignment(means, maximize=True)[1]], is_class) >= PROMISING


def r2(said: NDArray[Any], is_so: NDArray[Any]) -> float:
    """Return R² of predictions, ``(rows,)`` or ``(rows, columns)``; 0 if all targets are equal."""
    spread = ((is_so - is_so.mean(axis=0)) ** 2).sum()
    return float(1 - ((said - 1.0 * is_so) ** 2).sum() / spread) if spread else 0.0
