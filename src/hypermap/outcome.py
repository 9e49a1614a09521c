"""What a training leaves behind: weights, what made them, their history and figures; written and read here."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap import checkpoint, metrics
from hypermap.data.prepare import Split
from hypermap.errors import UserError
from hypermap.files import write_csv, write_json
from hypermap.losses import Loss
from hypermap.parts import make_parts
from hypermap.trainer import forward_all

MODEL, RECORD, HISTORY, SCORES = "model.safetensors", "model.json", "history.csv", "scores.csv"
FILES = (MODEL, RECORD, HISTORY, SCORES)
REMEDY = "Train again: dvc repro --force train"
COLUMNS = (
    "epoch", "train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "gradient_norm",
    "clipped",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What made a network's weights; ``model.json``."""

    kept_epoch: int  # from 1
    stopped_early: bool
    monitor: str  # what the epoch was picked by
    parameters: int  # the weights' number
    environment: dict[str, str]
    configuration: dict[str, Any]


def write_trained(folder: Path, weights: Mapping[str, Tensor], record: Record, history: list[dict[str, Any]]) -> None:
    """Write the three files into `folder`: equal trainings write equal bytes, so the seconds stay out."""
    checkpoint.write_tensors(folder / MODEL, weights)
    write_json(folder / RECORD, asdict(record))
    write_csv(folder / HISTORY, COLUMNS, [{key: row[key] for key in COLUMNS} for row in history])


def read_trained(folder: Path, manifest: Mapping[str, Any]) -> tuple[nn.Module, Loss, Record]:
    """The network and its loss, on the CPU, and the record of what made them.

    Raises:
        UserError: a file is missing or damaged, or the weights are not of this network.
    """
    try:
        record = Record(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        parts = make_parts(record.configuration, manifest, torch.device("cpu"))
        parts.model.load_state_dict(checkpoint.read_tensors(folder / MODEL, REMEDY))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error!r}). {REMEDY}") from None
    except RuntimeError as error:
        raise UserError(f"{folder / MODEL} does not fit {RECORD}: {error}. {REMEDY}") from None
    return parts.model, parts.loss, record


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The history that `train` wrote into `folder`: a row an epoch, numbers as they were.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{key: int(row[key]) if key == "epoch" else float(row[key]) for key in COLUMNS} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{folder / 'history.csv'} cannot be read ({error!r}). {REMEDY}") from None


def write_scores(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``scores.csv`` into `folder`: which fit a row is of, and its figures."""
    write_csv(folder / SCORES, list(dict.fromkeys(key for row in rows for key in row)), rows)


def write_figures(path: Path, split: str, figures: Mapping[str, float]) -> None:
    """Write flat metrics for DVC, each named after its split, so that no two files have a column in common."""
    write_json(path, {f"{split}_{name}": value for name, value in figures.items()})


def read_figures(path: Path, split: str) -> dict[str, float]:
    """What `write_figures` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        return {name.removeprefix(f"{split}_"): float(value) for name, value in figures.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}). {REMEDY}") from None


def predict(model: nn.Module, loss: Loss, split: Split, manifest: Mapping[str, Any], precision: str) -> np.ndarray:
    """Probabilities ``(rows, classes)``, or values ``(rows,)`` in the target's own unit, float64."""
    predicted = loss.predictions(forward_all(model, split.inputs, precision)).double().cpu().numpy()
    if manifest["task"] == "regression":
        return _natural(predicted, manifest)
    shares: np.ndarray = predicted / predicted.sum(axis=1, keepdims=True)
    return shares


def targets(split: Split, manifest: Mapping[str, Any]) -> np.ndarray:
    """The true class indices ``(rows,)`` int64, or the numbers ``(rows,)`` float64 in their own unit."""
    values = split.targets.cpu().numpy()
    return values if manifest["task"] == "classification" else _natural(values.astype(np.float64), manifest)


def score(split: Split, predictions: np.ndarray, manifest: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of the task."""
    measure = metrics.classification if manifest["task"] == "classification" else metrics.regression
    return measure(targets(split, manifest), predictions)


def _natural(standardised: np.ndarray, manifest: Mapping[str, Any]) -> np.ndarray:
    """From the training targets' mean and deviation back to the target's own unit."""
    natural: np.ndarray = standardised * manifest["target_scale"] + manifest["target_shift"]
    return natural
