"""Masks drawn on faces: a style is a texture on a surface that is worn in the face's own pose.

- `styles`: what a mask looks like, one function each; `shapes`: its outline and relief in centimetres of
  the canonical face, and how it fits a face; `published`: the clip-art of the paper's authors.
- `photograph`: light, sharpness and noise of the uncovered upper face; `paint`: the mask as the picture shows it.
- `wear`: `wear_mask` and what hash(sample, seed) draws; `leakage`: what a mask gives away.

With the fit `rigid` a mask is placed by the pose of the upper face alone (`fcx.pose`), so what the mouth
does cannot change it; its light comes from what it leaves uncovered, so what it hides cannot change its look either.
"""

from fcx.masks.published import paste_published
from fcx.masks.shapes import FITS, SHAPES, WEARINGS, Shape
from fcx.masks.styles import COLOURS, STYLES, Style, picture_style, style
from fcx.masks.wear import Look, choose_look, composite, paint_mask, wear_mask

__all__ = [
    "COLOURS", "FITS", "SHAPES", "STYLES", "WEARINGS", "Look", "Shape", "Style", "choose_look", "composite",
    "leakage_audit", "paint_mask", "paste_published", "picture_style", "style", "wear_mask",
]  # fmt: skip


def __getattr__(name: str):
    if name != "leakage_audit":
        raise AttributeError(f"module 'fcx.masks' has no attribute {name!r}")
    from fcx.masks.leakage import leakage_audit  # it needs xarray, which takes a second to load

    return leakage_audit
