"""The rows of a fold for training and validation, each fold with its own preprocessing."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hypermap.data.cross_validation import DevelopmentSet, Fold
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import TensorSplit, Transform, read_transform
from hypermap.data.sampling import oversample
from hypermap.data.stratification import labels_of


@dataclass(frozen=True)
class FoldData:
    """The training and validation rows of one training, preprocessed by `transform`, on the CPU.

    There are no validation rows in a training on all rows.
    """

    train: TensorSplit
    validation: TensorSplit
    transform: Transform


class Folds:
    """The rows outside the test set, and those of each fold as a model sees them.

    Args:
        prepared: the folder of the prepared data.
        keep: whether to cache a fold's rows, so that a stack holds them once.
        fit: what is fitted to the training rows of the prepared splits, instead of the transform beside them.
    """

    def __init__(self, prepared: Path, keep: bool = False, fit: Manifest | None = None) -> None:
        self.kept: dict[bytes, FoldData] | None = {} if keep else None
        self.transform = read_transform(prepared)
        self.train, self.validation = (load_raw(prepared, name) for name in ("train", "validation"))
        if fit is not None:
            self.train, self.validation = (replace(split, features=None) for split in (self.train, self.validation))
            self.transform = replace(self.transform, manifest=fit).refit(self.train)
        self.order = torch.argsort(torch.cat([self.train.rows, self.validation.rows]))

    @cached_property
    def development(self) -> DevelopmentSet:
        """What a validation needs to know about the rows."""
        cut = len(self.train.rows)
        positions = np.argsort(self.order.numpy())  # the position of each row of the two splits in the development set
        columns = self.transform.manifest.target_columns
        targets, groups, times = map(self._pooled, ("targets", "groups", "times"))
        assert targets is not None
        return DevelopmentSet(
            targets=targets.numpy(),
            classes=tuple(self.transform.manifest.classes),
            holdout=Fold(positions[:cut], positions[cut:]),
            seed=self.transform.manifest.split_seed,
            groups=None if groups is None else groups.numpy(),
            times=None if times is None else times.numpy(),
            reach=self.transform.task.reach,
            labels=labels_of(targets.numpy(), [column["classes"] for column in columns]) if columns else None,
        )

    def of(self, fold: Fold) -> FoldData:
        """Return training and validation rows, preprocessed by a transform fitted on these training rows alone.

        With oversampling, training rows of the smaller classes are repeated, after the fit.
        """
        if self.kept is None:
            return self._transformed(fold)
        name = hashlib.sha256(fold.train.tobytes() + fold.validation.tobytes()).digest()
        if name not in self.kept:
            self.kept[name] = self._transformed(fold)
        return self.kept[name]

    def _transformed(self, fold: Fold) -> FoldData:
        if fold is self.development.holdout:
            train, validation, transform = self.train, self.validation, self.transform
        else:
            train, validation = _at(self._raw, fold.train), _at(self._raw, fold.validation)
            transform = self.transform.refit(train)
        learned = transform.training_rows(train)
        held = transform(validation) if len(fold.validation) else _at(learned, fold.validation)
        if transform.manifest.oversample:
            learned = _at(learned, oversample(learned.targets.numpy(), transform.manifest.split_seed))
        return FoldData(learned, held, transform)

    @cached_property
    def _raw(self) -> TensorSplit:
        """The raw rows of the development set, without the features that only the prepared splits have."""
        return TensorSplit(*map(self._pooled, ("inputs", "targets", "rows")))  # type: ignore[arg-type]  # none is None

    def _pooled(self, name: str) -> Tensor | None:
        """Return a tensor of both splits, in the raw data's order; None if they have none of this name."""
        parts = [getattr(split, name) for split in (self.train, self.validation)]
        return None if parts[0] is None else torch.cat(parts)[self.order]


def _at(split: TensorSplit, positions: np.ndarray) -> TensorSplit:
    """Return the rows at these positions."""
    wanted = torch.from_numpy(positions)
    return TensorSplit(split.inputs[wanted], split.targets[wanted], split.rows[wanted])
