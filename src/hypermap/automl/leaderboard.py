"""What an AutoML found, as tables and sentences: the leaderboard, and whether the ensemble was worth it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from hypermap.automl.selection import Selection
from hypermap.core.typing import Floats

STANDARD_ERRORS = 1.96  # of a normal distribution: 95 %


@dataclass(frozen=True)
class Entry:
    """A candidate that was trained on every fold.

    Attributes:
        candidate: its number in the order.
        loss: mean over all rows, each predicted by a model that was not trained on it.
        low: end of the loss's 95 % interval over the rows; `high` too.
        weight: in the ensemble.
        megabytes: that its models take, compressed.
        settings: how it differs, as on the command line.
    """

    candidate: int
    loss: float
    low: float
    high: float
    weight: float
    megabytes: float
    settings: str

    @classmethod
    def of(cls, settings: str, number: int, losses: Floats, weight: float, megabytes: float) -> Self:
        """Return the entry of a candidate with these losses of the rows."""
        mean, error = float(losses.mean()), standard_error(losses)
        return cls(number, mean, mean - error, mean + error, float(weight), round(megabytes, 3), settings)


@dataclass(frozen=True)
class Summary:
    """What an AutoML found.

    Attributes:
        entries: the best candidates, by their loss.
        steps: that were done.
        tried: candidates that were trained on every fold.
        dropped: candidates that were far behind after some folds, or could not be trained.
        loss: of the ensemble, for rows that had no part in the selection of its weights.
        gain: by which that is less than the best candidate's; `gain_low` and `gain_high` are the ends of its 95 %
            interval, from the differences of the rows.
        megabytes: that the ensemble takes, compressed.
        cost: of the limit of its size: by how much its loss on the rows that it was selected on exceeds that of the
            best ensemble of any size; 0 if that is within the limit.
    """

    entries: Sequence[Entry]
    steps: int
    tried: int
    dropped: int
    loss: float
    gain: float
    gain_low: float
    gain_high: float
    megabytes: float
    cost: float

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        best: Floats,
        ensemble: Floats,
        chosen: Selection,
        free: Selection,
        steps: int,
        tried: int,
        dropped: int,
    ) -> Self:
        """Return the summary, given the losses of the rows by the best candidate and by the ensemble."""
        gains = best - ensemble
        gain, error = float(gains.mean()), standard_error(gains)
        megabytes = sum(entry.megabytes for entry in entries if entry.weight)
        cost = max(0.0, chosen.loss - free.loss)
        return cls(
            entries, steps, tried, dropped, float(ensemble.mean()), gain, gain - error, gain + error, megabytes, cost
        )

    def as_entry(self) -> dict[str, Any]:
        """Return everything but the candidates, with the verdict, as JSON can hold it."""
        return {key: value for key, value in asdict(self).items() if key != "entries"} | {"verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """Whether the ensemble beats its best member, in one sentence."""
        used = sum(1 for entry in self.entries if entry.weight)
        interval = f"({self.gain_low:+.2g} to {self.gain_high:+.2g})"
        if used == 1 and self.entries[0].weight:
            return "The ensemble is its best candidate alone: no other improved it."
        if self.gain_low > 0:
            return f"The ensemble of {used} beats its best member: its loss is lower by {self.gain:.2g} {interval}."
        if self.gain_high < 0:
            return f"The ensemble of {used} is worse than its best member, by {-self.gain:.2g} {interval}."
        return f"The ensemble of {used} is not distinguishable from its best member: {self.gain:+.2g} {interval}."


def standard_error(values: Floats) -> float:
    """Return half the width of the mean's 95 % interval."""
    return STANDARD_ERRORS * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def table_of(summary: Summary, most: int = 8) -> str:
    """Return the leaderboard's head and the verdict, for a terminal."""
    lines = [f"{'loss':>10}  {'95 % interval':^23}  {'weight':>6}  {'MB':>6}"]
    for entry in summary.entries[:most]:
        interval = f"{entry.low:.5g} to {entry.high:.5g}"
        weight = f"{entry.weight:.2f}" if entry.weight else ""
        lines.append(f"{entry.loss:10.5g}  {interval:^23}  {weight:>6}  {entry.megabytes:6.2f}  {entry.settings}")
    lines.append(f"{summary.loss:10.5g}  {'ensemble':^23}  {'':6}  {summary.megabytes:6.2f}")
    said = f"{summary.tried} candidates, {summary.dropped} dropped, {summary.steps} steps. {summary.verdict}"
    if summary.cost > 0:
        said += f" The limit of its size costs {summary.cost:.2g} of the loss."
    return "\n".join([*lines, said])
