"""The contract of every task, and what becomes of a name that is none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.tasks.base import locate_task
from hypermap.tasks.classification import Classification
from hypermap.tasks.losses import JointLoss
from hypermap.tasks.metrics import higher_is_better
from hypermap.tasks.multilabel import Multilabel
from hypermap.tasks.multitask import Multitask
from hypermap.tasks.regression import Regression
from support.contracts import TaskContract
from support.own.my_pairs import TwoNumbers

ROWS = 80


def info(**entries):
    usual = {"classes": (), "target_transform": None, "target_shift": None, "target_scale": None, "target": {}}
    usual |= {"target_columns": ()}
    return SimpleNamespace(**{"task": "own", **usual, **entries})


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


class TestClassification(TaskContract):
    def task(self):
        return Classification(info(task="classification", classes=("a", "b", "c")))

    def targets(self):
        return np.random.default_rng(0).integers(0, 3, ROWS)

    def predictions(self):
        favoured = np.eye(3)[self.targets()]
        shares = np.exp(drawn(ROWS, 3) + favoured)
        return shares / shares.sum(1, keepdims=True)

    def outputs(self):
        return self.predictions()


class TestRegression(TaskContract):
    transform = None

    def task(self):
        about = info(task="regression", target_transform=self.transform)
        return Regression(SimpleNamespace(**{**vars(about), **Regression.fit(self.targets(), about)}))

    def targets(self):
        return np.exp(drawn(ROWS)) + 3

    def predictions(self):
        return self.targets() + 0.3 * drawn(ROWS, seed=1)

    def outputs(self):
        return drawn(ROWS)


class TestRegressionOfALogarithm(TestRegression):
    transform = "log"


class TestATaskOfOnesOwn(TaskContract):
    def task(self):
        return TwoNumbers(info(**TwoNumbers.fit(self.targets(), info())))

    def targets(self):
        return np.abs(drawn(ROWS, 2)) + np.array([0, 10])

    def predictions(self):
        return self.targets() + 0.2 * drawn(ROWS, 2, seed=1)

    def outputs(self):
        return drawn(ROWS, 2)


class TestMultilabel(TaskContract):
    def task(self):
        columns = [{"name": name, "classes": ["no", "yes"]} for name in ("a", "b", "c")]
        return Multilabel(info(task="multilabel", target_columns=columns))

    def targets(self):
        return (np.random.default_rng(0).random((ROWS, 3)) < [0.5, 0.3, 0.2]).astype(np.int64)

    def outputs(self):
        return 1 / (1 + np.exp(-(self.targets() - 0.5 + drawn(ROWS, 3))))

    def predictions(self):
        return self.task().predictions(self.outputs())


class TestMultitask(TaskContract):
    COLUMNS = ({"name": "sold in", "classes": ["a", "b", "c"]}, {"name": "price", "classes": []})

    def task(self):
        about = info(task="multitask", target_columns=self.COLUMNS)
        return Multitask(SimpleNamespace(**{**vars(about), **Multitask.fit(self.targets(), about)}))

    def targets(self):
        classes = np.random.default_rng(0).integers(0, 3, ROWS)
        return np.stack([classes, 10 + 3 * drawn(ROWS)], 1)

    def outputs(self):
        shares = np.exp(drawn(ROWS, 3) + np.eye(3)[self.targets()[:, 0].astype(int)])
        value = (self.targets()[:, 1:] - 10) / 3 + 0.3 * drawn(ROWS, 1, seed=1)
        return np.hstack([shares / shares.sum(1, keepdims=True), value])

    def predictions(self):
        return self.task().predictions(self.outputs())

    def test_the_metrics_of_each_column_are_those_of_its_task(self):
        task, targets, predictions = self.task(), self.targets(), self.predictions()
        measured = task.measure(targets, predictions)
        kinds, price = task.parts
        for name, part, own, values in (
            ("sold_in", kinds, predictions[:, :3], targets[:, 0].astype(int)),
            ("price", price, predictions[:, 3], targets[:, 1]),
        ):
            for key, value in part.measure(values, own).items():
                assert measured[f"{name}_{key}"] == pytest.approx(value)
        assert measured["mean_score"] == pytest.approx((measured["sold_in_accuracy"] + measured["price_r2"]) / 2)
        assert task.table(predictions).columns[:2] == ["prediction_sold_in", "probability_sold_in_a"]

    def test_a_column_without_a_weight_has_no_part_in_the_score_of_an_epoch(self):
        task = self.task()
        outputs = torch.from_numpy(np.hstack([np.log(self.outputs()[:, :3]), self.outputs()[:, 3:]]))[None]
        targets = task.encode(torch.from_numpy(self.targets()))[None]
        both, kind, price = (
            task.scores(outputs, targets, [JointLoss(task.info, "fixed", weights)])[0]
            for weights in ({}, {"price": 0}, {"sold in": 0})
        )
        measured = task.measure(self.targets(), self.predictions())
        assert both == pytest.approx(measured["mean_score"], rel=1e-5)
        assert kind == pytest.approx(measured["sold_in_accuracy"])
        assert price == pytest.approx(measured["price_r2"], rel=1e-5)


def test_a_metric_of_one_of_several_targets_has_that_metrics_direction():
    assert higher_is_better("price_r2")
    assert not higher_is_better("sold_in_log_loss")
    assert higher_is_better("mean_score")
    with pytest.raises(UserError, match="no metric 'price'"):
        higher_is_better("price")


def test_what_is_no_task_is_told():
    with pytest.raises(UserError, match=r"hypermap.tasks.sorting.Sorting: no 'sorting' there"):
        locate_task("sorting")
    with pytest.raises(UserError, match=r"builtins.dict is no task: a task of your own is a subclass of hypermap"):
        locate_task("builtins.dict")
