"""How a mask sits and looks, in numbers that are defined for a drawn mask and for one that is worn in a photograph.

Places are centimetres of the canonical face in the pose of the head: x to the right of the picture, y up.
"""

from functools import cache

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from fcx.geometry.landmarks import canonical
from fcx.geometry.pose import find_pose

STEP = 0.1
X, Y = np.meshgrid(np.arange(-10, 10.01, STEP), np.arange(5, -13.01, -STEP))
SKIN = (151, 108, 337, 69, 299, 104, 333, 9, 8, 116, 345, 117, 346, 143, 372)  # the forehead and the upper cheeks
LUMA = [0.299, 0.587, 0.114]


@cache
def _surface() -> np.ndarray:
    """Return the canonical face over the grid, (row, column, xyz); beyond it the depth of its edge."""
    face = canonical()["xyz"].astype(float)
    z = LinearNDInterpolator(face[:, :2], face[:, 2])(X, Y)
    edge = NearestNDInterpolator(face[:, :2], face[:, 2])(X, Y)
    return np.stack([X, Y, np.where(np.isfinite(z), z, edge)], axis=-1)


def flattened(image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Return an image (row, column[, channel]) as it lies on the canonical face, over the grid `X`, `Y`."""
    at = find_pose(mesh).place(_surface().reshape(-1, 3))[:, :2].astype(np.float32).reshape(*X.shape, 2)
    return cv2.remap(image.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)


def places(alpha: np.ndarray, mesh: np.ndarray) -> dict[str, float]:
    """Return where a mask (row, column) in [0, 255] lies: edges and half widths in cm, area in square cm."""
    inside = flattened(alpha, mesh) > 127
    body = cv2.morphologyEx(np.uint8(inside), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)) > 0  # without bands

    def top(x):
        column = body[:, np.abs(X[0] - x).argmin()]
        return Y[column.argmax(), 0] if column.any() else np.nan

    def half(y):
        row = body[np.abs(Y[:, 0] - y).argmin()]
        return row.sum() * STEP / 2

    nose, side = np.mean([top(x) for x in (-0.2, 0, 0.2)]), np.mean([top(-5), top(5)])
    return {"nose": nose, "side": side, "fall": nose - side, "half5": half(-5), "half7": half(-7),
            "area": body.sum() * STEP**2, "low": Y[body[:, np.abs(X[0]).argmin()], 0].min(initial=0.0)}  # fmt: skip


def looks(masked: np.ndarray, alpha: np.ndarray, mesh: np.ndarray) -> dict[str, float]:
    """Return how a mask looks: texture, the mean of local deviation over local mean, and brightness over the skin's.

    Local: in squares of 3 mm (fine) and of 3 cm (middle) that lie within the mask.
    """
    grey = flattened(masked, mesh) @ LUMA
    inside = np.uint8(flattened(alpha, mesh) > 250)
    inner = cv2.erode(inside, np.ones((11, 11), np.uint8)) > 0
    return {
        "fine": float(_deviation(grey, inside, 3)[inner].mean()),
        "middle": float(_deviation(grey, inside, 31)[inner].mean()),
        "ratio": float(np.median(grey[inner]) / _skin(masked, mesh)),
    }


def _deviation(grey, inside, side: int) -> np.ndarray:
    weight = inside.astype(float)
    count = np.maximum(cv2.blur(weight, (side, side)), 1e-6)
    mean = cv2.blur(grey * weight, (side, side)) / count
    square = cv2.blur(grey**2 * weight, (side, side)) / count
    return np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1)


def _skin(masked, mesh) -> float:
    points = np.rint(find_pose(mesh).place(canonical()["xyz"][list(SKIN)])[:, :2]).astype(int)
    points = points.clip(0, np.array(masked.shape[1::-1]) - 1)
    return max(1.0, float(np.median(masked[points[:, 1], points[:, 0]] @ LUMA)))
