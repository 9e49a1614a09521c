"""Mistakes that a person can mend, told in one message; and the ends of a training that are no mistakes."""

import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")

TRACEBACK_VARIABLE = "HYPERMAP_TRACEBACK"


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


def near(word: object, known: Iterable[object]) -> str:
    """A hint such as `` (did you mean 'momentum'?)``, or nothing when no known word is near."""
    matches = get_close_matches(str(word), [str(k) for k in known], n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(m) for m in matches)}?)" if matches else ""


def raising(error: Exception) -> Callable[[], Any]:
    """What, when called, raises an error that came up elsewhere."""

    def raise_it() -> Any:
        raise error

    return raise_it


def run(command: Callable[[], T]) -> T:
    """Return what `command` returns; exit with 1 and one message where a person made a mistake.

    The environment variable ``HYPERMAP_TRACEBACK=1`` shows the traceback as well. A full disk and a folder
    that cannot be written to are a person's to mend too, so an `OSError` counts as one.
    """
    try:
        return command()
    except (UserError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        print(f"Error: {error}\n({TRACEBACK_VARIABLE}=1 shows the traceback)", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
