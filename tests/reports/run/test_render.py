"""Templates: how paragraphs are broken, that each of them compiles, and who waits for jinja2."""

import subprocess
import sys

import jinja2
import pytest

from hypermap.reports.run import render


def test_a_paragraph_is_one_line_wherever_its_template_breaks_it():
    assert render.paragraph("\n  one,\ntwo\n\n three.  \n") == "one, two three.\n\n"
    assert render.bullet("one,\ntwo.\n") == "- one, two.\n"


@pytest.mark.parametrize("text", ["", "\n", "  \n \n"])
def test_a_paragraph_without_words_leaves_no_empty_line(text):
    assert render.paragraph(text) == ""


def test_every_template_compiles():
    names = [str(path.relative_to(render.REPORTS)) for path in render.REPORTS.glob("*/templates/*.jinja")]
    assert names
    for name in names:
        render.environment().get_template(name)


def test_a_value_that_is_not_given_is_no_empty_text():
    with pytest.raises(jinja2.UndefinedError, match="'run' is undefined"):
        render.render("run/templates/data.md.jinja")


def test_what_writes_reports_imports_jinja2_when_it_writes_one():
    code = "import sys, hypermap.reports.run.page, hypermap.reports.review.changes; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
