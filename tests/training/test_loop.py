"""The training loop beside a plain PyTorch loop, scikit-learn's figures, and runs without an interruption."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from torch import nn
from torch.nn import functional as F

from hypermap.core import checkpoint
from hypermap.core import device as machine
from hypermap.core.errors import Diverged, Interrupted, UserError
from hypermap.data.preprocessor import TensorSplit
from hypermap.models import CNN, MLP, Logistic, TabM
from hypermap.tasks.losses import CrossEntropy, MeanSquaredError, wrapped
from hypermap.tasks.regression import r2
from hypermap.training.augment import Augment
from hypermap.training.backends import backend, eager
from hypermap.training.components import Components, base_lr, make_optimizer
from hypermap.training.loop import Trainer, TrainVal, by_length
from hypermap.training.lr_schedules import Constant, Cosine, OneCycle, Plateau, Step
from hypermap.training.regularizers import Regularizer
from hypermap.training.state import TrainerConfig, TrainState, no_report
from support.tasks import task_of

CPU = torch.device("cpu")
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.003}
# Class in torch.optim and its settings, all with weight decay.
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.003, "betas": [0.8, 0.99], "weight_decay": 0.01}),
    "adamw": ("AdamW", {"lr": 0.003, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 0.001, "momentum": 0.5, "weight_decay": 0.01}),
    "adagrad": ("Adagrad", {"lr": 0.02, "lr_decay": 0.001, "weight_decay": 0.01}),
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture(autouse=True)
def one_thread():
    with machine.on_threads(1):
        yield


def split(inputs, targets, device=CPU):
    return TensorSplit(inputs.to(device), targets.to(device), torch.arange(len(targets)))


def digits(rows=250, images=False, device=CPU):
    """Training rows, and 150 others for validation."""
    data = load_digits()
    inputs = torch.tensor(data.data / 16, dtype=torch.float32)
    inputs, targets = inputs.view(-1, 1, 8, 8) if images else inputs, torch.tensor(data.target)
    return split(inputs[:rows], targets[:rows], device), split(inputs[-150:], targets[-150:], device)


def diabetes(rows=150):
    data = load_diabetes()
    inputs = torch.tensor(data.data * 20, dtype=torch.float32)
    targets = torch.tensor((data.target - 152) / 77, dtype=torch.float32)
    return split(inputs[:rows], targets[:rows]), split(inputs[-100:], targets[-100:])


def choice(name):
    target, settings = OPTIMIZERS[name]
    return {"_target_": f"torch.optim.{target}", **settings}


def network(seed=1, **settings):
    torch.manual_seed(seed)
    return MLP((64,), 10, **{"hidden": [32], **settings})


def trainer(
    model,
    optimizer=ADAM,
    *,
    loss=None,
    schedule=None,
    regularizer=None,
    augment=None,
    task="classification",
    seed=3,
    device=CPU,
    **settings,
):
    parts = Components(
        model.to(device),
        loss or CrossEntropy(),
        lambda parameters: make_optimizer(optimizer, parameters),
        schedule or Constant(),
        regularizer or Regularizer(),
        augment or Augment(),
        base_lr(optimizer),
    )
    chosen = TrainerConfig(**{"epochs": 3, "batch_size": 32, **settings})
    return Alone(parts, chosen, task_of(task), seed, device, validation_rows=150)


class Alone(TrainState):
    """A member that is trained by itself."""

    def fit(self, train, validation, state=None, quiet=False, report=no_report):
        self.folder = state

        def on_epoch_end(reports):
            report(*reports[0])
            return {}

        for ended in Trainer({0: self}, {0: TrainVal(train, validation)}).run(on_epoch_end, quiet):
            for end in ended.values():
                if isinstance(end, Exception):
                    raise end
        return self


def plain_loop(model, make, train, *, epochs=3, batch=32, seed=3, criterion=F.cross_entropy, change=None, decay=None):
    """Training as a textbook has it; returns the mean loss of each epoch over its rows."""
    descent = make(list(model.parameters()))
    schedule = decay(descent) if decay else None
    order = torch.Generator().manual_seed(seed)
    history = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(train.targets), generator=order).split(batch):
            descent.zero_grad()
            loss = criterion(model(train.inputs[rows]), train.targets[rows])
            loss.backward()
            if change is not None:
                change(model)
            descent.step()
            if schedule is not None:
                schedule.step()
            total += loss.item() * len(rows)
        history.append(total / len(train.targets))
    return history


def column(trained, name):
    return [row[name] for row in trained.history]


def assert_same_weights(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], **{"rtol": 1e-3, "atol": 1e-5, **tolerance})


# Beside a plain loop.


@optimizers
def test_losses_and_weights_are_those_of_a_plain_loop(name):
    train, validation = digits()
    ours, theirs = network(), network()
    target, settings = OPTIMIZERS[name]
    made = trainer(ours, choice(name))
    trained = made.fit(train, validation)
    losses = plain_loop(theirs, lambda p: getattr(torch.optim, target)(p, foreach=False, **settings), train)
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict())
    assert losses[-1] < 0.98 * losses[0]  # it has learned, so the comparison says something
    fused = target != "RMSprop"  # which torch has not fused
    assert bool(made.optimizer.param_groups[0].get("fused")) == fused


def test_members_learn_by_the_mean_of_their_losses():
    train, validation = digits()

    def build():
        torch.manual_seed(0)
        return TabM((64,), 10, hidden=[12], members=3, dropout=0.0, number_width=1)

    def mean_of_losses(outputs, targets):
        return torch.stack([F.cross_entropy(own, targets) for own in outputs.unbind(1)]).mean()

    ours, theirs = build(), build()
    trained = trainer(wrapped(CrossEntropy(), ours), choice("momentum")).fit(train, validation)
    target, settings = OPTIMIZERS["momentum"]
    make = partial(getattr(torch.optim, target), foreach=False, **settings)
    losses = plain_loop(theirs, make, train, criterion=mean_of_losses)
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict())
    shares = ours.eval()(validation.inputs).softmax(2).mean(1)
    assert column(trained, "validation_loss")[-1] == pytest.approx(F.nll_loss(shares.log(), validation.targets).item())
    right = int((shares.argmax(1) == validation.targets).sum())
    assert column(trained, "validation_score")[-1] == right / len(validation.targets)


def test_convolutions_and_batch_norm_are_those_of_a_plain_loop():
    train, validation = digits(120, images=True)

    def build():
        torch.manual_seed(0)
        cnn = CNN((1, 8, 8), 10, channels=[4, 6], dense=[8], padding="same")
        return nn.Sequential(nn.BatchNorm2d(1), cnn, nn.BatchNorm1d(10))

    ours, theirs = build(), build()
    # Not Adam: it blows up the rounding in gradients that are zero, such as a bias's before a batch norm.
    trained = trainer(ours, choice("momentum")).fit(train, validation)
    target, settings = OPTIMIZERS["momentum"]
    losses = plain_loop(theirs, lambda p: getattr(torch.optim, target)(p, foreach=False, **settings), train)
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize(("l1", "l2"), [(0.003, 0.0), (0.0, 0.01), (0.003, 0.01)])
def test_penalties_are_those_that_autograd_makes_of_their_sum(l1, l2):
    train, validation = digits()
    ours, theirs = network(), network()
    trained = trainer(ours, choice("momentum"), regularizer=Regularizer(l1=l1, l2=l2)).fit(train, validation)

    def add_penalty(model):
        matrices = [p for name, p in model.named_parameters() if name.endswith("weight")]
        penalty = sum(l1 * p.abs().sum() + l2 * (p**2).sum() for p in matrices)
        penalty.backward()

    target, settings = OPTIMIZERS["momentum"]
    losses = plain_loop(
        theirs, lambda p: getattr(torch.optim, target)(p, foreach=False, **settings), train, change=add_penalty
    )
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)  # the data's loss, without penalty
    assert_same_weights(ours.state_dict(), theirs.state_dict())


def test_clipping_is_that_of_torch_and_the_norm_told_is_the_one_before():
    train, validation = digits()
    ours, theirs = network(), network()
    norms = []

    def clip(model):
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.8).item())

    trained = trainer(ours, choice("sgd"), regularizer=Regularizer(clip_norm=0.8)).fit(train, validation)
    target, settings = OPTIMIZERS["sgd"]
    plain_loop(theirs, lambda p: getattr(torch.optim, target)(p, **settings), train, change=clip)
    assert max(norms) > 0.8 > min(norms)  # some are cut, some are not
    assert_same_weights(ours.state_dict(), theirs.state_dict())
    np.testing.assert_allclose(column(trained, "gradient_norm"), np.reshape(norms, (3, 8)).mean(1), rtol=1e-4)
    np.testing.assert_allclose(column(trained, "clipped"), (np.reshape(norms, (3, 8)) > 0.8).mean(1))


def test_a_schedule_is_that_of_a_plain_loop():
    train, validation = digits()
    ours, theirs = network(), network()
    trained = trainer(ours, choice("sgd"), schedule=Cosine()).fit(train, validation)
    target, settings = OPTIMIZERS["sgd"]
    losses = plain_loop(
        theirs,
        lambda p: getattr(torch.optim, target)(p, **settings),
        train,
        decay=lambda descent: torch.optim.lr_scheduler.CosineAnnealingLR(descent, 24),
    )
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict())


def test_regression_is_that_of_a_plain_loop():
    train, validation = diabetes()
    torch.manual_seed(0)
    ours = MLP((10,), 1, hidden=[8])
    theirs = copy.deepcopy(ours)
    trained = trainer(ours, loss=MeanSquaredError(), task="regression").fit(train, validation)
    losses = plain_loop(
        theirs,
        lambda p: torch.optim.Adam(p, lr=0.003, foreach=False),
        train,
        criterion=lambda outputs, targets: F.mse_loss(outputs[:, 0], targets),
    )
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict())


# The history.


def test_learning_rates_are_those_of_the_last_step_of_each_epoch():
    train, validation = digits(250)  # 8 steps an epoch
    trained = trainer(network(), schedule=OneCycle(), epochs=4).fit(train, validation)
    descent = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.003)
    peer = torch.optim.lr_scheduler.OneCycleLR(descent, max_lr=0.003, total_steps=32)
    rates = []
    for _ in range(32):
        rates.append(peer.get_last_lr()[0])
        descent.step()
        if len(rates) < 32:
            peer.step()
    np.testing.assert_allclose(column(trained, "learning_rate"), rates[7::8], rtol=1e-6)


def rates_used(monkeypatch):
    """The learning rate of each step that is taken from here on."""
    used, original = [], eager.stepper

    def watched(optimizer):
        step = original(optimizer)
        return lambda rate: used.append(rate) or step(rate)

    monkeypatch.setattr(eager, "stepper", watched)
    return used


def test_warm_up_climbs_step_by_step(monkeypatch):
    train, validation = digits(250)
    made = trainer(network(), schedule=Step(every_epochs=2, gamma=0.5, warmup_epochs=1.5), epochs=5)
    used = rates_used(monkeypatch)
    trained = made.fit(train, validation)
    expected = [0.003 * (i + 1) / 12 for i in range(12)] + [0.003] * 16 + [0.0015] * 12
    np.testing.assert_allclose(used, expected, rtol=1e-9)
    np.testing.assert_allclose(column(trained, "learning_rate"), expected[7::8], rtol=1e-9)


def test_train_loss_and_score_are_means_over_rows_and_the_last_batch_is_a_short_one():
    train, validation = digits(70)  # 32 + 32 + 6
    model = network()
    with torch.no_grad():
        probabilities = model(train.inputs).double().softmax(1).numpy()
    trained = trainer(model, {"_target_": "torch.optim.SGD", "lr": 1e-12}, epochs=1).fit(train, validation)
    (row,) = trained.history
    assert row["train_loss"] == pytest.approx(log_loss(train.targets, probabilities, labels=range(10)), rel=1e-6)
    assert row["train_score"] == pytest.approx(accuracy_score(train.targets, probabilities.argmax(1)))


@pytest.mark.parametrize(("rows", "batch", "steps"), [(65, 32, 2), (66, 32, 3), (64, 32, 2), (5, 32, 1), (5, 1, 5)])
def test_steps_of_an_epoch(monkeypatch, rows, batch, steps):
    train, validation = digits(rows)
    made = trainer(network(), epochs=2, batch_size=batch)
    taken = rates_used(monkeypatch)
    made.fit(train, validation)
    assert len(taken) == 2 * steps


def test_a_last_batch_of_one_row_is_left_out_for_batch_norm():
    train, validation = digits(65)
    model = network(batch_norm=True)
    reference = copy.deepcopy(model)
    trained = trainer(model, {"_target_": "torch.optim.SGD", "lr": 1e-12}, epochs=1).fit(train, validation)
    seen = torch.randperm(65, generator=torch.Generator().manual_seed(3))[:64]
    losses = [F.cross_entropy(reference(train.inputs[rows]), train.targets[rows]).item() for rows in seen.split(32)]
    assert trained.history[0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_validation_is_in_evaluation_mode():
    train, validation = digits()
    model = network(dropout=0.5, batch_norm=True)
    trained = trainer(model).fit(train, validation)
    peer = network(dropout=0.5, batch_norm=True)
    peer.load_state_dict(model.state_dict())  # after the last epoch
    peer.eval()
    with torch.no_grad():
        probabilities = peer(validation.inputs).double().softmax(1).numpy()
    last = trained.history[-1]
    assert last["validation_loss"] == pytest.approx(log_loss(validation.targets, probabilities, labels=range(10)), 1e-5)
    assert last["validation_score"] == pytest.approx(accuracy_score(validation.targets, probabilities.argmax(1)))


def test_r2_and_the_squared_error_are_scikit_learns():
    train, validation = diabetes()
    torch.manual_seed(0)
    model = Logistic((10,), 1)
    with torch.no_grad():
        before = model(train.inputs)[:, 0].numpy().copy()
    still = {"_target_": "torch.optim.SGD", "lr": 1e-12}
    trained = trainer(model, still, loss=MeanSquaredError(), task="regression", epochs=1).fit(train, validation)
    with torch.no_grad():
        after = model(validation.inputs)[:, 0].numpy()
    (row,) = trained.history
    assert row["train_score"] == pytest.approx(r2_score(train.targets, before), rel=1e-5)
    assert row["train_loss"] == pytest.approx(mean_squared_error(train.targets, before), rel=1e-5)
    assert row["validation_score"] == pytest.approx(r2_score(validation.targets, after), rel=1e-5)
    assert row["validation_loss"] == pytest.approx(mean_squared_error(validation.targets, after), rel=1e-5)


@pytest.mark.parametrize("predicted", [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
def test_r2_of_equal_targets_is_finite_and_scikit_learns(predicted):
    targets = torch.ones(3)
    assert r2(torch.tensor(predicted), targets.double()) == r2_score(targets, predicted)


def test_rows_come_in_another_order_each_epoch_and_each_once():
    train, validation = digits(50)
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, inputs):
            if self.training:
                seen.append(inputs.clone())
            return self.layer(inputs)

    trainer(Watching(), epochs=2, batch_size=20).fit(train, validation)
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert [len(part) for part in seen] == [20, 20, 10] * 2
    assert not torch.equal(first, second)
    for rows in (first, second):
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, train.inputs.tolist()))


def test_same_seed_same_history_and_another_seed_another():
    train, validation = digits(images=True)

    def history(seed):
        model = network(seed, dropout=0.2)
        trained = trainer(model, augment=Augment(shift=1), seed=seed).fit(train, validation)
        return [{**row, "seconds": 0} for row in trained.history]

    assert history(1) == history(1)
    assert history(1) != history(2)


# The epoch that is kept, and when to stop.


def scripted(monkeypatch, scores, losses=None, epochs=None, **settings):
    """Train for real on a few rows, with validation figures from a script."""
    train, validation = digits(40)
    model = network()
    made = trainer(model, epochs=epochs or len(scores), **settings)
    losses = losses or [1.0] * len(scores)
    told = ({"validation_loss": loss, "validation_score": score} for loss, score in zip(losses, scores, strict=True))
    after = []

    def evaluate(self):
        after.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return [next(told)]

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    trained = made.fit(train, validation)
    assert_same_weights(trained.best_weights, after[trained.best_epoch - 1], rtol=0, atol=0)
    return trained


@pytest.mark.parametrize(
    ("monitor", "scores", "losses", "kept"),
    [
        (None, [0.5, 0.9, 0.7, 0.8], [4, 3, 2, 1], 2),
        ("accuracy", [0.5, 0.9, 0.7, 0.8], [4, 3, 2, 1], 2),
        ("loss", [0.5, 0.9, 0.7, 0.8], [4, 3, 1, 2], 3),
        (None, [0.9, 0.9, 0.9, 0.8], [3, 1, 2, 0], 2),  # equal scores: the lower loss
        (None, [0.9, 0.9, 0.8, 0.9], [1, 1, 0, 1], 1),  # equal in both: the first
        ("loss", [0.1, 0.2, 0.3, 0.4], [2, 1, 1, 1], 2),
    ],
)
def test_the_epoch_kept(monkeypatch, monitor, scores, losses, kept):
    assert scripted(monkeypatch, scores, losses, monitor=monitor).best_epoch == kept


@pytest.mark.parametrize(
    ("scores", "losses", "kept"),
    [
        # Of 150 rows 120 right: a quarter of sqrt(0.8 * 0.2 / 150) is 0.0082, or 1.2 rows.
        ([118 / 150, 119 / 150, 120 / 150, 119 / 150], [1.0, 0.7, 0.9, 0.8], 2),
        ([118 / 150, 119 / 150, 120 / 150, 119 / 150], [0.1, 0.9, 0.7, 0.8], 3),  # two rows fewer can be told apart
        ([119 / 150, 120 / 150, 121 / 150, 100 / 150], [0.5, 0.6, 0.9, 0.1], 2),  # the first was kept until the third
        ([119 / 150, 119 / 150, 120 / 150], [0.5, 0.5, 0.6], 1),  # equal losses: the first
        ([1.0, 149 / 150, 1.0], [0.3, 0.1, 0.2], 3),  # no mistake: less than a row is left
    ],
)
def test_of_epochs_whose_accuracy_cannot_be_told_apart_the_one_of_the_lowest_loss(monkeypatch, scores, losses, kept):
    assert scripted(monkeypatch, scores, losses).best_epoch == kept


def test_the_epoch_kept_by_r2(monkeypatch):
    train, validation = diabetes()
    made = trainer(Logistic((10,), 1), loss=MeanSquaredError(), task="regression", monitor="r2")
    told = iter([-3.0, 0.4, 0.2])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: [{"validation_loss": 1.0, "validation_score": next(told)}])
    assert made.fit(train, validation).best_epoch == 2


@pytest.mark.parametrize(
    ("patience", "scores", "epochs_run", "kept"),
    [
        (2, [0.5, 0.6, 0.6, 0.5, 0.9, 0.9], 4, 2),  # with an equal loss, an equal score is no better
        (3, [0.5, 0.6, 0.6, 0.5, 0.9, 0.9], 6, 5),
        (1, [0.5, 0.4, 0.9, 0.9, 0.9, 0.9], 2, 1),
        (5, [0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 6, 1),  # the patience ends with the training
    ],
)
def test_early_stopping(monkeypatch, patience, scores, epochs_run, kept):
    trained = scripted(monkeypatch, scores, regularizer=Regularizer(patience_epochs=patience))
    assert len(trained.history) == epochs_run
    assert trained.best_epoch == kept
    assert trained.stopped_early == (epochs_run < len(scores))


def test_the_number_of_rows_decides_epochs_and_batches_unless_the_settings_do():
    settings = TrainerConfig(epochs=None, batch_size=None)
    made = [settings.of_rows(rows) for rows in (1, 500, 4157, 13_208, 26_048, 10**6)]
    assert [own.batch for own in made] == [16, 16, 32, 128, 256, 256]
    assert [own.length for own in made] == [40, 40, 40, 23, 16, 4]
    given = TrainerConfig(epochs=3, batch_size=48)
    assert given.of_rows(10**6) == given


@pytest.mark.parametrize(("task", "monitor"), [("classification", "r2"), ("regression", "accuracy")])
def test_a_monitor_of_the_other_task_is_refused(task, monitor):
    with pytest.raises(
        UserError, match=rf"trainer.monitor is '{monitor}'; for {task} it can be \w+, loss or refinement"
    ):
        TrainerConfig(epochs=1, batch_size=1, monitor=monitor).monitored(task_of(task))


# A run interrupted, and taken up again.


def stop_at(monkeypatch, function, count):
    """Interrupt a run after its `count`-th call of `checkpoint.save`, or before that of its `write_json`."""
    original, calls = getattr(checkpoint, function), []

    def counted(*args):
        calls.append(1)
        if function == "save":
            original(*args)
        if len(calls) == count:
            raise KeyboardInterrupt
        if function != "save":
            original(*args)

    monkeypatch.setattr(checkpoint, function, counted)


def test_an_epoch_that_comes_to_be_kept_after_a_stop_has_its_weights(tmp_path, monkeypatch):
    """The first of three is kept until the third, whose accuracy leaves the second, of before the stop."""
    told = iter([(119, 0.5), (120, 0.6), (121, 0.9)])
    after = []

    def evaluate(self):
        after.append({name: tensor.clone() for name, tensor in self.members[0].parts.model.state_dict().items()})
        right, loss = next(told)
        return [{"validation_loss": loss, "validation_score": right / 150}]

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    with monkeypatch.context() as patch:
        stop_at(patch, "save", 2)
        with pytest.raises(KeyboardInterrupt):
            trainer(network()).fit(*digits(40), tmp_path)
    trained = trainer(network()).fit(*digits(40), tmp_path)
    assert trained.best_epoch == 2
    assert_same_weights(trained.best_weights, after[1], rtol=0, atol=0)


def outcome(made, state=None, images=True, rows=130):
    trained = made.fit(*digits(rows, images=images, device=made.device), state)
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in trained.history]
    tensors = {name: tensor.cpu().numpy().tobytes() for name, tensor in trained.best_weights.items()}
    tensors |= {f"last/{k}": v.cpu().numpy().tobytes() for k, v in made.parts.model.state_dict().items()}
    return history, tensors, trained.best_epoch, trained.stopped_early


def everything(optimizer, device=CPU):
    """Dropout, batch norm, augmentation, a plateau and early stopping, all at work within the epochs."""
    return trainer(
        network(hidden=[16], dropout=0.3, batch_norm=True),
        optimizer,
        schedule=Plateau(patience=0, threshold=0.2, warmup_epochs=0.5),
        regularizer=Regularizer(l1=1e-5, clip_norm=1.0, patience_epochs=3),
        augment=Augment(flip=True, shift=1),
        epochs=8,
        device=device,
    )


@optimizers
@pytest.mark.parametrize("epoch", [1, 3, -1])
@pytest.mark.parametrize("where", ["save", "write_json"])
def test_a_run_goes_on_to_the_numbers_of_one_without_a_stop(name, where, epoch, tmp_path, monkeypatch):
    expected = outcome(everything(choice(name)))
    history, *_, stopped_early = expected
    assert len({row["learning_rate"] for row in history}) > 2  # the plateau was at work
    assert stopped_early
    best = max(history, key=lambda row: (row["validation_score"], -row["validation_loss"]))
    assert len(history) == best["epoch"] + 3  # and so was early stopping
    count = epoch if epoch > 0 else len(history)
    with monkeypatch.context() as patch:
        stop_at(patch, where, count)
        with pytest.raises(KeyboardInterrupt):
            outcome(everything(choice(name)), tmp_path)
    torch.manual_seed(99)  # the global generator too is taken from the state
    again = everything(choice(name))
    assert outcome(again, tmp_path) == expected


def test_a_run_interrupted_again_and_again(tmp_path, monkeypatch):
    expected = outcome(everything(ADAM))
    for _ in expected[0]:
        with monkeypatch.context() as patch:
            stop_at(patch, "save", 1)
            with pytest.raises(KeyboardInterrupt):
                outcome(everything(ADAM), tmp_path)
    assert outcome(everything(ADAM), tmp_path) == expected


def test_a_run_that_stopped_early_does_not_go_on(tmp_path, monkeypatch):
    settings = {"regularizer": Regularizer(patience_epochs=1), "epochs": 30}
    sgd = {"_target_": "torch.optim.SGD", "lr": 2.0}

    def build():
        return trainer(network(), sgd, **settings)

    expected = outcome(build(), images=False)
    epochs, kept, early = len(expected[0]), expected[2], expected[3]
    assert early
    assert epochs == kept + 1 < 30
    with monkeypatch.context() as patch:
        stop_at(patch, "save", epochs)  # after the last epoch, before the outcome is told
        with pytest.raises(KeyboardInterrupt):
            outcome(build(), tmp_path, images=False)
    assert outcome(build(), tmp_path, images=False) == expected


def test_the_plateau_multiplier_lives_on(tmp_path, monkeypatch):
    def build():
        return trainer(network(), {"_target_": "torch.optim.SGD", "lr": 1e-9}, schedule=Plateau(patience=1), epochs=6)

    with monkeypatch.context() as patch:
        stop_at(patch, "save", 4)
        with pytest.raises(KeyboardInterrupt):
            outcome(build(), tmp_path, images=False)
    history = outcome(build(), tmp_path, images=False)[0]
    # The first epoch sets the best loss; each second one after it halves the rate.
    np.testing.assert_allclose([row["learning_rate"] / 1e-9 for row in history], [1, 1, 1, 0.5, 0.5, 0.25])


def test_a_state_of_its_own_leaves_a_run_as_it_is(tmp_path):
    left = outcome(everything(ADAM), tmp_path)
    assert left == outcome(everything(ADAM))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [f"epoch-{len(left[0]):04d}.safetensors"]


@pytest.mark.parametrize("name", ["epoch-0003.safetensors", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_a_damaged_state_is_named_with_what_to_do(tmp_path, name, damage):
    outcome(trainer(network()), tmp_path, images=False)
    content = (tmp_path / name).read_bytes()
    left = {"cut": content[: len(content) // 2], "emptied": b"", "overwritten": b"\xff" * len(content)}[damage]
    (tmp_path / name).write_bytes(left)
    with pytest.raises(UserError) as told:
        outcome(trainer(network()), tmp_path, images=False)
    assert str(tmp_path / name) in str(told.value)
    assert f"remove the folder {tmp_path}" in str(told.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_a_run_goes_on_to_the_numbers_of_one_without_a_stop(tmp_path, monkeypatch):
    cuda = torch.device("cuda")
    expected = outcome(everything(ADAM, cuda))
    with monkeypatch.context() as patch:
        stop_at(patch, "save", 4)
        with pytest.raises(KeyboardInterrupt):
            outcome(everything(ADAM, cuda), tmp_path)
    torch.manual_seed(99)
    assert outcome(everything(ADAM, cuda), tmp_path) == expected


# Losses that are not finite.


def diverges(made, train, validation):
    with pytest.raises(Diverged) as told:
        made.fit(train, validation)
    return str(told.value)


def test_divergence_names_epoch_and_step_and_what_to_try():
    train, validation = digits()
    message = diverges(trainer(network(), {"_target_": "torch.optim.SGD", "lr": 1e20}), train, validation)
    reference = network()
    step = next(
        step
        for step, loss in enumerate(losses_of_steps(reference, 1e20, train), 1)
        if not math.isfinite(loss)
    )  # fmt: skip
    assert f"epoch 1, step {step} of 8" in message
    assert "optimizer.lr=1e+19" in message
    assert "regularizer=clip" in message


def losses_of_steps(model, rate, train):
    descent = torch.optim.SGD(model.parameters(), lr=rate)
    order = torch.Generator().manual_seed(3)
    for rows in torch.randperm(len(train.targets), generator=order).split(32):
        descent.zero_grad()
        loss = F.cross_entropy(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        descent.step()
        yield loss.item()


def test_divergence_advises_by_the_rate_that_was_set_not_by_that_of_the_schedule():
    train, validation = digits()
    made = trainer(network(), {"_target_": "torch.optim.SGD", "lr": 1e20}, schedule=OneCycle(), epochs=2)
    assert "optimizer.lr=1e+19" in diverges(made, train, validation)


def test_data_that_is_not_finite_is_a_clear_error():
    train, validation = digits(96)
    row = torch.randperm(96, generator=torch.Generator().manual_seed(3))[40]  # of the second batch of 32
    train.inputs[row, 5] = math.nan
    message = diverges(trainer(network()), train, validation)
    assert "the loss is nan in epoch 1, step 2 of 3" in message
    assert "not finite" in message


def test_a_later_epoch_is_named():
    train, validation = digits(96)
    made = trainer(network(), epochs=5)
    made.fit(train, validation)
    made.settings = TrainerConfig(epochs=9, batch_size=32)
    train.inputs[:] = math.inf
    assert "in epoch 6, step 1 of 3" in diverges(made, train, validation)


def test_validation_rows_that_are_not_finite():
    train, validation = digits(96)
    validation.inputs[0] = math.nan
    assert "loss is nan in epoch 1, on the validation rows" in diverges(trainer(network()), train, validation)


def test_what_was_reached_before_a_divergence_is_not_lost(tmp_path):
    train, validation = digits(96)
    made = trainer(network(), epochs=2)
    made.fit(train, validation, tmp_path)
    again = trainer(network(), epochs=5)
    broken, _ = digits(96)
    broken.inputs[:] = math.nan
    with pytest.raises(UserError, match="epoch 3"):
        again.fit(broken, validation, tmp_path)
    assert len(checkpoint.load(tmp_path).record["history"]) == 2


# Reports.


def heard_by(made, state=None, rows=130):
    heard = []
    trained = made.fit(*digits(rows, images=True), state, report=lambda step, value: heard.append((step, value)))
    return heard, trained


@pytest.mark.parametrize("monitor", ["accuracy", "loss", "refinement"])
def test_the_monitored_figure_is_reported_each_epoch(monitor):
    heard, trained = heard_by(trainer(network(), monitor=monitor))
    column = "validation_score" if monitor == "accuracy" else f"validation_{monitor}"
    assert heard == [(row["epoch"], row[column]) for row in trained.history]


@pytest.mark.parametrize("portions", [2, 4, 7])
def test_reports_within_an_epoch_change_no_number(portions, monkeypatch):
    expected = outcome(everything(ADAM))
    made = everything(ADAM)
    made.settings = replace(made.settings, reports_per_epoch=portions)
    glances = []
    glance = Trainer.evaluate_mid_epoch
    monkeypatch.setattr(Trainer, "evaluate_mid_epoch", lambda *args: glances.append(1) or glance(*args))
    assert outcome(made) == expected
    assert len(glances) >= len(expected[0])


class Restless(nn.Module):
    """Draws from the global generator in evaluation, too, as sampling with dropout does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs):
        return F.dropout(self.layer(inputs.flatten(1)), 0.5, training=True)


