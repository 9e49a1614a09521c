"""The report's pictures, each a function that returns the bytes of a PNG: the same bytes for the same numbers.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from hypermap.reports.run.plots import Roc, Rows

BLUE, ORANGE, GREEN, VERMILLION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, "#CC79A7", SKY, "#000000")
GREY, FAINT = "#6E6E6E", "#D8D8D8"

WIDTH = 9.0
"""Inches of a full-width picture: with DOTS, as wide as a pull request's text."""

DOTS = 110
"""Dots per inch."""

LIMIT = 100_000
"""Bytes that no picture exceeds in Git."""

STYLE = {
    "figure.dpi": DOTS,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#333333",
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EBEBEB",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}

SHADES = LinearSegmentedColormap.from_list("white to blue", ["#FFFFFF", SKY, BLUE, "#003B5C"])

NUMBERED = 25
"""Classes up to which a confusion matrix has its counts written into it."""

NAMED = 50
"""Classes up to which every one has its name on the axes; beyond, every tenth or so."""

HIGHLIGHTED = 3
"""ROC curves drawn in colour when there are many: those of the least area."""

PIXELS = 64
"""Pixels at most along a side of a shown image; of larger ones, blocks are averaged."""

SCATTERED = 2000
"""Points at most in a scatter plot: more only hide one another."""

P = ParamSpec("P")


def picture(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make a function that draws a figure return it as a PNG, in this module's style whatever a user's own is."""

    @functools.wraps(draw)
    def png(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with matplotlib.style.context(STYLE, after_reset=True):
            return _encoded(draw(*args, **kwargs))

    return png


@picture
def learning_curves(history: Sequence[dict[str, Any]], best_epoch: int, score: str) -> Figure:
    """Return loss and score of training and validation, learning rate and gradient norm; `score` is the score's
    name.
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) <= 15 else None
    for column, name in enumerate(("loss", "score")):
        for part, colour in (("validation", VERMILLION), ("train", BLUE)):
            values = [row[f"{part}_{name}"] for row in history]
            label = {"train": "training", "validation": "validation"}[part]
            axes[0, column].plot(epochs, values, color=colour, marker=marker, label=label)
    for column, (name, title) in enumerate((("learning_rate", "learning rate"), ("gradient_norm", "gradient norm"))):
        axes[1, column].plot(epochs, [row[name] for row in history], color=GREY, marker=marker, linewidth=1.4)
        axes[1, column].set(title=title, xlabel="epoch")
        axes[1, column].set_ylim(0, 1.2 * max(*(row[name] for row in history), 1e-12))
        axes[1, column].yaxis.set_major_locator(MaxNLocator(3))
    _log_if_wide(axes[0, 0], [row[f"{part}_loss"] for row in history for part in ("train", "validation")])
    axes[0, 0].set_title("loss" + (", log scale" if axes[0, 0].get_yscale() == "log" else ""))
    axes[0, 1].set_title(score)
    _widen(axes[0, 1], 0.05)
    for axis in axes.flat:
        axis.axvline(best_epoch, color=GREEN, linestyle=(0, (4, 2)), linewidth=1.4, zorder=0.9, label="kept epoch")
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes[0, 0].set_xlim(1 - 0.03 * len(epochs), 1.03 * len(epochs))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    order = [labels.index(label) for label in ("training", "validation", "kept epoch")]
    labels[labels.index("kept epoch")] = f"kept epoch ({best_epoch} of {len(epochs)})"
    figure.legend([handles[k] for k in order], [labels[k] for k in order], loc="outside upper right", ncols=3)
    return figure


@picture
def confusion(counts: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Return rows of each actual class (down) by predicted class (across); the colour is the share of the actual
    class.
    """
    number = len(classes)
    size = min(max(3.4, 1.5 + 0.42 * number), WIDTH - 1)
    figure = Figure(figsize=(size + 1, size))
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1)
    step = 1 if number <= NAMED else -(-number // 10)
    names = [short(name) for name in classes[::step]]
    slanted = max(len(name) for name in names) > 3
    axes.set_xticks(range(0, number, step), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(0, number, step), names)
    axes.set(xlabel="predicted", ylabel="actual", title="Rows of the test set")
    axes.grid(False)
    if number <= NAMED:  # fine lines between the cells guide the eye to both names
        axes.set_xticks(np.arange(0.5, number - 1), minor=True)
        axes.set_yticks(np.arange(0.5, number - 1), minor=True)
        axes.grid(True, which="minor", color="#EBEBEB", linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0)
    axes.tick_params(labelsize=9 if number <= 20 else 7)
    if number <= NUMBERED:
        _write_counts(axes, counts, shares)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of actual class").outline.set_visible(False)
    return figure


@picture
def roc_and_calibration(curves: Sequence[Roc], bins: Rows) -> Figure:
    """Draw ROC curves beside a reliability diagram with the rows of each bin below it."""
    figure = Figure(figsize=(WIDTH, 4.3))
    halves = figure.subfigures(1, 2, squeeze=False)[0]
    _draw_roc(halves[0].subplots(), curves)
    top, bottom = halves[1].subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _draw_calibration(top, bottom, bins)
    return figure


@picture
def predictions(images: NDArray[Any], titles: Sequence[tuple[str, str]], right: int) -> Figure:
    """Return a grid of pictures: the first `right` are right, the others mistakes, the worst first.

    `images` (pictures, 1 or 3, height, width), with values from 0 to 1; `titles` a first and a second line each.
    """
    columns = 6
    groups = [("Right", GREEN, range(right)), ("The worst mistakes", VERMILLION, range(right, len(images)))]
    groups = [group for group in groups if len(group[2])]
    rows = [-(-len(chosen) // columns) for _, _, chosen in groups]
    figure = Figure(figsize=(WIDTH, sum(1.9 * count + 0.35 for count in rows)))
    parts = figure.subfigures(len(groups), 1, height_ratios=[1.9 * count + 0.35 for count in rows], squeeze=False)
    for part, (title, colour, chosen), count in zip(parts.flat, groups, rows, strict=True):
        part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
        cells = list(part.subplots(count, columns, squeeze=False).flat)
        for axes in cells:
            axes.axis("off")
        for axes, index in zip(cells, chosen, strict=False):
            _draw_image(axes, images[index], titles[index], colour)
    return figure


@picture
def residuals(targets: NDArray[Any], values: NDArray[Any]) -> Figure:
    """Draw predicted against actual values, and the residual (actual - predicted) against the predicted value."""
    figure = Figure(figsize=(WIDTH, 4.2))
    left, right = figure.subplots(1, 2)
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(SCATTERED, len(targets))).round().astype(int))
    actual, predicted = np.asarray(targets)[chosen], np.asarray(values)[chosen]
    dots: dict[str, Any] = {
        "s": 16,
        "color": BLUE,
        "alpha": 0.55 if len(chosen) < 500 else 0.25,
        "linewidths": 0,
    }
    shown = "" if len(chosen) == len(targets) else f" ({len(chosen):,} of {len(targets):,} rows)"
    left.scatter(predicted, actual, **dots)
    left.axline((float(actual.mean()),) * 2, slope=1, color=GREY, linestyle="--", linewidth=1.2)
    left.set(xlabel="predicted", ylabel="actual", title="Actual against predicted" + shown)
    right.scatter(predicted, actual - predicted, **dots)
    right.axhline(0, color=GREY, linestyle="--", linewidth=1.2)
    right.set(xlabel="predicted", ylabel="actual - predicted", title="Residuals")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if np.abs(axes.get_xlim()).max() >= 10_000:  # in full, they run into each other
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


@picture
def labels(names: Sequence[str], scores: NDArray[Any]) -> Figure:
    """Return precision, recall and F1 of each label, ``scores`` (3, labels), the first label at the top."""
    figure = Figure(figsize=(WIDTH, 1.1 + 0.26 * len(names)))
    axes = figure.subplots()
    places = np.arange(len(names))
    precision, recall, f1 = scores
    axes.hlines(
        places, np.minimum(precision, recall), np.maximum(precision, recall), color=FAINT, linewidth=3, zorder=1
    )
    drawn = [("precision", precision, "o", BLUE), ("recall", recall, "s", VERMILLION), ("F1", f1, "D", "#000000")]
    for name, values, marker, colour in drawn:
        axes.plot(values, places, marker, color=colour, label=name, markersize=5)
    axes.set_yticks(places, names)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.4, -0.6), title="Labels of the test set (rows that have them)")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def short(name: str, letters: int = 14) -> str:
    """Return a name that fits beside others: cut where it is longer."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _draw_roc(axes: Axes, curves: Sequence[Roc]) -> None:
    """Draw all curves in grey, those of the least area in colour and named; zoomed into the corner where they end."""
    ranked = sorted(curves, key=lambda curve: curve.area)
    for curve in ranked[HIGHLIGHTED:]:
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=FAINT, linewidth=1.2)
    for curve, colour in reversed(list(zip(ranked[:HIGHLIGHTED], (VERMILLION, BLUE, ORANGE), strict=False))):
        label = f"{short(curve.name)}: {curve.area:.4f}"
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=colour, label=label)
    span = _corner(min((curve.area for curve in curves), default=0.5))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2)
    axes.set(xlim=(-0.02 * span, span), ylim=(1 - span, 1 + 0.02 * span))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.set_title("ROC" if span == 1 else "ROC (upper left corner)")
    if curves:
        title = "least area" if len(curves) > HIGHLIGHTED else "area"
        axes.legend(title=title, loc="lower right", alignment="left", reverse=True)


