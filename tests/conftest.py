"""Clones of the working tree, in which tests run the real commands as a user would.

Most of what a command takes is imports. So commands that run to their end, or are killed, are forked from a process
that has imported everything; those that a test stops or sends a signal are started.
"""

import gc
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from ruamel.yaml import YAML

from hypermap.core.paths import ROOT
from support.forks import POSSIBLE, VARIABLE, WITH_TORCH, WITHOUT_TORCH, ForkServer, write_shims

# Torch's threads spin while they wait for one another, which slows down whatever runs beside them a hundredfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PATIENCE_S = 120.0
QUICK = {
    "model": {"name": "mlp", "hidden": [16]},
    "optimizer": {"name": "adam", "lr": 0.01},
    "trainer": {"name": "default", "epochs": 3, "batch_size": 64},
    "evaluation": {"bootstrap_repeats": 100, "map": "pca"},
}
# Python imports this at its start. At the end of a stage it notes which of the package's modules were imported.
WITNESS = """
import atexit, json, os, sys
from pathlib import Path

def note():
    if sys.argv and sys.argv[0].startswith("src/"):
        files = [getattr(module, "__file__", None) for name, module in list(sys.modules.items())
                 if name.split(".")[0] == "hypermap"]
        names = sorted(os.path.relpath(file) for file in files if file)
        (Path(__file__).parent / f"{Path(sys.argv[0]).stem}.json").write_text(json.dumps(names))

atexit.register(note)
"""

# A compiler that builds each library once: the last of its words names it, by all that it is made of.
COMPILER = """#!/bin/sh
for library; do :; done
kept="${{0%/*}}/${{library##*/}}"
if [ -e "$kept" ]; then
    cp "$kept" "$library"
else
    {compiler} "$@" || exit
    case "$library" in *.so) cp "$library" "$kept.$$" && mv "$kept.$$" "$kept" ;; esac
fi
"""


def pytest_collection_finish() -> None:
    """Look no more for garbage among what was imported, which takes a sixth of the time of composing."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def stages(self) -> list[str]:
        """The stages that DVC ran."""
        return re.findall(r"Running stage '(\w+)'", self.out)


@dataclass(frozen=True)
class Project:
    """A clone, and commands in it."""

    path: Path
    variables: dict[str, str]
    forking: dict[str, str]  # the variables in which Python and DVC are forked

    def start(self, *words: str, file_kib: int | None = None, **variables: str) -> subprocess.Popen[str]:
        """Begin a command; no file it writes may be larger than `file_kib`, as if the disk were full then."""
        limited = () if file_kib is None else ("bash", "-c", 'ulimit -f "$0" && exec "$@"', str(file_kib))
        return subprocess.Popen(
            [*limited, *words],
            cwd=self.path,
            env=self.variables | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, file_kib: int | None = None, **variables: str) -> Outcome:
        """Run a command to its end, whatever that is."""
        with self.start(*words, file_kib=file_kib, **self.forking | variables) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Outcome(process.returncode, out, err)

    def ok(self, *words: str, **variables: str) -> Outcome:
        """Run a command that has to succeed."""
        outcome = self.run(*words, **variables)
        assert outcome.code == 0, f"{' '.join(words)}\n{outcome.out}\n{outcome.err}"
        return outcome

    def fails(self, *words: str, file_kib: int | None = None, **variables: str) -> str:
        """Run a command that has to end with one message, which is returned, and without a traceback."""
        outcome = self.run(*words, file_kib=file_kib, **variables)
        told = f"{' '.join(words)}\n{outcome.out}\n{outcome.err}"
        assert outcome.code in (1, 2), told
        assert "Traceback" not in outcome.out + outcome.err, told
        assert outcome.err.count("Error: ") == 1, told
        return outcome.err

    def killed(self, *words: str, epoch: int) -> dict[str, Any]:
        """Begin a training, kill it once `epoch` epochs are on the disk, and return the state that it left."""
        process = self.start(*words, **self.forking)
        try:
            self.until(lambda: len(self.progress().get("history", ())) >= epoch or process.poll() is not None)
        finally:
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate()  # to the end of a fork too, which has these pipes
        assert process.returncode == -signal.SIGKILL, f"it ended before it could be killed: {err}"
        return self.progress()

    @staticmethod
    def until(holds: Callable[[], object], pause_s: float = 0.002) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, f"not so after {PATIENCE_S:.0f} s"
            time.sleep(pause_s)

    def progress(self) -> dict[str, Any]:
        """The state of the one run, or of the one trial, in progress; empty where there is none."""
        places = [*self.path.glob("runs/*/progress.json"), *self.path.glob("studies/*/*/state/*/progress.json")]
        records = [json.loads(path.read_text()) for path in places]
        return records[0] if records else {}

    def tracked(self) -> dict[str, bytes]:
        """The content of every file in Git."""
        return {name: (self.path / name).read_bytes() for name in self.ok("git", "ls-files").out.splitlines()}

    def content(self, *names: str) -> dict[str, bytes]:
        """Every file under these folders, and these files, with what is in it."""
        paths = [path for name in names for path in [self.path / name, *(self.path / name).rglob("*")]]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in paths if path.is_file()}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a passage that a file has once."""
        text = (self.path / name).read_text()
        assert text.count(old) == 1, f"{old!r} is in {name} {text.count(old)} times"
        (self.path / name).write_text(text.replace(old, new))

    def append(self, name: str, text: str) -> None:
        with (self.path / name).open("a") as file:
            file.write(text)

    def order(self, **groups: Any) -> None:
        """Write these entries into params.yaml."""
        write_order(self.path / "params.yaml", groups)

    def yaml(self, name: str) -> Any:
        return yaml.safe_load((self.path / name).read_text())

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())


