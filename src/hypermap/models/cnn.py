"""A plain convolutional network: by default the one of the articles (see the README's experiments)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.models.layers import (
    Activation,
    Dropout,
    Initialization,
    activation,
    image_shape,
    initialize,
    positive,
)

Padding = Literal["auto", "valid", "same"]


class CNN(nn.Module):
    """Convolutions, each with its activation and all but the last with a 2x2 max-pool; then dense layers.

    `padding` is ``valid`` (none), ``same`` (the convolutions keep the size) or ``auto``: valid if the images are large
    enough for it, else same. `dropout` follows each hidden dense layer. `initialization` applies to the first
    convolution and the hidden dense layers, where the articles vary it; the other convolutions and the output layer are
    Glorot uniform.

    Raises:
        UserError: the inputs are not images or too small, `channels` is empty, a size is below 1, or the dropout is
            outside [0, 1).
        ValueError: an unknown activation, initialization or padding.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        channels: Sequence[int] = (32, 64, 64),
        kernel_size: int = 3,
        dense: Sequence[int] = (64,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        initialization: Initialization = "glorot_uniform",
        padding: Padding = "valid",
    ) -> None:
        super().__init__()
        features, height, width = image_shape("cnn", input_shape)
        _check(channels, kernel_size, dense, padding)
        depth = len(channels)
        if padding == "auto":
            padding = "valid" if min(height, width) >= _least_side(depth, kernel_size, "valid") else "same"
        height, width = (_remaining(side, depth, kernel_size, padding) for side in (height, width))
        if min(height, width) < 1:
            least = _least_side(depth, kernel_size, padding)
            raise UserError(
                f"model is cnn with {depth} convolutions, kernel_size={kernel_size} and padding={padding}, "
                f"which needs images of at least {least}x{least}; these are "
                f"{input_shape[1]}x{input_shape[2]}: use fewer channels, a smaller kernel_size or padding=same"
            )
        self.convolutions = _convolutions([features, *channels], kernel_size, activation, initialization, padding)
        widths = [channels[-1] * height * width, *dense]
        self.dense = _dense(widths, activation, dropout, initialization)
        self.output = initialize(nn.Linear(widths[-1], outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) float to (batch, outputs) logits or values."""
        logits: Tensor = self.output(self.dense(self.convolutions(inputs).flatten(1)))
        return logits


def _check(channels: Sequence[int], kernel_size: int, dense: Sequence[int], padding: Padding) -> None:
    if not channels:
        raise UserError("channels is empty; a cnn needs at least one convolution: use model=mlp for none")
    positive("channels", *channels)
    positive("kernel_size", kernel_size)
    positive("dense", *dense, 1)
    if padding not in get_args(Padding):
        raise ValueError(f"padding is {padding!r}; allowed: {', '.join(get_args(Padding))}")


def _remaining(side: int, depth: int, kernel_size: int, padding: Padding) -> int:
    """Return the side length in pixels after `depth` convolutions and the pools between them; below 1 for none."""
    lost = kernel_size - 1 if padding == "valid" else 0
    for _ in range(depth - 1):
        side = (side - lost) // 2
    return side - lost


def _least_side(depth: int, kernel_size: int, padding: Padding) -> int:
    """Return the smallest side length that leaves one pixel: the inverse of `_remaining`."""
    lost = kernel_size - 1 if padding == "valid" else 0
    side = 1 + lost
    for _ in range(depth - 1):
        side = 2 * side + lost
    return side


def _convolutions(
    channels: list[int], kernel_size: int, name: Activation, initialization: Initialization, padding: Padding
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(channels)):
        if index > 0:
            layers.append(nn.MaxPool2d(2))
        convolution = nn.Conv2d(before, after, kernel_size, padding=padding)
        layers.append(initialize(convolution, initialization if index == 0 else "glorot_uniform"))
        layers.append(activation(name))
    return nn.Sequential(*layers)


def _dense(widths: list[int], name: Activation, dropout: float, initialization: Initialization) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [initialize(nn.Linear(fan_in, fan_out), initialization), activation(name)]
        if dropout != 0:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers)
