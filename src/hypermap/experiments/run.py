"""From a configuration and prepared data to a trained model and its figures on the validation rows."""

import inspect
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic

from hypermap.core import checkpoint, device
from hypermap.core.errors import (
    Diverged,
    Interrupted,
    OutOfHostMemory,
    OutOfMemory,
    Paused,
    Pruned,
)
from hypermap.core.files import durable_together
from hypermap.core.hashing import fingerprint, fingerprint_of_code, own_files
from hypermap.core.instantiate import locate
from hypermap.core.paths import PACKAGE, RUNS
from hypermap.data.fold_data import Folds
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec, forget, read_finished, write_finished
from hypermap.experiments.estimators import TrainResult
from hypermap.experiments.scheduler import Job, choose_backends, run_jobs
from hypermap.training import artifacts
from hypermap.training.backends.native_build import why_no_compiler
from hypermap.training.components import GROUPS
from hypermap.training.loop import K, OnEpochEnd, Reports
from hypermap.training.state import Report, no_report

ROOMS = ("core", "data", "experiments", "models", "tasks", "training")  # whose code decides what a training comes to


@dataclass(frozen=True)
class Result:
    """What validation says of a configuration; `objective` is the figure that a search may pick by.

    Where there are several fits (`hypermap.experiments.cross_validator`), `objective` and `metrics` are their means.
    """

    objective: float
    monitor: str
    metrics: dict[str, float]  # by name: accuracy, loss, …
    scores: list[float]  # the objective of each fit
    best_epoch: int  # of the model that is kept; where none is, of the first fit; 0 where there are no epochs
    epochs: int  # likewise
    seconds: float  # of all trainings
    parameters: int | None  # the weights' number; None for a model without
    threads: int
    latency_ms: float | None  # of a prediction for one row; None where it was not asked for
    backend: str  # what carried out the steps: of `hypermap.training.backends.choice.BACKENDS`


def summary(result: Result) -> str:
    """Return how a training went, in one line."""
    fits = len(result.scores)
    said = f"Validation {result.monitor} {result.objective:.4f}"
    if result.epochs:
        kept = f"mean of {fits} trainings" if fits > 1 else f"at epoch {result.best_epoch} of {result.epochs}"
        return f"{said} {kept}, trained in {result.seconds:.1f} s"
    mean = f", mean of {fits} trainings" if fits > 1 else ""
    return (
        f"{said}{mean}, fitted in {result.seconds:.1f} s\n"
        "(by scikit-learn: optimizer, scheduler, loss, regularizer, augment, trainer.epochs and trainer.calibration "
        "have no part in it)"
    )


@dataclass(frozen=True, eq=False)
class TrainingRequest:
    """A training that is asked for.

    Attributes:
        configuration: every group, and the seed.
        prepared: the folder of the prepared data.
        output: for what is written.
        validation: the file for the metrics.
        report: told the monitored figure: of each epoch, where there is one fit (`Trainer.run`), else of each fit,
            the step being its number. What was reported before an interruption may be reported again.
        pause: called after each epoch; raises `Interrupted` where a person has asked to stop.
        refit: where no fit is on the prepared splits, train the model to keep on them; else none is kept.
        measure_latency: time the prediction for one row.
        states: the folder below which its state is kept while it trains, by a name that its settings have.
    """

    configuration: Mapping[str, Any]
    prepared: Path
    output: Path
    validation: Path
    report: Report = no_report
    pause: Callable[[], None] = lambda: None
    refit: bool = True
    measure_latency: bool = False
    states: Path = RUNS


def train(request: TrainingRequest) -> Result:
    """Train, going on from an interrupted run of the same settings, and write the outcome.

    Writes ``model.safetensors`` (weights by name; of a model of scikit-learn ``model.skops``), ``model.json`` (what
    made it), what was fitted to prepare its inputs (`Transform.write`) and ``history.csv`` into the request's `output`,
    and the flat metrics of the validation rows as JSON to its `validation`. The seconds of each epoch, which differ
    from run to run, stay in ``runs/``. Where there are several fits, their metrics stand in ``scores.csv`` beside the
    model; the model is that of the prepared splits and the configuration's own seed.

    Raises:
        Diverged: a loss that is not finite.
        OutOfMemory: the network and its batches are too large.
        Pruned: as `TrainingRequest.report` raised it. After these three the run starts over.
        Paused: as `TrainingRequest.report` raised it; the run will go on from here.
        Interrupted: as `TrainingRequest.report` or `TrainingRequest.pause` raised it; likewise.
        UserError: settings that do not fit the data or a signature.
    """
    device.make_repeatable()
    device.spare_compiler()
    named = request.configuration["trainer"].get("backend", "auto")
    # The rows of a stack are held once.
    run = Experiment(request, Folds(request.prepared, keep=named not in ("auto", "eager")))
    if named == "auto" and run.begun_by is not None:
        run.validator.estimator.backend = run.begun_by
    ends: list[Result | Exception] = []

    def on_epoch_end(reports: Reports[None]) -> dict[None, Exception]:
        try:
            request.report(*reports[None])
        except (Pruned, Paused) as error:
            return {None: error}
        request.pause()
        return {}

    quiet = request.report is not no_report
    _carry_out({None: run}, on_epoch_end, lambda _, result: ends.append(result), quiet)
    (result,) = ends
    if isinstance(result, Exception):
        raise result
    return result


