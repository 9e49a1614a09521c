"""Networks for tables: the columns are embedded, then come dense layers or residual blocks.

Numbers: the periodic embedding of Holzmüller, Grinsztajn and Steinwart, "Better by Default", NeurIPS 2024
(https://arxiv.org/abs/2407.04491, RealMLP's PBLD), after Gorishniy, Rubachev and Babenko, "On Embeddings for
Numerical Features", NeurIPS 2022 (https://arxiv.org/abs/2203.05556). It lets a small network learn functions of one
number that are not smooth, at which a plain one is poor and trees are good.
Residual blocks: Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", NeurIPS 2021
(https://arxiv.org/abs/2106.11959), figure 2.
Members: Wen, Tran and Ba, "BatchEnsemble", ICLR 2020 (https://arxiv.org/abs/2002.06715), on which Gorishniy,
Kotelnikov and Babenko build "TabM", ICLR 2025 (https://arxiv.org/abs/2410.24210); theirs give every row to each member.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.layout import ColumnLayout
from hypermap.models.layers import Activation, Dropout, Initialization, initialize, positive
from hypermap.models.layers import activation as make_activation


class TabularMLP(nn.Module):
    """Several perceptrons on embedded columns that share their weight matrices; the outputs' mean is the answer.

    A dense layer is each member's own only in a factor for every input and output, and in its biases. In training a
    row of a batch is one member's, in turn, so that they cost no more than one and come to differ; otherwise every
    member sees every row. Activation and dropout come after each hidden layer.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None where all are numbers.
        hidden: widths of the dense layers but the last.
        members: how many; 1 makes it a plain perceptron.
        activation: see `hypermap.models.layers.activation`.
        dropout: share of hidden units silenced in training.
        category_width: numbers that stand for a category.
        number_width: numbers that stand for a number, itself among them; 1 leaves numbers as they are.
        frequencies: cosines of a number from which the rest is made.
        frequency_scale: deviation of the frequencies' first values, in periods per unit of a prepared number. Higher
            ones learn rougher functions.

    Raises:
        UserError: the inputs are no table, a size is below 1, or the dropout lies outside [0, 1).
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        layout: ColumnLayout | None = None,
        hidden: Sequence[int] = (256, 256),
        members: int = 4,
        activation: Activation = "silu",
        dropout: float = 0.1,
        category_width: int = 8,
        number_width: int = 8,
        frequencies: int = 16,
        frequency_scale: float = 1.0,
    ) -> None:
        super().__init__()
        layout = table_layout("tabular_mlp", input_shape, layout)
        positive("hidden", *hidden, 1)
        positive("members", members)
        self.embedding = Embedding(layout, category_width, number_width, frequencies, frequency_scale)
        widths = [self.embedding.width, *hidden]
        self.hidden = nn.ModuleList(
            SharedLinear(*sizes, members, "he_uniform", signs=layer == 0)
            for layer, sizes in enumerate(pairwise(widths))
        )
        self.output = SharedLinear(widths[-1], outputs, members, "glorot_uniform", signs=not hidden)
        self.activation, self.dropout, self.members = make_activation(activation), Dropout(dropout), members

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, columns) float to (batch, outputs) logits or values."""
        features, members = self.embedding(rows), self.members
        if not self.training:
            return self._members(features.unsqueeze(1).expand(-1, members, -1)).mean(1)
        whole = F.pad(features, (0, 0, 0, -len(rows) % members))  # so that every member has as many rows
        return self._members(whole.unflatten(0, (-1, members))).flatten(0, 1)[: len(rows)]

    def _members(self, features: Tensor) -> Tensor:
        """Return what each member makes of its own rows: (rows, members, width) to (rows, members, outputs)."""
        for layer in self.hidden:
            features = self.dropout(self.activation(layer(features)))
        outputs: Tensor = self.output(features)
        return outputs


class SharedLinear(nn.Module):
    """``((x * before) W) * after + bias`` with one matrix W for all members and vectors for each.

    All factors start as 1, but for `signs`: those before W as random signs, by which the members differ from the first.
    """

    def __init__(
        self, fan_in: int, fan_out: int, members: int, initialization: Initialization, signs: bool = False
    ) -> None:
        super().__init__()
        self.shared = initialize(nn.Linear(fan_in, fan_out, bias=False), initialization)
        before = torch.randint(0, 2, (members, fan_in)) * 2.0 - 1 if signs else torch.ones(members, fan_in)
        self.before = nn.Parameter(before)
        self.after = nn.Parameter(torch.ones(members, fan_out))
        self.bias = nn.Parameter(torch.zeros(members, fan_out))

    def forward(self, features: Tensor) -> Tensor:
        """(rows, members, fan_in) to (rows, members, fan_out)."""
        shared: Tensor = self.shared(features * self.before)
        return shared * self.after + self.bias


class TabularResNet(nn.Module):
    """Embedded columns, a dense layer to `width`, residual blocks, batch norm, ReLU and a dense layer.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None where all are numbers.
        width: of what the blocks add to.
        blocks: how many.
        expansion: a block's inner width, as a multiple of `width`.
        dropout: share of a block's inner units silenced in training.
        category_width: as of `TabularMLP`, and so are those that follow.
        number_width: see there.
        frequencies: see there.
        frequency_scale: see there.

    Raises:
        UserError: the inputs are no table, a size is below 1, or the dropout lies outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        layout: ColumnLayout | None = None,
        width: int = 128,
        blocks: int = 2,
        expansion: float = 2.0,
        dropout: float = 0.1,
        category_width: int = 8,
        number_width: int = 8,
        frequencies: int = 16,
        frequency_scale: float = 1.0,
    ) -> None:
        super().__init__()
        layout = table_layout("tabular_resnet", input_shape, layout)
        positive("blocks", blocks)
        positive("width", width)
        inner = round(width * expansion)
        positive("width * expansion", inner)
        self.embedding = Embedding(layout, category_width, number_width, frequencies, frequency_scale)
        self.stem = initialize(nn.Linear(self.embedding.width, width), "he_uniform")
        self.blocks = nn.Sequential(*(ResidualBlock(width, inner, dropout) for _ in range(blocks)))
        self.norm = nn.BatchNorm1d(width)
        self.output = initialize(nn.Linear(width, outputs), "glorot_uniform")

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, columns) float to (batch, outputs) logits or values."""
        features = self.blocks(self.stem(self.embedding(rows)))
        logits: Tensor = self.output(torch.relu(self.norm(features)))
        return logits


class ResidualBlock(nn.Module):
    """Batch norm, a dense layer, ReLU, dropout and a dense layer back; added to the input."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm1d(width),
            initialize(nn.Linear(width, inner), "he_uniform"),
            nn.ReLU(),
            Dropout(dropout),
            initialize(nn.Linear(inner, width), "he_uniform"),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width) to the same shape."""
        added: Tensor = features + self.residual(features)
        return added


class Embedding(nn.Module):
    """A row's columns side by side: numbers embedded, binary columns as they are, categories looked up.

    A category that the training rows lack is zeros, from the start to the end of training.
    """

    def __init__(
        self, layout: ColumnLayout, category_width: int, number_width: int, frequencies: int, frequency_scale: float
    ) -> None:
        super().__init__()
        positive("category_width", category_width)
        self.layout = layout
        self.numbers: nn.Module = nn.Identity()
        if number_width != 1 and layout.numbers:
            self.numbers = PeriodicEmbedding(layout.numbers, number_width, frequencies, frequency_scale)
        self.categories = CategoryEmbedding(layout.cardinalities, category_width) if layout.cardinalities else None
        self.width = layout.numbers * number_width + layout.binary + len(layout.cardinalities) * category_width

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, columns) float to (batch, width)."""
        layout = self.layout
        parts = [self.numbers(rows[:, : layout.numbers]), rows[:, layout.numbers : layout.plain]]
        if self.categories is not None:
            parts.append(self.categories(rows[:, layout.plain :].long()))
        return torch.cat(parts, 1)


