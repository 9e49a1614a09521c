"""What the default search takes to decide and to propose, beside Optuna's TPE and Gaussian process, without a training.

OMP_NUM_THREADS=1 python benchmarks/asks.py [--most 1000]
python benchmarks/asks.py --quick    does it run at all: the figures mean nothing

A worker asks a study with a journal, as sweeps do: who goes on, or who begins and with which values. What trials report
is made up. The time of an ask is from the study's lock to the values, in the process that asks; the median is over the
asks while the study has 150 to 250 trials, and 950 to 1,000. Optuna's samplers are asked for a new trial each time, by
Optuna alone and with its storage in memory. One space has six parameters, the other three groups of four, each of which
belongs to one choice.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from hypermap.search.schedule import SCHEDULE, Allowed
from hypermap.search.space import Condition, Parameter, Space
from hypermap.search.storage import batching
from hypermap.search.strategy import AUTO, AUTO_PRUNER, Samplers, make_pruner, make_scheduler
from hypermap.search.study import StudyConfig, TrialQueue, connect, open_study

EPOCHS = 30
RANGES = ((150, 250), (950, 1000))
QUICK_RANGES = ((10, 11),)
FLAT = Space(
    (
        *(Parameter(f"x{k}", f"x{k}", "", FloatDistribution(1e-4, 1.0, log=True)) for k in range(4)),
        Parameter("choice", "choice", "", CategoricalDistribution(["a", "b", "c"])),
        Parameter("n", "n", "", IntDistribution(16, 256, log=True)),
    )
)
CONDITIONAL = Space(
    (
        Parameter("model", "model", "", CategoricalDistribution(["a", "b", "c"])),
        *(
            Parameter(
                f"{name}{k}", f"{name}{k}", "", FloatDistribution(0.0, 1.0), conditions=(Condition("model", (name,)),)
            )
            for name in "abc"
            for k in range(4)
        ),
    )
)


def curve(params: dict[str, object], rng: np.random.Generator) -> list[float]:
    """Return made-up scores after each epoch, which rise to what the values come to."""
    end = -sum((value - 0.3) ** 2 for value in params.values() if isinstance(value, float))
    return [end * (1 + 0.5**epoch) + 0.02 * rng.standard_normal() for epoch in range(1, EPOCHS + 1)]


def of_the_project(space: Space, most: int) -> Iterator[tuple[int, float]]:
    """Yield the trials there are and the seconds of an ask, until there are `most`."""
    with tempfile.TemporaryDirectory() as made:
        folder, rng = Path(made), np.random.default_rng(0)
        plan = StudyConfig(
            "asks", str(folder / "journal.log"), folder, space, ("maximize",), ("score",), {"_target_": AUTO},
            {"_target_": AUTO_PRUNER}, None, 0, budget=float(most), horizon=EPOCHS, pauses=True, baseline={},
        )  # fmt: skip
        open_study(plan, {"identity": {}}, force=True)
        pruner = make_pruner(plan)
        study = connect(plan, pruner)
        claims = TrialQueue(plan, study, Samplers(plan), make_scheduler(plan, pruner))
        curves: dict[int, list[float]] = {}
        while len(curves) < most:
            with claims.deciding() as trials:
                begun = time.perf_counter()
                claim = claims.next(trials)
                assert claim is not None
                with batching(study._storage):
                    space.suggest(claim.trial)
                seconds = time.perf_counter() - begun
            trial = study._storage.get_trial(claim.trial._trial_id)
            scores = curves.setdefault(trial.number, curve(trial.params, rng))
            yield len(curves), seconds
            until = Allowed.of(trial).until or EPOCHS
            with batching(study._storage):
                for epoch in range((trial.last_step or 0) + 1, until + 1):
                    claim.trial.report(scores[epoch - 1], epoch)
                if until == EPOCHS:
                    study.tell(claim.trial, max(scores))
                else:
                    study._storage.set_trial_user_attr(trial._trial_id, SCHEDULE, Allowed(until, paused=True).record())
            claim.lock.release()


def of_optuna(sampler: BaseSampler, space: Space, most: int) -> Iterator[tuple[int, float]]:
    """Yield likewise, each trial being complete."""
    study, rng = optuna.create_study(direction="maximize", sampler=sampler), np.random.default_rng(0)
    for number in range(most):
        begun = time.perf_counter()
        trial = study.ask()
        space.suggest(trial)
        yield number, time.perf_counter() - begun
        study.tell(trial, max(curve(trial.params, rng)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1000, help="trials that the studies come to")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a dozen trials")
    given = parser.parse_args()
    every, most = (QUICK_RANGES, 12) if given.quick else (RANGES, given.most)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = [(low, high) for low, high in every if high <= most]
    columns = [f"{kind}, {low} to {high} trials" for kind in ("six parameters", "conditional") for low, high in ranges]
    print(f"| ms an ask | {' | '.join(columns)} |")
    print("|---" + "|--:" * len(columns) + "|")
    for name in ("auto", "TPE (Optuna)", "Gaussian process (Optuna)"):
        cells = []
        for space in (FLAT, CONDITIONAL):
            if name == "auto":
                asks = list(of_the_project(space, most))
            elif name.startswith("TPE"):
                asks = list(of_optuna(TPESampler(seed=0), space, most))
            else:  # it is slow: the smaller number alone
                asks = list(of_optuna(GPSampler(seed=0), space, min(most, every[0][1] + 1)))
            for low, high in ranges:
                own = [1000 * seconds for number, seconds in asks if low <= number <= high]
                cells.append(f"{statistics.median(own):.1f}" if own else "")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
