"""One template, one palette and one configuration for every figure, and what a figure carries.

A figure is a Plotly figure that also carries a name, an alternative text and the table of the numbers it
draws, in `layout.meta`: an exporter writes them beside the picture, and a test reads them.
Colours: Okabe and Ito, "Color Universal Design", 2008; every colour is backed by a symbol or a label.
"""

from __future__ import annotations

import json

import pandas as pd
import plotly.graph_objects as go
from plotly.io import to_json

from fcx.core.contract import BESIDE, FAMILIES, family_and_seed
from fcx.figures.standalone import standalone_html

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
INK, FAINT = "#1f2430", "#d8dce3"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8a6d00")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
SIGNED, UNSIGNED = "RdBu_r", "YlOrRd"
SHADE = "#eef0f4"  # behind the controls
AXIS_LINE, CHANCE = "#8b93a1", "#c3c8d1"  # CHANCE: the range of what knows nothing
# What stands in a figure's place of a colour where the reader has chosen dark.
DARK = {
    INK: "#e6e9f0",
    FAINT: "#363d4b",
    SHADE: "#252b37",
    CHANCE: "#4b5365",
    "#000000": "#ffffff",
    "white": "rgba(0,0,0,0)",
}

# Plotly 7 shows a button that uploads a chart to a cloud unless it is told not to.
CONFIG = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False, "responsive": True}

# Of every page: the browser itself refuses every request; what a page needs is in the page.
POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
          "font-src data:; base-uri 'none'; form-action 'none'")  # fmt: skip

_AXIS = {"gridcolor": FAINT, "zerolinecolor": AXIS_LINE, "linecolor": AXIS_LINE, "ticks": "outside",
         "tickcolor": FAINT, "automargin": True, "autotickangles": [0, 90], "title": {"standoff": 12}}  # fmt: skip
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 15, "color": INK},
        "title": {"font": {"size": 20}, "x": 0, "xref": "container", "xanchor": "left", "yref": "container",
                  "y": 1, "yanchor": "top", "pad": {"t": 12, "l": 4}},
        "colorway": PALETTE, "paper_bgcolor": "white", "plot_bgcolor": "white",
        "xaxis": _AXIS, "yaxis": _AXIS,
        "legend": {"orientation": "h", "x": 0, "xref": "container", "xanchor": "left", "yref": "container",
                   "yanchor": "top", "font": {"size": 14}, "itemsizing": "constant"},
        "margin": {"l": 20, "r": 24, "b": 60},
        "hoverlabel": {"font": {"family": FONT, "size": 14}, "align": "left"},
    }
)  # fmt: skip


class Figure(go.Figure):
    """A Plotly figure that shows itself with fcx's configuration in every notebook front end."""

    _ipython_display_ = None  # Plotly's own way round this class: it would leave out the configuration and the HTML

    def _repr_mimebundle_(self, *args, **kwargs):
        content = {**json.loads(to_json(self, validate=False)), "config": CONFIG}
        name, alt = ((self.meta or {}).get(key, "a figure") for key in ("name", "alt"))
        return {"application/vnd.plotly.v1+json": content, "text/html": standalone_html(content, name, alt),
                "text/plain": alt}  # fmt: skip

    @property
    def meta(self) -> dict:
        """What the figure carries: `name`, `title`, `reading` (its caption), `alt` and `table` (column -> values)."""
        return self.layout.meta

    @property
    def table(self) -> pd.DataFrame:
        """The numbers that the figure draws."""
        return pd.DataFrame(self.meta["table"])


def finish(figure: Figure, name: str, title: str, reading: str, numbers: str, table, height: int, *,
           least_width: int = 0, **layout) -> Figure:  # fmt: skip
    """Give a figure its template, title and height, room for its legend, and what it carries.

    `reading` says how the figure is read (its caption), `numbers` what it shows (with it the alternative text).
    On a page that is narrower than `least_width` pixels the figure keeps that width, and scrolls in its frame.
    """
    legend = any(trace.showlegend is not False and trace.name for trace in figure.data)
    layout = {"margin_t": 120 if legend else 90, "legend_y": 1 - 44 / height, **layout}
    alt = f"{title}. {reading} {numbers}"
    meta = {"name": name, "title": title, "reading": reading, "alt": alt, "table": plain_table(table),
            "least_width": least_width}  # fmt: skip
    return figure.update_layout(template=TEMPLATE, title_text=title, height=height, meta=meta, **layout)


def plain_table(table: pd.DataFrame) -> dict[str, list]:
    """Return a table as JSON knows it: column -> values, None where there is none."""
    values = table.rename(columns=str).astype(object)
    return values.where(values.notna(), None).to_dict("list")


def dots(x, y, hover, **style) -> go.Scatter:
    """Return points with a text for each."""
    return go.Scatter(x=x, y=y, mode="markers", hovertext=hover, hoverinfo="text", **style)


def bars(middle, low, high) -> dict:
    """Return the intervals of estimates as Plotly's error bars."""
    return {"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low,
            "thickness": 1.6, "width": 4, "color": INK}  # fmt: skip


def looks(names) -> dict[str, tuple[str, str]]:
    """Return name -> (colour, symbol): what ships has its own everywhere, a family with all of its trainings.

    Other names take, in their order, what is left and no family of the paper has, first in colours that no name beside
    them has; each pair goes once, for up to 60.

    >>> looks(["mine", "plain_scratch"])
    {'mine': ('#56B4E9', 'triangle-down'), 'plain_scratch': ('#0072B2', 'circle')}
    """
    turns = [(i, i + i // len(PALETTE)) for i in range(len(PALETTE) * len(SYMBOLS))]
    pairs = [(PALETTE[i % len(PALETTE)], SYMBOLS[j % len(SYMBOLS)]) for i, j in turns]
    own, left = dict(zip((*FAMILIES, *BESIDE), pairs, strict=False)), pairs[len(FAMILIES) :]
    names = list(dict.fromkeys(map(str, names)))
    known = {name: own[family] for name in names if (family := family_and_seed(name)[0]) in own}
    taken = {colour for colour, _ in known.values()}
    free = iter(sorted((pair for pair in left if pair not in known.values()), key=lambda pair: pair[0] in taken))
    return {name: known[name] if name in known else next(free) for name in names}
