"""What is gained for what is given up: the Pareto front of several objectives, its knee, and score against cost."""

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume  # public only as a chart (plot_hypervolume_history)

from hypermap.reports.study.course import trained, warm
from hypermap.reports.study.importance import study_of
from hypermap.reports.study.view import StudyData, TrialData

MEASURED = 4
"""Objectives up to which the hypervolume is computed: its cost grows exponentially with their number."""

TELLING = 1.5
"""Seconds of the longest trial over those of the shortest: less is the machine's mood rather than a trial's cost."""


def pareto_front(view: StudyData) -> list[TrialData]:
    """Return the complete trials that no other one dominates, by number: Optuna's ``study.best_trials``.

    Trials that diverged are none of them, whatever values they were told with. Of one objective: the best trials.
    """
    if not view.completed:
        return []
    known = {trial.number for trial in view.completed}  # the study itself may have grown meanwhile
    trials = [trial for trial in view.study.get_trials(deepcopy=False) if trial.number in known]
    best = {trial.number for trial in study_of(trials, view.directions).best_trials}
    return [trial for trial in view.completed if trial.number in best]


def knee(view: StudyData) -> TrialData | None:
    """Return the trial of the front from which every objective gains least for what the others lose.

    It is the one farthest from the chord between the front's extremes, towards the ideal, where each objective is
    scaled to its range on the front (Das, 1999, https://doi.org/10.1007/BF01195985). Of three objectives and more,
    the distance is from the plane that weighs all of them equally. None with fewer than three trials on the front,
    and for a front that bends away from the ideal: there the extremes are the better bargains.
    """
    front = pareto_front(view)
    if len(view.directions) < 2 or len(front) < 3:
        return None
    losses = _losses(view, front)
    span = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1)
    sums = scaled.sum(axis=1)  # the distance is a constant less the sum, over the root of their number
    extremes = sums[[int(np.lexsort((sums, column))[0]) for column in scaled.T]]
    best = int(np.argmin(sums))
    return front[best] if sums[best] < extremes.min() - 1e-9 else None


def hypervolume(view: StudyData) -> float | None:
    """Return what the front dominates, in the product of the objectives' units, by Optuna's own algorithm.

    It is measured from the worst value that a complete trial has of each objective, so that hypervolumes of two studies
    compare only if these are equal. None for one objective, for more than four, and without a complete trial.
    """
    if not 2 <= len(view.directions) <= MEASURED or not view.completed:
        return None
    losses = _losses(view, view.completed)
    return float(compute_hypervolume(losses, losses.max(axis=0)))


def costs(view: StudyData) -> tuple[str, dict[int, float]]:
    """Return what each trial with a score cost, by number, and in which unit; nothing where that tells none from
    another.

    Epochs, unless all trials have equally many; then seconds, but for a worker's first trial: it began before any had
    ended, and its seconds hold the worker's own start.
    """
    known = trained(view)
    epochs = {trial.number: known[trial.number] for trial in view.ranking if known[trial.number]}
    started = warm(view)
    timed = [trial for trial in view.ranking if trial.began is None or trial.began >= started]
    seconds = {trial.number: trial.seconds for trial in timed if trial.seconds is not None}
    if len(set(epochs.values())) > 1:
        return "epochs", epochs
    least, most = min(seconds.values(), default=0), max(seconds.values(), default=0)
    return ("seconds", seconds) if most > TELLING * least else ("epochs", {})


def cost_front(view: StudyData) -> list[TrialData]:
    """Return, of one objective, the trials that no other one beats at the same cost or less, the cheapest first.

    A pruned trial counts with what it had reached by then.
    """
    _, cost = costs(view)
    front: list[TrialData] = []
    for trial in sorted(
        (trial for trial in view.ranking if trial.number in cost),
        key=lambda trial: (cost[trial.number], -view.sign * _score(view, trial), trial.number),
    ):
        if not front or view.sign * _score(view, trial) > view.sign * _score(view, front[-1]):
            front.append(trial)
    return front


def _score(view: StudyData, trial: TrialData) -> float:
    score = view.score(trial)
    assert score is not None  # it is of the ranking
    return score


def _losses(view: StudyData, trials: list[TrialData]) -> NDArray[np.float64]:
    """Return the values (trials, objectives), less being better in each."""
    signs = [1.0 if direction == "minimize" else -1.0 for direction in view.directions]
    return np.array([trial.values for trial in trials], dtype=float) * signs
