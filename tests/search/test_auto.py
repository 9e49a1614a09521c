"""The default sampler: who proposes what, from the same trials always the same, and never twice the same point."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

from hypermap.search.auto import (
    BASELINE,
    FLOOR,
    MODEL,
    NEAR,
    PRIOR,
    SHARES,
    SPACE,
    SPACE_SHARE,
    STARTUP,
    TPE,
    Auto,
    portfolio,
)
from hypermap.search.auto import _Density as Density
from hypermap.search.counter_samplers import sobol
from hypermap.search.curves import CurveReader
from hypermap.search.earlier import EarlierStudy
from hypermap.search.scales import mapping
from hypermap.search.schedule import PROPOSED, REPEATS
from hypermap.search.space import Condition
from hypermap.search.unit_cube import Cube

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACES = {
    "float": {"x": FloatDistribution(-1.0, 3.0)},
    "log": {"x": FloatDistribution(1e-6, 1.0, log=True)},
    "step": {"x": FloatDistribution(0.0, 0.9, step=0.3)},
    "int": {"x": IntDistribution(1, 5)},
    "log int": {"x": IntDistribution(1, 1000, log=True)},
    "int step": {"x": IntDistribution(0, 64, step=16)},
    "categorical": {"x": CategoricalDistribution(["a", "b", None, 3])},
    "single": {"x": FloatDistribution(1.0, 1.0), "y": IntDistribution(2, 2), "z": CategoricalDistribution(["a"])},
    "mixed": {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "width": IntDistribution(16, 512, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["sgd", "adam", "lion"]),
        "dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "fixed": IntDistribution(3, 3),
    },
    "sixty": {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(60)},
}
PLANE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
MAPPED = {"lr": FloatDistribution(1e-5, 1e-1), "width": IntDistribution(16, 512), "keep": FloatDistribution(0.8, 0.999)}
MAPPINGS = {
    "lr": mapping("log", 1e-5, 1e-1),
    "width": mapping("pow2", 16, 512),
    "keep": mapping("one_minus_log", 0.8, 0.999),
}
OPTIMIZERS = {
    "optimizer": CategoricalDistribution(["sgd", "adam", "lion"]),
    "sgd.lr": FloatDistribution(1e-4, 1.0, log=True),
    "sgd.momentum": FloatDistribution(0.0, 0.99),
    "adam.lr": FloatDistribution(1e-5, 1e-1, log=True),
    "adam.layers": IntDistribution(1, 4),
    "lion.lr": FloatDistribution(1e-6, 1e-2, log=True),
}
CONDITIONS = {name: (Condition("optimizer", (name.split(".")[0],)),) for name in OPTIMIZERS if "." in name}


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices are no work for several, which wait for each other where the machine is busy."""
    with threadpool_limits(1):
        yield


Objective = Callable[[Mapping[str, Any]], float]


def search(sampler: Auto, space: Mapping[str, BaseDistribution], objective: Objective, count: int) -> optuna.Study:
    """A study of trials that report nothing, lower being better."""
    study = optuna.create_study(sampler=sampler)
    for _ in range(count):
        trial = study.ask(dict(space))
        study.tell(trial, objective(trial.params))
    return study


def bowl(params: Mapping[str, Any]) -> float:
    return (params["x"] - 0.7) ** 2 + (params["y"] - 0.2) ** 2


def ask(study: optuna.Study, space: Mapping[str, BaseDistribution], conditions: Mapping[str, Any]) -> optuna.Trial:
    """A trial of a space in which some parameters have conditions, as `Space.suggest` draws it."""
    trial = study.ask()
    for name, distribution in space.items():
        if all(trial.params.get(one.group) in one.choices for one in conditions.get(name, ())):
            trial._suggest(name, distribution)
    return trial


def by(study: optuna.Study) -> Counter[str]:
    return Counter(trial.user_attrs[PROPOSED] for trial in study.trials)


# Every kind of space.


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_kind_of_parameter(space):
    study = optuna.create_study(sampler=Auto(0, space))
    for number in range(STARTUP + 8):
        trial = study.ask(space)
        for name, distribution in space.items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[name]))
            if isinstance(distribution, FloatDistribution | IntDistribution):
                assert type(trial.params[name]) is (int if isinstance(distribution, IntDistribution) else float)
        for step in (1, 2, 3):
            trial.report(1 / (number + 1) / step, step)
        study.tell(trial, 1 / (number + 1))


