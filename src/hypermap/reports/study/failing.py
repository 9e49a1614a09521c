"""Check 4: how many trials failed, how, and where in the space."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from hypermap.reports.study.isolation import place
from hypermap.reports.study.ranges import RATES, Side, between, moved, ordered, overrides, typed, without, written
from hypermap.reports.study.sentences import percent, sentence, short
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import FAILURES, Parameter, StudyData, TrialData

MOST = 0.5
"""Share of the failures that a part of the space must account for, and of the trials there that must have failed."""

CHANCE = 0.05
"""How probable the best of all parts may be by chance, if failures had nothing to do with the parameters."""

TENTH = 0.1
"""Of a range: as near to where all trials fail, the best is next to it; on a logarithmic one, a decade is."""

_VERDICT = partial(Verdict, "failures", "How much failed?")


@dataclass(frozen=True)
class Part:
    """A part of one parameter's values: one end of its range or list, or one choice.

    Attributes:
        side: the end; None of a choice.
        last: of the values outside, the one next to it; None of a choice.
        first: of the values inside, the one next to the others; or the choice.
        failed: failures inside, of `trials`.
    """

    axis: Parameter
    side: Side | None
    last: Any
    first: Any
    failed: int
    trials: int

    @property
    def bound(self) -> Any:
        """Return the last value of what stays, between the two neighbours and as round as it can be; or the choice."""
        if self.side is None or self.axis.choices is not None or isinstance(self.last, int):
            return self.first if self.side is None else self.last
        # The neighbour inside has failed, and is no bound of what stays.
        near = self.first + (self.last - self.first) * 1e-3
        return between(*sorted((self.last, near)))

    @property
    def words(self) -> str:
        """Return where it is, such as ``optimizer.lr above 0.1``."""
        if self.side is None:
            return f"{self.axis.name} {typed(self.bound)}"
        return f"{self.axis.name} {'above' if self.side == 'high' else 'below'} {written(self.bound)}"

    @property
    def others(self) -> str | None:
        """Return the range without it, as one writes it; None where too little stays."""
        if self.side is not None and self.axis.choices is None:
            return moved(self.axis, self.side, self.bound)
        return without(self.axis, [value for value in self.axis.choices or () if self.holds(value)])

    def holds(self, value: Any) -> bool:
        """Return whether a value lies in it."""
        if self.side is None:
            return bool(value == self.bound)
        return bool(value > self.bound if self.side == "high" else value < self.bound)

    def holds_best(self, view: StudyData) -> bool:
        """Return whether the best trial lies in it."""
        best = view.best
        return best is not None and self.axis.name in best.params and self.holds(best.params[self.axis.name])


def failures(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Check 4: the share of trials that failed, and the part of the space in which they do."""
    ended, failed = view.ended, view.with_outcome(*FAILURES)
    counts = {kind: len(view.with_outcome(kind)) for kind in FAILURES}
    numbers: dict[str, Any] = {"threshold": thresholds.failures, "ended": len(ended), **counts}
    if not ended:
        return _VERDICT("ok", "no trial has ended", "Nothing has failed yet.", None, numbers)
    if not failed:
        return _VERDICT("ok", f"none of {len(ended)}", "Every trial could be trained.", None, numbers)
    share, part, cliff = len(failed) / len(ended), likely(view), beyond_best(view)
    kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items() if count)
    evidence = f"{len(failed)} of {len(ended)} ({percent(share)}): {kinds}"
    numbers |= {"share": share, "where": _where(part), "beyond_best": _where(cliff)}
    error = _commonest_error(failed)
    if share > thresholds.failures:
        located = _located(view, part, failed)
        return _VERDICT("act", evidence, f"{percent(share)} failed, {located}{error}.", _narrowed(view, part), numbers)
    if cliff is not None and view.best is not None:
        best = short(view.best.params[cliff.axis.name])
        advice = (
            f"All {cliff.failed} trials with {cliff.words} failed and the best, at {best}, is next to them: it may "
            f"fail with another seed, so retrain it before you take it{error}"
        )
        return _VERDICT("look", evidence, sentence(advice), None, numbers)
    return _VERDICT(
        "ok", evidence, sentence(f"few enough to go on, {_located(view, part, failed)}{error}"), None, numbers
    )


