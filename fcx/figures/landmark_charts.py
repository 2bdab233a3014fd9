"""How far landmarks can be trusted, drawn: disturbances, masks, backends, and the faces to look at for failures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from fcx.core.contract import usable
from fcx.core.errors import FcxError
from fcx.core.provenance import nested_attr
from fcx.figures.montage import TILE, Montage, picture, resize
from fcx.figures.tables import Table
from fcx.figures.theme import INK, PALETTE, Figure, bars, dots, finish
from fcx.figures.wording import readable

# name: (title, what is on the axis)
LANDMARK_AXES = {
    "jpeg": ("JPEG", "quality"),
    "blur": ("blur", "sigma, % of the face"),
    "size": ("size", "longer side, pixels"),
    "rotation": ("rotation", "degrees"),
}
UNIT = "% of the distance between the eyes' outer corners"
BACKEND_WORDS = {"yunet": "YuNet's five points", "face-alignment": "FAN (face-alignment)"}
PALE = "#9aa4b2"  # of single faces behind their median
A_ROW = 6  # pictures in a row of the gallery
LETTERS = 16  # of a reason, under a picture


def robustness_chart(robustness: xr.Dataset) -> Figure:
    """Draw how far landmarks move, and how many faces are still found, under each disturbance and level."""
    table = _summary(robustness["nme"], "case")
    table["found %"] = 100 * robustness["found"].mean("picture").values
    table.insert(0, "disturbance", robustness["disturbance"].values.astype(str))
    table.insert(1, "level", robustness["level"].values)
    names = list(dict.fromkeys(table["disturbance"]))
    titles = [f"<b>{LANDMARK_AXES[name][0]}</b>" for name in names]
    figure = make_subplots(
        2, len(names), shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.08,
        row_heights=[0.68, 0.32], subplot_titles=titles, figure=Figure(),
    )  # fmt: skip
    lines = {"median": (PALETTE[0], "circle", "solid"), "95th percentile": (PALETTE[1], "square-open", "dot")}
    for at, name in enumerate(names, start=1):
        title, axis = LANDMARK_AXES[name]
        part = table[table["disturbance"] == name].sort_values("level")
        # A category each, because levels are chosen at uneven steps.
        x = [f"{level:g}" for level in part["level"]]
        for quantity, (colour, symbol, dash) in lines.items():
            style = {"line": {"color": colour, "dash": dash}, "marker": {"symbol": symbol, "size": 9, "color": colour}}
            hover = f"{title} {{}}: {quantity} {{:.1f}} %"
            _line(figure, 1, at, x, part[quantity], hover, name=quantity, **style)
        style = {"line": {"color": INK}, "marker": {"symbol": "diamond", "size": 8, "color": INK}}
        _line(figure, 2, at, x, part["found %"], f"{title} {{}}: {{:.0f}} % found", name="faces found", **style)
        figure.update_xaxes(title_text=axis, row=2, col=at)
    figure.update_xaxes(type="category", tickangle=0, tickfont={"size": 12})
    top = float(np.nanmax([*table["95th percentile"], 1]))
    ticks = [v for v in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if v < 2 * top]
    figure.update_yaxes(type="log", tickvals=ticks, row=1)
    figure.update_yaxes(range=[-4, 104], dtick=50, row=2)
    figure.update_yaxes(title_text="points moved, %", row=1, col=1)
    figure.update_yaxes(title_text="found, %", row=2, col=1)
    count = robustness.sizes["picture"]
    reading = (
        f"Above: how far the 68 points of {count} faces move, {UNIT}, on a logarithmic axis; below: the share of the "
        "faces that is still found. At rotation 0 only the frame around the picture is larger: so much the points move "
        "without a disturbance."
    )
    worst = table.loc[table.groupby("disturbance", sort=False)["found %"].idxmin()]
    numbers = "; ".join(f"{LANDMARK_AXES[r.disturbance][0]} {r.level:g}: median {_number(r.median)} %, "
                        f"found {r[-1]:.0f} %" for r in worst.itertuples(index=False))  # fmt: skip
    title = "How far landmarks move when the picture gets worse"
    return finish(figure, "robustness", title, reading, f"Fewest found: {numbers}.", table, 560, least_width=1000)


def mask_shift_chart(shift: xr.Dataset) -> Figure:
    """Draw how far landmarks move when the same face wears a mask, by part of the face: every face, and the median."""
    table = _summary(shift["nme"], "part")
    table["found %"] = 100 * float(shift["found"].mean("picture"))
    table.insert(0, "part", shift["part"].values.astype(str))
    parts, count = list(table["part"]), shift.sizes["picture"]
    figure = Figure()
    for row, part in enumerate(reversed(parts)):
        values = shift["nme"].sel(part=part).values
        known = np.isfinite(values)
        y = row + 0.32 * (np.arange(known.sum()) % 7 / 6 - 0.5)  # so that equal values do not hide each other
        pairs = zip(shift["picture"].values[known], values[known], strict=True)
        names = [f"{readable(name)}: {part} {value:.1f} %" for name, value in pairs]
        figure.add_trace(dots(values[known], y, names, marker={"color": PALE, "size": 6}, name="one face",
                              showlegend=row == 0))  # fmt: skip
    heights = np.arange(len(parts))[::-1]
    marker = {"symbol": "diamond", "size": 12, "color": PALETTE[0]}
    hover = [f"{r.part}: median {_number(r.median)} %, 95th percentile {_number(r[3])} %"
             for r in table.itertuples(index=False)]  # fmt: skip
    spread = bars(table["median"], table["median"], table["95th percentile"])
    figure.add_trace(dots(table["median"], heights, hover, marker=marker, error_x=spread,
                          name="median, to the 95th percentile"))  # fmt: skip
    figure.update_yaxes(tickvals=heights, ticktext=parts, showgrid=False, zeroline=False, ticks="")
    figure.update_xaxes(title_text=f"points moved, {UNIT}", rangemode="tozero")
    found = int(shift["found"].sum())
    reading = (
        f"Each point is one of {count} faces with and without a drawn mask ({shift.attrs['style']}); "
        f"under the mask, jaw and mouth are guesses of the network."
    )
    medians = "; ".join(f"{r.part} {_number(r.median)} %" for r in table.itertuples(index=False))
    numbers = f"Still found under the mask: {found} of {count}. Medians: {medians}."
    return finish(figure, "mask_shift", "How far landmarks move under a mask", reading, numbers, table, 420)


def landmark_table(agreement: xr.Dataset) -> Table:
    """Return how far each backend lies from the mesh, by part of the face, and which backends are not there."""
    nme, absent = agreement["nme"].stack(pair=["backend", "part"]), nested_attr(agreement, "absent")
    table = _summary(nme, "pair").set_axis(["faces", "median %", "95th percentile %"], axis=1)
    table.insert(0, "backend", nme["backend"].values)
    table.insert(1, "part", nme["part"].values)
    table = table[table["faces"] > 0]
    if absent:
        rows = pd.DataFrame({"backend": [*absent], "part": "–", "faces": 0, "not there": [*absent.values()]})
        table = pd.concat([table.assign(**{"not there": ""}), rows])
    table["backend"] = table["backend"].replace(BACKEND_WORDS)
    return Table("landmark_agreement", f"Other landmarks against the mesh, {UNIT}", table)


def failure_gallery(faces: xr.Dataset, records: Iterable = ()) -> Figure:
    """Draw refused pictures with their reasons, and finds with their landmarks and the detector's score.

    `faces` are those of `fcx.geometry.landmark_quality.lowest`; a store keeps no picture of what was refused, so these
    are read from `records`, those of the source.
    """
    readers = {record.id: record.read for record in records}
    kept, ids = usable(faces), faces["sample"].values.astype(str)
    scores = faces["detector_score"].values
    reasons = [next((r for r in column if r != "ok"), "") for column in faces["status"].values.astype(str).T]
    tiles = [_find(faces, i) if kept[i] else _refused(readers.get(name)) for i, name in enumerate(ids)]
    found = ["given" if np.isnan(score) else f"score {score:.2f}" for score in scores]
    words = [word if good else readable(textwrap.shorten(reason, LETTERS, placeholder="…"))
             for word, good, reason in zip(found, kept, reasons, strict=True)]  # fmt: skip
    across = min(A_ROW, len(tiles))
    blank = -len(tiles) % across
    tiles += [np.full((TILE, TILE, 3), 255, np.uint8)] * blank
    grid = np.array(tiles).reshape(-1, across, TILE, TILE, 3)
    rows = np.array(words + [""] * blank).reshape(-1, across).tolist()
    montage = Montage(grid, rows, left=20, top=90)
    table = pd.DataFrame({"face": ids, "detector's score": scores, "reason": reasons})
    refused = int((~kept).sum())
    reading = (
        "First what was refused, then the finds of which the detector was least sure, with their 68 points. "
        "A find whose points do not lie on a face is a false one."
    )
    numbers = f"{refused} refused; {int(kept.sum())} finds"
    numbers += f" with scores from {scores[kept].min():.2f} to {scores[kept].max():.2f}." if kept.any() else "."
    return montage.finish("failures", "What was refused, and the least sure finds", reading, numbers, table)


def _summary(nme, dim: str) -> pd.DataFrame:
    """Return the number of faces found, and median and 95th percentile over them, a row for each entry of `dim`."""
    values = pd.DataFrame(nme.transpose("picture", dim).values)
    middle, high = values.quantile([0.5, 0.95]).values
    return pd.DataFrame({"faces": values.count(), "median": middle, "95th percentile": high})


def _line(figure: Figure, row: int, column: int, x, y, hover: str, **style) -> None:
    texts = [hover.format(level, value) for level, value in zip(x, y, strict=True)]
    trace = go.Scatter(x=x, y=y, mode="lines+markers", hovertext=texts, hoverinfo="text",
                       showlegend=row == 1 and column == 1, **style)  # fmt: skip
    figure.add_trace(trace, row=row, col=column)


def _find(faces, index: int) -> np.ndarray:
    """Return a face with its 68 points."""
    tile = picture(faces, "plain", index).copy()
    scale = TILE / faces.sizes["x"]
    points = (faces["landmarks"].values[index] + 0.5) * scale - 0.5
    for column, row in np.rint(points).astype(int):
        if 0 <= row < TILE and 0 <= column < TILE:
            tile[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = (0, 255, 120)
    return tile


def _refused(read) -> np.ndarray:
    """Return a refused picture whole, on white, or a grey tile where there is none to see."""
    try:
        pixels = read() if read else None
    except FcxError:
        pixels = None
    if pixels is None:
        return np.full((TILE, TILE, 3), 216, np.uint8)
    rows, columns = pixels.shape[:2]
    high, wide = max(columns - rows, 0), max(rows - columns, 0)
    frame = (high // 2, high - high // 2, wide // 2, wide - wide // 2)
    return resize(cv2.copyMakeBorder(pixels, *frame, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1f}"
