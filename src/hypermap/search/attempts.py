"""Attempts at a trial: what is left of one whose process died, who has no chance to tell how, and how often it did.

Beside a trial's lock lies a note for as long as a process trains it. Whoever tells the trial's end, or leaves it as it
was asked to, removes the note; so one that is found beside a free lock is of a process that died.
"""

import faulthandler
import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

STACK_DEATHS = 2  # of a stack, after which its members are trained by themselves: the first may be anybody's doing
MOST = 3  # attempts, none of which came further than the one before; after that the trial has failed
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
        alone: whether the process trained no other trial beside it.
        ended: how the process ended, where somebody saw it.
        memory: whether it ended for want of the machine's memory.
    """

    pid: int
    step: int = 0
    deaths: int = 0
    stack_deaths: int = 0
    alone: bool = True
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

    def counted(self, step: int) -> int:
        """Return the deaths in a row, this one included, of a trial that has reported `step` by now.

        Where others were trained beside it, it may have been the fault of any of them: that counts for none.
        """
        if not self.alone:
            return self.deaths
        return self.deaths + 1 if step <= self.step else 1

    def counted_of_stacks(self, step: int) -> int:
        """Return the deaths of stacks in a row, likewise."""
        if self.alone:
            return self.stack_deaths
        return self.stack_deaths + 1 if step <= self.step else 1

    def apart(self, step: int, locks: Path) -> bool:
        """Return whether the trial is to be trained by itself from now on, so that it is known whose fault it was."""
        return self.alone or self.timed_out(locks) or self.counted_of_stacks(step) >= STACK_DEATHS

    def how(self, locks: Path) -> str:
        """Return how the process ended."""
        if self.ended:
            return self.ended
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


def begin(locks: Path, numbers: Sequence[int], attempts: Sequence[Attempt]) -> None:
    """Note that this process trains these trials."""
    for number, attempt in zip(numbers, attempts, strict=True):
        replace(attempt, pid=os.getpid(), alone=len(numbers) == 1, ended="", memory=False).write(locks, number)


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
