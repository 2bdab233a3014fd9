"""Methods that weigh the last convolutional map of a FaceChannel.

The map is the output of the shunting layer, or of conv10's ReLU where a model has no inhibition: 8x8 for
64x64 faces. A cell becomes a constant block of pixels that share its value, so that every map on the grid
has exactly the sum of its cells, and the mass of a region counts cells by their overlap with it.
"""

from __future__ import annotations

import torch

from fcx.attribution.methods import Batch, method
from fcx.model import FaceChannel

CELL = 8  # pixels: three poolings lie before the last convolutions


def spread(cells: torch.Tensor, size: int) -> torch.Tensor:
    """Spread (..., row, column) evenly over a grid of `size` pixels; every sum stays the same.

    >>> spread(torch.tensor([[4.0]]), 2)
    tensor([[1., 1.],
            [1., 1.]])
    """
    side = size // cells.shape[-1]
    return (cells / side**2).repeat_interleave(side, -2).repeat_interleave(side, -1)


@method("gradcam", signed=False, conserves=False, resolution=CELL, needs=FaceChannel)
def gradcam(batch: Batch) -> torch.Tensor:
    """Return Grad-CAM of each output as (target, sample, y, x), from one pass through the trunk for all targets.

    alpha_k = mean over cells of d output / d A_k; map = ReLU(sum_k alpha_k A_k), with the output before its
    activation and without any scaling, so that maps of different faces and models compare.
    Source: Selvaraju et al. 2017 (1610.02391), equations (1) and (2).
    """
    features = batch.features.detach().requires_grad_()  # (sample, channel, row, column)
    outputs = batch.model.tail(features)
    maps = []
    for target in batch.targets:
        (gradient,) = torch.autograd.grad(outputs[:, target].sum(), features, retain_graph=True)
        alpha = gradient.mean((2, 3), keepdim=True)
        maps.append((alpha * features.detach()).sum(1).relu())
    return spread(torch.stack(maps), batch.images.shape[-1])


@method("mean_activation", signed=True, conserves=False, resolution=CELL, needs=FaceChannel)
def mean_activation(batch: Batch) -> torch.Tensor:
    """Return plus or minus the mean activation, (target, sample, y, x): what the authors' code in effect drew.

    Their loop multiplies every channel by one and the same pooled gradient, that of the channel whose number
    is the index of the image, and a division by the maximum removes its size: only its sign is left. The
    gradient is that of the sum of both outputs, so the map is the same for every target. Where the sign is
    negative their drawing is empty.

    Deviations: the index is the face's position along `sample`, modulo the number of channels (their code
    fails silently beyond it); the negative sign is kept, and nothing is divided by the maximum, both left to
    whoever draws; the map is that after the shunt where the model has one (their code has none: conv10).
    Source: Barros and Sciutti 2021, Figure 3, and the code published with it.
    """
    features = batch.features.detach().requires_grad_()
    output = batch.model.activation(batch.model.tail(features)).sum()
    (gradient,) = torch.autograd.grad(output, features)
    pooled = gradient.mean((2, 3))  # (sample, channel)
    picked = pooled.gather(1, (batch.position % pooled.shape[1])[:, None])  # (sample, 1)
    cells = picked.sign()[..., None] * features.detach().mean(1)
    return spread(cells, batch.images.shape[-1]).expand(len(batch.targets), -1, -1, -1)
