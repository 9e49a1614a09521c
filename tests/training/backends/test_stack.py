"""Members of a stack beside themselves trained alone by torch as it is, for every backend that stacks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.nn import functional as F

from hypermap.core import device
from hypermap.core.errors import Diverged, Interrupted, Pruned, UserError
from hypermap.data.layout import ColumnLayout
from hypermap.data.preprocessor import TensorSplit
from hypermap.models import CNN, MLP, Logistic, ResNet, TabM
from hypermap.models.tabular import TabularMLP, TabularResNet
from hypermap.tasks.losses import Auto, BinaryCrossEntropy, CrossEntropy, MeanSquaredError, wrapped
from hypermap.training.augment import Augment
from hypermap.training.backends import choice
from hypermap.training.components import Components, base_lr, make_optimizer
from hypermap.training.loop import Trainer, TrainVal
from hypermap.training.lr_schedules import Constant, Cosine, Exponential, Linear, OneCycle, Plateau, Step
from hypermap.training.regularizers import Regularizer
from hypermap.training.state import TrainerConfig, TrainState
from support.tasks import task_of

CPU = torch.device("cpu")
# Of each optimizer, members with other rates, decays and moments.
OPTIMIZERS = {
    "sgd": ("SGD", [{"lr": 0.1, "weight_decay": 0.01}, {"lr": 0.02}, {"lr": 0.05, "weight_decay": 0.1}]),
    "momentum": ("SGD", [{"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}, {"lr": 0.02, "momentum": 0.5}]),
    "nesterov": (
        "SGD",
        [{"lr": 0.05, "momentum": 0.9, "nesterov": True}, {"lr": 0.02, "momentum": 0.5, "dampening": 0.2}],
    ),
    "adam": (
        "Adam",
        [{"lr": 0.003, "betas": [0.8, 0.99], "weight_decay": 0.01}, {"lr": 0.01}, {"lr": 0.001, "eps": 1e-4}],
    ),
    "adamw": ("AdamW", [{"lr": 0.003, "weight_decay": 0.1}, {"lr": 0.01, "betas": [0.7, 0.9], "weight_decay": 0.0}]),
    "rmsprop": (
        "RMSprop",
        [{"lr": 0.001, "momentum": 0.5, "weight_decay": 0.01}, {"lr": 0.002, "alpha": 0.9}],
    ),
    "adagrad": ("Adagrad", [{"lr": 0.02, "lr_decay": 0.001, "weight_decay": 0.01}, {"lr": 0.05}]),
}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.05, "momentum": 0.9}
STILL = {"_target_": "torch.optim.SGD", "lr": 1e-12}

dense = pytest.mark.parametrize("backend", ["batched", "vmap", "native"])


@pytest.fixture(autouse=True)
def one_thread():
    with device.on_threads(1):
        yield


@pytest.fixture(autouse=True)
def compiler(request):
    """A test of the kernel needs it."""
    if "native" in getattr(getattr(request.node, "callspec", None), "params", {}).values():
        reason = choice.why_no_compiler()
        if reason is not None:
            pytest.skip(reason)


def split(inputs, targets):
    return TensorSplit(inputs, targets, torch.arange(len(targets)))


def digits(rows=186, images=False, two=False):
    """Training rows, whose last batch of 32 is a short one, and 100 others for validation."""
    data = load_digits()
    inputs, targets = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    inputs = inputs.view(-1, 1, 8, 8) if images else inputs
    targets = targets % 2 if two else targets
    return TrainVal(split(inputs[:rows], targets[:rows]), split(inputs[-100:], targets[-100:]))


def diabetes(rows=150):
    data = load_diabetes()
    inputs = torch.tensor(data.data * 20, dtype=torch.float32)
    targets = torch.tensor((data.target - 152) / 77, dtype=torch.float32)
    return TrainVal(split(inputs[:rows], targets[:rows]), split(inputs[-100:], targets[-100:]))


def mlp(**settings):
    return MLP(**{"input_shape": (64,), "outputs": 10, "hidden": [24, 16], **settings})


def build(
    model=mlp,
    *,
    seed=1,
    optimizer=None,
    loss=None,
    schedule=None,
    regularizer=None,
    augment=None,
    task="classification",
    state=None,
    **settings,
):
    """A member as a trial is one: its weights, dropout, order and augmentation are of its own seed."""
    torch.manual_seed(seed)
    parts = Components(
        model(),
        loss or CrossEntropy(),
        lambda parameters: make_optimizer(optimizer or {"_target_": "torch.optim.Adam", "lr": 0.003}, parameters),
        schedule or Constant(),
        regularizer or Regularizer(),
        augment or Augment(),
        base_lr(optimizer or {"_target_": "torch.optim.Adam", "lr": 0.003}),
    )
    random = torch.Generator()
    random.set_state(torch.get_rng_state())
    chosen = TrainerConfig(**{"epochs": 2, "batch_size": 32, **settings})
    return TrainState(parts, chosen, task_of(task), seed, CPU, random, state, validation_rows=100)


def heard(told):
    return {}


def prepared(member, sets):
    member.parts.loss.check(
        member.task.info.task,
        0 if member.task.info.task == "regression" else 2 if sets.train.targets.max() < 2 else 10,
    )
    member.parts.loss.fit(sets.train.targets, 10)
    return member


def alone(spec, sets, backend="eager"):
    """A member after it was trained by itself, and how it ended."""
    (one,) = stacked([spec], sets, backend)
    if isinstance(one[1], Exception):
        raise one[1]
    return one


def making(backend, threads=1):
    return lambda members, inputs, targets: choice.make(backend, members, inputs, targets, threads=threads)


def stacked(specs, sets, backend, tell=heard, threads=1):
    """Members after they were trained as one, and how each ended."""
    every_sets = sets if isinstance(sets, list) else [sets] * len(specs)
    members = {n: prepared(build(**spec), own) for n, (spec, own) in enumerate(zip(specs, every_sets, strict=True))}
    ended = {}
    for some in Trainer(members, dict(enumerate(every_sets)), making(backend, threads)).run(tell):
        assert not ended.keys() & some.keys()
        ended |= some
    assert ended.keys() == members.keys()
    return [(member, ended[n]) for n, member in members.items()]


def column(trained, name):
    return [row[name] for row in trained.history]


def weights(member):
    return {name: tensor.clone() for name, tensor in member.parts.model.state_dict().items()}


def assert_alike(one, other, *, rtol=1e-4, weights_rtol=1e-3, weights_atol=1e-5):
    """Two trainings of the same member, whose sums may be rounded in another order."""
    (member, trained), (peer, expected) = one, other
    assert len(trained.history) == len(expected.history)
    for name in ("train_loss", "validation_loss", "gradient_norm"):
        np.testing.assert_allclose(column(trained, name), column(expected, name), rtol=rtol, err_msg=name)
    for name in ("epoch", "learning_rate", "clipped"):
        np.testing.assert_allclose(column(trained, name), column(expected, name), rtol=1e-12, err_msg=name)
    for name in ("train_score", "validation_score"):
        np.testing.assert_allclose(column(trained, name), column(expected, name), rtol=rtol, atol=0.011, err_msg=name)
    assert (trained.best_epoch, trained.stopped_early) == (expected.best_epoch, expected.stopped_early)
    for name, tensor in weights(peer).items():
        torch.testing.assert_close(weights(member)[name], tensor, rtol=weights_rtol, atol=weights_atol)
    assert torch.equal(member.shuffle_rng.get_state(), peer.shuffle_rng.get_state())
    assert torch.equal(member.augment_rng.get_state(), peer.augment_rng.get_state())
    assert torch.equal(member.dropout_rng.get_state(), peer.dropout_rng.get_state())


def assert_same(one, other):
    """Bit for bit, but for the seconds."""
    (member, trained), (peer, expected) = one, other
    assert [{**row, "seconds": 0} for row in trained.history] == [{**row, "seconds": 0} for row in expected.history]
    for name, tensor in expected.best_weights.items():
        assert torch.equal(trained.best_weights[name], tensor), name
    for name, tensor in weights(peer).items():
        assert torch.equal(weights(member)[name], tensor), name


def check(specs, sets, backend, **tolerance):
    """Hold every member of a stack against itself alone; returns the stack's."""
    specs = [{"seed": seed, **spec} for seed, spec in enumerate(specs, 1)]
    made = stacked(specs, sets, backend)
    for one, spec in zip(made, specs, strict=True):
        assert_alike(one, alone(spec, sets), **tolerance)
    return made


