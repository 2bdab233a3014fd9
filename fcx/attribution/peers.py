"""What peers do for any network, under the contract of fcx.

Targets are linear expressions of outputs, a map adds up to what the target changes from a baseline, and hooks are gone
afterwards, also after an exception. captum's DeepLift takes for linear what is no module that it knows: where its maps
then do not add up they are refused.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from fcx.attribution.batch import Batch
from fcx.core.errors import InputError

SMALL = 1e-3  # of what a map distributes: what it may lack
# What peers raise where a network does what they do not foresee.
MISSES = (RuntimeError, AssertionError, AttributeError, IndexError, TypeError, ValueError)
INSTEAD = "use integrated_gradients, expected_gradients or lrp_epsilon"


class Targets(nn.Module):
    """The network of a batch as captum asks for it: pictures to targets (sample, target)."""

    def __init__(self, batch: Batch):
        super().__init__()
        self.batch, self.model = batch, batch.model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the targets of pictures (sample, channel, y, x)."""
        return self.batch.values(self.batch.explained(images))


def deeplift_maps(batch: Batch, start: torch.Tensor) -> torch.Tensor:
    """Return captum's DeepLift from the pictures `start`, (target, sample, y, x).

    Raises: InputError for a network that it does not know how to go through.
    """
    from captum.attr import DeepLift

    peer, maps = DeepLift(Targets(batch)), []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Setting forward, backward hooks")
        for target in range(len(batch.weights)):
            try:
                maps.append(peer.attribute(batch.images.clone().requires_grad_(), start, target))
            except MISSES as error:
                raise InputError(
                    f"captum's DeepLift cannot explain model {batch.subject.name!r} (a layer that runs twice, such as "
                    f"one ReLU for two convolutions, is the usual reason): {INSTEAD}; captum says: {error}"
                ) from error
    return torch.stack(maps).detach().sum(2)


def check_sums(batch: Batch, maps: torch.Tensor, gaps: torch.Tensor) -> None:
    """Refuse maps (target, sample, y, x) that do not add up but for `gaps` (target, sample).

    Raises: InputError.
    """
    mass = maps.abs().sum((-2, -1))
    if (missing := gaps.abs() > SMALL * mass + torch.finfo(maps.dtype).eps).any():
        share, gap = (float(v[missing].abs().max()) for v in (gaps / mass, gaps))
        raise InputError(
            f"DeepLift of model {batch.subject.name!r} does not add up: it lacks {gap:.2g} in units of the output, "
            f"{share:.1%} of what the map distributes. captum knows ReLU, ELU, sigmoid, tanh, softplus and softmax as "
            f"modules, takes functions and all else for linear, and loses at max-pooling: {INSTEAD}"
        )
