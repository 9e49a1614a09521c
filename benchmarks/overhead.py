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
TASK = """
import sys
import hydra

@hydra.main(config_path={conf!r}, config_name="config")
def task(config):
    return (config.optimizer.lr - 0.01) ** 2 + config.model.dropout

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


def seconds(settings: list[str], trials: int) -> float:
    """The wall time of a sweep in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.py"
        task.write_text(TASK.format(conf=str(ROOT / "conf")))
        words = [f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.study_name=overhead", "hydra.sweep.dir=sweep"]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(task), "-m", *settings, *words, *SPACE],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{' '.join(settings)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return time.perf_counter() - started


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


if __name__ == "__main__":
    main()
