"""Strategies to search one problem: their studies by seed, held against each other at the same cost."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.reports.run.wording import value as typed
from hypermap.reports.study.course import trained
from hypermap.reports.study.statistics import Difference, Estimate, difference, estimate
from hypermap.reports.study.view import StudyData, TrialData

Curve = list[tuple[float, float]]  # (cost, best score so far)

REPEAT = re.compile(r"(?P<strategy>.+)-s(?P<seed>0|[1-9]\d*)")
HASH = re.compile(r"-[0-9a-f]{6}(?=-)")  # in the name of a sweep that is not shipped
LETTERS = 80  # of a folder's name
NAMED = 3  # studies by name in a caveat
CAVEATS = 6


@dataclass(frozen=True)
class Strategy:
    """One way to search, and what came of it with each seed.

    Attributes:
        views: the studies, by seed.
        curves: of the studies with a complete trial within the common budget, cut there.
        rank: the mean over the seeds that all strategies have; 1 is the best. None where nothing was ranked.
        gap: how far it is behind the best one; what is better counts as positive. None of the best one itself.
    """

    name: str
    views: Mapping[int, StudyData]
    curves: Mapping[int, Curve]
    estimate: Estimate | None = None
    rank: float | None = None
    gap: Difference | None = None

    @property
    def scores(self) -> dict[int, float]:
        """Return the best score of each search at the common budget, by seed."""
        return {seed: points[-1][1] for seed, points in self.curves.items()}

    @property
    def apart(self) -> bool | None:
        """Return whether it is worse than the best beyond the seeds' noise; None where that cannot be said."""
        if self.gap is None or self.gap.low is None:
            return None
        return self.gap.low > 0

    @property
    def trials(self) -> float:
        """Return the trials of one search on average, those beyond the common budget too."""
        return fmean(len(view.ended) for view in self.views.values())

    @property
    def pruned(self) -> float:
        """Return how many of them were pruned."""
        return fmean(len(view.with_outcome("pruned")) for view in self.views.values())

    @property
    def epochs(self) -> float:
        """Return the epochs trained in one search on average, beyond the common budget too."""
        return fmean(sum(trained(view).values()) for view in self.views.values())


@dataclass(frozen=True)
class Comparison:
    """Strategies at the same cost, the best first and those without a score last.

    Attributes:
        unit: of the cost: ``epochs``; ``trials`` where the epochs are not known.
        budget: the cost at which all are held against each other; None where no trial is complete.
        p_value: of Friedman's test, that the strategies' ranks differ by chance alone.
        ranked: seeds over which strategies were ranked.
        caveats: what differs besides the strategy.
    """

    name: str
    objective: str
    sign: float
    unit: str
    budget: float | None
    confidence: float
    strategies: tuple[Strategy, ...]
    p_value: float | None
    ranked: int
    caveats: tuple[str, ...]

    @property
    def best(self) -> Strategy | None:
        """Return the strategy with the best mean."""
        return self.strategies[0] if self.strategies[0].estimate is not None else None

    @property
    def scored(self) -> list[Strategy]:
        """Return the strategies that have a score."""
        return [strategy for strategy in self.strategies if strategy.estimate is not None]

    @property
    def studies(self) -> list[StudyData]:
        """Return all studies, in the order of the table."""
        return [view for strategy in self.strategies for view in strategy.views.values()]


def compared(views: Sequence[StudyData], confidence: float, name: str | None = None) -> Comparison:
    """Hold searches of one problem against each other at the same cost.

    Studies whose names are equal but for a last ``-s`` and a number are repeats of one strategy with other seeds.

    Args:
        views: the studies, of one objective.
        confidence: of all intervals.
        name: of the comparison; by default what the studies' names have in common, or all of them.

    Raises:
        UserError: there is no study, one is there twice, or they have other objectives or directions.
    """
    _refuse(views)
    groups = grouped(views)
    labels, common = named(list(groups))
    by_trial = any(trial.epochs == 0 for view in views for trial in view.completed)
    curves = {view.name: curve(view, by_trial=by_trial) for view in views}
    budget = min((points[-1][0] for points in curves.values() if points), default=None)
    strategies = [
        Strategy(
            name=label,
            views=repeats,
            curves={
                seed: points for seed, view in repeats.items() if (points := cut(curves[view.name], budget or 0.0))
            },
        )
        for label, repeats in zip(labels, groups.values(), strict=True)
    ]
    sign = views[0].sign
    ranks = ranked(strategies, sign)
    return Comparison(
        name=name or common,
        objective=views[0].objective,
        sign=sign,
        unit="trials" if by_trial else "epochs",
        budget=budget,
        confidence=confidence,
        strategies=tuple(_judged(strategies, ranks, sign, confidence)),
        p_value=friedman(ranks),
        ranked=len(ranks),
        caveats=tuple(caveats(views)),
    )


