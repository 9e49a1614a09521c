"""Dense networks: multinomial logistic (or linear) regression, and the multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from hypermap.models.layers import Activation, Dropout, Initialization, activation, initialize, positive


class Logistic(nn.Module):
    """One dense layer on the flattened input: logistic regression, or linear under squared error."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.output = initialize(nn.Linear(prod(input_shape), outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) float to (batch, outputs) logits or values."""
        logits: Tensor = self.output(self.flatten(inputs))
        return logits


class MLP(nn.Module):
    """Dense layers on the flattened input; after each hidden one batch norm (if any), activation, dropout.

    `hidden` lists the widths from input to output; an empty list gives `Logistic`. `initialization` applies to the
    hidden layers; the output layer, which has no activation, is Glorot uniform.

    Raises:
        UserError: a width below 1, or a dropout outside [0, 1).
        ValueError: an unknown activation or initialization.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        hidden: Sequence[int] = (128,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        initialization: Initialization = "glorot_uniform",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        positive("hidden", *hidden, 1)
        widths = [prod(input_shape), *hidden]
        blocks = [
            _block(fan_in, fan_out, activation, dropout, initialization, batch_norm)
            for fan_in, fan_out in pairwise(widths)
        ]
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(*(layer for block in blocks for layer in block))
        self.output = initialize(nn.Linear(widths[-1], outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) float to (batch, outputs) logits or values."""
        logits: Tensor = self.output(self.hidden(self.flatten(inputs)))
        return logits


def _block(
    fan_in: int,
    fan_out: int,
    name: Activation,
    dropout: float,
    initialization: Initialization,
    batch_norm: bool,
) -> list[nn.Module]:
    """Return a hidden layer and the layers after it; a dropout of 0 adds no layer."""
    norm = [nn.BatchNorm1d(fan_out)] if batch_norm else []
    drop = [Dropout(dropout)] if dropout != 0 else []
    return [initialize(nn.Linear(fan_in, fan_out), initialization), *norm, activation(name), *drop]
