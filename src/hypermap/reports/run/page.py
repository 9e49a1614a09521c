"""The report itself: `report.md`, its pictures, and the tables that `dvc plots` draws."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, r2_score

from hypermap.core.files import write_bytes, write_text
from hypermap.data.preprocessor import LOGS
from hypermap.reports.run import baseline_table, data, pictures, plots, projection, wording
from hypermap.reports.run.diagnosis import diagnose
from hypermap.reports.run.run import Run
from hypermap.reports.run.scores import diagnose_scores
from hypermap.tasks.metrics import BINS, LOWER_IS_BETTER

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

SECTIONS = {
    "learning_curves": "Learning curves",
    "confusion": "Confusion matrix",
    "roc_calibration": "ROC and calibration",
    "residuals": "Residuals",
    "predictions": "Predictions",
    "map": "Map of the test rows",
}


AGAIN = """\
## How to get it again

At the commit that holds this report:

```
dvc repro                     # this run; nothing is done where nothing changed
dvc exp show                  # every run beside this one
dvc metrics diff HEAD~1       # what the last commit changed, in numbers
dvc plots diff HEAD~1         # and in curves
```"""


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
    shown = {name: title for name, title in SECTIONS.items() if name in drawn}
    captions = {
        "confusion": _class_table,
        "predictions": _predictions_caption,
        "roc_calibration": _curves_caption,
        "map": _map_caption,
    }
    parts = [
        f"# {_title(run)}",
        _headline(run),
        "## Diagnosis",
        *_diagnosis(run),
        "## Metrics",
        _metrics_table(run),
        _metrics_note(run),
        *_calibration_note(run),
        *([_fits_line(run)] if run.fits else []),
        *_beside(run),
    ]
    for name, title in shown.items():
        parts += [f"## {title}", f"![{title}](pictures/{name}.png)"]
        parts += [captions[name](run)] if name in captions else []
    if "predictions" not in shown:
        parts += ["## The worst mistakes", _mistakes_table(run), *([_mistakes_note(run)] if run.table else [])]
    parts += ["## What was run", _choices_table(run), _run_paragraph(run), "## Data", *data.section(run), AGAIN]
    return "\n\n".join(parts) + "\n"


def worst_mistakes(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Indices of the rows that are wrong, the most confident first; at most `count`."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def right_examples(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Indices of the first right row of each class, in the order of the classes; at most `count`."""
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
    """Data, model and optimizer in a line, with the values that matter most."""
    groups = ("data", "model", "optimizer") if run.history else ("data", "model")
    return ", ".join(f"{run.config[group]['name']}{_brief(run.config[group])}" for group in groups)


def _brief(values: Mapping[str, Any]) -> str:
    if values["name"] == "table":  # a name that says little
        files = [values["path"]] if isinstance(values["path"], str) else values["path"]
        return f" ({', '.join(wording.words(Path(file).name) for file in files)})"
    said = [f"{key} {wording.words(wording.value(values[key]))}" for key in TITLE_VALUES if values.get(key)]
    return f" ({', '.join(said)})" if said else ""


def _headline(run: Run) -> str:
    """Return the number to remember, with its interval, and what costs nothing to reach."""
    names = ["accuracy"] if run.task == "classification" else ["r2", "rmse"]
    said = [
        f"**Test {name} {wording.metric(name, run.test[name])}** ({run.level} interval "
        f"{wording.interval(name, run.test_intervals, ' to ')})"
        for name in names
        if name in run.test
    ]
    text = " and ".join(said).replace(" and **Test", " and **test") + f" on {len(run.targets):,} rows."
    if run.task == "regression":
        return text + _constant(run)
    share = np.bincount(run.targets).max() / len(run.targets)
    return f"{text} Always naming the most frequent class would have accuracy {share:.4f}."


def _constant(run: Run) -> str:
    """Return what r2 the training rows' mean has, which need not be that of the test rows."""
    shift, transform = run.manifest.target_shift, run.manifest.target_transform
    if "r2" not in run.test:
        return ""
    constant = LOGS[transform][1](shift) if transform else shift
    usual = "geometric mean" if transform == "log" else "mean"
    floor = r2_score(run.targets, np.full(len(run.targets), constant))
    return f" Always predicting the training rows' {usual} would have r2 {floor:.4f}."


