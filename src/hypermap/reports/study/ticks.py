"""What is written along a parameter's axis: natural values, on the scale on which it was searched, and names."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hypermap.reports.run.pictures import short
from hypermap.reports.run.wording import value as written
from hypermap.reports.study.ranges import edges
from hypermap.reports.study.view import Parameter

TOLERANCE = 1e-9

GRID = 100
"""Cells of a contour's background along each side."""


def ticks(axis: Parameter, gap: float, *, ends: bool = False) -> list[tuple[float, str]]:
    """Return places along an axis, from 0 to 1, and what to write there; of choices, every one if there is room.

    Of a range, the roundest values come first, with `ends` its two ends before them, and others where they are at
    least `gap` from those.
    """
    if axis.choices is not None:
        every = math.ceil(len(axis.choices) * gap / 2)
        return [(axis.unit(choice), written(choice)) for choice in axis.choices[::every]]
    low, high = axis.bounds
    if low == high:
        return [(0.5, plain(low))]
    found: list[tuple[float, float]] = []
    for value in [*((low, high) if ends else ()), *_candidates(axis)]:
        if low - TOLERANCE * abs(low) <= value <= high + TOLERANCE * abs(high):
            unit = min(max(axis.unit(min(max(value, low), high)), 0.0), 1.0)
            if all(abs(unit - other) >= gap for other, _ in found):
                found.append((unit, value))
    if len(found) < 2:  # a narrow range, or a scale of somebody's own
        found = [(0.0, low), (1.0, high)]
    return [(unit, plain(value)) for unit, value in sorted(found)]


def plain(value: float) -> str:
    """Return a number in few letters: 0.001, but 1e-5."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def mark(axes: Axes, axis: Parameter, edge: float | None = None, *, gap: float = 0.2, vertical: bool = False) -> None:
    """Write natural values along one side of a panel, and shade the zones in which a best trial is at the edge."""
    marks = ticks(axis, gap)
    labels = [clipped(label, 14) for _, label in marks]
    middles = cells(axis)
    if vertical:
        axes.set_yticks([at for at, _ in marks], labels)
        axes.set_ylim(middles[0], middles[-1])
        return
    slanted = axis.choices is not None and sum(map(len, labels)) > 16
    axes.set_xticks([at for at, _ in marks], labels, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    axes.set_xlim(middles[0] - 0.02, middles[-1] + 0.02)
    axes.tick_params(labelsize=8.5)
    if edge is not None and (margins := edges(axis, edge)) is not None:
        for start, end in ((middles[0] - 0.02, margins[0]), (1 - margins[1], middles[-1] + 0.02)):
            axes.axvspan(start, end, color="#F3E8D2", linewidth=0, zorder=0, label="at the edge")


def cells(axis: Parameter) -> NDArray[np.float64]:
    """Return the middles of a contour's cells along an axis, with half a choice to spare beyond the first and the
    last.
    """
    spare = 0.5 / max(len(axis.choices) - 1, 2) if axis.choices is not None else 0.03
    return np.linspace(-spare, 1 + spare, GRID)


def tail(name: str, letters: int) -> str:
    """Return a name that fits: its end tells more than its beginning."""
    return name if len(name) <= letters else "…" + name[1 - letters :].lstrip("._")


def clipped(label: str, letters: int) -> str:
    """Return a value that fits: both its ends may be what tells it from others."""
    half = letters // 2
    return label if len(label) <= letters else f"{label[: letters - half - 1]}…{label[-half:]}"


def beside(labels: Sequence[str], letters: int) -> tuple[list[str], bool]:
    """Return labels of values or ranges on up to three lines, and whether they fit beside one another in so many
    letters.
    """
    kept = [clipped(label, 22) for label in labels]
    for between in (" to ", "\nto ", "\nto\n"):
        lines = [label.replace(" to ", between) for label in kept]
        if max(len(line) for label in lines for line in label.splitlines() or [""]) * len(lines) <= letters:
            return lines, True
    return kept, False


def wrapped(name: str) -> str:
    """Return a dotted name on as many lines as it needs to stand beside others."""
    lines = [""]
    for part in re.findall(r"[^._]+[._]?|[._]", name):
        if lines[-1] and len(lines[-1] + part) > 12:
            lines.append("")
        lines[-1] += part
    return "\n".join(short(line, 13) for line in lines[-3:])


def _candidates(axis: Parameter) -> list[float]:
    """Return values that may be written, those that say most about the scale first."""
    low, high = axis.bounds
    linear = list(map(float, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)))
    if axis.scale == "linear":
        return linear
    if axis.scale == "pow2":
        powers = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
        return [2.0**k for k in (*powers[::2], *powers[1::2])]
    tens = [10.0**k for k in range(-12, 13)]
    below_one = [1 - ten for ten in tens if ten < 1]
    finer = [factor * ten for ten in tens for factor in (2, 5)]
    complements = [1 - value for value in finer if value < 1]
    if axis.scale == "one_minus_log":
        return [*below_one, 0.0, *complements, *linear]
    if axis.scale == "logit":
        return [0.5, *tens, *below_one, *finer, *complements]
    if axis.scale == "log":
        return [*tens, *finer, *linear]
    return [0.0, *tens, *(-ten for ten in tens), *finer, *(-value for value in finer), *linear]
