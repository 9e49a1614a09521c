"""What a sweep costs beyond training: milliseconds a trial, beside the official Optuna sweeper.

python benchmarks/overhead.py [--trials 200]
python benchmarks/overhead.py --quick    does it run at all: two of the sweeps, of three trials

Each sweep is a command of its own, over a task that only returns a number: a Hydra application with the configuration
of this project, so that composing it costs what it costs. The seconds of importing and of starting, a sweep of one
trial, are subtracted. All of a run's sweeps alternate, three rounds, and the medians count.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import optuna  # noqa: E402

from hypermap.search.storage import open_storage  # noqa: E402

TASK = """
import sys
import hydra

@hydra.main(config_path={conf!r}, config_name="config")
def task(config):
    return (config.optimizer.lr - 0.01) ** 2 + config.model.dropout

if __name__ == "__main__":
    task()
"""
UNEQUAL = """
import time
import hydra
from hypermap.search.trial import current

@hydra.main(config_path={conf!r}, config_name="config")
def task(config):
    time.sleep({unit} * (4 if current().number % 4 == 0 else 1))
    return config.optimizer.lr

if __name__ == "__main__":
    task()
"""
SPACE = ["optimizer.lr=tag(log,interval(1e-5,1e-1))", "model.dropout=interval(0.0,0.5)"]
RANDOM = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"]
OURS = ["hydra/sweeper=hypermap", "hydra/sweeper/pruner=none", *RANDOM]
OFFICIAL = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.direction=minimize", *RANDOM]
SWEEPS = {
    "hypermap, journal file (the default)": OURS,
    "hypermap, SQLite": [*OURS, "hydra.sweeper.storage=sqlite:///study.db"],
    "official sweeper, in memory": OFFICIAL,
    "official sweeper, SQLite": [*OFFICIAL, "hydra.sweeper.storage=sqlite:///study.db"],
}


def sweep(folder: str, task: str, *words: str, unit: float = 0.0) -> None:
    """Run a sweep of `task`, which may take `unit` for its seconds, in `folder`."""
    path = Path(folder) / "task.py"
    path.write_text(task.format(conf=str(ROOT / "conf"), unit=unit))
    done = subprocess.run(
        [sys.executable, str(path), "-m", "hydra.sweeper.study_name=study", "hydra.sweep.dir=sweep", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def seconds(settings: list[str], trials: int) -> float:
    """The wall time of a sweep in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        sweep(folder, TASK, *settings, f"hydra.sweeper.n_trials={trials}", *SPACE)
        return time.perf_counter() - started


def span(workers: int, trials: int, unit: float) -> float:
    """Seconds from the first trial's beginning to the last one's end; every fourth takes four units, others one."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.n_jobs={workers}", *SPACE]
        sweep(folder, UNEQUAL, *OURS, *words, unit=unit)
        storage = open_storage(str(Path(folder) / "sweep/journal.log"))
        done = optuna.load_study(study_name="study", storage=storage).trials
    return (
        max(t.datetime_complete for t in done if t.datetime_complete).timestamp()
        - min(t.datetime_start for t in done if t.datetime_start).timestamp()
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run: two sweeps of three trials, one round")
    arguments = parser.parse_args()
    trials, rounds = (3, 1) if arguments.quick else (arguments.trials, arguments.rounds)
    names = [name for name in SWEEPS if "SQLite" not in name] if arguments.quick else list(SWEEPS)
    measured: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            beyond_start = seconds(SWEEPS[name], trials) - seconds(SWEEPS[name], 1)
            measured[name].append(1000 * beyond_start / (trials - 1))
    print(f"| {trials} trials | ms a trial | rounds |\n|---|---|---|")
    for name, values in measured.items():
        print(f"| {name} | {statistics.median(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |")
    alone, together = (span(workers, *((4, 0.02) if arguments.quick else (24, 0.2))) for workers in (1, 2))
    print(f"\nTrials of unequal length: one worker {alone:.2f} s, two {together:.2f} s: {together / alone:.2f} of it.")


if __name__ == "__main__":
    main()
