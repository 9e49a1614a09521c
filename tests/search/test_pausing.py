"""Trials that are paused and taken up again: the budget to the step, the same bits, whoever dies and whenever."""

import json
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hypermap.core.errors import Paused, Pruned
from hypermap.search import study as module
from hypermap.search.schedule import REPEATS, SCHEDULE, Allowed, Size, ToTheEnd
from hypermap.search.space import Parameter, Space
from hypermap.search.storage import Journal
from hypermap.search.strategy import Samplers, make_pruner, make_scheduler
from hypermap.search.study import (
    RESULT,
    StudyConfig,
    TrialQueue,
    best,
    connect,
    measurements,
    open_study,
    outcome,
    used_up,
)
from hypermap.search.trial import STATE, RunningTrial, report_all
from hypermap.search.worker import work
from support.studies import planned

fork = multiprocessing.get_context("fork")
SPACE = Space(
    (
        Parameter("rate", "rate", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
        Parameter("start", "start", "interval(1.0,2.0)", FloatDistribution(1.0, 2.0)),
    )
)
STEPS = 8
AUTO = {"_target_": "hypermap.search.auto.Auto"}
RANDOM = {"_target_": "hypermap.search.counter_samplers.Random"}
PRUNER = {"_target_": "hypermap.search.auto_pruner.AutoPruner"}


def make_plan(folder: Path, **changes) -> StudyConfig:
    usual = {"space": SPACE, "sampler": AUTO, "pruner": PRUNER, "n_trials": None, "budget": 5.0}
    usual |= {"horizon": STEPS, "pauses": True, "baseline": {"rate": 0.5, "start": 1.5}}
    made = planned(folder, **usual | changes)
    open_study(made, {"identity": {}}, force=False)
    return made


@pytest.fixture
def plan(tmp_path) -> StudyConfig:
    return make_plan(tmp_path)


def trials(plan):
    return connect(plan).trials


def steps(plan) -> int:
    return sum(trial.last_step or 0 for trial in trials(plan))


def states(plan) -> list[Path]:
    return sorted(plan.folder.glob(f"*/{STATE}"))


def told(plan):
    """All that must be as if nothing had happened."""
    return [
        (
            trial.params,
            trial.intermediate_values,
            trial.state,
            trial.values,
            outcome(trial),
            trial.user_attrs.get(REPEATS),
        )
        for trial in trials(plan)
    ]


class Descent:
    """Noisy gradient descent on w²/2 whose state is on the disk after each step, as a training's is.

    Args:
        at: called after each step, with the trial and the step, before it is reported.
    """

    def __init__(self, at=lambda trial, step: None, steps: int = STEPS):
        self.at, self.steps = at, steps
        self.trained: list[tuple[int, int]] = []

    def __call__(self, trial: RunningTrial, values) -> float:
        path = trial.folder / STATE / "state.json"
        curve = json.loads(path.read_text()) if path.exists() else []
        if curve:  # it may have been left before it was told
            trial.report(len(curve), min(curve))
        while len(curve) < self.steps:
            curve = self.step(trial, values, curve)
            self.at(trial, len(curve))
            trial.report(len(curve), min(curve))
        return min(curve)

    def step(self, trial: RunningTrial, values, curve: list[float]) -> list[float]:
        path = trial.folder / STATE / "state.json"
        noise = np.random.default_rng([trial.seed, len(curve)]).standard_normal()
        weight = curve[-1] if curve else values["start"]
        curve = [*curve, weight - values["rate"] * weight / 4 + 0.02 * noise]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(curve))
        path.with_suffix(".new").rename(path)
        self.trained.append((trial.number, len(curve)))
        return curve

    def together(self, pairs, end) -> None:
        """Several in lockstep; each is told as soon as it ends or is paused."""
        running = {trial.number: (trial, values) for trial, values in pairs}
        curves = {}
        for number, (trial, _) in running.items():
            path = trial.folder / STATE / "state.json"
            curves[number] = json.loads(path.read_text()) if path.exists() else []
        again = {trial: (len(curves[n]), min(curves[n])) for n, (trial, _) in running.items() if curves[n]}
        for trial, error in report_all(again).items():
            del running[trial.number]
            end(trial, error)
        while running:
            for number, (trial, _) in list(running.items()):
                if len(curves[number]) == self.steps:  # it may have been, when it was killed
                    end(trial, min(curves[number]))
                    del running[number]
            for number, (trial, values) in running.items():
                curves[number] = self.step(trial, values, curves[number])
            reports = {trial: (len(curves[number]), min(curves[number])) for number, (trial, _) in running.items()}
            for trial, error in report_all(reports).items():
                del running[trial.number]
                end(trial, error)


