"""A worker in this process: what becomes of each kind of trial, and what is left when it stops."""

import errno
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import threading
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from hypermap.core.errors import Diverged, Interrupted, MachineFault, OutOfMemory, Pruned, UserError
from hypermap.core.paths import ROOT
from hypermap.search import attempts
from hypermap.search import study as study_module
from hypermap.search import worker as worker_module
from hypermap.search.attempts import MOST, MOST_WITH_ALL, STACK_DEATHS, Attempt, note_death
from hypermap.search.database import Database
from hypermap.search.space import Condition, Parameter, Space
from hypermap.search.storage import lock_folder
from hypermap.search.study import RESULT, WORKER, StudyConfig, connect, open_study, outcome
from hypermap.search.trial import current
from hypermap.search.worker import work
from support.studies import planned

SPACE = Space(
    (
        Parameter("x", "x", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
        Parameter("y", "deep.y", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
    )
)


@pytest.fixture
def plan(tmp_path) -> StudyConfig:
    """A study of one trial."""
    made = planned(tmp_path, space=SPACE, n_trials=1)
    open_study(made, {"identity": {}}, force=False)
    return made


def trials(plan):
    return connect(plan).trials


def values_of(plan):
    return [tuple(trial.params.values()) for trial in trials(plan)]


def raises(error):
    def task(trial, values):
        raise error

    return task


# What becomes of a trial.


def test_a_trial_that_completes(plan):
    seen = {}

    def task(trial, values):
        assert current() is trial
        seen.update(values)
        trial.report(1, 0.3)
        trial.record["note"] = "kept"
        return values["x"] + values["deep.y"]

    work(plan, task)
    [trial] = trials(plan)
    assert current() is None
    assert list(seen) == ["x", "deep.y"]
    assert trial.params == {"x": seen["x"], "y": seen["deep.y"]}
    assert trial.value == seen["x"] + seen["deep.y"]
    assert trial.intermediate_values == {1: 0.3}
    result = trial.user_attrs[RESULT]
    assert result == {"outcome": "complete", "seed": plan.seed_of(0), "seconds": result["seconds"], "note": "kept"}
    assert 0 <= result["seconds"] < 10


class OutOfMemoryError(Exception):
    """As torch.cuda's is named, and any other library's."""


@pytest.mark.parametrize(
    ("error", "how", "state", "value", "said"),
    [
        (Diverged("the loss is nan"), "diverged", TrialState.COMPLETE, float("inf"), "the loss is nan"),
        (OutOfMemory("too wide"), "out_of_memory", TrialState.COMPLETE, float("inf"), "too wide"),
        (OutOfMemoryError("CUDA"), "out_of_memory", TrialState.COMPLETE, float("inf"), "CUDA"),
        (Pruned("others did better"), "pruned", TrialState.PRUNED, None, None),
        (optuna.TrialPruned(), "pruned", TrialState.PRUNED, None, None),
        (UserError("lr is -1"), "failed", TrialState.FAIL, None, "lr is -1"),
        (ZeroDivisionError("by zero"), "failed", TrialState.FAIL, None, "ZeroDivisionError: by zero"),
    ],
)
def test_other_ends(plan, error, how, state, value, said):
    work(plan, raises(error))
    [trial] = trials(plan)
    assert outcome(trial) == how
    assert (trial.state, trial.value) == (state, value)
    assert trial.user_attrs[RESULT].get("error") == said
    traceback = plan.folder_of(0) / "error.txt"
    assert traceback.exists() == (how == "failed")
    if how == "failed":
        assert "in task" in traceback.read_text()
        assert str(error) in traceback.read_text()


def test_a_code_that_leaves_the_program_has_failed(plan):
    plan = replace(plan, n_trials=3)
    work(plan, lambda trial, values: sys.exit((0, "no licence", 3)[trial.number]))
    assert [outcome(trial) for trial in trials(plan)] == ["failed"] * 3
    errors = [trial.user_attrs[RESULT]["error"] for trial in trials(plan)]
    assert errors == [f"the code called sys.exit({code!r})" for code in (0, "no licence", 3)]
    assert "in <lambda>" in (plan.folder_of(1) / "error.txt").read_text()


def full(number=errno.ENOSPC):
    return OSError(number, os.strerror(number), "/scratch/weights.bin")


def caused(by):
    error = RuntimeError("it could not be saved")
    error.__cause__ = by
    return error


MACHINES = {
    "full": full(),
    "quota": full(errno.EDQUOT),
    "read-only": full(errno.EROFS),
    "by another error": caused(full()),
    "in words": RuntimeError(f"[enforce fail] {os.strerror(errno.ENOSPC)}: /scratch/weights.bin"),
    "memory": MemoryError("/scratch/weights.bin"),
    "torch's memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
}


@pytest.mark.parametrize("error", MACHINES.values(), ids=MACHINES)
def test_what_the_machine_lacks_is_no_trials_end_and_the_same_work_goes_on(plan, tmp_path, error):
    plan, stop, published = replace(plan, n_trials=3), tmp_path / "stop", []
    fails = [1]

    def task(trial, values):
        if trial.number in fails:
            raise error
        return values["x"]

    with pytest.raises(MachineFault, match=r"/scratch/weights\.bin|no memory") as told:
        work(plan, task, stop_file=stop, before_tell=lambda trial: published.append(trial.number))
    assert "run the same command to resume" in str(told.value)
    assert stop.exists(), "the other workers are not asked to stop"
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert RESULT not in trials(plan)[1].user_attrs
    assert published == [0]
    fails.clear()
    stop.unlink()
    before = values_of(plan)
    work(plan, task, stop_file=stop)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 3
    assert values_of(plan)[:2] == before


def test_a_trial_for_which_there_never_is_memory_is_told_so_in_the_end(plan):
    plan = replace(plan, n_trials=2)

    def task(trial, values):
        if trial.number == 0:
            raise MemoryError("60 GiB")
        return 0.5

    for _ in range(MOST):
        with pytest.raises(MachineFault):
            work(plan, task)
    work(plan, task)
    assert [outcome(trial) for trial in trials(plan)] == ["out_of_memory", "complete"]
    assert "60 GiB, in each of 3 attempts" in trials(plan)[0].user_attrs[RESULT]["error"]


def test_more_memory_than_there_is_is_the_trials_own(plan):
    work(plan, raises(RuntimeError(f"DefaultCPUAllocator: can't allocate: you tried to allocate {2**62} bytes.")))
    assert outcome(trials(plan)[0]) == "failed"


def test_a_trial_that_cannot_be_told_for_a_full_disk_is_left(plan, monkeypatch):
    monkeypatch.setattr("hypermap.search.worker.write_text", raises(full()))
    with pytest.raises(MachineFault, match="scratch"):
        work(plan, raises(ZeroDivisionError("by zero")))
    assert trials(plan)[0].state == TrialState.RUNNING


def test_bad_is_worse_than_any_in_the_studys_direction(plan, tmp_path):
    upwards = replace(plan, name="up", directions=("maximize", "minimize"), storage=str(tmp_path / "up.log"))
    open_study(upwards, {"identity": {}}, force=False)
    work(upwards, raises(Diverged("nan")))
    assert trials(upwards)[0].values == [float("-inf"), float("inf")]


@pytest.mark.parametrize("value", [float("nan"), "nan"])
def test_a_value_that_is_no_number_has_diverged(plan, value):
    work(plan, lambda trial, values: value)
    [trial] = trials(plan)
    assert outcome(trial) == "diverged"
    assert trial.value == float("inf")
    assert "not a number" in trial.user_attrs[RESULT]["error"]


@pytest.mark.parametrize("value", [0.5, 1, True, "0.5", [0.5], (0.5,), float("inf")])
def test_whatever_is_a_number_is_an_objective(plan, value):
    work(plan, lambda trial, values: value)
    [trial] = trials(plan)
    assert outcome(trial) == "complete"
    assert trial.value == float(value[0] if isinstance(value, list | tuple) else value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "Return value must be float-castable. Got 'None'"),
        ("high", "Got 'high'"),
        ([0.1, 0.2], "Expect 1, but actually 2"),
        ([], "Expect 1, but actually 0"),
        ({"x": 1}, "float-castable"),
    ],
)
def test_whatever_is_none_is_a_failure_that_says_so(plan, value, said):
    work(plan, lambda trial, values: value)
    [trial] = trials(plan)
    assert outcome(trial) == "failed"
    assert said in trial.user_attrs[RESULT]["error"]


