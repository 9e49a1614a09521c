"""Trials that run together: each is told its own result, claimed once, taken up again, and pruned as if alone."""

import math
import multiprocessing
import os
import re
import signal
import subprocess
import threading
from dataclasses import replace

import optuna
import pytest
import yaml
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hypermap.core.errors import Diverged, Interrupted, OutOfMemory, Pruned, UserError
from hypermap.core.paths import SOURCES
from hypermap.search import worker as module
from hypermap.search.application import SweepTarget
from hypermap.search.space import Parameter, Space
from hypermap.search.storage import open_storage
from hypermap.search.strategy import make_pruner, make_sampler
from hypermap.search.study import RESULT, StudyConfig, TrialQueue, connect, open_study, outcome
from hypermap.search.trial import RunningTrial, current, report_all
from hypermap.search.worker import work
from hypermap.sweeps.plan import OF_A_RUN, Planner
from support.studies import planned

fork = multiprocessing.get_context("fork")
SPACE = Space(
    (
        Parameter("rate", "rate", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
        Parameter("start", "start", "interval(1.0,2.0)", FloatDistribution(1.0, 2.0)),
    )
)
STEPS = 4
PLACES = ["journal.log", "sqlite:///{}/study.db"]


def make_plan(folder, place="journal.log", **changes) -> StudyConfig:
    storage = place.format(folder) if "://" in place else str(folder / place)
    made = planned(folder, **{"storage": storage, "space": SPACE, "n_trials": 10, "stack": 3} | changes)
    open_study(made, {"identity": {}}, force=False)
    return made


@pytest.fixture(params=PLACES, ids=["journal", "sqlite"])
def plan(request, tmp_path) -> StudyConfig:
    """Ten trials, three at a time."""
    return make_plan(tmp_path, request.param)


def trials(plan):
    return connect(plan).trials


def values_of(plan):
    return [tuple(trial.params.values()) for trial in trials(plan)]


def result(plan, number):
    return trials(plan)[number].user_attrs[RESULT]


def weight(values, steps=STEPS):
    """Where gradient descent on w²/2 is after some steps, by the formula."""
    return values["start"] * (1 - values["rate"]) ** steps


class Descents:
    """Gradient descents on w²/2 in lockstep; each trial reports its weight after every step, and returns the last.

    Args:
        at: called with the step and the trials after they reported it; what it returns by number ends those trials.
    """

    def __init__(self, at=lambda step, trials: {}):
        self.at = at
        self.stacks = []

    def __call__(self, pairs, end):
        self.stacks.append([trial.number for trial, _ in pairs])
        assert current() is None
        running = {trial.number: trial for trial, _ in pairs}
        weights = {trial.number: values["start"] for trial, values in pairs}
        for step in range(1, STEPS + 1):
            for trial, values in pairs:
                weights[trial.number] -= values["rate"] * weights[trial.number]
            ended = report_all({trial: (step, weights[number]) for number, trial in running.items()})
            for trial, error in ended.items():
                end(running.pop(trial.number), error)
            for number, error in self.at(step, running).items():
                end(running.pop(number), error)
        for number, trial in running.items():
            trial.record["seen"] = number
            end(trial, weights[number])


def raising(error):
    def raise_it(*args):
        raise error

    return raise_it


def alone(trial, values):
    """The only trial of a round goes the usual way."""
    weight = values["start"]
    for step in range(1, STEPS + 1):
        weight -= values["rate"] * weight
        trial.report(step, weight)
    return weight


# What each trial gets.


def test_each_trial_is_told_its_own_result_and_the_budget_is_met(plan):
    descents, told = Descents(), []
    work(plan, alone, together=descents, before_tell=lambda trial: told.append(trial.number))
    assert descents.stacks == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]  # and the last by itself
    assert told == list(range(10))
    assert [trial.number for trial in trials(plan)] == told
    for trial in trials(plan):
        assert outcome(trial) == "complete"
        assert trial.value == pytest.approx(weight(trial.params))
        reported = {step: pytest.approx(weight(trial.params, step)) for step in range(1, STEPS + 1)}
        assert trial.intermediate_values == reported
        kept = trial.user_attrs[RESULT]
        assert kept["seed"] == plan.seed_of(trial.number)
        if trial.number < 9:
            assert (kept["stacked"], kept["seen"]) == (3, trial.number)
        else:
            assert "stacked" not in kept
    work(plan, raising(AssertionError), together=raising(AssertionError))


