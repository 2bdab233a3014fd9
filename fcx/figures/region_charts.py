"""Regions as charts: where attribution lies by model and condition, and how much of a face the mask covers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from fcx.core.checks import choose
from fcx.core.contract import REGIONS, usable
from fcx.figures.theme import FAINT, INK, PALETTE, Figure, bars, dots, finish, looks
from fcx.figures.wording import how_many, method_title, readable
from fcx.statistics.families import family_members

# name: (axis, title)
REGION_AXES = {
    "enrichment": ("log2 (share / area)", "attribution by region, against its area"),
    "share": ("share of attribution", "share of absolute attribution by region"),
    "auc": ("AUC", "chance that a pixel inside a region outranks one outside"),
    "net": ("net attribution", "net attribution by region, in units of the map"),
}
DIMS = ["target", "model", "condition", "region"]


def region_chart(
    statistics: xr.Dataset, *, method: str, quantity: str = "enrichment", trainings: xr.Dataset | None = None
) -> Figure:
    """Draw a statistic of `fcx.region_statistics` by region, model and condition with 95 % intervals.

    `trainings` is `region_statistics` of the single trainings of the families that `statistics` holds
    (`fcx.statistics.family_tables.region_tables`), which small points show.
    """
    choose(method, statistics["method"].values.tolist(), "method")
    axis, title = REGION_AXES[choose(quantity, REGION_AXES, "quantity")]
    targets, models, conditions, regions = (statistics[dim].values.tolist() for dim in DIMS)
    table = _table(statistics, method, quantity)
    # Names of regions stand upright between the panels where the page is narrow.
    figure = make_subplots(len(targets), 1, shared_xaxes=True, vertical_spacing=0.32 / len(targets), figure=Figure(),
                           subplot_titles=[f"<b>{t}</b>" for t in targets])  # fmt: skip
    slots = [(m, c) for m in models for c in conditions]
    for at, target in enumerate(targets, start=1):
        for slot, (model, condition) in enumerate(slots):
            part = table[(table.target == target) & (table.model == model) & (table.condition == condition)]
            name = f"{readable(model)}, {condition}"
            colour, symbol = looks(models)[model]
            symbol += "" if condition == conditions[0] else "-open"
            marker = {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1.6, "color": colour}}
            x = np.arange(len(regions)) + (slot - (len(slots) - 1) / 2) * 0.8 / len(slots)
            hover = [f"{r.region}<br>{name}: {r.mean:z.3f} [{r.low:z.3f}, {r.high:z.3f}]"
                     for r in part.itertuples(name="Row")]  # fmt: skip
            spread = {**bars(part["mean"], part["low"], part["high"]), "color": colour, "width": 2}
            trace = dots(x, part["mean"], hover, marker=marker, error_y=spread, name=name, showlegend=at == 1)
            figure.add_trace(trace, row=at, col=1)
            if trainings is not None:
                cell = trainings[f"{quantity}_mean"].sel({"method": method, "target": target, "condition": condition})
                for name in family_members(cell)[model].values():
                    small = {"color": colour, "symbol": "line-ew", "size": 7, "line": {"width": 1.4, "color": colour}}
                    values = cell.sel(model=name, region=regions).values
                    hover = [f"{region}<br>{readable(name)}, {condition}: {value:z.3f}"
                             for region, value in zip(regions, values, strict=True)]  # fmt: skip
                    figure.add_trace(dots(x, values, hover, marker=small, showlegend=False), row=at, col=1)
        for edge in np.arange(len(regions) - 1) + 0.5:
            figure.add_vline(x=edge, line={"color": FAINT, "width": 1}, row=at, col=1)
        figure.add_hline(y=0, line={"color": INK, "width": 1}, row=at, col=1)
    words = {"tickvals": list(range(len(regions))), "ticktext": regions, "showticklabels": True, "ticks": ""}
    figure.update_xaxes(range=[-0.5, len(regions) - 0.5], showgrid=False, zeroline=False, **words)
    figure.update_yaxes(title_text=axis)
    title = f"{readable(method_title(method, statistics))}: {title}"
    reading = (
        f"Points are means over {how_many(statistics['n'].sel({'method': method}))} faces, lines 95 % intervals: "
        f"filled symbols {', open symbols '.join(conditions)}. The mask overlays the other regions."
    )
    if trainings is not None:
        reading += " Intervals are over faces and trainings, short strokes the single trainings."
    legend = 22 * (max(len(slots) - 8, 0) // 4)  # pixels beyond the room for four models
    numbers, height = f"Highest region: {_tops(table)}.", 160 + 330 * len(targets) + legend
    return finish(figure, f"{quantity}_{method}", title, reading, numbers, table, height, margin_t=140 + legend,
                  least_width=220 + 40 * len(slots))  # fmt: skip


def _table(statistics, method: str, quantity: str) -> pd.DataFrame:
    """Return target, model, condition, region, mean, low and high, one row each."""
    ends = {f"{quantity}_{end}": end for end in ("mean", "low", "high")}
    rows = statistics[[*ends]].sel({"method": method}).to_dataframe(dim_order=DIMS).reset_index()
    # A region without any mass has no place on a log scale.
    return rows[[*DIMS, *ends]].rename(columns=ends).replace([-np.inf, np.inf], np.nan)


def _tops(table: pd.DataFrame) -> str:
    """Say which region is highest for each target, condition and model."""
    known = table[table.region.isin(REGIONS)].dropna(subset="mean")
    tops = known.loc[known.groupby(["target", "condition", "model"], sort=False)["mean"].idxmax()]
    return "; ".join(f"{r.target}, {r.condition}, {readable(r.model)}: {r.region}" for r in tops.itertuples())


def mask_area_chart(faces: xr.Dataset) -> Figure:
    """Draw the share of each crop that the mask covers, by expression: medians, quartiles and every face."""
    shown = faces.isel(sample=usable(faces))
    share = shown["alpha"].sel(condition="masked").mean(("y", "x")).values / 255
    expression = np.array([readable(e) or "unlabelled" for e in shown["expression"].values])
    figure, rows = Figure(), []
    for name in sorted(set(expression)):
        values = share[expression == name]
        rows.append((name, len(values), values.mean(), values.std(), *np.quantile(values, [0, 0.25, 0.5, 0.75, 1])))
        figure.add_trace(go.Box(y=values, name=name, boxpoints="all", jitter=0.5, pointpos=0, marker_size=3,
                                marker_color=PALETTE[0], fillcolor="rgba(0,0,0,0)", showlegend=False))  # fmt: skip
    figure.update_yaxes(title_text="share of the crop under the mask", rangemode="tozero")
    columns = ["expression", "n", "mean", "SD", "lowest", "lower quartile", "median", "upper quartile", "highest"]
    table = pd.DataFrame(rows, columns=columns)
    medians = "; ".join(f"{r.expression} {r.median:z.2f}" for r in table.itertuples())
    title = "How much of the crop the mask covers" + ", by expression" * (len(table) > 1)
    reading = "Each point is a face; boxes are quartiles, the line in them the median."
    return finish(figure, "mask_area", title, reading, f"Medians: {medians}.", table, 430)
