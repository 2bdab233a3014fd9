"""How a mask is painted: its surface as the picture shows it, lit, with bands and a shadow, blurred as the photo."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from fcx.geometry.landmarks import rasterise
from fcx.geometry.pose import FLIP, Pose
from fcx.masks.light import find_grain, find_light
from fcx.masks.shapes import COLUMNS, ROWS, triangles

WIDTH = 13.0  # centimetres that a texture spans, about
SHARPEST = 0.7  # pixels: the blur of an edge in the sharpest picture
SHADOW = 0.45  # how dark the contact shadow is at most
BAND = 0.9  # the light on bands
FRONTAL = 1.38  # the light on cloth that faces the viewer, against the skin's
AMBIENT = 0.5  # the part of the light that reaches cloth from everywhere


def paint_surface(picture, pose: Pose, vertices, loops, texture, lit: bool, generator):
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of a window, and its two slices.

    `vertices` (row, column, xyz) are in canonical centimetres, `texture` is (row, column, RGB or RGBA)
    in [0, 255], `loops` is where bands go (2, xyz), or None. Where the alpha is 255 the paint depends on no pixel of
    the picture below it.
    """
    placed = pose.place(vertices.reshape(-1, 3))
    bands = _bands(vertices, loops, pose)
    window = _window([placed, *bands], pose.scale, picture.shape)
    corner = np.array([window[1].start, window[0].start, 0])
    size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    seen = rasterise(placed - corner, triangles(), size)
    if not (seen >= 0).any():
        return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), window
    planes, facing = _texture_seen(texture, placed - corner, seen, pose.scale)
    band = _draw_bands([line - corner for line in bands], size, pose.scale) * (1 - planes[3])
    opaque = planes[3] + band
    covered = np.zeros(picture.shape[:2], np.uint8)
    covered[window] = cv2.dilate(np.uint8(opaque + _shadow(opaque, pose.scale) > 1 / 512), np.ones((9, 9), np.uint8))
    softness, noise = find_grain(picture, pose, covered) if lit else (SHARPEST, 0.0)
    if lit:
        light, slope = find_light(picture, pose, covered)
        shade = light * _shade(*facing, *slope)
        own = texture[..., :3].reshape(-1, 3).mean(axis=0) * BAND * light
        planes = [plane * shade + band * np.float32(tone) for plane, tone in zip(planes[:3], own, strict=True)]
    # Colour times opacity is blurred together with opacity, so that a soft edge has no fringe.
    *planes, opaque = [cv2.GaussianBlur(plane, (0, 0), max(SHARPEST, softness)) for plane in (*planes[:3], opaque)]
    total = opaque
    if lit:  # what the shadow adds to the alpha is dark
        total = opaque + (1 - opaque) ** 2 * _shadow(opaque, pose.scale)
    alpha = cv2.convertScaleAbs(total, alpha=255)
    share = np.where(alpha > 0, 1 / np.maximum(total, 1e-6), 0).astype(np.float32)
    grain = np.float32(noise) * _grain(size, generator)
    paint = cv2.merge([cv2.add(plane * share, grain, dtype=cv2.CV_8U) for plane in planes])  # rounds and saturates
    return paint, alpha, window


def _shade(right, up, slope, above) -> np.ndarray:
    """Return the light on cloth (row, column) that faces `right` and `up`: full where it faces viewer and light."""
    towards = np.sqrt(np.maximum(1 - right * right - up * up, 0))
    return np.clip(FRONTAL * (AMBIENT + (1 - AMBIENT) * (towards + slope * right + above * up)), 0.15, 1.25)


def _grain(size, generator) -> np.ndarray:
    """Return noise (row, column) of standard deviation 1: a part of one fixed field, at a place that is drawn."""
    field = _field()
    row, column = generator.integers(0, len(field), 2)
    rows, columns = np.arange(row, row + size[0]) % len(field), np.arange(column, column + size[1]) % len(field)
    return field[rows[:, None], columns]


@cache
def _field() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((509, 509), dtype=np.float32)


