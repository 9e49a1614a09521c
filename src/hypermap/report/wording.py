"""How numbers, values and tables are written in a report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def metric(name: str, value: float) -> str:
    """Four decimals, but for errors in a target's own unit."""
    return significant(value) if name in ("rmse", "mae") else f"{value:.4f}"


def interval(name: str, intervals: Mapping[str, tuple[float, float]], between: str = " – ") -> str:
    """Both ends of a metric's interval, or nothing where it has none."""
    return between.join(metric(name, bound) for bound in intervals[name]) if name in intervals else ""


def count(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def significant(value: float) -> str:
    """Four significant digits, and thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def value(given: Any) -> str:
    """As one types it."""
    return given if isinstance(given, str) else json.dumps(given)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, text to the left and numbers to the right."""
    lines = list(lines)
    numeric = [k > 0 and all(line[k][:1] in "+-0123456789" for line in lines) for k in range(len(header))]
    rule = ["---:" if number else "---" for number in numeric]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in (header, rule, *lines))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
