"""Where a sweep of many workers stops: a simulation of discrete events with measured costs, by storage.

python benchmarks/scale.py [--minutes 1 10] [--cores 4] [--measure]
python benchmarks/scale.py --quick    does it run at all: ten workers, a hundred trials

A worker claims a trial in the study's mutex: it reads what has changed, decides and draws, and creates the trial. Then
it trains, reports, and records the end. Four times per lease it raises its counter and reads those of all workers. Each
call costs its caller some processor time, and the server some. Workers have a core each: the question is what the
storage carries. A database's server has a few cores; a proxy has one more before it, since it is written in Python. A
journal has no server, but one writer at a time, and each worker parses the lines of all.

`--measure` measures the costs here, instead of using those below; the time to decide is from `ten_thousand.py`.
"""

import argparse
import heapq
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from storages import REPORTS, SPACE, begin, processor, storage  # also finds the package

LEASE_S = 60.0
BEATS = 4
BATCH_S = 0.2  # within which reports are written together
WORKERS = {10: 1000, 100: 3000, 1000: 6000}  # and their trials: enough to see at which rate they go on
ALL = 100_000  # trials, of which the time is told
KINDS = ("journal", "PostgreSQL", "proxy")
DECIDE_MS = (20.0, 300.0)  # random search with some thousand trials, and the default one with 10,000


@dataclass(frozen=True)
class Cost:
    """Milliseconds of processor time of one call."""

    client: float
    server: float


@dataclass(frozen=True)
class Costs:
    """What a storage's calls cost.

    Attributes:
        claim: the mutex, and what has changed, beside the trials.
        trial: more for each trial that is read again: one that runs, if the storage is a database, or has just ended.
        create: a trial with its parameters.
        report: the values of a moment.
        finish: a trial.
        beat: to raise a counter, and read the others'.
        counter: more for each worker.
    """

    claim: Cost
    trial: Cost
    create: Cost
    report: Cost
    finish: Cost
    beat: Cost
    counter: Cost


# On two cores of an AMD EPYC that were busy with other work, too: an idle machine takes about half.
MEASURED = {
    "journal": Costs(
        claim=Cost(0.08, 0), trial=Cost(1.2, 0), create=Cost(0, 5.2), report=Cost(0, 2.7), finish=Cost(0, 3.2),
        beat=Cost(0, 0), counter=Cost(0, 0),
    ),
    "PostgreSQL": Costs(
        claim=Cost(2.5, 0.9), trial=Cost(0.39, 0.051), create=Cost(7.9, 2.9), report=Cost(1.1, 0.8),
        finish=Cost(3.2, 0.5), beat=Cost(3.3, 0.9), counter=Cost(0.007, 0.0005),
    ),
    "proxy": Costs(
        claim=Cost(1.9, 4.1), trial=Cost(0.076, 0.32), create=Cost(4.8, 16.5), report=Cost(1.1, 3.0),
        finish=Cost(1.4, 4.8), beat=Cost(1.7, 6.5), counter=Cost(0.006, 0.012),
    ),
}  # fmt: skip


class Resource:
    """Serves up to `capacity` at a time, in the order in which they came."""

    def __init__(self, capacity: int) -> None:
        self.free = self.capacity = capacity
        self.waiting: deque[Generator[Any, None, None]] = deque()
        self.busy = self.since = 0.0  # seconds of all places, until when

    def change(self, now: float, taken: int) -> None:
        """Take places, or give them back."""
        self.busy += (now - self.since) * (self.capacity - self.free)
        self.since, self.free = now, self.free - taken


