"""Validation: which rows a network learns from and which ones judge it.

A validation is a choice with one method, `folds`. A further one is a class beside these and a file in
conf/validation/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions within the pool, ``(rows,)`` each: what is learned from, and what validates it."""

    train: Indices
    validation: Indices
    fold: int = 1  # from 1
    repeat: int = 1  # from 1: which shuffle it belongs to


@dataclass(frozen=True)
class DevelopmentSet:
    """The rows that are not test, in the raw data's order."""

    targets: NDArray[np.generic]  # (rows,): class indices, or values in the target's own unit
    classes: tuple[str, ...]  # empty for regression
    holdout: Fold  # the prepared splits
    seed: int  # of shuffling: data.split_seed
    groups: NDArray[np.int64] | None = None  # (rows,): rows of one group belong on one side (data.group)
    times: NDArray[np.float64] | None = None  # (rows,): the order of the rows (data.time)


class Splitter(Protocol):
    """What every validation offers; a user's own needs no more than this."""

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return the folds of these rows, the same ones each time; a `UserError` where they cannot be made."""
        ...


class Holdout:
    """The prepared training and validation rows: one fold."""

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return the prepared splits."""
        return [development.holdout]


class KFold:
    """Each row that is not test validates once; the other ``k - 1`` parts are learned from.

    The parts are scikit-learn's. `stratified`, each has every class in the data's proportions (numbers are only
    shuffled). `repeats` shuffles anew, so many times in all.
    """

    def __init__(self, k: int = 5, stratified: bool = True, repeats: int = 1) -> None:
        self.k = k
        self.stratified = stratified
        self.repeats = repeats

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """``k`` folds for each repeat.

        Raises:
            UserError: there are fewer rows than parts, or, if stratified, fewer rows of a class; or the rows have
                groups or times, across which this would put what belongs together.
        """
        from sklearn import model_selection

        _refuse_order(development)
        stratified = self.stratified and bool(development.classes)
        self._check(development, stratified)
        return _repeated(
            model_selection.StratifiedKFold if stratified else model_selection.KFold, development, self.k, self.repeats
        )

    def _check(self, development: DevelopmentSet, stratified: bool) -> None:
        if self.k > (rows := len(development.targets)):
            raise UserError(f"validation.k is {self.k}; it can be {rows} at most, as many rows as are not test.")
        if stratified:
            _check_rarest(development, self.k, development.targets, "there are", "rows that are not test")


class GroupKFold:
    """As `KFold`, with rows of one group in one part: what is learned of a group cannot help to validate it.

    The groups are those of ``data.group``, the parts scikit-learn's. `stratified`, each has every class as nearly in
    the data's proportions as whole groups allow; else each has as many groups. `repeats` shuffles anew.
    """

    def __init__(self, k: int = 5, stratified: bool = True, repeats: int = 1) -> None:
        self.k = k
        self.stratified = stratified
        self.repeats = repeats

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """``k`` folds for each repeat.

        Raises:
            UserError: the rows have no groups, there are fewer groups than parts, or, if stratified, the groups
                cannot give every part each class.
        """
        from sklearn import model_selection

        if development.groups is None:
            raise UserError("validation is group_kfold, and the rows have no groups: set data.group=COLUMN.")
        stratified = self.stratified and bool(development.classes)
        self._check(development, development.groups, stratified)
        splitter = model_selection.StratifiedGroupKFold if stratified else model_selection.GroupKFold
        folds = _repeated(splitter, development, self.k, self.repeats)
        if stratified:
            self._check_classes(development, folds)
        return folds

    def _check(self, development: DevelopmentSet, groups: Indices, stratified: bool) -> None:
        if self.k > (distinct := len(np.unique(groups))):
            raise UserError(
                f"validation.k is {self.k}; it can be {distinct} at most, as many groups (data.group) as are not test."
            )
        if stratified:
            members, classes = np.unique(groups, return_inverse=True)[1], len(development.classes)
            once = (
                np.unique(members * classes + development.targets.astype(np.int64)) % classes
            )  # for each of its groups
            _check_rarest(development, self.k, once, "rows are in", "groups (data.group) that are not test")

    def _check_classes(self, development: DevelopmentSet, folds: list[Fold]) -> None:
        for fold in folds:
            if len(lacking := np.setdiff1d(development.targets, development.targets[fold.validation])):
                raise UserError(
                    f"validation.k is {self.k}; dealing out whole groups (data.group) leaves a part without rows of "
                    f"the class {development.classes[int(lacking[0])]!r}. Take a smaller k or "
                    "validation.stratified=false."
                )


