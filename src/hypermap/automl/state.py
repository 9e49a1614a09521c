"""The state of an AutoML on disk: a folder for each step that is done, so that a killed one goes on."""

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hypermap.automl.order import Outcome, Step
from hypermap.core.errors import UserError
from hypermap.core.files import files_below, whole_folder, write_json
from hypermap.core.typing import Array

OUTCOME, PREDICTIONS, MODEL, SPENT = "outcome.json", "predictions.npy", "model", "spent.json"


class State:
    """The steps of one AutoML that are done, with their models and predictions.

    Args:
        folder: locked for this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self) -> dict[Step, Outcome]:
        """Return the steps that are done.

        Raises:
            UserError: what a step has left is damaged.
        """
        found = {}
        for path in sorted((self.folder / "steps").glob(f"*/{OUTCOME}")):
            candidate, _, fold = path.parent.name.partition("-")
            try:
                found[Step(int(candidate), int(fold))] = _read(path)
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{path} cannot be read ({error!r}). To start over, remove {self.folder}.") from None
        return found

    def outcome(self, step: Step) -> Outcome | None:
        """Return what a step came to; None if it is not done."""
        path = self._of(step) / OUTCOME
        return _read(path) if path.exists() else None

    @contextmanager
    def writing(self, step: Step) -> Iterator[Path]:
        """Yield a folder for what a step leaves, all of it or nothing."""
        self._of(step).parent.mkdir(exist_ok=True)
        with whole_folder(self._of(step)) as partial:
            partial.mkdir()
            yield partial

    def fail(self, step: Step, error: str) -> None:
        """Note that a step's candidate cannot be trained."""
        with self.writing(step) as folder:
            write_json(folder / OUTCOME, asdict(Outcome(None, error=error)))

    def model(self, step: Step) -> Path:
        """Return the folder of a step's model."""
        return self._of(step) / MODEL

    def predictions(self, step: Step) -> Array:
        """Return a step's predictions for its fold's validation rows."""
        found: Array = np.load(self._of(step) / PREDICTIONS, allow_pickle=False)
        return found

    @property
    def spent(self) -> float:
        """The seconds that were spent before an interruption."""
        try:
            return float(json.loads((self.folder / SPENT).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return 0.0

    @spent.setter
    def spent(self, seconds: float) -> None:
        write_json(self.folder / SPENT, seconds)

    def clear(self) -> None:
        """Remove everything: it is finished."""
        shutil.rmtree(self.folder / "steps", ignore_errors=True)
        (self.folder / SPENT).unlink(missing_ok=True)

    def _of(self, step: Step) -> Path:
        return self.folder / "steps" / f"{step.candidate:04d}-{step.fold:02d}"


def _read(path: Path) -> Outcome:
    return Outcome(**json.loads(path.read_text(encoding="utf-8")))


def compressed_bytes(folder: Path) -> int:
    """Return how much a model's files take, each compressed by itself, as in a zip archive."""
    return sum(len(zlib.compress(file.read_bytes(), 6)) for file in files_below(folder))
