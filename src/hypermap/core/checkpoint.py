"""The state of a run in progress, so that a run killed at any moment goes on from its last epoch.

A run's folder holds ``epoch-0007.safetensors`` and ``progress.json``, which names it. The tensors are written
first, the JSON, in one step, makes them count, and only then the older tensors go: there is always one whole
state.
"""

import itertools
import json
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
    """What is needed to go on: tensors by name, and a record that JSON can hold."""

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
    """Write a safetensors file in one step; a tensor is copied to the CPU, and out of any it is a view of."""
    write_bytes(
        path,
        safetensors.torch.save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}),
    )


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is missing or damaged; `remedy` is what to do then.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}). {remedy}") from None


def save(folder: Path, epoch: int, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the state to go on from."""
    name = f"epoch-{epoch:04d}.safetensors"
    write_tensors(folder / name, checkpoint.tensors)
    write_json(folder / PROGRESS, {"tensors": name, **checkpoint.record})
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != name:
            old.unlink()


def load(folder: Path) -> Checkpoint | None:
    """Return the state to go on from, or None where there is none.

    Raises:
        UserError: there is one and it is damaged.
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
    """Forget the state of a run whose results are written."""
    (folder / PROGRESS).unlink(missing_ok=True)
    for tensors in folder.glob("epoch-*.safetensors"):
        tensors.unlink()


@contextmanager
def own_folder(root: Path, name: str) -> Iterator[Path]:
    """The folder ``root/name`` for this process alone; where another has it, ``name-2``, and so on.

    The lock goes with the process, however it ends.
    """
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        for partial in folder.rglob(".*"):  # a write that a killed process had begun
            partial.unlink()
        try:
            yield folder
        finally:
            lock.release()
        return
