"""Searches side by side: curves, cuts, intervals and ranks by hand and by scipy, as files and as a picture."""

import csv
import io
import json
import os
import signal
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from scipy import stats

from hypermap.core.errors import UserError
from hypermap.core.paths import SOURCES
from hypermap.reports.study.comparison import compare
from hypermap.reports.study.comparison_picture import band
from hypermap.reports.study.reading import read
from hypermap.reports.study.strategies import compared, curve, cut, grouped, named
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import StudyData
from hypermap.search.study import RECORD, RESULT

NOW = datetime(2026, 1, 1)
FILES = ["comparison.csv", "comparison.json", "comparison.md", "comparison.png"]


def trial(
    number: int, value: float | None, steps: int, how: str = "complete", epochs: int | None = None
) -> FrozenTrial:
    """A trial that reported `steps` times, and ended a second after the one before it."""
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
    made = create_trial(
        state=states.get(how, TrialState.COMPLETE),
        value=None if how in states else value,
        intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
        user_attrs={RESULT: {"outcome": how, **({} if epochs is None else {"epochs": epochs})}},
    )
    made.number = number
    made.datetime_start = NOW
    made.datetime_complete = None if how == "running" else NOW + timedelta(seconds=number)
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


def study(name: str, trials: list[FrozenTrial], direction: str = "maximize", **identity: object) -> StudyData:
    """A study of the sweep's, with a record where there is something to be in it."""
    made = optuna.create_study(study_name=name, direction=direction)
    made.add_trials(trials)
    record = {"identity": identity, "objectives": ["accuracy"]}
    made.set_user_attr(RECORD, record)
    return read(made)


def searches(scores: dict[str, list[float]], direction: str = "minimize") -> list[StudyData]:
    """Studies of one trial of ten epochs each: the seeds of each strategy."""
    return [
        study(f"sweep-{strategy}-s{seed}", [trial(0, score, 10)], direction)
        for strategy, values in scores.items()
        for seed, score in enumerate(values)
    ]


SCORES = {"auto": [0.10, 0.11, 0.12], "grid": [0.31, 0.30, 0.32], "random": [0.115, 0.105, 0.14]}


# Curves


def test_the_curve_is_the_best_so_far_against_all_that_was_trained():
    """The last point is where the search ended: pruned trials at its end cost too."""
    assert curve(study("a", TRIALS)) == [(10, 0.5), (23, 0.5), (45, 0.7), (55, 0.7), (60, 0.7)]
    assert curve(study("a", TRIALS, "minimize")) == [(10, 0.5), (23, 0.4), (45, 0.4), (55, 0.4), (60, 0.4)]


def test_by_trial_each_one_that_ended_costs_the_same():
    assert curve(study("a", TRIALS), by_trial=True) == [(1, 0.5), (3, 0.5), (6, 0.7), (7, 0.7), (8, 0.7)]


def test_the_curve_is_in_the_order_in_which_trials_ended():
    """Two workers: trial 0 took longer than trial 1."""
    first, second = trial(0, 0.9, 10), trial(1, 0.5, 1)
    first.datetime_complete = NOW + timedelta(seconds=9)
    assert curve(study("a", [first, second])) == [(1, 0.5), (11, 0.9), (11, 0.9)]


def test_a_trial_that_runs_does_not_count():
    assert curve(study("a", [trial(0, 0.5, 10), trial(1, None, 7, "running")])) == [(10, 0.5), (10, 0.5)]


def test_nothing_completed_is_no_curve():
    assert curve(study("a", [])) == []
    assert curve(study("a", [TRIALS[1], TRIALS[3], TRIALS[4]])) == []


def test_a_curve_is_cut_at_the_budget():
    points = [(10, 0.5), (23, 0.4), (60, 0.3), (70, 0.3)]
    assert cut(points, 30) == [(10, 0.5), (23, 0.4), (30, 0.4)]
    assert cut(points, 70) == [*points, (70, 0.3)]
    assert cut(points, 9) == []


def test_all_are_read_at_the_least_budget():
    """The third trial of the long search was better, and too late."""
    long = study("long", [trial(0, 0.5, 10), trial(1, 0.6, 10), trial(2, 0.9, 10)])
    short = study("short", [trial(0, 0.55, 10), trial(1, None, 5, "pruned"), trial(2, None, 6, "pruned")])
    found = compared([long, short], 0.95)
    assert (found.budget, found.unit) == (21, "epochs")
    assert {s.name: s.scores for s in found.strategies} == {"long": {0: 0.6}, "short": {0: 0.55}}
    assert [s.epochs for s in found.strategies] == [30, 21]  # the table has the whole


