"""What masks give away: the leakage audit (`fcx.masks.leakage_audit`) as a chart and as statements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from fcx.figures.forest_plots import forest, heights, shifts
from fcx.figures.tables import Finding, Findings
from fcx.figures.theme import CHANCE, PALETTE, Figure, dots, finish
from fcx.figures.wording import listed

KINDS = {"rated": ("labels as rated", "circle", PALETTE[0]), "beyond": ("beyond pose and light", "diamond", PALETTE[1])}
REFERENCE_WORDS = {"pose": "head pose", "light": "light on the upper face", "face": "unmasked face"}
FAMILY_LEVEL = 0.05
VERDICTS = {
    (False, False): "no better than chance",
    (True, False): "better than chance, but not beyond what pose and light give,",
    (True, True): "better than chance, also beyond what pose and light give,",
    (False, True): "better than chance only beyond what pose and light give,",
}


def leakage_chart(audit: xr.Dataset) -> Figure:
    """Draw how well the labels are predicted from masks alone and from the references, over the range of chance."""
    table = leakage_rows(audit)
    labels, targets = list(dict.fromkeys(table.input)), list(dict.fromkeys(table.target))
    figure, up = forest(targets, labels), shifts(KINDS, 0.16)
    for at, target in enumerate(targets, start=1):
        for kind, (name, symbol, colour) in KINDS.items():
            part = table[(table.target == target) & (table["labels"] == kind)]
            y = heights(labels, part.input, up[kind])
            _band(figure, at, part, y, showlegend=at == 1 and kind == "rated")
            fill = np.where(part.p_shown <= FAMILY_LEVEL, symbol, f"{symbol}-open")
            marker = {"symbol": fill, "size": 11, "color": colour, "line": {"width": 2, "color": colour}}
            hover = [f"{row.input}, {target}, {name}: {_number(row)}" for row in part.itertuples()]
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
    sentences = " ".join(statement for statement, _ in leakage_findings(audit).items)
    title, height = "What masks give away", 190 + 44 * len(labels)
    return finish(figure, "leakage", title, reading, sentences, table.drop(columns="p_shown"), height)


def leakage_findings(audit: xr.Dataset) -> Findings:
    """Return what the audit says of each target: what masks show, and whether the head's pose explains it."""
    findings = []
    for target, part in leakage_rows(audit).groupby("target", sort=False):
        groups: dict[str, list[str]] = {}
        numbers = []
        for (fit, source), pair in part[part.fit != ""].groupby(["fit", "source"], sort=False):
            rated, beyond = (next(pair[pair["labels"] == kind].itertuples()) for kind in KINDS)
            verdict = VERDICTS[rated.p_shown <= FAMILY_LEVEL, beyond.p_shown <= FAMILY_LEVEL]
            groups.setdefault(verdict, []).append(f"{fit} {source}")
            numbers.append(f"{fit}, {source}: {_number(rated)}; beyond pose and light {_number(beyond)}")
        shown = "; ".join(f"{verdict} from {listed(names)}" for verdict, names in groups.items())
        known = part[(part.fit == "") & (part["labels"] == "rated")]
        beside = ", ".join(f"{row.input} {row.ccc:z.2f}" for row in known.itertuples())
        findings.append(Finding(f"{target.capitalize()}, predicted from the mask alone: {shown}.",
                                f"{'. '.join(numbers)}. For comparison, CCC from: {beside}."))  # fmt: skip
    return Findings(findings)


def leakage_rows(audit) -> pd.DataFrame:
    """Return the audit as rows: masks by fit and source, then the references once.

    `p_shown` is corrected over all masks (Holm), and plain for the references, which test no mask.
    """
    numbers, dims = ["ccc", "null_low", "null_high", "p", "p_holm"], ["target", "fit", "source", "labels"]
    known = [*REFERENCE_WORDS]
    masks, references = audit.drop_sel(source=known), audit.sel(source=known).isel(fit=[0]).assign_coords(fit=[""])
    rows = pd.concat([part[numbers].to_dataframe(dim_order=dims).reset_index() for part in (masks, references)])
    labels = [f"{row.fit}, {row.source}" if row.fit else REFERENCE_WORDS[row.source] for row in rows.itertuples()]
    rows = rows.assign(input=labels, p_shown=rows.p_holm.where(rows.fit != "", rows.p))
    rows = rows[["target", "input", "fit", "source", "labels", *numbers, "p_shown"]]
    return rows.sort_values("target", key=lambda targets: pd.factorize(targets)[0], kind="stable", ignore_index=True)


def _band(figure: Figure, at: int, part: pd.DataFrame, y, **style) -> None:
    """Draw the range of chance of each row."""
    ends = {"x": [end for row in part.itertuples() for end in (row.null_low, row.null_high, None)],
            "y": [end for height in y for end in (height, height, None)]}  # fmt: skip
    line, name = {"color": CHANCE, "width": 13}, "chance (90 % of shuffled labels)"
    figure.add_trace(go.Scatter(**ends, mode="lines", line=line, name=name, hoverinfo="skip", **style), row=1, col=at)


def _number(row) -> str:
    corrected = " (Holm)" if row.fit else ""
    return f"CCC {row.ccc:z.2f} (chance up to {row.null_high:z.2f}, p = {row.p_shown:.2g}{corrected})"
