"""Which learning rates a network needs that is trained again on all rows, for the epochs that validation has picked.

HYPERMAP_DATA=FOLDER python benchmarks/refit_schedule.py [--seeds 5] [--sets titanic adult …]
python benchmarks/refit_schedule.py --quick    does it run at all: a small set, one seed, two epochs

`experiment=table` is trained on four fifths of the training rows, its epoch picked on the last fifth; then on all of
them for as many epochs, with the learning rates laid out over these epochs (as `final=refit` does it), or with those of
the whole training, cut there. Scores are of the validation rows, which no training saw; no test row is opened.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.data.cross_validation import Fold
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec
from hypermap.experiments.estimators import Taken, TrainResult
from hypermap.experiments.scheduler import Job, run_jobs
from hypermap.training import artifacts
from hypermap.training.network import Network
from hypermap.training.state import TrainState

SETS = {
    "german_credit": [],
    "titanic": [],
    "bank_marketing": [],
    "wine_quality": ["data.task=regression"],
    "adult": ["data.rows=6000"],
    "california_housing": ["data.rows=5000"],
}
QUICK = {"breast_cancer": ["trainer.epochs=2"]}
WAYS = ("split", "laid out anew", "cut")
SHARE = 5  # one part in so many picks the epoch

Metrics = Mapping[str, float]


def cut(state: TrainState, steps: int) -> list[float]:
    """Return the learning rates of an epoch in a training of all its epochs."""
    planned = state.parts.schedule.learning_rates(state.base_lr, state.settings.length, steps)
    return planned[state.epochs * steps : (state.epochs + 1) * steps]


def measure(configuration: Mapping[str, Any], prepared: Path, folder: Path) -> tuple[dict[str, Metrics], int]:
    """Return the metrics of each way, and the epoch that was picked."""
    validator, seed = CrossValidator(configuration, prepared), configuration["seed"]
    holdout = validator.folds.development.holdout
    order = np.random.default_rng(seed).permutation(holdout.train)
    picking, learning = np.sort(order[: len(order) // SHARE]), np.sort(order[len(order) // SHARE :])
    whole = np.sort(order)

    def fit(spec: FoldSpec, name: str) -> TrainResult:
        (result,) = (
            one for ended in run_jobs([Job(validator, spec, folder / name)], lambda _: {}) for one in ended.values()
        )
        if isinstance(result, Exception):
            raise result
        return result

    def scored(result: TrainResult, train: np.ndarray) -> Metrics:
        rows = validator.folds.of(Fold(train, holdout.validation))
        assert isinstance(result.predict, Network)
        return artifacts.score(rows.validation, result.predict(rows.validation.inputs), rows.transform)

    split = fit(FoldSpec(Fold(learning, picking), seed), "split")
    again = FoldSpec(Fold(whole, whole[:0]), seed, Taken.of(split, [split]))
    found = {"split": scored(split, learning), "laid out anew": scored(fit(again, "anew"), whole)}
    with patch.object(TrainState, "learning_rates", cut):
        found["cut"] = scored(fit(again, "cut"), whole)
    return found, split.best_epoch


def page(results: Mapping[str, Sequence[Mapping[str, Metrics]]]) -> str:
    """The table, in Markdown: means, and in how many of the trainings each way of a refit is the better one."""
    lines = ["| set | metric | of the split | laid out anew | cut | anew is better |", "|---|---|--:|--:|--:|--:|"]
    for name, each in results.items():
        for metric in [key for key in ("accuracy", "log_loss", "rmse", "r2") if key in each[0]["split"]]:
            values = {way: np.array([one[way][metric] for one in each]) for way in WAYS}
            sign = 1 if metric in ("accuracy", "r2") else -1
            better = int((sign * (values["laid out anew"] - values["cut"]) > 0).sum())
            means = " | ".join(f"{values[way].mean():.4g}" for way in WAYS)
            lines.append(f"| {name} | {metric} | {means} | {better} of {len(each)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS], metavar="SET")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a small set, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    results: dict[str, list[dict[str, Metrics]]] = {}
    for name in QUICK if arguments.quick else arguments.sets:
        words = [f"data={name}", *(QUICK if arguments.quick else SETS)[name]]
        with tempfile.TemporaryDirectory() as made:
            prepared = Path(made, "prepared")
            prepare_settings(prepared, compose(["experiment=table", *words])["data"])
            for seed in range(1 if arguments.quick else arguments.seeds):
                configuration = compose(["experiment=table", *words, f"seed={seed}"])
                found, epoch = measure(configuration, prepared, Path(made, str(seed)))
                results.setdefault(name, []).append(found)
                print(f"{name}, seed {seed}: epoch {epoch} of {configuration['trainer']['epochs']}", flush=True)
    print(f"\n{page(results)}")


if __name__ == "__main__":
    main()
