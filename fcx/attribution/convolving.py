"""Convolutions as they are fastest on a CPU: of many weights, and the way back to the few channels of a picture."""

from __future__ import annotations

import math
from itertools import product

import torch

from fcx.attribution.lrp_values import Constants

FEW = 4  # channels
FACES = 16  # whose maps are fewer numbers than weights that are many
HELD = 2**20  # numbers that fit into fast memory


def convolve(constants: Constants, x: torch.Tensor, weight: torch.Tensor, *how) -> torch.Tensor:
    """Return `torch.convolution(x, weight, *how)`, its memory in the order of x.

    Where weights are more numbers than maps, convolutions are faster where everything has its channels first. How many
    maps there are does not decide, so that a face has the same numbers alone and among others.
    """
    if x.ndim != 4 or weight.numel() <= FACES * math.prod(x.shape[1:]) or weight[0, 0].numel() == 1:
        return torch.convolution(x, weight, *how)
    weight = constants.derive(torch.Tensor.contiguous, weight)
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    made = torch.convolution(x.contiguous(), weight, *how)
    return made.contiguous(memory_format=torch.channels_last) if last else made


def transpose(constants: Constants, s: torch.Tensor, weight: torch.Tensor, stride, padding, dilation, more,
              groups: int) -> torch.Tensor:  # fmt: skip
    """Return the transposed convolution of s.

    To few channels it is one product with what each pixel of the kernel takes, and a shifted sum of that.
    """
    if s.ndim != 4 or groups > 1 or weight.shape[1] > FEW or {*dilation} != {1} or s.device.type != "cpu":
        return convolve(constants, s, weight, None, stride, padding, dilation, True, more, groups)
    kernel, places = weight.shape[2:], s.shape[2:]
    whole = [(n - 1) * step + k + left for n, step, k, left in zip(places, stride, kernel, more, strict=True)]
    made = s.new_zeros(weight.shape[1], len(s), *whole)
    takes = constants.derive(_by_pixel, weight)
    last = [(n - 1) * step + 1 for n, step in zip(places, stride, strict=True)]
    at_once = max(1, HELD // (takes.shape[0] * math.prod(places)))
    for some, to in zip(s.split(at_once), made.split(at_once, 1), strict=True):
        parts = (takes @ some.permute(0, 2, 3, 1).flatten(0, 2).T).view(-1, *kernel, len(some), *places)
        for y, x in product(*map(range, kernel)):
            to[..., y : y + last[0] : stride[0], x : x + last[1] : stride[1]] += parts[:, y, x]
    ends = [n - p for n, p in zip(whole, padding, strict=True)]
    return made[..., padding[0] : ends[0], padding[1] : ends[1]].transpose(0, 1)


def _by_pixel(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight (output and pixel of the kernel, input)."""
    return weight.flatten(1).T.contiguous()
