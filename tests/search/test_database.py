"""A database as a study's storage: lost connections, buffered writes, mutexes, a proxy."""

import random
import socket
import threading
import time
from contextlib import nullcontext

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage, get_storage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from hypermap.core.errors import MachineFault, UserError
from hypermap.search import database as module
from hypermap.search.database import Database
from hypermap.search.serve import Mutexes, make_server
from hypermap.search.storage import batching, is_served, open_storage
from hypermap.search.tables import Tables
from support.postgres import postgres, server, why_not


class Flaky:
    """A storage whose connection is lost in some of the calls, before or after they took effect."""

    def __init__(self, inner, share, seed=0):
        self.inner = inner
        self.share = share
        self.random = random.Random(seed)
        self.lost = 0

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*args, **kwargs):
            drawn = self.random.random()
            if drawn < self.share / 2:
                self.lose()
            result = found(*args, **kwargs)
            if drawn > 1 - self.share / 2:
                self.lose()
            return result

        return call

    def lose(self):
        self.lost += 1
        raise OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))


@pytest.fixture
def place(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


def served(place, share=0.0):
    return Database(Flaky(get_storage(Tables(place)), share), place, lambda name: nullcontext(), patience_s=60)


def search(study, trials=12):
    for number in range(trials):
        if number == 5:
            study.enqueue_trial({"x": 0.25}, {"why": "asked"})
        with batching(study._storage):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
        for step in range(3):
            with batching(study._storage):
                trial.report(x + step, step)
        trial.set_user_attr("twice", 2 * x)
        study.tell(trial, None if number == 3 else x, state=TrialState.PRUNED if number == 3 else None)


def content(study):
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs, "fixed_params" in t.system_attrs)
        for t in study.get_trials()
    ]


def made(storage):
    return optuna.create_study(
        storage=storage, study_name="s", sampler=optuna.samplers.RandomSampler(0), load_if_exists=True
    )


@pytest.mark.parametrize("seed", range(3))
def test_lost_connections_change_nothing(place, monkeypatch, seed):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    quiet = made(optuna.storages.InMemoryStorage())
    search(quiet)
    storage = served(place)
    made(storage)
    storage.inner.share, storage.inner.random = 0.3, random.Random(seed)
    study = optuna.load_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(0))
    search(study)
    assert storage.inner.lost > 10
    storage.inner.share = 0
    assert content(study) == content(quiet)
    assert content(made(place)) == content(quiet)  # another process reads the same


def test_it_is_told_once_that_the_server_is_away_and_when_it_is_back(place, monkeypatch, capsys):
    storage = served(place)
    study = made(storage)
    monkeypatch.setattr(module, "TOLD_S", 0.0)
    storage.inner.share = 2.0
    timer = threading.Timer(0.3, lambda: setattr(storage.inner, "share", 0.0))
    timer.start()
    study.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("study.db")[2] for line in told] == [
        " does not answer (server closed the connection unexpectedly); trying again for 1 minutes.",
        " answers again.",
    ]


def test_it_is_known_when_the_server_answered_again(place):
    storage = served(place)
    study = made(storage)
    assert storage.answered_again == 0
    storage.inner.share, storage.inner.random = 0.5, random.Random(0)
    while not storage.inner.lost:
        study.set_user_attr("a", 1)
    assert time.monotonic() - storage.answered_again < 1


def test_the_trial_of_an_earlier_process_of_the_same_name_is_not_ones_own(place):
    """As in a container, where a process that is started again has the same number."""
    earlier, storage = served(place), served(place)
    for one in (earlier, storage):
        one.worker = {"worker": "host/1:7"}
    made(earlier).ask()
    study = made(storage)
    create, lost = storage.inner.inner.create_new_trial, []

    def loses(*given):
        storage.inner.inner.create_new_trial = create
        lost.append(given)
        storage.inner.lose()

    storage.inner.inner.create_new_trial = loses
    assert study.ask().number == 1
    assert lost


