"""``hydra/sweeper=hypermap`` and its options for the sampler and the pruner.

All settings of the official sweeper are here, with other defaults where the official ones hold Optuna back.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_optuna_sweeper import config as official
from omegaconf import MISSING

SAMPLERS: dict[str, dict[str, Any]] = {
    "auto": {"_target_": "hypermap.search.auto.Auto"},
    "random_grid": {"_target_": "hypermap.search.counter_samplers.RandomGrid", "seed": None},
    "quasi_random": {"_target_": "hypermap.search.counter_samplers.QuasiRandom", "seed": None},
    "gradient": {"_target_": "hypermap.search.gradient.Gradient"},
}
PRUNERS: dict[str, dict[str, Any]] = {
    "auto": {"_target_": "hypermap.search.auto_pruner.AutoPruner"},
    "none": {"_target_": "optuna.pruners.NopPruner"},
    "median": {
        "_target_": "optuna.pruners.MedianPruner",
        "n_startup_trials": 5,
        "n_warmup_steps": 0,
        "interval_steps": 1,
    },
    "percentile": {
        "_target_": "optuna.pruners.PercentilePruner",
        "percentile": 25.0,  # the percentage of trials that may continue
        "n_startup_trials": 5,
        "n_warmup_steps": 0,
        "interval_steps": 1,
    },
    "successive_halving": {
        "_target_": "optuna.pruners.SuccessiveHalvingPruner",
        "min_resource": 1,
        "reduction_factor": 4,
        "min_early_stopping_rate": 0,
    },
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 1,
        "max_resource": None,  # the number of reports of a full trial
        "reduction_factor": 3,
    },
    "patient": {
        "_target_": "optuna.pruners.PatientPruner",
        "wrapped_pruner": {"_target_": "optuna.pruners.MedianPruner"},
        "patience": 3,
        "min_delta": 0.0,
    },
    "threshold": {"_target_": "optuna.pruners.ThresholdPruner", "lower": None, "upper": None, "n_warmup_steps": 0},
    "wilcoxon": {"_target_": "optuna.pruners.WilcoxonPruner", "p_threshold": 0.1, "n_startup_steps": 2},
}


@dataclass
class TPESamplerConfig(official.TPESamplerConfig):
    """Optuna's own defaults; the official sweeper turns two of them off."""

    multivariate: Any = None
    group: Any = True  # conditional spaces: parameters that appear together are sampled together
    constant_liar: Any = True


@dataclass
class QMCSamplerConfig(official.QMCSamplerConfig):
    """Scrambled: the plain sequence has its first point at the lower bounds."""

    scramble: bool = True


@dataclass
class HypermapSweeperConf(official.OptunaSweeperConf):
    """The official sweeper's settings and, below, those that it lacks."""

    _target_: str = "hydra_plugins.hypermap_sweeper.sweeper.HypermapSweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "auto"}, {"pruner": "auto"}])
    sampler: Any = MISSING
    direction: Any = None  # minimize, maximize or a list; null: follows from the objective
    # null: each cell of a grid once; with a budget as many as it pays for; else 20
    n_trials: int | None = None  # type: ignore[assignment]
    budget: float | None = None  # full trainings, however they are spent: paused trials count with their actual cost
    prior: Any = None  # one or several earlier studies, by name or a report's trials.csv, whose best trials come first
    n_jobs: int = 1  # workers
    workers_per_gpu: int = 1  # that may share a GPU of this machine; else each has its own
    stack: Any = 1  # trials that a worker runs at once, if the application can; auto: as many as pay off
    max_failure_rate: float = 1.0  # share of the finished trials; three identical errors in a row always stop a sweep
    pruner: Any = MISSING
    objective: Any = None  # one or several of the validation metrics, parameters, latency_ms; null: trainer.monitor
    timeout: float | None = None  # seconds after which no new trial starts
    trial_timeout: float | None = None  # total seconds of training after which a trial is ended, even if it hangs
    target: float | None = None  # objective value at which the search ends
    seed: int | None = None  # of the search; null: the configuration's seed
    lease: float = 60.0  # seconds without a sign of life after which a worker elsewhere counts as gone (a database)
    artifacts: str | None = None  # a folder or URL (s3://…) for the states of trials, if the machines share no folder
    detach: bool = False  # run the search in the background, and return at once (python src/study.py watch STUDY)
    resume: str = "auto"  # force: continue a study that was started with different settings
    compare: Any = None  # name: {setting: value, …}; one study for each, and a comparison
    seeds: int = 1  # in a comparison: how many times each strategy is run, each with another seed
    goal: str | None = None  # what the study is for, in words, for its report
    scientific: Any = None  # the parameters that it should answer a question about; the others are tuned for fairness
    confirm: Any = None  # true, or {best: 3, seeds: 5}: at the end, retrain the best and the baseline with other seeds
    report: bool = True  # at the end, write reports/studies/NAME/
    dvc: bool = True  # each completed trial becomes a DVC experiment


def store(group: str, name: str, node: Any) -> None:
    """Register an option with Hydra."""
    ConfigStore.instance().store(group=group, name=name, node=node, provider="hypermap_sweeper", replace=True)


store("hydra/sweeper", "hypermap", HypermapSweeperConf)
for choices, kind in ((SAMPLERS, "sampler"), (PRUNERS, "pruner")):
    for choice, settings in choices.items():
        store(f"hydra/sweeper/{kind}", choice, settings)
store("hydra/sweeper/sampler", "tpe", TPESamplerConfig)
store("hydra/sweeper/sampler", "qmc", QMCSamplerConfig)
