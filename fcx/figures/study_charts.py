"""The experiment as charts: families of networks beside the paper's numbers, their differences, and the ladder."""

from __future__ import annotations

import html
from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fcx.figures.forest_plots import forest, heights, name_rows, shifts
from fcx.figures.theme import INK, PALETTE, Figure, bars, dots, finish, looks
from fcx.figures.wording import how_many, set_short
from fcx.studies.paper import SHEET_BY_FACES
from fcx.studies.training_plan import family_title

SHADES = [[0, "#ffffff"], [1, "#56B4E9"]]  # on which ink can be read everywhere
OPEN = ("", "-open", "-dot", "-open-dot")  # how the symbols of conditions are filled


def family_chart(table: pd.DataFrame, *, faces: str, ceilings: pd.DataFrame | None = None,
                 within: bool = False) -> Figure:  # fmt: skip
    """Draw the CCC of every family and condition (`fcx.studies.table3`), the single trainings, and the paper's.

    `faces` says which faces were scored; `ceilings` is `Study.ceilings`, whose highest possible CCC is a dotted line;
    `within` that the table is of the CCC within expression.
    """
    families, conditions = (list(dict.fromkeys(table[name])) for name in ("family", "condition"))
    targets = list(dict.fromkeys(table["target"]))
    up = shifts(conditions, 0.22)
    figure, own = forest(targets, [family_title(name) for name in families]), looks(families)
    for at, target in enumerate(targets, start=1):
        for number, condition in enumerate(conditions):
            part = table[(table.target == target) & (table.condition == condition)]
            y, fill = np.array(heights(families, part.family, up[condition])), OPEN[number % len(OPEN)]
            colours, symbols = zip(*(own[family] for family in part.family), strict=True) if len(part) else ((), ())
            rows = zip(part.by_seed, y, colours, strict=True)
            single = [(float(value), level, colour) for text, level, colour in rows
                      for value in text.split() if value != "nan"]  # fmt: skip
            x, levels, shades = zip(*single, strict=True) if single else ((), (), ())
            seeds = {"symbol": "circle", "size": 5, "color": shades, "opacity": 0.6}
            figure.add_trace(dots(x, levels, [f"one training: {v:z.3f}" for v in x], marker=seeds, showlegend=False),
                             row=1, col=at)  # fmt: skip
            marker = {"symbol": [symbol + fill for symbol in symbols], "size": 11, "color": colours,
                      "line": {"width": 2, "color": colours}}  # fmt: skip
            hover = [f"{_title(r.family)}, {condition}: {r.estimate:z.3f} [{r.low:z.3f}, {r.high:z.3f}]"
                     for r in part.itertuples()]  # fmt: skip
            figure.add_trace(dots(part.estimate, y, hover, marker=marker, showlegend=False,
                                  error_x=bars(part.estimate, part.low, part.high)), row=1, col=at)  # fmt: skip
            if at == 1:
                key = {"symbol": f"circle{fill}", "size": 11, "color": INK, "line": {"width": 2, "color": INK}}
                figure.add_trace(dots([None], [None], [""], marker=key, name=f"{condition} faces"), row=1, col=1)
            for name, symbol, words in (
                ("paper", "x-thin", "paper, Table 3"),
                ("sheet", "cross-thin", "authors' sheet"),
            ):
                known = part[part[name].notna()]
                style = {"symbol": symbol, "size": 9, "line": {"width": 2, "color": INK}}
                hover = [f"{words}, {condition}, on its own faces: {v:z.2f}" for v in known[name]]
                if known.empty:
                    continue
                figure.add_trace(dots(known[name], heights(families, known.family, up[condition]), hover, marker=style,
                                      name=words, showlegend=at == 1 and number == 0), row=1, col=at)  # fmt: skip
        for known in (
            () if ceilings is None else ceilings[(ceilings.set == faces) & (ceilings.target == target)].network
        ):
            style = {"line": {"dash": "dot", "color": INK, "width": 1.5}, "name": "ceiling of the labels' noise"}
            figure.add_trace(go.Scatter(x=[known] * 2, y=[-0.6, len(families) - 0.4], mode="lines", hoverinfo="x",
                                        showlegend=at == 1, **style), row=1, col=at)  # fmt: skip
    low = np.nanmin([0, table.low.min()])
    figure.update_xaxes(range=[low - 0.05, 1], title_text="CCC")
    seeds = how_many(table["seeds"])
    reading = (
        f"Points are means over {seeds} trainings that differ by their seed, lines 95 % intervals over "
        f"{how_many(table['n'])} faces and over seeds, small points the single trainings."
    )
    if table[["paper", "sheet"]].notna().any(axis=None):
        reading += " Crosses are the paper's, measured on AffectNet with other masks."
    numbers = "; ".join(f"{_title(r.family)}, {r.condition}, {r.target}: {r.estimate:z.2f}"
                        for r in table.itertuples())  # fmt: skip
    title, height = f"CCC of every family{' within expression' * within}, {set_short(faces)}", 210 + 74 * len(families)
    name = f"families{'_within' * within}_{faces}"
    return finish(figure, name, title, reading, f"{numbers}.", table, height, margin_t=170)


