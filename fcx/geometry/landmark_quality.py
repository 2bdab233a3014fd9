"""How far landmarks can be trusted: backends against each other, under a mask, under disturbances.

Distances are normalised mean errors: per cent of the distance between the outer corners of the
eyes, the convention of Sagonas et al., "300 Faces In-The-Wild Challenge", Image and Vision Computing 47,
2016. Pictures are RGB uint8 arrays in a list, or in a dict that names them. Nobody has
marked these faces by hand: what is measured is agreement and repeatability, not error against the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import cv2
import numpy as np
import xarray as xr

from fcx.core.arguments import Count, checked
from fcx.core.checks import choose, described, real_number
from fcx.core.contract import Faces, usable, usable_rows
from fcx.core.errors import FaceError, InputError, MissingWeightsError
from fcx.core.provenance import flat_attrs
from fcx.geometry.landmarks import BACKENDS, Landmarks, check_picture, find_landmarks, five_of

COUNT = 48  # faces: few enough to look at all disturbances in half a minute
OUTER = (36, 45)  # the outer corners of the eyes
FACE_PARTS = {"jaw": slice(0, 17), "brows": slice(17, 27), "nose": slice(27, 36), "eyes": slice(36, 48),
         "mouth": slice(48, 68), "all": slice(0, 68)}  # fmt: skip
FIVE_PARTS = {"nose": slice(2, 3), "eyes": slice(0, 2), "mouth": slice(3, 5), "all": slice(0, 5)}
LEVELS = {
    "jpeg": (90, 50, 20, 10),
    "blur": (1, 2, 4, 8),
    "size": (48, 64, 96, 128, 256, 512, 1024),
    "rotation": (-60, -45, -30, -15, 0, 15, 30, 45, 60),
}


@checked
def display_pictures(faces: Faces, count: Count = COUNT) -> dict[str, np.ndarray]:
    """Return the plain display pictures of `count` usable faces, spread evenly over a faces Dataset, by id.

    Raises: InputError where the Dataset keeps no pictures, or none of its faces can be used.

    >>> from fcx.datasets.preparation import prepare
    >>> list(display_pictures(prepare("demo", limit=4, progress=False), 2).values())[0].shape
    (224, 224, 3)
    """
    if "picture" not in faces:
        raise InputError("these faces keep no display pictures: prepare them with pictures, or give the pictures")
    kept = usable_rows(faces)
    rows = kept[np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)]
    plain = faces["picture"].sel(condition="plain")
    return {str(faces["sample"].values[row]): plain.isel(sample=row).values for row in rows}


def nme(found: np.ndarray, truth: np.ndarray, eyes: np.ndarray) -> float:
    """Return the mean distance of points (point, xy) in per cent of the distance between `eyes` (2, xy).

    >>> float(nme(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]), np.array([[0.0, 0.0], [50.0, 0.0]])))
    10.0
    """
    return 100 * np.linalg.norm(found - truth, axis=-1).mean() / np.linalg.norm(eyes[1] - eyes[0])


def backend_agreement(pictures, *, progress: bool = True) -> xr.Dataset:
    """Return how far other landmarks lie from the mesh: `nme (backend, part, picture)`, per cent.

    `yunet` are the detector's five points (the eyes are compared with the mean of the mesh's eye points), which
    do not know the mesh; the others are the registered backends of 68 points. Where two of them place a point
    by different definitions, that is part of the distance. The attribute `absent` (JSON text) has a word for each
    backend that cannot run on this machine (`find_landmarks` says what it needs).

    Raises: InputError for pictures that are none, or hold no face at all.
    """
    plain = _find_all(pictures, progress, "agreement of landmarks")
    absent, rows = {}, {"yunet": [_parts(five_of(f.points), f.five, f.points, FIVE_PARTS) for _, f in plain.values()]}
    for name in (name for name in BACKENDS if name != "mesh"):
        try:
            rows[name] = [_against(picture, found, name) for picture, found in plain.values()]
        except MissingWeightsError:  # its text names a folder of this machine, which has no place in a report
            absent[name] = "its weights are not on this machine"
    values = np.array(list(rows.values())).transpose(0, 2, 1)
    coords = {"backend": list(rows), "part": list(FACE_PARTS), "picture": list(plain)}
    return xr.Dataset({"nme": (("backend", "part", "picture"), values)}, coords, flat_attrs({"absent": absent}))


def robustness(pictures, levels: Mapping[str, Iterable[float]] | None = None, *, progress: bool = True) -> xr.Dataset:
    """Return how far landmarks move under disturbances: `nme (case, picture)`, per cent, and `found`.

    `levels` maps a disturbance to its levels: `jpeg` (quality), `blur` (sigma, per cent of the face's larger
    extent), `size` (longer side of the picture, pixels), `rotation` (degrees, anticlockwise, on a
    canvas that holds the whole picture). The truth is where the points found in the undisturbed picture go: how
    far they move at rotation 0, where only the frame around the picture is larger, is the landmarks' own unrest.

    Raises: UnknownNameError for another disturbance; InputError for a level out of range, for
    pictures that are none, or hold no face at all.
    """
    cases = [(choose(name, DISTURBANCES, "disturbance"), _level(name, level))
             for name, every in (LEVELS if levels is None else levels).items() for level in every]  # fmt: skip
    plain = _find_all(pictures, progress, "faces")
    values = np.empty((len(cases), len(plain)))
    for column, (picture, before) in enumerate(counted(plain.values(), progress, "landmarks under disturbances")):
        for row, (name, level) in enumerate(cases):
            disturbed, forward = DISTURBANCES[name](picture, before, level)
            truth = before.points @ forward[:, :2].T + forward[:, 2]
            values[row, column] = nme(_points_or_nan(disturbed), truth, truth[list(OUTER)])
    return xr.Dataset(
        {"nme": (("case", "picture"), values), "found": (("case", "picture"), np.isfinite(values))},
        {"disturbance": ("case", [name for name, _ in cases]), "level": ("case", [level for _, level in cases]),
         "picture": list(plain)},
    )  # fmt: skip


@checked
def lowest(faces: Faces, count: Count = 24) -> xr.Dataset:
    """Return the faces to look at for failures: up to `count` refused ones, then the `count` finds of lowest score.

    Raises: InputError where the Dataset keeps no detector scores.
    """
    if "detector_score" not in faces:
        raise InputError("these faces keep no detector scores: prepare them with this version of fcx")
    kept = usable(faces)
    scores = np.nan_to_num(faces["detector_score"].values, nan=np.finfo("f4").max)  # NaN: the data set gave the face
    score = np.where(kept, scores, np.inf)
    finds = np.argsort(score, kind="stable")[: min(count, int(kept.sum()))]
    return faces.isel(sample=[*np.flatnonzero(~kept)[:count], *finds])


def jpeg(picture: np.ndarray, found: Landmarks, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture as JPEG of quality `level` shows it; its points stay (2, 3)."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, int(level)])
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.eye(2, 3)


def blurred(picture: np.ndarray, found: Landmarks, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture under a Gaussian blur of sigma `level` per cent of the face; its points stay (2, 3)."""
    sigma = level / 100 * float(np.ptp(found.mesh[:, :2], axis=0).max())
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.eye(2, 3)


