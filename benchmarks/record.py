"""Real trainings for measuring search strategies: carried out on request, or recorded as a file of learning curves.

python benchmarks/record.py --task digits --count 1000 --output digits.npz
python benchmarks/record.py --count 1000 --output mine.npz -- data=digits model=mlp optimizer=adam +space=default
python benchmarks/record.py --quick    does it run at all: three short trainings on digits, into a file that is removed

The first records random configurations of one of `TASKS`, the second those of any data set and space: the words after
`--` are those of `python src/train.py -m`, and are applied to params.yaml as they are there. The arrays of the file
have the names and shapes of the TaskSet file that benchmarks/strategies.py reads, and `Recorded.read` gives them back
with the space, so a strategy can be measured on the curves without training anything.

`LiveTask.train` carries out trainings on request, as stacks of the native kernel where it can. A training has the
validation curve that `python src/train.py` reports for the same configuration, seed and backend; here, the test rows
are scored after every epoch as well. HYPERMAP_DATA names the folder with the data sets, as everywhere in the project.
"""

import argparse
import copy
import io
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import hydra
import numpy as np
import optuna
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, distribution_to_json, json_to_distribution
from tqdm import tqdm

from hypermap.config.compose import compose, group_defaults
from hypermap.config.groups import SEARCHES, TUNED, Configuration, groups, read_params
from hypermap.config.rules import validate
from hypermap.core import device
from hypermap.core.cli import run
from hypermap.core.errors import Diverged, Paused, UserError
from hypermap.core.files import write_bytes
from hypermap.core.instantiate import instantiate
from hypermap.core.paths import CONF, PARAMS
from hypermap.data.fold_data import Folds
from hypermap.data.prepared import load
from hypermap.data.preprocessor import TensorSplit
from hypermap.datasets.prepare import find_or_prepare
from hypermap.experiments.estimators import EncodedFold, SklearnEstimator, TorchEstimator, make_estimator
from hypermap.experiments.memory import free_memory, most_members
from hypermap.experiments.scheduler import MOST
from hypermap.models import sklearn_fit
from hypermap.search.counter_samplers import Random
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.scales import mapping
from hypermap.search.space import Condition, Parameter, Space
from hypermap.search.study import quiet as optuna_quiet
from hypermap.search.study import trial_seed
from hypermap.sweeps.space import ConfigGroups, read_space
from hypermap.sweeps.training_target import TrainingTarget
from hypermap.training import artifacts
from hypermap.training.backends import choice
from hypermap.training.backends.native_build import why_no_compiler
from hypermap.training.loop import MakeBackend, Reports, Trainer, TrainVal
from hypermap.training.state import Row, TrainerConfig, TrainState
from race import CACHE

GROUPS = frozenset(groups())
TEST_ROWS = 4_000  # at most, of a task that ships: the test sets of the images would take longer than the training
BASELINES = ("experiment", "sweep")  # groups whose options are baselines of their own, in place of params.yaml


# Training.


