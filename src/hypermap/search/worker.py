"""A worker: claims a trial, runs it, records the result, until the budget is used up."""

import math
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from hypermap.core.errors import (
    Diverged,
    Interrupted,
    MachineFault,
    OutOfMemory,
    Paused,
    Pruned,
    UserError,
    disk_fault,
    exited,
    is_the_machines,
)
from hypermap.core.files import write_text
from hypermap.core.passwords import masked
from hypermap.search.artifacts import Artifacts
from hypermap.search.attempts import MOST, Attempt, begin, forget, forget_all, forget_last_words, last_words, within
from hypermap.search.database import PATIENCE_S
from hypermap.search.lease import beating, stop_file_stamp
from hypermap.search.schedule import SIZE, Allowed, Size, ToTheEnd
from hypermap.search.storage import batching
from hypermap.search.strategy import Samplers, learns, make_pruner, make_scheduler
from hypermap.search.study import RESULT, StudyConfig, TrialLease, TrialQueue, connect, why_stop
from hypermap.search.trial import RunningTrial, running

ENQUEUED = "fixed_params"  # Optuna's attribute of an enqueued trial
# A scheduler's notice, some time before it ends a job: of a time limit, or of preemption.
NOTICES = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
TOGETHER_S = 5.0  # within which a scheduler's SIGTERM belongs to its notice; a later one is a second request
Values = Mapping[str, Any]
# Runs a trial, given a value for each searched configuration key, and returns its objective(s).
Task = Callable[[RunningTrial, Values], Any]
# Called with a trial that ended, and its objective(s) or the error that a task would raise.
OnFinish = Callable[[RunningTrial, Any], None]
# Runs several trials at once, given their values, and reports each as soon as it has ended.
Together = Callable[[Sequence[tuple[RunningTrial, Values]], OnFinish], None]
# May draw further values with Optuna's API; returns them by key.
Extend = Callable[[optuna.Trial], Values]


@dataclass(frozen=True)
class TrialOutcome:
    """The outcome of a trial, and what is recorded in the study; without a state it is paused, and not recorded."""

    outcome: str
    state: TrialState | None
    values: Sequence[float] | None = None
    error: str | None = None


def work(
    plan: StudyConfig,
    task: Task,
    *,
    together: Together | None = None,
    extend: Extend = lambda trial: {},
    size: Callable[[Values], Size] | None = None,
    before_tell: Callable[[RunningTrial], None] = lambda trial: None,
    stop_file: Path | None = None,
    deserted: Callable[[], bool] | None = None,
) -> None:
    """Run trials until the budget is used up, or something or a user stops the sweep.

    Args:
        plan: the settings of the sweep.
        task: runs one trial.
        together: runs several at once, if the plan has a stack of more than one.
        extend: draws the values that a custom search space adds.
        size: returns the size of a trial with these values, if trials differ.
        before_tell: called with each completed trial, before the study records it as complete.
        stop_file: the launcher of the workers creates it to make them stop.
        deserted: returns whether the watching process is gone; None if there is none.

    Raises:
        MachineFault: the disk or the memory is full: the trial is left unchanged, and the other workers must stop.
    """
    pruner = make_pruner(plan)
    study = connect(plan, pruner, PATIENCE_S)
    claims = TrialQueue(plan, study, Samplers(plan), make_scheduler(plan, pruner))
    with (
        _beating(claims) as told,
        _asked_to_stop(claims.locks, stop_file, deserted, told) as stopping,
        last_words(claims.locks) as file,
    ):
        while not stopping():
            stack = None
            try:
                begun = _begin(plan, claims, 1 if together is None else plan.stack, extend, size, stopping)
                if begun is None or (not begun and not _wait(claims, stopping)):
                    return
                if not begun:
                    continue
                stack = _Stack(plan, begun, before_tell, claims.locks, watched=deserted is not None)
                with within(stack.limit_s, file):
                    if together is None or len(begun) == 1:
                        stack.run_alone(task)
                    else:
                        stack.run(together)
            except Interrupted:
                return
            except Exception as error:
                fault = _machine_fault(error, plan.folder)
                if fault is None:
                    raise
                if stop_file is not None:
                    with suppress(OSError):
                        stop_file.touch()
                if fault is error:
                    raise
                raise fault from error
            finally:
                if stack is not None:
                    stack.release()


