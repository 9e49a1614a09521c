"""Evaluation: the only code that opens the test set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.data.layout import ColumnLayout
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import TensorSplit, Transform, read_transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.data.table_preprocessor import without_texts
from hypermap.models import baselines as others
from hypermap.reports.run import BaselineTable, Kept, Projection, Run, Search, project, write_report
from hypermap.reports.run.duplicates import FEW, Twins
from hypermap.tasks import metrics
from hypermap.tasks.losses import JointLoss, plain
from hypermap.tasks.multitask import Multitask
from hypermap.training import artifacts
from hypermap.training.artifacts import ALONE
from hypermap.training.network import Network

LEARNED_ROWS = 2000  # maximum number of training rows for scoring a model without epochs, for the diagnosis

Predict = Callable[[RawInputs], np.ndarray]


@dataclass(frozen=True)
class Scored:
    """A model's predictions for a split, and their metrics: `evaluation` has the bootstrap's settings."""

    rows: TensorSplit
    transform: Transform
    predictions: np.ndarray
    evaluation: Mapping[str, Any]

    @cached_property
    def targets(self) -> np.ndarray:
        """Class indices (rows,), or numbers (rows,) in their original unit."""
        return artifacts.targets(self.rows, self.transform)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric of the task."""
        return artifacts.score(self.rows, self.predictions, self.transform)

    @cached_property
    def resamples(self) -> dict[str, np.ndarray]:
        """Each metric in each bootstrap resample; the resamples of all models on one split have the same rows."""
        resampled = self.transform.task.resampled(self.targets, self.predictions)
        return metrics.resamples(resampled, len(self.targets), repeats=self.evaluation["bootstrap_repeats"])

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each metric."""
        return metrics.percentiles(self.resamples, self.evaluation["confidence"])

    def of(self, chosen: np.ndarray) -> "Scored":
        """Return the same for some of the rows: bool ``(rows,)``."""
        rows = TensorSplit(self.rows.inputs[chosen], self.rows.targets[chosen], self.rows.rows[chosen])
        return replace(self, rows=rows, predictions=self.predictions[chosen])

    def less(self, other: "Scored") -> dict[str, tuple[float, float, float]]:
        """Return the difference of each metric from another model's on the same rows, with its paired interval."""
        apart = {name: values - other.resamples[name] for name, values in self.resamples.items()}
        bounds = metrics.percentiles(apart, self.evaluation["confidence"])
        return {name: (self.metrics[name] - other.metrics[name], *ends) for name, ends in bounds.items()}


