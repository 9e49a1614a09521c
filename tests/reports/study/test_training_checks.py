"""Curves, length, stability and cost: verdicts on studies made to have them, figures computed by hand."""

import math
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hypermap.reports.study.reading import read
from hypermap.reports.study.training_checks import cost, curves, length, stability
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import BASELINE, Confirmed, Provenance
from hypermap.search.schedule import SCHEDULE, SIZE, Allowed
from hypermap.search.study import RESULT

USUAL = Thresholds()
NOON = datetime(2026, 1, 1, 12)
ORIGIN = Provenance(program="src/train.py", command=("+sweep=quick",))
CHECKS = (curves, length, stability, cost)
EPOCHS = np.arange(1, 21)
RISING = 1 - np.exp(-EPOCHS / 12)  # far from its end after 20 epochs
LEVEL = 1 - np.exp(-EPOCHS / 2)  # near it
FALLING_BACK = LEVEL - 0.02 * np.maximum(EPOCHS - 8, 0)
WOBBLE = 0.9 + 0.01 * (-1.0) ** EPOCHS


def trial(reports, value=None, how="complete", **result):
    """A trial that reported these values; its objective is the best of them."""
    ended = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}.get(how, TrialState.COMPLETE)
    values = [float(report) for report in reports]
    return create_trial(
        state=ended,
        value=None if ended != TrialState.COMPLETE else value if value is not None else max(values),
        params={"lr": 0.1},
        distributions={"lr": FloatDistribution(0.001, 1.0, log=True)},
        intermediate_values=dict(enumerate(values, 1)),
        user_attrs={RESULT: {"outcome": how, "seconds": 5.0, **result}},
    )


def view_of(trials, histories=None, origin=ORIGIN, epochs=20, direction="maximize", **fixed):
    """Trials of five seconds one after the other, in each of which 20 epochs were asked for."""
    study = optuna.create_study(direction=direction, study_name="quick")
    for number, one in enumerate(trials):
        one.datetime_start = NOON + timedelta(seconds=5 * number)
        if one.state.is_finished():
            one.datetime_complete = one.datetime_start + timedelta(seconds=5)
        study.add_trial(one)
    fixed = {"trainer.epochs": epochs, **{key.replace("__", "."): value for key, value in fixed.items()}}
    return replace(read(study), origin=origin, fixed=fixed, horizon=epochs, histories=histories or {})


def history(train_loss, validation_loss, **columns):
    columns = {"train_loss": train_loss, "validation_loss": validation_loss, **columns}
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


# 9: do the curves look right?


def test_validation_that_worsens_while_training_improves_is_overfitting():
    overfit = history(1 / EPOCHS, 0.5 + 0.05 * np.abs(EPOCHS - 5))
    view = view_of([trial(LEVEL)] * 2, {0: overfit, 1: overfit}, model__dropout=0.0)
    verdict = curves(view, USUAL)
    assert verdict.level == "look"
    assert verdict.command == "python src/train.py -m +sweep=quick 'model.dropout=interval(0.0,0.5)'"
    # the last three epochs have 1.15, 1.2 and 1.25
    assert verdict.evidence == (
        "of the best 1, 1 got worse after the best epoch; trial 0: validation loss 0.5000 at epoch 5, 1.200 at the end"
    )


def test_validation_that_improves_with_training_is_not():
    healthy = history(1 / EPOCHS, 0.5 + 1 / EPOCHS)
    verdict = curves(view_of([trial(LEVEL)] * 4, {0: healthy, 1: healthy}), USUAL)
    assert (verdict.level, verdict.command) == ("ok", None)
    assert verdict.evidence == "of the best 2, none gets worse after its best epoch"


def test_one_overfit_trial_of_two_is_no_habit():
    overfit, healthy = history(1 / EPOCHS, 0.1 * EPOCHS), history(1 / EPOCHS, 1 / EPOCHS)
    assert curves(view_of([trial(LEVEL)] * 4, {0: healthy, 1: overfit}), USUAL).level == "ok"


