"""Trainings outside the pipeline: by hand, as a trial of a sweep, or to confirm one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core.cli import run, stop_after_epoch
from hypermap.core.paths import CACHE, PREPARED
from hypermap.core.preload import uncollected

if TYPE_CHECKING:  # torch takes seconds
    from hypermap.config.groups import Configuration
    from hypermap.datasets.prepare import Pinned
    from hypermap.sweeps.training_target import TrainingTarget


def prepare(configuration: "Configuration", pinned: "Pinned | None" = None) -> Path:
    """Return the folder of the configuration's data, preparing it first if needed.

    Notes on the data are printed, except for trials, whose files are `pinned`: the search has printed them before.

    Raises:
        UserError: the data cannot be prepared, or its files are no longer those `pinned`.
    """
    from hypermap.data.manifest import Manifest
    from hypermap.datasets.prepare import find_or_prepare, print_notes

    folder = find_or_prepare(configuration["data"], [PREPARED], CACHE, pinned)
    if pinned is None:
        print_notes(Manifest.read(folder))
    return folder


def by_hand(configuration: "Configuration", output: Path) -> Any:
    """Train alone or as a trial of a sweep, with results in `output`; return the objective(s)."""
    from hypermap.search.trial import current

    if (trial := current()) is not None:
        from hypermap.sweeps.training_target import files_of, train_trial

        return train_trial(configuration, prepare(configuration, files_of(trial)), trial)
    return run(lambda: _alone(configuration, output))  # instead of Hydra's traceback


def target(base: str) -> "TrainingTarget":
    """Return a training as the target of a sweep that starts from a params.yaml with this text."""
    with uncollected():
        from hypermap.sweeps.training_target import TrainingTarget  # imports Optuna

    return TrainingTarget(prepare, base)


def _alone(configuration: "Configuration", output: Path) -> Any:
    prepared = prepare(configuration)
    with uncollected():
        from hypermap.experiments.run import TrainingRequest, summary, train

    with stop_after_epoch() as pause:
        result = train(TrainingRequest(configuration, prepared, output, output / "validation.json", pause=pause))
    print(summary(result))
    print(f"Model and history: {output}")
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        words = HydraConfig.get().overrides.task
        print(f"Test, baselines and report: {pipeline_command(words, configuration.get('experiment'))}")
    return result.objective


def pipeline_command(words: Sequence[str], experiment: str | None) -> str:
    """Return the shell command that runs the pipeline with the settings of a run by hand."""
    named = f"experiment={experiment}"
    if named in words:
        others = [word for word in words if word != named]
        return f"{shlex.join(['python', 'src/order.py', str(experiment), *others])} && dvc repro"
    return (
        shlex.join(["dvc", "exp", "run", *(part for word in words for part in ("-S", word))]) if words else "dvc repro"
    )
