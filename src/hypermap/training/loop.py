"""The training loop, for one configuration or for a stack of several.

The data is in memory on the device, a batch is an index slice of it, and the weights of a member are one vector. A
training starts from the state of an interrupted run with the same settings, if there is one, otherwise from the seed.
"""

import math
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hypermap.core.errors import Diverged, Interrupted, Paused, UserError
from hypermap.data.preprocessor import TensorSplit
from hypermap.training.backends.backend import Backend, StepOutputs
from hypermap.training.backends.eager import Eager
from hypermap.training.state import Row, TrainState

MakeBackend = Callable[[Sequence[TrainState], Tensor, Tensor], Backend]
SAVING_S = 0.005  # assumed duration of writing a member's state, before it is measured
WINDOW = 50  # batches whose rows are sorted by length at once: more of them save more padding, and mix the rows less
SAVING_SHARE = 0.05  # maximum share of a stack's time for writing the states of its members
K = TypeVar("K", bound=Hashable)
"""The key of a training, chosen by the caller: reports and results refer to it."""
Finished = dict[K, TrainState | Exception]
"""Members that have ended, with the exception that ended them, if any."""
Reports = Mapping[K, tuple[int, float]]
"""A step, from 1, and the monitored metric there."""
OnEpochEnd = Callable[[Reports[K]], Mapping[K, Exception]]
"""Takes reports and returns exceptions that end some of the members, such as `Pruned`; may raise `Interrupted`."""


@dataclass(frozen=True)
class TrainVal:
    """The training and validation rows of a member, on the device.

    `lengths` are those of training rows that are padded to one length, int64 ``(rows,)`` on the CPU: each batch is then
    of rows of similar length.
    """

    train: TensorSplit
    validation: TensorSplit
    lengths: Tensor | None = None


