"""What trials are charged to a budget, how far one may train on what is left, and who begins where nobody is paused."""

import math

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hypermap.search.schedule import SCHEDULE, SIZE, Allowed, Decision, Ledger, Size, ToTheEnd

RUNNING, PRUNED, COMPLETE, FAIL = TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL


def trial(state: TrialState, steps: int, allowed: Allowed | None = None, size: dict | None = None) -> FrozenTrial:
    attributes = {} if allowed is None else {SCHEDULE: allowed.record()}
    return create_trial(
        state=state,
        value=0.5 if state == COMPLETE else None,
        intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
        user_attrs=attributes | ({} if size is None else {SIZE: size}),
    )


# What the study keeps.


@pytest.mark.parametrize("allowed", [Allowed(), Allowed(3), Allowed(None, unpruned=True), Allowed(7, paused=True)])
def test_what_a_study_keeps_is_read_back(allowed):
    assert Allowed.of(trial(RUNNING, 1, allowed)) == allowed


def test_a_trial_of_whom_nothing_is_kept_may_train_to_its_end():
    assert Allowed.of(trial(RUNNING, 1)) == Allowed(until=None, paused=False, unpruned=False)


def test_a_trials_own_size_wins_over_that_of_all():
    assert Size.of(trial(RUNNING, 1), 8) == Size(8, 1.0)
    assert Size.of(trial(RUNNING, 1, size={"steps": 20, "trainings": 2.5}), 8) == Size(20, 2.5)
    assert Size.of(trial(RUNNING, 0, size={"steps": None, "trainings": 1.0}), 8) == Size(
        None, 1.0
    )  # it reports nothing
    assert Size.of(trial(RUNNING, 1), None) == Size(None, 1.0)


@pytest.mark.parametrize(
    ("size", "steps", "cost"),
    [
        (Size(8), 2, 0.25),
        (Size(8), 8, 1.0),
        (Size(8), 9, 1.0),  # no more than the whole
        (Size(20, 2.5), 2, 0.25),
        (Size(None), 0, 1.0),
        (Size(None, 3.0), 1, 3.0),
    ],
)
def test_a_step_costs_its_share_of_a_training(size, steps, cost):
    assert size.cost(steps) == cost


# The ledger.


@pytest.mark.parametrize(
    ("one", "taken"),
    [
        (trial(COMPLETE, 8), 1.0),
        (trial(COMPLETE, 5), 0.625),  # it stopped early
        (trial(COMPLETE, 0), 1.0),  # it reports nothing
        (trial(PRUNED, 2), 0.25),
        (trial(FAIL, 3), 0.375),
        (trial(FAIL, 0), 0.125),
        (trial(RUNNING, 0), 1.0),
        (trial(RUNNING, 5), 1.0),  # promised
        (trial(RUNNING, 0, Allowed(2)), 0.25),
        (trial(RUNNING, 2, Allowed(4)), 0.5),
        (trial(RUNNING, 4, Allowed(2)), 0.5),
        (trial(RUNNING, 2, Allowed(2, paused=True)), 0.25),
        (trial(RUNNING, 2, Allowed(None, paused=True)), 0.25),
        (trial(RUNNING, 4, Allowed(4, paused=True), {"steps": 16, "trainings": 2.0}), 0.5),
        (trial(RUNNING, 0, None, {"steps": 16, "trainings": 2.0}), 2.0),
    ],
)
def test_a_trial_is_charged_what_it_used_or_may_use(one, taken):
    assert Ledger(horizon=8).taken(one) == taken


def test_what_is_left_is_neither_used_nor_promised():
    trials = [trial(COMPLETE, 8), trial(PRUNED, 2), trial(RUNNING, 2, Allowed(4)), trial(TrialState.WAITING, 0)]
    assert Ledger(3.0, horizon=8).spent(trials) == 1.75
    assert Ledger(3.0, horizon=8).left(trials) == 1.25
    assert Ledger(1.0, horizon=8).left(trials) == 0.0
    assert Ledger(horizon=8).left(trials) == math.inf


