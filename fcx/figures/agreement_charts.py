"""Agreement with the labels as charts: the CCC beside the paper's, its differences, and single predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from fcx.core.checks import choose
from fcx.core.contract import usable
from fcx.core.targets import ratings
from fcx.figures.forest_plots import forest, heights, shifts
from fcx.figures.theme import INK, PALETTE, Figure, bars, dots, finish, looks
from fcx.figures.wording import how_many, plain_name, readable
from fcx.statistics.families import family_members
from fcx.studies.paper import TABLE3 as TABLE3

POINTS = 500  # faces of a scatter
SCOPE_WORDS = {"": "over the whole set", "within_": "within expression"}
CHANGES = {"condition": "What the mask changes, by model", "model": "How the models differ, by condition"}


def ccc_chart(
    evaluation: xr.Dataset, *, scope: str = "", paper: dict = TABLE3, trainings: xr.Dataset | None = None
) -> Figure:
    """Draw the CCC of each model and condition with its 95 % interval, beside the paper's Table 3.

    `scope` is "" (the whole set, with the CCC of an oracle that knows only the expression as a dotted line)
    or "within_" (within expression; the paper has none). `trainings` is `evaluate` of the single trainings of the
    families that `evaluation` holds (`fcx.statistics.family_tables.score_tables`), which short strokes show.
    """
    choose(scope, SCOPE_WORDS, "scope")
    dims, ends = ["target", "model", "condition"], ["ccc", "ccc_low", "ccc_high"]
    targets, models, conditions = (evaluation[dim].values.tolist() for dim in dims)
    table = evaluation[[scope + end for end in ends]].to_dataframe(dim_order=dims).reset_index()
    table = table[[*dims, *(scope + end for end in ends)]].set_axis([*dims, *ends], axis=1)
    given = {} if scope else paper
    keys = table[dims].itertuples(index=False)
    table["paper"] = [given.get(model, {}).get(condition, {}).get(target, np.nan) for target, model, condition in keys]
    figure = forest(targets, models)
    for at, target in enumerate(targets, start=1):
        part = table[table.target == target]
        for condition in conditions:
            if trainings is not None:
                one = trainings[scope + "ccc"].sel(target=target, condition=condition)
                _strokes(figure, at, one, models, shifts(conditions, 0.17)[condition])
            _estimates(figure, at, part[part.condition == condition], models, conditions)
        if part.paper.notna().any():
            marker = {"symbol": "x-thin", "size": 11, "line": {"width": 2.5, "color": INK}}
            hover = [f"paper, on its own faces: {v:z.2f}" for v in part.paper]
            y = _estimate_heights(part, models, conditions)
            crosses = dots(part.paper, y, hover, marker=marker, name="paper, Table 3", showlegend=at == 1)
            figure.add_trace(crosses, row=1, col=at)
        if not scope:
            _oracle(figure, at, float(evaluation["oracle_ccc"].sel(target=target)), len(models))
    low = np.nanmin([0, table.ccc_low.min(), table.paper.min()])
    figure.update_xaxes(range=[low - 0.05, 1], title_text="CCC")
    known = table.paper.notna().any()
    title = f"Agreement with the labels {SCOPE_WORDS[scope]}"
    reading = f"Points are the CCC of a model on {how_many(evaluation['n'])} faces, lines its 95 % intervals: "
    reading += f"filled symbols {', open symbols '.join(conditions)}"
    if trainings is not None:
        reading = reading.replace("of a model on", "of a family of trainings on")
        reading += ". Intervals are over faces and trainings, short strokes the single trainings"
    reading += ". Crosses are the paper's Table 3, measured on AffectNet." if known else "."
    table = table if known else table.drop(columns="paper")
    return finish(figure, f"{scope}ccc", title, reading, _best(table), table, 190 + 70 * len(models))


def difference_chart(comparisons: xr.Dataset, *, between: str) -> Figure:
    """Draw paired differences of CCC from `fcx.statistics.comparison.compare_all`: filled where the 95 % leave out 0.

    `between` is "condition" (masked - plain, for each model) or "model" (two models, for each condition).
    """
    table = differences(comparisons, between)
    targets, labels = list(dict.fromkeys(table.target)), list(dict.fromkeys(table.label))
    figure = forest(targets, labels)
    for at, target in enumerate(targets, start=1):
        part = table[table.target == target]
        clear = (part.low > 0) | (part.high < 0)
        line = {"width": 2, "color": PALETTE[0]}
        marker = {"symbol": np.where(clear, "diamond", "diamond-open"), "size": 12, "color": PALETTE[0], "line": line}
        hover = [f"{_difference(row)}, p = {row.p_holm:.2g} (Holm)" for row in part.itertuples()]
        y, spread = heights(labels, part.label), bars(part.difference, part.low, part.high)
        points = dots(part.difference, y, hover, marker=marker, error_x=spread, showlegend=False)
        figure.add_trace(points, row=1, col=at)
        figure.add_vline(x=0, line={"color": INK, "width": 1}, row=1, col=at)
    reach = 1.08 * np.nanmax(np.abs(table[["low", "high"]]))
    figure.update_xaxes(title_text="difference of CCC", range=[-reach, reach])
    reading = f"Paired differences of CCC on {how_many(comparisons['n'])} faces with 95 % intervals; "
    reading += "filled where the interval leaves out 0."
    numbers, height = f"{'; '.join(map(_difference, table.itertuples()))}.", 170 + 40 * len(labels)
    return finish(figure, f"differences_{between}", CHANGES[between], reading, numbers, table, height)


def differences(comparisons, between: str) -> pd.DataFrame:
    """Return the rows of `compare_all` that compare two conditions of a model, or two models in a condition."""
    choose(between, CHANGES, "kind of comparison")
    same = "model" if between == "condition" else "condition"
    numbers = ["difference", "low", "high", "p", "p_holm", "estimate_a", "estimate_b"]
    names = {f"{same}_a": same, f"{between}_a": "a", f"{between}_b": "b"}
    rows = comparisons[numbers].to_dataframe(dim_order=["comparison", "target"]).reset_index().rename(columns=names)
    rows = rows[rows.a != rows.b]
    labels = [
        f"{plain_name(place)}: {plain_name(a)} − {plain_name(b)}" for place, a, b in rows[[*names.values()]].values
    ]
    rows = rows.assign(label=labels)[["target", same, "a", "b", "label", *numbers]]
    # Rows of one place together, in the order given.
    return rows.sort_values(same, key=lambda places: pd.factorize(places)[0], kind="stable", ignore_index=True)


def prediction_scatter(results: xr.Dataset, faces: xr.Dataset, *, target: str) -> Figure:
    """Draw predictions against the labels, a panel for each model and condition, with the line of equality.

    Of many faces `POINTS` in even steps are drawn, so that the page stays small; the numbers are of all.
    """
    choose(target, results["target"].values.tolist(), "target")
    models, conditions = (results[dim].values.tolist() for dim in ("model", "condition"))
    labels = ratings(faces, target)
    labelled = usable(faces) & np.isfinite(labels)
    shown, labels, count = faces.isel(sample=labelled), labels[labelled], int(labelled.sum())
    drawn = np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))
    coords = shown[["sample", "expression"]].isel(sample=drawn).to_dataframe().reset_index()
    names = [f"{readable(row.sample)}<br>{readable(row.expression)}" for row in coords.itertuples()]
    figure = make_subplots(
        len(conditions), len(models), shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.02,
        vertical_spacing=0.05, column_titles=[readable(m) for m in models], row_titles=conditions, figure=Figure(),
    )  # fmt: skip
    rows = []
    for r, condition in enumerate(conditions, start=1):
        for c, (model, (colour, symbol)) in enumerate(looks(models).items(), start=1):
            one = results["prediction"].sel(model=model, condition=condition, target=target)
            predicted = one.sel(sample=shown["sample"].values).values
            marker = {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.5}
            figure.add_trace(
                dots(labels[drawn], predicted[drawn], names, marker=marker, showlegend=False), row=r, col=c
            )
            line = {"color": INK, "width": 1, "dash": "dot"}
            figure.add_shape(type="line", x0=-1, y0=-1, x1=1, y1=1, line=line, row=r, col=c)
            moments = (labels.mean(), predicted.mean(), labels.std(), predicted.std())
            rows.append((model, condition, count, *moments, np.corrcoef(labels, predicted)[0, 1]))
    columns = ["model", "condition", "n", "mean rated", "mean predicted", "SD rated", "SD predicted", "Pearson r"]
    figure.update_xaxes(range=[-1.05, 1.05], dtick=0.5)
    reach = 1.05 * max(1.0, float(np.nanmax(np.abs(results["prediction"].sel(target=target)))))  # outputs are linear
    figure.update_yaxes(range=[-reach, reach], dtick=0.5)
    figure.update_xaxes(title_text=f"{target}, rated", row=len(conditions))
    figure.update_yaxes(title_text="predicted", col=1)
    numbers = "; ".join(f"{readable(m)}, {c}: r = {r:z.2f}" for m, c, *_, r in rows) + "."
    points = f"Points are {len(drawn)}" if len(drawn) < count else "Each point is one"
    reading = f"{points} of {count} faces, each panel a model and condition; the dotted line is equality."
    table, height = pd.DataFrame(rows, columns=columns), 160 + 280 * len(conditions)
    return finish(figure, f"scatter_{target}", f"Predicted against rated {target}", reading, numbers, table, height)


def _estimate_heights(part: pd.DataFrame, models: list[str], conditions: list[str]) -> list[float]:
    return heights(models, part.model, part.condition.map(shifts(conditions, 0.17)))


def _strokes(figure: Figure, at: int, scores, models: list[str], up: float) -> None:
    """Draw single trainings as short strokes below the point of their family."""
    for family, of in family_members(scores).items():
        values = scores.sel(model=list(of.values())).values
        marker = {"symbol": "line-ns", "size": 9, "line": {"width": 1.5, "color": looks(models)[family][0]}}
        hover = [f"{readable(name)}: {value:z.3f}" for name, value in zip(of.values(), values, strict=True)]
        y = heights(models, [family] * len(values), up - 0.13)
        figure.add_trace(dots(values, y, hover, marker=marker, showlegend=False), row=1, col=at)


def _estimates(figure: Figure, at: int, part: pd.DataFrame, models, conditions) -> None:
    """Draw the CCC of one condition: a colour and symbol for each model, filled for the first condition."""
    condition = part.condition.iloc[0]
    colours, symbols = zip(*(looks(models)[m] for m in part.model), strict=True)
    fill = "" if condition == conditions[0] else "-open"
    marker = {"color": colours, "symbol": [s + fill for s in symbols], "size": 12, "line": {"width": 2}}
    hover = [f"{readable(r.model)}, {condition}: {r.ccc:z.3f} [{r.ccc_low:z.3f}, {r.ccc_high:z.3f}]"
             for r in part.itertuples()]  # fmt: skip
    spread, y = bars(part.ccc, part.ccc_low, part.ccc_high), _estimate_heights(part, models, conditions)
    figure.add_trace(dots(part.ccc, y, hover, marker=marker, error_x=spread, showlegend=False), row=1, col=at)
    if at == 1:
        key = {"symbol": f"circle{fill}", "color": INK, "size": 12, "line": {"width": 2}}
        figure.add_trace(dots([None], [None], [""], marker=key, name=f"{condition} (95 % interval)"), row=1, col=1)


def _oracle(figure: Figure, at: int, value: float, count: int) -> None:
    style = {"line": {"dash": "dot", "color": INK, "width": 1.5}, "hoverinfo": "x", "showlegend": at == 1}
    name, y = "oracle that knows only the expression", [-0.6, count - 0.4]
    figure.add_trace(go.Scatter(x=[value, value], y=y, mode="lines", name=name, **style), row=1, col=at)


def _difference(row) -> str:
    return f"{readable(row.label)}, {row.target}: {row.difference:+z.3f} [{row.low:+z.3f}, {row.high:+z.3f}]"


def _best(table: pd.DataFrame) -> str:
    """Say which model is highest for each target and condition."""
    known = table.dropna(subset="ccc")
    best = known.loc[known.groupby(["target", "condition"], sort=False).ccc.idxmax()]
    numbers = [f"{r.target}, {r.condition}: highest {r.ccc:z.2f} ({readable(r.model)})" for r in best.itertuples()]
    return f"{'; '.join(numbers)}." if numbers else "No CCC is defined."