def _refuse(views: Sequence[StudyData]) -> None:
    """Refuse what cannot be compared."""
    if not views:
        raise UserError("There is no study to compare; give several: study=[NAME,NAME,…]")
    first, seen = views[0], set()
    for view in views:
        if view.name in seen:
            raise UserError(f"The study {view.name} is given twice; compare it with others.")
        seen.add(view.name)
        for what in ("objectives", "directions"):
            one, other = getattr(first, what), getattr(view, what)
            if one != other:
                raise UserError(
                    f"{first.name} and {view.name} cannot be compared: the {what} of the one are {', '.join(one)}, "
                    f"of the other {', '.join(other)}. Compare studies that search for the same."
                )
        if first.origin.data and view.origin.data and first.origin.data != view.origin.data:
            raise UserError(
                f"{first.name} and {view.name} cannot be compared: their scores are of other data. Compare studies of "
                "the same."
            )


def grouped(views: Sequence[StudyData]) -> dict[str, dict[int, StudyData]]:
    """Return the studies of each strategy by seed, in the order given; ``NAME-s3`` is seed 3 of NAME, and NAME its seed
    0.

    Raises:
        UserError: two studies are the same seed of one strategy.
    """
    groups: dict[str, dict[int, StudyData]] = {}
    for view in views:
        match = REPEAT.fullmatch(view.name)
        strategy, seed = (match["strategy"], int(match["seed"])) if match else (view.name, 0)
        repeats = groups.setdefault(strategy, {})
        if seed in repeats:
            raise UserError(
                f"{repeats[seed].name} and {view.name} are both seed {seed} of {strategy}: a last -s and a number is a "
                "seed, and without one it is seed 0. Compare one of them."
            )
        repeats[seed] = view
    return {strategy: dict(sorted(repeats.items())) for strategy, repeats in groups.items()}


def named(names: Sequence[str]) -> tuple[list[str], str]:
    """Return what each strategy is called, and all of them: the names without what they begin with in common, and that.

    Names are cut between words at hyphens only. Where they have nothing in common, all of them are the name.
    """
    words = [name.split("-") for name in names]
    same = 0
    while len(names) > 1 and all(len(w) > same + 1 and w[same] == words[0][same] for w in words):
        same += 1
    labels = ["-".join(w[same:]) for w in words]
    bare = [HASH.sub("", f"-{label}")[1:] for label in labels]
    if len(set(bare)) == len(bare):
        labels = bare
    common = "-".join(words[0][:same]) or "-".join(names)
    if len(common) > LETTERS:
        common = f"{names[0][:LETTERS]}-and-{len(names) - 1}-more"
    return labels, re.sub(r"[^\w.+-]+", "_", common).lstrip(".") or "comparison"


def curve(view: StudyData, *, by_trial: bool = False) -> Curve:
    """Return the best score so far after each complete trial, against the cost of all trials until then.

    Trials count in the order in which they ended, and cost the epochs that they were trained for, or 1 each
    (`by_trial`). The last point is where the search ended: what is pruned costs too.
    """
    points: Curve = []
    spent, epochs = 0.0, trained(view)
    for trial in sorted(view.ended, key=_end):
        spent += 1 if by_trial else epochs[trial.number]
        if trial.outcome == "complete":
            score = trial.values[0]
            if points:
                score = max(score, points[-1][1]) if view.maximizes else min(score, points[-1][1])
            points.append((spent, score))
    return [*points, (spent, points[-1][1])] if points else points


