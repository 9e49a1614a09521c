"""The order of the steps is the same however many run at once, and in whatever order they end."""

import random

import pytest

from hypermap.automl.order import Candidate, Order, Outcome, Step

FOLDS = 3


def loss(number, fold):
    return random.Random(f"{number} {fold}").uniform(0.2, 1.0) if number % 5 != 4 else None


def order(most=14):
    def propose(number, known):
        if number >= most:
            return None
        # What is proposed depends on what is known.
        return Candidate(f"{number} {[(tried.number, tried.loss) for tried in known]}", {}, {})

    return Order(FOLDS, [1.0] * FOLDS, propose)


def done_in_turn(most):
    made, done = order(), {}
    while len(done) < most and (step := made.next(done)) is not None:
        done[step] = Outcome(loss(step.candidate, step.fold))
    return made, done


def done_at_once(jobs, seed, most=1000):
    made, done, running, rng = order(), {}, [], random.Random(seed)
    while True:
        while len(running) < jobs and (step := made.next(done, running)) is not None:
            running.append(step)
        if not running or len(done) >= most:
            return made, done
        ended = running.pop(rng.randrange(len(running)))
        done[ended] = Outcome(loss(ended.candidate, ended.fold))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("jobs", [2, 3, 4])
def test_steps_and_candidates_are_those_of_one_at_a_time(jobs, seed):
    first, alone = done_in_turn(1000)
    other, several = done_at_once(jobs, seed)
    assert list(first.finished(alone)) == list(other.finished(several)) == sorted(alone)
    assert alone == several
    assert [first.candidate(k, alone).says for k in range(14)] == [other.candidate(k, several).says for k in range(14)]


@pytest.mark.parametrize("most", [1, 5, 11, 20])
def test_so_many_steps_are_the_same_steps(most):
    """Whatever a clock had done beyond the first that is missing does not count."""
    made, several = done_at_once(3, 1, most)
    steps = list(made.finished(several))
    assert steps == list(done_in_turn(len(steps))[1])


def test_a_candidate_that_cannot_be_trained_or_is_far_behind_is_dropped():
    made, done = done_in_turn(1000)
    for number in range(14):
        folds = [step.fold for step in done if step.candidate == number]
        assert folds == list(range(len(folds)))
        if number % 5 == 4:
            assert folds == [0]
            assert made.tried(number, done) is None
    assert made.tried(0, done).loss == pytest.approx(sum(loss(0, k) for k in range(FOLDS)) / FOLDS)


def test_next_to_one_that_runs_others_start_but_none_that_depends_on_it():
    made = order()
    running = []
    while (step := made.next({}, running)) is not None:
        running.append(step)
    assert running == [Step(number, 0) for number in range(4)], "the fifth's proposal depends on the first"
