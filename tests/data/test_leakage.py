"""No leakage: what is fitted is fitted on training rows, and targets that mean nothing cannot be predicted."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.ensemble import ExtraTreesClassifier

from hypermap.core import skops_io
from hypermap.data.cross_validation import KFold
from hypermap.data.fold_data import Folds
from hypermap.data.preparation import Preparation, Settings
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import TensorSplit, read_transform
from hypermap.data.table_preprocessor import PREPARATION
from hypermap.datasets.prepare import prepare_settings
from hypermap.models.inputs import resolve_input_spec

ROWS = 600
CHOICES = [
    {},
    *({"missing": missing, "fill": -1.0} for missing in ("mean", "most_frequent", "constant", "drop")),
    {"missing_indicator": False, "missing_categories": "most_frequent"},
    *({"scaling": scaling} for scaling in ("quantile", "min_max", "robust", "robust_clip", "none")),
    *({"categories": categories} for categories in ("one_hot", "ordinal", "embedding", "target")),
    {"rare": 1, "max_categories": 4},
    {"pca": 2},
    {"pca": 0.9, "scaling": "standard"},
    {"oversample": True},
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A table of four numbers, a date and two categories, of which one has many values, and a target by lot."""
    generator = np.random.default_rng(11)
    columns = {f"x{k}": generator.normal(size=ROWS).round(3).astype(str) for k in range(4)}
    columns["x0"][generator.random(ROWS) < 0.1] = ""
    columns["day"] = np.array([f"2024-{m:02d}-{d:02d}" for m, d in generator.integers(1, 28, (ROWS, 2)) % 12 + 1])
    columns["few"] = generator.choice(["a", "b", "c", ""], ROWS)
    columns["many"] = np.array([f"place {k}" for k in generator.integers(0, 60, ROWS)])
    columns["target"] = generator.permutation(np.repeat(["no", "yes"], ROWS // 2))
    path = tmp_path_factory.mktemp("lots") / "lots.csv"
    rows = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return {
        "_target_": "hypermap.datasets.tables.dataset.table",
        "path": str(path),
        "target": "target",
        "test": 0.3,
        "rare": 5,
    }


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_targets_by_lot_score_at_chance_on_test(settings, choice, tmp_path):
    manifest = prepare_settings(tmp_path / "data", {**settings, **choice})
    network = "TabularMLP" if choice.get("categories") == "embedding" else "MLP"
    inputs = resolve_input_spec({"_target_": f"hypermap.models.{network}"}, manifest)
    folds, test = Folds(tmp_path / "data"), load(tmp_path / "data", "test")
    train = folds.of(folds.development.holdout).train
    learned, asked = inputs.encode(train.inputs), inputs.encode(test.inputs)
    model = ExtraTreesClassifier(40, random_state=0).fit(learned, train.targets)
    assert model.score(learned, train.targets) > 0.99  # it could tell, if there were anything to tell
    right, rows = round(model.score(asked, test.targets) * len(test.targets)), len(test.targets)
    low, high = binom.interval(0.999, rows, 0.5)
    assert low <= right <= high


@pytest.mark.parametrize("choice", CHOICES[:-1], ids=str)
def test_what_is_stored_is_fitted_on_the_training_rows_alone(settings, choice, tmp_path):
    manifest = prepare_settings(tmp_path / "data", {**settings, **choice})
    raw = load_raw(tmp_path / "data", "train")
    given = Settings(**manifest.preparation)
    alone = Preparation.fit(raw.inputs.numpy(), manifest.roles, given, raw.targets.numpy(), manifest.split_seed)
    assert skops_io.dumps(alone.transformer) == (tmp_path / "data" / PREPARATION).read_bytes()


def test_stored_features_are_what_the_preparation_makes_of_each_split(settings, tmp_path):
    prepare_settings(tmp_path / "data", settings)
    transform = read_transform(tmp_path / "data")
    for split in ("train", "validation", "test"):
        raw = load_raw(tmp_path / "data", split)
        expected = transform.preprocessor.preparation.transform(raw.inputs.numpy())
        np.testing.assert_array_equal(load(tmp_path / "data", split).inputs, expected)


def test_training_rows_of_the_holdout_and_of_folds_have_means_without_their_own_targets(settings, tmp_path):
    prepare_settings(tmp_path / "data", {**settings, "categories": "target"})
    folds = Folds(tmp_path / "data")
    for fold in (folds.development.holdout, *KFold(3).folds(folds.development)):
        rows = folds.of(fold)
        preparation = rows.transform.preprocessor.preparation
        train, validation = (_raw_at(folds, part) for part in (fold.train, fold.validation))
        expected = preparation.training_rows(train.inputs.numpy(), train.targets.numpy())
        np.testing.assert_array_equal(rows.train.inputs, expected)
        assert (rows.train.inputs.numpy() != preparation.transform(train.inputs.numpy())).any()
        np.testing.assert_array_equal(rows.validation.inputs, preparation.transform(validation.inputs.numpy()))


def _raw_at(folds, positions):
    """The raw rows at these positions of the development set."""
    whole = [
        torch.cat([getattr(part, key) for part in (folds.train, folds.validation)]) for key in ("inputs", "targets")
    ]
    inputs, targets = (values[folds.order][torch.from_numpy(positions)] for values in whole)
    return TensorSplit(inputs, targets, torch.from_numpy(positions))


def test_test_rows_change_nothing_that_is_fitted(settings, tmp_path):
    """The test rows' numbers are replaced by others: the preparation stays the same to the byte."""
    from pathlib import Path

    prepare_settings(tmp_path / "first", settings)
    tested = set(load_raw(tmp_path / "first", "test").rows.tolist())
    header, *lines = Path(settings["path"]).read_text().splitlines()
    other = [",".join(["99.5", *line.split(",")[1:]]) if k in tested else line for k, line in enumerate(lines, 1)]
    (tmp_path / "other.csv").write_text("\n".join([header, *other]) + "\n")
    prepare_settings(tmp_path / "second", {**settings, "path": str(tmp_path / "other.csv")})
    first, second = ((tmp_path / name / PREPARATION).read_bytes() for name in ("first", "second"))
    assert first == second
