"""make order EXPERIMENT=NAME: params.yaml names an experiment, and stays a file that a person wrote.

And the order of a configuration, which composes to just that configuration.
"""

import itertools
import json
import os
import random
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from ruamel.yaml import YAML

from hypermap.config import compose as composing
from hypermap.config import groups as menu
from hypermap.config.compose import compose
from hypermap.config.groups import TUNED, groups
from hypermap.config.params_file import params_of, params_text, rewrite
from hypermap.core.errors import UserError
from hypermap.core.paths import CONF, ROOT

ORDER = ("python", "src/order.py")
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))


COMMENTED = """\
# at the top
experiment: null  # beside the experiment
data: {name: digits, split_seed: 0}  # beside the data
# above the model
model:
  name: mlp
  hidden: [16]  # beside a value
optimizer: adam # beside the optimizer
trainer: {name: default, epochs: 3}
seed: 4

# before the evaluation
evaluation: {confidence: 0.9}  # beside the evaluation
# at the end
"""


def test_experiments_are_found(clone):
    assert len(EXPERIMENTS) >= 3
    assert clone.shared.fails(*ORDER).splitlines()[0].endswith(f"There are: {', '.join(EXPERIMENTS)}.")


WORDS_OF = {"table": ["data.path=my.csv", "data.target=target"]}  # which names no file


def test_another_choice_spells_the_experiment_out(clone):
    project = clone()
    project.ok(*ORDER, "table", "data=titanic", "seed=7")
    order = project.yaml("params.yaml")
    assert (order["experiment"], order["data"], order["seed"]) == (None, "titanic", 7)
    own = project.yaml("conf/experiment/table.yaml")
    assert order["optimizer"] == {"name": "adamw"} | own["optimizer"]
    assert project.ok("dvc", "repro", "compose").stages == ["compose"]
    assert project.yaml("reports/config/train.yaml")["trainer"]["epochs"] == own["trainer"]["epochs"]


@pytest.mark.parametrize("experiment", ["mnist_cnn", "table"])  # test_compose.py has all, without the commands
def test_the_compose_stage_gives_the_experiment_that_was_ordered(clone, experiment):
    project = clone()
    before = (project.path / "params.yaml").read_text()
    (project.path / "my.csv").write_text("x,target\n1,2\n")
    words = WORDS_OF.get(experiment, [])
    project.ok(*ORDER, experiment, *words)
    after = (project.path / "params.yaml").read_text()
    assert re.findall("#.*", after) == re.findall("#.*", before)
    assert yaml.safe_load(after)["experiment"] == experiment
    project.ok("python", "src/compose.py")
    assert project.yaml("reports/config/evaluate.yaml")["experiment"] == experiment
    slices = project.yaml("reports/config/train.yaml") | project.yaml("reports/config/preprocess.yaml")
    body = project.yaml(f"conf/experiment/{experiment}.yaml")
    choices = {k.split("/")[-1]: v for entry in body["defaults"] if entry != "_self_" for k, v in entry.items()}
    assert len(choices) >= 3
    for group, choice in choices.items():
        expected = project.yaml(f"conf/{group}/{choice}.yaml") | body.get(group, {})
        given = {word.split("=")[0].removeprefix("data."): word.split("=")[1] for word in words if group == "data"}
        assert slices[group] == {"name": choice} | expected | given
    assert slices["trainer"]["epochs"] == body["trainer"]["epochs"]
    project.ok(*ORDER, experiment, *words)
    assert (project.path / "params.yaml").read_text() == after, "a second time changes nothing"


def test_comments_stay_where_they_are(clone):
    project = clone()
    (project.path / "params.yaml").write_text(COMMENTED)
    project.ok(*ORDER, "mnist_mlp")
    text = (project.path / "params.yaml").read_text()
    lines = {line.split(":")[0]: line for line in text.splitlines() if ":" in line}
    for word in ("experiment", "data", "evaluation"):
        assert lines[word].endswith(f"# beside the {word}")
    assert re.match("# at the top\nexperiment: mnist_mlp +# beside", text)
    assert "# above the model\nmodel:\n  name: mlp\n  hidden: [128]  # beside a value\n  dropout: 0.2\n" in text
    assert re.findall("#.*", text) == re.findall("#.*", COMMENTED)
    order = yaml.safe_load(text)
    assert order["evaluation"] == {"confidence": 0.9}, "what no experiment says stays"
    assert list(order)[:5] == ["experiment", "data", "model", "optimizer", "trainer"]


