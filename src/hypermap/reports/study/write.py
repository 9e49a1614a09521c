"""A study's report as files: equal studies give equal bytes, but for the HTML, which Git does not keep."""

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hypermap.core.files import write_bytes, write_csv, write_json, write_text
from hypermap.core.passwords import masked
from hypermap.reports.run.wording import inert
from hypermap.reports.study import course_pictures, space_pictures
from hypermap.reports.study.checks import judge
from hypermap.reports.study.course import trained
from hypermap.reports.study.early_scores import early_scores, judged
from hypermap.reports.study.importance import Importances, importances
from hypermap.reports.study.isolation import isolate
from hypermap.reports.study.noise import noise
from hypermap.reports.study.over_baseline import over_baseline
from hypermap.reports.study.page import page
from hypermap.reports.study.proposers import proposers
from hypermap.reports.study.statistics import estimate
from hypermap.reports.study.trade_off import pareto_front
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import ENDED, StudyData, TrialData

ORDER = "params.yaml"  # in a trial's folder: what orders it again


def write_report(view: StudyData, reports: Path, thresholds: Thresholds) -> list[Verdict]:
    """Write a study's report into a folder of `reports` that has its name; returns the verdicts.

    Writes report.md and its pictures, trials.csv, best.yaml, study.json, and report.html, which is interactive.
    """
    folder = folder_of(view.name, reports)
    found = importances(view, thresholds)
    verdicts = judge(view, thresholds, found)
    drawn = {name: content for name, draw in _pictures(view, found, thresholds).items() if (content := draw())}
    for stale in (folder / "pictures").glob("*.png"):
        if stale.stem not in drawn:
            stale.unlink()
    for name, content in drawn.items():
        write_bytes(folder / "pictures" / f"{name}.png", content)
    write_text(folder / "report.md", masked(inert(page(view, verdicts, drawn, thresholds))))
    write_csv(folder / "trials.csv", *trials_table(view))
    write_text(folder / "best.yaml", masked(best_text(view)))
    write_json(folder / "study.json", _finite(summary(view, verdicts, thresholds)))
    from hypermap.reports.study.interactive import interactive  # brings plotly

    write_text(folder / "report.html", interactive(view, verdicts, found, thresholds))
    return verdicts


def folder_of(name: str, reports: Path) -> Path:
    """Return where the report of a study of that name is; names of other programs may hold what a folder's cannot."""
    return reports / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study")


def trials_table(view: StudyData) -> tuple[list[str], list[dict[str, Any]]]:
    """Return columns, and a row a trial, the best first: natural values, how it ended, what it cost, its seed."""
    own = ["trial", "state", *view.objectives, "reached", "epochs", "best_epoch", "seconds", "seed", "error"]
    own[-1:-1] = ["fits", "sd"] if view.fits_several else []
    by = any(trial.proposed for trial in view.trials)
    own[-1:-1] = ["proposed"] if by else []
    columns = {axis.name: f"params_{axis.name}" if axis.name in own else axis.name for axis in view.axes}
    place = {trial.number: k for k, trial in enumerate(view.ranking)}
    epochs = trained(view)
    trials = sorted(view.trials, key=lambda trial: (place.get(trial.number, len(place)), trial.number))
    rows = [
        {
            "trial": trial.number,
            "state": trial.outcome,
            **dict(zip(view.objectives, trial.values, strict=False)),
            "reached": view.score(trial),
            "epochs": round(epochs.get(trial.number, 0), 6),
            "best_epoch": trial.best_epoch,
            "seconds": trial.seconds,
            "seed": trial.seed,
            **(_spread(trial) if view.fits_several else {}),
            **({"proposed": trial.proposed} if by else {}),
            "error": masked(" ".join((trial.error or "").split()))[:200],
            **{columns[name]: value for name, value in trial.params.items()},
        }
        for trial in trials
    ]
    return [*own[:-1], *columns.values(), own[-1]], rows


def _spread(trial: TrialData) -> dict[str, Any]:
    """Return how many fits a trial is the mean of, and their standard deviation (of a sample)."""
    several = len(trial.scores) > 1
    return {"fits": len(trial.scores), "sd": statistics.stdev(trial.scores) if several else None}


