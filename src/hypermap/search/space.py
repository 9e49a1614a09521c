"""The search space of a study: its parameters, when each applies, and the values of a trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hypermap.core.errors import UserError
from hypermap.search.scales import Scale


@dataclass(frozen=True)
class Condition:
    """A parameter applies if the option of a group is one of these."""

    group: str  # the name of the parameter that selects the option
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One searched hyperparameter, in natural values.

    Attributes:
        name: its unique name in the study: ``optimizer.lr``, or ``optimizer.sgd.lr`` if each optimizer has its own
            range and the optimizer is searched too.
        key: of its value in the configuration.
        expression: as written, for the study's record.
        listed: whether its values were listed, or given by a range: as in a grid.
        mapping: its scale, if Optuna does not have it built in.
        conditions: all must hold for a trial to have it.
        added: whether the configuration does not have the key (``+key=…``).
    """

    name: str
    key: str
    expression: str
    distribution: BaseDistribution
    listed: bool = True
    mapping: Scale | None = None
    conditions: tuple[Condition, ...] = ()
    added: bool = False


class Suggests(Protocol):
    """What a space needs from Optuna's trial."""

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any: ...


@dataclass(frozen=True)
class Space:
    """The parameters of a study in the order of drawing: options before the parameters that depend on them."""

    parameters: tuple[Parameter, ...] = ()
    mappings: dict[str, Scale] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.parameters, key=lambda parameter: bool(parameter.conditions))
        object.__setattr__(self, "parameters", tuple(ordered))
        mappings = {p.name: p.mapping for p in self.parameters if p.mapping is not None}
        object.__setattr__(self, "mappings", mappings)

    @property
    def names(self) -> list[str]:
        """The names of all parameters."""
        return [parameter.name for parameter in self.parameters]

    @property
    def conditional(self) -> bool:
        """Whether some parameters apply only to some options."""
        return any(parameter.conditions for parameter in self.parameters)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Return a value for each parameter that applies, by its key in the configuration."""
        drawn: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if all(drawn.get(condition.group) in condition.choices for condition in parameter.conditions):
                value = trial._suggest(parameter.name, parameter.distribution)
                drawn[parameter.name] = values[parameter.key] = value
        return values

    def values_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's values by configuration key; names drawn by a custom search space are keys."""
        keys = {parameter.name: parameter.key for parameter in self.parameters}
        return {keys.get(name, name): value for name, value in params.items()}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distributions, by name."""
        return {parameter.name: parameter.distribution for parameter in self.parameters}

    def record(self) -> dict[str, Any]:
        """Return the record of the space in the study, for its report and to compare it when the study is resumed."""
        return {
            parameter.name: {
                "key": parameter.key,
                "space": parameter.expression,
                "mapping": None if parameter.mapping is None else parameter.mapping.name,
                "where": {condition.group: list(condition.choices) for condition in parameter.conditions},
            }
            for parameter in self.parameters
        }


def interval(key: str, low: float, high: float, *, log: bool, bijection: Scale | None) -> BaseDistribution:
    """Return the distribution of an interval, with integers if both bounds are.

    Raises:
        UserError: the bounds are not in order, or have no logarithm.
    """
    if not low < high:
        raise UserError(f"{key}: interval({low}, {high}) is empty; write the lower bound first.")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{key}: interval({low}, {high}) has no end; bounds are finite numbers.")
    if log and low <= 0:
        raise UserError(
            f"{key}: a logarithmic interval starts above 0, and this one at {low:g}. Give a small lower bound, such as "
            f"{high / 1e4:g}, or search it as it is: interval({low:g}, {high:g})."
        )
    if isinstance(low, int) and isinstance(high, int):
        if bijection is not None and bijection.name == "pow2" and 1 << (high.bit_length() - 1) < low:
            raise UserError(f"{key}: no power of two lies from {low} to {high}, as pow2 needs; widen the interval.")
        # The axis scale for dashboards; the search uses the bijection.
        return IntDistribution(low, high, log=log or (bijection is not None and bijection.name == "pow2"))
    return FloatDistribution(low, high, log=log)
