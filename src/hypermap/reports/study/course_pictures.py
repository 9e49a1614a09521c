"""Pictures of how a study went: its history, curves, workers, trade-off, and what more trials bring.

Each returns the bytes of a PNG in the style of `hypermap.reports.run.pictures`; None where there is nothing to draw.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from hypermap.reports.run.pictures import BLUE, COLOURS, FAINT, GREEN, GREY, ORANGE, SKY, VERMILLION, WIDTH, picture
from hypermap.reports.study import course
from hypermap.reports.study.budget import lacking
from hypermap.reports.study.course import Span, trained
from hypermap.reports.study.drawing import dots, format_value, label_point, legend, log_note, scale, star
from hypermap.reports.study.early_scores import LEAST, EarlyScores
from hypermap.reports.study.early_scores import early_scores as found_early
from hypermap.reports.study.sentences import many as counted
from hypermap.reports.study.statistics import BestOfN
from hypermap.reports.study.statistics import best_of_n as expected_best
from hypermap.reports.study.trade_off import cost_front, costs, knee, pareto_front
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import FAILURES, StudyData, TrialData
from hypermap.search.auto_pruner import INFORMATIVE

PANELS = 3
"""Objectives that are drawn at most."""

OTHERS = 200
"""Curves drawn at most of trials that are not among the best."""

POINTS = 60
"""Sizes at most for which the best of n is computed, beside those that are marked."""

COLOUR = {
    "complete": BLUE,
    "pruned": SKY,
    "diverged": ORANGE,
    "out_of_memory": COLOURS[4],
    "failed": VERMILLION,
    "running": "white",
}
MARKER = {"diverged": "x", "out_of_memory": "s", "failed": "|"}
DASHED: Any = (0, (4, 2))
BY_WORKER = "Trials by worker, inferred from their times"

Line = tuple[list[float], list[float]]


def history(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return every trial's value against what was spent until it ended, and the best so far; a panel an objective."""
    return _history(view) if view.ranking else None


