"""Recipes: how a network is taught, as settings, augmentation and loss.

Barros and Sciutti, "I Only Have Eyes for You", 2021, Table 1, and the code they published for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Recipe:
    """How weights are found; `filled_in` names what the paper does not say."""

    optimiser: str
    rate: float  # peak learning rate
    fine_rate: float  # the same where a checkpoint is trained further
    schedule: str  # "one_cycle", or "plateau" of the training loss
    epochs: int
    batch_size: int
    weight_decay: float
    dropout: float  # of a new network; one that is trained further keeps its own
    zero_head: bool  # a new network starts with outputs of 0
    ccc_loss: bool  # MSE + (1 - CCC), or MSE alone
    augmented: bool
    keep: str  # "best" epoch on validation, or "last"
    filled_in: tuple[str, ...] = ()


RECIPES = {
    # Dropout in front of batch norm shifts its variances (Li et al., CVPR 2019), and the head's first random
    # weights take long to unlearn. Five epochs on 8,000 faces at width 32 reached a validation CCC
    # (arousal/valence) of .34/.18 with .25 and .47/.46 without dropout; in batches of 64, .54/.52, and with
    # a head that starts at zero, .64/.66.
    "modern": Recipe(
        optimiser="adamw", rate=2e-3, fine_rate=5e-4, schedule="one_cycle", epochs=10, batch_size=64,
        weight_decay=0.05, dropout=0.0, zero_head=True, ccc_loss=True, augmented=True, keep="best",
    ),
    # Table 1 selects SGD and .05. The rest is what the authors' published code does.
    "paper": Recipe(
        optimiser="sgd", rate=0.05, fine_rate=0.05, schedule="plateau", epochs=100, batch_size=80,
        weight_decay=0.0, dropout=0.25, zero_head=False, ccc_loss=False, augmented=False, keep="last",
        filled_in=("fine_rate", "schedule", "epochs", "batch_size", "weight_decay", "dropout", "zero_head",
                   "ccc_loss", "augmented", "keep"),
    ),
}  # fmt: skip


def augment(images: torch.Tensor) -> torch.Tensor:
    """Return (sample, 1, y, x) in [0, 1]: flipped, turned, scaled, shifted, relit and noisy at random.

    Half are flipped; rotation is within 8 degrees, scale within 8 %, shift within 4 pixels of 64,
    brightness within .15, contrast within 25 %, and the noise has a deviation of up to .03.
    """
    n, size = len(images), images.shape[-1]

    def uniform(reach):
        return (2 * torch.rand(n) - 1) * reach

    angle, scale = uniform(math.radians(8)), 1 + uniform(0.08)
    flip = 1 - 2 * torch.randint(2, (n,)).float()
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    affine = torch.stack([cos * flip, -sin, uniform(0.125), sin * flip, cos, uniform(0.125)], dim=1)
    noise = torch.randn(n, 1, size, size) * (0.03 * torch.rand(n, 1, 1, 1))
    gain, lift = 1 + uniform(0.25), uniform(0.15)
    affine, noise, gain, lift = (part.to(images.device) for part in (affine, noise, gain, lift))
    grid = F.affine_grid(affine.view(n, 2, 3), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + gain.view(n, 1, 1, 1) * (images - mean) + lift.view(n, 1, 1, 1) + noise).clamp_(0, 1)


def loss_of(prediction: torch.Tensor, truth: torch.Tensor, with_ccc: bool = True) -> torch.Tensor:
    """Return MSE + (1 - CCC) over the batch, averaged over targets, or the sum of their MSEs; both (sample, target)."""
    errors = (prediction - truth).square().mean(dim=0)
    if not with_ccc:
        return errors.sum()
    p, t = prediction - prediction.mean(dim=0), truth - truth.mean(dim=0)
    gap = prediction.mean(dim=0) - truth.mean(dim=0)
    # A batch of one value has neither variance nor agreement: the small term makes its CCC 0, not NaN.
    concordance = 2 * (p * t).mean(0) / (p.square().mean(0) + t.square().mean(0) + gap.square() + 1e-8)
    return (errors + 1 - concordance).mean()
