import itertools
import math
import subprocess
import sys

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats
from scipy.stats import qmc

from hypermap.core.errors import UserError
from hypermap.core.paths import SOURCES
from hypermap.search.counter_samplers import (
    Grid,
    QuasiRandom,
    Random,
    RandomGrid,
    cells,
    count,
    from_unit,
    member,
    permuted,
    sobol,
    to_unit,
)

SPACE = {"act": ["relu", "gelu"], "lr": [0.1, 0.01, 0.001], "layers": [1, 2]}
DISTRIBUTIONS = {
    "act": CategoricalDistribution(["relu", "gelu"]),
    "lr": CategoricalDistribution([0.1, 0.01, 0.001]),
    "layers": IntDistribution(1, 2),
}
NUMBERS = [
    FloatDistribution(-1, 3),
    FloatDistribution(1e-5, 1e-1, log=True),
    FloatDistribution(0.1, 0.7, step=0.1),
    IntDistribution(3, 17),
    IntDistribution(0, 20, step=5),
    IntDistribution(1, 512, log=True),
]


def searched(sampler, distributions, trials):
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        study.tell(study.ask(distributions), 0.0)
    return [tuple(trial.params[name] for name in distributions) for trial in study.trials]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_a_grid_is_visited_in_the_order_of_the_product():
    assert searched(Grid(SPACE), DISTRIBUTIONS, 12) == list(itertools.product(*SPACE.values()))


def test_a_grid_needs_no_memory_of_other_trials():
    grid = Grid(SPACE)
    assert (grid.propose(7, "act", DISTRIBUTIONS["act"]), grid.propose(7, "lr", DISTRIBUTIONS["lr"])) == ("gelu", 0.1)


def test_a_random_grid_visits_each_cell_once_in_an_order_of_its_seed():
    visits = searched(RandomGrid(SPACE, seed=1), DISTRIBUTIONS, 12)
    assert sorted(visits) == sorted(itertools.product(*SPACE.values()))
    assert visits == searched(RandomGrid(SPACE, seed=1), DISTRIBUTIONS, 12)
    assert visits != searched(RandomGrid(SPACE, seed=2), DISTRIBUTIONS, 12)
    assert visits != searched(Grid(SPACE), DISTRIBUTIONS, 12)


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_permuted_is_a_permutation(size, seed):
    assert sorted(permuted(number, size, seed) for number in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [3, 5, 12, 100])
def test_each_cell_is_as_likely_in_each_place(size):
    for place in (0, 1, 2):
        seen = np.bincount([permuted(place, size, seed) for seed in range(2000)], minlength=size)
        assert stats.chisquare(seen).pvalue > 1e-4


def test_a_grid_of_any_size_is_visited_without_being_written_down():
    space = {f"p{k}": range(1000) for k in range(6)}  # 10^18 cells
    grid = RandomGrid(space, seed=0)
    visits = {
        tuple(grid.propose(number, name, IntDistribution(0, 999)) for name in space) for number in [*range(300), 10**17]
    }
    assert len(visits) == 301
    assert abs(np.mean(list(visits)) / 499.5 - 1) < 0.05


@pytest.mark.parametrize("sampler", [Grid(SPACE), RandomGrid(SPACE, 0)])
def test_beyond_the_grid_is_told(sampler):
    with pytest.raises(UserError, match="trial 12 is beyond the grid, which has 12 cells"):
        sampler.propose(12, "lr", DISTRIBUTIONS["lr"])
    with pytest.raises(UserError, match=r"no values for layer \(did you mean 'layers'"):
        sampler.propose(0, "layer", DISTRIBUTIONS["layers"])


def test_an_empty_list_of_values_is_told():
    with pytest.raises(UserError, match="lr: a grid needs at least one value"):
        Grid({"lr": []})


def test_cells_are_choices_and_members():
    found = cells(
        {
            "a": CategoricalDistribution(["x", None]),
            "b": IntDistribution(1, 10, step=3),
            "c": FloatDistribution(0.1, 0.5, step=0.1),
            "d": FloatDistribution(2.0, 2.0),
            "e": IntDistribution(0, 10**9),
        }
    )
    assert {name: list(found[name]) for name in "abcd"} == {
        "a": ["x", None],
        "b": [1, 4, 7, 10],
        "c": [0.1, 0.2, 0.3, 0.4, 0.5],
        "d": [2.0],
    }
    assert len(found["e"]) == 10**9 + 1


def test_an_interval_has_no_cells():
    with pytest.raises(UserError) as told:
        cells({"optimizer.lr": FloatDistribution(0.01, 0.1), "model.dropout": FloatDistribution(0.0, 0.5)})
    assert "optimizer.lr: a grid needs values, not an interval: write optimizer.lr=0.01,0.1 or" in str(told.value)
    assert "model.dropout=range(0,0.5,STEP)" in str(told.value)


