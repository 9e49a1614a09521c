"""Detects the type of a column from the statistics of its cells."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from unicodedata import normalize

from hypermap.core.cli_args import override
from hypermap.core.errors import UserError, near
from hypermap.datasets.tables import dates, numbers
from hypermap.datasets.tables.columns import FALSE, TRUE, Column
from hypermap.datasets.tables.statistics import EXACT, VOCABULARY, Statistics

KINDS = ("number", "category", "boolean", "date", "text", "identifier")
MOSTLY = numbers.MOSTLY
NAMED_AS_IDENTIFIER = re.compile(r"(?i:(?:^|[\W_])(?:id|ids|idx|index|key|uuid|guid|nr|no|number)$)|[a-z]I[dD]$")
FEW_ODD = 5  # at most this many words are listed
FEW = 50  # up to this many distinct words are categories, unless each row has its own
FIRST_DATE = 190001  # a month of 1900
LONG_TEXT = 40  # characters on average
SENTENCE = 2  # spaces on average
REASONS = {"text": "free text", "identifier": "an identifier"}


@dataclass(frozen=True)
class Given:
    """The user's settings of columns, by name.

    Advice repeats them, since a list on a command line replaces the whole list.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    text: Sequence[str] = ()
    prefix: str = "data."

    def and_kind(self, name: str, kind: str) -> str:
        """Return the command-line argument that also sets the type of this column."""
        return override(f"{self.prefix}kinds", [*({**self.kinds, name: kind}).items()])

    def and_text(self, *names: str) -> str:
        """Return the command-line argument that also learns from these columns of text."""
        return override(f"{self.prefix}text", [*dict.fromkeys((*self.text, *names))])

    def and_drop(self, *names: str) -> str:
        """Return the command-line argument that also leaves out these columns."""
        return override(f"{self.prefix}drop", [*dict.fromkeys((*self.drop, *names))])


NOTHING = Given()


def check_kinds(kinds: Mapping[str | int, str], prefix: str) -> None:
    """Refuse unknown column types.

    Raises:
        UserError: with the column and the allowed types.
    """
    for name, kind in kinds.items():
        if kind not in KINDS and "%" not in str(kind):
            raise UserError(
                f"{prefix}kinds.{name} is {kind!r}; it is one of {', '.join(KINDS)}, or a date's form such as "
                f"'%d/%m/%Y'{near(kind, KINDS)}."
            )


def understand(statistics: Statistics, chosen: str | None, prefix: str, given: Given = NOTHING) -> Column | str:
    """Return the column, or the reason why it is left out.

    Args:
        chosen: one of `KINDS`, or a date format; None: detect it.
        given: the user's settings of all columns, for advice.

    Raises:
        UserError: the cells are not of the requested type, or the type is ambiguous.
    """
    if not statistics.present:
        return "it has no values"
    if chosen is None:
        return _found(statistics, prefix, given)
    if chosen in REASONS:
        return f"{REASONS[chosen]}, as {prefix}kinds says"
    if chosen == "number":
        return _number(statistics, prefix, given)
    if chosen == "boolean":
        return _boolean(statistics, prefix)
    if chosen == "category":
        return _category(statistics, prefix, given)
    return _date(statistics, prefix, None if chosen == "date" else chosen, given)


def understand_text(statistics: Statistics) -> Column | str:
    """Return a column of free text, whatever its cells look like, or the reason why it is left out."""
    if not statistics.present:
        return "it has no values"
    if len(statistics.values) == 1 and not statistics.missing:
        return _constant(statistics)
    return Column(statistics.name, "text", missing=statistics.missing)


def how_to_keep(left_out: Sequence[Statistics], given: Given) -> list[str]:
    """Return advice on columns that are left out, one sentence for each reason."""
    said = []
    numbers = [column for column in left_out if column.all_numbers and len(column.values) > 1]
    words = [column for column in left_out if column.present and not column.all_numbers and column.typed is None]
    texts = [column for column in words if _is_text(column)]
    if numbers:
        said.append(f"If {numbers[0].name!r} is a measure, say so: {given.and_kind(numbers[0].name, 'number')}.")
    if texts:
        names = [column.name for column in texts]
        said.append(
            f"Free text is learned from when it is named: {given.and_text(*names)} (docs/tables.md, Free text)."
        )
    if repeated := [column for column in words if column not in texts and 0.5 < column.distinct_share < 1]:
        said.append(
            f"Where rows with one {repeated[0].name!r} belong together, "
            f"{override(given.prefix + 'group', repeated[0].name)} keeps them on one side of each split."
        )
    return said


