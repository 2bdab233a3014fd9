"""What stands in for pixels that are taken away: the baselines of paths, the fills of ablations, and chance.

No fill is neutral. Black is itself a bright or dark patch beside what it replaces; the mean face brings a
face along; a blur keeps brightness and removes detail; the grey of the mask asks what the mask alone does; the
twin, the same face with or without its mask, asks what tells the two apart. An effect that holds under one fill
only is an effect of the fill: use several.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from fcx.attribution.batch import Batch
from fcx.core.checks import choose

BLUR = 1 / 8  # standard deviation of the blur, of the side of the picture: coarser than an eye or a mouth
AT_ONCE = 16  # pictures in one pass: larger ones are slower on a CPU (measured with gradients), and take more memory


FILLS: dict[str, Callable[[Batch], torch.Tensor]] = {}


def fill(function: Callable) -> Callable:
    """Register a function batch -> pictures (sample, channel, y, x) as the fill that has its name."""
    FILLS[function.__name__] = function
    return function


@fill
def black(batch: Batch) -> torch.Tensor:
    """Return black pictures."""
    return torch.zeros_like(batch.images)


@fill
def grey(batch: Batch) -> torch.Tensor:
    """Return pictures of middle grey, 0.5."""
    return torch.full_like(batch.images, 0.5)


@fill
def mean(batch: Batch) -> torch.Tensor:
    """Return the mean face: of all usable faces of the Dataset in the condition that is explained."""
    return batch.mean().expand_as(batch.images)


@fill
def blur(batch: Batch) -> torch.Tensor:
    """Return each picture blurred by a Gaussian whose standard deviation is an eighth of its side, reflected."""
    down, across = (
        torch.from_numpy(gaussian_filter1d(np.eye(side), side * BLUR, mode="reflect", axis=0)).to(batch.images)
        for side in batch.images.shape[-2:]
    )
    return down @ batch.images @ across.T


@fill
def mask(batch: Batch) -> torch.Tensor:
    """Return pictures of one grey, or colour: the mean of each face's masked twin where its mask covers it.

    NaN, and with it the map, for a face whose twin is unusable or wears nothing that covers.
    """
    alpha = batch.at_input(batch.alpha)[:, None]
    tone = (batch.pictures(batch.twin) * alpha).sum((2, 3)) / alpha.sum((2, 3))  # 0 / 0 where nothing is worn
    return tone[:, :, None, None].expand_as(batch.images)


@fill
def twin(batch: Batch) -> torch.Tensor:
    """Return the same faces in the other condition: masked for those without a mask, without for masked ones.

    NaN, and with it the map, for a face that is unusable there.

    Raises: InputError for faces in one condition.
    """
    pictures, usable = batch.pictures(batch.other), batch.usable(batch.other)
    return torch.where(usable[:, None, None, None], pictures, torch.nan)


def filled(batch: Batch, fill: str) -> torch.Tensor:
    """Return what replaces the pictures of a batch, (sample, channel, y, x), by the name of a fill.

    Raises: UnknownNameError for a name that is not in `FILLS`.
    """
    return FILLS[choose(fill, FILLS, "fill")](batch)


def draws(batch: Batch, seed: int, *what: str) -> list[np.random.Generator]:
    """Return a random generator for each face, which depends on its id, `seed` and `what`, never on the batch.

    Where a batch comes from no Dataset, the place of a face stands for its id.
    """
    names = batch.names if batch.reader is not None else [str(place) for place in batch.position.tolist()]
    return [np.random.default_rng([seed, zlib.crc32("\n".join([name, *what]).encode())]) for name in names]


def passes(count: int, faces: int) -> Iterator[slice]:
    """Yield slices of `count` variants of `faces` pictures, each so small that one pass takes all the faces."""
    step = max(1, AT_ONCE // faces)
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))
