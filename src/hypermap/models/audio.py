"""Networks for recordings: spectrograms ``(batch, 1, bands, frames)``, or waveforms ``(batch, 1, samples)``.

All take the largest value and the mean along time, so that it does not matter where in a recording a sound is.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout, initialize, positive


class AudioCNN(nn.Module):
    """Convolutions over a spectrogram, each with batch norm and ReLU, and one linear layer.

    After Kong et al. 2020 (https://arxiv.org/abs/1912.10211), with a first convolution in strides of 2 and 2x2
    max-pooling behind the others, which takes a fraction of the time.

    Args:
        input_shape: ``(1, bands, frames)``.
        outputs: width of the output.
        channels: one convolution each, all of which halve the bands and the frames.
        dropout: of what the linear layer is given.

    Raises:
        UserError: the inputs are not spectrograms, a size is below 1, or the dropout is outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        channels: Sequence[int] = (16, 32, 64, 96),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        positive("channels", *channels, *([0] if not channels else []))
        _check_spectrogram("audio_cnn", input_shape)
        layers = _convolution(1, channels[0], size=5, stride=2)
        for before, after in pairwise(channels):
            layers += _convolution(before, after, pool=(2, 2))
        self.stages = nn.Sequential(*layers)
        self.dropout = Dropout(dropout)
        self.output = initialize(nn.Linear(2 * channels[-1], outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, 1, bands, frames)`` to logits or values ``(batch, outputs)``."""
        along_time = self.stages(_channels_last(inputs)).mean(2)
        logits: Tensor = self.output(self.dropout(_over_time(along_time)))
        return logits


class AudioCRNN(nn.Module):
    """Convolutions over a spectrogram that pool its bands, and a GRU in both directions along time.

    Cakir et al. 2017, https://arxiv.org/abs/1702.06286.

    Args:
        input_shape: ``(1, bands, frames)``.
        outputs: width of the output.
        channels: one convolution each, all of which halve the bands; the first halves the frames, too.
        units: of each direction.
        dropout: of what the GRU and the linear layer are given.

    Raises:
        UserError: the inputs are not spectrograms, a size is below 1, or the dropout is outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        channels: Sequence[int] = (16, 32, 48),
        units: int = 48,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        positive("channels", *channels, *([0] if not channels else []))
        positive("units", units)
        bands = _check_spectrogram("audio_crnn", input_shape)
        layers = _convolution(1, channels[0], size=5, stride=2)
        for before, after in pairwise(channels):
            layers += _convolution(before, after, pool=(2, 1))
        self.stages = nn.Sequential(*layers)
        self.dropout = Dropout(dropout)
        width = channels[-1] * -(-bands // 2 ** len(channels))
        self.recurrent = nn.GRU(width, units, batch_first=True, bidirectional=True)
        self.output = initialize(nn.Linear(4 * units, outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, 1, bands, frames)`` to logits or values ``(batch, outputs)``."""
        steps = self.stages(_channels_last(inputs)).flatten(1, 2).transpose(1, 2)  # (batch, frames, channels * bands)
        values, _ = self.recurrent(self.dropout(steps))
        logits: Tensor = self.output(self.dropout(_over_time(values.transpose(1, 2))))
        return logits


class AudioWave(nn.Module):
    """Convolutions over a waveform, each with batch norm, ReLU and max-pooling by 4, and one linear layer.

    Dai et al. 2017 (https://arxiv.org/abs/1610.00087): the first sees some milliseconds, as a
    window of a spectrogram does.

    Args:
        input_shape: ``(1, samples)``.
        outputs: width of the output.
        channels: one convolution each.
        first_kernel: samples that the first one sees at once.
        first_stride: samples between the places where it does.
        dropout: of what the linear layer is given.

    Raises:
        UserError: the inputs are not waveforms, a size is below 1, or the dropout is outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        channels: Sequence[int] = (32, 64, 96, 128),
        first_kernel: int = 80,
        first_stride: int = 8,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        positive("channels", *channels, *([0] if not channels else []))
        positive("first_kernel", first_kernel, first_stride)
        if len(input_shape) != 2:
            raise UserError("model=audio_wave takes waveforms: data.features=waveform. For spectrograms: audio_cnn.")
        sizes = [(first_kernel, first_stride), *[(3, 1)] * (len(channels) - 1)]
        self.stages = nn.Sequential(
            *(
                layer
                for (before, after), (kernel, stride) in zip(pairwise([1, *channels]), sizes, strict=True)
                for layer in (
                    nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, bias=False),
                    nn.BatchNorm1d(after),
                    nn.ReLU(),
                    nn.MaxPool1d(4, ceil_mode=True),
                )
            )
        )
        self.dropout = Dropout(dropout)
        self.output = initialize(nn.Linear(2 * channels[-1], outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, 1, samples)`` to logits or values ``(batch, outputs)``."""
        logits: Tensor = self.output(self.dropout(_over_time(self.stages(inputs))))
        return logits


def _over_time(values: Tensor) -> Tensor:
    """Return largest value and mean of each channel, ``(batch, 2 * channels)``, of ``(batch, channels, time)``."""
    return torch.cat([values.amax(2), values.mean(2)], 1)


def _channels_last(inputs: Tensor) -> Tensor:
    """Return ``(batch, 1, bands, frames)`` as they are, with strides that let convolutions keep channels last.

    On a CPU, that takes two thirds of the time of a step.
    """
    return inputs.squeeze(1).unsqueeze(-1).movedim(-1, 1)


def _convolution(
    before: int, after: int, size: int = 3, stride: int = 1, pool: tuple[int, int] | None = None
) -> list[nn.Module]:
    """Return a convolution that keeps the shape (apart from its stride), with batch norm, max-pooling and ReLU.

    The largest value's ReLU is the largest ReLU, and of fewer values.
    """
    convolution = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    pooling = [] if pool is None else [nn.MaxPool2d(pool, ceil_mode=True)]
    return [initialize(convolution, "he_normal"), nn.BatchNorm2d(after), *pooling, nn.ReLU()]


def _check_spectrogram(model: Literal["audio_cnn", "audio_crnn"], input_shape: tuple[int, ...]) -> int:
    """Return the number of bands.

    Raises:
        UserError: the inputs are not spectrograms.
    """
    if len(input_shape) != 3 or input_shape[0] != 1:
        raise UserError(
            f"model={model} takes spectrograms (1, bands, frames); the data's inputs have shape {tuple(input_shape)}: "
            "of recordings, data.features=spectrogram gives them; for waveforms take model=audio_wave."
        )
    return input_shape[1]
