"""The default network for tables beside the other models, on eight tasks: test figures with their intervals.

HYPERMAP_DATA=FOLDER python benchmarks/tables.py [--seeds 5] [--sets adult titanic …] [--models network lightgbm …]
                                                 [--output FILE] [key=value …]
HYPERMAP_DATA=FOLDER python benchmarks/tables.py --final refit …    the network and boosting with another last fit, and
                                                                    what it is worth: final=refit, or bag
python benchmarks/tables.py --quick    does it run at all: two made-up tables, one seed, two epochs

Every model learns from the same prepared training rows, as `python src/train.py experiment=table data=NAME` has them;
the network's epoch and the boosting's number of trees are picked on the validation rows. scikit-learn's own network,
`MLPClassifier` or `MLPRegressor` with its defaults, gets the categories one-hot. A figure is the mean over the seeds
of its training; its interval resamples the test rows, and so does that of a difference, with the same rows for both.
The models are those of the split (final=holdout), but for the last fit. Words such as ``data.duplicates=drop`` change
the configuration of all of them. Nothing here was tuned on test rows.
"""

import argparse
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import polars
import sklearn
import torch
from sklearn.neural_network import MLPClassifier, MLPRegressor

from hypermap.config.compose import compose
from hypermap.config.groups import Configuration
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.models.inputs import resolve_input_spec
from hypermap.tasks import metrics
from hypermap.tasks.base import Task
from hypermap.training import artifacts

SETS = {
    "adult": ["data=adult"],
    "titanic": ["data=titanic"],
    "german_credit": ["data=german_credit"],
    "bank_marketing": ["data=bank_marketing"],
    "wine_quality, classes": ["data=wine_quality"],
    "wine_quality, number": ["data=wine_quality", "data.task=regression"],
    "wine_quality, number, no duplicates": ["data=wine_quality", "data.task=regression", "data.duplicates=drop"],
    "california_housing": ["data=california_housing"],
}
QUICK = {"made up, classes": "kind", "made up, number": "price"}  # the target of each
NETWORK, TEXTBOOK, BOOSTING = "network", "MLPClassifier", "gradient_boosting"
MODELS = (NETWORK, "random_forest", "extra_trees", BOOSTING, "lightgbm", TEXTBOOK, "dummy")
PAIRS = ((NETWORK, TEXTBOOK), (NETWORK, BOOSTING), (NETWORK, "lightgbm"), ("lightgbm", BOOSTING))
"""Models that are compared on the same rows."""
REPEATS = 1000

Predictions = np.ndarray
Found = dict[str, "Scores"]
Measured = tuple[str, dict[str, Found], dict[str, float]]
FOLDS = {"refit": [], "bag": ["validation=kfold"]}  # what a last fit needs


@dataclass(frozen=True)
class Scores:
    """A metric of one model on the test rows, the mean over its seeds, and in each resample of the rows."""

    value: float
    resampled: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 %."""
        low, high = np.percentile(self.resampled[np.isfinite(self.resampled)], [2.5, 97.5])
        return float(low), float(high)

    def minus(self, other: "Scores") -> "Scores":
        """The difference, on the same rows."""
        return Scores(self.value - other.value, self.resampled - other.resampled)


def trained(
    configuration: Configuration, prepared: Path, folder: Path, seeds: int, of: Sequence[str] = ("",)
) -> list[list[Predictions]]:
    """Test predictions of a model of conf/model, one for each seed; for each folder of `of` below a training's."""
    predictions: list[list[Predictions]] = [[] for _ in of]
    for seed in range(seeds):
        with_seed = {**configuration, "seed": seed}
        run.train(run.TrainingRequest(with_seed, prepared, folder, folder / "validation.json", states=folder))
        for own, place in zip(predictions, of, strict=True):
            own.append(artifacts.read_trained(folder / place).predict(load_raw(prepared, "test").inputs))
    return predictions


def textbook(prepared: Path, seeds: int) -> list[Predictions]:
    """Test predictions of scikit-learn's network, one for each seed."""
    transform = read_transform(prepared)
    inputs = resolve_input_spec({"_target_": "hypermap.models.MLP"}, transform.manifest)
    train, test = load(prepared, "train"), load(prepared, "test")
    rows, asked = (inputs.encode(split.inputs).numpy() for split in (train, test))
    classes = bool(transform.manifest.classes)
    predictions = []
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its 200 epochs are not always enough for it
            model = (MLPClassifier if classes else MLPRegressor)(random_state=seed).fit(rows, train.targets.numpy())
        predictions.append(model.predict_proba(asked) if classes else transform.task.decode(model.predict(asked)))
    return predictions


