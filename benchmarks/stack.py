"""Many configurations trained as one stack: how much faster than one by one, and than others' ways of doing it.

python benchmarks/stack.py                        about twenty minutes; `make bench` makes the environment first
python benchmarks/stack.py --parts digits sweep   some of the three parts
python benchmarks/stack.py --quick                does it run at all: the figures mean nothing

digits, mnist: configurations × samples a second, raced as `race.py` tells: training alone, without validation.
sweep: a whole sweep of random configurations, from the command to the last trial told, and whether scores agree.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from race import CACHE, ROOT, ROUNDS, SECONDS, Contender, Entry, contenders, is_installed, machine_lines, prepare, race
from trainers import PACKAGES, PEERS, hypermap, peers

BACKENDS = ("auto", "native", "batched")
SINGLE, WORKERS, OPTUNA = "single run", "two workers", "plain Optuna"
BESIDE = ("single", "workers", *PEERS)  # what a stack may be raced against


@dataclass(frozen=True)
class Problem:
    """A data set and a network, the sizes of stacks, and how many times as fast as a peer the first is to be."""

    title: str
    overrides: tuple[str, ...]  # of the defaults of conf/, as on the command line of src/train.py
    sizes: tuple[int, ...]
    threads: tuple[int | None, ...]  # of a single run; None: as it picks itself
    peers: tuple[str, ...]
    targets: dict[str, float]


PROBLEMS = {
    "digits": Problem(
        "Digits, MLP 64-128-10",
        ("optimizer.lr=0.001",),
        (64, 16),
        (None,),  # it picks one
        tuple(PEERS),
        {SINGLE: 3.5, WORKERS: 2.0, "textbook": 8.0, "lightning": 18.0},
    ),
    "mnist": Problem(
        "MNIST, MLP 784-128-10 with dropout 0.2",
        ("experiment=mnist_mlp", "scheduler=constant", "optimizer.lr=0.001"),
        (16,),
        (None, 1),
        ("textbook",),
        {SINGLE: 1.4},
    ),
}
SWEEP_TARGETS = {SINGLE: 4.0, WORKERS: 2.0, OPTUNA: 8.0}
FIXED = ("data=digits", "model=mlp", "optimizer=adam", "scheduler=constant", "trainer.batch_size=64")
SPACE = ("optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.dropout=interval(0.05,0.5)")
STUDY = "benchmark"
SWEEPER = (
    "hydra/sweeper/sampler=random",
    "hydra/sweeper/pruner=none",
    "hydra.sweeper.report=false",
    f"hydra.sweeper.study_name={STUDY}",
)


# The race: training alone.


def entries(problem: Problem, beside: Sequence[str], quick: bool) -> list[Entry]:
    """Stacks of each size by each backend, this project's own single runs, and the peers."""
    found = [
        Entry(f"stack of {size}, {backend}", partial(hypermap, members=size, backend=backend))
        for size in ((4,) if quick else problem.sizes)
        for backend in BACKENDS[:: 2 if quick else 1]
    ]
    if "single" in beside:
        found += [Entry(SINGLE, hypermap, threads) for threads in problem.threads[-1 if quick else 0 :]]
    if "workers" in beside and WORKERS in problem.targets:
        found.append(Entry(WORKERS, hypermap, threads=1, workers=2))
    return found + peers([name for name in beside if name in problem.peers], quick)


def raced(problem: Problem, beside: Sequence[str], quick: bool) -> list[str]:
    """The race on one problem, as lines of Markdown."""
    from hypermap.training.backends.native_build import why_no_compiler

    why_no_compiler()  # builds the kernel, so that the contenders do not do it all at once
    work, data = prepare(problem.overrides, quick)
    settings = work.configuration
    with contenders(entries(problem, beside, quick), work) as entrants:
        able = [contender for contender in entrants if not contender.refused]
        race(able, 1 if quick else ROUNDS, 0.0 if quick else SECONDS)
    told = (
        f"{able[0].rows:,} rows, {data}; batches of {settings['trainer']['batch_size']}, Adam around "
        f"{settings['optimizer']['lr']}, a rate and a seed for each of a stack."
    )
    refused = [f"- {contender.name} is left out: {contender.refused}" for contender in entrants if contender.refused]
    return [f"**{problem.title}.** {told}", "", *rates(able, problem.targets), "", *refused, ""]


