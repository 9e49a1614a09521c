"""The text of reports stands in templates, a file a page; this fills them in."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core.passwords import masked
from hypermap.reports.run import wording

if TYPE_CHECKING:
    from jinja2 import Environment

REPORTS = Path(__file__).parents[1]


def render(template: str, **values: Any) -> str:
    """Return a template of `REPORTS`, such as ``run/templates/report.md.jinja``, with its values, and without the line
    breaks at its end.

    Nothing is escaped: words of somebody else's are to be given to the filters `words` and `code`, or `html`.
    """
    return environment().get_template(template).render(values).rstrip("\n")


@cache
def environment() -> "Environment":
    """Return what reads the templates of `REPORTS`, with the filters that they use."""
    import html

    import jinja2  # no start of a script waits for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "paragraph": paragraph,
        "bullet": bullet,
        "thousands": lambda number: f"{number:,}",
        "count": wording.count,
        "words": wording.words,
        "code": wording.code,
        "html": html.escape,
        "masked": masked,
    }
    environment.globals |= {"metric": wording.metric, "interval": wording.interval}
    return environment


def paragraph(text: str) -> str:
    """Return a paragraph as one line, with an empty line after it; a template breaks it where its own lines end."""
    lines = [line.strip(" ") for line in text.split("\n")]
    joined = " ".join(line for line in lines if line)
    return f"{joined}\n\n" if joined else ""


def bullet(text: str) -> str:
    """Return a line of a list, which a template breaks likewise."""
    return f"- {paragraph(text)[:-1]}"
