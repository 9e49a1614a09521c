"""The interface between a sweep and the program whose task it runs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from hypermap.core.errors import UserError
from hypermap.search.schedule import Size
from hypermap.search.trial import RunningTrial


@dataclass(frozen=True)
class StudySpec:
    """The objectives and properties of a sweep.

    Attributes:
        objectives: metrics by name; empty: what the task returns by default.
        directions: ``minimize`` or ``maximize`` for each objective.
        seed: of the study, unless the sweep has one.
        horizon: number of reports of a full trial, if known.
        minimizes_reports: whether lower reported values are better; None: as for the first objective.
        reports_fits: whether trials report folds or repeats instead of epochs.
        sizes_differ: whether trials differ in cost (`SweepTarget.size`).
        identity: what must be unchanged when the study is resumed.
    """

    objectives: tuple[str, ...] = ()
    directions: tuple[str, ...] = ("minimize",)
    seed: int = 0
    horizon: int | None = None
    minimizes_reports: bool | None = None
    reports_fits: bool = False
    sizes_differ: bool = False
    identity: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A trial that is run together with others.

    Attributes:
        trial: the trial, whose folder gets the output.
        configuration: composed for it; plain, each group with the ``name`` of its option.
    """

    trial: RunningTrial
    configuration: dict[str, Any]


# Called with a job as soon as it has ended, and the objective(s) or the error that a task would raise: Pruned,
# Diverged, OutOfMemory, UserError or any other.
OnFinish = Callable[[Job, Any], None]


class SweepTarget:
    """Any Hydra application: a task that returns its objective. Applications with more features override this.

    Attributes:
        stacks: whether it can run several trials at once, with `together`.
        pauses: whether a trial that reports (`RunningTrial.report`) may be paused there: it raises `Paused`, and the
            same trial is run again later, from where it stopped.
        listed: whether its studies are found by name in `hypermap.core.paths.STUDIES`, wherever their folders are.
    """

    stacks = False
    pauses = False
    listed = False

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a configuration that no trial should start with."""

    def ignored_groups(self, group: str, option: str) -> Collection[str]:
        """Return the groups that the task ignores if `group` has this option: their spaces do not apply."""
        return ()

    def study_spec(
        self, configuration: Mapping[str, Any], searched: Sequence[str], objectives: Sequence[str] | None
    ) -> StudySpec:
        """Return the spec of a sweep from this baseline over these keys; `objectives` are those requested."""
        return StudySpec(identity={"configuration": without(configuration, searched)})

    def size(self, configuration: Mapping[str, Any], baseline: Mapping[str, Any]) -> Size:
        """Return the cost of a trial of this configuration; the baseline counts as one training."""
        return Size()

    def begin(self, study: str, *, publish: bool) -> dict[str, Any]:
        """Return data that a new study stores for `resume`."""
        return {}

    def resume(self, study: str, kept: Mapping[str, Any], conf: Path) -> None:
        """Restore the data from `begin`, in the process that launches the workers.

        `conf` is the configuration's folder as of the start of the study.
        """

    def code(self) -> str:
        """Return a fingerprint of the code that determines a trial's result, as it is on this machine."""
        return ""

    def move(self, moved: Callable[[Path], Path]) -> None:
        """Take the paths that `resume` was given to another copy of the project, in a worker on another machine."""

    def collect(self, study: optuna.Study, folder: Path) -> None:
        """Write what the trials of other machines carry into the study's folder here."""

    def report(self, study: optuna.Study, storage: str) -> str:
        """Write a report on the study, if any, and return what is printed after a sweep's results."""
        return ""

    def gpus(self, configuration: Mapping[str, Any]) -> int:
        """Return how many of the machine's GPUs each worker has for itself; 0 if it has no use for them."""
        return 0

    def stack_size(self, configuration: Mapping[str, Any]) -> int:
        """Return how many trials of this configuration, or of similar ones, it can run at once."""
        return 1

    def together(self, jobs: Sequence[Job], on_finish: OnFinish) -> None:
        """Run several trials at once, and call `on_finish` once for each, in any order.

        An error that it raises counts for every trial that has not ended.

        Raises:
            Interrupted: a user asked to stop. Unfinished trials continue when the same command is run again.
        """
        raise UserError("this application runs one trial at a time. Leave hydra.sweeper.stack out.")

    def before_tell(self, trial: RunningTrial) -> None:
        """Process a completed trial in its worker, before the study records it as complete."""


def without(configuration: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return a configuration's values by dotted key, without some keys or whole groups."""
    flat = dict(_flat(configuration, ""))
    return {k: v for k, v in flat.items() if not any(k == key or k.startswith(f"{key}.") for key in keys)}


def _flat(value: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = f"{prefix}{key}"
        pairs += _flat(inner, f"{path}.") if isinstance(inner, Mapping) and inner else [(path, inner)]
    return pairs
