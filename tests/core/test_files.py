import csv
import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from hypermap.core import files

EXACT = [0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, -0.0, 2**53 + 2.0, math.pi, 1e22, float(np.float32(0.1))]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "text", "Grüße\n")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "Grüße\n".encode()
    assert names(tmp_path / "a" / "b") == ["text"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    files.write_text(path, "old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_is_named_and_not_its_temporary_one(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match="Read-only") as told:
        files.write_text(tmp_path / "file", "new")
    assert told.value.filename == str(tmp_path / "file")


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_text(path, "old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def inodes_brought_to_disk(monkeypatch):
    """The inode of each file that is brought to the disk, as it happens."""
    inodes, fsync = [], os.fsync

    def noted(handle):
        inodes.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return inodes


def test_files_written_together_are_in_their_places_at_once_and_come_to_the_disk_at_the_end(tmp_path, monkeypatch):
    inodes = inodes_brought_to_disk(monkeypatch)
    with files.durable_together():
        files.write_text(tmp_path / "one", "old")
        with files.durable_together():
            files.write_text(tmp_path / "one", "new")
            files.write_text(tmp_path / "gone", "")
        files.write_text(tmp_path / "two", "2")
        (tmp_path / "gone").unlink()
        assert names(tmp_path) == ["one", "two"]
        assert (tmp_path / "one").read_text() == "new"
        assert inodes == []
    assert sorted(inodes) == sorted((tmp_path / name).stat().st_ino for name in ("one", "two"))
    files.write_text(tmp_path / "three", "")
    assert inodes[2:] == [(tmp_path / "three").stat().st_ino]


def test_an_error_among_files_written_together_is_told_and_those_before_it_come_to_the_disk(tmp_path, monkeypatch):
    inodes = inodes_brought_to_disk(monkeypatch)

    def write():
        files.write_text(tmp_path / "one", "")
        files.write_json(tmp_path / "two", math.nan)

    with pytest.raises(ValueError, match="JSON"), files.durable_together():
        write()
    assert inodes == [(tmp_path / "one").stat().st_ino]

    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), files.durable_together():
        files.write_text(tmp_path / "three", "")


def test_a_value_that_json_cannot_hold_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    files.write_json(path, [1])
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, [math.nan])
    assert json.loads(path.read_text()) == [1]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_mode_bits_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "ours", "")
        (tmp_path / "any").touch()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "any")]
    assert modes == [0o666 & ~mask] * 2
    assert os.umask(before) == before


def test_json_reads_back_exactly_in_the_order_given(tmp_path):
    value = {"b": EXACT, "a": {"z": None, "y": True}}
    files.write_json(tmp_path / "file", value)
    text = (tmp_path / "file").read_text()
    assert json.loads(text) == value
    assert list(json.loads(text)) == ["b", "a"]
    assert text.endswith("}\n")


def test_csv_floats_read_back_exactly(tmp_path):
    rows = [{"epoch": index, "value": value} for index, value in enumerate(EXACT)]
    files.write_csv(tmp_path / "file", ("epoch", "value"), [*rows, {"epoch": 99, "value": np.float64(1 / 3)}])
    with (tmp_path / "file").open(newline="") as file:
        read = list(csv.DictReader(file))
    values = [float(row["value"]) for row in read]
    assert [value.hex() for value in values] == [value.hex() for value in [*EXACT, 1 / 3]]
    assert read[3]["epoch"] == "3"
    assert b"\r" not in (tmp_path / "file").read_bytes()


def test_csv_columns_stand_in_the_order_given(tmp_path):
    files.write_csv(tmp_path / "file", ("b", "a"), [{"a": 1, "b": 'x, "y"'}])
    assert (tmp_path / "file").read_text() == 'b,a\n"x, ""y""",1\n'
    with pytest.raises(ValueError, match="c"):
        files.write_csv(tmp_path / "file", ("a",), [{"a": 1, "c": 2}])
