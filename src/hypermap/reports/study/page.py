"""The text of a study's report.md: the answer first, then what is behind it; plain Markdown, no HTML."""

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from hypermap.core.passwords import HOW, MASK
from hypermap.reports.run.render import render
from hypermap.reports.run.wording import table
from hypermap.reports.run.wording import value as typed
from hypermap.reports.study.budget import progress, trainings
from hypermap.reports.study.checks import STEPS, is_answered, next_steps, report_command
from hypermap.reports.study.course import trained
from hypermap.reports.study.early_scores import early_scores, judged
from hypermap.reports.study.noise import tolerance
from hypermap.reports.study.over_baseline import described, over_baseline
from hypermap.reports.study.proposers import IN_WORDS, proposers
from hypermap.reports.study.sentences import many, percent
from hypermap.reports.study.statistics import difference, estimate
from hypermap.reports.study.trade_off import pareto_front
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import ENDED, ROUNDING, Parameter, StudyData, TrialData
from hypermap.search.progress import format_value, short

SECOND_HALF = "mean of its second half"  # column of what a trial is judged by

COLUMNS = 8
"""Parameters of the best trials' table."""

SEEDS = 3
"""Retrainings from which an interval is shown: that of two is wider than what the scores can be."""


def page(view: StudyData, verdicts: Sequence[Verdict], drawn: Collection[str], thresholds: Thresholds) -> str:
    """Return the text; `drawn` names the pictures that lie in ``pictures/``."""
    gain, early, best = over_baseline(view, thresholds), early_scores(view), view.best
    text = render(
        "study/templates/report.md.jinja",
        view=view,
        verdicts={verdict.check: verdict for verdict in verdicts},
        drawn=drawn,
        number=format_value,
        many=many,
        trainings=trainings,
        **_headline(view),
        gain=gain and described(view, gain, thresholds),
        verdict_table=_verdict_table(view, verdicts),
        steps=_steps(view, verdicts),
        **_best_trials(view, thresholds),
        proposed=_proposed(view),
        proposer=best and IN_WORDS.get(best.proposed, f"was proposed by {best.proposed}"),
        confirmation_table=_confirmation_table(view, thresholds),
        early=early and judged(early),
        parameter_table=_parameter_table(view),
        fixed=[f"`{key}={typed(value)}`" for key, value in view.fixed.items() if not key.endswith("_target_")],
        **_origin(view),
    )
    return f"{text}\n"


def _headline(view: StudyData) -> dict[str, Any]:
    """Return the best value, and how many trials it is the best of."""
    counts = {how: len(view.with_outcome(how)) for how in (*ENDED, "running")}
    best = view.best
    measured, params = (view.measured(best), best.params) if best else ([], {})
    top = view.top(view.completed) if len(measured) == 1 else None
    return {
        "best": best,
        "aims": ", ".join(map(" ".join, zip(view.directions, view.objectives, strict=True))),
        "best_score": fmean(trial.values[0] for trial in measured) if measured else None,
        "trainings_of_best": len(measured),
        "values_of_best": [f"`{axis.key}={short(params[axis.name])}`" for axis in view.axes if axis.name in params],
        "outcomes": [f"{count} {how.replace('_', ' ')}" for how, count in counts.items() if count],
        "ahead": top if best and top and top.values[0] != best.values[0] else None,
        "retrained": next((e for e in view.confirmed if best and e.trial == best.number and e.scores), None),
    }


def _level(view: StudyData, verdict: Verdict) -> str:
    """Return the verdict; a dash, where the study has nothing to judge."""
    if not is_answered(view, verdict):
        return "–"
    return verdict.level if verdict.level == "ok" else f"**{verdict.level}**"


def _verdict_table(view: StudyData, verdicts: Sequence[Verdict]) -> str:
    lines = [
        (str(k), verdict.question, _level(view, verdict), verdict.evidence) for k, verdict in enumerate(verdicts, 1)
    ]
    return table(("", "question", "verdict", "figure"), lines)


