"""Scales: bijections from a hyperparameter to a space in which it is easy to search, and back by the inverse.

A learning rate is searched by its logarithm, a dropout rate by its logit, a momentum by its distance from 1. This
module is imported at every start, so it uses only the standard library.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypermap.core.errors import UserError, near
from hypermap.core.instantiate import instantiate, locate

Function = Callable[[float], float]

TOLERANCE = 1e-9  # relative tolerance for inverse(forward(x)) == x
_LOG_10 = math.log(10)


@dataclass(frozen=True)
class Scale:
    """A strictly increasing function of a parameter on [low, high], and its inverse.

    Values outside the bounds are clipped to the bounds, in both directions; so `inverse` never leaves [low, high], and
    the images of the bounds are mapped back to exactly the bounds.
    """

    name: str
    low: float
    high: float
    to_image: Function
    from_image: Function

    def forward(self, x: float) -> float:
        """Return the image of a natural value."""
        return self.to_image(_clip(x, self.low, self.high))

    def inverse(self, y: float) -> float:
        """Return the natural value with the image `y`."""
        if y <= self.to_image(self.low):
            return self.low
        if y >= self.to_image(self.high):
            return self.high
        return _clip(self.from_image(y), self.low, self.high)


@dataclass(frozen=True)
class _KnownScale:
    """A pair of functions and the intervals that it may be used on, as a test and in words."""

    forward: Function
    inverse: Function
    allows: Callable[[float, float], bool]
    needs: str


def mapping(name: str, low: float, high: float) -> Scale:
    """Return the scale of this name, or of a dotted path such as ``mymodule.Cube``, on [low, high].

    A dotted path names a class or an object with ``forward(x)`` and ``inverse(y)``, both from float to float.

    Raises:
        UserError: the name is unknown; the interval is empty, not finite, or outside the scale's domain; or a user's
            scale is not finite, not increasing or not inverted correctly, with the point in the message.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise UserError(f"{name} needs finite bounds, the lower first; given {low!r} and {high!r}.")
    if "." in name:
        found = Scale(name, low, high, *_own(name))
        _check(found)
        return found
    if name not in _BIJECTIONS:
        raise UserError(
            f"no mapping {name!r}{near(name, NAMES)}; there are {', '.join(NAMES)}, and the dotted path of your own."
        )
    bijection = _BIJECTIONS[name]
    if not bijection.allows(low, high):
        raise UserError(f"{name} needs {bijection.needs}; given {low!r} and {high!r}.")
    return Scale(name, low, high, bijection.forward, bijection.inverse)


def _clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def _same(x: float) -> float:
    return x


def _logit(x: float) -> float:
    return math.log(x) - math.log1p(-x)


def _expit(y: float) -> float:
    if y < 0:  # exp of a large number would overflow
        return math.exp(y) / (1 + math.exp(y))
    return 1 / (1 + math.exp(-y))


def _one_minus_log(x: float) -> float:
    return -math.log1p(-x) / _LOG_10


def _one_minus_exp(y: float) -> float:
    return -math.expm1(-y * _LOG_10)


def _square(y: float) -> float:
    return y * y


def _symlog(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


def _symexp(y: float) -> float:
    return math.copysign(math.expm1(abs(y)), y)


def _anywhere(low: float, high: float) -> bool:
    return True


def _above_0(low: float, high: float) -> bool:
    return low > 0


def _from_0(low: float, high: float) -> bool:
    return low >= 0


def _below_1(low: float, high: float) -> bool:
    return high < 1


def _between_0_and_1(low: float, high: float) -> bool:
    return low > 0 and high < 1


_BIJECTIONS = {
    "identity": _KnownScale(_same, _same, _anywhere, ""),
    "log": _KnownScale(math.log, math.exp, _above_0, "low above 0"),
    "logit": _KnownScale(_logit, _expit, _between_0_and_1, "low above 0 and high below 1"),
    "one_minus_log": _KnownScale(_one_minus_log, _one_minus_exp, _below_1, "high below 1"),
    "pow2": _KnownScale(math.log2, math.exp2, _above_0, "low above 0"),
    "sqrt": _KnownScale(math.sqrt, _square, _from_0, "low of at least 0"),
    "symlog": _KnownScale(_symlog, _symexp, _anywhere, ""),
}
NAMES = tuple(_BIJECTIONS)


def _own(path: str) -> tuple[Function, Function]:
    """Return the object at a dotted path as two functions; a class is instantiated without arguments."""
    forward, inverse = locate(f"{path}.forward"), locate(f"{path}.inverse")
    if not _is_class(path):
        return forward, inverse
    made = instantiate({"_target_": path})
    return made.forward, made.inverse


def _is_class(path: str) -> bool:
    try:
        return inspect.isclass(locate(path))
    except UserError:  # an object that is not callable
        return False


def _check(found: Scale) -> None:
    """Check a user's scale at the bounds of its interval and at points in between."""
    points = _points(found.low, found.high)
    images = [_image(found, x) for x in points]
    for (x, y), (next_x, next_y) in pairwise(zip(points, images, strict=True)):
        if not y < next_y:
            raise UserError(
                f"mapping {found.name} must increase strictly; forward({x!r}) is {y!r}, forward({next_x!r}) {next_y!r}."
            )
    for x, y in zip(points, images, strict=True):
        back = _number(found, "inverse", found.from_image, y)
        if not math.isclose(back, x, rel_tol=TOLERANCE, abs_tol=1e-12 * (found.high - found.low)):
            raise UserError(f"mapping {found.name} does not invert itself: inverse(forward({x!r})) is {back!r}.")


def _points(low: float, high: float) -> list[float]:
    shares = sorted({k / 16 for k in range(17)} | {0.001, 0.01, 0.99, 0.999})
    return sorted({_clip(low + share * (high - low), low, high) for share in shares} | {low, high})


def _image(found: Scale, x: float) -> float:
    return _number(found, "forward", found.to_image, x)


def _number(found: Scale, method: str, function: Callable[[float], Any], point: float) -> float:
    """Return the value of a user's function at a point, if it is a finite number."""
    try:
        value = float(function(point))
    except Exception as error:  # user code may raise anything
        raise UserError(f"mapping {found.name}: {method}({point!r}) failed: {error!r}.") from error
    if not math.isfinite(value):
        raise UserError(f"mapping {found.name}: {method}({point!r}) is {value!r}; it must be finite.")
    return value
