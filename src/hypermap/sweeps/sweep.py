"""One sweep, from its command line to its results."""

import functools
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hypermap.config.compose import resolve
from hypermap.core.errors import MachineFault, UserError, near
from hypermap.core.files import write_text
from hypermap.core.gpus import check_workers
from hypermap.core.instantiate import locate
from hypermap.core.passwords import shown
from hypermap.search.application import SweepTarget
from hypermap.search.artifacts import Artifacts
from hypermap.search.attempts import forget_all
from hypermap.search.database import PATIENCE_S
from hypermap.search.lease import request_stop, stop_requests
from hypermap.search.place import check_place, remember
from hypermap.search.progress import heading, near_to, summary, watching
from hypermap.search.schedule import Size, ToTheEnd
from hypermap.search.space import Parameter, Space
from hypermap.search.storage import file_of, is_served, lock_folder
from hypermap.search.strategy import Samplers, make_pruner, make_sampler
from hypermap.search.study import (
    BUDGET,
    PURPOSE,
    SNAPSHOT,
    TRAININGS,
    StudyConfig,
    TrialQueue,
    best,
    connect,
    failure,
    finished,
    measurements,
    open_study,
    outcome,
    reached,
    used_up,
    why_stop,
)
from hypermap.search.transport import fetch_conf, has_conf, send_conf
from hypermap.search.worker import NOTICES
from hypermap.sweeps.compare import search_each
from hypermap.sweeps.confirm import Source, check_seed, confirm, wanted
from hypermap.sweeps.launchers import LostWorker, connected, is_local, is_supervised, launch
from hypermap.sweeps.plan import Planner, as_list, lasting
from hypermap.sweeps.recorded_sweep import check_conf, renew_hydra
from hypermap.sweeps.space import ConfigGroups, read_space
from hypermap.sweeps.start import Start, earlier
from hypermap.sweeps.trials import SAFE_PATH, Composer, Worker, main_folder, set_variable, snapshot_path
from hypermap.sweeps.workplace import versions

