"""The report of a study as files, of every kind of study; and the command that makes it."""

import csv
import json
import math
import random
import re
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.errors import UserError
from hypermap.files import write_json
from hypermap.search.study import BUDGET, PURPOSE, RESULT, WHERE
from hypermap.study_report.checks import CHECKS, STEPS, judge, next_steps
from hypermap.study_report.command import Asked
from hypermap.study_report.noise import noise
from hypermap.study_report.reading import read
from hypermap.study_report.verdict import Thresholds, Verdict
from hypermap.study_report.write import folder_of, write_report

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


@pytest.mark.parametrize("kind", STUDIES)
def test_every_kind_of_study_has_a_sensible_page(kind, tmp_path):
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


def test_a_study_that_is_not_at_its_end_says_so_first(tmp_path):
    made = study(trials(10))
    made.set_user_attr(BUDGET, 40)
    write_report(read(made), tmp_path, USUAL)
    steps = (tmp_path / "mine/report.md").read_text().partition("## What to do next\n\n")[2]
    assert steps.startswith("1. **Go on.** 10 of 40 trials have ended: the same command goes on.")
    assert len([line for line in steps.partition("\n\n")[0].splitlines() if line]) <= STEPS


def test_a_study_without_a_score_has_nothing_to_judge(tmp_path):
    write_report(read(study(trials(5, "failed"))), tmp_path, USUAL)
    text = (tmp_path / "mine/report.md").read_text()
    assert "| 5 | Is the winner real? | – |" in text
    assert "| 4 | How much failed? | **act** |" in text


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
    assert all(verdict.question.endswith("?") and verdict.figure and verdict.advice for verdict in verdicts)


def test_a_name_that_no_folder_can_have():
    assert folder_of("my study/2: lr?", Path("r")) == Path("r/my-study-2-lr")
    assert folder_of("..", Path("r")) == Path("r/study")


# The command


def asked(*words):
    return Asked.of(words, NO_FILE)


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


def test_what_a_study_was_for_is_kept_in_it(tmp_path):
    place = f"sqlite:///{tmp_path}/plain.db"
    made = study(trials(10), storage=place)
    asked("study=mine", f"storage={place}", "goal=Why?", "scientific=[layers]", "repeats=100").answer(tmp_path)
    assert made.user_attrs[PURPOSE] == {"goal": "Why?", "scientific": ["layers"]}
    assert "\nWhy?\n" in (tmp_path / "mine/report.md").read_text()


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


def test_a_study_without_a_direction_is_minimised_as_optuna_has_it(tmp_path):
    storage = optuna.storages.InMemoryStorage()
    storage.create_new_study([optuna.study.StudyDirection.NOT_SET], "mine")
    view = read(optuna.load_study(study_name="mine", storage=storage))
    assert view.directions == ("minimize",)
    write_report(view, tmp_path, USUAL)
