"""An exported program is compared with what src/predict.py writes for the same rows."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.data import preparation_module
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.images import diabetes, digits
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.tables.readers import open_table
from hypermap.datasets.tables.schema import Schema
from hypermap.inference.archive import unpacked
from hypermap.inference.export import ExportArgs, export
from hypermap.inference.predict import Predictor
from hypermap.models import sklearn_fit
from hypermap.models.inputs import resolve_input_spec
from hypermap.training import artifacts
from hypermap.training.components import make_components
from hypermap.training.network import Network

ROWS = 200


def rows(seed: int, cities: int = 6) -> polars.DataFrame:
    """Numbers and categories, some of them missing, in a skewed table with two targets."""
    drawn = np.random.default_rng(seed)
    area, gapped = drawn.lognormal(3, 1, ROWS), drawn.gamma(2, 2, ROWS)
    gapped[drawn.random(ROWS) < 0.1] = np.nan
    city = [f"city {k}" if k < cities else None for k in drawn.integers(0, cities + 1, ROWS)]
    garden = np.where(drawn.random(ROWS) < 0.5, "yes", "no")
    score = np.log(area) + (garden == "yes") + drawn.normal(0, 0.3, ROWS)
    label = np.where(score < 3.5, "cheap", "dear")
    columns = {"area": area, "gapped": gapped, "city": city, "garden": garden, "label": label, "price": np.exp(score)}
    return polars.DataFrame(columns, nan_to_null=True)


def network(model: dict[str, Any], loss: str) -> dict[str, Any]:
    return {
        "model": model,
        "optimizer": {"_target_": "torch.optim.Adam"},
        "scheduler": {"_target_": "hypermap.training.lr_schedules.Constant"},
        "loss": {"_target_": f"hypermap.tasks.losses.{loss}"},
        "regularizer": {"_target_": "hypermap.training.regularizers.Regularizer"},
        "augment": {"_target_": "hypermap.training.augment.Augment"},
        "trainer": {"_target_": "hypermap.training.state.TrainerConfig", "epochs": 1, "batch_size": 32},
    }


EMBEDDING = network({"_target_": "hypermap.models.TabularMLP", "hidden": [8]}, "CrossEntropy")
MEMBERS = network({"_target_": "hypermap.models.TabM", "hidden": [8]}, "CrossEntropy")
RESIDUAL = network({"_target_": "hypermap.models.TabularResNet", "width": 8}, "BinaryCrossEntropy")
ONE_HOT = network(
    {"_target_": "hypermap.models.MLP", "hidden": [8], "dropout": 0.5, "batch_norm": True}, "MeanSquaredError"
)
CONVOLUTIONS = network({"_target_": "hypermap.models.CNN", "channels": [4, 4], "padding": "same"}, "CrossEntropy")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with training data in a file, where the commands are run."""
    monkeypatch.chdir(tmp_path)
    rows(0).write_csv("train.csv")
    return tmp_path


def untrained(configuration: dict[str, Any], tuned: dict[str, Any] | None = None, seed: int = 0) -> None:
    """A network as it begins, with weights that are not near zero, where a trained one would be."""
    transform = read_transform(Path("data/prepared"))
    torch.manual_seed(seed)
    inputs = resolve_input_spec(configuration["model"], transform.manifest)
    parts = make_components(configuration, transform.manifest, inputs, torch.device("cpu"))
    predict = Network(parts.model, parts.loss, transform, inputs, "fp32", tuned or {})
    record = artifacts.RunRecord(1, False, "accuracy", 0, {}, configuration, tuned or {})
    artifacts.write_trained(Path("models"), artifacts.TrainedModel(record, predict))


def ensemble(configuration: dict[str, Any], tuned: dict[str, Any]) -> None:
    """Two such networks, the second with a preparation of its own."""
    members = []
    for seed in (1, 2):
        untrained(configuration, tuned, seed)
        if seed == 2:
            raw, transform = load_raw(Path("data/prepared"), "validation"), read_transform(Path("models"))
            trained = artifacts.read_trained(Path("models"))
            fitted = replace(trained.predictor, transform=transform.refit(raw))
            members.append(replace(trained, predictor=fitted))
        else:
            members.append(artifacts.read_trained(Path("models")))
    mean = artifacts.Ensemble(members, [0.75, 0.25])
    artifacts.write_trained(Path("models"), artifacts.TrainedModel(members[0].record, mean))


def program(folder: str = "exported") -> torch.nn.Module:
    return torch.export.load(Path(folder) / "model.pt2").module()