def rates(entrants: Sequence[Contender], targets: dict[str, float]) -> list[str]:
    """A Markdown table of rates, each beside that of the first."""
    own = entrants[0]
    lines = [
        "| trainer | device | threads | thousand configurations × samples a second, median | min | max "
        f"| {own.name} is | target |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    ratios = [own.median / contender.median for contender in entrants]
    verdicts = judged([contender.name for contender in entrants], ratios, targets)
    for contender, ratio, verdict in zip(entrants, ratios, verdicts, strict=True):
        shown = (contender.median, min(contender.rates), max(contender.rates))
        metrics = " | ".join(f"{rate / 1000:,.1f}" for rate in shown)
        threads = (
            f"{len(contender.connections)} × {contender.threads}" if contender.name == WORKERS else contender.threads
        )
        name = contender.name + (f" ({contender.detail})" if contender.detail else "")
        times = "" if contender is own else f"{ratio:.2f} times as fast"
        lines.append(f"| {name} | {contender.device} | {threads} | {metrics} | {times} | {verdict} |")
    return lines


def judged(names: Sequence[str], ratios: Sequence[float], targets: dict[str, float]) -> list[str]:
    """Whether a target is met, told where a peer was the fastest, on whatever number of threads."""
    least = {name: min(r for n, r in zip(names, ratios, strict=True) if n == name) for name in names}
    return [
        f"{targets[name]:g}: {'met' if ratio >= targets[name] else 'not met'}"
        if name in targets and ratio == least[name]
        else ""
        for name, ratio in zip(names, ratios, strict=True)
    ]


# The sweep: from the command to the last trial told.


@dataclass(frozen=True)
class Swept:
    """What came of one sweep, and of each trial what was drawn and its score (None: it has none)."""

    seconds: float  # from the command to the last trial told
    start: float  # those of them until the first trial began
    values: list[dict[str, float]]
    scores: list[float | None]
    device: str
    by: str  # what carried out the steps


@dataclass
class Way:
    """A way to run the same trials."""

    name: str
    run: Callable[[int], Swept]  # given the number of its round
    rounds: int
    swept: list[Swept] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(swept.seconds for swept in self.swept)


def sweep_command(trials: int, epochs: int, *words: str) -> list[str]:
    """The words after ``python``."""
    budget = (f"trainer.epochs={epochs}", f"hydra.sweeper.n_trials={trials}")
    return ["src/train.py", "-m", *SPACE, *FIXED, *budget, *SWEEPER, *words]


def environment() -> dict[str, str]:
    """For a command in a clone: none of this checkout's code, and this Python's programs first."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def called(words: Sequence[str], folder: Path) -> float:
    """Run Python with these words to its end; the moment at which it was started, in seconds since 1970."""
    os.sync()  # so that nobody waits for the disk to take a copy that was made before
    started = time.time()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"python {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return started


@contextmanager
def template(prepared: Path) -> Iterator[Path]:
    """A clone of the repository as it is committed, with prepared data, the kernel where it was built, and ``rows.pt``.

    The last are the rows as a network takes them, for the peer, which does not prepare them within its time.
    """
    import torch

    from hypermap.data.prepared import load

    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "template"
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(clone)], check=True)
        shutil.copytree(prepared, clone / "data" / "prepared")
        if (kernel := CACHE / "kernel").is_dir():
            shutil.copytree(kernel, clone / "data" / "cache" / "kernel")
        splits = {name: load(prepared, name) for name in ("train", "validation")}
        rows = {name: (split.inputs, split.targets) for name, split in splits.items()}
        torch.save(rows, clone.parent / "rows.pt")
        yield clone


def our_sweep(clone: Path, words: Sequence[str], number: int) -> Swept:
    """A sweep of this project's, in a copy of the clone, so that it finds nothing of another."""
    import optuna

    from hypermap.search.storage import open_storage
    from trainers import device_name

    with tempfile.TemporaryDirectory(dir=clone.parent) as folder:
        place = Path(shutil.copytree(clone, Path(folder) / "repository", symlinks=True))
        started = called(words, place)
        storage = open_storage(str(place / "studies" / STUDY / "journal.log"))
        trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    results = [trial.user_attrs["result"] for trial in trials]
    ended = [result["outcome"] == "complete" for result in results]  # else it diverged, and its value says so
    return Swept(
        max(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete) - started,
        min(trial.datetime_start.timestamp() for trial in trials if trial.datetime_start) - started,
        [trial.params for trial in trials],
        [trial.value if complete else None for trial, complete in zip(trials, ended, strict=True)],
        device_name(),
        ", ".join(sorted({result.get("backend", "nothing") for result in results})),
    )


def plain_sweep(first: Way, rows: Path, asked: dict[str, Any], threads: int | None, number: int) -> Swept:
    """The trials that the first way drew, by Optuna and a textbook loop; each round has seeds of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "trials.json").write_text(json.dumps({**asked, "values": first.swept[0].values}), encoding="utf-8")
        words = [str(ROOT / "benchmarks/plain_optuna.py"), str(rows), "trials.json", "told.json"]
        started = called([*words, f"--seed={number}", *([f"--threads={threads}"] if threads else [])], place)
        told = json.loads((place / "told.json").read_text(encoding="utf-8"))
    by = f"textbook loop, {told['threads']} thread{'s' * (told['threads'] > 1)}"
    seconds, start = told["completed"] - started, told["began"] - started
    return Swept(seconds, start, told["values"], told["scores"], told["device"], by)


def ways(clone: Path, configuration: dict[str, Any], beside: Sequence[str], rounds: int, quick: bool) -> list[Way]:
    """Every way to run the sweep; the first is what the others are held against."""
    trials, size, epochs = (4, 4, 2) if quick else (128, 64, 20)
    often = max(rounds, 1 if quick else ROUNDS)

    def ours(name: str, repeats: int, *words: str) -> Way:
        return Way(name, partial(our_sweep, clone, sweep_command(trials, epochs, *words)), repeats)

    found = [
        ours(f"stack={choice}", often, f"hydra.sweeper.stack={choice}")
        for choice in ((size,) if quick else (size, "auto"))
    ]
    found += [ours(SINGLE, rounds)] if "single" in beside else []
    found += [ours(WORKERS, rounds, "hydra.sweeper.n_jobs=2")] if "workers" in beside else []
    if "textbook" in beside:
        (hidden,) = configuration["model"]["hidden"]
        asked = {
            "epochs": epochs,
            "batch_size": configuration["trainer"]["batch_size"],
            "hidden": hidden,
            "classes": 10,
        }
        for threads in (1,) if quick else (None, 1):
            run = partial(plain_sweep, found[0], clone.parent / "rows.pt", asked, threads)
            found.append(Way(OPTUNA, run, rounds))
    return found


def swept(beside: Sequence[str], rounds: int, quick: bool) -> list[str]:
    """The sweep in every way, round by round, as lines of Markdown."""
    from hypermap.training.backends.native_build import why_no_compiler

    why_no_compiler()  # builds the kernel, so that no sweep's time has it
    work, _ = prepare(FIXED, quick)
    assert work.prepared is not None
    with template(work.prepared) as clone:
        if not quick:
            called(sweep_command(2, 1, "hydra.sweeper.stack=2"), clone)  # compiles what Python keeps compiled
            shutil.rmtree(clone / "studies")
        found = ways(clone, work.configuration, beside, rounds, quick)
        for number in range(max(way.rounds for way in found)):
            for way in found:
                if number < way.rounds:
                    way.swept.append(way.run(number))
                    print(f"round {number + 1}, {way.name}: {way.swept[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    command = " ".join(
        f"'{word}'" if "(" in word else word for word in sweep_command(*((4, 2) if quick else (128, 20)))
    )
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    uncommitted = " Edits that are not committed are not in it." if dirty else ""
    told = f"From the command to the last trial told, each in a fresh copy of a clone.{uncommitted} python {command}"
    return [f"**A whole sweep.** {told}", "", *seconds_table(found), "", *agreement(found), ""]


def seconds_table(found: Sequence[Way]) -> list[str]:
    """A Markdown table of seconds, each beside those of the first."""
    own = found[0]
    lines = [
        "| way | device | steps by | seconds, median | min | max | until the first trial began, median | rounds "
        f"| {own.name} is | target |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    ratios = [way.median / own.median for way in found]
    for way, ratio, verdict in zip(
        found, ratios, judged([way.name for way in found], ratios, SWEEP_TARGETS), strict=True
    ):
        seconds = [swept.seconds for swept in way.swept]
        start = statistics.median(swept.start for swept in way.swept)
        metrics = " | ".join(f"{value:.2f}" for value in (way.median, min(seconds), max(seconds), start))
        times = "" if way is own else f"{ratio:.2f} times as fast"
        first = way.swept[0]
        lines.append(f"| {way.name} | {first.device} | {first.by} | {metrics} | {len(seconds)} | {times} | {verdict} |")
    return lines


def agreement(found: Sequence[Way]) -> list[str]:
    """A Markdown table of the differences of best validation accuracies, trial by trial, of each way's first round."""
    own, others = found[0], {way.name: way for way in found[1:]}
    pairs = [(own, 0, way, 0) for way in others.values()]
    if (plain := others.get(OPTUNA)) is not None and len(plain.swept) > 1:
        pairs.append((plain, 0, plain, 1))  # what another seed does by itself
    lines = [
        "| best validation accuracy of | less that of | same trials | mean difference | standard deviation | most |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for left, i, right, j in pairs:
        one, other = left.swept[i], right.swept[j]
        same = [first == second for first, second in zip(one.values, other.values, strict=True)]
        both = [(a, b) for a, b in zip(one.scores, other.scores, strict=True) if a is not None and b is not None]
        gaps = [a - b for a, b in both]
        name = f"{right.name}, with other seeds" if left is right else right.name
        lines.append(
            f"| {left.name} | {name} | {sum(same)} of {len(same)} | {statistics.fmean(gaps):+.5f} "
            f"| {statistics.stdev(gaps):.5f} | {max(map(abs, gaps)):.5f} |"
        )
    return lines


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: little of everything, one round")
    parts = ("digits", "sweep", "mnist")
    parser.add_argument(
        "--parts", nargs="+", choices=parts, metavar="PART", help="all; of a quick run digits and sweep"
    )
    parser.add_argument("--contenders", nargs="+", choices=BESIDE, metavar="NAME",
                        help=f"held against the stacks: {', '.join(BESIDE)}; if quick, single")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="sweeps of each way but the stacks, which have five")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result here too, as Markdown")
    options = parser.parse_args()
    options.parts = options.parts or list(parts[:2] if options.quick else parts)
    options.contenders = options.contenders or list(BESIDE[:1] if options.quick else BESIDE)
    return options


def main() -> None:
    """Run the parts, print, and write where asked. The exit code says nothing of the figures."""
    from hypermap.core.files import write_text

    options = arguments()
    output = options.output and options.output.absolute()
    os.chdir(ROOT)  # where the kernel is kept
    absent = [name for name in options.contenders if name in PACKAGES and not is_installed(name)]
    beside = [name for name in options.contenders if name not in absent]
    lines = [
        *(f"- {line}" for line in machine_lines("lightning", "keras", "optuna")),
        *(f"- {name} is not installed: left out" for name in absent),
        *(["- a quick run: the figures, and what is met, mean nothing"] if options.quick else []),
        "",
    ]
    print("\n".join(lines), flush=True)
    for part in options.parts:
        told = (
            swept(beside, 1 if options.quick else options.rounds, options.quick)
            if part == "sweep"
            else raced(PROBLEMS[part], beside, options.quick)
        )
        print("\n".join(told), flush=True)
        lines += told
    if output:
        write_text(output, "\n".join(lines))


if __name__ == "__main__":
    from hypermap.core.cli import run

    run(main)
