"""Sweeps as commands: killed and taken up again, with several workers, stopped, refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
import yaml

from hypermap.core.paths import SOURCES
from hypermap.search.storage import Journal, open_storage
from hypermap.search.study import outcome
from support.studies import wait_for_steps

# A Hydra application that reports as a training does; each trial notes when it ran, and each step it took. One that can
# pause goes on from the step that it finds in its folder.
TASK = """
import errno, json, os, re, signal, sys, time
from dataclasses import replace
from pathlib import Path

import hydra

from hypermap.core.errors import Diverged
from hypermap.search.application import SweepTarget
from hypermap.search.trial import current


class Pausing(SweepTarget):
    pauses = True

    def study_spec(self, configuration, searched, objectives):
        return replace(super().study_spec(configuration, searched, objectives), horizon=configuration["steps"])


def task(config):
    trial, value = current(), (config.x - 0.3) ** 2 + config.y
    began, state = time.time(), trial.folder / "state" / "step"
    Path("workers").mkdir(exist_ok=True)
    Path("workers", str(os.getpid())).touch()
    while len(os.listdir("workers")) < config.workers and time.time() < began + 60:  # however long the others take
        time.sleep(0.01)
    done = int(state.read_text()) if state.exists() else 0
    if done:
        trial.report(done, value + 1 / done)
    for step in range(done + 1, config.steps + 1):
        time.sleep(config.pause_s * (1 + 3 * (trial.number % 4 == 0) * config.uneven))
        with open("steps.txt", "a") as file:
            file.write(f"{trial.number} {step}\\n")
        if trial.number in config.diverge:
            raise Diverged("the loss is nan")
        if (how := config.ends.get(f"t{trial.number}")) is not None and step == 2:
            ENDS[how]()
        if trial.number in config.fail:
            raise RuntimeError(f"cannot multiply {trial.number} by 3")
        if trial.pauses:
            state.parent.mkdir(parents=True, exist_ok=True)
            state.with_name("next").write_text(str(step))
            state.with_name("next").rename(state)
        trial.report(step, value + 1 / step)
    trial.record["ran"] = [began, time.time(), os.getpid()]
    return value


def fill():
    if not Path("room").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/weights.bin")


ENDS = {
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "code 7": lambda: os._exit(7),
    "hang": lambda: re.match("(a+)+b", "a" * 60),
    "leave": sys.exit,
    "full": fill,
}
if "PAUSES" in os.environ:
    task.application = Pausing()
if __name__ == "__main__":
    hydra.main(config_path="conf", config_name="config")(task)()
