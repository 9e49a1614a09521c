"""An AutoML on a small table: its steps, their repetition, and what it leaves."""

import csv
import json
import math
import os
import signal
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from hypermap.automl import run as run_module
from hypermap.automl.bench import Bench, splits_of
from hypermap.automl.run import Clock, train
from hypermap.automl.state import State
from hypermap.config.compose import compose, slices
from hypermap.config.portfolio import PREPROCESSING, expanded
from hypermap.core.errors import Interrupted, UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Settings
from hypermap.data.prepared import load_raw
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments.run import TrainingRequest
from hypermap.training.artifacts import read_trained

PORTFOLIO = "['model=linear','model=nearest_neighbors','model=gradient_boosting model.max_iter=20','model=dummy']"
QUIET = Clock(says=False)
pytestmark = pytest.mark.usefixtures("a_place_of_its_own")


def write_table(path, rows=240, seed=0):
    rng = np.random.default_rng(seed)
    x, y, colour = rng.normal(size=rows), rng.uniform(-2, 2, size=rows), rng.choice(["red", "green", "blue"], rows)
    price = 3 * x + np.sin(3 * y) + (colour == "red") + rng.normal(scale=0.3, size=rows)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y", "colour", "price", "sold"])
        for row in zip(x, y, colour, price, np.where(price > 0, "yes", "no"), strict=True):
            writer.writerow(row)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A configuration, as a stage has it, and its prepared data; by target."""
    folder = tmp_path_factory.mktemp("automl")
    path, found = write_table(folder / "table.csv"), {}
    for target, other in [("price", "sold"), ("sold", "price")]:
        words = [f"data.path={path}", f"data.target={target}", f"data.drop=[{other}]", "data.rare=1"]
        configuration = compose(
            ["experiment=table", *words, "automl=good", f"automl.portfolio={PORTFOLIO}", "automl.search=[linear]",
             "automl.folds=3"]
        )  # fmt: skip
        prepare_settings(folder / target, configuration["data"])
        found[target] = {**slices(configuration)["train"], "automl": expanded(configuration)}, folder / target
    return found


def request(made, tmp_path, target="price", name="out", **automl):
    configuration, prepared = made[target]
    configuration = {**configuration, "automl": {**configuration["automl"], **automl}}
    output = tmp_path / name
    return TrainingRequest(configuration, prepared, output, output / "validation.json", states=tmp_path / "runs")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_steps_again_are_the_same_bytes_however_many_run_at_once(made, tmp_path):
    result, steps = train(request(made, tmp_path, name="clock"), replace(QUIET, seconds=3.0, began=time.monotonic()))
    assert steps >= 3  # one candidate is trained on every fold, however slow the machine is
    assert math.isfinite(result.objective)
    again, counted = train(request(made, tmp_path, name="again", steps=steps), QUIET)
    assert counted == steps
    assert contents(tmp_path / "clock").keys() == contents(tmp_path / "again").keys()
    assert contents(tmp_path / "clock") == contents(tmp_path / "again")
    train(request(made, tmp_path, name="two", steps=steps), replace(QUIET, jobs=2))
    assert contents(tmp_path / "two") == contents(tmp_path / "again")
    assert again.metrics == result.metrics
    assert not list((tmp_path / "runs").rglob("outcome.json"))


def test_without_a_clock_or_a_number_it_does_the_portfolio(made, tmp_path):
    _, steps = train(request(made, tmp_path, "sold"), QUIET)
    assert steps <= 4 * 3
    with (tmp_path / "out/leaderboard.csv").open() as file:
        board = list(csv.DictReader(file))
    assert [row["settings"] for row in board if float(row["weight"])]
    assert all("model=" in row["settings"] for row in board)
    losses = [float(row["loss"]) for row in board]
    assert losses == sorted(losses)


def test_it_predicts_what_its_folds_models_predict_on_average(made, tmp_path):
    train(request(made, tmp_path, "sold"), QUIET)
    trained, rows = read_trained(tmp_path / "out"), load_raw(made["sold"][1], "test").inputs
    members = trained.predictor.members
    assert len(members) % 3 == 0
    mean = sum(w * m.predict(rows) for m, w in zip(members, trained.predictor.weights, strict=True))
    np.testing.assert_allclose(trained.predict(rows), mean, atol=1e-12)
    assert math.fsum(trained.predictor.weights) == pytest.approx(1)


def test_its_validation_metrics_are_those_of_rows_that_no_model_in_it_was_fitted_to(made, tmp_path, monkeypatch):
    """With one candidate, they are scikit-learn's of cross-validated predictions."""
    from sklearn.metrics import log_loss

    kept = {}
    monkeypatch.setattr(State, "clear", lambda self: kept.update(state=self))
    candidates = made["sold"][0]["automl"]["candidates"][:1]
    result, steps = train(request(made, tmp_path, "sold", candidates=candidates, search=[], steps=3), QUIET)
    assert steps == 3
    bench = Bench(made["sold"][0], made["sold"][1], 3)
    predicted = np.zeros((len(bench.targets), 2))
    for number, fold in enumerate(bench.splits):
        model = read_trained(kept["state"].folder / f"steps/0000-{number:02d}/model")
        both = bench.rows({})._raw.inputs
        predicted[fold.validation] = model.predict(both[fold.validation])
        assert not set(fold.train) & set(fold.validation)
    assert result.metrics["log_loss"] == pytest.approx(log_loss(bench.targets, predicted[:, 1]))
    saved = json.loads((tmp_path / "out/validation.json").read_text())
    assert saved["validation_accuracy"] == result.metrics["accuracy"]


