"""Which GPUs workers take, on a machine whose GPUs are made up."""

import os
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from hypermap.core import gpus
from hypermap.core.errors import UserError
from hypermap.core.gpus import VISIBLE, check_workers, own_gpus, places

SMI = """#!/bin/sh
printf 'GPU-aa\\nGPU-bb\\nGPU-cc\\nGPU-dd\\n'
"""
HOLDS = """
import sys, time
from hypermap.core.gpus import own_gpus
with own_gpus(int(sys.argv[1]), 1, 1) as taken:
    print(*taken, flush=True)
    time.sleep(60)
"""


@contextmanager
def seeing(variable):
    with patch.dict(os.environ):
        os.environ.pop(VISIBLE, None)
        if variable is not None:
            os.environ[VISIBLE] = variable
        yield


@contextmanager
def another(worker, variable=None, workers_per_gpu=1):
    """Another worker of the same machine."""
    with seeing(variable), own_gpus(worker, 1, workers_per_gpu) as taken:
        yield taken


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Four GPUs, which nobody has taken."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv(VISIBLE, raising=False)
    gpus._uuids.cache_clear()
    yield
    gpus._uuids.cache_clear()


def test_places_share_a_gpu_only_once_all_are_taken():
    assert places(["a", "b"], 1, 2) == [(("a",), 0), (("b",), 0), (("a",), 1), (("b",), 1)]
    assert places(["a", "b", "c"], 2, 1) == [(("a", "b"), 0)]
    assert places(["a"], 2, 1) == []


@pytest.mark.parametrize(
    ("variable", "there"),
    [
        (None, ["GPU-aa", "GPU-bb", "GPU-cc", "GPU-dd"]),
        ("2,0", ["2", "0"]),
        ("GPU-bb", ["GPU-bb"]),
        ("1,-1,3", ["1"]),
        ("", []),
    ],
)
def test_visible(monkeypatch, variable, there):
    if variable is not None:
        monkeypatch.setenv(VISIBLE, variable)
    assert gpus.visible() == there


def test_without_nvidia_smi_there_are_none(monkeypatch, tmp_path):
    (tmp_path / "bin/nvidia-smi").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert gpus.visible() == []
    check_workers(9, 1, 1)
    with own_gpus(0, 1, 1) as taken:
        assert taken == ()
        assert VISIBLE not in os.environ


def test_each_worker_has_its_own():
    with own_gpus(0, 1, 1) as first, another(1) as second, another(0) as third:
        assert [first, second, third] == [("GPU-aa",), ("GPU-bb",), ("GPU-cc",)]
    assert VISIBLE not in os.environ


def test_the_variable_is_the_workers_own_and_then_as_before(monkeypatch):
    monkeypatch.setenv(VISIBLE, "3,1,0")
    with own_gpus(1, 1, 1):
        assert os.environ[VISIBLE] == "1"
    with own_gpus(0, 2, 1):
        assert os.environ[VISIBLE] == "3,1"
    assert os.environ[VISIBLE] == "3,1,0"


def test_a_number_and_a_uuid_are_the_same_gpu(monkeypatch):
    with own_gpus(2, 1, 1) as taken:
        assert taken == ("GPU-cc",)
        monkeypatch.setenv(VISIBLE, "2")
        with pytest.raises(UserError, match="other processes have taken 1 of the 1 places"), own_gpus(0, 1, 1):
            pass


def test_several_to_a_gpu(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    with own_gpus(0, 1, 2) as one, another(1, "0", workers_per_gpu=2) as other:
        assert one == other == ("0",)


def test_a_killed_process_has_none():
    process = subprocess.Popen([sys.executable, "-c", HOLDS, "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "GPU-aa\n"
    with own_gpus(0, 1, 1) as taken:
        assert taken == ("GPU-bb",)
    process.kill()
    process.communicate()
    with own_gpus(0, 1, 1) as taken:
        assert taken == ("GPU-aa",)


def test_where_cuda_has_begun_the_device_is_set(monkeypatch):
    chosen = []
    cuda = SimpleNamespace(is_initialized=lambda: True, set_device=chosen.append)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with own_gpus(3, 1, 1):
        assert chosen == [3]


@pytest.mark.parametrize(
    ("workers", "each", "shared", "message"),
    [
        (5, 1, 1, "each worker has 1 of the 4 GPUs here: set {}.n_jobs=4, {}.workers_per_gpu=2, or"),
        (
            9,
            1,
            2,
            "each worker has 1 of the 4 GPUs here, and 2 may share one: set {}.n_jobs=8, {}.workers_per_gpu=3, or",
        ),
        (3, 2, 1, "each worker has 2 of the 4 GPUs here: set {}.n_jobs=2, {}.workers_per_gpu=2, or"),
        (1, 5, 1, "each worker has 5 of the 4 GPUs here: set trainer.processes=4, or"),
    ],
)
def test_more_workers_than_places(workers, each, shared, message):
    message = message.replace("{}", "hydra.sweeper")
    with pytest.raises(UserError, match=f"^hydra.sweeper.n_jobs is {workers}, {message} trainer.device=cpu.$"):
        check_workers(workers, each, shared)


def test_as_many_workers_as_places():
    check_workers(4, 1, 1)
    check_workers(2, 2, 1)
    told = r"have taken 1 of the 4 places: set hydra\.sweeper\.n_jobs=3"
    with another(0), seeing(None), pytest.raises(UserError, match=told):
        check_workers(4, 1, 1)
