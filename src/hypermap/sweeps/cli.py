"""Trainings beside the pipeline: by hand, as a trial of a sweep, or again to confirm one."""

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.core.errors import Interrupted
from hypermap.core.preload import uncollected

if TYPE_CHECKING:  # torch takes seconds
    from hypermap.config.groups import Configuration
    from hypermap.datasets.prepare import Pinned
    from hypermap.experiments.run import Result

PREPARED = Path("data/prepared")
CACHE = Path("data/cache")


def prepare(configuration: "Configuration", pinned: "Pinned | None" = None) -> Path:
    """The folder of the data that the configuration asks for, prepared first where it is not.

    What a person should know of the data is told, but for trials, whose files are `pinned`: a search told it before.

    Raises:
        UserError: the data cannot be prepared, or its files are no longer those `pinned`.
    """
    from hypermap.data.preprocessor import read_manifest
    from hypermap.datasets.prepare import find_or_prepare, tell

    folder = find_or_prepare(configuration["data"], [PREPARED], CACHE, pinned)
    if pinned is None:
        tell(read_manifest(folder))
    return folder


def by_hand(configuration: "Configuration", output: Path) -> Any:
    """Train alone or as a trial of a sweep; results in `output`. Returns the objective(s)."""
    from hypermap.search.trial import current

    if (trial := current()) is not None:
        from hypermap.sweeps.training_target import files_of, train_trial

        return train_trial(configuration, prepare(configuration, files_of(trial)), trial)
    prepared = prepare(configuration)
    with uncollected():
        from hypermap.experiments.run import Asked, train

    with asked_to_end() as pause:
        result = train(Asked(configuration, prepared, output, output / "validation.json", pause=pause))
    print(told(result))
    print(f"Model and history: {output}")
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        words = HydraConfig.get().overrides.task
        print(f"Test, baselines and report: {pipeline_command(words, configuration.get('experiment'))}")
    return result.objective


@contextmanager
def asked_to_end() -> Iterator[Callable[[], None]]:
    """Answer a scheduler's SIGTERM after the epoch that runs, when the state is on the disk; a second ends at once.

    Yields:
        what is to be called then.

    Raises:
        Interrupted: a scheduler asked.
    """
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        print("SIGTERM: stopping after the epoch that runs; a second one stops at once.", file=sys.stderr, flush=True)
        signal.signal(number, before)

    def pause() -> None:
        if asked:
            raise Interrupted("Stopped after an epoch, as asked by SIGTERM. The same command goes on from there.")

    if threading.current_thread() is not threading.main_thread():
        yield pause
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield pause
    finally:
        signal.signal(signal.SIGTERM, before)


def pipeline_command(words: Sequence[str], experiment: str | None) -> str:
    """Return the command, for a shell, that runs the pipeline with what a run by hand was asked for."""
    named = f"experiment={experiment}"
    if named in words:
        others = [word for word in words if word != named]
        return f"{shlex.join(['python', 'src/order.py', str(experiment), *others])} && dvc repro"
    return (
        shlex.join(["dvc", "exp", "run", *(part for word in words for part in ("-S", word))]) if words else "dvc repro"
    )


def told(result: "Result") -> str:
    """How a training went, in one line."""
    fits = len(result.scores)
    said = f"Validation {result.monitor} {result.objective:.4f}"
    if result.epochs:
        kept = f"mean of {fits} trainings" if fits > 1 else f"at epoch {result.kept_epoch} of {result.epochs}"
        return f"{said} {kept}, trained in {result.seconds:.1f} s"
    mean = f", mean of {fits} trainings" if fits > 1 else ""
    return (
        f"{said}{mean}, fitted in {result.seconds:.1f} s\n"
        "(by scikit-learn: optimizer, scheduler, loss, regularizer, augment, trainer.epochs and trainer.calibration "
        "have no part in it)"
    )
