"""LightGBM as a family, held to LightGBM itself on the same rows, and its trees as data."""

import re
from dataclasses import replace

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping

from hypermap.data.layout import ColumnLayout
from hypermap.models.lightgbm import LightGBM, Trees
from hypermap.models.sklearn_models import TrainingData

LEVELS = 8
LAYOUT = ColumnLayout(2, 0, (LEVELS,))


def problem(kind):
    """Two numbers and a category that decides, unlike its code's order."""
    random = np.random.default_rng(0)
    codes = random.integers(1, LEVELS + 1, 1500)
    numbers = random.normal(size=(1500, 2))
    signal = numbers[:, 0] + np.sin(7.0 * codes) + 0.5 * random.normal(size=1500)
    targets = {
        "binary": (signal > 1).astype(np.int64),
        "multiclass": np.digitize(signal, [-1, 0, 1]),
        "regression": signal.astype(np.float32),
    }[kind]
    inputs = np.column_stack([numbers, codes]).astype(np.float32)
    parts = ((inputs[rows], targets[rows]) for rows in (slice(0, 1000), slice(1000, None)))
    return TrainingData(kind != "regression", *parts, seed=3, threads=1)


def of_lightgbm(kind, given, **values):
    """LightGBM's own estimator, stopped early on the validation rows."""
    chosen = {
        "learning_rate": 0.05, "num_leaves": 100, "min_child_samples": 3, "subsample": 0.7
    } if kind == "regression" else {
        "learning_rate": 0.04, "num_leaves": 50, "min_child_samples": 40, "subsample": 0.75
    }  # fmt: skip
    estimator = (LGBMRegressor if kind == "regression" else LGBMClassifier)(
        n_estimators=1000, subsample_freq=1, min_child_weight=1e-7, random_state=3, n_jobs=1, deterministic=True,
        force_row_wise=True, verbosity=-1, **chosen | values,
    )  # fmt: skip
    stop = [early_stopping(300, verbose=False)]
    inputs, targets = given.validation
    return estimator.fit(*given.train, eval_X=inputs, eval_y=targets, callbacks=stop, categorical_feature=[2])


def answers(estimator, kind, inputs):
    return estimator.predict(inputs) if kind == "regression" else estimator.predict_proba(inputs)


@pytest.mark.filterwarnings("ignore::UserWarning")  # LightGBM's, of its own keywords
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_it_predicts_what_lightgbm_does(kind):
    given = problem(kind)
    trees, own = LightGBM(LAYOUT).fit(given), of_lightgbm(kind, given)
    assert trees.iterations == own.best_iteration_
    np.testing.assert_array_equal(answers(trees, kind, given.validation[0]), answers(own, kind, given.validation[0]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_balanced_classes_weigh_the_same():
    given = problem("binary")
    rows, alike = given.validation[0], of_lightgbm("binary", given, class_weight="balanced")
    trees = LightGBM(LAYOUT, class_weight="balanced").fit(given)
    np.testing.assert_array_equal(trees.predict_proba(rows), alike.predict_proba(rows))
    assert trees.text != LightGBM(LAYOUT).fit(given).text


def test_threads_change_no_bit():
    given = problem("multiclass")
    several = TrainingData(given.classifies, given.train, given.validation, given.seed, threads=2)
    assert LightGBM(LAYOUT, n_estimators=30).fit(given).text == LightGBM(LAYOUT, n_estimators=30).fit(several).text


def test_without_validation_rows_as_many_trees_are_fitted_as_they_have_decided():
    family, given = LightGBM(LAYOUT, n_estimators=400), problem("multiclass")
    decided = family.decided(family.fit(given))
    again = family.fit(replace(given, validation=None, decided=decided))
    assert again.text == family.fit(given).text
    assert family.fit(replace(given, validation=None, decided={"n_estimators": 17.4})).iterations == 17


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_trees_that_lead_out_of_bounds_are_refused(kind):
    """LightGBM itself would follow them to wherever they lead, or forever."""
    trees = LightGBM(LAYOUT, n_estimators=3).fit(problem(kind))
    damages = {
        r"left_child=\S+": "left_child=0",  # itself
        r"right_child=\S+": "right_child=5000",
        r"left_child=(\S+) ": r"left_child=-5000 ",
        r"split_feature=\S+": "split_feature=99",
        r"split_feature=\S+ ": "split_feature=",
        r"leaf_value=\S+ ": "leaf_value=",
        r"cat_boundaries=0": "cat_boundaries=7",
        r"num_cat=[1-9]\d*": "num_cat=0",
        r"num_leaves=\d+": "num_leaves=100000",
        r"num_class=\d": "num_class=7",
        r"max_feature_idx=\d+": "max_feature_idx=9999",
        r"objective=\w+": "objective=lambdarank",
        r"shrinkage=\S+": "shrinkage=here",
        r"shrinkage=(\S+)": r"shrinkage=\1\nshrinkage=\1",
    }
    whole = trees.__getstate__()
    for found, put in damages.items():
        text, count = re.subn(found, put, whole["text"], count=1)
        assert count == 1, found
        with pytest.raises((ValueError, KeyError)):
            Trees.__new__(Trees).__setstate__({**whole, "text": text})
    with pytest.raises(ValueError, match="classes"):
        Trees.__new__(Trees).__setstate__({**whole, "classes": np.arange(9)})