def test_a_pruner_stops_a_trial_but_not_at_its_last_report(plan):
    lower = {"_target_": "optuna.pruners.ThresholdPruner", "lower": 0.5}
    plan = replace(plan, pruner=lower, horizon=3, n_trials=2)

    def task(trial, values):
        for step in (1, 2, 3):
            trial.report(step, 0.1 if step == (3, 2)[trial.number] else 0.9)
        return 0.1

    work(plan, task)
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "pruned"]
    assert [trial.last_step for trial in trials(plan)] == [3, 2]


# How the worker goes about it.


def test_the_budget_is_met(plan):
    plan = replace(plan, n_trials=7)
    work(plan, lambda trial, values: values["x"])
    work(plan, raises(AssertionError("a trial beyond the budget")))
    assert [trial.number for trial in trials(plan)] == list(range(7))
    assert len(set(values_of(plan))) == 7


def test_before_tell_is_called_for_what_completed_and_before_the_study_counts_it(plan):
    ends = [0.5, Pruned("worse"), Diverged("nan"), ValueError("broken"), 0.1]
    plan, called = replace(plan, n_trials=len(ends)), []

    def task(trial, values):
        if isinstance(end := ends[trial.number], Exception):
            raise end
        return end

    def before_tell(trial):
        called.append((trial.number, trials(plan)[trial.number].state))

    work(plan, task, before_tell=before_tell)
    assert called == [(0, TrialState.RUNNING), (4, TrialState.RUNNING)]


