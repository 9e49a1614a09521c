"""The only code that opens the test set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy

from hypermap import metrics, outcome
from hypermap.build import build
from hypermap.data.prepare import load, read_manifest
from hypermap.files import write_json
from hypermap.report import Run, write_report
from hypermap.trainer import Settings


def evaluate(configuration: Mapping[str, Any], prepared: Path, models: Path, reports: Path) -> dict[str, float]:
    """Score the trained network on the test rows; write test.json, intervals.json and the report into `reports`.

    ``reports/validation.json``, which training wrote, is shown beside; where it holds means over several fits, they
    are told in a line of their own. Returns the test metrics.

    Raises:
        UserError: the data, the model or its figures are missing or damaged.
    """
    manifest = read_manifest(prepared)
    model, loss, record = outcome.read_trained(models, manifest)
    settings: Settings = build(record.configuration["trainer"])
    intervals, figures = {}, {}
    for split in ("validation", "test"):
        rows = load(prepared, split)
        targets = outcome.targets(rows, manifest)
        predictions = outcome.predict(model, loss, rows, manifest, settings.precision)
        intervals[split] = metrics.intervals(
            targets,
            predictions,
            task=manifest["task"],
            repeats=configuration["evaluation"]["bootstrap_repeats"],
            confidence=configuration["evaluation"]["confidence"],
        )
        figures[split] = outcome.score(rows, predictions, manifest)
    test, validated = figures["test"], outcome.read_figures(reports / "validation.json", "validation")
    stored = safetensors.numpy.load_file(prepared / "test.safetensors")
    run = Run(
        task=manifest["task"],
        classes=tuple(manifest["classes"]),
        config=configuration,
        history=outcome.read_history(models),
        kept_epoch=record.kept_epoch,
        stopped_early=record.stopped_early,
        monitor=record.monitor,
        validation=figures["validation"] if "fits" in validated else validated,
        fits=validated if "fits" in validated else {},
        validation_intervals=intervals["validation"],
        test=test,
        test_intervals=intervals["test"],
        targets=targets,
        predictions=predictions,
        inputs=stored["inputs"],
        rows=stored["rows"],
        manifest=manifest,
        environment=record.environment,
        parameters=record.parameters,
    )
    write_report(reports, run)
    write_json(reports / "intervals.json", intervals)
    outcome.write_figures(reports / "test.json", "test", test)
    return test
