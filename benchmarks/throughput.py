"""Training speed: samples per second of Hypermap's trainer beside three others, same data, network and settings.

python benchmarks/throughput.py            three to seven minutes; `make bench` makes the environment first
python benchmarks/throughput.py --quick    does it run at all: the figures mean nothing

Each contender has a process of its own, so that no one's settings reach another, and waits in it without a
load until it is called. They are called in turn, round by round, so that whatever else the machine does hits
all alike. What is timed is training alone: no start-up, no validation, no logging, no checkpoints.
"""

import argparse
import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

CACHE = ROOT / "data" / "cache"
ROUNDS = 5
SECONDS = 1.0  # the least that one measurement takes, in whole epochs
QUICK_ROWS = 1024

Train = Callable[[int], float]  # trains so many epochs and returns the seconds that they took


@dataclass(frozen=True)
class Problem:
    """A data set and a network, as the menu has them, and how many times as fast as a peer Hypermap is to be."""

    title: str
    overrides: tuple[str, ...]  # of the menu's defaults, as on the command line of src/train.py
    targets: dict[str, float]


@dataclass(frozen=True)
class Work:
    """What every contender gets: the same configuration and, by way of the prepared folder, the same rows."""

    configuration: dict[str, Any]
    prepared: Path | None  # None: random rows of MNIST's shape
    rows: int | None  # only so many; None: all


@dataclass
class Contender:
    """One trainer on one number of threads, and what was measured of it."""

    name: str
    one_thread: bool
    connection: Connection
    process: Any
    threads: int = 0
    device: str = ""
    rows: int = 0
    epochs: int = 1  # in one measurement
    rates: list[float] = field(default_factory=list)  # samples per second, one a round

    def measure(self) -> float:
        """Train for one measurement; samples per second."""
        self.connection.send(self.epochs)
        return self.rows * self.epochs / self.connection.recv()


PROBLEMS = (
    Problem(
        "Digits, MLP 64-128-10",
        ("optimizer.lr=0.001",),
        {"textbook": 1.9, "lightning": 4.0, "keras": 5.0},
    ),
    Problem(
        "MNIST, MLP 784-128-10 with dropout 0.2", ("experiment=mnist_mlp", "optimizer.lr=0.001"), {"textbook": 1.6}
    ),
)


# The contenders. Each builds what it needs and returns a function that trains. The peers know the rows as a
# user of theirs would have them: tensors in memory behind a DataLoader, or NumPy arrays.


def hypermap(work: Work) -> Train:
    """`Trainer.epoch`, made ready as in `hypermap.experiment.train`: with scores, gradient norms and history."""
    import torch

    from hypermap import machine
    from hypermap.build import build
    from hypermap.parts import make_parts
    from hypermap.trainer import Trainer

    machine.make_repeatable()
    configuration = work.configuration
    settings = build(configuration["trainer"])
    device = machine.choose_device(settings.device)
    torch.manual_seed(configuration["seed"])
    split, manifest = load_rows(work, device)
    parts = make_parts(configuration, manifest, device)
    torch.set_num_threads(machine.choose_threads(parts.model, settings.batch_size))
    trainer = Trainer(parts, settings, "classification", configuration["seed"], device)
    parts.loss.fit(split.targets, len(manifest["classes"]))
    rates = [configuration["optimizer"]["lr"]] * math.ceil(len(split.targets) / settings.batch_size)

    def train(epochs: int) -> float:
        started = time.perf_counter()
        for _ in range(epochs):
            trainer.progress.history.append(trainer.epoch(split, settings.batch_size, rates))
        return time.perf_counter() - started  # an epoch ends with its loss as a number: nothing is left in flight

    return train