@dataclass(frozen=True)
class Curves:
    """The learning curves of several trainings, ``(trainings, epochs)`` float64.

    The score is accuracy, or R² of a regression; the loss where `trainer.monitor` says so. It is NaN from the epoch in
    which a training diverged, and after an early end. A model of scikit-learn has no epochs: it has one score in all.

    Attributes:
        train: the score on the training rows, as the trainer reports it: of outputs under dropout, while the weights
            change. NaN for models of scikit-learn.
        validation: the score that a search sees.
        test: the score on rows that neither training nor search sees.
        best_epoch: ``(trainings,)`` int64, the epoch whose weights the project keeps, from 1; 0 after a divergence.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    best_epoch: np.ndarray

    @classmethod
    def empty(cls, trainings: int, epochs: int) -> "Curves":
        """Return curves that are NaN throughout, to be filled in."""
        train, validation, test = (np.full((trainings, epochs), np.nan) for _ in range(3))
        return cls(train, validation, test, np.zeros(trainings, dtype=np.int64))

    def enter(self, number: int, best_epoch: int, history: Sequence[tuple[float, float, float]]) -> None:
        """Enter a training: of each epoch the scores on training, validation and test rows."""
        self.best_epoch[number] = best_epoch
        for epoch, scores in enumerate(history):
            self.train[number, epoch], self.validation[number, epoch], self.test[number, epoch] = scores


class TaskData:
    """The rows of a prepared data set, in memory and as the models take them.

    Args:
        prepared: the folder.
        test_rows: how many test rows are scored, drawn with a fixed seed; None for all.
    """

    def __init__(self, prepared: Path, test_rows: int | None = None) -> None:
        folds = Folds(prepared)
        self.rows = folds.of(folds.development.holdout)
        self.manifest = self.rows.transform.manifest
        self.test = load(prepared, "test")
        if test_rows is not None and test_rows < len(self.test.targets):
            drawn = torch.randperm(len(self.test.targets), generator=torch.Generator().manual_seed(0))[:test_rows]
            self.test = TensorSplit(*(getattr(self.test, name)[drawn] for name in ("inputs", "targets", "rows")))
        self._encoded: dict[str, tuple[EncodedFold, TensorSplit]] = {}

    def encoded(self, estimator: TorchEstimator) -> tuple[EncodedFold, TensorSplit]:
        """Return the rows to learn from and be validated on, and the test rows, as the network takes them."""
        key = f"{estimator.inputs.shape} {estimator.inputs.runtime} {estimator.device}"
        if key not in self._encoded:
            test = estimator.encode(replace(self.rows, validation=self.test)).sets.validation
            self._encoded[key] = estimator.encode(self.rows), test
        return self._encoded[key]


class TrainerWithTest(Trainer["Job"]):
    """A `Trainer` that notes the monitored score of the test rows in each epoch's row, as ``test``; NaN without any."""

    def __init__(
        self, members: Mapping["Job", TrainState], sets: TrainVal, test: TensorSplit | None, make_backend: MakeBackend
    ) -> None:
        self.test = test
        super().__init__(members, dict.fromkeys(members, sets), make_backend)

    def evaluate(self) -> list[Row]:
        """Return what the validation rows say of each member, and the test score."""
        return [row | {"test": test} for row, test in zip(super().evaluate(), self.test_scores(), strict=True)]

    def test_scores(self) -> list[float]:
        """Return the score of each member on the test rows, or its loss where that is monitored."""
        if self.test is None:
            return [np.nan] * len(self.members)
        targets = self.test.targets
        members = list(self.members.values())
        outputs = self.backend.eval_outputs(self.test.inputs, range(len(members)))
        if members[0].settings.monitored(self.task) == "loss":
            return [float(m.parts.loss(output, targets)) for m, output in zip(members, outputs, strict=True)]
        return self.scores(members, outputs, targets.expand(len(members), -1))


@dataclass(eq=False)
class Job:
    """A training, as far as it has come: `LiveTask.carry_on` carries it on.

    Attributes:
        scores: of each epoch so far, on training, validation and test rows.
        best_epoch: the epoch whose weights the project would keep so far, from 1; 0 after a divergence.
        ended: whether there is nothing to carry on: it is done, or has diverged.
        member: its weights and all else that goes on; None: it is begun from its seed, again if it has been before.
    """

    estimator: TorchEstimator | SklearnEstimator
    settings: TrainerConfig
    data: TaskData
    seed: int
    scores: list[tuple[float, float, float]] = field(default_factory=list)
    best_epoch: int = 0
    ended: bool = False
    member: TrainState | None = None

    @property
    def network(self) -> TorchEstimator:
        """Return the estimator of a job that is no model of scikit-learn."""
        assert isinstance(self.estimator, TorchEstimator)
        return self.estimator

    @cached_property
    def on_kernel(self) -> bool:
        """Return whether the native kernel is to train this."""
        suits = isinstance(self.estimator, TorchEstimator) and self.estimator.suits_kernel and not self.settings.compile
        return suits and why_no_compiler() is None

    @cached_property
    def stack(self) -> str:
        """Return a key that is equal for jobs that can be one stack."""
        return f"{id(self.data)} {self.network.batch_key()}" if self.on_kernel else str(id(self))

    @property
    def most(self) -> int:
        """Return how many trainings like this one memory holds at once, up to what is worthwhile."""
        if not self.on_kernel:
            return 1
        fold, _ = self.data.encoded(self.network)
        width, free = max(1, len(self.data.manifest.classes)), free_memory(self.network.device)
        most = most_members(self.network.parts.model, fold.sets.train.inputs, width, self.settings.batch, free)
        return min(MOST, most or MOST)


