"""Temperature scaling beside scipy's minimum of scikit-learn's log loss, where the true temperature is known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from hypermap.tasks.calibration import LOGITS_RATIO, fit_temperature, refined_label_loss, refined_loss, scale


def drawn(classes, rows, temperature, seed=0, spread=2.0):
    """Logits, and targets drawn from their softmax over a temperature, which is then what they should be divided by."""
    draw = np.random.default_rng(seed)
    logits = spread * draw.normal(size=(rows, classes))
    shares = softmax(logits / temperature, axis=1)
    targets = (shares.cumsum(axis=1) > draw.random((rows, 1))).argmax(axis=1)
    return logits, targets


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("temperature", [0.6, 1.5, 4.0])
def test_the_temperature_is_scipys_minimum_of_scikit_learns_log_loss(classes, temperature):
    logits, targets = drawn(classes, 2000, temperature)
    found = fit_temperature(softmax(logits, axis=1), targets)

    def loss(log_temperature):
        return log_loss(targets, softmax(logits / np.exp(log_temperature), axis=1), labels=range(classes))

    expected = np.exp(minimize_scalar(loss, bounds=(-1, 3), method="bounded", options={"xatol": 1e-10}).x)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 4.0])
def test_the_refined_loss_is_the_log_loss_under_scipys_best_temperature(temperature):
    logits, targets = drawn(3, 300, temperature)

    def loss(log_temperature):
        return log_loss(targets, softmax(logits / np.exp(log_temperature), axis=1), labels=range(3))

    expected = minimize_scalar(loss, bounds=(-1, 3), method="bounded", options={"xatol": 1e-10}).fun
    shares = softmax(logits, axis=1)
    assert refined_loss(shares, targets) == pytest.approx(expected, rel=1e-9)
    assert refined_loss(scale(shares, 1.1), targets) == pytest.approx(expected, rel=1e-9)
    labels = np.stack([targets == 1, targets == 2], 1).astype(np.int64)
    pairs = np.stack([1 - shares[:, 1:], shares[:, 1:]], 2).reshape(-1, 2)
    assert refined_label_loss(shares[:, 1:], labels) == pytest.approx(refined_loss(pairs, labels.ravel()))


def test_scaling_is_the_softmax_of_the_logits_over_the_temperature_and_keeps_every_class():
    logits, _ = drawn(4, 500, 1.0, spread=8.0)
    shares = softmax(logits, axis=1)
    for temperature in (0.5, 1.7, 9.0):
        scaled = scale(shares, temperature)
        np.testing.assert_allclose(scaled, softmax(logits / temperature, axis=1), rtol=1e-9, atol=1e-15)
        assert (scaled.argmax(axis=1) == shares.argmax(axis=1)).all()
    assert scale(shares, 1.0) is shares


def test_one_logit_is_scaled_as_a_softmax_of_two():
    logit = np.linspace(-6, 6, 25)
    positive = 1 / (1 + np.exp(-logit))
    scaled = scale(np.stack([1 - positive, positive], axis=1), 2.5)
    np.testing.assert_allclose(scaled[:, 1], 1 / (1 + np.exp(-logit / 2.5)), rtol=1e-12)


def test_probabilities_that_the_rows_do_not_contradict_stay_as_they_are():
    """By chance a true temperature of 1 is rejected in about 5 % of the cases, that being two standard errors."""
    rejected = 0
    for seed in range(200):
        logits, targets = drawn(3, 100, 1.0, seed)
        rejected += fit_temperature(softmax(logits, axis=1), targets) != 1
    assert 2 <= rejected <= 20


def test_a_few_rows_that_are_all_right_make_nobody_surer():
    probabilities = np.full((90, 2), [0.97, 0.03])
    assert fit_temperature(probabilities, np.zeros(90, np.int64)) == 1


def test_rows_that_are_all_right_or_all_wrong_end_at_a_bound():
    doubtful, sure = np.full((500, 2), [0.7, 0.3]), np.full((500, 2), [0.999, 0.001])
    assert 1 / fit_temperature(doubtful, np.zeros(500, np.int64)) == pytest.approx(LOGITS_RATIO[1])
    assert 1 / fit_temperature(sure, np.ones(500, np.int64)) == pytest.approx(LOGITS_RATIO[0])


def test_probabilities_of_exactly_zero_and_one_are_scaled_to_finite_losses():
    logits, targets = drawn(3, 400, 1.0)
    shares = softmax(200 * logits, axis=1).astype(np.float32).astype(np.float64)  # most are 0 or 1 in float32
    temperature = fit_temperature(shares, targets)
    assert np.isfinite(temperature)
    assert temperature > 1
    assert np.isfinite(log_loss(targets, scale(shares, temperature), labels=range(3)))