def test_mapped_parameters_are_searched_on_their_scales_and_stored_as_natural_values():
    study = search(Auto(0, MAPPED, MAPPINGS), MAPPED, lambda p: abs(math.log10(p["lr"]) + 3) - p["keep"], 40)
    for trial in study.trials:
        assert trial.distributions == MAPPED
        assert trial.params["width"] in (16, 32, 64, 128, 256, 512)
    first = [math.log10(trial.params["lr"]) for trial in study.trials[1:STARTUP]]
    assert min(first) < -4 < -2 < max(first)  # space-filling on the logarithm
    assert abs(math.log10(study.best_params["lr"]) + 3) < 0.2


def test_a_space_that_nobody_told_is_what_trials_had():
    study = search(Auto(0), PLANE, bowl, STARTUP + 20)
    assert study.best_value < 0.01
    assert set(by_known := by_members(study)) >= {SPACE}
    assert by_known[MODEL] + by_known[NEAR] + by_known[TPE] > 5


def by_members(study: optuna.Study) -> Counter[str]:
    return Counter(trial.user_attrs.get(PROPOSED, "nobody") for trial in study.trials)


def test_parameters_that_some_trials_lack():
    study = optuna.create_study(sampler=Auto(0))
    for _ in range(STARTUP + 10):
        trial = study.ask({"kind": CategoricalDistribution(["a", "b"])})
        if trial.params["kind"] == "a":
            value = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        else:
            value = float(trial.suggest_int("depth", 1, 5))
        study.tell(trial, value)
    disjoint = optuna.create_study(sampler=Auto(0))
    for number in range(STARTUP + 10):
        trial = disjoint.ask({})
        disjoint.tell(trial, trial.suggest_float(f"x{number % 2}", 0.0, 1.0))
    assert {trial.state for trial in study.trials + disjoint.trials} == {TrialState.COMPLETE}
    assert all(("lr" in trial.params) == (trial.params["kind"] == "a") for trial in study.trials)


