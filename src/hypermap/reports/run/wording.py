"""How numbers, values, tables and other people's words are written in a report.

Names of classes, columns, files and studies are anybody's: `words` and `code` let them say nothing but themselves.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def metric(name: str, value: float) -> str:
    """Return a metric to four decimals, but for errors in a target's own unit."""
    return significant(value) if name.rpartition("_")[2] in ("rmse", "mae") else f"{value:.4f}"


def interval(name: str, intervals: Mapping[str, tuple[float, float]], between: str = " – ") -> str:
    """Return both ends of a metric's interval, or nothing where it has none."""
    return between.join(metric(name, bound) for bound in intervals[name]) if name in intervals else ""


def count(number: int, noun: str) -> str:
    """Return so many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def significant(value: float) -> str:
    """Return a number to four significant digits, and thousands in full as far as one reads them."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:#.4g}"


def value(given: Any) -> str:
    """Return a value as one types it."""
    return given if isinstance(given, str) else json.dumps(given)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, text to the left and numbers to the right."""
    lines = list(lines)
    numeric = [k > 0 and all(line[k][:1] in "+-0123456789" for line in lines) for k in range(len(header))]
    rule = ["---:" if number else "---" for number in numeric]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in (header, rule, *lines))


def listed(names: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def line(text: object) -> str:
    """Return a text in one line, without what is no letter on a screen: line breaks, and what moves or hides others."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069]", " ", str(text)).split())


def words(text: object) -> str:
    """Return a text of somebody else's as Markdown that shows it: no HTML, link, code and the like begins in it."""
    escaped = re.sub(r"\\(?=[!-/:-@[-`{-~])", r"\\\\", line(text))
    escaped = re.sub(r"&(?=#?\w+;)", "&amp;", escaped).replace("<", "&lt;")
    escaped = re.sub(r"[`*~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", escaped)
    if re.search(r"\][(\[:]", escaped):
        escaped = escaped.replace("[", "\\[")
    return re.sub(r"^(?:[-+>=](?=\s|$)|#|\d+(?=[.)](?:\s|$)))", _inert_start, escaped)


def code(text: object) -> str:
    """Return a text of somebody else's as a code span in fences that it lacks; as `words` where a table breaks it."""
    escaped = line(text)
    if not escaped or "\\|" in escaped:
        return words(escaped)
    fence = "`" * next(n for n in range(1, len(escaped) + 2) if n not in map(len, re.findall("`+", escaped)))
    space = " " if escaped.startswith("`") or escaped.endswith("`") else ""
    return f"{fence}{space}{escaped}{space}{fence}"


def inert(markdown: str) -> str:
    """Return Markdown without HTML and with links to its own files alone: names, goals and errors of a study may hold
    others.

    What is code stays as it is: there ``<`` is a letter like any other. It ends at as many backticks as it begins with.
    """
    code = r"^```$.*?^```$|(?<!`)(?P<fence>`+)(?!`)[^\n]+?(?<!`)(?P=fence)(?!`)"
    link = r"\]\((?![\w./-]+\.(?:png|csv|yaml)\))"
    escaped, end = "", 0
    for found in [*re.finditer(code, markdown, re.MULTILINE | re.DOTALL), None]:
        text = markdown[end : found.start() if found else None]
        escaped += re.sub(link, r"]\\(", text.replace("<", "&lt;")) + (found[0] if found else "")
        end = found.end() if found else end
    return escaped


def _inert_start(found: re.Match[str]) -> str:
    """Return what would begin a heading, a quotation or a list."""
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def cell(text: str) -> str:
    """Return Markdown that stays in one cell of a table."""
    return re.sub(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", text).replace("|", "\\|")