def write_order(path: Path, groups: dict[str, Any]) -> None:
    editor = YAML()
    order = editor.load(path.read_text())
    for key, value in groups.items():
        order[key] = editor.map(**value) if isinstance(value, dict) else value
        if isinstance(value, dict):
            order[key].fa.set_flow_style()
    with path.open("w") as file:
        editor.dump(order, file)


class Forks:
    """The processes that fork.

    With the variables `light`, Python and DVC are forked from one that has not imported torch, which is quicker; with
    `heavy`, what may want torch is forked from one that has. All workers of pytest share them: they last until the last
    worker has let go of the pipe that they read.
    """

    def __init__(self, folder: Path) -> None:
        self.heavy: dict[str, str] = {}
        self.light: dict[str, str] = {}
        self.servers: list[ForkServer] = []
        if not POSSIBLE:
            return
        variables, pipe, name = _variables(folder), folder / "pipe", folder / "light"
        self.lock = FileLock(folder.with_suffix(".lock"))
        with self.lock:
            try:
                self.held = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody has begun them, or they have ended, and nobody reads
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                os.mkfifo(pipe)
                self.held = os.open(pipe, os.O_RDWR)
                with pipe.open("rb") as end:
                    self.servers = [ForkServer(modules, variables, end) for modules in (WITH_TORCH, WITHOUT_TORCH)]
                write_shims(folder / "programs", *self.servers)
                name.write_text(self.servers[1].name)
        self.heavy = {"PATH": f"{folder / 'programs'}{os.pathsep}{variables['PATH']}"}
        self.light = self.heavy | {VARIABLE: name.read_text()}

    def end(self) -> None:
        if POSSIBLE:
            os.close(self.held)
        if self.servers:
            with self.lock:
                for server in self.servers:
                    server.process.wait()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(shared_folder(tmp_path_factory) / "forks")
    yield forks
    forks.end()


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of pytest see."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def one_build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the native kernel, which would else be built in every folder that trains, for three seconds each time."""
    compilers = (os.environ.get("CXX"), *map(shutil.which, ("g++", "clang++", "c++")))
    compiler = next(filter(None, compilers), None)
    with pytest.MonkeyPatch.context() as patch:
        if compiler:
            path = shared_folder(tmp_path_factory) / "compiler/c++"
            with FileLock(path.parent.with_suffix(".lock")):
                if not path.exists():
                    path.parent.mkdir()
                    path.write_text(COMPILER.format(compiler=compiler))
                    path.chmod(0o755)
            patch.setenv("CXX", str(path))
        yield


