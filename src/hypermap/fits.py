"""Fits: the trainings that a validation asks for, each on the rows of its fold and with a seed of its own."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypermap import checkpoint, machine, outcome
from hypermap.build import build
from hypermap.data.prepare import Split, fitted_on, load_published, read_manifest, scaled
from hypermap.errors import UserError
from hypermap.files import write_csv, write_json
from hypermap.parts import make_parts
from hypermap.trainer import Report, Settings, Trained, Trainer, unheard
from hypermap.validation import Fold, Pool, Validation, derived_seed

FINISHED = "finished.json"


@dataclass(frozen=True)
class Fit:
    """One training: the rows it learns from and those that validate it, and its seed."""

    fold: Fold
    seed: int


@dataclass(frozen=True)
class Fitted:
    """What a fit came to: the validation figures of its best epoch."""

    figures: dict[str, float]
    kept_epoch: int  # from 1
    epochs: int
    seconds: float


class Rows:
    """The rows that are not test, and those of each fold as a network sees them."""

    def __init__(self, prepared: Path, manifest: Mapping[str, Any]) -> None:
        self.manifest = manifest
        self.train, self.validation = (load_published(prepared, name) for name in ("train", "validation"))
        self.order = torch.argsort(torch.cat([self.train.rows, self.validation.rows]))

    @cached_property
    def pool(self) -> Pool:
        """What a validation has to know of them."""
        cut = len(self.train.rows)
        positions = np.argsort(self.order.numpy())  # where each row of the two splits stands in the pool
        return Pool(
            targets=torch.cat([self.train.targets, self.validation.targets])[self.order].numpy(),
            classes=tuple(self.manifest["classes"]),
            holdout=Fold(positions[:cut], positions[cut:]),
            seed=self.manifest["split_seed"],
        )

    def of(self, fold: Fold, device: torch.device) -> tuple[Split, Split, Mapping[str, Any]]:
        """Training and validation rows, and the manifest by which both are scaled: that of these training rows."""
        if fold is self.pool.holdout:
            train, validation, manifest = self.train, self.validation, self.manifest
        else:
            train, validation = self._at(fold.train), self._at(fold.validation)
            manifest = fitted_on(train, self.manifest)
        return _on(scaled(train, manifest), device), _on(scaled(validation, manifest), device), manifest

    @cached_property
    def _published(self) -> Split:
        """The pool's rows, as published."""
        first, second, order = self.train, self.validation, self.order
        return Split(
            torch.cat([first.inputs, second.inputs])[order],
            torch.cat([first.targets, second.targets])[order],
            torch.cat([first.rows, second.rows])[order],
        )

    def _at(self, positions: np.ndarray) -> Split:
        wanted, pooled = torch.from_numpy(positions), self._published
        return Split(pooled.inputs[wanted], pooled.targets[wanted], pooled.rows[wanted])


class Fitter:
    """Carries out the fits of one configuration on one prepared data set.

    Raises:
        UserError: on construction, a value that does not suit the data, the machine or a signature.
    """

    def __init__(self, configuration: Mapping[str, Any], prepared: Path) -> None:
        self.configuration = configuration
        self.settings: Settings = build(configuration["trainer"])
        self.device = machine.choose_device(self.settings.device)
        self.manifest = read_manifest(prepared)
        self.monitor = self.settings.monitored(self.manifest["task"])
        with machine.told_out_of_memory(self.settings.batch_size):
            model = make_parts(configuration, self.manifest, torch.device("cpu")).model
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.threads = self.settings.threads or machine.choose_threads(model, self.settings.batch_size)
        self.environment = machine.environment(self.device, self.threads)
        self.rows = Rows(prepared, self.manifest)

    def plan(self) -> list[Fit]:
        """Every fold with every seed. The first seed is the configuration's own; it has all folds before the next.

        Raises:
            UserError: the folds cannot be made, or the monitored figure does not exist for so few rows.
        """
        validation: Validation = build(self.configuration["validation"])
        folds = validation.folds(self.rows.pool)
        if self.monitor == "r2" and min(len(fold.validation) for fold in folds) < 2:
            raise UserError("r2 does not exist for one validation row: validate on more, or take trainer.monitor=loss.")
        seeds = [derived_seed(self.configuration["seed"], number) for number in range(self.settings.repeats)]
        return [Fit(fold, seed) for seed in seeds for fold in folds]

    @property
    def holdout(self) -> Fit:
        """The fit on the prepared splits."""
        return Fit(self.rows.pool.holdout, self.configuration["seed"])

    def fit(self, fit: Fit, state: Path, report: Report = unheard) -> tuple[Fitted, Trained]:
        """Train, going on from what `state` holds, and leave there the state and the history with its seconds.

        Raises:
            Diverged: a loss that is not finite.
            OutOfMemory: the network and its batches are too large.
            UserError: a state that cannot be read.
        """
        with machine.told_out_of_memory(self.settings.batch_size):
            torch.manual_seed(fit.seed)
            parts = make_parts(self.configuration, self.manifest, self.device)
            trainer = Trainer(parts, self.settings, self.manifest["task"], fit.seed, self.device)
            train, validation, manifest = self.rows.of(fit.fold, self.device)
            parts.loss.fit(train.targets, len(manifest["classes"]))
            # Whoever is reported to shows how far it is.
            trained = trainer.fit(train, validation, state, quiet=report is not unheard, report=report)
            parts.model.load_state_dict(trained.weights)
            predictions = outcome.predict(parts.model, parts.loss, validation, manifest, self.settings.precision)
        history, kept = trained.history, trained.kept_epoch
        figures = outcome.score(validation, predictions, manifest) | {"loss": history[kept - 1]["validation_loss"]}
        write_csv(state / outcome.HISTORY, (*outcome.COLUMNS, "seconds"), history)
        return Fitted(figures, kept, len(history), sum(row["seconds"] for row in history)), trained

    def latency_ms(self) -> float:
        """The median time of a forward pass of one row, in milliseconds."""
        model = make_parts(self.configuration, self.manifest, self.device).model
        row = torch.zeros((1, *self.manifest["shape"]), device=self.device)
        return machine.latency_ms(model, row, self.settings.precision)


def write_finished(folder: Path, fitted: Fitted) -> None:
    """Note in a fit's folder that it is done, so that it is not done again."""
    write_json(folder / FINISHED, asdict(fitted))


def read_finished(folder: Path) -> Fitted | None:
    """What `write_finished` wrote, or None.

    Raises:
        UserError: it is damaged.
    """
    try:
        return Fitted(**json.loads((folder / FINISHED).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / FINISHED} cannot be read ({error!r}). To do this fit again, remove the folder {folder}."
        ) from None


def forget(state: Path) -> None:
    """Remove from a run's folder what it could go on from."""
    for folder in (state, *(path for path in state.iterdir() if path.is_dir())):
        checkpoint.clear(folder)
        (folder / FINISHED).unlink(missing_ok=True)


def _on(split: Split, device: torch.device) -> Split:
    return replace(split, inputs=split.inputs.to(device), targets=split.targets.to(device))