def test_what_dies_before_it_is_told_is_run_again(plan):
    def die(trial):
        raise SystemExit

    numbers = []

    def task(trial, values):
        numbers.append((trial.number, *values.values()))
        return values["x"]

    with pytest.raises(SystemExit):
        work(plan, task, before_tell=die)
    assert [trial.state for trial in trials(plan)] == [TrialState.RUNNING]
    work(plan, task)
    assert numbers[0] == numbers[1]
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE]


def test_an_interrupted_trial_is_taken_up_with_its_values_and_reports(plan):
    plan, seen = replace(plan, n_trials=2), []

    def task(trial, values):
        seen.append((trial.number, trial.seed, dict(values), sorted(trial.steps)))
        for step in (1, 2):
            trial.report(step, step / 10)  # the first is told again
            if len(seen) == 1:
                raise Interrupted
        return values["x"]

    work(plan, task)
    [left] = trials(plan)
    assert left.state == TrialState.RUNNING
    assert RESULT not in left.user_attrs
    work(plan, task)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 2
    assert seen[1] == (*seen[0][:3], [1])
    assert trials(plan)[0].intermediate_values == {1: 0.1, 2: 0.2}
    assert [number for number, *_ in seen] == [0, 0, 1]


@pytest.mark.parametrize(
    "sampler",
    ["optuna.samplers.RandomSampler", "optuna.samplers.TPESampler", "hypermap.search.counter_samplers.QuasiRandom"],
)
def test_a_trial_with_half_its_parameters_drawn_gets_the_others_as_it_would_have(plan, tmp_path, sampler):
    plan = replace(plan, sampler={"_target_": sampler}, n_trials=14)
    beside = replace(plan, name="beside", storage=str(tmp_path / "beside.log"))
    open_study(beside, {"identity": {}}, force=False)

    def task(trial, values):
        return (values["x"] - 0.3) ** 2 + values["deep.y"]

    class HalfDrawn(Space):
        def suggest(self, trial):
            trial._suggest("x", self.parameters[0].distribution)
            raise KeyboardInterrupt

    for begun in (2, 12):  # a trial before TPE has a model, and one after
        work(replace(plan, n_trials=begun), task)
        with pytest.raises(KeyboardInterrupt):
            work(replace(plan, n_trials=begun + 1, space=HalfDrawn(SPACE.parameters)), task)
        assert list(trials(plan)[begun].params) == ["x"]
    work(plan, task)
    work(beside, task)
    assert values_of(plan) == values_of(beside)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 14


