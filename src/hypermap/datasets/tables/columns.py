"""Columns of a table, each with its mapping from cells to numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from hypermap.datasets.tables import dates, numbers
from hypermap.tasks.names import NUMBER, TableTask

Kind = Literal["number", "boolean", "category", "date"]

UNSEEN = -1.0  # the code of a word that is not in the list
TRUE = ("true", "t", "yes", "y", "1", "on", "ja", "j", "oui", "si", "wahr", "vrai")
FALSE = ("false", "f", "no", "n", "0", "off", "nein", "non", "falsch", "faux")


@dataclass(frozen=True)
class Column:
    """A column that a model learns from.

    Attributes:
        categories: the words of a ``category``, sorted; of a ``boolean`` the one for no and the one for yes.
        numeric: the categories are numbers, so that 1 and 1.0 are one.
        form: how a ``date`` is spelled, see `dates`.
        parts: those parts of a date that become columns of the matrix.
        missing: cells of the file without a value.
        lowest, highest: of the file's numbers; None for other kinds.
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
        """What its columns in the matrix are called."""
        return [f"{self.name}.{part}" for part in self.parts] if self.kind == "date" else [self.name]

    @property
    def roles(self) -> list[str]:
        """``number`` or ``category``, for each of its columns in the matrix."""
        return ["category" if self.kind in ("boolean", "category") else "number"] * len(self.matrix_names)

    def encoded(self, kind: pl.DataType) -> list[pl.Expr]:
        """Return its columns in the matrix, float64, from cells of a frame's type `kind`; null where there is no
        value.
        """
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
        """What its cells are, for messages."""
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
        classes: their names in the order of their index; empty for a number. Of two, the second is the positive one.
        spelled: how else a class is written in files.
        numeric: the classes are numbers, so that 1 and 1.0 are one.
    """

    name: str
    task: TableTask
    classes: tuple[str, ...] = ()
    spelled: Mapping[str, str] = field(default_factory=dict)
    numeric: bool = False

    def encoded(self, kind: pl.DataType) -> pl.Expr:
        """Class indices or numbers as float64, null where there is none; a word that is no class is `UNSEEN`."""
        if self.task == NUMBER:
            return finite(pl.col(self.name), kind)
        codes = {name: k for k, name in enumerate(self.classes)}
        codes |= {word: codes[name] for word, name in self.spelled.items() if name in codes}
        return coded(pl.col(self.name), kind, codes, self.numeric)


def finite(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return numbers as float64; null for what is none, or infinite."""
    if kind == pl.Datetime:
        return pl.lit(None, pl.Float64)
    number = column.map_batches(numbers.read, return_dtype=pl.Float64) if kind == pl.String else column
    number = number.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def as_words(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Cells as text; whole numbers without a point."""
    if kind == pl.Float64:
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    return column.cast(pl.String)


def coded(column: pl.Expr, kind: pl.DataType, codes: Mapping[str, int], numeric: bool) -> pl.Expr:
    """Return the code of each word as float64: `UNSEEN` if it has none, null where there is no word."""
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
    """1 for a word that means yes, 0 for no, in any of the usual spellings; null for any other."""
    words = as_words(column, kind).str.to_lowercase().str.strip_suffix(".0")
    return _looked_up(words, dict.fromkeys(TRUE, 1) | dict.fromkeys(FALSE, 0))
