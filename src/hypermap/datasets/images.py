"""Readers of raw data sets: each returns complete arrays as published, neither split nor scaled.

Your own reader is any function that returns a `Raw` (see `Raw.of`); an option file names it by its dotted path. Data is
prepared again when its code changes, or the files and folders that its arguments name. If it depends on anything else,
its module defines a function ``fingerprint(arguments) -> str`` that covers everything.
"""

import gzip
import hashlib
import lzma
import math
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.paths import DOWNLOADS
from hypermap.core.typing import Array
from hypermap.data.preprocessor import Preprocessor
from hypermap.data.stratification import labels_of
from hypermap.datasets import download
from hypermap.tasks.base import Task, path_of
from hypermap.tasks.names import TargetColumn

if TYPE_CHECKING:
    from hypermap.datasets.tables.schema import Schema

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_SHAPE = (3, 32, 32)
COMPRESSIONS = ("", ".gz", ".xz")
IMAGES_OR_NUMBERS = "uint8 or float32 and (rows, features) or (rows, channels, height, width)"
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, tarfile.TarError)


@dataclass(frozen=True)
class Raw:
    """A data set as published.

    Images are channels first, ``(rows, channels, height, width)`` uint8; plain tables ``(rows, features)`` float32. For
    a table with a schema the inputs are its matrix, float64 with NaN for missing values, or with its texts behind it as
    bytes (`hypermap.data.table_rows`). Targets are int64 class
    indices ``(rows,)``, or numbers for regression (with empty `classes`): float32, or float64 for a table with a
    schema, whose values may need all their digits. Construction checks all that.
    """

    inputs: Array
    targets: Array
    classes: tuple[str, ...]
    maximum: float | None  # the largest possible input value; None if there is none (tables)
    checksum: str  # sha256 of the arrays, independent of the file format
    test_inputs: Array | None = None  # the published test set, if any
    test_targets: Array | None = None
    table: "Schema | None" = None  # describes the columns of `inputs`
    groups: Array | None = None  # (rows,) int64: rows of one group stay together in every split
    times: Array | None = None  # (rows,) float64: the order for splits
    numbers: Array | None = None  # (rows,) int64: row number in the file, from 1
    test_numbers: Array | None = None  # the same for the test file
    validation_rows: Array | None = None  # (rows,) bool: the published validation set, if any
    notes: tuple[str, ...] = ()  # notes about the data for the user, one sentence each
    task: str | None = None  # the dotted path of a task of your own; None: of classes, or of numbers
    preprocessor: str | None = None  # that of a preprocessor of your own; None: `Scaling`, or that of a table
    target_columns: tuple[TargetColumn, ...] = ()  # of targets (rows, columns); empty for one target
    shared: Mapping[str, Array] | None = None  # what belongs to all rows, for the preprocessor, such as a graph

    def __post_init__(self) -> None:
        self._check("", self.inputs, self.targets)
        if self.test_inputs is not None and self.test_targets is not None:
            self._check("test_", self.test_inputs, self.test_targets)
            if self.test_inputs.shape[1:] != self.inputs.shape[1:]:
                raise UserError(
                    f"test_inputs are {self.test_inputs.shape[1:]} each, inputs {self.inputs.shape[1:]}: "
                    "the files are not of one set."
                )

    def _check(self, prefix: str, inputs: Array, targets: Array) -> None:
        allowed = ((np.uint8,) if self.table.texts else (np.float64,)) if self.table else (np.uint8, np.float32)
        if self.preprocessor is not None:
            if inputs.dtype.kind not in "biuf" or not inputs.size:
                raise UserError(f"{prefix}inputs are {inputs.dtype} {inputs.shape}; they must be numbers, and some.")
        elif inputs.ndim not in (2, 4) or inputs.dtype not in allowed or not inputs.size:
            wanted = "float64 and (rows, columns of the table's matrix)" if self.table else IMAGES_OR_NUMBERS
            raise UserError(f"{prefix}inputs are {inputs.dtype} {inputs.shape}; they must be {wanted}.")
        if len(targets) != len(inputs) or (targets.ndim != 1 and self.task is None):
            raise UserError(f"{len(inputs)} {prefix}inputs, but {prefix}targets of shape {targets.shape}.")
        finite = not np.isinf(inputs).any() if self.table or self.preprocessor else np.isfinite(inputs).all()
        if not (finite and np.isfinite(targets).all()):
            raise UserError(f"{prefix}inputs or {prefix}targets have values that are missing or infinite.")
        if self.classes and not (targets.min() >= 0 and targets.max() < len(self.classes)):
            raise UserError(
                f"{prefix}targets go from {targets.min()} to {targets.max()}; with {len(self.classes)} classes "
                f"they are 0 to {len(self.classes) - 1}."
            )

    @property
    def labels(self) -> Array | None:
        """Which of several targets' classes each row has, ``(rows, labels)`` bool, for splits; None for one target."""
        return (
            labels_of(self.targets, [column.classes for column in self.target_columns]) if self.target_columns else None
        )

    @classmethod
    def of(
        cls,
        inputs: Array,
        targets: Array,
        classes: Sequence[str] = (),
        maximum: float | None = None,
        test_inputs: Array | None = None,
        test_targets: Array | None = None,
        task: type[Task] | str | None = None,
        preprocessor: type[Preprocessor] | str | None = None,
        **others: Any,
    ) -> "Raw":
        """Return a `Raw` of these arrays: the targets' dtype is set, but for a task of your own, and the checksum is
        computed; `others` are its last fields.
        """
        dtype = np.int64 if classes else np.float64 if others.get("table") else np.float32
        if task is None:
            targets = np.asarray(targets, dtype)
            test_targets = None if test_targets is None else np.asarray(test_targets, dtype)
        checksum = _sha256([inputs, targets, test_inputs, test_targets, *(others.get("shared") or {}).values()])
        others |= {"task": path_of(task), "preprocessor": path_of(preprocessor)}
        return cls(inputs, targets, tuple(classes), maximum, checksum, test_inputs, test_targets, **others)


