"""Is the winner real, how lucky is it, what costs less, how to get it back: verdicts on studies made to have them."""

import math
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy import stats

from hypermap.reports.study import score_checks
from hypermap.reports.study.noise import Noise
from hypermap.reports.study.reading import read
from hypermap.reports.study.score_checks import again, luck, trade_off, winner
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import BASELINE, Confirmed, Provenance
from hypermap.search.study import RESULT

USUAL = Thresholds()
NOON = datetime(2026, 1, 1, 12)
ORIGIN = Provenance(
    program="src/train.py", command=("+sweep=quick",), commit="0123456789abcdef", seed=7, versions={"torch": "2.9"}
)
CHECKS = (winner, luck, trade_off, again)


def trial(values, how="complete", epochs=10, seconds=10.0, began=NOON, **result):
    """A trial of ten epochs and ten seconds."""
    pruned = how == "pruned"
    return create_trial(
        state=TrialState.PRUNED if pruned else TrialState.FAIL if how == "failed" else TrialState.COMPLETE,
        values=None if how in ("pruned", "failed") else values,
        params={"optimizer.lr": 0.1},
        distributions={"optimizer.lr": FloatDistribution(0.001, 1.0, log=True)},
        intermediate_values={1: values[0], 2: values[0]} if pruned else {},
        user_attrs={RESULT: {"outcome": how, "epochs": epochs, "seconds": seconds, **result}},
    )


def view_of(trials, directions=("maximize",), origin=ORIGIN, confirmed=()):
    """Trials one after the other, a minute each, so that only the first one's seconds hold a start."""
    study = optuna.create_study(directions=list(directions), study_name="quick")
    for number, one in enumerate(trials):
        one.datetime_start = NOON + timedelta(minutes=number)
        if one.state.is_finished():
            one.datetime_complete = one.datetime_start + timedelta(seconds=50)
        study.add_trial(one)
    confirmed = tuple(Confirmed(number, tuple(scores)) for number, scores in dict(confirmed).items())
    return replace(read(study), origin=origin, confirmed=confirmed)


def scored(*scores, **others):
    return view_of([trial([score]) for score in scores], **others)


# 5: is the winner real?


def test_a_winner_that_was_trained_once_is_to_be_retrained():
    verdict = winner(scored(0.8, 0.9), USUAL)
    assert (verdict.level, verdict.command) == ("look", "make confirm STUDY=quick")
    assert verdict.evidence == "trial 1: 0.9000, trained once"


def test_a_study_of_another_program_has_no_command_that_retrains():
    verdict = winner(scored(0.8, 0.9, origin=Provenance()), USUAL)
    assert (verdict.level, verdict.command) == ("look", None)


def test_a_winner_that_beats_the_others_and_the_baseline_is_adopted():
    retrained = {1: [0.90, 0.91, 0.92], 0: [0.80, 0.81, 0.82], BASELINE: [0.50, 0.51, 0.52]}
    verdict = winner(scored(0.8, 0.95, confirmed=retrained), USUAL)
    assert (verdict.level, verdict.command) == ("ok", "make promote STUDY=quick")
    # 0.91 ± t(0.975, 2) * 0.01 / sqrt(3), t = 4.3027
    assert verdict.evidence.startswith("trial 1: 0.9100 ± 0.01 over 3 seeds, 95 % interval 0.8852 to 0.9348")
    assert verdict.evidence.endswith(
        "beats trial 0 with probability over 99 %; beats the baseline with probability over 99 %"
    )


def test_the_gain_over_the_baseline_is_welchs():
    one, other = [0.90, 0.94, 0.92, 0.95], [0.89, 0.91, 0.93]
    verdict = winner(scored(0.8, 0.95, confirmed={1: one, BASELINE: other}), USUAL)
    expected = stats.ttest_ind(one, other, equal_var=False)
    found = verdict.numbers["gains"]["baseline"]
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found["probability"] == pytest.approx(1 - expected.pvalue / 2)


def test_a_gain_that_does_not_show_above_the_noise_leaves_the_baseline():
    retrained = {1: [0.90, 0.94, 0.92], BASELINE: [0.89, 0.93, 0.91]}
    verdict = winner(scored(0.8, 0.95, confirmed=retrained), USUAL)
    assert (verdict.level, verdict.command) == ("act", "make confirm STUDY=quick SEEDS=6")
    assert verdict.advice.startswith("Keep the baseline: that trial 1 is better does not show above the noise")