def train_together(
    requests: Mapping[K, TrainingRequest],
    on_epoch_end: OnEpochEnd[K],
    on_finish: Callable[[K, Result | Exception], None],
    say: Callable[[K, str], None],
) -> None:
    """Train what is asked for, each as `train` would, those that fit together as stacks.

    Args:
        requests: by whatever the caller names them; their `TrainingRequest.report` is for those with several fits.
        on_epoch_end: gets after each epoch, for all that have one fit, what `TrainingRequest.report` would get;
            returns what ends some.
        on_finish: gets each as soon as it has ended, with its result, or with the error that `train` would raise.
        say: told why something is trained by itself.

    Raises:
        Interrupted: as `on_epoch_end` or a `TrainingRequest.pause` raised it; what has not ended will go on from here.
    """
    device.make_repeatable()
    device.spare_compiler()
    folders = {request.prepared: Folds(request.prepared, keep=True) for request in requests.values()}
    runs: dict[K, Experiment] = {}
    for key, request in requests.items():
        try:
            runs[key] = Experiment(request, folders[request.prepared])
        except Exception as error:
            on_finish(key, error)
    reasons = choose_backends({key: (run.validator, len(run.plan), run.begun_by) for key, run in runs.items()})
    for key, reason in reasons.items():
        say(key, reason)
    _carry_out(runs, on_epoch_end, on_finish)


def _carry_out(
    runs: Mapping[K, "Experiment"],
    on_epoch_end: OnEpochEnd[K],
    on_finish: Callable[[K, Result | Exception], None],
    quiet: bool = True,
) -> None:
    """Train runs, and end each."""
    with ExitStack() as open_runs:
        for run in runs.values():
            open_runs.enter_context(run.opened())
        batch = _Batch(runs, on_epoch_end, on_finish)
        for ended in run_jobs(batch.begin(), batch.relay, quiet):
            batch.enter(ended)
            if not batch.going:
                break


class _Batch(Generic[K]):
    """Runs that are carried out together: whose each fit is, who is still in training, and how others ended."""

    def __init__(
        self,
        runs: Mapping[K, "Experiment"],
        on_epoch_end: OnEpochEnd[K],
        on_finish: Callable[[K, Result | Exception], None],
    ) -> None:
        self.runs = runs
        self.on_epoch_end = on_epoch_end
        self.on_finish = on_finish
        self.owner: dict[Job, K] = {}
        self.going = set(runs)
        self.errors: dict[K, Exception] = {}

    def begin(self) -> list[Job]:
        """Return the fits that are left; whoever has none is told at once.

        Raises:
            Interrupted: a person asked to stop.
        """
        for key, run in self.runs.items():
            result: Result | Exception | None
            try:
                jobs = run.jobs()
                result = None if jobs else run.result()
            except Interrupted:
                raise
            except Exception as error:  # what was done before an interruption is told again, and may be pruned
                run.forget_after(error)
                result = error
            if result is None:
                self.owner |= dict.fromkeys(jobs, key)
            else:
                self.going.remove(key)
                self.on_finish(key, result)
        return list(self.owner)

    def relay(self, reports: Reports[Job]) -> dict[Job, Exception]:
        """Report the epochs of those that have one fit; the others report their fits (`Experiment.done`)."""
        single = {self.owner[job]: job for job in reports if self.runs[self.owner[job]].single}
        for key in {self.owner[job] for job in reports} - single.keys():
            self.runs[key].request.pause()
        ends = self.on_epoch_end({key: reports[job] for key, job in single.items()}) if single else {}
        gone = {job: Pruned("its run has ended") for job in reports if self.owner[job] not in self.going}
        return {single[key]: error for key, error in ends.items()} | gone

    def enter(self, ended: Mapping[Job, TrainResult | Exception]) -> None:
        """Enter fits that have ended, and tell of the runs that have ended with them.

        Raises:
            Interrupted: a person asked to stop; whoever has ended at the same time is told all the same.
        """
        finished: dict[K, Result | Exception] = {}
        interrupted: Interrupted | None = None
        with durable_together():  # before anybody is told that it is there
            for job, result in ended.items():
                key, run = self.owner[job], self.runs[self.owner[job]]
                if key not in self.going:  # another of its fits has ended it
                    run.keep(job, result)
                    run.forget_after(self.errors[key])
                    continue
                try:
                    if (whole := run.done(job, result)) is not None:
                        finished[key] = whole
                except Interrupted as error:
                    interrupted = error
                except Exception as error:
                    run.forget_after(error)
                    finished[key] = self.errors[key] = error
                self.going -= finished.keys()
        for key, outcome in finished.items():
            self.on_finish(key, outcome)
        if interrupted is not None:
            raise interrupted


