"""Mask styles: a registry of textures. A new one is one function with one decorator, or a PNG with three points."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from fcx.core.checks import choose
from fcx.core.errors import InputError, UnknownNameError
from fcx.core.rooms import load_modules
from fcx.masks import tones
from fcx.masks.shapes import SHAPES, Shape
from fcx.masks.tones import ACROSS, DOWN, TEXTURE, TEXTURE_SIDE, line

COLOURS = {
    "blue": "#a6c9db", "white": "#eeeeec", "green": "#a9cfb6", "black": "#2e2f33", "grey": "#8d9196", "pink": "#e3b3bd",
    "red": "#a8343a", "navy": "#2d3c5e", "teal": "#3d7b7f", "beige": "#cdb99c", "violet": "#6f5a8e",
    "yellow": "#d9b44a",
}  # fmt: skip
CONTRAST = 0.5  # of a pattern


@dataclass(frozen=True)
class Style:
    """How a mask looks.

    `texture` (colour, pattern) -> (row, column, RGB or RGBA) in [0, 255], where colour is RGB and pattern a
    number to draw variants from. `shape` names one of `fcx.masks.SHAPES`; `colours` are what "any" draws from, the
    first is the style's own. `worn`: a mask that people wear, so that "mixed" draws it. `lit`: it takes the light of
    the scene, throws a shadow and has the photograph's noise. `elsewhere`: its area is laid over the upper face.
    `paste` (picture, mesh, colour's name) -> paint, alpha takes the place of all this.
    """

    texture: Callable | None
    shape: str
    colours: tuple[str, ...]
    worn: bool = False
    lit: bool = True
    elsewhere: bool = False
    paste: Callable | None = None


STYLES: dict[str, Style] = {}


def style(
    name: str,
    *,
    shape: str = "pleated",
    colours: Iterable[str] = ("white",),
    pasted: bool = False,
    **properties: object,
) -> Callable:
    """Register a function (colour, pattern) -> texture (row, column, RGB or RGBA) in [0, 255] as a mask style.

    The texture covers the surface of `shape` from the left to the right of the picture and from its upper to its
    lower edge. With `pasted` the function is the style's `paste` instead. Other properties: those of `Style`.

    Raises: UnknownNameError for a shape.

    >>> @style("plain_red", colours=("red",))
    ... def plain_red(colour, pattern):
    ...     return np.full((64, 96, 3), colour, np.float32)
    >>> STYLES.pop("plain_red").shape
    'pleated'
    """
    choose(shape, SHAPES, "mask shape")

    def register(function: Callable) -> Callable:
        texture, paste = (None, function) if pasted else (function, None)
        STYLES[name] = Style(texture, shape, tuple(colours), paste=paste, **properties)
        return function

    return register


def find_style(name: str) -> Style:
    """Return the style of this name; a path of a PNG is a style of its own, its points in a JSON beside it.

    Raises: UnknownNameError, "unknown mask style ..."; InputError for a PNG that cannot be used.
    """
    if name in STYLES:
        return STYLES[name]
    if str(name).lower().endswith(".png"):
        return _beside(os.path.abspath(name))
    choose(name, [*STYLES, "mixed"], "mask style")
    raise UnknownNameError(f"the mask style {name!r} is drawn by hash of a sample: it has no look of its own")


@lru_cache(maxsize=16)
def _beside(path: str) -> Style:
    import json
    from pathlib import Path

    points = Path(path).with_suffix(".json")
    try:
        anchors = json.loads(points.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{points} cannot be read as JSON: a mask style {path} needs its points there, "
            '{"left": [x, y], "right": [x, y], "chin": [x, y]} in pixels of the PNG'
        ) from error
    return picture_style(path, anchors)


# Where the three points of a PNG lie on the canonical face, centimetres: where the loops begin, and the lowest point.
ANCHORS = {"left": (-6.4, -1.2), "right": (6.4, -1.2), "chin": (0.0, -9.9)}


def picture_style(path: str | os.PathLike, anchors: dict) -> Style:
    """Return a style from a PNG with transparency and three points in its pixels.

    `anchors`: {"left": (x, y), "right": (x, y), "chin": (x, y)}, left and right as seen in the picture: where the ear
    loops begin, and the lowest point in the middle. `STYLES["mine"] = picture_style(...)` names it.

    Raises: InputError for a file that is no picture, for missing points, or for points on one line.
    """
    try:
        points = np.array([[float(value) for value in anchors[name]] for name in ANCHORS], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the points of {path} are {anchors!r}; needed: 'left', 'right' and 'chin', each [x, y]"
        ) from error
    if points.shape != (3, 2) or not np.isfinite(points).all() or abs(np.linalg.det(points[1:] - points[0])) < 1:
        raise InputError(f"the points of {path} are {anchors!r}; needed: three points that are not on one line")
    pixels = _read_rgba(path)
    shape: Shape = SHAPES["sheet"]
    x = (2 * ACROSS - 1) * shape.width(DOWN)
    y = shape.top(TEXTURE_SIDE) + (shape.bottom(TEXTURE_SIDE) - shape.top(TEXTURE_SIDE)) * DOWN
    affine = cv2.getAffineTransform(np.float32(list(ANCHORS.values())), points)
    where = np.stack([x, y, np.ones_like(x)], axis=-1) @ affine.T
    # Averaged down to the size of a texture first: looking up single pixels of a large picture would alias.
    step = max(1.0, float(np.abs(np.linalg.det(affine[:, :2])) ** 0.5 * 2 * 8.5 / TEXTURE[1]))
    small = cv2.resize(pixels, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    where = ((where + 0.5) / step - 0.5).astype(np.float32)
    texture = cv2.remap(small, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    texture[:, :, :3] /= np.maximum(texture[:, :, 3:], 1e-3) / 255
    return Style(_Fixed(texture), "sheet", ("white",))


@dataclass(frozen=True, eq=False)
class _Fixed:
    """A texture that is always the same; it can be sent to another process."""

    texture: np.ndarray

    def __call__(self, colour, pattern) -> np.ndarray:
        return self.texture


def _read_rgba(path) -> np.ndarray:
    """Return a picture as (row, column, RGBA) float32 with colours multiplied by their opacity."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGBA"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from error
    return np.concatenate([pixels[:, :, :3] * (pixels[:, :, 3:] / 255), pixels[:, :, 3:]], axis=2)


def rgb(colour: str) -> np.ndarray:
    """Return a colour's name or #rrggbb as RGB (3,) float32 in [0, 255].

    Raises: UnknownNameError for anything else.

    >>> rgb("#102030")
    array([16., 32., 48.], dtype=float32)
    """
    text = COLOURS.get(colour, colour)
    digits = text[1:] if isinstance(text, str) and len(text) == 7 and text.startswith("#") else "?"
    if not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        choose(colour, [*COLOURS, "any", "#rrggbb"], "colour")
        raise UnknownNameError(f"unknown colour {colour!r}: allowed: {', '.join(COLOURS)}, any, #rrggbb")
    return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)], np.float32)


