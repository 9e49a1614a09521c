"""From a configuration and prepared data to a trained network and its figures on the validation rows."""

import csv
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap import checkpoint, machine, metrics
from hypermap.build import build, check_arguments, locate
from hypermap.data.prepare import Split, load, read_manifest
from hypermap.errors import UserError
from hypermap.files import fingerprint, write_csv, write_json
from hypermap.losses import Loss
from hypermap.trainer import Parts, Settings, Trained, Trainer, forward_all

RUNS = Path("runs")
REMEDY = "Train again: dvc repro --force train"
HISTORY = (
    "epoch", "train_loss", "validation_loss", "train_score", "validation_score", "learning_rate", "gradient_norm",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A trained network's validation figures; `objective` is the one that a search may pick by."""

    objective: float
    monitor: str
    validation: dict[str, float]
    kept_epoch: int
    epochs: int
    seconds: float


def train(configuration: Mapping[str, Any], prepared: Path, output: Path, validation: Path) -> Result:
    """Train, going on from an interrupted run of the same settings, and write the outcome.

    Writes ``model.safetensors`` (weights by name), ``model.json`` (what made them) and ``history.csv`` into
    `output`, and the flat metrics of the validation rows as JSON to `validation`. The seconds of each epoch,
    which differ from run to run, stay in ``runs/``.

    Raises:
        UserError: settings that do not fit the data or a signature, a loss that is not finite.
    """
    settings: Settings = build(configuration["trainer"])
    device = machine.choose_device(settings.device)
    manifest = read_manifest(prepared)
    torch.manual_seed(configuration["seed"])
    parts = make_parts(configuration, manifest, device)
    threads = settings.threads or machine.choose_threads(parts.model, settings.batch_size)
    machine.make_repeatable(threads)
    monitor = settings.monitored(manifest["task"])
    trainer = Trainer(parts, settings, manifest["task"], configuration["seed"], device)
    rows = {split: _on(load(prepared, split), device) for split in ("train", "validation")}
    parts.loss.fit(rows["train"].targets, len(manifest["classes"]))
    environment = machine.environment(device, threads)

    with checkpoint.own_folder(RUNS, _identity(configuration, manifest, environment)) as state:
        trained = trainer.fit(rows["train"], rows["validation"], state)
        parts.model.load_state_dict(trained.weights)
        predictions = predict(parts.model, parts.loss, rows["validation"].inputs, manifest, settings.precision)
        figures = score(natural_targets(rows["validation"].targets, manifest), predictions, manifest["task"])
        kept = trained.history[trained.kept_epoch - 1]
        figures |= {"loss": kept["validation_loss"]}
        parameters = sum(parameter.numel() for parameter in parts.model.parameters())
        _write_outcome(output, trained, configuration, monitor, environment, parameters)
        write_figures(validation, "validation", figures)
        write_csv(state / "history.csv", (*HISTORY, "seconds"), trained.history)
        checkpoint.clear(state)

    seconds = sum(row["seconds"] for row in trained.history)
    return Result(figures[monitor], monitor, figures, trained.kept_epoch, len(trained.history), seconds)


def make_parts(configuration: Mapping[str, Any], manifest: Mapping[str, Any], device: torch.device) -> Parts:
    """Build all parts for data of this shape; every mismatch is told before the first is built.

    Raises:
        UserError: a value that no signature takes, or a choice that does not suit the data.
    """
    shape, classes = tuple(manifest["shape"]), len(manifest["classes"])
    check_arguments(configuration["model"], "input_shape", "outputs")
    check_arguments(configuration["optimizer"], "params")
    loss: Loss = build(configuration["loss"])
    loss.check(manifest["task"], classes)
    augment = build(configuration["augment"])
    augment.check(shape)
    model = build(configuration["model"], input_shape=shape, outputs=loss.outputs(classes))
    return Parts(
        model=model.to(device),
        loss=loss,
        make_optimizer=partial(make_optimizer, configuration["optimizer"]),
        schedule=build(configuration["scheduler"]),
        regularizer=build(configuration["regularizer"]),
        augment=augment,
    )


def make_optimizer(choice: Mapping[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that `choice` names, fused where torch has it fused for this device."""
    signature = inspect.signature(locate(choice["_target_"]))
    device = parameters[0].device.type
    fused = "fused" in signature.parameters and "fused" not in choice and device in ("cpu", "cuda")
    optimizer = build(choice, params=parameters, **({"fused": True} if fused else {}))
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def predict(
    model: nn.Module, loss: Loss, inputs: Tensor, manifest: Mapping[str, Any], precision: str = "fp32"
) -> np.ndarray:
    """Probabilities ``(rows, classes)``, or values ``(rows,)`` in the target's own unit, float64."""
    predicted = loss.predictions(forward_all(model, inputs, precision)).double().cpu()
    if manifest["task"] == "regression":
        return natural_targets(predicted, manifest)
    return (predicted / predicted.sum(1, keepdim=True)).numpy()


def natural_targets(targets: Tensor, manifest: Mapping[str, Any]) -> np.ndarray:
    """Class indices as they are; standardised numbers back in their own unit, float64."""
    if manifest["task"] == "classification":
        return targets.cpu().numpy()
    natural: np.ndarray = targets.double().cpu().numpy() * manifest["target_scale"] + manifest["target_shift"]
    return natural


def score(targets: np.ndarray, predictions: np.ndarray, task: str) -> dict[str, float]:
    """Every metric of the task."""
    return (metrics.classification if task == "classification" else metrics.regression)(targets, predictions)


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


def load_trained(folder: Path, manifest: Mapping[str, Any]) -> tuple[nn.Module, Loss, dict[str, Any]]:
    """The network and loss that `train` wrote into `folder`, on the CPU, and the record of what made them.

    Raises:
        UserError: a file is missing or damaged, or the weights are not of this network.
    """
    try:
        record: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        parts = make_parts(record["configuration"], manifest, torch.device("cpu"))
        parts.model.load_state_dict(checkpoint.read_tensors(folder / "model.safetensors", REMEDY))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / 'model.json'} cannot be read ({error!r}). {REMEDY}") from None
    except RuntimeError as error:
        raise UserError(f"{folder / 'model.safetensors'} does not fit model.json: {error}. {REMEDY}") from None
    return parts.model, parts.loss, record


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The history that `train` wrote into `folder`: a row an epoch, numbers as they were.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{key: int(row[key]) if key == "epoch" else float(row[key]) for key in HISTORY} for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / 'history.csv'} cannot be read ({error!r}). {REMEDY}") from None


def _write_outcome(
    folder: Path,
    trained: Trained,
    configuration: Mapping[str, Any],
    monitor: str,
    environment: dict[str, str],
    parameters: int,
) -> None:
    record = {
        "kept_epoch": trained.kept_epoch,
        "stopped_early": trained.stopped_early,
        "monitor": monitor,
        "weights": parameters,
        "environment": environment,
        "configuration": dict(configuration),
    }
    checkpoint.write_tensors(folder / "model.safetensors", trained.weights)
    write_json(folder / "model.json", record)
    history = [{key: row[key] for key in HISTORY} for row in trained.history]
    write_csv(folder / "history.csv", HISTORY, history)


def _identity(configuration: Mapping[str, Any], manifest: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """A name that two runs share if, and only if, they must come to the same numbers."""
    package = Path(__file__).parent
    sources = {*package.rglob("*.py"), Path(inspect.getfile(locate(configuration["model"]["_target_"])))}
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    settings = {key: value for key, value in configuration.items() if key not in ("data", "experiment", "evaluation")}
    return fingerprint([settings, manifest["fingerprint"], manifest["raw_sha256"], dict(environment), code])


def _on(split: Split, device: torch.device) -> Split:
    return replace(split, inputs=split.inputs.to(device), targets=split.targets.to(device))
