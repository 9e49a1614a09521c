"""What the cells of each column are, counted in one pass over a table's batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from hypermap.datasets.tables.columns import finite
from hypermap.datasets.tables.readers import Table

VOCABULARY = 100_000  # different values of a column that are kept; beyond this they are not categories
EXACT = 2.0**53  # beyond it two whole numbers are one in float64
CODES = r"^[+-]?0\d+$"  # 007 is a name, not a number


@dataclass
class Statistics:
    """Of one column.

    Attributes:
        typed: ``number`` or ``date`` where its file says so; None: it is text.
        rows: cells, of which `missing` are.
        numbers: cells that are finite numbers, from `lowest` to `highest`; so many of them `whole`.
        codes: whole numbers with zeros before them.
        characters: of all text, with so many `blanks` between its words.
        values: the different ones, of any type, null not among them; the first `VOCABULARY` or so.
        valued: cells that `values` were taken from: all, unless there are too many different ones.
        missing_words: finds the words for missing that the table has, in any column.
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
        """Cells that are not missing."""
        return self.rows - self.missing

    @property
    def complete(self) -> bool:
        """Whether `values` are all there are."""
        return self.valued == self.present

    @property
    def all_numbers(self) -> bool:
        """Whether every cell that is not missing is a number."""
        return self.numbers == self.present > 0

    @property
    def are_exact(self) -> bool:
        """Whether cells are numbers that float64 tells apart, and not names such as 007."""
        return self.all_numbers and not self.codes and self.lowest >= -EXACT and self.highest <= EXACT

    @property
    def distinct_share(self) -> float:
        """Different values to cells; 1 where no value comes twice."""
        return len(self.values) / max(self.valued, 1)

    def words(self) -> list[str]:
        """Return the different values as text, sorted."""
        return sorted(self.values.cast(pl.String).to_list())

    def different_numbers(self) -> list[float]:
        """Return the different values that are finite numbers, sorted."""
        return self._numbers().drop_nulls().unique().sort().to_list()

    def odd_words(self, most: int | None = 5) -> list[str]:
        """Return some values that are no numbers, or all of them, sorted."""
        odd = self.values.filter(self._numbers().is_null()).sort()
        return (odd if most is None else odd.head(most)).cast(pl.String).to_list()

    def _numbers(self) -> pl.Series:
        kind = self.values.dtype
        return self.values.to_frame("value").select(finite(pl.col("value"), kind)).to_series()

    def add(self, counted: dict[str, float], cells: pl.Series) -> None:
        """Take a batch into account: what was counted of its cells."""
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
    """Return the statistics of every column that can be read, in order.

    Raises:
        UserError: the table cannot be read to its end.
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
    """Return the counts of each column, as `Statistics` calls them."""
    numbers = batch.select(finite(pl.col(name), kind).alias(name) for name, kind in batch.schema.items())
    counts = [_of_numbers(numbers), _of_text(batch, numbers)]
    return {
        name: {"rows": batch.height, "missing": batch[name].null_count(), **counts[0][name], **counts[1].get(name, {})}
        for name in batch.columns
    }


def _of_numbers(numbers: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Of a frame of finite float64 numbers, null elsewhere."""
    column = pl.all()
    return _by_column(
        numbers,
        numbers=column.count(),
        whole=(column == column.floor()).sum(),
        lowest=column.min().fill_null(math.inf),
        highest=column.max().fill_null(-math.inf),
    )


def _of_text(batch: pl.DataFrame, numbers: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Of columns of text; those of numbers alone have no words, and may only have zeros before them."""
    text = [name for name, kind in batch.schema.items() if kind == pl.String]
    words = [name for name in text if numbers[name].null_count() > batch[name].null_count()]
    column = pl.all()
    found = _by_column(batch.select(text), codes=column.str.contains(CODES).sum())
    blanks = column.str.count_matches(" ", literal=True).sum()
    for name, counts in _by_column(batch.select(words), characters=column.str.len_chars().sum(), blanks=blanks).items():
        found[name] |= counts
    return found


def _by_column(frame: pl.DataFrame, **counts: pl.Expr) -> dict[str, dict[str, float]]:
    """Return what the expressions come to, for each column of a frame."""
    rows = {key: frame.select(count).row(0) if frame.width else () for key, count in counts.items()}
    return {name: {key: row[k] for key, row in rows.items()} for k, name in enumerate(frame.columns)}
