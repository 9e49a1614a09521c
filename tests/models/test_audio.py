"""Networks for recordings: the contract, and what they refuse."""

import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.models import AudioCNN, AudioCRNN, AudioWave
from support.contracts import NetworkContract

SPECTROGRAM, WAVE = (1, 13, 18), (1, 400)


class _OfRecordings(NetworkContract):
    shape = SPECTROGRAM

    def rows(self):
        return torch.randn(6, *self.shape, generator=torch.Generator().manual_seed(0))


class TestAudioCNN(_OfRecordings):
    def network(self):
        return AudioCNN(SPECTROGRAM, 3, channels=[4, 6, 8])


class TestAudioCRNN(_OfRecordings):
    def network(self):
        return AudioCRNN(SPECTROGRAM, 3, channels=[4, 6, 8], units=5)


class TestAudioWave(_OfRecordings):
    shape = WAVE

    def network(self):
        return AudioWave(WAVE, 3, channels=[4, 6], first_kernel=20)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AudioCNN(WAVE, 3), r"model=audio_cnn takes spectrograms .*\(1, 400\).*model=audio_wave"),
        (lambda: AudioCRNN((9,), 3), "model=audio_crnn takes spectrograms"),
        (lambda: AudioWave(SPECTROGRAM, 3), "model=audio_wave takes waveforms: data.features=waveform"),
        (lambda: AudioCNN(SPECTROGRAM, 3, channels=[]), "channels has 0"),
        (lambda: AudioCNN(SPECTROGRAM, 3, channels=[4], dropout=1.0), "dropout is 1.0"),
    ],
)
def test_what_does_not_fit_is_told(make, told):
    with pytest.raises(UserError, match=told):
        make()


@pytest.mark.parametrize(("make", "shape"), [(AudioCNN, (1, 1, 1)), (AudioCRNN, (1, 3, 1)), (AudioWave, (1, 1))])
def test_the_shortest_sound_is_long_enough(make, shape):
    assert make(shape, 3).eval()(torch.ones(2, *shape)).shape == (2, 3)
