"""Small pictures set in rows and columns as one image, with words around them, and the painting of one tile."""

from __future__ import annotations

import base64
import textwrap

import cv2
import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale, sample_colorscale

from fcx.figures.theme import INK, SIGNED, UNSIGNED, Figure, finish

TILE, GAP, LINE = 116, 6, 24  # pixels: a picture, the space between two, a line of text under one
TEXT = 14  # pixels: the letters around the pictures
TOOLBAR, LETTER, TITLE_LINE = 90, 10.5, 26  # pixels: Plotly's toolbar, a letter and a line of the title


class Montage:
    """Tiles (row, column, y, x, channel) uint8 as one Plotly figure, `words` (row, column) under each tile."""

    def __init__(self, tiles: np.ndarray, words=None, *, left: int = 120, top: int = 130, right: int = 20):
        self.rows, self.columns = tiles.shape[:2]
        self.step_x, self.step_y = TILE + GAP, TILE + GAP + (LINE if words else 0)
        canvas = np.zeros(
            (self.rows * self.step_y - GAP, self.columns * self.step_x - GAP, 4), np.uint8
        )  # RGB, opacity
        for r in range(self.rows):
            for c in range(self.columns):
                y, x = r * self.step_y, c * self.step_x
                canvas[y : y + TILE, x : x + TILE, :3] = tiles[r, c]
                canvas[y : y + TILE, x : x + TILE, 3] = (
                    255 * (tiles[r, c] != 255).any()
                )  # a blank one lets the page through
        self.height, self.width = canvas.shape[:2]
        self.figure = Figure()
        self.figure.add_layout_image(
            source=data_uri(canvas), xref="x", yref="y", x=0, y=0, sizex=self.width, sizey=self.height,
            xanchor="left", yanchor="top", sizing="stretch", layer="below",
        )  # fmt: skip
        words = [w for row in words or [[""] * self.columns] * self.rows for w in row]
        x = [c * self.step_x + TILE / 2 for _ in range(self.rows) for c in range(self.columns)]
        y = [r * self.step_y + TILE + LINE / 2 for r in range(self.rows) for _ in range(self.columns)]
        style = {"mode": "text", "textfont": {"size": TEXT}, "hoverinfo": "skip", "showlegend": False}
        self.figure.add_trace(go.Scatter(x=x, y=y, text=words, cliponaxis=False, **style))
        self.figure.update_xaxes(range=[0, self.width], visible=False, fixedrange=True)
        self.figure.update_yaxes(range=[self.height, 0], visible=False, fixedrange=True)
        self.margin = {"l": left, "r": right, "t": top, "b": 24}
        self.figure.update_layout(width=left + self.width + right, autosize=False, dragmode=False)

    def finish(self, name: str, title: str, reading: str, numbers: str, table) -> Figure:
        """Return the figure with what it carries (see `fcx.figures.theme.finish`)."""
        # The title stays within the picture, and clear of Plotly's toolbar.
        lines = textwrap.wrap(title, max(20, int((self.figure.layout.width - TOOLBAR) / LETTER)))
        margin = {**self.margin, "t": self.margin["t"] + TITLE_LINE * (len(lines) - 1)}
        height = self.height + margin["t"] + margin["b"]
        finished = finish(self.figure, name, title, reading, numbers, table, height, margin=margin)
        return finished.update_layout(title_text="<br>".join(lines))

    def label_rows(self, words) -> None:
        """Write one label left of each row."""
        for r, word in enumerate(words):
            self._write(word, 0, r * self.step_y + TILE / 2, "right", "middle", -10)

    def label_columns(self, words, line: int = 0) -> None:
        """Write one label above each column, `line` lines above the pictures."""
        for c, word in enumerate(words):
            self._write(word, c * self.step_x + TILE / 2, 0, "center", "bottom", 0, 4 + line * LINE)

    def group_columns(self, words, size: int) -> None:
        """Write one label above each group of `size` columns, with a rule under it."""
        for g, word in enumerate(words):
            x0 = g * size * self.step_x
            x1 = x0 + size * self.step_x - GAP
            self._write(f"<b>{word}</b>", (x0 + x1) / 2, 0, "center", "bottom", 0, 6 + LINE)
            lifted = {"yref": "y", "ysizemode": "pixel", "yanchor": 0, "y0": LINE + 4, "y1": LINE + 4}
            self.figure.add_shape(type="line", x0=x0, x1=x1, line={"color": INK, "width": 1}, **lifted)

    def colour_bar(self, limit: float, signed: bool, title: str) -> None:
        """Draw the one colour bar of the panel, right of the pictures."""
        bar = {"title": {"text": title, "side": "right"}, "thickness": 16, "len": min(420, self.height),
               "lenmode": "pixels", "x": 1.01, "tickformat": ".2~g" if limit >= 0.005 else ".1~e"}  # fmt: skip
        marker = {"color": [0], "cmin": -limit if signed else 0, "cmax": limit, "showscale": True, "opacity": 0,
                  "colorscale": SIGNED if signed else UNSIGNED, "colorbar": bar}  # fmt: skip
        hidden = {"mode": "markers", "hoverinfo": "skip", "showlegend": False}
        self.figure.add_trace(go.Scatter(x=[0], y=[0], marker=marker, **hidden))

    def _write(self, word, x, y, xanchor, yanchor, xshift=0, yshift=0) -> None:
        self.figure.add_annotation(
            text=word, x=x, y=y, xanchor=xanchor, yanchor=yanchor, xshift=xshift, yshift=yshift,
            showarrow=False, font={"size": TEXT}, align=xanchor if xanchor != "middle" else "center",
        )  # fmt: skip


