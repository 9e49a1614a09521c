"""Where studies live: a journal that outlives whoever writes to it, and databases that are made once."""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import SQLAlchemyError

from hypermap.core.errors import MachineFault, UserError
from hypermap.search import storage as module
from hypermap.search.storage import Journal, absolute, batching, file_of, lock_folder, open_storage, shown

fork = multiprocessing.get_context("fork")


def entry(who, number):
    return {"op_code": 99, "who": who, "number": number, "padding": "x" * (number * 37 % 300)}


def lines(path):
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def append(path, who, count):
    journal = Journal(path)
    for number in range(count):
        journal.append_logs([entry(who, number)])


def append_until_killed(path, who, told):
    """Say of each line that it is written; of the last, half is, and the lock is held."""
    journal = Journal(path)
    for number in range(3):
        journal.append_logs([entry(who, number)])
        os.write(told, b".")
    with journal.kernel_lock, path.open("ab") as file:
        file.write(json.dumps(entry(who, 3)).encode()[: 11 + who])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_over_and_over_while_it_writes_harms_nobody(tmp_path):
    path = tmp_path / "journal.log"
    read, told = os.pipe()
    others = [fork.Process(target=append, args=(path, -who, 60)) for who in (1, 2, 3)]
    for process in others:
        process.start()
    victims = 0
    while victims < 12 or any(process.is_alive() for process in others):
        victim = fork.Process(target=append_until_killed, args=(path, victims, told))
        victim.start()
        victim.join(30)
        assert victim.exitcode == -signal.SIGKILL
        victims += 1
    for process in others:
        process.join(30)
        assert process.exitcode == 0
    assert len(os.read(read, 10**5)) == 3 * victims
    Journal(path)  # cuts off what the last victim began
    written = lines(path)
    for who, count in [(-1, 60), (-2, 60), (-3, 60), *((victim, 3) for victim in range(victims))]:
        assert [line for line in written if line["who"] == who] == [entry(who, number) for number in range(count)]
    assert list(Journal(path).read_logs(0)) == written


def test_the_lock_of_a_dead_process_is_free_at_once(tmp_path):
    path = tmp_path / "journal.log"
    _, told = os.pipe()
    victim = fork.Process(target=append_until_killed, args=(path, 0, told))
    victim.start()
    victim.join(30)
    journal = Journal(path)
    journal.kernel_lock.acquire(blocking=False)
    journal.append_logs([entry(1, 0)])
    journal.kernel_lock.release()
    assert lines(path)[-1] == entry(1, 0)


@pytest.mark.parametrize(
    "tail", [b"{", b'{"op_code":1', b'{"op_code":1}', b"\0" * 5000, b'{"op_code":\n', b"\xff\xfe\n"]
)
def test_what_a_death_or_a_power_loss_leaves_is_cut_off(tmp_path, tail):
    path = tmp_path / "journal.log"
    append(path, 1, 3)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert len(list(Journal(path).read_logs(0))) == 3
    assert path.read_bytes() == whole
    path.write_bytes(tail if tail.startswith(b'{"op_code"') else b"")  # nothing but that
    assert list(Journal(path).read_logs(0)) == []


def test_a_line_longer_than_what_is_read_at_once_is_whole_or_absent(tmp_path):
    path = tmp_path / "journal.log"
    long = {"op_code": 1, "padding": "x" * 20_000}
    Journal(path).append_logs([long, long])
    assert lines(path) == [long, long]
    path.write_bytes(path.read_bytes()[:-1])
    Journal(path).append_logs([entry(1, 0)])
    assert lines(path) == [long, entry(1, 0)]


def test_damage_before_the_last_line_is_told_and_left_alone(tmp_path):
    path = tmp_path / "journal.log"
    append(path, 1, 3)
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number"#1'))
    damaged = path.read_bytes()
    with pytest.raises(UserError, match=r"journal\.log is damaged before its last line .*[Rr]estore it from a backup"):
        list(Journal(path).read_logs(0))
    assert path.read_bytes() == damaged


# Many lines in one write.


def studied(place, *, in_one):
    """The same operations on a study, in a batch or each by itself; what a reader then finds."""
    study = optuna.create_study(study_name="study", storage=open_storage(str(place)), load_if_exists=True)
    with batching(study._storage) if in_one else contextlib.nullcontext():
        for number in range(3):
            trial = study.ask()
            x = trial.suggest_float("x", number, number)
            trial.report(x / 3, 1)
            trial.set_user_attr("words", {"é\n": [number, None]})
            study.tell(trial, x)
        seen = study.get_trials()
    found = optuna.load_study(study_name="study", storage=open_storage(str(place))).trials
    assert [trial.__dict__ for trial in seen] == [trial.__dict__ for trial in found]
    assert study.get_trials() == found  # it goes on reading where it was
    return [(t.number, t.state, t.params, t.intermediate_values, t.user_attrs, t.values) for t in found]


