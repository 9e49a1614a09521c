"""How a model is trained on given rows: a network epoch by epoch, a scikit-learn model in one call."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch

from hypermap.core import device as machine
from hypermap.core.errors import UserError
from hypermap.core.launch import check_processes
from hypermap.data.fold_data import FoldData
from hypermap.data.preprocessor import TensorSplit, Transform
from hypermap.models import sklearn_fit
from hypermap.models.inputs import InputSpec, remember, resolve_input_spec
from hypermap.tasks.base import LOSSES, REFINEMENT
from hypermap.tasks.metrics import log_loss
from hypermap.training import artifacts
from hypermap.training.backends import choice, native
from hypermap.training.backends.compatibility import batch_key
from hypermap.training.components import make_components
from hypermap.training.loop import TrainVal
from hypermap.training.network import Network
from hypermap.training.state import Rerun, TrainerConfig, TrainState


@dataclass(frozen=True)
class TrainResult:
    """The result of a training: the validation metrics of its best epoch and, until it is written, its model.

    Attributes:
        metrics: by name.
        best_epoch: from 1; 0 without epochs.
        epochs: that it was trained for.
        seconds: of training.
        stopped_early: whether early stopping ended it.
        predict: the trained model; None if only the result was kept.
        history: one row per epoch; empty in that case.
        decided: what validation rows have decided of each of a model's estimators, if it is of scikit-learn.
    """

    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    seconds: float
    stopped_early: bool = False
    predict: Network | sklearn_fit.Model | None = None
    history: Sequence[dict[str, Any]] = ()
    decided: Sequence[Mapping[str, float]] = ()

    @property
    def tuned(self) -> Mapping[str, Any]:
        """What a network's task has tuned on validation rows."""
        return self.predict.tuned if isinstance(self.predict, Network) else {}

    def noted(self) -> Self:
        """Return the result without the model and the history."""
        return replace(self, predict=None, history=())


@dataclass(frozen=True)
class Taken:
    """What a training on all rows takes over from those that had validation rows.

    Attributes:
        split: the training on the prepared splits, whose schedule and tuning it has.
        epochs: of a network: how many.
        decided: of the estimators of scikit-learn, each: see `hypermap.models.sklearn_models.SklearnModel.decided`.
    """

    split: TrainResult
    epochs: int
    decided: Sequence[Mapping[str, float]]

    @classmethod
    def of(cls, split: TrainResult, fits: Sequence[TrainResult]) -> Self:
        """Return the means over fits, the epochs rounded."""
        epochs = round(statistics.fmean(fit.best_epoch for fit in fits))
        return cls(split, max(1, epochs), [_mean(same) for same in zip(*(fit.decided for fit in fits), strict=True)])


