"""Launches a sweep's workers with any of Hydra's launchers, and waits for them: on joblib, Ray, Slurm or others.

The launchers of Ray and submitit pass on whatever their cluster raises, and stop waiting at the first worker that
fails. Here a failed worker is an outcome like the others', and every error one message.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hypermap.core.errors import UserError

JOBLIB, LOKY = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", (None, "loky")
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
RAY, SUBMITIT = "hydra_plugins.hydra_ray_launcher", "hydra_plugins.hydra_submitit_launcher"
SLURM = f"{SUBMITIT}.submitit_launcher.SlurmLauncher"
EXTRAS = {RAY: "ray", SUBMITIT: "slurm"}  # of pyproject.toml, which install the launchers
LAUNCHERS = "basic, joblib, ray, submitit_local, submitit_slurm"
POLL_S = 0.5  # how often a job's result is looked for
ASK_S = 5.0  # how often Slurm is asked about a job
LATE_S = 15.0  # how long the result of a job that has ended elsewhere may take to appear in a shared folder
REACH_S = 5.0  # how long a Ray cluster may take to answer; Ray itself tries for three minutes
LEAVE_S = 60.0  # how long the other workers on Ray may take to stop after one has failed
# The states in which a job is no more to be waited for.
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


class LostWorker(UserError):  # noqa: N818
    """A worker ended without a result, or before its work was done; the others may have done it."""


def is_local(config: DictConfig) -> bool:
    """Return whether the workers are processes of this machine, of which no launcher says what GPU each has."""
    return config.hydra.launcher._target_ in (BASIC, JOBLIB)


def is_supervised(config: DictConfig) -> bool:
    """Return whether the workers are processes of joblib, which may each watch a child that trains."""
    launcher = config.hydra.launcher
    return bool(launcher._target_ == JOBLIB and launcher.get("backend") in LOKY)


def launch(
    context: HydraContext, worker: TaskFunction, config: DictConfig, jobs: Sequence[Sequence[str]], stop_file: Path
) -> Sequence[JobReturn]:
    """Launch one worker per job, wait for them and return how each ended.

    Args:
        context: of Hydra.
        worker: what each job calls.
        config: with the launcher's settings.
        jobs: the overrides of each.
        stop_file: its existence tells all workers to stop.

    Raises:
        UserError: the cluster does not take the workers.
        KeyboardInterrupt: a user asked to stop at once.
    """
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=worker, config=config)
    target = str(config.hydra.launcher._target_)
    if target.startswith(SUBMITIT):
        return _on_submitit(launcher, target, jobs, stop_file)
    if target.startswith(RAY):
        return _on_ray(launcher, jobs, stop_file)
    returns: Sequence[JobReturn] = launcher.launch(jobs, initial_job_idx=0)
    return returns


@contextmanager
def connected(config: DictConfig) -> Iterator[None]:
    """Check that the launcher can be used, and connect to Ray's cluster: it sets handlers of signals.

    Raises:
        UserError: the launcher is not installed, its cluster is not reachable, or it is none.
    """
    launcher = config.hydra.launcher
    target = str(launcher.get("_target_"))
    name = config.hydra.runtime.choices.get("hydra/launcher")
    module = ".".join(target.split(".")[:2])
    if module in EXTRAS and importlib.util.find_spec(module) is None:
        raise UserError(f"hydra/launcher={name} is not installed. Install it: make EXTRAS={EXTRAS[module]}")
    if "." not in target:
        raise UserError(f"hydra/launcher={name} has no _target_, so it is no launcher. There are: {LAUNCHERS}.")
    if target == SLURM and (missing := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]):
        raise UserError(
            f"hydra/launcher={name} needs Slurm's {missing[0]}, which is not on this machine's PATH. Give the command "
            "on a login node of the cluster, or choose hydra/launcher=submitit_local"
        )
    if module == RAY:
        settings: Any = OmegaConf.to_container(launcher.ray, resolve=True)
        _connect(settings["init"])
        _check_resources(settings.get("remote") or {}, _address(settings["init"]))
    yield


def _connect(settings: Any) -> None:
    """Start or join a Ray cluster.

    Raises:
        UserError: there is none at the address.
    """
    import ray

    if ray.is_initialized():
        return
    before = signal.getsignal(signal.SIGTERM)
    address = _address(settings)
    host, _, port = str(address).rpartition("://")[2].rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host, int(port)), REACH_S).close()
        ray.init(**settings)
    except (TypeError, ValueError, OSError, RuntimeError) as error:  # ConnectionError is an OSError
        place = f"No Ray cluster at hydra.launcher.ray.init.address={address}" if address else "Ray does not start"
        raise UserError(
            f"{place} ({_first_line(error)}). Start one (ray start --head), give the address of one, or leave "
            "hydra.launcher.ray.init.address out to have one on this machine."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _address(settings: Any) -> str | None:
    return settings.get("address") or os.environ.get("RAY_ADDRESS")


def _check_resources(remote: Any, address: str | None) -> None:
    """Check that a node has what a worker needs: Ray would wait for one without a word.

    Raises:
        UserError: none has, and as this machine is the whole cluster, none will.
    """
    import ray

    wanted = {"CPU": remote.get("num_cpus", 1), "GPU": remote.get("num_gpus", 0), **(remote.get("resources") or {})}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= (amount or 0) for name, amount in wanted.items()) for node in nodes):
        return
    needs = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items() if amount)
    have = "; ".join(", ".join(f"{name} {node.get(name, 0):g}" for name in wanted) for node in nodes)
    said = f"hydra.launcher.ray.remote: a worker needs {needs}, and no node has that (there are: {have})."
    if address is None:
        raise UserError(f"{said} Lower hydra.launcher.ray.remote.num_cpus or num_gpus.")
    print(f"{said} The workers wait until such a node joins the cluster.", flush=True)


def _on_ray(launcher: Any, jobs: Sequence[Sequence[str]], stop_file: Path) -> Sequence[JobReturn]:
    """Launch workers as tasks of Ray; if one fails, tell the others to stop and wait for them.

    Raises:
        UserError: a worker ended without a result, or the cluster is gone.
    """
    import ray
    from hydra_plugins.hydra_ray_launcher import _core

    tasks: list[Any] = []
    original = _core.launch_job_on_ray

    def start(*settings: Any) -> Any:
        tasks.append(original(*settings))
        return tasks[-1]

    try:
        with patch.object(_core, "launch_job_on_ray", start):
            returns: Sequence[JobReturn] = launcher.launch(jobs, initial_job_idx=0)
            return returns
    except (ray.exceptions.RayError, TypeError, ValueError) as error:
        stop_file.touch()
        with suppress(ray.exceptions.RayError):
            ray.wait(tasks, num_returns=len(tasks), timeout=LEAVE_S)
        if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, UserError):
            raise error.cause from None
        if not tasks:
            raise UserError(f"hydra.launcher.ray.remote: {_first_line(error)}") from error
        raise UserError(
            f"A worker on Ray ended without a result ({_first_line(error)}), and the others were stopped. Run the same "
            "command to resume; with hydra.launcher.ray.remote.max_retries=-1 lost workers are started again."
        ) from error


def _on_submitit(launcher: Any, target: str, jobs: Sequence[Sequence[str]], stop_file: Path) -> Sequence[JobReturn]:
    """Launch workers as jobs of submitit.

    Raises:
        UserError: Slurm refuses them, or a setting is wrong.
        KeyboardInterrupt: a user asked to stop at once; the jobs are cancelled.
    """
    import submitit

    started: list[_Job] = []
    on_slurm = target == SLURM
    submit = submitit.AutoExecutor.map_array

    def start(executor: Any, *settings: Any) -> list[_Job]:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # children inherit this: a Ctrl-C is the command's alone
        try:
            for job in submit(executor, *settings):
                started.append(_Job(job, stop_file, _SlurmQueue(started) if on_slurm else _Processes(started)))
        finally:
            signal.signal(signal.SIGINT, before)
        return started

    try:
        with patch.object(submitit.AutoExecutor, "map_array", start):
            returns: Sequence[JobReturn] = launcher.launch(jobs, initial_job_idx=0)
            return returns
    except KeyboardInterrupt:
        if started:
            started[0].queue.cancel()
        raise
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(
            f"Slurm refuses the workers: {_refusal(error)}. Change that setting, as in hydra.launcher.partition=NAME; "
            "all are in conf/hydra/launcher/submitit_slurm.yaml, and sinfo shows the partitions and their limits."
        ) from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"hydra.launcher: {_first_line(error)}") from error


class _Job:
    """A job of submitit, whose end is an outcome in any case."""

    def __init__(self, job: Any, stop_file: Path, queue: Any) -> None:
        self.job = job
        self.stop_file = stop_file
        self.queue = queue

    def results(self) -> list[JobReturn]:
        """Wait for the job, and return its result; if it has none, an error that says why."""
        result: Path = self.job.paths.result_pickle
        asked, ended = time.monotonic(), None
        while not result.exists():
            now = time.monotonic()
            if self.stop_file.exists():
                self.queue.drop_waiting()
            if ended is None and now - asked >= self.queue.ask_s:
                asked = now
                ended = now if self.queue.has_ended(self.job) else None
            if ended is not None and (now - ended > self.queue.late_s or self.stop_file.exists()):
                if self.stop_file.exists():
                    return [JobReturn(status=JobStatus.COMPLETED)]
                return [_lost(self._message("ended without a result"))]
            time.sleep(POLL_S)
            with suppress(OSError):  # a shared folder shows new files sooner
                os.utime(result.parent)
        outcome, value = self.job._get_outcome_and_result()
        if outcome == "error":
            return [_lost(self._message(f"failed: {str(value).strip().splitlines()[-1]}"))]
        assert isinstance(value, JobReturn)
        if type(value._return_value).__name__ == "UncompletedJobError":
            return [_lost(self._message(_not_requeued(value._return_value)))]
        return [value]

    def _message(self, what: str) -> str:
        """Return a message with the last lines of the job's log, and its path."""
        log = next((path for path in (self.job.paths.stderr, self.job.paths.stdout) if _has_text(path)), None)
        if log is None:
            return f"The worker {self.job.job_id} {what}; it wrote no log into {self.job.paths.folder}."
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        return "\n         ".join([f"The worker {self.job.job_id} {what}. The end of its log, {log}:", *lines])


