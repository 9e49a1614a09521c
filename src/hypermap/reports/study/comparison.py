"""Several studies side by side, as a page with its table and picture."""

import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from hypermap.core.files import write_bytes, write_csv, write_json, write_text
from hypermap.core.passwords import masked
from hypermap.reports.run.render import render
from hypermap.reports.run.wording import inert, metric, significant, table
from hypermap.reports.study.sentences import both
from hypermap.reports.study.strategies import Comparison, Strategy, compared
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import StudyData

PER_SEARCH = ("trials", "pruned", "epochs")


def compare(views: Sequence[StudyData], reports: Path, thresholds: Thresholds, name: str | None = None) -> str:
    """Hold searches of one problem against each other at the same cost; returns the text for a terminal.

    Studies whose names are equal but for a last ``-s`` and a number are repeats of one strategy with other seeds.
    Writes ``comparison.md``, ``.png``, ``.csv`` and ``.json`` into a folder of `reports`.

    Args:
        views: the studies, of one objective.
        reports: the folder of reports.
        thresholds: whose confidence all intervals have.
        name: of the folder; by default what the studies' names have in common, or all of them.

    Raises:
        UserError: there is no study, one is there twice, or they have other objectives or directions.
    """
    comparison = compared(views, thresholds.confidence, name)
    folder = reports / comparison.name
    rows = [_row(strategy) for strategy in comparison.strategies]
    write_csv(folder / "comparison.csv", list(rows[0]), rows)
    write_json(folder / "comparison.json", _machine_readable(comparison))
    if comparison.best is not None:
        from hypermap.reports.study.comparison_picture import comparison as draw  # matplotlib is slow to import

        write_bytes(folder / "comparison.png", draw(comparison))
    else:
        (folder / "comparison.png").unlink(missing_ok=True)  # of an earlier comparison
    write_text(folder / "comparison.md", masked(inert(page(comparison))))
    return f"{summary(comparison)}\nPage: {folder}/comparison.md"


def _row(strategy: Strategy) -> dict[str, Any]:
    """Return a line of the table; trials, pruned and epochs are those of one search, on average."""
    found = strategy.estimate
    return {
        "strategy": strategy.name,
        "seeds": len(strategy.views),
        "mean": None if found is None else found.mean,
        "sd": None if found is None else found.sd,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "rank": strategy.rank,
        "trials": f"{strategy.trials:g}",
        "pruned": f"{strategy.pruned:g}",
        "epochs": f"{strategy.epochs:.10g}",
    }


def _machine_readable(comparison: Comparison) -> dict[str, Any]:
    def entry(strategy: Strategy) -> dict[str, Any]:
        gap = strategy.gap
        return _row(strategy) | {
            "trials": strategy.trials,
            "pruned": strategy.pruned,
            "epochs": strategy.epochs,
            "behind": None if gap is None else {"mean": gap.mean, "low": gap.low, "high": gap.high},
            "apart": strategy.apart,
            "scores": {view.name: strategy.scores.get(seed) for seed, view in strategy.views.items()},
        }

    return {
        "objective": comparison.objective,
        "direction": "maximize" if comparison.sign > 0 else "minimize",
        "unit": comparison.unit,
        "budget": comparison.budget,
        "confidence": comparison.confidence,
        "friedman": comparison.p_value,
        "ranked": comparison.ranked,
        "caveats": list(comparison.caveats),
        "strategies": [entry(strategy) for strategy in comparison.strategies],
    }


def summary(comparison: Comparison) -> str:
    """Return the answer and the table, for a terminal."""
    header, *lines = [_cells(comparison), *(_cells(comparison, strategy) for strategy in comparison.strategies)]
    widths = [max(len(line[k]) for line in (header, *lines)) for k in range(len(header))]
    aligned = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in (header, *lines)
    ]
    caveats = [f"Note: {line}." for line in comparison.caveats]
    return "\n".join([*aligned, " ".join(answer(comparison)), *caveats])


