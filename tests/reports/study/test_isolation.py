"""The best score per value of a parameter, computed by hand."""

import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.reports.study.isolation import Isolated, Level, isolate, natural, place, unevenness
from hypermap.reports.study.reading import read
from hypermap.reports.study.view import Parameter, TrialData
from hypermap.search.scales import mapping


def view(distribution, pairs, direction="maximize"):
    """A study of one parameter ``x``; of a pair without a value the trial failed."""
    study = optuna.create_study(direction=direction)
    for x, value in pairs:
        given = {} if x is None else {"x": x}
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(state=state, params=given, distributions=dict.fromkeys(given, distribution), value=value)
        )
    return read(study)


def levels(distribution, pairs, direction="maximize"):
    found = isolate(view(distribution, pairs, direction), Parameter("x", "x", distribution), None)
    return [(one.label, one.best, one.trials) for one in found.levels]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.8), ("minimize", 0.2)])
def test_a_choice_has_the_best_of_its_trials(direction, best):
    choices = CategoricalDistribution(("adam", "sgd", "lion"))
    pairs = [("adam", 0.2), ("adam", 0.8), ("adam", None), ("sgd", 0.5), (None, 0.9)]
    assert levels(choices, pairs, direction) == [("adam", best, 2), ("sgd", 0.5, 1), ("lion", None, 0)]


def test_a_range_is_cut_into_fifths_on_the_scale_on_which_it_was_searched():
    decades = FloatDistribution(1e-5, 1, log=True)
    pairs = [(3e-5, 0.1), (3e-4, 0.2), (3e-3, 0.3), (3e-2, 0.4), (0.3, 0.5), (0.9, 0.6), (1.0, 0.55)]
    assert levels(decades, pairs) == [
        ("1e-5 to 0.0001", 0.1, 1),
        ("0.0001 to 0.001", 0.2, 1),
        ("0.001 to 0.01", 0.3, 1),
        ("0.01 to 0.1", 0.4, 1),
        ("0.1 to 1", 0.6, 3),
    ]
    assert [label for label, *_ in levels(FloatDistribution(0, 1), [(0.0, 0.5), (1.0, 0.5)])] == [
        "0 to 0.2",
        "0.2 to 0.4",
        "0.4 to 0.6",
        "0.6 to 0.8",
        "0.8 to 1",
    ]


def test_few_whole_numbers_are_levels_of_their_own():
    assert levels(IntDistribution(1, 3), [(1, 0.1), (3, 0.3), (3, 0.2)]) == [
        ("1", 0.1, 1),
        ("2", None, 0),
        ("3", 0.3, 2),
    ]
    assert [label for label, *_ in levels(IntDistribution(0, 40, step=10), [(0, 0.1)])] == ["0", "10", "20", "30", "40"]
    halves = FloatDistribution(0, 1, step=0.5)
    assert levels(halves, [(0.0, 0.1), (0.5, 0.2), (1.0, 0.3)]) == [("0", 0.1, 1), ("0.5", 0.2, 1), ("1", 0.3, 1)]


def test_no_part_of_a_range_of_whole_numbers_is_without_one():
    found = levels(IntDistribution(1, 6, log=True), [(k, k / 10) for k in range(1, 7)])
    assert sum(trials for *_, trials in found) == 6
    assert min(trials for *_, trials in found) >= 1
    assert levels(IntDistribution(1, 10), [(k, 0.5) for k in range(1, 11)])[0] == ("1 to 2", 0.5, 2)


def test_a_range_of_one_value_is_one_level():
    assert levels(FloatDistribution(2, 2), [(2.0, 0.5), (2.0, 0.7)]) == [("2", 0.7, 2)]


def test_what_a_pruned_trial_had_reached_is_no_best_score():
    study = optuna.create_study(direction="maximize")
    choices = {"x": CategoricalDistribution(("a", "b"))}
    study.add_trial(create_trial(params={"x": "a"}, distributions=choices, value=0.5))
    for x, reached in (("a", 0.9), ("b", 0.7)):
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": x},
                distributions=choices,
                intermediate_values={1: 0.1, 2: reached},
            )
        )
    seen = read(study)
    assert isolate(seen, seen.axis("x"), 0.1).levels == (
        Level("a", 0.5, 0.1, 2),
        Level("b", None, None, 1, reached=0.7),
    )


def test_the_noise_is_given_to_each_level_that_has_a_score():
    seen = view(CategoricalDistribution(("a", "b")), [("a", 0.5)])
    assert [one.error for one in isolate(seen, seen.axis("x"), 0.02).levels] == [0.02, None]


def test_values_that_left_the_space_are_left_out():
    """The choices were changed while the study went on: the axis has the later ones."""
    study = optuna.create_study()
    for x, choices in (("a", ("a", "b")), ("b", ("b", "c")), ("c", ("b", "c"))):
        study.add_trial(create_trial(params={"x": x}, distributions={"x": CategoricalDistribution(choices)}, value=0.5))
    seen = read(study)
    assert [one.trials for one in isolate(seen, seen.axis("x"), None).levels] == [1, 1]


@pytest.mark.parametrize(
    ("counts", "ratio"), [([4, 2], 2.0), ([3, 3, 3], 1.0), ([4, 0], math.inf), ([4], None), ([0, 0], None), ([], None)]
)
def test_unevenness_is_the_largest_count_over_the_smallest(counts, ratio):
    assert unevenness(Isolated("x", tuple(Level("", None, None, count) for count in counts))) == ratio


@pytest.mark.parametrize(
    "axis",
    [
        Parameter("x", "x", FloatDistribution(1e-4, 0.3, log=True)),
        Parameter("x", "x", FloatDistribution(-2, 5)),
        Parameter("x", "x", FloatDistribution(0.5, 0.99), bijection=mapping("one_minus_log", 0.5, 0.99)),
        Parameter("x", "x", IntDistribution(16, 256), bijection=mapping("pow2", 16, 256)),
        Parameter("x", "x", FloatDistribution(0.01, 0.9), bijection=mapping("logit", 0.01, 0.9)),
    ],
    ids=lambda axis: axis.scale,
)
@pytest.mark.parametrize("unit", [0.0, 0.3, 0.5, 1.0])
def test_the_natural_value_of_a_place_is_at_that_place(axis, unit):
    value = natural(axis, unit)
    assert axis.unit(value) == pytest.approx(unit)
    assert place(axis, TrialData(0, "complete", params={"x": value})) == pytest.approx(unit)
