import math

import numpy as np
import pytest

from hypermap.reports.run.diagnosis import Finding, diagnose, shake
from hypermap.tasks.base import locate_task
from hypermap.tasks.classification import Classification

EPOCHS = np.arange(1, 21)


def history(train_loss, validation_loss, train_score, validation_score, rate=0.003):
    columns = {
        "train_loss": train_loss,
        "validation_loss": validation_loss,
        "train_score": train_score,
        "validation_score": validation_score,
    }
    length = max(np.size(values) for values in columns.values())
    columns = {name: np.broadcast_to(values, length) for name, values in columns.items()}
    rows = [{name: float(values[k]) for name, values in columns.items()} for k in range(length)]
    return [{"epoch": k + 1, **row, "learning_rate": rate, "gradient_norm": 1.0} for k, row in enumerate(rows)]


def found(rows, *, kept=None, monitor="accuracy", task="classification", validation_rows=300, early=False):
    scores = [-row["validation_loss"] if monitor == "loss" else row["validation_score"] for row in rows]
    return diagnose(rows, kept or int(np.argmax(scores)) + 1, monitor, locate_task(task), validation_rows, early)


def kinds(rows, **rest):
    return [finding.kind for finding in found(rows, **rest)]


def settled(start, end, pace=2.0):
    """A curve that has arrived after a few epochs."""
    return end + (start - end) * np.exp(-EPOCHS / pace)


HEALTHY = history(settled(2.3, 0.05), settled(2.3, 0.1), settled(0.1, 0.99), settled(0.1, 0.97))


def test_healthy_alone_and_with_its_figures():
    (finding,) = found(HEALTHY)
    assert finding.kind == "healthy"
    for figure in ("0.990", "0.970", "300", "0.0099", "`optimizer.lr=0.009`", "`optimizer.lr=0.001`"):
        assert figure in finding.sentence
    assert "early stopping" in found(HEALTHY, early=True)[0].sentence


def test_a_gap_to_the_training_rows_is_named_where_it_is_more_than_noise():
    (small,) = found(HEALTHY, validation_rows=200)  # 0.02 at a standard error of 0.012
    (wide,) = found(HEALTHY, validation_rows=1000)  # of 0.0054
    assert [small.kind, wide.kind] == ["healthy", "healthy"]
    assert "model.dropout" not in small.sentence
    assert "Training rows are still learned better" in wide.sentence


def test_noise_of_the_validation_score_is_no_trend():
    noise = np.random.default_rng(0).normal(0, 0.006, size=20)
    rows = history(settled(2.3, 0.05), settled(2.3, 0.1), settled(0.1, 0.99), settled(0.1, 0.96) + noise)
    for kept in (6, 12, 20):
        assert kinds(rows, kept=kept) == ["healthy"]


def test_a_rising_validation_loss_is_overfitting():
    rising = settled(2.3, 0.3) + np.maximum(0, EPOCHS - 8) * 0.02
    rows = history(settled(2.3, 0.0, 4), rising, settled(0.1, 0.97), settled(0.1, 0.95))
    (finding,) = found(rows)
    assert finding.kind == "overfitting"
    assert "at epoch 8" in finding.sentence
    assert "`model.dropout=0.2`" in finding.sentence


def test_a_validation_loss_that_rises_with_the_training_loss_is_not():
    rising = settled(2.3, 0.3) + np.maximum(0, EPOCHS - 8) * 0.02
    assert "overfitting" not in kinds(history(rising, rising, settled(0.1, 0.97), settled(0.1, 0.95)))


def test_nor_one_that_rises_for_two_epochs_or_a_little():
    late = settled(2.3, 0.3) + np.maximum(0, EPOCHS - 18) * 0.1
    little = settled(2.3, 0.3) + np.maximum(0, EPOCHS - 8) * 0.001
    for loss in (late, little):
        assert kinds(history(settled(2.3, 0.0, 4), loss, settled(0.1, 0.97), settled(0.1, 0.95))) == ["healthy"]


def test_a_gap_beyond_noise_is_overfitting():
    rows = history(settled(2.3, 0.1), settled(2.3, 0.6), settled(0.1, 1.0), settled(0.1, 0.80))
    (finding,) = found(rows)
    assert finding.kind == "overfitting"
    assert "a gap of 0.200" in finding.sentence
    assert "0.023" in finding.sentence  # sqrt(0.8 * 0.2 / 300)
    assert kinds(rows, validation_rows=10) == ["healthy"]  # a standard error of 0.13: could be luck


def test_a_low_training_score_that_has_levelled_off_is_underfitting():
    rows = history(settled(2.3, 1.2), settled(2.3, 1.2), settled(0.1, 0.60), settled(0.1, 0.59))
    (finding,) = found(rows)
    assert finding.kind == "underfitting"
    assert "0.600" in finding.sentence
    assert "`optimizer.lr=0.009`" in finding.sentence


def test_a_network_that_never_learns_is_underfitting():
    assert "underfitting" in kinds(history(np.full(20, 2.303), 2.303, 0.1, 0.1))


def test_a_low_score_that_still_rises_is_still_improving():
    rising = 0.1 + 0.02 * EPOCHS
    rows = history(2.3 - 0.08 * EPOCHS, 2.3 - 0.08 * EPOCHS, rising, rising)
    (finding,) = found(rows)
    assert finding.kind == "still_improving"
    assert "20 of 20" in finding.sentence
    assert "`trainer.epochs=40`" in finding.sentence


