"""Checks 9 to 12: do the curves look right, was training long enough, is it stable, what did it cost."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hypermap.reports.run import diagnosis
from hypermap.reports.run.wording import significant
from hypermap.reports.study.course import pauses, reports_per_epoch, spans, trained, without
from hypermap.reports.study.sentences import many, percent
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import StudyData, TrialData

# Of the way from a curve's worst to its best, and always beyond its shaking:
WORSENING = 0.05  # what it must fall back by, to get worse
GAIN = 0.05  # what the last quarter must bring, to improve still; of the way from the first quarter to the best
ALL = 3  # trials that must all improve still before the study's training is called too short
SPIKE = 10.0  # gradient norm over the median of the epochs before: such a step may undo what was learned
CLIPPED = 0.5  # share of clipped steps above which the clipping, not the learning rate, decides how far they go
LOST = 0.40  # share of the epochs spent on trials that were behind at a third of their way and stayed behind
WORTH = 0.15  # share of the epochs that a pruner would have saved, for it to be worth a person's attention
LEAST_HORIZON = 5  # reports of a full trial up to which a pruner has little to cut
HUGE = 1e100  # what is larger has diverged, and its square may be no number
STARTUP = 5  # complete trials before Optuna's median pruner begins, by default


def curves(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return whether the best trials overfit: validation worsens after its best while training improves.

    Where a trial left a history, its losses are judged as a run's report does (`hypermap.reports.run.diagnosis`);
    else whether the reported objective falls back from its best.
    """
    question = "Do the curves look right?"
    best = _best(view, thresholds)
    judged = {trial.number: found for trial in best if (found := _worsens(view, trial)) is not None}
    worse = {number: text for number, text in judged.items() if text}
    numbers: dict[str, Any] = {"judged": list(judged), "overfit": list(worse), "best": thresholds.best}
    if not judged:
        advice = "Keep the trials' folders, or report every epoch to the study, to have curves to look at."
        return Verdict("curves", question, "ok", "no curves are known", advice, None, numbers)
    if not worse:
        evidence = f"of the best {len(judged)}, none gets worse after its best epoch"
        advice = "No sign of overfitting, so there is nothing that more regularization would mend."
        return Verdict("curves", question, "ok", evidence, advice, None, numbers)
    number, text = next(iter(worse.items()))
    evidence = f"of the best {len(judged)}, {len(worse)} got worse after the best epoch; trial {number}: {text}"
    if len(worse) <= len(judged) / 2:
        kept = ", and the weights of a better epoch are kept: nothing to mend" if view.origin.program else ""
        advice = f"At least half of the best trials do not overfit{kept}."
        return Verdict("curves", question, "ok", evidence, advice, None, numbers)
    advice = "Most of the best trials overfit: search a remedy as well, such as dropout or weight decay"
    advice += "; regularizer=early_stopping saves the epochs that only make it worse." if view.origin.program else "."
    return Verdict("curves", question, "look", evidence, advice, _remedy(view), numbers)


def _worsens(view: StudyData, trial: TrialData) -> str | None:
    """Return how a trial gets worse after its best epoch, in words; empty where it does not, None where that is not
    known.
    """
    history = _finite(view.histories.get(trial.number, ()), "train_loss", "validation_loss")
    if history is not None:
        return _overfits(*history)
    reports = _reports(view, trial)
    if len(reports) <= diagnosis.RISE_EPOCHS:
        return None
    goodness = view.sign * reports
    at = int(goodness.argmax())
    end = float(np.mean(goodness[-diagnosis.RISE_EPOCHS :]))
    noise = diagnosis.STANDARD_ERRORS * diagnosis.shake(goodness)
    if len(goodness) - 1 - at < diagnosis.RISE_EPOCHS or goodness[at] - end <= max(WORSENING * np.ptp(goodness), noise):
        return ""
    return f"{view.objective} {significant(reports[at])} at report {at + 1}, {significant(view.sign * end)} at the end"


def _overfits(train: diagnosis.Curve, validation: diagnosis.Curve) -> str:
    if not diagnosis.rise(train, validation):
        return ""
    at = int(validation.argmin())
    end = float(np.mean(validation[-diagnosis.RISE_EPOCHS :]))
    return f"validation loss {significant(validation[at])} at epoch {at + 1}, {significant(end)} at the end"


