"""The table of allowed values, held against what ships and against what torch itself refuses."""

import math
from typing import get_args

import pytest
import torch
import yaml

from hypermap.config import rules
from hypermap.config.groups import SEARCHES
from hypermap.config.rules import RULES
from hypermap.core.errors import UserError
from hypermap.core.normalize import SCALINGS
from hypermap.core.paths import CONF
from hypermap.data.preparation import Categories, Missing, Scaling
from hypermap.models import MLP

MENU = CONF
TEXTS = ("name", "_target_", "defaults")


def shipped():
    """Every key of every choice with each value that ships: ``(key, value, file)``."""
    found = []
    for file in sorted(MENU.rglob("*.yaml")):
        content = yaml.safe_load(file.read_text())
        group = file.relative_to(MENU).parts[0]
        if group in (*SEARCHES, "hydra"):
            continue
        if group == "report.yaml":  # the thresholds of a study's report, which have rules of their own
            continue
        if group == "config.yaml":
            entries = {k: v for k, v in content.items() if k not in ("defaults", "hydra")}
        elif group == "experiment":
            entries = {k: v for k, v in content.items() if k != "defaults"}
        else:
            entries = {group: content}
        for name, value in entries.items():
            inner = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
            found += [(k, v, str(file)) for k, v in inner.items() if k.rsplit(".", 1)[-1] not in TEXTS]
    return found


def test_every_key_that_ships_has_a_rule_and_every_rule_a_key():
    keys = {key for key, _, _ in shipped()}
    assert len(keys) > 40
    assert keys - set(RULES) == set(), "keys without a rule"
    assert set(RULES) - keys == set(), "rules without a key"


def test_every_value_that_ships_is_allowed():
    assert [(k, v, file) for k, v, file in shipped() if not RULES[k].holds(v)] == []


