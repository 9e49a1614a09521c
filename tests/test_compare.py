"""Searches side by side: best scores against epochs, computed by hand, as a table and as a picture."""

import csv
import io
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image

from hypermap.search.compare import compare, cost, curve
from hypermap.search.space import Space
from hypermap.search.study import RESULT, Plan, open_study

NOW = datetime.now()


def trial(
    number: int, value: float | None, steps: int, how: str = "complete", epochs: int | None = None
) -> FrozenTrial:
    """A trial that reported `steps` times, and ended a second after the one before it."""
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    made = create_trial(
        state=states.get(how, TrialState.COMPLETE),
        value=None if how in states else value,
        intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
        user_attrs={RESULT: {"outcome": how, **({} if epochs is None else {"epochs": epochs})}},
    )
    made.number = number
    made.datetime_complete = NOW + timedelta(seconds=number)
    return made


TRIALS = [
    trial(0, 0.5, 10),
    trial(1, None, 3, "pruned"),
    trial(2, 0.4, 10),
    trial(3, float("inf"), 2, "diverged"),
    trial(4, None, 0, "failed"),
    trial(5, 0.7, 4, epochs=20),  # reports are folds there; the epochs are told
    trial(6, 0.6, 10),
    trial(7, None, 5, "pruned"),
]


def test_the_cost_is_what_was_trained_for():
    assert [cost(trial) for trial in TRIALS] == [10, 3, 10, 2, 0, 20, 10, 5]


def test_the_curve_is_the_best_so_far_against_all_that_was_trained():
    """The last point is where the search ended: pruned trials at its end cost too."""
    assert curve(TRIALS, maximizes=True) == [(10, 0.5), (23, 0.5), (45, 0.7), (55, 0.7), (60, 0.7)]
    assert curve(TRIALS, maximizes=False) == [(10, 0.5), (23, 0.4), (45, 0.4), (55, 0.4), (60, 0.4)]


def test_the_curve_is_in_the_order_in_which_trials_ended():
    """Two workers: trial 0 took longer than trial 1."""
    first, second = trial(0, 0.9, 10), trial(1, 0.5, 1)
    first.datetime_complete = NOW + timedelta(seconds=9)
    assert curve([first, second], maximizes=True) == [(1, 0.5), (11, 0.9), (11, 0.9)]


def test_nothing_completed_is_no_curve():
    assert curve([], maximizes=True) == []
    assert curve([TRIALS[1], TRIALS[3], TRIALS[4]], maximizes=True) == []


@pytest.fixture
def plans(tmp_path):
    """Makes a study for each list of trials."""

    def make(studies, direction="maximize"):
        made = {}
        for name, trials in studies.items():
            made[name] = Plan(
                name=f"sweep-{name}",
                storage=str(tmp_path / name / "journal.log"),
                folder=tmp_path / name,
                space=Space(),
                directions=(direction,),
                objectives=("accuracy",),
                sampler={},
                pruner={},
                n_trials=8,
                seed=0,
            )
            study, _ = open_study(made[name], {"identity": {}}, force=False)
            study.add_trials(trials)
        return made

    return make


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_table_and_the_picture(plans, tmp_path, direction):
    made = plans({"random": TRIALS, "grid": TRIALS[:2], "nothing": [TRIALS[1]] * 3}, direction)
    told = compare(made, tmp_path / "reports")
    folder = tmp_path / "reports/sweep"
    best = "0.7000" if direction == "maximize" else "0.4000"
    assert [line.split() for line in told.splitlines()] == [
        ["best", "accuracy", "trials", "(pruned)", "epochs"],
        ["random", best, "8", "(2)", "60"],
        ["grid", "0.5000", "2", "(1)", "13"],
        ["nothing", "none", "3", "(3)", "9"],
        ["Picture:", f"{folder}/comparison.png"],
    ]
    lines = told.splitlines()
    for column in ("accuracy", "trials", "(pruned)", "epochs"):  # numbers end where their heading does
        end = lines[0].index(column) + len(column)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in lines[1:4])
    rows = list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))
    assert rows[0] == {"strategy": "random", "best": best.rstrip("0"), "trials": "8", "pruned": "2", "epochs": "60"}
    assert rows[2]["best"] == ""
    picture = folder / "comparison.png"
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 300
        assert len(image.convert("RGB").getcolors(2**24)) > 2  # not blank


def test_two_comparisons_of_the_same_studies_are_the_same_bytes(plans, tmp_path):
    made = plans({"random": TRIALS, "grid": TRIALS[:2]})
    for folder in ("a", "b"):
        compare(made, tmp_path / folder)
    for name in ("comparison.png", "comparison.csv"):
        assert (tmp_path / "a/sweep" / name).read_bytes() == (tmp_path / "b/sweep" / name).read_bytes()


def test_where_nothing_completed_there_is_a_table_and_no_picture(plans, tmp_path):
    told = compare(plans({"random": [TRIALS[1]], "empty": []}), tmp_path / "reports")
    assert told.count("none") == 2
    assert told.endswith("No picture: no trial was trained to its end.")
    assert [path.name for path in (tmp_path / "reports/sweep").iterdir()] == ["comparison.csv"]


def test_trials_beyond_the_budget_do_not_count(plans, tmp_path):
    made = plans({"random": TRIALS})
    told = compare({"random": replace(made["random"], n_trials=3)}, tmp_path / "reports")
    assert told.splitlines()[1].split() == ["random", "0.5000", "3", "(1)", "23"]
