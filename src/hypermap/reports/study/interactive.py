"""The same study to explore: one HTML file that works offline, with Optuna's own plots."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna import visualization
from optuna.study import StudyDirection

from hypermap.core.passwords import masked
from hypermap.reports.run.render import render
from hypermap.reports.study.course import when
from hypermap.reports.study.early_scores import early_scores, judged
from hypermap.reports.study.importance import Importances
from hypermap.reports.study.over_baseline import described, over_baseline
from hypermap.reports.study.verdict import Thresholds, Verdict
from hypermap.reports.study.view import StudyData
from hypermap.search.study import quiet

PARAMETERS = 8
"""Parameters that a plot of several has: more of them no browser draws readably."""

CURVES = 300
"""Curves in one plot: the best trials'."""


def interactive(view: StudyData, verdicts: Sequence[Verdict], found: Importances | None, thresholds: Thresholds) -> str:
    """Return the page: the gain, the verdicts, and those of Optuna's plots that apply; some 5 MB, most of it
    plotly.js.
    """
    from plotly.offline import get_plotlyjs

    early, gain = early_scores(view), over_baseline(view, thresholds)
    plain = "" if gain is None else described(view, gain, thresholds).replace("**", "").replace("`", "")
    text = render(
        "study/templates/report.html.jinja",
        title=masked(view.name),
        library=get_plotlyjs(),
        gain=plain,
        verdicts=[*verdicts, *([judged(early)] if early is not None else [])],
        plots=_plots(view, found),
    )
    return f"{text}\n"


def _plots(view: StudyData, found: Importances | None) -> Iterator[str]:
    names = list(found.shares) if found else [axis.name for axis in view.axes]
    names = [name for name in names if any(name in trial.params for trial in view.completed)][:PARAMETERS]
    study = _drawable(view, names)
    aim: dict[str, Any] = {}
    if len(view.directions) > 1:
        aim = {"target": lambda trial: trial.values[0], "target_name": view.objective}
        if len(view.directions) <= 3:
            yield from _drawn(visualization.plot_pareto_front, study, target_names=list(view.objectives))
    else:
        aim = {"target_name": view.objective}
    yield from _drawn(visualization.plot_optimization_history, study, **aim)
    if any(trial.reports for trial in view.trials) and len(view.directions) == 1:
        yield from _drawn(visualization.plot_intermediate_values, study)
    if len(names) > 0:
        yield from _drawn(visualization.plot_parallel_coordinate, study, params=names, **aim)
        yield from _drawn(visualization.plot_slice, study, params=names, **aim)
    if len(names) > 1:
        yield from _drawn(visualization.plot_contour, study, params=names[:2], **aim)
    if all(trial.began is not None for trial in view.trials):
        yield from _drawn(visualization.plot_timeline, study)


def _drawable(view: StudyData, names: Sequence[str]) -> optuna.Study:
    """Return a copy without what the plots do not take, or would repeat at each point: values that are no number,
    parameters but for those of these names, attributes, and all but the best trials' curves.
    """
    shown = {trial.number for trial in view.ranking[:CURVES]}
    tried = {trial.number: trial for trial in view.trials}
    with quiet():
        directions = [StudyDirection[direction.upper()] for direction in view.directions]
        study = optuna.create_study(directions=directions, study_name=view.name)
        for trial in view.study.get_trials(deepcopy=True):
            if trial.state == optuna.trial.TrialState.COMPLETE and not all(map(math.isfinite, trial.values)):
                continue
            known = tried.get(trial.number)
            if known is not None and known.paused:
                trial.state = optuna.trial.TrialState.PRUNED
            if known is not None and known.busy_s is not None and known.outcome != "running" and (run := when(known)):
                trial.datetime_start, trial.datetime_complete = run
            if trial.number not in shown:
                trial.intermediate_values = {}
            trial.distributions = {name: d for name, d in trial.distributions.items() if name in names}
            trial.params = {name: value for name, value in trial.params.items() if name in names}
            trial.user_attrs = {}
            study._storage.create_new_trial(study._study_id, template_trial=trial)  # also one without a date
    return study


def _drawn(plot: Callable[..., Any], study: optuna.Study, **settings: Any) -> Iterator[str]:
    """Yield one plot as HTML; nothing where the study has too little for it."""
    with quiet():
        try:
            figure = plot(study, **settings)
        except (ValueError, RuntimeError, IndexError, TypeError):  # too little to draw, or choices that have no order
            return
    yield figure.to_html(full_html=False, include_plotlyjs=False, div_id=plot.__name__)
