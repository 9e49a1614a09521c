"""What flatters a score is told, and what is only a good column is not."""

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from hypermap.datasets.tables.columns import Column, Target
from hypermap.datasets.tables.leakage import earlier_rows, shared_groups, target_leaks
from hypermap.datasets.tables.schema import Schema

TASKS = {"classes": Target("y", "binary", ("a", "b")), "numbers": Target("y", "regression")}


def schema(target: Target, **kinds: str) -> Schema:
    columns = tuple(
        Column(name, kind, parts=("year", "days") if kind == "date" else ())  # type: ignore[arg-type]
        for name, kind in kinds.items()
    )
    return Schema(columns, (target,), (*kinds, "y"))


def named(sentences: list[str]) -> list[str]:
    return [sentence.split("'")[1] for sentence in sentences]


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris, load_diabetes])
def test_good_columns_are_no_giveaways(load: object) -> None:
    data = load()  # type: ignore[operator]
    target = Target("y", "regression") if load is load_diabetes else Target("y", "multiclass", ("a", "b", "c"))
    kinds = {f"x{k}": "number" for k in range(data.data.shape[1])}
    assert target_leaks(schema(target, **kinds), data.data.astype(float), data.target.astype(float)) == []


def test_giveaways_of_classes() -> None:
    generator = np.random.default_rng(1)
    y = (np.arange(400) % 10 == 0).astype(float)  # one in ten
    noise = generator.normal(size=400)
    matrix = np.column_stack(
        [
            noise,
            y * 3 + 0.1 * noise,  # a number
            np.where(y > 0, 7, generator.integers(0, 5, 400)),  # a word that only the positive have
            np.where(y > 0, np.nan, noise),  # missing where positive
            generator.integers(0, 2, 400),
            2000 + y,
            noise,  # of a date; the year says it
            np.where(generator.random(400) < 0.05, 1 - y, y),  # nearly
        ]
    )
    kinds = {"noise": "number", "number": "number", "word": "category", "gap": "number", "yes": "boolean"}
    found = target_leaks(schema(TASKS["classes"], **kinds, date="date", nearly="category"), matrix, y)
    assert named(found) == ["number", "word", "gap", "date"]
    assert "balanced accuracy 1.000" in found[0]
    assert "data.drop=[number]" in found[0]


def test_giveaways_of_numbers() -> None:
    generator = np.random.default_rng(1)
    y = generator.normal(size=2000)
    matrix = np.column_stack([np.exp(y), y + generator.normal(size=2000), np.round(4 * y)])
    found = target_leaks(schema(TASKS["numbers"], price="number", other="number", band="category"), matrix, y)
    assert named(found) == ["price"]
    assert "R²" in found[0]


def spread(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten classes, a column of 0 and 1 for each, and columns of 0 and 1 that have nothing to do with them."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 10, rows)
    others = np.column_stack([generator.random((rows, 4)) < 0.5, generator.random((rows, 4)) < 0.02])
    return classes.astype(float), np.eye(10)[classes], others.astype(float)


@pytest.mark.parametrize("left_out", [None, 0, 3])
@pytest.mark.parametrize("gap", [0.0, np.nan])  # an x, or an empty cell
def test_columns_that_are_the_target_spread_out(left_out: int | None, gap: float) -> None:
    classes, hot, others = spread()
    kept = [k for k in range(10) if k != left_out]
    y = hot[:, left_out] if left_out == 3 else classes  # 3: whether it is the one that has no column
    matrix = np.column_stack([others, np.where(hot == 1, 1, gap)[:, kept]])
    kinds = {f"x{k}": "number" for k in range(8)} | {f"is {k}": "boolean" for k in kept}
    target = Target("y", "multiclass", tuple("0123456789")) if left_out != 3 else TASKS["classes"]
    (note,) = target_leaks(schema(target, **kinds), matrix, y)
    assert "together say 'y'" in note
    assert "'data.drop=[" + ",".join(f'"is {k}"' for k in kept) + "]'" in note


def test_labels_of_which_the_target_says_whether_there_is_one() -> None:
    labels = np.random.default_rng(0).random((400, 5)) < 0.15
    kinds = dict.fromkeys("abcde", "number")
    (note,) = target_leaks(schema(TASKS["classes"], **kinds), labels * 1.0, labels[:, :4].any(axis=1) * 1.0)
    assert "data.drop=[a,b,c,d]" in note


@pytest.mark.parametrize("rare", [0.5, 0.05])
def test_columns_of_two_values_that_say_it_by_chance_alone(rare: float) -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        matrix = (generator.random((150, 60)) < rare).astype(float)
        y = (generator.random(150) < 0.05).astype(float)
        assert target_leaks(schema(TASKS["classes"], **{f"x{k}": "number" for k in range(60)}), matrix, y) == []


def test_a_target_that_is_a_sum_of_columns() -> None:
    generator = np.random.default_rng(0)
    parts = generator.integers(0, 500, (300, 3)).astype(float)
    matrix = np.column_stack([generator.normal(size=300), parts, 3 * generator.normal(size=300)])
    columns = schema(TASKS["numbers"], noise="number", casual="number", registered="number", other="number", x="number")
    (note,) = target_leaks(columns, matrix, parts[:, 0] + parts[:, 1])
    assert note.startswith("'y' is a weighted sum of 'casual', 'registered', without any rest")
    assert "'data.drop=[casual,registered]'" in note
    assert target_leaks(columns, matrix, parts[:, 0] + parts[:, 1] + generator.normal(size=300)) == []
    assert target_leaks(columns, matrix, parts[:, 0] * parts[:, 1]) == []
    (copy,) = target_leaks(schema(TASKS["numbers"], a="number"), matrix[:60, :1], matrix[:60, 0])  # too few for a tree
    assert "'data.drop=[a]'" in copy


def test_few_rows_say_nothing() -> None:
    y = np.arange(20) % 2.0
    assert target_leaks(schema(TASKS["classes"], x="number"), y[:, np.newaxis], y) == []


def test_test_rows_of_groups_that_are_learnt_from() -> None:
    members = pl.Series(["1", "2", "2"])
    (sentence,) = shared_groups("patient", members, pl.Series([2, None, 3, 1]), 4)
    assert sentence.startswith("2 of 4 test rows are of groups that are learned from (data.group=patient)")
    assert shared_groups("patient", members, pl.Series(["3"]), 1) == []
    assert "no column 'patient'" in shared_groups("patient", members, None, 4)[0]


def test_test_rows_that_are_not_later() -> None:
    times = np.array([1.0, 5.0])
    (sentence,) = earlier_rows("when", times, np.array([5.0, 6.0, np.nan]), 3)
    assert sentence.startswith("2 of 3 test rows are not later than all rows that are learned from (data.time=when)")
    assert earlier_rows("when", times, np.array([5.5]), 1) == []
    assert "no column 'when'" in earlier_rows("when", times, None, 3)[0]
