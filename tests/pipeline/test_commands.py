"""What the commands say: one message for a mistake, exit code 1 or 2, nothing lost, no traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hypermap.core.paths import CONF

TRAIN = ("python", "src/train.py")
STAGE = ("python", "src/train.py", "--config", "reports/config/train.yaml")
QUICK = ("trainer=quick", "trainer.epochs=1", "hydra.run.dir=outputs/run")
# Answers that need no torch.


def test_help_needs_no_torch_and_lists_the_menu(clone):
    out = clone.shared.ok(*TRAIN, "--help", **clone.no_torch).out
    for folder in sorted(CONF.iterdir()):
        if folder.is_dir() and folder.name != "hydra":
            line = next(line for line in out.splitlines() if line.startswith(f"{folder.name}:"))
            assert all(file.stem in line for file in folder.glob("*.yaml"))
    assert "lr: 0.01" in out


# Runs the program once for each list of words that it is given, and writes what each run says and its code.
ONE_BY_ONE = """
import contextlib, io, json, runpy, sys

told = []
for words in json.loads(sys.argv[1]):
    said, sys.argv, code = io.StringIO(), ["src/train.py", *words], 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path("src/train.py", run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    told.append([code, said.getvalue()])
print(json.dumps(told))
"""
MISTAKES = [
    (["optimizr=sgd"], "no group or key 'optimizr' (did you mean 'optimizer'?)"),
    (["optimizer=sdg"], "optimizer has no option 'sdg' (did you mean 'sgd'?)"),
    (["optimizer.weight_deca=1"], "optimizer=adam has no key 'weight_deca' (did you mean 'weight_decay'?)"),
    (["optimizer.lr=fast"], "optimizer.lr is 'fast'; it must be a number"),
    (["optimizer.lr=0.1,0.2"], "To try each in turn add -m"),
    (["-m", "optimizer=sgd,sdg"], "optimizer has no option 'sdg'"),
    (["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"], "give a momentum, such as 0.9"),
    (["seed=-1", "trainer.epochs=0"], "trainer.epochs is 0"),
    (["seed"], "is not understood. Write key=value"),
    (["data=mnist", "data.root=/no/such/folder"], "data.root is '/no/such/folder'; no such folder"),
    (["data.rows=100000"], "data.rows is 100000"),
    (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
    (["--config", "nowhere.yaml"], "nowhere.yaml is not here. `dvc repro` writes it"),
]


def test_mistakes_are_told_without_torch(clone):
    words = json.dumps([words for words, _ in MISTAKES])
    outcomes = json.loads(clone.shared.ok("python", "-c", ONE_BY_ONE, words, **clone.no_torch).out)
    for (_, told), (code, said) in zip(MISTAKES, outcomes, strict=True):
        assert code == 1
        assert told in said
        assert said.count("Error: ") == 1, said
        assert "Traceback" not in said
    assert list((clone.shared.path).glob("multirun")) == []


@pytest.mark.parametrize("words", [["--nonsense"], ["--config"]])
def test_flags_that_do_not_exist(clone, words):
    outcome = clone.shared.run(*TRAIN, *words, **clone.no_torch)
    assert outcome.code == 2
    assert "train.py: error: " in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("words", "file"), [(["src/train.py", "optimizr=sgd"], "cli.py"), (["src/order.py", "mnist_mpl"], "order.py")]
)
def test_a_variable_shows_the_traceback(clone, words, file):
    outcome = clone.shared.run("python", *words, HYPERMAP_TRACEBACK="1")
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback (most recent call last):")
    assert file in outcome.err
    assert "hypermap.core.errors.UserError: " in outcome.err
    assert "did you mean" in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ["src/compose.py"],
        ["src/preprocess.py"],
        ["src/baselines.py"],
        ["src/evaluate.py"],
        ["src/train.py", "--config", "reports/config/train.yaml"],
    ],
)
def test_a_stage_refuses_words(clone, words):
    assert "Error: 'foo=bar' is not understood" in clone.shared.fails("python", *words, "foo=bar")


def test_a_script_is_no_module(clone):
    told = clone.shared.fails("python", "-m", "src.train", "-m", "optimizer.lr=0.1, 0.2")
    assert (
        told == "Error: src is no package. Start the script as a file: python src/train.py -m 'optimizer.lr=0.1, 0.2'\n"
    )


# The baseline, which the first line names. The mistake is found after that line, and before anything is trained.


@pytest.mark.parametrize(
    ("experiment", "words", "says"),
    [
        (None, ["data=mnist"], "Baseline: params.yaml"),
        (None, ["experiment=mnist_mlp"], "Baseline: experiment=mnist_mlp (params.yaml is set aside)"),
        ("mnist_mlp", [], "Baseline: params.yaml, which names experiment mnist_mlp"),
        ("mnist_mlp", ["experiment=mnist_cnn"], "Baseline: experiment=mnist_cnn (params.yaml is set aside)"),
    ],
)
def test_the_first_line_names_the_baseline(clone, experiment, words, says):
    project = clone()
    if experiment:
        project.ok("python", "src/order.py", experiment)
    outcome = project.run(*TRAIN, *words, "data.root=/nowhere", **clone.no_torch)
    assert outcome.code == 1
    assert outcome.out.splitlines() == [says]
    assert "data.root is '/nowhere'; no such folder" in outcome.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"optimizer.lr": 0.5, "seed": 3, "model.hidden": [16], "optimizer.eps": 1e-8}),
        (
            ["optimizer=sgd", "trainer.epochs=9"],
            {"trainer.epochs": 9, "optimizer.lr": 0.05, "optimizer.momentum": 0.9, "seed": 3, "model.hidden": [16]},
        ),
        (["experiment=mnist_mlp"], {"seed": 0, "model.hidden": [128], "model.dropout": 0.2}),
    ],
)
def test_menu_then_order_then_command_line(clone, words, expected):
    project = clone()
    project.order(optimizer={"name": "adam", "lr": 0.5}, seed=3)
    out = project.ok(*TRAIN, "--cfg", "job", *words, **clone.no_torch).out
    shown = yaml.safe_load(out)
    for key, value in expected.items():
        group, _, inner = key.partition(".")
        assert (shown[group].get(inner) if inner else shown[group]) == value
    assert shown["optimizer"]["lr"] != 0.5 or not words


# Mistakes that only the data or the machine shows.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["loss=mean_squared_error"], "the data has 10 classes: use loss=cross_entropy"),
        (["model.hidden=[10000000000000]"], "hypermap.models.MLP refuses its settings"),
    ],
)
def test_settings_that_do_not_suit_the_data_or_the_machine(clone, words, told):
    assert told in clone.shared.fails(*TRAIN, *words, f"hydra.run.dir=outputs/{words[0].split('=')[0]}")


def test_a_loss_that_is_not_finite(clone):
    project = clone()
    results = project.content("models", "reports")
    project.order(model="logistic", loss="cross_entropy", optimizer={"name": "sgd", "lr": 1e38, "momentum": 0.0})
    project.ok("python", "src/compose.py")
    told = project.fails(*STAGE)
    assert "training diverged" in told
    assert "epoch 1, step" in told
    assert "optimizer.lr=1e+37" in told
    unchanged = project.content("models", "reports")
    assert {k: v for k, v in unchanged.items() if "config" not in k} == {
        k: v for k, v in results.items() if "config" not in k
    }


# Sweeps.


def test_a_sweep_runs_each_value_once_in_order_and_tells_a_bad_one_first(clone):
    project = clone()
    sweep = ("hydra.sweeper.study_name=rates", "trainer.epochs=1")
    told = project.fails(*TRAIN, "-m", "optimizer.lr=0.1,0.02,-1", *sweep)
    assert "Error: optimizer.lr is -1; it must be a number above 0." in told
    assert not (project.path / "studies").exists()
    out = project.ok(*TRAIN, "-m", "optimizer.lr=0.1,0.02", *sweep).out
    assert out.splitlines()[0] == "Baseline: params.yaml"
    assert "2 of 2 trials: 2 complete." in out
    assert "Report: reports/studies/rates/report.md" in out
    assert project.ok("git", "status", "--porcelain").out == "?? reports/studies/rates/\n"
    report = project.path / "reports/studies/rates"
    made = {path.relative_to(report): path.read_bytes() for path in report.rglob("*.*")}
    project.ok("python", "src/report.py", "study=rates")
    assert {path.relative_to(report): path.read_bytes() for path in report.rglob("*.*")} == made
    rates = [
        project.json(f"studies/rates/{number}/model.json")["configuration"]["optimizer"]["lr"] for number in range(2)
    ]
    assert rates == [0.1, 0.02]


# A network of one's own.

NETWORK = """
from torch import nn


class Halves(nn.Module):
    def __init__(self, input_shape, outputs, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, outputs))

    def forward(self, inputs):
        return self.layers(inputs)
