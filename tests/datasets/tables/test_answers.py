"""Another model's answers among the columns are told, and measures that are as good are not."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

from hypermap.datasets.tables.answers import answers
from hypermap.datasets.tables.columns import Column, Target
from hypermap.datasets.tables.leakage import target_leaks
from hypermap.datasets.tables.schema import Schema

TWO = Target("y", "binary", ("no", "yes"))
THREE = Target("y", "multiclass", ("a", "b", "c"))
NUMBER = Target("y", "regression")


def schema(target: Target, *names: str, **words: tuple[str, ...]) -> Schema:
    columns = [Column(name, "number") for name in names]
    columns += [Column(name, "category", categories=given) for name, given in words.items()]
    return Schema(tuple(columns), (target,), (*names, *words, "y"))


def noisy(noise: float, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Two classes, and a model's probabilities of the second: what is known of a class from a number beside it."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, rows)
    return y.astype(float), 1 / (1 + np.exp(-2 * (2 * y - 1 + noise * generator.normal(size=rows)) / noise**2))


@pytest.mark.parametrize("scale", [1, 100])  # percent
def test_probabilities_that_say_it_nearly(scale: int) -> None:
    y, yes = noisy(noise=0.75)
    assert 0.85 < ((yes > 0.5) == y).mean() < 0.95  # too little for a giveaway
    x = np.random.default_rng(1).random(600)
    matrix = np.column_stack([x, scale * yes, scale * (1 - yes)])
    (note,) = target_leaks(schema(TWO, "x", "chance of it", "other"), matrix, y)
    assert note.startswith("Columns 'chance of it', 'other' predict 'y' as the cells stand")
    assert "'data.drop=[\"chance of it\",other]'" in note


def test_probabilities_that_say_little_sum_to_one() -> None:
    y, yes = noisy(noise=2.0)
    x = np.random.default_rng(1).random(600)
    assert answers(schema(TWO, "m1", "x"), np.column_stack([yes, x]), y) == []
    (note,) = answers(schema(TWO, "m1", "m2", "x"), np.column_stack([yes, 1 - yes, x]).round(2), y)
    assert note.startswith("Columns 'm1', 'm2' predict")
    (note,) = answers(schema(TWO, "p_yes", "x"), np.column_stack([yes, x]), y)  # its name speaks for it
    assert note.startswith("Column 'p_yes' predicts")


def test_probabilities_of_three_classes_in_any_order() -> None:
    data = load_iris()
    rows = np.random.default_rng(0).permutation(150)
    inputs, y = StandardScaler().fit_transform(data.data)[rows, :1], data.target[rows]
    shares = cross_val_predict(LogisticRegression(), inputs, y, method="predict_proba")
    matrix = np.column_stack([data.data[rows], shares[:, [2, 0, 1]]])
    names = ("sepal_l", "sepal_w", "petal_l", "petal_w", "m3", "m1", "m2")
    (note,) = answers(schema(THREE, *names), matrix, y.astype(float))
    assert note.startswith("Columns 'm3', 'm1', 'm2' predict")


def test_a_model_s_classes() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 300)
    guess = np.where(generator.random(300) < 0.15, generator.integers(0, 3, 300), y).astype(float)
    guess[:5] = np.nan
    matrix = np.column_stack([guess, generator.integers(0, 3, 300)])
    abc = ("a", "b", "c")
    (note,) = answers(schema(THREE, guess=abc, other=abc), matrix, y.astype(float))
    assert note.startswith("Column 'guess' predicts")
    assert answers(schema(THREE, guess=("x", "y", "z"), other=abc), matrix, y.astype(float)) == []


def test_yes_and_no_are_answers_by_their_names_alone() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 300).astype(float)
    says = np.where(generator.random(300) < 0.1, 1 - y, y)[:, np.newaxis]
    assert answers(schema(TWO, loan=("no", "yes")), says, y) == []
    assert answers(schema(TWO, "test_result"), says, y) == []
    for columns in (schema(TWO, predicted=("no", "yes")), schema(TWO, "y_pred")):
        assert answers(columns, says, y)[0].startswith("Column ")


def test_a_model_s_numbers_are_told_by_their_name() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 3))
    y = 100 + inputs.sum(axis=1) + generator.normal(size=300)
    said = cross_val_predict(Ridge(), inputs, y)[:, np.newaxis]
    (note,) = answers(schema(NUMBER, "predicted_y"), said, y)
    assert "data.drop=[predicted_y]" in note
    assert answers(schema(NUMBER, "yesterday"), said, y) == []
    assert answers(schema(NUMBER, "preduction"), said - 90, y) == []  # in another unit


@pytest.mark.parametrize("scale", [False, True])
def test_good_measures_are_no_answers(scale: bool) -> None:
    data = load_breast_cancer()
    low, high = data.data.min(axis=0), data.data.max(axis=0)
    matrix = (data.data - low) / (high - low) if scale else data.data
    for y in (data.target, 1 - data.target):
        assert answers(schema(TWO, *(f"x{k}" for k in range(30))), matrix, y.astype(float)) == []


def test_shares_of_a_whole_are_no_answers() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        parts = generator.dirichlet([2, 3, 4], 200)  # of three ingredients
        y = (parts[:, 0] > generator.random(200)).astype(float) + (parts[:, 1] > 0.6)
        assert answers(schema(THREE, "sand", "silt", "clay"), parts, y) == []
