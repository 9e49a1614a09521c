"""What a search has spent of its budget, and how to give it more."""

from typing import NamedTuple

from hypermap.reports.study.sentences import many
from hypermap.reports.study.view import StudyData
from hypermap.search.auto_pruner import LEAST_COMPLETE

LEAST_TRIALS = 20
"""Trials that a search is told to run, at least."""


class More(NamedTuple):
    """How to give a search more: the overrides, the same in words (``run 40 trials``), and the whole command."""

    overrides: tuple[str, ...]
    words: str
    command: str | None


def more(view: StudyData) -> More:
    """Return how to give the search twice as much: of its trainings where it has a budget, else of its trials.

    A search that is short of its budget is given nothing but the time to use it up.
    """
    if view.goes_on:
        return More((), "let the search come to its end", view.command({}))
    trials = max(2 * len(view.trials), LEAST_TRIALS)
    overrides, words = [f"hydra.sweeper.n_trials={trials}"], f"run {trials} trials"
    if view.budget is not None:
        most = overrides if view.n_trials is not None else []
        overrides = [f"hydra.sweeper.budget={2 * view.budget:g}", *most]
        words = f"give it a budget of {trainings(2 * view.budget)}"
    return More(tuple(overrides), words, view.command({}, *overrides))


def trainings(budget: float) -> str:
    """Return a budget with its noun."""
    return f"{budget:g} training{'' if budget == 1 else 's'}"


def progress(view: StudyData) -> str:
    """Return how much of its budget the search has used; empty where it has none."""
    if view.budget is not None:
        return f"{view.spent:.4g} of {trainings(view.budget)} are spent"
    if view.n_trials is not None:
        ended = sum(not trial.paused for trial in view.ended)
        return f"{ended} of {many(view.n_trials, 'trial')} have ended"
    return ""


class Lacking(NamedTuple):
    """What is said instead of an answer where too few trials are complete: the evidence, the advice, its command."""

    evidence: str
    advice: str
    command: str | None


def lacking(view: StudyData, least: int = LEAST_COMPLETE) -> Lacking | None:
    """Return what to say where trials were stopped early and fewer than `least` came to their end; else None.

    What a stopped trial had reached is no final score, so complete trials alone are judged, and two tell nothing.
    """
    done = len(view.completed)
    if done >= least or not view.with_outcome("pruned"):
        return None
    evidence = f"{done} of {many(len(view.ended), 'trial')} complete, too few to tell"
    count = "No trial was" if done == 0 else f"Only {many(done, 'trial')} {'was' if done == 1 else 'were'}"
    how = more(view)
    advice = f"{count} trained to the end, and what was pruned has no final score: {how.words}."
    return Lacking(evidence, advice, how.command)
