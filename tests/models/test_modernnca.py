"""ModernNCA beside its formula by hand, and what it may look at."""

import pytest
import torch
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.layout import ColumnLayout
from hypermap.models import ModernNCA
from hypermap.models.inputs import remember
from hypermap.models.modernnca import fingerprints

LAYOUT = ColumnLayout(2, 1, (3,))


def rows(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(1, 4, (count, 1), generator=generator).float()
    return torch.cat([torch.randn(count, 2, generator=generator), torch.ones(count, 1), codes], 1)


def network(outputs=3, count=40, **keywords):
    torch.manual_seed(0)
    made = ModernNCA((4,), outputs, LAYOUT, width=6, inner=8, dropout=0.0, **keywords)
    targets = torch.arange(count) % outputs if outputs > 1 else torch.randn(count)
    remember(torch.nn.Sequential(made), rows(count), targets)
    return made, targets


def test_predictions_are_softmax_weighted_means_of_the_training_targets():
    for outputs in (3, 1):
        made, targets = network(outputs)
        made.eval()
        asked = rows(5, seed=1)
        own, others = made._embedded(asked), made._embedded(rows(40))
        distances = torch.stack([(row - others).square().sum(1).sqrt() for row in own])
        values = F.one_hot(targets, 3).float() if outputs == 3 else targets[:, None]
        expected = (-distances).softmax(1) @ values
        found = made(asked).exp() if outputs == 3 else made(asked)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_row_is_not_its_own_neighbor_in_training():
    made, _ = network(1, sample=1.0, blocks=0)
    for place in range(40):  # targets that tell which row they come from
        made.targets = torch.zeros(40, 1)
        made.targets[place] = 1.0
        shares = made.train()(rows(40))
        assert shares[place].item() == 0.0
        assert made.eval()(rows(40))[place].item() > 0.0
    assert fingerprints(rows(40)).unique().numel() == 40
    assert torch.equal(fingerprints(rows(40))[3:5], fingerprints(rows(40)[3:5]))


def test_a_batch_is_compared_with_a_sample_of_the_training_rows():
    made, _ = network(1, count=40, sample=0.25, blocks=0)
    made.targets = torch.eye(40)
    made.outputs = 40
    shares = made.train()(rows(6, seed=1)).exp()
    assert ((shares > 1e-6).any(0)).sum() == 10


def test_the_training_rows_are_a_part_of_the_state():
    made, _ = network()
    other = ModernNCA((4,), 3, LAYOUT, width=6, inner=8, dropout=0.0)
    other.load_state_dict(made.state_dict())
    asked = rows(5, seed=1)
    assert torch.equal(other.eval()(asked), made.eval()(asked))


def test_targets_that_it_cannot_average_are_refused():
    made, _ = network(1)
    with pytest.raises(UserError, match="use loss=auto"):
        made.remember(rows(4), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(UserError, match="several: use model=tabm"):
        made.remember(rows(4), torch.zeros(4, 2))
    with pytest.raises(UserError, match=r"model\.sample is 0"):
        ModernNCA((4,), 1, LAYOUT, sample=0.0)