def _diagnosis(run: Run) -> list[str]:
    rows = int(run.manifest.rows["validation"])
    if run.history:
        images = len(run.manifest.shape) > 1
        found = diagnose(run.history, run.best_epoch, run.monitor, run.task, rows, run.stopped_early, images)
    else:
        found = diagnose_scores(run.config["model"]["_target_"], run.train, run.validation, run.task, rows)
    return [f"**{finding.kind.replace('_', ' ').capitalize()}.** {finding.sentence}" for finding in found]


def _metrics_table(run: Run) -> str:
    """Test and validation beside each other, each with its interval."""
    level = f"{run.level} interval"
    lines = [
        (
            f"`{name}`" + (" (lower is better)" if name in LOWER_IS_BETTER else ""),
            wording.metric(name, value),
            wording.interval(name, run.test_intervals),
            wording.metric(name, run.validation[name]) if name in run.validation else "",
            wording.interval(name, run.validation_intervals),
        )
        for name, value in run.test.items()
    ]
    return wording.table(("metric", "test", level, "validation", level), lines)


def _metrics_note(run: Run) -> str:
    picked = "The epoch was picked" if run.history else "Settings are picked"
    note = (
        "Intervals are a bootstrap over rows: what another sample of as many rows would change, not another training "
        f"run. {picked} on the validation rows, which flatters their numbers; the test rows picked nothing."
    )
    if run.manifest.arguments.get("group") or run.manifest.arguments.get("time"):
        note += " The bootstrap takes rows for independent; those of one group or time are alike, so it is too sure."
    if run.task == "regression":
        return note
    note += " Precision, recall and F1 are means over classes."
    rows = {"test": len(run.targets), "validation": run.manifest.rows["validation"]}
    for name, metrics in (("test", run.test), ("validation", run.validation)):
        if metrics["accuracy"] == 1:  # every resample is without a mistake, and the interval a point
            least = max(0.0, 1 - 3 / rows[name])
            note += f" No mistake in {rows[name]:,} {name} rows: the accuracy may still be {least:.4f} (rule of three)."
    return note


def _calibration_note(run: Run) -> list[str]:
    """Return how calibration is measured, and what the temperature did to it."""
    if run.task == "regression":
        return []
    note = (
        "`calibration_error` is the expected calibration error of [Guo et al. (2017)](https://arxiv.org/abs/1706.04599)"
        f": the mean gap between accuracy and confidence in {BINS} bins of equal width of the predicted class's "
        f"probability, weighted by their rows. Noise adds to it and to its interval, on {len(run.targets):,} test rows "
        "as on any."
    )
    return [note, *_temperature(run)]


def _temperature(run: Run) -> list[str]:
    """Return what the temperature is, and what the test rows' probabilities were worth without it."""
    fitted = f"fitted to the log loss of {run.manifest.rows['validation']:,} validation rows"
    if not run.uncalibrated:
        if not run.history or run.config["trainer"].get("calibration") is None:
            return []
        return [
            f"The probabilities are as the network gives them: a temperature, {fitted}, cannot be told apart from 1."
        ]
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
    return [
        f"The network's logits are divided by a temperature of {run.temperature:.3g}, {fitted} "
        "(`trainer.calibration`), which changes probabilities and no predicted class:",
        wording.table(("metric", "test without it", level, "test", level), lines),
    ]


def _fits_line(run: Run) -> str:
    """Return how validation was done, where it was more than one training."""
    validation, seeds = run.config["validation"], run.config["trainer"].get("repeats", 1)
    values = ", ".join(
        f"{key} {wording.words(wording.value(value))}" for key, value in validation.items() if key not in NOT_SHOWN
    )
    how = f"{validation['name']}{values and f' ({values})'}" + (f" over {seeds} seeds" if seeds > 1 else "")
    mean, deviation = (wording.metric(run.monitor, run.fits[f"{run.monitor}{end}"]) for end in ("", "_std"))
    return (
        f"Validation was {how}: {run.monitor} {mean} ± {deviation}, mean and standard deviation of "
        f"{run.fits['fits']:.0f} trainings. The table's validation figures are of the model that was kept."
    )


