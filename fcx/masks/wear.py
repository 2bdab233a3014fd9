"""Masks worn on faces: `wear_mask`, and what a sample's hash draws for it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from fcx.core.checks import choose
from fcx.core.errors import InputError
from fcx.core.seeds import sample_generator
from fcx.geometry.pose import FLIP, find_pose
from fcx.masks.light import LUMA, is_grey
from fcx.masks.paint import paint_surface
from fcx.masks.shapes import FITS, SHAPES, WEARINGS, bend, surface
from fcx.masks.styles import STYLES, find_style, rgb

SLAB = 512  # rows that are mixed at a time
FINEST = 80.0  # pixels in a centimetre above which a mask is painted smaller and enlarged: a face of about 1,400
# What a jitter of 1 means, standard deviations: size, centimetres to the side and up, degrees, brightness.
SIZE, SHIFT, ROLL, BRIGHTNESS = 0.015, (0.10, 0.12), 1.2, 0.03


@dataclass(frozen=True)
class Look:
    """What one face wears: everything that a name or a hash decided; lengths in centimetres, roll in degrees."""

    style: str
    colour: str
    wearing: str
    scale: float
    shift: tuple[float, float]
    roll: float
    pattern: int

    def described(self) -> dict:
        """Return the look as plain values, rounded for reading."""
        rounded = {"scale": round(self.scale, 4), "shift": [round(value, 3) for value in self.shift],
                   "roll": round(self.roll, 2)}  # fmt: skip
        return asdict(self) | rounded


def choose_look(style: str = "surgical", *, wearing: str = "proper", scale: float = 1.0, shift=(0.0, 0.0),
                colour: str = "", jitter: float = 1.0, seed: int = 0, sample: str = "") -> Look:  # fmt: skip
    """Return what a face wears; what is not given is drawn from hash(`sample`, `seed`) alone.

    `style` is a name of `STYLES`, a PNG (see `picture_style`), or "mixed": one of the masks that people
    wear, in one of its colours. `colour` is a name, #rrggbb, "any" (one of the style's) or "" (the style's own).
    `jitter` scales how much size, place, tilt and brightness differ from face to face.

    Raises: UnknownNameError for a name; InputError for a number that is out of range.

    >>> choose_look("mixed", sample="ada") == choose_look("mixed", sample="ada")
    True
    """
    choose(wearing, WEARINGS, "wearing")
    _check_numbers(scale, shift, jitter)
    draw = sample_generator(sample, seed)
    which, shade = draw.random(2)
    pattern, places = int(draw.integers(0, 2**31)), draw.standard_normal(5)
    places = np.clip(places, -2.5, 2.5) * jitter
    if style == "mixed":
        worn = sorted(name for name, entry in STYLES.items() if entry.worn)
        style, colour = worn[int(which * len(worn))], colour or "any"
    entry = find_style(style)
    if colour == "any":
        colour = entry.colours[int(shade * len(entry.colours))]
    colour = colour or entry.colours[0]
    if entry.paste:
        choose(colour, entry.colours, f"colour of a mask of the style {style!r}")
    else:
        bright = np.clip(rgb(colour) * (1 + BRIGHTNESS * places[4] * entry.lit), 0, 255)
        colour = "#" + "".join(f"{round(float(value)):02x}" for value in bright)
    size, roll = float(scale * (1 + SIZE * places[0])), float(ROLL * places[3])
    moved = (float(shift[0] + SHIFT[0] * places[1]), float(shift[1] + SHIFT[1] * places[2]))
    return Look(style, colour, wearing, size, moved, roll, pattern)


def _check_numbers(scale, shift, jitter) -> None:
    if not _is_number(scale) or not 0.3 <= scale <= 3:
        raise InputError(f"scale is {scale!r}; allowed: 0.3 to 3, where 1 is a mask that fits")
    if not (isinstance(shift, tuple | list) and len(shift) == 2 and all(_is_number(v) and abs(v) <= 10 for v in shift)):
        raise InputError(f"shift is {shift!r}; allowed: two numbers from -10 to 10, centimetres to the right and up")
    if not _is_number(jitter) or not 0 <= jitter <= 5:
        raise InputError(f"jitter is {jitter!r}; allowed: 0 to 5, where 0 is none")


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def wear_mask(picture: np.ndarray, mesh: np.ndarray, style: str = "surgical", **how) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture with a mask on its face, (row, column, RGB) uint8, and its alpha, (row, column) uint8.

    What is allowed in `how` and what it means: see `paint_mask`. The masked picture is
    `composite(picture, *paint_mask(picture, mesh, style, **how))`, exactly.

    Raises: UnknownNameError for a name; InputError for another shape of picture or mesh, or a number out of range.

    >>> from fcx.datasets import open_source
    >>> from fcx.geometry.landmarks import find_landmarks
    >>> picture = open_source("demo").records[0].read()
    >>> masked, alpha = wear_mask(picture, find_landmarks(picture).mesh)
    >>> masked.shape == picture.shape
    True
    """
    paint, alpha = paint_mask(picture, mesh, style, **how)
    return composite(picture, paint, alpha), alpha


