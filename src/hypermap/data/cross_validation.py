"""Validation: which rows a network is trained on, and which ones validate it.

A validation is an option with one method, `folds`. To add one, write a class here and a file in conf/validation/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.data.stratification import stratified

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of the training and validation rows in the development set, ``(rows,)`` each."""

    train: Indices
    validation: Indices
    fold: int = 1  # from 1
    repeat: int = 1  # from 1: the shuffle that it belongs to


@dataclass(frozen=True)
class DevelopmentSet:
    """The rows outside the test set, in the raw data's order."""

    targets: NDArray[np.generic]  # (rows,): class indices, or values in the target's unit
    classes: tuple[str, ...]  # empty for regression
    holdout: Fold  # the prepared splits
    seed: int  # for shuffling: data.split_seed
    groups: NDArray[np.int64] | None = None  # (rows,): rows of one group stay together (data.group)
    times: NDArray[np.float64] | None = None  # (rows,): the order of the rows (data.time)
    reach: float = 0.0  # how long after its time a row's targets are known (`hypermap.tasks.base.Task.reach`)
    labels: NDArray[np.bool_] | None = None  # (rows, labels): of several targets; None for one target


class Splitter(Protocol):
    """The interface of a validation; a user's own needs no more than this."""

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return the folds of these rows, the same every time; raise `UserError` if there can be none."""
        ...


class Holdout:
    """The prepared training and validation rows: one fold."""

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return the prepared splits."""
        return [development.holdout]


class KFold:
    """Every row outside the test set is used for validation once; the other ``k - 1`` parts are trained on.

    The parts are scikit-learn's. If `stratified`, each has the data's class proportions (regression targets are only
    shuffled); with several targets, those of each one's classes. `repeats` is the number of shuffles.
    """

    def __init__(self, k: int = 5, stratified: bool = True, repeats: int = 1) -> None:
        self.k = k
        self.stratified = stratified
        self.repeats = repeats

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return ``k`` folds for each repeat.

        Raises:
            UserError: there are fewer rows than parts, or, if stratified, fewer rows of a class; or the rows have
                groups or times, which this split would break up.
        """
        from sklearn import model_selection

        _refuse_order(development)
        by_class = self.stratified and bool(development.classes)
        self._check(development, by_class)
        if self.stratified and development.labels is not None:
            return _by_labels(development, development.labels, self.k, self.repeats)
        return _repeated(
            model_selection.StratifiedKFold if by_class else model_selection.KFold, development, self.k, self.repeats
        )

    def _check(self, development: DevelopmentSet, by_class: bool) -> None:
        if self.k > (rows := len(development.targets)):
            raise UserError(f"validation.k is {self.k}; it can be {rows} at most, as many rows as are not test.")
        if by_class:
            _check_rarest(development, self.k, development.targets, "there are", "rows that are not test")


class GroupKFold:
    """Like `KFold`, but with all rows of a group in one part, so that no group is in both training and validation.

    The groups are those of ``data.group``, the parts scikit-learn's. If `stratified`, each part has the data's class
    proportions as far as whole groups allow; otherwise each has equally many groups. `repeats` is the number of
    shuffles.
    """

    def __init__(self, k: int = 5, stratified: bool = True, repeats: int = 1) -> None:
        self.k = k
        self.stratified = stratified
        self.repeats = repeats

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return ``k`` folds for each repeat.

        Raises:
            UserError: the rows have no groups, there are fewer groups than parts, or, if stratified, the groups do not
                allow every class in each part.
        """
        from sklearn import model_selection

        if development.groups is None:
            raise UserError(
                "validation is group_kfold, and the rows have no groups: set data.group=COLUMN, or of a table "
                "data.duplicates=group."
            )
        by_class = self.stratified and bool(development.classes)
        self._check(development, development.groups, by_class)
        splitter = model_selection.StratifiedGroupKFold if by_class else model_selection.GroupKFold
        folds = _repeated(splitter, development, self.k, self.repeats)
        if by_class:
            self._check_classes(development, folds)
        return folds

    def _check(self, development: DevelopmentSet, groups: Indices, by_class: bool) -> None:
        if self.k > (distinct := len(np.unique(groups))):
            raise UserError(
                f"validation.k is {self.k}; it can be {distinct} at most, as many groups (data.group) as are not test."
            )
        if by_class:
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
    """Each part validates a training on the rows before it, in ``k`` steps in the order of ``data.time``.

    The steps are those of scikit-learn's TimeSeriesSplit: of ``k + 1`` equal parts the first is only trained on, and
    each later one is used for validation once, after training on all before it. A border between rows of equal time
    moves back to the first of them, so that all training rows are earlier than all validation rows; those whose targets
    are known only later (`DevelopmentSet.reach`), such as windows that forecast into the part, are left out.

    Args:
        k: number of steps.
        gap_rows: rows left out before each validation part, if their targets were not known yet at that time.
        max_train_rows: train on the latest rows only, this many; None: on all.
    """

    def __init__(self, k: int = 5, gap_rows: int = 0, max_train_rows: int | None = None) -> None:
        self.k = k
        self.gap_rows = gap_rows
        self.max_train_rows = max_train_rows

    def folds(self, development: DevelopmentSet) -> list[Fold]:
        """Return ``k`` folds, the earliest first.

        Raises:
            UserError: the rows have no times, a fold would have no rows, or its training rows would lack a class.
        """
        if development.times is None:
            raise UserError("validation is time_series, and the rows have no order in time: set data.time=COLUMN.")
        order = np.argsort(development.times, kind="stable")
        times = development.times[order]
        borders = self._borders(times)
        folds = []
        for fold, (start, end) in enumerate(pairwise(borders), 1):
            known = max(0, int(np.searchsorted(times, times[start] - development.reach)) - self.gap_rows)
            first = 0 if self.max_train_rows is None else max(0, known - self.max_train_rows)
            folds.append(Fold(order[first:known], order[start:end], fold))
            self._check(development, development.times, folds[-1])
        return folds

    def _borders(self, times: NDArray[np.float64]) -> list[int]:
        """Return where each validation part starts in the sorted times, and where the last one ends."""
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
    """Return the folds of one of scikit-learn's splitters, reshuffled for each repeat."""
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


