"""The test figures, beside scikit-learn's on the saved weights."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import torch
from safetensors.torch import load_file
from sklearn import metrics as sk
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load, load_raw
from hypermap.datasets import prepare
from hypermap.experiments.run import TrainingRequest, train
from hypermap.inference import evaluate as evaluation
from hypermap.models import MLP, baselines
from hypermap.training.artifacts import COLUMNS
from support.configurations import QUICK_MLP

pytestmark = pytest.mark.usefixtures("a_place_of_its_own")

DATASETS = {
    "digits": {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 500},
    "diabetes": {"_target_": "hypermap.datasets.images.diabetes", "test": 0.2, "scaling": "standard"},
    "breast_cancer": {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard"},
}
LOSSES = {"digits": "CrossEntropy", "diabetes": "MeanSquaredError", "breast_cancer": "BinaryCrossEntropy"}
OUTPUTS = {"digits": 10, "diabetes": 1, "breast_cancer": 1}
MODELS, BASELINES, REPORTS = Path("models"), Path("baselines"), Path("reports")
OTHERS = [
    {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"},
    {"name": "linear", "_target_": "hypermap.models.sklearn_models.Linear"},
]


def order(data):
    return {
        "data": {"name": data, **DATASETS[data]},
        **QUICK_MLP,
        "loss": {"name": "loss", "_target_": f"hypermap.tasks.losses.{LOSSES[data]}"},
        "trainer": {**QUICK_MLP["trainer"], "epochs": 2},
        "seed": 0,
        "evaluation": {"bootstrap_repeats": 200, "confidence": 0.9, "map": "pca"},
    }


@pytest.fixture
def runs(monkeypatch):
    """The runs handed to the report, which is tested elsewhere."""
    handed = []
    monkeypatch.setattr(evaluation, "write_report", lambda folder, run: handed.append((folder, run)))
    return handed


def trained(data, **groups):
    folder = Path("prepared", data)
    prepare.prepare_settings(folder, DATASETS[data])
    train(TrainingRequest(order(data) | groups, folder, MODELS, REPORTS / "validation.json"))
    baselines.fit({"models": OTHERS, "seed": 0, "threads": 1}, folder, BASELINES)
    return folder


def evaluate(data, folder, **groups):
    return evaluation.evaluate(order(data) | groups, folder, MODELS, BASELINES, REPORTS)


def outputs_of_saved_weights(data, folder, split="test"):
    """Outputs (rows, width) float64 over the temperature, and stored targets, scaled by the manifest's numbers."""
    stored = safetensors.numpy.load_file(folder / f"{split}.safetensors")
    manifest = Manifest.read(folder)
    shape = (-1, *[1] * (stored["inputs"].ndim - 2))
    shift, scale = (np.array(getattr(manifest, name)).reshape(shape) for name in ("shift", "scale"))
    inputs = torch.tensor((stored["inputs"] - shift) / scale, dtype=torch.float32)
    network = MLP(tuple(inputs.shape[1:]), OUTPUTS[data], hidden=[16])
    network.load_state_dict(load_file(MODELS / "model.safetensors"))
    network.eval()
    with torch.no_grad():
        outputs = network(inputs).double()
    tuned = json.loads((MODELS / "model.json").read_text())["tuned"]
    return outputs / tuned.get("temperature", 1), stored["targets"], manifest


def assert_figures(expected):
    given = json.loads((REPORTS / "test.json").read_text())
    for name, value in expected.items():
        assert given[f"test_{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert all(name.startswith("test_") for name in given)


def test_digits(runs):
    folder = trained("digits")
    figures = evaluate("digits", folder)
    outputs, targets, _ = outputs_of_saved_weights("digits", folder)
    probabilities = outputs.softmax(1).numpy()
    predicted = probabilities.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
        "precision": sk.precision_score(targets, predicted, average="macro", zero_division=0),
        "recall": sk.recall_score(targets, predicted, average="macro", zero_division=0),
        "f1": sk.f1_score(targets, predicted, average="macro", zero_division=0),
        "roc_auc": sk.roc_auc_score(targets, probabilities, multi_class="ovr"),
        "log_loss": sk.log_loss(targets, probabilities),
    }
    assert_figures(expected)
    assert len(targets) == 360
    assert {f"test_{name}": value for name, value in figures.items()} == json.loads((REPORTS / "test.json").read_text())
    ((told, run),) = runs
    assert told == REPORTS
    np.testing.assert_allclose(run.predictions, probabilities, atol=1e-5)
    np.testing.assert_array_equal(run.targets, targets)
    assert run.tuned["temperature"] != 1
    unscaled = (outputs * run.tuned["temperature"]).softmax(1).numpy()
    assert run.untuned["log_loss"] == pytest.approx(sk.log_loss(targets, unscaled), rel=1e-4)
    assert run.untuned["accuracy"] == run.test["accuracy"]
    assert run.parameters == 64 * 16 + 16 + 16 * 10 + 10


