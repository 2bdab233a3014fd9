"""Forest plots: a panel for each target, measure or carrier; in each a named row, the first on top."""

from __future__ import annotations

import numpy as np
from plotly.subplots import make_subplots

from fcx.figures.theme import Figure
from fcx.figures.wording import readable


def forest(panels, rows, spacing: float = 0.04, **axis) -> Figure:
    """Return an empty figure with panels side by side that share their named rows."""
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=spacing, figure=Figure(),
                           subplot_titles=[f"<b>{panel}</b>" for panel in panels])  # fmt: skip
    return name_rows(figure, rows, **axis)


def name_rows(figure: Figure, rows, **axis) -> Figure:
    """Give every panel of a figure the named rows."""
    words = {"tickvals": list(range(len(rows)))[::-1], "ticktext": [readable(name) for name in rows]}
    style = {"range": [-0.6, len(rows) - 0.4], "showgrid": False, "zeroline": False, "ticks": "", **axis}
    return figure.update_yaxes(**words, **style)


def heights(rows: list[str], names, shift=0) -> list[float]:
    """Return where each name stands: the middle of its row, moved up by `shift` (one number, or one a name)."""
    shift = np.broadcast_to(shift, len(names))
    return [len(rows) - 1 - rows.index(name) + up for name, up in zip(names, shift, strict=True)]


def shifts(names, reach: float) -> dict[str, float]:
    """Return how far each name of several in one row stands above its middle, the first on top."""
    return dict(zip(names, np.linspace(reach, -reach, len(names)) if len(names) > 1 else [0], strict=True))
