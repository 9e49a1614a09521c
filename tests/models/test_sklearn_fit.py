"""The families of scikit-learn: held to the estimators themselves, fitted by hand to the same rows."""

import json
import re
import warnings
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVC, SVR

from hypermap.core import skops_io
from hypermap.core.paths import CONF
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Settings
from hypermap.data.prepared import load
from hypermap.data.preprocessor import TensorSplit, Transform, read_transform
from hypermap.datasets import prepare
from hypermap.experiments import run
from hypermap.experiments.run import summary
from hypermap.models import sklearn_fit
from hypermap.models.inputs import resolve_input_spec
from hypermap.models.sklearn_models import Calibrated, Dummy
from hypermap.training import artifacts
from support.refusals import refusal

MENU = CONF / "model"
FAMILIES = (
    "random_forest", "extra_trees", "gradient_boosting", "lightgbm", "support_vector", "linear", "nearest_neighbors",
    "dummy",
)  # fmt: skip
DATASETS = {
    "digits": {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 300},
    "breast_cancer": {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard"},
    "diabetes": {"_target_": "hypermap.datasets.images.diabetes", "test": 0.2, "scaling": "standard"},
}
REMEDY = "Do it again."


def choice(name, **values):
    """An option as conf/ has it, with few trees and other values."""
    few = {"gradient_boosting": {"max_iter": 30}, "lightgbm": {"n_estimators": 30}}.get(name, {})
    if name in ("random_forest", "extra_trees"):
        few = {"n_estimators": 20}
    return {"name": name, **yaml.safe_load((MENU / f"{name}.yaml").read_text()), **few, **values}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in DATASETS.items():
        prepare.prepare_settings(folder / name, settings)
        (folder / name / "test.safetensors").unlink()
    return folder


@pytest.fixture
def rows(prepared):
    """Training rows, validation rows and the transform of a data set."""

    def of(data):
        return (
            *(load(prepared / data, name) for name in ("train", "validation")),
            read_transform(prepared / data),
        )

    return of


def fit(chosen, rows, seed=0, threads=1):
    return sklearn_fit.fit(chosen, *rows, seed=seed, threads=threads)


def arrays(split):
    return split.inputs.flatten(1).numpy(), split.targets.numpy()


# What a family is.

BOOSTING = {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 20, "random_state": 0}
CLASSIFIERS = {
    "random_forest": RandomForestClassifier(20, min_samples_leaf=2, random_state=0),
    "extra_trees": ExtraTreesClassifier(20, min_samples_leaf=2, random_state=0),
    "gradient_boosting": HistGradientBoostingClassifier(**BOOSTING),
    "linear": LogisticRegression(max_iter=1000),
    "nearest_neighbors": KNeighborsClassifier(15),
    "dummy": DummyClassifier(strategy="prior"),
}
REGRESSORS = {
    "random_forest": RandomForestRegressor(20, min_samples_leaf=2, random_state=0),
    "extra_trees": ExtraTreesRegressor(20, min_samples_leaf=2, random_state=0),
    "gradient_boosting": HistGradientBoostingRegressor(**BOOSTING),
    "support_vector": SVR(),
    "linear": Ridge(alpha=0.5),
    "nearest_neighbors": KNeighborsRegressor(15),
    "dummy": DummyRegressor(),
}


def by_hand(name, estimator, train, validation):
    inputs, targets = arrays(validation)
    judged = {"X_val": inputs, "y_val": targets} if name == "gradient_boosting" else {}
    return estimator.fit(*arrays(train), **judged)


@pytest.mark.parametrize("data", ["breast_cancer", "digits"])  # a table of two classes; images of ten
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_have_the_probabilities_of_scikit_learn(rows, data, name):
    train, validation, transform = rows(data)
    expected = by_hand(name, CLASSIFIERS[name], train, validation).predict_proba(arrays(validation)[0])
    predicted = fit(choice(name), (train, validation, transform))(validation.inputs)
    assert predicted.dtype == np.float64
    assert predicted == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", REGRESSORS)
def test_values_are_those_of_scikit_learn_in_the_targets_own_unit(rows, name):
    train, validation, transform = rows("diabetes")
    standardised = by_hand(name, REGRESSORS[name], train, validation).predict(arrays(validation)[0]).astype(np.float64)
    model = fit(choice(name), (train, validation, transform))
    mean, deviation = transform.manifest.target_shift, transform.manifest.target_scale
    assert model(validation.inputs) == pytest.approx(standardised * deviation + mean, rel=1e-9)
    assert model.standardised(validation.inputs)[0] == pytest.approx(standardised, abs=1e-12)


def test_ridge_balances_loss_and_weights_as_the_logistic_does():
    """C times the loss plus half the squared weights: at its minimum the gradient of that is 0."""
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(50, 3)), random.normal(size=50)
    inputs, targets = inputs - inputs.mean(0), targets - targets.mean()
    weights = Ridge(alpha=1 / (2 * 0.1)).fit(inputs, targets).coef_
    assert 0.1 * 2 * inputs.T @ (inputs @ weights - targets) + weights == pytest.approx(np.zeros(3), abs=1e-9)


