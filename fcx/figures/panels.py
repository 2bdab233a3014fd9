"""Pictures of faces: plain beside masked, regions drawn on them, attribution maps laid over them."""

from __future__ import annotations

import html
from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from fcx.core.checks import choose, parts_of
from fcx.core.contract import REGIONS, column, usable_rows
from fcx.core.errors import InputError
from fcx.core.provenance import nested_attr
from fcx.core.targets import answered, ratings
from fcx.figures.montage import Montage, colour_scale, grey_tile, heat, picture, resize
from fcx.figures.theme import Figure
from fcx.figures.wording import end_of, method_title, plain_name, readable

LONGEST = 12  # letters of a name under a picture
REGION_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#8a6d00", "#7a828f")


def choose_faces(faces: xr.Dataset, count: int = 6) -> list[str]:
    """Return the ids of `count` usable faces, one of each expression in turn, in the order of the Dataset.

    Raises: as `usable_rows`.
    """
    rows = usable_rows(faces)
    ids, expressions = faces["sample"].values[rows], column(faces, "expression")[rows]
    queues = [list(ids[expressions == e]) for e in dict.fromkeys(expressions)]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return [str(i) for i in turns[:count]]


def mask_gallery(faces: xr.Dataset, samples: Iterable[str] | None = None, *, count: int = 8) -> Figure:
    """Draw each face plain above masked, with its expression and labels."""
    shown = shown_faces(faces, samples, count)
    conditions = shown["condition"].values.tolist()
    tiles = np.array([[picture(shown, c, i) for i in range(shown.sizes["sample"])] for c in conditions])
    montage = Montage(tiles, left=80, top=140)
    montage.label_rows([f"<b>{readable(c)}</b>" for c in conditions])
    montage.label_columns([f"<b>{_caption(face)}</b><br>{_rating(face)}" for face in _each(shown)])
    reading = f"One face a column, {' above '.join(conditions)}, with its labels, or its name where it has none."
    numbers = f"Faces: {_captions(shown)}."
    return montage.finish("faces", "The same faces, plain and masked", reading, numbers, _described(shown))


def region_overlay(faces: xr.Dataset, samples: Iterable[str] | None = None, *, count: int = 8) -> Figure:
    """Draw the regions over plain faces, each pixel in the colour of the region that covers most of it."""
    shown = shown_faces(faces, samples, count)
    plain = [picture(shown, "plain", i) for i in range(shown.sizes["sample"])]
    painted = [paint_regions(tile, region) for tile, region in zip(plain, shown["regions"].values, strict=True)]
    montage = Montage(np.array([plain, painted]), left=80)
    montage.label_rows(["<b>face</b>", "<b>regions</b>"])
    montage.label_columns([_caption(face) for face in _each(shown)])
    for name, colour in zip(REGIONS, REGION_COLOURS, strict=True):
        marker = {"color": colour, "symbol": "square", "size": 14}
        montage.figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))
    montage.margin["t"] = 120
    share = shown["regions"].mean(("y", "x")).values / 255
    table = _described(shown).assign(**{f"{n} (share of area)": a for n, a in zip(REGIONS, share.T, strict=True)})
    reading = "Each pixel has the colour of the region that covers most of it."
    numbers = f"{len(plain)} faces with the regions {', '.join(REGIONS)}."
    return montage.finish("regions", "The regions over which attributions are summed", reading, numbers, table)


