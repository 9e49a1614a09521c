"""Makes a text file readable for polars: UTF-8, with equally many cells in each record.

Most files are already. Any other is converted into a temporary folder, record by record, by Python's csv module, which
handles unusual files.
"""

import codecs
import csv
import re
from pathlib import Path

from hypermap.core.errors import UserError
from hypermap.datasets.tables.csv_format import NAMED, Dialect, Format, Lines, records

CHUNK = 1 << 22  # bytes; small enough for a processor's cache
SHOWN = 60  # characters of an unreadable line in a message
SAMPLE = 1 << 18  # characters
LONGEST_RECORD = 1 << 26  # bytes; beyond this, a quote is not closed
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its prefix
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNICODE = ("utf-8", "utf-8-sig")
# A whole quoted cell; quotes inside are doubled.
QUOTED = (
    rb"(?<![^%(separator)s\n])%(quote)s[^%(quote)s]*+(?:%(quote)s%(quote)s[^%(quote)s]*+)*+%(quote)s"
    rb"(?![^%(separator)s\r\n])"
)


def find_encoding(path: Path, given: Format, name: str, usual: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Return a file's encoding, and notes on it. This reads the whole file.

    Args:
        usual: the encoding that was set for other files of the table; None: it was detected.

    Raises:
        UserError: the encoding cannot be detected, or is not the given one.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    if given.encoding:
        encoding = codecs.lookup(given.encoding).name
        if not _decodes(path, encoding):
            raise UserError(f"{name} is not all {given.encoding}: set {given.prefix}encoding to null to find it.")
        return ("utf-8-sig" if encoding == "utf-8" and start.startswith(codecs.BOM_UTF8) else encoding), ()
    if marked := next((encoding for mark, encoding in BOMS if start.startswith(mark)), None):
        if not _decodes(path, marked):
            raise UserError(f"{name} begins as {marked}, but is damaged further on; get it again.")
        return marked, ()
    if usual and _is_in(usual, path, start):
        return codecs.lookup(usual).name, ()
    if b"\0" in start:
        raise UserError(
            f"{name} holds bytes of zero, as no text in UTF-8 does. If it is UTF-16, say "
            f"{given.prefix}encoding=utf-16-le (or -be); if it is no text, export it as CSV or Parquet."
        )
    if _decodes(path, "utf-8"):
        note = f"{name} is UTF-8, unlike the training table ({given.prefix}encoding={usual} if that is wrong)."
        return "utf-8", (note,) if usual else ()
    if _decodes(path, "cp1252"):
        note = f"{name} is no UTF-8 and was read as Windows-1252 ({given.prefix}encoding=... if that is wrong)."
        if line := _line_that_is_not_utf8(path):
            note = (
                f"{name} is UTF-8 up to line {line:,}, which is not, so that all was read as Windows-1252 and letters "
                "such as ä come out as two. Write that line in UTF-8, too."
            )
        return "cp1252", (note,)
    raise UserError(f"{name} is in neither UTF-8 nor Windows-1252: give its encoding with {given.prefix}encoding=...")


def sample_of(path: Path, encoding: str) -> tuple[str, bool]:
    """Return the start of a file's text, and whether that is all of it."""
    with path.open(encoding=encoding, newline="") as file:
        text = file.read(SAMPLE)
        return text, not file.read(1)


def count_regular(path: Path, dialect: Dialect) -> int | None:
    """Return the number of records of a UTF-8 file, including the header; None if polars would misread some.

    Polars reads it correctly if every record has its own lines and the same number of cells, and no line is blank.
    """
    quote = (dialect.quote or "").encode()
    others = bytes(set(range(256)) - set(f"{dialect.separator}\n".encode()))
    record = dialect.separator.encode() * (len(dialect.names) - 1) + b"\n"  # without the content of cells
    separator = re.escape(dialect.separator.encode())
    quoted = re.compile(QUOTED % {b"quote": re.escape(quote), b"separator": separator}) if quote else None
    count, rest = 0, b""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while True:
            chunk = file.read(CHUNK)
            text = rest + (chunk or b"\n" * bool(rest))  # the last line may lack a newline
            if not text:
                return count
            end = _end_of_records(text, quote)
            left = text[:end]
            if quoted and quote in left:
                left = quoted.sub(b"", left)
                if quote in left:
                    return None  # within a cell, where it is an ordinary character
            left = left.translate(None, others)
            rows = left.count(b"\n")
            if left != record * rows or _is_odd(text[:end], dialect) or (not end and len(text) > LONGEST_RECORD):
                return None
            if not (chunk or end):
                return None  # an unclosed quote
            count, rest = count + rows, text[end:]


def rewrite(path: Path, encoding: str, dialect: Dialect, given: Format, name: str, target: Path) -> int:
    """Write a file to `target` as UTF-8 with commas; return its number of records, including the header.

    Raises:
        UserError: a record has more or fewer cells than there are columns; with its line.
    """
    count, cells = 0, len(dialect.names)
    with path.open(encoding=encoding, newline="") as source, target.open("w", encoding="utf-8", newline="") as sink:
        lines, writer = Lines(source, given.comment), csv.writer(sink, lineterminator="\n")
        try:
            for record in records(lines, dialect.separator, dialect.quote):
                if count == 0 and dialect.header and len(record) == cells - 1:
                    record = list(dialect.first_line)
                if len(record) != cells:
                    raise UserError(_ragged(name, lines.number, record, dialect, given))
                writer.writerow(record)
                count += 1
        except csv.Error as error:
            if f"\\{dialect.quote}" in lines.line:
                raise UserError(
                    f"{name}: line {lines.number} has a quote behind a backslash, which CSV has not; write quotes "
                    "within cells twice, or export the table so or as Parquet."
                ) from None
            raise UserError(
                f"{name}: line {lines.number} cannot be read ({error}); a quote that is opened must be closed. If "
                f"cells are not quoted, say {given.prefix}quote=null."
            ) from None
    return count


def _end_of_records(text: bytes, quote: bytes) -> int:
    """Return the end of the last complete record: after a newline that is not within quotes; 0 if there is none."""
    end = text.rfind(b"\n") + 1
    while end and quote and text.count(quote, 0, end) % 2:
        end = text.rfind(b"\n", 0, text.rfind(quote, 0, end)) + 1  # the cell that this quote opens is not closed
    return end


def _is_odd(text: bytes, dialect: Dialect) -> bool:
    """Return whether records have features that Python's csv module reads better than polars."""
    blank_lines = text.startswith((b"\n", b"\r\n")) or b"\n\n" in text or b"\n\r\n" in text
    blank_before_quote = bool(dialect.quote) and f"{dialect.separator} {dialect.quote}".encode() in text
    return blank_lines or blank_before_quote or b"\0" in text or text.count(b"\r") != text.count(b"\r\n")


def _ragged(name: str, line: int, record: list[str], dialect: Dialect, given: Format) -> str:
    start = dialect.separator.join(record)
    start = start if len(start) <= SHOWN else f"{start[:SHOWN]}..."
    return (
        f"{name}: line {line} has {len(record)} cells where the first has {len(dialect.names)}, separated by "
        f"{NAMED.get(dialect.separator, repr(dialect.separator))}: {start!r}. Fix the line (a cell that holds a "
        f"separator must be quoted), or say {given.prefix}separator=... or {given.prefix}comment=... if that is wrong."
    )


def _is_in(usual: str, path: Path, start: bytes) -> bool:
    """Return whether a file can be in this encoding, and is not more likely UTF-8."""
    letters = b"\0" not in start and not _decodes(path, "ascii")
    if codecs.lookup(usual).name != "utf-8" and letters and _decodes(path, "utf-8"):
        return False
    return _decodes(path, usual)


def _line_that_is_not_utf8(path: Path) -> int | None:
    """Return the first line that is not UTF-8, if earlier lines have non-ASCII UTF-8 letters; else None."""
    letters = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                letters |= not line.decode("utf-8").isascii()
            except UnicodeDecodeError:
                return number if letters else None
    return None


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True
