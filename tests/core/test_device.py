import importlib
import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest
import sklearn
import torch
from torch import nn

from hypermap.core import device
from hypermap.core.errors import OutOfMemory, UserError
from hypermap.core.paths import SOURCES

CPU = torch.device("cpu")
LAZY = """
import sys
from hypermap.core import device
device.make_repeatable()
print("torch._inductor" in sys.modules)
import torch._inductor.config
print(torch._inductor.config.deterministic)
"""


SPARED = """
import sys, torch
from hypermap.core import device

device.spare_compiler()
weights = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([weights], fused=True)
weights.grad = torch.ones(3)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
loaded = ["torch._dynamo.eval_frame" in sys.modules]
{use}
optimizer.step()
loaded += ["torch._dynamo.eval_frame" in sys.modules, torch._dynamo is sys.modules["torch._dynamo"]]
print(*loaded, type(torch._dynamo).__name__)
"""
# Runs each script in a fork that has imported torch, and nothing of its compiler.
EACH = """
import os, sys, torch
for script in sys.argv[1:]:
    sys.stdout.flush()
    if not os.fork():
        exec(script)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, script
"""
USES = [
    "assert torch.compile(torch.sin, backend='eager')(torch.ones(2)).equal(torch.ones(2).sin())",
    "from torch._dynamo import config",
    "assert torch.compiler.disable(len)([]) == 0",
]


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # so that it is put back
    monkeypatch.setenv("TORCHINDUCTOR_DETERMINISTIC", "1")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose_device("auto").type == "cuda"
    assert device.choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:7", "", "cpu:x"])
def test_a_device_that_is_not_here_is_a_clear_error(name):
    with pytest.raises(UserError) as told:
        device.choose_device(name)
    message = str(told.value)
    assert f"trainer.device is {name!r}" in message
    assert "Try auto or cpu." in message
    assert "\n" not in message


def test_repeatable_sets_deterministic_algorithms_and_flushes_denormals(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    device.make_repeatable()
    assert (torch.full((1,), 1e-30) * 1e-10).item() == 0  # 1e-40 otherwise
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_repeatable_leaves_the_compiler_alone_until_it_is_used_and_makes_that_repeatable_too(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_DETERMINISTIC")
    assert said(LAZY) == ["False", "True"]


def said(script, *words):
    """What a new Python prints, word by word, when it runs a script that imports the package."""
    place = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, env=place)
    return done.stdout.split()


def test_an_optimizer_does_without_the_compiler_which_is_there_when_it_is_wanted():
    found = said(EACH, *(SPARED.format(use=use) for use in USES))
    assert found == ["False", "True", "True", "module"] * len(USES)


def test_a_compiler_that_is_loaded_stays():
    compiler = importlib.import_module("torch._dynamo")
    device.spare_compiler()
    assert sys.modules["torch._dynamo"] is compiler


def test_a_workspace_that_a_person_has_set_stays():
    device.make_repeatable()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_small_dense_networks_get_one_thread_others_all(monkeypatch):
    monkeypatch.setattr(device, "CORES", 6)
    small = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    assert device.choose_threads(small, 64) == 1
    assert device.choose_threads(small, 64_000) == 6
    assert device.choose_threads(nn.Linear(2000, 1001), 1) == 6
    assert device.choose_threads(nn.Conv2d(1, 2, 3), 1) == 6


def test_what_one_run_has_set_is_not_what_the_next_takes_for_every_core():
    every = device.choose_threads(nn.Conv2d(1, 2, 3), 1)
    torch.set_num_threads(every + 1)
    assert device.choose_threads(nn.Conv2d(1, 2, 3), 1) == every


def test_autocast_is_bf16_where_asked_for_and_nothing_else():
    layer, inputs = nn.Linear(2, 2), torch.ones(1, 2)
    with device.autocast(CPU, "bf16"):
        assert layer(inputs).dtype == torch.bfloat16
    with device.autocast(CPU, "fp32"):
        assert layer(inputs).dtype == torch.float32
    assert layer(inputs).dtype == torch.float32


def test_environment_holds_versions_device_and_threads():
    assert device.environment(CPU, 3) == {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "device": "cpu",
        "threads": "3",
    }


# Memory and time.


def too_large(size):
    torch.empty(size)


def refused(size):
    try:
        torch.empty(size)
    except RuntimeError as error:
        raise UserError("refuses its settings") from error


def on_a_gpu(size):
    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size}")


@pytest.mark.parametrize("failing", [too_large, refused, on_a_gpu])
def test_want_of_memory_is_one_error_that_says_what_to_change(failing):
    with pytest.raises(OutOfMemory) as told, device.explaining_out_of_memory(48):
        failing(2**60)
    assert "trainer.batch_size=24 (it is 48)" in str(told.value)
    assert "model.hidden" in str(told.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), UserError("a mistake"), KeyError("memory")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as told, device.explaining_out_of_memory(48):
        raise error
    assert told.value is error


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, inputs):
        self.calls.append((self.training, tuple(inputs.shape)))
        time.sleep(0.02 if len(self.calls) == 20 else 0.002)
        return inputs


def test_latency_is_the_median_of_passes_in_evaluation_mode():
    model = Slow()
    assert 2 <= device.latency_ms(model, torch.zeros(1, 3), "fp32") < 10
    assert set(model.calls) == {(False, (1, 3))}


def test_no_more_processes_than_gpus(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    device.check_processes(cuda, 2)
    device.check_processes(CPU, 9)
    with pytest.raises(UserError, match=r"there are 2 .*=4,6\): set trainer\.processes=2, or trainer\.device=cpu\."):
        device.check_processes(cuda, 3)


def test_share_of_threads():
    assert [device.share_of_threads(threads, 2) for threads in (1, 2, 5)] == [1, 1, 2]
