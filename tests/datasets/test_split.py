"""Which rows are in which part: whole groups, order in time, and classes that are too rare.

What is split at random is compared with scikit-learn in test_prepare.py.
"""

from itertools import combinations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from hypermap.core.errors import UserError
from hypermap.datasets.images import Raw
from hypermap.datasets.split import split

PARTS = ("train", "validation", "test")


def raw(targets, names=(), *, test_targets=None, **fields):
    """A data set whose one input is the row's number."""
    tests = None if test_targets is None else np.arange(len(test_targets), dtype=np.float32)[:, None]
    inputs = np.arange(len(targets), dtype=np.float32)[:, None]
    return Raw.of(inputs, targets, names, None, tests, test_targets, **fields)


def parts(data, *, validation=0.25, test=0.2, seed=0, row_limit=None):
    made = split(data, "table", validation=validation, test=test, seed=seed, row_limit=row_limit)
    for part in made.values():
        np.testing.assert_array_equal(part.inputs[:, 0], part.rows)
    return [made[name].rows for name in PARTS]


def told(data, **settings):
    with pytest.raises(UserError) as error:
        parts(data, **settings)
    return str(error.value)


# Groups.


def patients(rows=1000, count=60, seed=0):
    """Rows of groups that differ in size and in their classes, as patients do."""
    generator = np.random.default_rng(seed)
    groups = generator.choice(count, rows, p=generator.dirichlet(np.full(count, 2.0)))
    chance = generator.uniform(0, 0.6, count)
    return (generator.random(rows) < chance[groups]).astype(np.int64), groups * 7 - 3


@pytest.mark.parametrize("row_limit", [None, 300])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_group_is_in_one_part(numbers, row_limit):
    targets, groups = patients()
    data = raw(targets + 0.5, groups=groups) if numbers else raw(targets, ["well", "ill"], groups=groups)
    made = parts(data, row_limit=row_limit)
    for one, other in combinations(made, 2):
        assert not set(groups[one]) & set(groups[other])
    everything = np.concatenate(made)
    assert len(set(everything)) == len(everything) == (1000 if row_limit is None else 300 + len(made[2]))
    assert len(made[2]) == pytest.approx(200, abs=10)
    assert len(made[1]) == pytest.approx((1000 - len(made[2]) if row_limit is None else 300) / 4, abs=10)


def test_groups_are_stratified_as_well_as_scikit_learn_does_it():
    targets, groups = patients()
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(targets, targets, groups)
    theirs = [np.abs(targets[rows].mean() - targets.mean()) for _, rows in folds]
    made = parts(raw(targets, ["well", "ill"], groups=groups))
    ours = [np.abs(targets[rows].mean() - targets.mean()) for rows in made]
    assert max(ours) <= max(max(theirs), 0.01)


