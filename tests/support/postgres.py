"""A PostgreSQL in a folder of its own, on a free port of the loopback."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

USER = "postgres"  # the server does not run as root
PATIENCE_S = 30.0
# How a server is stopped: without waiting for its clients, and without writing what it has in memory.
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT


def why_not() -> str | None:
    """Return why there can be no PostgreSQL here; None if there can."""
    if _program("initdb") is None:
        return "needs PostgreSQL's initdb (apt install postgresql)"
    return None if find_spec("psycopg") else "needs psycopg (make EXTRAS=postgresql)"


def _program(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


class Server:
    """A server that can be stopped and started again; a `durable` one syncs to disk."""

    def __init__(self, scratch: str, *, durable: bool = False) -> None:
        self.fsync = "on" if durable else "off"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.scratch, self.data = scratch, Path(scratch) / "data"
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(scratch, USER)
            self.user = {"user": USER, "group": USER, "extra_groups": []}
        initdb = _program("initdb")
        assert initdb is not None
        words = [initdb, "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", f"--pgdata={self.data}"]
        subprocess.run(words, check=True, capture_output=True, cwd=scratch, **self.user)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        server = _program("postgres")
        assert server is not None
        settings = [f"fsync={self.fsync}", f"unix_socket_directories={self.scratch}", "listen_addresses=127.0.0.1"]
        words = [server, "-D", str(self.data), "-p", str(self.port), *(f"-c{setting}" for setting in settings)]
        with (Path(self.scratch) / "log").open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.scratch, **self.user)
        end = time.monotonic() + PATIENCE_S
        while not self.answers():
            assert self.process.poll() is None, (Path(self.scratch) / "log").read_text()
            assert time.monotonic() < end, "no answer"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = FAST) -> None:
        """Stop it: `FAST` or `IMMEDIATE`."""
        self.process.send_signal(how)
        self.process.wait()

    def answers(self) -> bool:
        """Return whether it takes connections."""
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def end_sessions(self) -> None:
        """End the sessions of all clients."""
        others = "backend_type = 'client backend' AND pid != pg_backend_pid()"
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        connection.close()

    def connect(self) -> Any:
        """Return a connection of one's own."""
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname="postgres")


@contextmanager
def server(*, durable: bool = False) -> Iterator[Server]:
    """Start a server; yield it."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as scratch:  # pytest's own folders are closed to other users
        made = Server(scratch, durable=durable)
        try:
            yield made
        finally:
            made.stop()


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """Start a server; yield the URL of an empty database."""
    with server(durable=durable) as made:
        yield made.url
