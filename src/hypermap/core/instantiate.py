"""Instantiate options: ``{_target_: dotted.path, key: value}`` becomes a call.

What an option may name depends on where it comes from. The user's own configuration (conf/, the command line) may name
anything that Python can import. A record comes from a file: a model's folder, a study, a DVC experiment. Anybody may
have written it, so it is treated as data and may name only parts (see `is_part`); `check_record` enforces that before
anything is instantiated from it.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from hypermap.core.errors import UserError, near
from hypermap.core.moved import moved
from hypermap.core.paths import CONF, SOURCES

LABELS = ("name", "_target_")  # keys about the option itself; all others are keyword arguments
NOT_OWN = (
    "hypermap", "hydra_plugins",
    "automl", "baselines", "compose", "confirm", "dashboard", "evaluate", "export", "order", "predict", "preprocess",
    "promote", "report", "review", "study", "train",
)  # fmt: skip
"""This project's own packages and scripts in src/, which are not user modules."""
PARTS = tuple(
    f"hypermap.{name}"
    for name in (
        "automl.settings", "data.cross_validation", "data.preprocessors", "datasets.audio", "datasets.graphs",
        "datasets.image_folder", "datasets.images", "datasets.ratings", "datasets.series", "datasets.tables.dataset",
        "datasets.texts", "models", "tasks.losses", "tasks.ratings", "tasks.ratings_losses", "training.audio_augment",
        "training.augment", "training.lr_schedules", "training.regularizers", "training.state",
    )
)  # fmt: skip
"""The modules of the package that a record may name; some others write files, or call what they are given."""
TORCH = ("torch.nn", "torch.optim")  # the classes in these
TRUST = "If you trust whoever wrote it, add trust=true."
NAME_IT = "If you trust it, name it in a file of your own, such as conf/model/NAME.yaml."


def locate(path: str | None) -> Callable[..., Any]:
    """Return the function or class at a dotted path, importing the modules on the way.

    Raises:
        UserError: there is nothing callable at that path.
    """
    if not path:
        raise UserError("a choice has no _target_: the dotted path of the function or class that it is for.")
    found: Callable[..., Any] = _find(path)
    if not callable(found):
        raise UserError(f"_target_ {path} is {found!r}, neither a function nor a class.")
    return found


def _find(path: str) -> Any:
    """Return the object at a dotted path, or at the path that it has moved to."""
    parts = moved(path).split(".")
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                continue
            raise UserError(f"_target_ {path}: {module_name} needs a module that is not here: {error.name}.") from None
        except (Exception, SystemExit) as error:  # a user module may raise anything when imported
            raise UserError(f"_target_ {path}: importing {module_name} failed: {error!r}.") from error
        for name in parts[length:]:
            if not hasattr(found, name):
                raise UserError(f"_target_ {path}: no {name!r} there{near(name, dir(found))}.")
            found = getattr(found, name)
        return found
    raise UserError(f"_target_ {path}: no such module. Paths start at src/ or at an installed package.")


def check_arguments(option: Mapping[str, Any], *runtime: str) -> None:
    """Bind an option's values, and the arguments that the program will add, to the signature that it names.

    Raises:
        UserError: the signature does not take an argument, or a required one is missing.
    """
    signature = _signature(locate(option.get("_target_")))
    given = {key for key in option if key not in LABELS} | set(runtime)
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
        problems = [f"does not take {key!r}{near(key, taken)}" for key in unknown]
        problems += [f"needs {key!r}" for key in missing]
        raise UserError(f"{option['_target_']} {' and '.join(problems)}. It takes: {', '.join(signature.parameters)}.")


def instantiate(option: Mapping[str, Any], **runtime: Any) -> Any:
    """Call what `option` names with its values and with `runtime`, the arguments that only the program knows.

    Raises:
        UserError: the path cannot be imported, or the values do not fit the signature.
    """
    check_arguments(option, *runtime)
    values = {key: value for key, value in option.items() if key not in LABELS}
    try:
        return locate(option["_target_"])(**values, **runtime)
    except (TypeError, ValueError, RuntimeError, SystemExit) as error:  # among others torch's out-of-memory error
        raise UserError(f"{option['_target_']} refuses its settings {values}: {error}") from error


def check_record(record: Any, origin: str, *, trust: bool = False, remedy: str = TRUST) -> None:
    """Refuse a record that names, at any depth, code that is not a part, without importing any of that code.

    Args:
        record: as read from JSON or YAML.
        origin: its name in an error message.
        trust: whether the user trusts whoever wrote it, so that it may name anything.
        remedy: what an error message advises.

    Raises:
        UserError: with what is named, and where.
    """
    for key, path in () if trust else named_targets(record, ""):
        if path is not None:  # None names nothing; that is reported where it is instantiated
            check_part(path, f"{origin}: {key}", remedy=remedy)


