"""Windows of series as network inputs: the scales of the training steps, and nothing that is to come."""

import numpy as np
import pytest
import torch

from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Transform
from hypermap.data.preprocessors.series import HEAD, Head, steps_of
from hypermap.datasets.series import series
from support.contracts import PreprocessorContract
from support.own_series import hourly, rows_of, write_series

ARGUMENTS = {"calendar": ["day", "week"], "target": ["load"], "known": ["temperature"]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = write_series(tmp_path_factory.mktemp("series") / "series.csv", rows_of(400))
    return series(str(path), time="when", **ARGUMENTS, lookback=24, horizon=6, test_steps=48, validation_steps=48)


def manifest(**given):
    path = "hypermap.data.preprocessors.series.SeriesPreprocessor"
    return Manifest(task="forecast", classes=(), shape=(), arguments=ARGUMENTS, preprocessor=path, **given)


class TestSeries(PreprocessorContract):
    @pytest.fixture(autouse=True)
    def _raw(self, raw):
        self.raw = raw

    def manifest(self):
        return manifest(target_transform="log")

    def rows(self):
        return self.raw.inputs[~self.raw.validation_rows], self.raw.test_inputs


def fitted(raw, **given):
    train = ~raw.validation_rows
    return Transform.fitted(raw.inputs[train], raw.targets[train], manifest(**given))


def test_scales_are_those_of_each_training_step_once(raw):
    made, load = fitted(raw).manifest, hourly(400)[:304]
    np.testing.assert_allclose(made.shift, load.mean(0), rtol=1e-6)
    np.testing.assert_allclose(made.scale, load.std(0), rtol=1e-5)
    naive = np.abs(load[24:, 0] - load[:-24, 0]).mean()
    np.testing.assert_allclose(made.target["naive"]["1"], [naive], rtol=1e-5)


def test_what_is_to_come_is_no_input(raw):
    preprocessor, rows = fitted(raw).preprocessor, torch.from_numpy(raw.test_inputs)
    other = rows.clone()
    head = Head.of(raw.test_inputs[0])
    other[:, HEAD:].view(len(rows), head.steps, head.width)[:, 24:, 0] = torch.nan
    assert torch.equal(preprocessor(rows), preprocessor(other))


def test_what_is_known_ahead_and_the_calendar_are_inputs(raw):
    features = fitted(raw).preprocessor(torch.from_numpy(raw.test_inputs)).numpy()
    known = features[:, 24:].reshape(len(features), 30, 5)
    transform = fitted(raw).manifest
    wanted = (steps_of(raw.test_inputs, Head.of(raw.test_inputs[0]))[:, :, 1] - transform.shift[1]) / transform.scale[1]
    np.testing.assert_allclose(known[:, :, 0], wanted, rtol=1e-4, atol=1e-5)
    hours = (raw.test_inputs[:, 1] - 24)[:, np.newaxis] + np.arange(30)
    np.testing.assert_allclose(known[:, :, 1], np.sin(2 * np.pi * hours / 24), atol=1e-5)
    np.testing.assert_allclose(known[:, :, 2], np.cos(2 * np.pi * hours / 24), atol=1e-5)
