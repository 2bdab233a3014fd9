"""How a mask is painted: its surface as the picture shows it, lit, with bands and a shadow, blurred as the photo."""

from __future__ import annotations

import cv2
import numpy as np

from fcx.landmarks import rasterise
from fcx.masks.photograph import find_grain, find_light
from fcx.masks.shapes import COLUMNS, ROWS, Shape, triangles
from fcx.pose import FLIP, Pose

WIDTH = 13.0  # centimetres that a texture spans, about
SHARPEST = 0.7  # pixels: the blur of an edge in the sharpest picture
SHADOW = 0.35  # how dark the contact shadow is at most
BAND = 225.0  # grey levels of the bands in full light


def paint_surface(picture, pose: Pose, vertices, shape: Shape, texture, lit: bool, generator):
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of a window, and its two slices.

    `vertices` (row, column, xyz) are in canonical centimetres, `texture` is (row, column, RGB or RGBA)
    in [0, 255]. Where the alpha is 255 the paint depends on no pixel of the picture below it.
    """
    placed = pose.place(vertices.reshape(-1, 3))
    bands = _bands(vertices, shape, pose) if lit else []
    window = _window([placed, *bands], pose.scale, picture.shape)
    corner = np.array([window[1].start, window[0].start, 0])
    size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    seen = rasterise(placed - corner, triangles(), size)
    if not (seen >= 0).any():
        return np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), window
    cloth, opacity, facing = _texture_seen(texture, placed - corner, seen, pose.scale)
    band = _draw_bands([line - corner for line in bands], size, pose.scale) * (1 - opacity)
    opaque = opacity + band
    covered = np.zeros(picture.shape[:2], np.float32)
    covered[window] = opaque if not lit else opaque + _shadow(opaque, pose.scale)
    softness, noise = find_grain(picture, pose, covered)
    if lit:
        light, slope = find_light(picture, pose, covered)
        shade = np.clip(light * (1 + facing[:, :, 0] * slope[0] + facing[:, :, 1] * slope[1]), 0.12, 1.12)
        cloth *= shade[:, :, None].astype(np.float32)
        cloth += (band * (BAND * light))[:, :, None]
    # Colour times opacity is blurred together with opacity, so that a soft edge has no fringe.
    sigma = max(SHARPEST, softness)
    cloth, opaque = cv2.GaussianBlur(cloth, (0, 0), sigma), cv2.GaussianBlur(opaque, (0, 0), sigma)
    total = opaque
    if lit:  # what the shadow adds to the alpha is dark
        total = opaque + (1 - opaque) ** 2 * _shadow(opaque, pose.scale)
    paint = cloth / np.maximum(total, 1e-6)[:, :, None]
    if lit:
        paint += (noise * generator.standard_normal(size, dtype=np.float32))[:, :, None]
    alpha = np.rint(total * 255).astype(np.uint8)
    paint[alpha == 0] = 0
    return np.clip(np.rint(paint), 0, 255).astype(np.uint8), alpha, window


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
    """Return what each pixel shows of the texture: colour times opacity, opacity, and where it faces (right, up)."""
    texture = _premultiplied(texture)
    step = texture.shape[1] / WIDTH / scale
    if step > 1.3:  # looking up single points of a finer texture would alias
        texture = cv2.resize(texture, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    across, down = np.meshgrid(
        np.linspace(0, texture.shape[1] - 1, COLUMNS), np.linspace(0, texture.shape[0] - 1, ROWS)
    )
    values = np.column_stack([across.ravel(), down.ravel(), _normals(placed)[:, :2]])
    rows, columns = np.nonzero(seen >= 0)
    values = _interpolate(placed[:, :2], values, seen[rows, columns], rows, columns)
    where = np.full((*seen.shape, 2), -2, np.float32)
    where[rows, columns] = np.clip(values[:, :2], 0, [texture.shape[1] - 1, texture.shape[0] - 1])
    facing = np.zeros((*seen.shape, 2), np.float32)
    facing[rows, columns] = np.clip(values[:, 2:], -1, 1)
    found = cv2.remap(texture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return found[:, :, :3], found[:, :, 3], facing


def _premultiplied(texture) -> np.ndarray:
    texture = np.asarray(texture, np.float32)
    if texture.shape[2] == 3:
        return np.dstack([texture, np.ones(texture.shape[:2], np.float32)])
    opacity = texture[:, :, 3:] / 255
    return np.concatenate([texture[:, :, :3] * opacity, opacity], axis=2)


def _interpolate(flat, values, number, rows, columns) -> np.ndarray:
    """Return (pixel, value) float32: vertex values, affine over the triangle `number` that each pixel shows."""
    corners, held = flat[triangles()], values[triangles()]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T[:, :, None], (corners[:, 2] - corners[:, 0]).T[:, :, None]
    first, second = held[:, 1] - held[:, 0], held[:, 2] - held[:, 0]
    area = ax * by - ay * bx
    area = np.where(np.abs(area) < 1e-6, np.inf, area)  # seen edge-on: constant
    over_x, over_y = (first * by - second * ay) / area, (second * ax - first * bx) / area
    start = held[:, 0] - over_x * corners[:, 0, :1] - over_y * corners[:, 0, 1:]
    plane = np.stack([over_x, over_y, start], axis=1).astype(np.float32)[number]
    return (
        plane[:, 0] * columns[:, None].astype(np.float32) + plane[:, 1] * rows[:, None].astype(np.float32) + plane[:, 2]
    )


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


def _bands(vertices, shape: Shape, pose: Pose) -> list[np.ndarray]:
    """Return the bands (point, xyz) in picture pixels on the sides that face the viewer."""
    if shape.loops is None:
        return []
    lines = []
    steps = np.linspace(0, 1, 12)[:, None]
    for column, sign in ((0, -1), (-1, 1)):
        outward = pose.turn @ [sign * 0.95, 0, 0.31]
        if outward[2] < 0:  # the cheek is turned away, and hides the band
            continue
        for row, end in ((1, shape.loops[0]), (-2, shape.loops[1])):
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
