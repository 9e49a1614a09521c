"""What a person who watches a sweep reads, at the start, meanwhile and at the end."""

import io
import re
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hypermap.search import progress as module
from hypermap.search.progress import format_value, heading, line, status, summary, watching
from hypermap.search.schedule import SIZE
from hypermap.search.space import Condition, Parameter, Space
from hypermap.search.study import RESULT, StudyConfig, connect, open_study

RATE = Parameter(
    "optimizer.lr", "optimizer.lr", "tag(log,interval(1e-5,1e-1))", FloatDistribution(1e-5, 1e-1, log=True)
)
MOMENTUM = Parameter(
    "optimizer.sgd.momentum",
    "optimizer.momentum",
    "interval(0.0,0.99)",
    FloatDistribution(0.0, 0.99),
    conditions=(Condition("optimizer", ("sgd", "rmsprop")),),
)
HIDDEN = Parameter("model.hidden", "model.hidden", "[64],[64,64]", CategoricalDistribution(("[64]", "[64,64]")))
SPACE = Space((RATE, MOMENTUM, HIDDEN))
NOW = datetime.now()


@pytest.fixture
def plan(tmp_path, monkeypatch) -> StudyConfig:
    monkeypatch.chdir(tmp_path)
    return StudyConfig(
        name="quick",
        storage=str(tmp_path / "studies/quick/journal.log"),
        folder=tmp_path / "studies/quick",
        space=SPACE,
        directions=("maximize",),
        objectives=("accuracy",),
        sampler={"_target_": "hypermap.search.auto.Auto"},
        pruner={"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": None},
        n_trials=40,
        seed=3,
        began=NOW.timestamp(),
        horizon=30,
    )


def trial(
    number: int, how: str = "complete", value: float = 0.9, steps: int = 30, error: str = "it broke"
) -> FrozenTrial:
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
    state = states.get(how, TrialState.COMPLETE)
    bad = how in ("diverged", "out_of_memory")
    made = create_trial(
        state=state,
        value=float("-inf") if bad else value if state == TrialState.COMPLETE else None,
        params={"optimizer.lr": 0.0123456, "optimizer.sgd.momentum": 0.95, "model.hidden": "[64,64]"},
        distributions={parameter.name: parameter.distribution for parameter in SPACE.parameters},
        intermediate_values=dict.fromkeys(range(1, steps + 1), value),
        user_attrs={RESULT: {"outcome": how, **({"error": error} if how in ("failed", "diverged") else {})}},
    )
    made.number = number
    if how != "running":
        made.datetime_complete = NOW + timedelta(seconds=number)
    return made


TWELVE = [
    *(trial(number, value=0.95 + number / 1000) for number in range(7)),
    *(trial(number, "pruned", 0.8, steps=3) for number in range(7, 11)),
    trial(11, "failed"),
]


def begun(plan: StudyConfig, *trials: FrozenTrial) -> optuna.Study:
    study, _ = open_study(plan, {"identity": {}}, force=False)
    study.add_trials(trials)
    return study


# At the start.


def test_the_heading(plan):
    assert heading(plan, begun(plan)).splitlines() == [
        "Study quick: 40 trials; maximize accuracy; seed 3",
        "  search  auto: first space-filling points, then a model, neighbours of the best and TPE as well",
        "  pruner  HyperbandPruner(min_resource=1)",
        "  optimizer.lr            tag(log,interval(1e-5,1e-1))",
        "  model.hidden            [64],[64,64]",
        "  optimizer.sgd.momentum  interval(0.0,0.99)  where optimizer is sgd or rmsprop",
        "  trials  studies/quick/   study  studies/quick/journal.log",
    ]


def test_the_heading_says_how_many_trials_run_as_one(plan):
    study = begun(plan)
    told = heading(replace(plan, stack=16), study).splitlines()
    assert told[3] == "  stack   up to 16 trials as one"
    assert told[:3] + told[4:] == heading(plan, study).splitlines()


def test_the_heading_says_what_is_there_already(plan):
    study = begun(plan, trial(0), trial(1, "pruned"), trial(2, "running"))
    assert heading(plan, study).splitlines()[-1] == "  2 trials finished and 1 begun; going on."
    study.tell(2, 0.9)
    assert heading(replace(plan, n_trials=3), study).splitlines()[-1] == "  All 3 trials are finished."


def test_a_study_of_one_trial(plan):
    one = replace(plan, n_trials=1)
    study = begun(one)
    assert heading(one, study).startswith("Study quick: 1 trial; ")
    study.add_trial(trial(0))
    assert heading(one, study).splitlines()[-1] == "  Its trial is finished."
    assert summary(one, [trial(0)], None).startswith("1 of 1 trial: 1 complete.")


def test_several_objectives_are_named_with_their_directions(plan):
    plan = replace(plan, objectives=("accuracy", "parameters"), directions=("maximize", "minimize"))
    assert "; maximize accuracy, minimize parameters; " in heading(plan, begun(plan))
    plan = replace(plan, name="unnamed", objectives=())
    assert "; maximize objective, minimize objective; " in heading(plan, begun(plan))


