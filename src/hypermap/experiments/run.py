"""From a configuration and prepared data to a trained model and its validation metrics."""

import inspect
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic

import numpy as np

from hypermap.core import checkpoint, device
from hypermap.core.errors import (
    Diverged,
    Interrupted,
    OutOfHostMemory,
    OutOfMemory,
    Paused,
    Pruned,
    UserError,
)
from hypermap.core.files import durable_together
from hypermap.core.hashing import fingerprint, fingerprint_of_code, own_files
from hypermap.core.instantiate import locate
from hypermap.core.paths import PACKAGE, RUNS
from hypermap.data.cross_validation import Holdout
from hypermap.data.fold_data import Folds
from hypermap.data.manifest import Manifest
from hypermap.data.table_preprocessor import text_names, without_texts
from hypermap.experiments.cross_validator import CrossValidator, FoldSpec, forget, read_finished, write_finished
from hypermap.experiments.estimators import Taken, TrainResult
from hypermap.experiments.scheduler import Job, choose_backends, run_jobs
from hypermap.models.sklearn_fit import is_family
from hypermap.tasks.base import path_of
from hypermap.tasks.losses import JointLoss
from hypermap.training import artifacts
from hypermap.training.backends.native_build import why_no_compiler
from hypermap.training.components import GROUPS
from hypermap.training.loop import K, OnEpochEnd, Reports
from hypermap.training.state import Report, no_report

NO_PART = ("data", "experiment", "evaluation", "final", "automl")  # in the results of a fit
ROOMS = ("core", "data", "experiments", "models", "tasks", "training")  # their code determines a training's results


@dataclass(frozen=True)
class Result:
    """The validation result of a configuration; `objective` is the metric that a search may select by.

    It is of the trainings that had validation rows, whichever model is kept. With several fits
    (`hypermap.experiments.cross_validator`), `objective` and `metrics` are means over them.
    """

    objective: float
    monitor: str
    metrics: dict[str, float]  # by name: accuracy, loss, …
    scores: list[float]  # the objective of each fit
    best_epoch: int  # of the training on the prepared splits, or else of the first fit; 0 without epochs
    epochs: int  # likewise
    seconds: float  # of all trainings
    parameters: int | None  # number of weights; None for a model without weights
    threads: int
    latency_ms: float | None  # of a prediction for one row; None if not requested
    backend: str  # one of `hypermap.training.backends.choice.BACKENDS`


def summary(result: Result) -> str:
    """Return a one-line summary of a training."""
    fits = len(result.scores)
    said = f"Validation {result.monitor} {result.objective:.4f}"
    if result.epochs:
        kept = f"mean of {fits} trainings" if fits > 1 else f"at epoch {result.best_epoch} of {result.epochs}"
        return f"{said} {kept}, trained in {result.seconds:.1f} s"
    mean = f", mean of {fits} trainings" if fits > 1 else ""
    return (
        f"{said}{mean}, fitted in {result.seconds:.1f} s\n"
        "(by scikit-learn: optimizer, scheduler, loss, regularizer, augment, trainer.epochs and trainer.calibration "
        "do not apply)"
    )


@dataclass(frozen=True, eq=False)
class TrainingRequest:
    """A request for a training.

    Attributes:
        configuration: every group, and the seed.
        prepared: the folder of the prepared data.
        output: folder for the results.
        validation: the file for the metrics.
        report: called with the monitored metric: of each epoch, if there is one fit (`Trainer.run`), otherwise of each
            fit, with its number as the step. Reports from before an interruption may be repeated.
        pause: called after each epoch; raises `Interrupted` if a user has asked to stop.
        keep: whether to train the model to keep, as the configuration's `final` says; otherwise only a fit on the
            prepared splits leaves one.
        measure_latency: whether to time the prediction for one row.
        states: the parent folder for its state during training, under a name derived from its settings.
    """

    configuration: Mapping[str, Any]
    prepared: Path
    output: Path
    validation: Path
    report: Report = no_report
    pause: Callable[[], None] = lambda: None
    keep: bool = True
    measure_latency: bool = False
    states: Path = RUNS


