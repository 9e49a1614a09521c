"""Several targets at once: labels on two published splits, and two targets together beside each alone.

python benchmarks/several_targets.py DATA [--seeds 5] [--sets emotions yeast wine] [--output FILE]
python benchmarks/several_targets.py --quick    does it run at all: a made-up table, one seed, two epochs

DATA is a folder with emotions/emotions-train.arff and -test.arff, yeast/yeast-train.arff and -test.arff (Mulan's), and
wine_quality/winequality-red.csv and -white.csv (UCI). Labels: `experiment=table` beside scikit-learn's models, one for
each label, all with thresholds picked on the same validation rows. Wine: quality as a number and colour as a class by
`experiment=table`, the losses weighed by uncertainty or equally, and a network for each target alone. A figure is the
mean over the seeds of its training; its interval resamples the test rows, and so does that of a difference, with the
same rows for both. Nothing here was tuned on test rows.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import sklearn
import torch

from hypermap.config.compose import compose
from hypermap.data.prepared import load
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.training import artifacts
from tables import Found, scores, told, trained  # the folder's own tables.py

LABELS = {"emotions": range(73, 79), "yeast": range(104, 118)}  # the labels' columns
MODELS = {
    "network": [], "network, dropout 0.5": ["model.dropout=0.5"], "random forest": ["model=random_forest"],
    "gradient boosting": ["model=gradient_boosting"], "dummy": ["model=dummy"],
}  # fmt: skip
TOGETHER = {
    "uncertainty": ["loss=joint"],
    "equal weights": ["loss=joint", "loss.weighting=fixed"],
    "quality alone": ["loss=joint", "loss.weighting=fixed", "loss.weights={quality: 1, colour: 0}"],
    "colour alone": ["loss=joint", "loss.weighting=fixed", "loss.weights={quality: 0, colour: 1}"],
}
OF_LABELS = ("micro_f1", "macro_f1", "average_precision", "subset_accuracy", "hamming_loss", "log_loss")
OF_WINE = ("quality_r2", "colour_accuracy", "colour_log_loss")


def measure(ways: Mapping[str, Sequence[str]], words: Sequence[str], seeds: int) -> dict[str, Found]:
    """The scores of every way by name, all on one preparation of the data."""
    found = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare_settings(folder / "prepared", compose(words)["data"])
        transform = read_transform(folder / "prepared")
        targets = artifacts.targets(load(folder / "prepared", "test"), transform)
        for name, own in ways.items():
            started = time.perf_counter()
            configuration = compose([*words, *own])
            often = seeds if name != "dummy" else 1
            (predictions,) = trained(configuration, folder / "prepared", folder / name, often)
            found[name] = scores(targets, predictions, transform.task)
            print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    return found


def page(title: str, metrics: Sequence[str], found: Mapping[str, Found]) -> str:
    """A table of one data set, in Markdown, and the differences from its first way."""
    lines = [f"| {title} | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    lines += [f"| {name} | {' | '.join(told(name, own[name]) for own in found.values())} |" for name in metrics]
    first, *others = found.values()
    lines += [
        f"| {name}, difference from {next(iter(found))} | | "
        f"{' | '.join(told(name, other[name].minus(first[name]), signed=True) for other in others)} |"
        for name in metrics[:2]
    ]
    return "\n".join(lines) + "\n"


def of_labels(data: Path, name: str) -> list[str]:
    """The words of a data set of labels."""
    stem, target = data / name / name, ",".join(map(str, LABELS[name]))
    files = [f"data.path={stem}-train.arff", f"data.test_path={stem}-test.arff"]
    return ["experiment=table", "final=holdout", *files, "data.test=null", f"data.target=[{target}]"]


def of_wine(data: Path, folder: Path) -> list[str]:
    """Write both files as one table with the colour, and return its words."""
    files = {colour: data / f"wine_quality/winequality-{colour}.csv" for colour in ("red", "white")}
    parts = [
        pl.read_csv(file, separator=";", infer_schema_length=None).with_columns(colour=pl.lit(colour))
        for colour, file in files.items()
    ]
    pl.concat(parts).write_csv(folder / "wine.csv")
    target = "data.target={quality: regression, colour: binary}"
    return ["experiment=table", "final=holdout", f"data.path={folder / 'wine.csv'}", target]


def made_up(folder: Path) -> tuple[list[str], list[str]]:
    """Write a small table, and return the words for its labels and for its targets of several kinds."""
    drawn = np.random.default_rng(0)
    inputs = drawn.normal(size=(200, 3))
    colour = np.where(inputs[:, 2] > 0, "red", "white")
    labels = {f"l{k}": (inputs[:, k] + drawn.normal(size=200) > 0).astype(int) for k in range(2)}
    table = {**{f"x{k}": inputs[:, k] for k in range(3)}, **labels, "quality": inputs[:, 1], "colour": colour}
    pl.DataFrame(table).write_csv(folder / "made_up.csv")
    words = [f"data.path={folder / 'made_up.csv'}", "trainer.epochs=2", "trainer.threads=1"]
    return (
        ["experiment=table", "final=holdout", *words, "data.target=[l0,l1]", "data.drop=[quality,colour]"],
        [
            "experiment=table",
            "final=holdout",
            *words,
            "data.target={quality: regression, colour: binary}",
            "data.drop=[l0,l1]",
        ],
    )


def main() -> None:
    """Measure, and print the tables as they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path())
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=[*LABELS, "wine"], choices=[*LABELS, "wine"], metavar="SET")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: a made-up table, one seed, two epochs")
    arguments = parser.parse_args()
    data, seeds = arguments.data.resolve(), 1 if arguments.quick else arguments.seeds
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if arguments.quick:
            sets = dict(zip(("labels", "wine"), made_up(folder), strict=True))
        else:
            sets = {name: of_wine(data, folder) if name == "wine" else of_labels(data, name) for name in arguments.sets}
        pages = []
        for name, words in sets.items():
            ways, metrics = (TOGETHER, OF_WINE) if name == "wine" else (MODELS, OF_LABELS)
            pages.append(page(name, metrics, measure(ways, words, seeds)))
            print(pages[-1], flush=True)
    about = (
        f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}\n"
    )
    print(about)
    if arguments.output:
        arguments.output.write_text("\n".join([about, *pages]), encoding="utf-8")


if __name__ == "__main__":
    main()
