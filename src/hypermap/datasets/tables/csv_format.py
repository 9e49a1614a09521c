"""The format of a CSV file: given settings, and detection from its first lines."""

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hypermap.core.cli_args import override
from hypermap.core.errors import UserError
from hypermap.datasets.tables.columns import FALSE, TRUE
from hypermap.datasets.tables.dates import find_formats
from hypermap.datasets.tables.number_format import UNKNOWN, Decimals, Known, find_decimals, looks_like_number
from hypermap.datasets.tables.numbers import with_units

# The missing values of pandas, and the question mark of the UCI repository. An empty cell is always missing.
MISSING_VALUES = (
    "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "#N/A N/A", "NaN", "nan", "-NaN", "-nan", "NaT", "NULL", "Null", "null",
    "None", "none", "?", "\\N", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
)  # fmt: skip

COMMENTS = tuple("#%!*;/")
SHOWN = 60  # characters of a line in a message
FEW = 10  # words that are tried first
LEAST_COUNTED = 3  # minimum number of columns; a row may have 0 and 1 by coincidence
SEPARATORS = (
    "\x01",
    "\t",
    ";",
    "|",
    ",",
    " ",
)  # in order of preference: a comma may be decimal, a space part of a cell
SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "blank": " ", "space": " "}
BLANKS = (
    "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\u200b\u200e\u200f\u2060\ufeff"
)  # invisible
YES_AND_NO = {word for word in (*TRUE, *FALSE) if len(word) > 1}
NAMED = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", " ": "blanks", "\x01": "bytes of 1"}

Records = list[list[str]]


@dataclass(frozen=True)
class Format:
    """The user's settings of a file; None: detect. Construction checks the values.

    Attributes:
        separator: one character, or its name: tab, comma, semicolon, pipe, blank.
        header: whether the first line holds the columns' names.
        quote: the character around cells that contain a separator; None: there is none.
        encoding: as Python names it, such as ``utf-8``, ``cp1252``, ``utf-16``.
        decimal: ``.`` or ``,``.
        comment: lines that start with it are skipped.
        missing_values: the words that mean missing, besides an empty cell; None: `MISSING_VALUES`.
        columns: names for all columns, in order.
        prefix: of the settings in messages: ``data.`` in a configuration.
    """

    separator: str | None = None
    header: bool | None = None
    quote: str | None = '"'
    encoding: str | None = None
    decimal: str | None = None
    comment: str | None = None
    missing_values: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    prefix: str = "data."

    def __post_init__(self) -> None:
        object.__setattr__(self, "separator", SPELLED.get(str(self.separator), self.separator))
        self._check_character("separator", "',', ';', 'tab', '|' or 'blank'")
        self._check_character("quote", "'\"', or null where cells are not quoted")
        if self.decimal not in (None, ".", ","):
            raise UserError(f"{self.prefix}decimal is {self.decimal!r}; it is '.', ',' or null, to find it.")
        if self.decimal == "," and self.separator == ",":
            raise UserError(f"{self.prefix}decimal and {self.prefix}separator are both a comma; one must differ.")
        if self.encoding is not None:
            self._check_encoding()

    @property
    def missing(self) -> tuple[str, ...]:
        """The words that mean missing."""
        if self.missing_values is None:
            return MISSING_VALUES
        words = [self.missing_values] if isinstance(self.missing_values, str) else self.missing_values
        return tuple(str(word) for word in words)

    def _check_character(self, name: str, allowed: str) -> None:
        given = getattr(self, name)
        if given is not None and (not isinstance(given, str) or len(given.encode()) != 1 or given in "\r\n"):
            raise UserError(f"{self.prefix}{name} is {given!r}; it is one character, such as {allowed}.")

    def _check_encoding(self) -> None:
        try:
            "".encode(str(self.encoding))
        except LookupError:
            raise UserError(
                f"{self.prefix}encoding is {self.encoding!r}, which Python does not know; try utf-8, cp1252 "
                "(Windows), latin-1, utf-16 or shift_jis, or null to find it."
            ) from None


