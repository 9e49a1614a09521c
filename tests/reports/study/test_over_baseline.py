"""What a search gained over its first trial, in figures and in words."""

from dataclasses import replace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hypermap.reports.study.over_baseline import described, over_baseline
from hypermap.reports.study.reading import read
from hypermap.reports.study.statistics import difference
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import BASELINE, Confirmed
from hypermap.search.auto import PROPOSED
from hypermap.search.schedule import REPEATS
from hypermap.search.study import RECORD, RESULT

USUAL = Thresholds()
RECORDED = {"program": "src/train.py", "objectives": ["accuracy"]}


def view_of(
    *scores, by="baseline", how="complete", moved=(), confirmed=None, direction="maximize", repeats=None, curves=()
):
    """A search whose first trial was proposed by `by`, and ended like this; `repeats`: of a trial, which one it is."""
    repeats = repeats or {}
    study = optuna.create_study(direction=direction, study_name="mine")
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    for number, score in enumerate(scores):
        ended = how if number == 0 else "complete"
        again = {REPEATS: repeats[number]} if number in repeats else {}
        study.add_trial(
            create_trial(
                state=states.get(ended, TrialState.COMPLETE),
                value=None if ended in ("pruned", "failed") else score,
                params={"optimizer.lr": 0.1},
                distributions={"optimizer.lr": FloatDistribution(0.001, 0.1, log=True)},
                intermediate_values=dict(enumerate(curves[number], 1)) if curves else {},
                user_attrs={PROPOSED: by if number == 0 else "model", RESULT: {"outcome": ended}} | again,
            )
        )
    study.set_user_attr(RECORD, RECORDED | {"baseline": {"params": {"optimizer.lr": 0.1}, "moved": list(moved)}})
    entries = tuple(Confirmed(number, tuple(again)) for number, again in (confirmed or {}).items())
    return replace(read(study), confirmed=entries)


def told(view):
    return described(view, over_baseline(view, USUAL), USUAL)


@pytest.mark.parametrize(("direction", "scores"), [("maximize", (0.95, 0.9, 0.98)), ("minimize", (0.5, 0.6, 0.47))])
def test_the_gain_is_the_difference_of_two_scores_which_are_partly_luck(direction, scores):
    view = view_of(*scores, direction=direction)
    first, best = scores[0], scores[2]
    assert told(view) == (
        f"**Gain over the baseline 0.0300:** accuracy {first:.4f} (trial 0, the baseline) and {best:.4f} (trial 2, the "
        "best). One score each is partly luck: `make confirm STUDY=mine` trains both the best and the baseline again "
        "with other seeds."
    )
    record = over_baseline(view, USUAL).record()
    assert (record["trial"], record["value"], record["best"], record["retrained"]) == (0, first, 2, None)


def test_a_trial_that_was_measured_again_counts_with_the_mean():
    said = told(view_of(0.9, 0.98, 0.96, 0.96, repeats={2: 1, 3: 0}))
    assert said.startswith("**Gain over the baseline 0.0400:** accuracy 0.9300 (trial 0, the baseline) and 0.9700 (tri")


def test_the_gain_is_over_the_second_half_of_the_epochs_where_there_are_several():
    view = view_of(0.95, 0.98, 0.97, curves=[[0.93, 0.95, 0.91], [0.98, 0.90, 0.91], [0.96, 0.97, 0.95]])
    said = told(view)
    assert said.startswith("**Gain over the baseline 0.0300:** accuracy 0.9300 (trial 0, the baseline) and 0.9600 (tri")
    assert "best), over the second half of their epochs. One score each" in said
    assert view.best.number == 2
    assert [trial.number for trial in view.ranking] == [2, 0, 1]


@pytest.mark.parametrize("number", [BASELINE, 0])
def test_means_of_retrainings_are_told_where_there_are_some(number):
    before, after = [0.94, 0.95, 0.96], [0.97, 0.98, 0.99]
    view = view_of(0.95, 0.9, 0.98, confirmed={2: after, number: before})
    found = over_baseline(view, USUAL)
    expected = difference(after, before, 1.0, USUAL.confidence)
    assert found.retrained[:2] == pytest.approx((0.95, 0.98))
    assert (found.retrained[2].low, found.retrained[2].high) == pytest.approx((expected.low, expected.high))
    assert told(view).endswith(
        f"Retrained with other seeds, their means are 0.9500 and 0.9800, a gain of {expected.low:+.2g} to "
        f"{expected.high:+.2g} (95 % interval)."
    )
    assert "luck" not in told(view)
    noisy = view_of(0.95, 0.9, 0.98, confirmed={2: [0.94, 0.99, 0.97], number: before})
    assert told(noisy).endswith("(95 % interval), which may be none.")


def test_a_search_that_found_nothing_better_says_so_plainly():
    view = view_of(0.98, 0.9, 0.98)
    assert told(view) == (
        "**Nothing better than the baseline was found:** trial 0, the baseline, is the best of 3 complete trials. One "
        "score each is partly luck: `make confirm STUDY=mine` trains the best again with other seeds."
    )
    assert not over_baseline(view, USUAL).improved


def test_a_baseline_outside_of_the_space_is_told_with_what_it_became():
    moved = told(view_of(0.95, 0.9, 0.98, moved=["optimizer.lr"]))
    assert "0.9500 (trial 0, the baseline moved into the space)" in moved
    assert moved.endswith(
        "The baseline's optimizer.lr lies outside of the space, so the first trial has `optimizer.lr=0.1` instead."
    )
    absent = told(view_of(0.95, 0.9, 0.98, moved=["optimizer.lr", "model"]))
    assert absent.endswith(
        "The baseline's optimizer.lr and model lie outside of the space, so the first trial has `optimizer.lr=0.1` "
        "instead."
    )
    retrained = {2: [0.97, 0.98], BASELINE: [0.94, 0.95], 0: [0.5, 0.5]}
    assert "their means are 0.9450 (the baseline itself, not moved) and 0.9750" in told(
        view_of(0.95, 0.9, 0.98, moved=["optimizer.lr"], confirmed=retrained)
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [("failed", "failed"), ("pruned", "was pruned"), ("diverged", "diverged"), ("out_of_memory", "ran out of memory")],
)
def test_a_baseline_without_a_score_is_told(how, words):
    found = told(view_of(float("-inf"), 0.9, how=how))
    assert found == f"**Gain over the baseline: not known**, since trial 0, the baseline, {words}."


def test_a_search_that_did_not_begin_with_the_baseline_says_nothing_of_it():
    assert over_baseline(view_of(0.95, 0.98, by="space-filling"), USUAL) is None
    assert over_baseline(view_of(), USUAL) is None