def simulate(costs: Costs, workers: int, trials: int, trial_s: float, cores: int, decide_ms: float) -> list[float]:
    """Return trials a second; the share of them without any waiting, and of the server's and the mutex's time in use.

    Events are (time, number, process); a process yields seconds to wait, or a resource to take or to give back.
    """
    drawn, numbers = random.Random(0), count()
    events: list[tuple[float, int, Generator[Any, None, None]]] = []
    server, mutex = Resource(cores), Resource(1)
    state = {"left": trials, "running": 0, "ended": 0, "at_work": workers}
    interval = max(trial_s / REPORTS, BATCH_S)
    rereads = costs.trial.server > 0

    def call(cost: Cost, times: float = 1.0) -> Generator[Any, None, None]:
        yield cost.client * times / 1000
        if cost.server:
            yield server, 1
            yield cost.server * times / 1000
            yield server, -1

    def worker() -> Generator[Any, None, None]:
        seen = 0
        yield drawn.uniform(0, min(trial_s, 60.0))  # they do not start all at once
        while state["left"] > 0:
            if not rereads:  # a journal's lines are parsed before others have to wait
                ended = state["ended"]
                yield from call(costs.trial, ended - seen)
                seen = ended
            yield mutex, 1
            yield from call(costs.claim)
            yield from call(costs.trial, state["ended"] - seen + (state["running"] if rereads else 0))
            seen = state["ended"]
            yield decide_ms / 1000
            yield from call(costs.create)
            state["left"] -= 1
            state["running"] += 1
            yield mutex, -1
            length = trial_s * drawn.uniform(0.5, 1.5)
            for _ in range(int(length / interval)):
                yield interval
                yield from call(costs.report)
            yield length % interval
            yield from call(costs.finish)
            state["running"] -= 1
            state["ended"] += 1
        state["at_work"] -= 1

    def lease() -> Generator[Any, None, None]:
        yield drawn.uniform(0, LEASE_S / BEATS)
        while state["at_work"] > 0:
            yield from call(costs.beat)
            yield from call(costs.counter, workers)
            yield LEASE_S / BEATS

    def go_on(process: Generator[Any, None, None], now: float) -> None:
        for asked in process:
            if isinstance(asked, float):
                heapq.heappush(events, (now + asked, next(numbers), process))
                return
            resource, places = asked
            if places < 0 and resource.waiting:  # straight to the next
                heapq.heappush(events, (now, next(numbers), resource.waiting.popleft()))
            elif places > 0 and not resource.free:
                resource.waiting.append(process)
                return
            else:
                resource.change(now, places)

    for _ in range(workers):
        go_on(worker(), 0.0)
        if rereads:
            go_on(lease(), 0.0)
    now = half = 0.0
    begun = 0
    while events:
        now, _, process = heapq.heappop(events)
        go_on(process, now)
        if not half and state["ended"] >= trials / 5:  # the start is over
            half, begun = now, state["ended"]
            for resource in (server, mutex):
                resource.change(now, 0)
                resource.busy = 0.0
        if state["left"] == 0:
            break
    for resource in (server, mutex):
        resource.change(now, 0)
    rate = (state["ended"] - begun) / (now - half)
    used = [resource.busy / (resource.capacity * (now - half)) for resource in (server, mutex)]
    return [rate, rate / (workers / trial_s), *used]