def _corner(area: float) -> float:
    """Return the part of the ROC plane that has something to see: the curve keeps about sqrt(1 - area) off its
    corner.
    """
    return next((span for span in (0.05, 0.1, 0.2, 0.5) if span >= 3 * np.sqrt(1 - area)), 1.0)


def _draw_calibration(top: Axes, bottom: Axes, bins: Rows) -> None:
    """Draw accuracy against confidence with the bins' standard errors; how many rows each bin has, on a log scale."""
    confidence, accuracy, rows = (np.array([row[key] for row in bins]) for key in ("confidence", "accuracy", "rows"))
    smoothed = (accuracy * rows + 1) / (rows + 2)  # a bin that is all right has an error too
    error = np.sqrt(smoothed * (1 - smoothed) / rows)
    reach = [np.minimum(error, accuracy), np.minimum(error, 1 - accuracy)]
    top.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2)
    top.errorbar(confidence, accuracy, reach, color=BLUE, marker="o", markersize=5, linestyle="none", elinewidth=1.2)
    low = max(0.0, min(confidence.min(), 0.5) - 0.05)
    top.set(xlim=(low, 1.02), ylim=(-0.02, 1.04), ylabel="accuracy", title="Calibration (bars: standard errors)")
    bottom.bar(confidence, rows, width=0.02, color=BLUE)
    bottom.set_yscale("log")
    bottom.set(xlabel="confidence in the predicted class", ylabel="rows", ylim=(0.7, 2 * rows.max()))
    bottom.yaxis.set_major_formatter("{x:,.0f}")
    bottom.minorticks_off()