def textbook(work: Work) -> Train:
    """The loop of PyTorch's quickstart tutorial: a DataLoader and torch.optim.Adam as it comes."""
    import torch
    from torch import nn

    model, loader = torch_network(work), torch_loader(work)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=work.configuration["optimizer"]["lr"])

    def train(epochs: int) -> float:
        started = time.perf_counter()
        model.train()
        for _ in range(epochs):
            for step, batch in enumerate(loader):
                inputs, targets = (tensor.to(device) for tensor in batch)
                loss = loss_function(model(inputs), targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if step % 100 == 0:
                    loss.item()  # the tutorial prints it
        synchronize()
        return time.perf_counter() - started

    return train


def lightning(work: Work) -> Train:
    """Lightning's Trainer with everything off that can be; timed from its first step to its last."""
    import logging
    import warnings

    import lightning as pl
    import torch
    from torch.nn import functional as F

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # advice on workers for the loader, which rows in memory do not need
    model, loader = torch_network(work), torch_loader(work)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            inputs, targets = batch
            return F.cross_entropy(self.model(inputs), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=work.configuration["optimizer"]["lr"])

        def on_train_start(self) -> None:
            self.started = time.perf_counter()

        def on_train_end(self) -> None:
            synchronize()
            self.seconds = time.perf_counter() - self.started

    module = Module()

    def train(epochs: int) -> float:
        trainer = pl.Trainer(
            max_epochs=epochs,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)
        return module.seconds

    return train


def keras(work: Work) -> Train:
    """Keras on the torch backend: model.fit on NumPy arrays."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    split, manifest = load_rows(work, "cpu")
    inputs, targets = split.inputs.numpy(), split.targets.numpy()
    hidden, dropout, classes = network_sizes(work, manifest)
    layers = [keras.layers.Flatten(), keras.layers.Dense(hidden, activation="relu")]
    layers += [keras.layers.Dropout(dropout)] if dropout else []
    model = keras.Sequential([keras.Input(manifest["shape"]), *layers, keras.layers.Dense(classes)])
    model.compile(
        optimizer=keras.optimizers.Adam(work.configuration["optimizer"]["lr"]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batch_size = work.configuration["trainer"]["batch_size"]

    def train(epochs: int) -> float:
        started = time.perf_counter()
        model.fit(inputs, targets, batch_size=batch_size, epochs=epochs, verbose=0)
        synchronize()
        return time.perf_counter() - started

    return train


BUILDERS: dict[str, Callable[[Work], Train]] = {
    "hypermap": hypermap,
    "textbook": textbook,
    "lightning": lightning,
    "keras": keras,
}


def load_rows(work: Work, device: Any) -> tuple[Any, dict[str, Any]]:
    """The training rows on `device` and what a manifest says of them."""
    import torch

    from hypermap.data.prepare import Split, load, read_manifest

    if work.prepared is not None:
        split, manifest = load(work.prepared, "train"), read_manifest(work.prepared)
    else:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.rand(48_000, 1, 28, 28, generator=generator)
        split = Split(inputs, torch.randint(10, (48_000,), generator=generator), torch.arange(48_000))
        manifest = {"task": "classification", "classes": [str(digit) for digit in range(10)], "shape": [1, 28, 28]}
    kept = slice(work.rows)
    return Split(split.inputs[kept].to(device), split.targets[kept].to(device), split.rows[kept]), manifest


def network_sizes(work: Work, manifest: dict[str, Any]) -> tuple[int, float, int]:
    """Hidden units, dropout and classes."""
    model = work.configuration["model"]
    (hidden,) = model["hidden"]
    return hidden, model["dropout"], len(manifest["classes"])


def torch_network(work: Work) -> Any:
    """The network as one would write it with torch alone."""
    from torch import nn

    _, manifest = load_rows(work, "cpu")
    hidden, dropout, classes = network_sizes(work, manifest)
    drop = [nn.Dropout(dropout)] if dropout else []
    first = nn.Linear(math.prod(manifest["shape"]), hidden)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), *drop, nn.Linear(hidden, classes))


def torch_loader(work: Work) -> Any:
    """The rows behind torch's DataLoader, shuffled each epoch."""
    from torch.utils.data import DataLoader, TensorDataset

    split, _ = load_rows(work, "cpu")
    dataset = TensorDataset(split.inputs, split.targets)
    return DataLoader(dataset, batch_size=work.configuration["trainer"]["batch_size"], shuffle=True)


def synchronize() -> None:
    """Wait for what a GPU has still to do."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


# The race.


def serve(connection: Connection, name: str, one_thread: bool, work: Work) -> None:
    """A contender's process: build, say where it runs, then train whenever told how many epochs."""
    import torch

    if one_thread:
        torch.set_num_threads(1)
    train = BUILDERS[name](work)
    rows = len(load_rows(work, "cpu")[0].targets)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    connection.send((torch.get_num_threads(), device, rows))
    while (epochs := connection.recv()) is not None:
        connection.send(train(epochs))


@contextmanager
def contenders(names: list[str], work: Work) -> Iterator[list[Contender]]:
    """Every contender in a process of its own, ready; a peer both on torch's number of threads and on one."""
    spawn = multiprocessing.get_context("spawn")
    entrants = []
    try:
        for name, one_thread in [(n, one) for n in names for one in ((False,) if n == "hypermap" else (False, True))]:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=serve, args=(theirs, name, one_thread, work), daemon=True)
            process.start()
            theirs.close()  # so that a contender that dies is an end of file here
            entrants.append(Contender(name, one_thread, ours, process))
        for contender in entrants:
            contender.threads, contender.device, contender.rows = contender.connection.recv()
        yield entrants
    finally:
        for contender in entrants:
            contender.process.terminate()