@dataclass(frozen=True)
class CsvFormat:
    """The detected or given format of a table's files, as far as another file of the table may not show it.

    Attributes:
        decimals: how numbers are spelled.
        first_line: the header's cells, if the columns were renamed.
        separator, encoding: as given.
        quote, comment, missing_values: as in `Format`.
    """

    decimals: Decimals = UNKNOWN
    first_line: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str | None = None
    quote: str | None = '"'
    comment: str | None = None
    missing_values: tuple[str, ...] | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "CsvFormat":
        """Return the format of an entry from `as_entry`."""
        missing = entry["missing_values"]
        return cls(
            **{
                **entry,
                "decimals": Decimals(**entry["decimals"]),
                "first_line": tuple(entry["first_line"]),
                "missing_values": None if missing is None else tuple(missing),
            }
        )

    def as_entry(self) -> dict[str, Any]:
        """Return the format as a JSON entry."""
        missing = None if self.missing_values is None else list(self.missing_values)
        return {**asdict(self), "first_line": list(self.first_line), "missing_values": missing}


USUAL = CsvFormat()


@dataclass(frozen=True)
class Expected:
    """What is known about a file's columns beforehand.

    Attributes:
        header: names, some of which a header would have.
        orders: lists of names; a file without a header gets the list with its number of columns.
        spelling: the format of the training table.
        decimals: the number format that the file should have; `whose` describes its origin in messages.
    """

    header: tuple[str, ...] = ()
    orders: tuple[tuple[str, ...], ...] = ()
    spelling: CsvFormat = USUAL
    decimals: Decimals = UNKNOWN
    whose: str = "the training table"


NOTHING = Expected()


@dataclass(frozen=True)
class Dialect:
    """The format of one file.

    Attributes:
        names: the columns' names, in order.
        decimals: its number format.
        notes: for the user.
        first_line: the header's cells, if the columns were renamed.
    """

    separator: str
    quote: str | None
    header: bool
    names: tuple[str, ...]
    decimals: Decimals = UNKNOWN
    notes: tuple[str, ...] = ()
    first_line: tuple[str, ...] = ()


class Lines:
    """The lines of a stream for `csv.reader`, without comments; `number` counts all from 1, `line` is the last."""

    def __init__(self, stream: io.TextIOBase, comment: str | None) -> None:
        self.stream, self.comment = stream, comment
        self.number, self.line = 0, ""
        self.between = True  # whether a record may start here; within a quoted cell there are no comments

    def __iter__(self) -> Iterator[str]:
        for line in self.stream:
            self.number, self.line = self.number + 1, line
            if self.comment and self.between and line.startswith(self.comment):
                continue
            self.between = False
            yield line


def records(lines: Lines, separator: str, quote: str | None) -> Iterator[list[str]]:
    """Yield the records of a text, as read by Python's csv module, without blank lines.

    Raises:
        csv.Error: a quote is not closed, or closed within a cell; a cell is too long.
    """
    quoting: Literal[0, 3] = 0 if quote else 3  # csv.QUOTE_MINIMAL, csv.QUOTE_NONE
    # Spaces after a separator are skipped, so that `1, "a, b"` has two cells, and several spaces are one separator.
    reader = csv.reader(
        lines, delimiter=separator, quotechar=quote, quoting=quoting, skipinitialspace=True, strict=True
    )
    for record in reader:
        lines.between = True
        if separator == " " and len(record) > 1 and not record[-1]:
            record.pop()  # spaces at the end of a line
        if record and not (len(record) == 1 and not record[0].strip()):
            yield record