@dataclass(frozen=True)
class _Begun:
    """A trial claimed by this process, with its values."""

    claim: TrialLease
    trial: RunningTrial
    values: Values


def _begin(
    plan: StudyConfig,
    claims: TrialQueue,
    most: int,
    extend: Extend,
    size: Callable[[Values], Size] | None,
    stopping: Callable[[], bool],
) -> list[_Begun] | None:
    """Claim up to `most` trials and draw their values, each visible to the next draw.

    Returns:
        none if there is nothing to do; None if the sweep ends, whatever is left.
    """
    storage = claims.study._storage
    # The next trial may be one that another worker is about to release, which waits to write.
    waits = not isinstance(claims.scheduler, ToTheEnd)
    quick = nullcontext() if waits or learns(plan.sampler) else batching(storage)
    begun = []
    with claims.deciding() as trials:
        if why_stop(plan, trials, time.time()) is not None:
            return None
        refused = False
        with quick:
            for claim in claims.several(trials, most):
                claim.trial.relative_params  # a model may take some time, in which others can write  # noqa: B018
                with batching(storage):
                    try:
                        values = {**plan.space.suggest(claim.trial), **extend(claim.trial)}
                    except (ValueError, TypeError) as error:
                        if ENQUEUED not in storage.get_trial(claim.trial._trial_id).system_attrs:
                            raise
                        claims.refuse(claim, error)
                        refused = True
                        continue
                    if size is not None and SIZE not in claim.trial.user_attrs:
                        claim.trial.set_user_attr(SIZE, asdict(size(values)))
                begun.append(_Begun(claim, _running_trial(plan, claims, claim, stopping), values))
    if refused and not begun:  # there may be more trials
        return _begin(plan, claims, most, extend, size, stopping)
    return begun


def _running_trial(
    plan: StudyConfig, claims: TrialQueue, claim: TrialLease, stopping: Callable[[], bool]
) -> RunningTrial:
    number = claim.trial.number
    frozen = claims.study._storage.get_trial(claim.trial._trial_id)
    return RunningTrial(
        trial=claim.trial,
        number=number,
        seed=plan.seed_of(number),
        folder=plan.folder_of(number),
        objectives=plan.objectives,
        horizon=Size.of(frozen, plan.horizon).steps or math.inf,
        stopping=stopping,
        until=Allowed.of(frozen).until,
        go_on=claims.go_on,
        pauses=plan.pauses,
        artifacts=None if plan.artifacts is None else Artifacts(plan.artifacts, plan.name),
        scheduled=not isinstance(claims.scheduler, ToTheEnd),
    )


