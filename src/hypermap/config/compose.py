"""Composes the configuration: the one module that uses Hydra.

`conf/` has the config groups, `params.yaml` selects from them, the command line overrides both. A configuration is a
plain dictionary structured like `params.yaml`, but complete: every group is ``{name: option, key: value, …}``.
"""

import os
import pickle
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from hypermap.config.groups import (
    MAPPINGS,
    SEARCHES,
    TUNED,
    VALUES,
    Configuration,
    check_configuration,
    check_experiment,
    check_keys,
    check_option,
    groups,
    option_of,
    read_params,
)
from hypermap.config.overrides import is_sweep, parse_override, parse_overrides, written
from hypermap.config.rules import validate
from hypermap.core.errors import UserError, near
from hypermap.core.instantiate import LABELS
from hypermap.core.moved import with_paths_of_now
from hypermap.core.paths import CONF, PARAMS

# What each later stage needs. The report shows the whole configuration; any change to it reruns `evaluate` anyway,
# through the data or the model.
SLICES: dict[str, tuple[str, ...]] = {
    "preprocess": ("data",),
    "train": (*TUNED[1:], "seed", "final"),
    "evaluate": ("experiment", *TUNED, *VALUES),
}


Task = Callable[[Configuration, Path], Any]
"""Takes the configuration and the output folder; returns the objective, or several."""

MakeTarget = Callable[[str], Any]
"""Takes the text of the params.yaml that a sweep starts from; returns what the sweeper needs from the task."""


@dataclass(frozen=True)
class Baseline:
    """The starting point of a run, before the command line is applied."""

    config_name: str  # of Hydra's primary config
    says: str
    params: dict[str, Any] | None = None  # as read; None if it is ignored


def compose(overrides: Sequence[str] = (), params: Mapping[str, Any] | None = None) -> Configuration:
    """Return the validated configuration of `params` (or of the defaults in conf/) with `overrides` applied.

    Raises:
        UserError: an unknown group, option or key, a value out of range, settings that contradict each other.
    """
    parsed = _parse(overrides)
    _check_one_value(parsed)
    config_name = "config" if params is None else _store(params, parsed)
    refused = None
    try:
        configuration = _compose(config_name, overrides)
    except UserError as error:  # perhaps about a key; the selected groups then give a better message
        words = [str(o.input_line) for o in parsed if o.key_or_group in groups()]
        configuration = _compose(config_name, words, whole=False)
        refused = error
    if params is not None:
        check_experiment(params, {override.key_or_group for override in parsed}, configuration)
    if odd := [group for group in TUNED if not isinstance(configuration.get(group), dict)]:
        raise UserError(
            f"The option of {odd[0]} is not a mapping; its file in conf/{odd[0]}/ needs at least a _target_."
        )
    options = defaults_of({group: configuration[group]["name"] for group in TUNED})
    _check_overrides(parsed, options)
    if refused is not None:
        raise refused
    check_configuration(configuration, options, {o.key_or_group for o in parsed if o.is_add()})
    validate(configuration)
    return configuration


def resolve(
    config: DictConfig, choices: Mapping[str, str | None], *, resolved: bool = True, whole: bool = True
) -> Configuration:
    """Return Hydra's configuration as a plain dictionary, each group with the ``name`` of its option.

    Unless `resolved`, values that refer to others are left as written; unless `whole`, missing values (``???``) too.
    """
    ours = config
    if "hydra" in config:  # not in a trial's, of which there are many: copying takes longer than all the rest
        ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = with_paths_of_now(OmegaConf.to_container(ours, resolve=resolved, throw_on_missing=whole))
    assert isinstance(plain, dict)
    for key in SEARCHES:
        plain.pop(key, None)
    named = {
        str(key): {"name": choices[str(key)], **value} if key in choices and isinstance(value, dict) else value
        for key, value in plain.items()
    }
    return {"experiment": choices.get("experiment"), "final": None, **named}  # a conf/config.yaml may lack it


