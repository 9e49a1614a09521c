"""Commands whose trainings run on several processes."""

import re

import pytest

SMALL = ("data=digits", "model.hidden=[16]", "trainer.processes=2")


@pytest.fixture(scope="module")
def project(clone):
    return clone()


def test_torchrun(project):
    """Its processes are those of one training, and what only one is to do is done once."""
    with project.start(
        *(
            "torchrun",
            "--standalone",
            "--nproc-per-node=2",
            "src/train.py",
            *SMALL,
            "trainer.epochs=3",
            "hydra.run.dir=out",
        ),
        OMP_NUM_THREADS="1",
    ) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(re.findall("Validation accuracy", out)) == 1
    assert len((project.path / "out/history.csv").read_text().splitlines()) == 4
    alone = project.ok(
        "python", "src/train.py", *SMALL, "trainer.epochs=3", "trainer.processes=1", "hydra.run.dir=alone"
    )
    assert re.findall(r"accuracy 0\.\d+", alone.out) == re.findall(r"accuracy 0\.\d+", out)


def test_a_sweep_of_two_workers_that_prunes(project):
    with project.start(
        *("python", "src/train.py", "-m", *SMALL, "trainer.epochs=3", "optimizer.lr=0.01,1e-7"),
        *("hydra.sweeper.study_name=shared", "hydra.sweeper.n_jobs=2", "hydra.sweeper.stack=2"),
        *("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.4"),
        OMP_NUM_THREADS="1",
    ) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "1 complete, 1 pruned" in out
    assert "trains by itself, as others may: each of its steps is taken by trainer.processes=2" in out
    assert list((project.path / "studies/shared").glob("*/model.safetensors"))


def test_no_two_workers_on_one_gpu(project, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-made-up\n")
    program.chmod(0o755)
    words = ("python", "src/train.py", "-m", "optimizer.lr=0.1,0.01", "hydra.sweeper.n_jobs=2")
    process = project.start(*words, PATH=f"{tmp_path}:{project.variables['PATH']}")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Error: hydra.sweeper.n_jobs is 2, each worker has 1 of the 1 GPU here: set hydra.sweeper.n_jobs=1" in err
