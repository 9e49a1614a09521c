import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.tasks.losses import (
    Auto,
    BinaryCrossEntropy,
    CrossEntropy,
    JointLoss,
    MeanSquaredError,
    MultilabelCrossEntropy,
    WithLogVariances,
    members_as_rows,
    pooled,
)

ROWS, CLASSES = 50, 4


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets() -> torch.Tensor:
    drawn = torch.randint(0, CLASSES, (ROWS,), generator=torch.Generator().manual_seed(1))
    drawn[:CLASSES] = torch.arange(CLASSES)
    return drawn


def test_cross_entropy_by_hand():
    probabilities = torch.tensor([[0.3, 0.6, 0.1]])
    assert CrossEntropy()(probabilities.log(), torch.tensor([1])).item() == pytest.approx(0.5108, abs=5e-5)


def test_binary_cross_entropy_by_hand():
    logit = torch.tensor([[math.log(0.8 / 0.2)]])
    assert BinaryCrossEntropy()(logit, torch.tensor([1])).item() == pytest.approx(0.2231, abs=5e-5)
    assert BinaryCrossEntropy()(-logit, torch.tensor([0])).item() == pytest.approx(0.2231, abs=5e-5)


def test_squared_error_by_hand():
    loss = MeanSquaredError()(torch.tensor([[3.2]]), torch.tensor([4.0])).item()
    assert loss == pytest.approx(0.64)
    assert loss / 2 == pytest.approx(0.32)  # the articles' half of it


def test_cross_entropy_is_scikit_learns(logits, targets):
    loss = CrossEntropy()
    expected = log_loss(targets, loss.predictions(logits).numpy(), labels=range(CLASSES))
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_is_scikit_learns(logits, targets):
    weights = [1.0, 2.0, 0.5, 0.0]
    loss = CrossEntropy(class_weights=weights)
    loss.fit(targets, CLASSES)
    expected = log_loss(
        targets,
        loss.predictions(logits).numpy(),
        labels=range(CLASSES),
        sample_weight=np.array(weights)[targets],
    )
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_balanced_weights_are_scikit_learns(logits, targets):
    loss = CrossEntropy(class_weights="balanced")
    loss.fit(targets, CLASSES)
    expected = compute_class_weight("balanced", classes=np.arange(CLASSES), y=targets.numpy())
    assert loss.weights.numpy() == pytest.approx(expected)
    weighted = CrossEntropy(class_weights=expected.tolist())
    assert loss(logits, targets).item() == pytest.approx(weighted(logits, targets).item())


def test_balanced_weights_must_be_fitted(logits, targets):
    with pytest.raises(RuntimeError, match="fit"):
        CrossEntropy(class_weights="balanced")(logits, targets)


def test_balanced_weights_of_a_class_without_rows_are_refused():
    with pytest.raises(UserError, match=r"classes \[1, 3\] have no training rows"):
        CrossEntropy(class_weights="balanced").fit(torch.tensor([0, 2, 2]), 4)


def test_label_smoothing_is_keras_formula(logits, targets):
    smoothing = 0.1
    soft = F.one_hot(targets, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    expected = -(soft * logits.log_softmax(1)).sum(1).mean().item()
    assert CrossEntropy(label_smoothing=smoothing)(logits, targets).item() == pytest.approx(expected)


def test_binary_cross_entropy_is_scikit_learns(logits, targets):
    loss = BinaryCrossEntropy()
    expected = log_loss(targets % 2, loss.predictions(logits[:, :1])[:, 1].numpy())
    assert loss(logits[:, :1], targets % 2).item() == pytest.approx(expected, rel=1e-5)


def test_positive_weight_multiplies_the_rows_of_class_one(logits, targets):
    loss = BinaryCrossEntropy(positive_weight=3.0)
    loss.fit(targets % 2, 2)
    classes = (targets % 2).numpy()
    probability = BinaryCrossEntropy().predictions(logits[:, :1])[:, 1].double().numpy()
    expected = np.mean(-3 * classes * np.log(probability) - (1 - classes) * np.log(1 - probability))
    assert loss(logits[:, :1], targets % 2).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_binary_targets_of_any_dtype(dtype):
    loss = BinaryCrossEntropy()(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]).to(dtype))
    assert loss.item() == pytest.approx(math.log(2))


