"""Which rows a fold has, and how they are scaled, compared with scikit-learn's splitters and scalers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import GroupKFold as SklearnGroupKFold
from sklearn.model_selection import KFold as SklearnKFold
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hypermap.core.errors import UserError
from hypermap.data.cross_validation import DevelopmentSet, Fold, GroupKFold, Holdout, KFold, TimeSeries, repeat_seed
from hypermap.data.fold_data import Folds
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets import prepare
from hypermap.datasets.images import Raw

DATASETS = {
    "digits": {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 400, "split_seed": 5},
    "breast_cancer": {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "split_seed": 5},
    "diabetes": {"_target_": "hypermap.datasets.images.diabetes", "test": 0.2, "scaling": "standard"},
}


def development(targets, classes=(), seed=7, groups=None, times=None):
    holdout = Fold(np.arange(0), np.arange(0))
    groups = None if groups is None else np.asarray(groups, np.int64)
    times = None if times is None else np.asarray(times, np.float64)
    return DevelopmentSet(np.asarray(targets), tuple(classes), holdout, seed, groups, times)


def labels(rows=103):
    return np.random.default_rng(0).choice(3, size=rows, p=[0.6, 0.3, 0.1])


def splits(splitter, targets, groups=None):
    return list(splitter.split(targets, targets, groups))


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
    assert_folds(KFold(k).folds(development(targets, "abc")), stratified)
    assert_folds(KFold(k, stratified=False).folds(development(targets, "abc")), plain)
    assert_folds(KFold(k).folds(development(targets + 0.5)), plain)  # numbers have no classes


def test_each_row_validates_once_a_repeat_and_classes_keep_their_shares():
    targets = labels()
    folds = KFold(4, repeats=3).folds(development(targets, "abc"))
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
    folds = KFold(2, repeats=2).folds(development(targets, "abc"))
    assert_folds(folds[:2], splits(StratifiedKFold(2, shuffle=True, random_state=7), targets))
    again = StratifiedKFold(2, shuffle=True, random_state=repeat_seed(7, 1))
    assert_folds(folds[2:], splits(again, targets))
    assert set(folds[0].validation) != set(folds[2].validation)


def test_the_same_pool_has_the_same_folds_and_another_seed_others():
    first, second = (KFold(3).folds(development(labels(), "abc")) for _ in range(2))
    assert_folds(first, [(fold.train, fold.validation) for fold in second])
    other = KFold(3).folds(development(labels(), "abc", seed=8))
    assert set(first[0].validation) != set(other[0].validation)


def test_holdout_is_the_prepared_splits():
    given = development(labels(), "abc")
    assert Holdout().folds(given) == [given.holdout]


def test_derived_seeds_begin_with_the_seed_and_do_not_meet():
    assert repeat_seed(11, 0) == 11
    seeds = [repeat_seed(seed, number) for seed in range(20) for number in range(10)]
    assert len(set(seeds)) == 200  # seed + number would meet
    assert all(0 <= seed < 2**32 for seed in [*seeds, repeat_seed(2**32 - 1, 3)])


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
        validation.folds(development(targets, classes))
    assert told in str(error.value)


# Groups of rows, and order in time.


def patients(rows=103):
    """Groups of unequal sizes, of which the numbers are no positions."""
    return np.random.default_rng(1).integers(0, 17, rows) ** 2 - 5


@pytest.mark.parametrize("k", [2, 5])
def test_folds_of_groups_are_scikit_learns(k):
    targets, groups = labels(), patients()
    plain = splits(SklearnGroupKFold(k, shuffle=True, random_state=7), targets, groups)
    stratified = splits(StratifiedGroupKFold(k, shuffle=True, random_state=7), targets, groups)
    assert_folds(GroupKFold(k).folds(development(targets, "abc", groups=groups)), stratified)
    assert_folds(GroupKFold(k, stratified=False).folds(development(targets, "abc", groups=groups)), plain)
    assert_folds(GroupKFold(k).folds(development(targets + 0.5, groups=groups)), plain)


@pytest.mark.parametrize("stratified", [True, False])
def test_a_group_is_on_one_side_of_each_fold(stratified):
    targets, groups = labels(), patients()
    folds = GroupKFold(4, stratified, repeats=2).folds(development(targets, "abc", groups=groups))
    assert [(fold.repeat, fold.fold) for fold in folds] == [(r, f) for r in (1, 2) for f in (1, 2, 3, 4)]
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])
    for repeat in (folds[:4], folds[4:]):
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.validation for fold in repeat])), np.arange(103))
    assert {frozenset(fold.validation) for fold in folds[:4]} != {frozenset(fold.validation) for fold in folds[4:]}


@pytest.mark.parametrize(("gap", "most"), [(0, None), (3, None), (0, 20), (2, 20)])
def test_steps_through_time_are_scikit_learns(gap, most):
    times = np.random.default_rng(2).permutation(103) / 10
    order = np.argsort(times)
    expected = TimeSeriesSplit(4, gap=gap, max_train_size=most).split(order)
    folds = TimeSeries(4, gap, most).folds(development(labels(), "abc", times=times))
    assert_folds(folds, [(order[train], order[validation]) for train, validation in expected])
    assert [fold.fold for fold in folds] == [1, 2, 3, 4]


def test_windows_that_forecast_into_a_part_are_not_learned_from_before_it():
    times = np.arange(100)
    given = development(times * 0.5, times=times)
    found, without = (TimeSeries(3).folds(own) for own in (replace(given, reach=5), given))
    for fold, usual in zip(found, without, strict=True):
        assert times[fold.train].max() + 5 < times[fold.validation].min()
        np.testing.assert_array_equal(fold.train, usual.train[:-5])


@pytest.mark.parametrize("moments", [9, 20, 60])
def test_all_that_is_learned_from_is_earlier_than_what_validates(moments):
    times = np.random.default_rng(3).integers(0, moments, 500)
    folds = TimeSeries(3).folds(development(times * 0.5, times=times))
    for fold in folds:
        assert times[fold.train].max() < times[fold.validation].min()
    held = np.concatenate([fold.validation for fold in folds])
    assert len(set(held)) == len(held)
    np.testing.assert_array_equal(np.sort([*folds[0].train, *held]), np.arange(500))


LAST = [0] * 11 + [1]  # the one dog comes last


@pytest.mark.parametrize(
    ("validation", "given", "told"),
    [
        (GroupKFold(2), {}, "validation is group_kfold, and the rows have no groups: set data.group=COLUMN"),
        (TimeSeries(2), {}, "validation is time_series, and the rows have no order in time: set data.time=COLUMN"),
        (KFold(2), {"groups": range(12)}, "take validation=group_kfold or holdout"),
        (KFold(2), {"times": range(12)}, "take validation=time_series or holdout"),
        (GroupKFold(4), {"groups": [1, 2, 3] * 4}, "validation.k is 4; it can be 3 at most, as many groups"),
        (
            GroupKFold(3),
            {"targets": LAST, "groups": range(12)},
            "of the class 'dog' rows are in 1 groups (data.group) that are not test. Take validation.stratified=false",
        ),
        (
            GroupKFold(3),
            {"targets": [0, 1] * 6, "groups": [0, 1] * 4 + [2, 2, 0, 1]},
            "of the class 'cat' rows are in 2 groups (data.group) that are not test. Take validation.k=2 or",
        ),
        (TimeSeries(12), {"times": range(12)}, "validation.k is 12; it can be 11 at most"),
        (
            TimeSeries(3),
            {"times": [1] * 6 + [2] * 6},
            "Step 1 of validation.k=3 has no rows to learn from: 12 rows of 2",
        ),
        (TimeSeries(2, gap_rows=4), {"times": range(12)}, "Take a smaller validation.k or validation.gap_rows."),
        (TimeSeries(2), {"times": [1] * 4 + [2] * 8}, "Step 1 of validation.k=2 has no rows to validate"),
        (
            TimeSeries(3),
            {"targets": LAST, "times": range(12)},
            "Step 1 of validation.k=3 learns from 3 rows, none of them of the class 'dog'",
        ),
    ],
)
def test_groups_and_times_that_do_not_suit_the_validation(validation, given, told):
    with pytest.raises(UserError) as error:
        validation.folds(development(**{"targets": [0, 1] * 6, "classes": ("cat", "dog"), **given}))
    assert told in str(error.value)


# The rows of a fold.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in DATASETS.items():
        prepare.prepare_settings(folder / name, settings)
    return folder


def stored_rows(folder, *names):
    return np.concatenate([load_file(folder / f"{name}.safetensors")["rows"] for name in names])


def test_the_pool_is_all_but_the_test_rows_in_the_raw_datas_order(prepared):
    folder = prepared / "digits"
    pooled = Folds(folder).development
    expected = np.sort(stored_rows(folder, "train", "validation"))
    np.testing.assert_array_equal(pooled.targets, load_digits().target[expected])
    assert not set(expected) & set(stored_rows(folder, "test"))
    np.testing.assert_array_equal(expected[pooled.holdout.train], stored_rows(folder, "train"))
    np.testing.assert_array_equal(expected[pooled.holdout.validation], stored_rows(folder, "validation"))
    assert pooled.seed == 5
    assert pooled.classes == tuple("0123456789")
    assert pooled.groups is None
    assert pooled.times is None


def test_folds_do_not_depend_on_the_share_that_is_held_out(prepared, tmp_path):
    prepare.prepare_settings(tmp_path / "made", {**DATASETS["breast_cancer"], "validation": 0.4})
    one, other = Folds(prepared / "breast_cancer").development, Folds(tmp_path / "made").development
    assert_folds(KFold(3).folds(one), [(fold.train, fold.validation) for fold in KFold(3).folds(other)])


def test_training_never_reads_the_test_rows(prepared, tmp_path):
    for name in ("manifest.json", "train.safetensors", "validation.safetensors"):
        (tmp_path / name).write_bytes((prepared / "digits" / name).read_bytes())
    folds = Folds(tmp_path)
    rows = folds.of(KFold(4).folds(folds.development)[0])
    assert len(rows.train.rows) + len(rows.validation.rows) == 400


@pytest.mark.parametrize("data", DATASETS)
def test_the_holdout_fold_is_what_loading_gives(prepared, data):
    folds = Folds(prepared / data)
    rows = folds.of(folds.development.holdout)
    for split, name in ((rows.train, "train"), (rows.validation, "validation")):
        expected = load(prepared / data, name)
        assert all(torch.equal(getattr(split, key), getattr(expected, key)) for key in ("inputs", "targets", "rows"))
    assert rows.transform.manifest == Manifest.read(prepared / data)


@pytest.mark.parametrize("data", DATASETS)
def test_fitting_anew_on_the_training_rows_is_what_preparing_did(prepared, data):
    transform = read_transform(prepared / data)
    assert transform.refit(load_raw(prepared / data, "train")).manifest == transform.manifest


def parts_of(folds, fold):
    rows = folds.of(fold)
    return rows.train, rows.validation, rows.transform.manifest


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
    prepare.prepare_settings(tmp_path / "made", {**DATASETS[data], "scaling": scaling})
    folds, inputs = Folds(tmp_path / "made"), raw_inputs(data).astype(np.float32)
    shifts = []
    for fold in KFold(3).folds(folds.development):
        train, validation, manifest = parts_of(folds, fold)
        scale = scaler().fit(inputs[train.rows])
        for split in (train, validation):
            np.testing.assert_allclose(split.inputs, scale.transform(inputs[split.rows]), rtol=1e-3, atol=1e-4)
        shifts.append((*manifest.shift, *manifest.scale))
        assert manifest.fitted_on["rows"] == len(train.rows)
    assert len(set(shifts)) == 3


def test_numbers_to_predict_are_standardised_by_the_folds_training_rows(prepared):
    folds, target = Folds(prepared / "diabetes"), load_diabetes().target
    for fold in KFold(3).folds(folds.development):
        train, validation, manifest = parts_of(folds, fold)
        mean, deviation = target[train.rows].mean(), target[train.rows].std()
        np.testing.assert_allclose(validation.targets, (target[validation.rows] - mean) / deviation, atol=1e-5)
        assert (manifest.target_shift, manifest.target_scale) == pytest.approx((mean, deviation))


def dark():
    """Pixels of which none is the brightest there can be."""
    inputs = np.random.default_rng(0).integers(10, 100, (40, 1, 2, 2)).astype(np.uint8)
    return Raw.of(inputs, np.arange(40) % 2, ["even", "odd"], 255.0)


def test_a_published_largest_value_is_not_fitted(tmp_path):
    prepare.prepare(tmp_path / "made", reader=dark, test=0.2)
    folds = Folds(tmp_path / "made")
    train, _, manifest = parts_of(folds, KFold(4).folds(folds.development)[1])
    np.testing.assert_allclose(train.inputs, dark().inputs[train.rows] / 255, rtol=1e-6)
    assert (manifest.shift, manifest.scale) == ([0.0], [255.0])


def grouped():
    """Rows of groups in an order of its own, each row its own number."""
    groups = np.random.default_rng(4).integers(0, 30, 200)
    inputs = np.arange(200, dtype=np.float32)[:, None]
    return Raw.of(inputs, np.arange(200) % 2, ["even", "odd"], groups=groups)


def timed():
    """Rows of times in an order of its own, each row its own number."""
    times = np.random.default_rng(4).permutation(200) / 7
    return Raw.of(np.arange(200, dtype=np.float32)[:, None], np.arange(200.0), times=times)


def test_groups_and_times_of_the_rows_reach_the_validation(tmp_path):
    for reader, name, values in ((grouped, "groups", grouped().groups), (timed, "times", timed().times)):
        prepare.prepare(tmp_path / name, reader=reader, test=0.2)
        pooled = Folds(tmp_path / name).development
        kept = np.sort(stored_rows(tmp_path / name, "train", "validation"))
        np.testing.assert_array_equal(getattr(pooled, name), values[kept])
        train, validation = (values[kept][part] for part in (pooled.holdout.train, pooled.holdout.validation))
        apart = not set(train) & set(validation) if name == "groups" else train.max() < validation.min()
        assert apart
        assert Holdout().folds(pooled) == [pooled.holdout]


def test_oversampling_repeats_training_rows_alone(tmp_path):
    def uneven():
        return Raw.of(np.arange(100, dtype=np.float32)[:, None], np.arange(100) % 5 == 0, ["many", "few"])

    prepare.prepare(tmp_path / "made", reader=uneven, test=0.2, oversample=True)
    folds, kept = Folds(tmp_path / "made"), np.sort(stored_rows(tmp_path / "made", "train", "validation"))
    for fold in (folds.development.holdout, *KFold(4).folds(folds.development)):
        train, validation, manifest = parts_of(folds, fold)
        assert np.ptp(np.bincount(train.targets)) == 0
        assert set(train.rows.tolist()) == set(kept[fold.train])
        assert len(validation.rows) == len(set(validation.rows.tolist())) == len(fold.validation)
        assert not set(train.rows.tolist()) & set(validation.rows.tolist())
        assert manifest.fitted_on["rows"] == len(fold.train), "scaled by the rows that there are"
