"""Which trainings may be stacked: those that differ in numbers alone."""

import pytest

from hypermap.models import CNN, MLP, Logistic
from hypermap.training.backends.compatibility import batch_key

BASE = {
    "model": {"name": "mlp", "_target_": "hypermap.models.MLP", "hidden": [8], "dropout": 0.1},
    "optimizer": {"name": "adam", "_target_": "torch.optim.Adam", "lr": 0.01, "betas": [0.9, 0.99]},
    "scheduler": {"name": "constant", "_target_": "hypermap.training.lr_schedules.Constant"},
    "loss": {"name": "cross_entropy", "_target_": "hypermap.tasks.losses.CrossEntropy", "label_smoothing": 0.0},
    "regularizer": {"name": "none", "_target_": "hypermap.training.regularizers.Regularizer", "l1": 0.0},
    "augment": {"name": "none", "_target_": "hypermap.training.augment.Augment"},
    "trainer": {"name": "quick", "epochs": 3, "batch_size": 64, "backend": "auto", "monitor": None, "repeats": 1},
    "seed": 4,
}


def word(network=None, rows=100, **changes):
    configuration = {**BASE, "trainer": dict(BASE["trainer"])}
    for key, value in changes.items():
        configuration[key] = {**configuration[key], **value} if isinstance(value, dict) else value
    chosen = configuration["model"]
    made = network or MLP((64,), 10, hidden=chosen["hidden"], dropout=chosen["dropout"])
    return batch_key(configuration, made, rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"optimizer": {"lr": 0.1, "betas": [0.5, 0.9]}},
        {"optimizer": {"name": "sgd", "_target_": "torch.optim.SGD", "momentum": 0.9}},
        {"scheduler": {"name": "plateau", "_target_": "hypermap.training.lr_schedules.Plateau", "patience": 1}},
        {"loss": {"label_smoothing": 0.1, "class_weights": "balanced"}},
        {"regularizer": {"l1": 0.1, "clip_norm": 1.0, "patience_epochs": 3}},
        {"augment": {"shift": 1}},
        {"model": {"dropout": 0.5, "initialization": "he_normal"}},
        {"trainer": {"epochs": 5, "monitor": "loss", "repeats": 3}},
    ],
)
def test_numbers_may_differ(changes):
    assert word(**changes) == word()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"hidden": [9]}},
        {"model": {"hidden": [8, 8]}},
        {"model": {"dropout": 0}},  # which has no layer for it
        {"loss": {"_target_": "my.Loss"}},
        {"trainer": {"batch_size": 32}},
        {"trainer": {"precision": "bf16"}},
        {"trainer": {"device": "cuda"}},
        {"trainer": {"reports_per_epoch": 2}},
        {"trainer": {"backend": "vmap"}},
        {"rows": 101},
        {"network": Logistic((64,), 10)},
        {"network": MLP((64,), 10, hidden=[8], dropout=0.1, batch_norm=True)},
        {"network": MLP((64,), 10, hidden=[8], dropout=0.1, activation="tanh")},
        {"network": MLP((32,), 10, hidden=[8], dropout=0.1)},
        {"network": CNN((1, 8, 8), 10, padding="same")},
    ],
)
def test_networks_data_and_batches_may_not(changes):
    assert word(**changes) != word()


def test_what_shows_in_no_weight_counts_where_the_configuration_has_it():
    chosen = {"_target_": "hypermap.models.CNN", "hidden": [], "dropout": 0.0}
    network = CNN((1, 8, 8), 10, padding="same")
    assert word(network, model={**chosen, "padding": "same"}) != word(network, model={**chosen, "padding": "circular"})
