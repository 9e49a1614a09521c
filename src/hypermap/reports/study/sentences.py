"""Pieces of the sentences in which checks answer."""

from collections.abc import Sequence
from typing import Any

from hypermap.reports.study.ranges import typed


def both(words: Sequence[str]) -> str:
    """Return words in a row: a, b and c; of more than four, the first three and how many more."""
    if len(words) > 4:
        return f"{', '.join(words[:3])} and {len(words) - 3} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def many(count: int, noun: str) -> str:
    """Return a count and its noun: 1 trial, 2 trials."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share as one writes it: 25 %."""
    return f"{100 * share:.{digits}f} %"


def sentence(words: str) -> str:
    """Return words with a capital letter and a full stop; they do not begin with a parameter's name."""
    return f"{words[:1].upper()}{words[1:]}."


def short(value: Any) -> str:
    """Return a value to three digits, in one line."""
    return f"{value:.3g}" if isinstance(value, float) else " ".join(typed(value).splitlines())
