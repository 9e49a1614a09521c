"""From the choices of a sampler and a pruner to Optuna's objects, with the seeds and the settings that they need."""

from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState, create_trial

from hydra_plugins.hypermap_sweeper.config import PRUNERS, SAMPLERS
from hypermap.core.errors import UserError
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.scales import mapping
from hypermap.search.space import Parameter, Space
from hypermap.search.strategy import Samplers, learns, make_pruner, make_sampler
from hypermap.search.study import StudyConfig, trial_seed
from support.studies import planned

# Optuna says so of half of what ships; `hypermap.search.strategy` keeps it from users, and pytest undoes that.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LISTED = Space(
    (
        Parameter("a", "a", "1,2,3", CategoricalDistribution((1, 2, 3))),
        Parameter("b", "b", "u,v", CategoricalDistribution(("u", "v"))),
    )
)


@pytest.fixture
def plan(tmp_path) -> StudyConfig:
    return planned(tmp_path, n_trials=6, seed=11)


def with_sampler(plan, name, **settings):
    chosen = SAMPLERS.get(name, {"_target_": name})
    return replace(plan, sampler={**chosen, **settings})


def with_pruner(plan, name, **settings):
    return replace(plan, pruner={**PRUNERS[name], **settings})


def points(plan, count=6):
    """What a search of the plan proposes, with a sampler of its own for each trial."""
    study = optuna.create_study()
    for number in range(count):
        study.sampler = make_sampler(plan, number)
        trial = study.ask()
        plan.space.suggest(trial)
        study.tell(trial, float(number))
    return [tuple(trial.params.values()) for trial in study.trials]


# Seeds.


@pytest.mark.parametrize(
    "name",
    ["optuna.samplers.RandomSampler", "optuna.samplers.TPESampler", "random_grid", "quasi_random", "gradient"],
)
def test_a_search_repeats_with_its_seed_and_with_no_other(plan, name):
    plan = with_sampler(plan, name)
    plan = replace(plan, space=LISTED) if name == "random_grid" else plan
    assert points(plan) == points(plan)
    assert any(points(plan) != points(replace(plan, seed=seed)) for seed in (12, 13, 14))
    assert len(set(points(plan))) == 6


def seeds_given(plan, monkeypatch, target):
    given = []
    build = make_sampler.__globals__["instantiate"]
    monkeypatch.setitem(
        make_sampler.__globals__, "instantiate", lambda choice, **more: given.append(more) or build(choice, **more)
    )
    for number in range(3):
        make_sampler(replace(plan, sampler={"_target_": target}), number)
    return given


@pytest.mark.parametrize("target", ["optuna.samplers.RandomSampler", "optuna.samplers.TPESampler"])
def test_a_sampler_that_draws_has_a_seed_for_each_trial(plan, monkeypatch, target):
    given = seeds_given(plan, monkeypatch, target)
    assert given == [{"seed": trial_seed(11, "sampler", number)} for number in range(3)]


@pytest.mark.parametrize("target", ["optuna.samplers.QMCSampler", "hypermap.search.counter_samplers.Random"])
def test_a_sequence_has_the_studys_seed_in_each_trial(plan, monkeypatch, target):
    """Another one in each would be points of so many sequences, which fill the space no better than random ones."""
    assert seeds_given(plan, monkeypatch, target) == [{"seed": 11}] * 3


def test_the_default_sampler_draws_by_the_studys_seed_and_the_trials_number(plan):
    each = Samplers(replace(plan, sampler={"_target_": "hypermap.search.auto.Auto"}))
    assert each(0) is each(1)
    other = Samplers(replace(plan, sampler={"_target_": "hypermap.search.counter_samplers.Random"}))
    assert other(0) is not other(1)


# Settings.


def test_what_is_null_is_left_to_optuna(plan):
    startup = "n_startup_trials"
    usual = make_sampler(with_sampler(plan, "optuna.samplers.TPESampler", **{startup: None}), 0)
    given = make_sampler(with_sampler(plan, "optuna.samplers.TPESampler", **{startup: 3}), 0)
    assert usual._n_startup_trials == optuna.samplers.TPESampler()._n_startup_trials
    assert given._n_startup_trials == 3


@pytest.mark.parametrize("key", ["seed", "n_startup_trials"])
def test_a_setting_that_is_given_wins(plan, key):
    sampler = make_sampler(with_sampler(plan, "optuna.samplers.TPESampler", **{key: 0}), 5)
    if key == "seed":
        twin = optuna.samplers.TPESampler(seed=0)
        assert sampler._rng.rng.random() == twin._rng.rng.random()
    else:
        assert sampler._n_startup_trials == 0


def test_an_unknown_setting_is_told(plan):
    with pytest.raises(UserError, match=r"n_startup_trial\b.*n_startup_trials"):
        make_sampler(with_sampler(plan, "optuna.samplers.TPESampler", n_startup_trial=3), 0)
    with pytest.raises(UserError, match="NoSampler"):
        make_sampler(with_sampler(plan, "optuna.samplers.NoSampler"), 0)


