"""Config groups and parameters as files: the options in conf/, and those that params.yaml selects."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hypermap.config.rules import check_kind
from hypermap.core.errors import UserError, near
from hypermap.core.instantiate import LABELS, NAME_IT, check_record
from hypermap.core.paths import CONF, PARAMS, ROOT

VALUES = ("seed", "final", "evaluation")  # the keys of conf/config.yaml that are not groups
TUNED = ("data", "model", "optimizer", "scheduler", "loss", "regularizer", "augment", "trainer", "validation", "automl")
SEARCHES = ("space", "sweep")  # groups that define a sweep, and are not part of a configuration
MAPPINGS = (*TUNED, "evaluation")

Configuration = dict[str, Any]


def groups(options: Path | None = None) -> dict[str, list[str]]:
    """Return every config group of conf/, or of another folder, with its options; without those of Hydra itself."""
    return {
        folder.name: sorted(str(f.relative_to(folder).with_suffix("")) for f in folder.rglob("*.yaml"))
        for folder in sorted((options or CONF).iterdir())
        if folder.is_dir() and folder.name != "hydra" and not folder.name.startswith((".", "_"))
    }


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Return params.yaml as written: an option, or a mapping with ``name``, for each group; other keys are values.

    Raises:
        UserError: the file is missing, is not YAML, names a group or an option that is not in conf/, or code that is
            not a part: the params.yaml of a DVC experiment may come from anybody.
    """
    try:
        params: Any = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run this from the project's root, {ROOT}.") from None
    except Exception as error:  # the various errors of YAML and OmegaConf
        if line := _conflict(path):
            raise UserError(
                f"{path} has a merge conflict in line {line}: keep one side of each, without <<<<<<<, ======= and "
                f">>>>>>>, and git add {path}; or take one side's file: git checkout --ours {path} (or --theirs)."
            ) from None
        raise UserError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(params, dict):
        raise UserError(f"{path} must map groups to choices, as in: optimizer: adam")
    options = {group: choices for group, choices in groups().items() if group not in SEARCHES}
    known = [*options, *VALUES]
    for key in params:
        if key not in known:
            raise UserError(f"{path}: no group or key {key!r}{near(key, known)}. There are: {', '.join(known)}.")
    for group in options:
        if group in params:
            check_option(group, option_of(params, group), options, str(path))
    check_record(params, str(path), remedy=NAME_IT)
    return params


def _conflict(path: Path) -> int | None:
    """Return the line of a Git merge conflict marker; None if there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((number for number, line in enumerate(lines, 1) if line.startswith("<<<<<<< ")), None)


def option_of(params: Mapping[str, Any], group: str) -> str | None:
    """Return the option that `params` names for a group, or None if it names none.

    Raises:
        UserError: it is a mapping without a name, or a mapping where only a name is allowed.
    """
    value = params.get(group)
    if isinstance(value, dict):
        if group not in TUNED:
            raise UserError(f"{PARAMS}: {group} is a name and nothing else: {', '.join(groups()[group])}, or null.")
        if "name" not in value:
            raise UserError(
                f"{PARAMS}: {group} is a mapping without a name. Write {group}: {{name: option, …}}; "
                f"choices: {', '.join(groups()[group])}."
            )
        value = value["name"]
    return None if value is None else str(value)


def check_option(group: str, option: str | None, options: Mapping[str, Sequence[str]], where: str) -> None:
    """Refuse an option that conf/ does not have; `where` says what named it.

    Raises:
        UserError: with similar names, and all existing ones.
    """
    there_are = f"There are: {', '.join(options[group])}."
    if option == "" or (option is None and group in TUNED):
        raise UserError(f"{where}: {group} names no option. {there_are}")
    if option is not None and option not in options[group]:
        raise UserError(f"{where}: {group} has no option {option!r}{near(option, options[group])}. {there_are}")


def check_experiment(params: Mapping[str, Any], rechosen: Collection[str], configuration: Configuration) -> None:
    """Refuse parameters whose options differ from those of the experiment that it names, except for `rechosen` groups.

    Raises:
        UserError: with the ways to get the one or the other.
    """
    experiment = params.get("experiment")
    for group in groups() if experiment else ():
        if group in params and group != "experiment" and group not in rechosen:
            ordered, meant = option_of(params, group), configuration[group]["name"]
            if ordered != meant:
                raise UserError(
                    f"{PARAMS} names experiment {experiment}, whose {group} is {meant!r}, and orders {group} "
                    f"{ordered!r}. Set experiment to null to mix choices freely, or write the experiment's own "
                    f"with: make order EXPERIMENT={experiment}"
                )


def check_configuration(configuration: Configuration, options: Configuration, added: set[str]) -> None:
    """Refuse keys and types of values that an option's file does not have, wherever they come from."""
    for key in configuration:
        if key not in options and key not in added:
            raise UserError(f"No key {key!r}{near(key, options)}. There are: {', '.join(options)}.")
    check_kind("seed", configuration["seed"], options["seed"])
    for group in MAPPINGS:
        if not isinstance(configuration[group], dict):
            raise UserError(f"{group} is {configuration[group]!r}; it must be a mapping, such as {options[group]}.")
        if group in TUNED and not isinstance(configuration[group].get("_target_"), str):
            option = configuration[group]["name"]
            raise UserError(f"conf/{group}/{option}.yaml has no _target_, the dotted path of what its values are for.")
        given = {key: value for key, value in configuration[group].items() if f"{group}.{key}" not in added}
        check_keys(group, options, list(given))
        for key, value in given.items():
            check_kind(f"{group}.{key}", value, options[group][key])


def check_keys(group: str, options: Configuration, given: Sequence[str]) -> None:
    """Refuse keys that the option of a group does not have.

    Raises:
        UserError: with similar names, and all existing ones.
    """
    allowed = [key for key in options[group] if key not in LABELS]
    name = options[group].get("name")
    chosen, file = (f"{group}={name}", f"conf/{group}/{name}.yaml") if name else (group, "conf/config.yaml")
    for key in given:
        if key not in options[group]:
            raise UserError(
                f"{chosen} has no key {key!r}{near(key, allowed)}. It has: {', '.join(allowed) or 'none'} ({file})."
            )
