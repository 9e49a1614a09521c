"""Files of strangers are data: each reader is given a record whose command would create a file."""

import functools
import json
import os
import pickle
import runpy
import sys
from dataclasses import asdict

import optuna
import pytest
import skops.io
import yaml

from hypermap.config.groups import read_params
from hypermap.core import instantiate as building
from hypermap.core import skops_io
from hypermap.core.files import read_slice, write_json, write_text
from hypermap.core.instantiate import check_part, check_plain, check_record, instantiate, is_part
from hypermap.core.paths import CONF, ROOT
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Transform
from hypermap.inference.export import ExportArgs as ExportAsked
from hypermap.inference.predict import PredictArgs as PredictAsked
from hypermap.models import sklearn_fit
from hypermap.models.baselines import read as read_baselines
from hypermap.reports.study.command import ReportArgs as ReportAsked
from hypermap.search.storage import open_storage
from hypermap.search.study import RECORD
from hypermap.training.artifacts import RunRecord, read_trained
from support.refusals import refusal

FOREIGN = [
    "os.system",
    "posix.system",
    "subprocess.run",
    "builtins.exec",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "hypermap.core.instantiate.instantiate",
    "hypermap.core.files.write_text",
    "hypermap.core.files.os.system",
    "hypermap.models.tabular.torch.load",
    "hypermap.datasets.tables.dataset.download.locate",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Module.apply",
    "torch.nn.functional.relu",
    "torch.optim.optimizer.functools.partial",
    "torch.nn.modules.module.functools.partial",
    "promote.main",
    "train.main",
    "${oc.env:HOME}",
    "",
    3,
    ["os.system"],
]


@pytest.fixture(autouse=True)
def hacked(monkeypatch, tmp_path):
    """A folder of its own, and the file that a command which ran would have left in it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "hacked"
    assert not (tmp_path / "hacked").exists()


def command(hacked, target="os.system"):
    return {"_target_": target, "command": f"touch {hacked}"}


def own_src(monkeypatch, folder, **modules):
    """A person's own src/ with these modules, and a conf/ that names nothing."""
    (folder / "src").mkdir(exist_ok=True)
    for name, text in modules.items():
        (folder / "src" / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)  # of another test
    monkeypatch.setattr(building, "SOURCES", folder / "src")
    monkeypatch.setattr(building, "named_in_conf", frozenset)
    monkeypatch.syspath_prepend(folder / "src")


# What a record may name.


def test_what_a_person_names_is_called_so_that_the_tests_below_can_fail(tmp_path):
    assert instantiate(command(tmp_path / "named")) == 0
    assert (tmp_path / "named").exists()


@pytest.mark.parametrize("path", FOREIGN, ids=str)
def test_a_record_names_no_code_but_parts(path):
    told = refusal(check_record, {"loss": {"_target_": path}}, "model.json")
    assert told.startswith(f"model.json: loss._target_ names {path!r}")
    assert told.count("\n") == 0
    assert told.endswith("add trust=true.")


@pytest.mark.parametrize(
    "nested",
    [
        lambda inner: {"model": {"_target_": "hypermap.models.MLP", "block": inner}},
        lambda inner: {"model": {"layers": [[1, {"inner": inner}]]}},
        lambda inner: {"optimizer": {"_target_": "torch.optim.Adam", "_args_": [inner]}},
        lambda inner: {"loss": {"_partial_": True, **inner}},
        lambda inner: [inner],
    ],
)
def test_it_is_found_at_any_depth(nested, hacked):
    assert "'os.system'" in refusal(check_record, nested(command(hacked)), "model.json")
    check_record(nested({"_target_": "torch.nn.ReLU"}), "model.json")
    check_record(nested(command(hacked)), "model.json", trust=True)


def test_whatever_conf_names_is_a_part_also_where_conf_no_longer_names_it(monkeypatch):
    named = building.named_in_conf() - {"optuna.samplers.TPESampler", "optuna.pruners.NopPruner"}  # of sweeps
    texts = [path.read_text() for path in CONF.rglob("*.yaml") if not path.is_relative_to(CONF / "hydra")]
    assert named == {line.split()[1] for text in texts for line in text.splitlines() if line.startswith("_target_:")}
    monkeypatch.setattr(building, "named_in_conf", frozenset)
    for path in named:
        assert is_part(path), path


