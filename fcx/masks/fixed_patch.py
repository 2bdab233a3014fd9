"""A control whose outline tells nothing: one flat grey patch that covers the same part of every crop.

Every mask that is worn follows the pose of the head and one of two face heights, so that its outline says something
of the face. This one has a fixed place in the square that the crop rules `face` and `upright` cut: the outline of a
surgical mask on the canonical face, seen from the front. How it is worn (scale, shift, jitter, fit) plays no part.

On the demo faces the alpha of a pixel of the grid differs by at most 5 of 255, by the resolution of the crop. The
leakage audit finds a CCC of -0.00 with the ratings, at chance (rigid surgical masks: 0.08 and 0.09 for arousal, 0.04
and 0.08 for valence, from pixels and from the outline).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from fcx.core.contract import GRID
from fcx.geometry.crops import face_square, whole_pixels
from fcx.geometry.landmarks import canonical
from fcx.geometry.pose import FLIP
from fcx.masks.shapes import SHAPES, surface
from fcx.masks.styles import rgb, style

FINE = 1024  # pixels: the side of the square in which the outline is drawn


@style("fixed_patch", colours=("grey",), lit=False, pasted=True)
def paste_fixed(picture: np.ndarray, mesh: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of the patch in the square of a face.

    On a crop that was cut by the same mesh the square is the crop.
    """
    (left, top), side = whole_pixels(*face_square(mesh))
    move = np.float64([[1, 0, left], [0, 1, top]])
    alpha = cv2.warpAffine(_outline(side), move, picture.shape[1::-1], flags=cv2.INTER_NEAREST)
    return np.broadcast_to(np.uint8(rgb(colour)), picture.shape).copy(), alpha


@lru_cache(maxsize=64)
def _outline(side: int) -> np.ndarray:
    """Return the alpha (row, column) uint8 of the patch in a square of this side."""
    cloth = surface(SHAPES["pleated"])
    border = np.concatenate([cloth[0], cloth[1:, -1], cloth[-1, -2::-1], cloth[-2:0:-1, 0]])
    centre, extent = face_square(canonical()["xyz"] * FLIP)
    place = ((border * FLIP)[:, :2] - centre) * (FINE / extent) + (FINE - 1) / 2
    fine = cv2.fillPoly(np.zeros((FINE, FINE), np.uint8), [np.rint(place).astype(np.int32)], 255)
    fine = cv2.GaussianBlur(fine, (0, 0), FINE / GRID)  # so that the crop's own resolution hardly shows
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA if side < FINE else cv2.INTER_LINEAR)
