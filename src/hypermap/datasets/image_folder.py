"""Images of your own: a folder with a folder for each class, or a CSV file of paths and labels."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from hypermap.core import memory
from hypermap.core.errors import UserError, near
from hypermap.core.files import files_below
from hypermap.core.hashing import checksum_of
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.datasets.images import Raw, RawRows

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
CHANNELS = ("grey", "rgb")
SHOWN = 5  # files in a message
COPIES = 4  # of all images, at the peak of reading and splitting them
BATCH = 512  # images that are read at once to be predicted
COLOURED = 1  # values by which the channels of a pixel may differ in a grey image: JPEG rounds


def images(
    path: str | None = None,
    *,
    test_path: str | None = None,
    size: int | Sequence[int] = 32,
    channels: str | None = None,
    broken: str = "stop",
    root: str | None = None,
) -> Raw:
    """Return images that a person has, all resized to one size, as uint8.

    Args:
        path: a folder that has a folder for each class, with images at any depth; or a CSV file with a line for each
            image: its path, beside the file, in the first column and its label in the last, below a header.
        test_path: likewise, with the test images, where they stand apart.
        size: height and width of what a network is given, or ``[height, width]``. Images are stretched to it.
        channels: ``grey`` or ``rgb``; None: grey where all images are.
        broken: ``stop`` at a file that is no image, or ``skip`` it and say so.
        root: the folder that relative paths start from.

    Raises:
        UserError: there are no images, a file is broken, or there are fewer than two classes.
    """
    height, width = _size(size)
    if broken not in ("stop", "skip"):
        raise UserError(f"data.broken is {broken!r}; it is stop, or skip.")
    if channels not in (None, *CHANNELS):
        raise UserError(f"data.channels is {channels!r}; it is {', '.join(CHANNELS)} or null.")
    labelled = _labelled(_located(path, "path", root), "path")
    tested = None if test_path is None else _labelled(_located(test_path, "test_path", root), "test_path")
    classes = tuple(sorted({label for _, label in labelled.files}))
    if len(classes) < 2:
        raise UserError(f"{labelled.origin} has images of one class, {classes[0]!r}: there is nothing to tell apart.")
    if tested and (unknown := sorted({label for _, label in tested.files} - {*classes})):
        raise UserError(f"{tested.origin} has classes that {labelled.origin} lacks: {_listed(unknown)}.")
    read = _read(labelled, height, width, broken, classes)
    read_test = None if tested is None else _read(tested, height, width, broken, classes)
    every = [part for part in (read, read_test) if part is not None]
    grey = channels == "grey" or (channels is None and all(not part.coloured for part in every))
    pixels = [_in_channels(part.pixels, grey=grey) for part in every]
    return Raw.of(
        pixels[0],
        read.labels,
        classes,
        maximum=255.0,
        test_inputs=pixels[1] if read_test else None,
        test_targets=read_test.labels if read_test else None,
        notes=tuple(note for part in every for note in part.notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `images` would read with these arguments.

    Raises:
        UserError: there are none.
    """
    root, files = arguments.get("root"), []
    for key in ("path", "test_path"):
        if arguments.get(key) is not None or key == "path":
            place = _located(arguments.get(key), key, root)
            files += [place] if place.is_dir() else [place, *(file for file, _ in _labelled(place, key).files)]
    if absent := [str(file) for file in files if not file.exists()]:
        raise UserError(f"{files[0]} names {len(absent):,} files that are not there: {_listed(absent)}.")
    return checksum_of(files)


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield the images of files and folders as a network was trained on them, with their paths."""
    channels, height, width = manifest.shape
    files = [file for path in paths for file in (_below(path) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"input={paths[0]} has no images. They end with {', '.join(SUFFIXES)}.")
    for first in range(0, len(files), BATCH):
        part = files[first : first + BATCH]
        found = _Read(part, [_open(file, height, width) for file in part])
        found.check(str(paths[0]), "stop", "input")
        yield RawRows(_in_channels(found.pixels, grey=channels == 1), {"file": [str(file) for file in part]})


@dataclass(frozen=True)
class _Labelled:
    """Files with their labels, and where they come from."""

    origin: Path
    files: list[tuple[Path, str]]
    others: int  # files that are no images by their suffix


class _Read:
    """Images in three channels, or what is wrong with their files."""

    def __init__(self, files: Sequence[Path], opened: Sequence[Array | str]) -> None:
        self.problems = {file: found for file, found in zip(files, opened, strict=True) if isinstance(found, str)}
        self.whole = [k for k, found in enumerate(opened) if not isinstance(found, str)]
        arrays = [found for found in opened if not isinstance(found, str)]
        self.pixels = np.stack(arrays) if arrays else np.empty((0, 3, 1, 1), np.uint8)
        self.labels = np.empty(0, np.int64)
        self.notes: list[str] = []

    @property
    def coloured(self) -> bool:
        """Whether an image is not grey."""
        red = self.pixels[:, :1].astype(np.int16)
        return bool((np.abs(self.pixels[:, 1:] - red) > COLOURED).any())

    def check(self, origin: str, broken: str, key: str) -> None:
        """Refuse files that are no images, or note them."""
        if not self.problems:
            return
        shown = "; ".join(f"{file} ({reason})" for file, reason in list(self.problems.items())[:SHOWN])
        more = f"; and {len(self.problems) - SHOWN} more" if len(self.problems) > SHOWN else ""
        count = f"{len(self.problems):,} file{'s' if len(self.problems) > 1 else ''}"
        if broken == "skip" and self.whole:
            self.notes.append(f"Left out of {origin}: {count} that cannot be read as images: {shown}{more}.")
            return
        remedy = "" if key == "input" or broken == "skip" else ", or leave such files out: data.broken=skip"
        raise UserError(f"{origin} has {count} that cannot be read as images: {shown}{more}. Mend them{remedy}.")


def _read(labelled: _Labelled, height: int, width: int, broken: str, classes: Sequence[str]) -> _Read:
    files = [file for file, _ in labelled.files]
    _check_memory(labelled.origin, len(files), height, width)
    with (
        ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool,
        tqdm(total=len(files), unit=" images", unit_scale=True, disable=None) as bar,
    ):
        opened = []
        for found in pool.map(lambda file: _open(file, height, width), files):
            opened.append(found)
            bar.update()
    read = _Read(files, opened)
    read.check(str(labelled.origin), broken, "data")
    index = {name: k for k, name in enumerate(classes)}
    read.labels = np.array([index[labelled.files[k][1]] for k in read.whole], np.int64)
    if labelled.others:
        read.notes.append(f"{labelled.others:,} files of {labelled.origin} are no images by their names; left out.")
    return read


def _check_memory(origin: Path, count: int, height: int, width: int) -> None:
    """Refuse images that would not fit; they are held as bytes, in a few copies."""
    needed, free = COPIES * 3 * count * height * width, memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{origin}: {count:,} images of {height}x{width} take about {needed / 1e9:.1f} GB to prepare, and "
            f"{free / 1e9:.1f} GB of memory are free. Take a smaller data.size, or fewer images."
        )


def _open(file: Path, height: int, width: int) -> Array | str:
    """Return an image as uint8 ``(3, height, width)``, turned as its EXIF says; or what is wrong with the file."""
    try:
        with Image.open(file) as image:
            image.load()
            turned = ImageOps.exif_transpose(image)
            pixels = _eight_bits(turned).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except FileNotFoundError:
        return "there is no such file"
    except Exception as error:  # a decoder's own, and there are many
        if isinstance(error, OSError) and error.errno is not None:
            return str(error.strerror)
        return "empty" if file.stat().st_size == 0 else (str(error).split(str(file))[0].strip(" '") or repr(error))
    return np.asarray(pixels, np.uint8).transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 16 bits or more with 8; what is transparent becomes white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1e-12)
        return Image.fromarray(np.clip(values / top * 255, 0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear)
    return image


def _in_channels(pixels: Array, *, grey: bool) -> Array:
    """Return images ``(rows, 3, height, width)`` as they are, or grey, weighed as Pillow does (ITU-R 601)."""
    if not grey:
        return pixels
    weights = np.array([19595, 38470, 7471], np.int64).reshape(1, 3, 1, 1)
    parts = np.array_split(pixels, len(pixels) // 1000 + 1)  # in numbers of 64 bits they are eight times as large
    return np.concatenate([((part * weights).sum(1, keepdims=True) + 0x8000 >> 16).astype(np.uint8) for part in parts])


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise UserError(f"data.size is {size!r}; it is a number of pixels, or [height, width].")
    return pair[0], pair[1]


def _located(path: str | None, key: str, root: str | None) -> Path:
    if path is None:
        raise UserError("data.path is null: name a folder that has a folder for each class, or a CSV file.")
    place = Path(root or "").expanduser() / Path(path).expanduser()
    if not place.exists():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UserError(f"data.{key} is {path}: there is no {place}{near(place.name, beside)}.")
    return place


def _labelled(place: Path, key: str) -> _Labelled:
    return _of_folder(place, key) if place.is_dir() else _of_list(place, key)


def _below(folder: Path) -> list[Path]:
    """Return the images in a folder, at any depth, but for hidden ones."""
    return [file for file in files_below(folder) if file.suffix.lower() in SUFFIXES]


def _of_folder(place: Path, key: str) -> _Labelled:
    every = files_below(place)
    found = [file for file in every if file.suffix.lower() in SUFFIXES]
    files = [(file, file.relative_to(place).parts[0]) for file in found if file.parent != place]
    if not files:
        loose = " (those in the folder itself are of no class)" if found else ""
        raise UserError(
            f"data.{key} is {place}: it has no folders with images{loose}. There should be one for each class, with "
            f"files that end with {', '.join(SUFFIXES)}."
        )
    return _Labelled(place, files, len(every) - len(files))


def _of_list(place: Path, key: str) -> _Labelled:
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        reason = f"which is neither a folder nor a CSV file in UTF-8 ({error})"
        raise UserError(f"data.{key} is {place}, {reason}.") from None
    if len(rows) < 2 or min(map(len, rows)) < 2:
        raise UserError(
            f"data.{key} is {place}: it should have a header, and lines of at least two columns, the first an image's "
            "path and the last its label."
        )
    files = [(place.parent / row[0], row[-1].strip()) for row in rows[1:]]
    if unlabelled := [str(file) for file, label in files if not label]:
        raise UserError(f"{place}: {len(unlabelled):,} images have no label: {_listed(unlabelled)}.")
    return _Labelled(place, files, 0)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
