"""What stands where in a prepared row: numbers, yes-or-no columns, and codes of categories."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # preparing and composing need no torch
    from torch import Tensor


@dataclass(frozen=True)
class ColumnLayout:
    """The columns of a prepared row, in this order: `numbers`, then `binary` ones, then a code for each category.

    A code is 1 to the column's entry in `cardinalities`, or 0 for a category that the training rows lack. Where
    rare categories are grouped, they share the last code, and one that the training rows lack has it too.
    """

    numbers: int
    binary: int = 0  # 0 or 1, not scaled: which numbers were missing; or categories spread out
    cardinalities: tuple[int, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "ColumnLayout":
        """Return what `as_entry` made."""
        return cls(entry["numbers"], entry["binary"], tuple(entry["cardinalities"]))

    def as_entry(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "cardinalities": list(self.cardinalities)}

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.numbers + self.binary + len(self.cardinalities)

    @property
    def plain(self) -> int:
        """Columns that are no codes; they come first."""
        return self.numbers + self.binary

    @property
    def one_hot(self) -> "ColumnLayout":
        """The layout after `spread`."""
        return ColumnLayout(self.numbers, self.binary + sum(self.cardinalities))

    def to_one_hot(self, rows: "Tensor") -> "Tensor":
        """Return rows with their codes one-hot: ``(rows, width)`` to ``(rows, one_hot.width)`` float32; a code of 0
        becomes zeros alone.

        The columns are those of scikit-learn's OneHotEncoder with ``handle_unknown="infrequent_if_exist"``.
        """
        import torch
        from torch.nn.functional import one_hot

        codes = zip(rows[:, self.plain :].long().unbind(1), self.cardinalities, strict=True)
        spread = [one_hot(code, size + 1)[:, 1:].float() for code, size in codes]
        return torch.cat([rows[:, : self.plain].float(), *spread], 1)

    def to_ordinal(self, rows: "Tensor") -> "Tensor":
        """Ordinal: the same rows with each code as a share of its column's codes, 0 to 1."""
        import torch

        sizes = torch.tensor([1.0] * self.plain + list(self.cardinalities), device=rows.device)
        return rows / sizes
