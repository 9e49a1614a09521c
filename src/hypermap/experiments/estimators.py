"""How a model is trained, given its rows: a network epoch by epoch, a model of scikit-learn in one go."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
from hypermap.training.loop import TrainVal, train_alone
from hypermap.training.state import Report, Trained, TrainerConfig, TrainState, no_report


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

    def learn(
        self, rows: FoldData, seed: int, state: Path, report: Report = no_report, quiet: bool = True
    ) -> TrainResult:
        """Train, going on from what `state` holds, and leave there the state."""
        ...

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a prediction for one row, in milliseconds; `rows` are to be learned from if need
        be.
        """
        ...


def make_learner(configuration: Mapping[str, Any], settings: TrainerConfig, manifest: Manifest) -> Estimator:
    """Return the learner for the model of a configuration.

    Raises:
        UserError: a value that does not suit the data, the machine or a signature.
    """
    if sklearn_fit.is_family(configuration["model"]):
        return SklearnEstimator(configuration, settings, manifest)
    return TorchEstimator(configuration, settings, manifest)


class TorchEstimator:
    """Trains networks with `Trainer`, on the device of the settings."""

    def __init__(self, configuration: Mapping[str, Any], settings: TrainerConfig, manifest: Manifest) -> None:
        self.configuration = configuration
        self.settings = settings
        self.manifest = manifest
        self.device = machine.choose_device(settings.device)
        self.inputs = resolve_input_spec(configuration["model"], manifest)
        with machine.told_out_of_memory(settings.batch_size):
            self.parts = make_components(configuration, manifest, torch.device("cpu"))
        self.model = self.parts.model
        self.parameters: int | None = sum(parameter.numel() for parameter in self.model.parameters())
        self.threads = settings.threads or machine.choose_threads(self.model, settings.batch_size)
        choice.check_name(settings.backend)
        self.backend = "eager" if settings.backend == "auto" else settings.backend
        self.environment = machine.environment(self.device, self.threads)

    def learn(
        self, rows: FoldData, seed: int, state: Path, report: Report = no_report, quiet: bool = True
    ) -> TrainResult:
        """Train, and load the best epoch's weights.

        Raises:
            Diverged: a loss that is not finite.
            OutOfMemory: the network and its batches are too large.
            UserError: a state that cannot be read.
        """
        with machine.told_out_of_memory(self.settings.batch_size):
            sets = self.sets(rows)
            member = self.begin(rows, sets, seed, state)
            backend = partial(choice.make, self.backend, threads=self.threads)
            trained = train_alone(member, sets, report, quiet, backend)
            return self.end(rows, member, trained)

    def begin(
        self, rows: FoldData, sets: TrainVal, seed: int, state: Path | None = None, own: bool = False
    ) -> TrainState:
        """Return what trains on these rows, made from its seed; its loss is fitted to their targets.

        Args:
            rows: see `FoldData`.
            sets: the same, as `sets` has them.
            seed: of torch's global generator, from which the weights are drawn, and of the member's own.
            state: see `TrainState`.
            own: whether its dropout goes on from a copy of the global generator, which others use as well.
        """
        torch.manual_seed(seed)
        manifest = rows.transform.manifest
        parts = make_components(self.configuration, manifest, self.device)
        parts.loss.fit(sets.train.targets, len(manifest.classes))
        random = torch.Generator(self.device).manual_seed(seed) if own else None
        if random is not None and self.device.type == "cpu":
            random.set_state(torch.get_rng_state())  # on another device, making the weights draws nothing
        rows_held = len(sets.validation.targets)
        return TrainState(
            parts, self.settings, manifest.task, seed, self.device, random, state, validation_rows=rows_held
        )

    def batch_key(self, rows: FoldData | None = None) -> str:
        """Return what this has in common with those that it may be stacked with.

        Args:
            rows: that it learns from, whose number and categories count as well; None where they are not known yet.
        """
        backends = "native too" if self.suits_kernel else "torch's"
        if rows is None:
            return f"{batch_key(self.configuration, self.model, 0)} {backends}"
        inputs = resolve_input_spec(self.configuration["model"], rows.transform.manifest)
        own = batch_key(self.configuration, self.model, len(rows.train.targets))
        return f"{own} {inputs.shape} {inputs.runtime} {backends}"

    @cached_property
    def suits_kernel(self) -> bool:
        """Whether the native kernel may be what trains this, and can: else it would end a stack that others are in."""
        if self.settings.backend not in ("auto", "native") or self.device.type != "cpu":
            return False
        try:
            optimizer = self.parts.make_optimizer(list(self.model.parameters()))
        except UserError:  # it is told when it trains
            return False
        return native.why_not(self.parts, optimizer, self.settings.precision) is None

    def example(self, rows: FoldData) -> tuple[torch.nn.Module, torch.Tensor]:
        """Return a network for these rows, and the inputs that it learns from, on the CPU."""
        manifest = rows.transform.manifest
        inputs = resolve_input_spec(self.configuration["model"], manifest).encode(rows.train.inputs)
        return make_components(self.configuration, manifest, torch.device("cpu")).model, inputs

    def sets(self, rows: FoldData) -> TrainVal:
        """Return the rows as the network takes them, on its device."""
        inputs = resolve_input_spec(
            self.configuration["model"], rows.transform.manifest
        )  # a fold may know other categories
        return TrainVal(*(_on(self.device, split, inputs) for split in (rows.train, rows.validation)))

    def end(self, rows: FoldData, member: TrainState, trained: Trained) -> TrainResult:
        """Return the network with its best epoch's weights, and what that comes to."""
        parts, history, kept = member.parts, trained.history, trained.best_epoch
        inputs = resolve_input_spec(self.configuration["model"], rows.transform.manifest)
        parts.model.load_state_dict(trained.weights)
        network = artifacts.Network(parts.model, parts.loss, rows.transform, inputs, self.settings.precision)
        predictions = network(rows.validation.inputs.to(self.device))
        if self.settings.calibration is not None and rows.transform.manifest.classes:
            temperature = calibration.fit_temperature(predictions, artifacts.targets(rows.validation, rows.transform))
            network = replace(network, temperature=temperature)
            predictions = calibration.scale(predictions, temperature)
        loss = {"loss": history[kept - 1]["validation_loss"]}
        return TrainResult(
            artifacts.score(rows.validation, predictions, rows.transform) | loss,
            kept,
            len(history),
            sum(row["seconds"] for row in history),
            trained.stopped_early,
            network,
            history,
        )

    def latency_ms(self, rows: Callable[[], FoldData]) -> float:
        """Return the median time of a forward pass of one row, in milliseconds, which the weights have no part in."""
        model = make_components(self.configuration, self.manifest, self.device).model
        row = torch.zeros((1, *self.inputs.shape), device=self.device)
        return machine.latency_ms(model, row, self.settings.precision)


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

    def learn(
        self, rows: FoldData, seed: int, state: Path, report: Report = no_report, quiet: bool = True
    ) -> TrainResult:
        """Fit; `state` has nothing to go on from, and there is nothing to report before the end.

        Raises:
            UserError: values that the family refuses, or rows that do not suit it.
        """
        started = time.perf_counter()
        self.last = model = self._fit(rows, seed)
        seconds = time.perf_counter() - started
        figures = artifacts.score(rows.validation, model(rows.validation.inputs), rows.transform)
        metrics = figures | {"loss": _loss(model, rows.validation, figures)}
        return TrainResult(metrics, 0, 0, seconds, predict=model)

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


def _loss(model: sklearn_fit.Model, validation: TensorSplit, figures: Mapping[str, float]) -> float:
    """Return what a network's usual loss would be: cross-entropy, or the squared error of the standardised target."""
    if "log_loss" in figures:
        return figures["log_loss"]
    return float(np.square(model.standardised(validation.inputs) - validation.targets.double().numpy()).mean())


def _on(device: torch.device, split: TensorSplit, inputs: InputSpec) -> TensorSplit:
    """Return rows as the model takes them, on its device."""
    return replace(split, inputs=inputs.encode(split.inputs.to(device)), targets=split.targets.to(device))
