"""Which rows a fold has, and how they are scaled, compared with scikit-learn's splitters and scalers."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import KFold as SklearnKFold
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hypermap.data import prepare
from hypermap.data.sources import Raw
from hypermap.errors import UserError
from hypermap.fits import Rows
from hypermap.validation import Fold, Holdout, KFold, Pool, derived_seed

CPU = torch.device("cpu")
SOURCES = {
    "digits": {"_target_": "hypermap.data.sources.digits", "test": 0.2, "rows": 400, "split_seed": 5},
    "breast_cancer": {"_target_": "hypermap.data.sources.breast_cancer", "test": 0.2, "split_seed": 5},
    "diabetes": {"_target_": "hypermap.data.sources.diabetes", "test": 0.2, "scaling": "standard"},
}


def pool(targets, classes=(), seed=7):
    return Pool(np.asarray(targets), tuple(classes), Fold(np.arange(0), np.arange(0)), seed)


def labels(rows=103):
    return np.random.default_rng(0).choice(3, size=rows, p=[0.6, 0.3, 0.1])


def splits(splitter, targets):
    return list(splitter.split(targets, targets))


def assert_folds(folds, expected):
    assert len(folds) == len(expected)
    for fold, (train, validation) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


# Splitting.


@pytest.mark.parametrize("k", [2, 5])
def test_folds_are_scikit_learns(k):
    targets = labels()
    stratified = splits(StratifiedKFold(k, shuffle=True, random_state=7), targets)
    plain = splits(SklearnKFold(k, shuffle=True, random_state=7), targets)
    assert_folds(KFold(k).folds(pool(targets, "abc")), stratified)
    assert_folds(KFold(k, stratified=False).folds(pool(targets, "abc")), plain)
    assert_folds(KFold(k).folds(pool(targets + 0.5)), plain)  # numbers have no classes


def test_each_row_validates_once_a_repeat_and_classes_keep_their_shares():
    targets = labels()
    folds = KFold(4, repeats=3).folds(pool(targets, "abc"))
    assert [(fold.repeat, fold.fold) for fold in folds] == [(r, f) for r in (1, 2, 3) for f in (1, 2, 3, 4)]
    for repeat in (1, 2, 3):
        held = [fold.validation for fold in folds if fold.repeat == repeat]
        np.testing.assert_array_equal(np.sort(np.concatenate(held)), np.arange(103))
    for fold in folds:
        assert not set(fold.train) & set(fold.validation)
        assert len(fold.train) + len(fold.validation) == 103
        counts = np.bincount(targets[fold.validation], minlength=3)
        assert np.abs(counts - np.bincount(targets) / 4).max() <= 1


def test_a_repeat_shuffles_anew_by_a_seed_of_its_own():
    targets = labels()
    folds = KFold(2, repeats=2).folds(pool(targets, "abc"))
    assert_folds(folds[:2], splits(StratifiedKFold(2, shuffle=True, random_state=7), targets))
    again = StratifiedKFold(2, shuffle=True, random_state=derived_seed(7, 1))
    assert_folds(folds[2:], splits(again, targets))
    assert set(folds[0].validation) != set(folds[2].validation)


def test_the_same_pool_has_the_same_folds_and_another_seed_others():
    first, second = (KFold(3).folds(pool(labels(), "abc")) for _ in range(2))
    assert_folds(first, [(fold.train, fold.validation) for fold in second])
    other = KFold(3).folds(pool(labels(), "abc", seed=8))
    assert set(first[0].validation) != set(other[0].validation)


def test_holdout_is_the_prepared_splits():
    given = pool(labels(), "abc")
    assert Holdout().folds(given) == [given.holdout]


def test_derived_seeds_begin_with_the_seed_and_do_not_meet():
    assert derived_seed(11, 0) == 11
    seeds = [derived_seed(seed, number) for seed in range(20) for number in range(10)]
    assert len(set(seeds)) == 200  # seed + number would meet
    assert all(0 <= seed < 2**32 for seed in [*seeds, derived_seed(2**32 - 1, 3)])


@pytest.mark.parametrize(
    ("validation", "targets", "classes", "told"),
    [
        (KFold(5), [0] * 9 + [1] * 4, ("cat", "dog"), "the class 'dog' there are 4 rows that are not test. Take valid"),
        (KFold(5), [0] * 9 + [1] * 4, ("cat", "dog"), "validation.k=4 or validation.stratified=false"),
        (KFold(5), [0] * 9 + [1], ("cat", "dog"), "not test. Take validation.stratified=false"),
        (KFold(5), [0.1, 0.2, 0.3], (), "validation.k is 5; it can be 3 at most"),
        (KFold(5, stratified=False), [0, 1, 1], ("cat", "dog"), "it can be 3 at most"),
    ],
)
def test_folds_that_cannot_be_made(validation, targets, classes, told):
    with pytest.raises(UserError) as error:
        validation.folds(pool(targets, classes))
    assert told in str(error.value)


# The rows of a fold.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in SOURCES.items():
        prepare.prepare_settings(folder / name, settings)
    return folder


def rows_of(folder):
    return Rows(folder, prepare.read_manifest(folder))


def stored_rows(folder, *names):
    return np.concatenate([load_file(folder / f"{name}.safetensors")["rows"] for name in names])


def test_the_pool_is_all_but_the_test_rows_in_the_raw_datas_order(prepared):
    folder = prepared / "digits"
    rows = rows_of(folder)
    expected = np.sort(stored_rows(folder, "train", "validation"))
    np.testing.assert_array_equal(rows.pool.targets, load_digits().target[expected])
    assert not set(expected) & set(stored_rows(folder, "test"))
    np.testing.assert_array_equal(expected[rows.pool.holdout.train], stored_rows(folder, "train"))
    np.testing.assert_array_equal(expected[rows.pool.holdout.validation], stored_rows(folder, "validation"))
    assert rows.pool.seed == 5
    assert rows.pool.classes == tuple("0123456789")


def test_folds_do_not_depend_on_the_share_that_is_held_out(prepared, tmp_path):
    prepare.prepare_settings(tmp_path / "made", {**SOURCES["breast_cancer"], "validation": 0.4})
    one, other = rows_of(prepared / "breast_cancer").pool, rows_of(tmp_path / "made").pool
    assert_folds(KFold(3).folds(one), [(fold.train, fold.validation) for fold in KFold(3).folds(other)])


def test_training_never_reads_the_test_rows(prepared, tmp_path):
    for name in ("manifest.json", "train.safetensors", "validation.safetensors"):
        (tmp_path / name).write_bytes((prepared / "digits" / name).read_bytes())
    rows = rows_of(tmp_path)
    train, validation, _ = rows.of(KFold(4).folds(rows.pool)[0], CPU)
    assert len(train.rows) + len(validation.rows) == 400


@pytest.mark.parametrize("data", SOURCES)
def test_the_holdout_fold_is_what_loading_gives(prepared, data):
    rows = rows_of(prepared / data)
    *splits_, manifest = rows.of(rows.pool.holdout, CPU)
    for split, name in zip(splits_, ("train", "validation"), strict=True):
        expected = prepare.load(prepared / data, name)
        assert all(torch.equal(getattr(split, key), getattr(expected, key)) for key in ("inputs", "targets", "rows"))
    assert manifest == prepare.read_manifest(prepared / data)


@pytest.mark.parametrize("data", SOURCES)
def test_fitting_anew_on_the_training_rows_is_what_preparing_did(prepared, data):
    manifest = prepare.read_manifest(prepared / data)
    assert prepare.fitted_on(prepare.load_published(prepared / data, "train"), manifest) == manifest


def raw_inputs(data):
    if data == "breast_cancer":
        return load_breast_cancer().data
    return load_diabetes(scaled=False).data


@pytest.mark.parametrize(
    ("data", "scaling", "scaler"),
    [
        ("breast_cancer", "standard", StandardScaler),
        ("breast_cancer", "unit", MinMaxScaler),
        ("diabetes", "standard", StandardScaler),
    ],
)
def test_a_fold_is_scaled_by_its_own_training_rows(tmp_path, data, scaling, scaler):
    prepare.prepare_settings(tmp_path / "made", {**SOURCES[data], "scaling": scaling})
    rows, inputs = rows_of(tmp_path / "made"), raw_inputs(data).astype(np.float32)
    shifts = []
    for fold in KFold(3).folds(rows.pool):
        train, validation, manifest = rows.of(fold, CPU)
        scale = scaler().fit(inputs[train.rows])
        for split in (train, validation):
            np.testing.assert_allclose(split.inputs, scale.transform(inputs[split.rows]), rtol=1e-3, atol=1e-4)
        shifts.append((*manifest["shift"], *manifest["scale"]))
        assert manifest["fitted_on"]["rows"] == len(train.rows)
    assert len(set(shifts)) == 3


def test_numbers_to_predict_are_standardised_by_the_folds_training_rows(prepared):
    rows, target = rows_of(prepared / "diabetes"), load_diabetes().target
    for fold in KFold(3).folds(rows.pool):
        train, validation, manifest = rows.of(fold, CPU)
        mean, deviation = target[train.rows].mean(), target[train.rows].std()
        np.testing.assert_allclose(validation.targets, (target[validation.rows] - mean) / deviation, atol=1e-5)
        assert (manifest["target_shift"], manifest["target_scale"]) == pytest.approx((mean, deviation))


def dark():
    """Pixels of which none is the brightest there can be."""
    inputs = np.random.default_rng(0).integers(10, 100, (40, 1, 2, 2)).astype(np.uint8)
    return Raw.of(inputs, np.arange(40) % 2, ["even", "odd"], 255.0)


def test_a_published_largest_value_is_not_fitted(tmp_path):
    prepare.prepare(tmp_path / "made", reader=dark, test=0.2)
    rows = rows_of(tmp_path / "made")
    train, _, manifest = rows.of(KFold(4).folds(rows.pool)[1], CPU)
    np.testing.assert_allclose(train.inputs, dark().inputs[train.rows] / 255, rtol=1e-6)
    assert (manifest["shift"], manifest["scale"]) == ([0.0], [255.0])
