"""What a report says of ratings and rankings."""

from typing import Any

import numpy as np

from hypermap.data.preprocessors.ratings import NEW_ITEM, NEW_USER
from hypermap.reports.run import wording
from hypermap.reports.run.regression import RegressionReport
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import LISTED, TaskReport
from hypermap.tasks.ratings import KNOWN, LIST, RANK


class RatingReport(RegressionReport):
    """Residuals, what is liked, and how well new users and items are predicted."""

    headline = ("rmse", "f1")
    compared = ("rmse", "f1")

    def sections(self) -> list[str]:
        """Return what is liked, and the table of new users and items."""
        liked = self.run.manifest.target["liked"]
        share = float(np.mean(self.run.targets >= liked))
        return [
            "## Liked",
            f"A user likes an item from a rating of {liked:g} on (`data.liked`), as in {share:.0%} of the test rows; "
            "accuracy, precision, recall and F1 are of ratings predicted as high. Predictions are drawn to the mean, "
            "so that fewer reach it than ratings do.",
            "## New users and items",
            self._new(),
        ]

    def _new(self) -> str:
        run, words = self.run, list(self.run.words)
        parts = {
            "both known": [NEW_USER not in own and NEW_ITEM not in own for own in words],
            "a new user": [NEW_USER in own for own in words],
            "a new item": [NEW_ITEM in own for own in words],
        }
        error = run.targets - run.predictions
        lines = []
        for name, mask in parts.items():
            own = error[np.array(mask, np.bool_)]
            lines.append((name, f"{len(own):,}", f"{np.sqrt(np.mean(own**2)):.4f}" if len(own) else ""))
        return (
            f"{wording.table(('test rows of', 'rows', 'rmse'), lines)}\n\n"
            "New is what no training row has: its bias and its vector are 0, and its features are all that is known."
        )

    def values(self) -> dict[str, Any]:
        """Return what the templates need beside the run."""
        return {**super().values(), "mistakes_table": _mistakes}


def _mistakes(run: Run) -> str:
    """Return the rows with the largest residuals, with their users and items."""
    residual = run.targets - run.predictions
    worst = np.argsort(-np.abs(residual), kind="stable")[:LISTED]
    lines = [
        (
            str(run.rows[k]),
            wording.words(run.words[k]),
            *map(wording.significant, (run.targets[k], run.predictions[k], residual[k])),
        )
        for k in worst
    ]
    return wording.table(("row", "who and what", "actual", "predicted", "residual"), lines)


class RankingReport(TaskReport):
    """What is recommended, to whom, and how it compares with chance."""

    headline = ("ndcg", "hr")
    compared = ("ndcg", "hr")

    def sections(self) -> list[str]:
        """Return how rows were ranked, and the items that are recommended most."""
        run, k = self.run, int(self.run.manifest.target["k"])
        names = run.manifest.target["items"]
        rank, known = run.predictions[:, RANK], run.predictions[:, KNOWN]
        chance = sum(1 / np.log2(place + 1) for place in range(1, k + 1)) / len(names)
        positions, counts = np.unique(run.predictions[:, LIST:].astype(np.int64), return_counts=True)
        most = np.argsort(-counts, kind="stable")[:LISTED]
        lines = [(wording.words(names[positions[k] - 1]), f"{counts[k] / len(rank):.1%}") for k in most]
        said = (
            f"The item of each test row is ranked among all {len(names):,} items of the training rows but those that "
            "the user had before, in training or validation: no sample of them, which would flatter every model. "
            f"Figures are at {k} (`data.k`); by chance `ndcg` would be {chance:.4f}. `hr` is the share of users with "
            "one of their items in the list, `recall` the share of rows, `coverage` the share of all items that are in "
            f"some list, and `popularity` the mean number of training rows of a listed item. "
            f"{_count(rank > len(names))} of an item that no training row has, and is ranked last; "
            f"{_count(known == 0)} of a user who has none."
        )
        return [
            "## Recommendations",
            said,
            wording.table(("recommended most", "share of lists"), lines),
        ]


def _count(mask: Any) -> str:
    rows = int(np.sum(mask))
    return f"{rows:,} test row{' is' if rows == 1 else 's are'}"
