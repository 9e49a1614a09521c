"""A trial's configuration, composed once for each combination of options, and the worker that Hydra launches."""

import contextlib
import copy
import os
import pickle
import platform
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import cloudpickle
import optuna
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from hypermap.config.compose import resolve
from hypermap.core.cli import outlive_readers
from hypermap.core.errors import UserError, near
from hypermap.core.files import whole_folder, write_text
from hypermap.core.gpus import own_gpus
from hypermap.core.instantiate import LABELS
from hypermap.core.passwords import masked
from hypermap.search.application import Job, SweepTarget
from hypermap.search.database import PATIENCE_S
from hypermap.search.schedule import Size
from hypermap.search.storage import file_of, lock_folder
from hypermap.search.study import SNAPSHOT, StudyConfig, connect
from hypermap.search.supervised import supervised
from hypermap.search.transport import fetch_conf
from hypermap.search.trial import RunningTrial
from hypermap.search.worker import OnFinish, work
from hypermap.sweeps.workplace import Workplace, unpack


@dataclass
class Composer:
    """Composes the configurations of a sweep's trials.

    Hydra takes 34 ms for one. Here each combination of options is composed once, and values are set in a copy.

    Attributes:
        search_path: Hydra's; a snapshot of the configuration's folder, so that edits do not affect a running sweep.
        overrides: Hydra's own and those that are equal for all trials.
        groups: the searched keys that are config groups, which have to be composed.
        added: searched keys that the configuration does not have (``+key=…``).
    """

    search_path: ConfigSearchPath
    config_name: str | None
    overrides: list[str]
    groups: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    composed: dict[tuple[str, ...], tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    loader: ConfigLoaderImpl | None = None
    parsed: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "composed": {}, "loader": None}

    def __call__(self, values: Mapping[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
        """Return the configuration with `values` set, and the option of each group.

        Raises:
            UserError: the configuration does not have a key, or does not accept a value.
        """
        added = self.added | {key.lstrip("+") for key in values if key.startswith("+")}
        values = {key.lstrip("+"): value for key, value in values.items()}
        signed = {key: f"+{key}" if key in added else key for key in values}
        chosen = tuple(f"{signed[key]}={value}" for key, value in values.items() if key in self.groups)
        if chosen not in self.composed:
            self.composed[chosen] = self._compose(chosen)
        base, choices = self.composed[chosen]
        config: DictConfig = pickle.loads(base)  # noqa: S301  our own, and eight times as fast as copy.deepcopy
        for key, value in values.items():
            if key in self.groups:
                continue
            try:
                OmegaConf.update(config, key, self.parsed_value(value), force_add=key in added)
            except (ConfigKeyError, ConfigAttributeError):
                raise UserError(_no_key(config, key)) from None
            except OmegaConfBaseException as error:
                raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from error
        return config, choices

    def chooses(self, key: str) -> bool:
        """Return whether a key is a group, whose options are composed."""
        self.loader = self.loader or ConfigLoaderImpl(self.search_path)
        return bool(self.loader.get_group_options(key.lstrip("+").partition("@")[0]))

    def _compose(self, chosen: tuple[str, ...]) -> tuple[bytes, dict[str, Any]]:
        self.loader = self.loader or ConfigLoaderImpl(self.search_path)
        try:
            config = self.loader.load_configuration(self.config_name, [*self.overrides, *chosen], RunMode.RUN)
        except HydraException as error:
            raise UserError(str(error).strip().split("\n\n")[0]) from error
        choices = dict(config.hydra.runtime.choices)
        with read_write(config), open_dict(config):
            del config["hydra"]
        return pickle.dumps(config), choices

    def parsed_value(self, value: Any) -> Any:
        """Return a parsed value: text is in Hydra's grammar, such as ``[64,64]``; numbers are unchanged."""
        if not isinstance(value, str):
            return value
        if value not in self.parsed:
            self.parsed[value] = OverridesParser.create().parse_override(f"key={value}").value()
        return self.parsed[value]


def _no_key(config: DictConfig, key: str) -> str:
    """Return a message that the configuration does not have `key`, and which keys it has there."""
    parent, _, last = key.rpartition(".")
    around = OmegaConf.select(config, parent) if parent else config
    known = [str(name) for name in around if name not in LABELS] if isinstance(around, DictConfig) else []
    return (
        f"{key}: the configuration has no such key{near(last, known)}. {parent or 'It'} has: "
        f"{', '.join(known) or 'none'}. +{key}=… adds one."
    )


def main_folder(search_path: ConfigSearchPath) -> Path | None:
    """Return the folder of the application's own configuration, if it is one."""
    return next((folder for entry in search_path.get_path() if (folder := _main(entry)) is not None), None)


def snapshot_path(search_path: ConfigSearchPath, folder: Path) -> ConfigSearchPath:
    """Return the search path with its main folder replaced by a copy, `folder`.

    The copy has only what Hydra reads: the main folder may be the application's, with all trials below it.
    """
    path = _copied(search_path)
    for entry in path.get_path():
        if (source := _main(entry)) is None:
            continue
        if not folder.exists():
            with whole_folder(folder) as partial:
                shutil.copytree(source, partial, ignore=_not_read)
                for file in partial.rglob("*.yaml"):
                    if masked(text := file.read_text(encoding="utf-8")) != text:
                        write_text(file, masked(text))
        entry.path = f"file://{folder}"
    return path


def _main(entry: Any) -> Path | None:
    """Return the folder of an entry of a search path, if it is the application's own."""
    source = Path(entry.path.removeprefix("file://")) if entry.path else None
    own = entry.provider == "main" and source is not None and "://" not in str(source) and source.is_dir()
    return source if own else None


def _copied(search_path: ConfigSearchPath) -> ConfigSearchPathImpl:
    path = ConfigSearchPathImpl()
    path.config_search_path = [copy.deepcopy(entry) for entry in search_path.get_path()]
    return path


def _not_read(folder: str, names: Sequence[str]) -> list[str]:
    """Return hidden folders, such as other studies' copies, and files that are not YAML."""
    return [
        name for name in names if (name.startswith(".") if Path(folder, name).is_dir() else not name.endswith(".yaml"))
    ]


def moved_path(search_path: ConfigSearchPath, moved: Callable[[Path], Path]) -> ConfigSearchPath:
    """Return a search path with each folder where `moved` says."""
    path = _copied(search_path)
    for entry in path.get_path():
        if entry.path.startswith("file://"):
            entry.path = f"file://{moved(Path(entry.path.removeprefix('file://')))}"
    return path


SAFE_PATH = "PYTHONSAFEPATH"


def set_variable(name: str, value: str | None) -> None:
    """Set a variable of this process' environment; None: remove it."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@dataclass
class Worker:
    """The callable that Hydra launches instead of the task: it runs the task in a loop over trials."""

    plan: StudyConfig
    composer: Composer
    task: Callable[[DictConfig], Any]
    custom: Callable[[DictConfig, optuna.Trial], None] | None
    fixed: dict[str, Any]
    application: SweepTarget
    output_subdir: str | None
    chdir: bool
    stop_file: Path
    sizes: Callable[[Mapping[str, Any]], Size] | None = None
    supervised: bool = False
    gpus: int = 0  # of each worker, where the launcher does not assign them
    workers_per_gpu: int = 1
    code: str = ""  # the application's, where the command was given
    safe_path: str | None = None  # the variable's value before the workers were started with it
    place: Workplace = field(default_factory=Workplace)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, (Worker, self.place, cloudpickle.dumps(self.__dict__))

    def __call__(self, config: DictConfig) -> None:
        """Run trials until the budget is used up; in a child process that may die, if launched only for that.

        Raises:
            UserError: this machine does not have what the command's has.
        """
        outlive_readers()
        set_variable(SAFE_PATH, self.safe_path)
        self.at(self.place.root_here()).run()

    def at(self, root: Path) -> Self:
        """Return this worker with paths as they are on this machine, where the project's root is `root`.

        Raises:
            UserError: the study is in a file that this machine does not see, or this machine has other code.
        """
        plan = replace(
            self.plan, folder=self.place.moved(self.plan.folder), storage=self.place.moved_storage(self.plan.storage)
        )
        hydra: Any = HydraConfig.get()
        with read_write(hydra), open_dict(hydra):
            hydra.runtime.cwd, hydra.sweep.dir = str(root), str(plan.folder)
        if root == self.place.root and platform.node() == self.place.host:
            return self
        self.application.move(self.place.moved)
        if self.application.code() != self.code:
            raise UserError(
                f"The code in {root} on {platform.node()} is not that of {self.place.host}, so that its trials would "
                "not be comparable. Bring both to the same commit, with git status clean."
            )
        if not (plan.folder / SNAPSHOT).exists() and file_of(plan.storage) is None:
            fetch_conf(connect(plan, patience_s=PATIENCE_S), plan.folder / SNAPSHOT)
        composer = replace(self.composer, search_path=moved_path(self.composer.search_path, self.place.moved))
        return replace(self, plan=plan, composer=composer, stop_file=self.place.moved(self.stop_file))

    def run(self) -> None:
        """Run trials until the budget is used up, on GPUs that no other worker has."""
        with own_gpus(HydraConfig.get().job.num, self.gpus, self.workers_per_gpu):
            self._supervised()

    def _supervised(self) -> None:
        if self.supervised and hasattr(os, "fork") and threading.current_thread() is threading.main_thread():
            supervised(self._work, lock_folder(self.plan.storage, self.plan.name), self.stop_file)
        else:
            self._work(None)

    def _work(self, deserted: Callable[[], bool] | None) -> None:
        work(
            self.plan,
            self._run,
            together=self._together if self.plan.stack > 1 else None,
            extend=self._extend,
            size=None if self.sizes is None else self._size,
            before_tell=self.application.before_tell,
            stop_file=self.stop_file,
            deserted=deserted,
        )

    def _extend(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the draws of a custom search space, as in the official sweeper."""
        if self.custom is None:
            return {}
        for name, value in self.fixed.items():
            trial.set_user_attr(name, value)
        self.custom(self.composer({})[0], trial)
        if overlap := trial.params.keys() & self.fixed.keys():
            raise UserError(
                "Overlapping fixed parameters and search space parameters found! "
                f"Overlapping parameters: {sorted(overlap)}"
            )
        drawn = {name: value for name, value in trial.params.items() if name not in self.plan.space.names}
        self.composer.groups |= {name.lstrip("+") for name in drawn if self.composer.chooses(name)}
        return drawn

    def _size(self, values: Mapping[str, Any]) -> Size:
        """Return the size of a trial with these values; with an invalid configuration it ends before that matters."""
        assert self.sizes is not None
        try:
            return self.sizes(resolve(*self.composer(values)))
        except UserError:
            return Size()

    def _compose(self, trial: RunningTrial, values: Mapping[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
        """Return the trial's configuration and options, after writing Hydra's files into its folder."""
        config, choices = self.composer(values)
        trial.folder.mkdir(parents=True, exist_ok=True)
        if self.output_subdir is not None:
            _save(trial.folder / self.output_subdir, config, [*self.composer.overrides, *_overrides(values)])
        trial.values = dict(values)
        return config, choices

    def _together(self, trials: Sequence[tuple[RunningTrial, Mapping[str, Any]]], on_finish: OnFinish) -> None:
        """Pass the trials to the application; an error in one configuration ends only its trial."""
        hydra: Any = HydraConfig.get()
        with read_write(hydra), open_dict(hydra):
            hydra.runtime.output_dir = str(self.plan.folder)  # not of a single trial
        jobs = []
        for trial, values in trials:
            try:
                jobs.append(self._job(trial, values))
            except Exception as error:
                on_finish(trial, error)
        if jobs:
            self.application.together(jobs, lambda job, result: on_finish(job.trial, result))

    def _job(self, trial: RunningTrial, values: Mapping[str, Any]) -> Job:
        job = Job(trial, resolve(*self._compose(trial, values)))
        self.application.check(job.configuration)
        return job

    def _run(self, trial: RunningTrial, values: Mapping[str, Any]) -> Any:
        config, choices = self._compose(trial, values)
        hydra: Any = HydraConfig.get()
        with read_write(hydra), open_dict(hydra):
            hydra.runtime.output_dir = str(trial.folder)
            hydra.job.num = trial.number
            hydra.job.id = str(trial.number)
            hydra.overrides.task = _overrides(values)
            if hydra.runtime.choices != choices:  # to set them takes milliseconds
                hydra.runtime.choices = choices
        with contextlib.chdir(trial.folder) if self.chdir else contextlib.nullcontext():
            return self.task(config)


def _overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _save(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Write what Hydra writes into the folder of a job: its configuration and its overrides."""
    folder.mkdir(parents=True, exist_ok=True)
    dump = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    for name, content in (
        ("config.yaml", plain),
        ("overrides.yaml", [o for o in overrides if not o.startswith("hydra")]),
    ):
        (folder / name).write_text(yaml.dump(content, Dumper=dump, sort_keys=False), encoding="utf-8")
