"""Ratings: how a user rates an item, and which items a user takes next."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hypermap.core import ids
from hypermap.core.errors import UserError
from hypermap.core.typing import Array, Floats
from hypermap.tasks import metrics
from hypermap.tasks.base import PREDICTION, Resampled, TargetInfo, Task
from hypermap.tasks.regression import Regression

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, nn

    from hypermap.tasks.losses import Loss

RANK, KNOWN, POPULARITY, WHO, LIST = 0, 1, 2, 3, 4
"""The columns of a ranking: the item's rank from 1, how many training rows the user has, the mean number of training
rows of the listed items, the user's place, and where the list of items begins."""


class RatingPrediction(Regression):
    """The rating of an item by a user, within the range of the training ratings.

    Accuracy, precision, recall and F1 are those of "liked": a rating of at least `data.liked`, and a prediction of as
    much. Precision is 0 where nothing is predicted as liked.
    """

    report = "hypermap.reports.run.ratings.RatingReport"
    metrics: ClassVar = {
        **Regression.metrics, "accuracy": True, "precision": True, "recall": True, "f1": True,
    }  # fmt: skip

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return the mean and standard deviation of the training ratings, their range, and what counts as liked.

        Raises:
            UserError: no rating can be liked, or none can be not.
        """
        liked = float(_arguments(info).get("liked", 4.0))
        lowest, highest = float(targets.min()), float(targets.max())
        if not lowest < liked <= highest:
            raise UserError(
                f"data.liked is {liked:g}, and the training ratings go from {lowest:g} to {highest:g}: give a number "
                "above the lowest."
            )
        own = {"liked": liked, "lowest": lowest, "highest": highest}
        return {**super().fit(targets, info), "target": own}

    def predictions(self, outputs: Array) -> Array:
        """Return ratings, none outside the range of the training ratings."""
        return self.decode(outputs).clip(self.info.target["lowest"], self.info.target["highest"])

    def joined(self, parts: Sequence[Array], **tuned: Any) -> Array:
        """Return the same of an estimator's ratings."""
        return super().joined(parts).clip(self.info.target["lowest"], self.info.target["highest"])

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """Return the metrics of ratings, and of what is liked."""
        once = self._liked(targets, predictions)(np.ones((len(targets), 1)))
        return super().measure(targets, predictions) | {name: float(value[0]) for name, value in once.items()}

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """Return the function that gives the metrics for any row counts."""
        of_ratings, of_liked = super().resampled(targets, predictions), self._liked(targets, predictions)
        return lambda counts: {**of_ratings(counts), **of_liked(counts)}

    def _liked(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        liked = self.info.target["liked"]
        true, said = targets >= liked, predictions >= liked

        def values(counts: Floats) -> dict[str, Floats]:
            rows, hits = counts.sum(0), (true & said) @ counts
            had, named = true @ counts, said @ counts
            return {
                "accuracy": (true == said) @ counts / rows,
                "precision": metrics.ratio(hits, named, 0.0),
                "recall": metrics.ratio(hits, had, 0.0),
                "f1": metrics.ratio(2 * hits, had + named, 0.0),
            }

        return values

    def default_loss(self, **settings: Any) -> "Loss":
        """Return the mean squared error.

        Raises:
            UserError: a setting is given, which are of classes all.
        """
        from hypermap.tasks.ratings_losses import SquaredRatingError

        super().default_loss(**settings)
        return SquaredRatingError()

    def module(self) -> "nn.Module":
        """Return `predictions` in torch."""
        from torch import nn

        own = self.info.target
        return nn.Sequential(super().module(), nn.Hardtanh(own["lowest"], own["highest"]))


class Ranking(Task):
    """Which item a user takes: all items are ranked that the user did not have before.

    Targets are the items themselves, int64 ``(rows, width)`` as `hypermap.core.ids` has them. Predictions are the
    item's rank and more, float64 ``(rows, 4 + k)``: see the columns above. Items are their places among those of the
    training rows, from 1; a user's item that no training row has is ranked behind all others.

    `ndcg`, `recall` and `mrr` are means over the held-out rows (Järvelin and Kekäläinen 2002,
    https://doi.org/10.1145/582415.582418, of one relevant item each), `hr` is the share of users with a hit. All are at
    k. `coverage` is the share of all items that are in some user's list, `popularity` the mean number of training rows
    of a listed item.
    """

    monitor = "ndcg"
    score_name = "NDCG"
    low_score = 0.02
    estimator = "ranker"
    report = "hypermap.reports.run.ratings.RankingReport"
    metrics: ClassVar = {
        "ndcg": True, "hr": True, "recall": True, "mrr": True, "coverage": True, "popularity": False,
    }  # fmt: skip

    @classmethod
    def fit(cls, targets: Array, info: TargetInfo) -> dict[str, Any]:
        """Return the items of the training rows by name, in the order of their places, and the length of a list.

        Raises:
            UserError: there are fewer items than a list has.
        """
        names = [ids.name_of(words) for words in ids.distinct(targets).tolist()]
        k = int(_arguments(info).get("k", 10))
        if k >= len(names):
            raise UserError(f"data.k is {k}, and the training rows have {len(names)} items: a list is shorter.")
        return {"target": {"k": k, "items": names}}

    @property
    def k(self) -> int:
        """The length of a list."""
        return int(self.info.target["k"])

    def encode(self, targets: "Tensor") -> "Tensor":
        """Return the items as they are: a network has them among its inputs."""
        return targets

    def decode(self, encoded: Array) -> Array:
        """Return the items, or an estimator's rankings, as they are."""
        return encoded

    def predictions(self, outputs: Array) -> Array:
        """Return rankings."""
        return outputs

    @property
    def shape(self) -> tuple[int, ...]:
        """Return that of a ranking."""
        return (LIST + self.k,)

    @property
    def legend(self) -> tuple[str, Sequence[str]]:
        """Return what a ranking holds."""
        listed = [f"item {k}" for k in range(1, self.k + 1)]
        return (
            "for each row the rank of its item, and the list of the best items by their places among the training "
            "items, from 1",
            ["rank", "training rows of the user", "training rows of a listed item", "place of the user", *listed],
        )

    def average(self, predictions: Sequence[Array], weights: Sequence[float]) -> Array:
        """Raise an error: lists have no mean.

        Raises:
            UserError: always.
        """
        raise UserError("lists of items have no mean: set final=holdout or final=refit.")

    def table(self, predictions: Array) -> "DataFrame":
        """Return the names of each row's listed items, the best first."""
        from polars import DataFrame, String

        names = np.array([None, *self.info.target["items"]], dtype=object)
        places = np.nan_to_num(predictions[:, LIST:]).astype(np.int64)
        return DataFrame(
            {f"{PREDICTION}_{k}": names[column].tolist() for k, column in enumerate(places.T, 1)},
            schema={f"{PREDICTION}_{k}": String for k in range(1, self.k + 1)},
        )

    def scores(self, outputs: "Tensor", targets: "Tensor", losses: "Sequence[Loss]") -> list[float]:
        """Return NDCG; in training that of the rows which were ranked."""
        import torch

        found = []
        for loss, own in zip(losses, outputs, strict=True):
            rank = loss.predictions(own)[:, RANK].double()
            rank = rank[rank.isfinite()]
            gains = torch.where(rank <= self.k, 1 / (rank + 1).log2(), 0.0)
            found.append(float(gains.mean()) if len(rank) else 0.0)
        return found

    def measure(self, targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
        """Return the metrics of rankings."""
        metrics.check_finite(predictions)
        once = self.resampled(targets, predictions)(np.ones((len(predictions), 1)))
        return {name: float(value[0]) for name, value in once.items()}

    def resampled(self, targets: NDArray[Any], predictions: NDArray[Any]) -> Resampled:
        """Return the function that gives the metrics for any row counts."""
        from scipy.sparse import csr_array

        rank = predictions[:, RANK]
        hit = (rank <= self.k).astype(np.float64)
        gain, reciprocal = hit / np.log2(rank + 1), hit / rank
        users = metrics.Groups.of(predictions[:, WHO])
        listed, k = predictions[:, LIST:].astype(np.int64), self.k
        places, rows = np.unique(listed, return_inverse=True)
        cells = (np.ones(listed.size), (rows.ravel(), np.repeat(np.arange(len(listed)), k)))
        lists = csr_array(cells, shape=(len(places), len(listed)))
        items = len(self.info.target["items"])

        def values(counts: Floats) -> dict[str, Floats]:
            total = counts.sum(0)
            drawn = (users.sums(counts) > 0).sum(0)
            return {
                "ndcg": gain @ counts / total,
                "hr": (users.sums(counts * hit[:, np.newaxis]) > 0).sum(0) / drawn,
                "recall": hit @ counts / total,
                "mrr": reciprocal @ counts / total,
                "coverage": ((lists @ counts) > 0).sum(0) / items,
                "popularity": predictions[:, POPULARITY] @ counts / total,
            }

        return values

    def default_loss(self, **settings: Any) -> "Loss":
        """Return the softmax over sampled items.

        Raises:
            UserError: a setting is given, which are of classes all.
        """
        from hypermap.tasks.ratings_losses import SampledSoftmax

        if given := ", ".join(f"loss.{key} is {value!r}" for key, value in settings.items() if value):
            raise UserError(f"{given}, for classes; the data's targets are items to rank: leave it out")
        return SampledSoftmax()

    def module(self, **tuned: Any) -> "nn.Module":
        """Return `predictions` in torch."""
        from torch import nn

        return nn.Identity()

    @staticmethod
    def standard_error(score: float, rows: int) -> float:
        """Return an upper bound: numbers between 0 and 1 vary most where all are either."""
        return math.sqrt(max(score * (1 - score), 0.25 / rows) / rows)


def _arguments(info: TargetInfo) -> Mapping[str, Any]:
    """Return the arguments of the reader of the data."""
    found: Mapping[str, Any] = getattr(info, "arguments", {})
    return found
