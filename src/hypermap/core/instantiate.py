"""From a choice to the object it names: ``{_target_: dotted.path, key: value}`` becomes a call.

Who says a choice decides what it may name. A person's own configuration (conf/, the command line) may name anything
that Python can import. A record is what a file tells: a model's folder, a study, an experiment of DVC. Anybody may have
written it, so it is data, and may name parts alone: `check_record` holds it to that before anything is made of it.
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

LABELS = ("name", "_target_")  # what a choice says of itself; all else is a keyword argument
NOT_OWN = (
    "hypermap", "hydra_plugins",
    "baselines", "compose", "confirm", "dashboard", "evaluate", "export", "order", "predict", "preprocess", "promote",
    "report", "review", "train",
)  # fmt: skip
"""What src/ has of this project's: the packages, and the scripts, which are no parts of a training."""
PARTS = tuple(
    f"hypermap.{name}"
    for name in (
        "data.cross_validation", "datasets.images", "datasets.tables.dataset", "models", "tasks.losses",
        "training.augment", "training.lr_schedules", "training.regularizers", "training.state",
    )
)  # fmt: skip
"""The modules of the package that a record may name; of others some write files, or call what they are given."""
TORCH = ("torch.nn", "torch.optim")  # and of these the classes
TRUST = "If you trust whoever wrote it, add trust=true."
NAME_IT = "If you trust it, name it in a file of your own, such as conf/model/NAME.yaml."


def locate(path: str | None) -> Callable[..., Any]:
    """Return the function or class at a dotted path, importing as many modules of it as there are.

    Raises:
        UserError: nothing that can be called is to be had under that path.
    """
    if not path:
        raise UserError("a choice has no _target_: the dotted path of the function or class that it is for.")
    found: Callable[..., Any] = _find(path)
    if not callable(found):
        raise UserError(f"_target_ {path} is {found!r}, neither a function nor a class.")
    return found


def _find(path: str) -> Any:
    """Return what stands at a dotted path, or where it has moved to."""
    parts = moved(path).split(".")
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                continue
            raise UserError(f"_target_ {path}: {module_name} needs a module that is not here: {error.name}.") from None
        except (Exception, SystemExit) as error:  # whatever somebody's own module does when imported
            raise UserError(f"_target_ {path}: importing {module_name} failed: {error!r}.") from error
        for name in parts[length:]:
            if not hasattr(found, name):
                raise UserError(f"_target_ {path}: no {name!r} there{near(name, dir(found))}.")
            found = getattr(found, name)
        return found
    raise UserError(f"_target_ {path}: no such module. Paths start at src/ or at an installed package.")


def check_arguments(option: Mapping[str, Any], *runtime: str) -> None:
    """Bind a choice's values, and the arguments that the program will add, to the signature it names.

    Raises:
        UserError: an argument that the signature does not take, or one it needs and nobody gives.
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
    """Call what `option` names with its values and with `runtime`, what only the program can know.

    Raises:
        UserError: the path cannot be imported, or the values do not fit the signature.
    """
    check_arguments(option, *runtime)
    values = {key: value for key, value in option.items() if key not in LABELS}
    try:
        return locate(option["_target_"])(**values, **runtime)
    except (TypeError, ValueError, RuntimeError, SystemExit) as error:  # torch's for want of memory, among others
        raise UserError(f"{option['_target_']} refuses its settings {values}: {error}") from error


def check_record(record: Any, origin: str, *, trust: bool = False, remedy: str = TRUST) -> None:
    """Refuse a record that names, at any depth, code that is no part; nothing of it is imported to find that out.

    Args:
        record: as JSON or YAML has it.
        origin: what an error calls it.
        trust: whether a person has said that whoever wrote it may name anything.
        remedy: what an error says of how to go on.

    Raises:
        UserError: says what is named, and where.
    """
    for key, path in () if trust else named_targets(record, ""):
        if path is not None:  # which names nothing, and is told of where something is to be made
            check_part(path, f"{origin}: {key}", remedy=remedy)


def check_plain(record: Any, origin: str) -> None:
    """Refuse a record with interpolations: they would be worked out here, ``${oc.env:…}`` from the environment.

    Raises:
        UserError: says which.
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
        UserError: it does not, or nothing stands there; `prefix` is what an error begins with.
    """
    if not trust and not is_part(path):
        raise UserError(
            f"{prefix} names {path!r}, and what a file tells may name parts of Hypermap, torch.optim and torch.nn, "
            f"your own modules under src/ and what your conf/ names, but no other code. {remedy}"
        )


def is_part(path: object) -> bool:
    """Return whether a dotted path names a part of the package, of torch, of a person's own src/, or what conf/ names.

    What counts is where the object was defined, not by which path it is reached: ``torch.optim.sgd.os.system`` is no
    part of torch. A module is imported only where all of it may be named.

    Raises:
        UserError: it would be one, and nothing stands there.
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
    """Return the file or folder under src/ in which a dotted path begins, where that is a person's own."""
    first = path.partition(".")[0]
    if first in NOT_OWN or not first.isidentifier():
        return None
    return next((place for place in (SOURCES / f"{first}.py", SOURCES / first) if place.exists()), None)


def own_module(path: str) -> Iterator[tuple[str, Path]]:
    """Return each module of a person's own under src/ that a dotted path leads through, and its file."""
    if _own_file(path) is None:
        return
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        place = SOURCES.joinpath(*parts[:length])
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield ".".join(parts[:length]), file


def _is_own(home: str) -> bool:
    """Return whether a module lies where `_own_file` says that it may."""
    file, start = getattr(sys.modules.get(home.rstrip(".")), "__file__", None), _own_file(home)
    if file is None or start is None:
        return False
    return Path(file).resolve() == start.resolve() or start.resolve() in Path(file).resolve().parents


def _home(found: Any) -> str:
    """Return the module in which an object, or if it is no class and no function its class, was defined; a dot at its
    end.
    """
    while inspect.ismethod(found):
        found = found.__func__
    if not isinstance(found, type) and not inspect.isroutine(found):
        found = type(found)
    return f"{getattr(found, '__module__', None) or ''}."


@cache
def named_in_conf() -> frozenset[str]:
    """Return every ``_target_`` that a person's own conf/ names."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    named: set[str] = set()
    for file in CONF.rglob("*.yaml"):
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), loader)
        except (OSError, ValueError, yaml.YAMLError):  # told when it is composed
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
    return inspect.signature(found)  # a tenth of a millisecond, and a trial asks for a dozen
