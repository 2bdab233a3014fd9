"""How results are laid out and kept: in memory or in a Zarr store, whole or compressed, by one process or several.

Compressed maps are numbers of 8 or 16 bits times a scale of their own for each map, in `attribution_scale`; the
largest error of each map is measured when it is written and kept as `attribution_error`, in units of the map.
Statistics by region are computed from the maps before that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from fcx.core import selection as selection  # results.fcx.sel
from fcx.core.arguments import FilePath, checked
from fcx.core.contract import check
from fcx.core.errors import FcxError
from fcx.core.reading import open_store
from fcx.statistics.map_scores import QUANTITIES

MAPS_A_BLOCK = 64  # faces: what is written at once, and lost at most when a run is interrupted
MAP_DIMS = ("model", "condition", "method", "target", "sample")
STEPS = {"int8": 127, "float16": 1}  # what the largest absolute value of a map becomes
DECLARED = {
    "int8": "at most 1/254 of the largest absolute value of the map",
    "float16": "at most 1/4096 of the largest absolute value of the map",
}
ERROR = "largest error of a value of the map by its storage, in units of the map"
COORDINATES = ("area", "attribution_error")  # computed, yet not what arithmetic should touch


def layout(coords: Mapping, methods, options: Mapping, *, kept: str, maps: bool, statistics: bool) -> dict:
    """Return name -> (dims, dtype, attributes) of the variables of results.

    `coords` maps a dimension to (dims, values), `options` a method to its options; `kept` is the dtype of the maps in
    the store.
    """
    units = list(dict.fromkeys(method.units for method in methods))
    said = units[0] if len(units) == 1 else "of the method: see methods in the attributes of the results"
    made = {"prediction": (("model", "condition", "target", "sample"), "float64", {"units": "output units"})}
    if maps:
        attrs = {"units": said, "storage": kept}
        if kept in STEPS:
            attrs["storage_error"] = f"of each map as it was stored: {DECLARED[kept]}; see attribution_error"
            made["attribution_scale"] = (MAP_DIMS, "float32", {"long_name": "what a step of the map stands for"})
            made["attribution_error"] = (MAP_DIMS, "float32", {"long_name": ERROR, "units": said})
        made["attribution"] = ((*MAP_DIMS, "y", "x"), kept, attrs)
    extras = {extra: method.units for method in methods for extra in method.records(options[method.name])}
    for extra, unit in extras.items():
        made[extra] = (MAP_DIMS, "float64", {"long_name": extra.replace("_", " "), "units": unit})
    if statistics:
        made |= {name: ((*MAP_DIMS, "region"), "float32", {"long_name": text}) for name, text in QUANTITIES.items()}
        made["area"] = (("sample", "region"), "float32", {"long_name": "share of the grid's area"})
    if taken := [extra for extra in extras if extra in coords or extra in QUANTITIES or extra == "prediction"]:
        raise FcxError(f"a method may not record {taken[0]!r}: results have something else of that name")
    return made


def compress(maps: np.ndarray, kept: str) -> dict[str, np.ndarray]:
    """Return maps (..., y, x) as they are kept, with scale and largest error (...) of each where they are compressed.

    A map with a value that is not finite becomes NaN whole: its scale is NaN.

    >>> found = compress(np.array([[1.0, -0.5]], np.float32)[None], "int8")
    >>> found["attribution"].tolist(), [round(float(found["attribution_error"][0]), 4)]
    ([[[127, -64]]], [0.0039])
    """
    if kept not in STEPS:
        return {"attribution": maps.astype(kept, copy=False)}
    with np.errstate(invalid="ignore", under="ignore"):
        top = np.abs(maps).max((-2, -1))
        scale = np.where(np.isfinite(top), top / STEPS[kept], np.nan).astype(np.float32)
        steps = maps / np.where(scale > 0, scale, 1)[..., None, None]
    steps = np.clip(np.where(np.isfinite(scale)[..., None, None], steps, 0), -STEPS[kept], STEPS[kept])
    steps = (np.rint(steps) if kept == "int8" else steps).astype(kept)
    with np.errstate(invalid="ignore"):
        error = np.abs(steps * scale[..., None, None] - maps).max((-2, -1))
    return {"attribution": steps, "attribution_scale": scale, "attribution_error": error.astype(np.float32)}


class Decoded(BackendArray):
    """Compressed maps as float32: what is asked for is read and multiplied by its scales, nothing else."""

    def __init__(self, steps: xr.Variable, scale: xr.Variable):
        self.steps, self.scale = steps, scale.load()
        self.shape, self.dtype = steps.shape, np.dtype("float32")

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple) -> np.ndarray:
        chosen = dict(zip(self.steps.dims, key, strict=True))
        steps = self.steps.isel(chosen)
        scale = self.scale.isel({dim: chosen[dim] for dim in self.scale.dims})
        return (steps * scale).transpose(*steps.dims).values.astype(self.dtype, copy=False)


def decoded(results: xr.Dataset) -> xr.Dataset:
    """Return results whose compressed maps read as float32; whole ones stay as they are."""
    if "attribution_scale" in results:
        steps = results["attribution"].variable
        lazy = indexing.LazilyIndexedArray(Decoded(steps, results["attribution_scale"].variable))
        hint = {name: steps.encoding[name] for name in ("preferred_chunks",) if name in steps.encoding}
        maps = xr.Variable(steps.dims, lazy, steps.attrs, hint)
        results = results.drop_vars("attribution_scale").assign(attribution=maps)
    return results.set_coords([name for name in COORDINATES if name in results])


@checked
def open_results(path: FilePath) -> xr.Dataset:
    """Open a finished store of results, lazily; compressed maps read as float32.

    Raises: StoreError where there is none, where it was interrupted, or where it holds something else.

    >>> open_results("results.zarr")["attribution"].sel({"method": "lrp"})  # doctest: +SKIP
    """
    return decoded(open_store(path, "results"))


class Memory:
    """What a `Store` of results is, in memory."""

    def __init__(self, variables: Mapping, coords: Mapping, attrs: Mapping, blocks: int):
        self.coords, self.attrs, self.blocks = coords, attrs, blocks
        self.values = {}
        for name, (dims, dtype, about) in variables.items():
            fill = np.nan if np.dtype(dtype).kind == "f" else 0
            self.values[name] = (dims, np.full([len(coords[dim][1]) for dim in dims], fill, dtype), about)

    def pending(self) -> list[int]:
        """Return the numbers of all blocks."""
        return list(range(self.blocks))

    def write(self, values: Mapping[str, tuple]) -> None:
        """Write the `values` of a block (name -> (index, array))."""
        for name, (index, array) in values.items():
            self.values[name][1][index] = array

    def finish(self) -> xr.Dataset:
        """Return the results."""
        return check(xr.Dataset(self.values, self.coords, self.attrs), "results")
