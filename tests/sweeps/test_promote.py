"""make promote STUDY=NAME: a trial of a study becomes the order."""

import re
import runpy
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from hypermap.config.compose import compose
from hypermap.config.portfolio import TRAINED, expanded
from hypermap.core.dvc_experiments import Snapshot, publish, snapshot
from hypermap.core.files import write_json, write_text
from hypermap.search.storage import open_storage

PROMOTE = ("python", "src/promote.py")
PRESENT = """\
# mine
data: digits  # the data
optimizer: {name: adam, lr: 0.5}  # the rate
model:
  name: mlp  # dense
  hidden: [9]

# the rest
trainer: quick
evaluation: {confidence: 0.9}  # an order of my own
"""
TRIAL = """\
# of the sweep
data: digits
optimizer: {name: adam, lr: 0.0123, betas: [0.8, 0.99]}
model: {name: mlp, hidden: [64, 32]}
trainer: default
seed: 7
"""
PROMOTED = """\
# mine
data: digits  # the data
optimizer: {name: adam, lr: 0.0123, betas: [0.8, 0.99]}  # the rate
model:
  name: mlp  # dense
  hidden: [64, 32]

# the rest
trainer: default
seed: 7
final: refit
"""


@pytest.fixture
def promote(clone, monkeypatch, capsys):
    """The script in a clone, and a study whose best trial is number 1."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["src/promote.py", *words])
        runpy.run_path("src/promote.py", run_name="__main__")
        return capsys.readouterr().out

    run.project = clone("fresh")
    monkeypatch.chdir(run.project.path)
    storage = Path("studies/tune/journal.log").absolute()
    study = optuna.create_study(study_name="tune", storage=open_storage(str(storage)), direction="maximize")
    for value in (0.8, 0.9, 0.7):
        study.add_trial(optuna.trial.create_trial(value=value))
    write_json(storage.with_name("study.json"), {"storage": str(storage)})
    write_text(storage.parent / "1" / "params.yaml", TRIAL)
    return run


def test_the_best_trial_becomes_the_order_and_the_comments_stay(promote):
    order = promote.project.path / "params.yaml"
    order.write_text(PRESENT)
    assert promote("tune") == "params.yaml now has trial 1 of tune. Next: dvc repro\n"
    assert order.read_text() == PROMOTED
    assert yaml.safe_load(PROMOTED) == {**yaml.safe_load(TRIAL), "final": "refit"}
    promote("tune")
    assert order.read_text() == PROMOTED


def test_a_study_that_is_not_there_leaves_the_order_as_it_was(promote, capsys):
    before = promote.project.tracked()
    with pytest.raises(SystemExit, match="1"):
        promote("tuen")
    assert "No study 'tuen' here (did you mean 'tune'?). There are: tune." in capsys.readouterr().err
    assert promote.project.tracked() == before


def test_a_trial_that_was_not_trained_to_its_end_is_refused_with_those_that_were(promote, capsys):
    before = promote.project.tracked()
    write_text(Path("studies/tune/10/params.yaml"), TRIAL)
    write_text(Path("studies/tune/confirmation/params.yaml"), TRIAL)
    with pytest.raises(SystemExit, match="1"):
        promote("tune", "5")
    told = "Error: TRIAL=5: tune has no such trial that was trained to its end. TRIAL may be one of: 1, 10; the best"
    assert told in capsys.readouterr().err
    assert promote.project.tracked() == before


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("final:  # nothing\n", "refit"),
        ("final: holdout\n", "holdout"),
        ("final: bag\n", "bag"),
        ("experiment: table\n", None),  # which has one of its own
    ],
)
def test_a_last_fit_that_the_search_was_told_of_remains(promote, said, kept):
    write_text(Path("studies/tune/1/params.yaml"), TRIAL + said)
    promote("tune")
    assert yaml.safe_load(Path("params.yaml").read_text()).get("final") == kept


def test_a_trial_by_its_number_is_read_from_its_experiment(clone):
    project = clone("fresh")
    before = (project.path / "params.yaml").read_text()
    of = snapshot(project.path)
    assert isinstance(of, Snapshot), of
    publish(project.path, of, "tune-0007", before.replace("lr: 0.01", "lr: 0.25"), "{}")
    assert "trial 7 of tune" in project.ok(*PROMOTE, "tune", "7").out
    assert (project.path / "params.yaml").read_text() == before.replace("lr: 0.01", "lr: 0.25").replace(
        "final:", "final: refit"
    )
    project.ok("git", "checkout", "--quiet", ".")
    for words, told in (
        (("tune", "8"), "No DVC experiment is called tune-0008"),
        (("tune", "best"), "name a study: make promote STUDY=NAME"),
        (("",), "name a study: make promote STUDY=NAME"),
        (("../tune",), "cannot name a study"),
    ):
        assert told in project.fails(*PROMOTE, *words)
    assert project.ok("git", "status", "--porcelain").out == ""


def test_make_help_tells_of_it(clone):
    assert re.search(r"make promote +write a study's best trial", clone.shared.ok("make", "help").out)


TABLE = "data: {name: table, path: houses.csv, target: price%s}\nmodel: %s\noptimizer: %s\nseed: 5\n"
ADAM = "{name: adamw, lr: 0.002}"
BEST = "experiment: table\n" + TABLE % ("", "{name: tabm, dropout: 0.1}", ADAM)
OTHERS = [
    TABLE % (", categories: target", "{name: lightgbm, num_leaves: 16}", ADAM),
    TABLE % ("", "{name: tabm, dropout: 0.3}", "{name: sgd, lr: 0.1}"),
]


def test_the_best_trials_become_the_portfolio_of_an_automl(promote):
    for number, text in ((1, BEST), (0, OTHERS[0]), (2, OTHERS[1])):
        write_text(Path(f"studies/tune/{number}/params.yaml"), text)
    assert promote("tune", "ensemble=3") == "params.yaml now has trials 1, 0, 2 of tune. Next: dvc repro\n"
    configuration = compose(params=yaml.safe_load(Path("params.yaml").read_text()))
    for entry, text in zip(expanded(configuration)["candidates"], (BEST, *OTHERS), strict=False):
        trial = compose(params=yaml.safe_load(text))
        candidate = {**configuration, **{group: entry.get(group, configuration[group]) for group in TRAINED}}
        assert {group: candidate[group] for group in TRAINED} == {group: trial[group] for group in TRAINED}
        assert {**configuration["data"], **entry["data"]} == trial["data"]
    assert len(expanded(configuration)["candidates"]) == 3


def test_trials_of_different_rows_are_no_ensemble(promote, capsys):
    before = Path("params.yaml").read_text()
    for number, text in ((1, BEST), (0, BEST.replace("target: price", "target: price, duplicates: drop"))):
        write_text(Path(f"studies/tune/{number}/params.yaml"), text)
    for words, told in ((["ensemble=2"], "is not the same in all of these trials"), (["ensemble=1"], "at least 2")):
        with pytest.raises(SystemExit, match="1"):
            promote("tune", *words)
        assert told in capsys.readouterr().err
    assert Path("params.yaml").read_text() == before
