"""Studies: taken up or refused; their trials claimed once each and no more than the budget; how they ended."""

import multiprocessing
import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from hypermap.core.errors import UserError
from hypermap.search import study as module
from hypermap.search.attempts import MOST_WITH_ALL
from hypermap.search.lease import place
from hypermap.search.space import Parameter, Space
from hypermap.search.strategy import make_sampler
from hypermap.search.study import (
    RECORD,
    RESULT,
    WORKER,
    StudyConfig,
    TrialQueue,
    best,
    completed,
    connect,
    failure,
    find,
    finished,
    open_study,
    outcome,
    reached,
    trial_seed,
    why_stop,
)
from support.studies import SQUARE, planned

fork = multiprocessing.get_context("fork")


def record(of: StudyConfig, **identity):
    return {
        "identity": {"direction": list(of.directions), "space": of.space.record(), **identity},
        "began": time.time(),
    }


@pytest.fixture
def begun(tmp_path) -> StudyConfig:
    made = planned(tmp_path)
    open_study(made, record(made), force=False)
    return made


def claims(of: StudyConfig) -> TrialQueue:
    return TrialQueue(of, connect(of), lambda number: make_sampler(of, number))


def claim_all(of: StudyConfig, folder) -> None:
    """What a worker does, without a task."""
    mine = claims(of)
    while True:
        with mine.deciding() as trials:
            claim = mine.left_behind(trials) or mine.next(trials)
            if claim is None:
                return
            of.space.suggest(claim.trial)
        (folder / f"{claim.trial.number}-{threading.get_ident()}-{time.time_ns()}").touch()
        mine.study.tell(claim.trial, 0.5)
        claim.lock.release()


# Claims.


