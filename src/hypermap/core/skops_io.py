"""Fitted scikit-learn objects as files, without pickle: skops's format, made deterministic."""

import importlib
import io
import json
import sys
import zipfile
from types import ModuleType
from typing import Any

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.moved import with_paths_of_now

SCHEMA = "schema.json"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold

TRUSTED = (
    "numpy.dtype", "hypermap.data.robust_clip.RobustClip", "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
)  # fmt: skip
"""Types in fitted transformers that are not on skops's own list; they run no code, nor does creating them."""


def dumps(fitted: Any) -> bytes:
    """Return the bytes of a fitted object; equal objects have equal bytes.

    skops uses memory addresses as ids and records the time: both are replaced, as are the bytes between the fields of
    arrays of records, such as a forest's nodes, which are whatever was in memory before.
    """
    with zipfile.ZipFile(io.BytesIO(_skops().dumps(fitted))) as archive:
        contents = {name: _without_gaps(name, archive.read(name)) for name in archive.namelist()}
    numbers: dict[int, int] = {}
    schema = _renumbered(json.loads(contents.pop(SCHEMA)), numbers)
    renamed = {_renamed(name, numbers): content for name, content in contents.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*sorted(renamed.items()), (SCHEMA, json.dumps(schema).encode())]:
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()


def loads(content: bytes, origin: str, remedy: str, trusted: tuple[str, ...] = ()) -> Any:
    """Return the object that `dumps` wrote; only types on skops's list, in `TRUSTED` or in `trusted` are created.

    Raises:
        UserError: the file is damaged, or holds other types; the message calls the file `origin` and includes `remedy`.
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
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(f"{origin} cannot be read ({error!r}). {remedy}") from None


def _without_gaps(name: str, content: bytes) -> bytes:
    """Return the content of a file with zeros between the fields of its records, if it holds an array of such."""
    if not name.endswith(".npy"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    fields = array.dtype.fields or {}
    if sum(field[0].itemsize for field in fields.values()) in (0, array.dtype.itemsize):
        return content
    zeros = np.zeros(array.nbytes, np.uint8)  # np.zeros_like leaves the gaps as they are
    clean = zeros.view(array.dtype).reshape(array.shape)
    for field in fields:
        clean[field] = array[field]
    return content[: len(content) - len(zeros)] + bytes(zeros)


def _skops() -> ModuleType:
    """Return skops's IO module, imported without torch.

    It imports every module of scikit-learn, one of which imports all of torch if installed, which takes seconds.
    """
    importlib.import_module("scipy.stats")  # which takes whatever sys.modules has under that name for torch
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        return importlib.import_module("skops.io")
    finally:
        if absent:
            del sys.modules["torch"]


def _moved(content: bytes) -> bytes:
    """Return an archive whose schema has the present names of the package's modules."""
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
    """Return a schema with ids renumbered from 0 in order of appearance."""
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
