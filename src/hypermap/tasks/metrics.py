"""Metrics of predictions, each with a bootstrap interval.

The metrics are scikit-learn's (tests compare them), in numpy alone: a search computes them for every trial, and
scikit-learn takes 30 ms for what takes 1 ms here, and a second to import. The intervals need each metric a thousand
times, on resampled rows. A resample is a count per row, and every metric here is a function of *sums* of such counts
(over the cells of the confusion matrix, the bins of the confidence, the ranks of a score, or all rows), so that all
resamples are computed at once from one matrix of counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError, near
from hypermap.core.typing import Floats
from hypermap.tasks.base import Resampled, directions

Integers = NDArray[np.int64]
BINS = 15
"""Equal-width bins of the confidence, as in Guo et al. 2017, https://arxiv.org/abs/1706.04599."""

CHUNK = 1_000_000
"""Row counts processed at once: 8 MB, about the size of a processor's cache; the metrics make a few copies."""


def higher_is_better(name: str) -> bool:
    """Return whether a higher value of a metric is better: True for ``accuracy``, False for ``loss`` or ``latency_ms``.

    Raises:
        UserError: no metric has that name.
    """
    from hypermap.tasks.classification import Classification  # which imports this
    from hypermap.tasks.forecast import Forecast
    from hypermap.tasks.multilabel import Multilabel
    from hypermap.tasks.multitask import Multitask
    from hypermap.tasks.ratings import Ranking, RatingPrediction
    from hypermap.tasks.regression import Regression

    tasks = (Classification, Regression, Multilabel, Multitask, Forecast, RatingPrediction, Ranking)
    known = directions({name: high for task in tasks for name, high in task.metrics.items()})
    if name not in known:  # perhaps of one of several targets: ``price_r2``
        name = max((own for own in known if name.endswith(f"_{own}")), key=len, default=name)
    if name not in known:
        raise UserError(f"no metric {name!r}{near(name, sorted(known))}. There are: {', '.join(sorted(known))}.")
    return known[name]


