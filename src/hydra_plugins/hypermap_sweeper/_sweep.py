"""One sweep, from its command line to its results."""

import copy
import functools
import math
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf

from hypermap.build import locate
from hypermap.compose import resolve
from hypermap.errors import UserError
from hypermap.files import fingerprint, write_text
from hypermap.search.application import About, Application
from hypermap.search.numbered import cells
from hypermap.search.space import Parameter, Space
from hypermap.search.storage import absolute, lock_folder
from hypermap.search.strategy import make_pruner, make_sampler
from hypermap.search.study import Plan, best, connect, failure, finished, open_study, outcome, why_stop
from hypermap.search.watch import heading, summary, watching

from ._space import Menu, read_space
from ._trials import Composer, Worker, snapshot_path

AUTO, AUTO_PRUNER = "hypermap.search.auto.Auto", "hypermap.search.auto_pruner.AutoPruner"
GRID, RANDOM_GRID = "hypermap.search.numbered.Grid", "hypermap.search.numbered.RandomGrid"
RANDOM = "hypermap.search.numbered.Random"
# Optuna's own keep a record of what they drew, which several workers would write at once.
NUMBERED = {"optuna.samplers.GridSampler": GRID, "optuna.samplers.RandomSampler": RANDOM}
NO_PRUNER = "optuna.pruners.NopPruner"
USUAL_TRIALS = 20
MENU = ".conf"  # the snapshot, in the study's folder
REPORTS = Path("reports/studies")
WORKERS = {"hydra.sweep.subdir": ".", "hydra.output_subdir": "null"}  # a worker leaves nothing of its own


