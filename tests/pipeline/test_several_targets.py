"""Tables of several targets through every command: labels, and targets of several kinds."""

import csv

import numpy as np
import polars as pl
import pytest
import torch
from sklearn import metrics as sk

LABELS = ("calm", "loud", "old")
TABLE = {"name": "table", "path": "train.csv", "test_path": "test.csv", "test": None, "quote": '"'}
TRAINER = {"name": "default", "epochs": 12, "batch_size": 64}


def rows(count, seed):
    """Three numbers, of which the targets are functions with some noise."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, 3))
    noisy = inputs + 0.5 * generator.normal(size=(count, 3))
    return pl.DataFrame(
        {
            **{f"x{k}": inputs[:, k] for k in range(3)},
            **{name: (noisy[:, k] > 0.3 * k).astype(int) for k, name in enumerate(LABELS)},
            "price": np.round(100 + 20 * noisy[:, 0] - 10 * noisy[:, 1], 3),
            "kind": np.array(["low", "middle", "high"])[np.digitize(noisy[:, 2], [-0.5, 0.5])],
        }
    )


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    rows(400, 0).write_csv(own.path / "train.csv")
    rows(200, 1).write_csv(own.path / "test.csv")
    own.order(trainer=TRAINER, evaluation={"bootstrap_repeats": 100, "map": "none", "baselines": ["dummy", "linear"]})
    return own


@pytest.fixture(scope="module")
def labelled(project):
    """The project once a run of labels was committed."""
    project.order(data=TABLE | {"target": list(LABELS), "drop": ["price", "kind"]})
    project.ok("dvc", "repro")
    return project


def predicted(project, **settings):
    project.ok("python", "src/predict.py", "input=test.csv", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        return list(csv.DictReader(file))


class TestLabels:
    def test_a_run_is_tested_reported_on_and_exported(self, labelled):
        table, tested = predicted(labelled), labelled.json("reports/test.json")
        decided = np.array([[name in row["prediction"].split("; ") for name in LABELS] for row in table])
        shares = np.array([[float(row[f"probability_{name}"]) for name in LABELS] for row in table])
        actual = rows(200, 1).select(LABELS).to_numpy()
        assert tested["test_micro_f1"] == pytest.approx(sk.f1_score(actual, decided, average="micro"))
        assert tested["test_subset_accuracy"] == pytest.approx(sk.accuracy_score(actual, decided))
        expected = sk.average_precision_score(actual, shares, average="macro")
        assert tested["test_average_precision"] == pytest.approx(expected)
        assert tested["test_micro_f1"] > 0.75
        low, high = labelled.json("reports/intervals.json")["test"]["micro_f1"]
        assert low < tested["test_micro_f1"] < high

        report = (labelled.path / "reports/report.md").read_text()
        assert "from 3 columns to 3 labels" in report
        assert "picked for micro-F1 on the 80 validation rows" in report
        assert "| calm | " in report
        assert "| linear | " in report  # a baseline
        assert (labelled.path / "reports/pictures/labels.png").exists()
        assert not (labelled.path / "reports/pictures/confusion.png").exists()
        assert len(labelled.json("models/model.json")["tuned"]["thresholds"]) == 3

        labelled.ok("python", "src/export.py")
        program = torch.export.load(labelled.path / "exported/model.pt2").module()
        given = program(torch.tensor(rows(200, 1).select("x0", "x1", "x2").to_numpy())).numpy()
        np.testing.assert_allclose(given, np.hstack([shares, decided]), rtol=1e-5)
        assert "`(rows, 6)` of: calm, loud, old" in (labelled.path / "exported/README.md").read_text()

    def test_folds_a_kill_and_a_sweep(self, labelled):
        train = ("python", "src/train.py")
        told = labelled.ok(*train, "validation=kfold", "validation.k=3", "hydra.run.dir=outputs/folds").out
        assert "Validation average_precision" in told
        assert "mean of 3 trainings" in told

        labelled.killed(*train, "trainer.epochs=120", "hydra.run.dir=outputs/killed", epoch=5)
        for name in ("killed", "whole"):
            labelled.ok(*train, "trainer.epochs=120", f"hydra.run.dir=outputs/{name}")
        killed, whole = (labelled.path / f"outputs/{name}/model.safetensors" for name in ("killed", "whole"))
        assert killed.read_bytes() == whole.read_bytes()

        labelled.ok(
            *train, "-m", "optimizer.lr=tag(log,interval(0.003,0.1))", "hydra.sweeper.n_trials=4",
            "hydra.sweeper.study_name=labels", "hydra.sweeper.stack=2", "hydra.sweeper.objective=[micro_f1]",
        )  # fmt: skip
        assert "Best micro_f1" in (labelled.path / "reports/studies/labels/report.md").read_text()


def test_targets_of_several_kinds(labelled):
    target = {"price": "regression", "kind": "multiclass"}
    labelled.order(data=TABLE | {"target": target, "drop": list(LABELS)}, loss={"name": "joint", "alone": True})
    labelled.ok("dvc", "repro")
    table, tested, frame = predicted(labelled), labelled.json("reports/test.json"), rows(200, 1)
    values = [float(row["prediction_price"]) for row in table]
    assert tested["test_price_r2"] == pytest.approx(sk.r2_score(frame["price"], values))
    right = np.mean([row["prediction_kind"] == kind for row, kind in zip(table, frame["kind"], strict=True)])
    assert tested["test_kind_accuracy"] == pytest.approx(right)
    assert tested["test_mean_score"] == pytest.approx((tested["test_price_r2"] + right) / 2)
    assert tested["test_price_r2"] > 0.4
    assert right > 0.5

    report = (labelled.path / "reports/report.md").read_text()
    assert "from 3 columns to 2 targets" in report
    assert "the mean of `price_r2` and `kind_accuracy`" in report
    assert "The losses' weights: price " in report
    *_, line = [line for line in report.splitlines() if line.startswith("| `price_r2` | ")]
    together, alone, difference = (float(cell) for cell in line.split("|")[2:5])
    assert together == pytest.approx(tested["test_price_r2"], abs=1e-4)
    assert difference == pytest.approx(together - alone, abs=2e-4)
    assert "Alone is a network for each target" in report
    assert (labelled.path / "reports/pictures/target_2.png").exists()
    assert not (labelled.path / "reports/pictures/labels.png").exists()

    price, kind = (labelled.json(f"models/alone/{number}/validation.json") for number in (1, 2))
    assert price["validation_price_r2"] > 0.4 > kind["validation_price_r2"]
    assert kind["validation_kind_accuracy"] > 0.5

    labelled.ok("python", "src/export.py")
    program = torch.export.load(labelled.path / "exported/model.pt2").module()
    given = program(torch.tensor(frame.select("x0", "x1", "x2").to_numpy())).numpy()
    np.testing.assert_allclose(given[:, 0], values, rtol=1e-5)

    labelled.ok(
        "python", "src/train.py", "-m", "optimizer.lr=tag(log,interval(0.003,0.1))", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.study_name=mixed", "hydra.sweeper.stack=2", "hydra.sweeper.objective=[price_r2]",
    )  # fmt: skip
    assert "Best price_r2" in (labelled.path / "reports/studies/mixed/report.md").read_text()

    labelled.order(loss={"name": "joint", "alone": False})
    labelled.ok("dvc", "repro")
    assert "`loss=joint loss.alone=true` also trains" in (labelled.path / "reports/report.md").read_text()
    assert not (labelled.path / "models/alone").exists()
