"""What users of the official Optuna sweeper know holds here: their commands, in generic Hydra applications.

The behaviours are those of the official plugin's own tests, and where it is quick the official plugin runs beside ours.
"""

import itertools
import logging
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
import optuna
import pytest
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hydra_plugins.hypermap_sweeper.config import HypermapSweeperConf
from hypermap.core.errors import UserError
from hypermap.core.paths import SOURCES
from hypermap.search.storage import open_storage
from hypermap.sweeps import space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPHERE = {"x": 1, "y": 1, "z": 1}
QUIET = ("hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "hydra.sweep.dir=out")
TPE = ("hydra/sweeper/sampler=tpe", "hydra/sweeper/pruner=none")
RANDOM = ("hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none")
GRID = ("hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=none")


def sphere(cfg):
    return cfg.x**2 + cfg.y**2


@dataclass
class Swept:
    """What a sweep left."""

    configs: list  # of each trial, in the order in which they ran
    results: dict

    def values(self, *keys):
        return [tuple(config[key] for key in keys) for config in self.configs]


class App:
    """A Hydra application in a folder of its own, run in this process."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        self.task = sphere
        self.configs = []
        self.write("config", SPHERE)

    def write(self, name, content):
        path = self.folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def sweeper(self, sampler=None, **settings):
        """A sweep in the primary configuration, where the official plugin's examples have theirs."""
        chosen = [{"override hydra/sweeper": "hypermap"}, {"override hydra/sweeper/pruner": "none"}]
        chosen += [{"override hydra/sweeper/sampler": sampler}] if sampler else []
        self.write("config", {"defaults": ["_self_", *chosen], **SPHERE, "hydra": {"sweeper": settings}})

    def __call__(self, *words, sweeper="hypermap", folder="out"):
        self.configs = []

        def task(cfg):
            self.configs.append(cfg)
            return self.task(cfg)

        chosen = () if sweeper is None else (f"hydra/sweeper={sweeper}",)
        self.monkeypatch.chdir(self.folder)
        self.monkeypatch.setattr(sys, "argv", ["app.py", "-m", *chosen, *QUIET, f"hydra.sweep.dir={folder}", *words])
        self.monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        GlobalHydra.instance().clear()
        hydra.main(config_path=str(self.folder / "conf"), config_name="config")(task)()
        results = self.folder / folder / "optimization_results.yaml"
        return Swept(self.configs, yaml.safe_load(results.read_text()))

    def refuses(self, *words, error=UserError, **how):
        """What is told, and that no trial ran."""
        with pytest.raises(error) as raised:
            self(*words, **how)
        assert self.configs == []
        assert not list(self.folder.glob("out/[0-9]*"))
        return str(raised.value)


@pytest.fixture
def app(tmp_path, monkeypatch):
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield App(tmp_path, monkeypatch)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    logging.disable(logging.NOTSET)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


# Settings.


def test_hydra_finds_the_sweeper():
    assert "HypermapSweeper" in [found.__name__ for found in Plugins.instance().discover(Sweeper)]


def test_every_setting_and_sampler_of_the_official_sweeper_is_here(app):
    settings = set(OptunaSweeperConf.__dataclass_fields__)
    assert settings <= set(HypermapSweeperConf.__dataclass_fields__)
    samplers = {name.removesuffix(".yaml") for name in ConfigStore.instance().list("hydra/sweeper/sampler")}
    assert {"tpe", "random", "grid", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc"} <= samplers
    assert {"auto", "random_grid", "quasi_random", "gradient"} <= samplers


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc", "quasi_random", "gradient"]
)
def test_each_sampler_searches(app, sampler):
    swept = app(
        "x=interval(-5,5)", "y=choice(0,1)", f"hydra/sweeper/sampler={sampler}", "hydra/sweeper/pruner=none",
        "hydra.sweeper.n_trials=4",
    )  # fmt: skip
    assert len(swept.configs) == 4
    assert len(set(swept.values("x"))) == 4
    assert all(-5 <= config.x <= 5 and config.y in (0, 1) for config in swept.configs)
    assert swept.results["best_value"] == min(sphere(config) for config in swept.configs)


def test_a_sampler_that_optuna_gave_up_says_so(app):
    told = app.refuses("x=interval(0,1)", "hydra/sweeper/sampler=motpe", "hydra/sweeper/pruner=none")
    assert "Use 'hydra/sweeper/sampler=tpe' instead" in told


# One objective: the official plugin's sphere example, with a grid in its configuration.


@pytest.mark.parametrize("with_command_line", [True, False])
def test_the_sphere_example(app, with_command_line):
    app.sweeper("tpe", n_trials=20, n_jobs=1, direction="minimize", study_name="sphere", params={
        "x": "range(-5.5, 5.5, step=0.5)",
        "y": "choice(-5 ,0 ,5)",
    })  # fmt: skip
    words = ["x=choice(0, 1, 2)", "y=0"] if with_command_line else []
    swept = app("~z", "hydra.sweeper.sampler.seed=123", *words, sweeper=None)
    study = optuna.load_study(storage=open_storage("out/journal.log"), study_name="sphere")
    assert len(swept.configs) == len(study.trials) == 20
    assert all("z" not in config for config in swept.configs)
    assert swept.results == {
        "name": "optuna", "best_params": study.best_trial.params, "best_value": study.best_value,
    }  # fmt: skip
    assert list(swept.results["best_params"]) == (["x"] if with_command_line else ["x", "y"])
    assert swept.results["best_value"] <= 2.27  # of the official plugin's test: TPE's 95th percentile


def test_best_params_are_those_of_the_official_sweeper(app):
    words = ("x=choice(0,1,2)", "y=range(-1,2)", "z=choice('foo',\"bar\")", "hydra/sweeper/sampler=grid")
    ours = app(*words, "hydra/sweeper/pruner=none")
    theirs = app(*words, "hydra.sweeper.n_jobs=1", sweeper="optuna", folder="theirs")
    keys = ("x", "y", "z")
    cells = list(itertools.product([0, 1, 2], [-1, 0, 1], ["foo", "bar"]))
    assert ours.values(*keys) == cells  # in order: the last changes fastest
    assert sorted(theirs.values(*keys)) == sorted(cells)
    for swept in (ours, theirs):
        assert list(swept.results) == ["name", "best_params", "best_value"]
        assert swept.results["best_value"] == 0.0
        assert swept.results["best_params"] | {"z": None} == {"x": 0, "y": 0, "z": None}


@pytest.mark.parametrize("n_trials", [10, 1])
def test_the_grid_example(app, n_trials):
    app.sweeper("grid", direction="minimize", n_trials=n_trials, params={
        "x": "choice(-1, 1)",
        "y": "range(-1.0, 1.0, step=1)",
        "z": 'choice("foo", "bar")',
    })  # fmt: skip
    swept = app(sweeper=None)
    cells = list(itertools.product([-1, 1], [-1.0, 0.0], ["foo", "bar"]))
    assert swept.values("x", "y", "z") == cells[: min(n_trials, 8)]
    best = swept.results["best_params"]
    assert best["x"] in (-1, 1)
    assert best["y"] in (-1, 0)
    assert best["z"] in ("foo", "bar")


def test_a_grid_takes_ranges_of_fractions_and_the_trials_it_has(app):
    swept = app("x=range(0.1,0.5,step=0.1)", "y=5,7", *GRID, "hydra.sweeper.n_trials=100")
    assert swept.values("x", "y") == list(itertools.product([0.1, 0.2, 0.3, 0.4], [5, 7]))


@pytest.mark.parametrize(
    ("expression", "members"),
    [("range(1,4)", {1, 2, 3}), ("range(0,1,0.25)", {0.0, 0.25, 0.5, 0.75}), ("range(1,8,3)", {1, 4, 7})],
)
@pytest.mark.parametrize("sampler", [GRID, TPE, RANDOM])
def test_a_range_leaves_out_its_end_for_every_sampler(app, sampler, expression, members):
    swept = app(f"x={expression}", *sampler, "hydra.sweeper.n_trials=25")
    assert {config.x for config in swept.configs} == members


# Distributions.


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("choice(1,2)", CategoricalDistribution([1, 2])),
        ("1,2", CategoricalDistribution([1, 2])),
        ("choice(true, false)", CategoricalDistribution([True, False])),
        ("choice('hello', 'world')", CategoricalDistribution(["hello", "world"])),
        ("range(1,3)", IntDistribution(1, 2)),
        ("range(10,0,-2)", IntDistribution(2, 10, step=2)),
        ("range(0.5, 5.5, step=1)", FloatDistribution(0.5, 4.5, step=1)),
        ("interval(1, 5)", FloatDistribution(1, 5)),
        ("int(interval(1, 5))", IntDistribution(1, 5)),
        ("tag(log, interval(1, 5))", FloatDistribution(1, 5, log=True)),
        ("tag(log, int(interval(1, 5)))", IntDistribution(1, 5, log=True)),
        ("int(tag(log, interval(1, 5)))", IntDistribution(1, 5, log=True)),
        ("float(interval(1, 5))", FloatDistribution(1, 5)),
    ],
)
def test_distributions(written, expected):
    def parsed():
        return OverridesParser.create().parse_override(f"key={written}")

    assert space._parameter(parsed()).distribution == expected
    if "int(tag" not in written:
        assert create_optuna_distribution_from_override(parsed()) == expected


