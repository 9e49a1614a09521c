"""Progress output of a sweep: a changing line on a terminal, one line per trial elsewhere."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.passwords import shown
from hypermap.search.database import PATIENCE_S
from hypermap.search.schedule import Allowed, Size, mapping_of
from hypermap.search.strategy import AUTO, AUTO_PRUNER
from hypermap.search.study import (
    RESULT,
    StudyConfig,
    best,
    connect,
    finished,
    luckiest,
    measurements,
    outcome,
    reached,
    used_up,
)

EVERY_S = 1.0
SEEDS = {"seed", "split_seed"}  # the last parts of keys that only change random seeds
OUTCOMES = ("complete", "pruned", "diverged", "out_of_memory", "failed")


def heading(plan: StudyConfig, study: optuna.Study) -> str:
    """Return the heading: what is searched, and how."""
    aims = ", ".join(f"{direction} {name}" for name, direction in zip(_names(plan), plan.directions, strict=True))
    lines = [f"Study {plan.name}: {_aim(plan)}; {aims}; seed {plan.seed}"]
    lines.append(f"  search  {_described(plan.sampler, plan)}")
    lines.append(f"  pruner  {_described(plan.pruner, plan)}")
    if plan.stack > 1:
        lines.append(f"  stack   up to {plan.stack} trials as one")
    width = max((len(name) for name in plan.space.names), default=0)
    for parameter in plan.space.parameters:
        where = " and ".join(f"{one.group} is {' or '.join(one.choices)}" for one in parameter.conditions)
        lines.append(f"  {parameter.name:{width}}  {parameter.expression}{where and f'  where {where}'}")
    lines.append(f"  trials  {near_to(plan.folder)}/   study  {shown(near_to(plan.storage))}")
    trials = study.get_trials(deepcopy=False)
    if trials:
        done, begun = len(finished(trials)), sum(trial.state == TrialState.RUNNING for trial in trials)
        spent = "" if plan.budget is None else f", {_spent(plan, trials)}"
        lines.append(
            f"  {_trials(done)} finished and {begun} begun{spent}; going on."
            if not used_up(plan, trials)
            else f"  All {_trials(done)} are finished{spent}."
            if done > 1
            else "  Its trial is finished."
        )
    return "\n".join(lines)


def summary(plan: StudyConfig, trials: Sequence[FrozenTrial], stopped: str | None) -> str:
    """Return a summary of the results, and what to do next."""
    ended = finished(trials, plan.n_trials)
    counts = {name: sum(outcome(trial) == name for trial in ended) for name in OUTCOMES}
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    saved = _saved(plan, ended)
    of = _trials(len(ended))
    if plan.n_trials is not None and len(ended) <= plan.n_trials:  # another command may have asked for more
        of = f"{len(ended)} of {_trials(plan.n_trials)}"
    if plan.budget is not None:
        of += f", {_spent(plan, trials)}"
    lines = [f"{of}: {outcomes or 'none finished'}{saved and f'; {saved} of all epochs'}."]
    if stopped:
        goes_on = "" if reached(plan, ended) else " Run the same command to resume."
        lines[0] += f" Stopped: {stopped}.{goes_on}"
    if len(plan.directions) > 1:
        lines.append(f"Results: {near_to(plan.folder)}/optimization_results.yaml")
        return "\n".join(lines)
    top = best(ended, maximizes=plan.maximizes)
    if top is None:
        return "\n".join([*lines, "No trial was trained to its end."])
    measured = [trial.values[0] for trial in measurements(ended)[top.number]]
    again = f" (mean of {len(measured)} trainings)" if len(measured) > 1 else ""
    lines.append(
        f"Best: trial {top.number}, {_names(plan)[0]} {format_value(fmean(measured))}{again}: {values(plan, top)}"
    )
    lucky = luckiest(ended, maximizes=plan.maximizes)
    if len(measured) == 1 and lucky is not None and lucky.values[0] != top.values[0]:
        lines.append(
            f"(Trial {lucky.number} has a better kept epoch, {format_value(lucky.values[0])}, but is behind over the "
            "second "
            "half of its epochs, by which trials are judged.)"
        )
    if {key.rpartition(".")[2] for key in plan.space.values_of(top.params)} <= SEEDS:
        lines.append("Only the seed differed: report the mean of the scores and its spread, not the best.")
    elif (plan.folder / str(top.number) / "params.yaml").exists():
        lines.append(f"Use it: make promote STUDY={plan.name}, then dvc repro")
    lines.append(f"Results: {near_to(plan.folder)}/")
    return "\n".join(lines)


def values(plan: StudyConfig, trial: FrozenTrial) -> str:
    """Return a trial's values as command-line overrides."""
    pairs = plan.space.values_of(trial.params)
    return " ".join(f"{key}={short(value)}" for key, value in pairs.items())


