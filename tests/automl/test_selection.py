"""Greedy selection, against an exhaustive one and by hand."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from hypermap.automl.selection import cross_fitted, mean_of, select

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=200)
LIBRARY = [
    TRUTH + RNG.normal(scale=scale, size=200) + shift for scale, shift in [(1, 0.5), (1.1, -0.5), (2, 0), (5, 3)]
]


def squares(positions=slice(None)):
    return lambda predictions: (predictions - TRUTH[positions]) ** 2


def test_two_is_the_best_of_all_pairs_that_hold_the_best_model():
    best = min(range(4), key=lambda k: squares()(LIBRARY[k]).mean())
    pairs = [pair for pair in combinations_with_replacement(range(4), 2) if best in pair]
    least = min(squares()((LIBRARY[a] + LIBRARY[b]) / 2).mean() for a, b in pairs)
    found = select(LIBRARY, squares())
    assert found.loss <= least
    assert found.weights.sum() == pytest.approx(1)
    assert squares()(mean_of(LIBRARY, found.weights)).mean() == pytest.approx(found.loss)


def test_it_comes_close_to_the_best_convex_combination():
    from scipy.optimize import minimize

    best = minimize(
        lambda logits: squares()(mean_of(LIBRARY, np.exp(logits) / np.exp(logits).sum())).mean(), np.zeros(4)
    ).fun
    assert best <= select(LIBRARY, squares()).loss <= best * 1.01


def test_of_equal_models_the_one_in_use_is_added_again():
    found = select([LIBRARY[2], LIBRARY[0], LIBRARY[0].copy()], squares())
    assert found.weights[2] == 0


def test_a_model_that_does_not_fit_is_not_taken():
    unlimited = select(LIBRARY, squares())
    assert (unlimited.weights[:2] > 0).all()
    limited = select(LIBRARY, squares(), sizes=[2, 9, 1, 1], limit=3)
    assert limited.weights[1] == 0
    assert limited.loss > unlimited.loss
    with pytest.raises(ValueError, match="limit"):
        select(LIBRARY, squares(), sizes=[9] * 4, limit=3)


def test_rows_have_no_part_in_the_selection_of_what_predicts_them():
    """A model that is right about one fold alone, by having seen it, is not believed there."""
    folds = np.array_split(np.arange(200), 4)
    cheat = np.full(200, 10.0)
    cheat[folds[0]] = TRUTH[folds[0]]
    library = [LIBRARY[0], cheat]
    predicted = cross_fitted(library, squares, folds)
    np.testing.assert_allclose(predicted[folds[0]], LIBRARY[0][folds[0]])
    assert select([one[folds[0]] for one in library], squares(folds[0])).weights[1] == 1
