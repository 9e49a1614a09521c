"""The kernel in C++ beside a plain loop of torch's, and a member alone beside the same one in a stack."""

import copy
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn

from hypermap.models import CNN, MLP, Logistic
from hypermap.models.layers import Dropout, _sixteen_bits
from hypermap.tasks.losses import Auto, BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from hypermap.training.augment import Augment
from hypermap.training.backends import native_build
from hypermap.training.backends.native import Native, why_not
from hypermap.training.components import Components, base_lr, make_optimizer
from hypermap.training.flat_parameters import FlatParameters
from hypermap.training.lr_schedules import Constant
from hypermap.training.regularizers import Regularizer

EPOCHS, ROWS, BATCH = 3, 150, 32  # the last batch has 22 rows
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.003}
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.003, "betas": [0.8, 0.99], "weight_decay": 0.01}),
    "adamw": ("AdamW", {"lr": 0.003, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 0.001, "weight_decay": 0.01}),
    "rmsprop with momentum": ("RMSprop", {"lr": 0.001, "momentum": 0.5, "alpha": 0.9}),
    "adagrad": ("Adagrad", {"lr": 0.02, "lr_decay": 0.001, "weight_decay": 0.01}),
    "adagrad from a start": ("Adagrad", {"lr": 0.02, "initial_accumulator_value": 0.1}),
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)
builds = pytest.mark.skipif(native_build.why_no_compiler() is not None, reason="there is no C++ compiler")


@dataclass
class Member:
    parts: Components
    weights: FlatParameters
    optimizer: torch.optim.Optimizer
    dropout_rng: torch.Generator


def choice(name):
    target, settings = OPTIMIZERS[name]
    return {"_target_": f"torch.optim.{target}", **settings}


def member(seed=1, optimizer=ADAM, *, loss=None, regularizer=None, augment=None, model=None, **settings):
    torch.manual_seed(seed)
    model = model or MLP((64,), 10, **{"hidden": [32], **settings})
    parts = Components(
        model,
        loss or CrossEntropy(),
        lambda parameters: make_optimizer(optimizer, parameters),
        Constant(),
        regularizer or Regularizer(),
        augment or Augment(),
        base_lr(optimizer),
    )
    weights = FlatParameters(model)
    return Member(parts, weights, parts.make_optimizer([weights.vector]), torch.Generator().manual_seed(seed + 100))


def digits(rows=ROWS):
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32)[:rows], torch.tensor(data.target)[:rows]


def diabetes(rows=ROWS):
    data = load_diabetes()
    inputs = torch.tensor(data.data * 20, dtype=torch.float32)
    return inputs[:rows], torch.tensor((data.target - 152) / 77, dtype=torch.float32)[:rows]


