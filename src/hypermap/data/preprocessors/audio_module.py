"""The preparation of recordings in torch: the same for training and in an exported program."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypermap.data.preprocessors.audio import AudioSettings

FULL = 32768.0  # of int16


class Recordings(nn.Module):
    """Maps samples int16 ``(rows, longest)``, with zeros behind each, to ``(rows, *shape)`` float32.

    Args:
        settings: see `AudioSettings`.
        samples: of what is looked at: the middle of a recording, with zeros around a shorter one.
        shift: of each channel or band; none: 0.
        scale: likewise; none: 1.

    Attributes:
        shape: of a row.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, settings: AudioSettings, samples: int, shift: Sequence[float] = (), scale: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.samples, self.loudness = samples, settings.loudness
        self.register_buffer("shift", torch.tensor(shift or [0.0], dtype=torch.float32)[:, None])
        self.register_buffer("scale", torch.tensor(scale or [1.0], dtype=torch.float32)[:, None])

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of a row."""

    @abstractmethod
    def described(self, waves: Tensor) -> Tensor:
        """Return what `shift` and `scale` apply to, of waveforms ``(rows, samples)``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(rows, longest)`` to ``(rows, *shape)``."""
        scaled: Tensor = (self.described(self._middle(inputs)) - self.shift) / self.scale
        return scaled[:, None] if scaled.ndim < 1 + len(self.shape) else scaled

    def _middle(self, inputs: Tensor) -> Tensor:
        """Return as many samples from the middle of each recording, float32 from -1 to 1."""
        places = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
        ends = (places * (inputs != 0)).amax(1, keepdim=True)  # (rows, 1)
        starts = torch.div(ends - self.samples, 2, rounding_mode="floor")
        wanted = starts + torch.arange(self.samples, device=inputs.device)
        taken = inputs.gather(1, wanted.clamp(0, inputs.shape[1] - 1)).float() / FULL
        return taken * ((wanted >= 0) & (wanted < ends))


class Waveform(Recordings):
    """The samples themselves, ``(1, samples)``; without loudness, each recording's largest is 1."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return (1, self.samples)

    def described(self, waves: Tensor) -> Tensor:
        """See `Recordings`."""
        if self.loudness:
            return waves[:, None]
        return (waves / waves.abs().amax(1, keepdim=True).clamp(min=1 / FULL))[:, None]


class LogMel(Recordings):
    """The power in bands of the mel scale, in decibels, ``(1, mels, frames)``.

    Without loudness, 0 dB is the largest value of a recording. Bands are triangles on the mel scale of O'Shaughnessy,
    ``2595 log10(1 + f / 700)`` (Davis and Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420), each of height
    1; the window is Hann's.
    """

    window: Tensor
    bands: Tensor

    def __init__(
        self, settings: AudioSettings, samples: int, shift: Sequence[float] = (), scale: Sequence[float] = ()
    ) -> None:
        window = round(settings.window_ms * settings.rate / 1000)
        super().__init__(settings, samples, shift, scale)
        self.hop = round(settings.hop_ms * settings.rate / 1000)
        self.size = max(16, 1 << (window - 1).bit_length())
        self.range_db = settings.range_db
        self.frames = 1 + self.samples // self.hop
        self.register_buffer("window", torch.hann_window(window))
        self.register_buffer("bands", mel_bands(settings, self.size))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return (1, self.bands.shape[0], self.frames)

    def described(self, waves: Tensor) -> Tensor:
        """See `Recordings`."""
        spectrum = torch.stft(
            waves, self.size, self.hop, len(self.window), self.window, pad_mode="constant", return_complex=True
        )
        power = self.bands @ torch.view_as_real(spectrum).square().sum(-1) / self.window.sum() ** 2
        most = 1.0 if self.loudness else power.amax((1, 2), keepdim=True).clamp(min=1e-20)
        return 10 * (power / most).clamp(min=10 ** (-self.range_db / 10)).log10()


def mel_bands(settings: AudioSettings, size: int) -> Tensor:
    """Return the weight of each frequency of a transform of so many samples in each band, ``(mels, size / 2 + 1)``.

    A band that is narrower than the distance of two frequencies has the nearest one.
    """
    lowest, highest = (2595 * math.log10(1 + hz / 700) for hz in (settings.lowest_hz, settings.top_hz))
    edges = 700 * (10 ** (torch.linspace(lowest, highest, settings.mels + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64) * settings.rate / size
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bands = torch.minimum(rising, falling).clamp(min=0)
    nearest = (frequencies - centre).abs().argmin(1)
    empty = bands.sum(1) == 0
    bands[empty, nearest[empty]] = 1.0
    return bands.float()
