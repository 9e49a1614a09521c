"""Whether torchrun, or a launcher that sets its variables, has started this process beside others."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hypermap.core.errors import UserError

MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


@dataclass(frozen=True)
class Launched:
    """The place of this process among those that torchrun has started.

    Attributes:
        rank: from 0.
        size: how many there are.
        local_rank: on this machine, from 0.
    """

    rank: int
    size: int
    local_rank: int


def launched() -> Launched | None:
    """Return the place of this process among those started together; None if it is by itself."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(os.environ.get(name) for name in names) or int(os.environ["WORLD_SIZE"]) == 1:
        return None
    rank = int(os.environ["RANK"])
    return Launched(rank, int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", rank)))


def check_processes(processes: int) -> None:
    """Refuse a number of processes that is not the number of those started together.

    Raises:
        UserError: says which of both to change.
    """
    place = launched()
    if place is not None and place.size != processes:
        raise UserError(
            f"WORLD_SIZE is {place.size}, as torchrun sets it, and trainer.processes is {processes}: add "
            f"trainer.processes={place.size}, or start it without torchrun."
        )


def check_single(arguments: Sequence[str]) -> None:
    """Refuse a sweep under torchrun: its trials start their own processes.

    Raises:
        UserError: with the command.
    """
    if (place := launched()) is not None and MULTIRUN & set(arguments):
        raise UserError(
            "torchrun starts one training, and this is a sweep, whose trials start their own processes: "
            f"python src/train.py {' '.join(arguments)} trainer.processes={place.size}"
        )
