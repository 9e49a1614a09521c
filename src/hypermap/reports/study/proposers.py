"""Who proposed a study's trials: the members of the default search, and what each has brought."""

import math
from dataclasses import dataclass

from hypermap.reports.study.course import trained
from hypermap.reports.study.view import StudyData
from hypermap.search.auto import BASELINE, MODEL, NEAR, PRIOR, SPACE, TPE

IN_WORDS = {
    BASELINE: "is the baseline, with which the search began",
    PRIOR: "was proposed by an earlier study",
    SPACE: "was proposed by the space-filling sequence",
    MODEL: "was proposed by the model",
    NEAR: "was proposed as a neighbour of the best until then",
    TPE: "was proposed by TPE",
}


@dataclass(frozen=True)
class Proposer:
    """One member of the search.

    Attributes:
        proposals: its trials, whatever their end.
        complete: those of them that were trained to their end.
        best: the best score of these; None where there is none, or there are several objectives.
        share: of all epochs that were trained; None where epochs are not known.
    """

    name: str
    proposals: int
    complete: int
    best: float | None
    share: float | None


def proposers(view: StudyData) -> list[Proposer]:
    """Return the members that proposed a trial; none where the study does not tell who did."""
    by: dict[str, list[int]] = {}
    for trial in view.trials:
        if trial.proposed:
            by.setdefault(trial.proposed, []).append(trial.number)
    epochs = trained(view)
    whole = math.fsum(epochs.values())
    ranked = [trial for trial in view.ranking if trial.outcome == "complete"]
    found = []
    order = list(IN_WORDS)
    for name in sorted(by, key=lambda name: (order.index(name) if name in order else len(order), name)):
        numbers = set(by[name])
        own = [trial for trial in ranked if trial.number in numbers]
        top = view.top(own) if len(view.directions) == 1 else None
        share = math.fsum(epochs.get(number, 0.0) for number in numbers) / whole if whole else None
        found.append(Proposer(name, len(numbers), len(own), None if top is None else top.values[0], share))
    return found
