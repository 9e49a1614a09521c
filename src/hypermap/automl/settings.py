"""Settings of an AutoML: the group `automl`, expanded by `hypermap.config.portfolio`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Off:
    """No AutoML: one model is trained."""


@dataclass(frozen=True)
class AutoML:
    """Settings of an AutoML.

    Attributes:
        steps: trainings of one candidate on one fold each, in a fixed order; None for those of the portfolio, or as
            many as a clock allows.
        seconds: the budget; candidates whose expected time is a large part of it are left out. None: none is.
        folds: number of parts of the rows; each model is trained on all but one, and predicts that one.
        portfolio: candidates, each as on the command line, the first first.
        search: models whose parameters are searched after the portfolio; none: no search.
        space: the file in conf/space/ that has their ranges.
        features: further parameters that are searched, of preprocessing, as on the command line.
        megabytes: that the ensemble's models may need, compressed.
        candidates: the portfolio as configurations.
    """

    steps: int | None = None
    seconds: float | None = None
    folds: int = 5
    portfolio: Sequence[str] = ()
    search: Sequence[str] = ()
    space: Any = "default"
    features: Sequence[str] = ()
    megabytes: float = 10.0
    candidates: Sequence[Mapping[str, Any]] = field(default_factory=list)