def orders(seeds, rows=ROWS, epochs=EPOCHS):
    """The order of the rows in each epoch, (epochs, members, rows)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.stack([torch.randperm(rows, generator=g) for g in generators]) for _ in range(epochs)])


def rates_of(members, rows=ROWS, epochs=EPOCHS):
    """Rates that fall a little with every step, (epochs, members, steps)."""
    steps = -(-rows // BATCH)
    fall = torch.linspace(1, 0.8, epochs * steps, dtype=torch.float64).view(epochs, 1, steps)
    return fall * torch.tensor([[m.optimizer.param_groups[0]["lr"]] for m in members], dtype=torch.float64)


def by_torch(trained, data, order, rates):
    """One epoch as a plain loop has it: outputs, losses and norms."""
    inputs, targets = data
    outputs, losses, norms = [], [], []
    trained.parts.model.train()
    with torch.random.fork_rng([]):
        torch.set_rng_state(trained.dropout_rng.get_state())
        for rows, rate in zip(order.split(BATCH), rates.tolist(), strict=True):
            trained.optimizer.param_groups[0]["lr"] = rate
            trained.weights.gradient.zero_()
            output = trained.parts.model(inputs[rows])
            loss = trained.parts.loss(output, targets[rows])
            loss.backward()
            norms.append(trained.parts.regularizer.apply(trained.weights))
            trained.optimizer.step()
            outputs.append(output.detach())
            losses.append(loss.detach())
        trained.dropout_rng.set_state(torch.get_rng_state())
    return torch.cat(outputs), torch.stack(losses), torch.stack(norms)


def assert_as_by_torch(trained, data, **tolerance):
    """Three epochs by the kernel and by torch come to the same; returns the kernel's last."""
    theirs = copy.deepcopy(trained)
    theirs.weights = FlatParameters(theirs.parts.model)
    theirs.optimizer = type(trained.optimizer)([theirs.weights.vector], **settings_of(trained.optimizer))
    stack = Native([trained], *data)
    losses = []
    for order, rates in zip(orders([3]), rates_of([trained]), strict=True):
        steps = stack.train_steps(order, BATCH, rates)
        expected = by_torch(theirs, data, order[0], rates[0])
        for ours, peer in zip((steps.outputs, steps.losses, steps.norms), expected, strict=True):
            torch.testing.assert_close(ours[0], peer, **{"rtol": 1e-5, "atol": 5e-6, **tolerance})
        losses.append(steps.losses.mean().item())
    torch.testing.assert_close(trained.weights.vector, theirs.weights.vector, rtol=1e-3, atol=2e-5)
    assert torch.equal(trained.dropout_rng.get_state(), theirs.dropout_rng.get_state())
    ours, peer = (m.optimizer.state_dict()["state"].get(0, {}) for m in (trained, theirs))
    assert list(ours) == [key for key in peer if peer[key] is not None]
    for key, value in ours.items():
        torch.testing.assert_close(value, peer[key], rtol=1e-3, atol=2e-5)
    evaluated = stack.eval_outputs(data[0][:40], [0])[0]
    trained.parts.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(evaluated, trained.parts.model(data[0][:40]), rtol=1e-4, atol=1e-5)
    assert losses[-1] < 0.99 * losses[0]  # it has learned, so the comparison says something
    return steps


def settings_of(optimizer):
    settings = {key: value for key, value in optimizer.defaults.items() if key != "decoupled_weight_decay"}
    return {**settings, "fused": None} if settings.get("fused") else settings


# Beside torch.


@builds
@optimizers
def test_optimizers_are_torchs(name):
    assert_as_by_torch(member(optimizer=choice(name)), digits())


@builds
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"])
def test_activations_are_torchs(activation):
    data = digits()
    # Wide inputs, so that both tails are reached.
    assert_as_by_torch(member(activation=activation, hidden=[40, 17]), (4 * data[0] - 1, data[1]))


@builds
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu"])
def test_activations_are_right_to_the_last_digits(activation):
    model = MLP((1,), 1, hidden=[1], activation=activation)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float(parameter.ndim > 1))  # so the output is the activation of the input
    inputs = torch.cat([torch.linspace(-120, 120, 2001), torch.linspace(-6, 6, 2001), torch.linspace(-1, 1, 2001) ** 5])
    ours = Native([member(model=model, loss=MeanSquaredError())], inputs[:, None], inputs).eval_outputs(
        inputs[:, None], [0]
    )[0]
    torch.testing.assert_close(ours, model.double()(inputs[:, None].double()).float(), rtol=5e-7, atol=3e-7)


@builds
@pytest.mark.parametrize(("loss", "width"), [(CrossEntropy(0.1), 10), (BinaryCrossEntropy(3.0), 1)])
def test_losses_of_extreme_outputs(loss, width):
    inputs, targets = digits()
    targets = targets if width > 1 else targets % 2
    torch.manual_seed(0)
    ours = member(model=MLP((64,), width), loss=loss)
    with torch.no_grad():
        ours.parts.model.output.weight.mul_(1000)
    theirs = by_torch(copy.deepcopy(ours), (inputs, targets), torch.arange(ROWS), torch.zeros(5))
    steps = Native([ours], inputs, targets).train_steps(torch.arange(ROWS)[None], BATCH, torch.zeros(1, 5))
    assert theirs[1].min() > 100
    torch.testing.assert_close(steps.losses[0], theirs[1])
    assert steps.norms.isfinite().all()