def _beside(run: Run) -> list[str]:
    """Return whether the model earns its place, where others were fitted."""
    if not run.beside:
        return []
    name = run.config["model"]["name"]
    paragraphs = baseline_table.section(
        name, run.task, run.test, run.test_intervals, run.beside, run.level, run.config.get("experiment")
    )
    return ["## Beside other models", *paragraphs]


def _class_table(run: Run) -> str:
    """Precision, recall, F1 and rows of each class."""
    labels = np.arange(len(run.classes))
    columns = precision_recall_fscore_support(
        run.targets, run.predictions.argmax(axis=1), labels=labels, zero_division=0.0
    )
    lines = [
        (wording.words(name), f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}", f"{int(rows):,}")
        for name, precision, recall, f1, rows in zip(run.classes, *columns, strict=True)
    ]
    return wording.table(("class", "precision", "recall", "f1", "rows"), lines)


def _curves_caption(run: Run) -> str:
    subject = wording.code(run.classes[1]) if len(run.classes) == 2 else "each class against the rest"
    return f"ROC of {subject}. Calibration: points below the dashed line are overconfident, above it underconfident."


def _predictions_caption(run: Run) -> str:
    wrong = int(np.sum(run.predictions.argmax(axis=1) != run.targets))
    if wrong == 0:
        return f"Predicted class and its probability. There is no mistake among the {len(run.targets):,} test rows."
    return (
        f"The predicted class and its probability; `row` counts from 0 in the "
        f"{'published test set' if run.manifest.test_published else 'raw data'}. {min(wrong, MISTAKES)} of "
        f"{wrong:,} mistakes among {len(run.targets):,} test rows, the most confident first."
    )


def _map_caption(run: Run) -> str:
    assert run.map is not None
    return projection.caption(run.map, len(run.targets), run.task)


def _mistakes_note(run: Run) -> str:
    """Return what a row's number is, as one finds the row in the file by it."""
    where = "the test file" if run.manifest.test_published else "the file"
    return f"`row` counts the rows of {where} from 1, its header aside."


def _mistakes_table(run: Run) -> str:
    """For tables, which have no pictures: the rows furthest from the truth."""
    if run.task == "regression":
        residual = run.targets - run.predictions
        worst = np.argsort(-np.abs(residual), kind="stable")[:LISTED]
        columns = (run.targets[worst], run.predictions[worst], residual[worst])
        lines = [
            (str(run.rows[k]), *map(wording.significant, values)) for k, *values in zip(worst, *columns, strict=True)
        ]
        return wording.table(("row", "actual", "predicted", "residual"), lines)
    worst = worst_mistakes(run.targets, run.predictions, LISTED)
    if len(worst) == 0:
        return f"There is no mistake among the {len(run.targets):,} test rows."
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


def _run_paragraph(run: Run) -> str:
    environment = ", ".join(f"{name} {value}" for name, value in run.environment.items())
    early = " (stopped early)" if run.stopped_early else ""
    if not run.history:
        return (
            f"Seed {run.config['seed']}; fitted in one go: what is chosen for the training of networks (optimizer, "
            f"scheduler, loss, regularizer, augment, trainer.epochs) has no part in it. Environment: {environment}."
        )
    weights = "" if run.parameters is None else f"{run.parameters:,} weights; "
    return (
        f"Seed {run.config['seed']}; {weights}{len(run.history)} epochs trained{early}, epoch "
        f"{run.best_epoch} kept, {_kept_for(run)}. Environment: {environment}."
    )


def _kept_for(run: Run) -> str:
    """Return why the kept epoch is kept."""
    best = max(run.history, key=lambda row: row["validation_score"])
    if run.monitor != "accuracy" or run.history[run.best_epoch - 1]["validation_score"] == best["validation_score"]:
        return f"the best by validation {run.monitor}"
    return (
        f"the one of the lowest validation loss among those whose accuracy cannot be told apart from the best, "
        f"{best['validation_score']:.4f} in epoch {best['epoch']}"
    )
