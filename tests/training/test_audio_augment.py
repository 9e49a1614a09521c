"""Augmentation of recordings, beside what each part of it should do."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from hypermap.core.errors import UserError
from hypermap.training import audio_augment
from hypermap.training.audio_augment import AudioAugment

ROWS = 40
ALL = [
    AudioAugment(time_shift=0.2),
    AudioAugment(stretch=0.2),
    AudioAugment(noise=0.5),
    AudioAugment(time_masks=2),
    AudioAugment(0.1, 0.1, noise=0.1, time_masks=1),
]
OF_BANDS = [
    AudioAugment(pitch=0.1),
    AudioAugment(formants=0.1),
    AudioAugment(band_masks=1),
    AudioAugment(mixstyle=0.5),
    AudioAugment(filter=0.5),
    AudioAugment(0.1, 0.1, 0.1, 0.1, 0.1, 1, 0.2, 1, 0.2, 0.5, 0.5),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def spectrograms():
    return torch.randn(ROWS, 1, 12, 30, generator=seeded(7))


@pytest.fixture
def extremes(monkeypatch):
    """The largest change of every kind, in place of random ones."""
    monkeypatch.setattr(audio_augment, "_draw", lambda count, generator, batch: torch.ones(count))


@pytest.mark.parametrize("change", ALL + OF_BANDS, ids=repr)
@pytest.mark.parametrize("wave", [False, True])
def test_contract(change, wave):
    batch = spectrograms()[:, :, 0] if wave else spectrograms()
    if wave and change in OF_BANDS:
        with pytest.raises(UserError, match="are of the bands of a spectrogram, and data"):
            change(batch, seeded())
        return
    original, before = batch.clone(), torch.get_rng_state()
    changed = change(batch, seeded())
    assert changed.shape == batch.shape
    assert torch.equal(batch, original)
    assert torch.equal(changed, change(batch, seeded()))
    assert not torch.equal(changed, change(batch, seeded(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert AudioAugment()(batch, seeded()) is batch


@pytest.mark.parametrize("field", ["time_shift", "stretch", "pitch", "formants"])
def test_a_warp_is_scipys(field, extremes):
    batch = spectrograms()
    made = AudioAugment(**{field: 0.2})(batch, seeded())[:, 0].numpy()
    matrix, offset = np.eye(2), np.zeros(2)
    axis = 0 if field in ("pitch", "formants") else 1
    length = batch.shape[2 + axis]
    if field in ("time_shift", "pitch"):
        offset[axis] = 0.2 * length
    elif field == "formants":  # from the lower end: (k + 0.5) becomes 1.2 (k + 0.5)
        matrix[0, 0], offset[0] = 1.2, 0.1
    else:  # from the middle
        matrix[1, 1], offset[1] = 1.2, -0.2 * (length - 1) / 2
    wanted = [ndimage.affine_transform(row, matrix, offset, order=1, mode="nearest") for row in batch[:, 0].numpy()]
    np.testing.assert_allclose(made, wanted, atol=1e-4)


def test_a_mixed_style_is_that_of_two_recordings(extremes):
    batch = spectrograms() * torch.arange(1, ROWS + 1)[:, None, None, None] + torch.arange(12)[:, None]
    made = AudioAugment(mixstyle=0.75)(batch, seeded())
    other = torch.randperm(ROWS, generator=seeded())
    for measure in (np.mean, np.std):
        own, its = measure(batch.numpy(), 3), measure(made.numpy(), 3)
        np.testing.assert_allclose(its, own + 0.75 * (own[other] - own), rtol=2e-3, atol=1e-4)
    before, after = (stats.zscore(values.numpy(), 3) for values in (batch, made))
    np.testing.assert_allclose(after, before, atol=1e-3)
    assert not AudioAugment(mixstyle=0.75)(torch.zeros(3, 1, 4, 5), seeded()).any()  # silence stays


def test_a_filter_is_a_curve_over_the_bands():
    batch = spectrograms()
    added = (AudioAugment(filter=0.5)(batch, seeded()) - batch)[:, 0].numpy()
    knots = 0.5 * torch.randn(ROWS, 1, 4, generator=seeded())[:, 0].numpy()
    wanted = [np.interp(np.linspace(0, 3, 12), np.arange(4), row) for row in knots]
    np.testing.assert_allclose(added, np.repeat(np.stack(wanted)[..., None], 30, 2), atol=1e-5)


def test_masks_are_zeros_of_at_most_their_share():
    ones = torch.ones(500, 1, 10, 50)
    made = AudioAugment(time_masks=1, time_mask_share=0.3)(ones, seeded())[:, 0]
    assert ((made == 0).all(1) | (made == 1).all(1)).all()  # whole frames
    frames = (made[:, 0] == 0).sum(1)
    assert frames.max() == 15
    assert frames.min() == 0
    bands = AudioAugment(band_masks=1, band_mask_share=0.5)(ones, seeded())[:, 0, :, 0]
    assert (bands == 0).sum(1).max() == 5
    steps = (bands.diff(dim=1) != 0).sum(1)
    assert steps.max() <= 2  # one group
    assert ((bands == 0).float().mean(0) > 0).all()  # anywhere


def test_noise_has_at_most_the_deviation_asked_for():
    noise = AudioAugment(noise=0.5)(torch.zeros(2000, 1, 400), seeded()).std(2).flatten()
    assert noise.max() < 0.5 * 1.15
    assert noise.mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"time_shift": 1.0}, "augment.time_shift is 1.0; allowed: from 0 to less than 1"),
        ({"noise": -1}, "augment.noise is -1; allowed: a number, at least 0"),
        ({"filter": True}, "augment.filter is True; allowed: a number, at least 0"),
        ({"mixstyle": 1}, "augment.mixstyle is 1; allowed: from 0 to less than 1"),
        ({"time_masks": 1.5}, "augment.time_masks is 1.5; allowed: whole numbers"),
    ],
)
def test_what_is_out_of_range_is_told(values, told):
    with pytest.raises(UserError, match=told):
        AudioAugment(**values)


def test_a_table_is_refused():
    with pytest.raises(UserError, match=r"augment=audio needs recordings .* \(9,\): use augment=none"):
        AudioAugment(noise=0.1).check((9,))
