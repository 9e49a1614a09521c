"""A study: opened once and refused where it no longer matches, its trials claimed one at a time."""

import copy
import hashlib
import json
import math
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.errors import UserError, near
from hypermap.core.files import write_json, write_text
from hypermap.core.moved import with_paths_of_now
from hypermap.core.passwords import masked, shown
from hypermap.core.paths import STUDIES
from hypermap.search import curves
from hypermap.search.attempts import Attempt, forget, forget_last_words
from hypermap.search.curves import CurveReader
from hypermap.search.earlier import EarlierStudy
from hypermap.search.schedule import (
    PROPOSED,
    REPEATS,
    REPETITION,
    SCHEDULE,
    Allowed,
    Decision,
    Ledger,
    Scheduler,
    ToTheEnd,
    mapping_of,
)
from hypermap.search.space import Space
from hypermap.search.storage import batching, file_of, lock_folder, open_storage

WHERE = "study.json"  # in a study's folder: the storage it is in
SNAPSHOT = ".conf"  # in a study's folder: the configuration's folder as it was when the study began
RECORD, PURPOSE, BUDGET, TRAININGS = "hypermap", "purpose", "n_trials", "budget"  # user attributes of a study
RESULT, WORKER = "result", "worker"  # of a trial
STATE = "state"  # in a trial's folder: what its training goes on from
LOCK_S = 30.0  # how long a paused trial's last worker may take to leave its state
HURRY = 0.8  # the share of the time that is given after which the leaders are finished
SAME_ERRORS = 3  # in a row, and the sweep stops
NEWBORN = timedelta(seconds=60)  # a trial of another machine has told its worker by then


