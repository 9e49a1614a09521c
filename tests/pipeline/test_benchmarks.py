"""Every benchmark still runs, in its smoke run, and says of each thing that it measures what it came to."""

import os
import re
import subprocess
import sys

import pytest

from hypermap.core.paths import ROOT
from support import postgres

NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*")

# Of each benchmark, rows of its tables by their first cells, and how many numbers follow in each at least.
ROWS = {
    "audio": {"audio_cnn": 5},
    "asks": {"auto": 2, "TPE (Optuna)": 2, "Gaussian process (Optuna)": 2},
    "automl": {"price": 3},
    "faults": {"joblib, journal": 9},
    "intervals": {"normal, 50 trials, noise 1 × spread": 9, "all equal, 20 trials": 9, "runner-up": 2, "baseline": 2},
    "graphs": {"appnp": 5, "appnp (shuffled)": 5, "label_propagation": 5},
    "judging": {"the best epoch": 1, "the last third": 1, "the second half (as it is)": 1},
    "keeping": {"the best accuracy": 3, "margin 0.25 (as it is)": 3, "the lowest loss of all": 3, "digits, mlp": 3},
    "large_study": {"30": 3},
    "overhead": {"hypermap, journal file (the default)": 2, "official sweeper, in memory": 2},
    "predictions": {"linear": 3},
    "processes": {"digits, MLP 64-128-10, batches of 64": 11},
    "pruning": {"0": 3, "median": 1},
    "ratings": {"rating_factors": 4, "two_towers": 4, "ease": 4},
    "record": {},
    "refit_schedule": {"breast_cancer": 4},
    "scale": {"journal, 10": 7, "PostgreSQL, 10": 7, "proxy, 10": 7},
    "searches": {"random": 6, "auto": 6, "digits": 5},
    "several_targets": {"micro_f1": 4, "quality_r2": 4, "colour_accuracy": 4},
    "series": {"rlinear": 6, "seasonal_naive": 6},
    "stack": {"stack of 4, batched": 5, "single run": 5, "stack=4": 5},
    "startup": {"import torch": 4, "a run": 4, "a sweep of 3": 4, "a run, counted": 2},
    "storages": {"journal": 6, "SQLite": 6},
    "strategies": {"random": 4, "auto": 4},
    "tables": {"made up, classes": 5, "made up, number": 5},
    "ten_thousand": {"journal": 4, "SQLite": 4, "100": 6, "watch, journal": 2},
    "text": {"made up": 5},
    "text_columns": {"made up, r2": 4},
    "throughput": {"hypermap": 4, "textbook": 5},
}
PARTS = {"outside", "outside_automl", "outside_search", "plain_optuna", "race", "searching", "trainers"}  # of others


def test_every_benchmark_has_a_smoke_run():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(ROWS) | PARTS


@pytest.mark.parametrize("name", ROWS)
def test_smoke_run(name, tmp_path, forks):
    variables = {key: value for key, value in os.environ.items() if not key.startswith("HYPERMAP")}
    done = subprocess.run(
        [sys.executable if name == "faults" else "python", str(ROOT / "benchmarks" / f"{name}.py"), "--quick"],
        cwd=tmp_path,
        env=variables | {"OMP_NUM_THREADS": "1"} | ({} if name == "faults" else forks.heavy),  # it kills its commands
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = table_rows(done.stdout)
    for first, numbers in ROWS[name].items():
        assert first in found, done.stdout
        assert max(len(NUMBER.findall(" ".join(cells))) for cells in found[first]) >= numbers, found[first]
    assert "nan" not in done.stdout
    if name == "record":  # three configurations, two epochs each
        assert len(re.findall(r"validation 0\.\d+, 0\.\d+$", done.stdout, re.MULTILINE)) == 3
    if name == "faults":
        sweeps = ["joblib, journal", *(["joblib, PostgreSQL"] if postgres.why_not() is None else [])]
        for sweep in sweeps:  # finished, twice, lost, as in a quiet run, tracebacks
            assert found[sweep][0][2:7] == ["6", "0", "0", "6 of 6", "0"], done.stdout + done.stderr


def table_rows(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of the Markdown tables in a text, by their first cells."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
            found.setdefault(first, []).append(cells)
    return found
