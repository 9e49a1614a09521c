"""Statistics of the cells of each column, computed in one pass over a table's batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from hypermap.datasets.tables.columns import finite
from hypermap.datasets.tables.readers import Table

VOCABULARY = 100_000  # maximum distinct values kept per column; beyond this they are not categories
EXACT = 2.0**53  # beyond it, float64 cannot represent every integer
CODES = r"^[+-]?0\d+$"  # 007 is a name, not a number


@dataclass
class Statistics:
    """Statistics of one column.

    Attributes:
        typed: ``number`` or ``date`` if the file's type says so; None: it is text.
        rows: number of cells; `missing` of them are missing.
        numbers: number of finite numbers, from `lowest` to `highest`; `whole` of them are integers.
        codes: number of integers with leading zeros.
        characters: of all text, with `blanks` spaces between words.
        values: the distinct ones, of any type, without null; about the first `VOCABULARY`.
        valued: number of cells that `values` were taken from: all, unless there are too many distinct ones.
        missing_words: returns the words for missing values in the table, in any column.
    """

    name: str
    typed: str | None
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    whole: int = 0
    codes: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    characters: int = 0
    blanks: int = 0
    values: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))
    valued: int = 0
    missing_words: Callable[[], list[str]] = field(default=list, repr=False)

    @property
    def present(self) -> int:
        """The number of cells that are not missing."""
        return self.rows - self.missing

    @property
    def complete(self) -> bool:
        """Whether `values` is complete."""
        return self.valued == self.present

    @property
    def all_numbers(self) -> bool:
        """Whether every cell that is not missing is a number."""
        return self.numbers == self.present > 0

    @property
    def are_exact(self) -> bool:
        """Whether cells are numbers that float64 represents exactly, and not codes such as 007."""
        return self.all_numbers and not self.codes and self.lowest >= -EXACT and self.highest <= EXACT

    @property
    def distinct_share(self) -> float:
        """The number of distinct values per cell; 1 if no value is repeated."""
        return len(self.values) / max(self.valued, 1)

    def words(self) -> list[str]:
        """Return the distinct values as text, sorted."""
        return sorted(self.values.cast(pl.String).to_list())

    def different_numbers(self) -> list[float]:
        """Return the distinct values that are finite numbers, sorted."""
        return self._numbers().drop_nulls().unique().sort().to_list()

    def odd_words(self, most: int | None = 5) -> list[str]:
        """Return up to `most` values that are not numbers, sorted."""
        odd = self.values.filter(self._numbers().is_null()).sort()
        return (odd if most is None else odd.head(most)).cast(pl.String).to_list()

    def _numbers(self) -> pl.Series:
        kind = self.values.dtype
        return self.values.to_frame("value").select(finite(pl.col("value"), kind)).to_series()

    def add(self, counted: dict[str, float], cells: pl.Series) -> None:
        """Add the counts of a batch."""
        self.rows += int(counted["rows"])
        self.missing += int(counted["missing"])
        self.numbers += int(counted["numbers"])
        self.whole += int(counted["whole"])
        self.codes += int(counted.get("codes", 0))
        self.characters += int(counted.get("characters", 0))
        self.blanks += int(counted.get("blanks", 0))
        self.lowest = min(self.lowest, counted["lowest"])
        self.highest = max(self.highest, counted["highest"])
        if len(self.values) < VOCABULARY:
            self.valued += int(counted["rows"] - counted["missing"])
            values = cells.drop_nulls().unique()
            self.values = values if self.values.is_empty() else pl.concat([self.values, values]).unique()


def gather(table: Table) -> dict[str, Statistics]:
    """Return the statistics of every supported column, in order.

    Raises:
        UserError: the table cannot be read to the end.
    """
    found: dict[str, Statistics] = {}
    for batch in table.batches():
        if not found:
            found = {
                name: Statistics(name, _type(kind), missing_words=table.missing_words)
                for name, kind in batch.schema.items()
            }
        counted = _counted(batch)
        for name, statistics in found.items():
            statistics.add(counted[name], batch[name])
    return found


def _type(kind: pl.DataType) -> str | None:
    if kind.is_numeric():
        return "number"
    return "date" if kind == pl.Datetime else None


def _counted(batch: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the counts of each column, by field of `Statistics`."""
    numbers = batch.select(finite(pl.col(name), kind).alias(name) for name, kind in batch.schema.items())
    counts = [_of_numbers(numbers), _of_text(batch, numbers)]
    return {
        name: {"rows": batch.height, "missing": batch[name].null_count(), **counts[0][name], **counts[1].get(name, {})}
        for name in batch.columns
    }


def _of_numbers(numbers: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the counts for a frame of finite float64 numbers, null elsewhere."""
    column = pl.all()
    return _by_column(
        numbers,
        numbers=column.count(),
        whole=(column == column.floor()).sum(),
        lowest=column.min().fill_null(math.inf),
        highest=column.max().fill_null(-math.inf),
    )


def _of_text(batch: pl.DataFrame, numbers: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the counts for text columns; purely numeric ones have no words, but may have leading zeros."""
    text = [name for name, kind in batch.schema.items() if kind == pl.String]
    words = [name for name in text if numbers[name].null_count() > batch[name].null_count()]
    column = pl.all()
    found = _by_column(batch.select(text), codes=column.str.contains(CODES).sum())
    blanks = column.str.count_matches(" ", literal=True).sum()
    for name, counts in _by_column(batch.select(words), characters=column.str.len_chars().sum(), blanks=blanks).items():
        found[name] |= counts
    return found


def _by_column(frame: pl.DataFrame, **counts: pl.Expr) -> dict[str, dict[str, float]]:
    """Return the results of the expressions for each column of a frame."""
    rows = {key: frame.select(count).row(0) if frame.width else () for key, count in counts.items()}
    return {name: {key: row[k] for key, row in rows.items()} for k, name in enumerate(frame.columns)}
