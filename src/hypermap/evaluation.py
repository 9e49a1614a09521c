"""The only code that opens the test set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy

from hypermap import metrics
from hypermap.data.prepare import load, read_manifest
from hypermap.experiment import (
    load_trained,
    natural_targets,
    predict,
    read_figures,
    read_history,
    score,
    write_figures,
)
from hypermap.files import write_json
from hypermap.report import Run, write_report

Intervals = dict[str, tuple[float, float]]


def evaluate(configuration: Mapping[str, Any], prepared: Path, models: Path, reports: Path) -> dict[str, float]:
    """Score the trained network on the test rows; write test.json, intervals.json and the report into `reports`.

    ``reports/validation.json``, which training wrote, is shown beside. Returns the test metrics.

    Raises:
        UserError: the data, the model or its figures are missing or damaged.
    """
    manifest = read_manifest(prepared)
    task = manifest["task"]
    model, loss, record = load_trained(models, manifest)
    figures: dict[str, dict[str, float]] = {}
    intervals: dict[str, Intervals] = {}
    for split in ("validation", "test"):
        rows = load(prepared, split)
        targets = natural_targets(rows.targets, manifest)
        predictions = predict(model, loss, rows.inputs, manifest)
        figures[split] = score(targets, predictions, task)
        intervals[split] = metrics.intervals(
            targets,
            predictions,
            task=task,
            repeats=configuration["evaluation"]["bootstrap_repeats"],
            confidence=configuration["evaluation"]["confidence"],
        )
    stored = safetensors.numpy.load_file(prepared / "test.safetensors")
    run = Run(
        task=task,
        classes=tuple(manifest["classes"]),
        config=configuration,
        history=read_history(models),
        kept_epoch=record["kept_epoch"],
        stopped_early=record["stopped_early"],
        monitor=record["monitor"],
        validation=read_figures(reports / "validation.json", "validation"),
        validation_intervals=intervals["validation"],
        test=figures["test"],
        test_intervals=intervals["test"],
        targets=targets,
        predictions=predictions,
        inputs=stored["inputs"],
        rows=stored["rows"],
        manifest=manifest,
        environment=record["environment"],
        parameters=record["weights"],
    )
    write_report(reports, run)
    write_json(reports / "intervals.json", intervals)
    write_figures(reports / "test.json", "test", figures["test"])
    return figures["test"]