@pytest.mark.parametrize(("sign", "direction"), [(1, "maximize"), (-1, "minimize")])
def test_without_histories_an_objective_that_falls_back_is_told(sign, direction):
    def judge(course):
        values = sign * course
        trials = [trial(values, value=sign * max(course)) for _ in range(4)]
        return curves(view_of(trials, direction=direction), USUAL)

    assert judge(FALLING_BACK).level == "look"
    assert judge(LEVEL).level == "ok"
    assert judge(WOBBLE).level == "ok"


def test_a_remedy_that_is_searched_already_is_not_proposed():
    view = view_of([trial(FALLING_BACK)] * 2, optimizer__weight_decay=0.0)
    assert "optimizer.weight_decay=tag(log,interval(1e-6,1e-2))" in curves(view, USUAL).command


def test_without_curves_nothing_is_judged():
    verdict = curves(view_of([trial([0.5])] * 4), USUAL)
    assert (verdict.level, verdict.evidence) == ("ok", "no curves are known")


# 10: was training long enough?


def test_trials_that_all_still_improve_are_trained_too_short():
    verdict = length(view_of([trial(RISING)] * 6), USUAL)
    assert (verdict.level, verdict.command) == ("act", "python src/train.py -m +sweep=quick trainer.epochs=40")
    assert verdict.evidence == "best epoch at 100 % of the training (median; 3 looked at); still improving: 3"


def test_most_that_still_improve_are_worth_a_look():
    trials = [*[trial(RISING, value=0.9)] * 2, trial(LEVEL, value=0.8), *[trial(LEVEL, value=0.1)] * 3]
    verdict = length(view_of(trials), USUAL)
    assert (verdict.level, verdict.numbers["improving"]) == ("look", [0, 1])


def test_a_best_epoch_at_the_end_of_a_decay_is_no_sign():
    """A schedule that decays: the best is the last, but the gain has gone."""
    verdict = length(view_of([trial(LEVEL)] * 6), USUAL)
    assert (verdict.level, verdict.numbers["median"], verdict.numbers["improving"]) == ("ok", 1.0, [])


def test_a_validation_loss_that_still_falls_counts_where_a_coarse_score_stands():
    flat = np.full(20, 0.9)
    histories = dict.fromkeys(range(3), history(1 - RISING, 1 - RISING))
    view = view_of([trial(flat, best_epoch=20, epochs=20)] * 6, histories)
    assert length(view, USUAL).level == "act"
    assert length(replace(view, histories={}), USUAL).level == "ok"


def test_models_that_are_fitted_in_one_go_have_no_best_epoch():
    verdict = length(view_of([trial([], value=0.9, best_epoch=0, epochs=0)] * 4), USUAL)
    assert (verdict.level, verdict.evidence) == ("ok", "best epochs are not known")
    assert verdict.advice == "These models have none: they are fitted in one go."
    assert "Report every epoch" in length(view_of([trial([], value=0.9)] * 4), USUAL).advice


def test_a_best_epoch_at_the_beginning_asks_for_fewer_epochs():
    """Kept after 2 of 20; twice that is four."""
    verdict = length(view_of([trial(-LEVEL, best_epoch=2, epochs=20)] * 4), USUAL)
    assert (verdict.level, verdict.numbers["median"]) == ("look", 0.1)
    assert verdict.command == "python src/train.py -m +sweep=quick trainer.epochs=4"


def test_a_best_epoch_in_between_is_long_enough():
    verdict = length(view_of([trial(RISING, best_epoch=12, epochs=20)] * 6), USUAL)
    assert (verdict.level, verdict.numbers["median"]) == ("ok", 0.6)


def test_a_training_that_patience_ended_needs_no_more_epochs():
    trials = [trial(RISING, best_epoch=17, epochs=20)] * 6
    assert length(view_of(trials), USUAL).level == "act"
    assert length(view_of(trials, epochs=50), USUAL).level == "ok"


