"""Which model is kept: that of the split, trained again on all rows, or the mean of the folds' models."""

import copy
import csv
import json
import os
import signal
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

from hypermap.core.paths import SOURCES
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import TensorSplit, read_transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.data.sampling import oversample
from hypermap.datasets import prepare
from hypermap.datasets.images import Raw, digits
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.texts import texts
from hypermap.experiments import run
from hypermap.training import artifacts
from hypermap.training.loop import Trainer
from hypermap.training.lr_schedules import Cosine
from support.configurations import QUICK_MLP
from support.own_texts import sentences

pytestmark = pytest.mark.usefixtures("a_place_of_its_own")

MODELS = Path("models")
AUTO = {"loss": {"name": "auto", "_target_": "hypermap.tasks.losses.Auto"}}
FOREST = {"name": "random_forest", "_target_": "hypermap.models.sklearn_models.RandomForest", "n_estimators": 5}
BOOSTING = {"name": "gradient_boosting", "_target_": "hypermap.models.sklearn_models.GradientBoosting"}
FOLDS = "hypermap.data.cross_validation"
KFOLD = {"name": "kfold", "_target_": f"{FOLDS}.KFold", "k": 3}
RESUMED = {"model": {"dropout": 0.3}, "trainer": {"epochs": 4}}
KILLED = """
import json, os, signal, sys
from pathlib import Path
from hypermap.core import checkpoint
from hypermap.experiments import run
save, saves, left = checkpoint.save, [], int(sys.argv[2])
def then_die(folder, epoch, state):
    save(folder, epoch, state)
    saves.append(epoch)
    if len(saves) == left:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save = then_die
configuration = json.loads(sys.argv[3])
asked = run.TrainingRequest(configuration, Path(sys.argv[1]), Path("models"), Path("reports/validation.json"))
run.train(asked)
"""


def rows(count: int = 240, seed: int = 0) -> pl.DataFrame:
    """Numbers, and a class and a price that depend on them; groups, and a time."""
    drawn = np.random.default_rng(seed)
    area, age, place = drawn.normal(50, 20, count), drawn.gamma(2, 10, count), drawn.choice(["a", "b", "c"], count)
    price = area - age + 20 * (place == "b") + drawn.normal(0, 8, count)
    kind = np.where(price > np.quantile(price, 0.7), "dear", "cheap")
    year = np.sort(drawn.integers(1990, 2020, count))
    owner = drawn.integers(0, 60, count)
    return pl.DataFrame(
        {"area": area, "age": age, "place": place, "price": price, "kind": kind, "year": year, "owner": owner}
    )


def prepared(folder: Path = Path("prepared"), target: Any = "kind", **settings: Any) -> Path:
    rows().write_csv("train.csv")
    named = [target] if isinstance(target, str) else list(target)
    unused = {"price", "kind", "year", "owner"} - {*named, settings.get("group"), settings.get("time")}
    given = {"path": "train.csv", "target": target, "drop": sorted(unused), "test": 0.2, **settings}
    prepare.prepare(folder, reader=table, **given)
    return folder


