"""Masks worn on faces: `wear_mask`, and what a sample's hash draws for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from fcx.core.arguments import Word, checked
from fcx.core.checks import described
from fcx.core.errors import InputError
from fcx.core.seeds import sample_generator
from fcx.geometry.landmarks import check_mesh
from fcx.geometry.pose import FLIP, find_pose
from fcx.masks.light import LUMA, is_grey
from fcx.masks.options import MaskOptions, mask_options
from fcx.masks.paint import paint_surface
from fcx.masks.shapes import SHAPES, bend, rumple, surface
from fcx.masks.styles import STYLES, find_style, rgb

SLAB = 512  # rows that are mixed at a time
FINEST = 80.0  # pixels in a centimetre above which a mask is painted smaller and enlarged: a face of about 1,400
# What a jitter of 1 means, standard deviations: size, centimetres to the side and up, degrees, brightness, centimetres
SIZE, SHIFT, ROLL, BRIGHTNESS = 0.03, (0.15, 0.25), 1.5, 0.08
LIFT = 0.9  # of the ends of the upper edge
STRAPS = 0.3  # how often the bands are seen: hair and ears hide most


@dataclass(frozen=True)
class Look:
    """What one face wears: everything that a name or a hash decided; lengths in centimetres, roll in degrees."""

    style: str
    colour: str
    wearing: str
    scale: float
    shift: tuple[float, float]
    roll: float
    lift: float
    straps: bool
    pattern: int

    def described(self) -> dict:
        """Return the look as plain values, rounded for reading."""
        rounded = {"scale": round(self.scale, 4), "shift": [round(value, 3) for value in self.shift],
                   "roll": round(self.roll, 2), "lift": round(self.lift, 3)}  # fmt: skip
        return asdict(self) | rounded


def choose_look(options: MaskOptions, sample: str = "") -> Look:
    """Return what a face wears; what `options` leave open is drawn from hash(`sample`, seed) alone.

    >>> choose_look(MaskOptions("mixed"), "ada") == choose_look(MaskOptions("mixed"), "ada")
    True
    """
    style, colour = options.style, options.colour
    draw = sample_generator(sample, options.seed)
    which, shade = draw.random(2)
    pattern, places = int(draw.integers(0, 2**31)), draw.standard_normal(5)
    lift, straps = draw.standard_normal(), bool(draw.random() < STRAPS)
    *places, lift = np.clip([*places, lift], -2.5, 2.5) * options.jitter
    if style == "mixed":
        worn = sorted(name for name, entry in STYLES.items() if entry.worn)
        style, colour = worn[int(which * len(worn))], colour or "any"
    entry = find_style(style)
    if colour == "any":
        colour = entry.colours[int(shade * len(entry.colours))]
    colour = colour or entry.colours[0]
    if not entry.paste:
        bright = np.clip(rgb(colour) * (1 + BRIGHTNESS * places[4] * entry.lit), 0, 255)
        colour = "#" + "".join(f"{round(float(value)):02x}" for value in bright)
    size, roll = float(options.scale * (1 + SIZE * places[0])), float(ROLL * places[3])
    moved = tuple(float(options.shift[i] + SHIFT[i] * places[1 + i]) for i in (0, 1))
    return Look(style, colour, options.wearing, size, moved, roll, float(LIFT * lift), straps, pattern)


@checked
def wear_mask(picture: np.ndarray, mesh: np.ndarray, style: str = "surgical", *, donor: np.ndarray | None = None,
              sample: Word = "", **options: object) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the picture with a mask on its face, (row, column, RGB) uint8, and its alpha, (row, column) uint8.

    `mesh` (vertex, xyz) is in picture pixels (`fcx.geometry.landmarks.find_landmarks(picture).mesh`). `options` are
    the fields of `MaskOptions`; the fit "donor" takes the outline of another face, the mesh `donor`. `sample` is
    the face's id, from which with the seed everything is drawn that is left open.

    Raises: UnknownNameError for a name; InputError for another shape of picture or mesh, or a number out of range.

    >>> from fcx.datasets import open_source
    >>> from fcx.geometry.landmarks import find_landmarks
    >>> picture = open_source("demo").records[0].read()
    >>> masked, alpha = wear_mask(picture, find_landmarks(picture).mesh)
    >>> masked.shape == picture.shape
    True
    """
    paint, alpha = paint_mask(picture, mesh, mask_options(style=style, **options), donor=donor, sample=sample)
    return composite(picture, paint, alpha), alpha


