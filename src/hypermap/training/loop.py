"""Training: one loop in plain sight, for one configuration or for many that fit together.

The data sits in memory on the device, a batch is an index slice of it, and the weights of a member are one vector.
What wins at the start: the state of an interrupted run of the same settings, else the seed.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hypermap.core.errors import Diverged, Interrupted, Paused, UserError
from hypermap.data.preprocessor import TensorSplit
from hypermap.training.backends.backend import Backend, StepOutputs
from hypermap.training.backends.eager import Eager
from hypermap.training.state import Report, Row, Trained, TrainState, no_report

MakeBackend = Callable[[Sequence[TrainState], Tensor, Tensor], Backend]
SAVING_S = 0.005  # what writing a member's state is taken to last, before it has been seen
SAVING_SHARE = 0.05  # of a stack's time, at most, in which the states of its members are written
Finished = dict[TrainState, Trained | Exception]
"""Members that have ended, with their outcome or what ended them."""
OnEpochEnd = Callable[[Mapping[TrainState, tuple[int, float]]], Mapping[TrainState, Exception]]
"""Told of several members a step and the monitored figure there; returns what ends some, such as `Pruned`."""


@dataclass(frozen=True)
class TrainVal:
    """What a member learns from and is judged by, on the device."""

    train: TensorSplit
    validation: TensorSplit


class Trainer:
    """Trains members that may be stacked (`hypermap.training.backends.compatibility`), an epoch of all at a time.

    A member that ends, is pruned or diverges leaves, and the others go on as if it had never been there.

    Args:
        members: with one kind of network, task, batch size and device, and as many rows to learn from.
        sets: of each member. What is the same object for several is held once.
        make_backend: from members, training inputs and targets to what trains them.
    """

    def __init__(
        self, members: Sequence[TrainState], sets: Sequence[TrainVal], make_backend: MakeBackend = Eager
    ) -> None:
        self.sets = dict(zip(members, sets, strict=True))
        self.make_backend = make_backend
        first = members[0]
        self.task, self.portions = first.task, first.settings.reports_per_epoch
        (self.length,) = {len(own.train.targets) for own in sets}  # else they would take different numbers of steps
        self.batch = min(first.settings.batch_size, self.length)
        # A last batch of a single row is left out: batch norm has no variance of one row.
        self.used = self.length - (self.length % self.batch == 1 < self.batch)
        self.steps = -(-self.used // self.batch)
        self.saved, self.saving = time.perf_counter(), SAVING_S * len(members)
        self.stack(members)

    def stack(self, members: Sequence[TrainState]) -> None:
        """Train these from here on, and no others."""
        self.members = list(members)
        if not members:
            return
        splits = {id(self.sets[member].train): self.sets[member].train for member in members}
        starts = {split: number * self.length for number, split in enumerate(splits)}
        self.starts = torch.tensor([starts[id(self.sets[member].train)] for member in members])[:, None]
        inputs, self.targets = (
            _joined([getattr(split, name) for split in splits.values()]) for name in ("inputs", "targets")
        )
        self.backend = self.make_backend(members, inputs, self.targets)

    def run(self, on_epoch_end: OnEpochEnd, quiet: bool = True) -> Iterator[Finished]:
        """Train until every member has ended; yields those that do, at once.

        Args:
            on_epoch_end: gets the monitored figure after each epoch, once its state is on the disk, or more often
                (`Settings.reports_per_epoch`, which the steps then count). Of an interrupted run's epochs the last is
                told again: it may be on the disk and not have been told. What it raises ends the run.
            quiet: show no bar. There is none in any case where the output is no terminal.

        """
        broken: Finished = {}
        for member in self.members:
            try:
                member.resume()
                member.learning_rates(self.steps)  # a warm-up may be too long
            except UserError as error:
                broken[member] = error
        yield self.drop(broken)
        if any(member.epochs for member in self.members):
            self.stack(self.members)
            again = [member for member in self.members if member.epochs]
            yield self.drop(on_epoch_end({member: self.last(member) for member in again}))
        epochs = [(member.settings.epochs, member.epochs) for member in self.members]
        with tqdm(
            total=max((most for most, _ in epochs), default=0),
            initial=min((done for _, done in epochs), default=0),
            unit="epoch",
            disable=True if quiet else None,
        ) as bar:
            yield self.drop({member: member.trained for member in self.members if member.ended})
            while self.members:
                ended = self.epoch(on_epoch_end)
                _show(bar, self.members[0])
                ended |= {member: member.trained for member in self.members if member.ended and member not in ended}
                yield self.drop(ended)

    def drop(self, ended: Mapping[TrainState, Trained | Exception]) -> Finished:
        """Go on without these."""
        for member in ended:
            member.weights.leave()
        if ended:
            self.stack([member for member in self.members if member not in ended])
        return dict(ended)

    def epoch(self, on_epoch_end: OnEpochEnd) -> Finished:
        """Pass once over the training rows, each member in a new order of its own; returns what ended some.

        The training loss and score are of the outputs as they were learned from: under dropout and augmentation,
        and of weights that still changed.
        """
        started, members = time.perf_counter(), self.members
        orders = torch.stack([torch.randperm(self.length, generator=member.shuffle_rng) for member in members])
        rates = torch.tensor([member.learning_rates(self.steps) for member in members], dtype=torch.float64)
        steps, ended = self.learn(orders[:, : self.used], rates, on_epoch_end)
        learned = self.learned(steps, orders[:, : self.used], rates, time.perf_counter() - started)
        for member, row, figures, losses in zip(members, learned, self.evaluate(), steps.losses, strict=True):
            if member in ended:  # within the epoch: what came later is no part of it
                continue
            diverged = _divergence(member, losses, figures["validation_loss"])
            if diverged is not None:
                ended[member] = diverged
            else:
                member.note(row | figures)
        going = [member for member in members if member not in ended]
        saved = self.save(going)
        try:
            stopped = dict(on_epoch_end({member: self.last(member) for member in going}) if going else {})
        except Interrupted:
            if not saved:
                self.save(going, at_once=True)
            raise
        for member, reason in stopped.items():
            if isinstance(reason, Paused) and not saved:
                member.save()
        return ended | stopped

    def learn(self, orders: Tensor, rates: Tensor, on_epoch_end: OnEpochEnd) -> tuple[StepOutputs, Finished]:
        """Return the steps of an epoch, with the reports that are due before its end."""
        due = {-(-portion * self.steps // self.portions): portion for portion in range(1, self.portions + 1)}
        ended: Finished = {}
        positions, parts = orders + self.starts, []
        for first, last in pairwise([0, *due]):
            rows = positions[:, first * self.batch : last * self.batch]
            parts.append(self.backend.train_steps(rows, self.batch, rates[:, first:last]))
            if last < self.steps:
                values = {member: value for member, value in self.evaluate_mid_epoch().items() if member not in ended}
                ended |= on_epoch_end({m: (m.epochs * self.portions + due[last], value) for m, value in values.items()})
        return StepOutputs.joined(parts), ended

    def learned(self, steps: StepOutputs, orders: Tensor, rates: Tensor, seconds: float) -> list[Row]:
        """Return what the members' histories say of an epoch's steps; the seconds are each one's share."""
        sizes = np.full(self.steps, float(self.batch))
        sizes[-1] = self.used - self.batch * (self.steps - 1)
        losses, norms = steps.losses.double().cpu().numpy(), steps.norms.double().cpu().numpy()
        seen = self.targets[(orders + self.starts).to(self.targets.device)]
        learned = zip(
            self.members,
            ((losses * sizes).sum(1) / sizes.sum()).tolist(),
            self.scores(self.members, steps.outputs, seen),
            rates[:, -1].tolist(),
            norms.mean(1).tolist(),
            norms,
            strict=True,
        )
        return [
            {
                "epoch": member.epochs + 1,
                "train_loss": loss,
                "train_score": score,
                "learning_rate": rate,
                "gradient_norm": norm,
                "clipped": member.parts.regularizer.clipped(every_norm),
                "seconds": seconds / len(self.members),
            }
            for member, loss, score, rate, norm, every_norm in learned
        ]

    def evaluate(self) -> list[Row]:
        """Return loss and score of each member on its validation rows, whatever the loss is."""
        figures: dict[TrainState, Row] = {}
        splits = {id(self.sets[member].validation): self.sets[member].validation for member in self.members}
        for name, split in splits.items():
            own = [number for number, member in enumerate(self.members) if id(self.sets[member].validation) == name]
            members, outputs = [self.members[number] for number in own], self.backend.eval_outputs(split.inputs, own)
            scores = self.scores(members, outputs, split.targets.expand(len(own), -1))
            for member, output, score in zip(members, outputs, scores, strict=True):
                loss = float(member.parts.loss(output, split.targets))  # by itself: the same bits as when alone
                figures[member] = {"validation_loss": loss, "validation_score": score}
        return [figures[member] for member in self.members]

    def evaluate_mid_epoch(self) -> dict[TrainState, float]:
        """Return the monitored figures within an epoch, where they are finite; training goes on as if nobody had
        looked.
        """
        device = self.targets.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            rows = self.evaluate()
        values = {member: member.monitored(row) for member, row in zip(self.members, rows, strict=True)}
        return {member: value for member, value in values.items() if math.isfinite(value)}

    def scores(self, members: Sequence[TrainState], outputs: Tensor, targets: Tensor) -> list[float]:
        """Return accuracy, or R², of outputs ``(members, rows, width)`` and targets ``(members, rows)``: higher is
        better.
        """
        if self.task == "classification":  # of the outputs: a softmax, or a sigmoid of one, keeps their order
            predicted = outputs.argmax(2) if outputs.shape[2] > 1 else outputs[:, :, 0] > 0
            right = (predicted == targets).sum(1).tolist()
            return [count / targets.shape[1] for count in right]
        each = zip(members, outputs, targets.double(), strict=True)
        return [r2(member.parts.loss.predictions(output), own) for member, output, own in each]

    def save(self, members: Sequence[TrainState], at_once: bool = False) -> bool:
        """Leave their states: of one training after each epoch, of a stack as often as takes little of its time."""
        now = time.perf_counter()
        if len(self.sets) > 1 and not at_once and self.saving > SAVING_SHARE * (now - self.saved):
            return False
        for member in members:
            member.save()
        self.saved = time.perf_counter()
        self.saving = self.saved - now
        return True

    def last(self, member: TrainState) -> tuple[int, float]:
        """Return what is told of a member's last epoch."""
        return member.epochs * self.portions, member.monitored(member.progress.history[-1])