def page(comparison: Comparison) -> str:
    """Return the page: the answer first, then the table, the picture, how to read them, and where they come from."""
    strategies = comparison.strategies
    text = render(
        "study/templates/comparison.md.jinja",
        comparison=comparison,
        answer=answer(comparison),
        table=table(_cells(comparison), [_cells(comparison, strategy) for strategy in strategies]),
        share=f"{100 * comparison.confidence:g} %",
        several=any(len(strategy.views) > 1 for strategy in strategies),
        told_apart=any(strategy.apart is not None for strategy in strategies),
        redraw=_redraw(comparison),
        command=_command(comparison),
    )
    return f"{text}\n"


def answer(comparison: Comparison) -> list[str]:
    """Return what came of it, in a few sentences."""
    best = comparison.best
    if best is None or best.estimate is None:
        return ["No trial was trained to its end, so there is nothing to compare."]
    shown = _format(comparison)
    score = shown(best.estimate.mean)
    if best.estimate.low is not None and best.estimate.high is not None:
        score += f" ({shown(best.estimate.low)} to {shown(best.estimate.high)})"
    others = [strategy for strategy in comparison.scored if strategy is not best]
    lines = [f"{best.name} reaches the best {comparison.objective}: {score}."]
    if len(comparison.scored) < len(comparison.strategies):
        lines = [f"Of those that completed a trial, {best.name} has the best {comparison.objective}: {score}."]
    if len(comparison.strategies) == 1:
        lines = [f"{best.name}: the best {comparison.objective} is {score}."]
    if alike := [other.name for other in others if other.apart is False]:
        lines.append(f"It cannot be told apart from {both(alike)} over {len(best.scores)} seeds.")
    if worse := [other.name for other in others if other.apart]:
        lines.append(f"{both(worse)} {'is' if len(worse) == 1 else 'are'} worse beyond what seeds explain.")
    if unsaid := [other.name for other in others if other.apart is None]:
        lines.append(
            f"One seed is an anecdote: whether {both(unsaid)} would be behind {best.name} with another is not known."
        )
    elif len(best.scores) == 1:
        lines.append("One seed is an anecdote: another may end elsewhere.")
    for strategy in comparison.strategies:
        if missing := len(strategy.views) - len(strategy.scores):
            seeds = f" with {missing} of {len(strategy.views)} seeds, which its figures leave out"
            lines.append(
                f"{strategy.name} completed no trial within {comparison.budget:g} {comparison.unit}"
                f"{seeds if strategy.scores else ''}."
            )
    return lines


def _cells(comparison: Comparison, strategy: Strategy | None = None) -> list[str]:
    """Return a line of the table; its heading, where no strategy is given."""
    interval = f"{100 * comparison.confidence:g} % interval"
    if strategy is None:
        return ["strategy", f"best {comparison.objective}", interval, "behind", "rank", "seeds", *PER_SEARCH]
    shown, found, gap = _format(comparison), strategy.estimate, strategy.gap
    interval = "" if found is None or found.low is None or found.high is None else _span(shown, found.low, found.high)
    behind = "" if gap is None else shown(gap.mean)
    if gap is not None and gap.low is not None and gap.high is not None:
        behind += f" ({_span(shown, gap.low, gap.high)})"
    return [
        strategy.name,
        "none" if found is None else shown(found.mean),
        interval,
        behind,
        "" if strategy.rank is None else f"{strategy.rank:.1f}",
        str(len(strategy.views)),
        *(f"{each:,.0f}" for each in (strategy.trials, strategy.pruned, strategy.epochs)),
    ]


def _span(shown: Callable[[float], str], low: float, high: float) -> str:
    return f"{shown(low)} to {shown(high)}"


def _format(comparison: Comparison) -> Callable[[float], str]:
    """Return how scores are written: to four decimals, but where these say too little or too much."""
    scores = [abs(score) for strategy in comparison.strategies for score in strategy.scores.values()]
    if scores and not 0.05 <= max(scores) < 1000:
        return significant
    return partial(metric, comparison.objective)


def _redraw(comparison: Comparison) -> str:
    """Return the command that makes the page anew."""
    names = [view.name for view in comparison.studies]
    every = f"{comparison.name}-*"
    patterns = every if all(fnmatchcase(name, every) for name in names) else f"[{','.join(names)}]"
    return shlex.join(["python", "src/report.py", f"study={patterns}"])


def _command(comparison: Comparison) -> str | None:
    """Return the command that made the studies; None where they were not made together, or it is not known."""
    made = {view.command({}) for view in comparison.studies}
    return made.pop() if len(made) == 1 else None
