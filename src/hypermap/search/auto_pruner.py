"""The pruner of the default strategy: asynchronous successive halving at every step, not at rungs alone."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

STARTUP = 8  # trials before there is a model


class AutoPruner(BasePruner):
    """Stops a trial whose best value so far has too low a rank among all trials at the same step.

    A trial stands for its best value up to a step, for that is the checkpoint one keeps; a trial that ended before
    counts with what it had. Of n trials begun, step s lets pass

    - those of the best ``max(1, n / (eta s))``: the share that successive halving with this eta leaves at s, but
      compared at each step (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", with Golovin et
      al. 2017, "Google Vizier", where every step is a rung), so that a leader is never stopped for its rank; and
    - no more than ``1 + n / (2 sqrt(s))`` in all: a search that improves would else pay for each of its leaders in
      full (progressive halving: Bohdal et al. 2023, "PASHA"); and
    - of those whose second half of steps brought nothing, as with patience in early stopping (Prechelt 1998, "Early
      Stopping - But When?"), none from the fourth step on.

    The first trial is never stopped for want of others. Nor are the last two held against a leader, one that is better
    than all others were at any of their steps: what a search has found is trained to its end. But a leader among few
    is nothing found, so the first `STARTUP` trials have no such privilege once one of them is complete; nor has one
    that no longer improves where a fifth of all trials went further. A trial whose first three reports are another's
    value for value is the same one again, and is stopped; of two that are equally far, the later one.

    Args:
        max_resource: steps of a full trial, where that is known; its last step is not compared.
        eta: how much harder the selection becomes from step to step, as the reduction factor of successive halving.
    """

    def __init__(self, max_resource: int | None = None, eta: float = 4.0) -> None:
        if eta < 1:
            raise ValueError(f"eta is {eta}; it must be at least 1")
        self.max_resource = max_resource
        self.eta = eta
        self._courses: dict[int, _Course] = {}  # by trial id, as they were when last asked for

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should end at its last reported step."""
        step = trial.last_step
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        others = [other for other in others if other.intermediate_values]
        if step is None or not others or (self.max_resource is not None and step >= self.max_resource):
            return False
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        n = len(others) + 1
        own = _Course(trial, sign)
        courses = [self._course(other, sign) for other in others]
        value = own.until(step)
        rank = 1 + sum(course.until(step) > value for course in courses)
        passed = sum(course.last > step for course in courses)
        founded = n > STARTUP or all(other.state != TrialState.COMPLETE for other in others)
        leads = founded and value > max(course.best[-1] for course in courses)
        stagnates = step >= 4 and value <= own.until(step // 2)
        return (
            rank > max(1.0, n / (self.eta * step))
            or (not leads and (stagnates or passed >= 1 + n / (2 * math.sqrt(step))))
            or (stagnates and passed >= n / 5)
            or (
                own.start is not None
                and any(
                    course.start == own.start and (course.last > step or other.number < trial.number)
                    for course, other in zip(courses, others, strict=True)
                )
            )
        )

    def _course(self, trial: FrozenTrial, sign: int) -> "_Course":
        """A trial's course; a stack of trials is asked about at every step, and most of the others stay as they are."""
        course = self._courses.get(trial._trial_id)
        if course is None or not course.of(trial):
            course = self._courses[trial._trial_id] = _Course(trial, sign)
        return course


class _Course:
    """What a trial reported, such that its best value up to any step is found at once; `sign` as of `best_until`."""

    def __init__(self, trial: FrozenTrial, sign: int) -> None:
        self._values, self._count = trial.intermediate_values, len(trial.intermediate_values)
        self._steps = sorted(self._values)
        self.best = list(accumulate(_signed(self._values, self._steps, sign), max))
        self.last = self._steps[-1] if self._steps else 0
        self.start = beginning(trial)

    def of(self, trial: FrozenTrial) -> bool:
        """Whether the trial has reported nothing since: a storage replaces what it has when more comes."""
        return trial.intermediate_values is self._values and len(self._values) == self._count

    def until(self, step: float) -> float:
        """`best_until`."""
        count = bisect_right(self._steps, step)
        return self.best[count - 1] if count else -math.inf


def _signed(values: Mapping[int, float], steps: list[int], sign: int) -> list[float]:
    return [sign * values[step] if math.isfinite(values[step]) else -math.inf for step in steps]


def best_until(trial: FrozenTrial, step: float, sign: int) -> float:
    """The best value reported up to a step times `sign`, -inf where there is none; NaN and infinities are none."""
    values = trial.intermediate_values.items()
    return max((sign * v for s, v in values if s <= step and math.isfinite(v)), default=-math.inf)


def beginning(trial: FrozenTrial) -> tuple[tuple[int, float], ...] | None:
    """The first three reports: trials that share them are the same one; None for fewer or constant ones.

    Until learning sets in all trials may be equal, and on a small validation set two values may agree by chance.
    """
    first = tuple(sorted(trial.intermediate_values.items())[:3])
    return first if len(first) == 3 and len({value for _, value in first}) > 1 else None
