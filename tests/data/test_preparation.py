"""Preparation of a table's matrix, compared with scikit-learn's own transformers on the training rows."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from hypermap.core import skops_io
from hypermap.core.errors import UserError
from hypermap.data.layout import ColumnLayout
from hypermap.data.preparation import Preparation, Settings, complete_rows

ROLES = ["number", "category", "number", "number", "category"]
TRAIN = 160


@pytest.fixture(scope="module")
def matrix():
    """Three numbers and two categories, a tenth of the first number and of the last category missing."""
    generator = np.random.default_rng(0)
    rows = np.column_stack(
        [
            generator.normal(5, 2, 200),
            generator.integers(0, 4, 200),
            generator.exponential(3, 200),
            generator.normal(size=200),
            np.minimum(generator.geometric(0.4, 200), 7),
        ]
    )
    rows[generator.random(200) < 0.1, 0] = np.nan
    rows[generator.random(200) < 0.1, 4] = np.nan
    rows[0, [0, 4]] = np.nan  # in any case one of the training rows
    return rows


def fitted(matrix, **settings):
    return Preparation.fit(matrix[:TRAIN], ROLES, Settings(**settings))


def numbers(matrix, fill):
    chosen = matrix[:, [0, 2, 3]].copy()
    chosen[np.isnan(chosen)] = fill
    return chosen


@pytest.mark.parametrize(
    ("missing", "statistic"), [("mean", np.nanmean), ("median", np.nanmedian), ("constant", lambda _: -7.5)]
)
def test_missing_numbers_become_a_statistic_of_the_training_rows(matrix, missing, statistic):
    prepared = fitted(matrix, missing=missing, fill=-7.5, scaling="none").transform(matrix)
    expected = numbers(matrix, statistic(matrix[:TRAIN, 0]))
    np.testing.assert_allclose(prepared[:, :3], expected, rtol=1e-6)


def test_missing_numbers_become_the_most_frequent_one(matrix):
    whole = np.round(matrix)
    values, counts = np.unique(whole[:TRAIN, 0][~np.isnan(whole[:TRAIN, 0])], return_counts=True)
    prepared = fitted(whole, missing="most_frequent", scaling="none").transform(whole)
    np.testing.assert_allclose(prepared[:, 0], numbers(whole, values[counts.argmax()])[:, 0])


def test_an_indicator_says_which_numbers_were_missing_of_columns_that_had_any_in_training(matrix):
    preparation = fitted(matrix)
    assert preparation.layout.binary == 1
    np.testing.assert_array_equal(preparation.transform(matrix)[:, 3], np.isnan(matrix[:, 0]))
    assert fitted(matrix, missing_indicator=False).layout.binary == 0


@pytest.mark.parametrize(
    ("scaling", "scaler"),
    [
        ("standard", StandardScaler()),
        ("min_max", MinMaxScaler()),
        ("robust", RobustScaler()),
        ("quantile", QuantileTransformer(n_quantiles=10, output_distribution="normal")),
    ],
)
def test_numbers_are_scaled_as_scikit_learn_does_by_the_training_rows_alone(matrix, scaling, scaler):
    filled = numbers(matrix, np.nanmedian(matrix[:TRAIN, 0]))
    expected = scaler.fit(filled[:TRAIN]).transform(filled)
    np.testing.assert_allclose(fitted(matrix, scaling=scaling).transform(matrix)[:, :3], expected, atol=1e-5)


def test_robust_clip_is_the_papers_formula_and_knows_columns_of_mostly_one_value(matrix):
    filled = numbers(matrix, np.nanmedian(matrix[:TRAIN, 0]))
    scaled = RobustScaler().fit(filled[:TRAIN]).transform(filled)
    expected = scaled / np.sqrt(1 + (scaled / 3) ** 2)
    np.testing.assert_allclose(fitted(matrix, scaling="robust_clip").transform(matrix)[:, :3], expected, atol=1e-5)
    column = np.zeros((100, 1))
    column[:10, 0] = np.arange(10) * 1000.0  # its quartiles are equal: half of its range is the unit
    prepared = Preparation.fit(column, ["number"], Settings(scaling="robust_clip")).transform(column)
    np.testing.assert_allclose(prepared, (column / 4500) / np.sqrt(1 + (column / 13500) ** 2), atol=1e-6)


def test_quantile_scaling_makes_ranks_normal():
    column = np.random.default_rng(1).exponential(size=(30_000, 1)) ** 3
    prepared = Preparation.fit(column, ["number"], Settings(scaling="quantile")).transform(column)
    inner = slice(1000, -1000)
    ranks = norm.ppf((np.arange(30_000) + 0.5) / 30_000)[inner]
    np.testing.assert_allclose(np.sort(prepared[:, 0])[inner], ranks, atol=0.01)


def test_principal_components_are_those_of_the_scaled_training_rows(matrix):
    filled = numbers(matrix, np.nanmedian(matrix[:TRAIN, 0]))
    scaled = StandardScaler().fit(filled[:TRAIN]).transform(filled)
    expected = PCA(2, svd_solver="full").fit(scaled[:TRAIN]).transform(scaled)
    preparation = fitted(matrix, pca=2)
    assert preparation.layout.numbers == 2
    np.testing.assert_allclose(preparation.transform(matrix)[:, :2], expected, atol=1e-5)


def test_more_components_than_numbers_are_refused(matrix):
    with pytest.raises(UserError, match=r"data\.pca is 4; there are 3 columns of numbers"):
        fitted(matrix, pca=4)
    with pytest.raises(UserError, match=r"no columns of numbers"):
        Preparation.fit(matrix[:, [1]], ["category"], Settings(pca=0.9))


@pytest.mark.parametrize("settings", [{}, {"rare": 20}, {"max_categories": 3}, {"rare": 1000}])
def test_spread_codes_are_scikit_learns_one_hot_columns(matrix, settings):
    """Missing is a category of its own; what training lacks is zeros, or with the rare where there are such."""
    asked = matrix.copy()
    asked[-1, 1], asked[-2, 4] = 99.0, -1.0  # neither is in the training rows
    categories = np.where(np.isnan(asked[:, [1, 4]]), -2.0, asked[:, [1, 4]])
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=settings.get("rare"),
        max_categories=settings.get("max_categories"),
        sparse_output=False,
    ).fit(categories[:TRAIN])
    preparation = fitted(matrix, **settings)
    rows = preparation.transform(asked)
    for spread in (preparation.layout.to_one_hot(rows), preparation.layout.to_one_hot(torch.from_numpy(rows)).numpy()):
        assert (spread.shape[1], spread.dtype) == (preparation.layout.one_hot.width, np.float32)
        assert spread.flags.c_contiguous  # the order of memory decides the last digits of a product
        np.testing.assert_array_equal(spread[:, preparation.layout.plain :], encoder.transform(categories))


def test_a_missing_category_can_be_the_most_frequent(matrix):
    values, counts = np.unique(matrix[:TRAIN, 4][~np.isnan(matrix[:TRAIN, 4])], return_counts=True)
    codes = fitted(matrix, missing_categories="most_frequent").transform(matrix)[:, -1]
    assert set(codes[np.isnan(matrix[:, 4])]) == {values.tolist().index(values[counts.argmax()]) + 1}


def test_ordinal_codes_are_shares_of_their_column():
    rows = torch.tensor([[0.5, 1.0, 2.0], [0.1, 4.0, 0.0]])
    for kind in (rows, rows.numpy()):
        shares = ColumnLayout(1, 0, (4, 2)).to_ordinal(kind)
        np.testing.assert_allclose(shares, [[0.5, 0.25, 1.0], [0.1, 1.0, 0.0]])


def test_rows_that_are_not_training_rows_change_nothing(matrix):
    other = matrix.copy()
    other[TRAIN:] = other[TRAIN:] * 100 + 5
    for settings in (
        {"scaling": "quantile", "rare": 5},
        {"missing": "mean", "pca": 2},
        {"scaling": "robust"},
        {"scaling": "robust_clip"},
    ):
        first, second = fitted(matrix, **settings), fitted(other, **settings)
        np.testing.assert_array_equal(first.transform(matrix), second.transform(matrix))


def test_columns_that_are_empty_or_constant_in_training_do_no_harm():
    rows = np.column_stack([np.full(50, np.nan), np.full(50, 3.0), np.arange(50.0)])
    later = np.column_stack([np.arange(50.0), np.arange(50.0), np.full(50, np.nan)])
    for scaling in ("standard", "min_max", "robust", "robust_clip", "quantile", "none"):
        preparation = Preparation.fit(rows, ["number"] * 3, Settings(scaling=scaling))
        assert np.isfinite(preparation.transform(later)).all()


def test_complete_rows_lack_nothing(matrix):
    np.testing.assert_array_equal(complete_rows(matrix), [not any(np.isnan(row)) for row in matrix])


@pytest.mark.parametrize(("key", "word"), [("scaling", "quantil"), ("missing", "zero"), ("categories", "onehot")])
def test_an_unknown_word_is_told_with_what_there_is(key, word):
    with pytest.raises(UserError, match=rf"data\.{key} is '{word}'; for a table it is one of"):
        Settings(**{key: word})


# Stored without pickle.


def test_a_stored_preparation_does_the_same(matrix):
    preparation = fitted(matrix, scaling="quantile", rare=20, pca=2)
    content = skops_io.dumps(preparation.transformer)
    again = Preparation(skops_io.loads(content, "file", "do it again"))
    assert again.layout == preparation.layout
    np.testing.assert_array_equal(again.transform(matrix), preparation.transform(matrix))
    assert skops_io.dumps(again.transformer) == content


def test_equal_preparations_have_equal_bytes_in_every_process(matrix, tmp_path):
    np.save(tmp_path / "matrix.npy", matrix)
    program = f"""
