"""Functions for one entry of each registry: tests register them at run time, and worker processes find them here."""

import numpy as np
import torch

from fcx.attribution.lrp import explain
from fcx.attribution.lrp_rules import Part, Rule


def upper_half(faces, rows):
    """Return the upper half of the grid, for every face."""
    cover = np.zeros((len(rows), *faces["regions"].shape[-2:]))
    cover[:, : cover.shape[1] // 2] = 1
    return cover


def steep(gamma, alpha):
    """Return w + w+."""
    return (Part(2, 1, 1),)


def half_taken(t):
    """Return k = t / 2."""
    return t / 2


def everywhere(sweep, layer, m):
    """Spread what the first convolution has over the whole picture."""
    total = m.times(layer.activation).whole.sum((2, 3, 4), keepdim=True)
    x = layer.x.tensor
    sweep.carry(layer.x, total.expand(-1, *x.shape) / x[0].numel())


def halftone(batch):
    """Return pictures of every second pixel."""
    return batch.images * (torch.arange(batch.images.shape[-1]) % 2)


def toy_lrp(batch, *, shunt_rule="half_taken", first_rule="rule"):
    """Go down by the toy rules."""
    return explain(batch, Rule("steep", first_rule, shunt_rule))


def checked_cloth(colour, pattern):
    """Draw squares."""
    tone = np.indices((64, 64)).sum(0) // 8 % 2
    return (0.5 + tone[..., None] / 2) * colour
