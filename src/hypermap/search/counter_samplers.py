"""Samplers that are pure functions of the study's seed and the trial's number, without state.

So a sweep that was killed resumes exactly where it was, and no two workers propose the same point by chance.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hypermap.core.errors import UserError, near

ROUNDS = 8  # of the permutation; four are enough if the halves are wide, small grids need more


class Separate(BaseSampler):
    """A sampler that draws each parameter by itself."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return an empty space: nothing is drawn together."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return an empty space: nothing is drawn together."""
        return {}


class Numbered(Separate):
    """A sampler whose proposals depend only on the trial's number, the parameter's name and its distribution."""

    @abstractmethod
    def propose(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return the value of a parameter in the trial of this number."""

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the result of `propose` for the trial's number."""
        return self.propose(trial.number, param_name, param_distribution)


class Random(Numbered):
    """Independent draws, each from its own generator, seeded by the seed, the number and the parameter's name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def propose(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return a uniform draw from the distribution."""
        generator = np.random.default_rng([self.seed, number, digest(name)])
        return from_unit(distribution, generator.random())


class QuasiRandom(Numbered):
    """The points of a scrambled Sobol sequence (Owen 1998; Joe and Kuo 2008), indexed by the trial's number.

    Each parameter has its own dimension, conditional ones too: `names` are all that may occur, in a fixed order.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.dimensions = {name: dimension for dimension, name in enumerate(names)}
        self.seed = seed

    def propose(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return the value at the point's coordinate.

        Raises:
            UserError: the parameter is not one of the names.
        """
        if name not in self.dimensions:
            raise UserError(f"{name} has no dimension of the quasi-random points{near(name, self.dimensions)}.")
        point = sobol(len(self.dimensions), self.seed, number)
        return from_unit(distribution, point[self.dimensions[name]])


class Listed(Numbered):
    """Listed rows of values, indexed by the trial's number."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows

    def propose(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return the parameter's value in the trial's row.

        Raises:
            UserError: there is no such row, or the row has no such parameter.
        """
        if number >= len(self.rows):
            raise UserError(f"trial {number} is beyond the rows, of which there are {len(self.rows)}.")
        if name not in (row := self.rows[number]):
            raise UserError(f"row {number} has no {name}{near(name, row)}; it has: {', '.join(row)}.")
        return row[name]