def test_a_baseline_that_is_better_is_kept():
    verdict = winner(scored(0.8, 0.95, confirmed={1: [0.6, 0.61], BASELINE: [0.9, 0.91]}), USUAL)
    assert verdict.level == "act"
    assert "it is better than trial 1" in verdict.advice


def test_another_that_is_better_when_retrained_is_taken():
    """Less is better here."""
    retrained = {1: [0.30, 0.31, 0.32], 0: [0.20, 0.21, 0.22], BASELINE: [0.50, 0.51, 0.52]}
    verdict = winner(scored(0.2, 0.1, confirmed=retrained, directions=["minimize"]), USUAL)
    assert (verdict.level, verdict.command) == ("act", "make promote STUDY=quick TRIAL=0")
    assert verdict.numbers["gains"]["trial 0"]["high"] < 0 < verdict.numbers["gains"]["baseline"]["low"]


def test_of_two_equals_the_cheaper_is_taken():
    retrained = {1: [0.90, 0.92, 0.91], 0: [0.905, 0.91, 0.92], BASELINE: [0.50, 0.51, 0.52]}
    view = view_of([trial([0.9], epochs=5), trial([0.95], epochs=10)], confirmed=retrained)
    verdict = winner(view, USUAL)
    assert (verdict.level, verdict.command) == ("ok", "make promote STUDY=quick TRIAL=0")
    assert verdict.advice.startswith(
        "Of trial 1 and trial 0 adopt trial 0, the cheaper (5 epochs, not 10 epochs): they"
    )


def test_retrainings_that_failed_are_told():
    view = scored(0.8, 0.95, confirmed={1: [0.90, 0.91, 0.92], BASELINE: [0.50, 0.51, 0.52]})
    own, baseline = view.confirmed
    verdict = winner(replace(view, confirmed=(replace(own, failed=1), baseline)), USUAL)
    assert verdict.level == "look"
    assert "failed: 1 of 4 of trial 1" in verdict.evidence


def test_a_winner_that_fails_with_other_seeds_is_not_taken():
    view = scored(0.8, 0.95, confirmed={0: [0.80, 0.81], BASELINE: [0.50, 0.51]})
    failing = Confirmed(1, (), failed=3)
    verdict = winner(replace(view, confirmed=(failing, *view.confirmed)), USUAL)
    assert (verdict.level, verdict.command) == ("act", "make promote STUDY=quick TRIAL=0")
    alone = winner(replace(view, confirmed=(failing,)), USUAL)
    assert alone.level == "act"
    assert alone.advice.startswith("Keep the baseline")


def test_a_best_trial_of_after_the_retraining_is_to_be_retrained():
    verdict = winner(scored(0.8, 0.95, confirmed={0: [0.80, 0.81], BASELINE: [0.50, 0.51]}), USUAL)
    assert verdict.level == "look"
    assert "but not trial 1" in verdict.advice


def test_without_a_baseline_nothing_shows_a_gain():
    verdict = winner(scored(0.8, 0.95, confirmed={1: [0.90, 0.91], 0: [0.6, 0.61]}), USUAL)
    assert verdict.level == "look"
    assert "baseline" in verdict.advice


def begun_with_baseline(view, moved=()):
    """The same, where the first trial is the baseline."""
    first, *others = view.trials
    return replace(view, trials=(replace(first, proposed="baseline"), *others), moved=moved)


def test_a_best_that_is_the_baseline_is_no_gain():
    view = begun_with_baseline(scored(0.9, 0.8))
    verdict = winner(view, USUAL)
    assert (verdict.level, verdict.evidence) == ("look", "trial 0, the baseline: 0.9000, trained once")
    assert verdict.advice.startswith("Nothing better than the baseline was found")
    moved = winner(begun_with_baseline(scored(0.9, 0.8), moved=("optimizer.lr",)), USUAL)
    assert moved.evidence == "trial 0: 0.9000, trained once"


