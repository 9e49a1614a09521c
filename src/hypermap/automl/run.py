"""Runs an AutoML: steps in a fixed order until there are enough or the time is up, then an ensemble of the best."""

import importlib
import math
import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypermap.automl.bench import Bench
from hypermap.automl.leaderboard import Entry, Summary, table_of
from hypermap.automl.order import Candidate, Done, Order, Outcome, Step, Tried
from hypermap.automl.proposals import Proposals
from hypermap.automl.selection import ROUNDS, Selection, cross_fitted, select
from hypermap.automl.settings import AutoML
from hypermap.automl.state import MODEL, OUTCOME, PREDICTIONS, State, compressed_bytes
from hypermap.config.portfolio import AUTOML_ROOMS
from hypermap.core import checkpoint, device
from hypermap.core.errors import UserError
from hypermap.core.files import durable_together, write_json
from hypermap.core.hashing import fingerprint, fingerprint_of_code
from hypermap.core.instantiate import instantiate
from hypermap.core.typing import Array
from hypermap.data.cross_validation import Holdout, repeat_seed
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec
from hypermap.experiments.run import ROOMS, Result, TrainingRequest
from hypermap.experiments.scheduler import Job, run_jobs
from hypermap.models.sklearn_fit import is_family
from hypermap.tasks.base import path_of
from hypermap.training import artifacts
from hypermap.training.length import default_batch, default_epochs

LIBRARY = 40  # candidates of which the ensemble is selected: those of the least loss
ROW_S, STEP_S = 6e-5, 4e-3  # that a network is expected to train for a row of an epoch, and for a step, on one core
SHARE = 0.5  # of the budget that one candidate may be expected to take
WRITING_S = 0.3  # from the selection to the written model, without the time that its size takes
WRITING_S_PER_MEGABYTE = 0.03

FORKS = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Clock:
    """A budget of time.

    Attributes:
        seconds: in all; infinite if only the number of steps counts.
        began: when it started to run (`time.monotonic`).
        jobs: steps that run at the same time.
        says: whether to print what is done.
    """

    seconds: float = math.inf
    began: float = field(default_factory=time.monotonic)
    jobs: int = 1
    says: bool = True

    @property
    def spent(self) -> float:
        """The seconds that have passed."""
        return time.monotonic() - self.began


def train(request: TrainingRequest, clock: Clock | None = None) -> tuple[Result, int]:
    """Train an AutoML, going on with one of the same settings that was interrupted, and write the ensemble.

    Writes what `hypermap.experiments.run.train` writes for one model, and beside it ``leaderboard.csv`` and
    ``automl.json``. The validation metrics are those of ensembles whose weights were selected without the rows that
    they are measured on.

    Args:
        request: the request; its configuration has the group `automl`, expanded.
        clock: ends the search; None: it does as many steps as the settings say.

    Returns:
        the result, and the number of steps that it comes from.

    Raises:
        UserError: the data is none for an AutoML, or no candidate could be trained.
        Interrupted: as `TrainingRequest.pause` raised it; the same request goes on.
    """
    device.make_repeatable()
    device.spare_compiler()
    clock = clock or Clock()
    with device.on_threads(1):  # no threads before a fork
        search = _Search(request, clock)
        preload()
        with search.opened() as state:
            done = search.run(state)
            result = search.finish(state, done)
            state.clear()
    return result, len(done)


def preload() -> None:
    """Import what trains and saves models, once instead of in the process of each step."""
    from hypermap.core import skops_io

    skops_io.dumps(0)
    with suppress(ImportError, OSError):  # a step that needs it will say so
        importlib.import_module("lightgbm")


