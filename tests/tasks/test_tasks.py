"""The contract of every task, and what becomes of a name that is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from hypermap.core.errors import UserError
from hypermap.tasks.base import locate_task
from hypermap.tasks.classification import Classification
from hypermap.tasks.regression import Regression
from support.contracts import TaskContract
from support.own.my_pairs import TwoNumbers

ROWS = 80


def info(**entries):
    usual = {"classes": (), "target_transform": None, "target_shift": None, "target_scale": None, "target": {}}
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


def test_what_is_no_task_is_told():
    with pytest.raises(UserError, match=r"hypermap.tasks.sorting.Sorting: no 'sorting' there"):
        locate_task("sorting")
    with pytest.raises(UserError, match=r"builtins.dict is no task: a task of your own is a subclass of hypermap"):
        locate_task("builtins.dict")