def test_still_improving_by_the_loss():
    falling = 2.3 * 0.95**EPOCHS
    rows = history(falling, falling, settled(0.1, 0.97), settled(0.1, 0.95))
    (finding,) = found(rows, monitor="loss")
    assert finding.kind == "still_improving"
    assert "by 23%" in finding.sentence  # 1 - 0.95 ** 5
    assert kinds(rows, monitor="accuracy") == ["healthy"]
    assert kinds(rows, monitor="loss", early=True) == ["healthy"]


def test_a_loss_that_shakes_is_not_still_improving():
    shaking = 0.5 + 0.05 * np.random.default_rng(3).normal(size=20)
    shaking[-1] = 0.38
    rows = history(settled(2.3, 0.3), shaking, settled(0.1, 0.97), settled(0.1, 0.95))
    assert kinds(rows, monitor="loss") == ["healthy"]


def test_a_swinging_validation_score_is_unstable():
    swinging = settled(0.1, 0.90) + 0.06 * (-1.0) ** EPOCHS
    rows = history(settled(2.3, 0.2), settled(2.3, 0.3), settled(0.1, 0.95), swinging)
    (finding,) = found(rows)
    assert finding.kind == "unstable"
    assert "0.837 and 0.960" in finding.sentence
    assert "`optimizer.lr=0.001`" in finding.sentence
    assert kinds(rows, validation_rows=5) == ["healthy"]


def test_a_jump_of_the_training_loss_is_unstable():
    loss = settled(2.3, 0.1)
    loss[12] = 1.0
    rows = history(loss, settled(2.3, 0.1), settled(0.1, 0.99), settled(0.1, 0.97))
    (finding,) = found(rows)
    assert finding.kind == "unstable"
    assert "at epoch 13" in finding.sentence
    loss[12] = loss[11] + 0.05  # a trifle beside the first loss, though a share of the one before
    assert kinds(history(loss, settled(2.3, 0.1), settled(0.1, 0.99), settled(0.1, 0.97))) == ["healthy"]


def test_several_findings_stand_together():
    swinging = settled(0.1, 0.75) + 0.06 * (-1.0) ** EPOCHS
    rows = history(settled(2.3, 0.0), settled(2.3, 0.9), settled(0.1, 1.0), swinging)
    assert kinds(rows) == ["overfitting", "unstable"]


def test_one_epoch_asks_for_more():
    (finding,) = found(history(2.0, 2.0, 0.3, 0.3))
    assert finding == Finding("still_improving", "One epoch shows no trend yet: try `trainer.epochs=10`.")


def test_two_epochs():
    assert kinds(history([2.0, 1.0], [2.0, 1.1], [0.3, 0.7], [0.3, 0.69])) == ["still_improving"]
    assert kinds(history([0.2, 0.19], [0.2, 0.2], [0.95, 0.95], [0.95, 0.95])) == ["healthy"]


def test_regression():
    rows = history(settled(1.0, 0.45), settled(1.0, 0.5), settled(0.0, 0.55), settled(0.0, 0.50))
    (finding,) = found(rows, task="regression", monitor="r2", validation_rows=80)
    assert finding.kind == "healthy"
    assert "R² 0.550" in finding.sentence
    assert f"{0.5 * math.sqrt(2 / 80):.2g}" in finding.sentence


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_at_the_ends_have_an_error_too(score):
    rows = history(settled(2.3, 0.5), settled(2.3, 0.5), settled(score, score), settled(score, score))
    assert found(rows)


def test_shake_is_the_deviation_about_a_trend():
    noise = np.random.default_rng(0).normal(0, 0.1, size=4000)
    assert shake(noise + np.arange(4000)) == pytest.approx(0.1, rel=0.05)
    assert shake(np.arange(10.0)) == pytest.approx(0)
    assert shake(np.array([1.0, 5.0, 1.0])) == 0


def test_only_images_are_shifted():
    rows = history(settled(2.3, 0.0), 0.1, 0.99, 0.8)
    assert "augment" not in found(rows, kept=1)[0].sentence
    (finding,) = diagnose(rows, 1, "accuracy", Classification, 300, images=True)
    assert "`augment=shift`" in finding.sentence


def test_overfitting_and_more_epochs_are_not_advised_at_once():
    climbing = np.linspace(0.5, 0.8, len(EPOCHS))
    wide = history(settled(2.3, 0.0), settled(2.3, 0.5), np.linspace(0.6, 0.99, len(EPOCHS)), climbing)
    assert kinds(wide) == ["still_improving"]  # the gap is wide, and validation rows are still predicted better
    rising = np.concatenate([settled(2.3, 0.5)[:5], np.linspace(0.5, 1.5, len(EPOCHS) - 5)])
    assert kinds(history(settled(2.3, 0.0), rising, np.linspace(0.6, 0.99, len(EPOCHS)), climbing)) == ["overfitting"]


@pytest.mark.parametrize("size", [1e12, 1e100])
def test_large_figures_are_short(size):
    rows = history(settled(size, size / 2), settled(size, 0.6 * size), 0.0, 0.0)
    assert all(len(finding.sentence) < 600 for finding in found(rows, task="regression", monitor="loss"))
