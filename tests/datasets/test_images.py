"""Files are written here in their original formats, byte by byte, and read back."""

import gzip
import hashlib
import io
import lzma
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from hypermap.core.errors import UserError
from hypermap.datasets import download, images
from hypermap.datasets.images import Raw

REAL = os.environ.get(download.FOLDER_VARIABLE, "")


@pytest.fixture(autouse=True)
def _no_folder_named(monkeypatch, tmp_path):
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


# Sets embedded in scikit-learn.


def test_digits_are_scikit_learns():
    raw, theirs = images.digits(), datasets.load_digits()
    assert raw.inputs.shape == (1797, 1, 8, 8)
    assert raw.inputs.dtype == np.uint8
    assert raw.targets.dtype == np.int64
    np.testing.assert_array_equal(raw.inputs.reshape(1797, 64), theirs.data)
    np.testing.assert_array_equal(raw.targets, theirs.target)
    assert raw.maximum == raw.inputs.max() == 16
    assert raw.classes == tuple("0123456789")
    assert raw.test_inputs is None


def test_breast_cancer_is_a_table_with_two_named_classes():
    raw = images.breast_cancer()
    np.testing.assert_allclose(raw.inputs, datasets.load_breast_cancer().data, rtol=1e-6)
    assert raw.inputs.dtype == np.float32
    assert raw.classes == ("malignant", "benign")
    assert raw.maximum is None


def test_diabetes_is_regression_in_its_own_units():
    raw = images.diabetes()
    assert raw.classes == ()
    assert raw.targets.dtype == np.float32
    np.testing.assert_allclose(raw.inputs, datasets.load_diabetes(scaled=False).data, rtol=1e-6)
    assert raw.inputs[0, 0] == 59  # the age of the first patient


# Idx files.


def idx(array):
    return struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def arrays(seed=0, train=6, test=4):
    generator = np.random.default_rng(seed)
    return {
        "train-images-idx3-ubyte": generator.integers(0, 256, (train, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(train) % 10,
        "t10k-images-idx3-ubyte": generator.integers(0, 256, (test, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(test)[::-1] % 10,
    }


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "mine" / "mnist"
    folder.mkdir(parents=True)
    for name, array in arrays().items():
        (folder / name).write_bytes(idx(array))
    return folder


def publish(monkeypatch, dataset, folder):
    """Make the checksums of these files the published ones."""
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setitem(download.MD5, dataset, sums)


def compress(folder):
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("root", ["mine", "mine/mnist"])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_are_read_plain_and_gzipped(idx_folder, monkeypatch, root, compressed):
    if compressed:
        compress(idx_folder)
        publish(monkeypatch, "mnist", idx_folder)
    raw, written = images.mnist(root), arrays()
    np.testing.assert_array_equal(raw.inputs[:, 0], written["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.targets, written["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(raw.test_inputs[:, 0], written["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(raw.test_targets, written["t10k-labels-idx1-ubyte"])
    assert raw.maximum == 255


def test_checksum_does_not_depend_on_the_container(idx_folder, monkeypatch):
    plain = images.mnist("mine").checksum
    compress(idx_folder)
    publish(monkeypatch, "mnist", idx_folder)
    assert images.mnist("mine").checksum == plain
    assert len(plain) == 64


def test_environment_variable_names_the_folder_and_root_comes_first(idx_folder, monkeypatch):
    monkeypatch.setenv(download.FOLDER_VARIABLE, "mine")
    assert len(images.mnist().inputs) == 6
    Path("other").mkdir()
    with pytest.raises(UserError, match="other"):
        images.mnist("other")


def test_files_put_into_the_default_folder_need_no_download(idx_folder, tmp_path):
    (tmp_path / "data/raw").mkdir(parents=True)
    idx_folder.rename(tmp_path / "data/raw/mnist")
    assert len(images.mnist().inputs) == 6


def test_missing_files_are_named_with_the_way_out(idx_folder):
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError) as told:
        images.mnist("mine")
    for word in ["mine", "t10k-labels-idx1-ubyte", "data.root", "HYPERMAP_DATA", "download", "data/raw/mnist"]:
        assert word in str(told.value)
    assert "train-images" not in str(told.value)
    assert not Path("data").exists()


def test_a_folder_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(UserError, match=r"data\.root is 'nowhere'"):
        images.fashion_mnist("nowhere")
    monkeypatch.setenv(download.FOLDER_VARIABLE, "gone")
    with pytest.raises(UserError, match="HYPERMAP_DATA is 'gone'"):
        images.cifar10()


def test_wrong_checksum_in_a_users_folder_is_an_error(idx_folder, monkeypatch):
    compress(idx_folder)
    published = download.MD5["mnist"]["train-images-idx3-ubyte.gz"]
    found = hashlib.md5((idx_folder / "train-images-idx3-ubyte.gz").read_bytes()).hexdigest()
    with pytest.raises(UserError) as told:
        images.mnist("mine")
    for word in ["train-images-idx3-ubyte.gz", published, found]:
        assert word in str(told.value)


def test_truncated_gzip_without_a_checksum_is_an_error(idx_folder, monkeypatch):
    compress(idx_folder)
    monkeypatch.setitem(download.MD5, "mnist", {})
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: truncated or damaged"):
        images.mnist("mine")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train-images-idx3-ubyte", b"<html>not found</html>", "no idx file"),
        ("train-images-idx3-ubyte", idx(np.zeros(6)), "no idx file"),  # labels where images belong
        ("train-images-idx3-ubyte", b"", "no idx file"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3, 0]), "truncated"),
        ("train-images-idx3-ubyte", idx(np.zeros((6, 28, 28)))[:-1], "header says"),
        ("train-images-idx3-ubyte", idx(np.zeros((6, 28, 28))) + b"x", "header says"),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 28, 28))), "header says"),
        ("train-images-idx3-ubyte", idx(np.zeros((5, 28, 28))), "5 images"),
        ("train-images-idx3-ubyte", idx(np.zeros((6, 8, 8))), "not of one set"),
        ("t10k-labels-idx1-ubyte", idx(np.array([0, 1, 2, 10])), "label 10"),
    ],
)
def test_damaged_idx_files_are_told(idx_folder, name, content, told):
    (idx_folder / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        images.mnist("mine")


# CIFAR-10.


def cifar_batch(seed, rows=20):
    generator = np.random.default_rng(seed)
    labels = (np.arange(rows) % 10).astype(np.uint8)
    pixels = generator.integers(0, 256, (rows, 3072), dtype=np.uint8)
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True))


