"""Mistakes that a person can mend, told in one message; and the ends of a training that are no mistakes."""

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from hypermap.core.memory import could_be_had

T = TypeVar("T")

TRACEBACK_VARIABLE = "HYPERMAP_TRACEBACK"

atexit.register(gc.freeze)  # to look for garbage among what goes in any case takes 0.4 s where torch is


class UserError(Exception):
    """A mistake in a configuration, a file or a command: what was given, what is allowed, what to change."""


class Diverged(UserError):  # noqa: N818
    """Training came to a loss that is not finite."""


class OutOfMemory(UserError):  # noqa: N818
    """The network and its batches do not fit into memory."""


class Pruned(Exception):  # noqa: N818
    """Others did better at this point, so this training was stopped; raised by whoever it reports to."""


class Paused(Exception):  # noqa: N818
    """Others are to go on first; what was trained stays, to be taken up again. Raised by whoever it reports to."""


class Interrupted(Exception):  # noqa: N818
    """A person asked that training stop after the running epoch; raised by whoever it reports to."""


class OutOfHostMemory(OutOfMemory):
    """The machine has less memory left than is asked for, though it could have as much."""


class MachineFault(UserError):  # noqa: N818
    """The machine cannot go on, such as with a full disk: no fault of what is trained."""


ALLOCATOR = "DefaultCPUAllocator"  # torch's, of the machine's memory
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # of the disk; the last where files are limited
FULL_WORDS = (*map(os.strerror, FULL[:3]), "disk is full")  # the last are SQLite's

REMEDIES = {
    errno.ENOSPC: "Free some space there, then give the same command again.",
    errno.EDQUOT: "Free some of your quota there, then give the same command again.",
    errno.EROFS: "Make it writable, or work in a copy of the project that is.",
    errno.EACCES: "Give yourself the right to it (ls -ld shows who has it), or work in a copy of the project.",
}


def exited(error: SystemExit) -> UserError:
    """Return an error that says that somebody's code left the program."""
    made = UserError(f"the code called sys.exit({error.code!r})")
    made.__cause__ = error
    return made


def disk_fault(error: BaseException) -> str | None:
    """Return what a disk refused, where an error or one that led to it says that it is full or cannot be written to."""
    while True:
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        if not isinstance(error, OSError) and any(words in str(error) for words in FULL_WORDS):
            return str(error).strip().splitlines()[0]
        if (cause := error.__cause__ or error.__context__) is None:
            return None
        error = cause


def is_the_machines(error: BaseException) -> bool:
    """Return whether an error says that a disk is full, or the machine's memory, which may be better another time."""
    if isinstance(error, OutOfHostMemory) or disk_fault(error) is not None:
        return True
    lacks = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ALLOCATOR in str(error))
    return lacks and could_be_had(error)


def near(word: object, known: Iterable[object], cutoff: float = 0.6) -> str:
    """A hint such as `` (did you mean 'momentum'?)``, or nothing when no other known word is near."""
    matches = get_close_matches(str(word), [str(k) for k in known if str(k) != str(word)], n=2, cutoff=cutoff)
    return f" (did you mean {' or '.join(repr(m) for m in matches)}?)" if matches else ""


def raising(error: Exception) -> Callable[[], Any]:
    """What, when called, raises an error that came up elsewhere."""

    def raise_it() -> Any:
        raise error

    return raise_it


class LastingOutput:
    """A stream that may lose its reader, such as ``| head`` or a terminal: then it drops what it is given."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(
            nowhere, self.stream.fileno()
        )  # also for what is in the buffer, and for libraries that write themselves
        os.close(nowhere)
        if self is sys.stdout:
            print(f"Nobody reads the output any more ({error.strerror}); the work goes on.", file=sys.stderr)


def outlive_readers() -> None:
    """Let this process go on when its output is closed, and show as escapes what the output's encoding lacks."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) < 3:  # standard streams that are closed would be the next files
        pass
    os.close(lowest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if not isinstance(stream, LastingOutput):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, cast(TextIO, LastingOutput(stream)))


def explained(error: Exception) -> str:
    """Return what an error says; of one of the system's about a file, which file, why, and what to change."""
    if isinstance(error, FileExistsError) and error.filename:
        path = Path(os.fsdecode(error.filename))
        if path.is_symlink() and not path.exists():
            return f"{path} is a link to {path.readlink()}, which is not there. Make that folder, or remove the link."
        if path.is_file():
            return f"{path} is a file where a folder is to be. Move it away, or give it another name."
    if isinstance(error, OSError) and error.filename and (change := REMEDIES.get(error.errno or 0)):
        return f"{os.fsdecode(error.filename)}: {error.strerror}. {change}"
    return str(error)


def run(command: Callable[[], T], about: str | None = None) -> T:
    """Return what `command` returns; exit with 1 and one message where a person made a mistake.

    With ``--help`` on the command line, print what the command is `about` instead, if that is given.

    The environment variable ``HYPERMAP_TRACEBACK=1`` shows the traceback as well. A full disk and a folder
    that cannot be written to are a person's to mend too, so an `OSError` counts as one.
    """
    outlive_readers()
    if about is not None and {"-h", "--help"} & set(sys.argv[1:]):
        print(about.strip())
        sys.exit()
    try:
        return command()
    except (UserError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        from hypermap.core.passwords import masked

        print(f"Error: {masked(explained(error))}\n({TRACEBACK_VARIABLE}=1 shows the traceback)", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