@pytest.mark.parametrize("data", ["breast_cancer", "digits"])
def test_support_vectors_are_calibrated_as_scikit_learn_scales_temperatures(rows, data):
    train, validation, transform = rows(data)
    model = fit(choice("support_vector"), (train, validation, transform))
    machine = SVC().fit(*arrays(train))
    expected = CalibratedClassifierCV(FrozenEstimator(machine), method="temperature", cv=2).fit(*arrays(validation))
    inputs, targets = arrays(validation)
    predicted = model(validation.inputs)
    assert predicted == pytest.approx(expected.predict_proba(inputs), abs=1e-5)
    assert (predicted.argmax(1) == machine.predict(inputs)).all()
    for factor in (0.95, 1.05):  # no other temperature is better
        other = Calibrated(machine, model.estimator.temperature * factor).predict_proba(inputs)
        assert log_loss(targets, predicted) < log_loss(targets, other)


def test_balanced_classes(rows):
    train, validation, transform = rows("breast_cancer")
    expected = LogisticRegression(max_iter=1000, class_weight="balanced").fit(*arrays(train))
    model = fit(choice("linear", class_weight="balanced"), (train, validation, transform))
    assert model(validation.inputs) == pytest.approx(expected.predict_proba(arrays(validation)[0]), abs=1e-12)


def test_boosting_stops_by_the_validation_rows(rows):
    train, validation, transform = rows("diabetes")
    chosen = choice("gradient_boosting", max_iter=500, n_iter_no_change=5)
    estimator = fit(chosen, (train, validation, transform)).estimator
    losses = -estimator.validation_score_
    assert estimator.n_iter_ < 500
    assert losses[-6:].argmin() == 0  # nothing gained in the last five
    error = estimator.predict(arrays(validation)[0]) - arrays(validation)[1]
    assert losses[-1] == pytest.approx((error**2).mean() / 2, rel=1e-6)  # scikit-learn's half of it