def evaluate(
    configuration: Mapping[str, Any],
    prepared: Path,
    models: Path,
    baselines: Path,
    reports: Path,
    *,
    trust: bool = False,
) -> dict[str, float]:
    """Score the trained model on the test rows; write test.json, intervals.json and the report into `reports`.

    If another model is kept than that of the prepared splits (`final`), the test metrics are of the kept one.
    Validation metrics and comparisons with models that learned from the same training rows are of the other.

    The report also shows ``reports/validation.json``, which training wrote; if it has means over several fits, they get
    a separate line. The `baselines` are scored on the same rows, and written to baselines.json. Returns the test
    metrics.

    Raises:
        UserError: the data, the model, its metrics or a baseline are missing or damaged, do not belong together, or
            name code that is not a part, without `trust`.
    """
    transform, trained = read_transform(prepared), artifacts.read_trained(models, trust=trust)
    _check_data(trained.transform, transform, models, prepared)
    split = models / artifacts.SPLIT if (models / artifacts.SPLIT).exists() else models
    of_split = artifacts.read_trained(split, trust=trust) if split != models else trained
    _check_data(of_split.transform, transform, split, prepared)
    history = artifacts.read_history(split)
    validated = artifacts.read_metrics(reports / "validation.json", "validation")
    stored = {name: load_raw(prepared, name) for name in ("validation", "test")}
    splits = {name: transform(raw) for name, raw in stored.items()}
    inputs = {name: RawInputs.of(raw, transform) for name, raw in stored.items()}

    def scored(predict: Predict, names: Sequence[str] = tuple(splits)) -> dict[str, Scored]:
        return {
            name: Scored(splits[name], transform, predict(inputs[name]), configuration["evaluation"]) for name in names
        }

    of_model = scored(of_split.predict)
    kept = of_model["test"] if of_split is trained else scored(trained.predict, ["test"])["test"]
    of_others = {
        option["name"]: scored(model.predict)
        for option, model in others.read(baselines, transform, trust=trust)
        if option != configuration["model"]
    }
    if (search := artifacts.read_search(models)) is not None:
        of_model = {**of_model, "validation": _held_out(search, prepared, transform, configuration["evaluation"])}
        configuration = {**configuration, "model": {"name": "automl"}}
    beside = [_beside(name, of_model, of_other) for name, of_other in of_others.items()]
    manifest, test = transform.manifest, kept
    untuned = scored(trained.predictor.untuned.predict, ["test"])["test"] if trained.record.tuned else None
    probes = transform.preprocessor.probes()
    run = Run(
        task=manifest.task,
        classes=tuple(manifest.classes),
        config=configuration,
        history=history,
        best_epoch=of_split.record.best_epoch,
        stopped_early=of_split.record.stopped_early,
        monitor=trained.record.monitor,
        validation=of_model["validation"].metrics if "fits" in validated else validated,
        fits=validated if "fits" in validated else {},
        validation_intervals=of_model["validation"].intervals,
        test=test.metrics,
        test_intervals=test.intervals,
        targets=test.targets,
        predictions=test.predictions,
        inputs=stored["test"].inputs.numpy(),
        rows=stored["test"].rows.numpy(),
        manifest=manifest,
        environment=trained.record.environment,
        parameters=trained.record.parameters,
        search=None if search is None else Search(search.leaderboard, search.summary, len(search.rows)),
        train={} if history or search else _learned(of_split.predict, load_raw(prepared, "train"), transform),
        beside=beside,
        alone=_alone(models, transform, inputs, of_model, configuration, trust=trust),
        without_texts=_without_texts(models, prepared, transform, inputs, of_model, configuration, trust=trust),
        twins=_twins(stored["test"], kept, of_model, of_others),
        weights=_weights(of_split),
        map=_map(splits["test"], transform, configuration["evaluation"]["map"]),
        encoding=_encoding(trained),
        words=transform.preprocessor.words(stored["test"].inputs.numpy()) or (),
        facts=transform.preprocessor.facts(stored["test"].inputs.numpy(), stored["test"].targets.numpy()),
        probes=probes,
        probed=None if probes is None else trained.predict(probes.inputs),
        tuned=trained.record.tuned,
        untuned=untuned.metrics if untuned else {},
        untuned_intervals=untuned.intervals if untuned else {},
        kept=None if of_split is trained else _kept(trained, of_model["test"], test),
    )
    write_report(reports, run)
    intervals = {"validation": of_model["validation"].intervals, "test": test.intervals}
    write_json(reports / "intervals.json", intervals)
    write_json(reports / "baselines.json", {other.name: asdict(other) for other in beside})
    artifacts.write_metrics(reports / "test.json", "test", test.metrics)
    return test.metrics


def _held_out(search: artifacts.Search, prepared: Path, transform: Transform, evaluation: Mapping[str, Any]) -> Scored:
    """Return the predictions of an AutoML for rows outside the test set, in the order of its own."""
    splits = [load_raw(prepared, name) for name in ("train", "validation")]
    rows, targets = (torch.cat([getattr(split, name) for split in splits]) for name in ("rows", "targets"))
    order = torch.argsort(rows)
    places = order[torch.searchsorted(rows[order], search.rows)]
    held = TensorSplit(torch.zeros(len(places), 0), transform.task.encode(targets[places]), rows[places])
    return Scored(held, transform, search.predictions, evaluation)


def _check_data(learned: Transform, now: Transform, models: Path, prepared: Path) -> None:
    """Refuse a model that was trained on data other than the prepared data."""
    if any(getattr(learned.manifest, key) != getattr(now.manifest, key) for key in ("fingerprint", "raw_sha256")):
        raise UserError(f"The model in {models} was trained on other data than {prepared} holds. {artifacts.REMEDY}")


def _kept(trained: artifacts.TrainedModel, of_split: Scored, own: Scored) -> Kept:
    """Return what the report says of a model that is kept instead of that of the prepared splits."""
    record = trained.record
    return Kept(
        final=record.final,
        rows=record.trained_rows,
        epochs=record.best_epoch,
        members=max(1, len(record.weights)),
        split_test=of_split.metrics,
        split_intervals=of_split.intervals,
        differences=own.less(of_split),
    )


def _beside(name: str, of_model: Mapping[str, Scored], of_other: Mapping[str, Scored]) -> BaselineTable:
    test = of_other["test"]
    return BaselineTable(
        name, of_other["validation"].metrics, test.metrics, test.intervals, of_model["test"].less(of_other["test"])
    )