@pytest.mark.parametrize("make", [fork.Process, threading.Thread])
def test_the_budget_is_met_exactly_and_each_trial_is_claimed_once(begun, tmp_path, make):
    (tmp_path / "claimed").mkdir()
    of = replace(begun, n_trials=25)
    workers = [make(target=claim_all, args=(of, tmp_path / "claimed")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    trials = connect(of).trials
    assert [trial.number for trial in trials] == list(range(25))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({(trial.params["x"], trial.params["y"]) for trial in trials}) == 25
    claimed = [int(path.name.partition("-")[0]) for path in (tmp_path / "claimed").iterdir()]
    assert sorted(claimed) == list(range(25))


def test_a_trial_that_runs_is_no_other_processs(begun):
    mine, theirs = claims(begun), claims(begun)
    with mine.deciding() as trials:
        claim = mine.next(trials)
    with theirs.deciding() as trials:
        assert theirs.left_behind(trials) is None
        assert theirs.next(trials).trial.number == 1
    claim.lock.release()  # as its process dies
    with theirs.deciding() as trials:
        assert theirs.left_behind(trials).trial.number == 0


def test_a_trial_that_was_told_after_the_reading_is_not_claimed_again(begun):
    mine, theirs = claims(begun), claims(begun)
    with mine.deciding() as trials:
        claim = mine.next(trials)
    stale = connect(begun).get_trials()  # it runs, as far as this says
    mine.study.tell(claim.trial, 1.0)
    claim.lock.release()
    assert stale[0].state == TrialState.RUNNING
    assert theirs.left_behind(stale) is None
    lock = theirs._lock(0)
    assert lock is not None, "its lock was not given back"


def test_what_was_drawn_is_kept_and_the_rest_comes_out_as_it_would(begun):
    first = claims(begun)
    with first.deciding() as trials:
        claim = first.next(trials)
        x = claim.trial.suggest_float("x", 0.0, 1.0)
    claim.lock.release()
    again = claims(begun)
    with again.deciding() as trials:
        claim = again.left_behind(trials)
    values = SQUARE.suggest(claim.trial)
    assert values["x"] == x
    twin = make_sampler(begun, 0)
    study = optuna.create_study(sampler=twin)
    assert SQUARE.suggest(study.ask()) == values


def test_the_budget_may_be_used_up(begun):
    one = replace(begun, n_trials=1)
    mine = claims(one)
    with mine.deciding() as trials:
        assert mine.next(trials) is not None
    with mine.deciding() as trials:
        assert mine.next(trials) is None
    assert len(connect(one).trials) == 1


# A database with a server: other machines see the study, and none of the locks here.


@pytest.fixture
def served(begun, monkeypatch, tmp_path) -> StudyConfig:
    monkeypatch.setattr(module, "file_of", lambda place: None)
    of = replace(begun, storage=f"sqlite:///{tmp_path}/served.db", lease=0.4)
    open_study(of, record(of), force=False)
    return of


def running(of: StudyConfig, worker: str | None) -> FrozenTrial:
    study = connect(of)
    trial = study.ask()
    if worker is not None:
        trial.set_user_attr(WORKER, f"{worker}:0")
    return study.trials[trial.number]


def left(queue: TrialQueue) -> int | None:
    with queue.deciding() as trials:
        claim = queue.left_behind(trials)
    return None if claim is None else claim.trial.number


def test_a_worker_here_is_told_by_its_lock(served):
    mine = claims(served)
    running(served, f"{mine.place}:12")
    assert left(mine) == 0
    with mine.deciding() as trials:
        claim = mine.next(trials)
    assert claim.trial.user_attrs[WORKER].startswith(f"{mine.place}:{os.getpid()}:")
    assert claim.lock.is_locked
    assert left(claims(served)) == 0  # whose lock went with the claim


@pytest.mark.parametrize("worker", ["elsewhere/1:12", "fe80::1/2:12", None])
def test_a_worker_elsewhere_is_gone_when_its_counter_stands_still_for_a_term(served, worker):
    running(served, worker)
    mine = claims(served)
    assert left(mine) is None
    assert mine.unclear()
    time.sleep(served.lease)
    assert left(mine) == 0
    assert connect(served).trials[0].user_attrs[WORKER].startswith(mine.place)


def test_a_worker_elsewhere_lives_while_its_counter_moves(served):
    running(served, "elsewhere/1:12")
    study = connect(served)
    study._storage.set_study_system_attr(study._study_id, "beat:elsewhere/1:12", 7)
    mine = claims(served)
    assert left(mine) is None
    study._storage.set_study_system_attr(study._study_id, "beat:elsewhere/1:12", 3)  # a new process of the same name
    assert not mine.unclear()
    time.sleep(served.lease)
    study._storage.set_study_system_attr(study._study_id, "beat:elsewhere/1:12", 4)
    assert left(mine) is None
    study._storage.set_study_system_attr(study._study_id, "beat:elsewhere/1:12", "")  # it says that it is going
    assert left(mine) == 0


def test_a_term_goes_on_only_while_the_database_answers(served):
    """Where it is away, no worker can raise its counter."""
    running(served, "elsewhere/1:12")
    mine = claims(served)
    assert left(mine) is None
    time.sleep(served.lease)
    mine.study._storage.answered_again = time.monotonic()
    assert left(mine) is None
    time.sleep(served.lease)
    assert left(mine) == 0


def test_a_worker_that_is_found_to_be_gone_a_moment_later_is_not_left(served):
    running(served, "elsewhere/1:12")
    mine = claims(served)
    assert left(mine) is None
    assert not mine.deserted_elsewhere()
    time.sleep(served.lease)
    assert not mine.unclear()
    assert mine.deserted_elsewhere()


def test_a_trial_that_loses_every_machine_fails(served):
    running(served, None)
    for lost in range(1, MOST_WITH_ALL):
        mine = claims(served)
        left(mine)
        time.sleep(served.lease)
        assert left(mine) == 0, lost
        connect(served)._storage.set_trial_user_attr(1, WORKER, f"elsewhere/{lost}:1:0")
    mine = claims(served)
    left(mine)
    time.sleep(served.lease)
    assert left(mine) is None
    (trial,) = connect(served).trials
    assert trial.user_attrs[RESULT]["error"] == "its machine was lost 10 times, without progress in between"


def test_two_clones_on_one_machine_are_two_places(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    assert place(one) == place(one) != place(other)
    assert place(one).rpartition("/")[0] == place(other).rpartition("/")[0]


def test_two_machines_that_ask_at_once_exceed_no_budget_and_draw_different_points(served):
    here = claims(served)
    seen = connect(served).get_trials()
    drawn = [SQUARE.suggest(here.next(seen).trial) for _ in range(5)]  # as if nobody saw what the others asked for
    assert here.next(seen) is None
    trials = connect(served).trials
    assert [trial.state for trial in trials] == [TrialState.RUNNING] * 5 + [TrialState.FAIL]
    assert len({values["x"] for values in drawn}) == 5
    assert finished(trials, served.n_trials) == []


# Taken up, or refused.


def test_a_study_is_taken_up_with_the_record_it_was_begun_with(tmp_path):
    of = planned(tmp_path)
    first = record(of)
    _, kept = open_study(of, first, force=False)
    assert kept == first
    study, kept = open_study(of, record(of), force=False)
    assert kept == first
    assert study.user_attrs[RECORD] == first


@pytest.mark.parametrize(
    ("changed", "identity", "told"),
    [
        ({}, {"configuration": {"a.b": 2, "c": 1}}, ["configuration: a.b was 1 and is 2"]),
        ({}, {"configuration": {"c": 1}}, ["configuration: a.b was 1 and is absent"]),
        (
            {"space": Space((Parameter("x", "x", "interval(0.0,9.0)", FloatDistribution(0.0, 9.0)),))},
            {},
            ["space: x was interval(0.0,1.0) and is interval(0.0,9.0)", "space: y was interval(0.0,1.0) and is absent"],
        ),
        ({"directions": ("maximize",)}, {}, ["direction was ['minimize'] and is ['maximize']"]),
    ],
)
def test_what_differs_is_told_with_two_ways_on(tmp_path, changed, identity, told):
    usual = {"configuration": {"a.b": 1, "c": 1}}
    of = planned(tmp_path)
    open_study(of, record(of, **usual), force=False)
    other = replace(of, **changed)
    with pytest.raises(UserError) as raised:
        open_study(other, record(other, **(usual | identity)), force=False)
    message = str(raised.value)
    for part in [*told, "The study study in", "hydra.sweeper.study_name=NAME", "hydra.sweeper.resume=force"]:
        assert part in message
    assert message.count(" was ") == len(told) + 1  # "was started …", and no more than what differs
    assert connect(of).user_attrs[RECORD]["identity"] == record(of, **usual)["identity"]


def test_many_differences_are_counted(tmp_path):
    of = planned(tmp_path)
    open_study(of, record(of, configuration={f"key{i}": 1 for i in range(20)}), force=False)
    with pytest.raises(UserError) as raised:
        open_study(of, record(of, configuration={f"key{i}": 2 for i in range(20)}), force=False)
    assert "key7 was 1 and is 2\n         and 12 more" in str(raised.value)
    assert "key8 " not in str(raised.value)


def test_force_makes_the_new_record_the_studys(tmp_path):
    of = planned(tmp_path)
    open_study(of, record(of, data="a"), force=False)
    other = record(of, data="b")
    _, kept = open_study(of, other, force=True)
    assert kept == other
    assert open_study(of, record(of, data="b"), force=False)[1] == other
    with pytest.raises(UserError, match="data was b and is a"):
        open_study(of, record(of, data="a"), force=False)


def test_no_force_changes_a_direction(tmp_path):
    of = planned(tmp_path)
    open_study(of, record(of), force=False)
    for directions in (("maximize",), ("minimize", "minimize")):
        other = replace(of, directions=directions)
        with pytest.raises(UserError, match="has the directions minimize, which no force can change"):
            open_study(other, record(other), force=True)


def test_a_study_that_optuna_made_is_taken_up_while_it_is_empty(tmp_path):
    of = planned(tmp_path)
    study = optuna.create_study(study_name="study", storage=module.open_storage(of.storage))
    mine = record(of)
    assert open_study(of, mine, force=False)[1] == mine
    study = optuna.create_study(study_name="other", storage=module.open_storage(of.storage))
    study.tell(study.ask(), 1.0)
    other = replace(of, name="other")
    with pytest.raises(UserError, match="it has trials of another program"):
        open_study(other, record(other), force=False)
    assert open_study(other, mine, force=True)[1] == mine


def test_a_study_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = planned(tmp_path / "studies/study")
    open_study(of, record(of), force=False)
    assert find("study")[1] == of.storage
    with pytest.raises(UserError, match=r"No study 'stdy' here \(did you mean 'study'\?\)\. There are: study\."):
        find("stdy")


# Ends.

NOW = datetime.now()


def told(number: int, how: str = "complete", value: float = 0.5, **changes) -> FrozenTrial:
    """A trial that ended, a second after the one before it."""
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
    state = states.get(how, TrialState.COMPLETE)
    result = {"outcome": how, **({"error": changes.pop("error", "it broke")} if how == "failed" else {})}
    bad = how in ("diverged", "out_of_memory")
    trial = create_trial(
        state=state,
        value=float("inf") if bad else value if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        user_attrs={} if how == "running" else {RESULT: result},
        **changes,
    )
    trial.number = number
    trial.datetime_complete = None if how == "running" else NOW + timedelta(seconds=number)
    return trial


def test_outcomes():
    hows = ["complete", "pruned", "diverged", "out_of_memory", "failed"]
    trials = [told(number, how) for number, how in enumerate(hows)]
    assert [outcome(trial) for trial in trials] == hows
    assert completed(trials) == trials[:1]
    running = told(9, "running")
    assert outcome(running) == "running"
    assert finished([*trials, running]) == trials
    never_trained = create_trial(state=TrialState.FAIL)
    never_trained.number = 5
    assert finished([*trials, never_trained], 5) == trials
    assert finished([*trials, never_trained], 2) == trials
    assert outcome(create_trial(value=1.0)) == "complete"  # as Optuna alone tells it
    assert outcome(create_trial(state=TrialState.FAIL)) == "failed"


def test_the_best_is_the_first_of_the_best_that_completed():
    trials = [told(0, value=0.5), told(1, value=0.2), told(2, value=0.2), told(3, "diverged"), told(4, "failed")]
    assert best(trials, maximizes=False).number == 1
    assert best(list(reversed(trials)), maximizes=False).number == 1
    assert best(trials, maximizes=True).number == 0
    assert best(trials[3:], maximizes=True) is None


def test_the_best_is_that_of_the_second_half_and_not_of_the_luckiest_epoch(tmp_path):
    steady = told(0, value=0.96, intermediate_values=dict(enumerate([0.5, 0.94, 0.95, 0.96], 1)))
    lucky = told(1, value=0.97, intermediate_values=dict(enumerate([0.5, 0.97, 0.91, 0.92], 1)))
    assert best([steady, lucky], maximizes=True).number == 0
    without_reports = told(2, value=0.986)  # as of a forest, beside 0.985 and 0.945
    assert best([steady, lucky, without_reports], maximizes=True).number == 2
    target = planned(tmp_path, target=0.97, directions=("maximize",))
    assert reached(target, [steady, lucky]).number == 1, "which is a matter of values"


def test_a_target(tmp_path):
    of = planned(tmp_path, target=0.2)
    assert reached(of, [told(0, value=0.21)]) is None
    assert reached(of, [told(0, value=0.2)]).number == 0
    assert "trial 0 reached the target: 0.2 (hydra.sweeper.target=0.2)" in why_stop(of, [told(0, value=0.2)], 0.0)
    upwards = replace(of, directions=("maximize",), target=0.9)
    assert why_stop(upwards, [told(0, value=0.89), told(1, "diverged")], 0.0) is None
    assert why_stop(upwards, [told(0, value=0.9)], 0.0) is not None
    assert why_stop(replace(of, directions=("minimize", "minimize")), [], 0.0) is None


def test_a_deadline(tmp_path):
    of = planned(tmp_path, deadline=100.0)
    assert why_stop(of, [], 99.9) is None
    assert why_stop(of, [], 100.0) == "the time is up (hydra.sweeper.timeout)"


@pytest.mark.parametrize(
    ("errors", "stops"),
    [
        (["a 1", "a 2", "a 3"], True),
        (["a 1", "a 2"], False),
        (["a 1", "b 2", "a 3"], False),
        (["a", "a", None, "a"], False),
        (["b", None, "a 1", "a 22", "a 333"], True),
        (["a", "a", "a", None], False),
    ],
)
def test_three_errors_of_a_kind_in_a_row(tmp_path, errors, stops):
    """Of a kind: the same but for numbers. In the order in which they ended, whatever their numbers are."""
    trials = [told(i, "failed", error=error) if error else told(i) for i, error in enumerate(errors)]
    for order in (trials, list(reversed(trials))):
        reason = failure(planned(tmp_path), order)
        assert (reason is not None) == stops
        if stops:
            assert reason == f"3 trials in a row failed with the same error: {errors[-1]}"


def test_errors_of_before_the_command_stop_nothing(tmp_path):
    trials = [told(i, "failed") for i in range(3)]
    assert failure(planned(tmp_path, began=NOW.timestamp() - 1), trials) is not None
    assert failure(planned(tmp_path, began=NOW.timestamp() + 1.5), trials) is None
    assert failure(planned(tmp_path, began=NOW.timestamp() + 1.5), [*trials, told(3, "failed")]) is None


def test_too_large_a_share_of_failures(tmp_path):
    trials = [told(0), told(1, "failed", error="a"), told(2), told(3, "failed", error="b"), told(4, "diverged")]
    assert failure(planned(tmp_path, max_failure_rate=0.4), trials) is None
    reason = failure(planned(tmp_path, max_failure_rate=0.3), trials)
    assert reason == "2 of 5 trials failed (hydra.sweeper.max_failure_rate=0.3): b"
    assert failure(planned(tmp_path, max_failure_rate=0.0), []) is None


def test_seeds_follow_from_what_they_are_for(tmp_path):
    seeds = [trial_seed(seed, "sampler", number) for seed in range(20) for number in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert abs(np.mean(seeds) / 2**31 - 1) < 0.03  # uniform
    assert trial_seed(1, "a", 2) == trial_seed(1, "a", 2) != trial_seed(1, "b", 2)
    assert planned(tmp_path).seed_of(3) == trial_seed(1, 3)
    assert planned(tmp_path).folder_of(3) == tmp_path / "3"


def test_a_choice_keeps_its_type(begun):
    """What a list of values gives a trial is what was written, after the storage too."""
    values = (1, 0.5, "adam", "1", None)
    space = Space((Parameter("x", "x", "…", CategoricalDistribution(values)),))
    of = replace(begun, space=space, n_trials=20, storage=f"{begun.folder}/other.log")
    open_study(of, record(of), force=False)
    mine = claims(of)
    for _ in range(20):
        with mine.deciding() as trials:
            claim = mine.next(trials)
            drawn = space.suggest(claim.trial)["x"]
        mine.study.tell(claim.trial, 1.0)
        kept = connect(of).trials[claim.trial.number].params["x"]
        assert (kept, type(kept)) == (drawn, type(drawn))


@pytest.mark.parametrize("kind", ["{}/journal.log", "sqlite:///{}/study.db"])
def test_a_study_that_is_deleted_while_it_runs_is_told_and_not_made_again(tmp_path, kind):
    made = planned(tmp_path / "study", storage=kind.format(tmp_path / "study"))
    made.folder.mkdir()
    open_study(made, record(made), force=False)
    module.connect(made)
    shutil.rmtree(made.folder)
    with pytest.raises(UserError, match=r"The study study is gone: .* was deleted or moved while the search ran"):
        module.connect(made)
    assert not made.folder.exists()


def test_a_name_whose_study_is_gone_is_told_and_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = planned(tmp_path / "studies/study")
    open_study(made, record(made), force=False)
    (made.folder / "journal.log").unlink()
    with pytest.raises(UserError, match=r"study study is in .*journal\.log, which is gone"):
        module.find("study")
    assert not (made.folder / "journal.log").exists()
