"""A worker in its own process, so that its parent sees how it ends, and replaces it."""

import faulthandler
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from pathlib import Path
from typing import Any

from hypermap.core.errors import UserError
from hypermap.search.attempts import note_death
from hypermap.search.worker import NOTICES

TOLD = 32_000  # bytes of an error that fit into a pipe without a reader


def supervised(work: Callable[[Callable[[], bool]], None], locks: Path, stop_file: Path) -> None:
    """Do the work in a child process, and again in another one if the child dies during a trial.

    This process must not have computed anything with several threads before (because of fork).

    Args:
        work: called with a function that returns whether this process is gone, and nobody waits for the child.
        locks: folder of the locks of the study's trials.
        stop_file: its existence tells all workers to stop.

    Raises:
        UserError: the child died without a trial; or what `work` raised.
    """
    with _stopping_others(stop_file):
        while True:
            pid, pipe = _begin(work)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            error = _read(pipe)
            if error is not None:
                raise error
            if status == 0:
                return
            ended, had_a_trial = note_death(locks, pid, status)
            if stop_file.exists():
                return
            if not had_a_trial:
                raise UserError(f"A worker ended {ended} before it had a trial.")
            print(f"A worker ended {ended}; another takes its place.", flush=True)


def _begin(work: Callable[[Callable[[], bool]], None]) -> tuple[int, int]:
    """Start the child; return its process id, and the pipe for its exception."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    sys.stdout.flush(), sys.stderr.flush()
    parent = os.getpid()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    status = 1
    try:
        faulthandler.disable()  # joblib's handler, which floods the terminal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work(lambda: os.getppid() != parent)
        status = 0
    except BaseException as error:
        os.write(writing, _pickled(error))
    finally:
        with suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
            util._run_finalizers(0)  # type: ignore[attr-defined]  # such as of tqdm's lock, which would else be told as leaked
        os._exit(status)


def _pickled(error: BaseException) -> bytes:
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301  some can be written and not read
    except Exception:
        pickled = b""
    if not pickled or len(pickled) > TOLD:
        pickled = pickle.dumps(RuntimeError("".join(traceback.format_exception(error))[-TOLD // 8 :]))
    return pickled


def _read(pipe: int) -> BaseException | None:
    """Return the child's exception: it is in the pipe by now."""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        written: Any = file.read()
    return pickle.loads(written) if written else None  # noqa: S301  our own child's


@contextmanager
def _stopping_others(stop_file: Path) -> Iterator[None]:
    """Leave Ctrl-C to the child, which gets it as well, and turn a request to end or its notice into the stop file."""

    def ask(number: int, frame: Any) -> None:
        with suppress(OSError):
            stop_file.touch()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, *NOTICES)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