@pytest.fixture
def cifar_files(monkeypatch):
    contents = {f"data_batch_{number}.bin": cifar_batch(number) for number in range(1, 6)}
    monkeypatch.setitem(
        download.MD5, "cifar10", {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    )
    return {**contents, "test_batch.bin": cifar_batch(9)}


def put(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def put_archive(folder, contents, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / images.CIFAR_ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setitem(download.MD5["cifar10"], path.name, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_cifar_records_are_a_label_and_three_planes(tmp_path, cifar_files):
    put(tmp_path / "mine/cifar10", cifar_files)
    raw = images.cifar10("mine", batches=[2, 1])
    assert raw.inputs.shape == (40, 3, 32, 32)
    record = cifar_files["data_batch_2.bin"][7 * 3073 : 8 * 3073]  # the eighth image; batch 2 was named first
    assert raw.targets[7] == record[0]
    assert raw.inputs[7, 1, 5, 9] == record[1 + 1024 + 5 * 32 + 9]  # green, row 5, column 9
    assert raw.test_inputs.shape == (20, 3, 32, 32)
    assert raw.classes[0] == "airplane"
    assert raw.classes[9] == "truck"


@pytest.mark.parametrize("place", ["", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_cifar_batches_may_be_compressed_and_lie_in_either_folder(tmp_path, cifar_files, place, suffix, pack):
    put(tmp_path / "plain", cifar_files)
    put(tmp_path / "mine" / place, {name + suffix: pack(content) for name, content in cifar_files.items()})
    assert images.cifar10("mine").checksum == images.cifar10("plain").checksum


def test_cifar_archive_is_read_and_not_unpacked(tmp_path, cifar_files, monkeypatch):
    put(tmp_path / "plain", cifar_files)
    path = put_archive(tmp_path / "mine/cifar10", cifar_files, monkeypatch)
    assert images.cifar10("mine").checksum == images.cifar10("plain").checksum
    assert list(path.parent.iterdir()) == [path]


def test_cifar_archive_in_the_default_folder_is_used(tmp_path, cifar_files, monkeypatch):
    put_archive(tmp_path / "data/raw/cifar10", cifar_files, monkeypatch)
    assert len(images.cifar10().inputs) == 100


def test_cifar_archive_with_a_wrong_checksum_or_without_the_batches_is_an_error(tmp_path, cifar_files, monkeypatch):
    path = put_archive(tmp_path / "mine", {"readme.html": b"x"}, monkeypatch)
    with pytest.raises(UserError, match=r"holds no data_batch_1\.bin"):
        images.cifar10("mine", [1])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="wrong checksum"):
        images.cifar10("mine", [1])
    put_archive(tmp_path / "mine", cifar_files, monkeypatch)
    monkeypatch.delitem(download.MD5["cifar10"], path.name)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match="truncated or damaged"):
        images.cifar10("mine", [1])


def test_a_missing_cifar_batch_is_told_with_those_that_are_there(tmp_path, cifar_files):
    put(tmp_path / "mine", {name: cifar_files[name] for name in ["data_batch_1.bin", "data_batch_2.bin"]})
    with pytest.raises(UserError, match=r"data_batch_3\.bin, .*data\.batches=\[1,2\] would use them"):
        images.cifar10("mine")
    with pytest.raises(UserError, match=r"cifar10: test_batch\.bin not found") as told:
        images.cifar10("mine", [1, 2])
    assert "data.batches" not in str(told.value)


def test_part_of_the_cifar_test_batch_is_accepted_but_the_whole_one_comes_first(tmp_path, cifar_files):
    whole = cifar_files.pop("test_batch.bin")
    put(tmp_path / "mine/cifar10", {**cifar_files, "test_batch_first5.bin.xz": lzma.compress(whole[: 5 * 3073])})
    assert len(images.cifar10("mine", [1]).test_inputs) == 5
    put(tmp_path / "mine", {"test_batch.bin": whole})
    assert len(images.cifar10("mine", [1]).test_inputs) == 20


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("data_batch_1.bin", lambda content: content[:-1] + b"\0", "wrong checksum"),
        ("test_batch.bin", lambda content: content[:-1], "3073-byte records"),
        ("test_batch.bin", lambda content: b"\x0a" + content[1:], "label 10"),
        ("test_batch.bin", lambda content: b"", "3073-byte records"),
    ],
)
def test_damaged_cifar_files_are_told(tmp_path, cifar_files, name, change, told):
    put(tmp_path / "mine", {**cifar_files, name: change(cifar_files[name])})
    with pytest.raises(UserError, match=told) as error:
        images.cifar10("mine", [1])
    assert name in str(error.value)


def test_damaged_xz_is_told(tmp_path, cifar_files):
    packed = lzma.compress(cifar_files.pop("data_batch_1.bin"))
    put(tmp_path / "mine", {**cifar_files, "data_batch_1.bin.xz": packed[:-50]})
    with pytest.raises(UserError, match=r"data_batch_1\.bin\.xz: truncated or damaged"):
        images.cifar10("mine", [1])


@pytest.mark.parametrize("batches", [[], [0], [6], [1, 1], "12", ["1"], 1])
def test_batches_out_of_range_are_told(batches):
    with pytest.raises(UserError, match=r"data\.batches"):
        images.cifar10("mine", batches)


# A reader of one's own.


@pytest.mark.parametrize(
    ("inputs", "targets", "told"),
    [
        (np.zeros((3, 2), np.float64), [0, 1, 0], "float64"),
        (np.zeros((3, 2, 2), np.uint8), [0, 1, 0], r"channels, height, width"),
        (np.zeros((0, 2), np.uint8), [], r"\(0, 2\)"),
        (np.zeros((3, 2), np.uint8), [0, 1], "3 inputs"),
        (np.zeros((3, 2), np.uint8), [0, 1, 2], "from 0 to 2"),
        (np.full((3, 2), np.nan, np.float32), [0, 1, 0], "missing or infinite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(inputs, targets, told):
    with pytest.raises(UserError, match=told):
        Raw.of(inputs, np.array(targets), ["no", "yes"])


# The real files, where somebody has them.


@pytest.mark.skipif(not (Path(REAL) / "mnist").is_dir() or not REAL, reason="no MNIST in HYPERMAP_DATA")
def test_real_mnist_has_its_published_counts():
    raw = images.mnist(REAL)
    assert raw.inputs.shape == (60000, 1, 28, 28)
    # Counts as LeCun's page and every text since give them.
    assert np.bincount(raw.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(raw.test_targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert raw.inputs.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


@pytest.mark.skipif(not (Path(REAL) / "cifar10").is_dir() or not REAL, reason="no CIFAR-10 in HYPERMAP_DATA")
def test_real_cifar_has_the_documented_first_batch():
    raw = images.cifar10(REAL, [1])
    assert raw.inputs.shape == (10000, 3, 32, 32)
    assert [raw.classes[label] for label in raw.targets[:3]] == ["frog", "truck", "truck"]
    assert np.bincount(raw.targets).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
