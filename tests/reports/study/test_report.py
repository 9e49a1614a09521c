"""The report of a study as files, of every kind of study; and the command that makes it."""

import csv
import json
import math
import random
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.reports.study import write
from hypermap.reports.study.checks import CHECKS, STEPS, judge, next_steps
from hypermap.reports.study.command import ReportArgs
from hypermap.reports.study.noise import noise
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.write import folder_of, write_report
from hypermap.search.auto import PROPOSED
from hypermap.search.schedule import SCHEDULE, Allowed
from hypermap.search.study import BUDGET, PURPOSE, RECORD, RESULT, TRAININGS, WHERE

USUAL = Thresholds(repeats=100)
NO_FILE = Path("no/such/file.yaml")
FILES = {"report.md", "trials.csv", "best.yaml", "study.json", "report.html"}
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
BEGAN = datetime(2026, 1, 1)
SPACE = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 4),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
}


def trials(number, how="complete", value=None, space=SPACE, steps=5, seed=0, objectives=1):
    """Trials of a made-up function of the parameters, one after another."""
    drawn = random.Random(seed)
    made = []
    for k in range(number):
        params = {name: _draw(drawn, distribution) for name, distribution in space.items()}
        score = (
            value if value is not None else 1 - abs(math.log10(params.get("lr", 0.01)) + 2) / 4 + drawn.gauss(0, 0.01)
        )
        state = how if isinstance(how, str) else how[k % len(how)]
        trial = create_trial(
            state=STATES[state],
            values=[score, *range(1, objectives)] if state == "complete" else None,
            params=params,
            distributions=space,
            intermediate_values={}
            if state == "failed" or objectives > 1
            else {s: score - 1 / s for s in range(1, steps + 1)},
        )
        trial.datetime_start = BEGAN + timedelta(seconds=2 * k)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=3)
        made.append(trial)
    return made


