"""The face of a picture at any roll: the 468-point face mesh (Kartynnik et al. 2019) where the detector sees a face.

Both networks know level faces. What they make of one that lies on its side or stands on its head looks like a face to
the detector and hardly to the mesh: where the mesh's presence is doubtful, the picture is looked at from other angles,
and the angle for which most speaks, by detector and mesh, is right.

Measured on 60 demo faces at 0, 90, 180 and 270 degrees: all 240 plain ones right (the points lie within .3 of the
distance between the eyes on average); of the 240 in drawn masks 223 right, 10 refused and 7 wrong, one of them upright.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fcx.core.errors import FaceError
from fcx.geometry.detection import FAR, NEAR, SURE, THRESHOLD, WEIGHTS, Find, detect, each_thread

SIDE = 192
# The least presence, the mesh's own logit for a face, where the detector is sure and where it is not: pictures of noise
# get -6 and less, half of the 48x48 faces over 16, most faces seen at a wrong angle by an unsure detector less than 0.
PRESENCE, UNSURE_PRESENCE = -4.0, 0.0
CLEAR = 12.0  # a presence that faces seen at a wrong angle hardly have; right ones have 10 to 38, at 48x48 pixels less
DOUBTFUL = 5.0  # a presence below this is that of a face which is hardly seen
# A mask takes from a face most of its presence, at the right angle and at wrong ones, and little of the detector's
# score. Of 70 demo faces in drawn masks and without, at 0, 90 and 180 degrees, score and presence as weighed in
# `evidence` choose another angle than the right one for 6 of 420 (presence alone: 5 of the 70 upright masked faces, and
# most turned ones), and level, as most pictures are, is left for a difference only.
LEAST, HABIT = -10.0, 0.02
QUARTERS = tuple(np.radians([90, 180, 270]))
EIGHTHS = tuple(np.radians([45, 135, 225, 315]))
# Further views, in this order: angles, the detector's size, and the presence that makes them needless.
VIEWS = ((QUARTERS, NEAR, CLEAR), (EIGHTHS, NEAR, DOUBTFUL), (QUARTERS, FAR, PRESENCE))
TILTED = np.radians(30)  # a face further from level than this is looked at again, level
AGREED = 0.3  # interocular distances by which two meshes of one face may differ in the mean
LEVEL = np.radians(3)  # eyes that a pass turns by less are where they were
PASSES = 6
BEYOND = 0.75  # of the mean colour is what the mesh sees beyond the picture: black would press a tight forehead down
LEFT_EYE, RIGHT_EYE = (33, 133), (263, 362)  # corners, as seen in the picture


@dataclass(frozen=True, eq=False)
class SeenFace:
    """A face: mesh (vertex, xyz) in picture pixels, presence (logit), the find, and the angle it was seen at."""

    mesh: np.ndarray
    presence: float
    find: Find
    view: float

    @property
    def eyes(self) -> np.ndarray:
        """The middles of both eyes (2, xy)."""
        return eyes_of(self.mesh)

    @property
    def middle(self) -> np.ndarray:
        """The middle of the mesh's vertices (xy)."""
        return self.mesh[:, :2].mean(axis=0)

    @property
    def side(self) -> float:
        """The larger extent of the mesh, pixels."""
        return float(np.ptp(self.mesh[:, :2], axis=0).max())

    @property
    def evidence(self) -> float:
        """How much speaks for the angle it was seen at: the detector's score, and the mesh's presence beside it."""
        return self.find.score + max(self.presence, LEAST) / 300

    @property
    def roll(self) -> float:
        """How far the eyes are from level, radians, positive clockwise."""
        return _angle(self.eyes)