def scattered(categories: Sequence[Statistics]) -> list[str]:
    """Return a sentence for each requested category column in which most rows have unique values."""
    return [
        f"Column {column.name!r} is taken for a category, as data.kinds says; it has {len(column.values):,} different "
        f"values in {column.present:,} rows, so that little or nothing can be learned from it: values of fewer than "
        "data.rare rows share one code."
        + f" Free text is named in {override('data.text', [column.name])}, not in data.kinds."
        * _is_text(column)
        for column in categories
        if _is_own(column)
    ]


def is_boolean(words: list[str]) -> bool:
    """Return whether these words mean yes and no, in any spelling."""
    lower = {word.lower().removesuffix(".0") for word in words}
    return bool(lower & set(TRUE)) and bool(lower & set(FALSE)) and lower <= {*TRUE, *FALSE}


def spelled_alike(words: Sequence[str]) -> list[list[str]]:
    """Return groups of words that differ only in case, spaces, or Unicode composition."""
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(" ".join(normalize("NFKC", word).casefold().split()), []).append(word)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def is_mixed(statistics: Statistics) -> bool:
    """Return whether cells are nearly all numbers, or many different ones with a few words among them."""
    if statistics.all_numbers:
        return False
    if statistics.numbers >= MOSTLY * statistics.present:
        return True
    different = len(statistics.values)
    odd = statistics.odd_words(most=different // 2 + 1)  # more than half are not a few
    return numbers.among_numbers(odd, different)


def missing_advice(statistics: Statistics, prefix: str, odd: Sequence[str] | None = None) -> str:
    """Return a sentence on words of a column, usually those among its numbers, that may mean missing."""
    odd = statistics.odd_words(None) if odd is None else odd
    if odd == [statistics.name]:
        return "That is the column's name: remove the lines that repeat the header"
    if len(odd) > FEW_ODD:
        return f"If that means missing, add it to {prefix}missing_values"
    return f"If that means missing, say {override(f'{prefix}missing_values', [*statistics.missing_words(), *odd])}"


def _found(statistics: Statistics, prefix: str, given: Given) -> Column | str:
    if len(statistics.values) == 1 and not statistics.missing:
        return _constant(statistics)
    if statistics.typed == "date":
        return _date(statistics, prefix, None, given)
    if statistics.all_numbers and not statistics.codes and has_compact_dates(statistics):
        return _date(statistics, prefix, None, given)
    if statistics.all_numbers and not statistics.codes:
        return (
            "an identifier: a different number in each row"
            if _counts_rows(statistics)
            else _number(statistics, prefix, given)
        )
    if not statistics.codes and (is_mixed(statistics) or statistics.typed == "number"):
        raise UserError(_mixed(statistics, prefix, given))
    words = statistics.words()
    if is_boolean(words) and not statistics.all_numbers:
        return _boolean(statistics, prefix)
    if not statistics.all_numbers and dates.find_formats(words):
        return _date(statistics, prefix, None, given)
    if not statistics.all_numbers and (nearly := dates.find_most(words, MOSTLY)):
        forms, odd = nearly
        if len(forms) > 1:
            raise UserError(_several_forms(statistics, words, forms, odd, given))
        raise UserError(
            f"column {statistics.name!r} has dates in the form {forms[0]}, and {len(odd):,} other values, such as "
            f"{_some(odd)}. {missing_advice(statistics, prefix, odd)}; else say what the column is: "
            f"{given.and_kind(statistics.name, 'category')}."
        )
    if not statistics.codes and (measures := numbers.with_units(words)):
        raise UserError(
            f"column {statistics.name!r} has numbers with a unit or with blanks, such as {_some(measures)}. Write "
            f"plain numbers into the file, or say what the column is: {given.and_kind(statistics.name, 'category')}."
        )
    return _reason_to_leave_out(statistics) or _category(statistics, prefix, given)


def _constant(statistics: Statistics) -> str:
    return f"it has the same value in every row, {_some(statistics.words())}"


def has_compact_dates(statistics: Statistics) -> bool:
    """Return whether cells are integers whose digits are dates, such as 20210503."""
    whole = statistics.whole == statistics.present and statistics.lowest >= FIRST_DATE
    return whole and dates.find_compact(statistics.words()) is not None


def _several_forms(statistics: Statistics, words: list[str], forms: list[str], odd: list[str], given: Given) -> str:
    examples = [f"{next(word for word in words if not dates.unread([word], form))!r} ({form})" for form in forms]
    others = f", and {len(odd):,} other values, such as {_some(odd)}" if odd else ""
    return (
        f"column {statistics.name!r} has dates in several forms: {', '.join(examples)}{others}. Write all in one form, "
        f"or say what the column is: {given.and_kind(statistics.name, 'category')}."
    )


def _number(statistics: Statistics, prefix: str, given: Given) -> Column:
    if not statistics.all_numbers:
        raise UserError(_mixed(statistics, prefix, given))
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


def _category(statistics: Statistics, prefix: str, given: Given) -> Column:
    if not statistics.complete:
        raise UserError(
            f"{prefix}kinds.{statistics.name} is category; the column has more than {VOCABULARY:,} different values. "
            f"Leave it out: {given.and_drop(statistics.name)}."
        )
    if statistics.are_exact:
        words = tuple(f"{number:.17g}" for number in statistics.different_numbers())
        return Column(statistics.name, "category", words, True, missing=statistics.missing)
    return Column(statistics.name, "category", tuple(statistics.words()), missing=statistics.missing)


def _date(statistics: Statistics, prefix: str, form: str | None, given: Given) -> Column | str:
    name, words = statistics.name, statistics.words()
    if statistics.typed == "date":
        form = dates.OF_PARQUET
    elif form is None:
        form = _form(statistics, words, prefix, given)
    elif wrong := dates.unread(words, form):
        raise UserError(
            f"{prefix}kinds.{name} is {form}; the column has {_some(wrong)}. Give the form of all its dates."
        )
    parts = dates.varying_parts(statistics.values, form)
    if not parts:
        return f"it has the same date in every row that has one, {words[0]!r}"
    return Column(name, "date", form=form, parts=parts, missing=statistics.missing)


def _form(statistics: Statistics, words: list[str], prefix: str, given: Given) -> str:
    forms = dates.find_formats(words)
    if len(forms) > 1:
        raise UserError(
            f"column {statistics.name!r} has dates such as {words[0]!r}, which {' and '.join(forms)} fit alike. Say "
            f"which: {given.and_kind(statistics.name, forms[0])}."
        )
    if not forms and (compact := dates.find_compact(words)):
        forms = [compact]
    if not forms and statistics.all_numbers:
        forms = [form for form in [dates.stamp_of(statistics.lowest, statistics.highest)] if form]
    if not forms:
        raise UserError(
            f"{prefix}kinds.{statistics.name} is date; no form of a date was found that fits all of {_some(words)}. "
            f"Say its form as strptime does, such as {given.and_kind(statistics.name, '%d/%m/%Y')}."
        )
    return forms[0]


def _counts_rows(statistics: Statistics) -> bool:
    """Return whether numbers are distinct integers that count the rows from 0 or 1, or have an identifier's name."""
    if statistics.distinct_share < 1 or statistics.whole < statistics.present or statistics.missing:
        return False
    counting = statistics.lowest in (0, 1) and statistics.highest - statistics.lowest == statistics.present - 1
    large = statistics.lowest > EXACT  # float64 cannot distinguish them from their neighbors
    return counting or large or bool(NAMED_AS_IDENTIFIER.search(statistics.name))


def _reason_to_leave_out(statistics: Statistics) -> str | None:
    example = _some(statistics.words(), 1)
    if _is_text(statistics):
        return f"free text, such as {example}"
    return f"an identifier: most rows have a unique word, such as {example}" if _is_own(statistics) else None


def _is_own(statistics: Statistics) -> bool:
    """Return whether most rows have unique values."""
    share = statistics.distinct_share
    return share == 1 or (share > 0.5 and len(statistics.values) > FEW) or not statistics.complete


def _is_text(statistics: Statistics) -> bool:
    blanks, length = statistics.blanks / statistics.present, statistics.characters / statistics.present
    return (_is_own(statistics) and (blanks >= SENTENCE or length > LONG_TEXT)) or (
        blanks > 2 * SENTENCE and length > LONG_TEXT and len(statistics.values) > FEW
    )


def _mixed(statistics: Statistics, prefix: str, given: Given) -> str:
    name, odd = statistics.name, statistics.present - statistics.numbers
    return (
        f"column {name!r}: {odd:,} of {statistics.present:,} cells are no finite numbers, such as "
        f"{_some(statistics.odd_words())}. {missing_advice(statistics, prefix)}; if the column holds words, say "
        f"{given.and_kind(name, 'category')}; if its decimals have commas, {override(prefix + 'decimal', ',')}."
    )


def _some(words: list[str], most: int = 3) -> str:
    shown = [repr(word if len(word) <= LONG_TEXT else f"{word[:LONG_TEXT]}...") for word in words[:most]]
    return ", ".join(shown)
