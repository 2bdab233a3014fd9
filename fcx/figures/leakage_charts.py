"""What masks give away: the leakage audit (`fcx.masks.leakage_audit`) as a chart and as statements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fcx.figures.agreement_charts import _forest
from fcx.figures.findings import _listed, _two
from fcx.figures.tables import Finding, Findings
from fcx.figures.theme import PALETTE, Figure, dots, finish

KINDS = {"rated": ("labels as rated", "circle", PALETTE[0]), "beyond": ("beyond pose and light", "diamond", PALETTE[1])}
REFERENCE_WORDS = {"pose": "head pose", "light": "light on the upper face", "face": "unmasked face"}
CHANCE = "#c3c8d1"
FAMILY_LEVEL = 0.05
VERDICTS = {
    (False, False): "no better than chance",
    (True, False): "better than chance, but not beyond what pose and light give,",
    (True, True): "better than chance, also beyond what pose and light give,",
    (False, True): "better than chance only beyond what pose and light give,",
}


def leakage_chart(audit) -> Figure:
    """Draw how well the labels are predicted from masks alone and from the references, over the range of chance."""
    table = leakage_rows(audit)
    labels, targets = list(dict.fromkeys(table.input)), list(dict.fromkeys(table.target))
    figure = _forest(targets, labels)
    for at, target in enumerate(targets, start=1):
        for kind, (name, symbol, colour) in KINDS.items():
            part = table[(table.target == target) & (table["labels"] == kind)]
            shift = 0.16 if kind == "rated" else -0.16
            y = [len(labels) - 1 - labels.index(label) + shift for label in part.input]
            _band(figure, at, part, y, showlegend=at == 1 and kind == "rated")
            fill = np.where(part.p_shown <= FAMILY_LEVEL, symbol, f"{symbol}-open")
            marker = {"symbol": fill, "size": 11, "color": colour, "line": {"width": 2, "color": colour}}
            hover = [f"{row.input}, {target}, {name}: {_said(row)}" for row in part.itertuples()]
            figure.add_trace(dots(part.ccc, y, hover, marker=marker, showlegend=False), row=1, col=at)
            if at == 1:
                key = {"symbol": symbol, "size": 11, "color": colour}
                figure.add_trace(dots([None], [None], [""], marker=key, name=name), row=1, col=1)
    low, high = table[["ccc", "null_low"]].min().min(), table[["ccc", "null_high"]].max().max()
    figure.update_xaxes(title_text="CCC, cross-validated", range=[min(low, 0) - 0.05, high + 0.05])
    reading = (
        f"How well ridge regression predicts the labels of {int(audit['n'])} faces from nothing but the mask, "
        "and from references below. Grey: where 90 % of the CCC of shuffled labels lie. Filled: better than chance, "
        "for masks after Holm's correction. Diamonds: what the pose of the head and the light leave of the labels."
    )
    said = " ".join(statement for statement, _ in leakage_findings(audit).items)
    title, height = "What masks give away", 190 + 44 * len(labels)
    return finish(figure, "leakage", title, reading, said, table.drop(columns="p_shown"), height)


def leakage_findings(audit) -> Findings:
    """Return what the audit says of each target: what masks show, and whether the head's pose explains it."""
    table, said = leakage_rows(audit), []
    for target, part in table.groupby("target", sort=False):
        groups: dict[str, list[str]] = {}
        numbers = []
        for (fit, source), pair in part[part.fit != ""].groupby(["fit", "source"], sort=False):
            rated, beyond = (next(pair[pair["labels"] == kind].itertuples()) for kind in KINDS)
            verdict = VERDICTS[rated.p_shown <= FAMILY_LEVEL, beyond.p_shown <= FAMILY_LEVEL]
            groups.setdefault(verdict, []).append(f"{fit} {source}")
            numbers.append(f"{fit}, {source}: {_said(rated)}; beyond pose and light {_said(beyond)}")
        shown = "; ".join(f"{verdict} from {_listed(names)}" for verdict, names in groups.items())
        known = part[(part.fit == "") & (part["labels"] == "rated")]
        beside = ", ".join(f"{row.input} {_two(row.ccc)}" for row in known.itertuples())
        said.append(Finding(f"{target.capitalize()}, predicted from the mask alone: {shown}.",
                            f"{'. '.join(numbers)}. For comparison, CCC from: {beside}."))  # fmt: skip
    return Findings(said)


def leakage_rows(audit) -> pd.DataFrame:
    """Return the audit as rows: masks by fit and source, then the references once.

    `p_shown` is corrected over all masks (Holm), and plain for the references, which test no mask.
    """
    fits, sources = ([str(name) for name in audit[dim].values] for dim in ("fit", "source"))
    inputs = [(fit, source) for fit in fits for source in sources if source not in REFERENCE_WORDS]
    inputs += [("", source) for source in sources if source in REFERENCE_WORDS]
    numbers, rows = ("ccc", "null_low", "null_high", "p", "p_holm"), []
    for target in map(str, audit["target"].values):
        for fit, source in inputs:
            cell = audit[list(numbers)].sel(fit=fit or fits[0], source=source, target=target)
            for kind in KINDS:
                one = {name: float(cell[name].sel(labels=kind)) for name in numbers}
                shown = one["p_holm"] if fit else one["p"]
                label = f"{fit}, {source}" if fit else REFERENCE_WORDS[source]
                rows.append({"target": target, "input": label, "fit": fit, "source": source, "labels": kind, **one,
                             "p_shown": shown})  # fmt: skip
    return pd.DataFrame(rows)


def _band(figure: Figure, at: int, part: pd.DataFrame, y, **style) -> None:
    """Draw the range of chance of each row."""
    x = [end for row in part.itertuples() for end in (row.null_low, row.null_high, None)]
    heights = [end for height in y for end in (height, height, None)]
    line = {"color": CHANCE, "width": 13}
    name = "chance (90 % of shuffled labels)"
    trace = go.Scatter(x=x, y=heights, mode="lines", line=line, name=name, hoverinfo="skip", **style)
    figure.add_trace(trace, row=1, col=at)


def _said(row) -> str:
    corrected = " (Holm)" if row.fit else ""
    return f"CCC {_two(row.ccc)} (chance up to {_two(row.null_high)}, p = {row.p_shown:.2g}{corrected})"