class _Processes:
    """The jobs of submitit on this machine."""

    ask_s, late_s = POLL_S, POLL_S

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self.jobs = jobs

    def has_ended(self, job: Any) -> bool:
        """Return whether the job's process has."""
        return bool(job.done())

    def drop_waiting(self) -> None:
        """There are none."""

    def cancel(self) -> None:
        """Stop all at once: the second request to a worker does."""
        for _ in range(2):
            for job in self.jobs:
                with suppress(ProcessLookupError):
                    job.job._process.terminate()
            time.sleep(0.2)


class _SlurmQueue:
    """The jobs in Slurm's queue, which is asked itself: its accounting, which submitit asks, may not be there."""

    ask_s, late_s = ASK_S, LATE_S

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self.jobs = jobs

    def has_ended(self, job: Any) -> bool:
        """Return whether the job is neither waiting nor running, nor to be requeued."""
        shown = _slurm("squeue", "--noheader", "--format=%T", f"--jobs={job.job_id}")
        if shown.returncode:  # of one that ended some time ago, nothing is known
            return "Invalid job id" in shown.stderr
        return set(shown.stdout.split()) <= ENDED

    def drop_waiting(self) -> None:
        """Cancel those that have not begun."""
        _slurm("scancel", "--state=PENDING", *self._ids())

    def cancel(self) -> None:
        """Cancel all: Slurm asks them to stop, and kills them half a minute later."""
        _slurm("scancel", *self._ids())

    def _ids(self) -> list[str]:
        return [job.job.job_id for job in self.jobs]


def _slurm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _lost(message: str) -> JobReturn:
    return JobReturn(overrides=[], status=JobStatus.FAILED, _return_value=LostWorker(message))


def _not_requeued(error: Any) -> str:
    if "timed-out" in str(error):
        return (
            "reached its time limit (hydra.launcher.timeout_min) and was not started again: "
            "hydra.launcher.max_num_timeout says how often it may be. Run the same command to resume"
        )
    return f"was preempted and not requeued ({_first_line(error)}). Run the same command to resume"


def _has_text(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _refusal(error: Exception) -> str:
    """Return what sbatch complains about."""
    complaints = [line.partition("error:")[2].strip() for line in str(error).splitlines() if "error:" in line]
    return "; ".join(complaints) or _first_line(error)


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
