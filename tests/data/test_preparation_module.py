"""Every module is compared with the scikit-learn transformer that it stands for, all of them with a preparation."""

import numpy as np
import pytest
import torch
from sklearn import preprocessing
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from hypermap.core.errors import UserError
from hypermap.data.preparation import Preparation, Settings
from hypermap.data.preparation_module import Prepare, as_module


def columns(rows: int, seed: int) -> np.ndarray:
    """Normal, skewed and large, few distinct values, one of them in most rows, and constant."""
    drawn = np.random.default_rng(seed)
    mostly = np.where(drawn.random(rows) < 0.7, 3.0, drawn.normal(size=rows))
    return np.stack(
        [drawn.normal(size=rows), np.exp(drawn.normal(10, 2, rows)), drawn.integers(0, 4, rows), mostly, np.ones(rows)],
        axis=1,
    ).astype(np.float64)


TRAIN = columns(500, seed=0)
# New rows with quantiles hit exactly, values beyond both ends, just inside and outside of them, and the extremes.
NEW = np.concatenate(
    [
        columns(300, seed=1),
        TRAIN[:50],
        np.stack([TRAIN.min(0) - 1e-8, TRAIN.min(0) + 1e-8, TRAIN.max(0) - 1e-8, TRAIN.max(0) + 1e-6]),
        np.full((1, 5), -1e30),
        np.full((1, 5), 1e30),
    ]
)

SCALERS = [
    preprocessing.StandardScaler(),
    preprocessing.MinMaxScaler(),
    preprocessing.RobustScaler(),
    preprocessing.QuantileTransformer(n_quantiles=100, output_distribution="normal"),
    preprocessing.QuantileTransformer(n_quantiles=37, output_distribution="uniform"),
]


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_scaling_is_scikit_learns(scaler):
    scaler.fit(TRAIN)
    got = as_module(scaler)(torch.from_numpy(NEW)).numpy()
    np.testing.assert_allclose(got, scaler.transform(NEW.copy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_what_is_missing_stays_missing(scaler):
    rows = NEW.copy()
    rows[::7, 1] = np.nan
    scaler.fit(TRAIN)
    got = as_module(scaler)(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(got, scaler.transform(rows.copy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
def test_missing_values_scaling_and_components_in_one_pipeline(strategy):
    train, rows = TRAIN.copy(), NEW[:-2].copy()
    train[::5, 0], rows[::3, :] = np.nan, np.nan
    imputer = SimpleImputer(strategy=strategy, fill_value=-2.5, keep_empty_features=True)
    pipeline = make_pipeline(imputer, preprocessing.StandardScaler(), "passthrough", PCA(3)).fit(train)
    got = as_module(pipeline)(torch.from_numpy(rows)).numpy()
    assert got.shape == (len(rows), 3)
    np.testing.assert_allclose(got, pipeline.transform(rows), rtol=1e-9, atol=1e-9)


def test_a_scaler_that_neither_shifts_nor_divides_changes_nothing():
    scaler = preprocessing.StandardScaler(with_mean=False, with_std=False).fit(TRAIN)
    np.testing.assert_array_equal(as_module(scaler)(torch.from_numpy(NEW)).numpy(), NEW)


def test_a_transformer_without_a_counterpart_is_refused():
    with pytest.raises(UserError, match=r"PowerTransformer.*predict\.py"):
        as_module(preprocessing.PowerTransformer().fit(TRAIN))


ROLES = ["number", "category", "number", "number", "category"]


def matrix(rows: int, seed: int, categories: int) -> np.ndarray:
    """Numbers and codes of categories, some of them rare, in both of which some are missing."""
    drawn = np.random.default_rng(seed)
    rare, even = np.floor(categories * drawn.random(rows) ** 3), drawn.integers(0, 3, rows)
    made = np.stack([drawn.normal(size=rows), rare, drawn.normal(size=rows), drawn.gamma(2, size=rows), even], 1)
    made[drawn.random(made.shape) < 0.1] = np.nan
    made[:, 3] = np.nan_to_num(made[:, 3])  # nothing missing here in training, but in new rows
    return made


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(scaling="quantile", missing="mean", missing_categories="most_frequent", rare=20),
        Settings(scaling="robust", missing="constant", fill=-3.0, max_categories=4, missing_indicator=False),
        Settings(scaling="robust_clip", pca=2),
        Settings(scaling="min_max", pca=2, missing="most_frequent"),
        Settings(scaling="none", missing="drop"),
    ],
    ids=lambda settings: f"{settings.missing}-{settings.scaling}",
)
def test_a_whole_preparation_with_unseen_and_missing_categories(settings):
    train, rows = matrix(400, seed=0, categories=8), matrix(300, seed=1, categories=12)
    if settings.missing == "drop":
        train, rows = train[~np.isnan(train).any(1)], rows[~np.isnan(rows).any(1)]
    else:
        rows[::9, 3] = np.nan
    rows[::5, 1] = -1  # what the schema lacks
    preparation = Preparation.fit(train, ROLES, settings)
    expected = preparation.transform(rows)
    got = Prepare(preparation)(torch.from_numpy(rows)).numpy()
    assert got.dtype == np.float32
    assert got.shape == (len(rows), preparation.layout.width)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(got[:, preparation.layout.numbers :], expected[:, preparation.layout.numbers :])


@pytest.mark.parametrize("classes", [None, 2, 3])
@pytest.mark.parametrize("missing_categories", ["own", "most_frequent"])
def test_means_of_the_target(classes, missing_categories):
    train, rows = matrix(400, seed=0, categories=8), matrix(300, seed=1, categories=12)
    rows[::5, 1] = -1
    targets = np.nan_to_num(train[:, 1]) + np.random.default_rng(0).normal(size=400)
    if classes:
        targets = np.floor(targets).astype(np.int64) % classes
    settings = Settings(categories="target", missing_categories=missing_categories)
    preparation = Preparation.fit(train, ROLES, settings, targets)
    got = Prepare(preparation)(torch.from_numpy(rows)).numpy()
    assert got.shape[1] == 3 + 2 * (3 if classes == 3 else 1) + 2
    np.testing.assert_allclose(got, preparation.transform(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("roles", [["number"] * 2, ["category"] * 2])
def test_a_table_of_one_kind(roles):
    train = np.random.default_rng(0).integers(0, 5, (50, 2)).astype(np.float64)
    preparation = Preparation.fit(train, roles, Settings())
    np.testing.assert_allclose(Prepare(preparation)(torch.from_numpy(train)), preparation.transform(train), rtol=1e-6)
