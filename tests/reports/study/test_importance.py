"""Importances are Optuna's own on the same study; intervals hold them; of pruned trials nothing is told."""

import math
import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from hypermap.reports.study import importance
from hypermap.reports.study.importance import LEAST_OF_BEST, importances
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds

SPACE = {
    "lr": FloatDistribution(1e-5, 1, log=True),
    "layers": IntDistribution(1, 6),
    "act": CategoricalDistribution(("relu", "gelu")),
}
USUAL = Thresholds()


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch):
    """The bootstrap takes most of the time, and most tests are not of it."""
    monkeypatch.setattr(importance, "REPEATS", 2)


def params(k):
    """The k-th point of a low-discrepancy sequence over the space."""
    first, second, third = ((k + 1) * step % 1 for step in (0.8191725134, 0.6710436067, 0.5497004779))
    return {"lr": 10 ** (5 * first - 5), "layers": 1 + int(6 * second), "act": ("relu", "gelu")[int(2 * third)]}


def loss(p):
    return (math.log10(p["lr"]) + 3) ** 2 + 0.2 * p["layers"]


def complete(k, space=SPACE, score=loss):
    chosen = params(k)
    given = {name: chosen[name] for name in space}
    return create_trial(params=given, distributions=space, value=score(chosen))


def pruned(k, reached):
    return create_trial(
        state=TrialState.PRUNED, params=params(k), distributions=SPACE, intermediate_values={1: reached + 1, 2: reached}
    )


def study(trials, direction="minimize"):
    made = optuna.create_study(direction=direction)
    made.add_trials(trials)
    return made


def conditional(number):
    """Trials of which each second one has a parameter more."""
    return [complete(k, SPACE if k % 2 else {"lr": SPACE["lr"], "act": SPACE["act"]}) for k in range(number)]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_shares_are_those_of_optunas_fanova_where_all_trials_have_every_parameter(direction):
    made = study([complete(k) for k in range(25)], direction)
    found = importances(read(made), USUAL)
    assert found is not None
    assert (found.evaluator, found.trials) == ("fANOVA", 25)
    assert found.shares == get_param_importances(made, evaluator=FanovaImportanceEvaluator(seed=0))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_shares_are_those_of_optunas_ped_anova_where_a_parameter_is_conditional(direction):
    made = study(conditional(40), direction)
    found = importances(read(made), USUAL)
    assert found is not None
    assert found.evaluator == "PED-ANOVA"
    assert found.shares == get_param_importances(made, evaluator=PedAnovaImportanceEvaluator())
    assert set(found.shares) == set(SPACE)


def test_many_trials_are_assessed_by_ped_anova_for_its_time():
    made = study([complete(k) for k in range(150)])
    found = importances(read(made), USUAL)
    assert found is not None
    assert found.evaluator == "PED-ANOVA"
    assert found.shares == get_param_importances(made, evaluator=PedAnovaImportanceEvaluator())


def test_of_several_objectives_the_first_is_assessed():
    made = optuna.create_study(directions=["maximize", "minimize"])
    for k in range(20):
        made.add_trial(create_trial(params=params(k), distributions=SPACE, values=[loss(params(k)), k % 3]))
    found = importances(read(made), USUAL)
    assert found is not None
    expected = get_param_importances(
        made, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
    )
    assert found.shares == expected


def test_shares_sum_to_one_the_largest_first_and_lie_in_their_intervals():
    found = importances(read(study([complete(k) for k in range(20)])), USUAL)
    assert found is not None
    assert sum(found.shares.values()) == pytest.approx(1)
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
    assert next(iter(found.shares)) == "lr"
    for name, share in found.shares.items():
        assert 0 <= found.low[name] <= share <= found.high[name] <= 1 + 1e-9


def test_a_larger_confidence_gives_wider_intervals(monkeypatch):
    monkeypatch.setattr(importance, "REPEATS", 20)
    view = read(study(conditional(40)))
    narrow, wide = (importances(view, Thresholds(confidence=share)) for share in (0.5, 0.95))
    assert narrow is not None
    assert wide is not None
    assert any(wide.low[name] < narrow.low[name] for name in SPACE)
    assert all(wide.low[name] <= narrow.low[name] for name in SPACE)
    assert all(wide.high[name] >= narrow.high[name] for name in SPACE)