def test_a_storage_in_a_folder_that_cannot_be_written_to_says_so_and_no_more(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(module, "Journal", refuse)
    with pytest.raises(UserError) as told:
        open_storage(str(tmp_path / "journal.log"))
    assert str(told.value).endswith(
        f"journal.log cannot be opened. {tmp_path}: Read-only file system. Make it writable, or work in a copy of the "
        "project that is."
    )


@pytest.mark.parametrize("name", ["journal.log", "sqlite:///{}/study.db"])
def test_a_batch_stores_what_each_by_itself_would(tmp_path, name):
    places = [name.format(tmp_path) if "://" in name else tmp_path / name, tmp_path / "beside.log"]
    for _ in range(2):  # the second time something is there
        assert studied(places[0], in_one=True) == studied(places[1], in_one=False)


def test_a_batch_is_written_once_and_then_whole(tmp_path, monkeypatch):
    path, synced = tmp_path / "journal.log", []
    journal, reader = Journal(path), Journal(path)
    journal.append_logs([entry(0, 0)])
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or fsync(file))
    with journal.batching():
        journal.append_logs([entry(0, 1), entry(0, 2)])
        with journal.batching():
            journal.append_logs([entry(0, 3)])
        assert list(journal.read_logs(2)) == [entry(0, 2), entry(0, 3)]
        assert list(journal.read_logs(4)) == []
        assert list(reader.read_logs(0)) == [entry(0, 0)]
    assert len(synced) == 1
    assert list(reader.read_logs(1)) == list(journal.read_logs(1)) == [entry(0, number) for number in (1, 2, 3)]
    assert lines(path) == [entry(0, number) for number in range(4)]
    with journal.batching():
        pass
    assert len(synced) == 1


def test_an_error_undoes_nothing_of_a_batch(tmp_path):
    journal = Journal(tmp_path / "journal.log")
    with contextlib.suppress(KeyboardInterrupt), journal.batching():
        journal.append_logs([entry(0, 0)])
        raise KeyboardInterrupt
    assert lines(tmp_path / "journal.log") == [entry(0, 0)]


def append_batches(path, who, count):
    journal = Journal(path)
    for number in range(0, count, 3):
        with journal.batching():
            for inner in range(number, number + 3):
                journal.append_logs([entry(who, inner)])


def test_batches_of_several_processes_are_not_mixed(tmp_path):
    path = tmp_path / "journal.log"
    batches = [fork.Process(target=append_batches, args=(path, who, 30)) for who in (1, 2)]
    others = [*batches, fork.Process(target=append, args=(path, 3, 30))]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
    read = lines(path)
    assert [[one["number"] for one in read if one["who"] == who] for who in (1, 2, 3)] == [list(range(30))] * 3
    for at, one in enumerate(read):
        if one["who"] != 3 and one["number"] % 3 == 0:
            assert [other["who"] for other in read[at : at + 3]] == [one["who"]] * 3


