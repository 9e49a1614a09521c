"""Networks and closed forms of ratings: the contracts, and each beside its formula."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hypermap.models.ratings import Histories, RankingFactors, RatingFactors, RatingMLP, TwoTowers, recency_weights
from hypermap.models.ratings_closed_form import Biases, EaseEstimator, PopularItems
from hypermap.tasks.ratings import LIST, RANK
from hypermap.tasks.ratings_losses import BPR, SampledSoftmax
from support.contracts import NetworkContract

USERS, ITEMS, K, NEGATIVES = 7, 12, 3, 4


def pairs(users=USERS, items=ITEMS, seed=0):
    """Rows of users with some items, in an order of time that is not theirs: user, item, order, nothing seen."""
    draw = np.random.default_rng(seed)
    rows = [(user, item) for user in range(1, users + 1) for item in draw.choice(np.arange(1, items + 1), 5, False)]
    order = draw.permutation(len(rows))
    return torch.tensor([(user, item, order[k], 0) for k, (user, item) in enumerate(rows)])


def held(rows, items=ITEMS):
    """A row of each user, of an item that it has not."""
    made = []
    for user in rows[:, 0].unique().tolist():
        free = sorted({*range(1, items + 1)} - {*rows[rows[:, 0] == user, 1].tolist()})
        made.append((user, free[user % len(free)], 10_000, free[-1] if free[user % len(free)] != free[-1] else free[0]))
    return torch.tensor(made)


class TestRatingFactors(NetworkContract):
    def network(self):
        return _Mean(RatingFactors((3,), 1, USERS, ITEMS, width=4, members=2))

    def rows(self):
        return pairs()[:6, :3]


class _Mean(torch.nn.Sequential):
    def forward(self, rows):
        return super().forward(rows).mean(1)


class TestRatingMLP(NetworkContract):
    def network(self):
        return RatingMLP((7,), 1, USERS, ITEMS, 1, 1, 2, 5, width=4, hidden=[6])

    def rows(self):
        return torch.cat([pairs()[:6], torch.randint(0, 6, (6, 3), generator=torch.Generator().manual_seed(0))], 1)


class TestRankingFactors(NetworkContract):
    def network(self):
        made = RankingFactors((4,), 1 + NEGATIVES, USERS, ITEMS, 1, K, width=4)
        made.histories.remember(pairs(), None)
        return made

    def rows(self):
        return held(pairs())[:6]

    def test_it_gives_an_output_of_its_width_for_each_row(self):
        assert self.network().eval()(self.rows()).shape == (6, 1 + NEGATIVES + LIST + K)

    def test_all_weights_learn(self):
        network, rows = self.network().train(), pairs()
        SampledSoftmax(NEGATIVES)(network(rows), None).backward()
        assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


class TestTwoTowers(TestRankingFactors):
    def network(self):
        made = TwoTowers((4,), 1 + NEGATIVES, USERS, ITEMS, 1, K, width=4, window=3, hidden=[5])
        made.histories.remember(pairs(), None)
        return made

    def test_a_row_sees_nothing_later(self):
        network, rows = self.network().eval(), pairs()
        last = rows[rows[:, 0] == 3][rows[rows[:, 0] == 3][:, 2].argmax()]
        before = network.user_vectors(rows)
        moved = rows.clone()
        moved[(rows == last).all(1), 1] = last[1] % ITEMS + 1
        network.histories.remember(moved, None)
        torch.testing.assert_close(network.user_vectors(rows), before, rtol=0, atol=0)


def test_histories_are_in_the_order_of_time():
    rows, histories = pairs(), Histories(USERS, ITEMS)
    histories.remember(rows, None)
    for user, item, order, _ in rows.tolist():
        own = [other for who, other, when, _ in sorted(rows.tolist(), key=lambda row: row[2]) if who == user]
        before = own[: own.index(item)][-3:]
        found = histories.latest(torch.tensor([user]), torch.tensor([order]), 3)[0].tolist()
        assert found == [0] * (3 - len(before)) + before
        assert histories.have_of_all(torch.tensor([user]))[0].nonzero().flatten().tolist() == sorted(own)
        assert histories.have(torch.tensor([user]), torch.arange(ITEMS + 1))[0].sum() == len(own)
    assert histories.latest(torch.tensor([0]), torch.tensor([-1]), 2).tolist() == [[0, 0]]


def test_what_a_user_had_is_neither_ranked_nor_drawn_as_a_negative():
    network, rows = TestRankingFactors().network(), pairs()
    network.drop = torch.nn.Identity()  # which would draw, too
    network.train()
    for _ in range(20):
        torch.manual_seed(0)
        drawn = torch.randint(1, ITEMS + 1, (NEGATIVES,))
        torch.manual_seed(0)
        had = torch.stack([torch.isin(drawn, rows[rows[:, 0] == user, 1]) for user in rows[:, 0]])
        assert torch.equal(network(rows)[:, 1 : 1 + NEGATIVES].isinf(), had)
    listed = network.eval()(held(rows))[:, 1 + NEGATIVES + LIST :].long()
    for row, own in zip(held(rows), listed, strict=True):
        assert not {*own.tolist()} & {*rows[rows[:, 0] == row[0], 1].tolist(), int(row[3]), 0}


def test_a_rank_is_that_among_all_items():
    network, rows = TestRankingFactors().network().eval(), pairs()
    network.bias.weight.data[1:] = torch.randn(ITEMS, 1, generator=torch.Generator().manual_seed(1))
    found = network.requires_grad_(False)(held(rows))[:, 1 + NEGATIVES :]
    for row, ranking in zip(held(rows).tolist(), found, strict=True):
        own = {*rows[rows[:, 0] == row[0], 1].tolist(), row[3]}
        scores = {
            item: float(network.users.weight[row[0]] @ network.items.weight[item] + network.bias.weight[item])
            for item in range(1, ITEMS + 1)
            if item not in own
        }
        ordered = sorted(scores, key=scores.__getitem__, reverse=True)
        assert ranking[RANK] == 1 + ordered.index(row[1])
        assert ranking[LIST:].long().tolist() == ordered[:K]


def test_losses_are_what_torch_gives():
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    wanted = F.cross_entropy(scores, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(SampledSoftmax(3)(scores, None), wanted)
    wanted = -F.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()
    torch.testing.assert_close(BPR(3)(scores, None), wanted)
    masked = scores.clone()
    masked[0, 1] = -torch.inf
    wanted = -F.logsigmoid(scores[:, :1] - scores[:, 1:]).flatten()[1:].mean()
    torch.testing.assert_close(BPR(3)(masked, None), wanted)


@pytest.mark.parametrize("sizes", [(7, 12), (30, 12)])  # by users, and by items
def test_ease_is_the_closed_form_of_the_paper(sizes):
    users, items = sizes
    rows = pairs(users, items)
    taken = np.zeros((users, items))
    taken[rows[:, 0] - 1, rows[:, 1] - 1] = 1
    inverse = np.linalg.inv(taken.T @ taken + 3 * np.eye(items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    for recency in (0.0, 0.5):
        model = EaseEstimator(users, items, 1, K, regularization=3.0, recency=recency).fit(rows.numpy())
        asked = held(rows, items)
        had = np.zeros((users, items))
        for user, _, _, seen in asked.tolist():
            own = sorted(rows[rows[:, 0] == user].tolist(), key=lambda row: row[2])
            for back, item in enumerate([seen, *(row[1] for row in reversed(own))], 1):
                had[user - 1, item - 1] = back**-recency
        np.testing.assert_allclose(model.score(asked)[:, 1:], had @ weights, rtol=1e-5, atol=1e-7)


def test_popularity_and_means_are_counts_and_damped_means():
    rows = pairs()
    listed = PopularItems(USERS, ITEMS, 1, K).fit(rows.numpy()).predict(held(rows).numpy())[:, LIST:]
    counts = np.bincount(rows[:, 1], minlength=ITEMS + 1)
    for row, own in zip(held(rows).tolist(), listed.astype(int), strict=True):
        free = [k for k in range(1, ITEMS + 1) if k not in {*rows[rows[:, 0] == row[0], 1].tolist(), row[3]}]
        assert sorted(counts[own], reverse=True) == sorted(counts[free], reverse=True)[:K]
    values = np.random.default_rng(0).normal(size=len(rows))
    model = Biases(USERS, ITEMS, user_damping=0.0, item_damping=0.0).fit(rows.numpy(), values)
    of_item = values[rows[:, 1].numpy() == 3]
    assert model.of_items_[3] == pytest.approx(of_item.mean() - values.mean())
    assert model.predict(np.array([[0, 0, 0]])) == pytest.approx(values.mean())


def test_recency_weighs_by_the_place_from_the_end():
    found = recency_weights(torch.tensor([[0, 4, 0, 9]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0, 2**-0.5, 0.0, 1.0]]))
