"""Tasks: what is predicted. A task fits and encodes targets, scores epochs, and measures predictions.

A task is a subclass of `Task`. Those that ship are found by the name of their module here; one of your own by its
dotted path, which the reader of its data gives (`hypermap.datasets.images.Raw.task`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.core.instantiate import locate
from hypermap.core.typing import Array, Floats

if TYPE_CHECKING:  # preparing data needs no torch
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss

PREDICTION = "prediction"

Resampled = Callable[[Floats], dict[str, Floats]]
"""Row counts (rows, resamples) to the value of each metric in each resample (resamples,)."""


class TargetInfo(Protocol):
    """What a manifest says of the targets (`hypermap.data.manifest.Manifest`)."""

    @property
    def task(self) -> str:
        """The name, or the dotted path, of the task."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The names of classes; empty where targets are none."""
        ...

    @property
    def target_transform(self) -> str | None:
        """``log`` or ``log1p`` of numbers."""
        ...

    @property
    def target_shift(self) -> Any:
        """The training targets' mean."""
        ...

    @property
    def target_scale(self) -> Any:
        """The training targets' standard deviation."""
        ...

    @property
    def target(self) -> Mapping[str, Any]:
        """Whatever a task of your own has fitted, as JSON can hold it."""
        ...

    @property
    def target_columns(self) -> Sequence[Mapping[str, Any]]:
        """`name` and `classes` of each column of targets, where they are several."""
        ...


