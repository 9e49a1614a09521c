"""The device and the threads of a run, and the settings that make it repeat bit for bit."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module, metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core.errors import OutOfHostMemory, OutOfMemory, UserError
from hypermap.core.launch import launched
from hypermap.core.memory import could_be_had

LATENCY_CALLS = 50
OF_THE_HOST = ("can't allocate", "not enough memory")  # torch's messages when host memory runs out
WANT_OF_MEMORY = (*OF_THE_HOST, "out of memory")  # and when any memory runs out
SMALL_STEP = 2_000_000  # multiplications of a dense forward pass, below which one thread is fastest
CORES = torch.get_num_threads()  # torch's default, before any run in this process sets another number


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` is CUDA if there is one, else the CPU.

    Raises:
        UserError: torch does not know the device, or this machine does not have it.
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


def check_processes(device: torch.device, processes: int) -> None:
    """Refuse more processes than there are GPUs, of which each has one.

    Raises:
        UserError: says how many there are.
    """
    if device.type != "cuda" or processes == 1 or launched() is not None:  # torchrun's may be of several machines
        return
    if processes > (there := torch.cuda.device_count()):
        raise UserError(
            f"trainer.processes is {processes}, of which each has a GPU, and there {'is' if there == 1 else 'are'} "
            f"{there} for this training (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}): "
            f"set trainer.processes={there}, or trainer.device=cpu."
        )


def make_repeatable() -> None:
    """Fix what changes the last digits of a sum. Call it before torch starts its threads, at its first large sum.

    The number of threads is the other half: `choose_threads`, and ``torch.set_num_threads``.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # read when torch.compile is first used
    # torch.use_deterministic_algorithms does no more than this, but loads the compiler, which takes a second.
    torch.set_deterministic_debug_mode("warn")
    # Filling new memory is for finding bugs, and costs a pass over every buffer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # The moments of weights that rarely get a gradient decay below 1e-38, where processors are many times slower. A
    # thread inherits this setting from the one that starts it.
    torch.set_flush_denormal(True)


def spare_compiler() -> None:
    """Load torch's compiler only when something is compiled, instead of (for a second) at the first optimizer.

    An optimizer marks its methods as not to be compiled, which needs the compiler's module. A stand-in replaces the
    module until it is used for anything else. Call this before the first optimizer is created.
    """
    sys.modules.setdefault(_Uncompiled.NAME, _Uncompiled(_Uncompiled.NAME))


class _Uncompiled(ModuleType):
    """Stand-in for ``torch._dynamo`` while nothing is compiled: its marks do nothing; all else is the real module's."""

    NAME = "torch._dynamo"
    trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)  # which a process group asks for; there is none

    def disable(
        self, function: Callable[..., Any] | None = None, recursive: bool = True, **given: Any
    ) -> Callable[..., Any]:
        """Return a function of torch's own (``wrapping=False``) unchanged; leave user code to the real module."""
        if function is None or given.get("wrapping", True):
            marked: Callable[..., Any] = self.__getattr__("disable")(function, recursive, **given)
            return marked
        return function

    def graph_break(self) -> None:
        """Do nothing: there is no graph."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # for code that iterates over all modules
            raise AttributeError(name)
        if sys.modules.get(self.NAME) is self:
            del sys.modules[self.NAME]
            vars(torch).pop("_dynamo", None)
        return getattr(import_module(self.NAME), name)


def choose_threads(model: nn.Module, batch_size: int) -> int:
    """Return the number of CPU threads for a step of this size: one for a small dense network, else every core.

    In a small step, synchronizing a second thread costs more than it gains, and far more if the cores are shared with
    other work.
    """
    parameters = list(model.parameters())
    convolves = any(parameter.ndim > 2 for parameter in parameters)
    multiplications = batch_size * sum(parameter.numel() for parameter in parameters)
    return 1 if multiplications < SMALL_STEP and not convolves else CORES


def share_of_threads(threads: int, processes: int) -> int:
    """Return the CPU threads of each process of a training that has so many together."""
    return max(1, threads // processes)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch use `count` CPU threads in this context, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context for a forward pass: bf16 autocast if requested, otherwise a null context."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def environment(device: torch.device, threads: int) -> dict[str, str]:
    """Return what the metrics of a run depend on besides its configuration."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": _version("scikit-learn"),  # for the preprocessing of tables and for its models
        "device": name,
        "threads": str(threads),
    }


@contextmanager
def explaining_out_of_memory(batch_size: int) -> Iterator[None]:
    """Turn torch's various out-of-memory errors into one error.

    Raises:
        OutOfMemory: with advice on what to change.
        OutOfHostMemory: host memory ran out because other processes use it; the allocation would otherwise fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError, UserError) as error:
        if isinstance(error, OutOfMemory) or not (wants_memory(error) or wants_memory(error.__cause__)):
            raise  # as the cause, if it happened while building a network
        kind = _kind(error if wants_memory(error) else error.__cause__)  # naming the error would keep its memory alive
        half = f"trainer.batch_size={batch_size // 2} (it is {batch_size})" if batch_size > 1 else "smaller inputs"
        raise kind(
            f"the network and its batches do not fit into memory ({str(error).strip().splitlines()[0]}). "
            f"Try {half}, or a narrower network (model.hidden, model.channels, model.width)."
        ) from None


def latency_ms(model: nn.Module, row: Tensor, precision: str) -> float:
    """Return the median time of a forward pass of one row ``(1, *shape)``, in evaluation mode, on the row's device."""
    model.eval()
    times = []
    with torch.no_grad(), autocast(row.device, precision):
        for _ in range(LATENCY_CALLS + 5):  # the first few are a warm-up
            started = time.perf_counter()
            model(row).cpu()  # .cpu() waits for the device
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[5:])


@cache
def _version(package: str) -> str:
    return metadata.version(package)  # parses a file


def _kind(error: BaseException | None) -> type[OutOfMemory]:
    """Return the error class: `OutOfMemory` if a device or the whole machine is too small for the network itself."""
    by_the_host = isinstance(error, MemoryError) or any(words in str(error) for words in OF_THE_HOST)
    return OutOfHostMemory if by_the_host and could_be_had(error) else OutOfMemory


def wants_memory(error: BaseException | None) -> bool:
    """Return whether an error means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WANT_OF_MEMORY)
