"""A search space as the unit cube: one coordinate per parameter, on its scale if it has one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from hypermap.core.typing import Floats
from hypermap.search.counter_samplers import count, from_unit, member, to_unit
from hypermap.search.scaled_sampler import image, nearest
from hypermap.search.scales import Scale
from hypermap.search.space import Condition

Numerical = FloatDistribution | IntDistribution

FEW = 4096  # an interval with at most this many members is searched as a finite set
ABSENT = 0.5  # the coordinate of a parameter that a trial does not have


@dataclass(frozen=True)
class Coordinate:
    """A parameter's values as numbers from 0 to 1, on its search scale."""

    natural: BaseDistribution
    bijection: Scale | None = None

    @cached_property
    def image(self) -> BaseDistribution:
        """The image of the natural distribution under the scale."""
        if self.bijection is None or self.choices is not None:
            return self.natural
        return image(self.bijection, cast(Numerical, self.natural))

    @property
    def choices(self) -> int | None:
        """The number of categories; None for an interval."""
        return len(self.natural.choices) if isinstance(self.natural, CategoricalDistribution) else None

    @cached_property
    def members(self) -> Floats | None:
        """The coordinates of the values, if there are few of them."""
        if self.choices is not None:
            return (np.arange(self.choices) + 0.5) / self.choices
        searched, natural = cast(Numerical, self.image), cast(Numerical, self.natural)
        d = natural if searched.step is None else searched  # the image of powers of two has its own members
        if d.step is None or count(d) > FEW:
            return None
        values = [member(d, i) for i in range(count(d))]
        return np.unique([to_unit(d, value) if d is searched else self.unit(value) for value in values])

    def value(self, u: float) -> Any:
        """Return the natural value at a coordinate."""
        value = from_unit(self.image, u)
        if self.image is self.natural:
            return value
        assert self.bijection is not None
        return nearest(cast(Numerical, self.natural), self.bijection.inverse(value))

    def unit(self, value: Any) -> float:
        """Return the coordinate of a natural value."""
        if isinstance(self.natural, CategoricalDistribution):
            return (self.natural.to_internal_repr(value) + 0.5) / len(self.natural.choices)
        mapped = value if self.image is self.natural else cast(Scale, self.bijection).forward(value)
        return min(max(to_unit(cast(Numerical, self.image), mapped), 0.0), 1.0)


class Cube:
    """The cube of a space; conditional parameters are coordinates as well, idle where they do not apply.

    Args:
        distributions: natural ones, by name, in the order of the coordinates.
        mappings: scales by name.
        conditions: by name, for each conditional parameter; the parameter that it depends on comes first.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        mappings: Mapping[str, Scale],
        conditions: Mapping[str, Sequence[Condition]] | None = None,
    ) -> None:
        self.coordinates = {name: Coordinate(d, mappings.get(name)) for name, d in distributions.items()}
        self.conditions = dict(conditions or {})
        self._points: dict[int, tuple[int, Floats]] = {}  # by trial id, with the number of parameters at that time
        sizes = [coordinate.choices or 1 for coordinate in self.coordinates.values()]
        self.groups: NDArray[np.intp] = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self.coordinates)

    def params(self, point: Floats) -> dict[str, Any]:
        """Return natural values at a point ``(d,)``, by name."""
        return {name: c.value(float(u)) for (name, c), u in zip(self.coordinates.items(), point, strict=True)}

    def point(self, params: Mapping[str, Any]) -> Floats:
        """Return the point of natural values ``(d,)``."""
        return np.array([c.unit(params[n]) if n in params else ABSENT for n, c in self.coordinates.items()])

    def filled(self, params: Mapping[str, Any]) -> Floats:
        """Return the point of these values ``(d,)``; missing ones are the middle, or the first category."""
        middle = {
            name: c.natural.choices[0] if isinstance(c.natural, CategoricalDistribution) else c.value(0.5)
            for name, c in self.coordinates.items()
        }
        return self.point(middle | dict(params))

    def points(self, trials: Sequence[FrozenTrial]) -> Floats:
        """Return the trials' points ``(n, d)``."""
        rows = []
        for trial in trials:
            found = self._points.get(trial._trial_id)
            if found is None or found[0] != len(trial.params):
                found = self._points[trial._trial_id] = (len(trial.params), self.point(trial.params))
            rows.append(found[1])
        return np.array(rows, dtype=float).reshape(len(trials), len(self))

    def snapped(self, points: Floats) -> Floats:
        """Return the points of actual values: finite sets have few coordinates, idle parameters a single one."""
        points = points.copy()
        for column, coordinate in enumerate(self.coordinates.values()):
            if (members := coordinate.members) is not None:
                edges = (members[1:] + members[:-1]) / 2
                points[:, column] = members[np.searchsorted(edges, points[:, column])]
        for idle, column in self._idle(points):
            points[idle, column] = ABSENT
        return points

    @cached_property
    def _allowed(self) -> dict[str, list[tuple[str, NDArray[np.bool_]]]]:
        """Return for each conditional parameter the parameters that it depends on, and the values that enable it."""
        allowed: dict[str, list[tuple[str, NDArray[np.bool_]]]] = {}
        for name, conditions in self.conditions.items():
            for condition in conditions:
                chooser = self.coordinates[condition.group].natural
                assert isinstance(chooser, CategoricalDistribution)
                has = np.array([one in condition.choices for one in chooser.choices], dtype=bool)
                allowed.setdefault(name, []).append((condition.group, has))
        return allowed

    def _idle(self, points: Floats) -> Iterator[tuple[NDArray[np.bool_], int]]:
        """Yield a mask of the points that leave a parameter idle, and its column."""
        if not self.conditions:
            return
        columns = {name: column for column, name in enumerate(self.coordinates)}
        applies: dict[str, NDArray[np.bool_]] = {}
        for name, column in columns.items():
            applies[name] = np.ones(len(points), dtype=bool)
            for group, allowed in self._allowed.get(name, ()):
                chosen = (points[:, columns[group]] * len(allowed)).astype(int)
                applies[name] &= applies[group] & allowed[chosen]
            if name in self.conditions:
                yield ~applies[name], column

    def features(self, points: Floats) -> Floats:
        """Return features for a model's distances ``(n, f)``: all categories are equally far from each other."""
        columns = []
        for column, coordinate in enumerate(self.coordinates.values()):
            u = points[:, column, None]
            if (choices := coordinate.choices) is not None:
                u = (np.minimum(np.floor(u * choices), choices - 1) == np.arange(choices)) / math.sqrt(2)
            columns.append(u)
        return np.concatenate(columns, axis=1)
