"""The trial that runs in this process, for whoever trains in it: report a value, and learn that it may stop."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.errors import Interrupted, Pruned

if TYPE_CHECKING:  # a single run asks whether it is a trial, and should not wait for Optuna
    import optuna


@dataclass
class RunningTrial:
    """One trial while it runs.

    Attributes:
        number: its number in the study, from 0.
        seed: its own, from the study's seed and its number.
        folder: where its output goes.
        objectives: what the study asks for, by name; empty: what the task returns by itself.
        horizon: the step of a full trial's last report, where it is known; nothing is saved by pruning there.
        stopping: whether a person has asked to stop after the epochs that run.
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
            Interrupted: a person asked to stop; the trial goes on when the same command is given again.
        """
        if len(self.trial.study.directions) == 1:
            if step not in self.steps:
                self.steps.add(step)
                self.trial.report(value, step)
            if max(self.steps) == step < self.horizon and self.trial.should_prune():
                raise Pruned(f"pruned at step {step}")
        self.pause()

    def pause(self) -> None:
        """Stop here if a person asked to.

        Raises:
            Interrupted: they did.
        """
        if self.stopping():
            raise Interrupted("stopped after the running epoch, as asked")

    def _frozen(self) -> "optuna.trial.FrozenTrial":
        return self.trial.study._storage.get_trial(self.trial._trial_id)


_running: ContextVar[RunningTrial | None] = ContextVar("running trial", default=None)


def current() -> RunningTrial | None:
    """The trial that this process runs; None outside of a sweep."""
    return _running.get()


@contextmanager
def running(trial: RunningTrial) -> Iterator[RunningTrial]:
    """Make `trial` the current one."""
    token = _running.set(trial)
    try:
        yield trial
    finally:
        _running.reset(token)
