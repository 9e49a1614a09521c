"""How a study went: what was spent by when, the best so far, which worker ran what, and when none did."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from hypermap.reports.study.view import StudyData, TrialData

Span = tuple[float, float]  # from, to: seconds since the first trial began

PAUSE = 0.2
"""An idle time is a pause from this share of the time in which trials ran, and from a minute (PAUSE_S)."""

PAUSE_S = 60.0


def trained(view: StudyData) -> dict[int, float]:
    """Return the epochs that each trial was trained for, over all its trainings, as far as that is known.

    A complete trial told its own. Another has reports, which may be of parts of an epoch, or of whole trainings.
    """
    budget = view.fixed.get("trainer.epochs")
    usual = [trial.epochs for trial in view.completed] or [budget if isinstance(budget, int) else 0]
    whole, portions = float(np.median(usual)), reports_per_epoch(view)
    found = {}
    for trial in view.ended:
        if view.fits_several:
            found[trial.number] = whole * max(len(trial.scores), len(trial.reports))
        else:
            found[trial.number] = trial.epochs if trial.outcome == "complete" else trial.epochs / portions
    return found


def warm(view: StudyData) -> datetime:
    """Return when the first trial ended: what began before was its worker's first, and its seconds hold the worker's
    start.
    """
    return min((trial.ended for trial in view.ended if trial.ended is not None), default=datetime.max)


def spent(view: StudyData) -> list[tuple[TrialData, float]]:
    """Return the trials in the order in which they ended, each with what all until then cost.

    In epochs; in trials, where no epochs are known.
    """
    ended = sorted(view.ended, key=lambda trial: (trial.ended or datetime.max, trial.number))
    epochs = trained(view)
    costs = [epochs[trial.number] for trial in ended]
    total = np.cumsum(costs if any(costs) else np.ones(len(ended)))
    return list(zip(ended, total.tolist(), strict=True))


def best_so_far(view: StudyData, objective: int = 0) -> list[tuple[float, float]]:
    """Return the best value of an objective after each complete trial, against the cost; the last point is the end."""
    better = max if view.directions[objective] == "maximize" else min
    points: list[tuple[float, float]] = []
    costs = spent(view)
    for trial, cost in costs:
        if trial.outcome == "complete":
            value = trial.values[objective]
            points.append((cost, better(value, points[-1][1]) if points else value))
    return [*points, (costs[-1][1], points[-1][1])] if points else []


def spans(view: StudyData) -> dict[int, Span]:
    """Return when each trial ran, by number; one that still runs, until the last time that the study knows of.

    A study does not tell when trials were paused. What was, is taken to have run in one piece: up to its end, where it
    was taken up again and came to one, since most of its epochs are its last, and from its beginning, where it was not.
    """
    first = min((trial.began for trial in view.trials if trial.began is not None), default=None)
    if first is None:
        return {}
    found = {}
    for trial in view.trials:
        if (run := when(trial)) is not None:
            found[trial.number] = ((run[0] - first).total_seconds(), (run[1] - first).total_seconds())
    last = max(end for _, end in found.values())
    running = {trial.number for trial in view.with_outcome("running") if trial.busy_s is None}
    return {number: (begin, last if number in running else end) for number, (begin, end) in found.items()}


def when(trial: TrialData) -> tuple[datetime, datetime] | None:
    """Return when a trial ran, as of `spans`; None where its beginning is not known."""
    if trial.began is None:
        return None
    if trial.ended is None:
        return trial.began, trial.began + timedelta(seconds=trial.busy_s or trial.seconds or 0)
    ended = max(trial.began, trial.ended)  # a clock may have been set back
    if trial.busy_s is None:
        return trial.began, ended
    return max(trial.began, ended - timedelta(seconds=trial.busy_s)), ended


def lanes(times: Sequence[Span]) -> list[int]:
    """Return for each span a lane in which it overlaps no other, in as few lanes as there can be, numbered from 0.

    Greedy interval partitioning (Kleinberg and Tardos, *Algorithm Design*, 2005, section 4.1): in the order of their
    beginnings, each goes into a free lane. Of several it takes the one that became free last, since a worker goes on
    to its next trial at once.
    """
    ends: list[float] = []
    chosen = [0] * len(times)
    for index in sorted(range(len(times)), key=lambda index: (times[index], index)):
        began, end = times[index]
        free = [lane for lane, until in enumerate(ends) if until <= began]
        lane = max(free, key=lambda lane: (ends[lane], -lane), default=len(ends))
        if lane == len(ends):
            ends.append(end)
        ends[lane] = end
        chosen[index] = lane
    return chosen


def pauses(times: Sequence[Span]) -> list[Span]:
    """Return the long times between spans in which there is none of them, in order."""
    gaps: list[Span] = []
    running, until = 0.0, -math.inf
    for began, end in sorted(times):
        if began > until > -math.inf:
            gaps.append((until, began))
        running += max(0.0, end - max(began, until))
        until = max(until, end)
    return [(began, end) for began, end in gaps if end - began >= max(PAUSE * running, PAUSE_S)]


def without(found: Sequence[Span], time: float) -> float:
    """Return a time on a clock that stands still during the pauses."""
    return time - math.fsum(min(max(time - began, 0.0), end - began) for began, end in found)


def reports_per_epoch(view: StudyData) -> int:
    """Return how often complete trials reported in an epoch: what tells steps from epochs; 1 where it is not known."""
    ratios = [max(trial.reports) / trial.epochs for trial in view.completed if trial.reports and trial.epochs]
    return max(1, round(float(np.median(ratios)))) if ratios and not view.fits_several else 1


def by_epoch(trial: TrialData, each: int) -> list[tuple[float, float]]:
    """Return the finite reports of a trial, by epoch and parts of one, where there were `each` of them in an epoch."""
    return [(step / each, value) for step, value in trial.reports.items() if math.isfinite(value)]


def reported_column(view: StudyData, chosen: Sequence[TrialData], each: int) -> str:
    """Return which of loss and score the trials reported: the one that their histories agree with; the score, if
    unknown.
    """
    apart = {"loss": 0.0, "score": 0.0}
    for trial in chosen:
        for row in view.histories[trial.number]:
            step = round(row["epoch"] * each)
            for name in apart if step in trial.reports else ():
                apart[name] += abs(row.get(f"validation_{name}", math.inf) - trial.reports[step])
    return "loss" if apart["loss"] < apart["score"] else "score"
