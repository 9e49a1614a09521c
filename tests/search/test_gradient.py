import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hypermap.core.errors import UserError
from hypermap.search.counter_samplers import Random
from hypermap.search.gradient import Gradient
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.scales import mapping

UNIT = FloatDistribution(0, 1)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


class Bowl:
    """A noisy quadratic in the unit cube, with curvatures from 1 to 5."""

    def __init__(self, seed, dimensions, noise=0.05):
        self.random = np.random.default_rng(seed)
        self.optimum = self.random.uniform(0.15, 0.85, dimensions)
        self.curvature = 5 ** self.random.uniform(0, 1, dimensions)
        self.noise = noise
        self.space = {f"x{k}": UNIT for k in range(dimensions)}

    def exact(self, params):
        x = np.array([params[name] for name in self.space])
        return float((self.curvature * (x - self.optimum) ** 2).sum())

    def __call__(self, params):
        return self.exact(params) + self.noise * self.random.normal()


def search(make, space, objective, trials, workers=1, direction="minimize"):
    """Ask `workers` trials at a time, each of a sampler of its own, and tell them in turn."""
    study = optuna.create_study(direction=direction)
    running = []
    for _ in range(trials):
        study.sampler = make()
        running.append(study.ask(space))
        if len(running) == workers:
            trial = running.pop(0)
            study.tell(trial, objective(trial.params))
    for trial in running:
        study.tell(trial, objective(trial.params))
    return study


def found(make, bowl, trials, **options):
    """The true value of what was observed to be best."""
    return bowl.exact(search(make, bowl.space, bowl, trials, **options).best_params)


@pytest.mark.parametrize(("dimensions", "trials"), [(4, 60), (6, 100)])
def test_it_beats_random_search_on_a_noisy_bowl(dimensions, trials):
    spsa, random = [], []
    for seed in range(12):
        bowl = Bowl(seed, dimensions)
        spsa.append(found(lambda s=seed, names=list(bowl.space): Gradient(names, s), bowl, trials))
        random.append(found(lambda s=seed: Random(s), Bowl(seed, dimensions), trials))
    assert np.median(spsa) < np.median(random) / 3
    assert np.mean(np.array(spsa) < np.array(random)) > 0.8


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_descend_together(workers):
    spsa, random = [], []
    for seed in range(8):
        bowl = Bowl(seed, 5)
        spsa.append(found(lambda s=seed, names=list(bowl.space): Gradient(names, s), bowl, 100, workers=workers))
        random.append(found(lambda s=seed: Random(s), Bowl(seed, 5), 100))
    assert np.median(spsa) < np.median(random) / 3


def test_x_comes_near_the_optimum():
    distances = []
    for seed in range(8):
        bowl = Bowl(seed, 4, noise=0.01)
        study = search(lambda s=seed: Gradient(list(Bowl(0, 4).space), s), bowl.space, bowl, 120)
        x = Gradient(list(bowl.space), seed).descend(study)
        distances.append(max(abs(x[f"x{k}"] - bowl.optimum[k]) for k in range(4)))
    assert np.median(distances) < 0.1


def values(study):
    return [trial.params for trial in study.trials]


def test_ranks_make_it_blind_to_the_scale_of_the_objective():
    bowl = Bowl(3, 4, noise=0.0)
    plain = search(lambda: Gradient(list(bowl.space), 0), bowl.space, bowl.exact, 40)
    steep = search(lambda: Gradient(list(bowl.space), 0), bowl.space, lambda p: math.exp(9 * bowl.exact(p)), 40)
    upside = search(
        lambda: Gradient(list(bowl.space), 0), bowl.space, lambda p: -bowl.exact(p), 40, direction="maximize"
    )
    assert values(plain) == values(steep) == values(upside)


def test_it_goes_on_from_the_study_alone():
    bowl = Bowl(1, 4, noise=0.0)
    one = Gradient(list(bowl.space), 0)
    assert values(search(lambda: one, bowl.space, bowl.exact, 40)) == values(
        search(lambda: Gradient(list(bowl.space), 0), bowl.space, bowl.exact, 40)
    )


def test_a_pair_is_x_plus_and_minus_the_perturbation():
    names = ["a", "b", "c"]
    study = search(lambda: Gradient(names, 2, start_trials=4), dict.fromkeys(names, UNIT), lambda p: p["a"], 6)
    best = min(study.trials[:4], key=lambda trial: trial.value)
    plus, minus = study.trials[4], study.trials[5]
    for name in names:
        u = best.params[name]
        assert sorted([plus.params[name], minus.params[name]]) == pytest.approx([max(u - 0.1, 0), min(u + 0.1, 1)])


