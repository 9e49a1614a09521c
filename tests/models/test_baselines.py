"""Models beside the one in use, held against scikit-learn's on the same rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from hypermap.config.compose import compose, slices
from hypermap.core.errors import UserError
from hypermap.data.prepared import load
from hypermap.data.preprocessor import read_transform
from hypermap.datasets import prepare
from hypermap.models import baselines

pytestmark = pytest.mark.usefixtures("a_place_of_its_own")

FOLDER = Path("baselines")
PREPARED = Path("prepared")
FOREST = {"name": "random_forest", "_target_": "hypermap.models.sklearn_models.RandomForest", "n_estimators": 10}
DUMMY = {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"}


@pytest.fixture
def breast_cancer():
    source = {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard", "split_seed": 3}
    prepare.prepare_settings(PREPARED, source)


def fit(*models):
    return baselines.fit({"models": list(models)}, PREPARED, FOLDER)


def test_each_is_fitted_on_the_training_rows_and_read_as_it_was(breast_cancer):
    assert fit(DUMMY, FOREST) == ["dummy", "random_forest"]
    train, validation = (load(PREPARED, name) for name in ("train", "validation"))
    (dummy, idle), (choice, forest) = baselines.read(FOLDER, read_transform(PREPARED))
    assert (dummy, choice) == (DUMMY, FOREST)
    own = RandomForestClassifier(10, min_samples_leaf=2, random_state=3)
    own.fit(train.inputs.numpy(), train.targets.numpy())
    np.testing.assert_allclose(forest(validation.inputs), own.predict_proba(validation.inputs.numpy()), atol=1e-12)
    np.testing.assert_allclose(idle(validation.inputs)[0, 1], train.targets.numpy().mean())


def test_the_test_rows_are_not_opened_and_again_gives_the_same_bytes(breast_cancer):
    (PREPARED / "test.safetensors").write_bytes(b"not for this")
    fit(DUMMY, FOREST)
    first = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    fit(DUMMY, FOREST)
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == first
    assert first.keys() == {"baselines.json", "dummy.skops", "random_forest.skops"}


def test_those_of_other_data_are_refused(breast_cancer):
    fit(DUMMY)
    source = {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard", "split_seed": 4}
    prepare.prepare_settings(PREPARED, source)
    with pytest.raises(UserError, match=r"baselines were fitted to other data than .* dvc repro --force baselines"):
        baselines.read(FOLDER, read_transform(PREPARED))


def test_images_have_none():
    prepare.prepare_settings(PREPARED, {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 200})
    assert fit(FOREST) == []
    assert json.loads((FOLDER / "baselines.json").read_text())["models"] == []
    assert baselines.read(FOLDER, read_transform(PREPARED)) == []


def test_a_network_is_refused(breast_cancer):
    with pytest.raises(UserError, match=r"evaluation.baselines names mlp, a network; baselines are models that"):
        fit({"name": "mlp", "_target_": "hypermap.models.MLP"})


def test_one_that_refuses_the_data_can_be_left_out(breast_cancer):
    greedy = {
        "name": "nearest_neighbors",
        "_target_": "hypermap.models.sklearn_models.NearestNeighbors",
        "n_neighbors": 1000,
    }
    with pytest.raises(UserError, match=r"there are 364 training rows.* can be left out of evaluation.baselines"):
        fit(greedy)


# The stage's slice of the configuration.


def test_the_slice_has_the_menus_own_values_and_nothing_of_the_model_in_use():
    part = slices(compose())["baselines"]
    assert [model["name"] for model in part["models"]] == ["dummy", "random_forest", "lightgbm"]
    assert part["models"][1] == compose(["model=random_forest"])["model"]
    assert [*part] == ["models"]
    other = ["seed=5", "trainer.threads=2", "model=cnn", "optimizer.lr=0.5", "evaluation.confidence=0.5"]
    assert slices(compose(other))["baselines"] == part


def test_a_choice_of_ones_own_list():
    part = slices(compose(["evaluation.baselines=[linear,linear]"]))["baselines"]
    assert [model["name"] for model in part["models"]] == ["linear"]
    assert slices(compose(["evaluation.baselines=[]"]))["baselines"]["models"] == []


def test_a_baseline_that_is_not_on_the_menu():
    with pytest.raises(UserError, match=r"evaluation.baselines: model has no option 'linaer'.*linear"):
        slices(compose(["evaluation.baselines=[linaer]"]))
