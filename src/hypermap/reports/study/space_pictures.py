"""Pictures of a search space: what mattered, where the good trials are, and where the failures.

Each takes a study as its report sees it, and returns the bytes of a PNG, or None where there is nothing to draw. A
parameter is drawn on the scale on which it was searched, with its natural values written at it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from hypermap.core.typing import Floats
from hypermap.reports.run.pictures import BLUE, FAINT, GREY, ORANGE, SKY, VERMILLION, WIDTH, picture, short
from hypermap.reports.study.importance import Importances
from hypermap.reports.study.isolation import Isolated, Level, leaders, place
from hypermap.reports.study.sentences import percent
from hypermap.reports.study.ticks import beside, cells, clipped, mark, tail, ticks, wrapped
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import FAILURES, Parameter, StudyData, TrialData

BARS = 15
"""Parameters with a bar of their own; the others have one together."""

PANELS = 12
"""Slices at most."""

ISOLATED = 6
"""Panels at most of the isolation plot."""

COORDINATES = 8
"""Parameters at most of the parallel coordinates."""

LINES = 300
"""Trials at most of the parallel coordinates, and of all slices a dozen times as many: more hide one another."""

SEGMENTS = 500
"""Lines between two of the parallel coordinates at most: more do not fit into a small file."""

SMOOTH = 240
"""Such lines up to which they are drawn smooth: what is smooth takes more of a file."""

NOT_SET = -0.12
"""Where a line passes the axis of a parameter that its trial does not have."""

NEAR = 0.3
"""How far from a trial, as a share of the ranges, a contour's background still tells something."""

SHADES = LinearSegmentedColormap.from_list("better is darker", ["#CFE0EA", SKY, BLUE, "#003B5C"], N=12)

STAR: dict[str, Any] = {"marker": "*", "s": 190, "color": ORANGE, "edgecolors": "#222222", "linewidths": 0.9}
CROSS: dict[str, Any] = {"marker": "x", "s": 24, "color": VERMILLION, "linewidths": 1.3}


def importance(view: StudyData, found: Importances) -> bytes | None:
    """Return a bar for each parameter's share of importance, with its interval; the least ones together."""
    return _importance(view, found) if found.shares else None


def slices(view: StudyData, found: Importances | None, thresholds: Thresholds) -> bytes | None:
    """Return the score against each parameter, the most important first, with failures at the worse edge."""
    drawn = [*view.ranking, *view.with_outcome(*FAILURES)]
    axes = [axis for axis in _ordered(view, found) if any(place(axis, trial) is not None for trial in drawn)]
    return _slices(view, axes[:PANELS], found, thresholds.edge) if axes else None


def contour(view: StudyData, found: Importances) -> bytes | None:
    """Return the trials in the plane of the two most important parameters, over a smooth guess at what lies between
    them.

    The guess is from complete trials alone.
    """
    if found.pair is None:
        return None
    pair = view.axis(found.pair[0]), view.axis(found.pair[1])
    return _contour(view, *pair) if len(_plane(view, pair, _complete(view))[0]) >= 3 else None


def isolation(view: StudyData, isolated: Sequence[Isolated]) -> bytes | None:
    """Return the best score for each value of a parameter, with the noise of a score and the number of trials."""
    drawn = [one for one in isolated if any(_top(level) is not None for level in one.levels)]
    return _isolation(view, drawn[:ISOLATED]) if drawn else None


def parallel_coordinates(view: StudyData, found: Importances | None, thresholds: Thresholds) -> bytes | None:
    """Return a line for each trial through its parameters to its score, the best ones bold."""
    axes = _ordered(view, found)[:COORDINATES]
    return _parallel_coordinates(view, axes, thresholds.best) if axes and view.ranking else None


def _ordered(view: StudyData, found: Importances | None) -> list[Parameter]:
    """Return the parameters, the most important first, and then those of unknown importance as the study has them."""
    places = {name: k for k, name in enumerate(found.shares)} if found is not None else {}
    return sorted(view.axes, key=lambda axis: places.get(axis.name, len(places)))


