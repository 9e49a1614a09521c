"""Learning-rate schedules: one number for every step, known before training starts.

A training loop has `Schedule.learning_rates` and, from `Schedule.start`, a state; its learning rate is ``rates[step] *
state["multiplier"]``. After each epoch ``state = schedule.observe(state, validation_loss)`` changes the multiplier, if
the schedule watches the loss. The state is JSON, so that a run resumes exactly from a checkpoint.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any

from hypermap.core.errors import UserError

State = dict[str, Any]


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate over time, after a linear warm-up of `warmup_epochs` (fractions are allowed).

    Raises:
        UserError: a setting outside its range.
    """

    _: KW_ONLY
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        _require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "at least 0")

    @abstractmethod
    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the share of the base rate at `step` of `steps`, both counted after the warm-up."""

    @abstractmethod
    def start(self) -> State:
        """Return the state before the first epoch; its "multiplier" is 1."""

    @abstractmethod
    def observe(self, state: State, validation_loss: float) -> State:
        """Return the state after an epoch that ended with `validation_loss`, without changing the given state."""

    def learning_rates(self, base_lr: float, epochs: int, steps_per_epoch: int) -> list[float]:
        """Return the learning rate of each of the ``epochs * steps_per_epoch`` steps.

        The warm-up rises linearly and reaches, at its last step, the rate that the schedule itself starts with: the
        base rate, except for `OneCycle`.

        Raises:
            UserError: a base rate that is negative or not finite, or a warm-up as long as the training.
        """
        _require(0 <= base_lr < math.inf, "the learning rate", base_lr, "finite numbers of at least 0")
        warmup = round(self.warmup_epochs * steps_per_epoch)
        steps = epochs * steps_per_epoch - warmup
        if self.warmup_epochs >= epochs or steps < 1:
            raise UserError(
                f"warmup_epochs is {self.warmup_epochs} and epochs is {epochs}; the warm-up must be shorter "
                f"than the training: lower warmup_epochs or raise epochs"
            )
        rates = [base_lr * self.share(step, steps, steps_per_epoch) for step in range(steps)]
        return [rates[0] * (step + 1) / warmup for step in range(warmup)] + rates


@dataclass(frozen=True)
class Planned(Schedule):
    """A schedule that does not depend on losses."""

    def start(self) -> State:
        """Return a constant multiplier of 1."""
        return {"multiplier": 1.0}

    def observe(self, state: State, validation_loss: float) -> State:
        """Return the same state."""
        return state


@dataclass(frozen=True)
class Constant(Planned):
    """The base rate throughout."""

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return one."""
        return 1.0


@dataclass(frozen=True)
class Step(Planned):
    """Multiplied by `gamma` every `every_epochs` epochs."""

    every_epochs: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.every_epochs >= 1, "every_epochs", self.every_epochs, "at least 1")
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "above 0 and at most 1")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return a staircase."""
        return float(self.gamma ** (step // (self.every_epochs * steps_per_epoch)))


@dataclass(frozen=True)
class Exponential(Planned):
    """Multiplied by `gamma` over each epoch, evenly at every step."""

    gamma: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "above 0 and at most 1")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return gamma to the power of the epochs so far."""
        return float(self.gamma ** (step / steps_per_epoch))


@dataclass(frozen=True)
class Linear(Planned):
    """Linearly down to `end`, a share of the base rate, which the step after the last would have."""

    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.end <= 1, "end", self.end, "from 0 to 1, a share of the learning rate")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return a line from 1 to `end`."""
        return 1 + (self.end - 1) * step / steps


@dataclass(frozen=True)
class Cosine(Planned):
    """Half a cosine down to `end`, a share of the base rate, which the step after the last would have.

    Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts.
    """

    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.end <= 1, "end", self.end, "from 0 to 1, a share of the learning rate")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return a half cosine from 1 to `end`."""
        return _ease(1.0, self.end, step / steps)


@dataclass(frozen=True)
class CosLog4(Planned):
    """Four cycles from zero up to the base rate and down again, each twice as long as the one before.

    ``(1 - cos(2 pi log2(1 + 15 t))) / 2`` at a share t of the training: RealMLP's schedule (Holzmüller, Grinsztajn and
    Steinwart 2024, https://arxiv.org/abs/2407.04491, section 3). Early cycles explore, and late ones end in good
    weights.
    """

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return four cosines over the logarithm of time."""
        done = (step + 1) / (steps + 1)  # no step is at a rate of zero
        return (1 - math.cos(2 * math.pi * math.log2(1 + 15 * done))) / 2


@dataclass(frozen=True)
class OneCycle(Planned):
    """Up to the base rate as the peak over `peak_share` of the steps, then down to almost zero.

    It starts at base / `start_divisor` and ends at that divided by `end_divisor`. As torch's ``OneCycleLR`` with cosine
    annealing, but with constant momentum. Smith and Topin 2018, https://arxiv.org/abs/1708.07120.
    """

    peak_share: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.peak_share < 1, "peak_share", self.peak_share, "above 0 and below 1")
        _require(self.start_divisor >= 1, "start_divisor", self.start_divisor, "at least 1")
        _require(self.end_divisor >= 1, "end_divisor", self.end_divisor, "at least 1")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return half a cosine up, half a cosine down."""
        start = 1 / self.start_divisor
        peak = self.peak_share * steps - 1  # the step of the peak, which need not be an integer
        if step < peak:
            return _ease(start, 1.0, step / peak)
        return _ease(1.0, start / self.end_divisor, (step - peak) / (steps - 1 - peak))


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiplied by `decay` after more than `patience` epochs in a row without a better validation loss.

    Better means lower by more than the share `threshold` of the best so far. The multiplier never falls below
    `minimum`, a share of the base rate. As torch's ``ReduceLROnPlateau``.
    """

    decay: float = 0.5
    patience: int = 3
    minimum: float = 0.0
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.decay < 1, "decay", self.decay, "above 0 and below 1")
        _require(self.patience >= 0, "patience", self.patience, "at least 0")
        _require(0 <= self.minimum <= 1, "minimum", self.minimum, "from 0 to 1, a share of the learning rate")
        _require(0 <= self.threshold < 1, "threshold", self.threshold, "from 0 to less than 1")

    def share(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return one: reductions are in the multiplier."""
        return 1.0

    def start(self) -> State:
        """Return the state before the first epoch: no best loss."""
        return {"multiplier": 1.0, "best": None, "bad_epochs": 0}

    def observe(self, state: State, validation_loss: float) -> State:
        """Count the epochs since the best; a loss that is not finite is never better."""
        best = state["best"]
        if math.isfinite(validation_loss) and (best is None or validation_loss < best * (1 - self.threshold)):
            return {**state, "best": validation_loss, "bad_epochs": 0}
        if state["bad_epochs"] < self.patience:
            return {**state, "bad_epochs": state["bad_epochs"] + 1}
        return {**state, "multiplier": max(state["multiplier"] * self.decay, self.minimum), "bad_epochs": 0}


def _ease(start: float, end: float, progress: float) -> float:
    """Return half a cosine from `start` at progress 0 to `end` at progress 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _require(holds: bool, name: str, value: float, allowed: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}; allowed: {allowed}")