def test_pruned_trials_are_counted_only_where_no_other_is_there():
    pruned = [trial(RISING[:5], how="pruned")] * 4
    verdict = length(view_of([*pruned, *[trial(LEVEL)] * 6]), USUAL)
    assert verdict.level == "ok"
    assert verdict.evidence.endswith("; 4 pruned, in the median after report 5")
    alone = length(view_of(pruned), USUAL)
    assert (alone.level, alone.command) == ("look", "python src/train.py -m +sweep=quick hydra/sweeper/pruner=none")


# 11: is it stable?


def test_a_lead_smaller_than_the_shaking_is_luck():
    view = view_of([trial(WOBBLE, 0.912), trial(WOBBLE, 0.91)], trainer__repeats=1)
    verdict = stability(view, USUAL)
    assert (verdict.level, verdict.command) == ("look", "python src/train.py -m +sweep=quick trainer.repeats=3")
    # alternating by ±0.01: second differences of 0.04, whose mean square over 6 is the variance
    assert verdict.numbers["moves"] == pytest.approx(0.04 / math.sqrt(6))
    assert verdict.evidence == "late shaking 0.016, lead over trial 1 0.002"


def test_a_lead_larger_than_the_shaking_is_none():
    verdict = stability(view_of([trial(WOBBLE, 0.95), trial(WOBBLE, 0.91)]), USUAL)
    assert (verdict.level, verdict.evidence) == ("ok", "late shaking 0.016, lead over trial 1 0.04")


def test_retraining_both_has_settled_it():
    view = view_of([trial(WOBBLE, 0.912), trial(WOBBLE, 0.91)])
    scores = tuple(Confirmed(number, (0.9, 0.91)) for number in (0, 1, BASELINE))
    assert stability(replace(view, confirmed=scores), USUAL).level == "ok"


def test_of_several_trainings_the_error_of_their_mean_counts():
    """Scores of deviation 0.02, four of them: 0.01."""
    scores = [0.9 - 0.02 * math.sqrt(0.75), 0.9 + 0.02 * math.sqrt(0.75)] * 2
    verdict = stability(view_of([trial(scores, 0.9, scores=scores), trial(scores, 0.895)], trainer__repeats=4), USUAL)
    assert (verdict.level, verdict.numbers["moves"]) == ("look", pytest.approx(0.01))
    assert verdict.command.endswith("trainer.repeats=8")


def test_a_gradient_that_jumps_is_told():
    norms = np.linspace(2, 1, 20)
    spiky = np.where(EPOCHS == 10, 60, norms)
    view = view_of([trial(LEVEL, 0.9), trial(LEVEL, 0.8)], {0: history(norms, norms, gradient_norm=spiky)})
    verdict = stability(view, USUAL)
    assert (verdict.level, verdict.numbers["spike_epoch"]) == ("look", 10)
    assert verdict.command.endswith("regularizer.clip_norm=1.0")
    calm = replace(view, histories={0: history(norms, norms, gradient_norm=10 ** (1 - EPOCHS / 4))})
    assert stability(calm, USUAL).level == "ok"  # falls by five orders of magnitude, and never jumps


def test_a_gradient_that_is_mostly_clipped_is_told():
    def judge(share):
        rows = history(LEVEL, LEVEL, clipped=np.full(20, share))
        view = view_of([trial(LEVEL, 0.9), trial(LEVEL, 0.8)], {0: rows}, regularizer__clip_norm=0.5)
        return stability(view, USUAL)

    assert judge(0.75).level == "look"
    assert judge(0.75).command.endswith("regularizer.clip_norm=1")
    assert "75 % of the steps clipped" in judge(0.75).evidence
    assert judge(0.25).level == "ok"
    assert "clipped" not in judge(0.0).evidence


# 12: what did it cost?


