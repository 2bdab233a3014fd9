"""What a photograph tells about how a mask in it must look: light, sharpness and noise, from the upper face alone."""

from __future__ import annotations

import cv2
import numpy as np

from fcx.geometry.landmarks import canonical
from fcx.geometry.pose import UPPER, Pose

# Skin of the forehead and the upper cheeks.
SKIN = (151, 108, 337, 69, 299, 104, 333, 9, 8, 10, 109, 338, 67, 297, 116, 345, 117, 346, 143, 372, 111, 340)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601
REBLUR = 1.0  # pixels
BRIGHT = 235.0  # luma that the brightest of a face reaches in daylight
SOFTEST, NOISIEST = 6.0, 14.0  # limits of what is matched: pixels, grey levels


def find_light(picture: np.ndarray, pose: Pose, covered: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the level of light and its slope (right, up), from skin of the upper face that is not `covered`."""
    vertices = canonical()["xyz"][list(SKIN)]
    points = np.rint(pose.place(vertices)[:, :2]).astype(int)
    inside = ((points >= 0) & (points < [picture.shape[1], picture.shape[0]])).all(axis=1)
    inside[inside] = covered[points[inside, 1], points[inside, 0]] == 0
    exposure = _exposure(picture, pose, covered)
    if inside.sum() < 6:
        return 0.85 * exposure, np.zeros(2)
    luma = picture[points[inside, 1], points[inside, 0]] @ LUMA.astype(float)
    # The brightest skin, so that the level says more of the light than of the skin's colour.
    level = exposure * np.clip(0.48 + 0.52 * np.percentile(luma, 80) / exposure / 200, 0.3, 0.97)
    across = vertices[inside, 0] / 7
    slope = np.polyfit(across, luma / max(np.median(luma), 1), 1)[0] if np.ptp(across) > 0.5 else 0.0
    return float(level), np.array([np.clip(1.2 * slope, -0.45, 0.45), 0.3])


def _exposure(picture: np.ndarray, pose: Pose, covered: np.ndarray) -> float:
    """Return how bright the brightest of the upper face is that is not `covered`, up to 1, which is daylight.

    A dark skin has bright places too: eyes, highlights.
    """
    box = _upper_face(picture, pose)
    if not picture[box].size:
        return 1.0
    seen = cv2.cvtColor(picture[box], cv2.COLOR_RGB2GRAY)[covered[box] == 0]
    return float(np.clip(np.percentile(seen, 98) / BRIGHT, 0.02, 1)) if len(seen) else 1.0


def _upper_face(picture: np.ndarray, pose: Pose) -> tuple[slice, slice]:
    """Return the rows and columns of the upper face, as far as they are in the picture."""
    points = pose.place(canonical()["xyz"][list(UPPER)])[:, :2]
    low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, [picture.shape[1], picture.shape[0]])
    return slice(low[1], max(low[1], high[1])), slice(low[0], max(low[0], high[0]))


def find_grain(picture: np.ndarray, pose: Pose, covered: np.ndarray) -> tuple[float, float]:
    """Return the photograph's blur (standard deviation, pixels) and noise (standard deviation, grey levels).

    Both are measured where the upper face is not `covered`. Blur: the ratio of gradients before and after blurring
    again, at the strongest edges (Zhuo and Sim 2011, eq. 6). Noise: the mean absolute response of a
    difference of two Laplacians where there are no edges (Immerkær 1996, eq. 5).
    """
    box = _upper_face(picture, pose)
    if min(picture[box].shape[:2]) < 16:
        return 0.7, 1.0
    grey = cv2.cvtColor(picture[box], cv2.COLOR_RGB2GRAY).astype(np.float32)
    free = cv2.erode(np.uint8(covered[box] == 0), np.ones((11, 11), np.uint8)) > 0  # what the filters reach
    if free.sum() < 200:
        return 0.7, 1.0
    sharp = _gradient(grey)
    noise = np.abs(cv2.filter2D(grey, -1, np.float32([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])))
    middle, high = np.percentile(sharp[free], [50, 93])
    flat = free & (sharp <= middle)
    noise = np.sqrt(np.pi / 2) / 6 * float(noise[flat].mean())
    strong = free & (sharp >= high)
    ratio = float(
        np.median(sharp[strong] / np.maximum(_gradient(cv2.GaussianBlur(grey, (0, 0), REBLUR))[strong], 1e-3))
    )
    blur = REBLUR / np.sqrt(ratio**2 - 1) if ratio > 1.01 else SOFTEST
    return float(min(blur, SOFTEST)), float(min(noise, NOISIEST))


def _gradient(grey: np.ndarray) -> np.ndarray:
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    # Not cv2.magnitude: its last bits depend on where in memory the array lies.
    return np.sqrt(across * across + down * down)


def is_grey(picture: np.ndarray, alpha: np.ndarray) -> bool:
    """Return whether the photograph is grey where no mask hides it."""
    seen = picture[::4, ::4][alpha[::4, ::4] == 0].astype(np.int16)
    # JPEG leaves a grey picture with traces of colour.
    return bool(len(seen)) and float((np.abs(seen[:, :2] - seen[:, 1:]) > 6).mean()) <= 0.02
