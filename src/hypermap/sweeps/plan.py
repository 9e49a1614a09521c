"""The plan of a sweep from its settings: strategy, budget, directions, and the study's name."""

import copy
import math
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hypermap.core.errors import UserError
from hypermap.core.hashing import fingerprint
from hypermap.search.application import StudySpec, SweepTarget
from hypermap.search.counter_samplers import cells
from hypermap.search.lease import TERM_S
from hypermap.search.space import Space
from hypermap.search.storage import absolute
from hypermap.search.strategy import AUTO, AUTO_PRUNER, learns
from hypermap.search.study import StudyConfig

GRID, RANDOM_GRID = "hypermap.search.counter_samplers.Grid", "hypermap.search.counter_samplers.RandomGrid"
RANDOM = "hypermap.search.counter_samplers.Random"
# Optuna's own record what they drew, which several workers would write at the same time.
NUMBERED = {"optuna.samplers.GridSampler": GRID, "optuna.samplers.RandomSampler": RANDOM}
NO_PRUNER = "optuna.pruners.NopPruner"
USUAL_TRIALS = 20
SHORTEST_S = 0.1  # minimum of trial_timeout
SHORTEST_LEASE_S = 1.0
LEAST_BUDGET = 0.01  # minimum budget in trainings: at least a step
BEGUN = 4  # minimum number of trials that start per full training of the budget
ROUNDS = 8  # minimum rounds with an automatic stack, so that a learning sampler sees results of earlier trials
# Settings that do not change the identity of an included sweep.
OF_A_RUN = (
    r"[+~]*hydra\.sweeper\.(n_trials|budget|n_jobs|stack|timeout|trial_timeout|target|resume|storage|max_failure_rate|dvc|seeds|goal"
    r"|workers_per_gpu|scientific|confirm|report|lease|detach|artifacts)\b"
)
# Settings of a single command, which the commands in the study's report do not repeat.
ONCE = r"[+~]*hydra\.(mode|sweeper\.(resume|confirm|report|detach))\b"


