"""What memory is free, in file trees as Linux has them: control groups of both versions, nested and in containers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hypermap.core import memory

GIB = 2**30
NAMES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
UNLIMITED = {1: 9223372036854771712, 2: "max"}  # as a kernel writes that there is no limit


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A machine of 64 GiB, 32 of them free."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {32 * 2**20} kB\n")
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "GROUPS", groups)
    return tmp_path


def group(host: Path, version: int, path: str, limit: object, used: int = 0, stat: str = "") -> None:
    folder = host / "cgroup" / ("memory" if version == 1 else ".") / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(NAMES[version], (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat)


def belongs_to(host: Path, version: int, path: str) -> None:
    line = f"0::/{path}" if version == 2 else f"11:devices:/other\n4:cpu,memory:/{path}\n0::/elsewhere"
    (host / "proc/self/cgroup").write_text(f"{line}\n")


def test_without_groups_the_machine_decides(host):
    assert (memory.free(), memory.total()) == (32 * GIB, 64 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_decides_where_it_is_the_lesser(host, version):
    belongs_to(host, version, "")
    group(host, version, "", 8 * GIB, 3 * GIB)
    assert (memory.free(), memory.total()) == (5 * GIB, 8 * GIB)
    group(host, version, "", 48 * GIB, 3 * GIB)
    assert (memory.free(), memory.total()) == (32 * GIB, 48 * GIB)
    group(host, version, "", UNLIMITED[version], 3 * GIB)
    assert (memory.free(), memory.total()) == (32 * GIB, 64 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_at_any_level_above_the_process_counts(host, version):
    belongs_to(host, version, "slurm/job_7/step_0")
    group(host, version, "slurm/job_7/step_0", UNLIMITED[version], GIB)
    group(host, version, "slurm/job_7", 4 * GIB, GIB)
    group(host, version, "slurm", 16 * GIB, 14 * GIB)
    assert (memory.free(), memory.total()) == (2 * GIB, 4 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_in_a_container_the_trees_root_is_its_own_group(host, version):
    belongs_to(host, version, "docker/0123456789abcdef")  # a path of the host's, which is not to be seen here
    group(host, version, "", 2 * GIB, GIB)
    assert (memory.free(), memory.total()) == (GIB, 2 * GIB)


@pytest.mark.parametrize(("version", "key"), [(1, "total_inactive_file"), (2, "inactive_file")])
def test_cached_files_are_as_good_as_free(host, version, key):
    belongs_to(host, version, "")
    group(host, version, "", 8 * GIB, 7 * GIB, f"anon 1\n{key} {5 * GIB}\n")
    assert memory.free() == 6 * GIB


def test_nobody_tells(host):
    (host / "proc/meminfo").unlink()
    assert (memory.free(), memory.total()) == (None, None)


def test_what_is_more_than_all_memory_cannot_be_had(host):
    def error_of(allocate):
        with pytest.raises((MemoryError, RuntimeError)) as told:
            allocate()
        return told.value

    for size, possible in ((2**50, False), (2**62 // 8, False)):
        assert memory.could_be_had(error_of(lambda size=size: torch.empty(size))) is possible
        assert memory.could_be_had(error_of(lambda size=size: np.empty(size))) is possible
    assert memory.could_be_had(MemoryError())
    assert memory.could_be_had(RuntimeError(f"you tried to allocate {60 * GIB} bytes"))
    assert not memory.could_be_had(RuntimeError(f"you tried to allocate {65 * GIB} bytes"))
