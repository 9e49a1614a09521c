"""Programs of the environment that start at once: forked from a process that has imported what they will.

A folder of shims stands first on the path of whoever may use forks. A shim hands its words, folder, environment and
files on to a server, which forks; the fork runs the program's script, and the shim ends as the fork does. What a fork
cannot be (with flags of Python's own, or variables that it reads at its start) the shim starts as ever. Its signals
are the fork's, but SIGSTOP; and where it leads a group of processes, so does the fork.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

POSSIBLE = sys.platform == "linux"  # signals by a file for each process, and sockets without a file
PROGRAMS = Path(sys.executable).parent
WITHOUT_TORCH = (
    *("dvc._debug", "dvc.cachemgr", "dvc.cli.parser", "dvc.data_cloud", "dvc.dirs", "dvc.dvcfile", "dvc.lock"),
    *("dvc.repo", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.experiments", "dvc.repo.index"),
    *("dvc.repo.open_repo", "dvc.repo.plots", "dvc.repo.reproduce", "dvc.repo.stage", "dvc.rwlock"),
    *("dvc.utils.strictyaml", "dvc_data.hashfile.db.local", "dvc_render", "fsspec.implementations.memory"),
    *("dulwich.client", "dulwich.ignore", "dulwich.index", "dulwich.worktree", "networkx", "pygit2", "scmrepo.git"),
    *("filelock", "importlib.readers", "importlib.resources", "joblib", "omegaconf", "ruamel.yaml"),
    *("hydra._internal.hydra", "hydra._internal.utils", "hydra.core.utils", "hydra.experimental.callback"),
    *("hydra._internal.core_plugins.bash_completion", "hydra._internal.core_plugins.basic_launcher"),
    *("hydra._internal.core_plugins.basic_sweeper", "hydra._internal.core_plugins.file_config_source"),
    *("hydra._internal.core_plugins.fish_completion", "hydra._internal.core_plugins.importlib_resources_config_source"),
    *("hydra._internal.core_plugins.structured_config_source", "hydra._internal.core_plugins.zsh_completion"),
    *("hydra._internal.logging_config", "hydra_plugins.hydra_joblib_launcher._core"),
    *("hydra_plugins.hydra_joblib_launcher.joblib_launcher", "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper"),
    *("numpy", "optuna", "polars", "safetensors.numpy", "scipy.io", "scipy.stats"),
    *("sklearn.datasets", "sklearn.metrics", "sklearn.model_selection", "statistics"),
)
WITH_TORCH = (
    *("torch", *WITHOUT_TORCH),
    *("jinja2", "matplotlib.backends.backend_agg", "matplotlib.pyplot", "matplotlib.style", "optuna.importance"),
    *("optuna.terminator", "optuna.visualization", "plotly.graph_objects", "plotly.io", "plotly.subplots"),
    *("plotly.graph_objs.bar", "plotly.graph_objs.layout", "plotly.graph_objs.scatter", "plotly.io._html"),
    *("plotly.offline", "plotly.validator_cache"),
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin", "PIL.features"),
    *("safetensors.torch", "skops.io", "sklearn.ensemble", "sklearn.isotonic", "sklearn.linear_model"),
    *("sklearn.manifold",),
)

SHIM = """#!{python} -IS
import _signal, _socket, marshal, os, resource, sys  # socket and signal take longer than all the rest

programs, program = {programs!r}, os.path.basename(sys.argv[0])
words = sys.argv[1:] if program == "python" else [programs + "/" + program, *sys.argv[1:]]
of_start = {{name for name in os.environ if name.startswith("PYTHON")}} - {without_meaning!r}
if of_start or not words or words[0].startswith("-") and words[0] not in ("-c", "-m"):
    os.execv(programs + "/" + program, [programs + "/" + program, *sys.argv[1:]])
files = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]
files = [number for number in sorted(files) if os.get_inheritable(number)]
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
light = program == "dvc" or os.path.basename(words[0]) in {light_scripts!r}
server.connect("\\0" + os.environ.get({variable!r}, {light!r} if light else {heavy!r}))
for number in (_signal.SIGTERM, _signal.SIGINT):
    _signal.signal(number, lambda number, frame: server.send(bytes([number])))
python, leads, limit = os.path.dirname(sys.argv[0]) + "/python", os.getpgrp() == os.getpid(), resource.RLIMIT_FSIZE
order = (python, words, os.getcwd(), dict(os.environ), resource.getrlimit(limit), leads, files)
numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in files)
server.sendmsg([marshal.dumps(order)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
code = int(server.recv(16))
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
VARIABLE = "FORK_SERVER"  # names the one to take
LIGHT_SCRIPTS = {"compose.py", "order.py", "preprocess.py", "promote.py"}  # which have no use for torch
# Of the variables that Python reads at its start, those that a fork heeds, or that change nothing in what it does.
WITHOUT_MEANING = {"PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


class ForkServer:
    """A process that has imported `modules`, and whose forks run scripts; it ends where `until` does."""

    def __init__(self, modules: Sequence[str], variables: dict[str, str], until: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from fork_server import main; main()", *modules],
            cwd=Path(__file__).parent,
            env=variables,
            stdin=until,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = f"hypermap-forks-{self.process.pid}"
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"


def write_shims(folder: Path, heavy: ForkServer, light: ForkServer) -> None:
    """Write the programs that have one of these fork into a new folder."""
    folder.mkdir()
    text = SHIM.format(
        python=Path(sys.executable).resolve(),  # an environment's own path may have blanks, which no first line takes
        programs=str(PROGRAMS),
        without_meaning=WITHOUT_MEANING,
        light_scripts=LIGHT_SCRIPTS,
        variable=VARIABLE,
        heavy=heavy.name,
        light=light.name,
    )
    for program in ("python", "dvc"):
        path = folder / program
        path.write_text(text)
        path.chmod(0o755)