GOOD = {
    "seed": [0, 7, 2**32 - 1],
    "evaluation.bootstrap_repeats": [100, 5000],
    "evaluation.confidence": [0.5, 0.99],
    "final": [None, "holdout", "refit", "bag"],
    "data.root": [None, "/some/folder"],
    "data.batches": [[1], [1, 2, 3, 4, 5]],
    "data.rows": [None, 2],
    "data.path": [None, "my.csv", ["one.csv", "two.csv"]],
    "data.target": [None, "price", -1, ["calm", "loud"], [-2, -1], {"price": "regression"}, [["price", "regression"]]],
    "data.validation": [None, 0.2],
    "data.character_ngrams": [None, [3, 5]],
    "loss.weights": [None, {"price": 1, "sold": 0}],
    "data.classes": [None, {"yes.": "yes"}, [["yes.", "yes"], [1, "no"]]],
    "data.kinds": [None, {}, {"zip": "category", "sold": "%d/%m/%Y"}],
    "data.separator": [None, ";", "tab"],
    "data.missing_values": [None, [], ["", "?"]],
    "data.scaling": ["unit", "quantile"],
    "data.pca": [None, 3, 0.95],
    "data.fill": [-1.0, 0],
    "model.p": [1, 2],
    "model.hidden": [[], [1], [512, 10]],
    "model.dropout": [0, 0.0, 0.5],
    "optimizer.lr": [1e-9, 0.1, 1],
    "optimizer.betas": [[0, 0.999], [0.9, 0.99]],
    "optimizer.nesterov": [True, False],
    "loss.class_weights": [None, "balanced", [1, 2.5]],
    "regularizer.clip_norm": [None, 0.5],
    "scheduler.gamma": [0.1, 1],
    "trainer.epochs": [1, 1000],
    "trainer.device": ["auto", "cuda:1"],
    "trainer.threads": [None, 1],
    "trainer.repeats": [1, 3],
    "trainer.processes": [1, 8],
    "validation.k": [2, 10],
    "validation.max_train_rows": [None, 1000],
    "model.blocks": [[2, 2], 3],
    "model.max_features": [None, 0.5, 1],
    "evaluation.baselines": [[], ["dummy"]],
}
BAD = {
    "seed": [-1, 1.5, True, None, "0", 2**32],
    "final": ["Refit", "", 1, True],
    "evaluation.bootstrap_repeats": [99, 1000.0, None],
    "evaluation.confidence": [0, 1, 95, math.nan],
    "data.root": ["", 3],
    "data.batches": [[], [0], [6], 1, [1.5]],
    "data.validation": [0, 1, -0.2, "0.2"],
    "data.split_seed": [-1, 2**32, None],
    "data.scaling": ["Unit", None, 1],
    "data.rows": [1, 0, 10.0],
    "data.path": ["", [], 3],
    "data.target": ["", 1.5, [], {}, [1.5]],
    "data.tokens": ["letters", None],
    "loss.weights": [{"price": -1}, 1],
    "loss.weighting": ["equal"],
    "data.task": ["classification", 2],
    "data.classes": [{}, "yes", [], ["yes"]],
    "data.kinds": [{"zip": None}, ["zip"]],
    "data.header": ["yes", 1],
    "data.quote": ["''", ""],
    "data.decimal": [";"],
    "data.missing_values": ["?", [0]],
    "data.missing": ["zero", None],
    "data.fill": [None, "0"],
    "data.rare": [0, 0.1],
    "data.max_categories": [1, 2.5],
    "data.pca": [0, 1.5, -1],
    "data.target_transform": ["sqrt"],
    "data.oversample": [None, 1],
    "evaluation.baselines": [None, "dummy"],
    "evaluation.map": ["umap", None],
    "model.class_weight": ["even"],
    "model.p": [0, 1.5, 3, None],
    "model.max_features": [0, 1.5],
    "model.kernel": ["gauss"],
    "model.C": [0],
    "validation.gap_rows": [-1],
    "validation.max_train_rows": [0],
    "model.hidden": [128, [0], [1.5], ["a"], [True], None],
    "model.kernel_size": [0, 3.0],
    "model.blocks": [[], [0], 0],
    "model.dropout": [1, -0.1, math.nan, "0.1"],
    "model.activation": ["Relu", None],
    "model.batch_norm": [0, "false", None],
    "optimizer.lr": [0, -0.1, math.inf, math.nan, "0.1", None, True, [0.1]],
    "optimizer.betas": [[0.9], [0.9, 0.99, 0.999], [0.9, 1], 0.9, [0.9, None]],
    "optimizer.eps": [0, -1e-8],
    "optimizer.weight_decay": [-0.1, None],
    "optimizer.nesterov": [None, "yes", 1],
    "scheduler.every_epochs": [0, 2.5],
    "scheduler.gamma": [0, 1.1],
    "scheduler.end": [-0.1, 1.1],
    "scheduler.warmup_epochs": [-1, None],
    "loss.label_smoothing": [1, -0.1],
    "loss.class_weights": ["even", [1], [-1, 1]],
    "regularizer.clip_norm": [0, -1],
    "regularizer.patience_epochs": [0, 2.5],
    "augment.shift": [-1, 0.5],
    "augment.rotate_degrees": [-1, 181],
    "trainer.epochs": [0, -1, 2.0],
    "trainer.batch_size": [0, 64.0],
    "trainer.monitor": ["loss_", "f1"],
    "trainer.precision": ["fp16", None],
    "trainer.device": ["", None, 0],
    "trainer.threads": [0, 1.5],
    "trainer.repeats": [0, None],
    "trainer.processes": [0, None, 1.5],
    "trainer.reports_per_epoch": [0, 0.5],
    "validation.k": [1, 5.0, None],
    "validation.stratified": [1, None],
    "validation.repeats": [0],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in GOOD.items() for v in values])
