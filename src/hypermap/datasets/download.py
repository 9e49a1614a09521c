"""The files of published data sets: from a folder of the user, or downloaded and checked against a checksum."""

import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hypermap.core.errors import UserError
from hypermap.core.paths import DOWNLOADS

FOLDER_VARIABLE = "HYPERMAP_DATA"

# Tried in this order; a file's name is appended.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
    "adult": ("https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",),
    "titanic": ("https://raw.githubusercontent.com/mwaskom/seaborn-data/master/",),
    "german_credit": ("https://archive.ics.uci.edu/ml/machine-learning-databases/statlog/german/",),
    "bank_marketing": ("https://raw.githubusercontent.com/sbpravallika/Data-science-group-project/master/bank/",),
    "wine_quality": ("https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/",),
    "california_housing": ("https://raw.githubusercontent.com/ageron/handson-ml/master/datasets/housing/",),
}

# Published checksums of the gzip files, of the archive, and of the uncompressed batches in it. For titanic,
# bank_marketing and california_housing none are published: theirs are of the files as of 2026.
MD5: dict[str, dict[str, str]] = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    },
    "adult": {
        "adult.data": "5d7c39d7b8804f071cdd1f2a7c460872",
        "adult.test": "35238206dfdf7f1fe215bbb874adecdc",
    },
    "titanic": {"titanic.csv": "56f29cc0b807cb970a914ed075227f94"},
    "german_credit": {"german.data": "6b94c2e35480e671545e52a808a8a549"},
    "bank_marketing": {"bank.csv": "944f66cf13a6ca16b7d3dc6db12856eb"},
    "wine_quality": {
        "winequality-red.csv": "2daeecee174368f8a33b82c8cccae3a5",
        "winequality-white.csv": "5d9ff0f7f716dace19e3ab4578775fd7",
    },
    "california_housing": {"housing.csv": "d1c47305887e2252bf1ccbd74ff159a6"},
}


def given_folder(root: str | None) -> Path | None:
    """Return the folder given by `root` or the environment variable ``HYPERMAP_DATA``; None if neither is set.

    Raises:
        UserError: that folder does not exist.
    """
    name = root or os.environ.get(FOLDER_VARIABLE)
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        origin = "data.root" if root else FOLDER_VARIABLE
        raise UserError(f"{origin} is {name!r}; no such folder. Name another, or unset it to download.")
    return folder


def find(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """Return the first existing file: folder by folder, and in each by the order of names."""
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def locate(dataset: str, names: Sequence[str], root: str | None) -> list[Path]:
    """Return paths of the gzip files of `dataset`, with verified checksums; each may also be uncompressed.

    A folder given by the user is only read. Without one, missing files are downloaded to ``data/raw/<dataset>/``.

    Raises:
        UserError: files are missing from the user's folder, a checksum is wrong, or no mirror answered.
    """
    folder = given_folder(root)
    if folder is None:
        return [_downloaded_before(dataset, name) or download(dataset, name) for name in names]
    places = [folder / dataset, folder]
    found = {name: find(places, _spellings(name)) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        raise missing_files(dataset, folder, missing)
    paths = [path for path in found.values() if path is not None]
    for path in paths:
        verify_file(dataset, path)
    return paths


def missing_files(dataset: str, folder: Path, names: Sequence[str], advice: str = "") -> UserError:
    """Return the error for files missing from a folder given by the user."""
    return UserError(
        f"{dataset}: {', '.join(names)} not found in {folder / dataset} or {folder}. {advice}"
        f"Put the files there, name another folder with data.root or {FOLDER_VARIABLE}, or unset both to "
        f"download them to {DOWNLOADS / dataset}."
    )


def verify_file(dataset: str, path: Path) -> None:
    """Check a file's bytes against the published md5, if there is one for its name.

    Raises:
        UserError: they differ; with the file, the expected and the actual checksum.
    """
    if path.name in MD5[dataset]:
        with path.open("rb") as file:
            _compare(str(path), MD5[dataset][path.name], hashlib.file_digest(file, "md5").hexdigest())


def verify_content(dataset: str, name: str, content: bytes, origin: str) -> None:
    """Check uncompressed `content` against the md5 published for `name`; `origin` is its name in an error."""
    if name in MD5[dataset]:
        _compare(origin, MD5[dataset][name], hashlib.md5(content, usedforsecurity=False).hexdigest())


def download(dataset: str, name: str) -> Path:
    """Download one file to ``data/raw/<dataset>/``, from the first mirror that delivers it intact.

    Raises:
        UserError: no mirror did; with the answer of each. No partial file is left behind.
    """
    failures = []
    for mirror in MIRRORS[dataset]:
        try:
            return _retrieve(mirror + name, DOWNLOADS / dataset / name, MD5[dataset][name])
        except UserError as error:
            failures.append(f"  {mirror}{name}: {error}")
    raise UserError(
        f"{dataset}: {name} could not be downloaded.\n" + "\n".join(failures) + "\nTry again later, or put "
        f"the files in a folder and name it with data.root=FOLDER or {FOLDER_VARIABLE}=FOLDER."
    )


def _retrieve(url: str, path: Path, md5: str) -> Path:
    """Download with pooch, which writes a temporary file and renames it if the checksum is right."""
    import pooch  # slow to import, and rarely needed
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    print(f"Downloading {path.name} from {urlsplit(url).hostname}", file=sys.stderr)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16)
    try:
        pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
    except (requests.RequestException, ValueError) as error:  # ValueError: pooch's error for a wrong checksum
        raise UserError(" ".join(str(error).split())) from error
    return path


def _downloaded_before(dataset: str, name: str) -> Path | None:
    path = find([DOWNLOADS / dataset], _spellings(name))
    try:
        if path is not None:
            verify_file(dataset, path)
    except UserError:
        return None  # a damaged file in our own folder is downloaded again
    return path


def _spellings(name: str) -> tuple[str, str]:
    return name, name.removesuffix(".gz")


def _compare(origin: str, expected: str, found: str) -> None:
    if found != expected:
        raise UserError(
            f"{origin}: wrong checksum, so the file is damaged or another one (md5 expected {expected}, found "
            f"{found}). Remove it and get it again."
        )
