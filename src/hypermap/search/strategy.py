"""Creates Optuna's sampler and pruner from their options, anew for each trial."""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from hypermap.core.errors import UserError
from hypermap.core.instantiate import LABELS, instantiate, locate
from hypermap.search.auto import Auto
from hypermap.search.auto_pruner import AutoPruner
from hypermap.search.counter_samplers import Numbered, cells
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.schedule import Scheduler, ToTheEnd
from hypermap.search.study import StudyConfig, trial_seed

AUTO, AUTO_PRUNER = "hypermap.search.auto.Auto", "hypermap.search.auto_pruner.AutoPruner"

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def make_sampler(plan: StudyConfig, number: int) -> BaseSampler:
    """Return the sampler that draws trial `number`.

    It is created anew for each trial, with a seed derived from the study's seed and the number: so an interrupted
    search continues as it would have, and no two workers draw the same.

    Raises:
        UserError: the sampler rejects its settings, or the space.
    """
    option = _given(plan.sampler)
    target = locate(option["_target_"])
    taken = inspect.signature(target).parameters
    by_study = "study_seed" in taken or (inspect.isclass(target) and issubclass(target, Numbered | _SEQUENCES))
    runtime: dict[str, Any] = {
        "seed": plan.seed if by_study and "study_seed" not in taken else trial_seed(plan.seed, "sampler", number),
        "study_seed": plan.seed,
        "names": plan.space.names,
        "distributions": plan.space.distributions(),
        "mappings": plan.space.mappings,
        "conditions": {p.name: p.conditions for p in plan.space.parameters if p.conditions},
        "baseline": plan.baseline,
        "prior": plan.prior,
        "curves": plan.curves(),
    }
    if plan.n_trials is not None:
        runtime["n_trials"] = plan.n_trials
    if "space" in taken:
        runtime["space"] = cells(plan.space.distributions())
    sampler: BaseSampler = instantiate(option, **{k: v for k, v in runtime.items() if k in taken and k not in option})
    return ScaledSampler(sampler, plan.space.mappings) if plan.space.mappings else sampler


@dataclass
class Samplers:
    """The sampler of each trial: one object for all, if it draws by the trial's number."""

    plan: StudyConfig
    shared: BaseSampler | None = None

    def __call__(self, number: int) -> BaseSampler:
        """Return the sampler that draws trial `number`."""
        if self.shared is not None:
            return self.shared
        sampler = make_sampler(self.plan, number)
        if locate(self.plan.sampler["_target_"]) is Auto:
            self.shared = sampler
        return sampler


def make_pruner(plan: StudyConfig) -> BasePruner:
    """Return the pruner of every trial.

    Raises:
        UserError: the pruner rejects its settings, or the study has several objectives.
    """
    option = _given(plan.pruner)
    target = locate(option["_target_"])
    if len(plan.directions) > 1 and target is not optuna.pruners.NopPruner:
        raise UserError(
            "hydra/sweeper/pruner: a trial with several objectives has no value to be pruned by; "
            "take hydra/sweeper/pruner=none."
        )
    taken = inspect.signature(target).parameters
    runtime: dict[str, Any] = {
        "max_resource": plan.horizon,
        "n_trials": plan.n_trials,
        "baseline": plan.baseline is not None,
        "pauses": plan.pauses,
        "curves": plan.curves(),
    }
    if isinstance(inner := option.get("wrapped_pruner"), Mapping):
        option["wrapped_pruner"] = instantiate(_given(inner))
    known = {k: v for k, v in runtime.items() if k in taken and k not in option and v is not None}
    pruner: BasePruner = instantiate(option, **known)
    return pruner


def make_scheduler(plan: StudyConfig, pruner: BasePruner) -> Scheduler:
    """Return the scheduler: the pruner itself, if it pauses trials and the application can pause."""
    return pruner if isinstance(pruner, AutoPruner) else ToTheEnd()


def learns(sampler: Mapping[str, Any]) -> bool:
    """Return whether a sampler's draws depend on the results of earlier trials; assumed for unknown samplers."""
    target = locate(sampler["_target_"])
    return not (inspect.isclass(target) and issubclass(target, Numbered | _BLIND))


_BLIND = (
    optuna.samplers.RandomSampler
    | optuna.samplers.GridSampler
    | optuna.samplers.BruteForceSampler
    | optuna.samplers.QMCSampler
)
_SEQUENCES = optuna.samplers.QMCSampler


def _given(option: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an option; null leaves a value to Optuna."""
    return {key: value for key, value in option.items() if key in LABELS or value is not None}