def contrast_chart(table: pd.DataFrame, labels: Iterable[str], *, name: str, title: str) -> Figure:
    """Draw differences with 95 % intervals, a row for each of `labels`: filled where the interval leaves out 0.

    `table` has the columns target, estimate, low, high, seeds and n.
    """
    table = table.assign(label=list(labels))
    rows, targets = (list(dict.fromkeys(table[column])) for column in ("label", "target"))
    # One panel below the other and names in two lines leave room for the intervals where the page is narrow.
    height = 150 + len(targets) * (50 + 40 * len(rows))
    figure = make_subplots(len(targets), 1, shared_xaxes=True, figure=Figure(), vertical_spacing=40 / (height - 150),
                           subplot_titles=[f"<b>{target}</b>" for target in targets])  # fmt: skip
    name_rows(figure, rows).update_yaxes(ticktext=[html.escape(row).replace(" − ", " −<br>") for row in rows])
    for at, target in enumerate(targets, start=1):
        part = table[table.target == target]
        clear = (part.low > 0) | (part.high < 0)
        marker = {"symbol": np.where(clear, "diamond", "diamond-open"), "size": 11, "color": PALETTE[0],
                  "line": {"width": 2, "color": PALETTE[0]}}  # fmt: skip
        hover = [
            f"{html.escape(r.label)}: {r.estimate:+z.3f} [{r.low:+z.3f}, {r.high:+z.3f}]" for r in part.itertuples()
        ]
        spread = bars(part.estimate, part.low, part.high)
        figure.add_trace(dots(part.estimate, heights(rows, part.label), hover, marker=marker, error_x=spread,
                              showlegend=False), row=at, col=1)  # fmt: skip
        figure.add_vline(x=0, line={"color": INK, "width": 1}, row=at, col=1)
    reach = 1.08 * np.nanmax(np.abs(table[["low", "high"]]))
    figure.update_xaxes(range=[-reach, reach], nticks=5).update_xaxes(title_text="difference of CCC", row=len(targets))
    reading = (
        f"Differences of CCC on {how_many(table['n'])} faces and {how_many(table['seeds'])} trainings of each family, "
        "paired by face and by seed, with 95 % intervals over both; filled where the interval leaves out 0."
    )
    numbers = "; ".join(f"{r.label}, {r.target}: {r.estimate:+z.2f} [{r.low:+z.2f}, {r.high:+z.2f}]"
                        for r in table.itertuples())  # fmt: skip
    return finish(figure, name, title, reading, f"{numbers}.", table, height)