class _Search:
    """One AutoML: its bench, the order of its steps, and what came of them."""

    def __init__(self, request: TrainingRequest, clock: Clock) -> None:
        self.request = request
        self.clock = clock
        configuration = request.configuration
        named = {key: value for key, value in configuration["automl"].items() if key != "name"}
        self.settings: AutoML = instantiate(named)
        self.bench = Bench(configuration, request.prepared, self.settings.folds)
        self.single = {key: value for key, value in configuration.items() if key != "automl"}
        self.portfolio = list(self._portfolio())
        features = [one for one in self.settings.features if self._applies(one)]
        proposals = Proposals(
            self.portfolio, self.settings.search, self.settings.space, features, configuration["seed"]
        )
        self.proposals = proposals
        self.order = Order(len(self.bench.splits), self.bench.worst(), proposals)

    def _portfolio(self) -> Iterator[Candidate]:
        """Yield the portfolio's candidates that suit the data and the budget."""
        rows = len(self.bench.splits[0].train)
        budget = self.settings.seconds or math.inf
        for entry in self.settings.candidates:
            groups = {key: value for key, value in entry.items() if key not in ("says", "data")}
            configuration = {**self.single, **groups}
            trainer = configuration["trainer"]
            if not is_family(configuration["model"]):
                epochs, batch = trainer["epochs"] or default_epochs(rows), trainer["batch_size"] or default_batch(rows)
                expected = len(self.bench.splits) * epochs * (rows * ROW_S + math.ceil(rows / batch) * STEP_S)
                if expected > SHARE * budget:
                    continue
            configuration["trainer"] = {**trainer, "threads": 1, "repeats": 1, "processes": 1}
            configuration["validation"] = {"name": "holdout", "_target_": path_of(Holdout)}
            yield Candidate(str(entry["says"]), configuration, dict(entry["data"]))

    def _applies(self, feature: str) -> bool:
        """Return whether the table has columns that a searched setting of preprocessing is about."""
        return not feature.startswith("data.categories=") or "category" in (self.bench.manifest.roles or [])

    # Steps

    @contextmanager
    def opened(self) -> Iterator[State]:
        """Lock the folder of the state, which depends on all that decides the results."""
        automl = {**self.request.configuration["automl"], "steps": None}
        decides = [{**self.single, "automl": automl, "evaluation": None, "experiment": None, "data": None}]
        manifest = self.bench.manifest
        code = fingerprint_of_code((*ROOMS, *AUTOML_ROOMS), frozenset())
        environment = device.environment(torch.device("cpu"), 1)
        name = fingerprint([decides, manifest.fingerprint, manifest.raw_sha256, environment, code])
        with checkpoint.own_folder(self.request.states, f"automl-{name}") as folder:
            yield State(folder)

    def run(self, state: State) -> dict[Step, Outcome]:
        """Do steps until there are enough, or the time is up; return those that are done in their order."""
        done = state.done()
        self.clock = replace(self.clock, began=self.clock.began - state.spent)
        running: dict[Any, Step] = {}
        try:
            while not self._enough(done):
                while len(running) < self.clock.jobs and (step := self._next(done, running)) is not None:
                    running[self._start(state, step)] = step
                if not running:
                    break
                left = self._left(done)
                ended = connection.wait([process.sentinel for process in running], None if left is None else left)
                self.request.pause()
                if not ended and self._left(done) == 0:
                    break
                for process in [process for process in running if process.sentinel in ended]:
                    step = running.pop(process)
                    process.join()
                    if (outcome := state.outcome(step)) is None:
                        state.fail(step, f"its process ended with exit code {process.exitcode}")
                        outcome = state.outcome(step)
                    assert outcome is not None
                    done[step] = outcome
                    state.spent = self.clock.spent
                    self._say(step, done)
        finally:
            for process in running:
                process.kill()
                process.join()
        order = list(self.order.finished(done))
        return {step: done[step] for step in order[: self.settings.steps]}

    def _next(self, done: Done, running: Mapping[Any, Step]) -> Step | None:
        step = self.order.next(done, list(running.values()))
        within = self.settings.steps is not None or self.clock.seconds < math.inf
        return step if step is None or within or step.candidate < len(self.portfolio) else None

    def _enough(self, done: Done) -> bool:
        """Return whether no further step is wanted; one candidate at least is trained on every fold."""
        if self.settings.steps is not None and len(done) >= self.settings.steps:
            return sum(1 for _ in self.order.finished(done)) >= self.settings.steps
        return self._left(done) == 0

    def _left(self, done: Done) -> float | None:
        """Return the seconds that are left for steps; None if there is no limit, or nothing to write yet."""
        if self.clock.seconds == math.inf:
            return None
        tried = [one for k in {step.candidate for step in done} if (one := self.order.tried(k, done)) is not None]
        if not tried:
            return None
        return max(0.0, self.clock.seconds - self.clock.spent - self._finishing_s(len(tried)))

    def _finishing_s(self, tried: int) -> float:
        """Return the seconds that the selection and writing the ensemble are expected to take."""
        if not hasattr(self, "_per_mean"):
            positions, library = self.bench.covered, np.full((len(self.bench.covered), *self.bench.task.shape), 0.5)
            losses, began = self.bench.losses(positions), time.perf_counter()
            for _ in range(3):
                losses((library + library) / 2).mean()
            self._per_mean = (time.perf_counter() - began) / 3
        selections = 1 + (len(self.bench.splits) if len(self.bench.splits) > 1 else 0)
        means = selections * ROUNDS * min(tried, LIBRARY) * self._per_mean
        return means + WRITING_S + WRITING_S_PER_MEGABYTE * self.settings.megabytes

    def _start(self, state: State, step: Step) -> Any:
        candidate = self.order.candidate(step.candidate, {})
        assert candidate is not None
        with suppress(UserError):  # the step will say so
            self.bench.rows(candidate.preparation).of(self.bench.splits[step.fold])  # kept for the steps that follow
        process = FORKS.Process(target=self._fit, args=(state, step, candidate), daemon=True)
        process.start()
        return process

    def _fit(self, state: State, step: Step, candidate: Candidate) -> None:
        """Train a candidate on a fold, in a process of its own."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with state.writing(step) as folder:
                outcome = self._fitted(step, candidate, folder)
                write_json(folder / OUTCOME, asdict(outcome))
        except UserError as error:
            state.fail(step, str(error))
        except (ValueError, ArithmeticError, MemoryError) as error:  # what a library says of rows that it cannot fit
            state.fail(step, f"{type(error).__name__}: {error}")

    def _fitted(self, step: Step, candidate: Candidate, folder: Path) -> Outcome:
        fold, rows = self.bench.splits[step.fold], self.bench.rows(candidate.preparation)
        seed = repeat_seed(self.request.configuration["seed"], step.candidate)
        configuration = {**candidate.configuration, "seed": seed}
        validator = CrossValidator(configuration, self.request.prepared, rows)
        job = Job(validator, FoldSpec(fold, seed), folder / "training")
        (result,) = (one for ended in run_jobs([job], lambda reports: {}) for one in ended.values())
        if isinstance(result, Exception):
            raise result
        assert result.predict is not None
        record = artifacts.RunRecord(
            best_epoch=result.best_epoch,
            stopped_early=result.stopped_early,
            monitor=validator.monitor,
            parameters=validator.estimator.parameters,
            environment=validator.estimator.environment,
            configuration=configuration,
            tuned=dict(result.tuned),
        )
        artifacts.write_trained(folder / MODEL, artifacts.TrainedModel(record, result.predict, result.history))
        predictions = result.predict(rows.of(fold).validation.inputs)
        if not np.isfinite(predictions).all():
            raise UserError("its predictions are not finite")
        with (folder / PREDICTIONS).open("wb") as file:
            np.save(file, predictions)
        loss = float(self.bench.losses(fold.validation)(predictions).mean())
        return Outcome(loss, compressed_bytes(folder / MODEL), result.best_epoch)

    def _say(self, step: Step, done: Done) -> None:
        if not self.clock.says:
            return
        candidate = self.order.candidate(step.candidate, done)
        assert candidate is not None
        if done[step].error:
            print(f"  {candidate.says}: left out: {done[step].error}", flush=True)
        elif (tried := self.order.tried(step.candidate, done)) is not None:
            others = [self.order.tried(k, done) for k in {other.candidate for other in done} if k != step.candidate]
            best = all(other is None or tried.loss < other.loss for other in others)
            count = f"{len(done)}/{self.settings.steps}"
            place = f"{self.clock.spent:.0f} s" if self.settings.steps is None else count
            mark = "  (best so far)" if best else ""
            print(f"[{place}] {self._shown(tried.loss)}  {candidate.says}{mark}", flush=True)

    def _shown(self, loss: float) -> str:
        return f"rmse {math.sqrt(loss):.5g}" if self.bench.manifest.task == "regression" else f"log loss {loss:.5f}"

    # The ensemble

    def finish(self, state: State, done: Done) -> Result:
        """Select the ensemble, write it, and return the result."""
        every = [one for k in sorted({step.candidate for step in done}) if (one := self.order.tried(k, done))]
        if not every:
            said = "; ".join(sorted({outcome.error for outcome in done.values() if outcome.error}))
            raise UserError(f"automl: no candidate could be trained on each fold. {said}")
        library = sorted(every, key=lambda tried: (tried.loss, tried.number))[:LIBRARY]
        folds = range(len(self.bench.splits))
        predictions = [self.bench.joined([state.predictions(Step(one.number, k)) for k in folds]) for one in library]
        sizes = [sum(done[Step(one.number, k)].bytes for k in folds) / 1e6 for one in library]
        chosen, free = self._selected(library, predictions, sizes)
        covered = self.bench.covered
        held_out = [np.searchsorted(covered, fold.validation) for fold in self.bench.splits]
        honest = cross_fitted(
            predictions, lambda places: self.bench.losses(covered[places]), held_out, sizes, self.settings.megabytes
        )
        summary = self._summary(library, every, predictions, sizes, chosen, free, honest, done)
        return self._write(state, library, chosen, honest, summary)

    def _selected(
        self, library: Sequence[Tried], predictions: Sequence[Array], sizes: Sequence[float]
    ) -> tuple[Selection, Selection]:
        """Return the ensemble within the limit of its size, and that without a limit.

        Raises:
            UserError: no candidate is within the limit.
        """
        losses, limit = self.bench.losses(self.bench.covered), self.settings.megabytes
        free = select(predictions, losses)
        if sum(size for size, weight in zip(sizes, free.weights, strict=True) if weight) <= limit:
            return free, free
        if min(sizes) > limit:
            raise UserError(
                f"automl.megabytes={limit:g}: the smallest of the {len(library)} candidates needs {min(sizes):.3g} MB. "
                "Raise it, or add smaller models to automl.portfolio."
            )
        return select(predictions, losses, sizes, limit), free

    def _summary(
        self,
        library: Sequence[Tried],
        every: Sequence[Tried],
        predictions: Sequence[Array],
        sizes: Sequence[float],
        chosen: Selection,
        free: Selection,
        honest: Array,
        done: Done,
    ) -> Summary:
        losses = self.bench.losses(self.bench.covered)
        rows = [losses(own) for own in predictions]
        entries = [
            Entry.of(one.candidate.says, one.number, own, weight, size)
            for one, own, weight, size in zip(library, rows, chosen.weights, sizes, strict=True)
        ]
        dropped = len({step.candidate for step in done}) - len(every)
        return Summary.of(entries, rows[0], losses(honest), chosen, free, len(done), len(every), dropped)

    @durable_together()
    def _write(
        self, state: State, library: Sequence[Tried], chosen: Selection, honest: Array, summary: Summary
    ) -> Result:
        """Write the ensemble and its metrics; return the result."""
        request, folds = self.request, range(len(self.bench.splits))
        used = [(one, float(weight)) for one, weight in zip(library, chosen.weights, strict=True) if weight]
        members = [state.model(Step(one.number, k)) for one, _ in used for k in folds]
        weights = [weight / len(folds) for _, weight in used for _ in folds]
        task, targets = self.bench.task, self.bench.targets[self.bench.covered]
        metrics = task.measure(targets, honest)
        metrics["loss"] = float(self.bench.losses(self.bench.covered)(honest).mean())
        named = request.configuration["trainer"]["monitor"] or task.monitor
        monitor = named if named in metrics else "loss"  # what only a network has
        environment = device.environment(torch.device("cpu"), 1)
        record = artifacts.RunRecord(
            best_epoch=0,
            stopped_early=False,
            monitor=monitor,
            parameters=None,
            environment=environment,
            configuration={
                **request.configuration,
                "automl": {**request.configuration["automl"], "steps": summary.steps},
            },
        )
        artifacts.write_ensemble(request.output, record, members, weights)
        entries, columns = [asdict(entry) for entry in summary.entries], [own.name for own in fields(Entry)]
        rows = self.bench.indices[self.bench.covered]
        artifacts.write_search(request.output, columns, entries, summary.as_entry(), rows, honest)
        artifacts.write_metrics(request.validation, "validation", metrics)
        if self.clock.says:
            print(table_of(summary))
        return Result(
            objective=metrics[monitor],
            monitor=monitor,
            metrics=metrics,
            scores=[metrics[monitor]],
            best_epoch=0,
            epochs=0,
            seconds=self.clock.spent,
            parameters=None,
            threads=1,
            latency_ms=None,
            backend="eager",
        )
