"""Mistakes that a person can mend, told in one message; and the ends of a training that are no mistakes."""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from hypermap.core.memory import could_be_had


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
    seen: set[int] = set()  # causes may go in a circle, where somebody raised an error from itself
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        if not isinstance(error, OSError) and any(words in str(error) for words in FULL_WORDS):
            return str(error).strip().splitlines()[0]
        error = error.__cause__ or error.__context__ or error
    return None


def is_the_machines(error: BaseException) -> bool:
    """Return whether an error says that a disk is full, or the machine's memory, which may be better another time."""
    if isinstance(error, OutOfHostMemory) or disk_fault(error) is not None:
        return True
    lacks = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and ALLOCATOR in str(error))
    return lacks and could_be_had(error)


def near(word: object, known: Iterable[object], cutoff: float = 0.6) -> str:
    """Return a hint such as `` (did you mean 'momentum'?)``, or nothing when no other known word is near."""
    matches = get_close_matches(str(word), [str(k) for k in known if str(k) != str(word)], n=2, cutoff=cutoff)
    return f" (did you mean {' or '.join(repr(m) for m in matches)}?)" if matches else ""


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
