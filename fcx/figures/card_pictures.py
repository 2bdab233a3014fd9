"""Small pictures for the cards of the index: what a report shows, at a glance."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import xarray as xr

from fcx.core.provenance import nested_attr
from fcx.figures.known_truth_charts import LEARNT, validity_rows
from fcx.figures.montage import colour_scale, data_uri, heat, picture
from fcx.figures.opening import Picture
from fcx.figures.panels import choose_faces
from fcx.figures.theme import looks
from fcx.figures.wording import end_of, method_title, plain_name
from fcx.studies.training_plan import family_title

WIDTH, ROW, LETTER = 260, 24, 7  # pixels: of a picture, a row of dots, and at most a letter of the names beside them
LONGEST = 20  # letters of a name
LEGEND = '<div style="font-size:13px;text-align:center">{}</div>'


def masks_picture(faces: xr.Dataset, *, count: int = 3) -> Picture:
    """Draw some faces plain above masked."""
    shown = faces.sel(sample=choose_faces(faces, count)).load()
    lines = [np.hstack([picture(shown, c, i) for i in range(shown.sizes["sample"])])
             for c in map(str, shown["condition"].values)]  # fmt: skip
    names = pd.DataFrame({"face": shown["sample"].values})
    return Picture("masks_card", "The same faces, plain and masked", _image(np.vstack(lines)), table=names)


def maps_picture(faces: xr.Dataset, results: xr.Dataset, *, method: str, target: str) -> Picture:
    """Draw the map of the first network over one face, plain and masked."""
    [sample] = choose_faces(faces, 1)
    shown = faces.sel(sample=[sample]).load()
    maps = results["attribution"].sel({"method": method, "target": target, "sample": sample}).isel(model=0)
    maps = maps.transpose("condition", "y", "x").values.astype(np.float32)
    limit, signed = colour_scale(maps, nested_attr(results, "methods").get(method, {}))
    tiles = [heat(picture(shown, str(c), 0), one, limit, signed)
             for c, one in zip(results["condition"].values, maps, strict=True)]  # fmt: skip
    title = f"{method_title(method, results)} on one face, {' and '.join(map(str, results['condition'].values))}"
    return Picture("maps_card", title, _image(np.hstack(tiles)), table=pd.DataFrame({"face": [sample]}))


def training_picture(table: pd.DataFrame) -> Picture:
    """Draw the agreement of every family, the mean over targets: filled on plain faces, hollow on others.

    `table` is from `fcx.studies.table3`.
    """
    means = table.groupby(["family", "condition"], sort=False)["estimate"].mean().reset_index()
    look = looks(list(dict.fromkeys(means["family"])))
    rows = {family_title(name): [(r.estimate, look[name][0], r.condition == "plain") for r in part.itertuples()]
            for name, part in means.groupby("family", sort=False)}  # fmt: skip
    reading = "Filled: plain faces, hollow: masked faces; 0 is no agreement, 1 is perfect."
    words = (
        f"agreement on ● plain and ○ masked faces{', mean of arousal and valence' * (table['target'].nunique() > 1)}"
    )
    legend = LEGEND.format(words)
    return Picture("training_card", "Agreement with people's ratings", dot_rows(rows) + legend, reading, table=means)


def validity_picture(scores: xr.Dataset, *, most: int = 8) -> Picture | None:
    """Draw in how many faces the best methods find the truth of the carrier with which they do worst.

    None where no network has learnt its labels.
    """
    rows = validity_rows(scores)
    rows = rows[(rows.area < 1) & (rows.ccc >= LEARNT) & ~rows.control]
    worst = rows.groupby("method", sort=False)["found_mean"].min().sort_values(ascending=False).head(most)
    if rows.empty:
        return None
    drawn = {method_title(name, scores): [(value, "currentColor", True)] for name, value in worst.items()}
    title = "In how many faces methods find a known part, at worst"
    legend = LEGEND.format("share of faces, for the part found worst")
    return Picture("validity_card", title, dot_rows(drawn) + legend, table=worst.reset_index())


def dot_rows(rows: dict[str, list[tuple[float, str, bool]]]) -> str:
    """Return dots between 0 and 1 as SVG, a row for each name: (value, colour, whether it is filled).

    Where a value lies below 0, the axis begins at the next tenth below; NaN has no dot.
    """
    names = [end_of(plain_name(name), LONGEST) for name in rows]
    left = LETTER * max(map(len, names)) + 14
    height, reach = ROW * len(rows) + 18, WIDTH - left - 14
    known = [value for dots in rows.values() for value, *_ in dots if np.isfinite(value)]
    low = max(-1.0, np.floor(10 * min([0.0, *known])) / 10)
    across = {value: left + reach * (min(max(value, low), 1) - low) / (1 - low) for value in [*known, low, 0, 1]}
    parts = []
    for at, (name, dots) in enumerate(zip(names, rows.values(), strict=True)):
        y = at * ROW + ROW / 2
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" font-size="12" fill="currentColor">'
                     f"{html.escape(name)}</text>"
                     f'<path d="M{left} {y}h{reach}" stroke="currentColor" stroke-opacity=".25"/>')  # fmt: skip
        for value, colour, filled in (dot for dot in dots if dot[0] in across):
            fill, radius = (colour, 4) if filled else ("none", 6)  # so that a ring shows around a disc in its place
            parts.append(f'<circle cx="{across[value]:.1f}" cy="{y}" r="{radius}" fill="{fill}" stroke="{colour}" '
                         'stroke-width="2"/>')  # fmt: skip
    for value in dict.fromkeys((low, 0, 1)):
        parts.append(f'<text x="{across[value]:.1f}" y="{height - 3}" text-anchor="middle" font-size="11" '
                     f'fill="currentColor">{value:z.2g}</text>')  # fmt: skip
    return f'<svg viewBox="0 0 {WIDTH} {height}" style="width:100%">{"".join(parts)}</svg>'


def _image(pixels: np.ndarray) -> str:
    whole = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return f'<img alt="" style="width:100%" src="{data_uri(whole)}">'
