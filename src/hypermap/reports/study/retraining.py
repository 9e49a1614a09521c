"""What retraining says of a study's best trial, beside the others that were retrained and the baseline."""

from dataclasses import dataclass
from pathlib import Path

from hypermap.reports.study.course import trained, warm
from hypermap.reports.study.statistics import difference
from hypermap.reports.study.verdict import Level, Thresholds
from hypermap.reports.study.view import BASELINE, Confirmed, StudyData

PROGRAM = "src/train.py"  # whose trials can be promoted, and confirmed by a target of make
LEAST_SECONDS = 1.0  # durations that differ by less may differ by what else the machine did


@dataclass(frozen=True)
class Gain:
    """By how much one configuration is better than another: above 0 is better, whichever way the objective goes."""

    low: float
    high: float
    probability: float

    def __str__(self) -> str:
        return f"{self.low:+.2g} to {self.high:+.2g}"


@dataclass(frozen=True)
class Retrained:
    """What retraining says of the best trial, of the best of the others, and of the baseline.

    One is better than another where the interval of the difference of their means excludes 0. The rival is the one
    with the best mean, not the second of the study: that one was picked for its luck as well.
    """

    view: StudyData
    thresholds: Thresholds
    own: Confirmed
    rival: Confirmed | None
    baseline: Confirmed | None

    def gain(self, one: Confirmed | None, other: Confirmed | None) -> Gain | None:
        """Return by how much one is better than the other; None where one of them has fewer than two scores."""
        if one is None or other is None or min(len(one.scores), len(other.scores)) < 2:
            return None
        sign = self.view.sign
        found = difference(one.scores, other.scores, sign, self.thresholds.confidence)
        if found.low is None or found.high is None or found.probability is None:
            return None
        low, high = sorted((sign * found.low, sign * found.high))
        return Gain(low, high, found.probability)

    def judged(self) -> tuple[Level, str, str | None]:
        """Return the level, what to do in one sentence, and the command."""
        lead = self.gain(self.own, self.rival)
        taken = self.rival if self.rival is not None and lead is not None and lead.high < 0 else self.own
        if taken is self.baseline:
            beyond = "no other is better by more than the noise" if self.rival is not None else "no other was retrained"
            return "act", f"Keep the baseline: it is the best trial, and {beyond}.", None
        command = promote_command(self.view, taken.trial)
        gain = self.gain(taken, self.baseline)
        if gain is not None and gain.low <= 0:
            return self._keep_baseline(taken, gain)
        if taken is not self.own:
            return (
                "act",
                f"Take {taken.label} instead: retrained, it is better than {self.own.label} by more than the noise.",
                command,
            )
        if gain is None:
            return (
                "look",
                f"The baseline has fewer than two good retrainings, so nothing says whether {taken.label} gains over "
                "it: retrain the baseline as well.",
                confirm_command(self.view),
            )
        if self.rival is None or lead is None or lead.low > 0:
            return ("ok", f"Adopt {taken.label}: retrained, it gains {gain} over the baseline.", command)
        cheap, why = self._cheaper(self.rival)
        return (
            "ok",
            f"Of {self.own.label} and {self.rival.label} adopt {why}: they are equal as far as can be seen, and "
            f"{self.own.label} gains {gain} over the baseline.",
            promote_command(self.view, cheap.trial),
        )

    def _keep_baseline(self, taken: Confirmed, gain: Gain) -> tuple[Level, str, str | None]:
        if gain.high < 0:
            return "act", f"Keep the baseline: retrained, it is better than {taken.label} by more than the noise.", None
        return (
            "act",
            f"Keep the baseline: that {taken.label} is better does not show above the noise ({gain}); if so small a "
            "gain matters, retrain with more seeds.",
            confirm_command(self.view, 2 * len(taken.scores)),
        )

    def _cheaper(self, rival: Confirmed) -> tuple[Confirmed, str]:
        """Return which of two equals to take, and why."""
        spent = costs(self.view)
        for unit, own in spent.get(self.own.trial, {}).items():
            other = spent.get(rival.trial, {}).get(unit)
            if other is not None and abs(own - other) >= (LEAST_SECONDS if unit == "s" else 1):
                less, more = sorted((own, other))
                chosen = self.own if own < other else rival
                return chosen, f"{chosen.label}, the cheaper ({amount(less, unit)}, not {amount(more, unit)})"
        return self.own, "whichever is simpler"


def costs(view: StudyData) -> dict[int, dict[str, float]]:
    """Return what each trial cost, by unit: ``weights``, ``epochs`` and ``s``, as far as they can be compared.

    A trial that began before any had ended was its worker's first: its seconds hold the worker's own start.
    """
    started = warm(view)
    found: dict[int, dict[str, float]] = {}
    epochs = trained(view)
    for trial in view.ended:
        known = {"weights": trial.metrics.get("parameters"), "epochs": epochs[trial.number], "s": trial.seconds}
        if trial.began is None or trial.began < started:
            del known["s"]
        found[trial.number] = {unit: float(amount) for unit, amount in known.items() if amount and amount > 0}
    return found


def amount(cost: float, unit: str) -> str:
    """Return a cost as one writes it."""
    return f"{cost:.3g} s" if unit == "s" else f"{cost:,.0f} {unit}"


def confirm_command(view: StudyData, seeds: int | None = None) -> str | None:
    """Return what trains the best trials and the baseline with other seeds; None where the program is not known."""
    if not is_ours(view):
        return view.command({}, "hydra.sweeper.confirm=true")
    return f"make confirm STUDY={view.name}" + (f" SEEDS={seeds}" if seeds else "")


def promote_command(view: StudyData, number: int) -> str | None:
    """Return what writes a trial into params.yaml; None for a study of another program, and for the baseline."""
    if not is_ours(view) or number == BASELINE:
        return None
    is_best = view.best is not None and view.best.number == number
    return f"make promote STUDY={view.name}" + ("" if is_best else f" TRIAL={number}")


def is_ours(view: StudyData) -> bool:
    """Return whether this project's own program made the study."""
    return Path(view.origin.program).as_posix() == PROGRAM
