"""Test rows that a model may have seen: those whose inputs equal those of a row outside the test set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypermap.reports.run import wording
from hypermap.reports.run.baseline_table import BaselineTable
from hypermap.reports.run.diagnosis import Finding

FEW = 10
"""Rows without a twin that say too little to be scored."""

Intervals = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Twins:
    """The score on the test rows without a twin, beside that on all.

    Attributes:
        count: of test rows that have a twin outside the test set.
        rows: of the test set.
        test: the metrics on those without one; empty if they are fewer than `FEW`.
        intervals: of these.
        others: other models on these rows.
    """

    count: int
    rows: int
    test: Mapping[str, float]
    intervals: Intervals
    others: Sequence[BaselineTable]


def finding(twins: Twins, metric: str, test: Mapping[str, float], level: str, *, separable: bool) -> Finding:
    """Return the count in one sentence, with both scores; `separable` says that another split could avoid them."""
    said = (
        f"{twins.count:,} of {twins.rows:,} test rows ({twins.count / twins.rows:.0%}) have the same inputs as a row "
        "that was learned from or validated on"
    )
    if metric not in twins.test or metric not in test:
        return Finding("duplicates", f"{said}; the others are too few to be scored.")
    apart = wording.interval(metric, twins.intervals, " to ")
    remedy = "; `data.duplicates=group` keeps such rows on one side of every split" if separable else ""
    return Finding(
        "duplicates",
        f"{said}: the test {metric} is {wording.metric(metric, twins.test[metric])} ({level} interval {apart}) on the "
        f"{twins.rows - twins.count:,} others, and {wording.metric(metric, test[metric])} on all{remedy}.",
    )


def section(
    twins: Twins,
    model: str,
    metric: str,
    test: Mapping[str, float],
    intervals: Intervals,
    others: Sequence[BaselineTable],
    level: str,
) -> str:
    """Return a table of all models' scores on all test rows and on those without a twin."""
    header = ("model", f"{metric}, all", f"{level} interval", f"{metric}, without twins", f"{level} interval")
    lines = [
        (f"**{model}** (this run)", *_cells(metric, test, intervals), *_cells(metric, twins.test, twins.intervals))
    ]
    apart = {other.name: other for other in twins.others}
    for other in sorted(others, key=lambda other: -apart[other.name].test.get(metric, float("-inf"))):
        own = _cells(metric, apart[other.name].test, apart[other.name].intervals)
        lines.append((other.name, *_cells(metric, other.test, other.intervals), *own))
    return wording.table(header, lines)


def _cells(metric: str, test: Mapping[str, float], intervals: Intervals) -> tuple[str, str]:
    return wording.metric(metric, test[metric]) if metric in test else "", wording.interval(metric, intervals)