def curves(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return loss and score of the best trials by epoch, and what the others reported, faint.

    Where the best have left no history: the reports of all, by epoch or by fit.
    """
    best = [trial for trial in view.ranking if trial.outcome == "complete"] or view.ranking
    chosen = best[: thresholds.best]
    if known := [trial for trial in chosen if view.histories.get(trial.number)]:
        return _histories(view, known)
    each = course.reports_per_epoch(view)
    reported = [trial for trial in chosen if course.by_epoch(trial, each)]
    return _reports(view, reported, each) if reported else None


def timeline(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return a lane a worker, a bar a trial, coloured by how it ended; workers are inferred from the times.

    A study does not tell when trials were paused: those are drawn as `course.spans` has them, and lanes are no workers.
    """
    times = course.spans(view)
    return _timeline(view, times) if any(end > 0 for _, end in times.values()) else None


def trade_off(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return the Pareto front of several objectives with its knee; of one objective, score against a trial's cost."""
    if len(view.directions) > 1:
        return _fronts(view) if pareto_front(view) else None
    return _score_against_cost(view) if cost_front(view) else None


def best_of_n(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return the expected best of n trials against what n trials cost; None for several objectives, and for less than
    two.

    Trials are the complete ones; the cost of the others is shared by them.
    """
    scores = [trial.values[0] for trial in view.completed]
    if len(view.directions) > 1 or len(scores) < 2 or lacking(view) is not None:
        return None
    many = len(scores)
    marked = {max(1, many // 4), max(1, many // 2), many}
    sizes = sorted({*np.linspace(1, many, min(many, POINTS)).round().astype(int).tolist(), *marked})
    found = expected_best(scores, sizes, view.sign, thresholds.confidence, thresholds.repeats, seed=0)
    return _best_of_n(view, found, marked, thresholds.confidence)


def early_scores(view: StudyData, thresholds: Thresholds) -> bytes | None:
    """Return how well each rung ranks trials as the last does; None where that is not asked, or not known."""
    found = found_early(view)
    return _early_scores(found) if found is not None and found.n >= LEAST else None


@picture
def _early_scores(found: EarlyScores) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.subplots()
    early, at = found.rungs[:-1], [found.place(rung) for rung in found.rungs]
    reach = [[rung.tau - rung.low for rung in early], [rung.high - rung.tau for rung in early]]
    axes.axhline(INFORMATIVE, color=GREEN, linestyle=DASHED, linewidth=1.2, label=f"enough ({INFORMATIVE:g})")
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0.9)
    axes.errorbar(
        at[:-1], [rung.tau for rung in early], yerr=reach, fmt="o-", color=BLUE, markersize=6, linewidth=1.4,
        elinewidth=1.3, capsize=4, label="Kendall's tau with the last, 95 % interval",
    )  # fmt: skip
    if found.automatic and found.first < len(early):
        look: dict[str, Any] = {"color": ORANGE, "edgecolors": "#222222", "linewidths": 0.8, "marker": "v"}
        axes.scatter(at[found.first], 1.1, s=60, zorder=5, label="trials are stopped from here", clip_on=False, **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [f"{place:g}" for place in at])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(at[0] / 1.25, at[-1]), ylim=(min(-0.1, min(rung.low for rung in early) - 0.08), 1.17))
    axes.set(xlabel=f"{found.unit}, log scale", ylabel="Kendall's tau")
    axes.set_title(f"How early scores rank {counted(found.n, 'complete trial')}")
    legend(figure, axes, columns=3)
    return figure


@picture
def _history(view: StudyData) -> Figure:
    panels = min(len(view.directions), PANELS)
    figure = Figure(figsize=(WIDTH, 4.4 if panels == 1 else 1.0 + 2.6 * panels))
    rows = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    for objective, axes in enumerate(rows):
        _draw_history(axes, view, objective)
    rows[-1].xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
    known = any(trial.epochs for trial in view.ended)
    rows[-1].set_xlabel(f"{_unit(view)} trained, of all trials until then" if known else "trials ended")
    legend(figure, *rows)
    return figure


def _draw_history(axes: Axes, view: StudyData, objective: int) -> None:
    """Draw one objective of all trials that ended."""
    sign = 1.0 if view.directions[objective] == "maximize" else -1.0
    spent = course.spent(view)
    complete = [(cost, trial.values[objective]) for trial, cost in spent if trial.outcome == "complete"]
    pruned = [(cost, view.score(trial)) for trial, cost in spent if trial.outcome == "pruned" and objective == 0]
    reached = [(cost, score) for cost, score in pruned if score is not None]
    judged = complete if len({value for _, value in complete}) > 2 else [*complete, *reached]
    failed = [how for how in FAILURES if view.with_outcome(how)]
    axes.set_xlim(0, spent[-1][1] * 1.02)
    room = 0.09 if len(view.directions) == 1 else 0.16  # for the best one's label
    limits = scale(axes, [value for _, value in judged], sign, floor=0.08 if failed else 0.0, room=room)
    axes.set_title(f"{view.objectives[objective]} of every trial" + log_note(axes))
    if points := course.best_so_far(view, objective):
        axes.step(*zip(*points, strict=True), where="post", color=GREEN, zorder=1.5, label="best so far")
    if complete:
        dots(axes, complete, limits, f"complete ({len(complete)})")
    if reached:
        dots(axes, reached, limits, f"pruned, at what it had reached ({len(reached)})", hollow=True)
    for how in failed:
        at = [cost for trial, cost in spent if trial.outcome == how]
        look: dict[str, Any] = {"marker": MARKER[how], "color": COLOUR[how], "markersize": 5, "linestyle": "none"}
        edge = axes.get_xaxis_transform()
        axes.plot(at, [0.03] * len(at), transform=edge, label=f"{_label(how)} ({len(at)})", **look)
    if complete:
        ranked = [(-sign * trial.values[objective], trial.number, cost) for trial, cost in spent if trial.values]
        loss, number, cost = min(ranked)
        star(axes, cost, -sign * loss)
        label_point(axes, f"trial {number}: {format_value(-sign * loss)}", cost, -sign * loss, below=sign < 0)


@picture
def _histories(view: StudyData, chosen: Sequence[TrialData]) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.4))
    panels = list(figure.subplots(1, 2))
    each = course.reports_per_epoch(view)
    reported = course.reported_column(view, chosen, each)
    for axes, name in zip(panels, ("loss", "score"), strict=True):
        sign = view.sign if name == reported else -1.0 if name == "loss" else 1.0
        lines = [_columns(view.histories[trial.number], name) for trial in chosen]
        shown = [value for line in lines for _, values in line.values() for value in values]
        scale(axes, shown, sign, percentile=90, reach=1.6)
        if name == reported and not view.fits_several:
            _draw_others(axes, view, chosen, each)
        for trial, line, colour in zip(chosen, lines, cycle(COLOURS), strict=False):
            _draw_curve(axes, trial, line, colour)
        axes.set_title((view.objective if name == reported else name) + log_note(axes))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    panels[0].plot([], [], color=GREY, label="validation")
    panels[0].plot([], [], color=GREY, linestyle=DASHED, linewidth=1.1, label="training")
    panels[0].plot([], [], "o", color=GREY, markersize=6, label="kept epoch")
    legend(figure, *panels, columns=5)
    _name_curves(figure, view, chosen)
    return figure


def _draw_curve(axes: Axes, trial: TrialData, lines: Mapping[str, Line], colour: str) -> None:
    """Draw training and validation of one trial, and the epoch whose weights were kept."""
    epochs, values = lines["validation"]
    few = "o" if len(epochs) == 1 else None
    axes.plot(*lines["train"], color=colour, linestyle=DASHED, linewidth=1.1)
    axes.plot(epochs, values, color=colour, linewidth=1.6, marker=few)
    if trial.best_epoch in epochs:
        axes.plot([trial.best_epoch], [values[epochs.index(trial.best_epoch)]], "o", color=colour, markersize=6)


@picture
def _reports(view: StudyData, chosen: Sequence[TrialData], each: int) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    lines = [course.by_epoch(trial, each) for trial in chosen]
    scale(axes, [value for line in lines for _, value in line], view.sign, percentile=90, reach=1.6)
    _draw_others(axes, view, chosen, each)
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        axes.plot(*zip(*line, strict=True), color=colour, marker="o" if len(line) <= 15 else None, linewidth=1.6)
    label = "the best trial" if len(chosen) == 1 else f"the best {len(chosen)} trials"
    axes.set_title(f"{view.objective} that {label} reported" + log_note(axes))
    axes.set_xlabel("fit" if view.fits_several else _unit(view).removesuffix("s"))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    legend(figure, axes)
    _name_curves(figure, view, chosen)
    return figure


def _draw_others(axes: Axes, view: StudyData, chosen: Sequence[TrialData], each: int) -> None:
    """Draw the reports of the other trials, at most `OTHERS` of them, and where they were pruned."""
    best = {trial.number for trial in chosen}
    known = [
        (trial, line) for trial in view.ended if trial.number not in best and (line := course.by_epoch(trial, each))
    ]
    if not known:
        return
    drawn = [known[k] for k in np.linspace(0, len(known) - 1, min(len(known), OTHERS)).round().astype(int)]
    colour = "#C4C4C4" if len(drawn) <= 50 else FAINT
    lines = LineCollection([line for _, line in drawn], colors=colour, linewidths=0.8, zorder=0.9)
    axes.add_collection(lines, autolim=False)
    label = f"others ({len(drawn)}{f' of {len(known)}' if len(drawn) < len(known) else ''})"
    axes.plot([], [], color=colour, linewidth=1.2, label=label)
    ends = [line[-1] for trial, line in drawn if trial.outcome == "pruned"]
    if ends:
        axes.scatter(
            [x for x, _ in ends],
            [y for _, y in ends],
            s=7,
            color="#A0A0A0",
            linewidths=0,
            zorder=1,
            label="pruned here",
        )


def _name_curves(figure: Figure, view: StudyData, chosen: Sequence[TrialData]) -> None:
    """Write below all panels which trial has which colour."""
    names = [
        f"trial {trial.number}{' (pruned)' * (trial.outcome == 'pruned')}: {format_value(view.score(trial) or 0.0)}"
        for trial in chosen
    ]
    patches = [Patch(color=colour) for _, colour in zip(chosen, cycle(COLOURS), strict=False)]
    columns = min(len(names), 130 // (max(map(len, names)) + 7))
    figure.set_figheight(figure.get_figheight() + 0.2 * (len(names) // columns - 1))
    figure.legend(patches, names, loc="outside lower center", ncols=columns, handlelength=1.2)


@picture
def _timeline(view: StudyData, times: Mapping[int, Span]) -> Figure:
    trials = [trial for trial in view.trials if trial.number in times]
    lane = dict(zip((t.number for t in trials), course.lanes([times[t.number] for t in trials]), strict=True))
    # A trial that was killed is told as running for ever: only what ended keeps a break from being one.
    sure = [(times[t.number][0], times[t.number][0 if t.outcome == "running" else 1]) for t in trials]
    pauses = course.pauses(sure)
    total = course.without(pauses, max(end for _, end in times.values())) or 1.0
    unit, seconds = next(((u, s) for u, s in (("hours", 3600), ("minutes", 60)) if total > 3 * s), ("seconds", 1))
    at = {number: [course.without(pauses, time) / seconds for time in span] for number, span in times.items()}
    workers = max(lane.values()) + 1
    figure = Figure(figsize=(WIDTH, min(1.5 + 0.38 * workers, 6.5)))
    axes = figure.subplots()
    axes.set_xlim(-0.005 * total / seconds, 1.01 * total / seconds)
    paused = any(trial.busy_s is not None for trial in trials)
    title = "Trials as they were trained; what was paused is in one piece" if paused else BY_WORKER
    axes.set(ylim=(workers + 0.6, 0.4), ylabel="" if paused else "worker", title=title)
    for how in COLOUR:
        drawn = [trial.number for trial in trials if trial.outcome == how]
        _draw_bars(axes, how, [at[n] for n in drawn], [lane[n] + 1 for n in drawn], crowded=len(trials) > 80 * workers)
    if (best := view.best) is not None and best.number in at:
        middle = sum(at[best.number]) / 2
        star(axes, middle, lane[best.number] + 1, f"best: trial {best.number}", color="white", edgecolors="black")
    for begin, _ in pauses:
        place = course.without(pauses, begin) / seconds
        axes.axvline(place, color="#222222", linestyle=DASHED, linewidth=1.2, zorder=3)
    axes.set_xlabel(f"{unit} since the first trial began{_pause_note(pauses)}")
    axes.yaxis.set_major_locator(NullLocator() if paused else MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.grid(False, axis="y")
    legend(figure, axes)
    return figure


def _draw_bars(axes: Axes, how: str, spans: Sequence[Sequence[float]], lanes: Sequence[int], *, crowded: bool) -> None:
    """Draw the trials of one outcome, each at least a pixel wide."""
    if not spans:
        return
    left, right = axes.get_xlim()
    look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0 if crowded else 0.5}
    if how == "running":
        look = {"edgecolor": GREY, "linewidth": 0.8, "hatch": "///"}
    widths = [max(end - begin, (right - left) / 700) for begin, end in spans]
    starts = [begin for begin, _ in spans]
    label = f"{_label(how)} ({len(spans)})"
    axes.barh(lanes, widths, left=starts, height=0.72, facecolor=COLOUR[how], label=label, **look)


def _pause_note(pauses: Sequence[Span]) -> str:
    long = sum(end - begin for begin, end in pauses)
    label = f"{long / 3600:,.1f} hours" if long >= 2 * 3600 else f"{long / 60:,.0f} minutes"
    if not pauses:
        return ""
    if len(pauses) == 1:
        return f"; a pause of {label} is left out at the dashed line"
    return f"; {len(pauses)} pauses, {label} in all, are left out at the dashed lines"


@picture
def _fronts(view: StudyData) -> Figure:
    pairs = list(combinations(range(min(len(view.directions), PANELS)), 2))
    figure = Figure(figsize=(WIDTH, 4.6 if len(pairs) == 1 else 3.8))
    panels = list(figure.subplots(1, len(pairs), squeeze=False)[0])
    for axes, pair in zip(panels, pairs, strict=True):
        _draw_front(axes, view, *pair)
    panels[0].set_title("Pareto front")
    legend(figure, panels[0])
    return figure


def _draw_front(axes: Axes, view: StudyData, across: int, up: int) -> None:
    """Draw two objectives of all complete trials, the front in colour."""
    front, bend = pareto_front(view), knee(view)
    limits = []
    for objective, axis in ((across, "x"), (up, "y")):
        more = view.directions[objective] == "maximize"
        values, kept = ([trial.values[objective] for trial in trials] for trials in (view.completed, front))
        limits.append(scale(axes, values, 1.0 if more else -1.0, axis=axis, keep=kept))
        getattr(axes, f"set_{axis}label")(f"{view.objectives[objective]} ({'more' if more else 'less'} is better)")
    best = {trial.number for trial in front}
    others = [(t.values[across], t.values[up]) for t in view.completed if t.number not in best]
    beyond = sum(any(not low <= value <= high for value, (low, high) in zip(p, limits, strict=True)) for p in others)
    if others:
        label = f"dominated ({len(others)}{f', of which {beyond} beyond the axes' if beyond else ''})"
        axes.scatter([x for x, _ in others], [y for _, y in others], s=18, color="#B5B5B5", linewidths=0, label=label)
    points = sorted((t.values[across], t.values[up]) for t in front)
    if len(view.directions) == 2:  # what the front dominates lies behind the steps
        less = view.directions[across] == "minimize"
        axes.step(*zip(*points, strict=True), where="post" if less else "pre", color=BLUE, linewidth=1.2)
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, markersize=6, label=f"on the front ({len(front)})")
    if bend is not None:
        star(axes, bend.values[across], bend.values[up], f"knee: trial {bend.number}", color=ORANGE)


@picture
def _score_against_cost(view: StudyData) -> Figure:
    unit, cost = costs(view)
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    trials = [trial for trial in view.ranking if trial.number in cost]
    points = {trial.number: (cost[trial.number], view.score(trial) or 0.0) for trial in trials}
    front = [points[trial.number] for trial in cost_front(view)]
    scale(axes, [x for x, _ in points.values()], -1.0, axis="x", percentile=100)
    reached = [y for _, y in front]
    limits = scale(axes, [*reached, *(trial.values[0] for trial in view.completed)], view.sign, keep=reached)
    axes.step(*zip(*front, strict=True), where="post", color=GREEN, zorder=1.5, label="best for its cost")
    for how, label in (("pruned", "pruned, at what it had reached"), ("complete", "complete")):
        drawn = [points[trial.number] for trial in trials if trial.outcome == how]
        if drawn:
            dots(axes, drawn, limits, f"{label} ({len(drawn)})", hollow=how == "pruned")
    if (best := view.best) is not None and best.number in points:
        star(axes, *points[best.number], f"best: trial {best.number}")
    axes.set_title(f"{view.objective} against what a trial cost" + log_note(axes))
    label = f"{unit if unit == 'seconds' else _unit(view)} of the trial"
    axes.set_xlabel(label + (", log scale" if axes.get_xscale() == "log" else ""))
    legend(figure, axes)
    return figure


@picture
def _best_of_n(view: StudyData, found: Sequence[BestOfN], marked: set[int], confidence: float) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    many, spent = found[-1].n, sum(trained(view).values())
    what = "complete trials" if view.with_outcome("pruned") else "trials"
    each = spent / many if spent else 1.0
    cost, low, high = zip(*((each * entry.n, entry.low, entry.high) for entry in found), strict=True)
    shown = [entry for entry in found if entry.n >= max(2, many / 10)]  # one trial alone may be far off
    axes.set_xlim(0, cost[-1] * 1.18)  # room for the last label
    scale(axes, [end for entry in shown for end in (entry.low, entry.mean, entry.high)], view.sign, percentile=100)
    band = f"{100 * confidence:g} % of resampled studies"
    axes.fill_between(cost, low, high, color=SKY, alpha=0.3, linewidth=0, label=band)
    axes.plot(cost, [entry.mean for entry in found], color=BLUE, label=f"expected best of n {what}")
    if view.best is not None:
        axes.axhline(view.best.values[0], color=GREY, linestyle=DASHED, linewidth=1.2, label="best of this study")
    for entry in (entry for entry in found if entry.n in marked):
        axes.plot([each * entry.n], [entry.mean], "o", color=BLUE, markersize=7)
        label = f"n = {entry.n}: {format_value(entry.mean)}"
        label_point(axes, label, each * entry.n, entry.mean, below=view.maximizes)
    axes.set_title(f"Expected best {view.objective} of n {what}" + log_note(axes))
    share = f"{each:,.3g} each{', with what was pruned beside them' if view.with_outcome('pruned') else ' on average'}"
    axes.set_xlabel(f"{_unit(view)} trained: n {what}, {share}" if spent else f"n {what}")
    if spent:
        top = axes.secondary_xaxis("top", functions=(lambda x: np.asarray(x) / each, lambda n: np.asarray(n) * each))
        top.set_xlabel(f"n {what}")
        top.grid(False)
        top.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    legend(figure, axes)
    return figure


def _unit(view: StudyData) -> str:
    """Return what reports of a trial count: epochs, or the steps of a study of another program."""
    return "epochs" if view.origin.program or view.origin.folder else "steps"


def _label(how: str) -> str:
    return how.replace("_", " ")


def _columns(rows: Sequence[Mapping[str, float]], name: str) -> dict[str, Line]:
    """Return epochs and finite values of a loss or score, of training and of validation."""
    found: dict[str, Line] = {}
    for part in ("train", "validation"):
        pairs = [(row["epoch"], row.get(f"{part}_{name}", math.nan)) for row in rows]
        finite = [(epoch, value) for epoch, value in pairs if math.isfinite(value)]
        found[part] = ([epoch for epoch, _ in finite], [value for _, value in finite])
    return found
