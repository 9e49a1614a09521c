"""Training end to end: what it leaves behind, beside what scikit-learn makes of the saved weights."""

import copy
import csv
import hashlib
import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from hypermap.core import checkpoint, device
from hypermap.core.errors import Diverged, Interrupted, OutOfMemory, Paused, Pruned, UserError
from hypermap.core.paths import SOURCES
from hypermap.data.cross_validation import repeat_seed
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load_raw
from hypermap.datasets import prepare
from hypermap.experiments import run
from hypermap.models import MLP
from hypermap.training import artifacts
from hypermap.training.components import make_optimizer
from hypermap.training.loop import Trainer
from support.configurations import QUICK_MLP

pytestmark = pytest.mark.usefixtures("a_place_of_its_own")

DATASETS = {
    "digits": {"_target_": "hypermap.datasets.images.digits", "test": 0.2, "rows": 500},
    "breast_cancer": {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2, "scaling": "standard"},
    "diabetes": {"_target_": "hypermap.datasets.images.diabetes", "test": 0.2, "scaling": "standard"},
}
LOSSES = {"digits": "CrossEntropy", "breast_cancer": "BinaryCrossEntropy", "diabetes": "MeanSquaredError"}
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Each data set, prepared, without its test rows: training has no use for them."""
    folder = tmp_path_factory.mktemp("prepared")
    for name, settings in DATASETS.items():
        prepare.prepare_settings(folder / name, settings)
        (folder / name / "test.safetensors").unlink()
    return folder


def order(data="digits", **changes):
    """A configuration; ``trainer={"epochs": 1}`` changes a value of a group."""
    made = copy.deepcopy(QUICK_MLP)
    made["loss"] = {"name": "loss", "_target_": f"hypermap.tasks.losses.{LOSSES[data]}"}
    made |= {"data": {"name": data, **DATASETS[data]}, "evaluation": {"bootstrap_repeats": 100, "confidence": 0.95}}
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) else value
    return made


def train(prepared, data="digits", folder=".", hears=None, keep=True, latency=False, states="runs", **changes):
    folder = Path(folder)
    asked = run.TrainingRequest(
        order(data, **changes),
        prepared / data,
        folder / "models",
        folder / "reports" / "validation.json",
        report=hears or (lambda step, value: None),
        keep=keep,
        measure_latency=latency,
        states=Path(states),
    )
    return run.train(asked)


def content(folder="."):
    """All that is to be the same from run to run, byte for byte."""
    names = ["models/model.safetensors", "models/model.json", "models/history.csv", "reports/validation.json"]
    names += ["models/scores.csv"] if (Path(folder) / "models/scores.csv").exists() else []
    return {name: (Path(folder) / name).read_bytes() for name in names}


def read_json(path):
    return json.loads(Path(path).read_text())


def read_history(path):
    with Path(path).open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def outputs_of_saved_weights(inputs, outputs):
    """A network built anew with the weights of models/, on inputs scaled by hand."""
    network = MLP(inputs.shape[1:], outputs, hidden=[16])
    network.load_state_dict(load_file("models/model.safetensors"))
    network.eval()
    with torch.no_grad():
        return network(torch.tensor(inputs, dtype=torch.float32)).double()


def standardised(data, manifest):
    shift, scale = np.array(manifest.shift), np.array(manifest.scale)
    return (data - shift) / scale


def assert_figures(given, expected):
    assert {f"validation_{name}" for name in expected} <= given.keys()
    for name, value in expected.items():
        assert given[f"validation_{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6), name


# What is written, beside scikit-learn.


def test_digits(prepared):
    result = train(prepared)
    data = load_digits()
    rows = load_file(prepared / "digits" / "validation.safetensors")["rows"].numpy()
    inputs, targets = data.images[rows][:, np.newaxis] / 16, data.target[rows]
    outputs = outputs_of_saved_weights(inputs, 10)
    temperature = read_json("models/model.json")["tuned"]["temperature"]
    assert temperature < 1  # after three epochs the network is right more often than it thinks
    probabilities = (outputs / temperature).softmax(1).numpy()
    predicted = probabilities.argmax(1)
    metrics = read_json("reports/validation.json")
    assert_figures(
        metrics,
        {
            "accuracy": sk.accuracy_score(targets, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
            "precision": sk.precision_score(targets, predicted, average="macro", zero_division=0),
            "recall": sk.recall_score(targets, predicted, average="macro", zero_division=0),
            "f1": sk.f1_score(targets, predicted, average="macro", zero_division=0),
            "roc_auc": sk.roc_auc_score(targets, probabilities, multi_class="ovr"),
            "log_loss": sk.log_loss(targets, probabilities),
            "loss": sk.log_loss(targets, outputs.softmax(1).numpy()),
        },
    )
    assert result.monitor == "accuracy"
    assert result.objective == metrics["validation_accuracy"]
    assert result.epochs == 3
    history = read_history("models/history.csv")
    kept = history[result.best_epoch - 1]
    assert kept["validation_score"] == pytest.approx(metrics["validation_accuracy"])
    assert kept["validation_loss"] == metrics["validation_loss"]
    assert max(row["validation_score"] for row in history) == kept["validation_score"]


def test_breast_cancer_with_one_logit(prepared):
    train(prepared, "breast_cancer")
    data = load_breast_cancer()
    rows = load_file(prepared / "breast_cancer" / "validation.safetensors")["rows"].numpy()
    manifest = Manifest.read(prepared / "breast_cancer")
    logit = outputs_of_saved_weights(standardised(data.data[rows], manifest), 1)[:, 0]
    positive = (logit / read_json("models/model.json")["tuned"].get("temperature", 1)).sigmoid().numpy()
    targets = data.target[rows]
    assert_figures(
        read_json("reports/validation.json"),
        {
            "accuracy": sk.accuracy_score(targets, positive > 0.5),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, positive > 0.5),
            "f1": sk.f1_score(targets, positive > 0.5, average="macro"),
            "roc_auc": sk.roc_auc_score(targets, positive),
            "log_loss": sk.log_loss(targets, positive),
            "loss": sk.log_loss(targets, logit.sigmoid().numpy()),
        },
    )


def test_without_calibration_the_probabilities_are_the_networks_own(prepared):
    train(prepared, trainer={"calibration": None})
    assert read_json("models/model.json")["tuned"] == {}
    metrics = read_json("reports/validation.json")
    assert metrics["validation_log_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-5)


def test_diabetes_in_the_targets_own_unit(prepared):
    result = train(prepared, "diabetes", trainer={"epochs": 5})
    assert read_json("models/model.json")["tuned"] == {}
    data = load_diabetes(scaled=False)
    rows = load_file(prepared / "diabetes" / "validation.safetensors")["rows"].numpy()
    trained_on = load_file(prepared / "diabetes" / "train.safetensors")["rows"].numpy()
    stored = load_file(prepared / "diabetes" / "validation.safetensors")["inputs"].numpy()
    manifest = Manifest.read(prepared / "diabetes")
    standard = outputs_of_saved_weights(standardised(stored, manifest), 1)[:, 0].numpy()
    mean, deviation = data.target[trained_on].mean(), data.target[trained_on].std()
    predicted, targets = standard * deviation + mean, data.target[rows]
    metrics = read_json("reports/validation.json")
    assert_figures(
        metrics,
        {
            "rmse": sk.root_mean_squared_error(targets, predicted),
            "mae": sk.mean_absolute_error(targets, predicted),
            "r2": sk.r2_score(targets, predicted),
            "loss": sk.mean_squared_error((targets - mean) / deviation, standard),
        },
    )
    assert result.monitor == "r2"
    assert result.objective == metrics["validation_r2"]
    assert 25 < metrics["validation_rmse"] < 200  # the target runs from 25 to 346


def test_the_record_says_what_made_the_weights(prepared):
    result = train(prepared, model={"batch_norm": True}, regularizer={"patience_epochs": 1}, optimizer={"lr": 1e-30})
    record = read_json("models/model.json")
    assert record["configuration"] == order(
        model={"batch_norm": True}, regularizer={"patience_epochs": 1}, optimizer={"lr": 1e-30}
    )
    assert record["parameters"] == 64 * 16 + 16 + 2 * 16 + 16 * 10 + 10  # parameters, without batch norm's statistics
    assert record["monitor"] == "accuracy"
    assert record["stopped_early"] == (result.epochs < 3)
    assert record["best_epoch"] == result.best_epoch
    assert record["environment"] == device.environment(torch.device("cpu"), 1)


def test_the_weights_are_those_of_the_epoch_kept(prepared):
    result = train(prepared, optimizer={"lr": 0.05}, trainer={"epochs": 20, "monitor": "loss"})
    assert result.best_epoch < 20  # so that the last epoch's are others
    rows = load_file(prepared / "digits" / "validation.safetensors")["rows"].numpy()
    data = load_digits()
    outputs = outputs_of_saved_weights(data.images[rows][:, np.newaxis] / 16, 10)
    loss = torch.nn.functional.cross_entropy(outputs, torch.tensor(data.target[rows])).item()
    assert result.objective == pytest.approx(loss, rel=1e-4)
    assert result.objective == min(row["validation_loss"] for row in read_history("models/history.csv"))


def test_seconds_stay_out_of_what_is_compared_and_stand_in_runs(prepared):
    result = train(prepared)
    assert list(read_history("models/history.csv")[0]) == list(artifacts.COLUMNS)
    (timed,) = Path("runs").glob("*/history.csv")
    assert sum(row["seconds"] for row in read_history(timed)) == pytest.approx(result.seconds)
    assert sorted(path.name for path in timed.parent.iterdir()) == ["history.csv", "lock"]  # the state is gone


def test_history_reads_back_as_it_was(prepared):
    train(prepared)
    rows = artifacts.read_history(Path("models"))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    (timed,) = Path("runs").glob("*/history.csv")
    for row, full in zip(rows, read_history(timed), strict=True):
        assert row == {key: full[key] for key in artifacts.COLUMNS}


def test_figures_read_back_as_they_were(tmp_path):
    metrics = {"accuracy": 1 / 3, "loss": 1e-300}
    artifacts.write_metrics(tmp_path / "file", "test", metrics)
    assert read_json(tmp_path / "file").keys() == {"test_accuracy", "test_loss"}
    assert artifacts.read_metrics(tmp_path / "file", "test") == metrics


# Again, and after an interruption.


def test_same_seed_same_bytes(prepared):
    changes = {"model": {"dropout": 0.3}, "augment": {"shift": 1}}
    train(prepared, folder="a", **changes)
    torch.manual_seed(123)
    torch.rand(5)
    train(prepared, folder="b", **changes)
    train(prepared, folder="c", seed=5, **changes)
    assert content("a") == content("b")
    assert content("a")["models/model.safetensors"] != content("c")["models/model.safetensors"]


@pytest.fixture
def kill(prepared, forks):
    """Trains in another process, which is killed at the instant that so many epochs are on the disk."""
    return partial(train_until_killed, prepared, forks)


def train_until_killed(prepared, forks, saves, **changes):
    environment = {**os.environ, **forks.heavy, "PYTHONPATH": str(SOURCES)}
    command = ["python", "-c", KILLED, str(prepared / "digits"), str(saves), json.dumps(order(**changes))]
    killed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_one_that_was_not(prepared, kill):
    changes = {"model": {"dropout": 0.3}, "augment": {"shift": 1}}
    train(prepared, folder="whole", **changes)
    kill(2, **changes)
    assert len(list(Path("runs").glob("*/progress.json"))) == 1
    assert not Path("models").exists()
    train(prepared, **changes)
    assert content() == content("whole")
    assert not list(Path("runs").glob("*/progress.json"))
    (timed,) = Path("runs").glob("*/history.csv")  # one folder: it went on, and did not start over
    assert len(read_history(timed)) == 3


def interrupt(prepared, monkeypatch, after, **changes):
    save = checkpoint.save

    def then_stop(folder, epoch, state):
        save(folder, epoch, state)
        if epoch == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", then_stop)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, **changes)


@pytest.mark.parametrize("kind", ["TabM", "ModernNCA"])
def test_networks_of_members_and_of_training_rows_resume_and_predict_what_they_were_validated_on(
    prepared, monkeypatch, kind
):
    loss = {"name": "auto", "_target_": "hypermap.tasks.losses.Auto"}
    model = {"name": kind.lower(), "_target_": f"hypermap.models.{kind}", "frequencies": 4, "number_width": 3}
    changes = {"data": "breast_cancer", "loss": loss, "trainer": {"monitor": "refinement", "batch_size": None}}
    monkeypatch.setitem(QUICK_MLP, "model", model)
    result = train(prepared, folder="whole", states="elsewhere", **changes)
    interrupt(prepared, monkeypatch, 2, **changes)
    train(prepared, **changes)
    assert content() == content("whole")
    column = [row["validation_refinement"] for row in read_history("models/history.csv")]
    assert result.metrics["refinement"] == min(column) == column[result.best_epoch - 1]
    validation = load_raw(prepared / "breast_cancer", "validation")
    shares = artifacts.read_trained(Path("models")).predict(validation.inputs)
    assert sk.log_loss(validation.targets, shares) == pytest.approx(result.metrics["log_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        ({}, True),
        ({"evaluation": {"bootstrap_repeats": 500}}, True),
        ({"experiment": "digits_mlp"}, True),  # a name changes no number
        ({"trainer": {"reports_per_epoch": 2}}, True),
        ({"seed": 5}, False),
        ({"optimizer": {"lr": 0.02}}, False),
        ({"trainer": {"epochs": 4}}, False),  # the schedule depends on it
        ({"model": {"hidden": [17]}}, False),
    ],
)
def test_only_a_run_that_must_come_to_the_same_numbers_is_gone_on_with(prepared, monkeypatch, changes, goes_on):
    interrupt(prepared, monkeypatch, 2)
    epochs = []
    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda *args: epochs.append(1) or epoch(*args))
    result = train(prepared, **changes)
    assert result.epochs - len(epochs) == (2 if goes_on else 0)


def test_other_data_is_another_run(prepared, monkeypatch, tmp_path):
    interrupt(prepared, monkeypatch, 2)
    prepare.prepare_settings(tmp_path / "other" / "digits", {**DATASETS["digits"], "split_seed": 1})
    train(tmp_path / "other")
    assert len(list(Path("runs").iterdir())) == 2


def test_two_runs_at_once_do_not_touch_each_others_state(prepared, monkeypatch):
    save, other = checkpoint.save, []

    def with_another_beside(folder, epoch, state):
        save(folder, epoch, state)
        if epoch == 2 and not other:
            other.append(folder)
            train(prepared, folder="other")

    monkeypatch.setattr(checkpoint, "save", with_another_beside)
    train(prepared)
    assert other
    assert content() == content("other")
    assert len(list(Path("runs").iterdir())) == 2


# Several fits.


THREE_FOLDS = {"name": "kfold", "_target_": "hypermap.data.cross_validation.KFold", "k": 3}


def read_scores(folder="."):
    with (Path(folder) / "models" / "scores.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def trained_by_hand(train_rows, validation_rows, seed, epochs=3):
    """The losses of a fit on rows of breast_cancer, scaled by scikit-learn, by a plain loop over batches of 64."""
    data = load_breast_cancer()
    inputs = StandardScaler().fit(data.data[train_rows]).transform(data.data)
    inputs, targets = torch.tensor(inputs, dtype=torch.float32), torch.tensor(data.target, dtype=torch.float32)
    torch.manual_seed(seed)
    model, order, losses = MLP((30,), 1, hidden=[16]), torch.Generator().manual_seed(seed), []
    descent, criterion = torch.optim.Adam(model.parameters(), lr=0.01), torch.nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        for batch in torch.randperm(len(train_rows), generator=order).split(64):
            descent.zero_grad()
            criterion(model(inputs[train_rows[batch]])[:, 0], targets[train_rows[batch]]).backward()
            descent.step()
        with torch.no_grad():
            losses.append(criterion(model(inputs[validation_rows])[:, 0], targets[validation_rows]).item())
    return losses


def test_folds_are_trained_alone_and_the_figures_are_their_means(prepared):
    result = train(prepared, "breast_cancer", validation=THREE_FOLDS, trainer={"monitor": "loss"})
    folder = prepared / "breast_cancer"
    rows = np.sort(np.concatenate([load_file(folder / f"{n}.safetensors")["rows"] for n in ("train", "validation")]))
    folds = StratifiedKFold(3, shuffle=True, random_state=0).split(rows, load_breast_cancer().target[rows])
    expected = [min(trained_by_hand(rows[train], rows[held], seed=4)) for train, held in folds]
    assert result.scores == pytest.approx(expected, rel=1e-3)
    assert result.objective == pytest.approx(np.mean(expected), rel=1e-3)
    scores, metrics = read_scores(), read_json("reports/validation.json")
    assert [(row["fold"], row["repeat"], row["seed"]) for row in scores] == [(1, 1, 4), (2, 1, 4), (3, 1, 4)]
    assert [row["loss"] for row in scores] == result.scores
    for name in ("accuracy", "f1", "roc_auc", "loss", "log_loss"):
        assert metrics[f"validation_{name}"] == pytest.approx(np.mean([row[name] for row in scores]))
        assert result.metrics[name] == metrics[f"validation_{name}"]
    assert metrics["validation_loss_std"] == pytest.approx(np.std(result.scores, ddof=1))
    assert metrics["validation_fits"] == 3
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_the_model_kept_is_that_of_the_holdout(prepared):
    one = train(prepared, folder="one", keep=False)
    several = train(prepared, folder="several", validation=THREE_FOLDS)
    for name in ("model.safetensors", "history.csv"):
        assert Path("several/models", name).read_bytes() == Path("one/models", name).read_bytes()
    assert (several.best_epoch, several.epochs) == (one.best_epoch, one.epochs)
    assert read_json("several/models/model.json")["configuration"]["validation"] == THREE_FOLDS


def test_without_a_refit_no_model_is_trained_and_the_figures_are_the_same(prepared):
    train(prepared, folder="whole", validation=THREE_FOLDS)
    train(prepared, trainer={"epochs": 1})  # leaves a model where none belongs
    result = train(prepared, validation=THREE_FOLDS, keep=False)
    assert [path.name for path in Path("models").iterdir()] == ["scores.csv"]
    for name in ("reports/validation.json", "models/scores.csv"):
        assert Path(name).read_bytes() == Path("whole", name).read_bytes()
    assert len(result.scores) == 3
    train(prepared)
    assert not Path("models/scores.csv").exists()  # it is of another run


def test_seeds_are_repeated_as_runs_of_their_own_and_the_first_ones_model_is_kept(prepared):
    result = train(prepared, trainer={"repeats": 3})
    seeds = [4, repeat_seed(4, 1), repeat_seed(4, 2)]
    alone = [train(prepared, folder=str(seed), seed=seed) for seed in seeds]
    assert result.scores == [one.objective for one in alone]
    assert len(set(result.scores)) > 1
    assert result.objective == pytest.approx(np.mean(result.scores))
    assert [row["seed"] for row in read_scores()] == seeds
    for row, one in zip(read_scores(), alone, strict=True):
        assert {key: row[key] for key in one.metrics} == one.metrics
    assert content()["models/model.safetensors"] == content("4")["models/model.safetensors"]
    assert content()["models/history.csv"] == content("4")["models/history.csv"]
    assert (result.best_epoch, result.epochs) == (alone[0].best_epoch, 3)


def test_seeds_and_folds_and_shuffles_together(prepared):
    train(prepared, validation={**THREE_FOLDS, "k": 2, "repeats": 2}, trainer={"repeats": 2, "epochs": 1})
    again = repeat_seed(4, 1)
    assert [(row["seed"], row["repeat"], row["fold"]) for row in read_scores()] == [
        (seed, repeat, fold) for seed in (4, again) for repeat in (1, 2) for fold in (1, 2)
    ]
    assert len({row["loss"] for row in read_scores()}) == 8


SEVERAL = [
    {"validation": THREE_FOLDS},
    {"trainer": {"repeats": 3}},
]


@pytest.mark.parametrize(
    ("several", "saves"),
    [(SEVERAL[0], 3), (SEVERAL[0], 11), (SEVERAL[1], 5)],  # the end of the first fit, within the refit, the second
)
def test_a_killed_run_of_several_fits_goes_on_where_it_was(prepared, kill, monkeypatch, several, saves):
    changes = {"model": {"dropout": 0.3}, "augment": {"shift": 1}} | several
    train(prepared, folder="whole", **changes)
    kill(saves, **changes)
    assert not Path("models").exists()
    epochs = []
    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda *args: epochs.append(1) or epoch(*args))
    train(prepared, **changes)
    assert content() == content("whole")
    assert len(epochs) == (12 if "validation" in several else 9) - saves
    left = {path.name for path in Path("runs").rglob("*") if path.is_file()}
    assert left == {"lock", "history.csv"}


IN_ORDER = """
import numpy as np
from hypermap.data.cross_validation import Fold

