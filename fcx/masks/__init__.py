"""Masks drawn on faces: a style is a texture on a surface that is worn in the face's own pose.

The surface is a shell over the lower face of the canonical mesh (its convex hull, a little
outside the skin). With the fit `rigid` it is placed by pose and upper-face points only, so what
the mouth does cannot change the mask; its light comes from the uncovered upper face, so what it
hides cannot change its look either. All numbers are centimetres in the canonical face.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from fcx.contract import InputError, choose
from fcx.landmarks import canonical, rasterise

COLUMNS, ROWS = 28, 18  # vertices of the surface, across and down
TEXTURE = (192, 256)  # rows, columns
OFFSET = 0.25  # the cloth stands off the hull
FITS = ("rigid",)
# Vertices above the cheekbones: what the mouth and the jaw do moves them little.
UPPER = (
    10, 109, 338, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 151, 108, 337, 69, 299, 104, 333,
    68, 298, 71, 301, 9, 8, 168, 6, 33, 133, 362, 263, 34, 264, 143, 372, 35, 265, 226, 446, 244, 464, 122, 351,
)  # fmt: skip
SKIN = (151, 108, 337, 69, 299, 104, 333, 9, 8, 10, 109, 338, 67, 297, 116, 345, 117, 346, 143, 372, 111, 340)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601
EARS = np.array([[7.9, 1.6, -4.6], [7.7, -2.6, -4.4]])  # where the loops go, above and below

STYLES: dict[str, Callable] = {}


def style(name: str) -> Callable:
    """Register a function () -> texture (row, column, RGB) float in [0, 255] as a mask style."""

    def register(function: Callable) -> Callable:
        STYLES[name] = cache(function)
        return function

    return register


def wear_mask(picture: np.ndarray, mesh: np.ndarray, style: str = "surgical", *, fit: str = "rigid",
              seed: int = 0, sample: str = "") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the picture with a mask on its face, (row, column, channel) uint8, and its alpha, (row, column) uint8.

    `mesh` (vertex, xyz) is in picture pixels (`fcx.landmarks.find_landmarks(picture).mesh`). The grain
    of the cloth comes from hash(`sample`, `seed`) alone. Where the alpha is 255 no pixel of the
    photograph is left; a grey picture stays grey.

    Raises: UnknownNameError for a style or a fit; InputError for another shape of picture or mesh.

    >>> from fcx.datasets import open_source
    >>> from fcx.landmarks import find_landmarks
    >>> picture = open_source("demo").records[0].read()
    >>> masked, alpha = wear_mask(picture, find_landmarks(picture).mesh)
    >>> masked.shape == picture.shape
    True
    """
    texture = STYLES[choose(style, STYLES, "mask style")]()
    choose(fit, FITS, "fit")
    mesh = np.asarray(mesh, dtype=np.float64)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"a picture is (row, column, 3) uint8, not {picture.dtype} {picture.shape}")
    if mesh.shape != (468, 3) or not np.isfinite(mesh).all():
        raise InputError(f"a mesh is (468, 3) without missing values, not {mesh.shape}")
    place = fit_pose(mesh)
    window = _window(place, picture.shape)
    corner = [window[1].start, window[0].start, 0]
    paint, cover = _draw(texture, lambda points: place(points) - corner, mesh - corner, picture[window],
                         _generator(sample, seed))  # fmt: skip
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[window] = cover
    if _is_grey(picture, alpha):
        paint[...] = (paint @ LUMA)[:, :, None]
    masked = picture.copy()
    masked[window] = composite(picture[window], paint, cover)
    return masked, alpha