def _by_labels(development: DevelopmentSet, labels: NDArray[np.bool_], k: int, repeats: int) -> list[Fold]:
    """Return the folds of rows of several targets, which have the share of each label as far as that goes."""
    folds = []
    for repeat in range(repeats):
        parts = stratified(labels, [1 / k] * k, repeat_seed(development.seed, repeat))
        folds += [
            Fold(np.flatnonzero(parts != part), np.flatnonzero(parts == part), part + 1, repeat + 1)
            for part in range(k)
        ]
    return folds


def _refuse_order(development: DevelopmentSet) -> None:
    """Refuse to shuffle rows with groups or times."""
    if development.groups is not None:
        raise UserError(
            "validation is kfold, which would train on rows of the same groups (data.group, data.duplicates) that it "
            "validates on: take validation=group_kfold or holdout."
        )
    if development.times is not None:
        raise UserError(
            "validation is kfold, which would train on rows later (data.time) than those it validates on: "
            "take validation=time_series or holdout."
        )


def _check_rarest(development: DevelopmentSet, k: int, labels: NDArray[np.generic], there: str, what: str) -> None:
    """Refuse more parts than there are occurrences of the rarest class in `labels`."""
    present, counts = np.unique(labels, return_counts=True)
    if (least := int(counts.min())) < k:
        fewer = f"validation.k={least} or " if least > 1 else ""
        raise UserError(
            f"validation.k is {k}; of the class {development.classes[int(present[counts.argmin()])]!r} {there} {least} "
            f"{what}. Take {fewer}validation.stratified=false."
        )


def repeat_seed(seed: int, number: int) -> int:
    """Return the seed of a repetition; `number` 0 has `seed` itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
