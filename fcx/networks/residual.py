"""A small residual network, whole in one file: what is known of FaceChannels is asked of another architecture with it.

He et al., "Deep Residual Learning for Image Recognition", 2016, arXiv 1512.03385: its basic blocks, on a 64x64 face.
"""

from __future__ import annotations

import torch
from torch import nn

from fcx.core.contract import TARGETS

STEM, WIDTHS = 8, (8, 16, 32)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut; answers the positive part of their sum."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first, self.relu = _convolution(inputs, outputs, 3, stride), nn.ReLU()
        self.second = _convolution(outputs, outputs, 3)
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else _convolution(inputs, outputs, 1, stride)
        self.last = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (sample, channel, y, x) to other channels, on every `stride`-th place."""
        return self.last(self.second(self.relu(self.first(x))) + self.shortcut(x))


class SmallResNet(nn.Sequential):
    """A convolution of stride 2, three basic blocks of which two halve the grid, a global mean and a dense layer.

    Input (sample, 1, y, x), of a face 64x64 pixels in [0, 1]; output (sample, target): arousal and valence as they are.

    >>> SmallResNet().eval()(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 2])
    """

    def __init__(self):
        super().__init__()
        self.stem = _convolution(1, STEM, 3, 2).append(nn.ReLU())
        self.blocks, inputs = nn.Sequential(), STEM
        for number, width in enumerate(WIDTHS):
            self.blocks.append(BasicBlock(inputs, width, 2 if number else 1))
            inputs = width
        self.mean, self.cells = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(inputs, len(TARGETS))


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
