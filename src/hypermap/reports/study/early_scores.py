"""Whether early scores tell: how well each rung ranks a study's trials as their final scores do.

The search stops trials by their early scores (`hypermap.search.auto_pruner`), and tests these on its complete trials.
"""

from dataclasses import asdict, dataclass

from optuna.trial import TrialState

from hypermap.reports.study.course import reports_per_epoch
from hypermap.reports.study.sentences import both, many
from hypermap.reports.study.verdict import Verdict
from hypermap.reports.study.view import StudyData
from hypermap.search.auto_pruner import INFORMATIVE, AutoPruner
from hypermap.search.curves import PRIOR_TAU, Agreement, CurveReader
from hypermap.tasks.base import LOSSES

LEAST = 5
"""Complete trials with which Kendall's tau has an interval, and is told."""

QUESTION = "Do early scores tell?"
MISJUDGED = "what was pruned may have been among the best"


@dataclass(frozen=True)
class EarlyScores:
    """What early scores say of final ones.

    Attributes:
        unit: what a step is: ``epoch``, ``fold``, ``fit`` or ``step``.
        each: steps of a unit.
        rungs: how well each ranks the complete trials, the last one's own rank included.
        first: the place of the first rung at which the default search stops trials.
        automatic: whether the study was searched so; another pruner has its own rule.
    """

    unit: str
    each: int
    rungs: tuple[Agreement, ...]
    first: int
    automatic: bool

    @property
    def n(self) -> int:
        """Return how many complete trials this is known from."""
        return self.rungs[-1].n

    def place(self, rung: Agreement) -> float:
        """Return where a rung is, in units."""
        return rung.step / self.each

    def label(self, rung: Agreement) -> str:
        """Return what a rung is called, such as ``epoch 4``."""
        return f"{self.unit} {self.place(rung):g}"


def early_scores(view: StudyData) -> EarlyScores | None:
    """Return what early scores say; None where none was stopped by them, or trials report but once."""
    automatic = view.origin.pruner == AutoPruner.__name__
    if len(view.directions) > 1 or not (automatic or view.with_outcome("pruned")):
        return None
    known = {trial.number for trial in view.trials}  # the study itself may have grown meanwhile
    trials = [trial for trial in view.study.get_trials(deepcopy=False) if trial.number in known]
    curves = CurveReader(_reports_sign(view), view.sign, view.horizon, view.fits_several)
    table = curves.read([trial for trial in trials if trial.state != TrialState.FAIL])
    if len(table.rungs) < 2:
        return None
    each = reports_per_epoch(view)
    first = AutoPruner(view.horizon, curves=curves).first_rung(table)
    return EarlyScores(_unit(view, each), each, tuple(table.agreement()), first, automatic)


def _reports_sign(view: StudyData) -> float:
    """Return 1 where a higher report is better, else -1; it may be of another metric than the objective."""
    if view.reports_objective:
        return view.sign
    return -1.0 if view.fixed.get("trainer.monitor") in LOSSES else 1.0


def _unit(view: StudyData, each: int) -> str:
    if view.fits_several:
        folds = view.fixed.get("validation.name", "holdout") != "holdout" and view.fixed.get("trainer.repeats", 1) == 1
        return "fold" if folds else "fit"
    return "epoch" if view.origin.program or view.origin.folder or each > 1 else "step"


def judged(found: EarlyScores) -> Verdict:
    """Return the answer, as of a check; it is none of the playbook's."""
    numbers = {
        "rungs": [asdict(rung) | {"believed": rung.believed} for rung in found.rungs],
        "stops_from": found.rungs[found.first].step,
        "informative": INFORMATIVE,
        "least": LEAST,
    }
    if found.n < LEAST:
        evidence = f"not known, {many(found.n, 'complete trial') if found.n else 'no complete trial'}"
        return Verdict("early_scores", QUESTION, "look", evidence, _assumed(found), None, numbers)
    *early, last = found.rungs
    rung = found.rungs[found.first]
    if rung is last:
        rung = max(early, key=lambda each: each.tau)
        advice = f"No {found.unit} before the last ranks trials well enough (a tau of {INFORMATIVE:g}), so "
        so = "trials are trained to their end before they are judged" if found.automatic else MISJUDGED
        return Verdict("early_scores", QUESTION, "look", _evidence(found, rung), f"{advice}{so}.", None, numbers)
    advice = f"{'Trials are stopped' if found.automatic else 'A pruner may stop trials'} from {found.label(rung)} on"
    if before := [f"{found.label(each)} {each.tau:.2f}" for each in early[: found.first]]:
        advice += f"; what comes before says too little ({both(before)})"
    if rung.tau < INFORMATIVE:  # so few trials are believed only in part
        advice += f". That takes a tau of {INFORMATIVE:g}: with so few complete trials the search still relies in part "
        advice += f"on the usual {PRIOR_TAU:g}"
        return Verdict("early_scores", QUESTION, "look", _evidence(found, rung), f"{advice}.", None, numbers)
    if rung.low < min(INFORMATIVE, rung.high):
        advice += f", though with so few complete trials its tau may be below the {INFORMATIVE:g} that this takes"
    return Verdict("early_scores", QUESTION, "ok", _evidence(found, rung), f"{advice}.", None, numbers)


def _assumed(found: EarlyScores) -> str:
    advice = f"Fewer than {LEAST} complete trials do not tell"
    if not found.automatic:
        return f"{advice}."
    stops = found.label(found.rungs[found.first])
    return f"{advice}: the search assumes a tau of {PRIOR_TAU:g} at first, and stops trials from {stops} on."


def _evidence(found: EarlyScores, rung: Agreement) -> str:
    count = many(rung.n, "complete trial")
    interval = f"{rung.low:.2f} to {rung.high:.2f}, {count}"
    return f"{found.label(rung)} ranks trials as the last does, Kendall's tau {rung.tau:.2f} ({interval})"
