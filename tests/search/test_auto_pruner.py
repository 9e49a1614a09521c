"""The default pruner: who goes on, who begins and who is finished, by hand and in searches over known curves."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hypermap.search.auto import MODEL, SPACE
from hypermap.search.auto_pruner import LEAST_COMPLETE, AutoPruner
from hypermap.search.curves import CurveReader
from hypermap.search.schedule import PROPOSED, REPEATS, SCHEDULE, SIZE, Allowed, Decision, Ledger, Size

STEPS = 8  # rungs 1, 2, 4 and 8
X = FloatDistribution(0.0, 1.0)


# Decisions about trials that are given.


def pruner(steps: int | None = STEPS, mean: bool = False, **settings) -> AutoPruner:
    return AutoPruner(steps, curves=CurveReader(horizon=steps, mean=mean), **{"baseline": True, "eta": 4.0, **settings})


def trials_of(*curves: Sequence[float], complete: Sequence[int] = (0,), allowed: dict[int, Allowed] | None = None):
    """Trials by their curves: all are paused, but for those that are complete or of whom something else is kept.

    The complete ones count as trained for the test of early scores, so that no other begins for it.
    """
    made = []
    for number, curve in enumerate(curves):
        paused = Allowed(None if number in complete else len(curve), number not in complete, number in complete)
        one = create_trial(
            state=TrialState.COMPLETE if number in complete else TrialState.RUNNING,
            value=max(curve, default=0.9) if number in complete else None,
            intermediate_values=dict(enumerate(curve, 1)),
            user_attrs={SCHEDULE: (allowed or {}).get(number, paused).record()},
        )
        one.number = one._trial_id = number
        made.append(one)
    return made


def rising(end: float, steps: int = STEPS) -> list[float]:
    return [end * (step + 1) / (steps + 1) for step in range(1, steps + 1)]


def decided(trials: list[FrozenTrial], of: AutoPruner | None = None, ledger: Ledger | None = None) -> list[Decision]:
    """All that is decided, one thing after another, before a trial begins; who goes on runs from then on."""
    trials, decisions = list(trials), []
    while len(decisions) < 100:
        decision = (of or pruner()).decide(trials, ledger or Ledger(horizon=STEPS))
        if decision is None or decision.number is None:
            return [*decisions, decision] if decision else decisions
        decisions.append(decision)
        gone = create_trial(
            state=TrialState.RUNNING,
            intermediate_values=trials[decision.number].intermediate_values,
            user_attrs={SCHEDULE: decision.allowed.record()},
        )
        gone.number = gone._trial_id = decision.number
        trials[decision.number] = gone
    raise AssertionError("it decides without end")


def numbers(decisions: Sequence[Decision]) -> list[int | None]:
    return [decision.number for decision in decisions]


def test_the_baseline_is_trained_to_its_end_and_the_next_to_the_first_rung():
    assert pruner().decide([], Ledger(horizon=STEPS)) == Decision(None, Allowed())
    assert pruner().decide(trials_of(rising(0.9)), Ledger(horizon=STEPS)) == Decision(None, Allowed(1))
    assert pruner(baseline=False).decide([], Ledger(horizon=STEPS)) == Decision(None, Allowed(1))


def test_one_in_four_goes_on_from_a_rung_and_another_when_more_have_come():
    seven = [rising(0.1), [0.5], [0.7], [0.6], [0.4], [0.3], [0.2]]
    assert decided(trials_of(*seven)) == [Decision(2, Allowed(2)), Decision(None, Allowed(1))]
    assert decided(trials_of(*seven, [0.15])) == [
        Decision(2, Allowed(2)),
        Decision(3, Allowed(2)),
        Decision(None, Allowed(1)),
    ]


def test_a_trial_that_others_have_overtaken_waits():
    """Of eight two may go on, and those have been further already."""
    curves = [rising(0.1), [0.8, 0.9], [0.7, 0.9], [0.6], [0.4], [0.3], [0.2], [0.1]]
    assert decided(trials_of(*curves)) == [Decision(None, Allowed(1))]


def test_the_highest_rung_comes_first():
    high = [[0.8, 0.9, 0.9, 0.9], [0.8, 0.8, 0.8, 0.8], [0.8, 0.7, 0.7, 0.7]]
    curves = [rising(0.1), *high, [0.85, 0.95], *([0.1 + k / 100] for k in range(11)), [0.95]]
    decisions = decided(trials_of(*curves))
    assert [(d.number, d.allowed.until) for d in decisions] == [(1, None), (4, 4), (16, 2), (None, 1)]


def test_eta_is_one_in_so_many():
    curves = [rising(0.01), *([k / 100] for k in range(2, 13))]
    for eta, expected in ((1.0, 11), (2.0, 6), (3.0, 4), (4.0, 3), (12.0, 1)):
        assert len(decided(trials_of(*curves), pruner(eta=eta))) == expected + 1


def test_who_fills_the_space_competes_with_its_like_alone():
    """Of the four worst one goes on as well, since these four are those that fill the space."""
    trials = trials_of(rising(0.1), [0.9], [0.8], [0.7], [0.4], [0.3], [0.2], [0.15])
    for trial in trials[4:]:
        trial.set_user_attr(PROPOSED, SPACE)
    assert sorted(d.number for d in decided(trials)[:-1]) == [1, 4]
    for trial in trials[4:]:
        trial.set_user_attr(PROPOSED, MODEL)
    assert [d.number for d in decided(trials)[:-1]] == [1, 2]


def test_a_trial_that_diverged_counts_where_it_would_have_been_last():
    curves = [rising(0.1), [0.5], [0.9], [0.4]]
    gone = trials_of(*curves, complete=(0,))
    gone[3] = create_trial(value=-math.inf, intermediate_values={1: 0.95})
    gone[3].number = gone[3]._trial_id = 3
    assert numbers(decided(gone)) == [2, None]


def test_nobody_goes_on_with_a_score_that_is_no_number():
    curves = [rising(0.1), [math.nan], [math.nan], [math.nan]]
    assert numbers(decided(trials_of(*curves))) == [None]


def test_a_failed_trial_has_no_part():
    trials = trials_of(rising(0.1), [0.9], [0.5], [0.4])
    trials[1] = create_trial(state=TrialState.FAIL, intermediate_values={1: 0.9})
    trials[1].number = trials[1]._trial_id = 1
    assert numbers(decided(trials)) == [None]  # of three nobody is one in four


def test_a_model_that_reports_nothing_takes_nobodys_place():
    """Its value is known at once, and a network's after its first epoch is no match for it."""
    trials = trials_of(rising(0.1), *([0.5 + k / 100] for k in range(7)), [], [], complete=(0, 8, 9))
    assert numbers(decided(trials)) == [7, 6, None]


