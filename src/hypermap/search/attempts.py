"""Attempts at a trial: what is left of one whose process died, who has no chance to tell how, and how often it did.

Beside a trial's lock lies a note for as long as a process trains it. Whoever tells the trial's end, or leaves it as it
was asked to, removes the note; so one that is found beside a free lock is of a process that died.
"""

import faulthandler
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

STACK_DEATHS = 2  # of a stack, after which its members are trained by themselves: the first may be anybody's doing
MOST = 3  # attempts, none of which came further than the one before; after that the trial has failed
MOST_WITH_ALL = 10  # likewise where whoever watched it died too: more likely the doing of a person or the machine
# What Python writes of a signal that ended it, where nobody else saw the process die.
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
        step: the last that the trial had reported when it began; 0 before the first.
        deaths: how many attempts in a row had ended with their process's death, none of them further than this step.
        stack_deaths: likewise those that ended with the death of a stack.
        deaths_with_all: likewise those at which whoever watched the process died with it.
        alone: whether the process trained no other trial beside it.
        watched: whether somebody was there to see how the process ends.
        ended: how the process ended, where somebody saw it.
        memory: whether it ended for want of the machine's memory.
    """

    pid: int
    step: int = 0
    deaths: int = 0
    stack_deaths: int = 0
    deaths_with_all: int = 0
    alone: bool = True
    watched: bool = False
    ended: str = ""
    memory: bool = False

    @classmethod
    def read(cls, locks: Path, number: int) -> Self | None:
        """Return the attempt whose process died, of a trial whose lock is free; None where none did."""
        try:
            return cls(**json.loads(_note(locks, number).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):  # cut short by a loss of power
            return cls(0)

    def write(self, locks: Path, number: int) -> None:
        """Note the attempt; it is no loss if a failing machine takes the note."""
        with suppress(OSError):
            _note(locks, number).write_text(json.dumps(asdict(self)), encoding="utf-8")

    def after(self, step: int, locks: Path) -> Self:
        """Return the next attempt, at a trial that has reported `step` by now: it counts this one's death."""
        following = type(self)(0, step, self.deaths, self.stack_deaths, self.deaths_with_all)
        came_further = step > self.step
        if self.died_with_all(locks):
            return replace(following, deaths_with_all=1 if came_further else self.deaths_with_all + 1)
        if self.alone:
            return replace(following, deaths=1 if came_further else self.deaths + 1)
        return replace(following, stack_deaths=1 if came_further else self.stack_deaths + 1)

    def died_with_all(self, locks: Path) -> bool:
        """Return whether nobody was left to say how the process ended, though somebody watched it."""
        return self.watched and not self.ended and not self.traceback(locks)

    def apart(self, step: int, locks: Path) -> bool:
        """Return whether the trial is to be trained by itself from now on, so that it is known whose fault it was."""
        following = self.after(step, locks)
        too_often = following.stack_deaths >= STACK_DEATHS or following.deaths_with_all >= MOST_WITH_ALL
        return self.alone or self.timed_out(locks) or too_often

    def too_often(self, step: int, locks: Path) -> int:
        """Return how many attempts at a trial ended so, if there is to be no other; else 0."""
        following = self.after(step, locks)
        if following.deaths >= MOST:
            return following.deaths
        return following.deaths_with_all if self.alone and following.deaths_with_all >= MOST_WITH_ALL else 0

    def how(self, locks: Path) -> str:
        """Return how the process ended."""
        if self.ended:
            return self.ended
        if self.died_with_all(locks):
            return "with the process that watched it, as where somebody kills the sweep or the machine loses power"
        first = self.traceback(locks).partition("\n")[0].partition("Fatal Python error: ")[2]
        if (number := FATAL.get(first)) is not None:
            return by_signal(number)
        return "without a word: killed, as the system does where memory runs out, or by os._exit"

    def traceback(self, locks: Path) -> str:
        """Return where in the code the process died, as far as it could still write that."""
        try:
            return _last_words(locks, self.pid).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def timed_out(self, locks: Path) -> bool:
        """Return whether the process was ended because the trial took too long."""
        return self.traceback(locks).startswith("Timeout (")


def begin(locks: Path, attempts: Mapping[int, Attempt], *, watched: bool) -> None:
    """Note that this process trains these trials, by number, and whether somebody watches it."""
    for number, attempt in attempts.items():
        now = replace(attempt, pid=os.getpid(), alone=len(attempts) == 1, watched=watched, ended="", memory=False)
        now.write(locks, number)


def forget(locks: Path, number: int) -> None:
    """Note that a trial was told, or left on purpose."""
    with suppress(OSError):
        _note(locks, number).unlink(missing_ok=True)


def forget_all(locks: Path) -> None:
    """Note that all trials are to be left: who ends their processes from now on does so on purpose."""
    for path in (*locks.glob("attempt-*.json"), *locks.glob("last-words-*.txt")):
        with suppress(OSError):
            path.unlink()


def note_death(locks: Path, pid: int, status: int) -> tuple[str, bool]:
    """Note how a process ended, as ``os.waitstatus_to_exitcode`` has it.

    Returns:
        how, in words; and whether it trained a trial then.
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
    """Return in words that a signal ended a process."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"by signal {number}"
    reason = "as the system does where memory runs out" if name == "SIGKILL" else signal.strsignal(number) or ""
    return f"by {name}{reason and f' ({reason})'}"


@contextmanager
def last_words(locks: Path) -> Iterator[IO[str]]:
    """Have this process write, into the file that is given, where in the code a signal such as SIGSEGV ends it.

    Somebody else's arrangement to the same end is left as it is.
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
    """End this process if the block takes longer, even where it hangs in compiled code, and write where it was.

    The watch is kept by a thread that needs nothing of the interpreter. The process ends at once, as if it were killed.
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
    """Remove what a process left."""
    with suppress(OSError):
        _last_words(locks, pid).unlink(missing_ok=True)


def _note(locks: Path, number: int) -> Path:
    return locks / f"attempt-{number}.json"


def _last_words(locks: Path, pid: int) -> Path:
    return locks / f"last-words-{pid}.txt"
