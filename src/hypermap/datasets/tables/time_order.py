"""Rows in time order, or next to similar rows, for which a random split gives too good a score."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.core.cli_args import override
from hypermap.core.typing import Floats
from hypermap.datasets.tables.schema import Matrix, Schema

LEAST_ROWS = 30
LEAST_TIMES = 10  # minimum distinct times
ROWS = 20_000  # rows in which neighbors are compared
SORTED = 0.95  # share of a column's steps in one direction, from which on rows are in its order
ALIKE = 0.5  # correlation of neighbors; for classes, agreement beyond chance
FEW = 0.2  # distinct values per row: below this, a column may divide the rows into blocks
BLOCK = 5  # minimum average rows of the blocks in which neighbors can be compared
YEARS = (1800, 2200)
STAMPS = (1e8, 1e13)  # seconds or milliseconds since 1970

NONE: Mapping[str, Floats] = {}


def rows_in_order(
    schema: Schema,
    matrix: Matrix,
    targets: Floats,
    dates: Mapping[str, Floats] = NONE,
    counters: Mapping[str, Floats] = NONE,
) -> list[str]:
    """Return a sentence if the rows' order in the file matters although they are split at random.

    Either dates, years or time stamps rise or fall from row to row; or the target and most columns are similar in
    consecutive rows, and not because the file is sorted by one of them.

    Args:
        matrix: ``(rows, columns)`` in the file's order.
        targets: ``(rows,)``, class indices or numbers.
        dates: date columns that are not inputs, as days.
        counters: numeric columns that are not inputs.
    """
    if len(targets) < LEAST_ROWS or schema.group is not None or schema.time is not None:
        return []
    columns = dict(zip(schema.matrix_names, matrix.T, strict=True))
    kept = {c.name: columns[f"{c.name}.days"] for c in schema.columns if c.kind == "date" and "days" in c.parts}
    numbers = {c.name: columns[c.name] for c in schema.columns if c.kind == "number"}
    times = (
        kept | dict(dates) | {name: values for name, values in {**numbers, **counters}.items() if _are_times(values)}
    )
    if found := next((name for name, values in times.items() if _rises(values)), None):
        return [
            f"The rows stand in the order of {found!r} and are split at random, so that test rows have neighbours in "
            "time among those learned from, which a forecast has not. If the model is for times to come, split in "
            f"their order: {override('data.time', found)} (in folds, validation=time_series)."
        ]
    alike = _alike(numbers, {c.name: columns[c.name] for c in schema.columns if c.kind == "category"}, targets, schema)
    if alike is None:
        return []
    counter = next((name for name, values in {**counters, **numbers}.items() if _counts(values)), None)
    how = (
        override("data.time", counter)
        if counter is not None
        else "number the rows in a column of their own, and name it in data.time"
    )
    return [
        f"Rows that follow each other in the file are alike (correlation {alike:.2f} of their {schema.target.name!r}), "
        "as in a series, and are split at random, so that test rows have neighbours among those learned from. If the "
        f"file is in the order of time, split so: {how}. If neighbours belong together otherwise, name what they share "
        "in data.group."
    ]


def _alike(
    numbers: Mapping[str, Floats], categories: Mapping[str, Floats], targets: Floats, schema: Schema
) -> float | None:
    """Return the correlation of neighbors' targets, if it and that of most columns are high; else None."""
    inputs = [values[:ROWS] for values in numbers.values() if not _counts(values)]
    targets, classes = targets[:ROWS], bool(schema.target.classes)
    blocks = np.zeros(len(targets), np.int64)
    for values in [targets, *inputs, *(values[:ROWS] for values in categories.values())]:
        if _is_sorted(values):
            blocks = _joined(blocks, _runs(values))
    if not inputs or blocks[-1] + 1 > len(targets) / BLOCK:
        return None
    same = np.all([_equal(values) for values in [targets, *inputs]], axis=0)
    pairs = (np.diff(blocks) == 0) & ~same  # duplicates say nothing
    of_target = _agreement(targets, pairs) if classes else _correlation(targets, blocks, pairs)
    if of_target < ALIKE or float(np.median([_correlation(values, blocks, pairs) for values in inputs])) < ALIKE:
        return None
    return of_target


def _rises(times: Floats) -> bool:
    """Return whether values rise (or fall) from row to row, and are not few."""
    steps = np.diff(times[np.isfinite(times)])
    steps = steps[steps != 0]
    return len(steps) >= LEAST_TIMES and max((steps > 0).mean(), (steps < 0).mean()) >= SORTED


def _are_times(values: Floats) -> bool:
    """Return whether numbers can only be years, or time stamps."""
    values = values[np.isfinite(values)]
    if not len(values) or (values != np.floor(values)).any():
        return False
    low, high = values.min(), values.max()
    return bool(YEARS[0] <= low and high <= YEARS[1]) or bool(STAMPS[0] <= low and high < STAMPS[1])


def _counts(values: Floats) -> bool:
    """Return whether (nearly all) values rise by the same step from row to row, like the hours of a series."""
    steps = np.diff(values)
    usual = np.median(steps) if len(steps) else 0.0
    return bool(usual != 0 and np.isclose(steps, usual, rtol=1e-3).mean() >= SORTED)


def _is_sorted(values: Floats) -> bool:
    """Return whether the rows are in the order of a column, or in blocks of its values."""
    different = len(np.unique(values))
    return _rises(values) or (1 < different <= FEW * len(values) and _runs(values)[-1] + 1 <= 2 * different)


def _runs(values: Floats) -> NDArray[np.int64]:
    """Return the number of the run of equal values that each row is in, from 0."""
    return np.concatenate([[0], np.cumsum(~_equal(values))])


def _joined(blocks: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return blocks that end where either of the given ones ends."""
    return np.concatenate([[0], np.cumsum((np.diff(blocks) != 0) | (np.diff(others) != 0))])


def _equal(values: Floats) -> NDArray[np.bool_]:
    """Return for each row but the first whether it equals the one before; NaN equals NaN."""
    same: NDArray[np.bool_] = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    return same


def _correlation(values: Floats, blocks: NDArray[np.int64], pairs: NDArray[np.bool_]) -> float:
    """Return the rank correlation of neighbors within blocks: one minus von Neumann's ratio of steps to variance."""
    frame = pl.DataFrame({"value": values, "block": blocks}).with_columns(pl.col("value").fill_nan(None).rank())
    centred = frame.select(pl.col("value") - pl.col("value").mean().over("block")).to_series().to_numpy()
    steps, variance = np.diff(centred)[pairs], np.nanvar(centred)
    steps = steps[np.isfinite(steps)]
    return float(1 - np.mean(steps**2) / (2 * variance)) if len(steps) and variance > 0 else 0.0


def _agreement(classes: Floats, pairs: NDArray[np.bool_]) -> float:
    """Return the agreement of neighbors' classes beyond chance: Cohen's kappa."""
    shares = np.unique_counts(classes).counts / len(classes)
    chance = float((shares**2).sum())
    return float((_equal(classes)[pairs].mean() - chance) / (1 - chance)) if pairs.any() and chance < 1 else 0.0
