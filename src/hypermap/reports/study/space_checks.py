"""Checks 1 to 4, 7 and 8: what a study was for, and whether it looked in the right place, for long enough."""

import itertools
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from scipy import stats

from hypermap.core.errors import near
from hypermap.reports.run.wording import significant
from hypermap.reports.study.budget import lacking, more, trainings
from hypermap.reports.study.failing import failures
from hypermap.reports.study.importance import Importances, importances, least
from hypermap.reports.study.isolation import Isolated, isolate, leaders, place, unevenness
from hypermap.reports.study.noise import Noise, chance, noise
from hypermap.reports.study.ranges import Side, edges, extended, limit, ordered, overrides, typed
from hypermap.reports.study.sentences import both, many, percent, sentence, short
from hypermap.reports.study.statistics import best_of_n
from hypermap.reports.study.trade_off import pareto_front
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import Parameter, StudyData, TrialData

_GOAL = partial(Verdict, "goal", "What was this study for?")
_EDGE = partial(Verdict, "edge", "Is the best at the edge?")
_ENOUGH = partial(Verdict, "enough", "Were there enough trials?")
_IMPORTANCE = partial(Verdict, "importance", "What mattered?")
_SCIENTIFIC = partial(Verdict, "scientific", "Does the scientific parameter matter?")

LEAST_SCORES = 8  # complete trials from which on half and a quarter of them tell something
LEAST_TOP = 3  # trials of which a median is taken

MINOR = 0.05  # a parameter whose share of the importance lies below this, interval and all, can be fixed
ENOUGH = 20  # trials that were trained to their end, before a parameter is said to be fixed
MOSTLY = 0.5  # share of the scores' variance that chance explains, above which no importance is read from them

NOTHING_ENDED = "no trial has ended"
ALONE = "Nothing else was varied: what scores differ by is this parameter's, and chance."
CHANCE = "Nothing but the seed was varied: what scores differ by is chance."

__all__ = ["edge", "enough", "failures", "goal", "importance", "scientific"]