def test_a_grid_visits_each_cell_once_in_order_and_needs_values(plan):
    grid = with_sampler(replace(plan, space=LISTED), "hypermap.search.counter_samplers.Grid")
    assert points(grid) == [(a, b) for a in (1, 2, 3) for b in ("u", "v")]
    shuffled = with_sampler(replace(plan, space=LISTED), "random_grid")
    assert sorted(points(shuffled)) == points(grid) != points(shuffled)
    with pytest.raises(UserError, match="x: a grid needs values, not an interval"):
        make_sampler(with_sampler(plan, "hypermap.search.counter_samplers.Grid"), 0)


def test_a_space_with_mappings_is_searched_through_them(plan):
    space = Space(
        (
            Parameter("x", "x", "…", FloatDistribution(0.01, 0.99), mapping=mapping("logit", 0.01, 0.99)),
            Parameter("y", "y", "…", FloatDistribution(0.0, 1.0)),
        )
    )
    assert isinstance(make_sampler(replace(plan, space=space), 0), ScaledSampler)
    assert not isinstance(make_sampler(plan, 0), ScaledSampler)


# Pruners.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", NopPruner),
        ("median", MedianPruner),
        ("percentile", PercentilePruner),
        ("successive_halving", SuccessiveHalvingPruner),
        ("hyperband", HyperbandPruner),
        ("patient", PatientPruner),
        ("wilcoxon", WilcoxonPruner),
    ],
)
def test_a_pruner_by_its_name(plan, name, kind):
    assert type(make_pruner(with_pruner(plan, name))) is kind


def test_hyperband_learns_how_long_a_full_trial_is(plan):
    assert make_pruner(with_pruner(replace(plan, horizon=81), "hyperband"))._max_resource == 81
    assert make_pruner(with_pruner(replace(plan, horizon=81), "hyperband", max_resource=9))._max_resource == 9
    assert make_pruner(with_pruner(plan, "hyperband"))._max_resource == "auto"


def test_the_threshold_needs_a_bound_and_keeps_it(plan):
    study = optuna.create_study(pruner=make_pruner(with_pruner(plan, "threshold", upper=1.0)))
    trial = study.ask()
    trial.report(0.9, 1)
    assert not trial.should_prune()
    trial.report(1.1, 2)
    assert trial.should_prune()
    with pytest.raises(UserError, match=r"ThresholdPruner refuses its settings.*lower or upper"):
        make_pruner(with_pruner(plan, "threshold"))


def test_patience_wraps_another_pruner(plan):
    """Worse than the median from the first step on, a trial ends when it has not improved for `patience` steps."""
    wrapped = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": None}
    study = optuna.create_study(pruner=make_pruner(with_pruner(plan, "patient", wrapped_pruner=wrapped, patience=2)))
    study.add_trial(create_trial(value=0.1, intermediate_values=dict.fromkeys(range(1, 9), 0.1)))
    trial, ends = study.ask(), []
    for step, value in enumerate([0.9, 0.8, 0.7, 0.75, 0.75, 0.75], 1):
        trial.report(value, step)
        ends.append(trial.should_prune())
    assert ends == [False] * 5 + [True]


def test_wilcoxon_ends_a_trial_that_is_worse_fold_by_fold(plan):
    study = optuna.create_study(pruner=make_pruner(with_pruner(plan, "wilcoxon")))
    study.add_trial(create_trial(value=0.1, intermediate_values={fold: 0.1 + fold / 1000 for fold in range(1, 11)}))
    worse, alike = study.ask(), study.ask()
    for fold in range(1, 11):
        worse.report(0.2 + fold / 900, fold)
        alike.report(0.1 + fold / 1000 + (-1) ** fold / 10_000 * fold, fold)
    assert worse.should_prune()
    assert not alike.should_prune()


def test_several_objectives_have_nothing_to_be_pruned_by(plan):
    both = replace(plan, directions=("minimize", "maximize"))
    assert type(make_pruner(with_pruner(both, "none"))) is NopPruner
    with pytest.raises(UserError, match=r"several objectives .*take hydra/sweeper/pruner=none"):
        make_pruner(with_pruner(both, "median"))


def test_every_choice_that_ships_can_be_made_and_draws(plan):
    for name in SAMPLERS:
        one = with_sampler(replace(plan, space=LISTED) if name == "random_grid" else plan, name)
        assert len(points(one, 3)) == 3
    for name in PRUNERS:
        settings = {"upper": 1.0} if name == "threshold" else {}
        study = optuna.create_study(pruner=make_pruner(with_pruner(plan, name, **settings)))
        trial = study.ask()
        trial.report(0.5, 1)
        study.tell(trial, state=TrialState.PRUNED if trial.should_prune() else TrialState.FAIL)


@pytest.mark.parametrize(
    ("target", "does"),
    [
        *(
            (f"hypermap.search.counter_samplers.{name}", False)
            for name in ("Grid", "RandomGrid", "Random", "QuasiRandom")
        ),
        *((f"optuna.samplers.{name}Sampler", False) for name in ("QMC", "BruteForce", "Random", "Grid")),
        *((f"optuna.samplers.{name}Sampler", True) for name in ("TPE", "GP", "CmaEs", "NSGAII", "PartialFixed")),
        ("hypermap.search.auto.Auto", True),
        ("hypermap.search.gradient.Gradient", True),
        ("optuna.create_study", True),  # a function that makes who knows what
    ],
)
def test_who_learns_from_the_trials_before(target, does):
    assert learns({"_target_": target, "seed": None}) is does
