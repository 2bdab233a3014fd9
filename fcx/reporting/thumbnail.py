"""A figure as a small picture for the card of the index: its image, or its points with their intervals, as SVG."""

from __future__ import annotations

import base64
import html

import numpy as np

WIDTH, HEIGHT, EDGE = 400, 150, 10


def small_chart(drawn: dict, alt: str) -> str:
    """Return a Plotly figure (data, layout) as a small picture in HTML; "" where it holds nothing that can be drawn.

    The image of a figure is shown as it is. Of points there are the places, colours and horizontal intervals, each
    panel side by side, without a word: the card says what it is about.
    """
    layout = drawn["layout"]
    label = f'class="picture" role="img" aria-label="{html.escape(alt)}"'
    if images := [image["source"] for image in layout.get("images", []) if image["source"].startswith("data:image/")]:
        return f'<div {label}><img alt="" src="{html.escape(images[0])}"></div>'
    panels: dict = {}
    for trace in drawn["data"]:
        if trace.get("type", "scatter") == "scatter" and (points := _points(trace)):
            panels.setdefault((trace.get("xaxis", "x"), trace.get("yaxis", "y")), []).extend(points)
    if not panels:
        return ""
    wide = WIDTH / len(panels)
    shapes = "".join(_panel(points, at * wide, wide) for at, points in enumerate(panels.values()))
    return f'<div {label}><svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{shapes}</svg></div>'


def _points(trace: dict) -> list[tuple]:
    """Return the points of a trace as (x, y, low, high, size, colour)."""
    x, y = _numbers(trace.get("x")), _numbers(trace.get("y"))
    if not len(x) or len(x) != len(y) or "markers" not in trace.get("mode", ""):
        return []
    error = trace.get("error_x") or {}
    up, down = (_numbers(error.get(name)) for name in ("array", "arrayminus"))
    up, down = (part if len(part) == len(x) else np.zeros(len(x)) for part in (up, down))
    colours = trace.get("marker", {}).get("color")
    colours = colours if isinstance(colours, list) and len(colours) == len(x) else [colours] * len(x)
    colours = [colour if isinstance(colour, str) else "currentColor" for colour in colours]
    size = trace.get("marker", {}).get("size", 10)
    sizes = size if isinstance(size, list) else [size] * len(x)
    rows = zip(x, y, x - down, x + up, sizes, colours, strict=True)
    return [row for row in rows if np.isfinite(row[0]) and np.isfinite(row[1])]


def _numbers(values) -> np.ndarray:
    """Return what Plotly's JSON holds (a list, or base64 of a typed array) as numbers; nothing where it is words."""
    if isinstance(values, dict) and "bdata" in values:
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"])).astype(float)
    try:
        return np.array([np.nan if value is None else value for value in values or []], dtype=float)
    except (TypeError, ValueError):
        return np.array([])


def _panel(points: list[tuple], left: float, wide: float) -> str:
    x = np.array([[row[2], row[0], row[3]] for row in points])
    y = np.array([row[1] for row in points])
    span_x, span_y = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    across = left + EDGE + (x - x.min()) / span_x * (wide - 2 * EDGE)
    down = HEIGHT - EDGE - (y - y.min()) / span_y * (HEIGHT - 2 * EDGE)
    shapes = []
    for (low, middle, high), height, (*_, size, colour) in zip(across, down, points, strict=True):
        fill = html.escape(colour)
        if high > low:
            shapes.append(f'<path d="M{low:.1f} {height:.1f}H{high:.1f}" stroke="{fill}" stroke-width="2"/>')
        shapes.append(f'<circle cx="{middle:.1f}" cy="{height:.1f}" r="{size / 3:.1f}" fill="{fill}"/>')
    edge = f'<path d="M{left + 2:.1f} 0V{HEIGHT}" stroke="currentColor" stroke-opacity=".25"/>'
    return edge + "".join(shapes)
