"""What a search gained over the configuration that it began from, which is its first trial."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hypermap.reports.study.retraining import Gain, Retrained, confirm_command
from hypermap.reports.study.sentences import both, many, percent
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import Confirmed, StudyData, TrialData
from hypermap.search.progress import format_value, short


@dataclass(frozen=True)
class OverBaseline:
    """The best trial beside the first one, which is the baseline, or the baseline moved into the space.

    Attributes:
        best: None where no trial is complete.
        retrained: the mean of each when trained again with other seeds, the baseline's first, and the gain; None where
            one of them has fewer than two such scores.
    """

    first: TrialData
    best: TrialData | None
    retrained: tuple[float, float, Gain] | None

    @property
    def improved(self) -> bool:
        """Return whether another trial has a better score."""
        return self.best is not None and self.best.number != self.first.number

    def record(self) -> dict[str, Any]:
        """Return it for machines; the gain is above 0 where the best is better, whichever way the objective goes."""
        return {
            "trial": self.first.number,
            "value": self.first.values[0] if self.first.values else None,
            "best": None if self.best is None else self.best.number,
            "retrained": None if self.retrained is None else list(self.retrained[:2]),
            "retrained_gain": None if self.retrained is None else vars(self.retrained[2]),
        }


def over_baseline(view: StudyData, thresholds: Thresholds) -> OverBaseline | None:
    """Return what the best trial gains; None where the search did not begin with the baseline, or has no one best."""
    first, best = view.first, view.best
    if first is None or len(view.directions) > 1:
        return None
    entries = {entry.trial: entry for entry in view.confirmed}
    own = None if best is None else entries.get(best.number)
    baseline = next((entry for entry in reversed(view.confirmed) if view.is_baseline(entry.trial)), None)
    return OverBaseline(first, best, _retrained(view, thresholds, own, baseline))


def _retrained(
    view: StudyData, thresholds: Thresholds, own: Confirmed | None, baseline: Confirmed | None
) -> tuple[float, float, Gain] | None:
    if own is None or baseline is None or own is baseline:
        return None
    gain = Retrained(view, thresholds, own, None, baseline).gain(own, baseline)
    means = [sum(entry.scores) / len(entry.scores) for entry in (baseline, own) if entry.scores]
    return None if gain is None else (means[0], means[1], gain)


def described(view: StudyData, found: OverBaseline, thresholds: Thresholds) -> str:
    """Return the gain in a few sentences, as they follow a report's headline."""
    first, best, name = found.first, found.best, view.objective
    label = f"trial {first.number}, the baseline{' moved into the space' if view.moved else ''}"
    said = []
    if first.outcome != "complete":
        how = {"pruned": "was pruned", "running": "is still trained", "failed": "failed", "diverged": "diverged"}
        ended = how.get(first.outcome, "ran out of memory")
        said.append(f"**Gain over the baseline: not known**, since {label}, {ended}.")
    elif not found.improved or best is None:
        among = many(len(view.completed), "complete trial")
        said.append(f"**Nothing better than the baseline was found:** {label}, is the best of {among}.")
    else:
        measured = [view.measured(trial) for trial in (first, best)]
        by_half = all(trial.number in view.halves for own in measured for trial in own)
        scores = view.halves if by_half else {trial.number: trial.values[0] for trial in view.completed}
        before, after = (fmean(scores[trial.number] for trial in own) for own in measured)
        over = ", over the second half of their epochs" if by_half else ""
        said.append(
            f"**Gain over the baseline {format_value(abs(after - before))}:** {name} {format_value(before)} ({label}) "
            "and "
            f"{format_value(after)} (trial {best.number}, the best){over}."
        )
    if found.retrained is not None:
        before, after, gain_again = found.retrained
        moved = " (the baseline itself, not moved)" if view.moved else ""
        noisy = gain_again.low <= 0 <= gain_again.high
        said.append(
            f"Retrained with other seeds, their means are {format_value(before)}{moved} and {format_value(after)}, "
            "a gain of "
            f"{gain_again} ({percent(thresholds.confidence)} interval){', which may be none' if noisy else ''}."
        )
    elif first.outcome == "complete":
        command = confirm_command(view)
        what = "both the best and the baseline" if found.improved else "the best"
        again = f": `{command}` trains {what} again with other seeds" if command else ""
        said.append(f"One score each is partly luck{again}.")
    if view.moved:
        said.append(_moved(view, first))
    return " ".join(said)


def _moved(view: StudyData, first: TrialData) -> str:
    """Return which values of the baseline lie outside of the space, and what the first trial has instead."""
    keys = {axis.name: axis.key for axis in view.axes}
    instead = [f"`{keys.get(n, n)}={short(first.params[n])}`" for n in view.moved if n in first.params]
    lie = f"{both(view.moved)} {'lies' if len(view.moved) == 1 else 'lie'} outside of the space"
    has = f", so the first trial has {both(instead)} instead" if instead else ""
    return f"The baseline's {lie}{has}."
