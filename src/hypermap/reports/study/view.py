"""A study as its report sees it: plain data, read once, of any study that Optuna can open."""

import math
import re
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hypermap.core.passwords import shown
from hypermap.search.auto import BASELINE as PROPOSED_FIRST
from hypermap.search.curves import judged, ranked, second_half
from hypermap.search.scales import Scale

CONFIRMATION = "-confirmation"  # ends the name of the study in which configurations of another were trained again
BASELINE = -1  # in the place of a trial's number: the configuration that the sweep began from
ENDED = ("complete", "pruned", "diverged", "out_of_memory", "failed")
FAILURES = ENDED[2:]
ROUND_OFF = 1e-9  # of a training

ROUNDING = frozenset({"batched", "vmap", "compiled"})
"""Backends whose sums round otherwise than those of a training by itself."""


@dataclass(frozen=True)
class Parameter:
    """One searched parameter.

    Attributes:
        name: what the study calls it.
        key: where its value goes in the configuration; the name, where nothing says otherwise.
        expression: the range as it was written; empty for a study of another program.
        distribution: what Optuna drew from, in natural values.
        bijection: to the scale on which it was searched, where Optuna has none for it.
        where: the choices of another parameter with which it applies; empty: it always does.
    """

    name: str
    key: str
    distribution: BaseDistribution
    expression: str = ""
    bijection: Scale | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_seed(self) -> bool:
        """Return whether it makes only chance differ, so that no value of it is better than another."""
        return re.search(r"(?:^|[._])seed$", self.key) is not None

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """Return the values, where they were given one by one; None for a range."""
        return self.distribution.choices if isinstance(self.distribution, CategoricalDistribution) else None

    @property
    def scale(self) -> str:
        """Return the name of the scale on which it is searched: ``linear``, ``log``, a bijection's, or ``choices``."""
        if self.choices is not None:
            return "choices"
        if self.bijection is not None:
            return self.bijection.name
        return "log" if self.distribution.log else "linear"  # type: ignore[attr-defined]

    def image(self, value: float) -> float:
        """Return a natural value on the scale on which it is searched; of a choice, its place in the list."""
        if self.choices is not None:
            return float(self.choices.index(value))
        if self.bijection is not None:
            return self.bijection.forward(value)
        return math.log(value) if self.scale == "log" else float(value)

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Return the natural values at both ends; the first and the last choice."""
        if self.choices is not None:
            return self.choices[0], self.choices[-1]
        return self.distribution.low, self.distribution.high  # type: ignore[attr-defined]

    def unit(self, value: float) -> float:
        """Return how far along its range a value lies, on the scale on which it is searched: 0 to 1; 0.5 of a single
        one.
        """
        low, high = map(self.image, self.bounds)
        return 0.5 if high == low else (self.image(value) - low) / (high - low)


@dataclass(frozen=True)
class TrialData:
    """One trial.

    Attributes:
        outcome: how it ended (`ENDED`), or ``running``. One that is paused counts as pruned.
        values: of each objective; empty unless the trial is complete.
        params: natural values by the parameter's name.
        reports: what it told of the first objective, by step from 1: epochs, parts of one, or fits.
        scores: the objective of each fit, where there were several.
        epochs: trained for, as far as it is known.
        seconds: it was trained for, pauses left out; None where it is not known.
        best_epoch: the epoch whose weights are kept, from 1; None where it is not known.
        backend: what carried out its training's steps (`hypermap.training.backends.choice`); None where not known.
        ended: when; of one that was paused and never taken up again, when its training would have, without a pause.
        busy_s: seconds from the beginning to the end of its training, pauses left out, where there may have been some.
        paused: whether the search may still take it up again.
        steps: reports of this trial in full, where trials differ.
        repeats: the trial whose values it has, and which it measures once more; None of one with values of its own.
        proposed: by whom, of `hypermap.search.auto`; empty where it is not known.
    """

    number: int
    outcome: str
    values: tuple[float, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[int, float] = field(default_factory=dict)
    scores: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float | None = None
    best_epoch: int | None = None
    backend: str | None = None
    seed: int | None = None
    error: str | None = None
    began: datetime | None = None
    ended: datetime | None = None
    busy_s: float | None = None
    paused: bool = False
    steps: int | None = None
    proposed: str = ""
    repeats: int | None = None


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained again with other seeds."""

    trial: int  # its number in the study, or BASELINE
    scores: tuple[float, ...]  # of the first objective, one a seed
    failed: int = 0  # seeds with which it did not end well

    @property
    def label(self) -> str:
        """Return what a report calls it."""
        return "baseline" if self.trial == BASELINE else f"trial {self.trial}"