@pytest.mark.parametrize(
    ("configuration", "settings", "tuned"),
    [
        (EMBEDDING, {"target": "label", "scaling": "quantile", "rare": 10}, {"temperature": 2.5}),
        (MEMBERS, {"target": "label"}, {}),
        (
            EMBEDDING,
            {"target": "label", "scaling": "robust", "categories": "ordinal", "missing": "mean", "pca": 2},
            {},
        ),
        (RESIDUAL, {"target": "label", "scaling": "min_max", "missing": "drop"}, {"temperature": 0.6}),
        (ONE_HOT, {"target": "price", "scaling": "standard", "target_transform": "log1p"}, {}),
        (ONE_HOT, {"target": "price", "missing": "constant", "fill": -1.0, "missing_categories": "most_frequent"}, {}),
    ],
)
def test_a_table_of_new_rows_gets_the_answers_that_predicting_gives(place, configuration, settings, tuned):
    other = "price" if settings["target"] == "label" else "label"
    prepare(Path("data/prepared"), reader=table, path="train.csv", drop=[other], test=0.2, **settings)
    untrained(configuration, tuned)
    told = ExportArgs.of([]).answer()
    assert "exported/model.pt2 gives what models gives" in told

    rows(1, cities=9).drop(other).write_csv("new.csv")  # three cities are unseen
    Predictor(artifacts.read_trained(Path("models"))).predict_files([Path("new.csv")], Path("p.csv"), {})
    written = polars.read_csv("p.csv").select(polars.col(polars.Float64)).to_numpy()
    opened = open_table(["new.csv"])
    about = json.loads(Path("exported/program.json").read_text())
    matrix = np.concatenate([Schema.of(about["table"]).encode(batch) for batch in opened.batches()])
    answers = program()(torch.from_numpy(matrix)).numpy()
    assert answers.dtype == np.float64
    assert answers.ndim == (2 if about["classes"] else 1)
    np.testing.assert_allclose(answers.reshape(ROWS, -1), written, rtol=1e-5, atol=1e-6)
    assert np.isnan(written).any() == (settings.get("missing") == "drop")


