"""Shared parts of the networks: activations, initializations and a dropout that is cheap on a CPU."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu", "selu", "mish"]
Initialization = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "selu": nn.SELU,
    "mish": nn.Mish,
}

_INITIALIZATIONS: dict[Initialization, Callable[[Tensor], Tensor]] = {
    "glorot_uniform": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def activation(name: Activation) -> nn.Module:
    """Return the activation of that name, as torch defines it.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; allowed: {', '.join(get_args(Activation))}")
    return _ACTIVATIONS[name]()


def initialize(layer: Layer, name: Initialization) -> Layer:
    """Return the same layer, with its weight redrawn from torch's global generator and its bias set to zero.

    The variances are Keras's: 2 / (fan_in + fan_out) for Glorot, 2 / fan_in for He. The normal ones are plain normal
    distributions as in torch; Keras truncates them at two standard deviations.

    Raises:
        ValueError: there is no initialization of that name.
    """
    if name not in _INITIALIZATIONS:
        raise ValueError(f"initialization is {name!r}; allowed: {', '.join(get_args(Initialization))}")
    _INITIALIZATIONS[name](layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def image_shape(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the input's (channels, height, width).

    Raises:
        UserError: the inputs are not images.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model is {model}, which needs images of shape (channels, height, width); the data's inputs "
            f"have shape {tuple(input_shape)}: use model=mlp or model=logistic"
        )
    channels, height, width = input_shape
    return channels, height, width


def positive(name: str, *values: int) -> None:
    """Refuse sizes and counts below 1.

    Raises:
        UserError: one of `values` is below 1.
    """
    if any(value < 1 for value in values):
        raise UserError(f"{name} has {min(values)}; allowed: whole numbers of at least 1")


@dataclass(frozen=True)
class RowShare:
    """The rows of a batch that one of several processes computes: those from `first` to before `last`.

    Attributes:
        first: the place of its first row in the batch.
        last: the place after its last row.
        rows: of the whole batch.
        multiple: shares begin at multiples of it: a network may treat so many rows together.
    """

    first: int
    last: int
    rows: int
    multiple: int = 1

    @classmethod
    def of(cls, rows: int, rank: int, processes: int, multiple: int = 1) -> "RowShare":
        """Return the share of the process `rank`; the whole batch for each of them if it is too small to be shared."""
        units = -(-rows // multiple)
        if units < processes:
            return cls(0, rows, rows, multiple)
        first, last = (min(rows, units * place // processes * multiple) for place in (rank, rank + 1))
        return cls(first, last, rows, multiple)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole batch."""
        return len(self) == self.rows

    def __len__(self) -> int:
        return self.last - self.first

    def within(self, entries: int) -> tuple[int, int]:
        """Return where a tensor of so many entries for these rows begins in that of the whole batch, and its length.

        Raises:
            UserError: the entries are not of these rows.
        """
        if self.multiple > 1 and entries == -(-len(self) // self.multiple):
            return self.first // self.multiple, -(-self.rows // self.multiple)
        if entries % len(self):
            raise UserError(
                f"a dropout layer is given {entries} entries for the {len(self)} rows that this process has of a "
                "batch: the first axis of its inputs is not the rows, so take trainer.processes=1."
            )
        times = entries // len(self)
        return self.first * times, self.rows * times


class Dropout(nn.Module):
    """`torch.nn.Dropout` from a quarter of the random draws: about four times cheaper on a CPU.

    One 64-bit draw decides four elements, 16 bits for each. So the probability of keeping an element is a multiple of
    1/65536; kept elements are divided by exactly that probability, so the mean is exactly the input.

    Attributes:
        generator: for the draws, on the inputs' device; None, as in torch, for the device's global one.
        masks: if set, masks drawn in advance to multiply by, one for each call.
        share: if set, the inputs are of these rows of a batch, and get the masks that they have in the whole batch.

    Raises:
        UserError: `rate`, the share of elements set to zero, is outside [0, 1).
    """

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"dropout is {rate}; allowed: from 0 to less than 1")
        self.rate = rate
        self.kept = max(round((1 - rate) * 65536), 1)  # of 65536 elements
        self.generator: torch.Generator | None = None
        self.masks: Iterator[Tensor] | None = None
        self.share: RowShare | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, some of them set to 0 in training, in the same shape and dtype."""
        if not self.training:
            return inputs
        if self.masks is not None:
            return inputs * next(self.masks)
        if self.kept == 65536:
            return inputs
        if torch.compiler.is_compiling():  # the compiler fuses its own draws
            return F.dropout(inputs, self.rate)
        if self.share is not None:
            first, entries = self.share.within(len(inputs))
            whole = inputs.new_empty((entries, *inputs.shape[1:]))
            return inputs * self.draw(whole)[first : first + len(inputs)]
        return inputs * self.draw(torch.empty_like(inputs, requires_grad=False))

    def draw(self, mask: Tensor) -> Tensor:
        """Fill a mask for inputs of its shape: 0, or the inverse of the share kept."""
        if self.kept == 65536:  # nothing is drawn, as in a single training
            return mask.fill_(1)
        if mask.device.type == "cpu":
            torch.lt(_sixteen_bits(mask.shape, self.generator), self.kept - 32768, out=mask)
        else:
            mask.bernoulli_(self.kept / 65536, generator=self.generator)
        return mask.mul_(65536 / self.kept)

    def extra_repr(self) -> str:
        """Return the arguments that ``print(model)`` shows."""
        return f"rate={self.rate}"


def _sixteen_bits(shape: torch.Size, generator: torch.Generator | None = None) -> Tensor:
    """Return independent int16 numbers, uniform over all 65536 values."""
    count = shape.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return draws.view(torch.int16)[:count].view(shape)