# What may differ between members.


@dense
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_with_other_settings_for_each_member(backend, name):
    target, settings = OPTIMIZERS[name]
    specs = [{"optimizer": {"_target_": f"torch.optim.{target}", **own}} for own in settings]
    made = check(specs, digits(), backend)
    losses = [column(trained, "train_loss") for _, trained in made]
    assert all(
        after < 0.999 * before for before, after in losses
    )  # they have learned, so the comparison says something


@dense
def test_other_optimizers_in_one_stack(backend):
    choices = [
        {"_target_": f"torch.optim.{target}", **own} for target, settings in OPTIMIZERS.values() for own in settings[:1]
    ]
    check([{"optimizer": own} for own in choices], digits(), backend)


@dense
def test_a_schedule_of_its_own_for_each_member(backend):
    schedules = [
        Constant(warmup_epochs=0.5),
        Step(every_epochs=1, gamma=0.5),
        Exponential(gamma=0.5),
        Linear(end=0.1),
        Cosine(warmup_epochs=1),
        OneCycle(),
        Plateau(patience=0, threshold=0.5),
    ]
    made = check([{"schedule": own, "epochs": 4} for own in schedules], digits(90), backend)
    rates = np.array([column(trained, "learning_rate") for _, trained in made])
    assert rates[6, -1] < rates[6, 0]  # the plateau was at work
    assert len(set(rates[:, -1])) == len(schedules)