def test_what_a_choice_leaves_idle_makes_no_two_points_of_one():
    study = optuna.create_study(sampler=Auto(1, OPTIMIZERS, conditions=CONDITIONS))
    for _ in range(80):
        trial = ask(study, OPTIMIZERS, CONDITIONS)
        rate = next(value for name, value in trial.params.items() if name.endswith(".lr"))
        study.tell(trial, abs(math.log10(rate) + 3) + (trial.params["optimizer"] != "adam"))
    points = [tuple(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(points)) == 80
    assert study.best_params["optimizer"] == "adam"
    assert study.best_value < 0.1
    assert all(set(t.params) - {"optimizer"} <= set(OPTIMIZERS) for t in study.trials)
    assert Counter(trial.params["optimizer"] for trial in study.trials)["adam"] > 40


# The first trials.


def test_the_first_trial_is_the_baseline_to_the_last_bit_and_the_next_is_the_best_of_the_prior():
    baseline = {"lr": 0.01, "width": 100, "keep": 0.9}  # no power of two, but what a person has
    prior = [{"lr": 0.003, "width": 64, "keep": 0.97}, {"lr": 0.1}]
    study = search(Auto(0, MAPPED, MAPPINGS, baseline, [EarlierStudy(tuple(prior))]), MAPPED, lambda p: p["lr"], 40)
    assert [trial.params for trial in study.trials[:2]] == [baseline, prior[0]]
    assert [trial.user_attrs[PROPOSED] for trial in study.trials[:4]] == [BASELINE, PRIOR, SPACE, SPACE]
    later = [trial for trial in study.trials[2:] if trial.user_attrs[PROPOSED] == PRIOR]
    assert later[0].params["lr"] == pytest.approx(0.1)  # the other comes when its turn does, and then their neighbours
    assert len(later) > 1
    assert later[1].params["lr"] not in (0.003, 0.1)


def test_what_a_baseline_lacks_is_in_the_middle_or_the_first_choice():
    space = SPACES["mixed"]
    [trial] = search(Auto(0, space, baseline={"layers": 3}), space, lambda p: 0.0, 1).trials
    middle = {"lr": 1e-3, "width": round(math.sqrt(15.5 * 512.5)), "dropout": 0.3, "fixed": 3, "layers": 3}
    assert trial.params == {"optimizer": "sgd", **middle, "lr": pytest.approx(1e-3)}
    [first] = search(Auto(0, space), space, lambda p: 0.0, 1).trials
    assert first.params["lr"] == pytest.approx(1e-3)
    assert first.user_attrs[PROPOSED] == SPACE


def test_values_of_a_baseline_that_are_not_searched_are_left_alone():
    [trial] = search(Auto(0, PLANE, baseline={"x": 0.1, "y": 0.9, "z": 5}), PLANE, bowl, 1).trials
    assert trial.params == {"x": 0.1, "y": 0.9}


def test_the_next_are_points_of_one_sobol_sequence_whatever_came_of_the_others():
    study = search(Auto(3, PLANE, baseline={"x": 0.5, "y": 0.5}), PLANE, bowl, STARTUP)
    worse = search(Auto(3, PLANE, baseline={"x": 0.1, "y": 0.5}), PLANE, lambda p: -bowl(p), STARTUP)
    for number in range(1, STARTUP):
        expected = dict(zip(PLANE, sobol(2, 3, number), strict=True))
        assert study.trials[number].params == worse.trials[number].params == pytest.approx(expected)


# From the same trials always the same.


def curve(params: Mapping[str, Any]) -> list[float]:
    return [(params["x"] - 0.3) ** 2 + params["y"] / step for step in range(1, 9)]


def run(make: Callable[[int], Auto], count: int = 30) -> list[dict[str, Any]]:
    """Trials of which every other one is stopped after two steps."""
    study = optuna.create_study()
    for number in range(count):
        study.sampler = make(number)
        trial = study.ask(PLANE)
        values = curve(trial.params)[: 2 if number % 2 else 8]
        for step, value in enumerate(values, 1):
            trial.report(value, step)
        study.tell(trial, *([] if number % 2 else [min(values)]), state=TrialState.PRUNED if number % 2 else None)
    return [trial.params for trial in study.trials]


def test_a_proposal_follows_from_the_seed_the_number_and_the_trials_alone():
    one = Auto(5, PLANE)
    each = run(lambda number: Auto(5, PLANE))  # one object for each trial, or one for all
    assert run(lambda number: one) == each != run(lambda number: Auto(6, PLANE))


def test_whatever_else_an_object_was_asked_changes_nothing():
    def asked_much(number: int) -> Auto:
        sampler = Auto(5, PLANE)
        search(sampler, PLANE, bowl, 3 + number % 4)
        sampler._curves = None  # it reads one study's trials
        sampler._cube = None
        return sampler

    assert run(asked_much, 16) == run(lambda number: Auto(5, PLANE), 16)


def test_a_trial_that_was_half_drawn_gets_the_rest_as_it_would_have():
    whole = search(Auto(2, PLANE), PLANE, bowl, 21).trials[-1].params
    study = search(Auto(2, PLANE), PLANE, bowl, 20)
    study.sampler = Auto(2, PLANE)
    trial = study.ask({"x": PLANE["x"]})  # and then its process died
    study.sampler = Auto(2, PLANE)
    again = optuna.Trial(study, trial._trial_id)
    assert again._suggest("y", PLANE["y"]) == whole["y"]
    assert again.params == whole


def test_a_trial_that_is_taken_up_keeps_its_values_and_who_proposed_it():
    study = search(Auto(2, PLANE), PLANE, bowl, 12)
    trial = study.ask(PLANE)
    trial.report(0.1, 1)
    before, proposed = trial.params, study.trials[-1].user_attrs[PROPOSED]
    for _ in range(4):
        study.tell(study.ask(PLANE), 0.5)
    again = optuna.Trial(study, trial._trial_id)
    assert again.relative_params == before
    assert study.trials[trial.number].user_attrs[PROPOSED] == proposed


def test_a_trial_that_repeats_another_has_its_values():
    study = search(Auto(2, PLANE), PLANE, bowl, 12)
    study.enqueue_trial(study.trials[3].params, {REPEATS: 3})
    trial = study.ask(PLANE)
    assert trial.params == study.trials[3].params
    assert PROPOSED not in trial.user_attrs


def test_what_a_person_enqueues_is_tried_as_it_is():
    study = search(Auto(2, PLANE), PLANE, bowl, 12)
    study.enqueue_trial({"x": 0.25})
    trial = study.ask(PLANE)
    assert trial.params["x"] == 0.25
    assert 0 <= trial.params["y"] <= 1


# Never twice.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("space", "cells"),
    [
        ({"a": CategoricalDistribution(["x", "y", "z"]), "b": IntDistribution(1, 4)}, 12),
        ({"a": IntDistribution(1, 20, log=True)}, 20),
        ({"a": FloatDistribution(0.0, 0.9, step=0.1), "b": CategoricalDistribution([True, False])}, 20),
    ],
)
def test_a_small_space_is_exhausted_before_a_point_is_tried_again(space, cells, seed):
    def objective(params):
        return float(params["a"] == "z") if isinstance(params["a"], str) else params["a"]

    study = search(Auto(seed, space), space, objective, cells + 3)
    points = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(points[:cells])) == cells
    assert len(set(points)) == cells  # and then it goes on all the same


