"""Validation: which rows a network learns from and which ones judge it.

A validation is a choice with one method, `folds`. A further one (by groups of rows, in time order) is a class beside
these and a file in conf/validation/.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hypermap.errors import UserError

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions within the pool, ``(rows,)`` each: what is learned from, and what validates it."""

    train: Rows
    validation: Rows
    fold: int = 1  # from 1
    repeat: int = 1  # from 1: which shuffle it belongs to


@dataclass(frozen=True)
class Pool:
    """The rows that are not test, in the raw data's order."""

    targets: NDArray[np.generic]  # (rows,): class indices, or values in the target's own unit
    classes: tuple[str, ...]  # empty for regression
    holdout: Fold  # the prepared splits
    seed: int  # of shuffling: data.split_seed


class Validation(Protocol):
    """What every validation offers; a user's own needs no more than this."""

    def folds(self, pool: Pool) -> list[Fold]:
        """The folds of these rows, the same ones each time; a `UserError` where they cannot be made."""
        ...


class Holdout:
    """The prepared training and validation rows: one fold."""

    def folds(self, pool: Pool) -> list[Fold]:
        """The prepared splits."""
        return [pool.holdout]


class KFold:
    """Each row that is not test validates once; the other ``k - 1`` parts are learned from.

    The parts are scikit-learn's. `stratified`, each has every class in the data's proportions (numbers are only
    shuffled). `repeats` shuffles anew, so many times in all.
    """

    def __init__(self, k: int = 5, stratified: bool = True, repeats: int = 1) -> None:
        self.k = k
        self.stratified = stratified
        self.repeats = repeats

    def folds(self, pool: Pool) -> list[Fold]:
        """``k`` folds for each repeat.

        Raises:
            UserError: there are fewer rows than parts, or, if stratified, fewer rows of a class.
        """
        from sklearn import model_selection

        self._check(pool)
        splitter = model_selection.StratifiedKFold if self._by_class(pool) else model_selection.KFold
        return [
            Fold(train, validation, fold, repeat + 1)
            for repeat in range(self.repeats)
            for fold, (train, validation) in enumerate(
                splitter(self.k, shuffle=True, random_state=derived_seed(pool.seed, repeat)).split(
                    pool.targets, pool.targets
                ),
                1,
            )
        ]

    def _by_class(self, pool: Pool) -> bool:
        return self.stratified and bool(pool.classes)

    def _check(self, pool: Pool) -> None:
        if self.k > (rows := len(pool.targets)):
            raise UserError(f"validation.k is {self.k}; it can be {rows} at most, as many rows as are not test.")
        if not self._by_class(pool):
            return
        present, counts = np.unique(pool.targets, return_counts=True)
        if (least := int(counts.min())) < self.k:
            fewer = f"validation.k={least} or " if least > 1 else ""
            raise UserError(
                f"validation.k is {self.k}; of the class {pool.classes[int(present[counts.argmin()])]!r} there are "
                f"{least} rows that are not test. Take {fewer}validation.stratified=false."
            )


def derived_seed(seed: int, number: int) -> int:
    """A seed for each repetition; `number` 0 has `seed` itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
