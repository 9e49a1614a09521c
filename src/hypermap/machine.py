"""Where a run happens: the device, its threads, and what has to be set so that it repeats bit for bit."""

import os
import platform
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from hypermap.errors import UserError

SMALL_STEP = 2_000_000  # multiplications of a dense forward pass below which one thread is the fastest
CORES = torch.get_num_threads()  # what torch takes by itself, before any run in this process sets another number


def choose_device(name: str) -> torch.device:
    """The device called `name`; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UserError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"trainer.device is {name!r}, which is not to be had here ({reason}). Try auto or cpu."
        ) from None
    return device


def make_repeatable() -> None:
    """Fix what changes the last digits of a sum. To be called before torch starts its threads, by its first large sum.

    The number of threads is the other half: `choose_threads`, and ``torch.set_num_threads``.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory is for finding bugs, and costs a pass over every buffer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Moments of weights that rarely see a gradient sink below 1e-38, where a processor is many times slower. A thread
    # inherits this from the one that starts it.
    torch.set_flush_denormal(True)


def choose_threads(model: nn.Module, batch_size: int) -> int:
    """As many CPU threads as serve a step of this size: one for a small dense network, else every core.

    A second thread in a small step waits for the first more than it helps, and where the cores are shared
    with other work it waits far longer.
    """
    parameters = list(model.parameters())
    convolves = any(parameter.ndim > 2 for parameter in parameters)
    multiplications = batch_size * sum(parameter.numel() for parameter in parameters)
    return 1 if multiplications < SMALL_STEP and not convolves else CORES


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which a forward pass runs: bf16 where asked for, else nothing at all."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def environment(device: torch.device, threads: int) -> dict[str, str]:
    """What the figures of a run depend on beside its configuration."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": name,
        "threads": str(threads),
    }
