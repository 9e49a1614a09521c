"""How many times faster than random search a strategy finds what random search finds, on recorded learning curves.

For each task the goal is the median best validation score of random search with 50 full trainings of 50 epochs. A
strategy's speed is those 2,500 epochs over the epochs it trains until its best score so far, pruned trials included,
reaches the goal: the median over seeds; 0.5 where that is more than 5,000 epochs. The table has the geometric mean
over tasks.

The data are two sets of curves, read by the module ``mfbench`` that lies beside them:

- LCBench, fitted by YAHPO Gym: the validation accuracy of networks on 34 tasks of OpenML, a curve for any point.
- TaskSet, recorded: the validation loss of text classifiers for a pool of 1,000 configurations of Adam. A strategy
  proposes a point of the space that the pool was drawn from, and gets the curve of the nearest configuration in the
  unit cube (logarithmic in each parameter, in 1 - beta1 and 1 - beta2) that has not been used: a strategy that proposes
  the same point for ever would else be rewarded, as no training would reward it. ``--again`` lets them be used again.

The design of the default strategy was chosen on the tasks in `DESIGN`; the others are the report's. ``--set design``
runs the former, ``--set report``, the default, the latter.

Run with ``python benchmarks/strategies.py --data FOLDER`` in the environment of ``benchmarks/requirements.txt``.
``--quick`` asks only whether it runs: two strategies, by one seed, on a made-up task that needs no data.
"""

import argparse
import importlib
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hypermap.search.counter_samplers import from_unit
from hypermap.search.earlier import EACH, EarlierStudy
from hypermap.search.unit_cube import Cube
from searching import STRATEGIES, Clock, Problem, Strategy, Tried, as_earlier

DESIGN = (
    "7593", "34539", "146212", "167149", "189354", "189908",
    "126025", "126029", "167161", "167181", "167184", "168908",  # which an earlier design was slowest on
    "FixedTextRNNClassification_imdb_patch128_LSTM128_avg_bs64",
    "FixedTextRNNClassification_imdb_patch32_GRU64_avg_bs128",
    "FixedTextRNNClassification_imdb_patch32_VRNN64_relu_avg_bs128",
)  # fmt: skip
EPOCHS = 50  # of a full training
TRAININGS = 50  # of random search
BUDGET = 2 * TRAININGS * EPOCHS  # epochs after which a goal counts as not reached
EARLIER_TRAININGS = 20  # of an earlier study
EARLIER_SEED = 1000  # is added to the seed of a search for that of the earlier one
# Of the pool's distribution (Metz et al. 2020, "Using a thousand optimization tasks to learn hyperparameter search
# strategies"), with 1 - beta in place of beta.
ADAM = {
    "learning_rate": (1e-8, 1e1), "one_minus_beta1": (1e-4, 1.0), "one_minus_beta2": (1e-6, 1.0),
    "epsilon": (1e-10, 1e3), "l1": (1e-8, 1e1), "l2": (1e-8, 1e1), "linear_decay": (1e-7, 1e-4),
    "exponential_decay": (1e-6, 1e-3),
}  # fmt: skip


class Task(Protocol):
    """Curves of a space of hyperparameters: `direction`, `distributions` and `goal` say what is searched."""

    name: str
    direction: Literal["maximize", "minimize"]
    distributions: dict[str, BaseDistribution]
    goal: float

    def begin(self) -> None:
        """Forget the configurations that were used."""

    def curve(self, params: dict[str, Any]) -> Sequence[float]:
        """The validation score after each epoch."""


class LCBench:
    """A task of LCBench: accuracy, to be maximized."""

    direction: Literal["maximize", "minimize"] = "maximize"

    def __init__(self, mfbench: Any, name: str) -> None:
        self._bench = mfbench.LCBench(name)
        self.name = name
        self.distributions: dict[str, BaseDistribution] = {
            key: (IntDistribution if kind is int else FloatDistribution)(low, high, log=scale == "log")
            for key, (low, high, scale, kind) in self._bench.SPACE.items()
        }
        rng = np.random.default_rng(0)
        configurations = [self._bench.sample(rng) for _ in range(1000)]
        curves = [self._bench.curves(configurations[i : i + 100], range(2, 52)) for i in range(0, 1000, 100)]
        self.goal = random_search(np.concatenate([curve["val_accuracy"].max(1) for curve in curves]))

    def begin(self) -> None:
        """Nothing is kept."""

    def curve(self, params: dict[str, Any]) -> Sequence[float]:
        """The accuracy after each epoch, in percent."""
        return [float(v) for v in self._bench.curve(params)]