WEIGHTS = [0.5, 2, 1, 1, 3, 0.1, 1, 1, 0, 1]
LOSSES = {
    "smoothing": [CrossEntropy(), CrossEntropy(0.1), CrossEntropy(0.3)],
    "class_weights": [CrossEntropy(), CrossEntropy(class_weights=WEIGHTS), CrossEntropy(class_weights="balanced")],
    "both": [
        CrossEntropy(0.1),
        CrossEntropy(0.2, WEIGHTS),
        CrossEntropy(0.0, "balanced"),
        CrossEntropy(0.2, "balanced"),
    ],
    "auto": [Auto(), Auto(0.2), Auto(0.1, "balanced")],
}


@dense
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_with_other_settings_for_each_member(backend, name):
    check([{"loss": loss, "optimizer": SGD} for loss in LOSSES[name]], digits(), backend)


@dense
def test_a_weight_of_the_positive_class_for_each_member(backend):
    losses = [BinaryCrossEntropy(), BinaryCrossEntropy(3.0), BinaryCrossEntropy(0.2)]
    one_logit = {"model": lambda: mlp(outputs=1), "optimizer": SGD}
    check([{"loss": loss, **one_logit} for loss in losses], digits(two=True), backend)


@dense
@pytest.mark.parametrize("loss", [MeanSquaredError, Auto])
def test_regression(backend, loss):
    rates = [{"_target_": "torch.optim.Adam", "lr": lr} for lr in (0.003, 0.01, 0.0003)]
    model = {"model": lambda: mlp(input_shape=(10,), outputs=1, hidden=[8]), "task": "regression"}
    check([{"loss": loss(), "optimizer": own, **model} for own in rates], diabetes(), backend)


class Margin(CrossEntropy):
    """A loss of one's own."""

    def __call__(self, outputs, targets):
        return F.multi_margin_loss(outputs, targets)


@pytest.mark.parametrize("backend", ["batched", "vmap"])
def test_a_loss_of_ones_own(backend):
    check([{"loss": Margin(), "optimizer": {**SGD, "lr": lr}} for lr in (0.05, 0.02)], digits(), backend)


@dense
def test_penalties_and_limits_of_its_own_for_each_member(backend):
    regularizers = [
        Regularizer(),
        Regularizer(l1=0.003),
        Regularizer(l2=0.01),
        Regularizer(clip_norm=0.5),
        Regularizer(l1=0.001, l2=0.01, clip_norm=0.5),
    ]
    made = check([{"regularizer": own, "optimizer": SGD} for own in regularizers], digits(), backend)
    clipped = [column(trained, "clipped")[0] for _, trained in made]
    assert clipped[0] == clipped[1] == clipped[2] == 0 < min(clipped[3:])