def _window(placed: list, scale: float, shape) -> tuple[slice, slice]:
    """Return the rows and columns that a mask, its bands and its shadow can reach."""
    points = np.concatenate(placed)[:, :2]
    margin = 0.7 * scale + 12
    low = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + margin), [shape[1], shape[0]]).astype(int)
    low = np.minimum(low, [shape[1] - 1, shape[0] - 1])
    high = np.maximum(high, low + 1)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _texture_seen(texture, placed, seen, scale):
    """Return what each pixel shows of the texture, and where it faces, as planes (row, column) float32.

    Of the texture: red, green and blue times opacity, and opacity. Facing: the part of the unit normal
    to the right and up.
    """
    texture = _premultiplied(texture)
    step = texture.shape[1] / WIDTH / scale
    if step > 1.3:  # looking up single points of a finer texture would alias
        texture = cv2.resize(texture, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    last = texture.shape[1] - 1, texture.shape[0] - 1
    across, down = np.meshgrid(np.linspace(0, last[0], COLUMNS), np.linspace(0, last[1], ROWS))
    right, up = _normals(placed)[:, :2].T
    # Beside a triangle seen edge-on the values run away.
    planes = [
        np.clip(plane, low, high)
        for plane, low, high in zip(
            _interpolate(placed[:, :2], [across.ravel(), down.ravel(), right, up], seen, [-2, -2, 0, 0]),
            (-2, -2, -1, -1), (*last, 1, 1), strict=True,
        )
    ]  # fmt: skip
    found = cv2.remap(texture, planes[0], planes[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return cv2.split(found), planes[2:]


def _premultiplied(texture) -> np.ndarray:
    texture = np.asarray(texture, np.float32)
    result = np.empty((*texture.shape[:2], 4), np.float32)
    result[:, :, 3] = texture[:, :, 3] / 255 if texture.shape[2] == 4 else 1
    result[:, :, :3] = texture[:, :, :3] * result[:, :, 3:] if texture.shape[2] == 4 else texture
    return result


def _interpolate(flat, values, seen, elsewhere) -> list[np.ndarray]:
    """Return planes (row, column) float32 of vertex values, affine over the triangle that each pixel shows."""
    pixels = np.flatnonzero(seen >= 0)
    number = seen.ravel()[pixels]
    rows, columns = (index.astype(np.float32) for index in np.divmod(pixels, seen.shape[1]))
    corners = flat[triangles()]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = ax * by - ay * bx
    area = np.where(np.abs(area) < 1e-6, np.inf, area)  # seen edge-on: constant
    planes = []
    for value, beside in zip(values, elsewhere, strict=True):
        start, first, second = value[triangles()].T
        first, second = first - start, second - start
        over_x, over_y = (first * by - second * ay) / area, (second * ax - first * bx) / area
        start = start - over_x * corners[:, 0, 0] - over_y * corners[:, 0, 1]
        over_x, over_y, start = (term.astype(np.float32)[number] for term in (over_x, over_y, start))
        plane = np.full(seen.shape, beside, np.float32)
        plane.ravel()[pixels] = over_x * columns + over_y * rows + start
        planes.append(plane)
    return planes


def _normals(placed) -> np.ndarray:
    """Return the unit normals (vertex, xyz), y up and z to the viewer, from the grid's own directions."""
    grid = (placed * FLIP).reshape(ROWS, COLUMNS, 3)
    normals = np.cross(np.gradient(grid, axis=1), -np.gradient(grid, axis=0)).reshape(-1, 3)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _shadow(opaque, scale) -> np.ndarray:
    return SHADOW * _blur(opaque, max(SHARPEST, 0.22 * scale))


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian blur; a wide one is done on a smaller picture."""
    factor = int(sigma / 2)
    if factor < 2:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    rows, columns = image.shape[:2]
    size = (max(1, columns // factor), max(1, rows // factor))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / factor)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)


def _bands(vertices, loops, pose: Pose) -> list[np.ndarray]:
    """Return the bands (point, xyz) in picture pixels on the sides that face the viewer."""
    if loops is None:
        return []
    lines = []
    steps = np.linspace(0, 1, 12)[:, None]
    for column, sign in ((0, -1), (-1, 1)):
        outward = pose.turn @ [sign * 0.95, 0, 0.31]
        if outward[2] < 0:  # the cheek is turned away, and hides the band
            continue
        for row, end in ((1, loops[0]), (-2, loops[1])):
            start, end = vertices[row, column], end * [sign, 1, 1]
            lines.append(pose.place(start + (end - start) * steps + [sign * 0.5, 0, 0] * np.sin(np.pi * steps)))
    return lines


def _draw_bands(lines, size, scale) -> np.ndarray:
    """Return the coverage (row, column) float32 of the bands."""
    drawn = np.zeros(size, np.uint8)
    for line in lines:
        points = np.rint(line[:, :2] * 16).astype(np.int32)
        cv2.polylines(drawn, [points], False, 255, max(1, round(0.12 * scale)), cv2.LINE_AA, shift=4)
    return drawn.astype(np.float32) / 255
