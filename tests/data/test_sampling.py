"""Oversampling, held to what it is defined by."""

import numpy as np
import pytest

from hypermap.data.sampling import oversample


@pytest.fixture
def targets():
    return np.random.default_rng(0).choice(4, 300, p=[0.6, 0.25, 0.15, 0.0])


def test_every_class_has_as_many_rows_as_the_largest(targets):
    positions = oversample(targets, 0)
    largest = np.bincount(targets).max()
    assert np.bincount(targets[positions], minlength=4).tolist() == [largest, largest, largest, 0]


def test_every_row_is_kept_once_and_those_repeated_are_drawn_evenly(targets):
    positions = oversample(targets, 0)
    assert positions.dtype == np.int64
    np.testing.assert_array_equal(positions[:300], np.arange(300))
    drawn = positions[300:]
    assert set(targets[drawn]) == {1, 2}
    rare = np.flatnonzero(targets == 2)
    times = np.bincount(np.concatenate([oversample(targets, seed)[300:] for seed in range(200)]), minlength=300)[rare]
    mean = (np.sum(targets == 0) - len(rare)) / len(rare) * 200
    assert np.abs(times - mean).max() < 5 * np.sqrt(mean)  # of a Poisson variable, nearly


def test_the_seed_decides(targets):
    np.testing.assert_array_equal(oversample(targets, 3), oversample(targets, 3))
    assert not np.array_equal(oversample(targets, 3), oversample(targets, 4))


def test_classes_of_equal_size_stay_as_they_are():
    np.testing.assert_array_equal(oversample(np.arange(10) % 2, 0), np.arange(10))
