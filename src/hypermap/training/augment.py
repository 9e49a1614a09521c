"""Augmentation of training images, one batch at a time."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hypermap.core.errors import UserError


@dataclass(frozen=True)
class Augment:
    """Each image is mirrored, then rotated and scaled about its center, then shifted; new pixels are 0.

    flip: mirror left to right, with probability 1/2.
    shift: whole pixels, up to this many in each direction, uniformly distributed.
    rotate_degrees: an angle between plus and minus this many degrees, bilinear.
    scale: a zoom between 1 - scale and 1 + scale, bilinear.

    Raises:
        UserError: a setting outside its range.
    """

    flip: bool = False
    shift: int = 0
    rotate_degrees: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        _require(self.shift >= 0, "shift", self.shift, "whole numbers of pixels, at least 0")
        _require(0 <= self.rotate_degrees <= 180, "rotate_degrees", self.rotate_degrees, "from 0 to 180")
        _require(0 <= self.scale < 1, "scale", self.scale, "from 0 to less than 1")

    @property
    def active(self) -> bool:
        """Whether any augmentation is enabled."""
        return self.flip or self.shift > 0 or self._warps

    @property
    def _warps(self) -> bool:
        return self.rotate_degrees > 0 or self.scale > 0

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse inputs whose `shape` (of one row) cannot be augmented in this way.

        Raises:
            UserError: they are not images, or the shift could push a whole image out of view.
        """
        if not self.active:
            return
        if len(shape) != 3:
            raise UserError(
                f"augment needs images of shape (channels, height, width); the data's inputs have shape "
                f"{tuple(shape)}: use augment=none"
            )
        if self.shift >= min(shape[1:]):
            raise UserError(
                f"augment.shift is {self.shift}; images of {shape[1]}x{shape[2]} allow at most "
                f"{min(shape[1:]) - 1} pixels"
            )

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return an augmented copy of float images (rows, channels, height, width); the batch itself if not active.

        The draws are made on the generator's device: one on the CPU gives the same images on any device.

        Raises:
            UserError: see `check`.
        """
        self.check(tuple(batch.shape[1:]))
        if self.flip:
            batch = _flip(batch, generator)
        if self._warps:
            batch = _warp(batch, math.radians(self.rotate_degrees), self.scale, generator)
        if self.shift:
            batch = _shift(batch, self.shift, generator)
        return batch


def _flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = _uniform(len(batch), generator, batch.device) < 0
    columns = torch.arange(batch.shape[3], device=batch.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns)  # (rows, width)
    return batch.gather(3, columns[:, None, None, :].expand(batch.shape))


def _shift(batch: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Crop a random window of the original size from each image, padded by `most` zeros on each side."""
    rows, _, height, width = batch.shape
    corners = torch.randint(0, 2 * most + 1, (2, rows), generator=generator, device=generator.device)
    top, left = corners.to(batch.device)
    windows = F.pad(batch, (most, most, most, most)).unfold(2, height, 1).unfold(3, width, 1)  # a view
    return windows[torch.arange(rows, device=batch.device), :, top, left]


def _warp(batch: Tensor, angle: float, scale: float, generator: torch.Generator) -> Tensor:
    """Rotate by up to `angle` (radians) and zoom by up to `scale`, sampling the old image at each new pixel."""
    rows, _, height, width = batch.shape
    angles = angle * _uniform(rows, generator, batch.device)
    zooms = 1 + scale * _uniform(rows, generator, batch.device)
    cos, sin, zero = angles.cos() / zooms, angles.sin() / zooms, torch.zeros_like(angles)
    aspect = width / height  # the grid runs from -1 to 1 on both axes, whatever their lengths
    matrix = torch.stack([cos, -sin / aspect, zero, sin * aspect, cos, zero], 1).view(rows, 2, 3)
    grid = F.affine_grid(matrix.to(batch.dtype), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, align_corners=False)


def _uniform(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return numbers from -1 to 1, float32 (count,)."""
    return (2 * torch.rand(count, generator=generator, device=generator.device) - 1).to(device)


def _require(holds: bool, name: str, value: float, allowed: str) -> None:
    if not holds:
        raise UserError(f"augment.{name} is {value}; allowed: {allowed}")