@cache
def group_defaults(override: str, folder: Path | None = None) -> Configuration:
    """Return the configuration of conf/ (or `folder`) with one override alone, such as ``experiment=mnist_mlp``.

    It is cached for the life of the process; do not change it. A value that refers to another (``${…}``) is left as
    written.

    Raises:
        UserError: conf/ has no such option, or its file is invalid.
    """
    return _compose("config", [override], folder, resolved=False, whole=False)


def defaults_of(
    names: Mapping[str, str], folder: Path | None = None, *, resolved: bool = True, whole: bool = False
) -> Configuration:
    """Return the configuration of conf/ (or `folder`) with these options, if possible in a tenth of the usual time.

    Groups that are not named have the option of conf/config.yaml. `resolved` and `whole` are as for `resolve`.

    Raises:
        UserError: as `compose`.
    """
    options = folder or CONF
    with _as_user_error():
        top: Any = OmegaConf.to_container(OmegaConf.load(options / "config.yaml"))
        entries = [entry for entry in top.pop("defaults", []) if isinstance(entry, dict)]
        listed = {str(group): name for entry in entries for group, name in entry.items()}
        chosen = {group: name for group, name in listed.items() if group in TUNED} | dict(names)
        files = {group: options / group / f"{name}.yaml" for group, name in chosen.items()}
        texts = {group: file.read_text(encoding="utf-8") for group, file in files.items() if file.is_file()}
        parts: dict[str, Any] = {
            group: with_paths_of_now(OmegaConf.to_container(OmegaConf.create(text))) for group, text in texts.items()
        }
    values = {key: value for key, value in top.items() if key != "hydra"}
    known = {*chosen, "experiment", *(key for key in listed if key.startswith("override hydra/"))}
    refers = re.search(r"\$\{|\?\?\?", str([*parts.values(), values]))
    builds = any(re.search(r"^defaults\b|@package", text, re.MULTILINE) for text in texts.values())
    if refers or builds or {*listed} != known or {*values} != {*VALUES} or {*texts} != {*files}:
        words = [f"{group}={name}" for group, name in names.items()]
        return _compose("config", words, folder, resolved=resolved, whole=whole)
    return {"experiment": None, **{group: {"name": chosen[group], **part} for group, part in parts.items()}, **values}


def slices(configuration: Configuration) -> dict[str, Configuration]:
    """Return one part of the configuration for each later stage of the pipeline.

    Raises:
        UserError: conf/ does not have one of the baselines.
    """
    parts = {stage: {key: configuration[key] for key in keys} for stage, keys in SLICES.items()}
    return parts | {"baselines": _baselines(configuration)}


