"""Tables with a schema: preprocessed by scikit-learn (`hypermap.data.preparation`), saved without pickle."""

from functools import cached_property
from typing import TYPE_CHECKING

from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Preparation, Settings
from hypermap.data.preprocessor import Fitted, Preprocessor

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor, nn

PREPARATION = "preparation.skops"


class TablePreprocessor(Preprocessor):
    """Handles missing values, scales and categories according to ``data.missing``, ``data.scaling``, …."""

    file = PREPARATION

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Return the layout of a row, and the fitted transformer.

        Raises:
            UserError: the settings do not fit these rows.
        """
        from hypermap.core import skops_io

        preparation = Preparation.fit(inputs, info.roles, Settings(**info.preparation))
        layout = preparation.layout
        return Fitted({"shape": [layout.width], "layout": layout.as_entry()}, skops_io.dumps(preparation.transformer))

    @cached_property
    def preparation(self) -> Preparation:
        """The fitted transformer.

        Raises:
            UserError: its file is damaged.
        """
        from hypermap.core import skops_io

        assert self.stored is not None
        return Preparation(
            skops_io.loads(self.stored, self.origin, "Prepare the data and train again: dvc repro --force")
        )

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return rows ``(rows, layout.width)`` float32 of a matrix ``(rows, columns)`` float64."""
        import torch

        return torch.from_numpy(self.preparation.transform(inputs.cpu().numpy())).to(inputs.device)

    def module(self) -> "nn.Module":
        """Return the same in torch.

        Raises:
            UserError: a part of the preprocessing is not supported there.
        """
        from hypermap.data.preparation_module import Prepare

        return Prepare(self.preparation)
