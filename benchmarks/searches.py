"""Whether searching pays: searches with real trainings, whose winners are trained anew and scored on unseen rows.

HYPERMAP_DATA=FOLDER python benchmarks/searches.py --output searches.json
HYPERMAP_DATA=FOLDER python benchmarks/searches.py --set design --tasks digits --budgets 5 10 --seeds 2
python benchmarks/searches.py --quick    does it run at all: two strategies search digits by one seed

Every strategy searches each of `record.TASKS` with budgets of 5, 10, 20 and 40 full trainings, by five seeds. Epochs
are counted as they are trained: a trial that is stopped after one of thirty costs a thirtieth of a training. A search
picks the best of its complete trials by validation score, or the best there is where none is complete. `auto` picks as
the project does: by the second half of their epochs, and by the mean where it measured its two best once more. "random,
judged as auto" is random search that picks so, too. The pick is trained anew with five seeds that no search has used,
the same for every configuration, and scored on the test rows, which no search sees, at the epoch that the project would
keep.

- *Gain* is the mean of these scores, less that of the baseline, in standard deviations of one training of the baseline:
  0 for a search that picks the baseline. A retraining that diverges has a score of 0.
- *Regret* is the best pick of any search on that task, less the search's own, in the same unit.

The design of the default strategy was chosen on the tasks in `DESIGN`; the others are the report's, and `auto` was not
run on them before it was settled. Only `auto` and NePS' PriorBand know the baseline.

All searches of a task by one seed go on together, those that ask for trainings of one kind as stacks, and what two of
them ask for alike is trained once. With ``--output`` what is in the file is not run again, so a long run can be done in
pieces.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import optuna
import torch

from hypermap.core.cli import run
from hypermap.core.errors import UserError
from hypermap.core.files import write_json, write_text
from hypermap.search.curves import ranked
from hypermap.search.study import trial_seed
from outside import TOOLS
from outside_search import Outside, outside_strategies
from record import TASKS, Job, LiveTask
from searching import STRATEGIES, Clock, Problem, Request, Searching, Strategy, Tried

DESIGN = ("digits", "wine_quality", "california_housing")
BUDGETS = (5, 10, 20, 40)  # in full trainings
RETRAININGS = 5  # of a pick
NOISE = 20  # retrainings of the baseline, whose standard deviation is the unit of a gain
MOST_BYTES = 1 << 30  # of trainings that wait to be carried on; one that is let go is begun anew if need be
RESAMPLES = 10_000  # of the bootstrap
AUTO, RANDOM = "auto", "random"
JUDGED = [replace(strategy, name=f"{RANDOM}, judged as {AUTO}", judges=True) for strategy in STRATEGIES[:1]]
SEARCHES = [*STRATEGIES[:1], *JUDGED, *STRATEGIES[1:]]


# Trainings.


def key_of(params: Mapping[str, Any]) -> str:
    """Return a configuration as a word that is the same for the same values."""
    return json.dumps(dict(params), sort_keys=True)


@dataclass
class Trainings:
    """The trainings of a task, each done once, whoever asks; those that may go on wait in memory."""

    task: LiveTask
    epochs: int = 0  # that were trained
    _scores: dict[str, list[float]] = field(default_factory=dict)  # on validation rows, of each epoch so far
    _ended: set[str] = field(default_factory=set)
    _waiting: dict[str, Job] = field(default_factory=dict)  # the one that was asked for last comes last

    def answer(self, asked: Sequence[tuple[Mapping[str, Any], int, int]]) -> list[list[float]]:
        """Return the validation scores of configurations, each with its seed, after each epoch up to another.

        They are NaN from the epoch in which a training diverged.
        """
        keys = [f"{key_of(params)} {seed}" for params, seed, _ in asked]
        due: dict[str, int] = {}
        for key, (params, seed, until) in zip(keys, asked, strict=True):
            if key not in self._ended and until > max(due.get(key, 0), len(self._scores.get(key, []))):
                self._waiting[key] = self._waiting.pop(key) if key in self._waiting else self.task.job(params, seed)
                due[key] = until
        self._train(due)
        nothing = [math.nan] * self.task.epochs
        return [(self._scores[key] + nothing)[:until] for key, (_, _, until) in zip(keys, asked, strict=True)]

    def _train(self, due: Mapping[str, int]) -> None:
        before = {key: len(self._waiting[key].scores) for key in due}
        self.task.carry_on({self._waiting[key]: until for key, until in due.items()}, test=False)
        for key in due:
            job = self._waiting[key]
            self._scores[key] = [validation for _, validation, _ in job.scores]
            self.epochs += len(job.scores) - before[key]
            if job.ended:
                self._ended.add(key)
                del self._waiting[key]
        while len(self._waiting) > 1 and sum(map(_bytes, self._waiting.values())) > MOST_BYTES:
            del self._waiting[next(iter(self._waiting))]


def _bytes(job: Job) -> int:
    """Return what a waiting training holds: eight numbers a weight, such as the optimizer's, and the planned rates."""
    return 0 if job.member is None else 32 * (job.member.weights.vector.numel() + len(job.member.planned_lrs))


