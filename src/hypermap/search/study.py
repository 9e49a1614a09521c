"""A study: opened once, refused if it no longer matches, its trials claimed one at a time."""

import copy
import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from hypermap.search.attempts import MOST_WITH_ALL, Attempt, forget, forget_last_words
from hypermap.search.curves import CurveReader
from hypermap.search.database import Database
from hypermap.search.earlier import EarlierStudy
from hypermap.search.lease import TERM_S, Leases, place
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
from hypermap.search.storage import POLL_S, batching, file_of, lock_folder, open_storage
from hypermap.search.trial import STATE

WHERE = "study.json"  # in a study's folder: the storage it is in
SNAPSHOT = ".conf"  # in a study's folder: a copy of the configuration's folder from the start of the study
RECORD, PURPOSE, BUDGET, TRAININGS = "hypermap", "purpose", "n_trials", "budget"  # user attributes of a study
RESULT, WORKER = "result", "worker"  # user attributes of a trial
LOCK_S = 30.0  # how long a paused trial's last worker may take to release its state
HURRY = 0.8  # share of the timeout after which only the leaders are finished
SAME_ERRORS = 3  # this many in a row stop the sweep
MOVES = "moves"  # user attribute of a trial: after which step its machine was lost, and how often


@dataclass(frozen=True)
class StudyConfig:
    """The settings of a sweep, the same for every worker.

    Attributes:
        storage: an absolute path or a URL, see `hypermap.search.storage`.
        folder: for the trials' folders, each named by its number.
        directions: ``minimize`` or ``maximize``, one per objective.
        objectives: metrics by name; empty: what the task returns by default.
        sampler: ``{_target_: …}``; `hypermap.search.strategy` creates it.
        pruner: likewise.
        n_trials: trials, whatever their outcome; None: as many as the budget pays for.
        budget: full trainings; None: as many as the trials take.
        began: seconds since 1970 at which the command was started; earlier errors do not stop it.
        deadline: seconds since 1970 after which no trial starts.
        target: a value of the objective at which the sweep ends.
        seed: of the study; every trial's seed is derived from it.
        horizon: number of reports of a full trial, if known.
        trial_timeout: total seconds that a trial may be trained for.
        stack: maximum number of trials that a worker runs at once.
        minimizes_reports: whether lower reported values are better; None: as for the first objective.
        reports_fits: whether a report is for a fold or a repeat instead of an epoch.
        sizes_differ: whether trials differ in their cost in the budget.
        pauses: whether a trial can be paused and resumed with the same result.
        baseline: values of the configuration that the sweep started from, by name, as far as they lie in the space.
        prior: earlier studies, as far as they lie in the space.
        lease: seconds without a sign of life after which a worker on another machine counts as gone.
        command: names the command that started the workers.
        artifacts: a folder or a URL for the states of trials, see `hypermap.search.artifacts`.
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
    lease: float = TERM_S
    command: str = ""
    artifacts: str | None = None

    def curves(self) -> CurveReader:
        """Return the reader of trials' reports."""
        final = 1.0 if self.maximizes else -1.0
        sign = final if self.minimizes_reports is None else -1.0 if self.minimizes_reports else 1.0
        return CurveReader(sign, final, self.horizon, self.reports_fits)

    def ledger(self, now: float = 0.0) -> Ledger:
        """Return the ledger that trials are charged to."""
        hurry = self.deadline is not None and now >= self.began + HURRY * (self.deadline - self.began)
        budget = math.inf if self.budget is None else self.budget
        return Ledger(budget, self.n_trials, self.horizon, self.sizes_differ, hurry)

    @property
    def maximizes(self) -> bool:
        """Whether a higher first objective is better."""
        return self.directions[0] == "maximize"

    @property
    def worst(self) -> list[float]:
        """The values recorded for a diverged trial: worse than any other."""
        return [float("-inf") if direction == "maximize" else float("inf") for direction in self.directions]

    def seed_of(self, number: int) -> int:
        """Return the seed of a trial."""
        return trial_seed(self.seed, number)

    def folder_of(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / str(number)


def trial_seed(seed: int, *words: object) -> int:
    """Return a seed below 2³² derived from another seed and its purpose."""
    text = "/".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def connect(
    plan: StudyConfig, pruner: optuna.pruners.BasePruner | None = None, patience_s: float = 0.0
) -> optuna.Study:
    """Return the study, which must exist.

    Args:
        plan: of the study.
        pruner: for its trials.
        patience_s: for how long to try if its server does not answer.

    Raises:
        UserError: it no longer exists, or its storage cannot be opened.
    """
    gone = UserError(
        f"The study {plan.name} is gone: {shown(plan.storage)} was deleted or moved while the search ran. Put it back, "
        "and the same command goes on; without it, the command begins anew."
    )
    if (file := file_of(plan.storage)) is not None and not file.exists():  # opening it would create another
        raise gone
    until = time.monotonic() + patience_s
    while True:
        try:
            storage = open_storage(plan.storage)
            break
        except UserError:
            if file is not None or time.monotonic() > until:
                raise
            time.sleep(2.0)
    try:
        with quiet():
            return optuna.load_study(study_name=plan.name, storage=storage, pruner=pruner)
    except KeyError:
        raise gone from None


def open_study(plan: StudyConfig, record: Mapping[str, Any], *, force: bool) -> tuple[optuna.Study, dict[str, Any]]:
    """Create the study, or resume it; return it and the record from its start.

    Args:
        plan: the settings of the sweep.
        record: data to store in the study. Its ``identity`` must match later.
        force: resume a study that does not match, and make `record` its record.

    Raises:
        UserError: the study does not match, or its storage cannot be opened.
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
    """Refuse what cannot be forced: a parameter with other categorical values or of another type."""
    for name, distribution in plan.space.distributions().items():
        for trial in study.get_trials(deepcopy=False):
            try:
                check_distribution_compatibility(trial.distributions.get(name, distribution), distribution)
            except ValueError:
                raise UserError(
                    f"The study {plan.name} has trials in which {name} was of other values or another kind, which no "
                    "force can change. Begin another: hydra.sweeper.study_name=NAME"
                ) from None


def find(name: str, storage: str | None = None) -> tuple[optuna.Study, str]:
    """Return a study by its name, and its storage: as this project knows it, unless it is given.

    Raises:
        UserError: there is none of that name, or the record of its place is unreadable.
    """
    path = STUDIES / name / WHERE
    if storage is not None:
        if (file := file_of(storage)) is not None and not file.exists():
            raise UserError(f"storage={shown(storage)}: there is no such file.")
        return _loaded(name, storage), storage
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
    return _loaded(name, storage), storage


def _loaded(name: str, storage: str) -> optuna.Study:
    with quiet():
        opened = open_storage(storage)
        try:
            return optuna.load_study(study_name=name, storage=opened)
        except KeyError:
            names = [study.study_name for study in opened.get_all_studies()]
    raise UserError(
        f"{shown(storage)} holds no study {name!r}{near(name, names)}. It has: {', '.join(sorted(names)) or 'none'}."
    )


def mask_passwords(study: optuna.Study) -> None:
    """Remove passwords of URLs from a study and its folder, as written by earlier versions."""
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
        f"The study {plan.name} in {shown(plan.storage)} was started with different settings:{listed}\n"
        "       Begin another with hydra.sweeper.study_name=NAME, or continue this one with the present settings by "
        "hydra.sweeper.resume=force."
    )


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the differences between two records, one per line."""
    lines = []
    for key in dict.fromkeys([*was, *now]):
        name, old, new = f"{prefix}{key}", was.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and "where" not in old:  # a parameter is one unit
            lines += _differences(old, new, f"{name}: " if not prefix else f"{name}.")
        elif old != new:
            lines.append(f"{name} was {_written(old)} and is {_written(new)}")
    return lines


def _written(value: Any) -> str:
    if isinstance(value, Mapping) and "space" in value:
        value = value["space"]
    return "absent" if value is None else str(value)


@dataclass
class TrialLease:
    """A trial that only this process may run, until `release`; with its sampler."""

    trial: optuna.Trial
    lock: FileLock
    sampler: optuna.samplers.BaseSampler
    died: Attempt | None = None  # an earlier attempt whose process died
    apart: bool = False  # whether it must be trained by itself because of that

    def taken(self) -> bool:
        """Return whether a worker on another machine has gone on with it, since this one was not heard of in time."""
        return _taken(self.trial.study, self.trial._trial_id)

    def release(self) -> None:
        """Let other processes run it."""
        if isinstance(storage := self.trial.study._storage, Database):
            storage.disown(self.trial._trial_id)
        self.lock.release()


@dataclass
class TrialQueue:
    """Hands out the trials of a study: each to one process, and no more than the budget allows.

    A trial's lock is held for as long as its process lives, so a trial that is running, not paused, and whose lock is
    free was left behind; it is resumed where it stopped, with the same number and values. Of a trial on another
    machine, or in another clone, the lease of its worker tells (`hypermap.search.lease`).
    """

    plan: StudyConfig
    study: optuna.Study
    sampler: Callable[[int], optuna.samplers.BaseSampler]  # by a trial's number
    scheduler: Scheduler = field(default_factory=ToTheEnd)
    locks: Path = field(init=False)
    place: str = ""
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.locks = lock_folder(self.plan.storage, self.plan.name)
        self.leases = Leases(self.study, self.plan.lease)
        if self.served and isinstance(self.study._storage, Database):
            self.place = self.place or place(self.locks)
            self.study._storage.worker = {WORKER: self.worker}

    @property
    def served(self) -> bool:
        """Whether workers that share no locks may share the study."""
        return file_of(self.plan.storage) is None

    @property
    def worker(self) -> str:
        """The name of this process, as the trials that it runs have it."""
        return f"{self.place}:{os.getpid()}"

    @contextmanager
    def deciding(self) -> Iterator[list[FrozenTrial]]:
        """Yield the study's trials, while no other process with this storage can claim one."""
        if not isinstance(self.study._storage, Database):  # what is parsed now, others need not wait for
            self.study.get_trials(deepcopy=False)
        with FileLock(self.locks / "study", poll_interval=POLL_S), mutex(self.study):
            yield self.study.get_trials(deepcopy=False)

    def several(self, trials: Sequence[FrozenTrial], most: int) -> Iterator[TrialLease]:
        """Yield up to `most` trials, one at a time: those left behind, then the scheduler's decisions.

        The study's sampler is that of the last one, so draw its values before requesting the next.
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
        """Claim and return a trial whose process is gone; None if there is none."""
        return next(self._all_left_behind(trials), None)

    def _all_left_behind(self, trials: Sequence[FrozenTrial]) -> Iterator[TrialLease]:
        """Claim and yield all such trials, first those to be trained by themselves because a process died with them."""
        left = [trial for trial in trials if outcome(trial) == "running"]
        self.leases.look(worker for t in left if (worker := self._elsewhere(t)))
        for trial in sorted(left, key=lambda trial: not self._apart(trial, Attempt.read(self.locks, trial.number))):
            elsewhere = self._elsewhere(trial)
            if (elsewhere and not self.leases.gone(elsewhere)) or (lock := self._lock(trial.number)) is None:
                continue
            now = self.study._storage.get_trial(trial._trial_id)
            died = None if elsewhere else Attempt.of_the_dead(self.locks, trial.number)
            ended = now.state != TrialState.RUNNING or Allowed.of(now).paused  # in the meantime
            if ended or (died is not None and self._given_up(now, died)) or (elsewhere and self._lost_too_often(now)):
                lock.release()
                continue
            self.study.sampler = self.sampler(trial.number)
            yield TrialLease(self._taken_up(now), lock, self.study.sampler, died, self._apart(now, died))

    def _apart(self, trial: FrozenTrial, died: Attempt | None) -> bool:
        return died is not None and died.apart(trial.last_step or 0, self.locks)

    def _given_up(self, trial: FrozenTrial, died: Attempt) -> bool:
        """Record a trial whose process died too often as failed or, if out of memory, with the worst values."""
        deaths = died.too_often(trial.last_step or 0, self.locks)
        if died.alone and died.timed_out(self.locks):
            error = f"it took longer than hydra.sweeper.trial_timeout={self.plan.trial_timeout or 0:g} s"
        elif not deaths:
            return False
        elif died.memory:
            error = f"{died.ended}, in each of {deaths} attempts"
        else:
            error = f"its process ended {died.how(self.locks)}, in each of {deaths} attempts"
        self._fail(trial, error, died.traceback(self.locks), memory=died.memory)
        forget(self.locks, trial.number)
        forget_last_words(self.locks, died.pid)
        return True

    def _lost_too_often(self, trial: FrozenTrial) -> bool:
        """Count that a trial's machine was lost; record it as failed after several times without progress."""
        step, count = trial.user_attrs.get(MOVES, (-1, 0))
        last = trial.last_step or 0
        count = 1 if last > step else count + 1
        if count >= MOST_WITH_ALL:
            self._fail(trial, f"its machine was lost {count} times, without progress in between")
            return True
        self.study._storage.set_trial_user_attr(trial._trial_id, MOVES, (last, count))
        return False

    def _fail(self, trial: FrozenTrial, error: str, traceback: str = "", *, memory: bool = False) -> None:
        outcome = "out_of_memory" if memory else "failed"
        result = {**mapping_of(trial, RESULT), "outcome": outcome, "seed": self.plan.seed_of(trial.number)}
        write_text(self.plan.folder_of(trial.number) / "error.txt", masked(f"{error}\n{traceback}"))
        with batching(self.study._storage):
            self.study._storage.set_trial_user_attr(trial._trial_id, RESULT, {**result, "error": error})
            if memory:
                self.study.tell(trial.number, self.plan.worst)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
        shutil.rmtree(self.plan.folder_of(trial.number) / STATE, ignore_errors=True)

    def next(self, trials: Sequence[FrozenTrial]) -> TrialLease | None:
        """Claim and return the trial that the scheduler decides on; None if there is nothing to do."""
        out_of_reach: set[int] = set()  # paused trials whose lock is held by a hanging process, or by a backup program
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
        """Decide about trials that have reached the end of their allowance.

        Returns:
            by number, how far the trials that continue at once may train; the others are paused.
        """
        going: dict[int, int | None] = {}
        with self.deciding() as trials, batching(self.study._storage):
            numbers = [number for number in numbers if not _taken(self.study, trials[number]._trial_id)]
            for number in numbers:  # none counts as running until the decision
                self._allow(trials[number], replace(Allowed.of(trials[number]), paused=True))
            while len(going) < len(numbers):
                trials = self.study.get_trials(deepcopy=False)
                decision = self.scheduler.decide(trials, self.plan.ledger(time.time()))
                if decision is None or decision.number is None or decision.number not in numbers:
                    break
                self._allow(trials[decision.number], decision.allowed)
                going[decision.number] = decision.allowed.until
            for number in set() if self.plan.pauses else set(numbers) - going.keys():  # these have ended
                self._allow(trials[number], replace(Allowed.of(trials[number]), paused=False))
        return going

    def deserted(self) -> list[int]:
        """Return the numbers of running trials that are neither paused nor held by a live process."""
        running = [trial for trial in self.study.get_trials(deepcopy=False) if outcome(trial) == "running"]
        mine = [trial.number for trial in running if not self._elsewhere(trial)]
        locks = {number: lock for number in mine if (lock := self._lock(number)) is not None}
        for lock in locks.values():
            lock.release()
        return list(locks)

    def refuse(self, claim: TrialLease, error: Exception) -> None:
        """Record as failed a trial that was enqueued with values outside the space."""
        result = {"outcome": "failed", "error": f"it was enqueued with values that do not suit: {error}"}
        with batching(self.study._storage):
            claim.trial.set_user_attr(RESULT, {**result, "seed": self.plan.seed_of(claim.trial.number)})
            self.study.tell(claim.trial, state=TrialState.FAIL)
        claim.release()

    def unclear(self) -> bool:
        """Return whether a trial runs elsewhere of which it is not known yet if its worker lives."""
        return any(map(self.leases.unclear, self._others()))

    def deserted_elsewhere(self) -> bool:
        """Return whether a trial runs elsewhere whose worker is gone."""
        return any(map(self.leases.gone, self._others()))

    def _others(self) -> set[str]:
        """Return the workers of trials that run elsewhere, after a look at their leases."""
        if not self.served:
            return set()
        running = [trial for trial in self.study.get_trials(deepcopy=False) if outcome(trial) == "running"]
        workers = {worker for trial in running if (worker := self._elsewhere(trial))}
        self.leases.look(workers)
        return workers

    def settle(self) -> None:
        """Record paused trials as pruned, since they will not be resumed, except those that another worker may."""
        with self.deciding() as trials:
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            if all(Allowed.of(trial).paused for trial in running):
                self.release([trial.number for trial in running], LOCK_S)

    def release(self, numbers: Iterable[int], timeout_s: float = 0) -> None:
        """Record paused trials as pruned, and remove their states.

        A trial whose last worker does not release it in time is left unchanged.
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
        """Return a paused trial, to be resumed; None if its last worker does not release it."""
        if (lock := self._lock(paused.number, LOCK_S)) is None:
            return None
        now = self.study._storage.get_trial(paused._trial_id)
        if now.state != TrialState.RUNNING or not Allowed.of(now).paused:  # it was recorded in the meantime
            lock.release()
            return None
        self._allow(now, allowed)
        self.study.sampler = self.sampler(now.number)
        return TrialLease(self._taken_up(self.study._storage.get_trial(now._trial_id)), lock, self.study.sampler)

    def _new(self, trials: Sequence[FrozenTrial], decision: Decision) -> TrialLease | None:
        with batching(self.study._storage):  # all or nothing, if the process dies
            return self._ask(trials, decision)

    def _ask(self, trials: Sequence[FrozenTrial], decision: Decision) -> TrialLease | None:
        allowed = decision.allowed
        if decision.repeats is not None:
            self.study.enqueue_trial(trials[decision.repeats].params, {REPEATS: decision.repeats, PROPOSED: REPETITION})
        self.study.sampler = self.sampler(len(trials))
        trial = self.study.ask()
        if trial.number != len(trials):  # another machine, which shares no locks with this one, asked at the same time
            self.study.sampler = self.sampler(trial.number)
        lock = self._lock(trial.number)
        assert lock is not None, "a new trial's lock is held by another"
        if self.plan.n_trials is not None and trial.number >= self.plan.n_trials:  # the other one was faster
            self.study.tell(trial, state=TrialState.FAIL)
            lock.release()
            return None
        if allowed != Allowed():
            trial.set_user_attr(SCHEDULE, allowed.record())
        return TrialLease(trial, lock, self.study.sampler)

    def _taken_up(self, left: FrozenTrial) -> optuna.Trial:
        """Return a trial as its process left it; drawn values are drawn again, so that the rest is reproduced."""
        if isinstance(storage := self.study._storage, Database):
            storage.own(self.study._study_id, left._trial_id)
            storage.sign(left._trial_id)
        trial = optuna.Trial(self.study, left._trial_id)
        view = optuna.pruners._filter_study(self.study, left)
        for name, distribution in left.distributions.items():
            if name not in trial.relative_params:
                self.study.sampler.sample_independent(view, left, name, distribution)
        return trial

    def _elsewhere(self, trial: FrozenTrial) -> str:
        """Return the worker of a trial whose lock, if held, could not be seen from here; empty if it could."""
        if not self.served:
            return ""
        worker = worker_of(trial) or "nobody"  # an enqueued one, in the moment after it was taken
        return "" if worker.rpartition(":")[0] == self.place else worker

    def _lock(self, number: int, timeout_s: float = 0) -> FileLock | None:
        lock = FileLock(self.locks / f"trial-{number}", timeout=timeout_s)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock


def _taken(study: optuna.Study, trial_id: int) -> bool:
    storage = study._storage
    return isinstance(storage, Database) and storage.served and storage.taken(trial_id)


def _at_work(paused: FrozenTrial) -> FrozenTrial:
    """Return a paused trial as if it were running, with no allowance beyond its last step."""
    seen = copy.copy(paused)
    seen.user_attrs = {**paused.user_attrs, SCHEDULE: Allowed(paused.last_step or 0).record()}
    return seen


@contextmanager
def mutex(study: optuna.Study) -> Iterator[None]:
    """Exclude the processes of other machines that enter this block for the same study."""
    if isinstance(study._storage, Database):
        with study._storage.mutex(study.study_name):
            yield
    else:
        yield


def finished(trials: Sequence[FrozenTrial], n_trials: int | None = None) -> list[FrozenTrial]:
    """Return the trials that ended; given a number of trials, without those beyond it that were never trained.

    Another machine may have started one too many, which is recorded as failed at once (`TrialQueue`).
    """
    within = [t for t in trials if n_trials is None or t.number < n_trials or RESULT in t.user_attrs or t.values]
    return [trial for trial in within if trial.state.is_finished()]


def outcome(trial: FrozenTrial) -> str:
    """Return ``complete``, ``pruned``, ``diverged``, ``out_of_memory``, ``failed``; or ``paused`` or ``running``."""
    if trial.state == TrialState.RUNNING:
        return "paused" if Allowed.of(trial).paused else "running"
    recorded = mapping_of(trial, RESULT).get("outcome")
    return str(recorded) if recorded else {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())


def worker_of(trial: FrozenTrial) -> str:
    """Return the name of the worker that runs a trial, or ran it last; empty where only locks tell."""
    return str(trial.user_attrs.get(WORKER, "")).rpartition(":")[0]  # without the token of the trial


def epochs(trial: FrozenTrial) -> int:
    """Return the epochs that a trial was trained for, as far as recorded or reported."""
    return int(mapping_of(trial, RESULT).get("epochs", max(trial.intermediate_values, default=0)))


def completed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that were trained to the end and have a value."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and outcome(trial) == "complete"]


def ranked(trials: Sequence[FrozenTrial], *, maximizes: bool) -> list[FrozenTrial]:
    """Return the completed trials with one objective, the best first: see `hypermap.search.curves.ranked`."""
    own = {trial.number: trial for trial in completed(trials)}
    repeats = {number: trial.user_attrs[REPEATS] for number, trial in own.items() if REPEATS in trial.user_attrs}
    scores = {number: (trial.values[0], trial.intermediate_values) for number, trial in own.items()}
    return [own[number] for number in curves.ranked(scores, repeats, 1.0 if maximizes else -1.0)]


def best(trials: Sequence[FrozenTrial], *, maximizes: bool) -> FrozenTrial | None:
    """Return the first of the `ranked` trials, if any is complete."""
    return next(iter(ranked(trials, maximizes=maximizes)), None)


def luckiest(trials: Sequence[FrozenTrial], *, maximizes: bool) -> FrozenTrial | None:
    """Return the completed trial with the best value, whatever else it reported; the first of equal ones."""
    sign = 1.0 if maximizes else -1.0
    return max(completed(trials), key=lambda trial: (sign * trial.values[0], -trial.number), default=None)


def measurements(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Return each completed trial with one objective and its repetitions, by its number."""
    own = {trial.number: [trial] for trial in completed(trials) if REPEATS not in trial.user_attrs}
    for trial in completed(trials):
        if (of := trial.user_attrs.get(REPEATS)) in own:
            own[of].append(trial)
    return own


def used_up(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> bool:
    """Return whether a search has reached its budget: its number of trials, or its trainings."""
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
    """Return why no further trial should start, if there is a reason other than the budget."""
    if plan.deadline is not None and now >= plan.deadline:
        return "the time is up (hydra.sweeper.timeout)"
    if (top := reached(plan, trials)) is not None:
        return f"trial {top.number} reached the target: {top.values[0]:g} (hydra.sweeper.target={plan.target:g})"
    return failure(plan, trials)


def reached(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial with the best value, if that reaches the sweep's target."""
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
    """Return an error message without its numbers, to compare errors of the same kind."""
    return "".join(character for character in error or "" if not character.isdigit())


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages about each new study and about experimental features."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
