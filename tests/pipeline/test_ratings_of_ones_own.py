"""Ratings of one's own, from a table to lists of items, by the commands of a user."""

import csv

import numpy as np
import pytest
import torch

from hypermap.core.ids import packed
from support.own_ratings import interactions, write_ratings

DATA = ("data.path=ratings.csv", "evaluation.bootstrap_repeats=100")
RATING = (*DATA, "model.width=4", "model.members=2", "optimizer.lr=0.03", "trainer.batch_size=32")
RANKING = (*DATA, "data.k=5", "model=two_towers", "model.width=8", "optimizer.lr=0.03", "trainer.batch_size=32")


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_ratings(own.path / "ratings.csv")
    return own


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_ratings_are_learned_predicted_and_exported(project):
    project.ok("python", "src/order.py", "ratings", *RATING)
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    tested, others = project.json("reports/test.json"), project.json("reports/baselines.json")
    assert tested["test_rmse"] < 0.8 * others["dummy"]["test"]["rmse"]
    assert {"test_accuracy", "test_precision", "test_recall", "test_f1"} <= set(tested)
    report = (project.path / "reports/report.md").read_text()
    assert "| both known |" in report
    assert "rating_means" in report
    assert "user u" in report
    pairs = [("u0", "100"), ("u0", "101"), ("stranger", "100"), ("u0", "nothing")]
    write_ratings(project.path / "new.csv", pairs, ("userId", "movieId"))
    project.ok("python", "src/predict.py", "input=new.csv", "output=out.csv")
    found = rows(project.path / "out.csv")
    assert [(row["user"], row["item"]) for row in found] == pairs
    predicted = [float(row["prediction"]) for row in found]
    assert predicted[0] > predicted[1] + 1
    assert all(0.5 <= value <= 5 for value in predicted)
    project.ok("python", "src/export.py")
    program = torch.export.load(project.path / "exported/model.pt2").module()
    width = project.json("exported/program.json")["input"]["shape"][2]
    ids = np.full((4, 3, width), -1)
    for column in (0, 1):
        ids[:, column] = packed([pair[column] for pair in pairs], width)
    np.testing.assert_allclose(program(torch.from_numpy(ids)).numpy(), predicted, rtol=1e-4)


def test_items_are_ranked_listed_and_exported(project):
    project.ok("python", "src/order.py", "ratings_ranking", *RANKING)
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    tested, others = project.json("reports/test.json"), project.json("reports/baselines.json")
    assert set(others) == {"popularity", "ease"}
    assert tested["test_ndcg"] > others["popularity"]["test"]["ndcg"]
    report = (project.path / "reports/report.md").read_text()
    assert "**Test ndcg " in report
    assert "## Recommendations" in report
    write_ratings(project.path / "users.csv", [("u0",), ("u1",), ("u0",), ("stranger",)], ("userId",))
    project.ok("python", "src/predict.py", "input=users.csv", "output=out.csv")
    found = rows(project.path / "out.csv")
    assert [row["user"] for row in found] == ["u0", "u1", "stranger"]
    lists = [[row[f"prediction_{k}"] for k in range(1, 6)] for row in found]
    before = {str(item) for user, item, *_ in interactions() if user == "u0"}
    assert len(set(lists[0]) & before) <= 2  # those held out may be listed
    assert np.mean([int(item) % 2 == 0 for item in lists[0]]) > 0.5
    project.ok("python", "src/export.py")
    project.ok("dvc", "exp", "show", "--json")


def test_a_killed_run_goes_on_to_the_same_model(project):
    words = ("python", "src/train.py", "experiment=ratings_ranking", *RANKING, "trainer.epochs=15", "trainer.threads=1")
    project.killed(*words, "hydra.run.dir=outputs/killed", epoch=3)
    project.ok(*words, "hydra.run.dir=outputs/killed")
    project.ok(*words, "hydra.run.dir=outputs/whole")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_search_prunes_and_validates_on_folds(project):
    project.ok(
        "python", "src/train.py", "-m", "experiment=ratings_ranking", *DATA, "model=ranking_factors,two_towers",
        "loss=bpr", "data.k=5", "trainer.epochs=2", "validation=kfold", "validation.k=2", "+final=refit",
        "hydra.sweeper.study_name=rankings",
    )  # fmt: skip
    assert project.json("reports/studies/rankings/study.json")["trials"] == {"complete": 2}


def test_other_models_are_refused(project):
    words = ("python", "src/train.py", "experiment=ratings_ranking", *DATA)
    assert "take another" in project.fails(*words, "model=dummy")
    assert "loss is bpr, for items to rank" in project.fails(
        "python", "src/train.py", "experiment=ratings", *DATA, "loss=bpr"
    )
