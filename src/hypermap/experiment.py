"""From a configuration and prepared data to a trained model and its figures on the validation rows."""

import inspect
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hypermap import checkpoint, machine, outcome
from hypermap.build import locate
from hypermap.errors import Diverged, OutOfMemory, Pruned
from hypermap.files import durable_together, fingerprint, fingerprint_of_code
from hypermap.fits import Fit, Fitted, Fitter, forget, read_finished, write_finished
from hypermap.learners import Learned
from hypermap.parts import GROUPS
from hypermap.trainer import Report, unheard

RUNS = Path("runs")

Kept = tuple[Fitted, Learned]


@dataclass(frozen=True)
class Result:
    """What validation says of a configuration; `objective` is the figure that a search may pick by.

    Where there are several fits (`hypermap.fits`), `objective` and `figures` are means over them.
    """

    objective: float
    monitor: str
    figures: dict[str, float]  # by name: accuracy, loss, …
    scores: list[float]  # the objective of each fit
    kept_epoch: int  # of the model that is kept; where none is, of the first fit; 0 where there are no epochs
    epochs: int  # likewise
    seconds: float  # of all trainings
    parameters: int | None  # the weights' number; None for a model without
    threads: int
    latency_ms: float | None  # of a prediction for one row; None where it was not asked for


def train(
    configuration: Mapping[str, Any],
    prepared: Path,
    output: Path,
    validation: Path,
    report: Report = unheard,
    pause: Callable[[], None] = lambda: None,
    refit: bool = True,
    measure_latency: bool = False,
) -> Result:
    """Train, going on from an interrupted run of the same settings, and write the outcome.

    Writes ``model.safetensors`` (weights by name; of a model of scikit-learn ``model.skops``), ``model.json`` (what
    made it), what was fitted to prepare its inputs (`Transform.write`) and ``history.csv`` into `output`, and the
    flat metrics of the validation rows as JSON to `validation`. The seconds of each epoch, which differ from run to
    run, stay in ``runs/``. Where there are several fits, their figures stand in
    ``scores.csv`` beside the model; the model is that of the prepared splits and the configuration's own seed.

    Args:
        configuration: every group, and the seed.
        prepared: the folder of the prepared data.
        output: for what is written.
        validation: the file for the metrics.
        report: told the monitored figure: of each epoch, where there is one fit (`Trainer.fit`), else of each fit,
            the step being its number. What was reported before an interruption may be reported again.
        pause: called after each epoch; raises `Interrupted` where a person has asked to stop.
        refit: where no fit is on the prepared splits, train the model to keep on them; else none is kept.
        measure_latency: time the prediction for one row.

    Raises:
        Diverged: a loss that is not finite.
        OutOfMemory: the network and its batches are too large.
        Pruned: as `report` raised it. After these three the run starts over.
        Interrupted: as `report` or `pause` raised it; the run will go on from here.
        UserError: settings that do not fit the data or a signature.
    """
    machine.make_repeatable()
    machine.spare_compiler()
    fitter = Fitter(configuration, prepared)
    torch.set_num_threads(fitter.learner.threads)
    plan = fitter.plan()
    with checkpoint.own_folder(RUNS, _identity(fitter)) as state:
        try:
            fits, kept = _fit_all(fitter, plan, state, report, pause, refit)
            figures = _write(fitter, plan, fits, kept, output, validation)
        except (Diverged, OutOfMemory, Pruned):
            forget(state)
            raise
        forget(state)

    told = kept[0] if kept else fits[0]
    trained = [*fits, told] if kept and fitter.holdout not in plan else fits
    return Result(
        objective=figures[fitter.monitor],
        monitor=fitter.monitor,
        figures=figures,
        scores=[fit.figures[fitter.monitor] for fit in fits],
        kept_epoch=told.kept_epoch,
        epochs=told.epochs,
        seconds=sum(fit.seconds for fit in trained),
        parameters=fitter.learner.parameters,
        threads=fitter.learner.threads,
        latency_ms=fitter.latency_ms() if measure_latency else None,
    )