@pytest.mark.parametrize("path", ["torch.nn.Linear", "torch.optim.lr_scheduler.StepLR", "hypermap.models.mlp.MLP"])
def test_parts_that_conf_does_not_name(path):
    assert is_part(path)


def test_scripts_are_no_parts():
    assert {path.stem for path in (ROOT / "src").iterdir() if path.suffix in ("", ".py")} <= {
        *building.NOT_OWN,
        "__init__",
        "__pycache__",
    }


def test_a_module_of_ones_own_is_a_part_and_what_it_imports_is_none(monkeypatch, tmp_path):
    text = "import os, subprocess\nfrom os import system\nran = subprocess.run\nclass Wide: pass\ndef wide(): pass\n"
    own_src(monkeypatch, tmp_path, own_networks=f"{text}if __name__ == '__main__': print('a try')\n")
    assert is_part("own_networks.Wide")
    assert is_part("own_networks.wide")
    for path in (
        "system",
        "os.system",
        "ran",
        "subprocess.Popen",
        "Wide.__init__",
        "wide.__globals__.get",
        "__builtins__",
    ):
        assert not is_part(f"own_networks.{path}"), path


def test_what_conf_names_of_an_installed_package_is_a_part(monkeypatch, tmp_path):
    write_text(tmp_path / "conf" / "model" / "own.yaml", "_target_: collections.Counter\n")
    monkeypatch.setattr(building, "CONF", tmp_path / "conf")
    building.named_in_conf.cache_clear()
    try:
        assert is_part("collections.Counter")
        assert not is_part("collections.OrderedDict")
    finally:
        building.named_in_conf.cache_clear()


