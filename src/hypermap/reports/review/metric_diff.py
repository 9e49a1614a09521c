"""The metrics of two states of the project, and whether a difference is beyond the noise."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeGuard

import yaml

from hypermap.core.errors import UserError
from hypermap.tasks.metrics import higher_is_better

Pair = tuple[Any, Any]
"""A value at the base and now; None where it is not there."""

Differences = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By file and name, a mapping with ``old`` and ``new``."""

PREPROCESS, EVALUATE = "reports/config/preprocess.yaml", "reports/config/evaluate.yaml"
SPLITS = ("validation", "test")

SAME_ROWS = ("data.scaling", "data.root")
"""Settings of the data that leave the choice of rows as it is."""

LEADING = ("validation_accuracy", "validation_r2", "validation_loss", "test_accuracy", "test_r2")
"""What the headline is about: the first of these that both sides have."""


@dataclass(frozen=True)
class Side:
    """One of the two states.

    Attributes:
        name: what a reader calls it, in Markdown.
        read: the text of a file by its path from the project's folder; None where it is not there.
        address: what stands before such a path in a link; None where it cannot be linked to.
    """

    name: str
    read: Callable[[str], str | None]
    address: str | None = None


@dataclass(frozen=True)
class MetricDiff:
    """A metric on both sides.

    Attributes:
        margin: half the width of the 95 % interval of the change; None where it is not known.
    """

    name: str
    before: Any
    now: Any
    margin: float | None = None

    @property
    def change(self) -> float | None:
        """Return the difference from the base to now; None where one of them is no number."""
        return self.now - self.before if is_number(self.before) and is_number(self.now) else None

    @property
    def is_better(self) -> bool | None:
        """Return whether the change is for the better; None where it did not change, or where it is not known which way
        is better.
        """
        if not self.change:
            return None
        try:
            return (self.change > 0) == higher_is_better(stem(self.name))
        except UserError:
            return None

    @property
    def is_beyond(self) -> bool | None:
        """Return whether the change is beyond the noise; None where that is not known."""
        return None if self.margin is None or self.change is None else abs(self.change) > self.margin


class MetricDiffs:
    """The metrics of both sides, and what is known of their noise.

    Attributes:
        all: those of validation first.
        other_rows: settings because of which the two sides scored different rows.
    """

    def __init__(self, before: Side, now: Side, metrics: Differences, params: Differences) -> None:
        """Read what the sides know of their noise; both mappings are as ``dvc … diff --json`` prints them."""
        data = params.get(PREPROCESS, {})
        self.other_rows = sorted(k for k, pair in data.items() if k not in SAME_ROWS and pair.get("old") is not None)
        pairs = [(name, pair) for entries in metrics.values() for name, pair in entries.items()]
        self.values = {name: (pair.get("old"), pair.get("new")) for name, pair in pairs}
        self.intervals = [read_json(side, "reports/intervals.json") for side in (before, now)]
        self.quantiles = [_quantile(side) for side in (before, now)]
        order = sorted(self.values, key=lambda name: (not name.startswith(SPLITS[0]), name))
        self.all = [MetricDiff(name, *self.values[name], margin=self._margin(name)) for name in order]

    @property
    def leading(self) -> MetricDiff | None:
        """Return what the headline is about."""
        known = {metric.name: metric for metric in self.all if metric.change is not None}
        return next((known[name] for name in LEADING if name in known), None)

    def fits(self, name: str) -> Pair:
        """Return the number of trainings that a metric is the mean of, on both sides; None where it is of one."""
        return self.values.get(f"{_split(name)}_fits", (None, None))

    def is_comparable(self, name: str) -> bool:
        """Return whether both sides scored the same rows in the same way."""
        before, now = self.fits(name)
        return not self.other_rows and (before is None) == (now is None)

    def _margin(self, name: str) -> float | None:
        """Return 1.96 standard errors of the change, both sides taken as independent."""
        if not self.is_comparable(name):
            return None
        error = self._error_of_rows if self.fits(name) == (None, None) else self._error_of_fits
        before, now = (error(name, side) for side in (0, 1))
        return None if before is None or now is None else NormalDist().inv_cdf(0.975) * math.hypot(before, now)

    def _error_of_rows(self, name: str, side: int) -> float | None:
        """Return the standard error by the bootstrap interval of a side."""
        split = self.intervals[side].get(_split(name))
        interval = split.get(stem(name)) if isinstance(split, dict) else None
        if not isinstance(interval, list) or len(interval) != 2 or not all(map(is_number, interval)):
            return None
        return float(interval[1] - interval[0]) / 2 / self.quantiles[side]

    def _error_of_fits(self, name: str, side: int) -> float | None:
        """Return the standard error of a mean over several trainings, of which only one metric has a deviation."""
        spread, count = self.values.get(f"{name}_std", (None, None))[side], self.fits(name)[side]
        return spread / math.sqrt(count) if is_number(spread) and is_number(count) and count > 1 else None


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def stem(name: str) -> str:
    """Return what is measured: a metric's name without that of its split."""
    return name.partition("_")[2] if _split(name) in SPLITS else name


def read_json(side: Side, path: str) -> dict[str, Any]:
    """Return a file's content; empty where it is not there or is damaged, since a review tells what it can."""
    try:
        content = json.loads(side.read(path) or "{}")
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _quantile(side: Side) -> float:
    """Return how many standard errors half of a side's bootstrap interval is, by the confidence that it was made
    with.
    """
    try:
        confidence = yaml.safe_load(side.read(EVALUATE) or "")["evaluation"]["confidence"]
        return NormalDist().inv_cdf((1 + float(confidence)) / 2)
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return NormalDist().inv_cdf(0.975)


def _split(name: str) -> str:
    return name.partition("_")[0]