@dataclass(frozen=True)
class Planner:
    """Reads a sweep's settings; `suffix` distinguishes the studies of a comparison."""

    settings: Mapping[str, Any]
    config: DictConfig
    suffix: str = ""

    def plan(self, space: Space, study_spec: StudySpec) -> StudyConfig:
        """Return the plan for all workers."""
        sampler, pruner, n_trials = self.strategy(space, study_spec)
        seed = self.settings["seed"]
        own = sampler.pop("seed", None)  # as in the official sweeper; each trial's seed is derived from it
        seed = own if seed is None else seed
        directions, artifacts = self.directions(study_spec), self.settings["artifacts"]
        name = (
            self.settings["study_name"] or self.name(space, study_spec, directions, [sampler, pruner, seed])
        ) + self.suffix
        folder = self.folder(name)
        plan = StudyConfig(
            name=name,
            storage=absolute(self.settings["storage"] or str(folder / "journal.log")),
            folder=folder,
            space=space,
            directions=directions,
            objectives=study_spec.objectives,
            sampler=sampler,
            pruner=pruner,
            n_trials=n_trials,
            budget=self.number("budget", LEAST_BUDGET),
            seed=study_spec.seed if seed is None else int(seed),
            began=time.time(),
            target=self.number("target", -math.inf),
            trial_timeout=self.number("trial_timeout", SHORTEST_S),
            max_failure_rate=self.number("max_failure_rate", 0.0, 1.0) or 0.0,
            horizon=study_spec.horizon,
            minimizes_reports=study_spec.minimizes_reports,
            reports_fits=study_spec.reports_fits,
            sizes_differ=study_spec.sizes_differ,
            lease=self.number("lease", SHORTEST_LEASE_S) or TERM_S,
            command=uuid.uuid4().hex,
            artifacts=None if artifacts is None else absolute(artifacts),
        )
        timeout = self.number("timeout", 0.0)
        return plan if timeout is None else replace(plan, deadline=plan.began + timeout)

    def strategy(self, space: Space, study_spec: StudySpec) -> tuple[dict[str, Any], dict[str, Any], int | None]:
        """Return the sampler, the pruner and the number of trials; None if only the budget limits it.

        If all values are listed, with neither a number of trials nor a budget, it is the grid that a Hydra user
        expects.
        """
        sampler, pruner = _choice(self.settings["sampler"], AUTO), _choice(self.settings["pruner"], AUTO_PRUNER)
        n_trials = self.settings["n_trials"]
        if n_trials is not None and (isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1):
            raise UserError(f"hydra.sweeper.n_trials is {n_trials!r}; it must be a whole number of at least 1.")
        automatic = sampler["_target_"] == AUTO
        if sampler["_target_"] in NUMBERED:
            sampler = {**sampler, "_target_": NUMBERED[sampler["_target_"]]}
        if automatic and not space.parameters and self.settings["custom_search_space"] is None:
            sampler, n_trials = {"_target_": RANDOM}, n_trials or 1
        elif automatic and n_trials is None and not self.settings["budget"] and space.parameters and _listed(space):
            sampler = {"_target_": GRID}
        on_grid = sampler["_target_"] in (GRID, RANDOM_GRID)
        if on_grid:
            if space.conditional:
                names = ", ".join(p.name for p in space.parameters if p.conditions)
                raise UserError(
                    f"A grid has no place for parameters that only some choices have: {names}. Take another "
                    "sampler, such as hydra/sweeper/sampler=random, or sweep each choice by itself."
                )
            size = math.prod(len(values) for values in cells(space.distributions()).values())
            n_trials = min(n_trials or size, size)
        if pruner["_target_"] == AUTO_PRUNER and (on_grid or len(self.directions(study_spec)) > 1):
            pruner = {"_target_": NO_PRUNER}
        return sampler, pruner, n_trials or (None if self.settings["budget"] else USUAL_TRIALS)

    def directions(self, study_spec: StudySpec) -> tuple[str, ...]:
        """Return the direction of each objective: as given, or following from the metric."""
        given = as_list(self.settings["direction"])
        if given is None:
            return study_spec.directions
        allowed = ("minimize", "maximize")
        if odd := [direction for direction in given if direction not in allowed]:
            raise UserError(f"hydra.sweeper.direction is {odd[0]!r}; it is minimize or maximize, or a list of them.")
        if study_spec.objectives and tuple(given) != study_spec.directions:
            needs = ", ".join(f"{n} {d}" for n, d in zip(study_spec.objectives, study_spec.directions, strict=True))
            raise UserError(
                f"hydra.sweeper.direction is {', '.join(given)}; the objective needs: {needs}. Leave it out."
            )
        return tuple(given)

    def name(self, space: Space, study_spec: StudySpec, directions: Sequence[str], strategy: Sequence[Any]) -> str:
        """Return a name that is stable for the same command: a sweep's own, or searched keys and a fingerprint."""
        shipped = self.config.hydra.runtime.choices.get("sweep")
        overrides = self.config.hydra.overrides
        others = [o for o in overrides.task if not re.match(r"\+?sweep=", o)]
        others += [o for o in overrides.hydra if re.match(r"[+~]*hydra[./]sweeper", o) and not re.match(OF_A_RUN, o)]
        if shipped and not others:
            return str(shipped)
        keys = "-".join(dict.fromkeys(p.key.split(".")[:2][-1] for p in space.parameters))
        parts = [
            space.record(),
            study_spec.identity.get("configuration"),
            list(study_spec.objectives),
            list(directions),
            *strategy,
        ]
        return f"{shipped or keys[:40] or 'repeat'}-{fingerprint(parts)[:6]}"

    def folder(self, name: str) -> Path:
        """Return the folder of the trials and, by default, the study; studies of a comparison get one each."""
        folder = self._sweep_folder(name)
        shared = bool(self.suffix) and folder == self._sweep_folder(f"{name}-")
        return folder / name if shared else folder

    def _sweep_folder(self, name: str) -> Path:
        config = OmegaConf.masked_copy(self.config, ["hydra"])
        config = copy.deepcopy(config)
        OmegaConf.set_readonly(config.hydra.sweeper, False)
        OmegaConf.update(config, "hydra.sweeper.study_name", name, force_add=True)
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return Path(str(config.hydra.sweep.dir)).absolute()

    def identity(self, plan: StudyConfig, study_spec: StudySpec) -> dict[str, Any]:
        """Return what must be unchanged when the study is resumed."""
        return {
            "direction": list(plan.directions),
            "objective": list(plan.objectives),
            "space": plan.space.record(),
            "seed": plan.seed,
            **study_spec.identity,
        }

    def number(self, key: str, least: float, most: float = math.inf) -> float | None:
        """Return a setting that is a number or null."""
        value = self.settings[key]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            bounds = [f"at least {least:g}"] * math.isfinite(least) + [f"at most {most:g}"] * math.isfinite(most)
            raise UserError(
                f"hydra.sweeper.{key} is {value!r}; it must be a number"
                + (f" of {' and '.join(bounds)}." if bounds else ".")
            )
        return float(value)

    def jobs(self) -> int:
        """Return the number of workers."""
        jobs = self.settings["n_jobs"]
        if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
            raise UserError(f"hydra.sweeper.n_jobs is {jobs!r}; it must be a whole number of at least 1.")
        return jobs

    def workers_per_gpu(self) -> int:
        """Return how many workers may share a GPU."""
        workers = self.settings.get("workers_per_gpu", 1)
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise UserError(f"hydra.sweeper.workers_per_gpu is {workers!r}; it must be a whole number of at least 1.")
        return workers

    def stack(self, plan: StudyConfig, application: SweepTarget, configuration: Mapping[str, Any]) -> int:
        """Return the maximum number of trials that a worker runs at once; `configuration` is a typical one."""
        stack = self.settings["stack"]
        if stack == "auto":
            most = application.stack_size(configuration)
            expected = plan.n_trials or math.ceil(BEGUN * (plan.budget or 1))
            if learns(plan.sampler):  # it needs the results of some trials before it proposes the next
                most = min(most, max(2, expected // ROUNDS))
            return max(1, min(most, math.ceil(expected / self.jobs())))
        if isinstance(stack, bool) or not isinstance(stack, int) or stack < 1:
            raise UserError(f"hydra.sweeper.stack is {stack!r}; it must be a whole number of at least 1, or auto.")
        if stack > 1 and not application.stacks:
            raise UserError(
                f"hydra.sweeper.stack is {stack}; this application runs one trial at a time. Leave it out, and run "
                "several workers: hydra.sweeper.n_jobs=2"
            )
        return stack


def _listed(space: Space) -> bool:
    return all(parameter.listed for parameter in space.parameters)


def _choice(value: Any, usual: str) -> dict[str, Any]:
    """Return a sampler or a pruner as a mapping, also from the official sweeper's config classes."""
    if value is None:
        return {"_target_": usual}
    if not isinstance(value, Mapping) or not value.get("_target_"):
        raise UserError(f"hydra.sweeper: a sampler or a pruner is a mapping with a _target_; given {value!r}.")
    return {key: inner for key, inner in value.items() if key != "_partial_"}


def lasting(overrides: Sequence[str]) -> list[str]:
    """Return those of Hydra's own overrides that a study's report may repeat."""
    return [override for override in overrides if not re.match(ONCE, override)]


def as_list(value: Any) -> list[str] | None:
    """Return one or several strings as a list; None if none is given."""
    return None if value is None else [str(inner) for inner in (value if isinstance(value, list) else [value])]
