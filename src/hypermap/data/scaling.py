"""Images and plain tables of numbers: ``(inputs - shift) / scale``, one number per channel or feature."""

from typing import TYPE_CHECKING, Any

from hypermap.core import normalize
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Fitted, Preprocessor

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor, nn


class Scaling(Preprocessor):
    """Scales each channel, or feature, by statistics of the training rows (``data.scaling``)."""

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Return `shift` and `scale`, and the mean and standard deviation of the scaled training rows."""
        train = normalize.statistics(inputs)
        shift, scale = normalize.fit(info.scaling, train, info.maximum)
        entries: dict[str, Any] = {
            "shift": shift.tolist(),
            "scale": scale.tolist(),
            "input_mean": ((train.mean - shift) / scale).tolist(),
            "input_std": (train.std / scale).tolist(),
        }
        return Fitted(entries)

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return scaled inputs, float32."""
        return normalize.scaled(inputs, self.manifest.shift, self.manifest.scale)

    def module(self) -> "nn.Module":
        """Return the same in torch."""
        from hypermap.data.preparation_module import Scale

        return Scale(self.manifest.shift, self.manifest.scale, 1 + len(self.manifest.shape))
