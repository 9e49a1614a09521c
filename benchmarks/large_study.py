"""How long the report of a large study takes: 1,000 trials of 50 epochs, with ten parameters and with sixty.

python benchmarks/large_study.py
python benchmarks/large_study.py --quick    does it run at all: thirty trials

The study is made up: a score with a peak in two of the parameters, noise, half of the trials pruned, one in six failed.
What is timed is what a person waits for: a process that imports, opens the study's file, and writes every file of the
report.
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import optuna  # noqa: E402
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution  # noqa: E402
from optuna.trial import FrozenTrial, TrialState, create_trial  # noqa: E402

from hypermap.search.storage import open_storage  # noqa: E402

EPOCHS = 50
BEGAN = datetime(2026, 1, 1)
STATES = (*[TrialState.COMPLETE] * 2, *[TrialState.PRUNED] * 3, TrialState.FAIL)


def trial(drawn: random.Random, number: int, space: dict[str, BaseDistribution]) -> FrozenTrial:
    """One trial: two workers, five seconds each on average."""
    rates = {name: 10 ** drawn.uniform(-4, 0) for name in space if name != "choice"}
    params = rates | {"choice": drawn.choice("abc")}
    score = 1 - abs(math.log10(rates["p0"]) + 2) / 5 - abs(math.log10(rates["p1"]) + 1) / 40 + drawn.gauss(0, 0.02)
    state = drawn.choice(STATES)
    epochs = {TrialState.COMPLETE: EPOCHS, TrialState.FAIL: 0}.get(state, drawn.randint(1, EPOCHS - 10))
    made = create_trial(
        state=state,
        value=score if state == TrialState.COMPLETE else None,
        params=params,
        distributions=space,
        intermediate_values={epoch: score - 1 / epoch for epoch in range(1, epochs + 1)},
    )
    made.datetime_start = BEGAN + timedelta(seconds=5 * number)
    made.datetime_complete = made.datetime_start + timedelta(seconds=9)
    return made


def make(storage: Path, trials: int, parameters: int) -> None:
    """A study in a journal file."""
    space: dict[str, BaseDistribution] = {
        f"p{k}": FloatDistribution(1e-4, 1, log=True) for k in range(parameters - 1)
    } | {"choice": CategoricalDistribution(["a", "b", "c"])}
    drawn = random.Random(0)
    study = optuna.create_study(study_name="large", storage=open_storage(str(storage)), direction="maximize")
    study.add_trials([trial(drawn, number, space) for number in range(trials)])


def seconds(folder: Path) -> float:
    """Of the command that a person types."""
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "src/report.py"), "study=large", "storage=journal.log"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each size of study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run: thirty trials of ten parameters, one round")
    arguments = parser.parse_args()
    trials, rounds = (30, 1) if arguments.quick else (arguments.trials, arguments.rounds)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"| trials | epochs | parameters | seconds, median of {rounds} |\n|--:|--:|--:|--:|")
    for parameters in (10,) if arguments.quick else (10, 60):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "journal.log", trials, parameters)
            taken = [seconds(Path(folder)) for _ in range(rounds)]
        print(f"| {trials} | {EPOCHS} | {parameters} | {statistics.median(taken):.1f} |", flush=True)


if __name__ == "__main__":
    main()
