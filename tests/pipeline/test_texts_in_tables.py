"""Texts beside other columns of a table, by the commands of a user."""

import csv

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score

from hypermap.data.prepared import load_raw
from hypermap.training.artifacts import read_trained
from support.own_texts import sentences

TABLE = {"name": "table", "path": "train.csv", "target": "price", "text": ["advert", "remark"]}
TRAINER = {"name": "default", "epochs": 12, "batch_size": 32}
TRAIN = ("python", "src/train.py")


def rows(count, seed):
    """A price that depends on the area, and on a word of the advert."""
    draw = np.random.default_rng(seed)
    adverts, classes = sentences(count, seed)
    area = draw.uniform(30, 200, count).round(1)
    price = area + 100 * (np.array(classes) == "good") + draw.normal(size=count)
    remarks = [None if k % 3 else f"see no {k % 7} 🌷" for k in range(count)]
    return pl.DataFrame({"area": area, "advert": adverts, "remark": remarks, "price": price.round(2)})


@pytest.fixture(scope="module")
def project(clone):
    """A project once a run with texts, and without, was reported on."""
    own = clone()
    rows(400, 0).write_csv(own.path / "train.csv")
    rows(100, 1).write_csv(own.path / "new.csv")
    own.order(
        data=TABLE | {"text_gain": True, "text_components": 8},
        model={"name": "mlp", "hidden": [32]},
        trainer=TRAINER,
        evaluation={"bootstrap_repeats": 100, "map": "none", "baselines": ["dummy", "linear"]},
    )
    own.ok("dvc", "repro")
    return own


def predicted(project, *words):
    project.ok("python", "src/predict.py", "output=out.csv", *words)
    with (project.path / "out.csv").open() as file:
        return np.array([float(row["prediction"]) for row in csv.DictReader(file)])


def test_what_the_texts_gained_is_reported(project):
    tested, report = project.json("reports/test.json"), (project.path / "reports/report.md").read_text()
    section = report.split("## What the text gained")[1].split("##")[0]
    assert "| metric | with `advert` and `remark` | without | difference | 95 % interval |" in section
    (line,) = [line for line in section.splitlines() if line.startswith("| `r2` | ")]
    with_texts, without, difference = (float(cell) for cell in line.split("|")[2:5])
    assert with_texts == pytest.approx(tested["test_r2"], abs=1e-4)
    assert difference == pytest.approx(with_texts - without, abs=2e-4)
    assert with_texts > 0.6 > without
    assert "**`advert` and `remark` gained something**: r2 +0." in section
    assert "from 3 columns to the number `price`" in report
    assert "| advert | text | 0 | free text | components |" in report
    assert "brought to 8 components at most" in report
    assert "| linear | " in report
    assert project.json("models/without_texts/validation.json")["validation_r2"] < 0.6


def test_the_model_beside_is_that_of_a_table_without_the_texts(project):
    """Bit for bit, and also where it predicts."""
    own = "{name: table, path: train.csv, target: price, drop: [advert, remark]}"
    project.ok(*TRAIN, f"data={own}", "hydra.run.dir=outputs/alone")
    alone, beside = (
        (project.path / folder / "model.safetensors").read_bytes()
        for folder in ("outputs/alone", "models/without_texts")
    )
    assert alone == beside
    expected = predicted(project, "input=new.csv", "model=outputs/alone")
    np.testing.assert_array_equal(predicted(project, "input=new.csv", "model=models/without_texts"), expected)


def test_predictions_of_a_file_are_those_of_the_same_rows_in_training(project):
    made = predicted(project, "input=new.csv")
    assert r2_score(rows(100, 1)["price"], made) > 0.6
    reordered = rows(100, 1).reverse().select("remark", "advert", "area")  # without a target
    reordered.write_parquet(project.path / "new.parquet")
    np.testing.assert_allclose(predicted(project, "input=new.parquet")[::-1], made, rtol=1e-6)
    test = load_raw(project.path / "data/prepared", "test")
    known = predicted(project, "input=train.csv")[test.rows.numpy() - 1]
    np.testing.assert_allclose(known, read_trained(project.path / "models").predict(test.inputs), rtol=1e-6)


def test_a_file_without_the_texts_is_refused_and_so_is_an_export(project):
    rows(10, 2).drop("advert").write_csv(project.path / "less.csv")
    told = project.fails("python", "src/predict.py", "input=less.csv", "output=out.csv")
    assert "column 'advert' is missing" in told
    told = project.fails("python", "src/export.py")
    assert "learned from texts ('advert', 'remark')" in told
    assert "python src/predict.py" in told


def test_folds_a_kill_and_other_models(project):
    told = project.ok(*TRAIN, "validation=kfold", "validation.k=2", "hydra.run.dir=outputs/folds").out
    assert "mean of 2 trainings" in told
    words = (*TRAIN, "trainer.epochs=120")
    project.killed(*words, "hydra.run.dir=outputs/killed", epoch=5)
    for name in ("killed", "whole"):
        project.ok(*words, f"hydra.run.dir=outputs/{name}")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole
    project.ok(*TRAIN, "model=gradient_boosting", "hydra.run.dir=outputs/trees")
    assert r2_score(rows(100, 1)["price"], predicted(project, "input=new.csv", "model=outputs/trees")) > 0.8


def test_a_search_over_how_texts_are_counted(project):
    project.ok(
        *TRAIN, "-m", "model=linear", "data.text_components=2,20", "data.text_ngrams=characters,words",
        "hydra.sweeper.study_name=texts",
    )  # fmt: skip
    assert project.json("reports/studies/texts/study.json")["trials"] == {"complete": 4}


def test_without_the_comparison_the_report_says_how_to_ask_for_it(project):
    project.order(data=TABLE)
    project.ok("dvc", "repro")
    assert "`data.text_gain=true` also trains the model without it" in (project.path / "reports/report.md").read_text()
    assert not (project.path / "models/without_texts").exists()


def test_a_text_that_is_left_out_is_told_with_what_to_say(project):
    err = project.ok(*TRAIN, "data={name: table, path: train.csv, target: price}", "hydra.run.dir=outputs/left").err
    assert "Free text is learned from when it is named: 'data.text=[advert" in err
