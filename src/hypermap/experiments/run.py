"""From a configuration and prepared data to a trained model and its figures on the validation rows."""

import inspect
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypermap.core import checkpoint, device
from hypermap.core.errors import (
    Diverged,
    Interrupted,
    OutOfHostMemory,
    OutOfMemory,
    Paused,
    Pruned,
    is_the_machines,
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
from hypermap.training.state import Report, no_report

ROOMS = ("core", "data", "experiments", "models", "tasks", "training")  # whose code decides what a training comes to


@dataclass(frozen=True)
class Result:
    """What validation says of a configuration; `objective` is the figure that a search may pick by.

    Where there are several fits (`hypermap.experiments.cross_validator`), `objective` and `figures` are their means.
    """

    objective: float
    monitor: str
    figures: dict[str, float]  # by name: accuracy, loss, …
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

    def on_epoch_end(reports: Mapping[Job, tuple[int, float]]) -> Mapping[Job, Exception]:
        for step, value in reports.values():
            if run.single:
                request.report(step, value)
            request.pause()
        return {}

    quiet = request.report is not no_report
    if run.fitter.settings.backend == "auto" and run.begun_by is not None:
        run.fitter.learner.backend = run.begun_by
    with run.opened(run.fitter.learner.backend):
        for ended in run_jobs(run.tasks(), on_epoch_end, quiet=quiet):
            for task, result in ended.items():
                run.done(task, result)
            if not run.complete:
                request.pause()
        return run.result()


def train_together(
    every: Sequence[TrainingRequest],
    on_epoch_end: Callable[[Mapping[TrainingRequest, tuple[int, float]]], Mapping[TrainingRequest, Exception]],
    on_finish: Callable[[TrainingRequest, Result | Exception], None],
    say: Callable[[TrainingRequest, str], None],
) -> None:
    """Train what is asked for, each as `train` would, those that fit together as stacks.

    Args:
        every: their `TrainingRequest.report` is for those with several fits.
        on_epoch_end: gets after each epoch, for all that have one fit, what `TrainingRequest.report` would get;
            returns what ends some.
        on_finish: gets each as soon as it has ended, with its result, or with the error that `train` would raise.
        say: told why something is trained by itself.

    Raises:
        Interrupted: as `on_epoch_end` or a `TrainingRequest.pause` raised it; what has not ended will go on from here.
    """
    device.make_repeatable()
    device.spare_compiler()
    folders = {request.prepared: Folds(request.prepared, keep=True) for request in every}
    runs = []
    for request in every:
        try:
            runs.append(Experiment(request, folders[request.prepared]))
        except Exception as error:
            on_finish(request, error)
    for run, reason in choose_backends({run: (run.fitter, len(run.plan), run.begun_by) for run in runs}).items():
        say(run.request, reason)
    with ExitStack() as open_runs:
        for run in runs:
            open_runs.enter_context(run.opened(run.fitter.learner.backend))
        _carry_out(runs, on_epoch_end, on_finish)


def _carry_out(
    runs: Sequence["Experiment"],
    on_epoch_end: Callable[[Mapping[TrainingRequest, tuple[int, float]]], Mapping[TrainingRequest, Exception]],
    on_finish: Callable[[TrainingRequest, Result | Exception], None],
) -> None:
    """Train runs whose states are open, and end each."""
    going, paused = set(runs), set[Experiment]()
    of: dict[Job, Experiment] = {}
    for run in runs:
        try:
            of |= dict.fromkeys(run.tasks(), run)
        except Interrupted:
            raise
        except Exception as error:  # what was done before an interruption is told again, and may be pruned
            going.discard(run)
            if not isinstance(error, Paused) and not is_the_machines(error):
                run.forget()
            on_finish(run.request, error)

    def relay(reports: Mapping[Job, tuple[int, float]]) -> dict[Job, Exception]:
        for run in {of[task] for task in reports if not of[task].single}:
            run.request.pause()
        alone = {of[task].request: task for task in reports if of[task].single}
        ends = on_epoch_end({request: reports[task] for request, task in alone.items()}) if alone else {}
        gone = {task: Pruned("its run has ended") for task in reports if of[task] not in going}
        return {alone[request]: error for request, error in ends.items()} | gone

    interrupted: Interrupted | None = None
    for ended in run_jobs(list(of), relay):
        finished: dict[Experiment, Result | Exception] = {}
        with durable_together():  # before anybody is told that it is there
            for task, result in ended.items():
                run = of[task]
                if run in paused:
                    run.keep(task, result)
                    continue
                if run not in going:
                    run.forget()  # what this fit left since
                    continue
                try:
                    run.done(task, result)
                    if run.complete:
                        finished[run] = run.result()
                except Interrupted as error:  # whoever has ended with it is told all the same
                    interrupted = error
                except Paused as error:
                    paused.add(run)
                    finished[run] = error
                except Exception as error:
                    if not is_the_machines(error):
                        run.forget()
                    finished[run] = error
                going -= finished.keys()
        for run, outcome in finished.items():
            on_finish(run.request, outcome)
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
        self.fitter = CrossValidator(request.configuration, request.prepared, folds)
        self.plan: list[FoldSpec] = self.fitter.plan()
        self.fits: dict[int, TrainResult] = {}
        self.kept: TrainResult | None = None
        self.reported = 0
        self.backend = self.fitter.learner.backend

    @property
    def single(self) -> bool:
        """Whether there is one fit, on the prepared splits."""
        return self.plan == [self.fitter.holdout]

    @contextmanager
    def opened(self, backend: str) -> Iterator[None]:
        """Hold the folder of its state, in which what is done by this backend is found again."""
        self.backend = backend
        with checkpoint.own_folder(self.request.states, _identity(self.fitter, backend)) as self.state:
            try:
                yield
            except OutOfHostMemory:
                raise
            except (Diverged, OutOfMemory, Pruned):
                self.forget()
                raise

    @property
    def complete(self) -> bool:
        """Whether every fit is done."""
        return len(self.fits) == len(self.plan)

    @property
    def begun_by(self) -> str | None:
        """The kernel, where an interrupted run of these settings was trained by it."""
        state = self.request.states / _identity(self.fitter, "native")
        return "native" if any(state.rglob(checkpoint.PROGRESS)) and why_no_compiler() is None else None

    def forget(self) -> None:
        """Let the next run of these settings start over."""
        forget(self.state)

    def tasks(self) -> list[Job]:
        """Return the fits that are left; those that were done before an interruption are told again."""
        folders = {number: self._folder(number) for number in range(len(self.plan))}
        if not self.single:
            found = {number: read_finished(folder) for number, folder in folders.items()}
            self.fits = {number: result for number, result in found.items() if result is not None}
            self._report()
        # The state of a finished fit on the prepared splits is whole: its model is taken from there.
        left = [number for number, fit in enumerate(self.plan) if number not in self.fits or fit == self.fitter.holdout]
        return [Job(self.fitter, self.plan[number], folders[number], number) for number in left]

    def done(self, task: Job, result: TrainResult | Exception) -> None:
        """Enter what a fit came to; raises it where that is an error."""
        if isinstance(result, Exception):
            raise result
        self.keep(task, result)
        self.fits[task.number] = result.noted()
        if task.fit == self.fitter.holdout:
            self.kept = result
        else:
            checkpoint.clear(task.folder)
        self._report()

    def keep(self, task: Job, result: TrainResult | Exception) -> None:
        """Note on the disk that a fit is done, where it is one of several."""
        if not self.single and not isinstance(result, Exception):
            write_finished(task.folder, result)

    def result(self) -> Result:
        """Train the model to keep, where no fit has; write everything, and say what it comes to."""
        request, fitter = self.request, self.fitter
        fits = [self.fits[number] for number in range(len(self.plan))]
        with device.on_threads(fitter.learner.threads):  # not a stack's
            if self.kept is None and request.refit:
                self.kept = fitter.fit(fitter.holdout, self.state / "refit", lambda step, value: request.pause())
            latency_ms = fitter.latency_ms() if request.measure_latency else None
        figures = self._write(fits)
        self.forget()
        shown = self.kept or fits[0]
        trained = [*fits, shown] if self.kept and fitter.holdout not in self.plan else fits
        return Result(
            objective=figures[fitter.monitor],
            monitor=fitter.monitor,
            figures=figures,
            scores=[fit.metrics[fitter.monitor] for fit in fits],
            best_epoch=shown.best_epoch,
            epochs=shown.epochs,
            seconds=sum(fit.seconds for fit in trained),
            parameters=fitter.learner.parameters,
            threads=fitter.learner.threads,
            latency_ms=latency_ms,
            backend=self.backend,
        )

    def _folder(self, number: int) -> Path:
        return self.state if self.single else self.state / f"fit-{number + 1}"

    def _report(self) -> None:
        """Report the fits that are done, in order, where there are several."""
        while not self.single and self.reported in self.fits:
            self.reported += 1
            self.request.report(self.reported, self.fits[self.reported - 1].metrics[self.fitter.monitor])

    @durable_together()
    def _write(self, fits: Sequence[TrainResult]) -> dict[str, float]:
        """Write what the training leaves behind, and remove what another left there; return the figures."""
        fitter, output = self.fitter, self.request.output
        stale = set(artifacts.FILES)
        if self.kept:
            predict = self.kept.predict
            assert predict is not None
            record = artifacts.RunRecord(
                self.kept.best_epoch,
                self.kept.stopped_early,
                fitter.monitor,
                fitter.learner.parameters,
                fitter.learner.environment,
                _made_by(fitter.configuration, self.backend),
                predict.temperature if isinstance(predict, artifacts.Network) else 1.0,
            )
            stale -= artifacts.write_trained(output, artifacts.TrainedModel(record, predict), self.kept.history)
        if self.single:
            figures, spread = fits[0].metrics, {}
        else:
            figures, spread = _means(fits), _spread(fitter.monitor, fits)
            labels = [{"fold": fit.fold.fold, "repeat": fit.fold.repeat, "seed": fit.seed} for fit in self.plan]
            artifacts.write_scores(output, [label | fit.metrics for label, fit in zip(labels, fits, strict=True)])
            stale -= {artifacts.SCORES}
        artifacts.write_figures(self.request.validation, "validation", figures | spread)
        for name in stale:
            (output / name).unlink(missing_ok=True)
        return figures


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


def _identity(fitter: CrossValidator, backend: str) -> str:
    """Return a name that two runs share if, and only if, they must come to the same numbers.

    Torch's own backends share one: what they come to differs by the rounding of sums alone.
    """
    configuration = fitter.configuration
    foreign = (_source(configuration[group]["_target_"]) for group in (*GROUPS, "validation"))
    others = {file for file in foreign if file and PACKAGE not in file.parents} | {*own_files(configuration).values()}
    code = fingerprint_of_code(ROOMS, frozenset(others))
    settings = {key: value for key, value in configuration.items() if key not in ("data", "experiment", "evaluation")}
    settings["trainer"] = {
        **settings["trainer"],
        "reports_per_epoch": None,  # changes no number
        "backend": "native" if backend == "native" else "torch",
    }
    data = [fitter.manifest.fingerprint, fitter.manifest.raw_sha256]
    return fingerprint([settings, *data, fitter.learner.environment, code])


@cache
def _source(target: str) -> Path | None:
    """Return the file in which a part is written."""
    file = inspect.getsourcefile(locate(target))
    return Path(file).resolve() if file else None
