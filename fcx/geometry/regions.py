"""Landmarks and mesh in, region coverage out: eyes, brows, nose, mouth, cheeks, forehead, jaw, background.

Each triangle of the mesh belongs to one region, so the regions follow the expression and
partition the picture at any size; hidden parts of a turned face are hidden here as well.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from fcx.core.arguments import Count, checked
from fcx.core.checks import check_memory
from fcx.core.contract import GRID, REGIONS
from fcx.geometry.landmarks import canonical, check_mesh, rasterise

OVERSAMPLING = 4  # per side: coverage is counted in sixteenths
# Vertex loops of the mesh, one side; the other side is the mirror image.
EYE = (226, 31, 228, 229, 230, 231, 232, 233, 244, 189, 221, 222, 223, 224, 225, 113)
BROW = (113, 225, 224, 223, 222, 221, 55, 107, 66, 105, 63, 70, 46)
NOSE = (168, 193, 245, 188, 174, 217, 126, 129, 98, 97, 2)
MOUTH = (2, 97, 165, 92, 186, 57, 43, 106, 182, 83, 18)
FOREHEAD_FROM, JAW_BELOW = 168, 61  # the nose's root; the corner of the mouth


@checked
def region_maps(mesh: np.ndarray, size: Count = GRID) -> np.ndarray:
    """Return the coverage (region, y, x) uint8 of a face's regions, in the order of `contract.REGIONS`.

    `mesh` (vertex, xyz) is in grid pixels, pixel centres at integers. At every pixel the coverages
    sum to 255: fractions of a pixel are kept, so that areas survive resizing.

    Raises: InputError for a mesh of another shape, or with missing values.

    >>> from fcx.geometry.landmarks import canonical
    >>> mesh = canonical()["xyz"] * [2.5, -2.5, -2.5] + [32, 32, 0]
    >>> region_maps(mesh).sum(axis=0).min()
    np.uint64(255)
    """
    fine = check_mesh(mesh) * OVERSAMPLING
    fine[:, :2] += (OVERSAMPLING - 1) / 2
    side = size * OVERSAMPLING
    check_memory(16 * side**2, f"size {size}")
    seen = rasterise(fine, canonical()["tri"], (side, side))
    labels = np.append(triangle_regions(), REGIONS.index("background"))[seen]  # -1 picks the appended one
    coverage = np.stack(
        [cv2.resize((labels == i).astype(np.uint8) * 255, (size, size), interpolation=cv2.INTER_AREA)
         for i in range(len(REGIONS))]
    ).astype(np.int64)  # fmt: skip
    # Rounding leaves sums of 254 or 256: the largest region of the pixel takes the difference.
    largest = coverage.argmax(axis=0)[None]
    rest = np.take_along_axis(coverage, largest, 0) + 255 - coverage.sum(axis=0)
    np.put_along_axis(coverage, largest, rest, 0)
    return coverage.astype(np.uint8)


@cache
def triangle_regions() -> np.ndarray:
    """Return the region of each triangle of the mesh, (triangle,), as an index into `contract.REGIONS`."""
    face = canonical()
    flat = face["xyz"][:, :2].astype(np.float32)
    centres = flat[face["tri"]].mean(axis=1)
    centres[:, 0] = -np.abs(centres[:, 0])  # the loops are those of the left side of the picture
    half = np.where(
        centres[:, 1] > flat[FOREHEAD_FROM, 1],
        REGIONS.index("forehead"),
        np.where(centres[:, 1] < flat[JAW_BELOW, 1], REGIONS.index("jaw"), REGIONS.index("cheeks")),
    )
    for name, loop in (("mouth", MOUTH), ("nose", NOSE), ("brows", BROW), ("eyes", EYE)):
        outline = flat[list(loop)]
        inside = [cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for x, y in centres]
        half[inside] = REGIONS.index(name)
    return half
