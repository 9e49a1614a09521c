"""Splits of rows with any number of labels."""

import numpy as np
import pytest

from hypermap.data.cross_validation import DevelopmentSet, Fold, KFold
from hypermap.data.stratification import labels_of, stratified

RATES = np.array([0.5, 0.2, 0.05, 0.01])


def drawn(rows=1000, seed=0):
    return np.random.default_rng(seed).random((rows, len(RATES))) < RATES


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.2] * 5, [0.6, 0.3, 0.1]])
def test_each_part_has_its_share_of_each_label_and_of_the_rows(shares):
    labels = drawn()
    part = stratified(labels, shares, seed=0)
    for k, share in enumerate(shares):
        assert abs((part == k).sum() - share * len(labels)) <= 2
        np.testing.assert_allclose(labels[part == k].sum(0), share * labels.sum(0), atol=2)


def test_rare_labels_are_nearer_to_their_shares_than_by_chance():
    labels, far, by_chance = drawn(), [], []
    for seed in range(20):
        parts = stratified(labels, [0.8, 0.2], seed), np.random.default_rng(seed).random(len(labels)) < 0.2
        for found, part in zip((far, by_chance), parts, strict=True):
            found.append(np.abs(labels[part == 1].mean(0) - labels.mean(0)).sum())
    assert np.mean(far) < 0.2 * np.mean(by_chance)


def test_the_same_seed_gives_the_same_parts_and_another_others():
    labels = drawn()
    first, again, other = (stratified(labels, [0.5, 0.5], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_only_row_of_a_label_is_in_the_larger_part():
    labels = drawn(100)
    labels[:, 3] = False
    labels[7, 3] = True
    assert stratified(labels, [0.8, 0.2], seed=0)[7] == 0


def test_rows_without_labels_are_dealt_out_too():
    part = stratified(np.zeros((10, 0), np.bool_), [0.5, 0.5], seed=0)
    assert sorted(np.bincount(part)) == [5, 5]


def test_labels_of_targets_are_their_classes_and_of_two_the_second():
    targets = np.array([[0, 2.5, 1], [1, 0.1, 2], [0, 7.0, 0]])
    labels = labels_of(targets, [("no", "yes"), (), ("a", "b", "c")])
    expected = [[False, False, True, False], [True, False, False, True], [False, True, False, False]]
    np.testing.assert_array_equal(labels, expected)


def test_folds_have_each_label_and_hold_out_every_row_once():
    labels = drawn(500)
    holdout = Fold(np.arange(400), np.arange(400, 500))
    development = DevelopmentSet(labels.astype(np.int64), (), holdout, seed=0, labels=labels)
    folds = KFold(5, repeats=2).folds(development)
    assert [(fold.fold, fold.repeat) for fold in folds] == [(k, r) for r in (1, 2) for k in range(1, 6)]
    for repeat in (1, 2):
        held = np.concatenate([fold.validation for fold in folds if fold.repeat == repeat])
        np.testing.assert_array_equal(np.sort(held), np.arange(500))
    for fold in folds:
        assert not set(fold.train) & set(fold.validation)
        np.testing.assert_allclose(labels[fold.validation].sum(0), labels.sum(0) / 5, atol=2)