def test_mapped_members_are_not_tried_twice():
    space, through = {"n": IntDistribution(16, 512)}, {"n": MAPPINGS["width"]}
    study = search(Auto(0, space, through), space, lambda p: abs(p["n"] - 64), 6)
    assert sorted(trial.params["n"] for trial in study.trials) == [16, 32, 64, 128, 256, 512]


def test_trials_that_are_asked_for_together_are_apart():
    study = search(Auto(0, PLANE), PLANE, bowl, STARTUP + 8)
    running = [study.ask(PLANE) for _ in range(8)]
    points = np.array([[trial.params["x"], trial.params["y"]] for trial in running])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(8)
    assert apart.min() > 1e-3
    assert len(np.unique(points.round(2), axis=0)) > 5


# Trials that ended badly.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_diverges_is_avoided(bad, direction):
    study = optuna.create_study(direction=direction, sampler=Auto(0, PLANE))
    sign = 1 if direction == "maximize" else -1
    for _ in range(80):
        trial = study.ask(PLANE)
        if trial.params["x"] > 0.5:
            trial.report(bad, 1)
            study.tell(trial, -sign * math.inf)
        else:
            trial.report(sign * trial.params["y"], 1)
            study.tell(trial, sign * trial.params["y"])
    right = [(trial.user_attrs[PROPOSED] == SPACE, trial.params["x"] > 0.5) for trial in study.trials]
    assert 0.4 < np.mean([diverged for filling, diverged in right if filling]) < 0.6
    assert np.mean([diverged for filling, diverged in right if not filling]) < 0.25


def test_where_all_diverged_the_search_goes_on():
    study = search(Auto(0, PLANE), PLANE, lambda p: math.inf, STARTUP + 20)
    points = np.array([[trial.params["x"], trial.params["y"]] for trial in study.trials])
    assert len(np.unique(points, axis=0)) == STARTUP + 20
    assert np.ptp(points, axis=0).min() > 0.5


def test_what_failed_is_no_lesson():
    study = search(Auto(0, PLANE), PLANE, bowl, STARTUP + 2)
    twin = search(Auto(0, PLANE), PLANE, bowl, STARTUP + 2)
    for number in range(2):
        params = {"x": 0.7, "y": 0.2 + 0.01 * number}
        study.add_trial(create_trial(state=TrialState.FAIL, params=params, distributions=PLANE))
        twin.add_trial(create_trial(state=TrialState.FAIL, params={"x": 0.1, "y": 0.1}, distributions=PLANE))
    assert study.ask(PLANE).params == twin.ask(PLANE).params


# Several objectives.


def test_several_objectives_are_searched_along_their_front():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Auto(0, PLANE))
    for _ in range(50):
        trial = study.ask(PLANE)
        x, y = trial.params["x"], trial.params["y"]
        study.tell(trial, [x + (y - 0.5) ** 2, x - (y - 0.5) ** 2])  # the front: y is 0.5, and x whatever it is
    late = np.array([[trial.params["x"], trial.params["y"]] for trial in study.trials[25:]])
    assert np.abs(late[:, 1] - 0.5).mean() < 0.2 < np.abs(np.random.default_rng(0).random(999) - 0.5).mean()
    assert np.ptp(late[:, 0]) > 0.5
    assert len(study.best_trials) > 5


def test_of_several_objectives_all_may_diverge():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Auto(0, PLANE))
    for _ in range(STARTUP + 6):
        study.tell(study.ask(PLANE), [math.inf, -math.inf])
    assert len(study.trials) == STARTUP + 6


# How well.


def test_without_reports_it_is_a_good_sampler():
    best = [float(search(Auto(seed, PLANE), PLANE, bowl, 40).best_value) for seed in range(5)]
    assert np.median(best) < 0.001  # random search: 0.008 = 1 / (40 pi)


def test_trials_that_were_stopped_count_by_what_is_expected_of_them():
    """A point that was stopped early as the best of those is proposed around; its end is not known."""
    study = optuna.create_study(sampler=Auto(0, PLANE, curves=CurveReader(-1.0, -1.0, 8)))
    for number in range(40):
        trial = study.ask(PLANE)
        values = [bowl(trial.params) + 1 / step for step in range(1, 9)]
        for step, value in enumerate(values[: 8 if number % 8 == 0 else 1], 1):
            trial.report(value, step)
        study.tell(
            trial, *([min(values)] if number % 8 == 0 else []), state=None if number % 8 == 0 else TrialState.PRUNED
        )
    late = [bowl(trial.params) for trial in study.trials[20:]]
    assert np.median(late) < 0.1  # of uniform points: 0.3