"""


def test_a_network_of_ones_own_is_a_choice(clone):
    project = clone()
    (project.path / "src/my_network.py").write_text(NETWORK)
    (project.path / "conf/model/my_network.yaml").write_text("_target_: my_network.Halves\nwidth: 32\n")
    project.ok(*TRAIN, "model=my_network", "trainer.epochs=4", "hydra.run.dir=outputs/run", "model.width=24")
    assert project.json("outputs/run/model.json")["parameters"] == 64 * 24 + 24 + 24 * 10 + 10
    assert project.json("outputs/run/validation.json")["validation_accuracy"] > 0.8
    told = project.fails(*TRAIN, "model=my_network", "model.widht=3", *QUICK)
    assert "model=my_network has no key 'widht' (did you mean 'width'?)" in told


# The stages' scripts.


@pytest.mark.parametrize(
    ("script", "content"),
    [(script, content) for script in ("preprocess", "train") for content in (None, b"data: [", b"", b"\xff\xfe\x00")]
    + [("evaluate", None)],
)
def test_a_slice_that_is_missing_or_damaged(clone, script, content):
    project = clone()
    path = project.path / f"reports/config/{script}.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    before = project.content("reports", "models", "data/prepared")
    words = STAGE if script == "train" else ("python", f"src/{script}.py")
    variables = {} if script == "evaluate" else clone.no_torch  # which imports it before it reads the slice
    told = project.fails(*words, **variables)
    assert f"reports/config/{script}.yaml" in told
    assert "dvc repro" in told
    assert project.content("reports", "models", "data/prepared") == before


def test_a_pipeline_with_a_mistake_in_the_order(clone):
    project = clone()
    results = project.content("models", "data/prepared", "reports/report.md", "reports/test.json")
    project.edit("params.yaml", "lr: 0.01", "lr: -0.01")
    outcome = project.run("dvc", "repro")
    assert outcome.code != 0
    assert outcome.stages == ["compose"]
    assert outcome.err.count("Error: optimizer.lr is -0.01; it must be a number above 0.") == 1
    assert "Traceback" not in outcome.out + outcome.err
    assert project.content("models", "data/prepared", "reports/report.md", "reports/test.json") == results
    project.edit("params.yaml", "lr: -0.01", "lr: 0.01")
    project.ok("dvc", "repro", "compose")
    assert project.ok("git", "status", "--porcelain").out == ""


def damaged(project, name, content):
    path = project.path / name
    kept = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(kept[:content] if isinstance(content, int) else content)
    return path, kept


def test_a_model_that_is_missing_or_damaged(clone):
    project = clone()
    reports = project.content("reports")
    for name, content in {
        "models/model.safetensors": 100,
        "reports/validation.json": b"{}\n]",
    }.items():
        path, kept = damaged(project, name, content)
        told = project.fails("python", "src/evaluate.py")
        assert str(Path(name).name) in told
        assert "dvc repro" in told
        path.write_bytes(kept)
    assert project.content("reports") == reports


def test_a_checkpoint_that_cannot_be_read(clone):
    project = clone()
    project.order(trainer={"name": "default", "epochs": 100, "batch_size": 64})
    project.ok("python", "src/compose.py")
    results = project.content("models", "reports/validation.json")
    state = project.killed(*STAGE, epoch=2)
    (progress,) = project.path.glob("runs/*/progress.json")
    tensors = progress.parent / state["tensors"]
    for path, content in [(progress, b"[]"), (tensors, 100)]:
        _, kept = damaged(project, path.relative_to(project.path), content)
        told = project.fails(*STAGE)
        assert f"{path.relative_to(project.path)} cannot be read" in told
        assert f"remove the folder {progress.parent.relative_to(project.path)}" in told
        assert project.content("models", "reports/validation.json") == results
        path.write_bytes(kept)


def test_a_training_that_a_scheduler_ends_goes_on_to_the_same_bits(clone):
    project = clone()
    project.order(trainer={"name": "default", "epochs": 200, "batch_size": 64})
    project.ok("python", "src/compose.py")
    process = project.start(*STAGE)
    project.until(lambda: len(project.progress().get("history", ())) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Run the same command to resume from there." in err
    assert "Traceback" not in err
    done = len(project.progress()["history"])
    assert 2 <= done < 200
    told = project.ok(*STAGE).out
    assert "of 200" in told
    resumed = project.content("models", "reports/validation.json")
    beside = clone()
    beside.order(trainer={"name": "default", "epochs": 200, "batch_size": 64})
    beside.ok("python", "src/compose.py")
    beside.ok(*STAGE)
    assert beside.content("models", "reports/validation.json") == resumed


# A full disk: no file may be larger than so many KiB.


def leftovers(project):
    """Files and folders of writes that did not end."""
    hidden = [p for name in ("models", "reports", "data", "runs") for p in (project.path / name).rglob(".*")]
    return [p for p in hidden if p.name != ".gitignore"]


@pytest.mark.parametrize(
    ("script", "kib"), [("compose", 0), ("preprocess", 16), pytest.param("evaluate", 4, id="evaluate")]
)
def test_a_full_disk_changes_nothing(clone, script, kib):
    project = clone()
    before = project.content("reports", "models", "data/prepared")
    assert "File too large" in project.fails("python", f"src/{script}.py", file_kib=kib)
    assert project.content("reports", "models", "data/prepared") == before
    assert leftovers(project) == []


def test_a_training_goes_on_when_the_disk_has_room_again(clone):
    project = clone()
    project.order(trainer={"name": "default", "epochs": 180, "batch_size": 64})
    project.ok("python", "src/compose.py")
    project.ok(*STAGE)
    whole = project.content("models", "reports/validation.json")
    told = project.fails(*STAGE, file_kib=48)  # enough for the tensors, not for the history of all epochs
    assert "File too large" in told
    assert project.content("models", "reports/validation.json") == whole
    assert leftovers(project) == []
    state = project.progress()
    assert 50 < len(state["history"]) < 180
    for name in whole:
        (project.path / name).unlink()
    project.ok(*STAGE)
    assert project.content("models", "reports/validation.json") == whole


def test_the_package_is_installed_and_importing_it_takes_no_torch(tmp_path):
    words = [sys.executable, "-c", "import hypermap, sys; print(hypermap.__file__, 'torch' in sys.modules)"]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


@pytest.mark.parametrize("reader", ["digits", "diabetes", "table"])
def test_what_comes_before_training_takes_no_torch(clone, reader):
    """Torch takes seconds to import, and these stages do without, whatever reads the data."""
    project = clone("fresh")
    if reader == "table":
        rows = (f"{k},{'ab'[k % 2]},{k % 7},{k % 3 == 0}" for k in range(60))
        (project.path / "own.csv").write_text("\n".join(["number,letter,week,target", *rows]) + "\n")
        project.ok("python", "src/order.py", "table", "data.path=own.csv", "data.target=target", **clone.no_torch)
    else:
        project.order(data=reader)
    for stage in ("compose", "preprocess"):
        project.ok("python", f"src/{stage}.py", **clone.no_torch)
    assert (project.path / "data/prepared/manifest.json").exists()