@pytest.mark.parametrize("sampler", ["optuna.samplers.RandomSampler", "hypermap.search.counter_samplers.QuasiRandom"])
def test_a_sampler_that_does_not_learn_draws_what_it_would_one_by_one(tmp_path, sampler):
    plan = make_plan(tmp_path, sampler={"_target_": sampler})
    one_by_one = make_plan(tmp_path, "beside.log", sampler={"_target_": sampler}, stack=1)
    work(plan, alone, together=Descents())
    work(one_by_one, alone, together=raising(AssertionError("one at a time")))
    assert values_of(plan) == values_of(one_by_one)


@pytest.mark.parametrize("target", ["optuna.samplers.TPESampler", "hypermap.search.auto.Auto"])
def test_a_sampler_that_learns_sees_the_trials_before_it_as_running(tmp_path, target):
    sampler = {"_target_": target}
    if target.endswith("TPESampler"):
        sampler |= {"constant_liar": True, "multivariate": True, "n_startup_trials": 5}
    plan = make_plan(tmp_path, sampler=sampler, n_trials=12, stack=12)
    work(plan, alone, together=Descents())
    plan = replace(plan, n_trials=18, stack=6)

    same = optuna.create_study(study_name="same")  # what Optuna's own ask gives, one after the other and none told
    for number in range(18):
        same.sampler = make_sampler(plan, number)
        same.add_trial(trials(plan)[number]) if number < 12 else SPACE.suggest(same.ask())
    work(plan, alone, together=Descents())
    assert values_of(plan) == [tuple(trial.params.values()) for trial in same.trials]
    assert len(set(values_of(plan))) == 18


def test_more_may_be_drawn_by_optunas_own_means(plan):
    seen = {}

    def together(pairs, end):
        for trial, values in pairs:
            seen[trial.number] = values["z"]
            end(trial, 0.5)

    work(plan, lambda *_: 0.5, together=together, extend=lambda trial: {"z": trial.suggest_float("z", 2, 3)})
    assert all(trial.params["z"] == seen[trial.number] for trial in trials(plan)[:9])


def test_time_is_shared_by_those_that_have_not_ended(tmp_path, monkeypatch):
    plan, clock = make_plan(tmp_path, n_trials=3), [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def together(pairs, end):
        for (trial, _), now in zip(pairs, (3.0, 7.0, 12.0), strict=True):
            clock[0] = now
            end(trial, 0.5)

    work(plan, alone, together=together)
    assert [result(plan, number)["seconds"] for number in range(3)] == [1.0, 3.0, 8.0]  # 3 / 3, + 4 / 2, + 5


# Ends of all kinds.


def test_one_trials_end_is_no_others(plan):
    ends = {1: Diverged("the loss is nan"), 3: OutOfMemory("too wide"), 4: ZeroDivisionError("by zero"), 8: Pruned()}
    told = []
    descents = Descents(lambda step, running: {n: e for n, e in ends.items() if step == 2 and n in running})
    work(plan, alone, together=descents, before_tell=lambda trial: told.append(trial.number))
    how = {1: "diverged", 3: "out_of_memory", 4: "failed", 8: "pruned"}
    assert [outcome(trial) for trial in trials(plan)] == [how.get(number, "complete") for number in range(10)]
    assert told == [number for number in range(10) if number not in how]
    assert trials(plan)[1].value == math.inf
    assert result(plan, 4)["error"] == "ZeroDivisionError: by zero"
    assert "by zero" in (plan.folder_of(4) / "error.txt").read_text()
    assert descents.stacks == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_an_error_of_all_is_each_ones_that_has_not_ended(plan):
    def together(pairs, end):
        end(pairs[0][0], 0.5)
        raise RuntimeError("no such kernel")

    work(replace(plan, n_trials=3), alone, together=together)
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "failed", "failed"]
    assert {result(plan, number)["error"] for number in (1, 2)} == {"RuntimeError: no such kernel"}
    assert "in together" in (plan.folder_of(2) / "error.txt").read_text()


def test_three_equal_errors_end_the_work_after_the_round(plan):
    work(plan, alone, together=raising(RuntimeError("no such kernel")))
    assert [outcome(trial) for trial in trials(plan)] == ["failed"] * 3


