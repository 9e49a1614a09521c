"""Other models beside the one in use, and an honest word on which of them to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypermap.reports.run import wording
from hypermap.tasks.metrics import higher_is_better

PROBABILITIES = ("log_loss", "calibration_error")
"""What the predicted probabilities are worth: the proper score that a verdict knows, and a part of it."""

IDLE = "dummy"
"""The model that ignores its inputs: a floor, and nobody's choice."""

NARROW = 0.1
"""An interval that ends so near to 0, as a share of the difference, might hold it by another draw of the rows."""


@dataclass(frozen=True)
class BaselineTable:
    """Another model on the same rows."""

    name: str
    """The choice of the group `model`."""
    validation: Mapping[str, float]
    test: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    """Of the test metrics."""
    differences: Mapping[str, tuple[float, float, float]]
    """The test metric of the model in use less this one's, and the ends of the paired interval."""

    def says(self, name: str) -> int:
        """Return 1 where the model in use is better by this metric, -1 where it is worse, 0 where that is not known."""
        _, low, high = self.differences[name]
        sign = 1 if higher_is_better(name) else -1
        return sign * ((low > 0) - (high < 0))

    def narrowly(self, name: str) -> bool:
        """Return whether the interval leaves 0 out, but hardly."""
        value, low, high = self.differences[name]
        return self.says(name) != 0 and min(abs(low), abs(high)) < NARROW * abs(value)


def section(
    model: str,
    compared: Sequence[str],
    test: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    others: Sequence[BaselineTable],
    level: str,
    experiment: str | None = None,
) -> list[str]:
    """Return the paragraphs: tables of `model` and the `others`, and a verdict by the metrics that are `compared`.

    The order names an `experiment`, or none; one that it names holds its model fast.
    """
    said = verdict(compared, others, level, "-S experiment=null " if experiment else "")
    tables = [_table(model, compared, test, intervals, others, level)]
    if PROBABILITIES[0] in compared:
        tables.append(_probabilities(model, test, intervals, others, level))
    return [*tables, said]


def verdict(compared: Sequence[str], others: Sequence[BaselineTable], level: str, first_of_all: str = "") -> str:
    """Return whether the model in use earns its place beside the best of the others, by validation; and what to do.

    `first_of_all` is what a command that takes another model has to say before that.
    """
    first, *further = compared
    known = [other for other in others if first in other.differences]
    if not known:
        return f"{first} does not exist for these test rows: nothing can be said."
    best = max(known, key=lambda other: (other.name != IDLE, other.validation.get(first, float("-inf"))))
    said, stands = [_stands(best, first, level)], best.says(first)
    for name in further:
        if name in best.differences and best.says(name) != best.says(first):
            said.append(f"By {name} it {_verb(best.says(name))} it: {_difference(best, name, level)}.")
            stands = stands or best.says(name)
    said.append(_advice(best.name, 0 if best.narrowly(first) else stands, first_of_all))
    floor = next((other for other in known if other.name == IDLE), None)
    if floor is not None and floor is not best and floor.says(first) < 1:
        even = "Nor can it be told apart from" if floor.says(first) == 0 else "It is worse even than"
        said.append(
            f"{even} `{IDLE}`, which does not look at the inputs: {_difference(floor, first, level)}. The test rows "
            "are too few to tell, or the inputs say little of the target."
        )
    loss = PROBABILITIES[0]
    if floor is not None and loss in floor.differences and floor.says(loss) < 1:
        worse = "no better than" if floor.says(loss) == 0 else "worse than"
        said.append(
            f"The probabilities are {worse} the class shares, which `{IDLE}` gives: "
            f"{_difference(floor, loss, level)}. Use the predicted classes alone; of a network, `trainer.monitor=loss` "
            "keeps the epoch with the best probabilities."
        )
    return " ".join(said)