def saliency_panel(
    faces: xr.Dataset,
    results: xr.Dataset,
    *,
    method: str,
    target: str,
    samples: Iterable[str] | None = None,
    count: int = 6,
) -> Figure:
    """Lay attribution maps over faces: a face a row, a model and condition a column, one shared colour scale.

    The limit of the scale is the 99.5th percentile of the magnitude over all maps shown; signed maps get
    symmetric limits around zero, unsigned maps limits from zero.

    Raises: UnknownNameError for a method or target that the results do not hold.
    """
    choose(method, results["method"].values.tolist(), "method")
    choose(target, results["target"].values.tolist(), "target")
    shown = shown_faces(faces, samples, count)
    ids = shown["sample"].values
    # A dict, because `sel` keeps the keyword `method` for itself.
    maps = results["attribution"].sel({"method": method, "target": target, "sample": ids})
    models, conditions = (maps[dim].values.tolist() for dim in ("model", "condition"))
    pairs = [(m, c) for m in models for c in conditions]
    maps = maps.transpose("sample", "model", "condition", "y", "x").values.astype(np.float32)
    maps = maps.reshape(len(ids), len(pairs), *maps.shape[-2:])  # (sample, column, y, x)
    predicted = results["prediction"].sel(target=target, sample=ids).transpose("sample", "model", "condition")
    predicted = predicted.values.reshape(len(ids), len(pairs))
    known = nested_attr(results, "methods").get(method, {})  # what the method declared when it ran
    limit, signed = colour_scale(maps, known)
    tiles = [[heat(picture(shown, c, i), maps[i, j], limit, signed) for j, (_, c) in enumerate(pairs)]
             for i in range(len(ids))]  # fmt: skip
    montage = Montage(np.array(tiles), [[_number(v) for v in row] for row in predicted], left=130, right=92)
    labels = list(zip(_each(shown), ratings(shown, target, answered(results)), strict=True))
    rated = [f"<br>rated {_number(rating)}" * bool(np.isfinite(rating)) for _, rating in labels]
    montage.label_rows([f"<b>{_caption(face)}</b>{words}" for (face, _), words in zip(labels, rated, strict=True)])
    montage.label_columns([c for _, c in pairs])
    montage.group_columns([readable(m) for m in models], len(conditions))
    unit = f"units of {target}" if known.get("conserves") else "the method's own units"
    montage.colour_bar(limit, signed, f"attribution, in {unit}")
    sums = {f"sum of map, {m}, {c}": maps[:, j].sum((1, 2)) for j, (m, c) in enumerate(pairs)}
    outputs = {f"prediction, {m}, {c}": predicted[:, j] for j, (m, c) in enumerate(pairs)}
    reading = (
        f"A face a row; a model and condition a column. One colour scale for all maps, "
        f"{'zero-centred, ±' if signed else 'from 0 to '}{limit:.2g}. Under each face: the prediction."
    )
    numbers = f"Faces: {_captions(shown)}. Models: {', '.join(map(plain_name, models))}; {' and '.join(conditions)}."
    shows = known.get("shows", "where {} comes from").format(target)
    title = f"{readable(method_title(method, results))}: {shows}, by model, plain and masked"
    table = _described(shown).assign(**outputs, **sums)
    return montage.finish(f"saliency_{method}_{target}", title, reading, numbers, table)


def shown_faces(faces, samples, count: int):
    """Return the faces to draw, loaded; `samples` is a list or a comma-separated text of ids."""
    if isinstance(samples, str):
        samples = [sample for sample in parts_of(samples) if sample]
    for sample in samples or []:
        choose(sample, faces["sample"].values.tolist(), "face")
        reasons = [r for r in faces["status"].sel(sample=sample).values.tolist() if r != "ok"]
        if reasons:
            raise InputError(f"the face {sample!r} cannot be drawn: {reasons[0]}")
    return faces.sel(sample=samples or choose_faces(faces, count)).load()


def paint_regions(tile: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the grey face with its regions (region, y, x) in colour and their borders darker."""
    label = np.stack([resize(r) for r in region]).argmax(0).astype(np.uint8)
    border = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    colour = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in REGION_COLOURS])[label]
    strength = np.where(border, 0.9, 0.4)[..., None]
    return np.uint8((1 - strength) * grey_tile(tile) + strength * colour)


def _each(faces):
    return [faces.isel(sample=i) for i in range(faces.sizes["sample"])]


def _caption(face) -> str:
    """Return what a face is called in a figure: its expression, or the end of its name where none is known."""
    if expression := readable(face["expression"].item()):
        return expression
    name = str(face["sample"].item()).rpartition("/")[2]
    return html.escape(end_of(name, LONGEST))


def _number(value) -> str:
    return "–" if np.isnan(value) else f"{float(value):+z.2f}"


def _rating(face) -> str:
    """Return the labels that a face has, a line for each."""
    known = [f"{name} {_number(face[name])}" for name in ("arousal", "valence") if np.isfinite(face[name])]
    return "<br>".join(known) or "no rating"


def _captions(faces) -> str:
    return ", ".join(_caption(face) for face in _each(faces))


def _described(faces) -> pd.DataFrame:
    columns = {"face": "sample", "expression": "expression", "arousal": "arousal", "valence": "valence"}
    return pd.DataFrame({name: faces[variable].values for name, variable in columns.items()})
