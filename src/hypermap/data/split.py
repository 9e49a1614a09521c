"""Which rows are for training, validation and test: every split is stratified where there are classes."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypermap.data.sources import Array, Raw
from hypermap.errors import UserError


class Part(NamedTuple):
    """The arrays of one split, as published; `rows` are the indices within the raw array."""

    inputs: Array
    targets: Array
    rows: Array


def split(
    raw: Raw, name: str, *, validation: float, test: float | None, seed: int, row_limit: int | None
) -> Mapping[str, Part]:
    """The parts ``train``, ``validation`` and ``test``.

    Args:
        raw: the whole data set; its published test set, if it has one, is kept as test.
        name: what errors call it.
        validation: share of the rows that are not test.
        test: share of all rows, if no test set was published.
        seed: of the shuffling, as scikit-learn's `train_test_split` does it.
        row_limit: how many rows training and validation may have together; None: all.

    Raises:
        UserError: `test` is missing or too much, or a class has too few rows for every part to get one.
    """
    rows = np.arange(len(raw.inputs))
    test_part = _published_test(raw, name, test)
    if test_part is None:
        rows, test_rows = _cut(raw, rows, test or 0.0, seed, f"data.test={test}")
        test_part = _part(raw, test_rows)
    rows = _limit(raw, rows, row_limit, seed)
    train_rows, validation_rows = _cut(raw, rows, validation, seed, f"data.validation={validation}")
    return {"train": _part(raw, train_rows), "validation": _part(raw, validation_rows), "test": test_part}


def _published_test(raw: Raw, name: str, test: float | None) -> Part | None:
    if raw.test_inputs is None or raw.test_targets is None:
        if test is None:
            raise UserError(f"{name} publishes no test set: give data.test, for instance 0.2.")
        return None
    if test is not None:
        raise UserError(f"data.test is {test}; {name} publishes its own test set: leave data.test out.")
    return Part(raw.test_inputs, raw.test_targets, np.arange(len(raw.test_inputs)))


def _part(raw: Raw, rows: Array) -> Part:
    return Part(raw.inputs[rows], raw.targets[rows], rows)


def _limit(raw: Raw, rows: Array, limit: int | None, seed: int) -> Array:
    if limit is None or limit == len(rows):
        return rows
    if limit > len(rows):
        raise UserError(f"data.rows is {limit}; training and validation have {len(rows)} rows at most.")
    return _cut(raw, rows, limit, seed, f"data.rows={limit}")[1]


def _cut(raw: Raw, rows: Array, size: float, seed: int, setting: str) -> tuple[Array, Array]:
    """What is left of `rows`, and the part cut off: a share of them (float) or so many (int)."""
    from sklearn.model_selection import train_test_split

    targets = raw.targets[rows]
    stratify = targets if raw.classes else None
    try:
        left, cut = train_test_split(rows, test_size=size, random_state=seed, stratify=stratify)
    except ValueError as error:  # scikit-learn's words name neither the setting nor the class
        raise _too_few(raw, targets, setting) from error
    kinds = {len(np.unique(raw.targets[part])) for part in (rows, left, cut)}
    if raw.classes and len(kinds) > 1:
        raise _too_few(raw, targets, setting)
    return left, cut


def _too_few(raw: Raw, targets: Array, setting: str) -> UserError:
    if not raw.classes:
        return UserError(f"{setting}: {len(targets)} rows are too few for it.")
    present, counts = np.unique(targets, return_counts=True)
    rarest = raw.classes[present[counts.argmin()]]
    return UserError(
        f"{setting}: cannot give both parts rows of each of the {len(present)} classes; there are {len(targets)} "
        f"rows in all, {counts.min()} of the class {rarest!r}. Change that setting, or leave the class out."
    )
