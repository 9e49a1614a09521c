"""A table's rows as arrays, filled batch by batch, so that memory holds only them and one batch."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.core import memory
from hypermap.core.cli_args import override
from hypermap.core.errors import UserError
from hypermap.datasets.tables.columns import UNSEEN, Column, Target
from hypermap.datasets.tables.readers import Table
from hypermap.datasets.tables.schema import Matrix, Schema

COPIES = 7  # peak memory of reading, splitting and preparing, in copies of the matrix (measured: 5.9 to 7.0)


@dataclass(frozen=True)
class TableArrays:
    """The rows of a table with a target.

    Attributes:
        matrix: ``(rows, columns)`` float64, see `Schema`.
        targets: float64, class indices or numbers ``(rows,)``, or ``(rows, targets)`` if there are several.
        groups: ``(rows,)`` int64, or None.
        members: the group of each row as in the file, or None.
        times: ``(rows,)`` float64, NaN for rows without a time, or None.
        numbers: ``(rows,)`` int64, row numbers in the file, from 1.
        notes: for the user.
        texts: the joined texts of each row (`hypermap.data.table_rows`); empty if the table has none.
    """

    matrix: Matrix
    targets: NDArray[np.float64]
    groups: NDArray[np.int64] | None
    members: pl.Series | None
    times: NDArray[np.float64] | None
    numbers: NDArray[np.int64]
    notes: tuple[str, ...]
    texts: tuple[bytes, ...] = ()


def read_rows(
    table: Table, schema: Schema, order: Column | None = None, *, text_limit: int = 0, apart: bool = False
) -> TableArrays:
    """Return all rows of a table, without those that have no target, which a note reports.

    Args:
        text_limit: bytes of a text; longer ones are cut, which a note reports.
        order: the column that orders the splits.
        apart: these rows are a separate test file: they are not split by groups and times, which may be missing.

    Raises:
        UserError: a cell is not of its column's type, a target is not a class, or the rows do not fit into memory.
    """
    _check_memory(table, len(schema.matrix_names))
    readable = {*table.columns} - {*table.unsupported}
    group = schema.group if schema.group in readable or not apart else None
    order = order if order and (order.name in readable or not apart) else None
    matrix = np.empty((table.size, len(schema.matrix_names)))
    several = len(schema.targets) > 1
    targets = np.empty((table.size, len(schema.targets)) if several else table.size)
    times = np.empty(table.size if order else 0)
    groups: list[pl.Series] = []
    numbers = np.empty(table.size, np.int64)
    texts: list[bytes] = []
    cut: Counter[str] = Counter()
    row = kept = 0
    for batch in table.batches():
        each = [_target(batch, target, table.name, row) for target in schema.targets]
        found = np.stack(each, 1) if several else each[0]
        there = np.atleast_1d(~np.isnan(each).any(axis=0))
        these: slice | NDArray[np.bool_] = slice(None) if there.all() else there  # a slice does not copy
        part = slice(kept, kept + int(there.sum()))
        matrix[part], targets[part] = schema.encode(batch, row)[these], found[these]
        numbers[part] = row + 1 + np.flatnonzero(there)
        own, shortened = schema.rows_of_text(batch, text_limit)
        texts += itertools.compress(own, there)
        cut.update(shortened)
        if order is not None:
            times[part] = _numbers(batch.select(order.encoded(batch.schema[order.name])).to_series())[these]
        if group is not None:
            if not apart:
                _check_groups(batch, group, row)
            groups.append(batch[group].filter(there))
        row, kept = row + batch.height, part.stop
    if not kept:
        raise UserError(f"{table.name}: no row has a value of {_named(schema.target_columns)}.")
    lack = "lack a target" if several else "have no target"
    notes = [] if kept == row else [f"{table.name}: {row - kept:,} of {row:,} rows {lack} and were left out."]
    notes += [
        f"{table.name}: {count:,} of {row:,} texts of {name!r} are longer than data.text_max_bytes={text_limit:,} "
        "bytes, and cut there."
        for name, count in cut.items()
        if count
    ]
    _check_text_memory(table, texts, len(schema.matrix_names), text_limit)
    members = pl.concat(groups) if groups else None
    codes = None if members is None or apart else members.rank("dense").cast(pl.Int64).to_numpy() - 1
    in_order = times[:kept] if order else None
    return TableArrays(
        matrix[:kept], targets[:kept], codes, members, in_order, numbers[:kept], tuple(notes), tuple(texts)
    )


def read_columns(
    table: Table, columns: Mapping[str, Column], numbers: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return numeric columns of a table, NaN if missing, for the rows with these numbers (from 1)."""
    if not columns:
        return {}
    parts = [
        batch.select(
            expression.alias(name) for name, c in columns.items() for expression in c.encoded(batch.schema[name])
        )
        for batch in table.batches()
    ]
    frame = pl.concat(parts)[numbers - 1]
    return {name: _numbers(frame[name]) for name in columns}