def uninterrupted(trial_seed: int, values, steps: int) -> list[float]:
    weight, curve = values["start"], []
    for step in range(steps):
        noise = np.random.default_rng([trial_seed, step]).standard_normal()
        weight = weight - values["rate"] * weight / 4 + 0.02 * noise
        curve.append(weight)
    return np.minimum.accumulate(curve).tolist()


def whole(plan, budget: float) -> None:
    """All that holds of a search that has come to its budget."""
    assert steps(plan) == int(budget * plan.horizon + 1e-9)
    assert {trial.state for trial in trials(plan)} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert {outcome(trial) for trial in trials(plan)} <= {"complete", "pruned"}
    assert states(plan) == []
    assert used_up(plan, trials(plan))
    for trial in trials(plan):
        curve = uninterrupted(plan.seed_of(trial.number), trial.params, plan.horizon)
        assert list(trial.intermediate_values) == list(range(1, (trial.last_step or 0) + 1))
        assert list(trial.intermediate_values.values()) == curve[: trial.last_step or 0]
        if trial.state == TrialState.COMPLETE:
            assert trial.value == curve[-1]


def finish(plan) -> None:
    """What the command does once its workers have ended."""
    TrialQueue(plan, connect(plan), Samplers(plan), ToTheEnd()).settle()


# The budget, to the step.


@pytest.mark.parametrize("budget", [0.5, 1.0, 3.0, 7.3])
def test_one_worker_meets_the_budget_and_trains_no_step_twice(plan, budget):
    plan, descent = replace(plan, budget=budget), Descent()
    work(plan, descent)
    finish(plan)
    whole(plan, budget)
    assert max(Counter(descent.trained).values()) == 1
    complete = [trial for trial in trials(plan) if trial.state == TrialState.COMPLETE]
    assert len(complete) >= min(int(budget), 3)
    assert trials(plan)[0].params == plan.baseline
    if budget > 3:
        taken_up = [t for t in complete if t.number and Allowed.of(t).until is None and not Allowed.of(t).unpruned]
        assert taken_up


