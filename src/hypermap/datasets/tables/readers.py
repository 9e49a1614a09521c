"""Tables in files, read by polars in batches, so that a file may be larger than memory.

Polars instead of pandas: it reads several times as fast, on all cores, in batches, and it keeps cells as text until the
type of their column is known. CSV in any dialect and Parquet give the same: frames whose columns are text, float64
numbers or timestamps, with null for missing values.
"""

import itertools
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import polars.selectors as cs

from hypermap.core.errors import UserError, near
from hypermap.datasets.tables import arff, text_file
from hypermap.datasets.tables.csv_format import BLANKS, NOTHING, CsvFormat, Dialect, Expected, Format, find_dialect
from hypermap.datasets.tables.number_format import MINUS, UNKNOWN, Decimals, merged
from hypermap.datasets.tables.unpack import refuse_foreign, unpacked

PARQUET = b"PAR1"
START = 1 << 16  # bytes of a file that show what it is: an ARFF file may begin with comments
EXCEL = re.compile(r"sep=(.)\r?\n")  # a first line that Excel writes and hides
CELLS = 4_000_000  # per batch, unless its rows are given
ROWS = (1_000, 200_000)  # per batch, minimum and maximum
# Names of unnamed columns in pandas and R's readr.
UNNAMED = re.compile(r"|(?i:unnamed)[:_ ]+\d+(?:[._]\S*)?|__index_level_\d+__|\.\.\.\d+")
SIGN, END = rf"^[(+\-{MINUS}]?\s?", rf"\s?[)\-{MINUS}]?$"
THOUSANDS = SIGN + r"\d{1,3}(?:,\d{3})+(?:\.\d+)?" + END
COMMAS = SIGN + r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][+-]?\d+)?" + END
WHOLE = re.compile(r"[+-]?\d+")
DOTS = SIGN + r"[1-9]\d{0,2}(?:\.\d{3})+" + END


