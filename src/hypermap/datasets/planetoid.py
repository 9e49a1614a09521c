"""Planetoid's files (Yang et al. 2016, https://arxiv.org/abs/1603.08861), which are pickles, read without running any.

A pickle is a program. The unpickler here knows arrays, sparse matrices and dictionaries alone, as classes of its own
that keep what they are given; any other name is refused. So nothing of numpy's or scipy's is called by a file either.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from hypermap.core.errors import UserError
from hypermap.core.typing import Array

NUMBERS = "biuf"  # kinds of numpy's dtypes


class _Kept:
    """An object of a pickle: what it is built from, and the state that it is given."""

    state: Any = None

    def __init__(self, *built: Any, **named: Any) -> None:
        self.built = built

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type(_Kept):
    """A dtype."""


class _Array(_Kept):
    """An array."""


class _Matrix(_Kept):
    """A sparse matrix."""


class _Lists(dict[Any, Any]):
    """A dictionary of lists."""

    def __init__(self, *factory: Any) -> None:
        super().__init__()


def _array(*_: Any) -> _Array:
    return _Array()


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _matrix(*_: Any) -> _Matrix:
    return _Matrix()


KNOWN: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{room}.multiarray", "_reconstruct"): _array for room in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    **{(f"scipy.sparse.{room}", f"csr_{kind}"): _Matrix for room in ("csr", "_csr") for kind in ("matrix", "array")},
    ("copy_reg", "_reconstructor"): _matrix,
    ("copyreg", "_reconstructor"): _matrix,
    ("collections", "defaultdict"): _Lists,
    ("_codecs", "encode"): _bytes,
    **{(room, name): _Kept for room in ("__builtin__", "builtins") for name in ("list", "object")},
}
"""What a file may name, as Python 2 and 3 have written it, and what stands in for that here."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a name.

        Raises:
            UnpicklingError: it is none of those that are needed.
        """
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
        return KNOWN[module, name]


def read(content: bytes, origin: str) -> Any:
    """Return the array, `csr_array`, or dictionary of lists of a file.

    Raises:
        UserError: it holds anything else, or is damaged.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if isinstance(found, _Matrix):
            return _sparse(found)
        if isinstance(found, _Array):
            return _filled(found)
        if isinstance(found, dict):
            return {int(node): [int(other) for other in others] for node, others in found.items()}
        raise ValueError(f"it holds {type(found).__name__.strip('_')}")
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{origin} is not read: {error}. Of Planetoid's files, which are pickles, only arrays, sparse matrices and "
            "lists of neighbors are. Get it again, or write a table of nodes and one of edges instead (docs/graphs.md)."
        ) from None


def _sparse(found: _Matrix) -> csr_array:
    state = found.state
    arrays = tuple(_filled(state[name]) for name in ("data", "indices", "indptr"))
    made = csr_array(arrays, shape=tuple(int(size) for size in state.get("_shape") or state["shape"]))
    made.check_format()
    return made


def _filled(found: _Array) -> Array:
    _, shape, kind, by_columns, content = found.state
    dtype = np.dtype((kind.state[1] if kind.state[1] in "<>" else "") + str(kind.built[0]))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"an array of {dtype}")
    raw = content.encode("latin1") if isinstance(content, str) else content
    made = np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns else "C")
    return made.astype(dtype.newbyteorder("="))