def test_the_same_study_gives_the_same_importances():
    view = read(study([complete(k) for k in range(12)]))
    assert importances(view, USUAL) == importances(view, USUAL)


def test_what_pruned_trials_had_reached_counts_for_nothing():
    made = study([complete(k) for k in range(LEAST_OF_BEST)] + [pruned(k, 0.0) for k in range(LEAST_OF_BEST, 40)])
    found = importances(read(made), USUAL)
    assert found is not None
    assert found.trials == LEAST_OF_BEST == 8
    assert found.shares == get_param_importances(made, evaluator=FanovaImportanceEvaluator(seed=0))


@pytest.mark.parametrize(("others", "told"), [(0, True), (1, False)])
def test_few_complete_trials_beside_pruned_ones_are_too_few(others, told):
    made = study([complete(k) for k in range(LEAST_OF_BEST - 1)] + [pruned(20 + k, 0.0) for k in range(others)])
    assert (importances(read(made), USUAL) is not None) == told


def test_the_pair_is_the_two_most_important_parameters_that_trials_have_together():
    plain = importances(read(study([complete(k) for k in range(25)])), USUAL)
    assert plain is not None
    assert plain.pair == tuple(plain.shares)[:2]
    apart = [
        complete(k, {name: SPACE[name] for name in (("lr", "act") if k % 2 else ("layers", "act"))}) for k in range(40)
    ]
    found = importances(read(study(apart)), USUAL)
    assert found is not None
    assert found.pair is not None
    assert "act" in found.pair


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [complete(0)],
        [complete(k) for k in range(3)],
        [complete(k, score=lambda _: 0.5) for k in range(20)],
        [create_trial(params=params(1), distributions=SPACE, value=float(k)) for k in range(20)],
        [create_trial(params={}, distributions={}, value=float(k)) for k in range(20)],
        [create_trial(state=TrialState.FAIL, params=params(k), distributions=SPACE) for k in range(20)],
        [create_trial(state=TrialState.PRUNED, params=params(k), distributions=SPACE) for k in range(20)],
    ],
    ids=["none", "one", "three", "constant scores", "constant values", "no parameters", "all failed", "no reports"],
)
def test_there_is_no_importance_where_there_is_nothing_to_tell_it_from(trials):
    assert importances(read(study(trials)), USUAL) is None


def test_one_parameter_has_all_the_importance():
    found = importances(read(study([complete(k, {"lr": SPACE["lr"]}) for k in range(10)])), USUAL)
    assert found is not None
    assert found.shares == {"lr": 1.0}
    assert found.pair is None


@pytest.mark.parametrize("extreme", [1e300, math.inf, -1e308])
def test_scores_out_of_proportion_are_assessed_by_rank(extreme):
    trials = [complete(k) for k in range(20)] + [complete(20 + k, score=lambda _: extreme) for k in range(4)]
    found = importances(read(study(trials)), USUAL)
    assert found is not None
    assert all(map(math.isfinite, (*found.shares.values(), *found.low.values(), *found.high.values())))


def test_nothing_is_written_and_no_warning_is_let_through(capfd):
    view = read(study(conditional(12)))
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importances(view, USUAL)
    assert capfd.readouterr() == ("", "")


def test_a_parameter_of_many_choices_does_not_take_for_ever():
    """fANOVA goes through every combination of choices: two to the power of their number."""
    space = {"lr": SPACE["lr"], "kind": CategoricalDistribution(tuple(map(str, range(30))))}
    trials = [
        create_trial(params={"lr": params(k)["lr"], "kind": str(k % 30)}, distributions=space, value=loss(params(k)))
        for k in range(60)
    ]
    found = importances(read(study(trials)), USUAL)
    assert found is not None
    assert found.evaluator == "PED-ANOVA"


def test_parameters_too_tiny_for_a_tree_are_assessed_by_ped_anova():
    space = {"decay": FloatDistribution(1e-9, 1e-7, log=True), "x": FloatDistribution(0, 1)}
    made = optuna.create_study()
    for k in range(30):
        values = {"decay": 10 ** (-9 + 2 * (k * 0.618 % 1)), "x": k * 0.37 % 1}
        score = (math.log10(values["decay"]) + 8) ** 2  # decay is all that matters
        made.add_trial(create_trial(params=values, distributions=space, value=score))
    found = importances(read(made), USUAL)
    assert found is not None
    assert found.evaluator == "PED-ANOVA"
    assert next(iter(found.shares)) == "decay"