class _Stack:
    """Trials that started together; each is recorded as soon as it has ended."""

    def __init__(
        self,
        plan: StudyConfig,
        begun: Sequence[_Begun],
        before_tell: Callable[[RunningTrial], None],
        locks: Path,
        *,
        watched: bool,
    ) -> None:
        self.plan = plan
        self.before_tell = before_tell
        self.locks = locks
        self.attempts = {one.trial.number: _attempt(one, locks) for one in begun}
        begin(locks, self.attempts, watched=watched)
        for one in begun:
            if one.trial.artifacts is not None and one.trial.steps:
                one.trial.artifacts.pull(one.trial.number, one.trial.state)
            if one.claim.died is not None:
                _tell_again(one, self.attempts[one.trial.number], locks)
        for one in begun:
            if one.claim.died is not None:
                forget_last_words(locks, one.claim.died.pid)
        self.open = {one.trial.number: one for one in begun}
        self.gone: set[int] = set()  # trials that have ended and are not paused
        self.kept: set[int] = set()  # trials whose attempt counts although the process lives
        self.size = len(begun)
        self.untold: Exception | None = None  # why the end of a trial could not be recorded
        self.share_s = 0.0  # of the time so far, for each unfinished trial: time is divided among these at any moment
        self.shared_until = time.perf_counter()

    @property
    def limit_s(self) -> float | None:
        """The total seconds that these trials may take, before any has ended."""
        if self.plan.trial_timeout is None:
            return None
        return sum(self.plan.trial_timeout - _seconds_before(one.claim) for one in self.open.values())

    def run_alone(self, task: Task) -> None:
        """Run the only trial.

        Raises:
            Interrupted: a user asked to stop.
        """
        (one,) = self.open.values()
        try:
            with running(one.trial):
                result = task(one.trial, one.values)
        except (Exception, SystemExit) as error:
            result = error
        self.finish(one.trial, result)

    def run(self, together: Together) -> None:
        """Run all; trials for which `together` raises an error or reports no end have failed.

        Raises:
            Interrupted: a user asked to stop.
        """
        error: Exception = RuntimeError("the trials were run together, and the end of this one was never told")
        begun = [one.trial for one in self.open.values()]
        try:
            together([(trial, self.open[trial.number].values) for trial in begun], self.finish)
        except (Exception, SystemExit) as raised:
            if isinstance(raised, Interrupted | MachineFault) or raised is self.untold:
                raise
            error = exited(raised) if isinstance(raised, SystemExit) else raised
        for one in list(self.open.values()):
            self.finish(one.trial, error)
        for trial in begun:  # other parts of its training may have left something in the meantime
            if trial.number in self.gone:
                shutil.rmtree(trial.state, ignore_errors=True)

    def finish(self, trial: RunningTrial, result: Any) -> None:
        """Record the end of a trial, by its objective(s) or an error, and release it.

        Raises:
            Interrupted: the result is an interruption; the trial has not ended.
            MachineFault: the machine failed, not the trial, which has not ended either.
            ValueError: the trial was recorded before.
        """
        if trial.number not in self.open:
            raise ValueError(f"the end of trial {trial.number} was told before, or it is none of these")
        claim = self.open[trial.number].claim
        if not isinstance(result, Interrupted) and claim.taken():
            self._leave(trial.number)
            return
        try:
            ending = _ending(self.plan, result, trial)
        except MachineFault as fault:
            if fault.__cause__ is not None and disk_fault(fault.__cause__) is None:
                self._may_be_too_large(trial.number, str(fault.__cause__))
            raise
        try:
            if ending.outcome == "complete":
                self.before_tell(trial)
            self._tell(claim, ending, trial)
        except UpdateFinishedTrialError:  # this very moment
            self._leave(trial.number)
            return
        except Exception as error:  # an error that is not the trial's
            self.untold = error
            raise
        self._close(trial.number)

    def _leave(self, number: int) -> None:
        """Leave a trial to another machine, which has taken it up and will record it, or has done so."""
        print(
            f"Trial {number} went on elsewhere: this worker was not heard of for hydra.sweeper.lease="
            f"{self.plan.lease:g} s",
            flush=True,
        )
        self._close(number)

    def _close(self, number: int) -> None:
        claim = self.open.pop(number).claim
        forget(self.locks, number)
        claim.release()

    def _may_be_too_large(self, number: int, reason: str) -> None:
        """Count an attempt that ran out of host memory: after several, the trial itself is too large."""
        attempt = replace(self.attempts[number], ended=reason or "no memory", memory=True, alone=self.size == 1)
        attempt.write(self.locks, number)
        self.kept.add(number)

    def _tell(self, claim: TrialLease, ending: TrialOutcome, trial: RunningTrial) -> None:
        before = _seconds_before(claim)
        result = {
            "outcome": ending.outcome,
            "seed": trial.seed,
            "seconds": round(before + self._seconds(), 3),
            **({"stacked": self.size} if self.size > 1 else {}),
            **({"error": ending.error} if ending.error else {}),
            **trial.record,
        }
        study = claim.trial.study
        study.sampler = claim.sampler  # the sampler that drew it
        with batching(study._storage):
            claim.trial.set_user_attr(RESULT, result)
            if ending.state is not None:
                study.tell(claim.trial, ending.values, state=ending.state)
        if ending.state is None:
            if trial.artifacts is not None:
                trial.artifacts.push(trial.number, trial.state, at_once=True)
            return
        self.gone.add(trial.number)
        if trial.artifacts is not None:
            trial.artifacts.end(trial.number, trial.folder)
        shutil.rmtree(trial.state, ignore_errors=True)

    def _seconds(self) -> float:
        """Return a trial's share of the time, which is divided at each moment among the unfinished ones."""
        now = time.perf_counter()
        self.share_s += (now - self.shared_until) / len(self.open)
        self.shared_until = now
        return self.share_s

    def release(self) -> None:
        """Release the unfinished trials; another worker can resume them."""
        for number, one in self.open.items():
            if one.trial.artifacts is not None:
                one.trial.artifacts.push(number, one.trial.state, at_once=True)
            if number not in self.kept:
                forget(self.locks, number)
            one.claim.release()


