"""What an earlier study makes another one expect, and what that is worth to it."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from hypermap.search.auto import MODEL, Auto
from hypermap.search.earlier import LEAST, MOST, EarlierStudy, starts
from hypermap.search.schedule import PROPOSED
from hypermap.search.unit_cube import Cube

SPACE = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 1.0),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
}
CUBE = Cube(SPACE, {})


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def score(params):
    """Best at a rate of 0.01; the momentum says nothing."""
    return -abs(math.log10(params["lr"]) + 2) - 0.3 * (params["optimizer"] == "sgd")


def drawn(count, of=score, seed=0):
    rng = np.random.default_rng(seed)
    configurations = [CUBE.params(point) for point in CUBE.snapped(rng.random((count, len(CUBE))))]
    return tuple((params, of(params)) for params in configurations)


def expected_of(study):
    return study.expectation(CUBE, np.random.default_rng(0))


@pytest.mark.parametrize("count", [30, 3 * MOST])
def test_scores_of_other_configurations_are_expected(count):
    new = drawn(200, seed=1)
    points = np.array([CUBE.point(params) for params, _ in new])
    mean, _ = expected_of(EarlierStudy((), drawn(count))).predict(CUBE.features(points))
    assert spearmanr(mean, [value for _, value in new]).statistic > 0.9
    assert abs(mean.mean()) < 1  # in standard deviations of what was seen, where the better are more
    assert 0.3 < mean.std() < 1.5


def test_what_diverged_is_expected_to_be_bad_and_spoils_nothing():
    study = EarlierStudy((), drawn(60, lambda params: -math.inf if params["lr"] > 0.1 else score(params)))
    points = np.array([CUBE.filled({"lr": rate, "optimizer": "adam"}) for rate in (0.01, 0.5)])
    good, bad = expected_of(study).predict(CUBE.features(points))[0]
    assert good > 0.8
    assert bad < -0.3


@pytest.mark.parametrize(
    "scored", [(), drawn(LEAST - 1), drawn(30, lambda params: 0.5), drawn(30, lambda params: -math.inf)]
)
def test_too_little_is_no_reason_to_expect_anything(scored):
    assert expected_of(EarlierStudy((), scored)) is None


def test_a_parameter_that_the_earlier_study_had_not_is_in_the_middle():
    scored = tuple(({"lr": params["lr"]}, value) for params, value in drawn(40))
    points = np.array([CUBE.filled({"lr": rate}) for rate in (0.01, 1.0)])
    assert np.diff(expected_of(EarlierStudy((), scored)).predict(CUBE.features(points))[0]) < -1


def test_the_best_of_each_come_in_turns():
    one, two = EarlierStudy(({"lr": 1}, {"lr": 2}, {"lr": 3})), EarlierStudy(({"lr": 4},))
    assert [params["lr"] for params in starts([one, two])] == [1, 4, 2, 3]
    assert list(starts([])) == []


def found(seed, scored, trials=24):
    """How good what the model proposes in a search is, lower being better there."""
    study = optuna.create_study(sampler=Auto(seed, SPACE, prior=[EarlierStudy((), scored)] if scored else []))
    for _ in range(trials):
        trial = study.ask(dict(SPACE))
        study.tell(trial, -score(trial.params))
    own = [trial.value for trial in study.trials if trial.user_attrs[PROPOSED] == MODEL]
    return np.mean(own[:2])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_knows_from_an_earlier_study_where_to_look():
    seeds = range(12)
    without = np.array([found(seed, ()) for seed in seeds])
    with_it = np.array([found(seed, drawn(60)) for seed in seeds])
    assert with_it.mean() < 0.6 * without.mean()
    opposite = np.array([found(seed, drawn(60, lambda params: -score(params))) for seed in seeds])
    assert opposite.mean() < 1.5 * without.mean()  # whose opposite is soon seen to be true
