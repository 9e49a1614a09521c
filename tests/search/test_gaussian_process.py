"""The Gaussian process beside scikit-learn's, at the same hyperparameters, and what is expected of an improvement."""

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume
from scipy import integrate, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from hypermap.search.gaussian_process import (
    JITTER,
    LINEAR,
    GaussianProcess,
    expected_hypervolume_improvement,
    expected_improvement,
)

GROUPS = np.array([0, 1, 2, 2, 2])  # two intervals, and three choices that share a length scale


def features(rng: np.random.Generator, n: int) -> np.ndarray:
    choices = np.eye(3)[rng.integers(3, size=n)] / np.sqrt(2)
    return np.column_stack([rng.random((n, 2)), choices])


@pytest.fixture
def data():
    """Points, values of a function of them with noise, and the variances of that noise."""
    rng = np.random.default_rng(0)
    x = features(rng, 30)
    variances = rng.uniform(0.0, 0.3, 30)
    y = np.sin(5 * x[:, 0]) + x[:, 2] + np.sqrt(variances) * rng.standard_normal(30)
    return x, (y - y.mean()) / y.std(), variances


def fitted(x, y, variances, seed=0, fits=10) -> GaussianProcess:
    return GaussianProcess(x, y, variances, GROUPS, np.random.default_rng(seed), fits)


def scikit_learns(model: GaussianProcess, x, y, variances, theta=None) -> GaussianProcessRegressor:
    """Theirs, with the length scales and the noise of ours; nothing is fitted."""
    theta = model._theta if theta is None else theta
    kernel = Matern(np.exp(theta[:-1])[GROUPS], nu=2.5)
    return GaussianProcessRegressor(kernel, alpha=variances + np.exp(theta[-1]) + JITTER, optimizer=None).fit(x, y)


def test_it_predicts_as_scikit_learns_does(data):
    model = fitted(*data)
    new = features(np.random.default_rng(1), 200)
    mean, deviation = model.predict(new)
    expected, spread = scikit_learns(model, *data).predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-9)
    np.testing.assert_allclose(deviation, spread, rtol=1e-6)


def test_its_likelihood_is_scikit_learns_but_for_a_constant(data):
    model = fitted(*data)
    for theta in np.random.default_rng(2).normal(-0.5, 1.0, (8, len(model._theta))):
        theirs = scikit_learns(model, *data, theta).log_marginal_likelihood_value_
        assert model._log_likelihood(theta) == pytest.approx(theirs + 15 * np.log(2 * np.pi), rel=1e-9)