# Searches.


@dataclass
class Search:
    """A search under way.

    Attributes:
        requests: that it has made: the number of a trial, and up to which epoch it was to be trained.
        tried: its trials, once it has ended.
    """

    strategy: Strategy
    seed: int
    budget: int  # in full trainings
    steps: Searching
    clock: Clock = field(default_factory=Clock)
    request: Request | None = None
    requests: list[tuple[int, int]] = field(default_factory=list)
    tried: list[Tried] | None = None

    def advance(self, answer: Sequence[float] | None) -> None:
        """Go on to the next request, or to the end."""
        try:
            self.request = self.clock.advance(self.steps, answer)
            self.requests.append((self.request.number, self.request.until))
        except StopIteration as end:
            self.request, self.tried = None, end.value

    @property
    def training(self) -> tuple[Mapping[str, Any], int, int]:
        """Return the configuration that is asked for, the seed of its trial, and up to where."""
        assert self.request is not None
        return self.request.params, trial_seed(self.seed, "trial", self.request.number), self.request.until


def search_all(trainings: Trainings, searches: Sequence[Search]) -> None:
    """Carry on searches together until all have ended."""
    going = list(searches)
    for search in going:
        search.advance(None)
    while going := [search for search in going if search.request is not None]:
        answers = trainings.answer([search.training for search in going])
        for search, answer in zip(going, answers, strict=True):
            search.advance(answer)


def within(tried: Sequence[Tried], requests: Sequence[tuple[int, int]], epochs: int) -> list[Tried]:
    """Return the trials of a search as they were when so many epochs were spent; one that is cut is not complete."""
    reached = [0] * len(tried)
    for number, until in requests:
        until = min(until, len(tried[number].scores))  # of what was trained ahead, no more than then counted
        taken = min(epochs, max(0, until - reached[number]))
        reached[number], epochs = reached[number] + taken, epochs - taken
    cut = zip(tried, reached, strict=True)
    return [
        replace(one, scores=one.scores[:upto], complete=one.complete and upto == len(one.scores))
        for one, upto in cut
        if upto
    ]


def pick(tried: Sequence[Tried], judges: bool = False) -> Tried:
    """Return the best of the complete trials, of all where there are none.

    Args:
        judges: as the project picks: by the second half of their epochs, and where some were repeated, among those.
    """
    complete = {number: one for number, one in enumerate(tried) if one.complete}
    repeats = {number: one.repeats for number, one in complete.items() if one.repeats is not None}
    own = [one for number, one in complete.items() if number not in repeats]
    if not judges or not own:
        return max(own or tried, key=lambda one: one.best(1.0))
    told = {number: (one.best(1.0), dict(enumerate(one.scores))) for number, one in complete.items()}
    return tried[ranked(told, repeats, 1.0)[0]]


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes:
        budget: in full trainings.
        params: of the pick.
        epochs: that its trials were trained for.
        seconds: that it took for itself, with what it did beyond a smaller budget.
    """

    strategy: str
    budget: int
    seed: int
    params: dict[str, Any]
    trials: int
    complete: int
    epochs: int
    seconds: float


def found(search: Search, budget: int, steps: int) -> Found:
    """Return what a search has found within a budget, which may be smaller than its own."""
    assert search.tried is not None
    tried = within(search.tried, search.requests, budget * steps)
    complete, epochs = sum(one.complete for one in tried), sum(len(one.scores) for one in tried)
    params, seconds = dict(pick(tried, search.strategy.judges).params), round(search.clock.seconds, 3)
    return Found(search.strategy.name, budget, search.seed, params, len(tried), complete, epochs, seconds)


# A task.


@dataclass
class Measured:
    """What is known of a task, in the units of its score.

    Attributes:
        baseline: test scores of the baseline's retrainings; None of one that diverged.
        retrained: likewise of picks, by their configurations.
        found: of each search.
        seconds: that searching and retraining took, all in all.
        epochs: likewise, of searching alone.
    """

    baseline: list[float | None] = field(default_factory=list)
    retrained: dict[str, list[float | None]] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    epochs: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Measured":
        """Return what a file has."""
        return cls(**{**record, "found": [Found(**entry) for entry in record["found"]]})

    def lacking(self, strategy: str, budgets: Sequence[int], seed: int) -> list[int]:
        """Return the budgets with which a strategy has not yet searched by a seed."""
        there = {one.budget for one in self.found if (one.strategy, one.seed) == (strategy, seed)}
        return [budget for budget in budgets if budget not in there]

    def add(self, other: "Measured") -> None:
        """Add what came of further searches."""
        self.baseline, self.epochs = other.baseline, self.epochs + other.epochs
        self.retrained |= other.retrained
        self.found += other.found
        for name, seconds in other.seconds.items():
            self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 1)

    def gain(self, params: Mapping[str, Any]) -> float:
        """Return how much better than the baseline a configuration is, in deviations of the baseline's training."""
        baseline = [score or 0.0 for score in self.baseline]
        own = [score or 0.0 for score in self.retrained[key_of(params)]]
        difference = statistics.fmean(own) - statistics.fmean(baseline[: len(own)])
        return difference / (statistics.stdev(baseline) or math.nan)


