"""Texts of one's own, from a table to predictions, by the commands of a user."""

import csv

import numpy as np
import pytest

from support.own_texts import BAD, GOOD, sentences, write_table

SMALL = ("data.path=train.csv", "data.target=class", "model.width=8", "evaluation.bootstrap_repeats=100")


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_table(own.path / "train.csv", 300)
    write_table(own.path / "new.csv", 40, seed=1)
    return own


def test_a_table_is_trained_on_and_another_predicted(project):
    project.ok("python", "src/order.py", "text", *SMALL, "optimizer.lr=0.02")
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    assert project.json("reports/test.json")["test_accuracy"] > 0.9
    assert set(project.json("reports/baselines.json")) == {"dummy", "tfidf_logistic"}
    report = (project.path / "reports/report.md").read_text()
    bad, good = report.split("| class | n-grams |")[1].splitlines()[2:4]
    assert any(f"`{word}`" in bad for word in BAD)
    assert any(f"`{word}`" in good for word in GOOD)
    assert "| tfidf_logistic |" in report
    assert (project.path / "reports/pictures/map.png").exists()
    project.ok("python", "src/predict.py", "input=new.csv", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(k) for k in range(1, 41)]
    assert np.mean([row["prediction"] == label for row, label in zip(rows, sentences(40, 1)[1], strict=True)]) > 0.9
    assert "no network behind it can be exported" in project.fails("python", "src/export.py")


def test_a_killed_run_goes_on_to_the_same_model(project):
    words = ("python", "src/train.py", "experiment=text", *SMALL, "trainer.epochs=40", "hydra.run.dir=outputs/killed")
    project.killed(*words, epoch=3)
    project.ok(*words)
    project.ok(*words[:-1], "hydra.run.dir=outputs/whole")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_search_over_networks_validates_each_on_folds(project):
    project.ok(
        "python", "src/train.py", "-m", "experiment=text", *SMALL[:2], "model=text_cnn,text_rnn,text_transformer",
        "validation=kfold", "validation.k=2", "trainer.epochs=1", "hydra.sweeper.study_name=texts",
    )  # fmt: skip
    assert project.json("reports/studies/texts/study.json")["trials"] == {"complete": 3}


def test_a_network_for_numbers_is_refused(project):
    told = project.fails("python", "src/train.py", "experiment=text", *SMALL[:2], "model=mlp")
    assert "model=mlp takes numbers, and the rows of this data are ids (int32)" in told