def test_as_many_trees_as_early_stopping_chose_are_fitted_to_all_rows(rows):
    train, validation, transform = rows("diabetes")
    chosen = choice("gradient_boosting", max_iter=500, n_iter_no_change=5)
    stopped = fit(chosen, (train, validation, transform))
    (decided,) = sklearn_fit.decided(chosen, stopped)
    inputs, targets = (np.concatenate(parts) for parts in zip(arrays(train), arrays(validation), strict=True))
    whole = replace(train, inputs=torch.from_numpy(inputs), targets=torch.from_numpy(targets))
    model = sklearn_fit.refit(chosen, whole, stopped, [decided], transform, seed=0, threads=1)
    trees = int(decided["max_iter"])
    expected = HistGradientBoostingRegressor(max_iter=trees, early_stopping=False, random_state=0).fit(inputs, targets)
    assert model.standardised(validation.inputs)[0] == pytest.approx(expected.predict(arrays(validation)[0]), abs=1e-12)
    assert sklearn_fit.decided(choice("linear"), fit(choice("linear"), (train, validation, transform))) == [{}]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_fitted_without_validation_rows(rows, name):
    train, validation, transform = rows("digits")
    like = fit(choice(name), (train, validation, transform))
    decided = sklearn_fit.decided(choice(name), like)
    model = sklearn_fit.refit(choice(name), train, like, decided, transform, seed=0, threads=1)
    predicted = model(validation.inputs)
    assert predicted.sum(1) == pytest.approx(np.ones(len(predicted)))
    if name != "dummy":
        likelihood = predicted[np.arange(len(predicted)), validation.targets.numpy()]
        assert -np.log(likelihood.clip(1e-15)).mean() < np.log(10) / 2


def test_a_class_without_training_rows_has_no_share(rows):
    train, validation, transform = rows("digits")
    kept = train.targets != 3
    train = replace(train, inputs=train.inputs[kept], targets=train.targets[kept], rows=train.rows[kept])
    for name in FAMILIES:
        predicted = fit(choice(name), (train, validation, transform))(validation.inputs)
        assert predicted.shape == (len(validation.rows), 10)
        assert (predicted[:, 3] == 0).all()
        assert predicted.sum(1) == pytest.approx(np.ones(len(predicted)))


def test_a_forest_predicts_the_same_bits_however_many_threads(rows, monkeypatch):
    train, validation, transform = rows("digits")
    one = fit(choice("random_forest"), (train, validation, transform))(validation.inputs)
    monkeypatch.setattr(sklearn_fit, "PREDICTED_ROWS", 7)
    several = fit(choice("random_forest"), (train, validation, transform), threads=2)
    assert (several(validation.inputs) == one).all()


# Tables with categories.


def table(categories="auto", task="classification", levels=3):
    """Rows of two numbers and a category that decides, unlike its code's order, and their transform."""
    random = np.random.default_rng(1)
    codes = random.integers(levels, size=400).astype(np.float64)
    matrix = np.column_stack([random.normal(size=(400, 2)), codes])
    chosen = (codes % 2 == 0) ^ (random.random(400) < 0.1)
    targets = chosen.astype(np.int64) if task == "classification" else (chosen * 10).astype(np.float32)
    about = Manifest(
        task=task,
        classes=["no", "yes"] if task == "classification" else [],
        shape=[3],
        table={},
        roles=["number", "number", "category"],
        preparation=asdict(Settings(categories=categories)),
        rows={"train": 300},
    )
    transform = Transform.fitted(matrix[:300], targets[:300], about)
    parts = (slice(0, 300), slice(300, 400))
    splits = [
        transform(TensorSplit(*(torch.from_numpy(array[part]) for array in (matrix, targets, np.arange(400)))))
        for part in parts
    ]
    return (*splits, transform), matrix


def test_boosting_splits_categories_into_sets():
    rows, _ = table(levels=40)
    model = fit(choice("gradient_boosting", min_samples_leaf=2), rows)
    expected = by_hand(
        "gradient_boosting",
        HistGradientBoostingClassifier(**BOOSTING, min_samples_leaf=2, categorical_features=[2]),
        *rows[:2],
    )
    assert model.inputs.layout.cardinalities == (40,)
    assert model(rows[1].inputs) == pytest.approx(expected.predict_proba(arrays(rows[1])[0]), abs=1e-12)


def test_boosting_takes_more_categories_than_bins_by_their_codes():
    rows, _ = table(levels=5000)
    model = fit(choice("gradient_boosting"), rows)
    assert model.inputs.layout.cardinalities[0] > 255
    assert model.estimator.is_categorical_ is None