def test_the_cost_is_added_up():
    """Two full trials and one pruned after 5 of 20 epochs, 5 s each, and a pause of an hour before the last."""
    trials = [trial(LEVEL), trial(LEVEL[:5], how="pruned"), trial(LEVEL)]
    view = view_of(trials)
    last = view.trials[2]
    later = replace(last, began=last.began + timedelta(hours=1), ended=last.ended + timedelta(hours=1))
    verdict = cost(replace(view, trials=(*view.trials[:2], later)), USUAL)
    assert verdict.level == "ok"
    assert verdict.evidence == (
        "3 trials; 15 s; 5 s each (median); 45 epochs, 3 a second; pruning saved 15 epochs (25 %)"
    )
    assert verdict.numbers["trials_per_min"] == pytest.approx(12)


def test_what_pausing_saved_is_told_and_a_pause_takes_no_time():
    """A trial that is paused until an hour later, and one of half the size: 18 and 8 epochs are saved."""
    paused, small = trial(LEVEL[:2], how="pruned"), trial(LEVEL[:2], how="pruned")
    for one in (paused, small):
        one.user_attrs[SCHEDULE] = Allowed(2, paused=True).record()
    small.user_attrs[SIZE] = {"steps": 10, "trainings": 0.5}
    study = view_of([trial(LEVEL, epochs=20), paused, small]).study
    late = [copy(one) for one in study.get_trials()]
    for one in late[1:]:
        one.datetime_complete = NOON + timedelta(hours=1)
    late_study = optuna.create_study(direction="maximize")
    late_study.add_trials(late)
    view = replace(read(late_study), fixed={"trainer.epochs": 20}, horizon=20)
    found = cost(view, USUAL)
    assert (found.numbers["epochs"], found.numbers["epochs_saved"]) == (24, 26)
    assert found.numbers["wall_s"] == 15


def test_reports_within_epochs_are_no_epochs():
    """Two an epoch: 20 reports are 10 epochs."""
    view = view_of([trial(LEVEL, epochs=10), trial(LEVEL[:4], how="pruned")])
    numbers = cost(view, USUAL).numbers
    assert (numbers["epochs"], numbers["epochs_saved"]) == (12, 8)


def test_several_trainings_cost_the_epochs_of_all():
    scores = [0.5, 0.6, 0.7, 0.8]
    trials = [trial(scores, 0.65, scores=scores, epochs=10), trial([0.1], how="pruned")]
    view = replace(view_of(trials, validation__name="kfold"), horizon=4)
    numbers = cost(view, USUAL).numbers
    assert (numbers["epochs"], numbers["epochs_saved"]) == (50, 30)


def losing(number):
    """A third of the trials win; the others are behind from the beginning."""
    return trial(LEVEL if number % 3 == 0 else LEVEL * (0.3 + 7 * number % 30 / 100))


def test_a_study_without_a_pruner_is_told_what_one_would_have_saved():
    view = view_of([losing(number) for number in range(30)])
    verdict = cost(view, USUAL)
    assert (verdict.level, verdict.command) == (
        "look",
        "python src/train.py -m +sweep=quick hydra/sweeper/pruner=auto",
    )
    stopped = [number for number in range(30) if _prunes(view, number)]
    assert len(stopped) > 10
    assert verdict.numbers["median_pruner_saves"] == pytest.approx(len(stopped) * 14 / 600)
    assert verdict.numbers["lost"] == pytest.approx(15 / 30)


def _prunes(view, number, step=6):
    """Whether Optuna's median pruner would have stopped a trial at a third, after those that it let through."""
    study = optuna.create_study(direction="maximize")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
    for trial in view.study.trials[: number + 1]:
        reported = {k: value for k, value in trial.intermediate_values.items() if k <= step}
        now = create_trial(state=TrialState.RUNNING, intermediate_values=reported)
        stops = pruner.prune(study, now)
        if not stops:
            study.add_trial(create_trial(value=trial.value, intermediate_values=trial.intermediate_values))
    return stops


def test_trials_that_were_each_better_than_those_before_would_not_have_been_pruned():
    verdict = cost(view_of([trial(LEVEL * (0.3 + number / 100)) for number in range(30)]), USUAL)
    assert (verdict.level, verdict.numbers["median_pruner_saves"]) == ("ok", 0)


