"""Where a study lives: Optuna's journal file by default, or any database that Optuna speaks to."""

import json
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from hypermap.core.errors import REMEDIES, MachineFault, UserError, explained
from hypermap.core.files import naming
from hypermap.core.passwords import MASK, revealed, secrets, shown
from hypermap.core.paths import STUDIES

BEGINS = b'{"op_code"'  # every line of a journal; whatever else is in the file is somebody's own
WAIT_S = 0.2  # after which whoever waits for a journal's lock looks whether it is needed yet
BUSY_S = 60  # how long a writer waits for another's transaction

warnings.filterwarnings("ignore", "Choices for a categorical distribution")  # of others' studies, once for each trial


@dataclass
class _Batch:
    """Lines that are not in the file yet, and which line of the journal the first will be, once that is known."""

    lines: list[bytes] = field(default_factory=list)
    first: int | None = None


class Journal(JournalFileBackend):
    """Optuna's journal file, unharmed by a process that dies while it writes.

    The lock is the kernel's and goes with its process, and a last line that was cut short is removed before
    another is added: Optuna's own backend waits 30 s for a dead process's lock, and can read nothing after such
    a line.

    Raises:
        UserError: a line before the last is damaged.
        MachineFault: the file was deleted, or another one is in its place.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.kernel_lock = FileLock(f"{path}.lock")
        self.batch: _Batch | None = None
        self.mutex = threading.Lock()  # of threads that share this object
        if path.exists() and not _is_journal(path):
            raise UserError(
                f"storage={path} is a file, and no journal of a study. Give another path; of SQLite: sqlite:///{path}"
            )
        super().__init__(str(path), _NoLock())
        self.file = _identity(path)
        with self.kernel_lock:
            self._repair()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, each whole or absent."""
        while not self._put_off(logs):
            try:
                self.kernel_lock.acquire(timeout=WAIT_S)
            except Timeout:  # perhaps another thread's batch has begun, which waits for this one in Optuna's storage
                continue
            try:
                self._repair()
                with naming(self.path):
                    super().append_logs(logs)
            finally:
                self.kernel_lock.release()
            return

    def _put_off(self, logs: list[dict[str, Any]]) -> bool:
        """Add lines to the batch; False where there is none."""
        with self.mutex:
            if self.batch is None:
                return False
            self.batch.lines += [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
            return True

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the lines from a number on."""
        if (batch := self.batch) is None:
            yield from self._written(log_number_from)
            return
        if batch.first is None:  # nobody else adds to the file meanwhile, so once is enough
            yield from self._written_before(batch, log_number_from)
        assert batch.first is not None
        for line in batch.lines[max(0, log_number_from - batch.first) :]:
            yield json.loads(line)

    def _written_before(self, batch: _Batch, log_number_from: int) -> list[dict[str, Any]]:
        """Return the file's lines from a number on, and note in the batch which number its own first line has.

        The number may be one within the batch, beyond the file's end: reading begins where the end is known to be.
        """
        known = min(log_number_from, next(reversed(self._log_number_offset)))
        written = list(self._written(known))
        batch.first = known + len(written)
        return written[log_number_from - known :]

    @contextmanager
    def batching(self) -> Iterator[None]:
        """Keep what is appended, show it to this process's readers, and write it at the end, in one go.

        Writing is what costs: it goes through to the disk. Other processes' appends wait until the end.
        """
        with self.kernel_lock:
            if self.batch is not None:  # within another one
                yield
                return
            self._repair()
            self.batch = _Batch()
            try:
                yield
            finally:  # an error undoes nothing of what readers have seen
                with self.mutex:
                    batch, self.batch = self.batch, None
                if batch.lines:
                    self._write(batch)

    def _write(self, batch: _Batch) -> None:
        with naming(self.path), self.path.open("ab") as file:
            file.write(b"".join(batch.lines))
            file.flush()
            os.fsync(file.fileno())
        if batch.first is not None:  # what was read in the batch is not read again
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
        """Cut off a last line that is not whole: one without its end, or, after a power loss, one that is no JSON."""
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


@contextmanager
def batching(storage: BaseStorage) -> Iterator[None]:
    """Write what is stored in the block in one go, where the storage is a journal; else each by itself."""
    backend = storage._backend if isinstance(storage, JournalStorage) else None
    if not isinstance(backend, Journal):
        yield
        return
    with backend.batching():
        yield


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path, whatever it holds; None: there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _check_same(path: Path, file: tuple[int, int] | None) -> None:
    if (now := _identity(path)) != file:
        raise MachineFault(
            f"{path}, in which the study is kept, was {'deleted' if now is None else 'replaced'} while it was in use; "
            "nothing else was touched. Put back the file that was there, and the same command goes on; or begin anew "
            "with hydra.sweeper.study_name=NAME."
        )


def _is_journal(path: Path) -> bool:
    with path.open("rb") as file:
        return BEGINS.startswith(file.read(len(BEGINS)))


def _last_line(file: BinaryIO) -> bytes:
    """Return a file's last line, with its end if it has one; read from the back, as it may be a long file's."""
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
    """Return the storage at a path (a journal file) or at a URL of SQLAlchemy's; its tables are made if they are not
    there.

    Raises:
        UserError: it cannot be reached, is none of Optuna's, or its password is masked and not in the environment.
    """
    place = revealed(place)
    try:
        if "://" not in place:
            return JournalStorage(Journal(Path(place)))
        if (file := file_of(place)) is None:
            return _served(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # two processes that make the tables at once get in each other's way
            storage = RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": BUSY_S}})
        from sqlalchemy import event

        check = partial(_check_same, file, _identity(file))
        for moment in ("do_connect", "checkout"):  # else SQLite would make another file, or write to the one removed
            event.listen(storage.engine, moment, lambda *about: check())
        return storage
    except UserError:
        raise
    except Exception as error:  # a driver's own, and there are many
        if isinstance(error, OSError) and error.errno in REMEDIES:
            raise UserError(f"storage={shown(place)} cannot be opened. {explained(error)}") from error
        reason = " ".join(str(error).split("\n\n")[0].split())
        for secret in sorted(secrets(place), key=len, reverse=True):
            reason = reason.replace(secret, MASK)
        raise UserError(
            f"storage={shown(place)} cannot be opened ({reason[:300]}). It is null (a journal file "
            "beside the trials), a path, sqlite:///PATH, or a database such as postgresql://USER:PASSWORD@HOST/NAME, "
            "whose driver must be installed."
        ) from error


def _served(place: str) -> BaseStorage:
    """Return a database with a server of its own; where two processes make its tables at once, one of them tries
    again.
    """
    from sqlalchemy.exc import SQLAlchemyError  # a search without a database need not wait for it

    for patience_s in (0.5, 2.0):
        try:
            return RDBStorage(place)
        except SQLAlchemyError:
            time.sleep(patience_s)
    return RDBStorage(place)


def absolute(place: str) -> str:
    """Return the same place, whatever folder a worker starts in."""
    if (file := file_of(place)) is None:
        return place
    return f"sqlite:///{file}" if "://" in place else str(file)


def file_of(place: str) -> Path | None:
    """Return the file of a journal or of SQLite; None for a database that is served, or is in memory.

    Raises:
        UserError: a database in memory, which no second process can see and no restart survives.
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
    """Return where the locks of a study's trials are: beside its file, so that all who see the one see the other."""
    file = file_of(place)
    folder = (file.parent if file else STUDIES.absolute() / study) / f".locks-{study}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