def test_steps_that_are_no_binary_fractions_add_up():
    """Thirty trials of a tenth of a training are three, to the last step."""
    ledger = Ledger(3.0, horizon=10)
    trials = [trial(PRUNED, 1) for _ in range(29)]
    assert ledger.within(Size(10), 0, None, ledger.left(trials)) == 1
    trials.append(trial(PRUNED, 1))
    assert ledger.within(Size(10), 0, None, ledger.left(trials)) == 0


@pytest.mark.parametrize(
    ("reached", "until", "left", "expected"),
    [
        (0, None, math.inf, None),
        (0, 4, math.inf, 4),
        (0, None, 1.0, None),
        (0, None, 0.9999, 7),
        (0, 4, 0.5, 4),
        (0, 4, 0.49, 3),
        (2, 8, 0.5, 6),
        (2, None, 0.75, None),
        (4, 8, 0.1, 0),
        (0, 1, 0.0, 0),
    ],
)
def test_how_far_a_trial_may_train(reached, until, left, expected):
    assert Ledger(5.0, horizon=8).within(Size(8), reached, until, left) == expected


def test_a_large_trial_gets_fewer_of_its_steps():
    assert Ledger(5.0).within(Size(16, 4.0), 0, None, 1.0) == 4
    assert Ledger(5.0).within(Size(4, 0.5), 0, None, 0.3) == 2


def test_of_whom_nobody_knows_how_long_it_trains_there_is_a_whole_one_or_none():
    assert Ledger(5.0).within(Size(None), 0, None, 1.0) is None
    assert Ledger(5.0).within(Size(None), 0, 2, 1.0) == 2
    assert Ledger(5.0).within(Size(None), 0, None, 0.9) == 0


def test_of_whom_nobody_knows_how_long_it_trains_all_is_paid_once_it_has_begun():
    ledger = Ledger(1.0)
    begun = trial(RUNNING, 2, Allowed(2, paused=True))
    assert ledger.left([begun]) == 0.0
    assert ledger.within(Size(None), 2, 4, 0.0) == 4
    assert ledger.within(Size(None), 2, None, 0.0) is None
    assert ledger.left([trial(COMPLETE, 7)]) == 0.0


@pytest.mark.parametrize(("n_trials", "may"), [(None, True), (3, True), (2, False), (1, False)])
def test_a_number_of_trials_is_one_of_those_that_began(n_trials, may):
    trials = [trial(FAIL, 0), trial(RUNNING, 1), trial(TrialState.WAITING, 0)]
    assert Ledger(n_trials=n_trials).may_begin(trials) is may


# To the end.


def test_every_trial_is_trained_to_its_end_and_the_last_as_far_as_the_budget_goes():
    ledger, trials, decided = Ledger(2.4, horizon=5), [], []
    while (decision := ToTheEnd().decide(trials, ledger)) is not None:
        decided.append(decision)
        until = decision.allowed.until or 5
        trials.append(trial(COMPLETE if until == 5 else PRUNED, until))
    assert decided == [Decision(None, Allowed()), Decision(None, Allowed()), Decision(None, Allowed(2))]
    assert ledger.left(trials) == pytest.approx(0.0)


def test_what_is_saved_by_pruning_is_spent_again():
    ledger = Ledger(2.0, horizon=4)
    trials = [trial(PRUNED, 1) for _ in range(5)]
    assert ToTheEnd().decide(trials, ledger) == Decision(None, Allowed(3))


def test_nobody_begins_beyond_the_number_or_on_a_promise_to_another():
    assert ToTheEnd().decide([trial(RUNNING, 1), trial(COMPLETE, 4)], Ledger(n_trials=2, horizon=4)) is None
    assert ToTheEnd().decide([trial(RUNNING, 1)], Ledger(1.0, horizon=4)) is None
    assert ToTheEnd().decide([trial(RUNNING, 1, Allowed(3))], Ledger(1.0, horizon=4)) == Decision(None, Allowed(1))


def test_where_sizes_differ_a_trial_begins_on_a_whole_training():
    trials = [trial(COMPLETE, 8, size={"steps": 8, "trainings": 2.0})]
    assert ToTheEnd().decide(trials, Ledger(3.0, sizes_differ=True)) == Decision(None, Allowed())
    assert ToTheEnd().decide(trials, Ledger(2.9, sizes_differ=True)) is None
