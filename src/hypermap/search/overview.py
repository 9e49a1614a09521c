"""A study as it stands, in a few lines: how far it is, its best trial, and what its workers do."""

from collections import Counter
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.passwords import shown
from hypermap.search.lease import Leases
from hypermap.search.progress import OUTCOMES, format_value, short
from hypermap.search.study import BUDGET, RECORD, TRAININGS, best, finished, outcome, worker_of

MOST = 12  # lines about running trials


def overview(study: optuna.Study, storage: str, leases: Leases | None = None) -> str:
    """Return the state of a study in lines: its trials by outcome, the best, and those that run.

    Args:
        study: as it is now.
        storage: where, for the heading.
        leases: of the workers, if these have been watched: whether they live is said, too.
    """
    trials, attrs = study.get_trials(deepcopy=False), study.user_attrs
    record, most = attrs.get(RECORD) or {}, attrs.get(BUDGET)
    names = list(record.get("objectives") or []) or ["objective"] * len(study.directions)
    aims = ", ".join(f"{one.name.lower()} {name}" for one, name in zip(study.directions, names, strict=False))
    ended = finished(trials, most)
    counts = Counter(map(outcome, ended))
    parts = [f"{counts[name]} {name.replace('_', ' ')}" for name in OUTCOMES if counts[name]]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    states = Counter(map(outcome, running))
    parts += [f"{states[name]} {name}" for name in ("running", "paused") if states[name]]
    of = f" of {most}" if most is not None else ""
    of += f" in at most {attrs[TRAININGS]:g} trainings" if attrs.get(TRAININGS) is not None else ""
    lines = [f"Study {study.study_name}: {aims}   {shown(storage)}"]
    lines.append(f"  {len(ended)}{of} trials: {', '.join(parts) or 'none begun'}")
    if len(study.directions) == 1:
        top = best(ended, maximizes=study.direction.name == "MAXIMIZE")
        if top is not None:
            lines.append(f"  best: trial {top.number}, {names[0]} {format_value(top.values[0])}: {_params(top)}")
    at_work = [trial for trial in running if outcome(trial) == "running"]
    lines += [f"  {_line(trial, record.get('horizon'), leases)}" for trial in at_work[:MOST]]
    if len(at_work) > MOST:
        lines.append(f"  and {len(at_work) - MOST} more")
    return "\n".join(lines)


def workers(trials: Sequence[FrozenTrial]) -> set[str]:
    """Return the names of the workers whose trials run and are not paused, as far as they have one."""
    return {name for trial in trials if outcome(trial) == "running" and (name := worker_of(trial))}


def _line(trial: FrozenTrial, horizon: int | None, leases: Leases | None) -> str:
    step = trial.last_step or 0
    far = f"{step}/{horizon}" if horizon else str(step)
    value = f" {format_value(trial.intermediate_values[step])}" if step in trial.intermediate_values else ""
    worker = worker_of(trial)
    where = f"  on {worker.rpartition('/')[0] or worker}" if worker else ""
    if worker and leases is not None:
        where += " (gone)" if leases.gone(worker) else " (no sign of life yet)" if leases.unclear(worker) else ""
    return f"trial {trial.number}  report {far}{value}{where}  {_params(trial)}"


def _params(trial: FrozenTrial) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
