"""Classification: one class of several for each row."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Array
from hypermap.tasks import calibration, metrics
from hypermap.tasks.base import PREDICTION, Resampled, TargetInfo, Task

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss


class Classification(Task):
    """One class of several: targets are int64 class indices ``(rows,)``, predictions probabilities."""

    monitor = "accuracy"
    score_name = "accuracy"
    low_score = 0.90
    is_share = True
    estimator = "classifier"
    report = "hypermap.reports.run.classification.ClassificationReport"
    metrics: ClassVar = {
        "accuracy": True, "balanced_accuracy": True, "precision": True, "recall": True, "f1": True, "roc_auc": True,
        "log_loss": False, "calibration_error": False,
    }  # fmt: skip

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return nothing that is fitted."""
        return {"target_shift": None, "target_scale": None}

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return class indices as they are."""
        return targets

    def decode(self, encoded: Array) -> Array:
        """Return class indices as they are."""
        return encoded

    def predictions(self, outputs: Array, temperature: float = 1.0) -> Array:
        """Return probabilities that sum to 1 in 64 bits, under a temperature."""
        return calibration.scale(outputs / outputs.sum(axis=1, keepdims=True), temperature)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return a probability for each class."""
        return (len(self.info.classes),)

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """Return that they are probabilities, and of which classes."""
        return "probabilities", self.info.classes

    def table(self, predictions: Array) -> "DataFrame":
        """Return the most probable class and every class's probability."""
        from polars import DataFrame, Series

        classes, unknown = self.info.classes, Series(np.isnan(predictions[:, 0]))
        best = Series(PREDICTION, classes).gather(Series(predictions.argmax(1)).set(unknown, None))
        shares = {f"probability_{name}": predictions[:, k] for k, name in enumerate(classes)}
        return DataFrame({PREDICTION: best, **shares}, nan_to_null=True)

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return the accuracy; of the outputs, since a softmax, or a sigmoid of one, keeps their order."""
        predicted = outputs.argmax(2) if outputs.shape[2] > 1 else outputs[:, :, 0] > 0
        right = (predicted == targets).sum(1).tolist()
        return [count / targets.shape[1] for count in right]

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """See `hypermap.tasks.metrics.classification`."""
        return metrics.classification(targets, predictions)

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """See `hypermap.tasks.metrics.classification_of`."""
        return metrics.classification_of(targets, predictions)

    def default_loss(self, **settings: Any) -> "Loss":
        """Return cross-entropy."""
        from hypermap.tasks.losses import CrossEntropy

        return CrossEntropy(**settings)

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return that of a share: sqrt(p (1 - p) / n), the share taken to be half a row from 0 and 1 at least."""
        share = min(max(score, 0.5 / rows), 1 - 0.5 / rows)
        return math.sqrt(share * (1 - share) / rows)

    def module(self, temperature: float = 1.0) -> "nn.Module":
        """Return `predictions` in torch."""
        from hypermap.tasks.answers import Shares

        return Shares(temperature)

    def tune(self, predictions: Array, targets: Array) -> dict[str, Any]:
        """Return the temperature, unless it is 1 (`hypermap.tasks.calibration.fit_temperature`)."""
        temperature = calibration.fit_temperature(predictions, targets)
        return {} if temperature == 1 else {"temperature": temperature}

    def refined_loss(self, predictions: Array, targets: Array) -> float:
        """See `hypermap.tasks.calibration.refined_loss`."""
        return calibration.refined_loss(predictions, targets)