STOP_POLL_S = 0.3
LOG = "log.txt"  # in a study's folder: the output of a search in the background
DETACH, NOT_DETACHED = r"[+~]*hydra\.sweeper\.detach\b", "hydra.sweeper.detach=false"
# A worker writes no files of its own, and keeps the working directory of the command.
WORKERS = {"hydra.sweep.subdir": ".", "hydra.output_subdir": "null", "hydra.job.chdir": "false"}


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
        self.repeat = 0
        self.stopped = False  # whether a user or a scheduler asked to stop
        self.status = 0  # the exit status: not 0 if the search ended early
        self.application: SweepTarget = getattr(task, "application", None) or SweepTarget()

    def run(self, arguments: list[str]) -> None:
        """Search or, if the sweep compares strategies, search with each.

        Raises:
            UserError: the settings contradict each other, or as for `search`.
        """
        compared = self.settings.pop("compare") or {}
        if self.settings["detach"] and compared:
            raise UserError("hydra.sweeper.detach starts one search; leave it out with hydra.sweeper.compare.")
        seeds = self.settings.pop("seeds")
        if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
            raise UserError(f"hydra.sweeper.seeds is {seeds!r}; it must be a whole number of at least 1.")
        if not compared:
            if seeds > 1:
                raise UserError(f"hydra.sweeper.seeds is {seeds}; without hydra.sweeper.compare there is one search.")
            self.search(arguments)
            return
        search_each(self, compared, seeds, arguments)

    def search(self, arguments: list[str]) -> StudyConfig:
        """Create or resume the study, launch the workers, and print the results.

        Raises:
            UserError: the space, the settings or the study are invalid; or the error that ended the search.
        """
        composer = Composer(self.context.config_loader.get_search_path(), self.config.hydra.job.config_name, [])
        space, fixed = self.space(arguments, composer)
        composer.overrides = [*self.hydra_overrides, *fixed]
        composer.groups = frozenset(p.key for p in space.parameters if self.choices(p.key))
        composer.added = frozenset(p.key for p in space.parameters if p.added)
        baseline = self.baseline(space, composer)
        study_spec = self.application.study_spec(
            baseline, [p.key for p in space.parameters], as_list(self.settings["objective"])
        )
        if (to_confirm := wanted(self.settings["confirm"])) is not None:
            check_seed(baseline)
        planner = Planner(self.settings, self.config, self.suffix)
        plan, jobs = planner.plan(space, study_spec), planner.jobs()
        start = self.start(space, composer, baseline)
        plan = replace(
            plan,
            seed=plan.seed + self.repeat,
            stack=planner.stack(plan, self.application, baseline),
            pauses=self.application.pauses,
            baseline=start.params or None,
            prior=tuple(earlier(source, space, plan.name) for source in as_list(self.settings["prior"]) or []),
        )
        if plan.artifacts is not None:
            Artifacts(plan.artifacts, plan.name).check()
        make_sampler(plan, 0), make_pruner(plan)  # their errors are reported before anything is created

        resume = self.settings["resume"]
        if resume not in ("auto", "force"):
            raise UserError(f"hydra.sweeper.resume is {resume!r}; it is auto, or force.")
        purpose = self.purpose(space)
        record = self.record(plan, planner.identity(plan, study_spec), arguments, fixed) | {"baseline": start.record()}
        if self.application.listed:
            check_place(plan)
        study, kept = open_study(plan, record, force=resume == "force")
        if self.application.listed:
            remember(plan)
        if any(purpose.values()) and purpose != study.user_attrs.get(PURPOSE):
            study.set_user_attr(PURPOSE, purpose)
        if plan.target is None:  # with a target it may need less
            for name, amount in ((BUDGET, plan.n_trials), (TRAININGS, plan.budget)):
                if study.user_attrs.get(name) != amount:
                    study.set_user_attr(name, amount)
        composer.search_path = self.snapshot(plan, study, renew=kept == record)
        self.application.resume(plan.name, kept, plan.folder / SNAPSHOT)
        print(heading(plan, study), flush=True)
        if self.settings["detach"]:
            self.detach(plan)
            return plan
        sizes = partial(self.application.size, baseline=start.configuration) if study_spec.sizes_differ else None
        self.launch(plan, study, composer, fixed, jobs, baseline, sizes)
        self.application.collect(study, plan.folder)
        try:
            if self.finish(plan) and to_confirm is not None:
                confirm(self, to_confirm, Source(study, plan.storage, plan.folder, composer, fixed))
        except UserError:
            self.report(study, plan.storage)  # it shows what failed, and where
            raise
        self.report(study, plan.storage)
        return plan

    def detach(self, plan: StudyConfig) -> None:
        """Give this command once more, in the background: without a terminal, and with its output in a file."""
        log = plan.folder / LOG
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *(word for word in sys.orig_argv[1:] if not re.match(DETACH, word)), NOT_DETACHED],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        lines = [f"It searches in the background: process {process.pid} on {platform.node()}, output in {near_to(log)}"]
        if self.application.listed:
            lines += [f"  python src/study.py {verb} {plan.name}" for verb in ("watch", "stop", "resume")]
        print("\n".join(lines), flush=True)

    def record(
        self, plan: StudyConfig, identity: Mapping[str, Any], arguments: Sequence[str], fixed: Sequence[str]
    ) -> dict[str, Any]:
        """Return the record of a new study: what must match on resuming, and how to reproduce it."""
        return {
            "identity": identity,
            "sampler": plan.sampler,
            "pruner": plan.pruner,
            "seed": plan.seed,
            "objectives": list(plan.objectives),
            "horizon": plan.horizon,
            "folder": str(plan.folder),
            "program": os.path.relpath(sys.argv[0]),
            "command": [shown(word) for word in arguments],
            "fixed": [shown(word) for word in fixed],
            "hydra": [shown(word) for word in lasting(self.hydra_overrides)],
            "versions": versions(),
            "began": plan.began,  # so that a resuming command finds a record that differs from its own
            **self.application.begin(plan.name, publish=bool(self.settings["dvc"])),
        }

    def report(self, study: optuna.Study, storage: str) -> None:
        """Have the application report on a study, unless disabled."""
        if self.settings["report"] and (message := self.application.report(study, storage)):
            print(message, flush=True)

    # The space

    @property
    def hydra_overrides(self) -> list[str]:
        """Return the command line's overrides of Hydra itself."""
        return list(OmegaConf.to_container(self.config.hydra.overrides.hydra))  # type: ignore[arg-type]

    def choices(self, group: str) -> list[str]:
        """Return the options of a group; empty if it is not a group."""
        return list(self.context.config_loader.get_group_options(group.partition("@")[0]))

    def space(self, arguments: list[str], composer: Composer) -> tuple[Space, list[str]]:
        """Return the space, and the overrides of every trial."""
        fixed = [a for a in arguments if not _sweeps(a)]
        composer.overrides = [*self.hydra_overrides, *fixed]
        composer.added = frozenset(a.partition("=")[0].lstrip("+") for a in arguments if a.startswith("+"))

        @functools.cache
        def composed(*chosen: str) -> dict[str, Any]:
            composer.groups = frozenset(option.partition("=")[0] for option in chosen)
            config, choices = composer(dict(option.split("=", 1) for option in chosen))
            return resolve(config, choices)

        def has(group: str, option: str, key: str) -> bool:
            value: Any = composed(f"{group}={option}").get(group)
            for part in key.split("."):
                if isinstance(value, list) and part.isdigit():
                    value = value[int(part)] if int(part) < len(value) else None
                    continue
                if not isinstance(value, Mapping) or part not in value:
                    return False
                value = value[part]
            return True

        chosen = {str(k): str(v) for k, v in self.config.hydra.runtime.choices.items()}
        file = OmegaConf.select(self.config, "space")
        params = self.settings["params"] or {}
        groups = ConfigGroups(self.choices, has, chosen, self.application.ignored_groups, self.context.config_loader)
        return read_space(arguments, params, _plain(file) if isinstance(file, DictConfig) else {}, groups)

    def purpose(self, space: Space) -> dict[str, Any]:
        """Return the goal of the study, as given by the user, and its scientific parameters."""
        goal, scientific = self.settings["goal"], as_list(self.settings["scientific"]) or []
        for name in scientific:
            if name not in space.names:
                raise UserError(
                    f"hydra.sweeper.scientific names {name!r}{near(name, space.names)}, which is not searched. "
                    f"There are: {', '.join(space.names) or 'none'}."
                )
        return {"goal": None if goal is None else str(goal), "scientific": scientific}

    def baseline(self, space: Space, composer: Composer) -> dict[str, Any]:
        """Return the configuration at the lower bounds of the space; both bounds of each parameter are checked."""
        lows = {p.key: _ends(p)[0] for p in space.parameters if not p.conditions}
        self.check(lows, space, composer)
        for parameter in space.parameters:
            values = dict(lows)
            for condition in parameter.conditions:
                chooser = next(p for p in space.parameters if p.name == condition.group)
                values[chooser.key] = condition.choices[0]
            for end in _ends(parameter):
                self.check({**values, parameter.key: end}, space, composer)
        return resolve(*composer(lows))

    def start(self, space: Space, composer: Composer, usual: dict[str, Any]) -> Start:
        """Return the start of the search: the configuration without any searched values.

        `usual` replaces it if it is incomplete without searched values.
        """
        try:
            config, choices = composer({})
            return Start.of(space, resolve(config, choices), choices, composer.parsed_value)
        except (UserError, OmegaConfBaseException):  # a searched value is missing, such as ???
            return Start(usual)

    def check(self, values: Mapping[str, Any], space: Space, composer: Composer) -> None:
        """Refuse values that the application refuses; a likely reason is a real interval for an integer."""
        if (complaint := self.complaint(values, composer)) is None:
            return
        for parameter in space.parameters:
            value = values.get(parameter.key)
            if isinstance(value, float) and value.is_integer():
                whole = {**values, parameter.key: int(value)}
                if self.complaint(whole, composer) != complaint:
                    raise UserError(f"{complaint} Whole numbers are searched by int({parameter.expression}).")
        chosen = " ".join(
            f"{p.key}={values[p.key]}" for p in space.parameters if p.key in values and self.choices(p.key)
        )
        raise UserError(f"{chosen}: {complaint}" if chosen else complaint)

    def complaint(self, values: Mapping[str, Any], composer: Composer) -> str | None:
        """Return the application's complaint about the configuration with these values, if any."""
        configuration = resolve(*composer(values))
        try:
            self.application.check(configuration)
        except UserError as error:
            return str(error)
        return None

    # Running it

    def snapshot(self, plan: StudyConfig, study: optuna.Study, *, renew: bool) -> Any:
        """Return the search path with the copy of the configuration's folder from the start of the study."""
        folder, served = plan.folder / SNAPSHOT, is_served(study._storage)
        if renew and folder.exists():
            shutil.rmtree(folder)
        if served and not renew:
            fetch_conf(study, folder)
        if folder.exists():
            renew_hydra(folder, main_folder(self.context.config_loader.get_search_path()) or folder)
            check_conf(folder, f"To go on from your own conf/: rm -r {shlex.quote(str(folder))}")
        plan.folder.mkdir(parents=True, exist_ok=True)
        path = snapshot_path(self.context.config_loader.get_search_path(), folder)
        if served and (renew or not has_conf(study)):
            send_conf(study, folder)
        return path

    def launch(
        self,
        plan: StudyConfig,
        study: optuna.Study,
        composer: Composer,
        fixed: Sequence[str],
        jobs: int,
        configuration: Mapping[str, Any],
        sizes: Callable[[Mapping[str, Any]], Size] | None = None,
    ) -> None:
        """Launch one worker per job with Hydra's launcher, and wait for them; `configuration` is a typical one.

        Raises:
            UserError: there are more workers than GPUs for them; or the error that ended the search.
        """
        stop_file = lock_folder(plan.storage, plan.name) / f"stop-{time.time_ns()}"
        worker = Worker(
            plan=plan,
            composer=composer,
            task=self.task,
            custom=self.custom(),
            fixed=dict(_key_value(override) for override in fixed),
            application=self.application,
            sizes=sizes,
            output_subdir=self.config.hydra.output_subdir,
            chdir=bool(self.config.hydra.job.chdir),
            stop_file=stop_file,
            code=self.application.code(),
            safe_path=os.environ.get(SAFE_PATH),
        )
        config = self.workers_config(plan, jobs)
        worker.supervised = is_supervised(config)
        if is_local(config):
            worker.gpus = self.application.gpus(configuration)
            worker.workers_per_gpu = Planner(self.settings, self.config).workers_per_gpu()
            check_workers(jobs, worker.gpus, worker.workers_per_gpu)
        returns: Sequence[Any] = ()
        before = stop_requests(study, plan.storage)
        with (
            _safe_path(),
            connected(config),
            _forwarding(stop_file) as signals,
            _telling(plan, stop_file),
            watching(plan),
        ):
            try:
                returns = launch(self.context, worker, config, [list(fixed)] * jobs, stop_file)
            except Exception as error:
                if "BrokenExecutor" not in {kind.__name__ for kind in type(error).__mro__}:  # joblib's and Python's own
                    raise
                if not stop_file.exists():  # otherwise a worker was interrupted before its signal handler was set
                    raise UserError(
                        "A worker was killed, perhaps because memory ran out (fewer: hydra.sweeper.n_jobs=1), and the "
                        "others with it. Run the same command to resume."
                    ) from error
            self.stopped = stop_file.exists() or stop_requests(study, plan.storage) != before
        if self.stopped:
            self.status = 128 + signals[0] if signals else 1  # as in a shell, for a process that a signal ended
        if any(job.status == JobStatus.FAILED for job in returns):
            connect(plan, patience_s=PATIENCE_S)  # raises if the study is gone
        for job in returns:
            if isinstance(job._return_value, LostWorker) and used_up(plan, study.get_trials(deepcopy=False)):
                print(job._return_value, flush=True)
                continue
            job.return_value  # raises an unexpected error of a worker  # noqa: B018

    def workers_config(self, plan: StudyConfig, jobs: int) -> DictConfig:
        """Return the workers' launch configuration: several run through joblib unless a launcher was selected.

        `basic` is what Hydra has without a selection; if it is to run several one after the other, the command says so.
        """
        extra = [f"{key}={value}" for key, value in WORKERS.items()]
        # Relative, since Hydra makes this folder on a machine that may have the project in another place.
        folder = plan.folder.relative_to(here) if plan.folder.is_relative_to(here := Path.cwd()) else plan.folder
        quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
        extra.append(f"hydra.sweep.dir='{quoted}'")
        processes = max(jobs, 2 if plan.trial_timeout is not None else 1)  # joblib runs a single worker in this process
        named = any(override.startswith("hydra/launcher=") for override in self.hydra_overrides)
        if processes > 1 and not named and self.config.hydra.runtime.choices["hydra/launcher"] == "basic":
            extra += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={processes}"]
        task = list(OmegaConf.to_container(self.config.hydra.overrides.task))  # type: ignore[arg-type]
        config = self.context.config_loader.load_configuration(
            self.config.hydra.job.config_name, [*self.hydra_overrides, *extra, *task], RunMode.MULTIRUN
        )
        OmegaConf.copy_cache(from_config=self.config, to_config=config)
        return config

    def custom(self) -> Any:
        """Return the custom search space: a function of the configuration and Optuna's trial, by dotted path."""
        path = self.settings["custom_search_space"]
        return None if path is None else locate(path)

    def finish(self, plan: StudyConfig) -> bool:
        """Write and print the results; return whether the search reached its budget or its target.

        Raises:
            UserError: the error that ended it.
        """
        study = connect(plan, patience_s=PATIENCE_S)
        if not self.stopped:
            TrialQueue(plan, study, Samplers(plan), ToTheEnd()).settle()
        trials = study.get_trials(deepcopy=False)
        ended = finished(trials, plan.n_trials)
        results: dict[str, Any] = {"name": "optuna"}
        if len(plan.directions) == 1:
            if (top := best(ended, maximizes=plan.maximizes)) is not None:
                value = fmean(trial.values[0] for trial in measurements(ended)[top.number])
                results |= {"best_params": plan.space.values_of(top.params), "best_value": value}
        else:
            front = [trial for trial in study.best_trials if outcome(trial) == "complete"]
            results["solutions"] = [
                {"params": plan.space.values_of(trial.params), "values": list(trial.values)} for trial in front
            ]
        write_text(plan.folder / "optimization_results.yaml", yaml.safe_dump(results, sort_keys=False))
        if (error := failure(plan, trials)) is not None:
            raise UserError(f"{error}\n       Its traceback: {plan.folder}/NUMBER/error.txt")
        if used_up(plan, trials):
            reason, self.status = None, 0
        elif (reason := why_stop(plan, trials, time.time())) is not None:
            self.status = 0
        elif self.stopped:
            reason = "it was asked to"
        elif TrialQueue(plan, study, Samplers(plan), ToTheEnd()).deserted():
            reason, self.status = "its worker was stopped", 1
        else:
            reason = "the rest is another command's"
        print(summary(plan, trials, reason), flush=True)
        return reason is None or reached(plan, trials) is not None


