"""The surfaces that masks are drawn on, in centimetres of the canonical face, and how they fit a face.

A surface is a grid of vertices over the lower face (its convex hull, a little outside the skin). The
fit `rigid` leaves it to the pose; `jaw` and `donor` bend it after the nose, cheeks, jaw and chin of a mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from fcx.geometry.landmarks import canonical
from fcx.geometry.pose import Pose

COLUMNS, ROWS = 21, 14  # vertices of a surface, across (odd: one column runs over the tip of the nose) and down
OFFSET = 0.32  # the cloth stands off the hull
ACROSS_FOLLOWED, UP_FOLLOWED = 0.2, 0.1  # the parts of a face's displacement that cloth follows away from the chin
RUMPLED = np.array([0.08, 0.10, 0.22])  # standard deviation of folds: across, up, towards the viewer
FITS = ("rigid", "jaw", "donor")
WEARINGS = ("proper", "under_nose", "under_chin")
CENTRE = (0.0, -4.0)  # what scale and roll leave in its place
CELL, LEFT, TOP = 0.1, -10.0, 10.0  # the grid of heights: its step, its first column and its first row
EARS = np.array([[7.9, 1.6, -4.6], [7.7, -2.6, -4.4]])  # where the loops go, above and below
STRAPS = np.array([[8.1, 4.6, -5.2], [7.7, -3.4, -4.6]])  # where straps around the head go
# What a mask rests on: the bridge and the sides of the nose, cheeks, jaw and chin; not the lips.
SUPPORT = (
    168, 6, 197, 195, 4, 98, 327, 50, 280, 123, 352, 205, 425, 187, 411, 234, 93, 132, 58, 172, 136, 150, 149, 176,
    148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 199, 200,
)  # fmt: skip

ACROSS, DOWN = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, ROWS))
SIDE = np.abs(ACROSS)


@dataclass(frozen=True)
class Shape:
    """An outline and a relief, all in centimetres.

    `width` (down) is half the width, `top` and `bottom` (side) are the edges' heights, `relief`
    (side, down) is how far the cloth stands out; side and down run from 0 to 1. `loops` is where the
    bands go, or None. `upper`: the surface is not a mask but lies on the whole face.
    """

    width: Callable
    top: Callable
    bottom: Callable
    relief: Callable = lambda side, down: 0 * side
    loops: np.ndarray | None = None
    upper: bool = False


SHAPES = {
    "pleated": Shape(
        width=lambda down: 6.6 - 1.1 * down**2,
        top=lambda side: 1.4 - 1.8 * side**1.5,
        bottom=lambda side: -10.3 + 3.2 * side**2.3,
        loops=EARS,
    ),
    "fitted": Shape(  # sewn of two halves: a seam that stands out, a point over the nose and one under the chin
        width=lambda down: 6.5 - 0.8 * down**2,
        top=lambda side: 1.65 - 2.1 * side**1.2,
        bottom=lambda side: -10.4 + 4.4 * side**2,
        relief=lambda side, down: 0.7 * np.exp(-((side / 0.3) ** 2)) * np.sin(np.pi * np.clip(down, 0, 1)),
        loops=EARS,
    ),
    "folded": Shape(  # KN95 and FFP2: folded along the middle, which becomes a keel
        width=lambda down: 6.4 - 0.7 * down**2,
        top=lambda side: 1.75 - 2.2 * side**1.1,
        bottom=lambda side: -10.3 + 4.6 * side**2.1,
        relief=lambda side, down: 1.9 * np.clip(1 - side / 0.75, 0, 1) * np.sin(np.pi * (0.12 + 0.76 * down)) ** 1.2,
        loops=EARS,
    ),
    "beak": Shape(  # duckbill: an upper and a lower panel that meet in a horizontal edge
        width=lambda down: 6.4 - 1.3 * np.abs(down - 0.45) ** 1.5,
        top=lambda side: 1.6 - 2.0 * side**1.3,
        bottom=lambda side: -10.2 + 4.4 * side**2.2,
        relief=lambda side, down: 2.8 * np.clip(1 - side**3, 0, 1) * np.clip(1 - np.abs(down - 0.55) / 0.5, 0, 1),
        loops=STRAPS,
    ),
    "sheet": Shape(width=lambda down: 8.5 + 0 * down, top=lambda side: 3.0 + 0 * side,
                   bottom=lambda side: -12.0 + 0 * side, loops=EARS),
    "glasses": Shape(width=lambda down: 7.3 + 0 * down, top=lambda side: 5.0 + 0 * side,
                     bottom=lambda side: 0.2 + 0 * side, upper=True),
}  # fmt: skip


def surface(shape: Shape, wearing: str = "proper", scale: float = 1.0, shift=(0.0, 0.0), roll: float = 0.0,
            lift: float = 0.0):  # fmt: skip
    """Return the vertices (row, column, xyz) of a shape as it is worn; `roll` in degrees, `lift` of the upper ends."""
    top, bottom = shape.top(SIDE) + (0 if shape.upper else lift) * SIDE**1.5, shape.bottom(SIDE)
    if wearing == "under_nose":
        top, bottom = top - (shape.top(np.zeros(1)) + 1.85) * (1 - 0.5 * SIDE**2), bottom - 0.5
    if wearing == "under_chin":
        top, bottom = -8.2 + 5.4 * SIDE**1.6, -11.8 + 5.2 * SIDE**1.7
    x, y = ACROSS * shape.width(DOWN), top + (bottom - top) * DOWN
    turn = scale * np.exp(1j * np.radians(roll))
    moved = ((x - CENTRE[0]) + 1j * (y - CENTRE[1])) * turn + complex(*CENTRE) + complex(*shift)
    x, y = moved.real, moved.imag
    column, row = (x - LEFT) / CELL, (TOP - y) / CELL
    heights = _heights(shape.upper)
    z = cv2.remap(heights, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR,
                  borderMode=cv2.BORDER_REPLICATE) + OFFSET  # fmt: skip
    if not shape.upper:
        if wearing == "proper":
            z = z + shape.relief(SIDE, DOWN)
        z = z - 1.6 * np.clip((DOWN - 0.8) / 0.2, 0, 1) ** 2  # the lower edge tucks in under the chin
    return np.stack([x, y, z], axis=-1)


def rumple(vertices: np.ndarray, pattern: int) -> np.ndarray:
    """Return the vertices (row, column, xyz), moved to and fro by smooth noise that a number draws."""
    noise = np.random.default_rng(pattern).normal(0, 1, (6, 7, 3)).astype(np.float32)
    return vertices + RUMPLED * cv2.resize(noise, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)


def bend(vertices: np.ndarray, mesh: np.ndarray, pose: Pose) -> np.ndarray:
    """Return the vertices (row, column, xyz), moved as the support of this mesh (in pixels) differs from the canonical.

    The displacements of the vertices `SUPPORT` are interpolated by a smoothed thin-plate spline.
    """
    moved = pose.unplace(mesh[list(SUPPORT)]) - canonical()["xyz"][list(SUPPORT)]
    moved = np.tensordot(_spline(), moved, axes=1)
    # A mask is as wide as it is sewn and hangs on the ears: it follows the chin, and its edges hardly follow at all.
    moved[:, :, 0] *= ACROSS_FOLLOWED
    moved[:, :, 1] *= UP_FOLLOWED + (1 - UP_FOLLOWED) * DOWN * (1 - SIDE**1.5)
    return vertices + moved


@cache
def _spline() -> np.ndarray:
    """Return the weights (row, column, support) with which the support moves the surface."""
    from scipy.interpolate import RBFInterpolator

    support = canonical()["xyz"][list(SUPPORT), :2].astype(np.float64)
    plain = surface(SHAPES["pleated"])[:, :, :2].reshape(-1, 2)
    weights = RBFInterpolator(support, np.eye(len(SUPPORT)), smoothing=1.5)(plain)
    return weights.reshape(ROWS, COLUMNS, len(SUPPORT))


@cache
def _heights(upper: bool) -> np.ndarray:
    """Return z of the convex hull of the (lower) face over a grid of x and y: cloth spans from nose to chin."""
    from scipy.spatial import ConvexHull

    face = canonical()["xyz"].astype(np.float64)
    if not upper:
        face = face[face[:, 1] < 2.6]
    x, y = np.meshgrid(np.arange(LEFT, -LEFT + CELL, CELL), np.arange(TOP, -14, -CELL))
    planes = ConvexHull(face).equations
    heights = np.full(x.shape, np.inf)
    for a, b, c, d in planes[planes[:, 2] > 0.05]:
        np.minimum(heights, -(a * x + b * y + d) / c, out=heights)
    heights = np.maximum(heights, -9.0).astype(np.float32)

    def smooth(values):  # cloth has no creases
        return cv2.GaussianBlur(values, (0, 0), 0.6 / CELL, borderType=cv2.BORDER_REPLICATE)

    missing = np.maximum(heights - smooth(heights), 0)  # at the tip of the nose, which must not show in profile
    return smooth(heights) + smooth(cv2.dilate(missing, np.ones((15, 15), np.uint8)))


@cache
def triangles() -> np.ndarray:
    """Return the triangles (triangle, corner) of every surface."""
    number = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