def test_others_have_categories_spread_out():
    rows, matrix = table()
    model = fit(choice("linear"), rows)
    spread = OneHotEncoder(sparse_output=False).fit_transform(matrix[:, 2:])
    features = np.column_stack([rows[2].preprocessor.preparation.transform(matrix)[:, :2], spread]).astype(np.float32)
    expected = LogisticRegression(max_iter=1000).fit(features[:300], rows[0].targets)
    assert model(rows[1].inputs) == pytest.approx(expected.predict_proba(features[300:]), abs=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_categories_as_numbers(name):
    rows, _ = table("ordinal", task="regression")
    model = fit(choice(name), rows)
    assert model.inputs.shape == (3,)
    assert np.isfinite(model(rows[1].inputs)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_network_would_embed_a_family_has_as_usual(name):
    (own, asked), usual = (table(categories)[0] for categories in ("embedding", "auto")), choice(name)
    assert (fit(usual, own)(own[1].inputs) == fit(usual, asked)(asked[1].inputs)).all()
    network = {"name": "mlp", "_target_": "hypermap.models.MLP"}
    assert "data.categories is embedding; model=mlp" in refusal(resolve_input_spec, network, own[2].manifest)


# On the disk.


@pytest.mark.parametrize("data", ["breast_cancer", "diabetes"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_stored_model_predicts_the_same_and_equal_ones_are_equal_files(rows, tmp_path, data, name):
    train, validation, transform = rows(data)
    model = fit(choice(name), (train, validation, transform))
    for file in ("one", "other"):
        sklearn_fit.save(tmp_path / file, fit(choice(name), (train, validation, transform)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    loaded = sklearn_fit.load(tmp_path / "one", choice(name), transform, REMEDY)
    assert (loaded(validation.inputs) == model(validation.inputs)).all()


@pytest.mark.parametrize("p", [1, 2])
def test_neighbours_found_by_a_tree_are_stored(tmp_path, p):
    rows, _ = table()
    model = fit(choice("nearest_neighbors", p=p), rows)
    sklearn_fit.save(tmp_path / "file", model)
    loaded = sklearn_fit.load(tmp_path / "file", model_choice := choice("nearest_neighbors", p=p), rows[2], REMEDY)
    assert model_choice["p"] == loaded.estimator.p == p
    assert (loaded(rows[1].inputs) == model(rows[1].inputs)).all()


def test_boosting_with_categories_is_stored(tmp_path):
    rows, _ = table()
    model = fit(choice("gradient_boosting"), rows)
    sklearn_fit.save(tmp_path / "file", model)
    loaded = sklearn_fit.load(tmp_path / "file", choice("gradient_boosting"), rows[2], REMEDY)
    assert (loaded(rows[1].inputs) == model(rows[1].inputs)).all()


def test_a_file_that_is_missing_damaged_or_of_another_make_is_named(rows, tmp_path):
    transform, path = rows("diabetes")[2], tmp_path / "model.skops"
    load = (sklearn_fit.load, path, choice("dummy"), transform, REMEDY)
    assert "model.skops cannot be read" in refusal(*load)
    path.write_text("no archive")
    assert f"{path} cannot be read" in (message := refusal(*load))
    assert message.endswith(REMEDY)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "{}")
    assert f"{path} cannot be read" in refusal(*load)
    path.write_bytes(skops_io.dumps(FunctionTransformer(print)))
    assert f"{path} holds types that no model of ours has" in refusal(*load)


# Mistakes.


@pytest.mark.parametrize(
    ("data", "chosen", "told"),
    [
        ("diabetes", choice("linear", class_weight="balanced"), "the target is a number: set it to null"),
        (
            "digits",
            choice("linear", class_weight="balance"),
            "model.class_weight is 'balance'; it is balanced, or null",
        ),
        ("digits", choice("linear", strength=1), "does not take 'strength'"),
        ("digits", choice("linear", C=-1.0), "model=linear refuses its settings or the training rows"),
        ("diabetes", choice("nearest_neighbors", n_neighbors=400), "and there are 282 training rows: lower it"),
    ],
)
def test_a_mistake_is_one_clear_message(rows, data, chosen, told):
    assert told in refusal(fit, chosen, rows(data))


def test_one_class_cannot_be_told_from_none(rows):
    train, validation, transform = rows("breast_cancer")
    train = replace(train, targets=torch.zeros_like(train.targets))
    assert "model=linear refuses" in refusal(fit, choice("linear"), (train, validation, transform))


def test_a_fit_that_does_not_converge_is_told(rows, capsys):
    fit(choice("linear", max_iter=2), rows("digits"))
    assert "model=linear did not converge: raise model.max_iter" in capsys.readouterr().out


class Warns(Dummy):
    """A family whose fit has something to say."""

    def fit(self, problem):
        warnings.warn("it did not converge", ConvergenceWarning, stacklevel=2)
        warnings.warn("this will be gone in 2.0", FutureWarning, stacklevel=2)
        return super().fit(problem)


def test_other_warnings_of_a_fit_are_given(rows, capsys):
    with pytest.warns(FutureWarning, match=r"gone in 2\.0") as given:
        fit({"name": "warns", "_target_": f"{__name__}.Warns"}, rows("digits"))
    assert len(given) == 1
    assert "model=warns did not converge" in capsys.readouterr().out


# As a training.


def configuration(data, chosen, **changes):
    trainer = {
        "_target_": "hypermap.training.state.TrainerConfig",
        "epochs": 3,
        "batch_size": 64,
        "device": "cpu",
        "threads": 1,
    }
    made = {
        "data": {"name": data, **DATASETS[data]},
        "model": chosen,
        "optimizer": {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.01},
        "scheduler": {"name": "constant", "_target_": "hypermap.training.lr_schedules.Constant"},
        "loss": {
            "name": "binary_cross_entropy",
            "_target_": "hypermap.tasks.losses.BinaryCrossEntropy",
        },  # unfit, and unused
        "regularizer": {"name": "none", "_target_": "hypermap.training.regularizers.Regularizer"},
        "augment": {"name": "none", "_target_": "hypermap.training.augment.Augment"},
        "trainer": trainer,
        "validation": {"name": "holdout", "_target_": "hypermap.data.cross_validation.Holdout"},
        "seed": 0,
        "evaluation": {"bootstrap_repeats": 100, "confidence": 0.95},
    }
    return {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in made.items()}


def train(prepared, data, chosen, latency=False, keep=True, **changes):
    order = configuration(data, chosen, **changes)
    asked = run.TrainingRequest(
        order, prepared / data, Path("models"), Path("validation.json"), measure_latency=latency, keep=keep
    )
    return run.train(asked)


@pytest.mark.usefixtures("a_place_of_its_own")
@pytest.mark.parametrize(("data", "monitor"), [("digits", "accuracy"), ("diabetes", "r2")])
def test_a_training_leaves_the_model_and_its_figures(prepared, rows, data, monitor):
    reference = fit(choice("random_forest"), splits := rows(data))
    result = train(prepared, data, choice("random_forest"), latency=True)
    validation, transform = splits[1:]
    metrics = artifacts.score(validation, reference(validation.inputs), transform)
    loss = metrics.get("log_loss", (metrics.get("rmse", 0) / (transform.manifest.target_scale or 1)) ** 2)
    assert result.metrics == pytest.approx(metrics | {"loss": loss})
    assert (result.objective, result.monitor) == (result.metrics[monitor], monitor)
    assert (result.parameters, result.epochs, result.best_epoch) == (None, 0, 0)
    assert result.latency_ms > 0
    files = {path.name for path in Path("models").iterdir()}
    assert files == {"model.skops", "model.json", "history.csv", "manifest.json"}
    trained = artifacts.read_trained(Path("models"))
    assert (trained.predictor(validation.inputs) == reference(validation.inputs)).all()
    assert trained.record.parameters is None
    assert trained.transform.manifest == transform.manifest
    assert artifacts.read_history(Path("models")) == []
    assert "do not apply" in summary(result)
    assert "epoch 0" not in summary(result)


@pytest.mark.usefixtures("a_place_of_its_own")
def test_equal_trainings_write_equal_bytes_and_a_network_leaves_none_of_them(prepared):
    contents = []
    for _ in range(2):
        train(prepared, "breast_cancer", choice("gradient_boosting"))
        contents.append({path.name: path.read_bytes() for path in Path("models").iterdir()})
    assert contents[0] == contents[1]
    loss = {"name": "cross_entropy", "_target_": "hypermap.tasks.losses.CrossEntropy"}
    train(prepared, "breast_cancer", {"name": "logistic", "_target_": "hypermap.models.Logistic"}, loss=loss)
    names = {path.name for path in Path("models").iterdir()}
    assert names == {"model.safetensors", "model.json", "history.csv", "manifest.json"}


@pytest.mark.usefixtures("a_place_of_its_own")
def test_folds_and_seeds(prepared):
    validation = {"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 3}
    changes = {"validation": validation, "trainer": {"repeats": 2}}
    result = train(prepared, "breast_cancer", choice("random_forest"), latency=True, keep=False, **changes)
    assert len(set(result.scores)) > 1
    assert len(result.scores) == 6
    assert result.objective == pytest.approx(np.mean(result.scores))
    assert not Path("models/model.skops").exists()
    assert "mean of 6 trainings" in summary(result)
    again = train(prepared, "breast_cancer", choice("random_forest"), **changes)
    assert again.scores == result.scores
    assert json.loads(Path("models/model.json").read_text())["configuration"]["model"]["name"] == "random_forest"


@pytest.mark.usefixtures("a_place_of_its_own")
@pytest.mark.parametrize("keep", [True, False])
def test_each_seed_is_fitted_once(prepared, monkeypatch, keep):
    seeds, fitted = [], sklearn_fit.fit
    monkeypatch.setattr(sklearn_fit, "fit", lambda *given: seeds.append(given[4]) or fitted(*given))
    result = train(prepared, "breast_cancer", choice("random_forest"), keep=keep, trainer={"repeats": 3})
    assert len(seeds) == len(set(seeds)) == len(result.scores) == 3
    alone = train(prepared, "breast_cancer", choice("random_forest"))
    assert alone.objective == result.scores[0]


@pytest.mark.usefixtures("a_place_of_its_own")
def test_threads_are_those_that_gain_by_it(prepared):
    train(prepared, "digits", choice("linear"), trainer={"threads": None})
    assert artifacts.read_trained(Path("models")).record.environment["threads"] == "1"
    train(prepared, "digits", choice("linear"), trainer={"threads": 2})
    assert artifacts.read_trained(Path("models")).record.environment["threads"] == "2"


def test_a_search_over_families_and_a_network_is_promoted_to_the_same_bytes(clone):
    project = clone()
    project.order(data="breast_cancer", loss="cross_entropy", model="mlp", trainer={"name": "default", "epochs": 2})
    words = ["model=random_forest,linear,mlp", "hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=families"]
    told = project.ok("python", "src/train.py", "-m", "+space=default", *words, "hydra.sweeper.report=false").out
    assert re.search(r"model\.random_forest\.max_features +interval\(0\.1,1\.0\) +where model is random_forest", told)
    assert re.search(r"optimizer\.lr +tag\(log,interval\(1e-4,3e-2\)\) +where model is mlp", told)
    folders = [folder for folder in (project.path / "studies/families").glob("*") if (folder / "model.skops").exists()]
    assert folders
    project.ok("python", "src/promote.py", "families", folders[0].name)
    assert "(by scikit-learn: optimizer" in project.ok("dvc", "repro", "train").out
    for made, tried in (("models/split/model.skops", "model.skops"), ("reports/validation.json", "validation.json")):
        assert (project.path / made).read_bytes() == (folders[0] / tried).read_bytes()
