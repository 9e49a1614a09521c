"""The text of a study's report.md: the answer first, then what is behind it; plain Markdown, no HTML."""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from hypermap.core.passwords import HOW, MASK
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

SECTIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "The search": (("enough", "edge", "failures"), ("history", "best_of_n")),
    "Who proposed what": ((), ()),
    "Is the winner real?": (("winner", "luck"), ()),
    "What mattered": (("importance", "scientific"), ("importance", "slices", "isolation", "contour", "parallel")),
    "How training went": (("curves", "length", "stability"), ("curves",)),
    "Do early scores tell?": ((), ("early_scores",)),
    "What it cost": (("cost", "trade_off"), ("trade_off", "timeline")),
}
"""Headings, each with the checks that it answers and the pictures that it shows; one without any text is left out."""

SECOND_HALF = "mean of its second half"  # column of what a trial is judged by

SEEDS = 3
"""Retrainings from which an interval is shown: that of two is wider than what the scores can be."""

CAPTIONS = {
    "history": "Every trial at the cost at which it ended, and the best so far.",
    "best_of_n": "The best score that a smaller budget would have been expected to find, of complete trials.",
    "importance": "How much of the score's variation each parameter explains, with its uncertainty.",
    "slices": "The score against each parameter, on the scale on which it was searched; failures at the lower edge.",
    "isolation": "The best score for each value, the other parameters tuned (hollow: what a pruned trial had reached).",
    "contour": "The two parameters that mattered most, together.",
    "parallel": "Each line is a trial; the best ones bold.",
    "curves": "The best trials; pruned ones faint.",
    "early_scores": "How well a trial's score so far ranks it as its last one does.",
    "timeline": "What was trained when: a lane for each worker, where no trial was paused.",
    "trade_off": "What a better score costs.",
}


def page(view: StudyData, verdicts: Sequence[Verdict], drawn: Collection[str], thresholds: Thresholds) -> str:
    """Return the text; `drawn` names the pictures that lie in ``pictures/``."""
    by_check = {verdict.check: verdict for verdict in verdicts}
    parts = [f"# {view.name}", *([view.goal] if view.goal else []), _headline(view)]
    if (gain := over_baseline(view, thresholds)) is not None:
        parts.append(described(view, gain, thresholds))
    parts += [_verdict_table(view, verdicts)]
    parts += ["## What to do next", _steps(view, verdicts), "## The best trials", *_best_trials(view, thresholds)]
    for title, (checks, pictures) in SECTIONS.items():
        text = [_told(by_check[check]) for check in checks]
        if title == "Is the winner real?" and view.confirmed:
            text.insert(1, _confirmation_table(view, thresholds))
        elif title == "Who proposed what":
            text += _proposed(view)
        elif title == "Do early scores tell?" and (early := early_scores(view)) is not None:
            answer = judged(early)
            text.append(f"*{answer.level}:* {answer.figure}. {answer.advice}")
        shown = [
            f"![{CAPTIONS[name]}](pictures/{name}.png)\n\n*{CAPTIONS[name]}*" for name in pictures if name in drawn
        ]
        parts += [f"## {title}", *text, *shown] if text else []
    parts += ["## What was searched", *_searched(view, by_check["goal"])]
    parts += ["## How to get it again", _told(by_check["again"]), *_origin(view)]
    return "\n\n".join(parts) + "\n"


