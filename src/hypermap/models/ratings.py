"""Networks of users and items: ratings of pairs, and rankings of all items for a user."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.data.preprocessors.ratings import FIRST, ITEM, ORDER, USER
from hypermap.models.layers import Activation, Dropout, activation, positive

UNKNOWN = 0  # the place of a user, an item or a value that no training row has
RANKED_SHARE = 16  # one of so many rows of a batch is ranked in training, for the score
NEVER = -torch.inf
LATEST = 1 << 40  # places in time are below it
SMALLEST = 1e-3


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


class Histories(nn.Module):
    """What users have in the training rows, in the order of time.

    Args:
        users: number of them in the training rows.
        items: likewise.
    """

    keys: Tensor
    taken: Tensor
    bits: Tensor
    counts: Tensor

    def __init__(self, users: int, items: int) -> None:
        super().__init__()
        self.size = items + 1
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))  # user and place in time, sorted
        self.register_buffer("taken", torch.zeros(0, dtype=torch.int64))  # the items in that order
        self.register_buffer("bits", torch.zeros(users + 1, -(-self.size // 8), dtype=torch.uint8))
        self.register_buffer("counts", torch.zeros(self.size, dtype=torch.int32))  # each item's training rows

    def remember(self, rows: Tensor, targets: Tensor) -> None:
        """Keep training rows (rows, columns) int64."""
        self.keys, order = self._keys(rows[:, USER], rows[:, ORDER]).sort()
        self.taken = rows[order, ITEM]
        self.counts = torch.bincount(self.taken, minlength=self.size).int()
        pairs = (rows[:, USER] * self.size + rows[:, ITEM]).unique()
        user, item = pairs // self.size, pairs % self.size
        places = user * self.bits.shape[1] + item // 8
        bits = torch.zeros(self.bits.numel(), dtype=torch.uint8, device=rows.device)
        bits.index_add_(0, places, (1 << item % 8).to(torch.uint8))
        self.bits = bits.view_as(self.bits)

    def _keys(self, user: Tensor, order: Tensor) -> Tensor:
        return user * LATEST + torch.where(order < 0, LATEST - 1, order)

    def ends(self, user: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the users' rows before a place in time begin and end; a negative place is behind all."""
        keys = torch.stack([user * LATEST, self._keys(user, order)])
        first, last = torch.searchsorted(self.keys, keys)
        return first, last

    def latest(self, user: Tensor, order: Tensor, window: int) -> Tensor:
        """Return the latest items before a place in time, (batch, window), the last one last, behind zeros."""
        first, last = self.ends(user, order)
        places = last[:, None] - torch.arange(window, 0, -1, device=user.device)
        taken = F.pad(self.taken, (1, 0))  # so that there is one where nobody has any
        return torch.where(places >= first[:, None], taken[places.clamp(min=-1) + 1], UNKNOWN)

    def known(self, user: Tensor) -> Tensor:
        """Return how many training rows users have, (batch,)."""
        first, last = self.ends(user, torch.full_like(user, -1))
        return last - first

    def have(self, user: Tensor, items: Tensor) -> Tensor:
        """Return which of these items users have, (batch, items)."""
        found = self.bits[user[:, None], items // 8] >> (items % 8).to(torch.uint8) & 1
        return found.bool()

    def have_of_all(self, user: Tensor) -> Tensor:
        """Return which items users have, (batch, 1 + items)."""
        places = torch.arange(8, dtype=torch.uint8, device=user.device)
        found = (self.bits[user][:, :, None] >> places & 1).flatten(1)[:, : self.size]
        return found.bool()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Make room for the rows of a state, whose number is known from there alone."""
        for name in ("keys", "taken"):
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


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

    fixed: Tensor

    def __init__(self, outputs: int, users: int, items: int, seen: int, k: int) -> None:
        super().__init__()
        self.negatives, self.count, self.seen, self.k = outputs - 1, items, seen, k
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("fixed", torch.randint(1, items + 1, (self.negatives,), generator=draw), persistent=False)
        self.histories = Histories(users, items)
        self.bias = _vectors(items, 1, 0.0)
        self.source = Dropout(0.0)  # whose generator draws the negatives

    @abstractmethod
    def user_vectors(self, rows: Tensor) -> Tensor:
        """Return vectors of the users of rows (batch, columns) int64, (batch, width)."""

    @abstractmethod
    def item_vectors(self, places: Tensor) -> Tensor:
        """Return vectors of items (items, width)."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) int64 to scores (batch, outputs) and rankings (batch, 4 + k) behind them."""
        user, item, users, items = rows[:, USER], rows[:, ITEM], self.user_vectors(rows), self.fixed
        if self.training:
            draw = self.source.generator
            items = torch.randint(1, self.count + 1, (self.negatives,), generator=draw, device=rows.device)
        taken = (users * self.item_vectors(item)).sum(1, keepdim=True) + self.bias(item)
        others = users @ self.item_vectors(items).T + self.bias(items).T
        had = self.histories.have(user, items) | (items == item[:, None])
        scores = torch.cat([taken, others.masked_fill(had, NEVER)], 1)
        if not self.training:
            return torch.cat([scores, self.rankings(rows, users)], 1)
        with torch.no_grad():
            few = -(-len(rows) // RANKED_SHARE)
            some = self.rankings(rows[:few], users[:few].detach())
        return torch.cat([scores, F.pad(some, (0, 0, 0, len(rows) - few), value=torch.nan)], 1)

    def rankings(self, rows: Tensor, users: Tensor) -> Tensor:
        """Return rankings (batch, 4 + k), as `hypermap.tasks.ratings.Ranking` has them."""
        every = torch.arange(self.count + 1, device=rows.device)
        scores = users @ self.item_vectors(every).T + self.bias.weight[:, 0]
        return rankings(scores, rows, self.histories, self.seen, self.k)


def rankings(scores: Tensor, rows: Tensor, histories: Histories, seen: int, k: int) -> Tensor:
    """Return rankings (batch, 4 + k), as `hypermap.tasks.ratings.Ranking` has them, float32.

    What the user has in the training rows, or among the `seen` items of the row, is not ranked. An item of equal score
    is half before the row's item, and half behind it.

    Args:
        scores: of all items (batch, 1 + items).
        rows: (batch, columns) int64.
        histories: what users have in the training rows.
        seen: columns of a row with items that the user had after training.
        k: length of a list.
    """
    user, item = rows[:, USER], rows[:, ITEM]
    left_out = histories.have_of_all(user).scatter(1, rows[:, FIRST : FIRST + seen], True)
    left_out = torch.cat([torch.ones_like(left_out[:, :1]), left_out[:, 1:]], 1)
    target = scores.gather(1, item[:, None])
    others = ~left_out.scatter(1, item[:, None], True)
    above = (others & ~(scores <= target)).sum(1)  # NaN is above: a network that diverged ranks nothing first
    level = (others & (scores == target)).sum(1)
    rank = torch.where(item == UNKNOWN, scores.shape[1], 1 + above + level / 2)
    listed = scores.masked_fill(left_out, NEVER).topk(k, 1).indices
    popularity = histories.counts[listed].float().mean(1)
    return torch.cat([torch.stack([rank, histories.known(user), popularity, user], 1).float(), listed.float()], 1)


def recency_weights(before: Tensor, recency: float) -> Tensor:
    """Return the weights of items (batch, items), the latest last: their place from the end to the power of minus
    `recency`; 0 of the unknown.
    """
    counted = before != UNKNOWN
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

    def user_vectors(self, rows: Tensor) -> Tensor:
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
    power of minus `recency`, over the norm of the weights; in training they are those before the row, which never
    sees what came after it. The towers have separate vectors for the same items.

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

    def user_vectors(self, rows: Tensor) -> Tensor:
        """Return vectors of what the users had before."""
        before = self.histories.latest(rows[:, USER], rows[:, ORDER], self.window)
        before = torch.cat([before, rows[:, FIRST : FIRST + self.seen]], 1)
        weight = self.drop_items(recency_weights(before, self.recency))
        made = torch.einsum("bl,blw->bw", weight, self.before(before))
        made = made / weight.square().sum(1, keepdim=True).sqrt().clamp(min=SMALLEST)
        found: Tensor = self.last(self.hidden(self.drop(made)))
        return found

    def item_vectors(self, places: Tensor) -> Tensor:
        """Return the items' own vectors."""
        made: Tensor = self.items(places)
        return made