@dense
@pytest.mark.parametrize("optimizer", [SGD, STILL])
def test_dropout_masks_are_those_of_a_training_by_itself(backend, optimizer):
    specs = [{"model": lambda rate=rate: mlp(dropout=rate), "optimizer": optimizer} for rate in (0.1, 0.5, 0.8)]
    check(specs, digits(), backend)  # of which the generators' states are a part


@dense
@pytest.mark.parametrize("rates", [(1e-6, 0.5), (0.5, 1e-6)])
def test_a_dropout_too_small_to_count_draws_nothing_and_is_nobody_elses(backend, rates):
    check([{"model": lambda rate=rate: mlp(dropout=rate)} for rate in rates], digits(), backend)


@dense
def test_the_order_of_the_rows_is_that_of_each_members_seed(backend):
    seen = []

    class Watching:
        def __init__(self, members, inputs, targets):
            self.inner = making(backend)(members, inputs, targets)
            self.eval_outputs = self.inner.eval_outputs

        def train_steps(self, rows, batch, rates):
            seen.append(rows.clone())
            return self.inner.train_steps(rows, batch, rates)

    sets = digits(90)
    members = {seed: build(seed=seed) for seed in (5, 6)}
    assert sum(len(ended) for ended in Trainer(members, dict.fromkeys(members, sets), Watching).run(heard)) == 2
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    expected = [torch.stack([torch.randperm(90, generator=own) for own in generators]) for _ in range(2)]
    assert torch.equal(torch.stack(seen), torch.stack(expected))


@dense
def test_members_may_learn_from_other_rows_as_many_and_be_judged_by_others(backend):
    data = load_digits()
    inputs, targets = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    parts = [split(inputs[first : first + 90], targets[first : first + 90]) for first in (0, 90, 180)]
    judges = [split(inputs[-50:], targets[-50:]), split(inputs[-120:-50], targets[-120:-50])]
    sets = [
        TrainVal(parts[0], judges[0]),
        TrainVal(parts[1], judges[1]),
        TrainVal(parts[2], judges[1]),
        TrainVal(parts[0], judges[0]),
    ]
    specs = [{"seed": seed} for seed in range(4)]
    for one, spec, own in zip(stacked(specs, sets, backend), specs, sets, strict=True):
        assert_alike(one, alone(spec, own))


@dense
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"])
def test_activations(backend, activation):
    check([{"model": lambda: mlp(activation=activation), "epochs": 1}] * 2, digits(90), backend)


@dense
def test_logistic_regression(backend):
    check(
        [{"model": lambda: Logistic((64,), 10), "optimizer": {**SGD, "lr": lr}} for lr in (0.1, 0.5)], digits(), backend
    )


# What vmap alone trains.


def cnn(**settings):
    return CNN((1, 8, 8), 10, **{"channels": [4, 6], "dense": [8], "padding": "same", **settings})


def test_convolutions_augmentation_and_dropout():
    augments = [Augment(), Augment(flip=True), Augment(shift=2), Augment(rotate_degrees=15, scale=0.1)]
    specs = [{"model": lambda: cnn(dropout=0.3), "augment": own, "optimizer": SGD} for own in augments]
    check(specs, digits(122, images=True), "vmap")


def test_embedded_categories():
    layout = ColumnLayout(numbers=3, binary=1, cardinalities=(4, 7))
    random = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, most + 1, (100, 1), generator=random).float() for most in layout.cardinalities]
    binary = torch.randint(0, 2, (100, 1), generator=random).float()
    rows = split(
        torch.cat([torch.randn(100, 3, generator=random), binary, *codes], 1),
        torch.randint(0, 10, (100,), generator=random),
    )
    models = [lambda rate=rate: TabularMLP((6,), 10, layout, hidden=[12], dropout=rate) for rate in (0.2, 0.0)]
    # Not Adam: it blows up the rounding in gradients that are nearly zero.
    made = check([{"model": own, "optimizer": SGD} for own in models], TrainVal(rows, rows), "vmap")
    for _, trained in made:  # of a category that the training rows lack, nothing is learned
        assert not trained.best_weights[next(name for name in trained.best_weights if name.endswith("table"))][0].any()


