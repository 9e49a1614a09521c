"""How the processes of a training talk: rank 0 announces what all do next, and tensors travel in a process group.

Announcements go through a key-value store. To wait for one has no limit, since rank 0 may prepare data or be idle; what
all take part in has: `PATIENCE_S`. Whoever dies closes its sockets, which the others notice at once in either case.
"""

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from hypermap.training.backends.gather import gathered

PATIENCE_S = 300
POLLING_S, POLLING_SHARE = 0.02, 0.05  # between two looks for an announcement; as a share of the time waited so far


class Connection:
    """The connection of one process to the others of a training.

    Args:
        store: that all of them see.
        rank: of this process.
        size: number of processes.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.count = self.forgotten = 0

    def join(self, *, gpus: bool) -> None:
        """Form the process group, as all others do at this time; `gpus`: by NCCL too, for tensors on GPUs."""
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.size,
            timeout=timedelta(seconds=PATIENCE_S),
        )

    def announce(self, what: str, **values: Any) -> None:
        """Announce what all do next; for rank 0."""
        self.count += 1
        self.store.set(f"announced/{self.count}", json.dumps({"what": what, **values}))

    def forget(self) -> None:
        """Remove the announcements so far; for rank 0, once all others have read them (`any_of` waits for that)."""
        for number in range(self.forgotten + 1, self.count + 1):
            self.store.delete_key(f"announced/{number}")
        self.forgotten = self.count

    def hear(self) -> dict[str, Any]:
        """Return the next announcement, however long that takes."""
        self.count += 1
        key, began = f"announced/{self.count}", time.monotonic()
        while not self.store.check([key]):  # Python handles signals in between
            time.sleep(min(POLLING_S, POLLING_SHARE * (time.monotonic() - began)))
        heard: dict[str, Any] = json.loads(self.store.get(key))
        return heard

    def give(self, tensors: Mapping[str, Tensor]) -> None:
        """Send tensors to all others; for rank 0."""
        self.announce("tensors", tensors={name: [str(t.dtype), list(t.shape)] for name, t in tensors.items()})
        for tensor in tensors.values():
            distributed.broadcast(_bytes(tensor.detach().cpu()), 0)

    def take(self) -> dict[str, Tensor]:
        """Return the tensors that rank 0 gives, on the CPU."""
        taken = {}
        for name, (dtype, shape) in self.hear()["tensors"].items():
            taken[name] = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            distributed.broadcast(_bytes(taken[name]), 0)
        return taken

    def any_of(self, holds: bool) -> bool:
        """Return whether something holds in any of the processes."""
        return any(bool(one) for one in gathered(torch.tensor([holds])))


def is_of_connection(error: BaseException) -> bool:
    """Return whether an error means that another process is gone."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, which share its memory if it is contiguous: gloo knows few dtypes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