def test_threads_that_share_a_storage_do_not_wait_for_each_other_for_ever(tmp_path):
    study = optuna.create_study(storage=open_storage(str(tmp_path / "journal.log")))

    def report(in_one):
        for _ in range(20):
            trial = study.ask()
            for step in range(5):
                with batching(study._storage) if in_one else contextlib.nullcontext():
                    trial.report(step / 5, step)
                    trial.set_user_attr("step", step)

    threads = [threading.Thread(target=report, args=(in_one,), daemon=True) for in_one in (True, True, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    for trials in (study.trials, optuna.load_study(study_name=None, storage=study._storage).trials):
        assert [trial.intermediate_values for trial in trials] == [{step: step / 5 for step in range(5)}] * 80


def test_a_batch_follows_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "journal.log"
    path.write_bytes(json.dumps(entry(0, 0)).encode() + b"\n")
    journal = Journal(path)
    with path.open("ab") as file:
        file.write(b'{"op_code": 99, "who"')
    with journal.batching():
        journal.append_logs([entry(0, 1)])
        assert list(journal.read_logs(0)) == [entry(0, 0), entry(0, 1)]
    assert lines(path) == [entry(0, 0), entry(0, 1)]


# Where a study may be.


@pytest.mark.parametrize("content", [b"# Notes\n", b"{}\n", b'{"op_cod', b'\n{"op_code"', b"\0"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    if b'{"op_code"'.startswith(content):  # one that was cut short in its first word
        open_storage(str(path))
        assert path.read_bytes() == b""
        return
    with pytest.raises(UserError, match=r"notes\.md is a file, and no journal of a study"):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "new").touch()
    study = optuna.create_study(storage=open_storage(str(tmp_path / "new")))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    again = optuna.load_study(study_name=study.study_name, storage=open_storage(str(tmp_path / "new")))
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


def join(place, name):
    """Make the database's tables, or find them, and add a trial."""
    study = optuna.create_study(study_name="study", storage=open_storage(place), load_if_exists=True)
    study.set_user_attr(str(name), True)
    study.tell(study.ask(), 1.0)


@pytest.mark.parametrize("place", ["sqlite:///{}/deep/er/study.db", "{}/deep/er/journal.log"])
def test_four_processes_make_a_storage_at_once(tmp_path, place):
    place = place.format(tmp_path)
    processes = [fork.Process(target=join, args=(place, name)) for name in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    study = optuna.load_study(study_name="study", storage=open_storage(place))
    assert study.user_attrs == {str(name): True for name in range(4)}
    assert [trial.number for trial in study.trials] == list(range(4))


def test_sqlite_waits_for_another_writer(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == module.BUSY_S * 1000


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = str(Path.cwd())
    served = "postgresql://me:secret@host:5432/db"
    for place, file, full in [
        ("a/journal.log", "a/journal.log", f"{here}/a/journal.log"),
        ("/a/journal.log", "/a/journal.log", "/a/journal.log"),
        ("sqlite:///a/study.db", "a/study.db", f"sqlite:///{here}/a/study.db"),
        ("sqlite:////a/study.db", "/a/study.db", "sqlite:////a/study.db"),
        ("sqlite+pysqlite:///study.db?timeout=3", "study.db", f"sqlite:///{here}/study.db"),
        (served, None, served),
    ]:
        assert file_of(place) == (None if file is None else Path(file).absolute())
        assert absolute(place) == full
        assert absolute(full) == full
    for place in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///:memory:?cache=shared"):
        with pytest.raises(UserError, match="in memory and would be lost"):
            file_of(place)


def test_a_password_is_not_shown():
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("mysql+pymysql://me:s%40c:ret@host:3306/db") == "mysql+pymysql://me:***@host:3306/db"
    for place in ("postgresql://me@host/db", "postgresql://host:5432/db", "sqlite:////a/b:c@d.db", "a/journal.log"):
        assert shown(place) == place


def test_all_who_see_a_study_see_its_locks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside = lock_folder("a/journal.log", "study")
    assert beside == tmp_path / "a/.locks-study"
    assert beside.is_dir()
    assert lock_folder(f"{tmp_path}/a/journal.log", "study") == beside
    assert lock_folder("sqlite:///a/study.db", "study") == beside
    assert lock_folder("a/journal.log", "other") != beside
    assert lock_folder("postgresql://host/db", "study") == tmp_path / "studies/study/.locks-study"


def test_a_server_whose_tables_another_process_is_making_is_tried_again(monkeypatch):
    tries, pauses = [], []
    storage = optuna.storages.RDBStorage("sqlite://")

    def refuse_twice(place):
        tries.append(place)
        if len(tries) < 3:
            raise SQLAlchemyError("relation already exists")
        return storage

    monkeypatch.setattr(module, "Tables", refuse_twice)
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    assert open_storage("postgresql://host/db").engine is storage.engine
    assert pauses == [0.5, 2.0]
    tries.clear()
    monkeypatch.setattr(module, "Tables", lambda place: refuse_twice(place) if len(tries) < 2 else 1 / 0)
    with pytest.raises(UserError, match=r"host/db cannot be opened .*division by zero.*driver must be installed"):
        open_storage("postgresql://host/db")


@pytest.mark.parametrize("place", ["{}", "sqlite:///{}"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_was_taken_away_is_told_and_its_copy_goes_on(tmp_path, place, how):
    path, copy = tmp_path / "study", tmp_path / "copy"
    study = optuna.create_study(storage=open_storage(place.format(path)), study_name="s")
    study.ask()
    path.rename(copy)
    if how == "replaced":
        path.write_bytes(copy.read_bytes())
    before = copy.read_bytes()
    for use in (study.ask, lambda: study.get_trials(), lambda: study.set_user_attr("a", 1)):
        with pytest.raises(MachineFault, match=rf"study, in which the study is kept, was {how} while it was in use"):
            use()
    assert copy.read_bytes() == before
    assert path.exists() == (how == "replaced")
    copy.replace(path)
    study.ask()
    assert len(optuna.load_study(storage=open_storage(place.format(path)), study_name="s").trials) == 2