def test_a_killed_one_goes_on_to_the_same_bytes(made, tmp_path):
    train(request(made, tmp_path, name="whole", steps=12), QUIET)
    if not (pid := os.fork()):
        train(request(made, tmp_path, name="killed", steps=12), QUIET)
        os._exit(0)
    until = time.monotonic() + 60
    while len(list((tmp_path / "runs").rglob("outcome.json"))) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not (tmp_path / "killed/model.json").exists()
    before = len(list((tmp_path / "runs").rglob("outcome.json")))
    assert 4 <= before < 12
    train(request(made, tmp_path, name="killed", steps=12), QUIET)
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")


def test_it_stops_on_request_and_goes_on(made, tmp_path):
    asked = []

    def pause():
        asked.append(1)
        if len(asked) == 4:
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        train(replace(request(made, tmp_path, steps=9), pause=pause), QUIET)
    left = len(list((tmp_path / "runs").rglob("outcome.json")))
    assert 3 <= left < 9
    assert train(replace(request(made, tmp_path, steps=9), pause=pause), QUIET)[1] == 9


def test_what_cannot_be_trained_is_left_out_with_its_reason(made, tmp_path, capsys):
    candidates = made["price"][0]["automl"]["candidates"]
    broken = {**candidates[1], "says": "broken", "model": {**candidates[1]["model"], "n_neighbors": 5000}}
    train(request(made, tmp_path, candidates=[broken, candidates[0]], search=[]), Clock())
    assert "broken: left out: model.n_neighbors is 5000, and there are 1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no candidate could be trained .* model.n_neighbors is 5000"):
        train(request(made, tmp_path, candidates=[broken], search=[]), Clock())


def test_the_ensemble_stays_within_the_limit_of_its_size_and_says_what_that_costs(made, tmp_path):
    boosting, constant = made["price"][0]["automl"]["candidates"][2:]
    two = {"candidates": [boosting, constant], "search": []}
    train(request(made, tmp_path, name="free", **two), QUIET)
    whole = json.loads((tmp_path / "free/automl.json").read_text())
    limit = whole["megabytes"] * 0.8
    train(request(made, tmp_path, name="small", **two, megabytes=limit), QUIET)
    small = json.loads((tmp_path / "small/automl.json").read_text())
    assert small["megabytes"] <= limit < whole["megabytes"]
    assert small["cost"] > whole["cost"] == 0
    with pytest.raises(UserError, match="smallest"):
        train(request(made, tmp_path, name="none", search=[], megabytes=1e-4), QUIET)


def test_a_network_that_would_take_most_of_the_budget_is_left_out(made, tmp_path):
    configuration = made["price"][0]
    network = {"says": "network", "model": configuration["model"], "data": {}}
    entries = [*configuration["automl"]["candidates"], network]
    for seconds, there in [(1e6, True), (1.0, False)]:
        search = run_module._Search(request(made, tmp_path, candidates=entries, seconds=seconds), QUIET)
        assert ("network" in [one.says for one in search.portfolio]) == there


def test_rows_of_a_group_and_the_order_of_time_are_kept(made):
    development = Bench(made["price"][0], made["price"][1], 3).rows({}).development
    holdout = {"validation": {"name": "holdout"}}
    groups = np.arange(len(development.targets)) // 5
    for fold in splits_of(holdout, replace(development, groups=groups), 3):
        assert not set(groups[fold.train]) & set(groups[fold.validation])
    assert splits_of(holdout, replace(development, times=groups.astype(float)), 3) == [development.holdout]
    kfold = {"validation": {"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 4}}
    assert len(splits_of(kfold, development, 3)) == 4


def test_data_that_is_no_table_or_has_several_targets_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="automl is for tables, and data=digits is none"):
        expanded(compose(["data=digits", "automl=good"]))
    path = write_table(tmp_path / "a.csv")
    words = [f"data.path={path}", "data.target={price: regression, sold: binary}"]
    whole = compose(["experiment=table", *words])
    prepare_settings(tmp_path / "data", whole["data"])
    with pytest.raises(UserError, match="whose target is a class or a number"):
        Bench(whole, tmp_path / "data", 3)


def test_a_candidate_may_set_every_setting_of_preprocessing():
    assert {*PREPROCESSING} == {own.name for own in fields(Settings)}


def test_an_ensemble_with_other_preprocessing_is_of_the_same_data(made, tmp_path):
    """Or else it could be neither evaluated nor exported."""
    (linear, *_), prepared = made["price"][0]["automl"]["candidates"], made["price"][1]
    train(request(made, tmp_path, candidates=[{**linear, "data": {"scaling": "robust"}}], search=[]), QUIET)
    manifest = read_trained(tmp_path / "out").transform.manifest
    assert manifest.preparation["scaling"] == "robust"
    assert manifest.fingerprint == Manifest.read(prepared).fingerprint
