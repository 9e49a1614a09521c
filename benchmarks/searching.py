"""Searches for benchmarks: a strategy proposes, pauses and stops; who runs it says what each training shows.

A search is a generator. It yields a `Request`, to train a configuration up to a step, and is sent the scores after each
step so far; it returns its trials. So recorded curves answer at once, and live trainings of many searches are carried
out together.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from hypermap.search.auto import Auto
from hypermap.search.auto_pruner import AutoPruner
from hypermap.search.curves import CurveReader
from hypermap.search.earlier import EACH, EarlierStudy
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.scales import Scale
from hypermap.search.schedule import PROPOSED, REPEATS, SCHEDULE, Ledger


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        direction: of the score.
        steps: of a full training.
        distributions: natural ones, by name.
        mappings: bijections to where parameters are searched, by name.
        baseline: the configuration that a person has; None: nobody knows one.
        prior: earlier studies; only `auto` takes them.
        lookahead: whether a search may ask for more steps than it then counts, so that trainings come in larger pieces.
    """

    direction: Literal["maximize", "minimize"]
    steps: int
    distributions: Mapping[str, BaseDistribution]
    mappings: Mapping[str, Scale] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    prior: Sequence[EarlierStudy] = ()
    lookahead: bool = False


@dataclass(frozen=True)
class Request:
    """A training that is asked for: a configuration, by the number of its trial, up to a step."""

    number: int
    params: Mapping[str, Any]
    until: int


@dataclass
class Tried:
    """A trial.

    Attributes:
        scores: after each step that it was trained for, not finite where it diverged.
        repeats: the trial whose configuration it measures once more, with a seed of its own.
    """

    params: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    complete: bool = False
    proposed: str = ""
    repeats: int | None = None

    def best(self, sign: float) -> float:
        """Return the best score times `sign`."""
        return max((sign * score for score in self.scores if math.isfinite(score)), default=-math.inf)


def as_earlier(tried: Sequence[Tried], sign: float) -> EarlierStudy:
    """Return what a search hands on to a later one; `sign` is 1 where a higher score is better."""
    scored = [(dict(one.params), one.best(sign)) for one in tried]
    complete = [pair for one, pair in zip(tried, scored, strict=True) if one.complete]
    complete.sort(key=lambda pair: -pair[1])
    return EarlierStudy(tuple(params for params, _ in complete[:EACH]), tuple(scored))


Searching = Generator[Request, Sequence[float], list[Tried]]


@dataclass
class Strategy:
    """A way to search: `begin` makes a search of a problem with a seed and a budget of steps; None: without end."""

    name: str
    begin: Callable[[Problem, int, int], Searching]
    anytime: bool = True  # whether a search with a larger budget begins as one with a smaller does
    judges: bool = False  # whether its best is picked as the project does, and not by the best score alone


def optuna_search(
    sampler: Callable[[Problem, int], BaseSampler],
    pruner: Callable[[Problem], BasePruner] = lambda problem: NopPruner(),
) -> Callable[[Problem, int, int], Searching]:
    """Return a search by a sampler and a pruner of Optuna's: a trial that is pruned has ended."""

    def begin(problem: Problem, seed: int, budget: int) -> Searching:
        study = optuna.create_study(
            study_name=str(seed),  # by which Hyperband sorts trials into brackets: else by chance
            direction=problem.direction,
            sampler=ScaledSampler(sampler(problem, seed), problem.mappings)
            if problem.mappings
            else sampler(problem, seed),
            pruner=pruner(problem),
        )
        tried: list[Tried] = []
        spent = 0
        while spent < budget:
            trial = study.ask(dict(problem.distributions))
            one = Tried(trial.params)
            tried.append(one)
            for step in range(1, problem.steps + 1):
                if step > len(one.scores):
                    until = min(problem.steps, 1 << (step - 1).bit_length()) if problem.lookahead else step
                    one.scores = list((yield Request(trial.number, trial.params, until)))
                spent += 1
                score = one.scores[step - 1]
                if not math.isfinite(score):
                    study.tell(trial, math.inf if problem.direction == "minimize" else -math.inf)
                    break
                trial.report(score, step)
                if (spent >= budget and step < problem.steps) or trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    break
            else:
                one.complete = True
                study.tell(trial, (min if problem.direction == "minimize" else max)(one.scores))
            one.scores = one.scores[:step]
        return tried

    return begin