class TaskSet:
    """A task of TaskSet: loss, to be minimized."""

    direction: Literal["maximize", "minimize"] = "minimize"
    distributions: dict[str, BaseDistribution] = {key: FloatDistribution(*ends, log=True) for key, ends in ADAM.items()}  # noqa: RUF012

    def __init__(self, mfbench: Any, name: str, once: bool) -> None:
        bench = mfbench.TaskSet(name)
        self.name, self.once = name, once
        natural = bench.configs.copy()
        natural[:, 1:3] = 1 - natural[:, 1:3]
        self.points = self._unit(natural)
        self.curves = [bench.curve(i) for i in range(len(natural))]
        self.goal = -random_search(np.array([-np.nanmin(np.append(curve, np.inf)) for curve in self.curves]))
        self.begin()

    def begin(self) -> None:
        """Forget the configurations that were used."""
        self.used = np.zeros(len(self.points), dtype=bool)

    def curve(self, params: dict[str, Any]) -> Sequence[float]:
        """The loss after each epoch of the nearest configuration; NaN from where it diverged."""
        distances = ((self.points - self._unit(np.array([[params[key] for key in ADAM]]))) ** 2).sum(1)
        nearest = int(np.where(self.used & self.once, np.inf, distances).argmin())
        self.used[nearest] = True
        return [float(v) for v in self.curves[nearest]]

    @staticmethod
    def _unit(natural: np.ndarray) -> np.ndarray:
        low, high = np.log(np.array(list(ADAM.values()))).T
        unit: np.ndarray = (np.log(natural) - low) / (high - low)
        return unit


class MadeUp:
    """A made-up task for a smoke run: scores rise to what the values come to, and random search reaches the goal."""

    direction: Literal["maximize", "minimize"] = "maximize"
    name = "made up"
    goal = 0.9

    def __init__(self) -> None:
        self.distributions: dict[str, BaseDistribution] = {key: FloatDistribution(0.0, 1.0) for key in ("a", "b")}

    def begin(self) -> None:
        """Nothing is kept."""

    def curve(self, params: dict[str, Any]) -> Sequence[float]:
        """The score after each epoch."""
        end = 1.0 - (params["a"] - 0.3) ** 2 - (params["b"] - 0.6) ** 2
        return [end * (1.0 - 0.5**epoch) for epoch in range(1, EPOCHS + 1)]


def random_search(best: np.ndarray) -> float:
    """The median over many searches of the largest of 50 values, drawn without replacement."""
    rng = np.random.default_rng(0)
    return float(np.median([rng.choice(best, TRAININGS, replace=False).max() for _ in range(1000)]))


def earlier(task: Task, kind: str | None, seed: int) -> list[EarlierStudy]:
    """Return what there was before: a search of a task by the default strategy, or a study that knows it all wrong.

    The latter has 100 random configurations and is sure that all gets better towards one of the worst half.
    """
    if kind is None:
        return []
    if kind != "misleading":
        return [as_earlier(search(task, seed + EARLIER_SEED), 1.0 if task.direction == "maximize" else -1.0)]
    rng = np.random.default_rng([seed, 7])
    known = [_random_configuration(task.distributions, rng) for _ in range(100)]
    task.begin()
    sign = 1 if task.direction == "maximize" else -1
    finals = [max([sign * v for v in task.curve(params) if math.isfinite(v)], default=-math.inf) for params in known]
    points = Cube(task.distributions, {})
    at = np.array([points.point(params) for params in known])
    centre = at[rng.choice(np.argsort(finals)[:50])]
    scores = -((at - centre) ** 2 * rng.exponential(size=len(centre))).sum(1)
    order = np.argsort(-scores)
    best = tuple(known[int(k)] for k in order[:EACH])
    return [EarlierStudy(best, tuple((known[int(k)], float(scores[k])) for k in order))]


def search(task: Task, seed: int) -> list[Tried]:
    """Return the trials of the default strategy with `EARLIER_TRAININGS`."""
    task.begin()
    problem = Problem(task.direction, EPOCHS, task.distributions)
    steps = next(s for s in STRATEGIES if s.name == "auto").begin(problem, seed, EARLIER_TRAININGS * EPOCHS)
    curves: dict[int, Sequence[float]] = {}
    answer: Sequence[float] | None = None
    while True:
        try:
            request = next(steps) if answer is None else steps.send(answer)
        except StopIteration as end:
            return list(end.value)
        if request.number not in curves:
            curves[request.number] = task.curve(dict(request.params))
        answer = curves[request.number][: request.until]


def _random_configuration(space: dict[str, BaseDistribution], rng: np.random.Generator) -> dict[str, Any]:
    return {name: from_unit(distribution, float(rng.random())) for name, distribution in space.items()}


