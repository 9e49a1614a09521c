import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypermap.training.flat_parameters import FlatParameters


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.PReLU())


def joined(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def backward(model):
    F.cross_entropy(model(torch.linspace(-1, 1, 128).view(8, 1, 4, 4)), torch.arange(8) % 4).backward()


def test_the_vector_is_the_parameters_in_their_order_and_the_network_is_unchanged():
    model = network()
    before = copy.deepcopy(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    flat = FlatParameters(model)
    assert torch.equal(flat.vector, joined(before[name] for name in names))
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.shape == before[name].shape
    assert flat.vector.requires_grad
    assert flat.vector.grad is flat.gradient


def test_a_change_of_the_vector_is_one_of_the_network_and_the_reverse():
    model = network()
    flat = FlatParameters(model)
    with torch.no_grad():
        flat.vector.mul_(2)
    assert torch.equal(joined(model.parameters()), flat.vector)
    model.load_state_dict(network().state_dict())
    assert torch.equal(flat.vector, joined(network().parameters()))


def test_gradients_gather_in_place_and_add_up():
    ours, theirs = network(), network()
    flat = FlatParameters(ours)
    for count in (1, 2):
        backward(ours)
        backward(theirs)
        torch.testing.assert_close(flat.gradient, joined(p.grad for p in theirs.parameters()), msg=f"{count}")
    flat.gradient.zero_()
    backward(ours)
    theirs.zero_grad()
    backward(theirs)
    torch.testing.assert_close(flat.gradient, joined(p.grad for p in theirs.parameters()))
    assert flat.vector.grad is flat.gradient


def test_matrices_and_filters_are_penalized_and_nothing_else():
    model = network()
    flat = FlatParameters(model)
    kernels = {"0.weight", "3.weight"}
    expected = joined(torch.full_like(p, float(name in kernels)) for name, p in model.named_parameters())
    assert torch.equal(flat.penalized, expected)


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    frozen = model[0].weight
    flat = FlatParameters(model)
    assert len(flat.vector) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert model[0].weight is frozen
    with torch.no_grad():
        flat.vector.zero_()
    assert frozen.abs().sum() > 0
    backward(model)
    assert frozen.grad is None


def test_a_shared_parameter_is_there_once():
    layers = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    layers[2].weight = layers[0].weight
    model = nn.Sequential(*layers)
    flat = FlatParameters(model)
    assert len(flat.vector) == 32
    with torch.no_grad():
        flat.vector[:16] = 0
    assert layers[2].weight is layers[0].weight
    assert not layers[2].weight.any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_memory_layout(layout):
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3).to(memory_format=layout)
    before = model.weight.detach().clone()
    FlatParameters(model)
    assert torch.equal(model.weight, before)
