"""A network's weights as one vector: a step of the optimizer is then one call, whatever the number of layers."""

import torch
from torch import nn

from hypermap.errors import UserError


class FlatParameters:
    """The trainable parameters of a module, moved into one vector of which they become views.

    Every optimizer of torch that treats each number by itself (all that ship here) gives the same result on
    the vector as on the list, and the fused ones are spared a call and a check per tensor. Gradients are
    accumulated in place into `gradient`.

    Attributes:
        vector: ``(weights,)``, the parameter to give to an optimizer; its ``.grad`` is `gradient`.
        gradient: ``(weights,)``.
        penalized: ``(weights,)``, 1 where a penalty applies (matrices and filters), 0 for biases and norms.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not parameters:
            raise UserError("the model has no weights to train: no parameter of it requires a gradient.")
        sizes = [parameter.numel() for parameter in parameters]
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        self.gradient = torch.zeros_like(flat)
        self.vector = nn.Parameter(flat)
        self.vector.grad = self.gradient
        self.penalized = torch.zeros_like(flat)
        views = zip(flat.split(sizes), self.gradient.split(sizes), self.penalized.split(sizes), strict=True)
        for parameter, (weights, gradient, penalized) in zip(parameters, views, strict=True):
            parameter.data = weights.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)
            penalized.fill_(float(parameter.ndim > 1))
