"""Dense networks as batched matrix products: one `torch.baddbmm` per layer for all members."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypermap.models.layers import Dropout
from hypermap.models.mlp import MLP, Logistic
from hypermap.training.backends.batched import views
from hypermap.training.state import TrainState


class Dense:
    """A `Forward` for `MLP` and `Logistic`."""

    def __init__(self, members: Sequence[TrainState], matrix: Tensor) -> None:
        self.layers = [layers_of(member.parts.model) for member in members]
        self.weights = views(members, matrix)

    def __call__(self, inputs: Tensor) -> Tensor:
        """See `Forward`."""
        return self._through(inputs.flatten(2), training=True)

    def evaluate(self, inputs: Tensor) -> Tensor:
        """See `Forward`."""
        return self._through(inputs.flatten(1).expand(len(self.layers), -1, -1), training=False)

    def _through(self, features: Tensor, *, training: bool) -> Tensor:
        weights = iter(self.weights)
        for same in zip(*self.layers, strict=True):  # for all members
            if isinstance(same[0], nn.Linear):
                matrix = next(weights)
                features = torch.baddbmm(next(weights).unsqueeze(1), features, matrix.transpose(1, 2))
            elif not isinstance(same[0], Dropout):
                features = same[0](features)
            elif training:
                features = features * masks(same, torch.empty_like(features, requires_grad=False))
        return features


def masks(layers: Sequence[nn.Module], empty: Tensor) -> Tensor:
    """Return the masks of the members' `Dropout` layers, drawn into ``(members, …)``."""
    for layer, mask in zip(layers, empty, strict=True):
        assert isinstance(layer, Dropout)
        layer.draw(mask)
    return empty


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a dense network after flattening, from input to output; empty for any other network.

    Subclasses do not count: their forward pass may differ.
    """
    if type(model) is MLP:
        layers: list[nn.Module] = [*model.hidden, model.output]
    elif type(model) is Logistic:
        layers = [model.output]
    else:
        return []
    return [] if any(isinstance(layer, nn.BatchNorm1d) for layer in layers) else layers