def _attempt(begun: _Begun, locks: Path) -> Attempt:
    """Return the attempt at a trial that starts now, with its process."""
    step, died = max(begun.trial.steps, default=0), begun.claim.died
    return Attempt(0, step) if died is None else died.after(step, locks)


def _tell_again(begun: _Begun, attempt: Attempt, locks: Path) -> None:
    """Print that a trial is trained again after its process died."""
    died = begun.claim.died
    assert died is not None
    how = died.ended if died.memory else f"its process ended {died.how(locks)}"
    if died.died_with_all(locks):
        times = ""
    else:
        times = f", attempt {attempt.deaths + 1} of {MOST}" if begun.claim.apart else ", with its stack"
    print(f"Trial {begun.trial.number} again{times}: {how}", flush=True)


def _seconds_before(claim: TrialLease) -> float:
    """Return how long a trial was trained before it was paused."""
    return float(claim.trial.user_attrs.get(RESULT, {}).get("seconds", 0.0))


def _machine_fault(error: Exception, folder: Path) -> MachineFault | None:
    """Return the machine's fault, if that is the cause of an error."""
    if isinstance(error, MachineFault):
        return error
    if not is_the_machines(error):
        return None
    if (refused := disk_fault(error)) is not None:
        message = f"The disk is full, or cannot be written to ({refused}; trials are in {folder}). Make room"
    else:
        message = f"The machine has no memory left ({error or 'MemoryError'}). Free some, or run fewer workers"
        message += " (hydra.sweeper.n_jobs=1) or smaller stacks (hydra.sweeper.stack=1)"
    return MachineFault(f"{message}: no trial is marked as failed; run the same command to resume.")


def _ending(plan: StudyConfig, result: Any, trial: RunningTrial) -> TrialOutcome:
    """Return the outcome of a trial.

    Divergence and lack of memory are recorded as the worst values: samplers ignore failed trials, and would propose the
    same again.

    Raises:
        Interrupted: the result is an interruption.
        MachineFault: an error is not the trial's fault.
    """
    if isinstance(result, Interrupted):
        raise result
    if isinstance(result, Pruned | optuna.TrialPruned):
        return TrialOutcome("pruned", TrialState.PRUNED)
    if isinstance(result, Paused):
        return TrialOutcome("paused", None)
    if isinstance(result, Diverged):
        return TrialOutcome("diverged", TrialState.COMPLETE, plan.worst, str(result))
    if isinstance(result, SystemExit):
        return _failed(plan, exited(result), trial)
    if isinstance(result, Exception):
        return _failed(plan, result, trial)
    try:
        values = _values(result, plan)
    except UserError as error:
        return _failed(plan, error, trial)
    if any(math.isnan(value) for value in values):
        return TrialOutcome("diverged", TrialState.COMPLETE, plan.worst, "the objective is not a number")
    return TrialOutcome("complete", TrialState.COMPLETE, values)