def _remedy(view: StudyData) -> str | None:
    """Return what searches the first remedy that the sweep has not tried, too."""
    decay = "tag(log,interval(1e-6,1e-2))"
    ranges = {"model.dropout": "interval(0.0,0.5)", "optimizer.weight_decay": decay, "regularizer.l2": decay}
    return next((view.command({key: text}) for key, text in ranges.items() if key in view.fixed), None)


def length(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return whether the best epochs lie at the beginning of the training, or at an end that still improves.

    A late best epoch alone is no sign: under a schedule that decays the rate it is what one expects.
    """
    question = "Was training long enough?"
    trials = _best(view, thresholds)
    cut = "" if trials else "pruned trials only; "
    trials = trials or view.ranking[: thresholds.best]
    known = [(trial, place) for trial in trials if (place := _place(view, trial)) is not None]
    numbers: dict[str, Any] = {"early": thresholds.early, "late": thresholds.late, "best": thresholds.best}
    if not known:
        fitted = trials and all(trial.best_epoch == 0 for trial in trials)
        advice = "Report every epoch to the study to see where the best one lies."
        advice = "These models have none: they are fitted in one go." if fitted else advice
        return Verdict("length", question, "ok", "best epochs are not known", advice, None, numbers)
    median = statistics.median(place for _, place in known)
    rising = [trial.number for trial, place in known if place > 1 - thresholds.late and _improves(view, trial)]
    numbers |= {"places": {str(t.number): place for t, place in known}, "median": median, "improving": rising}
    evidence = f"best epoch at {percent(median)} of the training (median; {cut}{len(known)} looked at)"
    evidence += f"; still improving: {len(rising)}{_cut(view, numbers)}"
    if cut:
        advice = "No trial was trained to its end, so nothing says how long is enough: let more trials pass the pruner."
        command = view.command({}, "hydra/sweeper/pruner=none")
        return Verdict("length", question, "look", evidence, advice, command, numbers)
    budget = _budget(view)
    longer = view.command({"trainer.epochs": str(2 * budget)}) if budget else None
    if median <= thresholds.early:
        advice = "The rest of the training brought nothing: give each trial fewer epochs, and the study more trials."
        fewer = math.ceil(2 * budget * max(place for _, place in known)) if budget else 0
        command = view.command({"trainer.epochs": str(fewer)}) if budget and fewer < budget else None
        return Verdict("length", question, "look", evidence, advice, command, numbers)
    if len(rising) == len(known) >= min(ALL, thresholds.best):
        advice = "All of the best trials were still improving at their end: train them longer, say twice as long."
        return Verdict("length", question, "act", evidence, advice, longer, numbers)
    if median > 1 - thresholds.late and 2 * len(rising) >= len(known):
        advice = "At least half of the best trials were still improving at their end: see what twice the epochs bring."
        return Verdict("length", question, "look", evidence, advice, longer, numbers)
    advice = "Long enough: the best epoch lies early enough."
    if median > 1 - thresholds.late and 0 < _full(view) <= LEAST_HORIZON:
        advice = "So few epochs show no trend, and the best lies at their end: see what twice as many bring."
        return Verdict("length", question, "look", evidence, advice, longer, numbers)
    if median > 1 - thresholds.late:
        advice = "No sign of too few epochs: the best lies late, but most gained no more there than they shake."
    return Verdict("length", question, "ok", evidence, advice, None, numbers)


def _budget(view: StudyData) -> int | None:
    """Return the epochs that every trial was given; None where that is not known, or not the same for all."""
    epochs = view.fixed.get("trainer.epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else None


def _place(view: StudyData, trial: TrialData) -> float | None:
    """Return where a trial's best epoch lies, as a share of its training; of a pruned one, of what it was trained
    for.
    """
    if trial.best_epoch and trial.epochs and trial.outcome == "complete":
        return min(1.0, trial.best_epoch / trial.epochs)
    reports = _reports(view, trial)
    return (int((view.sign * reports).argmax()) + 1) / len(reports) if len(reports) > 1 else None


def _improves(view: StudyData, trial: TrialData) -> bool:
    """Return whether the objective or the validation loss still got better, unless patience ended the training."""
    stopped = trial.outcome == "complete" and trial.epochs < (_budget(view) or 0)
    losses = _finite(view.histories.get(trial.number, ()), "validation_loss") or []
    return not stopped and any(map(_rises, [view.sign * _reports(view, trial), *(-loss for loss in losses)]))


def _rises(goodness: diagnosis.Curve) -> bool:
    """Return whether the last quarter is better than the one before, beyond the shaking and by some way."""
    if len(goodness) < 4:
        return False
    before, last = diagnosis._quarters(goodness)
    way = goodness.max() - np.mean(goodness[: len(goodness) // 4])
    return bool(last - before > max(diagnosis._quarter_noise(goodness), GAIN * way))


def _cut(view: StudyData, numbers: dict[str, Any]) -> str:
    """Return the epochs at which pruning cut."""
    if made := [len(trial.reports) for trial in view.with_outcome("pruned") if trial.reports]:
        numbers["pruned_at"] = statistics.median(made)
        return f"; {len(made)} pruned, in the median after report {numbers['pruned_at']:g}"
    return ""


@dataclass(frozen=True)
class Finding:
    """One side of a trial's stability: its evidence, and, where it is not stable, what that means and what to do."""

    evidence: str
    advice: str = ""
    command: str | None = None


def stability(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return whether the best trial shakes by more than what tells it from the second, and what its gradients do."""
    question = "Is it stable?"
    if (best := view.best) is None:
        evidence = "several objectives" if view.completed else "no trial is complete"
        return Verdict("stability", question, "ok", evidence, "There is no one best trial to judge by.")
    numbers: dict[str, Any] = {"trial": best.number, "spike_limit": SPIKE, "clipped_limit": CLIPPED}
    found = [check(view, best, numbers) for check in (_shaking, _spikes, _clipping)]
    known = [finding for finding in found if finding is not None]
    wrong = [finding for finding in known if finding.advice]
    evidence = "; ".join(finding.evidence for finding in known) or "no course of the best trial is known"
    if wrong:
        advice = " ".join(finding.advice for finding in wrong)
        command = next((finding.command for finding in wrong if finding.command), None)
        return Verdict("stability", question, "look", evidence, advice, command, numbers)
    unknown = "Report every epoch to the study to see whether its scores shake."
    advice = "Stable enough: nothing to mend." if known else unknown
    return Verdict("stability", question, "ok", evidence, advice, None, numbers)


def _shaking(view: StudyData, best: TrialData, numbers: dict[str, Any]) -> Finding | None:
    """Return what the score of the best trial moves by of itself, beside its lead over the second.

    That is the deviation of the later half of its reports about their own trend; where the score is a mean over
    several trainings, the standard error of that mean.
    """
    if len(best.scores) > 1:
        moves = statistics.stdev(best.scores) / math.sqrt(len(best.scores))
        what, source = "standard error", f"of the mean of its {len(best.scores)} trainings"
    else:
        reports = _reports(view, best)
        late = reports[len(reports) // 2 :]
        if len(late) < 4:
            return None
        moves, what, source = diagnosis.shake(late), "late shaking", "from report to report"
    numbers["moves"] = moves
    if len(view.completed) < 2:
        return Finding(f"{what} {moves:.2g}")
    second = view.ranking[1]
    gap = abs(view.judged[best.number] - view.judged[second.number])
    numbers |= {"second": second.number, "gap": gap}
    evidence = f"{what} {moves:.2g}, lead over trial {second.number} {gap:.2g}"
    retrained = {entry.trial for entry in view.confirmed if len(entry.scores) > 1}
    if moves <= gap or {best.number, second.number} <= retrained:
        return Finding(evidence)
    how = ", as trainer.repeats=3 takes" if view.origin.program else ""
    advice = (
        f"Trial {best.number} moves by more {source} than it leads trial {second.number}: the choice between them is "
        f"luck, so retrain both, or search by means over several trainings{how}."
    )
    repeats = view.fixed.get("trainer.repeats")
    more = {"trainer.repeats": str(3 if repeats == 1 else 2 * repeats)} if isinstance(repeats, int) else {}
    return Finding(evidence, advice, view.command(more) if more else None)


def _spikes(view: StudyData, best: TrialData, numbers: dict[str, Any]) -> Finding | None:
    """Return the gradient's norm, an epoch's mean each: its size late in the training, and its largest jump.

    A norm is held against those before it, as norms of a training that goes well fall by orders of magnitude.
    """
    if (columns := _finite(view.histories.get(best.number, ()), "gradient_norm")) is None:
        return None
    norms = columns[0]
    late, largest = float(np.median(norms[len(norms) // 2 :])), float(norms.max())
    numbers["gradient_norm"] = {"late_median": late, "max": largest}
    evidence = f"gradient norm {late:.2g} late, {largest:.2g} at most"
    before = [float(np.median(norms[:k])) for k in range(2, len(norms))]
    jumps = [k for k, usual in enumerate(before, 2) if norms[k] > SPIKE * usual > 0]
    if not jumps:
        return Finding(evidence)
    worst = max(jumps, key=lambda k: float(norms[k]))
    numbers["spike_epoch"] = worst + 1
    advice = (
        f"The gradient of trial {best.number} jumped in epoch {worst + 1} to {norms[worst] / before[worst - 2]:.0f} "
        "times its usual norm: cut it (regularizer.clip_norm=1), or search lower learning rates."
    )
    return Finding(evidence, advice, view.command({"regularizer.clip_norm": "1.0"}))


def _clipping(view: StudyData, best: TrialData, numbers: dict[str, Any]) -> Finding | None:
    """Return the share of steps whose gradient was cut."""
    columns = _finite(view.histories.get(best.number, ()), "clipped")
    if (share := 0.0 if columns is None else float(columns[0].mean())) == 0:
        return None
    numbers["clipped"] = share
    evidence = f"{percent(share)} of the steps clipped"
    if share <= CLIPPED:
        return Finding(evidence)
    norm = view.fixed.get("regularizer.clip_norm")
    twice = f"{2 * norm:g}" if isinstance(norm, int | float) else ""
    how = f" (regularizer.clip_norm={twice})" if twice else ""
    advice = f"Most steps are clipped, so the clipping decides how far they go: raise its norm{how} or lower the rate."
    return Finding(evidence, advice, view.command({"regularizer.clip_norm": twice}) if twice else None)


def cost(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return what the study took, what pruning saved, and whether a pruner would have saved much where there was
    none.
    """
    question = "What did it cost?"
    if not view.ended:
        return Verdict("cost", question, "ok", "no trial has ended", "There is nothing to add up yet.")
    epochs, saved, times = math.fsum(trained(view).values()), _saved(view), list(spans(view).values())
    wall = without(pauses(times), max(end for _, end in times)) or None if times else None  # between sessions it stops
    seconds = [trial.seconds for trial in view.ended if trial.seconds is not None]
    numbers: dict[str, Any] = {"trials": len(view.ended), "wall_s": wall, "epochs": epochs, "epochs_saved": saved}
    numbers["median_trial_s"] = statistics.median(seconds) if seconds else None
    said = [many(len(view.ended), "trial")]
    if wall:
        numbers |= {"epochs_per_s": epochs / wall, "trials_per_min": 60 * len(view.ended) / wall}
        said.append(_duration(wall))
    if seconds:
        said.append(f"{_duration(numbers['median_trial_s'])} each (median)")
    if epochs:
        said.append(f"{epochs:,.0f} epochs" + (f", {epochs / wall:.3g} a second" if wall else ""))
    advice = "Nothing suggests that the same could have been found for much less."
    if saved:
        said.append(f"pruning saved {saved:,.0f} epochs ({percent(saved / (saved + epochs))})")
        advice = f"Without pruning the same trials would have cost {1 + saved / max(epochs, 1):.1f} times as much."
    evidence = "; ".join(said)
    loss = _prunable(view)
    if loss is None:
        return Verdict("cost", question, "ok", evidence, advice, None, numbers)
    share, would, keeps = loss
    numbers |= {
        "lost": share,
        "lost_limit": LOST,
        "worth": WORTH,
        "median_pruner_saves": would,
        "median_pruner_keeps_best": keeps,
    }
    if not keeps:
        advice = "A median pruner at a third of the way would have stopped the best trial, which began slowly."
    if share <= LOST or would < WORTH or not keeps:
        return Verdict("cost", question, "ok", evidence, advice, None, numbers)
    how = "prune" if view.origin.program else "pass create_study a pruner, and ask trial.should_prune() each epoch"
    advice = (
        f"{percent(share)} of the epochs went into trials that were behind at a third of their way and stayed so: "
        f"{how}; a median pruner there would have saved {percent(would)} of all and kept the best."
    )
    return Verdict("cost", question, "look", evidence, advice, view.command({}, "hydra/sweeper/pruner=auto"), numbers)


def _full(view: StudyData) -> int:
    """Return the reports of a full trial; 0 where that is not known."""
    return view.horizon or max((max(t.reports) for t in view.completed if t.reports), default=0)


def _saved(view: StudyData) -> float:
    """Return the epochs that pruned trials were not trained for."""
    left = sum(max(0, (t.steps or _full(view)) - max(t.reports, default=0)) for t in view.with_outcome("pruned"))
    whole = statistics.median([t.epochs for t in view.completed] or [0])
    return float(left * whole) if view.fits_several else left / reports_per_epoch(view)


def _prunable(view: StudyData) -> tuple[float, float, bool] | None:
    """Return what a study without a pruner spent on trials that could not win; None where that cannot be said.

    Returns the share of the epochs that went into trials which were below the median at a third of their way and at
    their end; the share that comparing each trial there with those before it would have saved, as Optuna's median
    pruner does; and whether the best trial would have got through. A grid is meant to be tried in full.
    """
    unpruned = view.origin.pruner in ("", "NopPruner") and not view.with_outcome("pruned")
    listed = view.origin.sampler in ("Grid", "RandomGrid", "GridSampler")
    third = _full(view) // 3
    courses = {t.number: r for t in view.completed if len(r := _reports(view, t)) > third}
    if view.best is None or not unpruned or listed or _full(view) <= LEAST_HORIZON or len(courses) <= 2 * STARTUP:
        return None
    ends = {t.number: view.sign * t.values[0] for t in view.completed if t.number in courses}
    then = {number: float((view.sign * reports[:third]).max()) for number, reports in courses.items()}
    behind, end = statistics.median(then.values()), statistics.median(ends.values())
    spent, total = trained(view), math.fsum(trained(view).values())
    lost = math.fsum(spent[n] for n in courses if then[n] < behind and ends[n] < end)
    through: list[float] = []
    cut = []
    for number, reports in courses.items():
        if len(through) >= STARTUP and then[number] < statistics.median(through):
            cut.append(number)
        else:
            through.append(float(view.sign * reports[third - 1]))
    gain = math.fsum(spent[n] * (1 - third / len(courses[n])) for n in cut)
    return (lost / total, gain / total, view.best.number not in cut) if total else None


def _best(view: StudyData, thresholds: Thresholds) -> list[TrialData]:
    """Return the best trials that were trained to their end; of few trials, those of the better half."""
    most = min(thresholds.best, math.ceil(len(view.ranking) / 2))
    return [trial for trial in view.ranking[:most] if trial.outcome == "complete"]


def _reports(view: StudyData, trial: TrialData) -> diagnosis.Curve:
    """Return what a trial reported, in order; empty where that diverged, or is of several trainings."""
    values = np.array(list(trial.reports.values()), dtype=np.float64)
    return values if (np.abs(values) < HUGE).all() and not view.fits_several else np.empty(0)


def _finite(history: Sequence[Mapping[str, float]], *columns: str) -> list[diagnosis.Curve] | None:
    """Return columns of a history (epochs,); None where one is missing or diverged."""
    if not history or not all(abs(row.get(column, math.nan)) < HUGE for row in history for column in columns):
        return None
    return [np.array([row[column] for row in history]) for column in columns]


def _duration(seconds: float) -> str:
    short = f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
    return f"{seconds:.3g} s" if seconds < 60 else short
