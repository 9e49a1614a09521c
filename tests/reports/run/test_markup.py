"""Names of classes, columns, files and studies are anybody's: a reader sees them, and nothing that they would do."""

import csv

import optuna
import polars
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hypermap.core.files import csv_text, without_apostrophe, write_csv
from hypermap.inference.table_writer import writing
from hypermap.reports.run import wording
from hypermap.reports.study import write
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds

HOSTILE = [
    "<script>open('hacked')</script>",
    "<img src=x onerror=alert(1)>",
    "a | b",
    "a\\|b",
    "one`two",
    "``two`one <b>`",
    "`",
    "line\nbreak",
    "line\r\n\r\n# heading",
    "left\u2028right",
    "[click](javascript:alert(1))",
    "![pixel](http://elsewhere/x.png)",
    "[a]: http://elsewhere",
    "*bold* _it_ ~~no~~ __x__",
    "# heading",
    "1. one",
    "- item",
    "> quoted",
    "a&lt;b&#60;",
    "\\<b>",
    "=1+1",
    "@SUM(A1)",
]
PLAIN = ["iris_setosa", "<=50K", "AT&T", "-1", "3.5", "[64, 64]", "a\\b", "C:\\new", "1.5e-3", "no & yes"]


def seen(markdown, kinds=("text", "code_inline")):
    """What a reader sees of a paragraph, or of the cells of a table, and which elements there are."""
    parser = (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    )
    tokens = [part for token in parser.parse(markdown) for part in (token, *(token.children or ()))]
    return [token for token in tokens if token.type in kinds], {token.type for token in tokens}


@pytest.mark.parametrize("text", [*HOSTILE, *PLAIN])
@pytest.mark.parametrize("form", [wording.words, wording.code])
def test_markdown_shows_a_text_in_one_line_and_does_nothing(text, form):
    for markdown in (form(text), wording.table(("a", "b"), [("x", form(text))])):
        tokens, types = seen(markdown)
        assert not types & {"html_inline", "html_block", "link_open", "image", "heading_open", "strong_open", "em_open"}
        assert not types & {"list_item_open", "blockquote_open", "fence", "s_open"}
        shown = "".join(token.content for token in tokens)
        assert shown.removeprefix("abx") == wording.line(text)


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_names_stand_in_the_file_as_they_are(text):
    assert wording.words(text) == text.replace("<", "&lt;")


def test_a_cell_is_one_line_of_a_table():
    table = wording.table(("a|b", "c\nd"), [("e\r\nf", "g|h")])
    assert len(table.splitlines()) == 3
    tokens, _ = seen(table)
    assert [token.content for token in tokens] == ["a|b", "c d", "e f", "g|h"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-x", "=-1", "- 1"])
def test_a_formula_is_text_in_csv_and_comes_back(text, tmp_path):
    given, text = text, text.replace("\r", "\n")
    assert csv_text(given) == csv_text(text) == f"'{text}"
    assert without_apostrophe(csv_text(text)) == text
    write_csv(tmp_path / "a.csv", [given, "b"], [{given: given, "b": -1.5}])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [[f"'{text}", "b"], [f"'{text}", "-1.5"]]
    with writing(tmp_path / "b.csv") as write_batch:
        write_batch(polars.DataFrame({"prediction": [given, None, "fine"], "probability_=1": [-0.5, None, 1.0]}))
    with (tmp_path / "b.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["prediction", f"'{text}", "", "fine"]


@pytest.mark.parametrize(
    "text", ["-1", "+1.5", "-.5", "-1e-05", "-inf", "-", "+", "a=b", "x@y", "'=1", "", "1-2", "<=50K"]
)
def test_numbers_signs_and_other_texts_stay_as_they_are_in_csv(text):
    assert csv_text(text) == text


def test_what_is_no_text_stays():
    assert [csv_text(value) for value in (-1, -1.5, None, True)] == [-1, -1.5, None, True]


def test_the_report_of_a_study(tmp_path):
    name, names = "\n".join(HOSTILE), HOSTILE[:6]
    space = {each: FloatDistribution(0, 1) for each in names} | {"other": CategoricalDistribution(HOSTILE)}

    def made(k):
        values = dict.fromkeys(names, k / 10) | {"other": HOSTILE[k]}
        return optuna.trial.create_trial(params=values, distributions=space, value=k / 10)

    study = optuna.create_study(study_name=name, direction="maximize")
    study.add_trials([made(k) for k in range(10)])
    study.set_user_attr("purpose", {"goal": name, "scientific": names})
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.FAIL,
            params={},
            user_attrs={"result": {"outcome": "failed", "error": f"ValueError: {name}"}},
        )
    )
    write.write_report(read(study), tmp_path, Thresholds())
    [folder] = tmp_path.iterdir()
    text = (folder / "report.md").read_text()
    tokens, types = seen(text, ("link_open", "image"))
    assert not types & {"html_inline", "html_block"}
    targets = {token.attrs.get("href", token.attrs.get("src")) for token in tokens}
    assert all(target in ("trials.csv", "best.yaml") or target.startswith("pictures/") for target in targets)
    html = (folder / "report.html").read_text()
    assert "<script>open(" not in html
    assert "<img src=x" not in html
    with (folder / "trials.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert len(rows) == 11
    assert not any(cell.startswith(("=", "@")) for row in [header, *rows] for cell in row)
