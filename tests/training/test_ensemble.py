"""An ensemble on disk: its predictions are the weighted mean of its members', each with its own preprocessing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import Transform, read_transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables.dataset import table
from hypermap.models import sklearn_fit
from hypermap.models.inputs import resolve_input_spec
from hypermap.training import artifacts
from hypermap.training.artifacts import Ensemble, RunRecord, TrainedModel, read_trained, write_trained
from hypermap.training.components import make_components
from hypermap.training.network import Network
from support.refusals import refusal

ROWS = 120
FOREST = {"name": "random_forest", "_target_": "hypermap.models.sklearn_models.RandomForest", "n_estimators": 5}
NETWORK = {
    "model": {"name": "mlp", "_target_": "hypermap.models.MLP", "hidden": [4]},
    "optimizer": {"_target_": "torch.optim.Adam"},
    "scheduler": {"_target_": "hypermap.training.lr_schedules.Constant"},
    "loss": {"name": "auto", "_target_": "hypermap.tasks.losses.Auto"},
    "regularizer": {"_target_": "hypermap.training.regularizers.Regularizer"},
    "augment": {"_target_": "hypermap.training.augment.Augment"},
    "trainer": {"_target_": "hypermap.training.state.TrainerConfig", "epochs": 1, "batch_size": 32},
}
TARGETS: dict[str, Any] = {
    "classification": "city",
    "regression": "price",
    "multilabel": ["sunny", "large"],
    "multitask": {"price": "regression", "city": "multiclass"},
}


def rows() -> polars.DataFrame:
    drawn = np.random.default_rng(0)
    area, age = drawn.lognormal(3, 1, ROWS), drawn.gamma(2, 2, ROWS)
    age[::9] = np.nan
    columns = {
        "area": area,
        "age": age,
        "city": np.array(["a", "b", "c"])[drawn.integers(0, 3, ROWS)],
        "price": area * drawn.lognormal(0, 0.1, ROWS),
        "sunny": drawn.integers(0, 2, ROWS),
        "large": (area > 20).astype(int),
    }
    return polars.DataFrame(columns, nan_to_null=True)


def prepared(folder: Path, task: str, **settings: Any) -> Path:
    rows().write_csv(folder / "train.csv")
    target = TARGETS[task]
    names = [target] if isinstance(target, str) else list(target)
    others = [name for name in ("city", "price", "sunny", "large") if name not in names]
    given = {"path": str(folder / "train.csv"), "target": target, "drop": others, "test": 0.2, **settings}
    prepare(folder / "prepared", reader=table, **given)
    return folder / "prepared"


def network(transform: Transform, seed: int, **tuned: Any) -> TrainedModel:
    """A network as it begins."""
    torch.manual_seed(seed)
    inputs = resolve_input_spec(NETWORK["model"], transform.manifest)
    parts = make_components(NETWORK, transform.manifest, inputs, torch.device("cpu"))
    record = RunRecord(1, False, "loss", 0, {}, NETWORK, tuned)
    return TrainedModel(record, Network(parts.model, parts.loss, transform, inputs, "fp32", tuned))


def forest(transform: Transform, folder: Path) -> TrainedModel:
    splits = [transform(replace(load_raw(folder, name), features=None)) for name in ("train", "validation")]
    record = RunRecord(0, False, "loss", None, {}, {"model": FOREST})
    return TrainedModel(record, sklearn_fit.fit(FOREST, *splits, transform, seed=0, threads=1))


def differently(folder: Path) -> Transform:
    """A transform of the same raw rows, fitted to others and with other settings."""
    transform = read_transform(folder)
    manifest = replace(transform.manifest, preparation={**transform.manifest.preparation, "scaling": "quantile"})
    return replace(transform, manifest=manifest).refit(load_raw(folder, "validation"))


def ensemble(members: list[TrainedModel], weights: list[float]) -> TrainedModel:
    return TrainedModel(RunRecord(0, False, "loss", None, {}, {"model": FOREST}), Ensemble(members, weights))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", list(TARGETS))
def test_a_prediction_is_the_weighted_mean_and_comes_back_from_disk(tmp_path, task):
    data = prepared(tmp_path, task)
    transform, raw = read_transform(data), load_raw(data, "test").inputs
    members = [network(transform, 1), network(differently(data), 2), forest(differently(data), data)]
    weights = [0.5, 0.3, 0.2]
    write_trained(tmp_path / "models", ensemble(members, weights))
    back = read_trained(tmp_path / "models")
    predicted = back.predict(raw)
    each = [member.predictor(member.transform.preprocessor(raw)) for member in members]
    mean = np.average(each, axis=0, weights=weights)
    if task == "multilabel":
        votes = np.average([own[:, 2:] for own in each], axis=0, weights=weights)
        mean = np.hstack([mean[:, :2], votes >= 0.5])
        assert set(predicted[:, 2:].ravel().tolist()) <= {0.0, 1.0}
    np.testing.assert_allclose(predicted, mean, rtol=1e-12)
    assert back.transform.task.measure(artifacts.targets(transform(load_raw(data, "test")), transform), predicted)


def test_equal_transforms_preprocess_once(tmp_path, monkeypatch):
    data = prepared(tmp_path, "regression")
    transform, split = read_transform(data), load_raw(data, "test")
    write_trained(tmp_path / "models", ensemble([network(transform, k) for k in range(3)], [0.5, 0.25, 0.25]))
    back, asked = read_trained(tmp_path / "models"), []
    expected = back.predict(split.inputs)
    kind = type(transform.preprocessor)
    monkeypatch.setattr(kind, "__call__", lambda self, inputs: asked.append(1) or torch.zeros(1))
    np.testing.assert_array_equal(back.predict(RawInputs.of(split, transform)), expected)
    assert not asked


def test_what_members_have_tuned_can_be_left_out(tmp_path):
    data = prepared(tmp_path, "classification")
    transform, raw = read_transform(data), load_raw(data, "test").inputs
    tuned, plain = [network(transform, 1, temperature=2.0), network(transform, 2)], [network(transform, 1)]
    write_trained(tmp_path / "models", ensemble(tuned, [0.5, 0.5]))
    back = read_trained(tmp_path / "models")
    untuned = TrainedModel(back.record, back.predictor.untuned).predict(raw)
    np.testing.assert_array_equal(untuned, np.mean([one.predict(raw) for one in [*plain, tuned[1]]], axis=0))
    assert not np.array_equal(untuned, back.predict(raw))


def test_equal_ensembles_write_equal_bytes_and_nothing_of_another_model_is_left(tmp_path):
    data = prepared(tmp_path, "classification")
    transform = read_transform(data)
    members = [network(transform, 1), forest(transform, data), network(transform, 2)]
    write_trained(tmp_path / "fresh", ensemble(members[:2], [0.25, 0.75]))
    write_trained(tmp_path / "fresh alone", members[1])
    write_trained(tmp_path / "models", ensemble(members[::-1], [0.5, 0.25, 0.25]))
    write_trained(tmp_path / "models", ensemble(members[:2], [0.25, 0.75]))
    assert files(tmp_path / "models") == files(tmp_path / "fresh")
    assert {"model.json", "history.csv", "members/0/model.safetensors", "members/1/model.skops"} <= files(
        tmp_path / "models"
    ).keys()
    write_trained(tmp_path / "models", members[1])
    assert files(tmp_path / "models") == files(tmp_path / "fresh alone")
    assert not (tmp_path / "models/members").exists()


def test_a_strangers_ensemble_is_checked(tmp_path):
    data = prepared(tmp_path, "classification")
    transform, folder = read_transform(data), tmp_path / "models"
    write_trained(folder, ensemble([network(transform, 1), network(transform, 2)], [0.5, 0.5]))
    whole = files(folder)

    def refused(name: str, change: Any) -> str:
        for path, content in whole.items():
            (folder / path).write_bytes(content)
        record = json.loads((folder / name).read_text())
        change(record)
        (folder / name).write_text(json.dumps(record))
        return refusal(read_trained, folder)

    assert "no shares of 1" in refused("model.json", lambda record: record.update(weights=[0.5, 0.6]))
    assert "no shares of 1" in refused("model.json", lambda record: record.update(weights=[1.5, -0.5]))
    assert "members/2" in refused("model.json", lambda record: record.update(weights=[0.5, 0.25, 0.25]))
    foreign = {"model": {"_target_": "os.system"}}
    assert "os.system" in refused("model.json", lambda record: record.update(configuration=foreign))
    assert "members/1/model.json cannot be read: it is not the file" in refused(
        "members/1/model.json", lambda record: record.update(best_epoch=2)
    )
    for path, content in whole.items():
        (folder / path).write_bytes(content)
    record = json.loads((folder / "members/1/model.json").read_text()) | {"configuration": foreign}
    (folder / "members/1/model.json").write_text(json.dumps(record))
    top = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(top | {"sha256": {}}))
    assert "members/1/model.json: model._target_ names 'os.system'" in refusal(read_trained, folder)
    (folder / "members/1/model.json").write_text(json.dumps({**record, "configuration": {}, "weights": [1.0]}))
    assert "in another ensemble" in refusal(read_trained, folder)