def test_a_place_elsewhere_is_told_in_full_and_its_password_is_not(plan):
    place = "postgresql://me:secret@host/db"
    told = heading(replace(plan, storage=place), begun(plan))
    assert "study  postgresql://me:***@host/db" in told


# Meanwhile, on a terminal.


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], "starting the workers"),
        ([trial(0, "running")], "0/40 done, 1 running"),
        ([trial(0)], "1/40 done | best 0.9000 | 39:00 left"),
        (TWELVE, "12/40 done, 4 pruned, 1 failed | best 0.9560 | 2:20 left | pruning saved 33%"),
        ([trial(0, "diverged"), trial(1, "out_of_memory")], "2/40 done, 1 diverged, 1 out of memory | 19:00 left"),
        ([trial(number) for number in range(41)], "40/40 done | best 0.9000"),
    ],
)
def test_the_line_that_changes(plan, trials, told):
    assert status(plan, trials, 0, plan.began + 60) == told


def test_the_usual_line_fits_a_terminal_of_80_columns(plan):
    usual = [*TWELVE[:11], trial(11, "running"), trial(12, "running")]
    told = status(plan, usual, 0, plan.began + 60)
    assert told == "11/40 done, 4 pruned, 2 running | best 0.9560 | 2:38 left | pruning saved 33%"
    assert len(told) < 80


def test_what_pruning_saved_is_a_share_of_what_all_would_have_taken(plan):
    """Four trials of 30 epochs each stopped after 3: 108 of the 330 epochs of eleven."""
    assert f"saved {108 / 330:.0%}" in status(plan, TWELVE[:11], 0, 0.0)
    assert "saved" not in status(replace(plan, horizon=None), TWELVE, 0, 0.0)
    shorter = trial(11, "pruned", 0.8, steps=3)
    shorter.user_attrs[SIZE] = {"steps": 10, "trainings": 1 / 3}
    assert f"saved {115 / 340:.0%}" in status(plan, [*TWELVE[:11], shorter], 0, 0.0)
    assert "saved" not in status(plan, TWELVE[:7], 0, 0.0)


def test_the_time_left_is_of_this_commands_own_trials_and_ends_at_its_timeout(plan):
    assert "| 4:40 left" in status(plan, TWELVE, 6 / 40, plan.began + 60)
    assert "left" not in status(plan, TWELVE, 12 / 40, plan.began + 60)
    limited = replace(plan, deadline=plan.began + 90)
    assert "| 0:30 left" in status(limited, TWELVE, 6 / 40, plan.began + 60)
    assert "| 0:00 left" in status(limited, TWELVE, 6 / 40, plan.began + 95)


def test_several_objectives_have_no_best(plan):
    plan = replace(plan, directions=("maximize", "minimize"), objectives=("accuracy", "parameters"))
    both = create_trial(values=[0.9, 12345.0], user_attrs={RESULT: {"outcome": "complete"}})
    assert "best" not in status(plan, [both], 0, plan.began)
    assert line(plan, [both], both) == "[ 1/40] trial -1: accuracy 0.9000, parameters 12345  "


# Meanwhile, where the output is no terminal.

VALUES = "optimizer.lr=0.01235 optimizer.momentum=0.95 model.hidden=[64,64]"


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (trial(12, value=0.99), "accuracy 0.9900  (best so far)"),
        (trial(12, value=0.91), "accuracy 0.9100"),
        (trial(12, value=1e-7), "accuracy 1e-07"),
        (trial(12, "pruned", 0.8123, steps=3), "pruned at 3 with 0.8123"),
        (trial(12, "pruned", steps=0), "pruned"),
        (trial(12, "failed", error="ValueError: broken\nand more"), "failed: ValueError: broken"),
        (trial(12, "failed", error="x" * 500), "failed: " + "x" * 120),
        (trial(12, "diverged", error="the loss is nan"), "diverged: the loss is nan"),
        (trial(12, "out_of_memory"), "out of memory"),
    ],
)
def test_a_line_for_each_trial(plan, ended, told):
    assert line(plan, [*TWELVE, ended], ended) == f"[13/40] trial 12: {told}  {VALUES}"


# At the end.


def test_the_best_is_that_of_all_trials_though_fewer_were_asked_for(plan):
    """As the report has it, which knows nothing of what a command asks for."""
    trials = [trial(0, value=0.5), trial(1, value=0.6), trial(2, value=0.9)]
    assert "3 trials: 3 complete." in summary(replace(plan, n_trials=2), trials, None)
    assert "Best: trial 2, accuracy 0.9000" in summary(replace(plan, n_trials=2), trials, None)


def test_the_summary(plan):
    (plan.folder / "6").mkdir(parents=True)
    (plan.folder / "6/params.yaml").touch()
    ended = [*TWELVE, *(trial(number, value=0.9) for number in range(12, 41))]
    assert summary(plan, ended, None).splitlines() == [
        "41 trials: 36 complete, 4 pruned, 1 failed; pruning saved 9% of all epochs.",
        f"Best: trial 6, accuracy 0.9560: {VALUES}",
        "Use it: make promote STUDY=quick, then dvc repro",
        "Results: studies/quick/",
    ]


