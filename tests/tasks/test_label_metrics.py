"""Metrics of labels against scikit-learn's, and the thresholds that are picked for them."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hypermap.tasks import label_metrics

RATES = np.array([0.5, 0.3, 0.1, 0.7, 0.02])


def drawn(rows=300, seed=0, decimals=2):
    """Targets, and probabilities with ties that say something of them."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((rows, len(RATES))) < RATES).astype(np.int64)
    logits = 1.5 * targets - 2 + generator.normal(size=targets.shape)
    return targets, np.round(1 / (1 + np.exp(-logits)), decimals)


def test_the_metrics_are_scikit_learns():
    targets, shares = drawn()
    decisions = (shares >= 0.4).astype(float)
    assert label_metrics.multilabel(targets, shares, decisions) == pytest.approx(
        {
            "average_precision": sk.average_precision_score(targets, shares, average="macro"),
            "micro_f1": sk.f1_score(targets, decisions, average="micro"),
            "macro_f1": sk.f1_score(targets, decisions, average="macro"),
            "subset_accuracy": sk.accuracy_score(targets, decisions),
            "hamming_loss": sk.hamming_loss(targets, decisions),
            "log_loss": np.mean([sk.log_loss(own, share) for own, share in zip(targets.T, shares.T, strict=True)]),
        }
    )


@pytest.mark.parametrize("decimals", [1, 9])
def test_the_average_precision_of_an_epoch_is_that_of_the_metrics(decimals):
    targets, shares = drawn(decimals=decimals)
    expected = sk.average_precision_score(targets, shares, average="macro")
    assert label_metrics.average_precision(targets, shares) == pytest.approx(expected, abs=1e-12)


def test_a_label_that_no_row_has_is_left_out_of_the_average_precision():
    targets, shares = drawn()
    targets[:, 1] = 0
    others = [0, 2, 3, 4]
    expected = sk.average_precision_score(targets[:, others], shares[:, others], average="macro")
    assert label_metrics.average_precision(targets, shares) == pytest.approx(expected)
    measured = label_metrics.multilabel(targets, shares, shares >= 0.5)
    assert measured["average_precision"] == pytest.approx(expected)
    assert label_metrics.average_precision(np.zeros_like(targets), shares) == 0
    assert "average_precision" not in label_metrics.multilabel(np.zeros_like(targets), shares, shares >= 0.5)


def test_what_is_not_finite_has_no_metrics():
    targets, shares = drawn()
    with pytest.raises(ValueError, match="not finite"):
        label_metrics.multilabel(targets, np.where(shares > 0.5, np.nan, shares), shares)


def test_tuned_thresholds_are_better_than_one_half_on_other_rows():
    gains = []
    for seed in range(20):
        targets, shares = drawn(400, seed, 9)
        thresholds = label_metrics.tune(targets[:100], shares[:100])
        own, plain = (
            sk.f1_score(targets[100:], shares[100:] >= cut, average="micro") for cut in (thresholds, np.full(5, 0.5))
        )
        gains.append(own - plain)
    assert np.mean(gains) > 0.02


def test_a_single_threshold_is_close_to_the_best_there_is():
    """Of one label, close to that of the highest F1, which a search through all of them finds."""
    targets, shares = drawn(2000, 1, 9)
    targets, shares = targets[:, :1], shares[:, :1]
    found = sk.f1_score(targets, shares >= label_metrics.tune(targets, shares))
    best = max(sk.f1_score(targets, shares >= cut) for cut in np.linspace(0.01, 0.99, 99))
    assert found == pytest.approx(best, abs=0.01)


def test_labels_of_few_rows_keep_near_the_common_threshold():
    targets, shares = drawn(2000, 2, 9)
    shares[:, 4] = shares[:, 4] ** 0.2  # the rare label's probabilities are far too high
    thresholds = label_metrics.tune(targets, shares)
    assert thresholds[4] > thresholds[0]
    few = label_metrics.tune(targets[:60], shares[:60])
    assert abs(few[4] - np.median(few)) < abs(thresholds[4] - np.median(thresholds))


def test_thresholds_of_labels_that_never_or_always_occur_are_numbers():
    targets, shares = drawn(50)
    targets[:, 0], targets[:, 1] = 0, 1
    assert np.isfinite(label_metrics.tune(targets, shares)).all()
