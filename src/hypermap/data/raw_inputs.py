"""Raw rows to predict: each model preprocesses them by its own transform, and equal transforms share the result."""

from typing import TYPE_CHECKING

import numpy as np

from hypermap.core.typing import Array
from hypermap.data.preprocessor import TensorSplit, Transform

if TYPE_CHECKING:  # preprocessing does not need torch, and a script's --help should not wait for it
    from torch import Tensor


class RawInputs:
    """Raw rows, and what transforms make of them, each computed once.

    Args:
        rows: ``(rows, *raw shape)``, a tensor as a prepared folder has them, or an array as a file to predict does.
    """

    def __init__(self, rows: "Tensor | Array") -> None:
        self.rows = rows
        self._known: list[tuple[Transform, Tensor | Array]] = []

    @classmethod
    def of(cls, prepared: TensorSplit, transform: Transform) -> "RawInputs":
        """Return the raw rows of a split whose `features`, if it has any, are those of `transform`."""
        found = cls(prepared.inputs)
        if prepared.features is not None:
            found._known.append((transform, prepared.features))
        return found

    def features(self, transform: Transform) -> "Tensor | Array":
        """Return the rows as a model behind `transform` sees them, ``(rows, *manifest.shape)``; of arrays an array."""
        for known, features in self._known:
            if known == transform:
                return features
        preprocessor, rows = transform.preprocessor, self.rows
        made = preprocessor.features(rows) if isinstance(rows, np.ndarray) else preprocessor(rows)
        self._known.append((transform, made))
        return made
