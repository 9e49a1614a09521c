"""AutoML within a budget, beside others within the same: ranks, times and sizes on the tables of tables.py.

HYPERMAP_DATA=FOLDER python benchmarks/automl.py [--seconds 60] [--seeds 5] [--sets adult …] [--python PYTHON]
                                                 [--keep FOLDER]
HYPERMAP_DATA=FOLDER taskset -c 0 python benchmarks/automl.py --replay …    is it the same on a slower machine
python benchmarks/automl.py --quick     does it run at all: a made-up table, ten seconds

- `hypermap`: `python src/automl.py budget=…` in a clone of this repository, from the command to its end.
- `boosting`: scikit-learn's, stopped early on the validation rows, and trained again on them as well (`final=refit`).
- `lightgbm`: random search of its parameters (+space=default) by the validation rows until the time is up, the best
  trained again on all rows.
- `autogluon` (medium) and `flaml`, in an environment of their own (requirements-automl.txt): `--python` names its own.

Each has one core, and the same rows to learn from: those outside the test set. Test rows are predicted afterwards.
With `--keep`, predictions are kept in files, and a run that was interrupted goes on.

`--replay` runs `hypermap` alone, and then `dvc repro` in its clone, beside a process that never rests: kept to one core
by `taskset`, both get half of it. It compares every byte of the model's folder.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import polars  # noqa: E402
from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from hypermap.config.compose import compose  # noqa: E402
from hypermap.core.errors import UserError  # noqa: E402
from hypermap.data.prepared import load_raw  # noqa: E402
from hypermap.data.preprocessor import read_transform  # noqa: E402
from hypermap.datasets.prepare import prepare_settings  # noqa: E402
from hypermap.datasets.tables.schema import Schema  # noqa: E402
from hypermap.experiments import run  # noqa: E402
from hypermap.tasks import metrics  # noqa: E402
from hypermap.training import artifacts  # noqa: E402
from tables import REPEATS, SETS, made_up  # noqa: E402

OWN, PEERS = ("hypermap", "boosting", "lightgbm"), ("autogluon", "flaml")
ONE_CORE = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "MKL_NUM_THREADS": "1"}

Run = tuple[np.ndarray, float, float]
"""Test predictions, the seconds that it took, and the megabytes of the model."""


class Bench:
    """One data set: its prepared rows, and where each system works."""

    def __init__(self, words: Sequence[str], folder: Path, seconds: float) -> None:
        self.words, self.folder, self.seconds = words, folder, seconds
        self.prepared = folder / "prepared"
        self.configuration = compose(["experiment=table", *words, "trainer.threads=1"])
        prepare_settings(self.prepared, self.configuration["data"])
        self.transform = read_transform(self.prepared)
        self.test = load_raw(self.prepared, "test")
        self.targets = self.test.targets.numpy()

    def hypermap(self, seed: int) -> Run:
        """Return test predictions, the seconds of the command, and the megabytes of the model as one file."""
        clone = self.folder / "clone"
        if not clone.exists():
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        command = [sys.executable, "src/automl.py", *self.words, f"seed={seed}", f"budget={self.seconds:g}s"]
        own = {**os.environ, **ONE_CORE, "PYTHONPATH": str(clone / "src")}
        began = time.perf_counter()
        subprocess.run(command, cwd=clone, env=own, check=True, capture_output=True)
        took = time.perf_counter() - began
        size = json.loads((clone / "models/automl.json").read_text())["megabytes"]
        return artifacts.read_trained(clone / "models").predict(self.test.inputs), took, size

    def replay(self, seed: int) -> str:
        """Return what repeating the steps on a busy core came to."""
        _, took, _ = self.hypermap(seed)
        clone = self.folder / "clone"
        before = _contents(clone / "models")
        began, steps = time.perf_counter(), json.loads(before["automl.json"])["steps"]
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                own = {**os.environ, **ONE_CORE, "PYTHONPATH": str(clone / "src")}
                subprocess.run(["dvc", "repro", "-q", "train"], cwd=clone, env=own, check=True, capture_output=True)
            finally:
                busy.kill()
        same = "the same bytes" if _contents(clone / "models") == before else "OTHER BYTES"
        return f"{steps} steps in {took:.1f} s, again in {time.perf_counter() - began:.1f} s: {same}"

    def boosting(self, seed: int) -> Run:
        """Return the same of scikit-learn's boosting."""
        began = time.perf_counter()
        predicted = self._trained(["model=gradient_boosting"], seed, "refit")
        return predicted, time.perf_counter() - began, _megabytes(self.folder / "out")

    def lightgbm(self, seed: int) -> Run:
        """Return the same of the best of a random search."""
        began, drawn, best = time.perf_counter(), random.Random(seed), (np.inf, [])
        space = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/space/default.yaml"))["model"]["lightgbm"]
        words: list[str] = []
        while time.perf_counter() - began < 0.85 * self.seconds:
            self._trained(["model=lightgbm", *words], seed, "holdout")
            scores = artifacts.read_metrics(self.folder / "out/validation.json", "validation")
            best = min(best, (scores.get("log_loss", scores["loss"]), words))
            words = [f"model.{key}={_draw(expression, drawn)}" for key, expression in space.items()]
        predicted = self._trained(["model=lightgbm", *best[1]], seed, "refit")
        return predicted, time.perf_counter() - began, _megabytes(self.folder / "out")

    def _trained(self, words: Sequence[str], seed: int, final: str) -> np.ndarray:
        configuration = compose(["experiment=table", *self.words, *words, "trainer.threads=1", f"seed={seed}"])
        configuration["final"] = final
        out = self.folder / "out"
        run.train(run.TrainingRequest(configuration, self.prepared, out, out / "validation.json", states=self.folder))
        return artifacts.read_trained(out).predict(self.test.inputs)

    def peer(self, name: str, python: str, seed: int) -> Run:
        """Return the same of a system in another environment."""
        place = self.folder / name
        if not (place / "test.parquet").exists():
            place.mkdir(exist_ok=True)
            parts = [load_raw(self.prepared, split) for split in ("train", "validation")]
            frames = {"train": polars.concat([self._frame(part) for part in parts]), "test": self._frame(self.test)}
            for split, frame in frames.items():
                frame.write_parquet(place / f"{split}.parquet")
        task = self.transform.manifest
        kind = "regression" if task.task == "regression" else "binary" if len(task.classes) == 2 else "multiclass"
        command = [python, str(Path(__file__).with_name("outside_automl.py")), name, str(place), kind]
        began = time.perf_counter()
        subprocess.run(
            [*command, f"{self.seconds:g}", str(seed)], check=True, capture_output=True, env=os.environ | ONE_CORE
        )
        took = time.perf_counter() - began
        size = sum(file.stat().st_size for file in (place / "model").rglob("*") if file.is_file()) / 1e6
        return np.load(place / "predictions.npy"), took, size

    def _frame(self, part: object) -> polars.DataFrame:
        """Return raw rows as a table: categories are words, the target is `target`."""
        schema = Schema.of(self.transform.manifest.table)
        matrix = part.inputs.numpy()
        columns = {}
        for k, (name, role) in enumerate(zip(schema.matrix_names, schema.roles, strict=True)):
            own = matrix[:, k]
            words = [None if np.isnan(v) else f"c{int(v)}" for v in own] if role == "category" else own
            columns[name] = polars.Series(words, nan_to_null=True) if role != "category" else polars.Series(words)
        return polars.DataFrame(columns).with_columns(target=part.targets.numpy())

    def scores(self, predictions: np.ndarray) -> dict[str, float]:
        """Return log loss and ROC-AUC, or RMSE."""
        found = self.transform.task.measure(self.targets, predictions)
        names = ("rmse",) if self.transform.manifest.task == "regression" else ("log_loss", "roc_auc", "accuracy")
        return {name: found[name] for name in names}

    def difference(self, one: Sequence[np.ndarray], other: Sequence[np.ndarray], name: str) -> tuple[float, float]:
        """Return the 95 % interval of a metric's difference, paired over test rows, means over seeds."""
        drawn = [
            np.mean(
                [
                    metrics.resamples(
                        self.transform.task.resampled(self.targets, p), len(self.targets), repeats=REPEATS
                    )[name]
                    for p in own
                ],
                axis=0,
            )
            for own in (one, other)
        ]
        low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
        return float(low), float(high)


