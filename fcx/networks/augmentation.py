"""Pictures changed at random, so that a network learns faces and not photographs."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def augment(images: torch.Tensor, changes: tuple | None = None) -> torch.Tensor:
    """Return (sample, 1, y, x) in [0, 1]: flipped, turned, scaled, shifted, relit and noisy at random, or by `changes`.

    Half are flipped; rotation is within 4 degrees, scale within 4 %, shift within 2 pixels of 64,
    brightness within .15, contrast within 25 %, and the noise has a deviation of up to .015: crops are
    aligned already, and twice as far taught less (docs/training.md).
    """
    affine, noise, gain, lift = (
        part.to(images.device) for part in changes or random_changes(len(images), images.shape[-1])
    )
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + gain * (images - mean) + lift + noise).clamp_(0, 1)


def random_changes(n: int, size: int) -> tuple[torch.Tensor, ...]:
    """Return how `n` pictures are moved (sample, 2, 3), noise (sample, 1, y, x), contrast and brightness."""

    def uniform(reach):
        return (2 * torch.rand(n) - 1) * reach

    angle, scale = uniform(math.radians(4)), 1 + uniform(0.04)
    flip = 1 - 2 * torch.randint(2, (n,)).float()
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    affine = torch.stack([cos * flip, -sin, uniform(0.0625), sin * flip, cos, uniform(0.0625)], dim=1)
    noise = torch.randn(n, 1, size, size) * (0.015 * torch.rand(n, 1, 1, 1))
    gain, lift = 1 + uniform(0.25), uniform(0.15)
    return affine.view(n, 2, 3), noise, gain.view(n, 1, 1, 1), lift.view(n, 1, 1, 1)
