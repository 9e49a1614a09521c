"""Types used by several rooms."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
Floats = NDArray[np.float64]
Rows = TypeVar("Rows", "Tensor", Array)
"""Rows as either of both, where the result is of the same kind."""