@pytest.mark.parametrize(
    "members", [{MODEL}, {NEAR}, {TPE}, set(SHARES)], ids=lambda members: "-".join(sorted(members))
)
def test_each_member_proposes_good_points_by_itself(members, monkeypatch):
    only = {member: share for member, share in SHARES.items() if member in members}
    monkeypatch.setattr("hypermap.search.auto.portfolio", lambda *_, **__: shares_of(only))
    late = [bowl(trial.params) for seed in range(2) for trial in search(Auto(seed, PLANE), PLANE, bowl, 40).trials[20:]]
    assert np.median(late) < 0.08  # of uniform points: 0.3


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    whole = sum(weights.values())
    return {name: weight / whole for name, weight in weights.items()}


# The portfolio.


def test_before_anything_is_known_the_shares_are_the_first_ones():
    shares = portfolio([BASELINE] * 3, np.arange(3.0))
    assert shares.pop(SPACE) == SPACE_SHARE
    assert shares == pytest.approx({name: (1 - SPACE_SHARE) * share for name, share in SHARES.items()}, abs=0.01)


def test_shares_are_a_distribution_and_none_is_below_the_floor():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 200))
        proposed = rng.choice([SPACE, *SHARES, PRIOR, BASELINE], n).tolist()
        shares = portfolio(proposed, rng.standard_normal(n), prior=True)
        assert set(shares) == {SPACE, *SHARES, PRIOR}
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= (1 - SPACE_SHARE) * FLOOR / (1 + FLOOR * len(shares))


def test_shares_follow_what_each_has_brought():
    proposed = [SPACE, MODEL, NEAR, TPE] * 25
    usual = portfolio(proposed, np.tile([0.0, 0.0, 0.0, 0.0], 25))
    good_model = portfolio(proposed, np.tile([0.0, 1.0, 0.0, 0.0], 25))
    good_near = portfolio(proposed, np.tile([0.0, 0.0, 1.0, 0.0], 25))
    assert good_model[MODEL] > usual[MODEL] > good_near[MODEL]
    assert good_near[NEAR] > usual[NEAR] > good_model[NEAR]
    few = portfolio(proposed[:8], np.tile([0.0, 1.0, 0.0, 0.0], 2))
    assert usual[MODEL] < few[MODEL] < good_model[MODEL]  # a short record counts for less


def test_every_member_has_its_turn():
    counts = by(
        search(Auto(0, PLANE, baseline={"x": 0.1}, prior=[EarlierStudy(({"x": 0.7, "y": 0.2},))]), PLANE, bowl, 80)
    )
    assert set(counts) == {BASELINE, PRIOR, SPACE, *SHARES}
    assert 0.35 * 80 < counts[SPACE] < 0.65 * 80
    assert counts[BASELINE] == 1
    assert counts[PRIOR] > 5


# Density estimates.


@pytest.mark.parametrize(
    "space",
    [
        {"x": FloatDistribution(0.0, 1.0)},
        {"x": FloatDistribution(0.0, 1.0), "c": CategoricalDistribution(["a", "b", "c"])},
        {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0), "z": FloatDistribution(0.0, 1.0)},
        {"c": CategoricalDistribution(["a", "b"]), "d": CategoricalDistribution(list("uvwxyz"))},
    ],
    ids=lambda space: "".join(space),
)
@pytest.mark.parametrize("where", ["inside", "at the edge", "none"])
def test_a_density_integrates_to_one(space, where):
    cube, rng = Cube(space, {}), np.random.default_rng(0)
    points = cube.snapped(rng.random((12, len(cube))) * (0.05 if where == "at the edge" else 1.0))
    density = Density(cube, points[: 0 if where == "none" else 12])
    drawn = qmc.Sobol(len(cube), rng=rng).random_base2(17)
    assert np.exp(density.log(cube.snapped(drawn))).mean() == pytest.approx(1, abs=0.02)


def test_a_density_is_highest_where_the_points_are():
    space = {"x": FloatDistribution(0.0, 1.0), "c": CategoricalDistribution(["a", "b"])}
    cube = Cube(space, {})
    density = Density(cube, np.array([cube.point({"x": 0.2, "c": "a"})] * 6))
    values = [density.log(cube.point({"x": x, "c": c})[None])[0] for x, c in ((0.2, "a"), (0.2, "b"), (0.8, "a"))]
    assert values[0] > max(values[1:])
    drawn = density.sample(np.random.default_rng(0), 500)
    assert np.median(drawn[:, 0]) == pytest.approx(0.2, abs=0.02)
    assert 0.8 < np.mean(drawn[:, 1] == 0.25) < 1  # another choice now and then
