"""RealMLP for tables: an MLP whose parts and settings were tuned together on many of them.

Holzmüller, Grinsztajn and Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on Tabular Data",
NeurIPS 2024 (https://arxiv.org/abs/2407.04491), with the settings of RealMLP-TD and the initial weights of its
simplified variant RealMLP-TD-S, which do not depend on the data. The other half of the method are
``data.scaling=robust_clip``, ``scheduler=coslog4`` and the settings of ``experiment=table_realmlp``.

The paper gives some parameters another learning rate than the rest. Adam's step does not depend on the scale of a
gradient, so a parameter that is stored divided by a factor, and multiplied by it when it is used, learns at the rate
times that factor (`RatedParameter`). So it is for every optimizer of that kind, and a training has one learning rate.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hypermap.data.layout import ColumnLayout
from hypermap.models.layers import Activation, Dropout, positive
from hypermap.models.layers import activation as make_activation
from hypermap.models.tabm import ColumnEmbedding
from hypermap.models.tabular import PeriodicEmbedding, table_layout

SCALE_RATE, BIAS_RATE, ACTIVATION_RATE, EMBEDDING_RATE = 6.0, 0.1, 0.1, 0.1
"""The paper's factors of the learning rate."""


class RealMLP(nn.Module):
    """Embedded columns, a factor for each of them, and dense layers with activations that learn how bent they are.

    Args:
        input_shape: ``(columns,)``.
        outputs: logits, or 1 value.
        layout: of the columns; None if all are numbers.
        hidden: widths of the dense layers except the last.
        activation: see `hypermap.models.layers.activation`; in the paper ``selu`` for classes, ``mish`` for numbers.
        dropout: share of hidden units dropped in training.
        category_width: embedding width of a category; None for one-hot columns.
        number_width: embedding width of a number, itself included; 1 leaves numbers unchanged.
        frequencies: number of cosines that the embedding of a number is computed from.
        frequency_scale: standard deviation of the initial frequencies, in periods per unit of a prepared number.

    Raises:
        UserError: the inputs are not a table, a size is below 1, or the dropout is outside [0, 1).
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        layout: ColumnLayout | None = None,
        hidden: Sequence[int] = (256, 256, 256),
        activation: Activation = "mish",
        dropout: float = 0.15,
        category_width: int | None = None,
        number_width: int = 4,
        frequencies: int = 16,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        layout = table_layout("realmlp", input_shape, layout)
        positive("hidden", *hidden, 1)
        numbers: nn.Module = nn.Identity()
        if number_width != 1 and layout.numbers:
            numbers = PeriodicEmbedding(layout.numbers, number_width, frequencies, frequency_scale, EMBEDDING_RATE)
        self.embedding = ColumnEmbedding(layout, category_width, number_width, numbers)
        widths = [sum(self.embedding.widths), *hidden]
        self.scale = RatedParameter(torch.ones(widths[0]), SCALE_RATE)
        self.hidden = nn.ModuleList(TangentLinear(*sizes) for sizes in pairwise(widths))
        self.activations = nn.ModuleList(ParametricActivation(width, activation) for width in hidden)
        self.output = TangentLinear(widths[-1], outputs, zero=True)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch, columns) float to (batch, outputs) logits or values."""
        features = self.embedding(rows) * self.scale()
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            features = self.dropout(activation(layer(features)))
        outputs: Tensor = self.output(features)
        return outputs


class RatedParameter(nn.Module):
    """A parameter that Adam trains at its learning rate times `rate`; calling it gives its value."""

    def __init__(self, value: Tensor, rate: float) -> None:
        super().__init__()
        self.stored, self.rate = nn.Parameter(value / rate), rate

    def forward(self) -> Tensor:
        """Return the value."""
        value: Tensor = self.stored * self.rate
        return value


class TangentLinear(nn.Module):
    """``x W / sqrt(fan_in) + b`` with standard normal W and b: the neural tangent parametrization; or zeros at first.

    Jacot, Gabriel and Hongler, "Neural Tangent Kernel", NeurIPS 2018 (https://arxiv.org/abs/1806.07572).
    """

    def __init__(self, fan_in: int, fan_out: int, zero: bool = False) -> None:
        super().__init__()
        draw = torch.zeros if zero else torch.randn
        self.weight = nn.Parameter(draw(fan_in, fan_out))
        self.bias = RatedParameter(draw(fan_out), BIAS_RATE)
        self.factor = 1 / math.sqrt(fan_in)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, fan_in) to (batch, fan_out)."""
        return torch.addmm(self.bias(), features, self.weight, alpha=self.factor)


class ParametricActivation(nn.Module):
    """``x + a (f(x) - x)`` with a factor a for each unit, at first 1: between the identity and the activation f."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.activation, self.bend = make_activation(activation), RatedParameter(torch.ones(width), ACTIVATION_RATE)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, width) to the same shape."""
        return torch.lerp(features, self.activation(features), self.bend())
