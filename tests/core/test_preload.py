"""What shortens the start: torch's library in the background, and imports without the garbage collector."""

import gc
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hypermap.core.paths import SOURCES
from hypermap.core.preload import uncollected

LIBRARIES = Path(str(find_spec("torch").origin)).parent / "lib"
LOADED = """
import sys, threading
from hypermap.core.preload import preload_torch
preload_torch()
[thread.join() for thread in threading.enumerate() if thread is not threading.main_thread()]
assert "torch" not in sys.modules
assert "libtorch_cpu.so" in open("/proc/self/maps").read()
import torch
print(float(torch.ones(3) @ torch.ones(3)))
"""


def python(code: str) -> str:
    variables = os.environ | {"PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(
    not (LIBRARIES / "libtorch_cpu.so").exists() or (LIBRARIES / "libtorch_cuda.so").exists(),
    reason="torch is not built for Linux and the CPU",
)
def test_torch_finds_its_library_loaded():
    assert python(LOADED) == "3.0\n"


def test_without_torch_nothing_is_loaded():
    code = "import importlib.util, threading\nimportlib.util.find_spec = lambda name: None\n"
    code += "from hypermap.core.preload import preload_torch\npreload_torch()\nprint(threading.active_count())"
    assert python(code) == "1\n"


def import_nothing_that_there_is() -> None:
    assert not gc.isenabled()
    raise ImportError


def test_the_collector_pauses_for_imports_alone():
    assert gc.isenabled()
    with pytest.raises(ImportError), uncollected():
        import_nothing_that_there_is()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()  # as whoever disabled it wants
    finally:
        gc.enable()


def test_what_is_imported_is_looked_through_no_more_and_what_a_trial_makes_is():
    code = """
import gc
from hypermap.core.preload import uncollected
with uncollected():
    import decimal
frozen = gc.get_freeze_count()
with uncollected():
    import decimal
print(frozen > 0, gc.get_freeze_count() == frozen)
"""
    assert python(code) == "True True\n"