def test_the_summary_names_the_trial_of_the_luckiest_epoch_where_that_is_not_the_best(plan):
    lucky = trial(1, value=0.97)
    lucky.intermediate_values = {1: 0.97, 2: 0.90, 3: 0.91, 4: 0.92}
    said = summary(plan, [trial(0, value=0.96), lucky], None).splitlines()
    assert said[1].startswith("Best: trial 0, accuracy 0.9600: ")
    assert said[2] == (
        "(Trial 1 has a better kept epoch, 0.9700, but is behind over the second half of its epochs, by which trials "
        "are judged.)"
    )


def test_the_summary_of_a_task_that_is_not_hypermaps_own(plan):
    told = summary(replace(plan, objectives=(), horizon=None), [trial(0)], None)
    assert "Best: trial 0, objective 0.9000" in told
    assert "promote" not in told


def test_the_summary_of_what_was_stopped(plan):
    told = summary(plan, TWELVE, "the time is up (hydra.sweeper.timeout)")
    assert told.startswith(
        "12 of 40 trials: 7 complete, 4 pruned, 1 failed; pruning saved 33% of all epochs. Stopped: "
    )
    assert "Stopped: the time is up (hydra.sweeper.timeout). Run the same command to resume.\n" in told
    told = summary(replace(plan, target=0.95), TWELVE, "trial 6 reached the target")
    assert "Stopped: trial 6 reached the target.\n" in told  # the same command would not go on


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], "0 of 40 trials: none finished."),
        ([trial(0, "running")], "0 of 40 trials: none finished."),
        ([trial(0, "pruned", steps=15)], "1 of 40 trials: 1 pruned; pruning saved 50% of all epochs."),
        ([trial(0, "diverged"), trial(1, "out_of_memory")], "2 of 40 trials: 1 diverged, 1 out of memory."),
    ],
)
def test_the_summary_where_nothing_was_trained_to_its_end(plan, trials, told):
    assert summary(plan, trials, None) == f"{told}\nNo trial was trained to its end."


def test_the_summary_of_several_objectives_says_where_the_front_is(plan):
    plan = replace(plan, directions=("maximize", "minimize"), objectives=("accuracy", "parameters"))
    both = create_trial(values=[0.9, 12345.0])
    assert summary(plan, [both], None).endswith("Results: studies/quick/optimization_results.yaml")


# All of it, as it is printed.


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(plan, monkeypatch, live):
    """What is printed while three trials end one after the other; one had ended before."""
    monkeypatch.setattr(module, "EVERY_S", 0.02)
    monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: module.shutil.os.terminal_size((80, 24)))
    out, err = (Terminal() if live else io.StringIO() for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    begun(plan, trial(0, value=0.5))
    study = connect(plan)
    with watching(plan):
        time.sleep(0.1)
        for later in (trial(1, value=0.9), trial(2, "pruned", 0.8, 3), trial(3, "failed")):
            study.add_trial(later)
            time.sleep(0.1)
        study.add_trial(trial(4, value=0.95))  # the last, just before the workers end
    return out.getvalue(), err.getvalue()


def test_without_a_terminal_each_trial_is_a_line(plan, monkeypatch):
    out, err = watch(plan, monkeypatch, live=False)
    assert out.splitlines() == [
        f"[ 2/40] trial 1: accuracy 0.9000  (best so far)  {VALUES}",
        f"[ 3/40] trial 2: pruned at 3 with 0.8000  {VALUES}",
        f"[ 4/40] trial 3: failed: it broke  {VALUES}",
        f"[ 5/40] trial 4: accuracy 0.9500  (best so far)  {VALUES}",
    ]
    assert err == ""


def test_on_a_terminal_a_line_changes_and_what_is_remarkable_stays_above_it(plan, monkeypatch):
    out, err = watch(plan, monkeypatch, live=True)
    assert out == ""
    assert err.endswith("\n")
    stays = [part.split("\r\033[K")[-1] for part in err.removesuffix("\n").split("\n")]
    assert stays[:-1] == [
        f"[ 2/40] trial 1: accuracy 0.9000  (best so far)  {VALUES}",
        f"[ 4/40] trial 3: failed: it broke  {VALUES}",
        f"[ 5/40] trial 4: accuracy 0.9500  (best so far)  {VALUES}",
    ]
    assert stays[-1].startswith("5/40 done, 1 pruned, 1 failed | best 0.9500 | ")
    passing = re.findall(r"\r\033\[K([^\r\n]*)(?=\r)", err)
    assert passing[0] == "1/40 done | best 0.5000"
    assert all(len(text) < 80 for text in passing)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.97569, "0.9757"), (1.0, "1.0000"), (12.5, "12.5000"), (2410.0, "2410"), (0.0, "0.0000"), (2e-05, "2e-05"),
     (123456.7, "1.235e+05"), (1e300, "1e+300"), (float("inf"), "inf")],
)  # fmt: skip
def test_a_value_has_the_digits_that_say_something(value, told):
    assert format_value(value) == told
