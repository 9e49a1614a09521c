"""How a study went: the best so far against Optuna, workers and pauses against their definitions."""

import itertools
import random
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hypermap.reports.study.course import (
    best_so_far,
    by_epoch,
    lanes,
    pauses,
    reported_column,
    reports_per_epoch,
    spans,
    spent,
    trained,
    without,
)
from hypermap.reports.study.reading import read
from hypermap.reports.study.view import StudyData, TrialData

NOW = datetime(2026, 1, 1, 12)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def view(*trials, directions=("maximize",), **others):
    names = tuple(f"objective {k}" for k in range(len(directions)))
    return StudyData("s", names, directions, (), trials, optuna.create_study(directions=list(directions)), **others)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_so_far_is_optunas_against_what_was_spent(direction):
    """Thirty trials, each of an epoch more than the one before it; the pruned and failed ones cost too."""
    rng = random.Random(3)
    study = optuna.create_study(direction=direction)
    for number in range(30):
        how = "complete" if number < 1 else rng.choice(["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]).lower()
        trial = create_trial(
            state=TrialState[how.upper()],
            value=rng.random() if how == "complete" else None,
            intermediate_values=dict.fromkeys(range(1, number + 2), 0.5),
        )
        trial.datetime_start, trial.datetime_complete = NOW, at(number)
        study.add_trial(trial)
    chart = optuna.visualization.plot_optimization_history(study)
    expected = [
        ((number + 1) * (number + 2) / 2, value)
        for number, value in zip(chart.data[1].x, chart.data[1].y, strict=True)
        if study.trials[number].state == TrialState.COMPLETE
    ]
    assert best_so_far(read(study)) == [*expected, (465, expected[-1][1])]


def test_what_was_spent_is_in_the_order_in_which_trials_ended():
    slow, quick = (
        TrialData(0, "complete", (1.0,), epochs=10, ended=at(9)),
        TrialData(1, "pruned", epochs=3, ended=at(2)),
    )
    assert spent(view(slow, quick)) == [(quick, 3), (slow, 13)]


def test_without_epochs_trials_are_counted():
    trials = [TrialData(k, "complete", (float(k),), ended=at(k)) for k in range(3)]
    assert [cost for _, cost in spent(view(*trials))] == [1, 2, 3]
    assert best_so_far(view(*trials)) == [(1, 0), (2, 1), (3, 2), (3, 2)]


def test_each_objective_has_its_own_best():
    trials = [
        TrialData(0, "complete", (1.0, 5.0), epochs=1, ended=at(0)),
        TrialData(1, "complete", (2.0, 9.0), epochs=1),
    ]
    study = view(*trials, directions=("maximize", "minimize"))
    assert best_so_far(study, 0) == [(1, 1), (2, 2), (2, 2)]
    assert best_so_far(study, 1) == [(1, 5), (2, 5), (2, 5)]


def test_nothing_completed_has_no_best_so_far():
    assert best_so_far(view()) == []
    assert best_so_far(view(TrialData(0, "failed", ended=at(0)))) == []


def test_spans_count_from_the_first_beginning_and_a_running_trial_is_open_to_the_last_known_time():
    study = view(
        TrialData(0, "complete", (1.0,), began=at(5), ended=at(20)),
        TrialData(1, "running", began=at(7)),
        TrialData(2, "failed", began=at(8), ended=at(6)),  # the clock was set back
        TrialData(3, "pruned", seconds=4.0, began=at(9)),
        TrialData(4, "failed"),
    )
    assert spans(study) == {0: (0, 15), 1: (2, 15), 2: (3, 3), 3: (4, 8)}
    assert spans(view(TrialData(0, "failed"))) == {}


def test_a_trial_that_was_paused_ran_for_as_long_as_it_was_trained():
    study = view(
        TrialData(0, "complete", (1.0,), began=at(0), ended=at(10)),
        TrialData(1, "complete", (1.0,), began=at(10), ended=at(100), busy_s=30.0),  # taken up again at last
        TrialData(2, "pruned", began=at(12), ended=at(14), busy_s=2.0),  # it was not
        TrialData(3, "running", began=at(20), busy_s=5.0),  # taken up again, and trains
        TrialData(4, "running", began=at(30)),
        TrialData(5, "complete", (1.0,), began=at(95), ended=at(99), busy_s=8.0),  # of a stack, by a guess
    )
    assert spans(study) == {0: (0, 10), 1: (70, 100), 2: (12, 14), 3: (20, 25), 4: (30, 100), 5: (95, 99)}


def test_lanes_never_overlap_and_are_as_many_as_run_at_once():
    rng = random.Random(0)
    for _ in range(20):
        times = [(began, began + rng.randint(1, 9)) for began in (rng.randint(0, 40) for _ in range(50))]
        chosen = lanes(times)
        for lane in set(chosen):
            mine = sorted(time for time, other in zip(times, chosen, strict=True) if other == lane)
            assert all(end <= began for (_, end), (began, _) in itertools.pairwise(mine))
        at_once = max(sum(began <= moment < end for began, end in times) for moment in range(50))
        assert set(chosen) == set(range(at_once))


def test_a_trial_goes_to_the_worker_that_became_free_last():
    assert lanes([(0, 5), (0, 9), (9.1, 12), (9.2, 12)]) == [0, 1, 1, 0]
    assert lanes([]) == []


def test_a_pause_is_long_and_nothing_runs_in_it():
    """900 s of trials: a pause is from 180 s."""
    times = [(0.0, 500.0), (100.0, 600.0), (4200.0, 4400.0), (4579.0, 4679.0)]
    assert pauses(times) == [(600, 4200)]
    assert pauses([*times, (0.0, 4300.0)]) == []
    assert pauses([(0, 1), (50, 51)]) == []  # less than a minute
    assert pauses([]) == []


def test_many_equal_pauses_are_all_found():
    """Ten evenings of an hour each: no night is a fifth of the whole, and each is one."""
    day = 86_400
    assert pauses([(k * day, k * day + 3600.0) for k in range(10)]) == [
        (k * day + 3600, (k + 1) * day) for k in range(9)
    ]


def test_the_clock_stands_still_during_pauses():
    found = [(10.0, 110.0), (200.0, 300.0)]
    assert [without(found, time) for time in (0, 10, 60, 110, 150, 250, 300, 310)] == [0, 10, 10, 10, 50, 100, 100, 110]


def test_steps_are_told_from_epochs_by_the_complete_trials():
    trial = TrialData(0, "complete", (0.5,), reports={step: step / 10 for step in range(1, 9)}, epochs=2)
    study = view(trial, TrialData(1, "pruned", reports={1: 0.1}, epochs=1))
    assert reports_per_epoch(study) == 4
    assert by_epoch(trial, 4)[:4] == [(0.25, 0.1), (0.5, 0.2), (0.75, 0.3), (1.0, 0.4)]
    assert reports_per_epoch(view()) == 1
    several = view(TrialData(0, "complete", (0.5,), reports={1: 0.1, 2: 0.2}, scores=(0.1, 0.2), epochs=1))
    assert reports_per_epoch(several) == 1


def test_reports_that_are_not_finite_are_left_out():
    assert by_epoch(TrialData(0, "diverged", reports={1: 0.5, 2: float("inf"), 3: float("nan")}), 1) == [(1, 0.5)]


@pytest.mark.parametrize("column", ["loss", "score"])
def test_what_was_reported_is_the_column_that_agrees_with_it(column):
    rows = [{"epoch": float(k), "validation_loss": 1 / k, "validation_score": 0.1 * k} for k in (1, 2, 3)]
    trial = TrialData(0, "complete", (1.0,), reports={k: rows[k - 1][f"validation_{column}"] for k in (1, 2, 3)})
    assert reported_column(view(trial, histories={0: rows}), [trial], 1) == column


def test_what_was_trained_is_in_epochs_whatever_is_reported():
    fits = {"validation.name": "kfold", "trainer.epochs": 4}
    three, one = (
        TrialData(0, "complete", (0.5,), scores=(0.4, 0.5, 0.6), epochs=4),
        TrialData(1, "pruned", reports={1: 0.3}, epochs=1),
    )
    assert trained(view(three, one, fixed=fits)) == {0: 12, 1: 4}
    whole = TrialData(0, "complete", (0.5,), reports=dict.fromkeys(range(1, 13), 0.5), epochs=3)
    part = TrialData(1, "pruned", reports=dict.fromkeys(range(1, 7), 0.5), epochs=6)
    assert trained(view(whole, part)) == {0: 3, 1: 1.5}  # four reports an epoch
    assert trained(view(part)) == {1: 6}
    assert trained(view()) == {}