@builds
@pytest.mark.parametrize(
    "loss",
    [
        Auto(),
        CrossEntropy(label_smoothing=0.1),
        CrossEntropy(class_weights=[1, 2, 0.5, 1, 0, 1, 3, 1, 1, 1]),
        CrossEntropy(label_smoothing=0.2, class_weights="balanced"),
    ],
)
def test_losses_of_classes_are_torchs(loss):
    loss.fit(digits()[1], 10)
    assert_as_by_torch(member(loss=loss), digits())


@builds
@pytest.mark.parametrize("weight", [None, 2.5])
def test_the_loss_of_two_classes_is_torchs(weight):
    inputs, targets = digits()
    torch.manual_seed(0)
    trained = member(model=MLP((64,), 1, hidden=[16]), loss=BinaryCrossEntropy(weight))
    assert_as_by_torch(trained, (inputs, (targets > 4).long()))


@builds
@pytest.mark.parametrize("auto", [True, False])
def test_the_loss_of_numbers_is_torchs(auto):
    loss = Auto() if auto else MeanSquaredError()
    loss.check("regression", 0)
    torch.manual_seed(0)
    assert_as_by_torch(member(model=MLP((10,), 1, hidden=[8]), loss=loss), diabetes())


@builds
@pytest.mark.parametrize(
    "regularizer",
    [
        Regularizer(l1=0.003),
        Regularizer(l2=0.01),
        Regularizer(clip_norm=0.8),
        Regularizer(l1=0.001, l2=0.01, clip_norm=0.5),
    ],
)
def test_penalties_and_clipping_are_those_of_the_regularizer(regularizer):
    # Not Adam, which blows up the rounding of gradients near zero.
    steps = assert_as_by_torch(member(optimizer=choice("momentum"), regularizer=regularizer), digits())
    if regularizer.clip_norm:
        assert steps.norms.max() > regularizer.clip_norm


@builds
@pytest.mark.parametrize(
    ("shape", "outputs", "settings"),
    [
        ((64,), 10, {"hidden": []}),
        ((64,), 10, {"hidden": [3]}),
        ((8, 8), 10, {"hidden": [150, 80, 33]}),
        ((64,), 300, {"hidden": [5, 260]}),
        ((1, 8, 8), 17, {"hidden": [100, 7], "dropout": 0.2}),
    ],
)
def test_any_number_and_width_of_layers(shape, outputs, settings):
    inputs, targets = digits()
    torch.manual_seed(0)
    assert_as_by_torch(member(model=MLP(shape, outputs, **settings)), (inputs.view(-1, *shape), targets))


@builds
def test_logistic_regression():
    torch.manual_seed(0)
    assert_as_by_torch(member(model=Logistic((64,), 10)), digits())


# Dropout.


@builds
@pytest.mark.parametrize("widths", [[32], [31], [7, 40, 5]])
def test_dropout_draws_what_torch_draws(widths):
    trained = member(hidden=widths, dropout=0.3, activation="tanh")
    torch.rand(7, generator=trained.dropout_rng)  # from the middle of a block of the generator's, at an odd place
    assert_as_by_torch(trained, digits())


@builds
def test_dropout_that_keeps_everything_draws_nothing():
    trained = member(dropout=1e-6)
    before = trained.dropout_rng.get_state()
    assert_as_by_torch(trained, digits())
    assert torch.equal(trained.dropout_rng.get_state(), before)


@builds
def test_masks_are_those_of_dropout_bit_for_bit():
    width, rate = 37, 0.4
    model = MLP((width,), width, hidden=[width], activation="sigmoid", dropout=rate)
    with torch.no_grad():
        model.output.weight.copy_(torch.eye(width))  # so the outputs are what dropout lets through
    trained = member(model=model)
    peer = torch.Generator().set_state(trained.dropout_rng.get_state())
    stack = Native([trained], torch.zeros(70, width), torch.zeros(70, dtype=torch.int64))
    seen = stack.train_steps(torch.arange(70)[None], BATCH, torch.zeros(1, 3, dtype=torch.float64)).outputs[0]
    with torch.random.fork_rng([]):
        torch.set_rng_state(peer.get_state())
        masks = torch.cat([_sixteen_bits(torch.Size([rows, width])) for rows in (32, 32, 6)])
    assert torch.equal(seen != 0, masks < Dropout(rate).kept - 32768)


