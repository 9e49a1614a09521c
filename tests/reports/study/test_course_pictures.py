"""The pictures of a study's course: small PNGs, the same each time, of whatever there is; and what scales show."""

import io
import math
import random
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hypermap.reports.run.pictures import LIMIT
from hypermap.reports.study import course_pictures
from hypermap.reports.study.drawing import focus, format_value, scale
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import StudyData

PICTURES = ("history", "curves", "timeline", "trade_off", "best_of_n")
NOW = datetime(2026, 1, 1)
STATES = {"complete": "COMPLETE", "pruned": "PRUNED", "running": "RUNNING", "failed": "FAIL"}
THRESHOLDS = Thresholds(repeats=100)


def frozen(number, how, values=None, reports=None, began=0.0, ended=1.0):
    return optuna.trial.FrozenTrial(
        number=number,
        state=optuna.trial.TrialState[STATES[how]],
        value=None,
        values=values,
        datetime_start=NOW + timedelta(seconds=began),
        datetime_complete=None if how == "running" else NOW + timedelta(seconds=ended),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values=reports or {},
        trial_id=number,
    )


class Made(optuna.Study):
    """A study of given trials, which need not be added one by one."""

    def get_trials(self, deepcopy=True, states=None):
        return [trial for trial in self.made if states is None or trial.state in states]


def study(*trials, directions=("maximize",)) -> StudyData:
    made = optuna.create_study(directions=list(directions))
    made.__class__, made.made = Made, [frozen(k, *trial) for k, trial in enumerate(trials)]
    return read(made)


def draw(view):
    return {name: getattr(course_pictures, name)(view, THRESHOLDS) for name in PICTURES}


def drawn(view):
    """The names of the pictures that there are, each of which is a small PNG."""
    found = {name: png for name, png in draw(view).items() if png is not None}
    for png in found.values():
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG"
        assert image.width <= 1000
        assert len(png) <= LIMIT
    return set(found)


def large(many, epochs):
    """Trials of eight workers with a night between them, a few awful ones first, some failed, some that run."""
    rng, free, trials = random.Random(0), [0.0] * 8, []
    for number in range(many):
        worker = free.index(min(free))
        began = max(free[worker], 40_000.0 if number > many / 2 else 0.0)
        how = "running" if number > many - 4 else rng.choice(["complete", "pruned", "pruned", "failed"])
        steps = epochs if how == "complete" else rng.randint(1, epochs)
        top = rng.random() * (-1000 if number < 3 else 1)
        reports = {step: top * (1 - math.exp(-step / 8)) for step in range(1, steps + 1)}
        free[worker] = began + steps
        values = [max(reports.values())] if how == "complete" else None
        trials.append((how, values, reports, began, free[worker]))
    return study(*trials)


def test_a_thousand_trials_of_fifty_epochs_are_drawn():
    assert drawn(large(1000, 50)) == set(PICTURES)


def test_pictures_are_the_same_bytes_each_time():
    view = large(40, 10)
    assert draw(view) == draw(view)


def test_two_and_three_objectives_are_drawn():
    rng = random.Random(1)
    for directions in (("minimize", "maximize"), ("minimize", "maximize", "minimize")):
        trials = [("complete", [rng.random() for _ in directions], {}, k, k + 2.0) for k in range(20)]
        assert drawn(study(*trials, directions=directions)) == {"history", "timeline", "trade_off"}


FEW = {
    "none": ([], set()),
    "one": ([("complete", [0.5], {1: 0.4, 2: 0.5})], {"history", "curves", "timeline"}),
    "one of a moment": ([("complete", [0.5], {}, 0, 0)], {"history"}),
    "two": ([("complete", [0.5], {1: 0.5}), ("failed", None, {})], {"history", "curves", "timeline"}),
    "failed": ([("failed", None, {1: 0.5})] * 3, {"timeline"}),
    "running": ([("running", None, {1: 0.5}, 0), ("running", None, {}, 9)], {"timeline"}),
    "pruned": ([("pruned", None, {k + 1: 0.1 * k}, k, k + 1) for k in range(5)], set(PICTURES) - {"best_of_n"}),
    "constant": ([("complete", [0.0], {1: 0.0}, k, k + 1) for k in range(4)], set(PICTURES) - {"trade_off"}),
    "infinite": (
        [
            ("complete", [math.inf], {1: math.inf}),
            ("complete", [1e308], {1: math.nan, 2: 1e308}),
            ("complete", [-1e308], {1: -math.inf, 2: -1e308, 3: 0.0}),
            ("pruned", None, {1: -math.inf}),
        ],
        set(PICTURES) - {"best_of_n"},
    ),
}


