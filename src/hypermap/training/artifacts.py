"""Writing and reading the results of a training: the model, its record, its history and its metrics."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core import checkpoint, device
from hypermap.core.errors import UserError
from hypermap.core.files import durable_together, write_csv, write_json
from hypermap.core.hashing import file_sha256, own_files
from hypermap.core.instantiate import check_part, check_record, instantiate, named_in_conf
from hypermap.core.moved import with_keys_of_now
from hypermap.data.manifest import MANIFEST, Manifest
from hypermap.data.preprocessor import Preprocessor, TensorSplit, Transform, read_transform
from hypermap.data.table_preprocessor import PREPARATION
from hypermap.models import sklearn_fit
from hypermap.models.inputs import InputSpec, resolve_input_spec
from hypermap.tasks.losses import Loss
from hypermap.training.backends.backend import EVALUATION_ROWS, forward_all
from hypermap.training.components import make_components

MODEL, ESTIMATOR = "model.safetensors", sklearn_fit.ESTIMATOR
RECORD, HISTORY, SCORES = "model.json", "history.csv", "scores.csv"
FILES = (MODEL, ESTIMATOR, RECORD, HISTORY, MANIFEST, PREPARATION, Preprocessor.file, SCORES)
ALONE = "alone"  # the folder of networks for one of several targets each
WITHOUT_TEXTS = "without_texts"  # the folder of the same model, trained without the texts of a table
REMEDY = "Train again: dvc repro --force train"
COLUMNS = (
    "epoch", "train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "gradient_norm",
    "clipped",
)  # fmt: skip
REFINED = "validation_refinement"  # a further column, if the epoch was selected by it


@dataclass(frozen=True)
class RunRecord:
    """The record of a trained model, ``model.json``."""

    best_epoch: int  # from 1; 0 without epochs
    stopped_early: bool
    monitor: str  # what the epoch was selected by
    parameters: int | None  # number of weights; None for a model without weights
    environment: dict[str, str]
    configuration: dict[str, Any]
    tuned: dict[str, Any] = field(default_factory=dict)  # what `Task.tune` has returned, such as a temperature
    sha256: dict[str, str] = field(default_factory=dict)  # of the other files that predictions depend on


@dataclass(frozen=True)
class Network:
    """A trained network as a predictor on prepared features on its device."""

    module: nn.Module
    loss: Loss
    transform: Transform
    inputs: InputSpec
    precision: str
    tuned: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, features: Tensor) -> np.ndarray:
        """Return the task's predictions, such as probabilities ``(rows, classes)``, float64."""
        return self.transform.task.predictions(self.outputs(features), **self.tuned)

    def outputs(self, features: Tensor) -> np.ndarray:
        """Return the loss's predictions ``(rows, ...)``, float64."""
        parts = (self.inputs.encode(part) for part in features.split(EVALUATION_ROWS))
        outputs = torch.cat([forward_all(self.module, part, self.precision) for part in parts])
        predicted: np.ndarray = self.loss.predictions(outputs).double().cpu().numpy()
        return predicted


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained: ``predict(features)`` asks it, its features being those
    of `hypermap.data.prepared.load`.

    Predictions are probabilities ``(rows, classes)``, or values ``(rows,)`` in the target's unit, float64.
    """

    record: RunRecord
    predict: Network | sklearn_fit.Model

    @property
    def transform(self) -> Transform:
        """The transform from raw rows to features, and back from standardized values."""
        return self.predict.transform

    @property
    def inputs(self) -> InputSpec:
        """How the model receives features."""
        return self.predict.inputs

    @property
    def untuned(self) -> Network | sklearn_fit.Model:
        """The predictor without what was tuned on validation rows."""
        return replace(self.predict, tuned={}) if isinstance(self.predict, Network) else self.predict

    @property
    def network(self) -> nn.Module | None:
        """The network; None for a scikit-learn model."""
        return self.predict.module if isinstance(self.predict, Network) else None

    @property
    def loss(self) -> Loss | None:
        """The loss that the network was trained with; None for a scikit-learn model."""
        return self.predict.loss if isinstance(self.predict, Network) else None


@durable_together()
def write_trained(folder: Path, trained: TrainedModel, history: Sequence[dict[str, Any]]) -> set[str]:
    """Write a model into `folder` with everything needed for prediction, and return the file names.

    Equal trainings write equal bytes, so timings are not included.
    """
    if isinstance(trained.predict, Network):
        model = MODEL
        checkpoint.write_tensors(folder / MODEL, trained.predict.module.state_dict())
    else:
        model = ESTIMATOR
        sklearn_fit.save(folder / ESTIMATOR, trained.predict)
    trained.transform.write(folder)
    sha256 = {name: file_sha256(folder / name) for name in sorted({model, *trained.transform.contents()})}
    write_json(folder / RECORD, asdict(trained.record) | {"sha256": sha256})
    columns = columns_of(history)
    write_csv(folder / HISTORY, columns, [{key: row[key] for key in columns} for row in history])
    return {model, RECORD, HISTORY, *trained.transform.contents()}


def read_trained(folder: Path, *, trust: bool = False) -> TrainedModel:
    """Return what `write_trained` wrote, on the CPU.

    Raises:
        UserError: a file is missing or damaged, the weights do not fit the network, or the record names code that is
            not a part (`hypermap.core.instantiate.check_record`) without `trust`.
    """
    try:
        record = RunRecord(**with_keys_of_now(json.loads((folder / RECORD).read_text(encoding="utf-8"))))
        check_record(record.configuration, str(folder / RECORD), trust=trust)
        if not (folder / MANIFEST).exists():
            raise UserError(f"{folder / MANIFEST} is not here: an earlier version trained this model. {REMEDY}")
        _check_files(folder, record.sha256)
        check_code(Manifest.read(folder).named, str(folder / MANIFEST), trust=trust)
        transform = read_transform(folder)
        option = record.configuration["model"]
        if sklearn_fit.is_family(option):
            return TrainedModel(record, sklearn_fit.load(folder / ESTIMATOR, option, transform, REMEDY, device.CORES))
        inputs = resolve_input_spec(option, transform.manifest)
        parts = make_components(record.configuration, transform.manifest, inputs, torch.device("cpu"))
        parts.model.load_state_dict(checkpoint.read_tensors(folder / MODEL, REMEDY))
        precision = instantiate(record.configuration["trainer"]).precision
    except FileNotFoundError:
        raise UserError(f"{folder / RECORD} cannot be read (no model was trained there). {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error!r}). {REMEDY}") from None
    except RuntimeError as error:
        raise UserError(f"{folder / MODEL} does not fit {RECORD}: {error}. {REMEDY}") from None
    network = Network(parts.model, parts.loss, transform, inputs, precision, record.tuned)
    return TrainedModel(record, network)


def check_code(paths: Sequence[str], origin: str, *, trust: bool) -> None:
    """Refuse dotted paths of code which neither is a part, nor stands in a module that conf/ names or imports.

    Raises:
        UserError: says what is named; `origin` is what an error begins with.
    """
    modules = own_files([{"_target_": path} for path in named_in_conf()]) if paths and not trust else {}
    for path in () if trust else paths:
        if path.rpartition(".")[0] not in modules:
            check_part(path, origin)


def _check_files(folder: Path, sha256: Mapping[str, str]) -> None:
    """Check a model's files against their recorded checksums, which models of earlier versions lack.

    Raises:
        UserError: a file differs.
    """
    for name, written in sha256.items():
        if (folder / name).exists() and (found := file_sha256(folder / name)) != written:
            raise UserError(
                f"{folder / name} cannot be read: it is not the file that {RECORD} was written with (its SHA-256 is "
                f"{found[:12]}…, was {written[:12]}…). Copy it again from where the model was made. {REMEDY}"
            )


def columns_of(history: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Return the columns of a history, apart from timings."""
    return (*COLUMNS, REFINED) if history and REFINED in history[0] else COLUMNS


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the history that `train` wrote into `folder`: one row per epoch, with exact numbers.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = columns_of(rows)
        return [{key: int(row[key]) if key == "epoch" else float(row[key]) for key in columns} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / 'history.csv'} cannot be read ({error!r}). {REMEDY}") from None


def write_scores(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``scores.csv`` into `folder`: one row per training (fold and repeat), with its metrics."""
    write_csv(folder / SCORES, list(dict.fromkeys(key for row in rows for key in row)), rows)


def write_metrics(path: Path, split: str, metrics: Mapping[str, float]) -> None:
    """Write flat metrics for DVC, prefixed with the split's name, so that no two files share a column."""
    write_json(path, {f"{split}_{name}": value for name, value in metrics.items()})


def read_metrics(path: Path, split: str) -> dict[str, float]:
    """Return what `write_metrics` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return {name.removeprefix(f"{split}_"): float(value) for name, value in metrics.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}). {REMEDY}") from None


def targets(split: TensorSplit, transform: Transform) -> np.ndarray:
    """Return the true targets in their own unit: class indices ``(rows,)`` int64, or numbers float64."""
    values = split.targets.cpu().numpy()
    return transform.task.decode(values if np.issubdtype(values.dtype, np.integer) else values.astype(np.float64))


def score(split: TensorSplit, predictions: np.ndarray, transform: Transform) -> dict[str, float]:
    """Return every metric of the task."""
    return transform.task.measure(targets(split, transform), predictions)
