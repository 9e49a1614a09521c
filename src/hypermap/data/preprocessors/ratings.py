"""Ratings as places: of the user, the item, what else the user had by then, and the features of both."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from hypermap.core import ids
from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest, advice
from hypermap.data.preprocessor import Fitted, Preprocessor

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor, nn

USER, ITEM, ORDER, FIRST = 0, 1, 2, 3
"""The columns of a row: the user, the item, the interaction's place in time, and the first of the others."""

NEW_USER, NEW_ITEM = "(new user)", "(new item)"
"""How a row says in words that no training row has its user, or its item."""

VALUES = 10  # of a feature, such as the genres of a film


class Columns(NamedTuple):
    """How many columns of a row are items that the user had since training, and values of either's features."""

    seen: int
    user_features: int
    item_features: int

    @classmethod
    def of(cls, arguments: Mapping[str, Any], columns: int) -> Self:
        """Return those of rows of so many columns, read with these arguments."""
        of_user, of_item = (VALUES * len(arguments.get(key) or ()) for key in ("user_features", "item_features"))
        return cls(columns - FIRST - of_user - of_item, of_user, of_item)


class RatingsPreprocessor(Preprocessor):
    """From ids, int64 ``(rows, columns, width)`` as `hypermap.core.ids` has them, to places, int64 ``(rows, columns)``.

    The columns are the user, the item, the interaction's place in time, items that the user had after those of training
    (the latest last), and the values of the user's and the item's features. Places are those among the users, items and
    values of the training rows, from 1; 0 is any other, or none.
    """

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Fit the users, the items and the values of features."""
        columns = Columns.of(info.arguments, inputs.shape[1])
        values = inputs[:, FIRST + columns.seen :]
        stored = {
            "users": ids.distinct(inputs[:, USER]).tolist(),
            "items": ids.distinct(inputs[:, ITEM]).tolist(),
            "values": ids.distinct(values.reshape(-1, inputs.shape[2])).tolist(),
        }
        extras = {name: len(known) for name, known in stored.items()} | columns._asdict()
        extras["k"] = int(info.arguments.get("k", 10))
        entries = {"shape": [inputs.shape[1]], "dtype": "int64", "extras": extras}
        return Fitted(entries, json.dumps(stored).encode())

    @cached_property
    def _stored(self) -> list[Array]:
        """The users, items and values of the training rows, each ``(ids, width)`` in their order."""
        try:
            stored = json.loads(self.stored or b"")
            return [np.array(stored[name], np.int64) for name in ("users", "items", "values")]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.origin} cannot be read ({error!r}). {advice(Path(self.origin).parent)}") from None

    @cached_property
    def _module(self) -> "nn.Module":
        from hypermap.data.preprocessors.ratings_module import Places

        return Places(self._stored, self.manifest.extras["seen"])

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return the places of ids."""
        found: Tensor = self._module.to(inputs.device)(inputs)
        return found

    def words(self, inputs: Array) -> Sequence[str]:
        """Return each row's user and item, and whether they are new."""
        known = [{tuple(words) for words in own.tolist()} for own in self._stored[:2]]
        wide = self._stored[0].shape[1]
        return [
            ", ".join(
                f"{what} {ids.name_of(words)}{'' if tuple(words[:wide]) in own else f' {new}'}"
                for what, words, own, new in zip(
                    ("user", "item"), row[[USER, ITEM]].tolist(), known, (NEW_USER, NEW_ITEM), strict=True
                )
            )
            for row in inputs
        ]

    def points(self, features: "Tensor") -> None:
        """Return None: distances between places say nothing."""

    def module(self) -> "nn.Module":
        """Return the same in torch."""
        return self._module
