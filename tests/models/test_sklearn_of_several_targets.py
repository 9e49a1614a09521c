"""scikit-learn's models on several targets: an estimator for each."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier

from hypermap.config.compose import compose
from hypermap.core.errors import UserError
from hypermap.data.prepared import load
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables.dataset import table
from hypermap.models import sklearn_fit

LABELS = ["a", "b", "c"]
MIXED = {"price": "regression", "kind": "multiclass"}


@pytest.fixture
def rows(tmp_path):
    """Prepares a table with these targets; returns its training and validation rows and the transform."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 3))
    noisy = inputs + 0.5 * generator.normal(size=inputs.shape)
    labels = {name: (noisy[:, k] > k / 2).astype(int) for k, name in enumerate(LABELS)}
    others = {"price": 10 * noisy[:, 0], "kind": np.array(["x", "y", "z"])[np.digitize(noisy[:, 1], [-0.5, 0.5])]}
    columns = {f"x{k}": inputs[:, k] for k in range(3)} | labels | others
    pl.DataFrame(columns).write_csv(tmp_path / "my.csv")

    def of(target):
        drop = [name for name in (*LABELS, *MIXED) if name not in target]
        prepare(tmp_path / "data", reader=table, path=str(tmp_path / "my.csv"), target=target, drop=drop, test=0.2)
        transform = read_transform(tmp_path / "data")
        return *(load(tmp_path / "data", name) for name in ("train", "validation")), transform

    return of


def choice(name, **values):
    return compose([f"model={name}"])["model"] | values


def arrays(split):
    return split.inputs.numpy(), split.targets.numpy()


def test_labels_are_those_of_an_estimator_each(rows):
    train, validation, transform = rows(LABELS)
    model = sklearn_fit.fit(choice("linear", C=1.0), train, validation, transform, 0, 1)
    own = MultiOutputClassifier(LogisticRegression(C=1.0, max_iter=1000)).fit(*arrays(train))
    predicted = model(validation.inputs)
    expected = np.stack([part[:, 1] for part in own.predict_proba(validation.inputs.numpy())], 1)
    temperature = model.tuned.get("temperature", 1)
    logits = np.log(expected / (1 - expected)) / temperature
    np.testing.assert_allclose(predicted[:, :3], 1 / (1 + np.exp(-logits)), rtol=1e-4)
    np.testing.assert_array_equal(predicted[:, 3:], predicted[:, :3] >= model.tuned["thresholds"])


def test_targets_of_several_kinds_are_too(rows):
    train, validation, transform = rows(MIXED)
    model = sklearn_fit.fit(choice("linear"), train, validation, transform, 0, 1)
    (inputs, targets), predicted = arrays(train), model(validation.inputs)
    expected = transform.task.parts[0].decode(Ridge(1.0).fit(inputs, targets[:, 0]).predict(validation.inputs.numpy()))
    np.testing.assert_allclose(predicted[:, 0], expected, rtol=0.02, atol=0.1)
    kinds = LogisticRegression(max_iter=1000).fit(inputs, targets[:, 1].astype(int))
    np.testing.assert_allclose(predicted[:, 1:], kinds.predict_proba(validation.inputs.numpy()), atol=1e-3)


@pytest.mark.parametrize("target", [LABELS, MIXED])
def test_what_is_saved_predicts_the_same(rows, target, tmp_path):
    train, validation, transform = rows(target)
    option = choice("random_forest", n_estimators=5)
    model = sklearn_fit.fit(option, train, validation, transform, 0, 1)
    sklearn_fit.save(tmp_path / "model.skops", model)
    loaded = sklearn_fit.load(tmp_path / "model.skops", option, transform, "Train again.")
    np.testing.assert_array_equal(loaded(validation.inputs), model(validation.inputs))
    assert loaded.tuned == model.tuned


def test_a_label_that_no_training_row_has_is_never_predicted(rows):
    train, validation, transform = rows(LABELS)
    targets = train.targets.clone()
    targets[:, 1] = 0
    learned = type(train)(train.inputs, targets, train.rows)
    model = sklearn_fit.fit(choice("linear"), learned, validation, transform, 0, 1)
    assert (model(validation.inputs)[:, 1] < 0.5).all()
    assert torch.isfinite(torch.from_numpy(model(validation.inputs))).all()


def test_class_weights_need_a_class(rows):
    *_, transform = rows(MIXED)
    sklearn_fit.make(choice("random_forest", class_weight="balanced"), transform)
    numbers = transform.manifest.target_columns[:1] * 2
    manifest = type(transform.manifest)(**{**vars(transform.manifest), "target_columns": numbers})
    with pytest.raises(UserError, match="it evens out classes"):
        sklearn_fit.make(choice("random_forest", class_weight="balanced"), replace(transform, manifest=manifest))