def train(request: TrainingRequest, fit: Manifest | None = None) -> Result:
    """Train, resuming an interrupted run of the same settings, and write the results.

    Writes ``model.safetensors`` (weights by name; for a scikit-learn model ``model.skops``), ``model.json`` (its
    record), the fitted transform of its inputs (`Transform.write`) and ``history.csv`` into the request's `output`, and
    the validation metrics as flat JSON to its `validation`. The seconds of each epoch, which differ from run to run,
    stay in ``runs/``. With several fits, their metrics are in ``scores.csv`` beside the model.

    The model is that of the prepared splits and the configuration's own seed, or what `final` says of it; then that of
    the prepared splits is in the folder `artifacts.SPLIT` below it, and validation metrics are never of another.

    Args:
        request: the request.
        fit: what to preprocess the rows by, instead of the prepared data's own (`Folds`).

    Raises:
        Diverged: a loss that is not finite.
        OutOfMemory: the network and its batches are too large.
        Pruned: as `TrainingRequest.report` raised it. After these three the run starts over.
        Paused: as `TrainingRequest.report` raised it; the run can resume from here.
        Interrupted: as `TrainingRequest.report` or `TrainingRequest.pause` raised it; likewise.
        UserError: the settings do not fit the data or a signature.
    """
    device.make_repeatable()
    device.spare_compiler()
    named = request.configuration["trainer"].get("backend", "auto")
    # The rows of a stack are stored once.
    quiet = request.report is not no_report
    run = Experiment(request, Folds(request.prepared, keep=named not in ("auto", "eager"), fit=fit), quiet)
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

    _carry_out({None: run}, on_epoch_end, lambda _, result: ends.append(result), quiet)
    (result,) = ends
    if isinstance(result, Exception):
        raise result
    return result


def train_alone(request: TrainingRequest) -> list[Result]:
    """Train a network for each of several targets by itself, if the loss asks for that; return their results.

    They are as the request's own, but for the loss, of which the other targets have weight 0: their folders are those
    of the numbers of the targets, from 1, in `artifacts.ALONE` of its output, which is removed first.

    Raises:
        UserError, Diverged, OutOfMemory, Interrupted: as `train`.
    """
    folder, loss = request.output / artifacts.ALONE, request.configuration["loss"]
    wanted = bool(loss.get("alone")) and loss["_target_"] == path_of(JointLoss)
    wanted = wanted and not is_family(request.configuration["model"])  # its estimators are of a target each
    names = [str(column["name"]) for column in Manifest.read(request.prepared).target_columns] if wanted else []
    results = []
    if folder.exists():
        shutil.rmtree(folder)
    for number, name in enumerate(names, 1):
        weights = {other: float(other == name) for other in names}
        own = {**loss, "weighting": "fixed", "weights": weights, "alone": False}
        output = folder / str(number)
        configuration = {**request.configuration, "loss": own, "final": "holdout"}
        validation = output / "validation.json"
        results.append(train(replace(request, configuration=configuration, output=output, validation=validation)))
    return results


def train_without_texts(request: TrainingRequest) -> Result | None:
    """Train the same model without the texts of a table, if ``data.text_gain`` asks for that; return its result.

    Settings, seed and rows are the request's own, trained once, on the prepared splits. Its folder is
    `artifacts.WITHOUT_TEXTS` of the request's output, which is removed first.

    Raises:
        UserError: there are no other columns to learn from.
        Diverged, OutOfMemory, Interrupted: as `train`.
    """
    folder, manifest = request.output / artifacts.WITHOUT_TEXTS, Manifest.read(request.prepared)
    if folder.exists():
        shutil.rmtree(folder)
    if manifest.table is None or not manifest.arguments.get("text_gain") or not text_names(manifest):
        return None
    if not manifest.roles:
        raise UserError(
            "data.text_gain is true, and the table has no columns beside its texts, so that nothing can be learned "
            "without them: set data.text_gain=false."
        )
    once = {
        "validation": {"name": "holdout", "_target_": path_of(Holdout)},
        "trainer": {**request.configuration["trainer"], "repeats": 1},
        "final": "holdout",
    }
    configuration = {**request.configuration, **once}
    own = replace(request, configuration=configuration, output=folder, validation=folder / "validation.json")
    return train(own, without_texts(manifest))