def params_for(experiment: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the params.yaml that names `experiment`, with its options, its values and further ones such as ``seed=1``.

    Raises:
        UserError: as `compose`.
    """
    check_option("experiment", experiment, groups(), "make order EXPERIMENT=…")
    configuration = compose([f"experiment={experiment}", *overrides])
    body = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml"))
    assert isinstance(body, dict)
    given = [override.key_or_group.split(".")[:2] for override in _parse(overrides)]
    params: dict[str, Any] = {"experiment": experiment}
    for group in TUNED:
        name, values = configuration[group]["name"], {**body.get(group, {})}
        if group == "automl" and name == "none":
            continue
        values |= {key: configuration[group][key] for top, *inner in given for key in inner if top == group}
        params[group] = {"name": name, **values} if values else name
    values = {top: {key: configuration[top][key] for key in inner} for top, *inner in given if top in VALUES and inner}
    return {**params, "seed": configuration["seed"], "final": configuration["final"], **values}


@contextmanager
def composed_once() -> Iterator[None]:
    """Give Hydra the configuration that was checked, instead of composing the same one again, which takes as long."""
    compose_anew, known = ConfigLoaderImpl._load_configuration_impl, dict[Any, bytes]()

    def compose_or_reuse(loader: Any, config_name: Any, overrides: Any, run_mode: Any, **others: Any) -> DictConfig:
        key = (str(loader.get_search_path()), config_name, tuple(overrides), run_mode)
        if key in known:
            composed: DictConfig = pickle.loads(known.pop(key))  # noqa: S301  our own
            return composed
        composed = compose_anew(loader, config_name, overrides, run_mode, **others)
        known[key] = pickle.dumps(composed)  # a copy: the caller may change it
        return composed

    ConfigLoaderImpl._load_configuration_impl = compose_or_reuse  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl._load_configuration_impl = compose_anew  # type: ignore[method-assign]


@composed_once()
def application(task: Task, make_target: MakeTarget) -> None:
    """Run `task` as a Hydra application: single runs and sweeps, from a baseline that is printed first.

    Mistakes on the command line or in params.yaml are reported before Hydra starts.

    Raises:
        UserError: as `compose`.
    """
    arguments = read_arguments(sys.argv[1:])
    asks = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    if arguments.shell_completion:  # its arguments are not overrides
        _start(_job(task, make_target, None), arguments, CONF, "config")
        return
    arguments.overrides = spelled_out(arguments.overrides)
    parsed = _parse(arguments.overrides)
    if _has_another_sweeper(parsed):  # which has no study names
        arguments.overrides.append(r"hydra.sweep.dir=multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}")
    baseline = _baseline(parsed)
    multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    if not arguments.help and not arguments.hydra_help:
        _check_sweeps(parsed, multirun=multirun)
        compose(_without_sweeps(parsed) if multirun else arguments.overrides, baseline.params)
    if not asks:
        print(f"Baseline: {baseline.says}", flush=True)
        if idle := [str(o.input_line) for o in parsed if o.key_or_group.startswith("hydra.sweeper.") and not multirun]:
            print(f"Note: {', '.join(idle)}: no part of a single run; a search has -m.", flush=True)
    base = (PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else "") if multirun else None
    _start(_job(task, make_target, base), arguments, CONF, baseline.config_name)


def read_arguments(words: Sequence[str]) -> Namespace:
    """Return Hydra's flags and the overrides, in any order.

    Raises:
        UserError: flags contradict each other, or would change where a configuration comes from.
    """
    parser = get_args_parser()
    parser.usage = "python src/train.py [key=value …] [-m] [--cfg job] [--help]"
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        keys = keys_like(unknown[0].lstrip("-").partition("=")[0])
        meant = f" (did you mean {' or '.join(f'{key}=…' for key in keys)}?)" if keys else ""
        parser.error(
            f"unrecognized arguments: {' '.join(unknown)}{meant}. Values are given as key=value, without dashes"
        )
    if arguments.config_dir or arguments.config_path:
        raise UserError(_elsewhere("--config-dir" if arguments.config_dir else "--config-path", arguments.config_dir))
    if arguments.config_name:
        raise UserError(
            f"--config-name={arguments.config_name}: a run starts from {PARAMS}, or from a file of conf/experiment/, "
            "which experiment=NAME names."
        )
    actions = {
        "-m": arguments.multirun,
        "--run": arguments.run,
        "--cfg": arguments.cfg,
        "--info": arguments.info,
        "--shell-completion": arguments.shell_completion,
    }
    if len(given := [flag for flag, value in actions.items() if value]) > 1:
        raise UserError(f"{' and '.join(given)}: give one of them. A configuration is shown of one value for each key.")
    if arguments.resolve and not (arguments.cfg or arguments.help):
        raise UserError("--resolve goes with --cfg job, which shows the configuration.")
    return arguments


def keys_like(name: str) -> list[str]:
    """Return the keys of the defaults in conf/, such as ``optimizer.lr``, that end in a name or resemble it."""
    options, name = defaults_of({}, resolved=False), name.replace("-", "_")
    keys = {f"{group}.{key}" for group in MAPPINGS for key in options[group] if key not in LABELS} | {*VALUES}
    ending = sorted(key for key in keys if name in (key, key.rpartition(".")[2]))
    return ending or get_close_matches(name, keys, n=2)


def _elsewhere(word: str, folder: str | None) -> str:
    copy = f": cp -r {shlex.quote(folder)}/. conf/" if folder else "."
    return f"{word}: choices are read from conf/ alone, where dvc repro and a study find them again. Copy yours{copy}"


def sweep_again(
    task: Task,
    make_target: MakeTarget,
    words: Sequence[str],
    base: str,
    options: Path,
) -> None:
    """Run `task` as an earlier sweep again, from the state that it started from rather than the present one.

    Args:
        task: as for `application`; `make_target` too.
        words: its command line, including Hydra's own arguments, which was checked at the time.
        base: the text of its params.yaml.
        options: a copy of its conf/.

    Raises:
        UserError: as in the sweep.
    """
    parsed = parse_overrides(words)
    with _as_user_error():
        params: Any = OmegaConf.to_container(OmegaConf.create(base))
    config_name = "config" if _sets_order_aside(parsed) else _store(params, parsed, options)
    _start(_job(task, make_target, base), get_args_parser().parse_args(["-m", *words]), options, config_name)


def _job(task: Task, make_target: MakeTarget, base: str | None) -> TaskFunction:
    """Return what Hydra runs for each configuration; `base` is the text of the params.yaml that a sweep starts from."""

    def job(config: DictConfig) -> Any:
        runtime = HydraConfig.get().runtime
        configuration, output = _job_configuration(config), Path(runtime.output_dir)
        with chdir(runtime.cwd):  # paths are relative to the folder of the command, even with hydra.job.chdir
            return task(configuration, output)

    if base is not None:
        job.application = make_target(base)  # type: ignore[attr-defined]  # Hydra hands nothing else to a sweeper
    return job


def _start(job: TaskFunction, arguments: Namespace, options: Path, config_name: str) -> None:
    """Do what `hydra.main` does, with arguments that need not be this program's."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises its errors: they are reported like any other
    with _as_user_error():
        _run_hydra(arguments, get_args_parser(), job, str(options), config_name)


def _job_configuration(config: DictConfig) -> Configuration:
    """Return the configuration of one job; in a sweep, only the first values have been validated before."""
    with _as_user_error():
        configuration = resolve(config, HydraConfig.get().runtime.choices)
    validate(configuration)
    return configuration


def _baseline(parsed: Sequence[Override]) -> Baseline:
    """Return `params.yaml`, unless the command line names an experiment or a sweep, which then is the baseline."""
    if (override := _sets_order_aside(parsed)) is not None:
        return Baseline("config", f"{override.input_line} ({PARAMS} is set aside)")
    params = read_params()
    experiment = params.get("experiment")
    says = f"{PARAMS}, which names experiment {experiment}" if experiment else str(PARAMS)
    return Baseline(_store(params, parsed), says, params)


def _sets_order_aside(parsed: Sequence[Override]) -> Override | None:
    """Return the override that replaces params.yaml as the baseline, if there is one."""
    return next((override for override in parsed if override.key_or_group in ("experiment", "sweep")), None)


def _has_another_sweeper(parsed: Sequence[Override]) -> bool:
    """Return whether a sweeper other than this project's is selected, without a folder for its jobs."""
    chosen = [override.value() for override in parsed if override.key_or_group == "hydra/sweeper"]
    placed = any(override.key_or_group == "hydra.sweep.dir" for override in parsed)
    return bool(chosen) and chosen[-1] != "hypermap" and not placed


def _store(params: Mapping[str, Any], parsed: Sequence[Override], options: Path | None = None) -> str:
    """Store the parameters as a primary config on top of the one in conf/, and return its name.

    A group that the command line sets loses the option of params.yaml and its values: they belong together.
    """
    known = groups(options)
    rechosen = {override.key_or_group for override in parsed} & set(known)
    kept = {key: value for key, value in params.items() if key not in rechosen and (key, value) != ("final", None)}
    experiment = kept.pop("experiment", None)
    chosen = {group: option_of(kept, group) for group in known if group in kept}
    if experiment:
        overrides = [{"override experiment": experiment}]
    else:
        overrides = [{f"override {group}": choice} for group, choice in chosen.items()]
    values = {
        key: {k: v for k, v in value.items() if k != "name"} if key in chosen else value
        for key, value in kept.items()
        if key not in chosen or isinstance(value, dict)
    }
    node = {"defaults": ["config", *overrides, "_self_"], **values}
    ConfigStore.instance().store(name="params", node=node, replace=True)
    return "params"


def _compose(
    config_name: str,
    overrides: Sequence[str],
    folder: Path | None = None,
    *,
    resolved: bool = True,
    whole: bool = True,
) -> Configuration:
    GlobalHydra.instance().clear()
    with _as_user_error(), hydra.initialize_config_dir(str(folder or CONF)):
        composed = hydra.compose(config_name, list(overrides), return_hydra_config=True)
        return resolve(composed, composed.hydra.runtime.choices, resolved=resolved, whole=whole)


@contextmanager
def _as_user_error() -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a `UserError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(_first_paragraph(error)) from error


def _check_overrides(parsed: Sequence[Override], options: Configuration) -> None:
    """Refuse keys on the command line that the selected options do not have; ``+`` adds one on purpose."""
    for override in parsed:
        group, _, key = override.key_or_group.partition(".")
        if group in MAPPINGS and key and not override.is_add():
            check_keys(group, options, [key.split(".")[0]])


def _baselines(configuration: Configuration) -> Configuration:
    """Return the baseline models with the values of conf/: they depend on nothing else but the data."""
    names = list(dict.fromkeys(configuration["evaluation"]["baselines"]))
    for name in names:
        check_option("model", name, groups(), "evaluation.baselines")
    return {"models": [defaults_of({"model": name}, whole=True)["model"] for name in names]}


def spelled_out(words: Sequence[str]) -> list[str]:
    """Return the arguments with ``group={name: option, key: value}``, as in params.yaml, rewritten in Hydra's grammar.

    A search over a group's options, including ``glob(…)``, becomes the list of their names.
    """
    plain: list[str] = []
    for word in words:
        key, _, text = word.partition("=")
        group = key.lstrip("+")
        if group in TUNED and text.startswith("{"):
            plain += _mapping(word, key)
        elif group in groups() and re.search(r"glob\s*\(|[\"']", text):
            plain.append(_named(word, key))
        else:
            plain.append(word)
    return plain


def _mapping(word: str, key: str) -> Iterator[str]:
    """Yield a group's option and its values, each as an argument."""
    group, values = key.lstrip("+"), parse_override(word).value()
    if is_sweep(values) or not isinstance(values, dict):
        raise UserError(
            f"{word}: a mapping holds one value for each key. What is searched is given word by word, such as "
            "-m optimizer=sgd,adam optimizer.lr=0.1,0.01"
        )
    if "name" not in values:
        raise UserError(f"{word}: {group} is a mapping without a name. Write {group}={{name: choice, …}}.")
    yield f"{key}={values.pop('name')}"
    yield from (f"{group}.{inner}={written(value)}" for inner, value in values.items())


def _named(word: str, key: str) -> str:
    """Return the argument with the options that it matches, or names in quotes, spelled out."""
    value: Any = parse_override(word).value()
    known = groups()[key.lstrip("+")]
    if isinstance(value, ChoiceSweep) and value.simple_form:
        names = [choice.text if isinstance(choice, QuotedString) else str(choice) for choice in value.list]
    elif isinstance(value, Glob):
        names = value.filter(known)
    else:
        return word
    if not names:
        raise UserError(f"{word}: no option matches. There are: {', '.join(known)}.")
    return f"{key}={','.join(names)}" if len(names) > 1 else f"{key}=choice({names[0]})"


def _parse(words: Sequence[str]) -> list[Override]:
    """Return the command line's overrides; unknown groups and options are reported here, with the existing ones."""
    parsed, options = parse_overrides(words), groups()
    for override in parsed:
        if isinstance(override.value(), Glob):
            raise UserError(
                f"{override.input_line}: glob(…) is of a group's choices, and {override.key_or_group} is none."
            )
        top = re.split(r"[.@/]", override.key_or_group)[0]
        if top not in (known := [*options, *VALUES, "hydra"]):
            meant = near(top, known) or near(top, keys_like(top), cutoff=0.0)
            raise UserError(f"command line: no group or key {top!r}{meant}. There are: {', '.join(known)}.")
        if override.key_or_group == "hydra.searchpath":
            raise UserError(_elsewhere("hydra.searchpath", None))
        if override.key_or_group in {f"{group}.name" for group in TUNED}:
            given = str(override.input_line)
            raise UserError(f"{given}: a choice is made with {top}={given.partition('=')[2]}.")
        if override.is_delete() and top != "hydra":
            raise UserError(f"command line: {override.key_or_group} cannot be left out; give it another value.")
        if override.key_or_group in options:
            value = override.value()
            choices = override.sweep_string_iterator() if override.is_discrete_sweep() else [value or ""]
            for choice in choices:
                check_option(override.key_or_group, str(choice), options, "command line")
    return parsed


def _check_sweeps(parsed: Sequence[Override], *, multirun: bool) -> None:
    for override in parsed:
        if override.key_or_group in SEARCHES and not multirun:
            raise UserError(f"{override.input_line} is a search: add -m.")
    if not multirun:
        _check_one_value(parsed)


def _check_one_value(parsed: Sequence[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            decimal = re.fullmatch(r"[-+]?(\d+),(\d+)", str(override.input_line).partition("=")[2])
            raise UserError(
                f"{override.input_line} gives several values. To try each in turn add -m; a list is written "
                f"{override.key_or_group}=[value,value]"
                + (f"; a decimal number has a point: {decimal[1]}.{decimal[2]}." if decimal else ".")
            )


def _without_sweeps(parsed: Sequence[Override]) -> list[str]:
    """Return the command line with every sweep replaced by its first value, which is enough to check keys and types.

    Keys of a group that is searched too may not fit its first option, and are left to the sweeper.
    """
    searched = {override.key_or_group for override in parsed if override.is_sweep_override()}
    firsts = []
    for override in parsed:
        group, _, key = override.key_or_group.partition(".")
        if override.is_discrete_sweep():
            first = next(override.sweep_string_iterator(), None)  # an empty range has none, which the sweeper reports
            if first is not None and not (key and group in searched):
                firsts.append(f"{override.get_key_element()}={first}")
        elif not override.is_sweep_override() and not override.key_or_group.startswith("hydra"):
            firsts.append(str(override.input_line))
    return firsts


def _first_paragraph(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group} has no option {name!r}{near(name, error.options)}. There are: {', '.join(error.options)}."
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key} is ???, a value that must be set: {error.full_key}=VALUE."
    message = str(error).strip().split("\n\n")[0]
    if (key := re.match(r"Could not override '(hydra\.[\w.]+)'", message)) is not None:
        known = _hydra_keys(key[1].rpartition(".")[0])
        return f"No key {key[1]!r}{'' if key[1] in known else near(key[1], known)}."
    if message.startswith("Error merging override ") and error.__cause__:  # the reason is in the cause
        return f"{message.removeprefix('Error merging override ')}: {str(error.__cause__).strip().splitlines()[0]}"
    return message


def _hydra_keys(node: str) -> list[str]:
    """Return the keys below a node of Hydra's own configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF)):
        found = OmegaConf.select(hydra.compose("config", return_hydra_config=True), node)
    return [f"{node}.{key!s}" for key in found] if isinstance(found, DictConfig) else []
