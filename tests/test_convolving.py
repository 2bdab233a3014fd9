"""Convolutions that are done in another way than torch does them: the same numbers, the same memory."""

from itertools import product

import pytest
import torch
from torch import nn

from fcx.attribution.convolving import convolve, transpose
from fcx.attribution.lrp_values import Constants


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3), (7, 7), (8, 8)])
@pytest.mark.parametrize("step", [(1, 1), (2, 2), (3, 2), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transposed_convolution_to_few_channels_is_torchs(kernel, step, channels):
    torch.manual_seed(0)
    weight = torch.randn(6, channels, *kernel, dtype=torch.float64)
    s = torch.randn(2, 6, 5, 9, dtype=torch.float64)
    for padding, more in product((0, 1, 2, 3), (0, 1)):
        if padding >= min(kernel) or more >= max(min(step), 1):
            continue
        how = step, (padding, padding), (1, 1), (more, more), 1
        expected = torch.convolution(s, weight, None, *how[:3], True, *how[3:])
        torch.testing.assert_close(transpose(Constants(nn.Flatten()), s, weight, *how), expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("side", [1, 2, 4, 9])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_of_many_weights_is_torchs_in_the_memory_of_its_input(transposed, side, last):
    torch.manual_seed(0)
    x, weight = torch.randn(3, 24, side, side, dtype=torch.float64), torch.randn(24, 24, 3, 3, dtype=torch.float64)
    if last:
        x, weight = (one.contiguous(memory_format=torch.channels_last) for one in (x, weight))
    how = None, (2, 2), (1, 1), (1, 1), transposed, (0, 0), 1
    found, expected = convolve(Constants(nn.Flatten()), x, weight, *how), torch.convolution(x, weight, *how)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
