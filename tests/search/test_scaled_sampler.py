import warnings
from functools import partial

import numpy as np
import optuna
import pytest
from optuna import samplers
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

from hypermap.core.errors import UserError
from hypermap.search.counter_samplers import Grid, QuasiRandom, Random, RandomGrid
from hypermap.search.gradient import Gradient
from hypermap.search.scaled_sampler import ScaledSampler, nearest
from hypermap.search.scales import mapping

LOG = mapping("log", 1e-5, 1e-1)
POW2 = mapping("pow2", 16, 512)
MIXED = {
    "lr": FloatDistribution(1e-5, 1e-1),
    "batch": IntDistribution(16, 512),
    "momentum": FloatDistribution(0.9, 0.999),
    "act": CategoricalDistribution(["relu", "gelu"]),
    "layers": IntDistribution(1, 6),
    "plain": FloatDistribution(0, 1, step=0.25),
}
MAPPINGS = {
    "lr": LOG,
    "batch": POW2,
    "momentum": mapping("one_minus_log", 0.9, 0.999),
    "layers": mapping("sqrt", 1, 6),
    "plain": mapping("symlog", 0, 1),
}
NAMES = list(MIXED)
VALUES = {"lr": [1e-4, 1e-2], "batch": [32, 48], "momentum": [0.9], "act": ["gelu"], "layers": [1, 3], "plain": [0.25]}
SINGLE = {
    "tpe": partial(samplers.TPESampler, n_startup_trials=5),
    "univariate": partial(samplers.TPESampler, n_startup_trials=5, multivariate=False),
    "group": partial(samplers.TPESampler, n_startup_trials=5, group=True),
    "gp": partial(samplers.GPSampler, n_startup_trials=8, deterministic_objective=True),
    "cmaes": samplers.CmaEsSampler,
    "nsgaii": partial(samplers.NSGAIISampler, population_size=5),
    "nsgaiii": partial(samplers.NSGAIIISampler, population_size=5),
    "random": samplers.RandomSampler,
    "qmc": samplers.QMCSampler,
    "spsa": lambda seed: Gradient(NAMES, seed),
    "quasirandom": lambda seed: QuasiRandom(NAMES, seed),
    "numbered": Random,
}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "``multivariate`` defaults to False")
        yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def bowl(params):
    return sum((np.log10(params[name]) + 3) ** 2 for name in ("a", "b"))


def search(sampler: BaseSampler, distributions, objective, trials: int, n_objectives: int = 1) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * n_objectives)
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, objective(trial.params))
    return study


def cost(params):
    return (
        abs(np.log10(params["lr"]) + 3) + abs(params["batch"] - 64) / 64 + (params["act"] == "relu") + params["plain"]
    )


@pytest.mark.parametrize("name", ["tpe", "univariate", "group", "gp", "cmaes", "nsgaii", "random", "qmc"])
def test_log_as_a_mapping_equals_the_samplers_own_log(name):
    mapped = ScaledSampler(SINGLE[name](seed=3), {"a": LOG, "b": LOG})
    trials = 12 if name == "gp" else 30  # a trial of the Gaussian process takes 0.3 s
    natural = search(mapped, dict.fromkeys("ab", FloatDistribution(1e-5, 1e-1)), bowl, trials)
    own = search(SINGLE[name](seed=3), dict.fromkeys("ab", FloatDistribution(1e-5, 1e-1, log=True)), bowl, trials)
    for mine, theirs in zip(natural.trials, own.trials, strict=True):
        assert mine.params == pytest.approx(theirs.params, rel=1e-9)


@pytest.mark.parametrize("name", SINGLE)
def test_any_sampler_finds_natural_values_within_the_natural_distributions(name):
    study = search(ScaledSampler(SINGLE[name](seed=1), MAPPINGS), MIXED, cost, 14)
    for trial in study.trials:
        assert trial.distributions == MIXED
        for key, distribution in MIXED.items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[key]))
        assert trial.params["batch"] in (16, 32, 64, 128, 256, 512)
        assert isinstance(trial.params["layers"], int)
    assert len({trial.params["lr"] for trial in study.trials}) >= 8  # crossover repeats its parents' values


@pytest.mark.parametrize("name", ["tpe", "group", "gp", "nsgaii", "nsgaiii"])
def test_several_objectives(name):
    study = search(ScaledSampler(SINGLE[name](seed=1), MAPPINGS), MIXED, lambda p: (cost(p), p["momentum"]), 10, 2)
    assert all(trial.distributions == MIXED for trial in study.trials)


@pytest.mark.parametrize("sampler", [Grid(VALUES), RandomGrid(VALUES, 3)])
def test_a_grid_proposes_its_values_as_they_stand(sampler):
    study = search(ScaledSampler(sampler, MAPPINGS), MIXED, cost, 8)
    seen = {(t.params["lr"], t.params["batch"], t.params["layers"]) for t in study.trials}
    assert seen == {(lr, batch, layers) for lr in (1e-4, 1e-2) for batch in (32, 48) for layers in (1, 3)}


