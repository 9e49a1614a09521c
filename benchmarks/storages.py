"""Trials a second with several workers on one study, by storage: what the storage itself can carry.

python benchmarks/storages.py [--storages journal SQLite PostgreSQL proxy] [--workers 1 2 4 8]
python benchmarks/storages.py --quick    does it run at all: a few trials of two workers in files

A trial sleeps for 50 ms and reports 20 times, so that workers cost no processor time but for the storage and what a
sweep does around a trial: decide, propose, record. Each worker is a process of its own, as in a sweep, and gets as many
trials as the one worker. The rate is from the first trial's start to the last one's end. PostgreSQL is a server that
is started here, which syncs to disk; the proxy is `python src/study.py serve` before such a server.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import optuna  # noqa: E402
import psutil  # noqa: E402
from optuna.distributions import FloatDistribution  # noqa: E402

from hypermap.search.space import Parameter, Space  # noqa: E402
from hypermap.search.storage import open_storage  # noqa: E402
from hypermap.search.study import StudyConfig, completed, open_study  # noqa: E402
from hypermap.search.trial import RunningTrial  # noqa: E402
from hypermap.search.worker import Values, work  # noqa: E402
from support.postgres import postgres, why_not  # type: ignore[import-not-found]  # noqa: E402

STORAGES = ("journal", "SQLite", "PostgreSQL", "proxy")
REPORTS = 20
SPACE = Space(tuple(Parameter(f"x{k}", f"x{k}", "", FloatDistribution(1e-4, 1.0, log=True)) for k in range(4)))
FORKS = multiprocessing.get_context("forkserver")  # workers that share no connection, and import nothing again


@dataclass(frozen=True)
class Spent:
    """What a worker spent on its trials, from the start of its first one: seconds."""

    trials: int
    wall: float
    asleep: float
    processor: float


def plan(place: str, folder: Path, trials: int) -> StudyConfig:
    """The settings of a random search without pruning."""
    return StudyConfig(
        "storages", place, folder, SPACE, ("minimize",), (),
        {"_target_": "hypermap.search.counter_samplers.Random"}, {"_target_": "optuna.pruners.NopPruner"}, trials, 0,
        horizon=REPORTS,
    )  # fmt: skip


def begin(place: str, folder: Path, trials: int) -> None:
    """Create the study, in a process of its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    open_study(plan(place, folder, trials), {"identity": {}}, force=False)


def one_worker(place: str, folder: Path, trials: int, seconds: float, spent: Any) -> None:
    """Run trials until there are enough, and tell what it took."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    naps: list[float] = []
    began: list[tuple[float, float]] = []

    def task(trial: RunningTrial, values: Values) -> float:
        began.append((time.perf_counter(), time.process_time()))
        for step in range(1, REPORTS + 1):
            before = time.perf_counter()
            time.sleep(seconds / REPORTS)
            naps.append(time.perf_counter() - before)
            trial.report(step, float(values["x0"]) / step)
        return float(values["x0"])

    work(plan(place, folder, trials), task)
    if began:
        wall, processor = time.perf_counter() - began[0][0], time.process_time() - began[0][1]
        spent.put(Spent(len(began), wall, sum(naps), processor))
    else:
        spent.put(Spent(0, 0.0, 0.0, 0.0))


def read(place: str, folder: Path, rate: Any) -> None:
    """Tell how many trials a second there were, in a process of its own."""
    study = optuna.load_study(study_name="storages", storage=open_storage(place))
    done = completed(study.trials)
    begun = min(trial.datetime_start for trial in done if trial.datetime_start)
    rate.put(len(done) / (max(t.datetime_complete for t in done if t.datetime_complete) - begun).total_seconds())


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Start a storage; yield its place, and the ids of its servers' processes."""
    if kind == "journal":
        yield str(folder / "journal.log"), []
    elif kind == "SQLite":
        yield f"sqlite:///{folder}/study.db", []
    else:
        with postgres(durable=True) as url, ExitStack() as running:
            mine = [process.pid for process in psutil.Process().children() if process.name() == "postgres"]
            if kind == "proxy":
                url, served = running.enter_context(proxy(url))
                mine.append(served)
            yield url, mine


@contextmanager
def proxy(url: str) -> Iterator[tuple[str, int]]:
    """Serve a database; yield the proxy's place, and its process's id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, str(ROOT / "src/study.py"), "serve", f"storage={url}", "host=127.0.0.1", f"port={port}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it serves
        yield f"grpc://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def processor(pids: list[int]) -> float:
    """The processor seconds of processes and their children so far."""
    total = 0.0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children()):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def in_process(do: Any, *words: Any) -> None:
    """Call a function in a process of its own."""
    process = FORKS.Process(target=do, args=words)
    process.start()
    process.join()
    assert process.exitcode == 0, do


def measure(kind: str, workers: int, trials: int, seconds: float) -> tuple[float, list[float]]:
    """Return trials a second; and the other columns of the table."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.chdir(folder)  # for the locks of a study on a server
        with storage(kind, folder) as (place, servers):
            in_process(begin, place, folder, trials * workers)
            before, spent = processor(servers), FORKS.SimpleQueue()
            group = [
                FORKS.Process(target=one_worker, args=(place, folder, trials * workers, seconds, spent))
                for _ in range(workers)
            ]
            for process in group:
                process.start()
            all_spent = [spent.get() for _ in group]
            for process in group:
                process.join()
            served = processor(servers) - before
            rate = FORKS.SimpleQueue()
            in_process(read, place, folder, rate)
            count = sum(one.trials for one in all_spent)
            busy = 1 - sum(one.asleep for one in all_spent) / sum(one.wall for one in all_spent)
            client = sum(one.processor for one in all_spent)
            os.chdir(ROOT)
            return rate.get(), [1000 * client / count, 1000 * served / count, 100 * busy]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=STORAGES)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=60, help="of each worker")
    parser.add_argument("--milliseconds", type=float, default=50.0, help="of a trial")
    parser.add_argument("--quick", action="store_true", help="a smoke run: three trials of each of two workers, files")
    given = parser.parse_args()
    kinds, every, trials = (STORAGES[:2], [1, 2], 3) if given.quick else (given.storages, given.workers, given.trials)
    FORKS.set_forkserver_preload(["hypermap.search.worker", "sqlalchemy.orm", "optuna.storages._rdb.models"])
    print(f"Load average at the start: {os.getloadavg()[0]:.1f}\n")
    columns = ("workers", "trials/s", "times one", "processor ms a trial: worker", "server", "time beside training, %")
    print(f"| storage | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for kind in kinds:
        if kind in STORAGES[2:] and (reason := why_not()) is not None:
            print(f"{kind} {reason}", file=sys.stderr)
            continue
        first = None
        for workers in every:
            rate, others = measure(kind, workers, trials, given.milliseconds / 1000)
            first = first or rate / workers
            cells = [str(workers), f"{rate:.1f}", f"{rate / first:.2f}", *(f"{value:.1f}" for value in others)]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
