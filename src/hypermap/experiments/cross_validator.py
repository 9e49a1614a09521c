"""Fits: the trainings that a validation asks for, each on the rows of its fold and with a seed of its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypermap.core import checkpoint
from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.instantiate import instantiate
from hypermap.data.cross_validation import Fold, Splitter, repeat_seed
from hypermap.data.fold_data import Folds
from hypermap.experiments.estimators import TrainResult, make_estimator
from hypermap.training.state import TrainerConfig

FINISHED = "finished.json"
NOTED = ("metrics", "best_epoch", "epochs", "seconds")  # in it


@dataclass(frozen=True)
class FoldSpec:
    """One training: the rows it learns from and those that validate it, and its seed."""

    fold: Fold
    seed: int


class CrossValidator:
    """The fits of one configuration on one prepared data set, and what trains them.

    Args:
        configuration: every group, and the seed.
        prepared: the folder of the prepared data.
        folds: its rows, where others have read them.

    Raises:
        UserError: on construction, a value that does not suit the data, the machine or a signature.
    """

    def __init__(self, configuration: Mapping[str, Any], prepared: Path, folds: Folds | None = None) -> None:
        self.configuration = configuration
        self.settings: TrainerConfig = instantiate(configuration["trainer"])
        self.folds = folds or Folds(prepared)
        self.manifest = self.folds.transform.manifest
        self.monitor = self.settings.monitored(self.folds.transform.task)
        self.estimator = make_estimator(configuration, self.settings, self.manifest)

    def plan(self) -> list[FoldSpec]:
        """Return every fold with every seed. The first seed is the configuration's own; it has all folds before the
        next.

        Raises:
            UserError: the folds cannot be made, or the monitored figure does not exist for so few rows.
        """
        validation: Splitter = instantiate(self.configuration["validation"])
        folds = validation.folds(self.folds.development)
        fewest, least = min(len(fold.validation) for fold in folds), self.folds.transform.task.least_rows
        if self.monitor != "loss" and fewest < least:
            rows = "one validation row" if fewest == 1 else f"{fewest} validation rows"
            raise UserError(
                f"{self.monitor} does not exist for {rows}: validate on more, or take trainer.monitor=loss."
            )
        seeds = [repeat_seed(self.configuration["seed"], number) for number in range(self.settings.repeats)]
        return [FoldSpec(fold, seed) for seed in seeds for fold in folds]

    @property
    def holdout(self) -> FoldSpec:
        """The fit on the prepared splits."""
        return FoldSpec(self.folds.development.holdout, self.configuration["seed"])

    def latency_ms(self) -> float:
        """Return the median time of a prediction for one row, in milliseconds."""
        return self.estimator.latency_ms(lambda: self.folds.of(self.folds.development.holdout))


def write_finished(folder: Path, result: TrainResult) -> None:
    """Note in a fit's folder that it is done, so that it is not done again."""
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
    """Remove from a run's folder what it could go on from."""
    for folder in (state, *(path for path in state.glob("*") if path.is_dir())):  # whoever was told may have removed it
        checkpoint.clear(folder)
        (folder / FINISHED).unlink(missing_ok=True)