def test_folds_are_compared_by_their_mean_and_not_by_the_best():
    """Of eight trials two may go on from the second fold."""
    folds = [[0.5, 0.5], [0.9, 0.1], [0.6, 0.6], [0.55, 0.6], [0.2, 0.2], [0.1, 0.1], [0.1, 0.2], [0.2, 0.1]]
    assert numbers(decided(trials_of([0.3] * STEPS, *folds[1:]), pruner(mean=True)))[:2] == [2, 3]
    assert numbers(decided(trials_of([0.3] * STEPS, *folds[1:])))[:2] == [1, 2]


# What early scores have proved to say.


def complete_with(tau_at_first: float, count: int = 40) -> list[list[float]]:
    """Curves whose first score ranks them so well, and whose second as the last."""
    ends = np.linspace(0.5, 0.9, count)
    rng = np.random.default_rng(0)
    for noise in np.linspace(0, 30, 3_000):
        firsts = ends + 0.1 * noise * rng.standard_normal(count)
        order = np.sign(np.subtract.outer(firsts, firsts) * np.subtract.outer(ends, ends))
        if order.sum() / count / (count - 1) <= tau_at_first:
            break
    firsts = 0.1 + 0.3 * (firsts - firsts.min()) / np.ptp(firsts)
    return [[float(f), *np.linspace(0.5 + 0.1 * e, e, STEPS - 1).tolist()] for f, e in zip(firsts, ends, strict=True)]


def test_early_scores_that_mislead_raise_the_first_rung():
    misleading = [[1 - row[-1], *row[1:]] for row in complete_with(1.0)]
    first = pruner().decide(trials_of(*misleading, complete=range(40)), Ledger(horizon=STEPS))
    assert first == Decision(None, Allowed(2))
    none = [[1 - row[-1]] * (STEPS - 1) + row[-1:] for row in complete_with(1.0)]
    assert pruner().decide(trials_of(*none, complete=range(40)), Ledger(horizon=STEPS)) == Decision(None, Allowed())


