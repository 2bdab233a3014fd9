"""Regions that overlay the partition of a face: one decorated function each.

A new one is a function faces, rows -> coverage (sample, y, x) in [0, 1]:

    @overlay("upper_half")
    def upper_half(faces, rows):
        cover = np.zeros((len(rows), *faces["regions"].shape[-2:]))
        cover[:, : cover.shape[1] // 2] = 1
        return cover

Statistics, comparisons, figures and worker processes then know the region beside those of the face.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fcx.core.contract import REGIONS, twin
from fcx.core.errors import FcxError

OVERLAYS: dict[str, Callable] = {}
UPPER = ("eyes", "brows", "forehead", "cheeks")


def overlay(name: str):
    """Register a function (faces, rows) -> coverage (sample, y, x) in [0, 1] as the region `name`.

    Raises: FcxError for the name of a region of the face.
    """
    if name in REGIONS:
        raise FcxError(f"{name!r} is a region of the face: give the overlay another name")

    def register(function):
        OVERLAYS[name] = function
        return function

    return register


def region_names(faces) -> list[str]:
    """Return the names of all regions: those that partition the grid, then the overlays."""
    return [*map(str, faces["region"].values), *OVERLAYS]


@overlay("mask")
def worn_mask(faces, rows) -> np.ndarray:
    """Return the alpha of the masked twin of each face, in whatever condition it is asked for.

    Raises: InputError for faces that wear several masks.
    """
    condition = list(faces["condition"].values).index(twin(faces))
    return faces["alpha"].isel(condition=condition, sample=rows).values / 255


@overlay("uncovered")
def uncovered(faces, rows) -> np.ndarray:
    """Return eyes, brows, forehead and cheeks as far as the mask of the twin leaves them open.

    Raises: InputError for faces that wear several masks.
    """
    parts, names = faces["regions"].isel(sample=rows).values, list(faces["region"].values)
    upper = parts[:, [names.index(name) for name in UPPER]].sum(1, dtype=float)
    return upper / np.maximum(parts.sum(1, dtype=float), 1) * (1 - worn_mask(faces, rows))
