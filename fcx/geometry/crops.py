"""Crop rules: from a picture with a mesh to the square that a network sees part of."""

from __future__ import annotations

import cv2
import numpy as np

from fcx.core.errors import FaceError
from fcx.geometry.face_mesh import eyes_of
from fcx.geometry.landmarks import canonical
from fcx.geometry.pose import find_pose

CROP_MARGIN = 1.25  # the crop's side, in extents of the face
CROP_LIMIT = 512  # pixels: larger crops are shrunk before the mask is worn
SMALLEST = 20  # pixels: the extent of a face below which there is too little to see


def crop_face(picture: np.ndarray, mesh: np.ndarray, points: np.ndarray, rule: str = "face"):
    """Return the square crop (row, column, channel) of a face, and its mesh and points in crop pixels.

    `face`: a square around the canonical face in the pose of this one, side 1.25 times its larger
    extent, so that an open mouth cannot move it; `upright`: the same after turning the eyes level;
    `whole`: the whole picture, made square. What lies beyond the picture repeats its edge. Crops above
    512 pixels are shrunk.

    Raises: FaceError for a face below 20 pixels.
    """
    if rule == "upright":
        picture, mesh, points = _turned(picture, mesh, points)
    if rule == "whole":
        side = max(picture.shape[:2])
        centre = np.array([picture.shape[1] - 1, picture.shape[0] - 1]) / 2
    else:
        centre, side = face_square(mesh)
        if side < CROP_MARGIN * SMALLEST:
            raise FaceError(f"the face is only {side / CROP_MARGIN:.0f} pixels large, at least {SMALLEST} are needed")
    corner, side = whole_pixels(centre, side)
    crop = _square(picture, corner, side)
    scale = min(1.0, CROP_LIMIT / side)
    if scale < 1:
        crop = cv2.resize(crop, (CROP_LIMIT, CROP_LIMIT), interpolation=cv2.INTER_AREA)
    moved = mesh - [*corner, 0]
    return crop, scaled(moved, scale), scaled(points - corner, scale)


def face_square(mesh: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centre (xy) and the side, in pixels, of the square around the canonical face in the pose of a mesh."""
    placed = find_pose(mesh).place(canonical()["xyz"])[:, :2]
    low, high = placed.min(axis=0), placed.max(axis=0)
    return (low + high) / 2, CROP_MARGIN * float((high - low).max())


def whole_pixels(centre: np.ndarray, side: float) -> tuple[np.ndarray, int]:
    """Return the corner (xy) and the side of a square as the whole pixels that are cut."""
    side = max(1, round(float(side)))
    return np.rint(centre - (side - 1) / 2).astype(int), side


def scaled(points: np.ndarray, scale: float) -> np.ndarray:
    """Return points of a picture that was resized by `scale` (pixel centres at integers; z is a length)."""
    result = points * scale
    result[:, :2] += (scale - 1) / 2
    return result


def _square(picture, corner, side):
    rows, columns = picture.shape[:2]
    low, high = np.maximum(-corner, 0), np.maximum(corner + side - [columns, rows], 0)
    inner = picture[max(corner[1], 0) : corner[1] + side, max(corner[0], 0) : corner[0] + side]
    if not inner.size:
        raise FaceError("the face lies outside the picture")
    if low.any() or high.any():
        return cv2.copyMakeBorder(inner, low[1], high[1], low[0], high[0], cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(inner)


def _turned(picture, mesh, points):
    """Return a part of the picture around the face, turned so that the eyes are level, with mesh and points."""
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    side = round(2 * CROP_MARGIN * float((high - low).max()))
    corner = np.rint((low + high) / 2 - side / 2).astype(int)
    part = _square(picture, corner, side)
    mesh, points = mesh - [*corner, 0], points - corner
    left, right = eyes_of(mesh)
    across = right - left
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(np.degrees(np.arctan2(across[1], across[0]))), 1.0)
    part = cv2.warpAffine(part, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    flat = mesh[:, :2] @ turn[:, :2].T + turn[:, 2]
    return part, np.column_stack([flat, mesh[:, 2]]), points @ turn[:, :2].T + turn[:, 2]
