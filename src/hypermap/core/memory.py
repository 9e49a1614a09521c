"""The machine's memory: total and free, within the limits of control groups (v1 and v2)."""

import re
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
NAMES = {  # files of a group: its limit and its usage; and the key of reclaimable memory in memory.stat
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
ASKED = re.compile(r"tried to allocate (\d+) bytes")
UNLIMITED = 2**60  # version 1 reports a larger number if there is no limit


def free() -> int | None:
    """Return the bytes that this process can still allocate; None if unknown."""
    available = _meminfo("MemAvailable")
    return min([*available, *(limit - used for limit, used in _limits())]) if available else None


def total() -> int | None:
    """Return the bytes that this process could have if nothing else ran; None if unknown."""
    whole = _meminfo("MemTotal")
    return min([*whole, *(limit for limit, _ in _limits())]) if whole else None


def could_be_had(error: BaseException | None) -> bool:
    """Return whether the failed allocation of an error could ever succeed: not if it exceeds the total memory."""
    wanted = getattr(error, "_total_size", None)  # numpy's
    if wanted is None and (found := ASKED.search(str(error))) is not None:  # torch's
        wanted = int(found[1])
    most = total()
    return wanted is None or most is None or int(wanted) < most


def _meminfo(key: str) -> list[int]:
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
        return [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")]
    except (OSError, ValueError, IndexError):
        return []


def _limits() -> Iterator[tuple[int, int]]:
    """Yield the limit of each control group of this process, and its usage that cannot be reclaimed."""
    for version, folder in _groups():
        limit, used, reclaimable = NAMES[version]
        try:
            bound = (folder / limit).read_text(encoding="ascii").strip()
            if bound == "max" or int(bound) >= UNLIMITED:
                continue
            yield int(bound), int((folder / used).read_text(encoding="ascii")) - _stat(folder, reclaimable)
        except (OSError, ValueError):
            continue


def _stat(folder: Path, key: str) -> int:
    """Return a value of ``memory.stat``: cached files that were not read recently are as good as free."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _groups() -> Iterator[tuple[int, Path]]:
    """Yield the folders of this process's control groups, each with its version: a limit may be at any level.

    In a container the group's path may be that of the host; its own group is then the root of the tree.
    """
    trees = {1: GROUPS / "memory", 2: GROUPS}
    paths = {1: Path(), 2: Path()}
    try:
        for line in (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" and not controllers:
                paths[2] = Path(path.lstrip("/"))
            elif "memory" in controllers.split(","):
                paths[1] = Path(path.lstrip("/"))
    except (OSError, ValueError):
        pass
    for version, tree in trees.items():
        for group in (paths[version], *paths[version].parents):
            if ".." not in group.parts:
                yield version, tree / group
