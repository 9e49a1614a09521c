"""The same sweep under random kills: is each trial finished once, and as in a quiet run?

python benchmarks/faults.py [--kills 100] [--only joblib Ray …] [--seed 0]
python benchmarks/faults.py --quick    three faults of joblib's workers and, if it is installed, of a PostgreSQL

A sweep of 40 trials of eight reports each runs on every engine. Meanwhile, at random moments (seeded: after so many
reports, and a fraction of a second), a worker, all processes of the command, the command alone, a node, a whole machine
or the sessions of the database are killed, or the database is away for a while. A command that ends is given again
until the study has its 40 trials. Then its trials are compared with those of a quiet run with one worker: numbers,
parameters, values and reports.

`train` sweeps are `python src/train.py -m` in a clone, on digits, with a DVC experiment for each trial; `auto` ones
with the sampler and the pruner that are the default. The others are a Hydra application of a few lines, which notes
each step, so that two processes that train a trial at the same time are seen.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import optuna  # noqa: E402
from optuna.trial import FrozenTrial, TrialState  # noqa: E402

from hypermap.core.dvc_experiments import names  # noqa: E402
from hypermap.search.attempts import Attempt  # noqa: E402
from hypermap.search.storage import open_storage  # noqa: E402
from support import postgres, slurm  # type: ignore[import-not-found] # noqa: E402
from support.ray_cluster import VARIABLES, ray_cluster  # type: ignore[import-not-found] # noqa: E402

TRIALS, STEPS, STEP_S = 40, 8, 0.08
LEASE_S = 5.0
STUDY = "study"
MOST_COMMANDS = 80
LIMIT_S = 600.0
ERRORS = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)+(.*)$", re.MULTILINE
)  # the line with the error
TASK = """
import os, time

import hydra

from hypermap.search.trial import current


@hydra.main(config_path="conf", config_name="config")
def task(config):
    trial = current()
    state = trial.folder / "state" / "step"
    done = int(state.read_text()) if state.exists() else 0
    loss = config.x ** 2 + config.y
    for step in range(1, config.steps + 1):  # reports from before are told again: they may have been lost on their way
        if step > done:
            time.sleep(config.step_s)
            with open("steps.txt", "a") as file:
                file.write(f"{trial.number} {step} {os.getpid()}\\n")
            state.parent.mkdir(parents=True, exist_ok=True)
            state.with_suffix(".new").write_text(str(step))
            os.replace(state.with_suffix(".new"), state)
        trial.report(step, loss + 1 / step)
    return loss


if __name__ == "__main__":
    task()