class _Cells(Numbered):
    """A sampler of the cells of a grid: one value of each parameter, in the order of `itertools.product`."""

    natural = True  # the values are proposed as they are; a parameter's scale does not apply

    def __init__(self, space: Mapping[str, Sequence[Any]]) -> None:
        for name, values in space.items():
            if not len(values):
                raise UserError(f"{name}: a grid needs at least one value.")
        self.space = dict(space)
        self.size = math.prod(len(values) for values in self.space.values())

    @abstractmethod
    def cell(self, number: int) -> int:
        """Return the index of the cell that is the trial's."""

    def propose(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return the parameter's value in the trial's cell.

        Raises:
            UserError: the grid has no such cell, or no values for the parameter.
        """
        if number >= self.size:
            raise UserError(f"trial {number} is beyond the grid, which has {self.size} cells: lower the trials to it.")
        if name not in self.space:
            raise UserError(
                f"the grid has no values for {name}{near(name, self.space)}; it has: {', '.join(self.space)}."
            )
        index = self.cell(number)
        for other in reversed(self.space):
            index, digit = divmod(index, len(self.space[other]))
            if other == name:
                break
        return self.space[name][digit]


class Grid(_Cells):
    """Each cell of a grid once: the trial's number is the cell's index, the last parameter changes fastest."""

    def cell(self, number: int) -> int:
        """Return the number itself."""
        return number


class RandomGrid(_Cells):
    """Each cell of a grid once, in a seeded random order; no cell is stored, so a grid may have any size."""

    def __init__(self, space: Mapping[str, Sequence[Any]], seed: int) -> None:
        super().__init__(space)
        self.seed = seed

    def cell(self, number: int) -> int:
        """Return the image of the number under a permutation of the cells."""
        return permuted(number, self.size, self.seed)


def cells(distributions: Mapping[str, BaseDistribution]) -> dict[str, Sequence[Any]]:
    """Return the grid values of each distribution: categories, or the members of an interval with a step.

    Raises:
        UserError: for intervals without a step, naming each.
    """
    mistakes = [
        f"{name}: a grid needs values, not an interval: write {name}={d.low:g},{d.high:g} or "
        f"{name}=range({d.low:g},{d.high:g},STEP)."
        for name, d in distributions.items()
        if isinstance(d, FloatDistribution) and d.step is None and not d.single()
    ]
    if mistakes:
        raise UserError("\n       ".join(mistakes))
    return {name: _members(distribution) for name, distribution in distributions.items()}


def from_unit(distribution: BaseDistribution, u: float) -> Any:
    """Return the value at a coordinate from 0 to 1; the members of a finite set get equal shares.

    On a logarithmic interval of integers the shares are those of the members' cells on the log scale.
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[_share(u, len(distribution.choices))]
    if isinstance(distribution, IntDistribution) and distribution.log:
        low, high = _log_ends(distribution)
        return min(max(round(math.exp(low + u * (high - low))), distribution.low), distribution.high)
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        low, high = _ends(distribution)
        x = low + u * (high - low)
        return min(max(math.exp(x) if distribution.log else x, distribution.low), distribution.high)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return member(distribution, _share(u, count(distribution)))


def to_unit(distribution: FloatDistribution | IntDistribution, value: float) -> float:
    """Return the coordinate of a value, from 0 to 1: the inverse of `from_unit`, or the middle of a member's share."""
    if distribution.single():
        return 0.5
    if isinstance(distribution, IntDistribution) and distribution.log:
        low, high = _log_ends(distribution)
        return (math.log(value) - low) / (high - low)
    if distribution.step is None:
        low, high = _ends(distribution)
        return ((math.log(value) if distribution.log else value) - low) / (high - low)
    return (round((value - distribution.low) / distribution.step) + 0.5) / count(distribution)


def count(distribution: FloatDistribution | IntDistribution) -> int:
    """Return the number of members of an interval with a step."""
    if distribution.single():
        return 1
    assert distribution.step is not None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def member(distribution: FloatDistribution | IntDistribution, index: int) -> float:
    """Return a member of an interval with a step, rounded as one would write it: 0.3, not 0.30000000000000004."""
    if isinstance(distribution, IntDistribution):
        return distribution.low + index * distribution.step
    return float(Decimal(str(distribution.low)) + index * Decimal(str(distribution.step or 0)))


def permuted(number: int, size: int, seed: int) -> int:
    """Return the image of `number` under a permutation of range(size), in constant memory.

    A Feistel network over the next power of four, walked along its cycle until it is back in the range
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max(1, -(-(size - 1).bit_length() // 2))  # bits
    while True:
        number = _feistel(number, half, seed)
        if number < size:
            return number


def digest(*words: object) -> int:
    """Return a 64-bit number that depends only on the words, the same on every machine and in every process."""
    return int.from_bytes(blake2b(repr(words).encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=64)
def sobol(dimensions: int, seed: int, number: int) -> tuple[float, ...]:
    """Return point `number` of a scrambled Sobol sequence in the unit cube."""
    from scipy.stats import qmc  # slow to import, and only this needs it

    engine = qmc.Sobol(dimensions, scramble=True, rng=seed)
    if number > 0:
        engine.fast_forward(number)
    return tuple(engine.random(1)[0].tolist())


def _feistel(number: int, half: int, seed: int) -> int:
    mask = (1 << half) - 1
    left, right = number >> half, number & mask
    for turn in range(ROUNDS):
        left, right = right, left ^ (_scrambled(seed, turn, right) & mask)
    return left << half | right


def _scrambled(seed: int, turn: int, half: int) -> int:
    return digest(seed, turn, half)


def _share(u: float, parts: int) -> int:
    return min(int(u * parts), parts - 1)


def _ends(distribution: FloatDistribution) -> tuple[float, float]:
    if distribution.log:
        return math.log(distribution.low), math.log(distribution.high)
    return distribution.low, distribution.high


def _log_ends(distribution: IntDistribution) -> tuple[float, float]:
    return math.log(distribution.low - 0.5), math.log(distribution.high + 0.5)


def _members(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    assert isinstance(distribution, FloatDistribution)
    return [member(distribution, index) for index in range(count(distribution))]
