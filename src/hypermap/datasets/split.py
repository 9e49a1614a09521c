"""The split into training, validation and test rows.

In classification, each part has every class: a random split is stratified as in scikit-learn, with groups as far as the
groups allow, and in time order it is checked. With several targets, a random split is stratified by all of them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.stratification import stratified
from hypermap.datasets.images import Raw

DRAWS = 1000
"""Number of random orders of the groups to try."""

CELLS = 4_000_000
"""Limit of counts (a group's rows of a class) over all draws: with many groups, few draws are enough."""

FAR = 2.0
"""A part that is larger or smaller than its share by more than this factor is refused."""


class RawSplit(NamedTuple):
    """The raw arrays of one split; `rows` are the indices within the raw data set."""

    inputs: Array
    targets: Array
    rows: Array


class _Size(NamedTuple):
    """The requested size of a part, and the setting that gives it."""

    key: str
    value: float  # a share of the rows (float), or their number (int)
    parts: int = 2  # number of remaining parts that need rows of each class
    limited: bool = False  # whether data.rows has excluded some

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


def split(
    raw: Raw, name: str, *, validation: float | None, test: float | None, seed: int, row_limit: int | None
) -> Mapping[str, RawSplit]:
    """Return the parts ``train``, ``validation`` and ``test``.

    Rows of one group (`raw.groups`) are in one part, unless there is a published test set. If rows have times
    (`raw.times`), the test set has the latest rows and the validation set the latest before them; rows of equal time
    are in one part.

    Args:
        raw: the whole data set; a published test set is kept as the test set.
        name: of the data set in errors.
        validation: share of the rows outside the test set, if there is no published validation set.
        test: share of all rows, if there is no published test set.
        seed: for shuffling rows, as in scikit-learn's `train_test_split`, or groups.
        row_limit: maximum number of training and validation rows together; None: all. They are drawn at random or, if
            rows have times, are the latest.

    Raises:
        UserError: `test` or `validation` is missing or not allowed, or the split is impossible: a class has too few
            rows for every part, or there are too few groups or times.
    """
    _check_order(raw)
    _check_published(raw, name, validation)
    rows = np.arange(len(raw.inputs))
    test_part = _published_test(raw, name, test)
    if test_part is None:
        rows, test_rows = _cut(raw, rows, _Size("data.test", test or 0.0, parts=3), seed)
        test_part = _part(raw, test_rows)
    rows = _limit(raw, rows, row_limit, seed)
    if raw.validation_rows is not None:
        held = raw.validation_rows[rows]
        train_rows, validation_rows = rows[~held], rows[held]
        _check_parts(raw, rows, train_rows, validation_rows, row_limit)
    else:
        size = _Size("data.validation", validation or 0.0, limited=row_limit is not None)
        train_rows, validation_rows = _cut(raw, rows, size, seed)
    return {"train": _part(raw, train_rows), "validation": _part(raw, validation_rows), "test": test_part}


def _check_order(raw: Raw) -> None:
    if raw.times is None:
        return
    if raw.groups is not None:
        raise UserError(
            "data.group and data.time are both given, and splits are made by one of them: set the other to null."
        )
    if missing := int(np.isnan(raw.times).sum()):
        raise UserError(f"{missing:,} rows have no time (data.time): leave them out, or set data.time to null.")


def _check_published(raw: Raw, name: str, validation: float | None) -> None:
    if validation is None and raw.validation_rows is None:
        raise UserError(f"{name} publishes no validation set: give data.validation, for instance 0.2.")
    if validation is not None and raw.validation_rows is not None:
        raise UserError(
            f"data.validation is {validation}, and the validation rows are given (data.validation_path): set "
            "data.validation=null."
        )


def _check_parts(raw: Raw, rows: Array, train: Array, validation: Array, limit: int | None) -> None:
    """Refuse a published validation set whose rows are all left out, or whose training rows lack a class."""
    if raw.classes and len(lacking := _lacking(raw, rows, train)):
        listed = ", ".join(repr(raw.classes[index]) for index in lacking)
        raise UserError(f"The training rows have none of the classes that the validation rows have: {listed}.")
    if not (len(train) and len(validation)):
        raise UserError(f"data.rows is {limit}, which leaves no rows to learn from or none to validate on: raise it.")


def _published_test(raw: Raw, name: str, test: float | None) -> RawSplit | None:
    if raw.test_inputs is None or raw.test_targets is None:
        if test is None:
            raise UserError(f"{name} publishes no test set: give data.test, for instance 0.2.")
        return None
    if test is not None:
        if raw.table is not None:
            raise UserError(f"data.test is {test}: set data.test=null, since data.test_path gives the test rows.")
        raise UserError(f"data.test is {test}; {name} publishes its own test set: leave data.test out.")
    if raw.classes and len(unknown := np.setdiff1d(raw.test_targets, raw.targets)):
        listed = ", ".join(repr(raw.classes[index]) for index in unknown)
        raise UserError(
            f"The test rows of {name} have classes that its other rows lack, so that no model can learn them: {listed}."
            " Leave these rows out, or add rows of these classes to those to learn from."
        )
    return RawSplit(raw.test_inputs, raw.test_targets, np.arange(len(raw.test_inputs)))


def _part(raw: Raw, rows: Array) -> RawSplit:
    return RawSplit(raw.inputs[rows], raw.targets[rows], rows)


def _limit(raw: Raw, rows: Array, limit: int | None, seed: int) -> Array:
    if limit is None or limit == len(rows):
        return rows
    if limit > len(rows):
        raise UserError(f"data.rows is {limit}; training and validation have {len(rows)} rows at most.")
    size = _Size("data.rows", limit, parts=1)
    if raw.times is None:  # any rows of a group may be kept: they are split by groups later
        return _cut_at_random(raw, rows, size, seed)[1]
    latest = np.sort(rows[np.argsort(raw.times[rows], kind="stable")[-limit:]])
    _check_classes(raw, rows, [latest], size)
    return latest


def _cut(raw: Raw, rows: Array, size: _Size, seed: int) -> tuple[Array, Array]:
    """Return the rest of `rows`, and the part split off."""
    if raw.groups is not None:
        return _cut_groups(raw, rows, size, seed)
    if raw.times is not None:
        return _cut_latest(raw, rows, size)
    return _cut_at_random(raw, rows, size, seed)


def _cut_at_random(raw: Raw, rows: Array, size: _Size, seed: int) -> tuple[Array, Array]:
    from sklearn.model_selection import train_test_split

    if raw.labels is not None:
        return _cut_by_labels(raw.labels[rows], rows, size, seed)
    targets = raw.targets[rows]
    stratify = targets if raw.classes else None
    try:
        left, cut = train_test_split(rows, test_size=size.value, random_state=seed, stratify=stratify)
    except ValueError as error:  # scikit-learn's message names neither the setting nor the class
        raise _too_few(raw, targets, size) from error
    if raw.classes:
        had, remaining, gone = (
            np.bincount(raw.targets[part], minlength=len(raw.classes)) for part in (rows, left, cut)
        )
        if ((had > 0) & ((remaining < size.parts - 1) | (gone < 1))).any():
            raise _too_few(raw, targets, size)
    return left, cut


def _cut_by_labels(labels: Array, rows: Array, size: _Size, seed: int) -> tuple[Array, Array]:
    """Return the rest and the part split off, each with its share of each label as far as that goes."""
    share = size.value if isinstance(size.value, float) else size.value / len(rows)
    parts = stratified(labels, [1 - share, share], seed)
    left, cut = rows[parts == 0], rows[parts == 1]
    if not len(left) or not len(cut):
        raise UserError(f"{size}: {len(rows)} rows are too few for it.")
    shuffled = np.random.default_rng(seed)
    return shuffled.permutation(left), shuffled.permutation(cut)


def _cut_groups(raw: Raw, rows: Array, size: _Size, seed: int) -> tuple[Array, Array]:
    assert raw.groups is not None
    groups, members = np.unique(raw.groups[rows], return_inverse=True)
    labels = np.unique(raw.targets[rows], return_inverse=True)[1] if raw.classes else np.zeros(len(rows), np.int64)
    kinds = labels.max() + 1
    counts = np.bincount(members * kinds + labels, minlength=len(groups) * kinds).reshape(len(groups), kinds)
    taken = _draw(counts, size, seed)
    if taken is None:
        raise _too_few_groups(raw, rows, counts, size)
    inside = np.isin(members, taken)
    left, cut = rows[~inside], rows[inside]
    _check_share(left, cut, size, "whole groups (data.group)")
    return left, cut


def _draw(counts: Array, size: _Size, seed: int) -> Array | None:
    """Return the indices of the groups to split off; None if no draw gives each part every class.

    Groups are added in random orders; the draw closest to the requested share of each class is kept. (scikit-learn's
    GroupShuffleSplit ignores classes, and its StratifiedGroupKFold only makes equal parts.)

    Args:
        counts: rows ``(groups, classes)``; with a single class for regression.
        size: the share to split off. The rest must have groups of each class for the other parts.
        seed: for the orders.
    """
    generator = np.random.default_rng(seed)
    total, holders = counts.sum(axis=0), (counts > 0).sum(axis=0)
    best, taken = np.inf, None
    for _ in range(max(1, min(DRAWS, CELLS // counts.size))):
        order = generator.permutation(len(counts))
        cut, holding = counts[order].cumsum(axis=0), (counts[order] > 0).cumsum(axis=0)
        possible = ((holding > 0) & (holders - holding >= size.parts - 1)).all(axis=1)
        distance = np.where(possible, np.abs(cut / total - size.value).mean(axis=1), np.inf)
        nearest = int(distance.argmin())
        if distance[nearest] < best:
            best, taken = float(distance[nearest]), order[: nearest + 1]
    return taken


def _cut_latest(raw: Raw, rows: Array, size: _Size) -> tuple[Array, Array]:
    assert raw.times is not None
    times = raw.times[rows]
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) < 2:
        raise UserError(
            f"{size}: all {len(rows):,} rows have the same time (data.time), so that none are the latest. "
            "Give a column that tells them apart, or set data.time to null."
        )
    latest = counts[::-1].cumsum()[::-1]  # number of rows at each time or later
    border = 1 + np.abs(latest[1:] - size.value * len(rows)).argmin()
    late = times >= moments[border]
    left, cut = rows[~late], rows[late]
    _check_share(left, cut, size, "whole moments (rows of one data.time stay together)")
    _check_classes(raw, rows, [left, cut], size)
    return left, cut


def _check_share(left: Array, cut: Array, size: _Size, what: str) -> None:
    share = len(cut) / (len(left) + len(cut))
    ratios = (share / size.value, (1 - share) / (1 - size.value))
    if not all(1 / FAR <= ratio <= FAR for ratio in ratios):
        raise UserError(
            f"{size}: parts are made of {what}, and the nearest share of the rows is {share:.3f}. Set {size.key} near "
            "to that, or take a column with more values."
        )


def _check_classes(raw: Raw, rows: Array, parts: list[Array], size: _Size) -> None:
    """Refuse parts in time order that lack a class."""
    for part in parts if raw.classes else ():
        if len(lacking := _lacking(raw, rows, part)):
            listed = ", ".join(repr(raw.classes[index]) for index in lacking)
            when = "latest" if part is parts[-1] else "earlier"
            raise UserError(
                f"{size}: the rows are cut in time order (data.time), and the {when} {len(part):,} have none of the "
                f"classes that others have: {listed}. Change that setting, leave the classes out, or set data.time to "
                "null to split at random."
            )


def _lacking(raw: Raw, rows: Array, part: Array) -> Array:
    """Return the classes that occur in `rows` but not in `part`."""
    return np.setdiff1d(raw.targets[rows], raw.targets[part])


def _too_few(raw: Raw, targets: Array, size: _Size) -> UserError:
    if not raw.classes:
        return UserError(f"{size}: {len(targets)} rows are too few for it.")
    present, counts = np.unique(targets, return_counts=True)
    least = int(counts.min())
    return UserError(
        f"{size}: cannot {'give both parts' if isinstance(size.value, float) else 'hold'} rows of each of the "
        f"{len(present)} classes; there are {len(targets)} rows in all, {least} of the class "
        f"{raw.classes[present[counts.argmin()]]!r}. {_advice(raw, size, least, len(targets))}"
    )


def _advice(raw: Raw, size: _Size, least: int, rows: int) -> str:
    """Return advice if the rarest class has only `least` of `rows`."""
    if isinstance(size.value, int):
        needed = math.ceil(rows / least)
        return f"Give {'more' if size.value < needed else 'fewer'}, or null for all."
    if least < size.parts and size.limited:
        return "Give more data.rows, or leave the class out."
    if least < size.parts:
        joined = " or join it to another class (data.classes)" if raw.table else ""
        return f"A class needs {size.parts} rows at least, one for each part: take it out of the file{joined}."
    low, high = math.ceil(100 / least), math.floor(100 - 100 * (size.parts - 1) / least)
    wanted = f"from {low / 100} to {high / 100}" if low < high else f"near {1 / size.parts:.2f}"
    return f"Give {size.key} {wanted}, or leave the class out."


def _too_few_groups(raw: Raw, rows: Array, counts: Array, size: _Size) -> UserError:
    if not raw.classes or len(counts) < size.parts:
        return UserError(
            f"{size}: the rows are of {len(counts)} groups (data.group), and each of the {size.parts} parts takes "
            "whole groups: give a column with more values, or set data.group to null."
        )
    holders = (counts > 0).sum(axis=0)
    rarest = raw.classes[np.unique(raw.targets[rows])[holders.argmin()]]
    return UserError(
        f"{size}: cannot give each of the {size.parts} parts whole groups (data.group) with rows of each of the "
        f"{counts.shape[1]} classes; of the {len(counts)} groups {holders.min()} have rows of the class {rarest!r}. "
        "Leave the class out, give a column with more values, or set data.group to null."
    )
