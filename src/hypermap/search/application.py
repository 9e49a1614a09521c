"""What a sweep asks of the program whose task it runs."""

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
    """What a sweep is about.

    Attributes:
        objectives: figures by name; empty: what the task returns by itself.
        directions: of each objective, ``minimize`` or ``maximize``.
        seed: the study's, unless the sweep is given one.
        horizon: reports of a full trial, where that is known.
        minimizes_reports: whether less is better of what trials report; None: as of the first objective.
        reports_fits: whether trials report folds or repeats, and not epochs.
        sizes_differ: whether some trials are more than others (`SweepTarget.size`).
        identity: what must be the same when the study is taken up again.
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
        trial: its output goes to its folder.
        configuration: composed for it; plain, each group with the ``name`` of its choice.
    """

    trial: RunningTrial
    configuration: dict[str, Any]


# Gets a job as soon as it has ended, with the objective(s), or with the error that a task would raise: Pruned,
# Diverged, OutOfMemory, UserError or any other.
OnFinish = Callable[[Job, Any], None]


class SweepTarget:
    """Any Hydra application: a task that returns its objective. Whoever knows more of itself overrides this.

    Attributes:
        stacks: whether it can run several trials at once, by `together`.
        pauses: whether a trial that reports (`RunningTrial.report`) may be paused there: it raises `Paused`, and the
            same trial is run again later, from where it was.
        listed: whether its studies are found by name, in `hypermap.core.paths.STUDIES`, wherever their folders are.
    """

    stacks = False
    pauses = False
    listed = False

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a configuration that no trial should begin with."""

    def ignored_groups(self, group: str, option: str) -> Collection[str]:
        """Return the groups that have no part in the task where `group` has this choice: a space file's are not
        searched.
        """
        return ()

    def study_spec(
        self, configuration: Mapping[str, Any], searched: Sequence[str], objectives: Sequence[str] | None
    ) -> StudySpec:
        """Return what a sweep from this baseline over these keys is about; `objectives` are those that were asked
        for.
        """
        return StudySpec(identity={"configuration": without(configuration, searched)})

    def size(self, configuration: Mapping[str, Any], baseline: Mapping[str, Any]) -> Size:
        """Return how much a trial of this configuration is; the baseline counts as one training."""
        return Size()

    def begin(self, study: str, *, publish: bool) -> dict[str, Any]:
        """Return what is kept in a study that begins, for `resume`."""
        return {}

    def resume(self, study: str, kept: Mapping[str, Any], conf: Path) -> None:
        """Take up what `begin` kept, in the process that launches the workers.

        `conf` is the configuration's folder as it was when the study began.
        """

    def report(self, study: optuna.Study, storage: str) -> str:
        """Return what is printed once a sweep's results are told; whoever reports on studies does so here."""
        return ""

    def stack_size(self, configuration: Mapping[str, Any]) -> int:
        """Return how many trials of this configuration, or of ones like it, it runs at once at most."""
        return 1

    def together(self, jobs: Sequence[Job], on_finish: OnFinish) -> None:
        """Run several trials at once, and call `on_finish` once for each, in any order.

        An error that it raises is that of each trial that has not ended.

        Raises:
            Interrupted: a person asked to stop. Trials that have not ended go on when the same command is given again.
        """
        raise UserError("this application runs one trial at a time. Leave hydra.sweeper.stack out.")

    def before_tell(self, trial: RunningTrial) -> None:
        """Called in a worker with each trial that completed, before the study counts it as such."""


def without(configuration: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return a configuration's values by dotted key, but for some keys and, where one is a group, all that is in it."""
    flat = dict(_flat(configuration, ""))
    return {k: v for k, v in flat.items() if not any(k == key or k.startswith(f"{key}.") for key in keys)}


def _flat(value: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = f"{prefix}{key}"
        pairs += _flat(inner, f"{path}.") if isinstance(inner, Mapping) and inner else [(path, inner)]
    return pairs
