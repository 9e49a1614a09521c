"""A worker: claims a trial, runs it, tells how it went, until the budget is used up."""

import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from hypermap.errors import Diverged, Interrupted, OutOfMemory, Pruned, UserError
from hypermap.files import write_text
from hypermap.search.strategy import make_pruner, make_sampler
from hypermap.search.study import RESULT, Claim, Claims, Plan, connect, why_stop
from hypermap.search.trial import RunningTrial, running

Values = Mapping[str, Any]
# Runs a trial, given a value for each key of the configuration that is searched, and returns its objective(s).
Task = Callable[[RunningTrial, Values], Any]
# May draw further values by Optuna's own means; returns them by key.
Extend = Callable[[optuna.Trial], Values]


@dataclass(frozen=True)
class Ending:
    """How a trial ended, and what the study is told."""

    outcome: str
    state: TrialState
    values: Sequence[float] | None = None
    error: str | None = None


def work(
    plan: Plan,
    task: Task,
    *,
    extend: Extend = lambda trial: {},
    before_tell: Callable[[RunningTrial], None] = lambda trial: None,
    stop_file: Path | None = None,
) -> None:
    """Run trials until the budget is used up, something stops the sweep, or a person does.

    Args:
        plan: what the sweep is to do.
        task: runs one trial.
        extend: draws what a custom search space adds.
        before_tell: called with each trial that completed, before the study counts it as such.
        stop_file: whoever launched the workers asks them to stop by making it.
    """
    study = connect(plan, make_pruner(plan))
    claims = Claims(plan, study, lambda number: make_sampler(plan, number))
    with _asked_to_stop(stop_file) as stopping:
        while not stopping():
            with claims.deciding() as trials:
                if why_stop(plan, trials, time.time()) is not None:
                    return
                claim = claims.left_behind(trials) or claims.next(trials)
                if claim is None:
                    return
                values = {**plan.space.suggest(claim.trial), **extend(claim.trial)}  # seen by whoever draws next
            try:
                _run(plan, claim, values, task, before_tell, stopping)
            except Interrupted:
                return
            finally:
                claim.lock.release()


def _run(
    plan: Plan,
    claim: Claim,
    values: Values,
    task: Task,
    before_tell: Callable[[RunningTrial], None],
    stopping: Callable[[], bool],
) -> None:
    number = claim.trial.number
    trial = RunningTrial(
        trial=claim.trial,
        number=number,
        seed=plan.seed_of(number),
        folder=plan.folder_of(number),
        objectives=plan.objectives,
        horizon=plan.horizon or math.inf,
        stopping=stopping,
    )
    started = time.perf_counter()
    with running(trial):
        ending = _ending(plan, lambda: task(trial, values), trial)
    if ending.outcome == "complete":
        before_tell(trial)
    result = {
        "outcome": ending.outcome,
        "seed": trial.seed,
        "seconds": round(time.perf_counter() - started, 3),
        **({"error": ending.error} if ending.error else {}),
        **trial.record,
    }
    claim.trial.set_user_attr(RESULT, result)
    claim.trial.study.tell(claim.trial, ending.values, state=ending.state)


def _ending(plan: Plan, run: Callable[[], Any], trial: RunningTrial) -> Ending:
    """Run, and say how it ended.

    Divergence and want of memory are told as values worse than any: a sampler passes over what has failed, and
    would propose it again.
    """
    try:
        values = _values(run(), plan)
    except (Pruned, optuna.TrialPruned):
        return Ending("pruned", TrialState.PRUNED)
    except Interrupted:
        raise
    except Diverged as error:
        return Ending("diverged", TrialState.COMPLETE, plan.worst, str(error))
    except Exception as error:
        if isinstance(error, OutOfMemory | MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return Ending("out_of_memory", TrialState.COMPLETE, plan.worst, str(error))
        write_text(trial.folder / "error.txt", traceback.format_exc())
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return Ending("failed", TrialState.FAIL, None, told)
    if any(math.isnan(value) for value in values):
        return Ending("diverged", TrialState.COMPLETE, plan.worst, "the objective is not a number")
    return Ending("complete", TrialState.COMPLETE, values)


def _values(returned: Any, plan: Plan) -> list[float]:
    """The objectives, as the official sweeper takes them from what a task returns."""
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
def _asked_to_stop(stop_file: Path | None) -> Iterator[Callable[[], bool]]:
    """Whether a person or a scheduler has asked to stop: the first Ctrl-C asks, the second stops at once."""
    asked = threading.Event()

    def stopping() -> bool:
        return asked.is_set() or (stop_file is not None and stop_file.exists())

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if callable(outer := before[number]) and outer is not signal.default_int_handler:  # the launcher's, which tells
            outer(number, frame)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stopping
        return
    before: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
