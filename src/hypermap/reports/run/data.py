"""The report's section on the data: where the rows come from, what the columns are, and what became of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypermap.data.manifest import Manifest
from hypermap.reports.run import wording
from hypermap.reports.run.run import Run

PUBLISHED_TEST_ROWS = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 10_000}
"""Rows of the test sets that are published, by reader, to tell when a folder holds less."""

COLUMNS, WORDS = 100, 3
"""Columns of a table that are listed, and words of a category that are shown."""

SCALINGS = {
    "standard": "scaled to mean 0 and deviation 1",
    "min_max": "scaled to 0 to 1",
    "robust": "scaled by median and quartiles",
    "quantile": "brought to a normal distribution by their ranks",
    "none": "left as they are",
}

ENCODINGS = {
    "codes": "given to the model as codes, which it embeds or splits on itself",
    "one_hot": "one-hot",
    "ordinal": "ordinal numbers",
}

Entry = Mapping[str, Any]


def section(run: Run) -> list[str]:
    """Return the paragraphs of the section; of a table its columns too, and what the reader noted."""
    if not run.table:
        return [data_paragraph(run)]
    notes = "\n".join(f"- {wording.words(note)}" for note in run.manifest.warnings)
    return [
        _table_paragraph(run),
        *([f"Noted when the table was read:\n\n{notes}"] if notes else []),
        _columns(run.manifest),
        _preparation(run),
    ]


def data_paragraph(run: Run) -> str:
    """Return where the rows come from, how they were split and scaled, and what the test set is."""
    sizes = run.manifest.shape
    shape = " x ".join(map(str, sizes)) + (" pixels" if len(sizes) > 1 else " numbers")
    kind = f"{len(run.classes)} classes" if run.classes else "a number to predict"
    stratified = "stratified by class, " if run.classes else ""
    return (
        f"{_rows(run)} of {shape}, {kind}; {stratified}split seed {run.manifest.split_seed}; raw data's sha256 "
        f"`{run.manifest.raw_sha256[:12]}`. Scaling: {run.manifest.scaling}, with statistics of the "
        f"{run.manifest.fitted_on['rows']:,} training rows alone. {_test_set(run)}"
    )


def _rows(run: Run) -> str:
    rows = run.manifest.rows
    return f"{rows['train']:,} training, {rows['validation']:,} validation and {rows['test']:,} test rows"


def _table_paragraph(run: Run) -> str:
    """Return what is predicted from how many columns, and how the rows were split."""
    manifest, table = run.manifest, run.manifest.table
    target = f"the {len(run.classes)} classes of" if run.classes else "the number"
    log = manifest.target_transform
    learned = f", learned as its {log}" if log else ""
    columns = wording.count(len(table["columns"]), "column")
    repeated = " Training rows of the smaller classes are repeated." if manifest.oversample else ""
    return (
        f"{_rows(run)}; from {columns} to {target} {wording.code(table['target']['name'])}{learned}. "
        f"{_split(run)} {_test_set(run)}{repeated} Sha256 of what was read: `{manifest.raw_sha256[:12]}`."
    )


def _split(run: Run) -> str:
    table, seed = run.manifest.table, run.manifest.split_seed
    if table["time"]:
        return f"Split in the order of {wording.code(table['time'])}: validation rows are later than training rows."
    if table["group"]:
        return f"Split with seed {seed}, rows with one {wording.code(table['group'])} together."
    return f"Split with seed {seed}{', stratified by class' if run.classes else ''}."


def _test_set(run: Run) -> str:
    """Return whether the test figures may be held against published ones."""
    rows = run.manifest.rows["test"]
    if run.manifest.test_published and run.table:
        return f"The test rows are a file of their own, {_file_names(run.config['data']['test_path'])}."
    if not run.manifest.test_published:
        latest = run.table and run.manifest.table["time"]
        how = "are the latest" if latest else "were held out by the split seed"
        return f"There is no published test set: {rows:,} rows {how}, and figures of another split differ."
    whole = PUBLISHED_TEST_ROWS.get(run.manifest.reader.rpartition(".")[-1], rows)
    if rows < whole:
        return f"The test set is {rows:,} of the {whole:,} published rows: figures of the whole will differ."
    return "The test set is the published one."


def _file_names(paths: Any) -> str:
    return ", ".join(wording.code(Path(path).name) for path in ([paths] if isinstance(paths, str) else paths))


def _columns(manifest: Manifest) -> str:
    """Return a line for each column of the file, in its order."""
    table = manifest.table
    used = {column["name"]: column for column in table["columns"]}
    codes = dict(zip(_categories(table), manifest.layout["cardinalities"], strict=True))
    lines = [_column(name, used, codes, table) for name in table["file_columns"]]
    more = f"\n\nAnd {len(lines) - COLUMNS:,} more columns." if len(lines) > COLUMNS else ""
    return wording.table(("column", "kind", "missing", "holds", "became"), lines[:COLUMNS]) + more


def _categories(table: Entry) -> list[str]:
    """Return the columns that have a code each, in the order in which they have it."""
    return [column["name"] for column in table["columns"] if column["kind"] in ("category", "boolean")]


def _column(name: str, used: Mapping[str, Entry], codes: Mapping[str, int], table: Entry) -> tuple[str, ...]:
    """Name, kind, missing cells, content, and what became of it."""
    if name == table["target"]["name"]:
        return (wording.words(name), "", "", _words(table["target"]["classes"]), "**the target**")
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
    return _words(column["categories"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _words(categories: list[str]) -> str:
    """Return the first, and how many there are where that is not all."""
    if not categories:
        return "numbers"
    shown = ", ".join(wording.words(word) for word in categories[:WORDS])
    return f"{shown}, … ({len(categories):,})" if len(categories) > WORDS else shown


def _became(column: Entry, codes: Mapping[str, int]) -> str:
    if column["kind"] == "date":
        return f"numbers: {', '.join(column['parts'])}"
    return f"{codes[column['name']]} codes" if column["name"] in codes else "a number"


def _preparation(run: Run) -> str:
    """Return how numbers and categories were prepared, all on the training rows."""
    settings, layout = run.manifest.preparation, run.manifest.layout
    said = [f"All that follows was fitted on the {run.manifest.fitted_on['rows']:,} training rows alone."]
    if layout["numbers"]:
        said.append(f"Numbers: {_missing(settings, layout['binary'])}{SCALINGS[settings['scaling']]}{_pca(run)}.")
    if layout["cardinalities"]:
        rare = f"those of fewer than {settings['rare']} rows share a code; " if settings["rare"] > 1 else ""
        own = "a missing one is a category of its own; " if settings["missing_categories"] == "own" else ""
        said.append(f"Categories: {rare}{own}{ENCODINGS[run.encoding]}.")
    return " ".join(said)


def _missing(settings: Entry, indicators: int) -> str:
    if settings["missing"] == "drop":
        return "rows that lack something are left out; "
    filled = f"{settings['fill']:g}" if settings["missing"] == "constant" else f"the {settings['missing']}"
    indicator_note = (
        f", and {wording.count(indicators, 'column')} tell{'s' * (indicators == 1)} where" if indicators else ""
    )
    return f"a missing one becomes {filled.replace('_', ' ')}{indicator_note}; then "


def _pca(run: Run) -> str:
    if run.manifest.preparation["pca"] is None:
        return ""
    return f", and then {run.manifest.layout['numbers']} principal components stand for all of them"