def test_reports_within_an_epoch_leave_the_generator_alone():
    histories = []
    for portions in (1, 3):
        torch.manual_seed(1)
        histories.append(outcome(trainer(Restless(), reports_per_epoch=portions))[:2])
    assert histories[0] == histories[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_reports_within_an_epoch_change_no_number():
    cuda = torch.device("cuda")
    made = everything(ADAM, cuda)
    made.settings = replace(made.settings, reports_per_epoch=3)
    assert outcome(made) == outcome(everything(ADAM, cuda))


@pytest.mark.parametrize(
    ("portions", "steps", "told"),
    [
        (1, 5, [1, 2]),
        (5, 5, list(range(1, 11))),
        (2, 5, [1, 2, 3, 4]),
        (4, 2, [2, 4, 6, 8]),  # more portions than steps: a report after each step
    ],
)
def test_the_steps_that_are_reported(portions, steps, told):
    heard, _ = heard_by(trainer(network(), epochs=2, reports_per_epoch=portions), rows=32 * steps)
    assert [step for step, _ in heard] == told


def test_a_report_within_an_epoch_is_of_the_weights_at_that_point():
    train, validation = digits(128)
    heard = []
    made = trainer(network(), epochs=1, reports_per_epoch=2, monitor="loss")
    made.fit(train, validation, report=lambda *told: heard.append(told))
    other = trainer(network(), epochs=1, monitor="loss")
    again = Trainer({0: other}, {0: TrainVal(train, validation)})
    first = torch.randperm(128, generator=other.shuffle_rng)[None, :64]
    again.backend.train_steps(first, 32, torch.tensor([other.learning_rates(4)[:2]]))
    # The two losses are of equal weights, but a float32 mean may be summed in another order.
    assert heard[0] == (1, pytest.approx(again.evaluate()[0]["validation_loss"], rel=1e-6))
    assert heard[1][0] == 2
    assert heard[0][1] != heard[1][1]


def test_a_figure_that_is_not_finite_within_an_epoch_is_left_to_its_end(monkeypatch):
    made = trainer(network(), epochs=2, reports_per_epoch=3)
    monkeypatch.setattr(Trainer, "evaluate_mid_epoch", lambda self: {})
    assert [step for step, _ in heard_by(made)[0]] == [3, 6]


def test_an_interrupted_runs_epochs_are_reported_again(tmp_path):
    whole, _ = heard_by(everything(ADAM))

    def stops(step, value):
        first.append((step, value))
        if step == 2:
            raise Interrupted

    first = []
    with pytest.raises(Interrupted):
        everything(ADAM).fit(*digits(130, images=True), tmp_path, report=stops)
    assert len(checkpoint.load(tmp_path).record["history"]) == 2
    torch.manual_seed(99)
    assert first == whole[:2]
    assert heard_by(everything(ADAM), tmp_path)[0] == whole


# Precision, compilation, and networks of one's own.


def test_bf16_trains_close_to_fp32_and_in_sixteen_bits():
    train, validation = digits()
    dtypes = set()

    def history(precision):
        model = network()
        model.output.register_forward_hook(lambda layer, args, output: dtypes.add((precision, output.dtype)))
        return trainer(model, precision=precision).fit(train, validation)

    half, full = history("bf16"), history("fp32")
    assert dtypes == {("bf16", torch.bfloat16), ("fp32", torch.float32)}
    assert all(tensor.dtype == torch.float32 for tensor in half.best_weights.values())
    np.testing.assert_allclose(column(half, "train_loss"), column(full, "train_loss"), rtol=0.02)
    assert column(half, "train_loss") != column(full, "train_loss")


def test_compile_hands_the_network_to_torch_compile(monkeypatch):
    handed = []
    monkeypatch.setattr(torch, "compile", lambda model: handed.append(model) or model)
    model, data = network(), digits(40)
    trainer(model).fit(*data)
    assert handed == []
    trainer(model, compile=True).fit(*data)
    assert handed[0] is model


@pytest.mark.parametrize(
    "settings",
    [{"batch_norm": True}, {"dropout": 0.2}],
)
def test_a_compiled_network_learns_like_any(settings, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # no C compiler: it takes long
    train, validation = digits()
    compiled = trainer(network(**settings), compile=True).fit(train, validation)
    plain = trainer(network(**settings)).fit(train, validation)
    rtol = 0.2 if "dropout" in settings else 1e-4  # other draws
    np.testing.assert_allclose(column(compiled, "train_loss"), column(plain, "train_loss"), rtol=rtol)
    assert compiled.best_weights.keys() == plain.best_weights.keys()


class Own(nn.Module):
    """A user's: a frozen layer, a matrix used twice, a parameter that no output depends on, a forward of its own."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(64, 16)
        self.frozen.requires_grad_(False)
        self.square = nn.Linear(16, 16, bias=False)
        self.again = nn.Linear(16, 16)
        self.again.weight = self.square.weight
        self.scale = nn.Parameter(torch.ones(()))
        self.output = nn.Linear(16, 10)

    def forward(self, inputs, twice=True):
        hidden = torch.tanh(self.square(self.frozen(inputs)))
        if twice:
            hidden = hidden + self.again(hidden).relu() * self.scale
        return self.output(hidden)


def own():
    torch.manual_seed(5)
    return Own()


def test_a_network_of_ones_own_with_frozen_and_shared_parameters():
    train, validation = digits()
    ours, theirs = own(), own()
    trained = trainer(ours).fit(train, validation)

    def adam(parameters):
        return torch.optim.Adam([p for p in parameters if p.requires_grad], lr=0.003, foreach=False)

    losses = plain_loop(theirs, adam, train)
    np.testing.assert_allclose(column(trained, "train_loss"), losses, rtol=1e-4)
    assert_same_weights(ours.state_dict(), theirs.state_dict(), rtol=1e-2, atol=1e-4)
    assert torch.equal(trained.best_weights["frozen.weight"], own().frozen.weight)
    assert not torch.equal(trained.best_weights["square.weight"], own().square.weight)
    assert ours.again.weight is ours.square.weight
    assert torch.equal(trained.best_weights["again.weight"], trained.best_weights["square.weight"])


def test_frozen_and_shared_parameters_survive_an_interruption(tmp_path, monkeypatch):
    expected = outcome(trainer(own()), images=False)
    with monkeypatch.context() as patch:
        stop_at(patch, "save", 2)
        with pytest.raises(KeyboardInterrupt):
            outcome(trainer(own()), tmp_path, images=False)
    assert outcome(trainer(own()), tmp_path, images=False) == expected


def test_forward_all_takes_portions_and_changes_no_figure(monkeypatch):
    _, validation = digits()
    model = network(batch_norm=True, dropout=0.5)
    sizes = []
    model.flatten.register_forward_hook(lambda layer, args, output: sizes.append(len(output)))
    whole = backend.forward_all(model, validation.inputs)
    monkeypatch.setattr(backend, "EVALUATION_ROWS", 40)
    parts = backend.forward_all(model, validation.inputs)
    assert sizes == [150, 40, 40, 40, 30]
    torch.testing.assert_close(parts, whole)
    assert not whole.requires_grad


def test_no_bar_where_the_output_is_no_terminal(capsys):
    train, validation = digits(40)
    trainer(network()).fit(train, validation)
    assert capsys.readouterr() == ("", "")


def test_batches_of_similar_length_have_each_row_once_and_little_padding():
    lengths = torch.randint(1, 100, (64 * 30 + 7,), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(1))
    made = [by_length(order, lengths, 64, torch.Generator().manual_seed(seed)) for seed in (2, 2, 3)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert torch.equal(made[0].sort().values, torch.arange(len(lengths)))
    assert made[0][-7:].tolist() == order[-7:].tolist()  # a smaller batch comes last, as without

    def padded(rows):
        return sum(int(lengths[some].max()) * len(some) for some in rows.split(64))

    assert padded(made[0]) < 1.1 * int(lengths.sum()) < 1.7 * int(lengths.sum()) < padded(order)
    few = by_length(torch.arange(3), torch.ones(3), 3, torch.Generator().manual_seed(0))
    assert few.tolist() == [0, 1, 2]


def test_rows_with_lengths_meet_in_such_batches_and_a_stopped_run_goes_on_to_the_same(tmp_path, monkeypatch):
    train, validation = digits(300, images=False)
    lengths = torch.arange(300) % 17
    sets = TrainVal(replace(train, inputs=train.inputs.clone()), validation, lengths)
    sets.train.inputs[:, 0] = lengths.float()
    seen = []

    class Watched(MLP):
        def forward(self, inputs):
            if self.training:
                seen.append(inputs[:, 0].clone())
            return super().forward(inputs)

    def weights(state=None):
        torch.manual_seed(1)
        made = trainer(Watched((64,), 10, hidden=[16], dropout=0.2), epochs=4)
        made.folder = state
        for _ in Trainer({0: made}, {0: sets}).run(lambda reports: {}):
            pass
        return {name: tensor.clone() for name, tensor in made.parts.model.state_dict().items()}

    whole = weights()
    assert [len(rows) for rows in seen[:10]] == [32] * 9 + [12]
    assert all(rows.max() - rows.min() <= 2 for rows in seen[:9])  # a tenth of 300 rows of 17 lengths
    with monkeypatch.context() as patch:
        stop_at(patch, "save", 2)
        with pytest.raises(KeyboardInterrupt):
            weights(tmp_path)
    again = weights(tmp_path)
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