def order(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(QUICK_MLP) | AUTO | {"data": {"name": "table"}, "final": "refit"}
    for key, value in changes.items():
        whole = not isinstance(value, dict) or "_target_" in value
        made[key] = value if whole else {**made[key], **value}
    return made


def train(data: Path, folder: str = ".", **changes: Any) -> run.Result:
    output = Path(folder)
    return run.train(run.TrainingRequest(order(**changes), data, output / MODELS, output / "reports/validation.json"))


def content(folder: str = ".") -> dict[str, bytes]:
    paths = (path for part in ("models", "reports") for path in Path(folder, part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def record(folder: Path = MODELS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return found


def learning_rates(folder: Path) -> list[float]:
    return [row["learning_rate"] for row in artifacts.read_history(folder)]


def development(data: Path) -> TensorSplit:
    """The raw rows outside the test set, in the order of the file."""
    parts = [load_raw(data, name) for name in ("train", "validation")]
    order = torch.argsort(torch.cat([part.rows for part in parts]))
    joined = (torch.cat([getattr(part, name) for part in parts])[order] for name in ("inputs", "targets", "rows"))
    return TensorSplit(*joined)


# Trained again.


def numbers(path: str, published: bool) -> Raw:
    """Rows of which every fourth is for validation, or all of which are for both training and validation."""
    drawn = np.random.default_rng(0)
    rows, test = (drawn.normal(size=(count, 4)).astype(np.float32) for count in (160, 40))
    held = np.arange(len(rows)) % 4 == 0
    if not published:
        rows, held = np.concatenate([rows, rows]), np.arange(2 * len(rows)) >= len(rows)
    raw = Raw.of(rows, rows @ [1, 2, 3, 4] + rows[:, 0] ** 2)
    return replace(raw, validation_rows=held, test_inputs=test, test_targets=test[:, 0].astype(np.float32))


def test_a_network_is_the_one_of_data_all_of_which_is_for_training():
    """Its validation rows are its training rows once more, so that the last epoch is the best."""
    for folder, published in (("split", True), ("whole", False)):
        given = {"path": folder, "published": published, "validation": None, "test": None, "scaling": "standard"}
        prepare.prepare(Path(folder), reader=numbers, **given)
    result = train(Path("split"), trainer={"epochs": 5})
    train(Path("whole"), "other", trainer={"epochs": result.best_epoch, "monitor": "loss"}, final=None)
    assert record(Path("other/models"))["best_epoch"] == record()["best_epoch"] == result.best_epoch
    weights, expected = (load_file(Path(folder, "models/model.safetensors")) for folder in (".", "other"))
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name
    asked = load_raw(Path("split"), "test").inputs
    found, given = (artifacts.read_trained(Path(folder, "models")).predict(asked) for folder in (".", "other"))
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {}),
        ({"oversample": True}, {}),
        ({"group": "owner"}, {"validation": {**KFOLD, "_target_": f"{FOLDS}.GroupKFold"}}),
        ({"time": "year"}, {"validation": {"name": "time_series", "_target_": f"{FOLDS}.TimeSeries"}}),
        ({"scaling": "quantile", "rare": 5}, {"validation": KFOLD, "trainer": {"repeats": 2}}),
    ],
    ids=["plain", "oversample", "groups", "time", "folds and seeds"],
)  # fmt: skip
def test_a_forest_is_that_of_scikit_learn_on_all_rows(settings, changes):
    data = prepared(**settings)
    train(data, model=FOREST, **changes)
    raw = development(data)
    transform = read_transform(data).refit(raw)
    known = transform(raw)
    chosen = np.arange(len(raw.rows))
    if settings.get("oversample"):
        chosen = oversample(known.targets.numpy(), transform.manifest.split_seed)
        assert len(chosen) > len(raw.rows)
    kept = artifacts.read_trained(MODELS)
    inputs = kept.inputs.encode(known.inputs).numpy()[chosen]
    forest = RandomForestClassifier(5, min_samples_leaf=2, max_features="sqrt", random_state=4)
    forest.fit(inputs, known.targets.numpy()[chosen])
    asked = load_raw(data, "test").inputs
    expected = forest.predict_proba(kept.inputs.encode(transform.preprocessor(asked)).numpy())
    np.testing.assert_allclose(kept.predict(asked), expected, rtol=1e-12)
    assert (kept.record.final, kept.record.trained_rows) == ("refit", len(raw.rows))
    assert kept.transform.manifest.fitted_on["rows"] == len(raw.rows)
    of_split = artifacts.read_trained(MODELS / "split")
    assert (of_split.record.final, of_split.record.trained_rows) == ("holdout", len(load_raw(data, "train").rows))


@pytest.mark.parametrize("folds", [False, True])
def test_boosting_has_as_many_trees_as_the_validation_rows_said(folds):
    data = prepared(target="price")
    train(
        data,
        model=BOOSTING,
        **({"validation": KFOLD, "trainer": {"repeats": 2}} if folds else {}),
    )
    kept, of_split = (artifacts.read_trained(folder) for folder in (MODELS, MODELS / "split"))
    trees = kept.predictor.estimator.n_iter_
    if not folds:
        assert trees == of_split.predictor.estimator.n_iter_
        assert 1 < trees < 1000
    raw = development(data)
    known = kept.transform(raw)
    expected = HistGradientBoostingRegressor(
        max_iter=trees, categorical_features=[2], early_stopping=False, random_state=4
    ).fit(known.inputs.numpy(), known.targets.numpy())
    asked = load_raw(data, "test").inputs
    values = expected.predict(kept.transform.preprocessor(asked).numpy())
    np.testing.assert_allclose(kept.predict(asked), kept.transform.task.decode(values), rtol=1e-12)


def test_folds_and_seeds_decide_by_their_mean(monkeypatch):
    data, fits, of = prepared(), [], run.Taken.of
    monkeypatch.setattr(run.Taken, "of", lambda split, own: fits.extend(own) or of(split, own))
    epochs = {"epochs": 12, "repeats": 2, "monitor": "loss"}
    train(data, validation=KFOLD, trainer=epochs, optimizer={"lr": 0.05})
    best = [fit.best_epoch for fit in fits]
    assert len(best) == 6
    assert len({*best}) > 1
    assert record()["best_epoch"] == round(statistics.fmean(best))


def test_validation_metrics_and_the_splits_model_are_those_without_it():
    data = prepared()
    for folder, final in (("a", "refit"), ("b", "holdout"), ("c", None)):
        train(data, folder, final=final)
    refitted, plain, unsaid = map(content, "abc")
    assert refitted["reports/validation.json"] == plain["reports/validation.json"]
    for name in ("model.safetensors", "history.csv", "preparation.skops"):
        assert refitted[f"models/split/{name}"] == plain[f"models/{name}"]
        assert refitted[f"models/{name}"] != plain[f"models/{name}"]
    assert plain.keys() == unsaid.keys() == {name for name in refitted if "split" not in name}


def test_another_last_fit_leaves_nothing_of_the_one_before():
    data = prepared()
    for final in ("refit", "bag", "holdout"):
        train(data, final=final, validation=KFOLD)
    train(data, "fresh", final="holdout", validation=KFOLD)
    assert content() == content("fresh")


def test_there_is_nothing_of_validation_in_a_training_without_it():
    train(prepared(), regularizer={"patience_epochs": 1}, trainer={"epochs": 40, "reports_per_epoch": 2})
    history = artifacts.read_history(MODELS)
    assert {row["validation_loss"] for row in history} | {row["validation_score"] for row in history} == {None}
    best = record(MODELS / "split")["best_epoch"]
    assert (len(history), record()["best_epoch"], record()["stopped_early"]) == (best, best, False)
    assert record(MODELS / "split")["stopped_early"]


def test_a_schedule_that_watches_the_loss_repeats_what_it_saw():
    schedule = {"name": "plateau", "_target_": "hypermap.training.lr_schedules.Plateau", "patience": 0}
    train(prepared(), scheduler=schedule, optimizer={"lr": 0.1}, trainer={"epochs": 30, "monitor": "loss"})
    rates, before = learning_rates(MODELS), learning_rates(MODELS / "split")
    assert rates == before[: len(rates)]
    assert len({*before}) > 1


def test_what_was_tuned_on_the_split_is_kept():
    prepare.prepare(Path("digits"), reader=digits, test=0.2, rows=500)
    train(Path("digits"), trainer={"epochs": 2})
    assert record()["tuned"] == record(MODELS / "split")["tuned"] != {}
    train(Path("digits"), trainer={"epochs": 2, "calibration": None})
    assert record()["tuned"] == {}


# After an interruption, in stacks, and on several processes.


@pytest.fixture
def kill(forks):
    def until(data: Path, saves: int, **changes: Any) -> None:
        environment = {**os.environ, **forks.heavy, "PYTHONPATH": str(SOURCES)}
        command = ["python", "-c", KILLED, str(data), str(saves), json.dumps(order(**changes))]
        killed = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    return until


@pytest.mark.parametrize(
    ("saves", "changes"),
    [
        (4, {}),  # the split's last epoch
        (5, {}),  # within the refit
        (18, {"validation": KFOLD}),  # folds of 4 epochs, the split, then the refit
        (7, {"validation": KFOLD, "final": "bag"}),  # within the second fold
        (14, {"validation": KFOLD, "final": "bag"}),  # once all folds are done
    ],
)
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(kill, monkeypatch, saves, changes):
    data, epochs, epoch = prepared(), [], Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda *args: epochs.append(1) or epoch(*args))
    changes = RESUMED | {"optimizer": {"lr": 1e-3}} | changes
    train(data, "whole", **changes)
    whole = len(epochs)
    kill(data, saves, **changes)
    assert not MODELS.exists()
    train(data, **changes)
    assert content() == content("whole")
    assert len(epochs) - whole == whole - saves


