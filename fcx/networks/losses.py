"""What training makes small."""

from __future__ import annotations

import torch


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