def train_stack(jobs: Mapping[Job, int], threads: int, test: bool = True) -> None:
    """Train networks that can be one stack, or any one network, and enter their scores.

    Args:
        jobs: with one `Job.stack`, and the epoch up to which each is trained.
        threads: of the kernel; a network that it does not train has as many as it would have in the project.
        test: whether the test rows are scored, too.

    Raises:
        UserError: settings that do not suit the data, such as a warm-up longer than the training.
    """
    first = next(iter(jobs))
    network = first.network
    fold, tested = first.data.encoded(network)
    members = {job: job.member or job.network.begin(fold, job.seed, own=True) for job in jobs}
    until = {job: epoch for job, epoch in jobs.items() if epoch < job.settings.length}
    backend, threads = ("native", threads) if first.on_kernel else (network.backend, network.threads)
    make_backend = partial(choice.make, backend, threads=threads)
    trainer = TrainerWithTest(members, fold.sets, tested if test else None, make_backend)
    ends: dict[Job, TrainState | Exception] = {}

    def far_enough(reports: Reports[Job]) -> dict[Job, Exception]:
        return {job: Paused() for job in reports if members[job].epochs >= until.get(job, members[job].epochs + 1)}

    with device.on_threads(1 if first.on_kernel else threads):  # torch's own would be in the way of the kernel's
        for ended in trainer.run(far_enough):
            ends |= ended
    for job, member in members.items():
        enter(job, member, ends[job], "loss" if first.settings.monitored(trainer.task) == "loss" else "score")


def enter(job: Job, member: TrainState, end: TrainState | Exception, shown: str) -> None:
    """Enter what a network's training has come to, and keep the member if it can go on."""
    if isinstance(end, Exception) and not isinstance(end, Diverged | Paused):
        raise end
    rows = member.history
    job.scores = [(row[f"train_{shown}"], row[f"validation_{shown}"], row["test"]) for row in rows]
    job.best_epoch = 0 if isinstance(end, Diverged) else member.best_epoch
    job.ended = not isinstance(end, Paused)
    job.member = None if job.ended else member


def fit_model(job: Job, epochs: int) -> None:
    """Fit a model of scikit-learn, and enter its scores as those of every epoch."""
    assert isinstance(job.estimator, SklearnEstimator)
    learned = job.estimator.fit(job.data.rows, job.seed)
    model, test, transform = learned.predict, job.data.test, job.data.rows.transform
    assert isinstance(model, sklearn_fit.Model)
    monitor = job.settings.monitored(transform.task)
    tested = artifacts.score(test, model(test.inputs), transform)
    if monitor == "loss":  # what `SklearnEstimator` reports as such
        squares = np.square(model.standardised(test.inputs)[0] - test.targets.double().numpy())
        tested["loss"] = tested.get("log_loss", float(squares.mean()))
    job.scores = [(np.nan, learned.metrics[monitor], tested[monitor])] * epochs
    job.best_epoch, job.ended = 1, True


# What is trained.


