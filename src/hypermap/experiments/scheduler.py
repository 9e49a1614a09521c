"""Runs trainings together: groups them into stacks that fit into memory, each with the fastest backend."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from hypermap.core import device
from hypermap.core.errors import Interrupted, OutOfMemory, UserError, exited
from hypermap.core.files import durable_together, write_csv
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec
from hypermap.experiments.estimators import EncodedFold, Estimator, SklearnEstimator, TorchEstimator, TrainResult
from hypermap.experiments.memory import free_memory, most_members
from hypermap.training import artifacts
from hypermap.training.backends import choice
from hypermap.training.loop import MakeBackend, OnEpochEnd, Reports, Trainer
from hypermap.training.state import TrainState


@dataclass(frozen=True, eq=False)
class Job:
    """A fit to run: its run, and the folder of its state."""

    validator: CrossValidator
    fit: FoldSpec
    folder: Path
    number: int = 0  # in its run's plan

    @property
    def estimator(self) -> Estimator:
        """Its estimator."""
        return self.validator.estimator

    @property
    def network(self) -> TorchEstimator:
        """Its estimator, which must be that of a network."""
        assert isinstance(self.estimator, TorchEstimator), "a model of scikit-learn cannot be stacked"
        return self.estimator


T = TypeVar("T")
Finished = dict[Job, TrainResult | Exception]


def run_jobs(jobs: Sequence[Job], on_epoch_end: OnEpochEnd[Job], quiet: bool = True) -> Iterator[Finished]:
    """Run jobs, stacking those that can be stacked; yield each with its result as soon as it ends.

    An estimator's backend determines how: ``eager`` trains one after the other. Each writes its state and its history
    with timings into its folder. An error other than an interruption is the result of the jobs whose training raised
    it, and does not end others.

    Args:
        jobs: to run.
        on_epoch_end: see `hypermap.training.loop.Trainer.run`; scikit-learn models have no epochs.
        quiet: show no progress bar.

    Raises:
        Interrupted: as `on_epoch_end` raised it; the states are on disk.
    """
    stacks, refused = _stacks(jobs)
    if refused:
        yield refused
    for alike in stacks:
        try:
            most = _most(alike[0], len(alike))
        except Exception as error:
            yield dict.fromkeys(alike, error)
            continue
        for first in range(0, len(alike), most):
            yield from _run_stack(alike[first : first + most], on_epoch_end, quiet)


def _stacks(jobs: Sequence[Job]) -> tuple[list[list[Job]], Finished]:
    """Return jobs grouped by stack, those that train alone by themselves; and those whose rows cannot be loaded."""
    stacks: dict[str, list[Job]] = {}
    refused: Finished = {}
    for number, job in enumerate(jobs):
        key = str(number)
        if job.estimator.backend != "eager":
            try:
                key = f"{job.network.batch_key(job.validator.folds.of(job.fit.fold))} {job.estimator.backend}"
            except UserError as error:
                refused[job] = error
                continue
        stacks.setdefault(key, []).append(job)
    return list(stacks.values()), refused


def _most(job: Job, count: int) -> int:
    """Return how many jobs like this one fit into memory; `count` if the free memory is unknown."""
    if count == 1:
        return 1
    estimator, settings = job.network, job.network.settings
    rows = job.validator.folds.of(job.fit.fold).train
    with device.explaining_out_of_memory(settings.batch):
        inputs, free = estimator.inputs.example(len(rows.targets)), free_memory(estimator.device)
        width = estimator.parts.loss.outputs(job.validator.manifest.width)
        return most_members(estimator.parts.model, inputs, width, settings.batch, free) or count


def _run_stack(jobs: Sequence[Job], on_epoch_end: OnEpochEnd[Job], quiet: bool) -> Iterator[Finished]:
    """Run the jobs of one stack, or a single one; halve the stack if it does not fit into memory after all."""
    left, halve = list(jobs), False
    try:
        for ended in _train(left, on_epoch_end, quiet):
            left = [job for job in left if job not in ended]
            yield ended
    except Interrupted:
        raise
    except SystemExit as error:
        yield dict.fromkeys(left, exited(error))
    except Exception as error:
        halve = len(left) > 1 and isinstance(error, OutOfMemory)
        if not halve:
            yield dict.fromkeys(left, error)
    if halve:  # after the error is released, since its traceback keeps the stack alive
        half = (len(left) + 1) // 2
        yield from _run_stack(left[:half], on_epoch_end, quiet)
        yield from _run_stack(left[half:], on_epoch_end, quiet)


def _train(jobs: Sequence[Job], on_epoch_end: OnEpochEnd[Job], quiet: bool) -> Iterator[Finished]:
    """Train the jobs of one stack at once."""
    estimator = jobs[0].estimator
    if isinstance(estimator, SklearnEstimator):
        (job,) = jobs
        torch.set_num_threads(estimator.threads)
        rows, seed, taken = job.validator.folds.of(job.fit.fold), job.fit.seed, job.fit.taken
        result = estimator.fit(rows, seed) if taken is None else estimator.refit(rows, seed, taken)
        yield {job: _written(job, result)}
        return
    settings = jobs[0].network.settings
    by_itself = estimator.backend == "eager"
    threads = estimator.threads if by_itself else settings.threads or device.CORES
    # The kernel has its own threads; torch's would be in their way.
    own = 1 if estimator.backend == "native" else device.share_of_threads(threads, settings.processes)
    torch.set_num_threads(own)
    with device.explaining_out_of_memory(settings.batch):
        folds, members, refused = _begin(jobs, own=not by_itself)
        if refused:
            yield refused
        if not members:
            return
        make_backend: MakeBackend = partial(choice.make, estimator.backend, threads=threads)
        if settings.processes > 1:
            make_backend, on_epoch_end = _on_several(jobs[0], folds[jobs[0]], on_epoch_end)
        sets = {job: folds[job].sets for job in members}
        for ended in Trainer(members, sets, make_backend).run(on_epoch_end, quiet):
            with durable_together():
                finished = {job: _finished(job, folds[job], end) for job, end in ended.items()}
            yield finished


def _on_several(job: Job, fold: EncodedFold, on_epoch_end: OnEpochEnd[Job]) -> tuple[MakeBackend, OnEpochEnd[Job]]:
    """Return the backend of a job that several processes train, and what to call after an epoch."""
    from hypermap.training.processes import OnSeveral, Training, processes

    network = job.network
    others = processes(network.settings.processes, network.device)
    training = Training(network.configuration, fold.rows.transform.manifest, job.fit.seed, network.threads)

    def report(reports: Reports[Job]) -> Mapping[Job, Exception]:
        ends = on_epoch_end(reports)
        if others.asked_to_stop:
            raise Interrupted(
                "Stopped after an epoch: a process of it was sent SIGTERM. Run the same command to resume."
            )
        return ends

    return partial(OnSeveral, training=training, processes=others), report


def _begin(jobs: Sequence[Job], *, own: bool) -> tuple[dict[Job, EncodedFold], dict[Job, TrainState], Finished]:
    """Return the rows of jobs (encoded once if shared), their training states, and the jobs that cannot start.

    Raises:
        OutOfMemory: one does not fit in addition to the others.
    """
    folds: dict[Job, EncodedFold] = {}
    members: dict[Job, TrainState] = {}
    refused: Finished = {}
    encoded: dict[int, EncodedFold] = {}
    for job, rows in [(job, job.validator.folds.of(job.fit.fold)) for job in jobs]:
        try:
            with device.explaining_out_of_memory(job.network.settings.batch):
                if id(rows) not in encoded:
                    encoded[id(rows)] = job.network.encode(rows)
                folds[job] = encoded[id(rows)]
                members[job] = job.network.begin(folds[job], job.fit.seed, job.folder, own, job.fit.taken)
        except OutOfMemory:
            raise
        except Exception as error:
            refused[job] = error
    return folds, members, refused


def _finished(job: Job, fold: EncodedFold, end: TrainState | Exception) -> TrainResult | Exception:
    """Return the result of a training, computed with as many threads as for a single training."""
    if isinstance(end, Exception):
        return end
    with device.on_threads(job.estimator.threads):
        return _written(job, job.network.end(fold, end, job.fit.taken))


def _written(job: Job, result: TrainResult) -> TrainResult:
    """Return the result of a job, after writing its history with timings into its folder."""
    write_csv(job.folder / artifacts.HISTORY, (*artifacts.columns_of(result.history), "seconds"), result.history)
    return result


# By what.

MOST = 64  # maximum members of a stack: beyond, the time per member hardly falls
_measured: dict[tuple[str, int, int], choice.Measured] = {}  # by kind, size and threads: once per process


def choose_backends(validators: Mapping[T, tuple[CrossValidator, int, str | None]]) -> dict[T, str]:
    """Choose backends where the configuration says ``auto``, and print why some train by themselves.

    Args:
        validators: each with the number of its fits, and the backend of its interrupted run, if that matters.
    """
    kinds: dict[str, list[T]] = {}
    reasons: dict[T, str] = {}
    for name, (validator, _, _) in validators.items():
        if not isinstance(validator.estimator, TorchEstimator):
            reasons[name] = "a model of scikit-learn is fitted by itself"
        elif validator.settings.processes > 1:
            reasons[name] = f"each of its steps is taken by trainer.processes={validator.settings.processes}"
        elif validator.settings.backend == "auto":
            kinds.setdefault(validator.estimator.batch_key(), []).append(name)
    for alike in kinds.values():
        chosen = [validators[name] for name in alike]
        size = sum(fits for _, fits, _ in chosen)
        before = next((begun for _, _, begun in chosen if begun), None)
        backend, reason = (before, None) if before else _choose_by_any([own for own, _, _ in chosen], size)
        for name in alike:
            validators[name][0].estimator.backend = backend
            if reason is not None:
                reasons[name] = reason
    return reasons


def stack_size(validator: CrossValidator) -> int:
    """Return the best number of trainings like this to run at once here; 1 if a stack does not pay off."""
    if not isinstance(validator.estimator, TorchEstimator) or validator.settings.processes > 1:
        return 1
    named = validator.settings.backend
    try:
        most = min(MOST, _most(Job(validator, validator.holdout, Path()), MOST))
        return 1 if (_choose(validator, most)[0] if named == "auto" else named) == "eager" else most
    except Exception:  # its trials will report what is wrong
        return 1


def _choose_by_any(validators: Sequence[CrossValidator], size: int) -> tuple[str, str | None]:
    """Call `_choose` for the first that can start: an error of another ends only that one."""
    for validator in validators:
        try:
            with device.explaining_out_of_memory(validator.settings.batch):
                return _choose(validator, size)
        except Exception:  # reported when that one trains
            continue
    return "eager", None


def _choose(validator: CrossValidator, size: int) -> tuple[str, str | None]:
    """Return the backend for `size` trainings like this and, if it trains one at a time, the reason."""
    estimator = validator.estimator
    assert isinstance(estimator, TorchEstimator)
    if size == 1:
        return "eager", "no other of these has its network, data and batch size, or can be trained by the same backend"
    threads = estimator.settings.threads or device.CORES
    key = (estimator.batch_key(), min(size, choice.PROBES), threads)
    if key not in _measured:
        fold, seed = estimator.encode(validator.folds.of(validator.holdout.fold)), validator.configuration["seed"]

        def probe(count: int) -> list[TrainState]:
            return [estimator.begin(fold, seed, own=True) for _ in range(count)]

        train = fold.sets.train
        _measured[key] = choice.measure(
            probe, size, train.inputs, train.targets, alone=estimator.threads, threads=threads
        )
    measured = _measured[key]
    return measured.fastest, measured.why_alone if measured.fastest == "eager" else None