def test_early_scores_that_tell_leave_it_at_the_first():
    telling = trials_of(*complete_with(0.9), complete=range(40))
    assert pruner().decide(telling, Ledger(horizon=STEPS)) == Decision(None, Allowed(1))


def test_a_pair_in_another_order_by_chance_changes_nothing():
    curves = [[0.1 * k, *rising(0.5 + 0.05 * k)[1:]] for k in (1, 2, 4, 3, 5)]
    curves[2][0], curves[3][0] = curves[3][0], curves[2][0]
    found = pruner().decide(trials_of(*curves, complete=range(5)), Ledger(horizon=STEPS))
    assert found == Decision(None, Allowed(1))


def test_the_less_a_rung_tells_the_more_it_lets_pass():
    def passed(tau: float) -> int:
        new = [[0.45 + k / 1000] for k in range(40)]
        trials = trials_of(*complete_with(tau), *new, complete=range(40))
        return len(decided(trials)) - 1

    assert passed(1.0) == passed(0.75) == 80 // 4
    assert 80 // 4 < passed(0.55) < 40


def test_what_was_paused_before_the_first_rung_rose_catches_up_where_it_leads():
    """Trials 40 and 41 were paused at step 1, which then proved to say nothing."""
    misleading = [[1 - row[-1], *row[1:]] for row in complete_with(1.0)]
    trials = trials_of(*misleading, [0.95], [0.05], complete=range(40))
    decisions = decided(trials)
    assert decisions[-1] == Decision(None, Allowed(2))
    assert all(decision.allowed.until == 2 for decision in decisions)
    assert len(decisions) <= 2


# Searches over known curves.


@dataclass
class Search:
    """A search whose trials are trained by known curves, as many at a time as there are workers.

    Attributes:
        curve: of a trial's number and its x, a score for each step.
        sizes: of a trial's number, where they differ.
    """

    curve: Callable[[int, float], Sequence[float]]
    ledger: Ledger
    pruner: AutoPruner = field(default_factory=pruner)
    at_once: int = 1
    sizes: Callable[[int], Size] | None = None
    seed: int = 0
    decisions: list[Decision] = field(default_factory=list)
    most_paused: int = 0

    def __post_init__(self) -> None:
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(self.seed))
        self.open: dict[int, optuna.Trial] = {}

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def steps(self) -> int:
        return sum(trial.last_step or 0 for trial in self.trials)

    def run(self, most: int = 10_000) -> "Search":
        """Carry out what is decided until nothing is."""
        while len(self.decisions) < most:
            begun = [one for _ in range(self.at_once) if (one := self._begin()) is not None]
            if not begun:
                return self
            for trial, decision in begun:
                self._train(trial, decision.allowed)
            paused = [t for t in self.trials if t.state == TrialState.RUNNING]
            self.most_paused = max(self.most_paused, len(paused))
        return self

    def _begin(self) -> tuple[optuna.Trial, Decision] | None:
        decision = self.pruner.decide(self.trials, self.ledger)
        if decision is None:
            return None
        self.decisions.append(decision)
        for number in decision.release:
            self.study.tell(self.open.pop(number), state=TrialState.PRUNED)
        if decision.repeats is not None:
            self.study.enqueue_trial(self.trials[decision.repeats].params, {REPEATS: decision.repeats})
        if decision.number is None:
            trial = self.study.ask({"x": X})
            self.open[trial.number] = trial
            if self.sizes is not None:
                size = self.sizes(trial.number)
                trial.set_user_attr(SIZE, {"steps": size.steps, "trainings": size.trainings})
        trial = self.open[trial.number if decision.number is None else decision.number]
        trial.set_user_attr(SCHEDULE, decision.allowed.record())
        return trial, decision

    def _train(self, trial: optuna.Trial, allowed: Allowed) -> None:
        curve = self.curve(trial.number, trial.params["x"])
        known = self.trials[trial.number].last_step or 0
        until = len(curve) if allowed.until is None else allowed.until
        for step in range(known + 1, min(until, len(curve)) + 1):
            trial.report(curve[step - 1], step)
        if until >= len(curve):
            self.study.tell(self.open.pop(trial.number), max(curve))
        else:
            trial.set_user_attr(SCHEDULE, replace(allowed, paused=True).record())