def paint_mask(
    picture: np.ndarray, mesh: np.ndarray, options: MaskOptions, *, donor: np.ndarray | None = None, sample: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of a mask on a face.

    `composite(picture, paint, alpha)` is what `wear_mask` returns. Where the alpha is 255 no pixel of the photograph
    is left, nor had one below it any influence; a grey picture gets a grey mask.

    Raises: as `wear_mask`.
    """
    picture, mesh = _checked(picture, mesh)
    look, fit = choose_look(options, sample), options.fit
    if fit == "donor" and donor is None:
        raise InputError("the fit 'donor' needs the mesh of another face as `donor`")
    entry, pose = find_style(look.style), find_pose(mesh)
    if entry.paste:
        return _greyed(picture, *entry.paste(picture, mesh, look.colour))
    if (
        pose.scale > FINEST
    ):  # a texture has nothing to show at that size: paint a smaller picture, and enlarge the paint
        part = FINEST / pose.scale
        small = cv2.resize(picture, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
        moved = mesh * part + [(part - 1) / 2, (part - 1) / 2, 0]
        painted = paint_mask(small, moved, options, donor=donor, sample=sample)
        return tuple(cv2.resize(each, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR) for each in painted)
    shape = SHAPES[entry.shape]
    vertices = surface(shape, look.wearing, look.scale, look.shift, look.roll, look.lift)
    vertices = vertices if shape.upper else rumple(vertices, look.pattern)
    if fit != "rigid" and not shape.upper:
        other = mesh if fit == "jaw" else _checked(picture, donor)[1]
        vertices = bend(vertices, other, pose if fit == "jaw" else find_pose(other))
    texture = entry.texture(rgb(look.colour), look.pattern)
    grain = np.random.default_rng(look.pattern)
    loops = shape.loops if entry.lit and look.straps else None
    part, cover, window = paint_surface(picture, pose, vertices, loops, texture, entry.lit, grain)
    paint, alpha = np.zeros_like(picture), np.zeros(picture.shape[:2], np.uint8)
    paint[window], alpha[window] = part, cover
    if entry.elsewhere:
        paint, alpha = _turned_up(paint, alpha, pose)
    return _greyed(picture, paint, alpha)


def _greyed(picture, paint, alpha) -> tuple[np.ndarray, np.ndarray]:
    if is_grey(picture, alpha):
        paint[...] = np.rint(paint @ LUMA)[:, :, None]
    return paint, alpha


def composite(picture: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return alpha * paint + (1 - alpha) * picture, (row, column, RGB) uint8, alpha in 255ths."""
    left, top, width, height = cv2.boundingRect(alpha)  # where there is anything to mix
    mixed = picture.copy()
    for row in range(top, top + height, SLAB):  # in floats a large picture takes four times its memory
        part = slice(row, min(row + SLAB, top + height)), slice(left, left + width)
        share = alpha[part].astype(np.float32) / 255
        below = picture[part].astype(np.float32)
        added = cv2.multiply(paint[part].astype(np.float32) - below, cv2.merge([share, share, share]))
        mixed[part] = np.rint(below + added).astype(np.uint8)
    return mixed


def _checked(picture, mesh) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(picture, np.ndarray):
        raise InputError(f"a picture is (row, column, 3) uint8, not {described(picture)}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"a picture is (row, column, 3) uint8, not {picture.dtype} {picture.shape}")
    return picture, check_mesh(mesh)


def _turned_up(paint, alpha, pose) -> tuple[np.ndarray, np.ndarray]:
    """Return a painted area turned by 180 degrees and laid over the upper face, as a whole within the picture."""
    rows, columns = np.nonzero(alpha)
    if not len(rows):
        return paint, alpha
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
    part = slice(low[1], high[1]), slice(low[0], high[0])
    up = pose.turn[:2, 1] * FLIP[:2]
    up /= np.linalg.norm(up)
    moved = low + np.rint(up * (np.abs(up) @ (high - low))).astype(int)
    moved = np.clip(moved, 0, np.array(alpha.shape[::-1]) - (high - low))
    there = slice(moved[1], moved[1] + high[1] - low[1]), slice(moved[0], moved[0] + high[0] - low[0])
    new_paint, new_alpha = np.zeros_like(paint), np.zeros_like(alpha)
    new_paint[there], new_alpha[there] = paint[part][::-1, ::-1], alpha[part][::-1, ::-1]
    return new_paint, new_alpha