def _named(targets: Sequence[str]) -> str:
    return f"the target {targets[0]!r}" if len(targets) == 1 else f"all the targets {', '.join(map(repr, targets))}"


def _target(batch: pl.DataFrame, target: Target, name: str, first_row: int) -> NDArray[np.float64]:
    """Return class indices or numbers ``(rows,)``, NaN if missing."""
    if target.column not in batch.columns:
        raise UserError(
            f"{name} has no column {target.column!r}, which is the target; it has {', '.join(batch.columns)}."
        )
    cells = batch[target.column]
    found = batch.select(target.encoded(cells.dtype)).to_series()
    wrong = (found == UNSEEN) if target.classes else (found.is_null() & cells.is_not_null())
    if wrong.any():
        at = int(wrong.arg_max() or 0)
        raise UserError(
            _no_target(
                f"{name}: the target {target.name!r} is {cells[at]!r} in row {first_row + at + 1:,}", target, cells[at]
            )
        )
    return _numbers(found)


def _no_target(start: str, target: Target, cell: object) -> str:
    if not target.classes:
        return f"{start}, which is not a number. Fix it, or add it to data.missing_values, which leaves such rows out."
    return (
        f"{start}, which is none of the classes {', '.join(target.classes)}. If it is another way to write one, say "
        f"so: {override('data.classes', [*target.spelled.items(), (str(cell), target.classes[0])])}."
    )


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = column.fill_null(np.nan).to_numpy()
    return numbers


def _check_groups(batch: pl.DataFrame, name: str, first_row: int) -> None:
    """Refuse a row without a group."""
    cells = batch[name]
    if cells.null_count():
        row = first_row + int(cells.is_null().arg_max() or 0) + 1
        raise UserError(
            f"data.group is {name!r}, which has no value in row {row:,}, and maybe in others, so that nobody knows "
            "with which rows that one belongs. Fill in the value, or remove such rows."
        )


def _check_memory(table: Table, columns: int) -> None:
    """Refuse a matrix that would not fit."""
    needed, free = COPIES * 8 * table.size * columns, memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{table.name}: {table.size:,} rows of {columns} columns take about {needed / 1e9:.1f} GB to prepare, and "
            f"{free / 1e9:.1f} GB of memory are free. Leave out columns with data.drop=[...], name a file with about "
            f"{int(table.size * free / needed):,} of the rows, or take a machine with more memory. (data.rows is "
            "applied after reading, so it does not help here.)"
        )


def _check_text_memory(table: Table, texts: Sequence[bytes], columns: int, limit: int) -> None:
    """Refuse texts that would not fit: each takes as many bytes as the longest, in a few copies."""
    longest = max(map(len, texts), default=0)
    needed, free = COPIES * len(texts) * (8 * columns + longest), memory.free()
    if longest and free is not None and needed > free:
        raise UserError(
            f"{table.name}: {len(texts):,} rows with texts of up to {longest:,} bytes take about {needed / 1e9:.1f} GB "
            f"to prepare, and {free / 1e9:.1f} GB of memory are free. Take a smaller data.text_max_bytes ({limit:,}), "
            "or fewer rows."
        )