def test_where_epochs_are_not_known_trials_are_the_cost():
    plain = study("plain", [trial(0, 0.5, 0), trial(1, 0.6, 0), trial(2, 0.9, 0)])
    found = compared([plain, study("other", [trial(0, 0.4, 10), trial(1, 0.7, 10)])], 0.95)
    assert (found.budget, found.unit) == (2, "trials")
    assert [(s.name, s.scores[0]) for s in found.strategies] == [("other", 0.7), ("plain", 0.6)]


def test_the_band_is_the_mean_of_step_functions_from_where_all_have_begun():
    x, low, mean, high = band([[(10, 4.0), (30, 2.0), (40, 2.0)], [(20, 3.0), (40, 3.0)]])
    np.testing.assert_array_equal(x, [20, 30, 40])
    np.testing.assert_array_equal(low, [3, 2, 2])
    np.testing.assert_array_equal(mean, [3.5, 2.5, 2.5])
    np.testing.assert_array_equal(high, [4, 3, 3])


# Strategies


def test_a_last_s_and_a_number_is_a_seed():
    names = ["x-auto-s1", "x-auto-s0", "x-grid", "x-s-5", "s1", "x-auto-s01"]
    groups = grouped([study(name, []) for name in names])
    assert {strategy: {seed: view.name for seed, view in repeats.items()} for strategy, repeats in groups.items()} == {
        "x-auto": {0: "x-auto-s0", 1: "x-auto-s1"},
        "x-grid": {0: "x-grid"},
        "x-s-5": {0: "x-s-5"},
        "s1": {0: "s1"},
        "x-auto-s01": {0: "x-auto-s01"},
    }


def test_the_same_seed_twice_is_refused():
    with pytest.raises(UserError, match="x and x-s0 are both seed 0 of x"):
        grouped([study("x", []), study("x-s0", [])])


@pytest.mark.parametrize(
    ("names", "labels", "common"),
    [
        (["sweep-auto", "sweep-grid"], ["auto", "grid"], "sweep"),
        (["my-sweep-auto", "my-sweep-random-grid"], ["auto", "random-grid"], "my-sweep"),
        (["quick", "quick-2"], ["quick", "quick-2"], "quick-quick-2"),
        (["quickly", "quick"], ["quickly", "quick"], "quickly-quick"),
        (["lr-0a1b2c-auto", "lr-ffffff-grid"], ["auto", "grid"], "lr"),
        (["lr-0a1b2c", "lr-ffffff"], ["0a1b2c", "ffffff"], "lr"),
        (["lr-0a1b2c-auto", "lr-ffffff-auto"], ["0a1b2c-auto", "ffffff-auto"], "lr"),
        (["only-auto"], ["only-auto"], "only-auto"),
        (["../a b", "c/d"], ["../a b", "c/d"], "_a_b-c_d"),
    ],
)
def test_strategies_are_called_by_what_tells_them_apart(names, labels, common):
    assert named(names) == (labels, common)


def test_many_names_make_no_endless_folder():
    assert len(named([f"{'x' * 30}{k}-y" for k in range(40)])[1]) < 120


def test_intervals_are_students():
    found = compared(searches(SCORES), 0.95)
    assert [strategy.name for strategy in found.strategies] == ["auto", "random", "grid"]
    for strategy in found.strategies:
        scores = SCORES[strategy.name]
        told = strategy.estimate
        interval = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
        assert (told.mean, told.sd) == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))
        assert (told.low, told.high) == pytest.approx(interval)


def test_ranks_and_friedmans_test_are_scipys():
    found = compared(searches(SCORES), 0.95)
    ranks = np.mean([stats.rankdata(row) for row in zip(*SCORES.values(), strict=True)], axis=0)
    assert {s.name: s.rank for s in found.strategies} == pytest.approx(dict(zip(SCORES, ranks, strict=True)))
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*SCORES.values()).pvalue)
    assert compared(searches(SCORES, "maximize"), 0.95).strategies[0].name == "grid"