def test_squared_error_pairs_rows_with_targets():
    outputs, targets = torch.arange(5.0)[:, None], torch.arange(5.0)
    assert MeanSquaredError()(outputs, targets).item() == 0


def test_binary_and_two_class_cross_entropy_agree(logits, targets):
    binary = BinaryCrossEntropy().predictions(logits[:, :1])
    softmax = CrossEntropy().predictions(torch.cat([torch.zeros(ROWS, 1), logits[:, :1]], 1))
    torch.testing.assert_close(binary, softmax)


def test_extreme_binary_predictions_keep_their_digits():
    assert BinaryCrossEntropy().predictions(torch.tensor([[40.0]]))[0, 0].item() == pytest.approx(math.exp(-40))


@pytest.mark.parametrize(
    ("loss", "classes", "width", "shape"),
    [
        (CrossEntropy(), 3, 3, (5, 3)),
        (BinaryCrossEntropy(), 2, 1, (5, 2)),
        (MeanSquaredError(), 0, 1, (5,)),
        (Auto(), 3, 3, (5, 3)),
        (Auto(), 2, 2, (5, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_contract(loss, classes, width, shape, dtype):
    loss.check(loss.task, classes)
    assert loss.outputs(classes) == width
    targets = torch.zeros(5) if loss.task == "regression" else torch.tensor([0, 1, 0, 1, 0])
    loss.fit(targets, classes) if classes != 3 else loss.fit(torch.tensor([0, 1, 2]), classes)
    outputs = torch.randn(5, width, dtype=dtype, requires_grad=True)
    value = loss(outputs.float(), targets)
    assert value.shape == ()
    value.backward()
    assert outputs.grad.shape == outputs.shape
    predictions = loss.predictions(outputs.detach())
    assert predictions.shape == shape
    assert predictions.dtype == torch.float32
    if loss.task == "classification":
        torch.testing.assert_close(predictions.sum(1), torch.ones(5))


class Unpooled:
    """A loss that says nothing of members."""

    def predictions(self, outputs):
        return outputs.squeeze(1)


@pytest.mark.parametrize(
    ("make", "width"),
    [
        (CrossEntropy, 3),
        (BinaryCrossEntropy, 1),
        (MeanSquaredError, 1),
        (MultilabelCrossEntropy, 4),
        (lambda: JointLoss(MIXED), 6),  # of which two are learned variances
        (Unpooled, 1),
    ],
)
def test_pooled_outputs_predict_the_mean_of_the_members_predictions(make, width):
    loss, outputs = make(), 3 * torch.randn(7, 5, width, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([loss.predictions(own) for own in outputs.unbind(1)]).mean(0)
    torch.testing.assert_close(loss.predictions(pooled(loss, outputs)), expected, rtol=1e-5, atol=1e-6)


def test_probabilities_that_members_are_sure_of_are_pooled_without_overflow():
    assert pooled(BinaryCrossEntropy(), torch.tensor([[[-200.0], [-200.0]]])).item() == pytest.approx(-200.0)
    assert pooled(CrossEntropy(), torch.tensor([[[0.0, 300.0]] * 2])).isfinite().all()


def test_the_loss_of_members_as_rows_is_the_mean_of_theirs(logits, targets):
    outputs = torch.stack([logits, 2 * logits, -logits], 1)
    for loss in (CrossEntropy(), CrossEntropy(class_weights=[1.0, 2.0, 0.5, 0.0], label_smoothing=0.1)):
        expected = torch.stack([loss(own, targets) for own in outputs.unbind(1)]).mean()
        torch.testing.assert_close(loss(*members_as_rows(outputs, targets)), expected)


@pytest.mark.parametrize(
    ("loss", "task", "classes", "message"),
    [
        (CrossEntropy(), "regression", 0, "use loss=mean_squared_error"),
        (BinaryCrossEntropy(), "regression", 0, "use loss=mean_squared_error"),
        (BinaryCrossEntropy(), "classification", 10, "the data has 10: use loss=cross_entropy"),
        (MeanSquaredError(), "classification", 10, "use loss=cross_entropy$"),
        (MeanSquaredError(), "classification", 2, "use loss=cross_entropy or loss=binary_cross_entropy"),
        (CrossEntropy(class_weights=[1.0, 2.0]), "classification", 3, "has 2 weights; the data has 3"),
    ],
)
def test_a_loss_that_does_not_suit_the_data_is_refused(loss, task, classes, message):
    with pytest.raises(UserError, match=message):
        loss.check(task, classes)


def test_binary_outputs_of_many_classes_are_refused():
    with pytest.raises(UserError, match="use loss=cross_entropy"):
        BinaryCrossEntropy().outputs(3)


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"class_weights": "balancd"},
        {"class_weights": [1.0, -1.0]},
        {"class_weights": [0.0, 0.0]},
        {"class_weights": [1.0, math.nan]},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=f"{next(iter(settings))} is .*; allowed: "):
        CrossEntropy(**settings)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_positive_weights_out_of_range_are_refused(weight):
    with pytest.raises(UserError, match="positive_weight"):
        BinaryCrossEntropy(positive_weight=weight)


@pytest.mark.parametrize(
    "settings",
    [{}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"class_weights": [1.0, 2.0, 0.5, 0.0]}],
)
def test_auto_is_cross_entropy_of_classes_bit_for_bit(logits, targets, settings):
    assert_same(Auto(**settings), CrossEntropy(**settings), "classification", CLASSES, logits, targets)


def test_auto_is_squared_error_of_numbers_bit_for_bit(logits):
    assert_same(Auto(), MeanSquaredError(), "regression", 0, logits[:, :1], logits[:, 1])


def assert_same(loss, other, task, classes, outputs, targets):
    """Two losses with equal values, gradients and predictions."""
    gradients = []
    for each in (loss, other):
        each.check(task, classes)
        assert each.task == task
        assert each.outputs(classes) == outputs.shape[1]
        each.fit(targets, classes)
        leaf = outputs.clone().requires_grad_()
        each(leaf, targets).backward()
        gradients.append(leaf.grad)
    assert torch.equal(loss(outputs, targets), other(outputs, targets))
    assert torch.equal(*gradients)
    assert torch.equal(loss.predictions(outputs), other.predictions(outputs))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"label_smoothing": 0.1}, "loss.label_smoothing is 0.1, for classes; the data's targets are numbers: leave"),
        ({"class_weights": "balanced"}, "loss.class_weights is 'balanced', for classes"),
        ({"class_weights": [1.0, 2.0]}, r"loss.class_weights is \[1.0, 2.0\], for classes"),
    ],
)
def test_auto_refuses_for_numbers_what_is_for_classes(settings, told):
    with pytest.raises(UserError, match=told):
        Auto(**settings).check("regression", 0)


