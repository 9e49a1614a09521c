"""Several searches of one problem, side by side: the best score against what it cost."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from hypermap.files import write_bytes, write_csv
from hypermap.search.study import RESULT, Plan, best, connect, finished, outcome

Curve = list[tuple[float, float]]


def compare(plans: Mapping[str, Plan], reports: Path) -> str:
    """Draw the best score so far against the epochs trained, a line a study; returns the table, and where it is.

    Writes ``comparison.csv`` and ``comparison.png`` into the folder of `reports` that is named by what the studies'
    names have in common.
    """
    curves, rows = {}, []
    for name, plan in plans.items():
        trials = finished(connect(plan).get_trials(deepcopy=False), plan.n_trials)
        curves[name] = curve(trials, maximizes=plan.maximizes)
        top = best(trials, maximizes=plan.maximizes)
        rows.append(
            {
                "strategy": name,
                "best": None if top is None else top.values[0],
                "trials": len(trials),
                "pruned": sum(outcome(trial) == "pruned" for trial in trials),
                "epochs": sum(map(cost, trials)),
            }
        )
    first, plan = next(iter(plans.items()))
    folder = reports / plan.name.removesuffix(f"-{first}")
    metric = plan.objectives[0] if plan.objectives else "objective"
    write_csv(folder / "comparison.csv", list(rows[0]), rows)
    drawn = "No picture: no trial was trained to its end."
    if any(curves.values()):
        from hypermap.report.pictures import comparison

        write_bytes(folder / "comparison.png", comparison(curves, metric, falls=not plan.maximizes))
        drawn = f"Picture: {folder}/comparison.png"
    width = max(len(name) for name in plans)
    lines = [f"{'':{width}}  best {metric}  trials (pruned)  epochs"]
    for row in rows:
        told = "none" if row["best"] is None else f"{row['best']:.4f}"
        lines.append(
            f"{row['strategy']:{width}}  {told:>{5 + len(metric)}}  "
            f"{row['trials']:6} {'(' + str(row['pruned']) + ')':>8}  {row['epochs']:6}"
        )
    return "\n".join([*lines, drawn])


def cost(trial: FrozenTrial) -> int:
    """The epochs that a trial was trained for, as far as it reported them."""
    result: dict[str, Any] = trial.user_attrs.get(RESULT, {})
    return int(result.get("epochs", max(trial.intermediate_values, default=0)))


def curve(trials: list[FrozenTrial], *, maximizes: bool) -> Curve:
    """The best value so far after each completed trial, against the cost of all trials until then."""
    points: Curve = []
    spent = 0
    for trial in sorted(trials, key=lambda trial: (trial.datetime_complete or datetime.max, trial.number)):
        spent += cost(trial)
        if outcome(trial) == "complete":
            value = trial.values[0]
            if points:
                value = max(value, points[-1][1]) if maximizes else min(value, points[-1][1])
            points.append((spent, value))
    return [*points, (spent, points[-1][1])] if points else points
