"""Forecasts of two published series, beside those by rule: test figures with intervals and seeds.

HYPERMAP_DATA=FOLDER python benchmarks/series.py [--seeds 3] [--sets etth1 …] [--models sparse_linear …] [--output FILE]
python benchmarks/series.py --quick    does it run at all: a made-up series, one seed, two epochs

FOLDER has a folder for each set, with the file that conf/data/SET.yaml names. ETTh1 is the usual task: all seven
columns, standardised by the first 12 months, 96 hours ahead, every window of the last 4 of 20 months; the validation
months only pick a network's epoch. Air passengers are forecast 12 months ahead, every window of the last 24 months. A
figure is the mean over seeds; its interval resamples test windows in blocks of a horizon, since windows overlap;
where there are fewer than four blocks it has none.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
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
from hypermap.training import artifacts

# The published settings of the sparse form (learning rate, batch, lookback); the others' by the validation metric.
SPARSE = ("model=sparse_linear", "optimizer.lr=0.02", "trainer.batch_size=256", "trainer.epochs=10")
SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "etth1": {
        "sparse_linear": SPARSE,
        "sparse_linear, refit": (*SPARSE, "final=refit"),
        "rlinear": ("model=rlinear", "data.lookback=336", "optimizer.lr=0.001", "trainer.epochs=5"),
        "dlinear": ("model=dlinear", "data.lookback=336", "optimizer.lr=0.0005", "trainer.epochs=5"),
    },
    "air_passengers": {
        "rlinear": ("model=rlinear", "trainer.epochs=100"),
        "sparse_linear": ("model=sparse_linear", "trainer.epochs=100", "optimizer.lr=0.01"),
    },
}
RULES = ("seasonal_naive", "last_value", "drift")
METRICS = {"etth1": ("scaled_mse", "scaled_mae"), "air_passengers": ("mape", "mase"), "made_up": ("scaled_mse", "mase")}
REPEATS = 1000
FEWEST = 4  # blocks


@dataclass(frozen=True)
class Scores:
    """Test figures of one model's trainings: by metric those of each seed, and their mean in each resample."""

    values: dict[str, list[float]]
    resampled: dict[str, np.ndarray]
    validation: float
    seconds: float
    weights: int | None

    def told(self, metric: str) -> str:
        """The mean, and the middle 95 % unless there are too few blocks."""
        if metric not in self.resampled:
            return f"{np.mean(self.values[metric]):.4f}"
        low, high = np.percentile(self.resampled[metric], [2.5, 97.5])
        return f"{np.mean(self.values[metric]):.4f} ({low:.3f} to {high:.3f})"