def test_make_order_in_a_folder_with_blanks(clone):
    project = clone()
    place = project.path.with_name(f"it's {project.path.name} (1)")
    project = replace(project, path=project.path.rename(place))
    environment = project.path / "environment"  # in place of one that make would take minutes to install
    environment.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "installed":
            (environment / entry.name).symlink_to(entry)
    (environment / "installed").touch()
    words = ("make", "VENV=environment", "order")
    bare = {"PATH": os.defpath}  # so that python is the environment's
    assert "Next: dvc repro" in project.ok(*words, "EXPERIMENT=mnist_cnn", **bare).out
    assert project.yaml("params.yaml")["experiment"] == "mnist_cnn"
    outcome = project.run(*words, **bare)
    assert outcome.code != 0
    assert "name an experiment: make order EXPERIMENT=NAME" in outcome.err


def test_a_choice_that_contradicts_the_experiment_is_an_error_that_says_so(clone):
    project = clone()
    project.ok(*ORDER, "mnist_mlp")
    slices = project.content("reports/config")
    project.order(model="cnn")
    outcome = project.run("dvc", "repro")
    assert outcome.code != 0
    assert "names experiment mnist_mlp, whose model is 'mlp', and orders model 'cnn'" in outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert outcome.stages == ["compose"]
    assert project.content("reports/config") in ({}, slices), "DVC removes a stage's outputs before it runs it"
    project.order(experiment=None)
    assert project.ok("dvc", "repro", "compose").stages == ["compose"]
    assert project.yaml("reports/config/train.yaml")["model"]["name"] == "cnn"


@pytest.mark.parametrize(
    ("words", "text", "told"),
    [
        (("mnist_mpl",), None, "experiment has no option 'mnist_mpl' (did you mean 'mnist_mlp'"),
        (("",), None, "name an experiment"),
        (("mnist_mlp", "mnist_cnn"), None, "mnist_cnn"),
        (("mnist_mlp", "optimizer.lrr=1"), None, "did you mean 'lr'"),
        (("table",), None, "data.path is null: name the file"),
        (("mnist_mlp",), "data: [", "params.yaml is not readable YAML"),
        (("mnist_mlp",), "optimizr: adam\n", "did you mean 'optimizer'"),
    ],
)
def test_a_mistake_leaves_the_order_as_it_was(clone, words, text, told):
    project = clone()
    if text is not None:
        (project.path / "params.yaml").write_text(text)
    before = (project.path / "params.yaml").read_bytes()
    assert told in project.fails(*ORDER, *words)
    assert (project.path / "params.yaml").read_bytes() == before


def test_a_full_disk_leaves_the_order_as_it_was(clone):
    project = clone()
    before = project.tracked()
    assert "File too large" in project.fails(*ORDER, "mnist_mlp", file_kib=0)
    assert project.tracked() == before
    assert project.ok("git", "status", "--porcelain").out == ""


# The order of a configuration.

COMMITTED = (ROOT / "params.yaml").read_text()
NAMED = """\
experiment: mnist_mlp  # which
model:
  name: mlp

  dropout: 0.3  # more than it has

# above the trainer
trainer: {name: default, epochs: 2}
"""


def read(text):
    return OmegaConf.to_container(OmegaConf.create(text))


def same(one, other):
    return json.dumps(one) == json.dumps(other)


def tuned(overrides, order=None):
    """A configuration that composes, or None where its settings contradict each other."""
    try:
        return compose(overrides, order)
    except UserError:
        return None


def configurations():
    """Mixtures of many options, with other values."""
    choices, draw = groups(), random.Random(0)
    bases = itertools.cycle([None, read(COMMITTED), read(COMMENTED)])
    for turn in range(8):
        mixed = [f"{group}={choices[group][7 * turn % len(choices[group])]}" for group in TUNED]
        values = [f"optimizer.lr={10 ** draw.uniform(-9, 0)!r}", f"seed={turn}", "evaluation.confidence=0.5"]
        yield tuned([*mixed, *draw.sample(values, 2)], next(bases))
    yield tuned(["optimizer=adamw", "optimizer.betas=[0.8,0.99]", "optimizer.weight_decay=1e-10", "model.hidden=[]"])
    yield tuned(["data=mnist", "data.root='1e5'", "trainer.monitor=loss", "loss.class_weights=balanced"])
    yield tuned(["experiment=mnist_mlp", "model.dropout=0.0", "optimizer.lr=0.001", "trainer.epochs=30"])


def test_an_order_composes_to_the_configuration_it_was_written_for():
    found = [configuration for configuration in configurations() if configuration]
    assert len(found) >= 9
    for configuration, base in zip(found, itertools.cycle([COMMITTED, COMMENTED, NAMED, ""])):
        text = params_text(configuration, base)
        assert same(compose(params=read(text)), configuration), text
        assert params_text(configuration, text) == text
        gone = set(re.findall("#.*", base)) - set(re.findall("#.*", text))
        assert gone <= {"# beside a value", "# more than it has"}, "a comment goes with its value, and no other"


