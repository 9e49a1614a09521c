"""The default search: a portfolio of proposers whose shares depend on their success."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.study._multi_objective import _is_pareto_front
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.typing import Floats
from hypermap.search.counter_samplers import Random, from_unit, sobol
from hypermap.search.curves import CurveReader
from hypermap.search.earlier import EarlierStudy, starts, trends
from hypermap.search.scales import Scale
from hypermap.search.schedule import PROPOSED, REPEATS
from hypermap.search.space import Condition
from hypermap.search.unit_cube import Cube

if TYPE_CHECKING:  # scipy takes a while to import, and other searches do not need it
    from hypermap.search.gaussian_process import GaussianProcess

BASELINE, PRIOR, SPACE, MODEL, NEAR, TPE = "baseline", "prior", "space-filling", "model", "neighbours", "tpe"
SPACE_SHARE = 0.5  # share of space-filling proposals, regardless of the other members' success
SHARES = {MODEL: 0.5, NEAR: 0.4, TPE: 0.1}  # shares of the other proposals, before any success
PRIOR_SHARE = 0.2  # the same for earlier studies, if any
FLOOR = 0.05  # the minimum share of a member: one that fails now may help later
GOOD = 0.25  # share of the trials that count as successes
DOUBT = 8.0  # number of proposals after which a member's own record has weight 1/2
STARTUP = 4  # trials with results before any member but the first proposes
MOST = 80  # maximum number of trials for the model; its cost grows with their cube
CANDIDATES = 300  # number of points of which the model proposes the best, after
ROUNDS = 3  # rounds with a third as many points around
CLOSEST = 8  # this many of the best so far
WORST = -1.0  # lower limit of several objectives, each scaled to 0..1 among the non-dominated trials
INSTEAD = 256  # points to choose from if the proposed one is already a trial's


@dataclass(frozen=True)
class Shown:
    """Trials with results: points ``(n, d)``, expected scores and their variances ``(n,)``; and the others.

    Attributes:
        by: the proposer of each.
        pending: the points of trials without results ``(m, d)``.
        objectives: the scaled values of several objectives ``(n, k)``, higher is better; None for a single one.
    """

    points: Floats
    scores: Floats
    variances: Floats
    by: tuple[str, ...]
    pending: Floats
    objectives: Floats | None = None

    def best(self, count: int) -> NDArray[np.intp]:
        """Return the indices of the best, the best first."""
        return np.argsort(-self.scores, kind="stable")[:count]

    @cached_property
    def tried(self) -> set[bytes]:
        """Return the points of all trials."""
        return {row.tobytes() for row in np.round(np.concatenate([self.points, self.pending]), 6)}


class Auto(BaseSampler):
    """Proposes by one of several members, drawn with shares that depend on their success.

    - The first trial is the baseline, as far as it lies in the space; the next is the best of the earlier studies, if
      any.
    - ``space-filling``: the point of a scrambled Sobol sequence that belongs to the trial's number. It has half of the
      proposals: the other members go where early scores are good, which may be misleading.
    - ``model``: the point with the largest expected improvement, by a Gaussian process over the predicted final score
      of each trial and its uncertainty (`Table.expected`): so a trial that was paused early counts as much as early
      scores have proved to be informative. Trials without results are assumed to get what is predicted (Ginsbourger et
      al. 2010, "Kriging is well-suited to parallelize optimization").
    - ``neighbours``: one of the best with a few parameters changed a little.
    - ``prior``: the other best trials of earlier studies, then their neighbors.
    - ``tpe``: the ratio of two kernel density estimates (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
      Optimization"), for all parameters jointly as in BOHB (Falkner et al. 2018).

    With several objectives the model proposes the point with the largest expected improvement of the dominated
    hypervolume (Emmerich et al. 2011, "Hypervolume-based expected improvement: Monotonicity properties and exact
    computation"); for the other members they are scalarized with weights drawn for each trial (Knowles 2006, "ParEGO").
    A proposal depends only on the study's trials, its seed and the trial's number, so one object can serve many trials.

    Args:
        study_seed: for all draws.
        distributions: the whole space by name, if known; else it is taken from the trials.
        mappings: scales by parameter name.
        conditions: by name, for each parameter that only some options have.
        baseline: values that the search starts with, by name; missing ones are the middle of their range.
        prior: earlier studies.
        curves: how trials' reports are read; None: higher is better if the study maximizes.
    """

    natural = True  # it applies the scales itself

    def __init__(
        self,
        study_seed: int = 0,
        distributions: Mapping[str, BaseDistribution] | None = None,
        mappings: Mapping[str, Scale] | None = None,
        baseline: Mapping[str, Any] | None = None,
        prior: Sequence[EarlierStudy] = (),
        curves: CurveReader | None = None,
        conditions: Mapping[str, Sequence[Condition]] | None = None,
    ) -> None:
        self._seed = study_seed
        self._distributions = dict(distributions or {})
        self._mappings = dict(mappings or {})
        self._conditions = dict(conditions or {})
        self._baseline = baseline
        self._earlier = tuple(prior)
        self._prior = list(starts(prior))
        self._expectations: list[GaussianProcess] | None = None
        self._curves = curves
        self._cube: Cube | None = None

    def reseed_rng(self) -> None:
        """Do nothing: draws depend on the trial's number."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every parameter that is known."""
        space = dict(self._distributions)
        if not space:
            for other in study.get_trials(deepcopy=False):
                space.update(other.distributions)
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the proposal, and record its proposer."""
        if not search_space:
            return {}
        if trial.last_step is not None or REPEATS in trial.user_attrs:  # it is resumed, or has the values of another
            return dict(trial.params)
        cube = self._cube_of(search_space)
        by, point = self._propose(study, trial, cube)
        if PROPOSED not in trial.user_attrs:
            study._storage.set_trial_user_attr(trial._trial_id, PROPOSED, by)
        given = self._given(trial.number)  # exactly these, which a coordinate might not reproduce
        return cube.params(point) | {n: v for n, v in given.items() if n in search_space} | trial.params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the middle in the first trial, else a random draw, for a parameter that was not known before."""
        if trial.number == 0:
            return from_unit(
                param_distribution, 0.0 if isinstance(param_distribution, CategoricalDistribution) else 0.5
            )
        return Random(self._seed).propose(trial.number, param_name, param_distribution)

    def _cube_of(self, space: Mapping[str, BaseDistribution]) -> Cube:
        if self._cube is None or {n: c.natural for n, c in self._cube.coordinates.items()} != dict(space):
            self._cube = Cube(space, self._mappings, self._conditions)
        return self._cube

    def _propose(self, study: Study, trial: FrozenTrial, cube: Cube) -> tuple[str, Floats]:
        number = trial.number
        if number == 0 or (number == 1 and self._prior):
            by = PRIOR if number else BASELINE if self._baseline else SPACE
            return by, cube.filled(self._given(number))
        rng = np.random.default_rng([self._seed, number])
        others = [t for t in study.get_trials(deepcopy=False) if t.number != number and t.state != TrialState.FAIL]
        shown = self._shown(study, others, cube, rng)
        member = SPACE
        if len(shown.scores) >= STARTUP:
            shares = portfolio(shown.by, shown.scores, prior=bool(self._prior))
            member = str(rng.choice(list(shares), p=list(shares.values())))
        if member == SPACE:
            place = number - bool(self._prior)  # as without: a misleading earlier study costs only its own trial
            point = cube.snapped(np.array([sobol(len(cube), self._seed, place)]))[0]
        elif member == PRIOR:
            best = cube.snapped(np.array([cube.filled(params) for params in self._prior]))
            new = _new(best, shown)
            point = new[0] if len(new) else _neighbours(cube, best, rng, 1)[0]
        elif member == NEAR:
            point = _fresh(_near(cube, shown, rng), shown)[0]
        else:
            with _pools().limit(limits=1):  # small matrices: several threads wait for one another, and sum in any order
                if member == MODEL:
                    point = _by_model(cube, shown, rng, self._expected(cube))
                else:
                    point = _by_density(cube, shown, rng)
        instead = cube.snapped(rng.random((INSTEAD, len(cube))))
        return member, _fresh(np.concatenate([point[None], instead]), shown)[0]

    def _expected(self, cube: Cube) -> list["GaussianProcess"]:
        """Return the predictions of earlier studies."""
        if self._expectations is None:
            rngs = [np.random.default_rng([self._seed, place]) for place in range(len(self._earlier))]
            found = [study.expectation(cube, rng) for study, rng in zip(self._earlier, rngs, strict=True)]
            self._expectations = [model for model in found if model is not None]
        return self._expectations

    def _given(self, number: int) -> Mapping[str, Any]:
        """Return the values of a trial that do not depend on others: the baseline's, or an earlier study's best."""
        if number == 0:
            return self._baseline or {}
        return self._prior[0] if number == 1 and self._prior else {}

    def _shown(self, study: Study, trials: Sequence[FrozenTrial], cube: Cube, rng: np.random.Generator) -> Shown:
        trials = [t for t in trials if t.params or t.state != TrialState.WAITING]
        points = cube.points(trials)
        by = [str(t.user_attrs.get(PROPOSED, SPACE)) for t in trials]
        if len(study.directions) > 1:
            signs = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions])
            seen = np.array([t.state == TrialState.COMPLETE for t in trials], dtype=bool)
            values = np.array([t.values for t, s in zip(trials, seen, strict=True) if s]).reshape(-1, len(signs))
            scores = _scalarized(values * signs, rng)
            variances, objectives = np.zeros(len(scores)), _scaled(values * signs)
        else:
            sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
            self._curves = self._curves or CurveReader(sign, sign)
            table = self._curves.read(trials)
            seen = table.complete | (table.last > 0) | np.array([t.state == TrialState.PRUNED for t in trials], bool)
            mean, variance = table.expected()
            scores, variances, objectives = mean[seen], variance[seen], None
        proposers = tuple(b for b, s in zip(by, seen, strict=True) if s)
        return Shown(points[seen], scores, variances, proposers, points[~seen], objectives)