@contextmanager
def _forwarding(stop_file: Path) -> Iterator[list[int]]:
    """Turn the first Ctrl-C, SIGTERM or notice of it into the file that workers look for; yield the signal numbers."""
    signals: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if stop_file.exists():
            if number in NOTICES:
                return
            raise KeyboardInterrupt
        forget_all(stop_file.parent)
        signals.append(number)
        stop_file.touch()
        print(
            "\nStopping after the running epochs; Ctrl-C again stops now. Run the same command to resume.", flush=True
        )

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, *NOTICES)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop_file.unlink(missing_ok=True)


@contextmanager
def _telling(plan: StudyConfig, stop_file: Path) -> Iterator[None]:
    """Pass a request to stop on to the workers that do not see the file: through the study, if that is on a server."""
    if file_of(plan.storage) is not None:
        yield
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(STOP_POLL_S):
            if stop_file.exists():
                with suppress(UserError, MachineFault):  # which the workers meet as well
                    request_stop(connect(plan, patience_s=PATIENCE_S), plan.storage, plan.command)
                return

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start workers (``python -m …``) without the working directory on their path.

    A user's `random.py` or `test.py` there would shadow Python's.
    """
    before = os.environ.get(SAFE_PATH)
    set_variable(SAFE_PATH, "1")
    try:
        yield
    finally:
        set_variable(SAFE_PATH, before)


def _ends(parameter: Parameter) -> list[Any]:
    distribution: Any = parameter.distribution
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def _plain(value: Any) -> Any:
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return value.name if isinstance(value, Enum) else value


def _sweeps(argument: str) -> bool:
    return bool(OverridesParser.create().parse_override(argument).is_sweep_override())


def _key_value(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+~").partition("=")
    return key, value