def find_dialect(text: str, whole: bool, given: Format, name: str, expected: Expected = NOTHING) -> Dialect:
    """Return the dialect of a file from its first lines.

    Args:
        text: the file's beginning.
        whole: whether that is all of it; else its last record is ignored.
        given: settings; these are not detected.
        name: of the file, for messages.
        expected: what is known about the columns.

    Raises:
        UserError: the file is empty, its header has a name twice, or its numbers can be read in two ways.
    """

    if text.lstrip()[:1] in ("{", "[", "<"):
        raise UserError(
            f"{name} begins with {text.lstrip()[:1]!r}, as JSON or HTML does. Export the table as CSV or Parquet."
        )

    def parsed(separator: str, quote: str | None = given.quote) -> Records:
        found = list(_patiently(records(Lines(io.StringIO(text, newline=""), given.comment), separator, quote)))
        return found if whole or len(found) < 2 else found[:-1]

    def found_separator(quote: str | None) -> str:
        return given.separator or _find_separator(lambda each: parsed(each, quote), expected.spelling.separator)

    separator, quote = found_separator(given.quote), given.quote
    if quote == '"':
        single = found_separator("'")
        if _is_single_quoted(text, whole, given.comment, separator, single):
            separator, quote = single, "'"
    sample = parsed(separator, quote)
    if not sample:
        what = "begins with what cannot be read" if text.strip() else "is empty: it has neither a header nor rows"
        raise UserError(f"{name} {what}. Export the table as CSV or Parquet.")
    missing = {"", *given.missing}
    cells = [[cell.strip(BLANKS) for cell in record] for record in sample]
    _check_beginning(cells, given, name)
    cells[0] = completed(cells[0], cells[1:], given)
    header = _find_header(cells, given, missing, expected)
    names = _names(cells[0], header, given, name, expected)
    known = Known(given.prefix, given.decimal, expected.decimals, expected.whose)
    decimals, notes = find_decimals(cells[1:] if header else cells, names, separator, missing, known, name)
    notes = (*_quote_notes(name, quote, given), *_notes(name, header, given, expected, names), *notes)
    renamed = tuple(cells[0]) if header and tuple(cells[0]) != names else ()
    return Dialect(separator, quote, header, names, decimals, notes, renamed)


def completed(first: list[str], below: Records, given: Format) -> list[str]:
    """Return the first line with an additional empty name if all lines below have one cell more.

    This is how R writes row names, which have no header; or a separator ends every line but the first.
    """
    if given.header is False or not below or any(len(row) != len(first) + 1 for row in below):
        return first
    return ["", *first] if any(row[-1] for row in below) else [*first, ""]


def _check_beginning(cells: Records, given: Format, name: str) -> None:
    """Refuse lines above the table, such as a title.

    Raises:
        UserError: with their number, and what to do.
    """
    widths = [len(row) for row in cells]
    usual = max(set(widths), key=widths.count)
    above = next((k for k, row in enumerate(cells) if not _is_no_part(row, usual)), 0)
    if not above:
        return
    marks = {row[0][:1] for row in cells[:above]}
    remedy = "Remove what stands above the columns' names"
    if len(marks) == 1 and (mark := marks.pop()) in COMMENTS and given.comment is None:
        remedy = f"If lines that begin so are comments, say {override(f'{given.prefix}comment', mark)}"
    lines = "first line reads" if above == 1 else f"first {above} lines read"
    raise UserError(f"{name}: its {lines} as no part of the table ({_shown(cells[0])}). {remedy}.")


def _is_no_part(row: list[str], usual: int) -> bool:
    """Return whether a line above a table with `usual` columns is not part of it: a title, or a comment."""
    if len(row) == 1 < usual:
        return usual > 2 or " " in row[0]  # else it may name one column, next to an index
    comment = len(row) != usual and row[0][:1] in COMMENTS
    return comment or (usual > 2 and bool(row[0]) and not any(row[1:]))


