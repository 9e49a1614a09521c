"""What is written for a file is compared with what the model says of the same rows as the prepared data has them."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.images import digits
from hypermap.datasets.prepare import prepare
from hypermap.datasets.tables import readers
from hypermap.datasets.tables.dataset import table
from hypermap.inference.archive import packed
from hypermap.inference.predict import PredictArgs, Predictor, ahead
from hypermap.models import sklearn_fit
from hypermap.models.inputs import resolve_input_spec
from hypermap.training import artifacts
from hypermap.training.components import make_components
from hypermap.training.network import Network

ROWS = 240
FAMILY = {"name": "forest", "_target_": "hypermap.models.sklearn_models.RandomForest", "n_estimators": 5}
NETWORK = {
    "model": {"_target_": "hypermap.models.TabularMLP", "hidden": [8]},
    "optimizer": {"_target_": "torch.optim.Adam"},
    "scheduler": {"_target_": "hypermap.training.lr_schedules.Constant"},
    "loss": {"_target_": "hypermap.tasks.losses.CrossEntropy"},
    "regularizer": {"_target_": "hypermap.training.regularizers.Regularizer"},
    "augment": {"_target_": "hypermap.training.augment.Augment"},
    "trainer": {"_target_": "hypermap.training.state.TrainerConfig", "epochs": 1, "batch_size": 32},
}


def rows(seed: int = 0) -> polars.DataFrame:
    """Of each kind a column, an identifier that nothing is learned from, and two targets."""
    drawn = np.random.default_rng(seed)
    area, city = drawn.normal(100, 30, ROWS), drawn.choice(["Bonn", "Köln", 'Ulm, "old"'], ROWS)
    gapped = np.where(drawn.random(ROWS) < 0.1, np.nan, drawn.gamma(2, 2, ROWS))
    days = polars.Series(drawn.integers(18_000, 19_000, ROWS), dtype=polars.Int32).cast(polars.Date)
    garden = np.where(drawn.random(ROWS) < 0.5, "yes", "no")
    score = area / 30 + (city == "Bonn") + drawn.normal(0, 0.3, ROWS)
    return polars.DataFrame(
        {
            "key": [f"house {k}" for k in range(ROWS)],
            "area": area,
            "gapped": gapped,
            "city": city,
            "garden": garden,
            "sold": days,
            "class": np.select([score < 3, score < 4], ["cheap", "fair"], "dear"),
            "price": np.exp(score),
        },
        nan_to_null=True,
    )


def train(folder: Path, choice: dict[str, Any] = FAMILY, target: str = "class", **settings: Any) -> Path:
    """A model of the table in `folder`, and the prepared data; a network is left as it begins."""
    rows().write_csv(folder / "train.csv")
    other = "price" if target == "class" else "class"
    given = {"path": str(folder / "train.csv"), "target": target, "drop": [other], "test": 0.2, **settings}
    return fit(folder, choice, given)


def fit(folder: Path, choice: dict[str, Any], given: dict[str, Any]) -> Path:
    """As `train`, of any table."""
    prepare(folder / "prepared", reader=table, **given)
    transform = read_transform(folder / "prepared")
    splits = (load(folder / "prepared", name) for name in ("train", "validation"))
    if "model" in choice:
        torch.manual_seed(0)
        inputs = resolve_input_spec(choice["model"], transform.manifest)
        parts = make_components(choice, transform.manifest, inputs, torch.device("cpu"))
        predict = Network(parts.model, parts.loss, transform, inputs, "fp32")
    else:
        predict = sklearn_fit.fit(choice, *splits, transform, 0, 1)
    configuration = choice if "model" in choice else {"model": choice}
    record = artifacts.RunRecord(0, False, "accuracy", None, {}, configuration)
    artifacts.write_trained(folder / "models", artifacts.TrainedModel(record, predict))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("forest"))


def predict(folder: Path, source: Path, output: str = "predictions.csv", *words: str) -> str:
    """What the command answers."""
    return PredictArgs.of(
        [f"input={source}", f"output={folder / output}", f"model={folder / 'models'}", *words]
    ).answer()


def written(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    return header, lines


def expected(folder: Path, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """The rows' places in the file, and what the model says of them as they were prepared."""
    stored = load_raw(folder / "prepared", split)
    return stored.rows.numpy() - 1, artifacts.read_trained(folder / "models").predict(stored.inputs)


