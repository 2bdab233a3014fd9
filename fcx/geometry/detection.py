"""Where faces are in a picture, and their eyes: YuNet (Wu, Peng and Yu 2023), looking at the picture at any angle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from fcx.core.paths import DATA

WEIGHTS = DATA / "weights"
THRESHOLD = 0.3  # of the score; at .9 a third of the 48x48 faces is missed
# The longer side at which the detector looks and the room it leaves around, pixels; the second pair where the first
# fails. 144 + 2 x 8 is a multiple of 32, as the network pads to: 192 takes 2.5 times as long and finds no more faces.
NEAR, FAR = (144, 8), (640, 80)
SURE = 0.6  # a score below this at the first size asks for the second
RIVAL = 0.5  # a second find counts as a face when its score and its size are at least this share of the best


@dataclass(frozen=True)
class Find:
    """A face that the detector saw: box (x, y, width, height), five points (5, xy), score.

    Both are in picture pixels. The points are the eyes, the tip of the nose and the corners of the mouth, left
    before right as seen where the face is level; the box is upright in the view that it was seen in.
    """

    box: np.ndarray
    five: np.ndarray
    score: float

    @property
    def middle(self) -> np.ndarray:
        """The middle of the box (xy)."""
        return self.box[:2] + self.box[2:] / 2


def detect(picture: np.ndarray, angle: float = 0.0, sizes=(NEAR, FAR), share: float = RIVAL) -> list[Find]:
    """Return the faces of a picture, the largest first, each once.

    The detector sees upright faces: it looks at the picture turned so that what is rolled by `angle` (radians,
    clockwise) is level. The second of `sizes` is looked at where the first shows no sure face. Finds with less
    than half of the best score, or smaller than `share` of the largest, are left out.
    """
    found = _detect_at(picture, *sizes[0], angle)
    for size in sizes[1:]:
        if not len(found) or found[:, 14].max() < SURE:
            found = np.concatenate([found, _detect_at(picture, *size, angle)])
    if not len(found):
        return []
    scores, sides = found[:, 14], np.sqrt(np.maximum(found[:, 2] * found[:, 3], 0))
    rivals = scores >= RIVAL * scores.max()
    rivals &= sides >= share * sides[rivals].max()
    best = np.flatnonzero(rivals)[np.argmax(sides[rivals])]
    counted = [best]  # the same face may be found twice, at two sizes
    for other in np.flatnonzero(rivals)[np.argsort(-scores[rivals], kind="stable")]:
        middles = found[[other, *counted], :2] + found[[other, *counted], 2:4] / 2
        if (np.abs(middles[1:] - middles[0]).max(axis=1) > sides[counted] / 3).all():
            counted.append(other)
    return [Find(found[i, :4], found[i, 4:14].reshape(5, 2), float(scores[i])) for i in counted]


def _detect_at(picture: np.ndarray, side: int, room: int, angle: float) -> np.ndarray:
    """Return YuNet's finds, (face, 15): box, five points, score; in picture pixels."""
    rows, columns = picture.shape[:2]
    scale = side / max(rows, columns)
    size = (max(8, round(columns * scale)), max(8, round(rows * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # A face that fills the picture is found more surely with some room around it.
    small = cv2.copyMakeBorder(small, room, room, room, room, cv2.BORDER_REPLICATE)
    if angle:
        small, turn = _turned(small, angle)
    detector = _detector()
    detector.setInputSize(small.shape[1::-1])
    found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    if found is None:
        return np.empty((0, 15))
    found = found[np.isfinite(found).all(axis=1)].astype(np.float64)
    if angle:
        found[:, :2] += found[:, 2:4] / 2  # the middle is what can be turned
        points = found[:, [0, 1, *range(4, 14)]].reshape(-1, 6, 2) - turn[:, 2]
        found[:, [0, 1, *range(4, 14)]] = (points @ turn[:, :2]).reshape(-1, 12)  # the inverse is the transpose
        found[:, :2] -= found[:, 2:4] / 2
    ratio = np.array([columns / size[0], rows / size[1]])
    corners = [0, 1, *range(4, 14)]
    found[:, corners] = (found[:, corners] + 0.5 - room) * np.tile(ratio, 6) - 0.5
    found[:, 2:4] *= ratio
    return found


def _turned(picture: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole picture turned back by `angle` (radians, clockwise), and the transform (2, 3)."""
    rows, columns = picture.shape[:2]
    across, along = abs(np.cos(angle)), abs(np.sin(angle))
    size = np.rint([columns * across + rows * along, columns * along + rows * across]).astype(int)
    middle = (np.array([columns, rows]) - 1) / 2
    turn = cv2.getRotationMatrix2D(tuple(middle), float(np.degrees(angle)), 1.0)
    turn[:, 2] += (size - 1) / 2 - middle
    return cv2.warpAffine(picture, turn, tuple(size.tolist()), borderMode=cv2.BORDER_REPLICATE), turn


_networks = threading.local()  # OpenCV's networks keep their input and output: each thread has its own


def each_thread(make: Callable) -> Callable:
    """Return `make` with its result kept for each thread."""

    def get():
        if not hasattr(_networks, make.__name__):
            setattr(_networks, make.__name__, make())
        return getattr(_networks, make.__name__)

    return get


@each_thread
def _detector():
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # loading warns about targets
    return cv2.FaceDetectorYN.create(str(WEIGHTS / "yunet_n_dynamic.onnx"), "", (320, 320), THRESHOLD)