def test_breast_cancer(runs):
    folder = trained("breast_cancer")
    evaluate("breast_cancer", folder)
    outputs, targets, _ = outputs_of_saved_weights("breast_cancer", folder)
    positive = outputs[:, 0].sigmoid().numpy()
    assert_figures(
        {
            "accuracy": sk.accuracy_score(targets, positive > 0.5),
            "roc_auc": sk.roc_auc_score(targets, positive),
            "log_loss": sk.log_loss(targets, positive),
        }
    )
    ((_, run),) = runs
    np.testing.assert_allclose(run.predictions, np.stack([1 - positive, positive], 1), atol=1e-5)


def test_diabetes_in_the_targets_own_unit(runs):
    folder = trained("diabetes")
    evaluate("diabetes", folder)
    outputs, targets, manifest = outputs_of_saved_weights("diabetes", folder)
    predicted = outputs[:, 0].numpy() * manifest.target_scale + manifest.target_shift
    assert_figures(
        {
            "rmse": sk.root_mean_squared_error(targets, predicted),
            "mae": sk.mean_absolute_error(targets, predicted),
            "r2": sk.r2_score(targets, predicted),
        }
    )
    ((_, run),) = runs
    np.testing.assert_allclose(run.predictions, predicted, rtol=1e-4)
    np.testing.assert_allclose(run.targets, targets, rtol=1e-6)


def test_intervals_hold_their_figures_and_follow_the_confidence(runs):
    folder = trained("digits")
    figures = evaluate("digits", folder)
    written = json.loads((REPORTS / "intervals.json").read_text())
    assert written.keys() == {"validation", "test"}
    validation = json.loads((REPORTS / "validation.json").read_text())
    for name in ("accuracy", "log_loss", "f1"):
        low, high = written["test"][name]
        assert low < figures[name] < high
        low, high = written["validation"][name]
        assert low < validation[f"validation_{name}"] < high
    rows, accuracy = 360, figures["accuracy"]
    deviation = (accuracy * (1 - accuracy) / rows) ** 0.5
    low, high = written["test"]["accuracy"]
    assert high - low == pytest.approx(2 * 1.645 * deviation, rel=0.3)  # the normal approximation at 90 %


def test_what_the_report_is_given(runs):
    folder = trained("digits")
    evaluate("digits", folder)
    ((_, run),) = runs
    record = json.loads((MODELS / "model.json").read_text())
    validation = json.loads((REPORTS / "validation.json").read_text())
    stored = safetensors.numpy.load_file(folder / "test.safetensors")
    assert run.task == "classification"
    assert run.classes == tuple("0123456789")
    assert run.best_epoch == record["best_epoch"]
    assert run.environment == record["environment"]
    assert {f"validation_{name}": value for name, value in run.validation.items()} == validation
    assert [list(row) for row in run.history] == [list(COLUMNS)] * 2
    np.testing.assert_array_equal(run.inputs, stored["inputs"])  # as published, for the pictures
    np.testing.assert_array_equal(run.rows, stored["rows"])


