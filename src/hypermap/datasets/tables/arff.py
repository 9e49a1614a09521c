"""ARFF, the format of Weka and Mulan: rewritten as CSV, whose reader then finds the types of the columns.

https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypermap.core.errors import UserError

SKIPPED = re.compile(rb"(?:\s|%[^\n]*(?:\n|$))*")
BEGINS = re.compile(rb"@relation\b", re.IGNORECASE)
ATTRIBUTE = re.compile(
    r"""@attribute\s+(?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<plain>\S+))\s+(?P<kind>.+)""",
    re.IGNORECASE,
)
CELL = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(?:,|$)""")
WEIGHT = re.compile(r"\s*,\s*\{[^{}]*\}$")  # of a row, which is not read
SPARSE = re.compile(r"\{(.*?)\}(?:\s*,\s*\{[^{}]*\})?")
ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
CONTROL = {"n": "\n", "t": "\t", "r": "\r"}
MISSING = "?"


@dataclass(frozen=True)
class Attribute:
    """A column; `first` is what a sparse row leaves out: 0, or the first of the listed values."""

    name: str
    first: str


def is_arff(start: bytes) -> bool:
    """Return whether a file that starts so is ARFF."""
    skipped = SKIPPED.match(start)
    return BEGINS.match(start, skipped.end() if skipped else 0) is not None


def rewrite(path: Path, name: str, encoding: str, target: Path) -> None:
    """Write the rows of an ARFF file to `target` as CSV in UTF-8, with a header; a missing value is an empty cell.

    Args:
        path: dense or sparse; weights of rows are ignored.
        name: of the file, in messages.
        encoding: of the file.
        target: the CSV file.

    Raises:
        UserError: a line is not ARFF; names the line.
    """
    attributes: list[Attribute] = []
    in_data = False
    with path.open(encoding=encoding) as source, target.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        for number, line in enumerate(source, 1):
            text = line.strip()
            if not text or text.startswith("%"):
                continue
            if in_data:
                writer.writerow(_row(text, attributes, f"{name}: line {number}"))
            elif text.lower().startswith("@data"):
                if not attributes:
                    raise UserError(f"{name}: @data in line {number} comes before any @attribute.")
                writer.writerow([attribute.name for attribute in attributes])
                in_data = True
            elif text.lower().startswith("@attribute"):
                attributes.append(_attribute(text, f"{name}: line {number}"))
            elif not text.lower().startswith("@relation"):
                raise UserError(f"{name}: line {number} is {text[:60]!r}; before @data there are attributes alone.")
    if not in_data:
        raise UserError(f"{name} has no @data: it is cut off, or no ARFF file.")


def _attribute(text: str, where: str) -> Attribute:
    found = ATTRIBUTE.fullmatch(text)
    if found is None:
        raise UserError(f"{where} is {text[:60]!r}; an attribute is @attribute NAME TYPE.")
    quoted = found["single"] if found["single"] is not None else found["double"]
    name = found["plain"] if quoted is None else _unescaped(quoted)
    kind = found["kind"].strip()
    if kind.startswith("{"):
        first, _ = next(_cells(kind[1:].rpartition("}")[0]))
        return Attribute(name, first)
    if kind.split()[0].lower() == "relational":
        raise UserError(f"{where}: the attribute {name!r} is relational, a table in each cell, which is not read.")
    return Attribute(name, "0" if kind.split()[0].lower() in ("numeric", "real", "integer") else "")


def _row(text: str, attributes: list[Attribute], where: str) -> list[str]:
    if text.startswith("{"):
        return _sparse(text, attributes, where)
    cells = list(_cells(WEIGHT.sub("", text)))
    if len(cells) != len(attributes):
        raise UserError(f"{where} has {len(cells)} values, and there are {len(attributes)} attributes.")
    return ["" if cell == MISSING and not quoted else cell for cell, quoted in cells]


def _sparse(text: str, attributes: list[Attribute], where: str) -> list[str]:
    row = [attribute.first for attribute in attributes]
    found = SPARSE.fullmatch(text)
    if found is None:
        raise UserError(f"{where} begins with a brace, as a sparse row does, and has none at its end.")
    for pair in _pairs(found[1]):
        place, _, value = pair.strip().partition(" ")
        if not place.isdigit() or int(place) >= len(attributes) or not value.strip():
            raise UserError(
                f"{where} has {pair.strip()[:40]!r}; in a sparse row each value follows its attribute's place, 0 to "
                f"{len(attributes) - 1}."
            )
        ((cell, quoted),) = list(_cells(value.strip())) or [("", False)]
        row[int(place)] = "" if cell == MISSING and not quoted else cell
    return row


def _pairs(text: str) -> Iterator[str]:
    """Yield what stands between commas outside of quotes."""
    start, quote = 0, ""
    for k, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[k - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        elif letter == ",":
            yield text[start:k]
            start = k + 1
    if text[start:].strip():
        yield text[start:]


def _cells(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each value, and whether it was quoted."""
    place = 0
    while True:
        found = CELL.match(text, place)
        if found is None:  # a quote that is not closed, or letters behind one: as it stands
            yield text[place:].strip(), False
            return
        single, double, plain = found.groups()
        quoted = single if single is not None else double
        yield (plain, False) if quoted is None else (_unescaped(quoted), True)
        if found.end() == len(text) and not text[: found.end()].endswith(","):
            return
        place = found.end()


def _unescaped(text: str) -> str:
    def letter(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else CONTROL.get(code, code)

    return ESCAPED.sub(letter, text)
