"""The report's section on the data: where the rows come from, what the columns are, and what became of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypermap.data.manifest import Manifest
from hypermap.reports.run import wording
from hypermap.reports.run.render import render
from hypermap.reports.run.run import Run

PUBLISHED_TEST_ROWS = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 10_000}
"""Rows of the test sets that are published, by reader, to tell when a folder holds less."""

COLUMNS, WORDS = 100, 3
"""Columns of a table that are listed, and words of a category that are shown."""

Entry = Mapping[str, Any]


def section(run: Run) -> str:
    """Return the section; of a table its columns too, and what the reader noted."""
    table = run.table
    of_table = {
        "columns_table": _columns(run.manifest) if table else None,
        "more_columns": len(run.manifest.table["file_columns"]) - COLUMNS if table else 0,
        "filled": _filled(run.manifest.preparation) if table else None,
        "test_files": _file_names(run.config["data"]["test_path"]) if table and run.manifest.test_published else None,
    }
    published = PUBLISHED_TEST_ROWS.get(run.manifest.reader.rpartition(".")[-1], 0)
    return render("run/templates/data.md.jinja", run=run, published=published, **of_table)


def _file_names(paths: Any) -> str:
    return ", ".join(wording.code(Path(path).name) for path in ([paths] if isinstance(paths, str) else paths))


def _columns(manifest: Manifest) -> str:
    """Return a line for each of the file's first columns, in its order."""
    table = manifest.table
    used = {column["name"]: column for column in [*table["columns"], *table.get("texts", [])]}
    names, sizes = _categories(table), manifest.layout["cardinalities"]
    codes = (
        dict.fromkeys(names, None)
        if manifest.preparation["categories"] == "target"
        else dict(zip(names, sizes, strict=True))
    )
    lines = [_column(name, used, codes, table) for name in table["file_columns"][:COLUMNS]]
    return wording.table(("column", "kind", "missing", "holds", "became"), lines)


def _categories(table: Entry) -> list[str]:
    """Return the columns that have a code each, in the order in which they have it."""
    return [column["name"] for column in table["columns"] if column["kind"] in ("category", "boolean")]


def _column(name: str, used: Mapping[str, Entry], codes: Mapping[str, int | None], table: Entry) -> tuple[str, ...]:
    """Name, kind, missing cells, content, and what became of it."""
    targets = [
        target for target in table.get("targets") or [table["target"]] if target.get("within", target["name"]) == name
    ]
    if targets:
        held = [target["name"] for target in targets] if "within" in targets[0] else targets[0]["classes"]
        return (wording.words(name), "", "", _words(held), "**the target**" if "target" in table else "**a target**")
    if name in used:
        column = used[name]
        return (wording.words(name), column["kind"], f"{column['missing']:,}", _holds(column), _became(column, codes))
    roles = {table["group"]: "keeps rows together in the splits", table["time"]: "orders the splits"}
    left_out = f"left out: {wording.words(table['dropped'].get(name, 'not needed'))}"
    return (wording.words(name), "", "", "", roles.get(name) or left_out)


def _holds(column: Entry) -> str:
    if column["kind"] == "number" and column["lowest"] is not None:
        return f"{_number(column['lowest'])} to {_number(column['highest'])}"
    if column["kind"] == "date":
        return wording.words(column["form"] or "")
    return "free text" if column["kind"] == "text" else _words(column["categories"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _words(categories: list[str]) -> str:
    """Return the first, and how many there are where that is not all."""
    if not categories:
        return "numbers"
    shown = ", ".join(wording.words(word) for word in categories[:WORDS])
    return f"{shown}, … ({len(categories):,})" if len(categories) > WORDS else shown


def _became(column: Entry, codes: Mapping[str, int | None]) -> str:
    if column["kind"] == "date":
        return f"numbers: {', '.join(column['parts'])}"
    if column["kind"] == "text":
        return "components"
    if column["name"] not in codes:
        return "a number"
    size = codes[column["name"]]
    return "the target's mean" if size is None else f"{size} codes"


def _filled(preparation: Entry) -> str:
    """Return what stands for a number that is missing."""
    missing = str(preparation["missing"])
    return f"{preparation['fill']:g}" if missing == "constant" else f"the {missing.replace('_', ' ')}"
