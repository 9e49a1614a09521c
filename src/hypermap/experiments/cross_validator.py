"""The trainings (fits) of a validation, each on the rows of its fold and with its own seed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hypermap.core import checkpoint
from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.instantiate import instantiate
from hypermap.data.cross_validation import Fold, Splitter, repeat_seed
from hypermap.data.fold_data import Folds
from hypermap.experiments.estimators import Taken, TrainResult, make_estimator
from hypermap.tasks.base import LOSSES
from hypermap.training.state import TrainerConfig

FINISHED = "finished.json"
NOTED = ("metrics", "best_epoch", "epochs", "seconds", "decided")  # keys of that file


@dataclass(frozen=True)
class FoldSpec:
    """One training: its training and validation rows, its seed and, without validation rows, what it takes over."""

    fold: Fold
    seed: int
    taken: Taken | None = None


class CrossValidator:
    """The fits of one configuration on one prepared data set, and their estimator.

    Args:
        configuration: every group, and the seed.
        prepared: the folder of the prepared data.
        folds: its rows, if they have been read already.

    Raises:
        UserError: on construction, if a value does not fit the data, the machine or a signature.
    """

    def __init__(self, configuration: Mapping[str, Any], prepared: Path, folds: Folds | None = None) -> None:
        self.configuration = configuration
        self.folds = folds or Folds(prepared)
        settings: TrainerConfig = instantiate(configuration["trainer"])
        self.settings = settings.of_rows(len(self.folds.train.targets))
        self.manifest = self.folds.transform.manifest
        self.monitor = self.settings.monitored(self.folds.transform.task)
        self.estimator = make_estimator(configuration, self.settings, self.folds.transform)

    def plan(self) -> list[FoldSpec]:
        """Return every fold with every seed: all folds with the configuration's own seed first, then with the next.

        Raises:
            UserError: the folds are impossible, or the monitored metric is undefined for so few rows.
        """
        validation: Splitter = instantiate(self.configuration["validation"])
        folds = validation.folds(self.folds.development)
        fewest, least = min(len(fold.validation) for fold in folds), self.folds.transform.task.least_rows
        if self.monitor not in LOSSES and fewest < least:
            rows = "one validation row" if fewest == 1 else f"{fewest} validation rows"
            raise UserError(
                f"{self.monitor} does not exist for {rows}: validate on more, or take trainer.monitor=loss."
            )
        seeds = [repeat_seed(self.configuration["seed"], number) for number in range(self.settings.repeats)]
        return [FoldSpec(fold, seed) for seed in seeds for fold in folds]

    @property
    def holdout(self) -> FoldSpec:
        """Return the fit on the prepared splits."""
        return FoldSpec(self.folds.development.holdout, self.configuration["seed"])

    def of_all_rows(self, taken: Taken) -> FoldSpec:
        """Return the fit on all rows outside the test set."""
        rows = np.arange(len(self.folds.development.targets))
        return FoldSpec(Fold(rows, rows[:0]), self.configuration["seed"], taken)

    def latency_ms(self) -> float:
        """Return the median time of a prediction for one row, in milliseconds."""
        return self.estimator.latency_ms(lambda: self.folds.of(self.folds.development.holdout))


def write_finished(folder: Path, result: TrainResult) -> None:
    """Write the result of a finished fit into its folder, so that it is not repeated."""
    write_json(folder / FINISHED, {key: getattr(result, key) for key in NOTED})


def read_finished(folder: Path) -> TrainResult | None:
    """Return what `write_finished` wrote, or None.

    Raises:
        UserError: it is damaged.
    """
    try:
        return TrainResult(**json.loads((folder / FINISHED).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{folder / FINISHED} cannot be read ({error!r}). To do this fit again, remove the folder {folder}."
        ) from None


def forget(state: Path) -> None:
    """Remove the state of a run from its folder."""
    for folder in (state, *(path for path in state.glob("*") if path.is_dir())):  # a callback may have removed it
        checkpoint.clear(folder)
        (folder / FINISHED).unlink(missing_ok=True)
