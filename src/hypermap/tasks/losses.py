"""Losses: what training minimizes, and how a network's outputs become predictions.

A loss is used in this order: `check` that it fits the data, build a network with `outputs` outputs, `fit` the loss to
the training targets (on their device), then call it on batches.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.tasks.base import locate_task


class Loss(Protocol):
    """The interface of a loss; a user's own needs no more than this."""

    @property
    def task(self) -> str:
        """The task that the loss is for."""
        ...

    def check(self, task: str, classes: int) -> None:
        """Refuse data of another task or number of classes (0 for regression) with a `UserError`."""
        ...

    def outputs(self, classes: int) -> int:
        """Return the width of the network's output."""
        ...

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Compute what the loss needs from the training targets, and move its weights to their device."""
        ...

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar, from outputs (batch, width) and targets (batch,)."""
        ...

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return float32 probabilities (rows, classes) for classification, values (rows,) for regression."""
        ...


class CrossEntropy:
    """Minus the logarithm of the true class's probability under a softmax; targets are int64 class indices.

    `label_smoothing` s makes the target 1 - s + s / classes for the true class and s / classes for the others (Szegedy
    et al. 2016, https://arxiv.org/abs/1512.00567). `class_weights` is a weight for each class, or ``balanced``: rows /
    (classes x rows of the class), so that classes have equal total weight. The mean is then weighted, with the weights
    of a batch summing to one.

    Raises:
        UserError: a smoothing outside [0, 1), or weights that are negative or all zero.
    """

    task = "classification"

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | Literal["balanced"] | None = None
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; allowed: from 0 to less than 1")
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        self.weights = _class_weights(class_weights)  # float32 (classes,)

    def check(self, task: str, classes: int) -> None:
        """Refuse regression targets, and a number of weights other than the number of classes."""
        if task != self.task:
            raise UserError(_for_classes("cross_entropy"))
        if self.weights is not None and len(self.weights) != classes:
            raise UserError(
                f"class_weights has {len(self.weights)} weights; the data has {classes} classes: "
                f"give one for each, or balanced"
            )

    def outputs(self, classes: int) -> int:
        """Return one logit for each class."""
        return classes

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Compute the class weights if they are ``balanced``."""
        if self.balanced:
            self.weights = _balanced(train_targets, classes)
        if self.weights is not None:
            self.weights = self.weights.to(train_targets.device)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits (batch, classes) and int64 targets (batch,)."""
        if self.balanced and self.weights is None:
            raise RuntimeError("class_weights is 'balanced': fit the loss to the training targets first")
        return F.cross_entropy(outputs, targets, self.weights, label_smoothing=self.label_smoothing)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return probabilities (rows, classes)."""
        return outputs.float().softmax(1)


class BinaryCrossEntropy:
    """Log loss of one logit for class 1 of two; targets are 0 or 1, of any dtype.

    `positive_weight` multiplies the loss of the rows of class 1; the mean is still over rows.

    Raises:
        UserError: a `positive_weight` that is not above 0.
    """

    task = "classification"

    def __init__(self, positive_weight: float | None = None) -> None:
        if positive_weight is not None and not 0 < positive_weight < float("inf"):
            raise UserError(f"positive_weight is {positive_weight}; allowed: numbers above 0")
        self.weight = None if positive_weight is None else torch.tensor(positive_weight, dtype=torch.float32)

    def check(self, task: str, classes: int) -> None:
        """Refuse regression targets, and any number of classes other than two."""
        if task != self.task:
            raise UserError(_for_classes("binary_cross_entropy"))
        self.outputs(classes)

    def outputs(self, classes: int) -> int:
        """Return one logit.

        Raises:
            UserError: there are not exactly two classes.
        """
        if classes != 2:
            raise UserError(
                f"loss is binary_cross_entropy, for two classes; the data has {classes}: use loss=cross_entropy"
            )
        return 1

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Move the weight to the targets' device."""
        if self.weight is not None:
            self.weight = self.weight.to(train_targets.device)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits (batch, 1) and targets (batch,)."""
        logits = outputs.squeeze(1)
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=self.weight)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return probabilities (rows, 2) of class 0 and class 1; both are accurate when small."""
        logits = outputs.float()
        return torch.cat([-logits, logits], 1).sigmoid()


class MeanSquaredError:
    """The mean of squared differences (without the factor 1/2 of some texts); targets are float32 numbers."""

    task = "regression"

    def check(self, task: str, classes: int) -> None:
        """Refuse classes as targets."""
        if task != self.task:
            also = " or loss=binary_cross_entropy" if classes == 2 else ""
            raise UserError(
                f"loss is mean_squared_error, for targets that are numbers; the data has {classes} classes: "
                f"use loss=cross_entropy{also}"
            )

    def outputs(self, classes: int) -> int:
        """Return one value."""
        return 1

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Do nothing."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of values (batch, 1) and targets (batch,)."""
        return F.mse_loss(outputs.squeeze(1), targets)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return values (rows,)."""
        return outputs.float().squeeze(1)


class Auto:
    """What suits the data's task (`Task.default_loss`): cross-entropy of classes, the mean squared error of numbers.

    It equals that loss, value for value. Its arguments are those of `CrossEntropy`; regression does not use them.

    Attributes:
        stands_for: that loss, once `check` has been called with the task.

    Raises:
        UserError: as `CrossEntropy`.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | Literal["balanced"] | None = None
    ) -> None:
        self._given = {"label_smoothing": label_smoothing, "class_weights": class_weights}
        self.stands_for: Loss = CrossEntropy(label_smoothing, class_weights)

    @property
    def task(self) -> str:
        """The task that it is for; another than classification, once `check` has told it so."""
        return self.stands_for.task

    def check(self, task: str, classes: int) -> None:
        """Select the loss for this task; refuse arguments that it does not use, and what it refuses itself."""
        self.stands_for = locate_task(task).default_loss(**self._given)
        self.stands_for.check(task, classes)

    def outputs(self, classes: int) -> int:
        """Return one logit for each class, or one value."""
        return self.stands_for.outputs(classes)

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Fit the loss that it stands for."""
        self.stands_for.fit(train_targets, classes)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return self.stands_for(outputs, targets)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return probabilities (rows, classes), or values (rows,)."""
        return self.stands_for.predictions(outputs)


def _for_classes(loss: str) -> str:
    return f"loss is {loss}, for classes; the data's targets are numbers: use loss=mean_squared_error"


def _class_weights(given: Sequence[float] | str | None) -> Tensor | None:
    if given is None or given == "balanced":
        return None
    if isinstance(given, str):
        raise UserError(f"class_weights is {given!r}; allowed: balanced, a list of numbers, or null")
    weights = torch.tensor(list(given), dtype=torch.float32)
    if not (weights.isfinite() & (weights >= 0)).all() or weights.sum() == 0:
        raise UserError(f"class_weights is {list(given)}; allowed: numbers of at least 0, not all of them 0")
    return weights


def _balanced(targets: Tensor, classes: int) -> Tensor:
    """Return weights (classes,) as scikit-learn's ``class_weight="balanced"``."""
    counts = torch.bincount(targets, minlength=classes)
    if not counts.all():
        missing = (counts == 0).nonzero().flatten().tolist()
        raise UserError(f"class_weights is balanced; classes {missing} have no training rows: give a list of weights")
    return len(targets) / (classes * counts.float())