@pytest.mark.parametrize("choice", [FAMILY, NETWORK], ids=["family", "network"])
def test_a_class_and_probabilities_for_each_row_in_the_same_order(tmp_path, choice):
    train(tmp_path, choice)
    told = predict(tmp_path, tmp_path / "train.csv")
    assert re.fullmatch(rf"240 rows predicted in \d+\.\d s: {tmp_path / 'predictions.csv'}", told)
    header, lines = written(tmp_path / "predictions.csv")
    assert header == ["prediction", "probability_cheap", "probability_dear", "probability_fair"]
    assert len(lines) == ROWS
    for split in ("train", "test"):
        places, probabilities = expected(tmp_path, split)
        given = np.array([lines[place][1:] for place in places], np.float64)
        # Of other batches other sums: the last digits of float32.
        np.testing.assert_allclose(given, probabilities, rtol=1e-5, atol=1e-7)
        words = np.array(["cheap", "dear", "fair"])[given.argmax(1)]
        assert [lines[place][0] for place in places] == words.tolist()


@pytest.mark.parametrize("log", [None, "log"])
def test_a_value_in_the_targets_own_unit(tmp_path, log):
    train(tmp_path, target="price", target_transform=log)
    predict(tmp_path, tmp_path / "train.csv")
    header, lines = written(tmp_path / "predictions.csv")
    assert header == ["prediction"]
    places, values = expected(tmp_path)
    given = np.array(lines, np.float64)[places, 0]
    np.testing.assert_allclose(given, values, rtol=1e-6)
    assert np.abs(np.log(given / rows()["price"].to_numpy()[places])).mean() < 0.6  # whose own mean deviation is 1


