"""A sweep with a mistake is refused with one message, before any trial starts: what was given, what to change."""

import itertools
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from ruamel.yaml import YAML

from hypermap.config import compose as module
from hypermap.config.compose import compose
from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.data.manifest import Manifest
from hypermap.sweeps.training_target import TrainingTarget

# Told once by the module that asks for it; pytest resets the filters for each test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
TRAIN = ("python", "src/train.py", "-m")
LR = "optimizer.lr=interval(0.01,0.1)"
PLAIN = ("hydra/sweeper/sampler=tpe", "hydra/sweeper/pruner=none")

# The list, as commands. Nothing is left of a sweep that is refused but, at most, an empty folder.


def untouched(project):
    assert not list(project.path.glob("studies/*/[0-9]*"))
    assert not list(project.path.glob("multirun"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["optimizer.lrr=0.1,0.2"], ["optimizer=adam has no key 'lrr' (did you mean 'lr'?)", "It has: lr, betas"]),
        (["optimizer.lrr=interval(0.1,0.2)"], ["optimizer.lrr", "no such key (did you mean 'lr'?)", "has: lr, betas"]),
        (["optimizer.lr=interval(0.2,0.1)"], ["optimizer.lr: interval(0.2, 0.1) is empty; write the lower"]),
        (["trainer.batch_size=range(8,4)"], ["trainer.batch_size=range(8,4)", "at least one value"]),
        (
            ["optimizer.lr=tag(log,interval(0,0.1))"],
            ["a logarithmic interval starts above 0, and this one at 0", "such as 1e-05", "interval(0, 0.1)"],
        ),
        (
            [LR, "hydra/sweeper/sampler=grid"],
            ["optimizer.lr: a grid needs values, not an interval", "write optimizer.lr=0.01,0.1 or", "range(0.01,"],
        ),
        ([LR, "hydra/sweeper/sampler=tpee"], ["hydra/sweeper/sampler", "'tpee' (did you mean 'tpe'", "random_grid"]),
        (
            [LR, "hydra.sweeper.storage=sqlite:////proc/nowhere/study.db"],
            ["sqlite:////proc/nowhere/study.db cannot be opened", "No such file or directory", "a journal file"],
        ),
    ],
)  # fmt: skip
def test_one_message_and_no_trial(clone, words, parts):
    told = clone.shared.fails(*TRAIN, *words)
    for part in parts:
        assert part in told
    assert len(told.splitlines()) <= 3
    untouched(clone.shared)


def test_a_study_of_another_shape_is_refused_and_unharmed(clone):
    project = clone()
    words = (*TRAIN, *PLAIN, "hydra.sweeper.study_name=mine", "hydra.sweeper.n_trials=1")
    project.ok(*words, LR)
    before, journal = project.content("studies/mine/0", "studies/mine/.conf"), project.path / "studies/mine/journal.log"
    kept = journal.read_bytes()
    told = project.fails(*words, "optimizer.lr=interval(0.01,0.2)", "model.hidden=[17]", "hydra.sweeper.n_trials=9")
    assert "The study mine in" in told
    assert "space: optimizer.lr was interval(0.01,0.1) and is interval(0.01,0.2)" in told
    assert "configuration: model.hidden was [16] and is [17]" in told
    assert "hydra.sweeper.study_name=NAME" in told
    assert "hydra.sweeper.resume=force" in told
    assert project.content("studies/mine/0", "studies/mine/.conf") == before
    assert journal.read_bytes().startswith(kept)
    project.ok(*words, LR)


def test_a_file_that_is_no_study_is_left_as_it_is(clone):
    project = clone()
    before = project.content("README.md", "params.yaml")
    for storage in ("README.md", "sqlite:///README.md"):
        told = project.fails(*TRAIN, LR, *PLAIN, f"hydra.sweeper.storage={storage}")
        assert "README.md" in told
        assert project.content("README.md", "params.yaml") == before
    untouched(project)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"optimizer": {"adam": {"lrr": "interval(0.1,0.2)"}}}, ["optimizer.lrr", "(did you mean 'lr'?)"]),
        ({"model": {"mlp": {"dropout": "interval(0.0,1.5)"}}}, ["model.dropout is 1.5; it must be"]),
    ],
)  # fmt: skip
def test_a_space_file_of_ones_own_with_a_mistake(clone, content, parts):
    project = clone()
    with (project.path / "conf/space/mine.yaml").open("w") as file:
        YAML().dump(content, file)
    told = project.fails(*TRAIN, "+space=mine")
    for part in parts:
        assert part in told
    untouched(project)


