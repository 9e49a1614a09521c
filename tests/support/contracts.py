"""What holds of every reader, preprocessor, task and network, whoever wrote it: suites to inherit.

A test class inherits one and says what it is about in the methods that raise `NotImplementedError`.
"""

import json
from dataclasses import replace

import numpy as np
import torch

from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import Transform, read_transform
from hypermap.datasets.prepare import prepare_settings, settings_fingerprint
from hypermap.tasks.base import directions
from hypermap.tasks.metrics import resamples


class TaskContract:
    """A task, its targets, and predictions for them."""

    def task(self):
        raise NotImplementedError

    def targets(self):
        """Targets in their own unit, as a reader returns them."""
        raise NotImplementedError

    def predictions(self):
        """Predictions for them, which are neither all right nor all wrong."""
        raise NotImplementedError

    def outputs(self):
        """What `Loss.predictions` makes of a network's outputs, float64."""
        raise NotImplementedError

    def test_targets_come_back_as_they_were(self):
        task, targets = self.task(), self.targets()
        encoded = task.encode(torch.from_numpy(targets))
        assert len(encoded) == len(targets)
        decoded = task.decode(encoded.double().numpy() if encoded.is_floating_point() else encoded.numpy())
        np.testing.assert_allclose(decoded, targets, rtol=1e-5, atol=1e-6)

    def test_the_metrics_are_those_it_names_with_their_direction(self):
        task = self.task()
        measured = task.measure(self.targets(), self.predictions())
        assert set(measured) <= set(task.directions)
        assert task.monitor in measured
        assert directions(task.directions)["loss"] is False
        assert all(isinstance(value, float) and np.isfinite(value) for value in measured.values())

    def test_each_row_once_is_no_resample(self):
        task, targets, predictions = self.task(), self.targets(), self.predictions()
        once = task.resampled(targets, predictions)(np.ones((len(targets), 1)))
        for name, value in task.measure(targets, predictions).items():
            np.testing.assert_allclose(once[name], [value], rtol=1e-9, err_msg=name)

    def test_a_resample_is_the_rows_as_often_as_it_says(self):
        task, targets, predictions = self.task(), self.targets(), self.predictions()
        counts = np.random.default_rng(0).integers(0, 4, len(targets))
        again = np.repeat(np.arange(len(targets)), counts)
        ours = task.resampled(targets, predictions)(counts[:, np.newaxis].astype(np.float64))
        for name, value in task.measure(targets[again], predictions[again]).items():
            np.testing.assert_allclose(ours[name], [value], rtol=1e-6, err_msg=name)

    def test_a_bootstrap_gives_each_metric_a_spread(self):
        task = self.task()
        drawn = resamples(task.resampled(self.targets(), self.predictions()), len(self.targets()), repeats=20)
        assert all(values.shape == (20,) and np.nanstd(values) > 0 for values in drawn.values())

    def test_predictions_have_the_shape_it_says_and_a_row_each_in_a_table(self):
        task = self.task()
        predictions = task.predictions(self.outputs())
        assert predictions.shape == (len(self.outputs()), *task.shape)
        table = task.table(predictions)
        assert table.height == len(predictions)
        assert all(name.startswith("pr") for name in table.columns)
        nothing = task.table(np.full((2, *task.shape), np.nan))
        assert nothing.columns == table.columns
        assert nothing.null_count().row(0) == (2,) * table.width

    def test_the_module_gives_what_predicting_gives(self):
        task, outputs = self.task(), self.outputs()
        tuned = task.tune(task.predictions(outputs), self.targets())
        for fitted in ({}, tuned):
            given = task.module(**fitted)(torch.from_numpy(outputs)).numpy()
            np.testing.assert_allclose(given, task.predictions(outputs, **fitted), rtol=1e-9)

    def test_what_is_tuned_is_json(self):
        tuned = self.task().tune(self.predictions(), self.targets())
        assert json.loads(json.dumps(tuned)) == tuned

    def test_an_error_of_the_score_falls_with_the_rows(self):
        few, many = (self.task().standard_error(0.7, rows) for rows in (100, 10_000))
        assert few > many > 0


