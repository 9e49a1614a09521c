"""What a person writes for data of another kind: a reader, a preprocessor, a network, a loss and a task.

Inputs are rows of six words, as whole numbers; targets are two numbers each.
"""

import json
import math

import numpy as np
import torch
from torch import nn

from hypermap.core.errors import UserError
from hypermap.data.preprocessor import Fitted, Preprocessor
from hypermap.datasets.images import Raw, RawRows
from hypermap.tasks.base import Task

WORDS = 6


def read(path: str) -> Raw:
    """Read a file of lines, each of six words and two targets."""
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    return Raw.of(table[:, :WORDS].astype(np.int64), table[:, WORDS:], task=TwoNumbers, preprocessor=Vocabulary)


def read_rows(paths, manifest):
    """Yield the words of files without targets."""
    for path in paths:
        yield RawRows(np.loadtxt(path, delimiter=",", ndmin=2)[:, :WORDS].astype(np.int64))


class Vocabulary(Preprocessor):
    """Each word's place among those of the training rows, from 1; 0 for any other."""

    @classmethod
    def fit(cls, inputs, info):
        words = np.unique(inputs).tolist()
        entries = {"shape": [WORDS], "dtype": "int64", "extras": {"vocabulary_size": len(words) + 1}}
        return Fitted(entries, json.dumps(words).encode())

    def __call__(self, inputs):
        return self.module()(inputs)

    def module(self):
        return _Lookup(torch.tensor(json.loads(self.stored)))


class _Lookup(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.register_buffer("words", words)

    def forward(self, rows):
        place = torch.searchsorted(self.words, rows).clamp(max=len(self.words) - 1)
        return torch.where(self.words[place] == rows, place + 1, 0)


class Bag(nn.Module):
    """The mean of the words' vectors, and a layer."""

    def __init__(self, input_shape, outputs, vocabulary_size, width=16):
        super().__init__()
        assert input_shape == (WORDS,)
        self.vectors = nn.Embedding(vocabulary_size, width)
        self.output = nn.Linear(width, outputs)

    def forward(self, rows):
        assert rows.dtype == torch.int64
        return self.output(self.vectors(rows).mean(1))


class AbsoluteError:
    """The mean absolute error over both columns."""

    task = "my_pairs.TwoNumbers"

    def check(self, task, classes):
        if task != self.task:
            raise UserError(f"loss is absolute, for {self.task}; the task is {task}")

    def outputs(self, classes):
        return 2

    def fit(self, train_targets, classes):
        assert train_targets.shape[1:] == (2,)

    def __call__(self, outputs, targets):
        return (outputs - targets).abs().mean()

    def predictions(self, outputs):
        return outputs.float()


class TwoNumbers(Task):
    """Two numbers, each divided by its largest training target."""

    monitor = "within"
    score_name = "share within a tenth"
    low_score = 0.5
    is_share = True
    metrics = {"within": True, "absolute_error": False}  # noqa: RUF012

    @classmethod
    def fit(cls, targets, info):
        return {"target": {"largest": np.abs(targets).max(0).tolist()}}

    @property
    def largest(self):
        return np.array(self.info.target["largest"])

    def encode(self, targets):
        return (targets / torch.from_numpy(self.largest)).float()

    def decode(self, encoded):
        return encoded * self.largest

    def predictions(self, outputs):
        return self.decode(outputs)

    @property
    def shape(self):
        return (2,)

    def scores(self, outputs, targets, losses):
        return ((outputs - targets).abs().amax(2) < 0.1).double().mean(1).tolist()

    def measure(self, targets, predictions):
        off = np.abs(targets - predictions)
        within = (off / self.largest).max(1) < 0.1
        return {"within": float(within.mean()), "absolute_error": float(off.mean())}

    def resampled(self, targets, predictions):
        off = np.abs(targets - predictions)
        within = ((off / self.largest).max(1) < 0.1).astype(float)

        def values(counts):
            rows = counts.sum(0)
            return {"within": within @ counts / rows, "absolute_error": off.mean(1) @ counts / rows}

        return values

    def default_loss(self, **settings):
        return AbsoluteError()

    @staticmethod
    def standard_error(score, rows):
        return math.sqrt(max(score * (1 - score), 0.25 / rows) / rows)

    def module(self):
        return _Times(torch.from_numpy(self.largest))


class _Times(nn.Module):
    def __init__(self, factors):
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, values):
        return values * self.factors
