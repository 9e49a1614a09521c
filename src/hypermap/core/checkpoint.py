"""The state of a run in progress, so that a run killed at any moment resumes from its last epoch.

A run's folder holds ``epoch-0007.safetensors`` and ``progress.json``, which names it. The tensors are written first;
replacing the JSON atomically makes them valid; only then are the older tensors removed. So there is always one complete
state.
"""

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from filelock import FileLock, Timeout
from torch import Tensor

from hypermap.core.errors import UserError
from hypermap.core.files import write_bytes, write_json

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to resume: tensors by name, and a record that JSON can hold."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with ``prefix/``, under the rest of their names."""
        return {
            name.removeprefix(f"{prefix}/"): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}/")
        }


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically; a tensor is copied to the CPU, and out of a storage that it is a view of."""
    write_bytes(
        path,
        safetensors.torch.save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}),
    )


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing or damaged; `remedy` says what to do then.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}). {remedy}") from None


def save(folder: Path, epoch: int, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the state to resume from."""
    name = f"epoch-{epoch:04d}.safetensors"
    write_tensors(folder / name, checkpoint.tensors)
    write_json(folder / PROGRESS, {"tensors": name, **checkpoint.record})
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != name:
            old.unlink()


def load(folder: Path) -> Checkpoint | None:
    """Return the state to resume from, or None if there is none.

    Raises:
        UserError: it is damaged.
    """
    remedy = f"To start this run over, remove the folder {folder}."
    try:
        record = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        name = record.pop("tensors")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / PROGRESS} cannot be read ({error!r}). {remedy}") from None
    return Checkpoint(read_tensors(folder / name, remedy), record)


def clear(folder: Path) -> None:
    """Delete the state of a run whose results are written."""
    (folder / PROGRESS).unlink(missing_ok=True)
    for tensors in folder.glob("epoch-*.safetensors"):
        tensors.unlink()


@contextmanager
def own_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield the folder ``root/name``, locked for this process; if another process has it, ``name-2``, and so on.

    The lock is released when the process ends, however it ends.
    """
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        for partial in folder.rglob(".*"):  # an unfinished write of a killed process
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)
        try:
            yield folder
        finally:
            lock.release()
        return
