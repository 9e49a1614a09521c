"""What every step of an AutoML works on: the rows, their folds, and the loss by which models are compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypermap.automl.selection import RowLosses
from hypermap.core.errors import UserError
from hypermap.core.hashing import fingerprint
from hypermap.core.instantiate import instantiate
from hypermap.core.typing import Array, Floats
from hypermap.data.cross_validation import DevelopmentSet, Fold, GroupKFold, KFold
from hypermap.data.fold_data import Folds
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Settings
from hypermap.tasks.base import Task

KEPT_NUMBERS = 2e8  # of prepared rows, in all folds, that are kept in memory for the next step
LEAST = 1e-15  # probability in a logarithm


class Bench:
    """The development rows of a prepared data set, split into folds.

    Args:
        configuration: every group; its `validation` says how rows are split, unless that is ``holdout``.
        prepared: the folder of the prepared data.
        folds: number of folds, where `validation` is ``holdout``.

    Raises:
        UserError: the data is no table, or has several targets; or the rows cannot be split so.
    """

    def __init__(self, configuration: Mapping[str, Any], prepared: Path, folds: int) -> None:
        self.prepared = prepared
        self.manifest = Manifest.read(prepared)
        if self.manifest.table is None or self.manifest.task not in LOSSES:
            raise UserError(
                f"automl is for tables whose target is a class or a number; this data is {self.manifest.task} from "
                f"{self.manifest.reader}. Train one model: automl=none."
            )
        self._folds: dict[str, Folds] = {}
        development = self.rows({}).development
        self.splits = splits_of(configuration, development, folds)
        self.targets = development.targets
        own = self.rows({})
        self.indices: Array = torch.cat([own.train.rows, own.validation.rows])[own.order].numpy()  # in the raw data

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.rows({}).transform.task

    def rows(self, preparation: Mapping[str, Any]) -> Folds:
        """Return the rows of each fold, preprocessed by settings that differ from the prepared data's."""
        name = fingerprint(dict(preparation))
        if name not in self._folds:
            fit = None
            if preparation:
                settings = asdict(Settings(**{**self.manifest.preparation, **preparation}))
                fit = replace(self.manifest, preparation=settings)  # of the same data: the fingerprint stays
            numbers = sum(self.manifest.rows.values()) * max(self.manifest.shape) * 5
            self._folds[name] = Folds(self.prepared, keep=numbers < KEPT_NUMBERS, fit=fit)
        return self._folds[name]

    @property
    def covered(self) -> Array:
        """The positions of the rows that are predicted by a model that was not trained on them, in their order."""
        return np.unique(np.concatenate([fold.validation for fold in self.splits]))

    def joined(self, predictions: Sequence[Array]) -> Array:
        """Return the predictions of each fold for its validation rows as one array, in the order of `covered`.

        A row that several folds predict has their mean.
        """
        covered = self.covered
        total, count = np.zeros((len(covered), *predictions[0].shape[1:])), np.zeros(len(covered))
        for fold, own in zip(self.splits, predictions, strict=True):
            places = np.searchsorted(covered, fold.validation)
            total[places] += own
            count[places] += 1
        return total / count.reshape(-1, *[1] * (total.ndim - 1))

    def losses(self, positions: Array) -> RowLosses:
        """Return what gives each row's loss, for the predictions of rows at these positions."""
        own, loss = self.targets[positions], LOSSES[self.manifest.task]
        return lambda predictions: loss(own, predictions)

    def worst(self) -> list[float]:
        """Return, for each fold, the mean loss of predicting the same for every row."""
        found = []
        for fold in self.splits:
            constant = CONSTANTS[self.manifest.task](self.targets[fold.train], self.task)
            losses = self.losses(fold.validation)
            found.append(float(losses(np.repeat(constant[np.newaxis], len(fold.validation), axis=0)).mean()))
        return found


def splits_of(configuration: Mapping[str, Any], development: DevelopmentSet, k: int) -> list[Fold]:
    """Return the folds: those of `validation` or, where that is ``holdout``, of `k` parts as the rows allow.

    Rows of a group stay together. Rows in the order of time are split once, as prepared: parts of an earlier time would
    be predicted by models that know the future, or little of the past.

    Raises:
        UserError: the rows cannot be split so.
    """
    named = configuration["validation"]
    if named["name"] != "holdout":
        found: list[Fold] = instantiate(named).folds(development)
        return found
    if development.times is not None:
        return [development.holdout]
    classes = np.unique(development.targets, return_counts=True)[1] if development.classes else np.array([k])
    k = min(k, len(development.targets))
    if development.groups is not None:
        return GroupKFold(min(k, len(np.unique(development.groups))), stratified=False).folds(development)
    return KFold(k, stratified=bool(classes.min() >= k)).folds(development)


def _log_losses(targets: Array, predictions: Array) -> Floats:
    shares = predictions / predictions.sum(axis=1, keepdims=True)
    own = shares[np.arange(len(targets)), targets.astype(np.int64)]
    return np.asarray(-np.log(np.maximum(own, LEAST)))


def _squares(targets: Array, predictions: Array) -> Floats:
    return np.asarray(np.square(predictions.reshape(targets.shape) - targets.astype(np.float64)))


LOSSES: dict[str, Callable[[Array, Array], Floats]] = {"classification": _log_losses, "regression": _squares}
CONSTANTS: dict[str, Callable[[Array, Task], Floats]] = {
    "classification": lambda targets, task: (
        np.bincount(targets.astype(np.int64), minlength=task.shape[0]) / len(targets)
    ),
    "regression": lambda targets, task: np.asarray(targets.mean(dtype=np.float64)),
}
"""For the targets of training rows: the prediction for a row that has the least loss if all have the same."""
