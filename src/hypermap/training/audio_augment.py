"""Augmentation of training recordings, as spectrograms or waveforms, one batch at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hypermap.core.errors import UserError

KNOTS = 4
"""Places, evenly over the bands, at which the curve of a filter is drawn; it is straight in between."""
LEAST_DEVIATION = 1e-3
"""Added to the deviation of a band: in one of silence, there is little to be made louder."""


@dataclass(frozen=True)
class AudioAugment:
    """Each recording is warped, shifted in time, given another sound and noise, and then partly masked.

    Inputs are scaled (mean 0, standard deviation 1 over the training rows): so is the noise, and masks are 0, the mean.
    Masks: SpecAugment (Park et al. 2019, https://arxiv.org/abs/1904.08779). To zoom the bands is what another length of
    the vocal tract does (Jaitly and Hinton 2013). Other microphones, rooms and speakers: MixStyle (Zhou et al. 2021,
    https://arxiv.org/abs/2104.02008) of the statistics of bands, and FilterAugment (Nam et al. 2022,
    https://arxiv.org/abs/2110.03282).

    time_shift: up to this share of the whole length, earlier or later; what is at an end is repeated.
    stretch: slower or quicker by up to this factor: 0.2 is from 0.8 to 1.2.
    pitch: of a spectrogram, bands moved up or down by up to this share of them.
    formants: of a spectrogram, bands zoomed by up to this factor: 0.1 is from 0.9 to 1.1.
    mixstyle: of a spectrogram, up to this share of each band's mean and deviation is another recording's of the batch.
    filter: of a spectrogram, standard deviation of a smooth random curve over the bands that is added to every frame.
    noise: largest standard deviation of Gaussian noise; each recording's own is uniform below it.
    time_masks: number of stretches of time that are masked.
    time_mask_share: largest share of the length that one of them masks.
    band_masks: of a spectrogram, number of groups of bands that are masked.
    band_mask_share: largest share of the bands that one of them masks.

    Raises:
        UserError: a setting outside its range.
    """

    time_shift: float = 0.0
    stretch: float = 0.0
    pitch: float = 0.0
    formants: float = 0.0
    noise: float = 0.0
    time_masks: int = 0
    time_mask_share: float = 0.2
    band_masks: int = 0
    band_mask_share: float = 0.2
    filter: float = 0.0
    mixstyle: float = 0.0

    def __post_init__(self) -> None:
        for name in ("time_shift", "stretch", "pitch", "formants", "time_mask_share", "band_mask_share", "mixstyle"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"augment.{name} is {value!r}; allowed: from 0 to less than 1")
        for name in ("noise", "filter"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise UserError(f"augment.{name} is {value!r}; allowed: a number, at least 0")
        for name in ("time_masks", "band_masks"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(f"augment.{name} is {value!r}; allowed: whole numbers, at least 0")

    @property
    def active(self) -> bool:
        """Whether any augmentation is enabled."""
        changes = (self.time_shift, self.mixstyle, self.filter, self.noise, self.time_masks, self.band_masks)
        return self._warps or max(changes) > 0

    @property
    def _warps(self) -> bool:
        return max(self.stretch, self.pitch, self.formants) > 0

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse inputs whose `shape` (of one row) cannot be augmented in this way.

        Raises:
            UserError: they are neither spectrograms nor waveforms, or something is asked of the bands of a waveform.
        """
        if not self.active:
            return
        if len(shape) not in (2, 3):
            raise UserError(
                f"augment=audio needs recordings of shape (1, bands, frames) or (1, samples); the data's inputs have "
                f"shape {tuple(shape)}: use augment=none"
            )
        if len(shape) == 2 and (self.pitch or self.formants or self.mixstyle or self.filter or self.band_masks):
            raise UserError(
                "augment.pitch, formants, mixstyle, filter and band_masks are of the bands of a spectrogram, and "
                "data.features is waveform: set them to 0 (augment=audio_wave)"
            )

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return an augmented copy of ``(rows, 1, bands, frames)`` or ``(rows, 1, samples)``, scaled.

        The draws are made on the generator's device: one on the CPU gives the same recordings on any device.

        Raises:
            UserError: see `check`.
        """
        self.check(tuple(batch.shape[1:]))
        if not self.active:
            return batch
        spectrogram = batch if batch.ndim == 4 else batch[:, :, None]  # a waveform as one band
        if self._warps or self.time_shift:
            spectrogram = self._warped(spectrogram, generator)
        if self.mixstyle:
            spectrogram = self._restyled(spectrogram, generator)
        if self.filter:
            spectrogram = spectrogram + self.filter * _curves(spectrogram, generator)
        if self.noise:
            drawn = torch.randn(spectrogram.shape, generator=generator, device=generator.device).to(batch.device)
            spectrogram = spectrogram + self.noise * _draw(len(batch), generator, batch)[:, None, None, None] * drawn
        masks = ((3, self.time_masks, self.time_mask_share), (2, self.band_masks, self.band_mask_share))
        for axis, count, share in masks:
            for _ in range(count):
                spectrogram = spectrogram.masked_fill(_span(spectrogram, axis, share, generator), 0.0)
        return spectrogram.view(batch.shape)

    def _warped(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Move and zoom along time and bands, with the nearest value beyond the ends."""
        (faster, later, wider, higher) = (2 * _draw(4 * len(batch), generator, batch) - 1).view(4, -1)
        bands, frames = (_centres(length, batch) for length in batch.shape[2:])
        # The lowest band stays where it is when bands are zoomed: y' + 1 = (1 + f) (y + 1) is y' = (1 + f) y + f.
        zoom = self.formants * wider
        vertical = (1 + zoom)[:, None] * bands + (2 * self.pitch * higher + zoom)[:, None]
        horizontal = (1 + self.stretch * faster)[:, None] * frames + (2 * self.time_shift * later)[:, None]
        grid = torch.stack(torch.broadcast_tensors(horizontal[:, None], vertical[:, :, None]), 3)
        return F.grid_sample(batch, grid, padding_mode="border", align_corners=False)

    def _restyled(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Move each band's mean and deviation along time towards those of another recording of the batch."""
        deviation, mean = torch.std_mean(batch, 3, correction=0, keepdim=True)
        deviation = deviation + LEAST_DEVIATION
        other = torch.randperm(len(batch), generator=generator, device=generator.device).to(batch.device)
        share = self.mixstyle * _draw(len(batch), generator, batch)[:, None, None, None]
        wanted = torch.lerp(deviation, deviation[other], share), torch.lerp(mean, mean[other], share)
        return (batch - mean) / deviation * wanted[0] + wanted[1]


def _curves(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Return a smooth random curve over the bands for each row, ``(rows, 1, bands, 1)``."""
    drawn = torch.randn(len(batch), 1, KNOTS, generator=generator, device=generator.device)
    curves = F.interpolate(drawn, batch.shape[2], mode="linear", align_corners=True)
    return curves.to(batch.device, batch.dtype)[..., None]


def _centres(length: int, batch: Tensor) -> Tensor:
    """Return where the values along an axis are for `grid_sample`, whose axis is from -1 to 1: ``(length,)``."""
    return (2 * torch.arange(length, device=batch.device, dtype=batch.dtype) + 1) / length - 1


def _draw(count: int, generator: torch.Generator, batch: Tensor) -> Tensor:
    """Return numbers from 0 to 1, ``(count,)``."""
    return torch.rand(count, generator=generator, device=generator.device).to(batch.device, batch.dtype)


def _span(batch: Tensor, axis: int, share: float, generator: torch.Generator) -> Tensor:
    """Return which places along an axis one mask covers in each row, bool, with the batch's number of axes."""
    length = batch.shape[axis]
    size, start = _draw(2 * len(batch), generator, batch).view(2, -1)
    wide = (size * share * length).round()
    first = (start * (length - wide + 1)).floor()
    places = torch.arange(length, device=batch.device)
    covered: Tensor = (places >= first[:, None]) & (places < (first + wide)[:, None])
    shape = [len(batch), 1, 1, 1]
    shape[axis] = length
    return covered.view(shape)
