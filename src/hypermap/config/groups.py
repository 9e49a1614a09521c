"""The menu and the order, as files: what conf/ offers, and what params.yaml asks for."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hypermap.config.rules import check_kind
from hypermap.core.errors import UserError, near
from hypermap.core.instantiate import LABELS, NAME_IT, check_record
from hypermap.core.paths import CONF, PARAMS, ROOT

VALUES = ("seed", "evaluation")  # the keys of conf/config.yaml that are no groups
TUNED = ("data", "model", "optimizer", "scheduler", "loss", "regularizer", "augment", "trainer", "validation")
SEARCHES = ("space", "sweep")  # groups that say what a sweep does, and are no part of a configuration
MAPPINGS = (*TUNED, "evaluation")

Configuration = dict[str, Any]


def groups(menu: Path | None = None) -> dict[str, list[str]]:
    """Return every group of the menu, or of one in another folder, with its choices."""
    return {
        folder.name: sorted(str(f.relative_to(folder).with_suffix("")) for f in folder.rglob("*.yaml"))
        for folder in sorted((menu or CONF).iterdir())
        if folder.is_dir() and not folder.name.startswith((".", "_"))
    }


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Return the order as written: a choice, or a mapping with ``name``, for each group; other keys are values.

    Raises:
        UserError: the file is absent, is not YAML, names a group or choice that the menu has not, or code that is no
            part: whoever made an experiment of DVC wrote the order that it brings.
    """
    try:
        order: Any = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run this from the project's root, {ROOT}.") from None
    except Exception as error:  # YAML's and OmegaConf's many
        if line := _conflict(path):
            raise UserError(
                f"{path} has a merge conflict in line {line}: keep one side of each, without <<<<<<<, ======= and "
                f">>>>>>>, and git add {path}; or take one side's file: git checkout --ours {path} (or --theirs)."
            ) from None
        raise UserError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(order, dict):
        raise UserError(f"{path} must map groups to choices, as in: optimizer: adam")
    menu = {group: choices for group, choices in groups().items() if group not in SEARCHES}
    known = [*menu, *VALUES]
    for key in order:
        if key not in known:
            raise UserError(f"{path}: no group or key {key!r}{near(key, known)}. There are: {', '.join(known)}.")
    for group in menu:
        if group in order:
            check_option(group, option_of(order, group), menu, str(path))
    check_record(order, str(path), remedy=NAME_IT)
    return order


def _conflict(path: Path) -> int | None:
    """Return the line in which Git has left two versions of a passage; None where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((number for number, line in enumerate(lines, 1) if line.startswith("<<<<<<< ")), None)


def option_of(order: Mapping[str, Any], group: str) -> str | None:
    """Return the choice that `order` names for a group, or None where it names none.

    Raises:
        UserError: a mapping without a name, or one where a name alone may stand.
    """
    value = order.get(group)
    if isinstance(value, dict):
        if group not in TUNED:
            raise UserError(f"{PARAMS}: {group} is a name and nothing else: {', '.join(groups()[group])}, or null.")
        if "name" not in value:
            raise UserError(
                f"{PARAMS}: {group} is a mapping without a name. Write {group}: {{name: choice, …}}; "
                f"choices: {', '.join(groups()[group])}."
            )
        value = value["name"]
    return None if value is None else str(value)


def check_option(group: str, choice: str | None, menu: Mapping[str, Sequence[str]], where: str) -> None:
    """Refuse a choice that the menu has not; `where` is who named it.

    Raises:
        UserError: names the near ones, and all there are.
    """
    there_are = f"There are: {', '.join(menu[group])}."
    if choice == "" or (choice is None and group in TUNED):
        raise UserError(f"{where}: {group} names no choice. {there_are}")
    if choice is not None and choice not in menu[group]:
        raise UserError(f"{where}: {group} has no choice {choice!r}{near(choice, menu[group])}. {there_are}")


def check_experiment(order: Mapping[str, Any], rechosen: Collection[str], configuration: Configuration) -> None:
    """Refuse an order whose choices are not those of the experiment it names, but for groups chosen elsewhere since.

    Raises:
        UserError: says how to have the one or the other.
    """
    experiment = order.get("experiment")
    for group in groups() if experiment else ():
        if group in order and group != "experiment" and group not in rechosen:
            ordered, meant = option_of(order, group), configuration[group]["name"]
            if ordered != meant:
                raise UserError(
                    f"{PARAMS} names experiment {experiment}, whose {group} is {meant!r}, and orders {group} "
                    f"{ordered!r}. Set experiment to null to mix choices freely, or write the experiment's own "
                    f"with: make order EXPERIMENT={experiment}"
                )


def check_configuration(configuration: Configuration, menu: Configuration, added: set[str]) -> None:
    """Refuse keys and kinds of values that a choice's file does not have, whoever gave them."""
    for key in configuration:
        if key not in menu and key not in added:
            raise UserError(f"No key {key!r}{near(key, menu)}. There are: {', '.join(menu)}.")
    check_kind("seed", configuration["seed"], menu["seed"])
    for group in MAPPINGS:
        if not isinstance(configuration[group], dict):
            raise UserError(f"{group} is {configuration[group]!r}; it must be a mapping, such as {menu[group]}.")
        if group in TUNED and not isinstance(configuration[group].get("_target_"), str):
            choice = configuration[group]["name"]
            raise UserError(f"conf/{group}/{choice}.yaml has no _target_, the dotted path of what its values are for.")
        given = {key: value for key, value in configuration[group].items() if f"{group}.{key}" not in added}
        check_keys(group, menu, list(given))
        for key, value in given.items():
            check_kind(f"{group}.{key}", value, menu[group][key])


def check_keys(group: str, menu: Configuration, given: Sequence[str]) -> None:
    """Refuse keys that the choice of a group does not have.

    Raises:
        UserError: names the near ones, and all there are.
    """
    allowed = [key for key in menu[group] if key not in LABELS]
    name = menu[group].get("name")
    chosen, file = (f"{group}={name}", f"conf/{group}/{name}.yaml") if name else (group, "conf/config.yaml")
    for key in given:
        if key not in menu[group]:
            raise UserError(
                f"{chosen} has no key {key!r}{near(key, allowed)}. It has: {', '.join(allowed) or 'none'} ({file})."
            )
