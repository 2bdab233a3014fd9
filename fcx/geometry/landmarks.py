"""Faces and their landmarks: backends behind one function, `find_landmarks`.

- `mesh` (default): YuNet (Wu, Peng and Yu 2023) finds the face, the 468-point face mesh
  (Kartynnik et al. 2019) places the points; both run in OpenCV, their weights are in the package.
- `face-alignment`: the 68 points of FAN (Bulat and Tzimiropoulos 2017), where its weights are
  on this machine. Masks still need the mesh, which is run inside the same box.

Points are in picture pixels, x right, y down, pixel centres at integers.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from fcx.core.checks import choose
from fcx.core.errors import FaceError, InputError, MissingWeightsError
from fcx.core.paths import DATA

WEIGHTS = DATA / "weights"
FAN_WEIGHTS = "2DFAN4-11f355bf06.pth.tar"  # the file name in face_alignment.api.models_urls
DETECTOR_THRESHOLD = 0.3  # at .9 a third of the 48x48 faces is missed
# The longer side at which the detector looks and the room it leaves around, pixels; the second pair where the first
# fails. 144 + 2 x 8 is a multiple of 32, as the network pads to: 192 takes 2.5 times as long and finds no more faces.
DETECTOR_SIZES = ((144, 8), (640, 80))
SURE = 0.6  # a score below this at the first size asks for the second
RIVAL = 0.5  # a second find counts as a face when its score and its size are at least this share of the best
MESH_SIDE = 192
PRESENCE = -4.0  # the mesh's own logit for a face: pictures of noise get -6 and less, half of the 48x48 faces over 16
DOUBTFUL = 5.0  # a presence below this asks for other angles, which must reach more
TRIED = np.radians(50)  # the detector's eyes are level rather than tilted where a head is turned by 45 degrees and more
LEVEL = np.radians(3)  # eyes that a pass turns by less are where they were
PASSES = 6
LEFT_EYE, RIGHT_EYE = (33, 133), (263, 362)  # corners, as seen in the picture


@dataclass(frozen=True)
class Landmarks:
    """What was found in one picture: 68 points (point, xy), mesh (vertex, xyz), how sure, how many.

    `five` (5, xy) are the detector's own points, found without the mesh: the eyes, the tip of the
    nose and the corners of the mouth, left before right as seen in the picture.
    """

    points: np.ndarray
    mesh: np.ndarray
    score: float
    faces: int
    five: np.ndarray


BACKENDS: dict[str, Callable] = {}


def backend(name: str) -> Callable:
    """Register a function (picture, mesh) -> 68 points (point, xy) as a backend."""

    def register(function: Callable) -> Callable:
        BACKENDS[name] = function
        return function

    return register


def find_landmarks(picture: np.ndarray, name: str = "mesh", *, several: str = "largest") -> Landmarks:
    """Return the landmarks of the face in an RGB picture (row, column, channel) uint8.

    `several` says what to do with more than one face: `largest` takes the largest and counts
    the others, `refuse` raises.

    Raises: FaceError, "no face found ..." or "3 faces found ..."; MissingWeightsError where a
    backend's weights are not on this machine; InputError for what is not a picture.

    >>> from fcx.datasets import open_source
    >>> find_landmarks(open_source("demo").records[0].read()).points.shape
    (68, 2)
    """
    choose(name, BACKENDS, "landmark backend")
    choose(several, ("largest", "refuse"), "policy for several faces")
    check_picture(picture)
    box, five, score, count = detect(picture)
    if count > 1 and several == "refuse":
        raise FaceError(f"{count} faces found, one expected: crop the picture, or allow the largest to be taken")
    mesh = _fit_shrunk(picture, box, five[:2])
    return Landmarks(BACKENDS[name](picture, mesh), mesh, score, count, five)


def check_picture(picture: np.ndarray) -> None:
    """Refuse what is not an RGB picture (row, column, channel) uint8 of at least 8x8 pixels.

    Raises: InputError.
    """
    if not isinstance(picture, np.ndarray):
        raise InputError(f"a picture is a NumPy array (row, column, 3) uint8, not a {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 8:
        raise InputError(f"a picture is (row, column, 3) uint8 of at least 8x8, not {picture.dtype} {picture.shape}")


def detect(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Return the largest face of a picture: box (x, y, width, height), five points (5, xy), score, number.

    Raises: FaceError, "no face found ...".
    """
    found = _detect_at(picture, *DETECTOR_SIZES[0])
    if not len(found) or found[:, 14].max() < SURE:
        found = np.concatenate([found, _detect_at(picture, *DETECTOR_SIZES[1])])
    if not len(found):
        raise FaceError(f"no face found (detector threshold {DETECTOR_THRESHOLD})")
    scores, sides = found[:, 14], np.sqrt(np.maximum(found[:, 2] * found[:, 3], 0))
    rivals = scores >= RIVAL * scores.max()
    rivals &= sides >= RIVAL * sides[rivals].max()
    best = np.flatnonzero(rivals)[np.argmax(sides[rivals])]
    counted = [best]  # the same face may be found twice, at two sizes
    for other in np.flatnonzero(rivals)[np.argsort(-scores[rivals], kind="stable")]:
        middles = found[[other, *counted], :2] + found[[other, *counted], 2:4] / 2
        if (np.abs(middles[1:] - middles[0]).max(axis=1) > sides[counted] / 3).all():
            counted.append(other)
    return found[best, :4], found[best, 4:14].reshape(5, 2), float(scores[best]), len(counted)