def text_gain(
    names: Sequence[str],
    compared: Sequence[str],
    test: Mapping[str, float],
    without: BaselineTable | None,
    level: str,
) -> list[str]:
    """Return what the columns of text gained by the metrics that are `compared`, or how to find out."""
    texts = wording.listed([wording.code(name) for name in names])
    if without is None:
        return [
            f"The model learns from the text of {texts}. What that gains is not known: `data.text_gain=true` also "
            "trains the model without it, once more, with the same settings, seed and rows, and holds it against this "
            "one here."
        ]
    known = [name for name in compared if name in without.differences]
    lines = [
        (f"`{name}`", _metric(name, test), _metric(name, without.test), *_difference_cells(name, without))
        for name in known
    ]
    header = ("metric", f"with {texts}", "without", "difference", f"{level} interval")
    says = {
        1: f"{texts} gained something",
        -1: f"{texts} cost something",
        0: f"These rows do not tell whether {texts} gained anything",
    }
    if not known:
        return [f"{compared[0]} does not exist for these test rows: what {texts} gained cannot be said."]
    return [
        wording.table(header, lines),
        f"**{says[without.says(known[0])]}**: {_difference(without, known[0], level)}. Without is the same model, "
        "trained with the same settings, seed and rows; an interval is a paired bootstrap of the test rows, and says "
        "nothing of another seed.",
    ]


def _stands(best: BaselineTable, name: str, level: str) -> str:
    which = "which does not look at the inputs" if best.name == IDLE else "the best of them on validation rows"
    barely = " The interval all but holds 0, so that other test rows may say otherwise." if best.narrowly(name) else ""
    return f"**This run {_verb(best.says(name))} `{best.name}`**, {which}: {_difference(best, name, level)}.{barely}"


def _advice(name: str, stands: int, first_of_all: str) -> str:
    """Return what to do beside the best of the others, where the model in use stands so to it."""
    take, search = f"`dvc exp run {first_of_all}-S model={name}`", "`python src/train.py -m +space=default`"
    if stands > 0:
        return "Keep it."
    if name == IDLE:
        return f"Search for better values ({search}), or for inputs that say more."
    if stands < 0:
        return f"Take that ({take}), or search for better values ({search})."
    return f"Either will do: take the one that is easier to keep ({take}), or search for better values ({search})."


def _verb(says: int) -> str:
    return {1: "beats", 0: "cannot be told apart from", -1: "is worse than"}[says]


def _difference(other: BaselineTable, name: str, level: str) -> str:
    return difference(name, other.differences[name], level)


def difference(name: str, found: tuple[float, float, float], level: str) -> str:
    """Return the difference of a metric, with its interval, in words."""
    value, *bounds = found
    return f"{name} {_signed(name, value)} ({level} interval {' to '.join(_signed(name, bound) for bound in bounds)})"


def _table(
    model: str,
    compared: Sequence[str],
    test: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    others: Sequence[BaselineTable],
    level: str,
) -> str:
    first, second, *_ = compared
    header = ("model", f"test {first}", f"{level} interval", "difference", f"{level} interval", f"test {second}")
    lines = [(f"**{model}** (this run)", *_with_interval(first, test, intervals), "", "", _metric(second, test))]
    for other in sorted(others, key=lambda other: -other.test.get(first, float("-inf"))):
        own = _with_interval(first, other.test, other.intervals)
        lines.append((other.name, *own, *_difference_cells(first, other), _metric(second, other.test)))
    return wording.table(header, lines)


def _probabilities(
    model: str,
    test: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    others: Sequence[BaselineTable],
    level: str,
) -> str:
    """Return what the probabilities are worth, the best log loss first among the others."""
    loss, error = PROBABILITIES
    interval = f"{level} interval"
    header = ("model", f"test {loss}", interval, "difference", interval, f"test {error}", interval)
    lines = [
        (
            f"**{model}** (this run)",
            *_with_interval(loss, test, intervals),
            "",
            "",
            *_with_interval(error, test, intervals),
        )
    ]
    for other in sorted(others, key=lambda other: other.test.get(loss, float("inf"))):
        of_loss, of_error = (_with_interval(name, other.test, other.intervals) for name in PROBABILITIES)
        lines.append((other.name, *of_loss, *_difference_cells(loss, other), *of_error))
    return wording.table(header, lines)


def _with_interval(
    name: str, metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> tuple[str, str]:
    return _metric(name, metrics), wording.interval(name, intervals)


def _metric(name: str, metrics: Mapping[str, float]) -> str:
    return wording.metric(name, metrics[name]) if name in metrics else ""


def _difference_cells(name: str, other: BaselineTable) -> tuple[str, str]:
    """Return the difference from another model, and its interval; nothing where the metric does not exist."""
    if name not in other.differences:
        return "", ""
    value, *bounds = other.differences[name]
    return _signed(name, value), " to ".join(_signed(name, bound) for bound in bounds)


def _signed(name: str, value: float) -> str:
    """Return a metric with its sign, as a difference needs it."""
    return f"{'-' if value < 0 else '+'}{wording.metric(name, abs(value))}"
