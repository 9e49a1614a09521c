"""Series of one's own, from a table to a forecast, by the commands of a user."""

import csv
import json

import numpy as np
import pytest
import torch

from support.own_series import rows_of, write_series

SMALL = (
    "data.path=series.csv", "data.time=when", "data.target=[load]", "data.lookback=48", "data.horizon=6",
    "data.test_steps=72", "data.validation_steps=72", "trainer.epochs=10", "evaluation.bootstrap_repeats=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_series(own.path / "series.csv", rows_of(600))
    return own


def train(project, name, *words):
    project.ok("python", "src/train.py", "experiment=series", *SMALL, *words, f"hydra.run.dir=outputs/{name}")
    return project.json(f"outputs/{name}/validation.json")


def test_a_series_is_learned_reported_on_and_forecast(project):
    project.ok("python", "src/order.py", "series", *SMALL, "data.quantiles=[0.1,0.5,0.9]")
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    test, beside = project.json("reports/test.json"), project.json("reports/baselines.json")
    assert set(beside) == {"last_value", "seasonal_naive", "drift"}
    assert test["test_mase"] < beside["seasonal_naive"]["test"]["mase"]
    assert 0.5 < test["test_coverage"] <= 1
    report = (project.path / "reports/report.md").read_text()
    for name in ("forecasts", "horizon", "autocorrelation"):
        assert f"pictures/{name}.png" in report
        assert (project.path / f"reports/pictures/{name}.png").exists()
    project.ok("python", "src/predict.py", "input=series.csv", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["time"] for row in rows] == [f"2024-01-26 {hour:02d}:00:00" for hour in range(6)]
    predicted = np.array([float(row["prediction_load_0.5"]) for row in rows])
    np.testing.assert_allclose(predicted, 50 + 10 * np.sin(2 * np.pi * np.arange(600, 606) / 24), atol=1.5)
    assert all(float(row["prediction_load_0.1"]) <= float(row["prediction_load_0.9"]) for row in rows)
    project.ok("python", "src/export.py")
    about = json.loads((project.path / "exported/program.json").read_text())
    assert torch.export.load(project.path / "exported/model.pt2").module()(
        torch.zeros(2, about["input"]["shape"][1])
    ).shape == (2, 18)
    write_series(project.path / "short.csv", rows_of(20))
    told = project.fails("python", "src/predict.py", "input=short.csv", "output=out.csv")
    assert "20 steps, and a forecast looks back on 48" in told


def test_noise_has_nothing_to_learn(project):
    rows, order = rows_of(600), np.random.default_rng(0).permutation(600)
    write_series(project.path / "shuffled.csv", [[rows[k][0], *rows[order[k]][1:]] for k in range(600)])
    assert train(project, "whole", "data.path=series.csv")["validation_r2"] > 0.9
    assert train(project, "noise", "data.path=shuffled.csv")["validation_r2"] < 0.05


def test_steps_through_time_and_the_model_of_all_rows(project):
    project.ok(
        "python", "src/train.py", "experiment=series", *SMALL, "validation=time_series", "validation.k=2",
        "final=refit", "hydra.run.dir=outputs/steps",
    )  # fmt: skip
    assert project.json("outputs/steps/validation.json")["validation_fits"] == 2
    assert project.json("outputs/steps/model.json")["final"] == "refit"


def test_a_killed_run_goes_on_to_the_same_model(project):
    small = ("trainer.epochs=8", "trainer.threads=1", "model=series_rnn", "model.units=4", "data.stride=4")
    words = ("python", "src/train.py", "experiment=series", *SMALL, *small)
    project.killed(*words, "hydra.run.dir=outputs/killed", epoch=2)
    project.ok(*words, "hydra.run.dir=outputs/killed")
    project.ok(*words, "hydra.run.dir=outputs/uninterrupted")
    killed, whole = (
        (project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "uninterrupted")
    )
    assert killed == whole


def test_a_search_stacks_linear_networks(project):
    project.ok(
        "python", "src/train.py", "-m", "experiment=series", *SMALL, "model=rlinear", "optimizer.lr=0.001,0.003,0.01",
        "trainer.epochs=2", "hydra.sweeper.stack=3", "trainer.backend=vmap", "hydra.sweeper.study_name=rates",
    )  # fmt: skip
    assert project.json("reports/studies/rates/study.json")["trials"] == {"complete": 3}
    assert '"stacked":3' in (project.path / "studies/rates/journal.log").read_text()


def test_what_a_network_cannot_be_is_said_in_a_sentence(project):
    words = ("python", "src/train.py", "experiment=series", *SMALL)
    assert "is fitted to numbers, and the rows of this data are windows" in project.fails(*words, "model=random_forest")
    assert "data.lookback=48 is shorter" in project.fails(*words, "model=sparse_linear", "model.fold=50")
