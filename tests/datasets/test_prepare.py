"""Prepared data sets, compared with what scikit-learn makes of the same rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import preprocess
from hypermap.core import normalize
from hypermap.core.errors import UserError
from hypermap.core.paths import SOURCES
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets import artifact, download, images, prepare
from hypermap.datasets.images import Raw
from hypermap.datasets.tables import dataset
from hypermap.training import artifacts

DIGITS = {"_target_": "hypermap.datasets.images.digits", "test": 0.2}
DIABETES = {"_target_": "hypermap.datasets.images.diabetes", "test": 0.2}
REAL = os.environ.get(download.FOLDER_VARIABLE, "")


def published(root=None, rows=40):
    """A reader of one's own: two channels, two classes, a published test set of its own."""
    del root
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 200, (rows + 10, 2, 3, 3), dtype=np.uint8)
    targets = np.arange(rows + 10) % 2
    return Raw.of(inputs[:rows], targets[:rows], ["even", "odd"], 255.0, inputs[rows:], targets[rows:])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits"
    prepare.prepare_settings(path, DIGITS)
    return path


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


# Splitting.


def test_digits_split_is_the_one_scikit_learn_makes(digits):
    data = load_digits()
    rest, test = train_test_split(np.arange(1797), test_size=0.2, random_state=0, stratify=data.target)
    train, validation = train_test_split(rest, test_size=0.2, random_state=0, stratify=data.target[rest])
    for name, rows in {"train": train, "validation": validation, "test": test}.items():
        split = load(digits, name)
        np.testing.assert_array_equal(split.rows, rows)
        np.testing.assert_array_equal(split.targets, data.target[rows])
        np.testing.assert_allclose(split.inputs.reshape(-1, 64), data.data[rows] / 16, rtol=1e-6)
        assert split.inputs.dtype == torch.float32
        assert split.targets.dtype == split.rows.dtype == torch.int64
        assert split.inputs.shape[1:] == (1, 8, 8)
    assert len(test) == 360


def test_stored_arrays_are_those_published(digits):
    stored = load_file(digits / "train.safetensors")
    assert stored.keys() == {"inputs", "targets", "rows"}
    assert stored["inputs"].dtype == np.uint8
    np.testing.assert_array_equal(stored["inputs"], images.digits().inputs[stored["rows"]])


def test_splits_are_disjoint_and_depend_on_their_seed_alone(tmp_path):
    def rows(seed):
        made = tmp_path / str(seed)
        prepare.prepare_settings(made, {**DIGITS, "split_seed": seed})
        return [load(made, name).rows.tolist() for name in ("train", "validation", "test")]

    first, second = rows(0), rows(1)
    assert sorted(row for rows in first for row in rows) == list(range(1797))
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_published_test_set_is_kept_as_test(tmp_path):
    manifest = prepare.prepare(tmp_path / "made", reader=published, validation=0.25)
    assert manifest.rows == {"train": 30, "validation": 10, "test": 10}
    assert manifest.test_published
    test = load(tmp_path / "made", "test")
    np.testing.assert_array_equal(test.rows, np.arange(10))
    np.testing.assert_allclose(test.inputs, published().test_inputs / 255, rtol=1e-6)


def test_rows_keeps_a_stratified_subset_of_training_and_validation(tmp_path):
    manifest = prepare.prepare(tmp_path / "made", reader=images.digits, test=0.2, rows=200)
    assert manifest.rows == {"train": 160, "validation": 40, "test": 360}
    assert set(manifest.class_counts["validation"]) <= {3, 4, 5}
    everything = prepare.prepare(tmp_path / "all", reader=images.digits, test=0.2, rows=1437)
    assert everything.rows["train"] == 1149


