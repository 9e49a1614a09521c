"""Trainings carried out together: sorted into stacks that fit into memory, each by the fastest backend."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from hypermap.core import device
from hypermap.core.errors import Interrupted, OutOfMemory, UserError, exited
from hypermap.core.files import durable_together
from hypermap.data.fold_data import FoldData
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec
from hypermap.experiments.estimators import TorchEstimator, TrainResult
from hypermap.experiments.memory import free_memory, most_members
from hypermap.training.backends import choice
from hypermap.training.loop import Trainer, TrainVal
from hypermap.training.state import Trained, TrainState


@dataclass(frozen=True, eq=False)
class Job:
    """A fit that is to be done: by whom, and where its state is."""

    fitter: CrossValidator
    fit: FoldSpec
    folder: Path
    number: int  # in its run's plan


OnEpochEnd = Callable[[Mapping[Job, tuple[int, float]]], Mapping[Job, Exception]]
"""Told of several tasks a step and the monitored figure there; returns what ends some, such as `Pruned`."""
T = TypeVar("T")
Finished = dict[Job, TrainResult | Exception]


def run_jobs(tasks: Sequence[Job], on_epoch_end: OnEpochEnd, quiet: bool = True) -> Iterator[Finished]:
    """Carry out tasks, those that fit together as stacks; yields those that end at once, with what they came to.

    A learner's backend says how: ``eager`` trains one after the other. Any error but an interruption is what those
    came to in whose training it was raised, and ends no others.

    Raises:
        Interrupted: as `on_epoch_end` raised it; the states are on the disk.
    """
    groups, refused = _groups(tasks)
    if refused:
        yield refused
    for group in groups.values():
        if group[0].fitter.learner.backend == "eager":
            for task in group:
                yield {task: _alone(task, on_epoch_end, quiet)}
        else:
            yield from _stacks(group, on_epoch_end, quiet)


MOST = 64  # members of a stack: beyond, a member's share of the time hardly falls
_measured: dict[tuple[str, int, int], choice.Measured] = {}  # by kind, size and threads: once in a process


def choose_backends(fitters: Mapping[T, tuple[CrossValidator, int, str | None]]) -> dict[T, str]:
    """Choose the backend of those whose configuration leaves it to us, and say why some train by themselves.

    Args:
        fitters: each with the number of its fits, and the backend by which an interrupted run of it was begun, if
            that matters.
    """
    kinds: dict[str, list[T]] = {}
    reasons: dict[T, str] = {}
    for name, (fitter, _, _) in fitters.items():
        if not isinstance(fitter.learner, TorchEstimator):
            reasons[name] = "a model of scikit-learn is fitted by itself"
        elif fitter.settings.backend == "auto":
            kinds.setdefault(fitter.learner.batch_key(), []).append(name)
    for alike in kinds.values():
        chosen = [fitters[name] for name in alike]
        size = sum(fits for _, fits, _ in chosen)
        before = next((begun for _, _, begun in chosen if begun), None)
        backend, reason = (before, None) if before else _choose_by_any([fitter for fitter, _, _ in chosen], size)
        for name in alike:
            learner = fitters[name][0].learner
            learner.backend = backend
            if reason is not None:
                reasons[name] = reason
    return reasons


def stack_size(fitter: CrossValidator) -> int:
    """Return how many trainings like this are best trained at once here; 1 where a stack does not pay."""
    if not isinstance(fitter.learner, TorchEstimator):
        return 1
    named = fitter.settings.backend
    try:
        most = min(MOST, _most(Job(fitter, fitter.holdout, Path(), 0)) or MOST)
        return 1 if (_choose(fitter, most)[0] if named == "auto" else named) == "eager" else most
    except Exception:  # its trials will tell what is wrong
        return 1


def _choose_by_any(fitters: Sequence[CrossValidator], size: int) -> tuple[str, str | None]:
    """`_choose` for the first that can be begun: what is wrong with another ends that one alone."""
    for fitter in fitters:
        try:
            with device.told_out_of_memory(fitter.settings.batch_size):
                return _choose(fitter, size)
        except Exception:  # it is told when that one trains
            continue
    return "eager", None


def _choose(fitter: CrossValidator, size: int) -> tuple[str, str | None]:
    """Return the backend for so many trainings like this, and, where it trains one at a time, why."""
    learner = fitter.learner
    assert isinstance(learner, TorchEstimator)
    if size == 1:
        return "eager", "no other of these has its network, data and batch size, or can be trained by the same backend"
    threads = learner.settings.threads or device.CORES
    key = (learner.batch_key(), min(size, choice.PROBES), threads)
    if key not in _measured:
        rows, seed = fitter.folds.of(fitter.holdout.fold), fitter.configuration["seed"]
        sets = learner.sets(rows)

        def probe(count: int) -> list[TrainState]:
            return [learner.begin(rows, sets, seed, own=True) for _ in range(count)]

        _measured[key] = choice.measure(
            probe, size, sets.train.inputs, sets.train.targets, alone=learner.threads, threads=threads
        )
    measured = _measured[key]
    return measured.fastest, measured.why_alone if measured.fastest == "eager" else None


def _groups(tasks: Sequence[Job]) -> tuple[dict[str, list[Job]], Finished]:
    """Return tasks by what they have in common; what trains by itself is its own kind. And those whose rows cannot be
    had.
    """
    groups: dict[str, list[Job]] = {}
    refused: Finished = {}
    for number, task in enumerate(tasks):
        learner, word = task.fitter.learner, str(number)
        if isinstance(learner, TorchEstimator) and learner.backend != "eager":
            try:
                word = f"{learner.batch_key(task.fitter.folds.of(task.fit.fold))} {learner.backend}"
            except UserError as error:
                refused[task] = error
                continue
        groups.setdefault(word, []).append(task)
    return groups, refused


def _alone(task: Job, on_epoch_end: OnEpochEnd, quiet: bool) -> TrainResult | Exception:
    def report(step: int, value: float) -> None:
        for error in on_epoch_end({task: (step, value)}).values():
            raise error

    torch.set_num_threads(task.fitter.learner.threads)
    try:
        return task.fitter.fit(task.fit, task.folder, report, quiet)
    except Interrupted:
        raise
    except SystemExit as error:
        return exited(error)
    except Exception as error:
        return error


def _stacks(tasks: Sequence[Job], on_epoch_end: OnEpochEnd, quiet: bool) -> Iterator[Finished]:
    """Yield tasks of one kind, as many at once as memory holds; half as many where it holds fewer after all."""
    try:
        most = _most(tasks[0]) or len(tasks)
    except Exception as error:
        yield dict.fromkeys(tasks, error)
        return
    for first in range(0, len(tasks), most):
        left, halve = list(tasks[first : first + most]), False
        try:
            for ended in _stack(left, on_epoch_end, quiet):
                left = [task for task in left if task not in ended]
                yield ended
        except Interrupted:
            raise
        except SystemExit as error:
            yield dict.fromkeys(left, exited(error))
        except Exception as error:
            halve = len(left) > 1 and isinstance(error, OutOfMemory)
            if not halve:
                yield dict.fromkeys(left, error)
        if halve:  # after the error is gone, whose traceback holds the stack that was too large
            half = (len(left) + 1) // 2
            yield from _stacks(left[:half], on_epoch_end, quiet)
            yield from _stacks(left[half:], on_epoch_end, quiet)


def _most(task: Job) -> int | None:
    """Return how many tasks like this one memory holds."""
    learner = _network(task)
    rows = task.fitter.folds.of(task.fit.fold)
    settings, width = learner.settings, max(1, len(rows.transform.manifest.classes))
    with device.told_out_of_memory(settings.batch_size):
        model, inputs = learner.example(rows)
    return most_members(model, inputs, width, settings.batch_size, free_memory(learner.device))


def _stack(tasks: Sequence[Job], on_epoch_end: OnEpochEnd, quiet: bool) -> Iterator[Finished]:
    """Yield tasks of one kind as one stack."""
    learner = _network(tasks[0])
    every_rows = [task.fitter.folds.of(task.fit.fold) for task in tasks]
    shared: dict[int, TrainVal] = {}
    with device.told_out_of_memory(learner.settings.batch_size):
        members, sets, named = [], [], {}
        for task, rows in zip(tasks, every_rows, strict=True):
            try:
                member = _begun(task, rows, shared)
            except OutOfMemory:
                raise
            except Exception as error:
                yield {task: error}
                continue
            members.append(member)
            sets.append(shared[id(rows)])
            named[member] = (task, rows)
        if not members:
            return
        threads = learner.settings.threads or device.CORES
        own = learner.backend == "native"  # which has threads of its own, in whose way torch's would be
        torch.set_num_threads(1 if own else threads)
        backend = partial(choice.make, learner.backend, threads=threads)

        def relay(reports: Mapping[TrainState, tuple[int, float]]) -> dict[TrainState, Exception]:
            ends = on_epoch_end({named[member][0]: value for member, value in reports.items()})
            return {member: ends[named[member][0]] for member in reports if named[member][0] in ends}

        for ended in Trainer(members, sets, backend).run(relay, quiet):
            with durable_together():
                done = {named[member][0]: _finished(*named[member], member, how) for member, how in ended.items()}
            yield done


def _begun(task: Job, rows: FoldData, shared: dict[int, TrainVal]) -> TrainState:
    """Return a member for a task, its loss fitted to its rows; they are encoded once for all, into `shared`.

    Raises:
        OutOfMemory: it does not fit beside the others.
        UserError: settings that its parts refuse, or that do not suit the rows.
    """
    learner = _network(task)
    with device.told_out_of_memory(learner.settings.batch_size):
        if id(rows) not in shared:
            shared[id(rows)] = learner.sets(rows)
        return learner.begin(rows, shared[id(rows)], task.fit.seed, task.folder, own=True)


def _finished(task: Job, rows: FoldData, member: TrainState, trained: Trained | Exception) -> TrainResult | Exception:
    """Return the figures of a member that was trained to its end, by as many threads as if it had been alone."""
    if isinstance(trained, Exception):
        return trained
    with device.on_threads(task.fitter.learner.threads):
        return task.fitter.written(_network(task).end(rows, member, trained), task.folder)


def _network(task: Job) -> TorchEstimator:
    learner = task.fitter.learner
    assert isinstance(learner, TorchEstimator), "a model of scikit-learn is no part of a stack"
    return learner