def test_the_step_goes_from_the_worse_to_the_better_of_a_pair():
    space = {"a": UNIT}
    study = search(lambda: Gradient(["a"], 2, start_trials=4, step=0.05), space, lambda p: p["a"], 6)
    best = min(trial.params["a"] for trial in study.trials[:4])
    assert Gradient(["a"], 2, start_trials=4, step=0.05).descend(study)["a"] == pytest.approx(max(best - 0.05, 0))


def test_trials_that_came_to_nothing_are_bad():
    space = {"a": UNIT, "b": UNIT}
    study = optuna.create_study()
    states = [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED, None, None]
    for number in range(60):
        study.sampler = Gradient(["a", "b"], 0)
        trial = study.ask(space)
        if trial.params["a"] < 0.5:  # the better half of the bowl cannot be had
            state = states[number % 4]
            study.tell(trial, None if state else (math.inf if number % 2 else -math.inf), state=state)
        else:
            study.tell(trial, (trial.params["a"] - 0.4) ** 2 + (trial.params["b"] - 0.5) ** 2)
    x = Gradient(["a", "b"], 0).descend(study)
    assert 0.45 < x["a"] < 0.75
    assert abs(x["b"] - 0.5) < 0.15


def test_all_failed_is_no_error():
    study = optuna.create_study(sampler=Gradient(["a"], 0))
    for _ in range(20):
        study.tell(study.ask({"a": UNIT}), state=optuna.trial.TrialState.FAIL)
    assert all(0 <= trial.params["a"] <= 1 for trial in study.trials)


def test_trials_that_hang_leave_the_others_alone():
    bowl = Bowl(0, 4)
    study = optuna.create_study()
    for number in range(90):
        study.sampler = Gradient(list(bowl.space), 0)
        trial = study.ask(bowl.space)
        if number % 9:
            study.tell(trial, bowl(trial.params))
    assert bowl.exact(study.best_params) < 0.15


def test_whole_numbers_categories_and_mapped_parameters():
    space = {
        "lr": FloatDistribution(1e-5, 1e-1),
        "layers": IntDistribution(1, 6),
        "batch": IntDistribution(16, 512),
        "act": CategoricalDistribution(["relu", "gelu"]),
    }
    mappings = {"lr": mapping("log", 1e-5, 1e-1), "batch": mapping("pow2", 16, 512)}

    def cost(params):
        rate, batch = math.log10(params["lr"] / 1e-3), math.log2(params["batch"] / 64)
        return rate**2 + (params["layers"] - 3) ** 2 / 4 + batch**2 / 4 + (params["act"] == "relu")

    study = search(lambda: ScaledSampler(Gradient(list(space), 0), mappings), space, cost, 80)
    assert cost(study.best_params) < 0.3
    assert {trial.params["batch"] for trial in study.trials} <= {16, 32, 64, 128, 256, 512}
    pairs = list(zip(study.trials[8::2], study.trials[9::2], strict=True))
    assert all(plus.params["act"] == minus.params["act"] for plus, minus in pairs)
    assert all(plus.params["layers"] != minus.params["layers"] for plus, minus in pairs)


def test_conditional_parameters_move_when_both_of_a_pair_have_them():
    study = optuna.create_study()
    for _ in range(80):
        study.sampler = Gradient(["optimizer", "lr", "momentum"], 0)
        trial = study.ask()
        kind = trial.suggest_categorical("optimizer", ["adam", "sgd"])
        loss = (trial.suggest_float("lr", 0, 1) - 0.3) ** 2
        if kind == "sgd":
            loss += (trial.suggest_float("momentum", 0, 1) - 0.8) ** 2
        study.tell(trial, loss)
    x = Gradient(["optimizer", "lr", "momentum"], 0).descend(study)
    assert abs(x["lr"] - 0.3) < 0.1
    assert abs(x["momentum"] - 0.8) < 0.2


def test_an_enqueued_trial_is_no_harm():
    bowl = Bowl(2, 4, noise=0.0)
    study = optuna.create_study()
    study.enqueue_trial(dict.fromkeys(bowl.space, 0.5))
    for _ in range(60):
        study.sampler = Gradient(list(bowl.space), 0)
        trial = study.ask(bowl.space)
        study.tell(trial, bowl(trial.params))
    assert bowl.exact(study.best_params) < 0.15


def test_several_objectives_are_told():
    study = optuna.create_study(sampler=Gradient(["a"], 0), directions=["minimize", "maximize"])
    with pytest.raises(UserError, match="one objective"):
        study.ask({"a": UNIT})