def _fit_all(
    fitter: Fitter, plan: Sequence[Fit], state: Path, report: Report, pause: Callable[[], None], refit: bool
) -> tuple[list[Fitted], Kept | None]:
    """Each fit of the plan, and the one whose model is kept."""
    if plan == [fitter.holdout]:
        only = fitter.fit(fitter.holdout, state, report)
        return [only[0]], only
    unheard_but_paused = (lambda step, value: pause()) if report is not unheard else unheard
    folders = [state / f"fit-{number}" for number in range(1, len(plan) + 1)]
    fits: list[Fitted] = []
    kept: Kept | None = None
    for number, (fit, folder) in enumerate(zip(plan, folders, strict=True), 1):
        if (fitted := read_finished(folder)) is None:
            fitted, learned = fitter.fit(fit, folder, unheard_but_paused)
            write_finished(folder, fitted)
            if fit == fitter.holdout:
                kept = fitted, learned
            else:
                checkpoint.clear(folder)
        report(number, fitted.figures[fitter.monitor])
        fits.append(fitted)
    if fitter.holdout in plan:  # of a run that was interrupted, its state is whole, so that no epoch is trained again
        return fits, kept or fitter.fit(fitter.holdout, folders[plan.index(fitter.holdout)])
    return fits, fitter.fit(fitter.holdout, state / "refit") if refit else None


@durable_together()
def _write(
    fitter: Fitter, plan: Sequence[Fit], fits: Sequence[Fitted], kept: Kept | None, output: Path, validation: Path
) -> dict[str, float]:
    """Write what the training leaves behind, and remove what another left there; return the figures."""
    stale = set(outcome.FILES)
    if kept:
        fitted, learned = kept
        record = outcome.Record(
            fitted.kept_epoch,
            learned.stopped_early,
            fitter.monitor,
            fitter.learner.parameters,
            fitter.learner.environment,
            dict(fitter.configuration),
        )
        stale -= outcome.write_trained(output, outcome.TrainedModel(record, learned.predict), learned.history)
    if plan == [fitter.holdout]:
        figures, spread = fits[0].figures, {}
    else:
        figures, spread = _means(fits), _spread(fitter.monitor, fits)
        labels = [{"fold": fit.fold.fold, "repeat": fit.fold.repeat, "seed": fit.seed} for fit in plan]
        outcome.write_scores(output, [label | fit.figures for label, fit in zip(labels, fits, strict=True)])
        stale -= {outcome.SCORES}
    outcome.write_figures(validation, "validation", figures | spread)
    for name in stale:
        (output / name).unlink(missing_ok=True)
    return figures


def _means(fits: Sequence[Fitted]) -> dict[str, float]:
    """The mean of each figure over the fits that have it: a fold may be without ROC-AUC."""
    names = dict.fromkeys(name for fit in fits for name in fit.figures)
    return {name: statistics.fmean(fit.figures[name] for fit in fits if name in fit.figures) for name in names}


def _spread(monitor: str, fits: Sequence[Fitted]) -> dict[str, float]:
    """The standard deviation of the fits' scores (of a sample: over one less than their number), and their number."""
    scores = [fit.figures[monitor] for fit in fits]
    return {f"{monitor}_std": statistics.stdev(scores) if len(scores) > 1 else 0.0, "fits": len(scores)}


def _identity(fitter: Fitter) -> str:
    """A name that two runs share if, and only if, they must come to the same numbers."""
    configuration, package = fitter.configuration, Path(__file__).parent
    own = (inspect.getsourcefile(locate(configuration[group]["_target_"])) for group in (*GROUPS, "validation"))
    code = fingerprint_of_code(package, *(Path(file).resolve() for file in own if file))
    settings = {key: value for key, value in configuration.items() if key not in ("data", "experiment", "evaluation")}
    settings["trainer"] = {**settings["trainer"], "reports_per_epoch": None}  # it changes no number
    data = [fitter.manifest["fingerprint"], fitter.manifest["raw_sha256"]]
    return fingerprint([settings, *data, fitter.learner.environment, code])
