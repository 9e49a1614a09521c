"""Whether early scores tell: the figures are those of scipy, the words follow from them."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import kendalltau

from hypermap.reports.study import course_pictures
from hypermap.reports.study.early_scores import early_scores, judged
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds
from hypermap.search.auto_pruner import INFORMATIVE
from hypermap.search.study import RECORD

STEPS = 12
AUTO = {"pruner": {"_target_": "hypermap.search.auto_pruner.AutoPruner"}, "program": "src/train.py", "horizon": STEPS}
MEDIAN = AUTO | {"pruner": {"_target_": "optuna.pruners.MedianPruner"}}
FOLDS = {"identity": {"configuration": {"validation.name": "kfold", "trainer.repeats": 1}}}
ORDER = [
    3,
    1,
    4,
    0,
    5,
    2,
    7,
    6,
]  # of trials by their first score; by their last, they are in the order of their numbers


def reports(number, tells_from, rank, steps=STEPS):
    """Scores that rise; before `tells_from` a trial's rank is another than at the end."""
    return {s: s + (number if s >= tells_from else rank) / 100 for s in range(1, steps + 1)}


def view_of(complete, tells_from=1, pruned=2, record=AUTO, direction="maximize", order=ORDER):
    sign = 1 if direction == "maximize" else -1
    study = optuna.create_study(direction=direction)
    for number in range(complete + pruned):
        told = {s: sign * v for s, v in reports(number, tells_from, order[number % len(order)]).items()}
        ended = number < complete
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if ended else TrialState.PRUNED,
                value=told[STEPS] if ended else None,
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0.0, 1.0)},
                intermediate_values=told if ended else {1: told[1]},
            )
        )
    if record is not None:
        study.set_user_attr(RECORD, record)
    return read(study)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_each_rung_has_kendalls_tau_with_the_last_score(direction):
    found = early_scores(view_of(8, 4, direction=direction))
    assert [rung.step for rung in found.rungs] == [1, 2, 4, 8, 12]
    expected = kendalltau(ORDER, range(8)).statistic
    assert [rung.tau for rung in found.rungs] == pytest.approx([expected, expected, 1.0, 1.0, 1.0])
    assert {rung.n for rung in found.rungs} == {8}
    rung = found.rungs[0]
    assert rung.low < rung.tau < rung.high


def test_from_where_trials_are_stopped_is_told():
    early = judged(early_scores(view_of(8, 1)))
    assert (early.level, early.advice) == ("ok", "Trials are stopped from epoch 1 on.")
    assert (
        early.evidence == "epoch 1 ranks trials as the last does, Kendall's tau 1.00 (0.88 to 1.00, 8 complete trials)"
    )
    backwards = view_of(8, 4, order=list(range(8))[::-1])
    late = judged(early_scores(backwards))
    assert late.advice == (
        "Trials are stopped from epoch 4 on; what comes before says too little (epoch 1 -1.00 and epoch 2 -1.00)."
    )
    assert (late.numbers["stops_from"], late.numbers["informative"]) == (4, INFORMATIVE)


def test_a_tau_of_few_trials_is_told_with_its_interval():
    found = early_scores(view_of(8, 12, order=[1, 0, 3, 2, 5, 4, 7, 6]))
    rung, told = found.rungs[0], judged(found)
    assert told.evidence == (
        f"epoch 1 ranks trials as the last does, Kendall's tau {rung.tau:.2f} "
        f"({rung.low:.2f} to {rung.high:.2f}, 8 complete trials)"
    )
    assert told.advice.endswith(f"its tau may be below the {INFORMATIVE:g} that this takes.")


def test_early_scores_that_mislead_are_told():
    backwards = view_of(8, STEPS, order=list(range(8))[::-1])
    found = judged(early_scores(backwards))
    assert (found.level, found.numbers["stops_from"]) == ("look", STEPS)
    assert found.advice == (
        f"No epoch before the last ranks trials well enough (a tau of {INFORMATIVE:g}), so trials are trained to their "
        "end before they are judged."
    )
    other = judged(early_scores(view_of(8, STEPS, record=MEDIAN, order=list(range(8))[::-1])))
    assert other.advice.endswith("so what was pruned may have been among the best.")


@pytest.mark.parametrize(
    ("complete", "count"), [(0, "no complete trial"), (1, "1 complete trial"), (4, "4 complete trials")]
)
def test_of_fewer_than_five_complete_trials_it_is_said_what_is_assumed(complete, count):
    found = early_scores(view_of(complete))
    told = judged(found)
    assert (told.level, told.evidence) == ("look", f"not known, {count}")
    assert told.advice == (
        "Fewer than 5 complete trials do not tell: the search assumes a tau of 0.7 at first, and stops trials from "
        "epoch 1 on."
    )
    assert judged(early_scores(view_of(complete, record=MEDIAN))).advice == "Fewer than 5 complete trials do not tell."
    assert course_pictures.early_scores(view_of(complete), Thresholds()) is None


@pytest.mark.parametrize(
    ("record", "unit"), [(AUTO, "epoch"), (AUTO | FOLDS, "fold"), (None, "step"), (MEDIAN, "epoch")]
)
def test_a_step_is_called_what_it_is(record, unit):
    view = view_of(8, 1, record=record)
    found = early_scores(view)
    assert judged(found).evidence.startswith(f"{unit} 1 ranks")
    assert judged(found).advice.startswith("A pruner may stop" if record in (None, MEDIAN) else "Trials are stopped")
    assert course_pictures.early_scores(view, Thresholds()) is not None


def test_a_mean_over_folds_is_not_the_best_of_them():
    """The trial that is the best at the end has its worst fold first and its best one second."""
    study = optuna.create_study(direction="maximize")
    for k in range(6):
        folds = {1: 0.5 - k / 10, 2: 0.9 + k / 5, 3: 0.5}
        study.add_trial(create_trial(value=sum(folds.values()) / 3, intermediate_values=folds))
    study.set_user_attr(RECORD, AUTO | FOLDS | {"horizon": 3})
    assert [rung.tau for rung in early_scores(read(study)).rungs] == [-1.0, 1.0, 1.0]


def test_where_nothing_is_stopped_early_it_is_not_asked():
    assert early_scores(view_of(8, pruned=0, record=None)) is None
    assert early_scores(view_of(8, pruned=0)) is not None, "the default search does, when it has to"
    once = optuna.create_study()
    once.add_trial(create_trial(value=0.5))
    once.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5}))
    assert early_scores(read(once)) is None, "trials report but once"
    several = optuna.create_study(directions=["maximize", "minimize"])
    several.set_user_attr(RECORD, AUTO)
    assert early_scores(read(several)) is None
