"""What a search does next, and what it has spent: which trials continue, up to which step, and which start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

PROPOSED, REPETITION = "proposed", "repetition"  # attribute of a trial: its proposer; the proposer of a repetition
SCHEDULE = "schedule"  # attribute of a trial: how far it may train, and whether it is paused
REPEATS = "repeats"  # attribute of a trial: the trial that it repeats, to measure its values once more
SIZE = "size"  # attribute of a trial: its total steps and their cost, if trials differ


def mapping_of(trial: FrozenTrial, key: str) -> Mapping[str, Any]:
    """Return the mapping stored for a trial under a key; empty if another program uses that key for something else."""
    kept = trial.user_attrs.get(key)
    return kept if isinstance(kept, Mapping) else {}


@dataclass(frozen=True)
class Allowed:
    """How far a trial may train, as stored in its study.

    Attributes:
        until: the last step; None: to the end.
        paused: whether it is not being trained, until a decision resumes it.
        unpruned: whether it was started to be trained to the end, whatever its scores.
    """

    until: int | None = None
    paused: bool = False
    unpruned: bool = False

    @classmethod
    def of(cls, trial: FrozenTrial) -> "Allowed":
        """Return what the study stores for a trial."""
        kept = mapping_of(trial, SCHEDULE)
        return cls(**{key: kept[key] for key in ("until", "paused", "unpruned") if key in kept})

    def record(self) -> dict[str, Any]:
        """Return the record to store in the study."""
        return {"until": self.until, "paused": self.paused, "unpruned": self.unpruned}


@dataclass(frozen=True)
class Size:
    """The size of a full trial.

    Attributes:
        steps: number of reports; None if unknown.
        trainings: its cost in the budget.
    """

    steps: int | None = None
    trainings: float = 1.0

    @classmethod
    def of(cls, trial: FrozenTrial, horizon: int | None) -> "Size":
        """Return a trial's size; `horizon` is that of every trial, if they are equal."""
        kept = mapping_of(trial, SIZE)
        return cls(kept.get("steps", horizon), kept.get("trainings", 1.0))

    def cost(self, steps: float) -> float:
        """Return the cost of so many steps, in trainings."""
        return self.trainings if self.steps is None else self.trainings * min(steps, self.steps) / self.steps


@dataclass(frozen=True)
class Ledger:
    """A search's budget in full trainings, and what trials have spent of it.

    Attributes:
        budget: infinite if there is none.
        n_trials: maximum number of trials; None: any number.
        horizon: the steps of a full trial, if all are equal.
        sizes_differ: whether trials differ in cost, which is known once they have started.
        hurry: whether time is nearly up, so that no trial should start that cannot finish.
    """

    budget: float = math.inf
    n_trials: int | None = None
    horizon: int | None = None
    sizes_differ: bool = False
    hurry: bool = False

    def taken(self, trial: FrozenTrial) -> float:
        """Return the trainings that a trial has used, or may use with its present allowance."""
        size, allowed = Size.of(trial, self.horizon), Allowed.of(trial)
        reached = trial.last_step or 0
        if trial.state == TrialState.RUNNING and not allowed.paused:
            return size.trainings if allowed.until is None else size.cost(max(reached, allowed.until))
        if trial.state == TrialState.COMPLETE and not reached:
            return size.trainings
        return size.cost(max(reached, 1))  # a trial that fails at once has a cost, too

    def spent(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the trainings that are used or allotted."""
        return math.fsum(self.taken(trial) for trial in trials if trial.state != TrialState.WAITING)

    def left(self, trials: Sequence[FrozenTrial]) -> float:
        """Return the trainings that are neither used nor allotted."""
        return self.budget if math.isinf(self.budget) else max(0.0, self.budget - self.spent(trials))

    def may_begin(self, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether the number of trials allows another one."""
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        return self.n_trials is None or begun < self.n_trials

    def within(self, size: Size, reached: int, until: int | None, left: float) -> int | None:
        """Return how far a trial may train towards `until` with the remaining budget.

        None means to its end, 0 no step at all.
        """
        whole = size.steps
        target = whole if until is None else until
        if math.isinf(left):
            return until
        if whole is None or target is None:  # the cost of a step is unknown: the whole trial is charged when it starts
            return until if reached or left >= size.trainings - 1e-9 else 0
        affordable = reached + math.floor(left / size.trainings * whole + 1e-6)
        if affordable <= reached:
            return 0
        return until if affordable >= target else affordable


@dataclass(frozen=True)
class Decision:
    """What a worker should do next.

    Attributes:
        number: of the trial to continue; None: start a new one.
        allowed: how far it may train.
        repeats: the trial that the new one repeats with another seed; None: it gets its own values.
        release: paused trials that are dropped, to make room.
    """

    number: int | None
    allowed: Allowed
    repeats: int | None = None
    release: tuple[int, ...] = ()


class Scheduler(Protocol):
    """Decides what is trained next, based only on a study's trials."""

    def decide(self, trials: Sequence[FrozenTrial], ledger: Ledger) -> Decision | None:
        """Return what to do next; None if there is nothing to do, or nothing until another trial has progressed."""
        ...


class ToTheEnd:
    """Every trial is trained to the end unless a pruner stops it; the last one as far as the budget allows."""

    def decide(self, trials: Sequence[FrozenTrial], ledger: Ledger) -> Decision | None:
        """Return a new trial, as long as one may start."""
        if not ledger.may_begin(trials):
            return None
        left = ledger.left(trials)
        if ledger.sizes_differ and left < 1 - 1e-9:
            return None
        until = ledger.within(Size(ledger.horizon), 0, None, left)
        return None if until == 0 else Decision(None, Allowed(until))