class PeriodicEmbedding(nn.Module):
    """Each number x becomes x and a linear map of ``cos(2 pi (f x + phase))``, all but x learned for each column.

    RealMLP's PBLD: frequencies f start normal with deviation `scale`, phases uniform over a period.
    """

    def __init__(self, columns: int, width: int, frequencies: int, scale: float) -> None:
        super().__init__()
        positive("number_width", width)
        positive("frequencies", frequencies)
        self.frequency = nn.Parameter(torch.randn(columns, 1, frequencies) * scale)
        self.phase = nn.Parameter(torch.rand(columns, 1, frequencies))
        bound = 1 / math.sqrt(frequencies)
        self.weight = nn.Parameter(torch.empty(columns, frequencies, width - 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, 1, width - 1).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, columns) to (batch, columns x width)."""
        by_column = numbers.T.unsqueeze(2)  # (columns, batch, 1): one matrix product for each column
        waves = torch.cos(2 * math.pi * (by_column * self.frequency + self.phase))
        embedded = torch.cat([by_column, torch.baddbmm(self.bias, waves, self.weight)], 2)
        return embedded.transpose(0, 1).flatten(1)


class CategoryEmbedding(nn.Module):
    """A learned vector for each category of each column; one table holds all, its row 0 stays zero for codes of 0."""

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        *offsets, total = accumulate(cardinalities, initial=0)
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.table = nn.Parameter(torch.randn(total + 1, width))
        with torch.no_grad():
            self.table[0] = 0

    def forward(self, codes: Tensor) -> Tensor:
        """(batch, columns) int64, 0 for a category that the training rows lack, to (batch, columns x width)."""
        known = codes > 0
        rows = torch.where(known, codes + self.offsets, 0)
        # Not by padding_idx, whose gradient torch.func.vmap (2.13) leaves out for the first of the members alone.
        return (F.embedding(rows, self.table) * known.unsqueeze(2)).flatten(1)


def table_layout(model: str, input_shape: tuple[int, ...], layout: ColumnLayout | None) -> ColumnLayout:
    """Return the layout, or that of a plain table, in which all columns are numbers.

    Raises:
        UserError: the inputs are no table.
    """
    if len(input_shape) != 1:
        raise UserError(
            f"model is {model}, which needs a table's rows of shape (columns,); the data's inputs have shape "
            f"{tuple(input_shape)}: use model=cnn, model=resnet or model=mlp"
        )
    return layout or ColumnLayout(input_shape[0])
