"""What a check answers with, and the thresholds at which its answer changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from hypermap.core.errors import UserError, near
from hypermap.core.paths import THRESHOLDS

Level = Literal["ok", "look", "act"]
LEVELS: tuple[Level, ...] = ("ok", "look", "act")


@dataclass(frozen=True)
class Verdict:
    """The answer to one of the report's questions.

    Attributes:
        check: the check's name, such as ``edge``.
        question: what was asked, in words.
        level: ``ok``; ``look``: a person should; ``act``: the next search should be another one.
        evidence: the numbers behind it, short enough for a cell of a table.
        advice: one sentence: what it means, and what to do.
        command: what does it, as one types it; None where there is nothing to type.
        numbers: the same for machines, with the thresholds that were held against it; JSON-like.
    """

    check: str
    question: str
    level: Level
    evidence: str
    advice: str
    command: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Thresholds:
    """Where verdicts change; the file `THRESHOLDS` has them with these values.

    Attributes:
        edge: of a range on the scale on which it is searched; nearer to a bound is at the edge.
        top: the share of the trials that are called the best ones, where several are looked at.
        rising: of the spread of scores between the median and the best; what twice the trials must still bring.
        failures: the share of trials that may fail.
        uneven: how many times as many trials one value of a scientific parameter may have as another.
        early: a best epoch within this share of the epochs says that fewer would do.
        late: a best epoch within this last share says that more may help.
        confidence: of every interval.
        best: how many of the best trials are drawn, listed and retrained.
        repeats: how often a bootstrap is repeated.
    """

    edge: float = 0.05
    top: float = 0.10
    rising: float = 0.10
    failures: float = 0.25
    uneven: float = 2.0
    early: float = 0.10
    late: float = 0.25
    confidence: float = 0.95
    best: int = 5
    repeats: int = 1000

    def __post_init__(self) -> None:
        for name in ("edge", "top", "rising", "failures", "early", "late", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"report: {name} is {getattr(self, name)!r}; it is a share between 0 and 1.")
        if not self.uneven > 1:
            raise UserError(f"report: uneven is {self.uneven!r}; it is a ratio above 1.")
        for name, least in (("best", 1), ("repeats", 100)):
            if getattr(self, name) < least:
                raise UserError(f"report: {name} is {getattr(self, name)!r}; it is a whole number of at least {least}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the thresholds with some of them given.

        Raises:
            UserError: no threshold has that name, or the value is of another kind or out of range.
        """
        known: dict[str, type] = {entry.name: type(entry.default) for entry in fields(cls)}
        values = {}
        for name, value in given.items():
            if name not in known:
                raise UserError(f"report: no threshold {name!r}{near(name, known)}. There are: {', '.join(known)}.")
            wanted = known[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or (wanted is int and value != int(value)):
                raise UserError(f"report: {name} is {value!r}; it is a {'whole ' if wanted is int else ''}number.")
            values[name] = wanted(value)
        return cls(**values)


def read_thresholds(path: Path = THRESHOLDS) -> Thresholds:
    """Return the thresholds of a YAML file; those it does not name, or all if it is not there, are the usual ones.

    Raises:
        UserError: the file is damaged, a threshold in it is none, or it is out of range.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Thresholds()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path} must map thresholds to numbers, as in: edge: 0.05")
    return Thresholds.of(given)
