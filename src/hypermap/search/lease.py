"""Who trains a trial, whether that process still lives, and whether a study is to stop: also across machines.

On one machine a lock tells, which the kernel releases with the process. Workers on other machines, and in other clones,
share no locks, only the database: each has a lease there, a counter that it raises several times per term. Whoever has
watched a counter stand still for a whole term knows that its worker is gone. Only the watcher's own clock counts, so
clocks that differ do no harm, and only while the database answers: where it is away, no counter moves.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from hypermap.core.errors import MachineFault
from hypermap.search.database import Database
from hypermap.search.storage import file_of, lock_folder

BEATS = 4  # of a lease within its term
TERM_S = 60.0
MANY = 100  # workers, for each of which a request to stop is looked for a beat later: each look reads all counters
BEAT, STOP = "beat:", "stop"  # system attributes of a study: of a worker, by its name; and of a request to stop
PLACE = "place"  # in the folder of the locks: which one this is
BOOT = Path("/proc/sys/kernel/random/boot_id")


def host() -> str:
    """Return the name of this machine, unlike those of others that are called the same."""
    try:
        return f"{platform.node()}-{BOOT.read_text(encoding='ascii')[:8]}"
    except OSError:  # not Linux
        return platform.node()


def place(locks: Path) -> str:
    """Return a name for whoever sees these locks: processes of this machine that share their folder."""
    path = locks / PLACE
    if not path.exists():
        own = locks / f"{PLACE}-{uuid.uuid4().hex}"
        own.write_text(uuid.uuid4().hex[:12], encoding="ascii")
        with suppress(FileExistsError):
            os.link(own, path)  # unlike a rename, it leaves another's
        own.unlink()
    return f"{host()}/{path.read_text(encoding='ascii')}"


@dataclass
class Leases:
    """The leases of a study's workers, as seen from one process.

    Args:
        study: the study.
        term_s: how long a counter has to stand still.
    """

    study: optuna.Study
    term_s: float
    seen: dict[str, tuple[Any, float, bool]] = field(default_factory=dict)  # counter, since when, and whether it moved

    def look(self, workers: Iterable[str]) -> None:
        """Read the counters of these workers."""
        if not (workers := set(workers)):
            return
        storage = self.study._storage
        beats, now = storage.get_study_system_attrs(self.study._study_id), time.monotonic()
        answered_again = storage.answered_again if isinstance(storage, Database) else 0.0
        for worker in workers:
            beat = beats.get(f"{BEAT}{worker}")
            before, since, moved = self.seen.get(worker, (beat, now, False))
            if worker not in self.seen or beat != before:
                self.seen[worker] = beat, now, beat != before
            else:
                self.seen[worker] = beat, max(since, answered_again), moved

    def gone(self, worker: str) -> bool:
        """Return whether a worker has said that it is going, or its counter has stood still for a term."""
        beat, since, _ = self.seen.get(worker, (0, time.monotonic(), False))
        return beat == "" or time.monotonic() - since >= self.term_s

    def unclear(self, worker: str) -> bool:
        """Return whether it is unknown yet if a worker lives."""
        return not self.gone(worker) and not self.seen.get(worker, (0, 0.0, False))[2]


@contextmanager
def beating(study: optuna.Study, worker: str, command: str, term_s: float) -> Iterator[Callable[[], bool]]:
    """Hold the lease of a worker; yield a function that returns whether a stop was requested through the study.

    Args:
        study: in a database.
        worker: its name.
        command: of the command that started it, which alone can be asked to stop, too.
        term_s: of the lease.
    """
    storage, study_id, key = study._storage, study._study_id, f"{BEAT}{worker}"
    before = storage.get_study_system_attrs(study_id).get(STOP)
    stopping, ended = threading.Event(), threading.Event()
    storage.set_study_system_attr(study_id, key, 0)

    def beat() -> None:
        count, pause = 0, 1
        while not ended.wait(term_s / BEATS):
            count += 1
            with suppress(MachineFault):  # which the worker meets as well
                if isinstance(storage, Database):
                    storage.flush()
                storage.set_study_system_attr(study_id, key, count)
                if count % pause:
                    continue
                attrs = storage.get_study_system_attrs(study_id)
                living = sum(name.startswith(BEAT) and value != "" for name, value in attrs.items())
                pause = 1 + living // MANY
                if attrs.get(STOP) != before or attrs.get(f"{STOP}:{command}"):
                    stopping.set()
        storage.remove_session()

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield stopping.is_set
    finally:
        ended.set()
        thread.join(timeout=term_s)
        with suppress(MachineFault):
            storage.set_study_system_attr(study_id, key, "")


def request_stop(study: optuna.Study, storage: str, command: str = "") -> None:
    """Ask the workers of a study, or those of one command, to stop after the running epochs.

    Workers that start later are not asked.
    """
    if file_of(storage) is None:
        key, token = (f"{STOP}:{command}", 1) if command else (STOP, uuid.uuid4().hex)
        study._storage.set_study_system_attr(study._study_id, key, token)
    else:
        (lock_folder(storage, study.study_name) / STOP).write_text(uuid.uuid4().hex, encoding="ascii")


def stop_requests(study: optuna.Study, storage: str) -> Any:
    """Return a value that differs after each request to stop a study."""
    if file_of(storage) is None:
        return study._storage.get_study_system_attrs(study._study_id).get(STOP)
    return stop_file_stamp(lock_folder(storage, study.study_name))


def stop_file_stamp(locks: Path) -> int:
    """Return when a stop was last requested by a file, in ns; 0: never."""
    try:
        return (locks / STOP).stat().st_mtime_ns
    except OSError:
        return 0
