"""A training on several processes (`trainer.processes`), from the view of the one that trains.

It has rank 0 and the whole training loop: it alone writes files, reports epochs and decides. The others
(`hypermap.training.rank`) hold the same network and the same rows, and take the steps that it announces. So no decision
has to be shared, and a process of a sweep, of joblib or of Ray trains on several without being one of them. They are
fresh interpreters, which are kept for the next training; under torchrun they are those that it has started.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from hypermap.core import device as machine
from hypermap.core.errors import ProcessLost
from hypermap.core.launch import Launched, launched
from hypermap.data.manifest import Manifest
from hypermap.training.backends.backend import StepOutputs, forward_all
from hypermap.training.backends.data_parallel import DataParallel
from hypermap.training.connection import Connection, is_of_connection
from hypermap.training.state import TrainState

DYING_S = 15.0  # until a process whose connection has closed is gone
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
AGAIN = "Run the same command to resume from the last epoch."


@dataclass(frozen=True)
class Training:
    """What other processes build a member from.

    Attributes:
        configuration: every group.
        manifest: of the fold's rows.
        seed: of the training.
        threads: CPU threads of all processes together.
    """

    configuration: Mapping[str, Any]
    manifest: Manifest
    seed: int
    threads: int


class OnSeveral:
    """The backend of rank 0: every process takes the steps (`DataParallel`), and rank 0 alone evaluates.

    Args:
        members: a single one.
        inputs: ``(rows, *shape)``, on the device.
        targets: ``(rows, ...)``.
        training: the same for the other processes.
        processes: that take part.
    """

    def __init__(
        self,
        members: Sequence[TrainState],
        inputs: Tensor,
        targets: Tensor,
        *,
        training: Training,
        processes: "Processes",
    ) -> None:
        (self.member,) = members
        self.inputs, self.targets = inputs, targets
        self.training, self.processes = training, processes
        self.own: DataParallel | None = None

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """See `hypermap.training.backends.backend.Backend`."""
        with self.processes.together() as processes:
            if self.own is None:  # not on construction: an interrupted member resumes after it
                self.own = self._begin()
            processes.announce("steps", batch=batch)
            # An epoch begins with the draws of rank 0, as after an interruption.
            draws = {"noise": self.member.augment_rng.get_state(), "dropout": self.member.dropout_rng.get_state()}
            processes.give({"rows": rows[0], "rates": rates[0], **draws})
            outputs = self.own.train_steps(rows[0], batch, rates[0])
            processes.asked_to_stop |= processes.any_of(False)
            processes.forget()
        return outputs

    def eval_outputs(self, inputs: Tensor, members: Sequence[int] = (0,)) -> Tensor:
        """See `hypermap.training.backends.backend.Backend`."""
        with machine.on_threads(self.training.threads):
            return forward_all(self.member.parts.model, inputs, self.member.settings.precision)[None]

    def _begin(self) -> DataParallel:
        """Give the other processes the member and its rows."""
        own, state, training = DataParallel(self.member, self.inputs, self.targets), self.member.state(), self.training
        self.processes.announce(
            "begin",
            configuration=training.configuration,
            manifest=json.loads(training.manifest.content()),
            seed=training.seed,
            threads=machine.share_of_threads(training.threads, self.processes.size),
            record=state.record,
        )
        self.processes.give({f"state/{name}": tensor for name, tensor in state.tensors.items()})
        self.processes.give({"inputs": self.inputs, "targets": self.targets})
        return own


class Processes(Connection):
    """The processes of a training, for rank 0.

    Args:
        store: see `Connection`.
        size: number of processes.
        started: the others, if this one has started them.
        gpus: whether each has one.

    Attributes:
        asked_to_stop: whether one of the others was sent SIGTERM.
    """

    def __init__(self, store: Store, size: int, started: Sequence["_Started"] = (), *, gpus: bool = False) -> None:
        super().__init__(store, 0, size)
        self.started, self.gpus, self.pid = started, gpus, os.getpid()
        self.asked_to_stop = self.joined = self.closed = False

    @property
    def usable(self) -> bool:
        """Whether they can take part in another training of this process."""
        alive = all(one.process.poll() is None for one in self.started)
        return self.pid == os.getpid() and not self.closed and alive

    @contextmanager
    def together(self) -> Iterator["Processes"]:
        """Do something that all processes take part in; if it is left with an error, they are ended.

        Raises:
            ProcessLost: one of them has died.
        """
        try:
            if not self.joined:
                self._await_others()
                self.announce("join", gpus=self.gpus)
                self.join(gpus=self.gpus)
                self.joined = True
            yield self
        except BaseException as error:
            lost = self._lost(error)
            self.close()
            if lost is not None:
                raise lost from error
            raise

    def close(self) -> None:
        """End the others."""
        self.closed = True
        for one in self.started:
            one.end()
        if self.joined:
            self.joined = False
            with contextlib.suppress(RuntimeError):
                distributed.destroy_process_group()

    def _await_others(self) -> None:
        """Wait until the others are there, unless one dies first."""
        while self.started and not self.store.check([f"here/{rank}" for rank in range(1, self.size)]):
            if not self.usable:
                raise distributed.DistNetworkError("a process ended at its start")
            time.sleep(0.02)
        for one in self.started if self.gpus else ():
            threading.Thread(target=self._watch, args=(one,), daemon=True).start()

    def _watch(self, one: "_Started") -> None:
        """Abort operations on GPUs if a process ends, as NCCL notices late; gloo does so at once."""
        one.process.wait()
        if not self.closed:
            with contextlib.suppress(RuntimeError, AttributeError):
                distributed.group.WORLD._get_backend(torch.device("cuda")).abort()  # type: ignore[union-attr]

    def _lost(self, error: BaseException) -> ProcessLost | None:
        """Return the error that says which process has died, if that is what an error comes from."""
        if not is_of_connection(error):
            return None
        end = time.monotonic() + DYING_S
        while time.monotonic() < end:
            for one in self.started:
                if one.process.poll() is not None:
                    return ProcessLost(f"process {one.rank + 1} of {self.size} of this training {one.how()} {AGAIN}")
            if not self.started:
                break
            time.sleep(0.02)
        reason = str(error).strip().splitlines()[0]
        return ProcessLost(f"the {self.size} processes of this training lost their connection ({reason}). {AGAIN}")


class _Started:
    """A process that this one has started."""

    def __init__(self, rank: int, size: int, port: int) -> None:
        self.rank = rank
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  for as long as the process
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)  # modules of one's own are found there
        words = [sys.executable, "-P", "-m", "hypermap.training.rank", str(port), str(rank), str(size)]
        with _deferred_signals():
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                env={**os.environ, "PYTHONPATH": paths},
            )

    def how(self) -> str:
        """Return how it ended, as the rest of a sentence about it."""
        code = self.process.returncode
        if code < 0:
            why = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            return f"was ended by {signal.Signals(-code).name}{why}."
        self.errors.seek(0)
        *_, last = ["no message", *self.errors.read().decode(errors="replace").strip().splitlines()]
        return f"ended with status {code}: {last.rstrip('.')}."

    def end(self) -> None:
        """End it at once: it has nothing to save."""
        self.process.kill()
        self.process.wait()
        self.errors.close()


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Start processes with Ctrl-C and SIGTERM held back, until they have handlers for these."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


_kept: Processes | None = None


def processes(size: int, device: torch.device) -> Processes:
    """Return the processes of a training: those of the one before, if they can take part in another.

    Raises:
        ProcessLost: those that torchrun has started are gone.
    """
    global _kept
    gpus = device.type == "cuda"
    if _kept is not None and _kept.usable and (_kept.size, _kept.gpus) == (size, gpus):
        return _kept
    if (place := launched()) is not None:
        if _kept is not None:
            raise ProcessLost("another process of this training has ended. Run the same command to resume.")
        _kept = Processes(meeting(place), size, gpus=gpus)
        return _kept
    if _kept is not None and _kept.pid == os.getpid():
        _kept.close()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK.get(sys.platform, ""))  # they are on this machine
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    _kept = Processes(store, size, [_Started(rank, size, store.port) for rank in range(1, size)], gpus=gpus)
    atexit.register(_kept.close)
    return _kept


@cache
def meeting(place: Launched) -> Store:
    """Return the store of the processes that torchrun has started."""
    found = next(distributed.rendezvous("env://", place.rank, place.size))  # type: ignore[attr-defined]
    store: Store = PrefixStore("hypermap", found[0])
    return store


def dismiss(place: Launched) -> None:
    """Tell the processes that torchrun has started that there is no other training."""
    with contextlib.suppress(RuntimeError):
        (_kept or Processes(meeting(place), place.size)).announce("end")
