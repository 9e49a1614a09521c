"""Writing and reading the results of a training: the model, its record, its history and its metrics."""

import csv
import json
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.files import durable_together, write_bytes, write_csv, write_json
from hypermap.core.hashing import file_sha256, own_files
from hypermap.core.instantiate import check_part, check_record, named_in_conf
from hypermap.core.moved import with_keys_of_now
from hypermap.core.typing import Array
from hypermap.data.manifest import MANIFEST, Manifest
from hypermap.data.preprocessor import Preprocessor, TensorSplit, Transform, read_transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.data.table_preprocessor import PREPARATION
from hypermap.models import sklearn_fit
from hypermap.models.inputs import InputSpec
from hypermap.models.predictor import Predictor

if TYPE_CHECKING:  # torch is imported for networks alone
    from torch import Tensor

MODEL, ESTIMATOR = "model.safetensors", sklearn_fit.ESTIMATOR
RECORD, HISTORY, SCORES = "model.json", "history.csv", "scores.csv"
FILES = (MODEL, ESTIMATOR, RECORD, HISTORY, MANIFEST, PREPARATION, Preprocessor.file)
LEADERBOARD, SUMMARY, HELD_OUT = "leaderboard.csv", "automl.json", "held_out.safetensors"  # of an AutoML
OF_AUTOML = (LEADERBOARD, SUMMARY, HELD_OUT)
MEMBERS = "members"  # the folder of an ensemble's models, from 0
SPLIT = "split"  # the folder of the model of the prepared splits, where another one is kept
ALONE = "alone"  # the folder of networks for one of several targets each
WITHOUT_TEXTS = "without_texts"  # the folder of the same model, trained without the texts of a table
REMEDY = "Train again: dvc repro --force train"
COLUMNS = (
    "epoch", "train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "gradient_norm",
    "clipped",
)  # fmt: skip
REFINED = "validation_refinement"  # a further column, if the epoch was selected by it
OF_VALIDATION = ("validation_loss", "validation_score", REFINED)


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
    weights: list[float] = field(default_factory=list)  # of an ensemble's members; empty for a single model
    final: str = "holdout"  # which model this is: of the split, or trained again on all rows (refit), or bag
    trained_rows: int = 0  # number of distinct rows that it was trained on; 0 if unknown


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained.

    Attributes:
        record: what its folder says of it.
        predictor: what is asked for predictions.
        history: one row per epoch, to be written; `read_history` reads it.
    """

    record: RunRecord
    predictor: Predictor
    history: Sequence[Mapping[str, Any]] = ()

    def predict(self, rows: "Tensor | Array | RawInputs") -> Array:
        """Return predictions for raw rows, such as those of `hypermap.data.prepared.load_raw`.

        They are probabilities ``(rows, classes)``, or values ``(rows,)`` in the target's unit, float64.
        """
        return self.predictor.predict(rows if isinstance(rows, RawInputs) else RawInputs(rows))

    @property
    def transform(self) -> Transform:
        """The transform from raw rows to features, and back from standardized values; of an ensemble its first's."""
        return self.predictor.transform

    @property
    def inputs(self) -> InputSpec:
        """How the model receives features; of an ensemble its first does."""
        return self.predictor.inputs


@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of several models' predictions, each with its own preprocessing, network and tuning.

    Attributes:
        members: single models of the same task, targets and raw rows.
        weights: of each, from 0, with the sum 1.
    """

    members: Sequence[TrainedModel]
    weights: Sequence[float]

    @property
    def transform(self) -> Transform:
        """The transform of the first member."""
        return self.members[0].transform

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transforms of all members."""
        return tuple(member.transform for member in self.members)

    @property
    def inputs(self) -> InputSpec:
        """The input spec of the first member."""
        return self.members[0].inputs

    @property
    def untuned(self) -> Self:
        """The ensemble without what its members have tuned on validation rows."""
        members = [replace(member, predictor=member.predictor.untuned) for member in self.members]
        return replace(self, members=members)

    def predict(self, rows: RawInputs) -> Array:
        """Return the weighted mean of the task's predictions (`Task.average`) for raw rows."""
        return self.transform.task.average([member.predict(rows) for member in self.members], self.weights)


