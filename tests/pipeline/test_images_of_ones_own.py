"""Images of one's own, from a folder to predictions, by the commands of a user."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from support.own_images import write_digits


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_digits(own.path / "digits", range(700))
    write_digits(own.path / "new", range(700, 800))
    return own


def test_a_folder_is_trained_on_and_another_predicted(project):
    words = ["experiment=images", "data.path=digits", "data.size=8", "trainer.epochs=12"]
    told = project.ok("python", "src/order.py", "images", *words[1:]).out
    assert "params.yaml now" in told
    project.ok("dvc", "repro")
    assert project.json("reports/test.json")["test_accuracy"] > 0.9
    assert (project.path / "reports/pictures/predictions.png").exists()
    project.ok("python", "src/predict.py", "input=new", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    right = [row["prediction"] == row["file"].split("/")[-2] for row in rows]
    assert np.mean(right) > 0.9
    project.ok("python", "src/predict.py", f"input={rows[0]['file']}", "output=one.csv")
    with (project.path / "one.csv").open() as file:
        (one,) = csv.DictReader(file)
    assert one["prediction"] == rows[0]["prediction"]


def test_an_image_that_changes_is_prepared_again(project):
    Image.fromarray(load_digits().images[5].astype(np.uint8)).save(project.path / "digits/0/new.png")
    assert project.ok("dvc", "repro", "preprocess").stages == ["compose", "preprocess"]
    (project.path / "digits/0/new.png").write_bytes(b"")
    assert "new.png (empty)" in project.run("dvc", "repro", "preprocess").err