def test_more_tries_find_hyperparameters_that_are_at_least_as_likely(data):
    """The prior is normal in the logarithms, so that its density is known up to a constant."""
    middle = fitted(*data, fits=1)._theta
    widths = np.append(np.full(3, 0.8), 1.0)

    def density(fits: int) -> float:
        model = fitted(*data, fits=fits)
        return model._log_likelihood(model._theta) + stats.norm(middle, widths).logpdf(model._theta).sum()

    found = [density(fits) for fits in (1, 5, 20, 60)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 1


def test_it_learns_which_parameter_matters():
    rng = np.random.default_rng(3)
    x = features(rng, 60)
    y = np.sin(8 * x[:, 0])
    scales = fitted(x, y / y.std(), np.zeros(60), fits=200)._theta[:-1]
    assert scales[0] < scales[1] - 1  # e times as short, at least


def test_the_same_generator_gives_the_same_process(data):
    new = features(np.random.default_rng(1), 5)
    first, second = (fitted(*data, seed=7).predict(new) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_value_that_is_uncertain_counts_for_less():
    x = np.array([[0.5, 0.5, 1.0, 0.0, 0.0]])
    means = [fitted(x, np.ones(1), np.array([variance]), fits=1).predict(x)[0][0] for variance in (0.0, 1.0, 9.0)]
    noise = np.exp(fitted(x, np.ones(1), np.zeros(1), fits=1)._theta[-1]) + JITTER
    assert means == pytest.approx([1 / (1 + variance + noise) for variance in (0.0, 1.0, 9.0)])


def test_further_points_are_believed_as_if_they_had_been_among_the_data(data):
    x, y, variances = data
    model = fitted(x, y, variances)
    more, values = features(np.random.default_rng(4), 4), np.array([0.5, -1.0, 2.0, 0.0])
    mean, deviation = model.believing(more, values).predict(more)
    whole = np.concatenate([x, more]), np.concatenate([y, values]), np.concatenate([variances, np.zeros(4)])
    theirs = scikit_learns(model, *whole)
    np.testing.assert_allclose(mean, theirs.predict(more), atol=1e-9)
    np.testing.assert_allclose(deviation, theirs.predict(more, return_std=True)[1], rtol=1e-6)
    before = model.predict(more)[1]
    assert np.all(deviation < before)
    np.testing.assert_array_equal(model.predict(more)[1], before)  # the process itself is as it was


def test_a_linear_feature_adds_a_multiple_of_it_as_the_textbook_has_it(data):
    """Rasmussen and Williams 2006, equations 2.23 and 2.24, with the sum of scikit-learn's Matern and a product."""
    x, y, variances = data
    new, rng = features(np.random.default_rng(1), 50), np.random.default_rng(5)
    seen, unseen = rng.standard_normal((30, 1)), rng.standard_normal((50, 1))
    y = y + 3 * seen[:, 0]
    groups = np.append(GROUPS, LINEAR)
    model = GaussianProcess(np.column_stack([x, seen]), y, variances, groups, np.random.default_rng(0))
    kernel = Matern(np.exp(model._theta[:-1])[GROUPS], nu=2.5)
    noise = np.diag(variances + np.exp(model._theta[-1]) + JITTER)
    covariance, cross = kernel(x) + seen @ seen.T + noise, kernel(x, new) + seen @ unseen.T
    mean, deviation = model.predict(np.column_stack([new, unseen]))
    np.testing.assert_allclose(mean, cross.T @ np.linalg.solve(covariance, y), atol=1e-9)
    variance = 1 + unseen[:, 0] ** 2 - (cross * np.linalg.solve(covariance, cross)).sum(0)
    np.testing.assert_allclose(deviation**2, variance, rtol=1e-6)
    slope = np.polyfit(unseen[:, 0], mean, 1)[0]
    assert 2 < slope < 3.2  # shrunk, as the factor is believed to be about one
    believing = model.believing(np.column_stack([new, unseen])[:1], mean[:1])
    np.testing.assert_allclose(believing.predict(np.column_stack([new, unseen]))[0], mean, atol=1e-6)


def test_points_that_coincide_are_borne():
    x = np.tile([[0.5, 0.5, 1.0, 0.0, 0.0]], (12, 1))
    mean, deviation = fitted(x, np.linspace(-1, 1, 12), np.zeros(12)).predict(features(np.random.default_rng(0), 9))
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()


@pytest.mark.parametrize("mean", [-2.0, 0.3, 1.0])
@pytest.mark.parametrize("deviation", [0.05, 0.7, 3.0])
@pytest.mark.parametrize("best", [-1.0, 0.5])
def test_expected_improvement_is_an_integral(mean, deviation, best):
    normal = stats.norm(mean, deviation)
    integral, _ = integrate.quad(lambda y: (y - best) * normal.pdf(y), best, max(best, mean + 12 * deviation))
    found = expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert found == pytest.approx([integral], abs=1e-9)


@pytest.mark.parametrize("objectives", [2, 3])
def test_expected_hypervolume_improvement_is_the_mean_over_draws(objectives):
    rng = np.random.default_rng(objectives)
    values, worst = rng.random((8, objectives)), np.full(objectives, -0.2)
    values[0] = worst - 0.1  # which dominates nothing
    means, deviations = rng.random((objectives, 4)), rng.uniform(0.05, 0.5, (objectives, 4))
    found = expected_hypervolume_improvement(list(zip(means, deviations, strict=True)), values, worst)
    before = compute_hypervolume(-np.maximum(values, worst), -worst)
    drawn = means + deviations * rng.standard_normal((4000, objectives, 4))
    for point in range(4):
        after = [compute_hypervolume(-np.maximum([*values, y], worst), -worst) for y in drawn[:, :, point]]
        grown = np.array(after) - before
        assert found[point] == pytest.approx(grown.mean(), abs=4 * grown.std() / 4000**0.5)