def test_what_is_allowed(key, value):
    assert RULES[key].holds(value)


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_what_is_not_allowed(key, value):
    assert not RULES[key].holds(value)
    group, _, inner = key.rpartition(".")
    with pytest.raises(UserError) as told:
        rules.validate({group: {inner: value}} if group else {inner: value})
    assert str(told.value).splitlines()[0] == f"{key} is {value!r}; it must be {RULES[key].words}."


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("lr", [-1.0, 0.1]),
        ("momentum", [-0.1, 0.5]),
        ("alpha", [-0.1, 0.9]),
        ("betas", [[0.9, 1.0], [-0.1, 0.9], [0.9, 0.99]]),
        ("eps", [-1e-8, 1e-8]),
        ("lr_decay", [-0.1, 0.1]),
        ("weight_decay", [-0.1, 0.1]),
    ],
)
def test_the_table_refuses_what_torch_refuses(optimizer, key, values):
    for value in values:
        try:
            getattr(torch.optim, optimizer)([torch.zeros(1)], **{key: value})
        except TypeError:  # not an argument of this one
            continue
        except ValueError:
            assert not RULES[f"optimizer.{key}"].holds(value)
        else:
            assert RULES[f"optimizer.{key}"].holds(value)


def test_words_are_those_that_the_code_knows():
    for key, known in {"scaling": {*SCALINGS, *get_args(Scaling)}, "missing": get_args(Missing)}.items():
        assert {*RULES[f"data.{key}"].words.removeprefix("one of ").split(", ")} == {*known}
    assert f"one of {', '.join(get_args(Categories))}" == RULES["data.categories"].words
    for activation in rules.ACTIVATIONS:
        MLP((4,), 2, hidden=[3], activation=activation)
    for initialization in rules.INITIALIZATIONS:
        MLP((4,), 2, hidden=[3], initialization=initialization)
    with pytest.raises(ValueError, match="activation is 'rel'") as told:
        MLP((4,), 2, hidden=[3], activation="rel")
    assert set(str(told.value).split("allowed: ")[1].split(", ")) == set(rules.ACTIVATIONS)
    with pytest.raises(ValueError, match="initialization is 'he'") as told:
        MLP((4,), 2, hidden=[3], initialization="he")
    assert set(str(told.value).split("allowed: ")[1].split(", ")) == set(rules.INITIALIZATIONS)


SOUND = {
    "optimizer": {"nesterov": True, "momentum": 0.9, "weight_decay": 0.01},
    "scheduler": {"warmup_epochs": 4.5},
    "regularizer": {"patience_epochs": 4, "l2": 0.0},
    "trainer": {"epochs": 5},
}


def changed(key, value):
    group, inner = key.split(".")
    return SOUND | {group: SOUND[group] | {inner: value}}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("optimizer.momentum", 0, "optimizer.nesterov is true and optimizer.momentum is 0"),
        ("scheduler.warmup_epochs", 5, "the warm-up must end before the training does"),
        ("trainer.epochs", 4, "scheduler.warmup_epochs is 4.5 and trainer.epochs is 4"),
        ("regularizer.patience_epochs", 5, "regularizer.patience_epochs is 5 and trainer.epochs is 5"),
        ("regularizer.l2", 0.001, "optimizer.weight_decay and regularizer.l2 both"),
    ],
)
def test_contradictions(key, value, told):
    rules.validate(SOUND)
    with pytest.raises(UserError, match=told):
        rules.validate(changed(key, value))


