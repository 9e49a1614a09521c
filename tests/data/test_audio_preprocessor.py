"""Spectrograms and waveforms, beside scipy's transform of the same recordings."""

import numpy as np
import pytest
import torch
from scipy import signal

from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Transform
from hypermap.data.preprocessors.audio import AudioSettings, lengths
from hypermap.data.preprocessors.audio_module import mel_bands
from support.contracts import PreprocessorContract
from support.own_audio import RATE, as_rows, tone

TRAIN = as_rows([tone(k % 2 == 0, 300 + 20 * k, seed=k) for k in range(12)])
OTHERS = as_rows([np.zeros(10), tone(True, 900, seconds=1), tone(False, 200, seconds=0.05), np.ones(50)])


def about(**arguments):
    path = "hypermap.data.preprocessors.audio.AudioPreprocessor"
    arguments = {"rate": RATE, "mels": 12, "hop_ms": 8, **arguments}
    return Manifest(task="classification", classes=["a"], shape=[1], preprocessor=path, arguments=arguments)


def fitted(rows=TRAIN, **arguments):
    return Transform.fitted(rows, np.zeros(len(rows), np.int64), about(**arguments))


class _Recordings(PreprocessorContract):
    arguments = {}  # noqa: RUF012

    def manifest(self):
        return about(**self.arguments)

    def rows(self):
        return TRAIN, OTHERS


class TestSpectrograms(_Recordings):
    pass


class TestLoudSpectrogramsOfALength(_Recordings):
    arguments = {"seconds": 0.2, "loudness": True, "lowest_hz": 0, "window_ms": 3, "mels": 30}  # noqa: RUF012


class TestWaveforms(_Recordings):
    arguments = {"features": "waveform"}  # noqa: RUF012


@pytest.mark.parametrize("loudness", [False, True])
def test_a_spectrogram_is_scipys_power_in_bands(loudness):
    settings = {"window_ms": 25, "hop_ms": 8, "loudness": loudness, "range_db": 45, "seconds": 0.2}
    transform = fitted(**settings)
    start = (lengths(TRAIN)[3] - 800) // 2
    wave = TRAIN[3, start : start + 800] / 32768
    window, hop = np.zeros(128), 32
    window[14:114] = signal.get_window("hann", 100)  # in the middle of a transform of 128
    padded = np.pad(wave, 64)
    frames = np.stack([padded[k : k + 128] * window for k in range(0, len(padded) - 127, hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2 / signal.get_window("hann", 100).sum() ** 2
    bands = mel_bands(AudioSettings(rate=RATE, mels=12), 128).double().numpy() @ power.T
    decibels = 10 * np.log10(np.maximum(bands / (1 if loudness else bands.max()), 10**-4.5))
    made = transform.preprocessor(torch.from_numpy(TRAIN[3:4])).numpy()[0, 0]
    shift, scale = (np.array(own)[:, None] for own in (transform.manifest.shift, transform.manifest.scale))
    np.testing.assert_allclose(made * scale + shift, decibels, atol=2e-3)


def test_bands_are_triangles_as_wide_as_the_ear_hears():
    """The centres of Davis and Mermelstein's bands: equally far on 2595 log10(1 + f / 700)."""
    bands = mel_bands(AudioSettings(rate=16_000, mels=10, lowest_hz=0), 4096)
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 12)[1:-1] / 2595) - 1)
    np.testing.assert_allclose(bands.argmax(1) * 16_000 / 4096, centres, atol=2)
    first, last = (int(centre * 4096 / 16_000) for centre in (centres[0], centres[-1]))
    between = bands[:, first + 1 : last].sum(0)
    torch.testing.assert_close(between, torch.ones_like(between))  # neighbours share what lies between them
    assert (mel_bands(AudioSettings(rate=16_000, mels=80), 64).sum(1) > 0).all()  # narrower than a frequency


def test_training_rows_have_mean_0_and_deviation_1_in_each_band():
    made = fitted().preprocessor(torch.from_numpy(TRAIN)).double()
    torch.testing.assert_close(made.mean((0, 1, 3)), torch.zeros(12).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.std((0, 1, 3), correction=0), torch.ones(12).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("features", ["spectrogram", "waveform"])
def test_how_loud_it_is_does_not_matter_unless_it_should(features):
    rows = torch.from_numpy(TRAIN[:3])
    for loudness in (False, True):
        preprocessor = fitted(features=features, loudness=loudness).preprocessor
        same = torch.allclose(preprocessor(rows), preprocessor(rows // 4), atol=0.1)
        assert same is not loudness


def test_the_middle_of_a_long_recording_is_taken_and_a_short_one_stands_in_the_middle():
    row = np.zeros((2, 20), np.int16)
    row[0, :12] = np.arange(1, 13)
    row[1, :3] = [7, 8, 9]
    transform = fitted(row, features="waveform", seconds=6 / RATE, loudness=True)
    (shift,), (scale,) = transform.manifest.shift, transform.manifest.scale
    made = (transform.preprocessor(torch.from_numpy(row)).double() * scale + shift) * 32768
    np.testing.assert_allclose(made[:, 0], [[4, 5, 6, 7, 8, 9], [0, 0, 7, 8, 9, 0]], atol=1e-3)


def test_a_row_is_as_long_as_most_training_recordings():
    rows = np.zeros((100, 500), np.int16)
    for k in range(100):
        rows[k, : k + 1] = 1
    assert fitted(rows, features="waveform").manifest.shape == [1, 96]