@pytest.mark.parametrize("written", ["shuffle(range(1,4))", "shuffle(1,2,3)", "shuffle(choice(1,2,3))"])
def test_shuffled_values_are_the_same_values(written):
    parameter = space._parameter(OverridesParser.create().parse_override(f"key={written}"))
    assert set(parameter.distribution.choices) == {1, 2, 3}
    assert parameter.listed


def test_types_arrive_in_the_task_as_they_were_written(app):
    app.task = lambda cfg: 0.0
    app.write("config", {**SPHERE, "flag": True, "word": "a", "items": [1], "none": 1, "deep": {"er": 1}})
    swept = app(
        "flag=true,false", "word=abc,'1'", "items=[1,2],[]", "none=null,3", "deep.er=1e-3,2", *GRID
    )  # fmt: skip
    assert len(swept.configs) == 32
    for key, values in {"flag": [True, False], "word": ["abc", "1"], "items": [[1, 2], []], "none": [None, 3]}.items():
        found = [config[key] for config in swept.configs]
        assert all(value in found for value in values)
        assert all(type(value) is not str or value in ("abc", "1") for value in found)
        assert all(value in values for value in found)
    assert {config.deep.er for config in swept.configs} == {1e-3, 2}
    assert {type(config.deep.er) for config in swept.configs} == {float, int}