def _detect_at(picture: np.ndarray, side: int, room: int) -> np.ndarray:
    """Return YuNet's finds, (face, 15): box, five points, score; in picture pixels."""
    rows, columns = picture.shape[:2]
    scale = side / max(rows, columns)
    size = (max(8, round(columns * scale)), max(8, round(rows * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # A face that fills the picture is found more surely with some room around it.
    small = cv2.copyMakeBorder(small, room, room, room, room, cv2.BORDER_REPLICATE)
    detector = _detector()
    detector.setInputSize(small.shape[1::-1])
    found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    if found is None:
        return np.empty((0, 15))
    found = found[np.isfinite(found).all(axis=1)].astype(np.float64)
    ratio = np.array([columns / size[0], rows / size[1]])
    corners = [0, 1, *range(4, 14)]
    found[:, corners] = (found[:, corners] + 0.5 - room) * np.tile(ratio, 6) - 0.5
    found[:, 2:4] *= ratio
    return found


def _fit_shrunk(picture, box, eyes) -> np.ndarray:
    """Return the mesh of a face; a large one is first shrunk, because looking up single pixels would alias."""
    scale = 2 * MESH_SIDE / box[2:].max()
    if scale >= 1:
        return fit_mesh(picture, box, eyes)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mesh = fit_mesh(small, box * scale, (eyes + 0.5) * scale - 0.5) / scale
    mesh[:, :2] += (1 / scale - 1) / 2
    return mesh


def fit_mesh(picture: np.ndarray, box: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Return the 468-point mesh (vertex, xyz) of the face in `box` (x, y, width, height).

    The network sees a square of 1.5 times the box, turned so that the eyes are level; further passes look at
    the extent of the mesh before, until its eyes are level to 3 degrees: two passes for an upright face, more
    for a tilted one. A face that is hardly there may be one that the detector saw at a wrong angle: other
    angles are tried.

    Raises: FaceError where the mesh sees no face in the box.
    """
    mesh, presence = _converge(picture, box, eyes)
    if presence < DOUBTFUL:
        for angle in (-TRIED, TRIED):
            other = _converge(picture, box, eyes, angle)
            if other[1] > max(presence, DOUBTFUL):
                mesh, presence = other
    if not (presence > PRESENCE and np.isfinite(mesh).all()):
        raise FaceError(f"no face found (what the detector took for one has a presence of {presence:.1f} in the mesh)")
    return mesh


def _converge(picture, box, eyes, turned: float = 0.0) -> tuple[np.ndarray, float]:
    """Return mesh and presence, begun with the eyes at `turned` radians from where the detector has them."""
    centre, side, angle = box[:2] + box[2:] / 2, 1.5 * box[2:].max(), _angle(eyes) + turned
    for number in range(PASSES):
        mesh, presence = _mesh_pass(picture, centre, side, angle)
        points, before = mesh[:, :2], angle
        low, high = points.min(axis=0), points.max(axis=0)
        centre, side = (low + high) / 2, 1.5 * (high - low).max()
        angle = _angle(np.stack([points[list(LEFT_EYE)].mean(axis=0), points[list(RIGHT_EYE)].mean(axis=0)]))
        if number and abs(np.sin((angle - before) / 2)) < np.sin(LEVEL / 2):
            break
    return mesh, presence


def _angle(eyes: np.ndarray) -> float:
    """Return the angle of the line from the left to the right eye, radians, positive where the right one is lower."""
    across = eyes[1] - eyes[0]
    return np.arctan2(across[1], across[0])


def _mesh_pass(picture, centre, side, angle) -> tuple[np.ndarray, float]:
    scale = MESH_SIDE / side
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forward = np.column_stack([turn, (MESH_SIDE - 1) / 2 - turn @ centre])
    crop = cv2.warpAffine(picture, forward, (MESH_SIDE, MESH_SIDE), flags=cv2.INTER_LINEAR)
    network = _mesh_network()
    network.setInput(np.ascontiguousarray(crop.transpose(2, 0, 1)[None], dtype=np.float32) / 255)
    points, presence = (output.ravel().astype(np.float64) for output in network.forward(["conv2d_21", "conv2d_31"]))
    points = points.reshape(468, 3)
    inverse = np.linalg.inv(turn)
    # The network counts from the edge of the first pixel; pixel centres are at integers here.
    flat = (points[:, :2] - 0.5 - forward[:, 2]) @ inverse.T
    return np.column_stack([flat, points[:, 2] / scale]), float(presence[0])


@backend("mesh")
def points_from_mesh(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Return the 68 iBUG points (point, xy) as the mesh vertices that stand for them."""
    return mesh[canonical()["ibug68"], :2]


@backend("face-alignment")
def points_from_face_alignment(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Return the 68 points (point, xy) of FAN inside the extent of the mesh.

    Raises: MissingWeightsError, which file to place where.
    """
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    with np.errstate(all="ignore"):
        found = _face_alignment().get_landmarks_from_image(picture, detected_faces=[[*low, *high]])
    if not found:
        raise FaceError("face-alignment found no landmarks in this face")
    return np.asarray(found[0][:, :2], dtype=np.float64)


@cache
def _face_alignment():
    # torch.hub.get_dir(), spelled out: this module does not import torch.
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "torch"
    folder = Path(home).expanduser() / "hub" / "checkpoints"
    if not (folder / FAN_WEIGHTS).is_file():
        raise MissingWeightsError(
            f"the backend 'face-alignment' needs its weights: place the file {FAN_WEIGHTS} of the face-alignment "
            f"project in {folder}, or use the backend 'mesh', whose weights come with fcx"
        )
    import face_alignment  # takes seconds: only where it can be used

    # The faces are already found, so the detector that needs no weights will do.
    return face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D, device="cpu", face_detector="folder", compile=False
    )


@cache
def canonical() -> dict[str, np.ndarray]:
    """Return the mesh's canonical vertices `xyz` (cm, y up, z to the viewer), `uv`, triangles `tri`, and `ibug68`."""
    with np.load(WEIGHTS / "mediapipe_canonical_mesh_468.npz") as archive:
        data = {name: archive[name] for name in ("xyz", "uv", "tri")}
    numbers = json.loads((WEIGHTS / "mesh468_to_ibug68.json").read_text())["mesh468_for_ibug68"]
    return data | {"ibug68": np.array(numbers)}


def ready(name: str) -> None:
    """Load what the backend `name` needs.

    Raises: MissingWeightsError, which file to place where.
    """
    if choose(name, BACKENDS, "landmark backend") == "face-alignment":
        _face_alignment()


_networks = threading.local()  # OpenCV's networks keep their input and output: each thread has its own


def _own(make: Callable) -> Callable:
    """Return `make` with its result kept for each thread."""

    def get():
        if not hasattr(_networks, make.__name__):
            setattr(_networks, make.__name__, make())
        return getattr(_networks, make.__name__)

    return get


@_own
def _detector():
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # loading warns about targets
    return cv2.FaceDetectorYN.create(str(WEIGHTS / "yunet_n_dynamic.onnx"), "", (320, 320), DETECTOR_THRESHOLD)


@_own
def _mesh_network():
    # The new engine drops all but one output.
    return cv2.dnn.readNetFromTFLite(str(WEIGHTS / "mediapipe_face_landmark.tflite"), cv2.dnn.ENGINE_CLASSIC)


def rasterise(vertices: np.ndarray, triangles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which triangle is seen at each pixel, (row, column) int32, -1 where there is none.

    `vertices` (vertex, xyz) are in pixels, smaller z is nearer (as the mesh network gives it);
    triangles that face away are left out and nearer ones are drawn over farther ones.
    """
    corners = vertices[triangles]  # (triangle, corner, xyz)
    across, down = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    facing = np.flatnonzero(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0)
    order = facing[np.argsort(-corners[facing, :, 2].mean(axis=1), kind="stable")]
    drawn = np.full(shape, -1, dtype=np.int32)
    fixed = np.round(corners[:, :, :2] * 16).astype(np.int32)  # four fractional bits
    for number in order:
        cv2.fillConvexPoly(drawn, fixed[number], int(number), lineType=cv2.LINE_8, shift=4)
    return drawn
