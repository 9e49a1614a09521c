"""What a report says of a regression."""

from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from hypermap.reports.run import pictures, plots, projection, wording
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import LISTED, TaskReport
from hypermap.tasks.regression import LOGS


class RegressionReport(TaskReport):
    """Residuals, and the largest of them."""

    headline = ("r2", "rmse")
    compared = ("r2", "mae")

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name."""
        run = self.run
        drawn = {**super().pictures(), "residuals": pictures.residuals(run.targets, run.predictions)}
        if run.map is not None:
            drawn["map"] = projection.values_map(run.map, run.targets, run.predictions)
        return drawn

    def tables(self) -> dict[str, plots.Rows]:
        """Return the tables that `dvc plots` draws, by name."""
        return {**super().tables(), "residuals": plots.residual_rows(self.run.targets, self.run.predictions)}

    def values(self) -> dict[str, Any]:
        """Return what the templates need beside the run."""
        return {"floor": _floor(self.run), "map_caption": _map_caption, "mistakes_table": mistakes_table}


def _floor(run: Run) -> float | None:
    """Return the r2 that the training rows' mean has, which need not be that of the test rows."""
    shift, transform = run.manifest.target_shift, run.manifest.target_transform
    if "r2" not in run.test:
        return None
    constant = LOGS[transform][1](shift) if transform else shift
    return float(r2_score(run.targets, np.full(len(run.targets), constant)))


def _map_caption(run: Run) -> str:
    assert run.map is not None
    return projection.caption(run.map, len(run.targets), classifies=False)


def mistakes_table(run: Run) -> str:
    """Return the rows with the largest residuals."""
    residual = run.targets - run.predictions
    worst = np.argsort(-np.abs(residual), kind="stable")[:LISTED]
    columns = (run.targets[worst], run.predictions[worst], residual[worst])
    lines = [(str(run.rows[k]), *map(wording.significant, values)) for k, *values in zip(worst, *columns, strict=True)]
    return wording.table(("row", "actual", "predicted", "residual"), lines)