class Experiment:
    """The fits of one configuration, their states, and what they leave behind.

    Args:
        request: what is asked for.
        folds: the rows of `request.prepared`, where somebody has them.

    Raises:
        UserError: settings that do not fit the data or a signature.
    """

    def __init__(self, request: TrainingRequest, folds: Folds | None = None) -> None:
        self.request = request
        self.validator = CrossValidator(request.configuration, request.prepared, folds)
        self.plan: list[FoldSpec] = self.validator.plan()
        self.fits: dict[int, TrainResult] = {}
        self.kept: TrainResult | None = None
        self.reported = 0

    @property
    def single(self) -> bool:
        """Whether there is one fit, on the prepared splits."""
        return self.plan == [self.validator.holdout]

    @property
    def backend(self) -> str:
        """What carries out its steps."""
        return self.validator.estimator.backend

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder of its state, in which what is done by its backend is found again."""
        with checkpoint.own_folder(self.request.states, _identity(self.validator, self.backend)) as self.state:
            yield

    @property
    def begun_by(self) -> str | None:
        """The kernel, where an interrupted run of these settings was trained by it."""
        state = self.request.states / _identity(self.validator, "native")
        return "native" if any(state.rglob(checkpoint.PROGRESS)) and why_no_compiler() is None else None

    def forget(self) -> None:
        """Let the next run of these settings start over."""
        forget(self.state)

    def forget_after(self, error: Exception) -> None:
        """Do so where the next run would only come to the same error again."""
        if isinstance(error, Diverged | OutOfMemory | Pruned) and not isinstance(error, OutOfHostMemory):
            self.forget()

    def jobs(self) -> list[Job]:
        """Return the fits that are left; those that were done before an interruption are told again."""
        folders = {number: self._folder(number) for number in range(len(self.plan))}
        if not self.single:
            found = {number: read_finished(folder) for number, folder in folders.items()}
            self.fits = {number: result for number, result in found.items() if result is not None}
            self._report()
        # The state of a finished fit on the prepared splits is whole: its model is taken from there.
        left = [
            number for number, fit in enumerate(self.plan) if number not in self.fits or fit == self.validator.holdout
        ]
        return [Job(self.validator, self.plan[number], folders[number], number) for number in left]

    def done(self, job: Job, result: TrainResult | Exception) -> Result | None:
        """Enter what a fit came to, and return what the run comes to, where it was the last one.

        Raises:
            Exception: what a fit ended by.
            Interrupted: a person asked to stop, and there are more fits to do.
        """
        if isinstance(result, Exception):
            raise result
        self.keep(job, result)
        self.fits[job.number] = result.noted()
        if job.fit == self.validator.holdout:
            self.kept = result
        else:
            checkpoint.clear(job.folder)
        self._report()
        if len(self.fits) == len(self.plan):
            return self.result()
        self.request.pause()
        return None

    def keep(self, job: Job, result: TrainResult | Exception) -> None:
        """Note on the disk that a fit is done, where it is one of several."""
        if not self.single and not isinstance(result, Exception):
            write_finished(job.folder, result)

    def _refit(self) -> TrainResult:
        """Train the model to keep, on the prepared splits."""

        def pause(reports: Reports[Job]) -> dict[Job, Exception]:
            self.request.pause()
            return {}

        job = Job(self.validator, self.validator.holdout, self.state / "refit")
        (result,) = (result for ended in run_jobs([job], pause) for result in ended.values())
        if isinstance(result, Exception):
            raise result
        return result

    def result(self) -> Result:
        """Train the model to keep, where no fit has; write everything, and say what it comes to."""
        request, validator = self.request, self.validator
        fits = [self.fits[number] for number in range(len(self.plan))]
        with device.on_threads(validator.estimator.threads):  # not a stack's
            if self.kept is None and request.refit:
                self.kept = self._refit()
            latency_ms = validator.latency_ms() if request.measure_latency else None
        metrics = self._write(fits)
        self.forget()
        shown = self.kept or fits[0]
        trained = [*fits, shown] if self.kept and validator.holdout not in self.plan else fits
        return Result(
            objective=metrics[validator.monitor],
            monitor=validator.monitor,
            metrics=metrics,
            scores=[fit.metrics[validator.monitor] for fit in fits],
            best_epoch=shown.best_epoch,
            epochs=shown.epochs,
            seconds=sum(fit.seconds for fit in trained),
            parameters=validator.estimator.parameters,
            threads=validator.estimator.threads,
            latency_ms=latency_ms,
            backend=self.backend,
        )

    def _folder(self, number: int) -> Path:
        return self.state if self.single else self.state / f"fit-{number + 1}"

    def _report(self) -> None:
        """Report the fits that are done, in order, where there are several."""
        while not self.single and self.reported in self.fits:
            self.reported += 1
            self.request.report(self.reported, self.fits[self.reported - 1].metrics[self.validator.monitor])

    @durable_together()
    def _write(self, fits: Sequence[TrainResult]) -> dict[str, float]:
        """Write what the training leaves behind, and remove what another left there; return the figures."""
        validator, output = self.validator, self.request.output
        stale = set(artifacts.FILES)
        if self.kept:
            predict = self.kept.predict
            assert predict is not None
            record = artifacts.RunRecord(
                self.kept.best_epoch,
                self.kept.stopped_early,
                validator.monitor,
                validator.estimator.parameters,
                validator.estimator.environment,
                _made_by(validator.configuration, self.backend),
                predict.temperature if isinstance(predict, artifacts.Network) else 1.0,
            )
            stale -= artifacts.write_trained(output, artifacts.TrainedModel(record, predict), self.kept.history)
        if self.single:
            metrics, spread = fits[0].metrics, {}
        else:
            metrics, spread = _means(fits), _spread(validator.monitor, fits)
            labels = [{"fold": fit.fold.fold, "repeat": fit.fold.repeat, "seed": fit.seed} for fit in self.plan]
            artifacts.write_scores(output, [label | fit.metrics for label, fit in zip(labels, fits, strict=True)])
            stale -= {artifacts.SCORES}
        artifacts.write_metrics(self.request.validation, "validation", metrics | spread)
        for name in stale:
            (output / name).unlink(missing_ok=True)
        return metrics


def _means(fits: Sequence[TrainResult]) -> dict[str, float]:
    """Return the mean of each figure over the fits that have it: a fold may be without ROC-AUC."""
    names = dict.fromkeys(name for fit in fits for name in fit.metrics)
    return {name: statistics.fmean(fit.metrics[name] for fit in fits if name in fit.metrics) for name in names}


def _spread(monitor: str, fits: Sequence[TrainResult]) -> dict[str, float]:
    """Return the standard deviation of the fits' scores (of a sample: over one less than their number), and their
    number.
    """
    scores = [fit.metrics[monitor] for fit in fits]
    return {f"{monitor}_std": statistics.stdev(scores) if len(scores) > 1 else 0.0, "fits": len(scores)}


def _made_by(configuration: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """Return the configuration that comes to the same bits again: the kernel's are others than torch's."""
    if backend != "native":
        return dict(configuration)
    return {**configuration, "trainer": {**configuration["trainer"], "backend": backend}}


def _identity(validator: CrossValidator, backend: str) -> str:
    """Return a name that two runs share if, and only if, they must come to the same numbers.

    Torch's own backends share one: what they come to differs by the rounding of sums alone.
    """
    configuration = validator.configuration
    foreign = (_source(configuration[group]["_target_"]) for group in (*GROUPS, "validation"))
    others = {file for file in foreign if file and PACKAGE not in file.parents} | {*own_files(configuration).values()}
    code = fingerprint_of_code(ROOMS, frozenset(others))
    settings = {key: value for key, value in configuration.items() if key not in ("data", "experiment", "evaluation")}
    settings["trainer"] = {
        **settings["trainer"],
        "reports_per_epoch": None,  # changes no number
        "backend": "native" if backend == "native" else "torch",
    }
    data = [validator.manifest.fingerprint, validator.manifest.raw_sha256]
    return fingerprint([settings, *data, validator.estimator.environment, code])


@cache
def _source(target: str) -> Path | None:
    """Return the file in which a part is written."""
    file = inspect.getsourcefile(locate(target))
    return Path(file).resolve() if file else None
