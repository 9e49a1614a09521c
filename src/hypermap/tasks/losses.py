"""Losses: what training minimizes, and how a network's outputs become predictions.

A loss is used in this order: `check` that it fits the data, build a network with `outputs` outputs, `fit` the loss to
the training targets (on their device), then call it on batches.

A loss may have a method `pooled`, which says what the outputs of several networks together are (`pooled`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.tasks.base import TargetInfo, locate_task
from hypermap.tasks.names import CLASS, NUMBER


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
        _check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        self.weights = _class_weights(class_weights)  # float32 (classes,)

    def check(self, task: str, classes: int) -> None:
        """Refuse regression targets, and a number of weights other than the number of classes."""
        if task != self.task:
            raise UserError(_for_classes("cross_entropy", task))
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

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return the logarithms of mean probabilities (rows, classes) for logits (rows, members, classes)."""
        return outputs.float().log_softmax(2).logsumexp(1) - math.log(outputs.shape[1])


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
            raise UserError(_for_classes("binary_cross_entropy", task))
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

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return the logit of the mean probability, (rows, 1), for logits (rows, members, 1)."""
        return _pooled_logits(outputs)


class MeanSquaredError:
    """The mean of squared differences (without the factor 1/2 of some texts); targets are float32 numbers."""

    task = "regression"

    def check(self, task: str, classes: int) -> None:
        """Refuse classes as targets."""
        if task not in (self.task, CLASS):
            raise UserError(f"loss is mean_squared_error, for one number; the task is {task}: use loss=auto")
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

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return mean values (rows, 1) for values (rows, members, 1)."""
        return outputs.float().mean(1)


