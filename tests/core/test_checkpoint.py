import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hypermap.core import checkpoint
from hypermap.core.checkpoint import Checkpoint
from hypermap.core.errors import UserError
from hypermap.core.paths import SOURCES

HOLDER = """
import sys, time
from pathlib import Path
from hypermap.core.checkpoint import own_folder
with own_folder(Path(sys.argv[1]), "run") as folder:
    print(folder.name, flush=True)
    time.sleep(60)
"""


def state(value=1.0):
    tensors = {"model/a": torch.full((2, 3), value), "model/b/c": torch.tensor(3), "best/a": torch.zeros(0)}
    return Checkpoint(tensors, {"history": [{"epoch": 1, "loss": 1 / 3}], "schedule": {"best": None}})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(first, second):
    assert first.record == second.record
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name])
        assert tensor.dtype == second.tensors[name].dtype


# Writing and reading.


def test_a_state_reads_back_exactly(tmp_path):
    checkpoint.save(tmp_path / "new", 1, state())
    assert_same(checkpoint.load(tmp_path / "new"), state())


def test_no_state_is_none(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "absent") is None


def test_a_part_is_under_the_rest_of_its_names():
    part = state().part("model")
    assert part.keys() == {"a", "b/c"}
    assert state().part("mod") == {}


def test_the_newest_state_counts_and_is_the_only_one_left(tmp_path):
    for epoch in (1, 2, 10000):
        checkpoint.save(tmp_path, epoch, state(epoch))
        assert_same(checkpoint.load(tmp_path), state(epoch))
    assert names(tmp_path) == ["epoch-10000.safetensors", "progress.json"]


def test_clear_leaves_what_is_not_state(tmp_path):
    (tmp_path / "history.csv").touch()
    checkpoint.save(tmp_path, 1, state())
    checkpoint.clear(tmp_path)
    assert names(tmp_path) == ["history.csv"]
    assert checkpoint.load(tmp_path) is None
    checkpoint.clear(tmp_path)


def test_views_and_shared_tensors_are_written_by_themselves(tmp_path):
    whole = torch.arange(1000.0)
    tensors = {"view": whole[3:5], "same": whole[3:5], "turned": torch.arange(6.0).view(2, 3).T}
    checkpoint.write_tensors(tmp_path / "file", tensors)
    assert (tmp_path / "file").stat().st_size < 1000
    read = safetensors.torch.load_file(tmp_path / "file")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_what_is_written_is_the_value_of_that_moment(tmp_path):
    tensor = torch.zeros(3, requires_grad=True)
    checkpoint.write_tensors(tmp_path / "file", {"a": tensor})
    with torch.no_grad():
        tensor.fill_(1)
    assert torch.equal(checkpoint.read_tensors(tmp_path / "file", "")["a"], torch.zeros(3))


# Interruptions and damage.


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_save_that_fails_keeps_the_state_before(tmp_path, monkeypatch, function, call):
    checkpoint.save(tmp_path, 1, state(1))
    original, calls = getattr(os, function), []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:  # 1: the tensors, 2: progress.json
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(tmp_path, 2, state(2))
    assert_same(checkpoint.load(tmp_path), state(1))
    checkpoint.save(tmp_path, 2, state(2))
    assert_same(checkpoint.load(tmp_path), state(2))
    assert names(tmp_path) == ["epoch-0002.safetensors", "progress.json"]


def test_a_save_interrupted_before_the_old_tensors_go(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, state(1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 2, state(2))
    assert_same(checkpoint.load(tmp_path), state(2))


def damaged(folder):
    with pytest.raises(UserError) as told:
        checkpoint.load(folder)
    return str(told.value)


@pytest.mark.parametrize("content", [b"", b'{"tensors": "epo', b"\xff\xfe\x00", b"{}", b"[]", b"null"])
def test_a_damaged_record_is_named_with_the_remedy(tmp_path, content):
    checkpoint.save(tmp_path, 1, state())
    (tmp_path / "progress.json").write_bytes(content)
    message = damaged(tmp_path)
    assert f"{tmp_path / 'progress.json'} cannot be read" in message
    assert f"remove the folder {tmp_path}" in message


@pytest.mark.parametrize("content", [None, b"", b"\x10\x00", b"\xff" * 400, "half"])
def test_damaged_tensors_are_named_with_the_remedy(tmp_path, content):
    checkpoint.save(tmp_path, 1, state())
    path = tmp_path / "epoch-0001.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    message = damaged(tmp_path)
    assert f"{path} cannot be read" in message
    assert f"remove the folder {tmp_path}" in message


def test_the_remedy_helps(tmp_path):
    folder = tmp_path / "run"
    checkpoint.save(folder, 1, state())
    (folder / "progress.json").write_text("")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert checkpoint.load(folder) is None


def test_the_record_is_json_that_a_person_can_read(tmp_path):
    checkpoint.save(tmp_path, 3, state())
    record = json.loads((tmp_path / "progress.json").read_text())
    assert record == {"tensors": "epoch-0003.safetensors", **state().record}


# A folder for one process alone.


def test_two_holders_have_two_folders_and_the_first_is_free_again(tmp_path):
    with checkpoint.own_folder(tmp_path, "run") as first:
        assert first == tmp_path / "run"
        with checkpoint.own_folder(tmp_path, "run") as second, checkpoint.own_folder(tmp_path, "run") as third:
            assert (second.name, third.name) == ("run-2", "run-3")
        with checkpoint.own_folder(tmp_path, "run") as again, checkpoint.own_folder(tmp_path, "other") as other:
            assert (again.name, other.name) == ("run-2", "other")
    with checkpoint.own_folder(tmp_path, "run") as folder:
        assert folder == first


def test_a_folder_is_free_after_an_error(tmp_path):
    kept = []
    with pytest.raises(UserError) as told, checkpoint.own_folder(tmp_path, "run"):
        raise UserError("wrong")
    kept.append(told)  # the traceback, with all its frames, is still there
    with checkpoint.own_folder(tmp_path, "run") as folder:
        assert folder.name == "run"


def test_other_processes_are_seen_and_a_killed_one_leaves_its_folder_free(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert holder.stdout.readline().strip() == "run"
        with checkpoint.own_folder(tmp_path, "run") as folder:
            assert folder.name == "run-2"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with checkpoint.own_folder(tmp_path, "run") as folder:
        assert folder.name == "run"


def test_a_state_stays_in_its_folder_from_holder_to_holder(tmp_path):
    with checkpoint.own_folder(tmp_path, "run") as folder:
        checkpoint.save(folder, 1, state())
    with checkpoint.own_folder(tmp_path, "run") as folder:
        assert_same(checkpoint.load(folder), state())


def test_a_write_that_a_killed_process_had_begun_is_swept_away(tmp_path):
    with checkpoint.own_folder(tmp_path, "run") as folder:
        checkpoint.save(folder, 1, state())
    (folder / ".epoch-0002.safetensors.abc").write_bytes(b"half")
    checkpoint.save(folder / "fit-1", 1, state())
    (folder / "fit-1" / ".progress.json.abc").write_bytes(b"half")
    with checkpoint.own_folder(tmp_path, "run") as folder:
        whole = ["epoch-0001.safetensors", "progress.json"]
        assert [name for name in names(folder) if name not in ("lock", "fit-1")] == whole
        assert names(folder / "fit-1") == whole