def test_a_trial_receives_no_parameter_that_its_choice_does_not_have(plan, tmp_path):
    chooses = CategoricalDistribution(("adam", "sgd"))
    space = Space(
        (
            Parameter(
                "optimizer.sgd.momentum",
                "optimizer.momentum",
                "interval(0.0,1.0)",
                FloatDistribution(0.0, 1.0),
                conditions=(Condition("optimizer", ("sgd",)),),
            ),
            Parameter("optimizer", "optimizer", "adam,sgd", chooses),
        )
    )
    plan = replace(plan, space=space, n_trials=20, storage=str(tmp_path / "conditional.log"))
    open_study(plan, {"identity": {}}, force=False)
    seen = []
    work(plan, lambda trial, values: seen.append(dict(values)) or 0.5)
    assert {values["optimizer"] for values in seen} == {"adam", "sgd"}
    assert all(("optimizer.momentum" in values) == (values["optimizer"] == "sgd") for values in seen)


def test_more_may_be_drawn_by_optunas_own_means(plan):
    drawn = []
    work(plan, lambda trial, values: values["z"], extend=lambda trial: {"z": trial.suggest_float("z", 2, 3)})
    drawn = trials(plan)[0]
    assert drawn.value == drawn.params["z"]
    assert list(drawn.params) == ["x", "y", "z"]


# Processes that die.

fork, spawn = (multiprocessing.get_context(method) for method in ("fork", "spawn"))


def without_pytests_traceback(plan, task, together, deserted):
    faulthandler.disable()
    work(plan, task, together=together, deserted=deserted)


def dies(plan, task, together=None, by=fork, with_all=False) -> int:
    """Work in a process of its own, as whoever launched it sees it; return how that ended.

    Args:
        plan: what to do.
        task: runs a trial.
        together: runs several.
        by: begins the process.
        with_all: who watches the process ends with it, and sees nothing.
    """
    deserted = (lambda: False) if with_all else None
    process = by.Process(target=without_pytests_traceback, args=(plan, task, together, deserted))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("it hangs")
    if process.exitcode and not with_all:
        note_death(lock_folder(plan.storage, plan.name), process.pid, process.exitcode)
    return process.exitcode


def ends_its_process(by):
    def task(trial, values):
        if trial.number == 1:
            trial.report(1, 0.5)
            by()
        return values["x"]

    return task


ENDS = {
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGABRT": os.abort,
    "exit code 7": lambda: os._exit(7),
    "exit code 0": lambda: os._exit(0),
}


def test_a_fault_of_the_machine_that_a_trial_was_told_of_ends_the_work(plan):
    """As where the study's own file is replaced while a trial reports to it."""
    fault = MachineFault("the study's file is another")
    with pytest.raises(MachineFault) as told:
        work(plan, raises(fault))
    assert told.value is fault
    assert fault.__cause__ is None
    assert trials(plan)[0].state == TrialState.RUNNING


@pytest.mark.parametrize("how", ENDS)
def test_a_trial_that_ends_its_process_has_failed_after_three_attempts(plan, how):
    plan, task = replace(plan, n_trials=3), ends_its_process(ENDS[how])
    for _ in range(MOST):
        dies(plan, task)
        assert trials(plan)[1].state == TrialState.RUNNING
    assert dies(plan, task) == 0
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "failed", "complete"]
    error = trials(plan)[1].user_attrs[RESULT]["error"]
    assert f"{MOST} attempts" in error
    assert how in error or how == "exit code 0"  # which nobody takes for a death but the next to come by
    assert list(lock_folder(plan.storage, plan.name).glob("attempt-*")) == []


def test_a_trial_that_comes_further_with_each_attempt_goes_on(plan):
    """As on a machine that is taken away every hour."""

    def task(trial, values):
        step = max(trial.steps, default=0) + 1
        trial.report(step, 1 / step)
        if step < 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return values["x"]

    for _ in range(5):
        assert dies(plan, task) == -signal.SIGKILL
    assert dies(plan, task) == 0
    assert outcome(trials(plan)[0]) == "complete"


def test_trials_that_were_left_on_purpose_have_all_their_attempts(plan):
    for _ in range(MOST + 1):
        work(plan, raises(Interrupted))
        with pytest.raises(KeyboardInterrupt):
            work(plan, raises(KeyboardInterrupt))
    work(plan, lambda trial, values: 0.5)
    assert outcome(trials(plan)[0]) == "complete"


