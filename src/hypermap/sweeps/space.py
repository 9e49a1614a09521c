"""Builds a `Space` from overrides, a space file and ``hydra.sweeper.params``, in Hydra's sweep grammar."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from optuna.distributions import BaseDistribution

from hypermap.config.overrides import parse_override, parse_overrides
from hypermap.core.errors import UserError, near
from hypermap.search.scales import NAMES, mapping
from hypermap.search.space import Condition, Parameter, Space, interval


@dataclass(frozen=True)
class ConfigGroups:
    """What the reader needs to know about the configuration."""

    choices: Callable[[str], Sequence[str]]  # the options of a group, empty if it is not a group
    has: Callable[[str, str, str], bool]  # whether an option of a group has a key
    chosen: Mapping[str, str]  # the baseline's option of each group
    ignored_groups: Callable[[str, str], Collection[str]] = lambda group, option: ()
    loader: ConfigLoader | None = None  # resolves what a ``glob(…)`` matches


def read_space(
    overrides: Sequence[str], params: Mapping[str, str], space: Mapping[str, Any], groups: ConfigGroups
) -> tuple[Space, list[str]]:
    """Return the space, and the overrides that are equal for all trials.

    The command line overrides ``hydra.sweeper.params``, and both override the space file.

    Raises:
        UserError: an invalid expression, an empty range, a tag that is not a scale, or a parameter that no option has.
    """
    written = {_bare(name): f"{name}={value}" for name, value in params.items()}
    parsed = {key: parse_override(text) for key, text in written.items()}
    given = parse_overrides(overrides, groups.loader)
    parsed |= {_key(override): override for override in given}
    fixed = [str(o.input_line) for o in given if not o.is_sweep_override()]
    fixed += [
        str(o.input_line) for k, o in parsed.items() if k in written and o not in given and not o.is_sweep_override()
    ]
    swept = {key: _parameter(override) for key, override in parsed.items() if override.is_sweep_override()}
    _add_file(swept, parsed, space, groups)
    return Space(tuple(_conditioned(parameter, swept, groups) for parameter in swept.values())), fixed


def _add_file(
    swept: dict[str, Parameter], parsed: Mapping[str, Override], space: Mapping[str, Any], groups: ConfigGroups
) -> None:
    """Add the entries of a space file, ``{group: {option: {key: expression}}}``, for the options in use."""
    for group, by_choice in space.items():
        if not groups.choices(group):
            raise UserError(f"space: no group {group!r}{near(group, groups.chosen)}.")
        if not isinstance(by_choice, Mapping) or not all(isinstance(p or {}, Mapping) for p in by_choice.values()):
            raise UserError(
                f"space: {group} must map choices to their parameters, as in {{adam: {{lr: interval(…)}}}}."
            )
        several = group in swept
        in_use, only = _choices(group, swept, groups), _only_under(group, swept, groups)
        if not all(condition.choices for condition in only):
            continue
        for option, parameters in by_choice.items():
            if option not in (known := groups.choices(group)):
                raise UserError(
                    f"space: {group} has no option {option!r}{near(option, known)}. There are: {', '.join(known)}."
                )
            for key, expression in (parameters or {}).items() if option in in_use else ():
                path = f"{group}.{key}"
                if path in parsed:
                    continue
                parameter = _parameter(parse_override(f"{path}={expression}"))
                if several:
                    name = f"{group}.{option}.{key}"
                    swept[name] = replace(parameter, name=name, conditions=(Condition(group, (option,)), *only))
                else:
                    swept[path] = replace(parameter, conditions=only)


def _choices(group: str, swept: Mapping[str, Parameter], groups: ConfigGroups) -> tuple[str, ...]:
    """Return the options of a group that a trial may have."""
    if group in swept:
        return tuple(str(option) for option in swept[group].distribution.choices)  # type: ignore[attr-defined]
    return (groups.chosen[group],) if group in groups.chosen else ()


def _only_under(group: str, swept: Mapping[str, Parameter], groups: ConfigGroups) -> tuple[Condition, ...]:
    """Return conditions on other groups, if a group applies only under some of their options."""
    conditions = []
    for other in groups.chosen:
        choices = _choices(other, swept, groups)
        having = tuple(option for option in choices if group not in groups.ignored_groups(other, option))
        if having != choices:
            conditions.append(Condition(other, having))
    return tuple(conditions)


def _conditioned(parameter: Parameter, swept: Mapping[str, Parameter], groups: ConfigGroups) -> Parameter:
    """Return the parameter, restricted to the options that have it if its group is searched too."""
    group, _, key = parameter.key.partition(".")
    if parameter.conditions or not key or group not in swept or not groups.choices(group):
        return parameter
    choices = _choices(group, swept, groups)
    having = tuple(option for option in choices if groups.has(group, option, key))
    if not having:
        raise UserError(f"{parameter.key}: none of the choices {', '.join(choices)} has a key {key!r}.")
    return parameter if having == choices else replace(parameter, conditions=(Condition(group, having),))


def _parameter(override: Override) -> Parameter:
    """Return the parameter of an override."""
    key, line = _key(override), str(override.input_line)
    expression = line.partition("=")[2]
    value = override.value()
    if not isinstance(value, IntervalSweep):
        if getattr(value, "tags", None):
            raise UserError(f"{line}: a tag says how an interval is searched; values given one by one need none.")
        return Parameter(
            key, key, expression, _distribution(override), added=override.is_add() or override.is_force_add()
        )
    low, high, tags = value.start, value.end, sorted(value.tags)
    assert low is not None
    assert high is not None
    if len(tags) > 1:
        raise UserError(f"{line}: {' and '.join(tags)} are two mappings; give one.")
    name = tags[0] if tags else ""
    if name and "." not in name and name not in NAMES:
        raise UserError(
            f"{line}: no mapping {name!r}{near(name, NAMES)}. There are: {', '.join(NAMES)}, or the dotted path "
            "of your own, in quotes."
        )
    if name == "pow2":
        low, high = (int(bound) if float(bound).is_integer() else bound for bound in (low, high))
    plain = name in ("", "log", "identity")  # Optuna's own
    if low < high and not plain:
        try:
            bijection = mapping(name, low, high)
        except UserError as error:
            raise UserError(f"{line}: {error}") from None
    else:
        bijection = None
    distribution = interval(key, low, high, log=name == "log", bijection=bijection)
    return Parameter(
        key, key, expression, distribution, False, bijection, added=override.is_add() or override.is_force_add()
    )


def _distribution(override: Override) -> BaseDistribution:
    try:
        made: BaseDistribution = create_optuna_distribution_from_override(override)
    except (ValueError, AssertionError, NotImplementedError, HydraException) as error:
        raise UserError(f"{override.input_line}: {error}") from None
    if not getattr(made, "choices", True):
        raise UserError(f"{override.input_line}: an empty list of values; give one at least.")
    return made


def _key(override: Override) -> str:
    return _bare(str(override.get_key_element()))


def _bare(key: str) -> str:
    return key.lstrip("+")
