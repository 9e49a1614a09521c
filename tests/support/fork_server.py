"""The process that forks: it imports the modules on its command line and waits for the shims of forks.py."""

import atexit
import fcntl
import gc
import importlib
import marshal
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import spawn
from pathlib import Path

MESSAGE, FILES = 1 << 20, 250
HIGH = 1000  # more files than a process has


@dataclass
class Order:
    """What a shim asks for: to be `python words…`, with these files under these numbers."""

    python: str
    words: list[str]
    folder: str
    variables: dict[str, str]
    file_size: tuple[int, int]
    leads_group: bool
    numbers: list[int]
    files: list[int]


class Forks:
    """The forks that run, and the connections to their shims."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(sys.stdin, selectors.EVENT_READ)
        self.waiting.register(listener, selectors.EVENT_READ)
        self.shims: dict[int, socket.socket] = {}  # by the file that tells when the fork ends
        self.processes: dict[int, int] = {}

    def serve(self) -> Order:
        """Fork for each shim, until all are gone who hold the standard input. Returns in the forks alone."""
        while True:
            for key, _ in self.waiting.select():
                if key.fileobj is sys.stdin:
                    sys.exit()
                if key.fileobj is self.listener:
                    if (order := self.fork()) is not None:
                        return order
                elif key.fd in self.processes:
                    self.tell_end(key.fd)
                elif key.data in self.processes:
                    self.pass_on(key.fileobj, key.data)

    def fork(self) -> Order | None:
        shim, _ = self.listener.accept()
        message, files, _, _ = socket.recv_fds(shim, MESSAGE, FILES)
        if not message:  # the shim was killed before it asked
            shim.close()
            return None
        order = Order(*marshal.loads(message), files)  # noqa: S302  a shim's
        if not (process := os.fork()):
            for held in (*self.shims.values(), shim, self.listener, self.waiting):
                held.close()
            for ended in self.processes:
                os.close(ended)
            return order
        for file in files:
            os.close(file)
        if order.leads_group:
            os.setpgid(process, process)
        ended = os.pidfd_open(process)
        self.processes[ended], self.shims[ended] = process, shim
        self.waiting.register(ended, selectors.EVENT_READ)
        self.waiting.register(shim, selectors.EVENT_READ, ended)
        return None

    def pass_on(self, shim: socket.socket, ended: int) -> None:
        """Send the fork the signal that its shim got; a shim that is gone was killed."""
        told = shim.recv(1)
        process = self.processes[ended]
        send = os.killpg if os.getpgid(process) == process else os.kill
        send(process, told[0] if told else signal.SIGKILL)
        if not told:
            self.waiting.unregister(shim)

    def tell_end(self, ended: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.processes.pop(ended), 0)[1])
        self.waiting.unregister(ended)
        os.close(ended)
        shim = self.shims.pop(ended)
        if shim in self.waiting.get_map():
            self.waiting.unregister(shim)
            with suppress(ConnectionError):  # it may have been killed meanwhile
                shim.send(str(code).encode())
        shim.close()


def become(order: Order) -> None:
    """Make this process what Python is before it runs a script."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, HIGH) for file in order.files]
    for file in order.files:
        os.close(file)
    for file, number in zip(moved, order.numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.variables)
    resource.setrlimit(resource.RLIMIT_FSIZE, order.file_size)
    sys.executable = order.python
    spawn.set_executable(order.python)
    sys.orig_argv[:] = [order.python, *order.words]
    given = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [*beside_the_program(""), *given]
    sys.path_importer_cache.clear()
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):
        importlib.import_module("sitecustomize")
    sys.modules["__main__"].__dict__.pop("main")
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def beside_the_program(folder: str) -> list[str]:
    """Return the folder that Python puts before its own path, unless it is told not to."""
    return [] if os.environ.get("PYTHONSAFEPATH") else [folder]


def run(words: list[str]) -> None:
    """Run what Python runs with these words."""
    first = len(beside_the_program(""))
    match words:
        case ["-c", text, *rest]:
            sys.argv[:] = ["-c", *rest]
            exec(compile(text, "<string>", "exec"), sys.modules["__main__"].__dict__)
        case ["-m", name, *rest]:
            sys.argv[:] = [name, *rest]
            sys.path[:first] = beside_the_program(str(Path.cwd()))
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        case [script, *_]:
            sys.argv[:] = words
            path = Path(script).absolute()
            sys.path[:first] = beside_the_program(str(path.resolve().parent))
            sys.modules["__main__"].__file__ = str(path)
            exec(compile(path.read_bytes(), path, "exec"), sys.modules["__main__"].__dict__)


def outcome(words: list[str]) -> int:
    """Run what Python runs with these words to its end, and return the exit code."""
    try:
        run(words)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException as error:
        begins = error.__traceback__.tb_next.tb_next  # after this function's frame and that of run
        sys.excepthook(type(error), error.with_traceback(begins), begins)
        return 1
    return 0


def leave_to_the_end_of_the_server() -> None:
    """Keep forks from what takes long when a process ends that has imported torch, and tells nothing of theirs."""
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False


def learn_the_grammars() -> None:
    """Let Hydra's and OmegaConf's parsers learn their grammars, for which the first texts take many times as long."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    OverridesParser.create().parse_overrides(
        ["a=b", "+a/b=c", "++a.b=[1,2.5e-3,'c',null,true]", "~a", "a={b: 1, c: d}", "a=1,2", "a=${b}", "a.b=a/b.c",
         "a=interval(0,1.5)", "a=tag(b,choice(1,c))", "a=range(1,9)", "a.b=int(interval(1,2))", "a=glob(*)"]
    )  # fmt: skip
    OmegaConf.to_container(
        OmegaConf.create({"a": "${b}", "b": "c", "d": "${.b}/${e.f}", "e": {"f": "${oc.env:PATH}"}}), resolve=True
    )


def find_the_fonts() -> None:
    """Let matplotlib read what its first picture needs: its style, its fonts, their letters."""
    import io

    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context({}, after_reset=True):
        figure = Figure(layout="constrained")
        for weight in ("normal", "bold"):
            axes = figure.add_subplot()
            axes.set_title("0123456789", fontweight=weight)
            axes.set_yscale("log")
        FigureCanvasAgg(figure).print_png(io.BytesIO())


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0hypermap-forks-{os.getpid()}")
    listener.listen()
    print("listening", flush=True)  # shims that come before the imports are done wait
    for module in sys.argv[1:]:
        importlib.import_module(module)
    learn_the_grammars()
    if "matplotlib" in sys.modules:
        find_the_fonts()
    leave_to_the_end_of_the_server()
    gc.collect()
    gc.freeze()
    order = Forks(listener).serve()
    become(order)
    code = outcome(order.words)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)  # to clear away what was imported takes longer than most commands