def scores(targets: np.ndarray, predictions: Sequence[Predictions], task: Task) -> Found:
    """Every metric of the task."""
    values = [task.measure(targets, prediction) for prediction in predictions]
    of_counts = [task.resampled(targets, prediction) for prediction in predictions]
    resampled = [metrics.resamples(own, len(targets), repeats=REPEATS) for own in of_counts]
    return {
        name: Scores(float(np.mean([v[name] for v in values])), np.mean([r[name] for r in resampled], axis=0))
        for name in values[0]
    }


def measure(words: Sequence[str], models: Sequence[str], seeds: int, folder: Path) -> Measured:
    """The task, the scores of every model by name, and the seconds that preparing and each model's training took."""
    words = [*words, "final=holdout"]
    network = compose(["experiment=table", *words])
    started = time.perf_counter()
    manifest = prepare_settings(folder / "prepared", network["data"])
    seconds = {"preparing": time.perf_counter() - started}
    prepared = folder / "prepared"
    transform = read_transform(prepared)
    targets = artifacts.targets(load(prepared, "test"), transform)
    ways: dict[str, Callable[[], list[Predictions]]] = {
        NETWORK: lambda: trained(network, prepared, folder / NETWORK, seeds)[0],
        TEXTBOOK: partial(textbook, prepared, seeds),
    }
    found = {}
    for name in models:
        often = 1 if name == "dummy" else seeds
        started = time.perf_counter()
        if name in ways:
            predictions = ways[name]()
        else:
            configuration = compose(["experiment=table", *words, f"model={name}"])
            (predictions,) = trained(configuration, prepared, folder / name, often)
        found[name] = scores(targets, predictions, transform.task)
        seconds[name] = (time.perf_counter() - started) / often
    return manifest.task, found, seconds


def measure_last_fit(words: Sequence[str], final: str, seeds: int, folder: Path) -> Measured:
    """The task, the scores of two models with the split's and with another last fit, and the seconds of each."""
    words = ["experiment=table", *words, *FOLDS[final]]
    manifest = prepare_settings(prepared := folder / "prepared", compose(words)["data"])
    transform, found, seconds = read_transform(prepared), {}, {}
    targets = artifacts.targets(load(prepared, "test"), transform)
    for model, own in ((NETWORK, []), (BOOSTING, [f"model={BOOSTING}"])):
        started, configuration = time.perf_counter(), compose([*words, *own, f"final={final}"])
        of_split, of_final = trained(configuration, prepared, folder / model, seeds, (artifacts.SPLIT, ""))
        for way, predictions in (("holdout", of_split), (final, of_final)):
            found[f"{model} {way}"] = scores(targets, predictions, transform.task)
        seconds[model] = (time.perf_counter() - started) / seeds
    return manifest.task, found, seconds


