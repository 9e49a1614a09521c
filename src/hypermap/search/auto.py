"""The default strategy: a sampler that learns from trials at every stage of training, pruned ones included."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypermap.search.auto_pruner import STARTUP, beginning, best_until
from hypermap.search.numbered import count, from_unit, sobol, to_unit

Array = NDArray[np.float64]

EXPLORE = 0.3  # the share of later trials that ignore it
ROWS = 150  # observations that the model is given at most; its cost grows with their cube
FITS = 25  # hyperparameters that are tried for the model
CANDIDATES = 400  # points of which the best is proposed


class Auto(BaseSampler):
    """Proposes where a Gaussian process over parameters and training steps expects most improvement.

    - The first trial is the middle of the space, the next are a scrambled Sobol sequence indexed by the trial's number.
    - Then one Gaussian process is fitted to the best values that trials had after 1, 2, 4, 8, ... steps (Swersky et al.
      2014, "Freeze-Thaw Bayesian Optimization"; Wistuba et al. 2022, "Dynamic and Efficient Gray-Box Hyperparameter
      Optimization"), so that pruned trials count for what they showed. Values are replaced by normal scores of their
      ranks: a loss over orders of magnitude, an accuracy and a diverged trial are all the same to it.
    - The improvement is that at one of the observed numbers of steps, drawn anew for each trial (Rakotoarison et al.
      2024, "In-Context Freeze-Thaw Bayesian Optimization"): no guess about a late step can hold the search for long.
    - Candidates are uniform points and perturbations of the best trials. Trials that are still running without a
      value are believed to get what is predicted (Ginsbourger et al. 2010, "Kriging is well-suited to parallelize
      optimization").
    - Three trials in ten are the sequence's point of their number, whatever the model says.

    Parameters that not all trials have, and studies with several objectives, are left to Optuna's TPE. All state comes
    from the study, so an object may serve one trial or all.

    Args:
        seed: of this object's random draws; another one for each trial where each has its own object.
        study_seed: of the quasi-random sequence, the same in all of a study.
    """

    def __init__(self, seed: int | None = None, study_seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._study_seed = study_seed
        tpe_seed = None if seed is None else seed % 2**32
        self._tpe = TPESampler(seed=tpe_seed, multivariate=True, group=True, constant_liar=True)

    def reseed_rng(self) -> None:
        """Draw differently from now on, as Optuna asks of samplers that are copied to other processes."""
        self._rng = np.random.default_rng()
        self._tpe.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that all finished trials have."""
        if len(study.directions) > 1:
            return self._tpe.infer_relative_search_space(study, trial)
        space = intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the Sobol sequence or the model's proposal."""
        if len(study.directions) > 1:
            return self._tpe.sample_relative(study, trial, search_space)
        if not search_space:
            return {}
        cube = _Cube(search_space)
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        others = [other for other in others if cube.holds(other) and other.state != TrialState.FAIL]
        if len(others) < STARTUP or self._rng.random() < EXPLORE:
            return cube.params(np.array(sobol(len(search_space), self._study_seed, trial.number)))
        return cube.params(self._propose(cube, others, 1 if study.direction == StudyDirection.MAXIMIZE else -1))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The middle in the first trial, else TPE's proposal for this parameter alone."""
        if trial.number == 0 and len(study.directions) == 1:
            return from_unit(
                param_distribution, 0.0 if isinstance(param_distribution, CategoricalDistribution) else 0.5
            )
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def _propose(self, cube: "_Cube", trials: Sequence[FrozenTrial], sign: int) -> Array:
        """The point of the cube with the largest expected improvement."""
        points = cube.points(trials)
        index, steps, values = _observations(trials, sign)
        if not len(index):
            return np.asarray(self._rng.random(points.shape[1]))
        order = np.argsort(-np.array([values[index == i].max(initial=-math.inf) for i in range(len(trials))]))
        candidates = cube.snapped(self._candidates(points[order[: max(5, len(order) // 20)]]))
        scores = _normal_scores(values)
        times = np.log2(steps) / max(1.0, math.log2(steps.max()))
        goal = self._rng.choice(np.unique(times))
        kept = self._subset(scores)
        index, times, scores = index[kept], times[kept], scores[kept]
        model = _Model(cube.features(points[index]), times, scores, cube.groups, self._rng)
        pending = np.setdiff1d(np.arange(len(trials)), index) if len(kept) < ROWS else np.array([], dtype=int)
        if len(pending):
            model.believe(cube.features(points[pending]), np.zeros(len(pending)))
        candidates = _unrepeated(cube.features(candidates), candidates, cube.features(points), trials)
        mean, deviation = model.predict(cube.features(candidates), goal)
        best = scores[times <= goal].max(initial=scores.min())
        return np.asarray(candidates[np.argmax(_expected_improvement(mean, deviation, best))])

    def _candidates(self, elite: Array) -> Array:
        """Uniform points, and as many points around the elite, in few coordinates or many, near or further away."""
        shape = (CANDIDATES // 2, elite.shape[1])
        width = self._rng.choice([0.03, 0.1, 0.3], (shape[0], 1))
        moved = self._rng.random(shape) < self._rng.choice([0.2, 0.5, 1.0], (shape[0], 1))
        parents = elite[self._rng.integers(len(elite), size=shape[0])]
        near = parents + moved * width * self._rng.standard_normal(shape)
        return np.asarray(np.clip(np.concatenate([self._rng.random(shape), near]), 0.0, 1.0))

    def _subset(self, scores: Array) -> NDArray[np.intp]:
        """The best observations and a random part of the others."""
        order = np.argsort(-scores)
        best, others = order[: ROWS // 2], order[ROWS // 2 :]
        return np.concatenate([best, self._rng.permutation(others)[: ROWS - len(best)]])


class _Cube:
    """The unit cube that stands for a search space: a coordinate a parameter."""

    def __init__(self, space: dict[str, BaseDistribution]) -> None:
        self.space = space
        sizes = [len(d.choices) if isinstance(d, CategoricalDistribution) else 1 for d in space.values()]
        self.groups = np.repeat(np.arange(len(sizes)), sizes)  # which parameter a feature belongs to

    def holds(self, trial: FrozenTrial) -> bool:
        return all(trial.distributions.get(name) == distribution for name, distribution in self.space.items())

    def params(self, point: Array) -> dict[str, Any]:
        return {name: from_unit(d, float(u)) for (name, d), u in zip(self.space.items(), point, strict=True)}

    def points(self, trials: Sequence[FrozenTrial]) -> Array:
        rows = [[_coordinate(d, trial.params[name]) for name, d in self.space.items()] for trial in trials]
        return np.array(rows).reshape(len(trials), len(self.space))

    def snapped(self, points: Array) -> Array:
        """The points that the parameters' values stand for: whatever has few members has few coordinates."""
        points = points.copy()
        for column, d in enumerate(self.space.values()):
            if isinstance(d, CategoricalDistribution):
                points[:, column] = _shares(points[:, column], len(d.choices))
            elif isinstance(d, IntDistribution | FloatDistribution) and d.step is not None and count(d) <= 64:
                members = np.unique([to_unit(d, from_unit(d, (i + 0.5) / 256)) for i in range(256)])
                points[:, column] = members[np.abs(points[:, column, None] - members).argmin(1)]
        return points

    def features(self, points: Array) -> Array:
        """What the model measures distances in: choices are all equally far from each other."""
        columns = []
        for column, d in enumerate(self.space.values()):
            u = points[:, column, None]
            if isinstance(d, CategoricalDistribution):
                u = (np.floor(u * len(d.choices)) == np.arange(len(d.choices))) / math.sqrt(2)
            columns.append(u)
        return np.concatenate(columns, axis=1)


class _Model:
    """A Gaussian process over features and training time (0 for one step, 1 for the most); standard normal scores.

    The kernel is a Matern 5/2 in the features times (a constant and a Gaussian in time), plus a trend in time. The
    hyperparameters are those of the highest posterior density that a random search from the middle of their prior
    finds; the prior's length scale grows with the root of the dimension (Hvarfner et al. 2024, "Vanilla Bayesian
    Optimization Performs Great in High Dimensions").
    """

    def __init__(
        self, features: Array, times: Array, scores: Array, groups: NDArray[np.intp], rng: np.random.Generator
    ) -> None:
        self._x, self._t, self._z, self._groups = features, times, scores, groups
        d = int(groups.max()) + 1
        prior = np.append(np.full(d, math.log(0.5) + 0.5 * math.log(max(d, 2) / 4)), [math.log(0.5), math.log(0.02)])
        widths = np.append(np.ones(d), [0.5, 1.0])
        self._theta, best, reach = prior, -math.inf, 0.0
        for _ in range(FITS):
            moved = rng.random(d + 2) < 0.4
            theta = self._theta + reach * moved * widths * rng.standard_normal(d + 2)
            density = self._log_likelihood(theta) - 0.5 * float((((theta - prior) / widths) ** 2).sum())
            better = density > best
            reach = max(0.05, reach * (1.3 if better else 0.95)) if reach else 0.7
            if better:
                self._theta, best = theta, density
        self._factor = self._cholesky(self._theta)

    def believe(self, features: Array, times: Array) -> None:
        """Add points with the scores that are predicted for them."""
        means = np.array([self.predict(row[None], t)[0][0] for row, t in zip(features, times, strict=True)])
        self._x, self._t = np.concatenate([self._x, features]), np.concatenate([self._t, times])
        self._z = np.concatenate([self._z, means])
        self._factor = self._cholesky(self._theta)

    def predict(self, features: Array, time: float) -> tuple[Array, Array]:
        """Means and standard deviations of the scores at one time."""
        times = np.full(len(features), time)
        cross = self._kernel(self._x, self._t, features, times, self._theta)
        solved = np.linalg.solve(self._factor, np.column_stack([self._z, cross]))
        mean = solved[:, 1:].T @ solved[:, 0]
        variance = 1.5 + (time - 0.5) ** 2 - (solved[:, 1:] ** 2).sum(0)
        return mean, np.sqrt(np.maximum(variance, 1e-9))

    def _kernel(self, x1: Array, t1: Array, x2: Array, t2: Array, theta: Array) -> Array:
        scale = np.exp(-theta[self._groups])
        a, b = x1 * scale, x2 * scale
        r = np.sqrt(5 * np.maximum(_squares(a, b), 1e-12))
        apart = (t1[:, None] - t2[None]) ** 2
        steady = 0.5 + 0.5 * np.exp(-0.5 * apart * math.exp(-2 * theta[-2]))
        trend = np.outer(t1 - 0.5, t2 - 0.5) + 0.5 * np.exp(-2 * apart)
        return np.asarray((1 + r + r * r / 3) * np.exp(-r) * steady + trend)

    def _cholesky(self, theta: Array) -> Array:
        kernel = self._kernel(self._x, self._t, self._x, self._t, theta)
        return np.asarray(np.linalg.cholesky(kernel + (math.exp(theta[-1]) + 1e-6) * np.eye(len(kernel))), dtype=float)

    def _log_likelihood(self, theta: Array) -> float:
        try:
            factor = self._cholesky(theta)
        except np.linalg.LinAlgError:
            return -math.inf
        return -0.5 * float((np.linalg.solve(factor, self._z) ** 2).sum()) - float(np.log(np.diag(factor)).sum())


def _observations(trials: Sequence[FrozenTrial], sign: int) -> tuple[NDArray[np.intp], Array, Array]:
    """Trial, step and best value so far at each power of two that a trial reached, and at the most steps of all.

    A trial without reports is observed once, after one step; one that diverged is worse than all others.
    """
    most = max((trial.last_step or 1 for trial in trials), default=1)
    rungs = sorted({min(2**k, most) for k in range(most.bit_length() + 1)})
    rows: list[tuple[int, float, float]] = []
    for i, trial in enumerate(trials):
        diverged = trial.state == TrialState.COMPLETE and not math.isfinite(trial.value or 0.0)
        if trial.intermediate_values:
            reached = [rung for rung in rungs if min(trial.intermediate_values) <= rung <= (trial.last_step or 0)]
            rows += [(i, rung, -math.inf if diverged else best_until(trial, rung, sign)) for rung in reached or [1]]
        elif trial.state == TrialState.COMPLETE:
            rows.append((i, 1, -math.inf if diverged else sign * (trial.value or 0.0)))
    table = np.array(rows, dtype=float).reshape(-1, 3)
    return table[:, 0].astype(np.intp), table[:, 1], table[:, 2]


def _unrepeated(features: Array, candidates: Array, tried: Array, trials: Sequence[FrozenTrial]) -> Array:
    """The candidates whose nearest trial is not one that reported just what its own nearest did; all, if none is left.

    Around such trials the objective is constant, whatever the model believes: by rounding, by a clipped value, by a
    parameter without effect.
    """
    apart = _squares(tried, tried)
    np.fill_diagonal(apart, math.inf)
    curves = [trial.intermediate_values for trial in trials]
    repeated = np.array(
        [_agree(curve, curves[nearest]) for curve, nearest in zip(curves, apart.argmin(1), strict=True)]
    )
    away = _squares(features, tried)
    fresh = ~repeated[away.argmin(1)]
    starts = [beginning(trial) for trial in trials]
    for start in {start for start in starts if start is not None and starts.count(start) > 1}:
        same = np.flatnonzero([other == start for other in starts])
        width = apart[np.ix_(same, same)][~np.eye(len(same), dtype=bool)].max()
        fresh &= away[:, same].min(1) > width
    return candidates[fresh] if fresh.any() else candidates


def _agree(curve: Mapping[int, float], other: Mapping[int, float]) -> bool:
    """Whether two curves have steps in common and are equal at each."""
    common = curve.keys() & other.keys()
    return bool(common) and all(curve[step] == other[step] for step in common)


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of all rows."""
    return np.asarray((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T)


def _normal_scores(values: Array) -> Array:
    """Blom's normal scores of the ranks; ties share their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def _expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    from scipy.special import ndtr

    u = (mean - best) / deviation
    return np.asarray(deviation * (u * ndtr(u) + np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)))


def _coordinate(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.to_internal_repr(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return to_unit(distribution, value)


def _shares(u: Array, parts: int) -> Array:
    return np.asarray((np.minimum(np.floor(u * parts), parts - 1) + 0.5) / parts)
