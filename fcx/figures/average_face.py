"""Where networks look, drawn on one face: the average of all faces, each region in the colour of its enrichment."""

from __future__ import annotations

import html

import cv2
import numpy as np
import xarray as xr

from fcx.core.contract import REGIONS, twin, usable
from fcx.figures.opening import Picture
from fcx.figures.wording import how_many, listed, method_title, plain_name
from fcx.statistics.bootstrap import estimates
from fcx.statistics.families import family_members
from fcx.statistics.method_agreement import AGREES, agreement_of_methods
from fcx.statistics.region_mass import region_draws

MORE, LESS = "#D55E00", "#0072B2"
FINER = 4  # times the grid, on which outlines are found
DEEPEST = 3.0  # log2, beyond which a colour grows no deeper
SMOOTH = 0.35  # pixels of the grid by which an outline may be simplified
# Strokes through the 68 landmarks in iBUG order, and whether they close.
STROKES = [((0, 17), False), ((17, 22), False), ((22, 27), False), ((27, 31), False), ((31, 36), False),
           ((36, 42), True), ((42, 48), True), ((48, 60), True), ((60, 68), True)]  # fmt: skip


def face_enrichment(statistics, *, draws: int = 500, seed: int = 0) -> xr.Dataset:
    """Return the enrichment of each region by family and condition, and whether all methods agree on its side.

    `statistics` are those of single maps by one or more methods, as `share_ratio` takes. Variables (model, condition,
    region): enrichment, log2, the mean of methods and outputs, of families with several trainings over these; and
    agrees, whether the intervals over faces of every method and output leave out 0 with one sign. Outputs that a
    family lacks have no say.
    """
    share = statistics["share"].reset_coords(drop=True)
    families = family_members(statistics)
    means = [share.sel(model=list(of.values())).mean("model", skipna=False) for of in families.values()]
    table = xr.Dataset({"share": xr.concat(means, "model").assign_coords(model=list(families)),
                        "area": statistics["area"].reset_coords(drop=True)})  # fmt: skip
    if "subject" in statistics.coords:
        table = table.assign_coords(subject=("sample", statistics["subject"].values))
    drawn, count = region_draws(table, "enrichment", table["share"].notnull(), draws, seed)
    said = xr.Dataset(estimates(drawn, count, "enrichment", "low", "high"))
    n = table["share"].notnull().sum("sample")
    has = n.sum([dim for dim in n.dims if dim not in ("model", "target")]) > 0
    badges = []
    for model in families:
        own = said[["low", "high"]].sel(model=model).isel(target=np.flatnonzero(has.sel(model=model)))
        voices = own.stack(voice=("method", "target")).reset_index("voice", drop=True)
        badges.append(agreement_of_methods(voices.rename(voice="method")))
    badge = xr.concat(badges, "model")
    return xr.Dataset({"enrichment": said["enrichment"].mean(("method", "target")), "agrees": badge == AGREES},
                      attrs={"n": how_many(n), "alike": bool(has.all())})  # fmt: skip


def face_picture(statistics: xr.Dataset, faces: xr.Dataset, *, draws: int = 500, seed: int = 0) -> Picture:
    """Draw the average face for each family and condition, its regions coloured by `face_enrichment`."""
    table = face_enrichment(statistics, draws=draws, seed=seed)
    shapes, marks, mask = _shapes(faces), _strokes(faces), _mask(faces)
    known = table["enrichment"].where(table["agrees"]).sel(region=list(REGIONS))
    size = np.abs(known.values)  # a region without any mass has -inf
    limit = float(np.clip(np.ceil(2 * size[np.isfinite(size)].max(initial=0)) / 2, 1, DEEPEST))
    conditions, groups = [str(name) for name in table["condition"].values], []
    for model in table["model"].values:
        tiles = "".join(
            _tile(known.sel(model=model, condition=condition), shapes, marks, mask * (condition == twin(faces)), limit,
                  condition, table.sel(model=model, condition=condition)) for condition in conditions
        )  # fmt: skip
        groups.append(f'<div style="{GROUP}"><strong>{html.escape(plain_name(str(model)))}</strong>'
                      f'<div style="display:flex;gap:10px">{tiles}</div></div>')  # fmt: skip
    methods = [method_title(name, statistics) for name in statistics["method"].values]
    outputs = "every output that it has"
    if table.attrs["alike"]:
        outputs = listed([str(name) for name in statistics["target"].values])
    many = len(methods) * statistics.sizes["target"] > 1
    reading = (
        f"The average face of {table.attrs['n']} faces. Orange regions hold more of the attribution than their area "
        f"would, blue ones less, the deeper the more (the scale ends at {2**limit:.1f} times, or 1/{2**limit:.1f}); a "
        f"region stays empty where {'not all of ' * many}{listed(methods)}, for {outputs}, "
        f"{'say so alike' if many else 'says neither clearly'}. Beside the face nothing is drawn. Dashed: the mask."
    )
    rows = (
        table.to_dataframe().reset_index().rename(columns={"enrichment": "log2 enrichment", "agrees": "methods agree"})
    )
    rows.insert(4, "times its area", 2 ** rows["log2 enrichment"])
    drawing = f'<div style="display:flex;flex-wrap:wrap;gap:14px 34px">{"".join(groups)}</div>'
    title = "Where the networks look" if len(groups) > 1 else "Where the network looks"
    return Picture("enrichment_face", title, drawing, reading, _tops(table), rows)


