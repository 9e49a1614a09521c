"""The numbers behind the pictures, as the tables that `dvc plots show` and `dvc plots diff` draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from hypermap.core.files import write_csv
from hypermap.tasks.metrics import calibration_bins

COLUMNS = {
    "history": (
        "epoch",
        "train_loss",
        "validation_loss",
        "train_score",
        "validation_score",
        "learning_rate",
        "gradient_norm",
        "clipped",
    ),
    "confusion": ("actual", "predicted"),
    "roc": ("class", "false_positive_rate", "true_positive_rate"),
    "calibration": ("confidence", "accuracy", "rows"),
    "residuals": ("actual", "predicted"),
}
"""Every table and its columns. All are always written: DVC wants a declared plot to exist, if only as a header."""

ROC_POINTS = 200
"""Points kept of a class's curve: more than a screen shows, and few enough to be read in Git."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Roc:
    """One class against the rest: the curve's points (points,), thinned, and the area under the whole of it."""

    name: str
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    area: float


def write_plots(folder: Path, tables: Mapping[str, Rows]) -> None:
    """Write each table of `COLUMNS` to folder/NAME.csv; one that `tables` lacks becomes a header without rows."""
    for name, columns in COLUMNS.items():
        chosen = [{column: row[column] for column in columns} for row in tables.get(name, [])]
        write_csv(folder / f"{name}.csv", columns, chosen)


def confusion_rows(targets: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Rows:
    """Return a row for each test row: the names of the actual and of the predicted class."""
    pairs = zip(targets, probabilities.argmax(axis=1), strict=True)
    return [{"actual": classes[actual], "predicted": classes[predicted]} for actual, predicted in pairs]


def residual_rows(targets: NDArray[Any], values: NDArray[Any]) -> Rows:
    """Return a row for each test row: the actual and the predicted value."""
    return [{"actual": float(a), "predicted": float(p)} for a, p in zip(targets, values, strict=True)]


def roc_rows(curves: Sequence[Roc]) -> Rows:
    """Return a row for each point, class after class."""
    return [
        {"class": curve.name, "false_positive_rate": float(x), "true_positive_rate": float(y)}
        for curve in curves
        for x, y in zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
    ]


def calibration_rows(targets: NDArray[Any], probabilities: NDArray[Any]) -> Rows:
    """Return a row for each bin that has rows: its mean confidence, its accuracy and its number of rows."""
    bins = zip(*calibration_bins(targets, probabilities), strict=True)
    return [{"confidence": float(c), "accuracy": float(a), "rows": int(n)} for c, a, n in bins if n]


def roc_curves(targets: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> list[Roc]:
    """Return the curve of each class against the rest; of two classes, that of the second.

    A class that all rows belong to, or none, has no curve.
    """
    wanted = [1] if len(classes) == 2 else range(len(classes))
    return [
        _roc(classes[k], targets == k, probabilities[:, k]) for k in wanted if 0 < np.sum(targets == k) < len(targets)
    ]


def _roc(name: str, positive: NDArray[np.bool_], score: NDArray[Any]) -> Roc:
    false_positive_rate, true_positive_rate, _ = roc_curve(positive, score)
    kept = np.unique(np.linspace(0, len(false_positive_rate) - 1, ROC_POINTS).round().astype(int))
    return Roc(name, false_positive_rate[kept], true_positive_rate[kept], float(roc_auc_score(positive, score)))