@cache
def _pools() -> Any:
    """Return the controller of the thread pools under numpy, cached because finding them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def portfolio(by: Sequence[str], scores: Floats, *, prior: bool = False) -> dict[str, float]:
    """Return each member's share of the proposals: its initial share times its relative success rate.

    Args:
        by: the proposer of each trial.
        scores: the predicted final score of each.
        prior: whether earlier studies are a member.
    """
    members = SHARES | ({PRIOR: PRIOR_SHARE} if prior else {})
    good = scores >= np.quantile(scores, 1 - GOOD)
    weights = {}
    for member, share in members.items():
        own = np.array([b == member for b in by], dtype=bool)
        rate = (good[own].sum() + GOOD * DOUBT) / (own.sum() + DOUBT)
        weights[member] = share * rate / GOOD
    whole = sum(weights.values())
    floored = {member: max(FLOOR, weight / whole) for member, weight in weights.items()}
    left = (1 - SPACE_SHARE) / sum(floored.values())
    return {SPACE: SPACE_SHARE, **{member: share * left for member, share in floored.items()}}


def _near(cube: Cube, shown: Shown, rng: np.random.Generator) -> Floats:
    """Return some points around one of the best tenth, more often around the very best."""
    best = shown.best(max(3, len(shown.scores) // 10))
    parent = best[min(int(rng.geometric(0.4)) - 1, len(best) - 1)]
    return _neighbours(cube, shown.points[[parent]], rng, 8)


def _neighbours(cube: Cube, parents: Floats, rng: np.random.Generator, count: int) -> Floats:
    """Return points ``(count, d)`` around some of these, changed in few or many coordinates, by a little or more."""
    shape = (count, len(cube))
    width = rng.choice([0.03, 0.1, 0.2], (count, 1))
    moved = rng.random(shape) < rng.choice([0.2, 0.5, 1.0], (count, 1))
    moved[np.arange(count), rng.integers(len(cube), size=count)] = True
    points = parents[rng.integers(len(parents), size=count)]
    points = _reflected(points + moved * width * rng.standard_normal(shape))
    anew = rng.random(shape)
    for column, coordinate in enumerate(cube.coordinates.values()):
        if coordinate.choices is not None:  # a categorical parameter has no neighbors: it is redrawn now and then
            own = parents[rng.integers(len(parents), size=count), column]
            points[:, column] = np.where(moved[:, column] & (anew[:, column] < 0.5), anew[:, column] * 2, own)
    return cube.snapped(points)


def _reflected(points: Floats) -> Floats:
    points = np.abs(points)
    return np.asarray(np.clip(np.where(points > 1, 2 - points, points), 0.0, 1.0))


def _new(candidates: Floats, shown: Shown) -> Floats:
    """Return the candidates that are not a trial's point."""
    return np.asarray(candidates[[row.tobytes() not in shown.tried for row in np.round(candidates, 6)]])


