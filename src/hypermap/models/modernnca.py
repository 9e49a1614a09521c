"""ModernNCA for tables: a prediction is the mean of the training rows' targets, weighed by how near they are.

Ye, Yin, Zhan and Chao, "Revisiting Nearest Neighbor for Tabular Data: A Deep Tabular Baseline Two Decades Later", ICLR
2025 (https://arxiv.org/abs/2407.03257), after the neighborhood component analysis of Goldberger et al., NIPS 2004.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.layout import ColumnLayout
from hypermap.models.layers import Dropout, positive
from hypermap.models.tabm import ColumnEmbedding, PeriodicLinear
from hypermap.models.tabular import table_layout

SMALLEST = 1e-7
"""The least probability: what is added to the neighbors' shares, whose logarithms are the outputs."""

NEVER = -1e9
"""The nearness of a row to itself in training; finite, so that there are weights even if nothing else is there."""


class ModernNCA(nn.Module):
    """Embeds rows so that near ones have similar targets; the training rows are a part of the network.

    The weights of a row's neighbors are a softmax of minus their Euclidean distances from it. In training, each batch
    is compared with a new sample of the training rows, which makes it faster and better, and never with rows that equal
    it in every column, itself above all. In evaluation, all training rows are compared.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None if all are numbers.
        width: of the embedding of a row.
        blocks: of batch norm, a dense layer, ReLU, dropout and a dense layer, that follow a first dense layer.
        inner: width within a block.
        dropout: share of inner units dropped in training.
        sample: share of the training rows that a batch is compared with.
        category_width: embedding width of a category; None for one-hot columns.
        number_width: embedding width of a number; 1 leaves numbers unchanged.
        frequencies: see `hypermap.models.tabm.TabM`.
        frequency_scale: see there.

    Raises:
        UserError: the inputs are not a table, a size is below 1, or a share is outside its range.
    """

    rows: Tensor
    targets: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        layout: ColumnLayout | None = None,
        width: int = 128,
        blocks: int = 1,
        inner: int = 256,
        dropout: float = 0.1,
        sample: float = 0.3,
        category_width: int | None = None,
        number_width: int = 16,
        frequencies: int = 32,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        layout = table_layout("modernnca", input_shape, layout)
        positive("width", width)
        positive("inner", inner)
        if not 0 < sample <= 1:
            raise UserError(f"model.sample is {sample}; allowed: above 0 and at most 1")
        numbers: nn.Module = nn.Identity()
        if number_width != 1 and layout.numbers:
            numbers = PeriodicLinear(layout.numbers, number_width, frequencies, frequency_scale)
        self.embedding = ColumnEmbedding(layout, category_width, number_width, numbers)
        self.stem = nn.Linear(sum(self.embedding.widths), width)
        self.drop = Dropout(dropout)
        each = (
            nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, inner), nn.ReLU(), self.drop, nn.Linear(inner, width))
            for _ in range(blocks)
        )
        self.blocks = nn.Sequential(*each, nn.BatchNorm1d(width)) if blocks else nn.Sequential()
        self.outputs, self.sample = outputs, sample
        self.register_buffer("rows", torch.empty(0, *input_shape))
        self.register_buffer("targets", torch.empty(0, outputs))

    def remember(self, rows: Tensor, targets: Tensor) -> None:
        """Keep the training rows ``(rows, columns)`` with their encoded targets ``(rows,)``, as a part of the state.

        Raises:
            UserError: the targets are several, or classes with a single output.
        """
        if targets.ndim > 1:
            raise UserError("model is modernnca, which predicts one target; the data has several: use model=tabm")
        if targets.is_floating_point():
            self.targets = targets[:, None]
        elif self.outputs > 1:
            self.targets = F.one_hot(targets, self.outputs).float()
        else:
            raise UserError("model is modernnca, whose outputs are of both classes: use loss=auto")
        self.rows = rows

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) float to (batch, outputs): logarithms of the neighbors' shares, or mean values."""
        candidates, targets = self.rows, self.targets
        if self.training:
            count = max(1, round(self.sample * len(candidates)))
            chosen = torch.randperm(len(candidates), generator=self.drop.generator, device=rows.device)[:count]
            candidates, targets = candidates[chosen], targets[chosen]
        own, others = self._embedded(torch.cat([rows, candidates])).split([len(rows), len(candidates)])
        nearness = -torch.cdist(own, others)
        if self.training:
            nearness = nearness.masked_fill(fingerprints(rows)[:, None] == fingerprints(candidates), NEVER)
        mean = nearness.softmax(1) @ targets
        return mean if self.outputs == 1 else (mean + SMALLEST).log()

    def _embedded(self, rows: Tensor) -> Tensor:
        """Return the embeddings of rows, (rows, width)."""
        embedded: Tensor = self.blocks(self.stem(self.embedding(rows)))
        return embedded

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Make room for the rows of a state, whose number is known from there alone."""
        for name in ("rows", "targets"):
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def fingerprints(rows: Tensor) -> Tensor:
    """Return a number for each row of float32 ``(rows, columns)``, int64 ``(rows,)``; equal rows have equal numbers.

    Others have equal ones with a probability of about 1 in 2^32 at most. Sums of integers do not depend on their order,
    so that a row has the same number in any batch.
    """
    bits = rows.contiguous().view(torch.int32).long()
    draw = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=draw) * 2 + 1  # odd: no bit is lost
    return (bits * factors.to(rows.device)).sum(1)
