"""Checks 5, 6, 13 and 14: is the winner real, how lucky is its score, what would do for less, how to get it back."""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hypermap.core.dvc_experiments import experiment_name
from hypermap.reports.run.wording import significant
from hypermap.reports.study.budget import lacking, more
from hypermap.reports.study.noise import noise
from hypermap.reports.study.ranges import typed
from hypermap.reports.study.retraining import (
    LEAST_SECONDS,
    Retrained,
    amount,
    confirm_command,
    costs,
    is_ours,
    promote_command,
)
from hypermap.reports.study.sentences import percent
from hypermap.reports.study.statistics import estimate, optimism
from hypermap.reports.study.trade_off import hypervolume, knee, pareto_front
from hypermap.reports.study.verdict import Level, Thresholds, Verdict
from hypermap.reports.study.view import BASELINE, Confirmed, StudyData, TrialData

LEAST_TOP = 3  # trials over which the best one's lead is measured, at least
HARDLY = 0.01  # of the noise: less luck than that is none
CHEAPER = 0.5  # share of the best trial's cost below which an equally good one is worth a person's attention
LISTED = 3  # trials of a front that has no knee are listed up to so many
SEED = 0  # of the resampling


def winner(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return whether the best trial is still good when it is trained again with other seeds; see `Retrained`."""
    question = "Is the winner real?"
    if (best := view.best) is None:
        return Verdict("winner", question, "ok", *_no_best(view))
    if view.of_seeds:
        return _of_seeds("winner", question, view, thresholds)
    entries = {entry.trial: entry for entry in view.confirmed}
    numbers: dict[str, Any] = {
        "trial": best.number,
        "value": best.values[0],
        "confidence": thresholds.confidence,
        "confirmed": [_summary(entry, thresholds) for entry in view.confirmed],
    }
    own = entries.get(best.number)
    baseline = next((entry for entry in reversed(view.confirmed) if view.is_baseline(entry.trial)), None)
    if own is None or len(own.scores) + own.failed < 2:
        return _unconfirmed(question, view, best, thresholds, numbers)
    apart = (BASELINE, own.trial, *([baseline.trial] if baseline is not None else []))
    others = [entry for entry in view.confirmed if entry.trial not in apart and len(entry.scores) > 1]
    rival = max(others, key=lambda entry: view.sign * statistics.fmean(entry.scores), default=None)
    if len(own.scores) < 2:
        return _unreliable(question, view, own, rival, numbers)
    retrained = Retrained(view, thresholds, own, rival, baseline)
    level, advice, command = retrained.judged()
    said = [f"{own.label}{_as_baseline(view, own.trial)}: {_mean(own.scores, thresholds)}"]
    for other in (rival, retrained.baseline):
        if other is not None and other is not own and (gain := retrained.gain(own, other)) is not None:
            said.append(f"beats {_named(view, other)} with probability {_sure(gain.probability)}")
            numbers.setdefault("gains", {})[other.label] = asdict(gain)
    failed = [f"{e.failed} of {e.failed + len(e.scores)} of {_named(view, e)}" for e in view.confirmed if e.failed]
    if failed:
        level = "look" if level == "ok" else level
        said.append(f"failed: {', '.join(failed)}")
        advice = f"{advice.removesuffix('.')}; but see first why retrainings failed."
    return Verdict("winner", question, level, "; ".join(said), advice, command, numbers)


def _of_seeds(check: str, question: str, view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return the verdict on a study in which only the seed differs: its trials are the repeats that others need."""
    scores = [trial.values[0] for trial in view.completed]
    evidence = f"{_mean(scores, thresholds)}, of one configuration"
    advice = "Only the seed differs, so the best is luck: report the mean and its spread, and take no seed for better."
    return Verdict(check, question, "ok", evidence, advice, None, {"scores": scores})


def _unconfirmed(
    question: str, view: StudyData, best: TrialData, thresholds: Thresholds, numbers: dict[str, Any]
) -> Verdict:
    if len(best.scores) > 1:
        evidence = f"{_mean(best.scores, thresholds, 'fits')}, not retrained"
    else:
        evidence = f"{significant(best.values[0])}, trained once"
    evidence = f"trial {best.number}{_as_baseline(view, best.number)}: {evidence}"
    why = "One score is partly luck, the more so as the best of many"
    if view.is_baseline(best.number):
        why = "Nothing better than the baseline was found, by one score each, which is partly luck"
    if any(entry.trial == best.number for entry in view.confirmed):
        why = "One retraining says nothing of the spread"
    elif view.confirmed:
        why = f"Other trials were retrained, but not trial {best.number}, which is the best by now"
    how = "retrain the best trials and the baseline with other seeds before you rely on it"
    return Verdict("winner", question, "look", evidence, f"{why}: {how}.", confirm_command(view), numbers)


def _unreliable(
    question: str, view: StudyData, own: Confirmed, rival: Confirmed | None, numbers: dict[str, Any]
) -> Verdict:
    """Return the verdict on the best trial whose retrainings failed, so that there is nothing to compare."""
    evidence = f"{own.label}: {own.failed} of {own.failed + len(own.scores)} retrainings failed"
    if rival is None:
        advice = "Keep the baseline: with other seeds the best trial fails, and no other was retrained with success."
        return Verdict("winner", question, "act", evidence, advice, None, numbers)
    advice = f"Take {rival.label}, the best of those that can be trained again: with other seeds {own.label} fails."
    return Verdict("winner", question, "act", evidence, advice, promote_command(view, rival.trial), numbers)


def luck(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return how much of the best score is there because it is the best of many noisy ones.

    The luck is held against the lead: the best score less the median of the top share of trials. Where luck exceeds
    it, the scores do not say which of those is best. Retrainings of the winner, which had no part in picking it, do.
    """
    question = "How lucky is the best score?"
    if (best := view.best) is None:
        return Verdict("luck", question, "ok", *_no_best(view))
    if view.of_seeds:
        return _of_seeds("luck", question, view, thresholds)
    raw = best.values[0]
    scores = sorted((trial.values[0] for trial in view.completed), key=lambda score: -view.sign * score)
    top = scores[: max(LEAST_TOP, math.ceil(thresholds.top * len(scores)))]
    lead = abs(raw - statistics.median(top))
    numbers: dict[str, Any] = {"trial": best.number, "raw": raw, "n": len(scores), "lead": lead}
    numbers |= {"top": thresholds.top, "confidence": thresholds.confidence}
    known = noise(view)
    found = None
    if known is not None:
        found = optimism(scores, known.sd, view.sign, thresholds.confidence, SEED, known.freedom)
    evidence, lucky, by_luck = f"best {significant(raw)}", False, 0.0
    if known is not None and found is not None:
        by_luck = max(0.0, found.optimism - view.sign * (scores[0] - raw))  # the luckiest need not be judged the best
        lucky = by_luck >= HARDLY * known.sd
        expect = significant(raw - view.sign * by_luck)
        evidence += f", luck {by_luck if lucky else 0:.2g}, expected {expect}"
        evidence += f"; noise {known.sd:.2g}, {known.source}"
        numbers |= {"noise": asdict(known), **asdict(found)}
    confirmed = next((e for e in view.confirmed if e.trial == best.number and len(e.scores) > 1), None)
    if confirmed is not None:
        mean = statistics.fmean(confirmed.scores)
        numbers["confirmed"] = _summary(confirmed, thresholds)
        evidence = f"best {significant(raw)}, retrained {_mean(confirmed.scores, thresholds)}: "
        evidence += f"luck {max(0.0, view.sign * (raw - mean)):.2g}"
        advice = f"Quote {significant(mean)}, the mean of the retrainings, which had no part in the choice."
        return Verdict("luck", question, "ok", evidence, advice, None, numbers)
    if (few := lacking(view)) is not None:
        return Verdict("luck", question, "look", few.evidence, few.advice, few.command, numbers)
    if len(scores) < 2:
        advice = "It was not picked among several, so it is no luckier than any score."
        return Verdict("luck", question, "ok", f"{evidence}, the only score", advice, None, numbers)
    if known is None or found is None:
        advice = "Nothing was trained twice, so what the seed alone changes is not known: retrain the best trials."
        return Verdict("luck", question, "look", f"{evidence}, noise not known", advice, confirm_command(view), numbers)
    if known.stands_in:
        advice = (
            f"Expect {expect} of trial {best.number} at best: seeds often move a score by more "
            "than its curve shakes, so retrain the best trials."
        )
        return Verdict("luck", question, "look", evidence, advice, confirm_command(view), numbers)
    expected = f"Expect {expect} of trial {best.number}, not {significant(raw)}"
    if lucky and by_luck > lead:
        advice = f"{expected}: it leads the other good ones by {lead:.2g}, which is no more than luck; retrain them."
        return Verdict("luck", question, "look", evidence, advice, confirm_command(view), numbers)
    expected = expected if lucky else f"Hardly any luck in trial {best.number}, by this noise"
    advice = f"{expected}; it leads the other good ones by {lead:.2g}, more than luck gives."
    return Verdict("luck", question, "ok", evidence, advice, None, numbers)


def trade_off(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Of several objectives the Pareto front; of one, whether a much cheaper trial is as good as the best.

    As good is within one standard deviation of the noise: the one-standard-error rule of Breiman et al.,
    *Classification and Regression Trees* (1984, section 3.4.3). Where the noise is not known, it is no worse.
    """
    if len(view.directions) > 1:
        return _front(view)
    question = "Where is the trade-off?"
    if (best := view.best) is None:
        return Verdict("trade_off", question, "ok", *_no_best(view))
    known = noise(view)
    sd = known.sd if known is not None else 0.0
    all_costs = costs(view)
    spent = all_costs.get(best.number, {})
    numbers: dict[str, Any] = {"trial": best.number, "costs": spent, "noise": sd, "cheaper": CHEAPER}
    equals = [t for t in view.completed if view.sign * (best.values[0] - t.values[0]) <= sd and t is not best]
    for unit, own in spent.items():
        cheap = [(other, t) for t in equals if (other := all_costs[t.number].get(unit)) is not None]
        cheap = [pair for pair in cheap if pair[0] < CHEAPER * own]
        if unit == "s":
            cheap = [pair for pair in cheap if own - pair[0] >= LEAST_SECONDS]
        if cheap:
            less, found = min(cheap, key=lambda pair: (pair[0], -view.sign * pair[1].values[0], pair[1].number))
            numbers |= {"instead": found.number, "unit": unit, "instead_costs": less}
            evidence = f"trial {found.number}: {significant(found.values[0])} for {amount(less, unit)}; best, trial "
            evidence += f"{best.number}: {significant(best.values[0])} for {amount(own, unit)}"
            within = "within the noise of the best" if found.values != best.values else "as good as the best"
            advice = f"Consider trial {found.number}: it is {within}, for {percent(less / own)} of the cost."
            return Verdict(
                "trade_off", question, "look", evidence, advice, promote_command(view, found.number), numbers
            )
    if not spent:
        advice = "Nothing to weigh: the study tells neither epochs nor durations that can be compared."
        return Verdict("trade_off", question, "ok", "no costs are known", advice, None, numbers)
    its_costs = " and ".join(amount(cost, unit) for unit, cost in spent.items())
    evidence = f"best, trial {best.number}: {significant(best.values[0])} for {its_costs}"
    what = "within the noise of it" if known is not None else "as good"
    return Verdict(
        "trade_off", question, "ok", evidence, f"No trial {what} cost less than half: nothing to trade.", None, numbers
    )


def _front(view: StudyData) -> Verdict:
    question = "Where is the trade-off?"
    front, bend, volume = pareto_front(view), knee(view), hypervolume(view)
    numbers: dict[str, Any] = {
        "front": [trial.number for trial in front],
        "knee": None if bend is None else bend.number,
        "hypervolume": volume if volume is not None and math.isfinite(volume) else None,
    }
    if not front:
        return Verdict("trade_off", question, "ok", *_no_best(view), None, numbers)
    evidence = f"{len(front)} of {len(view.completed)} trials on the front"
    if len(front) <= LISTED and bend is None:
        evidence += ": " + "; ".join(_valued(view, trial) for trial in front)
    chosen = bend or (front[0] if len({trial.values for trial in front}) == 1 else None)
    if bend is not None:
        evidence += f"; knee: {_valued(view, bend)}"
    if numbers["hypervolume"] is not None:
        evidence += f"; hypervolume {significant(numbers['hypervolume'])}"
    if chosen is None:
        advice = "No trial of the front stands out as the best bargain: choose by the objective that matters most."
        return Verdict("trade_off", question, "ok", evidence, advice, None, numbers)
    advice = f"Take trial {chosen.number}: none is better in any objective, so there is nothing to trade."
    if bend is not None:
        advice = (
            f"Unless one objective matters most, take trial {bend.number}: to gain in one objective from there costs "
            "the most in the others."
        )
    return Verdict("trade_off", question, "ok", evidence, advice, promote_command(view, chosen.number), numbers)


def _valued(view: StudyData, trial: TrialData) -> str:
    values = [f"{v:,.0f}" if v == round(v) and abs(v) < 1e9 else significant(v) for v in trial.values]
    return f"trial {trial.number} ({', '.join(map(' '.join, zip(view.objectives, values, strict=True)))})"


def again(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Return what brings the best trial, and the study, back."""
    question = "How do I get it back?"
    origin, name = view.origin, view.name
    chosen = view.best or (knee(view) or next(iter(pareto_front(view)), None) if len(view.directions) > 1 else None)
    numbers: dict[str, Any] = {
        "trial": None if chosen is None else chosen.number,
        "commit": origin.commit or None,
        "dirty": origin.dirty,
        "seed": origin.seed,
        "versions": dict(origin.versions),
    }
    if not origin.program:
        evidence = "neither commit nor versions are known"
        if chosen is None:
            return Verdict("again", question, "look", evidence, "There is no best trial to run again.", None, numbers)
        advice = (
            "Queue the values of the best trial in your own program with the command, and keep its commit, versions "
            'and seeds from now on: study.set_user_attr("commit", …).'
        )
        command = f"study.enqueue_trial({dict(chosen.params)!r})"
        return Verdict("again", question, "look", evidence, advice, command, numbers)
    listed = origin.sampler in ("Grid", "RandomGrid")  # which has no more trials than that
    on = view.command({}) if listed else more(view).command
    if chosen is None:
        advice = "No trial is complete: the command goes on with the study."
        return Verdict("again", question, "look" if origin.dirty else "ok", _state(view), advice, on, numbers)
    ways, command = "Run the command", promote_command(view, chosen.number) or _single(view, chosen)
    if is_ours(view):
        ways += ", then `dvc repro`"
        if origin.commit:
            ways += f", or `dvc exp apply {experiment_name(name, chosen.number)}` to have its code back as well"
    done = listed and 0 < _cells(view) <= len(view.ended)
    advice = f"{ways}." if done else f"{ways}; `{on}` goes on with the study."
    if origin.dirty:
        advice = f"Its code was not committed (refs/hypermap/{name} keeps it): commit before the next sweep. {advice}"
    if not origin.commit:
        advice = f"Commit the code, so that the next study can be tied to it. {advice}"
    level: Level = "look" if origin.dirty or not origin.commit else "ok"
    return Verdict("again", question, level, _state(view), advice, command, numbers)


def _cells(view: StudyData) -> int:
    """Return how many combinations of listed values there are; 0 where a parameter has a range."""
    return math.prod(len(axis.choices or ()) for axis in view.axes)


def _single(view: StudyData, trial: TrialData) -> str:
    """Return what runs a trial's values in another Hydra application."""
    searched = {axis.key: trial.params[axis.name] for axis in view.axes if axis.name in trial.params}
    keys = {axis.key for axis in view.axes}
    words = [word for word in view.origin.command if word.partition("=")[0].lstrip("+") not in keys]
    words += [f"{key}={typed(value)}" for key, value in searched.items()]
    return " ".join(map(shlex.quote, ["python", view.origin.program, *words]))


def _state(view: StudyData) -> str:
    origin = view.origin
    commit = f"commit {origin.commit[:7]}" if origin.commit else "no commit known"
    return f"{commit}{' and edits' if origin.dirty else ''}, seed {'not known' if origin.seed is None else origin.seed}"


def _mean(scores: Sequence[float], thresholds: Thresholds, of: str = "seeds") -> str:
    """Return a mean as a cell has it."""
    found = estimate(scores, thresholds.confidence)
    if found.sd is None or found.low is None or found.high is None:
        return significant(found.mean)
    span = f"{100 * thresholds.confidence:g} % interval {significant(found.low)} to {significant(found.high)}"
    return f"{significant(found.mean)} ± {found.sd:.2g} over {found.n} {of}, {span}"


def _summary(entry: Confirmed, thresholds: Thresholds) -> dict[str, Any]:
    entry_numbers = {"trial": entry.trial, "label": entry.label, "scores": list(entry.scores), "failed": entry.failed}
    return entry_numbers | (asdict(estimate(entry.scores, thresholds.confidence)) if entry.scores else {})


def _named(view: StudyData, entry: Confirmed) -> str:
    return "the baseline" if view.is_baseline(entry.trial) else entry.label


def _as_baseline(view: StudyData, number: int) -> str:
    return ", the baseline" if view.is_baseline(number) else ""


def _sure(probability: float) -> str:
    return "over 99 %" if probability > 0.99 else "under 1 %" if probability < 0.01 else percent(probability)


def _no_best(view: StudyData) -> tuple[str, str]:
    """Return the evidence and the advice where there is no one best trial."""
    if view.completed and len(view.directions) > 1:
        return "several objectives", "Of several objectives there is no one best trial: see the trade-off."
    return "no trial is complete", "There is no winner yet."
