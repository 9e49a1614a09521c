"""Losses of ratings and rankings."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.tasks.base import path_of
from hypermap.tasks.losses import MeanSquaredError
from hypermap.tasks.ratings import Ranking, RatingPrediction


class SquaredRatingError(MeanSquaredError):
    """The mean of squared differences between ratings, both standardized."""

    task = str(path_of(RatingPrediction))

    def check(self, task: str, classes: int) -> None:
        """Refuse any other task."""
        if task != self.task:
            raise UserError(f"loss is squared_rating_error, for ratings; the task is {task}: use loss=auto")


class _OfNegatives:
    """A loss of the score of the item that a user took, and of scores of others that the user did not have.

    A network's outputs are ``(rows, 1 + negatives)`` scores, the item's first, and then the rankings of
    `hypermap.tasks.ratings.Ranking`. A score of minus infinity is of an item that the user had, and does not count.

    Args:
        negatives: number of other items, drawn anew for each batch in training, and the same ones in validation.

    Raises:
        UserError: there are none.
    """

    task: ClassVar[str] = str(path_of(Ranking))
    name: ClassVar[str]

    def __init__(self, negatives: int = 256) -> None:
        if isinstance(negatives, bool) or not isinstance(negatives, int) or negatives < 1:
            raise UserError(f"loss.negatives is {negatives!r}; it is a whole number from 1")
        self.negatives = negatives

    def check(self, task: str, classes: int) -> None:
        """Refuse any other task."""
        if task != self.task:
            raise UserError(f"loss is {self.name}, for items to rank (data.goal=ranking); the task is {task}: "
                            "use loss=auto")  # fmt: skip

    def outputs(self, classes: int) -> int:
        """Return a score for the item, and for each negative."""
        return 1 + self.negatives

    def fit(self, train_targets: Tensor, classes: int) -> None:
        """Do nothing."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the rankings behind the scores."""
        return outputs.float()[:, 1 + self.negatives :]


class SampledSoftmax(_OfNegatives):
    """Minus the logarithm of the item's probability among the negatives, under a softmax (Jean et al. 2015,
    https://arxiv.org/abs/1412.2007).
    """

    name = "sampled_softmax"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of scores (batch, 1 + negatives or more)."""
        scores = outputs[:, : 1 + self.negatives]
        return -scores.log_softmax(1)[:, 0].mean()


class BPR(_OfNegatives):
    """Minus the logarithm of the probability that the item is preferred to a negative, which is the sigmoid of the
    difference of their scores (Rendle et al. 2009, https://arxiv.org/abs/1205.2618).
    """

    name = "bpr"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over pairs, for scores (batch, 1 + negatives or more)."""
        scores = outputs[:, : 1 + self.negatives]
        counted = scores[:, 1:].isfinite()
        apart = scores[:, :1] - torch.where(counted, scores[:, 1:], 0.0)
        return (F.softplus(-apart) * counted).sum() / counted.sum().clamp(min=1)
