"""New ranges for a parameter, in the grammar in which sweeps are written: wider at one end, or cut at it."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

from optuna.distributions import IntDistribution

from hypermap.core.errors import UserError
from hypermap.reports.study.view import Parameter
from hypermap.search.scales import mapping

Side = Literal["low", "high"]

HALF = 0.5  # of a range, on the scale on which it is searched: what an extension adds, and
DECADE = {"log": math.log(10), "logit": math.log(10), "symlog": math.log(10), "one_minus_log": 1.0}  # no more than this
RATES = ("lr", "learning_rate", "max_lr", "base_lr")  # the only usual names within 0 and 1 that may pass 1
SHARES = ("dropout", "momentum", "betas", "beta", "rho", "label_smoothing", "peak_share")  # below 1 on any scale
FROM_0 = (*SHARES, "weight_decay", "l1", "l2", "lr_decay", "gamma", "alpha", "warmup_epochs", "end")  # may be 0
_ENDS = re.compile(r"interval\(([^(),=]+),([^(),=]+)\)")
_STEP = re.compile(r"range\([^(),=]+,[^(),=]+(?:,([^(),=]+))?\)")


def ordered(axis: Parameter) -> tuple[float, ...] | None:
    """Return the choices of a parameter, where they are at least two numbers that rise or fall; else None."""
    values = axis.choices or ()
    if len(values) < 2 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    rising = {later > earlier for earlier, later in pairwise(values)}
    return values if len(rising) == 1 and len(set(values)) == len(values) and all(map(math.isfinite, values)) else None


def edges(axis: Parameter, share: float) -> tuple[float, float] | None:
    """Return how near to its lower and its upper end a value is at the edge, of the whole range; None where it has no
    ends.

    That is a `share` of a range on the scale of the search; of listed numbers and powers of two, the last one alone.
    """
    if axis.is_seed or axis.bounds[0] == axis.bounds[1]:
        return None
    if axis.choices is not None:
        return None if ordered(axis) is None else (0.5 / len(axis.choices),) * 2
    if axis.scale != "pow2":
        return share, share
    low, high = map(axis.image, axis.bounds)
    gaps = math.ceil(low - 1e-9) - low, high - math.floor(high + 1e-9)
    return (gaps[0] + 0.25) / (high - low), (gaps[1] + 0.25) / (high - low)


def limit(axis: Parameter, side: Side) -> str:
    """Return why a parameter is not to go beyond its range at a side, as the end of a sentence; empty where it can.

    Where the parameter's name does not say so, a lower bound of 0 and an upper bound of 1 are taken for limits.
    """
    bound, whole = _bound(axis, side), _whole(axis)
    if side == "low" and bound == 0:
        return "it cannot be below 0" if _last(axis) in FROM_0 or whole else "0 is likely to be its least"
    if side == "low" and whole and bound == 1:
        return "a count cannot be below 1"
    if side == "high" and bound == 1 and not whole and _below_1(axis):
        return "it cannot be above 1" if _last(axis) in SHARES else "1 is likely to be its most"
    return ""


def extended(axis: Parameter, side: Side) -> str | None:
    """Return the range with more room at one side, as one writes it; None where there is none, or the axis has no
    order.

    A range gains half of its width on the scale on which it is searched, at most a decade; listed values gain one
    more, by their own ratio or step. The tag and the other bound stay as they are.
    """
    if limit(axis, side):
        return None
    values = ordered(axis)
    if axis.choices is not None:
        return None if values is None else _longer(axis, values, side)
    low, high = axis.bounds
    if not low < high:
        return None
    try:
        beyond = _beyond(axis, side)
    except (OverflowError, ValueError):  # there is nothing beyond, as numbers go
        return None
    return None if beyond is None else moved(axis, side, beyond)


def moved(axis: Parameter, side: Side, bound: float) -> str | None:
    """Return a range with one bound moved, as one writes it; None where the scale does not allow it."""
    low, high = axis.bounds
    low, high = (bound, high) if side == "low" else (low, bound)
    if not low < high or not _allowed(axis, low, high):
        return None
    step = _step(axis)
    if step is not None:
        return _stepped(low, high, step, side)
    if (match := _ENDS.search(axis.expression)) and _same(match, axis.bounds):  # keeps what else was written
        place = 1 if side == "low" else 2
        return axis.expression[: match.start(place)] + written(bound) + axis.expression[match.end(place) :]
    return _tagged(axis, f"interval({written(low)},{written(high)})")


def without(axis: Parameter, values: Iterable[Any]) -> str | None:
    """Return a list of choices with some left out, as one writes it; None where fewer than two stay."""
    gone = list(values)
    kept = [choice for choice in axis.choices or () if choice not in gone]
    return ",".join(map(typed, kept)) if len(kept) > 1 else None


def between(low: float, high: float) -> float:
    """Return the number with the fewest digits from `low` to `high`, both included."""
    middle = math.copysign(math.sqrt(low * high), low) if low * high > 0 else (low + high) / 2
    for digits in range(1, 17):
        found = [v for x in (middle, low, high) if low <= (v := float(f"{x:.{digits}g}")) <= high]
        if found:
            return found[0]
    return high


def overrides(changes: Iterable[tuple[Parameter, str]]) -> dict[str, str]:
    """Return what to type for new expressions, by key.

    What a space file has for one choice of a group is changed there: on the command line its key would be that of
    every choice.
    """
    typed_as: dict[str, str] = {}
    dotted: dict[str, list[str]] = {}
    for axis, expression in changes:
        if axis.name == axis.key:
            typed_as[axis.key] = expression
            continue
        group = axis.key.partition(".")[0]
        choice, _, key = axis.name.removeprefix(f"{group}.").partition(".")
        if "." in key:  # one key in the file, such as betas.0
            dotted.setdefault(f"space.{group}.{choice}", []).append(f"{key}:{json.dumps(expression)}")
        else:
            typed_as[f"space.{axis.name}"] = json.dumps(expression)
    return typed_as | {key: f"{{{','.join(entries)}}}" for key, entries in dotted.items()}


def written(value: float) -> str:
    """Return a number to its last digit, as short as it can be typed: 0.03, 1e-4, 128."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    mantissa, exponent = f"{Decimal(repr(value)).normalize():e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def typed(value: Any) -> str:
    """Return a choice as Hydra reads it."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return written(value) if isinstance(value, int | float) else str(value)


def _bound(axis: Parameter, side: Side) -> Any:
    """Return the value at a side; of choices that fall, the low side is the last one's."""
    low, high = axis.bounds
    if (ordered(axis) or axis.choices is None) and low > high:
        low, high = high, low
    return low if side == "low" else high


def _whole(axis: Parameter) -> bool:
    return isinstance(axis.distribution, IntDistribution) or all(isinstance(v, int) for v in axis.choices or (0.5,))


def _last(axis: Parameter) -> str:
    """Return the last word of the key that is no index."""
    return next((word for word in reversed(axis.key.split(".")) if not word.isdigit()), axis.key)


def _below_1(axis: Parameter) -> bool:
    """Return whether a parameter within 0 and 1 is by its name or its scale a share."""
    if _last(axis) in SHARES or axis.scale in ("logit", "one_minus_log"):
        return True
    return axis.scale in ("linear", "sqrt", "choices") and _last(axis) not in RATES and _bound(axis, "low") >= 0


def _beyond(axis: Parameter, side: Side) -> float | None:
    """Return a round number beyond a bound by about half of the range."""
    low, high = axis.bounds
    step = _step(axis)
    if step is not None:
        more = step * max(1, round(HALF * (high - low) / step))
        return _exact(low, -more) if side == "low" else _exact(high, more)
    if axis.scale == "pow2":
        return _power(axis, side)
    to_image, from_image = _scale(axis)
    width = to_image(high) - to_image(low)
    gain = min(HALF * width, DECADE.get(axis.scale, math.inf))
    target = from_image(to_image(high) + gain if side == "high" else to_image(low) - gain)
    if isinstance(axis.distribution, IntDistribution):
        target = max(target, high + 1) if side == "high" else min(target, low - 1)
    target = _natural(axis, side, target)

    bound, sign = (high, 1) if side == "high" else (low, -1)
    wanted = sign * (to_image(target) - to_image(bound))

    def fits(value: float) -> bool:
        if not sign * value > sign * bound or not _allowed(axis, min(value, low), max(value, high)):
            return False
        return wanted / 2 <= sign * (to_image(value) - to_image(bound)) <= 1.5 * wanted

    return _rounded(axis, target, fits)


def _natural(axis: Parameter, side: Side, target: float) -> float:
    """Return a bound that is asked for, or the nearest that makes sense: no negative rates, no shares above 1."""
    low, high = axis.bounds
    if side == "high":
        bounded = axis.scale in ("logit", "one_minus_log")  # comes near to 1 and never there
        return min(target, (1 + high) / 2) if high < 1 and _below_1(axis) and not bounded else target
    if isinstance(axis.distribution, IntDistribution) and low > 0:
        return max(target, 1)
    if low < 0 or target > 1e-9 * low:  # what is less is 0 but for rounding
        return target
    return 0.0 if _last(axis) in FROM_0 and axis.scale not in ("log", "logit") else low / 10


def _rounded(axis: Parameter, target: float, fits: Callable[[float], bool]) -> float | None:
    """Return the target with as few digits as fit."""
    whole = isinstance(axis.distribution, IntDistribution)
    for digits in range(1, 17):
        value = float(f"{target:.{digits}g}")
        if 0.5 < target < 1 and not whole:  # 0.999 is nearer to 1 than to 0
            value = float(1 - Decimal(f"{1 - target:.{digits}g}"))
        if fits(value := round(value) if whole else value):
            return value
    return None


def _power(axis: Parameter, side: Side) -> float | None:
    """Return the power of two that is beyond a bound by half of the range, and by one at least."""
    low, high = axis.bounds
    gain = max(1, round(HALF * math.log2(high / low)))
    exponent = math.floor(math.log2(high)) + gain if side == "high" else math.ceil(math.log2(low)) - gain
    if isinstance(axis.distribution, IntDistribution):
        return 1 << max(exponent, 0)
    return math.ldexp(1.0, exponent)


def _longer(axis: Parameter, values: Sequence[float], side: Side) -> str | None:
    """Return listed values with one more at a side."""
    at_end = (values[-1] > values[0]) == (side == "high")
    near, next_to_it = (values[-1], values[-2]) if at_end else (values[0], values[1])
    new = _next(axis, values, near, next_to_it)
    if new is None or new in values or not math.isfinite(new):
        return None
    listed = [*values, new] if at_end else [new, *values]
    return ",".join(map(written, listed))


def _next(axis: Parameter, values: Sequence[float], near: float, next_to_it: float) -> float | None:
    """Return the value that goes on from two: by their ratio, unless the steps are the same throughout."""
    steps = [later - earlier for earlier, later in pairwise(values)]
    even = all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    ratio = near / next_to_it if min(values) > 0 else 0.0
    by_ratio = ratio > 0 and (not even or (len(values) == 2 and max(ratio, 1 / ratio) >= 2))
    new = near * ratio if by_ratio else near + (near - next_to_it)
    if near > next_to_it and near < 1 <= new and _below_1(axis):
        new = (near + 1) / 2
    if near < next_to_it and near > 0 >= new:
        new = 0.0 if _last(axis) in FROM_0 else near / 2
    if _whole(axis):
        return max(round(new), 1) if near > 0 else round(new)
    short = float(f"{new:.2g}")
    return short if abs(short - new) < abs(new - near) / 4 else new


def _allowed(axis: Parameter, low: float, high: float) -> bool:
    """Return whether a range is one of the axis's scale."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return False
    name = axis.bijection.name if axis.bijection is not None else axis.scale
    if name == "linear":
        return True
    try:
        mapping(name, low, high)
    except (UserError, ArithmeticError, ValueError):
        return False
    return name != "pow2" or not _whole(axis) or 1 << (int(high).bit_length() - 1) >= low


def _scale(axis: Parameter) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Return the functions to the scale on which a range is searched and back, beyond its bounds too."""
    if axis.bijection is None:
        return (math.log, math.exp) if axis.scale == "log" else (float, float)
    if axis.scale == "sqrt":  # its inverse, a square, would turn round at 0
        return axis.bijection.to_image, lambda y: y * abs(y)
    return axis.bijection.to_image, axis.bijection.from_image


def _step(axis: Parameter) -> float | None:
    """Return the step of a range that has one; of whole numbers one of 1 is none."""
    if match := _STEP.match(axis.expression):
        return int(match[1] or 1) if isinstance(axis.distribution, IntDistribution) else float(match[1] or 1)
    step: float | None = getattr(axis.distribution, "step", None)
    return None if step == 1 and isinstance(axis.distribution, IntDistribution) else step


def _stepped(low: float, high: float, step: float, side: Side) -> str | None:
    """Return a range of steps from one bound to the last step before the other; Hydra leaves the end itself out."""
    steps = math.floor((high - low) / step + 1e-9)
    if steps < 1:
        return None
    low, high = (_exact(high, -steps * step), high) if side == "low" else (low, _exact(low, steps * step))
    return f"range({written(low)},{written(_exact(high, step))},{written(step)})"


def _exact(one: float, other: float) -> float:
    """Return a sum in decimals, so that 0.9 and 0.4 are 1.3."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return float(Decimal(repr(one)) + Decimal(f"{other:.12g}"))


def _same(match: re.Match[str], bounds: tuple[float, float]) -> bool:
    """Return whether an expression's bounds are those that were searched in the end."""
    try:
        return (float(match[1]), float(match[2])) == bounds
    except ValueError:
        return False


def _tagged(axis: Parameter, interval: str) -> str:
    """Return an interval with the axis's kind and tag."""
    name = {"linear": ""}.get(axis.scale, axis.scale)
    if isinstance(axis.distribution, IntDistribution) and name != "pow2":
        interval = f"int({interval})"
    if not name:
        return interval
    return f'tag("{name}",{interval})' if "." in name else f"tag({name},{interval})"
