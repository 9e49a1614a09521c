"""Trainings carried out together, beside each carried out by itself: what they leave, and how they end."""

import copy
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hypermap.core import checkpoint
from hypermap.core import device as machine
from hypermap.core.errors import Diverged, Interrupted, OutOfMemory, Paused, Pruned, UserError
from hypermap.core.paths import SOURCES
from hypermap.data.cross_validation import repeat_seed
from hypermap.data.fold_data import Folds
from hypermap.datasets import prepare
from hypermap.experiments import run, scheduler
from hypermap.experiments.cross_validator import CrossValidator
from hypermap.experiments.memory import SHARE, most_members
from hypermap.models import MLP
from hypermap.training.backends import batched, choice, native
from hypermap.training.loop import Trainer
from support.configurations import QUICK_MLP

PARTS = {
    "data": {"name": "digits"},
    **QUICK_MLP,
    "evaluation": {"bootstrap_repeats": 100, "confidence": 0.95},
}
SOURCE = {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 320}
THREE_FOLDS = {"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 3}
SGD = {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
WILD = {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 1e20}
# Configurations that are one stack.
FOUR = [
    {"seed": 1, "model": {"dropout": 0.2}},
    {"seed": 2, "model": {"dropout": 0.5}, "optimizer": {"lr": 0.003}, "regularizer": {"l2": 0.001, "clip_norm": 1.0}},
    {"seed": 3, "model": {"dropout": 0.1}, "loss": {"label_smoothing": 0.1}, "optimizer": SGD},
    {"seed": 4, "model": {"dropout": 0.1}, "trainer": {"epochs": 2, "monitor": "loss"}},
]
TOO_MUCH = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"
NETWORKS = """
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, input_shape, outputs, dropout=0.0):
        super().__init__()
        self.layer = nn.LSTM(8, 6, batch_first=True)
        self.output = nn.Linear(6, outputs)

    def forward(self, inputs):
        return self.output(self.layer(inputs.flatten(1).unflatten(1, (8, 8)))[0][:, -1])


class Broken(Recurrent):
    def forward(self, inputs):
        raise AttributeError("a mistake in somebody's network")


class Drops(nn.Sequential):
    def __init__(self, input_shape, outputs):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.2), nn.Linear(8, outputs))
"""
KILLED = """
import json, os, signal, sys
from pathlib import Path
from hypermap.experiments import run
from hypermap.training import loop
prepared, at, orders = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
loop.SAVING_SHARE = float("inf")
every = [
    run.TrainingRequest(order, prepared, Path(str(number), "models"), Path(str(number), "validation.json"))
    for number, order in enumerate(orders)
]
def tell(told):
    if max(step for step, _ in told.values()) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}
run.train_together(dict(enumerate(every)), tell, lambda number, result: None, print)
"""

stacking = pytest.mark.parametrize("backend", ["batched", "vmap", "native"])
kernel = pytest.mark.parametrize("backend", ["native"])
pytestmark = pytest.mark.usefixtures("a_place_of_its_own")


@pytest.fixture(autouse=True)
def own_measurements(monkeypatch):
    monkeypatch.setattr(scheduler, "_measured", {})


@pytest.fixture(autouse=True)
def compiler(request):
    """A test of the kernel needs it."""
    named = getattr(getattr(request.node, "callspec", None), "params", {}).values()
    if "native" in named and choice.why_no_compiler() is not None:
        pytest.skip(choice.why_no_compiler())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The data, without its test rows: training has no use for them."""
    folder = tmp_path_factory.mktemp("prepared") / "digits"
    prepare.prepare_settings(folder, SOURCE)
    (folder / "test.safetensors").unlink()
    return folder


def order(**changes):
    """A configuration; ``trainer={"epochs": 1}`` changes a value of a group, which a `_target_` replaces."""
    made = copy.deepcopy(PARTS)
    made["data"] |= SOURCE
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) and "_target_" not in value else value
    return made


def by(backend, *every):
    """Configurations in which a backend is named."""
    return [{**one, "trainer": {**one.get("trainer", {}), "backend": backend}} for one in every]


def heard(told):
    return {}


def asked_for(prepared, changes, folder, **settings):
    return run.TrainingRequest(
        order(**changes), prepared, Path(folder, "models"), Path(folder, "reports/validation.json"), **settings
    )


def train(prepared, changes, folder="alone", **settings):
    return run.train(asked_for(prepared, changes, folder, **settings))


def named(requests):
    """Requests by themselves, which is what `run.train_together` then reports on."""
    return {one: one for one in requests}


def train_all(prepared, every, *, tell=heard, folder="together", settings=({},)):
    """Train together; returns for each its result, or the error that ended it, and what was said of it."""
    settings = settings * len(every) if len(settings) == 1 else settings
    asked = [
        asked_for(prepared, one, Path(folder, str(number)), **own)
        for number, (one, own) in enumerate(zip(every, settings, strict=True))
    ]
    results, reasons = {}, {}

    def end(which, result):
        assert which not in results
        if isinstance(result, Exception) and not isinstance(result, UserError | Pruned | Paused):
            raise result
        results[which] = result

    run.train_together(named(asked), lambda told: tell(told), end, reasons.__setitem__)
    assert results.keys() == set(asked)
    return [results[one] for one in asked], [reasons.get(one) for one in asked]


def read_history(folder):
    with Path(folder, "models/history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def content(folder):
    """All that a training leaves, byte for byte."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert paths
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def states():
    return [path for path in Path("runs").rglob("*") if path.name not in ("lock", "history.csv") and path.is_file()]


def assert_alike(result, folder, expected, beside):
    """What two trainings came to and left behind, whose sums may be rounded in another order."""
    ours, theirs = read_history(folder), read_history(beside)
    assert len(ours) == len(theirs) == result.epochs == expected.epochs
    for name in ("train_loss", "validation_loss", "gradient_norm", "learning_rate"):
        np.testing.assert_allclose([row[name] for row in ours], [row[name] for row in theirs], rtol=1e-4)
    assert result.metrics.keys() == expected.metrics.keys()
    for name, value in expected.metrics.items():
        assert result.metrics[name] == pytest.approx(value, rel=1e-3, abs=0.02), name
    for name, tensor in load_file(Path(beside, "models/model.safetensors")).items():
        torch.testing.assert_close(
            load_file(Path(folder, "models/model.safetensors"))[name], tensor, rtol=1e-3, atol=1e-4
        )
    assert (result.best_epoch, result.parameters, result.monitor) == (
        expected.best_epoch,
        expected.parameters,
        expected.monitor,
    )


def sizes(monkeypatch):
    """How many members each stack begins with, from here on."""
    seen, made = [], Trainer.__init__

    def watched(self, members, *args, **kwargs):
        seen.append(len(members))
        made(self, members, *args, **kwargs)

    monkeypatch.setattr(Trainer, "__init__", watched)
    return seen


def takes(monkeypatch, **seconds):
    """Let a step of a member take so long by each backend; a backend that is not named fails."""

    def measured(name, members, *args):
        if name not in seconds:
            raise RuntimeError(f"no {name} today")
        return seconds[name] * len(members), torch.ones(1, 2)

    monkeypatch.setattr(choice, "_timed", measured)


# The same as alone.


@stacking
def test_each_comes_to_what_it_would_by_itself(prepared, backend, monkeypatch):
    seen, steps = sizes(monkeypatch), []
    results, reasons = train_all(prepared, by(backend, *FOUR), tell=lambda told: steps.append([*told.values()]) or {})
    assert seen == [4]
    assert reasons == [None] * 4
    assert [len(told) for told in steps] == [4, 4, 3]
    assert states() == []
    for number, changes in enumerate(FOUR):
        expected = train(prepared, changes, f"alone/{number}")
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")
        assert (results[number].backend, expected.backend) == (backend, "eager")
        assert results[number].scores == [results[number].objective]
        assert content(f"together/{number}").keys() == content(f"alone/{number}").keys()
        record = json.loads(Path(f"together/{number}/models/model.json").read_text())
        assert record["configuration"] == order(**by(backend, changes)[0])


@kernel
def test_by_the_kernel_each_leaves_the_bytes_that_it_would_by_itself(prepared, backend):
    every = by(backend, *FOUR)
    train_all(prepared, every)
    train_all(prepared, every[2:], folder="fewer")
    for number, changes in enumerate(every):
        train(prepared, changes, f"alone/{number}")
        assert content(f"together/{number}") == content(f"alone/{number}")
    assert content("fewer/0") == content("together/2")
    assert content("fewer/1") == content("together/3")


@stacking
def test_one_that_is_alone_in_its_stack(prepared, backend):
    [result], _ = train_all(prepared, by(backend, FOUR[0]))
    assert_alike(result, "together/0", train(prepared, FOUR[0]), "alone")


@stacking
def test_the_epochs_are_told_of_all_at_once_and_ends_as_they_come(prepared, backend):
    told_of = []

    def tell(told):
        told_of.append({asked.configuration["seed"]: value for asked, value in told.items()})
        return {
            asked: Pruned("others did better")
            for asked, (step, _) in told.items()
            if (asked.configuration["seed"], step) == (2, 2)
        }

    every = by(backend, *FOUR)
    results, _ = train_all(prepared, every, tell=tell)
    assert [set(told) for told in told_of] == [{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 3}]
    assert isinstance(results[1], Pruned)
    assert not Path("together/1").exists()
    assert states() == []
    for number, seed in enumerate((1, 2, 3, 4)):
        if seed != 2:
            column = "validation_loss" if seed == 4 else "validation_score"
            history = [row[column] for row in read_history(f"together/{number}")]
            assert [told[seed][1] for told in told_of if seed in told] == history
            expected = train(prepared, FOUR[number], f"alone/{number}")
            assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")


@stacking
def test_one_that_diverges_is_told_so_and_the_others_are_as_they_would_be(prepared, backend):
    every = by(backend, FOUR[0], {**FOUR[1], "optimizer": WILD}, FOUR[2])
    results, _ = train_all(prepared, every)
    assert isinstance(results[1], Diverged)
    assert "in epoch 1, step 2 of" in str(results[1]) or "in epoch 1, step 3 of" in str(results[1])
    with pytest.raises(Diverged) as expected:
        train(prepared, {**FOUR[1], "optimizer": WILD})
    assert str(results[1]).partition(" in epoch ")[2] == str(expected.value).partition(" in epoch ")[2]
    assert not Path("together/1").exists()
    assert states() == []
    for number in (0, 2):
        expected = train(prepared, FOUR[number], f"alone/{number}")
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")


def test_settings_that_do_not_fit_end_their_own_training(prepared):
    every = by("batched", FOUR[0], {"optimizer": {"momentum": 0.5}}, FOUR[2], {"scheduler": {"warmup_epochs": 9}})
    every[3]["model"] = FOUR[0]["model"]
    results, _ = train_all(prepared, every)
    assert "does not take 'momentum'" in str(results[1])
    assert "the warm-up must be shorter" in str(results[3])
    assert [result.epochs for result in (results[0], results[2])] == [3, 3]


REFUSED = [
    ({"optimizer": {"betas": [2.0, 0.9]}}, "refuses its settings"),
    ({"loss": {"class_weights": [1, 2]}}, "class_weights has 2 weights; the data has 10 classes"),
]


@pytest.mark.parametrize("backend", ["auto", "batched"])
@pytest.mark.parametrize(("mistake", "told"), REFUSED)
def test_settings_that_are_refused_end_their_own_training(prepared, monkeypatch, backend, mistake, told):
    takes(monkeypatch, eager=1.0, batched=0.1)
    every = by(backend, {"seed": 1, **mistake}, {"seed": 2}, {"seed": 3})
    results, _ = train_all(prepared, every)
    assert told in str(results[0])
    assert [(result.backend, result.epochs) for result in results[1:]] == [("batched", 3)] * 2


@stacking
def test_weights_that_do_not_suit_the_rows_end_their_own_training(prepared, backend, monkeypatch):
    folds = Folds(prepared, keep=True)
    folds.of(folds.development.holdout).train.targets.clamp_(max=8)  # no row of the class 9 is left
    monkeypatch.setattr(run, "Folds", lambda *args, **settings: folds)
    every = by(backend, {"seed": 1, "loss": {"class_weights": "balanced"}}, {"seed": 2}, {"seed": 3})
    results, _ = train_all(prepared, every)
    assert "classes [9] have no training rows" in str(results[0])
    assert [result.epochs for result in results[1:]] == [3, 3]


# Who is stacked with whom, and by what.


def test_folds_that_cannot_be_prepared_end_their_own_training(prepared, monkeypatch):
    """As data.pca does, where a fold has fewer rows than it has components."""
    transformed = Folds._transformed

    def refuses(self, fold):
        if fold is not self.development.holdout:
            raise UserError("too few rows")
        return transformed(self, fold)

    monkeypatch.setattr(Folds, "_transformed", refuses)
    results, _ = train_all(prepared, by("batched", FOUR[0], {"validation": THREE_FOLDS}, FOUR[1]))
    assert [type(result) for result in results] == [run.Result, UserError, run.Result]
    assert states() == []


def test_those_that_fit_are_stacked_and_it_is_said_why_others_are_not(prepared, monkeypatch):
    seen = sizes(monkeypatch)
    takes(monkeypatch, eager=1.0, batched=0.1)
    every = [
        {"seed": 1},
        {"seed": 2, "model": {"dropout": 0.3}},
        {"seed": 3, "optimizer": SGD},
        {"seed": 4, "model": {"hidden": [12]}},
        {"seed": 5, "model": {"dropout": 0.1}},
        {"seed": 6, "trainer": {"batch_size": 32}},
        {"seed": 7, "model": {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"}},
    ]
    results, reasons = train_all(prepared, every)
    assert sorted(seen) == [1, 1, 2, 2]
    assert [result.backend for result in results] == ["batched"] * 3 + ["eager", "batched", "eager", "eager"]
    assert [reason is None for reason in reasons] == [True, True, True, False, True, False, False]
    assert (
        reasons[3]
        == reasons[5]
        == "no other of these has its network, data and batch size, or can be trained by the same backend"
    )
    assert reasons[6] == "a model of scikit-learn is fitted by itself"


SHIFT = {"augment": {"name": "shift", "_target_": "hypermap.training.augment.Augment", "shift": 1}}
AMSGRAD = {"optimizer": {"amsgrad": True}}


@pytest.mark.parametrize("odd", [SHIFT, AMSGRAD])
@pytest.mark.parametrize("numbers", [(0, 2), (1, 3)])
def test_what_the_kernel_cannot_train_is_a_stack_of_its_own(prepared, monkeypatch, odd, numbers):
    takes(monkeypatch, eager=1.0, native=0.1, batched=0.5)
    monkeypatch.setattr(choice, "why_no_compiler", lambda: None)
    every = [{"seed": seed, **(odd if seed in numbers else {}), "trainer": {"epochs": 1}} for seed in range(4)]
    seen, made = [], choice.make

    def by_torch(name, members, *args, **settings):
        seen.append((name, len(members)))
        return made("batched", members, *args, **settings)

    monkeypatch.setattr(choice, "make", by_torch)
    results, _ = train_all(prepared, every)
    assert sorted(seen) == [("batched", 2), ("native", 2)]
    expected = ["batched" if seed in numbers else "native" for seed in range(4)]
    assert [result.backend for result in results] == expected


@kernel
def test_of_those_that_ask_for_the_kernel_who_cannot_have_it_ends_alone(prepared, backend):
    results, _ = train_all(prepared, by(backend, {"seed": 1}, SHIFT, {"seed": 3}))
    assert "the native kernel does not augment" in str(results[1])
    assert [results[0].epochs, results[2].epochs] == [3, 3]


@pytest.mark.parametrize(
    ("seconds", "backend", "reason"),
    [
        ({"eager": 1.0, "native": 0.5, "batched": 0.6, "vmap": 0.4}, "vmap", None),
        ({"eager": 1.0, "native": 0.5, "batched": 0.3, "vmap": 0.4}, "batched", None),
        ({"eager": 1.0, "native": 2.0, "batched": 1.5}, "eager", "a stack (batched) would take 1.5 times as long here"),
        ({"eager": 1.0}, "eager", "no vmap today"),
    ],
)
def test_it_is_measured_which_backend_is_the_fastest(prepared, monkeypatch, seconds, backend, reason):
    seen = sizes(monkeypatch)
    takes(monkeypatch, **seconds)
    results, reasons = train_all(prepared, FOUR[:2])
    assert [result.backend for result in results] == [backend] * 2
    assert reasons == [reason] * 2
    assert seen == ([1, 1] if backend == "eager" else [2])
    expected = train(prepared, FOUR[1])
    assert_alike(results[1], "together/1", expected, "alone")


@stacking
def test_data_prepared_in_other_ways_may_be_one_stack(prepared, monkeypatch, backend):
    """Such as where a sweep searches the scaling."""
    prepare.prepare_settings(Path("scaled"), {**SOURCE, "scaling": "standard"})
    folders = [prepared, Path("scaled"), Path("scaled"), prepared]
    every = by(backend, *FOUR)
    asked = [
        asked_for(folder, one, f"together/{n}") for n, (folder, one) in enumerate(zip(folders, every, strict=True))
    ]
    seen, results = sizes(monkeypatch), {}
    run.train_together(named(asked), heard, results.__setitem__, print)
    assert seen == [4]
    for number in range(4):
        expected = train(folders[number], FOUR[number], f"alone/{number}")
        assert_alike(results[asked[number]], f"together/{number}", expected, f"alone/{number}")


@pytest.mark.parametrize(
    ("changes", "seconds", "size"),
    [
        ({}, {"eager": 1.0, "batched": 0.5}, scheduler.MOST),
        ({}, {"eager": 1.0, "batched": 1.5}, 1),
        ({"trainer": {"backend": "batched"}}, {}, scheduler.MOST),
        ({"trainer": {"backend": "eager"}}, {}, 1),
        ({"model": {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"}}, {}, 1),
    ],
)
def test_the_size_of_a_stack_that_pays(prepared, monkeypatch, changes, seconds, size):
    takes(monkeypatch, **seconds)
    validator = CrossValidator(order(**changes), prepared)
    assert scheduler.stack_size(validator) == size
    monkeypatch.setattr(scheduler, "free_memory", holding(prepared, 3))
    assert scheduler.stack_size(validator) == min(size, 3)


def test_what_trains_by_itself_in_any_case_is_not_measured(prepared, monkeypatch):
    """To compile a network takes minutes."""
    takes(monkeypatch)
    validators = [CrossValidator(order(trainer={"compile": True}, seed=seed), prepared) for seed in (1, 2)]
    reasons = scheduler.choose_backends({number: (validator, 1, None) for number, validator in enumerate(validators)})
    assert reasons == dict.fromkeys((0, 1), "trainer.compile=true is for one training at a time")
    assert [validator.estimator.backend for validator in validators] == ["eager"] * 2


def test_a_measurement_is_real_and_leaves_no_trace(prepared):
    results, _ = train_all(prepared, FOUR[:2])
    for number, changes in enumerate(FOUR[:2]):
        expected = train(prepared, changes, f"alone/{number}")
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")


@pytest.mark.parametrize("backend", ["auto", "eager", "vmap"])
def test_a_mistake_in_ones_own_network_ends_who_has_it(prepared, monkeypatch, backend):
    Path("own_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    broken, recurrent = ({"name": "own", "_target_": f"own_networks.{name}"} for name in ("Broken", "Recurrent"))
    models = [{}, {"model": broken}, {"model": broken}, {"model": recurrent}, {}]
    every = by(backend, *({"seed": seed, **model} for seed, model in enumerate(models)))
    asked = [asked_for(prepared, one, f"together/{number}") for number, one in enumerate(every)]
    ends = {}
    run.train_together(named(asked), heard, ends.__setitem__, lambda *_: None)
    for one in (asked[0], asked[4]):
        assert ends[one].epochs == 3
    for one in asked[1:3]:
        assert isinstance(ends[one], AttributeError)
        assert re.search("a mistake in somebody's network", str(ends[one]))
    if backend == "vmap":  # which has no rule for it
        assert isinstance(ends[asked[3]], UserError)
        assert re.search(r"Batching rule.*trainer.backend=auto or eager", str(ends[asked[3]]))
    else:
        assert ends[asked[3]].epochs == 3
    assert states() == []


@pytest.mark.parametrize("network", ["Recurrent", "Drops"])
def test_a_network_that_cannot_be_stacked_trains_by_itself(prepared, monkeypatch, network):
    Path("own_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    model = {"name": "own", "_target_": f"own_networks.{network}"}
    seen = sizes(monkeypatch)
    every = [{"seed": seed, "model": model, "trainer": {"epochs": 1}} for seed in (1, 2)]
    results, reasons = train_all(prepared, every)
    assert seen == [1, 1]
    assert [result.backend for result in results] == ["eager"] * 2
    assert all(reason for reason in reasons)
    train(prepared, every[1])
    assert content("together/1") == content("alone")


@pytest.mark.parametrize("backend", ["batched", "native"])
def test_a_backend_that_cannot_ends_those_that_ask_for_it(prepared, backend):
    cnn = {"name": "cnn", "_target_": "hypermap.models.CNN", "channels": [4], "dense": [], "kernel_size": 3}
    every = by(backend, FOUR[0], {"model": cnn}, {"seed": 9, "model": cnn}, FOUR[1])
    results, _ = train_all(prepared, every)
    for result in results[1:3]:
        assert f"trainer.backend is {backend}, which cannot train this" in str(result)
        assert "Here it can be auto, vmap" in str(result)
    assert [results[0].epochs, results[3].epochs] == [3, 3]
    with pytest.raises(UserError, match=f"trainer.backend is {backend}, which cannot train this"):
        train(prepared, every[1])


def test_a_backend_that_is_none(prepared):
    with pytest.raises(
        UserError, match=r"trainer.backend is 'nativ' \(did you mean 'native'\?\); it can be auto, eager"
    ):
        train(prepared, by("nativ", {})[0])


# Memory.


def holding(prepared, members):
    """The free memory that holds so many of `FOUR`."""
    rows = Folds(prepared).of(Folds(prepared).development.holdout).train
    held = most_members(MLP((1, 8, 8), 10, hidden=[16], dropout=0.1), rows.inputs, 10, 64, 2**40)
    return lambda device=None: int(2**40 / held * (members + 0.5))


@stacking
@pytest.mark.parametrize("members", [1, 2, 3])
def test_a_stack_is_as_large_as_memory_holds(prepared, monkeypatch, backend, members):
    assert SHARE < 1
    monkeypatch.setattr(scheduler, "free_memory", holding(prepared, members))
    seen = sizes(monkeypatch)
    results, _ = train_all(prepared, by(backend, *FOUR))
    assert seen == {1: [1, 1, 1, 1], 2: [2, 2], 3: [3, 1]}[members]
    for number in (0, 3):
        expected = train(prepared, FOUR[number], f"alone/{number}")
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")


@pytest.mark.parametrize(
    ("backend", "kind", "error"),
    [("batched", batched.Batched, RuntimeError(TOO_MUCH)), ("native", native.Native, OutOfMemory("no room"))],
)
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stack_for_which_memory_does_not_suffice_is_halved(prepared, monkeypatch, backend, kind, error, epoch):
    steps, seen, failed = kind.train_steps, sizes(monkeypatch), []

    def greedy(self, *args):
        assert not any(stack() for stack in failed)  # what was too large is gone
        if len(self.members) > 2 and all(member.epochs == epoch - 1 for member in self.members):
            failed.append(weakref.ref(self))
            raise type(error)(str(error))
        return steps(self, *args)

    monkeypatch.setattr(kind, "train_steps", greedy)
    every = by(backend, *FOUR, {"seed": 5, "model": {"dropout": 0.3}})
    told_of = {}
    results, _ = train_all(
        prepared, every, tell=lambda told: [told_of.setdefault(one, []).append(v) for one, v in told.items()] and {}
    )
    assert seen == [5, 3, 2, 1, 2]
    for asked, told in told_of.items():
        assert {step for step, _ in told} == set(range(1, asked.configuration["trainer"]["epochs"] + 1))
    for number in range(4):
        expected = train(prepared, FOUR[number], f"alone/{number}")
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")
    assert results[4].epochs == 3


def test_one_for_which_memory_does_not_suffice_by_itself_ends_so(prepared, monkeypatch):
    steps = batched.Batched.train_steps

    def greedy(self, *args):
        if any(member.base_lr == 0.003 for member in self.members):
            raise RuntimeError(TOO_MUCH)
        return steps(self, *args)

    monkeypatch.setattr(batched.Batched, "train_steps", greedy)
    results, _ = train_all(prepared, by("batched", *FOUR))
    assert isinstance(results[1], OutOfMemory)
    assert [result.epochs for result in results[:1] + results[2:]] == [3, 3, 2]
    assert states() == []


# Folds and seeds as members.


SEVERAL = {"folds": {"validation": THREE_FOLDS}, "seeds": {"trainer": {"repeats": 3}}}


@stacking
@pytest.mark.parametrize("name", SEVERAL)
def test_folds_and_seeds_are_a_stack_with_the_scores_of_each_alone(prepared, monkeypatch, backend, name):
    changes = {"model": {"dropout": 0.2}, **SEVERAL[name]}
    changes["trainer"] = {"monitor": "loss", **changes.get("trainer", {})}
    expected = train(prepared, changes, "alone")
    seen, reported = sizes(monkeypatch), []
    result = train(prepared, by(backend, changes)[0], "together", report=lambda *told: reported.append(told))
    # Of 256 rows, two folds leave as many to learn from and one leaves another number.
    assert seen == ([2, 1, 1] if name == "folds" else [3])  # the last of the folds' is the model to keep
    assert sorted(reported) == list(enumerate(result.scores, 1))
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4)
    assert_alike(result, "together", expected, "alone")
    if backend == "native":
        monkeypatch.setattr(scheduler, "most_members", lambda *args: 1)
        train(prepared, by(backend, changes)[0], "singly")
        assert content("singly") == content("together")
        if name == "seeds":
            del changes["trainer"]["repeats"]
            seeds = [4, repeat_seed(4, 1), repeat_seed(4, 2)]
            each = [train(prepared, {**by(backend, changes)[0], "seed": seed}, str(seed)) for seed in seeds]
            assert result.scores == [one.objective for one in each]


@pytest.mark.parametrize("backend", ["vmap", "native"])
def test_trials_of_several_fits_share_stacks(prepared, monkeypatch, backend):
    every = by(
        backend,
        {"seed": 1, "trainer": {"repeats": 2}},
        {"seed": 2, "trainer": {"repeats": 3, "epochs": 2}, "optimizer": {"lr": 0.003}},
        {"seed": 3},
    )
    seen, reported, told_of = sizes(monkeypatch), {0: [], 1: [], 2: []}, []
    settings = [{"report": lambda *told, to=reported[number]: to.append(told)} for number in range(3)]
    results, _ = train_all(
        prepared,
        every,
        settings=settings,
        tell=lambda told: told_of.append([a.configuration["seed"] for a in told]) or {},
    )
    assert seen == [6]
    assert told_of == [[3]] * 3
    assert reported == {0: list(enumerate(results[0].scores, 1)), 1: list(enumerate(results[1].scores, 1)), 2: []}
    for number, changes in enumerate(every):
        del changes["trainer"]["backend"]
        expected = train(prepared, changes, f"alone/{number}")
        np.testing.assert_allclose(results[number].scores, expected.scores, atol=0.02)
        assert_alike(results[number], f"together/{number}", expected, f"alone/{number}")


@pytest.mark.parametrize(
    ("preparation", "model"),
    [({}, {}), ({"oversample": True}, {}), ({"categories": "embedding"}, {"_target_": "hypermap.models.TabularMLP"})],
)
def test_folds_that_know_other_categories_or_have_other_rows_are_no_stack(monkeypatch, preparation, model):
    random = np.random.default_rng(0)
    words = random.choice(list("abcdefgh"), 120, p=[0.4, 0.3, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01])
    classes = random.choice(["no", "yes"], 120, p=[0.7, 0.3])
    lines = [f"{k % 9},{word},{own}" for k, (word, own) in enumerate(zip(words, classes, strict=True))]
    Path("my.csv").write_text("\n".join(["x,word,y", *lines]) + "\n")
    table = {
        "_target_": "hypermap.datasets.tables.dataset.table",
        "path": "my.csv",
        "target": "y",
        "rare": 2,
        "test": 0.2,
    } | preparation
    prepare.prepare_settings(Path("table"), table)
    chosen = {"_target_": "hypermap.models.MLP", "hidden": [8], **model}
    plain = {
        "data": {"name": "table", **table},
        "model": {"name": "own", **chosen},
        "loss": {"name": "auto", "_target_": "hypermap.tasks.losses.Auto"},
        "validation": {
            "name": "kfold",
            "_target_": "hypermap.data.cross_validation.KFold",
            "k": 4,
            "stratified": False,
        },
        "trainer": {"monitor": "loss", "batch_size": 32},
    }
    expected = train(Path("table"), plain)
    seen = sizes(monkeypatch)
    result = train(Path("table"), by("vmap", plain)[0], "together")
    assert sum(seen) == 5  # with the model to keep
    assert len(seen) > 2
    np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-4)


def test_a_pruned_trial_of_several_fits_takes_its_other_fits_along(prepared, monkeypatch):
    """Of the first trial one fit ends early, and with it the whole; its other fit had saved states since."""
    monkeypatch.setattr("hypermap.training.loop.SAVING_SHARE", float("inf"))
    stops = {"epochs": 6, "repeats": 2}
    every = by("batched", {"seed": 1, "trainer": stops, "regularizer": {"patience_epochs": 1}}, {"seed": 2})
    scores = iter([0.9, 0.5, 0.5, 0.1, 0.6, 0.5, 0.1, 0.7, 0.5, 0.8, 0.6])
    measure = Trainer.evaluate
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self: [{**row, "validation_score": next(scores)} for row in measure(self)]
    )

    def report(step, value):
        raise Pruned("others did better")

    results, _ = train_all(prepared, every, settings=[{"report": report}, {}])
    assert isinstance(results[0], Pruned)
    assert results[1].epochs == 3
    assert states() == []


@stacking
def test_a_prediction_is_timed_on_the_threads_of_a_training_by_itself(prepared, backend, monkeypatch):
    monkeypatch.setattr(machine, "CORES", 2)
    monkeypatch.setattr(machine, "latency_ms", lambda *_: float(torch.get_num_threads()))
    every = by(backend, *({"seed": seed, "trainer": {"threads": None, "epochs": seed}} for seed in (1, 2)))
    results, _ = train_all(prepared, every, settings=[{"measure_latency": True}])
    assert [(result.latency_ms, result.threads) for result in results] == [(1.0, 1)] * 2


# Interrupted, and taken up again.


def interrupting(epoch):
    def tell(told):
        if max(step for step, _ in told.values()) == epoch:
            raise Interrupted
        return {}

    return tell


@stacking
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_stack_goes_on(prepared, backend, epoch):
    every = by(backend, *FOUR)
    results, _ = train_all(prepared, every, folder="whole")
    with pytest.raises(Interrupted):
        train_all(prepared, every, tell=interrupting(epoch))
    assert len(list(Path("runs").glob("*/progress.json"))) == 4
    first = []
    again, _ = train_all(prepared, every, tell=lambda told: first.append(min(told.values())[0]) or {})
    assert first[: epoch + 1] == [*range(1, epoch + 2)]
    for number in range(4):
        if backend == "native":
            assert content(f"together/{number}") == content(f"whole/{number}")
        assert_alike(again[number], f"together/{number}", results[number], f"whole/{number}")
    assert states() == []


@kernel
def test_a_stack_that_is_killed_goes_on_to_the_same_bytes(prepared, backend, forks):
    every = by(backend, *FOUR)
    train_all(prepared, every, folder="whole")
    environment = {**os.environ, **forks.heavy, "PYTHONPATH": str(SOURCES)}
    orders = json.dumps([order(**changes) for changes in every])
    command = ["python", "-c", KILLED, str(prepared), "2", orders]
    killed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(Path("runs").glob("*/progress.json"))) == 4
    train_all(prepared, every)
    for number in range(4):
        assert content(f"together/{number}") == content(f"whole/{number}")
    assert states() == []


@stacking
def test_one_that_is_paused_leaves_its_stack_and_goes_on_in_another(prepared, backend, monkeypatch):
    """Its state is left though those of the others are not, and the others go on as if nothing had happened."""
    monkeypatch.setattr("hypermap.training.loop.SAVING_SHARE", 0.0)
    every = by(backend, *FOUR)
    results, _ = train_all(prepared, every, folder="whole")

    def pausing(told):
        return {asked: Paused() for asked, (step, _) in told.items() if step == 2 and asked.configuration["seed"] == 2}

    first, _ = train_all(prepared, every, tell=pausing)
    assert [isinstance(one, Paused) for one in first] == [False, True, False, False]
    [state] = Path("runs").glob("*/progress.json")
    assert len(json.loads(state.read_text())["history"]) == 2
    told = []
    again, _ = train_all(prepared, every[1:3], tell=lambda all_: told.extend(all_.values()) or {}, folder="again")
    assert sorted(step for step, _ in told) == [1, 1, 2, 2, 3, 3]
    assert_alike(again[0], "again/0", results[1], "whole/1")
    if backend == "native":
        assert content("again/0") == content("whole/1")
        for number in (0, 2, 3):
            assert content(f"together/{number}") == content(f"whole/{number}")
    assert states() == []


@pytest.mark.parametrize("backend", ["vmap", "native"])
@pytest.mark.parametrize("error", [Paused(), Pruned()], ids=["paused", "pruned"])
@pytest.mark.parametrize("share", [0.0, float("inf")], ids=["seldom saved", "saved"])
def test_a_trial_of_several_fits_that_ends_leaves_its_other_fits_what_they_need(
    prepared, monkeypatch, backend, error, share
):
    """Whoever is told of its end removes its states, as a sweep does with those of a trial that has ended."""
    monkeypatch.setattr("hypermap.training.loop.SAVING_SHARE", share)
    folds = {"seed": 1, "validation": THREE_FOLDS, "trainer": {"repeats": 2}}  # six fits, which are two stacks
    every = by(backend, folds, {"seed": 2, "trainer": {"epochs": 5}})
    expected = train(prepared, every[0], "alone")
    reported, ended = [], {}

    def report(step, value):
        reported.append(step)
        if step == 1 and reported.count(1) == 1:
            raise error

    asked = [
        asked_for(prepared, one, f"trial-{number}", states=Path(f"state-{number}"), report=report)
        for number, one in enumerate(every)
    ]

    def end(which, result):
        ended[which] = result
        if isinstance(result, Pruned):
            shutil.rmtree(which.states)

    run.train_together(named(asked), heard, end, print)
    assert ended[asked[0]] is error
    assert ended[asked[1]].epochs == 5
    left = [path for path in Path("state-0").rglob("*") if path.is_file()]
    assert bool(left) == isinstance(error, Paused)
    if isinstance(error, Paused):
        trained, learn = [], Trainer.__init__
        monkeypatch.setattr(Trainer, "__init__", lambda self, m, *a, **k: trained.extend(m) or learn(self, m, *a, **k))
        result = run.train(asked[0])
        assert result.scores == pytest.approx(expected.scores, rel=1e-4)
        assert len(trained) < 7  # six fits and the model to keep: what was done is not done again


def test_what_a_stack_of_torch_began_a_training_by_itself_goes_on_with(prepared):
    """The two differ by the rounding of sums alone."""
    with pytest.raises(Interrupted):
        train_all(prepared, by("batched", *FOUR), tell=interrupting(2))
    steps = []
    result = train(prepared, FOUR[0], "together/0", report=lambda step, value: steps.append(step))
    assert steps == [1, 2, 3]
    assert_alike(result, "together/0", train(prepared, FOUR[0]), "alone")


@kernel
def test_what_the_kernel_began_it_goes_on_with_whatever_is_the_fastest_now(prepared, backend, monkeypatch):
    train(prepared, by(backend, FOUR[0])[0], "whole")
    takes(monkeypatch, eager=1.0, native=0.1)
    with pytest.raises(Interrupted):
        train_all(prepared, FOUR, tell=interrupting(2))
    monkeypatch.setattr(scheduler, "_measured", {})
    takes(monkeypatch, eager=1.0, batched=0.1)
    results, _ = train_all(prepared, FOUR[1:], folder="later")
    assert [result.backend for result in results] == ["native"] * 3
    result = train(prepared, FOUR[0], "by itself")
    assert result.backend == "native"
    for name in ("models/model.safetensors", "models/history.csv", "reports/validation.json"):
        assert Path("by itself", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.parametrize("backend", ["vmap", "native"])
def test_interrupted_folds_and_seeds_go_on(prepared, backend, monkeypatch):
    monkeypatch.setattr("hypermap.training.loop.SAVING_SHARE", float("inf"))
    changes = by(backend, {"validation": THREE_FOLDS, "trainer": {"repeats": 2, "monitor": "loss"}})[0]
    expected = train(prepared, changes, "whole")
    pauses = []

    def pause():
        pauses.append(1)
        if len(pauses) == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(prepared, changes, "together", pause=pause)
    assert states()
    again = train(prepared, changes, "together")
    if backend == "native":
        assert content("together") == content("whole")
    np.testing.assert_allclose(again.scores, expected.scores, rtol=1e-4)
    assert states() == []


@kernel
def test_who_ended_as_another_was_interrupted_is_told(prepared, backend):
    """Of two trials all fits end at once; the first tells its last fit, and the second is asked to stop."""
    every = by(backend, *({"seed": seed, "trainer": {"repeats": 2}} for seed in (1, 2, 3)))
    asked = [asked_for(prepared, one, f"whole/{number}") for number, one in enumerate(every)]
    ended = []

    def stop(step, value):
        raise Interrupted

    asked[1] = dataclasses.replace(asked[1], report=stop)
    with pytest.raises(Interrupted):
        run.train_together(named(asked), heard, lambda one, result: ended.append((one, result)), print)
    assert [one for one, _ in ended] == [asked[0], asked[2]]
    assert len(list(Path("runs").rglob("finished.json"))) == 2
    again, _ = train_all(prepared, every[1:2])
    assert again[0].scores == train(prepared, every[1]).scores


def test_a_training_whose_fits_were_all_done_as_it_was_interrupted_is_told(prepared, monkeypatch):
    every = by("vmap", {"validation": THREE_FOLDS}, {"seed": 2, "validation": THREE_FOLDS})
    whole, _ = train_all(prepared, every, folder="whole", settings=({"keep": False},))
    write = run.Experiment._write

    def interrupted(self, *results):
        raise Interrupted

    monkeypatch.setattr(run.Experiment, "_write", interrupted)
    with pytest.raises(Interrupted):
        train_all(prepared, every, settings=({"keep": False},))
    monkeypatch.setattr(run.Experiment, "_write", write)
    monkeypatch.setattr(Trainer, "run", None)  # there is nothing left to train
    again, _ = train_all(prepared, every, settings=({"keep": False},))
    assert [result.scores for result in again] == [result.scores for result in whole]
    assert states() == []


def test_a_model_to_keep_that_was_interrupted_is_trained_on_the_same_threads(prepared, monkeypatch):
    epoch, threads = Trainer.epoch, []

    def watched(self, on_epoch_end):
        if all(job.folder.name == "split" for job in self.members):
            threads.append(torch.get_num_threads())
            if len(threads) == 1:
                raise Interrupted
        return epoch(self, on_epoch_end)

    monkeypatch.setattr(Trainer, "epoch", watched)
    with pytest.raises(Interrupted):
        train(prepared, {"validation": THREE_FOLDS})
    with machine.on_threads(2):  # as a new process may have them
        train(prepared, {"validation": THREE_FOLDS})
    assert threads == [1, 1, 1, 1]  # three epochs, the first of which is begun twice


def test_states_are_written_seldom_enough_to_take_little_time(prepared, monkeypatch):
    saves, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *args: saves.append(1) or save(*args))
    train_all(prepared, by("batched", *FOUR))
    few = len(saves)
    saves.clear()
    train(prepared, FOUR[0])
    assert len(saves) == 3  # of one by itself at each epoch
    assert few < 4 * 3