def _steps(view: StudyData, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return what to do next; at last, if there is room, to take what is found to be real."""
    steps = next_steps(verdicts)
    if view.goes_on:
        on = Verdict("go on", "", "act", "", f"{progress(view)}: the same command goes on.", view.command({}))
        steps = [on, *(step for step in steps if step.command is None or step.command != on.command)][:STEPS]
    real = next(verdict for verdict in verdicts if verdict.check == "winner")
    if real.level == "ok" and real.command is not None and not view.test and len(steps) < STEPS:
        steps.append(replace(real, command=f"{real.command} && dvc repro"))
    return steps


def _best_trials(view: StudyData, thresholds: Thresholds) -> dict[str, Any]:
    """Return a table of the best complete trials, or of pruned ones where none is, or of several objectives the Pareto
    front; and how many parameters it leaves out.
    """
    several = len(view.directions) > 1
    ranked = [trial for trial in view.ranking if trial.outcome == "complete"] or view.ranking
    best = pareto_front(view)[: 2 * thresholds.best] if several else ranked[: thresholds.best]
    axes = [axis for axis in view.axes if any(axis.name in trial.params for trial in best)]
    halves = (SECOND_HALF,) if view.halves else ()
    header = ["trial", *view.objectives, *halves, "ended", "epochs"]
    for axis in axes[:COLUMNS]:  # the names of what is chosen differ where their keys do not
        free = (name for name in (axis.key, axis.name, f"{axis.name} (searched)") if name not in header)
        header.append(next(free, axis.name))
    epochs = trained(view)
    lines = [_row(view, trial, axes[:COLUMNS], epochs[trial.number]) for trial in best]
    return {"best_trials": table(header, lines) if best else "", "more_parameters": len(axes) - COLUMNS}


def _row(view: StudyData, trial: TrialData, axes: Sequence[Parameter], epochs: float) -> tuple[str, ...]:
    score = view.score(trial)
    values = trial.values or ((score,) if score is not None else ())
    shown = [format_value(value) for value in values] + [""] * (len(view.objectives) - len(values))
    params = [short(trial.params[axis.name]) if axis.name in trial.params else "" for axis in axes]
    shown_epochs = f"{round(epochs, 2):.10g}" if epochs else ""
    if view.halves:
        shown.append(format_value(view.halves[trial.number]) if trial.number in view.halves else "")
    return (str(trial.number), *shown, trial.outcome.replace("_", " "), shown_epochs, *params)


def _proposed(view: StudyData) -> str:
    """Return a table of what each member of the search has brought; nothing where the study does not tell."""
    if not (found := proposers(view)):
        return ""
    columns: dict[str, list[str]] = {
        "proposed by": [one.name for one in found],
        "trials": [str(one.proposals) for one in found],
        "complete": [str(one.complete) for one in found],
        f"best {view.objective}": ["" if one.best is None else format_value(one.best) for one in found],
        "share of the training": ["" if one.share is None else percent(one.share) for one in found],
    }
    if len(view.directions) > 1:
        del columns[f"best {view.objective}"]
    return table(tuple(columns), list(zip(*columns.values(), strict=True)))


def _confirmation_table(view: StudyData, thresholds: Thresholds) -> str:
    """Return each configuration's retrained scores, and how surely the first is better than it."""
    first = next((confirmed for confirmed in view.confirmed if confirmed.scores), None)
    lines = []
    for confirmed in view.confirmed:
        if not confirmed.scores:
            lines.append((confirmed.label, "", "", "", "0", ""))
            continue
        found = estimate(confirmed.scores, thresholds.confidence)
        beaten = ""
        if first is not None and confirmed is not first:
            surely = difference(first.scores, confirmed.scores, view.sign, thresholds.confidence).probability
            beaten = "" if surely is None else f"{surely:.3f}"
        known = found.low is not None and found.high is not None and found.n >= SEEDS
        interval = f"{format_value(found.low)} to {format_value(found.high)}" if known else ""  # type: ignore[arg-type]
        deviation = "" if found.sd is None else format_value(found.sd)
        lines.append((confirmed.label, format_value(found.mean), deviation, interval, str(found.n), beaten))
    label = "" if first is None else first.label
    return table(
        ("trained again", f"mean {view.objective}", "sd", f"{percent(thresholds.confidence)} interval", "seeds",
         f"probability that {label} is better"),
        lines,
    )  # fmt: skip


def _parameter_table(view: StudyData) -> str:
    """Return what was varied, and how."""
    columns: dict[str, Callable[[Parameter], str]] = {
        "parameter": lambda axis: f"`{axis.name}`",
        "range": lambda axis: f"`{_range(axis)}`",
        "scale": lambda axis: axis.scale,
        "only with": lambda axis: "; ".join(f"{group} {', '.join(choices)}" for group, choices in axis.where.items()),
        "role": lambda axis: "scientific" if {axis.name, axis.key} & set(view.scientific) else "nuisance",
        "best": lambda axis: short(view.best.params[axis.name]) if view.best and axis.name in view.best.params else "",
    }
    if not any(axis.where for axis in view.axes):
        del columns["only with"]
    return table(tuple(columns), [tuple(column(axis) for column in columns.values()) for axis in view.axes])


def _range(axis: Parameter) -> str:
    """Return a range as it was written; of a study of another program, what Optuna drew from."""
    if axis.expression:
        return axis.expression
    return ", ".join(map(str, axis.choices)) if axis.choices else " to ".join(map(short, axis.bounds))


def _origin(view: StudyData) -> dict[str, Any]:
    """Return the commands that bring the study back, and what else one has to know of where it comes from."""
    origin = view.origin
    commands = [f"{report_command(view)}    # this report"]
    if origin.program:
        if view.best is not None and not view.of_seeds:
            commands.insert(
                0, f"make promote STUDY={shlex.quote(view.name)} && dvc repro    # the best trial, then its test"
            )
        commands.insert(0, f"{view.command({})}    # the search: goes on where it stopped")
    names_a_file = any(word.lstrip("+").startswith(("sweep=", "experiment=")) for word in origin.command)
    facts = []
    if origin.commit:
        facts.append(f"commit `{origin.commit[:7]}`" + (" with edits that were not committed" if origin.dirty else ""))
    if origin.sampler:
        facts.append(f"sampler {origin.sampler}, pruner {origin.pruner}")
    if origin.seed is not None:
        facts.append(f"seed {origin.seed}; each trial's own, which follows from it, stands in trials.csv")
    facts += [f"{name} sha256 `{str(value)[:12]}`" for name, value in origin.data.items() if isinstance(value, str)]
    if origin.code:
        facts.append(f"code `{origin.code}`")
    facts += [f"{name} {version}" for name, version in origin.versions.items()]
    if origin.storage:
        facts.append(f"storage `{origin.storage}`")
    return {
        "commands": commands,
        "password": HOW if any(MASK in text for text in (*commands, origin.storage)) else "",
        "needs_params_file": origin.program and not names_a_file,
        "backends": _backends(view),
        "facts": facts,
    }


def _backends(view: StudyData) -> dict[str, Any]:
    """Return how many trials come again to the bit when each is trained by itself, as it was recorded, and which of
    them do not.
    """
    ended = [trial for trial in view.ended if trial.backend is not None]
    rounding = [trial for trial in ended if trial.backend in ROUNDING]
    return {
        "exact": len(ended) - len(rounding),
        "native": any(trial.backend == "native" for trial in ended),
        "rounding": len(rounding),
        "names": sorted({str(trial.backend) for trial in rounding}),
        "tolerance": tolerance(view) if rounding else None,
    }
