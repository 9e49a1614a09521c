"""Multi-label classification: any number of labels for each row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core.typing import Array, Floats
from hypermap.tasks import calibration, label_metrics
from hypermap.tasks.base import PREDICTION, Resampled, TargetInfo, Task
from hypermap.tasks.classification import Classification
from hypermap.tasks.column_info import ColumnInfo

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss

EVEN = 0.5
"""The threshold of a label's probability where none is tuned."""

MAJORITY = 0.5 - 1e-9
"""The share of the votes that decides for a label, less the rounding of a sum of weights."""


class Multilabel(Task):
    """Yes or no for each label.

    Targets are int64 ``(rows, labels)`` of 0 and 1, encoded float32. Predictions are ``(rows, 2 * labels)``: each
    label's probability, then 1 for each label that it is predicted to have, by a threshold of its own
    (`hypermap.tasks.label_metrics.tune`), else 0.
    """

    monitor = "average_precision"
    score_name = "average precision"
    low_score = 0.50
    report = "hypermap.reports.run.multilabel.MultilabelReport"
    metrics: ClassVar = {
        "average_precision": True, "micro_f1": True, "macro_f1": True, "subset_accuracy": True, "hamming_loss": False,
        "log_loss": False,
    }  # fmt: skip

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return nothing that is fitted."""
        return {"target_shift": None, "target_scale": None}

    @property
    def labels(self) -> list[str]:
        """The labels' names."""
        return [str(column["name"]) for column in self.info.target_columns]

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return float32, which the loss takes."""
        return targets.float()

    def decode(self, encoded: Array) -> Array:
        """Return int64."""
        return encoded.round().astype(np.int64)

    def predictions(self, outputs: Array, thresholds: Sequence[float] | None = None, temperature: float = 1.0) -> Array:
        """Return probabilities under a temperature, and which labels they are enough for."""
        shares = calibration.scale_labels(outputs, temperature)
        return np.hstack([shares, shares >= (EVEN if thresholds is None else np.array(thresholds))])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return that of a row's predictions."""
        return (2 * len(self.labels),)

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """Return that they are probabilities and decisions, and of which labels."""
        return "probabilities, and then 1 for each label that is predicted, else 0,", self.labels

    def columns(self) -> list[Task]:
        """Return a classification for each label."""
        return [Classification(ColumnInfo.of(column)) for column in self.info.target_columns]

    def joined(self, parts: Sequence[Array], **tuned: Any) -> Array:
        """Return the predictions that each label's probabilities ``(rows, 2)`` amount to."""
        return self.predictions(np.stack([part[:, 1] for part in parts], 1), **tuned)

    def average(self, predictions: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return the mean probabilities, and the labels for which at least half of the weights decide."""
        shares, votes = np.split(super().average(predictions, weights), 2, axis=1)
        return np.hstack([shares, votes >= MAJORITY])

    def table(self, predictions: Array) -> "DataFrame":
        """Return the predicted labels, ``a; b``, and each label's probability."""
        from polars import DataFrame, Series, String

        shares, decisions = np.split(predictions, 2, axis=1)
        words = [
            None if np.isnan(row).any() else "; ".join(np.array(self.labels)[row == 1].tolist()) for row in decisions
        ]
        columns = {f"probability_{name}": shares[:, k] for k, name in enumerate(self.labels)}
        return DataFrame({PREDICTION: Series(words, dtype=String), **columns}, nan_to_null=True)

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return the mean average precision, which a sigmoid does not change."""
        each = zip(outputs.double().cpu().numpy(), targets.cpu().numpy(), strict=True)
        return [float(label_metrics.average_precision(own, values)) for values, own in each]

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """See `hypermap.tasks.label_metrics.multilabel`."""
        return label_metrics.multilabel(targets, *np.split(predictions, 2, axis=1))

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """See `hypermap.tasks.label_metrics.multilabel_of`."""
        return label_metrics.multilabel_of(targets, *np.split(predictions, 2, axis=1))

    def default_loss(self, **settings: Any) -> "Loss":
        """Return binary cross-entropy, summed over labels."""
        from hypermap.tasks.losses import MultilabelCrossEntropy

        return MultilabelCrossEntropy(**settings)

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return that of a share, which the average precision is a mean of."""
        return Classification.standard_error(score, rows)

    def module(self, thresholds: Sequence[float] | None = None, temperature: float = 1.0) -> "nn.Module":
        """Return `predictions` in torch."""
        from hypermap.tasks.answers import Decided

        return Decided([EVEN] * len(self.labels) if thresholds is None else thresholds, temperature)

    def average_module(self, weights: Sequence[float]) -> "nn.Module":
        """Return `average` in torch."""
        from hypermap.tasks.answers import Averaged

        return Averaged(weights, MAJORITY)

    def tune(self, predictions: Array, targets: Array) -> dict[str, Any]:
        """Return each label's threshold (`hypermap.tasks.label_metrics.tune`), and a temperature unless it is 1."""
        shares: Floats = np.split(predictions, 2, axis=1)[0]
        temperature = calibration.fit_label_temperature(shares, targets)
        thresholds = label_metrics.tune(targets, calibration.scale_labels(shares, temperature)).tolist()
        return {"thresholds": thresholds, **({} if temperature == 1 else {"temperature": temperature})}

    def refined_loss(self, predictions: Array, targets: Array) -> float:
        """See `hypermap.tasks.calibration.refined_label_loss`."""
        return calibration.refined_label_loss(np.split(predictions, 2, axis=1)[0], targets)
