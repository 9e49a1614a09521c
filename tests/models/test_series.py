"""Networks for series: what holds of every network, and each against its definition; forecasts by rule."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.models import SeriesLinear, SeriesRNN, SeriesTCN, SeriesTransformer, SparseLinear
from hypermap.models.naive import Rule
from support.contracts import NetworkContract

WINDOW = {"lookback": 48, "horizon": 10, "targets": 2, "past": 0, "known": 3, "period": 12, "quantiles": []}
WIDTH = 48 * 2 + 58 * 3


class SeriesContract(NetworkContract):
    kind: type
    given: dict = {}  # noqa: RUF012

    def network(self):
        return self.kind((WIDTH,), 10 * 2 * 3, WINDOW, **self.given)

    def rows(self):
        return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("how", ["mean", "last", "standard", "difference", "seasonal"])
    def test_another_level_is_that_level_in_the_forecast(self, how):
        network = self.kind((WIDTH,), 60, WINDOW, **{**self.given, "normalization": how}).eval()
        rows = self.rows()
        higher = rows.clone()
        higher[:, : 48 * 2] += 7
        torch.testing.assert_close(network(higher), network(rows) + 7, rtol=1e-3, atol=1e-3)


class TestDecomposed(SeriesContract):
    kind = SeriesLinear


class TestLinear(SeriesContract):
    kind = SeriesLinear
    given = {"trend_steps": None, "normalization": "standard"}  # noqa: RUF012


class TestSparse(SeriesContract):
    kind = SparseLinear


class TestConvolutions(SeriesContract):
    kind = SeriesTCN
    given = {"filters": 6, "dropout": 0.0}  # noqa: RUF012


class TestRecurrent(SeriesContract):
    kind = SeriesRNN
    given = {"units": 6, "cell": "lstm", "layers": 2}  # noqa: RUF012


class TestAttention(SeriesContract):
    kind = SeriesTransformer
    given = {"patch": 8, "patch_stride": 4, "width": 8}  # noqa: RUF012


def plain(targets=2, **given):
    return {**WINDOW, "known": 0, "targets": targets, **given}


def test_the_sparse_form_is_smoothing_folding_and_one_layer():
    torch.manual_seed(0)
    window = plain(7, lookback=725, horizon=96, period=24)
    network = SparseLinear((725 * 7,), 96 * 7, window)
    assert sum(weight.numel() for weight in network.parameters()) == 145
    rows = torch.randn(3, 725 * 7)
    columns = rows.view(3, 725, 7).transpose(1, 2).reshape(21, 1, 725)
    mean = columns.mean(2, keepdim=True)
    smoothed = (columns - mean + network.smooth(columns - mean))[:, 0, 5:]
    come = network.seasons(smoothed.view(21, 30, 24).transpose(1, 2)).transpose(1, 2).reshape(21, 96) + mean[:, 0]
    wanted = come.view(3, 7, 96).transpose(1, 2).flatten(1)
    torch.testing.assert_close(network(rows), wanted, rtol=1e-4, atol=1e-5)


def test_the_decomposed_form_has_a_layer_for_the_moving_average():
    network, rows = SeriesLinear((96,), 20, plain(), trend_steps=5), torch.randn(3, 96)
    columns = rows.view(3, 48, 2).transpose(1, 2)
    trend = F.avg_pool1d(F.pad(columns, (2, 2), mode="replicate"), 5, 1)
    wanted = network.rest(columns - trend) + network.trend(trend)
    torch.testing.assert_close(network(rows), wanted.transpose(1, 2).flatten(1))


def test_seasonal_differences_of_0_repeat_the_last_season():
    network, rows = SeriesLinear((96,), 2 * 30, plain(horizon=30), None, "seasonal"), torch.randn(3, 96)
    for weight in network.parameters():
        weight.data.zero_()
    wanted = rows.view(3, 48, 2)[:, 36 + np.arange(30) % 12]
    torch.testing.assert_close(network(rows), wanted.flatten(1))


def test_columns_that_a_network_would_not_see_are_refused():
    with pytest.raises(UserError, match=r"data\.past and data\.moving_averages.*series_tcn"):
        SeriesLinear((1,), 20, plain(past=1))


@pytest.mark.parametrize("rule", ["last_value", "seasonal_naive", "drift"])
def test_rules_are_what_their_names_say(rule):
    rows = np.random.default_rng(0).normal(size=(4, 96))
    own = rows.reshape(4, 48, 2)
    ahead = np.arange(1, 11)[:, np.newaxis]
    wanted = {
        "last_value": np.repeat(own[:, -1:], 10, axis=1),
        "seasonal_naive": own[:, -12:-2],
        "drift": own[:, -1:] + ahead * (own[:, -1:] - own[:, :1]) / 47,
    }[rule]
    np.testing.assert_allclose(Rule(rule, plain()).predict(rows), wanted.reshape(4, -1))
    levels = Rule(rule, plain(quantiles=[0.1, 0.5, 0.9])).predict(rows).reshape(4, 10, 2, 3)
    np.testing.assert_allclose(levels[..., 1], wanted)
    assert (np.diff(levels, axis=3) > 0).all()


def test_the_interval_of_a_random_walk_holds_its_share():
    walks = np.random.default_rng(0).normal(size=(4000, 58)).cumsum(1)
    window = plain(1, quantiles=[0.1, 0.5, 0.9])
    found = Rule("last_value", window).predict(walks[:, :48]).reshape(4000, 10, 3)
    inside = (found[:, :, 0] <= walks[:, 48:]) & (walks[:, 48:] <= found[:, :, 2])
    np.testing.assert_allclose(inside.mean(0), 0.8, atol=0.03)
