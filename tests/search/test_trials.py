"""Trials of the project's own training: killed and taken up, repeated by DVC, over folds, with several objectives."""

import json
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
    shadow = project.path / "random.py"  # workers are begun as `python -m …`, which looks here first
    shadow.write_text("raise RuntimeError('not the standard one')\n")
    before = project.ok("git", "status", "--porcelain").out
    several = ("optimizer.lr=0.01,0.03", "model.dropout=0.2", study_name("rates"), "hydra.sweeper.n_jobs=2")
    started = {"PATH": project.variables["PATH"]}  # a fork has the standard one already
    assert project.ok(*TRAIN, *several, **started).err == ""  # nor is anything said to be leaked
    assert project.ok("git", "status", "--porcelain").out == before
    shadow.unlink()

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
    project.ok("dvc", "repro", "train")
    own = project.path / "studies/rates/1"
    assert (project.path / "reports/validation.json").read_bytes() == (own / "validation.json").read_bytes()
    assert (project.path / "models/model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert project.yaml("params.yaml")["seed"] == trials(project, "rates")[1].user_attrs["result"]["seed"]


def test_a_half_trained_trial_goes_on_from_its_last_epoch(clone):
    project, whole = clone(), clone()
    words = (*TRAIN, "optimizer.lr=0.01", "model.dropout=0.2", "trainer.epochs=60", study_name("long"))
    process = subprocess.Popen(
        words,
        cwd=project.path,
        env=project.variables | project.forking,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
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
    process = project.start(*words, **project.forking)
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


# A budget: most trials are paused, and the best are taken up again.


def was_paused(project, study):
    """The trials that were once paused, by number."""
    lines = (project.path / f"studies/{study}/journal.log").read_text().splitlines()
    noted = [line for line in map(json.loads, lines) if line.get("user_attr", {}).get("schedule", {}).get("paused")]
    return {line["trial_id"] for line in noted}  # the journal holds one study


def within_budget(project, study, reports):
    """A search that came to its budget has reported so often, and left nothing to go on from."""
    done = trials(project, study)
    assert {outcome(trial) for trial in done} <= {"complete", "pruned"}
    assert sum(len(trial.intermediate_values) for trial in done) == reports
    assert sum(outcome(trial) == "complete" for trial in done) >= 3
    assert list(project.path.glob(f"studies/{study}/*/state")) == []
    assert project.progress() == {}
    return done


def test_a_paused_trial_that_is_taken_up_after_a_kill_comes_to_the_bits_of_one_that_was_not(clone):
    project = clone()
    search = ("optimizer.lr=tag(log,interval(0.002,0.05))", "model.dropout=interval(0.05,0.3)", "trainer.epochs=4")
    words = (*TRAIN, *search, "hydra.sweeper.budget=8", study_name("budget"))
    journal = project.path / "studies/budget/journal.log"
    process = subprocess.Popen(
        words,
        cwd=project.path,
        env=project.variables | project.forking,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    project.until(lambda: (journal.exists() and b'"paused":true' in journal.read_bytes()) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "paused" in {outcome(trial) for trial in trials(project, "budget")}
    assert list(project.path.glob("studies/budget/*/state/*/progress.json"))
    out = project.ok(*words).out
    assert "8 of 8 trainings" in out
    done = within_budget(project, "budget", 8 * 4)
    assert done[0].params == {"optimizer.lr": 0.01, "model.dropout": 0.05}, "the baseline, as near as the space has it"
    listed = project.ok("dvc", "exp", "list", "--name-only").out.split()
    assert sorted(listed) == [f"budget-{trial.number:04d}" for trial in done if outcome(trial) == "complete"]

    number = min(t.number for t in done if outcome(t) == "complete" and t._trial_id in was_paused(project, "budget"))
    project.ok("dvc", "exp", "apply", f"budget-{number:04d}")
    project.ok("dvc", "repro", "train")
    own = project.path / f"studies/budget/{number}"
    assert (project.path / "reports/validation.json").read_bytes() == (own / "validation.json").read_bytes()
    assert (project.path / "models/model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()

    # Folds are steps, and an earlier study says where to begin.
    complete = [trial for trial in done if outcome(trial) == "complete"]
    best = sorted(complete, key=lambda t: -t.intermediate_values[3] - t.intermediate_values[4])  # the second half
    folds = ("validation=kfold", "validation.k=3", "trainer.epochs=2", "hydra.sweeper.prior=[budget]")
    project.ok(*TRAIN, *search[:2], *folds, "hydra.sweeper.budget=8", study_name("folds"))
    done = within_budget(project, "folds", 8 * 3)
    assert done[1].params == best[0].params
    for trial in done:
        scores = list(trial.intermediate_values.values())
        if outcome(trial) == "complete":
            assert trial.user_attrs["result"]["scores"] == scores
            assert trial.value == pytest.approx(sum(scores) / 3)


def test_networks_and_models_of_scikit_learn_share_a_budget(clone):
    project = clone()
    rows = [f"{k % 9},{'ab'[k % 5 > 1]},{k * k % 7},{('no', 'yes')[k % 3 == 0]}" for k in range(120)]
    (project.path / "my.csv").write_text("\n".join(["x,word,z,y", *rows]) + "\n")
    table = ("data=table", "data.path=my.csv", "data.target=y", "trainer.epochs=2")
    choices = ("+space=default", "model=mlp,random_forest")
    project.ok(*TRAIN, *table, *choices, "hydra.sweeper.budget=5", study_name("models"))
    done = trials(project, "models")
    assert {trial.params["model"] for trial in done} == {"mlp", "random_forest"}
    assert {outcome(trial) for trial in done} <= {"complete", "pruned"}
    spent = sum(1.0 if t.params["model"] == "random_forest" else len(t.intermediate_values) / 2 for t in done)
    assert 4.0 < spent <= 5.0
    assert list(project.path.glob("studies/models/*/state")) == []
