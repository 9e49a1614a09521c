"""Ratings and rankings on MovieLens latest small beside simple models: test figures with intervals.

HYPERMAP_DATA=FOLDER python benchmarks/ratings.py [--seeds 3] [--goals rating ranking] [--output FILE]
python benchmarks/ratings.py --quick    does it run at all: made-up ratings, one seed, two epochs

FOLDER has movielens_latest_small/ml-latest-small.zip, or its ratings.csv beside it. Ratings are split at random, 80 %,
10 % and 10 %; rankings leave each user's last row out for the test, and the one before for validation, and rank all
items. Epochs are picked on the validation rows. A figure is the mean over the seeds of a network's training; its
interval resamples the test rows (of rankings there is one of each user), and so does that of a difference, with the
same rows for both.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.tasks import metrics
from hypermap.training import artifacts

GOALS = {
    "rating": ("ratings", ("rmse", "accuracy", "recall", "f1"), ("rating_factors",), ("rating_means", "dummy")),
    "ranking": ("ratings_ranking", ("ndcg", "hr", "mrr", "coverage"), ("two_towers",), ("ease", "popularity")),
}
"""Of each goal the experiment, the metrics, the networks and the models without epochs, of which the first is compared
with."""

ARCHIVE, MEMBER = "ml-latest-small.zip", "ml-latest-small/ratings.csv"
REPEATS = 1000


@dataclass(frozen=True)
class Scores:
    """Metrics of one model's trainings on the test rows, and their means in each resample of the rows."""

    values: Mapping[str, list[float]]
    resampled: Mapping[str, np.ndarray]
    seconds: float  # of a training

    def said(self, name: str) -> str:
        """The mean and the middle 95 %."""
        low, high = np.percentile(self.resampled[name], [2.5, 97.5])
        return f"{np.mean(self.values[name]):.4f} ({low:.4f} to {high:.4f})"

    def less(self, other: "Scores", name: str) -> str:
        """The difference, on the same rows."""
        low, high = np.percentile(self.resampled[name] - other.resampled[name], [2.5, 97.5])
        return f"{np.mean(self.values[name]) - np.mean(other.values[name]):+.4f} ({low:+.4f} to {high:+.4f})"


def trained(words: Sequence[str], names: Sequence[str], prepared: Path, folder: Path, seeds: int) -> Scores:
    """The scores of a configuration, trained with each seed."""
    transform, raw = read_transform(prepared), load_raw(prepared, "test")
    targets = artifacts.targets(transform(raw), transform)
    measured, drawn, seconds = [], [], []
    for seed in range(seeds):
        request = run.TrainingRequest(
            compose([*words, f"seed={seed}"]), prepared, folder, folder / "validation.json", states=folder / "states"
        )
        started = time.perf_counter()
        run.train(request)
        seconds.append(time.perf_counter() - started)
        predictions = artifacts.read_trained(folder).predict(raw.inputs)
        measured.append(transform.task.measure(targets, predictions))
        resampled = transform.task.resampled(targets, predictions)
        drawn.append(metrics.resamples(resampled, len(targets), repeats=REPEATS))
        validated = artifacts.read_metrics(folder / "validation.json", "validation")
        told = ", ".join(f"{name} {validated[name]:.4f} / {measured[-1][name]:.4f}" for name in names)
        print(f"  {words[-1]} seed {seed}, validation / test: {told}; {seconds[-1]:.0f} s", flush=True)
    return Scores(
        {name: [own[name] for own in measured] for name in names},
        {name: np.mean([own[name] for own in drawn], axis=0) for name in names},
        float(np.mean(seconds)),
    )


def measure(goal: str, words: Sequence[str], seeds: int, folder: Path) -> dict[str, Scores]:
    """The scores of each model by name."""
    experiment, names, networks, others = GOALS[goal]
    words = [f"experiment={experiment}", *words]
    prepare_settings(folder / "prepared", compose(words)["data"])
    return {
        model: trained(
            [*words, f"model={model}"], names, folder / "prepared", folder / model, seeds if model in networks else 1
        )
        for model in (*others, *networks)
    }


def page(goal: str, found: Mapping[str, Scores]) -> str:
    """The table of a goal, in Markdown."""
    _, names, _, (best, *_) = GOALS[goal]
    lines = [
        f"| {goal} | {' | '.join(names)} | {names[0]}, each seed | {names[0]} less {best} | a training |",
        f"|---|{'--:|' * (len(names) + 3)}",
    ]
    for model, scores in found.items():
        each = ", ".join(f"{value:.4f}" for value in scores.values[names[0]])
        difference = "" if model == best else scores.less(found[best], names[0])
        cells = (*(scores.said(name) for name in names), each, difference, f"{scores.seconds:.0f} s")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def about(seeds: int) -> str:
    """What was measured on."""
    return (
        f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{os.cpu_count()} cores\n"
    )


def unpacked(root: Path, folder: Path) -> Path:
    """The file of ratings, unpacked into a folder if it is not."""
    if (root / "ratings.csv").exists():
        return root / "ratings.csv"
    (folder / "ratings.csv").write_bytes(zipfile.ZipFile(root / ARCHIVE).read(MEMBER))
    return folder / "ratings.csv"


def made_up(folder: Path) -> Path:
    """Write ratings of users of two tastes."""
    draw = np.random.default_rng(0)
    rows = []
    for user in range(30):
        for place, item in enumerate(draw.choice(24, 12, replace=False)):
            rows.append((user, item, float(np.clip(round(draw.normal(4 if (user + item) % 2 else 2)), 1, 5)), place))
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item", "rating", "time"), *rows])
    return folder / "ratings.csv"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goals", nargs="+", default=[*GOALS], choices=[*GOALS], metavar="GOAL")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: made-up ratings, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    seeds, root = 1 if arguments.quick else arguments.seeds, os.environ.get("HYPERMAP_DATA")
    if root is None and not arguments.quick:
        parser.error("set HYPERMAP_DATA to a folder that has movielens_latest_small")
    text = f"{about(seeds)}\n"
    for goal in arguments.goals:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            if root is None or arguments.quick:
                path, words = made_up(folder), ["trainer.epochs=2", "trainer.threads=1", "data.k=5"]
            else:
                path, words = unpacked(Path(root) / "movielens_latest_small", folder), []
            print(goal, flush=True)
            text += page(goal, measure(goal, [f"data.path={path}", *words], seeds, folder)) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
