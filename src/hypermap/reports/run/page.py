"""The report itself: `report.md`, its pictures, and the tables that `dvc plots` draws."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypermap.core.files import write_bytes, write_text
from hypermap.core.instantiate import locate
from hypermap.data.table_preprocessor import text_names
from hypermap.reports.run import baseline_table, data, duplicates, plots, wording
from hypermap.reports.run.diagnosis import Finding, diagnose
from hypermap.reports.run.render import render
from hypermap.reports.run.run import Run
from hypermap.reports.run.scores import diagnose_scores
from hypermap.reports.run.task_report import PICTURES, TaskReport
from hypermap.tasks.base import locate_task

GROUPS = ("data", "model", "optimizer", "scheduler", "loss", "regularizer", "augment", "trainer", "validation")
WITHOUT_EPOCHS, OF_AUTOML = ("data", "model", "validation"), ("data", "automl", "validation")
"""The groups that have a part in a model which is not trained by epochs."""

LEADERS = 10  # candidates of an AutoML that are shown whether or not they are in its ensemble

TITLE_VALUES = ("hidden", "channels", "width", "blocks", "dropout", "lr", "momentum", "weight_decay")
"""Values that the title names, unless they are 0 or false."""

NOT_SHOWN = ("_target_", "name", "root")
"""`name` is the choice, which has a column; `root` is where a user keeps the data, and changes no number."""


def write_report(folder: Path, run: Run) -> None:
    """Write folder/report.md, folder/pictures/*.png and folder/plots/*.csv; equal runs give equal bytes.

    Pictures of an earlier run that do not apply to this one are deleted; tables that do not apply keep their header.
    """
    report = report_of(run)
    drawn = report.pictures()
    numbered = {path.stem for path in (folder / "pictures").glob("target_*.png")}
    for name in {*PICTURES, *numbered} - drawn.keys():
        (folder / "pictures" / f"{name}.png").unlink(missing_ok=True)
    for name, content in drawn.items():
        write_bytes(folder / "pictures" / f"{name}.png", content)
    plots.write_plots(folder / "plots", report.tables())
    write_text(folder / "report.md", page(run, drawn))


def report_of(run: Run) -> TaskReport:
    """Return what the run's task has to say of it."""
    found = locate(locate_task(run.task).report)(run)
    assert isinstance(found, TaskReport)
    return found


def page(run: Run, drawn: Iterable[str]) -> str:
    """Return the text of report.md, in plain Markdown; `drawn` names the pictures that stand beside it."""
    report = report_of(run)
    text = render(
        "run/templates/report.md.jinja",
        run=run,
        report=report,
        drawn=set(drawn),
        title=_title(run),
        findings=[*_findings(run), *_duplicates(run, report)],
        accurate=_more_accurate(run),
        sections=[*report.sections(), *_facts(run, report)],
        metrics_table=_metrics_table,
        validation_way=_validation_way,
        beside=_beside,
        text_gain=_text_gain(report),
        kept_gain=_kept_gain(report),
        without_twins=_without_twins(run, report),
        choices_table=_choices_table,
        leaderboard=_leaderboard,
        data=data.section,
        **report.values(),
    )
    return f"{text}\n"


def _title(run: Run) -> str:
    """Return data, model and optimizer in a line, with the values that matter most."""
    groups = ("data", "model", "optimizer") if run.history else ("data", "model")
    return ", ".join(f"{run.config[group]['name']}{_brief(run.config[group])}" for group in groups)


def _brief(values: Mapping[str, Any]) -> str:
    if values["name"] == "table":  # a name that says little
        files = [values["path"]] if isinstance(values["path"], str) else values["path"]
        return f" ({', '.join(wording.words(Path(file).name) for file in files)})"
    said = [f"{key} {wording.words(wording.value(values[key]))}" for key in TITLE_VALUES if values.get(key)]
    return f" ({', '.join(said)})" if said else ""


def _findings(run: Run) -> list[Finding]:
    rows, task = int(run.manifest.rows["validation"]), locate_task(run.task)
    if run.search is not None:
        return [Finding("ensemble", str(run.search.summary["verdict"]))]
    if run.history:
        images = len(run.manifest.shape) > 1
        return diagnose(run.history, run.best_epoch, run.monitor, task, rows, run.stopped_early, images)
    return diagnose_scores(run.config["model"]["_target_"], run.train, run.validation, task, rows)


def _duplicates(run: Run, report: TaskReport) -> list[Finding]:
    """Return what test rows with a twin outside the test set do to the score; nothing if there are none."""
    if run.twins is None:
        return []
    separable = not run.manifest.test_published
    return [duplicates.finding(run.twins, _compared(report)[0], run.test, run.level, separable=separable)]


def _without_twins(run: Run, report: TaskReport) -> str | None:
    """Return a table of all models with and without these rows, if there are enough others."""
    if run.twins is None or not run.twins.test:
        return None
    name = run.config["model"]["name"]
    return duplicates.section(
        run.twins, name, _compared(report)[0], run.test, run.test_intervals, run.beside, run.level
    )


def _compared(report: TaskReport) -> tuple[str, ...]:
    """Return the metrics by which models are compared, the most important first."""
    return report.compared or (report.task.monitor,)


def _metrics_table(run: Run) -> str:
    """Return a table of test and validation beside each other, each with its interval."""
    level, directions = f"{run.level} interval", locate_task(run.task)(run.manifest).directions
    lines = [
        (
            f"`{name}`" + ("" if directions[name] else " (lower is better)"),
            wording.metric(name, value),
            wording.interval(name, run.test_intervals),
            wording.metric(name, run.validation[name]) if name in run.validation else "",
            wording.interval(name, run.validation_intervals),
        )
        for name, value in run.test.items()
    ]
    return wording.table(("metric", "test", level, "validation", level), lines)


def _validation_way(run: Run) -> str:
    """Return how validation was done, where it was more than one training."""
    validation, seeds = run.config["validation"], run.config["trainer"].get("repeats", 1)
    values = ", ".join(
        f"{key} {wording.words(wording.value(value))}" for key, value in validation.items() if key not in NOT_SHOWN
    )
    return f"{validation['name']}{values and f' ({values})'}" + (f" over {seeds} seeds" if seeds > 1 else "")


def _beside(report: TaskReport) -> list[str]:
    """Return whether the model earns its place beside the others that were fitted."""
    run, name = report.run, report.run.config["model"]["name"]
    compared, experiment = _compared(report), run.config.get("experiment")
    return baseline_table.section(
        name, compared, run.split_test, run.split_intervals, run.beside, run.level, experiment
    )


def _facts(run: Run, report: TaskReport) -> list[str]:
    """Return the section of what only this kind of data has to say, with the score of the rows told apart by it."""
    facts = run.facts
    if facts is None:
        return []
    task = report.task(run.manifest)
    lines = []
    for place, name in enumerate(facts.names):
        rows = facts.places == place
        if count := int(rows.sum()):
            score = task.measure(run.targets[rows], run.predictions[rows])[task.monitor]
            error = f"{task.standard_error(score, count):.4f}"
            lines.append((wording.words(name), f"{count:,}", wording.metric(task.monitor, score), error))
    scores = wording.table((facts.noun, "test rows", task.monitor, "standard error"), lines)
    return [f"## {facts.title}", *facts.sentences, scores]


def _kept_gain(report: TaskReport) -> str:
    """Return by how much the model that is kept differs from that of the split."""
    run, compared = report.run, _compared(report)
    known = [name for name in compared if run.kept and name in run.kept.differences]
    said = [baseline_table.difference(name, run.kept.differences[name], run.level) for name in known if run.kept]
    return wording.listed(said) if said else ""


def _text_gain(report: TaskReport) -> list[str]:
    """Return what the texts of a table gained; nothing if the model learns from none."""
    run = report.run
    names = text_names(run.manifest) if run.table else []
    compared = _compared(report)
    return baseline_table.text_gain(names, compared, run.split_test, run.without_texts, run.level) if names else []


def _leaderboard(run: Run) -> str:
    """Return the candidates of an AutoML that are in its ensemble, and the best of the others."""
    assert run.search is not None
    entries = run.search.leaderboard
    used = [entry for entry in entries if float(entry["weight"])]
    shown = [entry for entry in entries if entry in used or entry in entries[:LEADERS]]
    lines = [
        (
            wording.code(entry["settings"]),
            f"{float(entry['loss']):.5g}",
            f"{float(entry['low']):.5g} – {float(entry['high']):.5g}",
            f"{float(entry['weight']):.3f}" if entry in used else "",
            f"{float(entry['megabytes']):.2f}",
        )
        for entry in shown
    ]
    summary = run.search.summary
    lines.append(("**the ensemble**", f"{summary['loss']:.5g}", "", "", f"{summary['megabytes']:.2f}"))
    return wording.table(("candidate", "loss", "95 % interval", "weight", "MB"), lines)


def _choices_table(run: Run) -> str:
    """Return each group's choice and values, as one types them."""
    having = OF_AUTOML if run.search else GROUPS if run.history else WITHOUT_EPOCHS
    groups = [group for group in having if group in run.config]
    lines = [(group, run.config[group]["name"], _values(run, group)) for group in groups]
    return wording.table(("group", "choice", "values"), lines)


def _values(run: Run, group: str) -> str:
    """Return a choice's values; of the many that a table's has, those that are set."""
    values = {key: value for key, value in run.config[group].items() if key not in NOT_SHOWN}
    if group == "data" and run.table:
        unused = () if text_names(run.manifest) else ("text_components", "text_ngrams", "text_max_bytes", "text_gain")
        values = {key: value for key, value in values.items() if value not in (None, [], {}) and key not in unused}
    return ", ".join(f"{wording.code(key)} {wording.words(wording.value(value))}" for key, value in values.items())


def _more_accurate(run: Run) -> Mapping[str, Any] | None:
    """Return the epoch of the best accuracy, where one of a lower loss is kept instead."""
    if run.monitor != "accuracy" or not run.history:
        return None
    best = max(run.history, key=lambda row: row["validation_score"])
    kept = run.history[run.best_epoch - 1]
    return None if kept["validation_score"] == best["validation_score"] else best