@dataclass(eq=False)
class LiveTask:
    """A data set, a baseline and a space, whose configurations are trained on request.

    Nothing is read or prepared before it is needed. The prepared data is kept in data/cache.

    Args:
        name: for people.
        words: as on the command line of `python src/train.py -m`, such as ``data=digits`` and ``+space=default``; those
            of ``hydra.…`` that say how to search have no part in this.
        order: what the words are applied to, as params.yaml has it; None for the defaults of conf/.
        test_rows: how many of the test rows are scored, drawn with a fixed seed; None for all.
        threads: of the native kernel, which trains one network of a stack on each.
    """

    name: str
    words: tuple[str, ...]
    order: Mapping[str, Any] | None = None
    test_rows: int | None = None
    threads: int = 2
    _data: dict[str, TaskData] = field(default_factory=dict, init=False, repr=False)
    _composed: dict[tuple[str, ...], Configuration] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def space(self) -> Space:
        """Return the search space."""
        return self._space_and_words[0]

    @cached_property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return ``maximize``, or ``minimize`` where the loss is monitored."""
        return "minimize" if self.configuration({})["trainer"]["monitor"] == "loss" else "maximize"

    @cached_property
    def epochs(self) -> int:
        """Return the epochs of a full training, of the longest where their number is searched."""
        for parameter in self.space.parameters:
            if parameter.key == "trainer.epochs":
                distribution: Any = parameter.distribution
                choices = getattr(distribution, "choices", None)
                return int(max(choices) if choices else distribution.high)
        return int(self.configuration({})["trainer"]["epochs"])

    @cached_property
    def baseline(self) -> dict[str, Any]:
        """Return the baseline's value of each parameter, by name, as a trial would have it.

        A parameter that does not apply to the baseline, or whose choices do not include its value, is left out.
        """
        configuration, found = self.configuration({}), dict[str, Any]()
        for parameter in self.space.parameters:
            if not _applies(parameter, found) or not _has(configuration, parameter.key):
                continue
            value = _value(configuration, parameter.key)
            value = value["name"] if parameter.key in GROUPS else value
            if not isinstance(parameter.distribution, CategoricalDistribution):
                found[parameter.name] = value
            elif equal := [c for c in parameter.distribution.choices if _understood(c) == value]:
                found[parameter.name] = equal[0]
        return found

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """Return the baseline's configuration with these values set, which are given by their parameters' names.

        Raises:
            UserError: a key that the configuration does not have, or values that do not go together.
        """
        keys = self.space.values_of(values)
        chosen = tuple(f"{key}={value}" for key, value in keys.items() if key in GROUPS)
        if chosen not in self._composed:
            self._composed[chosen] = compose([*self._space_and_words[1], *chosen], self.order)
        configuration = copy.deepcopy(self._composed[chosen])
        added = {parameter.key for parameter in self.space.parameters if parameter.added}
        for key, value in keys.items():
            if key not in GROUPS:
                _set(configuration, key, _understood(value), add=key in added)
        validate(configuration)
        return configuration

    def sample(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Return random configurations, uniform on the scale on which each parameter is searched."""
        with optuna_quiet():
            study = optuna.create_study(sampler=ScaledSampler(Random(seed), self.space.mappings))
        trials = [study.ask() for _ in range(count)]
        for trial in trials:
            self.space.suggest(trial)
        return [dict(trial.params) for trial in trials]

    def train(
        self,
        configurations: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        quiet: bool = True,
        until: Sequence[int] | None = None,
    ) -> Curves:
        """Train each configuration with its seed, those that fit together as stacks, and return their curves.

        Args:
            configurations: values by their parameters' names; what is left out is the baseline's.
            seeds: one for each.
            quiet: show no progress bar.
            until: the epoch after which each is stopped, on the way to its full training; None: all are trained fully.

        Raises:
            UserError: a configuration that cannot be trained.
        """
        jobs = [self.job(values, seed) for values, seed in zip(configurations, seeds, strict=True)]
        epochs = [self.epochs] * len(jobs) if until is None else until
        self.carry_on(dict(zip(jobs, epochs, strict=True)), quiet)
        curves = Curves.empty(len(jobs), self.epochs)
        for number, job in enumerate(jobs):
            curves.enter(number, job.best_epoch, job.scores)
        return curves

    def carry_on(self, jobs: Mapping[Job, int], quiet: bool = True, test: bool = True) -> None:
        """Train each of these on, up to an epoch of its full training, those that fit together as stacks.

        Args:
            jobs: with that epoch; not in it are those that are there already, or have ended.
            quiet: show no progress bar.
            test: whether the test rows are scored after every epoch, too: else these scores are NaN.

        Raises:
            UserError: a configuration that cannot be trained.
        """
        device.make_repeatable()
        device.spare_compiler()
        stacks: dict[str, list[Job]] = {}
        for job in jobs:
            stacks.setdefault(job.stack, []).append(job)
        with tqdm(total=len(jobs), unit="training", disable=True if quiet else None) as bar:
            for alike in stacks.values():
                most = alike[0].most
                for part in (alike[first : first + most] for first in range(0, len(alike), most)):
                    if isinstance(part[0].estimator, TorchEstimator):
                        train_stack({job: jobs[job] for job in part}, self.threads, test)
                    else:
                        fit_model(part[0], self.epochs)
                    bar.update(len(part))

    def job(self, values: Mapping[str, Any], seed: int) -> Job:
        """Return a training that is not begun, of a configuration by its parameters' values.

        Raises:
            UserError: a configuration that cannot be trained.
        """
        configuration = self.configuration(values)
        if configuration["validation"]["name"] != "holdout" or configuration["trainer"]["repeats"] != 1:
            raise UserError("Curves are of one training each: take validation=holdout and trainer.repeats=1.")
        settings: TrainerConfig = instantiate(configuration["trainer"])
        if (key := json.dumps(configuration["data"])) not in self._data:  # to find the folder again reads a table anew
            self._data[key] = TaskData(find_or_prepare(configuration["data"], [], CACHE), self.test_rows)
        data = self._data[key]
        estimator = make_estimator(configuration, settings, data.rows.transform)
        assert isinstance(estimator, TorchEstimator | SklearnEstimator)
        return Job(estimator, settings, data, seed)

    @cached_property
    def _space_and_words(self) -> tuple[Space, list[str]]:
        return read_words(self.words, self.order)