def likely(view: StudyData) -> Part | None:
    """Return the part with the least probable count of failures, by Fisher's exact test.

    None where it does not account for most failures, most trials there do not fail, or chance alone would bring such
    a part among as many (Bonferroni): any few failures are set apart by some parameter of sixty.
    """
    found = [entry for axis in view.axes for entry in _parts(view, axis)]
    failed = len(view.with_outcome(*FAILURES))
    fitting = [
        (chance, part)
        for chance, part in found
        if part.failed > MOST * failed and part.failed > MOST * part.trials and chance * len(found) < CHANCE
    ]
    return min(fitting, key=lambda entry: entry[0])[1] if fitting else None


def beyond_best(view: StudyData) -> Part | None:
    """Return the learning rates beyond which all trials fail, two at least, if the best one's is next to them."""
    if view.best is None:
        return None
    axes = [axis for axis in view.axes if axis.key.rpartition(".")[2] in RATES and axis.choices is None]
    parts = [part for axis in axes for _, part in _parts(view, axis) if part.failed == part.trials > 1]
    return max((part for part in parts if _next_to(part, view.best)), key=lambda part: part.failed, default=None)


def _next_to(part: Part, best: TrialData) -> bool:
    axis = part.axis
    if axis.name not in best.params:
        return False
    far = abs(axis.image(best.params[axis.name]) - axis.image(part.bound))
    low, high = map(axis.image, axis.bounds)
    return far <= (math.log(10) if axis.scale == "log" else TENTH * (high - low))


def _parts(view: StudyData, axis: Parameter) -> Iterator[tuple[float, Part]]:
    """Yield each part of an axis with how probable as many failures there are, if they fell anywhere."""
    trials = [trial for trial in view.ended if place(axis, trial) is not None]
    failed = np.array([trial.outcome in FAILURES for trial in trials])
    if not failed.any() or failed.all():
        return
    values = [trial.params[axis.name] for trial in trials]
    if axis.choices is None or ordered(axis) is not None:
        yield from _ends(axis, values, failed)
        return
    for choice in axis.choices:
        here = np.array([value == choice for value in values])
        inside, size = int(failed[here].sum()), int(here.sum())
        chance = float(hypergeom.sf(inside - 1, len(failed), failed.sum(), size))
        yield chance, Part(axis, None, None, choice, inside, size)


def _ends(axis: Parameter, values: Sequence[float], failed: NDArray[np.bool_]) -> Iterator[tuple[float, Part]]:
    """Yield the parts below and above each pair of neighbouring values, whichever of both fails more often."""
    order = np.argsort(values, kind="stable")
    rising = [values[k] for k in order]
    cuts = np.flatnonzero(np.diff(np.array(rising, dtype=float)) > 0)
    below, total, count = failed[order].cumsum()[cuts], int(failed.sum()), len(values)
    high = (total - below) * count > total * (count - cuts - 1)
    inside, sizes = np.where(high, total - below, below), np.where(high, count - cuts - 1, cuts + 1)
    chances = hypergeom.sf(inside - 1, count, total, sizes)
    for cut, upper, among, size, chance in zip(cuts, high, inside, sizes, chances, strict=True):
        neighbours = (rising[cut], rising[cut + 1]) if upper else (rising[cut + 1], rising[cut])
        yield float(chance), Part(axis, "high" if upper else "low", *neighbours, int(among), int(size))


def _located(view: StudyData, part: Part | None, failed: Sequence[TrialData]) -> str:
    """Return where trials fail, and what to do about it."""
    if part is None:
        memory = any(trial.outcome == "out_of_memory" for trial in failed)
        return f"in no one part of the space: {'give them more memory' if memory else 'see why'}"
    where = f"{part.failed} of them at {part.words} ({part.failed} of the {part.trials} trials there)"
    if part.holds_best(view):
        return f"{where}, where the best one is too: see why, rather than narrow the range"
    return f"{where}: leave that out" + (f" by {part.axis.name}={part.others}" if part.others else "")


def _narrowed(view: StudyData, part: Part | None) -> str | None:
    if part is None or part.holds_best(view) or part.others is None:
        return None
    return view.command(overrides([(part.axis, part.others)]))


def _where(part: Part | None) -> dict[str, Any] | None:
    """Return a part for machines."""
    if part is None:
        return None
    counts = {"failed": part.failed, "trials": part.trials}
    return {"parameter": part.axis.name, "side": part.side, "bound": part.bound, **counts}


def _commonest_error(failed: Iterable[TrialData]) -> str:
    """Return the error with which most trials ended, in some hundred characters."""
    texts = Counter(
        textwrap.shorten(str(trial.error).replace("`", "'"), 120, placeholder=" …") for trial in failed if trial.error
    )
    if not texts:
        return ""
    text, count = min(texts.items(), key=lambda item: (-item[1], item[0]))
    return f"; the commonest error ({count}) is: `{text}`"
