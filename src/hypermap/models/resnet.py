"""A small residual network for images of about 28x28 and 32x32.

The CIFAR form of He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section
4.2 (https://arxiv.org/abs/1512.03385), with their projection shortcut (option B) where the size changes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout, image_shape, initialize, positive


class ResNet(nn.Module):
    """A 3x3 convolution, stages of residual blocks, global average pooling and one dense layer.

    `blocks` counts the blocks of each stage: ``[n, n, n]`` has 6 n + 2 layers, so the default is a ResNet-14.
    The first stage has `width` channels; each later one has twice as many and halves the image's sides.
    `dropout` is applied before the dense layer. Convolutions are initialized He normal, the dense layer Glorot uniform.

    Raises:
        UserError: the inputs are not images, `blocks` is empty, a size is below 1, or the dropout is outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        features, _, _ = image_shape("resnet", input_shape)
        if not blocks:
            raise UserError("blocks is empty; a resnet needs at least one stage, such as blocks=[2,2,2]")
        positive("blocks", *blocks)
        positive("width", width)
        stages: list[nn.Module] = []
        before = width
        for stage, count in enumerate(blocks):
            after = width * 2**stage
            for block in range(count):
                stages.append(ResidualBlock(before, after, stride=2 if stage > 0 and block == 0 else 1))
                before = after
        self.stem = nn.Sequential(*_convolution(features, width), nn.ReLU())
        self.stages = nn.Sequential(*stages)
        self.dropout = Dropout(dropout)
        self.output = initialize(nn.Linear(before, outputs), "glorot_uniform")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) float to (batch, outputs) logits or values."""
        features = self.stages(self.stem(inputs)).mean((2, 3))
        logits: Tensor = self.output(self.dropout(features))
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to the input (or to a 1x1 convolution of it where the shape changes)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(before, after, stride=stride), nn.ReLU(), *_convolution(after, after)
        )
        same = before == after and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _convolution(before, after, kernel_size=1, stride=stride)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, before, height, width) to (batch, after, height / stride, width / stride), rounded up."""
        return torch.relu(self.residual(inputs) + self.shortcut(inputs))


def _convolution(before: int, after: int, kernel_size: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a size-preserving convolution (apart from its stride) without bias, and its batch norm."""
    convolution = nn.Conv2d(before, after, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return [initialize(convolution, "he_normal"), nn.BatchNorm2d(after)]
