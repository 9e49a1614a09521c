"""Whether the intervals of a study's report cover, and whether it takes the luck out of the best score: known truths.

python benchmarks/intervals.py [--repeats 2000] [--seed 0]
python benchmarks/intervals.py --quick    does it run at all: ten repeats, whose figures mean nothing

Each situation is a distribution of true scores, a number of trials, and the noise of one score, which is given as a
multiple of the spread (standard deviation) of the best quarter of the true scores. A repeat draws the trials' true
scores and what the search saw of them, takes the best and the runner-up of what it saw, and trains both and a baseline,
one more draw from the same distribution, again with fresh noise. Nothing is trained; every figure comes from the
functions that the report calls.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import optuna

from hypermap.reports.study.noise import noise
from hypermap.reports.study.statistics import difference, estimate, optimism
from hypermap.reports.study.view import BASELINE, Confirmed, StudyData

CONFIDENCE = 0.95
RETRAININGS = (3, 5, 10)
COVERAGE, BIAS = (0.93, 0.97), 0.1
BINS = (0.0, 0.2, 0.5, 0.8, 0.95, 1.0)
optuna.logging.set_verbosity(optuna.logging.WARNING)
STUDY = StudyData("", ("score",), ("maximize",), (), (), optuna.create_study())

Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """The textbook's."""
    return rng.normal(0.0, 1.0, n)


def ceiling(rng: np.random.Generator, n: int) -> np.ndarray:
    """A pile below a ceiling with a tail of worse ones, as of accuracies."""
    return rng.beta(6.0, 1.3, n)


def few_good(rng: np.random.Generator, n: int) -> np.ndarray:
    """Four of five are bad, in many ways; the others are much alike."""
    return np.where(rng.random(n) < 0.8, rng.uniform(0.1, 0.7, n), rng.normal(0.9, 0.02, n))


def two_levels(rng: np.random.Generator, n: int) -> np.ndarray:
    """Nine of ten are equal, and the others better than they by the same."""
    return np.where(rng.random(n) < 0.9, 0.0, 1.0)


def equal(rng: np.random.Generator, n: int) -> np.ndarray:
    """No configuration is better than another: the best is nothing but luck."""
    return np.zeros(n)


@dataclass(frozen=True)
class Situation:
    """What is searched, and how noisy it is; `ratio` is that of the noise to the spread of the best quarter."""

    name: str
    draw: Draw
    trials: int
    ratio: float

    def noise(self) -> float:
        """Standard deviation of one score."""
        best = np.sort(self.draw(np.random.default_rng(0), 100_000))[-25_000:]
        return self.ratio * (float(best.std()) or 1.0)

    def __str__(self) -> str:
        told = "" if self.draw is equal else f", noise {self.ratio:g} × spread"
        return f"{self.name}, {self.trials} trials{told}"


SITUATIONS = (
    Situation("normal", normal, 10, 0.5),
    Situation("normal", normal, 10, 2),
    Situation("normal", normal, 50, 1),
    Situation("below a ceiling", ceiling, 20, 1),
    Situation("below a ceiling", ceiling, 50, 0.5),
    Situation("few good", few_good, 20, 1),
    Situation("few good", few_good, 50, 0.3),
    Situation("few good", few_good, 200, 1),
    Situation("two levels", two_levels, 10, 1),
    Situation("all equal", equal, 20, 1),
)


class Interval(Protocol):
    """What has two ends; None: there is none."""

    @property
    def low(self) -> float | None:
        """The lower end."""

    @property
    def high(self) -> float | None:
        """The upper end."""


def covers(found: Interval, truth: float) -> bool:
    """Whether an interval holds the truth."""
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def simulate(situation: Situation, repeats: int, seed: int) -> dict[str, np.ndarray]:
    """What happened in each repeat, by the name of what was looked at."""
    rng, sd, rows = np.random.default_rng(seed), situation.noise(), []
    for repeat in range(repeats):
        truth = situation.draw(rng, situation.trials)
        seen = truth + rng.normal(0.0, sd, situation.trials)
        best, second = np.argsort(-seen)[:2]
        true = np.array([truth[best], truth[second], situation.draw(rng, 1)[0]])
        known = optimism(seen.tolist(), sd, 1, CONFIDENCE, repeat)
        assert known is not None
        row = {"raw": (seen[best] - true[0]) / sd}
        row |= {"known": (known.corrected - true[0]) / sd, "known covers": covers(known, true[0])}
        row |= {"width": (known.high - known.low) / sd}
        for r in RETRAININGS:
            own, other, baseline = true[:, None] + rng.normal(0.0, sd, (3, r))
            runner, base = (difference(own, scores, 1, CONFIDENCE) for scores in (other, baseline))
            row |= {f"mean {r}": covers(estimate(own, CONFIDENCE), true[0])}
            row |= {f"runner-up {r}": covers(runner, true[0] - true[1])}
            row |= {f"baseline {r}": covers(base, true[0] - true[2])}
            for name, found, against in (("runner-up", runner, true[1]), ("baseline", base, true[2])):
                row |= {f"{name} probability {r}": found.probability}
                row |= {f"{name} better {r}": 0.5 + 0.5 * np.sign(true[0] - against)}
            again = (Confirmed(0, tuple(own)), Confirmed(1, tuple(other)), Confirmed(BASELINE, tuple(baseline)))
            if r != RETRAININGS[-1]:
                moved = noise(replace(STUDY, confirmed=again))
                assert moved is not None
                told = optimism(seen.tolist(), moved.sd, 1, CONFIDENCE, repeat, moved.freedom)
                assert told is not None
                row |= {f"{r}": (told.corrected - true[0]) / sd, f"{r} covers": covers(told, true[0])}
        rows.append(row)
    return {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}


