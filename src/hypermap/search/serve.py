"""Optuna's gRPC proxy between a database and many workers, with a mutex for them."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from optuna.storages import BaseStorage

from hypermap.core.errors import UserError
from hypermap.core.passwords import shown
from hypermap.search.database import HELD_S, SERVICE, Database, received
from hypermap.search.storage import check_grpc, open_storage

THREADS = 64
WAIT_S = 1.0  # for which the server lets a worker wait before it answers
WAITERS = THREADS // 2  # more are answered at once: the holder of the mutex needs a thread, too


class Mutexes:
    """Named mutexes, each held by at most one token, and for at most `HELD_S`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held: dict[str, tuple[str, float]] = {}  # by whom, and until when
        self.waiting = 0

    def acquire(self, name: str, token: str) -> bool:
        """Return whether `token` holds the mutex now; wait up to `WAIT_S` for that."""
        until = time.monotonic() + WAIT_S
        with self.changed:
            self.waiting += 1
            try:
                while (now := time.monotonic()) < until:
                    holder, end = self.held.get(name, (token, 0.0))
                    if holder == token or now >= end:
                        self.held[name] = token, now + HELD_S
                        return True
                    if self.waiting > WAITERS:
                        return False
                    self.changed.wait(min(until, end) - now)
                return False
            finally:
                self.waiting -= 1

    def release(self, name: str, token: str) -> bool:
        """Release the mutex, if `token` still holds it."""
        with self.changed:
            if self.held.get(name, ("", 0.0))[0] != token:
                return False
            del self.held[name]
            self.changed.notify_all()
            return True


def serve(storage: str, host: str, port: str) -> None:
    """Serve a database to workers until Ctrl-C.

    Raises:
        UserError: it is a journal, the port is not free, or gRPC is not installed.
    """
    if not storage:
        raise UserError("give the database: python src/study.py serve storage=postgresql://USER@HOST/NAME")
    if not port.isdecimal() or int(port) > 65535:
        raise UserError(f"port={port}: it is a whole number up to 65535.")
    if "://" not in storage or storage.startswith("grpc://"):
        raise UserError(f"storage={shown(storage)} is no database: postgresql://…, mysql://… or sqlite:///PATH.")
    check_grpc()
    server = make_server(open_storage(storage), host, int(port))
    server.start()
    print(f"{shown(storage)} is at hydra.sweeper.storage=grpc://{host}:{port} (Ctrl-C ends it)", flush=True)
    server.wait_for_termination()


def make_server(storage: BaseStorage, host: str, port: int) -> Any:
    """Return a gRPC server for a storage, not started yet.

    Raises:
        UserError: the port is not free.
    """
    import grpc
    from optuna.storages._grpc.auto_generated import api_pb2_grpc
    from optuna.storages._grpc.servicer import OptunaStorageProxyService

    mutexes = Mutexes()
    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS), options=[("grpc.so_reuseport", 0)])
    api_pb2_grpc.add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)
    calls: list[tuple[str, Callable[..., Any]]] = [("Acquire", mutexes.acquire), ("Release", mutexes.release)]
    if isinstance(storage, Database):
        storage.age_s = 0.0  # a holder of the mutex reads what has just been written

        def write(sent: list[list[Any]]) -> bool:
            storage.write(received(sent))
            return True  # gRPC takes None for a failure

        calls.append(("Write", write))
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda words, context, do=do: do(*words), json.loads, lambda done: json.dumps(done).encode()
        )
        for name, do in calls
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UserError(f"host={host} port={port} is not free: give another port, as in port={port + 1}") from error
    return server