"""
CONFIG = {
    "defaults": [{"override hydra/sweeper": "hypermap"}, "_self_"],
    "x": 0.0, "y": 0.0, "steps": 5, "pause_s": 0.0, "workers": 1, "uneven": False, "diverge": [], "fail": [],
    "ends": {},
    "hydra": {"sweep": {"dir": "sweep"}, "sweeper": {"study_name": "study", "seed": 1}},
}  # fmt: skip
SPACE = ["x=interval(-1.0,1.0)", "y=interval(0.0,1.0)"]
RANDOM = ["hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none"]


class App:
    """The application in a folder of its own."""

    def __init__(self, folder: Path, forking: dict[str, str], **variables: str) -> None:
        self.folder, self.forking, self.variables = folder, forking, variables
        (folder / "conf").mkdir()
        (folder / "conf/config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
        (folder / "task.py").write_text(TASK)

    def start(self, *words: str, fork: bool = False) -> subprocess.Popen[str]:
        variables = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"} | self.variables
        return subprocess.Popen(
            ["python" if fork else sys.executable, "task.py", "-m", *SPACE, *words],
            cwd=self.folder,
            env=variables | self.forking if fork else variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        process = self.start(*words, fork=True)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        return out

    def fails(self, *words: str) -> str:
        process = self.start(*words, fork=True)
        out, _ = process.communicate(timeout=120)
        assert process.returncode != 0, out
        return out

    def has_stepped(self, process: subprocess.Popen[str], count: int) -> None:
        """Wait until so many steps were taken in all."""
        wait_for_steps(self.steps, process, count)

    def trials(self, storage: str = "sweep/journal.log") -> list[optuna.trial.FrozenTrial]:
        place = storage if "://" not in storage else f"sqlite:///{self.folder}/{storage.removeprefix('sqlite:///')}"
        opened = open_storage(place if "://" in place else str(self.folder / place))
        return optuna.load_study(study_name="study", storage=opened).trials

    def steps(self) -> list[tuple[int, int]]:
        path = self.folder / "steps.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(number), int(step)) for number, step in map(str.split, lines)]


@pytest.fixture
def new_app(tmp_path, forks):
    """Makes the application in another folder each time."""

    def make(name: str, **variables: str) -> App:
        (tmp_path / name).mkdir()
        return App(tmp_path / name, forks.light, **variables)

    return make


@pytest.fixture
def app(new_app):
    return new_app("app")


def kill(process: subprocess.Popen[str], by: int = signal.SIGKILL) -> None:
    os.killpg(process.pid, by)


def points(trials):
    return [(trial.params["x"], trial.params["y"]) for trial in trials]


@pytest.mark.parametrize(
    ("storage", "count", "times"),
    [("sweep/journal.log", 30, 2), ("sqlite:///study.db", 20, 1)],
    ids=["journal", "sqlite"],
)
def test_a_sweep_killed_at_random_moments_ends_as_one_that_was_not(app, new_app, storage, count, times):
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    words = [*RANDOM, f"hydra.sweeper.n_trials={count}", "hydra.sweeper.n_jobs=2", "pause_s=0.02"]
    if "://" in storage:
        words.append(f"hydra.sweeper.storage={storage}")
    for kills in range(times):
        process = app.start(*words, fork=True)
        app.has_stepped(process, len(app.steps()) + 1)
        time.sleep(moments.uniform(0, 0.4))
        assert process.poll() is None, f"it ended before it could be killed {kills + 1} times (seed {seed})"
        kill(process)
        process.communicate()
    out = app.run(*words)

    trials = app.trials(storage)
    assert [trial.number for trial in trials] == list(range(count)), out
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len(set(points(trials))) == count
    assert all(set(trial.intermediate_values) == set(range(1, 6)) for trial in trials)
    uninterrupted = new_app("beside")
    uninterrupted.run(*RANDOM, f"hydra.sweeper.n_trials={count}")
    assert points(trials) == points(uninterrupted.trials())


def test_a_search_that_learns_goes_on_as_if_nothing_had_happened(app, new_app):
    words = ["hydra/sweeper/sampler=tpe", "hydra/sweeper/pruner=median", "hydra.sweeper.n_trials=25", "pause_s=0.01"]
    process = app.start(*words, fork=True)
    app.has_stepped(process, 40)
    kill(process)
    process.communicate()
    app.run(*words)
    beside = new_app("beside")
    beside.run(*words, "pause_s=0")
    assert points(app.trials()) == points(beside.trials())
    assert [outcome(trial) for trial in app.trials()] == [outcome(trial) for trial in beside.trials()]
    assert "pruned" in {outcome(trial) for trial in app.trials()}


def test_two_workers_share_a_budget_and_no_point_is_tried_twice(app):
    words = ["hydra/sweeper/sampler=tpe", "hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=30", "workers=3"]
    two = app.start(*words, "hydra.sweeper.n_jobs=2", fork=True)
    third = app.start(*words, fork=True)  # from elsewhere
    for process in (two, third):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    trials = app.trials()
    assert len(trials) == 30
    assert len(set(points(trials))) == 30
    assert len({trial.user_attrs["result"]["ran"][2] for trial in trials}) == 3


def test_no_worker_waits_for_another(app):
    """While one runs a trial that is four times as long, the other goes on to further ones."""
    app.run(*RANDOM, "hydra.sweeper.n_trials=24", "hydra.sweeper.n_jobs=2", "pause_s=0.05", "uneven=true")
    ran = [trial.user_attrs["result"]["ran"] for trial in app.trials()]
    within = [sum(begin <= b and e <= end for b, e, _ in ran) - 1 for begin, end, _ in ran]
    assert max(within) >= 2


def test_the_first_interrupt_finishes_what_runs_and_the_same_command_goes_on(app):
    words = [*RANDOM, "hydra.sweeper.n_trials=6", "steps=30", "pause_s=0.05"]
    process = app.start(*words)
    app.has_stepped(process, 10)
    kill(process, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, "whoever waits for it takes it for done"
    assert "Run the same command to resume" in out
    assert "Traceback" not in out
    [running] = app.trials()
    assert running.state.name == "RUNNING"
    assert sorted(running.intermediate_values) == [step for _, step in app.steps()]
    app.run(*words)
    assert [trial.state.name for trial in app.trials()] == ["COMPLETE"] * 6


def test_divergence_is_told_as_bad_and_failure_is_something_else(app):
    app.run(*RANDOM, "hydra.sweeper.n_trials=8", "diverge=[2,3,4,5]", "fail=[6]")
    trials = app.trials()
    assert [outcome(trial) for trial in trials] == ["complete"] * 2 + ["diverged"] * 4 + ["failed", "complete"]
    assert trials[2].state.name == "COMPLETE"
    assert trials[2].values == [float("inf")]
    assert trials[6].state.name == "FAIL"
    assert "cannot multiply" in (app.folder / "sweep/6/error.txt").read_text()
    results = yaml.safe_load((app.folder / "sweep/optimization_results.yaml").read_text())
    assert results["best_value"] == min(trials[number].value for number in (0, 1, 7))


def test_three_errors_of_a_kind_end_a_sweep_with_that_error(app):
    out = app.fails(*RANDOM, "hydra.sweeper.n_trials=20", "fail=[1,3,4,5]")
    assert "3 trials in a row failed with the same error: RuntimeError: cannot multiply 5 by 3" in out
    assert len(app.trials()) == 6


def test_a_target_ends_the_search(app):
    out = app.run(*RANDOM, "hydra.sweeper.n_trials=200", "hydra.sweeper.target=0.5")
    values = [trial.value for trial in app.trials()]
    assert values[-1] <= 0.5 < min(values[:-1], default=1)
    assert "reached the target" in out


def test_a_timeout_ends_the_search(app):
    out = app.run(*RANDOM, "hydra.sweeper.n_trials=2000", "hydra.sweeper.timeout=4", "pause_s=0.05")
    assert 1 <= len(app.trials()) < 2000
    assert "the time is up" in out
    assert {trial.state.name for trial in app.trials()} == {"COMPLETE"}


def test_a_study_that_was_begun_otherwise_is_refused_unless_forced(app):
    app.run(*RANDOM, "hydra.sweeper.n_trials=2")
    out = app.fails(*RANDOM, "hydra.sweeper.n_trials=4", "x=interval(-2.0,1.0)", "steps=7")
    assert "space: x was interval(-1.0,1.0) and is interval(-2.0,1.0)" in out
    assert "configuration: steps was 5 and is 7" in out
    assert "hydra.sweeper.study_name=NAME" in out
    assert "hydra.sweeper.resume=force" in out
    assert "direction: was" not in out
    out = app.fails(*RANDOM, "hydra.sweeper.n_trials=4", "hydra.sweeper.direction=maximize")
    assert "direction was ['minimize'] and is ['maximize']" in out
    assert len(app.trials()) == 2
    app.run(*RANDOM, "hydra.sweeper.n_trials=4", "steps=7", "hydra.sweeper.resume=force")
    assert [len(trial.intermediate_values) for trial in app.trials()] == [5, 5, 7, 7]


def test_no_force_changes_the_values_of_a_list(app):
    app.run("x=0.1,0.2", "y=0.5")
    out = app.fails("x=0.1,0.3", "y=0.5", "hydra.sweeper.resume=force")
    assert "trials in which x was of other values" in out
    assert "Begin another: hydra.sweeper.study_name=NAME" in out
    assert "All 2 trials are finished" in app.run("x=0.1,0.2", "y=0.5")


def test_with_one_worker_the_next_start_counts_the_attempt_that_ended_the_last(app):
    words = [*RANDOM, "hydra.sweeper.n_trials=3", "++ends={t1: SIGSEGV}"]
    for _ in range(3):
        process = app.start(*words, fork=True)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGSEGV
    out = app.run(*words)
    assert [outcome(trial) for trial in app.trials()] == ["complete", "failed", "complete"]
    assert "its process ended by SIGSEGV (Segmentation fault), in each of 3 attempts" in out
    assert "in task" in (app.folder / "sweep/1/error.txt").read_text()


def test_with_several_workers_a_trial_that_ends_its_process_ends_nothing_else(app):
    ends = "++ends={t1: SIGKILL, t3: code 7, t4: leave, t6: hang}"
    words = [*RANDOM, "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=2", "hydra.sweeper.trial_timeout=3", ends]
    out = app.run(*words)
    trials = app.trials()
    failed = {trial.number: trial.user_attrs["result"]["error"] for trial in trials if outcome(trial) == "failed"}
    assert [number for number, trial in enumerate(trials) if outcome(trial) == "complete"] == [0, 2, 5, 7]
    assert "by SIGKILL" in failed[1]
    assert "with exit code 7" in failed[3]
    assert failed[4] == "the code called sys.exit(None)"
    assert failed[6] == "it took longer than hydra.sweeper.trial_timeout=3 s"
    assert "8 of 8 trials: 4 complete, 4 failed" in out
    assert "Fatal Python error" not in out


def test_with_one_worker_a_trial_that_hangs_ends_nothing_else(app):
    out = app.run(*RANDOM, "hydra.sweeper.n_trials=3", "hydra.sweeper.trial_timeout=2", "++ends={t1: hang}")
    assert [outcome(trial) for trial in app.trials()] == ["complete", "failed", "complete"]
    assert "trial 1: failed: it took longer than hydra.sweeper.trial_timeout=2 s" in out


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_the_sweep_and_the_same_command_goes_on(app, jobs):
    words = [*RANDOM, "hydra.sweeper.n_trials=4", f"hydra.sweeper.n_jobs={jobs}", "++ends={t1: full}"]
    assert "/scratch/weights.bin" in app.fails(*words)
    assert app.trials()[1].state.name == "RUNNING"
    (app.folder / "room").touch()
    app.run(*words)
    assert [outcome(trial) for trial in app.trials()] == ["complete"] * 4


def test_a_smaller_number_of_trials_has_the_same_best(app):
    app.run(*RANDOM, "hydra.sweeper.n_trials=6")
    whole = yaml.safe_load((app.folder / "sweep/optimization_results.yaml").read_text())
    best = min(app.trials(), key=lambda trial: trial.value).number
    assert best > 0
    out = app.run(*RANDOM, f"hydra.sweeper.n_trials={best}")
    assert f"Best: trial {best}," in out
    assert yaml.safe_load((app.folder / "sweep/optimization_results.yaml").read_text()) == whole


def test_a_sweep_whose_worker_is_killed_says_so_and_goes_on(app):
    words = [*RANDOM, "hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=2", "pause_s=0.1"]
    process = app.start(*words)
    app.has_stepped(process, 8)
    workers = [child for child in psutil.Process(process.pid).children() if "loky" in " ".join(child.cmdline())]
    busy = [child for child in workers if "resource_tracker" not in " ".join(child.cmdline())]
    busy[-1].kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "A worker was killed, perhaps because memory ran out" in out
    app.run(*words)
    assert [trial.state.name for trial in app.trials()] == ["COMPLETE"] * 12
    assert len(set(points(app.trials()))) == 12


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(app):
    app.run(*RANDOM, "hydra.sweeper.n_trials=3")
    app.run(*RANDOM, "hydra.sweeper.n_trials=5")
    assert len(app.trials()) == 5
    assert "All 5 trials are finished" in app.run(*RANDOM, "hydra.sweeper.n_trials=5")
    assert len(app.steps()) == 25


def test_the_configuration_is_read_once(app):
    words = [*RANDOM, "hydra.sweeper.n_trials=6", "pause_s=0.05"]
    process = app.start(*words, fork=True)
    app.has_stepped(process, 6)
    (app.folder / "conf/config.yaml").write_text(yaml.safe_dump(CONFIG | {"steps": 99, "y": "broken"}))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert [len(trial.intermediate_values) for trial in app.trials()] == [5] * 6


def test_values_listed_one_by_one_are_a_grid_in_order(app):
    app.run("x=0.1,0.2", "y=0.3,0.4,0.5")
    assert points(app.trials()) == [(x, y) for x in (0.1, 0.2) for y in (0.3, 0.4, 0.5)]


def test_a_journal_cut_short_anywhere_loses_its_last_line_at_most(app):
    app.run(*RANDOM, "hydra.sweeper.n_trials=3")
    path = app.folder / "sweep/journal.log"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(whole) - len(lines[-1]) + 1, len(whole)):
        path.write_bytes(whole[:cut])
        Journal(path).append_logs([])
        assert path.read_bytes().startswith(b"".join(lines[:-1]))
        assert list(Journal(path).read_logs(0)) == [json.loads(line) for line in lines[:-1]]
    path.write_bytes(whole + b"\0" * 4096)
    assert len(list(Journal(path).read_logs(0))) == len(lines)
    path.write_bytes(whole + b'{"op_code":9,\n')
    assert len(list(Journal(path).read_logs(0))) == len(lines)


# Trials that are paused.

BUDGET = ["hydra.sweeper.budget=4", "steps=8"]


@pytest.fixture
def pausing(new_app):
    return new_app("pausing", PAUSES="1")


def told(trials):
    return [(t.params, t.intermediate_values, t.state, t.values, outcome(t)) for t in trials]


def met(app: App, out: str) -> None:
    """The budget of 4 trainings of 8 steps is met exactly, and nothing is left to go on from."""
    assert sum(len(trial.intermediate_values) for trial in app.trials()) == 4 * 8
    assert {outcome(trial) for trial in app.trials()} == {"complete", "pruned"}
    assert sum(outcome(trial) == "complete" for trial in app.trials()) >= 3
    assert list(app.folder.glob("sweep/*/state")) == []
    assert "4 of 4 trainings" in out


def test_a_search_that_pauses_is_killed_and_ends_as_one_that_was_not(pausing, new_app):
    at = random.randrange(9, 24)
    process = pausing.start(*BUDGET, "pause_s=0.03", fork=True)
    pausing.has_stepped(process, at)
    kill(process)
    process.communicate()
    met(pausing, pausing.run(*BUDGET, "pause_s=0.03"))
    assert pausing.trials()[0].params == {"x": 0.0, "y": 0.0}, "the baseline"
    beside = new_app("beside", PAUSES="1")
    met(beside, beside.run(*BUDGET))
    assert told(pausing.trials()) == told(beside.trials()), at
    assert len(beside.steps()) == 32
    assert len(pausing.steps()) <= 32 + 1  # a step that ran when it was killed is taken once more


def test_an_interrupt_leaves_paused_trials_which_the_same_command_takes_up(pausing):
    words = [*BUDGET, "pause_s=0.04", "hydra.sweeper.n_jobs=2"]
    process = pausing.start(*words, fork=True)
    pausing.has_stepped(process, 14)
    kill(process, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "Run the same command to resume" in out
    left = [outcome(trial) for trial in pausing.trials()]
    assert "paused" in left
    assert {trial.state.name for trial in pausing.trials() if outcome(trial) == "paused"} == {"RUNNING"}
    assert len(list(pausing.folder.glob("sweep/*/state"))) == left.count("paused") + left.count("running")
    out = pausing.run(*words)
    assert f"{left.count('paused') + left.count('running')} begun" in out
    met(pausing, out)
