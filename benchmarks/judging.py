"""By what of its curve a trial should be judged: which way picks, of 20 trials, the one with the best test score.

HYPERMAP_DATA=FOLDER python benchmarks/judging.py
python benchmarks/judging.py --quick    does it run at all: a task, a dozen short trainings of each configuration

Of each task 150 random configurations are trained once, whose validation curves are judged, and three times more with
other seeds, whose mean test score, at the epoch that the project would keep, is what they are worth. A way to judge
loses what its pick of 20 random ones is worth less than the best of them, in standard deviations of a retraining.

The tasks are the design tasks of searches.py, by their score and by their loss, with two splits each. The reports of
searches.py are of others.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from hypermap.core.cli import run
from hypermap.search.curves import second_half
from record import LiveTask, shipped
from searches import test_scores

CONFIGURATIONS, RETRAININGS, AMONG, DRAWS = 150, 3, 20, 2000


def tasks() -> dict[str, LiveTask]:
    """Return the tasks by name."""
    found = {}
    for split in (0, 1):
        seed = f"data.split_seed={split}"
        for kind, words in (("score", ()), ("loss", ("trainer.monitor=loss",))):
            for data, scheduler, more in (
                ("digits", "constant", ()),
                ("digits", "cosine", ()),
                ("wine_quality", "cosine", ()),
                ("california_housing", "one_cycle", ("data.rows=2000",)),
            ):
                name = f"{data}, {scheduler}, {kind}, split {split}"
                found[name] = shipped(name, scheduler, f"data={data}", *more, seed, *words)
    return found


def running(curve: np.ndarray, width: int) -> float:
    """Return the best mean of so many epochs that follow one another."""
    return float(np.convolve(curve, np.ones(width) / width, "valid").max())


def around(curve: np.ndarray, width: int) -> float:
    """Return the mean of the best epoch and of so many before and after it."""
    best = int(curve.argmax())
    return float(curve[max(0, best - width) : best + width + 1].mean())


WAYS: dict[str, Callable[[np.ndarray], float]] = {
    "the best epoch": lambda curve: float(curve.max()),
    "the last epoch": lambda curve: float(curve[-1]),
    "the best mean of 3 epochs in a row": lambda curve: running(curve, 3),
    "the best mean of 5 epochs in a row": lambda curve: running(curve, 5),
    "the best epoch and 4 on each side": lambda curve: around(curve, 4),
    "the better quarter": lambda curve: float(np.sort(curve)[-(len(curve) // 4) :].mean()),
    "the better half": lambda curve: float(np.sort(curve)[len(curve) // 2 :].mean()),
    "the last third": lambda curve: float(curve[-(len(curve) // 3) :].mean()),
    "the second half (as it is)": lambda curve: second_half(float(curve.max()), dict(enumerate(curve)), 1.0) or 0.0,
}


def losses(task: LiveTask, count: int = CONFIGURATIONS, among: int = AMONG) -> dict[str, float]:
    """Return what each way to judge loses on a task, of so many configurations and among so many of them."""
    sign = -1.0 if task.direction == "minimize" else 1.0
    configurations = task.sample(count, 0)
    curves = sign * task.train(configurations, range(count)).validation
    tests = []
    for first in range(1, RETRAININGS + 1):
        seeds = range(1000 * first, 1000 * first + count)
        tests.append(test_scores(task, configurations, seeds))
    worth = sign * np.array(tests, dtype=float)  # NaN of one that diverged
    whole = ~np.isnan(curves).any(1) & ~np.isnan(worth).any(0)
    curves, worth = curves[whole], worth[:, whole]
    mean = worth.mean(0)
    deviation = worth.std(0, ddof=1)[mean >= np.quantile(mean, 2 / 3)].mean()
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(mean), among, replace=False) for _ in range(DRAWS)]
    found = {}
    for name, way in WAYS.items():
        scores = np.array([way(curve) for curve in curves])
        lost = [mean[some].max() - mean[some[scores[some].argmax()]] for some in drawn]
        found[name] = float(np.mean(lost) / deviation)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="parts of the names of tasks; all, if not given")
    parser.add_argument("--threads", type=int, default=2, help="of the native kernel")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: digits, short trainings of few configurations"
    )
    given = parser.parse_args()
    quick = {name: shipped(name, "constant", "data=digits", epochs=6) for name in ("digits, score",)}
    size = (12, 4) if given.quick else (CONFIGURATIONS, AMONG)
    every = {}
    for name, task in (quick if given.quick else tasks()).items():
        if given.tasks is None or any(part in name for part in given.tasks):
            every[name] = losses(replace(task, threads=given.threads), *size)
            print(name, {way: round(lost, 2) for way, lost in every[name].items()}, file=sys.stderr, flush=True)
    kinds = [kind for kind in ("score", "loss") if any(kind in name for name in every)]
    print(f"| judged by | {' | '.join(f'by {kind}, {sum(kind in name for name in every)} tasks' for kind in kinds)} |")
    print("|---" + "|--:" * len(kinds) + "|")
    for way in WAYS:
        cells = [f"{statistics.fmean(own[way] for name, own in every.items() if kind in name):.2f}" for kind in kinds]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