def _failed(plan: StudyConfig, error: Exception, trial: RunningTrial) -> TrialOutcome:
    """Return the outcome of a trial that raised an error, and write the traceback into its folder.

    Raises:
        MachineFault: the error is not the trial's fault.
    """
    if (fault := _machine_fault(error, trial.folder)) is not None:
        if fault is error:
            raise fault
        raise fault from error
    if isinstance(error, OutOfMemory | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return TrialOutcome("out_of_memory", TrialState.COMPLETE, plan.worst, str(error))
    write_text(trial.folder / "error.txt", masked("".join(traceback.format_exception(error))))
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return TrialOutcome("failed", TrialState.FAIL, None, masked(message))


def _values(returned: Any, plan: StudyConfig) -> list[float]:
    """Return the objectives from a task's return value, as the official sweeper does."""
    several = len(plan.directions) > 1 or isinstance(returned, list | tuple)
    try:
        values = [float(value) for value in (returned if several else [returned])]
    except (ValueError, TypeError):
        raise UserError(f"Return value must be float-castable. Got '{returned}'.") from None
    if len(values) != len(plan.directions):
        raise UserError(
            "The number of the values and the number of the objectives are mismatched. "
            f"Expect {len(plan.directions)}, but actually {len(values)}."
        )
    return values


@contextmanager
def _beating(claims: TrialQueue) -> Iterator[Callable[[], bool]]:
    """Hold this worker's lease, if others cannot see its locks; yield whether the study was asked to stop."""
    if claims.served:
        with beating(claims.study, claims.worker, claims.plan.command, claims.plan.lease) as told:
            yield told
    else:
        before = stop_file_stamp(claims.locks)
        yield lambda: stop_file_stamp(claims.locks) != before


def _wait(claims: TrialQueue, stopping: Callable[[], bool]) -> bool:
    """Wait until it is clear whether the workers of all trials that run elsewhere live; return whether to go on."""
    if not claims.unclear() and not claims.deserted_elsewhere():
        return False
    time.sleep(min(1.0, claims.plan.lease / 20))
    while not stopping() and claims.unclear():
        time.sleep(min(1.0, claims.plan.lease / 20))
    return True


@contextmanager
def _asked_to_stop(
    locks: Path, stop_file: Path | None, deserted: Callable[[], bool] | None, told: Callable[[], bool]
) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether to stop: the first request is met after the running epochs.

    A second Ctrl-C or SIGTERM stops at once. The handlers that the launcher had set for these signals are called at the
    end, when no trial is running any more: they may requeue the job, and raise. That of the command itself is called at
    once: it only notes the request.
    """
    requested = threading.Event()
    asked: dict[int, float] = {}  # when each signal arrived first
    later: list[Callable[[], Any]] = []

    def stopping() -> bool:
        return (
            requested.is_set()
            or told()
            or (stop_file is not None and stop_file.exists())
            or (deserted is not None and deserted())
        )

    def ask(number: int, frame: Any) -> None:
        now = time.monotonic()
        again = any(other not in NOTICES or now - at > TOGETHER_S for other, at in asked.items())
        if again and number not in NOTICES:
            raise KeyboardInterrupt
        first = not asked
        asked.setdefault(number, now)
        requested.set()
        forget_all(locks)
        outer = before[number]
        if getattr(outer, "__module__", "").startswith("hypermap."):
            outer(number, frame)
            return
        if first and number != signal.SIGINT:
            print(f"{signal.Signals(number).name}: this worker stops after the running epochs.", flush=True)
        if callable(outer) and outer is not signal.default_int_handler:
            later.append(partial(outer, number, frame))

    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield stopping
        return
    before: dict[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, *NOTICES)
    }
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for call in later:
            call()