def test_whoever_forgets_a_trial_or_tells_it_twice_is_told(plan):
    def together(pairs, end):
        end(pairs[1][0], 0.5)
        if pairs[0][0].number == 3:
            end(pairs[1][0], 0.6)

    work(replace(plan, n_trials=6, max_failure_rate=1.0), alone, together=together)
    assert [outcome(trial) for trial in trials(plan)] == ["failed", "complete", "failed"] * 2
    assert "never told" in result(plan, 0)["error"]
    assert "trial 4 was told before" in result(plan, 3)["error"]
    assert trials(plan)[4].value == 0.5


def test_what_prevents_the_telling_is_no_trials_error(plan):
    def full(trial):
        if trial.number == 1:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        work(plan, alone, together=Descents(), before_tell=full)
    assert [trial.state.name for trial in trials(plan)] == ["COMPLETE", "RUNNING", "RUNNING"]
    work(plan, alone, together=Descents())
    assert {trial.state for trial in trials(plan)} == {TrialState.COMPLETE}


# Several workers, deaths and stops.


@pytest.mark.parametrize("make", [fork.Process, threading.Thread])
def test_two_workers_share_the_budget(plan, make):
    workers = [make(target=work, args=(plan, alone), kwargs={"together": Descents()}) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 10
    assert len(set(values_of(plan))) == 10
    assert all(trial.value == pytest.approx(weight(trial.params)) for trial in trials(plan))


def die_at(moment):
    def die(step, running):
        if step == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return {0: Pruned("it ended before")} if step == 1 and 0 in running else {}

    return Descents(die)


def test_a_killed_stack_is_taken_up_as_one(plan):
    worker = fork.Process(target=work, args=(plan, alone), kwargs={"together": die_at(2)})
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    assert [trial.state.name for trial in trials(plan)] == ["PRUNED", "RUNNING", "RUNNING"]
    drawn, descents = values_of(plan), Descents()
    work(plan, alone, together=descents)
    assert descents.stacks == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert values_of(plan)[:3] == drawn
    assert [outcome(trial) for trial in trials(plan)] == ["pruned"] + ["complete"] * 9
    assert all(sorted(trial.intermediate_values) == [1, 2, 3, 4] for trial in trials(plan)[1:])


def test_more_than_a_stack_may_be_left_behind(plan):
    for _ in range(2):
        claims = TrialQueue(plan, connect(plan), lambda number: make_sampler(plan, number))
        with claims.deciding():
            claimed = [claims.next(claims.study.get_trials(deepcopy=False)) for _ in range(3)]
        for claim in claimed:
            SPACE.suggest(claim.trial)
        del claims, claimed, claim  # with their locks, as a process's end does
    descents = Descents()
    work(replace(plan, stack=4), alone, together=descents)
    assert descents.stacks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_interrupted_stack_goes_on_with_the_same_command(plan, tmp_path):
    stop = tmp_path / "stop"

    def ask(step, running):
        if step == 2:
            stop.touch()
        return {}

    work(plan, alone, together=Descents(ask), stop_file=stop)
    left = trials(plan)
    assert [trial.state.name for trial in left] == ["RUNNING"] * 3
    assert [trial.last_step for trial in left] == [3, 3, 3]  # told, and then it stops
    assert not any(RESULT in trial.user_attrs for trial in left)
    stop.unlink()
    descents = Descents()
    work(plan, alone, together=descents, stop_file=stop)
    assert descents.stacks[0] == [0, 1, 2]
    assert values_of(plan)[:3] == [tuple(trial.params.values()) for trial in left]
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 10


def test_one_of_a_stack_may_ask_to_stop(plan):
    def together(pairs, end):
        end(pairs[0][0], 0.5)
        end(pairs[1][0], Interrupted())
        raise AssertionError("it went on")

    work(plan, alone, together=together)
    assert [trial.state.name for trial in trials(plan)] == ["COMPLETE", "RUNNING", "RUNNING"]


def test_a_target_is_looked_at_between_rounds(plan):
    work(replace(plan, target=3.0), alone, together=Descents())
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 3


# Reports and pruning.


def quality(number):
    """A trial's known value, at any step."""
    return (number * 37 % 101) / 101


def begin(plan, count, **settings):
    """Trials of a study that run, without a worker."""
    study = connect(plan, make_pruner(plan))
    asked = [study.ask() for _ in range(count)]
    return [
        RunningTrial(trial, trial.number, seed=0, folder=plan.folder_of(trial.number), **settings) for trial in asked
    ]


PRUNERS = [
    {"_target_": "optuna.pruners.NopPruner"},
    {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 0},
    {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2},
    {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": 9},
    {"_target_": "hypermap.search.auto_pruner.AutoPruner", "max_resource": 9},
]


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda pruner: pruner["_target_"].rpartition(".")[2])
@pytest.mark.parametrize("place", PLACES, ids=["journal", "sqlite"])
def test_reports_of_all_are_answered_as_optuna_answers_when_all_are_told(tmp_path, place, pruner):
    plan = make_plan(tmp_path, place, pruner=pruner)
    optunas = optuna.create_study(study_name=plan.name, pruner=make_pruner(plan))
    running, others = begin(plan, 12), [optunas.ask() for _ in range(12)]
    for trial in (running.pop(0).trial, others[0]):  # which some pruners wait for
        for step in range(1, 10):
            trial.report(0.6, step)
        trial.study.tell(trial, 0.6)
    for step in range(1, 10):
        answers = report_all({trial: (step, quality(trial.number) + 1 / step) for trial in running})
        for trial in running:
            others[trial.number].report(quality(trial.number) + 1 / step, step)
        expected = [trial.number for trial in running if others[trial.number].should_prune()]
        assert [trial.number for trial in answers] == expected
        assert all(str(error) == f"pruned at step {step}" for error in answers.values())
        running = [trial for trial in running if trial not in answers]
    assert ("Nop" in pruner["_target_"]) == (len(running) == 11)
    assert [trial.intermediate_values for trial in trials(plan)] == [
        trial.intermediate_values for trial in optunas.trials
    ]


def test_a_hyperband_bracket_is_pruned_as_one_stack(tmp_path):
    hyperband = {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": 9}
    plan = make_plan(tmp_path, pruner=hyperband, n_trials=27, stack=27, horizon=9)

    def together(pairs, end):
        running = [trial for trial, _ in pairs]
        for step in range(1, 10):
            for pruned, error in report_all({trial: (step, quality(trial.number)) for trial in running}).items():
                end(pruned, error)
                running.remove(pruned)
        for trial in running:
            end(trial, quality(trial.number))

    work(plan, alone, together=together)
    # Asynchronous Hyperband by Optuna alone: workers that happen to report one after the other, step by step.
    pruner = make_pruner(plan)
    study = optuna.create_study(study_name=plan.name, pruner=pruner)
    running = [study.ask() for _ in range(27)]
    for step in range(1, 9):
        for trial in list(running):
            trial.report(quality(trial.number), step)
            if trial.should_prune():
                running.remove(trial)
                study.tell(trial, state=TrialState.PRUNED)
    survivors = [trial.number for trial in trials(plan) if trial.state == TrialState.COMPLETE]
    assert survivors == [trial.number for trial in running]
    assert [trial.last_step for trial in trials(plan) if trial.state == TrialState.PRUNED] == [
        trial.last_step for trial in study.trials if trial.state == TrialState.PRUNED
    ]
    brackets = {number: pruner._get_bracket_id(study, study.trials[number]) for number in range(27)}
    assert set(brackets.values()) == {0, 1, 2}
    for bracket in range(3):  # each keeps its best, and the first two lose most
        members = [number for number in range(27) if brackets[number] == bracket]
        left = [number for number in members if number in survivors]
        assert min(members, key=quality) in left
        assert bracket == 2 or len(left) < len(members)


@pytest.mark.parametrize("place", PLACES, ids=["journal", "sqlite"])
def test_all_are_told_before_one_is_asked_for(tmp_path, place):
    best_of_all = {"_target_": "hypermap.search.auto_pruner.AutoPruner"}
    *_, worse, better = begin(make_plan(tmp_path, place, pruner=best_of_all), 5)  # the first three are never stopped
    assert list(report_all({worse: (1, 1.0), better: (1, 0.5)})) == [worse]


def test_a_step_that_was_told_before_is_not_told_again(plan):
    running = begin(plan, 3)
    report_all(dict.fromkeys(running[:2], (1, 0.1)))
    again = [RunningTrial(one.trial, one.number, seed=0, folder=one.folder) for one in running]
    report_all(dict.fromkeys(again, (1, 0.2)))
    assert [trial.intermediate_values for trial in trials(plan)] == [{1: 0.1}, {1: 0.1}, {1: 0.2}]


def test_a_full_trials_last_report_is_asked_of_nobody(plan):
    plan = replace(plan, pruner={"_target_": "optuna.pruners.ThresholdPruner", "lower": 0.5})
    running = begin(plan, 2, horizon=3)
    assert list(report_all({running[0]: (2, 0.1), running[1]: (2, 0.9)})) == [running[0]]
    assert report_all({running[1]: (3, 0.1)}) == {}
    assert report_all({}) == {}


def test_of_several_objectives_nothing_is_told(tmp_path):
    running = begin(make_plan(tmp_path, directions=("minimize", "maximize")), 2)
    assert report_all(dict.fromkeys(running, (1, 0.5))) == {}
    assert [trial.intermediate_values for trial in running[0].trial.study.trials] == [{}, {}]


def test_whoever_asked_to_stop_has_what_was_told(plan):
    plan = replace(plan, pruner={"_target_": "optuna.pruners.ThresholdPruner", "lower": 0.5})
    running = begin(plan, 2, stopping=lambda: True)
    with pytest.raises(Interrupted):
        report_all(dict.fromkeys(running, (1, 0.1)))
    assert [trial.intermediate_values for trial in trials(plan)] == [{1: 0.1}] * 2
    with pytest.raises(Interrupted):
        running[0].report(2, 0.1)


def test_reports_go_to_the_journal_in_one_write(tmp_path, monkeypatch):
    plan, synced = make_plan(tmp_path), []
    running = begin(plan, 8)
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or fsync(file))
    report_all(dict.fromkeys(running, (1, 0.5)))
    assert len(synced) == 1
    assert [trial.intermediate_values for trial in trials(plan)] == [{1: 0.5}] * 8


# As a command.

TASK = """
import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from hypermap.core.errors import UserError
from hypermap.search.application import SweepTarget
from hypermap.search.trial import current, report_all


class Shapes(SweepTarget):
    stacks = True

    def check(self, configuration):
        if 0.4 < configuration["x"] < 0.6:
            raise UserError("x is in the middle")

    def stack_size(self, configuration):
        return configuration["at_once"]

    def together(self, jobs, end):
        assert Path(HydraConfig.get().runtime.output_dir) == jobs[0].trial.folder.parent
        with open("stacks.txt", "a") as file:
            file.write(" ".join(str(job.trial.number) for job in jobs) + "\\n")
        values = [job.configuration["x"] ** job.configuration["shape"]["power"] for job in jobs]
        report_all({job.trial: (1, value) for job, value in zip(jobs, values)})
        for job, value in zip(jobs, values):
            job.trial.record["shape"] = job.configuration["shape"]["name"]
            assert job.trial.values["x"] == job.configuration["x"]
            end(job, value)


def task(config):
    current().record["alone"] = True
    return config.x ** config.shape.power


task.application = Shapes()
if __name__ == "__main__":
    hydra.main(config_path="conf", config_name="config")(task)()
"""
CONFIG = """
defaults: [{shape: square}, {override hydra/sweeper: hypermap}, _self_]
x: 0.0
at_once: 4
hydra: {sweep: {dir: sweep}, sweeper: {study_name: study, seed: 1}}
"""


@pytest.fixture
def command(tmp_path, forks):
    """Runs the application's sweep with further words; returns what it printed and its trials."""
    (tmp_path / "conf/shape").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text(CONFIG)
    for shape, power in (("square", 2), ("cube", 3)):
        (tmp_path / f"conf/shape/{shape}.yaml").write_text(f"power: {power}\n")
    (tmp_path / "task.py").write_text(TASK)

    def run(*words):
        usual = ("-m", "x=interval(0.0,1.0)", "shape=square,cube", "hydra/sweeper/pruner=none")
        done = subprocess.run(
            ["python", "task.py", *usual, "hydra/sweeper/sampler=random", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"} | forks.light,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        place = tmp_path / "sweep/journal.log"
        return done.stdout, optuna.load_study(study_name="study", storage=open_storage(str(place))).trials

    return run


def test_a_sweep_of_any_application_that_runs_several_at_once(command, tmp_path):
    out, first = command("hydra.sweeper.n_trials=10", "hydra.sweeper.stack=4")
    assert "  stack   up to 4 trials as one" in out.splitlines()
    assert [trial.number for trial in first] == list(range(10))
    middle = [trial.number for trial in first if 0.4 < trial.params["x"] < 0.6]
    assert 0 < len(middle) < 5
    for trial in first:
        kept = trial.user_attrs[RESULT]
        assert kept["stacked"] == (4 if trial.number < 8 else 2)
        if trial.number in middle:
            assert (outcome(trial), kept["error"]) == ("failed", "x is in the middle")
            continue
        assert trial.value == pytest.approx(trial.params["x"] ** {"square": 2, "cube": 3}[trial.params["shape"]])
        assert trial.intermediate_values == {1: trial.value}
        assert kept["shape"] == trial.params["shape"]
        saved = yaml.safe_load((tmp_path / f"sweep/{trial.number}/.hydra/config.yaml").read_text())
        assert saved["x"] == trial.params["x"]
        overrides = yaml.safe_load((tmp_path / f"sweep/{trial.number}/.hydra/overrides.yaml").read_text())
        assert f"shape={trial.params['shape']}" in overrides
    stacks = [[int(word) for word in text.split()] for text in (tmp_path / "stacks.txt").read_text().splitlines()]
    rounds = ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])
    assert stacks == [[number for number in numbers if number not in middle] for numbers in rounds]

    out, further = command("hydra.sweeper.n_trials=20", "hydra.sweeper.stack=auto", "hydra.sweeper.n_jobs=2")
    assert "up to 4 trials as one" in out
    assert [trial.params for trial in further[:10]] == [trial.params for trial in first]
    assert all(trial.state.is_finished() for trial in further)
    assert len(further) == 20
    out, last = command("hydra.sweeper.n_trials=21")  # the same study, whatever the stack
    assert "stack " not in out
    assert "alone" in last[20].user_attrs[RESULT] or outcome(last[20]) == "failed"


class Able(SweepTarget):
    """Takes a hundred at once."""

    stacks = True

    def stack_size(self, configuration):
        return 100


RANDOM, TPE = {"_target_": "hypermap.search.counter_samplers.Random"}, {"_target_": "optuna.samplers.TPESampler"}


@pytest.mark.parametrize(
    ("stack", "n_trials", "n_jobs", "sampler", "size"),
    [
        (1, 64, 1, RANDOM, 1),
        (16, 64, 2, TPE, 16),  # as it is given
        ("auto", 64, 1, RANDOM, 64),
        ("auto", 64, 3, RANDOM, 22),
        ("auto", 640, 1, RANDOM, 100),
        ("auto", 64, 1, TPE, 8),
        ("auto", 10, 1, TPE, 2),
        ("auto", 3, 3, TPE, 1),
    ],
)
def test_how_many_run_at_once(tmp_path, stack, n_trials, n_jobs, sampler, size):
    plan = make_plan(tmp_path, n_trials=n_trials, sampler=sampler)
    planner = Planner({"stack": stack, "n_jobs": n_jobs}, OmegaConf.create())
    assert planner.stack(plan, Able(), {}) == size
    assert planner.stack(plan, SweepTarget(), {}) == 1 if stack in ("auto", 1) else True


@pytest.mark.parametrize("stack", [0, -1, 1.5, True, "all", None])
def test_a_stack_is_a_whole_number_or_automatic(tmp_path, stack):
    with pytest.raises(
        UserError, match=r"hydra\.sweeper\.stack is .*; it must be a whole number of at least 1, or auto"
    ):
        Planner({"stack": stack, "n_jobs": 1}, OmegaConf.create()).stack(make_plan(tmp_path), Able(), {})


def test_an_application_that_runs_one_at_a_time_is_given_no_stack(tmp_path):
    with pytest.raises(UserError, match=r"stack is 4; this application runs one trial at a time.*n_jobs=2"):
        Planner({"stack": 4, "n_jobs": 1}, OmegaConf.create()).stack(make_plan(tmp_path), SweepTarget(), {})
    with pytest.raises(UserError, match="one trial at a time"):
        SweepTarget().together([], raising(AssertionError()))


def test_a_stack_makes_no_other_study():
    assert re.match(OF_A_RUN, "hydra.sweeper.stack=auto")