def _often(**times: int) -> tuple[str, ...]:
    """Return colours, each as many times as it is drawn: shares of photographs of people with masks."""
    return tuple(colour for colour, number in times.items() for _ in range(number))


@style("surgical", shape="pleated", colours=_often(blue=4, white=3, black=2, green=1), worn=True)
def surgical(colour, pattern) -> np.ndarray:
    """Draw a pleated surgical mask with hems and a nose wire."""
    return tones.pleats(pattern)[:, :, None] * colour


@style("cloth", shape="fitted", colours=_often(navy=1, black=4, grey=1, white=1, red=1, pink=1, blue=1), worn=True)
def cloth(colour, pattern) -> np.ndarray:
    """Draw a mask sewn of plain cloth."""
    return tones.sewn(pattern)[:, :, None] * colour


@style("patterned", shape="fitted", colours=_often(navy=2, black=2, red=1, beige=2, pink=1, yellow=2), worn=True)
def patterned(colour, pattern) -> np.ndarray:
    """Draw a mask sewn of cloth with stripes, dots, checks or waves, by `pattern`."""
    kind, step = pattern % 4, (11, 15, 20)[pattern // 4 % 3]
    x, y = 2 * np.pi * step * 1.25 * (ACROSS - 0.5), 2 * np.pi * step * (DOWN - 0.5)
    wave = (
        np.sin(x if pattern % 2 else y),
        1.6 * np.cos(x) * np.cos(y) - 0.6,
        np.sin(x / 2) * np.sin(y / 2),
        np.sin(y + 2.2 * np.sin(x / 3)),
    )[kind]
    share = np.clip(0.2 + 2.5 * wave, 0, 1)[:, :, None]
    other = colour + CONTRAST * (240 - colour) if colour @ [0.299, 0.587, 0.114] < 140 else (1 - CONTRAST) * colour
    return tones.sewn(pattern)[:, :, None] * (colour + share * (other - colour))


@style("ffp2", shape="folded", colours=_often(white=6, black=4, grey=1, beige=1), worn=True)
def ffp2(colour, pattern) -> np.ndarray:
    """Draw a folded respirator (KN95, FFP2)."""
    return tones.welded(pattern)[:, :, None] * colour


@style("duckbill", shape="beak", colours=_often(white=6, black=3, blue=1), worn=True)
def duckbill(colour, pattern) -> np.ndarray:
    """Draw a duckbill respirator."""
    return tones.beaked(pattern)[:, :, None] * colour


@style("transparent", shape="pleated", colours=("blue", "white", "black", "grey"))
def transparent(colour, pattern) -> np.ndarray:
    """Draw a mask of cloth with a clear window before the mouth."""
    window, hem, shine = tones.window()
    paint = (tones.sewn(pattern) - 0.15 * hem)[:, :, None] * colour
    paint += window[:, :, None] * (235 - paint)
    opacity = 255 * (1 - window * (0.90 - 0.25 * shine))
    return np.concatenate([paint, opacity[:, :, None]], axis=2)


@style("grey_patch", shape="pleated", colours=("grey",), lit=False)
def grey_patch(colour, pattern) -> np.ndarray:
    """Draw a control: the outline of a surgical mask, flat."""
    return np.broadcast_to(colour, (8, 8, 3))


@style("elsewhere_patch", shape="pleated", colours=("grey",), lit=False, elsewhere=True)
def elsewhere_patch(colour, pattern) -> np.ndarray:
    """Draw a control: the area of a surgical mask, flat, over the upper face."""
    return np.broadcast_to(colour, (8, 8, 3))


@style("sunglasses", shape="glasses", colours=("black",))
def sunglasses(colour, pattern) -> np.ndarray:
    """Draw a control that hides the eyes: two lenses, a bridge and temples."""
    x, y = 7.3 * (2 * ACROSS - 1), 5.0 - 4.8 * DOWN
    lens = (np.abs(np.abs(x) - 3.35) / 2.75) ** 3 + (np.abs(y - 2.55 - 0.12 * np.abs(x) / 3) / 1.95) ** 3
    frame = (np.abs(x) < 1.2) & (np.abs(y - 3.3) < 0.28) | (np.abs(x) > 5.6) & (np.abs(y - 3.2) < 0.3)
    inside = np.clip((1.06 - lens) / 0.12, 0, 1)
    tone = (
        0.85 + 0.5 * line(lens - 0.95, 0.12) + 0.5 * inside * np.clip(0.8 - DOWN, 0, 1) * line(ACROSS % 0.5 - 0.2, 0.12)
    )
    opacity = 255 * np.maximum(inside, frame)
    return np.concatenate([tone[:, :, None] * colour, opacity[:, :, None]], axis=2)


load_modules("fcx.masks", [os.path.dirname(__file__)], "style")  # other files register theirs
