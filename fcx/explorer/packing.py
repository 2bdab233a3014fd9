"""Faces and results as the page reads them: a header of words and means, and a frame of numbers for each face.

A frame is one block of bytes: the arrays of `PARTS`, one after the other, little-endian. Maps are 8 bits and their
largest value (`eight_bits`); shares and means are those of the maps as they were computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import cv2
import numpy as np

from fcx.core.contract import TARGETS, match, usable_rows
from fcx.core.errors import ContractError
from fcx.core.provenance import nested_attr
from fcx.datasets.preparation import resize_to
from fcx.figures.montage import colour_table
from fcx.figures.theme import looks
from fcx.figures.wording import method_title, plain_name
from fcx.statistics.comparison import names_of
from fcx.statistics.map_scores import QUANTITIES
from fcx.statistics.overlays import OVERLAYS, region_names
from fcx.statistics.region_mass import region_cover, region_statistics

SHOWN = ("share", "enrichment", "net")  # of `QUANTITIES`
# name -> (type, dimensions) of what a frame holds, in this order
PARTS = {
    **{name: ("<f4", ("model", "condition", "target", "region")) for name in SHOWN},
    "top": ("<f4", ("model", "condition", "target")),
    "part": ("u1", ("y", "x")),  # the number of the region that covers most of a pixel
    "overlay": ("u1", ("overlay", "y", "x")),
    "map": ("i1", ("model", "condition", "target", "y", "x")),
}
THUMB, SIDE = 56, 192  # pixels: a picture in the strip, and one under a map
SPRITE_QUALITY, QUALITY = 72, 75  # of WebP
READ_AT_ONCE = 64  # faces
LEVELS, POWER = 80, 1.5  # steps on each side of 0, which grow with the value; more would not fit into a page


class Pack:
    """The usable faces of results, their statistics, and both as bytes.

    `call` is how a line of Python names what `fcx.explore` is given.

    Raises: ContractError where results hold no maps or not the samples of `faces`; InputError where no face is usable.
    """

    def __init__(self, faces, results, *, draws: int = 2000, call: str = "faces, results"):
        if "attribution" not in results:
            raise ContractError("these results hold no maps: make them with fcx.attribute, with maps=True")
        rows = match(results, faces)
        keep = usable_rows(faces.isel(sample=rows))
        self.faces, self.results = faces.isel(sample=rows[keep]), results.isel(sample=keep)
        self.draws, self.call = draws, call
        self.models, self.conditions, self.methods, self.targets = (
            names_of(results, dim) for dim in ("model", "condition", "method", "target")
        )
        self.regions = region_names(faces)

    @cached_property
    def statistics(self):
        """What `region_statistics` says of the faces."""
        return region_statistics(self.results, self.faces, draws=self.draws)

    @cached_property
    def samples(self) -> list[str]:
        """The ids of the faces."""
        return [str(name) for name in self.faces["sample"].values]

    def header(self, rows: Iterable[int]) -> dict:
        """Return everything but the frames of the faces `rows`, as JSON knows it."""
        rows = list(rows)
        known = nested_attr(self.results, "methods")
        predictions = self.results["prediction"].transpose("model", "condition", "target", "sample").values
        return {
            "models": self._models(),
            "conditions": self.conditions,
            "methods": [
                {"name": name, "title": method_title(name, self.results), "signed": known.get(name, {}).get("signed"),
                 "shows": known.get(name, {}).get("shows", "where {} comes from"),
                 "conserves": known.get(name, {}).get("conserves", False),
                 "resolution": known.get(name, {}).get("resolution", 1)}
                for name in self.methods
            ],
            "targets": self.targets,
            "regions": self.regions,
            "overlays": list(OVERLAYS),
            "size": list(self.results["attribution"].shape[-2:]),
            "levels": [float(value) for value in from_eight_bits(np.arange(LEVELS + 1), np.ones(1))[0, 0]],
            "parts": [[name, kind, dims] for name, (kind, dims) in PARTS.items()],
            "quantities": {name: QUANTITIES[name] for name in SHOWN},
            "faces": [self._face(row) for row in rows],
            "prediction": plain_numbers(predictions[..., rows], 9),
            "means": {name: self._means(name) for name in SHOWN},
            "count": len(self.samples),
            "call": self.call,
            "colours": {name: colour_table(name == "signed").astype(int).tolist() for name in ("signed", "unsigned")},
            "sprite": {"side": THUMB, "columns": _columns(len(rows))},
        }  # fmt: skip

    def _models(self) -> list[dict]:
        return [{"name": name, "title": plain_name(name), "colour": colour, "symbol": symbol}
                for name, (colour, symbol) in looks(self.models).items()]  # fmt: skip

    def _face(self, row: int) -> dict:
        face = self.faces.isel(sample=row)
        expression = str(face["expression"].item()) if "expression" in face.coords else ""
        labels = {name: plain_numbers(float(face[name]), 6) for name in TARGETS}
        return {"id": self.samples[row], "expression": expression, **labels}

    def _means(self, quantity: str) -> dict:
        ends = {"mean": f"{quantity}_mean", "low": f"{quantity}_low", "high": f"{quantity}_high"}
        dims = ("model", "condition", "method", "target", "region")
        return {end: plain_numbers(self.statistics[name].transpose(*dims).values, 6) for end, name in ends.items()}

    def frame(self, row: int, method: str) -> bytes:
        """Return the frame of a face and a method."""
        maps = self.results["attribution"].sel({"method": method}).isel(sample=row)
        dims = ("model", "condition", "target")
        scores = self.statistics[list(SHOWN)].sel({"method": method}).isel(sample=row).transpose(*dims, "region")
        cover = region_cover(self.faces, np.array([row]))[0]
        return frame_bytes(maps.transpose(*dims, "y", "x").values, {n: scores[n].values for n in SHOWN}, cover)

    def picture(self, row: int, condition: str) -> bytes:
        """Return one face as WebP: the display picture, or else the grid's image; grey, as it is under a map."""
        pixels = cv2.cvtColor(self.pixels(condition, [row])[0], cv2.COLOR_RGB2GRAY)
        return encoded(np.repeat(resize_to(pixels, SIDE)[..., None], 3, axis=2), QUALITY)

    def sprite(self, rows: Iterable[int]) -> bytes:
        """Return thumbnails of plain faces in rows of `header()["sprite"]["columns"]`, as one WebP."""
        rows = np.array(list(rows))
        columns = _columns(len(rows))
        sheet = np.zeros((-(-len(rows) // columns) * THUMB, columns * THUMB, 3), np.uint8)
        for first in range(0, len(rows), READ_AT_ONCE):
            for place, pixels in enumerate(self.pixels(self.conditions[0], rows[first : first + READ_AT_ONCE]), first):
                y, x = (THUMB * part for part in divmod(place, columns))
                sheet[y : y + THUMB, x : x + THUMB] = resize_to(pixels, THUMB)
        return encoded(sheet, SPRITE_QUALITY)

    def pixels(self, condition: str, rows) -> np.ndarray:
        """Return (sample, row, column, channel) uint8."""
        name = "picture" if "picture" in self.faces else "image"
        pixels = self.faces[name].sel(condition=condition).isel(sample=rows).values
        return pixels if pixels.ndim == 4 else np.repeat(pixels[..., None], 3, axis=3)

    def share_error(self, rows: Iterable[int]) -> float:
        """Return the largest error that 8 bits leave in the share of any part of a map of these faces.

        A part and the rest err by opposite amounts: half the sum of what all pixels err by, over the whole mass.
        """
        worst = 0.0
        for row in rows:
            maps = np.asarray(self.results["attribution"].isel(sample=row).values, np.float64)
            mass, stored = np.abs(maps), np.abs(from_eight_bits(*eight_bits(maps)))
            whole, other = (each.sum((-2, -1), keepdims=True) for each in (mass, stored))
            with np.errstate(invalid="ignore"):  # a map of zeros has no shares
                apart = np.abs(stored / other - mass / whole).sum((-2, -1)) / 2
            worst = max(worst, np.nan_to_num(apart).max(initial=0))
        return float(worst)


def eight_bits(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maps (..., y, x) as int8, and the largest magnitude (...) of each, NaN for one that is not finite.

    A value is that times sign(q) |q / 80|^1.5: off by at most .0094 of the largest, and finer where maps are small,
    which most of a map is, so that shares of regions keep. 127 even steps err three times as much in shares.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        top = np.abs(maps).max((-2, -1))
        share = (np.abs(maps) / top[..., None, None]) ** (1 / POWER)
    steps = np.rint(LEVELS * np.nan_to_num(share, posinf=0)) * np.sign(np.nan_to_num(maps))
    return steps.astype(np.int8), np.where(np.isfinite(top), top, np.nan).astype(np.float32)


def from_eight_bits(steps: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return the maps of `eight_bits`, (..., y, x)."""
    return np.sign(steps) * np.abs(steps / LEVELS) ** POWER * top[..., None, None]


def frame_bytes(maps: np.ndarray, scores: dict, cover: np.ndarray) -> bytes:
    """Return maps (model, condition, target, y, x), scores (..., region) and cover (region, y, x) as a frame."""
    (steps, top), parts = eight_bits(maps), len(cover) - len(OVERLAYS)
    arrays = {**scores, "top": top, "part": cover[:parts].argmax(0), "overlay": np.rint(255 * cover[parts:]),
              "map": steps}  # fmt: skip
    return b"".join(np.ascontiguousarray(arrays[name], kind).tobytes() for name, (kind, _) in PARTS.items())


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    """Return RGB pixels as WebP."""
    return cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def _columns(count: int) -> int:
    return max(1, math.ceil(math.sqrt(count)))


def plain_numbers(values, digits: int):
    """Return numbers as lists of JSON: rounded to so many digits, None for NaN and infinity."""
    if isinstance(values, np.ndarray):
        return [plain_numbers(value, digits) for value in (values if values.ndim > 1 else values.tolist())]
    return float(f"{values:.{digits}g}") if math.isfinite(values) else None
