"""Networks of users and items: ratings of pairs, and rankings of all items for a user."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core import memory
from hypermap.core.errors import UserError
from hypermap.data.preprocessors.ratings import FIRST, ITEM, ORDER, USER
from hypermap.models.layers import Activation, Dropout, activation, positive

UNKNOWN = 0  # the place of a user, an item or a value that no training row has
RANKED_SHARE = 16  # one of so many rows of a batch is ranked in training, for the score
NEVER = -torch.inf


def _vectors(count: int, width: int, spread: float) -> nn.Embedding:
    """Return vectors of places up to `count`; that of the unknown is 0 and stays so."""
    made = nn.Embedding(count + 1, width, padding_idx=UNKNOWN)
    with torch.no_grad():
        made.weight.normal_(std=spread)[UNKNOWN] = 0
    return made


class RatingFactors(nn.Module):
    """Matrix factorization with biases (Koren et al. 2009, https://doi.org/10.1109/MC.2009.263).

    A rating is the sum of a bias of the user, one of the item, and the product of their vectors. Of an unknown user or
    item bias and vector are 0. `members` factorizations of their own learn from each row by the mean of their losses,
    and predict the mean.

    Args:
        input_shape: of a row.
        outputs: 1.
        users: number of them in the training rows.
        items: likewise.
        width: of a vector.
        dropout: share of a product's terms dropped in training.
        members: number of factorizations.
        spread: standard deviation of the first vectors.

    Raises:
        UserError: a size is below 1.
    """

    of_members = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        users: int,
        items: int,
        width: int = 32,
        dropout: float = 0.5,
        members: int = 8,
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        positive("width", width)
        positive("members", members)
        self.members = members
        self.users, self.items = (_vectors(count, members * width, spread) for count in (users, items))
        self.user_bias, self.item_bias = (_vectors(count, members, 0.0) for count in (users, items))
        self.mean = nn.Parameter(torch.zeros(1))
        self.drop = Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) int64 to (batch, members, 1)."""
        user, item = rows[:, USER], rows[:, ITEM]
        products = self.drop(self.users(user) * self.items(item)).unflatten(1, (self.members, -1)).sum(2)
        made: Tensor = products + self.user_bias(user) + self.item_bias(item) + self.mean
        return made.unsqueeze(2)


class RatingMLP(nn.Module):
    """A network of the vectors of the user, the item and the mean of each one's features, beside their biases and
    product (He et al. 2017, https://arxiv.org/abs/1708.05031).

    Args:
        input_shape: of a row.
        outputs: 1.
        users: number of them in the training rows.
        items: likewise.
        seen: columns of a row between the item and the features.
        user_features: columns of the user's features.
        item_features: columns of the item's features.
        values: number of their values in the training rows.
        width: of a vector.
        hidden: units of each hidden layer.
        dropout: share of units dropped in training.
        activation: of the hidden layers.
        spread: standard deviation of the first vectors.

    Raises:
        UserError: a size is below 1.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        users: int,
        items: int,
        seen: int,
        user_features: int,
        item_features: int,
        values: int,
        width: int = 32,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.3,
        activation: Activation = "relu",
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        positive("width", width)
        positive("hidden", *hidden)
        self.users, self.items = (_vectors(count, width, spread) for count in (users, items))
        self.user_bias, self.item_bias = (_vectors(count, 1, 0.0) for count in (users, items))
        self.values = _vectors(values, width, spread)
        self.parts = [FIRST + seen, user_features, item_features]
        self.drop = Dropout(dropout)
        count = 2 + (user_features > 0) + (item_features > 0)
        self.hidden = _dense(count * width, hidden, activation, dropout)
        self.output = nn.Linear(hidden[-1] if hidden else count * width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) int64 to (batch, 1)."""
        user, item = rows[:, USER], rows[:, ITEM]
        own, other = self.users(user), self.items(item)
        features = [_mean(self.values, part) for part in rows.split(self.parts, 1)[1:] if part.shape[1]]
        made = self.output(self.hidden(self.drop(torch.cat([own, other, *features], 1))))
        product = self.drop(own * other).sum(1, keepdim=True)
        added: Tensor = made + product + self.user_bias(user) + self.item_bias(item)
        return added


def _dense(inputs: int, hidden: Sequence[int], kind: Activation, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation(kind), Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers)


def _mean(vectors: nn.Embedding, places: Tensor) -> Tensor:
    """Return the mean of the vectors of places (rows, places) without the unknown; 0 of none."""
    count = (places != UNKNOWN).sum(1, keepdim=True).clamp(min=1)
    mean: Tensor = vectors(places).sum(1) / count
    return mean


class Ranker(nn.Module):
    """A network that scores items for a user by the product of two vectors, and a bias of the item.

    In training it scores the row's item and others, drawn evenly from all for each batch; those that the user has in
    the training rows get minus infinity. In evaluation it also ranks the row's item among all that the user has not.

    Args:
        outputs: number of scores: 1 + the negatives.
        users: number of them in the training rows.
        items: likewise.
        seen: columns of a row with items that the user had after training.
        k: length of a list of items.
    """

    histories: Tensor
    counts: Tensor
    fixed: Tensor

    def __init__(self, outputs: int, users: int, items: int, seen: int, k: int) -> None:
        super().__init__()
        self.negatives, self.count, self.seen, self.k = outputs - 1, items, seen, k
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("histories", torch.zeros(users + 1, 0, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(items + 1, dtype=torch.int32))
        self.register_buffer("fixed", torch.randint(1, items + 1, (self.negatives,), generator=draw), persistent=False)
        self.bias = _vectors(items, 1, 0.0)
        self.source = Dropout(0.0)  # whose generator draws the negatives

    def remember(self, rows: Tensor, targets: Tensor) -> None:
        """Keep each user's training items in the order of time, int32 ``(users + 1, longest)``, the latest last.

        Raises:
            UserError: they do not fit into memory.
        """
        self.histories, self.counts = histories(rows, len(self.histories), len(self.counts))

    @abstractmethod
    def user_vectors(self, rows: Tensor, own: Tensor) -> Tensor:
        """Return vectors of the rows' users (batch, width).

        Args:
            rows: (batch, columns) int64.
            own: their training items (batch, longest) int64.
        """

    @abstractmethod
    def item_vectors(self, places: Tensor) -> Tensor:
        """Return vectors of items (items, width)."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) int64 to scores (batch, outputs) and rankings (batch, 4 + k) behind them."""
        own = self.histories[rows[:, USER]].long()
        users = self.user_vectors(rows, own)
        items = self.fixed
        if self.training:
            items = torch.randint(
                1, self.count + 1, (self.negatives,), generator=self.source.generator, device=rows.device
            )
        item = rows[:, ITEM]
        taken = (users * self.item_vectors(item)).sum(1, keepdim=True) + self.bias(item)
        others = users @ self.item_vectors(items).T + self.bias(items).T
        had = self._had(own, item)[:, items]
        scores = torch.cat([taken, others.masked_fill(had, NEVER)], 1)
        if not self.training:
            return torch.cat([scores, self.rankings(rows, own, users)], 1)
        with torch.no_grad():
            few = -(-len(rows) // RANKED_SHARE)
            some = self.rankings(rows[:few], own[:few], users[:few].detach())
        return torch.cat([scores, F.pad(some, (0, 0, 0, len(rows) - few), value=torch.nan)], 1)

    def _had(self, own: Tensor, item: Tensor) -> Tensor:
        """Return which items users have in their training rows, or are the row's, (batch, 1 + items)."""
        had = torch.zeros(len(own), self.count + 1, dtype=torch.bool, device=own.device)
        return had.scatter(1, own, True).scatter(1, item[:, None], True)

    def rankings(self, rows: Tensor, own: Tensor, users: Tensor) -> Tensor:
        """Return rankings (batch, 4 + k), as `hypermap.tasks.ratings.Ranking` has them."""
        every = torch.arange(self.count + 1, device=rows.device)
        vectors, bias = self.item_vectors(every), self.bias.weight[:, 0]
        scores = users @ vectors.T + bias
        before = torch.cat([own, rows[:, FIRST : FIRST + self.seen]], 1)
        return rankings(scores, rows[:, ITEM], before, rows[:, USER], own, self.counts, self.k)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Make room for the histories of a state, whose length is known from there alone."""
        if (stored := state_dict.get(f"{prefix}histories")) is not None:
            self.histories = self.histories.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def rankings(
    scores: Tensor, item: Tensor, before: Tensor, user: Tensor, own: Tensor, counts: Tensor, k: int
) -> Tensor:
    """Return rankings (batch, 4 + k), as `hypermap.tasks.ratings.Ranking` has them, float32.

    An item of equal score is half before the row's item, and half behind it.

    Args:
        scores: of all items (batch, 1 + items).
        item: the rows' own places, (batch,) int64.
        before: items that are not ranked, (batch, any) int64.
        user: places (batch,) int64.
        own: the users' training items (batch, longest) int64.
        counts: each item's number of training rows, (1 + items,).
        k: length of a list.
    """
    left_out = torch.zeros_like(scores, dtype=torch.bool).scatter(1, before, True)
    left_out = torch.cat([torch.ones_like(left_out[:, :1]), left_out[:, 1:]], 1)
    target = scores.gather(1, item[:, None])
    others = ~left_out.scatter(1, item[:, None], True)
    above = (others & ~(scores <= target)).sum(1)  # NaN is above: a network that diverged ranks nothing first
    level = (others & (scores == target)).sum(1)
    rank = torch.where(item == UNKNOWN, scores.shape[1], 1 + above + level / 2)
    listed = scores.masked_fill(left_out, NEVER).topk(k, 1).indices
    known = (own != UNKNOWN).sum(1)
    popularity = counts[listed].float().mean(1)
    return torch.cat([torch.stack([rank, known, popularity, user], 1).float(), listed.float()], 1)


def histories(rows: Tensor, users: int, items: int) -> tuple[Tensor, Tensor]:
    """Return each user's items in the order of time, int32 ``(users, longest)``, the latest last, and each item's rows.

    Args:
        rows: training rows (rows, columns) int64.
        users: number of them, and one for the unknown.
        items: likewise.

    Raises:
        UserError: they do not fit into memory.
    """
    order = torch.argsort(rows[:, ORDER], stable=True)
    order = order[torch.argsort(rows[order, USER], stable=True)]
    user, item = rows[order, USER], rows[order, ITEM]
    lengths = torch.bincount(user, minlength=users)
    longest = int(lengths.max())
    needed, free = 4 * users * longest, memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{users - 1:,} users with up to {longest:,} training rows each take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free: take fewer users, or fewer rows of the most active ones."
        )
    column = torch.arange(len(user), device=user.device) - lengths.cumsum(0)[user] + longest
    made = torch.zeros(users, longest, dtype=torch.int32, device=user.device)
    made[user, column] = item.int()
    return made, torch.bincount(item, minlength=items).int()


def recency_weights(before: Tensor, counted: Tensor, recency: float) -> Tensor:
    """Return the weight of each item before, by its place from the end: that to the power of minus `recency`.

    Args:
        before: places (batch, items), the latest last.
        counted: which of them count, likewise; others have weight 0.
        recency: 0 gives all the same weight.
    """
    back = counted.flip(1).cumsum(1).flip(1)  # from 1 for the latest
    return torch.where(counted, back.clamp(min=1).float() ** -recency, 0.0)


class RankingFactors(Ranker):
    """A vector for each user, and one for each item: with ``loss=bpr`` matrix factorization by BPR (Rendle et al. 2009,
    https://arxiv.org/abs/1205.2618).

    Args:
        input_shape: of a row.
        outputs: see `Ranker`, like the next four.
        users: see there.
        items: see there.
        seen: see there.
        k: see there.
        width: of a vector.
        dropout: share of a vector's entries dropped in training.
        spread: standard deviation of the first vectors.

    Raises:
        UserError: a size is below 1.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        users: int,
        items: int,
        seen: int,
        k: int,
        width: int = 64,
        dropout: float = 0.3,
        spread: float = 0.1,
    ) -> None:
        super().__init__(outputs, users, items, seen, k)
        positive("width", width)
        self.users, self.items = (_vectors(count, width, spread) for count in (users, items))
        self.drop = Dropout(dropout)

    def user_vectors(self, rows: Tensor, own: Tensor) -> Tensor:
        """Return the users' own vectors."""
        made: Tensor = self.drop(self.users(rows[:, USER]))
        return made

    def item_vectors(self, places: Tensor) -> Tensor:
        """Return the items' own vectors."""
        made: Tensor = self.items(places)
        return made


class TwoTowers(Ranker):
    """A tower for users, which sees the items that they had before, and one for items.

    A user's vector is the sum of the vectors of the latest items before, each weighted by its place from the end to the
    power of minus `recency`, over the norm of the weights; in training the latest before the row's own item, so that a
    row never sees what came after it. The towers have separate vectors for the same items.

    Args:
        input_shape: of a row.
        outputs: see `Ranker`, like the next four.
        users: see there.
        items: see there.
        seen: see there.
        k: see there.
        width: of a vector.
        window: how many of the latest items are seen.
        recency: how much more the latest counts.
        hidden: units of each hidden layer of the tower of users.
        dropout: share of units, and of a vector's entries, dropped in training.
        item_dropout: share of items before left out in training.
        activation: of the hidden layers.
        spread: standard deviation of the first vectors.

    Raises:
        UserError: a size is below 1.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        users: int,
        items: int,
        seen: int,
        k: int,
        width: int = 64,
        window: int = 50,
        recency: float = 0.5,
        hidden: Sequence[int] = (),
        dropout: float = 0.3,
        item_dropout: float = 0.3,
        activation: Activation = "relu",
        spread: float = 0.1,
    ) -> None:
        super().__init__(outputs, users, items, seen, k)
        positive("width", width)
        positive("window", window)
        positive("hidden", *hidden)
        self.window, self.recency = window, recency
        self.before, self.items = (_vectors(items, width, spread) for _ in range(2))
        self.hidden = _dense(width, hidden, activation, dropout)
        self.last = nn.Linear(hidden[-1], width) if hidden else nn.Identity()
        self.drop, self.drop_items = Dropout(dropout), Dropout(item_dropout)

    def user_vectors(self, rows: Tensor, own: Tensor) -> Tensor:
        """Return vectors of what the users had before."""
        item = rows[:, ITEM : ITEM + 1]
        before = torch.cat([own, rows[:, FIRST : FIRST + self.seen]], 1)
        reached = ((before == item) & (item != UNKNOWN)).cumsum(1).bool()  # the row's item, and all after it
        counted = (before != UNKNOWN) & ~reached
        weight = recency_weights(before, counted, self.recency)
        weight, chosen = weight.topk(min(before.shape[1], self.window), 1)
        weight = self.drop_items(weight)
        made = torch.einsum("bl,blw->bw", weight, self.before(before.gather(1, chosen)))
        made = made / weight.square().sum(1, keepdim=True).sqrt().clamp(min=1e-3)
        found: Tensor = self.last(self.hidden(self.drop(made)))
        return found

    def item_vectors(self, places: Tensor) -> Tensor:
        """Return the items' own vectors."""
        made: Tensor = self.items(places)
        return made