def composite(picture: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return alpha * paint + (1 - alpha) * picture, (row, column, channel) uint8, alpha in 255ths."""
    blend = (alpha.astype(np.float32) / 255)[:, :, None]
    return np.clip(np.rint(picture + (paint - picture) * blend), 0, 255).astype(np.uint8)


def _window(place, shape) -> tuple[slice, slice]:
    """Return the rows and columns that a worn mask, its loops and its shadow can reach."""
    reach = np.concatenate([surface()[0], EARS, EARS * [-1, 1, 1], EARS * [-1.1, 1, 1], EARS * [1.1, 1, 1]])
    points = place(reach)[:, :2]
    margin = 0.1 * np.ptp(points, axis=0).max() + 2
    low = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + margin), [shape[1], shape[0]]).astype(int)
    return slice(min(low[1], shape[0] - 1), max(high[1], 1)), slice(min(low[0], shape[1] - 1), max(high[0], 1))


def fit_pose(mesh: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map from canonical centimetres to picture pixels that fits the upper face.

    A similarity in three dimensions (Umeyama 1991, eq. 40-42), then a width and a height of its
    own for this face, both from the vertices `UPPER` alone.
    """
    source = canonical()["xyz"][list(UPPER)].astype(np.float64)
    target = mesh[list(UPPER)] * [1, -1, -1]  # y up, z to the viewer, as the canonical face has it
    middle, centre = source.mean(axis=0), target.mean(axis=0)
    u, spread, vt = np.linalg.svd((target - centre).T @ (source - middle))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = (spread * sign).sum() / ((source - middle) ** 2).sum()
    own = (target - centre) @ turn / scale  # this face in the canonical frame
    stretch = ((source - middle) * own).sum(axis=0) / ((source - middle) ** 2).sum(axis=0)
    stretch[2] = 1.0

    def place(points: np.ndarray) -> np.ndarray:
        placed = (((points - middle) * stretch) * scale) @ turn.T + centre
        return placed * [1, -1, -1]

    return place


@cache
def surface() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mask's surface: vertices (vertex, xyz), where they lie in the texture (vertex, 2), triangles."""
    across, down = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, ROWS))
    side = np.abs(across)
    x = across * (6.7 - 1.3 * down**2)
    top = 1.75 - 3.3 * side**1.5 + 0.5 * side**4
    bottom = -10.3 + 2.9 * side**2.2
    y = top + (bottom - top) * down
    height = cv2.GaussianBlur(_hull_height(x, y), (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)  # cloth has no creases
    vertices = np.stack([x, y, height + OFFSET], axis=-1).reshape(-1, 3)
    # The lower edge tucks in under the chin.
    vertices[:, 2] -= 1.6 * np.clip((down.ravel() - 0.8) / 0.2, 0, 1) ** 2
    number = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    texture = np.stack([(across + 1) / 2, down], axis=-1).reshape(-1, 2)
    return vertices, texture, triangles


def _hull_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return z of the convex hull of the lower face over (x, y): cloth spans what lies between nose and chin."""
    from scipy.spatial import ConvexHull

    face = canonical()["xyz"].astype(np.float64)
    planes = ConvexHull(face[face[:, 1] < 2.6]).equations
    a, b, c, d = (column[:, None] for column in planes[planes[:, 2] > 0.05].T)
    heights = -(a * x.ravel() + b * y.ravel() + d) / c
    return heights.min(axis=0).reshape(x.shape)


def _draw(texture, place, mesh, picture, generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the paint (row, column, RGB) float32 and the alpha (row, column) uint8 of a worn mask."""
    shape = picture.shape[:2]
    vertices, where, triangles = surface()
    placed = place(vertices)
    unit = np.linalg.norm(place(np.array([[1.0, 0, 0]])) - place(np.zeros((1, 3))))  # pixels in a centimetre
    normals = _normals(placed, triangles)
    seen = rasterise(placed, triangles, shape)
    cover = seen >= 0
    if not cover.any():
        return np.zeros((*shape, 3), np.float32), np.zeros(shape, np.uint8)
    soft = max(0.7, 0.05 * unit)
    cloth_alpha = _blur(cover.astype(np.float32), soft)
    loops = _loops(place, shape, unit)
    opaque = np.maximum(cloth_alpha, loops)
    shadow = 0.35 * _blur(opaque, max(0.7, 0.22 * unit))
    light, slope = _light(picture, mesh, shadow)
    shade = np.clip(light * (1 + normals[:, :2] @ slope), 0.12, 1.12)

    # Each pixel's place in the texture and its light are affine within a triangle.
    rows, columns = np.nonzero(cover)
    values = _interpolate(placed[:, :2], np.column_stack([where, shade]), triangles, seen[rows, columns], rows, columns)
    at = values[:, :2] * np.float32([texture.shape[1] - 1, texture.shape[0] - 1])
    # OpenCV looks up at most 32767 in a row.
    at = np.pad(at, ((0, -len(at) % 1024), (0, 0))).reshape(-1, 1024, 2)
    colour = cv2.remap(texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colour = colour.reshape(-1, 3)[: len(rows)]
    cloth = np.zeros((*shape, 3), np.float32)
    grain = generator.standard_normal(len(rows), dtype=np.float32)
    cloth[rows, columns] = colour * values[:, 2:3] + 1.5 * grain[:, None]
    # Paint beyond the edge takes the colour of the cloth beside it, so that the soft edge has no fringe.
    rows, columns = np.nonzero(~cover & (cloth_alpha > 0))
    spread = _blur(cloth, soft)
    cloth[rows, columns] = spread[rows, columns] / cloth_alpha[rows, columns, None]
    cloth[loops > cloth_alpha] = 225 * np.clip(light, 0.12, 1.1)
    total = opaque + (1 - opaque) ** 2 * shadow
    cloth *= (opaque / np.maximum(total, 1e-6))[:, :, None]  # the rest of the alpha is dark: shadow
    return np.clip(cloth, 0, 255), np.rint(total * 255).astype(np.uint8)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian blur; a wide one is done on a smaller picture."""
    factor = int(sigma / 4)
    if factor < 2:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    rows, columns = image.shape[:2]
    size = (max(1, columns // factor), max(1, rows // factor))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / factor)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)


def _interpolate(flat, values, triangles, number, rows, columns) -> np.ndarray:
    """Return (pixel, value): vertex values, interpolated over the triangle `number` that each pixel shows."""
    corners = flat[triangles]
    system = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], axis=2)
    system[np.abs(np.linalg.det(system)) < 1e-9] = np.eye(3)  # seen edge-on: no pixel shows it
    plane = np.linalg.solve(system, values[triangles]).astype(np.float32)  # (triangle, coefficient, value)
    x, y = columns.astype(np.float32)[:, None], rows.astype(np.float32)[:, None]
    return plane[number, 0] * x + plane[number, 1] * y + plane[number, 2]


def _normals(placed, triangles) -> np.ndarray:
    corners = placed[triangles] * [1, -1, -1]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(placed)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], faces)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def _light(picture, mesh, covered) -> tuple[float, np.ndarray]:
    """Return the level of light and its slope (right, up), estimated from the uncovered upper face."""
    vertices = canonical()["xyz"]
    points = np.rint(mesh[list(SKIN), :2]).astype(int)
    inside = ((points >= 0) & (points < [picture.shape[1], picture.shape[0]])).all(axis=1)
    inside[inside] = covered[points[inside, 1], points[inside, 0]] < 1 / 512
    if inside.sum() < 6:
        return 0.85, np.zeros(2)
    luma = picture[points[inside, 1], points[inside, 0]] @ LUMA.astype(float)
    level = np.clip(0.45 + 0.62 * np.median(luma) / 200, 0.3, 1.08)
    across = vertices[list(SKIN), 0][inside] / 7
    slope = np.polyfit(across, luma / max(np.median(luma), 1), 1)[0] if np.ptp(across) > 0.5 else 0.0
    return float(level), np.array([np.clip(0.6 * slope, -0.35, 0.35), 0.18])


def _loops(place, shape, unit) -> np.ndarray:
    """Return the coverage (row, column) float32 of the ear loops on the sides that face the viewer."""
    drawn = np.zeros(shape, np.uint8)
    vertices = surface()[0].reshape(ROWS, COLUMNS, 3)
    for side, sign in ((0, -1), (COLUMNS - 1, 1)):
        outward = place(np.array([[sign * 0.95, 0, 0.31]])) - place(np.zeros((1, 3)))
        if outward[0, 2] > 0:  # the cheek is turned away, and hides the loop
            continue
        for row, ear in ((0, EARS[0]), (ROWS - 2, EARS[1])):
            start, end = vertices[row, side], ear * [sign, 1, 1]
            steps = np.linspace(0, 1, 12)[:, None]
            curve = start + (end - start) * steps + [sign * 0.5, 0, 0] * np.sin(np.pi * steps)
            line = np.rint(place(curve)[:, :2] * 16).astype(np.int32)
            cv2.polylines(drawn, [line], False, 255, max(1, round(0.12 * unit)), cv2.LINE_AA, shift=4)
    return drawn.astype(np.float32) / 255


def _is_grey(picture, alpha) -> bool:
    """Return whether the photograph is grey where no mask hides it."""
    seen = picture[::3, ::3][alpha[::3, ::3] == 0].astype(np.int16)
    return bool(len(seen)) and int(np.abs(seen[:, :2] - seen[:, 1:]).max()) <= 2


def _generator(sample: str, seed: int) -> np.random.Generator:
    mark = hashlib.sha256(f"{seed}:{sample}".encode()).digest()
    return np.random.default_rng(int.from_bytes(mark[:8], "little"))


@style("surgical")
def surgical() -> np.ndarray:
    """Draw a pleated surgical mask, light blue, with hems and a nose wire."""
    rows, columns = TEXTURE
    down, across = np.mgrid[0:rows, 0:columns] / np.array([rows - 1, columns - 1]).reshape(2, 1, 1)
    tone = np.ones((rows, columns))
    for pleat in (0.30, 0.50, 0.70):
        below = down - pleat
        tone -= 0.16 * np.exp(-((below / 0.008) ** 2))  # the fold itself
        tone -= 0.09 * np.where((below > 0) & (below < 0.09), 1 - below / 0.09, 0)  # its shadow
        tone += 0.05 * np.where((below < 0) & (below > -0.06), 1 + below / 0.06, 0)
    for hem in (0.06, 0.955):
        tone -= 0.10 * np.exp(-(((down - hem) / 0.005) ** 2))
    wire = np.exp(-(((down - 0.035) / 0.012) ** 2)) * (np.abs(across - 0.5) < 0.2)
    tone += 0.06 * wire
    edge = np.minimum(across, 1 - across)
    tone -= 0.10 * np.exp(-(((edge - 0.035) / 0.006) ** 2))
    tone -= 0.05 * np.exp(-((edge / 0.03) ** 2))
    fibres = np.random.default_rng(0).normal(0, 1, (rows, columns))
    tone += 0.012 * cv2.GaussianBlur(fibres, (0, 0), 0.8)
    return (tone[:, :, None] * np.array([166, 201, 219])).astype(np.float32)
