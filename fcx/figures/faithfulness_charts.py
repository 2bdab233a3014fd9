"""Faithfulness of attribution methods as a chart: a panel for each measure, a row for each method, controls below."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import xarray as xr
from plotly.subplots import make_subplots

from fcx.core.checks import choose
from fcx.figures.forest_plots import heights, name_rows, shifts
from fcx.figures.theme import INK, SHADE, Figure, bars, dots, finish, looks
from fcx.figures.wording import method_title, readable

SHOWN = ("deletion_blur", "insertion_blur", "road", "necessity_blur", "relative_sensitivity", "randomisation_absolute")
WORDS = {"high": "higher is better", "low": "lower is better", "zero": "0 is best"}
PANELS_A_ROW = 2
RATIO_MEASURES = ("max_sensitivity", "relative_sensitivity")  # of sizes: on a logarithmic scale


def faithfulness_chart(
    scores: xr.Dataset, *, target: str, condition: str, measures: Iterable[str] | None = None
) -> Figure:
    """Draw the mean of each measure by method and model with its 95 % interval, the controls on a shade below.

    `scores` is what `fcx.faithfulness.measurement.faithfulness_scores` returns; `measures` are names of its
    measures (by default six that answer different questions, of those it has). Every panel has its own scale and unit.

    Raises: UnknownNameError for a target, condition or measure that `scores` does not have.
    """
    table = faithfulness_rows(scores, target, condition, measures)
    titles = {method: method_title(method, scores) for method in scores["method"].values}
    models, names = (list(dict.fromkeys(table[c])) for c in ("model", "measure"))
    columns = min(PANELS_A_ROW, len(names))
    rows = -(-len(names) // columns)
    height = 150 + rows * (100 + 44 * len(titles))
    figure = make_subplots(
        rows, columns, figure=Figure(), shared_yaxes=True, horizontal_spacing=0.05,
        vertical_spacing=105 / (height - 180), subplot_titles=[f"<b>{_title(name)}</b>" for name in names],
    )  # fmt: skip
    for at, name in enumerate(names):
        place = {"row": at // columns + 1, "col": at % columns + 1}
        part = table[table.measure == name]
        _panel(figure, part, titles, models, place, legend=at == 0)
        unit, best = part.unit.iloc[0], part.best.iloc[0]
        scale = {"type": "log", "dtick": 1} if name in RATIO_MEASURES else {"nticks": 6}
        figure.update_xaxes(title_text=f"{unit} ({WORDS[best]})", **scale, **place)
    name_rows(figure, titles.values())
    title = f"Faithfulness of the attribution of {target}, {condition} faces"
    reading = (
        "Each panel is a measure with its own scale and unit; points are means over faces, lines 95 % intervals, a "
        "symbol for each model. Shaded rows are controls that know nothing of the model."
    )
    return finish(figure, f"faithfulness_{target}_{condition}", title, reading, _best(table, titles), table, height)


def faithfulness_rows(
    scores: xr.Dataset, target: str, condition: str, measures: Iterable[str] | None = None
) -> pd.DataFrame:
    """Return the rows that `faithfulness_chart` draws: measure, method, model and their mean, low, high and n."""
    known = scores["measure"].values.tolist()
    if measures is None:
        measures = [name for name in SHOWN if name in known] or known[: len(SHOWN)]
    for measure in measures:
        choose(measure, known, "measure")
    place = {"target": target, "condition": condition}
    for dim, name in place.items():
        choose(name, scores[dim].values.tolist(), dim)
    numbers, dims = ["mean", "low", "high", "n"], ["measure", "method", "model"]
    rows = scores[numbers].sel({**place, "measure": list(measures)}).to_dataframe(dim_order=dims).reset_index()
    return rows[["measure", "method", "control", "model", *numbers, "unit", "best"]]


def _panel(figure: Figure, part: pd.DataFrame, titles: dict[str, str], models, place: dict, legend: bool) -> None:
    """Draw one measure: a symbol and colour for each model, side by side in each method's row."""
    up = shifts(models, 0.28)
    for model, (colour, symbol) in looks(models).items():
        one = part[part.model == model]
        hover = [f"{readable(titles[r.method])}, {readable(model)}: {_number(r)} (n = {r.n})" for r in one.itertuples()]
        y, marker = heights(list(titles), one.method, up[model]), {"symbol": symbol, "size": 9, "color": colour}
        style = {"marker": marker, "name": readable(model), "legendgroup": model, "showlegend": legend}
        figure.add_trace(dots(one["mean"], y, hover, error_x=bars(one["mean"], one.low, one.high), **style), **place)
    controls = int(part.drop_duplicates("method").control.sum())  # they are the last rows
    figure.add_hrect(y0=-0.6, y1=controls - 0.5, fillcolor=SHADE, line_width=0, layer="below", **place)
    if part.measure.iloc[0] not in RATIO_MEASURES:
        figure.add_vline(x=0, line={"color": INK, "width": 1}, **place)


def _title(measure: str) -> str:
    text = measure.replace("_", " ")
    return text[0].upper() + text[1:]


def _number(row) -> str:
    return f"{row.mean:.3g} [{row.low:.3g}, {row.high:.3g}]"


def _best(table: pd.DataFrame, titles: dict[str, str]) -> str:
    """Say for each measure which method is best in the mean over models, and where the controls lie."""
    sentences = []
    for measure, part in table.groupby("measure", sort=False):
        means = part.groupby(["method", "control"], sort=False)["mean"].mean().dropna().reset_index()
        methods, controls = means[~means.control], means[means.control]
        if methods.empty:
            continue
        worth = {"high": methods["mean"], "low": -methods["mean"], "zero": -methods["mean"].abs()}[part.best.iloc[0]]
        top = methods.loc[worth.idxmax()]
        beside = ", ".join(f"{row.method} {row.mean:.3g}" for row in controls.itertuples())
        sentences.append(f"{_title(measure)}: best {top['mean']:.3g} ({titles[top.method]}); controls: {beside}")
    return f"In the mean over models: {'; '.join(sentences)}." if sentences else "No measure has a value."
