"""Training: one loop in plain sight.

The data sits in memory on the device, a batch is an index slice of it, and the weights are one vector. What
wins at the start: the state of an interrupted run of the same settings, else the seed.
"""

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hypermap import checkpoint, machine
from hypermap.augment import Augment
from hypermap.checkpoint import Checkpoint
from hypermap.data.transform import Split
from hypermap.errors import Diverged, UserError
from hypermap.flat import FlatParameters
from hypermap.losses import Loss
from hypermap.regularizers import Regularizer, best_epoch
from hypermap.schedules import Schedule

EVALUATION_ROWS = 2048  # rows a forward pass takes when nothing is learned; bounds memory, changes no figure

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Report = Callable[[int, float], None]
"""Told a step, from 1, and the value that the monitored figure has there; may raise `Pruned` or `Interrupted`."""
Row = dict[str, Any]


def unheard(step: int, value: float) -> None:
    """A `Report` to nobody."""


@dataclass(frozen=True)
class Settings:
    """How long, in what portions and where a network is trained.

    Attributes:
        monitor: what the best epoch is picked by: ``accuracy``, ``r2`` or ``loss``, all of validation.
        device: ``auto``, or a torch device.
        precision: ``fp32``, or ``bf16`` for forward passes under autocast.
        threads: CPU threads; None for as many as serve the network (`machine.choose_threads`).
        repeats: trainings over which the figures are means, each with a seed of its own.
        reports_per_epoch: how often the monitored figure is reported; it changes no number of the training.
    """

    epochs: int
    batch_size: int
    monitor: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    threads: int | None = None
    repeats: int = 1
    reports_per_epoch: int = 1

    def monitored(self, task: str) -> str:
        """What the best epoch is picked by, for data of `task`.

        Raises:
            UserError: the monitor is one of the other task's.
        """
        usual = "accuracy" if task == "classification" else "r2"
        if self.monitor not in (None, "loss", usual):
            raise UserError(f"trainer.monitor is {self.monitor!r}; for {task} it can be {usual} or loss.")
        return self.monitor or usual


@dataclass(frozen=True)
class Parts:
    """What a training run is made of, built and ready."""

    model: nn.Module
    loss: Loss
    make_optimizer: MakeOptimizer
    schedule: Schedule
    regularizer: Regularizer
    augment: Augment


@dataclass
class Progress:
    """How far a run has come."""

    history: list[Row] = field(default_factory=list)
    schedule: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)  # the model's state after its best epoch


@dataclass(frozen=True)
class Trained:
    """The outcome: the best epoch's weights by name, and one row of history an epoch."""

    weights: dict[str, Tensor]
    history: list[Row]
    kept_epoch: int  # from 1
    stopped_early: bool


