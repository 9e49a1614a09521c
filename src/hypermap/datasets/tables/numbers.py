"""Numbers in unusual formats: those that are read nevertheless, and those with a unit, which are reported."""

import re
from collections import Counter
from collections.abc import Sequence

import polars as pl

from hypermap.datasets.tables.number_format import GROUPS, MINUS, PLACEHOLDER, SIGNED, bare, looks_like_number

MOSTLY = 0.9  # minimum share of numbers, for the rest to be probably meant as numbers too
FEW = 10  # numbers; a column with more, and a few words among them, is not categorical
LEAST = 4  # minimum count of numbers with the same letters after them; 2wd and 4wd are categories

# In addition to those that polars reads: 12.5-, (12.5), - 12.5, 1'234, and a typographic minus.
UNUSUAL = rf"^(?:[+\-{MINUS}]\s?[\d.].*|\(\s?[\d.][^()]*\)|[\d.].*[\-{MINUS}]|\d{{1,3}}[{GROUPS}]\d{{3}}.*)$"

SYMBOL = "$€£¥₹₩₽₺₫₴₦₪฿₱₡₲₵₸¢"
CODES = "EUR USD GBP CHF JPY CNY RMB INR AUD CAD NZD SEK NOK DKK PLN CZK HUF RON BGN TRY RUB UAH BRL MXN ARS CLP COP "
CODES += "ZAR KRW SGD HKD TWD THB IDR MYR PHP VND ILS AED SAR EGP NGN KES Rs Rs. kr kr. zł Kč Ft lei Fr. руб. лв."
BLANK = " \u00a0\u2009\u202f"
MONEY = rf"(?:[A-Z]{{0,3}}[{SYMBOL}]|{'|'.join(re.escape(code) for code in CODES.split())})"
DIGITS = rf"(?:\d+(?:[.,]\d+)?|[.,]\d+|\d{{1,3}}(?:[.,'’{BLANK}]\d{{3}})+(?:[.,]\d+)?)"
SIGN = rf"[+\-{MINUS}]?"
SCALE = "(?:k|K|m|M|B|bn|mn|[Mm]io\\.?|[Mm]rd\\.?|million|billion)"
MEASURE = re.compile(
    rf"\(?{SIGN}(?:{MONEY}[{BLANK}]?)?{SIGN}{DIGITS}(?:[{BLANK}]?{SCALE})?(?:[{BLANK}]?(?:{MONEY}|[%‰]|°[CF]?))?\)?"
)
LETTERS = re.compile(rf"{SIGN}{DIGITS}[{BLANK}]?((?!\d)[^\W_]{{1,12}}\.?(?:/[^\W_]{{1,12}}|[²³])?)")


def read(cells: pl.Series) -> pl.Series:
    """Return text as float64, null if not a number: read by polars, or else after normalizing its sign."""
    numbers = cells.cast(pl.Float64, strict=False)
    if numbers.null_count() == cells.null_count():
        return numbers
    others = cells.filter(numbers.is_null() & cells.is_not_null()).unique()
    others = others.filter(others.str.contains(UNUSUAL))
    if others.is_empty():
        return numbers
    plain = pl.Series([plainly(word) for word in others], dtype=pl.String).cast(pl.Float64, strict=False)
    return numbers.fill_null(cells.replace_strict(others, plain, default=None, return_dtype=pl.Float64))


def plainly(word: str) -> str:
    """Return a number in Python's format: (12.5), 12.5- and a typographic minus are negative, 1'234,5 is 1234.5."""
    body = bare(word)
    negative = SIGNED.fullmatch(word) and not word.startswith("+")
    if any(mark in word for mark in GROUPS):
        body = body.replace(",", ".")  # with other grouping characters a comma is decimal
    return f"-{body}" if negative else body


def with_units(words: Sequence[str]) -> list[str]:
    """Return a column's distinct words that are numbers with a unit or grouping, if nearly all are numbers.

    Letters after numbers are a unit if they are always the same and there are several numbers.
    """
    numbers = {word for word in words if looks_like_number(word)}
    measured = [word for word in words if word not in numbers and MEASURE.fullmatch(word)]
    if not measured:
        units = Counter(found[1] for word in words if word not in numbers and (found := LETTERS.fullmatch(word)))
        unit = max(units, key=lambda unit: units[unit], default="")
        measured = [word for word in words if (found := LETTERS.fullmatch(word)) and found[1] == unit]
        measured = measured if len(measured) > LEAST else []
    return measured if measured and len(measured) + len(numbers) >= MOSTLY * len(words) else []


def among_numbers(odd: Sequence[str], different: int) -> bool:
    """Return whether these are a few words among the numbers of a column with `different` distinct values."""
    numbers = different - len(odd)
    if numbers > FEW and len(odd) <= (1 - MOSTLY) * different:
        return True
    return numbers > max(len(odd), 2) and all(PLACEHOLDER.fullmatch(word) for word in odd)
