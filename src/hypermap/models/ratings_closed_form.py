"""Ratings and rankings without epochs: means, popularity, and EASE in closed form."""

from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, RegressorMixin
from torch import Tensor

from hypermap.core import memory
from hypermap.core.errors import UserError
from hypermap.core.typing import Array, Floats
from hypermap.data.preprocessors.ratings import FIRST, ITEM, USER
from hypermap.models.ratings import UNKNOWN, Histories, rankings, recency_weights
from hypermap.models.sklearn_models import SklearnModel, TrainingData

RANKED = 512  # rows ranked at once


class RatingMeans(SklearnModel):
    """The mean rating, and how users and items differ from it (Koren 2010, https://doi.org/10.1145/1644873.1644874,
    section 2.1): of an item the sum of its differences over their number and `item_damping`, then of a user likewise.

    Args:
        users: number of them in the training rows.
        items: likewise.
        user_damping: as many rows without a difference count as well.
        item_damping: likewise.
    """

    inputs: ClassVar = frozenset({"ids"})
    predicts: ClassVar = frozenset({"regressor"})
    trusted: ClassVar = ("hypermap.models.ratings_closed_form.Biases",)

    def __init__(self, users: int, items: int, user_damping: float = 10.0, item_damping: float = 5.0) -> None:
        self.arguments = (users, items, user_damping, item_damping)

    def fit(self, problem: TrainingData) -> Any:
        """Return the biases."""
        return Biases(*self.arguments).fit(*problem.train)