def test_of_several_fits_the_report_is_given_the_means_beside_the_kept_models_own(runs):
    folder = trained("digits")
    evaluate("digits", folder)
    alone = (REPORTS / "test.json").read_bytes()
    trained("digits", validation={"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 3})
    evaluate("digits", folder)
    assert (REPORTS / "test.json").read_bytes() == alone  # the refit is the holdout's model
    (_, one), (_, several) = runs
    means = json.loads((REPORTS / "validation.json").read_text())
    assert one.fits == {}
    assert {f"validation_{name}": value for name, value in several.fits.items()} == means
    assert several.validation == {name: value for name, value in one.validation.items() if name != "loss"}
    assert several.validation_intervals == one.validation_intervals


@pytest.mark.parametrize("final", ["refit", "bag"])
def test_test_metrics_are_of_the_kept_model_and_all_else_of_the_splits(runs, final):
    folder, folds = trained("diabetes"), {"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 3}
    evaluate("diabetes", folder)
    before = {name: json.loads((REPORTS / f"{name}.json").read_text()) for name in ("intervals", "baselines", "test")}
    trained("diabetes", final=final, **({"validation": folds} if final == "bag" else {}))
    figures = evaluate("diabetes", folder)
    (_, plain), (_, run) = runs
    assert (run.history, run.beside) == (plain.history, plain.beside)
    assert run.validation.items() <= plain.validation.items()  # with folds, it has no loss
    intervals = json.loads((REPORTS / "intervals.json").read_text())
    assert intervals["validation"] == before["intervals"]["validation"]
    assert intervals["test"] != before["intervals"]["test"]
    assert run.kept.split_test == plain.test
    targets = load_raw(folder, "test").targets.numpy()
    assert figures["r2"] == pytest.approx(sk.r2_score(targets, run.predictions))
    assert run.kept.differences["r2"][0] == pytest.approx(figures["r2"] - plain.test["r2"])
    rows = Manifest.read(folder).rows
    assert (run.kept.final, run.kept.rows) == (final, rows["train"] + rows["validation"])
    assert run.kept.members == (3 if final == "bag" else 1)


def test_again_is_the_same_to_the_byte_and_the_model_is_left_alone(runs):
    folder = trained("digits")
    before = {path: path.read_bytes() for path in MODELS.iterdir()}
    evaluate("digits", folder)
    first = [(REPORTS / name).read_bytes() for name in ("test.json", "intervals.json")]
    torch.rand(3)
    evaluate("digits", folder)
    assert [(REPORTS / name).read_bytes() for name in ("test.json", "intervals.json")] == first
    assert {path: path.read_bytes() for path in MODELS.iterdir()} == before
    assert not (REPORTS / "report.md").exists()  # left to the report


@pytest.mark.parametrize("name", ["models/model.json", "models/model.safetensors", "models/history.csv"])
def test_a_missing_result_is_named_with_the_remedy(runs, name):
    folder = trained("digits")
    Path(name).unlink()
    with pytest.raises(UserError, match=rf"{Path(name).name} cannot be read .* Train again"):
        evaluate("digits", folder)
    assert not (REPORTS / "test.json").exists()


@pytest.mark.parametrize("damage", [None, "{"])
def test_missing_or_damaged_validation_figures(runs, damage):
    folder = trained("digits")
    (REPORTS / "validation.json").unlink()
    if damage is not None:
        (REPORTS / "validation.json").write_text(damage)
    with pytest.raises(UserError, match=r"validation.json cannot be read .* Train again"):
        evaluate("digits", folder)


def test_a_missing_test_set(runs):
    folder = trained("digits")
    (folder / "test.safetensors").unlink()
    with pytest.raises(UserError, match=r"test.safetensors is missing"):
        evaluate("digits", folder)
    assert not (REPORTS / "test.json").exists()


def test_a_model_of_other_data_is_refused(runs):
    trained("diabetes")
    told = r"models was trained on other data than prepared.other holds. Train again"
    prepare.prepare_settings(Path("prepared/other"), {**DATASETS["diabetes"], "split_seed": 1})
    with pytest.raises(UserError, match=told):
        evaluate("diabetes", Path("prepared/other"))


# Other models beside it.


def test_another_model_is_scored_on_the_same_rows(runs):
    folder = trained("breast_cancer")
    figures = evaluate("breast_cancer", folder)
    train, test = (load(folder, name) for name in ("train", "test"))
    inputs, targets = test.inputs.numpy(), test.targets.numpy()
    linear = LogisticRegression(max_iter=1000).fit(train.inputs.numpy(), train.targets.numpy())
    written = json.loads((REPORTS / "baselines.json").read_text())
    assert list(written) == ["dummy", "linear"]
    assert written["linear"]["test"]["accuracy"] == linear.score(inputs, targets)
    assert written["dummy"]["test"]["accuracy"] == max(np.mean(targets), 1 - np.mean(targets))
    assert written["dummy"]["test"]["roc_auc"] == 0.5
    difference, low, high = written["linear"]["differences"]["accuracy"]
    assert difference == pytest.approx(figures["accuracy"] - linear.score(inputs, targets))
    ((_, run),) = runs
    assert [other.name for other in run.beside] == ["dummy", "linear"]
    right = [run.predictions.argmax(1) == targets, linear.predict(inputs) == targets]
    apart = right[0].astype(float) - right[1]  # what a paired test sees: the rows on which they differ
    assert low <= difference <= high
    deviation = apart.std() / len(apart) ** 0.5
    assert high - low == pytest.approx(2 * 1.645 * deviation, rel=0.3, abs=1 / len(apart))


def test_a_baseline_that_is_the_model_itself_is_left_out(runs):
    folder = trained("diabetes", model=OTHERS[1])
    evaluate("diabetes", folder, model=OTHERS[1])
    ((_, run),) = runs
    assert [other.name for other in run.beside] == ["dummy"]
    evaluate("diabetes", folder, model={**OTHERS[1], "C": 0.1})
    assert [other.name for other in runs[-1][1].beside] == ["dummy", "linear"]


def test_images_have_none_and_the_same_reports(runs):
    folder = trained("digits")
    evaluate("digits", folder)
    assert json.loads((REPORTS / "baselines.json").read_text()) == {}
    assert runs[0][1].beside == []


def test_missing_baselines_are_told(runs):
    folder = trained("diabetes")
    (BASELINES / "linear.skops").unlink()
    with pytest.raises(UserError, match=r"linear.skops cannot be read .* dvc repro --force baselines"):
        evaluate("diabetes", folder)
    (BASELINES / "baselines.json").write_text("{")
    with pytest.raises(UserError, match=r"baselines.json cannot be read .* dvc repro --force baselines"):
        evaluate("diabetes", folder)
    assert not (REPORTS / "test.json").exists()


# A model without epochs.


def test_a_model_of_scikit_learn_is_evaluated_as_a_network_is(runs):
    folder = trained("diabetes", model=OTHERS[1])
    figures = evaluate("diabetes", folder, model=OTHERS[1])
    train, test = (load(folder, name) for name in ("train", "test"))
    ridge = Ridge(alpha=0.5).fit(train.inputs.numpy(), train.targets.numpy())
    assert figures["r2"] == pytest.approx(ridge.score(test.inputs.numpy(), test.targets.numpy()), rel=1e-4)
    ((_, run),) = runs
    assert (run.history, run.best_epoch, run.parameters) == ([], 0, None)
    assert run.train["r2"] == pytest.approx(ridge.score(train.inputs.numpy(), train.targets.numpy()), rel=1e-4)


def test_of_many_training_rows_some_are_scored(runs, monkeypatch):
    folder = trained("diabetes", model=OTHERS[1])
    monkeypatch.setattr(evaluation, "LEARNED_ROWS", 20)
    evaluate("diabetes", folder, model=OTHERS[1])
    train = load(folder, "train")
    chosen = np.linspace(0, len(train.rows) - 1, 20).round().astype(int)
    ridge = Ridge(alpha=0.5).fit(train.inputs.numpy(), train.targets.numpy())
    expected = ridge.score(train.inputs.numpy()[chosen], train.targets.numpy()[chosen])
    assert runs[0][1].train["r2"] == pytest.approx(expected, rel=1e-4)


# The map.


@pytest.mark.parametrize("method", ["pca", "none"])
def test_the_map_is_of_what_a_model_is_given(runs, method):
    folder = trained("digits")
    settings = {**order("digits")["evaluation"], "map": method}
    evaluate("digits", folder, evaluation=settings)
    ((_, run),) = runs
    if method == "none":
        assert run.map is None
        return
    inputs = load(folder, "test").inputs.flatten(1).numpy()
    expected = PCA(2).fit_transform(inputs)
    np.testing.assert_allclose(np.abs(run.map.places), np.abs(expected), atol=1e-3)


def test_rows_with_a_twin_are_left_out_of_a_score_beside(runs, tmp_path):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(200, 2))[generator.integers(0, 200, 400)]
    classes = np.where(inputs[:, 0] + generator.normal(size=400) > 0, "yes", "no")
    pl.DataFrame({"a": inputs[:, 0], "b": inputs[:, 1], "y": classes}).write_csv(tmp_path / "my.csv")
    data = {
        "name": "table", "_target_": "hypermap.datasets.tables.dataset.table", "path": str(tmp_path / "my.csv"),
        "target": "y", "test": 0.3,
    }  # fmt: skip
    model = {
        "name": "nearest_neighbors",
        "_target_": "hypermap.models.sklearn_models.NearestNeighbors",
        "n_neighbors": 1,
    }
    folder = Path("prepared/table")
    prepare.prepare_settings(folder, data)
    asked = order("breast_cancer") | {"data": data, "model": model}
    train(TrainingRequest(asked, folder, MODELS, REPORTS / "validation.json"))
    baselines.fit({"models": OTHERS}, folder, BASELINES)
    evaluation.evaluate(asked, folder, MODELS, BASELINES, REPORTS)
    ((_, run),) = runs
    test, new = load(folder, "test"), ~load_raw(folder, "test").twins.numpy()
    assert run.twins.count == Manifest.read(folder).twins == (~new).sum()
    right = run.predictions.argmax(1) == run.targets
    assert run.twins.test["accuracy"] == pytest.approx(right[new].mean())
    assert run.twins.rows == len(right) == len(test.rows)
    linear = LogisticRegression(max_iter=1000).fit(
        *(getattr(load(folder, "train"), key).numpy() for key in ("inputs", "targets"))
    )
    own = {other.name: other for other in run.twins.others}["linear"]
    assert own.test["accuracy"] == pytest.approx(linear.score(test.inputs.numpy()[new], test.targets.numpy()[new]))
