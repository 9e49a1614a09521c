"""The trial that runs in this process: the training reports values to it, and learns whether to stop."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core.errors import Interrupted, Paused, Pruned

if TYPE_CHECKING:  # a single run checks whether it is a trial, and should not wait for Optuna
    import optuna

    from hypermap.search.artifacts import Artifacts

STATE = "state"  # in a trial's folder: the state that its training resumes from


@dataclass(eq=False)  # compared by identity
class RunningTrial:
    """One trial while it runs.

    Attributes:
        number: its number in the study, from 0.
        seed: derived from the study's seed and its number.
        folder: for its output.
        objectives: of the study, by name; empty: what the task returns by default.
        horizon: the step of a full trial's last report, if known; pruning there would save nothing.
        stopping: whether a user has asked to stop after the running epochs.
        until: the step up to which it may train before the next decision; None: to the end.
        go_on: decides, given the numbers of trials at their limit, how far those that continue may train.
        pauses: whether its state can be kept and resumed.
        artifacts: where its state is sent to, if other machines may go on with it.
        scheduled: whether `go_on` decides when it stops, and no pruner at other steps.
        values: of the searched parameters, by configuration key.
        configuration: that it was trained with; set by the task.
        record: data stored besides its values; extended by the task.
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
    artifacts: "Artifacts | None" = None
    values: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] | None = None
    record: dict[str, Any] = field(default_factory=dict)
    steps: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.steps = set(self._frozen().intermediate_values)

    def report(self, step: int, value: float) -> None:
        """Report the trial's value at `step` to the study; with several objectives there is no comparison.

        A step that was reported before the trial was interrupted is not reported again.

        Raises:
            Pruned: others did better at this step.
            Paused: others continue first.
            Interrupted: a user asked to stop; the trial resumes when the same command is run again.
        """
        if (stopped := report_all({self: (step, value)}).get(self)) is not None:
            raise stopped

    def tell(self, step: int, value: float) -> None:
        """Report a value to the study, without a decision."""
        if step not in self.steps:
            self.steps.add(step)
            self.trial.report(value, step)

    def should_prune(self, step: int) -> bool:
        """Return whether others did better at `step`, if it is the last reported one and not a full trial's last."""
        return not self.scheduled and max(self.steps) == step < self.horizon and self.trial.should_prune()

    def came_so_far(self, step: int) -> bool:
        """Return whether `step` needs a decision: it is the last reported one and the limit, but not the end."""
        return self.until is not None and self.until <= step < self.horizon and max(self.steps) == step

    @property
    def state(self) -> Path:
        """The folder that its training resumes from."""
        return self.folder / STATE

    def pause(self) -> None:
        """Stop here if a user asked to.

        Raises:
            Interrupted: a user asked to.
        """
        if self.stopping():
            raise Interrupted("stopped after the running epoch, as asked")

    def _frozen(self) -> "optuna.trial.FrozenTrial":
        return self.trial.study._storage.get_trial(self.trial._trial_id)


def report_all(reports: Mapping[RunningTrial, tuple[int, float]]) -> dict[RunningTrial, Pruned | Paused]:
    """Report several trials, each at a step, to the study; return the exceptions that stop some of them here.

    All values are reported before any decision, so that each trial is compared with all others. A request to stop is
    checked before that: a pruner may remember its answer, which would be lost.

    Args:
        reports: step and value of each trial, as for `RunningTrial.report`.

    Returns:
        the exception with which a trial ends or is paused.

    Raises:
        Interrupted: a user asked to stop. The reports are recorded.
    """
    if not reports:
        return {}
    from hypermap.search.storage import batching  # imports Optuna, which is loaded by now

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
    for trial in reports:
        if trial.artifacts is not None:
            trial.artifacts.push(trial.number, trial.state)
    come = [trial for trial, (step, _) in reports.items() if alone and trial not in stopped and trial.came_so_far(step)]
    if come:  # outside the batch: the decision may wait for other processes, which wait to write
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
