"""Fitted objects of scikit-learn as files, without pickle: skops's format, made the same for equal objects."""

import importlib
import io
import json
import sys
import zipfile
from types import ModuleType
from typing import Any

from hypermap.core.errors import UserError
from hypermap.core.moved import with_paths_of_now

SCHEMA = "schema.json"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can tell

TRUSTED = ("numpy.dtype",)
"""Types beyond skops's own list that fitted transformers hold; a dtype runs no code."""


def dumps(fitted: Any) -> bytes:
    """Return the bytes of a fitted object; equal objects have equal bytes.

    skops names parts by their place in memory and notes the time: both are replaced.
    """
    with zipfile.ZipFile(io.BytesIO(_skops().dumps(fitted))) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    numbers: dict[int, int] = {}
    schema = _renumbered(json.loads(contents.pop(SCHEMA)), numbers)
    renamed = {_renamed(name, numbers): content for name, content in contents.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*sorted(renamed.items()), (SCHEMA, json.dumps(schema).encode())]:
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()


def loads(content: bytes, origin: str, remedy: str, trusted: tuple[str, ...] = ()) -> Any:
    """Return the object that `dumps` wrote; no type is made that is not on skops's list, on `TRUSTED` or in `trusted`.

    Raises:
        UserError: the file is damaged, or holds other types; it calls the file `origin` and says `remedy`.
    """
    skops_io = _skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        content = _moved(content)
        return skops_io.loads(content, trusted=[*TRUSTED, *trusted])
    except UntrustedTypesFoundException:
        found = ", ".join(skops_io.get_untrusted_types(data=content))
        raise UserError(
            f"{origin} holds types that no model of ours has, and is not opened: {found}. {remedy}"
        ) from None
    except Exception as error:  # whatever a damaged archive brings about
        raise UserError(f"{origin} cannot be read ({error!r}). {remedy}") from None


def _skops() -> ModuleType:
    """Return skops's reader and writer, imported without torch.

    It imports every module of scikit-learn, and one of these all of torch if that is there, which takes seconds.
    """
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        return importlib.import_module("skops.io")
    finally:
        if absent:
            del sys.modules["torch"]


def _moved(content: bytes) -> bytes:
    """Return an archive whose schema names modules of the package as they are now."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read(SCHEMA))
        now = with_paths_of_now(schema, "__module__")
        if now == schema:
            return content
        files = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, file in (files | {SCHEMA: json.dumps(now).encode()}).items():
            archive.writestr(name, file)
    return buffer.getvalue()


def _renumbered(node: Any, numbers: dict[int, int]) -> Any:
    """Return a schema whose ids count from 0 in the order in which they are met."""
    if isinstance(node, list):
        return [_renumbered(part, numbers) for part in node]
    if not isinstance(node, dict):
        return node
    if "__id__" in node:
        numbers.setdefault(node["__id__"], len(numbers))
    renumbered = {key: _renumbered(value, numbers) for key, value in node.items()}
    if "__id__" in node:
        renumbered["__id__"] = numbers[node["__id__"]]
    if "file" in node:
        renumbered["file"] = _renamed(node["file"], numbers)
    return renumbered


def _renamed(name: str, numbers: dict[int, int]) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{numbers[int(stem)]}{dot}{suffix}" if stem.isdigit() and int(stem) in numbers else name