def test_a_bag_needs_several_models():
    holdout, kfold = (
        {"name": name, "_target_": f"hypermap.data.cross_validation.{part}"}
        for name, part in (("holdout", "Holdout"), ("kfold", "KFold"))
    )
    bag = SOUND | {"final": "bag", "validation": holdout}
    with pytest.raises(
        UserError, match=r"validation is holdout, which has one: set validation=kfold .* or take final=refit"
    ):
        rules.validate(bag)
    rules.validate(bag | {"validation": kfold})
    rules.validate(bag | {"trainer": SOUND["trainer"] | {"repeats": 2}})
    rules.validate(bag | {"final": "refit"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.nesterov", False),
        ("optimizer.weight_decay", 0.0),
        ("regularizer.patience_epochs", None),
        ("trainer.epochs", 6),
        ("scheduler.warmup_epochs", 0),
    ],
)
def test_no_contradiction(key, value):
    rules.validate(changed(key, value))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainer": {"batch_size": 2}}, "batch_size is 2: .* at most trainer.processes=2"),
        ({"trainer": {"compile": True}}, "trainer.compile is true: torch.compile is for one process"),
        ({"trainer": {"backend": "native"}}, "trainer.backend is native, .* trainer.backend=auto"),
        ({"trainer": {"device": "cuda:1"}}, "trainer.device is cuda:1, one device: take trainer.device=cuda"),
        ({"trainer": {"device": "mps"}}, "trainer.device is mps, the one GPU of a Mac"),
        (
            {"model": {"name": "random_forest", "_target_": "hypermap.models.sklearn_models.RandomForest"}},
            "model is random_forest, which is fitted in one process: set trainer.processes=1",
        ),
    ],
)
def test_what_several_processes_cannot_have(changes, told):
    trainer = {"epochs": 5, "batch_size": 64, "backend": "auto", "device": "cuda", "compile": False, "processes": 3}
    rules.validate({"trainer": trainer, "model": {"_target_": "hypermap.models.MLP"}})
    configuration = {**changes, "trainer": {**trainer, **changes.get("trainer", {})}}
    with pytest.raises(UserError, match=f"^trainer.processes is 3 and .*{told}"):
        rules.validate(configuration)
    rules.validate({**configuration, "trainer": {**configuration["trainer"], "processes": 1}})


def test_without_one_of_two_settings_there_is_no_contradiction():
    rules.validate({"optimizer": {"weight_decay": 0.1}, "scheduler": {"warmup_epochs": 9}, "seed": 0})


def test_all_mistakes_are_told_together():
    with pytest.raises(UserError) as told:
        rules.validate(changed("optimizer.momentum", 0) | {"seed": -1, "evaluation": {"confidence": 2}})
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    assert [line.split()[0] for line in lines] == ["seed", "evaluation.confidence", "optimizer.nesterov"]


@pytest.mark.parametrize(("target", "allowed"), [("my_network.Net", True), ("hypermap.models.MLP", False)])
def test_the_table_does_not_speak_of_other_peoples_code(target, allowed):
    configuration = {"model": {"_target_": target, "hidden": "many"}}
    if allowed:
        rules.validate(configuration)
    else:
        with pytest.raises(UserError, match=r"model\.hidden is 'many'"):
            rules.validate(configuration)


@pytest.mark.parametrize(
    ("value", "default"),
    [(1, 2), (1, 0.5), (0.5, 1.5), ("a", "b"), ([], [1]), (True, False), (None, 3), ("a", None), ({}, {"a": 1})],
)
def test_kinds_that_pass(value, default):
    rules.check_kind("group.key", value, default)


@pytest.mark.parametrize(
    ("value", "default", "needed"),
    [
        (1.5, 2, "a whole number, such as 2"),
        (True, 2, "a whole number, such as 2"),
        (True, 0.5, "a number, such as 0.5"),
        ("1", 0.5, "a number, such as 0.5"),
        (1, True, "true or false, such as True"),
        (1, "a", "a word, such as 'a'"),
        ("a", [1], r"a list, such as \[1\]"),
        ({"a": 1}, 3, "a whole number, such as 3"),
        (3, {"a": 1}, "a mapping, such as {'a': 1}"),
    ],
)
def test_kinds_that_do_not(value, default, needed):
    with pytest.raises(UserError, match=f"group.key is .*; it must be {needed}"):
        rules.check_kind("group.key", value, default)