# Overrides.


def test_the_command_line_wins_over_params_and_fixed_values_reach_each_trial(app):
    app.sweeper("grid", params={"x": "1,2", "y": 5, "z": "7,8,9"})
    swept = app("z=0", "x=3,4", sweeper=None)
    assert swept.values("x", "y", "z") == [(3, 5, 0), (4, 5, 0)]
    assert list(swept.results["best_params"]) == ["x"]


def test_keys_are_left_out_and_added(app):
    app.task = lambda cfg: cfg.w + cfg.deep.v
    swept = app("~z", "+w=2,1", "+deep.v=3", *GRID)
    assert [(config.w, config.deep.v, "z" in config) for config in swept.configs] == [(2, 3, False), (1, 3, False)]
    assert swept.results["best_value"] == 4.0
    assert "++" not in str(swept.results)


def test_a_key_is_forced(app):
    swept = app("++w=2,1", "++x=5,6", *GRID)
    assert swept.values("w", "x") == [(2, 5), (2, 6), (1, 5), (1, 6)]


def groups(app, defaults=("_self_", {"db": "mysql"})):
    app.write("config", {"defaults": list(defaults), **SPHERE})
    app.write("db/mysql", {"port": 1, "kind": "mysql", "engine": {"pool": 3}})
    app.write("db/postgres", {"port": 2, "kind": "postgres"})
    app.task = lambda cfg: cfg.db.port


def test_a_choice_of_a_group_is_searched(app):
    groups(app)
    swept = app("db=mysql,postgres", "x=1,2", *GRID)
    assert [(config.db.kind, config.db.port, config.x) for config in swept.configs] == [
        ("mysql", 1, 1), ("mysql", 1, 2), ("postgres", 2, 1), ("postgres", 2, 2),
    ]  # fmt: skip
    assert swept.results["best_params"] == {"db": "mysql", "x": 1}


def test_a_choice_of_a_group_is_fixed(app):
    groups(app)
    swept = app("db=postgres", "x=1,2", *GRID)
    assert [(config.db.kind, config.x) for config in swept.configs] == [("postgres", 1), ("postgres", 2)]


def test_a_choice_of_a_group_is_added(app):
    groups(app, ["_self_"])
    swept = app("+db=mysql,postgres", "x=1,2", "db.port=4,5", *GRID)
    assert [config.db.kind for config in swept.configs] == ["mysql"] * 4 + ["postgres"] * 4
    assert swept.values("x") == [(1,), (1,), (2,), (2,)] * 2


