"""Which parameters mattered: Optuna's own analyses, and how sure they are."""

import itertools
import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import StudyData

LEAST = 4
"""Complete trials with which an importance is told at all."""

LEAST_OF_BEST = 8
"""The same where others were pruned: those that came to their end are the good ones, which differ by less."""

FANOVA_TRIALS = 100
"""Trials up to which fANOVA is quick; its time grows with their square."""

FANOVA_CHOICES = 6
"""Choices of one parameter up to which fANOVA is quick; its time doubles with each."""

FINEST = 1e-6
"""By how much values must differ for fANOVA: its trees have natural values, and scikit-learn's split none in 1e-7."""

TREES = 16
"""Trees of a resampled forest; the importance itself has Optuna's 64."""

REPEATS = 20
"""Resamplings of the trials at most; of many trials there are as few as five."""

Assessed = dict[str, float]


@dataclass(frozen=True)
class Importances:
    """How much of what the scores differ by each parameter accounts for.

    Attributes:
        evaluator: ``fANOVA`` or ``PED-ANOVA``.
        shares: by the parameter's name, the largest first; their sum is 1.
        low: the lower end of each share's bootstrap interval, and `high` the upper end.
        trials: how many were assessed, all of them complete.
        pair: the two most important parameters that were varied together; None where there are no two.
    """

    evaluator: str
    shares: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    trials: int
    pair: tuple[str, str] | None = None


def importances(view: StudyData, thresholds: Thresholds) -> Importances | None:
    """Return Optuna's importance of each parameter for the first objective; None where there is too little to tell.

    By fANOVA (Hutter et al., 2014) where all trials have the same parameters, of which none is tiny, and are few
    enough for its time, else by PED-ANOVA (Watanabe et al., 2023), which asks what it takes to be among the best tenth
    and also assesses parameters that only some trials have. Complete trials alone are assessed: what a pruned one had
    reached is the score of a shorter training.

    An interval is that of a bootstrap over the trials, 5 to 20 times as time allows; the forests of resampled trials
    have fewer trees than the one of the importance, so it is rather too wide. It always holds the share.
    """
    chosen = view.completed
    frozen = {trial.number: trial for trial in view.study.get_trials(deepcopy=False)}
    trials = [_complete(frozen[trial.number], place, trial.values[0]) for place, trial in enumerate(chosen)]
    if len(trials) < least(view) or len({trial.value for trial in trials}) == 1 or not _varying(trials):
        return None
    name, shares = _assessed(trials, view.directions[0])
    low, high = _interval(trials, view.directions[0], name, shares, thresholds.confidence)
    return Importances(name, shares, low, high, len(trials), _pair(shares, trials))


def least(view: StudyData) -> int:
    """Return how many complete trials it takes to tell an importance."""
    return LEAST_OF_BEST if view.with_outcome("pruned") else LEAST


def _assessed(trials: Sequence[FrozenTrial], direction: str) -> tuple[str, Assessed]:
    """Return the evaluator's name and its shares, the largest first; equals by name."""
    if _suits_fanova(trials):
        shares = _evaluate(trials, direction, FanovaImportanceEvaluator(seed=0))
        if shares:
            return "fANOVA", shares
    return "PED-ANOVA", _evaluate(trials, direction, PedAnovaImportanceEvaluator()) or {}


def _suits_fanova(trials: Sequence[FrozenTrial]) -> bool:
    spaces = [trial.distributions for trial in trials]
    choices = [len(d.choices) for d in spaces[0].values() if isinstance(d, CategoricalDistribution)]
    few = len(trials) <= FANOVA_TRIALS and max(choices, default=0) <= FANOVA_CHOICES
    return few and all(space == spaces[0] for space in spaces) and all(map(_can_be_split, spaces[0].values()))


def _can_be_split(distribution: BaseDistribution) -> bool:
    if not isinstance(distribution, FloatDistribution) or distribution.single():
        return True
    return (distribution.low if distribution.log else distribution.high - distribution.low) >= FINEST


def _evaluate(trials: Sequence[FrozenTrial], direction: str, evaluator: BaseImportanceEvaluator) -> Assessed | None:
    """Return shares by name, the largest first; None where the evaluator finds nothing that it could divide."""
    try:
        with warnings.catch_warnings():  # of too few trials in some part of the space: the interval shows it
            warnings.simplefilter("ignore")
            found = get_param_importances(study_of(trials, [direction]), evaluator=evaluator)
    except (RuntimeError, ValueError, ArithmeticError, AssertionError):  # no variance in any tree, or an overflow
        return None
    if not np.isfinite(list(found.values())).all():  # scores whose squares overflow
        return None
    return {name: float(found[name]) for name in sorted(found, key=lambda name: (-found[name], name))}


class _Given(InMemoryStorage):
    """Trials as they are: those of a thousand would be copied for longer than they are assessed."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._given = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._given if states is None or trial.state in states]


def _complete(trial: FrozenTrial, place: int, value: float) -> FrozenTrial:
    """Return a complete trial of one objective with the parameters of another."""
    return FrozenTrial(
        number=place,
        trial_id=place,
        state=TrialState.COMPLETE,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def study_of(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> optuna.Study:
    """Return a study in memory of just these trials, made without the line that Optuna logs for each."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        named = [StudyDirection[direction.upper()] for direction in directions]
        return optuna.create_study(storage=_Given(trials), directions=named)
    finally:
        optuna.logging.set_verbosity(level)


def _interval(
    trials: Sequence[FrozenTrial], direction: str, name: str, shares: Assessed, confidence: float
) -> tuple[Assessed, Assessed]:
    """Return the percentiles of each share over resampled trials, widened to the share itself where it is outside."""
    generator = np.random.default_rng(0)
    affordable = 1000 // len(trials) if name == "fANOVA" else 200_000 // (len(trials) * len(shares))
    repeats = min(max(affordable, 5), REPEATS)
    found: list[list[float]] = [list(shares.values())]
    for _ in range(repeats):
        drawn = [trials[k] for k in generator.integers(len(trials), size=len(trials))]
        evaluator = (
            FanovaImportanceEvaluator(n_trees=TREES, seed=0) if name == "fANOVA" else PedAnovaImportanceEvaluator()
        )
        if len({trial.value for trial in drawn}) > 1 and (again := _evaluate(drawn, direction, evaluator)):
            found.append([again.get(parameter, 0.0) for parameter in shares])
    ends: NDArray[np.float64] = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    low = {parameter: min(float(end), shares[parameter]) for parameter, end in zip(shares, ends[0], strict=True)}
    high = {parameter: max(float(end), shares[parameter]) for parameter, end in zip(shares, ends[1], strict=True)}
    return low, high


def _varying(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that have more than one value among these trials."""
    values: dict[str, set[object]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    return [name for name, distinct in values.items() if len(distinct) > 1]


def _pair(shares: Assessed, trials: Sequence[FrozenTrial]) -> tuple[str, str] | None:
    """Return the first two in the order of importance that both vary where a trial has both."""
    for one, other in sorted(itertools.combinations(range(len(shares)), 2), key=lambda pair: (sum(pair), pair)):
        names = list(shares)[one], list(shares)[other]
        both = [trial for trial in trials if all(name in trial.params for name in names)]
        if len(both) >= LEAST and set(names) <= set(_varying(both)):
            return names
    return None