class Sweep:
    """The settings, the configuration and the task of one sweep."""

    def __init__(
        self, settings: Mapping[str, Any], config: DictConfig, context: HydraContext, task: TaskFunction
    ) -> None:
        self.settings = {key: _plain(value) for key, value in settings.items()}
        self.config = config
        self.context = context
        self.task = task
        self.suffix = ""
        self.application: Application = getattr(task, "application", None) or Application()

    def run(self, arguments: list[str]) -> None:
        """Search; or, where the sweep compares strategies, search once with each, and draw them side by side."""
        compared: dict[str, dict[str, Any]] = self.settings.pop("compare") or {}
        if not compared:
            self.search(arguments)
            return
        for name, changes in compared.items():
            if odd := set(changes or {}) - set(self.settings):
                raise UserError(
                    f"hydra.sweeper.compare.{name} sets {', '.join(odd)}; a sweep has: {', '.join(self.settings)}."
                )
        plans = {}
        for name, changes in compared.items():
            one = copy.copy(self)
            one.suffix = f"-{name}"
            one.settings = {**self.settings, **{key: _named(key, value) for key, value in (changes or {}).items()}}
            one.settings["params"] = {**(self.settings["params"] or {}), **((changes or {}).get("params") or {})}
            plans[name] = one.search(arguments)
        from hypermap.search.compare import compare

        print(compare(plans, REPORTS), flush=True)

    def search(self, arguments: list[str]) -> Plan:
        """Begin the study or take it up, launch the workers, and tell the results."""
        composer = self.composer(arguments)
        space, fixed = self.space(arguments, composer)
        composer.overrides = [*self.hydra_overrides, *fixed]
        composer.groups = frozenset(p.key for p in space.parameters if self.choices(p.key))
        composer.added = frozenset(p.key for p in space.parameters if p.added)
        baseline = self.baseline(space, composer)
        about = self.application.about(baseline, [p.key for p in space.parameters], _list(self.settings["objective"]))
        plan = self.plan(space, about, baseline)
        make_sampler(plan, 0), make_pruner(plan)  # what they refuse is told before anything is made
        jobs = self.jobs()

        record = {
            "identity": self.identity(plan, about),
            "sampler": plan.sampler,
            "pruner": plan.pruner,
            "seed": plan.seed,
            "objectives": list(plan.objectives),
            "folder": str(plan.folder),
            "command": arguments,
            "began": plan.began,  # so that whoever takes it up finds a record other than his own
        }
        resume = self.settings["resume"]
        if resume not in ("auto", "force"):
            raise UserError(f"hydra.sweeper.resume is {resume!r}; it is auto, or force.")
        record |= self.application.begin(plan.name, publish=bool(self.settings["dvc"]))
        study, kept = open_study(plan, record, force=resume == "force")
        composer.search_path = self.snapshot(plan, renew=kept == record)
        self.application.resume(plan.name, kept, plan.folder / MENU)
        print(heading(plan, study), flush=True)
        self.launch(plan, composer, fixed, jobs)
        self.finish(plan)
        return plan

    # What is searched

    def composer(self, arguments: Sequence[str]) -> Composer:
        """Composes from the configuration as it is; the baseline is read with it."""
        return Composer(self.context.config_loader.get_search_path(), self.config.hydra.job.config_name, [])

    @property
    def hydra_overrides(self) -> list[str]:
        return list(OmegaConf.to_container(self.config.hydra.overrides.hydra))  # type: ignore[arg-type]

    def choices(self, group: str) -> list[str]:
        """The choices of a group; none where it is no group."""
        return list(self.context.config_loader.get_group_options(group.partition("@")[0]))

    def space(self, arguments: list[str], composer: Composer) -> tuple[Space, list[str]]:
        """The space, and the overrides that every trial has."""
        fixed = [a for a in arguments if not _sweeps(a)]
        composer.overrides = [*self.hydra_overrides, *fixed]
        composer.added = frozenset(a.partition("=")[0].lstrip("+") for a in arguments if a.startswith("+"))

        @functools.cache
        def composed(*chosen: str) -> dict[str, Any]:
            composer.groups = frozenset(choice.partition("=")[0] for choice in chosen)
            config, choices = composer(dict(choice.split("=", 1) for choice in chosen))
            return resolve(config, choices)

        def has(group: str, choice: str, key: str) -> bool:
            value: Any = composed(f"{group}={choice}").get(group)
            for part in key.split("."):
                if isinstance(value, list) and part.isdigit():
                    part = int(part)
                    value = value[part] if part < len(value) else None
                    continue
                if not isinstance(value, Mapping) or part not in value:
                    return False
                value = value[part]
            return True

        chosen = {str(k): str(v) for k, v in self.config.hydra.runtime.choices.items()}
        file = OmegaConf.select(self.config, "space")
        params = self.settings["params"] or {}
        menu = Menu(self.choices, has, chosen)
        return read_space(arguments, params, _plain(file) if isinstance(file, DictConfig) else {}, menu)

    def baseline(self, space: Space, composer: Composer) -> dict[str, Any]:
        """The configuration at the lower end of the space; both ends of each parameter are checked."""
        lows = {p.key: _ends(p)[0] for p in space.parameters if p.condition is None}
        self.check(lows, space, composer)
        for parameter in space.parameters:
            values = dict(lows)
            if parameter.condition is not None:
                chooser = next(p for p in space.parameters if p.name == parameter.condition.group)
                values[chooser.key] = parameter.condition.choices[0]
            for end in _ends(parameter):
                self.check({**values, parameter.key: end}, space, composer)
        return resolve(*composer(lows))

    def check(self, values: Mapping[str, Any], space: Space, composer: Composer) -> None:
        """Refuse values that the application does; an interval of what it wants whole is a likely reason."""
        if (complaint := self.complaint(values, composer)) is None:
            return
        for parameter in space.parameters:
            value = values.get(parameter.key)
            if isinstance(value, float) and value.is_integer():
                whole = {**values, parameter.key: int(value)}
                if self.complaint(whole, composer) != complaint:
                    raise UserError(f"{complaint} Whole numbers are searched by int({parameter.expression}).")
        raise UserError(complaint)

    def complaint(self, values: Mapping[str, Any], composer: Composer) -> str | None:
        """What the application has against the configuration with these values."""
        configuration = resolve(*composer(values))
        try:
            self.application.check(configuration)
        except UserError as error:
            return str(error)
        return None

    # What is to be done

    def plan(self, space: Space, about: About, baseline: Mapping[str, Any]) -> Plan:
        """The plan that every worker has."""
        sampler, pruner, n_trials = self.strategy(space, about)
        seed = self.settings["seed"]
        own = sampler.pop("seed", None)  # as the official sweeper has it; each trial's follows from it
        seed = own if seed is None else seed
        directions = self.directions(about)
        name = (self.settings["study_name"] or self.name(space, about, directions)) + self.suffix
        folder = self.folder(name)
        plan = Plan(
            name=name,
            storage=absolute(self.settings["storage"] or str(folder / "journal.log")),
            folder=folder,
            space=space,
            directions=directions,
            objectives=about.objectives,
            sampler=sampler,
            pruner=pruner,
            n_trials=n_trials,
            seed=about.seed if seed is None else int(seed),
            began=time.time(),
            target=self.number("target", -math.inf),
            max_failure_rate=self.number("max_failure_rate", 0.0, 1.0) or 0.0,
            horizon=about.horizon,
        )
        timeout = self.number("timeout", 0.0)
        return plan if timeout is None else replace(plan, deadline=plan.began + timeout)

    def strategy(self, space: Space, about: About) -> tuple[dict[str, Any], dict[str, Any], int]:
        """The sampler, the pruner and the budget.

        Values listed one by one, and no number of trials, are the grid that a Hydra user expects.
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
        elif automatic and n_trials is None and space.parameters and _listed(space):
            sampler = {"_target_": GRID}
        on_grid = sampler["_target_"] in (GRID, RANDOM_GRID)
        if on_grid:
            if space.conditional:
                names = ", ".join(p.name for p in space.parameters if p.condition)
                raise UserError(
                    f"A grid has no place for parameters that only some choices have: {names}. Take another "
                    "sampler, such as hydra/sweeper/sampler=random, or sweep each choice by itself."
                )
            size = math.prod(len(values) for values in cells(space.distributions()).values())
            n_trials = min(n_trials or size, size)
        if pruner["_target_"] == AUTO_PRUNER and (on_grid or len(self.directions(about)) > 1):
            pruner = {"_target_": NO_PRUNER}
        return sampler, pruner, n_trials or USUAL_TRIALS

    def directions(self, about: About) -> tuple[str, ...]:
        """The direction of each objective: as given, else what is better of it."""
        given = _list(self.settings["direction"])
        if given is None:
            return about.directions
        allowed = ("minimize", "maximize")
        if odd := [direction for direction in given if direction not in allowed]:
            raise UserError(f"hydra.sweeper.direction is {odd[0]!r}; it is minimize or maximize, or a list of them.")
        if about.objectives and tuple(given) != about.directions:
            needs = ", ".join(f"{n} {d}" for n, d in zip(about.objectives, about.directions, strict=True))
            raise UserError(
                f"hydra.sweeper.direction is {', '.join(given)}; the objective needs: {needs}. Leave it out."
            )
        return tuple(given)

    def name(self, space: Space, about: About, directions: Sequence[str]) -> str:
        """A name that the same command has again: a sweep's own, or what is searched and a fingerprint of the rest."""
        shipped = self.config.hydra.runtime.choices.get("sweep")
        others = [o for o in self.config.hydra.overrides.task if not re.match(r"\+?sweep=", o)]
        if shipped and not others:
            return str(shipped)
        keys = "-".join(dict.fromkeys(p.key.split(".")[:2][-1] for p in space.parameters))
        parts = [space.record(), about.identity.get("configuration"), list(about.objectives), list(directions)]
        return f"{shipped or keys[:40] or 'repeat'}-{fingerprint(parts)[:6]}"

    def folder(self, name: str) -> Path:
        """Where trials, and by default the study, are kept."""
        config = OmegaConf.masked_copy(self.config, ["hydra"])
        config = copy.deepcopy(config)
        OmegaConf.set_readonly(config.hydra.sweeper, False)
        OmegaConf.update(config, "hydra.sweeper.study_name", name, force_add=True)
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return Path(str(config.hydra.sweep.dir)).absolute()

    def identity(self, plan: Plan, about: About) -> dict[str, Any]:
        """What must still hold when the study is taken up again."""
        return {
            "direction": list(plan.directions),
            "objective": list(plan.objectives),
            "space": plan.space.record(),
            "seed": plan.seed,
            **about.identity,
        }

    def number(self, key: str, least: float, most: float = math.inf) -> float | None:
        """A setting that is a number, or null."""
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
        """How many workers there are."""
        jobs = self.settings["n_jobs"]
        if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
            raise UserError(f"hydra.sweeper.n_jobs is {jobs!r}; it must be a whole number of at least 1.")
        return jobs

    # Doing it

    def snapshot(self, plan: Plan, *, renew: bool) -> Any:
        """The search path with the configuration's folder as it was when the study began."""
        folder = plan.folder / MENU
        if renew and folder.exists():
            import shutil

            shutil.rmtree(folder)
        plan.folder.mkdir(parents=True, exist_ok=True)
        return snapshot_path(self.context.config_loader.get_search_path(), folder)

    def launch(self, plan: Plan, composer: Composer, fixed: Sequence[str], jobs: int) -> None:
        """Give Hydra's launcher as many workers as there are jobs, and wait for them."""
        stop_file = lock_folder(plan.storage, plan.name) / f"stop-{time.time_ns()}"
        worker = Worker(
            plan=plan,
            composer=composer,
            task=self.task,
            custom=self.custom(),
            fixed=dict(_key_value(override) for override in fixed),
            before_tell=self.application.before_tell,
            output_subdir=self.config.hydra.output_subdir,
            stop_file=stop_file,
        )
        config = self.workers_config(plan, jobs)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=worker, config=config
        )
        with _forwarding(stop_file), watching(plan):
            returns = launcher.launch([list(fixed)] * jobs, initial_job_idx=0)
        for job in returns:
            job.return_value  # raises what a worker did not foresee  # noqa: B018

    def workers_config(self, plan: Plan, jobs: int) -> DictConfig:
        """The configuration with which workers are launched: several go to joblib unless a launcher was chosen."""
        extra = [f"{key}={value}" for key, value in WORKERS.items()]
        quoted = str(plan.folder).replace("\\", "\\\\").replace("'", "\\'")
        extra.append(f"hydra.sweep.dir='{quoted}'")
        if jobs > 1 and not any(o.startswith("hydra/launcher=") for o in self.hydra_overrides):
            extra += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
        task = list(OmegaConf.to_container(self.config.hydra.overrides.task))  # type: ignore[arg-type]
        config = self.context.config_loader.load_configuration(
            self.config.hydra.job.config_name, [*self.hydra_overrides, *extra, *task], RunMode.MULTIRUN
        )
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return config

    def custom(self) -> Any:
        """The custom search space: a function of the configuration and Optuna's trial, by its dotted path."""
        path = self.settings["custom_search_space"]
        return None if path is None else locate(path)

    def finish(self, plan: Plan) -> None:
        """Write the results, tell them, and raise what ended the sweep if that was an error."""
        study = connect(plan)
        trials = study.get_trials(deepcopy=False)
        ended = finished(trials, plan.n_trials)
        results: dict[str, Any] = {"name": "optuna"}
        if len(plan.directions) == 1:
            if (top := best(ended, maximizes=plan.maximizes)) is not None:
                results |= {"best_params": plan.space.values_of(top.params), "best_value": top.value}
        else:
            front = [trial for trial in study.best_trials if outcome(trial) == "complete"]
            results["solutions"] = [
                {"params": plan.space.values_of(trial.params), "values": list(trial.values)} for trial in front
            ]
        write_text(plan.folder / "optimization_results.yaml", yaml.safe_dump(results, sort_keys=False))
        if (error := failure(plan, trials)) is not None:
            raise UserError(f"{error}\n       Its traceback: {plan.folder}/NUMBER/error.txt")
        reason = None if len(ended) >= plan.n_trials else why_stop(plan, trials, time.time()) or "it was asked to"
        print(summary(plan, trials, reason), flush=True)