def _twins(
    stored: TensorSplit,
    kept: Scored,
    of_model: Mapping[str, Scored],
    of_others: Mapping[str, Mapping[str, Scored]],
) -> Twins | None:
    """Return the scores on the test rows without a twin in another split; None if none has one.

    The scores are of the model that is kept, the comparisons with others of that of the split.
    """
    if stored.twins is None or not stored.twins.any():
        return None
    new = ~stored.twins.numpy()
    count, rows = int((~new).sum()), len(new)
    if rows - count < FEW:
        return Twins(count, rows, {}, {}, ())

    def without(scored: Mapping[str, Scored]) -> dict[str, Scored]:
        return {**scored, "test": scored["test"].of(new)}

    model, own = without(of_model), kept.of(new)
    beside = [_beside(name, model, without(of_other)) for name, of_other in of_others.items()]
    return Twins(count, rows, own.metrics, own.intervals, beside)


def _alone(
    models: Path,
    transform: Transform,
    inputs: Mapping[str, RawInputs],
    of_model: Mapping[str, Scored],
    configuration: Mapping[str, Any],
    *,
    trust: bool,
) -> BaselineTable | None:
    """Return networks that were trained for one of several targets each (`hypermap.experiments.run.train_alone`)."""
    folders = [models / ALONE / str(k) for k in range(1, len(transform.manifest.target_columns) + 1)]
    if not folders or not folders[0].exists():
        return None
    networks = [artifacts.read_trained(folder, trust=trust) for folder in folders]
    for folder, trained in zip(folders, networks, strict=True):
        _check_data(trained.transform, transform, folder, models)
    task = transform.task
    assert isinstance(task, Multitask)
    joined = {}
    for name, own in of_model.items():
        each = [list(task.split(trained.predict(inputs[name])))[k][2] for k, trained in enumerate(networks)]
        joined[name] = Scored(own.rows, transform, task.joined(each), configuration["evaluation"])
    return _beside("alone", of_model, joined)


def _without_texts(
    models: Path,
    prepared: Path,
    transform: Transform,
    inputs: Mapping[str, RawInputs],
    of_model: Mapping[str, Scored],
    configuration: Mapping[str, Any],
    *,
    trust: bool,
) -> BaselineTable | None:
    """Return the same model without texts (`hypermap.experiments.run.train_without_texts`), on the same rows."""
    folder = models / artifacts.WITHOUT_TEXTS
    if not folder.exists():
        return None
    trained = artifacts.read_trained(folder, trust=trust)
    _check_data(trained.transform, replace(transform, manifest=without_texts(transform.manifest)), folder, prepared)
    found = {
        name: Scored(own.rows, transform, trained.predict(inputs[name]), configuration["evaluation"])
        for name, own in of_model.items()
    }
    return _beside("without the texts", of_model, found)


def _weights(trained: artifacts.TrainedModel) -> dict[str, float]:
    """Return the weights of several targets' losses."""
    if not isinstance(network := trained.predictor, Network):
        return {}
    loss = plain(network.loss)
    return loss.weights_in(network.module) if isinstance(loss, JointLoss) else {}


def _learned(predict: Predict, train: TensorSplit, transform: Transform) -> dict[str, float]:
    """Return the metrics on an even subset of the raw training rows."""
    chosen = np.unique(np.linspace(0, len(train.rows) - 1, LEARNED_ROWS).round().astype(np.int64))
    raw = TensorSplit(train.inputs[chosen], train.targets[chosen], train.rows[chosen])
    return artifacts.score(transform(raw), predict(RawInputs(raw.inputs)), transform)


def _encoding(trained: artifacts.TrainedModel) -> str:
    """Return how the model receives the categories of a table."""
    layout = trained.inputs.layout
    if layout is not None and layout.cardinalities:
        return "codes"
    ordinal = (trained.transform.manifest.preparation or {}).get("categories") == "ordinal"
    return "ordinal" if ordinal else "one_hot"


def _map(test: TensorSplit, transform: Transform, method: str) -> Projection | None:
    """Return a projection of the test rows' features, with one-hot categories and flattened images."""
    layout = transform.manifest.layout
    inputs = ColumnLayout.of(layout).to_one_hot(test.inputs) if layout else test.inputs
    points = None if method == "none" else transform.preprocessor.points(inputs)
    return None if points is None else project(points, method)