def _end(trial: TrialData) -> tuple[datetime, int]:
    return trial.ended or datetime.max, trial.number


def cut(points: Curve, budget: float) -> Curve:
    """Return a curve up to a cost, and its height there; nothing where no trial was complete by then."""
    within = [point for point in points if point[0] <= budget]
    return [*within, (budget, within[-1][1])] if within else []


def ranked(strategies: Sequence[Strategy], sign: float) -> NDArray[np.float64]:
    """Return ranks (seeds that all strategies have, strategies), 1 the best and equals sharing theirs; no score is
    last.
    """
    from scipy.stats import rankdata

    seeds = sorted(set.intersection(*(set(strategy.views) for strategy in strategies)))
    scores = [[-sign * s.scores.get(seed, -sign * math.inf) for s in strategies] for seed in seeds]
    return np.asarray(rankdata(scores, axis=1) if scores else np.empty((0, len(strategies))), dtype=float)


def friedman(ranks: NDArray[np.float64]) -> float | None:
    """Return the p-value of Friedman's test; None of fewer than three strategies or seeds, or where all are equal."""
    from scipy.stats import friedmanchisquare

    seeds, strategies = ranks.shape
    if seeds < 3 or strategies < 3 or not np.ptp(ranks, axis=1).any():
        return None
    return float(friedmanchisquare(*ranks.T).pvalue)


def _judged(
    strategies: Sequence[Strategy], ranks: NDArray[np.float64], sign: float, confidence: float
) -> list[Strategy]:
    """Return the strategies with their estimates, ranks and distances to the best, which comes first.

    The best is held against each other one, so these intervals are widened to hold together (Bonferroni).
    """
    means = ranks.mean(axis=0) if len(ranks) and len(strategies) > 1 else [None] * len(strategies)
    judged = []
    for strategy, rank in zip(strategies, means, strict=True):
        scores = list(strategy.scores.values())
        judged.append(
            replace(
                strategy,
                estimate=estimate(scores, confidence) if scores else None,
                rank=None if rank is None or not scores else float(rank),
            )
        )
    judged.sort(key=lambda s: math.inf if s.estimate is None else -sign * s.estimate.mean)
    best, *others = judged
    together = 1 - (1 - confidence) / max(1, sum(other.estimate is not None for other in others))
    return [
        best,
        *(
            other if other.estimate is None else replace(other, gap=_gap(best, other, sign, together))
            for other in others
        ),
    ]


def _gap(best: Strategy, other: Strategy, sign: float, confidence: float) -> Difference:
    """Return how far a strategy is behind the best: 0 or more, whether more or less is better."""
    found = difference(list(best.scores.values()), list(other.scores.values()), sign, confidence)
    mean = sign * found.mean + 0.0  # no -0.0
    if found.low is None or found.high is None:
        return replace(found, mean=mean)
    low, high = sorted((sign * found.low, sign * found.high))
    return replace(found, mean=mean, low=low + 0.0, high=high + 0.0)


def caveats(views: Sequence[StudyData]) -> list[str]:
    """Return what differs between the studies besides what they search, a line each."""
    lines = []
    if len(views[0].objectives) > 1:
        lines.append(f"only the first of several objectives is compared: {views[0].objective}")
    searched = {axis.key for view in views for axis in view.axes}
    known = [view for view in views if view.fixed or view.origin.data]
    if len(groups := _by_value({view.name: view.origin.code for view in known})) > 1:
        lines.append(f"the code in src/ differs: {' against '.join(_some(names) for names in groups.values())}")
    for key in dict.fromkeys(key for view in known for key in view.fixed):
        if key != "seed" and not any(key == other or key.startswith(f"{other}.") for other in searched):
            values = {view.name: typed(view.fixed[key]) if key in view.fixed else "absent" for view in known}
            if len(groups := _by_value(values)) > 1:
                lines.append(f"{key} is {', and '.join(f'{v} in {_some(names)}' for v, names in groups.items())}")
    more = len(lines) - CAVEATS
    return [*lines[:CAVEATS], f"and {more} more settings"] if more > 0 else lines


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, what in values.items():
        groups.setdefault(what, []).append(name)
    return groups


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
