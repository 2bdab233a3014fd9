"""Methods that follow the gradient from an output to the pixels."""

from __future__ import annotations

import torch
from captum.attr import Saliency

from fcx.attribution.methods import Batch, method


@method("gradient", signed=True, conserves=False, resolution=1)
def saliency(batch: Batch) -> torch.Tensor:
    """Return d output / d pixel, signed, as (target, sample, y, x) in output units per unit of grey in [0, 1].

    Source: Simonyan, Vedaldi and Zisserman 2013 (1312.6034), section 3; there the absolute value is drawn.
    """
    captum = Saliency(batch.explained)
    images = batch.images.detach().clone().requires_grad_()
    maps = [captum.attribute(images, target=target, abs=False) for target in batch.targets]
    return torch.stack(maps).sum(2)  # over the channels of the picture, of which there is one