def test_the_first_trial_is_retrained_as_the_baseline():
    """What is retrained of one configuration counts for both."""
    better = scored(0.8, 0.95, confirmed={1: [0.90, 0.91, 0.92], 0: [0.80, 0.81, 0.82]})
    assert winner(better, USUAL).level == "look"
    verdict = winner(begun_with_baseline(better), USUAL)
    assert (verdict.level, verdict.command) == ("ok", "make promote STUDY=quick")
    assert verdict.evidence.endswith("beats the baseline with probability over 99 %")
    moved = winner(begun_with_baseline(better, moved=("optimizer.lr",)), USUAL)
    assert moved.level == "look", "the baseline itself was not retrained"
    kept = begun_with_baseline(scored(0.95, 0.8, confirmed={0: [0.90, 0.91], 1: [0.905, 0.9]}))
    verdict = winner(kept, USUAL)
    assert (verdict.level, verdict.command) == ("act", None)
    assert verdict.advice == ("Keep the baseline: it is the best trial, and no other is better by more than the noise.")
    beaten = begun_with_baseline(scored(0.95, 0.8, confirmed={0: [0.80, 0.81], 1: [0.905, 0.9]}))
    assert winner(beaten, USUAL).command == "make promote STUDY=quick TRIAL=1"


# 6: how lucky is the best score?


@pytest.fixture
def noisy(monkeypatch):
    """Makes the noise known."""
    return lambda sd: monkeypatch.setattr(score_checks, "noise", lambda view: Noise(sd, "as given", 10))


NORMAL = [float(stats.norm.ppf((k + 0.5) / 40, 0.9, 0.01)) for k in range(40)]  # one truth, and noise


def test_a_best_score_among_equals_is_luck(noisy):
    noisy(0.01)
    verdict = luck(scored(*NORMAL), USUAL)
    assert (verdict.level, verdict.command) == ("look", "make confirm STUDY=quick")
    numbers = verdict.numbers
    assert numbers["raw"] == max(NORMAL)
    assert numbers["corrected"] == pytest.approx(0.9, abs=0.008)
    top = sorted(NORMAL)[-4:]  # a tenth of 40
    assert numbers["lead"] == pytest.approx(top[-1] - (top[1] + top[2]) / 2)


def test_a_best_score_far_above_the_noise_is_not(noisy):
    noisy(0.0001)
    scores = [0.1 * k for k in range(1, 10)] + [0.91, 0.95]
    for sign, direction in ((1, "maximize"), (-1, "minimize")):
        verdict = luck(scored(*(sign * score for score in scores), directions=[direction]), USUAL)
        assert verdict.level == "ok"
        assert verdict.numbers["corrected"] == pytest.approx(sign * 0.95, abs=0.001)
        assert verdict.numbers["lead"] == pytest.approx(0.04)  # over the second of the best three


def test_a_stand_in_for_the_noise_is_no_evidence_of_a_winner(monkeypatch):
    monkeypatch.setattr(score_checks, "noise", lambda view: Noise(0.001, "a stand-in", 30, 20, stands_in=True))
    found = luck(scored(0.9, 0.8, 0.7), USUAL)
    assert (found.level, found.command) == ("look", "make confirm STUDY=quick")


def test_noise_that_is_not_known_is_to_be_found_out(monkeypatch):
    monkeypatch.setattr(score_checks, "noise", lambda view: None)
    verdict = luck(scored(0.5, 0.6, 0.7), USUAL)
    assert (verdict.level, verdict.evidence) == ("look", "best 0.7000, noise not known")


def test_a_retrained_winner_has_a_mean_that_is_no_luck(noisy):
    noisy(0.01)
    verdict = luck(scored(*NORMAL, confirmed={39: [0.90, 0.89, 0.91]}), USUAL)
    assert verdict.level == "ok"
    assert verdict.advice.startswith("Quote 0.9000")
    assert "retrained 0.9000 ± 0.01 over 3 seeds" in verdict.evidence


def test_the_best_is_held_against_complete_trials_alone(noisy):
    noisy(0.01)
    several = view_of([*(trial([0.5 + k / 100]) for k in range(3)), *(trial([0.8], "pruned") for _ in range(20))])
    assert luck(several, USUAL).numbers["n"] == 3
    few = luck(view_of([trial([0.9]), trial([0.8]), trial([0.8], "pruned")]), USUAL)
    assert (few.level, few.evidence) == ("look", "2 of 3 trials complete, too few to tell")
    assert few.command == "python src/train.py -m +sweep=quick hydra.sweeper.n_trials=20"
    retrained = view_of([trial([0.9]), trial([0.8]), trial([0.8], "pruned")], confirmed={0: [0.9, 0.8]})
    assert luck(retrained, USUAL).level == "ok"


