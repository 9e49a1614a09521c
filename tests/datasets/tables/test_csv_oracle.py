"""What is found of a file beside what DuckDB's sniffer finds: separator, header, names and cells."""

import csv
import io
import random
import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.tables.csv_format import Format, Lines, find_dialect, records

Found = tuple[str, bool, list[str], list[list[str]]]  # the separator, whether there is a header, its names, the rows

SAME = {
    "commas": "a,b\n1,x\n2,y\n",
    "semicolons": "a;b\n1;x\n2;y\n",
    "tabs": "a\tb\n1\tx\n2\ty\n",
    "bars": "a|b\n1|x\n2|y\n",
    "commas within cells of semicolons": 'name;where\n"a, b, c";x\n"d, e, f";y\n"g, h;i";z\n',
    "semicolons within cells of commas": "text,n\na;b;c,1\nd;e;f,2\n",
    "bars within quoted cells": 'a|b\n"x|y"|1\n"z"|2\n',
    "every cell is quoted": '"a";"b"\n"1";"2"\n"3";"4"\n',
    "names with separators": '"a, b";c\n1;2\n3;4\n',
    "doubled quotes": 'a,b\n"say ""no""",1\n"x, y",2\n"z",3\n',
    "single quotes": "name,n\n'a, b',1\n'c, d',2\n'e',3\n",
    "single quotes without a header": "'a, b',1\n'c, d',2\n'e, f',3\n",
    "single quotes around semicolons": "name;n\n'a; b';1\n'c; d';2\n",
    "single quotes in one column": "name\n'a, b'\n'c, d'\n",
    "doubled single quotes": "name,n\n'a, ''b''',1\n'c',2\n",
    "line breaks in cells": 'a,b\n"one\ntwo",1\n"x",2\n',
    "a quote that opens no cell": 'a,b\n5" pipe,1\n6" pipe,2\n',
    "apostrophes": "name;n\nO'Brien;1\nD'Arcy;2\nHara;3\n",
    "empty quoted cells": 'a,b\n"",1\n"",2\n',
    "lines of Windows": "a,b\r\n1,x\r\n2,y\r\n",
    "lines of old Macs": "a,b\r1,x\r2,y\r",
    "no line break at the end": "a,b\n1,x\n2,y",
    "blank lines": "a,b\n\n1,x\n\n2,y\n",
    "blank lines above": "\n\na,b\n1,x\n2,y\n",
    "a mark of byte order": "\ufeffa,b\n1,x\n2,y\n",
    "blanks behind separators": "age, kind, n\n39, State-gov, 77516\n50, Private, 83311\n",
    "UCI's adult, without a header": "39, State-gov, <=50K\n50, Private, >50K\n38, Private, <=50K\n",
    "letters of other languages": "größe,städt\n1,Zürich\n2,東京\n",
    "an index of pandas": ",b,c\n0,x,1\n1,y,2\n",
    "a separator ends every line": "a,b,\n1,x,\n2,y,\n",
    "words below names": "town,kind\nParis,a\nRome,b\nOslo,c\n",
    "missing numbers": "a,b\n,x\n2,y\n,z\n",
    "groups of thousands": 'a;b\n"1,234.5";x\n"2,345.5";y\n',
    "percentages": "a,b\n5%,x\n7%,y\n",
    "money": "a;b\n€ 5,00;x\n€ 7,50;y\n",
    "times": "t,v\n2021-01-01 10:00:00,1\n2021-01-01 11:00:00,2\n",
    "dates as names": "country,1/22/20,1/23/20\nA,1,2\nB,3,4\n",
    "years as names are not seen": "name,2019,2020\nx,1.5,2.5\ny,2.5,3.5\n",
    "numbers without a header": "1.5,2\n3.5,4\n",
    "dates without a header": "2021-03-17,a1\n2021-09-19,b2\n2021-02-12,c3\n",
    "times of day without a header": "12:30,a1\n13:45,b2\n09:10,c3\n",
    "booleans without a header": "true,a1\nfalse,b2\nfalse,c3\n",
    "infinities without a header": "inf,1\n-inf,2\nnan,3\n",
    "one column": "x\n1\n2\n3\n",
    "one column without a header": "1\n2\n3\n",
    "a header alone": "a,b,c\n",
}  # fmt: skip