def measure(kind: str, others: int = 200, each: int = 100) -> Costs:
    """Measure the costs of a storage."""
    import optuna

    from hypermap.search.database import Database
    from hypermap.search.storage import batching, open_storage
    from hypermap.search.study import mutex

    with tempfile.TemporaryDirectory() as made, storage(kind, Path(made)) as (place, servers):
        os.chdir(made)
        begin(place, Path(made), 10**6)
        sampler = optuna.samplers.RandomSampler(0)
        mine, other = (
            optuna.load_study(study_name="storages", storage=open_storage(place), sampler=sampler) for _ in range(2)
        )

        def costs(steps: list[Callable[[], Any]], times: int, *, writes: bool = False) -> list[Cost]:
            """Return what each of some steps costs, which are done one after the other again and again."""
            taken = [[0.0, 0.0, 0.0] for _ in steps]
            for _ in range(times):
                for step, of in zip(steps, taken, strict=True):
                    served, wall, client = processor(servers), time.perf_counter(), time.process_time()
                    step()
                    client, wall = time.process_time() - client, time.perf_counter() - wall
                    for k, seconds in enumerate((client, processor(servers) - served, wall)):
                        of[k] += 1000 * seconds / times
            if servers:
                return [Cost(client, server) for client, server, _ in taken]
            # A journal: one waits for the disk, too, and writers for each other.
            return [Cost(0.0, wall) if writes else Cost(wall, 0.0) for *_, wall in taken]

        def cost(do: Callable[[], Any], times: int, *, writes: bool = False) -> Cost:
            return costs([do], times, writes=writes)[0]

        def more(after: Cost, before: Cost, of: int) -> Cost:
            return Cost(max(0.0, after.client - before.client) / of, max(0.0, after.server - before.server) / of)

        def claim() -> None:
            with mutex(mine):
                mine.get_trials(deepcopy=False)

        def ask(study: optuna.Study) -> Any:
            with batching(study._storage):
                trial = study.ask()
                SPACE.suggest(trial)
            return trial

        def report(trial: Any, step: int) -> None:
            with batching(trial.study._storage):
                trial.report(1.0, step)
            if isinstance(trial.study._storage, Database):
                trial.study._storage.flush()

        def beat() -> None:
            mine._storage.set_study_system_attr(mine._study_id, "beat:mine", 1)
            mine._storage.get_study_system_attrs(mine._study_id)

        own: list[Any] = []
        life = [lambda: own.append(ask(mine)), lambda: report(own[-1], 1), lambda: mine.tell(own.pop(), 1.0)]
        for do in (*life, claim, beat):  # what happens only once
            do()
        create, reporting, finish = costs(life, each, writes=True)
        alone = cost(claim, each)
        beats = cost(beat, each, writes=True)
        running = [ask(other) for _ in range(others)]
        for trial in running:
            with batching(other._storage):
                for step in range(1, REPORTS + 1):
                    trial.report(1.0, step)
        if isinstance(other._storage, Database):
            other._storage.flush()
        many = cost(claim, 10 if servers else 1)
        for worker in range(others):
            mine._storage.set_study_system_attr(mine._study_id, f"beat:worker-{worker}", 1)
        counters = cost(beat, each, writes=True)
        return Costs(alone, more(many, alone, others), create, reporting, finish, beats, more(counters, beats, others))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 10.0], help="that a trial takes")
    parser.add_argument("--cores", type=int, default=4, help="of the database's server")
    parser.add_argument("--decide", nargs="+", type=float, default=DECIDE_MS, help="ms to decide and draw")
    parser.add_argument("--measure", action="store_true", help="measure the costs here")
    parser.add_argument("--quick", action="store_true", help="a smoke run: ten workers, a hundred trials")
    given = parser.parse_args()
    every = {10: 100} if given.quick else WORKERS
    costs = {kind: measure(kind) for kind in KINDS} if given.measure else MEASURED
    names = [field.name for field in fields(Costs)]
    print(f"| ms of client + server | {' | '.join(names)} |\n|---|{'--:|' * len(names)}")
    for kind, of in costs.items():
        each = (getattr(of, name) for name in names)
        print(f"| {kind} | {' | '.join(f'{one.client:.3g} + {one.server:.3g}' for one in each)} |", flush=True)
    rates = ("trials/s", f"h for {ALL:,}", "of what is possible, %")
    columns = ("minutes", "ms to decide", *rates, "server in use, %", "mutex in use, %")
    print(f"\n| storage, workers | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for minutes in given.minutes[: 1 if given.quick else None]:
        for decide_ms in given.decide[: 1 if given.quick else None]:
            for kind, of in costs.items():
                cores = given.cores if kind == "PostgreSQL" else 1
                for workers, trials in every.items():
                    found = simulate(of, workers, trials, 60 * minutes, cores, decide_ms)
                    rate, *shares = found
                    cells = [f"{minutes:g}", f"{decide_ms:g}", f"{rate:.2f}", f"{ALL / rate / 3600:.0f}"]
                    cells += [f"{100 * share:.0f}" for share in shares]
                    print(f"| {kind}, {workers} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