def test_in_a_stack_each_gets_its_own():
    data, results = prepared(), {}
    requests = {
        name: run.TrainingRequest(
            order(seed=seed, trainer={"backend": "batched"}, final=final, validation=KFOLD),
            data,
            Path(name),
            Path(name, "validation.json"),
        )
        for seed, (name, final) in enumerate({"a": "refit", "b": "bag", "c": "holdout"}.items())
    }
    run.train_together(requests, lambda reports: {}, lambda name, result: results.update({name: result}), print)
    assert {name: record(Path(name))["final"] for name in results} == {"a": "refit", "b": "bag", "c": "holdout"}
    assert not [result for result in results.values() if isinstance(result, Exception)]
    assert record(Path("a"))["trained_rows"] == len(development(data).rows)
    assert len(record(Path("b"))["weights"]) == 3


def test_a_trial_of_a_sweep_is_not_trained_again():
    data = prepared()
    request = run.TrainingRequest(order(), data, MODELS, Path("validation.json"), keep=False)
    run.train(request)
    assert record()["final"] == "holdout"
    assert not (MODELS / "split").exists()


def test_several_processes_come_to_the_same():
    data = prepared()
    train(data, "alone", trainer={"epochs": 2})
    train(data, trainer={"epochs": 2, "processes": 2})
    assert record()["final"] == "refit"
    asked = load_raw(data, "test").inputs
    found, expected = (artifacts.read_trained(Path(folder, "models")).predict(asked) for folder in (".", "alone"))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