def page_of_last_fit(results: Mapping[str, Measured], final: str) -> str:
    """The tables, in Markdown."""
    lines = [
        f"| set | model | metric | holdout | {final} | difference | so {final} is |",
        "|---|---|---|---|---|---|---|",
    ]
    beside = [
        "",
        f"| set | metric | {NETWORK}, {final} | {BOOSTING}, {final} | network minus boosting | so it is | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for set_name, (task, found, seconds) in results.items():
        for metric in ("accuracy", "roc_auc", "log_loss") if task == "classification" else ("rmse", "r2"):
            for model in (NETWORK, BOOSTING):
                before, after = (found[f"{model} {way}"][metric] for way in ("holdout", final))
                apart = after.minus(before)
                cells = (told(metric, before), told(metric, after), told(metric, apart, signed=True))
                lines.append(f"| {set_name} | {model} | {metric} | {' | '.join(cells)} | {verdict(metric, apart)} |")
            network, boosting = (found[f"{model} {final}"][metric] for model in (NETWORK, BOOSTING))
            apart = network.minus(boosting)
            cells = (told(metric, network), told(metric, boosting), told(metric, apart, signed=True))
            times = ", ".join(f"{seconds[model]:.1f}" for model in (NETWORK, BOOSTING))
            beside.append(f"| {set_name} | {metric} | {' | '.join(cells)} | {verdict(metric, apart)} | {times} |")
    return "\n".join([*lines, *beside]) + "\n"


def figure(name: str, value: float, *, signed: bool = False) -> str:
    """A number as the tables show it."""
    digits = ".3f" if name in ("accuracy", "roc_auc", "r2") or abs(value) < 100 else ",.0f"
    return f"{value:{'+' if signed else ''}{digits}}"


def told(name: str, score: Scores, *, signed: bool = False) -> str:
    """A figure and its interval."""
    value, low, high = (figure(name, number, signed=signed) for number in (score.value, *score.interval))
    return f"{value} ({low} to {high})"


def verdict(name: str, difference: Scores) -> str:
    """What the interval of a difference says of the first model."""
    low, high = difference.interval
    better, worse = (low > 0, high < 0) if metrics.higher_is_better(name) else (high < 0, low > 0)
    return "better" if better else "worse" if worse else "indistinguishable"


def page(results: Mapping[str, Measured], models: Sequence[str]) -> str:
    """The tables, in Markdown."""
    pairs = [pair for pair in PAIRS if {*pair} <= {*models}]
    lines = [f"| set | metric | {' | '.join(models)} |", "|---|---|" + "---|" * len(models)]
    titles = [f"{one} minus {other} | so it is" for one, other in pairs]
    beside = ["", f"| set | metric | {' | '.join(titles)} |", "|---|---|" + "---|---|" * len(pairs)]
    times = ["", f"| set | preparing | {' | '.join(models)} |", "|---|" + "--:|" * (len(models) + 1)]
    for set_name, (task, found, seconds) in results.items():
        for metric in ("accuracy", "roc_auc", "log_loss") if task == "classification" else ("rmse", "r2"):
            cells = [told(metric, found[name][metric]) for name in models]
            lines.append(f"| {set_name} | {metric} | {' | '.join(cells)} |")
            differences = [found[one][metric].minus(found[other][metric]) for one, other in pairs]
            cells = [f"{told(metric, own, signed=True)} | {verdict(metric, own)}" for own in differences]
            beside.append(f"| {set_name} | {metric} | {' | '.join(cells)} |")
        times.append(f"| {set_name} | " + " | ".join(f"{value:.1f} s" for value in seconds.values()) + " |")
    return "\n".join([*lines, *(beside if pairs else []), *times]) + "\n"


def made_up(folder: Path) -> dict[str, list[str]]:
    """Write a small table of numbers and categories, and return the words for each target in it."""
    drawn = np.random.default_rng(0)
    size, place = drawn.normal(50, 20, 200), drawn.choice(["north", "south", "west"], 200)
    price = np.round(1000 * size + 20_000 * (place == "south") + drawn.normal(0, 5000, 200))
    kind = np.where(price > 55_000, "house", "flat")
    polars.DataFrame({"size": size, "place": place, "price": price, "kind": kind}).write_csv(folder / "made_up.csv")
    words = ["data=table", f"data.path={folder / 'made_up.csv'}", "trainer.epochs=2", "trainer.threads=1"]
    others = {"kind": "price", "price": "kind"}  # each would give the other away
    return {name: [*words, f"data.target={target}", f"data.drop=[{others[target]}]"] for name, target in QUICK.items()}


def main() -> None:
    """Measure, and print the tables as they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS], metavar="SET")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL", help=f"{', '.join(MODELS)}, or another")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--final", choices=[*FOLDS], help="what another last fit than the split's is worth")
    parser.add_argument("--quick", action="store_true", help="a smoke run: made-up tables, one seed, two epochs")
    arguments, changes = parser.parse_known_args()
    if wrong := [word for word in changes if "=" not in word]:
        parser.error(f"unknown: {' '.join(wrong)}")
    seeds, final = 1 if arguments.quick else arguments.seeds, arguments.final
    results: dict[str, Measured] = {}
    last_fits: dict[str, Measured] = {}
    for name in QUICK if arguments.quick else arguments.sets:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            words = made_up(folder)[name] if arguments.quick else SETS[name]
            if final:
                measured = last_fits[name] = measure_last_fit([*words, *changes], final, seeds, folder)
            else:
                measured = results[name] = measure([*words, *changes], arguments.models, seeds, folder)
        print(f"{name}: {', '.join(f'{key} {value:.1f} s' for key, value in measured[2].items())}", flush=True)
    about = (
        f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}\n"
    )
    print(text := f"{about}\n{page_of_last_fit(last_fits, final) if final else page(results, arguments.models)}")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
