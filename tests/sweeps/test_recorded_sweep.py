"""A study from somewhere else: its menu, its order, its command and its values are data."""

import shutil

import optuna
import pytest

from hypermap.core.errors import UserError
from hypermap.core.paths import CONF
from hypermap.sweeps.recorded_sweep import check_begun, check_conf, renew_hydra


@pytest.fixture
def menu(tmp_path):
    shutil.copytree(CONF, tmp_path / ".conf")
    return tmp_path / ".conf"


def test_a_copy_of_ones_own_menu_goes_on_also_with_values_edited_since(menu):
    check_conf(menu, "")
    for file in menu.rglob("*.yaml"):
        file.write_text(file.read_text() + "# edited\n")
    (menu / "optimizer" / "sgd.yaml").write_text("_target_: torch.optim.SGD\nlr: 0.5\nx: ${seed}\n")
    (menu / "sweep" / "own.yaml").write_text(
        "# @package _global_\ndefaults: [{override /model: mlp}, {override /hydra/sweeper/sampler: tpe}]\n"
        "hydra: {sweeper: {sampler: {_target_: optuna.samplers.TPESampler}, params: {x: 'tag(log,interval(1,2))'}}}\n"
    )
    renew_hydra(menu, CONF)
    check_conf(menu, "")


def test_a_study_goes_on_with_the_present_settings_of_a_launcher(menu):
    """They say how workers are launched, and are no part of the study."""
    own = menu / "hydra/launcher/ray.yaml"
    own.write_text(own.read_text() + "# edited\n")
    (menu / "hydra/launcher/gone.yaml").touch()
    with pytest.raises(UserError, match="hydra/launcher"):
        check_conf(menu, "")
    renew_hydra(menu, CONF)
    check_conf(menu, "")
    assert not (menu / "hydra/launcher/gone.yaml").exists()
    renew_hydra(menu, menu / "absent")
    assert not (menu / "hydra").exists()


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("model/mlp.yaml", "_target_: os.system\ncommand: touch hacked\n", "os.system"),
        ("model/mlp.yaml", "_target_: hypermap.models.MLP\nblock: [{_target_: subprocess.run}]\n", "subprocess.run"),
        ("model/mlp.yaml", "_target_: ${x}\nx: os.system\n", "${x}"),
        ("model/mlp.yaml", "_target_: hypermap.models.MLP\nx: ${oc.env:HOME}\n", "interpolation"),
        ("model/mlp.yaml", "_target_: hypermap.models.MLP\nx: '${oc.create:{a: 1}}'\n", "interpolation"),
        ("model/mlp.yaml", "_target_: hypermap.models.MLP\nx: '${${y}:HOME}'\n", "interpolation"),
        ("model/new.yaml", "# @package _global_\nhydra: {callbacks: {x: {_target_: torch.nn.ReLU}}}\n", "callbacks"),
        ("model/new.yaml", "# @package hydra.job_logging\nhandlers: {x: {(): os.system}}\n", "@package"),
        ("model/new.yaml", "defaults: [x@hydra.callbacks: evil]\n", "hydra.callbacks"),
        ("hydra/job_logging/stdout.yaml", "handlers: {x: {(): os.system}}\n", "Hydra's own"),
        ("config.yaml", "hydra: {searchpath: ['pkg://evil']}\n", "searchpath"),
        ("config.yaml", "hydra: {job: {env_set: {LD_PRELOAD: x.so}}}\n", "env_set"),
        ("config.yaml", "hydra: {hydra_logging: {root: {level: INFO}}}\n", "hydra_logging"),
        ("sweep/own.yaml", "hydra: {sweeper: {custom_search_space: os.system}}\n", "os.system"),
        ("sweep/own.yaml", "hydra: {sweeper: {sampler: {_target_: hypermap.search.storage.Journal}}}\n", "Journal"),
        ("space/own.yaml", "x: tag(evil.maps.Cube, interval(0, 1))\n", "evil.maps.Cube.forward"),
        ("model/mlp.yaml", "x: [1\n", "no readable YAML"),
        ("model/mlp.yaml", "x: !!python/object/apply:os.system [touch hacked]\n", "no readable YAML"),
    ],
)
def test_a_menu_that_names_code_is_refused(menu, file, text, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (menu / file).parent.mkdir(parents=True, exist_ok=True)
    (menu / file).write_text(text)
    with pytest.raises(UserError) as error:
        check_conf(menu, "Remove it.")
    assert told.replace("no readable", "not readable") in str(error.value)
    assert not (tmp_path / "hacked").exists()


def begun(words=(), base="data: digits\n", params=None, space=None):
    study = optuna.create_study(study_name="strange")
    params = params or {}
    distributions = {name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()}
    study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=1.0))
    check_begun(study, list(words), {"base": base, "identity": {"space": space or {}}})


def test_what_a_sweep_keeps_goes_on():
    begun(
        [
            "optimizer.lr=tag(log,interval(1e-4,1e-1))", "model=mlp,cnn", "+sweep=quick", "hydra/sweeper/sampler=tpe",
            "hydra.sweeper.n_trials=3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model.hidden=[64],[32,32]",
            "hydra.sweeper.sampler._target_=optuna.samplers.TPESampler", "model._target_=hypermap.models.MLP",
            "hydra.sweep.dir='studies/a b'", "data.path='some file.csv'", "optimizer.momentum=interval(0,0.9)",
        ],
        "data: {name: digits, rows: 100}\nseed: 3\n",
        {"lr": 0.1, "hidden": "[64,64]", "on": True, "none": None, "word": "adam"},
        {"lr": {"key": "optimizer.lr", "mapping": "log"}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"words": ["model._target_=os.system"]}, "os.system"),
        ({"words": ["model._target_=hypermap.models.MLP,os.system"]}, "os.system"),
        ({"words": ["+model.block={_target_: os.system}"]}, "os.system"),
        ({"words": ["hydra.sweeper.custom_search_space=os.system"]}, "os.system"),
        ({"words": ["+hydra.callbacks.x._target_=torch.nn.ReLU"]}, "hydra.callbacks"),
        ({"words": ["hydra/job_logging=evil"]}, "job_logging"),
        ({"words": ["hydra.searchpath=[pkg://evil]"]}, "searchpath"),
        ({"words": ["hydra.launcher.setup=[touch hacked]"]}, "hydra.launcher.setup"),
        ({"words": ["+hydra.job.env_set.LD_PRELOAD=x.so"]}, "env_set"),
        ({"words": ["optimizer.lr=tag(evil.Cube,interval(0,1))"]}, "evil.Cube.forward"),
        ({"words": ["data.path=${oc.env:HOME}"]}, "interpolation"),
        ({"words": ["((("]}, "cannot be read"),
        ({"base": "model: {name: mlp, _target_: os.system}\n"}, "os.system"),
        ({"base": "seed: ${oc.env:HOME}\n"}, "interpolation"),
        ({"params": {"model._target_": "os.system"}}, "os.system"),
        ({"params": {"t": "os.system"}, "space": {"t": {"key": "model._target_"}}}, "os.system"),
        ({"params": {"model.block": "{_target_: os.system}"}}, "os.system"),
        ({"space": {"x": {"key": "x", "mapping": "evil.Cube"}}}, "evil.Cube.forward"),
    ],
)
def test_a_command_an_order_or_a_value_that_names_code_is_refused(given, told):
    with pytest.raises(UserError) as error:
        begun(**given)
    assert told in str(error.value)
    assert "strange" in str(error.value)