# Other trainings, and other data.


def test_the_models_beside_stay_those_of_the_split():
    data = prepared(target={"price": "regression", "kind": "binary"})
    loss = {"name": "joint", "_target_": "hypermap.tasks.losses.JointLoss", "alone": True}
    request = run.TrainingRequest(order(loss=loss), data, MODELS, Path("validation.json"))
    run.train(request)
    run.train_alone(request)
    assert record()["final"] == "refit"
    assert {record(MODELS / "alone" / name)["final"] for name in "12"} == {"holdout"}
    assert not (MODELS / "alone/1/split").exists()


def test_without_the_texts_the_split_is_enough():
    adverts, classes = sentences(120, 0)
    pl.DataFrame({"area": np.random.default_rng(0).normal(size=120), "advert": adverts, "kind": classes}).write_csv(
        "ads.csv"
    )
    given = {"path": "ads.csv", "target": "kind", "text": "advert", "text_gain": True, "text_components": 4}
    prepare.prepare(Path("ads"), reader=table, test=0.2, **given)
    request = run.TrainingRequest(order(), Path("ads"), MODELS, Path("validation.json"))
    run.train(request)
    run.train_without_texts(request)
    assert record()["final"] == "refit"
    assert record(MODELS / "without_texts")["final"] == "holdout"


NETWORKS = {
    "labels": ({"price": "regression", "kind": "multiclass"}, {}),
    "images": (digits, {"augment": {"shift": 1}}),
    "texts": (texts, {"model": {"name": "text_bag", "_target_": "hypermap.models.TextBag", "width": 4}}),
}


@pytest.mark.parametrize("final", ["refit", "bag"])
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_every_kind_of_data_is_learned_from_and_predicted(kind, final):
    reader, changes = NETWORKS[kind]
    if kind == "labels":
        data = prepared(target=reader)
    else:
        settings: dict[str, Any] = {"test": 0.2}
        if kind == "texts":
            contents, classes = sentences(150, 0)
            pl.DataFrame({"text": contents, "class": classes}).write_csv("texts.csv")
            settings |= {"path": "texts.csv", "text": "text", "target": "class"}
        data = Path("data")
        prepare.prepare(data, reader=reader, **settings)
    train(data, final=final, validation=KFOLD, **changes)
    asked, transform = load_raw(data, "test"), read_transform(data)
    kept = artifacts.read_trained(MODELS)
    assert kept.record.trained_rows == len(development(data).rows)
    predicted = kept.predict(RawInputs.of(asked, transform))
    np.testing.assert_array_equal(predicted, kept.predict(asked.inputs))
    assert transform.task.measure(artifacts.targets(transform(asked), transform), predicted)


# The mean of the folds' models.


@pytest.mark.parametrize("model", [QUICK_MLP["model"], FOREST], ids=["network", "forest"])
def test_each_member_is_that_of_its_fold_and_a_prediction_their_mean(model):
    data = prepared()
    train(data, final="bag", validation={**KFOLD, "repeats": 2}, trainer={"repeats": 2}, model=model)
    kept, raw = artifacts.read_trained(MODELS), development(data)
    members = kept.predictor.members
    assert len(members) == 3 * 2 * 2
    asked = load_raw(data, "test").inputs
    np.testing.assert_allclose(kept.predict(asked), np.mean([one.predict(asked) for one in members], 0), rtol=1e-12)
    with (MODELS / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert [member.record.configuration["seed"] for member in members] == [int(row["seed"]) for row in scores]
    seed = read_transform(data).manifest.split_seed
    folds = StratifiedKFold(3, shuffle=True, random_state=seed).split(raw.inputs, raw.targets)
    for member, row, (_, held) in zip(members, scores, folds, strict=False):  # those of the first shuffle and seed
        right = member.predict(raw.inputs[held]).argmax(1) == raw.targets[held].numpy()
        assert right.mean() == pytest.approx(float(row["accuracy"]))
    assert record()["trained_rows"] == len(raw.rows)
    if kept.record.parameters is not None:
        assert kept.record.parameters == len(members) * record(MODELS / "split")["parameters"]


def test_learning_rates_are_laid_out_over_the_epochs_of_the_refit():
    data = prepared()
    cosine = {"name": "cosine", "_target_": "hypermap.training.lr_schedules.Cosine", "warmup_epochs": 6}
    train(data, scheduler=cosine, trainer={"epochs": 30, "monitor": "loss"}, optimizer={"lr": 0.1})
    epochs, steps = record()["best_epoch"], -(-len(development(data).rows) // 64)
    assert 1 < epochs < 30
    planned = Cosine(warmup_epochs=6 * epochs / 30).learning_rates(0.1, epochs, steps)
    assert learning_rates(MODELS) == planned[steps - 1 :: steps]