def test_auto_refuses_what_cross_entropy_refuses():
    with pytest.raises(UserError, match="label_smoothing is 2"):
        Auto(label_smoothing=2)
    with pytest.raises(UserError, match="has 2 weights; the data has 3"):
        Auto(class_weights=[1.0, 2.0]).check("classification", 3)


LABELS = SimpleNamespace(target_columns=[{"name": name, "classes": ["no", "yes"]} for name in "ab"])
MIXED = SimpleNamespace(target_columns=[{"name": "price", "classes": []}, {"name": "kind", "classes": ["a", "b", "c"]}])


def of_labels(rows=ROWS):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(rows, 2, generator=generator), torch.randint(0, 2, (rows, 2), generator=generator).float()


def test_the_loss_of_labels_is_scikit_learns_mean_over_them():
    logits, targets = of_labels()
    loss = MultilabelCrossEntropy()
    shares = loss.predictions(logits).double().numpy()
    expected = np.mean([log_loss(own, share) for own, share in zip(targets.numpy().T, shares.T, strict=True)])
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)
    assert loss.outputs(2) == 2


def test_balanced_labels_weigh_their_rows_as_much_as_the_others():
    logits, targets = of_labels()
    loss = MultilabelCrossEntropy(class_weights="balanced")
    loss.fit(targets, 2)
    constant = torch.zeros_like(logits).requires_grad_()
    loss(constant, targets).backward()
    torch.testing.assert_close(constant.grad.sum(0), torch.zeros(2), atol=1e-6, rtol=0)
    loss.fit(torch.zeros(5, 2), 2)
    assert loss(torch.zeros(5, 2), torch.zeros(5, 2)).isfinite()


