"""What a report says of a run's task: its pictures, its tables, and the words that only that task has."""

from typing import Any, ClassVar

from hypermap.reports.run import pictures, plots
from hypermap.reports.run.run import Run
from hypermap.tasks.base import locate_task

PICTURES = (
    "learning_curves", "confusion", "roc_calibration", "predictions", "residuals", "labels", "map", "forecasts",
    "horizon", "autocorrelation",
)  # fmt: skip
"""The pictures of the tasks that ship, beside ``target_1`` and so on; those that do not apply to a run are deleted."""

LISTED = 10
"""Rows of a table of mistakes."""


class TaskReport:
    """The part of a report that depends on the task; a task names its own by a dotted path (`Task.report`).

    Attributes:
        headline: the metrics that the report begins with; empty: the task's score.
        compared: those by which the model is held against others, the most important first; empty: likewise.
        run: what is reported on.
    """

    headline: ClassVar[tuple[str, ...]] = ()
    compared: ClassVar[tuple[str, ...]] = ()

    def __init__(self, run: Run) -> None:
        self.run = run
        self.task = locate_task(run.task)

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name, as PNG."""
        run = self.run
        if not run.history:
            return {}
        return {"learning_curves": pictures.learning_curves(run.history, run.best_epoch, self.task.score_name)}

    def tables(self) -> dict[str, plots.Rows]:
        """Return the tables that `dvc plots` draws, by name."""
        return {"history": list(self.run.history)}

    def sections(self) -> list[str]:
        """Return paragraphs of Markdown that stand after the learning curves."""
        return []

    def values(self) -> dict[str, Any]:
        """Return what the templates need beside the run."""
        return {}
