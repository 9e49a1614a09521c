"""The number format of a file: decimal points or commas, with or without digit grouping."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hypermap.core.cli_args import override
from hypermap.core.errors import UserError

MOSTLY = 0.9  # minimum share of numbers among a column's (distinct) cells, for a column to show the number format

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?")  # 1,5 and 1.234,5
GROUPED_NUMBER = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 1,234 and 1,234.5
DOTTED_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")  # 1.234: a thousand and more where decimals have commas

MINUS = "\u2212\u2013\u2010\u2011\ufe63\uff0d"  # typographic, as in Word and Excel
SIGNED = re.compile(rf"\(\s?([\d.,][^()]*?)\s?\)|[{MINUS}]\s?([\d.,].*)|[+-]\s([\d.,].*)|([\d.,].*)[-{MINUS}]")
GROUPS = "'\u2019\u00a0\u2009\u202f"  # between thousands only: a plain space may separate two numbers
GROUPED = re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:[{GROUPS}]\d{{3}})+(?:[.,]\d+)?")
# Words for nothing: without letters and digits, or a word that says so, or an error of Excel.
PLACEHOLDER = re.compile(
    r"[^\w\s]+|(?i:n\.? ?/?a\.?|n\.? ?d\.?|k\. ?a\.?|nil|void|missing|unknown|undefined|not available|#[\w/]+[!?]?)"
)

CALLED = {",": "commas", ".": "points"}


@dataclass(frozen=True)
class Decimals:
    """A number format.

    Attributes:
        mark: ``.`` or ``,``; None: no number shows it.
        grouped: digits are grouped, ``1,234.5`` (or ``1.234,5`` if `mark` is a comma).
        given: set by the user, not detected.
        separator: between cells: files that differ in it may differ in their numbers, too.
    """

    mark: str | None = None
    grouped: bool = False
    given: bool = False
    separator: str | None = None


UNKNOWN = Decimals()


@dataclass(frozen=True)
class Known:
    """What is known before a file is opened.

    Attributes:
        prefix: of settings in messages.
        given: the decimal mark set by the user.
        others: the number format that the file should have.
        whose: the origin of that format in messages.
    """

    prefix: str
    given: str | None = None
    others: Decimals = UNKNOWN
    whose: str = "the training table"


def looks_like_number(cell: str) -> bool:
    """Return whether a cell could be a number in some locale."""
    return any(pattern.fullmatch(bare(cell)) for pattern in (NUMBER, COMMA_NUMBER, GROUPED_NUMBER))


def bare(cell: str) -> str:
    """Return a number without unusual notation: the sign of (12.5), 12.5- or \u221212.5, groups as in 1'234.5."""
    found = SIGNED.fullmatch(cell)
    body = next(filter(None, found.groups())) if found else cell
    return re.sub(f"[{GROUPS}]", "", body) if GROUPED.fullmatch(body) else body


def find_decimals(
    rows: Sequence[Sequence[str]],
    names: Sequence[str],
    separator: str,
    missing: set[str],
    known: Known,
    name: str,
) -> tuple[Decimals, tuple[str, ...]]:
    """Return the number format of a file, and notes on it, from columns that are numbers in some locale.

    The user's setting comes first, then a format that alone makes sense of a column, then that of `known.others`: 1.443
    alone may be more than a thousand, or less than two.

    Args:
        rows: the file's first records, stripped.
        names: of their columns.
        separator: of their cells.
        missing: the words that mean missing.
        name: of the file, for messages.

    Raises:
        UserError: the numbers are ambiguous, or not in the format that was set for `known.others`.
    """
    seen = _seen(rows, names, missing)
    commas, points = seen["comma"] | seen["grouped comma"], seen["point"] | seen["grouped point"]
    mark = known.given or _decide(seen, commas, points, separator, known, name)
    others = known.others
    groups = ("dotted", "grouped comma") if mark == "," else ("either", "grouped point")
    own = any(seen[sort] for sort in groups)
    grouped = own or (others.grouped and mark == others.mark)
    notes = _notes(mark, bool(commas or points), any(seen[sort] for sort in ("dotted", "either")), known, name)
    if own:
        notes += (f"{name}: numbers have groups of thousands.",)
    return Decimals(mark, grouped, known.given is not None, separator), notes


