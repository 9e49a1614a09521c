"""The frame of a command: user mistakes as one message, output that survives a closed reader, signals."""

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from hypermap.core.errors import Interrupted, UserError, explained

T = TypeVar("T")

TRACEBACK_VARIABLE = "HYPERMAP_TRACEBACK"


class LastingOutput:
    """A stream that may lose its reader, such as ``| head`` or a terminal; it then drops what is written."""

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
        """Flush what was written, or drop it."""
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(
            nowhere, self.stream.fileno()
        )  # also for the rest of the buffer, and for libraries that write to the descriptor
        os.close(nowhere)
        if self is sys.stdout:
            print(f"The output is no longer read ({error.strerror}); the work continues.", file=sys.stderr)


def outlive_readers() -> None:
    """Keep this process running if its output is closed, and escape characters that the output's encoding lacks."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) < 3:  # or else the next files would replace closed streams
        pass
    os.close(lowest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        if not isinstance(stream, LastingOutput):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, cast(TextIO, LastingOutput(stream)))


def run(command: Callable[[], T], about: str | None = None) -> T:
    """Return what `command` returns; on a user's mistake, print one message and exit with 1.

    With ``--help`` on the command line, print `about` instead, if it is given.

    The environment variable ``HYPERMAP_TRACEBACK=1`` shows the traceback as well. A full disk or a folder without write
    permission is for the user to fix too, so an `OSError` counts as a mistake.
    """
    outlive_readers()
    atexit.register(gc.freeze)  # collecting garbage at exit would take 0.4 s with torch imported
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


@contextmanager
def stop_after_epoch() -> Iterator[Callable[[], None]]:
    """Handle a scheduler's SIGTERM after the running epoch, when the state is on disk; a second one ends at once.

    Yields:
        a function to call after each epoch.

    Raises:
        Interrupted: a SIGTERM has arrived.
    """
    signals: list[int] = []

    def ask(number: int, frame: Any) -> None:
        signals.append(number)
        print("SIGTERM: stopping after the running epoch; a second one stops at once.", file=sys.stderr, flush=True)
        signal.signal(number, before)

    def pause() -> None:
        if signals:
            raise Interrupted("Stopped after an epoch, as asked by SIGTERM. Run the same command to resume from there.")

    if threading.current_thread() is not threading.main_thread():
        yield pause
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield pause
    finally:
        signal.signal(signal.SIGTERM, before)