@dataclass(frozen=True)
class Table:
    """A table in one or more files, not yet read.

    Attributes:
        name: for messages.
        columns: names, in order; those of `unsupported` are not in the batches.
        size: number of rows.
        headed: whether the file has the columns' names.
        unsupported: columns of unsupported types, with a description.
        notes: on the files, for the user.
        spelling: the expected format of another file of this table.
        raw: the files' unprocessed cells.
        missing: the words that mean missing.
    """

    name: str
    columns: tuple[str, ...]
    size: int
    headed: bool
    unsupported: dict[str, str]
    notes: tuple[str, ...]
    spelling: CsvFormat
    files: tuple[Path, ...]
    lazy: pl.LazyFrame = field(repr=False)
    stamps: tuple[tuple[int, int], ...] = field(repr=False)
    raw: tuple[pl.LazyFrame, ...] = field(repr=False, default=())
    missing: tuple[str, ...] = ()

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The unnamed columns, such as the index that pandas writes."""
        blank = {f"column_{k}" for k, cell in enumerate(self.spelling.first_line, 1) if not cell}
        return tuple(name for name in self.columns if name in blank or UNNAMED.fullmatch(name))

    def batches(self, rows: int | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, `rows` at a time, as text (``String``), numbers or times (``Datetime``).

        Raises:
            UserError: a file changed since it was opened, or cannot be read.
        """
        rows = rows or min(max(CELLS // len(self.columns), ROWS[0]), ROWS[1])
        seen = 0
        try:
            for batch in self.lazy.collect_batches(chunk_size=rows, maintain_order=True):
                for start in range(0, batch.height, rows):
                    part = batch.slice(start, rows)
                    if (seen := seen + part.height) > self.size:
                        break
                    yield part
        except (pl.exceptions.PolarsError, OSError) as error:
            self.check_unchanged()
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{self.name} cannot be read ({reason}). Fix the file, or export it again.") from error
        self.check_unchanged()
        if seen != self.size:
            raise UserError(f"{self.name}: {seen:,} of {self.size:,} rows could be read. Export it again.")

    def missing_words(self) -> list[str]:
        """Return the words for missing values that occur in the files; this reads all cells."""
        words = pl.col(pl.String).str.strip_chars(BLANKS)
        found: set[str] = set()
        for raw in self.raw:
            frame = raw.select(words.filter(words.is_in(self.missing)).unique().implode().name.keep()).collect()
            found.update(word for column in frame for word in column[0])
        return [word for word in self.missing if word in found]

    def check_unchanged(self) -> None:
        """Refuse a file that was modified while it was being read.

        Raises:
            UserError: it was modified or deleted.
        """
        for path, stamp in zip(self.files, self.stamps, strict=True):
            if not path.is_file() or _stamp(path) != stamp:
                raise UserError(f"{path} changed while it was being read. Run again when it is whole.")


def open_table(paths: Sequence[str | Path], given: Format | None = None, expected: Expected = NOTHING) -> Table:
    """Open the files of a table, all with the same columns, in the order of the first file.

    Args:
        paths: CSV with any separator, TSV, text with spaces, ARFF, or Parquet, possibly compressed, see `unpack`; the
            type of a file is detected from its first bytes, not its name.
        given: settings; the rest is detected, for each file separately.
        expected: what is known about the table, for `find_dialect`; deviations are noted.

    Raises:
        UserError: a file does not exist, is empty or unreadable, or the files differ in their columns.
    """
    given = given or Format()
    files = [checked(Path(path).expanduser(), f"{given.prefix}path") for path in paths]
    if not files:
        raise UserError(f"{given.prefix}path is empty; name a file, or a list of files with the same columns.")
    stamps = tuple(_stamp(path) for path in files)
    folder = Path(tempfile.mkdtemp(prefix="hypermap-"))
    try:
        parts: list[_Part] = []
        for k, path in enumerate(files):
            parts.append(_open(path, given, _with_decimals_of(parts, expected), folder / str(k)))
        _check_same_columns(parts)
        _check_names(parts[0], given)
        lazy = pl.concat([part.lazy.select(parts[0].lazy.collect_schema().names()) for part in parts])
        lazy.collect_schema()
    except pl.exceptions.PolarsError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{', '.join(map(str, files))} cannot be read ({error}).") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    table = Table(
        name=str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        columns=parts[0].columns,
        size=sum(part.size for part in parts),
        headed=parts[0].headed,
        unsupported=parts[0].unsupported,
        notes=tuple(dict.fromkeys(itertools.chain.from_iterable(part.notes for part in parts))),
        spelling=_spelling(parts, given),
        files=tuple(files),
        lazy=lazy,
        stamps=stamps,
        raw=tuple(part.raw for part in parts),
        missing=tuple(word.strip() for word in given.missing),
    )
    weakref.finalize(table, shutil.rmtree, folder, ignore_errors=True)
    return table


def checked(path: Path, key: str) -> Path:
    """Return the path of an existing file that could be a table; `key` is the setting that names it, for messages.

    Raises:
        UserError: it does not exist, is empty, or has an unsupported format.
    """
    if not path.is_file():
        if path.is_dir():
            inside = sorted(
                f"'{other}'" for other in path.iterdir() if other.is_file() and not other.name.startswith(".")
            )
            names = f"such as {' or '.join(inside[:2])}" if inside else "of which it has none"
            raise UserError(f"{key} is '{path}'; that is a folder. Name a file in it, {names}.")
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        where = "" if path.parent.is_dir() else f" There is no folder {path.parent} either."
        raise UserError(f"{key} is '{path}'; no such file{near(path.name, beside)}.{where}")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: it has neither a header nor rows. Export it again.")
    refuse_foreign(path)
    return path


@dataclass(frozen=True)
class _Part:
    """One file of a table."""

    path: Path
    columns: tuple[str, ...]
    size: int
    headed: bool
    unsupported: dict[str, str]
    notes: tuple[str, ...]
    lazy: pl.LazyFrame
    raw: pl.LazyFrame
    decimals: Decimals = UNKNOWN
    first_line: tuple[str, ...] = ()


def _with_decimals_of(parts: Sequence[_Part], expected: Expected) -> Expected:
    """Return the expected format of a file after these: that of the training table, else theirs."""
    if expected.decimals.mark or not parts:
        return expected
    return replace(expected, decimals=merged([part.decimals for part in parts]), whose=str(parts[0].path))


def _spelling(parts: Sequence[_Part], given: Format) -> CsvFormat:
    return CsvFormat(
        merged([part.decimals for part in parts]),
        parts[0].first_line,
        given.separator,
        given.encoding,
        given.quote,
        given.comment,
        None if given.missing_values is None else given.missing,
    )


def _open(path: Path, given: Format, expected: Expected, folder: Path) -> _Part:
    folder.mkdir()
    content = unpacked(path, folder)
    with content.open("rb") as file:
        start = file.read(START)
    if start.startswith(PARQUET):
        return _open_parquet(path, content, given, expected)
    if arff.is_arff(start):
        return _open_arff(path, content, given, expected, folder)
    return _open_text(path, content, given, expected, folder)


def _open_arff(path: Path, content: Path, given: Format, expected: Expected, folder: Path) -> _Part:
    notes = _idle(path, given, expected.spelling, "ARFF")
    encoding, encoding_notes = text_file.find_encoding(content, given, str(path), expected.spelling.encoding)
    target = folder / "arff.csv"
    arff.rewrite(content, str(path), encoding, target)
    plain = Format(separator=",", header=True, decimal=".", missing_values=given.missing_values, prefix=given.prefix)
    part = _open_text(path, target, plain, expected, folder)
    return replace(part, notes=(*notes, *encoding_notes, *part.notes))


def _open_parquet(path: Path, content: Path, given: Format, expected: Expected) -> _Part:
    notes = _idle(path, given, expected.spelling)
    lazy = pl.scan_parquet(content, glob=False)
    schema = lazy.collect_schema()
    unsupported = {
        name: f"values of type {kind}" for name, kind in schema.items() if kind.is_nested() or kind in OPAQUE
    }
    kept = [_plain_column(name, kind) for name, kind in schema.items() if name not in unsupported]
    _check_columns(path, schema.names(), given)
    size = lazy.select(pl.len()).collect().item()
    raw = lazy.select(kept)
    lazy = raw.with_columns(_words(given.missing), *_numbers_that_mean_missing(given.missing))
    return _Part(path, tuple(schema.names()), size, True, unsupported, notes, lazy, raw)


def _idle(path: Path, given: Format, usual: CsvFormat, kind: str = "Parquet") -> tuple[str, ...]:
    """Return a sentence if settings have no effect on a file of this kind, except those that apply to all files."""
    options = {key: getattr(given, key) for key in TEXT_ONLY if not (kind == "ARFF" and key == "encoding")}
    unset = Format()
    idle = [key for key, value in options.items() if value not in (getattr(unset, key), getattr(usual, key, None))]
    if not idle:
        return ()
    keys = ", ".join(given.prefix + key for key in idle)
    return (f"{path} is {kind}, which is read as it is: nothing was done with {keys}.",)


def _check_columns(path: Path, names: Sequence[str], given: Format) -> None:
    if given.columns is not None and [str(name) for name in given.columns] != list(names):
        raise UserError(
            f"{given.prefix}columns gives names to columns of text; {path} is Parquet, which has its own: "
            f"{', '.join(names)}. Set {given.prefix}columns to null, and use these names."
        )


TEXT_ONLY = ("separator", "header", "quote", "encoding", "decimal", "comment")
OPAQUE = (pl.Binary, pl.Object, pl.Unknown)


def _plain_column(name: str, kind: pl.DataType) -> pl.Expr:
    """Return a Parquet column as text, a number or a timestamp."""
    column = pl.col(name)
    if kind.is_integer():
        return column  # float64 would not distinguish large ones
    if kind.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    if kind in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us"))
    if kind == pl.Duration:
        return column.dt.total_microseconds().cast(pl.Float64) / 1e6  # seconds
    if kind == pl.Time:
        return column.cast(pl.Duration("us")).dt.total_microseconds().cast(pl.Float64) / 1e6  # seconds
    return column.cast(pl.String)


def _open_text(path: Path, source: Path, given: Format, expected: Expected, folder: Path) -> _Part:
    name = str(path)
    encoding, encoding_notes = text_file.find_encoding(source, given, name, expected.spelling.encoding)
    text, whole = text_file.sample_of(source, encoding)
    if excel := EXCEL.match(text):
        given = replace(given, separator=given.separator or excel[1], comment="sep=")
    dialect = find_dialect(text, whole, given, name, expected)
    records = text_file.count_regular(source, dialect) if encoding in text_file.UNICODE and not given.comment else None
    separator, quote = dialect.separator, dialect.quote
    if records is None:
        target = folder / "plain.csv"
        records = text_file.rewrite(source, encoding, dialect, given, name, target)
        source, separator, quote = target, ",", '"'
    raw = pl.scan_csv(
        source,
        has_header=False,  # its names are looked up in the schema, and ours may differ by a space
        skip_rows=int(dialect.header),
        separator=separator,
        quote_char=quote,
        schema=dict.fromkeys(dialect.names, pl.String()),
        glob=False,
    )
    lazy = raw.with_columns(_words(given.missing))
    if numbers := _numbers(dialect):
        lazy = lazy.with_columns(numbers).with_columns(_words(given.missing))  # a number as in the file, or normalized
    notes = (*encoding_notes, *dialect.notes)
    return _Part(
        path,
        dialect.names,
        records - dialect.header,
        dialect.header,
        {},
        notes,
        lazy,
        raw,
        dialect.decimals,
        dialect.first_line,
    )


def _words(missing: Sequence[str]) -> pl.Expr:
    """Return stripped text; null if it is empty or means missing: -999 also as -999.0, as in pandas."""
    words = pl.col(pl.String).str.strip_chars(BLANKS)
    said = [word.strip() for word in missing]
    whole = [f"{word}.0" for word in said if WHOLE.fullmatch(word)]
    return pl.when(words.is_in(["", *said, *whole])).then(None).otherwise(words).name.keep()


def _numbers_that_mean_missing(missing: Sequence[str]) -> list[pl.Expr]:
    """Return the columns of numeric types, without numbers that mean missing, such as -999."""
    words = pl.Series(missing, dtype=pl.String).cast(pl.Float64, strict=False)
    numbers = words.filter(words.is_finite().fill_null(value=False)).to_list()
    column = cs.numeric()
    return [pl.when(column.cast(pl.Float64).is_in(numbers)).then(None).otherwise(column).name.keep()] if numbers else []


def _numbers(dialect: Dialect) -> list[pl.Expr]:
    """Return numbers with a decimal point and without groups, whatever the file's format."""
    text = pl.col(pl.String)
    if dialect.decimals.mark == ",":
        digits = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        foreign = text.str.contains(COMMAS) | text.str.contains(DOTS)  # groups may start after the sample
        return [pl.when(foreign).then(digits).otherwise(text).name.keep()]
    if dialect.decimals.grouped:
        digits = text.str.replace_all(",", "", literal=True)
        return [pl.when(text.str.contains(THOUSANDS)).then(digits).otherwise(text).name.keep()]
    return []


def _check_same_columns(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        lacks = [name for name in first.columns if name not in part.columns]
        has = [name for name in part.columns if name not in first.columns]
        if lacks or has:
            differences = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(has)} besides"] * bool(has)
            raise UserError(
                f"{part.path} {' and '.join(differences)}, compared with {first.path}; files of one table have the "
                "same columns. Name those that belong together, or name the columns alike."
            )


def _check_names(part: _Part, given: Format) -> None:
    """Refuse names that polars takes for patterns."""
    for name in part.columns:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise UserError(f"{part.path} has a column called {name!r}; rename it, or use {given.prefix}columns=[...].")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
