"""The native kernel: built by a C++ compiler of this machine at first use, and cached."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from ctypes import c_int, c_int64, c_void_p
from pathlib import Path

from hypermap.core.errors import UserError
from hypermap.core.paths import CACHE

KERNELS = CACHE / "kernel"
SOURCES = Path(__file__).with_name("kernel")  # kernel.cpp and its headers
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
WIDE = ("-mprefer-vector-width=512",)  # on x86 compilers use only half of the widest vectors by default
COMPILERS = ("g++", "clang++", "c++")
TIMEOUT_S = 120


class CannotBuild(UserError):  # noqa: N818
    """There is no compiler, or it failed; the message says which and why."""


def why_no_compiler() -> str | None:
    """Return why the kernel is not available here, as a message; None if it is, and then it has been built."""
    found = _found()
    return found if isinstance(found, str) else None


def kernel() -> ctypes.CDLL:
    """Return the kernel, after building it if it is not in the cache.

    Raises:
        CannotBuild: see `why_no_compiler`.
    """
    found = _found()
    if isinstance(found, str):
        raise CannotBuild(found)
    return found


@functools.cache
def _found() -> ctypes.CDLL | str:
    """Return the kernel, or why there is none; evaluated once per process."""
    try:
        library = ctypes.CDLL(str(build(KERNELS)))
    except (CannotBuild, OSError) as error:
        return str(error)
    library.hypermap_train.argtypes = [*[c_void_p] * 3, *[c_int64] * 4]
    library.hypermap_evaluate.argtypes = [*[c_void_p] * 3, *[c_int64] * 2, c_void_p, c_int64]
    library.hypermap_train.restype = library.hypermap_evaluate.restype = c_int
    return library


def build(cache: Path) -> Path:
    """Return the shared library in the folder `cache`, with a separate name for each source, compiler and processor.

    It is built under a temporary name and renamed, so that two processes may build at the same time.

    Raises:
        CannotBuild: there is no compiler, or it fails.
        OSError: the cache cannot be written.
    """
    command = [*compiler(), *FLAGS, *(WIDE if platform.machine().lower() in ("x86_64", "amd64") else ())]
    key = hashlib.sha256(b"\0".join(file.read_bytes() for file in sorted(SOURCES.iterdir()) if file.is_file()))
    for part in (shlex.join(command), _output_of([*command[: len(compiler())], "--version"]), _processor()):
        key.update(part.encode() + b"\0")
    library = (cache / f"kernel-{key.hexdigest()[:20]}.so").absolute()
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / library.name
            _output_of([*command, str(SOURCES / "kernel.cpp"), "-o", str(made)])
            made.replace(library)
    return library


def compiler() -> list[str]:
    """Return the first existing one of $CXX, g++, clang++ and c++, as the words of a command.

    Raises:
        CannotBuild: there is none.
    """
    for command in (shlex.split(os.environ.get("CXX", "")), *([name] for name in COMPILERS)):
        if command and shutil.which(command[0]):
            return command
    raise CannotBuild("there is no C++ compiler: none of $CXX, g++, clang++ and c++ is to be found")


def _output_of(command: list[str]) -> str:
    """Return the output of a compiler command.

    Raises:
        CannotBuild: it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"the C++ compiler {command[0]} failed: {error}") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise CannotBuild(f"the C++ compiler {command[0]} failed: {errors[0] if errors else done.returncode}")
    return done.stdout


def _processor() -> str:
    """Return the processor's model and features: ``-march=native`` builds for this processor only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