def data_uri(pixels: np.ndarray) -> str:
    """Return a picture (y, x, RGBA) uint8 as the address of an image."""
    _, data = cv2.imencode(
        ".webp", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 92]
    )  # a fifth of a PNG
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def picture(faces, condition: str, index: int) -> np.ndarray:
    """Return one face as (TILE, TILE, channel) uint8: the display picture, or else the grid's image."""
    name = "picture" if "picture" in faces else "image"
    pixels = faces[name].sel(condition=condition).isel(sample=index).values
    pixels = resize(pixels, cv2.INTER_AREA if pixels.shape[0] > TILE else cv2.INTER_CUBIC)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def resize(pixels: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Return `pixels` at the size of a tile."""
    return cv2.resize(np.ascontiguousarray(pixels), (TILE, TILE), interpolation=how)


def grey_tile(tile: np.ndarray) -> np.ndarray:
    """Return the luma of a tile as three equal channels, float."""
    return np.repeat((tile @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=2)


def colour_scale(maps: np.ndarray, declared: dict) -> tuple[float, bool]:
    """Return the limit of the colours of maps that are shown together, and whether they have two signs.

    The limit is the 99.5th percentile of the magnitude, maps that are NaN left out; `declared` is what the method says
    of itself.
    """
    known = np.abs(maps[np.isfinite(maps)])
    return float(np.quantile(known, 0.995)) if known.any() else 1.0, declared.get("signed", bool((maps < 0).any()))


def heat(tile: np.ndarray, values: np.ndarray, limit: float, signed: bool) -> np.ndarray:
    """Return the grey face with its map (y, x) over it; opacity grows with magnitude, so the face stays visible."""
    for block in (16, 8, 4, 2):  # a map that is constant in blocks is interpolated from its own resolution
        coarse = values[::block, ::block]
        if np.array_equal(coarse.repeat(block, 0).repeat(block, 1), values):
            values = coarse
            break
    share = np.clip(resize(values) / limit, -1 if signed else 0, 1)
    place = np.uint8(np.round(255 * ((share + 1) / 2 if signed else share)))
    strength = (0.9 * np.abs(share) ** 0.6)[..., None]
    return np.uint8(np.round((1 - strength) * (40 + 0.8 * grey_tile(tile)) + strength * colour_table(signed)[place]))


def colour_table(signed: bool) -> np.ndarray:
    """Return the colours (256, RGB) of maps, from 0 to 255."""
    colours = get_colorscale(SIGNED if signed else UNSIGNED)
    return 255 * np.array(sample_colorscale(colours, np.linspace(0, 1, 256).tolist(), colortype="tuple"))
