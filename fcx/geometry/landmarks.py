"""Faces and their landmarks: backends behind one function, `find_landmarks`.

- `mesh` (default): YuNet (Wu, Peng and Yu 2023) finds the face at any roll, the 468-point face mesh
  (Kartynnik et al. 2019) places the points; both run in OpenCV, their weights are in the package.
- `face-alignment`: the 68 points of FAN (Bulat and Tzimiropoulos 2017), where its weights are
  on this machine. Masks still need the mesh, which is run inside the same box.
- `given`: no face is looked for; the mesh is run inside the box, or the extent of the 68 points, that the data set
  gives, and its points are kept. The choice where a picture holds several faces and the labels are of a certain one.

Points are in picture pixels, x right, y down, pixel centres at integers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from fcx.core.checks import choose, described
from fcx.core.errors import FaceError, InputError, MissingWeightsError
from fcx.geometry.detection import WEIGHTS
from fcx.geometry.face_mesh import every_face, face_in, largest_face

FAN_WEIGHTS = "2DFAN4-11f355bf06.pth.tar"  # the file name in face_alignment.api.models_urls


@dataclass(frozen=True)
class Landmarks:
    """What was found in one picture: 68 points (point, xy), mesh (vertex, xyz), how sure, how many.

    `five` (5, xy) are the detector's own points, found without the mesh: the eyes, the tip of the
    nose and the corners of the mouth, left before right as seen in the picture. They and the score are NaN where the
    data set gives the face.
    """

    points: np.ndarray
    mesh: np.ndarray
    score: float
    faces: int
    five: np.ndarray


GIVEN = "given"
BACKENDS: dict[str, Callable] = {}  # those that find points themselves
FLAT = 1e-3  # pixels: points that lie no farther from a line are on it
SEVERAL = ("largest", "refuse")  # what to do with more than one face where one is wanted


def backend(name: str) -> Callable:
    """Register a function (picture, mesh) -> 68 points (point, xy) as a backend."""

    def register(function: Callable) -> Callable:
        BACKENDS[name] = function
        return function

    return register


def find_landmarks(picture: np.ndarray, name: str = "mesh", *, several: str = "largest", box=None,
                   points=None) -> Landmarks:  # fmt: skip
    """Return the landmarks of the face in an RGB picture (row, column, channel) uint8.

    `several` says what to do with more than one face: `largest` takes the largest and counts
    the others, `refuse` raises. The backend `given` takes the face that `box` (left, top, width, height) or 68
    `points` (point, xy), in picture pixels, are of; others pass both over.

    Raises: FaceError, "no face found ..." or "3 faces found ..."; MissingWeightsError where a
    backend's weights are not on this machine; InputError for what is not a picture, or where nothing is given.

    >>> from fcx.datasets import open_source
    >>> find_landmarks(open_source("demo").records[0].read()).points.shape
    (68, 2)
    """
    choose(name, [*BACKENDS, GIVEN], "landmark backend")
    choose(several, SEVERAL, "policy for several faces")
    check_picture(picture)
    if name == GIVEN:
        return _given(picture, box, points)
    face, count = largest_face(picture)
    if count > 1 and several == "refuse":
        raise FaceError(f"{count} faces found, one expected: crop the picture, or allow the largest to be taken")
    return Landmarks(BACKENDS[name](picture, face.mesh), face.mesh, face.find.score, count, face.find.five)


def _given(picture: np.ndarray, box, points) -> Landmarks:
    """Return the landmarks of the face that a data set gives a box or points of."""
    if box is None and points is None:
        raise InputError("the landmark backend 'given' needs the box of the face, or its 68 points, and the data set "
                         "gives neither here: use the backend 'mesh', which finds faces itself")  # fmt: skip
    box, five = _numbers(box, (4,), "the box of a face"), np.full((5, 2), np.nan)
    if points is not None:
        points = _numbers(points, (68, 2), "given landmarks")
        five, low, size = five_of(points), points.min(axis=0), np.ptp(points, axis=0)
        if box is not None and (np.abs(low + size / 2 - box[:2] - box[2:] / 2) > box[2:] / 2).any():
            raise FaceError("the landmarks that the data set gives lie beside the box that it gives")
        box = np.array([*low, *size])
    if not (box[2:] > 0).all() or (box[:2] >= picture.shape[1::-1]).any() or (box[:2] + box[2:] <= 0).any():
        raise FaceError(f"the face that the data set gives, {[round(n) for n in box.tolist()]} (left, top, width, "
                        f"height), is none in a picture of {picture.shape[1]}x{picture.shape[0]} pixels")  # fmt: skip
    face = face_in(picture, box, None if points is None else five[:2])
    return Landmarks(points_from_mesh(picture, face.mesh) if points is None else points, face.mesh, np.nan, 1, five)


def _numbers(values, shape: tuple[int, ...], what: str) -> np.ndarray | None:
    if values is None:
        return None
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{what} is {described(values)}; allowed: {shape} finite numbers, in picture pixels")
    return array


def five_of(points: np.ndarray) -> np.ndarray:
    """Return what the detector's five points (5, xy) are among the 68 (point, xy)."""
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), *points[[30, 48, 54]]])


def find_all_landmarks(picture: np.ndarray, name: str = "mesh") -> list[Landmarks]:
    """Return the landmarks of every face in an RGB picture (row, column, channel) uint8, the largest first.

    Raises: as `find_landmarks`.

    >>> from fcx.datasets import open_source
    >>> len(find_all_landmarks(open_source("demo").records[0].read()))
    1
    """
    choose(name, BACKENDS, "landmark backend")
    check_picture(picture)
    faces = every_face(picture)
    return [Landmarks(BACKENDS[name](picture, face.mesh), face.mesh, face.find.score, len(faces), face.find.five)
            for face in faces]  # fmt: skip


def check_picture(picture: np.ndarray) -> None:
    """Refuse what is not an RGB picture (row, column, channel) uint8 of at least 8x8 pixels.

    Raises: InputError.
    """
    if not isinstance(picture, np.ndarray):
        raise InputError(f"a picture is a NumPy array (row, column, 3) uint8, not a {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 8:
        raise InputError(f"a picture is (row, column, 3) uint8 of at least 8x8, not {picture.dtype} {picture.shape}")


def check_mesh(mesh) -> np.ndarray:
    """Return a mesh (vertex, xyz) as float64.

    Raises: InputError for another shape, missing values, or points that lie in one place or on one line.
    """
    try:
        mesh = np.asarray(mesh, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last
        raise InputError(f"a mesh is (468, 3) numbers, not {described(mesh)}") from None
    if mesh.shape != (468, 3) or not np.isfinite(mesh).all():
        raise InputError(f"a mesh is (468, 3) without missing values, not {mesh.shape}")
    if np.linalg.svd(mesh[:, :2] - mesh[:, :2].mean(axis=0), compute_uv=False)[1] < FLAT:
        raise InputError("the points of this mesh lie in one place or on one line: it is no face")
    return mesh


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
    if choose(name, [*BACKENDS, GIVEN], "landmark backend") == "face-alignment":
        _face_alignment()


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
