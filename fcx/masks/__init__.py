"""Masks drawn on faces: a style is a texture on a surface that is worn in the face's own pose.

- `styles`: what a mask looks like, one function each; `shapes`: its outline and relief in centimetres of
  the canonical face, and how it fits a face; `published`: the clip-art of the paper's authors.
- `tones`: seams, folds and weave of cloth, which differ from mask to mask.
- `light`: light, sharpness and noise of the uncovered upper face; `paint`: the mask as the picture shows it.
- `options`: how a mask is worn; `wear`: `wear_mask` and what hash(sample, seed) draws; `leakage`: what it gives away.

With the fit `rigid` a mask is placed by the pose of the upper face alone (`fcx.geometry.pose`), so what the mouth
does cannot change it; its light comes from what it leaves uncovered, so what it hides cannot change its look either.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
