"""make order EXPERIMENT=NAME: params.yaml names an experiment, and stays a file that a person wrote."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ORDER = ("python", "src/order.py")
EXPERIMENTS = sorted(p.stem for p in (Path(__file__).resolve().parents[1] / "conf" / "experiment").glob("*.yaml"))

pytestmark = pytest.mark.concurrent

COMMENTED = """\
# at the top
experiment: null  # beside the experiment
data: {name: digits, split_seed: 0}  # beside the data
# above the model
model:
  name: mlp
  hidden: [16]  # beside a value that goes
optimizer: adam # beside the optimizer
trainer: {name: default, epochs: 3}
seed: 4

# before the evaluation
evaluation: {confidence: 0.9}  # beside the evaluation
# at the end
"""


def test_experiments_are_found(clone):
    assert len(EXPERIMENTS) >= 3
    assert clone.shared.fails(*ORDER).splitlines()[0].endswith(f"There are: {', '.join(EXPERIMENTS)}.")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_compose_stage_gives_the_experiment_that_was_ordered(clone, experiment):
    project = clone()
    before = (project.path / "params.yaml").read_text()
    project.ok(*ORDER, experiment)
    after = (project.path / "params.yaml").read_text()
    assert re.findall("#.*", after) == re.findall("#.*", before)
    assert yaml.safe_load(after)["experiment"] == experiment
    assert project.ok("dvc", "repro", "compose").stages == ["compose"]
    assert project.yaml("reports/config/evaluate.yaml")["experiment"] == experiment
    slices = project.yaml("reports/config/train.yaml") | project.yaml("reports/config/preprocess.yaml")
    body = project.yaml(f"conf/experiment/{experiment}.yaml")
    choices = {k.split("/")[-1]: v for entry in body["defaults"] if entry != "_self_" for k, v in entry.items()}
    assert len(choices) >= 3
    for group, choice in choices.items():
        expected = project.yaml(f"conf/{group}/{choice}.yaml") | body.get(group, {})
        assert slices[group] == {"name": choice} | expected
    assert slices["trainer"]["epochs"] == body["trainer"]["epochs"]
    project.ok(*ORDER, experiment)
    assert (project.path / "params.yaml").read_text() == after, "a second time changes nothing"


def test_comments_stay_where_they_are(clone):
    project = clone()
    (project.path / "params.yaml").write_text(COMMENTED)
    project.ok(*ORDER, "mnist_mlp")
    text = (project.path / "params.yaml").read_text()
    lines = {line.split(":")[0]: line for line in text.splitlines() if ":" in line}
    for word in ("experiment", "data", "evaluation"):
        assert lines[word].endswith(f"# beside the {word}")
    assert re.match("# at the top\nexperiment: mnist_mlp +# beside", text)
    assert "# above the model\nmodel: {name: mlp, hidden: [128], dropout: 0.2}\n" in text
    assert re.findall("# .*", text) == [c for c in re.findall("# .*", COMMENTED) if "a value that goes" not in c]
    order = yaml.safe_load(text)
    assert order["evaluation"] == {"confidence": 0.9}, "what no experiment says stays"
    assert list(order)[:5] == ["experiment", "data", "model", "optimizer", "trainer"]


def test_make_order(clone):
    project = clone()
    environment = project.path / "environment"  # in place of one that make would take minutes to install
    environment.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "installed":
            (environment / entry.name).symlink_to(entry)
    (environment / "installed").touch()
    words = ("make", "VENV=environment", "order")
    assert "Next: dvc repro" in project.ok(*words, "EXPERIMENT=mnist_cnn").out
    assert project.yaml("params.yaml")["experiment"] == "mnist_cnn"
    outcome = project.run(*words)
    assert outcome.code != 0
    assert "name an experiment: make order EXPERIMENT=NAME" in outcome.err


def test_a_choice_that_contradicts_the_experiment_is_an_error_that_says_so(clone):
    project = clone()
    project.ok(*ORDER, "mnist_mlp")
    slices = project.content("reports/config")
    project.order(model="cnn")
    outcome = project.run("dvc", "repro")
    assert outcome.code != 0
    assert "names experiment mnist_mlp, whose model is 'mlp', and orders model 'cnn'" in outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert outcome.stages == ["compose"]
    assert project.content("reports/config") in ({}, slices), "DVC removes a stage's outputs before it runs it"
    project.order(experiment=None)
    assert project.ok("dvc", "repro", "compose").stages == ["compose"]
    assert project.yaml("reports/config/train.yaml")["model"]["name"] == "cnn"


@pytest.mark.parametrize(
    ("words", "text", "told"),
    [
        (("mnist_mpl",), None, "experiment has no choice 'mnist_mpl' (did you mean 'mnist_mlp'"),
        (("",), None, "name an experiment"),
        (("mnist_mlp", "mnist_cnn"), None, "name an experiment"),
        (("mnist_mlp",), "data: [", "params.yaml is not readable YAML"),
        (("mnist_mlp",), "optimizr: adam\n", "did you mean 'optimizer'"),
    ],
)
def test_a_mistake_leaves_the_order_as_it_was(clone, words, text, told):
    project = clone()
    if text is not None:
        (project.path / "params.yaml").write_text(text)
    before = (project.path / "params.yaml").read_bytes()
    assert told in project.fails(*ORDER, *words)
    assert (project.path / "params.yaml").read_bytes() == before


def test_a_full_disk_leaves_the_order_as_it_was(clone):
    project = clone()
    before = project.tracked()
    assert "File too large" in project.fails(*ORDER, "mnist_mlp", file_kib=0)
    assert project.tracked() == before
    assert project.ok("git", "status", "--porcelain").out == ""