def size(picture: np.ndarray, found: Landmarks, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture with a longer side of `level` pixels, and where its points go (2, 3)."""
    rows, columns = picture.shape[:2]
    scale = level / max(rows, columns)
    shape = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    # The sides are whole numbers, so the two scales may differ a little; edges, not centres, lie on each other.
    ratio = np.array(shape) / [columns, rows]
    return cv2.resize(picture, shape, interpolation=how), np.column_stack([np.diag(ratio), (ratio - 1) / 2])


def rotation(picture: np.ndarray, found: Landmarks, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture turned by `level` degrees about its centre on a larger canvas, and where points go (2, 3)."""
    centre = (np.array(picture.shape[1::-1]) - 1) / 2
    side = int(np.ceil(np.hypot(*picture.shape[:2])))
    cos, sin = np.cos(np.radians(level)), np.sin(np.radians(level))
    turn = np.array([[cos, sin], [-sin, cos]])  # y points down
    forward = np.column_stack([turn, (side - 1) / 2 - turn @ centre])
    return cv2.warpAffine(picture, forward, (side, side), borderMode=cv2.BORDER_REPLICATE), forward


DISTURBANCES: dict[str, Callable] = {"jpeg": jpeg, "blur": blurred, "size": size, "rotation": rotation}
LIMITS = {"jpeg": (1, 100), "blur": (0.1, 50), "size": (8, 4096), "rotation": (-180, 180)}


def _level(name: str, level: float) -> float:
    return real_number(level, name, *LIMITS[name])


def _find_all(pictures, progress: bool, what: str) -> dict[str, tuple[np.ndarray, Landmarks]]:
    """Return name -> (picture, its landmarks) of the pictures in which a face is found."""
    try:
        named = pictures if isinstance(pictures, Mapping) else {str(i): picture for i, picture in enumerate(pictures)}
    except TypeError:
        raise InputError(f"pictures is {described(pictures)}; allowed: pictures (row, column, 3) uint8, as a list or a "
                         "dict from names") from None  # fmt: skip
    if not named:
        raise InputError("no pictures are given: at least one with a face is needed")
    for picture in named.values():
        check_picture(picture)
    found = {}
    for name, picture in counted(named.items(), progress, what):
        if (landmarks := _found(picture)) is not None:
            found[str(name)] = (picture, landmarks)
    if not found:
        raise InputError(f"no face is found in any of the {len(named)} pictures: at least one is needed")
    return found


def counted(items, progress: bool, what: str) -> Iterator:
    """Yield the items beside a progress bar."""
    from tqdm.std import tqdm

    return tqdm(list(items), desc=what, unit="face", file=sys.stderr, disable=not progress, delay=1)


def _found(picture: np.ndarray, name: str = "mesh") -> Landmarks | None:
    try:
        return find_landmarks(picture, name)
    except FaceError:
        return None


def _points_or_nan(picture: np.ndarray) -> np.ndarray:
    found = _found(picture)
    return np.full((68, 2), np.nan) if found is None else found.points


def _against(picture: np.ndarray, found: Landmarks, name: str) -> list[float]:
    other = _found(picture, name)
    points = np.full((68, 2), np.nan) if other is None else other.points
    return _parts(points, found.points, found.points, FACE_PARTS)


def _parts(found: np.ndarray, truth: np.ndarray, points: np.ndarray, parts: Mapping[str, slice]) -> list[float]:
    """Return the normalised mean error of each part in the order of PARTS, NaN for parts without points."""
    eyes = points[list(OUTER)]
    return [nme(found[parts[p]], truth[parts[p]], eyes) if p in parts else np.nan for p in FACE_PARTS]
