"""Agreement with the labels as charts: the CCC beside the paper's, its differences, and single predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fcx.core.checks import choose
from fcx.core.contract import usable
from fcx.core.targets import ratings
from fcx.figures.theme import INK, PALETTE, Figure, bars, dots, finish, looks, plain_name, readable

# CCC (arousal, valence) on AffectNet and on MaskedAffectNet: Barros and Sciutti, "I Only Have Eyes for You: The
# Impact of Masks On Convolutional-Based Facial Expression Recognition", CVPR Workshops 2021, Table 3. Their faces,
# their training data and their mask are others than those of fcx: the numbers are for orientation.
TABLE3 = {
    "plain_scratch": {"plain": {"arousal": 0.46, "valence": 0.61}, "masked": {"arousal": 0.18, "valence": 0.16}},
    "masked_scratch": {"plain": {"arousal": 0.25, "valence": 0.33}, "masked": {"arousal": 0.43, "valence": 0.48}},
    "masked_last_conv": {"plain": {"arousal": 0.34, "valence": 0.39}, "masked": {"arousal": 0.33, "valence": 0.43}},
    "masked_all_layers": {"plain": {"arousal": 0.38, "valence": 0.45}, "masked": {"arousal": 0.45, "valence": 0.53}},
}
SCOPE_WORDS = {"": "over the whole set", "within_": "within expression"}
CHANGES = {"condition": "What the mask changes, by model", "model": "How the models differ, by condition"}


def ccc_chart(evaluation, *, scope: str = "", paper: dict = TABLE3) -> Figure:
    """Draw the CCC of each model and condition with its 95 % interval, beside the paper's Table 3.

    `scope` is "" (the whole set, with the CCC of an oracle that knows only the expression as a dotted line)
    or "within_" (within expression; the paper has none).
    """
    choose(scope, SCOPE_WORDS, "scope")
    models, conditions, targets = ([str(v) for v in evaluation[d].values] for d in ("model", "condition", "target"))
    table = pd.DataFrame(
        [(t, m, c) for t in targets for m in models for c in conditions], columns=["target", "model", "condition"]
    )
    keys = [{"target": t, "model": m, "condition": c} for t, m, c in table.itertuples(index=False)]
    for name in ("ccc", "ccc_low", "ccc_high"):
        table[name] = [float(evaluation[scope + name].sel(key)) for key in keys]
    given = {} if scope else paper
    table["paper"] = [given.get(k["model"], {}).get(k["condition"], {}).get(k["target"], np.nan) for k in keys]
    figure = _forest(targets, models)
    for at, target in enumerate(targets, start=1):
        part = table[table.target == target]
        for condition in conditions:
            _estimates(figure, at, part[part.condition == condition], models, conditions)
        if part.paper.notna().any():
            marker = {"symbol": "x-thin", "size": 11, "line": {"width": 2.5, "color": INK}}
            hover = [f"paper, on its own faces: {v:.2f}" for v in part.paper]
            y = _heights(part, models, conditions)
            crosses = dots(part.paper, y, hover, marker=marker, name="paper, Table 3", showlegend=at == 1)
            figure.add_trace(crosses, row=1, col=at)
        if not scope:
            _oracle(figure, at, float(evaluation["oracle_ccc"].sel(target=target)), len(models))
    low = np.nanmin([0, table.ccc_low.min(), table.paper.min()])
    figure.update_xaxes(range=[low - 0.05, 1], title_text="CCC")
    known = table.paper.notna().any()
    title = f"Agreement with the labels {SCOPE_WORDS[scope]}"
    reading = "Points are the CCC of a model, lines its 95 % intervals: filled symbols " + ", open symbols ".join(
        conditions
    )
    reading += ". Crosses are the paper's Table 3, measured on AffectNet." if known else "."
    table = table if known else table.drop(columns="paper")
    return finish(figure, f"{scope}ccc", title, reading, _best(table), table, 190 + 70 * len(models))


def difference_chart(comparisons, *, between: str) -> Figure:
    """Draw paired differences of CCC from `fcx.statistics.comparison.compare_all`: filled where the 95 % leave out 0.

    `between` is "condition" (masked - plain, for each model) or "model" (two models, for each condition).
    """
    table = differences(comparisons, between)
    targets, labels = list(dict.fromkeys(table.target)), list(dict.fromkeys(table.label))
    figure = _forest(targets, labels)
    for at, target in enumerate(targets, start=1):
        part = table[table.target == target]
        clear = (part.low > 0) | (part.high < 0)
        line = {"width": 2, "color": PALETTE[0]}
        marker = {"symbol": np.where(clear, "diamond", "diamond-open"), "size": 12, "color": PALETTE[0], "line": line}
        hover = [f"{_said(row)}, p = {row.p_holm:.2g} (Holm)" for row in part.itertuples()]
        y = [len(labels) - 1 - labels.index(label) for label in part.label]
        spread = bars(part.difference, part.low, part.high)
        points = dots(part.difference, y, hover, marker=marker, error_x=spread, showlegend=False)
        figure.add_trace(points, row=1, col=at)
        figure.add_vline(x=0, line={"color": INK, "width": 1}, row=1, col=at)
    reach = 1.08 * np.nanmax(np.abs(table[["low", "high"]]))
    figure.update_xaxes(title_text="difference of CCC", range=[-reach, reach])
    reading = "Paired differences of CCC with 95 % intervals; filled where the interval leaves out 0."
    said, height = f"{'; '.join(map(_said, table.itertuples()))}.", 170 + 40 * len(labels)
    return finish(figure, f"differences_{between}", CHANGES[between], reading, said, table, height)


def differences(comparisons, between: str) -> pd.DataFrame:
    """Return the rows of `compare_all` that compare two conditions of a model, or two models in a condition."""
    choose(between, CHANGES, "kind of comparison")
    same = "model" if between == "condition" else "condition"
    numbers = ("difference", "low", "high", "p", "p_holm", "estimate_a", "estimate_b")
    rows = []
    for one in (comparisons.isel(comparison=i) for i in range(comparisons.sizes["comparison"])):
        a, b, place = (str(one[name].item()) for name in (f"{between}_a", f"{between}_b", f"{same}_a"))
        for target in one["target"].values if a != b else ():
            cell = {name: float(one[name].sel(target=target)) for name in numbers}
            label = f"{plain_name(place)}: {plain_name(a)} − {plain_name(b)}"
            rows.append({"target": str(target), same: place, "a": a, "b": b, "label": label, **cell})
    places = list(dict.fromkeys(row[same] for row in rows))  # rows of one place together, in the order given
    return pd.DataFrame(sorted(rows, key=lambda row: places.index(row[same])))


def prediction_scatter(results, faces, *, target: str) -> Figure:
    """Draw predictions against the labels, a panel for each model and condition, with the line of equality."""
    choose(target, [str(t) for t in results["target"].values], "target")
    models, conditions = ([str(v) for v in results[d].values] for d in ("model", "condition"))
    labels = ratings(faces, target)
    labelled = usable(faces) & np.isfinite(labels)
    shown, labels, count = faces.isel(sample=labelled), labels[labelled], int(labelled.sum())
    coords = shown[["sample", "expression"]].to_dataframe().reset_index()
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
            figure.add_trace(dots(labels, predicted, names, marker=marker, showlegend=False), row=r, col=c)
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
    said = "; ".join(f"{readable(m)}, {c}: r = {r:.2f}" for m, c, *_, r in rows)
    reading = f"Each point is one of {count} faces, each panel a model and condition; the dotted line is equality."
    table, height = pd.DataFrame(rows, columns=columns), 160 + 280 * len(conditions)
    return finish(figure, f"scatter_{target}", f"Predicted against rated {target}", reading, f"{said}.", table, height)


def _forest(targets: list[str], labels: list[str]) -> Figure:
    """Return an empty figure with a panel for each target and a named row for each label, the first on top."""
    figure = make_subplots(1, len(targets), shared_yaxes=True, horizontal_spacing=0.04, figure=Figure(),
                           subplot_titles=[f"<b>{t}</b>" for t in targets])  # fmt: skip
    words = {"tickvals": list(range(len(labels)))[::-1], "ticktext": [readable(name) for name in labels]}
    figure.update_yaxes(range=[-0.6, len(labels) - 0.4], showgrid=False, zeroline=False, ticks="", **words)
    return figure


def _heights(part: pd.DataFrame, models: list[str], conditions: list[str]) -> list[float]:
    """Return the height of each row of `part`: its model's row, its condition above or below the middle."""
    shift = np.linspace(0.17, -0.17, len(conditions)) if len(conditions) > 1 else [0]
    pairs = part[["model", "condition"]].itertuples(index=False)
    return [len(models) - 1 - models.index(m) + shift[conditions.index(c)] for m, c in pairs]


