"""The picture of a comparison: the best score so far against the cost, and the scores at its end."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hypermap.reports.run.pictures import COLOURS, GREY, WIDTH, picture, short
from hypermap.reports.study.strategies import Comparison, Curve, Strategy

STYLES = list(itertools.product(("-", (0, (4, 2)), (0, (1, 1.2))), (*COLOURS, GREY)))
SETTLED = 0.15  # of the budget, after which every strategy's mean is to be seen


@picture
def comparison(drawn: Comparison) -> Figure:
    """Draw the mean of the seeds with the range of all of them; beside it each seed's score, the mean, its interval."""
    strategies = drawn.scored
    figure = Figure(figsize=(WIDTH, max(4.2, 1.2 + 0.3 * len(strategies))))
    left, right = figure.subplots(1, 2, sharey=False, width_ratios=[1.75, 1])
    styles = list(itertools.islice(itertools.cycle(STYLES), len(strategies)))
    for strategy, (line, colour) in reversed(list(zip(strategies, styles, strict=True))):
        x, low, mean, high = band(list(strategy.curves.values()))
        if len(strategy.curves) > 1:
            left.fill_between(x, low, high, step="post", color=colour, alpha=0.10, linewidth=0)
        left.step(x, mean, where="post", color=colour, linestyle=line)
    _draw_scores(right, strategies, styles)
    several = any(len(strategy.curves) > 1 for strategy in strategies)
    left.set_title(
        f"best validation {short(drawn.objective)} so far" + (": mean and range of the seeds" if several else "")
    )
    left.set(xlabel=f"{drawn.unit} {'trained' if drawn.unit == 'epochs' else 'ended'}, log scale", xscale="log")
    _label_logs(left.xaxis)
    _frame(left, strategies, drawn)
    right.set_title(
        f"after {drawn.budget:g} {drawn.unit}" + (f", {100 * drawn.confidence:g} % interval" if several else "")
    )
    right.set_xlabel(drawn.objective)
    return figure


def band(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], ...]:
    """Return cost, least, mean and greatest of step functions, from where all of them have begun."""
    start = max(points[0][0] for points in curves)
    x = np.array(sorted({start, *(cost for points in curves for cost, _ in points if cost > start)}), dtype=float)
    heights = []
    for points in curves:
        costs, scores = np.array(points, dtype=float).T
        heights.append(scores[np.searchsorted(costs, x, side="right") - 1])
    return x, np.min(heights, axis=0), np.mean(heights, axis=0), np.max(heights, axis=0)


def _draw_scores(axes: Axes, strategies: Sequence[Strategy], styles: Sequence[tuple[Any, str]]) -> None:
    """Draw the scores at the budget, the best strategy on top; the names are the legend of both halves."""
    for row, (strategy, (line, colour)) in enumerate(zip(strategies, styles, strict=True)):
        found = strategy.estimate
        assert found is not None
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=colour, alpha=0.3, linewidth=7, solid_capstyle="butt")
            axes.plot([found.low, found.high], [row, row], color=colour, linestyle=line, linewidth=1.2)
        scores = list(strategy.scores.values())
        axes.scatter(scores, [row] * len(scores), s=16, color=colour, edgecolors="white", linewidths=0.5, zorder=3)
        axes.scatter([found.mean], [row], marker="|", s=190, color=colour, linewidths=2.4, zorder=2.5)
    axes.set_yticks(range(len(strategies)), [short(strategy.name, 22) for strategy in strategies])
    for label, (_, colour) in zip(axes.get_yticklabels(), styles, strict=True):
        label.set(color=colour, fontweight="bold")
    axes.set_ylim(len(strategies) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _frame(axes: Axes, strategies: Sequence[Strategy], drawn: Comparison) -> None:
    """Show what curves do after the first trials, which may be far off and would hide the rest."""
    assert drawn.budget is not None
    means = [list(zip(*np.take(band(list(s.curves.values())), (0, 2), axis=0), strict=True)) for s in strategies]
    seen = [score for points in means for score in _from(points, SETTLED * drawn.budget)]
    ends = [score for strategy in strategies for score in strategy.scores.values()]
    low, high = min(*seen, *ends), max(*seen, *ends)
    if low > 0 and drawn.sign < 0:
        axes.set_yscale("log")
        spare = max(0.05 * math.log(high / low), 1e-3)
        axes.set_ylim(low * math.exp(-spare), high * math.exp(spare))
        axes.set_ylabel("log scale")
        if high > 3 * low:
            _label_logs(axes.yaxis, (1, 1.5, 2, 3, 5) if high < 10 * low else (1, 2, 5))
        else:
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
    else:
        spare = max(0.05 * (high - low), 1e-6 * max(abs(high), 1e-6))
        axes.set_ylim(low - spare, high + spare)


def _from(points: Curve, cost: float) -> list[float]:
    """Return the scores of a curve at a cost and beyond; all, where it begins later."""
    first = max((k for k, point in enumerate(points) if point[0] <= cost), default=0)
    return [score for _, score in points[first:]]


def _label_logs(axis: Any, subs: Sequence[float] = (1, 2, 5)) -> None:
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
