import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Probes
from hypermap.reports.run import BaselineTable, Kept, Run, project, write_report
from hypermap.reports.run.classification import right_examples, worst_mistakes
from hypermap.reports.run.data import section
from hypermap.reports.run.duplicates import Twins
from hypermap.reports.run.page import page
from hypermap.reports.run.pictures import LIMIT
from hypermap.reports.run.plots import COLUMNS, ROC_POINTS, roc_curves
from hypermap.reports.run.task_report import PICTURES
from hypermap.tasks.metrics import classification, regression
from support.tasks import intervals

GROUPS = ("data", "model", "optimizer", "scheduler", "loss", "regularizer", "augment", "trainer", "validation")
ROWS = 60


def run_of(task="classification", shape=(1, 8, 8), classes=("0", "1", "2", "3"), epochs=12, seed=0):
    generator = np.random.default_rng(seed)
    metrics = classification if task == "classification" else regression
    targets, predictions = guesses(generator, len(classes)) if classes else numbers(generator)
    bounds = intervals(targets, predictions, task=task, repeats=50)
    names = dict.fromkeys(GROUPS, "default") | {"data": "digits", "model": "mlp", "optimizer": "adam"}
    config = {group: {"name": names[group], "_target_": "some.Class", "root": "/home/me"} for group in GROUPS}
    config["model"] |= {"hidden": [128], "dropout": 0.0}
    config["optimizer"] |= {"lr": 0.003, "betas": [0.9, 0.999], "nesterov": False}
    return Run(
        task=task,
        classes=tuple(classes),
        config={**config, "seed": 7},
        history=[epoch(k) for k in range(1, epochs + 1)],
        best_epoch=max(1, epochs // 2),
        stopped_early=False,
        monitor="accuracy" if classes else "r2",
        validation=metrics(targets, predictions),
        validation_intervals=bounds,
        test=metrics(targets, predictions),
        test_intervals=bounds,
        targets=targets,
        predictions=predictions,
        inputs=generator.integers(256, size=(ROWS, *shape)).astype(np.uint8),
        rows=np.arange(1000, 1000 + ROWS),
        manifest=Manifest(
            task="classification",
            classes=(),
            shape=list(shape),
            rows={"train": 1149, "validation": 288, "test": ROWS},
            raw_sha256="0123456789abcdef" * 4,
            test_published=False,
            arguments={},
            target_transform=None,
            target_shift=2.5,
            split_seed=3,
            scaling="unit",
            fitted_on={"split": "train", "rows": 1149},
            reader="hypermap.datasets.images.cifar10",
        ),
        environment={"python": "3.11.2", "torch": "2.13.0", "device": "cpu", "threads": "2"},
        parameters=9610,
        map=project(generator.normal(size=(ROWS, 4)), "pca"),
    )


TABLE = {
    "columns": [
        {"name": "age", "kind": "number", "categories": [], "parts": [], "missing": 3, "lowest": 17.0, "highest": 90.0},
        {"name": "work", "kind": "category", "categories": ["a | b", "c", "d", "e"], "parts": [], "missing": 1200},
        {"name": "sold", "kind": "date", "categories": [], "form": "%Y-%m", "parts": ["year", "month"], "missing": 0},
        {"name": "old", "kind": "boolean", "categories": ["no", "yes"], "parts": [], "missing": 0},
    ],
    "target": {"name": "outcome", "classes": ["malignant", "benign"]},
    "file_columns": ["age", "work", "sold", "id", "old", "outcome", "person"],
    "group": "person",
    "time": None,
    "dropped": {"id": "an identifier:\na number of its own for each row"},
}
PREPARATION = {
    "missing": "most_frequent",
    "fill": 0.0,
    "missing_categories": "own",
    "scaling": "quantile",
    "categories": "auto",
    "rare": 10,
    "pca": None,
}


def run_of_table(table=None, preparation=None, **changed):
    """A run on a table of one's own, whose matrix lacks values."""
    run = run_of(**CASES["binary"])
    data = {"name": "table", "path": "some/where/people.csv", "test_path": None, "drop": [], "target": "outcome"}
    manifest = replace(
        run.manifest,
        table=TABLE | (table or {}),
        preparation=PREPARATION | (preparation or {}),
        layout={"numbers": 3, "binary": 1, "cardinalities": [5, 2]},
        warnings=["column 'id' is left out.", "3 rows\nhave no target."],
        target_transform=None,
        oversample=False,
    )
    inputs = np.where(np.arange(ROWS * 5).reshape(ROWS, 5) % 7, 1.0, np.nan)
    run = replace(run, inputs=inputs, manifest=manifest, config={**run.config, "data": data})
    return replace(run, **changed)


def without_epochs(run, target="hypermap.models.sklearn_models.RandomForest"):
    """The same run, of a model that is fitted in one go."""
    config = {**run.config, "model": {"name": "forest", "_target_": target, "max_depth": None}}
    return replace(run, config=config, history=[], best_epoch=0, parameters=None, train=run.validation)


def guesses(generator, classes):
    targets = np.arange(ROWS) % classes
    logits = generator.normal(size=(ROWS, classes))
    logits[np.arange(ROWS), targets] += 1.5
    return targets, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def numbers(generator):
    targets = generator.normal(150, 50, size=ROWS)
    return targets, targets + generator.normal(0, 20, size=ROWS)


def epoch(k):
    return {
        "epoch": k,
        "train_loss": 2.0 / k,
        "train_score": 1 - 0.5 / k,
        "validation_loss": 2.1 / k,
        "validation_score": 0.98 - 0.5 / k,
        "learning_rate": 0.003,
        "gradient_norm": 1.0 / k,
        "clipped": 0.0,
        "seconds": 0.1 * np.random.default_rng().random(),
    }


def written(folder, run):
    write_report(folder, run)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


CASES = {
    "digits": {},
    "colours": {"shape": (3, 32, 32), "classes": ("T-shirt/top", "a name that is much too long", "cat", "dog")},
    "binary": {"shape": (30,), "classes": ("malignant", "benign")},
    "regression": {"task": "regression", "shape": (10,), "classes": ()},
    "one epoch": {"epochs": 1},
    "two epochs": {"epochs": 2},
    "photographs": {"shape": (3, 160, 160)},
    "many classes": {"shape": (5,), "classes": tuple(f"class {k}" for k in range(60))},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_whole_and_small_and_every_link_leads_somewhere(tmp_path, case):
    files = written(tmp_path, run_of(**CASES[case]))
    pictures = {name for name in files if name.startswith("pictures/")}
    text = files["report.md"].decode()
    assert set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)) == pictures
    assert {name for name in files if name.startswith("plots/")} == {f"plots/{name}.csv" for name in COLUMNS}
    for name in pictures:
        assert len(files[name]) <= LIMIT
        image = Image.open(io.BytesIO(files[name]))
        assert image.width <= 1100
        assert len(image.convert("L").getcolors()) > 8  # something was drawn
        assert not image.info.keys() - {"dpi"}  # neither date nor version
    for line in text.splitlines():
        assert "nan" not in line.split()
        assert "<" not in line
        assert "/home/me" not in line


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The files of a run on digits."""
    return written(tmp_path_factory.mktemp("digits"), run_of())


def test_the_same_run_gives_the_same_bytes(tmp_path):
    first = written(tmp_path / "a", run_of(**CASES["regression"]))
    assert written(tmp_path / "b", run_of(**CASES["regression"])) == first


@pytest.fixture
def folder(tmp_path, digits):
    """A folder with the report of a run on digits."""
    for name, content in digits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_users_own_style_changes_nothing(tmp_path, digits):
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "font.size": 30}):
        assert written(tmp_path, run_of()) == digits  # though `seconds` differ


def test_what_does_not_apply_goes_and_its_table_keeps_a_header(folder):
    (folder / "pictures" / "my own.png").write_bytes(b"mine")
    files = written(folder, run_of(**CASES["regression"]))
    assert {name for name in files if name.startswith("pictures/")} == {
        "pictures/learning_curves.png",
        "pictures/map.png",
        "pictures/residuals.png",
        "pictures/my own.png",
    }
    assert files["plots/confusion.csv"] == b"actual,predicted\n"
    assert files["plots/roc.csv"] == b"class,false_positive_rate,true_positive_rate\n"
    assert files["plots/calibration.csv"] == b"confidence,accuracy,rows\n"


def test_of_classes_there_are_no_residuals(digits):
    assert digits["plots/residuals.csv"] == b"actual,predicted\n"
    assert {f"pictures/{name}.png" for name in PICTURES} - set(digits) == {
        "pictures/residuals.png",
        "pictures/labels.png",
        "pictures/forecasts.png",
        "pictures/horizon.png",
        "pictures/autocorrelation.png",
    }


def test_tables_hold_the_numbers(tmp_path):
    run = run_of(classes=("zero", "one", "two"))
    files = written(tmp_path, run)
    history = table(files["plots/history.csv"])
    assert list(history[0]) == list(COLUMNS["history"])
    assert [float(row["train_loss"]) for row in history] == [row["train_loss"] for row in run.history]
    pairs = table(files["plots/confusion.csv"])
    assert [row["actual"] for row in pairs] == [run.classes[k] for k in run.targets]
    assert np.mean([row["actual"] == row["predicted"] for row in pairs]) == run.test["accuracy"]
    bins = table(files["plots/calibration.csv"])
    rows, confidence, accuracy = (
        np.array([float(row[name]) for row in bins]) for name in ("rows", "confidence", "accuracy")
    )
    error = float(np.abs(confidence - accuracy) @ rows / rows.sum())
    assert error == pytest.approx(run.test["calibration_error"])
    assert {row["class"] for row in table(files["plots/roc.csv"])} == set(run.classes)


def test_thinned_roc_curves_keep_their_ends_and_their_area():
    generator = np.random.default_rng(0)
    targets = generator.integers(2, size=5000)
    scores = np.clip(0.5 + 0.2 * generator.normal(size=5000) + 0.2 * targets, 0, 2) / 2
    (curve,) = roc_curves(targets, np.stack([1 - scores, scores], axis=1), ("no", "yes"))
    x, y = curve.false_positive_rate, curve.true_positive_rate
    assert len(x) <= ROC_POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(curve.area, abs=0.002)


def test_the_page_says_what_was_run_and_how_it_went():
    run = run_of()
    text = page(run, PICTURES)
    assert text.startswith("# digits, mlp (hidden [128]), adam (lr 0.003)\n")
    low, high = run.test_intervals["accuracy"]
    assert f"**Test accuracy {run.test['accuracy']:.4f}** (95 % interval {low:.4f} to {high:.4f}) on 60 rows" in text
    assert "accuracy 0.2500" in text  # the most frequent of four equal classes
    for name in run.test:
        assert f"| `{name}`" in text
    assert "| optimizer | adam | `lr` 0.003, `betas` [0.9, 0.999], `nesterov` false |" in text
    best = max(run.history, key=lambda row: row["validation_score"])
    assert (
        "Seed 7; 9,610 weights; 12 epochs trained, epoch 6 kept, the one of the lowest validation loss among those "
        f"whose accuracy cannot be told apart from the best, {best['validation_score']:.4f} in epoch {best['epoch']}. "
        in text
    )
    itself = page(replace(run, best_epoch=best["epoch"]), PICTURES)
    assert f"epoch {best['epoch']} kept, the best by validation accuracy. " in itself
    assert "1,149 training, 288 validation and 60 test rows of 1 x 8 x 8 pixels, 4 classes" in text
    assert "`0123456789ab`" in text
    assert "dvc repro" in text
    assert "dvc exp show" in text


def test_the_page_says_what_the_temperature_did():
    run = run_of()
    config = {**run.config, "trainer": {**run.config["trainer"], "calibration": "temperature"}}
    without = {**run.test, "log_loss": 1.6763, "calibration_error": 0.2441}
    bounds = {"log_loss": (1.5, 1.8), "calibration_error": (0.2, 0.3)}
    scaled = replace(run, config=config, tuned={"temperature": 3.1234}, untuned=without, untuned_intervals=bounds)
    text = page(scaled, PICTURES)
    assert "divided by a temperature of 3.12, fitted to the log loss of 288 validation rows" in text
    low, high = run.test_intervals["log_loss"]
    assert f"| `log_loss` | 1.6763 | 1.5000 – 1.8000 | {run.test['log_loss']:.4f} | {low:.4f} – {high:.4f} |" in text
    assert "| `calibration_error` | 0.2441 | 0.2000 – 0.3000 |" in text
    assert "cannot be told apart from 1." in page(replace(run, config=config), PICTURES)
    assert "temperature" not in page(run, PICTURES)
    assert "in 15 bins of equal width" in text
    assert "on 60 test rows" in text


def test_tables_have_their_mistakes_listed():
    run = run_of(**CASES["binary"])
    text = page(run, ())
    worst = worst_mistakes(run.targets, run.predictions, 1)[0]
    actual = run.classes[run.targets[worst]]
    said = run.classes[1 - run.targets[worst]]
    assert f"| {1000 + worst} | {actual} | {said} | {run.predictions[worst].max():.4f} |" in text


def test_rows_in_words_stand_beside_their_mistakes_and_do_nothing():
    run = run_of(**CASES["binary"])
    said = ["<b>bold</b> | `code` [a](b)\n# " + "long " * 200] * ROWS
    text = page(replace(run, words=said), ())
    (first,) = [line for line in text.splitlines() if line.startswith("| 10")][:1]
    assert first.endswith("… |")
    assert "&lt;b>bold&lt;/b> \\| \\`code\\` \\[a](b) # long" in first
    assert len(first) < 500


def test_the_probes_that_raise_a_class_most_are_listed():
    """By the logarithm of the odds over those of the empty row, which are even here, computed by hand."""
    run = run_of(**CASES["binary"])
    probed = np.array([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    probes = Probes("n-gram", ["a | b", "fine", "`bad`"], torch.zeros(4, 2))
    text = page(replace(run, probes=probes, probed=probed), ())
    assert "## The most telling n-grams" in text
    first, second = (run.classes[k] for k in (0, 1))
    assert f"| {first} | `a \\| b` {np.log(9):+.2f}, `fine` {np.log(1.5):+.2f} |" in text
    assert f"| {second} | `` `bad` `` {np.log(4):+.2f} |" in text
    assert "telling" not in page(replace(run, probes=probes, probed=np.full((4, 2), 0.5)), ())
    assert "telling" not in page(run, ())


def test_regression_has_its_largest_residuals_listed():
    run = run_of(**CASES["regression"])
    text = page(run, ())
    worst = int(np.argmax(np.abs(run.targets - run.predictions)))
    first = text.split("| row | actual | predicted | residual |\n")[1].splitlines()[1]
    assert first.startswith(f"| {1000 + worst} |")
    assert "**Test r2" in text
    assert "**test rmse" in text


@pytest.mark.filterwarnings("error")
def test_a_run_without_mistakes_says_so(tmp_path):
    for run in (run_of(), run_of(**CASES["binary"])):
        sure = np.eye(len(run.classes))[run.targets]
        bounds = intervals(run.targets, sure, task="classification", repeats=20)
        run = replace(run, predictions=sure, test=classification(run.targets, sure), test_intervals=bounds)
        text = written(tmp_path, run)["report.md"].decode()
        assert "There is no mistake among the 60 test rows" in text
        assert "No mistake in 60 test rows: the accuracy may still be 0.9500" in text


@pytest.mark.filterwarnings("error")
def test_a_run_without_a_right_row_and_a_class_without_rows(tmp_path):
    run = run_of()
    wrong = np.full_like(run.predictions, 0.1)
    wrong[:, 3] = 0.7
    targets = run.targets % 3
    metrics = classification(targets, wrong)
    bounds = intervals(targets, wrong, task="classification", repeats=20)
    run = replace(run, targets=targets, predictions=wrong, test=metrics, test_intervals=bounds)
    assert "| 3 | 0.0000 | 0.0000 | 0.0000 | 0 |" in written(tmp_path, run)["report.md"].decode()


@pytest.mark.parametrize(
    ("validation", "seeds", "fits", "told"),
    [
        (
            {"name": "kfold", "k": 3, "stratified": True, "repeats": 2},
            1,
            6,
            "kfold (k 3, stratified true, repeats 2): ",
        ),
        ({"name": "holdout"}, 5, 5, "holdout over 5 seeds: "),
    ],
)
def test_several_fits_are_told_in_one_line(validation, seeds, fits, told):
    run = run_of()
    before = page(run, ())
    config = {**run.config, "validation": validation, "trainer": {**run.config["trainer"], "repeats": seeds}}
    metrics = {"accuracy": 0.87654, "loss": 0.3, "accuracy_std": 0.01234, "fits": float(fits)}
    after = page(replace(run, config=config, fits=metrics), ())
    (line,) = (line for line in after.splitlines() if line.startswith("Validation was"))
    assert f"Validation was {told}accuracy 0.8765 ± 0.0123, mean and standard deviation of {fits} trainings." in line
    assert "Validation was" not in before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {},
            "preprocessing included, on all 300 rows that are not test (`final=refit`), for 7 epochs.",
        ),
        (
            {"epochs": 0},
            "again, preprocessing included, on all 300 rows that are not test (`final=refit`). Test figures",
        ),
        (
            {"final": "bag", "members": 5, "epochs": 0},
            "is the mean of the 5 models of the folds and seeds (`final=bag`), which learned from 300 rows in all.",
        ),
    ],
)
def test_which_model_is_kept_is_told(changes, told):
    run = run_of()
    before = page(run, ())
    other = {name: value - 0.25 for name, value in run.test.items()}
    kept = Kept("refit", 300, 7, 1, other, run.test_intervals, {"accuracy": (0.0123, -0.01, 0.03)})
    apart = dict.fromkeys(run.test, (0.1, 0.05, 0.15))
    beside = [BaselineTable("random_forest", run.validation, run.test, run.test_intervals, apart)]
    after = page(replace(run, kept=replace(kept, **changes), beside=beside), ())
    (line,) = (line for line in after.splitlines() if line.startswith("The model that is kept"))
    assert told in line
    rows = run.manifest.rows["train"]
    assert f"comparisons are of the model of the split, which learned from {rows:,} rows." in line
    assert "the former differs from it by accuracy +0.0123 (95 % interval -0.0100 to +0.0300)." in line
    own, *_ = (line for line in after.splitlines() if "** (this run)" in line)
    assert f"{other['accuracy']:.4f}" in own
    assert f"**Test accuracy {run.test['accuracy']:.4f}**" in after
    assert "The model that is kept" not in before


def test_worst_mistakes_are_the_most_confident_and_right_rows_one_of_each_class():
    targets = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.1, 0.9], [0.8, 0.2], [0.55, 0.45], [0.3, 0.7], [0.95, 0.05]])
    assert worst_mistakes(targets, probabilities, 2).tolist() == [4, 0]
    assert right_examples(targets, probabilities, 5).tolist() == [1, 3]


def test_the_test_set_is_told_for_what_it_is():
    run = run_of()
    assert "no published test set: 60 rows" in section(run)
    published = replace(run, manifest=replace(run.manifest, test_published=True))
    assert "60 of the 10,000 published rows" in section(published)
    own = replace(run, manifest=replace(published.manifest, reader="mine.reader"))
    assert "The test set is the published one." in section(own)


# Tables of one's own.


@pytest.mark.filterwarnings("error")
def test_a_tables_columns_are_listed_with_what_became_of_them():
    text = page(run_of_table(), ())
    assert text.startswith("# table (people.csv), mlp (hidden [128]), adam (lr 0.003)\n")
    listed = text.split("| column | kind | missing | holds | became |\n")[1].split("\n\n")[0].splitlines()[1:]
    assert listed == [
        "| age | number | 3 | 17 to 90 | a number |",
        "| work | category | 1,200 | a \\| b, c, d, … (4) | 5 codes |",
        "| sold | date | 0 | %Y-%m | numbers: year, month |",
        "| id |  |  |  | left out: an identifier: a number of its own for each row |",
        "| old | boolean | 0 | no, yes | 2 codes |",
        "| outcome |  |  | malignant, benign | **the target** |",
        "| person |  |  |  | keeps rows together in the splits |",
    ]
    assert "- column 'id' is left out.\n- 3 rows have no target.\n" in text
    assert "from 4 columns to the 2 classes of `outcome`." in text
    assert "Split with seed 3, rows with one `person` together." in text
    assert "Numbers: a missing one becomes the most frequent, and 1 column tells where; then brought to a" in text
    assert "those of fewer than 10 rows share a code; a missing one is a category of its own; one-hot." in text
    assert "| data | table | `path` some/where/people.csv, `target` outcome |" in text, "what is set"
    assert "`row` counts the rows of the file from 1" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"table": {"time": "sold", "group": None}}, "Split in the order of `sold`: validation rows are later"),
        ({"table": {"time": "sold", "group": None}}, "60 rows are the latest"),
        ({"table": {"group": None}}, "Split with seed 3, stratified by class."),
        ({"preparation": {"missing": "drop"}}, "rows that lack something are left out; brought to"),
        ({"preparation": {"missing": "constant", "fill": -1.0}}, "a missing one becomes -1, and 1 column tells where"),
        ({"preparation": {"pca": 0.9}}, "and then 3 principal components stand for all of them"),
        ({"preparation": {"scaling": "none", "rare": 1}}, "Categories: a missing one is a category of its own"),
        ({"encoding": "codes"}, "given to the model as codes"),
        ({"encoding": "ordinal"}, "ordinal numbers"),
    ],
)
def test_how_a_table_was_split_and_prepared_is_told(changed, said):
    assert said in page(run_of_table(**changed), ())


def test_means_of_the_target_and_arithmetic_features_are_told():
    run = run_of_table(None, {"categories": "target", "arithmetic": 2})
    run = replace(run, manifest=replace(run.manifest, roles=["number", "category", "number", "number", "category"]))
    feature = {"name": "age / work", "operation": "/", "left": 0, "right": 1}
    told = " ".join(section(replace(run, manifest=replace(run.manifest, arithmetic=(feature,)))).split())
    assert "Categories: each became the mean of the target among its rows (cross-fitted" in told
    assert "leaves of the target: `age / work`." in told
    assert "No arithmetic feature explains more of the target" in section(run)


def test_a_test_file_a_log_and_repeated_rows_are_told():
    run = run_of_table()
    manifest = replace(run.manifest, test_published=True, target_transform="log1p", oversample=True)
    data = {**run.config["data"], "path": ["a.csv", "b.csv"], "test_path": "other/test.csv"}
    text = page(replace(run, manifest=manifest, config={**run.config, "data": data}), ())
    assert text.startswith("# table (a.csv, b.csv), ")
    assert "The test rows are a file of their own, `test.csv`." in text
    assert "learned as its log1p" in text
    assert "Training rows of the smaller classes are repeated." in text
    assert "`row` counts the rows of the test file from 1" in text


def test_of_very_many_columns_the_first_are_listed():
    many = [f"c{k}" for k in range(250)]
    column = TABLE["columns"][0]
    table = {"columns": [{**column, "name": name} for name in many], "file_columns": [*many, "outcome"]}
    run = run_of_table(table=table)
    run = replace(run, manifest=replace(run.manifest, layout={"numbers": 250, "binary": 0, "cardinalities": []}))
    text = page(run, ())
    assert "| c99 |" in text
    assert "| c100 |" not in text
    assert "And 151 more columns." in text


# Models without epochs, and other models beside.


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", ["digits", "regression"])
def test_a_model_without_epochs_has_no_curves_and_no_optimizer(folder, case):
    files = written(folder, without_epochs(run_of(**CASES[case])))
    assert "pictures/learning_curves.png" not in files
    assert files["plots/history.csv"].decode().strip() == ",".join(COLUMNS["history"])
    text = files["report.md"].decode()
    assert text.startswith("# digits, forest\n")
    assert "epoch" not in text.replace("trainer.epochs", "")
    assert "weights" not in text
    assert "| optimizer |" not in text
    assert "Seed 7; fitted in one go" in text


def test_other_models_stand_beside_the_run():
    run = run_of(**CASES["binary"])
    assert "Beside other models" not in page(run, ())
    apart = dict.fromkeys(run.test, (0.1, 0.05, 0.15))
    forest = BaselineTable("random_forest", run.validation, run.test, run.test_intervals, apart)
    text = page(replace(run, beside=[forest]), ["learning_curves"])
    assert "## Beside other models" in text
    assert "**This run beats `random_forest`**" in text
    assert text.index("## Beside other models") < text.index("## Learning curves")


def test_rows_that_were_seen_before_are_counted_and_left_out_of_a_score_beside():
    run = run_of(**CASES["binary"])
    apart = dict.fromkeys(run.test, (0.1, 0.05, 0.15))
    forest = BaselineTable("random_forest", run.validation, run.test, run.test_intervals, apart)
    lower, bounds = {"accuracy": 0.25}, {"accuracy": (0.125, 0.375)}
    twins = Twins(20, ROWS, lower, bounds, [replace(forest, test={"accuracy": 0.5}, intervals={})])
    assert "seen before" not in page(replace(run, beside=[forest]), ())
    text = page(replace(run, beside=[forest], twins=twins), ())
    assert (
        "**Duplicates.** 20 of 60 test rows (33%) have the same inputs as a row that was learned from or validated on: "
        "the test accuracy is 0.2500 (95 % interval 0.1250 to 0.3750) on the 40 others, and "
        f"{run.test['accuracy']:.4f} on all; `data.duplicates=group` keeps"
    ) in text
    section = text.split("## Rows that were seen before")[1].split("##")[0]
    assert "| **mlp** (this run) |" in section
    assert "0.2500 | 0.1250 – 0.3750 |" in section
    assert "| random_forest |" in section
    published = replace(run, twins=twins, manifest=replace(run.manifest, test_published=True))
    assert "data.duplicates=group" not in page(published, ())
    assert "the others are too few to be scored" in page(replace(run, twins=Twins(55, ROWS, {}, {}, ())), ())


def test_without_a_map_its_picture_goes(folder, digits):
    assert "pictures/map.png" in digits
    files = written(folder, replace(run_of(), map=None))
    assert "pictures/map.png" not in files
    assert "Map of the test rows" not in files["report.md"].decode()


HOSTILE = [
    "<script>x</script>",
    "a | b",
    "``two`one <b>`",
    "line\r\n\r\n# head",
    "[c](javascript:1)",
    "![p](http://x/y)",
    "*b*",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_a_table_are_shown_and_do_nothing(name):
    def elements(markdown):
        parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
        tokens = [part for token in parser.parse(markdown) for part in (token, *(token.children or ()))]
        return {token.type for token in tokens}

    plain = page(run_of_table(), ["confusion", "roc_calibration"])
    table = {
        "columns": [{**TABLE["columns"][0], "name": name}, *TABLE["columns"][1:]],
        "target": {"name": name, "classes": [name, "other"]},
        "file_columns": [name, *TABLE["file_columns"][1:]],
        "group": name,
        "dropped": {"id": name},
    }
    run = run_of_table(table, classes=(name, "other"))
    config = {**run.config, "data": {**run.config["data"], "path": f"some/{name.replace('/', '')}.csv", "drop": [name]}}
    run = replace(run, config=config, manifest=replace(run.manifest, warnings=[name, name]))
    text = page(run, ["confusion", "roc_calibration"])
    assert elements(text) <= elements(plain) | {"text_special", "softbreak"}
    assert text.count("\n## ") == plain.count("\n## ")
    assert len([row for row in text.splitlines() if row.startswith("|")]) == len(
        [row for row in plain.splitlines() if row.startswith("|")]
    )


def test_a_class_that_is_a_formula_is_text_in_the_plots(tmp_path):
    run = replace(run_of(**CASES["binary"]), classes=("=1+1", "-1"))
    write_report(tmp_path, run)
    with (tmp_path / "plots" / "confusion.csv").open(newline="") as file:
        assert {cell for row in csv.DictReader(file) for cell in row.values()} == {"'=1+1", "-1"}
