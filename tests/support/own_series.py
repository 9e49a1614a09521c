"""A made-up hourly series with a daily season, as values and as a file."""

import csv
from datetime import datetime, timedelta

import numpy as np

START = datetime(2024, 1, 1)


def hourly(steps, seed=0):
    """Return a load with a daily season and a temperature that follows it an hour later, ``(steps, 2)``."""
    draw = np.random.default_rng(seed)
    hours = np.arange(steps)
    load = 50 + 10 * np.sin(2 * np.pi * hours / 24) + draw.normal(0, 0.5, steps)
    return np.stack([load, np.r_[load[0], load[:-1]] / 2 + draw.normal(0, 0.2, steps)], axis=1).round(4)


def rows_of(steps, seed=0):
    """Return lines of a file: time, load, temperature."""
    return [
        [str(START + timedelta(hours=k)), *map(str, values)] for k, values in enumerate(hourly(steps, seed).tolist())
    ]


def write_series(path, rows, header=("when", "load", "temperature")):
    """Write lines as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