def _mean(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number over those that have it."""
    names = dict.fromkeys(name for own in numbers for name in own)
    return {name: statistics.fmean(own[name] for own in numbers if name in own) for name in names}


class Estimator(Protocol):
    """Trains the model of one configuration; values are checked on construction."""

    threads: int
    parameters: int | None  # number of weights
    environment: dict[str, str]  # what metrics depend on besides the configuration
    backend: str  # one of `hypermap.training.backends.choice.BACKENDS`

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a prediction for one row in ms; train on `rows` first if needed."""
        ...


def make_estimator(configuration: Mapping[str, Any], settings: TrainerConfig, transform: Transform) -> Estimator:
    """Return the estimator of a configuration.

    Raises:
        UserError: a value does not fit the data, the machine or a signature.
    """
    check_processes(settings.processes)
    if sklearn_fit.is_family(configuration["model"]):
        return SklearnEstimator(configuration, settings, transform)
    return TorchEstimator(configuration, settings, transform)


@dataclass(frozen=True)
class EncodedFold:
    """The rows of a fold as network inputs, on its device.

    Attributes:
        sets: these rows.
        rows: before encoding.
        inputs: the input spec: categories may differ between folds.
    """

    sets: TrainVal
    rows: FoldData
    inputs: InputSpec


class TorchEstimator:
    """Creates the state of a network's training, for `hypermap.training.loop.Trainer`, and computes its result.

    Attributes:
        parts: a network with its components, on the CPU, which is never trained: it checks the values, and shows what
            can be stacked.
    """

    def __init__(self, configuration: Mapping[str, Any], settings: TrainerConfig, transform: Transform) -> None:
        self.configuration = configuration
        self.settings = settings
        self.device = machine.choose_device(settings.device)
        machine.check_processes(self.device, settings.processes)
        manifest, preprocessor = transform.manifest, transform.preprocessor
        if settings.processes > 1 and preprocessor.shared is not None:
            raise UserError(
                f"trainer.processes is {settings.processes}, and the rows of this data share a graph, which a network "
                "computes as a whole in each step: take trainer.processes=1."
            )
        self.inputs = resolve_input_spec(configuration["model"], manifest, preprocessor.extras)
        with machine.explaining_out_of_memory(settings.batch):
            self.parts = make_components(configuration, manifest, self.inputs, torch.device("cpu"))
        self.parameters: int | None = sum(parameter.numel() for parameter in self.parts.model.parameters())
        self.threads = settings.threads or machine.choose_threads(self.parts.model, settings.batch)
        choice.check_name(settings.backend)
        self.backend = "eager" if settings.backend == "auto" else settings.backend
        self.environment = machine.environment(self.device, self.threads)

    def encode(self, rows: FoldData) -> EncodedFold:
        """Return a fold's rows as network inputs."""
        preprocessor = rows.transform.preprocessor
        inputs = resolve_input_spec(self.configuration["model"], rows.transform.manifest, preprocessor.extras)
        lengths = preprocessor.lengths(rows.train.inputs)
        train, validation = (_on(self.device, split, inputs) for split in (rows.train, rows.validation))
        sets = TrainVal(train, validation, None if lengths is None else lengths.cpu())
        return EncodedFold(sets, rows, inputs)

    def begin(
        self, fold: EncodedFold, seed: int, state: Path | None = None, own: bool = False, taken: Taken | None = None
    ) -> TrainState:
        """Return a new training state for these rows, created from its seed; its loss is fitted to their targets.

        Args:
            fold: from `encode`.
            seed: for torch's global generator, which draws the weights, and the training's own generators.
            state: see `TrainState`.
            own: whether its dropout uses a copy of the global generator, because others use that one as well.
            taken: of a training without validation rows.
        """
        torch.manual_seed(seed)
        manifest, sets = fold.rows.transform.manifest, fold.sets
        parts = make_components(self.configuration, manifest, fold.inputs, self.device)
        parts.loss.fit(sets.train.targets, manifest.width)
        remember(parts.model, sets.train.inputs, sets.train.targets)
        random = torch.Generator(self.device).manual_seed(seed) if own else None
        if random is not None and self.device.type == "cpu":
            random.set_state(torch.get_rng_state())  # on another device, creating the weights draws nothing
        rows_held = len(sets.validation.targets)
        losses = [] if taken is None else [row["validation_loss"] for row in taken.split.history]
        return TrainState(
            parts,
            self.settings,
            fold.rows.transform.task,
            seed,
            self.device,
            random,
            state,
            validation_rows=rows_held,
            rerun=None if taken is None else Rerun(taken.epochs, losses),
        )

    def batch_key(self, rows: FoldData | None = None) -> str:
        """Return a key that is equal for trainings that can be stacked.

        Args:
            rows: the training rows, whose number and categories count as well; None if unknown.
        """
        backends = "native too" if self.suits_kernel else "torch's"
        if rows is None:
            return f"{batch_key(self.configuration, self.parts.model, 0)} {backends}"
        manifest = rows.transform.manifest
        own = batch_key(self.configuration, self.parts.model, len(rows.train.targets))
        return f"{own} {manifest.shape} {manifest.layout} {backends}"

    @cached_property
    def suits_kernel(self) -> bool:
        """Whether the native kernel is allowed and able to train this: otherwise it would end a whole stack."""
        if self.settings.backend not in ("auto", "native") or self.device.type != "cpu":
            return False
        try:
            optimizer = self.parts.make_optimizer(list(self.parts.model.parameters()))
        except UserError:  # reported when it trains
            return False
        return native.why_not(self.parts, optimizer, self.settings.precision) is None

    def end(self, fold: EncodedFold, trained: TrainState, taken: Taken | None = None) -> TrainResult:
        """Return the result with the network at its best epoch; without validation rows, it has no metrics."""
        parts, history, transform = trained.parts, trained.history, fold.rows.transform
        best, stopped_early = trained.best_epoch, trained.stopped_early
        parts.model.load_state_dict(trained.best_weights)
        network = Network(parts.model, parts.loss, transform, fold.inputs, self.settings.precision)
        seconds = sum(row["seconds"] for row in history)
        if taken is not None:
            network = replace(network, tuned=taken.split.tuned)
            return TrainResult({}, best, len(history), seconds, stopped_early, network, history)
        validation = fold.rows.validation
        outputs, task = network.outputs(validation.inputs.to(self.device)), transform.task
        predictions = task.predictions(outputs)
        if self.settings.calibration is not None:
            network = replace(network, tuned=task.tune(predictions, artifacts.targets(validation, transform)))
            predictions = task.predictions(outputs, **network.tuned)
        kept = history[best - 1]
        loss = {name: kept[f"validation_{name}"] for name in LOSSES if f"validation_{name}" in kept}
        return TrainResult(
            artifacts.score(validation, predictions, transform) | loss,
            best,
            len(history),
            seconds,
            stopped_early,
            network,
            history,
        )

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a forward pass of one row, in milliseconds, regardless of the weights."""
        row = self.inputs.example(device=self.device)
        return machine.latency_ms(self.parts.model.to(self.device), row, self.settings.precision)


class SklearnEstimator:
    """Fits the families of scikit-learn, on the CPU; settings of network training do not apply."""

    parameters: int | None = None
    backend = "eager"

    def __init__(self, configuration: Mapping[str, Any], settings: TrainerConfig, transform: Transform) -> None:
        self.choice, self.seed, self.settings = configuration["model"], configuration["seed"], settings
        sklearn_fit.make(self.choice, transform)
        self.threads = settings.threads or sklearn_fit.choose_threads(self.choice, transform.manifest)
        self.environment = machine.environment(torch.device("cpu"), self.threads)
        self.last: sklearn_fit.Model | None = None

    def fit(self, rows: FoldData, seed: int) -> TrainResult:
        """Fit the model.

        Raises:
            UserError: the family refuses the values or the rows.
        """
        started = time.perf_counter()
        self.last = model = self._fit(rows, seed)
        seconds = time.perf_counter() - started
        predictions = model(rows.validation.inputs)
        metrics = artifacts.score(rows.validation, predictions, rows.transform)
        loss = {"loss": _loss(model, rows.validation, metrics)}
        if self.settings.monitored(task := rows.transform.task) == REFINEMENT:
            refined = task.refined_loss(predictions, artifacts.targets(rows.validation, rows.transform))
            loss[REFINEMENT] = loss["loss"] if refined is None else refined
        decided = sklearn_fit.decided(self.choice, model)
        return TrainResult(metrics | loss, 0, 0, seconds, predict=model, decided=decided)

    def refit(self, rows: FoldData, seed: int, taken: Taken) -> TrainResult:
        """Fit the model to rows without any for validation; the result has no metrics.

        Raises:
            UserError: the family refuses the values or the rows, or cannot do without validation rows.
        """
        started, like = time.perf_counter(), taken.split.predict
        assert isinstance(like, sklearn_fit.Model)
        model = sklearn_fit.refit(self.choice, rows.train, like, taken.decided, rows.transform, seed, self.threads)
        return TrainResult({}, 0, 0, time.perf_counter() - started, predict=model)

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a prediction for one row, in milliseconds, with the last fitted model."""
        if self.last is None:  # every fit was finished before an interruption
            self.last = self._fit(rows(), self.seed)
        row, times = torch.zeros((1, *self.last.transform.manifest.shape)), []
        for _ in range(machine.LATENCY_CALLS + 5):  # the first few are a warm-up
            started = time.perf_counter()
            self.last(row)
            times.append(time.perf_counter() - started)
        return 1000 * statistics.median(times[5:])

    def _fit(self, rows: FoldData, seed: int) -> sklearn_fit.Model:
        return sklearn_fit.fit(self.choice, rows.train, rows.validation, rows.transform, seed, self.threads)


def _loss(model: sklearn_fit.Model, validation: TensorSplit, metrics: Mapping[str, float]) -> float:
    """Return the usual loss of a network: cross-entropy, or the squared error of the standardized target; their sum of
    several targets; of forecasts their own. Of an estimator that ranks it is 1 - the score.
    """
    if "log_loss" in metrics:
        return metrics["log_loss"]
    whole = model.transform.task
    if whole.estimator == "ranker":
        return 1 - metrics[whole.monitor]
    if whole.estimator == "forecaster":
        (values,) = model.standardised(validation.inputs)
        return float(whole.default_loss()(torch.from_numpy(values), validation.targets.double()))
    total, targets = 0.0, validation.targets.double().numpy().reshape(len(validation.targets), -1)
    for task, values, own in zip(
        model.transform.task.columns(), model.standardised(validation.inputs), targets.T, strict=True
    ):
        classes = bool(task.info.classes)
        total += log_loss(own.astype(np.int64), values) if classes else float(np.square(values - own).mean())
    return total


def _on(device: torch.device, split: TensorSplit, inputs: InputSpec) -> TensorSplit:
    """Return rows as model inputs, on its device."""
    return replace(split, inputs=inputs.encode(split.inputs.to(device)), targets=split.targets.to(device))
