"""Made-up recordings of two classes by several speakers: a tone that rises, or one that falls."""

import numpy as np
import soundfile

RATE = 4000
SPEAKERS = ("ada", "bo", "cy", "di")


def tone(rises, pitch, seed=0, seconds=0.25, rate=RATE):
    """Return a tone that goes from a pitch, in Hz, to the octave above, or the other way, with some noise."""
    draw = np.random.default_rng(seed)
    share = np.linspace(0, 1, round(seconds * draw.uniform(0.8, 1.2) * rate))
    frequency = pitch * 2 ** (share if rises else 1 - share)
    wave = 0.3 * np.sin(2 * np.pi * np.cumsum(frequency) / rate)
    return (wave + 0.01 * draw.normal(size=len(wave))).astype(np.float32)


def write_recordings(folder, each=6, seed=0, suffix=".wav"):
    """Write recordings such as ``up_ada_3.wav``, `each` of them for each class and speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(each):
        for place, speaker in enumerate(SPEAKERS):
            for rises in (True, False):
                wave = tone(rises, 300 + 60 * place, seed=[seed, number, place, rises])
                soundfile.write(folder / f"{'up' if rises else 'down'}_{speaker}_{number}{suffix}", wave, RATE)
    return folder


def as_rows(waves):
    """Return recordings as a reader does."""
    rows = np.zeros((len(waves), max(map(len, waves))), np.int16)
    for row, wave in zip(rows, waves, strict=True):
        row[: len(wave)] = np.round(wave * 32767)
    return rows
