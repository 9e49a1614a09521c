"""What shortens the time until training begins, of which imports take the most."""

import contextlib
import ctypes
import gc
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


def preload_torch() -> None:
    """Begin to load torch's library in the background, which waits neither for Python nor Python for it.

    ``import torch`` then finds it. Where torch is built otherwise than for Linux and the CPU nothing is done: with CUDA
    the order matters in which its libraries are loaded, and torch has its own.
    """
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        library = Path(folder, "lib", "libtorch_cpu.so")
        if library.exists() and not library.with_name("libtorch_cuda.so").exists():
            # Python waits for the thread before it ends: the library must not be half loaded then.
            threading.Thread(target=_load, args=(library,)).start()


def _load(library: Path) -> None:
    with contextlib.suppress(OSError):  # torch will say what is wrong
        ctypes.CDLL(str(library.with_name("libtorch_global_deps.so")), mode=ctypes.RTLD_GLOBAL)  # first, as torch does
        ctypes.CDLL(str(library))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage while modules are imported, which make none, nor later in what they made."""
    collecting, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # else what there is now would be kept for each trial of a sweep
            gc.freeze()
        if collecting:
            gc.enable()