def test_the_same_seed_splits_groups_alike_and_another_otherwise():
    targets, groups = patients()
    data = raw(targets, ["well", "ill"], groups=groups)
    first, again, other = (parts(data, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert set(groups[first[2]]) != set(groups[other[2]])


def test_a_published_test_set_stays_as_it_is_beside_groups():
    targets, groups = patients(rows=200)
    train, validation, test = parts(
        raw(targets, ["well", "ill"], groups=groups, test_targets=[0, 1, 1]), test=None, validation=0.25
    )
    np.testing.assert_array_equal(test, [0, 1, 2])
    assert not set(groups[train]) & set(groups[validation])


def test_a_class_of_three_groups_is_given_to_every_part():
    groups = np.repeat(np.arange(12), 10)
    targets = np.isin(groups, [2, 5, 7]).astype(np.int64)  # three groups of the second class, for three parts
    for seed in range(5):
        made = parts(raw(targets, ["cat", "okapi"], groups=groups), test=0.25, validation=0.3, seed=seed)
        assert [sorted(set(targets[rows])) for rows in made] == [[0, 1]] * 3


def test_many_groups_are_split_in_little_time():
    groups = np.random.default_rng(0).integers(0, 100_000, 200_000)
    targets = np.arange(200_000) % 3
    train, validation, test = parts(raw(targets, ["a", "b", "c"], groups=groups))
    assert (len(train), len(validation), len(test)) == pytest.approx((120_000, 40_000, 40_000), rel=0.01)


# Order in time.


def test_test_rows_are_the_latest_and_validation_the_latest_before():
    times = np.random.default_rng(0).permutation(100) * 3.5
    train, validation, test = (times[rows] for rows in parts(raw(np.arange(100.0), times=times)))
    ordered = np.sort(times)
    np.testing.assert_array_equal(np.sort(train), ordered[:60])
    np.testing.assert_array_equal(np.sort(validation), ordered[60:80])
    np.testing.assert_array_equal(np.sort(test), ordered[80:])


def test_rows_of_one_time_stay_on_the_nearer_side():
    times = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [40, 20, 15, 14, 11])
    train, validation, test = parts(raw(np.arange(100.0), times=times))
    assert set(times[test]) == {4.0, 5.0}  # 25 rows are nearer to 20 than 11 are
    assert set(times[validation]) == {3.0}  # 15 of 75, and 35 would be too many
    assert set(times[train]) == {1.0, 2.0}


def test_fewer_rows_in_time_order_are_the_latest():
    times = np.random.default_rng(0).permutation(100).astype(np.float64)
    train, validation, test = parts(raw(np.arange(100.0), times=times), row_limit=40)
    assert sorted(times[test]) == list(range(80, 100))
    assert sorted(times[validation]) == list(range(70, 80))
    assert sorted(times[train]) == list(range(40, 70))


def test_a_published_test_set_leaves_the_latest_rows_for_validation():
    times = np.random.default_rng(0).permutation(40).astype(np.float64)
    train, validation, test = parts(raw(np.arange(40.0), times=times, test_targets=np.ones(3)), test=None)
    assert sorted(times[validation]) == list(range(30, 40))
    assert len(train) == 30
    assert len(test) == 3


# What cannot be split.


def animals(*counts, **fields):
    names = ["cat", "dog", "okapi"][: len(counts)]
    return raw(np.repeat(np.arange(len(counts)), counts), names, **fields)


LATE = animals(50, 50, times=np.arange(100.0))  # all dogs come after all cats


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (
            animals(50, 50, 1),
            {},
            "1 of the class 'okapi'. A class needs 3 rows at least, one for each part: take it out of the file.",
        ),
        (animals(50, 50, 2), {}, "2 of the class 'okapi'. A class needs 3 rows at least"),
        (animals(50, 50, 4), {"test": 0.01}, "data.test=0.01: cannot give both parts rows of each of the 3 classes"),
        (animals(50, 50, 4), {"test": 0.01}, "Give data.test from 0.25 to 0.5, or leave the class out."),
        (
            animals(50, 50, 3),
            {"test": 0.6},
            "3 of the class 'okapi'. Give data.test near 0.33, or leave",
        ),
        (animals(50, 50, 3), {"validation": 0.01}, "Give data.validation near 0.50, or leave the class out."),
        (
            animals(500, 500, 9),
            {"row_limit": 9},
            "data.rows=9: cannot hold rows of each of the 3 classes; there are 807",
        ),
        (animals(500, 500, 9), {"row_limit": 9}, "Give more, or null for all."),
        (animals(500, 500, 9), {"row_limit": 806}, "Give fewer, or null for all."),
        (
            animals(500, 500, 9),
            {"row_limit": 121},
            "1 of the class 'okapi'. Give more data.rows, or leave the class out",
        ),
        (
            animals(5, 5, 0, test_targets=[0, 2]),
            {"test": None},
            "The test rows of table have classes that its other rows lack, so that no model can learn them: 'okapi'.",
        ),
    ],
)
def test_classes_that_are_too_rare(data, settings, words):
    assert words in told(data, **settings)


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (
            raw(np.arange(9.0), groups=np.arange(9) % 2),
            {},
            "the rows are of 2 groups (data.group), and each of the 3 parts",
        ),
        (raw(np.arange(9.0), groups=np.arange(9), times=np.arange(9.0)), {}, "data.group and data.time are both given"),
        (
            animals(50, 50, 6, groups=np.repeat(np.arange(53), 2) // 2),
            {},
            "of the 27 groups 2 have rows of the class 'okapi'. Leave the class out, give a column with more values",
        ),
        (
            raw(np.arange(100.0), groups=np.arange(100) % 3),
            {"test": 0.1},
            "data.test=0.1: parts are made of whole groups (data.group), and the nearest share of the rows is 0.330.",
        ),
        (
            raw(np.arange(100.0), times=np.arange(100) // 50),
            {},
            "data.test=0.2: parts are made of whole moments (rows of one data.time stay together), and the nearest",
        ),
        (raw(np.arange(100.0), times=np.zeros(100)), {}, "all 100 rows have the same time (data.time)"),
        (
            raw(np.arange(9.0), times=np.array([np.nan, *range(8)])),
            {},
            "1 rows have no time (data.time): leave them out",
        ),
        (LATE, {}, "data.test=0.2: the rows are cut in time order (data.time), and the latest 20 have none of the"),
        (LATE, {"test": 0.6}, "the earlier 40 have none of the classes that others have: 'dog'. Change that setting"),
    ],
)
def test_groups_and_times_that_cannot_be_split(data, settings, words):
    assert words in told(data, **settings)


# A published validation set.


def test_published_validation_rows_are_the_validation_rows():
    data = raw(np.arange(20) % 2, ("a", "b"), test_targets=[0, 1], validation_rows=np.arange(20) >= 14)
    train, validation, test = parts(data, validation=None, test=None)
    assert train.tolist() == list(range(14))
    assert validation.tolist() == list(range(14, 20))
    assert test.tolist() == [0, 1]
    few, held, _ = parts(data, validation=None, test=None, row_limit=10)
    assert len(few) + len(held) == 10
    assert max(few) < 14 <= min(held)


def test_validation_is_either_published_or_a_share():
    data = raw(np.arange(20) % 2, ("a", "b"), validation_rows=np.arange(20) >= 14)
    assert "set data.validation=null" in told(data, validation=0.2)
    assert "give data.validation, for instance 0.2" in told(raw(np.arange(20) % 2, ("a", "b")), validation=None)
    lacking = raw(np.arange(20) >= 14, ("a", "b"), test_targets=[0], validation_rows=np.arange(20) >= 14)
    assert "have none of the classes that the validation rows have: 'b'" in told(lacking, validation=None, test=None)
    alone = raw(np.zeros(20), test_targets=[0.0], validation_rows=np.ones(20, np.bool_))
    assert "no rows to learn from" in told(alone, validation=None, test=None)
