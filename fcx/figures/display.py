"""How Datasets of faces and results show themselves in a notebook: pictures or a table, then xarray's view."""

from __future__ import annotations

import base64
import html

import cv2
import numpy as np

from fcx.core.contract import usable
from fcx.core.printed import printed_table

SHEET = 8  # faces on a contact sheet
SIDE = 84  # pixels of each


def dataset_html(dataset) -> str:
    """Return a Dataset as HTML: a sheet of faces, a table of predictions, scores or regions; else as xarray does."""
    own = dataset._repr_html_()
    if table := printed_table(dataset):
        frame, caption = table
        return f"{frame.to_html(border=0)}<p>{html.escape(caption)}</p>{own}"
    if {"image", "status", "alpha"} <= set(dataset.data_vars):
        return f"{_sheet(dataset)}{own}"
    if "prediction" in dataset and set(dataset["prediction"].dims) == {"model", "condition", "target", "sample"}:
        return f"{_predictions(dataset)}{own}"
    return own


def _sheet(faces) -> str:
    """Return some usable faces as one picture, a row for each condition, with how many there are."""
    rows = np.flatnonzero(usable(faces)) if set(faces["image"].dims) >= {"condition", "sample"} else []
    if not len(rows):
        return ""
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SHEET, len(rows))).astype(int))]
    tiles = faces["image"].isel(sample=rows).transpose("condition", "sample", "y", "x").values
    grid = np.vstack([np.hstack([cv2.resize(tile, (SIDE, SIDE)) for tile in line]) for line in tiles])
    data = base64.b64encode(cv2.imencode(".webp", grid)[1].tobytes()).decode()
    conditions = " above ".join(map(str, faces["condition"].values))
    rated = int((faces["valence"].notnull() | faces["arousal"].notnull()).sum())
    words = (f"{faces.sizes['sample']} faces, {conditions}; {int(usable(faces).sum())} can be used in all of them, "
             f"{rated} are rated.")  # fmt: skip
    names = ", ".join(html.escape(str(name)) for name in faces["sample"].values[rows])
    return f'<img alt="{names}" src="data:image/webp;base64,{data}"><p>{html.escape(words)}</p>'


def _predictions(results) -> str:
    """Return the mean prediction by model, condition and target, and which methods have maps."""
    frame = results["prediction"].mean("sample").to_series().unstack("target").round(3)
    methods = ", ".join(map(str, results["method"].values)) if "method" in results.sizes else ""
    words = f"Mean predictions of {results.sizes['sample']} faces" + (f"; maps by {methods}." if methods else ".")
    return f"{frame.to_html(border=0)}<p>{html.escape(words)}</p>"
