"""Networks for graphs on Cora, over splits of 20 labels a class: test accuracy, and edges that mean nothing.

HYPERMAP_DATA=FOLDER python benchmarks/graphs.py [--splits 10] [--first 0] [--models appnp …] [--words KEY=VALUE …]
    [--output FILE]
python benchmarks/graphs.py --quick    does it run at all: a made-up graph, one split, two epochs

FOLDER/cora has the files that conf/data/cora.yaml names. A split draws 20 training nodes of each class, 500 validation
nodes, which pick the epoch, and 1,000 test nodes; a network is trained once on each, with the split's number as its
seed. An interval is Student's, of the mean over the splits. "Shuffled" is the same graph after the ends of its edges
were permuted: degrees stay, and nothing else. Nothing here was tuned on the test nodes of these splits.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch
from scipy import stats
from scipy.sparse import csr_array

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.graphs import _Tables
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.training import artifacts

MODELS = ("appnp", "gcn", "graphsage", "gat", "node_mlp", "label_propagation", "node_logistic")
SHUFFLED = ("appnp",)


@dataclass
class Scores:
    """Accuracies of a model on each split, and the seconds of a training."""

    validation: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def line(self) -> str:
        """Mean with its interval, deviation, and validation mean."""
        mean, count = np.mean(self.test), len(self.test)
        deviation = np.std(self.test, ddof=1) if count > 1 else 0.0
        half = stats.t.ppf(0.975, count - 1) * deviation / count**0.5 if count > 1 else 0.0
        told = f"{mean:.4f} ({mean - half:.4f} to {mean + half:.4f}) | {deviation:.4f}"
        return f"{np.mean(self.validation):.4f} | {told} | {np.mean(self.seconds):.1f} s"


def train(words: Sequence[str], folder: Path, prepared: Path, scores: Scores) -> None:
    """Train one configuration on prepared data, and add its accuracies."""
    request = run.TrainingRequest(
        compose(words), prepared, folder, folder / "validation.json", states=folder / "states"
    )
    started = time.perf_counter()
    run.train(request)
    scores.seconds.append(time.perf_counter() - started)
    transform, raw = read_transform(prepared), load_raw(prepared, "test")
    predictions = artifacts.read_trained(folder).predict(raw.inputs)
    scores.test.append(transform.task.measure(raw.targets.numpy(), predictions)["accuracy"])
    scores.validation.append(artifacts.read_metrics(folder / "validation.json", "validation")["accuracy"])


def shuffle(place: Path, folder: Path) -> Path:
    """Write the same graph in LINQS' format with the ends of its edges permuted, and return its folder."""
    found = _Tables().read(place)
    ends = np.random.default_rng(0).permutation(found.destinations)
    folder.mkdir()
    features = np.asarray(csr_array(found.features).toarray(), int)
    lines = [
        "\t".join([name, *map(str, row), label])
        for name, row, label in zip(found.names, features, found.labels, strict=True)
    ]
    (folder / "shuffled.content").write_text("\n".join(lines))
    (folder / "shuffled.cites").write_text("\n".join(f"{a}\t{b}" for a, b in zip(found.sources, ends, strict=True)))
    return folder


def made_up(folder: Path) -> Path:
    """Write a graph of two classes, whose edges mostly join nodes of one class."""
    draw, count = np.random.default_rng(0), 120
    folder.mkdir()
    rows = [f"{k}\t{k % 2}\t{draw.integers(2)}\t{draw.integers(2)}\tclass_{k % 2}" for k in range(count)]
    ends = [(k, int((k + 2 * draw.integers(1, 30)) % count)) for k in range(count) for _ in range(3)]
    (folder / "made_up.content").write_text("\n".join(rows))
    (folder / "made_up.cites").write_text("\n".join(f"{a}\t{b}" for a, b in ends))
    return folder


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--models", nargs="*", default=[*MODELS], metavar="MODEL")
    parser.add_argument("--shuffled", nargs="*", default=[*SHUFFLED], metavar="MODEL")
    parser.add_argument(
        "--words", nargs="*", default=[], help="of the configuration, beside experiment=graph data=cora"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: a made-up graph, one split, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    root = os.environ.get("HYPERMAP_DATA")
    if root is None and not arguments.quick:
        parser.error("set HYPERMAP_DATA to a folder that has cora")
    words, splits = list(arguments.words), arguments.splits
    results: dict[str, Scores] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        place = made_up(folder / "made_up") if arguments.quick else Path(root or "") / "cora"
        if arguments.quick:
            splits = 1
            words += ["trainer.epochs=2", "trainer.threads=1", "data.validation_nodes=20", "data.test_nodes=null"]
        places = {"": place} | ({" (shuffled)": shuffle(place, folder / "shuffled")} if arguments.shuffled else {})
        for seed in range(arguments.first, arguments.first + splits):
            for suffix, own in places.items():
                of_split = [
                    "experiment=graph",
                    "data=cora",
                    f"data.root={own}",
                    f"data.split_seed={seed}",
                    f"seed={seed}",
                ]
                prepared = folder / f"prepared{suffix}{seed}"
                prepare_settings(prepared, compose([*of_split, *words])["data"])
                for model in arguments.shuffled if suffix else arguments.models:
                    scores = results.setdefault(f"{model}{suffix}", Scores())
                    train([*of_split, *words, f"model={model}"], folder / f"{model}{suffix}{seed}", prepared, scores)
            print(
                f"split {seed}: " + ", ".join(f"{name} {scores.test[-1]:.3f}" for name, scores in results.items()),
                flush=True,
            )
    lines = ["| model | validation accuracy | test accuracy | deviation | a training |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {name} | {scores.line} |" for name, scores in results.items()]
    about = f"{splits} splits; Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores"
    print(text := f"{about}\n\n" + "\n".join(lines) + "\n")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
