"""What a report says of a classification."""

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from hypermap.reports.run import baseline_table, pictures, plots, projection, wording
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import LISTED, TaskReport
from hypermap.tasks.metrics import BINS

RIGHT, MISTAKES = 6, 12
"""Pictures of right predictions and of mistakes."""

CUT = 300
"""Letters of a row in words."""

TELLING, TOLD_CLASSES = 8, 50
"""Probes of a class, and classes, that are listed."""


class ClassificationReport(TaskReport):
    """Confusion, ROC, calibration, classes, and the worst mistakes."""

    headline = ("accuracy",)
    compared = ("accuracy", "roc_auc", "log_loss")

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name."""
        run = self.run
        curves = plots.roc_curves(run.targets, run.predictions, run.classes)
        bins = plots.calibration_rows(run.targets, run.predictions)
        drawn = {
            **super().pictures(),
            "confusion": confusion_picture(run),
            "roc_calibration": pictures.roc_and_calibration(curves, bins),
        }
        if run.images:
            drawn["predictions"] = _prediction_grid(run)
        if run.map is not None:
            predicted = run.predictions.argmax(axis=1)
            drawn["map"] = projection.classes_map(run.map, run.targets, predicted, run.classes)
        return drawn

    def tables(self) -> dict[str, plots.Rows]:
        """Return the tables that `dvc plots` draws, by name."""
        run = self.run
        return {
            **super().tables(),
            "confusion": plots.confusion_rows(run.targets, run.predictions, run.classes),
            "roc": plots.roc_rows(plots.roc_curves(run.targets, run.predictions, run.classes)),
            "calibration": plots.calibration_rows(run.targets, run.predictions),
        }

    def values(self) -> dict[str, Any]:
        """Return what the templates need beside the run."""
        run = self.run
        return {
            "floor": float(np.bincount(run.targets).max() / len(run.targets)),
            "faultless": _faultless(run),
            "bins": BINS,
            "mistakes": int(np.sum(run.predictions.argmax(axis=1) != run.targets)),
            "shown": MISTAKES,
            "temperature_table": _temperature_table,
            "class_table": _class_table,
            "map_caption": _map_caption,
            "mistakes_table": mistakes_table,
            "telling": _telling(run),
        }


def confusion_picture(run: Run) -> bytes:
    """Return the picture of the test rows of each actual and predicted class."""
    labels = np.arange(len(run.classes))
    counts = confusion_matrix(run.targets, run.predictions.argmax(axis=1), labels=labels)
    return pictures.confusion(counts, run.classes)


def worst_mistakes(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the indices of the rows that are wrong, the most confident first; at most `count`."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]


def right_examples(targets: NDArray[Any], probabilities: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the indices of the first right row of each class, in the order of the classes; at most `count`."""
    right = np.flatnonzero(probabilities.argmax(axis=1) == targets)
    _, first = np.unique(targets[right], return_index=True)
    return right[first][:count]


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


def _faultless(run: Run) -> list[tuple[str, int, float]]:
    """Return what was predicted without a mistake, so that every resample is too and the interval a point: a split's
    name, its rows, and the least accuracy by the rule of three.
    """
    splits = (("test", len(run.targets), run.test), ("validation", run.manifest.rows["validation"], run.validation))
    return [(name, rows, max(0.0, 1 - 3 / rows)) for name, rows, metrics in splits if metrics["accuracy"] == 1]


def _temperature_table(run: Run) -> str:
    """Return what the test rows' probabilities are worth without the temperature and with it."""
    level = f"{run.level} interval"
    without, intervals = run.untuned, run.untuned_intervals
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
    return projection.caption(run.map, len(run.targets), classifies=True)


def mistakes_table(run: Run) -> str:
    """Return the rows furthest from the truth, for data that have no pictures."""
    worst = worst_mistakes(run.targets, run.predictions, LISTED)
    lines = [
        (
            str(run.rows[k]),
            *(wording.words(run.classes[of]) for of in (run.targets[k], p.argmax())),
            f"{p.max():.4f}",
            *([wording.words(textwrap.shorten(run.words[k], CUT, placeholder=" …"))] if run.words else []),
        )
        for k, p in zip(worst, run.predictions[worst], strict=True)
    ]
    return wording.table(("row", "actual", "predicted", "confidence", *(["in words"] if run.words else [])), lines)


def _telling(run: Run) -> str | None:
    """Return a table of the probes that speak most for each class: by how much each of them alone raises the logarithm
    of its odds, over that of an empty row. None where there are no probes, or none that a model goes by.
    """
    if run.probes is None or run.probed is None or len(run.probed) < 2:
        return None
    tiny = np.finfo(np.float64).tiny
    odds = np.log(np.maximum(run.probed, tiny)) - np.log(np.maximum(1 - run.probed, tiny))
    raised = odds[1:] - odds[0]
    lines = []
    for k, name in enumerate(run.classes[:TOLD_CLASSES]):
        best = [j for j in np.argsort(-raised[:, k], kind="stable")[:TELLING] if raised[j, k] > 0]
        if best:
            said = ", ".join(f"{wording.code(run.probes.names[j])} {raised[j, k]:+.2f}" for j in best)
            lines.append((wording.words(name), said))
    return wording.table(("class", f"{run.probes.noun}s"), lines) if lines else None
