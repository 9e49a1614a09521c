"""Forecasts as a task: targets and predictions in their own units, and metrics against their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_percentage_error, mean_pinball_loss, r2_score

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.tasks.base import make_task
from hypermap.tasks.forecast_losses import ForecastLoss
from support.contracts import TaskContract

DRAW = np.random.default_rng(0)
TRUE = np.exp(DRAW.normal(size=(30, 4, 2))) + 0.5


def task_of(quantiles=(), log=None):
    target = {
        "horizon": 4, "targets": 2, "columns": ["a", "b"], "quantiles": list(quantiles), "gap": 0,
        "shift": [1.0, 2.0], "scale": [0.5, 3.0], "naive": {"1": [2.0, 1.0], "2": [0.5, 4.0]},
    }  # fmt: skip
    return make_task(Manifest(task="forecast", classes=(), shape=(), target=target, target_transform=log))


def targets_of(true):
    return np.concatenate([1 + np.arange(len(true))[:, np.newaxis] % 2, true.reshape(len(true), -1)], 1).astype("f4")


def pinball(true, found):
    levels = enumerate((0.1, 0.5, 0.9))
    return np.mean([mean_pinball_loss(true.ravel(), found[..., k].ravel(), alpha=level) for k, level in levels])


class TestPoints(TaskContract):
    quantiles: tuple = ()
    log = None

    def task(self):
        return task_of(self.quantiles, self.log)

    def targets(self):
        return targets_of(TRUE)

    def predictions(self):
        return self.task().predictions(self.outputs())

    def outputs(self):
        return np.sort(np.random.default_rng(1).normal(size=(30, 8, max(1, len(self.quantiles))))).reshape(30, -1)


class TestQuantiles(TestPoints):
    quantiles = (0.1, 0.5, 0.9)


class TestLogarithms(TestPoints):
    log = "log"


def test_metrics_are_what_their_names_say():
    task = task_of((0.1, 0.5, 0.9))
    found = np.sort(TRUE[..., np.newaxis] + DRAW.normal(size=(30, 4, 2, 3)))
    targets = targets_of(TRUE)
    metrics = task.measure(targets, found.reshape(30, -1))
    true, middle = targets[:, 1:].astype(float).reshape(30, 4, 2), found[..., 1]
    scaled = (true - middle) / [0.5, 3.0]
    usual = np.array([[2.0, 1.0], [0.5, 4.0]])[np.arange(30) % 2][:, np.newaxis]
    flat = [own.ravel() for own in (true, middle)]
    wanted = {
        "scaled_mse": (scaled**2).mean(),
        "scaled_mae": np.abs(scaled).mean(),
        "mse": ((true - middle) ** 2).mean(),
        "mae": np.abs(true - middle).mean(),
        "mase": (np.abs(true - middle) / usual).mean(),
        "smape": (2 * np.abs(true - middle) / (np.abs(true) + np.abs(middle))).mean(),
        "mape": mean_absolute_percentage_error(*flat),
        "pinball": pinball(true, found),
        "coverage": ((found[..., 0] <= true) & (true <= found[..., 2])).mean(),
        "r2": r2_score(*(own.reshape(-1, 2) / [0.5, 3.0] for own in (true, middle)), multioutput="variance_weighted"),
    }  # fmt: skip
    assert metrics == pytest.approx(wanted, rel=1e-6)


def test_a_percentage_of_targets_at_or_below_0_is_none():
    assert "mape" not in task_of().measure(targets_of(TRUE - 1), TRUE.reshape(30, -1))


def test_the_score_of_an_epoch_is_that_of_the_metrics():
    task, outputs = task_of(), np.random.default_rng(1).normal(size=(30, 8))
    encoded = task.encode(torch.from_numpy(targets_of(TRUE)))
    (score,) = task.scores(torch.from_numpy(outputs).unsqueeze(0), encoded.unsqueeze(0), [task.default_loss()])
    assert score == pytest.approx(task.measure(targets_of(TRUE), task.predictions(outputs))["r2"], rel=1e-5)


def test_the_loss_of_quantiles_is_the_mean_pinball_loss_and_sorts_them():
    loss = ForecastLoss(task_of((0.1, 0.5, 0.9)).info)
    outputs, targets = torch.randn(30, 24), torch.randn(30, 9)
    own = outputs.view(30, 8, 3)
    assert float(loss(outputs, targets)) == pytest.approx(pinball(targets[:, 1:], own), rel=1e-5)
    assert (loss.predictions(outputs).view(30, 8, 3).diff(dim=2) >= 0).all()


def test_answers_have_a_line_for_each_step_to_come():
    task = task_of((0.1, 0.5, 0.9))
    times = [["1", "2", "3", "4"], ["5", "6", "7", "8"]]
    table = task.answers(np.arange(48.0).reshape(2, 24), {"series": ["x", "y"], "time": times})
    assert table.columns[:5] == ["series", "time", "prediction_a_0.1", "prediction_a_0.5", "prediction_a_0.9"]
    assert table.height == 8
    assert table.row(5)[:4] == ("y", "6", 30.0, 31.0)


def test_settings_of_classes_are_refused():
    with pytest.raises(UserError, match="for classes"):
        task_of().default_loss(label_smoothing=0.1)