def classification(targets: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    """Return the metrics of `targets` (rows,) int64 and `probabilities` (rows, classes).

    Precision, recall and F1 are means over the classes that occur in targets or predictions (macro), 0 for one that is
    never predicted; balanced accuracy is the mean recall of the classes in the targets. ROC-AUC is that of class 1 if
    there are two classes, else the mean of one-vs-rest over the classes in the targets; it is left out if it is
    undefined, because all rows are of one class.

    Raises:
        ValueError: a probability that is not finite.
    """
    targets, probabilities = _typed(targets, probabilities)
    check_finite(probabilities)
    rows, classes = probabilities.shape
    confusion = np.bincount(targets * classes + probabilities.argmax(axis=1), minlength=classes**2)
    values = _from_confusion(confusion.reshape(classes, classes, 1).astype(np.float64))
    if ranks := _ranks(targets, probabilities):
        once = np.ones((rows, 1))
        values["roc_auc"] = np.mean([_area(groups, positive, once) for groups, positive in ranks], axis=0)
    values["log_loss"] = _log_losses(targets, probabilities).mean(keepdims=True)
    values["calibration_error"] = np.array([calibration_error(targets, probabilities)])
    return {name: float(value[0]) for name, value in values.items()}


def regression(targets: NDArray[Any], values: NDArray[Any]) -> dict[str, float]:
    """Return the metrics of `targets` and predicted `values`, both (rows,), in the targets' unit.

    R² is left out for a single row, where it is undefined. If all targets are equal, it is 1 if all predictions are
    exact, else 0.

    Raises:
        ValueError: a value that is not finite.
    """
    targets, values = np.asarray(targets, np.float64), np.asarray(values, np.float64)
    check_finite(values)
    error = targets - values
    metrics = {"rmse": np.sqrt((error**2).mean()), "mae": np.abs(error).mean()}
    if len(targets) > 1:
        unexplained, spread = (error**2).sum(), ((targets - targets.mean()) ** 2).sum()
        metrics["r2"] = 1 - unexplained / spread if spread else unexplained == 0
    return {name: float(value) for name, value in metrics.items()}


def log_loss(targets: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return the mean of -log of the probability of each row's true class."""
    return float(_log_losses(*_typed(targets, probabilities)).mean())


def calibration_bins(targets: NDArray[Any], probabilities: NDArray[Any]) -> tuple[Floats, Floats, Integers]:
    """Return mean confidence, accuracy and row count for each of the `BINS` bins of the predicted class's probability.

    Each is (bins,); a bin without rows has NaN for the first two.
    """
    confidence, correct = _confidence(targets, probabilities)
    bins = _bin(confidence)
    rows = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(bins, confidence, BINS) / rows,
            np.bincount(bins, correct, BINS) / rows,
            rows.astype(np.int64),
        )


def calibration_error(targets: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return the expected calibration error: |accuracy - confidence| over bins, weighted by rows (Guo et al. 2017)."""
    confidence, accuracy, rows = calibration_bins(targets, probabilities)
    return float(np.nansum(np.abs(accuracy - confidence) * rows) / rows.sum())


def resamples(resampled: Resampled, rows: int, *, repeats: int = 1000, seed: int = 0) -> dict[str, Floats]:
    """Return each metric in each bootstrap resample of the rows ``(repeats,)``, NaN where it is undefined.

    Equal seeds draw equal rows, whatever the predictions: the difference between two models' resamples is that of a
    *paired* bootstrap, without the luck with rows that both share.

    Args:
        resampled: from row counts to metrics (`hypermap.tasks.base.Task.resampled`).
        rows: how many there are.
        repeats: the number of resamples.
        seed: of the draws.
    """
    parts = [resampled(counts) for counts in _counts(rows, repeats, np.random.default_rng(seed))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentiles(resampled: Mapping[str, Floats], confidence: float = 0.95) -> dict[str, tuple[float, float]]:
    """Return the percentile bootstrap interval of each metric: it holds this share of the resamples, and an equal share
    of them is cut off on either side.

    Intervals over rows tell what another draw of as many rows would change, and not what another training run would.
    That of `calibration_error` lies high, sometimes above the value itself: binning turns any noise into error, and
    resampling adds noise. A resample in which a metric does not exist is left out of that metric's interval, and the
    interval where no resample is left.
    """
    tail = 50 * (1 - confidence)
    existing = {name: values[np.isfinite(values)] for name, values in resampled.items()}
    return {name: _percentiles(values, tail) for name, values in existing.items() if len(values)}


def classification_of(targets: NDArray[Any], probabilities: NDArray[Any]) -> Resampled:
    """Return the function that computes `classification`'s metrics for any row counts; sorting is done once, here."""
    targets, probabilities = _typed(targets, probabilities)
    classes = probabilities.shape[1]
    confidence, correct = _confidence(targets, probabilities)
    cells = Groups.of(targets * classes + probabilities.argmax(axis=1))
    bins = Groups.of(_bin(confidence))
    overconfidence = (confidence - correct)[:, None]
    losses = _log_losses(targets, probabilities)
    ranks = _ranks(targets, probabilities)

    def values(counts: Floats) -> dict[str, Floats]:
        rows = counts.sum(axis=0)
        confusion = np.zeros((classes * classes, counts.shape[1]))
        confusion[cells.labels] = cells.sums(counts)
        areas = [_area(groups, positive, counts) for groups, positive in ranks]
        return {
            **_from_confusion(confusion.reshape(classes, classes, -1)),
            **({"roc_auc": mean_where_finite(np.stack(areas))} if areas else {}),
            "log_loss": losses @ counts / rows,
            "calibration_error": np.abs(bins.sums(counts * overconfidence)).sum(axis=0) / rows,
        }

    return values


def regression_of(targets: NDArray[Any], predicted: NDArray[Any]) -> Resampled:
    """Return the function that computes `regression`'s metrics for any row counts."""
    centred = np.asarray(targets, np.float64) - np.mean(targets, dtype=np.float64)  # keeps the squares small
    error = np.asarray(targets, np.float64) - np.asarray(predicted, np.float64)

    def values(counts: Floats) -> dict[str, Floats]:
        rows = counts.sum(axis=0)
        squares = error**2 @ counts
        spread = centred**2 @ counts - (centred @ counts) ** 2 / rows
        metrics = {"rmse": np.sqrt(squares / rows), "mae": np.abs(error) @ counts / rows}
        if len(targets) > 1:
            metrics["r2"] = 1 - ratio(squares, np.where(spread > 1e-12 * (centred**2).sum(), spread, 0.0), np.nan)
        return metrics

    return values


@dataclass(frozen=True)
class Groups:
    """Rows that share a label: the sorted labels, the rows in that order, and where in it each group starts."""

    labels: NDArray[Any]
    order: Integers
    starts: Integers

    @classmethod
    def of(cls, labels: NDArray[Any]) -> Self:
        """Return the groups of labels ``(rows,)``."""
        order = np.argsort(labels, kind="stable")
        distinct, starts = np.unique(labels[order], return_index=True)
        return cls(distinct, order, starts)

    def sums(self, counts: Floats) -> Floats:
        """Return the sum of `counts` (rows, resamples) over each group: (groups, resamples)."""
        ordered = counts[self.order]
        return ordered if len(self.starts) == len(ordered) else np.add.reduceat(ordered, self.starts, axis=0)


def _counts(rows: int, repeats: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each row was drawn in each resample, as (rows, resamples) blocks of about `CHUNK` counts."""
    block = max(1, min(repeats, CHUNK // rows))
    for start in range(0, repeats, block):
        columns = min(block, repeats - start)
        drawn = generator.integers(rows, size=(columns, rows)) + rows * np.arange(columns)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=columns * rows).reshape(columns, rows)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def _from_confusion(confusion: Floats) -> dict[str, Floats]:
    """Return the metrics that are functions of confusion counts (actual classes, predicted classes, resamples)."""
    hits = np.einsum("kkb->kb", confusion)
    actual, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    seen = actual + predicted > 0

    def macro(score: Floats, over: NDArray[np.bool_]) -> Floats:
        mean: Floats = np.where(over, score, 0.0).sum(axis=0) / over.sum(axis=0)
        return mean

    recall = ratio(hits, actual, 0.0)
    return {
        "accuracy": hits.sum(axis=0) / actual.sum(axis=0),
        "balanced_accuracy": macro(recall, actual > 0),
        "precision": macro(ratio(hits, predicted, 0.0), seen),
        "recall": macro(recall, seen),
        "f1": macro(ratio(2 * hits, actual + predicted, 0.0), seen),
    }


def _area(groups: Groups, positive: NDArray[np.bool_], counts: Floats) -> Floats:
    """Return the area under the ROC curve: the share of correctly ordered pairs, ties counting half (resamples,).

    NaN for a resample without a positive or without a negative row.
    """
    total = groups.sums(counts)
    positives = groups.sums(np.where(positive[:, None], counts, 0.0))
    negatives = total - positives
    below = np.cumsum(negatives, axis=0) - negatives / 2
    ordered = np.einsum("gb,gb->b", positives, below)
    return ratio(ordered, positives.sum(axis=0) * negatives.sum(axis=0), np.nan)


def _ranks(targets: Integers, probabilities: Floats) -> list[tuple[Groups, NDArray[np.bool_]]]:
    """Return, for each class with an ROC curve, the rows ranked by its probability, and which rows belong to it.

    These are the classes that some rows belong to and some do not; of two classes the second.
    """
    present = np.unique(targets)
    if len(present) < 2:
        return []
    ranked = [1] if probabilities.shape[1] == 2 else present.tolist()
    return [(Groups.of(probabilities[:, k]), targets == k) for k in ranked]


def _log_losses(targets: Integers, probabilities: Floats) -> Floats:
    """Return -log of the probability of each row's true class."""
    tiny = np.finfo(np.float64).eps  # the limit in scikit-learn
    given = _normalised(probabilities)[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.clip(given, tiny, 1 - tiny)))


def _typed(targets: NDArray[Any], probabilities: NDArray[Any]) -> tuple[Integers, Floats]:
    return np.asarray(targets, np.int64), np.asarray(probabilities, np.float64)


def check_finite(predictions: Floats) -> None:
    """Refuse predictions that are not finite."""
    if not np.isfinite(predictions).all():
        raise ValueError("predictions that are not finite have no metrics")


def _normalised(probabilities: Floats) -> Floats:
    """Return rows normalized in float64, for the loss; for other metrics that would break ties."""
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def _confidence(targets: NDArray[Any], probabilities: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return per row the probability of the predicted class, and 1 if that class is correct, else 0."""
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    return np.asarray(probabilities.max(axis=1), np.float64), correct


def _bin(confidence: Floats) -> Integers:
    """Return the bin of each confidence; bin m holds (m / BINS, (m + 1) / BINS]."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def ratio(numerator: Floats, denominator: Floats, otherwise: float) -> Floats:
    """Return the elementwise ratio, with `otherwise` where the denominator is 0."""
    empty = denominator == 0
    return np.where(empty, otherwise, numerator / np.where(empty, 1.0, denominator))


def mean_where_finite(values: Floats) -> Floats:
    """Return column means of (classes, resamples) over the finite entries; NaN if there is none."""
    exists = np.isfinite(values)
    return ratio(np.where(exists, values, 0.0).sum(axis=0), exists.sum(axis=0).astype(np.float64), np.nan)


def _percentiles(values: Floats, tail: float) -> tuple[float, float]:
    """Return the values that cut off `tail` percent on either side."""
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