def test_a_choice_and_a_value_of_it(app):
    groups(app)
    swept = app("db=mysql,postgres", "db.port=7,8", *GRID)
    assert [(config.db.kind, config.db.port) for config in swept.configs] == [
        ("mysql", 7), ("mysql", 8), ("postgres", 7), ("postgres", 8),
    ]  # fmt: skip


def test_hydra_knows_the_trial(app):
    seen = []

    def task(cfg):
        hydra_config = HydraConfig.get()
        seen.append((hydra_config.job.num, hydra_config.runtime.output_dir, list(hydra_config.overrides.task)))
        (Path(hydra_config.runtime.output_dir) / "mine.txt").write_text(str(cfg.x))
        return cfg.x

    app.task = task
    app("x=3,4", "y=0", *GRID)
    assert [number for number, *_ in seen] == [0, 1]
    for number, folder, overrides in seen:
        assert folder == str(app.folder / "out" / str(number))
        assert f"x={3 + number}" in overrides
        assert yaml.safe_load((app.folder / f"out/{number}/.hydra/config.yaml").read_text())["x"] == 3 + number
        assert {"y=0", f"x={3 + number}"} == set(
            yaml.safe_load((app.folder / f"out/{number}/.hydra/overrides.yaml").read_text())
        )
        assert (app.folder / f"out/{number}/mine.txt").read_text() == str(3 + number)


def test_a_trial_runs_in_its_folder_when_asked_to(app):
    folders = []

    def task(cfg):
        folders.append(Path.cwd())
        return 0.0

    app.task = task
    app("x=3,4", *GRID, "hydra.job.chdir=true")
    assert folders == [app.folder / "out/0", app.folder / "out/1"]
    assert Path.cwd() == app.folder


# Several objectives.


def dominates(a, b):
    better = [x <= y if lower else x >= y for x, y, lower in zip(a, b, (True, False), strict=True)]
    return all(better) and a != b


@pytest.mark.parametrize("words", [(), ("x=range(0,5)", "y=range(0,3)")])
def test_the_example_of_several_objectives(app, words):
    app.task = lambda cfg: (4 * cfg.x**2 + 4 * cfg.y**2, -((cfg.x - 5) ** 2) - (cfg.y - 5) ** 2)
    app.sweeper("random", n_trials=20, direction=["minimize", "maximize"], params={
        "x": "range(0, 5, step=0.5)", "y": "range(0, 3, step=0.5)",
    })  # fmt: skip
    swept = app("hydra.sweeper.sampler.seed=123", *words, sweeper=None)
    assert len(swept.configs) == 20
    assert list(swept.results) == ["name", "solutions"]
    tried = {(config.x, config.y): list(app.task(config)) for config in swept.configs}
    front = {xy: v for xy, v in tried.items() if not any(dominates(other, v) for other in tried.values())}
    assert {(s["params"]["x"], s["params"]["y"]) for s in swept.results["solutions"]} == set(front)
    for solution in swept.results["solutions"]:
        assert solution["values"] == tried[solution["params"]["x"], solution["params"]["y"]]
        assert all(value % (1 if words else 0.5) == 0 for value in solution["params"].values())


@pytest.mark.parametrize(
    ("returned", "direction", "told"),
    [
        ((1.0, 2.0, 3.0), "[minimize,minimize]", "Expect 2, but actually 3"),
        ("high", "minimize", "Return value must be float-castable. Got 'high'"),
        (None, "maximize", "Return value must be float-castable. Got 'None'"),
        (1.0, "[minimize,minimize]", "float-castable"),
    ],
)
def test_what_a_task_may_not_return(app, returned, direction, told):
    app.task = lambda cfg: returned
    with pytest.raises(UserError, match=told):
        app("x=interval(0,1)", *RANDOM, "hydra.sweeper.n_trials=4", f"hydra.sweeper.direction={direction}")
    assert len(app.configs) == 3  # the same error three times, and no fourth


def test_what_a_task_returns_is_made_a_number(app):
    app.task = lambda cfg: str(cfg.x)
    assert app("x=3,2", *GRID).results["best_value"] == 2.0


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 3)])
def test_the_direction(app, direction, best):
    app.task = lambda cfg: cfg.x
    assert app("x=1,3,2", *GRID, f"hydra.sweeper.direction={direction}").results["best_params"] == {"x": best}


# A custom search space.

