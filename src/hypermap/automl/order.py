"""The fixed order of an AutoML's steps: which candidate is trained on which fold next.

The order depends on the settings, the data and the results of earlier steps, never on a clock or on how many steps run
at the same time. So the number of steps that were done says what was done, and doing as many again gives the same.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LAG = 3
"""How many candidates before the last known one may still be unfinished: so many can be trained beside the first."""

BEHIND = 0.2
"""A candidate is dropped after a fold if it explains so much less than the best: as a share of what that explains."""


@dataclass(frozen=True)
class Candidate:
    """A model to try.

    Attributes:
        says: how it differs from the others, as on the command line.
        configuration: every group of a training, and its seed.
        preparation: settings of the table's preprocessing that differ from those of the prepared data.
        drawn: parameters that were drawn for it, by name; None if it is in the portfolio.
    """

    says: str
    configuration: Mapping[str, Any]
    preparation: Mapping[str, Any]
    drawn: Mapping[str, Any] | None = None


@dataclass(frozen=True, order=True)
class Step:
    """A training: the number of a candidate and that of a fold, both from 0."""

    candidate: int
    fold: int


@dataclass(frozen=True)
class Outcome:
    """What a step came to.

    Attributes:
        loss: mean over the fold's rows; None if the candidate could not be trained.
        bytes: that its model needs, compressed.
        epoch: that its network was kept at, or the number of its trees; 0 if it has none.
        error: why it could not be trained.
    """

    loss: float | None
    bytes: int = 0
    epoch: int = 0
    error: str = ""


Done = Mapping[Step, Outcome]


@dataclass(frozen=True)
class Tried:
    """A candidate that has been trained on every fold, with the mean of its losses."""

    number: int
    candidate: Candidate
    loss: float


Propose = Callable[[int, Sequence[Tried]], Candidate | None]
"""The candidate of a number, given those that have been tried; None if there is no other."""


class Order:
    """The order of the steps.

    Args:
        folds: number of folds.
        worst: for each fold, the loss of predicting the same for every row.
        propose: the candidate of a number; called once for each.
    """

    def __init__(self, folds: int, worst: Sequence[float], propose: Propose) -> None:
        self.folds = folds
        self.worst = worst
        self.propose = propose
        self._candidates: list[Candidate | None] = []
        self._ended: dict[int, Tried | None] = {}  # those with no step left; None: dropped

    def next(self, done: Done, running: Sequence[Step] = ()) -> Step | None:
        """Return the first step that can start; None if all that is left depends on one that runs."""
        number = next(k for k in itertools.count() if k not in self._ended)
        while self.candidate(number, done) is not None:
            step = self._next_of(number, done)
            if step is not None and step not in running:
                return step
            number += 1
        return None

    def finished(self, done: Done) -> Iterator[Step]:
        """Yield the steps that are done, in order, up to the first that is not."""
        number = 0
        while self.candidate(number, done) is not None:
            for fold in range(self.folds):
                step = Step(number, fold)
                if step not in done:
                    break
                yield step
            if not self._has_ended(number, done):
                return
            number += 1

    def candidate(self, number: int, done: Done) -> Candidate | None:
        """Return the candidate of a number; None if it depends on steps that are not done, or there is no other."""
        while len(self._candidates) <= number:
            known = self._known(len(self._candidates), done)
            if known is None or (self._candidates and self._candidates[-1] is None):
                return None
            self._candidates.append(self.propose(len(self._candidates), known))
        return self._candidates[number]

    def tried(self, number: int, done: Done) -> Tried | None:
        """Return a candidate if it was trained on every fold."""
        losses = [done[step].loss for fold in range(self.folds) if (step := Step(number, fold)) in done]
        candidate = self.candidate(number, done)
        trained = [loss for loss in losses if loss is not None]
        if candidate is None or len(trained) < self.folds:
            return None
        return Tried(number, candidate, math.fsum(trained) / self.folds)

    def _known(self, number: int, done: Done) -> list[Tried] | None:
        """Return what decisions about a candidate may depend on; None if some of it is not done yet."""
        before = range(max(0, number - LAG))
        if not all(self._has_ended(other, done) for other in before):
            return None
        return [tried for other in before if (tried := self._ended[other]) is not None]

    def _has_ended(self, number: int, done: Done) -> bool:
        if number not in self._ended:
            if number >= len(self._candidates) or self._next_of(number, done) is not None:
                return False
            self._ended[number] = self.tried(number, done)
        return True

    def _next_of(self, number: int, done: Done) -> Step | None:
        """Return a candidate's next step; None if it has none left."""
        for fold in range(self.folds):
            if Step(number, fold) not in done:
                return None if self._dropped(number, fold, done) else Step(number, fold)
        return None

    def _dropped(self, number: int, fold: int, done: Done) -> bool:
        """Return whether a candidate is dropped before this fold."""
        if any(done[Step(number, k)].loss is None for k in range(fold)):
            return True
        known = self._known(number, done)
        if not fold or not known:
            return False
        best = min(known, key=lambda tried: tried.loss).number
        own, least = (math.fsum(done[Step(one, k)].loss or 0.0 for k in range(fold)) for one in (number, best))
        return own - least > BEHIND * (math.fsum(self.worst[:fold]) - least)