def normed_cnn():
    return nn.Sequential(nn.BatchNorm2d(1), cnn(), nn.BatchNorm1d(10))


def resnet():
    return ResNet((1, 8, 8), 10, width=4, blocks=[1, 1], dropout=0.2)


def tabular_resnet():
    return nn.Sequential(nn.Flatten(), TabularResNet((64,), 10, width=8, blocks=1, dropout=0.2))


@pytest.mark.parametrize("model", [lambda: mlp(batch_norm=True), normed_cnn, resnet, tabular_resnet])
def test_batch_norm(model):
    # Not Adam: it blows up the rounding in gradients that are zero, such as a bias's before a batch norm.
    specs = [{"model": model, "optimizer": {**SGD, "lr": lr}} for lr in (0.05, 0.01, 0.1)]
    check(specs, digits(97, images=True), "vmap")  # the last row of 97 is left out


def test_an_ensemble_within_a_network():
    check(
        [{"model": lambda rate=rate: TabularMLP((64,), 10, hidden=[12], dropout=rate)} for rate in (0.0, 0.3)],
        digits(),
        "vmap",
    )


def test_members_that_all_learn_from_each_row():
    def make(rate):
        return wrapped(CrossEntropy(), TabM((64,), 10, hidden=[12], dropout=rate, frequency_scale=0.1))

    # Not Adam: it blows up the rounding in gradients that are nearly zero.
    check([{"model": partial(make, rate), "optimizer": SGD} for rate in (0.0, 0.3)], digits(), "vmap")


def test_frozen_weights_and_a_network_of_ones_own():
    def frozen():
        made = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
        made[0].requires_grad_(False)
        return made

    made = check([{"model": frozen}, {"model": frozen}], digits(), "vmap")
    torch.manual_seed(2)
    assert torch.equal(made[1][0].parts.model[0].weight, frozen()[0].weight)


@pytest.mark.parametrize("backend", ["batched", "vmap"])
def test_half_precision(backend):
    specs = [{"seed": seed, "precision": "bf16"} for seed in (1, 2)]
    for (_, trained), spec in zip(stacked(specs, digits(), backend), specs, strict=True):
        _, expected = alone(spec, digits())
        np.testing.assert_allclose(column(trained, "train_loss"), column(expected, "train_loss"), rtol=0.02)
        assert {tensor.dtype for tensor in trained.best_weights.values()} == {torch.float32}


# A stack of one, and the same bits in any stack.


@dense
def test_a_stack_of_one(backend):
    check([{"model": lambda: mlp(dropout=0.3)}], digits(), backend)


@pytest.mark.parametrize("backend", ["native"])
def test_the_kernel_has_the_same_bits_in_any_stack_on_any_number_of_threads(backend):
    optimizers = [{"_target_": f"torch.optim.{target}", **own[0]} for target, own in OPTIMIZERS.values()]
    specs = [
        {"seed": seed, "model": lambda rate=0.1 * seed: mlp(dropout=rate), "optimizer": own, "schedule": Cosine()}
        for seed, own in enumerate(optimizers, 1)
    ]
    by_themselves = [alone(spec, digits(), backend) for spec in specs]
    for some, threads in ((specs, 1), (specs, 2), (specs[2:5], 1), (specs[::-1], 3)):
        for one, spec in zip(stacked(some, digits(), backend, threads=threads), some, strict=True):
            assert_same(one, by_themselves[spec["seed"] - 1])


# Members that leave.


def ending(number, epoch, error=None):
    """Ends one member of those first told of, at an epoch."""
    order = []

    def tell(told):
        order.extend(member for member in told if member not in order)
        hit = order[number]
        return {hit: error or Pruned("others did better")} if hit in told and told[hit][0] == epoch else {}

    return tell