class Biases(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The estimator of `RatingMeans`."""

    def __init__(self, users: int = 0, items: int = 0, user_damping: float = 10.0, item_damping: float = 5.0) -> None:
        self.users, self.items = users, items
        self.user_damping, self.item_damping = user_damping, item_damping

    def fit(self, rows: Array, targets: Array) -> Self:
        """Fit the means."""
        self.mean_ = float(np.mean(targets, dtype=np.float64))
        rest = targets.astype(np.float64) - self.mean_
        self.of_items_ = _damped(rows[:, ITEM], rest, self.items, self.item_damping)
        self.of_users_ = _damped(rows[:, USER], rest - self.of_items_[rows[:, ITEM]], self.users, self.user_damping)
        return self

    def predict(self, rows: Array) -> Floats:
        """Return ratings (rows,)."""
        found: Floats = self.mean_ + self.of_items_[rows[:, ITEM]] + self.of_users_[rows[:, USER]]
        return found


def _damped(places: Array, values: Floats, count: int, damping: float) -> Floats:
    """Return the damped mean of the values of each place up to `count`; 0 of the unknown."""
    sums, rows = np.bincount(places, values, count + 1), np.bincount(places, minlength=count + 1)
    means: Floats = sums / np.maximum(rows + damping, 1e-12)
    means[UNKNOWN] = 0
    return means


class _Ranked(BaseEstimator):  # type: ignore[misc]
    """An estimator of rankings: it scores all items for users, from what they had before.

    Args:
        users: number of them in the training rows.
        items: likewise.
        seen: columns of a row with items that the user had after training.
        k: length of a list of items.
    """

    def __init__(self, users: int = 0, items: int = 0, seen: int = 0, k: int = 10) -> None:
        self.users, self.items, self.seen, self.k = users, items, seen, k

    @abstractmethod
    def learn(self, taken: csr_array) -> None:
        """Learn from which items users had, (users + 1, items + 1) float64."""

    @abstractmethod
    def score(self, rows: Tensor) -> Floats:
        """Return the scores of all items (rows, 1 + items) for rows (rows, columns) int64."""

    @cached_property
    def histories(self) -> Histories:
        """What users have in the training rows."""
        made = Histories(self.users, self.items)
        made.remember(torch.from_numpy(self.rows_), torch.empty(0))
        return made

    @cached_property
    def taken(self) -> csr_array:
        """Which items users had, (users + 1, items + 1) float64."""
        cells = (np.ones(len(self.rows_)), (self.rows_[:, USER], self.rows_[:, ITEM]))
        return csr_array(cells, shape=(self.users + 1, self.items + 1))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is stored: not what follows from it."""
        return {name: value for name, value in self.__dict__.items() if name not in ("histories", "taken")}

    def fit(self, rows: Array, targets: Array | None = None) -> Self:
        """Learn from training rows."""
        self.rows_ = np.ascontiguousarray(rows[:, :FIRST])
        self.learn(self.taken)
        return self

    def predict(self, rows: Array) -> Floats:
        """Return rankings (rows, 4 + k), as `hypermap.tasks.ratings.Ranking` has them."""
        parts = torch.from_numpy(rows.astype(np.int64)).split(RANKED)
        each = [rankings(torch.from_numpy(self.score(part)), part, self.histories, self.seen, self.k) for part in parts]
        found: Floats = torch.cat(each).numpy()
        return found


class Popularity(SklearnModel):
    """The items of the most training rows, for everybody: what every ranking has to beat.

    Args:
        users: number of them in the training rows.
        items: likewise.
        seen: columns of a row with items that the user had after training.
        k: length of a list of items.
    """

    inputs: ClassVar = frozenset({"ids"})
    predicts: ClassVar = frozenset({"ranker"})
    trusted: ClassVar = ("hypermap.models.ratings_closed_form.PopularItems",)

    def __init__(self, users: int, items: int, seen: int, k: int) -> None:
        self.arguments = (users, items, seen, k)

    def fit(self, problem: TrainingData) -> Any:
        """Return the fitted estimator."""
        return PopularItems(*self.arguments).fit(problem.train[0])


class PopularItems(_Ranked):
    """The estimator of `Popularity`."""

    def learn(self, taken: csr_array) -> None:
        """Learn nothing beside the counts."""

    def score(self, rows: Tensor) -> Floats:
        """Return the items' numbers of training rows."""
        counts: Floats = np.tile(self.taken.sum(0), (len(rows), 1))
        return counts


class Ease(SklearnModel):
    """A linear model of each item from a user's others, in closed form (Steck 2019, https://arxiv.org/abs/1905.03375).

    What a user had before counts by its place from the end to the power of minus `recency`, when items are scored; the
    model itself is fitted to what users had, without weights. Of fewer users than items it is computed from the inverse
    of a matrix of users (by the Woodbury identity).

    Args:
        users: number of them in the training rows.
        items: likewise.
        seen: columns of a row with items that the user had after training.
        k: length of a list of items.
        regularization: the weight of the squared weights.
        recency: how much more the latest items count; 0: all count alike, as in the paper.
    """

    inputs: ClassVar = frozenset({"ids"})
    predicts: ClassVar = frozenset({"ranker"})
    trusted: ClassVar = ("hypermap.models.ratings_closed_form.EaseEstimator",)

    def __init__(
        self, users: int, items: int, seen: int, k: int, regularization: float = 100.0, recency: float = 0.5
    ) -> None:
        if not regularization > 0:
            raise UserError(f"model.regularization is {regularization}; it is a number above 0.")
        self.arguments = (users, items, seen, k, regularization, recency)

    def fit(self, problem: TrainingData) -> Any:
        """Return the fitted estimator.

        Raises:
            UserError: the inverse does not fit into memory.
        """
        return EaseEstimator(*self.arguments).fit(problem.train[0])


class EaseEstimator(_Ranked):
    """The estimator of `Ease`."""

    def __init__(
        self,
        users: int = 0,
        items: int = 0,
        seen: int = 0,
        k: int = 10,
        regularization: float = 100.0,
        recency: float = 0.5,
    ) -> None:
        super().__init__(users, items, seen, k)
        self.regularization, self.recency = regularization, recency

    def learn(self, taken: csr_array) -> None:
        """Invert the Gram matrix of users, or that of items, whichever is smaller.

        Raises:
            UserError: it does not fit into memory.
        """
        size, strength = min(taken.shape), self.regularization
        needed, free = 24 * size * size, memory.free()
        if free is not None and needed > free:
            raise UserError(
                f"EASE of {self.users:,} users and {self.items:,} items needs {needed / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB of memory are free: take fewer items, or model=two_towers."
            )
        self.of_users_ = taken.shape[0] == size
        gram = (taken @ taken.T if self.of_users_ else taken.T @ taken).toarray()
        self.inverse_ = np.linalg.inv(gram + strength * np.eye(size))
        if self.of_users_:  # the diagonal of the inverse of items, from that of users
            self.diagonal_ = (1 - taken.multiply((taken.T @ self.inverse_).T).sum(0)) / strength
        else:
            self.diagonal_ = self.inverse_.diagonal().copy()

    def score(self, rows: Tensor) -> Floats:
        """Return the scores of all items."""
        user, order, longest = (
            rows[:, USER],
            torch.full((len(rows),), -1),
            int(self.histories.known(rows[:, USER]).max()),
        )
        before = torch.cat([self.histories.latest(user, order, longest), rows[:, FIRST : FIRST + self.seen]], 1)
        weights = recency_weights(before, self.recency).double()
        had = torch.zeros(len(rows), self.items + 1, dtype=torch.float64).scatter(1, before, weights).numpy()
        had[:, UNKNOWN] = 0
        if self.of_users_:
            of_users = (self.taken @ had.T).T @ self.inverse_
            product = (had - (self.taken.T @ of_users.T).T) / self.regularization
        else:
            product = had @ self.inverse_
        scores: Floats = had - product / self.diagonal_
        return scores