class Clones:
    """Makes clones, each in a folder of its own.

    ``clone()`` has a quick order, was run once by `dvc repro`, and is committed with its results; ``clone("fresh")``
    is the working tree as it is, committed, and nothing more. `shared` is one of the first kind, not to be changed.
    `no_torch` are variables with which torch cannot be imported.
    """

    def __init__(self, shared: Path, own: Path, forks: Forks) -> None:
        self.common, self.folder = shared, own
        self.numbers = itertools.count(1)
        self.variables = _variables(own)
        self.forking = forks.heavy
        self.fresh, self.quick, self.shared = (self._project(shared / kind) for kind in ("fresh", "quick", "shared"))
        no_torch = shared / "no-torch"
        self.no_torch = forks.light | {"PYTHONPATH": str(no_torch)}
        with FileLock(shared.with_suffix(".lock")):
            if not (made := shared / "made").exists():
                _copy_working_tree(self.fresh.path)
                _commit_all(self.fresh)
                self._run_once()
                _copy(self.quick.path, self.shared.path)
                no_torch.mkdir()
                (no_torch / "torch.py").write_text("raise AssertionError('torch was imported')")
                made.touch()

    def __call__(self, kind: str = "quick") -> Project:
        project = self._project(self.folder / f"clone-{next(self.numbers)}")
        _copy(getattr(self, kind).path, project.path)
        return project

    def _project(self, path: Path) -> Project:
        return Project(path, self.variables, self.forking)

    def imported(self, script: str) -> list[str]:
        """The package's files that a stage's script imports."""
        names: list[str] = json.loads((self.common / "witness" / f"{script}.json").read_text())
        return names

    def _run_once(self) -> None:
        _copy(self.fresh.path, self.quick.path)
        self.quick.order(**QUICK)
        witness = self.common / "witness"
        witness.mkdir()
        (witness / "sitecustomize.py").write_text(WITNESS)
        self.quick.ok("dvc", "repro", "--force", PYTHONPATH=str(witness))
        _commit_all(self.quick)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Clones:
    return Clones(shared_folder(tmp_path_factory) / "clones", tmp_path_factory.mktemp("clones"), forks)


def _variables(folder: Path) -> dict[str, str]:
    """The environment of a user who has installed the project, without this machine's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYPERMAP_", "DVC_", "GIT_", "HYDRA_", "PYTHON"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "COLUMNS": "200",
    }


def _copy(folder: Path, target: Path) -> None:
    subprocess.run(["cp", "-Rp", folder, target], check=True)  # in a fifth of the time that shutil takes


def _copy_working_tree(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _commit_all(project: Project) -> None:
    for words in (
        ["init", "--quiet"],
        ["config", "user.name", "Tester"],
        ["config", "user.email", "tester@example.com"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "As it is"],
        ["gc", "--quiet"],  # fewer files are copied sooner
    ):
        project.ok("git", *words)


@pytest.fixture
def is_whole() -> Callable[[Any, Callable[..., Any]], None]:
    """Asserts that a verdict of a study's report is by this check, and says something."""

    def assert_whole(verdict: Any, check: Callable[..., Any]) -> None:
        assert verdict.check == check.__name__
        assert verdict.question.endswith("?")
        assert verdict.evidence
        assert verdict.advice.endswith(".")
        json.dumps(verdict.numbers, allow_nan=False)

    return assert_whole


@pytest.fixture
def a_place_of_its_own(monkeypatch, tmp_path):
    """Training writes to runs/ of the current folder and sets torch's threads, algorithms and rounding."""
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("TORCHINDUCTOR_DETERMINISTIC", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.set_flush_denormal(False)
