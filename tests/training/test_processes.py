"""A training on several processes, beside the same training on one."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hypermap.core.errors import Paused, ProcessLost, UserError
from hypermap.datasets import prepare
from hypermap.experiments import run
from hypermap.training import processes
from support.configurations import QUICK_MLP

pytestmark = pytest.mark.usefixtures("a_place_of_its_own")

DATASETS = {
    "digits": {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 300},
    "breast_cancer": {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard"},
}
SGD = {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9}
RESNET = {"name": "resnet", "_target_": "hypermap.models.ResNet", "width": 4, "blocks": [1, 1], "dropout": 0.2}
TABULAR = "hypermap.models.tabular"
TRAININGS = {
    "mlp": ("digits", {"model": {**QUICK_MLP["model"], "dropout": 0.3}}),
    "a remainder of fewer rows than processes": ("digits", {"trainer": {"batch_size": 34}}),
    "cnn with batch norm and augmentation": (
        "digits",
        {
            "model": RESNET,
            "optimizer": SGD,
            "augment": {"name": "shift", "_target_": "hypermap.training.augment.Augment", "shift": 1},
        },
    ),
    "class weights, which weigh the rows of a whole batch": (
        "digits",
        {
            "loss": {**QUICK_MLP["loss"], "class_weights": [1, 2, 3, 4, 5, 6, 7, 8, 9, 30]},
            "trainer": {"batch_size": 37},
        },
    ),
    "members of a table's network": (
        "breast_cancer",
        {
            "model": {"name": "tabular_mlp", "_target_": f"{TABULAR}.TabularMLP", "hidden": [16], "members": 4},
            "optimizer": SGD,
            "trainer": {"batch_size": 30},
        },
    ),
    "members that all learn from each row": (
        "breast_cancer",
        {"model": {"name": "tabm", "_target_": "hypermap.models.TabM", "hidden": [16]}, "optimizer": SGD},
    ),
    "residual blocks of a table's network": (
        "breast_cancer",
        {"model": {"name": "tabular_resnet", "_target_": f"{TABULAR}.TabularResNet", "width": 16}, "optimizer": SGD},
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in DATASETS.items():
        prepare.prepare_settings(folder / name, settings)
    return folder


def order(data, count, **changes):
    made = copy.deepcopy(QUICK_MLP) | {"data": {"name": data, **DATASETS[data]}}
    for key, value in changes.items():
        made[key] = {**made[key], **value} if key == "trainer" else value
    made["trainer"]["processes"] = count
    return made


def train(prepared, data, count, folder="models", report=None, states="runs", **changes):
    """Train, and return the weights and the history."""
    folder = Path(folder)
    request = run.TrainingRequest(
        order(data, count, **changes),
        prepared / data,
        folder,
        folder / "validation.json",
        report=report or (lambda step, value: None),
        states=Path(states),
    )
    result = run.train(request)
    return load_file(folder / "model.safetensors"), (folder / "history.csv").read_text(), result


def largest_difference(some, others):
    """Of numbers above 1, relative to them."""
    pairs = [(tensor.double(), others[name].double()) for name, tensor in some.items()]
    return max(((one - other).abs() / other.abs().clamp(min=1)).max().item() for one, other in pairs)


def others():
    """The ids of the other processes of the training before."""
    return [one.process.pid for one in processes._kept.started]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_give_what_one_gives(prepared, name):
    data, changes = TRAININGS[name]
    one, _, alone = train(prepared, data, 1, "one", **changes)
    two, _, shared = train(prepared, data, 2, "two", **changes)
    assert largest_difference(one, two) < 1e-6
    assert shared.metrics == pytest.approx(alone.metrics, abs=1e-6)


def test_the_same_bits_again_with_the_same_processes(prepared):
    _, changes = TRAININGS["cnn with batch norm and augmentation"]
    first, history, _ = train(prepared, "digits", 2, "first", **changes)
    kept = others()
    second, again, _ = train(prepared, "digits", 2, "second", **changes)
    assert others() == kept
    assert largest_difference(first, second) == 0
    assert history == again


def test_a_killed_process_ends_the_training_which_another_number_of_processes_resumes(prepared):
    steps = []

    def kill(step, value):
        steps.append(step)
        if step == 2 and steps.count(2) == 1:
            os.kill(others()[0], signal.SIGKILL)

    whole, _, _ = train(prepared, "digits", 1, "whole")
    began = time.monotonic()
    with pytest.raises(ProcessLost, match=r"^process 2 of 2 of this training was ended by SIGKILL.* resume"):
        train(prepared, "digits", 2, "killed", report=kill)
    assert time.monotonic() - began < 30
    resumed, _, _ = train(prepared, "digits", 1, "resumed", report=kill)
    assert steps == [1, 2, 1, 2, 3]  # the epochs on the disk are reported again
    assert largest_difference(whole, resumed) < 1e-6


def test_a_paused_training_goes_on_as_if_it_had_not_been(prepared):
    steps, changes = [], {"model": RESNET, "trainer": {"reports_per_epoch": 2}}

    def pause(step, value):
        steps.append(step)
        if steps == [1, 2, 3, 4]:
            raise Paused("others go on first")

    with pytest.raises(Paused):
        train(prepared, "digits", 2, "paused", report=pause, **changes)
    resumed, history, _ = train(prepared, "digits", 2, "paused", report=pause, **changes)
    whole, same, _ = train(prepared, "digits", 2, "whole", states="elsewhere", **changes)
    assert steps == [1, 2, 3, 4, 2, 4, 5, 6]  # the epochs are reported again, without what was within them
    assert history == same
    assert largest_difference(resumed, whole) == 0


KILLS_ITSELF = """
import json, os, signal, sys
from pathlib import Path
from hypermap.experiments import run
from hypermap.training import processes

def report(step, value):
    if step == 2:
        print(*(one.process.pid for one in processes._kept.started), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

request = run.TrainingRequest(json.loads(sys.argv[2]), Path(sys.argv[1]), Path("m"), Path("m/v.json"), report=report)
run.train(request)
"""


def test_the_others_end_with_the_process_that_trains(prepared):
    words = [sys.executable, "-c", KILLS_ITSELF, prepared / "digits", json.dumps(order("digits", 2))]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 10
    while alive(int(done.stdout)):
        assert time.monotonic() < end
        time.sleep(0.05)
    whole, history, _ = train(prepared, "digits", 2, "whole", states="elsewhere")
    resumed, same, _ = train(prepared, "digits", 2, "resumed")
    assert history == same
    assert largest_difference(whole, resumed) == 0


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_layers_that_draw_for_themselves_are_refused(prepared):
    own = {"name": "own", "_target_": "support.networks.WithTorchsDropout"}
    with pytest.raises(
        UserError, match=r"^0\.drop is a Dropout with dropout, .* take hypermap\.models\.layers\.Dropout"
    ):
        train(prepared, "digits", 2, model=own)