def test_the_best_is_told_apart_by_welchs_interval_widened_for_both_comparisons():
    found = compared(searches(SCORES), 0.95)
    assert {s.name: s.apart for s in found.strategies} == {"auto": None, "random": False, "grid": True}
    for other in found.strategies[1:]:
        result = stats.ttest_ind(SCORES[other.name], SCORES["auto"], equal_var=False)
        low, high = result.confidence_interval(0.975)
        assert (other.gap.low, other.gap.high) == pytest.approx((low, high))
        assert other.gap.mean == pytest.approx(np.mean(SCORES[other.name]) - np.mean(SCORES["auto"]))


def test_behind_is_positive_where_more_is_better_too():
    found = compared(searches(SCORES, "maximize"), 0.95)
    assert all(other.gap.mean > 0 for other in found.strategies[1:])
    assert {s.name: s.apart for s in found.strategies} == {"grid": None, "random": True, "auto": True}


def test_ranks_are_over_the_seeds_that_all_have():
    found = compared(searches({"a": [0.1, 0.4, 0.1], "b": [0.2, 0.3]}), 0.95)
    assert found.ranked == 2
    assert {s.name: s.rank for s in found.strategies} == {"a": 1.5, "b": 1.5}
    assert found.p_value is None  # two strategies


def test_equal_searches_are_ranked_alike_and_not_tested():
    found = compared(searches({"a": [0.1] * 3, "b": [0.1] * 3, "c": [0.1] * 3}), 0.95)
    assert [s.rank for s in found.strategies] == [2, 2, 2]
    assert found.p_value is None
    assert [s.apart for s in found.strategies] == [None, False, False]


def test_a_search_without_a_score_is_ranked_last_and_named(tmp_path):
    views = searches({"a": [0.1, 0.2], "b": [0.3, 0.4]})
    views[1] = study("sweep-a-s1", [TRIALS[1]], "minimize")
    told = compare(views, tmp_path, Thresholds())
    assert "a completed no trial within 10 epochs with 1 of 2 seeds" in told
    rows = list(csv.DictReader((tmp_path / "sweep/comparison.csv").open()))
    assert [(row["strategy"], row["seeds"], row["mean"], row["rank"]) for row in rows] == [
        ("a", "2", "0.1", "1.5"),
        ("b", "2", "0.35", "1.5"),
    ]


def test_a_strategy_without_any_score_comes_last(tmp_path):
    told = compare([study("x-a", [TRIALS[3]]), study("x-b", TRIALS[:3])], tmp_path, Thresholds())
    assert [line.split()[:2] for line in told.splitlines()[1:3]] == [["b", "0.5000"], ["a", "none"]]
    assert told.splitlines()[3].endswith("another may end elsewhere. a completed no trial within 23 epochs.")


# Refusals and caveats


def test_other_objectives_and_directions_are_refused():
    one = study("one", TRIALS)
    with pytest.raises(UserError, match="one and two cannot be compared: the directions of the one are maximize, of"):
        compared([one, study("two", TRIALS, "minimize")], 0.95)
    with pytest.raises(UserError, match="the objectives of the one are accuracy, of the other loss"):
        compared([one, replace(study("two", TRIALS), objectives=("loss",))], 0.95)
    with pytest.raises(UserError, match="one is given twice"):
        compared([one, one], 0.95)
    with pytest.raises(UserError, match="no study to compare"):
        compared([], 0.95)


def test_scores_of_other_data_are_not_compared():
    views = [study("a", TRIALS, data={"files": "abc"}), study("b", TRIALS, data={"files": "xyz"})]
    with pytest.raises(UserError, match="a and b cannot be compared: their scores are of other data"):
        compared(views, 0.95)


def test_other_code_and_settings_are_told_and_compared(tmp_path):
    same = {"configuration": {"trainer.epochs": 20, "seed": 0}, "data": {"files": "abc"}, "code": {"src/": "1"}}
    other = {"configuration": {"trainer.epochs": 10, "seed": 1}, "data": {"files": "abc"}, "code": {"src/": "2"}}
    views = [study("a", TRIALS, **same), study("b", TRIALS, **other), study("c", TRIALS, **same)]
    assert compared(views, 0.95).caveats == (
        "the code in src/ differs: a, c against b",
        "trainer.epochs is 20 in a, c, and 10 in b",
    )
    assert "Note: trainer.epochs is 20 in a, c, and 10 in b." in compare(views, tmp_path, Thresholds())
    assert "- trainer.epochs is 20" in (tmp_path / "a-b-c/comparison.md").read_text()
    assert compared([views[0], views[2]], 0.95).caveats == ()


