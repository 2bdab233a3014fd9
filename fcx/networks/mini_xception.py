"""mini-XCEPTION, whole in one file: seven expressions from a small network that is not ours.

Arriaga, Valdenegro-Toro and Plöger, "Real-time Convolutional Neural Networks for Emotion and Gender Classification",
2017, arXiv 1710.07557: separable convolutions and residual sums, and no dense layer, as a mean of maps is the answer.
Its weights ship as the checkpoint `mini_xception` (notice in checkpoints/README.md).
"""

from __future__ import annotations

import torch
from torch import nn

OUTPUTS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in the order of the network's softmax
SIZE = 64
STEM, WIDTHS = 8, (16, 32, 64, 128)


class Separable(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution across channels, then batch norm."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = _norm(outputs)


class ResidualBlock(nn.Module):
    """Two separable convolutions and a max pooling, beside a shortcut of stride 2; answers their sum.

    The pooling's padding is that of TensorFlow's "same", which for an even size falls behind the last row and column.
    """

    def __init__(self, inputs: int, outputs: int, size: int):
        super().__init__()
        self.first, self.relu = Separable(inputs, outputs), nn.ReLU()
        self.second = Separable(outputs, outputs)
        self.pool = nn.MaxPool2d(3, 2, padding=size % 2, ceil_mode=True)
        self.shortcut = nn.Sequential()
        self.shortcut.conv = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.shortcut.norm = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (sample, channel, y, x) to twice the channels on half the grid, rounded up."""
        return self.pool(self.second(self.relu(self.first(x)))) + self.shortcut(x)


class MiniXception(nn.Module):
    """Two convolutions, four residual blocks of separable convolutions, a map for each expression and its mean.

    Input (sample, 1, 64, 64) with values in [-1, 1], which are (pixel - .5) / .5; output (sample, expression): logits
    in the order `OUTPUTS`, whose softmax the published network answers.

    >>> MiniXception().eval()(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 7])
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential()
        for number, channels in enumerate((1, STEM), start=1):
            self.stem.add_module(f"conv{number}", nn.Conv2d(channels, STEM, 3, bias=False))
            self.stem.add_module(f"norm{number}", _norm(STEM))
            self.stem.add_module(f"relu{number}", nn.ReLU())
        self.blocks = nn.Sequential()
        channels, size = STEM, SIZE - 4
        for number, width in enumerate(WIDTHS, start=1):
            self.blocks.add_module(f"block{number}", ResidualBlock(channels, width, size))
            channels, size = width, (size + 1) // 2
        self.maps = nn.Conv2d(channels, len(OUTPUTS), 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (sample, 1, 64, 64) in [-1, 1] to logits (sample, expression)."""
        return self.maps(self.blocks(self.stem(images))).mean((2, 3))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