@dense
@pytest.mark.parametrize("wild", [0, 1, 2])
def test_a_loss_that_is_not_finite_touches_no_other(backend, wild):
    """Against the stack in which that member is tame and pruned where it diverges."""
    specs = [{"seed": seed, "model": lambda: mlp(dropout=0.2), "epochs": 3} for seed in range(3)]
    tame = stacked(specs, digits(), backend, ending(wild, 1))
    assert isinstance(tame[wild][1], Pruned)
    broken = {**specs[wild], "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e20}}
    with pytest.raises(Diverged) as expected:
        alone(broken, digits())
    made = stacked([broken if number == wild else spec for number, spec in enumerate(specs)], digits(), backend)
    for number, (one, other) in enumerate(zip(made, tame, strict=True)):
        if number == wild:
            assert isinstance(one[1], Diverged)
            assert str(one[1]).partition(" in epoch ")[2] == str(expected.value).partition(" in epoch ")[2]
        else:
            assert_same(one, other)


@dense
def test_inputs_that_are_not_finite_end_who_learns_from_them(backend):
    sets = digits(90)
    spoilt = TrainVal(split(sets.train.inputs.clone(), sets.train.targets), sets.validation)
    spoilt.train.inputs[40] = torch.nan
    specs = [{"seed": seed} for seed in (1, 2)]
    made = stacked(specs, [sets, spoilt], backend)
    assert isinstance(made[1][1], Diverged)
    assert_alike(made[0], alone(specs[0], sets))


@dense
def test_those_that_are_left_go_on_to_the_numbers_they_would_have_had(backend):
    """One is pruned, one has fewer epochs, one stops early, and two go on."""
    stops = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-12}, "regularizer": Regularizer(patience_epochs=1)}
    drops = {"model": lambda: mlp(dropout=0.2), "epochs": 4}
    specs = [drops, drops, {**drops, "epochs": 1}, {**drops, **stops}, {**drops, "optimizer": SGD}]
    specs = [{"seed": seed, **spec} for seed, spec in enumerate(specs)]
    seen = []

    def tell(told):
        seen.append({member: step for member, (step, _) in told.items()})
        return ending_second(told)

    ending_second = ending(1, 2)
    made = stacked(specs, digits(90), backend, tell)
    assert [len(each) for each in seen] == [5, 4, 2, 2]
    assert [set(each.values()) for each in seen] == [{1}, {2}, {3}, {4}]
    assert isinstance(made[1][1], Pruned)
    for number in (0, 2, 3, 4):
        peer = alone(specs[number], digits(90))
        assert_alike(made[number], peer)
        if backend == "native":
            assert_same(made[number], alone(specs[number], digits(90), backend))
    assert made[3][1].stopped_early
    assert [len(made[number][1].history) for number in (0, 2, 3, 4)] == [4, 1, 2, 4]


@dense
def test_reports_within_an_epoch_change_no_number(backend):
    specs = [{"seed": seed, "model": lambda: mlp(dropout=0.2), "reports_per_epoch": 3} for seed in (1, 2)]
    seen = []

    def tell(told):
        seen.append([(step, value) for step, value in told.values()])
        return {}

    made = stacked(specs, digits(), backend, tell)
    assert [[step for step, _ in each] for each in seen] == [[step] * 2 for step in range(1, 7)]
    for number, (one, spec) in enumerate(zip(made, specs, strict=True)):
        assert [seen[2][number][1], seen[5][number][1]] == column(one[1], "validation_score")
        assert_alike(one, alone({**spec, "reports_per_epoch": 1}, digits()))


@dense
def test_a_member_pruned_within_an_epoch_leaves_at_its_end(backend):
    specs = [{"seed": seed, "reports_per_epoch": 2} for seed in (1, 2)]
    made = stacked(specs, digits(), backend, ending(0, 3))
    assert isinstance(made[0][1], Pruned)
    assert_alike(made[1], alone(specs[1], digits()))


@dense
def test_one_that_was_pruned_within_an_epoch_is_so_whatever_came_later_in_it(backend, monkeypatch):
    monkeypatch.setattr(
        "hypermap.training.loop._divergence", lambda member, *_: Diverged("later") if member.epochs else None
    )
    made = stacked([{"seed": seed, "reports_per_epoch": 2} for seed in (1, 2)], digits(), backend, ending(0, 3))
    assert [type(outcome) for _, outcome in made] == [Pruned, Diverged]