def test_what_one_searches_and_another_fixes_is_no_caveat():
    drawn = create_trial(value=0.5, params={"lr": 0.1}, distributions={"lr": FloatDistribution(0, 1)})
    fixed = {"configuration": {"lr": 0.1, "epochs": 2}}
    views = [study("a", [drawn], configuration={"epochs": 2}), study("b", TRIALS, **fixed)]
    assert compared(views, 0.95).caveats == ()


def test_many_differences_are_cut_short():
    views = [study(name, TRIALS, configuration={f"k{k}": name for k in range(20)}) for name in "ab"]
    assert compared(views, 0.95).caveats[-1] == "and 14 more settings"


# The page


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_pages_numbers_are_the_tables(tmp_path, direction):
    told = compare(searches(SCORES, direction), tmp_path, Thresholds())
    folder = tmp_path / "sweep"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    rows = list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))
    page = (folder / "comparison.md").read_text()
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    entries = json.loads((folder / "comparison.json").read_text())["strategies"]
    assert len(rows) == len(cells) == len(entries) == 3
    for row, line, entry in zip(rows, cells, entries, strict=True):
        low, high = float(row["low"]), float(row["high"])
        assert line[:3] == [row["strategy"], f"{float(row['mean']):.4f}", f"{low:.4f} to {high:.4f}"]
        assert line[4:] == [f"{float(row['rank']):.1f}", row["seeds"], row["trials"], row["pruned"], row["epochs"]]
        assert (entry["mean"], entry["low"]) == (float(row["mean"]), low)
        assert list(entry["scores"].values()) == SCORES[row["strategy"]]
    best = rows[0]
    answer = f"{best['strategy']} reaches the best accuracy: {float(best['mean']):.4f}"
    assert f"**{answer}" in page
    assert answer in told
    assert told.endswith(f"Page: {folder}/comparison.md")


def test_what_cannot_be_told_apart_is_named(tmp_path):
    told = compare(searches(SCORES), tmp_path, Thresholds())
    assert "It cannot be told apart from random over 3 seeds. grid is worse beyond what seeds explain." in told


def test_columns_end_where_their_headings_do(tmp_path):
    lines = compare(searches(SCORES), tmp_path, Thresholds()).splitlines()
    for column in ("best accuracy", "rank", "trials", "epochs"):
        end = lines[0].index(column) + len(column)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in lines[1:4])


def test_one_seed_is_an_anecdote(tmp_path):
    told = compare([study("x-a", TRIALS), study("x-b", TRIALS[:2])], tmp_path, Thresholds())
    assert "One seed is an anecdote: whether b would be behind a" in told
    page = (tmp_path / "x/comparison.md").read_text()
    assert "a line without a band" in page
    assert "Friedman" not in page


def test_one_study_alone_is_a_page_too(tmp_path):
    told = compare([study("alone", TRIALS)], tmp_path, Thresholds())
    assert "alone: the best accuracy is 0.7000" in told
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == FILES


def test_where_nothing_completed_there_is_a_table_and_no_picture(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/comparison.png").write_bytes(b"of an earlier comparison")
    told = compare([study("x-a", [TRIALS[1]]), study("x-b", [])], tmp_path, Thresholds())
    assert "No trial was trained to its end, so there is nothing to compare." in told
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == FILES[:3]
    assert "comparison.png" not in (tmp_path / "x/comparison.md").read_text()


def test_studies_of_plain_optuna_are_compared(tmp_path):
    views = []
    for seed in range(2):
        for name, sampler in (
            ("random", optuna.samplers.RandomSampler(seed=seed)),
            ("tpe", optuna.samplers.TPESampler(seed=seed)),
        ):
            made = optuna.create_study(study_name=f"plain-{name}-s{seed}", sampler=sampler)
            made.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2 * 1e-3, n_trials=5)
            views.append(read(made))
    compare(views, tmp_path, Thresholds())
    page = (tmp_path / "plain/comparison.md").read_text()
    assert "scores are those after 5 trials" in page
    assert "0.0000" not in page  # values below 0.05 have their significant digits


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-300, 1e12])
def test_constant_and_extreme_scores_are_drawn(tmp_path, value):
    views = [study(f"x-{name}", [trial(k, value, 3) for k in range(3)], "minimize") for name in "abc"]
    compare(views, tmp_path, Thresholds())
    assert (tmp_path / "x/comparison.png").stat().st_size > 0