# Members among others.


def mixed():
    """Members that differ in all that they may, one seed each."""
    return [
        member(1, choice("adam"), dropout=0.2),
        member(2, choice("nesterov"), regularizer=Regularizer(l1=0.001, clip_norm=0.5)),
        member(3, choice("adagrad"), loss=CrossEntropy(label_smoothing=0.1)),
        member(4, choice("rmsprop with momentum"), dropout=0.5),
        member(5, choice("adamw"), regularizer=Regularizer(l2=0.01)),
    ]


def outcome(members, threads, seeds):
    """Bits of all that training leaves: a list for each member."""
    stack = Native(members, *digits(), threads=threads)
    epochs = zip(orders(seeds), rates_of(members), strict=True)
    told = [stack.train_steps(order, BATCH, rates) for order, rates in epochs]
    evaluated = stack.eval_outputs(digits()[0], range(len(members)))
    return [
        [each.clone() for steps in told for each in (steps.outputs[i], steps.losses[i], steps.norms[i])]
        + [m.weights.vector.detach(), m.dropout_rng.get_state(), evaluated[i]]
        + [value for value in m.optimizer.state[m.weights.vector].values() if value is not None]
        for i, m in enumerate(members)
    ]


def assert_same_bits(first, second):
    assert len(first) == len(second)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@builds
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_member_has_the_same_bits_alone_and_in_a_stack(threads):
    together = outcome(mixed(), threads, seeds=range(5))
    for i in range(5):
        assert_same_bits(together[i], outcome([mixed()[i]], 1, seeds=[i])[0])


@builds
def test_a_member_that_diverges_touches_no_other():
    members = mixed()
    with torch.no_grad():
        members[2].weights.vector[5] = torch.nan
    together, whole = outcome(members, 2, seeds=range(5)), outcome(mixed(), 1, seeds=range(5))
    assert together[2][1].isnan().all()  # its losses
    assert together[2][-1].isnan().any()
    for i in (0, 1, 3, 4):
        assert_same_bits(together[i], whole[i])


@builds
def test_rows_of_one_matrix_are_trained_in_place():
    members, alone = mixed(), mixed()
    matrix = torch.stack([m.weights.vector.detach() for m in members])
    for row, m in zip(matrix, members, strict=True):
        m.weights.vector.data = row
    outcome(members, 2, seeds=range(5))
    outcome(alone, 1, seeds=range(5))
    assert torch.equal(matrix, torch.stack([m.weights.vector.detach() for m in alone]))


@builds
@optimizers
def test_a_member_goes_on_by_torch_and_comes_back(name):
    data = digits()
    trained, theirs = (member(optimizer=choice(name), dropout=0.2) for _ in range(2))
    order, rates = orders([3]), rates_of([trained])
    for epoch in range(EPOCHS):
        by_torch(theirs, data, order[epoch, 0], rates[epoch, 0])
        if epoch == 1:
            by_torch(trained, data, order[epoch, 0], rates[epoch, 0])
        else:
            Native([trained], *data).train_steps(order[epoch], BATCH, rates[epoch])
    torch.testing.assert_close(trained.weights.vector, theirs.weights.vector, rtol=1e-3, atol=2e-5)
    assert torch.equal(trained.dropout_rng.get_state(), theirs.dropout_rng.get_state())


@builds
def test_portions_of_an_epoch_are_the_epoch():
    whole, parts = member(dropout=0.2), member(dropout=0.2)
    order, rates = orders([3])[0], rates_of([whole])[0]
    Native([whole], *digits()).train_steps(order, BATCH, rates)
    stack = Native([parts], *digits())
    stack.train_steps(order[:, : 2 * BATCH], BATCH, rates[:, :2])
    stack.train_steps(order[:, 2 * BATCH :], BATCH, rates[:, 2:])
    assert torch.equal(whole.weights.vector, parts.weights.vector)
    assert torch.equal(whole.dropout_rng.get_state(), parts.dropout_rng.get_state())


# What it refuses.