@dataclass(frozen=True)
class StudyConfig:
    """What a sweep is to do; every worker has the same.

    Attributes:
        storage: an absolute path or a URL, see `hypermap.search.storage`.
        folder: where trials' folders go, each named by its number.
        directions: ``minimize`` or ``maximize``, one an objective.
        objectives: figures by name; empty: what the task returns by itself.
        sampler: ``{_target_: …}``; `hypermap.search.strategy` makes it.
        pruner: likewise.
        n_trials: trials, whatever their end; None: as many as the budget is good for.
        budget: full trainings; None: as many as the trials take.
        began: seconds since 1970 at which the command was given; errors of before it do not stop it.
        deadline: seconds since 1970 after which no trial begins.
        target: a value of the objective at which the sweep is done.
        seed: the study's; every trial's follows from it.
        horizon: reports of a full trial, where that is known.
        trial_timeout: seconds that a trial may be trained for, in all.
        stack: how many trials a worker runs at once, at most.
        minimizes_reports: whether less is better of what trials report; None: as of the first objective.
        reports_fits: whether a report is of a fold or a repeat, and not of an epoch.
        sizes_differ: whether some trials count for more than others in the budget.
        pauses: whether a trial can be paused, and taken up again to the same end.
        baseline: values of the configuration that the sweep began from, by name, as far as they lie in the space.
        prior: earlier studies, as far as they lie in the space.
    """

    name: str
    storage: str
    folder: Path
    space: Space
    directions: tuple[str, ...]
    objectives: tuple[str, ...]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    n_trials: int | None
    seed: int
    budget: float | None = None
    began: float = 0.0
    deadline: float | None = None
    target: float | None = None
    trial_timeout: float | None = None
    max_failure_rate: float = 1.0
    horizon: int | None = None
    stack: int = 1
    minimizes_reports: bool | None = None
    reports_fits: bool = False
    sizes_differ: bool = False
    pauses: bool = False
    baseline: dict[str, Any] | None = None
    prior: tuple[EarlierStudy, ...] = ()

    def curves(self) -> CurveReader:
        """Return what reads trials' reports."""
        final = 1.0 if self.maximizes else -1.0
        sign = final if self.minimizes_reports is None else -1.0 if self.minimizes_reports else 1.0
        return CurveReader(sign, final, self.horizon, self.reports_fits)

    def ledger(self, now: float = 0.0) -> Ledger:
        """Return what trials are charged to."""
        hurry = self.deadline is not None and now >= self.began + HURRY * (self.deadline - self.began)
        budget = math.inf if self.budget is None else self.budget
        return Ledger(budget, self.n_trials, self.horizon, self.sizes_differ, hurry)

    @property
    def maximizes(self) -> bool:
        """Whether more is better, of the first objective."""
        return self.directions[0] == "maximize"

    @property
    def worst(self) -> list[float]:
        """What a trial that diverged is told as: worse than any."""
        return [float("-inf") if direction == "maximize" else float("inf") for direction in self.directions]

    def seed_of(self, number: int) -> int:
        """Return the seed of a trial."""
        return trial_seed(self.seed, number)

    def folder_of(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / str(number)


def trial_seed(seed: int, *words: object) -> int:
    """Return a seed below 2³² that follows from another and from what it is for."""
    text = "/".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def connect(plan: StudyConfig, pruner: optuna.pruners.BasePruner | None = None) -> optuna.Study:
    """Return the study, which is there already.

    Raises:
        UserError: it is there no more.
    """
    gone = UserError(
        f"The study {plan.name} is gone: {shown(plan.storage)} was deleted or moved while the search ran. Put it back, "
        "and the same command goes on; without it, the command begins anew."
    )
    if (file := file_of(plan.storage)) is not None and not file.exists():  # to open it would make another
        raise gone
    try:
        with quiet():
            return optuna.load_study(study_name=plan.name, storage=open_storage(plan.storage), pruner=pruner)
    except KeyError:
        raise gone from None


def open_study(plan: StudyConfig, record: Mapping[str, Any], *, force: bool) -> tuple[optuna.Study, dict[str, Any]]:
    """Create the study, or take it up again; returns it and the record that it was begun with.

    Args:
        plan: what the sweep is to do.
        record: what is kept in the study. Its ``identity`` is what must still match.
        force: take up a study that does not match, and make `record` its record.

    Raises:
        UserError: the study differs in what must match, or its storage cannot be opened.
    """
    storage = open_storage(plan.storage)
    with FileLock(lock_folder(plan.storage, plan.name) / "study"), quiet():
        study = optuna.create_study(
            study_name=plan.name,
            storage=storage,
            directions=list(plan.directions),  # type: ignore[arg-type]
            load_if_exists=True,
        )
        kept = study.user_attrs.get(RECORD)
        if kept is not None:
            found = {**kept["identity"], "direction": _directions(study)}
            changed = _differences(with_paths_of_now(found), record["identity"])
        else:
            changed = ["it has trials of another program, and no record of their space"] * bool(study.trials)
        if changed and not force:
            raise UserError(_mismatch(plan, changed))
        if _directions(study) != list(plan.directions):
            raise UserError(
                f"The study {plan.name} has the directions {', '.join(_directions(study))}, which no force can change. "
                "Begin another: hydra.sweeper.study_name=NAME"
            )
        _check_compatible(plan, study)
        if kept is None or (force and changed):
            study.set_user_attr(RECORD, dict(record))
            kept = dict(record)
        write_json(plan.folder / WHERE, {"name": plan.name, "storage": shown(plan.storage)})
    return study, kept


def _check_compatible(plan: StudyConfig, study: optuna.Study) -> None:
    """Refuse what no force can change: a parameter whose values were others, or that was of another kind."""
    for name, distribution in plan.space.distributions().items():
        for trial in study.get_trials(deepcopy=False):
            try:
                check_distribution_compatibility(trial.distributions.get(name, distribution), distribution)
            except ValueError:
                raise UserError(
                    f"The study {plan.name} has trials in which {name} was of other values or another kind, which no "
                    "force can change. Begin another: hydra.sweeper.study_name=NAME"
                ) from None


def find(name: str) -> tuple[optuna.Study, str]:
    """Return a study that was made here, by its name, and its storage.

    Raises:
        UserError: there is none of that name, or what says where it is cannot be read.
    """
    path = STUDIES / name / WHERE
    try:
        storage = str(json.loads(path.read_text(encoding="utf-8"))["storage"])
    except FileNotFoundError:
        known = sorted(other.parent.name for other in STUDIES.glob(f"*/{WHERE}"))
        there = ", ".join(known) or f"none in {STUDIES.absolute()}; a sweep that is begun here makes one"
        raise UserError(f"No study {name!r} here{near(name, known)}. There are: {there}.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged, and does not say where the study is. Write it anew, as in: "
            f'{{"name": "{name}", "storage": "{STUDIES / name / "journal.log"}"}}'
        ) from None
    if (file := file_of(storage)) is not None and not file.exists():
        raise UserError(
            f"{path} says that the study {name} is in {file}, which is gone. Put it back, or delete {path}."
        )
    try:
        with quiet():
            return optuna.load_study(study_name=name, storage=open_storage(storage)), storage
    except KeyError:
        raise UserError(f"{shown(storage)} holds no study {name!r}: another file was put in its place.") from None


def mask_passwords(study: optuna.Study) -> None:
    """Take the passwords of URLs out of what a study and its folder keep, as it was written by earlier versions."""
    record = study.user_attrs.get(RECORD)
    if record is not None and (clean := _without_passwords(record)) != record:
        study.set_user_attr(RECORD, clean)
    path = STUDIES / study.study_name / WHERE
    if path.is_file() and masked(text := path.read_text(encoding="utf-8")) != text:
        write_text(path, masked(text))


def _without_passwords(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_passwords(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_passwords(inner) for inner in value]
    return shown(value) if isinstance(value, str) else value


def _directions(study: optuna.Study) -> list[str]:
    return [direction.name.lower() for direction in study.directions]


def _mismatch(plan: StudyConfig, changed: Sequence[str]) -> str:
    lines = [*changed[:8], *([f"and {len(changed) - 8} more"] if len(changed) > 8 else [])]
    listed = "".join(f"\n         {line}" for line in lines)
    return (
        f"The study {plan.name} in {shown(plan.storage)} was begun otherwise:{listed}\n"
        "       Begin another with hydra.sweeper.study_name=NAME, or take this one up as it is now with "
        "hydra.sweeper.resume=force."
    )


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return what changed between two records, a line each."""
    lines = []
    for key in dict.fromkeys([*was, *now]):
        name, old, new = f"{prefix}{key}", was.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and "where" not in old:  # a parameter is one thing
            lines += _differences(old, new, f"{name}: " if not prefix else f"{name}.")
        elif old != new:
            lines.append(f"{name} was {_said(old)} and is {_said(new)}")
    return lines


def _said(value: Any) -> str:
    if isinstance(value, Mapping) and "space" in value:
        value = value["space"]
    return "absent" if value is None else str(value)


@dataclass
class TrialLease:
    """A trial that this process alone may run, until `lock` is released; and what draws its values."""

    trial: optuna.Trial
    lock: FileLock
    sampler: optuna.samplers.BaseSampler
    died: Attempt | None = None  # an attempt at it whose process died
    apart: bool = False  # whether it is to be trained by itself for that


@dataclass
class TrialQueue:
    """Hands out the trials of a study: each to one process, and no more than the budget.

    A trial's lock is held for as long as its process lives, so one that is running, is not paused and whose lock is
    free was left behind, and is taken up where it stopped: same number, same values.
    """

    plan: StudyConfig
    study: optuna.Study
    sampler: Callable[[int], optuna.samplers.BaseSampler]  # of a trial, by its number
    scheduler: Scheduler = field(default_factory=ToTheEnd)
    locks: Path = field(init=False)
    host: str = field(default_factory=platform.node)

    def __post_init__(self) -> None:
        self.locks = lock_folder(self.plan.storage, self.plan.name)

    @contextmanager
    def deciding(self) -> Iterator[list[FrozenTrial]]:
        """The study's trials, while no other process of this storage's can claim one."""
        with FileLock(self.locks / "study"):
            yield self.study.get_trials(deepcopy=False)

    def several(self, trials: Sequence[FrozenTrial], most: int) -> Iterator[TrialLease]:
        """Yield up to `most` trials, one at a time: what was left behind, then what is decided.

        The study's sampler is that of the last one, so its values are to be drawn before the next is asked for.
        """
        for claim in islice(self._all(trials), most):
            yield claim
            if claim.apart:
                return

    def _all(self, trials: Sequence[FrozenTrial]) -> Iterator[TrialLease]:
        yield from self._all_left_behind(trials)
        while (claim := self.next(self.study.get_trials(deepcopy=False))) is not None:
            yield claim

    def left_behind(self, trials: Sequence[FrozenTrial]) -> TrialLease | None:
        """Return a trial whose process is gone, claimed; None where there is none."""
        return next(self._all_left_behind(trials), None)

    def _all_left_behind(self, trials: Sequence[FrozenTrial]) -> Iterator[TrialLease]:
        """Yield those come first that are to be trained by themselves, since a process died with them."""
        left = [t for t in trials if t.state == TrialState.RUNNING and not Allowed.of(t).paused]
        for trial in sorted(left, key=lambda trial: not self._apart(trial, Attempt.read(self.locks, trial.number))):
            if not self._may_be_ours(trial) or (lock := self._lock(trial.number)) is None:
                continue
            now = self.study._storage.get_trial(trial._trial_id)
            died = Attempt.read(self.locks, trial.number)
            ended = now.state != TrialState.RUNNING or Allowed.of(now).paused  # in the meantime
            if ended or (died is not None and self._given_up(now, died)):
                lock.release()
                continue
            self.study.sampler = self.sampler(trial.number)
            yield TrialLease(self._taken_up(now), lock, self.study.sampler, died, self._apart(now, died))

    def _apart(self, trial: FrozenTrial, died: Attempt | None) -> bool:
        return died is not None and died.apart(trial.last_step or 0, self.locks)

    def _given_up(self, trial: FrozenTrial, died: Attempt) -> bool:
        """Tell a trial as failed, or for want of memory as worse than any, where that ended its process too often."""
        deaths = died.too_often(trial.last_step or 0, self.locks)
        if died.alone and died.timed_out(self.locks):
            error = f"it took longer than hydra.sweeper.trial_timeout={self.plan.trial_timeout or 0:g} s"
        elif not deaths:
            return False
        elif died.memory:
            error = f"{died.ended}, in each of {deaths} attempts"
        else:
            error = f"its process ended {died.how(self.locks)}, in each of {deaths} attempts"
        outcome = "out_of_memory" if died.memory else "failed"
        result = {**mapping_of(trial, RESULT), "outcome": outcome, "seed": self.plan.seed_of(trial.number)}
        write_text(self.plan.folder_of(trial.number) / "error.txt", masked(f"{error}\n{died.traceback(self.locks)}"))
        with batching(self.study._storage):
            self.study._storage.set_trial_user_attr(trial._trial_id, RESULT, {**result, "error": error})
            if died.memory:
                self.study.tell(trial.number, self.plan.worst)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
        shutil.rmtree(self.plan.folder_of(trial.number) / STATE, ignore_errors=True)
        forget(self.locks, trial.number)
        forget_last_words(self.locks, died.pid)
        return True

    def next(self, trials: Sequence[FrozenTrial]) -> TrialLease | None:
        """Return what the scheduler decides, claimed; None where there is nothing to do."""
        out_of_reach: set[int] = set()  # paused trials whose lock is held by a process that hangs, or by a backup
        while True:
            known = [_at_work(trial) if trial.number in out_of_reach else trial for trial in trials]
            decision = self.scheduler.decide(known, self.plan.ledger(time.time()))
            if decision is None:
                return None
            self.release(decision.release)
            if decision.number is None:
                return self._new(trials, decision)
            if (claim := self._resumed(trials[decision.number], decision.allowed)) is not None:
                return claim
            out_of_reach.add(decision.number)

    def go_on(self, numbers: Collection[int]) -> dict[int, int | None]:
        """Decide about trials that have come as far as they may.

        Returns:
            by number, how far those may train that go on at once; the others are paused.
        """
        going: dict[int, int | None] = {}
        with self.deciding() as trials, batching(self.study._storage):
            for number in numbers:  # none is at work until it is decided upon
                self._allow(trials[number], replace(Allowed.of(trials[number]), paused=True))
            while len(going) < len(numbers):
                trials = self.study.get_trials(deepcopy=False)
                decision = self.scheduler.decide(trials, self.plan.ledger(time.time()))
                if decision is None or decision.number is None or decision.number not in numbers:
                    break
                self._allow(trials[decision.number], decision.allowed)
                going[decision.number] = decision.allowed.until
            for number in set() if self.plan.pauses else set(numbers) - going.keys():  # those have ended
                self._allow(trials[number], replace(Allowed.of(trials[number]), paused=False))
        return going

    def deserted(self) -> list[int]:
        """Return the numbers of the trials that nobody has, though they are not paused: whoever had them has gone."""
        running = [t for t in self.study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
        mine = [trial.number for trial in running if not Allowed.of(trial).paused and self._may_be_ours(trial)]
        locks = {number: lock for number in mine if (lock := self._lock(number)) is not None}
        for lock in locks.values():
            lock.release()
        return list(locks)

    def refuse(self, claim: TrialLease, error: Exception) -> None:
        """Tell a trial as failed that somebody put into the queue with values that are none of the space's."""
        result = {"outcome": "failed", "error": f"it was enqueued with values that do not suit: {error}"}
        with batching(self.study._storage):
            claim.trial.set_user_attr(RESULT, {**result, "seed": self.plan.seed_of(claim.trial.number)})
            self.study.tell(claim.trial, state=TrialState.FAIL)
        claim.lock.release()

    def settle(self) -> None:
        """Tell paused trials as pruned, since nobody will take them up again; but for those that another may."""
        with self.deciding() as trials:
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            if all(Allowed.of(trial).paused for trial in running):
                self.release([trial.number for trial in running], LOCK_S)

    def release(self, numbers: Iterable[int], timeout_s: float = 0) -> None:
        """Tell paused trials as pruned, and remove what they would have gone on from.

        One whose last worker has not let go of it in time is left as it is.
        """
        locks = {number: lock for number in numbers if (lock := self._lock(number, timeout_s)) is not None}
        with batching(self.study._storage):
            for number in locks:
                trial = self.study.get_trials(deepcopy=False)[number]
                result = {**mapping_of(trial, RESULT), "outcome": "pruned"}
                self.study._storage.set_trial_user_attr(trial._trial_id, RESULT, result)
                self.study.tell(number, state=TrialState.PRUNED)
        for number, lock in locks.items():
            shutil.rmtree(self.plan.folder_of(number) / STATE, ignore_errors=True)
            lock.release()

    def _allow(self, trial: FrozenTrial, allowed: Allowed) -> None:
        self.study._storage.set_trial_user_attr(trial._trial_id, SCHEDULE, allowed.record())

    def _resumed(self, paused: FrozenTrial, allowed: Allowed) -> TrialLease | None:
        """Return a paused trial, to go on; None where its last worker does not let go of it."""
        if (lock := self._lock(paused.number, LOCK_S)) is None:
            return None
        now = self.study._storage.get_trial(paused._trial_id)
        if now.state != TrialState.RUNNING or not Allowed.of(now).paused:  # it was told in the meantime
            lock.release()
            return None
        self._allow(now, allowed)
        self.study.sampler = self.sampler(now.number)
        return TrialLease(self._taken_up(self.study._storage.get_trial(now._trial_id)), lock, self.study.sampler)

    def _new(self, trials: Sequence[FrozenTrial], decision: Decision) -> TrialLease | None:
        with batching(self.study._storage):  # a process that dies leaves all of it, or nothing
            return self._asked(trials, decision)

    def _asked(self, trials: Sequence[FrozenTrial], decision: Decision) -> TrialLease | None:
        allowed = decision.allowed
        if decision.repeats is not None:
            self.study.enqueue_trial(trials[decision.repeats].params, {REPEATS: decision.repeats, PROPOSED: REPETITION})
        self.study.sampler = self.sampler(len(trials))
        trial = self.study.ask()
        if trial.number != len(trials):  # another machine, which shares no lock with this one, asked at the same time
            self.study.sampler = self.sampler(trial.number)
        lock = self._lock(trial.number)
        assert lock is not None, "a new trial's lock is held by another"
        if file_of(self.plan.storage) is None:  # else its lock says whether its process lives
            trial.set_user_attr(WORKER, f"{self.host}:{os.getpid()}")
        if self.plan.n_trials is not None and trial.number >= self.plan.n_trials:  # it was quicker
            self.study.tell(trial, state=TrialState.FAIL)
            lock.release()
            return None
        if allowed != Allowed():
            trial.set_user_attr(SCHEDULE, allowed.record())
        return TrialLease(trial, lock, self.study.sampler)

    def _taken_up(self, left: FrozenTrial) -> optuna.Trial:
        """Return a trial as its process left it; what was drawn is drawn again, so that the rest comes out as it
        would.
        """
        trial = optuna.Trial(self.study, left._trial_id)
        view = optuna.pruners._filter_study(self.study, left)
        for name, distribution in left.distributions.items():
            if name not in trial.relative_params:
                self.study.sampler.sample_independent(view, left, name, distribution)
        return trial

    def _may_be_ours(self, trial: FrozenTrial) -> bool:
        """Return whether its lock, were it held, would be seen from here."""
        if file_of(self.plan.storage) is not None:
            return True
        worker = trial.user_attrs.get(WORKER)
        if worker is None:
            return trial.datetime_start is None or datetime.now() - trial.datetime_start > NEWBORN
        return str(worker).rpartition(":")[0] == self.host

    def _lock(self, number: int, timeout_s: float = 0) -> FileLock | None:
        lock = FileLock(self.locks / f"trial-{number}", timeout=timeout_s)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock


def _at_work(paused: FrozenTrial) -> FrozenTrial:
    """Return a paused trial as one that somebody has, who goes no further than it has come."""
    seen = copy.copy(paused)
    seen.user_attrs = {**paused.user_attrs, SCHEDULE: Allowed(paused.last_step or 0).record()}
    return seen


def finished(trials: Sequence[FrozenTrial], n_trials: int | None = None) -> list[FrozenTrial]:
    """Return the trials that came to an end; given a number of trials, without those beyond it that were never trained.

    Another machine may have begun one too many, which is told as failed at once (`TrialQueue`).
    """
    within = [t for t in trials if n_trials is None or t.number < n_trials or RESULT in t.user_attrs or t.values]
    return [trial for trial in within if trial.state.is_finished()]


def outcome(trial: FrozenTrial) -> str:
    """Return ``complete``, ``pruned``, ``diverged``, ``out_of_memory``, ``failed``; or ``paused`` or ``running``."""
    if trial.state == TrialState.RUNNING:
        return "paused" if Allowed.of(trial).paused else "running"
    recorded = mapping_of(trial, RESULT).get("outcome")
    return str(recorded) if recorded else {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def epochs(trial: FrozenTrial) -> int:
    """Return the epochs that a trial was trained for, as far as it told or reported them."""
    return int(mapping_of(trial, RESULT).get("epochs", max(trial.intermediate_values, default=0)))


def completed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that were trained to their end and have a value."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and outcome(trial) == "complete"]


def ranked(trials: Sequence[FrozenTrial], *, maximizes: bool) -> list[FrozenTrial]:
    """Return the completed trials of one objective, the best first: see `hypermap.search.curves.ranked`."""
    own = {trial.number: trial for trial in completed(trials)}
    repeats = {number: trial.user_attrs[REPEATS] for number, trial in own.items() if REPEATS in trial.user_attrs}
    scores = {number: (trial.values[0], trial.intermediate_values) for number, trial in own.items()}
    return [own[number] for number in curves.ranked(scores, repeats, 1.0 if maximizes else -1.0)]


def best(trials: Sequence[FrozenTrial], *, maximizes: bool) -> FrozenTrial | None:
    """Return the first of the `ranked` trials, if any is complete."""
    return next(iter(ranked(trials, maximizes=maximizes)), None)


def luckiest(trials: Sequence[FrozenTrial], *, maximizes: bool) -> FrozenTrial | None:
    """Return the completed trial of the best value, whatever else it reported; the first of equals."""
    sign = 1.0 if maximizes else -1.0
    return max(completed(trials), key=lambda trial: (sign * trial.values[0], -trial.number), default=None)


def measurements(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Return each completed trial of one objective and those that measured it again, by its number."""
    own = {trial.number: [trial] for trial in completed(trials) if REPEATS not in trial.user_attrs}
    for trial in completed(trials):
        if (of := trial.user_attrs.get(REPEATS)) in own:
            own[of].append(trial)
    return own


def used_up(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> bool:
    """Return whether a search has come to its budget: its number of trials, or its trainings."""
    if any(trial.state == TrialState.RUNNING for trial in trials):
        return False
    if plan.n_trials is not None and len(finished(trials, plan.n_trials)) >= plan.n_trials:
        return True
    if plan.budget is None:
        return False
    ledger = plan.ledger()
    least = 1.0 if plan.horizon is None or plan.sizes_differ else 1 / plan.horizon
    return ledger.left(trials) < least - 1e-9


def why_stop(plan: StudyConfig, trials: Sequence[FrozenTrial], now: float) -> str | None:
    """Return why no further trial should begin, if there is a reason other than the budget."""
    if plan.deadline is not None and now >= plan.deadline:
        return "the time is up (hydra.sweeper.timeout)"
    if (top := reached(plan, trials)) is not None:
        return f"trial {top.number} reached the target: {top.values[0]:g} (hydra.sweeper.target={plan.target:g})"
    return failure(plan, trials)


def reached(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial of the best value, where that is as good as the sweep's target."""
    if plan.target is None or len(plan.directions) != 1:
        return None
    found, sign = luckiest(trials, maximizes=plan.maximizes), 1.0 if plan.maximizes else -1.0
    return None if found is None or sign * found.values[0] < sign * plan.target else found


def failure(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> str | None:
    """Return the error that stops a sweep: the same several times in a row, or too large a share of failures."""
    ended = [
        trial
        for trial in finished(trials)
        if trial.datetime_complete and trial.datetime_complete.timestamp() >= plan.began
    ]
    ended.sort(key=lambda trial: (trial.datetime_complete, trial.number))
    errors = [mapping_of(trial, RESULT).get("error") if outcome(trial) == "failed" else None for trial in ended]
    last = errors[-SAME_ERRORS:]
    if len(last) == SAME_ERRORS and last[0] and len({_kind(error) for error in last}) == 1:
        return f"{SAME_ERRORS} trials in a row failed with the same error: {last[-1]}"
    failed = [error for error in errors if error]
    if ended and len(failed) / len(ended) > plan.max_failure_rate:
        return (
            f"{len(failed)} of {len(ended)} trials failed (hydra.sweeper.max_failure_rate={plan.max_failure_rate:g}): "
            f"{failed[-1]}"
        )
    return None


def _kind(error: str | None) -> str:
    """Return what two errors of the same kind have in common: all but their numbers."""
    return "".join(character for character in error or "" if not character.isdigit())


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna tells of each study it creates and of each feature it calls experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
