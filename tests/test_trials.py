"""Trials of the project's own training: killed and taken up, repeated by DVC, over folds, with several objectives."""

import os
import signal
import subprocess

import optuna
import pytest

from hypermap.search.storage import open_storage
from hypermap.search.study import outcome

TRAIN = ("python", "src/train.py", "-m", "hydra.sweeper.report=false")
RANDOM = ("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none")


def trials(project, study):
    storage = open_storage(str(project.path / f"studies/{study}/journal.log"))
    return optuna.load_study(study_name=study, storage=storage).trials


def study_name(name):
    return f"hydra.sweeper.study_name={name}"


def test_a_trial_is_a_dvc_experiment_that_repeats_bit_for_bit(clone):
    project = clone()
    project.append("README.md", "An edit that is nobody's business.\n")
    project.ok("git", "add", "README.md")
    project.append("src/train.py", "# an edit that belongs to the trials\n")
    before = project.ok("git", "status", "--porcelain").out
    project.ok(*TRAIN, "optimizer.lr=0.01,0.03", "model.dropout=0.2", study_name("rates"), "hydra.sweeper.n_jobs=2")
    assert project.ok("git", "status", "--porcelain").out == before

    listed = project.ok("dvc", "exp", "list", "--name-only").out.split()
    assert sorted(listed) == ["rates-0000", "rates-0001"]
    shown = project.ok("dvc", "exp", "show", "--csv").out.splitlines()
    columns = shown[0].split(",")
    row = next(dict(zip(columns, line.split(","), strict=True)) for line in shown if "rates-0001" in line)
    assert row["optimizer.lr"] == "0.03"
    assert row["model.dropout"] == "0.2"
    assert float(row["validation_accuracy"]) == pytest.approx(trials(project, "rates")[1].value)
    assert row["test_accuracy"] == ""

    project.ok("git", "stash")
    project.ok("dvc", "exp", "apply", "rates-0001")
    project.ok("dvc", "repro")
    own = project.path / "studies/rates/1"
    assert (project.path / "reports/validation.json").read_bytes() == (own / "validation.json").read_bytes()
    assert (project.path / "models/model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert project.json("reports/test.json")["test_accuracy"] > 0.5
    assert project.yaml("params.yaml")["seed"] == trials(project, "rates")[1].user_attrs["result"]["seed"]


def test_a_half_trained_trial_goes_on_from_its_last_epoch(clone):
    project, whole = clone(), clone()
    words = (*TRAIN, "optimizer.lr=0.01", "model.dropout=0.2", "trainer.epochs=60", study_name("long"))
    process = subprocess.Popen(
        words, cwd=project.path, env=project.variables, stdout=subprocess.DEVNULL, start_new_session=True
    )
    project.until(lambda: len(project.progress().get("history", ())) >= 5 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(project.progress()["history"]) < 60, "it ended before it could be killed"
    assert [trial.state.name for trial in trials(project, "long")] == ["RUNNING"]
    project.ok(*words)
    whole.ok(*words)
    [trial], [beside] = trials(project, "long"), trials(whole, "long")
    assert trial.intermediate_values == beside.intermediate_values
    assert sorted(trial.intermediate_values) == list(range(1, 61))
    files = ("studies/long/0/model.safetensors", "studies/long/0/validation.json", "studies/long/0/params.yaml")
    assert project.content(*files) == whole.content(*files)


def test_folds_and_repeats_are_kept_on_the_trial_and_may_end_it(clone):
    project = clone()
    words = ("validation=kfold", "validation.k=3", "trainer.epochs=2", "trainer.repeats=2", study_name("folds"))
    project.ok(*TRAIN, "optimizer.lr=0.02,0.01,1e-6,0.012", *words, "hydra/sweeper/pruner=successive_halving")
    done = trials(project, "folds")
    assert [outcome(trial) for trial in done][:3] == ["complete", "pruned", "pruned"]
    scores = done[0].user_attrs["result"]["scores"]
    assert len(scores) == 6
    assert list(done[0].intermediate_values.values()) == scores
    assert done[0].value == pytest.approx(sum(scores) / 6)
    assert len(done[2].intermediate_values) < 6
    assert project.json("studies/folds/0/validation.json")["validation_accuracy"] == pytest.approx(done[0].value)


def test_several_objectives_give_a_front_and_the_switch_leaves_dvc_alone(clone):
    project = clone()
    project.ok(
        *TRAIN,
        "model.hidden=[4],[32]",
        "trainer.epochs=2",
        "hydra.sweeper.objective=[accuracy,parameters,latency_ms]",
        "hydra.sweeper.dvc=false",
        study_name("front"),
    )
    small, large = trials(project, "front")
    assert small.values[1] == 64 * 4 + 4 + 4 * 10 + 10
    assert large.values[1] == 64 * 32 + 32 + 32 * 10 + 10
    assert all(trial.values[2] > 0 for trial in (small, large))
    assert project.yaml("studies/front/optimization_results.yaml")["solutions"]
    assert project.ok("dvc", "exp", "list", "--name-only").out == ""
    assert "several objectives" in project.fails("python", "src/promote.py", "front")


def test_an_edit_of_the_menu_in_mid_sweep_reaches_no_trial(clone):
    project = clone()
    words = (*TRAIN, "optimizer.lr=0.01,0.02,0.03", "trainer.epochs=40", study_name("edited"))
    process = project.start(*words)
    project.until(lambda: (project.path / "studies/edited/0/params.yaml").exists() or process.poll() is not None)
    project.edit("conf/optimizer/adam.yaml", "betas: [0.9, 0.999]", "betas: [0.5, 0.5]")
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    for number in range(3):
        optimizer = project.json(f"studies/edited/{number}/model.json")["configuration"]["optimizer"]
        assert optimizer["betas"] == [0.9, 0.999]
        assert "betas" not in project.yaml(f"studies/edited/{number}/params.yaml")["optimizer"]
    told = project.fails(*words)
    assert "configuration: optimizer.betas was [0.9, 0.999] and is [0.5, 0.5]" in told
    assert "hydra.sweeper.resume=force" in told