def read_words(words: Sequence[str], order: Mapping[str, Any] | None) -> tuple[Space, list[str]]:
    """Return the space that the words of a sweep describe, and the words of its baseline.

    Raises:
        UserError: words that are not understood, or that do not fit the groups in conf/.
    """
    parsed = _parsed(words)
    of_hydra = [word for word, o in zip(words, parsed, strict=True) if o.key_or_group.startswith("hydra")]
    files = [word for word, o in zip(words, parsed, strict=True) if o.key_or_group in SEARCHES]
    others = [word for word in words if word not in (*of_hydra, *files)]
    fixed = [word for word, o in zip(words, parsed, strict=True) if word in others and not o.is_sweep_override()]
    configuration = compose([*fixed, *files], order)
    file, params = _space_file(files, of_hydra)
    known = ConfigGroups(
        choices=lambda group: groups().get(group, []),
        has=lambda group, option, key: _has(group_defaults(f"{group}={option}")[group], key),
        chosen={group: configuration[group]["name"] for group in TUNED},
        ignored_groups=TrainingTarget(find_or_prepare, "").ignored_groups,
    )
    space, fixed = read_space(others, params, file, known)
    return space, [*fixed, *files]


def _parsed(words: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise UserError(f"The words after -- are not understood: {error}") from error


def _space_file(files: Sequence[str], of_hydra: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a file in conf/space/ says, and what a sweep that ships or the words have for the sweeper."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF)):
        composed = hydra.compose("config", [*files, *of_hydra], return_hydra_config=True)
    found = [OmegaConf.select(composed, key) for key in ("space", "hydra.sweeper.params")]
    file, params = ({} if part is None else OmegaConf.to_container(part) for part in found)
    return file, params  # type: ignore[return-value]


def _applies(parameter: Parameter, drawn: Mapping[str, Any]) -> bool:
    """Return whether a parameter applies beside these values of the parameters before it."""
    return all(drawn.get(condition.group) in condition.choices for condition in parameter.conditions)


@lru_cache(maxsize=None, typed=True)  # else 0 would be looked up as False
def _understood(value: Any) -> Any:
    """Return a choice, which may be in Hydra's grammar such as ``[64,64]``, as the value it stands for."""
    return _parsed([f"key={value}"])[0].value() if isinstance(value, str) else value


def _value(configuration: Mapping[str, Any], key: str) -> Any:
    """Return what stands at a dotted key, whose parts may be places in a list."""
    found: Any = configuration
    for part in key.split("."):
        found = found[int(part) if isinstance(found, list) else part]
    return found


def _has(configuration: Mapping[str, Any], key: str) -> bool:
    try:
        _value(configuration, key)
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return True


def _set(configuration: Configuration, key: str, value: Any, *, add: bool) -> None:
    """Put a value at a dotted key.

    Raises:
        UserError: there is no such key, and none is to be added.
    """
    if not add and not _has(configuration, key):
        raise UserError(f"{key}: the configuration has no such key. +{key}=… adds one.")
    parent, _, last = key.rpartition(".")
    around: Any = _value(configuration, parent) if parent else configuration
    around[int(last) if isinstance(around, list) else last] = copy.deepcopy(value)


def shipped(name: str, scheduler: str, *words: str, epochs: int = 30, test_rows: int | None = None) -> LiveTask:
    """Return a task with a dense network, Adam and the space of conf/space/default.yaml."""
    options = (*words, "model=mlp", "optimizer=adam", f"scheduler={scheduler}", f"trainer.epochs={epochs}")
    machine_words = ("trainer.backend=native", "trainer.device=cpu")
    return LiveTask(name, (*options, *machine_words, "+space=default"), test_rows=test_rows)


TASKS: dict[str, LiveTask] = {
    task.name: task
    for task in (
        shipped("digits", "constant", "data=digits"),
        shipped("mnist", "one_cycle", "data=mnist", "data.rows=8000", epochs=10, test_rows=TEST_ROWS),
        shipped("fashion_mnist", "cosine", "data=fashion_mnist", "data.rows=8000", epochs=10, test_rows=TEST_ROWS),
        shipped("adult", "constant", "data=adult", "data.rows=8000", epochs=20, test_rows=TEST_ROWS),
        shipped("bank_marketing", "one_cycle", "data=bank_marketing"),
        shipped("wine_quality", "cosine", "data=wine_quality"),
        shipped("wine_quality_regression", "constant", "data=wine_quality", "data.task=regression"),
        shipped("california_housing", "one_cycle", "data=california_housing", "data.rows=8000"),
        shipped("german_credit", "cosine", "data=german_credit"),
        shipped("titanic", "constant", "data=titanic"),
        shipped("breast_cancer", "one_cycle", "data=breast_cancer"),
        shipped("diabetes", "cosine", "data=diabetes"),
    )
}


def task_of(words: Sequence[str]) -> LiveTask:
    """Return the task that `python src/train.py -m` with these words would search, named after its data set.

    Raises:
        UserError: words that are not understood, or params.yaml is not.
    """
    aside = any(override.key_or_group in BASELINES for override in _parsed(words))
    task = LiveTask("", tuple(words), None if aside or not PARAMS.exists() else read_params())
    return replace(task, name=str(task.configuration({})["data"]["name"]))


# What is recorded.


@dataclass(frozen=True, eq=False)
class Recorded:
    """Learning curves of random configurations, as a file keeps them.

    The curves are ``(configurations, epochs + 1)`` float32. The first column is NaN: it is for untrained networks, in
    TaskSet's files. For what stands in the others see `Curves`.

    Attributes:
        configs: ``(configurations, parameters)`` float64: values as they are, of a choice its place among the choices;
            NaN where a parameter does not apply.
        baseline: see `LiveTask.baseline`.
        words: see `LiveTask.words`.
    """

    name: str
    direction: str
    space: Space
    configs: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    seeds: np.ndarray
    baseline: dict[str, Any]
    words: list[str]

    def configuration(self, number: int) -> dict[str, Any]:
        """Return the values of a configuration by their parameters' names, without those that do not apply."""
        pairs = zip(self.space.parameters, self.configs[number].tolist(), strict=True)
        return {p.name: p.distribution.to_external_repr(value) for p, value in pairs if not np.isnan(value)}

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            names=np.array([self.name]),
            hp_names=np.array(self.space.names),
            configs=self.configs,
            **{key: getattr(self, key)[np.newaxis] for key in ("train", "valid", "test")},
            seeds=self.seeds,
            direction=np.array(self.direction),
            space=np.array(json.dumps([_entry(parameter) for parameter in self.space.parameters])),
            baseline=np.array(json.dumps(self.baseline)),
            words=np.array(json.dumps(self.words)),
        )
        write_bytes(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Recorded":
        """Return what `write` wrote.

        Raises:
            UserError: the file is missing or damaged, or was not written by this.
        """
        try:
            with np.load(path) as file:
                found = {key: file[key] for key in file.files}
            return cls(
                name=str(found["names"][0]),
                direction=str(found["direction"]),
                space=Space(tuple(_parameter(entry) for entry in json.loads(str(found["space"])))),
                configs=found["configs"],
                train=found["train"][0],
                valid=found["valid"][0],
                test=found["test"][0],
                seeds=found["seeds"],
                baseline=json.loads(str(found["baseline"])),
                words=json.loads(str(found["words"])),
            )
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise UserError(f"{path} cannot be read as recorded curves ({error!r}). Record them again.") from error


def record(task: LiveTask, count: int, seed: int, quiet: bool = True) -> Recorded:
    """Return the curves of so many random configurations, each trained with a seed of its own.

    Raises:
        UserError: nothing is searched, or a configuration cannot be trained.
    """
    if not task.space.parameters:
        raise UserError("Nothing is searched: add +space=default, or values such as optimizer.lr=0.1,0.01.")
    configurations = task.sample(count, seed)
    seeds = [trial_seed(seed, "training", number) for number in range(count)]
    curves = task.train(configurations, seeds, quiet)

    return Recorded(
        name=task.name,
        direction=task.direction,
        space=task.space,
        configs=np.array([[_number(p, values) for p in task.space.parameters] for values in configurations]),
        train=_from_untrained(curves.train),
        valid=_from_untrained(curves.validation),
        test=_from_untrained(curves.test),
        seeds=np.array(seeds),
        baseline=task.baseline,
        words=list(task.words),
    )


def _from_untrained(curves: np.ndarray) -> np.ndarray:
    """Return curves ``(trainings, epochs)`` with a column before the first, for the scores before training."""
    return np.pad(curves, ((0, 0), (1, 0)), constant_values=np.nan).astype(np.float32)


def _number(parameter: Parameter, values: Mapping[str, Any]) -> float:
    """Return a parameter's value as a number: of a choice its place, NaN where it does not apply."""
    if parameter.name not in values:
        return float("nan")
    return float(parameter.distribution.to_internal_repr(values[parameter.name]))


def _entry(parameter: Parameter) -> dict[str, Any]:
    """Return all there is to a parameter, as JSON has it."""
    bijection, distribution = parameter.mapping, parameter.distribution
    return {
        "name": parameter.name,
        "key": parameter.key,
        "expression": parameter.expression,
        "choices": list(distribution.choices) if isinstance(distribution, CategoricalDistribution) else None,
        "distribution": json.loads(distribution_to_json(distribution)),
        "listed": parameter.listed,
        "mapping": None if bijection is None else [bijection.name, bijection.low, bijection.high],
        "conditions": [[condition.group, list(condition.choices)] for condition in parameter.conditions],
        "added": parameter.added,
    }


def _parameter(entry: Mapping[str, Any]) -> Parameter:
    """Return the parameter that `_entry` describes."""
    return Parameter(
        **{key: entry[key] for key in ("name", "key", "expression", "listed", "added")},
        distribution=json_to_distribution(json.dumps(entry["distribution"])),
        mapping=None if entry["mapping"] is None else mapping(*entry["mapping"]),
        conditions=tuple(Condition(group, tuple(choices)) for group, choices in entry["conditions"]),
    )


def smoke_run() -> None:
    """Record a few short trainings, and print what their file has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quick.npz"
        record(shipped("digits", "constant", "data=digits", epochs=2), count=3, seed=0).write(path)
        read = Recorded.read(path)
    for number, curve in enumerate(read.valid):
        print(f"{read.configuration(number)}: validation {', '.join(f'{score:.3f}' for score in curve[1:])}")


def main() -> None:
    """Record the curves that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, help="a task that ships; else give words after --")
    parser.add_argument("--count", type=int, default=0, help="how many random configurations")
    parser.add_argument("--seed", type=int, default=0, help="of the configurations and of their trainings")
    parser.add_argument("--threads", type=int, default=2, help="of the native kernel")
    parser.add_argument("--output", type=Path, help="the file: NAME.npz")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: three short trainings, and their file read again"
    )
    parser.add_argument("words", nargs="*", help="as for python src/train.py -m: data=digits +space=default")
    given = parser.parse_args()
    if given.quick:
        smoke_run()
        return
    if (given.task is None) == (not given.words):
        parser.error("what is to be recorded? Give --task NAME, or the words of a sweep after --.")
    if given.count < 1 or given.threads < 1:
        parser.error("--count and --threads are at least 1.")
    if given.output is None:
        parser.error("where are the curves to go? Give --output NAME.npz.")
    task = replace(TASKS[given.task] if given.task else task_of(given.words), threads=given.threads)
    started = time.perf_counter()
    record(task, given.count, given.seed, quiet=False).write(given.output)
    seconds = time.perf_counter() - started
    print(f"{given.output}: {given.count} configurations of {task.name} in {seconds:.0f} s")


if __name__ == "__main__":
    run(main)
