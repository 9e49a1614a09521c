"""Rows in the order of time are told, and files that are sorted otherwise are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

from hypermap.datasets.tables.dataset import table

ROWS = 300
DRAW = np.random.default_rng(0)
NOISE = DRAW.normal(size=(ROWS, 3))
WALKS = np.cumsum(DRAW.normal(size=(ROWS, 3)), axis=0)  # neighbours differ by one step
DAYS = pl.date_range(pl.date(2021, 1, 1), pl.date(2023, 1, 1), eager=True)[:ROWS]
RANDOM = {"a": NOISE[:, 0], "b": NOISE[:, 1], "y": NOISE[:, 2]}
SERIES = {"a": WALKS[:, 0], "b": WALKS[:, 1], "noise": NOISE[:, 0], "y": WALKS[:, 2]}


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes columns to a file, and reads what is told of its order."""

    def write_and_read(columns: Any, **arguments: Any) -> list[str]:
        pl.DataFrame(columns).write_csv(tmp_path / "my.csv")
        notes = table(str(tmp_path / "my.csv"), "y", **arguments).notes
        return [note for note in notes if "split at random" in note]

    return write_and_read


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("when", DAYS),
        ("when", DAYS.reverse()),  # the newest first
        ("sold on", DAYS.dt.strftime("%d/%m/%Y")),
        ("year", [1950 + k // 5 for k in range(ROWS)]),
        ("t", [1_600_000_000 + 3600 * k for k in range(ROWS)]),
    ],
)
def test_a_column_of_times_that_rises_is_told(told: Callable[..., list[str]], name: str, times: Any) -> None:
    (note,) = told({name: times, **RANDOM})
    assert note.startswith(f"The rows stand in the order of {name!r}")
    assert ("data.time=year" if name == "year" else "data.time=") in note
    assert ("'data.time=\"sold on\"'" in note) == (name == "sold on")
    assert told({name: times, **RANDOM}, time=name) == []


def test_a_time_that_nothing_is_learned_from_is_told_too(told: Callable[..., list[str]]) -> None:
    (note,) = told({"when": DAYS, **RANDOM}, drop=["when"])
    assert "data.time=when" in note
    assert told({"when": DAYS, **RANDOM}, drop=["when"], time="when") == []


def test_neighbours_that_are_alike_are_told(told: Callable[..., list[str]]) -> None:
    (note,) = told(SERIES)
    steps, variance = np.diff(pl.Series(SERIES["y"]).rank().to_numpy()), np.var(np.arange(ROWS))
    assert f"alike (correlation {1 - np.mean(steps**2) / (2 * variance):.2f} of their 'y')" in note
    assert "number the rows" in note
    (note,) = told({"id": range(ROWS), **SERIES})
    assert "data.time=id." in note
    (note,) = told({**SERIES, "clock": np.arange(ROWS) / 4})
    assert "data.time=clock." in note
    (note,) = told({**SERIES, "y": np.where(WALKS[:, 2] > np.median(WALKS[:, 2]), "up", "down")})
    assert "of their 'y'" in note
    assert told({**SERIES, "g": np.arange(ROWS) % 7}, group="g") == []


def iris(by: str | None = None) -> pl.DataFrame:
    data = load_iris()
    frame = pl.DataFrame(data.data, schema=["a", "b", "c", "d"]).with_columns(y=data.target_names[data.target])
    return frame if by is None else frame.sort(by)


def diabetes(by: str) -> pl.DataFrame:
    data = load_diabetes()
    return pl.DataFrame(data.data, schema=[f"x{k}" for k in range(10)]).with_columns(y=data.target).sort(by)


@pytest.mark.parametrize(
    "columns",
    [
        RANDOM,
        {"when": DAYS.sample(ROWS, shuffle=True, seed=1), **RANDOM},
        {"year": DRAW.integers(1990, 2020, ROWS), **RANDOM},
        {"id": range(ROWS), **RANDOM},
        pl.DataFrame(SERIES).sample(ROWS, shuffle=True, seed=1),
        pl.DataFrame(SERIES).sort("y"),
        pl.DataFrame(SERIES).sort("a", descending=True),
        pl.concat([pl.DataFrame(RANDOM)] * 4).sort("a"),  # copies beside each other
        {"a": WALKS[:, 0], "b": WALKS[:, 1], "c": NOISE[:, 0], "d": NOISE[:, 1], "e": NOISE[:, 2], "y": WALKS[:, 2]},
        iris(),  # sorted by class
        iris("a"),
        pl.DataFrame(load_wine().data).with_columns(y=pl.Series([f"c{k}" for k in load_wine().target])),
        diabetes("y"),
        diabetes("x2"),
    ],
)  # fmt: skip
def test_other_files_are_not_told(told: Callable[..., list[str]], columns: Any) -> None:
    assert told(columns) == []


def test_what_differs_between_blocks_alone_is_no_series(told: Callable[..., list[str]]) -> None:
    blocks = np.repeat(np.arange(6.0), ROWS // 6)
    columns = {name: 5 * blocks + values for name, values in RANDOM.items()}
    assert told({"city": [f"city {k:.0f}" for k in blocks], **columns}) == []