def _estimates(figure: Figure, at: int, part: pd.DataFrame, models, conditions) -> None:
    """Draw the CCC of one condition: a colour and symbol for each model, filled for the first condition."""
    condition = part.condition.iloc[0]
    colours, symbols = zip(*(looks(models)[m] for m in part.model), strict=True)
    fill = "" if condition == conditions[0] else "-open"
    marker = {"color": colours, "symbol": [s + fill for s in symbols], "size": 12, "line": {"width": 2}}
    hover = [f"{readable(r.model)}, {condition}: {r.ccc:.3f} [{r.ccc_low:.3f}, {r.ccc_high:.3f}]"
             for r in part.itertuples()]  # fmt: skip
    spread, y = bars(part.ccc, part.ccc_low, part.ccc_high), _heights(part, models, conditions)
    figure.add_trace(dots(part.ccc, y, hover, marker=marker, error_x=spread, showlegend=False), row=1, col=at)
    if at == 1:
        key = {"symbol": f"circle{fill}", "color": INK, "size": 12, "line": {"width": 2}}
        figure.add_trace(dots([None], [None], [""], marker=key, name=f"{condition} (95 % interval)"), row=1, col=1)


def _oracle(figure: Figure, at: int, value: float, count: int) -> None:
    line = {"dash": "dot", "color": INK, "width": 1.5}
    name = "oracle that knows only the expression"
    height = [-0.6, count - 0.4]
    trace = go.Scatter(
        x=[value, value], y=height, mode="lines", line=line, name=name, showlegend=at == 1, hoverinfo="x"
    )
    figure.add_trace(trace, row=1, col=at)


def _said(row) -> str:
    return f"{readable(row.label)}, {row.target}: {row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def _best(table: pd.DataFrame) -> str:
    """Say which model is highest for each target and condition."""
    said = []
    for (target, condition), part in table.dropna(subset="ccc").groupby(["target", "condition"], sort=False):
        top = part.loc[part.ccc.idxmax()]
        said.append(f"{target}, {condition}: highest {top.ccc:.2f} ({readable(top.model)})")
    return f"{'; '.join(said)}." if said else "No CCC is defined."