# The rest in this process: the program's own application, with a task that must never be called.


SOUND = {}


def compose_once(words, params):
    """Check the configuration that most of these sweeps begin with once for all of them: their params.yaml is one."""
    if tuple(words) not in SOUND:
        SOUND[tuple(words)] = compose(words, params)
    return SOUND[tuple(words)]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Gives the message with which a sweep of Hypermap's application is refused."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / "manifest.json").write_bytes(
        Manifest(task="classification", classes=(), shape=(), rows={"train": 100}).content()
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(module, "compose", compose_once)

    def refused(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words])
        GlobalHydra.instance().clear()
        ran = []
        with pytest.raises(UserError) as raised:
            module.application(
                lambda configuration, folder: ran.append(folder),
                lambda base: TrainingTarget(lambda configuration: prepared, base),
            )
        assert not ran
        assert not list(tmp_path.glob("studies/*/[0-9]*"))
        assert not list(tmp_path.glob("studies/*/journal.log"))
        told = str(raised.value)
        assert len(told) < 700
        return told

    return refused


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        # The space.
        (["model.dropout=interval(0,2)"], ["model.dropout is 2.0; it must be a number at least 0 and below 1"]),
        (["optimizer.lr=interval(-1,0.1)"], ["optimizer.lr is -1.0; it must be a number above 0"]),
        (["optimizer.lr=0.1,abc"], ["optimizer.lr is 'abc'; it must be a number above 0"]),
        (["optimizer.lr=0.1,-1"], ["optimizer.lr is -1; it must be a number above 0"]),
        (["trainer.batch_size=interval(16,256)"], ["batch_size is 16.0", "whole number", "int(interval(16,256))"]),
        (["optimizer.lr=tag(lg,interval(0.01,0.1))"], ["no mapping 'lg' (did you mean 'log'?)", "one_minus_log, pow2"]),
        (["optimizer.lr=tag(log,sqrt,interval(0.01,0.1))"], ["log and sqrt are two mappings; give one"]),
        (["model.dropout=tag(logit,interval(0,0.5))"], ["logit needs low above 0 and high below 1; given 0.0 and 0.5"]),
        (["trainer.batch_size=tag(pow2,interval(20,30))"], ["no power of two lies from 20 to 30"]),
        (["optimizer.lr=tag(nosuch.Thing,interval(0.01,0.1))"], ["optimizer.lr", "nosuch.Thing", "no such module"]),
        (["optimizer=adam,sgd", "optimizer.alpha=0.1,0.2"], ["'alpha'", "has"]),
        (["optimizer=adam,sgd", "optimizer.alpha=interval(0.1,0.2)"], ["none of the choices adam, sgd has a key"]),
        (["optimizer=adam,sdg"], ["optimizer has no option 'sdg' (did you mean 'sgd'?)"]),
        (
            ["optimizer=adam,sgd", "optimizer.momentum=0.1,0.2", "hydra/sweeper/sampler=grid"],
            ["A grid has no place for parameters that only some choices have: optimizer.momentum", "sampler=random"],
        ),
        # The strategy.
        (
            [LR, "hydra/sweeper/pruner=median", "hydra.sweeper.objective=[accuracy,parameters]"],
            ["several objectives", "take hydra/sweeper/pruner=none"],
        ),
        (
            [LR, "hydra/sweeper/pruner=percentile", "hydra.sweeper.pruner.percentile=200"],
            ["PercentilePruner refuses its settings", "between 0 and 100", "200"],
        ),
        ([LR, "hydra/sweeper/pruner=threshold"], ["ThresholdPruner refuses", "lower or upper must be specified"]),
        ([LR, "hydra.sweeper.pruner=median"], ["a sampler or a pruner is a mapping with a _target_", "'median'"]),
        ([LR, "hydra/sweeper/pruner=medain"], ["hydra/sweeper/pruner", "'medain' (did you mean 'median'?)", "patient"]),
        # The objective.
        ([LR, "hydra.sweeper.objective=acuracy"], ["hydra.sweeper.objective", "'acuracy' (did you mean 'accuracy'?)"]),
        ([LR, "hydra.sweeper.objective=r2"], ["hydra.sweeper.objective", "r2", "accuracy, balanced_accuracy"]),
        ([LR, "hydra.sweeper.direction=minimize"], ["direction is minimize", "accuracy maximize", "Leave it out"]),
        ([LR, "hydra.sweeper.direction=min"], ["hydra.sweeper.direction is 'min'; it is minimize or maximize"]),
        ([LR, "hydra.sweeper.direction=[maximize,minimize]"], ["direction is maximize, minimize", "accuracy maximize"]),
        # The budget.
        ([LR, "hydra.sweeper.n_trials=0"], ["n_trials is 0; it must be a whole number of at least 1"]),
        ([LR, "hydra.sweeper.n_trials=many"], ["hydra.sweeper.n_trials=many", "could not be converted to Integer"]),
        ([LR, "hydra.sweeper.budget=0"], ["budget is 0.0; it must be a number of at least 0.01"]),
        ([LR, "hydra.sweeper.budget=-1"], ["budget is -1.0; it must be a number of at least 0.01"]),
        ([LR, "hydra.sweeper.budget=nan"], ["budget is nan; it must be a number of at least 0.01"]),
        ([LR, "hydra.sweeper.budget=abc"], ["hydra.sweeper.budget=abc", "could not be converted to Float"]),
        ([LR, "hydra.sweeper.prior=nosuch"], ["No study 'nosuch' here", "makes one"]),
        (
            [LR, "hydra.sweeper.prior=mine", "hydra.sweeper.study_name=mine"],
            ["prior names mine, which is this study itself. Name another"],
        ),
        ([LR, "hydra.sweeper.prior=[nosuch.csv]"], ["prior=nosuch.csv cannot be read", "a study's name, a report's"]),
        ([LR, "hydra.sweeper.prior=params.json"], ["prior=params.json cannot be read", "a JSON list of"]),
        ([LR, "hydra.sweeper.n_jobs=0"], ["n_jobs is 0; it must be a whole number of at least 1"]),
        ([LR, "hydra.sweeper.stack=0"], ["stack is 0; it must be a whole number of at least 1, or auto"]),
        ([LR, "hydra.sweeper.stack=all"], ["stack is 'all'; it must be a whole number of at least 1, or auto"]),
        ([LR, "hydra.sweeper.timeout=-1"], ["timeout is -1.0; it must be a number of at least 0"]),
        ([LR, "hydra.sweeper.max_failure_rate=2"], ["max_failure_rate is 2.0; it must be", "at least 0 and at most 1"]),
        ([LR, "hydra.sweeper.resume=yes"], ["resume is 'yes'; it is auto, or force"]),
        # The study.
        ([LR, "hydra.sweeper.study_name=a/b"], ["'a/b' cannot name a study", "Letters, digits"]),
        ([LR, "hydra.sweeper.storage=/proc/nowhere/journal.log"], ["/proc/nowhere/journal.log cannot be opened"]),
        ([LR, "hydra.sweeper.storage=redis://localhost"], ["redis://localhost cannot be opened", "sqlite:///PATH"]),
        ([LR, "hydra.sweeper.storage=sqlite://"], ["sqlite:// is in memory and would be lost", "sqlite:///PATH"]),
        # Settings and files.
        ([LR, "hydra.sweeper.n_trial=3"], ["No key 'hydra.sweeper.n_trial' (did you mean 'hydra.sweeper.n_trials'"]),
        ([LR, "+hydra.sweeper.n_trial=3"], ["hydra.sweeper has no 'n_trial' (did you mean 'n_trials'?)"]),
        (["+sweep=quik"], ["sweep has no option 'quik' (did you mean 'quick'?)"]),
        (["+space=nosuch"], ["space has no option 'nosuch'. There are: default."]),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_made(sweep, words, parts):
    chosen = [word for word in PLAIN if not any(w.startswith(word.split("=")[0]) for w in words)]
    told = sweep(*words, *chosen)
    for part in parts:
        assert part in told


def test_a_search_needs_a_flag(sweep, monkeypatch):
    for words in (["+space=default"], ["+sweep=quick"], [LR]):
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        with pytest.raises(UserError, match=r"add -m"):
            module.application(lambda *_: None, lambda _: None)


def test_a_password_is_not_told(sweep):
    told = sweep(LR, *PLAIN, "hydra.sweeper.storage=postgresql://me:secret@localhost:1/db")
    assert "postgresql" in told
    assert "secret" not in told


def test_every_case_is_a_different_mistake():
    marks = test_mistakes_are_told_before_anything_is_made.pytestmark
    cases = [words for words, _ in marks[0].args[1]]
    assert all(a != b for a, b in itertools.combinations(cases, 2))
