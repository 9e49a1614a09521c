"""Training speed: samples per second of Hypermap's trainer beside three others, same data, network and settings.

python benchmarks/throughput.py            three to seven minutes; `make bench` makes the environment first
python benchmarks/throughput.py --quick    does it run at all: the figures mean nothing

How they race is told in `race.py`, who races in `trainers.py`. What is timed is training alone: no start-up, no
validation, no logging, no checkpoints.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from race import ROUNDS, SECONDS, Contender, Entry, contenders, is_installed, machine_lines, prepare, race
from trainers import PACKAGES, PEERS, hypermap, peers


@dataclass(frozen=True)
class Problem:
    """A data set and a network, as conf/ has them, and how many times as fast as a peer Hypermap is to be."""

    title: str
    overrides: tuple[str, ...]  # of the defaults of conf/, as on the command line of src/train.py
    targets: dict[str, float]


PROBLEMS = (
    Problem(
        "Digits, MLP 64-128-10",
        ("optimizer.lr=0.001",),
        {"textbook": 1.9, "lightning": 4.0, "keras": 5.0},
    ),
    Problem(
        "MNIST, MLP 784-128-10 with dropout 0.2",
        ("experiment=mnist_mlp", "scheduler=constant", "optimizer.lr=0.001"),
        {"textbook": 1.6},
    ),
)
NAMES = ("hypermap", *PEERS)


def table(entrants: Sequence[Contender], targets: dict[str, float]) -> list[str]:
    """A Markdown table; a target is held against the faster of a peer's two numbers of threads."""
    lines = [
        "| trainer | threads | thousand samples a second, median | min | max | Hypermap is | target |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    own = next((c.median for c in entrants if c.name == "hypermap"), math.nan)
    fastest = {c.name: max(o.median for o in entrants if o.name == c.name) for c in entrants}
    for contender in entrants:
        ratio, target = own / contender.median, targets.get(contender.name)
        metrics = " | ".join(
            f"{rate / 1000:.1f}" for rate in (contender.median, min(contender.rates), max(contender.rates))
        )
        times = "" if contender.name == "hypermap" else f"{ratio:.2f} times as fast"
        held = contender.median == fastest[contender.name]
        verdict = f"{target}: {'met' if ratio >= target else 'not met'}" if target is not None and held else ""
        lines.append(f"| {contender.name} | {contender.threads} | {metrics} | {times} | {verdict} |")
    return lines


def measure(problem: Problem, names: Sequence[str], quick: bool) -> list[str]:
    """The race on one problem, as lines of Markdown."""
    work, data = prepare(problem.overrides, quick)
    settings = work.configuration
    own = [Entry("hypermap", hypermap)] if "hypermap" in names else []
    with contenders([*own, *peers([name for name in names if name in PEERS])], work) as entrants:
        race(entrants, 1 if quick else ROUNDS, 0.0 if quick else SECONDS)
    told = (
        f"{entrants[0].rows:,} rows, {data}; batches of {settings['trainer']['batch_size']}, "
        f"Adam at {settings['optimizer']['lr']}; on: {', '.join(sorted({c.device for c in entrants}))}"
    )
    return [f"**{problem.title}.** {told}", "", *table(entrants, problem.targets), ""]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few rows of digits, one epoch, one round")
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result here too, as Markdown")
    return parser.parse_args()


def main() -> None:
    """Race on each problem, print, and write where asked. The exit code says nothing of the figures."""
    from hypermap.core.files import write_text

    options = arguments()
    absent = [name for name in options.contenders if name in PACKAGES and not is_installed(name)]
    names = [name for name in options.contenders if name not in absent]
    lines = [
        *(f"- {line}" for line in machine_lines(*PACKAGES)),
        *(f"- {name} is not installed: left out" for name in absent),
        "",
    ]
    print("\n".join(lines), flush=True)
    for problem in PROBLEMS[: 1 if options.quick else None] if names else ():
        told = measure(problem, names, options.quick)
        print("\n".join(told), flush=True)
        lines += told
    if options.output:
        write_text(options.output, "\n".join(lines))


if __name__ == "__main__":
    from hypermap.core.cli import run

    run(main)