OURS_IS_RIGHT: dict[str, tuple[str, str, bool, list[str]]] = {
    # DuckDB tries the comma first, and takes the rows that it parts evenly, less the header, for the table.
    "decimal commas beside semicolons": ("a;b\n1,5;2,25\n3,5;4,75\n", ";", True, ["a", "b"]),
    "decimal commas beside tabs": ("a\tb\n1,5\t2,25\n3,5\t4,75\n", "\t", True, ["a", "b"]),
    "decimal commas without a header": ("1,5;2,5\n3,5;4,25\n", ";", False, []),
    "money of decimal commas, without a header": ("€ 5,00;x\n€ 7,50;y\n", ";", False, []),
    "commas in sentences beside tabs": ("text\tn\nwell, yes\t1\nno, never, ever\t2\n", "\t", True, ["text", "n"]),
    "a comma in one sentence of one column": ("text\na few words\nand some more, of them\n", ",", True, ["text"]),
    # It does not try blanks, nor Hive's byte.
    "blanks": ("a b c\n1 2 3\n4 5 6\n", " ", True, ["a", "b", "c"]),
    "aligned by blanks": (" 1.5   2.5  a\n 3.5   4.5  b\n", " ", False, []),
    "bytes of one": ("a\x01b\n1\x01x\n2\x01y\n", "\x01", True, ["a", "b"]),
    # It skips a first line that has a cell less, as R writes it above names of rows, or drops what is below no name.
    "names of rows": ("a,b\n1,2,3\n2,3,4\n3,4,5\n", ",", True, ["a", "b"]),
    "a separator ends every line but the first": ("a,b\n1,x,\n2,y,\n", ",", True, ["a", "b"]),
    # Its header is where types differ: words above words are names to it, and numbers are none above anything.
    "words that come again": ("red,small\nblue,large\nred,large\n", ",", False, []),
    "columns that pandas counted": ("0,1,2\n0.5,3,x\n1.5,4,y\n", ",", True, ["0", "1", "2"]),
    "numbers with exponents": ("1e5,2E-3\n1.5e4,3\n", ",", False, []),
    # A line that lacks a cell makes it give up the separator; here that line is told of when the table is read.
    "an uneven line": ("a,b,c\n1,2,3\n4,5\n6,7,8\n", ",", True, ["a", "b", "c"]),
}
"""Where DuckDB finds something else: the text, and the separator, header and names that we find."""

TOLD = {
    "a title": "Sales of 2021\n\na,b,c\n1,2,3\n4,5,6\n",
    "a comment": "# made by us\na,b\n1,x\n2,y\n",
}
"""What DuckDB skips, and we refuse with the remedy: a line that is skipped may have been the names."""

FILES = 300
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
CITIES = ("Zürich", "東京", "Łódź", "São Paulo", "Ærø")


def duckdbs(path: Path) -> Found | None:
    """Return what DuckDB finds; None where it finds nothing."""
    try:
        sniffed = duckdb.execute("SELECT Delimiter, HasHeader FROM sniff_csv(?)", [str(path)]).fetchall()[0]
        read = duckdb.execute("FROM read_csv(?, all_varchar = true)", [str(path)])
    except duckdb.Error:
        return None
    names = [column[0] for column in read.description]
    return sniffed[0], sniffed[1], names, [["" if cell is None else cell for cell in row] for row in read.fetchall()]


def ours(text: str) -> Found:
    text = text.removeprefix("\ufeff")  # as the encoding takes it off
    dialect = find_dialect(text, True, Format(), "my.csv")
    rows = list(records(Lines(io.StringIO(text, newline=""), None), dialect.separator, dialect.quote))
    return dialect.separator, dialect.header, list(dialect.names), rows[1:] if dialect.header else rows


def written(folder: Path, text: str) -> Path:
    path = folder / "my.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def comparable(found: Found) -> Found:
    """Return the same without the names that were made up, blanks around cells, and how line breaks are written."""
    separator, header, names, rows = found
    named = [re.sub(r"^column_?\d+$", "", name.strip()) for name in names]
    return separator, header, named, [["\n".join(cell.strip().splitlines()) for cell in row] for row in rows]


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_duckdb_finds_is_found(text: str, tmp_path: Path) -> None:
    theirs = duckdbs(written(tmp_path, text))
    assert theirs is not None
    assert comparable(ours(text)) == comparable(theirs)


