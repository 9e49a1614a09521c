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
        (lambda: AudioCNN((1, 40, 9), 3), "4 times, and these are 40 bands by 9 frames"),
        (lambda: AudioCRNN((1, 7, 90), 3), "these are 7 bands by 90 frames"),
        (lambda: AudioWave((1, 2000), 3), "at least 2,048 samples, and these have 2,000"),
        (lambda: AudioCNN(SPECTROGRAM, 3, channels=[]), "channels has 0"),
        (lambda: AudioCNN(SPECTROGRAM, 3, channels=[4], dropout=1.0), "dropout is 1.0"),
    ],
)
def test_what_does_not_fit_is_told(make, told):
    with pytest.raises(UserError, match=told):
        make()
