"""The report itself: `report.md`, its pictures, and the tables that `dvc plots` draws."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, r2_score

from hypermap.core.files import write_bytes, write_text
from hypermap.reports.run import baseline_table, data, pictures, plots, projection, wording
from hypermap.reports.run.diagnosis import Finding, diagnose
from hypermap.reports.run.render import render
from hypermap.reports.run.run import Run
from hypermap.reports.run.scores import diagnose_scores
from hypermap.tasks.base import locate_task
from hypermap.tasks.metrics import BINS
from hypermap.tasks.regression import LOGS

PICTURES = ("learning_curves", "confusion", "roc_calibration", "predictions", "residuals", "map")
"""Every picture a report can have; those that do not apply to a run are deleted."""

GROUPS = ("data", "model", "optimizer", "scheduler", "loss", "regularizer", "augment", "trainer", "validation")
WITHOUT_EPOCHS = ("data", "model", "validation")
"""The groups that have a part in a model which is not trained by epochs."""

TITLE_VALUES = ("hidden", "channels", "width", "blocks", "dropout", "lr", "momentum", "weight_decay")
"""Values that the title names, unless they are 0 or false."""

NOT_SHOWN = ("_target_", "name", "root")
"""`name` is the choice, which has a column; `root` is where a user keeps the data, and changes no number."""

RIGHT, MISTAKES, LISTED = 6, 12, 10
"""Pictures of right predictions and of mistakes; rows of a table of mistakes."""


def write_report(folder: Path, run: Run) -> None:
    """Write folder/report.md, folder/pictures/*.png and folder/plots/*.csv; equal runs give equal bytes.

    Pictures of an earlier run that do not apply to this one are deleted; tables that do not apply keep their header.
    """
    drawn = (_classified(run) if run.task == "classification" else _regressed(run)) | _mapped(run)
    for name in PICTURES:
        path = folder / "pictures" / f"{name}.png"
        if name in drawn:
            write_bytes(path, drawn[name])
        else:
            path.unlink(missing_ok=True)
    plots.write_plots(folder / "plots", _tables(run))
    write_text(folder / "report.md", page(run, drawn))


def page(run: Run, drawn: Iterable[str]) -> str:
    """Return the text of report.md, in plain Markdown; `drawn` names the pictures that stand beside it."""
    classifies = run.task == "classification"
    text = render(
        "run/templates/report.md.jinja",
        run=run,
        drawn=set(drawn),
        title=_title(run),
        floor=_floor(run),
        findings=_findings(run),
        faultless=_faultless(run) if classifies else [],
        bins=BINS,
        mistakes=int(np.sum(run.predictions.argmax(axis=1) != run.targets)) if classifies else None,
        shown=MISTAKES,
        accurate=_more_accurate(run),
        metrics_table=_metrics_table,
        temperature_table=_temperature_table,
        validation_way=_validation_way,
        beside=_beside,
        class_table=_class_table,
        map_caption=_map_caption,
        mistakes_table=_mistakes_table,
        choices_table=_choices_table,
        data=data.section,
    )
    return f"{text}\n"


def worst_mistakes(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the indices of the rows that are wrong, the most confident first; at most `count`."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def right_examples(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the indices of the first right row of each class, in the order of the classes; at most `count`."""
    right = np.flatnonzero(probabilities.argmax(axis=1) == targets)
    _, first = np.unique(targets[right], return_index=True)
    return right[first][:count]


def _classified(run: Run) -> dict[str, bytes]:
    """Return the pictures of a classification run by name."""
    curves = plots.roc_curves(run.targets, run.predictions, run.classes)
    labels = np.arange(len(run.classes))
    counts = confusion_matrix(run.targets, run.predictions.argmax(axis=1), labels=labels)
    bins = plots.calibration_rows(run.targets, run.predictions)
    drawn = {
        **_curves(run, "accuracy"),
        "confusion": pictures.confusion(counts, run.classes),
        "roc_calibration": pictures.roc_and_calibration(curves, bins),
    }
    return {**drawn, "predictions": _prediction_grid(run)} if run.images else drawn


def _regressed(run: Run) -> dict[str, bytes]:
    """Return the pictures of a regression run by name."""
    return {**_curves(run, "R²"), "residuals": pictures.residuals(run.targets, run.predictions)}


def _curves(run: Run, score: str) -> dict[str, bytes]:
    """Return the learning curves of a model that has epochs."""
    if not run.history:
        return {}
    return {"learning_curves": pictures.learning_curves(run.history, run.best_epoch, score)}


def _mapped(run: Run) -> dict[str, bytes]:
    if run.map is None:
        return {}
    if run.task == "regression":
        return {"map": projection.values_map(run.map, run.targets, run.predictions)}
    return {"map": projection.classes_map(run.map, run.targets, run.predictions.argmax(axis=1), run.classes)}


def _tables(run: Run) -> dict[str, plots.Rows]:
    """Return the tables that apply to the run."""
    if run.task == "regression":
        return {"history": list(run.history), "residuals": plots.residual_rows(run.targets, run.predictions)}
    return {
        "history": list(run.history),
        "confusion": plots.confusion_rows(run.targets, run.predictions, run.classes),
        "roc": plots.roc_rows(plots.roc_curves(run.targets, run.predictions, run.classes)),
        "calibration": plots.calibration_rows(run.targets, run.predictions),
    }


def _prediction_grid(run: Run) -> bytes:
    right = right_examples(run.targets, run.predictions, RIGHT)
    wrong = worst_mistakes(run.targets, run.predictions, MISTAKES)
    chosen = np.concatenate([right, wrong])
    brightest = max(float(run.inputs.max()), 1e-12)  # 255, or 16 for the UCI digits
    return pictures.predictions(run.inputs[chosen] / brightest, [_caption(run, k) for k in chosen], len(right))


def _caption(run: Run, row: int) -> tuple[str, str]:
    """Return what was predicted with what confidence; what it is, if that was wrong, and where it stands in the raw
    data.
    """
    predicted = int(run.predictions[row].argmax())
    actual = "" if predicted == run.targets[row] else f"is {pictures.short(run.classes[run.targets[row]])}, "
    return f"{pictures.short(run.classes[predicted])}  {run.predictions[row].max():.4f}", f"{actual}row {run.rows[row]}"


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


def _floor(run: Run) -> float | None:
    """Return what costs nothing to reach: the accuracy of the most frequent class, or the r2 that the training rows'
    mean has, which need not be that of the test rows.
    """
    if run.task == "classification":
        return float(np.bincount(run.targets).max() / len(run.targets))
    shift, transform = run.manifest.target_shift, run.manifest.target_transform
    if "r2" not in run.test:
        return None
    constant = LOGS[transform][1](shift) if transform else shift
    return float(r2_score(run.targets, np.full(len(run.targets), constant)))


def _findings(run: Run) -> list[Finding]:
    rows, task = int(run.manifest.rows["validation"]), locate_task(run.task)
    if run.history:
        images = len(run.manifest.shape) > 1
        return diagnose(run.history, run.best_epoch, run.monitor, task, rows, run.stopped_early, images)
    return diagnose_scores(run.config["model"]["_target_"], run.train, run.validation, task, rows)


def _metrics_table(run: Run) -> str:
    """Return a table of test and validation beside each other, each with its interval."""
    level, directions = f"{run.level} interval", locate_task(run.task).metrics
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


def _faultless(run: Run) -> list[tuple[str, int, float]]:
    """Return what was predicted without a mistake, so that every resample is too and the interval a point: a split's
    name, its rows, and the least accuracy by the rule of three.
    """
    splits = (("test", len(run.targets), run.test), ("validation", run.manifest.rows["validation"], run.validation))
    return [(name, rows, max(0.0, 1 - 3 / rows)) for name, rows, metrics in splits if metrics["accuracy"] == 1]


def _temperature_table(run: Run) -> str:
    """Return what the test rows' probabilities are worth without the temperature and with it."""
    level = f"{run.level} interval"
    without, intervals = run.uncalibrated, run.uncalibrated_intervals
    lines = [
        (
            f"`{name}`",
            wording.metric(name, without[name]),
            wording.interval(name, intervals),
            wording.metric(name, run.test[name]),
            wording.interval(name, run.test_intervals),
        )
        for name in baseline_table.PROBABILITIES
    ]
    return wording.table(("metric", "test without it", level, "test", level), lines)


def _validation_way(run: Run) -> str:
    """Return how validation was done, where it was more than one training."""
    validation, seeds = run.config["validation"], run.config["trainer"].get("repeats", 1)
    values = ", ".join(
        f"{key} {wording.words(wording.value(value))}" for key, value in validation.items() if key not in NOT_SHOWN
    )
    return f"{validation['name']}{values and f' ({values})'}" + (f" over {seeds} seeds" if seeds > 1 else "")


def _beside(run: Run) -> list[str]:
    """Return whether the model earns its place beside the others that were fitted."""
    name = run.config["model"]["name"]
    return baseline_table.section(
        name, run.task, run.test, run.test_intervals, run.beside, run.level, run.config.get("experiment")
    )


def _class_table(run: Run) -> str:
    """Return a table of precision, recall, F1 and rows of each class."""
    labels = np.arange(len(run.classes))
    columns = precision_recall_fscore_support(
        run.targets, run.predictions.argmax(axis=1), labels=labels, zero_division=0.0
    )
    lines = [
        (wording.words(name), f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}", f"{int(rows):,}")
        for name, precision, recall, f1, rows in zip(run.classes, *columns, strict=True)
    ]
    return wording.table(("class", "precision", "recall", "f1", "rows"), lines)


def _map_caption(run: Run) -> str:
    assert run.map is not None
    return projection.caption(run.map, len(run.targets), run.task)


def _mistakes_table(run: Run) -> str:
    """Return the rows furthest from the truth, for data that have no pictures."""
    if run.task == "regression":
        residual = run.targets - run.predictions
        worst = np.argsort(-np.abs(residual), kind="stable")[:LISTED]
        columns = (run.targets[worst], run.predictions[worst], residual[worst])
        lines = [
            (str(run.rows[k]), *map(wording.significant, values)) for k, *values in zip(worst, *columns, strict=True)
        ]
        return wording.table(("row", "actual", "predicted", "residual"), lines)
    worst = worst_mistakes(run.targets, run.predictions, LISTED)
    lines = [
        (str(run.rows[k]), *(wording.words(run.classes[of]) for of in (run.targets[k], p.argmax())), f"{p.max():.4f}")
        for k, p in zip(worst, run.predictions[worst], strict=True)
    ]
    return wording.table(("row", "actual", "predicted", "confidence"), lines)


def _choices_table(run: Run) -> str:
    """Return each group's choice and values, as one types them."""
    groups = [group for group in (GROUPS if run.history else WITHOUT_EPOCHS) if group in run.config]
    lines = [(group, run.config[group]["name"], _values(run, group)) for group in groups]
    return wording.table(("group", "choice", "values"), lines)


def _values(run: Run, group: str) -> str:
    """Return a choice's values; of the many that a table's has, those that are set."""
    values = {key: value for key, value in run.config[group].items() if key not in NOT_SHOWN}
    if group == "data" and run.table:
        values = {key: value for key, value in values.items() if value not in (None, [], {})}
    return ", ".join(f"{wording.code(key)} {wording.words(wording.value(value))}" for key, value in values.items())


def _more_accurate(run: Run) -> Mapping[str, Any] | None:
    """Return the epoch of the best accuracy, where one of a lower loss is kept instead."""
    if run.monitor != "accuracy" or not run.history:
        return None
    best = max(run.history, key=lambda row: row["validation_score"])
    kept = run.history[run.best_epoch - 1]
    return None if kept["validation_score"] == best["validation_score"] else best