import sys, numpy as np
from hypermap.core import skops_io
from hypermap.data.preparation import Preparation, Settings
rows = np.load({str(tmp_path / "matrix.npy")!r})[:{TRAIN}]
sys.stdout.buffer.write(skops_io.dumps(Preparation.fit(rows, {ROLES!r}, Settings(scaling="quantile")).transformer))
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment).stdout
    assert other == skops_io.dumps(fitted(matrix, scaling="quantile").transformer)


def test_a_damaged_file_or_a_foreign_type_is_told(matrix):
    content = skops_io.dumps(fitted(matrix).transformer)
    with pytest.raises(UserError, match=r"x\.skops cannot be read .* Train again"):
        skops_io.loads(content[: len(content) // 2], "x.skops", "Train again")
    import skops.io

    with pytest.raises(UserError, match=r"x\.skops holds types that no model of ours has"):
        skops_io.loads(skops.io.dumps(subprocess.Popen), "x.skops", "Train again")


def test_settings_are_plain_values():
    assert Settings(**dataclasses.asdict(Settings(pca=0.5))) == Settings(pca=0.5)


# Means of the target.

MEANS = {
    "continuous": (np.random.default_rng(1).normal(size=200), KFold(5, shuffle=True, random_state=7)),
    "binary": (np.arange(200) % 7 % 2, StratifiedKFold(5, shuffle=True, random_state=7)),
    "multiclass": (np.arange(200) % 7 % 3, StratifiedKFold(5, shuffle=True, random_state=7)),
    "multiclass, rare": (np.where(np.arange(200) == 3, 3, np.arange(200) % 3), KFold(5, shuffle=True, random_state=7)),
}


@pytest.mark.parametrize("kind", MEANS)
def test_categories_become_means_of_the_target_as_in_scikit_learn(matrix, kind):
    targets, folds = MEANS[kind]
    preparation = Preparation.fit(matrix[:TRAIN], ROLES, Settings(categories="target"), targets[:TRAIN], seed=7)
    codes = np.nan_to_num(matrix[:, [1, 4]], nan=-2)
    encoder, scaler = TargetEncoder(target_type=kind.split(",")[0], cv=folds), StandardScaler()
    learned = scaler.fit_transform(encoder.fit_transform(codes[:TRAIN], targets[:TRAIN]))
    width = learned.shape[1]
    assert width == 2 * (len(encoder.classes_) if kind.startswith("multiclass") else 1)
    assert preparation.layout == ColumnLayout(3 + width, 1)
    training = preparation.training_rows(matrix[:TRAIN], targets[:TRAIN])
    np.testing.assert_allclose(training[:, 3 : 3 + width], learned, rtol=1e-5, atol=1e-6)
    others = scaler.transform(encoder.transform(codes[TRAIN:]))
    np.testing.assert_allclose(preparation.transform(matrix[TRAIN:])[:, 3 : 3 + width], others, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(training[:, :3], preparation.transform(matrix[:TRAIN])[:, :3])


def test_means_are_stored_and_those_of_unknown_categories_are_that_of_all_rows(matrix):
    targets = MEANS["continuous"][0]
    preparation = Preparation.fit(
        matrix[:TRAIN], ROLES, Settings(categories="target", scaling="none"), targets[:TRAIN], seed=7
    )
    loaded = Preparation(skops_io.loads(skops_io.dumps(preparation.transformer), "it", "Again."))
    np.testing.assert_array_equal(loaded.transform(matrix), preparation.transform(matrix))
    unknown = matrix[:1].copy()
    unknown[:, [1, 4]] = [99, -1]
    np.testing.assert_allclose(loaded.transform(unknown)[0, 3:5], targets[:TRAIN].mean(), rtol=1e-5)


def test_a_training_rows_own_target_has_no_part_in_its_mean():
    codes, targets = np.arange(200.0) // 2, np.random.default_rng(0).normal(size=200)  # 100 categories that say nothing
    preparation = Preparation.fit(codes[:, np.newaxis], ["category"], Settings(categories="target"), targets)
    rows = codes[:, np.newaxis]
    assert np.corrcoef(preparation.transform(rows)[:, 0], targets)[0, 1] > 0.5
    assert abs(np.corrcoef(preparation.training_rows(rows, targets)[:, 0], targets)[0, 1]) < 0.2


@pytest.mark.parametrize("targets", [None, np.zeros((TRAIN, 2))])
def test_means_are_of_one_target(matrix, targets):
    with pytest.raises(UserError, match=r"data\.categories is target, which is for one target: take auto"):
        Preparation.fit(matrix[:TRAIN], ROLES, Settings(categories="target"), targets)
