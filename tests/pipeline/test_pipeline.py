"""The pipeline as a user runs it: dvc repro, dvc exp run and the stages' scripts, in clones."""

import csv
import json
import math
import os
import re
import signal

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STAGES = ["compose", "preprocess", "train", "baselines", "evaluate"]
TRAIN = ("python", "src/train.py", "--config", "reports/config/train.yaml")
BY_HAND = ("python", "src/train.py", "hydra.run.dir=outputs/run")
EVALUATE = ("python", "src/evaluate.py")
RESULTS = ("model.safetensors", "history.csv")


def comments(text):
    return re.findall(r"#.*", text)


# Reproducing.


def accuracy_by_hand(project):
    """Test accuracy of the trained network by numpy alone, on the rows that scikit-learn sets apart."""
    weights, data = load_file(project.path / "models/model.safetensors"), load_digits()
    assert project.yaml("reports/config/preprocess.yaml")["data"]["scaling"] == "standard"
    rest, test = train_test_split(np.arange(1797), test_size=0.2, random_state=0, stratify=data.target)
    train, _ = train_test_split(rest, test_size=0.2, random_state=0, stratify=data.target[rest])
    layers = sorted({name.rsplit(".", 1)[0] for name in weights})  # hidden.0, hidden.3, …, output
    values = (data.data[test] - data.data[train].mean()) / data.data[train].std()
    for layer in layers[:-1]:
        values = np.maximum(values @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    values = values @ weights["output.weight"].T + weights["output.bias"]
    return float(np.mean(values.argmax(1) == data.target[test]))


def test_a_fresh_clone_runs_and_a_second_time_there_is_nothing_to_do(clone):
    project = clone("fresh")
    started = {"PATH": project.variables["PATH"]}  # as everywhere but in tests, which fork
    stages = project.ok(
        "dvc", "repro", **started
    ).stages  # evaluate only where the model comes out otherwise than in dvc.lock
    assert {"preprocess", "train"} <= set(stages)
    accuracy = project.json("reports/test.json")["test_accuracy"]
    assert accuracy >= 0.965
    assert accuracy == accuracy_by_hand(project)
    changed, tracked = project.ok("git", "status", "--porcelain").out, project.tracked()
    assert "??" not in changed
    again = project.ok("dvc", "repro")
    assert again.stages == ["compose"], "which looks whether a table's files have changed"
    assert project.tracked() == tracked
    assert project.ok("git", "status", "--porcelain").out == changed


def test_a_forced_rerun_changes_no_byte(clone):
    project = clone()
    before = project.tracked()
    assert "reports/report.md" in before
    assert project.ok("dvc", "repro", "--force").stages == STAGES
    assert project.tracked() == before
    assert project.ok("git", "status", "--porcelain").out == ""


def test_folds_validate_and_the_model_of_the_holdout_is_tested(clone):
    project = clone()
    holdout, tested = project.content("models"), project.json("reports/test.json")
    trainer = {**project.yaml("params.yaml")["trainer"], "repeats": 2}
    project.order(validation={"name": "kfold", "k": 3}, trainer=trainer)
    assert project.ok("dvc", "repro").stages == ["compose", "train", "evaluate"]
    with (project.path / "models/scores.csv").open() as file:
        scores = [float(row["accuracy"]) for row in csv.DictReader(file)]
    validated = project.json("reports/validation.json")
    assert len(scores) == validated["validation_fits"] == 6
    assert validated["validation_accuracy"] == pytest.approx(np.mean(scores))
    assert validated["validation_accuracy_std"] == pytest.approx(np.std(scores, ddof=1))
    assert project.content("models").keys() == holdout.keys() | {"models/scores.csv"}
    assert all((project.path / "models" / name).read_bytes() == holdout[f"models/{name}"] for name in RESULTS)
    assert project.json("reports/test.json") == tested
    assert "kfold (k 3, stratified true, repeats 1) over 2 seeds: " in (project.path / "reports/report.md").read_text()
    project.ok(*BY_HAND)
    for name in (*RESULTS, "scores.csv"):
        assert (project.path / "outputs/run" / name).read_bytes() == (project.path / "models" / name).read_bytes()
    assert project.json("outputs/run/validation.json") == validated


def test_an_edit_reruns_what_it_touches(clone):
    project = clone()
    project.edit("conf/optimizer/rmsprop.yaml", "lr: 0.001", "lr: 0.002")
    project.append("conf/optimizer/adam.yaml", "# a remark\n")
    project.append("params.yaml", "# a remark\n")
    assert project.ok("dvc", "repro").stages == ["compose"], "a choice not in use, and comments in files that are"
    project.edit("conf/optimizer/adam.yaml", "betas: [0.9, 0.999]", "betas: [0.8, 0.99]")
    assert project.ok("dvc", "repro").stages == ["compose", "train", "evaluate"], "a choice in use"
    assert project.yaml("reports/config/train.yaml")["optimizer"]["betas"] == [0.8, 0.99]
    project.edit("conf/data/digits.yaml", "test: 0.2 ", "test: 0.3 ")
    assert project.ok("dvc", "repro").stages == STAGES, "data settings"
    assert project.json("data/prepared/manifest.json")["rows"]["test"] == math.ceil(0.3 * 1797)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_room_it_imports(clone, stage):
    dependencies = clone.fresh.yaml("dvc.yaml")["stages"][stage]["deps"]
    rooms = [path for path in dependencies if path.startswith("src/hypermap/")]
    assert f"src/{stage}.py" in dependencies
    assert all((clone.fresh.path / room).is_dir() for room in rooms), "folders, and no lists of modules"
    imported = [file for file in clone.imported(stage) if not file.endswith("__init__.py")]  # which say what is there
    assert len(imported) > 3
    assert [file for file in imported if not any(file.startswith(f"{room}/") for room in rooms)] == []
    assert [room for room in rooms if not any(file.startswith(f"{room}/") for file in imported)] == [], "never imported"


NETWORK = """
from torch import nn

import my_layers


class Net(nn.Sequential):
    def __init__(self, input_shape, outputs):
        super().__init__(nn.Flatten(), my_layers.last(64, outputs))
"""
LAYERS = "from torch import nn\n\n\ndef last(inputs, outputs):\n    return nn.Linear(inputs, outputs, bias={bias})\n"


def test_an_edit_of_a_module_of_ones_own_trains_again(clone):
    project = clone()
    (project.path / "src/my_network.py").write_text(NETWORK)
    (project.path / "src/my_layers.py").write_text(LAYERS.format(bias=True))
    (project.path / "conf/model/mine.yaml").write_text("_target_: my_network.Net\n")
    project.order(model="mine")
    assert project.ok("dvc", "repro", "train").stages == ["compose", "train"]
    assert set(project.yaml("reports/config/train.yaml")["code_sha256"]) == {"my_layers", "my_network"}
    assert project.ok("dvc", "repro", "train").stages == ["compose"]
    (project.path / "src/my_layers.py").write_text(LAYERS.format(bias=False))
    assert project.ok("dvc", "repro", "train").stages == ["compose", "train"]
    assert project.json("models/model.json")["parameters"] == 640


def test_a_script_is_not_taken_for_an_installed_package_of_its_name(clone, tmp_path):
    project = clone()
    (tmp_path / "evaluate.py").write_text("LINEAR = True\n")  # as Hugging Face's is
    (project.path / "src/my_network.py").write_text(
        "import evaluate\nfrom torch import nn\n\n\n"
        "def net(input_shape, outputs):\n"
        "    assert evaluate.LINEAR\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))\n"
    )
    (project.path / "conf/model/mine.yaml").write_text("_target_: my_network.net\n")
    words = ["python", "src/train.py", "model=mine", "trainer.epochs=1"]
    project.ok(*words, PYTHONPATH=str(tmp_path))
    project.ok(*words, "-m", "hydra.sweeper.n_trials=2", "optimizer.lr=0.1,0.2", PYTHONPATH=str(tmp_path))


# A table of one's own.


def people(rows=240, seed=0):
    """A table with a column of words, missing values, an identifier, and a target that follows from two columns."""
    draw = np.random.default_rng(seed)
    age, town = draw.integers(18, 80, rows), draw.choice(["Aarhus", "Bergen", "Cork"], rows)
    buys = (age + 20 * (town == "Cork") + draw.normal(0, 5, rows)) > 55
    lines = [
        f"{1000 + k};{'' if k % 9 == 0 else age[k]};{town[k]};{draw.normal():.3f};{'yes' if buys[k] else 'no'}"
        for k in range(rows)
    ]
    return "\n".join(["id;age;town;noise;buys", *lines]) + "\n"


TABLE = {"name": "table", "path": "people.csv", "target": "buys"}


def test_a_table_is_run_without_code_and_again_when_its_file_changes(clone):
    project = clone()
    (project.path / "people.csv").write_text(people())
    evaluation = {"bootstrap_repeats": 100, "baselines": ["dummy", "linear"], "map": "pca"}
    project.order(data="digits", model="tabular_mlp", evaluation=evaluation)
    words = ", ".join(f"{key}: {value}" for key, value in TABLE.items())
    assert project.ok("dvc", "exp", "run", "-S", f"data={{{words}}}").stages == STAGES
    report = (project.path / "reports/report.md").read_text()
    assert "## Beside other models" in report
    assert "cannot be told apart from `linear`" in report or "beats `linear`" in report or "worse than" in report
    assert "| id |  |  |  | left out: " in report
    assert project.json("reports/baselines.json").keys() == {"dummy", "linear"}
    assert project.json("reports/test.json")["test_accuracy"] > 0.7
    project.order(model="random_forest")
    stages = project.ok("dvc", "repro", "train", "baselines").stages
    assert stages == ["compose", "train"], "the baselines were fitted already"
    (project.path / "people.csv").write_text(people(seed=1))
    assert project.ok("dvc", "repro", "preprocess").stages == ["compose", "preprocess"]


# Experiments.


def shown(project):
    """What `dvc exp show` knows of each experiment: its parameters and its metrics by name."""
    found = {}
    for baseline in json.loads(project.ok("dvc", "exp", "show", "--json").out):
        for experiment in baseline["experiments"] or []:
            data = experiment["revs"][0]["data"]
            metrics = {k: v for file in data["metrics"].values() for k, v in file["data"].items()}
            found[experiment["name"]] = (data["params"]["params.yaml"]["data"], metrics)
    return found


def figures(project):
    return project.json("reports/validation.json") | project.json("reports/test.json")


def test_an_experiment_with_other_choices(clone):
    project = clone()
    before = (project.path / "params.yaml").read_text()
    words = ("dvc", "exp", "run", "-S", "model=logistic", "-S", "optimizer=sgd", "--name", "other")
    assert project.ok(*words).stages == ["compose", "train", "evaluate"]
    after = (project.path / "params.yaml").read_text()
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert changed == ["model: logistic", "optimizer: sgd"]
    assert comments(after) == comments(before)
    assert comments(before)
    sliced = project.yaml("reports/config/train.yaml")
    assert sliced["model"] == {"name": "logistic", "_target_": "hypermap.models.Logistic"}
    assert sliced["optimizer"] == {"name": "sgd"} | project.yaml("conf/optimizer/sgd.yaml")
    params, metrics = shown(project)["other"]
    assert (params["model"], params["optimizer"]) == ("logistic", "sgd")
    assert metrics == figures(project)
    assert figures(project)["test_accuracy"] == accuracy_by_hand(project)


def test_an_experiment_with_another_value_is_the_run_by_hand(clone):
    project = clone()
    project.ok(*BY_HAND, "optimizer.lr=0.03")
    before = (project.path / "params.yaml").read_text()
    assert project.ok("dvc", "exp", "run", "-S", "optimizer.lr=0.03", "train").stages == ["compose", "train"]
    assert (project.path / "params.yaml").read_text() == before.replace("lr: 0.01", "lr: 0.03")
    for name in RESULTS:
        assert (project.path / "models" / name).read_bytes() == (project.path / "outputs/run" / name).read_bytes()
    assert project.json("reports/validation.json") == project.json("outputs/run/validation.json")


def test_a_queue_of_experiments(clone):
    project = clone()
    project.ok("dvc", "exp", "run", "--queue", "-S", "optimizer.lr=0.1,0.01", "--name", "rate", "train")
    try:
        project.ok("bash", "-c", "dvc queue start -j 2 >queue.log 2>&1")  # the workers keep what they write to open
        project.until(lambda: project.ok("git", "for-each-ref", "refs/exps").out.count("/rate-") == 2, pause_s=0.5)
    finally:
        stop_queue(project)
    by_name = shown(project)
    assert {name: params["optimizer"]["lr"] for name, (params, _) in by_name.items()} == {"rate-1": 0.1, "rate-2": 0.01}
    for name, (params, metrics) in by_name.items():
        project.ok("dvc", "exp", "apply", name)
        assert metrics == figures(project)
        assert project.yaml("reports/config/train.yaml")["optimizer"]["lr"] == params["optimizer"]["lr"]
    assert by_name["rate-1"][1] != by_name["rate-2"][1]


def stop_queue(project):
    """Stop the queue's workers; their process ids stand in files."""
    project.run("dvc", "queue", "stop", "--kill")
    for file in (project.path / ".dvc/tmp/exps/celery").glob("*.pid"):
        try:
            process = int(file.read_text())
        except FileNotFoundError:
            continue
        project.until(lambda p=process: not alive(p))


def alive(process):
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc on this system
        return True


# The test rows.


def test_training_never_opens_the_test_rows(clone):
    project = clone()
    trained, reports = project.content("models", "reports/validation.json"), project.content("reports")
    (project.path / "data/prepared/test.safetensors").write_bytes(b"not for training")
    for name in trained:
        (project.path / name).unlink()
    project.ok(*TRAIN)
    assert project.content("models", "reports/validation.json") == trained
    told = project.fails(*EVALUATE)
    assert "data/prepared/test.safetensors" in told
    assert "dvc repro" in told
    assert project.content("reports") == reports


# Interruption.


LONG = {  # draws from every generator, and remembers the plateau
    "model": {"name": "mlp", "hidden": [96], "dropout": 0.2, "batch_norm": True},
    "optimizer": {"name": "adam", "lr": 0.003},
    "scheduler": {"name": "plateau", "patience": 1, "warmup_epochs": 1.5},
    "regularizer": {"name": "clip", "clip_norm": 1.0},
    "augment": "shift",
    "trainer": {"name": "default", "epochs": 40, "batch_size": 64},
}


def long_run(clone):
    project = clone()
    project.order(**LONG)
    project.ok("python", "src/compose.py")
    return project


def seconds(rows):
    return [float(row["seconds"]) for row in rows]


def finished(project):
    """The seconds of each epoch of the one run, whose folder holds nothing else any more."""
    (folder,) = (path for path in (project.path / "runs").iterdir() if (path / "history.csv").stat().st_mtime_ns > 0)
    assert {path.name for path in folder.iterdir()} == {"lock", "history.csv"}
    with (folder / "history.csv").open() as file:
        return seconds(csv.DictReader(file))


def forget_runs(project):
    for path in sorted((project.path / "runs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been(clone):
    project = long_run(clone)
    forget_runs(project)
    project.ok(*TRAIN)
    whole = project.content("models", "reports/validation.json")

    forget_runs(project)
    for name in whole:
        (project.path / name).unlink()
    states = [project.killed(*TRAIN, epoch=epoch) for epoch in (1, 20)]
    reached = [len(state["history"]) for state in states]
    assert reached == sorted(set(reached)), "each went on"
    assert not (project.path / "models/model.safetensors").exists()
    (folder,) = (project.path / "runs").iterdir()
    (folder / ".epoch-0099.safetensors.half").write_bytes(b"as a kill within a write leaves it")
    project.ok(*TRAIN)
    assert project.content("models", "reports/validation.json") == whole
    for state in states:
        assert finished(project)[: len(state["history"])] == seconds(state["history"])

    forget_runs(project)
    state = project.killed(*BY_HAND, epoch=10)
    project.ok(*BY_HAND)
    assert finished(project)[: len(state["history"])] == seconds(state["history"])
    for name in RESULTS:
        assert (project.path / "outputs/run" / name).read_bytes() == whole[f"models/{name}"]
    assert (project.path / "outputs/run/validation.json").read_bytes() == whole["reports/validation.json"]


def test_two_of_the_same_run_at_once_end_alike(clone):
    project = long_run(clone)
    forget_runs(project)
    words = ("python", "src/train.py", "trainer.epochs=15")
    first = project.start(*words, "hydra.run.dir=outputs/first")
    project.until(lambda: project.progress() or first.poll() is not None)
    first.send_signal(signal.SIGSTOP)  # until the other is on its way
    second = project.start(*words, "hydra.run.dir=outputs/second")
    project.until(lambda: any((project.path / "runs").glob("*-2")) or second.poll() is not None)
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(list((project.path / "runs").iterdir())) == 2
    for name in (*RESULTS, "validation.json"):
        one, other = ((project.path / "outputs" / folder / name).read_bytes() for folder in ("first", "second"))
        assert one == other


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(clone):
    project = clone()
    stage = {name: (project.path / "models" / name).read_bytes() for name in RESULTS}
    forget_runs(project)
    project.ok(
        "python", "src/train.py", "-m", "seed=0,1", "hydra.sweep.dir=multirun/seeds", "hydra.sweeper.report=false"
    )
    jobs = [project.path / "multirun/seeds" / job for job in "01"]
    zero, one = ({name: (job / name).read_bytes() for name in RESULTS} for job in jobs)
    assert zero == stage
    assert all(one[name] != zero[name] for name in RESULTS)
    assert project.json("multirun/seeds/0/validation.json") == project.json("reports/validation.json")
    made = yaml.safe_load((project.path / "multirun/seeds/1/model.json").read_text())["configuration"]
    assert made["seed"] == 1