@dense
def test_those_that_left_hold_no_more_than_their_own_weights(backend):
    """Else a stack of many that leave one by one would hold a matrix for each of its sizes."""
    made = stacked([{"seed": seed, "epochs": seed} for seed in (1, 2, 3)], digits(90), backend)
    for member, trained in made:
        own = member.weights.vector
        assert own.untyped_storage().nbytes() == member.weights.gradient.untyped_storage().nbytes() == own.nbytes
        assert trained.best_weights.keys() == weights(member).keys()
        with torch.no_grad():
            own.zero_()
        assert not any(tensor.any() for tensor in weights(member).values())


# Members that were interrupted.


def interrupting(epoch):
    def tell(told):
        if any(step == epoch for step, _ in told.values()):
            raise Interrupted
        return {}

    return tell


def with_states(specs, folder):
    return [{**spec, "state": folder / str(spec["seed"])} for spec in specs]


def everything(backend):
    """Members with all that has a state: moments, dropout, a plateau, patience."""
    decays = {"schedule": Plateau(patience=0, threshold=0.5), "regularizer": Regularizer(patience_epochs=3)}
    choices = [{"_target_": f"torch.optim.{target}", **own[0]} for target, own in OPTIMIZERS.values()]
    drops = {"model": lambda: mlp(dropout=0.2), "epochs": 4}
    return [{"seed": seed, "optimizer": own, **decays, **drops} for seed, own in enumerate(choices)]


@dense
@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_stack_goes_on_to_the_same_numbers(backend, epoch, tmp_path):
    specs = everything(backend)
    for spec in specs:
        (tmp_path / str(spec["seed"])).mkdir()
    with pytest.raises(Interrupted):
        stacked(with_states(specs, tmp_path), digits(90), backend, interrupting(epoch))
    told = []
    made = stacked(with_states(specs, tmp_path), digits(90), backend, lambda each: told.append(each) or {})
    assert [{step for step, _ in each.values()} for each in told[:epoch]] == [{n + 1} for n in range(epoch)]
    for one, other in zip(made, stacked(specs, digits(90), backend), strict=True):
        if backend == "native":
            assert_same(one, other)
        assert_alike(one, other)


@dense
def test_a_stack_that_is_interrupted_within_an_epoch_begins_that_anew(backend, tmp_path):
    specs = [{"seed": seed, "model": lambda: mlp(dropout=0.2), "reports_per_epoch": 2} for seed in (1, 2)]
    for spec in specs:
        (tmp_path / str(spec["seed"])).mkdir()
    with pytest.raises(Interrupted):
        stacked(with_states(specs, tmp_path), digits(90), backend, interrupting(3))
    made = stacked(with_states(specs, tmp_path), digits(90), backend)
    for one, spec in zip(made, specs, strict=True):
        assert_alike(one, alone(spec, digits(90)))


@dense
def test_members_that_are_at_other_epochs_go_on_together(backend, tmp_path):
    """One was interrupted in its first epoch, one by torch in its third, one begins."""
    specs = everything(backend)[3:6]
    for spec, (epoch, by) in zip(specs, [(1, backend), (3, "eager"), (None, None)], strict=True):
        (tmp_path / str(spec["seed"])).mkdir()
        if epoch is not None:
            with pytest.raises(Interrupted):
                stacked(with_states([spec], tmp_path), digits(90), by, interrupting(epoch))
    made = stacked(with_states(specs, tmp_path), digits(90), backend)
    for one, spec in zip(made, specs, strict=True):
        assert_alike(one, alone(spec, digits(90)))


@dense
def test_a_state_that_cannot_be_read_ends_its_own_member(backend, tmp_path):
    specs = with_states([{"seed": seed} for seed in (1, 2)], tmp_path)
    for spec in specs:
        spec["state"].mkdir()
    (tmp_path / "1/progress.json").write_text("{")
    made = stacked(specs, digits(90), backend)
    assert isinstance(made[0][1], UserError)
    assert "progress.json cannot be read" in str(made[0][1])
    assert_alike(made[1], alone({"seed": 2}, digits(90)))