def curve_chart(curves: pd.DataFrame, records: pd.DataFrame) -> Figure:
    """Draw the validation CCC of every training by epoch, on the faces that it learnt, averaged over targets."""
    learnt = curves.merge(records[["name", "condition"]], on=["name", "condition"])
    table = learnt.groupby(["family", "name", "epoch"], sort=False)["ccc"].mean().reset_index()
    figure = Figure()
    families = list(dict.fromkeys(table["family"]))
    for number, family in enumerate(families):
        colour, dash = looks(families)[family][0], ("solid", "dash", "dot")[number // len(PALETTE) % 3]
        for at, (name, part) in enumerate(table[table.family == family].groupby("name", sort=False)):
            figure.add_trace(go.Scatter(
                x=part.epoch, y=part.ccc, mode="lines+markers", marker_size=5, name=_title(family),
                line={"color": colour, "width": 1.6, "dash": dash}, legendgroup=family, showlegend=at == 0,
                hovertext=[f"{name}, epoch {r.epoch}: {r.ccc:z.3f}" for r in part.itertuples()], hoverinfo="text",
            ))  # fmt: skip
    figure.update_xaxes(title_text="epoch", rangemode="tozero").update_yaxes(title_text="validation CCC")
    last = table.sort_values("epoch").groupby("family", sort=False)["ccc"].last()
    numbers = "; ".join(f"{_title(name)} {value:z.2f}" for name, value in last.items())
    reading = (
        "Each line is a training, scored after every epoch on validation faces of the kind it learns, both targets."
    )
    legend = 24 * (-(-len(families) // 2))
    return finish(figure, "curves", "Learning curves", reading, f"At the last epoch: {numbers}.", table, 420 + legend,
                  margin_t=90 + legend)  # fmt: skip


def forgetting_chart(table: pd.DataFrame, *, faces: str) -> Figure:
    """Draw what tuning on masks gains on masked faces against what it loses on plain ones, from the plain network on.

    `table` is from `fcx.studies.forgetting_table`.
    """
    targets, families = (list(dict.fromkeys(table[name])) for name in ("target", "family"))
    figure = make_subplots(len(targets), 1, shared_xaxes=True, vertical_spacing=0.1, figure=Figure(),
                           subplot_titles=[f"<b>{target}</b>" for target in targets])  # fmt: skip
    for at, target in enumerate(targets, start=1):
        for family in families:
            part = table[(table.target == target) & (table.family == family)]
            change = part.pivot(index="t", columns="condition", values="estimate").sort_index()
            steps, x, y = change.index.tolist(), [0.0, *change["plain"]], [0.0, *change["masked"]]
            hover = [f"{_title(family)}, {t:.0%} of the way: plain {a:+z.3f}, masked {b:+z.3f}"
                     for t, a, b in zip([0, *steps], x, y, strict=True)]  # fmt: skip
            colour = looks(families)[family][0]
            figure.add_trace(go.Scatter(
                x=x, y=y, mode="lines+markers", name=_title(family), hovertext=hover, hoverinfo="text",
                line={"color": colour}, showlegend=at == 1, legendgroup=family,
                marker={"size": [10, *[8] * (len(steps) - 1), 14], "color": colour,
                        "symbol": ["circle-open", *["circle"] * (len(steps) - 1), "square"]},
            ), row=at, col=1)  # fmt: skip
    figure.update_xaxes(title_text="CCC on plain faces, change", row=len(targets)).update_xaxes(zeroline=True)
    figure.update_yaxes(title_text="on masked faces")
    ends = table[table.t == 1]
    numbers = "; ".join(f"{_title(r.family)}, {r.condition}, {r.target}: {r.estimate:+z.2f} "
                        f"[{r.low:+z.2f}, {r.high:+z.2f}]" for r in ends.itertuples())  # fmt: skip
    reading = (
        "Lines go from the plain network (open circle) in steps of a quarter to the tuned one (square), every weight "
        "on the straight line between; up is gained on masks, left is lost on plain faces."
    )
    title = f"What tuning on masks gains and forgets, {set_short(faces)}"
    return finish(figure, f"forgetting_{faces}", title, reading, f"Tuned: {numbers}.", table, 180 + 290 * len(targets))


def efficiency_chart(table: pd.DataFrame, *, faces: str, condition: str = "masked") -> Figure:
    """Draw the CCC by number of faces that a network was tuned with (`fcx.studies.efficiency_table`), by scheme."""
    table = table[table.condition == condition].sort_values("faces")
    tuned, targets = table[table.faces > 0], list(dict.fromkeys(table["target"]))
    figure = make_subplots(len(targets), 1, shared_xaxes=True, vertical_spacing=0.1, figure=Figure(),
                           subplot_titles=[f"<b>{target}</b>" for target in targets])  # fmt: skip
    for at, target in enumerate(targets, start=1):
        for scheme, part in tuned[tuned.target == target].groupby("scheme", sort=False):
            (colour, symbol), words = looks([f"masked_{scheme}"])[f"masked_{scheme}"], scheme.replace("_", " ")
            hover = [
                f"{words}, {r.faces:.0f} faces: {r.estimate:z.3f} [{r.low:z.3f}, {r.high:z.3f}]"
                for r in part.itertuples()
            ]
            spread = {**bars(part.estimate, part.low, part.high), "color": colour}
            figure.add_trace(go.Scatter(x=part.faces, y=part.estimate, mode="lines+markers", name=words, error_y=spread,
                                        marker={"size": 9, "symbol": symbol},
                                        line={"color": colour}, hovertext=hover, hoverinfo="text", legendgroup=scheme,
                                        showlegend=at == 1), row=at, col=1)  # fmt: skip
            if condition == "masked":
                sheet = SHEET_BY_FACES.get(scheme, {})
                values = [pair[("arousal", "valence").index(target)] for pair in sheet.values()]
                figure.add_trace(go.Scatter(x=list(sheet), y=values, mode="lines", name=f"{words}, authors' sheet",
                                            line={"color": colour, "dash": "dot"}, hoverinfo="y", legendgroup=scheme,
                                            showlegend=at == 1), row=at, col=1)  # fmt: skip
        for row in table[(table.faces == 0) & (table.target == target)].itertuples():
            figure.add_hline(y=row.estimate, line={"color": INK, "dash": "dash", "width": 1}, row=at, col=1)
    figure.update_xaxes(type="log", dtick=1).update_xaxes(title_text="masked faces to tune with", row=len(targets))
    figure.update_yaxes(title_text="CCC")
    numbers = "; ".join(
        f"{r.scheme.replace('_', ' ')}, {r.faces:.0f}, {r.target}: {r.estimate:z.2f}" for r in tuned.itertuples()
    )
    reading = (
        f"CCC on {condition} faces after tuning in an equal number of steps, with 95 % intervals over faces and seeds; "
        "dashed is the network before it was tuned"
        + (", dotted the results sheet of the paper's authors." if condition == "masked" else ".")
    )
    title = f"How many masked faces tuning needs, {condition} faces of {set_short(faces)}"
    name, height = f"efficiency_{condition}_{faces}", 190 + 280 * len(targets)
    return finish(figure, name, title, reading, f"{numbers}.", table, height, margin_t=150)


def ladder_chart(matrix: pd.DataFrame, *, faces: str) -> Figure:
    """Draw the CCC of networks trained on each kind of mask (rows), scored on each (columns), a panel a target."""
    trained, asked, targets = (list(dict.fromkeys(matrix[name])) for name in ("trained on", "scored on", "target"))
    figure = make_subplots(len(targets), 1, vertical_spacing=0.16, figure=Figure(),
                           subplot_titles=[f"<b>{target}</b>" for target in targets])  # fmt: skip
    for at, target in enumerate(targets, start=1):
        part = matrix[matrix.target == target]
        wide = part.pivot(index="trained on", columns="scored on", values="estimate").loc[trained, asked]
        cells = part.set_index(["trained on", "scored on"])
        words = {key: f"{r.estimate:z.3f} [{r.low:z.3f}, {r.high:z.3f}]" for key, r in cells.iterrows()}
        hover = [[f"trained on {row}, scored on {col}: {words[row, col]}" for col in asked] for row in trained]
        figure.add_trace(go.Heatmap(z=wide.values, x=asked, y=trained, text=wide.round(2).values, hovertext=hover,
                                    texttemplate="%{text:.2f}", hoverinfo="text", colorscale=SHADES, zmin=0, zmax=1,
                                    showscale=False), row=at, col=1)  # fmt: skip
    figure.update_yaxes(autorange="reversed", title_text="trained on").update_xaxes(side="bottom")
    figure.update_xaxes(title_text="scored on", row=len(targets))
    own = matrix[matrix["trained on"] == matrix["scored on"]]
    numbers = "; ".join(f"{r[1]}, {r.target}: {r.estimate:z.2f}" for r in own.itertuples())
    reading = "Each cell is the mean CCC over seeds of networks trained on the row's faces and scored on the column's."
    title = f"The occluder ladder, {set_short(faces)}"
    return finish(
        figure,
        f"ladder_{faces}",
        title,
        reading,
        f"Each on its own faces: {numbers}.",
        matrix,
        150 + 290 * len(targets),
    )


def cost_chart(gains: pd.DataFrame, *, faces: str, condition: str = "masked") -> Figure:
    """Draw what training costs against what it reaches (`fcx.studies.gains_table`)."""
    figure, words = Figure(), []
    for (family, (colour, symbol)), row in zip(looks(gains["family"]).items(), gains.to_dict("records"), strict=True):
        x, y = row["with those of its start"], row[f"CCC, {condition}"]
        words.append(f"{_title(family)}: {x:.2g} multiply-adds, CCC {y:z.3f}")
        marker = {"size": 13, "color": colour, "symbol": symbol}
        figure.add_trace(dots([x], [y], words[-1:], marker=marker, name=_title(family)))
    figure.update_xaxes(title_text="multiply-adds", rangemode="tozero")
    figure.update_yaxes(title_text=f"CCC on {condition} faces")
    reading = (
        "Each point is a family: to the right is dearer, up is better. Multiply-adds are those of the whole training "
        "and of the one that it starts from, counted from the layers; the CCC is the mean of both targets."
    )
    title = f"What training costs and what it reaches, {set_short(faces)}"
    return finish(figure, f"cost_{faces}", title, reading, f"{'; '.join(words)}.", gains, 480, margin_t=160)


def expression_chart(table: pd.DataFrame, *, target: str, faces: str) -> Figure:
    """Draw mean ratings and mean answers by expression (`fcx.studies.by_expression`)."""
    table = table[table.target == target].sort_values("rated", ascending=False)
    names, families = (
        table["expression"].tolist(),
        [n for n in table if n not in ("target", "expression", "n", "rated")],
    )
    figure = forest([target], names)
    marker = {"symbol": "line-ns", "size": 22, "line": {"width": 3, "color": INK}}
    hover = [f"{r.expression}, rated: {r.rated:+z.2f}" for r in table.itertuples()]
    figure.add_trace(dots(table.rated, heights(names, names), hover, marker=marker, name="rated"))
    for family, (colour, symbol) in looks(families).items():
        hover = [f"{e}, {_title(family)}: {v:+z.2f}" for e, v in zip(names, table[family], strict=True)]
        marker = {"symbol": symbol, "size": 10, "color": colour}
        figure.add_trace(dots(table[family], heights(names, names), hover, marker=marker, name=_title(family)))
    figure.update_xaxes(title_text=f"mean {target}", zeroline=True)
    worst = table.assign(gap=table[families[0]] - table.rated).sort_values("gap", key=abs, ascending=False).head(3)
    numbers = "; ".join(f"{r.expression} {r.gap:+z.2f}" for r in worst.itertuples())
    short = set_short(faces)
    reading = f"Strokes: mean ratings of {short}; symbols: mean answers of each family to plain faces, over its seeds."
    return finish(figure, f"expressions_{target}_{faces}", f"{target.capitalize()} by expression, {short}", reading,
                  f"Furthest from the ratings, {_title(families[0])}: {numbers}.", table, 200 + 46 * len(names),
                  margin_t=150)  # fmt: skip


def _title(family: str) -> str:
    """Return what people call a family, safe in Plotly's mark-up."""
    return html.escape(family_title(family))
