"""Dates and times in text: detection of their format, and their parts as numbers."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import product

import polars as pl

DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%b %d %Y",
    "%b %d, %Y", "%d %B %Y", "%d. %B %Y", "%d. %b %Y", "%d. %b. %Y",
    "%d-%B-%Y", "%B %d %Y", "%B %d, %Y", "%Y-%b-%d", "%Y %b %d",
)  # fmt: skip
CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p",
    "T%H:%M:%S%.f%#z", " %H:%M:%S%.f%#z", "T%H:%M%#z", " %H:%M%#z", ", %H:%M", ", %H:%M:%S", ", %I:%M %p",
    ", %I:%M:%S %p", " %I:%M%p", " %I:%M:%S%p", " %H:%M:%S,%3f", " %H.%M", ":%H:%M:%S%#z",
)  # fmt: skip
WEEKDAYS = ("", "%A, ", "%A ")
COMPACT = ("%Y%m", "%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S")  # digits only, which may be numbers
OTHERS = (
    "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S%#z", "%Y%m%dT%H%M", "%Y%m%d %H%M%S", "%Y%m%d %H:%M", "%Y%m%d %H:%M:%S",
    "%A %b %d %H:%M:%S %Y", "%A %b %d %H:%M:%S %Z %Y",  # as in C's ctime and Unix's date
)  # fmt: skip
MONTHS = ("%Y-%m", "%Y/%m", "%b %Y", "%B %Y", "%b-%Y", "%B-%Y", "%b-%y", "%b %y", "%m/%Y", "%m.%Y", "%Y %b", "%Y-%b")
QUARTERS = ("%Y-Q%q", "%YQ%q", "%Y Q%q", "Q%q %Y", "%Y/Q%q")  # read as their first days, which strptime cannot do
WEEKS = ("%G-W%V", "%GW%V")  # read as their Mondays
TIMES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%S%.f")
FORMATS = (
    *(week + day + clock for week, day, clock in product(WEEKDAYS, DAYS, CLOCKS)),
    *OTHERS,
    *MONTHS,
    *QUARTERS,
    *WEEKS,
    *TIMES,
)
# Unambiguous formats: the year comes first, or the month is a name.
UNMISTAKABLE = (
    *(form for form in FORMATS if form.startswith(("%Y", "%G", "Q")) or "%b" in form or "%B" in form),
    *COMPACT,
)

# Month names of other languages with their English names; longer ones before their prefixes.
MONTH_NAMES = {
    "january": "January", "januari": "January", "januar": "January", "jänner": "January", "janvier": "January",
    "janeiro": "January", "enero": "January", "gennaio": "January",
    "february": "February", "februari": "February", "februar": "February", "février": "February",
    "fevereiro": "February", "febrero": "February", "febbraio": "February",
    "märz": "March", "maerz": "March", "maart": "March", "mars": "March", "março": "March", "marzo": "March",
    "aprile": "April", "avril": "April", "abril": "April",
    "maggio": "May", "maio": "May", "mayo": "May", "mai": "May", "mei": "May",
    "juni": "June", "juin": "June", "junho": "June", "junio": "June", "giugno": "June",
    "juli": "July", "juillet": "July", "julho": "July", "julio": "July", "luglio": "July",
    "augustus": "August", "août": "August", "agosto": "August",
    "septembre": "September", "setembro": "September", "septiembre": "September", "settembre": "September",
    "oktober": "October", "octobre": "October", "outubro": "October", "octubre": "October", "ottobre": "October",
    "novembre": "November", "novembro": "November", "noviembre": "November",
    "dezember": "December", "décembre": "December", "dezembro": "December", "diciembre": "December",
    "dicembre": "December",
    "mär": "Mar", "mrz": "Mar", "okt": "Oct", "dez": "Dec", "fév": "Feb", "avr": "Apr", "déc": "Dec", "ene": "Jan",
    "abr": "Apr", "ago": "Aug", "dic": "Dec", "gen": "Jan", "giu": "Jun", "lug": "Jul", "ott": "Oct", "fev": "Feb",
    "out": "Oct", "mag": "May",
}  # fmt: skip

STAMPS = {"seconds since 1970": 1e6, "milliseconds since 1970": 1e3}  # in microseconds
OF_PARQUET = "date"  # a column with a timestamp type
FIRST_YEAR = 1000  # 1/2/20 is not in the year 20
PARTS = ("year", "month", "day", "weekday", "hour", "days")
TRIED = 50  # words that are tried first
LEAST_COMPACT = 5  # minimum number of integers that are all dates by their digits: one in 27 other integers is
MOST_FORMATS = 4  # maximum per column
LONGEST = 50  # maximum characters of a date
DIRECTIVE = re.compile(r"%(?:\.|#|\d)?[a-zA-Z]")
ZONE = r"\s?(?:Z|UTC|GMT|UT)$"


def find_formats(words: Sequence[str]) -> list[str]:
    """Return the formats in which every word is a date; two if day and month are ambiguous."""
    if not words:
        return []
    found: Sequence[str] = _candidates(words[0])
    for tried in (words[:1], words[:TRIED], words):
        found = [form for form in found if not unread(tried, form)]
    return _distinct(pl.Series(words), found)


def find_most(words: Sequence[str], share: float) -> tuple[list[str], list[str]] | None:
    """Return formats that together read at least this share of the words as dates, and the other words."""
    forms: list[str] = []
    rest = list(words)
    while rest and len(forms) < MOST_FORMATS:
        usual = rest[len(rest) // 2]  # words for missing, such as 0000-00-00, are first or last
        left = {form: unread(rest, form) for form in _candidates(usual) if not unread([usual], form)}
        if not left:
            break
        forms.append(min(left, key=lambda form: len(left[form])))  # the first of equals
        rest = left[forms[-1]]
    return (forms, rest) if forms and len(rest) <= (1 - share) * len(words) else None


def find_compact(words: Sequence[str]) -> str | None:
    """Return the format in which integers are dates by their digits, such as 20210503; None: they are numbers."""
    if len(words) < LEAST_COMPACT:
        return None
    form = next((form for form in COMPACT if len(words[0].removesuffix(".0")) == _digits(form)), None)
    if form is None or not all(word.startswith(("19", "20")) for word in words) or unread(words, form):
        return None
    return form


@cache
def _digits(form: str) -> int:
    return sum(4 if directive == "%Y" else 2 for directive in DIRECTIVE.findall(form))


def _candidates(word: str) -> list[str]:
    """Return the formats that a word could have, by its letters and signs."""
    if not any(character.isdigit() for character in word) or len(word) > LONGEST:
        return []
    signs = {character for character in word if not character.isalnum()}
    named = any(character.isalpha() for character in word)
    return [
        form
        for form, fixed, free, letters in _shapes()
        if fixed <= {*word} and signs <= free and letters in (named, None)
    ]


@cache
def _shapes() -> list[tuple[str, set[str], set[str], bool | None]]:
    """Return each format with its required characters, its allowed signs, and whether it has letters."""
    shapes = []
    for form in FORMATS:
        fixed = set(DIRECTIVE.sub("", form))
        free = fixed | ({*"+-: []/_"} if "%#z" in form else set()) | ({"."} if "%.f" in form else set())
        named = fixed & {*"TQW"} != set() or any(letter in form for letter in ("%A", "%b", "%B", "%p"))
        shapes.append((form, fixed, free, True if named else None if "%#z" in form else False))
    return shapes


def moments(column: pl.Expr, form: str) -> pl.Expr:
    """Return the times (``Datetime``, in UTC if an offset is given) of a column of text or numbers.

    Null for anything else, including a year of fewer than four digits if the format requires four.
    """
    if form == OF_PARQUET:
        return column.cast(pl.Datetime("us"))
    if form in STAMPS:
        return (
            (column.cast(pl.Float64, strict=False) * STAMPS[form]).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
        )
    when = _read(column.cast(pl.String), form)
    return pl.when(when.dt.year() >= FIRST_YEAR).then(when)


def read(words: pl.Series, form: str) -> pl.Series:
    """Return the times of words in this format or, for a date, in an unambiguous one.

    So files to predict may have midnight times with each day, or dates as another program writes them. If the format
    has no UTC offset, words with one are not read: the times would be in other time zones.
    """
    when = words.to_frame("word").select(moments(pl.col("word"), form)).to_series() if form != OF_PARQUET else None
    if when is None:
        when = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, len(words))
    if form in STAMPS or form in TIMES:
        return when
    zoned = form == OF_PARQUET or "%#z" in form or "%z" in form
    while when.null_count() > words.null_count():
        rest = words.filter(when.is_null() & words.is_not_null()).unique(maintain_order=True)
        forms = [form for form in _unmistakable(rest[0]) if zoned or "z" not in form]
        found = next((form for form in forms if not unread([rest[0]], form)), None)
        if found is None:
            break
        when = when.fill_null(words.to_frame("word").select(moments(pl.col("word"), found)).to_series())
    return when


def _unmistakable(word: str) -> list[str]:
    digits = word.removesuffix(".0")
    if digits.isdecimal():
        return [form for form in COMPACT if len(digits) == _digits(form)]
    return [form for form in _candidates(word) if form in UNMISTAKABLE]


def parts_of(when: pl.Expr, parts: Sequence[str] = PARTS) -> list[pl.Expr]:
    """Return its parts as float64: year, month, day, weekday (Monday is 1), hour with its fraction, days since 1970."""
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
    """Return the parts that vary in these dates."""
    values = pl.DataFrame({"when": words}).select(parts_of(moments(pl.col("when"), form)))
    return tuple(part for part in PARTS if values[part].n_unique() > 1)


def unread(words: Sequence[str], form: str) -> list[str]:
    """Return the words that are not dates in this format."""
    frame = pl.DataFrame({"word": pl.Series(words, dtype=pl.String)})
    return frame.filter(moments(pl.col("word"), form).is_null())["word"].to_list()


def stamp_of(lowest: float, highest: float) -> str | None:
    """Return the unit in which numbers in this range can be times since 1970; None if they cannot."""
    if lowest >= 0 and highest < 1e10:
        return "seconds since 1970"
    return "milliseconds since 1970" if lowest >= 1e10 and highest < 1e13 else None


def _distinct(words: pl.Series, found: Sequence[str]) -> list[str]:
    """Return the first of formats with equal dates; with a period between day and month, the day comes first."""
    readings: dict[str, pl.Series] = {}
    for form in found:
        read = pl.DataFrame({"word": words}).select(moments(pl.col("word"), form)).to_series()
        if not any(read.equals(other) for other in readings.values()):
            readings[form] = read
    return list(readings)


def _read(text: pl.Expr, form: str) -> pl.Expr:
    if "%b" in form or "%B" in form:
        text = text.str.replace_many(MONTH_NAMES, ascii_case_insensitive=True, leftmost=True)
    if "%#z" in form or "%z" in form:
        text = text.str.replace(r"\[.*\]$", "").str.replace(ZONE, "+00:00")
        zoned = text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
        return zoned.dt.replace_time_zone(None)
    if form in COMPACT:
        text = text.str.strip_suffix(".0")  # as pandas writes integers with missing values
    if form == "%Y%m":
        text, form = text + "01", "%Y%m%d"
    if form in QUARTERS:
        text = text.str.replace_many([f"Q{k}" for k in range(1, 5)], ["01", "04", "07", "10"])
        text, form = pl.lit("1 ") + text, f"%d {form.replace('Q%q', '%m')}"
    if form in WEEKS:
        text, form = text + "-1", f"{form}-%u"
    if form in MONTHS:
        text, form = pl.lit("1 ") + text, f"%d {form}"
    if form in TIMES:
        text, form = pl.lit("1970-01-01 ") + text, f"%Y-%m-%d {form}"
    if any(directive in form for directive in ("%H", "%I", "%X", "%T", "%R")):
        return text.str.to_datetime(form, strict=False, time_unit="us")
    return text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