def epochs_to_goal(task: Task, strategy: Strategy, seed: int, clock: Clock, prior: Sequence[EarlierStudy] = ()) -> int:
    """Return the epochs that a strategy trains until the task's goal is reached; the budget if it is not."""
    task.begin()
    sign = 1 if task.direction == "maximize" else -1
    steps = strategy.begin(Problem(task.direction, EPOCHS, task.distributions, prior=prior), seed, BUDGET)
    curves: dict[int, Sequence[float]] = {}
    reached: dict[int, int] = {}
    answer: Sequence[float] | None = None
    while sum(reached.values()) < BUDGET:
        try:
            request = clock.advance(steps, answer)
        except StopIteration:
            break
        if request.number not in curves:
            curves[request.number] = task.curve(dict(request.params))
        answer = curves[request.number][: request.until]
        before = reached.get(request.number, 0)
        for epoch in range(before + 1, request.until + 1):
            value = answer[epoch - 1]
            if not math.isfinite(value):
                break
            reached[request.number] = epoch
            if sign * value >= sign * task.goal:
                return sum(reached.values())
    return BUDGET


def speeds_of(
    tasks: Sequence[Task], strategy: Strategy, seeds: Sequence[int], clock: Clock, prior: str | None = None
) -> list[float]:
    """Return random search's epochs over the strategy's, for each task, the median over seeds.

    Args:
        prior: what kind of earlier study there is; ``other``: of the next task.
    """
    speeds = []
    for task, other in zip(tasks, [*tasks[1:], *tasks[:1]], strict=True):
        before = other if prior == "other" else task
        epochs = [epochs_to_goal(task, strategy, seed, clock, earlier(before, prior, seed)) for seed in seeds]
        speeds.append(TRAININGS * EPOCHS / float(np.median(epochs)))
    return speeds


def recorded(given: argparse.Namespace) -> dict[str, list[Task]]:
    """Return the tasks of both sets that the command line asks for, by the module beside their data."""
    sys.path.insert(0, str(given.data))
    mfbench = importlib.import_module("mfbench")

    def asked(name: str) -> bool:
        chosen = given.set == "all" or (name in DESIGN) == (given.set == "design")
        return any(part in name for part in given.tasks) if given.tasks else chosen

    return {
        "LCBench": [LCBench(mfbench, name) for name in mfbench.LCBench.tasks() if asked(name)],
        "TaskSet": [TaskSet(mfbench, name, not given.again) for name in mfbench.TaskSet.tasks() if asked(name)],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("HYPERMAP_BENCH"), help="or HYPERMAP_BENCH is set")
    parser.add_argument("--tasks", nargs="+", help="names of tasks, or parts of them; all, if not given")
    parser.add_argument("--strategies", nargs="+", help="names of strategies; all, if not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", choices=("report", "design", "all"), default="report", help="which tasks")
    parser.add_argument("--again", action="store_true", help="use configurations of TaskSet more than once")
    parser.add_argument("--prior", choices=("same", "other", "misleading"), help="give auto an earlier study")
    parser.add_argument("--verbose", action="store_true", help="print each task's speed")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a made-up task, two strategies, one seed")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.strategies = 1, given.strategies or ["random", "auto"]
    elif given.data is None:
        parser.error("where are the curves? Give --data FOLDER or set HYPERMAP_BENCH.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

    sets: dict[str, list[Task]] = {"made up": [MadeUp()]} if given.quick else recorded(given)
    print(f"| strategy | {' | '.join(sets)} | slowest task | tasks reached | ms a decision |")
    print("|---" * (len(sets) + 4) + "|")
    for strategy in STRATEGIES:
        if given.strategies is not None and strategy.name not in given.strategies:
            continue
        clock, seeds = Clock(), range(given.seeds)
        speeds = {name: speeds_of(tasks, strategy, seeds, clock, given.prior) for name, tasks in sets.items()}
        every = [s for some in speeds.values() for s in some]
        means = [f"{math.exp(np.mean(np.log(some))):.1f}" if some else "–" for some in speeds.values()]
        reached = sum(s > TRAININGS * EPOCHS / BUDGET for s in every)
        ask_ms = 1000 * clock.seconds / max(1, clock.asks)
        print(
            f"| {strategy.name} | {' | '.join(means)} | {min(every):.1f} | {reached} of {len(every)} | {ask_ms:.1f} |",
            flush=True,
        )
        if given.verbose:
            for name, tasks in sets.items():
                print(name, {task.name: round(s, 1) for task, s in zip(tasks, speeds[name], strict=True)}, flush=True)


if __name__ == "__main__":
    main()
