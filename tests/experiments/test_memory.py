"""How many trainings memory holds, beside sums by hand."""

import pytest
import torch
from torch import nn

from hypermap.experiments.memory import SHARE, free_memory, most_members
from hypermap.models import CNN, MLP

GIB = 2**30


def mlp_bytes(rows, batch):
    """A member of the network 64-16-10: its weights and the numbers of a step, four bytes each."""
    weights = 64 * 16 + 16 + 16 * 10 + 10
    layers = 64 + 16 + 16 + 10  # flat inputs, a linear layer, its activation, the outputs
    passes = 3 * batch * (64 + layers)
    return 4 * (9 * weights + passes + 2 * rows * 10)


@pytest.mark.parametrize(("rows", "batch"), [(1000, 64), (50_000, 64), (1000, 512)])
def test_as_many_as_a_sum_by_hand_has(rows, batch):
    model = MLP((1, 8, 8), 10, hidden=[16])
    inputs = torch.zeros(rows, 1, 8, 8)
    assert most_members(model, inputs, 10, batch, GIB) == int(SHARE * GIB / mlp_bytes(rows, batch))
    assert most_members(model, inputs, 10, batch, GIB) == pytest.approx(
        most_members(model, inputs, 10, batch, 2 * GIB) / 2, abs=1
    )


def test_larger_networks_are_fewer_and_there_is_always_one():
    inputs = torch.zeros(100, 1, 8, 8)
    narrow, wide = (most_members(MLP((1, 8, 8), 10, hidden=[width]), inputs, 10, 64, GIB) for width in (16, 4096))
    filters = most_members(CNN((1, 8, 8), 10, channels=[64], dense=[8]), inputs, 10, 64, GIB)
    assert narrow > filters > 1
    assert narrow > 50 * wide > 50
    assert most_members(MLP((1, 8, 8), 10, hidden=[16]), inputs, 10, 64, 1000) == 1
    assert most_members(MLP((1, 8, 8), 10, hidden=[16]), inputs, 10, 64, None) is None


def test_asking_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    most_members(model, torch.ones(1, 4), 2, 64, GIB)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_torch_keeps_of_a_device_is_free(monkeypatch):
    told = {"mem_get_info": (3 * GIB, 16 * GIB), "memory_reserved": 9 * GIB, "memory_allocated": 2 * GIB}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory(torch.device("cuda")) == 10 * GIB