def share(values: np.ndarray, missed: list[str], what: str) -> str:
    """A coverage for a cell, in bold where it is not the one that was asked for."""
    found = float(values.mean())
    if COVERAGE[0] <= found <= COVERAGE[1]:
        return f"{100 * found:.1f} %"
    missed.append(f"{what}: {100 * found:.1f} %")
    return f"**{100 * found:.1f} %**"


def left(values: np.ndarray, raw: np.ndarray, missed: list[str], what: str) -> str:
    """A bias as a share of the raw one with its standard error, in bold where it is not as small as was asked for."""
    found, error = values.mean() / raw.mean(), values.std(ddof=1) / math.sqrt(len(values)) / raw.mean()
    told = f"{100 * found:+.0f} ± {100 * error:.0f} %"
    if abs(found) < BIAS:
        return told
    missed.append(f"{what}: {told}")
    return f"**{told}**"


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table; all columns but the first are numbers."""
    print("| " + " | ".join(header) + " |\n|---|" + "--:|" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def reliability(found: list[dict[str, np.ndarray]], name: str, r: int) -> list[str]:
    """Of a pair: how often the winner was better, in the repeats in which that was as probable; Brier's score."""
    said = np.concatenate([each[f"{name} probability {r}"] for each in found])
    was = np.concatenate([each[f"{name} better {r}"] for each in found])
    cells = [name, str(r)]
    for low, high in itertools.pairwise(BINS):
        here = (said >= low) & (said < high if high < 1 else said <= high)
        cells.append(f"{100 * said[here].mean():.0f} → {100 * was[here].mean():.0f} %" if here.any() else "")
    return [*cells, f"{np.mean((said - was) ** 2):.3f}"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a smoke run: ten repeats")
    arguments = parser.parse_args()
    repeats = 10 if arguments.quick else arguments.repeats
    found = [simulate(situation, repeats, arguments.seed + k) for k, situation in enumerate(SITUATIONS)]
    missed: list[str] = []
    error = 100 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repeats)
    print(f"{repeats:,} repeats a situation; a figure in bold misses its target.\n")

    print(f"**Coverage of the 95 % intervals after retraining** (target 93 to 97 %; standard error {error:.1f} %)\n")
    kinds = {"mean": "winner", "runner-up": "winner − runner-up", "baseline": "winner − baseline"}
    columns = [(kind, r) for kind in kinds for r in RETRAININGS]
    rows = [
        [str(s), *(share(f[f"{kind} {r}"], missed, f"{s}: {kinds[kind]}, r = {r}") for kind, r in columns)]
        for s, f in zip(SITUATIONS, found, strict=True)
    ]
    table(["situation", *(f"{kinds[kind]}, r = {r}" for kind, r in columns)], rows)

    known = {"known": "noise known"}
    sources = known | {f"{r}": f"noise from 3 × {r} retrainings" for r in RETRAININGS[:-1]}
    print("**Bias of the best score before retraining** (target: under 10 % of the raw bias is left)\n")
    rows = [
        [str(s), f"{f['raw'].mean():.2f}", *(left(f[n], f["raw"], missed, f"{s}: {t}") for n, t in sources.items())]
        + [f"{np.sqrt(np.mean(f[name] ** 2)):.2f}" for name in ("raw", "known")]
        for s, f in zip(SITUATIONS, found, strict=True)
    ]
    header = ["situation", "raw bias, in units of the noise", *(f"left, {told}" for told in sources.values())]
    table([*header, "root mean square error, raw", "corrected"], rows)

    print("**Coverage of the corrected score's 95 % interval** (target 93 to 97 %)\n")
    rows = [
        [
            str(s),
            *(share(f[f"{n} covers"], missed, f"{s}: corrected, {t}") for n, t in sources.items()),
            f"{np.median(f['width']):.1f}",
        ]
        for s, f in zip(SITUATIONS, found, strict=True)
    ]
    table(["situation", *sources.values(), "width, in units of the noise"], rows)

    print("**The probability that the winner is better**: said → how often it was, over all situations with a truth\n")
    told = [f for s, f in zip(SITUATIONS, found, strict=True) if s.draw is not equal]
    bins = [f"{100 * low:.0f} to {100 * high:.0f} %" for low, high in itertools.pairwise(BINS)]
    rows = [reliability(told, name, r) for name in ("runner-up", "baseline") for r in RETRAININGS]
    table(["against", "r", *bins, "Brier's score"], rows)
    print("\n".join(["Missed:", "", *(f"- {each}" for each in missed)]) if missed else "No target was missed.")


if __name__ == "__main__":
    main()