def goal(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Check 1: the goal, and what was scientific, nuisance and fixed."""
    wanted, unknown = _scientific(view)
    nuisance = [axis.name for axis in view.axes if axis not in wanted]
    fixed = {key: value for key, value in view.fixed.items() if not key.endswith("._target_")}
    numbers = {
        "goal": view.goal, "scientific": list(view.scientific), "not_searched": unknown, "nuisance": nuisance,
        "fixed": len(fixed),
    }  # fmt: skip
    evidence = f"{len(view.scientific)} scientific, {len(nuisance)} nuisance, {len(fixed)} fixed"
    names = ", ".join(
        f"{key.removesuffix('.name')} {value}"
        for key, value in fixed.items()
        if key.endswith(".name") and key.count(".") == 1 and value not in ("none", "default")
    )
    holds = f"; what it found holds for {names}" if names else ""
    if unknown:
        hint = near(unknown[0], [axis.name for axis in view.axes])
        at = f" but fixed at {short(view.fixed[unknown[0]])}" if unknown[0] in view.fixed else hint
        was = "were" if len(unknown) > 1 else "was"
        advice = f"{both(unknown)} {was} to be learned about and {was} not searched{at}: sweep values of it to compare."
        return _GOAL("look", f"{both(unknown)} not searched", advice, _purpose(view), numbers)
    if view.goal is None and not wanted:
        later = "; in the next sweep by hydra.sweeper.goal and hydra.sweeper.scientific" if view.origin.program else ""
        advice = (
            "Say what the study is for and which parameters it is to tell something about, and the report compares "
            f"their values{later}{holds}."
        )
        return _GOAL("look", "not said", advice, _purpose(view), numbers)
    said = [f"it compares {both([axis.name for axis in wanted])}"] * bool(wanted)
    tuned = f"{both(nuisance)} tuned so that {'the comparison is fair' if wanted else 'the score is good'}"
    said += [f"{'with' if wanted else 'it has'} {tuned}"] * bool(nuisance)
    what = ", ".join(said) or "nothing was searched"
    advice = f"“{view.goal}”: {what}{holds}." if view.goal else sentence(f"{what}{holds}")
    return _GOAL("ok", evidence, advice, None, numbers)


def _scientific(view: StudyData) -> tuple[list[Parameter], list[str]]:
    """Return the scientific parameters that were searched, and the names of those that were not."""
    wanted = [axis for axis in view.axes if {axis.name, axis.key} & set(view.scientific)]
    known = {name for axis in wanted for name in (axis.name, axis.key)}
    return wanted, [name for name in view.scientific if name not in known]


def _purpose(view: StudyData) -> str:
    """Return the command that says what a study was for."""
    words = ["python", "src/report.py", f"study={view.name}"]
    if view.origin.folder is None and view.origin.storage:
        words.append(f"storage={view.origin.storage}")
    searched = view.axes[0].name if view.axes else "…"
    return " ".join(map(shlex.quote, [*words, f"goal={view.goal or '…'}", f"scientific=[{searched}]"]))


@dataclass(frozen=True)
class _Edge:
    """A parameter of which the best values lie at an end of its range."""

    axis: Parameter
    side: Side
    best: Any  # the best trial's value, if it is there; else None
    of_all: bool  # whether that is the best trial of all, or of those that have the parameter
    median: bool  # whether the median of the best few is there
    few: int  # how many they are

    @property
    def words(self) -> str:
        """Return who is where."""
        best = f"the best trial{'' if self.of_all else ' that has it'} ({short(self.best)})"
        who = [best] * (self.best is not None) + [f"the median of the best {self.few}"] * self.median
        end = f"the {'upper' if self.side == 'high' else 'lower'} end of {self.axis.name}"
        luck = f" (by chance perhaps: the median of the best {self.few} does not)"
        alone = luck if not self.median and self.few >= LEAST_TOP else ""
        return f"{' and '.join(who)} {'lie' if len(who) > 1 else 'lies'} at {end}{alone}"


def edge(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Check 2: whether the best trial, or the median of the best, is at a bound of a range."""
    numbers: dict[str, Any] = {"edge": thresholds.edge, "top": thresholds.top, "parameters": {}}
    axes = [axis for axis in view.axes if (axis.choices is None or ordered(axis)) and not axis.is_seed]
    if axes and (few := lacking(view)) is not None:
        return _EDGE("look", few.evidence, few.advice, few.command, numbers | {"complete": len(view.completed)})
    if not axes or len({trial.values[0] for trial in view.completed}) < 2:
        evidence = NOTHING_ENDED if not view.ended else "no range was searched" if not axes else "no two scores differ"
        return _EDGE("ok", evidence, "There is no best value of which to ask this.", None, numbers)
    found = [end for axis in axes if (end := _edge(view, axis, thresholds)) is not None]
    new = {end.axis.name: extended(end.axis, end.side) for end in found}
    for end in found:
        numbers["parameters"][end.axis.name] = {
            "side": end.side, "best": end.best is not None, "median": end.median, "proposed": new[end.axis.name],
        }  # fmt: skip
    if not found:
        advice = "The best trials lie inside their ranges, so none need be wider."
        return _EDGE("ok", f"none of {many(len(axes), 'range')}", advice, None, numbers)
    found.sort(key=lambda end: (new[end.axis.name] is None, not end.median, end.best is None))
    evidence = f"{found[0].axis.name} at its {'upper' if found[0].side == 'high' else 'lower'} end"
    evidence += f", {len(found) - 1} more" if len(found) > 1 else ""
    movable = [(end.axis, expression) for end in found if (expression := new[end.axis.name]) is not None]
    if not movable:
        return _EDGE("look", evidence, sentence(_row([_limited(end) for end in found])), None, numbers)
    words = _row([end.words for end in found if new[end.axis.name] is not None])
    ranges = both([f"{axis.name}={expression}" for axis, expression in movable])
    advice = sentence(f"{words}: better values may lie beyond, so search {ranges}")
    return _EDGE("act", evidence, advice, view.command(overrides(movable)), numbers)


def _row(clauses: Sequence[str]) -> str:
    """Return clauses side by side, the first three at most."""
    more = [f"and {len(clauses) - 3} more"] * (len(clauses) > 3)
    return "; ".join([*clauses[:3], *more])


def _limited(end: _Edge) -> str:
    why = limit(end.axis, end.side) or "there is no room beyond"
    return f"{end.words}, and {why}: fix it there if the rest is to be tuned with that value"


def _edge(view: StudyData, axis: Parameter, thresholds: Thresholds) -> _Edge | None:
    """Return the end of an axis at which the best of the trials that have it lie."""
    trials = [trial for trial in _best_first(view) if place(axis, trial) is not None]
    margins = edges(axis, thresholds.edge)
    if len(trials) < 2 or margins is None:
        return None
    count = len(trials) if len(view.directions) > 1 else math.ceil(thresholds.top * len(trials))
    units = [_rising(axis, trial) for trial in trials[:count]]
    middle = statistics.median(units) if count >= LEAST_TOP else None
    leading = leaders(view, axis)
    sides: tuple[Side, Side] = ("low", "high")
    for side in sides:

        def at_end(unit: float, side: Side = side) -> bool:
            return unit <= margins[0] if side == "low" else 1 - unit <= margins[1]

        best = bool(leading) and all(at_end(_rising(axis, trial)) for trial in leading)
        median = middle is not None and at_end(middle)
        if best or median:
            value = leading[0].params[axis.name] if best else None
            return _Edge(
                axis, side, value, view.best is not None and leading[0].number == view.best.number, median, count
            )
    return None


def _best_first(view: StudyData) -> list[TrialData]:
    """Return the complete trials, the best first; of several objectives, those on the front."""
    return [t for t in view.ranking if t.outcome == "complete"] if len(view.directions) == 1 else pareto_front(view)


def _rising(axis: Parameter, trial: TrialData) -> float:
    """Return how far a value lies from the lowest to the highest, 0 to 1."""
    unit = place(axis, trial) or 0.0
    return 1 - unit if axis.bounds[0] > axis.bounds[1] else unit


def enough(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Check 3: what the best of a quarter, a half and all of the complete trials is expected to be."""
    scores = [trial.values[0] for trial in view.completed]
    n, ended = len(scores), len(view.ended)
    numbers: dict[str, Any] = {"rising": thresholds.rising, "scored": n, "ended": ended, "best_of": []}
    cells = math.prod(len(axis.choices or ()) for axis in view.axes)
    if view.axes and cells and ((view.origin.sampler == "Grid" and ended) or _each_once(view, cells)):
        return _grid(view, cells, numbers)
    if (few := lacking(view)) is not None:
        return _ENOUGH("look", few.evidence, few.advice, few.command, numbers)
    if not n:
        evidence = "no trial has a score" if ended else NOTHING_ENDED
        return _ENOUGH("ok", evidence, "There is no best score of which to ask this.", None, numbers)
    twice, what = more(view), "complete trial" if view.with_outcome("pruned") else "score"
    if n < LEAST_SCORES:
        advice = f"{many(n, what)} cannot tell whether a longer search would help: {twice.words}."
        return _ENOUGH("look", f"{many(n, what)}, too few to tell", advice, twice.command, numbers)
    curve = best_of_n(scores, [n // 4, n // 2, n], view.sign, thresholds.confidence, thresholds.repeats, seed=0)
    _, half, whole = curve
    gain = view.sign * (whole.mean - half.mean)
    spread = view.sign * (whole.mean - statistics.median(scores))
    share = gain / spread if spread > 0 else 0.0
    if not math.isfinite(gain) or not math.isfinite(spread):
        evidence, advice = "scores beyond what can be compared", "The scores are too large to compare."
        return _ENOUGH("ok", evidence, advice, None, numbers)
    numbers |= {"best_of": [asdict(point) for point in curve], "gain": gain, "spread": spread}
    evidence = f"best of {half.n}: {significant(half.mean)}, of {n}: {significant(whole.mean)}"
    of = f"{n} complete trials" if view.with_outcome("pruned") else f"{n} trials"
    what = f"from {half.n} to {of} the expected best {_objective(view)} improved by {gain:.2g}"
    if share > thresholds.rising:
        likely = "twice as many trials are" if view.budget is None else f"{trainings(2 * view.budget)} are"
        likely = "the rest of the search is" if view.goes_on else likely
        advice = (
            f"Still rising: {what}, {percent(share)} of its lead over the median (the limit is "
            f"{percent(thresholds.rising)}), so {likely} likely to find better."
        )
        return _ENOUGH("look", evidence, advice, twice.command, numbers)
    lead = f"{percent(share, 1)} of its lead over the median" if spread > 0 else "since half of the trials equal it"
    unit = "trials" if view.budget is None else "trainings"
    advice = f"Levelled off: {what}, {lead}, so more {unit} in the same space would bring little."
    return _ENOUGH("ok", evidence, advice, None, numbers)


def _each_once(view: StudyData, cells: int) -> bool:
    """Return whether a grid in random order, which has no cell twice, was run to its end."""
    return view.origin.sampler == "RandomGrid" and len(view.ended) >= cells


def _grid(view: StudyData, cells: int, numbers: dict[str, Any]) -> Verdict:
    """Return whether each cell of a grid was run."""
    ended = len(view.ended)
    if ended >= cells:
        advice = "Every combination was tried once, so only other values, or repeats with other seeds, can tell more."
        return _ENOUGH("ok", f"all {cells} cells of the grid", advice, None, numbers)
    limits = ["n_trials"] * (view.budget is None or view.n_trials is not None) + ["budget"] * (view.budget is not None)
    command = view.command({}, *(f"hydra.sweeper.{limit}={cells}" for limit in limits))
    advice = f"{many(cells - ended, 'cell')} of the grid {'is' if cells - ended == 1 else 'are'} missing: run the rest."
    return _ENOUGH("look", f"{ended} of {cells} cells", advice, command, numbers)


def _objective(view: StudyData) -> str:
    return view.objective + (f" (the first of {len(view.objectives)} objectives)" if len(view.objectives) > 1 else "")


def importance(view: StudyData, thresholds: Thresholds, found: Importances | None = None) -> Verdict:
    """Check 7: which parameters mattered, and which may be fixed; `found` saves the time of finding it again."""
    found = found or importances(view, thresholds)
    if found is None or not found.shares:
        return _no_importance(view)
    numbers = {"confidence": thresholds.confidence, "minor": MINOR, **asdict(found)}
    names = list(found.shares)
    evidence = ", ".join(f"{name} {_share(found, name)}" for name in names[:2])
    if len(names) == 1:
        return _IMPORTANCE("ok", evidence, CHANCE if view.of_seeds else ALONE, None, numbers)
    first, second = names[:2]
    if found.low[first] < found.shares[second]:
        advice = (
            f"{many(found.trials, 'trial')} do not tell whether {first} or {second} matters more, since their "
            "intervals overlap: do not fix or drop a parameter by these shares."
        )
        return _IMPORTANCE("look", evidence, advice, None, numbers)
    lucky = chance(view, [trial.values[0] for trial in view.completed])
    if lucky is not None and lucky > MOSTLY:
        advice = f"Chance alone explains {percent(lucky)} of the variance of these scores, so the shares say little."
        return _IMPORTANCE("look", evidence, advice, None, numbers | {"chance": lucky})
    kept = set(view.scientific)
    known = found.trials >= ENOUGH
    minor = [a for a in view.axes if found.high.get(a.name, 1.0) < MINOR and not {a.name, a.key} & kept and known]
    best = view.best
    fixed = {axis.name: _fixed(best.params[axis.name]) for axis in minor if best and axis.name in best.params}
    numbers["fix"] = fixed
    advice = f"Tune {first} first"
    if fixed:
        values = both([f"{name}={value}" for name, value in fixed.items()])
        each = "each explains" if len(fixed) > 1 else "it explains"
        advice += f"; fix {values}, as the best trial has it, since {each} less than {percent(MINOR)}"
    plain = {axis.name for axis in minor if axis.name == axis.key and not axis.where}
    changes = {name: value for name, value in fixed.items() if name in plain}
    return _IMPORTANCE("ok", evidence, f"{advice}.", view.command(changes) if changes else None, numbers)


def _no_importance(view: StudyData) -> Verdict:
    """Return what there is to say where no importance can be told."""
    n, scores = len(view.completed), {trial.values[0] for trial in view.completed}
    numbers: dict[str, Any] = {"scored": n, "least": least(view), "minor": MINOR}
    if len(scores) == 1 and n > LEAST_TOP:
        advice = "Every trial has the same score, so no parameter mattered within these ranges: take wider ones."
        return _IMPORTANCE("look", "all scores are equal", advice, None, numbers)
    if not view.ended or not view.axes or not view.ranking:
        evidence = (
            NOTHING_ENDED if not view.ended else "nothing was searched" if view.ranking else "no trial has a score"
        )
        return _IMPORTANCE("ok", evidence, "There is nothing to compare yet.", None, numbers)
    if len(view.axes) == 1:
        return _IMPORTANCE("ok", f"{view.axes[0].name} alone", CHANCE if view.of_seeds else ALONE, None, numbers)
    if (few := lacking(view, least(view))) is not None:
        return _IMPORTANCE("look", few.evidence, few.advice, few.command, numbers)
    advice = "Too few scores, or too few values, to tell parameters apart: more trials would."
    return _IMPORTANCE("look", f"{many(n, 'score')}, too few to tell", advice, more(view).command, numbers)


def _share(found: Importances, name: str) -> str:
    return f"{percent(found.shares[name])} ({percent(found.low[name])} to {percent(found.high[name])})"


def _fixed(value: Any) -> str:
    return typed(float(f"{value:.3g}")) if isinstance(value, float) else typed(value)


def scientific(view: StudyData, thresholds: Thresholds) -> Verdict:
    """Check 8: the best score for each value of the scientific parameters, against the noise."""
    wanted, unknown = _scientific(view)
    numbers: dict[str, Any] = {"uneven": thresholds.uneven, "parameters": {}}
    if not wanted:
        evidence = f"{both(unknown)} not searched" if unknown else "none named"
        return _SCIENTIFIC("ok", evidence, "There is no scientific parameter to compare.", None, numbers)
    if (few := lacking(view)) is not None:
        return _SCIENTIFIC("look", few.evidence, few.advice, few.command, numbers)
    known = noise(view)
    moved = known if known is not None and math.isfinite(known.sd) else None
    levels, answers, gaps = [], [], []
    for axis in wanted:
        isolated = isolate(view, axis, moved.sd if moved else None)
        ratio = unevenness(isolated)
        uneven = ratio is not None and ratio > thresholds.uneven
        evidence, words = _compared(view, isolated, moved, thresholds)
        levels.append(uneven)
        gaps.append(evidence)
        answers.append(words + (f", but the counts are uneven ({_counts(isolated)})" if uneven else ""))
        numbers["parameters"][axis.name] = {
            "levels": [asdict(level) for level in isolated.levels],
            "unevenness": ratio if ratio is not None and math.isfinite(ratio) else None,
        }
    numbers["noise"] = {"sd": moved.sd, "source": moved.source} if moved else None
    if not any(levels):
        return _SCIENTIFIC("ok", "; ".join(gaps), f"{'; '.join(answers)}.", None, numbers)
    command, how = _balanced(view)
    advice = f"{'; '.join(answers)}: {how}, so that each value has an equal chance."
    return _SCIENTIFIC("look", "; ".join(gaps), advice, command, numbers)


def _compared(view: StudyData, isolated: Isolated, moved: Noise | None, thresholds: Thresholds) -> tuple[str, str]:
    """Return the gap between the best two values, as evidence and in words."""
    scored = [(view.sign * level.best, level.label) for level in isolated.levels if level.best is not None]
    if len(scored) < 2:
        known = f"only {scored[0][1]} has a score" if scored else "no value has a score"
        return f"{isolated.name}: {known}", f"{isolated.name} cannot be compared: {known}"
    (first, label), (second, other) = itertools.islice(sorted(scored, key=lambda pair: -pair[0]), 2)
    gap = first - second
    if gap == 0:
        return (
            f"{isolated.name}: {label} and {other} are equal",
            f"{isolated.name} {label} and {other} are equally good",
        )
    evidence = f"{isolated.name}: {label} before {other} by {gap:.2g}"
    words = f"{isolated.name} {label} is better than {other} by {gap:.2g}"
    if moved is None:
        how = f" (make confirm STUDY={view.name} tells)" if view.origin.program else ""
        return evidence, f"{words}; how far retraining moves a score is not known{how}"
    chance = float(stats.t.ppf((1 + thresholds.confidence) / 2, moved.freedom)) * math.sqrt(2) * moved.sd
    beyond = "more" if gap > chance else "no more"
    return f"{evidence} (noise {chance:.2g})", f"{words}, {beyond} than chance explains ({chance:.2g})"


def _counts(isolated: Isolated) -> str:
    return ", ".join(f"{level.label}: {level.trials}" for level in isolated.levels)


def _balanced(view: StudyData) -> tuple[str | None, str]:
    """Return the command under which values have equal chances, and what it does."""
    if view.origin.sampler == "Grid":
        return None, "find out why some values have no score"
    if view.origin.sampler in ("Random", "RandomGrid", "QuasiRandom"):
        if view.budget is not None or view.goes_on:
            return more(view).command, more(view).words
        command = view.command({}, f"hydra.sweeper.n_trials={2 * len(view.trials)}")
        return command, "run twice as many trials"
    grid = all(axis.choices is not None and not axis.where for axis in view.axes)
    sampler = "random_grid" if grid else "random"
    return view.command({}, f"hydra/sweeper/sampler={sampler}"), f"search with the sampler {sampler}"
