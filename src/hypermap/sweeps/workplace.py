"""Where a sweep's command runs, and what each of its workers must find on its own machine."""

import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.search.storage import file_of

PACKAGES = ("torch", "numpy", "optuna", "hydra-core", "dvc")


def versions() -> dict[str, str]:
    """Return the versions of the libraries that determine a trial's metrics."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


@dataclass(frozen=True)
class Workplace:
    """The machine and the folder in which a sweep's command was given.

    Attributes:
        root: the current folder of the command.
        program: that it runs; None if that is no file, as in a notebook.
        modules: the folders beyond Python's own in which modules are found.
        versions: of the libraries that determine a trial's metrics.
    """

    host: str = field(default_factory=platform.node)
    root: Path = field(default_factory=Path.cwd)
    program: Path | None = field(default_factory=lambda: _program())
    modules: tuple[Path, ...] = field(default_factory=lambda: tuple(_folders_of_modules()))
    versions: dict[str, str] = field(default_factory=versions)

    def differences(self) -> str | None:
        """Return a message about this machine's versions that differ from the command's; None if there are none."""
        here = versions()
        other = [
            f"{name} {here[name]} instead of {was}"
            for name, was in self.versions.items()
            if _without_build(name, here[name]) != _without_build(name, was)
        ]
        if not other:
            return None
        return (
            f"{platform.node()} has {', '.join(other)}, which {self.host} has, so that its trials would not be "
            "comparable. Install the same there: pip install --requirement requirements.lock"
        )

    def root_here(self) -> Path:
        """Return the project's root on this machine: the same folder or, without one, the installed package's clone.

        Raises:
            UserError: neither has the program.
        """
        if self.program is None or not self.program.is_relative_to(self.root):
            if self.root.is_dir():
                return self.root
        elif self.program.exists():
            return self.root
        elif (ROOT / self.program.relative_to(self.root)).exists():
            return ROOT
        what = self.program.name if self.program else "the command"
        raise UserError(
            f"{platform.node()} has neither {self.root}, where {self.host} runs {what}, nor a clone of it in {ROOT}. "
            "Share the folder with it, or clone the project there and run make in the clone."
        )

    def moved(self, path: Path) -> Path:
        """Return a path of the command as it is on this machine: relative to the root, if it lies below that."""
        return self.root_here() / path.relative_to(self.root) if path.is_relative_to(self.root) else path

    def moved_storage(self, storage: str) -> str:
        """Return a study's storage as it is on this machine.

        Raises:
            UserError: it is a file that this machine does not see.
        """
        if (file := file_of(storage)) is None:
            return storage
        there = self.moved(file)
        elsewhere = platform.node() != self.host or self.root_here() != self.root
        if elsewhere and not there.exists():
            raise UserError(
                f"{platform.node()} does not see {there}, which has the study on {self.host}. Share the folder between "
                "the machines, or keep the study on a server: hydra.sweeper.storage=postgresql://USER:PASSWORD@HOST/NAME"
            )
        return storage.replace(str(file), str(there))

    def find_modules(self) -> None:
        """Let this process import the modules that the command could, after those of its own environment."""
        for folder in map(self.moved, self.modules):
            if str(folder) not in sys.path:
                sys.path.append(str(folder))


def _program() -> Path | None:
    program = Path(sys.argv[0]).absolute()
    return program if program.is_file() else None


def _without_build(name: str, version: str) -> str:
    """Return what of a version decides results: not torch's build for CUDA or the CPU, nor Python's third number."""
    return version.rpartition(".")[0] if name == "python" else version.partition("+")[0]


def _folders_of_modules() -> Iterator[Path]:
    """Yield the folders on Python's path that are not part of its installation: a script's own, PYTHONPATH's."""
    installed = [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
    for entry in sys.path:
        folder = Path(entry).absolute()
        if folder.is_dir() and not any(folder.is_relative_to(place) for place in installed):
            yield folder


@dataclass(frozen=True)
class Refusal:
    """What arrives instead of a worker on a machine that cannot run it; Hydra passes on the error that it raises."""

    message: str

    def __call__(self, config: Any) -> None:
        """Refuse the job.

        Raises:
            UserError: always.
        """
        raise UserError(self.message)


def unpack(make: Callable[..., Any], place: Workplace, state: bytes) -> Any:
    """Return what `make` makes of a pickled state, in a process that may run elsewhere than the command.

    That process changes into the project's root, and finds its modules, before the state is read, which may refer to
    them, and before Hydra makes folders.
    """
    if (message := place.differences()) is not None:
        return Refusal(message)
    try:
        os.chdir(place.root_here())
        place.find_modules()
        return make(**pickle.loads(state))  # noqa: S301  our own command's
    except UserError as error:
        return Refusal(str(error))
    except ImportError as error:
        return Refusal(
            f"{platform.node()}: {error}, which the sweep of {place.host} imports. Install it there, or add its folder "
            "to PYTHONPATH."
        )