class RawRows(NamedTuple):
    """Rows to predict, as a reader's ``read_rows(paths, manifest)`` yields them."""

    inputs: Array  # as in `Raw`
    columns: Mapping[str, Sequence[Any]] = MappingProxyType({})  # what stands beside the predictions, such as a file


def digits() -> Raw:
    """Return UCI handwritten digits, part of scikit-learn: 1797 images of 8×8, pixels 0 to 16, 10 classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Raw.of(data.images[:, np.newaxis].astype(np.uint8), data.target, DIGITS, maximum=16.0)


def breast_cancer() -> Raw:
    """Return Breast cancer Wisconsin (diagnostic), part of scikit-learn: 569 rows, 30 features, 2 classes."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return Raw.of(data.data.astype(np.float32), data.target, [str(name) for name in data.target_names])


def diabetes() -> Raw:
    """Return Diabetes progression, part of scikit-learn: 442 rows, 10 features (original units); regression."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return Raw.of(data.data.astype(np.float32), data.target)


def mnist(root: str | None = None) -> Raw:
    """Return MNIST: 60,000 training and 10,000 test images of 28×28, 10 digits.

    Args:
        root: a folder with the four idx files, gzipped or not; None: ``HYPERMAP_DATA``, else a download.

    Raises:
        UserError: a file is missing, damaged or not the published one.
    """
    return _read_idx_set("mnist", DIGITS, root)


def fashion_mnist(root: str | None = None) -> Raw:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images of 28×28, 10 classes; `root` as for `mnist`."""
    return _read_idx_set("fashion_mnist", GARMENTS, root)


def cifar10(root: str | None = None, batches: Sequence[int] = (1, 2, 3, 4, 5)) -> Raw:
    """Return CIFAR-10: five training batches of 10,000 color images of 32×32 and a test batch, 10 classes.

    Args:
        root: a folder with the official archive of the binary version or its ``.bin`` files (plain, gz or xz); None:
            ``HYPERMAP_DATA``, else a download. The Python version, a pickle, is never read.
        batches: which of the training batches, from 1 to 5, in the order given.

    Raises:
        UserError: a batch is missing, damaged or not the published one.
    """
    _check_batches(batches)
    train, test = _read_cifar_batches(root, [f"data_batch_{number}.bin" for number in batches])
    parts = [_parse_cifar(content, origin) for origin, content in train]
    inputs, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    test_inputs, test_targets = _parse_cifar(test[1], test[0])
    return Raw.of(inputs, targets, OBJECTS, 255.0, test_inputs, test_targets)


# Idx files, http://yann.lecun.com/exdb/mnist: a four-byte magic, the sizes as big-endian int32, the values.


def _read_idx_set(dataset: str, classes: Sequence[str], root: str | None) -> Raw:
    paths = download.locate(dataset, IDX_FILES, root)
    inputs, targets, test_inputs, test_targets = (
        _parse_idx(_read(path), dimensions, str(path)) for path, dimensions in zip(paths, (3, 1, 3, 1), strict=True)
    )
    _check_pair(paths[0], inputs, paths[1], targets, len(classes))
    _check_pair(paths[2], test_inputs, paths[3], test_targets, len(classes))
    return Raw.of(inputs[:, np.newaxis], targets, classes, 255.0, test_inputs[:, np.newaxis], test_targets)


