"""Errors that a user can fix, reported in one message; and the ends of a training that are not errors."""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from hypermap.core.memory import could_be_had


class UserError(Exception):
    """A mistake in a configuration, a file or a command: what was given, what is allowed, what to change."""


class Diverged(UserError):  # noqa: N818
    """The training loss became non-finite."""


class OutOfMemory(UserError):  # noqa: N818
    """The network and its batches do not fit into memory."""


class ProcessLost(UserError):  # noqa: N818
    """Another process of a training on several has died."""


class Pruned(Exception):  # noqa: N818
    """Other trials did better at this point, so this training is stopped; raised by the callback that it reports to."""


class Paused(Exception):  # noqa: N818
    """Other trials continue first; the state is kept for resuming. Raised by the callback that training reports to."""


class Interrupted(Exception):  # noqa: N818
    """A user asked to stop after the running epoch; raised by the callback that a training reports to."""


class OutOfHostMemory(OutOfMemory):
    """The machine has less free memory than requested, although its total would be enough."""


class MachineFault(UserError):  # noqa: N818
    """The machine cannot continue, for example because its disk is full; the training is not at fault."""


ALLOCATOR = "DefaultCPUAllocator"  # in torch's messages about host memory
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # of the disk; the last one for a file size limit
FULL_WORDS = (*map(os.strerror, FULL[:3]), "disk is full")  # the last is SQLite's

REMEDIES = {
    errno.ENOSPC: "Free some space there, then give the same command again.",
    errno.EDQUOT: "Free some of your quota there, then give the same command again.",
    errno.EROFS: "Make it writable, or work in a copy of the project that is.",
    errno.EACCES: "Give yourself the right to it (ls -ld shows who has it), or work in a copy of the project.",
}


def exited(error: SystemExit) -> UserError:
    """Return an error that says that user code exited the program."""
    made = UserError(f"the code called sys.exit({error.code!r})")
    made.__cause__ = error
    return made


def disk_fault(error: BaseException) -> str | None:
    """Return what the disk refused if an error or one of its causes says that it is full or not writable; else None."""
    seen: set[int] = set()  # causes may form a cycle if code raised an error from itself
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        if not isinstance(error, OSError) and any(words in str(error) for words in FULL_WORDS):
            return str(error).strip().splitlines()[0]
        error = error.__cause__ or error.__context__ or error
    return None


def is_the_machines(error: BaseException) -> bool:
    """Return whether an error means that a disk or the host memory is full, which may be temporary."""
    if isinstance(error, OutOfHostMemory) or disk_fault(error) is not None:
        return True
    lacks = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ALLOCATOR in str(error))
    return lacks and could_be_had(error)


def near(word: object, known: Iterable[object], cutoff: float = 0.6) -> str:
    """Return a hint such as `` (did you mean 'momentum'?)``, or nothing if no known word is close."""
    matches = get_close_matches(str(word), [str(k) for k in known if str(k) != str(word)], n=2, cutoff=cutoff)
    return f" (did you mean {' or '.join(repr(m) for m in matches)}?)" if matches else ""


def explained(error: Exception) -> str:
    """Return an error's message; for an OS error about a file, which file, why, and what to change."""
    if isinstance(error, FileExistsError) and error.filename:
        path = Path(os.fsdecode(error.filename))
        if path.is_symlink() and not path.exists():
            return f"{path} is a link to {path.readlink()}, which is not there. Make that folder, or remove the link."
        if path.is_file():
            return f"{path} is a file where a folder is to be. Move it away, or give it another name."
    if isinstance(error, OSError) and error.filename and (change := REMEDIES.get(error.errno or 0)):
        return f"{os.fsdecode(error.filename)}: {error.strerror}. {change}"
    return str(error)
