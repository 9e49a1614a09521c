"""The columns of a prepared row: numbers, binary columns, and category codes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hypermap.core.typing import Array, Rows

if TYPE_CHECKING:  # preprocessing and composing do not need torch
    from torch import Tensor


@dataclass(frozen=True)
class ColumnLayout:
    """The columns of a prepared row, in this order: `numbers`, `binary` ones, then a code for each categorical column.

    A code is from 1 to the column's entry in `cardinalities`, or 0 for a category that is not in the training rows. If
    rare categories are grouped, they share the last code, which unseen categories get too.
    """

    numbers: int
    binary: int = 0  # 0 or 1, not scaled: indicators of missing numbers, or one-hot categories
    cardinalities: tuple[int, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "ColumnLayout":
        """Return the layout of an entry from `as_entry`."""
        return cls(entry["numbers"], entry["binary"], tuple(entry["cardinalities"]))

    def as_entry(self) -> dict[str, Any]:
        """Return the layout as a JSON entry."""
        return {**asdict(self), "cardinalities": list(self.cardinalities)}

    @property
    def width(self) -> int:
        """Number of columns of a row."""
        return self.numbers + self.binary + len(self.cardinalities)

    @property
    def plain(self) -> int:
        """Number of columns that are not codes; they come first."""
        return self.numbers + self.binary

    @property
    def one_hot(self) -> "ColumnLayout":
        """The layout after `to_one_hot`."""
        return ColumnLayout(self.numbers, self.binary + sum(self.cardinalities))

    def to_one_hot(self, rows: Rows) -> Rows:
        """Return rows with one-hot codes, ``(rows, width)`` to ``(rows, one_hot.width)`` float32; a code of 0: zeros.

        The columns are those of scikit-learn's OneHotEncoder with ``handle_unknown="infrequent_if_exist"``.
        """
        return self._spread(rows) if isinstance(rows, np.ndarray) else self._spread_in_torch(rows)

    def _spread(self, rows: Array) -> Array:
        columns = [rows[:, [self.plain + k]] == np.arange(1, size + 1) for k, size in enumerate(self.cardinalities)]
        encoded = np.empty((len(rows), self.one_hot.width), np.float32)
        return np.concatenate([rows[:, : self.plain], *columns], 1, out=encoded)

    def _spread_in_torch(self, rows: "Tensor") -> "Tensor":
        import torch
        from torch.nn.functional import one_hot

        # Not by unbind: torch.export cannot load that of no columns.
        codes = [rows[:, self.plain + k].long() for k in range(len(self.cardinalities))]
        spread = [one_hot(code, size + 1)[:, 1:].float() for code, size in zip(codes, self.cardinalities, strict=True)]
        return torch.cat([rows[:, : self.plain].float(), *spread], 1)

    def to_ordinal(self, rows: Rows) -> Rows:
        """Return the same rows with each code divided by its column's number of codes, 0 to 1."""
        sizes = [1.0] * self.plain + list(self.cardinalities)
        if isinstance(rows, np.ndarray):
            return rows / np.array(sizes, np.float32)
        import torch

        return rows / torch.tensor(sizes, device=rows.device)