def test_smoothed_labels_are_smoothed_classes(logits):
    one, target = logits[:, :1], (logits[:, :1] > 0).float()
    pair = torch.cat([torch.zeros_like(one), one], 1)
    expected = CrossEntropy(label_smoothing=0.2)(pair, target[:, 0].long())
    torch.testing.assert_close(MultilabelCrossEntropy(label_smoothing=0.2)(one, target), expected)


def joint_rows(rows=ROWS):
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(rows, 4, generator=generator)
    kinds = torch.randint(0, 3, (rows,), generator=generator)
    return outputs, torch.stack([torch.randn(rows, generator=generator), kinds.float()], 1)


def test_a_joint_loss_of_fixed_weights_is_their_weighed_sum():
    outputs, targets = joint_rows()
    loss = JointLoss(MIXED, "fixed", {"price": 2.0})
    each = F.mse_loss(outputs[:, 0], targets[:, 0]), F.cross_entropy(outputs[:, 1:], targets[:, 1].long())
    torch.testing.assert_close(loss(outputs, targets), 2 * each[0] + each[1])
    assert loss.outputs(2) == 4
    predicted = loss.predictions(outputs)
    torch.testing.assert_close(predicted, torch.cat([outputs[:, :1], outputs[:, 1:].softmax(1)], 1))


def test_a_joint_loss_learns_the_weights_of_kendall_et_al():
    """At the minimum over s, exp(s) is the squared error of numbers, and twice the cross-entropy of classes."""
    outputs, targets = joint_rows()
    loss = JointLoss(MIXED)
    network = loss.wrap(torch.nn.Identity())
    each = F.mse_loss(outputs[:, 0], targets[:, 0]), F.cross_entropy(outputs[:, 1:], targets[:, 1].long())
    torch.testing.assert_close(loss(network(outputs), targets), each[0] / 2 + each[1])  # s is 0 at first
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=100)

    def step():
        optimizer.zero_grad()
        value = loss(network(outputs), targets)
        value.backward()
        return value

    optimizer.step(step)
    variances = network.log_variances.detach().exp()
    torch.testing.assert_close(variances, torch.stack([each[0], 2 * each[1]]), rtol=1e-3, atol=1e-3)
    weights = loss.weights_in(network)
    assert weights["price"] == pytest.approx(0.5 / each[0].item(), rel=1e-3)
    torch.testing.assert_close(loss.predictions(network(outputs)), loss.predictions(outputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JointLoss(MIXED, "equal"), r"loss\.weighting is 'equal'; it is uncertainty or fixed"),
        (lambda: JointLoss(MIXED, "fixed", {"prize": 1}), r"loss\.weights names 'prize'; the targets are price, kind"),
        (lambda: JointLoss(MIXED, "fixed", {"price": 0, "kind": 0}), r"not all of them 0"),
        (
            lambda: JointLoss(MIXED, weights={"price": 1}),
            r"loss\.weighting is uncertainty, which learns them",
        ),
        (lambda: JointLoss(SimpleNamespace(target_columns=())), r"for several targets; there is one: use loss=auto"),
        (lambda: MultilabelCrossEntropy(class_weights=[1, 2]), r"allowed for labels: balanced, or null"),
        (lambda: CrossEntropy().check("multitask", 0), r"for classes; the task is multitask: use loss=auto"),
        (lambda: MeanSquaredError().check("multilabel", 3), r"for one number; the task is multilabel: use loss=auto"),
        (lambda: MultilabelCrossEntropy().check("regression", 0), r"for several labels; the task is regression"),
    ],
)
def test_what_does_not_suit_several_targets_is_told(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_auto_is_the_loss_of_labels_or_the_joint_one():
    logits, targets = of_labels()
    auto = Auto(info=LABELS)
    auto.check("multilabel", 2)
    torch.testing.assert_close(auto(logits, targets), MultilabelCrossEntropy()(logits, targets))
    joint = Auto(info=MIXED)
    joint.check("multitask", 2)
    assert isinstance(joint.stands_for, JointLoss)
    assert isinstance(joint.wrap(torch.nn.Identity()), WithLogVariances)