def _draw(drawn, distribution):
    if isinstance(distribution, CategoricalDistribution):
        return drawn.choice(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return drawn.randint(distribution.low, distribution.high)
    return 10 ** drawn.uniform(math.log10(distribution.low), math.log10(distribution.high))


def study(made=(), directions=("maximize",), storage=None, name="mine"):
    opened = optuna.create_study(study_name=name, directions=list(directions), storage=storage)
    for trial in made:
        opened.add_trial(trial)
    return opened


def with_nan(made):
    """The same, but every report of every other trial is no number, as a plain Optuna program may tell it."""
    for trial in made[::2]:
        trial.intermediate_values = dict.fromkeys(trial.intermediate_values, math.nan)
    return made


WIDE = {f"p{k}": FloatDistribution(0.001, 1.0, log=True) for k in range(60)}
STUDIES = {
    "no trial": study(),
    "one": study(trials(1)),
    "two": study(trials(2)),
    "thirty": study(trials(30)),
    "all failed": study(trials(5, "failed")),
    "all pruned": study(trials(12, "pruned")),
    "some of each": study(trials(30, ("complete", "pruned", "failed"))),
    "all infinite": study(trials(6, value=math.inf)),
    "some infinite": study(trials(12) + trials(6, value=-math.inf, seed=1)),
    "reports that are no numbers": study(with_nan(trials(20, ("complete", "complete", "pruned", "pruned")))),
    "constant": study(trials(15, value=0.5)),
    "one parameter": study(trials(15, space={"lr": SPACE["lr"]})),
    "no parameter": study(trials(5, space={}, value=0.5)),
    "sixty parameters": study(trials(25, space=WIDE, value=None)),
    "two objectives": study(trials(15, objectives=2), ("maximize", "minimize")),
    "three objectives": study(trials(15, objectives=3), ("maximize", "minimize", "minimize")),
    "no curves": study(trials(15, steps=0)),
    "minimised": study(trials(15), ("minimize",)),
    "choices of their own": study(trials(10) + trials(10, space={"momentum": FloatDistribution(0.1, 0.9)}, value=0.7)),
}


@pytest.fixture(autouse=True)
def few_resamplings(monkeypatch):
    monkeypatch.setattr("hypermap.reports.study.importance.REPEATS", 2)


@pytest.fixture
def undrawn(monkeypatch):
    """For what else reports hold: pictures take most of their time."""
    monkeypatch.setattr(write, "_pictures", lambda *_: {})


# Of these kinds all pictures are drawn; test_course_pictures.py and test_space_pictures.py draw those of the others.
DRAWN = {"one", "some of each", "sixty parameters", "two objectives", "choices of their own"}


@pytest.mark.parametrize("kind", STUDIES)
def test_every_kind_of_study_has_a_sensible_page(kind, tmp_path, request):
    if kind not in DRAWN:
        request.getfixturevalue("undrawn")
    view = read(STUDIES[kind])
    verdicts = write_report(view, tmp_path, USUAL)
    folder = tmp_path / "mine"
    text = (folder / "report.md").read_text()
    assert len(verdicts) == len(CHECKS) == 14
    assert {path.name for path in folder.iterdir()} - {"pictures"} == FILES
    named = set(re.findall(r"\(pictures/(\w+)\.png\)", text))
    assert named == {path.stem for path in folder.glob("pictures/*.png")}
    assert all(path.stat().st_size < 100_000 for path in folder.glob("pictures/*.png"))
    assert not re.search(r"\bnan\b|\binf\b|None\b|</?\w+>", text.replace("None.", "")), text
    told = json.loads((folder / "study.json").read_text())
    assert [entry["level"] for entry in told["verdicts"]] == [verdict.level for verdict in verdicts]
    assert sum(told["trials"].values()) == len(view.trials)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("backends", "told", "untold"),
    [
        (["eager"], ["8 trials can be trained again to the same bits."], ["kernel", "in stacks"]),
        (["native"], ["8 trials can be trained again to the same bits (of the native kernel"], ["in stacks"]),
        (["native", "vmap"], ["4 trials can be", "4 trials trained in stacks by torch (vmap)"], []),
        ([None], [], ["same bits", "in stacks"]),  # plain Optuna's
    ],
)
def test_how_exactly_trials_repeat_is_said(tmp_path, backends, told, untold):
    made = trials(8, steps=12)
    for number, trial in enumerate(made):
        if backend := backends[number % len(backends)]:
            trial.set_user_attr(RESULT, {"outcome": "complete", "backend": backend})
    view = read(study(made))
    write_report(view, tmp_path, USUAL)
    text = (tmp_path / "mine" / "report.md").read_text()
    assert all(words in text for words in told)
    assert not any(words in text for words in untold)
    if "vmap" in backends:
        within = 3 * noise(view).sd
        assert f"agrees within {within:.4f} of {view.objective}, three times what chance moves it" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("seed", "sentence"), [({"seed": 0}, "Fixed in every trial: `seed=0`.\n"), ({}, None)])
def test_keys_fixed_in_every_trial_are_listed_without_targets(tmp_path, seed, sentence):
    view = replace(read(study(trials(3))), fixed={"model._target_": "mine.Net", **seed})
    write_report(view, tmp_path, USUAL)
    text = (tmp_path / "mine" / "report.md").read_text()
    assert sentence in text if sentence else "Fixed in every trial" not in text


def test_the_same_study_gives_the_same_bytes(tmp_path):
    view = read(study(trials(20, ("complete", "complete", "pruned"))))
    for folder in ("one", "other"):
        write_report(view, tmp_path / folder, USUAL)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 10
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_pictures_that_no_longer_apply_are_removed(tmp_path):
    write_report(read(study(trials(20))), tmp_path, USUAL)
    assert (tmp_path / "mine/pictures/history.png").exists()
    write_report(read(study()), tmp_path, USUAL)
    assert not list((tmp_path / "mine/pictures").glob("*.png"))