def _shown(record: list[str]) -> str:
    text = " ".join(filter(None, record))
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def _patiently(found: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the records before one that cannot be read."""
    try:
        yield from found
    except csv.Error:
        return


def _find_separator(parsed: Callable[[str], Records], usual: str | None) -> str:
    """Return the first separator that gives every record the same number of cells (above 1), else the best one."""
    shares = {}
    candidates = dict.fromkeys([*([usual] if usual else []), *SEPARATORS])
    for separator in candidates:
        widths = [len(record) for record in parsed(separator)]
        width = max(set(widths), key=widths.count, default=0)
        shares[separator] = widths.count(width) / len(widths) if width > 1 else 0.0
    best = max(candidates, key=lambda separator: shares[separator])  # the first of equal ones
    return best if shares[best] > 0 else ","


def _is_single_quoted(text: str, whole: bool, comment: str | None, double: str, single: str) -> bool:
    """Return whether cells that hold a separator are in single quotes.

    That is the case if no cell starts with a double quote, every single quote that starts a cell is closed at its end,
    and single quotes make all records equally long: either only they do, or with the same separator they give fewer
    cells.

    Args:
        text: the file's beginning.
        whole: whether that is all of it; else its last record is ignored.
        comment: the beginning of lines to skip.
        double: the separator that is found with double quotes.
        single: the separator that is found with single quotes.
    """
    if "'" not in text:
        return False
    lines = Lines(io.StringIO(text, newline=""), comment)
    found: Records = []
    try:
        for record in records(lines, single, "'"):
            found.append(record)
    except csv.Error:
        if whole or next(iter(lines), None) is not None:  # else the last record is cut off within a cell
            return False
    plain = list(_patiently(records(Lines(io.StringIO(text, newline=""), comment), double, None)))
    if any(cell.startswith('"') for record in plain for cell in record):
        return False
    last = None if whole or len(found) < 2 else -1
    with_single, with_double = ({len(record) for record in some[:last]} for some in (found, plain))
    if len(with_single) != 1:
        return False
    return len(with_double) > 1 or (single == double and min(with_single) < min(with_double))


def _find_header(cells: Records, given: Format, missing: set[str], expected: Expected) -> bool:
    """Return whether the first line is a header: its cells differ in type from those below."""
    if given.header is not None:
        return given.header
    first, below = cells[0], cells[1:]
    if known := set(first) & {*expected.header, *expected.spelling.first_line} - {""}:
        others = [row for row in below if row != first]  # concatenated files repeat their header
        return _may_be_header(first, _columns(first, others, missing), known)
    if given.columns is not None or expected.orders:
        return False
    if _counts(first):
        return not (below and _goes_on(first, below[0]))
    if any(looks_like_number(cell) for cell in first) or not any(first):
        return False
    columns = _columns(first, below, missing)
    if any(_is_value(cell, column) for cell, column in zip(first, columns, strict=True)):
        return False
    return _has_word_above_numbers(first, columns) or not _comes_again(first, columns)


def _columns(first: list[str], below: Records, missing: set[str]) -> list[set[str]]:
    """Return the distinct values below each cell of the first line."""
    return [{row[k] for row in below if k < len(row)} - missing for k in range(len(first))]


def _has_word_above_numbers(first: list[str], columns: list[set[str]]) -> bool:
    return any(
        cell and column and not looks_like_number(cell) and all(map(looks_like_number, column))
        for cell, column in zip(first, columns, strict=True)
    )


def _is_value(cell: str, column: set[str]) -> bool:
    """Return whether a cell is a date above dates, a number with a unit above such numbers, or a yes or no above these.

    A date above other cells may be a name, like 2020-01-31 above counts; and so may a single letter, like y above y and
    n.
    """
    if not column:
        return False
    words = [cell, *sorted(column)]
    if not any(character.isdigit() for character in cell):
        return {word.lower() for word in words} <= YES_AND_NO
    return bool(find_formats(words)) or (_have_units(words[:FEW]) and _have_units(words))


def _have_units(words: list[str]) -> bool:
    return len(with_units(words)) == len(words)


def _comes_again(first: list[str], columns: list[set[str]]) -> bool:
    return any(cell in column for cell, column in zip(first, columns, strict=True))


def _counts(cells: list[str]) -> bool:
    """Return whether a line numbers its columns, as pandas does for unnamed ones, possibly next to an index."""
    named = cells[1:] if cells[0] == "" else cells
    numbers = [str(k) for k in range(len(named) + 1)]
    return len(named) >= LEAST_COUNTED and named in (numbers[:-1], numbers[1:])


def _goes_on(first: list[str], second: list[str]) -> bool:
    """Return whether the second line continues the count of the first one: these are numbers in order."""
    return second == [str(k) for k in range(int(first[-1]) + 1, int(first[-1]) + 1 + len(first))]


def _may_be_header(first: list[str], columns: list[set[str]], known: set[str]) -> bool:
    """Return whether nothing contradicts a first line with known names, which may be values by coincidence.

    If all known names are numbers, such as years, the first line must have no fractions, and no cell like those below.
    """
    if set(first) <= known and len(first) > 1:
        return True
    if all(map(looks_like_number, known)):
        whole = all(cell.isdecimal() or not looks_like_number(cell) for cell in first)
        return whole and all(_may_name(cell, column) for cell, column in zip(first, columns, strict=True) if cell)
    again = any(cell in known and cell in column for cell, column in zip(first, columns, strict=True))
    return not again or _has_word_above_numbers(first, columns)


def _may_name(cell: str, column: set[str]) -> bool:
    """Return whether a cell differs from the values below it; an integer does above fractions or out of their range."""
    if cell in column:
        return False
    if not cell.isdecimal() or not all(re.fullmatch(r"[+-]?\d+", value) for value in column):
        return True
    return not column or not min(map(int, column)) <= int(cell) <= max(map(int, column))


def _names(first: list[str], header: bool, given: Format, name: str, expected: Expected) -> tuple[str, ...]:
    if given.columns is not None:
        names = [str(column) for column in given.columns]
        if len(names) != len(first):
            raise UserError(f"{given.prefix}columns has {len(names)} names; {name} has {len(first)} columns.")
    elif header:
        names = [cell or f"column_{k}" for k, cell in enumerate(_renamed(first, expected), 1)]
    else:
        numbered = [f"column_{k}" for k in range(1, len(first) + 1)]
        names = next((list(known) for known in expected.orders if len(known) == len(first)), numbered)
    if twice := sorted({column for column in names if names.count(column) > 1}):
        places = " and ".join(str(k) for k, column in enumerate(names, 1) if column == twice[0])
        raise UserError(
            f"{name}: {', '.join(map(repr, twice))} is the name of more than one column (columns {places}). Rename one "
            f"in the file, or name them all: {override(f'{given.prefix}columns', _distinct(names))}"
            + (f" {given.prefix}header=true." if header else ".")
        )
    return tuple(names)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number appended to repeated ones."""
    found: list[str] = []
    for name in names:
        others = (f"{name}_{k}" for k in itertools.count(2))
        found.append(name if name not in found else next(other for other in others if other not in (*found, *names)))
    return found


def _notes(name: str, header: bool, given: Format, expected: Expected, names: Sequence[str]) -> tuple[str, ...]:
    if header or given.header is not None or given.columns is not None or expected.orders:
        return ()
    return (
        f"{name}: its first line reads as data, so there is no header, and the columns are called {names[0]} to "
        f"{names[-1]} ({given.prefix}header=true otherwise).",
    )


def _quote_notes(name: str, quote: str | None, given: Format) -> tuple[str, ...]:
    if quote == given.quote:
        return ()
    return (f"{name}: cells are in single quotes ({given.prefix}quote=null if the quotes are part of the text).",)


def _renamed(first: list[str], expected: Expected) -> list[str]:
    """Return the names of a header, renamed like the columns of the training table."""
    usual = expected.spelling.first_line
    if tuple(first) == usual:
        return list(expected.header)
    others = {cell: name for cell, name in zip(usual, expected.header, strict=False) if usual.count(cell) == 1}
    return [others.get(cell, cell) for cell in first]
