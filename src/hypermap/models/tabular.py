"""Networks for tables: embedded columns, followed by dense layers or residual blocks.

Numbers: the periodic embedding of Holzmüller, Grinsztajn and Steinwart, "Better by Default", NeurIPS 2024
(https://arxiv.org/abs/2407.04491, RealMLP's PBLD), after Gorishniy, Rubachev and Babenko, "On Embeddings for
Numerical Features", NeurIPS 2022 (https://arxiv.org/abs/2203.05556). It lets a small network learn non-smooth
functions of one number, at which plain networks are poor and trees are good.
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
    """Several MLPs on embedded columns that share their weight matrices; the prediction is the mean of their outputs.

    In a dense layer, each member has only its own factor for every input and output, and its own biases. In training,
    the rows of a batch are assigned to the members in turn, so that they cost no more than one and become different; in
    evaluation every member sees every row. Activation and dropout follow each hidden layer.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None if all are numbers.
        hidden: widths of the dense layers except the last.
        members: how many; 1 makes it a plain MLP.
        activation: see `hypermap.models.layers.activation`.
        dropout: share of hidden units dropped in training.
        category_width: embedding width of a category.
        number_width: embedding width of a number, itself included; 1 leaves numbers unchanged.
        frequencies: number of cosines that the embedding of a number is computed from.
        frequency_scale: standard deviation of the initial frequencies, in periods per unit of a prepared number. Higher
            ones learn rougher functions.

    Raises:
        UserError: the inputs are not a table, a size is below 1, or the dropout is outside [0, 1).
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
        self.row_multiple = members  # where a batch may be split: each row's member depends on its place

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) float to (batch, outputs) logits or values."""
        features, members = self.embedding(rows), self.members
        if not self.training:
            return self._members(features.unsqueeze(1).expand(-1, members, -1)).mean(1)
        whole = F.pad(features, (0, 0, 0, -len(rows) % members))  # so that every member has equally many rows
        return self._members(whole.unflatten(0, (-1, members))).flatten(0, 1)[: len(rows)]

    def _members(self, features: Tensor) -> Tensor:
        """Return the outputs of each member for its rows: (rows, members, width) to (rows, members, outputs)."""
        for layer in self.hidden:
            features = self.dropout(self.activation(layer(features)))
        outputs: Tensor = self.output(features)
        return outputs


class SharedLinear(nn.Module):
    """``((x * before) W) * after + bias`` with one matrix W for all members and vectors for each.

    All factors start as 1, except with `signs`: then those before W start as random signs, so that the members differ.
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
        """Map (rows, members, fan_in) to (rows, members, fan_out)."""
        shared: Tensor = self.shared(features * self.before)
        return shared * self.after + self.bias


class TabularResNet(nn.Module):
    """Embedded columns, a dense layer to `width`, residual blocks, batch norm, ReLU and a dense layer.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None if all are numbers.
        width: of the residual stream.
        blocks: how many.
        expansion: a block's inner width, as a multiple of `width`.
        dropout: share of a block's inner units dropped in training.
        category_width: see `TabularMLP`, also for the following ones.
        number_width: see there.
        frequencies: see there.
        frequency_scale: see there.

    Raises:
        UserError: the inputs are not a table, a size is below 1, or the dropout is outside [0, 1).
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
        """Map (batch, columns) float to (batch, outputs) logits or values."""
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
        """Map (batch, width) to the same shape."""
        added: Tensor = features + self.residual(features)
        return added


class Embedding(nn.Module):
    """Concatenates a row's columns: embedded numbers, unchanged binary columns, and looked-up categories.

    A category that is not in the training rows is a vector of zeros throughout training.
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
        """Map (batch, columns) float to (batch, width)."""
        layout = self.layout
        parts = [self.numbers(rows[:, : layout.numbers]), rows[:, layout.numbers : layout.plain]]
        if self.categories is not None:
            parts.append(self.categories(rows[:, layout.plain :].long()))
        return torch.cat(parts, 1)


class PeriodicEmbedding(nn.Module):
    """Each number x becomes x and a linear map of ``cos(2 pi (f x + phase))``, with learned parameters per column.

    RealMLP's PBLD: frequencies f start normal with standard deviation `scale`, phases uniform over a period. The
    parameters are stored divided by `rate`, so that Adam trains them at its learning rate times that.
    """

    def __init__(self, columns: int, width: int, frequencies: int, scale: float, rate: float = 1.0) -> None:
        super().__init__()
        positive("number_width", width)
        positive("frequencies", frequencies)
        self.rate = rate
        self.frequency = nn.Parameter(torch.randn(columns, 1, frequencies) * scale / rate)
        self.phase = nn.Parameter(torch.rand(columns, 1, frequencies) / rate)
        bound = 1 / math.sqrt(frequencies) / rate
        self.weight = nn.Parameter(torch.empty(columns, frequencies, width - 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, 1, width - 1).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """Map (batch, columns) to (batch, columns x width)."""
        by_column = numbers.T.unsqueeze(2)  # (columns, batch, 1): one matrix product for each column
        waves = torch.cos(2 * math.pi * self.rate * (by_column * self.frequency + self.phase))
        embedded = torch.cat([by_column, torch.baddbmm(self.bias, waves, self.weight) * self.rate], 2)
        return embedded.transpose(0, 1).flatten(1)


class CategoryEmbedding(nn.Module):
    """A learned vector for each category of each column; one table holds all, and its row 0 stays zero for code 0."""

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        *offsets, total = accumulate(cardinalities, initial=0)
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.table = nn.Parameter(torch.randn(total + 1, width))
        with torch.no_grad():
            self.table[0] = 0

    def forward(self, codes: Tensor) -> Tensor:
        """Map (batch, columns) int64, 0 for a category not in the training rows, to (batch, columns x width)."""
        known = codes > 0
        rows = torch.where(known, codes + self.offsets, 0)
        # Not by padding_idx, whose gradient torch.func.vmap (2.13) masks only for the first member.
        return (F.embedding(rows, self.table) * known.unsqueeze(2)).flatten(1)


def table_layout(model: str, input_shape: tuple[int, ...], layout: ColumnLayout | None) -> ColumnLayout:
    """Return the layout, or that of a plain table, in which all columns are numbers.

    Raises:
        UserError: the inputs are not a table.
    """
    if len(input_shape) != 1:
        raise UserError(
            f"model is {model}, which needs a table's rows of shape (columns,); the data's inputs have shape "
            f"{tuple(input_shape)}: use model=cnn, model=resnet or model=mlp"
        )
    return layout or ColumnLayout(input_shape[0])