@pytest.mark.parametrize(("reader", "configuration"), [(digits, CONVOLUTIONS), (diabetes, ONE_HOT)])
def test_images_and_plain_tables_go_in_as_published(place, reader, configuration):
    prepare(Path("data/prepared"), reader=reader, test=0.2)
    untrained(configuration)
    count, difference = export(Path("models"), Path("elsewhere"))
    assert count == len(load(Path("data/prepared"), "validation").rows)
    assert difference <= 1e-5
    raw = load_raw(Path("data/prepared"), "test").inputs
    expected = artifacts.read_trained(Path("models")).predict(raw)
    np.testing.assert_allclose(program("elsewhere")(raw).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("configuration", "target", "tuned", "settings"),
    [
        (ONE_HOT, "price", {}, {"target_transform": "log1p"}),
        (RESIDUAL, "label", {"temperature": 0.6}, {"missing": "drop"}),
        (
            network({"_target_": "hypermap.models.MLP", "hidden": [8]}, "MultilabelCrossEntropy"),
            ["large", "dear"],
            {"thresholds": [0.45, 0.55]},
            {},
        ),
    ],
    ids=["a number", "a class", "labels"],
)
def test_of_an_ensemble_all_networks_are_in_the_program(place, configuration, target, tuned, settings):
    frame = rows(0)
    labels = {"large": (frame["area"] > 20).cast(int), "dear": (frame["label"] == "dear").cast(int)}
    frame.with_columns(**labels).write_csv("train.csv")
    drop = [name for name in ("label", "price", *labels) if name not in target]
    prepare(Path("data/prepared"), reader=table, path="train.csv", target=target, drop=drop, test=0.2, **settings)
    ensemble(configuration, tuned)
    _, difference = export(Path("models"), Path("exported"))
    assert difference <= 1e-5
    raw = load_raw(Path("data/prepared"), "test").inputs
    expected = artifacts.read_trained(Path("models")).predict(raw)
    np.testing.assert_allclose(program()(raw).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_an_ensemble_with_a_model_of_scikit_learn_is_an_archive(place):
    prepare(Path("data/prepared"), reader=diabetes, test=0.2)
    untrained(ONE_HOT)
    transform, choice = read_transform(Path("models")), {"_target_": "hypermap.models.sklearn_models.Linear"}
    splits = [load(Path("data/prepared"), name) for name in ("train", "validation")]
    record = artifacts.RunRecord(0, False, "r2", None, {}, {"model": choice})
    linear = artifacts.TrainedModel(record, sklearn_fit.fit(choice, *splits, transform, 0, 1))
    both = artifacts.Ensemble([artifacts.read_trained(Path("models")), linear], [0.5, 0.5])
    artifacts.write_trained(Path("models"), artifacts.TrainedModel(record, both))
    rows = load_raw(Path("data/prepared"), "test").inputs
    wanted = artifacts.read_trained(Path("models")).predict(rows)
    export(Path("models"), Path("exported"))
    with unpacked(Path("exported/model.zip")) as folder:
        assert (artifacts.read_trained(folder).predict(rows) == wanted).all()


def test_the_program_runs_where_hypermap_is_not(place):
    prepare(Path("data/prepared"), reader=table, path="train.csv", target="label", drop=["price"], test=0.2)
    untrained(EMBEDDING)
    export(Path("models"), Path("exported"))
    example = Path("exported/README.md").read_text().split("\n\n")[2]
    assert "| 1 | gapped | gapped | a number |" in Path("exported/README.md").read_text()
    lines = [line.strip() for line in example.splitlines()]
    script = ["import sys, torch", "rows = torch.full((3, 4), torch.nan, dtype=torch.float64)", *lines]
    script.append("print(*answers.shape, answers.dtype, 'hypermap' in sys.modules)")
    command = [sys.executable, "-I", "-c", "\n".join(script)]
    done = subprocess.run(command, cwd="exported", capture_output=True, text=True, check=True)
    assert done.stdout == "3 2 torch.float64 False\n"


def test_other_numbers_are_refused_and_nothing_is_written(place, monkeypatch):
    prepare(Path("data/prepared"), reader=table, path="train.csv", target="label", drop=["price"], test=0.2)
    untrained(EMBEDDING)
    monkeypatch.setattr(preparation_module.Prepare, "forward", lambda self, matrix: matrix.float())
    with pytest.raises(UserError, match=r"differs from the network by .* nothing was written"):
        export(Path("models"), Path("exported"))
    assert not Path("exported").exists()


class Counting(torch.nn.Module):
    """A network that torch.export cannot follow: what it does depends on the values."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.output = torch.nn.Linear(input_shape[0], outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.output(rows) if rows.sum() > 0 else -self.output(rows)


def test_a_network_that_cannot_be_followed_is_told(place, monkeypatch):
    prepare(Path("data/prepared"), reader=diabetes, test=0.2)
    monkeypatch.setitem(sys.modules, "own", sys.modules[__name__])
    untrained(network({"_target_": "own.Counting"}, "MeanSquaredError"))
    with pytest.raises(UserError, match=r"torch.export cannot follow this network: .*predict\.py"):
        export(Path("models"), Path("exported"), trust=True)


def test_a_model_that_is_no_network_is_an_archive_with_its_preparation(place):
    prepare(Path("data/prepared"), reader=diabetes, test=0.2)
    transform, choice = (
        read_transform(Path("data/prepared")),
        {"name": "linear", "_target_": "hypermap.models.sklearn_models.Linear"},
    )
    splits = [load(Path("data/prepared"), name) for name in ("train", "validation")]
    record = artifacts.RunRecord(0, False, "r2", None, {}, {"model": choice})
    model = artifacts.TrainedModel(record, sklearn_fit.fit(choice, *splits, transform, 0, 1))
    artifacts.write_trained(Path("models"), model)
    wanted = model.predict(load_raw(Path("data/prepared"), "test").inputs)
    for output in ("exported", "again"):
        assert export(Path("models"), Path(output)) == (len(splits[1].rows), 0.0)
    assert Path("exported/model.zip").read_bytes() == Path("again/model.zip").read_bytes()
    with unpacked(Path("exported/model.zip")) as folder:
        read = artifacts.read_trained(folder)
    assert (read.predict(load_raw(Path("data/prepared"), "test").inputs) == wanted).all()
    untrained(ONE_HOT)
    export(Path("models"), Path("exported"))
    assert not Path("exported/model.zip").exists(), "another model's export replaces it"


@pytest.mark.parametrize("name", ["../model.json", "/tmp/model.json", "members/0/evil.py", "members/0/1/model.json"])
def test_an_archive_with_other_files_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.json", "{}")
        archive.writestr(name, "{}")
    with pytest.raises(UserError, match="is no model that make export has written"), unpacked(tmp_path / "model.zip"):
        pass
    (tmp_path / "model.zip").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="cannot be read"), unpacked(tmp_path / "model.zip"):
        pass


def test_the_data_must_be_that_of_the_training(place):
    prepare(Path("data/prepared"), reader=diabetes, test=0.2)
    untrained(ONE_HOT)
    prepare(Path("data/prepared"), reader=diabetes, test=0.3)
    with pytest.raises(UserError, match=r"neither in data/prepared nor in data/cache/"):
        export(Path("models"), Path("exported"))
    fingerprint = read_transform(Path("models")).manifest.fingerprint
    prepare(Path("data/cache") / fingerprint, reader=diabetes, test=0.2)
    export(Path("models"), Path("exported"))


def test_a_folder_with_other_files_is_left_alone(place):
    prepare(Path("data/prepared"), reader=diabetes, test=0.2)
    untrained(ONE_HOT)
    export(Path("models"), Path("exported"))
    export(Path("models"), Path("exported"))  # its own it replaces
    Path("exported/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt"):
        export(Path("models"), Path("exported"))