def test_a_study_that_pruned_is_told_nothing_of_it():
    trials = [losing(number) for number in range(30)]
    assert cost(view_of([*trials, trial(LEVEL[:3], how="pruned")]), USUAL).level == "ok"
    assert cost(view_of(trials, origin=replace(ORIGIN, pruner="AutoPruner")), USUAL).level == "ok"
    assert cost(view_of(trials, origin=replace(ORIGIN, sampler="Grid")), USUAL).level == "ok"


def test_a_pruner_that_would_have_stopped_the_best_is_not_proposed():
    late = np.where(EPOCHS < 15, 0.01, 2.0)
    verdict = cost(view_of([*(losing(number) for number in range(30)), trial(late)]), USUAL)
    assert verdict.level == "ok"
    assert "would have stopped the best trial" in verdict.advice


def test_trials_that_come_back_are_not_lost():
    """They are behind at a third of the way and ahead at its end."""
    slow = [trial(EPOCHS / 100 + number / 1000, value=2 + number) for number in range(15)]
    quick = [trial(LEVEL, value=1 + number / 100) for number in range(15)]
    assert cost(view_of([*quick, *slow]), USUAL).numbers["lost"] == 0


# whatever the study


def several():
    study = optuna.create_study(directions=["minimize", "maximize"])
    for values in ((1, 2), (2, 1)):
        study.add_trial(create_trial(values=values))
    return read(study)


def running():
    study = optuna.create_study()
    study.ask().report(0.5, 1)
    return read(study)


ODD = np.where(EPOCHS == 3, math.nan, LEVEL)
STUDIES = {
    "none": lambda: view_of([]),
    "running": running,
    "one": lambda: view_of([trial(LEVEL)]),
    "two": lambda: view_of([trial(LEVEL)] * 2),
    "no reports": lambda: view_of([create_trial(value=0.5)] * 4),
    "all failed": lambda: view_of([trial([], how="failed")] * 3),
    "all pruned": lambda: view_of([trial(LEVEL[:1], how="pruned")] * 3),
    "all diverged": lambda: view_of([trial(LEVEL, -math.inf, how="diverged")] * 3),
    "constant": lambda: view_of([trial(np.full(20, 0.5))] * 20),
    "zero": lambda: view_of([trial(np.zeros(20))] * 20),
    "not finite": lambda: view_of([trial(ODD, 0.5)] * 20, {0: history(ODD, ODD, gradient_norm=ODD, clipped=ODD)}),
    "huge": lambda: view_of([trial(LEVEL * 1e200, 0.5)] * 20, {0: history(LEVEL * 1e200, LEVEL)}),
    "empty history": lambda: view_of([trial(LEVEL)] * 4, {0: [], 1: [{"other": 1.0}]}),
    "folds": lambda: view_of([trial([0.1, 0.2], 0.15, scores=[0.1, 0.2])] * 20),
    "plain": lambda: replace(view_of([trial(RISING)] * 20, origin=Provenance()), fixed={}, horizon=None),
    "several": several,
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("check", CHECKS)
def test_every_study_has_a_verdict(check, name, is_whole):
    is_whole(check(STUDIES[name](), USUAL), check)


def test_reports_are_counted_whatever_their_steps():
    reports = {0: 0.1, 1000: 0.2}
    made = trial(RISING, how="pruned")
    made.intermediate_values = reports
    assert length(view_of([trial(RISING), made]), USUAL).numbers["pruned_at"] == 2


def test_a_study_of_another_program_is_not_told_of_this_ones_settings():
    falling, shaking = (
        view_of([trial(FALLING_BACK)] * 3, origin=Provenance()),
        view_of([trial(WOBBLE)] * 3, origin=Provenance()),
    )
    for found in (curves(falling, USUAL), stability(shaking, USUAL)):
        assert found.level == "look"
        assert "regularizer" not in found.advice
        assert "trainer" not in found.advice