def largest_face(picture: np.ndarray) -> tuple[SeenFace, int]:
    """Return the largest face of a picture (row, column, channel), at whatever roll, and how many there are.

    Raises: FaceError, "no face found ...".
    """
    face, count = _largest(picture)
    for angles, size, enough in VIEWS:
        if face and face.presence >= enough:
            break
        seen = [look for angle in angles if (look := _largest(picture, angle, (size,)))[0]]
        other, number = max(seen, key=lambda look: look[0].evidence, default=(None, 0))
        surer = other and (other.evidence > face.evidence + HABIT if face else other.presence >= DOUBTFUL)
        if surer and not _agree(face, other):
            face, count = other, number
    if face is None:
        raise FaceError(f"no face found (detector threshold {THRESHOLD})")
    if not face.presence > (PRESENCE if face.find.score >= SURE else UNSURE_PRESENCE):
        raise FaceError(
            f"no face found (what the detector took for one has a presence of {face.presence:.1f} in the mesh)"
        )
    return face, count


def face_in(picture: np.ndarray, box: np.ndarray, eyes: np.ndarray | None = None) -> SeenFace:
    """Return the face in a box (left, top, width, height) of a picture, without looking for others.

    Where the middles of the `eyes` (2, xy) are not known, the mesh is tried level, and, where that is doubtful, at
    other angles.

    Raises: FaceError, "no face found in the box ...".
    """
    middle, best = box[:2] + box[2:] / 2, None
    for angle in (0.0, *QUARTERS, *EIGHTHS) if eyes is None else (_angle(eyes),):
        across = np.array([np.cos(angle), np.sin(angle)])
        face = _fit_in(picture, box, np.stack([middle - across, middle + across]), angle)
        if face and (np.abs(face.middle - middle) <= box[2:] / 2).all():
            if best is None or face.presence > best.presence + 300 * HABIT:
                best = face
            if best.presence >= CLEAR:
                break
    if best is None or not best.presence > PRESENCE:
        left, top, width, height = box
        raise FaceError(f"no face found in the box of {width:.0f}x{height:.0f} pixels at {left:.0f}, {top:.0f} that "
                        "the data set gives")  # fmt: skip
    # Data sets draw boxes loosely or tightly: seen again by its own extent, the mesh hardly depends on the box (of 60
    # demo faces in boxes 1.4 times as large, .008 instead of .037 of the distance between the eyes on average).
    extent = np.concatenate([best.mesh[:, :2].min(axis=0), np.ptp(best.mesh[:, :2], axis=0)])
    return _fit_in(picture, extent, best.eyes, best.view) or best


def _fit_in(picture: np.ndarray, box: np.ndarray, eyes: np.ndarray, view: float) -> SeenFace | None:
    return fit(picture, Find(box, np.stack([*eyes, *[eyes.mean(axis=0)] * 3]), np.nan), view)


def every_face(picture: np.ndarray) -> list[SeenFace]:
    """Return all faces of a picture (row, column, channel), at whatever roll and size, the largest first.

    Raises: FaceError, "no face found ...".
    """
    faces = []
    for angle in (0.0, *QUARTERS):
        for find in (find for size in (NEAR, FAR) for find in detect(picture, angle, (size,), share=0.0)):
            face, _ = _look(picture, find, angle)
            if not face or face.presence < DOUBTFUL:
                continue
            same = [other for other in faces if _overlap(face, other)]
            # Another look at a face replaces it where it says otherwise, and is surer.
            if all(face.evidence > other.evidence + HABIT and not _agree(other, face) for other in same):
                faces = [other for other in faces if other not in same] + [face]
    if not faces:
        faces = [largest_face(picture)[0]]
    return sorted(faces, key=lambda face: -face.side)


def _largest(picture, angle: float = 0.0, sizes=(NEAR, FAR)) -> tuple[SeenFace | None, int]:
    """Return the largest face that is seen from `angle`, and how many are."""
    finds = detect(picture, angle, sizes)
    return _look(picture, finds[0], angle, len(finds)) if finds else (None, 0)


def _look(picture, find: Find, angle: float, count: int = 1) -> tuple[SeenFace | None, int]:
    """Return the face of a find that was seen from `angle`, and `count`; one that is tilted as it is seen level."""
    face = fit(picture, find, angle)
    if not face or abs(np.sin((face.roll - angle) / 2)) < np.sin(TILTED / 2):
        return face, count
    finds = detect(picture, face.roll)
    for find in sorted(finds, key=lambda find: np.linalg.norm(find.middle - face.middle)):
        level = fit(picture, find, face.roll)
        if _agree(level, face):
            return level, len(finds)
    return None, 0  # what is a face at one angle only is none