@pytest.mark.parametrize("number", [2, 30])
def test_the_picture_is_small_and_not_blank(tmp_path, number):
    views = [study(f"x-{k}-s{seed}", TRIALS[: 3 + k % 6]) for k in range(number) for seed in range(2)]
    compare(views, tmp_path, Thresholds())
    picture = tmp_path / "x/comparison.png"
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 300
        assert len(image.convert("RGB").getcolors(2**24)) > 2


def test_two_comparisons_of_the_same_studies_are_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        compare(searches(SCORES), tmp_path / folder, Thresholds(), "named")
    for name in FILES:
        assert (tmp_path / "a/named" / name).read_bytes() == (tmp_path / "b/named" / name).read_bytes()


# As the end of a sweep

TASK = """
import os, signal

import hydra

@hydra.main(config_path="conf", config_name="config")
def task(config):
    if os.path.exists("interrupt"):
        os.kill(os.getpid(), signal.SIGINT)
    return config.x ** 2

if __name__ == "__main__":
    task()
"""


def sweep(folder: Path, forks, **settings: object) -> subprocess.CompletedProcess[str]:
    config = {
        "defaults": [{"override hydra/sweeper": "hypermap"}, "_self_"],
        "x": 0.0,
        "hydra": {
            "sweep": {"dir": "studies/${hydra.sweeper.study_name}"},
            "sweeper": {"study_name": "sweep", "seed": 7, "n_trials": 2, **settings},
        },
    }
    (folder / "conf").mkdir()
    (folder / "conf/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "task.py").write_text(TASK)
    return subprocess.run(
        ["python", "task.py", "-m", "x=interval(-1.0,1.0)"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"} | forks.light,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_sweep_searches_with_each_strategy_and_seed_and_compares_them(tmp_path, forks):
    strategies = {"random": {"sampler": "random"}, "quasi": {"sampler": "quasi_random"}}
    done = sweep(tmp_path, forks, compare=strategies, seeds=2)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads((tmp_path / "reports/studies/sweep/comparison.json").read_text())["strategies"]
    assert {e["strategy"]: list(e["scores"]) for e in entries} == {
        "random": ["sweep-random-s0", "sweep-random-s1"],
        "quasi": ["sweep-quasi-s0", "sweep-quasi-s1"],
    }
    assert len({score for e in entries for score in e["scores"].values()}) == 4  # other seeds, other searches
    assert "over 2 seeds" in done.stdout


def test_an_interrupt_ends_the_search_that_runs_and_all_that_would_follow(tmp_path, forks):
    (tmp_path / "interrupt").touch()
    done = sweep(
        tmp_path, forks, compare={"random": {"sampler": "random"}, "quasi": {"sampler": "quasi_random"}}, seeds=2
    )
    assert done.returncode == 128 + signal.SIGINT, done.stdout + done.stderr
    assert "1 of 2 trials: 1 complete. Stopped: it was asked to." in done.stdout
    assert done.stdout.endswith("1 of 4 searches have started. Run the same command to resume.\n")
    assert [folder.name for folder in (tmp_path / "studies").iterdir()] == ["sweep-random-s0"]
    assert not (tmp_path / "reports").exists()


def test_a_strategy_that_cannot_be_is_refused_before_any_search(tmp_path, forks):
    done = sweep(tmp_path, forks, compare={"random": {"sampler": "random"}, "other": {"sampler": "randon"}})
    assert done.returncode == 1
    assert "hydra.sweeper.compare: no sampler 'randon'. There are: auto, " in done.stderr
    assert not (tmp_path / "studies").exists()


def test_repeats_of_no_comparison_are_refused(tmp_path, forks):
    done = sweep(tmp_path, forks, seeds=2)
    assert done.returncode == 1
    assert "hydra.sweeper.seeds is 2; without hydra.sweeper.compare there is one search." in done.stderr


def test_the_comparison_that_ships_runs_as_it_is_typed(clone):
    project = clone()
    words = ["+sweep=mapped_space", "hydra.sweeper.budget=1", "hydra.sweeper.seeds=1", "trainer.epochs=2"]
    project.ok("python", "src/train.py", "-m", *words)
    compared = project.json("reports/studies/mapped_space/comparison.json")["strategies"]
    assert {entry["strategy"] for entry in compared} == {"natural", "mapped"}