class TimeSeries:
    """Rows validate what was learned from rows before them, in ``k`` steps through the order of ``data.time``.

    The steps are those of scikit-learn's TimeSeriesSplit: of ``k + 1`` equal parts the first is only learned from,
    and each later one validates once, after learning from all before it. A border among rows of one time moves back
    to the first of them, so that all that is learned from is earlier than all that validates.

    Args:
        k: how many steps.
        gap_rows: rows left out before each part that validates, where their outcome was not yet known.
        max_train_rows: only so many rows are learned from, the latest; None: all.
    """

    def __init__(self, k: int = 5, gap_rows: int = 0, max_train_rows: int | None = None) -> None:
        self.k = k
        self.gap_rows = gap_rows
        self.max_train_rows = max_train_rows

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """``k`` folds, the earliest first.

        Raises:
            UserError: the rows have no times, or a fold would have no rows, or not each class to learn from.
        """
        if development.times is None:
            raise UserError("validation is time_series, and the rows have no order in time: set data.time=COLUMN.")
        order = np.argsort(development.times, kind="stable")
        borders = self._borders(development.times[order])
        folds = []
        for fold, (start, end) in enumerate(pairwise(borders), 1):
            known = max(0, start - self.gap_rows)
            first = 0 if self.max_train_rows is None else max(0, known - self.max_train_rows)
            folds.append(Fold(order[first:known], order[start:end], fold))
            self._check(development, development.times, folds[-1])
        return folds

    def _borders(self, times: NDArray[np.float64]) -> list[int]:
        """Return where each part that validates begins among the sorted times, and where the last one ends."""
        from sklearn.model_selection import TimeSeriesSplit

        if self.k >= len(times):
            raise UserError(f"validation.k is {self.k}; it can be {len(times) - 1} at most: there are so many rows.")
        starts = [validation[0] for _, validation in TimeSeriesSplit(self.k).split(times)]
        return [*map(int, np.searchsorted(times, times[starts])), len(times)]

    def _check(self, development: DevelopmentSet, times: NDArray[np.float64], fold: Fold) -> None:
        which = f"Step {fold.fold} of validation.k={self.k}"
        fewer = "Take a smaller validation.k" + (" or validation.gap_rows" if self.gap_rows else "")
        if not len(fold.train) or not len(fold.validation):
            part = "validate" if len(fold.train) else "learn from"
            raise UserError(
                f"{which} has no rows to {part}: {len(times):,} rows of {len(np.unique(times)):,} different times "
                f"(data.time) are not test. {fewer}."
            )
        if development.classes and len(lacking := np.setdiff1d(development.targets, development.targets[fold.train])):
            raise UserError(
                f"{which} learns from {len(fold.train):,} rows, none of them of the class "
                f"{development.classes[int(lacking[0])]!r}, which comes at other times (data.time). {fewer}, leave the "
                "class out, or take validation=holdout."
            )


def _repeated(splitter: Callable[..., Any], development: DevelopmentSet, k: int, repeats: int) -> list[Fold]:
    """Return the folds of one of scikit-learn's splitters, shuffled anew for each repeat."""
    return [
        Fold(train, validation, fold, repeat + 1)
        for repeat in range(repeats)
        for fold, (train, validation) in enumerate(
            splitter(k, shuffle=True, random_state=repeat_seed(development.seed, repeat)).split(
                development.targets, development.targets, development.groups
            ),
            1,
        )
    ]


def _refuse_order(development: DevelopmentSet) -> None:
    """Refuse to shuffle rows that belong together, or that come one after the other."""
    if development.groups is not None:
        raise UserError(
            "validation is kfold, which would learn from rows of the very groups (data.group) that it validates on: "
            "take validation=group_kfold or holdout."
        )
    if development.times is not None:
        raise UserError(
            "validation is kfold, which would learn from rows later (data.time) than those it validates on: "
            "take validation=time_series or holdout."
        )


def _check_rarest(development: DevelopmentSet, k: int, labels: NDArray[np.generic], there: str, what: str) -> None:
    """Refuse more parts than the rarest class occurs times among `labels`."""
    present, counts = np.unique(labels, return_counts=True)
    if (least := int(counts.min())) < k:
        fewer = f"validation.k={least} or " if least > 1 else ""
        raise UserError(
            f"validation.k is {k}; of the class {development.classes[int(present[counts.argmin()])]!r} {there} {least} "
            f"{what}. Take {fewer}validation.stratified=false."
        )


def repeat_seed(seed: int, number: int) -> int:
    """Return a seed for each repetition; `number` 0 has `seed` itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
