"""Who races: Hypermap's trainer, alone and as a stack, and the peers, on the same rows, network and settings.

The peers know the rows as a user of theirs would have them: tensors in memory behind a DataLoader, or NumPy arrays.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from race import Entry, Ready, Work

if TYPE_CHECKING:
    from hypermap.data.manifest import Manifest
    from hypermap.training.state import TrainState


def hypermap(work: Work, members: int = 1, backend: str = "eager") -> Ready:
    """`Trainer.epoch`, made ready as in a run or a sweep: with training scores, gradient norms and history.

    The members differ in learning rate and seed. Where ``auto`` finds that a stack does not pay, one trains by itself.
    """
    import torch

    from hypermap.core import device as machine
    from hypermap.training.backends import choice

    machine.make_repeatable()
    rows = hypermap_rows(work)
    estimators = [estimator(work, rows, number, members) for number in range(members)]
    first = estimators[0]
    fold = first.encode(rows)
    begun = [own.begin(fold, own.configuration["seed"], own=members > 1) for own in estimators]
    chosen = backend
    if backend == "auto":
        chosen = fastest(first, rows, members)
        kept = 1 if chosen == "eager" else members
        begun = begun[:kept]
    threads = first.threads if chosen == "eager" else machine.CORES
    torch.set_num_threads(1 if chosen == "native" else threads)  # the kernel has threads of its own
    sets = dict.fromkeys(range(len(begun)), fold.sets)
    trainer = unvalidated()(dict(enumerate(begun)), sets, partial(choice.make, chosen, threads=threads))

    takes = "one at a time" if chosen == "eager" else chosen
    detail = f"takes {takes}" if backend == "auto" else ""
    return Ready(
        epochs_of(trainer, begun), len(rows.train.targets), device_name(first.device.type), len(begun), threads, detail
    )


def epochs_of(trainer: Any, members: "Sequence[TrainState]") -> Callable[[int], float]:
    """What trains members anew for some epochs, and returns the seconds that takes."""
    from hypermap.training.state import Progress

    def train(epochs: int) -> float:
        for member in members:
            member.settings = replace(member.settings, epochs=epochs)
            member.progress = Progress(schedule=member.parts.schedule.start())
        started = time.perf_counter()
        for _ in range(epochs):
            trainer.epoch(lambda told: {})
        synchronize()
        return time.perf_counter() - started

    return train


def unvalidated() -> type:
    """`Trainer`, whose epochs validate nothing, as the peers' do not."""
    from hypermap.training.loop import Trainer

    class Unvalidated(Trainer[int]):
        def evaluate(self) -> list[dict[str, Any]]:
            return [{"validation_loss": 0.0, "validation_score": 0.0} for _ in self.members]

    return Unvalidated


def estimator(work: Work, rows: Any, number: int, members: int) -> Any:
    """What trains member `number`: its learning rate is within a factor of three of the configuration's."""
    from hypermap.core.instantiate import instantiate
    from hypermap.experiments.estimators import TorchEstimator

    configuration = work.configuration
    rate = configuration["optimizer"]["lr"] * 3 ** (2 * number / max(1, members - 1) - 1 if members > 1 else 0)
    own = {
        **configuration,
        "seed": configuration["seed"] + number,
        "optimizer": {**configuration["optimizer"], "lr": rate},
    }
    return TorchEstimator(own, instantiate(own["trainer"]), rows.transform)


def fastest(first: Any, rows: Any, members: int) -> str:
    """What ``auto`` takes for so many, by the measurement with which a sweep begins."""
    from hypermap.core import device as machine
    from hypermap.training.backends import choice

    fold = first.encode(rows)

    def probe(count: int) -> list[Any]:
        return [first.begin(fold, 0, own=True) for _ in range(count)]

    train = fold.sets.train
    alone, threads = first.threads, machine.CORES
    return choice.measure(probe, members, train.inputs, train.targets, alone=alone, threads=threads).fastest


def textbook(work: Work) -> Ready:
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

    return Ready(train, len(loader.dataset), device_name())


