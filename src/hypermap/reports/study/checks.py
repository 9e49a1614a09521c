"""The fourteen questions of a study's report, after the *Deep Learning Tuning Playbook* (Godbole et al. 2023).

https://github.com/google-research/tuning_playbook
"""

import shlex
from collections.abc import Callable, Sequence

from hypermap.reports.study.importance import Importances
from hypermap.reports.study.score_checks import again, luck, trade_off, winner
from hypermap.reports.study.space_checks import edge, enough, failures, goal, importance, scientific
from hypermap.reports.study.training_checks import cost, curves, length, stability
from hypermap.reports.study.verdict import LEVELS, Thresholds, Verdict
from hypermap.reports.study.view import StudyData

Check = Callable[[StudyData, Thresholds], Verdict]

CHECKS: tuple[Check, ...] = (
    goal, edge, enough, failures, winner, luck, importance, scientific,
    curves, length, stability, cost, trade_off, again,
)  # fmt: skip

STEPS = 5
"""Lines of "What to do next"."""

FIRST = (
    "failures", "edge", "winner", "length", "enough", "curves", "stability", "scientific", "luck", "cost", "importance",
    "trade_off", "goal", "again",
)  # fmt: skip
"""What to do first, of equal levels: a search that fails or looks in the wrong place is mended before it is confirmed,
and what it found is confirmed before more is asked of it."""


OF_ANY_STUDY = ("goal", "failures", "cost", "again")
"""What can be said of a study in which no trial has a score."""


def judge(view: StudyData, thresholds: Thresholds, found: Importances | None = None) -> list[Verdict]:
    """Return every check's verdict, in the playbook's order; `found` saves the time of assessing the parameters
    again.
    """
    return [importance(view, thresholds, found) if check is importance else check(view, thresholds) for check in CHECKS]


def next_steps(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that ask for something, the most valuable first, at most `STEPS`; no two that ask for the
    same.
    """
    asking = [verdict for verdict in verdicts if verdict.level != "ok"]
    longer = {verdict.advice for verdict in asking if verdict.check == "enough"}

    def place(verdict: Verdict) -> float:  # a check that asks for what `enough` asks for comes after it
        behind = verdict.check != "enough" and verdict.advice in longer
        return FIRST.index("enough") + 0.5 if behind else FIRST.index(verdict.check)

    asking.sort(key=lambda verdict: (-LEVELS.index(verdict.level), place(verdict)))
    chosen: dict[str, Verdict] = {}
    for verdict in asking:
        same = verdict.command or (verdict.advice if verdict.advice in longer else verdict.check)
        chosen.setdefault(same, verdict)
    return list(chosen.values())[:STEPS]


def is_answered(view: StudyData, verdict: Verdict) -> bool:
    """Return whether the study has what the question is about, so that an ``ok`` says something."""
    return bool(view.ranking) or verdict.level != "ok" or verdict.check in OF_ANY_STUDY


def report_command(view: StudyData) -> str:
    """Return what makes the report anew."""
    words = ["python", "src/report.py", f"study={view.name}"]
    if view.origin.folder is None and view.origin.storage:
        words.append(f"storage={view.origin.storage}")
    return " ".join(map(shlex.quote, words))
