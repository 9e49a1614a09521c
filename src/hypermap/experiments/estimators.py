"""How a model is trained, given its rows: a network epoch by epoch, a model of scikit-learn in one go."""

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
from hypermap.data.fold_data import FoldData
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import TensorSplit
from hypermap.models import sklearn_fit
from hypermap.models.inputs import InputSpec, resolve_input_spec
from hypermap.tasks import calibration
from hypermap.training import artifacts
from hypermap.training.backends import choice, native
from hypermap.training.backends.compatibility import batch_key
from hypermap.training.components import make_components
from hypermap.training.loop import TrainVal
from hypermap.training.state import TrainerConfig, TrainState


@dataclass(frozen=True)
class TrainResult:
    """What a training came to: the validation metrics of its best epoch and, until these are noted, its model.

    Attributes:
        metrics: by name.
        best_epoch: from 1; 0 where there are no epochs.
        epochs: that it was trained for.
        seconds: likewise.
        stopped_early: whether its patience ended it.
        predict: the trained model; None of what was only noted.
        history: a row an epoch; likewise none.
    """

    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    seconds: float
    stopped_early: bool = False
    predict: artifacts.Network | sklearn_fit.Model | None = None
    history: Sequence[dict[str, Any]] = ()

    def noted(self) -> Self:
        """Return what is kept of a training whose model is not."""
        return replace(self, predict=None, history=())


