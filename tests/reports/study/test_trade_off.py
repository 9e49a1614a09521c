"""The Pareto front, its knee and the hypervolume: against Optuna, and against cases computed by hand."""

import itertools
import math
import random
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hypermap.reports.study import course_pictures
from hypermap.reports.study.reading import read
from hypermap.reports.study.trade_off import cost_front, costs, hypervolume, knee, pareto_front
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import StudyData, TrialData
from hypermap.search.study import RESULT

TWO = ("minimize", "minimize")
SECOND = timedelta(seconds=1)


def several(values, directions=TWO):
    study = optuna.create_study(directions=list(directions))
    study.add_trials([create_trial(values=list(point)) for point in values])
    return read(study)


def numbers(trials):
    return [trial.number for trial in trials]


def scattered(many, objectives, seed=0):
    rng = random.Random(seed)
    return [[rng.random() for _ in range(objectives)] for _ in range(many)]


@pytest.mark.parametrize("directions", [TWO, ("maximize", "minimize"), ("minimize", "maximize", "minimize")])
def test_the_front_is_what_no_other_trial_dominates(directions):
    view = several(scattered(60, len(directions)), directions)
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    points = [[sign * value for sign, value in zip(signs, t.values, strict=True)] for t in view.completed]

    def dominated(point):
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    assert numbers(pareto_front(view)) == [k for k, point in enumerate(points) if not dominated(point)]
    assert numbers(pareto_front(view)) == sorted(numbers(view.study.best_trials))


def test_a_diverged_trial_is_on_no_front():
    study = optuna.create_study(directions=list(TWO))
    study.add_trials([create_trial(values=[0.0, 0.0], user_attrs={RESULT: {"outcome": "diverged"}})])
    study.add_trials([create_trial(values=[math.inf, -1.0])])
    study.add_trials([create_trial(state=TrialState.FAIL)])
    assert pareto_front(read(study)) == []
    study.add_trials([create_trial(values=[-1.0, 2.0])])
    assert numbers(pareto_front(read(study))) == [3]


def test_the_knee_is_farthest_from_the_chord():
    """The chord runs from (0, 10) to (2, 0); scaled, the distances below it are 0.35, 0.6 and 0.2, over sqrt 2."""
    view = several([(0, 10), (0.3, 5), (0.4, 2), (1.4, 1), (2, 0), (2, 10)])
    assert knee(view).number == 2


def test_the_knee_agrees_with_the_distance_to_the_line():
    """The formula for the distance of a point to the line through two others."""
    view = several([(x, (1 - x) ** 3) for x, _ in scattered(40, 2)])
    points = {t.number: t.values for t in pareto_front(view)}
    (x0, y0), (x1, y1) = min(points.values()), max(points.values())
    scaled = {n: ((x - x0) / (x1 - x0), (y - y1) / (y0 - y1)) for n, (x, y) in points.items()}
    distance = {n: abs(x + y - 1) / math.sqrt(2) for n, (x, y) in scaled.items()}
    assert knee(view).number == max(distance, key=distance.get)


def test_the_knee_of_three_objectives_is_the_one_that_is_good_in_all():
    points = [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0.2, 0.2, 0.2), (0.6, 0.1, 0.5)]
    assert knee(several(points, ("minimize",) * 3)).number == 3


def test_more_may_be_better():
    mirrored = several([(0, -10), (0.3, -5), (0.4, -2), (1.4, -1), (2, 0)], ("minimize", "maximize"))
    assert knee(mirrored).number == 2


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, 1)],
        [(0, 1), (1, 0)],
        [(0, 1), (0.5, 0.9), (1, 0)],  # bends away from the ideal
        [(0, 1), (0.5, 0.5), (1, 0)],  # straight
        [(1, 2)] * 4,
    ],
)
def test_a_front_without_a_bend_has_no_knee(points):
    assert knee(several(points)) is None


def test_one_objective_has_neither_knee_nor_hypervolume():
    study = optuna.create_study()
    study.add_trials([create_trial(value=value) for value in (1.0, 2.0, 3.0, 1.0)])
    assert knee(read(study)) is None
    assert hypervolume(read(study)) is None
    assert numbers(pareto_front(read(study))) == [0, 3]