@contextmanager
def _forwarding(stop_file: Path) -> Iterator[None]:
    """Turn the first Ctrl-C, or a scheduler's request, into the file that workers look for."""

    def ask(number: int, frame: Any) -> None:
        if stop_file.exists():
            raise KeyboardInterrupt
        stop_file.touch()
        print("\nStopping after the epochs that run; Ctrl-C again stops at once. The same command goes on.", flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop_file.unlink(missing_ok=True)


def _listed(space: Space) -> bool:
    return all(parameter.listed for parameter in space.parameters)


def _ends(parameter: Parameter) -> list[Any]:
    distribution: Any = parameter.distribution
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def _choice(value: Any, usual: str) -> dict[str, Any]:
    """A sampler or a pruner as a mapping; the official sweeper's are partly Hydra's business."""
    if value is None:
        return {"_target_": usual}
    if not isinstance(value, Mapping) or not value.get("_target_"):
        raise UserError(f"hydra.sweeper: a sampler or a pruner is a mapping with a _target_; given {value!r}.")
    return {key: inner for key, inner in value.items() if key != "_partial_"}


def _named(kind: str, value: Any) -> Any:
    """A sampler or a pruner by the name of its choice, as ``hydra/sweeper/sampler=NAME`` has it."""
    if kind not in ("sampler", "pruner") or not isinstance(value, str):
        return value
    store = ConfigStore.instance()
    if f"{value}.yaml" not in (known := store.list(f"hydra/sweeper/{kind}")):
        names = ", ".join(sorted(name.removesuffix(".yaml") for name in known))
        raise UserError(f"hydra.sweeper.compare: no {kind} {value!r}. There are: {names}.")
    return _plain(store.load(f"hydra/sweeper/{kind}/{value}.yaml").node)


def _plain(value: Any) -> Any:
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return value.name if isinstance(value, Enum) else value


def _list(value: Any) -> list[str] | None:
    if value is None:
        return None
    return [str(v.name if isinstance(v, Enum) else v) for v in (value if isinstance(value, list) else [value])]


def _sweeps(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return bool(OverridesParser.create().parse_override(argument).is_sweep_override())


def _key_value(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value