def merged(found: Sequence[Decimals]) -> Decimals:
    """Return the number format that several files share."""
    marks = {decimals.mark for decimals in found} - {None}
    if len(marks) != 1:
        return UNKNOWN
    grouped, given = any(one.grouped for one in found), any(one.given for one in found)
    separators = {decimals.separator for decimals in found if decimals.mark}
    return Decimals(marks.pop(), grouped, given, separators.pop() if len(separators) == 1 else None)


def _seen(rows: Sequence[Sequence[str]], names: Sequence[str], missing: set[str]) -> defaultdict[str, dict[str, str]]:
    """Return the first number of each sort, by sort and column."""
    seen: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for k, column in enumerate(names):
        present = [row[k] for row in rows if k < len(row) and row[k] not in missing]
        cells = [cell for cell in present if not PLACEHOLDER.fullmatch(cell)]
        numbers = [cell for cell in cells if looks_like_number(cell)]
        if len(numbers) >= MOSTLY * len(cells) or len({*numbers}) >= MOSTLY * len({*cells}):
            for cell in numbers:
                seen[_sort_of_number(cell)].setdefault(column, cell)
    return seen


def _decide(
    seen: dict[str, dict[str, str]],
    commas: dict[str, str],
    points: dict[str, str],
    separator: str,
    known: Known,
    name: str,
) -> str | None:
    """Return the decimal mark: the file's own, else that of the others."""
    others = known.others
    if commas and points:
        if others.given:
            return others.mark
        raise _ambiguous(name, known, {**seen["either"], **points, **commas})
    own = "," if commas else "." if points else None
    if own is not None:
        if others.given and own != others.mark:
            raise _contradicted(name, known, own, commas or points)
        return own
    if seen["either"] and others.mark != "," and not others.grouped:
        raise _ambiguous(name, known, seen["either"])
    foreign = separator == "," != others.separator  # if commas separate cells, they are rarely within them
    if seen["dotted"] and others.mark == "," and (foreign or not others.grouped):
        raise _ambiguous(name, known, seen["dotted"])
    return others.mark or ("." if seen["dotted"] else None)


def _sort_of_number(cell: str) -> str:
    """Return what a number shows: decimal commas, decimal points, or ``either``."""
    cell = bare(cell)
    if GROUPED_NUMBER.fullmatch(cell):
        return "either" if COMMA_NUMBER.fullmatch(cell) else "grouped point"
    if COMMA_NUMBER.fullmatch(cell):
        return "grouped comma" if "." in cell else "comma"
    if DOTTED_GROUPS.fullmatch(cell):
        return "dotted"  # with decimal commas these are thousands, otherwise decimals
    return "point" if "." in cell else "whole"


def _notes(mark: str | None, own: bool, unsure: bool, known: Known, name: str) -> tuple[str, ...]:
    others = known.others.mark
    if known.given is not None or mark is None:
        return ()
    if own and others is not None and mark != others:
        return (f"{name}: numbers have decimal {CALLED[mark]}, unlike those of {known.whose}.",)
    if not own and unsure and mark == ",":
        return (
            f"{name}: numbers have decimal commas, as those of {known.whose} ({known.prefix}decimal=. if these have "
            "points).",
        )
    return (f"{name}: numbers have decimal commas.",) if own and mark == "," else ()


def _ambiguous(name: str, known: Known, cells: dict[str, str]) -> UserError:
    mark = "comma" if any("," in cell for cell in cells.values()) else "point"
    like = f", and {known.whose} does not settle it" if known.others.mark else ""
    return UserError(
        f"{name}: the {mark} in numbers may be a decimal one or part thousands ({_shown(cells)}){like}. Say which: "
        f"{override(known.prefix + 'decimal', ',')} or {override(known.prefix + 'decimal', '.')}."
    )


def _contradicted(name: str, known: Known, own: str, cells: dict[str, str]) -> UserError:
    said = CALLED[known.others.mark or "."]
    return UserError(
        f"{name}: numbers have decimal {CALLED[own]} ({_shown(cells)}), and {known.whose} was said to have {said}. If "
        f"this file is right, say so: {override(known.prefix + 'decimal', own)}."
    )


def _shown(cells: dict[str, str]) -> str:
    return ", ".join(f"{cell!r} in column {column!r}" for column, cell in list(cells.items())[:3])