def measured(bench: Bench, system: str, seed: int, python: str, kept: Path | None) -> Run:
    """Return what a system came to, from its file if it has one."""
    if kept is not None and kept.exists():
        with np.load(kept) as file:
            return file["predictions"], float(file["seconds"]), float(file["megabytes"])
    found: Run = bench.peer(system, python, seed) if system in PEERS else getattr(bench, system)(seed)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, predictions=found[0], seconds=found[1], megabytes=found[2])
    return found


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _draw(expression: str, drawn: random.Random) -> str:
    """Return a random value of a range of conf/space, on its scale."""
    value = OverridesParser.create().parse_override(f"key={expression}").value()
    if not hasattr(value, "start"):
        return str(drawn.choice([str(one) for one in value.list]))
    low, high = float(value.start), float(value.end)
    log = {"log", "pow2"} & set(value.tags)
    found = np.exp(drawn.uniform(np.log(low), np.log(high))) if log else drawn.uniform(low, high)
    return str(round(found)) if isinstance(value.start, int) or "pow2" in value.tags else repr(float(found))


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS], metavar="SET")
    parser.add_argument("--systems", nargs="+", default=[*OWN, *PEERS], choices=[*OWN, *PEERS], metavar="SYSTEM")
    parser.add_argument("--python", help="of the environment in which the peers are installed")
    parser.add_argument("--keep", type=Path, help="a folder for predictions, from which an interrupted run goes on")
    parser.add_argument("--replay", action="store_true", help="repeat what hypermap did, beside a busy process")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a made-up table, ten seconds")
    given = parser.parse_args()
    systems = [name for name in given.systems if name in OWN or given.python]
    seconds, seeds = (10.0, 1) if given.quick else (given.seconds, given.seeds)
    ranks: dict[str, list[float]] = {name: [] for name in systems}
    if not given.replay:
        print("| set | system | log loss or rmse | minus hypermap's, 95 % | roc_auc | accuracy | seconds | MB |")
        print("|---|---|--:|---|--:|--:|--:|--:|")
    for name in ["price"] if given.quick else given.sets:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            words = [*made_up(folder)["made up, number"][:2], "data.target=price", "data.drop=[kind]"]
            bench = Bench(words if given.quick else SETS[name], folder, seconds)
            if given.replay:
                print("\n".join(f"{name}, seed {seed}: {bench.replay(seed)}" for seed in range(seeds)), flush=True)
                continue
            found = {}
            for system in ["hypermap", "boosting"] if given.quick else systems:
                try:
                    files = [given.keep and given.keep / f"{name}, {system}, {seed}.npz" for seed in range(seeds)]
                    found[system] = [
                        measured(bench, system, seed, given.python, file) for seed, file in enumerate(files)
                    ]
                except (UserError, subprocess.CalledProcessError) as error:
                    print(f"{name}: {system}: {error}", file=sys.stderr)
            means = {}
            for system, several in found.items():
                scores = [bench.scores(predictions) for predictions, _, _ in several]
                mean = {key: float(np.mean([one[key] for one in scores])) for key in scores[0]}
                first = next(iter(mean))
                means[system] = mean[first]
                own = [predictions for predictions, _, _ in several]
                interval = ""
                if system != "hypermap" and "hypermap" in found:
                    ends = bench.difference(own, [p for p, _, _ in found["hypermap"]], first)
                    interval = " to ".join(f"{end:+.4g}" for end in ends)
                took, size = (float(np.mean([one[k] for one in several])) for k in (1, 2))
                others = " | ".join(f"{mean[key]:.4f}" if key in mean else "" for key in ("roc_auc", "accuracy"))
                print(
                    f"| {name} | {system} | {mean[first]:.5g} | {interval} | {others} | {took:.1f} | {size:.1f} |",
                    flush=True,
                )
            for place, system in enumerate(sorted(means, key=means.__getitem__), 1):
                ranks.setdefault(system, []).append(place)
    if not given.replay:
        print("\nMean rank: " + ", ".join(f"{name} {np.mean(own):.2f}" for name, own in ranks.items() if own))


if __name__ == "__main__":
    main()
