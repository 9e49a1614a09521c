"""Optuna's tables in few statements: the same trials as Optuna's own storage writes and reads."""

import math

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from hypermap.search import tables
from hypermap.search.tables import Tables
from support.postgres import postgres, why_not


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.skipif(why_not() is not None, reason=why_not() or "")),
    ]
)
def place(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        with postgres() as url:
            yield url


def opened(storage, directions=1):
    return optuna.create_study(
        storage=storage, study_name="s", directions=["minimize"] * directions, load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(0),
    )  # fmt: skip


def fill(study, trials=6):
    several = len(study.directions) > 1
    study.enqueue_trial({"x": 0.25}, {"why": "asked"})
    for number in range(trials):
        trial = study.ask()
        x = trial.suggest_float("x", 1e-3, 1, log=True)
        trial.suggest_categorical("kind", [None, "a", 2])
        trial.suggest_int("n", 1, 9)
        trial.set_user_attr("nested", {"a": [1, 2.5, None]})
        if not several:
            for step, value in enumerate((x, math.inf, -math.inf, math.nan)):
                trial.report(value, step)
        if number == 4:
            study.tell(trial, state=TrialState.FAIL)
        elif number != 5:
            study.tell(trial, [x, -math.inf] if several else math.inf if number == 3 else x)


def told(trial):
    return {key: repr(ordered(value)) for key, value in vars(trial).items()}


def ordered(value):
    return sorted(value.items()) if isinstance(value, dict) else value  # a database has its own order


@pytest.mark.parametrize("directions", [1, 2])
def test_the_trials_are_those_of_optunas_own_storage(place, directions):
    study = opened(Tables(place), directions)
    assert study.trials == []
    other = opened(Tables(place), directions)
    assert other.trials == []
    fill(study)
    own, quiet = opened(RDBStorage(place), directions), opened(optuna.storages.InMemoryStorage(), directions)
    fill(quiet)
    for trials in (study.trials, other.trials):
        assert [told(trial) for trial in trials] == [told(trial) for trial in own.trials]
    for mine, without in zip(own.trials, quiet.trials, strict=True):
        for name in ("number", "state", "values", "params", "distributions", "intermediate_values", "user_attrs"):
            assert repr(ordered(getattr(mine, name))) == repr(ordered(getattr(without, name))), name
        assert mine.datetime_start is not None
        assert mine.datetime_start <= (mine.datetime_complete or mine.datetime_start)


def test_what_changed_is_read_and_in_several_parts(place, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK", 4)
    study, other = opened(Tables(place)), opened(RDBStorage(place))
    running, first = study.ask(), study.ask()
    study.tell(first, 1.0)
    assert len(study.trials) == 2
    other.add_trials([optuna.create_trial(value=float(k)) for k in range(6)])
    running.report(0.5, 1)
    assert [trial.number for trial in study.trials] == list(range(8))
    assert study.trials[0].intermediate_values == {1: 0.5}


def test_a_finished_trial_stays_as_it_is(place):
    study = opened(Tables(place))
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(KeyError):
        study._storage.set_trial_state_values(trial._trial_id + 1, TrialState.FAIL)
    with pytest.raises(KeyError):
        Tables(place).create_new_trial(study._study_id + 1)
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_studys_attributes_are_those_of_optunas_own_storage(place):
    study, own = Tables(place), RDBStorage(place)
    study_id = opened(own)._study_id
    assert study.get_study_system_attrs(study_id) == {}
    for value in (1, {"a": [2]}):
        study.set_study_system_attr(study_id, "counter", value)
        assert study.get_study_system_attrs(study_id) == own.get_study_system_attrs(study_id) == {"counter": value}
    with pytest.raises(KeyError):
        study.get_study_system_attrs(study_id + 1)
    with pytest.raises(KeyError):
        study.set_study_system_attr(study_id + 1, "counter", 1)
