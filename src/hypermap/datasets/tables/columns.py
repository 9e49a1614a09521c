"""Columns of a table, each with its encoding of cells as numbers."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl

from hypermap.datasets.tables import dates, numbers
from hypermap.tasks.names import NUMBER, TableTask

Kind = Literal["number", "boolean", "category", "date", "text"]

UNSEEN = -1.0  # the code of an unknown word
TRUE = ("true", "t", "yes", "y", "1", "on", "ja", "j", "oui", "si", "wahr", "vrai")
FALSE = ("false", "f", "no", "n", "0", "off", "nein", "non", "falsch", "faux")


@dataclass(frozen=True)
class Column:
    """An input column.

    Attributes:
        categories: the words of a ``category``, sorted; for a ``boolean`` those for no and yes.
        numeric: the categories are numbers, so that 1 and 1.0 are equal.
        form: the format of a ``date``, see `dates`.
        parts: the parts of a date that become columns of the matrix.
        missing: number of cells in the file without a value.
        lowest, highest: of the file's numbers; None for other types.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    numeric: bool = False
    form: str | None = None
    parts: tuple[str, ...] = ()
    missing: int = 0
    lowest: float | None = None
    highest: float | None = None

    @property
    def matrix_names(self) -> list[str]:
        """The names of its columns in the matrix."""
        return [f"{self.name}.{part}" for part in self.parts] if self.kind == "date" else [self.name]

    @property
    def roles(self) -> list[str]:
        """``number`` or ``category``, for each of its columns in the matrix."""
        return ["category" if self.kind in ("boolean", "category") else "number"] * len(self.matrix_names)

    def encoded(self, kind: pl.DataType) -> list[pl.Expr]:
        """Return its columns in the matrix, float64, from cells of the frame type `kind`; null if missing."""
        column = pl.col(self.name)
        if self.kind == "date":
            return dates.parts_of(self._moments(column, kind), self.parts)
        if self.kind == "number":
            return [finite(column, kind)]
        if self.kind == "boolean":
            return [_truth(column, kind)]
        return [coded(column, kind, dict(zip(self.categories, range(len(self.categories)), strict=True)), self.numeric)]

    @property
    def words(self) -> str:
        """A description of its cells, for messages."""
        if self.kind == "boolean":
            return f"{self.categories[0]!r} or {self.categories[1]!r}"
        if self.kind == "date":
            return "dates" + ("" if self.form in (None, dates.OF_PARQUET) else f" in the form {self.form}")
        return "numbers"

    def _moments(self, column: pl.Expr, kind: pl.DataType) -> pl.Expr:
        if kind == pl.Datetime:
            return column
        form = self.form or ""
        return as_words(column, kind).map_batches(lambda words: dates.read(words, form), return_dtype=pl.Datetime("us"))


@dataclass(frozen=True)
class Target:
    """The column to predict.

    Attributes:
        classes: names in the order of their indices; empty for a number. Of two, the second is the positive one.
        spelled: other spellings of classes in files.
        numeric: the classes are numbers, so that 1 and 1.0 are equal.
        within: the column that lists it among others, if it is one of several labels in a cell.
        separator: between the labels of such a cell; an empty cell has none of them.
    """

    name: str
    task: TableTask
    classes: tuple[str, ...] = ()
    spelled: Mapping[str, str] = field(default_factory=dict)
    numeric: bool = False
    within: str | None = None
    separator: str | None = None

    @property
    def column(self) -> str:
        """The column of the file."""
        return self.name if self.within is None else self.within

    def as_entry(self) -> dict[str, Any]:
        """Return the target as a JSON entry, in which most have no `within` and no `separator`."""
        entry = {**asdict(self), "classes": list(self.classes)}
        return {key: value for key, value in entry.items() if value is not None}

    def encoded(self, kind: pl.DataType) -> pl.Expr:
        """Return class indices or numbers as float64, null if missing; unknown classes are `UNSEEN`."""
        if self.separator is not None:
            there = listed(pl.col(self.column), kind, self.separator).list.contains(self.name)
            return there.fill_null(False).cast(pl.Float64)
        if self.task == NUMBER:
            return finite(pl.col(self.name), kind)
        codes = {name: k for k, name in enumerate(self.classes)}
        codes |= {word: codes[name] for word, name in self.spelled.items() if name in codes}
        return coded(pl.col(self.name), kind, codes, self.numeric)


def finite(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return numbers as float64; null for anything else, or infinity."""
    if kind == pl.Datetime:
        return pl.lit(None, pl.Float64)
    number = column.map_batches(numbers.read, return_dtype=pl.Float64) if kind == pl.String else column
    number = number.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def listed(column: pl.Expr, kind: pl.DataType, separator: str) -> pl.Expr:
    """Return the words of cells that list several, without blanks around them and without empty ones."""
    words = as_words(column, kind).str.split(separator).list.eval(pl.element().str.strip_chars())
    return words.list.eval(pl.element().filter(pl.element() != ""))


def as_words(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return cells as text; integers without a decimal point."""
    if kind == pl.Float64:
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    return column.cast(pl.String)


def coded(column: pl.Expr, kind: pl.DataType, codes: Mapping[str, int], numeric: bool) -> pl.Expr:
    """Return the code of each word as float64: `UNSEEN` for unknown words, null if missing."""
    found = _looked_up(as_words(column, kind), codes)
    if numeric:
        found = pl.coalesce(
            found, _looked_up(finite(column, kind), {float(w): c for w, c in codes.items() if _is_number(w)})
        )
    return pl.when(column.is_not_null()).then(found.fill_null(UNSEEN))


def _looked_up(cells: pl.Expr, codes: Mapping[Any, int]) -> pl.Expr:
    values = [float(code) for code in codes.values()]
    return cells.replace_strict(list(codes), values, default=None, return_dtype=pl.Float64)


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _truth(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return 1 for yes, 0 for no, in any of the usual spellings; null for other words."""
    words = as_words(column, kind).str.to_lowercase().str.strip_suffix(".0")
    return _looked_up(words, dict.fromkeys(TRUE, 1) | dict.fromkeys(FALSE, 0))