GROUP = "flex:1 1 210px;max-width:380px;min-width:0"


def _tile(values, shapes, marks, mask, limit: float, condition: str, cell) -> str:
    """Return one face as SVG in a <div>, with the condition and its deepest region in words under it."""
    paths = []
    for region, path in shapes.items():
        value = float(values.sel(region=region))
        strength = 0.0 if np.isnan(value) or region == "background" else 0.12 + 0.83 * min(abs(value) / limit, 1)
        fill = f'fill="{MORE if value > 0 else LESS}" fill-opacity="{strength:.2f}"' if strength else 'fill="none"'
        paths.append(f'<path d="{path}" fill-rule="evenodd" {fill} stroke="currentColor" stroke-opacity=".25" '
                     f'stroke-width=".3"/>')  # fmt: skip
    lines = f'<path d="{marks}" fill="none" stroke="currentColor" stroke-width=".6" stroke-linejoin="round"/>'
    worn = f'<path d="{mask}" fill="none" stroke="currentColor" stroke-width=".9" stroke-dasharray="2 1.4"/>' * bool(
        mask
    )
    drawing = f'<svg viewBox="0 0 64 64" style="width:100%;display:block">{"".join(paths)}{lines}{worn}</svg>'
    words = f"<b>{html.escape(condition)}</b>: {html.escape(_densest(cell))}"
    return f'<div style="flex:1 1 0;min-width:0">{drawing}<div style="font-size:14px">{words}</div></div>'


def _densest(cell) -> str:
    """Return the region of the face with the most attribution for its area, of those that methods agree on."""
    known = cell["enrichment"].where(cell["agrees"]).sel(region=[name for name in REGIONS if name != "background"])
    if not (known > 0).any():
        return "no region agreed on"
    return f"{known['region'].values[int(np.nanargmax(known.values))]}, {2 ** float(known.max()):.1f} times"


def _tops(table) -> str:
    words = [f"{plain_name(str(model))}, {condition}: {_densest(table.sel(model=model, condition=condition))}"
             for model in table["model"].values for condition in table["condition"].values]  # fmt: skip
    return f"Densest for its area: {'; '.join(words)}."


def _shapes(faces) -> dict[str, str]:
    """Return the outline of each region in the average of the usable faces, as SVG paths in pixels of the grid."""
    cover = faces["regions"].isel(sample=usable(faces)).mean("sample").values.astype(np.float32)
    fine = np.stack([cv2.resize(each, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_CUBIC) for each in cover])
    owner = fine.argmax(0)
    names = [str(name) for name in faces["region"].values]
    return {name: _outline(owner == number) for number, name in enumerate(names)}


def _mask(faces) -> str:
    """Return the outline of the mask in the average of the usable faces, "" where none is worn."""
    alpha = faces["alpha"].sel(condition=twin(faces)).isel(sample=usable(faces)).mean("sample").values / 255
    fine = cv2.resize(alpha.astype(np.float32), None, fx=FINER, fy=FINER, interpolation=cv2.INTER_CUBIC)
    return _outline(fine > 0.5)


def _outline(inside: np.ndarray) -> str:
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    lines = [cv2.approxPolyDP(line, SMOOTH * FINER, True)[:, 0] / FINER for line in contours if len(line) > 4 * FINER]
    return "".join(_path(line, True) for line in lines if len(line) > 2)


def _strokes(faces) -> str:
    """Return brows, eyes, nose, mouth and chin through the mean landmarks of the usable faces, as an SVG path."""
    points = faces["landmarks"].isel(sample=usable(faces)).values
    known = np.isfinite(points).all((1, 2))
    if not known.any():
        return ""
    mean = points[known].mean(0) + 0.5  # pixel centres are at integers, and edges of a picture at halves
    return "".join(_path(mean[slice(*ends)], closed) for ends, closed in STROKES)


def _path(points, closed: bool) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z" * closed
