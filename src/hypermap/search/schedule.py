"""What a search does next, and what it has spent: who goes on, up to which step, and who begins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

PROPOSED, REPETITION = "proposed", "repetition"  # attribute of a trial: who proposed it; of one that repeats another
SCHEDULE = "schedule"  # attribute of a trial: up to where it may train, and whether it is paused
REPEATS = "repeats"  # attribute of a trial: the one whose values it has, to measure those once more
SIZE = "size"  # attribute of a trial: its steps in full and what they count for, where trials differ


def mapping_of(trial: FrozenTrial, key: str) -> Mapping[str, Any]:
    """Return what a study keeps of a trial under a name; nothing where another program uses that name for its own."""
    kept = trial.user_attrs.get(key)
    return kept if isinstance(kept, Mapping) else {}


@dataclass(frozen=True)
class Allowed:
    """How far a trial may train, as its study keeps it.

    Attributes:
        until: the last step; None: to its end.
        paused: whether nobody trains it, until a decision takes it up again.
        unpruned: whether it was begun to be trained to its end, whatever it shows.
    """

    until: int | None = None
    paused: bool = False
    unpruned: bool = False

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Allowed":
        """Return what the study keeps of a trial."""
        kept = mapping_of(trial, SCHEDULE)
        return cls(**{key: kept[key] for key in ("until", "paused", "unpruned") if key in kept})

    def record(self) -> dict[str, Any]:
        """Return what the study is to keep."""
        return {"until": self.until, "paused": self.paused, "unpruned": self.unpruned}


@dataclass(frozen=True)
class Size:
    """How much a full trial is.

    Attributes:
        steps: it reports; None where nobody knows.
        trainings: it counts for in the budget.
    """

    steps: int | None = None
    trainings: float = 1.0

    @classmethod
    def of(cls, trial: FrozenTrial, horizon: int | None) -> "Size":
        """Return a trial's size; `horizon` is that of every trial, where they are alike."""
        kept = mapping_of(trial, SIZE)
        return cls(kept.get("steps", horizon), kept.get("trainings", 1.0))

    def cost(self, steps: float) -> float:
        """Return the trainings that so many steps count for."""
        return self.trainings if self.steps is None else self.trainings * min(steps, self.steps) / self.steps


@dataclass(frozen=True)
class Ledger:
    """A search's budget in full trainings, and what trials have taken of it.

    Attributes:
        budget: infinite where there is none.
        n_trials: the most trials that may begin; None: any number.
        horizon: the steps of a full trial, where all are alike.
        sizes_differ: whether some trials count for more than others, which is known once they have begun.
        hurry: whether the time is nearly up, so that no trial should begin that has no time to end.
    """

    budget: float = math.inf
    n_trials: int | None = None
    horizon: int | None = None
    sizes_differ: bool = False
    hurry: bool = False

    def taken(self, trial: FrozenTrial) -> float:
        """Return the trainings that a trial has used, or may use as far as it is allowed to train now."""
        size, allowed = Size.of(trial, self.horizon), Allowed.of(trial)
        reached = trial.last_step or 0
        if trial.state == TrialState.RUNNING and not allowed.paused:
            return size.trainings if allowed.until is None else size.cost(max(reached, allowed.until))
        if trial.state == TrialState.COMPLETE and not reached:
            return size.trainings
        return size.cost(max(reached, 1))  # one that fails at once has cost something, too

    def spent(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the trainings that are used or promised."""
        return math.fsum(self.taken(trial) for trial in trials if trial.state != TrialState.WAITING)

    def left(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the trainings that are neither."""
        return self.budget if math.isinf(self.budget) else max(0.0, self.budget - self.spent(trials))

    def may_begin(self, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether the number of trials allows for another."""
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        return self.n_trials is None or begun < self.n_trials

    def within(self, size: Size, reached: int, until: int | None, left: float) -> int | None:
        """Return how far a trial may train that is to train up to `until` while so much is left.

        None stands for its end, 0 for no step at all.
        """
        whole = size.steps
        target = whole if until is None else until
        if math.isinf(left):
            return until
        if whole is None or target is None:  # nobody knows what a step costs: all is paid when the trial begins
            return until if reached or left >= size.trainings - 1e-9 else 0
        affordable = reached + math.floor(left / size.trainings * whole + 1e-6)
        if affordable <= reached:
            return 0
        return until if affordable >= target else affordable


@dataclass(frozen=True)
class Decision:
    """What a worker should do next.

    Attributes:
        number: of the trial to go on with; None: begin a new one.
        allowed: how far it may train.
        repeats: the trial whose values the new one has, with a seed of its own; None: it has values of its own.
        release: paused trials that are given up, to make room.
    """

    number: int | None
    allowed: Allowed
    repeats: int | None = None
    release: tuple[int, ...] = ()


class Scheduler(Protocol):
    """Decides what is trained next, from a study's trials alone."""

    def decide(self, trials: Sequence[FrozenTrial], ledger: Ledger) -> Decision | None:
        """Return what to do next; None where there is nothing, or nothing until another trial has gone on."""
        ...


class ToTheEnd:
    """Every trial is trained to its end unless a pruner stops it; the last as far as the budget goes."""

    def decide(self, trials: Sequence[FrozenTrial], ledger: Ledger) -> Decision | None:
        """Return a new trial, while there may be one."""
        if not ledger.may_begin(trials):
            return None
        left = ledger.left(trials)
        if ledger.sizes_differ and left < 1 - 1e-9:
            return None
        until = ledger.within(Size(ledger.horizon), 0, None, left)
        return None if until == 0 else Decision(None, Allowed(until))