def test_whoever_is_killed_after_it_was_asked_to_stop_counts_for_no_attempt(plan):
    """As by a scheduler, which waits for less time than an epoch takes."""

    def task(trial, values):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(MOST + 1):
        assert dies(plan, task) == -signal.SIGKILL
    work(plan, lambda trial, values: 0.5)
    assert outcome(trials(plan)[0]) == "complete"


def test_that_everything_was_killed_is_held_against_no_trial_at_first(plan, monkeypatch):
    """As by a scheduler that takes the machine away, or by whoever kills the whole sweep."""
    monkeypatch.setattr(attempts, "NOTED_S", 0.0)  # this process, which lives, stands for the one that watched
    plan, task = replace(plan, n_trials=2), ends_its_process(ENDS["SIGKILL"])
    for _ in range(MOST_WITH_ALL):
        assert dies(plan, task, with_all=True) == -signal.SIGKILL
        assert trials(plan)[1].state == TrialState.RUNNING
    assert dies(plan, task, with_all=True) == 0
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "failed"]
    assert f"{MOST_WITH_ALL} attempts" in trials(plan)[1].user_attrs[RESULT]["error"]


def test_where_everything_was_killed_the_trials_own_deaths_count_as_before(plan, monkeypatch):
    monkeypatch.setattr(attempts, "NOTED_S", 0.0)
    plan, task = replace(plan, n_trials=2), ends_its_process(ENDS["SIGKILL"])
    for with_all in [True, False, True, False, False]:
        assert dies(plan, task, with_all=with_all) == -signal.SIGKILL
    assert dies(plan, task) == 0
    assert outcome(trials(plan)[1]) == "failed"


def test_how_a_process_ended_is_waited_for_as_long_as_somebody_lives_to_note_it(tmp_path):
    """The lock of its trial is free at once: without waiting, the death is held against whoever watched it."""
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
    child.start()
    child.join()
    Attempt(child.pid, watched=os.getpid()).write(tmp_path, 3)
    noting = threading.Timer(0.2, note_death, (tmp_path, child.pid, 7))
    noting.start()
    assert Attempt.of_the_dead(tmp_path, 3).how(tmp_path) == "with exit code 7"
    noting.join()
    Attempt(child.pid, watched=child.pid).write(tmp_path, 3)
    assert Attempt.of_the_dead(tmp_path, 3).died_with_all(tmp_path)


def test_of_a_stack_that_ends_its_process_the_guilty_is_found(plan):
    plan, task = replace(plan, n_trials=4, stack=4), ends_its_process(ENDS["SIGSEGV"])

    def together(pairs, end):
        assert len(pairs) > 1
        for trial, values in pairs:
            end(trial, task(trial, values))

    deaths = 0
    while dies(plan, task, together):
        deaths += 1
        assert deaths <= STACK_DEATHS + MOST
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "failed", "complete", "complete"]
    assert deaths == STACK_DEATHS + MOST


def hangs(trial, values):
    if trial.number == 1:
        re.match("(a+)+b", "a" * 60)  # for years, in compiled code that lets no other thread run
    return values["x"]


def hang_together(pairs, end):
    for trial, values in pairs:
        end(trial, hangs(trial, values))


