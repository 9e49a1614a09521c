"""Which GPUs a worker of a sweep has: its own, unless a setting lets several workers share one.

A worker takes its place by a lock on a file for each of its GPUs, in the folder for temporary files; the system
releases the locks when the process ends, however it ends. Torch is not imported here: it reads `VISIBLE` once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from hypermap.core.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
Place = tuple[tuple[str, ...], int]
"""The GPUs of a worker, and its number among the workers that share them."""


def visible() -> list[str]:
    """Return the GPUs that this process may use, as `VISIBLE` names them: by UUID, or as the variable does already.

    Without the variable they are those that nvidia-smi lists, and none where there is no such program.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        return list(_uuids())
    found = []
    for name in map(str.strip, named.split(",")):
        if name in ("", "-1"):  # CUDA reads no further either
            break
        found.append(name)
    return found


def places(gpus: Sequence[str], each: int, workers_per_gpu: int) -> list[Place]:
    """Return the places for workers that have `each` GPUs: a GPU is shared only once all others are taken."""
    groups = [tuple(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    return [(group, number) for number in range(workers_per_gpu) for group in groups]


def check_workers(workers: int, each: int, workers_per_gpu: int) -> None:
    """Refuse more workers on this machine than there are places which no other process has; without GPUs, none.

    Raises:
        UserError: says what to change.
    """
    gpus = visible() if each else []
    if not gpus:
        return
    there = places(gpus, each, workers_per_gpu)
    free = sum(_is_free(place) for place in there)
    if workers <= free:
        return
    many = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    wants = f"hydra.sweeper.n_jobs is {workers}, each worker has {each} of the {many} here"
    wants += f", and {workers_per_gpu} may share one" if workers_per_gpu > 1 else ""
    taken = f"; other processes have taken {len(there) - free} of the {len(there)} places" if free < len(there) else ""
    groups = len(gpus) // each
    remedies = [f"hydra.sweeper.n_jobs={free}"] if free else []
    if groups:
        needed = workers_per_gpu + -(-(workers - free) // groups)
        remedies.append(f"hydra.sweeper.workers_per_gpu={needed}")
    else:
        remedies.append(f"trainer.processes={len(gpus)}")
    raise UserError(f"{wants}{taken}: set {', '.join(remedies)}, or trainer.device=cpu.")


@contextmanager
def own_gpus(worker: int, each: int, workers_per_gpu: int) -> Iterator[tuple[str, ...]]:
    """Take a place in this context, so that this process and those that it starts see its GPUs alone; yield them.

    Args:
        worker: its number on this machine, from 0: the place that it looks at first.
        each: number of GPUs of a worker; 0 to leave everything as it is, as where there are none.
        workers_per_gpu: how many workers may have the same GPU.

    Raises:
        UserError: others have all places.
    """
    gpus = visible() if each else []
    if not gpus:
        yield ()
        return
    there = places(gpus, each, workers_per_gpu)
    with ExitStack() as held:
        own = next((place for place in [*there[worker:], *there[:worker]] if _take(place, held)), None)
        if own is None:
            check_workers(worker + 1, each, workers_per_gpu)
            raise UserError("Other processes have just taken the GPUs of this machine. Run the same command again.")
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(own[0])
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():  # then it sees them all for good
            torch.cuda.set_device(gpus.index(own[0][0]))
        try:
            yield own[0]
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _take(place: Place, held: ExitStack) -> bool:
    """Return whether a place was free; it is taken then, until `held` ends."""
    gpus, number = place
    with ExitStack() as taken:
        for gpu in gpus:
            folder = Path(tempfile.gettempdir()) / f"hypermap-gpus-{os.getuid()}"
            folder.mkdir(exist_ok=True)
            lock = FileLock(folder / f"{_uuid(gpu)}-{number}.lock", timeout=0)
            try:
                taken.enter_context(lock)
            except Timeout:
                return False
        held.push(taken.pop_all())
    return True


def _is_free(place: Place) -> bool:
    with ExitStack() as held:
        return _take(place, held)


def _uuid(gpu: str) -> str:
    """Return the UUID of a GPU that is named by its number, so that all commands mean the same lock."""
    return _uuids()[int(gpu)] if gpu.isdigit() and int(gpu) < len(_uuids()) else gpu.replace(os.sep, "_")


@cache
def _uuids() -> tuple[str, ...]:
    """Return the UUIDs of the machine's GPUs, by number."""
    if shutil.which("nvidia-smi") is None:
        return ()
    words = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()
