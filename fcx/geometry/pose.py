"""The pose of a head from the upper face alone: what the mouth and the jaw do cannot move it.

Masks are worn and crops are cut in this pose, so that neither shows an expression that the mask hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fcx.geometry.landmarks import canonical

# Vertices above the cheekbones: what the mouth and the jaw do moves them little.
UPPER = (
    10, 109, 338, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 151, 108, 337, 69, 299, 104, 333,
    68, 298, 71, 301, 9, 8, 168, 6, 33, 133, 362, 263, 34, 264, 143, 372, 35, 265, 226, 446, 244, 464, 122, 351,
)  # fmt: skip
HEIGHTS = (1.0, 0.84)  # of a face, against the canonical one: adults in photographs, and shorter (drawn, young) faces
SHORT = 0.91  # the height of an upper face below which the second is taken: adults in tight crops look shorter
FLIP = np.array([1.0, -1.0, -1.0])  # pictures count y down and z away; the canonical face y up and z to the viewer


@dataclass(frozen=True)
class Pose:
    """A similarity in three dimensions and one of two face heights.

    `turn` (xyz, xyz) rotates, `scale` is pixels in a centimetre, `centre` (xyz) is where the middle of
    the upper face lies, `height` one of `HEIGHTS`. A face's own height is not followed more closely
    on purpose: it changes with the expression (raised brows), so whatever follows it predicts arousal.
    """

    turn: np.ndarray
    scale: float
    centre: np.ndarray
    height: float

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return canonical points (point, xyz) in centimetres as picture pixels."""
        own = (points - _middle()) * [1, self.height, 1]
        return (own * self.scale @ self.turn.T + self.centre) * FLIP

    def unplace(self, points: np.ndarray) -> np.ndarray:
        """Return picture points (point, xyz) in canonical centimetres: the inverse of `place`."""
        own = (points * FLIP - self.centre) @ self.turn / self.scale
        return own / [1, self.height, 1] + _middle()

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll, degrees: positive to the right, up, and clockwise; yaw is applied last."""
        turn = self.turn
        yaw = np.arctan2(turn[0, 2], turn[2, 2])
        pitch = np.arcsin(np.clip(turn[1, 2], -1, 1))
        roll = np.arctan2(-turn[1, 0], turn[1, 1])
        return tuple(float(np.degrees(angle)) for angle in (yaw, pitch, roll))


def find_pose(mesh: np.ndarray) -> Pose:
    """Return the pose of a mesh (vertex, xyz) in picture pixels, fitted to the vertices `UPPER`.

    Source: Umeyama 1991, eq. 40-42; then one of two heights.

    >>> from fcx.geometry.landmarks import canonical
    >>> [round(abs(angle)) for angle in find_pose(canonical()["xyz"] * [9, -9, -9]).angles]
    [0, 0, 0]
    """
    source = canonical()["xyz"][list(UPPER)].astype(np.float64) - _middle()
    target = mesh[list(UPPER)] * FLIP
    centre = target.mean(axis=0)
    u, spread, vt = np.linalg.svd((target - centre).T @ source)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = (spread * sign).sum() / (source**2).sum()
    upright = (target - centre) @ turn[:, 1] / scale
    height = HEIGHTS[int(upright @ source[:, 1] / (source[:, 1] @ source[:, 1]) < SHORT)]
    return Pose(turn, float(scale), centre, height)


@cache
def _middle() -> np.ndarray:
    return canonical()["xyz"][list(UPPER)].astype(np.float64).mean(axis=0)
