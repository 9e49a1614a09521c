"""Fits: the trainings that a validation asks for, each on the rows of its fold and with a seed of its own."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypermap import checkpoint, outcome
from hypermap.build import build
from hypermap.data.balance import oversample
from hypermap.data.prepare import load_published
from hypermap.data.transform import Split, read_transform
from hypermap.errors import UserError
from hypermap.files import write_csv, write_json
from hypermap.learners import Learned, Rows, make_learner
from hypermap.trainer import Report, Settings, unheard
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
    kept_epoch: int  # from 1; 0 where there are no epochs
    epochs: int
    seconds: float


class Folds:
    """The rows that are not test, and those of each fold as a model sees them."""

    def __init__(self, prepared: Path) -> None:
        self.transform = read_transform(prepared)
        self.train, self.validation = (load_published(prepared, name) for name in ("train", "validation"))
        self.order = torch.argsort(torch.cat([self.train.rows, self.validation.rows]))

    @cached_property
    def pool(self) -> Pool:
        """What a validation has to know of them."""
        cut = len(self.train.rows)
        positions = np.argsort(self.order.numpy())  # where each row of the two splits stands in the pool
        targets, groups, times = map(self._pooled, ("targets", "groups", "times"))
        assert targets is not None
        return Pool(
            targets=targets.numpy(),
            classes=tuple(self.transform.manifest["classes"]),
            holdout=Fold(positions[:cut], positions[cut:]),
            seed=self.transform.manifest["split_seed"],
            groups=None if groups is None else groups.numpy(),
            times=None if times is None else times.numpy(),
        )

    def of(self, fold: Fold) -> Rows:
        """Training and validation rows, transformed by what is fitted on these training rows alone.

        Where classes are to be evened out, training rows of the smaller ones are repeated, after the fit.
        """
        if fold is self.pool.holdout:
            train, validation, transform = self.train, self.validation, self.transform
        else:
            train, validation = _at(self._published, fold.train), _at(self._published, fold.validation)
            transform = self.transform.refit(train)
        learned = transform(train)
        if transform.manifest["oversample"]:
            learned = _at(learned, oversample(learned.targets.numpy(), transform.manifest["split_seed"]))
        return Rows(learned, transform(validation), transform)

    @cached_property
    def _published(self) -> Split:
        """The pool's rows, as published, without the features that only the prepared splits have."""
        return Split(*map(self._pooled, ("inputs", "targets", "rows")))  # type: ignore[arg-type]  # none is None

    def _pooled(self, name: str) -> Tensor | None:
        """A tensor of both splits, in the raw data's order; None where they have none of this name."""
        parts = [getattr(split, name) for split in (self.train, self.validation)]
        return None if parts[0] is None else torch.cat(parts)[self.order]


class Fitter:
    """Carries out the fits of one configuration on one prepared data set.

    Raises:
        UserError: on construction, a value that does not suit the data, the machine or a signature.
    """

    def __init__(self, configuration: Mapping[str, Any], prepared: Path) -> None:
        self.configuration = configuration
        self.settings: Settings = build(configuration["trainer"])
        transform = read_transform(prepared)
        self.manifest = transform.manifest
        self.monitor = self.settings.monitored(self.manifest["task"])
        self.learner = make_learner(configuration, self.settings, self.manifest)
        self.folds = Folds(prepared)

    def plan(self) -> list[Fit]:
        """Every fold with every seed. The first seed is the configuration's own; it has all folds before the next.

        Raises:
            UserError: the folds cannot be made, or the monitored figure does not exist for so few rows.
        """
        validation: Validation = build(self.configuration["validation"])
        folds = validation.folds(self.folds.pool)
        if self.monitor == "r2" and min(len(fold.validation) for fold in folds) < 2:
            raise UserError("r2 does not exist for one validation row: validate on more, or take trainer.monitor=loss.")
        seeds = [derived_seed(self.configuration["seed"], number) for number in range(self.settings.repeats)]
        return [Fit(fold, seed) for seed in seeds for fold in folds]

    @property
    def holdout(self) -> Fit:
        """The fit on the prepared splits."""
        return Fit(self.folds.pool.holdout, self.configuration["seed"])

    def fit(self, fit: Fit, state: Path, report: Report = unheard) -> tuple[Fitted, Learned]:
        """Train, going on from what `state` holds, and leave there the state and the history with its seconds.

        Raises:
            Diverged: a loss that is not finite.
            OutOfMemory: the network and its batches are too large.
            UserError: a state that cannot be read, or rows or settings that the model refuses.
        """
        learned = self.learner.learn(self.folds.of(fit.fold), fit.seed, state, report)
        write_csv(state / outcome.HISTORY, (*outcome.COLUMNS, "seconds"), learned.history)
        return Fitted(learned.figures, learned.kept_epoch, len(learned.history), learned.seconds), learned

    def latency_ms(self) -> float:
        """The median time of a prediction for one row, in milliseconds."""
        return self.learner.latency_ms(lambda: self.folds.of(self.folds.pool.holdout))


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


def _at(split: Split, positions: np.ndarray) -> Split:
    """The rows at these positions."""
    wanted = torch.from_numpy(positions)
    return Split(split.inputs[wanted], split.targets[wanted], split.rows[wanted])