def measure(
    task: LiveTask, strategies: Sequence[Strategy], budgets: Sequence[int], seed: int, before: Measured
) -> Measured:
    """Return what the searches of a task by a seed come to, those left out whose outcome is known."""
    started = time.perf_counter()
    problem, trainings = problem_of(task), Trainings(task)
    lacking = {strategy.name: before.lacking(strategy.name, budgets, seed) for strategy in strategies}
    searches = [search for strategy in strategies for search in begin(problem, strategy, lacking[strategy.name], seed)]
    search_all(trainings, searches)
    own = Measured(before.baseline, dict(before.retrained), epochs=trainings.epochs)
    for search in searches:
        for budget in lacking[search.strategy.name] if search.strategy.anytime else [search.budget]:
            own.found.append(found(search, budget, problem.steps))
    searched = time.perf_counter()
    retrain(task, own)
    own.seconds = {"searching": searched - started, "retraining": time.perf_counter() - searched}
    return own


def problem_of(task: LiveTask) -> Problem:
    """Return what is searched.

    Raises:
        UserError: some parameters of the task's space apply to some choices only, or it is judged by the loss, of which
            nobody knows what it would be after a divergence.
    """
    if task.space.conditional or task.direction == "minimize":
        raise UserError(f"{task.name}: a space with conditions, and trainer.monitor=loss, cannot be measured here.")
    space = task.space
    return Problem(task.direction, task.epochs, space.distributions(), space.mappings, task.baseline, lookahead=True)


def begin(problem: Problem, strategy: Strategy, budgets: Sequence[int], seed: int) -> list[Search]:
    """Return a search for each budget: one for all where a larger one begins as a smaller does."""
    needed = [max(budgets)] if budgets and strategy.anytime else budgets
    return [Search(strategy, seed, budget, strategy.begin(problem, seed, budget * problem.steps)) for budget in needed]


def retrain(task: LiveTask, measured: Measured) -> None:
    """Train the baseline and every pick anew, those that have not been, and enter their test scores."""
    seeds = [trial_seed(0, "retraining", number) for number in range(NOISE)]
    if not measured.baseline:
        measured.baseline = test_scores(task, [task.baseline] * NOISE, seeds)
    for one in measured.found:
        if equal(one.params, task.baseline):
            measured.retrained[key_of(one.params)] = measured.baseline[:RETRAININGS]
    picks = {key_of(one.params): one.params for one in measured.found}
    lacking = {key: params for key, params in picks.items() if key not in measured.retrained}
    each = [params for params in lacking.values() for _ in range(RETRAININGS)]
    scores = test_scores(task, each, seeds[:RETRAININGS] * len(lacking))
    for number, key in enumerate(lacking):
        measured.retrained[key] = scores[number * RETRAININGS : (number + 1) * RETRAININGS]