"""
RANDOM = ["hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none"]
TRAIN = [
    "optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.dropout=interval(0.0,0.5)", "model.hidden=[512]",
    f"trainer.epochs={STEPS}", "trainer.batch_size=16", "trainer.threads=1", "hydra.sweeper.report=false",
]  # fmt: skip


class Folder:
    """A folder in which the sweep's command is given: of the application, or a clone of this project."""

    def __init__(self, path: Path, *, train: bool, auto: bool, trials: int, step_s: float = STEP_S) -> None:
        self.path, self.train, self.trials = path, train, trials
        if train:
            _clone(path)
            self.words = ["src/train.py", "-m", *TRAIN]
        else:
            config = {
                "defaults": [{"override hydra/sweeper": "hypermap"}, "_self_"],
                "x": 0.0, "y": 0.0, "steps": STEPS, "step_s": step_s,
                "hydra": {"sweep": {"dir": f"studies/{STUDY}"}},
            }  # fmt: skip
            (path / "conf").mkdir(parents=True)
            (path / "conf/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            (path / "task.py").write_text(TASK)
            self.words = ["task.py", "-m", "x=interval(-1.0,1.0)", "y=interval(0.0,1.0)"]
        self.words += [f"hydra.sweeper.study_name={STUDY}", f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.seed=1"]
        self.words += [] if auto else RANDOM
        self.out = path.with_suffix(".out")

    def start(self, words: Sequence[str], variables: dict[str, str]) -> psutil.Popen:
        """Give the command."""
        with self.out.open("a") as out:
            return psutil.Popen(
                [sys.executable, *self.words, *words],
                cwd=self.path,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def at_work(self, trials: Sequence[FrozenTrial]) -> dict[int, psutil.Process]:
        """Return the processes that train, by trial, without those whose trial has not come further since a death."""
        found = {}
        for path in self.path.glob("**/.locks-*/attempt-*.json"):
            number = int(path.stem.removeprefix("attempt-"))
            attempt = Attempt.read(path.parent, number)
            if attempt is None or not attempt.pid or not psutil.pid_exists(attempt.pid) or number >= len(trials):
                continue
            if attempt.deaths + attempt.deaths_with_all == 0 or (trials[number].last_step or 0) > attempt.step:
                found[number] = psutil.Process(attempt.pid)
        return found


def _clone(path: Path) -> None:
    """Make a clone of the working tree, committed."""
    path.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "As it is"]):
        identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com"]
        subprocess.run(["git", *identity, *words], cwd=path, check=True, capture_output=True)


@dataclass
class Engine:
    """Where a sweep runs, and what can be killed there.

    Attributes:
        folders: in each of which the command is given.
        words: of the command, beyond those that are the same everywhere.
        storage: of the study.
        faults: by name; each is called with the sweep, and the number of a folder.
        variables: of the command's environment.
        between: called again and again.
    """

    folders: list[Folder]
    words: list[str]
    storage: str
    faults: "dict[str, Fault]"
    variables: dict[str, str] = field(default_factory=dict)
    between: Callable[[], None] = lambda: None


class Sweep:
    """One sweep under faults."""

    def __init__(self, engine: Engine, chance: random.Random) -> None:
        self.engine, self.chance = engine, chance
        self.given = 0
        self.back = [0.0] * len(engine.folders)  # when each folder's command may be given again
        self.study: optuna.Study | None = None
        self.commands = [self.give(folder) for folder in engine.folders]

    def run(self, kills: int) -> Counter[str]:
        """Run it to its end; return how often which fault happened."""
        made: Counter[str] = Counter()
        for name in islice(_forever(sorted(self.engine.faults), self.chance), kills):
            which = self.chance.randrange(len(self.commands))
            self.wait(self.after(self.chance.choice([0, 1, 2, 3, 5, 8])))
            if name not in GENTLE:  # a trial whose process dies three times without a step between has failed
                self.wait(lambda: self.at_work(which), 20.0)  # noqa: B023
            time.sleep(self.chance.uniform(0.0, 0.3))
            if self.is_done():
                break
            self.engine.faults[name](self, which)
            made[name] += 1
        self.wait(lambda: False)
        return made

    def after(self, reports: int) -> Callable[[], bool]:
        """Return a function that returns whether there are so many reports more than now; before the first, at once."""
        now = self.progress()
        return lambda: self.progress() >= now + reports

    def give(self, folder: Folder) -> psutil.Popen:
        """Give the command in a folder."""
        self.given += 1
        if self.given > MOST_COMMANDS:
            raise RuntimeError("the study does not come to its end")
        storage = f"hydra.sweeper.storage={self.engine.storage}"
        return folder.start([*self.engine.words, storage], self.engine.variables)

    def wait(self, holds: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        """Wait until something holds, or the study and its commands are finished; give commands that end again."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self.engine.between()
            running, done = [command.poll() is None for command in self.commands], self.is_done()
            if (done and not any(running)) or (not done and holds()):
                return
            for which, runs in enumerate(running):
                if not runs and not done and time.monotonic() >= self.back[which]:
                    self.commands[which] = self.give(self.engine.folders[which])
            time.sleep(0.05)
        if limit_s == LIMIT_S:
            raise RuntimeError(f"nothing has moved for {LIMIT_S:g} s")

    def at_work(self, which: int) -> dict[int, psutil.Process]:
        """Return the processes that train in a folder, as `Folder.at_work`."""
        return self.engine.folders[which].at_work(self.trials())

    def trials(self) -> list[FrozenTrial]:
        """Return the trials, as far as there are any."""
        if self.study is None and ("postgresql" in self.engine.storage or Path(self.file).exists()):
            with suppress(Exception):  # it is being made
                self.study = optuna.load_study(study_name=STUDY, storage=open_storage(self.engine.storage))
        return [] if self.study is None else self.study.get_trials(deepcopy=False)

    @property
    def file(self) -> str:
        """The file of the study."""
        return self.engine.storage.removeprefix("sqlite:///")

    def progress(self) -> int:
        """Return the number of reports."""
        return sum(len(trial.intermediate_values) for trial in self.trials())

    def is_done(self) -> bool:
        """Return whether all trials have ended."""
        trials = self.trials()
        return len(trials) >= self.engine.folders[0].trials and all(trial.state.is_finished() for trial in trials)


def _forever(names: Sequence[str], chance: random.Random) -> Iterator[str]:
    """Yield all names in a random order, again and again."""
    while True:
        yield from chance.sample(names, len(names))


# Faults

Fault = Callable[[Sweep, int], None]
GENTLE = {"restart", "outage", "sessions"}  # that kill no process of the sweep


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes at the same moment."""
    signal_all(processes, signal.SIGSTOP)
    signal_all(processes, signal.SIGKILL)


def signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes, as far as they still live."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def tree(command: psutil.Popen) -> list[psutil.Process]:
    """Return the processes of a command."""
    with suppress(psutil.NoSuchProcess):
        return [*command.children(recursive=True), command]
    return []


def worker(sweep: Sweep, which: int) -> None:
    """Kill a process that trains."""
    if found := sweep.at_work(which):
        kill([found[sweep.chance.choice(sorted(found))]])


def everything(sweep: Sweep, which: int) -> None:
    """Kill all processes of the command."""
    kill(tree(sweep.commands[which]))
    sweep.commands[which].wait()


def command(sweep: Sweep, which: int) -> None:
    """Kill the process that the user started, and no other."""
    kill([sweep.commands[which]])
    sweep.commands[which].wait()


def machine(sweep: Sweep, which: int) -> None:
    """Kill a whole machine, which comes back after its leases have ended."""
    everything(sweep, which)
    sweep.back[which] = time.monotonic() + 2 * LEASE_S


def suspend(sweep: Sweep, which: int) -> None:
    """Stop all processes of a machine for longer than a lease, and let them go on."""
    processes = tree(sweep.commands[which])
    signal_all(processes, signal.SIGSTOP)
    time.sleep(2 * LEASE_S)
    signal_all(processes, signal.SIGCONT)


def of_database(server: Any, away_s: float) -> dict[str, Fault]:
    """Return the faults of a PostgreSQL: a crash, an outage, and lost sessions."""

    def again(how: signal.Signals, pause_s: float) -> None:
        server.stop(how)
        time.sleep(pause_s)
        server.start()

    return {
        "restart": lambda sweep, which: again(postgres.IMMEDIATE, 0.0),
        "outage": lambda sweep, which: again(postgres.FAST, away_s),
        "sessions": lambda sweep, which: server.end_sessions(),
    }


# Engines: each makes its folder or folders from `make`

Make = Callable[[str], Folder]
LOCAL: dict[str, Fault] = {"worker": worker, "all": everything, "command": command}


@contextmanager
def one_worker(make: Make) -> Iterator[Engine]:
    """Yield a worker in the command's own process, with a journal."""
    folder = make("one")
    yield Engine([folder], [], str(folder.path / "journal.log"), {"all": everything})


@contextmanager
def one_worker_with_postgres(make: Make, away_s: float = 20.0) -> Iterator[Engine]:
    """Yield a worker in the command's own process, with a PostgreSQL."""
    with postgres.server() as server:
        yield Engine([make("one")], [], server.url, {"all": everything, **of_database(server, away_s)})


@contextmanager
def joblib(make: Make, storage: str = "{}/journal.log") -> Iterator[Engine]:
    """Yield two workers of joblib, with a journal."""
    folder = make("joblib")
    yield Engine([folder], ["hydra.sweeper.n_jobs=2"], storage.format(folder.path), LOCAL)


@contextmanager
def joblib_with_postgres(make: Make, away_s: float = 20.0, local: Mapping[str, Fault] = LOCAL) -> Iterator[Engine]:
    """Yield two workers of joblib, with a PostgreSQL."""
    with postgres.server() as server:
        faults = {**local, **of_database(server, away_s)}
        yield Engine([make("joblib")], ["hydra.sweeper.n_jobs=2"], server.url, faults)


@contextmanager
def machines(make: Make) -> Iterator[Engine]:
    """Yield two machines, which share nothing but a PostgreSQL."""
    with postgres.server() as server:
        own = {"machine": machine, "suspend": suspend, "worker": worker}
        faults = own | {name: fault for name, fault in of_database(server, 3 * LEASE_S).items() if name != "restart"}
        words = ["hydra.sweeper.n_jobs=2", "hydra/launcher=joblib", f"hydra.sweeper.lease={LEASE_S}"]
        yield Engine([make("first"), make("second")], words, server.url, faults)


@contextmanager
def ray(make: Make) -> Iterator[Engine]:
    """Yield a Ray cluster of a head and two nodes, with a journal."""
    folder = make("ray")
    with ray_cluster(folder.path.parent / "cluster") as cluster:

        def node(sweep: Sweep, which: int) -> None:
            cluster.remove_node(sweep.chance.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

        words = ["hydra/launcher=ray", "hydra.sweeper.n_jobs=2", f"hydra.launcher.ray.init.address={cluster.address}"]
        words += ["++hydra.launcher.ray.remote.max_retries=-1"]  # as in conf/ of this project
        faults: dict[str, Fault] = {"worker": worker, "node": node, "command": command}
        yield Engine([folder], words, str(folder.path / "journal.log"), faults, VARIABLES)


@contextmanager
def slurm_jobs(make: Make) -> Iterator[Engine]:
    """Yield a Slurm of two nodes, with a journal."""
    folder = make("slurm")
    with slurm.slurm(folder.path.parent / "daemons") as variables, ExitStack() as started:
        environment = os.environ | variables

        def ask(*words: str) -> list[str]:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
            return done.stdout.split()

        def signal_job(name: str) -> Callable[[Sweep, int], None]:
            def send(sweep: Sweep, which: int) -> None:
                if running := ask("squeue", "--noheader", "--states=RUNNING", "--format=%i"):
                    ask("scancel", f"--signal={name}", sweep.chance.choice(running))

            return send

        def node(sweep: Sweep, which: int) -> None:
            name = sweep.chance.choice(["node1", "node2"])
            words = ["slurmd", "-D", "-N", name]
            kill([process for process in psutil.process_iter() if _words(process)[-4:] == words])
            new = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.callback(new.wait)
            started.callback(new.terminate)

        def at_once() -> None:
            """Let requeued jobs start, which Slurm does after two minutes."""
            if time.monotonic() - asked[0] > 1.0:
                asked[0] = time.monotonic()
                for job in ask("squeue", "--noheader", "--states=PENDING", "--format=%i"):
                    ask("scontrol", "update", f"JobId={job}", "StartTime=now")

        asked = [0.0]
        words = ["hydra/launcher=submitit_slurm", "hydra.sweeper.n_jobs=2", "hydra.launcher.timeout_min=30"]
        own = {"job killed": signal_job("KILL"), "preempted": signal_job("USR2"), "node": node}
        faults = {"worker": worker, "command": command, **own}
        yield Engine([folder], words, str(folder.path / "journal.log"), faults, variables, at_once)


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        words: list[str] = process.cmdline()
        return words
    return []


# The table


@dataclass(frozen=True)
class Row:
    """A row of the table: an engine, and what runs there."""

    engine: Callable[[Make], Any]
    train: bool = False
    auto: bool = False
    lacks: Callable[[], object] = lambda: None  # why it cannot be here


ROWS = {
    "one worker, journal, train, auto": Row(one_worker, train=True, auto=True),
    "one worker, PostgreSQL, train, auto": Row(one_worker_with_postgres, True, True, postgres.why_not),
    "joblib, journal, train": Row(joblib, train=True),
    "joblib, SQLite": Row(partial(joblib, storage="sqlite:///{}/study.db")),
    "joblib, PostgreSQL, train": Row(joblib_with_postgres, train=True, lacks=postgres.why_not),
    "Ray, journal": Row(ray, lacks=lambda: None if find_spec("ray") else "needs make EXTRAS=ray"),
    "Slurm, journal": Row(slurm_jobs, lacks=slurm.why_not),
    "two machines, PostgreSQL": Row(machines, lacks=postgres.why_not),
}
QUICK = {
    "joblib, journal": Row(joblib),
    "joblib, PostgreSQL": Row(partial(joblib_with_postgres, away_s=1.0, local={}), lacks=postgres.why_not),
}
Facts = tuple[Any, ...]


def facts(trials: Sequence[FrozenTrial]) -> dict[int, Facts]:
    """Return what must be the same in every run of the sweep, by trial."""
    return {t.number: (t.state.name, t.values, t.params, t.intermediate_values) for t in trials}


def trained_at_once(folder: Folder) -> int:
    """Return the number of trials that two processes trained at the same time: neither went on after the other."""
    path = folder.path / "steps.txt"
    processes: dict[str, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        number, _, pid = line.split()
        if processes.setdefault(number, [])[-1:] != [pid]:
            processes[number].append(pid)
    return sum(len(pids) > len(set(pids)) for pids in processes.values())


def unexpected_errors(text: str) -> Iterator[str]:
    """Yield the errors of a command's tracebacks, without those that `src/train.py` tells in one line."""
    for found in ERRORS.finditer(text):
        after = text[found.end() :].partition("Traceback (most recent")[0]
        if not found[1].startswith("hypermap.") and "the direct cause of the following" not in after:
            yield found[1]


def run(name: str, row: Row, kills: int, folder: Path, quiet: dict[int, Facts], make: Make, seed: int) -> list[str]:
    """Return the cells of a row, after running it."""
    began = time.monotonic()
    with row.engine(make) as engine:
        sweep = Sweep(engine, random.Random(f"{seed} {name}"))
        try:
            made = sweep.run(kills)
        finally:
            for one in sweep.commands:
                kill(tree(one))
        trials = sweep.trials()
    found, trials_asked = facts(trials), engine.folders[0].trials
    finished = sum(trial.state.is_finished() for trial in trials)
    twice = max(0, len(trials) - trials_asked)
    whole = [t for t in trials if t.state == TrialState.COMPLETE]
    lost = trials_asked - len(found.keys() & set(range(trials_asked)))
    lost += sum(set(t.intermediate_values) != set(range(1, STEPS + 1)) for t in whole)
    if row.train:
        published = [n for n in names(engine.folders[0].path) if n.startswith(f"{STUDY}-")]
        lost += len({f"{STUDY}-{t.number:04d}" for t in whole} ^ set(published))
        twice += len(published) - len(set(published))
    if row.engine is not machines:
        twice += trained_at_once(engine.folders[0])
    same = sum(found.get(number) == one for number, one in quiet.items())
    unexpected = [error for one in engine.folders for error in unexpected_errors(one.out.read_text())]
    for error in unexpected:
        print(f"{name}: {error}", file=sys.stderr)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(made.items()))
    return [
        name, f"{made.total()}: {by_kind}", str(sweep.given), str(finished), str(twice), str(lost),
        f"{same} of {len(quiet)}", str(len(unexpected)), f"{time.monotonic() - began:.0f}",
    ]  # fmt: skip


def main() -> None:
    """Run the sweeps, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all engines together")
    parser.add_argument("--only", nargs="+", default=[], help="rows in whose name one of these words is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept, with the commands' output in *.out")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rows, trials = (QUICK, 6) if options.quick else (ROWS, TRIALS)
    chosen = {
        name: row
        for name, row in rows.items()
        if not options.only or any(word.lower() in name.lower() for word in options.only)
    }
    for name in [name for name, row in chosen.items() if row.lacks() is not None]:
        print(f"{name}: {chosen.pop(name).lacks()}", file=sys.stderr)
    each = 3 if options.quick else options.kills / max(1, len(chosen))
    columns = ["sweep", "kills", "commands", "finished", "twice", "lost", "as in a quiet run", "tracebacks", "seconds"]
    print(f"| {' | '.join(columns)} |\n|---|---{'|--:' * (len(columns) - 2)}|", flush=True)
    quiet: dict[tuple[bool, bool], dict[int, Facts]] = {}
    with ExitStack() as stack:
        top = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for position, (name, row) in enumerate(chosen.items()):
            folder = top / str(position)

            def make(part: str, row: Row = row, folder: Path = folder) -> Folder:
                return Folder(folder / part, train=row.train, auto=row.auto, trials=trials)

            if (kind := (row.train, row.auto)) not in quiet:
                quiet[kind] = undisturbed(make("quiet"))
            kills = round(each * (position + 1)) - round(each * position)
            cells = run(name, row, kills, folder, quiet[kind], make, options.seed)
            print(f"| {' | '.join(cells)} |", flush=True)


def undisturbed(folder: Folder) -> dict[int, Facts]:
    """Return the facts of the sweep in one worker, without a fault."""
    sweep = Sweep(Engine([folder], [], str(folder.path / "journal.log"), {}), random.Random(0))
    sweep.run(0)
    return facts(sweep.trials())


if __name__ == "__main__":
    main()
