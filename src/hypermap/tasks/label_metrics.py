"""Metrics of labels, of which a row may have any number, and the thresholds from which a label is predicted.

The metrics are scikit-learn's (tests compare them), and like those of `hypermap.tasks.metrics` functions of sums of row
counts, so that all resamples are computed at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Floats
from hypermap.tasks.base import Resampled
from hypermap.tasks.metrics import Groups, check_finite, mean_where_finite, ratio

ROUNDS = 10
"""Passes over the labels in which thresholds are improved, at most."""

RESAMPLES, RESAMPLED_ROWS = 20, 2000
"""How often thresholds are picked, and on how many rows at most; the mean of them is steadier than any."""

PRIOR_ROWS = 80.0
"""How many rows of a label weigh as much as what all labels have in common (`tune`)."""


def multilabel(targets: NDArray[Any], probabilities: Floats, decisions: Floats) -> dict[str, float]:
    """Return the metrics of `targets`, `probabilities` and `decisions`, each ``(rows, labels)``.

    `micro_f1` is that of all decisions together, `macro_f1` the mean of the labels' F1, 0 for a label that neither
    occurs nor is predicted. `subset_accuracy` is the share of rows whose labels are all right, `hamming_loss` the share
    of wrong decisions. `average_precision` is the mean over the labels that occur; it is left out where none does.
    `log_loss` is the mean over rows and labels.

    Raises:
        ValueError: a probability that is not finite.
    """
    check_finite(probabilities)
    once = multilabel_of(targets, probabilities, decisions)(np.ones((len(targets), 1)))
    return {name: float(values[0]) for name, values in once.items() if np.isfinite(values[0])}


def multilabel_of(targets: NDArray[Any], probabilities: Floats, decisions: Floats) -> Resampled:
    """Return the function that computes `multilabel`'s metrics for any row counts; sorting is done once, here."""
    actual, predicted = np.asarray(targets) == 1, decisions == 1
    sums = [np.asarray(part.T, np.float64) for part in (actual & predicted, actual, predicted)]
    wrong = actual != predicted
    per_row = np.stack([~wrong.any(1), wrong.mean(1), _log_losses(actual, probabilities).mean(1)])
    ranks = [Groups.of(column) for column in probabilities.T]

    def values(counts: Floats) -> dict[str, Floats]:
        rows = counts.sum(axis=0)
        hits, own, said = (part @ counts for part in sums)  # (labels, resamples)
        subset, hamming, loss = per_row @ counts / rows
        precision = np.stack(
            [_precision(groups, own_rows, counts) for groups, own_rows in zip(ranks, actual.T, strict=True)]
        )
        return {
            "average_precision": mean_where_finite(precision),
            "micro_f1": ratio(2 * hits.sum(0), own.sum(0) + said.sum(0), 0.0),
            "macro_f1": ratio(2 * hits, own + said, 0.0).mean(0),
            "subset_accuracy": subset,
            "hamming_loss": hamming,
            "log_loss": loss,
        }

    return values


def average_precision(targets: NDArray[Any], scores: Floats) -> float:
    """Return the mean average precision over the labels that occur; 0 where none does.

    Args:
        targets: ``(rows, labels)`` of 0 and 1.
        scores: likewise, of which only the order counts.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, 0)
    hits = np.cumsum(np.take_along_axis(targets, order, 0), axis=0, dtype=np.float64)
    last = np.append(ranked[1:] != ranked[:-1], np.ones((1, scores.shape[1]), np.bool_), axis=0)  # of equal scores
    # Precision at a row is that at the last of its equals; recall rises there by all of them.
    precision = hits / np.arange(1, len(scores) + 1)[:, None]
    before = np.where(last, hits, -np.inf)
    before = np.maximum.accumulate(np.vstack([np.zeros((1, scores.shape[1])), before[:-1]]), axis=0)
    gained = np.where(last, hits - before, 0.0)
    occurs = hits[-1] > 0
    if not occurs.any():
        return 0.0
    return float(((precision * gained).sum(0)[occurs] / hits[-1][occurs]).mean())


def tune(targets: NDArray[Any], probabilities: Floats, seed: int = 0) -> Floats:
    """Return a threshold for each label, ``(labels,)``, for a high micro-F1 on these rows and on others.

    What a few hundred rows prefer is mostly noise. So thresholds are picked on bootstrap resamples and averaged, and a
    label's own is drawn towards the common one by as much as its rows are few (`PRIOR_ROWS`).

    Args:
        targets: ``(rows, labels)`` of 0 and 1.
        probabilities: likewise.
        seed: for the resamples.
    """
    actual, generator = np.asarray(targets) == 1, np.random.default_rng(seed)
    size = min(len(actual), RESAMPLED_ROWS)
    drawn = (generator.integers(len(actual), size=size) for _ in range(RESAMPLES))
    return np.asarray(np.mean([_picked(actual[rows], probabilities[rows]) for rows in drawn], axis=0))


def _picked(actual: NDArray[np.bool_], probabilities: Floats) -> Floats:
    """Return the thresholds of the highest micro-F1, drawn towards the one that is best for all labels alike.

    That one is found first; then each label's own is moved, in turns, to where micro-F1 is highest.
    """
    common = _best(actual.ravel(), probabilities.ravel(), 0.0, 0.0)
    thresholds = np.full(actual.shape[1], common)
    for _ in range(ROUNDS):
        before = thresholds.copy()
        for label in range(len(thresholds)):
            others = np.arange(len(thresholds)) != label
            said = probabilities[:, others] >= thresholds[others]
            hits, total = (said & actual[:, others]).sum(), said.sum() + actual[:, others].sum()
            thresholds[label] = _best(actual[:, label], probabilities[:, label], float(hits), float(total))
        if np.array_equal(before, thresholds):
            break
    rows = np.minimum(actual.sum(0), (~actual).sum(0))
    weight = rows / (rows + PRIOR_ROWS)
    return np.asarray(weight * thresholds + (1 - weight) * common)


def _best(actual: NDArray[np.bool_], probabilities: Floats, hits: float, total: float) -> float:
    """Return the threshold of the highest F1, given the right decisions and the sum of both counts of other labels.

    It lies in the middle between two probabilities.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, right = probabilities[order], np.cumsum(actual[order])
    taken = np.arange(1, len(ranked) + 1)
    f1 = 2 * (hits + right) / np.maximum(total + actual.sum() + taken, 1)
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # equals are taken together
    place = int(f1.argmax())
    if 2 * hits / max(total + actual.sum(), 1) > f1[place]:  # better never to predict it
        return float((1 + ranked[0]) / 2)
    below = ranked[place + 1] if place + 1 < len(ranked) else 0.0
    return float((ranked[place] + below) / 2)


def _precision(groups: Groups, actual: NDArray[np.bool_], counts: Floats) -> Floats:
    """Return a label's average precision in each resample ``(resamples,)``; NaN where it does not occur."""
    total = groups.sums(counts)[::-1]  # from the highest score down
    positives = groups.sums(np.where(actual[:, None], counts, 0.0))[::-1]
    hits, taken = np.cumsum(positives, axis=0), np.cumsum(total, axis=0)
    return ratio((positives * ratio(hits, taken, 0.0)).sum(0), hits[-1], np.nan)


def _log_losses(actual: NDArray[np.bool_], probabilities: Floats) -> Floats:
    """Return -log of the probability of what is true, ``(rows, labels)``."""
    tiny = np.finfo(np.float64).eps  # the limit in scikit-learn
    given = np.where(actual, probabilities, 1 - probabilities)
    return np.asarray(-np.log(np.clip(given, tiny, 1 - tiny)))