def honest(number: int, x: float) -> list[float]:
    """Whoever leads after one step leads at the end."""
    return [(0.5 + 0.4 * x) * (1 - 0.5**step) for step in range(1, STEPS + 1)]


def noisy(number: int, x: float) -> list[float]:
    rng = np.random.default_rng(number)
    return [(0.5 + 0.4 * x) * (1 - 0.5**step) + 0.05 * rng.standard_normal() for step in range(1, STEPS + 1)]


def crossing(number: int, x: float) -> list[float]:
    """Whoever leads at first comes out last."""
    return [1 - x + (2 * x - 1) * (step - 1) / (STEPS - 1) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("curve", [honest, noisy, crossing])
@pytest.mark.parametrize("budget", [0.5, 1, 3, 7.3, 20])
def test_a_budget_is_met_to_the_step(curve, budget):
    search = Search(curve, Ledger(budget, horizon=STEPS)).run()
    assert search.steps == math.floor(budget * STEPS + 1e-9)
    assert len(search.complete) >= min(int(budget), LEAST_COMPLETE)
    assert search.trials[0].last_step == min(STEPS, search.steps)  # the baseline, as far as it goes


@pytest.mark.parametrize("at_once", [2, 4])
@pytest.mark.parametrize("budget", [1, 3, 7.3])
def test_a_budget_is_met_to_the_step_by_several_at_once(budget, at_once):
    search = Search(noisy, Ledger(budget, horizon=STEPS), at_once=at_once).run()
    assert search.steps == math.floor(budget * STEPS + 1e-9)
    assert len(search.complete) >= min(int(budget), LEAST_COMPLETE)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_search_the_budget_is_met_and_enough_is_complete(seed):
    rng = np.random.default_rng(seed)
    steps, budget = int(rng.choice([1, 2, 3, 5, 12, 30])), float(rng.uniform(0.3, 6))
    at_once, known = int(rng.choice([1, 2, 4])), rng.random(200)

    def curve(number: int, x: float) -> list[float]:
        shape = np.random.default_rng([seed, number]).random(steps)
        return (x * known[0] + np.maximum.accumulate(shape) * known[1]).tolist()

    of = pruner(steps, baseline=bool(known[2] > 0.4), paused=int(rng.choice([4, 16, 64])))
    search = Search(curve, Ledger(budget, horizon=steps), of, at_once=at_once, seed=seed).run()
    assert search.steps == math.floor(budget * steps + 1e-6)
    assert len(search.complete) >= min(int(budget), LEAST_COMPLETE)
    assert search.most_paused < of.paused + at_once
    assert all(Allowed.of(trial).paused for trial in search.trials if trial.state == TrialState.RUNNING)


@pytest.mark.parametrize("budget", [3.0, 6.0, 12.0])
def test_folds_are_charged_as_parts_of_a_training(budget):
    def folds(number: int, x: float) -> list[float]:
        return (0.5 + 0.3 * x + 0.1 * np.random.default_rng(number).standard_normal(5)).tolist()

    search = Search(folds, Ledger(budget, horizon=5), pruner(5, mean=True)).run()
    assert search.steps == 5 * budget
    assert len(search.complete) >= LEAST_COMPLETE


def test_most_of_a_budget_goes_to_many_trials_and_the_best_are_complete():
    search = Search(honest, Ledger(20, horizon=STEPS)).run()
    assert len(search.trials) > 50
    by_x = sorted(search.trials, key=lambda trial: -trial.params["x"])
    assert by_x[0].state == TrialState.COMPLETE
    assert sum(trial.last_step for trial in by_x[: len(by_x) // 4]) >= search.steps / 2


def test_where_each_trial_is_better_than_those_before_it_most_are_paused_all_the_same():
    def better_and_better(number: int, x: float) -> list[float]:
        return rising(1 - 1 / (number + 2))

    search = Search(better_and_better, Ledger(30, horizon=STEPS)).run()
    assert len(search.trials) >= 50  # they were 32 without quotas
    assert len(search.complete) <= 24  # and 29


def test_a_tenth_of_what_is_spent_goes_to_trials_that_are_never_paused():
    ledger = Ledger(30, horizon=STEPS)
    search = Search(honest, ledger, seed=1).run()
    unpruned = [trial for trial in search.trials if Allowed.of(trial).unpruned]
    share = len(unpruned) / ledger.spent(search.trials)
    assert 0.06 < share <= 0.1
    assert all(trial.state == TrialState.COMPLETE for trial in unpruned)
    begun = [d for d in search.decisions if d.number is None and d.allowed.unpruned]
    assert len(begun) == len(unpruned)
    assert all(decision.allowed.until is None for decision in begun)


@pytest.mark.parametrize(("budget", "least"), [(4, 3), (10, 5), (20, 5), (80, 8)])
def test_the_last_of_the_budget_finishes_leaders(budget, least):
    """As many as half the budget, five trainings or a tenth of it are enough for."""
    search = Search(honest, Ledger(budget, horizon=STEPS)).run()
    assert len(search.complete) >= least


def test_no_trial_begins_on_the_last_tenth_of_the_budget():
    ledger = Ledger(20, horizon=STEPS)
    search = Search(noisy, ledger)
    while search.run(len(search.decisions) + 1).decisions[-1].number is None or ledger.left(search.trials) > 2:
        pass
    begun = sum(t.user_attrs.get(REPEATS) is None for t in search.trials)
    search.run()
    assert sum(t.user_attrs.get(REPEATS) is None for t in search.trials) == begun


def test_what_was_stopped_by_misleading_scores_is_no_longer_after_some_trials():
    """Scores cross: the first rung rises, and the best of all is found among those that are trained longer."""
    search = Search(crossing, Ledger(30, horizon=STEPS)).run()
    firsts = [d.allowed.until for d in search.decisions if d.number is None and not d.allowed.unpruned][1:]
    assert firsts[0] == 1
    assert firsts[-1] is None or firsts[-1] > 1
    assert max(trial.values[0] for trial in search.complete) > 0.9


# Paused trials are bounded.


@pytest.mark.parametrize("paused", [1, 3, 8])
def test_no_more_are_paused_than_are_kept_and_the_worst_go_first(paused):
    search = Search(honest, Ledger(10, horizon=STEPS), pruner(paused=paused)).run()
    assert search.most_paused <= paused
    assert search.steps == 10 * STEPS
    released = [number for decision in search.decisions for number in decision.release]
    assert released
    assert len(released) == len(set(released))
    for decision in search.decisions:
        for number in decision.release:  # at that moment those that were kept were ahead
            assert search.trials[number].state == TrialState.PRUNED


def test_of_those_that_are_paused_the_least_promising_is_given_up():
    curves = [rising(0.1), [0.5], [0.3], [0.4], [0.2]]
    trials = trials_of(*curves)
    [*_, begun] = decided(trials, pruner(paused=4))
    assert begun == Decision(None, Allowed(1))  # one goes on, and leaves its place
    crowd = trials_of(*curves, [0.1], [0.05])
    [*_, begun] = decided(crowd, pruner(paused=4))
    assert begun == Decision(None, Allowed(1), release=(5, 6)) or set(begun.release) == {5, 6}


def test_nothing_is_given_up_while_there_is_room():
    search = Search(honest, Ledger(6, horizon=STEPS)).run()
    assert not any(decision.release for decision in search.decisions)


# Without a budget, or with more than one end.


@pytest.mark.parametrize("n_trials", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("curve", [honest, crossing])
@pytest.mark.parametrize("baseline", [True, False])
def test_a_number_of_trials_ends_with_some_that_are_complete(n_trials, curve, baseline):
    search = Search(curve, Ledger(n_trials=n_trials, horizon=STEPS), pruner(baseline=baseline)).run()
    assert len(search.trials) == n_trials
    assert len(search.complete) >= min(n_trials, max(LEAST_COMPLETE, math.ceil(n_trials / 10)))
    assert search.steps < n_trials * STEPS or n_trials <= LEAST_COMPLETE


@pytest.mark.parametrize(("budget", "n_trials"), [(5, 1000), (40, 12), (4, 4)])
def test_whichever_comes_first_of_a_budget_and_a_number_ends_the_search(budget, n_trials):
    search = Search(noisy, Ledger(budget, n_trials, horizon=STEPS)).run()
    assert len(search.trials) <= n_trials
    assert search.steps == min(budget, n_trials) * STEPS
    assert len(search.complete) >= LEAST_COMPLETE


def test_where_nobody_knows_how_long_a_trial_is_some_are_complete_all_the_same():
    search = Search(honest, Ledger(n_trials=20), pruner(None)).run()
    assert len(search.trials) == 20
    assert len(search.complete) >= LEAST_COMPLETE
    assert search.steps < 20 * STEPS


def test_where_nobody_knows_how_long_a_trial_is_a_budget_is_one_of_trials():
    search = Search(honest, Ledger(8), pruner(None)).run()
    assert len(search.trials) == 8
    assert len(search.complete) >= LEAST_COMPLETE


@pytest.mark.parametrize("budget", [3, 6.5, 12])
def test_trials_of_different_sizes_are_charged_by_their_own(budget):
    """Every third is twice as long, and counts double; every fourth is fitted at once."""

    def size(number: int) -> Size:
        return Size(16, 2.0) if number % 3 == 1 else Size(None) if number % 4 == 2 else Size(STEPS)

    def curve(number: int, x: float) -> list[float]:
        return [x] if size(number).steps is None else [x * step / 16 for step in range(1, size(number).steps + 1)]

    class Fits(Search):
        def _train(self, trial, allowed):
            if size(trial.number).steps is None:
                self.study.tell(self.open.pop(trial.number), trial.params["x"])
            else:
                super()._train(trial, allowed)

    ledger = Ledger(budget, sizes_differ=True)
    search = Fits(curve, ledger, pruner(None), sizes=size).run()
    spent = ledger.spent(search.trials)
    assert spent == sum(Size.of(t, None).cost(t.last_step or 0) for t in search.trials)
    assert budget - 1 - 1e-9 <= spent <= budget + 1e-9
    assert search.complete


def test_where_the_time_is_nearly_up_the_leaders_are_finished_and_nobody_begins():
    search = Search(honest, Ledger(20, horizon=STEPS)).run(60)
    begun, complete = len(search.trials), len(search.complete)
    paused = [trial for trial in search.trials if Allowed.of(trial).paused]
    best = max(paused, key=lambda trial: (trial.last_step > 1, trial.params["x"]))
    search.ledger = replace(search.ledger, hurry=True)
    search.run(61)
    last = search.decisions[-1]
    assert (last.number, last.allowed.until) == (best.number, None)
    search.run(64)
    assert len(search.trials) == begun
    assert len(search.complete) == complete + 4


# The winner is measured again.


def close(number: int, x: float) -> list[float]:
    """Trials that differ by less than they shake."""
    rng = np.random.default_rng(number)
    return [0.9 + 0.001 * x + 0.01 * rng.standard_normal() for _ in range(STEPS)]


def test_the_two_best_are_trained_once_more_where_they_cannot_be_told_apart():
    search = Search(close, Ledger(20, horizon=STEPS)).run()
    repeated = {trial.user_attrs[REPEATS]: trial for trial in search.trials if REPEATS in trial.user_attrs}
    own = [trial for trial in search.complete if REPEATS not in trial.user_attrs]
    best = sorted(own, key=lambda trial: -np.mean(list(trial.intermediate_values.values())[STEPS // 2 :]))[:2]
    assert set(repeated) == {trial.number for trial in best}
    for number, again in repeated.items():
        assert again.params == search.trials[number].params
        assert again.state == TrialState.COMPLETE
    assert search.steps == 20 * STEPS


def test_a_winner_that_is_ahead_by_far_is_not_measured_again_and_the_budget_is_met():
    search = Search(honest, Ledger(20, horizon=STEPS), seed=3)
    search.run()
    repeated = [trial for trial in search.trials if REPEATS in trial.user_attrs]
    values = sorted((t.values[0] for t in search.complete if REPEATS not in t.user_attrs), reverse=True)
    assert search.steps == 20 * STEPS
    assert len(repeated) in (0, 2)
    assert values[0] > values[1]


def test_the_trainings_that_measure_again_are_kept_while_another_trial_may_come_close_to_the_leader():
    flat = [[0.9 - 0.02 * number] * STEPS for number in range(17)]
    ledger, everyone = Ledger(20, horizon=STEPS), range(18)
    running = trials_of(*flat, [], complete=everyone[:-1], allowed={17: Allowed()})
    assert ledger.left(running) == 2
    assert pruner().decide(running, ledger) is None
    ended = trials_of(*flat, [0.1] * STEPS, complete=everyone)
    assert ledger.left(ended) == 2
    assert pruner().decide(ended, ledger).repeats is None  # the leader is ahead by far: they go to others
    close = trials_of(*flat, [0.9] * STEPS, complete=everyone)
    assert pruner().decide(close, ledger).repeats == 0


@pytest.mark.parametrize("budget", [5, 10])
def test_a_small_budget_has_nothing_to_spare_for_it(budget):
    search = Search(close, Ledger(budget, horizon=STEPS)).run()
    assert not any(REPEATS in trial.user_attrs for trial in search.trials)


# As Optuna's own pruners are asked, where nothing is paused.


def study_of(pruner: AutoPruner, direction: str = "minimize") -> optuna.Study:
    return optuna.create_study(direction=direction, pruner=pruner, sampler=optuna.samplers.RandomSampler(0))


def train(study: optuna.Study, curve: Sequence[float], trial: optuna.Trial | None = None) -> int:
    """The epochs that the trial was given."""
    trial = trial or study.ask({"x": X})
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    for epoch, value in enumerate(curve, 1):
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, sign * max((sign * v for v in curve if math.isfinite(v)), default=-math.inf))
    return len(curve)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_worse_are_stopped_and_the_best_is_not(direction):
    study = study_of(AutoPruner(max_resource=32, pauses=False), direction)
    sign = 1 if direction == "maximize" else -1
    lengths = [train(study, [sign * (e - 10.0 * (n > 0)) for e in range(32)]) for n in range(30)]
    assert lengths[:LEAST_COMPLETE] == [32] * LEAST_COMPLETE
    assert max(lengths[LEAST_COMPLETE:]) <= 8
    assert train(study, [sign * (e + 5.0) for e in range(32)]) == 32


def test_the_last_step_is_not_compared():
    study = study_of(AutoPruner(max_resource=2, pauses=False))
    for _ in range(LEAST_COMPLETE):
        train(study, [1.0, 0.1])
    assert train(study, [0.5, 0.4]) == 2
    assert study.trials[-1].state == TrialState.COMPLETE


def test_values_that_are_not_numbers_lose():
    study = study_of(AutoPruner(pauses=False))
    for number in range(LEAST_COMPLETE):
        train(study, [1.0 + number, 0.9 + number, 0.8 + number])
    assert train(study, [math.nan] * 3) == 1
    assert not AutoPruner().prune(study, study.ask({"x": X})._cached_frozen_trial)


def test_nobody_is_stopped_between_rungs():
    study = study_of(AutoPruner(max_resource=9, pauses=False))
    for _ in range(8):
        train(study, [0.5] * 9)
    stopped = Counter(train(study, [0.4, 0.4, 9.0 + n, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]) for n in range(6))
    assert set(stopped) <= {1, 2, 4, 9}


def test_trials_that_begin_together_do_not_stop_each_other_all():
    study = study_of(AutoPruner(max_resource=16, pauses=False))
    running = {trial.number: trial for trial in (study.ask({"x": X}) for _ in range(8))}
    for epoch in range(1, 17):
        for number, trial in list(running.items()):
            trial.report(1 / epoch + (epoch - number) ** 2, epoch)
            if trial.should_prune():
                study.tell(running.pop(number), state=TrialState.PRUNED)
    assert running


def test_an_application_that_cannot_pause_has_complete_trials_too():
    rng = np.random.default_rng(0)
    study = study_of(AutoPruner(max_resource=30, pauses=False), "maximize")
    lengths = [train(study, [end * (1 - 0.9**e) for e in range(1, 31)]) for end in rng.random(40)]
    assert 4 <= lengths.count(30) < 20


@pytest.mark.parametrize("setting", [{"eta": 0.0}, {"eta": 0.9}, {"paused": 0}])
def test_settings_are_checked(setting):
    [name] = setting
    with pytest.raises(ValueError, match=name):
        AutoPruner(**setting)
