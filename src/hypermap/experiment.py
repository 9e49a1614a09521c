"""From a configuration and prepared data to a trained network and its figures on the validation rows."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hypermap import checkpoint, machine, outcome
from hypermap.build import build, locate
from hypermap.data.prepare import Split, load, read_manifest
from hypermap.files import fingerprint, write_csv
from hypermap.parts import GROUPS, make_parts
from hypermap.trainer import Settings, Trainer

RUNS = Path("runs")


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
    machine.make_repeatable()
    settings: Settings = build(configuration["trainer"])
    device = machine.choose_device(settings.device)
    manifest = read_manifest(prepared)
    torch.manual_seed(configuration["seed"])
    parts = make_parts(configuration, manifest, device)
    threads = settings.threads or machine.choose_threads(parts.model, settings.batch_size)
    torch.set_num_threads(threads)
    monitor = settings.monitored(manifest["task"])
    trainer = Trainer(parts, settings, manifest["task"], configuration["seed"], device)
    rows = {split: _on(load(prepared, split), device) for split in ("train", "validation")}
    parts.loss.fit(rows["train"].targets, len(manifest["classes"]))
    environment = machine.environment(device, threads)

    with checkpoint.own_folder(RUNS, _identity(configuration, manifest, environment)) as state:
        trained = trainer.fit(rows["train"], rows["validation"], state)
        parts.model.load_state_dict(trained.weights)
        predictions = outcome.predict(parts.model, parts.loss, rows["validation"], manifest, settings.precision)
        figures = outcome.score(rows["validation"], predictions, manifest)
        figures |= {"loss": trained.history[trained.kept_epoch - 1]["validation_loss"]}
        parameters = sum(parameter.numel() for parameter in parts.model.parameters())
        record = outcome.Record(
            trained.kept_epoch, trained.stopped_early, monitor, parameters, environment, dict(configuration)
        )
        outcome.write_trained(output, trained.weights, record, trained.history)
        outcome.write_figures(validation, "validation", figures)
        write_csv(state / outcome.HISTORY, (*outcome.COLUMNS, "seconds"), trained.history)
        checkpoint.clear(state)

    seconds = sum(row["seconds"] for row in trained.history)
    return Result(figures[monitor], monitor, figures, trained.kept_epoch, len(trained.history), seconds)


def _identity(configuration: Mapping[str, Any], manifest: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """A name that two runs share if, and only if, they must come to the same numbers."""
    package = Path(__file__).parent
    own = (inspect.getsourcefile(locate(configuration[group]["_target_"])) for group in GROUPS)
    sources = {*package.rglob("*.py"), *(Path(file).resolve() for file in own if file)}
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    settings = {key: value for key, value in configuration.items() if key not in ("data", "experiment", "evaluation")}
    return fingerprint([settings, manifest["fingerprint"], manifest["raw_sha256"], dict(environment), code])


def _on(split: Split, device: torch.device) -> Split:
    return replace(split, inputs=split.inputs.to(device), targets=split.targets.to(device))
