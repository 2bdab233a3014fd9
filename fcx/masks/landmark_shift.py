"""How far landmarks move when a mask is worn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from fcx.core.arguments import Seed, Switch, Word, checked
from fcx.geometry.landmark_quality import FACE_PARTS, _find_all, _parts, _points_or_nan, counted
from fcx.masks.options import mask_options
from fcx.masks.wear import wear_mask


@checked
def mask_shift(
    pictures: Mapping[str, np.ndarray],
    style: Word = "surgical",
    *,
    seed: Seed = 0,
    progress: Switch = True,
    **how: object,
) -> xr.Dataset:
    """Return how far landmarks move when the same face wears a drawn mask: `nme (part, picture)`, per cent.

    `how` is what `fcx.wear_mask` takes besides (fit, wearing, colour ...). NaN, and False in
    `found (picture)`, where the face under the mask is no longer found.

    Raises: InputError for pictures that are none, or hold no face at all, or for a mask that is not known.
    """
    mask_options(style=style, seed=seed, **how)  # what is wrong in them is said before faces are looked for
    plain = _find_all(pictures, progress, "faces")
    rows = []
    for name, (picture, before) in counted(plain.items(), progress, "landmarks under a mask"):
        masked, _ = wear_mask(picture, before.mesh, style, seed=seed, sample=name, **how)
        rows.append(_parts(_points_or_nan(masked), before.points, before.points, FACE_PARTS))
    values = np.array(rows).T
    return xr.Dataset(
        {"nme": (("part", "picture"), values), "found": ("picture", np.isfinite(values[-1]))},
        {"part": list(FACE_PARTS), "picture": list(plain)},
        {"style": style, "seed": seed, **how},
    )