def test_one_score_is_not_picked_from_others(noisy):
    noisy(0.01)
    assert luck(scored(0.9), USUAL).level == "ok"


def test_a_pruned_trial_that_was_ahead_for_a_while_was_not_picked(noisy):
    noisy(0.01)
    verdict = luck(view_of([trial([0.9]), trial([0.8]), trial([0.7]), trial([0.95], "pruned")]), USUAL)
    assert (verdict.numbers["raw"], verdict.numbers["n"]) == (0.9, 3)


# 13: where is the trade-off?


def test_an_equal_for_a_third_of_the_cost_is_named(noisy):
    noisy(0.01)
    trials = [trial([0.2], epochs=1), trial([0.9], epochs=30), trial([0.895], epochs=10), trial([0.85], epochs=5)]
    verdict = trade_off(view_of(trials), USUAL)
    assert (verdict.level, verdict.command) == ("look", "make promote STUDY=quick TRIAL=2")
    assert verdict.evidence == "trial 2: 0.8950 for 10 epochs; best, trial 1: 0.9000 for 30 epochs"
    assert "33 % of the cost" in verdict.advice


def test_nothing_is_to_trade_where_all_cost_alike(noisy):
    noisy(0.01)
    verdict = trade_off(scored(0.2, 0.9, 0.895), USUAL)
    assert (verdict.level, verdict.command) == ("ok", None)
    assert verdict.evidence == "best, trial 1: 0.9000 for 10 epochs and 10 s"


def test_of_unknown_noise_only_an_equal_score_counts(monkeypatch):
    monkeypatch.setattr(score_checks, "noise", lambda view: None)
    trials = [trial([0.2]), trial([0.9], epochs=30), trial([0.8999], epochs=10)]
    assert trade_off(view_of(trials), USUAL).level == "ok"
    assert trade_off(view_of([*trials, trial([0.9], epochs=14)]), USUAL).numbers["instead"] == 3


def test_seconds_of_a_workers_first_trial_are_no_cost(noisy):
    """They hold the worker's own start."""
    noisy(0.01)
    assert trade_off(view_of([trial([0.9], seconds=40), trial([0.9])]), USUAL).level == "ok"
    verdict = trade_off(view_of([trial([0.2]), trial([0.9], seconds=40), trial([0.9])]), USUAL)
    assert (verdict.level, verdict.numbers["unit"]) == ("look", "s")


def test_weights_come_before_epochs(noisy):
    noisy(0.01)
    large, small = ({"figures": {"parameters": count}} for count in (5000, 100))
    verdict = trade_off(view_of([trial([0.9], epochs=30, **large), trial([0.9], epochs=10, **small)]), USUAL)
    assert verdict.evidence.startswith("trial 1: 0.9000 for 100 weights")


def test_of_several_objectives_the_knee_is_named():
    """(1, 1) is nearest to the ideal; (3, 3) is dominated."""
    values = [(0, 4), (1, 1), (4, 0), (3, 3)]
    verdict = trade_off(view_of([trial(pair) for pair in values], ["minimize", "minimize"]), USUAL)
    assert (verdict.level, verdict.command) == ("ok", "make promote STUDY=quick TRIAL=1")
    assert verdict.evidence.startswith("3 of 4 trials on the front; knee: trial 1 (objective 0 1, objective 1 1)")
    assert verdict.numbers["front"] == [0, 1, 2]


def test_of_a_front_without_a_knee_the_trials_are_listed():
    verdict = trade_off(view_of([trial((0.5, 1000)), trial((0.9, 2500))], ["maximize", "minimize"]), USUAL)
    assert verdict.command is None
    assert "front: trial 0 (objective 0 0.5000, objective 1 1,000); trial 1 (" in verdict.evidence


def test_a_front_of_one_trial_is_nothing_to_trade():
    verdict = trade_off(view_of([trial((1, 1)), trial((2, 2))], ["minimize", "minimize"]), USUAL)
    assert "nothing to trade" in verdict.advice
    assert verdict.command == "make promote STUDY=quick TRIAL=0"


# 14: how do I get it back?


def test_a_committed_study_is_got_back_by_its_commands():
    verdict = again(scored(0.8, 0.9), USUAL)
    assert (verdict.level, verdict.command) == ("ok", "make promote STUDY=quick")
    assert verdict.evidence == "commit 0123456, seed 7"
    for command in (
        "dvc repro",
        "dvc exp apply quick-0001",
        "python src/train.py -m +sweep=quick hydra.sweeper.n_trials=20",
    ):
        assert f"`{command}`" in verdict.advice


