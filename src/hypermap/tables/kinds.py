"""What kind of column a person would say this is, from the statistics of its cells."""

import re

from hypermap.errors import UserError, near
from hypermap.tables import dates
from hypermap.tables.columns import FALSE, TRUE, Column
from hypermap.tables.statistics import VOCABULARY, Statistics

KINDS = ("number", "category", "boolean", "date", "text", "identifier")
MOSTLY = 0.9  # such a share of numbers, and the rest should have been numbers too
NAMED_AS_IDENTIFIER = re.compile(r"(?i:(?:^|[\W_])(?:id|ids|idx|index|key|uuid|guid|nr|no|number)$)|[a-z]I[dD]$")
MEASURE = re.compile(r"[+-]?[$€£¥]? ?[+-]?\d[\d.,' \u00a0\u202f]*[$€£¥%]?")  # $1.50, 12 %, 1 234
FEW = 50  # different words are categories unless each row has its own
LONG_TEXT = 40  # characters on average
SENTENCE = 2  # blanks on average
REASONS = {"text": "free text", "identifier": "an identifier"}


def check_kinds(kinds: dict[str, str], prefix: str) -> None:
    """Refuse kinds that there are not.

    Raises:
        UserError: names the column and what it may be.
    """
    for name, kind in kinds.items():
        if kind not in KINDS and "%" not in str(kind):
            raise UserError(
                f"{prefix}kinds.{name} is {kind!r}; it is one of {', '.join(KINDS)}, or a date's form such as "
                f"'%d/%m/%Y'{near(kind, KINDS)}."
            )


def understand(statistics: Statistics, asked: str | None, prefix: str) -> Column | str:
    """The column, or why nothing is learned from it.

    Args:
        asked: one of `KINDS`, or a date's form; None: it is found.

    Raises:
        UserError: the cells are not of the kind that was asked for; or they could be of two kinds.
    """
    if not statistics.present:
        return "it has no values"
    if asked is None:
        return _found(statistics, prefix)
    if asked in REASONS:
        return f"{REASONS[asked]}, as {prefix}kinds says"
    if asked == "number":
        return _number(statistics, prefix)
    if asked == "boolean":
        return _boolean(statistics, prefix)
    if asked == "category":
        return _category(statistics, prefix)
    return _date(statistics, prefix, None if asked == "date" else asked)


def is_boolean(words: list[str]) -> bool:
    """Whether these words are a yes and a no, in any spelling."""
    lower = {word.lower().removesuffix(".0") for word in words}
    return bool(lower & set(TRUE)) and bool(lower & set(FALSE)) and lower <= {*TRUE, *FALSE}


def _found(statistics: Statistics, prefix: str) -> Column | str:
    if len(statistics.values) == 1 and not statistics.missing:
        return f"it has the same value in every row, {statistics.words()[0]!r}"
    if statistics.typed == "date":
        return _date(statistics, prefix, None)
    if statistics.all_numbers and not statistics.codes:
        return (
            "an identifier: a number of its own for each row"
            if _counts_rows(statistics)
            else _number(statistics, prefix)
        )
    if not statistics.codes and (statistics.numbers >= MOSTLY * statistics.present or statistics.typed == "number"):
        raise UserError(_mixed(statistics, prefix))
    words = statistics.words()
    if is_boolean(words) and not statistics.all_numbers:
        return _boolean(statistics, prefix)
    if not statistics.all_numbers and dates.find_formats(words):
        return _date(statistics, prefix, None)
    if not statistics.all_numbers and (nearly := dates.find_most(words, MOSTLY)):
        form, odd = nearly
        raise UserError(
            f"column {statistics.name!r} has dates in the form {form}, and {len(odd):,} other values, such as "
            f"{_some(odd)}. If that means missing, add it to {prefix}missing_values; else say what the column is: "
            f'"{prefix}kinds={{{statistics.name}: category}}".'
        )
    if not statistics.codes and sum(bool(MEASURE.fullmatch(word)) for word in words) >= MOSTLY * len(words):
        raise UserError(
            f"column {statistics.name!r} has numbers with a unit or with blanks, such as {_some(words)}. Write plain "
            f'numbers into the file, or say what the column is: "{prefix}kinds={{{statistics.name}: category}}".'
        )
    return _reason_to_leave_out(statistics) or _category(statistics, prefix)


def _number(statistics: Statistics, prefix: str) -> Column:
    if not statistics.all_numbers:
        raise UserError(_mixed(statistics, prefix))
    lowest, highest = statistics.lowest, statistics.highest
    return Column(statistics.name, "number", missing=statistics.missing, lowest=lowest, highest=highest)