class Estimator(Protocol):
    """What can train the model of one configuration; construction checks its values."""

    threads: int
    parameters: int | None  # the weights' number
    environment: dict[str, str]  # what the figures depend on beside the configuration
    backend: str  # what carries out the steps, of `hypermap.training.backends.choice.BACKENDS`

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a prediction for one row, in milliseconds; `rows` are to be learned from if need
        be.
        """
        ...


def make_estimator(configuration: Mapping[str, Any], settings: TrainerConfig, manifest: Manifest) -> Estimator:
    """Return what trains the model of a configuration.

    Raises:
        UserError: a value that does not suit the data, the machine or a signature.
    """
    if sklearn_fit.is_family(configuration["model"]):
        return SklearnEstimator(configuration, settings, manifest)
    return TorchEstimator(configuration, settings, manifest)


@dataclass(frozen=True)
class EncodedFold:
    """The rows of a fold as a network takes them, on its device.

    Attributes:
        sets: these rows.
        rows: what they were made from.
        inputs: how the network takes them: a fold may know other categories than another.
    """

    sets: TrainVal
    rows: FoldData
    inputs: InputSpec


class TorchEstimator:
    """Begins the training of a network, for `hypermap.training.loop.Trainer`, and says what it came to.

    Attributes:
        parts: a network and all that goes with it, on the CPU: values are checked by making them, and it shows what
            fits together. It is never trained.
    """

    def __init__(self, configuration: Mapping[str, Any], settings: TrainerConfig, manifest: Manifest) -> None:
        self.configuration = configuration
        self.settings = settings
        self.device = machine.choose_device(settings.device)
        self.inputs = resolve_input_spec(configuration["model"], manifest)
        with machine.told_out_of_memory(settings.batch_size):
            self.parts = make_components(configuration, manifest, self.inputs, torch.device("cpu"))
        self.parameters: int | None = sum(parameter.numel() for parameter in self.parts.model.parameters())
        self.threads = settings.threads or machine.choose_threads(self.parts.model, settings.batch_size)
        choice.check_name(settings.backend)
        self.backend = "eager" if settings.backend == "auto" else settings.backend
        self.environment = machine.environment(self.device, self.threads)

    def encode(self, rows: FoldData) -> EncodedFold:
        """Return a fold's rows as the network takes them."""
        inputs = resolve_input_spec(self.configuration["model"], rows.transform.manifest)
        sets = TrainVal(*(_on(self.device, split, inputs) for split in (rows.train, rows.validation)))
        return EncodedFold(sets, rows, inputs)

    def begin(self, fold: EncodedFold, seed: int, state: Path | None = None, own: bool = False) -> TrainState:
        """Return what trains on these rows, made from its seed; its loss is fitted to their targets.

        Args:
            fold: as `encode` has it.
            seed: of torch's global generator, from which the weights are drawn, and of the training's own.
            state: see `TrainState`.
            own: whether its dropout goes on from a copy of the global generator, which others use as well.
        """
        torch.manual_seed(seed)
        manifest, sets = fold.rows.transform.manifest, fold.sets
        parts = make_components(self.configuration, manifest, fold.inputs, self.device)
        parts.loss.fit(sets.train.targets, len(manifest.classes))
        random = torch.Generator(self.device).manual_seed(seed) if own else None
        if random is not None and self.device.type == "cpu":
            random.set_state(torch.get_rng_state())  # on another device, making the weights draws nothing
        rows_held = len(sets.validation.targets)
        return TrainState(
            parts, self.settings, fold.rows.transform.task, seed, self.device, random, state, validation_rows=rows_held
        )

    def batch_key(self, rows: FoldData | None = None) -> str:
        """Return what this has in common with those that it may be stacked with.

        Args:
            rows: that it learns from, whose number and categories count as well; None where they are not known yet.
        """
        backends = "native too" if self.suits_kernel else "torch's"
        if rows is None:
            return f"{batch_key(self.configuration, self.parts.model, 0)} {backends}"
        manifest = rows.transform.manifest
        own = batch_key(self.configuration, self.parts.model, len(rows.train.targets))
        return f"{own} {manifest.shape} {manifest.layout} {backends}"

    @cached_property
    def suits_kernel(self) -> bool:
        """Whether the native kernel may be what trains this, and can: else it would end a stack that others are in."""
        if self.settings.backend not in ("auto", "native") or self.device.type != "cpu":
            return False
        try:
            optimizer = self.parts.make_optimizer(list(self.parts.model.parameters()))
        except UserError:  # it is told when it trains
            return False
        return native.why_not(self.parts, optimizer, self.settings.precision) is None

    def end(self, fold: EncodedFold, trained: TrainState) -> TrainResult:
        """Return the network with its best epoch's weights, and what that comes to."""
        parts, history, transform = trained.parts, trained.history, fold.rows.transform
        best, stopped_early = trained.best_epoch, trained.stopped_early
        parts.model.load_state_dict(trained.best_weights)
        network = artifacts.Network(parts.model, parts.loss, transform, fold.inputs, self.settings.precision)
        validation = fold.rows.validation
        predictions = network(validation.inputs.to(self.device))
        if self.settings.calibration is not None:
            temperature = transform.task.fit_temperature(predictions, artifacts.targets(validation, transform))
            network = replace(network, temperature=temperature)
            predictions = calibration.scale(predictions, temperature)
        loss = {"loss": history[best - 1]["validation_loss"]}
        return TrainResult(
            artifacts.score(validation, predictions, transform) | loss,
            best,
            len(history),
            sum(row["seconds"] for row in history),
            stopped_early,
            network,
            history,
        )

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a forward pass of one row, in milliseconds, which the weights have no part in."""
        row = self.inputs.example(device=self.device)
        return machine.latency_ms(self.parts.model.to(self.device), row, self.settings.precision)


class SklearnEstimator:
    """Fits the families of scikit-learn, on the CPU; how a network is trained has no part in it."""

    parameters: int | None = None
    backend = "eager"

    def __init__(self, configuration: Mapping[str, Any], settings: TrainerConfig, manifest: Manifest) -> None:
        self.choice, self.seed = configuration["model"], configuration["seed"]
        sklearn_fit.make(self.choice, manifest)
        self.threads = settings.threads or sklearn_fit.choose_threads(self.choice, manifest)
        self.environment = machine.environment(torch.device("cpu"), self.threads)
        self.last: sklearn_fit.Model | None = None

    def fit(self, rows: FoldData, seed: int) -> TrainResult:
        """Fit the model.

        Raises:
            UserError: values that the family refuses, or rows that do not suit it.
        """
        started = time.perf_counter()
        self.last = model = self._fit(rows, seed)
        seconds = time.perf_counter() - started
        metrics = artifacts.score(rows.validation, model(rows.validation.inputs), rows.transform)
        loss = {"loss": _loss(model, rows.validation, metrics)}
        return TrainResult(metrics | loss, 0, 0, seconds, predict=model)

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a prediction for one row, in milliseconds, by the model that was fitted last."""
        if self.last is None:  # every fit was done before an interruption
            self.last = self._fit(rows(), self.seed)
        row, times = torch.zeros((1, *self.last.transform.manifest.shape)), []
        for _ in range(machine.LATENCY_CALLS + 5):  # the first few warm up
            started = time.perf_counter()
            self.last(row)
            times.append(time.perf_counter() - started)
        return 1000 * statistics.median(times[5:])

    def _fit(self, rows: FoldData, seed: int) -> sklearn_fit.Model:
        return sklearn_fit.fit(self.choice, rows.train, rows.validation, rows.transform, seed, self.threads)


def _loss(model: sklearn_fit.Model, validation: TensorSplit, metrics: Mapping[str, float]) -> float:
    """Return what a network's usual loss would be: cross-entropy, or the squared error of the standardised target."""
    if "log_loss" in metrics:
        return metrics["log_loss"]
    return float(np.square(model.standardised(validation.inputs) - validation.targets.double().numpy()).mean())


def _on(device: torch.device, split: TensorSplit, inputs: InputSpec) -> TensorSplit:
    """Return rows as the model takes them, on its device."""
    return replace(split, inputs=inputs.encode(split.inputs.to(device)), targets=split.targets.to(device))
