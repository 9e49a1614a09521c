"""Dates and times in text: their format found, and their parts as numbers."""

from collections.abc import Sequence
from itertools import product

import polars as pl

DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y",
    "%d %B %Y", "%B %d, %Y", "%Y-%b-%d",
)  # fmt: skip
CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p",
    "T%H:%M:%S%.f%#z", " %H:%M:%S%.f%#z", ", %H:%M", ", %I:%M %p",
)  # fmt: skip
MONTHS = ("%Y-%m", "%Y/%m", "%b %Y", "%B %Y", "%m/%Y")
TIMES = ("%H:%M", "%H:%M:%S", "%I:%M %p")
FORMATS = (*(day + clock for day, clock in product(DAYS, CLOCKS)), *MONTHS, *TIMES)

STAMPS = {"seconds since 1970": 1e6, "milliseconds since 1970": 1e3}  # in microseconds
OF_PARQUET = "date"  # a column that is a point in time by its type
FIRST_YEAR = 1000  # 1/2/20 is not in the year 20
PARTS = ("year", "month", "day", "weekday", "hour", "days")
TRIED = 50  # words, before all are tried


def find_formats(words: Sequence[str]) -> list[str]:
    """The formats in which every one of these words is a date; two where day and month may be either."""
    if not words or not any(character.isdigit() for character in words[0]) or len(words[0]) > 40:
        return []
    found: Sequence[str] = FORMATS
    for tried in (words[:1], words[:TRIED], words):
        found = [form for form in found if not unread(tried, form)]
    return _distinct(pl.Series(words), found)


def find_most(words: Sequence[str], share: float) -> tuple[str, list[str]] | None:
    """A format in which nearly all of these words are dates, at least such a share, and the other words."""
    usual = words[len(words) // 2]  # what stands for missing, such as 0000-00-00, is first or last
    for form in FORMATS if any(character.isdigit() for character in usual) else ():
        if not unread([usual], form) and len(others := unread(words, form)) <= (1 - share) * len(words):
            return form, others
    return None


def moments(column: pl.Expr, form: str) -> pl.Expr:
    """The points in time (``Datetime``, UTC where an offset is given) that a column of text or numbers spells.

    Null where it spells none, as does a year of fewer than four digits where the format wants them.
    """
    if form == OF_PARQUET:
        return column.cast(pl.Datetime("us"))
    if form in STAMPS:
        return (
            (column.cast(pl.Float64, strict=False) * STAMPS[form]).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
        )
    when = _read(column.cast(pl.String), form)
    return pl.when(when.dt.year() >= FIRST_YEAR).then(when)


def parts_of(when: pl.Expr, parts: Sequence[str] = PARTS) -> list[pl.Expr]:
    """Its parts as float64: year, month, day, weekday (Monday is 1), hour with its fraction, days since 1970."""
    every = {
        "year": when.dt.year(),
        "month": when.dt.month(),
        "day": when.dt.day(),
        "weekday": when.dt.weekday(),
        "hour": when.dt.hour() + when.dt.minute() / 60 + when.dt.second() / 3600,
        "days": when.dt.epoch("us") / 86_400e6,
    }
    return [every[part].cast(pl.Float64).alias(part) for part in parts]


def varying_parts(words: pl.Series, form: str) -> tuple[str, ...]:
    """The parts in which these dates differ."""
    values = pl.DataFrame({"when": words}).select(parts_of(moments(pl.col("when"), form)))
    return tuple(part for part in PARTS if values[part].n_unique() > 1)


def unread(words: Sequence[str], form: str) -> list[str]:
    """The words that are no dates in this format."""
    frame = pl.DataFrame({"word": pl.Series(words, dtype=pl.String)})
    return frame.filter(moments(pl.col("word"), form).is_null())["word"].to_list()


def stamp_of(lowest: float, highest: float) -> str | None:
    """Whether numbers in this range can be times since 1970: in which unit; None: they cannot."""
    if lowest >= 0 and highest < 1e10:
        return "seconds since 1970"
    return "milliseconds since 1970" if lowest >= 1e10 and highest < 1e13 else None


def _distinct(words: pl.Series, found: Sequence[str]) -> list[str]:
    """Of formats that give the same dates, the first; a point between day and month puts the day first."""
    readings: dict[str, pl.Series] = {}
    for form in found:
        read = pl.DataFrame({"word": words}).select(moments(pl.col("word"), form)).to_series()
        if not any(read.equals(other) for other in readings.values()):
            readings[form] = read
    return list(readings)


def _read(text: pl.Expr, form: str) -> pl.Expr:
    if "%#z" in form or "%z" in form:
        zoned = text.str.replace("Z$", "+00:00").str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
        return zoned.dt.replace_time_zone(None)
    if form in MONTHS:
        text, form = pl.lit("1 ") + text, f"%d {form}"
    if form in TIMES:
        text, form = pl.lit("1970-01-01 ") + text, f"%Y-%m-%d {form}"
    if any(directive in form for directive in ("%H", "%I", "%X", "%T", "%R")):
        return text.str.to_datetime(form, strict=False, time_unit="us")
    return text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