def test_another_worker_that_signs_a_trial_has_taken_it(place):
    mine, other = served(place), served(place)
    mine.worker, other.worker = {"worker": "a/1:7"}, {"worker": "b/1:7"}
    trial = made(mine).ask()
    assert not mine.taken(trial._trial_id)
    other.own(trial.study._study_id, trial._trial_id)
    other.sign(trial._trial_id)
    assert mine.taken(trial._trial_id)
    assert not other.taken(trial._trial_id)
    other.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])
    assert mine.taken(trial._trial_id)


def test_after_all_patience_the_machine_is_at_fault(place):
    storage = served(place)
    study = made(storage)
    storage.inner.share, storage.patience_s = 2.0, 0.1
    with pytest.raises(
        MachineFault, match=r"has not answered for 0 s \(server closed .*run the same command to resume"
    ):
        study.set_user_attr("a", 1)


def test_other_errors_are_not_tried_again(place):
    storage = served(place)
    with pytest.raises(KeyError):
        optuna.load_study(study_name="absent", storage=storage)


def test_a_batch_is_read_here_at_once_and_elsewhere_at_its_end(place):
    study, other = made(served(place)), made(served(place))
    trial = study.ask()
    with batching(study._storage):
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("a", {1: "b"})
        assert study.get_trials()[0].params == {"x": x}
        assert study._storage.get_trial(trial._trial_id).user_attrs["a"] == {"1": "b"}  # as it is read from JSON
        assert other._storage.inner.get_trial(trial._trial_id).params == {}
    assert other._storage.inner.get_trial(trial._trial_id).params == {"x": x}
    assert other._storage.inner.get_trial(trial._trial_id).distributions == {"x": FloatDistribution(0, 1)}


@pytest.mark.parametrize("value", [0.5, float("inf"), float("-inf"), float("nan")])
def test_reports_arrive_as_optuna_writes_them(place, value):
    storage = served(place)
    trial = made(storage).ask()
    trial.report(value, 3)
    storage.flush()
    (read,) = optuna.load_study(study_name="s", storage=place).trials
    assert repr(read.intermediate_values) == repr({3: value})


def test_reports_that_follow_each_other_fast_are_written_together(place):
    storage = served(place)
    study = made(storage)
    trial = study.ask()
    writes = []
    write = storage._write
    storage._write = lambda rows: (writes.append(len(rows)), write(rows))
    for step in range(50):
        trial.report(step, step)
    study.tell(trial, 1.0)
    assert len(writes) < 10
    assert sum(writes) == 50
    assert len(made(place).trials[0].intermediate_values) == 50


def test_what_others_write_is_seen_after_a_moment_and_at_once_in_a_mutex(place):
    mine, other = made(served(place)), made(served(place))
    assert mine.get_trials() == []
    trial = other.ask()
    with mine._storage.mutex("s"):
        assert len(mine.get_trials()) == 1
    trial.report(1.0, 1)
    other._storage.flush()
    time.sleep(module.AGE_S)
    assert mine.get_trials()[0].intermediate_values == {1: 1.0}


def test_a_mutex_of_a_proxy_has_one_holder():
    mutexes = Mutexes()
    assert mutexes.acquire("a", "one")
    assert mutexes.acquire("b", "two")
    begun = time.monotonic()
    threading.Timer(0.2, lambda: mutexes.release("a", "one")).start()
    assert mutexes.acquire("a", "two")
    assert time.monotonic() - begun >= 0.2
    assert not mutexes.release("a", "one")
    assert mutexes.acquire("a", "two")  # the same again, whose answer was lost


def test_a_mutex_of_a_proxy_is_taken_from_who_holds_it_too_long(monkeypatch):
    from hypermap.search import serve

    monkeypatch.setattr(serve, "HELD_S", 0.1)
    mutexes = Mutexes()
    assert mutexes.acquire("a", "gone")
    assert mutexes.acquire("a", "next")


