"""``hydra/sweeper=hypermap``: the official Optuna sweeper's settings and grammar, over `hypermap.search`."""

import sys
from dataclasses import fields
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hypermap.core.errors import UserError, near
from hypermap.core.preload import uncollected

from . import config as config


class HypermapSweeper(Sweeper):
    """Searches with workers that share a study, prunes, and resumes after any kind of crash.

    Its settings are documented in `HypermapSweeperConf`.
    """

    def __init__(self, **settings: Any) -> None:
        known = [
            field.name for field in fields(config.HypermapSweeperConf) if field.name not in ("_target_", "defaults")
        ]
        if odd := [key for key in settings if key not in known]:
            raise UserError(f"hydra.sweeper has no {odd[0]!r}{near(odd[0], known)}. It has: {', '.join(known)}.")
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra passes."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Search, and write ``optimization_results.yaml`` into the sweep's folder.

        Raises:
            SystemExit: the search ended early; the exit status says why.
            UserError: the space, the settings or the study are invalid; or the error that ended the sweep.
        """
        with uncollected():
            from hypermap.sweeps.confirm import again, wanted
            from hypermap.sweeps.sweep import (
                Sweep,  # Optuna takes a second to import, and Hydra imports this module at every start
            )

        assert self.config is not None, "Hydra sets up a sweeper before it sweeps"
        assert self.hydra_context is not None
        sweep = Sweep(self.settings, self.config, self.hydra_context, self.task_function)
        if (confirmation := wanted(sweep.settings["confirm"])) is not None and confirmation.only is not None:
            again(sweep, confirmation, arguments)
        else:
            sweep.run(arguments)
        if sweep.status:
            sys.exit(sweep.status)
