"""Recordings of one's own, from a folder to predictions, by the commands of a user."""

import csv

import numpy as np
import pytest
import soundfile
import torch
from scipy.stats import binom

from hypermap.data.prepared import load_raw
from support.own_audio import RATE, SPEAKERS, tone, write_recordings

DATA = ("data.path=sounds", "data.pattern='{label}_{speaker}_{number}'", f"data.rate={RATE}", "data.mels=16")
SMALL = (
    *DATA,
    "data.group=speaker",
    "evaluation.bootstrap_repeats=100",
    "trainer.batch_size=16",
    "model.channels=[4,8,8]",
)
RUN = ("python", "src/train.py", "experiment=audio", *SMALL)


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_recordings(own.path / "sounds", 8)
    write_recordings(own.path / "new", 2, seed=1)
    return own


def test_it_is_trained_evaluated_reported_on_predicted_and_exported(project):
    project.ok("python", "src/order.py", "audio", *SMALL, "trainer.epochs=30", "final=refit")
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    assert project.json("reports/test.json")["test_accuracy"] > 0.8
    report = (project.path / "reports/report.md").read_text()
    assert "those of one group or time are alike" in report
    project.ok("python", "src/predict.py", "input=new", "output=out.csv")
    with (project.path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert np.mean([row["prediction"] == row["file"].split("/")[-1].split("_")[0] for row in rows]) > 0.8
    project.ok("python", "src/export.py")
    program = torch.export.load(project.path / "exported/model.pt2").module()
    held = load_raw(project.path / "data/prepared", "validation").inputs
    assert program(held).shape == (len(held), 2)


def test_folds_are_of_whole_speakers_and_a_killed_run_goes_on(project):
    words = (*RUN, "validation=group_kfold", "validation.k=3", "trainer.epochs=2", "hydra.run.dir=outputs/folds")
    assert "mean of 3 trainings" in project.ok(*words).out
    assert "data.group" in project.fails(*RUN, "validation=kfold")
    words = (*RUN, "trainer.epochs=14", "hydra.run.dir=outputs/killed")
    project.killed(*words, epoch=3)
    project.ok(*words)
    project.ok(*words[:-1], "hydra.run.dir=outputs/whole")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_search_over_spectrograms_prunes(project):
    project.ok(
        "python", "src/train.py", "-m", "experiment=audio", *SMALL, "data.hop_ms=10,20", "optimizer.lr=0.01,1e-9",
        "data.group=null", "trainer.epochs=30", "hydra.sweeper.study_name=sounds", "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.lower=0.6", "hydra.sweeper.pruner.n_warmup_steps=27",
    )  # fmt: skip
    assert project.json("reports/studies/sounds/study.json")["trials"] == {"complete": 2, "pruned": 2}


def test_other_networks_and_what_does_not_fit(project):
    wave = (
        "augment=audio_wave",
        "data.features=waveform",
        "model=audio_wave",
        "model.channels=[4,8]",
        "trainer.epochs=1",
    )
    assert "Validation accuracy" in project.ok(*RUN[:3], *SMALL[:-1], *wave, "hydra.run.dir=outputs/wave").out
    crnn = ("model=audio_crnn", "model.channels=[4,8]", "model.units=4", "trainer.epochs=1")
    assert "Validation accuracy" in project.ok(*RUN[:3], *SMALL[:-1], *crnn, "hydra.run.dir=outputs/crnn").out
    assert "takes waveforms: data.features=waveform" in project.fails(*RUN, "model=audio_wave")
    assert "augment=audio_wave" in project.fails(*RUN[:3], *SMALL[:-1], "data.features=waveform", "model=mlp")


def test_classes_by_lot_score_at_chance(project):
    """They are the same recordings: nothing of a class reaches a row but by its target."""
    draw = np.random.default_rng(0)
    folder = project.path / "lots"
    folder.mkdir()
    labels = draw.permutation(["up", "down"] * 100)
    for number, label in enumerate(labels):
        wave = tone(number % 2 == 0, 300, seed=number, seconds=0.1)
        soundfile.write(folder / f"{label}_{SPEAKERS[number % 4]}_{number}.wav", wave, RATE)
    project.ok("python", "src/order.py", "audio", "data.path=lots", *DATA[1:], "data.test=0.5", "trainer.epochs=8")
    project.ok("dvc", "repro")
    right = round(100 * project.json("reports/test.json")["test_accuracy"])
    low, high = binom.interval(0.999, 100, 0.5)
    assert low <= right <= high