def auto_search(**settings: Any) -> Callable[[Problem, int, int], Searching]:
    """Return a search by the default strategy; `settings` are those of its pruner."""

    def begin(problem: Problem, seed: int, budget: int) -> Searching:
        sign = -1.0 if problem.direction == "minimize" else 1.0
        curves = CurveReader(sign, sign, problem.steps)
        baseline = problem.baseline
        sampler = Auto(seed, problem.distributions, problem.mappings, baseline, problem.prior, curves)
        pruner = AutoPruner(problem.steps, baseline=baseline is not None, curves=curves, **settings)
        study = optuna.create_study(direction=problem.direction, sampler=sampler)
        ledger = Ledger(budget / problem.steps, horizon=problem.steps)
        running: dict[int, optuna.Trial] = {}
        tried: list[Tried] = []
        while (decision := pruner.decide(study.get_trials(deepcopy=False), ledger)) is not None:
            for number in decision.release:
                study.tell(running.pop(number), state=TrialState.PRUNED)
            if decision.number is None:
                if decision.repeats is not None:
                    study.enqueue_trial(dict(tried[decision.repeats].params), {REPEATS: decision.repeats})
                trial = study.ask(dict(problem.distributions))
                running[trial.number] = trial
                proposed = str(study.get_trials(deepcopy=False)[trial.number].user_attrs.get(PROPOSED, ""))
                tried.append(Tried(trial.params, proposed=proposed, repeats=decision.repeats))
            else:
                trial = running[decision.number]
            trial.set_user_attr(SCHEDULE, decision.allowed.record())
            one, until = tried[trial.number], decision.allowed.until or problem.steps
            known = len(one.scores)
            one.scores = list((yield Request(trial.number, trial.params, until)))[:until]
            bad = next((i for i, score in enumerate(one.scores) if not math.isfinite(score)), None)
            if bad is not None:
                one.scores = one.scores[: bad + 1]
            for step, score in enumerate(one.scores[known:], known + 1):
                if math.isfinite(score):
                    trial.report(score, step)
            if bad is not None:
                study.tell(running.pop(trial.number), -sign * math.inf)
            elif until >= problem.steps:
                one.complete = True
                study.tell(running.pop(trial.number), sign * one.best(sign))
            else:
                trial.set_user_attr(SCHEDULE, replace(decision.allowed, until=until, paused=True).record())
        return tried

    return begin


STRATEGIES = [
    Strategy("random", optuna_search(lambda problem, seed: RandomSampler(seed=seed))),
    Strategy("Sobol", optuna_search(lambda problem, seed: QMCSampler(seed=seed, scramble=True))),
    Strategy("TPE", optuna_search(lambda problem, seed: TPESampler(seed=seed))),
    Strategy("Gaussian process", optuna_search(lambda problem, seed: GPSampler(seed=seed))),
    Strategy(
        "TPE + median",
        optuna_search(lambda problem, seed: TPESampler(seed=seed), lambda problem: MedianPruner()),
    ),
    Strategy(
        "TPE + Hyperband",
        optuna_search(
            lambda problem, seed: TPESampler(seed=seed), lambda problem: HyperbandPruner(1, problem.steps, 3)
        ),
    ),
    Strategy(
        "random + successive halving (eta 3)",
        optuna_search(lambda problem, seed: RandomSampler(seed=seed), lambda problem: SuccessiveHalvingPruner(1, 3)),
    ),
    Strategy(
        "random + successive halving (eta 4)",
        optuna_search(lambda problem, seed: RandomSampler(seed=seed), lambda problem: SuccessiveHalvingPruner(1, 4)),
    ),
    Strategy(
        "TPE + successive halving (eta 4)",
        optuna_search(lambda problem, seed: TPESampler(seed=seed), lambda problem: SuccessiveHalvingPruner(1, 4)),
    ),
    Strategy("auto", auto_search(), anytime=False, judges=True),
]


@dataclass
class Clock:
    """Counts the seconds that a search takes for itself, between two answers."""

    seconds: float = 0.0
    asks: int = 0

    def advance(self, search: Searching, answer: Sequence[float] | None) -> Request:
        """Return the search's next request; raises `StopIteration` with its trials where it has ended."""
        begun = time.perf_counter()
        try:
            return next(search) if answer is None else search.send(answer)
        finally:
            self.seconds += time.perf_counter() - begun
            self.asks += 1
