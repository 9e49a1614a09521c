"""Networks that a person may have written."""

from math import prod

from torch import nn


class WithTorchsDropout(nn.Sequential):
    def __init__(self, input_shape, outputs):
        block = nn.Sequential()
        block.add_module("flat", nn.Flatten())
        block.add_module("drop", nn.Dropout(0.5))
        super().__init__(block, nn.Linear(prod(input_shape), outputs))
