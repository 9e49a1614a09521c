"""Gradient descent in the unit cube of a search space, with gradients estimated from pairs of trials.

SPSA, simultaneous perturbation stochastic approximation: Spall, "Multivariate stochastic approximation using a
simultaneous perturbation gradient approximation", IEEE Transactions on Automatic Control 37 (1992); gains as in Spall,
"Implementation of the simultaneous perturbation algorithm", IEEE Trans. Aerospace and Electronic Systems 34 (1998).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.errors import UserError
from hypermap.search import counter_samplers

Point = dict[str, float]  # the coordinates of parameters in the unit cube

STEP_POWER = 0.602  # Spall's alpha
PERTURBATION_POWER = 1 / 6  # Spall's gamma
STABILITY = 3  # Spall's A: pairs for which the steps hardly shrink
MEMORY = 0.9  # decay of the mean square that scales the gradient


class Gradient(counter_samplers.Separate):
    """Pairs of trials at x + c·Δ and x − c·Δ, with random signs Δ; after each pair, x takes a step downhill.

    The trials before `start_trials` are quasi-random points; the best of them is the first x. After them, a trial's
    number determines its pair and its side, and x is recomputed from the study's finished trials. So there is no state,
    workers need not coordinate, and concurrent pairs start from the same x with different signs.

    Only the ranks of the objective count, and gradients are scaled to a mean square of 1: the first step is `step` of
    the cube's edge, whatever the objective's unit. Trials that failed, were pruned or have an infinite value rank last.
    Categorical parameters are drawn at random, the same for both trials of a pair.

    Args:
        names: All parameters that may occur, in a fixed order.
        study_seed: The same for all workers and after a resume.
        start_trials: Number of quasi-random trials at the start.
        step: The first step of x, as a share of the cube's edge.
        perturbation: The first c, as a share of the cube's edge; at least half a member of a parameter with a step.

    Raises:
        UserError: the study has several objectives.
    """

    def __init__(
        self,
        names: Sequence[str],
        study_seed: int,
        *,
        start_trials: int = 8,
        step: float = 0.1,
        perturbation: float = 0.1,
    ) -> None:
        self.study_seed = study_seed
        self.start_trials = start_trials
        self.step = step
        self.perturbation = perturbation
        self._start = counter_samplers.QuasiRandom(names, study_seed)
        self._random = counter_samplers.Random(study_seed)
        self._latest: tuple[int, Point] = (-1, {})  # a trial's id and its x, for all of its parameters

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuse a study with several objectives."""
        if len(study.directions) > 1:
            raise UserError(
                "gradient descent needs one objective; for several, choose a sampler such as nsgaii or tpe."
            )
        self._latest = (-1, {})

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the parameter's value at the trial's point of its pair."""
        if trial.number < self.start_trials:
            return self._start.propose(trial.number, param_name, param_distribution)
        pair, side = divmod(trial.number - self.start_trials, 2)
        if not isinstance(param_distribution, FloatDistribution | IntDistribution):
            return self._random.propose(self.start_trials + pair, param_name, param_distribution)
        u = self._x(study, trial).get(param_name, 0.5)
        away = self._away(pair, param_name, param_distribution)
        return counter_samplers.from_unit(param_distribution, _clip(u - away if side else u + away))

    def _x(self, study: Study, trial: FrozenTrial) -> Point:
        if self._latest[0] != trial._trial_id:
            self._latest = (trial._trial_id, self.descend(study))
        return self._latest[1]

    def _away(self, pair: int, name: str, distribution: FloatDistribution | IntDistribution) -> float:
        """Return one coordinate of c·Δ."""
        size = self.perturbation / math.pow(pair + 1, PERTURBATION_POWER)
        if distribution.step is not None and not distribution.log:
            size = max(size, 0.5 / counter_samplers.count(distribution))
        return size if counter_samplers.digest(self.study_seed, pair, name) % 2 else -size

    def descend(self, study: Study) -> Point:
        """Return x after all finished pairs, in the order of their numbers."""
        trials = {trial.number: trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
        ranks = _ranks(trials, study.direction)
        x = _best([trials[number] for number in sorted(trials) if number < self.start_trials], ranks)
        mean_square, weight = 0.0, 0.0
        for pair, plus, minus in self._pairs(trials):
            rise = ranks[plus.number] - ranks[minus.number]
            if rise == 0:
                continue
            mean_square, weight = MEMORY * mean_square + rise**2, MEMORY * weight + 1
            gain = self.step * ((1 + STABILITY) / (pair + 1 + STABILITY)) ** STEP_POWER
            _move(x, plus, minus, gain * rise / math.sqrt(mean_square / weight))
        return x

    def _pairs(self, trials: Mapping[int, FrozenTrial]) -> Iterator[tuple[int, FrozenTrial, FrozenTrial]]:
        """Yield the pairs whose trials are both finished, with their index."""
        last = max(trials, default=0)
        for pair in count():
            number = self.start_trials + 2 * pair
            if number >= last:
                return
            if number in trials and number + 1 in trials:
                yield pair, trials[number], trials[number + 1]


def _ranks(trials: Mapping[int, FrozenTrial], direction: StudyDirection) -> dict[int, float]:
    """Return the rank of each trial by number, the best near 0 and the worst near 1; ties share a rank."""
    losses = {number: _loss(trial, direction) for number, trial in trials.items()}
    order = sorted(losses.values())
    return {
        number: (bisect_left(order, loss) + bisect_right(order, loss)) / (2 * len(order))
        for number, loss in losses.items()
    }


def _loss(trial: FrozenTrial, direction: StudyDirection) -> float:
    """Return the loss to be minimized; infinite for a trial without a result."""
    if trial.state != TrialState.COMPLETE or trial.value is None or not math.isfinite(trial.value):
        return math.inf
    return -trial.value if direction == StudyDirection.MAXIMIZE else trial.value


def _best(trials: Sequence[FrozenTrial], ranks: Mapping[int, float]) -> Point:
    """Return the point of the best trial; empty, which means the cube's middle, if there is no trial."""
    return _point(min(trials, key=lambda trial: ranks[trial.number])) if trials else {}


def _point(trial: FrozenTrial) -> Point:
    return {
        name: _clip(counter_samplers.to_unit(distribution, trial.params[name]))
        for name, distribution in trial.distributions.items()
        if isinstance(distribution, FloatDistribution | IntDistribution)
    }


def _move(x: Point, plus: FrozenTrial, minus: FrozenTrial, length: float) -> None:
    """Move `x` by `length` from the side of `plus` to that of `minus`, in each parameter in which the two differ."""
    above, below = _point(plus), _point(minus)
    for name in above.keys() & below.keys():
        if above[name] != below[name]:
            sign = 1 if above[name] > below[name] else -1
            x[name] = _clip(x.get(name, 0.5) - sign * length)


def _clip(u: float) -> float:
    return min(max(u, 0.0), 1.0)