class PreprocessorContract:
    """A preprocessor as a manifest names it, and raw rows: training rows, and others."""

    def manifest(self):
        raise NotImplementedError

    def rows(self):
        """Raw training rows, and others that have something which the training rows lack."""
        raise NotImplementedError

    def fitted(self):
        train, _ = self.rows()
        return Transform.fitted(train, np.zeros(len(train), np.int64), self.manifest())

    def test_rows_have_the_shape_and_dtype_that_the_manifest_says(self):
        transform = self.fitted()
        for rows in self.rows():
            made = transform.preprocessor(torch.from_numpy(rows))
            assert made.shape == (len(rows), *transform.manifest.shape)
            assert made.dtype == getattr(torch, transform.manifest.dtype or "float32")
            assert not made.is_floating_point() or made.isfinite().all()

    def test_a_row_is_what_it_is_whatever_stands_beside_it(self):
        transform, (_, others) = self.fitted(), self.rows()
        together = transform.preprocessor(torch.from_numpy(others))
        alone = torch.cat([transform.preprocessor(torch.from_numpy(row[np.newaxis])) for row in others])
        torch.testing.assert_close(together, alone, rtol=0, atol=0)

    def test_what_is_fitted_follows_from_the_training_rows_alone(self):
        transform, (train, _) = self.fitted(), self.rows()
        assert transform.contents() == self.fitted().contents()
        fewer = Transform.fitted(train[: len(train) // 2], np.zeros(len(train) // 2, np.int64), self.manifest())
        assert fewer.contents() != transform.contents()

    def test_it_is_read_back_as_it_was_written(self, tmp_path):
        transform, (_, others) = self.fitted(), self.rows()
        transform.write(tmp_path)
        again = read_transform(tmp_path)
        assert again.contents() == transform.contents()
        torch.testing.assert_close(
            again.preprocessor(torch.from_numpy(others)), transform.preprocessor(torch.from_numpy(others))
        )

    def test_the_module_gives_the_same(self):
        transform, (train, others) = self.fitted(), self.rows()
        module = transform.preprocessor.module()
        for rows in (train, others):
            given, wanted = module(torch.from_numpy(rows)), transform.preprocessor(torch.from_numpy(rows))
            torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)

    def test_refitting_takes_other_rows_and_the_same_settings(self):
        transform, (train, _) = self.fitted(), self.rows()
        half = Transform.fitted(train[::2], np.zeros(len(train[::2]), np.int64), transform.manifest)
        assert replace(half.manifest, fitted_on={}).task == transform.manifest.task


class NetworkContract:
    """A network, as it is made for rows of a shape, and such rows."""

    def network(self):
        """A new network with other weights for another seed of torch."""
        raise NotImplementedError

    def rows(self):
        raise NotImplementedError

    def test_it_gives_an_output_of_its_width_for_each_row(self):
        outputs = self.network().eval()(self.rows())
        assert outputs.ndim == 2
        assert len(outputs) == len(self.rows())
        assert outputs.isfinite().all()

    def test_a_row_is_what_it_is_whatever_stands_beside_it(self):
        network, rows = self.network().eval(), self.rows()
        with torch.no_grad():
            torch.testing.assert_close(network(rows)[:2], network(rows[:2]), rtol=1e-4, atol=1e-5)

    def test_equal_seeds_give_equal_weights_and_others_do_not(self):
        made = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            made.append(torch.cat([parameter.flatten() for parameter in self.network().parameters()]))
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])

    def test_all_weights_learn(self):
        network = self.network().train()
        network(self.rows()).square().sum().backward()
        idle = [name for name, weight in network.named_parameters() if weight.grad is None]
        assert idle == []

    def test_its_state_makes_another_the_same(self):
        torch.manual_seed(0)
        one, other = self.network(), self.network()
        other.load_state_dict(one.state_dict())
        torch.testing.assert_close(one.eval()(self.rows()), other.eval()(self.rows()), rtol=0, atol=0)


class ReaderContract:
    """A reader, as a configuration names it, and files for it to read."""

    target = ""
    """Its dotted path."""

    def settings(self, folder):
        """Write what the reader reads into a folder, and return the keys of its data group."""
        raise NotImplementedError

    def wanted(self, folder):
        return {"_target_": self.target, **self.settings(folder), "validation": 0.3, "split_seed": 1}

    def test_it_is_prepared_twice_to_the_same_bytes(self, tmp_path):
        wanted = self.wanted(tmp_path / "files")
        made = []
        for name in ("one", "two"):
            prepare_settings(tmp_path / name, wanted)
            made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
        assert made[0] == made[1]
        assert {"train.safetensors", "validation.safetensors", "test.safetensors", "manifest.json"} <= made[0].keys()

    def test_each_row_is_in_one_split(self, tmp_path):
        manifest = prepare_settings(tmp_path / "made", self.wanted(tmp_path / "files"))
        rows = [load_raw(tmp_path / "made", name).rows.tolist() for name in ("train", "validation", "test")]
        if not manifest.test_published:
            assert len({*rows[0], *rows[1], *rows[2]}) == sum(map(len, rows))
        assert not {*rows[0]} & {*rows[1]}
        assert [len(part) for part in rows] == [manifest.rows[name] for name in ("train", "validation", "test")]

    def test_rows_and_targets_are_what_the_manifest_says(self, tmp_path):
        manifest = prepare_settings(tmp_path / "made", self.wanted(tmp_path / "files"))
        split = load(tmp_path / "made", "train")
        assert split.inputs.shape[1:] == tuple(manifest.shape)
        assert str(split.inputs.dtype) == f"torch.{manifest.dtype or 'float32'}"
        assert len(split.targets) == len(split.inputs)
        task = read_transform(tmp_path / "made").task
        assert task.info.task == manifest.task

    def test_it_is_named_anew_where_it_would_be_made_otherwise(self, tmp_path):
        wanted = self.wanted(tmp_path / "files")
        assert settings_fingerprint(wanted) == settings_fingerprint(dict(reversed(wanted.items())))
        assert settings_fingerprint({**wanted, "split_seed": 2}) != settings_fingerprint(wanted)
