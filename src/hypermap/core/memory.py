"""The machine's memory: what there is of it, and what is free, within the limits of control groups of both versions."""

import re
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
NAMES = {  # of the files of a group: its limit, what is used; and of what can be given back in memory.stat
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
ASKED = re.compile(r"tried to allocate (\d+) bytes")
UNLIMITED = 2**60  # what version 1 says where there is no limit is larger


def free() -> int | None:
    """Return the bytes that this process could still take; None where nobody tells."""
    available = _meminfo("MemAvailable")
    return min([*available, *(limit - used for limit, used in _limits())]) if available else None


def total() -> int | None:
    """Return the bytes that this process could have at most, if nothing else ran; None where nobody tells."""
    whole = _meminfo("MemTotal")
    return min([*whole, *(limit for limit, _ in _limits())]) if whole else None


def could_be_had(error: BaseException | None) -> bool:
    """Return whether the machine might have what an error says it lacks: it never has what is more than all of it."""
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
    """Return the limit of each group that this process is in, and what is used of it and cannot be given back."""
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
    """Return a figure of ``memory.stat``: files that are cached and have not been read lately are as good as free."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _groups() -> Iterator[tuple[int, Path]]:
    """Return the folders of the groups that this process is in, each with its version: a limit may be at any level.

    In a container the group's path may be the host's; then its own group is the tree's root.
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