@pytest.mark.parametrize("make", [fork.Process, threading.Thread])
@pytest.mark.parametrize("sampler", [AUTO, RANDOM], ids=["auto", "random"])
def test_two_workers_meet_the_budget(plan, make, sampler, monkeypatch):
    monkeypatch.setattr(module, "LOCK_S", 1e4)  # nobody waits in vain for a trial that another lets go of
    plan = replace(plan, sampler=sampler)
    workers = [make(target=work, args=(plan, Descent())) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    finish(plan)
    whole(plan, 5.0)
    points = [tuple(trial.params.values()) for trial in trials(plan)]
    assert len(set(points)) == len(points)
    assert sum(trial.state == TrialState.COMPLETE for trial in trials(plan)) >= 3


@pytest.mark.parametrize("stack", [2, 4])
def test_a_stack_meets_the_budget(plan, stack):
    plan, descent = replace(plan, stack=stack), Descent()
    work(plan, descent, together=descent.together)
    finish(plan)
    whole(plan, 5.0)
    assert max(Counter(descent.trained).values()) == 1
    assert {trial.user_attrs[RESULT].get("stacked", 1) for trial in trials(plan)} >= {stack}
    assert sum(trial.state == TrialState.COMPLETE for trial in trials(plan)) >= 3


def test_a_number_of_trials_without_a_budget(plan):
    plan = replace(plan, budget=None, n_trials=20)
    work(plan, Descent())
    finish(plan)
    assert len(trials(plan)) == 20
    assert sum(trial.state == TrialState.COMPLETE for trial in trials(plan)) >= 3
    assert steps(plan) < 10 * STEPS
    assert states(plan) == []


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(plan):
    work(replace(plan, budget=2.0), Descent())
    finish(plan)
    before = told(plan)
    work(plan, Descent())
    finish(plan)
    assert told(plan)[: len(before)] == before  # what was given up is not taken up again
    whole(plan, 5.0)


def test_another_sampler_and_a_pruner_of_optunas_meet_a_budget_too(plan):
    median = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
    plan = replace(plan, pruner=median, sampler={"_target_": "optuna.samplers.TPESampler"})
    work(plan, Descent())
    finish(plan)
    assert steps(plan) == 5 * STEPS
    assert "pruned" in {outcome(trial) for trial in trials(plan)}
    assert states(plan) == []


def test_trials_of_different_sizes_are_charged_by_their_own(plan):
    """Those with a start above 1.5 count double."""
    plan = replace(plan, sizes_differ=True)

    def size(values) -> Size:
        return Size(STEPS, 2.0 if values["start"] > 1.5 else 1.0)

    work(plan, Descent(), size=size)
    finish(plan)
    spent = plan.ledger().spent(trials(plan))
    assert spent == pytest.approx(sum(size(t.params).cost(t.last_step) for t in trials(plan)))
    assert 4.0 < spent <= 5.0


def test_several_objectives_meet_a_budget_of_whole_trainings(tmp_path):
    none = {"_target_": "optuna.pruners.NopPruner"}
    plan = make_plan(tmp_path, directions=("minimize", "maximize"), pruner=none, budget=6.0)

    def task(trial, values):
        for step in range(1, STEPS + 1):
            trial.report(step, 0.5)
        return values["rate"], values["start"]

    work(plan, task)
    assert len(trials(plan)) == 6
    assert used_up(plan, trials(plan))


def test_when_the_time_is_nearly_up_the_leaders_are_finished(plan, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    plan = replace(plan, budget=100.0, began=0.0, deadline=60.0)

    moments = {}

    def tick(trial, step):
        clock[0] += 1.0
        moments.setdefault(trial.number, []).append(clock[0])

    work(plan, Descent(tick))
    assert clock[0] <= 60 + STEPS  # what runs when the time is up is trained as far as it may
    assert max(first for first, *_ in moments.values()) <= 0.8 * 60 + 1, "nobody begins after that"
    late = [trial for trial in trials(plan) if moments[trial.number][-1] > 0.8 * 60 + 1]
    assert late
    assert {outcome(trial) for trial in late[:-1]} <= {"complete"}
    finish(plan)
    assert states(plan) == []


def test_where_nobody_says_how_many_steps_a_trial_has_a_budget_is_one_of_trials(plan):
    plan = replace(plan, pauses=False, horizon=None)
    work(plan, Descent())
    assert len(trials(plan)) == 5
    assert [outcome(trial) for trial in trials(plan)][:3] == ["complete"] * 3


def test_an_application_that_cannot_pause_has_its_trials_stopped(plan):
    plan, descent = replace(plan, pauses=False, budget=10.0), Descent()
    work(plan, descent)
    assert {outcome(trial) for trial in trials(plan)} == {"complete", "pruned"}
    assert steps(plan) == 10 * STEPS
    assert [outcome(trial) for trial in trials(plan)][:3] == ["complete"] * 3
    assert states(plan) == []
    assert not any(Allowed.of(trial).paused for trial in trials(plan))


# Whoever dies, and whenever.


def killed_at(plan, writes: int, stack: int = 1) -> bool:
    """Work in a process that dies as it is about to write to the journal so many times; whether it did."""

    def run() -> None:
        count, append = [0], Journal.append_logs

        def counted(self, logs):
            count[0] += 1
            if count[0] > writes:
                os.kill(os.getpid(), signal.SIGKILL)
            append(self, logs)

        Journal.append_logs = counted
        descent = Descent()
        work(plan, descent, together=descent.together if stack > 1 else None)

    process = fork.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_a_search_killed_at_any_moment_ends_as_one_that_was_not(plan, tmp_path):
    (tmp_path / "beside").mkdir()
    beside = make_plan(tmp_path / "beside", budget=3.4)
    plan = replace(plan, budget=3.4)
    work(beside, Descent())
    finish(beside)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    kills = 0
    while killed_at(plan, moments.randrange(1, 20)):
        kills += 1
    finish(plan)
    assert kills > 1, seed
    assert told(plan) == told(beside), seed
    whole(plan, 3.4)


def test_two_workers_that_are_killed_leave_no_step_too_many(plan):
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for _ in range(3):
        processes = [fork.Process(target=killed_at, args=(plan, moments.randrange(5, 60))) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
    work(plan, Descent())
    finish(plan)
    whole(plan, 5.0)


def test_a_stack_that_is_killed_meets_the_budget(plan):
    moments = random.Random(random.randrange(10**6))
    plan = replace(plan, stack=3)
    for _ in range(4):
        killed_at(plan, moments.randrange(1, 40), stack=3)
    descent = Descent()
    work(plan, descent, together=descent.together)
    finish(plan)
    whole(plan, 5.0)


def test_a_trial_that_died_before_it_was_decided_upon_is_decided_upon(plan):
    """Its report was told, and its process died before anybody asked what it may do."""

    class Died(BaseException):
        pass

    def die(numbers):
        raise Died

    def task(trial, values):
        if trial.number == 2:
            trial.go_on = die
        return Descent()(trial, values)

    with pytest.raises(Died):
        work(plan, task)
    left = trials(plan)[2]
    assert (outcome(left), left.last_step) == ("running", 1)
    work(plan, Descent())
    finish(plan)
    whole(plan, 5.0)


def test_the_first_interrupt_leaves_paused_trials_to_be_taken_up(plan, tmp_path):
    (tmp_path / "beside").mkdir()
    beside, stop = make_plan(tmp_path / "beside"), tmp_path / "stop"
    work(beside, Descent())
    finish(beside)
    work(plan, Descent(lambda trial, step: stop.touch() if trial.number == 6 else None), stop_file=stop)
    left = Counter(outcome(trial) for trial in trials(plan))
    assert left["running"] == 1
    assert left["paused"] > 3
    assert len(states(plan)) == left["paused"] + left["running"]
    stop.unlink()
    work(plan, Descent(), stop_file=stop)
    finish(plan)
    assert told(plan) == told(beside)


def test_what_is_left_of_a_trial_after_its_end_goes_with_its_stack(plan):
    """Of several fits some may still be in training when the first has ended the trial."""
    plan = replace(plan, n_trials=2, budget=None, stack=2, pauses=False)

    def together(pairs, end):
        for trial, _ in pairs:
            (trial.folder / STATE).mkdir(parents=True)
            end(trial, 0.5)
            assert not (trial.folder / STATE).exists()
            (trial.folder / STATE / "fit-3").mkdir(parents=True)

    work(plan, Descent(), together=together)
    assert states(plan) == []


# Who has a paused trial.


def paused(plan) -> list[int]:
    return [trial.number for trial in trials(plan) if outcome(trial) == "paused"]


@pytest.fixture
def some_paused(plan) -> StudyConfig:
    """A search that was left with some paused trials."""
    work(replace(plan, budget=4.0), Descent())
    assert len(paused(plan)) > 2
    return plan


def claims(plan: StudyConfig) -> TrialQueue:
    return TrialQueue(plan, connect(plan), Samplers(plan), make_scheduler(plan, make_pruner(plan)))


def test_a_paused_trial_that_somebody_does_not_let_go_of_is_passed_over_and_charged(some_paused, monkeypatch):
    """Another is taken in its place, and the budget is met all the same."""
    monkeypatch.setattr(module, "LOCK_S", 0.01)
    plan, held = some_paused, paused(some_paused)
    locks = [claims(plan)._lock(number) for number in held]
    work(plan, Descent())
    assert steps(plan) == 5 * STEPS
    assert all(trials(plan)[number].last_step == 1 or outcome(trials(plan)[number]) == "paused" for number in held)
    finish(plan)  # these are left as they are
    assert set(held) <= {trial.number for trial in trials(plan) if trial.state == TrialState.RUNNING}
    for lock in locks:
        lock.release()
    finish(plan)
    whole(plan, 5.0)


def test_whoever_lets_go_of_a_paused_trial_can_write_while_another_waits_for_it(tmp_path, monkeypatch):
    """Trials are drawn in one write where the sampler does not learn; that must not begin before the waiting ends."""
    plan = make_plan(tmp_path, sampler=RANDOM)
    work(replace(plan, budget=4.0), Descent())
    monkeypatch.setattr(module, "LOCK_S", 1e4)
    resumed, waited_for, held = TrialQueue._resumed, threading.Event(), threading.Event()
    monkeypatch.setattr(TrialQueue, "_resumed", lambda *given: waited_for.set() or resumed(*given))

    def let_go() -> None:
        mine = claims(plan)
        locks = [mine._lock(number) for number in paused(plan)]
        held.set()
        waited_for.wait(60)
        mine.study.set_user_attr("note", 1)
        for lock in locks:
            lock.release()

    threads = [threading.Thread(target=let_go, daemon=True)]
    threads[0].start()
    held.wait(60)
    threads.append(threading.Thread(target=work, args=(plan, Descent()), daemon=True))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    finish(plan)
    whole(plan, 5.0)


def test_a_trial_that_was_told_while_it_was_waited_for_is_not_taken_up(some_paused):
    mine = claims(some_paused)
    number = paused(some_paused)[0]
    stale = trials(some_paused)[number]
    mine.study.tell(number, state=TrialState.FAIL)  # as by a dashboard
    assert mine._resumed(stale, Allowed(4)) is None
    lock = mine._lock(number)
    assert lock is not None, "its lock was not given back"


def test_paused_trials_are_given_up_once_nobody_may_take_them_up(some_paused):
    study, running = connect(some_paused), claims(some_paused)
    with running.deciding() as seen:
        claim = running._new(seen, ToTheEnd().decide(seen, some_paused.ledger()))
    finish(some_paused)
    assert paused(some_paused), "another worker may take them up"
    study.tell(claim.trial.number, 0.5)
    claim.lock.release()
    before = {trial.number: trial.user_attrs[RESULT] for trial in trials(some_paused)[:-1]}
    finish(some_paused)
    assert not paused(some_paused)
    for number, trial in enumerate(trials(some_paused)[:-1]):
        if trial.state == TrialState.PRUNED:
            assert trial.user_attrs[RESULT] == before[number] | {"outcome": "pruned"}
            assert trial.value == trial.intermediate_values[trial.last_step]  # as Optuna tells what it had reached


def test_no_more_states_are_kept_than_were_asked_for(plan):
    plan, most = replace(plan, pruner={**PRUNER, "paused": 4}), []
    work(plan, Descent(lambda trial, step: most.append(len(states(plan)))))
    assert max(most) == 4
    finish(plan)
    whole(plan, 5.0)


def test_who_goes_on_at_once_is_not_paused(plan):
    """A step that is as far as a trial may train is decided upon while it trains."""
    seen = []

    def task(trial, values):
        began = trial.until
        try:
            return Descent()(trial, values)
        finally:
            seen.append((began, trial.until))

    work(plan, task)
    assert (None, None) in seen  # the baseline
    assert any(began == 1 and until == 2 for began, until in seen)


def test_a_report_is_paused_by_name_and_pruned_where_nothing_can_be_paused(plan):
    study = connect(plan)
    for pauses, kind in ((True, Paused), (False, Pruned)):
        trial = RunningTrial(study.ask(), 0, seed=0, folder=plan.folder, until=2, pauses=pauses, go_on=lambda _: {})
        trial.report(1, 0.5)
        with pytest.raises(kind, match="at step 2"):
            trial.report(2, 0.4)


def test_nobody_is_asked_before_a_trial_has_come_as_far_as_it_may(plan):
    asked = []

    def go_on(numbers):
        asked.append(sorted(numbers))
        return dict.fromkeys(numbers, 4)

    trial = RunningTrial(connect(plan).ask(), 0, seed=0, folder=plan.folder, until=2, horizon=5, go_on=go_on)
    for step in range(1, 6):
        trial.report(step, 0.5)
    assert asked == [[0], [0]]  # at 2 and at 4; 5 is the end


# The winner is measured again.


@pytest.fixture
def large(tmp_path) -> StudyConfig:
    """A budget that has something to spare for it, of trainings of two steps."""
    return make_plan(tmp_path, budget=20.0, horizon=2, sampler=RANDOM)


def test_the_two_best_are_measured_again_with_seeds_of_their_own(large):
    work(large, Descent(steps=2))
    finish(large)
    whole(large, 20.0)
    again = {trial.user_attrs[REPEATS]: trial for trial in trials(large) if REPEATS in trial.user_attrs}
    assert len(again) == 2
    for number, trial in again.items():
        assert trial.params == trials(large)[number].params
        assert trial.values != trials(large)[number].values
    measured = {number: own for number, own in measurements(trials(large)).items() if len(own) == 2}
    means = {number: np.mean([trial.values for trial in own]) for number, own in measured.items()}  # of 2 steps
    assert set(means) == set(again)
    assert best(trials(large), maximizes=False).number == min(means, key=means.get)


def test_a_repetition_that_was_killed_is_taken_up_and_none_begins_twice(large, tmp_path):
    (tmp_path / "beside").mkdir()
    beside = make_plan(tmp_path / "beside", budget=20.0, horizon=2, sampler=RANDOM)
    work(beside, Descent(steps=2))
    finish(beside)
    last = next(trial.number for trial in trials(beside) if REPEATS in trial.user_attrs)

    class Died(BaseException):
        pass

    def die(trial, step):
        if trial.number == last and step == 2:
            raise Died

    with pytest.raises(Died):
        work(large, Descent(die, steps=2))
    assert trials(large)[last].state == TrialState.RUNNING
    work(large, Descent(steps=2))
    finish(large)
    assert told(large) == told(beside)
    assert not any(trial.state == TrialState.WAITING for trial in trials(large))


# What the study keeps.


def test_what_a_trial_may_do_stands_in_the_study(plan):
    work(plan, Descent())
    kept = [trial.user_attrs.get(SCHEDULE) for trial in trials(plan)]
    assert kept[0] is None  # to its end
    assert {"until": 1, "paused": True, "unpruned": False} in kept
    assert all(trial.user_attrs[RESULT]["outcome"] == outcome(trial) for trial in trials(plan))


def test_seconds_add_up_over_pauses(plan, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("hypermap.search.worker.time.perf_counter", lambda: clock[0])

    def tick(trial, step):
        clock[0] += 1.0

    work(plan, Descent(tick))
    for trial in trials(plan):
        assert trial.user_attrs[RESULT]["seconds"] == trial.last_step