@dataclass(frozen=True)
class Provenance:
    """Where a study comes from, and how to get it back; what is not known of a plain Optuna study is empty.

    Attributes:
        storage: a path or URL, without its password.
        folder: of the trials; None where there is none.
        program: the script, such as ``src/train.py``.
        command: the overrides that the sweep was given; `hydra`, Hydra's own.
    """

    storage: str = ""
    folder: Path | None = None
    program: str = ""
    command: tuple[str, ...] = ()
    hydra: tuple[str, ...] = ()
    seed: int | None = None
    sampler: str = ""
    pruner: str = ""
    commit: str = ""
    dirty: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class StudyData:
    """A study, as far as its report needs it.

    Attributes:
        objectives: names; ``objective``, or ``objective 0`` and so on, where none are known.
        directions: ``minimize`` or ``maximize``, one an objective.
        trials: by number, those that wait left out.
        n_trials: how many it is to have; None where it is not known.
        budget: full trainings that it may take; None where it has no such budget.
        spent: of the budget so far.
        horizon: the last step that a full trial reports; None where it is not known.
        goal: what the study was for, as a person said it.
        scientific: the parameters that it was to tell something about.
        fixed: what every trial had in common, by dotted key.
        moved: parameters whose value in the configuration that the sweep began from lies outside of the space.
        confirmed: configurations trained again, in the order of the study's ranking, the baseline last.
        test: metrics of the best trial's test, value and both ends of the interval by name, once there was one.
        histories: of complete trials, rows of their ``history.csv``, by number.
        study: the study itself, for Optuna's own analyses.
    """

    name: str
    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    axes: tuple[Parameter, ...]
    trials: tuple[TrialData, ...]
    study: optuna.Study
    n_trials: int | None = None
    budget: float | None = None
    spent: float = 0.0
    horizon: int | None = None
    goal: str | None = None
    scientific: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    confirmed: tuple[Confirmed, ...] = ()
    test: Mapping[str, Sequence[float]] = field(default_factory=dict)
    histories: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    origin: Provenance = field(default_factory=Provenance)

    @property
    def maximizes(self) -> bool:
        """Return whether more of the first objective is better."""
        return self.directions[0] == "maximize"

    @property
    def sign(self) -> float:
        """Return what the first objective is multiplied by, so that more is better."""
        return 1.0 if self.maximizes else -1.0

    @property
    def objective(self) -> str:
        """Return the first objective's name."""
        return self.objectives[0]

    @property
    def goes_on(self) -> bool:
        """Return whether the search is short of its budget, as far as the study has one."""
        if self.n_trials is not None and sum(not trial.paused for trial in self.ended) >= self.n_trials:
            return False
        if self.budget is None:
            return self.n_trials is not None
        at_work = any(trial.paused or trial.outcome == "running" for trial in self.trials)
        return at_work or self.budget - self.spent > 1 / (self.horizon or 1) - ROUND_OFF

    def with_outcome(self, *outcomes: str) -> list[TrialData]:
        """Return the trials that ended in one of these ways."""
        return [trial for trial in self.trials if trial.outcome in outcomes]

    @property
    def ended(self) -> list[TrialData]:
        """Return the trials that came to an end, whatever it was."""
        return self.with_outcome(*ENDED)

    @property
    def completed(self) -> list[TrialData]:
        """Return the trials that were trained to their end."""
        return self.with_outcome("complete")

    @property
    def first(self) -> TrialData | None:
        """Return the trial with which the search began, where that is the baseline, or the baseline moved."""
        first = self.trials[0] if self.trials else None
        return first if first is not None and first.number == 0 and first.proposed == PROPOSED_FIRST else None

    def is_baseline(self, number: int) -> bool:
        """Return whether a trial, or what was confirmed, has the very configuration that the sweep began from."""
        return number == BASELINE or (number == 0 and self.first is not None and not self.moved)

    @cached_property
    def fits_several(self) -> bool:
        """Return whether a trial is several trainings and reports their scores, or one, of which it reports epochs."""
        validation, repeats = self.fixed.get("validation.name", "holdout"), self.fixed.get("trainer.repeats", 1)
        return validation != "holdout" or repeats > 1 or any(len(trial.scores) > 1 for trial in self.trials)

    @cached_property
    def reports_objective(self) -> bool:
        """Return whether what trials report is the objective itself, and not another metric that training monitors."""
        if "trainer.monitor" not in self.fixed:
            return True
        monitor = self.fixed["trainer.monitor"]
        return self.objective in ((monitor,) if monitor else ("accuracy", "r2"))

    def score(self, trial: TrialData) -> float | None:
        """Return the first objective: of a complete trial its value, of a pruned one what it had reached; else None.

        What a pruned trial had reached is the best of its reports, as one of the best epochs' weights are kept; where
        reports are of several fits, it is their mean.
        """
        if trial.outcome == "complete":
            return trial.values[0]
        reports = [value for value in trial.reports.values() if math.isfinite(value)]
        if trial.outcome != "pruned" or not reports or not self.reports_objective:
            return None
        if self.fits_several:
            return math.fsum(reports) / len(reports)
        return max(reports) if self.maximizes else min(reports)

    @cached_property
    def ranking(self) -> list[TrialData]:
        """Return the trials that have a score, the best first: complete ones before pruned ones, and equals by number.

        For complete ones see `hypermap.search.curves.ranked`.
        """
        complete = {trial.number: trial for trial in self.completed}
        repeats = {number: trial.repeats for number, trial in complete.items() if trial.repeats is not None}
        others = [trial for trial in self.ended if trial.outcome != "complete" and trial.repeats is None]
        scored = [(-self.sign * score, t.number, t) for t in others if (score := self.score(t)) is not None]
        best_first = ranked(self._scores, repeats, self.sign)
        return [*(complete[number] for number in best_first), *(t for *_, t in sorted(scored, key=lambda s: s[:2]))]

    def measured(self, trial: TrialData) -> list[TrialData]:
        """Return a complete trial and those that measured it again; none if it is not complete."""
        if trial.outcome != "complete":
            return []
        several = len(self.directions) > 1
        return [trial, *(t for t in self.completed if t.repeats == trial.number and not several)]

    @property
    def _scores(self) -> dict[int, tuple[float, Mapping[int, float]]]:
        """Return each complete trial's first objective and its reports, which say nothing of several objectives."""
        alone = len(self.directions) == 1
        return {trial.number: (trial.values[0], trial.reports if alone else {}) for trial in self.completed}

    @cached_property
    def judged(self) -> dict[int, float]:
        """Return what complete trials are judged by, by number: see `hypermap.search.curves.judged`."""
        return judged(self._scores, self.sign)

    def standing(self, trial: TrialData) -> float:
        """Return what a complete trial is ranked by: the mean of what it and those that measured it again are judged
        by.
        """
        return statistics.fmean(self.judged[one.number] for one in self.measured(trial))

    @cached_property
    def halves(self) -> dict[int, float]:
        """Return the mean of the second half of the epochs, by number, of the complete trials that are judged by it."""
        found = {number: second_half(*reports, self.sign) for number, reports in self._scores.items()}
        return {number: half for number, half in found.items() if half is not None}

    def top(self, trials: Iterable[TrialData]) -> TrialData | None:
        """Return the one of complete trials with the best score, by its kept epoch alone; the first of equals."""
        return max(trials, key=lambda trial: (self.sign * trial.values[0], -trial.number), default=None)

    @property
    def of_seeds(self) -> bool:
        """Return whether nothing but seeds was searched, so that there is one configuration and its chance."""
        return bool(self.axes) and all(axis.is_seed for axis in self.axes)

    @property
    def best(self) -> TrialData | None:
        """Return the best complete trial of one objective; of several there is no one best."""
        top = self.ranking[0] if self.ranking and len(self.directions) == 1 else None
        return top if top is not None and top.outcome == "complete" else None

    def axis(self, name: str) -> Parameter:
        """Return the parameter of that name."""
        return next(axis for axis in self.axes if axis.name == name)

    def command(self, changes: Mapping[str, str], *others: str) -> str | None:
        """Return the sweep's command with some overrides changed or added; None where the command is not known.

        A space or a strategy that changes is another study's: a name and a folder that the command gave are left out
        with it, but for a folder that is named after its study.

        Args:
            changes: expressions by key of the configuration, such as ``{"optimizer.lr": "interval(0.1,1)"}``.
            others: further words, such as ``hydra.sweeper.n_trials=80``.
        """
        if not self.origin.program:
            return None
        replaced = {*changes, *(other.partition("=")[0] for other in others)}
        if changes or any(other.startswith("hydra/sweeper") for other in others):
            replaced |= {"hydra.sweeper.study_name", "hydra.sweep.dir"}
        words = [
            w
            for w in (*self.origin.command, *self.origin.hydra)
            if w.partition("=")[0].lstrip("+") not in replaced or w.endswith("${hydra.sweeper.study_name}")
        ]
        added = {w.partition("=")[0].lstrip("+") for w in self.origin.command if w.startswith("+")}
        words += [f"{'+' if key in added else ''}{key}={expression}" for key, expression in changes.items()]
        return " ".join(map(shlex.quote, ["python", self.origin.program, "-m", *map(shown, words), *others]))
