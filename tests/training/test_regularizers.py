"""Penalties beside autograd, the limit beside torch's, the best epoch beside a plain search."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypermap.training.flat_parameters import FlatParameters
from hypermap.training.regularizers import ALIKE, Regularizer, highest_epoch, kept_epochs


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


def backward(model):
    torch.manual_seed(1)
    F.cross_entropy(model(torch.randn(8, 1, 4, 4)), torch.arange(8) % 4).backward()


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.03), (0.02, 0.03)])
def test_the_gradient_is_that_of_loss_and_penalty(l1, l2):
    ours, theirs = network(), network()
    flat = FlatParameters(ours)
    backward(ours)
    norm = Regularizer(l1=l1, l2=l2).apply(flat)

    backward(theirs)
    kernels = [theirs[0].weight, theirs[4].weight]
    penalty = sum(l1 * kernel.abs().sum() + l2 * kernel.square().sum() for kernel in kernels)
    if l1 or l2:
        penalty.backward()
    torch.testing.assert_close(flat.gradient, gradients(theirs))
    torch.testing.assert_close(norm, gradients(theirs).norm())


def test_a_weight_of_zero_has_no_penalty_gradient():
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    flat = FlatParameters(model)
    Regularizer(l1=1.0, l2=1.0).apply(flat)
    assert not flat.gradient.any()


@pytest.mark.parametrize("limit", [0.01, 0.5, 1000.0])
def test_the_norm_is_cut_as_torch_does(limit):
    ours, theirs = network(), network()
    flat = FlatParameters(ours)
    backward(ours)
    norm = Regularizer(clip_norm=limit).apply(flat)
    backward(theirs)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), limit))
    torch.testing.assert_close(flat.gradient, gradients(theirs))


def test_the_norm_is_cut_after_the_penalties_are_added():
    model = nn.Linear(3, 2)
    flat = FlatParameters(model)
    norm = Regularizer(l2=100.0, clip_norm=1.0).apply(flat)
    torch.testing.assert_close(norm, 200 * model.weight.detach().norm())
    torch.testing.assert_close(flat.gradient.norm(), torch.tensor(1.0), rtol=1e-4, atol=0)


def test_the_steps_that_are_cut_are_counted():
    norms = torch.tensor([0.5, 1.0, 1.5, 3.0])
    assert Regularizer(clip_norm=1.0).clipped(norms.numpy()) == 0.5
    assert Regularizer().clipped(norms.numpy()) == 0


def test_a_gradient_of_zero_stays_zero_and_finite():
    flat = FlatParameters(nn.Linear(3, 2))
    assert Regularizer(clip_norm=1.0).apply(flat) == 0
    assert not flat.gradient.any()


@pytest.mark.parametrize(
    ("patience", "done", "best", "stops"),
    [(None, 1000, 1, False), (3, 4, 1, True), (3, 3, 1, False), (3, 5, 1, True), (1, 1, 1, False), (1, 2, 1, True)],
)
def test_patience_counts_epochs_since_the_best(patience, done, best, stops):
    assert Regularizer(patience_epochs=patience).stops(done, best) == stops


def test_before_the_first_epoch_there_is_nothing_to_stop():
    assert not Regularizer(patience_epochs=1).stops(0, 0)


def test_the_best_epoch_is_the_first_of_the_highest():
    for length in (1, 2, 3, 4):
        for scores in itertools.product([(0.1, -1.0), (0.1, -2.0), (0.2, -3.0)], repeat=length):
            assert highest_epoch(scores) == scores.index(max(scores)) + 1


def test_whatever_comes_the_epoch_to_keep_is_among_those_that_were_held():
    draw = np.random.default_rng(0)
    for rows in (5, 150, 4000):
        for _ in range(100):
            accuracies = (draw.integers(rows // 2, rows + 1, 30) / rows).tolist()
            losses = draw.random(30).round(1).tolist()  # some are equal
            held = {0}
            for epochs in range(1, 31):
                chosen = kept_epochs(accuracies[:epochs], losses[:epochs], rows)
                best = max(accuracies[:epochs])
                share = min(max(best, 0.5 / rows), 1 - 0.5 / rows)
                least = best - ALIKE * np.sqrt(share * (1 - share) / rows)
                alike = [k for k in range(epochs) if accuracies[k] >= least]
                assert chosen[0] == min(alike, key=lambda k: losses[k]) + 1
                assert set(chosen) <= held | {epochs}
                held = set(chosen)