def test_the_hypervolume_is_the_area_that_the_front_dominates():
    """Up to the worst of each, (4, 3): 3 x 0 of (1, 3), and of (2, 1) and (3, 0) the union 2 x 2 + 1 x 1."""
    assert hypervolume(several([(1, 3), (2, 1), (3, 0), (4, 2)])) == pytest.approx(5)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_hypervolume_is_optunas():
    directions = ("maximize", "minimize", "minimize")
    view = several(scattered(25, 3), directions)
    columns = list(zip(*(trial.values for trial in view.completed), strict=True))
    reference = [min(columns[0]), max(columns[1]), max(columns[2])]
    chart = optuna.visualization.plot_hypervolume_history(view.study, reference)
    assert hypervolume(view) == pytest.approx(chart.data[0].y[-1])


def test_there_is_no_hypervolume_of_nothing_or_of_five_objectives():
    assert hypervolume(several([])) is None
    assert hypervolume(several(scattered(3, 5), ("minimize",) * 5)) is None
    assert hypervolume(several([(1, 2)])) == 0


def one(*trials, direction="maximize"):
    return StudyData("s", ("objective",), (direction,), (), trials, optuna.create_study(direction=direction))


TRIED = (
    TrialData(0, "complete", (0.8,), epochs=10, seconds=9.0),
    TrialData(1, "pruned", reports={1: 0.5, 2: 0.4}, epochs=2, seconds=2.0),
    TrialData(2, "complete", (0.7,), epochs=10, seconds=4.0),
    TrialData(3, "pruned", reports={3: 0.5}, epochs=3, seconds=3.0),
    TrialData(4, "failed", epochs=1, seconds=1.0),
)


def test_the_cost_is_in_epochs_and_in_seconds_if_all_trained_for_as_many():
    assert costs(one(*TRIED)) == ("epochs", {0: 10, 1: 2, 2: 10, 3: 3})
    assert costs(one(TRIED[0], TRIED[2])) == ("seconds", {0: 9, 2: 4})
    assert costs(one(TRIED[0], replace(TRIED[2], seconds=8.0)))[1] == {}, "too little to be the trials' own"
    began = datetime(2026, 1, 1)
    times = [(0, 9), (1, 5), (6, 10), (10, 12)]  # the first two are their workers' first
    trials = [
        replace(TRIED[2], number=k, seconds=float(b - a), began=began + a * SECOND, ended=began + b * SECOND)
        for k, (a, b) in enumerate(times)
    ]
    assert costs(one(*trials)) == ("seconds", {2: 4, 3: 2})
    assert costs(one(TRIED[0]))[1] == {}
    assert costs(one())[1] == {}


def test_nothing_that_costs_as_little_beats_what_is_on_the_cost_front():
    assert numbers(cost_front(one(*TRIED))) == [1, 0]
    assert numbers(cost_front(one(TRIED[0], TRIED[2]))) == [2, 0]
    assert cost_front(one()) == []


def test_the_cost_front_is_optunas_front_of_score_and_cost():
    values = [(score, round(20 * cost)) for score, cost in scattered(60, 2)]
    trials = [TrialData(k, "complete", (score,), epochs=cost + 1) for k, (score, cost) in enumerate(values)]
    expected = pareto_front(several([(score, cost + 1) for score, cost in values]))
    found = cost_front(one(*trials, direction="minimize"))
    assert sorted(numbers(found)) == numbers(expected)
    assert all(a.epochs < b.epochs for a, b in itertools.pairwise(found))


def test_the_front_is_that_of_the_trials_that_were_read():
    """A sweep goes on while its report is written, and an infinite value dominates what it is no rival of."""
    view = several([(1, 2), (2, 1), (-math.inf, 0)])
    view.study.add_trial(create_trial(values=[0, 0]))
    assert numbers(pareto_front(view)) == [0, 1]


def test_where_no_trial_keeps_the_constraints_there_is_no_front():
    study = optuna.create_study(directions=TWO)
    for _ in range(3):
        trial = study.ask()
        trial.set_constraint("most", 1.0)  # above 0: broken
        study.tell(trial, [1.0, 2.0])
    view = read(study)
    assert study.best_trials == pareto_front(view) == []
    assert course_pictures.trade_off(view, Thresholds()) is None
