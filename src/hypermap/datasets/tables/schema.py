"""The schema of a table: its columns, and the encoding of its cells as a matrix of numbers.

Nothing is fitted except the list of words of each category, so that the split comes first, and everything else is
fitted afterwards. The same object, loaded from JSON, reads the tables to predict.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.core.errors import UserError, near
from hypermap.data.preprocessors.text import encoded
from hypermap.data.table_rows import SEPARATOR
from hypermap.datasets.tables.columns import Column, Target, as_words
from hypermap.datasets.tables.csv_format import USUAL, CsvFormat, Expected
from hypermap.datasets.tables.readers import Table

Matrix = NDArray[np.float64]

INDENT = "\n       "
SHOWN = 3  # cells of a column in a message


@dataclass(frozen=True)
class Schema:
    """The columns of a table: the inputs, the target, and the fate of the others.

    Attributes:
        columns: the inputs that are in the matrix, in the file's order.
        targets: what is predicted, mostly one column.
        file_columns: all columns of the file.
        headed: whether the file has a header.
        group, time: columns that determine the splits.
        dropped: the columns that are left out, and why.
        spelling: the format of the file, as far as another file may not show it.
        texts: the inputs that are free text, which is beside the matrix.
    """

    columns: tuple[Column, ...]
    targets: tuple[Target, ...]
    file_columns: tuple[str, ...]
    headed: bool = True
    group: str | None = None
    time: str | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)
    spelling: CsvFormat = USUAL
    texts: tuple[Column, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Schema":
        """Return what `as_entry` made."""
        columns, texts = (
            tuple(Column(**{**c, "categories": tuple(c["categories"]), "parts": tuple(c["parts"])}) for c in part)
            for part in (entry["columns"], entry.get("texts", []))
        )
        entries = entry.get("targets") or [entry["target"]]
        targets = tuple(Target(**{**one, "classes": tuple(one["classes"])}) for one in entries)
        others = {key: value for key, value in entry.items() if key != "target"}
        spelling = CsvFormat.of(entry["spelling"]) if "spelling" in entry else USUAL  # older tables have none
        files = tuple(entry["file_columns"])
        read = {"columns": columns, "texts": texts, "targets": targets, "file_columns": files, "spelling": spelling}
        return cls(**{**others, **read})

    def as_entry(self) -> dict[str, Any]:
        """Return the schema as a JSON entry; one target is its `target`, several are its `targets`.

        Most tables have no `texts`.
        """
        entry = asdict(self)
        columns, texts = (
            [{**column, "categories": list(column["categories"]), "parts": list(column["parts"])} for column in part]
            for part in (entry.pop("columns"), entry.pop("texts"))
        )
        targets = [target.as_entry() for target in self.targets]
        named = {"targets": targets} if len(targets) > 1 else {"target": targets[0]}
        del entry["targets"]
        files, spelling = list(self.file_columns), self.spelling.as_entry()
        own = {"texts": texts} if texts else {}
        return {"columns": columns, **named, **entry, "file_columns": files, "spelling": spelling, **own}

    @property
    def target(self) -> Target:
        """The first target."""
        return self.targets[0]

    @property
    def of_each_target(self) -> list["Schema"]:
        """The same columns with one of the targets each."""
        return [replace(self, targets=(target,)) for target in self.targets]

    @property
    def target_columns(self) -> list[str]:
        """The columns of the file that have the targets."""
        return list(dict.fromkeys(target.column for target in self.targets))

    @property
    def names(self) -> list[str]:
        """The input columns of the file."""
        return [column.name for column in (*self.columns, *self.texts)]

    @cached_property
    def matrix_names(self) -> list[str]:
        """The names of the matrix's columns: a date has several, such as ``sold.year``."""
        return [name for column in self.columns for name in column.matrix_names]

    @cached_property
    def roles(self) -> list[str]:
        """``number`` or ``category``, for each column of the matrix."""
        return [role for column in self.columns for role in column.roles]

    @property
    def expected(self) -> Expected:
        """The expected columns of another file; it may lack the target, or all columns that are not inputs."""
        rest = tuple(name for name in self.file_columns if name not in self.target_columns)
        orders = () if self.headed else (self.file_columns, rest, tuple(self.names))
        return Expected(self.file_columns, orders, self.spelling, self.spelling.decimals)

    def encode(self, frame: pl.DataFrame, first_row: int = 0) -> Matrix:
        """Return the matrix ``(rows, len(matrix_names))`` of a batch of a `Table`; NaN if missing.

        Args:
            frame: with all of `names`, in any order, and possibly others.
            first_row: number of preceding rows of the file, for messages.

        Raises:
            UserError: cells are not of their column's type, with row and value, all in one message.
        """
        encoded = _encoded(frame, self.columns)
        if problems := list(_problems(frame, encoded, self.columns, first_row)):
            raise UserError(INDENT.join(problems))
        if not self.columns:  # texts alone: a frame without columns has no rows
            return np.empty((frame.height, 0))
        matrix: Matrix = encoded.fill_null(np.nan).to_numpy()
        return matrix

    def rows_of_text(self, frame: pl.DataFrame, limit: int) -> tuple[list[bytes], dict[str, int]]:
        """Return the joined texts of each row of a batch (`hypermap.data.table_rows`), and how many of each column
        were longer than `limit` bytes and are cut; a missing text is an empty one, as in training.
        """
        if not self.texts:
            return [], {}
        cut, columns = {}, []
        for column in self.texts:
            words = frame.select(as_words(pl.col(column.name), frame.schema[column.name])).to_series().fill_null("")
            made = [encoded(text.replace(SEPARATOR, " "), limit) for text in words.to_list()]
            columns.append([content for content, _ in made])
            cut[column.name] = sum(shortened for _, shortened in made)
        return [SEPARATOR.encode().join(texts) for texts in zip(*columns, strict=True)], cut

    def check(self, table: Table) -> list[str]:
        """Check a table by its columns and its first rows for `encode`; return notes for the user.

        Raises:
            UserError: columns are missing, or cells are of another type, all in one message.
        """
        unknown = [name for name in table.columns if name not in self.file_columns]
        problems = [_lacking(name, table.columns) for name in self.names if name not in table.columns]
        problems += [
            f"column {name!r} holds {table.unsupported[name]}." for name in self.names if name in table.unsupported
        ]
        problems += self._misplaced(table)
        there = [column for column in self.columns if column.name in {*table.columns} - {*table.unsupported}]
        for batch in itertools.islice(table.batches(), 1):
            problems += _problems(batch, _encoded(batch, there), there, 0)
        if problems:
            if self.headed and not table.headed:
                problems.append(
                    "its first line reads as data; it should name the columns, as the training table's does."
                )
            elif unknown:
                problems.append(f"column{_s(unknown)} that the training table lacks: {_listed(unknown)}.")
            raise UserError(INDENT.join([f"{table.name} does not suit the table that was learned from:", *problems]))
        return [f"{table.name}: the training table has no {_listed(unknown)}; left out."] if unknown else []

    def _misplaced(self, table: Table) -> list[str]:
        """Return an error if columns are identified by position and their number differs."""
        widths = {len(order) for order in self.expected.orders}
        numbered = table.columns == tuple(f"column_{k}" for k in range(1, len(table.columns) + 1))
        if self.headed or table.headed or not numbered or len(table.columns) in widths:
            return []
        allowed = " or ".join(map(str, sorted(widths)))
        return [
            f"it has {len(table.columns)} columns and no header; as in training it should have {allowed} of them (with "
            "or without the target). Or name those there are with columns=[...]."
        ]


def _encoded(frame: pl.DataFrame, columns: Iterable[Column]) -> pl.DataFrame:
    """Return the matrix as a frame with columns named by position."""
    kinds = frame.schema
    expressions = [expression for column in columns for expression in column.encoded(kinds[column.name])]
    return frame.select(expression.alias(str(place)) for place, expression in enumerate(expressions))


def _problems(frame: pl.DataFrame, encoded: pl.DataFrame, columns: Iterable[Column], first_row: int) -> Iterator[str]:
    """Yield a sentence for each column with cells of another type."""
    place = 0
    for column in columns:
        cells, numbers = frame[column.name], encoded[str(place)]
        place += len(column.matrix_names)
        if numbers.null_count() > cells.null_count():
            wrong = (numbers.is_null() & cells.is_not_null()).arg_true()
            shown = ", ".join(f"{cells[row]!r} in row {first_row + row + 1:,}" for row in wrong[:SHOWN].to_list())
            more = f" and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
            yield f"column {column.name!r} should hold {column.words}; it has {shown}{more}."


def _lacking(name: str, there: Sequence[str]) -> str:
    return f"column {name!r} is missing{near(name, there)}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) > 1 else ""