def _draw_image(axes: Axes, image: NDArray[Any], title: tuple[str, str], colour: str) -> None:
    image = _reduced(image)
    axes.imshow(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title[0], fontsize=9, color=colour, loc="center", pad=14)
    axes.text(
        0.5,
        1.03,
        title[1],
        transform=axes.transAxes,
        fontsize=8,
        color=GREY,
        ha="center",
        fontweight="normal",
    )


def _reduced(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image (channels, height, width) with at most `PIXELS` along each side."""
    channels, height, width = image.shape
    block = -(-max(height, width) // PIXELS)
    if block == 1 or min(height, width) < block:
        return image
    rows, columns = height // block, width // block
    cropped = image[:, : rows * block, : columns * block]
    return np.asarray(cropped.reshape(channels, rows, block, columns, block).mean(axis=(2, 4)))


def _write_counts(axes: Axes, counts: NDArray[Any], shares: NDArray[Any]) -> None:
    """Write counts above 0, in a colour that stands out from the cell's, smaller where there are more digits or
    classes.
    """
    size = max(5.0, min(10.5, 13 - 0.25 * len(counts) - 0.8 * len(f"{counts.max()}")))
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "#222222"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=size)


def _log_if_wide(axes: Axes, values: Sequence[float]) -> None:
    """Set a log scale where values are positive and span more than a factor of 30."""
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
        decades = np.log10(max(values) / min(values))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()


def _widen(axes: Axes, span: float) -> None:
    """Make the vertical axis show `span` at least, so that a trifle does not look like a difference."""
    low, high = axes.get_ylim()
    spare = max(0.0, span - (high - low)) / 2
    axes.set_ylim(low - spare, high + spare)


def _encoded(figure: Figure) -> bytes:
    """Return the PNG of a figure, without date or version; in fewer colours, or smaller, if it exceeds the limit."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    content = _png(image)
    for colours, shrink in ((256, 1), (64, 1), (16, 2)):
        if len(content) > LIMIT:
            content = _png(image.reduce(shrink).quantize(colours))
    return content


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")  # optimize=True takes four times as long, and saves three bytes in a hundred
    return buffer.getvalue()