@pytest.mark.parametrize("stack", [1, 3])
def test_a_trial_that_hangs_is_ended_and_told_with_where_it_was(plan, stack, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # for the child, which imports this module
    plan = replace(plan, n_trials=3, trial_timeout=0.5, stack=stack)
    deaths = 0
    while dies(plan, hangs, hang_together, by=spawn):  # a process that is forked has pytest's own watch in its way
        deaths += 1
        assert deaths <= 2
    assert [outcome(trial) for trial in trials(plan)] == ["complete", "failed", "complete"]
    assert "hydra.sweeper.trial_timeout=0.5" in trials(plan)[1].user_attrs[RESULT]["error"]
    assert "in hangs" in (plan.folder_of(1) / "error.txt").read_text()


# Trials that somebody enqueued.


@pytest.mark.parametrize(
    ("values", "how"), [({"x": 0.25, "y": 0.5}, "complete"), ({"x": 0.25}, "complete"), ({"x": "abc"}, "failed")]
)
@pytest.mark.parametrize("sampler", ["optuna.samplers.RandomSampler", "hypermap.search.auto.Auto"])
def test_a_trial_that_waits_is_run_next_and_harms_nobody(plan, values, how, sampler):
    plan = replace(plan, n_trials=3, sampler={"_target_": sampler})
    work(plan, lambda trial, values: values["x"])
    connect(plan).enqueue_trial(values)
    plan = replace(plan, n_trials=5)
    work(plan, lambda trial, values: values["x"])
    assert [outcome(trial) for trial in trials(plan)] == ["complete"] * 3 + [how, "complete"]
    if how == "complete":
        assert trials(plan)[3].params | values == trials(plan)[3].params
    else:
        assert "enqueued" in trials(plan)[3].user_attrs[RESULT]["error"]


# Stopping.


def test_a_stop_file_ends_the_work_after_the_running_report(plan, tmp_path):
    plan, stop = replace(plan, n_trials=5), tmp_path / "stop"

    def task(trial, values):
        trial.report(1, 0.5)
        if trial.number == 1:
            stop.touch()
            trial.report(2, 0.4)  # told, and then it stops
            raise AssertionError("it went on")
        return 0.5

    work(plan, task, stop_file=stop)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert trials(plan)[1].intermediate_values == {1: 0.5, 2: 0.4}
    work(plan, raises(AssertionError("it began")), stop_file=stop)
    stop.unlink()
    work(plan, lambda trial, values: 0.5, stop_file=stop)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_and_a_second_stops_at_once(plan, number):
    heard, plan = [], replace(plan, n_trials=3)
    outer = signal.signal(number, lambda *_: heard.append("by whoever launched the worker"))

    def ask_once(trial, values):
        os.kill(os.getpid(), number)
        return 0.5  # this trial does not report, so it ends first

    def ask_twice(trial, values):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")

    try:
        mine = signal.getsignal(number)
        work(plan, ask_once)
        assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE]
        assert len(heard) == 1
        with pytest.raises(KeyboardInterrupt):
            work(plan, ask_twice)
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, outer)
    work(plan, lambda trial, values: 0.5)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 3


def test_a_worker_may_be_a_thread(plan):
    plan = replace(plan, n_trials=4)
    threads = [threading.Thread(target=work, args=(plan, lambda trial, values: values["x"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [trial.state for trial in trials(plan)] == [TrialState.COMPLETE] * 4


def test_three_equal_errors_and_a_target_end_the_work(plan):
    plan = replace(plan, n_trials=9)
    work(plan, raises(ValueError("broken")))
    assert len(trials(plan)) == 3
    work(replace(plan, target=0.5, began=trials(plan)[-1].datetime_complete.timestamp() + 1e-3), lambda *_: 0.4)
    assert [outcome(trial) for trial in trials(plan)] == ["failed"] * 3 + ["complete"]


@pytest.mark.parametrize("told", [False, True])
def test_a_trial_that_went_on_elsewhere_is_left_to_the_other(plan, tmp_path, monkeypatch, capsys, told):
    """A worker that was not heard of for a term, as on a laptop that was closed, has lost its trial."""
    monkeypatch.setattr(study_module, "file_of", lambda place: None)
    monkeypatch.setattr(Database, "served", True)
    plan = replace(plan, storage=f"sqlite:///{tmp_path}/served.db", lease=30.0)
    open_study(plan, {"identity": {}}, force=False)

    def task(trial, values):
        other = connect(plan)._storage
        other.worker = {WORKER: "elsewhere/1:12"}
        other.own(trial.trial.study._study_id, trial.trial._trial_id)
        other.sign(trial.trial._trial_id)
        if told:
            other.set_trial_state_values(trial.trial._trial_id, TrialState.COMPLETE, [7.0])
        raise ValueError("of the one that was too late")

    monkeypatch.setattr(worker_module, "_wait", lambda claims, stopping: False)
    work(plan, task)
    (trial,) = trials(plan)
    assert trial.state == (TrialState.COMPLETE if told else TrialState.RUNNING)
    assert trial.values == ([7.0] if told else None)
    assert RESULT not in trial.user_attrs
    assert (
        "Trial 0 went on elsewhere: this worker was not heard of for hydra.sweeper.lease=30 s"
        in capsys.readouterr().out
    )
