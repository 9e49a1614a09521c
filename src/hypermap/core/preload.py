"""Measures that shorten the time until training starts, most of which goes into imports."""

import contextlib
import ctypes
import gc
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


def preload_torch() -> None:
    """Start loading torch's library in the background, without the GIL.

    ``import torch`` then finds it loaded. For builds of torch other than Linux with CPU nothing is done: with CUDA the
    order in which its libraries are loaded matters, and torch has its own.
    """
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        library = Path(folder, "lib", "libtorch_cpu.so")
        if library.exists() and not library.with_name("libtorch_cuda.so").exists():
            # Python waits for the thread at exit: the library must not be half loaded then.
            threading.Thread(target=_load, args=(library,)).start()


def _load(library: Path) -> None:
    with contextlib.suppress(OSError):  # torch will report what is wrong
        ctypes.CDLL(str(library.with_name("libtorch_global_deps.so")), mode=ctypes.RTLD_GLOBAL)  # first, as in torch
        ctypes.CDLL(str(library))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection while modules are imported, which create none, and exempt their objects afterwards."""
    collecting, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # otherwise every trial of a sweep would freeze the present objects
            gc.freeze()
        if collecting:
            gc.enable()