def train_alone(
    member: TrainState,
    sets: TrainVal,
    report: Report = no_report,
    quiet: bool = False,
    make_backend: MakeBackend = Eager,
) -> Trained:
    """Train one member to its end; what `report` raises ends it.

    Raises:
        Diverged: a loss that is not finite.
        UserError: a state that cannot be read.
    """

    def on_epoch_end(reports: Mapping[TrainState, tuple[int, float]]) -> Mapping[TrainState, Exception]:
        for step, value in reports.values():
            report(step, value)
        return {}

    for ended in Trainer([member], [sets], make_backend).run(on_epoch_end, quiet):
        for outcome in ended.values():
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
    raise AssertionError("a member that never ends")


def r2(predicted: Tensor, targets: Tensor) -> float:
    """Return the coefficient of determination of predictions and targets ``(rows,)``, these float64."""
    residual, spread = (predicted - targets).square().sum(), (targets - targets.mean()).square().sum()
    if spread == 0:  # all targets are equal: what scikit-learn says then
        return float(residual == 0)
    return float(1 - residual / spread)


def _divergence(member: TrainState, losses: Tensor, validation_loss: float) -> Diverged | None:
    """Return where a loss of an epoch is not finite: names the epoch, the step, and what to try."""
    finite = torch.isfinite(losses)
    if not finite.all():
        step = int((~finite).nonzero()[0]) + 1
        return member.diverged(f"step {step} of {len(losses)}", losses[step - 1].item())
    if not math.isfinite(validation_loss):
        return member.diverged("on the validation rows", validation_loss)
    return None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _show(bar: Any, member: TrainState) -> None:
    row = member.progress.history[-1] if member.epochs else {}
    shown = {"loss": row.get("train_loss", math.nan), "validation": row.get("validation_score", math.nan)}
    bar.set_postfix({key: f"{value:.4f}" for key, value in shown.items()}, refresh=False)
    bar.update()