def short(value: Any) -> str:
    """Return a value with a readable number of digits, on one line."""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).splitlines())


def format_value(value: float) -> str:
    """Return an objective's value with four decimals, unless that is too coarse or it is a count."""
    if abs(value) >= 10 and float(value).is_integer():
        return f"{value:.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def line(plan: StudyConfig, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> str:
    """Return the line for a trial that ended, if the output is not a terminal."""
    how = outcome(trial)
    result = mapping_of(trial, RESULT)
    text = how.replace("_", " ")
    if how == "complete":
        text = ", ".join(
            f"{name} {format_value(value)}" for name, value in zip(_names(plan), trial.values, strict=True)
        )
    elif how == "pruned" and trial.intermediate_values:
        step, value = max(trial.intermediate_values.items())
        text = f"pruned at {step} with {format_value(value)}"
    elif result.get("error"):
        text += f": {str(result['error']).splitlines()[0][:120]}"
    if plan.budget is not None:
        width = len(f"{plan.budget:.1f}")
        where = f"{plan.ledger().spent(trials):{width}.1f}/{plan.budget:g}"
    else:
        where = f"{len(finished(trials, plan.n_trials)):{len(str(plan.n_trials))}}/{plan.n_trials}"
    is_best = "  (best so far)" if _is_best(plan, trials, trial) else ""
    return f"[{where}] trial {trial.number}: {text}{is_best}  {values(plan, trial)}"


