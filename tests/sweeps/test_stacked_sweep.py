"""Sweeps whose trials are trained as stacks: real commands, what they leave, and what DVC makes of it."""

import os
import signal
import subprocess
from collections import Counter

import optuna
import pytest

from hypermap.search.storage import open_storage
from hypermap.search.study import outcome
from hypermap.training.backends.native_build import why_no_compiler

TRAIN = ("python", "src/train.py", "-m", "hydra.sweeper.report=false")
RANDOM = ("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none")
RATES = "optimizer.lr=tag(log,interval(0.002,0.05))"


@pytest.fixture
def project(clone):
    return clone()


def trials(project, study):
    storage = open_storage(str(project.path / f"studies/{study}/journal.log"))
    return optuna.load_study(study_name=study, storage=storage).trials


def study_name(name):
    return f"hydra.sweeper.study_name={name}"


def repeat(project, study, number):
    """Let DVC repeat a trial; returns its figures and those of before."""
    before = project.json(f"studies/{study}/{number}/validation.json")
    project.ok("dvc", "exp", "apply", f"{study}-{number:04d}")
    project.ok("dvc", "repro", "train")
    return project.json("reports/validation.json"), before


def test_a_sweep_of_stacks_leaves_what_one_of_single_trials_does_and_repeats(project):
    out = project.ok(
        *TRAIN,
        RATES,
        "model.hidden=[16],[12]",
        "model.dropout=interval(0.05,0.3)",
        *("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"),
        *("hydra.sweeper.n_trials=8", "hydra.sweeper.stack=4", "hydra.sweeper.seed=2", study_name("stacks")),
    ).out
    done = trials(project, "stacks")
    assert [trial.number for trial in done] == list(range(8))
    ends = Counter(outcome(trial) for trial in done)
    assert set(ends) == {"complete", "pruned"}, out  # in a stack, those that others did better than leave
    complete = [trial for trial in done if outcome(trial) == "complete"]
    for trial in complete:
        folder = project.path / f"studies/stacks/{trial.number}"
        left = {path.name for path in folder.iterdir() if path.is_file()}
        assert {"model.safetensors", "model.json", "history.csv", "validation.json", "params.yaml"} <= left
        assert len((folder / "history.csv").read_text().splitlines()) == 1 + 3
        assert trial.value == project.json(f"studies/stacks/{trial.number}/validation.json")["validation_accuracy"]
        assert trial.user_attrs["result"]["stacked"] == 4
    listed = project.ok("dvc", "exp", "list", "--name-only").out.split()
    assert sorted(listed) == [f"stacks-{trial.number:04d}" for trial in complete]

    by_itself = set()
    for first in (0, 4):  # a worker begins four trials at once
        some = done[first : first + 4]
        shapes = Counter(trial.params["model.hidden"] for trial in some)
        by_itself |= {trial.number for trial in some if shapes[trial.params["model.hidden"]] == 1}
    assert by_itself
    reason = "no other of these has its network, data and batch size, or can be trained by the same backend"
    said = [f"Trial {number} trains by itself, as others may: {reason}" in out for number in by_itself]
    assert 1 <= sum(said) <= 2, "once by each worker"
    assert out.count("trains by itself") == sum(said), "and of no other trial"
    stacked = [trial for trial in complete if trial.number not in by_itself]
    backends = {trial.user_attrs["result"]["backend"] for trial in stacked}
    assert backends == {"native"} if why_no_compiler() is None else backends <= {"batched", "vmap", "eager"}

    again, before = repeat(project, "stacks", stacked[0].number)
    if backends == {"native"}:
        assert again == before
        own = project.path / f"studies/stacks/{stacked[0].number}"
        assert (project.path / "models/model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert again["validation_accuracy"] == pytest.approx(before["validation_accuracy"], abs=0.02)


def test_two_workers_of_stacks_are_killed_and_go_on_to_their_budget(project):
    """And a trial of torch's stack repeats, by itself, to nearly the same figures."""
    words = (RATES, *RANDOM, "trainer.backend=batched", "trainer.epochs=20", "hydra.sweeper.n_jobs=2")
    command = (*TRAIN, *words, "hydra.sweeper.n_trials=8", "hydra.sweeper.stack=2", study_name("killed"))

    journal = project.path / "studies/killed/journal.log"

    def reported():
        return journal.exists() and b"intermediate_value" in journal.read_bytes()

    process = subprocess.Popen(
        command,
        cwd=project.path,
        env=project.variables | project.forking,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        project.until(lambda: reported() or process.poll() is not None)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert "running" in {outcome(trial) for trial in trials(project, "killed")}
    project.ok(*command)
    done = trials(project, "killed")
    assert [outcome(trial) for trial in done] == ["complete"] * 8
    assert len({trial.params["optimizer.lr"] for trial in done}) == 8
    assert {len(trial.intermediate_values) for trial in done} == {20}
    assert {trial.user_attrs["result"]["backend"] for trial in done} == {"batched"}
    left = [path for path in (project.path / "runs").rglob("*") if path.is_file()]
    assert {path.name for path in left} == {"lock", "history.csv"}
    again, before = repeat(project, "killed", 3)
    assert again["validation_accuracy"] == pytest.approx(before["validation_accuracy"], abs=0.02)
    assert again["validation_loss"] == pytest.approx(before["validation_loss"], rel=0.01)


def test_a_stack_meets_a_budget_and_takes_up_what_it_paused(project):
    words = (RATES, "model.dropout=interval(0.05,0.3)", "trainer.epochs=4")
    project.ok(*TRAIN, *words, "hydra.sweeper.budget=5", "hydra.sweeper.stack=4", study_name("budget"))
    done = trials(project, "budget")
    assert {outcome(trial) for trial in done} == {"complete", "pruned"}
    assert sum(len(trial.intermediate_values) for trial in done) == 5 * 4
    assert list(project.path.glob("studies/budget/*/state")) == []
    taken_up = [t for t in done[1:] if outcome(t) == "complete" and not t.user_attrs["schedule"]["unpruned"]]
    assert len(taken_up) >= 2
    assert max(trial.user_attrs["result"].get("stacked", 1) for trial in done) == 4
    for trial in taken_up:
        assert trial.value == project.json(f"studies/budget/{trial.number}/validation.json")["validation_accuracy"]
        assert len((project.path / f"studies/budget/{trial.number}/history.csv").read_text().splitlines()) == 1 + 4