def test_a_study_of_a_budget_goes_on_with_more_of_it():
    view = replace(scored(0.8, 0.9), budget=20.0, spent=20.0)
    assert "`python src/train.py -m +sweep=quick hydra.sweeper.budget=40`" in again(view, USUAL).advice
    both = again(replace(view, n_trials=2), USUAL).advice
    assert "hydra.sweeper.budget=40 hydra.sweeper.n_trials=20`" in both
    short = again(replace(view, spent=10.0), USUAL).advice
    assert "`python src/train.py -m +sweep=quick` goes on with the study" in short


def test_edits_that_were_not_committed_are_told():
    verdict = again(scored(0.8, 0.9, origin=replace(ORIGIN, dirty=True)), USUAL)
    assert verdict.level == "look"
    assert "refs/hypermap/quick" in verdict.advice
    assert verdict.evidence == "commit 0123456 and edits, seed 7"


def test_a_study_outside_of_git_is_to_be_committed():
    verdict = again(scored(0.8, 0.9, origin=replace(ORIGIN, commit="")), USUAL)
    assert verdict.level == "look"
    assert "dvc exp apply" not in verdict.advice


def test_a_grid_has_no_more_trials():
    verdict = again(scored(0.8, 0.9, origin=replace(ORIGIN, sampler="Grid")), USUAL)
    assert "n_trials" not in verdict.advice


def test_another_hydra_application_is_run_with_the_best_values():
    """It has no params.yaml to be promoted into, and no target of make."""
    origin = replace(ORIGIN, program="app.py", command=("optimizer.lr=interval(0.1,1)", "model=small one"))
    view = scored(0.8, 0.9, origin=origin)
    assert again(view, USUAL).command == "python app.py 'model=small one' optimizer.lr=0.1"
    assert winner(view, USUAL).command.endswith("hydra.sweeper.confirm=true")


def test_the_values_of_a_plain_optuna_study_are_queued():
    verdict = again(scored(0.8, 0.9, origin=Provenance()), USUAL)
    assert (verdict.level, verdict.command) == ("look", "study.enqueue_trial({'optimizer.lr': 0.1})")


# whatever the study


def nothing():
    return view_of([])


STUDIES = {
    "none": nothing,
    "one": lambda: scored(0.9),
    "two": lambda: scored(0.9, 0.9),
    "all failed": lambda: view_of([trial([0.0], "failed") for _ in range(3)]),
    "all pruned": lambda: view_of([trial([0.5], "pruned") for _ in range(3)]),
    "all diverged": lambda: view_of([trial([-math.inf], "diverged") for _ in range(3)]),
    "constant": lambda: scored(*[0.5] * 20, confirmed={0: [0.5, 0.5], 1: [0.5, 0.5], BASELINE: [0.5, 0.5]}),
    "zero": lambda: scored(*[0.0] * 20),
    "plain": lambda: scored(0.1, 0.2, origin=Provenance()),
    "several": lambda: view_of([trial((1, 2)), trial((2, 1)), trial((0, 0), "failed")], ["minimize", "maximize"]),
    "several, none": lambda: view_of([], ["minimize", "maximize"]),
    "retrained once": lambda: scored(0.1, 0.2, confirmed={1: [0.2], 0: [0.1], BASELINE: [0.1]}),
    "no retraining": lambda: scored(0.1, 0.2, confirmed={1: [], BASELINE: []}),
    "retrained, gone": lambda: scored(0.1, 0.2, confirmed={1: [0.2, 0.21], 7: [0.2, 0.22], BASELINE: [0.1, 0.11]}),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("check", CHECKS)
def test_every_study_has_a_verdict(check, name, is_whole):
    is_whole(check(STUDIES[name](), USUAL), check)


def test_a_grid_that_was_run_does_not_go_on():
    study = optuna.create_study(direction="maximize", study_name="quick")
    for rate in (0.1, 0.2):
        study.add_trial(
            create_trial(params={"lr": rate}, distributions={"lr": CategoricalDistribution((0.1, 0.2))}, value=rate)
        )
    verdict = again(replace(read(study), origin=replace(ORIGIN, sampler="Grid")), USUAL)
    assert "goes on" not in verdict.advice
    assert verdict.command == "make promote STUDY=quick"