def _parse_idx(content: bytes, dimensions: int, origin: str) -> Array:
    """Return the array of an idx file of unsigned bytes with the given number of dimensions."""
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise UserError(f"{origin}: begins with {content[:4].hex()}, not with {magic.hex()}: no idx file of this kind.")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise UserError(f"{origin}: ends within its header; the file is truncated.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">i4", dimensions, offset=4))
    if min(shape) < 1 or len(content) - start != math.prod(shape):
        raise UserError(f"{origin}: the header says {shape}, but {len(content) - start} values follow; get it again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check_pair(images: Path, inputs: Array, labels: Path, targets: Array, classes: int) -> None:
    if len(inputs) != len(targets):
        raise UserError(f"{images} has {len(inputs)} images and {labels} {len(targets)} labels: not of one set.")
    if targets.max() >= classes:
        raise UserError(f"{labels}: has label {targets.max()}; labels go from 0 to {classes - 1}.")


# CIFAR-10's binary version, https://www.cs.toronto.edu/~kriz/cifar.html: each record is a byte for the label,
# then the red, green and blue planes, row by row.


def _parse_cifar(content: bytes, origin: str) -> tuple[Array, Array]:
    """Return images ``(rows, 3, 32, 32)`` uint8 and labels ``(rows,)`` uint8 of a batch file."""
    length = 1 + math.prod(CIFAR_SHAPE)
    if not content or len(content) % length:
        raise UserError(f"{origin}: {len(content)} bytes are no whole number of {length}-byte records; get it again.")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    if records[:, 0].max() >= len(OBJECTS):
        raise UserError(f"{origin}: has label {records[:, 0].max()}; labels go from 0 to {len(OBJECTS) - 1}.")
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), records[:, 0]


def _check_batches(batches: Sequence[int]) -> None:
    numbers = list(batches) if isinstance(batches, Sequence) else []
    known = all(isinstance(number, int) and 1 <= number <= 5 for number in numbers)
    if not numbers or not known or len(set(numbers)) < len(numbers):
        raise UserError(f"data.batches is {batches!r}; give different numbers from 1 to 5, for instance [1, 2].")


NamedBytes = tuple[str, bytes]  # its origin, for errors, and the uncompressed content


def _read_cifar_batches(root: str | None, names: Sequence[str]) -> tuple[list[NamedBytes], NamedBytes]:
    """Return the named training batches, with verified checksums, and the test batch."""
    given = download.given_folder(root)
    places = _cifar_places(given)
    found = [*(_find_batch(places, name) for name in names), _find_test_batch(places)]
    if archive := _find_archive(given, places, needed=None in found):
        *train, test = _read_archive(archive, [*names, "test_batch.bin"])
    elif given and None in found:
        wanted = zip([*names, "test_batch.bin"], found, strict=True)
        raise _missing_batches(given, places, [name for name, path in wanted if path is None])
    else:
        *train, test = [(str(path), _read(path)) for path in found if path]
    for name, (origin, content) in zip(names, train, strict=True):
        download.verify_content("cifar10", name, content, origin)
    return train, test


def _cifar_places(given: Path | None) -> list[Path]:
    bases = [given / "cifar10", given] if given else [DOWNLOADS / "cifar10"]
    return [place for base in bases for place in (base, base / CIFAR_FOLDER)]


def _find_batch(places: Sequence[Path], name: str) -> Path | None:
    return download.find(places, [name + suffix for suffix in COMPRESSIONS])


def _find_test_batch(places: Sequence[Path]) -> Path | None:
    """Return the official test batch, or else a file whose name says that it is a part of it."""
    patterns = [f"test_batch*.bin{suffix}" for suffix in COMPRESSIONS]
    parts = (path for place in places for pattern in patterns for path in sorted(place.glob(pattern)))
    return _find_batch(places, "test_batch.bin") or next(parts, None)


def _find_archive(given: Path | None, places: Sequence[Path], needed: bool) -> Path | None:
    """Return the official archive, checksum verified; download it if needed and the user gave no folder."""
    archive = download.find(places, [CIFAR_ARCHIVE])
    if given is None and (archive or needed):
        return download.locate("cifar10", [CIFAR_ARCHIVE], None)[0]
    if archive:
        download.verify_file("cifar10", archive)
    return archive


def _missing_batches(folder: Path, places: Sequence[Path], missing: Sequence[str]) -> UserError:
    numbers = [n for n in range(1, 6) if _find_batch(places, f"data_batch_{n}.bin")]
    listed = f"[{','.join(map(str, numbers))}]"
    advice = "The binary version is needed, not the Python one. "
    if numbers and missing != ["test_batch.bin"]:
        advice += f"Batches {listed} are there: data.batches={listed} would use them. "
    return download.missing_files("cifar10", folder, missing, advice)


def _read_archive(archive: Path, names: Sequence[str]) -> list[NamedBytes]:
    """Return members of the archive by file name, without unpacking to disk."""
    contents: dict[str, bytes] = {}
    with _naming(archive), tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            if name in names and (file := members.extractfile(member)):
                contents[name] = file.read()
    if missing := [name for name in names if name not in contents]:
        raise UserError(f"{archive}: holds no {', '.join(missing)}; it is not the archive of the binary version.")
    return [(f"{archive}, {name}", contents[name]) for name in names]


def _read(path: Path) -> bytes:
    """Return the content of a file, uncompressed according to its suffix."""
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
    with _naming(path), openers.get(path.suffix, open)(path, "rb") as file:
        content: bytes = file.read()
    return content


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors of damaged compressed files into a `UserError` with the file's name."""
    try:
        yield
    except DAMAGED as error:
        raise UserError(f"{path}: truncated or damaged ({error}); remove it and get it again.") from error


def _sha256(arrays: Iterable[Array | None]) -> str:
    """Return the checksum of arrays with their dtypes and shapes, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