@dense
def test_a_schedule_that_cannot_be_ends_its_own_member(backend):
    specs = [{"schedule": Cosine(warmup_epochs=2)}, {"seed": 2}]
    made = stacked(specs, digits(90), backend)
    assert "the warm-up must be shorter" in str(made[0][1])
    assert_alike(made[1], alone(specs[1], digits(90)))


@dense
def test_states_that_are_not_written_at_each_epoch_are_no_older_than_a_while(backend, tmp_path, monkeypatch):
    """A stack's states are written as often as takes little of its time, and whenever it is interrupted."""
    monkeypatch.setattr("hypermap.training.loop.SAVING_SHARE", 0.0)
    specs = [{"seed": seed, "epochs": 3} for seed in (1, 2)]
    for spec in specs:
        (tmp_path / str(spec["seed"])).mkdir()
    found = []

    def tell(told):
        found.append(len(list(tmp_path.glob("*/progress.json"))))
        if len(found) == 2:
            raise Interrupted
        return {}

    with pytest.raises(Interrupted):
        stacked(with_states(specs, tmp_path), digits(90), backend, tell)
    assert found == [0, 0]
    made = stacked(with_states(specs, tmp_path), digits(90), backend, lambda told: found.append(told) or {})
    assert [{step for step, _ in told.values()} for told in found[2:4]] == [{1}, {2}]
    for one, spec in zip(made, specs, strict=True):
        assert one[1] is one[0]
        assert_alike(one, alone(spec, digits(90)))


# What cannot be stacked.


@pytest.mark.parametrize(
    ("backend", "spec", "told"),
    [
        ("eager", {}, "it trains one at a time, and these are 2. Here it can be auto, batched, vmap"),
        (
            "batched",
            {"model": cnn},
            "it is for model=mlp without batch_norm, and model=logistic. Here it can be auto, vmap",
        ),
        ("batched", {"model": lambda: mlp(batch_norm=True)}, "it is for model=mlp without batch_norm"),
        ("vmap", {"compile": True}, r"trainer.compile=true is for one training at a time. Here it can be auto\."),
        (
            "native",
            {"model": cnn},
            "the native kernel trains model=mlp and model=logistic, not CNN. Here it can be auto, v",
        ),
        ("native", {"precision": "bf16"}, "the native kernel computes in fp32, not bf16. Here it can be auto, batched"),
        ("native", {"loss": Margin()}, "the native kernel has no loss Margin"),
        ("native", {"optimizer": {"_target_": "torch.optim.NAdam"}}, "the native kernel has no optimizer NAdam"),
        ("native", {"augment": Augment(shift=1)}, "the native kernel does not augment"),
    ],
)
def test_a_backend_that_cannot_says_what_can(backend, spec, told):
    members = {seed: build(**spec, seed=seed) for seed in (1, 2)}
    sets = dict.fromkeys(members, digits(90, images=True))
    with pytest.raises(UserError, match=f"trainer.backend is {backend}, which cannot train this: {told}"):
        Trainer(members, sets, making(backend))


class Doubled(MLP):
    def forward(self, inputs):
        return super().forward(2 * inputs)


@pytest.mark.parametrize("backend", ["batched", "native"])
def test_what_is_derived_from_a_dense_network_is_none(backend):
    doubled = [{"seed": seed, "model": lambda: Doubled((64,), 10, hidden=[8])} for seed in (1, 2)]
    with pytest.raises(UserError, match="cannot train this"):
        stacked(doubled, digits(), backend)
    check(doubled, digits(), "vmap")


def test_a_layer_that_draws_random_numbers_of_its_own_is_refused_by_vmap():
    def model():
        return nn.Sequential(nn.Linear(64, 12), nn.Dropout(0.2), nn.Linear(12, 10))

    with pytest.raises(UserError, match=r"random operation.*trainer.backend=auto"):
        stacked([{"model": model}, {"model": model}], digits(90), "vmap")


def test_the_time_of_a_stack_is_shared_by_its_members():
    made = stacked([{"seed": seed} for seed in range(4)], digits(90), "batched")
    seconds = np.array([column(trained, "seconds") for _, trained in made])
    assert math.isfinite(seconds.sum())
    assert (seconds > 0).all()
    np.testing.assert_array_equal(seconds, np.broadcast_to(seconds[:1], seconds.shape))