def write_trained(folder: Path, trained: TrainedModel) -> None:
    """Write a model into `folder` with everything needed for prediction, and remove what an earlier one has left.

    Of an ensemble, each member has a whole model's folder below it. Equal trainings write equal bytes, so timings are
    not included. The record is written last, with checksums of the other files: one that was not finished is noticed.
    """
    from hypermap.training import network

    with durable_together():
        predictor = trained.predictor
        match predictor:
            case Ensemble():
                for k, member in enumerate(predictor.members):
                    write_trained(folder / MEMBERS / str(k), member)
                _finish(folder, trained.record, _members(predictor.weights), predictor.weights, trained.history)
                return
            case network.Network():
                names = {MODEL, *trained.transform.contents()}
                network.save(folder / MODEL, predictor)
            case sklearn_fit.Model():
                names = {ESTIMATOR, *trained.transform.contents()}
                sklearn_fit.save(folder / ESTIMATOR, predictor)
            case _:
                raise TypeError(f"{type(predictor).__name__} has no file format")
        trained.transform.write(folder)
        _finish(folder, trained.record, names, (), trained.history)


@durable_together()
def write_ensemble(folder: Path, record: RunRecord, members: Sequence[Path], weights: Sequence[float]) -> None:
    """Write an ensemble of models that `write_trained` has written into `members`, as it would write these."""
    for k, member in enumerate(members):
        for file in member.iterdir():
            write_bytes(folder / MEMBERS / str(k) / file.name, file.read_bytes())
    _finish(folder, record, _members(weights), weights, ())


def _members(weights: Sequence[float]) -> set[str]:
    """Return the files by which the members of an ensemble are known."""
    return {f"{MEMBERS}/{k}/{RECORD}" for k in range(len(weights))}


def _finish(
    folder: Path,
    record: RunRecord,
    names: set[str],
    weights: Sequence[float],
    history: Sequence[Mapping[str, Any]],
) -> None:
    """Write history and record of a model whose other files are written, and remove what an earlier one has left."""
    columns = columns_of(history)
    write_csv(folder / HISTORY, columns, [{key: row[key] for key in columns} for row in history])
    sha256 = {name: file_sha256(folder / name) for name in sorted(names)}
    write_json(folder / RECORD, asdict(record) | {"sha256": sha256, "weights": list(map(float, weights))})
    remove_model(folder, but={*names, RECORD, HISTORY})


def remove_model(folder: Path, but: Collection[str] = ()) -> None:
    """Remove the files of a model from a folder, except those of these names in it; scores stay as well."""
    for name in {*FILES, *OF_AUTOML} - {*but}:
        (folder / name).unlink(missing_ok=True)
    kept = {Path(name).parts[1] for name in but if Path(name).parts[0] == MEMBERS}
    for member in (folder / MEMBERS).glob("*"):
        if member.name not in kept:
            shutil.rmtree(member)
    if not kept and (folder / MEMBERS).exists():
        (folder / MEMBERS).rmdir()


def read_trained(folder: Path, *, trust: bool = False) -> TrainedModel:
    """Return what `write_trained` wrote, on the CPU.

    Raises:
        UserError: a file is missing or damaged, the weights do not fit the network, or the record names code that is
            not a part (`hypermap.core.instantiate.check_record`) without `trust`.
    """
    record = _read_record(folder, trust=trust)
    return _read_ensemble(folder, record, trust=trust) if record.weights else _read_single(folder, record, trust=trust)


