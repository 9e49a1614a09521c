"""Data of another kind, by classes of one's own: through every command, without a line of the package changed."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

OWN = Path(__file__).parents[1] / "support/own/my_pairs.py"
MODEL = "_target_: my_pairs.Bag\nwidth: 16\n"
DATA = "_target_: my_pairs.read\npath: pairs.csv\ntest: 0.2\nvalidation: 0.2\nsplit_seed: 0\n"
LOSS = "_target_: my_pairs.AbsoluteError\n"


def words(rows, seed=0):
    return np.random.default_rng(seed).integers(1000, 1040, (rows, 6))


def targets(rows):
    """Two numbers that follow from the words."""
    return np.stack([(rows % 5).mean(1), 100 * (rows % 7).mean(1)], 1)


@pytest.fixture(scope="module")
def project(clone):
    """A clone with the five parts, their choice files and a data set, run once."""
    own = clone()
    shutil.copy(OWN, own.path / "src")
    for group, text in (("model", MODEL), ("data", DATA), ("loss", LOSS)):
        (own.path / f"conf/{group}/mine.yaml").write_text(text)
    rows = words(600)
    np.savetxt(own.path / "pairs.csv", np.hstack([rows, targets(rows)]), delimiter=",", fmt="%.6g")
    evaluation = {"bootstrap_repeats": 100, "map": "pca"}
    own.order(data="mine", model="mine", loss="mine", evaluation=evaluation, trainer={"name": "default", "epochs": 20})
    own.ok("dvc", "repro")
    own.ok("git", "add", "--all")
    own.ok("git", "commit", "--quiet", "--message", "Pairs")
    return own


def test_it_is_trained_evaluated_and_reported_on(project):
    tested, intervals = project.json("reports/test.json"), project.json("reports/intervals.json")
    assert set(tested) == {"test_within", "test_absolute_error"}
    low, high = intervals["test"]["absolute_error"]
    assert low < tested["test_absolute_error"] < high
    dummy = np.abs(targets(words(600)) - np.median(targets(words(600)), 0)).mean()
    assert tested["test_absolute_error"] < 0.7 * dummy
    report = (project.path / "reports/report.md").read_text()
    assert "**Test within " in report
    assert "`absolute_error` (lower is better)" in report
    assert "`my_pairs.TwoNumbers`" in report
    assert "`my_pairs.Vocabulary`" in report
    assert "share within a tenth" in report
    assert "## Learning curves" in report
    assert project.json("data/prepared/manifest.json")["extras"] == {"vocabulary_size": 41}
    assert project.ok("dvc", "repro").stages == ["compose"]


def test_loss_auto_is_the_tasks_own(project):
    project.ok("python", "src/train.py", "loss=auto", "hydra.run.dir=outputs/auto")
    ours, auto = ((project.path / folder / "model.safetensors").read_bytes() for folder in ("models", "outputs/auto"))
    assert ours == auto


def test_folds_and_repeats(project):
    told = project.ok(
        "python",
        "src/train.py",
        "validation=kfold",
        "validation.k=3",
        "trainer.repeats=2",
        "hydra.run.dir=outputs/folds",
    ).out
    assert "mean of 6 trainings" in told
    with (project.path / "outputs/folds/scores.csv").open() as file:
        scores = [float(row["within"]) for row in csv.DictReader(file)]
    validated = project.json("outputs/folds/validation.json")
    assert validated["validation_within"] == pytest.approx(np.mean(scores))


def test_a_killed_run_goes_on_to_the_same_model(project):
    words = ("python", "src/train.py", "trainer.epochs=100", "hydra.run.dir=outputs/killed")
    project.killed(*words, epoch=5)
    project.ok(*words)
    project.ok(*words[:-1], "hydra.run.dir=outputs/whole")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_sweep_prunes_stacks_and_its_best_trial_is_applied(project):
    project.ok(
        "python", "src/train.py", "-m", "optimizer.lr=choice(1e-9,0.05,0.1,0.2)", "hydra/sweeper/sampler=random_grid",
        "hydra.sweeper.study_name=pairs", "hydra.sweeper.n_trials=4", "hydra.sweeper.stack=4",
        "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.02", "hydra.sweeper.pruner.n_warmup_steps=15",
    )  # fmt: skip
    study = project.json("reports/studies/pairs/study.json")
    assert study["trials"] == {"complete": 3, "pruned": 1}  # it learns nothing by a rate of 1e-9
    assert '"stacked":4' in (project.path / "studies/pairs/journal.log").read_text()
    assert "within" in (project.path / "reports/studies/pairs/report.md").read_text()
    names = json.loads(project.ok("dvc", "exp", "show", "--json").out)
    experiments = [one["name"] for row in names for one in row["experiments"] or []]
    assert len(experiments) == study["trials"]["complete"]
    project.ok("dvc", "exp", "apply", experiments[0])
    assert "train" in project.ok("dvc", "repro", "train").stages
    project.ok("git", "checkout", "--", ".")
    project.ok("dvc", "checkout")


def test_it_predicts_from_a_file_what_the_program_gives_that_it_exports(project):
    rows = np.vstack([words(50, seed=1), np.full((1, 6), 7)])  # the last of words that nobody has seen
    np.savetxt(project.path / "new.csv", rows, delimiter=",", fmt="%d")
    project.ok("python", "src/predict.py", "input=new.csv", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        predicted = [[float(row["prediction_1"]), float(row["prediction_2"])] for row in csv.DictReader(file)]
    assert len(predicted) == 51
    error = np.abs(np.array(predicted)[:50] - targets(rows[:50])).mean(0)
    assert error[0] < 0.6
    assert error[1] < 60
    project.ok("python", "src/export.py")
    program = torch.export.load(project.path / "exported/model.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(rows)).numpy(), predicted, rtol=1e-5)


def test_a_model_of_scikit_learn_is_refused(project):
    told = project.fails("python", "src/train.py", "model=random_forest")
    assert "predicts a class or a number; the task is my_pairs.TwoNumbers: take a network." in told


def test_an_edit_of_the_task_trains_again(project):
    project.append("src/my_pairs.py", "\nNOTHING = 0\n")
    assert {"preprocess", "train", "evaluate"} <= set(project.ok("dvc", "repro").stages)
