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

USER = "postgres"  # the server does not run as root
PATIENCE_S = 30.0


def why_not() -> str | None:
    """Return why there can be no PostgreSQL here; None if there can."""
    if _program("initdb") is None:
        return "needs PostgreSQL's initdb (apt install postgresql)"
    return None if find_spec("psycopg") else "needs psycopg (make EXTRAS=postgresql)"


def _program(name: str) -> str | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server; yield the URL of an empty database."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres-") as scratch:  # pytest's own folders are closed to other users
        data, user = Path(scratch) / "data", {}
        if os.geteuid() == 0:
            shutil.chown(scratch, USER)
            user = {"user": USER, "group": USER, "extra_groups": []}
        initdb, server = _program("initdb"), _program("postgres")
        assert initdb is not None
        assert server is not None
        words = [initdb, "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", f"--pgdata={data}"]
        subprocess.run(words, check=True, capture_output=True, cwd=scratch, **user)
        settings = ["fsync=off", f"unix_socket_directories={scratch}", "listen_addresses=127.0.0.1"]
        words = [server, "-D", str(data), "-p", str(port), *(f"-c{setting}" for setting in settings)]
        with (Path(scratch) / "log").open("w") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, cwd=scratch, **user)
        try:
            end = time.monotonic() + PATIENCE_S
            while not _answers(port):
                assert process.poll() is None, (Path(scratch) / "log").read_text()
                assert time.monotonic() < end, "no answer"
                time.sleep(0.05)
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # without waiting for its clients
            process.wait()


def _answers(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True
