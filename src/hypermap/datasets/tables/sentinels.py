"""Numbers that mean missing, such as -999: repeated, and far from all others of their column."""

import re
from collections.abc import Mapping

import numpy as np
import polars as pl

from hypermap.core.cli_args import override
from hypermap.core.typing import Floats
from hypermap.datasets.tables.arrays import TableArrays
from hypermap.datasets.tables.columns import finite
from hypermap.datasets.tables.schema import Schema
from hypermap.datasets.tables.statistics import Statistics

# A repeated digit, as in surveys and instruments, and the smallest and largest numbers of machine types.
LOOKS = re.compile(
    r"-?([789])\1+(?:\.(?:0|25|\1+))?|-?(?:32767|32768|2147483647|2147483648)\.0|-?1e\+?(?:20|3\d)|-9\.0"
)
LEAST = 3  # minimum cells with it
OTHERS = 3  # minimum other distinct values
SHOWN = 5  # columns in a message


def sentinels(schema: Schema, rows: TableArrays, statistics: Mapping[str, Statistics], prefix: str) -> list[str]:
    """Return a sentence on the numbers that seem to mean missing, with the setting for it."""
    of_matrix = zip(schema.matrix_names, rows.matrix.T, strict=True)
    numbers = {column.name for column in schema.columns if column.kind == "number"}
    columns = {name: cells for name, cells in of_matrix if name in numbers}
    targets = rows.targets.reshape(len(rows.targets), -1)
    columns |= {target.name: targets[:, k] for k, target in enumerate(schema.targets) if not target.classes}
    shown: list[str] = []
    words: dict[str, None] = {}
    found: dict[str, set[float]] = {}
    for name, cells in columns.items():
        for value, count, lowest, highest in _found(cells):
            shown.append(f"{name!r} is {value:.15g} in {count:,} rows, and else from {lowest:.6g} to {highest:.6g}")
            words |= dict.fromkeys(_spelled(statistics[name], value))
            found.setdefault(name, set()).add(value)
    if not shown:
        return []
    more = f"; and {len(shown) - SHOWN} more such" if len(shown) > SHOWN else ""
    missing = [*statistics[next(iter(found))].missing_words(), *words]
    others = [name for name, column in statistics.items() if name not in found and _has(column, words)]
    but = (
        f" In column {others[0]!r} it would be missing as well: where it is a value, write empty cells into the file."
        if others
        else ""
    )
    return [
        f"Column {'; '.join(shown[:SHOWN])}{more}. If that means missing, say "
        f"{override(f'{prefix}missing_values', missing)}.{but}"
    ]


def _found(cells: Floats) -> list[tuple[float, int, float, float]]:
    """Return the numbers of a column that seem to mean missing, with their counts, and the range of the others."""
    counts = np.unique_counts(cells[np.isfinite(cells)])
    looks = np.array([LOOKS.fullmatch(repr(float(value))) is not None for value in _ends(counts.values)])
    ends = _ends(counts.values)[looks]
    others = counts.values[~np.isin(counts.values, ends)]
    if not len(ends) or len(others) < OTHERS:
        return []
    lowest, highest = float(others[0]), float(others[-1])
    return [
        (float(value), int(count), lowest, highest)
        for value, count in zip(counts.values, counts.counts, strict=True)
        if value in ends and count >= LEAST and max(lowest - value, value - highest) > highest - lowest
    ]


def _ends(values: Floats) -> Floats:
    """Return the smallest and the largest few of sorted values."""
    return np.unique(np.concatenate([values[:SHOWN], values[-SHOWN:]]))


def _spelled(column: Statistics, value: float) -> list[str]:
    """Return all spellings of a number in the file."""
    kind = column.values.dtype
    same = column.values.to_frame("v").filter(finite(pl.col("v"), kind) == value)["v"]
    return sorted(same.cast(pl.String)) or [f"{value:.15g}"]


def _has(column: Statistics, words: Mapping[str, None]) -> bool:
    return bool(column.values.cast(pl.String).is_in([*words]).any())