@pytest.mark.parametrize("case", OURS_IS_RIGHT.values(), ids=OURS_IS_RIGHT)
def test_what_duckdb_does_not_find_is_found(case: tuple[str, str, bool, list[str]], tmp_path: Path) -> None:
    text, separator, header, names = case
    found = comparable(ours(text))
    assert (found[:2], [name for name in found[2] if name]) == ((separator, header), names)
    theirs = duckdbs(written(tmp_path, text))
    assert theirs is None or comparable(theirs) != found, "DuckDB agrees by now: move the case to SAME"


@pytest.mark.parametrize("text", TOLD.values(), ids=TOLD)
def test_lines_that_duckdb_skips_are_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no part of the table"):
        ours(text)
    assert duckdbs(written(tmp_path, text)) is not None


def cell(kind: str, row: int, separator: str, generator: random.Random) -> str:
    day = datetime(2020, 1, 1) + timedelta(days=generator.randrange(900), minutes=generator.randrange(1440))
    number = generator.uniform(0, 100)
    return {
        "whole": f"{10 * number:.0f}",
        "decimal": f"{number:.2f}",
        "decimal_comma": f"{number:.2f}".replace(".", ","),
        "sparse": generator.choice(["", f"{number:.0f}"]),
        "date": f"{day:%Y-%m-%d}",
        "time": f"{day:%Y-%m-%d %H:%M:%S}",
        "boolean": generator.choice(["true", "false"]),
        "word": generator.choice(WORDS),
        "city": generator.choice(CITIES),
        "name": f"{generator.choice(WORDS)}{row}",
        "text": generator.choice(["a few", f"well{separator} yes", 'say "no"', "one\ntwo", "café"]),
    }[kind]


def generated(seed: int) -> tuple[str, Found]:
    """Return a file, and what there is to be found in it: without a header a number or a date in its first line."""
    generator = random.Random(seed)
    separator, header = generator.choice(",;\t|"), generator.random() < 0.6
    number = "decimal_comma" if separator != "," and generator.random() < 0.3 else "decimal"
    others = ["whole", number, "sparse", "date", "time", "boolean", "word", "city", "name", "text"]
    chosen = [
        generator.choice(["whole", number, "date", "time"]),
        *generator.choices(others, k=generator.randint(1, 5)),
    ]
    generator.shuffle(chosen)
    rows = generator.choice([3, 8, 30, 200])
    names = [f"{kind}_{place}" for place, kind in enumerate(chosen)]
    cells = [[cell(kind, row, separator, generator) for kind in chosen] for row in range(rows)]
    stream = io.StringIO(newline="")
    quoting = generator.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=generator.choice(["\n", "\r\n"]))
    writer.writerows([names, *cells] if header else cells)
    return stream.getvalue(), (separator, header, names if header else [""] * len(names), cells)


def why_duckdb_fails(text: str, found: Found) -> str | None:
    """Return which of its known faults a file meets."""
    separator, header, _, (first, *below) = found
    if "\r\n" in text and re.search(r"(?<!\r)\n", text):
        return "line breaks in cells are others than between lines"
    if separator != "," and any(re.fullmatch(r"\d+,\d+", cell) for cell in first if not header):
        return "decimal commas are a separator, or words"
    if not header and any(cell and not any(row[place] for row in below) for place, cell in enumerate(first)):
        return "what stands above nothing is a name"
    return None


def test_what_is_in_generated_files_is_found_also_where_duckdb_fails(tmp_path: Path) -> None:
    faults: Counter[str | None] = Counter()
    for seed in range(FILES):
        text, written_so = generated(seed)
        expected = comparable(written_so)
        assert comparable(ours(text)) == expected, text
        theirs = duckdbs(written(tmp_path, text))
        if theirs is None or comparable(theirs) != expected:
            faults[why_duckdb_fails(text, expected)] += 1
    assert faults[None] == 0
    assert len(faults) > 2, "a fault is none any more"
    assert faults.total() < 0.05 * FILES, "an oracle that fails so often is none"