def race(entrants: list[Contender], rounds: int, seconds: float) -> None:
    """A round that does not count and sets the epochs of a measurement; then the rounds, contender by contender."""
    for contender in entrants:
        contender.measure()
        contender.epochs = max(1, math.ceil(seconds * contender.measure() / contender.rows))
    for _ in range(rounds):
        for contender in entrants:
            contender.rates.append(contender.measure())


def prepare(problem: Problem, quick: bool) -> tuple[Work, str]:
    """The configuration and the data, prepared once for all; also says which data."""
    from hypermap.compose import compose
    from hypermap.data.fetch import DOWNLOADS, given_folder
    from hypermap.data.prepare import find_or_prepare

    configuration = compose(problem.overrides)
    data = {key: value for key, value in configuration["data"].items() if key != "name"}
    rows = QUICK_ROWS if quick else None
    if data["_target_"].endswith("mnist") and not given_folder(None) and not (DOWNLOADS / "mnist").is_dir():
        return Work(configuration, None, rows), "random, of MNIST's shape (HYPERMAP_DATA names a folder that has MNIST)"
    return Work(configuration, find_or_prepare(data, [], CACHE), rows), "the real data"


# What is told of it.


def machine_lines() -> list[str]:
    """The processor, its cores and their load, and the versions."""
    names = ("torch", "lightning", "keras", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if importlib.util.find_spec(name)]
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return [
        f"{processor()}, {os.cpu_count()} cores{load}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def processor() -> str:
    """The processor's name, where the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def table(entrants: list[Contender], targets: dict[str, float]) -> list[str]:
    """A Markdown table; a target is held against the faster of a peer's two numbers of threads."""
    lines = [
        "| trainer | threads | thousand samples a second, median | min | max | Hypermap is | target |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    own = next((statistics.median(c.rates) for c in entrants if c.name == "hypermap"), math.nan)
    fastest = {c.name: max(statistics.median(o.rates) for o in entrants if o.name == c.name) for c in entrants}
    for contender in entrants:
        median = statistics.median(contender.rates)
        ratio, target = own / median, targets.get(contender.name)
        figures = " | ".join(f"{rate / 1000:.1f}" for rate in (median, min(contender.rates), max(contender.rates)))
        times = "" if contender.name == "hypermap" else f"{ratio:.2f} times as fast"
        held = target is not None and median == fastest[contender.name]
        verdict = f"{target}: {'met' if ratio >= target else 'not met'}" if held else ""
        lines.append(f"| {contender.name} | {contender.threads} | {figures} | {times} | {verdict} |")
    return lines


def measure(problem: Problem, names: list[str], quick: bool) -> list[str]:
    """The race on one problem, as lines of Markdown."""
    work, data = prepare(problem, quick)
    settings = work.configuration
    with contenders(names, work) as entrants:
        race(entrants, 1 if quick else ROUNDS, 0.0 if quick else SECONDS)
    told = (
        f"{entrants[0].rows:,} rows, {data}; batches of {settings['trainer']['batch_size']}, "
        f"Adam at {settings['optimizer']['lr']}; on: {', '.join(sorted({c.device for c in entrants}))}"
    )
    return [f"**{problem.title}.** {told}", "", *table(entrants, problem.targets), ""]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few rows, one epoch, one round")
    parser.add_argument("--contenders", nargs="+", choices=BUILDERS, default=list(BUILDERS), metavar="NAME")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result here too, as Markdown")
    return parser.parse_args()


def main() -> None:
    """Race on each problem, print, and write where asked. The exit code says nothing of the figures."""
    from hypermap.files import write_text

    options = arguments()
    absent = [
        name for name in options.contenders if name in ("lightning", "keras") and not importlib.util.find_spec(name)
    ]
    names = [name for name in options.contenders if name not in absent]
    lines = [
        *(f"- {line}" for line in machine_lines()),
        *(f"- {name} is not installed: left out" for name in absent),
        "",
    ]
    print("\n".join(lines), flush=True)
    for problem in PROBLEMS if names else ():
        told = measure(problem, names, options.quick)
        print("\n".join(told), flush=True)
        lines += told
    if options.output:
        write_text(options.output, "\n".join(lines))


if __name__ == "__main__":
    from hypermap.errors import run

    run(main)