def test_nothing_is_imported_to_find_out(monkeypatch, tmp_path, hacked):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "strangers_module.py").write_text(f"open({str(hacked)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert not is_part("strangers_module.Network")


def test_interpolations_are_refused_where_they_would_be_worked_out():
    for record in ({"data": {"path": "${oc.env:HOME}"}}, [{"a": ["x${b}"]}], {"${hydra:job.name}": 1}):
        assert "interpolation" in refusal(check_plain, record, "trial 3")
    check_plain({"data": {"path": "a$b{c}.csv", "drop": [1, None]}}, "trial 3")


# The readers.


def model_folder(folder, configuration):
    write_json(folder / "model.json", asdict(RunRecord(1, False, "accuracy", 5, {}, configuration)))
    return folder


@pytest.mark.parametrize("group", ["model", "loss", "augment", "optimizer", "scheduler", "regularizer", "trainer"])
def test_a_model(group, tmp_path, hacked):
    folder = model_folder(tmp_path / "model", {group: command(hacked)})
    write_text(tmp_path / "rows.csv", "a\n1\n")
    words = [f"model={folder}", f"output={tmp_path / 'out.csv'}"]
    for answer in (
        lambda: read_trained(folder),
        PredictAsked.of([*words, f"input={tmp_path / 'rows.csv'}"]).answer,
        ExportAsked.of(words).answer,
    ):
        assert f"{folder / 'model.json'}: {group}._target_ names 'os.system'" in refusal(answer)
    assert PredictAsked.of([*words, f"input={tmp_path / 'rows.csv'}", "trust=true"]).trust
    assert ExportAsked.of([*words, "trust=true"]).trust
    assert "trust=yes" in refusal(ExportAsked.of, [*words, "trust=yes"])
    assert "manifest.json is not here" in refusal(read_trained, folder, trust=True)  # it goes on


def test_baselines(tmp_path, hacked):
    record = {
        "models": [{"name": "forest", **command(hacked)}],
        "seed": 0,
        "data": {"fingerprint": "1", "raw_sha256": "2"},
    }
    write_json(tmp_path / "baselines.json", record)
    transform = Transform(Manifest(task="classification", classes=(), shape=(), fingerprint="1", raw_sha256="2"))
    assert "0._target_ names 'os.system'" in refusal(read_baselines, tmp_path, transform)


@pytest.mark.parametrize("call", ["system", "popen"])
def test_a_fitted_estimator(call, hacked):
    """It is skops's format, and holds what a partial calls to its list; a pickle in its place is not read at all."""
    content = skops.io.dumps(functools.partial(getattr(os, call), f"touch {hacked}"))
    assert "is not opened" in refusal(skops_io.loads, content, "model.skops", "", sklearn_fit.TRUSTED)
    assert "cannot be read" in refusal(skops_io.loads, pickle.dumps(Evil(hacked)), "model.skops", "")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_slice_of_the_configuration(tmp_path, hacked):
    write_text(tmp_path / "train.yaml", yaml.safe_dump({"model": command(hacked)}))
    assert "conf/model/NAME.yaml" in refusal(read_slice, tmp_path / "train.yaml")
    write_text(tmp_path / "train.yaml", f"model: !!python/object/apply:os.system ['touch {hacked}']\n")
    assert "cannot be read" in refusal(read_slice, tmp_path / "train.yaml")


def test_an_order_that_an_experiment_brings(tmp_path, hacked):
    write_text(tmp_path / "params.yaml", yaml.safe_dump({"model": {"name": "mlp", **command(hacked)}}))
    assert "params.yaml: model._target_ names 'os.system'" in refusal(read_params, tmp_path / "params.yaml")
    write_text(tmp_path / "params.yaml", "model: {name: mlp, _target_: hypermap.models.Logistic}\n")
    assert read_params(tmp_path / "params.yaml")["model"]["_target_"] == "hypermap.models.Logistic"


@pytest.mark.parametrize("order", [{"model": {"name": "mlp", "_target_": "os.system"}}, {"seed": "${oc.env:HOME}"}])
def test_a_trial_that_is_promoted(order, tmp_path, monkeypatch, capsys):
    write_text(tmp_path / "params.yaml", "data: digits\n")
    write_text(tmp_path / "studies" / "strange" / "0" / "params.yaml", yaml.safe_dump(order))
    monkeypatch.setattr(sys, "argv", ["src/promote.py", "strange", "0"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "src" / "promote.py"), run_name="__main__")
    assert "trial 0 of strange" in capsys.readouterr().err
    assert (tmp_path / "params.yaml").read_text() == "data: digits\n"


def strange_study(path, mapping):
    """A study of one parameter whose record names a mapping."""
    study = optuna.create_study(study_name="strange", storage=open_storage(path))
    space = {"x": {"key": "x", "space": "interval(1,2)", "mapping": mapping}}
    study.set_user_attr(RECORD, {"identity": {"space": space}})
    study.optimize(lambda trial: trial.suggest_float("x", 1, 2), n_trials=3)
    return study


@pytest.mark.parametrize("mapping", ["strangers_maps.Evil", "os.path", ["a.b"], "hypermap.core.files.os"])
def test_a_study_whose_mapping_is_a_module_somewhere(mapping, tmp_path, monkeypatch, hacked):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "strangers_maps.py").write_text(f"open({str(hacked)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    strange_study(str(tmp_path / "journal.log"), mapping)
    asked = ReportAsked.of(["study=strange", f"storage={tmp_path / 'journal.log'}"])
    assert "study strange: the mapping of x names" in refusal(asked.answer, tmp_path / "reports")


def test_a_mapping_of_ones_own_needs_no_word_and_another_is_taken_on_trust(tmp_path, monkeypatch):
    text = "import math\nclass Cube:\n  def forward(_, x): return x**3\n  def inverse(_, y): return math.cbrt(y)\n"
    own_src(monkeypatch, tmp_path, own_maps=text)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "installed_maps.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    for name, words in (("own_maps", []), ("installed_maps", ["trust=true"])):
        place = str(tmp_path / f"{name}.log")
        strange_study(place, f"{name}.Cube")
        told = ReportAsked.of(["study=strange", f"storage={place}", *words]).answer(tmp_path / "reports")
        assert "report.md" in told


def test_check_part_says_what_a_message_begins_with():
    assert refusal(check_part, "os.system", "the mapping of x").startswith("the mapping of x names 'os.system'")
    check_part("os.system", "the mapping of x", trust=True)


def test_json_keeps_an_interpolation_as_it_is(tmp_path, monkeypatch):
    """What a model's record holds is never worked out, so a secret of the environment gets into no configuration."""
    monkeypatch.setenv("SECRET", "s3cret")
    folder = model_folder(tmp_path / "model", {"model": {"_target_": "torch.nn.ReLU", "x": "${oc.env:SECRET}"}})
    assert json.loads((folder / "model.json").read_text())["configuration"]["model"]["x"] == "${oc.env:SECRET}"
    assert "s3cret" not in refusal(read_trained, folder)
