"""What two scores say of a model without epochs."""

import pytest

from hypermap.reports.run.scores import RICHER, SIMPLER, diagnose_scores
from hypermap.tasks.base import locate_task
from hypermap.tasks.regression import Regression


def said(family, train, validation, task="classification", rows=400):
    name = "r2" if task == "regression" else "accuracy"
    target = f"hypermap.models.sklearn_models.{family}"
    (finding,) = diagnose_scores(target, {name: train}, {name: validation}, locate_task(task), rows)
    return finding.kind, finding.sentence


@pytest.mark.parametrize(
    ("family", "train", "validation", "kind", "advice"),
    [
        ("GradientBoosting", 0.99, 0.85, "overfitting", SIMPLER["GradientBoosting"]),
        ("GradientBoosting", 0.96, 0.95, "healthy", "neither too simple nor too free"),
        ("Linear", 0.80, 0.79, "underfitting", RICHER["Linear"]),
        ("RandomForest", 1.0, 0.85, "healthy", "keeps its training rows"),
        ("RandomForest", 0.7, 0.69, "underfitting", RICHER["RandomForest"]),
        ("Dummy", 0.6, 0.6, "underfitting", "does not look at the inputs"),
        ("OneOfMyOwn", 0.99, 0.85, "overfitting", "a simpler model"),
        ("OneOfMyOwn", 0.99, 0.98, "healthy", "400 validation rows"),
    ],
)
def test_kinds_and_what_to_try(family, train, validation, kind, advice):
    found, sentence = said(family, train, validation)
    assert found == kind
    assert advice in sentence
    assert f"{train:.4f}" in sentence
    assert f"{validation:.4f}" in sentence


def test_a_gap_within_the_noise_is_none():
    assert said("GradientBoosting", 0.99, 0.90, rows=400)[0] == "overfitting"  # an error of 0.015
    assert said("GradientBoosting", 0.99, 0.90, rows=20)[0] == "healthy"  # of 0.067
    assert said("Linear", 0.6, 0.4, task="regression", rows=400)[0] == "overfitting"
    assert said("Linear", 0.6, 0.4, task="regression", rows=30)[0] == "healthy"


def test_too_few_rows_for_a_score():
    (finding,) = diagnose_scores("hypermap.models.sklearn_models.Linear", {"mae": 1.0}, {"mae": 1.0}, Regression, 1)
    assert "too few rows" in finding.sentence