def _boolean(statistics: Statistics, prefix: str) -> Column:
    words = statistics.words()
    if not is_boolean(words):
        raise UserError(
            f"{prefix}kinds.{statistics.name} is boolean; the column has {_some(words)}. Words for yes and no are "
            f"{', '.join(TRUE[:4])} and {', '.join(FALSE[:4])}; say category."
        )
    yes = next(word for word in words if word.lower().removesuffix(".0") in TRUE)
    no = next(word for word in words if word.lower().removesuffix(".0") in FALSE)
    return Column(statistics.name, "boolean", (no, yes), missing=statistics.missing)


def _category(statistics: Statistics, prefix: str) -> Column:
    if not statistics.complete:
        raise UserError(
            f"{prefix}kinds.{statistics.name} is category; the column has more than {VOCABULARY:,} different values. "
            f"Leave it out: {prefix}drop=[{statistics.name}]."
        )
    if statistics.all_numbers and not statistics.codes:
        numbers = sorted({float(word) for word in statistics.words()})
        return Column(
            statistics.name, "category", tuple(f"{n:.17g}" for n in numbers), True, missing=statistics.missing
        )
    return Column(statistics.name, "category", tuple(statistics.words()), missing=statistics.missing)


def _date(statistics: Statistics, prefix: str, form: str | None) -> Column | str:
    name, words = statistics.name, statistics.words()
    if statistics.typed == "date":
        form = dates.OF_PARQUET
    elif form is None:
        form = _form(statistics, words, prefix)
    elif wrong := dates.unread(words, form):
        raise UserError(
            f"{prefix}kinds.{name} is {form}; the column has {_some(wrong)}. Give the form of all its dates."
        )
    parts = dates.varying_parts(statistics.values, form)
    if not parts:
        return f"it has the same date in every row that has one, {words[0]!r}"
    return Column(name, "date", form=form, parts=parts, missing=statistics.missing)


def _form(statistics: Statistics, words: list[str], prefix: str) -> str:
    forms = dates.find_formats(words)
    if len(forms) > 1:
        raise UserError(
            f"column {statistics.name!r} has dates such as {words[0]!r}, which {' and '.join(forms)} fit alike. Say "
            f"which: \"{prefix}kinds={{{statistics.name}: '{forms[0]}'}}\"."
        )
    if not forms and statistics.all_numbers:
        forms = [form for form in [dates.stamp_of(statistics.lowest, statistics.highest)] if form]
    if not forms:
        raise UserError(
            f"{prefix}kinds.{statistics.name} is date; no form of a date was found that fits all of {_some(words)}. "
            "Say its form as strptime does, such as '%d/%m/%Y'."
        )
    return forms[0]


def _counts_rows(statistics: Statistics) -> bool:
    """Whether numbers are all different, whole, and count the rows from 0 or 1, or are named as an identifier is."""
    if statistics.distinct_share < 1 or statistics.whole < statistics.present or statistics.missing:
        return False
    counting = statistics.lowest in (0, 1) and statistics.highest - statistics.lowest == statistics.present - 1
    return counting or bool(NAMED_AS_IDENTIFIER.search(statistics.name))


def _reason_to_leave_out(statistics: Statistics) -> str | None:
    different, share = len(statistics.values), statistics.distinct_share
    blanks, length = statistics.blanks / statistics.present, statistics.characters / statistics.present
    own = share == 1 or (share > 0.5 and different > FEW) or not statistics.complete
    if (own and (blanks >= SENTENCE or length > LONG_TEXT)) or (
        blanks > 2 * SENTENCE and length > LONG_TEXT and different > FEW
    ):
        return f"free text, such as {_some(statistics.words(), 1)}"
    return f"an identifier: most rows have a word of their own, such as {_some(statistics.words(), 1)}" if own else None


def _mixed(statistics: Statistics, prefix: str) -> str:
    name, odd = statistics.name, statistics.present - statistics.numbers
    return (
        f"column {name!r}: {odd:,} of {statistics.present:,} cells are no finite numbers, such as "
        f"{_some(statistics.odd_words())}. If that means missing, add it to {prefix}missing_values; if the column "
        f"holds words, say \"{prefix}kinds={{{name}: category}}\"; if its decimals have commas, {prefix}decimal=','."
    )


def _some(words: list[str], most: int = 3) -> str:
    shown = [repr(word if len(word) <= LONG_TEXT else f"{word[:LONG_TEXT]}...") for word in words[:most]]
    return ", ".join(shown)
