"""Checksums of files, values and code: equal content, equal checksum."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypermap.core.instantiate import named_targets, own_module
from hypermap.core.paths import PACKAGE

CODE = (".py", ".cpp", ".h")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Return sixteen hexadecimal digits that name a JSON-like value: equal values, equal names; key order is
    ignored.
    """
    plain = json.loads(json.dumps(value, allow_nan=False))  # whose keys are all text, so that they can be sorted
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def checksum_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of these files' contents, and of the names and contents of all files in folders among them."""
    digest = hashlib.sha256()
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in below:
            digest.update(f"{file.relative_to(path)}\0{file_sha256(file)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


@cache
def fingerprint_of_code(rooms: tuple[str, ...], others: frozenset[Path] = frozenset(), package: Path = PACKAGE) -> str:
    """Return the SHA-256 of the code in these rooms of the package and in other files, as of the first call."""
    sources = {path for room in rooms for path in (package / room).rglob("*") if path.suffix in CODE} | others
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()


def own_code(configuration: Any) -> dict[str, str]:
    """Return the SHA-256 of each user module that a configuration names, and of those that it imports.

    Args:
        configuration: JSON-like, nested to any depth; modules are named by ``_target_``.
    """
    return {name: file_sha256(path) for name, path in sorted(own_files(configuration).items())}


def own_files(configuration: Any) -> dict[str, Path]:
    """Return the files that `own_code` hashes, by module name."""
    found: dict[str, Path] = {}
    waiting = [path for _, path in named_targets(configuration) if isinstance(path, str)]
    while waiting:
        for name, file in own_module(waiting.pop()):
            if name not in found:
                found[name] = file
                waiting += _imported(name, file)
    return found


def _imported(name: str, file: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, as far as its source text shows them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # reported when it is imported
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
