"""What a sweep costs beyond training: milliseconds a trial, beside the official Optuna sweeper.

python benchmarks/overhead.py [--trials 200]

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
    time.sleep(0.8 if current().number % 4 == 0 else 0.2)
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


def sweep(folder: str, task: str, *words: str) -> None:
    """Run a sweep of `task` in `folder`."""
    path = Path(folder) / "task.py"
    path.write_text(task.format(conf=str(ROOT / "conf")))
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


def span(workers: int) -> float:
    """Seconds from the beginning of the first trial to the end of the last, of trials of unequal length."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(folder, UNEQUAL, *OURS, "hydra.sweeper.n_trials=24", f"hydra.sweeper.n_jobs={workers}", *SPACE)
        storage = open_storage(str(Path(folder) / "sweep/journal.log"))
        trials = optuna.load_study(study_name="study", storage=storage).trials
    return (max(t.datetime_complete for t in trials) - min(t.datetime_start for t in trials)).total_seconds()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measured: dict[str, list[float]] = {name: [] for name in SWEEPS}
    for _ in range(arguments.rounds):
        for name, settings in SWEEPS.items():
            beyond_start = seconds(settings, arguments.trials) - seconds(settings, 1)
            measured[name].append(1000 * beyond_start / (arguments.trials - 1))
    print(f"| {arguments.trials} trials | ms a trial | rounds |\n|---|---|---|")
    for name, rounds in measured.items():
        print(f"| {name} | {statistics.median(rounds):.1f} | {', '.join(f'{value:.1f}' for value in rounds)} |")
    alone, together = span(1), span(2)
    print(f"\nTrials of unequal length: one worker {alone:.2f} s, two {together:.2f} s: {together / alone:.2f} of it.")


if __name__ == "__main__":
    main()
