"""The places of ids among those of the training rows, in torch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.ids import NOTHING
from hypermap.core.typing import Array
from hypermap.data.preprocessors.ratings import FIRST, ITEM, ORDER, USER


class Places(nn.Module):
    """Maps ids ``(rows, columns, width)`` to places ``(rows, columns)``, as `RatingsPreprocessor` says.

    Args:
        known: users, items and values of features, each ``(ids, width)`` in their order.
        seen: the number of columns with further items.
    """

    def __init__(self, known: Sequence[Array], seen: int) -> None:
        super().__init__()
        users, items, values = (Lookup(torch.from_numpy(own)) for own in known)
        self.users, self.items, self.values, self.seen = users, items, values, seen

    def forward(self, rows: Tensor) -> Tensor:
        """Return the places."""
        values = FIRST + self.seen
        parts = [
            self.users(rows[:, USER : USER + 1]),
            self.items(rows[:, ITEM : ITEM + 1]),
            rows[:, ORDER : ORDER + 1, 0],
            self.items(rows[:, FIRST:values]),
            self.values(rows[:, values:]),
        ]
        return torch.cat(parts, 1)


class Lookup(nn.Module):
    """The place of an id among others, from 1; 0 if it is not there.

    Ids are looked up by a checksum, which the known ones must have each its own, and then compared.
    """

    ids: Tensor
    factors: Tensor
    keys: Tensor
    places: Tensor

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        known = known if len(known) else torch.full((1, 1), NOTHING)
        draw = torch.Generator().manual_seed(0)
        factors = torch.randint(-(2**62), 2**62, (known.shape[1],), generator=draw) * 2 + 1
        keys, order = (known * factors).sum(1).sort()
        assert (keys.diff() != 0).all(), "two ids have one checksum"
        self.register_buffer("ids", known[order])
        self.register_buffer("factors", factors)
        self.register_buffer("keys", keys)
        self.register_buffer("places", order + 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the places ``(rows, columns)`` of ids ``(rows, columns, width)``, narrower or wider than the known."""
        wide = self.ids.shape[1]
        rows, rest = F.pad(rows, (0, max(0, wide - rows.shape[2])), value=NOTHING).split(
            [wide, max(0, rows.shape[2] - wide)], 2
        )
        found = torch.searchsorted(self.keys, (rows * self.factors).sum(2).contiguous()).clamp(max=len(self.keys) - 1)
        same = (self.ids[found] == rows).all(2) & (rest == NOTHING).all(2) & (rows[:, :, 0] != NOTHING)
        return torch.where(same, self.places[found], 0)