@picture
def _importance(view: StudyData, found: Importances) -> Figure:
    names = list(found.shares)[: BARS if len(found.shares) > BARS + 1 else BARS + 1]
    rest = list(found.shares)[len(names) :]
    shares = [found.shares[name] for name in names]
    reach = [
        [found.shares[name] - found.low[name] for name in names],
        [found.high[name] - found.shares[name] for name in names],
    ]
    figure = Figure(figsize=(WIDTH, 1.1 + 0.29 * (len(names) + bool(rest))))
    axes = figure.subplots()
    axes.barh(range(len(names)), shares, color=SKY, height=0.66)
    axes.errorbar(shares, range(len(names)), xerr=reach, fmt="none", ecolor="#333333", elinewidth=1.2, capsize=3)
    ends = [found.high[name] for name in names]
    if rest:
        others = sum(found.shares[name] for name in rest)
        axes.barh(len(names), others, color=FAINT, height=0.66)
        shares, ends = [*shares, others], [*ends, others]
        names = [*names, f"{len(rest)} others"]
    axes.set_yticks(
        range(len(names)), [f"{tail(name, 40)}  {percent(share)}" for name, share in zip(names, shares, strict=True)]
    )
    axes.set(xlim=(0, 1.04 * max(ends)), ylim=(len(names) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(lambda share, _: percent(share))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(False, axis="y")
    of = f"{found.trials}{' complete' if view.with_outcome('pruned') else ''} trials"
    axes.set_title(f"Importance for {short(view.objective, 24)} ({found.evaluator}, {of})")
    axes.set_xlabel("share of the importance; lines: bootstrap intervals")
    return figure


@picture
def _slices(view: StudyData, chosen: Sequence[Parameter], found: Importances | None, edge: float) -> Figure:
    columns = len(chosen) if len(chosen) <= 2 else 4 if len(chosen) in (4, 7, 8) or len(chosen) > 9 else 3
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(WIDTH, 0.75 + 2.15 * rows if columns > 1 else 3.6))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    window = _window(view)
    shown = _evenly(view.ended, 12 * LINES // max(len(chosen), 6))
    few = f"; {len(shown)} of {len(view.ended)} trials" if len(shown) < len(view.ended) else ""
    for axes, axis in zip(panels.flat, chosen, strict=False):
        mark(axes, axis, edge, gap=0.2 if columns < 4 else 0.3)
        _draw_slice(axes, view, axis, shown, window)
        share = found.shares.get(axis.name) if found is not None else None
        size = 9.5 if columns > 2 else 10.5
        name = tail(axis.name, {1: 60, 2: 36, 3: 26, 4: 18}[columns])
        axes.set_title(name if share is None else f"{name}  {percent(share)}", fontsize=size)
    for axes in list(panels.flat)[len(chosen) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(short(view.objective, 24))
    handles: dict[str, Any] = {}
    for axes in panels.flat:
        handles.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    shares = ", with its share of the importance" if found is not None else ""
    order = [label for label in ("complete", "pruned", "far off", "failed", "best", "at the edge") if label in handles]
    figure.suptitle(f"{short(view.objective, 24)} by parameter{shares}{few}", x=0.01, ha="left", fontsize=9.5)
    figure.legend([handles[k] for k in order], order, loc="outside lower center", ncols=len(order))
    return figure


def _draw_slice(
    axes: Axes, view: StudyData, axis: Parameter, shown: Sequence[TrialData], window: tuple[float, float]
) -> None:
    """Draw a parameter: complete trials filled, pruned ones hollow, what is beyond the window or failed at its edge."""
    low, high = window
    off, lane = (low, low - 0.09 * (high - low)) if view.maximizes else (high, high + 0.09 * (high - low))
    dot: dict[str, Any] = {"s": 22 if len(shown) <= 150 else 9, "alpha": 0.75 if len(shown) <= 150 else 1}
    hollow = {"facecolors": "none", "edgecolors": BLUE, "linewidths": 0.9}
    filled: dict[str, Any] = {"color": BLUE, "linewidths": 0}
    if len(view.completed) <= 150:  # they stand out of many pruned ones
        filled["s"] = 22
    for how, style in (("pruned", hollow), ("complete", filled)):
        trials = [(x, view.score(trial)) for trial, x in _placed(axis, shown) if trial.outcome == how]
        points = [(x, score) for x, score in trials if score is not None]
        _scatter(axes, [(x, y) for x, y in points if low <= y <= high], label=how, **{**dot, **style})
        far = [(x, off) for x, y in points if not low <= y <= high]
        _scatter(axes, far, label="far off", marker="v" if view.maximizes else "^", color=GREY, linewidths=0, **dot)
    failures = [(x, lane) for trial, x in _placed(axis, shown) if trial.outcome in FAILURES]
    _scatter(axes, failures, label="failed", clip_on=False, **CROSS)
    if best := leaders(view, axis):
        top = [(x, trial.values[0]) for trial, x in _placed(axis, best)]
        _scatter(axes, top, label="best", clip_on=False, **{**STAR, "zorder": 4})
    spare = 0.07 * (high - low)
    reached = (lane,) if failures or view.with_outcome(*FAILURES) else ()
    axes.set_ylim(min((low, *reached)) - spare, max((high, *reached)) + spare)
    axes.yaxis.set_major_locator(MaxNLocator(5) if view.ranking else NullLocator())


def _complete(view: StudyData) -> list[TrialData]:
    """Return the complete trials, the best first."""
    return [trial for trial in view.ranking if trial.outcome == "complete"]


@picture
def _contour(view: StudyData, across: Parameter, up: Parameter) -> Figure:
    xy, scored = _plane(view, (across, up), _complete(view))
    _, pruned = _plane(view, (across, up), [trial for trial in view.ranking if trial.outcome == "pruned"])
    low, high = _window(view)
    scores = np.clip([trial.values[0] for trial in scored], low, high)
    norm, shades = Normalize(low, high), SHADES if view.maximizes else SHADES.reversed()
    figure = Figure(figsize=(0.8 * WIDTH, 4.6))
    axes = figure.subplots()
    x, y = cells(across), cells(up)
    guess = _smoothed(xy, scores, _snapped(across, x), _snapped(up, y))
    axes.pcolormesh(x, y, guess, cmap=shades, norm=norm, alpha=0.55, linewidth=0, rasterized=True)
    size = 34 if len(scored) <= 150 else 16
    spread, aside = (
        np.array([[_jittered(axis, one, place(axis, one) or 0.0) for axis in (across, up)] for one in trials])
        for trials in (scored, pruned)
    )
    if pruned:
        reached = shades(norm(np.clip([view.score(trial) or 0.0 for trial in pruned], low, high)))
        look = {"facecolors": "none", "edgecolors": reached, "linewidths": 1.3, "s": 0.6 * size}
        axes.scatter(aside[:, 0], aside[:, 1], label="pruned, at what it had reached", **look)
    dots = axes.scatter(
        spread[:, 0],
        spread[:, 1],
        c=scores,
        cmap=shades,
        norm=norm,
        s=size,
        edgecolors="#222222",
        linewidths=0.7,
        label="complete" if pruned else "trial",
    )
    both = [trial for trial in view.with_outcome(*FAILURES) if place(up, trial) is not None]
    failures = [(at, _jittered(up, trial, place(up, trial) or 0.0)) for trial, at in _placed(across, both)]
    _scatter(axes, failures, label="failed", **CROSS)
    if view.best is not None and view.best in scored:
        _scatter(axes, [tuple(spread[scored.index(view.best)])], label="best", **STAR)
    mark(axes, across)
    mark(axes, up, gap=0.12, vertical=True)
    axes.set(xlabel=tail(across.name, 60), ylabel=tail(up.name, 42))
    axes.set_title(f"{short(view.objective, 24)} between the two most important parameters")
    axes.grid(False)
    extend = "min" if view.maximizes else "max"
    far = min(view.sign * (view.score(trial) or 0.0) for trial in (*scored, *pruned)) < view.sign * (
        low if view.maximizes else high
    )
    bar = figure.colorbar(dots, ax=axes, label=view.objective, extend=extend if far else "neither", shrink=0.85)
    bar.outline.set_visible(False)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


@picture
def _isolation(view: StudyData, isolated: Sequence[Isolated]) -> Figure:
    columns = min(len(isolated), 3) if len(isolated) != 4 else 2
    rows = -(-len(isolated) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.6 * rows))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    levels = [level for one in isolated for level in one.levels if _top(level) is not None]
    window = _window(view)
    ends = [float(np.clip(_top(level) or 0.0, *window)) + k * (level.error or 0.0) for level in levels for k in (-1, 1)]
    low, high = np.clip([min(ends), max(ends)], -1e300, 1e300)  # room beyond must be a number, too
    spare = (high - low) or 0.05 * abs(high) or 1.0
    for axes, one in zip(panels.flat, isolated, strict=False):
        _draw_levels(axes, one.levels, window, 138 // columns, maximizes=view.maximizes)
        axes.set_ylim(low - 0.22 * spare, high + 0.12 * spare)
        axes.set_title(tail(one.name, {1: 60, 2: 44, 3: 28}[columns]))
    for axes in list(panels.flat)[len(isolated) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"best {short(view.objective, 24)}")
    noise = "; lines: ± one standard deviation of the noise" if any(level.error for level in levels) else ""
    off = "; grey: far off" if any(not window[0] <= (_top(level) or 0.0) <= window[1] for level in levels) else ""
    hollow = "; hollow: pruned" if any(level.best is None for level in levels) else ""
    figure.suptitle(
        f"Best trial for each value, whatever the others were; n: trials{noise}{off}{hollow}",
        fontsize=9.5, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _top(level: Level) -> float | None:
    """Return what is drawn of a level: its best complete trial or, where it has none, what a pruned one had reached."""
    return level.reached if level.best is None else level.best


def _draw_levels(
    axes: Axes, levels: Sequence[Level], window: tuple[float, float], letters: int, *, maximizes: bool
) -> None:
    """Draw a point a level, the best one in colour, those far off at the edge; the numbers of trials below."""
    known = [(k, level, top) for k, level in enumerate(levels) if (top := _top(level)) is not None]
    best = (max if maximizes else min)((level.best for level in levels if level.best is not None), default=None)
    for k, level, score in known:
        if window[0] <= score <= window[1]:
            colour = VERMILLION if level.best is not None and score == best else BLUE
            look: dict[str, Any] = {"color": colour, "markerfacecolor": "none" if level.best is None else colour}
            axes.errorbar(k, score, yerr=level.error or None, fmt="o", markersize=6, elinewidth=1.3, capsize=4, **look)
        else:
            axes.plot(k, window[0 if maximizes else 1], "v" if maximizes else "^", color=GREY, markersize=6)
    every = -(-len(levels) // 12)
    for k in range(0, len(levels), every):
        axes.text(
            k, 0.02, f"n={levels[k].trials}", transform=axes.get_xaxis_transform(), ha="center", fontsize=8, color=GREY
        )
    labels, fit = beside([levels[k].label for k in range(0, len(levels), every)], letters)
    turned: dict[str, Any] = {} if fit else {"rotation": 30, "ha": "right"}
    axes.set_xticks(range(0, len(levels), every), labels, fontsize=7.5, **turned)
    axes.set_xlim(-0.6, len(levels) - 0.4)
    axes.grid(False, axis="x")


@picture
def _parallel_coordinates(view: StudyData, chosen: Sequence[Parameter], best: int) -> Figure:
    top = (_complete(view)[:best] or view.ranking[:best])[::-1]  # the best is drawn last, over the others
    others = _evenly(view.ranking[len(top) :], max(min(LINES, SEGMENTS // len(chosen)) - len(top), 0))
    stopped, ended = ([t for t in others[::-1] if (t.outcome == "pruned") == pruned] for pruned in (True, False))
    low, high = _window(view)
    norm, shades = Normalize(low, high), SHADES if view.maximizes else SHADES.reversed()
    figure = Figure(figsize=(WIDTH, 4.4))
    axes = figure.subplots()
    axes.set_xlim(-0.35, len(chosen) + 0.45)
    thin = {"linewidths": 0.8, "antialiased": len(others) * len(chosen) <= SMOOTH}
    for trials, style in (
        (stopped, {**thin, "linestyles": [(0, (2, 3))]}),
        (ended, thin),
        (top, {"linewidths": 2.4, "zorder": 3}),
    ):
        scores = np.clip([view.score(trial) or 0.0 for trial in trials], low, high)
        lines = [
            [*enumerate(_line(trial, chosen)), (len(chosen), (score - low) / (high - low))]
            for trial, score in zip(trials, scores, strict=True)
        ]
        faded = shades(norm(scores)) if trials is top else 0.35 + 0.65 * shades(norm(scores))
        colours = [ORANGE if trial is view.best else colour for trial, colour in zip(trials, faded, strict=True)]
        axes.add_collection(LineCollection(lines, colors=colours, capstyle="round", **style))
    absent = any(place(axis, trial) is None for trial in view.ranking for axis in chosen)
    for k, axis in enumerate(chosen):
        _draw_coordinate(axes, k, ticks(axis, 0.17, ends=True))
    step = [(tick - low) / (high - low) for tick in MaxNLocator(5).tick_values(low, high)]
    labels = [f"{tick:.4g}" for tick in MaxNLocator(5).tick_values(low, high)]
    _draw_coordinate(axes, len(chosen), [(y, label) for y, label in zip(step, labels, strict=True) if 0 <= y <= 1])
    names = [wrapped(axis.name) for axis in chosen] + [wrapped(view.objective)]
    axes.set_xticks(range(len(names)), names, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([NOT_SET] if absent else [], ["not set"] if absent else [])
    axes.set(ylim=((NOT_SET if absent else 0) - 0.05, 1.05))
    axes.spines[:].set_visible(False)
    axes.grid(False)
    shown = len(top) + len(others)
    of = "" if shown == len(view.ranking) else f"{shown} of {len(view.ranking)} trials, "
    bold = f", bold: the best {len(top)}{', orange: the best' if view.best is not None else ''}"
    dashed = ", dashed: pruned" if stopped else ""
    axes.set_xlabel(f"{of}darker is better{bold}{dashed}" if len(view.ranking) > 1 else "one trial")
    return figure


def _draw_coordinate(axes: Axes, x: int, marks: Sequence[tuple[float, str]]) -> None:
    letter = (axes.get_xlim()[1] - axes.get_xlim()[0]) / 300
    axes.plot([x, x], [0, 1], color=GREY, linewidth=1, zorder=4)
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}
    for y, label in marks:
        axes.plot([x, x + letter], [y, y], color=GREY, linewidth=1, zorder=4)
        axes.text(x + 2 * letter, y, clipped(label, 11), fontsize=8, va="center", color="#222222", zorder=5, bbox=box)


def _line(trial: TrialData, axes: Sequence[Parameter]) -> list[float]:
    places = [place(axis, trial) for axis in axes]
    return [NOT_SET if at is None else _jittered(axis, trial, at, 0.06) for axis, at in zip(axes, places, strict=True)]


def _evenly(trials: Sequence[TrialData], number: int) -> list[TrialData]:
    """Return so many of the trials at most, spread evenly over the list."""
    chosen = np.linspace(0, len(trials) - 1, min(number, len(trials))).round().astype(int)
    return [trials[k] for k in chosen]


def _placed(axis: Parameter, trials: Sequence[TrialData]) -> list[tuple[TrialData, float]]:
    """Return the trials that have the parameter, and where along its axis they are drawn."""
    places = [(trial, place(axis, trial)) for trial in trials]
    return [(trial, _jittered(axis, trial, at)) for trial, at in places if at is not None]


def _jittered(axis: Parameter, trial: TrialData, at: float, share: float = 0.3) -> float:
    """Return a place along the axis; of a choice a little aside, by the trial's number, so that equals do not hide."""
    if axis.choices is None:
        return at
    aside = (trial.number * 0.6180339887) % 1 - 0.5
    return at + aside * share / max(len(axis.choices) - 1, 2)


def _plane(
    view: StudyData, pair: tuple[Parameter, Parameter], trials: Sequence[TrialData]
) -> tuple[Floats, list[TrialData]]:
    """Return the places (trials, 2) of those trials that have both parameters, and the trials."""
    places = [(place(pair[0], trial), place(pair[1], trial)) for trial in trials]
    kept = [k for k, (x, y) in enumerate(places) if x is not None and y is not None]
    return np.array([places[k] for k in kept], dtype=float).reshape(-1, 2), [trials[k] for k in kept]


def _smoothed(xy: Floats, scores: Floats, x: Floats, y: Floats) -> NDArray[np.float64]:
    """Return a smooth surface through the mean of equal points (y, x); masked where no trial is near."""
    # Moved by 1: at 0 the k-d tree splits equal points at a denormal, which training flushes to 0, and never ends.
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) + 1
    surface = RBFInterpolator(xy + 1, scores, kernel="linear", degree=0, smoothing=0.05, neighbors=min(len(xy), 60))
    far = cKDTree(xy + 1).query(grid)[0] > NEAR
    return np.ma.masked_array(surface(grid), far).reshape(len(y), len(x))


def _snapped(axis: Parameter, cells: Floats) -> Floats:
    """Return the places at which the surface is asked for; between two choices there is nothing."""
    if axis.choices is None:
        return np.clip(cells, 0, 1)
    last = len(axis.choices) - 1
    return np.clip((cells * last).round() / last, 0, 1) if last else np.full_like(cells, 0.5)


def _window(view: StudyData) -> tuple[float, float]:
    """Return the scores that are drawn: what is much worse than the middle half would flatten the rest."""
    scores = np.array([view.score(trial) for trial in view.ranking], dtype=float) * view.sign
    scores = np.clip(scores, -1e100, 1e100)
    if not len(scores):
        return 0.0, 1.0
    best, middle = scores.max(), np.quantile(scores, 0.25)
    worst = max(scores.min(), middle - 1.5 * (best - middle))
    if not 1e-12 * max(abs(best), 1e-300) < best - worst < math.inf:
        worst, best = best - (0.05 * abs(best) or 1.0), best + (0.05 * abs(best) or 1.0)
    low, high = sorted((float(view.sign * worst), float(view.sign * best)))
    return low, high


def _scatter(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    if points:
        axes.scatter(*zip(*points, strict=True), **{"zorder": 3, **style})
