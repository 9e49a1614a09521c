"""Expands the candidates of an AutoML, written as on the command line, into configurations."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hypermap.config.compose import defaults_of
from hypermap.config.groups import TUNED, Configuration, check_keys, check_option, groups
from hypermap.config.overrides import is_sweep, parse_overrides, written
from hypermap.config.rules import validate
from hypermap.core.errors import UserError
from hypermap.core.paths import CONF

AUTOML = "automl"
AUTOML_ROOMS = ("automl", "search", "sweeps")  # of the package, that only an AutoML trains with
TRAINED = tuple(group for group in TUNED if group not in ("data", "validation", AUTOML))
"""The groups that a candidate may choose."""
PREPROCESSING = (
    "missing", "fill", "missing_indicator", "missing_categories", "scaling", "categories", "rare", "max_categories",
    "pca", "arithmetic",
)  # fmt: skip
"""The keys of ``data`` that a candidate may set (the fields of `hypermap.data.preparation.Settings`)."""


def chosen(configuration: Mapping[str, Any]) -> bool:
    """Return whether a configuration asks for an AutoML, rather than for one training."""
    return bool(configuration.get(AUTOML, {}).get("name", "none") != "none")


def expanded(configuration: Configuration) -> Configuration:
    """Return the AutoML's group with everything that its training depends on, in place of what names it.

    Of its ``portfolio``, ``candidates`` have each candidate's groups, where they differ from the configuration's, and
    its settings of ``data``; of its ``space``, the file of that name in conf/space/, the parameters of the models that
    are searched.

    Raises:
        UserError: the data is no table; an entry names an option or a key that conf/ does not have, or its values are
            out of range.
    """
    data = configuration["data"]
    if "categories" not in data:
        raise UserError(f"automl is for tables, and data={data['name']} is none. Train one model: automl=none.")
    settings = {key: value for key, value in configuration[AUTOML].items() if key != "portfolio"}
    entries = [_candidate(configuration, text) for text in configuration[AUTOML]["portfolio"]]
    return {**settings, "candidates": entries, "space": _space(settings, configuration)}


def _candidate(configuration: Configuration, text: str) -> Configuration:
    where = f"automl.portfolio: {text}"
    parsed, known = parse_overrides(shlex.split(text)), groups()
    own: Configuration = {group: configuration[group] for group in (*TRAINED, "data")}
    for override in parsed:
        if override.key_or_group in TRAINED:
            option = str(override.value())
            check_option(override.key_or_group, option, known, where)
            own[override.key_or_group] = defaults_of({override.key_or_group: option})[override.key_or_group]
    for override in parsed:
        group, _, key = override.key_or_group.partition(".")
        if not key and group in TRAINED:
            continue
        allowed = key in PREPROCESSING if group == "data" else group in own
        if not allowed or not key or is_sweep(override.value()):
            raise UserError(
                f"{where}: {override.input_line}: a candidate may set, each to one value: {', '.join(TRAINED)}, their "
                f"keys, and of data: {', '.join(PREPROCESSING)}."
            )
        check_keys(group, own, [key.split(".")[0]])
        own[group] = with_values({group: own[group]}, {override.key_or_group: override.value()})[group]
    try:
        validate({**configuration, **own})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    data = {key: value for key, value in own.pop("data").items() if value != configuration["data"].get(key)}
    return {"says": text, **{key: value for key, value in own.items() if value != configuration[key]}, "data": data}


def entry_of(candidate: Configuration, configuration: Configuration) -> str:
    """Return a candidate's model, and how it differs from a configuration besides, as an entry of ``automl.portfolio``.

    Raises:
        UserError: it differs in something that a candidate may not set.
    """
    data, shared = candidate["data"], configuration["data"]
    if forbidden := [key for key in data if key not in PREPROCESSING and data[key] != shared.get(key)]:
        raise UserError(
            f"data.{forbidden[0]} is not the same in all of these trials, and an ensemble's members need the same "
            "rows. Promote one trial, or search without it."
        )
    words = []
    for group in (*TRAINED, "data"):
        own, base = candidate[group], configuration[group]
        if group == "model" or own["name"] != base["name"]:
            words.append(f"{group}={own['name']}")
            base = defaults_of({group: own["name"]})[group]
        words += [f"{group}.{key}={written(own[key])}" for key in own if key not in base or own[key] != base[key]]
    return shlex.join(words)


def _space(settings: Mapping[str, Any], configuration: Configuration) -> dict[str, dict[str, dict[str, str]]]:
    """Return the searched models' parameters, and those of the optimizer in use: ``{group: {option: {key: range}}}``.

    Raises:
        UserError: there is no such file.
    """
    name = settings["space"]
    if not settings["search"]:
        return {}
    if name not in (names := groups()["space"]):
        raise UserError(f"automl.space is {name!r}; conf/space/ has: {', '.join(names)}.")
    whole: Any = OmegaConf.to_container(OmegaConf.load(CONF / "space" / f"{name}.yaml"))
    wanted: dict[str, Sequence[str]] = {"model": settings["search"], "optimizer": [configuration["optimizer"]["name"]]}
    return {group: {one: whole.get(group, {}).get(one) or {} for one in names} for group, names in wanted.items()}


def with_values(configuration: Mapping[str, Any], values: Mapping[str, Any]) -> Configuration:
    """Return a configuration with values set at dotted keys, such as ``optimizer.betas.0``.

    Raises:
        UserError: it does not have a key.
    """
    config = OmegaConf.create(dict(configuration))
    OmegaConf.set_struct(config, True)
    for key, value in values.items():
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as error:
            raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from None
    changed: Any = OmegaConf.to_container(config)
    return {str(key): value for key, value in changed.items()}