def _headline(view: StudyData) -> str:
    """Return the best value, and how many trials it is the best of."""
    counts = {how: len(view.with_outcome(how)) for how in (*ENDED, "running")}
    outcomes = ", ".join(f"{count} {how.replace('_', ' ')}" for how, count in counts.items() if count)
    trials = f"{many(len(view.trials), 'trial')}{outcomes and f': {outcomes}'}."
    if view.budget is not None:
        trials += f" {view.spent:.4g} of {trainings(view.budget)}."
    if len(view.directions) > 1:
        aims = ", ".join(
            f"{direction} {name}" for name, direction in zip(view.objectives, view.directions, strict=True)
        )
        return f"**{aims[0].upper()}{aims[1:]}.** {trials}"
    if (best := view.best) is None:
        return f"**No trial was trained to its end.** {trials}"
    measured = view.measured(best)
    score = format_value(fmean(t.values[0] for t in measured))
    score += f" (mean of {len(measured)} trainings)" if len(measured) > 1 else ""
    said = f"**Best {view.objective} {score}, trial {best.number}:** {_values(view, best)}. {trials}"
    if len(measured) == 1 and (top := view.top(view.completed)) is not None and top.values[0] != best.values[0]:
        said += (
            f" By its kept epoch alone trial {top.number} would be ahead, with {format_value(top.values[0])}; over the "
            "second half of their epochs, which is less a matter of luck, it is not."
        )
    if retrained := next((each for each in view.confirmed if each.trial == best.number and each.scores), None):
        mean = format_value(sum(retrained.scores) / len(retrained.scores))
        said += f" Retrained with {many(len(retrained.scores), 'seed')}, its mean is **{mean}**."
    if view.objective in view.test:
        value, low, high = map(format_value, view.test[view.objective])
        said += f" Tested after the search: **test {view.objective} {value}** (interval {low} to {high}, of the rows)."
    return said


def _values(view: StudyData, trial: TrialData) -> str:
    return ", ".join(
        f"`{axis.key}={short(trial.params[axis.name])}`" for axis in view.axes if axis.name in trial.params
    )


def _level(view: StudyData, verdict: Verdict) -> str:
    """Return the verdict; a dash, where the study has nothing to judge."""
    if not is_answered(view, verdict):
        return "–"
    return verdict.level if verdict.level == "ok" else f"**{verdict.level}**"


def _verdict_table(view: StudyData, verdicts: Sequence[Verdict]) -> str:
    lines = [(str(k), verdict.question, _level(view, verdict), verdict.figure) for k, verdict in enumerate(verdicts, 1)]
    return table(("", "question", "verdict", "figure"), lines)


def _steps(view: StudyData, verdicts: Sequence[Verdict]) -> str:
    """Return a line for each step, with its command; at last, if there is room, to take what is found to be real."""
    steps = next_steps(verdicts)
    if view.goes_on:
        on = Verdict("go on", "", "act", "", f"{progress(view)}: the same command goes on.", view.command({}))
        steps = [on, *(step for step in steps if step.command is None or step.command != on.command)][:STEPS]
    real = next(verdict for verdict in verdicts if verdict.check == "winner")
    if real.level == "ok" and real.command is not None and not view.test and len(steps) < STEPS:
        steps.append(replace(real, command=f"{real.command} && dvc repro"))
    if not steps:
        return "Nothing: every check is `ok`."
    return "\n".join(
        f"{k}. **{v.check.replace('_', ' ').capitalize()}.** {v.advice}" + (f" `{v.command}`" if v.command else "")
        for k, v in enumerate(steps, 1)
    )


def _told(verdict: Verdict) -> str:
    return f"**{verdict.question}** *{verdict.level}:* {verdict.figure}. {verdict.advice}"


def _best_trials(view: StudyData, thresholds: Thresholds) -> Iterator[str]:
    """Yield the best complete trials as a table, or pruned ones where none is; of several objectives, the Pareto
    front.
    """
    several = len(view.directions) > 1
    ranked = [trial for trial in view.ranking if trial.outcome == "complete"] or view.ranking
    best = pareto_front(view)[: 2 * thresholds.best] if several else ranked[: thresholds.best]
    if not best:
        yield "None."
        return
    axes = [axis for axis in view.axes if any(axis.name in trial.params for trial in best)]
    halves = (SECOND_HALF,) if view.halves else ()
    header = ["trial", *view.objectives, *halves, "ended", "epochs"]
    for axis in axes[:8]:  # the names of what is chosen differ where their keys do not
        free = (name for name in (axis.key, axis.name, f"{axis.name} (searched)") if name not in header)
        header.append(next(free, axis.name))
    epochs = trained(view)
    yield table(header, [_row(view, trial, axes[:8], epochs[trial.number]) for trial in best])
    if len(axes) > 8:
        yield f"{len(axes) - 8} more parameters, and every trial: [trials.csv](trials.csv)."
    else:
        yield "Every trial: [trials.csv](trials.csv); the best to use: [best.yaml](best.yaml)."


