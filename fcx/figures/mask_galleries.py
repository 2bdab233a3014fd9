"""What masks there are: every style, and every fit and way of wearing, drawn on the same faces."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from fcx.figures.montage import Montage, resize
from fcx.figures.panels import shown_faces
from fcx.figures.theme import Figure
from fcx.figures.wording import readable
from fcx.geometry.crops import scaled
from fcx.masks import FITS, STYLES, WEARINGS, choose_look, mask_options, wear_mask

# What is drawn of one style: (name, what wear_mask is given).
WAYS = (
    *((name, {"fit": name}) for name in FITS),
    *((name.replace("_", " "), {"wearing": name}) for name in WEARINGS[1:]),
    ("scale 0.85", {"scale": 0.85}),
    ("shift 1 cm", {"shift": (1.0, 0.0)}),
)


def style_gallery(faces: xr.Dataset, samples: Iterable[str] | None = None, *, count: int = 7, seed: int = 0) -> Figure:
    """Draw every mask style on the same faces, a style a row, in a colour drawn by hash."""
    ways = [(name.replace("_", " "), {"style": name, "colour": "any"}) for name in STYLES]
    reading = (
        "One face a column, one style a row. Colours, patterns and small shifts are drawn by hash of face and seed."
    )
    return _gallery(faces, samples, count, seed, ways, "styles", "Mask styles and controls", reading)


def wearing_gallery(
    faces: xr.Dataset, samples: Iterable[str] | None = None, *, style: str = "surgical", count: int = 7, seed: int = 0
) -> Figure:
    """Draw one style in every fit and way of wearing on the same faces; the donor is the next face."""
    ways = [(name, {"style": style, **how}) for name, how in WAYS]
    reading = (
        "One face a column, one fit or way of wearing a row. The donor of an outline is the face in the next column."
    )
    title = f"Fits and ways of wearing: {readable(style)}"
    return _gallery(faces, samples, count, seed, ways, "wearing", title, reading)


def _gallery(faces, samples, count, seed, ways, name, title, reading) -> Figure:
    shown = shown_faces(faces, samples, count)
    ids = shown["sample"].values.tolist()
    plain = _pictures(shown)
    scale = plain.shape[1] / shown.sizes["x"]
    meshes = [scaled(mesh.astype(float), scale) for mesh in shown["mesh"].values]
    tiles, rows = [], []
    for label, how in ways:
        row = []
        for number, (sample, picture, mesh) in enumerate(zip(ids, plain, meshes, strict=True)):
            donor = meshes[(number + 1) % len(meshes)] if how.get("fit") == "donor" else None
            masked, alpha = wear_mask(picture, mesh, donor=donor, seed=seed, sample=sample, **how)
            row.append(resize(masked))
            look = choose_look(mask_options(seed=seed, **how), sample)
            rows.append({"row": label, "face": sample, "covered": float(alpha.mean() / 255), **look.described()})
        tiles.append(row)
    montage = Montage(np.array(tiles), left=165, top=70)
    montage.label_rows([f"<b>{readable(label)}</b>" for label, _ in ways])
    table = pd.DataFrame(rows).drop(columns="pattern").astype({"shift": str})
    return montage.finish(name, title, reading, f"Rows: {', '.join(label for label, _ in ways)}.", table)


def _pictures(shown) -> np.ndarray:
    """Return the plain pictures (sample, row, column, RGB): the display pictures, or else the grid's."""
    if "picture" in shown:
        return shown["picture"].sel(condition="plain").values
    return np.repeat(shown["image"].sel(condition="plain").values[..., None], 3, axis=-1)