def test_the_search_goes_on_with_a_new_object_for_each_trial():
    study = optuna.create_study()
    for number in range(20):
        study.sampler = ScaledSampler(samplers.TPESampler(seed=number, n_startup_trials=5), MAPPINGS)
        trial = study.ask(MIXED)
        study.tell(trial, cost(trial.params))
    assert all(trial.distributions == MIXED for trial in study.trials)
    assert cost(study.best_params) < 2


def test_hyperband_and_running_and_enqueued_trials_are_seen_by_their_images():
    study = optuna.create_study(
        sampler=ScaledSampler(samplers.TPESampler(seed=0, n_startup_trials=2), MAPPINGS),
        pruner=optuna.pruners.HyperbandPruner(max_resource=9),
    )
    study.enqueue_trial({"lr": 1e-3, "batch": 48})  # no power of two, but a person's own choice
    for _ in range(12):
        trial, _running = study.ask(MIXED), study.ask(MIXED)
        trial.report(1.0, 1)
        trial.should_prune()
        study.tell(trial, cost(trial.params))
    assert study.trials[0].params["batch"] == 48
    assert all(trial.distributions == MIXED for trial in study.trials)


class Witness(samplers.RandomSampler):
    """Notes what it is shown."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        self.seen = [*study.trials, study.best_trial, *study.best_trials] if len(study.trials) > 1 else []
        self.distribution, self.trial, self.best = param_distribution, trial, study.best_params if self.seen else None
        return super().sample_independent(study, trial, param_name, param_distribution)


def test_the_inner_sampler_sees_images_alone():
    witness = Witness(seed=0)
    study = search(ScaledSampler(witness, {"a": LOG}), {"a": FloatDistribution(1e-5, 1e-1)}, lambda p: p["a"], 5)
    low, high = np.log(1e-5), np.log(1e-1)
    assert witness.distribution == FloatDistribution(low, high)
    finished = [trial for trial in witness.seen if trial.params]
    assert len(finished) == 6
    assert all(trial.distributions == {"a": FloatDistribution(low, high)} for trial in finished)
    assert [t.params["a"] for t in finished[:4]] == pytest.approx([np.log(t.params["a"]) for t in study.trials[:4]])
    assert witness.best["a"] == min(t.params["a"] for t in finished)
    assert study.trials[0].distributions == {"a": FloatDistribution(1e-5, 1e-1)}


def test_every_whole_number_is_found_about_as_often_in_a_narrow_interval():
    sampler = ScaledSampler(Random(1), {"n": mapping("identity", 1, 4), "m": mapping("sqrt", 100, 103)})
    space = {"n": IntDistribution(1, 4), "m": IntDistribution(100, 103)}
    study = search(sampler, space, lambda p: 0.0, 600)
    for name, low in (("n", 1), ("m", 100)):
        counts = np.bincount([trial.params[name] - low for trial in study.trials], minlength=4)
        assert abs(counts / 600 - 1 / 4).max() < 0.06  # more than three standard deviations


def test_a_distribution_with_one_image_needs_no_draw():
    study = search(ScaledSampler(samplers.RandomSampler(seed=0), {"n": POW2}), {"n": IntDistribution(20, 40)}, len, 3)
    assert [trial.params["n"] for trial in study.trials] == [32, 32, 32]


@pytest.mark.parametrize(
    ("distribution", "told"),
    [(IntDistribution(33, 63), "no power of two from 33 to 63"), (IntDistribution(16, 64, step=8), "step of 8")],
)
def test_powers_of_two_that_there_are_not_are_told(distribution, told):
    study = optuna.create_study(sampler=ScaledSampler(samplers.RandomSampler(), {"n": POW2}))
    with pytest.raises(UserError, match=told):
        study.ask({"n": distribution})


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (FloatDistribution(0, 1), 0.3, 0.3),
        (FloatDistribution(0, 1), 1.2, 1.0),
        (FloatDistribution(0, 1, step=0.1), 0.32, 0.3),
        (IntDistribution(1, 9, step=4), 6.9, 5),
        (IntDistribution(1, 1000, log=True), 12.6, 13),
    ],
)
def test_the_nearest_member(distribution, value, expected):
    assert nearest(distribution, value) == expected


def test_what_has_ended_is_mapped_once():
    sampler = ScaledSampler(Random(0), MAPPINGS)
    view = sampler._view(search(sampler, MIXED, cost, 10))
    first, again = (view._get_trials(deepcopy=False, use_cache=True) for _ in range(2))
    assert len(first) == 10
    assert all(one is other for one, other in zip(first, again, strict=True))