@pytest.mark.parametrize("distribution", [*NUMBERS, CategoricalDistribution(["a", "b", "c"])])
@settings(deadline=None)
@given(u=st.floats(0, 1))
def test_a_coordinate_gives_a_member_of_the_distribution(distribution, u):
    value = from_unit(distribution, u)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert isinstance(value, int) == isinstance(distribution, IntDistribution)


@pytest.mark.parametrize("distribution", NUMBERS)
@settings(deadline=None)
@given(u=st.floats(0, 1))
def test_the_coordinate_of_a_value_gives_it_back(distribution, u):
    value = from_unit(distribution, u)
    assert 0 <= to_unit(distribution, value) <= 1
    assert from_unit(distribution, to_unit(distribution, value)) == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_coordinates_are_uniform_where_the_distribution_is():
    u = np.linspace(0, 1, 1001).tolist()
    logs = [math.log10(from_unit(FloatDistribution(1e-5, 1e-1, log=True), x)) for x in u]
    assert logs == pytest.approx(np.linspace(-5, -1, 1001).tolist())
    shares = np.bincount([from_unit(IntDistribution(0, 3), x) for x in u])
    assert shares.tolist() == pytest.approx([250] * 4, abs=1)


@pytest.mark.parametrize("distribution", [FloatDistribution(2, 2), IntDistribution(2, 2)])
def test_a_single_value(distribution):
    assert from_unit(distribution, 0.9) == 2
    assert to_unit(distribution, 2) == 0.5


def test_members_of_a_step_are_written_as_a_person_would():
    tenths = FloatDistribution(0, 1, step=0.1)
    assert [member(tenths, index) for index in range(count(tenths))] == [k / 10 for k in range(11)]


def test_quasi_random_points_are_scipys_sobol_points():
    expected = qmc.Sobol(5, scramble=True, rng=7).random(64)
    assert np.array([sobol(5, 7, number) for number in range(64)]) == pytest.approx(expected)
    sampler, unit = QuasiRandom(list("abcde"), 7), FloatDistribution(0, 1)
    assert [sampler.propose(40, name, unit) for name in "abcde"] == pytest.approx(expected[40].tolist())


def test_a_conditional_parameter_keeps_its_dimension():
    sampler, unit = QuasiRandom(["a", "b", "c"], 0), FloatDistribution(0, 1)
    visits = searched(sampler, {"c": unit}, 3)
    assert visits == [(sobol(3, 0, number)[2],) for number in range(3)]


def test_quasi_random_points_fill_the_cube_more_evenly_than_random_ones():
    names, unit = ["a", "b", "c"], FloatDistribution(0, 1)
    quasi, random = (
        np.array([[sampler.propose(n, name, unit) for name in names] for n in range(64)])
        for sampler in (QuasiRandom(names, 0), Random(0))
    )
    assert qmc.discrepancy(quasi) < qmc.discrepancy(random) / 3


def test_an_unknown_name_has_no_dimension():
    with pytest.raises(UserError, match=r"optimizer.ls has no dimension.*did you mean 'optimizer.lr'"):
        QuasiRandom(["optimizer.lr"], 0).propose(0, "optimizer.ls", FloatDistribution(0, 1))


def test_random_draws_are_uniform_and_independent():
    unit = FloatDistribution(0, 1)
    draws = np.array([[Random(5).propose(n, name, unit) for name in ("a", "b")] for n in range(500)])
    assert min(stats.kstest(draws[:, k], "uniform").pvalue for k in (0, 1)) > 1e-3
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.12
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.12


def test_a_draw_depends_on_seed_number_and_name():
    unit = FloatDistribution(0, 1)
    draws = [Random(s).propose(n, name, unit) for s, n, name in itertools.product((0, 1), (0, 1), ("a", "b"))]
    assert len(set(draws)) == 8


@pytest.mark.parametrize("make", ["Random(3)", "QuasiRandom(['a', 'b'], 3)", "RandomGrid({'a': range(50)}, 3)"])
def test_another_process_proposes_the_same(make):
    code = (
        "from hypermap.search.counter_samplers import *; from optuna.distributions import IntDistribution as I; "
        f"print([{make}.propose(n, 'a', I(0, 49)) for n in range(20)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCES), "PYTHONHASHSEED": "99"},
        stdout=subprocess.PIPE,
        text=True,
    )
    here = {"Random": Random, "QuasiRandom": QuasiRandom, "RandomGrid": RandomGrid}
    sampler = eval(make, here)
    assert done.stdout.strip() == str([sampler.propose(n, "a", IntDistribution(0, 49)) for n in range(20)])


@pytest.mark.parametrize("sampler", [Random(3), QuasiRandom(["a", "b"], 3)])
def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been(sampler):
    space = {"a": FloatDistribution(0, 1), "b": CategoricalDistribution("xyz")}
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage, sampler=sampler).ask(space)
    for _ in range(5):
        study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
        study.tell(study.ask(space), 1.0)
    assert [(t.params["a"], t.params["b"]) for t in study.trials] == searched(sampler, space, 6)