def blocks(rows: int, length: int) -> np.ndarray | None:
    """How often each row is in each resample of blocks of neighbors, ``(rows, resamples)``; None of too few blocks."""
    if rows < FEWEST * length:
        return None
    draw = np.random.default_rng(0)
    starts = draw.integers(0, max(1, rows - length + 1), (REPEATS, -(-rows // length)))
    drawn = (starts[:, :, np.newaxis] + np.arange(min(length, rows))).reshape(REPEATS, -1)[:, :rows]
    return np.stack([np.bincount(own, minlength=rows) for own in drawn], axis=1).astype(float)


def trained(words: Sequence[str], metrics: Sequence[str], prepared: Path, folder: Path, seeds: int) -> Scores:
    """The figures of a configuration, trained with each seed."""
    transform, raw = read_transform(prepared), load_raw(prepared, "test")
    targets = artifacts.targets(transform(raw), transform)
    counts = blocks(len(targets), transform.manifest.target["horizon"])
    values: dict[str, list[float]] = {name: [] for name in metrics}
    resampled, validation, seconds, weights = [], [], [], None
    for seed in range(seeds):
        request = run.TrainingRequest(
            compose([*words, f"seed={seed}"]), prepared, folder, folder / "validation.json", states=folder / "states"
        )
        started = time.perf_counter()
        result = run.train(request)
        seconds.append(time.perf_counter() - started)
        weights = result.parameters
        predictions = artifacts.read_trained(folder).predict(raw.inputs)
        measured = transform.task.measure(targets, predictions)
        drawn = transform.task.resampled(targets, predictions)(counts) if counts is not None else {}
        for name in metrics:
            values[name].append(measured[name])
        resampled.append({name: drawn[name] for name in metrics if drawn})
        validation.append(artifacts.read_metrics(folder / "validation.json", "validation")[metrics[0]])
    means = {name: np.mean([own[name] for own in resampled], axis=0) for name in resampled[0]}
    return Scores(values, means, float(np.mean(validation)), float(np.mean(seconds)), weights)


def measure(
    name: str, words: Sequence[str], models: Mapping[str, tuple[str, ...]], seeds: int, folder: Path
) -> dict[str, Scores]:
    """The figures of each model and rule by name."""
    found = {}
    for model, settings in {**models, **{rule: (f"model={rule}",) for rule in RULES}}.items():
        own = ["experiment=series", *words, *settings]
        data = [word for word in settings if word.startswith("data.")]
        prepared = folder / "_".join(["prepared", *data])
        if not prepared.exists():
            prepare_settings(prepared, compose(["experiment=series", *words, *data])["data"])
        repeats = 1 if model in RULES else seeds
        found[model] = trained(own, METRICS[name], prepared, folder / model, repeats)
        print(f"  {model}: validation {found[model].validation:.4f}, {found[model].seconds:.1f} s", flush=True)
    return found


def page(results: Mapping[str, Mapping[str, Scores]]) -> str:
    """The tables, in Markdown."""
    lines = []
    for name, found in results.items():
        first, second = METRICS[name]
        lines += [
            f"| {name} | weights | validation {first} | test {first} | each seed | test {second} | a training |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for model, scores in found.items():
            each = ", ".join(f"{value:.4f}" for value in scores.values[first])
            cells = (
                f"{scores.weights or 0:,}", f"{scores.validation:.4f}", scores.told(first), each, scores.told(second),
                f"{scores.seconds:.0f} s",
            )  # fmt: skip
            lines.append(f"| {model} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def made_up(folder: Path) -> list[str]:
    """Write a season with noise, and return the words that train on it."""
    draw = np.random.default_rng(0)
    with (folder / "made_up.csv").open("w", newline="", encoding="utf-8") as file:
        values = 10 * np.sin(2 * np.pi * np.arange(400) / 24) + draw.normal(size=400)
        csv.writer(file).writerows([["load"], *([value] for value in values)])
    return [
        f"data.path={folder / 'made_up.csv'}", "data.period=24", "data.lookback=48", "data.horizon=8",
        "trainer.epochs=2", "trainer.threads=1",
    ]  # fmt: skip


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=[*SETTINGS], choices=[*SETTINGS], metavar="SET")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="of those that a set has settings for")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: a made-up series, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    seeds, root = 1 if arguments.quick else arguments.seeds, os.environ.get("HYPERMAP_DATA")
    if root is None and not arguments.quick:
        parser.error(f"set HYPERMAP_DATA to a folder that has {', '.join(arguments.sets)}")
    results = {}
    for name in ["made_up"] if arguments.quick else arguments.sets:
        with tempfile.TemporaryDirectory() as made:
            words = made_up(Path(made)) if arguments.quick else [f"data={name}", f"data.root={root}/{name}"]
            models = SETTINGS.get(name, {"rlinear": ("model=rlinear",)})
            kept = {model: own for model, own in models.items() if not arguments.models or model in arguments.models}
            print(name, flush=True)
            results[name] = measure(name, words, kept, seeds, Path(made))
    about = f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    print(text := f"{about}, {os.cpu_count()} cores\n\n{page(results)}")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