def _row(view: StudyData, trial: TrialData, axes: Sequence[Parameter], epochs: float) -> tuple[str, ...]:
    score = view.score(trial)
    values = trial.values or ((score,) if score is not None else ())
    shown = [format_value(value) for value in values] + [""] * (len(view.objectives) - len(values))
    params = [short(trial.params[axis.name]) if axis.name in trial.params else "" for axis in axes]
    shown_epochs = f"{round(epochs, 2):.10g}" if epochs else ""
    if view.halves:
        shown.append(format_value(view.halves[trial.number]) if trial.number in view.halves else "")
    return (str(trial.number), *shown, trial.outcome.replace("_", " "), shown_epochs, *params)


def _proposed(view: StudyData) -> Iterator[str]:
    """Yield what each member of the search has brought, where the study tells who proposed what."""
    if not (found := proposers(view)):
        return
    columns: dict[str, list[str]] = {
        "proposed by": [one.name for one in found],
        "trials": [str(one.proposals) for one in found],
        "complete": [str(one.complete) for one in found],
        f"best {view.objective}": ["" if one.best is None else format_value(one.best) for one in found],
        "share of the training": ["" if one.share is None else percent(one.share) for one in found],
    }
    if len(view.directions) > 1:
        del columns[f"best {view.objective}"]
    yield table(tuple(columns), list(zip(*columns.values(), strict=True)))
    if (best := view.best) is not None and best.proposed:
        yield f"The best trial, {best.number}, {IN_WORDS.get(best.proposed, f'was proposed by {best.proposed}')}."


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


def _searched(view: StudyData, goal: Verdict) -> Iterator[str]:
    """Yield what was varied and what was not."""
    yield _told(goal)
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
    if view.axes:
        yield table(tuple(columns), [tuple(column(axis) for column in columns.values()) for axis in view.axes])
    if view.fixed:
        fixed = ", ".join(
            f"`{key}={typed(value)}`" for key, value in view.fixed.items() if not key.endswith("_target_")
        )
        yield f"Fixed in every trial: {fixed}."


def _range(axis: Parameter) -> str:
    """As it was written; of a study of another program, what Optuna drew from."""
    if axis.expression:
        return axis.expression
    return ", ".join(map(str, axis.choices)) if axis.choices else " to ".join(map(short, axis.bounds))


def _origin(view: StudyData) -> Iterator[str]:
    origin = view.origin
    commands = [f"{report_command(view)}    # this report"]
    if origin.program:
        if view.best is not None and not view.of_seeds:
            commands.insert(
                0, f"make promote STUDY={shlex.quote(view.name)} && dvc repro    # the best trial, then its test"
            )
        commands.insert(0, f"{view.command({})}    # the search: goes on where it stopped")
    yield "```\n" + "\n".join(commands) + "\n```"
    if any(MASK in command for command in (*commands, origin.storage)):
        yield HOW
    if origin.program and not any(word.lstrip("+").startswith(("sweep=", "experiment=")) for word in origin.command):
        back = f"`git checkout {origin.commit[:7]} -- params.yaml`" if origin.commit else "your version control"
        yield f"The commands start from `params.yaml` as it was when the search began; {back} brings it back."
    if repeated := _repeated(view):
        yield repeated
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
    if facts:
        yield f"{'; '.join(facts)}."


def _repeated(view: StudyData) -> str:
    """Return how exactly a trial's score comes again when it is trained by itself, as it was recorded."""
    ended = [trial for trial in view.ended if trial.backend is not None]
    rounding = [trial for trial in ended if trial.backend in ROUNDING]
    exact = len(ended) - len(rounding)
    notes = []
    if exact:
        kernel = any(trial.backend == "native" for trial in ended)
        needs = " (of the native kernel: with a C++ compiler, on a processor of this kind)" if kernel else ""
        notes.append(f"{many(exact, 'trial')} can be trained again to the same bits{needs}.")
    if rounding:
        known = tolerance(view)
        within = "its noise, which is not known here" if known is None else f"{format_value(known)} of {view.objective}"
        backends = ", ".join(sorted({str(trial.backend) for trial in rounding}))
        notes.append(
            f"{many(len(rounding), 'trial')} trained in stacks by torch ({backends}), whose sums round otherwise than "
            f"those of one training: trained again, a score agrees within {within}"
            + ("." if known is None else ", three times what chance moves it.")
        )
    return " ".join(notes)
