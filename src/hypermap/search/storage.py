"""The storage of a study: Optuna's journal file by default, or any database that Optuna supports."""

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from hypermap.core.errors import REMEDIES, MachineFault, UserError, explained
from hypermap.core.files import naming
from hypermap.core.passwords import MASK, revealed, secrets, shown
from hypermap.core.paths import STUDIES
from hypermap.search.database import Database, proxy_mutex, proxy_write, server_mutex
from hypermap.search.tables import Tables

BEGINS = b'{"op_code"'  # the start of every line of a journal; any other file belongs to someone else
GRPC = "grpc://"
ANSWER_S = 10.0  # by which a proxy has to answer
WAIT_S = 0.2  # after which a waiter for a journal's lock checks whether it is still needed
POLL_S = 0.005  # between two tries to get a lock: a trial may be as short as its storage allows
BUSY_S = 60  # how long a writer waits for another's transaction

warnings.filterwarnings("ignore", "Choices for a categorical distribution")  # of foreign studies, once per trial


@dataclass
class _Batch:
    """Lines that are not in the file yet, and the journal line number of the first one, once known."""

    lines: list[bytes] = field(default_factory=list)
    first: int | None = None


class Journal(JournalFileBackend):
    """Optuna's journal file, made robust against processes that die while writing.

    The lock belongs to the kernel and is released with its process, and a truncated last line is removed before another
    is appended: Optuna's own backend waits 30 s for the lock of a dead process, and cannot read anything after such a
    line.

    Raises:
        UserError: a line before the last is damaged.
        MachineFault: the file was deleted, or another one is in its place.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.kernel_lock = FileLock(f"{path}.lock", poll_interval=POLL_S)
        self.batch: _Batch | None = None
        self.mutex = threading.Lock()  # for threads that share this object
        if path.exists() and not _is_journal(path):
            raise UserError(
                f"storage={path} is a file, and no journal of a study. Give another path; of SQLite: sqlite:///{path}"
            )
        super().__init__(str(path), _NoLock())
        self.file = _identity(path)
        with self.kernel_lock:
            self._repair()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, each completely or not at all."""
        while not self._put_off(logs):
            try:
                self.kernel_lock.acquire(timeout=WAIT_S)
            except Timeout:  # another thread may have started a batch, and wait for this one in Optuna's storage
                continue
            try:
                self._repair()
                with naming(self.path):
                    super().append_logs(logs)
            finally:
                self.kernel_lock.release()
            return

    def _put_off(self, logs: list[dict[str, Any]]) -> bool:
        """Append lines to the batch; return False if there is none."""
        with self.mutex:
            if self.batch is None:
                return False
            self.batch.lines += [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
            return True

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the lines from a line number on."""
        if (batch := self.batch) is None:
            yield from self._written(log_number_from)
            return
        if batch.first is None:  # nobody else appends to the file meanwhile, so once is enough
            yield from self._written_before(batch, log_number_from)
        assert batch.first is not None
        for line in batch.lines[max(0, log_number_from - batch.first) :]:
            yield json.loads(line)

    def _written_before(self, batch: _Batch, log_number_from: int) -> list[dict[str, Any]]:
        """Return the file's lines from a line number on, and record in the batch the number of its first line.

        The number may be within the batch, beyond the file's end: reading starts at the known end.
        """
        known = min(log_number_from, next(reversed(self._log_number_offset)))
        written = list(self._written(known))
        batch.first = known + len(written)
        return written[log_number_from - known :]

    @contextmanager
    def batching(self) -> Iterator[None]:
        """Buffer appended lines, visible to this process's readers, and write them at the end, all at once.

        Writing is expensive: it syncs to disk. Other processes' appends wait until the end.
        """
        with self.kernel_lock:
            if self.batch is not None:  # nested
                yield
                return
            self._repair()
            self.batch = _Batch()
            try:
                yield
            finally:  # even on an error: readers have seen the lines
                with self.mutex:
                    batch, self.batch = self.batch, None
                if batch.lines:
                    self._write(batch)

    def _write(self, batch: _Batch) -> None:
        with naming(self.path), self.path.open("ab") as file:
            file.write(b"".join(batch.lines))
            file.flush()
            os.fsync(file.fileno())
        if batch.first is not None:  # lines that were read in the batch are not read again
            for number, line in enumerate(batch.lines, batch.first):
                self._log_number_offset[number + 1] = self._log_number_offset[number] + len(line)

    def _written(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        _check_same(self.path, self.file)
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise UserError(
                f"{self.path} is damaged before its last line ({error}). Restore it from a backup, or start anew under "
                "another hydra.sweeper.study_name."
            ) from None

    def _repair(self) -> None:
        """Remove an incomplete last line: one without a newline or, after a power loss, one that is not JSON."""
        _check_same(self.path, self.file)
        with self.path.open("rb+") as file:
            line = _last_line(file)
            if line and not _whole(line):
                file.truncate(file.seek(0, os.SEEK_END) - len(line))


class _NoLock(JournalFileOpenLock):
    def __init__(self) -> None:
        pass

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def is_served(storage: BaseStorage) -> bool:
    """Return whether processes that share no locks may use a storage: it is on a server."""
    return isinstance(storage, Database) and storage.served


@contextmanager
def batching(storage: BaseStorage) -> Iterator[None]:
    """Write everything stored in this context at once."""
    if isinstance(storage, Database):
        with storage.batching():
            yield
    elif isinstance(storage, JournalStorage) and isinstance(storage._backend, Journal):
        with storage._backend.batching():
            yield
    else:
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file at a path, regardless of its content; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _check_same(path: Path, file: tuple[int, int] | None) -> None:
    if (now := _identity(path)) != file:
        raise MachineFault(
            f"{path}, in which the study is kept, was {'deleted' if now is None else 'replaced'} while it was in use; "
            "nothing else was touched. Put the file back and run the same command to resume; or start anew "
            "with hydra.sweeper.study_name=NAME."
        )


def _is_journal(path: Path) -> bool:
    with path.open("rb") as file:
        return BEGINS.startswith(file.read(len(BEGINS)))


def _last_line(file: BinaryIO) -> bytes:
    """Return a file's last line, with its newline if any; read backwards, since the file may be long."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, start - 4096)
        file.seek(start)
        tail = file.read(size - start)
    return tail[tail.rfind(b"\n", 0, -1) + 1 :]


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")


def open_storage(place: str) -> BaseStorage:
    """Return the storage at a path (a journal file) or an SQLAlchemy URL; missing tables are created.

    Raises:
        UserError: it is unreachable, not an Optuna storage, or its password is masked and not in the environment.
    """
    place = revealed(place)
    try:
        if "://" not in place:
            return JournalStorage(Journal(Path(place)))
        if place.startswith(GRPC):
            return _proxied(place)
        if (file := file_of(place)) is None:
            return _served(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # two processes that create the tables at the same time conflict
            storage = Tables(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": BUSY_S}})
        from sqlalchemy import event  # not needed for a search without a database

        check = partial(_check_same, file, _identity(file))
        for moment in ("do_connect", "checkout"):  # or SQLite would create another file, or write to the removed one
            event.listen(storage.engine, moment, lambda *about: check())
        return Database(get_storage(storage), place, lambda name: nullcontext(), patience_s=0)
    except UserError:
        raise
    except Exception as error:  # the various errors of the drivers
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise UserError(f"storage={shown(place)} cannot be opened. {explained(error)}") from error
        reason = " ".join(str(error).split("\n\n")[0].split())
        for secret in sorted(secrets(place), key=len, reverse=True):
            reason = reason.replace(secret, MASK)
        raise UserError(
            f"storage={shown(place)} cannot be opened ({reason[:300]}). It is null (a journal file "
            "beside the trials), a path, sqlite:///PATH, a database such as postgresql://USER:PASSWORD@HOST/NAME, "
            "whose driver must be installed (make EXTRAS=postgresql), or a proxy, grpc://HOST:PORT."
        ) from error


def _served(place: str) -> Database:
    """Return a database on a server; if two processes create its tables at the same time, one of them retries."""
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("optuna.storages._rdb.storage", "psycopg"):  # a lost connection is told in one line
        logging.getLogger(name).setLevel(logging.ERROR)
    for pause_s in (0.5, 2.0, None):
        try:
            storage = Tables(place)
        except SQLAlchemyError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return Database(get_storage(storage), place, partial(server_mutex, storage.engine))
    raise AssertionError


def _proxied(place: str) -> Database:
    """Return the database behind a gRPC proxy.

    Raises:
        UserError: the address is not understood, or gRPC is not installed.
        ConnectionError: nothing answers there.
    """
    host, _, port = place.removeprefix(GRPC).rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"storage={place}: the address of a gRPC proxy is grpc://HOST:PORT, as in grpc://localhost:13000"
        )
    check_grpc()
    from optuna.storages import GrpcStorageProxy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(ANSWER_S)
    channel = proxy._channel
    return Database(proxy, place, partial(proxy_mutex, channel), write=partial(proxy_write, channel))


def check_grpc() -> None:
    """Check that gRPC is installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("grpc") is None or find_spec("google.protobuf") is None:
        raise UserError("grpc://… needs gRPC, which is not installed. Install it: make EXTRAS=grpc")


def absolute(place: str) -> str:
    """Return the place with an absolute path, independent of the folder that a worker starts in."""
    if (file := file_of(place)) is None:
        return place
    return f"sqlite:///{file}" if "://" in place else str(file)


def file_of(place: str) -> Path | None:
    """Return the file of a journal or an SQLite database; None for a database server.

    Raises:
        UserError: an in-memory database, which no other process can see and which is lost on a restart.
    """
    if "://" not in place:
        return Path(place).absolute()
    if not place.startswith("sqlite"):
        return None
    path = place.partition(":///")[2].partition("?")[0]
    if path in ("", ":memory:"):
        raise UserError(
            f"hydra.sweeper.storage={shown(place)} is in memory and would be lost. Give a file: sqlite:///PATH"
        )
    return Path(path).absolute()


def lock_folder(place: str, study: str) -> Path:
    """Return the folder of the locks of a study's trials: beside its file, so that whoever sees one sees the other."""
    file = file_of(place)
    folder = (file.parent if file else STUDIES.absolute() / study) / f".locks-{study}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