@pytest.mark.usefixtures("undrawn")
def test_every_trial_is_in_the_table_the_best_first(tmp_path):
    made = trials(30, ("complete", "pruned", "failed"))
    write_report(read(study(made)), tmp_path, USUAL)
    with (tmp_path / "mine/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["trial"]) for row in rows) == list(range(30))
    values = [float(row["objective"]) for row in rows if row["state"] == "complete"]
    assert values == sorted((trial.values[0] for trial in made if trial.values), reverse=True)
    assert [row["state"] for row in rows] == ["complete"] * 10 + ["pruned"] * 10 + ["failed"] * 10
    for row in rows:
        assert float(row["lr"]) == made[int(row["trial"])].params["lr"]


@pytest.mark.usefixtures("undrawn")
def test_a_study_that_is_not_at_its_end_says_so_first(tmp_path):
    made = study(trials(10))
    made.set_user_attr(BUDGET, 40)
    write_report(read(made), tmp_path, USUAL)
    steps = (tmp_path / "mine/report.md").read_text().partition("## What to do next\n\n")[2]
    assert steps.startswith("1. **Go on.** 10 of 40 trials have ended: the same command goes on.")
    assert len([line for line in steps.partition("\n\n")[0].splitlines() if line]) <= STEPS


def searched(complete, paused, *, steps=8, told=False, budget=None, moved=(), better=True):
    """A search by the default strategy: complete trials, the first of them the baseline, and others paused at once.

    `told`: the search is over, and those were told as pruned an hour later. `better`: than the baseline.
    """
    by = ("space-filling", "model", "model", "neighbours")
    made = []
    for k, trial in enumerate(trials(complete + paused, steps=steps)):
        score = 0.5 if k == 0 else 0.6 + k / 100 if better else 0.4
        ended = k < complete
        trial.state = TrialState.COMPLETE if ended else TrialState.PRUNED if told else TrialState.RUNNING
        trial.values = [score] if ended else None
        trial.intermediate_values = {s: score - 0.1 / s for s in range(1, (steps if ended else 1) + 1)}
        if not ended:
            trial.datetime_complete = BEGAN + timedelta(hours=1) if told else None
        trial.user_attrs = {
            PROPOSED: "baseline" if k == 0 else by[k % 4],
            SCHEDULE: (Allowed() if ended else Allowed(1, paused=True)).record(),
            RESULT: {"outcome": "complete" if ended else "pruned" if told else "paused", "seconds": 1.0},
        }
        made.append(trial)
    opened = study()
    for trial in made:
        opened._storage.create_new_trial(opened._study_id, template_trial=trial)
    opened.set_user_attr(RECORD, {
        "pruner": {"_target_": "hypermap.search.auto_pruner.AutoPruner"}, "horizon": steps, "program": "src/train.py",
        "objectives": ["accuracy"], "baseline": {"params": {"lr": 0.01}, "moved": list(moved)},
    })  # fmt: skip
    if budget is not None:
        opened.set_user_attr(TRAININGS, budget)
    return opened


def written(opened, folder):
    """The page and study.json of a study's report."""
    write_report(read(opened), folder, USUAL)
    return (folder / "mine/report.md").read_text(), json.loads((folder / "mine/study.json").read_text())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("told", [False, True])
def test_what_is_paused_is_counted_once_as_pruned(tmp_path, told):
    page, record = written(searched(3, 20, told=told), tmp_path)
    assert record["trials"] == {"complete": 3, "pruned": 20}
    assert "23 trials: 3 complete, 20 pruned." in page
    cost = next(verdict for verdict in record["verdicts"] if verdict["check"] == "cost")
    assert cost["numbers"]["epochs"] == 3 * 8 + 20
    assert cost["numbers"]["epochs_saved"] == 20 * 7
    assert cost["numbers"]["wall_s"] < 60, "an hour went by before they were told"
    with (tmp_path / "mine/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3 + ["pruned"] * 20
    assert {row["seconds"] for row in rows} == {"1.0"}


@pytest.mark.usefixtures("undrawn")
def test_the_gain_over_the_baseline_follows_the_headline(tmp_path):
    page, record = written(searched(3, 20), tmp_path)
    assert page.split("\n\n")[2].startswith(
        "**Gain over the baseline 0.1200:** accuracy 0.5000 (trial 0, the baseline)"
    )
    assert (record["baseline"]["value"], record["baseline"]["best"]) == (0.5, 2)
    assert "Gain over the baseline 0.1200" in (tmp_path / "mine/report.html").read_text()
    none, record = written(searched(3, 20, better=False), tmp_path)
    assert "**Nothing better than the baseline was found:** trial 0" in none
    moved, record = written(searched(3, 20, moved=["lr"]), tmp_path)
    assert "The baseline's lr lies outside of the space, so the first trial has `lr=" in moved
    assert record["baseline"]["moved"] == ["lr"]
    assert json.loads(json.dumps(written(study(trials(9)), tmp_path)[1]))["baseline"] is None


@pytest.mark.parametrize("complete", [4, 8])
def test_whether_early_scores_tell_is_a_section_of_its_own(tmp_path, complete, monkeypatch):
    all_of = write._pictures
    monkeypatch.setattr(write, "_pictures", lambda *about: {"early_scores": all_of(*about)["early_scores"]})
    page, record = written(searched(complete, 20), tmp_path)
    section = page.partition("## Do early scores tell?\n\n")[2].partition("\n\n## ")[0]
    if complete < 5:
        assert section.startswith("*look:* not known, 4 complete trials. Fewer than 5 complete trials do not tell")
    else:
        assert section.startswith("*ok:* epoch 1 ranks trials as the last does, Kendall's tau 1.00 (0.88 to 1.00, 8")
        assert "![" in section
    assert [rung["step"] for rung in record["early_scores"]["rungs"]] == [1, 2, 4, 8]
    assert "Do early scores tell?" in (tmp_path / "mine/report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_who_proposed_what_is_told_where_it_is_known_and_nothing_of_it_elsewhere(tmp_path):
    page, record = written(searched(4, 20), tmp_path)
    section = page.partition("## Who proposed what\n\n")[2].partition("\n\n## ")[0]
    assert "| baseline | 1 | 1 | 0.5000 | 15 % |" in section  # 8 of 52 epochs
    assert section.endswith("The best trial, 3, was proposed as a neighbour of the best until then.")
    assert sum(one["proposals"] for one in record["proposers"]) == 24
    with (tmp_path / "mine/trials.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["proposed"] == "neighbours"
    plain, record = written(study(trials(9)), tmp_path)
    assert "proposed" not in plain
    assert record["proposers"] == []
    assert "early" not in plain
    assert record["early_scores"] is None


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_a_study_of_lists_has_a_report(tmp_path):
    storage, hidden = f"sqlite:///{tmp_path}/lists.db", CategoricalDistribution([[64], [64, 64], [32, 32]])
    made = trials(20, space={**SPACE, "hidden": hidden})
    study(made, storage=storage)
    page, _ = written(optuna.load_study(study_name="mine", storage=storage), tmp_path)
    with (tmp_path / "mine/trials.csv").open(newline="") as file:
        rows = {int(row["trial"]): row["hidden"] for row in csv.DictReader(file)}
    assert rows == {number: str(trial.params["hidden"]).replace(" ", "") for number, trial in enumerate(made)}
    best = max(range(20), key=lambda number: made[number].value)
    assert f"hidden={rows[best]}" in page
    assert "| 7 | What mattered? |" in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("complete", [0, 1, 2])
def test_a_search_of_two_complete_trials_has_not_levelled_off(tmp_path, complete):
    page, _ = written(searched(complete, 38, told=True, budget=complete + 38 / 8), tmp_path)
    assert "evelled off" not in page
    assert f"| 3 | Were there enough trials? | **look** | {complete} of {complete + 38} trials complete" in page
    steps = page.partition("## What to do next\n\n")[2].partition("\n\n")[0]
    asked = f"hydra.sweeper.budget={2 * (complete + 38 / 8):g}"
    assert sum(line.endswith(f"{asked}`") for line in steps.splitlines()) == 1, "no step twice"
    assert re.search(rf"\*\*Enough\.\*\* .* `python src/train.py -m {asked}`", steps)


@pytest.mark.usefixtures("undrawn")
def test_the_best_trials_are_complete_ones(tmp_path):
    page, _ = written(searched(2, 20), tmp_path)
    table = page.partition("## The best trials\n\n")[2].partition("\n\n")[0]
    assert len(table.splitlines()) == 2 + 2
    assert "pruned" not in table


@pytest.mark.usefixtures("undrawn")
def test_a_trial_with_one_lucky_epoch_is_not_the_best_and_the_page_says_why(tmp_path):
    made = trials(2, value=0.5)
    for trial, curve in zip(made, ([0.7, 0.8, 0.9, 0.91, 0.9], [0.7, 0.8, 0.92, 0.8, 0.8]), strict=True):
        trial.values, trial.intermediate_values = [max(curve)], dict(enumerate(curve, 1))
    page, record = written(study(made), tmp_path)
    assert page.split("\n\n")[1].startswith("**Best objective 0.9100, trial 0:**")
    assert "By its kept epoch alone trial 1 would be ahead, with 0.9200; over the second half" in page
    table = page.partition("## The best trials\n\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].startswith("| trial | objective | mean of its second half | ended |")
    assert [row.split(" | ")[:3] for row in table[2:]] == [["| 0", "0.9100", "0.9033"], ["| 1", "0.9200", "0.8400"]]
    assert record["best"]["trial"] == 0


@pytest.mark.usefixtures("undrawn")
def test_of_a_budget_it_is_told_how_much_is_spent(tmp_path):
    page, record = written(searched(3, 16, budget=20.0), tmp_path)
    assert "19 trials: 3 complete, 16 pruned. 5 of 20 trainings." in page
    assert "1. **Go on.** 5 of 20 trainings are spent: the same command goes on. `python src/train.py -m`" in page
    assert record["trainings"] == {"spent": 5.0, "budget": 20.0}
    over, _ = written(searched(3, 16, told=True, budget=5.0), tmp_path)
    assert "5 of 5 trainings." in over
    assert "Go on" not in over
    plain, record = written(study(trials(9)), tmp_path)
    assert "training" not in plain.partition("|")[0]
    assert record["trainings"] is None


def test_a_study_without_a_score_has_nothing_to_judge(tmp_path):
    write_report(read(study(trials(5, "failed"))), tmp_path, USUAL)
    text = (tmp_path / "mine/report.md").read_text()
    assert "| 5 | Is the winner real? | – |" in text
    assert "| 4 | How much failed? | **act** |" in text


@pytest.mark.usefixtures("undrawn")
def test_the_best_is_the_best(tmp_path):
    made = trials(20)
    write_report(read(study(made)), tmp_path, USUAL)
    best = yaml.safe_load((tmp_path / "mine/best.yaml").read_text())
    assert best["objective"] == max(trial.value for trial in made)
    assert best["values"] == made[best["trial"]].params
    assert f"trial {best['trial']}" in (tmp_path / "mine/report.md").read_text().splitlines()[2]


def test_what_to_do_next_is_the_gravest_first_and_no_more_than_five_lines():
    levels = {
        "edge": "act",
        "winner": "look",
        "failures": "act",
        "luck": "look",
        "cost": "look",
        "length": "look",
        "goal": "look",
    }
    verdicts = [Verdict(check.__name__, "?", levels.get(check.__name__, "ok"), "1", "Do.") for check in CHECKS]
    assert [verdict.check for verdict in next_steps(verdicts)] == ["failures", "edge", "winner", "length", "luck"]
    assert STEPS == 5
    same = [
        Verdict("winner", "?", "look", "", "", "make confirm"),
        Verdict("luck", "?", "look", "", "", "make confirm"),
    ]
    assert [verdict.check for verdict in next_steps(same)] == ["winner"]


def test_every_check_is_named_and_asks_something():
    verdicts = judge(read(study(trials(10))), USUAL)
    assert len({verdict.check for verdict in verdicts}) == 14
    assert all(verdict.question.endswith("?") and verdict.evidence and verdict.advice for verdict in verdicts)


def test_a_name_that_no_folder_can_have():
    assert folder_of("my study/2: lr?", Path("r")) == Path("r/my-study-2-lr")
    assert folder_of("..", Path("r")) == Path("r/study")


# The command


def asked(*words):
    return ReportArgs.of(words, NO_FILE)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("place", ["sqlite:///{}/plain.db", "{}/journal.log"])
def test_a_study_of_plain_optuna_in_any_storage(place, tmp_path):
    place = place.format(tmp_path)
    storage = place
    if "://" not in place:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))
    study(trials(10), storage=storage)
    told = asked(f"storage={place}", "repeats=100").answer(tmp_path / "reports")
    assert f"Report: {tmp_path}/reports/mine/report.md" in told
    assert (tmp_path / "reports/mine/report.md").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_a_study_was_for_is_kept_in_it(tmp_path):
    place = f"sqlite:///{tmp_path}/plain.db"
    made = study(trials(10), storage=place)
    asked("study=mine", f"storage={place}", "goal=Why?", "scientific=[layers]", "repeats=100").answer(tmp_path)
    assert made.user_attrs[PURPOSE] == {"goal": "Why?", "scientific": ["layers"]}
    assert "\nWhy?\n" in (tmp_path / "mine/report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_here_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = optuna.storages.journal.JournalFileBackend
    for name in ("one", "other"):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        study(trials(8), storage=optuna.storages.JournalStorage(journal(str(folder / "journal.log"))), name=name)
        write_json(folder / WHERE, {"name": name, "storage": str(folder / "journal.log")})
    assert "Report: reports/one/report.md" in asked("study=one", "repeats=100").answer(Path("reports"))
    assert "studies/one/journal.log" in (tmp_path / "reports/one/report.md").read_text()
    assert str(tmp_path) not in (tmp_path / "reports/one/report.md").read_text(), (
        "a report in Git names no machine's path"
    )
    with pytest.raises(UserError, match="There are: one, other"):
        asked("study=nosuch*").answer(Path("reports"))
    with pytest.raises(UserError, match=r"Name a study.*There are: one, other"):
        asked().answer(Path("reports"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("007", ["007"]),
        ("[007, 1e3,'on']", ["007", "1e3", "on"]),
        ("*-random", ["*-random"]),
        ("2024-01-01", ["2024-01-01"]),
        ("[]", []),
    ],
)
def test_names_are_words_and_no_values(text, names):
    assert list(asked(f"study={text}").studies) == names
    assert asked(f"scientific={text}").purpose["scientific"] == names


def test_a_threshold_is_a_number_however_it_is_written():
    assert asked("study=x", "edge=1e-1").thresholds.edge == 0.1
    with pytest.raises(UserError, match="edge is 'abc'; it is a number"):
        asked("study=x", "edge=abc")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study"], "is not understood"),
        (["stduy=x"], "did you mean 'study'"),
        (["study=x", "edge=2"], "a share between 0 and 1"),
        (["study=[a,"], "a list is written"),
        (["study=x", "storage=nosuch.log"], "no such file"),
        (["study=x", "storage=sqlite:///nosuch.db"], "no such file"),
        (["study=x", "storage=sqlite:///:memory:"], "in memory"),
    ],
)
def test_what_is_not_understood_is_told(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        asked(*words).answer(Path("reports"))
    assert not list(tmp_path.glob("*.db"))


def test_a_study_that_the_storage_does_not_hold(tmp_path):
    place = f"sqlite:///{tmp_path}/plain.db"
    study(storage=place, name="mine")
    with pytest.raises(UserError, match=r"no study 'mien' \(did you mean 'mine'\?\)"):
        asked("study=mien", f"storage={place}").answer(tmp_path)
    study(storage=place, name="another")
    with pytest.raises(UserError, match="holds 2 studies"):
        asked(f"storage={place}").answer(tmp_path)
    with pytest.raises(UserError, match="did not search"):
        asked("study=mine", f"storage={place}", "scientific=lr").answer(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_names_and_errors_are_no_html(tmp_path):
    """An error such as ``<class 'float'>`` would vanish, and a tag would do what it says."""
    made = trials(12, ("complete", "failed"), space={"<b>x</b>": SPACE["lr"]})
    for trial in made:
        trial.user_attrs = {RESULT: {"outcome": "failed", "error": "`x` is <class 'int'>"}} if not trial.values else {}
    write_report(read(study(made, name="<script>")), tmp_path, USUAL)
    page = (tmp_path / "script" / "report.md").read_text(encoding="utf-8")
    markdown = pytest.importorskip("markdown_it").MarkdownIt()
    tokens = [part for token in markdown.enable("table").parse(page) for part in (token, *(token.children or ()))]
    assert not [token.content for token in tokens if token.type in ("html_inline", "html_block")]
    assert "'x' is <class 'int'>" in [token.content for token in tokens if token.type == "code_inline"]


def test_trials_without_times_and_choices_of_many_kinds_are_reported(tmp_path):
    opened = study(trials(9) + trials(9, value=0.5, space={"lr": CategoricalDistribution([None, 0.1, "auto"])}))
    for trial in trials(3):
        trial.datetime_start = trial.datetime_complete = None
        opened._storage.create_new_trial(opened._study_id, template_trial=trial)
    write_report(read(opened), tmp_path, USUAL)
    assert {path.name for path in (tmp_path / "mine").iterdir() if path.is_file()} == FILES


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_a_direction_is_minimised_as_optuna_has_it(tmp_path):
    storage = optuna.storages.InMemoryStorage()
    storage.create_new_study([optuna.study.StudyDirection.NOT_SET], "mine")
    view = read(optuna.load_study(study_name="mine", storage=storage))
    assert view.directions == ("minimize",)
    write_report(view, tmp_path, USUAL)


@pytest.mark.usefixtures("undrawn")
def test_no_two_columns_of_the_best_trials_have_one_name(tmp_path):
    space = {"epochs": FloatDistribution(0.1, 1.0, log=True), "trial": FloatDistribution(0.1, 1.0, log=True)}
    page, _ = written(study(trials(3, space=space)), tmp_path)
    header = page.partition("## The best trials\n\n")[2].splitlines()[0].strip("| ").split(" | ")
    assert len(header) == len(set(header))
    assert header[-2:] == ["epochs (searched)", "trial (searched)"]


@pytest.mark.usefixtures("undrawn")
def test_a_choice_of_several_lines_keeps_its_row(tmp_path):
    space = {"prompt": CategoricalDistribution(["one\ntwo", "three\nfour"])}
    page, _ = written(study(trials(4, space=space)), tmp_path)
    rows = page.partition("## The best trials\n\n")[2].partition("\n\n")[0].splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 2 + 4


@pytest.mark.usefixtures("undrawn")
def test_a_huge_figure_is_short(tmp_path):
    page, _ = written(study(trials(4, value=1e308)), tmp_path)
    assert "1.000e+308" in page
    assert not re.search(r"\d{40}", page.replace(",", ""))
