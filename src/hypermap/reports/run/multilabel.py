"""What a report says of labels, of which a row may have any number."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from hypermap.reports.run import pictures, wording
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import LISTED, TaskReport

SHOWN = 40
"""Labels in the picture and the table: of more, those of the most rows."""


class MultilabelReport(TaskReport):
    """Each label's scores, and the worst mistakes."""

    headline = ("micro_f1", "average_precision")
    compared = ("micro_f1", "average_precision")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.labels = [str(column["name"]) for column in run.manifest.target_columns]
        self.probabilities, self.decisions = np.split(run.predictions, 2, axis=1)
        rows = run.targets.sum(0)
        self.shown = np.sort(np.argsort(-rows, kind="stable")[:SHOWN])
        self.scores: NDArray[np.float64] = np.stack(
            precision_recall_fscore_support(run.targets, self.decisions.astype(int), zero_division=0.0)[:3]
        )  # precision, recall and F1 of each label

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name."""
        rows = self.run.targets.sum(0)
        names = [f"{pictures.short(self.labels[k], 20)} ({rows[k]:,})" for k in self.shown]
        return {**super().pictures(), "labels": pictures.labels(names, self.scores[:, self.shown])}

    def sections(self) -> list[str]:
        """Return the table of the labels, and what the probabilities are cut at."""
        run = self.run
        tuned = run.tuned.get("thresholds")
        said = (
            "Each label is predicted from a threshold of its own, picked for micro-F1 on the "
            f"{run.manifest.rows['validation']:,} validation rows (`trainer.calibration`); the epoch was kept by the "
            "average precision, which no threshold changes."
            if tuned
            else "A label is predicted where at least half of the models predict it, each by thresholds of its own."
            if run.kept and run.kept.members > 1
            else "Each label is predicted from a probability of 0.5."
        )
        if "temperature" in run.tuned:
            said += f" The logits are divided by a temperature of {run.tuned['temperature']:.3g}, fitted there too."
        less = f" Shown are the {SHOWN} labels of the most rows of {len(self.labels)}." * (len(self.labels) > SHOWN)
        return [
            "## Labels",
            "![Precision, recall and F1 of each label](pictures/labels.png)",
            self._table(tuned),
            f"{said}{less} `micro_f1` counts all decisions together, `macro_f1` is the mean of the labels' F1, "
            "`subset_accuracy` the share of rows whose labels are all right, `hamming_loss` that of wrong decisions.",
            "## The worst mistakes",
            self._mistakes(),
        ]

    def _table(self, thresholds: list[float] | None) -> str:
        run, lines = self.run, []
        for k in self.shown:
            rows = int(run.targets[:, k].sum())
            precision = average_precision_score(run.targets[:, k], self.probabilities[:, k]) if rows else None
            lines.append(
                (
                    wording.words(self.labels[k]),
                    f"{rows:,}",
                    f"{int(self.decisions[:, k].sum()):,}",
                    *(f"{value:.4f}" for value in self.scores[:, k]),
                    "" if precision is None else f"{precision:.4f}",
                    f"{thresholds[k] if thresholds else 0.5:.3f}",
                )
            )
        head = ("label", "rows", "predicted", "precision", "recall", "f1", "average precision", "threshold")
        return wording.table(head, lines)

    def _mistakes(self) -> str:
        """Return the rows whose labels were least expected."""
        run = self.run
        given = np.where(run.targets == 1, self.probabilities, 1 - self.probabilities)
        surprise = -np.log(np.maximum(given, 1e-12)).sum(1)
        worst = np.argsort(-surprise, kind="stable")[:LISTED]
        lines = [
            (
                str(run.rows[row]),
                self._named(run.targets[row]),
                self._named(self.decisions[row]),
                f"{surprise[row]:.2f}",
            )
            for row in worst
        ]
        said = "The rows of the highest log loss, summed over labels."
        if run.table:
            said += (
                f" `row` counts the rows of {'the test file' if run.manifest.test_published else 'the file'} from 1."
            )
        return f"{wording.table(('row', 'has', 'predicted', 'log loss'), lines)}\n\n{said}"

    def _named(self, flags: NDArray[np.int64]) -> str:
        return ", ".join(wording.words(self.labels[k]) for k in np.flatnonzero(flags == 1)) or "none"
