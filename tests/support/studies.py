"""Searches as a worker is given them."""

import subprocess
import time
from collections.abc import Callable, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution

from hypermap.search.space import Parameter, Space
from hypermap.search.study import StudyConfig

SQUARE = Space(
    (
        Parameter("x", "x", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
        Parameter("y", "y", "interval(0.0,1.0)", FloatDistribution(0.0, 1.0)),
    )
)


def planned(folder: Path, **changes: Any) -> StudyConfig:
    """A random search of the unit square in `folder`, or otherwise with these changes."""
    usual = StudyConfig(
        name="study",
        storage=str(folder / "journal.log"),
        folder=folder,
        space=SQUARE,
        directions=("minimize",),
        objectives=(),
        sampler={"_target_": "optuna.samplers.RandomSampler"},
        pruner={"_target_": "optuna.pruners.NopPruner"},
        n_trials=5,
        seed=1,
    )
    return replace(usual, **changes)


def wait_for_steps(steps: Callable[[], Sized], process: subprocess.Popen[str], count: int) -> None:
    """Wait until a sweep has taken so many steps in all."""
    end = time.monotonic() + 60
    while len(steps()) < count:
        assert process.poll() is None, f"it ended before step {count}: {process.communicate()[0]}"
        assert time.monotonic() < end, f"no step {count} in a minute"
        time.sleep(0.01)
