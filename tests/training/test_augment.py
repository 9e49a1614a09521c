import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from hypermap.core.errors import UserError
from hypermap.training import augment
from hypermap.training.augment import Augment

ROWS = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randn(ROWS, 3, 9, 7, generator=seeded(7))


@pytest.fixture
def extremes(monkeypatch):
    """The largest angle and zoom for every image, in place of random ones."""
    monkeypatch.setattr(augment, "_uniform", lambda count, generator, device: torch.ones(count))


ALL = [
    Augment(flip=True),
    Augment(shift=2),
    Augment(rotate_degrees=20),
    Augment(scale=0.3),
    Augment(True, 2, 20, 0.3),
]


@pytest.mark.parametrize("change", ALL, ids=repr)
def test_contract(change, batch):
    original = batch.clone()
    assert change.active
    changed = change(batch, seeded())
    assert changed.shape == batch.shape
    assert changed.dtype == batch.dtype
    assert torch.equal(batch, original)
    assert torch.equal(changed, change(batch, seeded()))
    assert not torch.equal(changed, change(batch, seeded(1)))


@pytest.mark.parametrize("change", ALL, ids=repr)
def test_the_global_generator_is_left_alone(change, batch):
    before = torch.get_rng_state()
    change(batch, seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_asked_for_is_the_identity(batch):
    nothing = Augment()
    generator = seeded()
    assert not nothing.active
    assert nothing(batch, generator) is batch
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_flip_is_torchs_for_half_of_the_images():
    batch = torch.randn(2000, 1, 3, 4, generator=seeded(7))
    changed = Augment(flip=True)(batch, seeded())
    same = (changed == batch).flatten(1).all(1)
    mirrored = (changed == batch.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(mirrored.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    return ndimage.shift(image, (0, down, right), order=0)


def test_shift_is_by_every_whole_number_of_pixels(batch):
    big = batch.repeat(10, 1, 1, 1)
    changed = Augment(shift=2)(big, seeded()).numpy()
    seen = set()
    for image, result in zip(big.numpy(), changed, strict=True):
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(shifted(image, down, right), result)
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25


@pytest.mark.parametrize("shape", [(9, 9), (9, 7), (6, 12)])
@pytest.mark.parametrize(("degrees", "scale"), [(30, 0.0), (0.0, 0.25), (30, 0.25)])
def test_warp_is_scipys(extremes, shape, degrees, scale):
    images = torch.rand(2, 1, *shape, generator=seeded(), dtype=torch.float64).float()
    changed = Augment(rotate_degrees=degrees, scale=scale)(images, seeded()).numpy()
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, sin], [-sin, cos]]) / (1 + scale)  # of (row, column)
    centre = (np.array(shape) - 1) / 2
    for image, result in zip(images[:, 0].numpy(), changed[:, 0], strict=True):
        expected = ndimage.affine_transform(image, matrix, centre - matrix @ centre, order=1, mode="grid-constant")
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_quarter_turn_is_torchs(extremes, batch):
    square = batch[:, :, :7]
    torch.testing.assert_close(Augment(rotate_degrees=90)(square, seeded()), square.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_angles_and_zooms_fill_their_range():
    drawn = augment._uniform(10_000, seeded(), torch.device("cpu"))
    assert drawn.abs().max() <= 1
    assert drawn.mean().item() == pytest.approx(0, abs=0.03)
    assert drawn.std().item() == pytest.approx(1 / math.sqrt(3), abs=0.02)


def test_tables_are_refused():
    with pytest.raises(UserError, match=r"shape \(30,\): use augment=none"):
        Augment(flip=True).check((30,))
    with pytest.raises(UserError, match="augment=none"):
        Augment(flip=True)(torch.zeros(4, 30), seeded())
    Augment().check((30,))


def test_a_shift_out_of_view_is_refused():
    Augment(shift=7).check((1, 8, 8))
    with pytest.raises(UserError, match=r"augment\.shift is 8; images of 8x8 allow at most 7 pixels"):
        Augment(shift=8).check((1, 8, 8))


@pytest.mark.parametrize("setting", [{"shift": -1}, {"rotate_degrees": 181}, {"scale": 1.0}, {"scale": -0.1}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError, match=rf"augment\.{next(iter(setting))} is .*; allowed: "):
        Augment(**setting)