CUSTOM = """
def configure(cfg, trial):
    x = trial.params["x"]
    trial.suggest_float("z", x - cfg.max_z_difference_from_x, x + cfg.max_z_difference_from_x)
    trial.suggest_float("+w", 0.0, 1.0)

def overlapping(cfg, trial):
    trial.suggest_float("z", 0.0, 1.0)

def conditional(cfg, trial):
    if trial.suggest_categorical("db", ["mysql", "postgres"]) == "mysql":
        trial.suggest_int("db.engine.pool", 10, 20)
"""


def custom(app, function):
    name = f"custom_{app.folder.name.replace('-', '_')}"
    (app.folder / f"{name}.py").write_text(CUSTOM)
    app.monkeypatch.syspath_prepend(app.folder)
    return f"hydra.sweeper.custom_search_space={name}.{function}"


def test_the_example_of_a_custom_search_space(app):
    app.task = lambda cfg: cfg.w**2 + cfg.x**2 + cfg.y**2 + cfg.z**2
    app.write("config", {**SPHERE, "max_z_difference_from_x": 0.5})
    words = ("x=range(-5.5,5.5,0.5)", "y=choice(-5,0,5)", "max_z_difference_from_x=0.3")
    swept = app(*words, custom(app, "configure"), *RANDOM, "hydra.sweeper.n_trials=10")
    assert len(swept.configs) == 10
    assert all(abs(config.x - config.z) <= 0.3 and 0 <= config.w <= 1 for config in swept.configs)
    assert len({config.w for config in swept.configs}) == 10
    best = min(swept.configs, key=app.task)
    assert swept.results["best_params"] == {"x": best.x, "y": best.y, "z": best.z, "+w": best.w}


def test_a_custom_search_space_alone_and_with_a_choice_of_a_group(app):
    groups(app)
    swept = app(custom(app, "conditional"), *RANDOM, "hydra.sweeper.n_trials=12")
    assert {config.db.kind for config in swept.configs} == {"mysql", "postgres"}
    for config in swept.configs:
        assert config.db.port == (1 if config.db.kind == "mysql" else 2)
        assert (10 <= config.db.engine.pool <= 20) if config.db.kind == "mysql" else "engine" not in config.db


def test_a_custom_search_space_that_draws_what_is_fixed(app):
    with pytest.raises(UserError, match=r"Overlapping fixed parameters and search space parameters found!.*'z'"):
        app("x=1,2", "z=3", custom(app, "overlapping"), *RANDOM, "hydra.sweeper.n_trials=2")
    assert app.configs == []


def test_a_custom_search_space_that_is_not_there(app):
    told = app.refuses("x=1,2", "hydra.sweeper.custom_search_space=nosuch.thing", *RANDOM)
    assert "nosuch.thing: no such module" in told


# Failures.


def failing(cfg):
    if cfg.x > 0:
        raise RuntimeError(f"x is above 0 {'a' * cfg.x}")  # no two of the same kind
    return cfg.x


@pytest.mark.parametrize(("rate", "ran"), [(0.0, 2), (0.5, 3), (0.7, 5), (1.0, 5)])
def test_failures_are_borne_up_to_a_rate(app, rate, ran):
    app.task = failing
    words = ("x=-1,1,2,-4,-5", *GRID, f"hydra.sweeper.max_failure_rate={rate}")
    if ran == 5:
        assert app(*words).results["best_params"] == {"x": -5}
    else:
        with pytest.raises(UserError, match=rf"of {ran} trials failed .*max_failure_rate={rate:g}.*x is above 0"):
            app(*words)
    assert len(app.configs) == ran


def test_three_equal_failures_in_a_row_end_a_sweep(app):
    def task(cfg):
        raise RuntimeError(f"no room for {cfg.x}")

    app.task = task
    with pytest.raises(UserError, match="3 trials in a row failed with the same error: RuntimeError: no room for 3"):
        app("x=1,2,3,4,5", *GRID)
    assert len(app.configs) == 3
    assert "no room for 1" in (app.folder / "out/0/error.txt").read_text()


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_is_a_share(app, rate):
    told = app.refuses("x=1,2", *GRID, f"hydra.sweeper.max_failure_rate={rate}")
    assert f"max_failure_rate is {rate}; it must be a number of at least 0 and at most 1" in told


# Budgets, seeds, storage.


def test_twenty_trials_are_usual_and_a_grid_has_its_cells(app):
    assert len(app("x=interval(0,1)", *RANDOM).configs) == 20
    assert app("x=5,3,4", "hydra/sweeper/pruner=none", folder="plain").values("x") == [(5,), (3,), (4,)]


