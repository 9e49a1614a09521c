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


@pytest.fixture(scope="module")
def mixed(labelled):
    """The same once a run of two targets was."""
    target = {"price": "regression", "kind": "multiclass"}
    labelled.order(data=TABLE | {"target": target, "drop": list(LABELS)}, loss={"name": "joint", "alone": True})
    labelled.ok("dvc", "repro")
    return labelled


def predicted(project, **settings):
    project.ok("python", "src/predict.py", "input=test.csv", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        return list(csv.DictReader(file))


class TestLabels:
    def test_the_test_metrics_are_scikit_learns_of_what_is_predicted(self, labelled):
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

    def test_the_report_says_what_each_label_is_worth(self, labelled):
        report = (labelled.path / "reports/report.md").read_text()
        assert "from 3 columns to 3 labels" in report
        assert "picked for micro-F1 on the 80 validation rows" in report
        assert "| calm | " in report
        assert "| linear | " in report  # a baseline
        assert (labelled.path / "reports/pictures/labels.png").exists()
        assert not (labelled.path / "reports/pictures/confusion.png").exists()
        thresholds = labelled.json("models/model.json")["tuned"]["thresholds"]
        assert len(thresholds) == 3

    def test_a_killed_run_goes_on_to_the_same_model(self, labelled):
        words = ("python", "src/train.py", "trainer.epochs=400", "hydra.run.dir=outputs/killed")
        labelled.killed(*words, epoch=5)
        labelled.ok(*words)
        labelled.ok(*words[:-1], "hydra.run.dir=outputs/whole")
        killed, whole = (labelled.path / f"outputs/{name}/model.safetensors" for name in ("killed", "whole"))
        assert killed.read_bytes() == whole.read_bytes()

    def test_folds_and_the_exported_program(self, labelled):
        told = labelled.ok(
            "python", "src/train.py", "validation=kfold", "validation.k=3", "hydra.run.dir=outputs/folds"
        )
        assert "Validation average_precision" in told.out
        assert "mean of 3 trainings" in told.out
        labelled.ok("python", "src/export.py")
        program = torch.export.load(labelled.path / "exported/model.pt2").module()
        given = program(torch.tensor(rows(200, 1).select("x0", "x1", "x2").to_numpy())).numpy()
        shares = [[float(row[f"probability_{name}"]) for name in LABELS] for row in predicted(labelled)]
        np.testing.assert_allclose(given[:, :3], shares, rtol=1e-5)
        assert "`(rows, 6)` of: calm, loud, old" in (labelled.path / "exported/README.md").read_text()

    def test_a_sweep_of_labels(self, labelled):
        labelled.ok(
            "python", "src/train.py", "-m", "optimizer.lr=tag(log,interval(0.003,0.1))", "hydra.sweeper.n_trials=4",
            "hydra.sweeper.study_name=labels", "hydra.sweeper.stack=2", "hydra.sweeper.objective=[micro_f1]",
        )  # fmt: skip
        assert "Best micro_f1" in (labelled.path / "reports/studies/labels/report.md").read_text()


class TestTargetsOfSeveralKinds:
    def test_the_test_metrics_are_scikit_learns_of_what_is_predicted(self, mixed):
        table, tested, frame = predicted(mixed), mixed.json("reports/test.json"), rows(200, 1)
        values = [float(row["prediction_price"]) for row in table]
        assert tested["test_price_r2"] == pytest.approx(sk.r2_score(frame["price"], values))
        right = np.mean([row["prediction_kind"] == kind for row, kind in zip(table, frame["kind"], strict=True)])
        assert tested["test_kind_accuracy"] == pytest.approx(right)
        assert tested["test_mean_score"] == pytest.approx((tested["test_price_r2"] + right) / 2)
        assert tested["test_price_r2"] > 0.4
        assert right > 0.5

    def test_the_report_tells_whether_sharing_paid(self, mixed):
        report = (mixed.path / "reports/report.md").read_text()
        assert "from 3 columns to 2 targets" in report
        assert "the mean of `price_r2` and `kind_accuracy`" in report
        assert "The losses' weights: price " in report
        *_, line = [line for line in report.splitlines() if line.startswith("| `price_r2` | ")]
        together, alone, difference = (float(cell) for cell in line.split("|")[2:5])
        assert together == pytest.approx(mixed.json("reports/test.json")["test_price_r2"], abs=1e-4)
        assert difference == pytest.approx(together - alone, abs=2e-4)
        assert "Alone is a network for each target" in report
        assert (mixed.path / "reports/pictures/target_2.png").exists()
        assert not (mixed.path / "reports/pictures/labels.png").exists()

    def test_a_network_alone_learns_its_target_and_not_the_other(self, mixed):
        scores = [mixed.json(f"models/alone/{number}/validation.json") for number in (1, 2)]
        assert scores[0]["validation_price_r2"] > 0.4 > scores[1]["validation_price_r2"]
        assert scores[1]["validation_kind_accuracy"] > 0.5

    def test_a_sweep_by_the_score_of_one_of_them(self, mixed):
        mixed.ok(
            "python", "src/train.py", "-m", "optimizer.lr=tag(log,interval(0.003,0.1))", "hydra.sweeper.n_trials=4",
            "hydra.sweeper.study_name=mixed", "hydra.sweeper.stack=2", "hydra.sweeper.objective=[price_r2]",
        )  # fmt: skip
        assert "Best price_r2" in (mixed.path / "reports/studies/mixed/report.md").read_text()

    def test_without_its_networks_alone_it_says_how_to_get_them(self, mixed):
        mixed.order(loss={"name": "joint", "alone": False})
        mixed.ok("dvc", "repro")
        assert "`loss=joint loss.alone=true` also trains" in (mixed.path / "reports/report.md").read_text()
        assert not (mixed.path / "models/alone").exists()

    def test_an_exported_program_gives_what_predicting_gives(self, mixed):
        mixed.ok("python", "src/export.py")
        program = torch.export.load(mixed.path / "exported/model.pt2").module()
        given = program(torch.tensor(rows(200, 1).select("x0", "x1", "x2").to_numpy())).numpy()
        values = [float(row["prediction_price"]) for row in predicted(mixed)]
        np.testing.assert_allclose(given[:, 0], values, rtol=1e-5)
