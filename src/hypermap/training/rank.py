"""Another process of a training on several: it takes the steps that rank 0 announces, and writes nothing.

`hypermap.training.processes` starts it, as ``python -m hypermap.training.rank``, or torchrun does, with a command.
"""

import atexit
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from hypermap.core import device as machine
from hypermap.core.checkpoint import Checkpoint
from hypermap.core.errors import UserError
from hypermap.core.instantiate import instantiate
from hypermap.core.launch import check_single, launched
from hypermap.data.manifest import Manifest
from hypermap.models.inputs import resolve_input_spec
from hypermap.tasks.base import make_task
from hypermap.training.backends.data_parallel import DataParallel
from hypermap.training.components import make_components
from hypermap.training.connection import Connection, is_of_connection
from hypermap.training.processes import dismiss, meeting
from hypermap.training.state import TrainerConfig, TrainState


class Rank:
    """One of the other processes.

    Args:
        connection: to all of them.
        local_rank: its place on its machine, which is that of its GPU.
    """

    def __init__(self, connection: Connection, local_rank: int) -> None:
        self.connection, self.local_rank = connection, local_rank
        self.asked_to_stop = False
        self.backend: DataParallel | None = None

    def serve(self) -> None:
        """Take part in trainings until rank 0 announces the end.

        Raises:
            UserError: a training does not fit into memory.
            RuntimeError: rank 0 is gone, or another error of a step.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to rank 0 as well, which decides
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        machine.make_repeatable()
        machine.spare_compiler()
        while (heard := self.connection.hear())["what"] != "end":
            if heard["what"] == "join":
                self.connection.join(gpus=heard["gpus"])
            elif heard["what"] == "begin":
                self.backend = None  # which frees its memory
                self.backend = self._begin(heard)
            else:
                self._take_steps(heard["batch"])

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Let rank 0 stop after the running epoch; a second SIGTERM ends this process."""
        self.asked_to_stop = True
        signal.signal(number, signal.SIG_DFL)

    def _begin(self, heard: dict[str, Any]) -> DataParallel:
        """Return the steps of the member that rank 0 has."""
        state, rows = self.connection.take(), self.connection.take()
        configuration, manifest = heard["configuration"], Manifest(**heard["manifest"])
        settings: TrainerConfig = instantiate(configuration["trainer"]).of_rows(len(rows["targets"]))
        torch.set_num_threads(heard["threads"])
        device = machine.choose_device(settings.device)
        if device.type == "cuda":
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        with machine.explaining_out_of_memory(settings.batch):
            inputs, targets = rows["inputs"].to(device), rows["targets"].to(device)
            torch.manual_seed(heard["seed"])
            spec = resolve_input_spec(configuration["model"], manifest)
            parts = make_components(configuration, manifest, spec, device)
            parts.loss.fit(targets, manifest.width)
            member = TrainState(parts, settings, make_task(manifest), heard["seed"], device, validation_rows=1)
            tensors = {name.removeprefix("state/"): tensor for name, tensor in state.items()}
            member.restore(Checkpoint(tensors, heard["record"]))
            return DataParallel(member, inputs, targets)

    def _take_steps(self, batch: int) -> None:
        """Take the steps of a part of an epoch."""
        assert self.backend is not None
        given, member = self.connection.take(), self.backend.member
        member.augment_rng.set_state(given["noise"])
        member.dropout_rng.set_state(given["dropout"])
        with machine.explaining_out_of_memory(member.settings.batch):
            self.backend.train_steps(given["rows"], batch, given["rates"])
        self.connection.any_of(self.asked_to_stop)


def take_part(arguments: Sequence[str]) -> bool:
    """Return whether this process was another's than rank 0, of those that torchrun has started, until their end.

    As rank 0, it dismisses the others when it ends.

    Raises:
        UserError: it is to run a sweep.
    """
    place = launched()
    if place is None:
        return False
    check_single(arguments)
    if place.rank == 0:
        meeting(place)
        atexit.register(dismiss, place)
        return False
    _serve(Connection(meeting(place), place.rank, place.size), place.local_rank)
    return True


def main() -> None:
    """Serve the process that has started this one."""
    port, rank, size = map(int, sys.argv[1:])
    store = TCPStore("127.0.0.1", port, is_master=False)
    store.set(f"here/{rank}", "")
    _serve(Connection(store, rank, size), rank)


def _serve(connection: Connection, local_rank: int) -> None:
    """Serve, and end with one sentence if that fails, or silently if rank 0 is gone."""
    try:
        Rank(connection, local_rank).serve()
    except UserError as error:
        sys.exit(str(error))
    except RuntimeError as error:
        if not is_of_connection(error):
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
