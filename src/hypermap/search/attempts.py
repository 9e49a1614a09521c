"""Attempts at a trial: records of attempts whose process died, how, and how often.

While a process trains a trial, there is a note beside the trial's lock. The process removes the note when it records
the end of the trial, or stops on request; so a note beside a free lock is from a process that died.
"""

import faulthandler
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

STACK_DEATHS = 2  # deaths of a stack, after which its members are trained by themselves: one death may have any cause
MOST = 3  # attempts, none of which got further than the one before, after which the trial has failed
MOST_WITH_ALL = 10  # the same if the watching process died too: more likely caused by a person or the machine
NOTED_S = 2.0  # within which a process that watches another has noted how that ended
# What Python writes about a fatal signal, for deaths that no other process observed.
FATAL = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Floating-point exception": signal.SIGFPE,
    "Floating point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
    **({"Bus error": signal.SIGBUS} if hasattr(signal, "SIGBUS") else {}),
}


@dataclass(frozen=True)
class Attempt:
    """An attempt at a trial.

    Attributes:
        pid: of the process.
        step: the last that the trial had reported when the attempt started; 0 before the first.
        deaths: number of consecutive attempts that ended with their process's death, none beyond this step.
        stack_deaths: the same for those that ended with the death of a stack.
        deaths_with_all: the same for those where the watching process died too.
        alone: whether the process trained no other trial at the same time.
        watched: the id of the process that watches how it ends; 0 if none does.
        ended: how the process ended, if observed.
        memory: whether it ended because the machine ran out of memory.
    """

    pid: int
    step: int = 0
    deaths: int = 0
    stack_deaths: int = 0
    deaths_with_all: int = 0
    alone: bool = True
    watched: int = 0
    ended: str = ""
    memory: bool = False

    @classmethod
    def read(cls, locks: Path, number: int) -> Self | None:
        """Return the attempt whose process died, for a trial whose lock is free; None if there is none."""
        try:
            return cls(**json.loads(_note(locks, number).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):  # truncated by a power loss
            return cls(0)

    @classmethod
    def of_the_dead(cls, locks: Path, number: int) -> Self | None:
        """Return the same, after the process that watched it has noted how it ended: the lock was free before that."""
        until = time.monotonic() + NOTED_S
        while (attempt := cls.read(locks, number)) is not None and attempt.watched and not attempt.ended:
            if time.monotonic() > until or not _lives(attempt.watched):
                break
            time.sleep(0.01)
        return attempt

    def write(self, locks: Path, number: int) -> None:
        """Write the note; it does not matter if a failing machine loses it."""
        with suppress(OSError):
            _note(locks, number).write_text(json.dumps(asdict(self)), encoding="utf-8")

    def after(self, step: int, locks: Path) -> Self:
        """Return the next attempt at a trial that has reported `step` by now, counting the death of this one."""
        following = type(self)(0, step, self.deaths, self.stack_deaths, self.deaths_with_all)
        came_further = step > self.step
        if self.died_with_all(locks):
            return replace(following, deaths_with_all=1 if came_further else self.deaths_with_all + 1)
        if self.alone:
            return replace(following, deaths=1 if came_further else self.deaths + 1)
        return replace(following, stack_deaths=1 if came_further else self.stack_deaths + 1)

    def died_with_all(self, locks: Path) -> bool:
        """Return whether the process was watched, but the watching process died too."""
        return bool(self.watched) and not self.ended and not self.traceback(locks)

    def apart(self, step: int, locks: Path) -> bool:
        """Return whether the trial must be trained by itself from now on, to find out which one is at fault."""
        following = self.after(step, locks)
        too_often = following.stack_deaths >= STACK_DEATHS or following.deaths_with_all >= MOST_WITH_ALL
        return self.alone or self.timed_out(locks) or too_often

    def too_often(self, step: int, locks: Path) -> int:
        """Return the number of attempts that ended so, if there must be no other; else 0."""
        following = self.after(step, locks)
        if following.deaths >= MOST:
            return following.deaths
        return following.deaths_with_all if self.alone and following.deaths_with_all >= MOST_WITH_ALL else 0

    def how(self, locks: Path) -> str:
        """Return in words how the process ended."""
        if self.ended:
            return self.ended
        if self.died_with_all(locks):
            return "with the process that watched it, as where somebody kills the sweep or the machine loses power"
        first = self.traceback(locks).partition("\n")[0].partition("Fatal Python error: ")[2]
        if (number := FATAL.get(first)) is not None:
            return by_signal(number)
        return "without a message: killed, as the system does when memory runs out, or by os._exit"

    def traceback(self, locks: Path) -> str:
        """Return where in the code the process died, if it could still write that."""
        try:
            return _last_words(locks, self.pid).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def timed_out(self, locks: Path) -> bool:
        """Return whether the process was ended because the trial took too long."""
        return self.traceback(locks).startswith("Timeout (")


def begin(locks: Path, attempts: Mapping[int, Attempt], *, watched: bool) -> None:
    """Note that this process trains these trials, by number, and whether its parent watches it."""
    watcher = os.getppid() if watched else 0
    for number, attempt in attempts.items():
        now = replace(attempt, pid=os.getpid(), alone=len(attempts) == 1, watched=watcher, ended="", memory=False)
        now.write(locks, number)


def forget(locks: Path, number: int) -> None:
    """Remove the note of a trial that was recorded, or left on purpose."""
    with suppress(OSError):
        _note(locks, number).unlink(missing_ok=True)


def forget_all(locks: Path) -> None:
    """Note that all trials are being left: from now on, their processes are ended on purpose."""
    for path in (*locks.glob("attempt-*.json"), *locks.glob("last-words-*.txt")):
        with suppress(OSError):
            path.unlink()


def note_death(locks: Path, pid: int, status: int) -> tuple[str, bool]:
    """Note how a process ended, given the result of ``os.waitstatus_to_exitcode``.

    Returns:
        how, in words; and whether it was training a trial.
    """
    ended = by_signal(-status) if status < 0 else f"with exit code {status}"
    if Attempt(pid).timed_out(locks):
        ended = "after hydra.sweeper.trial_timeout"
    numbers = [int(path.stem.removeprefix("attempt-")) for path in locks.glob("attempt-*.json")]
    own = {n: attempt for n in numbers if (attempt := Attempt.read(locks, n)) is not None and attempt.pid == pid}
    for number, attempt in own.items():
        replace(attempt, ended=ended).write(locks, number)
    return ended, bool(own)


def by_signal(number: int) -> str:
    """Return a phrase that says that a signal ended a process."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"by signal {number}"
    reason = "as the system does where memory runs out" if name == "SIGKILL" else signal.strsignal(number) or ""
    return f"by {name}{reason and f' ({reason})'}"


@contextmanager
def last_words(locks: Path) -> Iterator[IO[str]]:
    """Make this process write to the yielded file where in the code a signal such as SIGSEGV ends it.

    A fault handler that is already enabled is left unchanged.
    """
    path = _last_words(locks, os.getpid())
    with path.open("w", encoding="utf-8") as file:
        if ours := not faulthandler.is_enabled():
            faulthandler.enable(file)
        try:
            yield file
        finally:
            if ours:
                faulthandler.disable()
    path.unlink(missing_ok=True)


@contextmanager
def within(limit_s: float | None, file: IO[str]) -> Iterator[None]:
    """End this process if the block takes longer, even if it hangs in compiled code, and write where it was.

    The watchdog is a thread that does not need the interpreter. The process ends at once, as if it were killed.
    """
    if limit_s is None:
        yield
        return
    faulthandler.dump_traceback_later(max(limit_s, 0.1), exit=True, file=file)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def forget_last_words(locks: Path, pid: int) -> None:
    """Remove the file of `last_words` of a process."""
    with suppress(OSError):
        _last_words(locks, pid).unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _note(locks: Path, number: int) -> Path:
    return locks / f"attempt-{number}.json"


def _last_words(locks: Path, pid: int) -> Path:
    return locks / f"last-words-{pid}.txt"
