"""A Gaussian process that is fast for a few dozen points, each with its own noise."""

import copy
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

from hypermap.core.typing import Floats

FITS = 10  # candidates for the hyperparameters
JITTER = 1e-6
LINEAR = -1


class GaussianProcess:
    """A zero-mean process of unit variance with a Matern 5/2 kernel and a length scale for each parameter.

    The hyperparameters are those with the highest posterior density in a random search from the middle of their prior;
    the prior's length scale grows with the root of the dimension (Hvarfner et al. 2024, "Vanilla Bayesian Optimization
    Performs Great in High Dimensions").

    Args:
        features: ``(n, f)``.
        values: standardized, ``(n,)``.
        variances: of each value ``(n,)``, in addition to the common noise.
        groups: the parameter that each feature belongs to ``(f,)``, or `LINEAR`: a multiple of such a feature, assumed
            to have unit variance, is added to the process, with a normal prior on the factor.
        rng: for the search for the hyperparameters.
    """

    def __init__(
        self,
        features: Floats,
        values: Floats,
        variances: Floats,
        groups: NDArray[np.intp],
        rng: np.random.Generator,
        fits: int = FITS,
    ) -> None:
        self._x, self._y, self._variances, self._groups = features, values, variances, groups
        d = int(groups.max()) + 1
        apart = (features[:, None] - features[None]) ** 2
        linear = features[:, groups == LINEAR]
        self._added = linear @ linear.T
        self._apart = np.stack([apart[:, :, groups == g].sum(2).ravel() for g in range(d)])
        prior = np.append(np.full(d, math.log(0.5) + 0.5 * math.log(max(d, 2) / 4)), math.log(0.05))
        widths = np.append(np.full(d, 0.8), 1.0)
        self._theta, best, reach = prior, -math.inf, 0.0
        for _ in range(fits):
            moved = rng.random(d + 1) < 0.5
            theta = self._theta + reach * moved * widths * rng.standard_normal(d + 1)
            density = self._log_likelihood(theta) - 0.5 * float((((theta - prior) / widths) ** 2).sum())
            better = density > best
            reach = max(0.05, reach * (1.3 if better else 0.95)) if reach else 0.7
            if better:
                self._theta, best = theta, density
        self._condition(self._covariance(self._theta))

    def _condition(self, covariance: Floats) -> None:
        self._factor = dpotrf(covariance, lower=1)[0]
        self._weights = dpotrs(self._factor, self._y, lower=1)[0]

    def believing(self, features: Floats, values: Floats) -> "GaussianProcess":
        """Return this process with further points and the same hyperparameters."""
        other = copy.copy(self)
        n = len(features)
        every = np.concatenate([self._x, features])
        other._x, other._y = every, np.concatenate([self._y, values])
        other._variances = np.concatenate([self._variances, np.zeros(n)])
        curved, added = self._kernel(every, every)
        curved.flat[:: len(every) + 1] = 1 + other._variances + math.exp(self._theta[-1]) + JITTER
        other._condition(curved + added)
        return other

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the means and the standard deviations of the process at ``(m, f)`` points."""
        curved, added = self._kernel(self._x, features)
        cross = curved + added
        solved = dtrtrs(self._factor, cross, lower=1)[0]
        own = 1 + (features[:, self._groups == LINEAR] ** 2).sum(1)
        return cross.T @ self._weights, np.sqrt(np.maximum(own - (solved**2).sum(0), 1e-9))

    def _kernel(self, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        """Return the covariances of all rows ``(n, f)`` and ``(m, f)``: the stationary ones, and the linear ones."""
        linear = self._groups == LINEAR
        scale = np.where(linear, 0.0, np.exp(-self._theta[self._groups]))
        return _matern(5 * _squares(a * scale, b * scale)), np.asarray(a[:, linear] @ b[:, linear].T)

    def _covariance(self, theta: Floats) -> Floats:
        n = len(self._x)
        kernel = _matern(5 * (np.exp(-2 * theta[:-1]) @ self._apart)).reshape(n, n)
        kernel.flat[:: n + 1] = 1 + self._variances + math.exp(theta[-1]) + JITTER
        return np.asarray(kernel + self._added)

    def _log_likelihood(self, theta: Floats) -> float:
        factor, failed = dpotrf(self._covariance(theta), lower=1)
        if failed:
            return -math.inf
        solved = dtrtrs(factor, self._y, lower=1)[0]
        return -0.5 * float(solved @ solved) - float(np.log(np.diag(factor)).sum())


def _squares(a: Floats, b: Floats) -> Floats:
    """Return the squared distances of all rows ``(n, f)`` and ``(m, f)``."""
    return np.asarray(np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T, 0.0))


def _matern(squares: Floats) -> Floats:
    """Return the Matern 5/2 kernel of five times the squared scaled distances."""
    r = np.sqrt(squares)
    return np.asarray((1 + r + squares / 3) * np.exp(-r))


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the expected amount by which normal variables exceed `best`."""
    from scipy.special import ndtr

    u = (mean - best) / deviation
    return np.asarray(deviation * (u * ndtr(u) + np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)))


def expected_hypervolume_improvement(
    predicted: Sequence[tuple[Floats, Floats]], values: Floats, worst: Floats
) -> Floats:
    """Return the expected increase of the hypervolume dominated by `values` for each of `m` points.

    It is exact for independent normal variables: the non-dominated region is divided into boxes, and the part of each
    box that a point would dominate is a product of expected improvements (Yang et al. 2019, "Efficient computation of
    expected hypervolume improvement using box decomposition algorithms").

    Args:
        predicted: means and standard deviations ``(m,)`` of each of `k` objectives.
        values: ``(n, k)``, higher is better.
        worst: the corner from which the volume is measured ``(k,)``.
    """
    from optuna._hypervolume.box_decomposition import get_non_dominated_box_bounds

    ends, begins = get_non_dominated_box_bounds(-values, -worst)  # which minimizes
    volumes = np.ones((len(predicted[0][0]), len(begins)))
    for (mean, deviation), begin, end in zip(predicted, -begins.T, -ends.T, strict=True):
        beyond, further = (
            expected_improvement(mean[:, None], deviation[:, None], np.minimum(edge, 1e9)) for edge in (begin, end)
        )
        volumes *= beyond - further
    return np.asarray(volumes.sum(1))
