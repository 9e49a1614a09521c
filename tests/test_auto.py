import math
import time

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.search.auto import Auto
from hypermap.search.auto_pruner import STARTUP, AutoPruner

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


def study_of(pruner: optuna.pruners.BasePruner | None = None, direction: str = "minimize") -> optuna.Study:
    return optuna.create_study(direction=direction, sampler=Auto(seed=0), pruner=pruner or AutoPruner())


def ask(study: optuna.Study, space: dict[str, BaseDistribution], seed: int = 0) -> optuna.Trial:
    study.sampler = Auto(seed=1000 * seed + len(study.get_trials(deepcopy=False)), study_seed=seed)
    return study.ask(space)


def train(study: optuna.Study, trial: optuna.Trial, curve: list[float]) -> int:
    """The epochs that the trial was given."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    for epoch, value in enumerate(curve, 1):
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, sign * max((sign * v for v in curve if math.isfinite(v)), default=-math.inf))
    return len(curve)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_kind_of_parameter(space: dict[str, BaseDistribution]) -> None:
    study = study_of()
    for number in range(STARTUP + 6):
        trial = ask(study, space)
        for name, distribution in space.items():
            assert distribution._contains(distribution.to_internal_repr(trial.params[name]))
            if isinstance(distribution, FloatDistribution | IntDistribution):
                assert type(trial.params[name]) is (int if isinstance(distribution, IntDistribution) else float)
        train(study, trial, [1 / (number + 1) / epoch for epoch in (1, 2, 3)])


def test_the_first_trial_is_the_middle_and_the_next_are_one_sequence() -> None:
    study = study_of()
    points = []
    for number in range(STARTUP):
        trial = ask(study, PLANE)
        points.append((trial.params["x"], trial.params["y"]))
        study.tell(trial, float(number))
    assert points[0] == (0.5, 0.5)
    expected = optuna.create_study()  # the points do not depend on values, directions or the objects' own seeds
    for number in range(STARTUP):
        expected.sampler = Auto(seed=77 + number, study_seed=0)
        trial = expected.ask(PLANE)
        assert (trial.params["x"], trial.params["y"]) == points[number]
        expected.tell(trial, 0.0)


def test_equal_studies_and_seeds_propose_equally() -> None:
    def run() -> list[dict[str, float]]:
        study = study_of()
        for _ in range(STARTUP + 12):
            trial = ask(study, PLANE, seed=3)
            train(study, trial, [(trial.params["x"] - 0.3) ** 2 + trial.params["y"] / e for e in range(1, 9)])
        return [trial.params for trial in study.trials]

    assert run() == run()


def test_parameters_that_some_trials_lack() -> None:
    study = study_of()
    for _ in range(STARTUP + 10):
        trial = ask(study, {"kind": CategoricalDistribution(["a", "b"])})
        if trial.params["kind"] == "a":
            value = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        else:
            value = float(trial.suggest_int("depth", 1, 5))
        study.tell(trial, value)
    disjoint = study_of()
    for number in range(STARTUP + 10):
        trial = ask(disjoint, {})
        disjoint.tell(trial, trial.suggest_float(f"x{number % 2}", 0.0, 1.0))
    assert {trial.state for trial in study.trials + disjoint.trials} == {TrialState.COMPLETE}


def test_several_objectives() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Auto(seed=0))
    for _ in range(STARTUP + 10):
        trial = study.ask(PLANE)
        study.tell(trial, [trial.params["x"], trial.params["y"]])
    assert study.best_trials


def test_running_trials_are_not_proposed_again() -> None:
    study = study_of()
    for _ in range(STARTUP + 8):
        trial = ask(study, PLANE)
        study.tell(trial, (trial.params["x"] - 0.6) ** 2 + (trial.params["y"] - 0.4) ** 2)
    running = [ask(study, PLANE) for _ in range(8)]
    points = np.array([[trial.params["x"], trial.params["y"]] for trial in running])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(8)
    assert apart.min() > 1e-3
    assert len(np.unique(points.round(2), axis=0)) > 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_divergence_is_worse_than_anything(bad: float, direction: str) -> None:
    study = study_of(direction=direction)
    sign = 1 if direction == "maximize" else -1
    right = []
    for number in range(40):
        trial = ask(study, PLANE)
        right.append(trial.params["x"] > 0.5)
        if trial.params["x"] > 0.5:
            trial.report(bad, 1)
            study.tell(trial, -sign * math.inf)
        else:
            train(study, trial, [sign * (trial.params["y"] + 0.01 * number)] * 2)
    assert sum(right[STARTUP:]) < 0.4 * len(right[STARTUP:])


def test_all_trials_diverged() -> None:
    study = study_of()
    for _ in range(STARTUP + 4):
        study.tell(ask(study, PLANE), math.inf)
    assert len(study.trials) == STARTUP + 4


def test_trials_that_cannot_be_used_are_passed_over() -> None:
    study = study_of()
    for _ in range(STARTUP + 2):
        study.tell(ask(study, PLANE), 0.0)
    study.add_trial(create_trial(state=TrialState.FAIL, params={"x": 0.5, "y": 0.5}, distributions=PLANE))
    study.enqueue_trial({"x": 0.25, "y": 0.5})
    assert ask(study, PLANE).params["x"] == 0.25
    assert set(ask(study, PLANE).params) == {"x", "y"}


def test_the_first_trial_completes() -> None:
    study = study_of()
    assert train(study, ask(study, PLANE), [1.0] * 20) == 20


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_worse_are_stopped_and_the_best_is_not(direction: str) -> None:
    study = study_of(AutoPruner(max_resource=32), direction)
    sign = 1 if direction == "maximize" else -1
    lengths = [train(study, ask(study, PLANE), [sign * (e - 10.0 * (n > 0)) for e in range(32)]) for n in range(30)]
    assert lengths[0] == 32
    assert max(lengths[1:]) <= 8
    assert sum(lengths[1:]) < 2 * 29
    assert train(study, ask(study, PLANE), [sign * (e + 5.0) for e in range(32)]) == 32


def test_few_of_the_first_trials_are_complete_however_they_improve() -> None:
    study = study_of(AutoPruner(max_resource=32))
    lengths = [train(study, ask(study, PLANE), [100.0 - 10 * n - e / 9 for e in range(32)]) for n in range(12)]
    assert 2 <= lengths[:STARTUP].count(32) <= 3
    assert lengths[STARTUP:] == [32] * 4


def test_a_trial_that_no_longer_improves_is_stopped_unless_it_leads() -> None:
    study = study_of(AutoPruner(max_resource=32))
    for number in range(STARTUP):
        train(study, ask(study, PLANE), [1.0 / e + number for e in range(1, 33)])
    assert train(study, ask(study, PLANE), [0.2] * 32) == 4
    assert train(study, ask(study, PLANE), [0.01] * 32) == 32


def test_trials_that_begin_together_do_not_stop_each_other_all() -> None:
    study = study_of(AutoPruner(max_resource=16))
    running = dict(enumerate(study.ask(PLANE) for _ in range(4)))
    for epoch in range(1, 17):
        for number, trial in list(running.items()):
            trial.report(1 / epoch + (epoch - number) ** 2, epoch)
            if trial.should_prune():
                study.tell(running.pop(number), state=TrialState.PRUNED)
    assert running


def test_the_last_step_is_not_compared() -> None:
    study = study_of(AutoPruner(max_resource=2))
    train(study, ask(study, PLANE), [1.0, 0.1])
    assert train(study, ask(study, PLANE), [0.5, 0.4]) == 2
    assert study.trials[-1].state == TrialState.COMPLETE


def test_values_that_are_not_numbers_lose() -> None:
    study = study_of()
    train(study, ask(study, PLANE), [1.0, 0.9, 0.8])
    assert train(study, ask(study, PLANE), [math.nan] * 3) == 1
    assert not AutoPruner().prune(study, study.ask(PLANE)._cached_frozen_trial)


def test_equal_curves_before_learning_sets_in_are_not_stopped_for_being_equal() -> None:
    study = study_of()
    lengths = [train(study, ask(study, PLANE), [0.5, 0.5, 0.5, 0.5]) for _ in range(3)]
    assert lengths[0] == 4
    assert all(length > 1 for length in lengths[:2])


def test_the_same_curve_again_is_stopped() -> None:
    study = study_of()
    curve = [1 / e for e in range(1, 20)]
    train(study, ask(study, PLANE), curve)
    assert train(study, ask(study, PLANE), curve) <= 3


def test_of_two_equal_curves_side_by_side_one_goes_on() -> None:
    study = study_of()
    for _ in range(8):
        train(study, ask(study, PLANE), [5.0, 4.0, 3.0, 2.0])
    twins = [study.ask(PLANE) for _ in range(2)]
    for epoch in (1, 2, 3):
        for trial in twins:
            trial.report(1 / epoch, epoch)
        pruned = [trial.should_prune() for trial in twins]
    assert pruned == [False, True]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_trials", [10, 20])
def test_a_small_sweep_has_complete_trials(seed: int, n_trials: int) -> None:
    study = study_of(AutoPruner(max_resource=30))
    for _ in range(n_trials):
        trial = ask(study, PLANE, seed)
        train(study, trial, curve_of(trial, np.random.default_rng([seed, trial.number])))
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(complete) >= n_trials // 10
    assert len(complete) < n_trials / 2


def curve_of(trial: optuna.Trial, rng: np.random.Generator) -> list[float]:
    """A noisy loss with a best learning rate, as a function of epochs."""
    floor = sum(
        (trial.params[name] - best) ** 2 for name, best in zip(trial.params, (0.8, 0.3, 0.6, 0.5), strict=False)
    )
    rate = 0.2 + trial.params["x"]
    return [floor + math.exp(-rate * e / 3) + 0.005 * rng.standard_normal() for e in range(1, 31)]


def epochs_until(goal: float, seed: int, sampler: bool) -> int:
    space = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y", "z", "w")}
    study = study_of(AutoPruner(max_resource=30) if sampler else optuna.pruners.NopPruner())
    epochs = 0
    while epochs < 3000:
        if sampler:
            trial = ask(study, space, seed)
        else:
            study.sampler = optuna.samplers.RandomSampler(seed=1000 * seed + len(study.trials))
            trial = study.ask(space)
        epochs += train(study, trial, curve_of(trial, np.random.default_rng([seed, trial.number])))
        best = min(min(t.intermediate_values.values()) for t in study.get_trials(deepcopy=False))
        if best <= goal:
            break
    return epochs


def test_faster_than_random_search() -> None:
    ours = [epochs_until(0.05, seed, sampler=True) for seed in range(5)]
    theirs = [epochs_until(0.05, seed, sampler=False) for seed in range(5)]
    assert np.median(theirs) > 3 * np.median(ours)


def test_without_reports_it_is_a_good_sampler() -> None:
    def best(seed: int) -> float:
        study = study_of()
        for _ in range(40):
            trial = ask(study, PLANE, seed)
            study.tell(trial, (trial.params["x"] - 0.7) ** 2 + (trial.params["y"] - 0.2) ** 2)
        return float(study.best_value)

    assert np.median([best(seed) for seed in range(5)]) < 0.001  # random search: 0.008 = 1 / (40 pi)


def test_an_ask_is_quick() -> None:
    study = study_of()
    rng = np.random.default_rng(0)
    space = {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(8)}
    for _ in range(300):
        curve = np.minimum.accumulate(rng.random(50))[: rng.choice([1, 2, 4, 50])]
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={name: rng.random() for name in space},
                distributions=space,
                intermediate_values={step: float(v) for step, v in enumerate(curve, 1)},
            )
        )
    begun = time.process_time()
    for _ in range(10):
        study.tell(ask(study, space), state=TrialState.PRUNED)
    assert (time.process_time() - begun) / 10 < 0.2


@pytest.mark.parametrize("eta", [0.0, 0.9])
def test_eta_is_checked(eta: float) -> None:
    with pytest.raises(ValueError, match="eta"):
        AutoPruner(eta=eta)
