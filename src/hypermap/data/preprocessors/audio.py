"""Recordings as log-mel spectrograms, or as waveforms, scaled by statistics of the training rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hypermap.core.errors import UserError, near
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Fitted, Preprocessor

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor, nn

    from hypermap.data.preprocessors.audio_module import Recordings

FEATURES = ("spectrogram", "waveform")
USUAL = 0.95
"""Share of the training recordings that are heard whole where `data.seconds` is null."""


@dataclass(frozen=True)
class AudioSettings:
    """What a network is given of a recording. Construction checks the values.

    Attributes:
        rate: samples per second of the raw rows.
        features: ``spectrogram`` (log-mel) or ``waveform``.
        seconds: length of what a network is given: the middle of longer recordings, and silence on both sides of
            shorter ones. None: as long as 95 % of the training recordings.
        window_ms: length of the Hann window of a spectrogram, in milliseconds.
        hop_ms: time between its windows.
        mels: number of its bands, on the mel scale.
        lowest_hz: where the first band begins.
        highest_hz: where the last one ends; None: at half the rate.
        range_db: decibels below the loudest value of a recording, at which a spectrogram ends: what is softer counts
            as silence.
        loudness: whether a network may hear how loud a recording is. If not, each is as loud as the others.
    """

    rate: int = 16_000
    features: str = "spectrogram"
    seconds: float | None = None
    window_ms: float = 25.0
    hop_ms: float = 10.0
    mels: int = 40
    lowest_hz: float = 50.0
    highest_hz: float | None = None
    range_db: float = 60.0
    loudness: bool = False

    def __post_init__(self) -> None:
        for name in ("rate", "mels"):
            if not _is_number(value := getattr(self, name)) or value != int(value) or value < 1:
                raise UserError(f"data.{name} is {value!r}; it is a whole number, 1 or more.")
        if self.features not in FEATURES:
            hint = near(str(self.features), FEATURES)
            raise UserError(f"data.features is {self.features!r}; it is {' or '.join(FEATURES)}{hint}.")
        for name in ("seconds", "window_ms", "hop_ms", "range_db", "highest_hz"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0) and not (value is None and name in ("seconds", "highest_hz")):
                raise UserError(f"data.{name} is {value!r}; it is a number above 0.")
        if not isinstance(self.loudness, bool):
            raise UserError(f"data.loudness is {self.loudness!r}; it is true or false.")
        if not _is_number(self.lowest_hz) or self.lowest_hz < 0:
            raise UserError(f"data.lowest_hz is {self.lowest_hz!r}; it is a number, 0 or more.")
        if not self.lowest_hz < self.top_hz <= self.rate / 2:
            raise UserError(
                f"data.lowest_hz is {self.lowest_hz:g} and data.highest_hz {self.top_hz:g}; at data.rate={self.rate} "
                f"there are frequencies up to {self.rate / 2:g} Hz, and the lowest is below the highest."
            )
        for name in ("window_ms", "hop_ms"):
            if round(getattr(self, name) * self.rate / 1000) < 1:
                raise UserError(
                    f"data.{name} is {getattr(self, name):g}; at data.rate={self.rate} a sample takes "
                    f"{1000 / self.rate:g} ms: take a longer time."
                )

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the settings among the arguments of a reader."""
        return cls(**{own.name: arguments[own.name] for own in fields(cls) if own.name in arguments})

    @property
    def top_hz(self) -> float:
        """Where the last band ends."""
        return self.rate / 2 if self.highest_hz is None else self.highest_hz


class AudioPreprocessor(Preprocessor):
    """From samples, int16 ``(rows, longest)`` with zeros behind the end of each, to what a network is given.

    That is a spectrogram ``(1, mels, frames)``, each band of it scaled, or a waveform ``(1, samples)``: of mean 0 and
    standard deviation 1 over the training rows, float32. The length of a row is that of the training recordings, too.
    """

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Fit the length of a row, and the mean and the deviation of each band.

        Raises:
            UserError: a setting is out of range.
        """
        settings = AudioSettings.of(info.arguments)
        if settings.seconds is None:
            samples = int(np.quantile(lengths(inputs), USUAL, method="higher"))
        else:
            samples = round(settings.seconds * settings.rate)
        module = _module(settings, max(samples, 1))
        total, squares, count = 0.0, 0.0, 0
        for row in _each(module, inputs):
            total, squares = total + row.sum(-1), squares + np.square(row).sum(-1)
            count += row.shape[-1]
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
        entries = {
            "shape": list(module.shape),
            "shift": np.ravel(mean).tolist(),
            "scale": np.ravel(np.where(deviation > 1e-6, deviation, 1.0)).tolist(),  # of bands with nothing in them
            "extras": {"samples": module.samples},
        }
        return Fitted(entries)

    @cached_property
    def fitted(self) -> "Recordings":
        """The computation in torch, scaled."""
        manifest = self.manifest
        settings = AudioSettings.of(manifest.arguments)
        return _module(settings, int(manifest.extras["samples"]), manifest.shift, manifest.scale)

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return spectrograms or waveforms, float32."""
        import torch

        with torch.no_grad():  # one by one: a Fourier transform of many may round otherwise
            rows = [self.fitted.to(inputs.device)(row[None]) for row in inputs]
        return torch.cat(rows) if rows else torch.empty((0, *self.manifest.shape), device=inputs.device)

    def module(self) -> "nn.Module":
        """Return the same in torch."""
        return self.fitted


def lengths(inputs: Array) -> Array:
    """Return where each row of samples ends, int64 ``(rows,)``: behind its last sample that is not zero."""
    there = inputs != 0
    ends: Array = np.where(there.any(1), inputs.shape[1] - there[:, ::-1].argmax(1), 0)
    return ends


def _module(settings: AudioSettings, samples: int, *scaling: Any) -> "Recordings":
    from hypermap.data.preprocessors.audio_module import LogMel, Waveform

    kind = LogMel if settings.features == "spectrogram" else Waveform
    return kind(settings, samples, *scaling)


def _each(module: "Recordings", inputs: Array) -> Iterator[Array]:
    """Yield what a module gives for each row, in float64."""
    import torch

    with torch.no_grad():
        for row in inputs:
            yield module(torch.from_numpy(np.ascontiguousarray(row)[None])).numpy()[0].astype(np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