def _fresh(candidates: Floats, shown: Shown) -> Floats:
    """Return the candidates that are not a trial's point; all, if none is left."""
    new = _new(candidates, shown)
    return new if len(new) else candidates


def _by_model(cube: Cube, shown: Shown, rng: np.random.Generator, earlier: Sequence["GaussianProcess"] = ()) -> Floats:
    """Return the point with the largest expected improvement over the best predicted score.

    With several objectives it is the improvement of the hypervolume. The prediction of each earlier study for a point
    is a linear feature of the model: it counts with few trials, and loses weight with more unless they confirm it.
    """
    from hypermap.search.gaussian_process import (
        LINEAR,
        GaussianProcess,
        expected_hypervolume_improvement,
        expected_improvement,
    )

    groups = np.append(cube.groups, np.full(len(earlier), LINEAR))

    def features(points: Floats) -> Floats:
        own = cube.features(points)
        return np.concatenate([own, trends(earlier, own)], axis=1) if earlier else own

    order = shown.best(len(shown.scores))
    if len(order) > MOST:  # the best, and a random subset of the others
        order = np.concatenate([order[: MOST // 2], rng.permutation(order[MOST // 2 :])[: MOST - MOST // 2]])
    points = shown.points[order]
    several = shown.objectives
    scores = shown.scores[:, None] if several is None else several
    means, spreads = scores.mean(0), np.maximum(scores.std(0), 0.1)
    models = []
    for values, spread in zip(((scores[order] - means) / spreads).T, spreads, strict=True):
        variances = shown.variances[order] / spread**2
        model = GaussianProcess(features(points), values, variances, groups, rng)
        if len(shown.pending):
            pending = features(shown.pending)
            model = model.believing(pending, model.predict(pending)[0])
        models.append(model)
    if several is None:
        best = float(models[0].predict(features(points[:10]))[0].max())
    else:
        front, worst = (several - means) / spreads, (WORST - means) / spreads

    def improvement(candidates: Floats) -> Floats:
        seen = features(candidates)
        predicted = [model.predict(seen) for model in models]
        if several is None:
            return expected_improvement(*predicted[0], best)
        return expected_hypervolume_improvement(predicted, front, worst)

    uniform = cube.snapped(rng.random((CANDIDATES // 2, len(cube))))
    around = _neighbours(cube, points[: max(4, len(scores) // 20)], rng, CANDIDATES // 2)
    candidates = _fresh(np.concatenate([uniform, around]), shown)
    expected = improvement(candidates)
    for _ in range(ROUNDS):
        order = np.argsort(-expected, kind="stable")[:CLOSEST]
        around = _fresh(_neighbours(cube, candidates[order], rng, CANDIDATES // 3), shown)
        candidates = np.concatenate([candidates[order], around])
        expected = np.concatenate([expected[order], improvement(around)])
    return np.asarray(candidates[np.argmax(expected)])


def _by_density(cube: Cube, shown: Shown, rng: np.random.Generator) -> Floats:
    """Return, of points drawn where good trials are dense, the one with the highest density ratio to the others."""
    n = len(shown.scores)
    count = max(3, min(25, math.ceil(0.15 * n)))
    order = shown.best(n)
    good, others = _Density(cube, shown.points[order[:count]]), _Density(cube, shown.points[order[count:]])
    candidates = _fresh(good.sample(rng, 64), shown)
    return np.asarray(candidates[np.argmax(good.log(candidates) - others.log(candidates))])


class _Density:
    """A kernel density estimate on the cube, with a uniform component of the weight of one point."""

    def __init__(self, cube: Cube, points: Floats) -> None:
        self._cube, self._points = cube, points
        n, d = points.shape
        spread = points.std(0) if n else np.zeros(d)
        self._width = np.clip(max(n, 1) ** (-1 / (d + 4)) * np.maximum(spread, 0.08), 0.03, 0.5)

    def sample(self, rng: np.random.Generator, count: int) -> Floats:
        """Return points drawn from the density, without the uniform component."""
        parents = self._points[rng.integers(len(self._points), size=count)]
        points = _reflected(parents + self._width * rng.standard_normal(parents.shape))
        for column, coordinate in enumerate(self._cube.coordinates.values()):
            if coordinate.choices is not None:
                anew = rng.random(count) < 1 / (len(self._points) + 1)
                points[:, column] = np.where(anew, rng.random(count), parents[:, column])
        return self._cube.snapped(points)

    def log(self, points: Floats) -> Floats:
        """Return the logarithm of the density at points ``(m, d)``."""
        from scipy.special import ndtr

        n = len(self._points)
        exponents = np.zeros((len(points), n))
        for column, coordinate in enumerate(self._cube.coordinates.values()):
            apart = points[:, column, None] - self._points[None, :, column]
            if (choices := coordinate.choices) is not None:
                same = np.abs(apart) < 0.5 / choices
                other = 1 / (n + 1)
                exponents += np.log(np.where(same, 1 - other * (choices - 1) / choices, other / choices) * choices)
            else:
                width, centres = float(self._width[column]), self._points[:, column]
                inside = ndtr((1 - centres) / width) - ndtr(-centres / width)  # truncated at the cube
                exponents += -0.5 * (apart / width) ** 2 - np.log(inside * width * math.sqrt(2 * math.pi))
        most = exponents.max(1, initial=0.0)
        kernels = np.exp(exponents - most[:, None]).sum(1) + np.exp(-most)
        return np.asarray(most + np.log(kernels / (n + 1)))


def _scalarized(values: Floats, rng: np.random.Generator) -> Floats:
    """Return one score for several objectives ``(n, k)``, higher is better, by random Chebyshev weights."""
    n, k = values.shape
    if n == 0:
        return np.zeros(0)
    ranks = np.argsort(np.argsort(np.where(np.isfinite(values), values, -math.inf), axis=0), axis=0) / max(1, n - 1)
    weights = rng.dirichlet(np.ones(k))
    return cast(Floats, -(weights * (1 - ranks)).max(1) + 0.05 * (weights * ranks).sum(1))


def _scaled(values: Floats) -> Floats:
    """Return several objectives ``(n, k)``, each scaled to 0..1 among the non-dominated trials."""
    values = np.where(np.isfinite(values), values, math.nan)
    whole = values[~np.isnan(values).any(1)]
    if not len(whole):
        return np.full(values.shape, WORST)
    front = whole[_is_pareto_front(-whole, assume_unique_lexsorted=False)]
    low, high = front.min(0), front.max(0)
    span = np.where(high > low, high - low, np.maximum(whole.std(0), 1e-12))
    return np.asarray(np.clip(np.nan_to_num((values - low) / span, nan=WORST), WORST, 1.0))