class MultilabelCrossEntropy:
    """Minus the logarithm of the probability, under a sigmoid, of what is true of each label; targets are 0 or 1.

    It is the mean over rows and labels. `label_smoothing` s makes targets s / 2 and 1 - s / 2. With `class_weights`
    ``balanced``, rows that have a label weigh as much in it as those that have not: its positive rows are multiplied by
    the number of the others over theirs.

    Raises:
        UserError: a smoothing outside [0, 1), or other weights.
    """

    task = "multilabel"

    def __init__(self, label_smoothing: float = 0.0, class_weights: Literal["balanced"] | None = None) -> None:
        _check_smoothing(label_smoothing)
        if class_weights not in (None, "balanced"):
            raise UserError(f"class_weights is {class_weights!r}; allowed for labels: balanced, or null")
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        self.weights: Tensor | None = None  # float32 (labels,), of positive rows

    def check(self, task: str, classes: int) -> None:
        """Refuse any other task."""
        if task != self.task:
            raise UserError(f"loss is multilabel_cross_entropy, for several labels; the task is {task}: use loss=auto")

    def outputs(self, classes: int) -> int:
        """Return one logit for each label."""
        return classes

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Compute the weights if they are ``balanced``; a label that training rows all have, or none, has weight 1."""
        if self.balanced:
            own = train_targets.float().mean(0)
            self.weights = torch.where((own > 0) & (own < 1), (1 - own) / own, 1.0)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits and targets, both (batch, labels)."""
        smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smoothed.to(outputs.dtype), pos_weight=self.weights)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return each label's probability, (rows, labels)."""
        return outputs.float().sigmoid()

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return the logits of mean probabilities (rows, labels) for logits (rows, members, labels)."""
        return _pooled_logits(outputs)


class JointLoss:
    """The losses of several targets, weighed: cross-entropy of classes, the mean squared error of numbers.

    With `weighting` ``uncertainty`` the weights are learned, as Kendall et al. 2018
    (https://arxiv.org/abs/1705.07115) have them: s, the logarithm of a target's noise variance, is a parameter of the
    network, and the loss is the sum of exp(-s) L + s / 2, of numbers exp(-s) L / 2 + s / 2. It may be negative. With
    ``fixed`` it is the sum of the losses, each times its weight in `weights` (1 if that is null); a target of weight 0
    is not learned from.

    Args:
        info: what the manifest says of the targets.
        weighting: ``uncertainty`` or ``fixed``.
        weights: of targets by name, for ``fixed``.
        label_smoothing: of classes.
        class_weights: of classes: ``balanced`` or None.
        alone: whether to train a network for each target by itself as well, to tell whether sharing one paid.

    Raises:
        UserError: a value is none of these, or a weight names no target.
    """

    task = "multitask"

    def __init__(
        self,
        info: TargetInfo,
        weighting: Literal["uncertainty", "fixed"] = "uncertainty",
        weights: Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
        alone: bool = False,
    ) -> None:
        if weighting not in ("uncertainty", "fixed"):
            raise UserError(f"loss.weighting is {weighting!r}; it is uncertainty or fixed")
        if class_weights not in (None, "balanced"):
            raise UserError(f"class_weights is {class_weights!r}; allowed for several targets: balanced, or null")
        if not info.target_columns:
            raise UserError("loss is joint, for several targets; there is one: use loss=auto")
        self.alone = alone  # for `hypermap.experiments.run.train_alone`
        self.learned = weighting == "uncertainty"
        self.names = [str(column["name"]) for column in info.target_columns]
        self.weights = _weights_of(weights or {}, self.names, learned=self.learned)
        self.parts: list[Loss] = [
            CrossEntropy(label_smoothing, class_weights) if column["classes"] else MeanSquaredError()
            for column in info.target_columns
        ]
        self.sizes = [len(column["classes"]) for column in info.target_columns]

    def check(self, task: str, classes: int) -> None:
        """Refuse any other task."""
        if task != self.task:
            raise UserError(f"loss is joint, for several targets; the task is {task}: use loss=auto")

    @property
    def widths(self) -> list[int]:
        """The number of outputs for each target."""
        return [part.outputs(size) for part, size in zip(self.parts, self.sizes, strict=True)]

    def outputs(self, classes: int) -> int:
        """Return a logit for each class, and a value for each number."""
        return sum(self.widths)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network with the parameters that the loss learns, if any, which it gives as further outputs."""
        return WithLogVariances(model, len(self.parts)) if self.learned else model

    def weights_in(self, network: nn.Module) -> dict[str, float]:
        """Return each target's weight in the loss, as a trained network has it if it is learned."""
        if not self.learned:
            return dict(zip(self.names, self.weights, strict=True))
        spreads = dict(network.named_parameters())["log_variances"].tolist()
        each = zip(self.names, self.sizes, spreads, strict=True)
        return {name: math.exp(-s) * (1.0 if size else 0.5) for name, size, s in each}

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Fit each target's loss."""
        for k, (part, size) in enumerate(zip(self.parts, self.sizes, strict=True)):
            part.fit(_of(train_targets, k, size), size)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the weighed sum for outputs (batch, width) and targets (batch, columns)."""
        each = outputs.split([*self.widths, *[1] * (len(self.parts) * self.learned)], 1)
        losses = [
            part(own, _of(targets, k, size))
            for k, (part, own, size) in enumerate(zip(self.parts, each, self.sizes, strict=False))
        ]
        total = outputs.new_zeros(())
        if not self.learned:
            for loss, weight in zip(losses, self.weights, strict=True):
                total = total + weight * loss
            return total
        for loss, size, spread in zip(losses, self.sizes, each[len(self.parts) :], strict=True):
            s = spread[0, 0]  # the same in each row
            total = total + (-s).exp() * loss * (1.0 if size else 0.5) + s / 2
        return total

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the targets' predictions side by side, (rows, width)."""
        each = outputs.float()[:, : sum(self.widths)].split(self.widths, 1)
        made = [part.predictions(own) for part, own in zip(self.parts, each, strict=True)]
        return torch.cat([part if part.ndim == 2 else part.unsqueeze(1) for part in made], 1)

    def pooled(self, outputs: Tensor) -> Tensor:
        """Return each target's pooled outputs side by side (rows, width) for outputs (rows, members, width or more)."""
        each = outputs[:, :, : sum(self.widths)].split(self.widths, 2)
        return torch.cat([pooled(part, own) for part, own in zip(self.parts, each, strict=True)], 1)


class WithLogVariances(nn.Module):
    """A network, and the logarithms of noise variances, which are parameters and the last outputs of every row."""

    def __init__(self, network: nn.Module, targets: int) -> None:
        super().__init__()
        self.network = network
        self.log_variances = nn.Parameter(torch.zeros(targets))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's outputs and the logarithms, (batch, width + targets), or those of each member."""
        outputs: Tensor = self.network(inputs)
        return torch.cat([outputs, self.log_variances.to(outputs.dtype).expand(*outputs.shape[:-1], -1)], -1)


class MeanOfMembers(nn.Module):
    """A network of several members as one: its predictions are the mean of theirs, and so is its loss in training.

    Args:
        network: gives each member's outputs, ``(batch, members, width)``.
        loss: says what the outputs are of which the predictions are the mean.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, inputs: Tensor) -> Tensor:
        """Return pooled outputs (batch, width) in evaluation; in training each member's, for `members_as_rows`."""
        outputs: Tensor = self.network(inputs)
        return outputs if self.training else pooled(self.loss, outputs)


class Auto:
    """What suits the data's task (`Task.default_loss`): cross-entropy of classes, the mean squared error of numbers.

    Of several targets it is the loss of labels, or the joint one. It equals that loss, value for value. Its arguments
    are those of `CrossEntropy`, and what the manifest says of the targets; regression does not use them.

    Attributes:
        stands_for: that loss, once `check` has been called with the task.

    Raises:
        UserError: as `CrossEntropy`.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        info: TargetInfo | None = None,
    ) -> None:
        self._info = info
        self._given = {"label_smoothing": label_smoothing, "class_weights": class_weights}
        self.stands_for: Loss = CrossEntropy(label_smoothing, class_weights)

    @property
    def task(self) -> str:
        """The task that it is for; another than classification, once `check` has told it so."""
        return self.stands_for.task

    def check(self, task: str, classes: int) -> None:
        """Select the loss for this task; refuse arguments that it does not use, and what it refuses itself."""
        self.stands_for = locate_task(task)(self._info).default_loss(**self._given)  # type: ignore[arg-type]
        self.stands_for.check(task, classes)

    def outputs(self, classes: int) -> int:
        """Return one logit for each class, or one value."""
        return self.stands_for.outputs(classes)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the network with the parameters that the loss learns, if any."""
        return wrapped(self.stands_for, model)

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Fit the loss that it stands for."""
        self.stands_for.fit(train_targets, classes)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return self.stands_for(outputs, targets)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return probabilities (rows, classes), or values (rows,)."""
        return self.stands_for.predictions(outputs)


def plain(loss: Loss) -> Loss:
    """Return the loss that an `Auto` loss stands for, or the loss itself."""
    return loss.stands_for if isinstance(loss, Auto) else loss


def wrapped(loss: Loss, model: nn.Module) -> nn.Module:
    """Return a network with the parameters that a loss learns, if it has a method `wrap` for that.

    A network whose attribute `of_members` is true gives the outputs of several, and becomes their mean.
    """
    wrap = getattr(loss, "wrap", None)
    one = MeanOfMembers(model, loss) if getattr(model, "of_members", False) else model
    made: nn.Module = one if wrap is None else wrap(one)
    return made


def pooled(loss: Loss, outputs: Tensor) -> Tensor:
    """Return outputs (rows, width) whose predictions are the mean of the members', from theirs (rows, members, width).

    A loss says by its method `pooled` what they are; of a loss without one they are the outputs' mean.
    """
    pool = getattr(plain(loss), "pooled", None)
    mean: Tensor = outputs.float().mean(1) if pool is None else pool(outputs)
    return mean


def members_as_rows(outputs: Tensor, targets: Tensor, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Return the outputs of each row's members as rows, and their targets: a mean over these is that of the members.

    Args:
        outputs: ``(..., batch, members, width)``, to ``(..., batch * members, width)``.
        targets: ``(..., batch, ...)``.
        axis: of the batch.
    """
    return outputs.flatten(axis, axis + 1), targets.repeat_interleave(outputs.shape[axis + 1], axis)


def _pooled_logits(outputs: Tensor) -> Tensor:
    """Return logits (rows, width) whose sigmoids are the means of those of logits (rows, members, width)."""
    logits = outputs.float()
    return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)


def _of(targets: Tensor, k: int, classes: int) -> Tensor:
    """Return a column of several targets as its loss takes it."""
    return targets[:, k].long() if classes else targets[:, k]


def _weights_of(given: Mapping[str, float], names: Sequence[str], *, learned: bool) -> list[float]:
    """Return the weight of each target."""
    if learned and given:
        raise UserError("loss.weights are given, and loss.weighting is uncertainty, which learns them: say fixed")
    if unknown := [name for name in given if name not in names]:
        raise UserError(f"loss.weights names {', '.join(map(repr, unknown))}; the targets are {', '.join(names)}")
    weights = [float(given.get(name, 1.0)) for name in names]
    if min(weights) < 0 or not any(weights):
        raise UserError(f"loss.weights are {dict(given)}; they are numbers of at least 0, not all of them 0")
    return weights


def _for_classes(loss: str, task: str) -> str:
    held, better = (
        ("the data's targets are numbers", "mean_squared_error") if task == NUMBER else (f"the task is {task}", "auto")
    )
    return f"loss is {loss}, for classes; {held}: use loss={better}"


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise UserError(f"label_smoothing is {label_smoothing}; allowed: from 0 to less than 1")


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