def test_an_order_says_what_differs_and_what_was_said_before():
    configuration = compose(["optimizer.lr=0.02", "model.hidden=[8,8]", "scheduler.peak_share=0.5"], read(COMMITTED))
    text = params_text(configuration, COMMITTED)
    changed = {new for old, new in zip(COMMITTED.splitlines(), text.splitlines(), strict=True) if old != new}
    assert changed == {
        "model: {name: mlp, hidden: [8, 8]}",
        "optimizer: {name: adam, lr: 0.02}",
        "scheduler: {name: one_cycle, peak_share: 0.5}",
    }
    assert params_text(compose([], read(COMMITTED)), COMMITTED) == COMMITTED
    other = params_text(compose(["model=cnn", "optimizer=sgd"], read(COMMITTED)), COMMITTED)
    assert {"model: cnn", "optimizer: sgd"} <= set(other.splitlines())


def test_an_experiment_stays_named_where_the_choices_are_its_own():
    order = read(params_text(compose(["experiment=mnist_mlp", "optimizer.lr=0.01"]), COMMITTED))
    assert order["experiment"] == "mnist_mlp"
    assert order["optimizer"] == {"name": "adam", "lr": 0.01}
    assert order["trainer"] == {"name": "default", "epochs": 10, "batch_size": 64}, "as they stand in the base"
    mixed = compose(["experiment=mnist_mlp", "optimizer=sgd"])
    order = read(params_text(mixed, NAMED))
    assert order["experiment"] is None
    assert order["optimizer"] == {"name": "sgd", "lr": 0.003}
    assert compose(params=order) == {**mixed, "experiment": None}


def test_a_value_that_refers_to_another_is_spelled_out(tmp_path, monkeypatch):
    shutil.copytree(menu.CONF, tmp_path / "conf")
    tied = "_target_: hypermap.models.MLP\nhidden: [8]\ndropout: ${evaluation.confidence}\n"
    (tmp_path / "conf" / "model" / "tied.yaml").write_text(tied)
    for module in (menu, composing):
        monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    configuration = compose(["model=tied", "evaluation.confidence=0.5", "model.dropout=0.95"])
    assert same(compose(params=read(params_text(configuration, COMMITTED))), configuration)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="$\x85", exclude_categories=["Cc", "Cs"]), max_size=9),
    st.sampled_from(
        ["yes", "NULL", "~", "1e5", "1:20", "012", "0o7", ".5", "2020-01-01", "a: b", "- a", "#", "a #b", "="]
    ),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
ENTRIES = st.one_of(VALUES, st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3))
ORDERS = st.dictionaries(st.sampled_from(["one", "two", "three", "four"]), ENTRIES, max_size=4)
BASES = st.one_of(
    st.sampled_from(
        [COMMENTED, NAMED, "", "# nothing\n", "one: &x {a: 1}\ntwo: *x\n", "{one: 1}", "one:", "one: |\n  text\n"]
    ),
    st.builds(
        lambda order, flow: yaml.safe_dump(order, default_flow_style=flow), ORDERS, st.sampled_from([False, None])
    ),
)


@settings(deadline=None, max_examples=100)
@given(BASES, ORDERS, st.booleans())
@example("two: 0o0\n", {"two": "0o0"}, False)
@example("two: [{a: 0o7}]\n", {"two": [{"a": "0o7"}]}, False)
def test_rewritten_text_reads_back_as_the_entries_it_was_given(base, order, alone):
    text = rewrite(base, order, alone=alone)
    before = {} if alone else (read(base) if base.strip() else {})
    assert read(text) == {**before, **order} if text.strip() else not {**before, **order}
    told = YAML(typ="safe").load(text) or {}
    assert {key: told[key] for key in order} == order, "DVC reads YAML 1.2"
    assert rewrite(text, order, alone=alone) == text


def test_the_menu_is_composed_for_all_new_choices_at_once_and_for_a_known_one_never(monkeypatch, tmp_path):
    asked = []

    def counted(choices, folder, *, resolved):
        asked.append(dict(choices))
        return composing.defaults_of(choices, resolved=resolved)

    monkeypatch.setattr("hypermap.config.params_file.defaults_of", counted)
    first, second = compose(["model=mlp"]), compose(["model=cnn", "data=mnist"])
    for configuration in (first, second, first):
        assert params_of(configuration, {}, tmp_path)["model"] == configuration["model"]["name"]
    assert [len(choices) for choices in asked] == [len(TUNED), 2]
    assert asked[1] == {"model": "cnn", "data": "mnist"}
