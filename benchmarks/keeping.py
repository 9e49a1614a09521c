"""Which epoch to keep, and whether a temperature helps: test accuracy and log loss of rules that see validation alone.

HYPERMAP_DATA=FOLDER python benchmarks/keeping.py
python benchmarks/keeping.py --quick    does it run at all: digits, two seeds, a few epochs

Each of seven data sets is learned in two ways, by 12 seeds with a split of their own (Adult, of which 8,000 rows are
taken, by 5). Each rule then keeps an epoch by the validation rows, and what counts is that epoch's test accuracy and
log loss less those of the best epoch by accuracy, the mean over data sets and ways of the mean over seeds. A margin is
in standard errors of the best accuracy: of epochs within it the one with the lowest loss is kept.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.core.cli import run
from hypermap.core.instantiate import instantiate
from hypermap.data.fold_data import Folds
from hypermap.data.prepared import load
from hypermap.datasets.prepare import find_or_prepare
from hypermap.experiments.estimators import TorchEstimator, make_estimator
from hypermap.tasks.calibration import fit_temperature, scale
from hypermap.training import regularizers
from hypermap.training.loop import Trainer

SEEDS, SEEDS_OF_ADULT = 12, 5
MLP = ("model=mlp", "optimizer=adam", "optimizer.lr=0.003", "scheduler=constant")
CYCLE = ("model=mlp", "model.hidden=[128]", "optimizer=adam", "optimizer.lr=0.01", "scheduler=one_cycle")
TABLES = ("titanic", "german_credit", "wine_quality", "bank_marketing", "adult")


def ways() -> dict[str, list[str]]:
    """Return the words of each way to learn a data set, by name."""
    found: dict[str, list[str]] = {}
    for data in TABLES:
        rows = ["data.rows=8000"] * (data == "adult")
        found[f"{data}, experiment=table"] = ["experiment=table", f"data={data}", *rows]
        found[f"{data}, mlp"] = [f"data={data}", *MLP, *rows]
    for data in ("breast_cancer", "digits"):
        found[f"{data}, one cycle"] = [f"data={data}", *CYCLE]
        found[f"{data}, mlp"] = [f"data={data}", *MLP]
    return found


@dataclass
class Outputs:
    """What a network gives after each epoch.

    Attributes:
        validation, test: probabilities ``(epochs, rows, classes)``, float64.
        validation_targets, test_targets: ``(rows,)``.
        accuracies, losses: of the validation rows, an epoch each.
    """

    validation: np.ndarray
    test: np.ndarray
    validation_targets: np.ndarray
    test_targets: np.ndarray
    accuracies: list[float]
    losses: list[float]


class Watching(Trainer[int]):
    """A trainer that keeps what the network gives for validation and test rows after each epoch."""

    def __init__(self, member: Any, sets: Any, test: Any) -> None:
        super().__init__({0: member}, {0: sets})
        self.test = test
        self.seen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    def evaluate(self) -> list[dict[str, float]]:
        """Measure as ever, and look at the test rows, which decide nothing."""
        rows = super().evaluate()
        member = self.members[0]
        with torch.random.fork_rng([]):
            for split, kept in zip((self.sets[0].validation, self.test), self.seen, strict=True):
                outputs = self.backend.eval_outputs(split.inputs, [0])[0]
                kept.append(member.parts.loss.predictions(outputs).double().numpy())
        return rows


def train(words: Sequence[str], seed: int, cache: Path) -> Outputs:
    """Train once."""
    configuration = compose([*words, f"seed={seed}", f"data.split_seed={seed}"], None)
    prepared = find_or_prepare(configuration["data"], [], cache)
    folds = Folds(prepared)
    rows = folds.of(folds.development.holdout)
    estimator = make_estimator(configuration, instantiate(configuration["trainer"]), rows.transform)
    assert isinstance(estimator, TorchEstimator)
    fold = estimator.encode(rows)
    test = estimator.encode(replace(rows, validation=load(prepared, "test"))).sets.validation
    member = estimator.begin(fold, seed)
    trainer = Watching(member, fold.sets, test)
    for ended in trainer.run(lambda told: {}):
        for result in ended.values():
            if isinstance(result, Exception):
                raise result
    history = member.history
    validation, tested = (np.array(kept) for kept in trainer.seen)
    return Outputs(
        validation, tested, fold.sets.validation.targets.numpy(), test.targets.numpy(),
        [row["validation_score"] for row in history], [row["validation_loss"] for row in history],
    )  # fmt: skip


def within(margin: float) -> Callable[[Outputs], int]:
    """Return the project's rule with a margin of its own; 0 keeps the best epoch by accuracy, of equals by loss."""

    def rule(seen: Outputs) -> int:
        with mock.patch.object(regularizers, "ALIKE", margin):
            kept = regularizers.kept_epochs(seen.accuracies, seen.losses, len(seen.validation_targets))
        return kept[0] - 1

    return rule


RULES: dict[str, Callable[[Outputs], int]] = {
    "the best accuracy": within(0.0),
    "margin 0.25 (as it is)": within(regularizers.ALIKE),
    "margin 0.5": within(0.5),
    "margin 1": within(1.0),
    "the lowest loss of all": lambda seen: int(np.argmin(seen.losses)),
}


def log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean log loss ``(rows, classes)``."""
    own = probabilities[np.arange(len(targets)), targets.astype(int)]
    return float(-np.log(np.maximum(own, np.finfo(float).eps)).mean())


def metrics(seen: Outputs, kept: int) -> tuple[float, float, float]:
    """Return the test accuracy and the test log loss of an epoch, without and with a temperature."""
    test, targets = seen.test[kept], seen.test_targets
    temperature = fit_temperature(seen.validation[kept], seen.validation_targets.astype(int))
    accuracy = float((test.argmax(1) == targets).mean())
    return accuracy, log_loss(test, targets), log_loss(scale(test, temperature), targets)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits, two seeds, three epochs")
    given = parser.parse_args()
    chosen = {"digits, mlp": ["data=digits", *MLP, "trainer.epochs=3"]} if given.quick else ways()
    seeds = 2 if given.quick else given.seeds
    device.make_repeatable()
    torch.set_num_threads(1)
    found: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, words in chosen.items():
            own = range(min(seeds, SEEDS_OF_ADULT) if name.startswith("adult") else seeds)
            trained = [train(words, seed, Path(cache)) for seed in own]
            found[name] = {rule: np.array([metrics(o, keep(o)) for o in trained]) for rule, keep in RULES.items()}
            print(name, file=sys.stderr, flush=True)

    print("| kept | accuracy | its worst | log loss |\n|---|--:|--:|--:|")
    for rule in RULES:
        means = np.array([(of[rule] - of["the best accuracy"])[:, :2].mean(0) for of in found.values()])
        accuracy, loss = means.mean(0)
        print(f"| {rule} | {accuracy:+.4f} | {means[:, 0].min():+.4f} | {loss:+.3f} |")
    print("\n| as it is | accuracy | log loss | with a temperature |\n|---|--:|--:|--:|")
    for name, of in found.items():
        accuracy, plain, scaled = (statistics.fmean(column) for column in of["margin 0.25 (as it is)"].T)
        print(f"| {name} | {accuracy:.4f} | {plain:.4f} | {scaled:.4f} |")


if __name__ == "__main__":
    run(main)