def check_plain(record: Any, origin: str) -> None:
    """Refuse a record with interpolations: they would be resolved here, ``${oc.env:…}`` from the environment.

    Raises:
        UserError: with the interpolation.
    """
    if isinstance(record, Mapping):
        for key, value in record.items():
            check_plain(key, origin)
            check_plain(value, origin)
    elif isinstance(record, list | tuple):
        for value in record:
            check_plain(value, origin)
    elif isinstance(record, str) and "${" in record:
        raise UserError(f"{origin} holds the interpolation {record!r}, and what a file tells is data: write the value.")


def check_part(path: object, prefix: str, *, trust: bool = False, remedy: str = TRUST) -> None:
    """Refuse a dotted path of a record unless it names a part: see `is_part`.

    Raises:
        UserError: it does not, or there is nothing at the path; the message starts with `prefix`.
    """
    if not trust and not is_part(path):
        raise UserError(
            f"{prefix} names {path!r}, and what a file tells may name parts of Hypermap, torch.optim and torch.nn, "
            f"your own modules under src/ and what your conf/ names, but no other code. {remedy}"
        )


def is_part(path: object) -> bool:
    """Return whether a dotted path names a part: of the package, of torch, of the user's src/, or a target in conf/.

    What counts is where the object was defined, not the path that leads to it: ``torch.optim.sgd.os.system`` is not a
    part of torch. A module is imported only if everything in it may be named.

    Raises:
        UserError: it would be one, but there is nothing at the path.
    """
    if not isinstance(path, str) or not path:
        return False
    return path in named_in_conf() or _is_defined_in_a_part(path)


def _is_defined_in_a_part(path: str) -> bool:
    path = moved(path)
    if path.startswith(_below(TORCH)):
        found = _find(path)
        return isinstance(found, type) and _home(found).startswith(_below(TORCH))
    if path.startswith(_below(PARTS)):
        return _home(_find(path)).startswith(_below(PARTS))
    return _own_file(path) is not None and _is_own(_home(_find(path)))


def _below(packages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in packages)


def _own_file(path: str) -> Path | None:
    """Return the user's file or folder under src/ that a dotted path starts in; None if there is none."""
    first = path.partition(".")[0]
    if first in NOT_OWN or not first.isidentifier():
        return None
    return next((place for place in (SOURCES / f"{first}.py", SOURCES / first) if place.exists()), None)


def own_module(path: str) -> Iterator[tuple[str, Path]]:
    """Yield each user module under src/ on a dotted path, and its file."""
    if _own_file(path) is None:
        return
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        place = SOURCES.joinpath(*parts[:length])
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield ".".join(parts[:length]), file


def _is_own(home: str) -> bool:
    """Return whether a module is in the place that `_own_file` gives."""
    file, start = getattr(sys.modules.get(home.rstrip(".")), "__file__", None), _own_file(home)
    if file is None or start is None:
        return False
    return Path(file).resolve() == start.resolve() or start.resolve() in Path(file).resolve().parents


def _home(found: Any) -> str:
    """Return the module that defines an object (its class, unless it is a class or function), with a final dot."""
    while inspect.ismethod(found):
        found = found.__func__
    if not isinstance(found, type) and not inspect.isroutine(found):
        found = type(found)
    return f"{getattr(found, '__module__', None) or ''}."


@cache
def named_in_conf() -> frozenset[str]:
    """Return every ``_target_`` in the user's conf/, except of Hydra's own parts."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    named: set[str] = set()
    for file in CONF.rglob("*.yaml"):
        if file.is_relative_to(CONF / "hydra"):
            continue
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), loader)
        except (OSError, ValueError, yaml.YAMLError):  # reported when it is composed
            continue
        named |= {path for _, path in named_targets(content) if isinstance(path, str)}
    return frozenset(named)


def named_targets(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each ``_target_`` in nested mappings and lists, after its dotted key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            dotted = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield dotted, inner
            else:
                yield from named_targets(inner, dotted)
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            yield from named_targets(inner, f"{key}.{k}" if key else str(k))


def _signature(found: Callable[..., Any]) -> inspect.Signature:
    return _read_once(found) if isinstance(found, Hashable) else inspect.signature(found)


@lru_cache(maxsize=256)
def _read_once(found: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(found)  # takes a tenth of a millisecond, and a trial needs a dozen