def best_text(view: StudyData) -> str:
    """Return the best trial, or the Pareto front, as YAML: values by their keys in the configuration, and the order."""
    best = pareto_front(view) if len(view.directions) > 1 else [view.best] if view.best else []
    if not best:
        return f"# No trial of {view.name} was trained to its end.\n"
    entries = [_best_entry(view, trial) for trial in best]
    head = f"# The best of {view.name}.\n" if len(best) == 1 else f"# The Pareto front of {view.name}.\n"
    text = yaml.safe_dump(_finite(entries if len(entries) > 1 else entries[0]), sort_keys=False, width=120)
    return head + text


def _best_entry(view: StudyData, trial: TrialData) -> dict[str, Any]:
    entry: dict[str, Any] = {"trial": trial.number, **dict(zip(view.objectives, trial.values, strict=True))}
    if trial.seed is not None:
        entry["seed"] = trial.seed
    entry["values"] = {axis.key: trial.params[axis.name] for axis in view.axes if axis.name in trial.params}
    if view.origin.folder is not None and (path := view.origin.folder / str(trial.number) / ORDER).exists():
        entry["order"] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entry


def summary(view: StudyData, verdicts: Sequence[Verdict], thresholds: Thresholds) -> dict[str, Any]:
    """Return the verdicts with their evidence and thresholds, for machines."""
    best, gain, early = view.best, over_baseline(view, thresholds), early_scores(view)
    answer = None if early is None else judged(early)
    return {
        "study": view.name,
        "goal": view.goal,
        "objectives": list(view.objectives),
        "directions": list(view.directions),
        "trials": {how: count for how in (*ENDED, "running") if (count := len(view.with_outcome(how)))},
        "trainings": None if view.budget is None else {"spent": view.spent, "budget": view.budget},
        "best": None if best is None else _best_entry(view, best) | {"value": best.values[0]},
        "verdicts": [
            {
                "check": verdict.check,
                "question": verdict.question,
                "level": verdict.level,
                "figure": verdict.evidence,
                "advice": verdict.advice,
                "command": verdict.command,
                "numbers": verdict.numbers,
            }
            for verdict in verdicts
        ],
        "baseline": None if gain is None else gain.record() | {"moved": list(view.moved)},
        "early_scores": None
        if answer is None
        else {"level": answer.level, "figure": answer.evidence, **answer.numbers},
        "proposers": [vars(one) for one in proposers(view)],
        "confirmed": [
            {"label": c.label, "trial": c.trial, "scores": list(c.scores), "failed": c.failed}
            | (vars(estimate(c.scores, thresholds.confidence)) if c.scores else {"n": 0})
            for c in view.confirmed
        ],
        "test": {name: list(values) for name, values in view.test.items()},
        "thresholds": vars(thresholds),
    }


def _pictures(
    view: StudyData, found: Importances | None, thresholds: Thresholds
) -> dict[str, Callable[[], bytes | None]]:
    """Return every picture by the name of its file; those that do not apply draw nothing."""
    return {
        "history": lambda: course_pictures.history(view, thresholds),
        "best_of_n": lambda: course_pictures.best_of_n(view, thresholds),
        "importance": lambda: space_pictures.importance(view, found) if found else None,
        "slices": lambda: space_pictures.slices(view, found, thresholds),
        "isolation": lambda: _isolation(view, found),
        "contour": lambda: space_pictures.contour(view, found) if found else None,
        "parallel": lambda: space_pictures.parallel_coordinates(view, found, thresholds),
        "curves": lambda: course_pictures.curves(view, thresholds),
        "early_scores": lambda: course_pictures.early_scores(view, thresholds),
        "timeline": lambda: course_pictures.timeline(view, thresholds),
        "trade_off": lambda: course_pictures.trade_off(view, thresholds),
    }


def _isolation(view: StudyData, found: Importances | None) -> bytes | None:
    """Draw the scientific parameters, or where none is named the one that mattered most."""
    named = [axis for axis in view.axes if {axis.name, axis.key} & set(view.scientific)]
    axes = named or ([view.axis(next(iter(found.shares)))] if found else [])
    noisy = noise(view)
    return space_pictures.isolation(view, [isolate(view, axis, noisy.sd if noisy else None) for axis in axes])


def _finite(value: Any) -> Any:
    """Return the same for JSON, which has no infinity and no NaN, they become null; and without passwords."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value