class Trainer(Generic[K]):
    """Trains members that can be stacked (`hypermap.training.backends.compatibility`), epoch by epoch.

    A member that ends, is pruned or diverges is removed, and the others continue as if it had never been there.

    Args:
        members: by key; with the same kind of network, task, batch size, device and number of training rows.
        sets: of each member. Objects shared by several members are stored once.
        make_backend: returns the backend for members, training inputs and targets.
    """

    def __init__(
        self, members: Mapping[K, TrainState], sets: Mapping[K, TrainVal], make_backend: MakeBackend = Eager
    ) -> None:
        self.sets = sets
        self.make_backend = make_backend
        first = next(iter(members.values()))
        self.task, self.portions = first.task, first.settings.reports_per_epoch
        (self.length,) = {len(sets[key].train.targets) for key in members}  # or their numbers of steps would differ
        self.batch = min(first.settings.batch, self.length)
        # A last batch of a single row is left out: batch norm needs at least two rows.
        self.used = self.length - (self.length % self.batch == 1 < self.batch)
        self.steps = -(-self.used // self.batch)
        self.saved, self.saving = time.perf_counter(), SAVING_S * len(members)
        self.stack(members)

    def stack(self, members: Mapping[K, TrainState]) -> None:
        """Train only these members from now on."""
        self.members = dict(members)
        if not members:
            return
        splits = {id(self.sets[key].train): self.sets[key].train for key in members}
        starts = {split: number * self.length for number, split in enumerate(splits)}
        self.starts = torch.tensor([starts[id(self.sets[key].train)] for key in members])[:, None]
        inputs, self.targets = (
            _joined([getattr(split, name) for split in splits.values()]) for name in ("inputs", "targets")
        )
        self.backend = self.make_backend(list(members.values()), inputs, self.targets)

    def run(self, on_epoch_end: OnEpochEnd[K], quiet: bool = True) -> Iterator[Finished[K]]:
        """Train until every member has ended; yield each as soon as it does.

        Args:
            on_epoch_end: called with the monitored metric after each epoch, once its state is on disk, or more often
                (`TrainerConfig.reports_per_epoch`, which the steps then count). The epochs of an interrupted run are
                reported again: the state of the last may be on disk without having been reported, and reports may have
                been lost on their way. An exception from it ends the run.
            quiet: show no progress bar. There is never one if the output is not a terminal.
        """
        broken: Finished[K] = {}
        for key, member in self.members.items():
            try:
                member.resume()
                member.learning_rates(self.steps)  # raises if a warm-up is too long
            except UserError as error:
                broken[key] = error
        yield self.drop(broken)
        most = max((member.epochs for member in self.members.values()), default=0)
        if most:
            self.stack(self.members)
        for count in range(1, most + 1):
            again = {key: self.told(member, count) for key, member in self.members.items() if member.epochs >= count}
            yield self.drop(on_epoch_end(again) if again else {})
        epochs = [(member.settings.length, member.epochs) for member in self.members.values()]
        with tqdm(
            total=max((most for most, _ in epochs), default=0),
            initial=min((done for _, done in epochs), default=0),
            unit="epoch",
            disable=True if quiet else None,
        ) as bar:
            yield self.drop({key: member for key, member in self.members.items() if member.ended})
            while self.members:
                ended = self.epoch(on_epoch_end)
                _show(bar, next(iter(self.members.values())))
                ended |= {key: member for key, member in self.members.items() if member.ended and key not in ended}
                yield self.drop(ended)

    def drop(self, ended: Mapping[K, TrainState | Exception]) -> Finished[K]:
        """Continue without these."""
        for key in ended:
            self.members[key].weights.leave()
        if ended:
            self.stack({key: member for key, member in self.members.items() if key not in ended})
        return dict(ended)

    def epoch(self, on_epoch_end: OnEpochEnd[K]) -> Finished[K]:
        """Pass once over the training rows, each member in its own new order; return what ended some of them.

        The training loss and score are those of the outputs during training: with dropout and augmentation, and with
        weights that change along the epoch.
        """
        started, members = time.perf_counter(), self.members.values()
        orders = torch.stack([self.order(key, member.shuffle_rng) for key, member in self.members.items()])
        rates = torch.tensor([member.learning_rates(self.steps) for member in members], dtype=torch.float64)
        steps, ended = self.learn(orders[:, : self.used], rates, on_epoch_end)
        learned = self.learned(steps, orders[:, : self.used], rates, time.perf_counter() - started)
        for key, row, metrics, losses in zip(self.members, learned, self.evaluate(), steps.losses, strict=True):
            if key in ended:  # ended within the epoch: later steps do not count
                continue
            diverged = _divergence(self.members[key], losses, metrics["validation_loss"])
            if diverged is not None:
                ended[key] = diverged
            else:
                self.members[key].note(row | metrics)
        going = {key: member for key, member in self.members.items() if key not in ended}
        saved = self.save(going.values())
        try:
            stopped = on_epoch_end({key: self.last(member) for key, member in going.items()}) if going else {}
        except Interrupted:
            if not saved:
                self.save(going.values(), at_once=True)
            raise
        for key, reason in stopped.items():
            if isinstance(reason, Paused) and not saved:
                going[key].save()
        return {**ended, **stopped}

    def order(self, key: K, shuffle_rng: torch.Generator) -> Tensor:
        """Return a member's order of its training rows in an epoch, int64 ``(rows,)``."""
        order, lengths = torch.randperm(self.length, generator=shuffle_rng), self.sets[key].lengths
        return order if lengths is None else by_length(order, lengths, self.batch, shuffle_rng)

    def learn(self, orders: Tensor, rates: Tensor, on_epoch_end: OnEpochEnd[K]) -> tuple[StepOutputs, Finished[K]]:
        """Run the steps of an epoch, with the reports that are due before its end."""
        due = {-(-portion * self.steps // self.portions): portion for portion in range(1, self.portions + 1)}
        ended: Finished[K] = {}
        positions, parts = orders + self.starts, []
        for first, last in pairwise([0, *due]):
            rows = positions[:, first * self.batch : last * self.batch]
            parts.append(self.backend.train_steps(rows, self.batch, rates[:, first:last]))
            if last < self.steps:
                ended |= self.report_mid_epoch(due[last], on_epoch_end, ended)
        return StepOutputs.joined(parts), ended

    def learned(self, steps: StepOutputs, orders: Tensor, rates: Tensor, seconds: float) -> list[Row]:
        """Return the rows of the members' histories for an epoch's steps; the seconds are each one's share."""
        sizes = np.full(self.steps, float(self.batch))
        sizes[-1] = self.used - self.batch * (self.steps - 1)
        losses, norms = steps.losses.double().cpu().numpy(), steps.norms.double().cpu().numpy()
        seen = self.targets[(orders + self.starts).to(self.targets.device)]
        members = list(self.members.values())
        outputs = [member.parts.pooled(own) for member, own in zip(members, steps.outputs, strict=True)]
        learned = zip(
            members,
            ((losses * sizes).sum(1) / sizes.sum()).tolist(),
            self.scores(members, torch.stack(outputs), seen),
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
                "seconds": seconds / len(members),
            }
            for member, loss, score, rate, norm, every_norm in learned
        ]

    def evaluate(self) -> list[Row]:
        """Return losses and score of each member on its validation rows."""
        members, splits = list(self.members.values()), [self.sets[key].validation for key in self.members]
        rows: list[Row] = [{} for _ in members]
        for split in {id(split): split for split in splits}.values():
            own = [place for place, other in enumerate(splits) if other is split]
            outputs = self.backend.eval_outputs(split.inputs, own)
            targets = split.targets.expand(len(own), *split.targets.shape)
            scores = self.scores([members[place] for place in own], outputs, targets)
            for place, output, score in zip(own, outputs, scores, strict=True):
                losses = members[place].judged(output, split.targets)  # one by one: the same bits as alone
                rows[place] = {**losses, "validation_score": score}
        return rows

    def report_mid_epoch(
        self, portion: int, on_epoch_end: OnEpochEnd[K], ended: Collection[K]
    ) -> Mapping[K, Exception]:
        """Report the members that have not ended after a portion of an epoch; return what ends some of them."""
        values = {key: value for key, value in self.evaluate_mid_epoch().items() if key not in ended}
        steps = {key: self.members[key].epochs * self.portions + portion for key in values}
        return on_epoch_end({key: (steps[key], value) for key, value in values.items()}) if values else {}

    def evaluate_mid_epoch(self) -> dict[K, float]:
        """Return the finite monitored metrics within an epoch, without side effects on the training."""
        device = self.targets.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            rows = self.evaluate()
        values = {key: self.members[key].monitored(row) for key, row in zip(self.members, rows, strict=True)}
        return {key: value for key, value in values.items() if math.isfinite(value)}

    def scores(self, members: Sequence[TrainState], outputs: Tensor, targets: Tensor) -> list[float]:
        """Return the task's score of outputs ``(members, rows, width)`` and targets ``(members, rows, ...)``."""
        return self.task.scores(outputs, targets, [member.parts.loss for member in members])

    def save(self, members: Iterable[TrainState], at_once: bool = False) -> bool:
        """Write their states: of a single training after each epoch, of a stack as often as costs little time."""
        now = time.perf_counter()
        if len(self.sets) > 1 and not at_once and self.saving > SAVING_SHARE * (now - self.saved):
            return False
        for member in members:
            member.save()
        self.saved = time.perf_counter()
        self.saving = self.saved - now
        return True

    def last(self, member: TrainState) -> tuple[int, float]:
        """Return the report of a member's last epoch."""
        return self.told(member, member.epochs)

    def told(self, member: TrainState, epochs: int) -> tuple[int, float]:
        """Return the report of a member after a number of epochs."""
        return epochs * self.portions, member.monitored(member.history[epochs - 1])


def by_length(order: Tensor, lengths: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Return an order of rows in which each batch is of similar lengths, so that little of it is padding.

    The rows are taken in windows of `WINDOW` batches. Within each they are sorted, and cut into batches, whose order is
    drawn again. So any two rows may meet in a batch, and the last batch alone is smaller.

    Args:
        order: int64 ``(rows,)``, drawn at random.
        lengths: int64 ``(rows,)``.
        batch: rows of a step.
        generator: draws the order of the batches.
    """
    whole = len(order) - len(order) % batch
    windows = [window[torch.argsort(lengths[window], stable=True)] for window in order[:whole].split(WINDOW * batch)]
    batches = torch.cat([*windows, order[:0]]).view(-1, batch)
    mixed = batches[torch.randperm(len(batches), generator=generator)].flatten()
    return torch.cat([mixed, order[whole:]])


def _divergence(member: TrainState, losses: Tensor, validation_loss: float) -> Diverged | None:
    """Return the error if a loss of an epoch is not finite, with the epoch, the step, and what to try."""
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
    row = member.history[-1] if member.epochs else {}
    shown = {"loss": row.get("train_loss", math.nan), "validation": row.get("validation_score", math.nan)}
    bar.set_postfix({key: f"{value:.4f}" for key, value in shown.items()}, refresh=False)
    bar.update()