class InOrder:
    def __init__(self, cuts):
        self.cuts = cuts

    def folds(self, pool):
        rows = np.arange(len(pool.targets))
        return [Fold(rows[:cut], rows[cut : cut + 50], number) for number, cut in enumerate(self.cuts, 1)]
"""


@pytest.mark.parametrize("cuts", [[200], [200, 300, 350]])
def test_a_validation_of_ones_own(prepared, monkeypatch, cuts):
    Path("in_order.py").write_text(IN_ORDER)
    monkeypatch.syspath_prepend(Path.cwd())
    choice = {"name": "in_order", "_target_": "in_order.InOrder", "cuts": cuts}
    heard, hears = listener()
    result = train(prepared, hears=hears, validation=choice)
    assert len(result.scores) == len(cuts) == len(heard)
    assert [row["fold"] for row in read_scores()] == list(range(1, len(cuts) + 1))
    assert read_json("reports/validation.json")["validation_fits"] == len(cuts)
    assert len(read_history("models/history.csv")) == 3


def test_a_fit_whose_record_is_damaged(prepared, monkeypatch):
    interrupt(prepared, monkeypatch, 3, validation=THREE_FOLDS)  # the last epoch of the first
    (folder,) = Path("runs").glob("*/fit-1")
    (folder / "finished.json").write_text("{")
    told = refusal(train, prepared, validation=THREE_FOLDS)
    assert "finished.json cannot be read" in told
    assert str(folder) in told


def test_a_fold_without_the_monitored_figure(prepared):
    told = refusal(train, prepared, "diabetes", validation={**THREE_FOLDS, "k": 353}, trainer={"epochs": 1})
    assert told.startswith("r2 does not exist for one validation row")


# What is reported, and how a training ends.


def listener(ends_at=None, error=None):
    """A report and what it hears; at a step it may raise."""
    heard = []

    def hears(step, value):
        heard.append((step, value))
        if step == ends_at:
            raise error

    return heard, hears


def states():
    return [path for path in Path("runs").rglob("*") if path.name not in ("lock", "history.csv") and path.is_file()]


@pytest.mark.parametrize(("monitor", "column"), [("accuracy", "validation_score"), ("loss", "validation_loss")])
def test_each_epoch_is_reported_once_its_state_is_on_the_disk(prepared, monitor, column):
    heard, saved = [], []

    def hears(step, value):
        heard.append((step, value))
        (state,) = Path("runs").glob("*/progress.json")
        saved.append(len(read_json(state)["history"]))

    train(prepared, hears=hears, trainer={"monitor": monitor})
    assert heard == [(row["epoch"], row[column]) for row in read_history("models/history.csv")]
    assert saved == [1, 2, 3]


@pytest.mark.parametrize("several", SEVERAL)
def test_of_several_fits_each_is_reported(prepared, several):
    heard, hears = listener()
    result = train(prepared, hears=hears, **several)
    assert heard == list(enumerate(result.scores, 1))


@pytest.mark.parametrize("changes", [{}, *SEVERAL])
def test_a_pruned_training_leaves_nothing_to_go_on_from(prepared, changes):
    heard, hears = listener(2, Pruned("others did better"))
    with pytest.raises(Pruned):
        train(prepared, hears=hears, **changes)
    assert len(heard) == 2
    assert states() == []
    assert not Path("models").exists()


@pytest.mark.parametrize("changes", [{}, *SEVERAL])
def test_an_interrupted_training_goes_on_and_reports_all_there_is(prepared, changes):
    heard_whole, hears = listener()
    train(prepared, folder="whole", hears=hears, **changes)
    first, hears = listener(2, Interrupted())
    with pytest.raises(Interrupted):
        train(prepared, hears=hears, **changes)
    assert states()
    second, hears = listener()
    train(prepared, hears=hears, **changes)
    assert sorted({*first, *second}) == heard_whole
    assert second[-1:] == heard_whole[-1:]
    assert content() == content("whole")
    assert states() == []


@pytest.mark.parametrize("changes", [{}, {"trainer": {"reports_per_epoch": 3}}, *SEVERAL])
@pytest.mark.parametrize("step", [2, 3])
def test_a_paused_training_goes_on_to_the_same_bytes_and_trains_nothing_twice(prepared, changes, step, monkeypatch):
    heard_whole, hears = listener()
    train(prepared, folder="whole", hears=hears, **changes)
    epochs, epoch = [], Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda self, tell: epochs.append(1) or epoch(self, tell))
    train(prepared, folder="counted", **changes)
    once = len(epochs)
    epochs.clear()
    first, hears = listener(step, Paused("others go first"))
    with pytest.raises(Paused):
        train(prepared, hears=hears, states="kept", **changes)
    assert first == heard_whole[:step]
    assert not Path("models").exists()
    assert states() == []  # in runs/
    second, hears = listener()
    train(prepared, hears=hears, states="kept", **changes)
    assert sorted({*first, *second}) == heard_whole
    assert content() == content("whole")
    assert not list(Path("kept").rglob("*.safetensors"))
    within_an_epoch = "reports_per_epoch" in changes.get("trainer", {}) and step % 3  # which is trained once more
    assert len(epochs) == once + bool(within_an_epoch)


@pytest.mark.parametrize("changes", [{}, *SEVERAL])
def test_a_divergence_is_told_as_one_and_leaves_nothing(prepared, monkeypatch, changes):
    measure, calls = Trainer.evaluate, []

    def diverges(made):
        calls.append(1)
        if len(calls) == (2 if changes == {} else 5):
            (sets,) = made.sets.values()
            sets.validation.inputs[0] = torch.nan
        return measure(made)

    monkeypatch.setattr(Trainer, "evaluate", diverges)
    with pytest.raises(Diverged, match="loss is nan in epoch 2, on the validation rows"):
        train(prepared, **changes)
    assert states() == []


@pytest.mark.parametrize("changes", [{}, {"validation": THREE_FOLDS}])
def test_want_of_memory_is_told_as_one_and_leaves_nothing(prepared, monkeypatch, changes):
    epoch, calls = Trainer.epoch, []

    def greedy(*args):
        calls.append(1)
        if len(calls) == 2:
            torch.empty(2**60)
        return epoch(*args)

    monkeypatch.setattr(Trainer, "epoch", greedy)
    with pytest.raises(OutOfMemory, match=r"trainer\.batch_size=32 \(it is 64\)"):
        train(prepared, **changes)
    assert states() == []


def test_a_network_that_fits_into_no_memory(prepared):
    with pytest.raises(OutOfMemory, match="a narrower network"):
        train(prepared, model={"hidden": [2**50]})


def test_the_cost_of_a_network_is_told(prepared):
    result = train(prepared, latency=True)
    assert result.parameters == 64 * 16 + 16 + 16 * 10 + 10
    assert result.threads == 1
    assert 0.001 < result.latency_ms < 100
    assert train(prepared).latency_ms is None


# Mistakes.


def refusal(function, *args, **kwargs):
    with pytest.raises(UserError) as told:
        function(*args, **kwargs)
    return str(told.value)


@pytest.mark.parametrize(
    ("data", "changes", "told"),
    [
        ("digits", {"model": {"hiden": [3]}}, "does not take 'hiden' (did you mean 'hidden'?)"),
        ("digits", {"optimizer": {"momentum": 0.9}}, "torch.optim.Adam does not take 'momentum'"),
        ("digits", {"optimizer": {"betas": [2.0, 0.9]}}, "refuses its settings"),
        ("digits", {"trainer": {"epoch": 3}}, "does not take 'epoch' (did you mean 'epochs'?)"),
        ("digits", {"trainer": {"monitor": "r2"}}, "for classification it can be accuracy, loss or refinement"),
        ("digits", {"trainer": {"device": "gpu"}}, "trainer.device is 'gpu'"),
        ("digits", {"loss": {"_target_": "hypermap.tasks.losses.MeanSquaredError"}}, "use loss=cross_entropy"),
        ("digits", {"loss": {"_target_": "hypermap.tasks.losses.BinaryCrossEntropy"}}, "the data has 10"),
        ("diabetes", {"loss": {"_target_": "hypermap.tasks.losses.CrossEntropy"}}, "use loss=mean_squared_error"),
        ("diabetes", {"augment": {"flip": True}}, "augment needs images"),
        ("digits", {"optimizer": {"lr": 1e20}, "trainer": {"epochs": 2}}, "training diverged"),
    ],
)
def test_a_mistake_is_one_clear_message_and_leaves_no_results(prepared, data, changes, told):
    assert told in refusal(train, prepared, data, **changes)
    assert not Path("models").exists()
    assert not Path("reports").exists()


def test_no_prepared_data(tmp_path):
    assert "holds no prepared data" in refusal(train, tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("model.json", None, "model.json cannot be read"),
        ("model.json", "{", "model.json cannot be read"),
        ("model.json", "[]", "model.json cannot be read"),
        ("model.json", "{}", "model.json cannot be read"),
        ("model.safetensors", None, "model.safetensors cannot be read"),
        ("model.safetensors", "{}", "model.safetensors cannot be read"),
    ],
)
def test_damaged_results_are_named_with_the_remedy(prepared, name, damage, told):
    train(prepared, trainer={"epochs": 1})
    Path("models", name).unlink()
    if damage is not None:
        Path("models", name).write_text(damage)
    message = refusal(artifacts.read_trained, Path("models"))
    assert told in message
    assert artifacts.REMEDY in message


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_flipped_bit_is_noticed(prepared, name):
    train(prepared, trainer={"epochs": 1})
    artifacts.read_trained(Path("models"))
    content = bytearray(Path("models", name).read_bytes())
    content[-20] ^= 1
    Path("models", name).write_bytes(content)
    message = refusal(artifacts.read_trained, Path("models"))
    assert f"models/{name} cannot be read: it is not the file" in message
    assert hashlib.sha256(content).hexdigest()[:12] in message


def test_weights_of_another_network(prepared):
    train(prepared, trainer={"epochs": 1})
    save_file({"a": torch.zeros(1)}, "models/model.safetensors")
    record = json.loads(Path("models/model.json").read_text())
    Path("models/model.json").write_text(json.dumps({k: v for k, v in record.items() if k != "sha256"}))
    message = refusal(artifacts.read_trained, Path("models"))
    assert "model.safetensors does not fit model.json" in message


@pytest.mark.parametrize("damage", [None, "epoch,train_loss\n1,2\n", f"{','.join(artifacts.COLUMNS)}\n1,0.5"])
def test_a_damaged_history(tmp_path, damage):
    if damage is not None:
        (tmp_path / "history.csv").write_text(damage)
    assert "history.csv cannot be read" in refusal(artifacts.read_history, tmp_path)


@pytest.mark.parametrize("damage", [None, "{", "[]", '{"test_accuracy": "high"}'])
def test_damaged_figures(tmp_path, damage):
    if damage is not None:
        (tmp_path / "test.json").write_text(damage)
    message = refusal(artifacts.read_metrics, tmp_path / "test.json", "test")
    assert "test.json cannot be read" in message


# Its parts.


@pytest.mark.parametrize(
    ("name", "fused"), [("SGD", True), ("Adam", True), ("AdamW", True), ("RMSprop", False), ("Adagrad", True)]
)
def test_optimizers_are_fused_where_torch_has_it(name, fused):
    made = make_optimizer({"_target_": f"torch.optim.{name}", "lr": 0.1}, [torch.nn.Parameter(torch.ones(2))])
    assert isinstance(made, getattr(torch.optim, name))
    assert bool(made.defaults.get("fused")) == fused
    assert made.defaults["lr"] == 0.1


def test_a_person_may_set_fused():
    choice = {"_target_": "torch.optim.Adam", "fused": False}
    made = make_optimizer(choice, [torch.nn.Parameter(torch.ones(2))])
    assert made.defaults["fused"] is False


def test_the_model_keeps_half_precision_out_of_its_file(prepared):
    train(prepared, trainer={"precision": "bf16"})
    assert {tensor.dtype for tensor in load_file("models/model.safetensors").values()} == {torch.float32}


def test_threads_are_those_asked_for(prepared):
    train(prepared, trainer={"threads": 2, "epochs": 1})
    assert torch.get_num_threads() == 2
    assert read_json("models/model.json")["environment"]["threads"] == "2"
    train(prepared, trainer={"threads": None, "epochs": 1})
    assert read_json("models/model.json")["environment"]["threads"] == "1"  # a small dense network
