"""A race of trainers: each in processes of its own, called in turn, so that whatever else the machine does hits all.

No one's settings reach another, and a contender waits without a load until it is called.
"""

import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

CACHE = ROOT / "data" / "cache"
ROUNDS = 5
SECONDS = 1.0  # the least that one measurement takes, in whole epochs
QUICK_ROWS = 1024


@dataclass(frozen=True)
class Work:
    """What every contender gets: the same configuration and, by way of the prepared folder, the same rows."""

    configuration: dict[str, Any]
    prepared: Path | None  # None: random rows of MNIST's shape
    rows: int | None  # only so many; None: all


@dataclass(frozen=True)
class Ready:
    """A trainer that waits for its call.

    Attributes:
        train: trains so many epochs and returns the seconds that they took.
        rows: of an epoch.
        device: that it trains on.
        configurations: trained at once.
        threads: that it trains with; None for torch's number.
        detail: what is to be told of it beside its name.
    """

    train: Callable[[int], float]
    rows: int
    device: str
    configurations: int = 1
    threads: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Entry:
    """Who is to race: `build` makes it ready, in a process of its own, and must be fit for pickling.

    Attributes:
        threads: torch's, set before anything else; None for torch's own choice.
        workers: processes that train at once; their rates are added up.
    """

    name: str
    build: Callable[[Work], Ready]
    threads: int | None = None
    workers: int = 1


@dataclass
class Contender:
    """An entry whose processes run, and what was measured of it."""

    name: str
    connections: list[Connection]
    processes: list[Any]
    threads: int = 0
    device: str = ""
    detail: str = ""
    rows: int = 0
    samples: int = 0  # of an epoch of one worker: configurations × rows
    epochs: int = 1  # in one measurement
    refused: str = ""  # why it cannot take part
    rates: list[float] = field(default_factory=list)  # configurations × samples a second, one a round

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rates)

    def await_ready(self) -> None:
        """Hear from each worker that it is ready, or why it is not."""
        for connection in self.connections:
            try:
                said = connection.recv()
            except EOFError:
                said = "its process died"
            if isinstance(said, str):
                self.refused = said
            else:
                self.threads, self.device, self.detail, self.rows, self.samples = said

    def measure(self) -> float:
        """Train for one measurement, all workers at once; configurations × samples a second."""
        for connection in self.connections:
            connection.send(self.epochs)
        return sum(self.samples * self.epochs / float(connection.recv()) for connection in self.connections)


def serve(connection: Connection, entry: Entry, work: Work) -> None:
    """A worker's process: build, say where it runs, then train whenever told how many epochs."""
    import torch

    from hypermap.core.errors import UserError

    if entry.threads is not None:
        torch.set_num_threads(entry.threads)
    try:
        ready = entry.build(work)
    except UserError as error:
        connection.send(str(error))
        return
    threads, samples = ready.threads or torch.get_num_threads(), ready.rows * ready.configurations
    connection.send((threads, ready.device, ready.detail, ready.rows, samples))
    while (epochs := connection.recv()) is not None:
        connection.send(ready.train(epochs))


@contextmanager
def contenders(entries: Sequence[Entry], work: Work) -> Iterator[list[Contender]]:
    """Every entry that can take part, ready, and who cannot, with the reason."""
    spawn = multiprocessing.get_context("spawn")
    entrants: list[Contender] = []
    try:
        for entry in entries:
            entrants.append(contender := Contender(entry.name, [], []))
            for _ in range(entry.workers):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=serve, args=(theirs, entry, work), daemon=True)
                process.start()
                theirs.close()  # so that a contender that dies is an end of file here
                contender.connections.append(ours)
                contender.processes.append(process)
        for contender in entrants:
            contender.await_ready()
        yield entrants
    finally:
        for contender in entrants:
            for process in contender.processes:
                process.terminate()


def race(entrants: Sequence[Contender], rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    """A round that does not count and sets the epochs of a measurement; then the rounds, contender by contender."""
    for contender in entrants:
        contender.measure()
        a_worker = contender.measure() / len(contender.connections)
        contender.epochs = max(1, math.ceil(seconds * a_worker / contender.samples))
    for _ in range(rounds):
        for contender in entrants:
            contender.rates.append(contender.measure())


def prepare(overrides: Sequence[str], quick: bool) -> tuple[Work, str]:
    """The configuration of the defaults and these, and its data, prepared once for all; also says which data."""
    from hypermap.config.compose import compose
    from hypermap.core.paths import DOWNLOADS
    from hypermap.datasets.download import given_folder
    from hypermap.datasets.prepare import find_or_prepare

    configuration = compose(overrides)
    data = {key: value for key, value in configuration["data"].items() if key != "name"}
    rows = QUICK_ROWS if quick else None
    if data["_target_"].endswith("mnist") and not given_folder(None) and not any((DOWNLOADS / "mnist").glob("*")):
        return Work(configuration, None, rows), "random, of MNIST's shape (HYPERMAP_DATA names a folder that has MNIST)"
    return Work(configuration, find_or_prepare(data, [], CACHE), rows), "the real data"


def is_installed(package: str) -> bool:
    """Whether a peer can be raced against."""
    return importlib.util.find_spec(package) is not None


def machine_lines(*packages: str) -> list[str]:
    """The processor, its cores and their load, and the versions of these packages, where they are installed."""
    names = [name for name in ("torch", *packages, "numpy") if is_installed(name)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    told = os.environ.get("OMP_NUM_THREADS")
    return [
        f"{processor()}, {os.cpu_count()} cores{load}" + (f", OMP_NUM_THREADS={told}" if told else ""),
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def processor() -> str:
    """The processor's name, where the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
