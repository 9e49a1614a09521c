"""Several targets of any kind at once: each has a task of its own."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Array, Floats
from hypermap.tasks.base import Resampled, TargetInfo, Task, locate_task, make_task
from hypermap.tasks.classification import Classification
from hypermap.tasks.column_info import ColumnInfo

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import JointLoss, Loss


class Multitask(Task):
    """Classes and numbers, a column each.

    Targets are float64 ``(rows, columns)``, class indices or numbers; encoded they are float32, numbers standardised.
    Predictions are the columns' own side by side: probabilities of classes, and values.

    Every metric of a column is one of the whole, with the column's name before it, such as ``price_r2``; `mean_score`
    is the mean of each column's score (accuracy, or R²).
    """

    monitor = "mean_score"
    score_name = "mean score"
    low_score = 0.50
    least_rows = 2
    report = "hypermap.reports.run.multitask.MultitaskReport"
    metrics: ClassVar = {"mean_score": True}

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return what each column's task has fitted to its training targets."""
        fitted = []
        for column, values in zip(info.target_columns, targets.T, strict=True):
            about = ColumnInfo.of(column)
            fitted.append(locate_task(about.task).fit(values, about))
        return {"target_shift": None, "target_scale": None, "target": {"columns": fitted}}

    @cached_property
    def parts(self) -> list[Task]:
        """The columns' tasks."""
        fitted = self.info.target.get("columns") or [{}] * len(self.info.target_columns)
        return [make_task(ColumnInfo.of(*pair)) for pair in zip(self.info.target_columns, fitted, strict=True)]

    @property
    def names(self) -> list[str]:
        """The columns' names, as they stand in metrics."""
        return ["_".join(str(column["name"]).split()) for column in self.info.target_columns]

    @property
    def slices(self) -> list[slice]:
        """Where each column's predictions stand in a row, and a network's outputs for them."""
        ends = np.cumsum([math.prod(part.shape) for part in self.parts]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """Return that they are values and probabilities, and of which targets and classes."""
        named = [
            f"{name} {own}" if own else name
            for name, part in zip(self.names, self.parts, strict=True)
            for own in part.info.classes or ("",)
        ]
        return "values, and probabilities of classes,", named

    def columns(self) -> list[Task]:
        """Return the columns' tasks."""
        return self.parts

    def joined(self, parts: Sequence[Array], **tuned: Any) -> Array:
        """Return the columns' predictions side by side."""
        return np.hstack([part.reshape(len(part), -1) for part in parts])

    def split(self, predictions: Array) -> Iterator[tuple[str, Task, Array]]:
        """Yield each column's name, task and predictions, in its own shape."""
        for name, part, own in zip(self.names, self.parts, self.slices, strict=True):
            yield name, part, predictions[:, own].reshape(len(predictions), *part.shape)

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return float32."""
        import torch

        return torch.stack([part.encode(values).float() for part, values in zip(self.parts, targets.T, strict=True)], 1)

    def decode(self, encoded: Array) -> Array:
        """Return class indices, and values in their own unit."""
        decoded = [part.decode(values) for part, values in zip(self.parts, encoded.T, strict=True)]
        return np.stack([np.asarray(values, np.float64) for values in decoded], 1)

    def predictions(self, outputs: Array, columns: Sequence[Mapping[str, Any]] | None = None) -> Array:
        """Return the columns' predictions, each with what was tuned of it."""
        tuned = [{}] * len(self.parts) if columns is None else columns
        return self.joined(
            [part.predictions(own, **its) for (_, part, own), its in zip(self.split(outputs), tuned, strict=True)]
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return that of a row's predictions."""
        return (self.slices[-1].stop,)

    def table(self, predictions: Array) -> "DataFrame":
        """Return the columns of each task's table, such as ``prediction_price`` and ``probability_sold_yes``."""
        from polars import concat

        tables = []
        for name, part, own in self.split(predictions):
            table = part.table(own)
            tables.append(table.rename({column: _after_first_word(column, name) for column in table.columns}))
        return concat(tables, how="horizontal")

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return the mean of the scores of the columns that are learned: those whose loss has a weight."""
        found: list[list[float]] = []
        for k, (part, own) in enumerate(zip(self.parts, self.slices, strict=True)):
            values = targets[:, :, k].long() if part.info.classes else targets[:, :, k]
            found.append(part.scores(outputs[:, :, own], values, [part.default_loss()] * len(losses)))
        weights = [getattr(loss, "weights", None) or [1.0] * len(self.parts) for loss in losses]
        return [
            fmean(score for score, weight in zip(scores, own, strict=True) if weight)
            for scores, own in zip(zip(*found, strict=True), weights, strict=True)
        ]

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """Return every metric of each column, and the mean of their scores."""
        measured = [
            (name, part, part.measure(_typed(values, part), own))
            for (name, part, own), values in zip(self.split(predictions), targets.T, strict=True)
        ]
        scores = [metrics[part.monitor] for _, part, metrics in measured if part.monitor in metrics]
        return {
            **({"mean_score": float(np.mean(scores))} if scores else {}),
            **{f"{name}_{key}": value for name, _, metrics in measured for key, value in metrics.items()},
        }

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """Return the function that gives the same for any row counts."""
        each = [
            (name, part, part.resampled(_typed(values, part), own))
            for (name, part, own), values in zip(self.split(predictions), targets.T, strict=True)
        ]

        def values(counts: Floats) -> dict[str, Floats]:
            found = [(name, part, of(counts)) for name, part, of in each]
            return {
                "mean_score": np.mean([metrics[part.monitor] for _, part, metrics in found], axis=0),
                **{f"{name}_{key}": value for name, _, metrics in found for key, value in metrics.items()},
            }

        return values

    @property
    def directions(self) -> Mapping[str, bool]:
        """Every metric of each column, and the mean of their scores."""
        each = zip(self.names, self.parts, strict=True)
        return self.metrics | {f"{name}_{key}": high for name, part in each for key, high in part.directions.items()}

    def default_loss(self, **settings: Any) -> "JointLoss":
        """Return the columns' losses, weighed by what is uncertain of each; `settings` are for those of classes."""
        from hypermap.tasks.losses import JointLoss

        return JointLoss(self.info, **settings)

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return that of a share, which lies between those of one mean and another."""
        return Classification.standard_error(min(max(score, 0.0), 1.0), rows)

    def module(self, columns: Sequence[Mapping[str, Any]] | None = None) -> "nn.Module":
        """Return `predictions` in torch."""
        from hypermap.tasks.answers import Beside

        tuned = [{}] * len(self.parts) if columns is None else columns
        modules = [part.module(**its) for part, its in zip(self.parts, tuned, strict=True)]
        several = [bool(part.shape) for part in self.parts]
        return Beside(modules, [(own.start, own.stop, s) for own, s in zip(self.slices, several, strict=True)])

    def tune(self, predictions: Array, targets: Array) -> dict[str, Any]:
        """Return what each column's task tunes."""
        each = zip(self.split(predictions), targets.T, strict=True)
        return {"columns": [part.tune(own, _typed(values, part)) for (_, part, own), values in each]}


def _after_first_word(column: str, name: str) -> str:
    """Return ``probability_sold_yes`` of ``probability_yes`` and ``sold``."""
    kind, _, rest = column.partition("_")
    return f"{kind}_{name}_{rest}" if rest else f"{kind}_{name}"


def _typed(values: Array, part: Task) -> Array:
    return values.astype(np.int64) if part.info.classes else values
