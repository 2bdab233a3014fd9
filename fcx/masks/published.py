"""The mask of the paper's authors, for reproduction: clip-art pasted between the nose and the chin.

The geometry is that of the published masker: the two halves are stretched to the distances of the jaw
from the line between nose and chin, and pasted upright. (That masker computes a rotation as well, and does not
use it.) Nothing is warped, lit or blurred, and the jaw moves it.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from fcx.core.paths import DATA
from fcx.geometry.landmarks import canonical
from fcx.masks.styles import style

CLIPART = DATA / "clipart"
CLIP_ART = ("white", "black", "blue", "red")
WIDER = 1.2  # the published ratio of the mask's half width to the jaw's distance
BRIDGE, CHIN, LEFT, RIGHT = 28, 8, 2, 14  # of the 68 points


@style("published", colours=CLIP_ART, pasted=True)
def paste_published(picture: np.ndarray, mesh: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of the clip-art on a face.

    Source: Barros and Sciutti 2021, section 3.1, and the code published for it.
    """
    art = _clipart(colour)
    points = mesh[canonical()["ibug68"], :2]
    bridge, chin = points[BRIDGE], points[CHIN]
    height = max(1, int(np.linalg.norm(bridge - chin)))
    half = art.shape[1] // 2
    parts = [
        cv2.resize(part, (max(1, int(WIDER * _distance(points[side], bridge, chin))), height),
                   interpolation=cv2.INTER_AREA if part.shape[0] > height else cv2.INTER_LINEAR)
        for part, side in ((art[:, :half], LEFT), (art[:, half:], RIGHT))
    ]  # fmt: skip
    pasted = np.concatenate(parts, axis=1)
    # The seam between the halves lies on the middle of the line from nose to chin.
    x, y = np.int64((bridge + chin) // 2) - [parts[0].shape[1], pasted.shape[0] // 2]
    rows, columns = picture.shape[:2]
    full = np.zeros((rows, columns, 4), np.uint8)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + pasted.shape[0], rows), min(x + pasted.shape[1], columns)
    if bottom > top and right > left:
        full[top:bottom, left:right] = pasted[top - y : bottom - y, left - x : right - x]
    return np.ascontiguousarray(full[:, :, :3]), np.ascontiguousarray(full[:, :, 3])


@cache
def _clipart(colour: str) -> np.ndarray:
    pixels = cv2.imread(str(CLIPART / f"{colour}.png"), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)


def _distance(point, start, end) -> float:
    """Return the distance (pixels) of a point from the line through two others."""
    along, across = end - start, point - start
    return abs(along[0] * across[1] - along[1] * across[0]) / max(np.linalg.norm(along), 1e-9)