@pytest.mark.parametrize(
    ("reader", "settings", "told"),
    [
        (images.digits, {}, r"digits publishes no test set: give data\.test, for instance 0\.2"),
        (published, {"test": 0.2}, r"published publishes its own test set: leave data\.test out"),
        (published, {"validation": 0}, r"data\.validation is 0;"),
        (published, {"validation": 1.0}, r"data\.validation is 1\.0;"),
        (published, {"validation": "0.2"}, r"data\.validation is '0\.2'"),
        (published, {"validation": True}, r"data\.validation is True"),
        (images.digits, {"test": -0.1}, r"data\.test is -0\.1"),
        (images.digits, {"test": float("nan")}, r"data\.test is nan"),
        (published, {"split_seed": -1}, r"data\.split_seed is -1"),
        (published, {"rows": 0}, r"data\.rows is 0"),
        (published, {"rows": 41}, r"data\.rows is 41; .*40 rows"),
        (published, {"scaling": "standrad"}, r"did you mean 'standard'"),
        (images.digits, {"test": 0.001}, r"data\.test=0\.001: cannot give both parts rows of each of the 10 classes"),
        (images.digits, {"test": 0.2, "rows": 12}, r"data\.validation=0\.2: cannot give"),
        (images.diabetes, {"test": 0.0001, "rows": 2, "validation": 0.9}, r"data\.validation=0\.9: 2 rows"),
    ],
)
def test_settings_that_cannot_be_met_are_told(tmp_path, reader, settings, told):
    with pytest.raises(UserError, match=told):
        prepare.prepare(tmp_path / "made", reader=reader, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rare", [1, 2])
def test_a_class_with_too_few_rows_is_named(tmp_path, rare):
    def reader():
        targets = np.array([0] * 50 + [1] * 50 + [2] * rare)
        return Raw.of(np.zeros((len(targets), 2), np.float32), targets, ["cat", "dog", "okapi"])

    with pytest.raises(UserError, match=f"{rare} of the class 'okapi'"):
        prepare.prepare(tmp_path / "made", reader=reader, test=0.1)


# Scaling.


@pytest.mark.parametrize(("scaling", "scaler"), [("standard", StandardScaler()), ("unit", MinMaxScaler())])
def test_tables_are_scaled_as_scikit_learn_does_from_training_rows_alone(tmp_path, scaling, scaler):
    manifest = prepare.prepare_settings(tmp_path / "made", {**DIABETES, "scaling": scaling})
    table = load_diabetes(scaled=False).data
    scaler.fit(table[load(tmp_path / "made", "train").rows])
    for name in ("train", "validation", "test"):
        split = load(tmp_path / "made", name)
        np.testing.assert_allclose(split.inputs, scaler.transform(table[split.rows]), rtol=1e-4, atol=1e-5)
    assert manifest.fitted_on == {"split": "train", "rows": manifest.rows["train"]}


def test_standard_scaling_of_images_is_one_number_a_channel(tmp_path):
    manifest = prepare.prepare(tmp_path / "made", reader=published, scaling="standard")
    train = load(tmp_path / "made", "train")
    raw = published().inputs[train.rows].astype(np.float64)
    np.testing.assert_allclose(manifest.shift, [raw[:, 0].mean(), raw[:, 1].mean()], rtol=1e-12)
    np.testing.assert_allclose(manifest.scale, [raw[:, 0].std(), raw[:, 1].std()], rtol=1e-12)
    np.testing.assert_allclose(train.inputs.mean((0, 2, 3)), [0, 0], atol=1e-6)
    np.testing.assert_allclose(train.inputs.std((0, 2, 3), correction=0), [1, 1], rtol=1e-6)


@pytest.mark.parametrize("scaling", ["unit", "standard", "none"])
def test_manifest_has_the_mean_and_deviation_a_network_sees(tmp_path, scaling):
    manifest = prepare.prepare(tmp_path / "made", reader=published, scaling=scaling)
    inputs = load(tmp_path / "made", "train").inputs.double()
    np.testing.assert_allclose(manifest.input_mean, inputs.mean((0, 2, 3)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(manifest.input_std, inputs.std((0, 2, 3), correction=0), rtol=1e-6)


@pytest.mark.parametrize("scaling", ["unit", "standard"])
def test_a_constant_feature_becomes_zero_and_not_noise(tmp_path, scaling):
    def reader():
        inputs = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
        inputs[:, 1] = 0.1
        return Raw.of(inputs, np.arange(60) % 2, ["a", "b"])

    manifest = prepare.prepare(tmp_path / "made", reader=reader, test=0.2, scaling=scaling)
    assert manifest.scale[1] == 1
    np.testing.assert_allclose(load(tmp_path / "made", "train").inputs[:, 1], 0, atol=1e-7)


def test_statistics_over_several_blocks_are_those_over_all_rows(monkeypatch):
    inputs = np.random.default_rng(0).normal(50, 3, (1000, 4)).astype(np.float32)
    whole = StandardScaler().fit(inputs.astype(np.float64))
    monkeypatch.setattr("hypermap.core.normalize.BLOCK_ROWS", 7)
    found = normalize.statistics(inputs)
    np.testing.assert_allclose(found.mean, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.std, whole.scale_, rtol=1e-9)


def test_regression_targets_are_stored_raw_and_loaded_standardised(tmp_path):
    manifest = prepare.prepare_settings(tmp_path / "made", DIABETES)
    target = load_diabetes().target
    train = load(tmp_path / "made", "train")
    fitted = StandardScaler().fit(target[train.rows][:, None])
    test = load(tmp_path / "made", "test")
    assert test.targets.dtype == torch.float32
    assert test.targets.shape == (89,)
    np.testing.assert_allclose(test.targets, fitted.transform(target[test.rows][:, None])[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(load_file(tmp_path / "made/test.safetensors")["targets"], target[test.rows])
    assert manifest.target_shift == pytest.approx(target[train.rows].mean())
    assert manifest.task == "regression"
    assert manifest.classes == []


# The manifest, and the bytes.


def test_manifest_says_what_was_done(digits):
    manifest = Manifest.read(digits)
    assert manifest.reader == "hypermap.datasets.images.digits"
    assert manifest.task == "classification"
    assert manifest.shape == [1, 8, 8]
    assert manifest.rows == {"train": 1149, "validation": 288, "test": 360}
    assert (manifest.shift, manifest.scale) == ([0.0], [16.0])
    assert manifest.target_shift is manifest.target_scale is None
    assert manifest.raw_sha256 == images.digits().checksum
    counts = np.sum([manifest.class_counts[name] for name in manifest.rows], axis=0)
    np.testing.assert_array_equal(counts, np.bincount(load_digits().target))


def test_same_settings_same_bytes(digits, tmp_path):
    prepare.prepare(tmp_path / "again", reader=images.digits, test=0.2, validation=0.2)
    assert content(tmp_path / "again") == content(digits)
    assert content(digits).keys() == {
        "train.safetensors",
        "validation.safetensors",
        "test.safetensors",
        "manifest.json",
    }


# Loading.


def test_loading_opens_only_the_split_asked_for(tmp_path):
    prepare.prepare(tmp_path / "made", reader=published)
    (tmp_path / "made/test.safetensors").write_bytes(b"not to be opened")
    assert len(load(tmp_path / "made", "train").rows) == 32
    with pytest.raises(UserError, match=r"test\.safetensors is missing or unreadable"):
        load(tmp_path / "made", "test")
    (tmp_path / "made/validation.safetensors").unlink()
    with pytest.raises(UserError, match=r"validation\.safetensors is missing or unreadable"):
        load(tmp_path / "made", "validation")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"format": 0}', "\udcff"])
def test_a_manifest_that_cannot_be_used_says_what_to_run(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"`dvc repro` or `python src/preprocess\.py`"):
        Manifest.read(tmp_path)


# Settings and their fingerprint.


def test_fingerprint_ignores_root_and_order_and_defaults_but_nothing_else():
    settings = {"_target_": "hypermap.datasets.images.mnist", "validation": 0.2}
    name = prepare.settings_fingerprint(settings)
    assert prepare.settings_fingerprint({"root": "here", **dict(reversed(settings.items()))}) == name
    assert prepare.settings_fingerprint({"_target_": settings["_target_"], "test": None}) == name
    changes = [
        {"validation": 0.3},
        {"split_seed": 1},
        {"scaling": "none"},
        {"rows": 9},
        {"_target_": f"{settings['_target_'].replace('mnist', 'fashion_mnist')}"},
    ]
    names = {prepare.settings_fingerprint({**settings, **change}) for change in changes}
    assert len(names | {name}) == len(changes) + 1


def test_manifest_has_the_fingerprint_of_its_settings(digits):
    assert Manifest.read(digits).fingerprint == prepare.settings_fingerprint(DIGITS)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "no _target_"),
        ({"_target_": "digits"}, "_target_ digits: no such module"),
        ({"_target_": "nowhere.digits"}, "_target_ nowhere.digits: no such module"),
        ({"_target_": "hypermap.datasets.images.digist"}, "no 'digist' there.*did you mean 'digits'"),
        ({"_target_": "hypermap.datasets.images.OBJECTS"}, "neither a function nor a class"),
        ({**DIGITS, "validaton": 0.2}, "does not take 'validaton'"),
        ({**DIGITS, "root": "here"}, "does not take 'root'"),
    ],
)
def test_settings_that_do_not_fit_are_told(tmp_path, settings, told):
    with pytest.raises(UserError, match=told):
        prepare.prepare_settings(tmp_path / "made", settings)


def test_a_candidate_with_these_settings_is_found(digits, tmp_path):
    other = tmp_path / "other"
    prepare.prepare_settings(other, {**DIGITS, "split_seed": 3})
    assert prepare.find_or_prepare(DIGITS, [tmp_path / "none", other, digits], tmp_path / "cache") == digits
    assert not (tmp_path / "cache").exists()


def test_without_a_candidate_it_is_prepared_once(tmp_path, monkeypatch):
    made = prepare.find_or_prepare(DIGITS, [], tmp_path / "cache")
    assert made == tmp_path / "cache" / prepare.settings_fingerprint(DIGITS)
    monkeypatch.setattr(prepare, "prepare", None)
    assert prepare.find_or_prepare(DIGITS, [], tmp_path / "cache") == made


def test_a_folder_that_is_not_whole_is_prepared_anew(digits, tmp_path):
    made = prepare.find_or_prepare(DIGITS, [], tmp_path / "cache")
    (made / "test.safetensors").unlink()
    assert prepare.find_or_prepare(DIGITS, [], tmp_path / "cache") == made
    (made / "manifest.json").write_text("{")
    assert prepare.find_or_prepare(DIGITS, [made], tmp_path / "cache") == made
    assert content(made) == content(digits)


# Tables of one's own, whose files may change at any time.


def people(shift=0, rows=60):
    """A table whose target needs more than a float32's digits."""
    towns = ["here", "there", "elsewhere"]
    lines = [f"{k % 7},{towns[k % 3]},{1_600_000_000 + (k * 7) % rows + shift}" for k in range(rows)]
    return "\n".join(["age,town,seconds", *lines]) + "\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "people.csv").write_text(people())
    path = str(tmp_path / "people.csv")
    return {"_target_": "hypermap.datasets.tables.dataset.table", "path": path, "target": "seconds", "test": 0.2}


def edit_once_read(monkeypatch, path):
    """Have a person save the file when its rows have been read, and its checksum has not been taken again."""

    def read_rows(*given, **settings):
        rows = read(*given, **settings)
        path.write_text(people(shift=5))
        return rows

    read = dataset.read_rows
    monkeypatch.setattr(dataset, "read_rows", read_rows)


def test_a_file_that_is_edited_while_it_is_read_is_refused(table, tmp_path, monkeypatch):
    edit_once_read(monkeypatch, tmp_path / "people.csv")
    with pytest.raises(UserError, match=r"people\.csv changed while it was being read: run it again"):
        prepare.find_or_prepare(table, [], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    made = prepare.find_or_prepare(table, [], tmp_path / "cache")
    assert load_raw(made, "train").targets.min() >= 1_600_000_005


def test_files_are_held_to_what_they_are_pinned_to(table, tmp_path, digits):
    checksum = prepare.file_checksum(table)
    pinned = prepare.Pinned(checksum, "changed since noon.")
    prepare.prepare_settings(tmp_path / "made", table, pinned)
    before = content(tmp_path / "made")
    (tmp_path / "people.csv").write_text(people(shift=1))
    for prepared in (
        lambda: prepare.prepare_settings(tmp_path / "made", table, pinned),
        lambda: prepare.find_or_prepare(table, [tmp_path / "made"], tmp_path / "cache", pinned),
    ):
        with pytest.raises(UserError, match=r"people\.csv changed since noon\."):
            prepared()
    assert content(tmp_path / "made") == before
    assert prepare.find_or_prepare(DIGITS, [digits], tmp_path / "cache", pinned) == digits  # published files


def test_the_stage_refuses_a_file_that_changed_after_the_stage_before_it(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["src/preprocess.py"])
    part = {"data": {"name": "table", **table}, "files_sha256": prepare.file_checksum(table)}
    Path("reports/config").mkdir(parents=True)
    Path("reports/config/preprocess.yaml").write_text(yaml.safe_dump(part))
    preprocess.main()
    assert Manifest.read(Path("data/prepared")).rows["train"] == 38
    (tmp_path / "people.csv").write_text(people(shift=1))
    with pytest.raises(UserError, match=r"people\.csv changed since python src/compose\.py .* run dvc repro again"):
        preprocess.main()


def test_another_scikit_learn_prepares_tables_anew(table, monkeypatch):
    before = [prepare.settings_fingerprint(settings) for settings in (table, DIGITS)]
    monkeypatch.setattr("importlib.metadata.version", lambda package: f"{package} 99")
    after = [prepare.settings_fingerprint(settings) for settings in (table, DIGITS)]
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("log", [None, "log"])
def test_the_targets_of_a_table_keep_all_their_digits(table, tmp_path, log):
    prepare.prepare_settings(tmp_path / "made", {**table, "target_transform": log})
    expected = 1_600_000_000 + (np.arange(-1, 60) * 7) % 60  # by the row in the file, from 1
    train = load_raw(tmp_path / "made", "train")
    assert train.targets.dtype == torch.float64
    np.testing.assert_array_equal(train.targets, expected[train.rows])
    known = (np.log(expected) if log else expected)[train.rows, None]
    scaler = StandardScaler().fit(known)
    learned = load(tmp_path / "made", "train")
    assert learned.targets.dtype == torch.float32
    np.testing.assert_allclose(learned.targets, scaler.transform(known)[:, 0], rtol=1e-5, atol=1e-6)
    test = load(tmp_path / "made", "test")
    transform = read_transform(tmp_path / "made")
    np.testing.assert_allclose(artifacts.targets(test, transform), expected[test.rows], rtol=0, atol=1e-4)


# Whole or absent.


def test_another_preparation_is_replaced_and_a_foreign_folder_refused(digits, tmp_path):
    made = tmp_path / "made"
    prepare.prepare(made, reader=published)
    prepare.prepare_settings(made, DIGITS)
    assert content(made) == content(digits)
    (made / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        prepare.prepare(made, reader=published)
    assert (made / "thesis.tex").exists()
    assert list(tmp_path.iterdir()) == [made]


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(digits, tmp_path, monkeypatch):
    prepare.prepare(tmp_path / "made", reader=published)
    before = content(tmp_path / "made")

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hypermap.core.files.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        prepare.prepare_settings(tmp_path / "made", DIGITS)
    assert content(tmp_path / "made") == before
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


PROCESS = """
import pathlib, sys, time
from hypermap.core import files
from hypermap.datasets import prepare
write, (cache, signs, pause) = files.write_bytes, sys.argv[1:]
def slow(path, content):
    write(path, content)
    (pathlib.Path(signs) / path.parent.name).touch()
    while len(list(pathlib.Path(signs).iterdir())) < 2 or pause == "forever":  # until both are in the middle
        time.sleep(0.01)
files.write_bytes = slow
settings = {"_target_": "hypermap.datasets.images.digits", "test": 0.2}
print(prepare.find_or_prepare(settings, [], pathlib.Path(cache)))
"""


def start(cache, signs, pause):
    signs.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", PROCESS, str(cache), str(signs), pause]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_make_one_whole_folder(digits, tmp_path):
    cache = tmp_path / "cache"
    both = [start(cache, tmp_path / "signs", "meet") for _ in range(2)]
    answers = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (made,) = cache.iterdir()
    assert answers == {str(made)}
    assert content(made) == content(digits)


def test_a_process_killed_in_the_middle_leaves_nothing_that_matters(digits, tmp_path):
    cache, signs = tmp_path / "cache", tmp_path / "signs"
    process = start(cache, signs, "forever")
    deadline = time.monotonic() + 60
    while not list(signs.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (leftover,) = cache.iterdir()
    assert leftover.name.startswith(".")

    made = prepare.find_or_prepare(DIGITS, [], cache)
    assert content(made) == content(digits)
    assert leftover.exists()  # whoever owns it may still be alive
    long_ago = time.time() - 2 * artifact.STALE_S
    os.utime(leftover, (long_ago, long_ago))
    prepare.prepare_settings(made, DIGITS)
    assert list(cache.iterdir()) == [made]


def test_preparing_imports_no_torch():
    code = "import sys, hypermap.datasets.prepare; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.skipif(not REAL or not (Path(REAL) / "mnist").is_dir(), reason="no MNIST in HYPERMAP_DATA")
def test_real_mnist_is_prepared(tmp_path):
    manifest = prepare.prepare_settings(tmp_path / "made", {"_target_": "hypermap.datasets.images.mnist", "root": REAL})
    assert manifest.rows == {"train": 48000, "validation": 12000, "test": 10000}
    assert manifest.input_mean == pytest.approx([0.1307], abs=5e-4)  # the figures everyone knows: 0.1307, 0.3081
    assert manifest.input_std == pytest.approx([0.3081], abs=5e-4)
    assert REAL not in json.dumps(manifest)


OWN = """
from pathlib import Path
import numpy as np
from hypermap.datasets.images import Raw

def pictures(path: str) -> Raw:
    files = sorted(Path(path).glob("*/*.npy"))
    classes = sorted({file.parent.name for file in files})
    return Raw.of(np.stack([np.load(file) for file in files]), [classes.index(f.parent.name) for f in files], classes)
"""


def test_a_reader_of_ones_own_is_asked_again_when_its_folder_or_its_code_changes(tmp_path, monkeypatch):
    module = tmp_path / "own_reader.py"
    module.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for k in range(20):
        path = tmp_path / "scans" / "ab"[k % 2] / f"{k}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((1, 2, 2), k, np.float32))
    settings = {"_target_": "own_reader.pictures", "path": str(tmp_path / "scans"), "test": 0.2}

    def folder():
        return prepare.find_or_prepare(settings, [], tmp_path / "cache")

    first = folder()
    assert folder() == first
    assert Manifest.read(first).classes == ["a", "b"]
    np.save(tmp_path / "scans" / "a" / "20.npy", np.zeros((1, 2, 2), np.float32))
    more = folder()
    assert sum(Manifest.read(more).rows.values()) == 21
    (tmp_path / "scans" / "a" / "20.npy").rename(tmp_path / "scans" / "b" / "20.npy")  # the same content elsewhere
    assert folder() not in (first, more)
    (tmp_path / "scans" / "b" / "20.npy").unlink()
    assert folder() == first
    module.write_text(OWN + "# changed\n")
    assert folder() != first
