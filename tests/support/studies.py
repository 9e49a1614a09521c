"""Searches as a worker is given them."""

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
