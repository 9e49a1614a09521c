"""A map of the test rows: each a point in the plane, neighbours together, so that one sees where the mistakes are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hypermap.core.typing import Floats
from hypermap.reports.run.pictures import COLOURS, FAINT, WIDTH, picture, short

POINTS = 1000
"""Rows on a map at most: t-SNE of more takes long, and points hide one another."""

LEAST = 5
"""Rows below which there is nothing to map."""

COMPONENTS = 50
"""Principal components that t-SNE is given at most, as its authors did it."""

PERPLEXITY = 30.0
"""How many neighbours a point is held together with, about: scikit-learn's default."""

COLOURED = 20
"""Classes with a colour of their own: the most frequent ones; the others are grey."""

LARGEST = 0.05
"""Share of the rows of a regression that are ringed: those with the largest residuals."""


@dataclass(frozen=True)
class Projection:
    """Places of rows in the plane; equal features make equal bytes, as one thread does the sums."""

    method: str
    """tsne or pca."""
    chosen: NDArray[np.int64]
    """(points,) which of the rows."""
    places: Floats
    """(points, 2)."""
    explained: tuple[float, float]
    """Of pca: the share of the features' variance along each axis."""


def project(features: NDArray[Any], method: str) -> Projection | None:
    """Return the map of rows ``(rows, n)``; None for the method ``none``, or where the rows are too few or all alike.

    ``tsne`` is van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html, begun at the first
    two principal components; ``pca`` are those components.
    """
    chosen = np.unique(np.linspace(0, len(features) - 1, min(POINTS, len(features))).round().astype(np.int64))
    points = np.asarray(features[chosen], np.float64)
    points = points[:, points.std(axis=0) > 0]
    if method == "none" or len(points) < LEAST or not points.shape[1]:
        return None
    if points.shape[1] == 1:
        points = np.column_stack([points, np.zeros(len(points))])
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # several threads would add in any order
        components, explained = _principal(points, COMPONENTS if method == "tsne" else 2)
        places = _neighbours(components) if method == "tsne" else components
    return Projection(method, chosen, places, (float(explained[0]), float(explained[1])))


@picture
def classes_map(placed: Projection, targets: NDArray[Any], predicted: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Return the rows coloured by their class, the mistakes ringed; `targets` and `predicted` are those of all rows."""
    figure, axes = _frame(placed)
    actual, wrong = targets[placed.chosen], (targets != predicted)[placed.chosen]
    counts = np.bincount(actual, minlength=len(classes))
    ranked = np.argsort(-counts, kind="stable")[:COLOURED]
    shown = sorted(int(k) for k in ranked if counts[k])
    others = ~np.isin(actual, shown)
    _dots(axes, placed.places[others], FAINT, f"{len(np.unique(actual[others]))} others")
    for k, colour in zip(shown, _palette(len(shown)), strict=False):
        _dots(axes, placed.places[actual == k], colour, short(classes[k]))
    _ring(axes, placed.places[wrong], f"mistake ({wrong.sum():,})")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


@picture
def values_map(placed: Projection, targets: NDArray[Any], predicted: NDArray[Any]) -> Figure:
    """Return the rows coloured by their value, those with the largest residuals ringed."""
    figure, axes = _frame(placed)
    actual, residual = targets[placed.chosen], np.abs(targets - predicted)[placed.chosen]
    low, high = np.percentile(actual, (2, 98))  # one far value must not make all others look alike
    points = axes.scatter(
        placed.places[:, 0], placed.places[:, 1], c=actual, cmap="viridis", vmin=low, vmax=high, s=16, linewidths=0
    )
    figure.colorbar(points, ax=axes, shrink=0.8, label="actual value", extend="both").outline.set_visible(False)
    worst = np.argsort(-residual, kind="stable")[: max(1, round(LARGEST * len(residual)))]
    _ring(axes, placed.places[worst], f"the {len(worst):,} largest residuals")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right")
    return figure


def caption(placed: Projection, rows: int, *, classifies: bool) -> str:
    """Return how to read the map of so many test rows."""
    count = f"{len(placed.chosen):,} of {rows:,}" if len(placed.chosen) < rows else f"{rows:,}"
    how = {
        "tsne": "t-SNE of what the model is given: neighbours stay together, while the size of a group and its "
        "distance from others mean little",
        "pca": "the first two principal components of what the model is given, which hold "
        f"{placed.explained[0]:.0%} and {placed.explained[1]:.0%} of its variance",
    }
    ringed = (
        "A ring among points of its own colour is a mistake the model need not make; one among points of another, or "
        "where colours mix, is of a row that these inputs hardly tell apart."
        if classifies
        else "Rings close together are a kind of row that the model does not know well."
    )
    return f"{count} test rows, by {how[placed.method]}. {ringed}"


def _principal(points: Floats, most: int) -> tuple[Floats, Floats]:
    """Return the first principal components, and the share of the variance that each holds."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components=min(most, *points.shape), random_state=0)
    return pca.fit_transform(points), pca.explained_variance_ratio_


def _neighbours(components: Floats) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(components) - 1) / 3)
    tsne = TSNE(init=_first_two(components), perplexity=perplexity, random_state=0)
    return np.asarray(tsne.fit_transform(components.astype(np.float32)), np.float64)


def _first_two(components: Floats) -> NDArray[np.float32]:
    """Return where t-SNE begins: as small as its authors, and scikit-learn, make it."""
    return np.asarray(components[:, :2] / components[:, 0].std() * 1e-4, np.float32)


def _frame(placed: Projection) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 5.6))
    axes = figure.subplots()
    axes.grid(False)
    if placed.method == "tsne":
        axes.set(xticks=[], yticks=[], title="Test rows, neighbours together (t-SNE)")
    else:
        labels = {f"{axis}label": f"component {k + 1} ({placed.explained[k]:.0%})" for k, axis in enumerate("xy")}
        axes.set(title="Test rows by their principal components", **labels)
    return figure, axes


def _dots(axes: Axes, places: Floats, colour: Any, label: str) -> None:
    if len(places):
        axes.scatter(places[:, 0], places[:, 1], s=16, color=colour, linewidths=0, alpha=0.85, label=label)


def _ring(axes: Axes, places: Floats, label: str) -> None:
    if len(places):
        axes.scatter(
            places[:, 0], places[:, 1], s=70, facecolors="none", edgecolors="#222222", linewidths=0.9, label=label
        )


def _palette(classes: int) -> Sequence[Any]:
    """Return colours that differ as far as so many can; few are those that colour-blind readers can tell apart."""
    if classes <= len(COLOURS):
        return COLOURS
    step = 2 if classes <= COLOURED // 2 else 1  # its colours come in pairs, a strong one and a pale one
    return [colormaps["tab20"](step * k) for k in range(classes)]