def lightning(work: Work) -> Ready:
    """Lightning's Trainer with everything off that can be; timed from its first step to its last."""
    import logging
    import warnings

    import lightning as pl
    import torch
    from torch.nn import functional as F

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # advice on workers for the loader, which rows in memory do not need
    model, loader = torch_network(work), torch_loader(work)

    class Module(pl.LightningModule):  # type: ignore[misc, unused-ignore]  # where it is not installed
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

    return Ready(train, len(loader.dataset), device_name())


def keras(work: Work) -> Ready:
    """Keras on the torch backend: model.fit on NumPy arrays."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    split, manifest = load_rows(work)
    inputs, targets = split.inputs.numpy(), split.targets.numpy()
    hidden, dropout, classes = network_sizes(work, manifest)
    layers = [keras.layers.Flatten(), keras.layers.Dense(hidden, activation="relu")]
    layers += [keras.layers.Dropout(dropout)] if dropout else []
    model = keras.Sequential([keras.Input(manifest.shape), *layers, keras.layers.Dense(classes)])
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

    return Ready(train, len(targets), device_name())


PEERS: dict[str, Callable[[Work], Ready]] = {"textbook": textbook, "lightning": lightning, "keras": keras}
PACKAGES = ("lightning", "keras")  # of peers that may not be installed
MNIST_ROWS = 48_000  # for training: four fifths of those published for it


def peers(names: list[str], quick: bool = False) -> list[Entry]:
    """Each peer on torch's number of threads and on one."""
    return [Entry(name, PEERS[name], threads) for name in names for threads in ((1,) if quick else (None, 1))]


def load_rows(work: Work) -> tuple[Any, "Manifest"]:
    """The training rows, and what a manifest says of them."""
    import torch

    from hypermap.data.manifest import Manifest
    from hypermap.data.prepared import load
    from hypermap.data.preprocessor import TensorSplit

    if work.prepared is not None:
        split, manifest = load(work.prepared, "train"), Manifest.read(work.prepared)
    else:
        generator = torch.Generator().manual_seed(0)
        count = work.rows or MNIST_ROWS
        inputs = torch.rand(count, 1, 28, 28, generator=generator)
        split = TensorSplit(inputs, torch.randint(10, (count,), generator=generator), torch.arange(count))
        manifest = Manifest(task="classification", classes=[str(digit) for digit in range(10)], shape=[1, 28, 28])
    kept = slice(work.rows)
    return TensorSplit(split.inputs[kept], split.targets[kept], split.rows[kept]), manifest


def hypermap_rows(work: Work) -> Any:
    """The rows as Hypermap's estimators take them; the validation rows are not looked at."""
    from hypermap.data.fold_data import FoldData
    from hypermap.data.preprocessor import Transform

    split, manifest = load_rows(work)
    return FoldData(split, split, Transform(manifest))


def network_sizes(work: Work, manifest: "Manifest") -> tuple[int, float, int]:
    """Hidden units, dropout and classes."""
    model = work.configuration["model"]
    (hidden,) = model["hidden"]
    return hidden, model["dropout"], len(manifest.classes)


def torch_network(work: Work) -> Any:
    """The network as one would write it with torch alone."""
    from torch import nn

    _, manifest = load_rows(work)
    hidden, dropout, classes = network_sizes(work, manifest)
    drop = [nn.Dropout(dropout)] if dropout else []
    first = nn.Linear(math.prod(manifest.shape), hidden)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), *drop, nn.Linear(hidden, classes))


def torch_loader(work: Work) -> Any:
    """The rows behind torch's DataLoader, shuffled each epoch."""
    from torch.utils.data import DataLoader, TensorDataset

    split, _ = load_rows(work)
    dataset = TensorDataset(split.inputs, split.targets)
    return DataLoader(dataset, batch_size=work.configuration["trainer"]["batch_size"], shuffle=True)


def device_name(kind: str | None = None) -> str:
    """What a person calls the device of this kind; None for the one that a peer takes by itself."""
    import torch

    on_cuda = torch.cuda.is_available() if kind is None else kind == "cuda"
    return torch.cuda.get_device_name() if on_cuda else "CPU"


def synchronize() -> None:
    """Wait for what a GPU has still to do."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
