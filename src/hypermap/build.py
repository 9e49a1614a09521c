"""From a choice to the object it names: ``{_target_: dotted.path, key: value}`` becomes a call."""

import importlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any

from hypermap.errors import UserError, near

LABELS = ("name", "_target_")  # what a choice says of itself; all else is a keyword argument


def locate(path: str | None) -> Callable[..., Any]:
    """The function or class at a dotted path, importing as many modules of it as there are.

    Raises:
        UserError: nothing that can be called is to be had under that path.
    """
    if not path:
        raise UserError("a choice has no _target_: the dotted path of the function or class that it is for.")
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                continue
            raise UserError(f"_target_ {path}: {module_name} needs a module that is not here: {error.name}.") from None
        except Exception as error:  # whatever somebody's own module does when imported
            raise UserError(f"_target_ {path}: importing {module_name} failed: {error!r}.") from error
        for name in parts[length:]:
            if not hasattr(found, name):
                raise UserError(f"_target_ {path}: no {name!r} there{near(name, dir(found))}.")
            found = getattr(found, name)
        if not callable(found):
            raise UserError(f"_target_ {path} is {found!r}, neither a function nor a class.")
        return found
    raise UserError(f"_target_ {path}: no such module. Paths start at src/ or at an installed package.")


def check_arguments(choice: Mapping[str, Any], *runtime: str) -> None:
    """Bind a choice's values, and the arguments that the program will add, to the signature it names.

    Raises:
        UserError: an argument that the signature does not take, or one it needs and nobody gives.
    """
    signature = _signature(locate(choice.get("_target_")))
    given = {key for key in choice if key not in LABELS} | set(runtime)
    taken: dict[str, Any] = dict(signature.parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        taken |= dict.fromkeys(given)
    unknown = sorted(given - set(taken))
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in given
    ]
    if unknown or missing:
        told = [f"does not take {key!r}{near(key, taken)}" for key in unknown]
        told += [f"needs {key!r}" for key in missing]
        raise UserError(f"{choice['_target_']} {' and '.join(told)}. It takes: {', '.join(signature.parameters)}.")


def build(choice: Mapping[str, Any], **runtime: Any) -> Any:
    """Call what `choice` names with its values and with `runtime`, what only the program can know.

    Raises:
        UserError: the path cannot be imported, or the values do not fit the signature.
    """
    check_arguments(choice, *runtime)
    values = {key: value for key, value in choice.items() if key not in LABELS}
    try:
        return locate(choice["_target_"])(**values, **runtime)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's for want of memory, among others
        raise UserError(f"{choice['_target_']} refuses its settings {values}: {error}") from error


def _signature(found: Callable[..., Any]) -> inspect.Signature:
    return _read_once(found) if isinstance(found, Hashable) else inspect.signature(found)


@lru_cache(maxsize=256)
def _read_once(found: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(found)  # a tenth of a millisecond, and a trial asks for a dozen