def train_together(
    requests: Mapping[K, TrainingRequest],
    on_epoch_end: OnEpochEnd[K],
    on_finish: Callable[[K, Result | Exception], None],
    say: Callable[[K, str], None],
) -> None:
    """Run all requests, each as `train` would, stacking those that can be stacked.

    Args:
        requests: by any key; their `TrainingRequest.report` is used only for those with several fits.
        on_epoch_end: called after each epoch with the reports of all that have one fit; returns exceptions that end
            some.
        on_finish: called with each as soon as it has ended, with its result or the error that `train` would raise.
        say: called with the reason if something is trained by itself.

    Raises:
        Interrupted: as `on_epoch_end` or a `TrainingRequest.pause` raised it; unfinished ones can resume from here.
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
    """Train runs, and finish each."""
    with ExitStack() as open_runs:
        for run in runs.values():
            open_runs.enter_context(run.opened())
        batch = _Batch(runs, on_epoch_end, on_finish)
        for ended in run_jobs(batch.begin(), batch.relay, quiet):
            batch.enter(ended)
            if not batch.going:
                break


class _Batch(Generic[K]):
    """Runs that are trained together: the run of each fit, those still in training, and how others ended."""

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
        """Return the remaining fits; runs without any are finished at once.

        Raises:
            Interrupted: a user asked to stop.
        """
        for key, run in self.runs.items():
            result: Result | Exception | None
            try:
                jobs = run.jobs()
                result = None if jobs else run.result()
            except Interrupted:
                raise
            except Exception as error:  # results from before an interruption are reported again, and may be pruned
                run.forget_after(error)
                result = error
            if result is None:
                self.owner |= dict.fromkeys(jobs, key)
            else:
                self.going.remove(key)
                self.on_finish(key, result)
        return list(self.owner)

    def relay(self, reports: Reports[Job]) -> dict[Job, Exception]:
        """Report the epochs of runs with one fit; the others report their fits (`Experiment.done`)."""
        single = {self.owner[job]: job for job in reports if self.runs[self.owner[job]].single}
        for key in {self.owner[job] for job in reports} - single.keys():
            self.runs[key].request.pause()
        ends = self.on_epoch_end({key: reports[job] for key, job in single.items()}) if single else {}
        gone = {job: Pruned("its run has ended") for job in reports if self.owner[job] not in self.going}
        return {single[key]: error for key, error in ends.items()} | gone

    def enter(self, ended: Mapping[Job, TrainResult | Exception]) -> None:
        """Record fits that have ended, and finish the runs that have ended with them.

        Raises:
            Interrupted: a user asked to stop; runs that ended at the same time are finished nevertheless.
        """
        finished: dict[K, Result | Exception] = {}
        interrupted: Interrupted | None = None
        with durable_together():  # before the results are announced
            for job, result in ended.items():
                key, run = self.owner[job], self.runs[self.owner[job]]
                if key not in self.going:  # ended by another of its fits
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
    """The fits of one configuration, their states and their results.

    Args:
        request: the request.
        folds: the rows of `request.prepared`, if they have been read already.
        quiet: show no progress bar of the models to keep.

    Raises:
        UserError: the settings do not fit the data or a signature.
    """

    def __init__(self, request: TrainingRequest, folds: Folds | None = None, quiet: bool = True) -> None:
        self.request, self.quiet = request, quiet
        self.validator = CrossValidator(request.configuration, request.prepared, folds)
        self.plan: list[FoldSpec] = self.validator.plan()
        self.final = (request.configuration.get("final") or "holdout") if request.keep else "holdout"
        self.fits: dict[int, TrainResult] = {}
        self.left: set[int] = set()
        self.models: dict[int, TrainResult] = {}  # those with a part in what is kept
        self.reported = 0

    @property
    def single(self) -> bool:
        """Whether there is only one fit, on the prepared splits."""
        return self.plan == [self.validator.holdout]

    @property
    def backend(self) -> str:
        """The backend that runs its steps."""
        return self.validator.estimator.backend

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder of its state, which depends on its backend."""
        with checkpoint.own_folder(self.request.states, _identity(self.validator, self.backend)) as self.state:
            yield

    @property
    def begun_by(self) -> str | None:
        """Return the native backend, if an interrupted run of these settings used it, and this one can."""
        if self.validator.settings.processes > 1:
            return None
        state = self.request.states / _identity(self.validator, "native")
        return "native" if any(state.rglob(checkpoint.PROGRESS)) and why_no_compiler() is None else None

    def forget(self) -> None:
        """Delete the state, so that the next run of these settings starts over."""
        forget(self.state)

    def forget_after(self, error: Exception) -> None:
        """Delete the state if the next run would only end with the same error."""
        if isinstance(error, Diverged | OutOfMemory | Pruned) and not isinstance(error, OutOfHostMemory):
            self.forget()

    def jobs(self) -> list[Job]:
        """Return the remaining fits; those finished before an interruption are reported again."""
        folders = {number: self._folder(number) for number in range(len(self.plan))}
        if not self.single:
            found = {number: read_finished(folder) for number, folder in folders.items()}
            self.fits = {number: result for number, result in found.items() if result is not None}
            self._report()
        # The state of a finished fit whose model is needed is complete: the model is read from there.
        self.left = {number for number in folders if number not in self.fits or self._has_part(number)}
        return [Job(self.validator, self.plan[number], folders[number], number) for number in sorted(self.left)]

    def _has_part(self, number: int) -> bool:
        """Return whether the model of a fit is kept, or has a part in the one that is."""
        return self.final == "bag" or self._is_split(number)

    def _is_split(self, number: int) -> bool:
        return self.plan[number] == self.validator.holdout

    def done(self, job: Job, result: TrainResult | Exception) -> Result | None:
        """Record the result of a fit, and return the run's result if it was the last one.

        Raises:
            Exception: the error that ended the fit.
            Interrupted: a user asked to stop, and there are more fits to do.
        """
        if isinstance(result, Exception):
            raise result
        self.keep(job, result)
        self.fits[job.number] = result.noted()
        self.left.discard(job.number)
        if self._has_part(job.number):
            self.models[job.number] = result
        else:
            checkpoint.clear(job.folder)
        self._report()
        if not self.left:
            return self.result()
        self.request.pause()
        return None

    def keep(self, job: Job, result: TrainResult | Exception) -> None:
        """Write the result of a fit to disk, if it is one of several."""
        if not self.single and not isinstance(result, Exception):
            write_finished(job.folder, result)

    def _train(self, fit: FoldSpec, name: str) -> TrainResult:
        """Train a model beside those of the plan; its state is in the folder `name`."""

        def pause(reports: Reports[Job]) -> dict[Job, Exception]:
            self.request.pause()
            return {}

        job = Job(self.validator, fit, self.state / name)
        (result,) = (result for ended in run_jobs([job], pause, self.quiet) for result in ended.values())
        if isinstance(result, Exception):
            raise result
        return result

    def _split(self) -> TrainResult | None:
        """Return the training on the prepared splits, training it if no fit has; None if nothing is to be kept."""
        planned = next((self.models[number] for number in self.models if self._is_split(number)), None)
        return planned or (self._train(self.validator.holdout, "split") if self.request.keep else None)

    def _refit(self, split: TrainResult, fits: Sequence[TrainResult]) -> TrainResult:
        """Train again on all rows, for as long as the fits have shown to be right."""
        taken = Taken.of(split, fits)
        fit = self.validator.of_all_rows(taken)
        length = f" for {taken.epochs} epoch{'s' * (taken.epochs > 1)}" if split.epochs else ""
        print(f"Training again on all {len(fit.fold.train):,} rows{length}", flush=True)
        return self._train(fit, "refit")

    def result(self) -> Result:
        """Train what is left of the models to keep; write everything, and return the result."""
        request, validator = self.request, self.validator
        fits = [self.fits[number] for number in range(len(self.plan))]
        with device.on_threads(validator.estimator.threads):  # not those of a stack
            split = self._split()
            refit = self._refit(split, fits) if split and self.final == "refit" else None
            latency_ms = validator.latency_ms() if request.measure_latency else None
        metrics = self._write(fits, split, refit)
        self.forget()
        shown = split or fits[0]
        beside = [one for one in (refit, split if validator.holdout not in self.plan else None) if one]
        return Result(
            objective=metrics[validator.monitor],
            monitor=validator.monitor,
            metrics=metrics,
            scores=[fit.metrics[validator.monitor] for fit in fits],
            best_epoch=shown.best_epoch,
            epochs=shown.epochs,
            seconds=sum(fit.seconds for fit in [*fits, *beside]),
            parameters=validator.estimator.parameters,
            threads=validator.estimator.threads,
            latency_ms=latency_ms,
            backend=self.backend,
        )

    def _folder(self, number: int) -> Path:
        return self.state if self.single else self.state / f"fit-{number + 1}"

    def _report(self) -> None:
        """Report the finished fits, in order, if there are several."""
        while not self.single and self.reported in self.fits:
            self.reported += 1
            self.request.report(self.reported, self.fits[self.reported - 1].metrics[self.validator.monitor])

    @durable_together()
    def _write(
        self, fits: Sequence[TrainResult], split: TrainResult | None, refit: TrainResult | None
    ) -> dict[str, float]:
        """Write the results, and remove those of an earlier run; return the metrics."""
        output, development = self.request.output, self.validator.folds.development
        of_split = self._trained(split, len(development.holdout.train)) if split else None
        kept = of_split
        if refit:
            kept = self._trained(refit, len(development.targets), final="refit")
        elif of_split and self.final == "bag":
            kept = self._bag(of_split)
        if of_split and kept is not of_split:
            artifacts.write_trained(output / artifacts.SPLIT, of_split)
        elif (output / artifacts.SPLIT).exists():
            shutil.rmtree(output / artifacts.SPLIT)
        if kept:
            artifacts.write_trained(output, kept)
        else:
            artifacts.remove_model(output)
        if self.single:
            metrics, spread = fits[0].metrics, {}
            (output / artifacts.SCORES).unlink(missing_ok=True)
        else:
            metrics, spread = _means(fits), _spread(self.validator.monitor, fits)
            labels = [{"fold": fit.fold.fold, "repeat": fit.fold.repeat, "seed": fit.seed} for fit in self.plan]
            artifacts.write_scores(output, [label | fit.metrics for label, fit in zip(labels, fits, strict=True)])
        artifacts.write_metrics(self.request.validation, "validation", metrics | spread)
        return metrics

    def _trained(
        self, result: TrainResult, rows: int, seed: int | None = None, final: str = "holdout"
    ) -> artifacts.TrainedModel:
        """Return the model of a training on so many rows, with its record."""
        assert result.predict is not None
        configuration = _made_by(self.validator.configuration, self.backend)
        record = artifacts.RunRecord(
            result.best_epoch,
            result.stopped_early,
            self.validator.monitor,
            self.validator.estimator.parameters,
            self.validator.estimator.environment,
            configuration if seed is None else {**configuration, "seed": seed},
            dict(result.tuned),
            final=final,
            trained_rows=rows,
        )
        return artifacts.TrainedModel(record, result.predict, result.history)

    def _bag(self, split: artifacts.TrainedModel) -> artifacts.TrainedModel:
        """Return the mean of the models of all fits; `split` has the record of the training on the prepared splits."""
        members = [
            self._trained(self.models[number], len(fit.fold.train), fit.seed) for number, fit in enumerate(self.plan)
        ]
        parameters = split.record.parameters
        record = replace(
            split.record,
            best_epoch=0,
            stopped_early=False,
            parameters=None if parameters is None else parameters * len(members),
            tuned={},
            final="bag",
            trained_rows=len(np.unique(np.concatenate([fit.fold.train for fit in self.plan]))),
        )
        return artifacts.TrainedModel(record, artifacts.Ensemble(members, [1 / len(members)] * len(members)))