def paint_mask(picture: np.ndarray, mesh: np.ndarray, style: str = "surgical", *, fit: str = "rigid",
               wearing: str = "proper", scale: float = 1.0, shift=(0.0, 0.0), colour: str = "", jitter: float = 1.0,
               donor: np.ndarray | None = None, seed: int = 0, sample: str = ""):  # fmt: skip
    """Return the paint (row, column, RGB) uint8 and the alpha (row, column) uint8 of a mask on a face.

    `mesh` (vertex, xyz) is in picture pixels (`fcx.geometry.landmarks.find_landmarks(picture).mesh`). `fit`:
    "rigid" places the mask by the pose of the upper face alone; "jaw" bends it after nose, cheeks and jaw;
    "donor" bends it after those of another face, the mesh `donor`. `wearing`: "proper", "under_nose" or
    "under_chin". `scale` and `shift` (centimetres to the right and up) change size and place; for style,
    colour, jitter, seed and sample see `choose_look`. Where the alpha is 255 no pixel of the photograph is
    left, nor had one below it any influence; a grey picture gets a grey mask.

    Raises: as `wear_mask`.
    """
    picture, mesh = _checked(picture, mesh)
    look = choose_look(
        style, wearing=wearing, scale=scale, shift=shift, colour=colour, jitter=jitter, seed=seed, sample=sample
    )
    if choose(fit, FITS, "fit") == "donor" and donor is None:
        raise InputError("the fit 'donor' needs the mesh of another face as `donor`")
    entry, pose = find_style(look.style), find_pose(mesh)
    if entry.paste:
        return _greyed(picture, *entry.paste(picture, mesh, look.colour))
    if (
        pose.scale > FINEST
    ):  # a texture has nothing to show at that size: paint a smaller picture, and enlarge the paint
        part = FINEST / pose.scale
        small = cv2.resize(picture, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
        how = {"fit": fit, "wearing": wearing, "scale": scale, "shift": shift, "colour": colour, "jitter": jitter,
               "donor": donor, "seed": seed, "sample": sample}  # fmt: skip
        painted = paint_mask(small, mesh * part + [(part - 1) / 2, (part - 1) / 2, 0], style, **how)
        return tuple(cv2.resize(each, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR) for each in painted)
    shape = SHAPES[entry.shape]
    vertices = surface(shape, look.wearing, look.scale, look.shift, look.roll)
    if fit != "rigid" and not shape.upper:
        other = mesh if fit == "jaw" else _checked(picture, donor)[1]
        vertices = bend(vertices, other, pose if fit == "jaw" else find_pose(other))
    texture = entry.texture(rgb(look.colour), look.pattern)
    grain = np.random.default_rng(look.pattern)
    part, cover, window = paint_surface(picture, pose, vertices, shape, texture, entry.lit, grain)
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
    mesh = np.asarray(mesh, dtype=np.float64)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"a picture is (row, column, 3) uint8, not {picture.dtype} {picture.shape}")
    if mesh.shape != (468, 3) or not np.isfinite(mesh).all():
        raise InputError(f"a mesh is (468, 3) without missing values, not {mesh.shape}")
    return picture, mesh


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
