"""Command-line arguments ``key=value``: read for scripts that are not Hydra applications, and written for advice."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypermap.core.errors import UserError, near

# Needs no quotes in Hydra's grammar.
PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)\Z)[A-Za-z_/][A-Za-z0-9_/.-]*")


def read_words(words: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Return the values by key, as written; empty arguments are ignored.

    Raises:
        UserError: an argument is not ``key=value``, or its key is unknown or given twice.
    """
    given: dict[str, str] = {}
    keys = list(known)
    for word in filter(None, words):
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise UserError(f"{word!r} is not understood{near(key, keys)}. Write key=value; keys: {', '.join(keys)}.")
        if key in given:
            raise UserError(f"{key} is given twice: {key}={given[key]} and {word}.")
        given[key] = value
    return given


def check_none(words: Sequence[str], beside: str = "") -> None:
    """Refuse command-line arguments of a stage, which is configured by params.yaml.

    Raises:
        UserError: there are arguments; the message says where to write them.
    """
    if given := [word for word in words if word]:
        sets = shlex.join(word for pair in zip(["-S"] * len(given), given, strict=True) for word in pair)
        raise UserError(
            f"{given[0]!r} is not understood: this stage takes no arguments{beside}, but does what params.yaml says. "
            f"Change it there and say dvc repro{f', or say: dvc exp run {sets}' * all('=' in word for word in given)}."
        )


def override(key: str, value: Any) -> str:
    """Return the argument that sets a key of the configuration to a value, ready to paste into a shell.

    Text is quoted for Hydra's grammar, in which the keys of a mapping cannot be quoted: write pairs instead. A key
    without a group is one that `read_words` reads literally.
    """
    return shlex.quote(f"{key}={_as_hydra_has_it(value) if '.' in key else value}")


def _as_hydra_has_it(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        return f"[{','.join(map(_as_hydra_has_it, value))}]"
    if PLAIN.fullmatch(value):
        return value
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # OmegaConf would interpolate ${...}
    return '"' + re.sub(r'(\\*)("|\Z)', lambda end: end[1] * 2 + '\\"' * bool(end[2]), literal) + '"'


def read_trust(given: Mapping[str, str]) -> bool:
    """Return whether ``trust=true`` was given: anything that a file names may be imported and called.

    Raises:
        UserError: it has another value.
    """
    value = given.get("trust", "false")
    if value not in ("true", "false"):
        raise UserError(f"trust={value}: it is true or false.")
    return value == "true"