@pytest.mark.parametrize("sampler", [TPE, RANDOM])
def test_a_seed_gives_the_same_trials_again(app, sampler):
    def drawn(seed, folder):
        words = ("x=interval(-5,5)", "y=1,2,3", *sampler, "hydra.sweeper.n_trials=13")
        return app(*words, f"hydra.sweeper.sampler.seed={seed}", folder=folder).values("x", "y")

    first = drawn(1, "a")
    assert len(set(first)) == 13
    assert drawn(1, "b") == first
    assert not set(drawn(2, "c")) & set(first)


def test_without_a_seed_a_sweep_repeats_too(app):
    words = ("x=interval(-5,5)", *RANDOM, "hydra.sweeper.n_trials=3")
    assert app(*words, folder="a").values("x") == app(*words, folder="b").values("x")


def test_a_study_in_sqlite_is_named_and_goes_on(app):
    words = ("x=interval(-5,5)", *TPE, "hydra.sweeper.storage=sqlite:///my.db", "hydra.sweeper.study_name=mine")
    first = app(*words, "hydra.sweeper.n_trials=3")
    assert len(first.configs) == 3
    second = app(*words, "hydra.sweeper.n_trials=5")
    assert len(second.configs) == 2
    study = optuna.load_study(storage=f"sqlite:///{app.folder}/my.db", study_name="mine")
    assert [trial.params["x"] for trial in study.trials] == [c.x for c in first.configs + second.configs]
    assert second.results["best_value"] == study.best_value
    assert sorted(path.name for path in (app.folder / "out").glob("[0-9]*")) == ["0", "1", "2", "3", "4"]


def test_forcing_a_study_takes_the_configuration_as_it_is_now(app):
    words = ("x=interval(-5,5)", *TPE, "hydra.sweeper.study_name=mine")
    app(*words, "hydra.sweeper.n_trials=1")
    app.write("config", {**SPHERE, "y": 77})
    with pytest.raises(UserError, match="configuration: y was 1 and is 77"):
        app(*words, "hydra.sweeper.n_trials=2")
    assert app(*words, "hydra.sweeper.n_trials=2", "hydra.sweeper.resume=force").values("y") == [(77,)]


def test_whoever_joins_a_study_leaves_its_snapshot_of_the_configuration_alone(app):
    words = ("x=interval(-5,5)", *TPE, "hydra.sweeper.study_name=mine", "hydra.sweeper.n_trials=1")
    app(*words)
    (app.folder / "out/.conf/witness").touch()  # workers of the first command read there
    app(*words)
    assert (app.folder / "out/.conf/witness").exists()


def test_settings_that_do_not_exist(app):
    told = app.refuses("x=1,2", *GRID, "+hydra.sweeper.n_trial=3")
    assert "hydra.sweeper has no 'n_trial' (did you mean 'n_trials'?)" in told


# The real thing: a script, processes, and the defaults of everything else.

SCRIPT = """
import hydra


@hydra.main(config_path="conf", config_name="config")
def sphere(cfg):
    if cfg.get("error", False):
        raise RuntimeError("cfg.error is True")
    return cfg.x**2 + cfg.y**2


if __name__ == "__main__":
    sphere()
"""


@pytest.fixture
def script(app, forks):
    """Runs the application as a script with these words."""
    (app.folder / "sphere.py").write_text(SCRIPT)
    variables = {"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"} | forks.light

    def run(*words):
        command = ["python", "sphere.py", "--multirun", "hydra/sweeper=hypermap", *words]
        return subprocess.run(command, cwd=app.folder, env=variables, capture_output=True, text=True, check=False)

    return run


def test_a_script_with_two_workers(app, script):
    words = ("x=interval(-5,5)", "y=1,2", *TPE, "hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=2")
    done = script(*words)
    assert done.returncode == 0, done.stderr
    (folder,) = app.folder.glob("multirun/*/*")
    assert sorted(int(path.name) for path in folder.glob("[0-9]*")) == list(range(12))
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    tried = [yaml.safe_load((folder / f"{n}/.hydra/config.yaml").read_text()) for n in range(12)]
    assert len({config["x"] for config in tried}) == 12
    assert results["best_value"] == min(config["x"] ** 2 + config["y"] ** 2 for config in tried)
    assert sorted(path.name for path in app.folder.iterdir()) == ["conf", "multirun", "sphere.py"]


def test_a_script_that_fails(script):
    done = script("x=interval(-5,5)", "+error=true", *RANDOM)
    assert done.returncode != 0
    assert "RuntimeError: cfg.error is True" in done.stderr