def _read_record(folder: Path, *, trust: bool) -> RunRecord:
    try:
        record = RunRecord(**with_keys_of_now(json.loads((folder / RECORD).read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise UserError(f"{folder / RECORD} cannot be read (no model was trained there). {REMEDY}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error!r}). {REMEDY}") from None
    check_record(record.configuration, str(folder / RECORD), trust=trust)
    return record


def _read_single(folder: Path, record: RunRecord, *, trust: bool) -> TrainedModel:
    """Return a network, or a model of scikit-learn, with its transform.

    Raises:
        UserError: as for `read_trained`.
    """
    try:
        if not (folder / MANIFEST).exists():
            raise UserError(f"{folder / MANIFEST} is not here: an earlier version trained this model. {REMEDY}")
        _check_files(folder, record.sha256)
        check_code(Manifest.read(folder).named, str(folder / MANIFEST), trust=trust)
        transform = read_transform(folder)
        option = record.configuration["model"]
        if sklearn_fit.is_family(option):
            return TrainedModel(record, sklearn_fit.load(folder / ESTIMATOR, option, transform, REMEDY))
        from hypermap.training import network

        weights = folder / MODEL
        return TrainedModel(record, network.load(weights, record.configuration, record.tuned, transform, REMEDY))
    except FileNotFoundError:
        raise UserError(f"{folder / RECORD} cannot be read (no model was trained there). {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error!r}). {REMEDY}") from None
    except RuntimeError as error:
        raise UserError(f"{folder / MODEL} does not fit {RECORD}: {error}. {REMEDY}") from None


def _read_ensemble(folder: Path, record: RunRecord, *, trust: bool) -> TrainedModel:
    """Return an ensemble with its members.

    Raises:
        UserError: its weights are none, or a member cannot be read, is an ensemble itself, or was trained on other data
            than the first.
    """
    weights = record.weights
    shares = isinstance(weights, list) and all(isinstance(weight, float) and 0 <= weight <= 1 for weight in weights)
    if not shares or not math.isclose(math.fsum(weights), 1, abs_tol=1e-6):
        raise UserError(f"{folder / RECORD} cannot be read: weights are {weights}, no shares of 1. {REMEDY}")
    _check_files(folder, record.sha256)
    members = []
    for k in range(len(weights)):
        own = _read_record(member := folder / MEMBERS / str(k), trust=trust)
        if own.weights:
            raise UserError(f"{member / RECORD} cannot be read: it is an ensemble's, in another ensemble. {REMEDY}")
        members.append(_read_single(member, own, trust=trust))
    manifests = [member.transform.manifest for member in members]
    if any(other.task != manifests[0].task or other.raw_sha256 != manifests[0].raw_sha256 for other in manifests):
        raise UserError(f"{folder / RECORD} cannot be read: its members were trained on different data. {REMEDY}")
    return TrainedModel(record, Ensemble(members, weights))


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


@dataclass(frozen=True)
class Search:
    """What an AutoML has left beside its ensemble.

    Attributes:
        leaderboard: a row for each of the best candidates, by their loss.
        summary: what it found, in numbers and a sentence.
        rows: int64 ``(rows,)``, the indices of the rows outside the test set that the ensemble was judged by.
        predictions: for these, by members that were not trained on them, with weights selected without them.
    """

    leaderboard: Sequence[Mapping[str, str]]
    summary: Mapping[str, Any]
    rows: "Tensor"
    predictions: Array


@durable_together()
def write_search(
    folder: Path, columns: Sequence[str], leaderboard: Sequence[Mapping[str, Any]], summary: Mapping[str, Any],
    rows: Array, predictions: Array,
) -> None:  # fmt: skip
    """Write what an AutoML has found into its model's folder; equal results give equal bytes."""
    import torch

    from hypermap.core import checkpoint

    write_csv(folder / LEADERBOARD, columns, leaderboard)
    write_json(folder / SUMMARY, summary)
    tensors = {"rows": torch.from_numpy(rows), "predictions": torch.from_numpy(predictions)}
    checkpoint.write_tensors(folder / HELD_OUT, tensors)


def read_search(folder: Path) -> Search | None:
    """Return what `write_search` wrote; None if the model is none of an AutoML.

    Raises:
        UserError: it is damaged.
    """
    from hypermap.core import checkpoint

    if not (folder / SUMMARY).exists():
        return None
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        with (folder / LEADERBOARD).open(newline="", encoding="utf-8") as file:
            leaderboard = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{folder / SUMMARY} cannot be read ({error!r}). {REMEDY}") from None
    held = checkpoint.read_tensors(folder / HELD_OUT, REMEDY)
    return Search(leaderboard, summary, held["rows"], held["predictions"].numpy())


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the history that `train` wrote into `folder`: one row per epoch, with exact numbers.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = columns_of(rows)
        return [{key: _number(key, row[key]) for key in columns} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / 'history.csv'} cannot be read ({error!r}). {REMEDY}") from None


def _number(column: str, cell: str) -> float | None:
    """Return a number of a history; None where there were no validation rows to compute it on."""
    if not cell and column in OF_VALIDATION:
        return None
    return int(cell) if column == "epoch" else float(cell)


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