@pytest.mark.parametrize(
    ("name", "direction"), [*((name, "maximize") for name in FEW), ("constant", "minimize"), ("infinite", "minimize")]
)
def test_what_there_is_is_drawn_and_nothing_else(name, direction):
    trials, expected = FEW[name]
    assert drawn(study(*trials, directions=(direction,))) == expected


def test_several_objectives_of_failed_or_equal_trials():
    both = ("minimize", "maximize")
    assert drawn(study(*[("failed", None, {})] * 2, directions=both)) == {"timeline"}
    assert drawn(study(*[("complete", [1.0, 2.0], {})] * 2, directions=both)) == {"history", "timeline", "trade_off"}


def rows(epochs):
    return [
        {
            "epoch": float(k),
            "train_loss": 1 / k,
            "validation_loss": 2 / k,
            "train_score": 1 - 1 / k,
            "validation_score": 0.5,
        }
        for k in range(1, epochs + 1)
    ]


def test_histories_are_drawn_where_they_are_and_reports_elsewhere():
    view = study(*[("complete", [0.5 + k / 10], dict.fromkeys(range(1, 5), 0.5), k, k + 1) for k in range(8)])
    reports = course_pictures.curves(view, THRESHOLDS)
    histories = course_pictures.curves(replace(view, histories={7: rows(4), 6: rows(1)}), THRESHOLDS)
    assert None not in (reports, histories)
    assert reports != histories
    assert course_pictures.curves(replace(view, histories={0: rows(4)}), THRESHOLDS) == reports  # not of the best five


def test_many_curves_make_room_for_their_names():
    view = study(*[("pruned", None, {1: k / 10}, k, k + 1) for k in range(30)])
    small, large = (
        Image.open(io.BytesIO(course_pictures.curves(view, Thresholds(best=best)))).height for best in (3, 30)
    )
    assert large > small


def test_a_few_awful_values_are_beyond_the_focus():
    values = [-1000.0, -50.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.86, 0.9]
    assert focus(values, 1.0) == (0.5, 0.9)
    assert focus([-value for value in values], -1.0) == (-0.9, -0.5)
    assert focus([1.0, 2.0, 3.0, math.inf], 1.0) == (1.0, 3.0)


def test_equal_values_have_some_room_about_them():
    assert focus([2.0, 2.0], 1.0) == pytest.approx((1.9, 2.1))
    assert focus([], 1.0) == focus([0.0], -1.0) == (-0.5, 0.5)
    assert focus([1.0] * 9 + [0.0], 1.0) == (0.0, 1.0)  # most are equal: the other is shown


@pytest.mark.parametrize(
    ("values", "sign", "kind"),
    [
        ([1.0, 31.0], -1.0, "log"),
        ([1.0, 29.0], -1.0, "linear"),
        ([0.0, 31.0], -1.0, "linear"),
        ([1.0, 31.0], 1.0, "linear"),
        ([1e-320, 1e308], -1.0, "log"),
    ],
)
def test_a_falling_loss_that_spans_decades_is_on_a_log_scale(values, sign, kind):
    axes = Figure().subplots()
    low, high = scale(axes, values, sign)
    assert axes.get_yscale() == kind
    assert low < high
    assert axes.get_ylim() == pytest.approx((low, high))


def test_what_is_to_be_kept_is_shown():
    axes = Figure().subplots()
    low, high = scale(axes, [-1000.0, 0.7, 0.8, 0.9, 0.9, 0.9], 1.0, axis="x", keep=[-5.0])
    assert -100 < low < -5
    assert high > 0.9
    assert axes.get_xlim() == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.967, "0.9670"), (610.0, "610"), (12345.6, "12,346"), (-0.0, "0"), (0.029741, "0.02974"), (1e12, "1e+12")],
)
def test_figures_have_four_digits(value, told):
    assert format_value(value) == told