def _overlap(one: SeenFace, other: SeenFace) -> bool:
    return bool(np.abs(one.middle - other.middle).max() < max(one.side, other.side) / 3)


def _agree(one: SeenFace | None, other: SeenFace | None) -> bool:
    """Return whether two are the same face in the same place and pose."""
    if not (one and other):
        return False
    apart = np.linalg.norm((one.mesh - other.mesh)[:, :2], axis=1).mean()
    return bool(apart < AGREED * np.linalg.norm(other.eyes[1] - other.eyes[0]))


def fit(picture: np.ndarray, find: Find, view: float = 0.0) -> SeenFace | None:
    """Return the face of a find, seen from `view`, with its mesh (None where the mesh is not finite)."""
    scale = 2 * SIDE / find.box[2:].max()
    if scale >= 1:
        mesh, presence = _converge(picture, find.box, find.five[:2])
    else:  # a large face is first shrunk, because looking up single pixels would alias
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mesh, presence = _converge(small, find.box * scale, (find.five[:2] + 0.5) * scale - 0.5)
        mesh /= scale
        mesh[:, :2] += (1 / scale - 1) / 2
    return SeenFace(mesh, presence, find, view) if np.isfinite(mesh).all() else None


def _converge(picture, box, eyes) -> tuple[np.ndarray, float]:
    """Return mesh (vertex, xyz) and presence of the face in `box` (x, y, width, height).

    The network sees a square of 1.5 times the box, turned so that the eyes are level; further passes look at
    the extent of the mesh before, until its eyes are level to 3 degrees: two passes for an upright face, more
    for a tilted one.
    """
    centre, side, angle = box[:2] + box[2:] / 2, 1.5 * box[2:].max(), _angle(eyes)
    for number in range(PASSES):
        mesh, presence = _mesh_pass(picture, centre, side, angle)
        points, before = mesh[:, :2], angle
        low, high = points.min(axis=0), points.max(axis=0)
        centre, side = (low + high) / 2, 1.5 * (high - low).max()
        angle = _angle(eyes_of(mesh))
        if number and abs(np.sin((angle - before) / 2)) < np.sin(LEVEL / 2):
            break
    return mesh, presence


def eyes_of(mesh: np.ndarray) -> np.ndarray:
    """Return the middles of the left and of the right eye (2, xy), as seen in the picture, of a mesh (vertex, xyz)."""
    return np.stack([mesh[list(LEFT_EYE), :2].mean(axis=0), mesh[list(RIGHT_EYE), :2].mean(axis=0)])


def _angle(eyes: np.ndarray) -> float:
    """Return the angle of the line from the left to the right eye, radians, positive where the right one is lower."""
    across = eyes[1] - eyes[0]
    return float(np.arctan2(across[1], across[0]))


def _mesh_pass(picture, centre, side, angle) -> tuple[np.ndarray, float]:
    scale = SIDE / side
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forward = np.column_stack([turn, (SIDE - 1) / 2 - turn @ centre])
    beyond = BEYOND * np.array(cv2.mean(picture))
    crop = cv2.warpAffine(picture, forward, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=beyond.tolist())
    network = _mesh_network()
    network.setInput(np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32) / 255)
    points, presence = (output.ravel().astype(np.float64) for output in network.forward(["conv2d_21", "conv2d_31"]))
    points = points.reshape(468, 3)
    inverse = np.linalg.inv(turn)
    # The network counts from the edge of the first pixel; pixel centres are at integers here.
    flat = (points[:, :2] - 0.5 - forward[:, 2]) @ inverse.T
    return np.column_stack([flat, points[:, 2] / scale]), float(presence[0])


@each_thread
def _mesh_network():
    # The new engine drops all but one output.
    return cv2.dnn.readNetFromTFLite(str(WEIGHTS / "mediapipe_face_landmark.tflite"), cv2.dnn.ENGINE_CLASSIC)