def status(plan: StudyConfig, trials: Sequence[FrozenTrial], began_with: float, now: float) -> str:
    """Return the changing line: progress, best value, remaining time, savings by pruning; usually 80 columns.

    `began_with` is the share of the budget that was used when the command started (`_share`).
    """
    ended = finished(trials, plan.n_trials)
    counts = {name: sum(outcome(trial) == name for trial in ended) for name in OUTCOMES[1:]}
    done = len(ended) if plan.n_trials is None else min(len(ended), plan.n_trials)
    parts = [f"{done}/{plan.n_trials} done"] if plan.budget is None else [_spent(plan, trials)]
    if plan.budget is not None:
        parts.append(f"{sum(outcome(trial) == OUTCOMES[0] for trial in ended)} complete")
    parts += [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    where = [outcome(trial) for trial in trials if trial.state == TrialState.RUNNING]
    parts += [f"{where.count(name)} {name}" for name in ("paused", "running") if name in where]
    text = ", ".join(parts) if trials else "starting the workers"
    top = best(ended, maximizes=plan.maximizes) if len(plan.directions) == 1 else None
    if top is not None:
        text += f" | best {format_value(top.values[0])}"
    share = _share(plan, trials) - began_with
    if share > 0 and began_with + share < 1:
        left = (now - plan.began) / share * (1 - began_with - share)
        text += f" | {_clock(left if plan.deadline is None else max(0.0, min(left, plan.deadline - now)))} left"
    saved = _saved(plan, ended)
    return f"{text} | {saved}" if saved else text


def _share(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> float:
    """Return the used share of the budget: of the trainings or, without a budget, of the trials."""
    shares = [0.0]
    if plan.budget is not None:
        shares.append(plan.ledger().spent(trials) / plan.budget)
    if plan.n_trials is not None:
        shares.append(len(finished(trials, plan.n_trials)) / plan.n_trials)
    return max(shares)


def _spent(plan: StudyConfig, trials: Sequence[FrozenTrial]) -> str:
    """Return in words how much of the budget is used."""
    spent = plan.ledger().spent(trials)
    return f"{spent:.4g} of {plan.budget:g} training{'' if plan.budget == 1 else 's'}"


def _aim(plan: StudyConfig) -> str:
    """Return the budget in words."""
    parts = [] if plan.n_trials is None else [_trials(plan.n_trials)]
    if plan.budget is not None:
        parts.insert(0, f"as much training as {plan.budget:g} full one{'' if plan.budget == 1 else 's'}")
    return " in at most ".join(parts)


def _saved(plan: StudyConfig, ended: Sequence[FrozenTrial]) -> str:
    """Return the share of all training that pruning has saved; empty if there is none or it is unknown."""
    steps = [(Size.of(t, plan.horizon).steps or 0, t) for t in ended if outcome(t) in ("complete", "pruned")]
    saved = sum(max(0, all_ - (trial.last_step or 0)) for all_, trial in steps if outcome(trial) == "pruned")
    whole = sum(all_ for all_, _ in steps)
    return f"pruning saved {saved / whole:.0%}" if saved else ""


def _is_best(plan: StudyConfig, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    top = best(trials, maximizes=plan.maximizes) if len(plan.directions) == 1 else None
    return top is not None and top.number == trial.number


@contextmanager
def watching(plan: StudyConfig) -> Iterator[None]:
    """Print progress while workers run trials: a thread reads the study, as any other process could."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch_what_is_there, args=(plan, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch_what_is_there(plan: StudyConfig, stop: threading.Event) -> None:
    with suppress(Exception):  # the workers report a study that cannot be read
        _watch(plan, stop)


def _watch(plan: StudyConfig, stop: threading.Event) -> None:
    study = connect(plan, patience_s=PATIENCE_S)
    printed = {trial.number for trial in finished(study.get_trials(deepcopy=False))}
    began_with, live = _share(plan, study.get_trials(deepcopy=False)), sys.stderr.isatty() and sys.stdout.isatty()
    last = False
    while not last:
        last = stop.wait(EVERY_S)
        trials = study.get_trials(deepcopy=False)
        new = [trial for trial in finished(trials, plan.n_trials) if trial.number not in printed]
        for trial in sorted(new, key=lambda t: (t.datetime_complete or 0, t.number)):
            printed.add(trial.number)
            known = [t for t in trials if t.number in printed]
            if outcome(trial) == "pruned" and Allowed.of(trial).paused:
                continue  # it was paused long ago, and never resumed
            if not live:
                print(line(plan, known, trial), flush=True)
            elif _is_best(plan, known, trial) or outcome(trial) in OUTCOMES[2:]:  # these lines stay
                print(f"\r\033[K{line(plan, known, trial)}", file=sys.stderr)
        if live:
            width = shutil.get_terminal_size().columns - 1
            shown_now = status(plan, trials, began_with, time.time())[:width]
            print(f"\r\033[K{shown_now}", end="", file=sys.stderr, flush=True)
    if live:
        print(file=sys.stderr)


def _names(plan: StudyConfig) -> list[str]:
    return list(plan.objectives) or ["objective"] * len(plan.directions)


def _trials(number: int) -> str:
    return f"{number} trial{'' if number == 1 else 's'}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _described(option: Mapping[str, Any], plan: StudyConfig) -> str:
    """Return a sampler or a pruner in words; for the automatic ones, their rule."""
    if option["_target_"] == AUTO:
        if len(plan.directions) > 1:
            return "auto: a portfolio, by random weights of the objectives"
        first = "the baseline first, then" if plan.baseline else "first"
        return f"auto: {first} space-filling points, then a model, neighbours of the best and TPE as well"
    if option["_target_"] == AUTO_PRUNER:
        return "auto: pauses trials that are behind others, from the first informative epoch on; finishes the best"
    name = str(option["_target_"]).rpartition(".")[2]
    settings = ", ".join(f"{key}={value}" for key, value in option.items() if key != "_target_" and value is not None)
    return f"{name}({settings})" if settings else name


def near_to(path: Any) -> str:
    """Return a path relative to the current folder, if it is below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
