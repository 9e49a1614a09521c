"""The same sweep on every launcher: this machine, Ray, Slurm; stopped, preempted, refused."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from omegaconf import OmegaConf

from hypermap.core.errors import UserError
from hypermap.search.storage import open_storage
from hypermap.sweeps import launchers
from hypermap.sweeps.launchers import RAY as RAY_LAUNCHER
from hypermap.sweeps.launchers import SLURM as SLURM_LAUNCHER
from support import postgres, slurm
from support.ray_cluster import SMALL, VARIABLES, ray_cluster
from support.studies import wait_for_steps

# A Hydra application that needs a module beside it, reports each step, and goes on from the step in its folder.
TASK = """
import os, time

import hydra

from beside import loss
from hypermap.search.trial import current


def task(config):
    trial = current()
    state = trial.folder / "state" / "step"
    done = int(state.read_text()) if state.exists() else 0
    for step in range(done + 1, config.steps + 1):
        time.sleep(0.2 * os.path.exists("slow"))
        with open("steps.txt", "a") as file:
            file.write(f"{trial.number} {step} {os.getpid()}\\n")
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(str(step))
        trial.report(step, loss(config.x) + 1 / step)
    return loss(config.x)


if __name__ == "__main__":
    hydra.main(config_path="conf", config_name="config")(task)()
"""
BESIDE = "def loss(x):\n    return (x - 0.3) ** 2\n"
DIES = """
import os

if "SUBMITIT_EXECUTOR" in os.environ:
    print("the licence has expired", flush=True)
    os._exit(3)
"""
CONFIG = {
    "defaults": [{"override hydra/sweeper": "hypermap"}, "_self_"],
    "x": 0.0, "steps": 3,
    "hydra": {"sweep": {"dir": "sweep"}, "sweeper": {"study_name": "study", "seed": 1}},
}  # fmt: skip
WORDS = [
    "x=interval(-1.0,1.0)",
    "hydra/sweeper/sampler=random",
    "hydra/sweeper/pruner=none",
    "hydra.sweeper.n_trials=4",
]
LOCAL = ["hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.sweeper.n_jobs=2", "hydra.launcher.timeout_min=30"]
RAY = ["hydra/launcher=ray", "hydra.sweeper.n_jobs=2"]

needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="needs submitit (make EXTRAS=slurm)")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray (make EXTRAS=ray)")
no_slurm, no_postgres = slurm.why_not(), postgres.why_not()
needs_slurm = pytest.mark.skipif(no_slurm is not None, reason=str(no_slurm))
needs_postgres = pytest.mark.skipif(no_postgres is not None, reason=str(no_postgres))


class App:
    """The application in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "conf").mkdir(parents=True)
        self.configure()
        (folder / "task.py").write_text(TASK)
        (folder / "beside.py").write_text(BESIDE)

    def configure(self, **changes) -> None:
        (self.folder / "conf/config.yaml").write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "task.py", "-m", *WORDS, *words],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | VARIABLES | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0, **variables: str) -> str:
        process = self.start(*words, **variables)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == code, out
        return out

    def steps(self) -> list[tuple[int, int, int]]:
        """The steps in their order: a trial's number, the step, and its process."""
        path = self.folder / "steps.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(number), int(step), int(pid)) for number, step, pid in map(str.split, lines)]

    def has_stepped(self, process: subprocess.Popen[str], count: int) -> None:
        """Wait until so many steps were taken in all."""
        wait_for_steps(self.steps, process, count)

    def trials(self, storage: str | None = None) -> list[optuna.trial.FrozenTrial]:
        opened = open_storage(storage or str(self.folder / "sweep/journal.log"))
        return optuna.load_study(study_name="study", storage=opened).trials


@pytest.fixture
def app(tmp_path):
    return App(tmp_path / "app")


def squeue(variables, form):
    """The jobs in Slurm's queue."""
    words = ["squeue", "--noheader", f"--format={form}", "--states=PENDING,RUNNING"]
    shown = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()


