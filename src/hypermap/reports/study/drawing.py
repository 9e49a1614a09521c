"""What the pictures of a study's course share: scales that show the good trials apart, dots, labels, legends."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from hypermap.reports.run.pictures import BLUE, GREEN, SKY

WIDE = 30
"""Positive values where less is better are drawn on a log scale if they span more than this factor."""

DECADES = 250
"""Powers of ten beyond which a difference or a tick could overflow."""

Points = Sequence[tuple[float, float]]


def format_value(value: float) -> str:
    """Return a value to four significant digits; whole numbers and thousands in full, as far as one reads them."""
    if abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{value + 0.0:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:#.4g}"


def focus(values: Sequence[float], sign: float, percentile: float = 75, reach: float = 2.0) -> tuple[float, float]:
    """Return the range of the good ones of these values, when a few are far worse; some room about them, if all are
    equal.

    From the best to the worst of those that are no farther from it than `reach` times that percentile of the distances.

    Args:
        sign: 1 if more is better, -1 if less is.
    """
    ordered = sign * np.clip(
        [value for value in values if math.isfinite(value)] or [0.0], -(10.0**DECADES), 10.0**DECADES
    )
    distances = ordered.max() - ordered
    far = reach * float(np.percentile(distances, percentile))
    near = distances[distances <= far] if far > 0 else distances  # most are equal: then none is an exception
    best, worst = float(sign * ordered.max()), float(sign * (ordered.max() - near.max()))
    if best == worst:
        room = 0.05 * abs(best) or 0.5
        return best - room, best + room
    return min(best, worst), max(best, worst)


def scale(
    axes: Axes,
    values: Sequence[float],
    sign: float,
    *,
    axis: str = "y",
    percentile: float = 75,
    reach: float = 2.0,
    keep: Sequence[float] = (),
    floor: float = 0.0,
    room: float = 0.09,
) -> tuple[float, float]:
    """Let an axis show what `focus` says, on a log scale where a falling positive value is wide; returns the range.

    Args:
        keep: values that must be in the range too.
        floor: how much more to leave free at the lower end than `room`, as a share of the range.
        room: how much to leave free at both ends, likewise.
    """
    finite = _tame(values) or [0.0]
    log = sign < 0 and min(finite) > 0 and max(finite) > WIDE * min(finite)
    there, kept = ([math.log10(value) if log else value for value in given] for given in (finite, _tame(keep)))
    low, high = focus(there, sign, percentile, reach)
    low, high = min([low, *kept]), max([high, *kept])
    room *= high - low
    bottom, low, high = (
        10**end if log else end for end in (low - room - floor * (high - low), low - room, high + room)
    )
    getattr(axes, f"set_{axis}lim")(bottom, high)
    if log:
        getattr(axes, f"set_{axis}scale")("log")
        ticks = getattr(axes, f"{axis}axis")
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        ticks.set_major_formatter("{x:g}")
        ticks.set_minor_locator(NullLocator())
    return low, high


def _tame(values: Sequence[float]) -> list[float]:
    """Return the finite values, no larger than what can be drawn."""
    most = 10.0**DECADES
    return [min(max(value, -most), most) for value in values if math.isfinite(value)]


def log_note(axes: Axes) -> str:
    """Return what to add to a title if the vertical axis is logarithmic."""
    return ", log scale" if axes.get_yscale() == "log" else ""


def dots(axes: Axes, points: Points, limits: tuple[float, float], label: str, *, hollow: bool = False) -> None:
    """Draw trials as dots; those beyond the limits as triangles at the edge beyond which they are."""
    size = 26 if len(points) <= 100 else 14 if len(points) <= 400 else 8
    look: dict[str, Any] = {"facecolors": "none", "edgecolors": SKY, "linewidths": 1.1} if hollow else {"color": BLUE}
    inside = [point for point in points if limits[0] <= point[1] <= limits[1]]
    axes.scatter([x for x, _ in inside], [y for _, y in inside], s=size, label=label, zorder=2, **look)
    bottom, top = (axes.transAxes.inverted().transform(axes.transData.transform((1, end)))[1] for end in limits)
    for marker, height, beyond in (
        ("v", bottom + 0.025, [x for x, y in points if y < limits[0]]),
        ("^", top - 0.025, [x for x, y in points if y > limits[1]]),
    ):
        if beyond:
            edge = axes.get_xaxis_transform()
            heights = [height] * len(beyond)
            axes.scatter(beyond, heights, s=size, marker=marker, transform=edge, label="beyond the axis", **look)


def star(axes: Axes, x: float, y: float, label: str | None = None, **look: Any) -> None:
    """Draw the one that stands out."""
    look = {"color": GREEN, "edgecolors": "white", **look}
    axes.scatter([x], [y], marker="*", s=170, linewidths=0.8, zorder=5, label=label, **look)


def label_point(axes: Axes, text: str, x: float, y: float, *, below: bool) -> None:
    """Write text beside a point, above or below it, on the side where the picture has room."""
    left, right = axes.get_xlim()
    late = x > left + 0.86 * (right - left)
    axes.annotate(
        text,
        (x, y),
        xytext=(-8 if late else 8, -7 if below else 7),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top" if below else "bottom",
        fontsize=9,
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
    )


def legend(figure: Figure, *panels: Axes, columns: int = 4) -> None:
    """Write one legend above all panels, each label once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), loc="outside upper right", ncols=columns)
