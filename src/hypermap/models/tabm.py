"""TabM for tables: several MLPs in one network that share all but how each scales its inputs, and its output layer.

Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling", ICLR
2025 (https://arxiv.org/abs/2410.24210), the variant TabM-mini. Numbers are embedded by PLR(lite) of Gorishniy, Rubachev
and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022
(https://arxiv.org/abs/2203.05556).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hypermap.data.layout import ColumnLayout
from hypermap.models.layers import Activation, Dropout, positive
from hypermap.models.layers import activation as make_activation
from hypermap.models.tabular import CategoryEmbedding, table_layout

SLOWEST = 0.01
"""The deviation of the lowest initial frequencies, as a share of that of the highest."""


class TabM(nn.Module):
    """TabM-mini: members that share their hidden layers; each scales the embedded columns and has its own output layer.

    Every member learns from every row, and the loss is the mean of theirs, so that each is good by itself; the
    prediction is the mean of their probabilities or values (`hypermap.tasks.losses.MeanOfMembers`).

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None if all are numbers.
        hidden: widths of the shared dense layers, each followed by activation and dropout.
        members: how many.
        activation: see `hypermap.models.layers.activation`.
        dropout: share of hidden units dropped in training.
        category_width: embedding width of a category; None for one-hot columns.
        number_width: embedding width of a number, itself included; 1 leaves numbers unchanged.
        frequencies: number of sines, and of cosines, that the embedding of a number is computed from.
        frequency_scale: standard deviation of the highest initial frequencies, in periods per unit of a prepared number
            (the papers' sigma); the lowest are a hundredth. Higher ones learn rougher functions.

    Raises:
        UserError: the inputs are not a table, a size is below 1, or the dropout is outside [0, 1).
        ValueError: an unknown activation.
    """

    of_members = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        layout: ColumnLayout | None = None,
        hidden: Sequence[int] = (192, 192),
        members: int = 8,
        activation: Activation = "relu",
        dropout: float = 0.15,
        category_width: int | None = None,
        number_width: int = 16,
        frequencies: int = 32,
        frequency_scale: float = 20.0,
    ) -> None:
        super().__init__()
        layout = table_layout("tabm", input_shape, layout)
        positive("hidden", *hidden, 1)
        positive("members", members)
        numbers: nn.Module = nn.Identity()
        if number_width != 1 and layout.numbers:
            numbers = PeriodicLinear(layout.numbers, number_width, frequencies, frequency_scale)
        self.embedding = ColumnEmbedding(layout, category_width, number_width, numbers)
        self.scale = MemberScale(self.embedding.widths, members)
        widths = [sum(self.embedding.widths), *hidden]
        self.hidden = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        self.output = MemberLinear(widths[-1], outputs, members)
        self.activation, self.dropout = make_activation(activation), Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) float to each member's logits or values, (batch, members, outputs)."""
        features = self.scale(self.embedding(rows))
        batch, members, _ = features.shape
        features = features.flatten(0, 1)  # one matrix product for all members
        for layer in self.hidden:
            features = self.dropout(self.activation(layer(features)))
        outputs: Tensor = self.output(features.unflatten(0, (batch, members)))
        return outputs


class MemberScale(nn.Module):
    """Each member's own factors for its inputs, which at first are normal, and the same for all of a column.

    They are all in which the members differ before their output layers. With plain numbers alone, the factors begin as
    random signs.
    """

    def __init__(self, widths: Sequence[int], members: int) -> None:
        super().__init__()
        factors = torch.randn(members, len(widths))
        if max(widths) == 1:
            factors = factors.sign()
        self.factors = nn.Parameter(factors.repeat_interleave(torch.tensor(widths), 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, width) to (batch, members, width)."""
        return features.unsqueeze(1) * self.factors


class MemberLinear(nn.Module):
    """A dense layer for each member, initialized as torch's own."""

    def __init__(self, fan_in: int, fan_out: int, members: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, fan_out).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, members, fan_in) to (batch, members, fan_out)."""
        return torch.bmm(features.transpose(0, 1), self.weight).transpose(0, 1) + self.bias


class ColumnEmbedding(nn.Module):
    """Concatenates a row's columns: embedded numbers, unchanged binary columns, and categories.

    Args:
        layout: of the columns.
        category_width: embedding width of a category; None for one-hot columns.
        number_width: of what `numbers` makes of each number.
        numbers: maps ``(batch, numbers)`` to ``(batch, numbers * number_width)``.

    Attributes:
        widths: of each column.
    """

    def __init__(self, layout: ColumnLayout, category_width: int | None, number_width: int, numbers: nn.Module) -> None:
        super().__init__()
        self.layout, self.numbers = layout, numbers
        self.categories: nn.Module | None = None
        if category_width is not None:
            positive("category_width", category_width)
            self.categories = CategoryEmbedding(layout.cardinalities, category_width)
        of_categories = layout.cardinalities if category_width is None else [category_width] * len(layout.cardinalities)
        self.widths = [*[number_width] * layout.numbers, *[1] * layout.binary, *of_categories]

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) float to (batch, sum of widths)."""
        layout = self.layout
        if self.categories is None:
            plain = layout.to_one_hot(rows)[:, layout.numbers :]
        else:
            codes = self.categories(rows[:, layout.plain :].long())
            plain = torch.cat([rows[:, layout.numbers : layout.plain], codes], 1)
        return torch.cat([self.numbers(rows[:, : layout.numbers]), plain], 1)


class PeriodicLinear(nn.Module):
    """PLR(lite): sines and cosines of each number, a dense layer that all columns share, and ReLU; and the number.

    The frequencies are parameters of each column, and start normal, cut at three standard deviations. The paper has one
    deviation for all, which must be tuned: what suits a column with a long tail is far too rough for others. Here they
    rise geometrically from `SLOWEST` of `scale` to `scale`, and the number itself stands beside, as in RealMLP's PBLD.
    """

    def __init__(self, columns: int, width: int, frequencies: int, scale: float) -> None:
        super().__init__()
        positive("number_width", width)
        positive("frequencies", frequencies)
        normal = nn.init.trunc_normal_(torch.empty(columns, frequencies), 0.0, 1.0, -3.0, 3.0)
        self.frequency = nn.Parameter(normal * scale * torch.logspace(math.log10(SLOWEST), 0, frequencies))
        self.linear = nn.Linear(2 * frequencies, width - 1)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (batch, columns) to (batch, columns x width)."""
        single = numbers.unsqueeze(2)
        angles = 2 * math.pi * self.frequency * single
        waves = torch.relu(self.linear(torch.cat([angles.cos(), angles.sin()], 2)))
        return torch.cat([single, waves], 2).flatten(1)