def results(trials):
    return [(trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values) for trial in trials]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The results of one worker in the command's own process."""
    usual = App(tmp_path_factory.mktemp("usual") / "app")
    usual.run()
    return results(usual.trials())


@pytest.mark.parametrize(
    ("name", "launcher", "told"),
    [
        (
            "ray",
            {"_target_": f"{RAY_LAUNCHER}.ray_launcher.RayLauncher"},
            "is not installed. Install it: make EXTRAS=ray",
        ),
        ("submitit_slurm", {"_target_": SLURM_LAUNCHER}, "needs Slurm's sbatch, which is not on this machine's PATH"),
        ("mine", {"partition": "gpu"}, "has no _target_, so it is no launcher. There are: basic, joblib, ray"),
    ],
)
def test_a_launcher_that_cannot_be_used_is_one_message(monkeypatch, name, launcher, told):
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda module: None if "ray" in module else module)
    monkeypatch.setenv("PATH", "")
    hydra = {"launcher": launcher, "runtime": {"choices": {"hydra/launcher": name}}}
    with (
        pytest.raises(UserError, match=re.escape(f"hydra/launcher={name} {told}")),
        launchers.connected(OmegaConf.create({"hydra": hydra})),
    ):
        pass


@needs_submitit
def test_the_others_do_what_a_lost_job_leaves(app, expected):
    (app.folder / "slow").touch()
    process = app.start(*LOCAL)
    app.has_stepped(process, 2)
    os.kill(app.steps()[0][2], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "ended without a result" in out
    assert [trial.params for trial in app.trials()] == [params for _, _, params, *_ in expected]
    assert {trial.state.name for trial in app.trials()} == {"COMPLETE"}


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """With which the programs of a Slurm of two nodes find it."""
    with slurm.slurm(tmp_path_factory.mktemp("slurm") / "slurm") as found:
        yield found


@needs_submitit
def test_jobs_of_submitit_do_what_one_worker_does(app, expected):
    app.run(*LOCAL)
    assert results(app.trials()) == expected


@needs_postgres
@needs_submitit
def test_jobs_that_share_a_database_do_what_one_worker_does(app, expected):
    with postgres.postgres() as url:
        app.run(*LOCAL, f"hydra.sweeper.storage='{url}'")
        assert results(app.trials(url)) == expected


@needs_submitit
def test_a_launcher_that_a_config_file_names_is_used(app, expected):
    app.configure(
        defaults=[{"override hydra/sweeper": "hypermap"}, {"override hydra/launcher": "submitit_local"}, "_self_"]
    )
    app.run("hydra.sweeper.n_jobs=2")
    assert results(app.trials()) == expected
    assert len(list((app.folder / "sweep/.submitit").glob("*/*_result.pkl"))) == 2


@needs_submitit
def test_a_preempted_job_finishes_its_step_and_its_trial_goes_on_when_it_is_requeued(app, expected):
    (app.folder / "slow").touch()
    process = app.start("hydra/launcher=submitit_local")
    app.has_stepped(process, 2)
    os.kill(app.steps()[0][2], signal.SIGUSR2)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert results(app.trials()) == expected
    assert len(app.steps()) == 4 * 3
    assert len({pid for _, _, pid in app.steps()}) == 2


@needs_submitit
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_reaches_the_jobs(app, expected, by):
    (app.folder / "slow").touch()
    process = app.start(*LOCAL)
    app.has_stepped(process, 2)
    if by == signal.SIGINT:  # as a terminal does
        os.killpg(process.pid, by)
    else:
        process.send_signal(by)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + by, out
    assert "Stopping after the running epochs" in out
    assert not psutil.pid_exists(app.steps()[0][2])
    (app.folder / "slow").unlink()
    app.run(*LOCAL)
    assert results(app.trials()) == expected
    assert len(app.steps()) == 4 * 3


@needs_submitit
def test_a_job_that_dies_is_told_with_its_log(app):
    (app.folder / "beside.py").write_text(BESIDE + DIES)
    out = app.run(*LOCAL, code=1)
    assert "ended without a result. The end of its log" in out
    assert "the licence has expired" in out


@needs_slurm
@needs_submitit
class TestSlurm:
    def test_an_array_of_jobs_does_what_one_worker_does(self, app, expected, variables):
        app.run(*SLURM, **variables)
        assert results(app.trials()) == expected

    def test_a_preempted_job_is_requeued(self, app, variables):
        (app.folder / "slow").touch()
        process = app.start("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30", **variables)
        app.has_stepped(process, 2)
        (job,) = squeue(variables, "%i")
        subprocess.run(["scancel", "--signal=USR2", job], env=os.environ | variables, check=True)
        end = time.monotonic() + 30
        while squeue(variables, "%i %T %R") != [
            f"{job} PENDING (BeginTime)"
        ]:  # Slurm lets a requeued job wait for two minutes
            assert time.monotonic() < end, squeue(variables, "%T %R")
            time.sleep(0.1)
        before = len(app.steps())
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130, out
        assert squeue(variables, "%i") == []
        assert [(trial.state.name, trial.last_step) for trial in app.trials()][-1] == ("RUNNING", app.steps()[-1][1])
        assert len(app.steps()) == before

    def test_a_refusal_is_one_message(self, app, variables):
        out = app.run(*SLURM, "hydra.launcher.partition=gpus", code=1, **variables)
        assert "Slurm refuses the workers: invalid partition specified: gpus" in out

    def test_a_request_to_stop_cancels_jobs_that_wait(self, app, variables):
        (app.folder / "slow").touch()
        process = app.start(*SLURM, "hydra.sweeper.n_jobs=3", **variables)
        app.has_stepped(process, 1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130, out
        waiting = subprocess.run(
            ["squeue", "-h"], env=os.environ | variables, capture_output=True, text=True, check=True
        )
        assert "PD" not in waiting.stdout


def pid_of(node):
    """The process of a node of Ray."""
    return node.all_processes["raylet"][0].process.pid


@needs_ray
class TestRay:
    def test_tasks_on_nodes_that_were_started_elsewhere_do_what_one_worker_does(self, app, expected, tmp_path):
        with ray_cluster(tmp_path / "elsewhere") as cluster:
            app.run(*RAY, f"hydra.launcher.ray.init.address={cluster.address}")
        assert results(app.trials()) == expected
        assert not any((tmp_path / "elsewhere").iterdir())

    def test_a_worker_whose_node_dies_is_started_again(self, app, expected, tmp_path):
        (app.folder / "slow").touch()
        with ray_cluster(tmp_path / "elsewhere") as cluster:
            words = [f"hydra.launcher.ray.init.address={cluster.address}", "+hydra.launcher.ray.remote.max_retries=-1"]
            process = app.start("hydra/launcher=ray", *words)
            app.has_stepped(process, 2)
            used = psutil.Process(app.steps()[0][2]).parent().pid
            (node,) = [node for node in cluster.worker_nodes if pid_of(node) == used]
            cluster.remove_node(node, allow_graceful=False)
            out, _ = process.communicate(timeout=100)
        assert process.returncode == 0, out
        assert results(app.trials()) == expected
        assert len({pid for _, _, pid in app.steps()}) == 2

    def test_a_request_to_end_stops_the_workers(self, app, expected):
        local = [f"+hydra.launcher.ray.init.{key}={value}" for key, value in SMALL.items()]
        (app.folder / "slow").touch()
        process = app.start(*RAY, *local)
        app.has_stepped(process, 2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 143, out
        assert "Stopping after the running epochs" in out
        app.run()
        assert results(app.trials()) == expected
        assert len(app.steps()) == 4 * 3

    def test_a_worker_that_fits_on_no_node_is_refused(self, app):
        local = [f"+hydra.launcher.ray.init.{key}={value}" for key, value in SMALL.items()]
        out = app.run(*RAY, *local, "+hydra.launcher.ray.remote.num_gpus=99", code=1)
        assert "hydra.launcher.ray.remote: a worker needs CPU 1, GPU 99, and no node has that" in out
        assert "Lower hydra.launcher.ray.remote.num_cpus or num_gpus." in out
