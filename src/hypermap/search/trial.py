"""The trial that runs in this process, for whoever trains in it: report a value, and learn that it may stop."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core.errors import Interrupted, Paused, Pruned

if TYPE_CHECKING:  # a single run asks whether it is a trial, and should not wait for Optuna
    import optuna


@dataclass(eq=False)  # it is named by itself
class RunningTrial:
    """One trial while it runs.

    Attributes:
        number: its number in the study, from 0.
        seed: its own, from the study's seed and its number.
        folder: where its output goes.
        objectives: what the study asks for, by name; empty: what the task returns by itself.
        horizon: the step of a full trial's last report, where it is known; nothing is saved by pruning there.
        stopping: whether a person has asked to stop after the epochs that run.
        until: the step up to which it may train before it is decided upon again; None: to its end.
        go_on: decides about trials that have come so far, given their numbers: how far those may train that go on.
        pauses: whether what it was trained for can be kept and taken up again.
        scheduled: whether `go_on` says when it stops, and no pruner is asked at other steps.
        values: what is searched, by key of the configuration.
        configuration: what it was trained with; set by the task.
        record: what is kept of it beside its values; added to by the task.
    """

    trial: "optuna.Trial"
    number: int
    seed: int
    folder: Path
    objectives: tuple[str, ...] = ()
    horizon: float = math.inf
    stopping: Callable[[], bool] = lambda: False
    until: int | None = None
    go_on: Callable[[Collection[int]], dict[int, int | None]] = lambda numbers: dict.fromkeys(numbers)
    pauses: bool = False
    scheduled: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] | None = None
    record: dict[str, Any] = field(default_factory=dict)
    steps: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.steps = set(self._frozen().intermediate_values)

    def report(self, step: int, value: float) -> None:
        """Tell the study how the trial does at `step`; with several objectives there is nothing to compare it by.

        A step that was told before the trial was interrupted is not told again.

        Raises:
            Pruned: others did better at this step.
            Paused: others are to go on first.
            Interrupted: a person asked to stop; the trial goes on when the same command is given again.
        """
        if (stopped := report_all({self: (step, value)}).get(self)) is not None:
            raise stopped

    def tell(self, step: int, value: float) -> None:
        """Tell the study a value, and ask nothing."""
        if step not in self.steps:
            self.steps.add(step)
            self.trial.report(value, step)

    def should_prune(self, step: int) -> bool:
        """Return whether others did better at `step`; asked at the last one told, and not at a full trial's last."""
        return not self.scheduled and max(self.steps) == step < self.horizon and self.trial.should_prune()

    def came_so_far(self, step: int) -> bool:
        """Return whether it is to be decided upon at `step`: it is the last one told, as far as it may train, and no
        end.
        """
        return self.until is not None and self.until <= step < self.horizon and max(self.steps) == step

    def pause(self) -> None:
        """Stop here if a person asked to.

        Raises:
            Interrupted: they did.
        """
        if self.stopping():
            raise Interrupted("stopped after the running epoch, as asked")

    def _frozen(self) -> "optuna.trial.FrozenTrial":
        return self.trial.study._storage.get_trial(self.trial._trial_id)


def report_all(reports: Mapping[RunningTrial, tuple[int, float]]) -> dict[RunningTrial, Pruned | Paused]:
    """Tell the study how several of its trials do, each at a step; returns what stops some of them here.

    All values are told before anything is decided, so that each trial is held against all others. Whether a person
    asked to stop comes before that: a pruner may remember that it answered, and its answer would be lost.

    Args:
        reports: of each trial the step and its value, as of `RunningTrial.report`.

    Returns:
        the exception with which a trial ends, or is paused.

    Raises:
        Interrupted: a person asked to stop. What was reported is told.
    """
    if not reports:
        return {}
    from hypermap.search.storage import batching  # brings Optuna, which is here by now

    first = next(iter(reports))
    study = first.trial.study
    stopped: dict[RunningTrial, Pruned | Paused] = {}
    alone = len(study.directions) == 1
    with batching(study._storage):
        if alone:
            for trial, (step, value) in reports.items():
                trial.tell(step, value)
        first.pause()
        if alone:
            for trial, (step, _) in reports.items():
                if trial.should_prune(step):
                    stopped[trial] = Pruned(f"pruned at step {step}")
    come = [trial for trial, (step, _) in reports.items() if alone and trial not in stopped and trial.came_so_far(step)]
    if come:  # outside of the batch: whoever decides may wait for others, who wait to write
        going = first.go_on([trial.number for trial in come])
        for trial in come:
            step, _ = reports[trial]
            if trial.number in going:
                trial.until = going[trial.number]
            else:
                stopped[trial] = Paused(f"paused at step {step}") if trial.pauses else Pruned(f"pruned at step {step}")
    return stopped


_running: ContextVar[RunningTrial | None] = ContextVar("running trial", default=None)


def current() -> RunningTrial | None:
    """Return the trial that this process runs; None outside of a sweep."""
    return _running.get()


@contextmanager
def running(trial: RunningTrial) -> Iterator[RunningTrial]:
    """Make `trial` the current one."""
    token = _running.set(trial)
    try:
        yield trial
    finally:
        _running.reset(token)
