"""A network's weights as one vector: an optimizer step is then one call, whatever the number of layers."""

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError


class FlatParameters:
    """The trainable parameters of a module, moved into one vector of which they become views.

    Every elementwise torch optimizer (all included ones are) gives the same result on the vector as on the list, and
    the fused ones save a call and a check per tensor. Gradients are accumulated in place into `gradient`.

    Attributes:
        vector: ``(weights,)``, the parameter to give to an optimizer; its ``.grad`` is `gradient`.
        gradient: ``(weights,)``.
        penalized: ``(weights,)``, 1 where a penalty applies (matrices and filters), 0 for biases and norms.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise UserError("the model has no weights to train: no parameter of it requires a gradient.")
        self.sizes = [parameter.numel() for parameter in self.parameters]
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.vector = nn.Parameter(flat)
        self.penalized = torch.zeros_like(flat)
        for parameter, penalized in zip(self.parameters, self.penalized.split(self.sizes), strict=True):
            penalized.fill_(float(parameter.ndim > 1))
        self._lie_in(flat, torch.zeros_like(flat))

    def move(self, vector: Tensor, gradient: Tensor) -> None:
        """Move the weights into another vector ``(weights,)``, such as a row of a stack's matrix; so the gradient."""
        vector.copy_(self.vector.detach())
        self._lie_in(vector, gradient.zero_())

    def leave(self) -> None:
        """Move the weights into their own vector, so that nothing keeps the stack's matrix alive."""
        self.move(torch.empty_like(self.gradient), torch.empty_like(self.gradient))

    def _lie_in(self, vector: Tensor, gradient: Tensor) -> None:
        self.gradient = gradient
        self.vector.data, self.vector.grad = vector, gradient
        views = zip(self.parameters, vector.split(self.sizes), gradient.split(self.sizes), strict=True)
        for parameter, weights, slope in views:
            parameter.data = weights.view_as(parameter)
            parameter.grad = slope.view_as(parameter)
