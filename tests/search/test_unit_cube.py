"""A search space as the unit cube: values go there and come back, on whatever scale they are searched."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial
from scipy.special import logit

from hypermap.search.scales import mapping
from hypermap.search.unit_cube import ABSENT, Coordinate, Cube

WHOLE = {
    "step": (FloatDistribution(0.0, 0.9, step=0.3), None),
    "int": (IntDistribution(1, 5), None),
    "int step": (IntDistribution(0, 64, step=16), None),
    "log int": (IntDistribution(1, 60, log=True), None),
    "many": (IntDistribution(1, 1000), None),
    "many log": (IntDistribution(1, 1000, log=True), None),
    "pow2": (IntDistribution(16, 512), mapping("pow2", 16, 512)),
    "pow2 between": (IntDistribution(20, 100), mapping("pow2", 20, 100)),
    "sqrt of ints": (IntDistribution(1, 6), mapping("sqrt", 1, 6)),
    "symlog of steps": (FloatDistribution(0.0, 1.0, step=0.25), mapping("symlog", 0.0, 1.0)),
    "choices": (CategoricalDistribution(["a", "b", None, 3, True, 0.5]), None),
    "one choice": (CategoricalDistribution(["a"]), None),
    "one int": (IntDistribution(2, 2), None),
}
CONTINUOUS = {
    "float": (FloatDistribution(-1.0, 3.0), None),
    "log": (FloatDistribution(1e-6, 1.0, log=True), None),
    "log mapping": (FloatDistribution(1e-5, 1e-1), mapping("log", 1e-5, 1e-1)),
    "one_minus_log": (FloatDistribution(0.8, 0.999), mapping("one_minus_log", 0.8, 0.999)),
    "logit": (FloatDistribution(0.01, 0.9), mapping("logit", 0.01, 0.9)),
    "one float": (FloatDistribution(1.0, 1.0), None),
}
SPACE = {
    "lr": FloatDistribution(1e-5, 1e-1),
    "width": IntDistribution(16, 512),
    "optimizer": CategoricalDistribution(["sgd", "adam", "lion"]),
    "momentum": FloatDistribution(0.8, 0.999),
    "layers": IntDistribution(1, 4),
}
MAPPINGS = {
    "lr": mapping("log", 1e-5, 1e-1),
    "width": mapping("pow2", 16, 512),
    "momentum": mapping("one_minus_log", 0.8, 0.999),
}
UNITS = np.linspace(0, 1, 301)
EVEN = ["step", "int", "int step", "many", "pow2", "choices"]


@pytest.fixture
def cube() -> Cube:
    return Cube(SPACE, MAPPINGS)


def of_one(distribution, through) -> Cube:
    return Cube({"x": distribution}, {} if through is None else {"x": through})


def members(coordinate: Coordinate) -> list:
    """Every value that some coordinate stands for."""
    return list(dict.fromkeys(coordinate.value(float(u)) for u in np.linspace(0, 1, 20_001)))


@pytest.mark.parametrize("case", (WHOLE | CONTINUOUS).values(), ids=WHOLE | CONTINUOUS)
def test_a_value_comes_back_from_its_coordinate(case):
    coordinate, natural = Coordinate(*case), case[0]
    for u in UNITS:
        value = coordinate.value(float(u))
        assert natural._contains(natural.to_internal_repr(value))
        if isinstance(natural, FloatDistribution | IntDistribution):
            assert type(value) is (int if isinstance(natural, IntDistribution) else float)
        own = coordinate.unit(value)
        assert 0 <= own <= 1
        back = coordinate.value(own)
        assert back == (pytest.approx(value, rel=1e-12) if case in CONTINUOUS.values() else value)
        assert type(back) is type(value)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("float", lambda x: x),
        ("log", np.log),
        ("log mapping", np.log),
        ("one_minus_log", lambda x: -np.log10(1 - x)),
        ("logit", logit),
    ],
)
def test_a_coordinate_is_the_share_of_the_way_on_the_scale_of_the_search(name, formula):
    distribution, through = CONTINUOUS[name]
    low, high = distribution.low, distribution.high
    coordinate = Coordinate(distribution, through)
    for x in np.linspace(low, high, 17)[1:-1]:
        share = (formula(x) - formula(low)) / (formula(high) - formula(low))
        assert coordinate.unit(float(x)) == pytest.approx(share, abs=1e-9)
        assert coordinate.value(share) == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("case", CONTINUOUS.values(), ids=CONTINUOUS)
def test_the_ends_are_the_bounds(case):
    coordinate = Coordinate(*case)
    ends = [coordinate.value(u) for u in (0.0, 1.0)]
    assert ends == pytest.approx([case[0].low, case[0].high], rel=1e-12)
    assert all(case[0].low <= end <= case[0].high for end in ends)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step", [0.0, 0.3, 0.6, 0.9]),
        ("int", [1, 2, 3, 4, 5]),
        ("int step", [0, 16, 32, 48, 64]),
        ("log int", list(range(1, 61))),
        ("many log", list(range(1, 1001))),
        ("pow2", [16, 32, 64, 128, 256, 512]),
        ("pow2 between", [32, 64]),
        ("sqrt of ints", [1, 2, 3, 4, 5, 6]),
        ("symlog of steps", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("choices", ["a", "b", None, 3, True, 0.5]),
    ],
)
def test_each_member_can_be_had_and_nothing_else(name, expected):
    assert members(Coordinate(*WHOLE[name])) == expected


@pytest.mark.parametrize("name", EVEN)
def test_members_of_an_even_scale_have_equal_shares(name):
    coordinate = Coordinate(*WHOLE[name])
    middles = (np.arange(3_000) + 0.5) / 3_000
    values = [coordinate.value(float(u)) for u in middles]
    counts = [values.count(member) for member in members(coordinate)]
    assert max(counts) - min(counts) <= 1


def test_a_value_beyond_the_scale_has_the_nearer_end():
    assert Coordinate(FloatDistribution(0.0, 1.0)).unit(1.7) == 1.0
    assert Coordinate(*CONTINUOUS["logit"]).unit(0.001) == 0.0
    assert Coordinate(*WHOLE["pow2"]).value(Coordinate(*WHOLE["pow2"]).unit(100)) == 128  # the nearest power


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_members_is_searched_at_their_coordinates(name):
    coordinate, one = Coordinate(*WHOLE[name]), of_one(*WHOLE[name])
    drawn = np.random.default_rng(0).random(400)
    snapped = one.snapped(drawn[:, None])[:, 0]
    values = [coordinate.value(float(u)) for u in snapped]
    own = np.array([coordinate.unit(value) for value in values])
    np.testing.assert_allclose(snapped, own, atol=1e-12)  # where trials of these values lie
    np.testing.assert_array_equal(one.snapped(snapped[:, None])[:, 0], snapped)
    every = np.array([coordinate.unit(value) for value in members(coordinate)])
    nearest = np.abs(drawn[:, None] - every).min(1)
    np.testing.assert_allclose(np.abs(drawn - snapped), nearest, atol=1e-12)
    if name in EVEN:
        assert values == [coordinate.value(float(u)) for u in drawn]


@pytest.mark.parametrize("case", CONTINUOUS.values(), ids=CONTINUOUS)
def test_what_is_continuous_is_not_snapped(case):
    one = of_one(*case)
    np.testing.assert_array_equal(one.snapped(UNITS[:, None]), UNITS[:, None])


def test_a_configuration_is_a_point(cube):
    params = {"lr": 1e-3, "width": 128, "optimizer": "adam", "momentum": 0.98, "layers": 4}
    point = cube.point(params)
    assert point == pytest.approx([0.5, 3.5 / 6, 1.5 / 3, math.log10(0.2 / 0.02) / math.log10(0.2 / 0.001), 3.5 / 4])
    back = cube.params(point)
    assert list(back) == list(SPACE)
    assert back.pop("optimizer") == params.pop("optimizer")
    assert back == pytest.approx(params)


def test_a_parameter_that_a_trial_lacks_is_in_the_middle(cube):
    assert list(cube.point({"optimizer": "sgd"})) == [ABSENT, ABSENT, 0.5 / 3, ABSENT, ABSENT]
    np.testing.assert_array_equal(cube.point({}), np.full(5, ABSENT))
    assert cube.points([]).shape == (0, 5)


def test_a_trial_is_read_again_once_it_has_more_parameters(cube):
    study = optuna.create_study()
    trial = study.ask()
    assert cube.points(study.get_trials(deepcopy=False))[0, 4] == ABSENT
    trial.suggest_int("layers", 1, 4)
    rows = cube.points(study.get_trials(deepcopy=False))
    assert rows[0, 4] == Coordinate(SPACE["layers"]).unit(trial.params["layers"])
    study.add_trial(create_trial(value=1.0, params={"layers": 1}, distributions={"layers": SPACE["layers"]}))
    rows = cube.points(study.get_trials(deepcopy=False))
    assert rows[:, 4].tolist() == [rows[0, 4], 0.125]


def test_choices_are_all_equally_far_from_each_other(cube):
    points = np.array([cube.point({"lr": 1e-3, "optimizer": name}) for name in ("sgd", "adam", "lion")])
    features = cube.features(points)
    apart = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.testing.assert_allclose(apart, 1 - np.eye(3))
    assert features.shape[1] == len(cube.groups) == 4 + 3
    assert np.bincount(cube.groups).tolist() == [1, 1, 3, 1, 1]


def test_intervals_are_as_far_apart_as_in_the_cube(cube):
    rng = np.random.default_rng(0)
    points = cube.snapped(rng.random((20, 5)))
    features = cube.features(points)
    for column in (0, 1, 3, 4):
        (place,) = np.flatnonzero(cube.groups == column)
        np.testing.assert_array_equal(features[:, place], points[:, column])
