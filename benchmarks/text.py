"""Networks for texts beside TF-IDF with logistic regression, on three published sets: test figures with intervals.

HYPERMAP_DATA=FOLDER python benchmarks/text.py [--seeds 3] [--sets sst2 …] [--models text_bag …] [--output FILE]
python benchmarks/text.py --quick    does it run at all: made-up sentences, one seed, two epochs

FOLDER has a folder for each set, with the files that conf/data/SET.yaml names. Every model learns from the same
prepared training rows; a network's epoch, and the baseline's C, of three, are picked on the validation rows. A figure
is the mean over the seeds of a network's training; its interval resamples the test rows, and so does that of a
difference, with the same rows for both. Nothing here was tuned on test rows.
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
import sklearn
import torch

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.tasks import metrics
from hypermap.training import artifacts

# With the learning rate (of 0.001 to 0.005) and the number of epochs (12 or 20) that are best on the validation rows.
SETS = {"sst2": ["optimizer.lr=0.001"], "clinc150": ["optimizer.lr=0.005", "trainer.epochs=20"], "ag_news": []}
MODELS = ("text_bag",)
BASELINE = "tfidf_logistic"
STRENGTHS = (3.0, 10.0, 30.0)
REPEATS = 1000


@dataclass(frozen=True)
class Scores:
    """Scores of one model's trainings on the test rows, and their mean in each resample of the rows."""

    values: list[float]
    resampled: np.ndarray
    validation: float
    seconds: float  # of a training
    note: str = ""

    @property
    def told(self) -> str:
        """The mean and the middle 95 %."""
        low, high = np.percentile(self.resampled, [2.5, 97.5])
        return f"{np.mean(self.values):.3f} ({low:.3f} to {high:.3f})"

    def less(self, other: "Scores") -> str:
        """The difference, on the same rows."""
        low, high = np.percentile(self.resampled - other.resampled, [2.5, 97.5])
        return f"{np.mean(self.values) - np.mean(other.values):+.3f} ({low:+.3f} to {high:+.3f})"


def trained(words: Sequence[str], metric: str, prepared: Path, folder: Path, seeds: int) -> Scores:
    """The scores of a configuration by a metric, trained with each seed."""
    transform, raw = read_transform(prepared), load_raw(prepared, "test")
    targets = artifacts.targets(transform(raw), transform)
    values, resampled, validation, seconds = [], [], [], []
    for seed in range(seeds):
        request = run.TrainingRequest(
            compose([*words, f"seed={seed}"]), prepared, folder, folder / "validation.json", states=folder / "states"
        )
        started = time.perf_counter()
        run.train(request)
        seconds.append(time.perf_counter() - started)
        predictions = artifacts.read_trained(folder).predict(raw.inputs)
        values.append(transform.task.measure(targets, predictions)[metric])
        drawn = metrics.resamples(transform.task.resampled(targets, predictions), len(targets), repeats=REPEATS)
        resampled.append(drawn[metric])
        validation.append(artifacts.read_metrics(folder / "validation.json", "validation")[metric])
    return Scores(values, np.mean(resampled, axis=0), float(np.mean(validation)), float(np.mean(seconds)))


def measure(words: Sequence[str], models: Sequence[str], seeds: int, folder: Path) -> dict[str, Scores]:
    """The scores of each model by name; the baseline's with the C that is best on the validation rows."""
    prepared = folder / "prepared"
    words = ["experiment=text", *words]
    prepare_settings(prepared, compose(words)["data"])
    found = {}
    for name in models:
        found[name] = trained([*words, f"model={name}"], "accuracy", prepared, folder / name, seeds)
        print(f"  {name}: validation {found[name].validation:.4f}, {found[name].seconds:.1f} s", flush=True)
    tried = {}
    for strength in STRENGTHS:
        option = [f"model={BASELINE}", f"model.C={strength}"]
        tried[strength] = trained([*words, *option], "accuracy", prepared, folder / BASELINE, 1)
        print(f"  C={strength:g}: validation {tried[strength].validation:.4f}", flush=True)
    best = max(tried, key=lambda strength: tried[strength].validation)
    kept = tried[best]
    found[BASELINE] = Scores(kept.values, kept.resampled, kept.validation, kept.seconds, f", C {best:g}")
    return found


def page(results: Mapping[str, Mapping[str, Scores]]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| set | model | validation accuracy | test accuracy | each seed | less the baseline | a training |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, found in results.items():
        for model, scores in found.items():
            each = ", ".join(f"{value:.4f}" for value in scores.values)
            difference = "" if model == BASELINE else scores.less(found[BASELINE])
            cells = (f"{scores.validation:.3f}", scores.told, each, difference, f"{scores.seconds:.0f} s")
            lines.append(f"| {name} | {model}{scores.note} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def about(seeds: int) -> str:
    """What was measured on."""
    return (
        f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, {os.cpu_count()} cores\n"
    )


def made_up(folder: Path) -> list[str]:
    """Write sentences of two classes, and return the words that train on them."""
    draw = np.random.default_rng(0)
    rows = []
    for row in range(200):
        words = [*draw.choice(["the", "play", "was", "and", "its", "cast"], 6), ["dull", "fine"][row % 2]]
        rows.append([" ".join(draw.permutation(words)), ["bad", "good"][row % 2]])
    with (folder / "made_up.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "class"], *rows])
    return [
        f"data.path={folder / 'made_up.csv'}", "data.target=class", "trainer.epochs=2",
        "trainer.threads=1",
    ]  # fmt: skip


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS], metavar="SET")
    parser.add_argument("--models", nargs="+", default=[*MODELS], metavar="MODEL")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: made-up sentences, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    seeds, root = 1 if arguments.quick else arguments.seeds, os.environ.get("HYPERMAP_DATA")
    if root is None and not arguments.quick:
        parser.error(f"set HYPERMAP_DATA to a folder that has {', '.join(arguments.sets)}")
    results = {}
    for name in ["made up"] if arguments.quick else arguments.sets:
        with tempfile.TemporaryDirectory() as made:
            words = (
                made_up(Path(made)) if arguments.quick else [f"data={name}", f"data.root={root}/{name}", *SETS[name]]
            )
            print(name, flush=True)
            results[name] = measure(words, arguments.models, seeds, Path(made))
    print(text := f"{about(seeds)}\n{page(results)}")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