@builds
def test_mistakes_of_a_caller_are_told_before_the_kernel_sees_them():
    inputs, targets = digits()
    with pytest.raises(ValueError, match="share the layers' widths"):
        Native([member(), member(hidden=[31])], inputs, targets)
    with pytest.raises(ValueError, match="share the layers' widths"):
        Native([member(), member(activation="tanh")], inputs, targets)
    with pytest.raises(ValueError, match="63 wide; needed: 64"):
        Native([member()], inputs[:, 1:], targets)
    with pytest.raises(RuntimeError, match="fit the loss"):
        Native([member(loss=CrossEntropy(class_weights="balanced"))], inputs, targets)
    with pytest.raises(ValueError, match="from 0 to 9"):
        Native([member()], inputs, targets + 1)
    stack = Native([member()], inputs, targets)
    with pytest.raises(ValueError, match="from 0 to 149"):
        stack.train_steps(torch.tensor([[150]]), BATCH, torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"needed \(1, 2\)"):
        stack.train_steps(torch.arange(40)[None], BATCH, torch.zeros(1, 1))
    with pytest.raises(ValueError, match="63 wide"):
        stack.eval_outputs(inputs[:, 1:], [0])


class Own(MLP):
    """A user's network may have a forward of its own."""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": CNN((1, 8, 8), 10, channels=[4])}, "model=mlp and model=logistic, not CNN"),
        ({"model": Own((64,), 10)}, "not Own"),
        ({"batch_norm": True}, "no batch norm"),
        ({"augment": Augment(shift=1)}, "does not augment"),
        ({"loss": nn.CrossEntropyLoss()}, "no loss CrossEntropyLoss"),
        ({"optimizer": {"_target_": "torch.optim.NAdam"}}, "no optimizer NAdam"),
        ({"optimizer": {**ADAM, "amsgrad": True}}, "no amsgrad in Adam"),
        ({"optimizer": {**ADAM, "maximize": True}}, "no maximize in Adam"),
        ({"optimizer": {"_target_": "torch.optim.RMSprop", "centered": True}}, "no centered in RMSprop"),
        ({"optimizer": {**ADAM, "eps": 0.0}}, "eps above 0"),
    ],
)
def test_why_it_cannot_train_something(settings, reason):
    refused = member(**settings)
    assert reason in why_not(refused.parts, refused.optimizer, "fp32")


def test_why_it_cannot_train_frozen_weights_and_other_precisions():
    fine = member(dropout=0.1)
    assert why_not(fine.parts, fine.optimizer, "fp32") is None
    assert "fp32, not bf16" in why_not(fine.parts, fine.optimizer, "bf16")
    fine.parts.model.output.weight.requires_grad_(False)
    assert "frozen" in why_not(fine.parts, fine.optimizer, "fp32")
    double = member(model=MLP((64,), 10).double())
    assert "float32" in why_not(double.parts, double.optimizer, "fp32")


# The compiler.


def test_no_compiler_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native_build._found.cache_clear()
    try:
        assert "there is no C++ compiler" in native_build.why_no_compiler()
        with pytest.raises(native_build.CannotBuild, match="none of"):
            native_build.kernel()
    finally:
        native_build._found.cache_clear()


def test_a_compiler_that_fails_is_a_reason(monkeypatch, tmp_path):
    fails = tmp_path / "fails"
    fails.write_text(
        '#!/bin/sh\ntest "$1" = --version && exit 0\necho "kernel.cpp:1: error: out of ideas" >&2\nexit 1\n'
    )
    fails.chmod(0o755)
    monkeypatch.setenv("CXX", str(fails))
    with pytest.raises(native_build.CannotBuild, match=r"fails failed: .*out of ideas"):
        native_build.build(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []  # nothing is left half made


@builds
def test_a_kernel_is_built_once_for_each_source(monkeypatch, tmp_path):
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    sources.mkdir()
    (sources / "kernel.cpp").write_text('extern "C" int one() { return 1; }\n')
    monkeypatch.setattr(native_build, "SOURCES", sources)
    library = native_build.build(cache)
    built = library.stat().st_mtime_ns
    assert native_build.build(cache) == library
    assert library.stat().st_mtime_ns == built
    assert list(cache.iterdir()) == [library]
    (sources / "part.h").write_text("// edited\n")
    assert native_build.build(cache) != library
