"""Files that were made before the package had rooms (2026-11), each read as it was then.

`support/before_the_rooms.zip` has models of a network, of scikit-learn and of a table, a study of three trials that
`src/train.py` searched, with its copy of conf/, and an exported network.
"""

import csv
import json
import zipfile

import numpy as np
import pytest
import torch

from hypermap.core.instantiate import locate
from hypermap.core.moved import MOVED
from hypermap.core.paths import ROOT
from hypermap.training.artifacts import read_trained

ARCHIVE = ROOT / "tests/support/before_the_rooms.zip"


@pytest.fixture
def before(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def project_of_before(clone):
    """A clone with the files of before in it."""
    project = clone()
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(project.path)
    for name in ("studies/before/study.json", "studies/before/journal.log"):
        path = project.path / name
        path.write_text(path.read_text().replace("/project", str(project.path)))
    return project


@pytest.mark.parametrize("name", ["network", "sklearn", "table"])
def test_a_model_of_before_predicts(before, name):
    trained = read_trained(before / "models" / name)
    manifest = trained.transform.manifest
    rows = torch.zeros(3, *(manifest.shape if manifest.roles is None else [len(manifest.roles)]), dtype=torch.float64)
    probabilities = trained.predict(rows)
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_a_model_of_before_predicts_a_file(clone):
    project = project_of_before(clone)
    project.ok("python", "src/predict.py", "model=models/table", "input=table.csv", "output=told.csv")
    with (project.path / "told.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 120


def test_an_exported_network_of_before_runs(before):
    program = torch.export.load(before / "exported/model.pt2").module()
    about = json.loads((before / "exported/program.json").read_text())
    assert program(torch.zeros(2, *about["input"]["shape"][1:])).shape[0] == 2


def test_a_study_of_before_is_reported_promoted_and_confirmed(clone):
    project = project_of_before(clone)
    assert "Report: " in project.ok("python", "src/report.py", "study=before").out
    assert "# before" in (project.path / "reports/studies/before/report.md").read_text()
    project.ok("python", "src/promote.py", "before", "2")
    assert project.yaml("params.yaml")["optimizer"]["lr"] == pytest.approx(0.0378, abs=0.1)
    out = project.ok("python", "src/confirm.py", "before", "best=1", "seeds=1").out
    assert "before" in out


def test_a_study_of_before_goes_on_though_its_code_is_another(clone):
    project = project_of_before(clone)
    words = ["data=breast_cancer", "model.hidden=[4]", "loss=auto", "trainer.epochs=2", "hydra.sweeper.n_trials=4"]
    words += ["optimizer.lr=tag(log,interval(0.001,0.1))", "hydra/sweeper/sampler=quasi_random"]
    command = ["python", "src/train.py", "-m", *words, "hydra.sweeper.study_name=before"]
    told = project.fails(*command)
    assert "code: src/ was" in told
    assert told.count(" and is ") == 1, "that modules have moved is no difference"
    assert "4 trials" in project.ok(*command, "hydra.sweeper.resume=force").out


def test_each_path_of_before_leads_somewhere():
    names = {
        "hypermap.augment": "Augment",
        "hypermap.data.sources": "digits",
        "hypermap.families": "RandomForest",
        "hypermap.losses": "Auto",
        "hypermap.regularizers": "Regularizer",
        "hypermap.schedules": "OneCycle",
        "hypermap.search.mapping": "mapping",
        "hypermap.search.mapped": "Mapped",
        "hypermap.search.numbered": "QuasiRandom",
        "hypermap.member": "Settings",
        "hypermap.tables.source": "table",
        "hypermap.validation": "KFold",
    }
    assert {*names} <= {*MOVED}
    assert {old.rpartition(".")[0] for old in MOVED if old.rpartition(".")[2].istitle()} <= {*names}
    for module, name in names.items():
        assert callable(locate(f"{module}.{name}"))