def test_a_dummy_answers_the_shares_of_the_training_rows(tmp_path):
    train(tmp_path, {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"})
    predict(tmp_path, tmp_path / "train.csv")
    _, lines = written(tmp_path / "predictions.csv")
    counts = np.bincount(load(tmp_path / "prepared", "train").targets.numpy())
    np.testing.assert_allclose(np.array([line[1:] for line in lines], float), np.tile(counts / counts.sum(), (ROWS, 1)))


def test_batches_parquet_and_the_columns_order_change_nothing(folder, tmp_path, monkeypatch):
    predict(folder, folder / "train.csv", "whole.csv")
    monkeypatch.setattr(readers, "ROWS", (7, 7))
    new = rows().select("gapped", "sold", "garden", "city", "area")  # neither target nor identifier
    new.write_parquet(tmp_path / "new.parquet")
    new.write_csv(tmp_path / "new.tsv", separator="\t")
    predict(folder, folder / "train.csv", "batches.csv")
    predict(folder, tmp_path / "new.parquet", "of parquet.csv")
    predict(folder, tmp_path / "new.tsv", "as.parquet")
    whole = (folder / "whole.csv").read_bytes()
    assert (folder / "batches.csv").read_bytes() == whole
    assert (folder / "of parquet.csv").read_bytes() == whole
    assert polars.read_parquet(folder / "as.parquet").write_csv().encode() == whole


def test_several_files_one_after_the_other(folder, tmp_path):
    rows().head(10).write_csv(tmp_path / "a.csv")
    rows().tail(5).write_csv(tmp_path / "b.csv")
    predict(folder, folder / "train.csv", "whole.csv")
    predict(folder, f"[{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}]", "both.csv")
    _, whole = written(folder / "whole.csv")
    assert written(folder / "both.csv")[1] == whole[:10] + whole[-5:]


def test_the_file_is_read_as_it_is_said_to_be_written(folder, tmp_path):
    predict(folder, folder / "train.csv", "whole.csv")
    text = rows().drop("key", "class", "price").write_csv(separator=";", decimal_comma=True, include_header=False)
    (tmp_path / "new.csv").write_text(text, encoding="cp1252")
    words = ["separator=;", "decimal=,", "header=false", "encoding=cp1252", "columns=[area,gapped,city,garden,sold]"]
    predict(folder, tmp_path / "new.csv", "said.csv", *words)
    assert (folder / "said.csv").read_bytes() == (folder / "whole.csv").read_bytes()


SAID = {"header": True, "columns": ["flat", "quality", "class"], "comment": "%", "quote": "'", "encoding": "cp1252"}
UNLIKE = [  # the new file of one row, as text, and what it should give: a row of the training file, or an error
    ("7.500;'gü;t'", 1),  # as the training file has it: seven thousand and more
    ("7.500,0;'gü;t'", 1),
    ("% made by hand\n7.500;'gü;t'", 1),
    ("7500;'gü;t'", 1),
    ("7.5;'gü;t'", "unlike those of the training table"),
]


@pytest.mark.parametrize(("line", "expected"), UNLIKE)
def test_a_new_file_is_read_as_the_training_file_was(commas, capsys, line, expected):
    (commas / "new.csv").write_text(f"a;b\n{line}\n", encoding="cp1252")
    predict(commas, commas / "new.csv", "new.csv_.csv")
    _, (answer,) = written(commas / "new.csv_.csv")
    told = capsys.readouterr().err
    assert "unknown" not in told
    if isinstance(expected, str):
        assert expected in told
    else:
        assert "unlike" not in told
        assert answer == written(commas / "train predictions.csv")[1][expected]


def test_what_is_said_of_the_new_file_comes_first(commas, capsys):
    (commas / "new.csv").write_text('flat,quality\n7.500,"gü;t"\n', encoding="utf-8")
    predict(commas, commas / "new.csv", "said.csv", "decimal=.", 'quote="', "encoding=utf-8")
    assert "as those of the training table" not in capsys.readouterr().err
    (commas / "same.csv").write_text("a;b\n7,5;'gü;t'\n", encoding="cp1252")
    predict(commas, commas / "same.csv", "same predictions.csv")
    assert written(commas / "said.csv") == written(commas / "same predictions.csv")


def test_parquet_needs_nothing_of_what_was_said_of_the_training_file(commas, tmp_path, capsys):
    polars.DataFrame({"flat": [7500.0], "quality": ["gü;t"]}).write_parquet(tmp_path / "new.parquet")
    predict(commas, tmp_path / "new.parquet", "of parquet.csv")
    assert capsys.readouterr().err == ""
    assert written(commas / "of parquet.csv")[1][0] == written(commas / "train predictions.csv")[1][1]
    predict(commas, tmp_path / "new.parquet", "of parquet.csv", "separator=;")
    assert "is Parquet, which is read as it is: nothing was done with separator." in capsys.readouterr().err


@pytest.fixture(scope="module")
def commas(tmp_path_factory) -> Path:
    """A model of a table with decimal commas, groups of thousands, and a header of its own."""
    folder = tmp_path_factory.mktemp("commas")
    drawn = np.random.default_rng(0)
    flat, words = drawn.integers(5, 9, ROWS), drawn.choice(["gü;t", "naja"], ROWS)
    words[1], flat[1] = "gü;t", 7
    lines = [
        f"{size}.500{',0' if k % 2 else ''};'{word}';{'ja' if size > 6 else 'nein'}"
        for k, (size, word) in enumerate(zip(flat, words, strict=True))
    ]
    lines[::7] = [line.replace(".500", ",5", 1).replace(",5,0", ",5") for line in lines[::7]]
    (folder / "train.csv").write_text("\n".join(["% of 2020", "a;b;c", *lines]) + "\n", encoding="cp1252")
    fit(folder, FAMILY, {"path": str(folder / "train.csv"), "target": "class", "test": 0.2, **SAID})
    predict(folder, folder / "train.csv", "train predictions.csv")
    return folder


def test_words_that_mean_missing_are_those_of_the_training_table(tmp_path, capsys):
    train(tmp_path, missing_values=["gone"])
    rows().write_csv(tmp_path / "empty.csv")
    rows().with_columns(polars.col("gapped").cast(polars.String).fill_null("gone")).write_csv(tmp_path / "gone.csv")
    predict(tmp_path, tmp_path / "empty.csv", "a.csv")
    predict(tmp_path, tmp_path / "gone.csv", "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with pytest.raises(UserError, match="'gone'"):
        predict(tmp_path, tmp_path / "gone.csv", "c.csv", "missing_values=[NA, null]")


def test_unknown_columns_and_categories_are_told_and_do_no_harm(folder, tmp_path, capsys):
    new = rows().with_columns(city=polars.Series(["Rom", "Bonn", "Rom"] * (ROWS // 3)), colour=polars.lit("red"))
    new.write_csv(tmp_path / "new.csv")
    predict(folder, tmp_path / "new.csv")
    told = capsys.readouterr().err
    assert re.search("Note: .*'colour'", told)
    assert "Note: Categories that the training table lacks were taken for unknown ones: city (160 rows)." in told
    _, lines = written(folder / "predictions.csv")
    assert len(lines) == ROWS
    assert all(cell for line in lines for cell in line)


def test_rows_that_lack_something_have_empty_cells_where_such_were_left_out_of_training(tmp_path, capsys):
    train(tmp_path, missing="drop")
    for output in ("predictions.csv", "predictions.parquet"):
        predict(tmp_path, tmp_path / "train.csv", output)
    _, lines = written(tmp_path / "predictions.csv")
    lacking = rows()["gapped"].is_null().to_numpy()
    assert [line == [""] * 4 for line in lines] == lacking.tolist()
    assert f"{lacking.sum()} rows have missing values and get empty cells" in capsys.readouterr().err
    assert polars.read_parquet(tmp_path / "predictions.parquet")["prediction"].is_null().to_list() == lacking.tolist()


def test_no_rows_have_a_header_and_no_answers(folder, tmp_path):
    rows().head(0).write_csv(tmp_path / "new.csv")
    assert predict(folder, tmp_path / "new.csv").startswith("0 rows predicted")
    header, lines = written(folder / "predictions.csv")
    assert header[0] == "prediction"
    assert lines == []


def test_what_is_wrong_with_the_columns_is_told_at_once_and_nothing_is_written(folder, tmp_path):
    new = rows().drop("garden").rename({"area": "areas"}).with_columns(gapped=polars.lit("much"))
    new.write_csv(tmp_path / "new.csv")
    with pytest.raises(UserError) as told:
        predict(folder, tmp_path / "new.csv", "new predictions.csv")
    for words in (
        "'area' is missing",
        "'areas'",
        "'garden' is missing",
        "'gapped' should hold",
        "'much' in row 1",
    ):
        assert words in str(told.value)
    assert not (folder / "new predictions.csv").exists()


def test_a_cell_of_another_kind_far_down_leaves_no_half_of_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "ROWS", (50, 50))
    cells = rows()["area"].cast(polars.String).to_list()
    cells[199] = "large"
    rows().with_columns(area=polars.Series(cells)).write_csv(tmp_path / "new.csv")
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(UserError, match=r"'area' should hold .*'large' in row 200"):
        predict(folder, tmp_path / "new.csv", str(output / "p.csv"))
    assert list(output.iterdir()) == []


def test_a_model_of_images_is_refused(tmp_path):
    prepare(tmp_path / "prepared", reader=digits, test=0.2)
    transform = read_transform(tmp_path / "prepared")
    choice = {"name": "dummy", "_target_": "hypermap.models.sklearn_models.Dummy"}
    splits = [load(tmp_path / "prepared", name) for name in ("train", "validation")]
    model = sklearn_fit.fit(choice, *splits, transform, 0, 1)
    record = artifacts.RunRecord(0, False, "accuracy", None, {}, {"model": choice})
    artifacts.write_trained(tmp_path / "models", artifacts.TrainedModel(record, model))
    (tmp_path / "new.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match=r"trained on digits, .*no table.*export"):
        predict(tmp_path, tmp_path / "new.csv")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Name a file to read and one to write"),
        (["input=new.csv"], "Name a file to read and one to write"),
        (["input=knew.csv", "output=p.csv"], r"input=knew.csv: no such file \(did you mean 'new.csv'\?\)"),
        (["input=new.csv", "output=p.txt"], r"the suffix says the format"),
        (["input=new.csv", "output=new.csv"], "is the input too"),
        (["input=new.csv", "output=p.csv", "seperator=;"], "did you mean 'separator'"),
        (["input=new.csv", "output=p.csv", "header=often"], "header=often: it is true or false"),
        (["input=new.csv", "output=p.csv", "columns=[a"], r"columns=\[a is not understood"),
        (["input=new.csv", "output=p.csv", "missing_values=NA"], "missing_values=NA is not understood"),
    ],
)
def test_a_mistake_in_the_command_is_told_before_anything_is_read(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    Path("new.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match=told):
        PredictArgs.of(words)


def test_the_command(folder, tmp_path, forks):
    shutil.copytree(folder / "models", tmp_path / "models")
    command = ["python", ROOT / "src/predict.py", f"input={folder / 'train.csv'}", "output=predictions.csv"]
    variables = os.environ | forks.heavy
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # no bar where there is no terminal
    assert done.stdout.endswith("s: predictions.csv\n")
    assert len(written(tmp_path / "predictions.csv")[1]) == ROWS


def without_torch(folder: Path, model: str, raises: str) -> subprocess.CompletedProcess[str]:
    """The command where importing torch raises an error."""
    (folder / "stub").mkdir()
    (folder / "stub/torch.py").write_text(f"raise {raises}")
    words = [f"model={model}", "input=train.csv", "output=without.csv"]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": "stub"}
    command = [sys.executable, ROOT / "src/predict.py", *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["class", "price"])
def test_an_ensemble_of_trees_and_linear_models_never_imports_torch(tmp_path, target):
    members = []
    for name, choice in {
        "lightgbm.LightGBM": {"n_estimators": 20},
        "sklearn_models.GradientBoosting": {"max_iter": 20},
        "sklearn_models.ExtraTrees": {"n_estimators": 20},
        "sklearn_models.Linear": {},
    }.items():
        train(tmp_path, {"name": name, "_target_": f"hypermap.models.{name}", **choice}, target)
        members.append(artifacts.read_trained(tmp_path / "models"))
    mean = artifacts.TrainedModel(members[0].record, artifacts.Ensemble(members, [0.4, 0.3, 0.2, 0.1]))
    artifacts.write_trained(tmp_path / "models", mean)
    (tmp_path / "model.zip").write_bytes(packed(tmp_path / "models"))

    done = without_torch(tmp_path, "model.zip", "AssertionError('torch was imported')")

    assert (done.returncode, done.stderr) == (0, "")
    predictor = Predictor(artifacts.read_trained(tmp_path / "models"))
    (asked,) = predictor.batches(readers.open_table([tmp_path / "train.csv"], expected=predictor.schema.expected))
    of_tensors = mean.predict(torch.from_numpy(asked.inputs.rows))
    given = np.array([line[-3:] if target == "class" else line for line in written(tmp_path / "without.csv")[1]], float)
    np.testing.assert_array_equal(given.reshape(of_tensors.shape), of_tensors)


def test_a_network_needs_torch(tmp_path):
    train(tmp_path, NETWORK)
    done = without_torch(tmp_path, "models", "ModuleNotFoundError('No module named torch', name='torch')")
    told = "Error: models needs torch, which is not installed, since it holds a network or .*: pip install torch\n"
    assert done.returncode == 1
    assert re.match(told, done.stderr)
    assert "Traceback" not in done.stderr


def test_items_come_in_order_and_an_error_after_them():
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    found = ahead(items())
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the sixth"):
        next(found)