class Task(ABC):
    """What is predicted.

    Targets are arrays ``(rows,)`` or ``(rows, columns)``. In their own unit they are what a reader returns, encoded
    what a loss is given. Predictions are probabilities ``(rows, classes)`` or values like the targets, float64.

    Attributes:
        monitor: the score by which the best epoch is picked, unless that is the loss; higher is better.
        score_name: the same, in words.
        low_score: a score on training rows below which a model may be too small, or its learning rate wrong.
        is_share: whether the score is a share of rows, so that several epochs may have the same.
        least_rows: on how many rows the score exists, at least.
        estimator: which estimators predict it: a ``classifier``, ``regressor``, ``forecaster``, ``ranker``, or None.
        report: the dotted path of what a report says of it (`hypermap.reports.run.task_report.TaskReport`).
        metrics: every metric by name, with whether higher is better.
        info: what the manifest says of the targets.
    """

    monitor: ClassVar[str]
    score_name: ClassVar[str]
    low_score: ClassVar[float]
    is_share: ClassVar[bool] = False
    least_rows: ClassVar[int] = 1
    estimator: ClassVar[str | None] = None
    report: ClassVar[str] = "hypermap.reports.run.task_report.TaskReport"
    metrics: ClassVar[Mapping[str, bool]]

    def __init__(self, info: TargetInfo) -> None:
        self.info = info

    @classmethod
    @abstractmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return the manifest's entries that training targets decide: `target_shift`, `target_scale`, or `target`."""

    @abstractmethod
    def encode(self, targets: "Tensor") -> "Tensor":
        """Return targets in their own unit as a loss is given them."""

    @abstractmethod
    def decode(self, encoded: Array) -> Array:
        """Return encoded targets, or values predicted for them (float64), in their own unit."""

    @abstractmethod
    def predictions(self, outputs: Array, *_: Any, **tuned: Any) -> Array:
        """Return predictions from what `Loss.predictions` makes of a network's outputs, float64.

        Args:
            outputs: ``(rows, ...)`` float64.
            **tuned: what `tune` has returned.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the prediction for a row."""

    @property
    def reach(self) -> float:
        """How long after its time the targets of a row are known, in the unit of times.

        A fold in time order leaves out training rows whose targets come to be known only while it validates.
        """
        return 0.0

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """What a row of predictions holds, in words, and the names of what the words are of, if it is of several."""
        return "values in the target's unit", ()

    def columns(self) -> "list[Task]":
        """Return the task of each column of the targets, for estimators that predict one column: mostly itself."""
        return [self]

    def joined(self, parts: Sequence[Array], **tuned: Any) -> Array:
        """Return the predictions that those of the columns' tasks amount to, with what `tune` has returned."""
        (alone,) = parts
        return alone

    def average(self, predictions: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return the weighted mean of several models' predictions for the same rows; the weights' sum is 1."""
        mean: Array = np.sum([weight * own for weight, own in zip(weights, predictions, strict=True)], axis=0)
        return mean

    @property
    def directions(self) -> Mapping[str, bool]:
        """Every metric of this data by name, with whether higher is better: `metrics`, and more of several targets."""
        return self.metrics

    def table(self, predictions: Array) -> "DataFrame":
        """Return predictions as a table for people, a row each; a row of NaN has no answer, and is empty.

        By default there is a column for each number of a prediction.
        """
        from polars import DataFrame

        columns = predictions.reshape(len(predictions), math.prod(self.shape)).T
        names = [PREDICTION] if len(columns) == 1 else [f"{PREDICTION}_{k}" for k in range(1, len(columns) + 1)]
        return DataFrame(dict(zip(names, columns, strict=True)), nan_to_null=True)

    def answers(self, predictions: Array, columns: Mapping[str, Sequence[Any]]) -> "DataFrame":
        """Return predictions for the rows of a file as `table` does, behind what a reader says of each row."""
        from polars import DataFrame

        return DataFrame({**columns, **self.table(predictions).to_dict()})

    @abstractmethod
    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return the score of each network of a stack, cheaply: it is computed in each epoch.

        Args:
            outputs: ``(networks, rows, width)``.
            targets: encoded, ``(networks, rows, ...)``.
            losses: of each network.
        """

    @abstractmethod
    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """Return every metric of `targets`, in their own unit, and `predictions`."""

    @abstractmethod
    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """Return the function that gives the metrics for any row counts; what can be sorted once is sorted here."""

    @abstractmethod
    def default_loss(self, **settings: Any) -> "Loss":
        """Return what ``loss=auto`` stands for; `settings` are its keys that differ from their defaults.

        Raises:
            UserError: the task has no use for a setting.
        """

    @staticmethod
    @abstractmethod
    def standard_error(score: float, rows: int) -> float:
        """Return how far a score on so many rows may lie from the truth, one standard error."""

    def module(self, *_: Any, **tuned: Any) -> "nn.Module":
        """Return `predictions` in torch, for an export.

        Raises:
            UserError: the task has no such module.
        """
        raise UserError(f"the task {self.info.task} has no module, so that no network of it can be exported.")

    def average_module(self, weights: Sequence[float]) -> "nn.Module":
        """Return `average` in torch, of answers ``(models, rows, ...)``."""
        from hypermap.tasks.answers import Averaged

        return Averaged(weights)

    def tune(self, predictions: Array, targets: Array) -> dict[str, Any]:
        """Return what of `predictions` is fitted on validation rows once a network is trained, by name, as JSON.

        Args:
            predictions: without anything tuned.
            targets: in their own unit.
        """
        return {}

    def refined_loss(self, predictions: Array, targets: Array) -> float | None:
        """Return a loss of `predictions` after the best calibration; None of a task that calibrates nothing.

        Args:
            predictions: without anything tuned.
            targets: in their own unit.
        """
        return None


REFINEMENT = "refinement"
LOSSES = ("loss", REFINEMENT)
"""What may select an epoch instead of a score (`trainer.monitor`): the validation loss, or `Task.refined_loss`."""

COSTS = (*LOSSES, "parameters", "latency_ms", "seconds")
"""What a training may be judged by beside its metrics; lower is better. Of `REFINEMENT` it is if that is monitored."""


def directions(metrics: Mapping[str, bool]) -> dict[str, bool]:
    """Return everything that a training may be judged by, by name, with whether higher is better.

    Args:
        metrics: of its task, likewise (`Task.directions`).
    """
    return {**metrics, **dict.fromkeys(COSTS, False)}


def path_of(part: "type | str | None") -> str | None:
    """Return the dotted path of a class, which may be given as that."""
    return part if part is None or isinstance(part, str) else f"{part.__module__}.{part.__qualname__}"


def locate_task(name: str) -> type[Task]:
    """Return a task by its name or dotted path.

    Raises:
        UserError: there is none of that name, or no task stands there.
    """
    found = locate(name if "." in name else f"hypermap.tasks.{name}.{name.capitalize()}")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(f"{name} is no task: a task of your own is a subclass of hypermap.tasks.base.Task.")
    return found


def make_task(info: TargetInfo) -> Task:
    """Return the task of a manifest.

    Raises:
        UserError: it cannot be imported.
    """
    return locate_task(info.task)(info)