class Trainer:
    """Trains one network, an epoch at a time, and can write down and take up where it is.

    Args:
        parts: the network on `device` and what goes with it.
        settings: see `Settings`.
        task: ``classification`` or ``regression``.
        seed: of the order of the rows and of augmentation. Dropout draws from torch's global generator,
            which the caller has seeded before making the network's weights.
        device: where the data is.
    """

    def __init__(self, parts: Parts, settings: Settings, task: str, seed: int, device: torch.device) -> None:
        self.parts = parts
        self.settings = settings
        self.task = task
        self.device = device
        self.weights = FlatParameters(parts.model)
        self.optimizer = parts.make_optimizer([self.weights.vector])
        # The step itself, without the wrapper that times it for torch's profiler: a tenth of a small network's step.
        self.step = torch.no_grad()(partial(inspect.unwrap(type(self.optimizer).step), self.optimizer))
        self.base_rate = float(self.optimizer.param_groups[0]["lr"])
        self.forward = torch.compile(parts.model) if settings.compile else parts.model
        self.order = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.progress = Progress(schedule=parts.schedule.start())

    def fit(
        self,
        train: Split,
        validation: Split,
        state: Path | None = None,
        quiet: bool = False,
        report: Report = unheard,
    ) -> Trained:
        """Train until the epochs or the patience are used up; keep the epoch that validates best.

        Args:
            train: rows to learn from, on the device.
            validation: rows to pick the epoch by, on the device.
            state: the folder in which an interrupted run left its state and this one leaves its own.
            quiet: show no bar. There is none in any case where the output is no terminal.
            report: told the monitored figure after each epoch, once its state is on the disk, or more often
                (`Settings.reports_per_epoch`, which the steps then count). Of an interrupted run's epochs the last
                is reported again: it may be on the disk and not have been told.

        Raises:
            Diverged: a loss that is not finite.
            UserError: a state that cannot be read.
        """
        if state is not None and (found := checkpoint.load(state)) is not None:
            self.restore(found)
        batch = min(self.settings.batch_size, len(train.targets))
        steps = _steps(len(train.targets), batch)
        rates = self.parts.schedule.rates(self.base_rate, self.settings.epochs, steps)
        history, epochs, portions = self.progress.history, self.settings.epochs, self.settings.reports_per_epoch
        due = {-(-portion * steps // portions): portion for portion in range(1, portions + 1)}  # after so many steps

        def after_step(step: int) -> None:
            if step in due and step < steps and math.isfinite(value := self.glance(validation)):
                report(len(history) * portions + due[step], value)

        if history:
            report(len(history) * portions, self.monitored(history[-1]))
        with tqdm(total=epochs, initial=len(history), unit="epoch", disable=True if quiet else None) as bar:
            while len(history) < epochs and not self.parts.regularizer.stops(len(history), self.kept_epoch):
                first = len(history) * steps
                row = self.epoch(train, batch, rates[first : first + steps], after_step) | self.validate(validation)
                self.note(row)
                if state is not None:
                    checkpoint.save(state, len(history), self.state())
                shown = {"loss": row["train_loss"], "validation": row["validation_score"]}
                bar.set_postfix({key: f"{value:.4f}" for key, value in shown.items()}, refresh=False)
                bar.update()
                report(len(history) * portions, self.monitored(row))
        return Trained(self.progress.best, history, self.kept_epoch, stopped_early=len(history) < epochs)

    def epoch(
        self, train: Split, batch: int, rates: list[float], after_step: Callable[[int], None] = lambda step: None
    ) -> Row:
        """Pass once over the training rows in a new order, `batch` of them a step, one rate for each step.

        The training loss and score are of the outputs as they were learned from: under dropout and augmentation,
        and of weights that still changed.
        """
        started = time.perf_counter()
        parts, weights, optimizer = self.parts, self.weights, self.optimizer
        multiplier = self.progress.schedule["multiplier"]
        order = torch.randperm(len(train.targets), generator=self.order)
        inputs = torch.empty((batch, *train.inputs.shape[1:]), device=self.device)
        targets = torch.empty(batch, dtype=train.targets.dtype, device=self.device)
        outputs, losses, norms = [], [], []
        parts.model.train()

        for step, (rate, rows) in enumerate(zip(rates, order.to(self.device).split(batch), strict=False), 1):
            if len(rows) < batch:
                inputs, targets = inputs[: len(rows)], targets[: len(rows)]
            torch.index_select(train.inputs, 0, rows, out=inputs)
            torch.index_select(train.targets, 0, rows, out=targets)
            optimizer.param_groups[0]["lr"] = rate * multiplier
            weights.gradient.zero_()
            with machine.autocast(self.device, self.settings.precision):
                output = self.forward(parts.augment(inputs, self.noise))
                loss = parts.loss(output, targets)
            loss.backward()
            norms.append(parts.regularizer.apply(weights))
            self.step()
            outputs.append(output.detach())
            losses.append(loss.detach())
            after_step(step)

        sizes = torch.tensor([len(output) for output in outputs], device=self.device)
        seen, every_norm = torch.cat(outputs).float(), torch.stack(norms)
        return {
            "epoch": len(self.progress.history) + 1,
            "train_loss": self.mean_loss(torch.stack(losses), sizes),
            "train_score": self.score(seen, train.targets[order[: len(seen)].to(self.device)]),
            "learning_rate": rates[-1] * multiplier,
            "gradient_norm": every_norm.mean().item(),
            "clipped": parts.regularizer.clipped(every_norm),
            "seconds": time.perf_counter() - started,
        }

    def note(self, row: Row) -> None:
        """Enter an epoch: its row, what the schedule makes of it, and its weights if they are the best so far."""
        progress = self.progress
        progress.history.append(row)
        progress.schedule = self.parts.schedule.observe(progress.schedule, row["validation_loss"])
        if self.kept_epoch == len(progress.history):
            progress.best = {name: tensor.detach().clone() for name, tensor in self.parts.model.state_dict().items()}

    def mean_loss(self, losses: Tensor, sizes: Tensor) -> float:
        """The mean over rows of one loss a step.

        Raises:
            Diverged: one is not finite; names the epoch, the step, and what to try.
        """
        finite = torch.isfinite(losses)
        if not finite.all():
            step = int((~finite).nonzero()[0]) + 1
            raise Diverged(self.diverged(f"step {step} of {len(losses)}", losses[step - 1].item()))
        return float((losses * sizes).sum() / sizes.sum())

    def diverged(self, where: str, loss: float) -> str:
        """What to say, and to advise, when a loss is not finite."""
        return (
            f"training diverged: the loss is {loss} in epoch {len(self.progress.history) + 1}, {where}, "
            f"with optimizer.lr={self.base_rate:g}. Try optimizer.lr={self.base_rate / 10:g}, regularizer=clip, or a "
            f"warm-up (scheduler.warmup_epochs=1); if the data has values that are not finite, mend those first."
        )

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, or R²: higher is better."""
        if self.task == "classification":  # of the outputs: a softmax, or a sigmoid of one, keeps their order
            predicted = outputs.argmax(1) if outputs.shape[1] > 1 else outputs[:, 0] > 0
            return float((predicted == targets).double().mean())
        predicted, targets = self.parts.loss.predictions(outputs), targets.double()
        residual, spread = (predicted - targets).square().sum(), (targets - targets.mean()).square().sum()
        if spread == 0:  # all targets are equal: what scikit-learn says then
            return float(residual == 0)
        return float(1 - residual / spread)

    def validate(self, split: Split) -> Row:
        """Loss and score on rows that are not learned from.

        Raises:
            Diverged: the loss is not finite.
        """
        row = self.measure(split)
        if not math.isfinite(loss := row["validation_loss"]):
            raise Diverged(self.diverged("on the validation rows", loss))
        return row

    def measure(self, split: Split) -> Row:
        """As `validate`, whatever the loss is."""
        outputs = forward_all(self.parts.model, split.inputs, self.settings.precision)
        loss = float(self.parts.loss(outputs, split.targets))
        return {"validation_loss": loss, "validation_score": self.score(outputs, split.targets)}

    def glance(self, split: Split) -> float:
        """The monitored figure within an epoch; training goes on as if nobody had looked."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            row = self.measure(split)
        self.parts.model.train()
        return self.monitored(row)

    def monitored(self, row: Row) -> float:
        """The figure of a row that the best epoch is picked by."""
        by_loss = self.settings.monitored(self.task) == "loss"
        return float(row["validation_loss" if by_loss else "validation_score"])

    @property
    def kept_epoch(self) -> int:
        """The best epoch so far, from 1 (0 before the first). Between equal scores the lower loss decides."""
        by_loss = self.settings.monitored(self.task) == "loss"
        scores = [
            (-row["validation_loss"],) if by_loss else (row["validation_score"], -row["validation_loss"])
            for row in self.progress.history
        ]
        return best_epoch(scores) if scores else 0

    def state(self) -> Checkpoint:
        """All that is needed to go on to the same numbers as without a stop."""
        tensors = {f"model/{name}": tensor for name, tensor in self.parts.model.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.progress.best.items()}
        optimizer = self.optimizer.state_dict()["state"].get(0, {})
        tensors |= {f"optimizer/{key}": value for key, value in optimizer.items() if isinstance(value, Tensor)}
        tensors |= {"random/order": self.order.get_state(), "random/noise": self.noise.get_state()}
        tensors |= {"random/torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors |= {"random/cuda": torch.cuda.get_rng_state(self.device)}
        plain = {key: value for key, value in optimizer.items() if not isinstance(value, Tensor)}
        progress = self.progress
        return Checkpoint(tensors, {"history": progress.history, "schedule": progress.schedule, "optimizer": plain})

    def restore(self, state: Checkpoint) -> None:
        """Take up where `state` was written down."""
        self.parts.model.load_state_dict(state.part("model"))
        optimizer = self.optimizer.state_dict()
        kept = {**state.record["optimizer"], **state.part("optimizer")}
        self.optimizer.load_state_dict({**optimizer, "state": {0: kept} if kept else {}})
        random = state.part("random")
        self.order.set_state(random["order"])
        self.noise.set_state(random["noise"])
        torch.set_rng_state(random["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.device)
        best = {name: tensor.to(self.device) for name, tensor in state.part("best").items()}
        self.progress = Progress(state.record["history"], state.record["schedule"], best)


def forward_all(model: nn.Module, inputs: Tensor, precision: str = "fp32") -> Tensor:
    """The network's outputs in evaluation mode for all rows, ``(rows, width)``, float32."""
    model.eval()
    with torch.no_grad(), machine.autocast(inputs.device, precision):
        return torch.cat([model(part) for part in inputs.split(EVALUATION_ROWS)]).float()


def _steps(rows: int, batch: int) -> int:
    """Steps an epoch. A last batch of a single row is left out: batch norm has no variance of one row."""
    full, rest = divmod(rows, batch)
    return full + (rest > 1)