def test_a_full_proxy_answers_at_once(monkeypatch):
    from hypermap.search import serve

    monkeypatch.setattr(serve, "WAITERS", 0)
    mutexes = Mutexes()
    mutexes.acquire("a", "one")
    begun = time.monotonic()
    assert not mutexes.acquire("a", "two")
    assert time.monotonic() - begun < serve.WAIT_S / 2


# Servers


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_a_proxy_holds_the_same_study(place):
    pytest.importorskip("grpc")
    port = free_port()
    server = make_server(open_storage(place), "127.0.0.1", port)
    server.start()
    try:
        storage = open_storage(f"grpc://127.0.0.1:{port}")
        assert is_served(storage)
        study = made(storage)
        search(study)
        quiet = made(optuna.storages.InMemoryStorage())
        search(quiet)
        assert content(study) == content(quiet)
        study.ask().report(float("nan"), 1)
        storage.flush()
        other = open_storage(f"grpc://127.0.0.1:{port}")
        assert content(made(other))[:-1] == content(quiet)
        assert repr(other.get_all_trials(study._study_id)[-1].intermediate_values) == "{1: nan}"
        assert_excludes(storage, other)
    finally:
        server.stop(None)


def waiter(storage, name):
    """Return the thread that waits for a mutex; None if it was entered within a moment."""
    entered = threading.Event()

    def enter():
        with storage.mutex(name):
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(0.3)
    return thread if not entered.is_set() else None


def assert_excludes(storage, other):
    """Check that a mutex of one storage is waited for in another, and one of another name is not."""
    with storage.mutex("s"):
        assert waiter(other, "t") is None
        waiting = waiter(other, "s")
        assert waiting is not None
    waiting.join(5)
    assert not waiting.is_alive()


def test_optunas_own_proxy_is_refused_for_its_lack_of_a_mutex(place):
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server as optunas

    port = free_port()
    server = optunas(get_storage(place), "127.0.0.1", port)
    server.start()
    try:
        storage = open_storage(f"grpc://127.0.0.1:{port}")
        with (
            pytest.raises(UserError, match=r"has no mutex .*python src/study.py serve storage=URL"),
            storage.mutex("s"),
        ):
            pass
    finally:
        server.stop(None)


@pytest.mark.parametrize("place", ["grpc://localhost", "grpc://:1", "grpc://host:port"])
def test_an_address_that_is_none_is_told(place):
    with pytest.raises(UserError, match="grpc://HOST:PORT, as in grpc://localhost:13000"):
        open_storage(place)


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_postgresql_holds_the_same_study_survives_lost_sessions_and_has_a_mutex():
    with postgres() as url:
        storage = open_storage(url)
        study = made(storage)
        quiet = made(optuna.storages.InMemoryStorage())
        search(study, 6), search(quiet, 6)
        assert content(study) == content(quiet)
        admin = RDBStorage(url).engine
        with admin.connect() as connection:
            from sqlalchemy import text

            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")
            )
        study.sampler = optuna.samplers.RandomSampler(1)
        quiet.sampler = optuna.samplers.RandomSampler(1)
        search(study, 3), search(quiet, 3)
        assert content(study) == content(quiet)
        other = open_storage(url)
        assert_excludes(storage, other)


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
def test_sessions_that_end_within_a_mutex_change_nothing(caplog):
    with server() as running:
        study = made(open_storage(running.url))
        for _ in range(3):
            with study._storage.mutex("s"):
                study.get_trials()
                running.end_sessions()
                study._storage._read.clear()
                study.get_trials()
                trial = study.ask()
            trial.report(1.0, 1)
            running.end_sessions()
            study.tell(trial, 1.0)
        with pytest.raises(KeyError, match="of the block"), study._storage.mutex("s"):  # noqa: PT012
            running.end_sessions()
            raise KeyError("of the block")
        assert [t.intermediate_values for t in made(running.url).trials] == [{1: 1.0}] * 3
    assert all(record.levelname == "INFO" for record in caplog.records)
