"""What a person who watches a sweep sees: a line that changes on a terminal, a line a trial elsewhere."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hypermap.search.storage import shown
from hypermap.search.study import RESULT, Plan, best, connect, finished, outcome

EVERY_S = 1.0
OUTCOMES = ("complete", "pruned", "diverged", "out_of_memory", "failed")


def heading(plan: Plan, study: optuna.Study) -> str:
    """What is about to be searched, and how."""
    aims = ", ".join(f"{direction} {name}" for name, direction in zip(_names(plan), plan.directions, strict=True))
    lines = [f"Study {plan.name}: {plan.n_trials} trials; {aims}; seed {plan.seed}"]
    lines.append(f"  search  {_said(plan.sampler)}; pruning: {_said(plan.pruner)}")
    width = max((len(name) for name in plan.space.names), default=0)
    for parameter in plan.space.parameters:
        where = (
            f"  where {parameter.condition.group} is {' or '.join(parameter.condition.choices)}"
            if parameter.condition
            else ""
        )
        lines.append(f"  {parameter.name:{width}}  {parameter.expression}{where}")
    lines.append(f"  trials  {_near(plan.folder)}/   study  {shown(_near(plan.storage))}")
    trials = study.get_trials(deepcopy=False)
    if trials:
        done, begun = len(finished(trials)), sum(trial.state == TrialState.RUNNING for trial in trials)
        lines.append(
            f"  {done} trials are finished and {begun} begun; going on."
            if done < plan.n_trials
            else f"  All {done} trials are finished."
        )
    return "\n".join(lines)


def summary(plan: Plan, trials: Sequence[FrozenTrial], stopped: str | None) -> str:
    """How it went, and what to do with it."""
    ended = finished(trials, plan.n_trials)
    counts = {name: sum(outcome(trial) == name for trial in ended) for name in OUTCOMES}
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    lines = [
        f"{len(ended)} of {plan.n_trials} trials: {told or 'none finished'}."
        + (f" Stopped: {stopped}. The same command goes on." if stopped else "")
    ]
    if len(plan.directions) > 1:
        lines.append(f"Results: {_near(plan.folder)}/optimization_results.yaml")
        return "\n".join(lines)
    top = best(ended, maximizes=plan.maximizes)
    if top is None:
        return "\n".join([*lines, "No trial was trained to its end."])
    lines.append(f"Best: trial {top.number}, {_names(plan)[0]} {top.values[0]:.4f}: {values(plan, top)}")
    if (plan.folder / str(top.number) / "params.yaml").exists():
        lines.append(f"Take it up: make promote STUDY={plan.name}, then dvc repro")
    return "\n".join(lines)


def values(plan: Plan, trial: FrozenTrial) -> str:
    """A trial's values as one would give them on a command line."""
    pairs = plan.space.values_of(trial.params)
    return " ".join(f"{key}={short(value)}" for key, value in pairs.items())


def short(value: Any) -> str:
    """A value in as many digits as a person reads."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line(plan: Plan, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
    """What is printed of a trial that ended, where the output is no terminal."""
    how = outcome(trial)
    result = trial.user_attrs.get(RESULT, {})
    told = how.replace("_", " ")
    if how == "complete":
        told = ", ".join(f"{name} {value:.4f}" for name, value in zip(_names(plan), trial.values, strict=True))
    elif how == "pruned" and trial.intermediate_values:
        step, value = max(trial.intermediate_values.items())
        told = f"pruned at {step} with {value:.4f}"
    elif result.get("error"):
        told += f": {str(result['error']).splitlines()[0][:120]}"
    count = len(finished(trials, plan.n_trials))
    width = len(str(plan.n_trials))
    top = best(trials, maximizes=plan.maximizes) if len(plan.directions) == 1 else None
    is_best = "  (best so far)" if top is not None and top.number == trial.number else ""
    return f"[{count:{width}}/{plan.n_trials}] trial {trial.number}: {told}{is_best}  {values(plan, trial)}"


def status(plan: Plan, trials: Sequence[FrozenTrial], began_with: int, now: float) -> str:
    """The line that changes: how far, how good, what pruning has saved, how long yet."""
    ended = finished(trials, plan.n_trials)
    counts = {name: sum(outcome(trial) == name for trial in ended) for name in OUTCOMES}
    parts = [f"{len(ended)}/{plan.n_trials}", *(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n)]
    parts.append(f"{sum(trial.state == TrialState.RUNNING for trial in trials)} running")
    told = ", ".join(parts)
    top = best(ended, maximizes=plan.maximizes) if len(plan.directions) == 1 else None
    if top is not None:
        told += f" | best {top.values[0]:.4f} (trial {top.number}: {values(plan, top)})"
    if plan.horizon and counts["pruned"]:
        saved = sum(plan.horizon - max(t.intermediate_values, default=0) for t in ended if outcome(t) == "pruned")
        told += f" | pruning saved {saved} of {plan.horizon * len(ended)} steps"
    done = len(ended) - began_with
    if done > 0 and len(ended) < plan.n_trials:
        left = (now - plan.began) / done * (plan.n_trials - len(ended))
        told += f" | {_clock(left)} left"
    return told


@contextmanager
def watching(plan: Plan) -> Iterator[None]:
    """Tell of the trials while workers run them: a thread that reads the study, as any other process could."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(plan, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(plan: Plan, stop: threading.Event) -> None:
    study = connect(plan)
    told = {trial.number for trial in finished(study.get_trials(deepcopy=False))}
    began_with, live = len(told), sys.stderr.isatty() and sys.stdout.isatty()
    last = False
    while not last:
        last = stop.wait(EVERY_S)
        trials = study.get_trials(deepcopy=False)
        new = [trial for trial in finished(trials, plan.n_trials) if trial.number not in told]
        if live:
            width = shutil.get_terminal_size().columns - 1
            print(
                f"\r\033[K{status(plan, trials, began_with, time.time())[:width]}", end="", file=sys.stderr, flush=True
            )
        for trial in sorted(new, key=lambda t: (t.datetime_complete or 0, t.number)) if not live else ():
            told.add(trial.number)
            print(line(plan, [t for t in trials if t.number in told], trial), flush=True)
    if live:
        print(file=sys.stderr)


def _names(plan: Plan) -> list[str]:
    return list(plan.objectives) or ["objective"] * len(plan.directions)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _said(choice: Mapping[str, Any]) -> str:
    name = str(choice["_target_"]).rpartition(".")[2]
    settings = ", ".join(f"{key}={value}" for key, value in choice.items() if key != "_target_" and value is not None)
    return f"{name}({settings})" if settings else name


def _near(path: Any) -> str:
    """A path as seen from the current folder, if it lies below."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