def test_scores(
    task: LiveTask, configurations: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> list[float | None]:
    """Return the test score of each training at the epoch that the project would keep; None where it diverged."""
    curves = task.train(configurations, seeds)
    return [float(row[kept - 1]) if kept else None for row, kept in zip(curves.test, curves.best_epoch, strict=True)]


def equal(params: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Return whether two configurations are the same, but for the rounding of a number that was mapped and back."""
    if params.keys() != others.keys():
        return False
    pairs = [(params[name], others[name]) for name in params]
    return all(math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) else a == b for a, b in pairs)


# What it comes to.


@dataclass(frozen=True)
class Gains:
    """The gains of every search: by strategy and budget, and there by task and seed."""

    tasks: list[str]
    strategies: list[str]
    budgets: list[int]
    gains: dict[tuple[str, int], dict[tuple[str, int], float]]
    best: dict[str, float]  # of any pick on a task

    @classmethod
    def of(
        cls, measured: Mapping[str, Measured], strategies: Sequence[str], budgets: Sequence[int], seeds: int
    ) -> "Gains":
        """Return the gains in what was measured, those of other strategies and budgets left out."""
        gains: dict[tuple[str, int], dict[tuple[str, int], float]] = {}
        best: dict[str, float] = {}
        for task, of_task in measured.items():
            for one in of_task.found:
                gain = of_task.gain(one.params)
                best[task] = max(gain, best.get(task, -math.inf))
                if one.strategy in strategies and one.budget in budgets and one.seed < seeds:
                    gains.setdefault((one.strategy, one.budget), {})[task, one.seed] = gain
        there = [name for name in strategies if any(strategy == name for strategy, _ in gains)]
        return cls(list(measured), there, list(budgets), gains, best)

    def of_task(self, strategy: str, budget: int, task: str) -> float:
        """Return a strategy's mean gain on a task; NaN without any search."""
        own = [gain for (name, _), gain in self.gains.get((strategy, budget), {}).items() if name == task]
        return statistics.fmean(own) if own else math.nan

    def regret(self, strategy: str, budget: int) -> float:
        """Return a strategy's mean regret."""
        own = self.gains.get((strategy, budget), {})
        return statistics.fmean(self.best[task] - gain for (task, _), gain in own.items()) if own else math.nan

    def ahead(self, budget: int, of: str) -> str:
        """Return how far `auto` is ahead of a strategy, with the interval over tasks and seeds, as text."""
        own, other = (self.gains.get((name, budget), {}) for name in (AUTO, of))
        differences = np.array([own[pair] - other[pair] for pair in own if pair in other])
        if of == AUTO or not len(differences):
            return ""
        drawn = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
        low, high = np.percentile(differences[drawn].mean(1), [2.5, 97.5])
        return f"{differences.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def tables(gains: Gains) -> list[str]:
    """Return the tables of every budget, as lines of Markdown."""
    return [line for budget in gains.budgets for line in table(gains, budget)]


def table(gains: Gains, budget: int) -> list[str]:
    """Return the tables of one budget: what strategies gain, and what they gain on each task."""
    lines = [
        f"**A budget of {budget} full trainings.**",
        "",
        "| strategy | searches | mean gain | worst task | below the baseline | by more than 1 | regret / random's "
        "| auto is ahead by |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    strategies = [name for name in gains.strategies if (name, budget) in gains.gains]
    usual = gains.regret(RANDOM, budget)
    for name in strategies:
        own = list(gains.gains[name, budget].values())
        worst = np.nanmin([gains.of_task(name, budget, task) for task in gains.tasks])
        below, far_below = (sum(gain < most for gain in own) / len(own) for most in (0, -1))
        lines.append(
            f"| {name} | {len(own)} | {statistics.fmean(own):.2f} | {worst:.2f} | {below:.0%} | {far_below:.0%} "
            f"| {gains.regret(name, budget) / usual:.2f} | {gains.ahead(budget, name)} |"
        )
    lines += ["", f"| mean gain with {budget} | {' | '.join(gains.tasks)} |", "|---" + "|--:" * len(gains.tasks) + "|"]
    for name in strategies:
        each = (gains.of_task(name, budget, task) for task in gains.tasks)
        lines.append(f"| {name} | {' | '.join(f'{gain:.2f}' for gain in each)} |")
    return [*lines, ""]


def costs(measured: Mapping[str, Measured], strategies: Sequence[str]) -> list[str]:
    """Return what it took: of each task, and of each strategy for itself."""
    lines = ["| task | baseline | deviation | epochs | searching, s | retraining, s |", "|---|--:|--:|--:|--:|--:|"]
    for task, own in measured.items():
        baseline = [score or 0.0 for score in own.baseline]
        metrics = f"{statistics.fmean(baseline):.4f} | {statistics.stdev(baseline):.4f} | {own.epochs}"
        spent = " | ".join(f"{own.seconds[name]:.0f}" for name in ("searching", "retraining"))
        lines.append(f"| {task} | {metrics} | {spent} |")
    every = [one for own in measured.values() for one in own.found]
    budget = max(one.budget for one in every)
    lines += ["", f"| budget {budget} | trials | complete | s for itself |", "|---|--:|--:|--:|"]
    for name in strategies:
        if mine := [one for one in every if (one.strategy, one.budget) == (name, budget)]:
            means = [statistics.fmean(getattr(one, what) for one in mine) for what in ("trials", "complete", "seconds")]
            lines.append(f"| {name} | {means[0]:.0f} | {means[1]:.0f} | {means[2]:.1f} |")
    return [*lines, ""]


# The command line.


def read(path: Path | None) -> dict[str, Measured]:
    """Return what an earlier run has written.

    Raises:
        UserError: the file is no such file.
    """
    if path is None or not path.exists():
        return {}
    try:
        return {name: Measured.of(record) for name, record in json.loads(path.read_text()).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what this has written ({error!r}). Name another file.") from error


def work(
    name: str, seed: int, strategies: Sequence[str], budgets: Sequence[int], python: str | None, before: Measured
) -> Measured:
    """Return what the searches of a task by a seed come to, in this process on one thread, tools in one of `python`."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    with nullcontext() if python is None else closing(Outside(python)) as outside:
        every = [*SEARCHES, *(() if outside is None else outside_strategies(outside))]
        chosen = [strategy for strategy in every if strategy.name in strategies]
        return measure(replace(TASKS[name], threads=1), chosen, budgets, seed, before)


def installed(python: str | None) -> dict[str, str]:
    """Return the releases of the tools that another Python has."""
    if python is None:
        return {}
    with closing(Outside(python)) as outside:
        return outside.ask({"tools": True})


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*(strategy.name for strategy in SEARCHES), *TOOLS]
    parser.add_argument("--set", choices=("report", "design"), default="report", help="which tasks")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help="only these of the set")
    parser.add_argument("--strategies", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--again", nargs="+", choices=names, default=[], metavar="NAME", help="forget what is in FILE")
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS, help="in full trainings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--python", metavar="PATH", help="a Python with requirements-searches.txt, for tools of others")
    parser.add_argument("--processes", type=int, default=2, help="each of a task and a seed at a time")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON: what is there is kept, and not run again")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the tables here too, as Markdown")
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits, little of everything, one process")
    given = parser.parse_args()
    if given.quick:
        given.set, given.tasks, given.strategies = "design", ["digits"], [RANDOM, AUTO]
        given.budgets, given.seeds, given.processes = [2], 1, 1
    tasks = [name for name in TASKS if (name in DESIGN) == (given.set == "design")]
    if others := [name for name in given.tasks or () if name not in tasks]:
        parser.error(f"{', '.join(others)}: not of the tasks of --set {given.set}, which are {', '.join(tasks)}.")
    given.tasks = [name for name in tasks if name in (given.tasks or tasks)]
    return given


def search_tasks(every: dict[str, Measured], strategies: Sequence[str], given: argparse.Namespace) -> None:
    """Carry out what is lacking of these strategies, and add it to what is known of every task, and to the file."""
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as development:
        waiting = {}
        for seed in range(given.seeds):  # tasks inside, so that a run which is stopped has done as much of each
            for name in given.tasks:
                if any(every[name].lacking(strategy, given.budgets, seed) for strategy in strategies):
                    asked = (name, seed, strategies, given.budgets, given.python, copy.deepcopy(every[name]))
                    waiting[development.submit(work, *asked)] = name, seed
        for done in as_completed(waiting):
            (name, seed), own = waiting[done], done.result()
            every[name].add(own)
            print(f"{name}, seed {seed}: {sum(own.seconds.values()):.0f} s", file=sys.stderr, flush=True)
            if given.output:
                write_json(given.output, {name: asdict(own) for name, own in every.items()})


def main() -> None:
    """Search, print, and write where asked."""
    given = arguments()
    releases = installed(given.python)
    absent = [name for name in given.strategies if name in TOOLS and name not in releases]
    lines = [f"- {name} is not installed: what FILE has of it counts, and no more" for name in absent]
    lines += [f"- {name}: {release}" for name, release in releases.items() if name in given.strategies]
    every = {name: Measured() for name in given.tasks} | read(given.output)
    for own in every.values():
        own.found = [one for one in own.found if one.strategy not in given.again]
    search_tasks(every, [name for name in given.strategies if name not in absent], given)
    measured = {name: every[name] for name in given.tasks}
    gains = Gains.of(measured, given.strategies, given.budgets, given.seeds)
    lines += ["", *tables(gains), *costs(measured, given.strategies)]
    print("\n".join(lines))
    if given.table:
        write_text(given.table, "\n".join(lines))


if __name__ == "__main__":
    run(main)
