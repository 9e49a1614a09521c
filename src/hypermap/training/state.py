"""The state of one configuration in training (a member), alone or in a stack."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypermap.core import checkpoint
from hypermap.core.checkpoint import Checkpoint
from hypermap.core.errors import Diverged, UserError
from hypermap.models.layers import Dropout
from hypermap.tasks.base import LOSSES, REFINEMENT, Task
from hypermap.training.components import Components
from hypermap.training.flat_parameters import FlatParameters
from hypermap.training.length import default_batch, default_epochs
from hypermap.training.regularizers import highest_epoch, kept_epochs

Report = Callable[[int, float], None]
"""Called with a step, from 1, and the monitored metric there; may raise `Pruned` or `Interrupted`."""
Row = dict[str, Any]


def no_report(step: int, value: float) -> None:
    """Do nothing: a `Report` that is ignored."""


@dataclass(frozen=True)
class TrainerConfig:
    """The settings of training: its length, batches, device and so on.

    Attributes:
        monitor: selects the best epoch: validation ``accuracy``, ``r2``, ``loss``, or ``refinement``, the loss after
            the best temperature (`Task.refined_loss`); among epochs whose accuracy counts as equal to the best, the
            loss decides which is kept (`kept_epochs`).
        epochs: passes over the training rows; None: by their number (`hypermap.training.length`).
        batch_size: rows of a step; None: likewise.
        device: ``auto``, or a torch device.
        precision: ``fp32``, or ``bf16`` for forward passes under autocast.
        threads: CPU threads, of all processes together; None: depends on the network (`device.choose_threads`).
        processes: number of processes that compute each batch together (`hypermap.training.processes`).
        repeats: number of trainings that metrics are averaged over, each with its own seed.
        reports_per_epoch: how often the monitored metric is reported; does not affect the training.
        calibration: ``temperature`` for what the task tunes on the validation rows (`Task.tune`).
        backend: runs the steps, a name in `hypermap.training.backends.choice`; ``auto`` is plain torch for one
            training, and the fastest by measurement for several at once.
    """

    epochs: int | None
    batch_size: int | None
    monitor: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    threads: int | None = None
    processes: int = 1
    repeats: int = 1
    reports_per_epoch: int = 1
    calibration: str | None = "temperature"
    backend: str = "auto"

    def of_rows(self, rows: int) -> "TrainerConfig":
        """Return the settings for so many training rows, with the epochs and batches that suit them where unset."""
        return replace(
            self, epochs=self.epochs or default_epochs(rows), batch_size=self.batch_size or default_batch(rows)
        )

    @property
    def length(self) -> int:
        """The number of epochs, which `of_rows` sets if the settings do not."""
        assert self.epochs is not None
        return self.epochs

    @property
    def batch(self) -> int:
        """The rows of a step, likewise."""
        assert self.batch_size is not None
        return self.batch_size

    def monitored(self, task: Task) -> str:
        """Return what selects the best epoch, for data of `task`.

        Raises:
            UserError: the monitor is one of another task's.
        """
        usual = task.monitor
        if self.monitor not in (None, *LOSSES, usual):
            allowed = f"{usual}, {' or '.join(LOSSES)}"
            raise UserError(f"trainer.monitor is {self.monitor!r}; for {task.info.task} it can be {allowed}.")
        return self.monitor or usual


@dataclass(frozen=True)
class Rerun:
    """What a training without validation rows takes over from one that had some.

    Attributes:
        epochs: how many to train for. The learning rates are laid out over as many, with the warm-up in proportion.
        validation_losses: of each epoch, for schedules that watch them.
    """

    epochs: int
    validation_losses: Sequence[float]


@dataclass
class Progress:
    """The progress of a run."""

    history: list[Row] = field(default_factory=list)
    schedule: dict[str, Any] = field(default_factory=dict)
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # weights after epochs that may be kept


class TrainState:
    """The state of one training, which can be saved and resumed; `Trainer` advances it epoch by epoch.

    Args:
        parts: the network on `device` and the other components.
        settings: see `TrainerConfig`.
        task: what is predicted.
        seed: for the row order and augmentation.
        device: of the data.
        random: the generator of its `Dropout` layers, on `device`; None for torch's global generator. The caller has
            seeded it, and drawn the network's weights from it or an equal one.
        state: the folder with the state of an interrupted run, and for the state of this one; None for none.
        validation_rows: number of validation rows; with 0, no epoch is better than another, and the last is kept.
        rerun: of a training without validation rows.

    Attributes:
        random: as given, or the global generator.
    """

    def __init__(
        self,
        parts: Components,
        settings: TrainerConfig,
        task: Task,
        seed: int,
        device: torch.device,
        random: torch.Generator | None = None,
        state: Path | None = None,
        *,
        validation_rows: int,
        rerun: Rerun | None = None,
    ) -> None:
        self.parts = parts
        self.settings = settings
        self.task = task
        self.device = device
        self.folder = state
        self.validation_rows = validation_rows
        self.rerun = rerun
        self.weights = FlatParameters(parts.model)
        self.optimizer = parts.make_optimizer([self.weights.vector])
        self.base_lr = parts.base_lr
        self.planned_lrs: list[float] = []  # for every step
        self.shuffle_rng = torch.Generator().manual_seed(seed)
        self.augment_rng = torch.Generator(device).manual_seed(seed)
        self.dropout_rng = _global_generator(device) if random is None else random
        self.progress = Progress(schedule=parts.schedule.start())
        for layer in parts.model.modules():
            if isinstance(layer, Dropout):
                layer.generator = random

    # Progress

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    @property
    def last_epoch(self) -> int:
        """The number of epochs, unless early stopping ends the training before."""
        return self.settings.length if self.rerun is None else self.rerun.epochs

    @property
    def ended(self) -> bool:
        """Whether the epochs or the patience are used up; patience counts from the best epoch, whichever is kept."""
        return self.epochs >= self.last_epoch or self.parts.regularizer.stops(self.epochs, self.highest_epoch)

    @property
    def highest_epoch(self) -> int:
        """The epoch with the best monitored metric so far, from 1 (0 before the first); ties go to the lower loss."""
        if not self.validation_rows:
            return self.epochs
        scores = [
            (-self.monitored(row),) if self.by_loss else (row["validation_score"], -row["validation_loss"])
            for row in self.history
        ]
        return highest_epoch(scores) if scores else 0

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1 (0 before the first)."""
        return self._kept_epochs()[0] if self.history else 0

    def _kept_epochs(self) -> list[int]:
        """Return the epoch to keep, and those that may be kept later: see `kept_epochs`."""
        if self.by_loss or not self.task.is_share or not self.validation_rows:  # there are no ties to speak of
            return [self.highest_epoch]
        history = self.history
        accuracies, losses = ([row[name] for row in history] for name in ("validation_score", "validation_loss"))
        return kept_epochs(accuracies, losses, self.validation_rows)

    @property
    def history(self) -> list[Row]:
        """One row per epoch."""
        return self.progress.history

    @property
    def best_weights(self) -> dict[str, Tensor]:
        """The best epoch's weights, by name."""
        return self.progress.states[self.best_epoch]

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping ended it."""
        return self.ended and self.epochs < self.last_epoch

    def monitored(self, row: Row) -> float:
        """Return the metric of a row that selects the best epoch; NaN without validation rows."""
        value = row.get(f"validation_{self.monitor}" if self.by_loss else "validation_score")
        return math.nan if value is None else float(value)

    @property
    def monitor(self) -> str:
        """What selects the best epoch."""
        return self.settings.monitored(self.task)

    @property
    def by_loss(self) -> bool:
        """Whether that is a loss, and lower is better."""
        return self.monitor in LOSSES

    def judged(self, outputs: Tensor, targets: Tensor) -> Row:
        """Return the losses of outputs ``(rows, width)`` for encoded validation targets, as a row of the history."""
        loss = self.parts.loss
        row = {"validation_loss": float(loss(outputs, targets))}
        if self.monitor == REFINEMENT:
            predictions = self.task.predictions(loss.predictions(outputs).double().cpu().numpy())
            refined = self.task.refined_loss(predictions, self.task.decode(targets.cpu().numpy()))
            row[f"validation_{REFINEMENT}"] = row["validation_loss"] if refined is None else refined
        return row

    # An epoch

    def learning_rates(self, steps: int) -> list[float]:
        """Return the learning rate of each of the next epoch's steps."""
        if len(self.planned_lrs) != self.last_epoch * steps:
            schedule = self.parts.schedule
            if self.rerun is not None:
                share = self.last_epoch / self.settings.length
                schedule = replace(schedule, warmup_epochs=schedule.warmup_epochs * share)
            self.planned_lrs = schedule.learning_rates(self.base_lr, self.last_epoch, steps)
        multiplier = self.progress.schedule["multiplier"]
        return [rate * multiplier for rate in self.planned_lrs[self.epochs * steps : (self.epochs + 1) * steps]]

    def note(self, row: Row) -> None:
        """Record an epoch: its row, the schedule's state, and its weights if they may be kept."""
        progress = self.progress
        progress.history.append(row)
        losses = [row["validation_loss"]] if self.rerun is None else self.rerun.validation_losses[self.epochs - 1 :][:1]
        for loss in losses:
            progress.schedule = self.parts.schedule.observe(progress.schedule, loss)
        kept = self._kept_epochs()
        progress.states = {epoch: state for epoch, state in progress.states.items() if epoch in kept}
        if self.epochs in kept:
            own = {name: tensor.detach().clone() for name, tensor in self.parts.model.state_dict().items()}
            progress.states[self.epochs] = own

    def diverged(self, where: str, loss: float) -> Diverged:
        """Return the error for a non-finite loss, with advice."""
        return Diverged(
            f"training diverged: the loss is {loss} in epoch {self.epochs + 1}, {where}, "
            f"with optimizer.lr={self.base_lr:g}. Try optimizer.lr={self.base_lr / 10:g}, regularizer=clip, or a "
            f"warm-up (scheduler.warmup_epochs=1); if the data has values that are not finite, fix those first."
        )

    # Its state

    def resume(self) -> None:
        """Resume from the state of an interrupted run.

        Raises:
            UserError: the state cannot be read.
        """
        if self.folder is not None and (found := checkpoint.load(self.folder)) is not None:
            self.restore(found)

    def save(self) -> None:
        """Save the state, if there is a folder for it."""
        if self.folder is not None:
            checkpoint.save(self.folder, self.epochs, self.state())

    def state(self) -> Checkpoint:
        """Return everything needed to continue with the same results as without a stop."""
        tensors = {f"model/{name}": tensor for name, tensor in self.parts.model.state_dict().items()}
        for epoch, state in self.progress.states.items():
            tensors |= {f"after/{epoch}/{name}": tensor for name, tensor in state.items()}
        optimizer = self.optimizer.state_dict()["state"].get(0, {})
        tensors |= {f"optimizer/{key}": value for key, value in optimizer.items() if isinstance(value, Tensor)}
        tensors |= {"random/order": self.shuffle_rng.get_state(), "random/noise": self.augment_rng.get_state()}
        tensors |= {f"random/{self.dropout_rng.device.type}": self.dropout_rng.get_state()}
        if self.device.type != "cpu":
            tensors |= {"random/cpu": torch.get_rng_state()}
        plain = {key: value for key, value in optimizer.items() if not isinstance(value, Tensor)}
        progress = self.progress
        return Checkpoint(tensors, {"history": progress.history, "schedule": progress.schedule, "optimizer": plain})

    def restore(self, state: Checkpoint) -> None:
        """Continue from `state`."""
        self.parts.model.load_state_dict(state.part("model"))
        optimizer = self.optimizer.state_dict()
        kept = {**state.record["optimizer"], **state.part("optimizer")}
        self.optimizer.load_state_dict({**optimizer, "state": {0: kept} if kept else {}})
        random = state.part("random")
        self.shuffle_rng.set_state(random["order"])
        self.augment_rng.set_state(random["noise"])
        self.dropout_rng.set_state(random[self.dropout_rng.device.type])
        if self.device.type != "cpu":
            torch.set_rng_state(random["cpu"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.part("after").items():
            epoch, _, own = name.partition("/")
            states.setdefault(int(epoch), {})[own] = tensor.to(self.device)
        self.progress = Progress(state.record["history"], state.record["schedule"], states)


def _global_generator(device: torch.device) -> torch.Generator:
    """Return torch's default generator of a device."""
    if device.type != "cuda":
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[device.index or 0]