def _means(fits: Sequence[TrainResult]) -> dict[str, float]:
    """Return the mean of each metric over the fits that have it: a fold may lack ROC-AUC."""
    names = dict.fromkeys(name for fit in fits for name in fit.metrics)
    return {name: statistics.fmean(fit.metrics[name] for fit in fits if name in fit.metrics) for name in names}


def _spread(monitor: str, fits: Sequence[TrainResult]) -> dict[str, float]:
    """Return the sample standard deviation of the fits' scores, and their number."""
    scores = [fit.metrics[monitor] for fit in fits]
    return {f"{monitor}_std": statistics.stdev(scores) if len(scores) > 1 else 0.0, "fits": len(scores)}


def _made_by(configuration: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """Return the configuration that reproduces the same bits: the kernel's differ from torch's."""
    if backend != "native":
        return dict(configuration)
    return {**configuration, "trainer": {**configuration["trainer"], "backend": backend}}


def _identity(validator: CrossValidator, backend: str) -> str:
    """Return a name that two runs share if and only if they must give the same results.

    Torch's backends share one, as do all numbers of processes: their results differ only by the rounding of sums.
    """
    configuration = validator.configuration
    foreign = (_source(configuration[group]["_target_"]) for group in (*GROUPS, "validation"))
    others = {file for file in foreign if file and PACKAGE not in file.parents} | {*own_files(configuration).values()}
    code = fingerprint_of_code(ROOMS, frozenset(others))
    settings = {key: value for key, value in configuration.items() if key not in NO_PART}
    settings["trainer"] = {
        **settings["trainer"],
        "reports_per_epoch": None,  # does not affect results
        "processes": None,
        "backend": "native" if backend == "native" else "torch",
    }
    data = [validator.manifest.fingerprint, validator.manifest.raw_sha256]
    return fingerprint([settings, *data, validator.estimator.environment, code])


@cache
def _source(target: str) -> Path | None:
    """Return the source file of a part."""
    file = inspect.getsourcefile(locate(target))
    return Path(file).resolve() if file else None
