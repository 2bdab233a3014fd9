"""Where a map lies: statistics of single maps by face region, and a null model of shifted maps.

Mass is absolute attribution unless a name says net, positive or negative. A region is a coverage in [0, 1]
for each pixel, so that soft edges count in part; the regions of the face partition the grid, and others
(`fcx.statistics.overlays`) overlay it in every condition: first of all `mask`, the alpha of the masked twin. A
sample counts where its face is usable in every condition. A map of zeros has no share, density, enrichment or
AUC (NaN), and a region that covers nothing has no statistics at all (NaN).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from scipy import fft

from fcx.core import printed as printed  # statistics print as a table
from fcx.core.arguments import Count, Seed, checked
from fcx.core.checks import choose
from fcx.core.contract import Faces, Results, check, column, match, ordered, usable
from fcx.core.errors import ContractError
from fcx.statistics.bootstrap import INTERVAL, estimates, interval, means
from fcx.statistics.map_scores import QUANTITIES, score_maps
from fcx.statistics.overlays import OVERLAYS, region_names

RATIOS = ("density", "enrichment")  # of a mean share and a mean area
MAPS_AT_ONCE = 64  # samples whose maps are held at once, unless the store's chunks say more


def region_cover(faces, rows, out: np.ndarray | None = None, overlays: Iterable[str] | None = None) -> np.ndarray:
    """Return (sample, region, y, x) float64 in [0, 1]: the partition, normalised to sum to 1, then `overlays`.

    With `out`, of at least as many samples, it is written there: fresh memory can cost more than the arithmetic.

    Raises: ContractError where the regions leave a pixel uncovered; UnknownNameError for an overlay that is not known.
    """
    overlays = OVERLAYS if overlays is None else [choose(name, OVERLAYS, "overlay region") for name in overlays]
    cover = faces["regions"].isel(sample=rows).values
    total = cover.sum(1, dtype=np.uint16)[:, None]
    if (total == 0).any():
        name = str(faces["sample"].values[rows[np.argwhere(total == 0)[0, 0]]])
        raise ContractError(f"faces: the regions of {name!r} leave a pixel uncovered: they must partition the grid")
    parts = cover.shape[1]
    shape = (len(cover), parts + len(overlays), *cover.shape[2:])
    regions = np.empty(shape) if out is None else out[: len(cover)]
    np.divide(cover, total, out=regions[:, :parts])
    for number, name in enumerate(overlays, start=parts):
        regions[:, number] = OVERLAYS[name](faces, rows)
    return regions


def exact(results) -> bool:
    """Return whether results hold maps as they were computed, not compressed ones."""
    if "attribution" not in results:
        return False
    maps = results["attribution"]
    return maps.dtype.kind == "f" and maps.attrs.get("storage") not in ("float16", "int8")


def _stored(results, faces) -> xr.Dataset:
    """Return the statistics that results hold of maps that are compressed or not there.

    Raises: ContractError where they hold none, where these are not of single maps, or of other regions.
    """
    check(results, "results")
    check(faces, "faces")
    if missing := [name for name in (*QUANTITIES, "area") if name not in results]:
        what = "quantised maps" if "attribution" in results else "no 'attribution'"
        raise ContractError(f"results hold {what} and no stored {missing[0]!r}: make them with fcx.attribute")
    rows = match(results, faces)
    table = results[[*QUANTITIES, "area"]].reset_coords("area", drop=False).astype(np.float64).load()
    parts = faces.sizes["region"]
    shares = table["share"].isel(region=slice(parts))  # NaN for a region that covers nothing
    if ((abs(shares.sum("region") - 1) > 1e-3) & shares.notnull().any("region")).any():
        raise ContractError("results: the shares of the regions do not sum to 1: they are not those of single maps")
    some = np.flatnonzero(table["area"].notnull().all("region"))
    some = some[:: max(1, len(some) // MAPS_AT_ONCE)]
    cover = region_cover(faces, rows[some], overlays=map(str, table["region"].values[parts:]))
    if not np.allclose(cover.mean((-2, -1)), table["area"][some], atol=1e-5):
        raise ContractError("the stored statistics are of other regions or masks: give the faces that were explained")
    return table


def _checked(results, faces) -> tuple[xr.DataArray, np.ndarray]:
    """Return the maps, and for each of their samples its row in `faces`."""
    check(results, "results")
    check(faces, "faces")
    if "attribution" not in results:
        raise ContractError("results hold no 'attribution': make them with fcx.attribute")
    maps = results["attribution"]
    if not exact(results):
        kept = maps.attrs.get("storage", maps.dtype)
        raise ContractError(f"results: 'attribution' is {kept}, quantised: statistics come from unquantised maps")
    if maps.shape[-2:] != (grid := faces["regions"].shape[-2:]):
        raise ContractError(f"results: 'attribution' is on a grid of {maps.shape[-2:]}, faces on one of {grid}")
    return maps, match(results, faces)


def _blocks(maps, faces, rows):
    """Yield (model, condition, samples, cover, maps) with maps (method, target, sample, y, x) of usable faces."""
    good = usable(faces)[rows]
    step = min(maps.encoding.get("preferred_chunks", {}).get("sample", MAPS_AT_ONCE), 4 * MAPS_AT_ONCE)
    for start in range(0, len(rows), step):
        some = start + np.flatnonzero(good[start : start + step])
        if not len(some):
            continue
        cover = region_cover(faces, rows[some])
        for m in range(maps.shape[0]):
            for c in range(maps.shape[1]):
                part = maps.isel(model=m, condition=c, sample=slice(start, start + step)).values
                yield m, c, some, cover, part[:, :, some - start]


@checked
def sample_statistics(results: Results, faces: Faces) -> xr.Dataset:
    """Return `QUANTITIES` of every map, (model, condition, method, target, sample, region), and area (sample, region).

    The maps are read block by block, never all at once. Where they are compressed, or not there, the statistics
    are those that `fcx.attribute` computed before. NaN for faces that are not usable.

    Raises: ContractError where results hold neither whole maps nor statistics, or not the samples of `faces`.
    """
    if not exact(results) and "area" in results:
        return _stored(results, faces)
    maps, rows = _checked(results, faces)
    regions = region_names(faces)
    dims, shape = maps.dims[:-2], maps.shape[:-2]
    scores = {name: np.full((*shape, len(regions)), np.nan) for name in QUANTITIES}
    area = np.full((shape[-1], len(regions)), np.nan)
    for m, c, some, cover, part in _blocks(maps, faces, rows):
        area[some] = cover.mean((-2, -1))
        for name, values in score_maps(part, cover).items():
            scores[name][m, c][:, :, some] = values
    made = xr.Dataset(
        {name: ((*dims, "region"), v, {"long_name": QUANTITIES[name]}) for name, v in scores.items()},
        coords={name: maps[name].values for name in dims if name in maps.coords} | {"region": regions},
        attrs={name: results.attrs[name] for name in results.attrs if name != "kind"},
    )
    made["area"] = (("sample", "region"), area, {"long_name": "share of the grid's area"})
    made = made.assign_coords({n: ("sample", c.values[rows]) for n, c in faces.coords.items() if c.dims == ("sample",)})
    return made.assign_coords({n: c for n, c in results.coords.items() if c.dims == ("model",)})  # family and seed


@checked
def shift_null(results: Results, faces: Faces) -> xr.Dataset:
    """Return the mean enrichment that the same maps have when all are shifted in a circle by (dy, dx).

    One shift for all faces: faces are aligned, so that maps shifted each by its own average out to the
    area, and any structure that maps share, be it at the border, would look like an effect. All shifts of
    the grid are taken, by Fourier transforms, the map in place included; nothing is random.

    Variables: enrichment (model, condition, method, target, region); null (..., region, dy, dx), whose
    [0, 0] is the enrichment; low and high, between which 95 % of the shifts lie; p, two-sided, twice the
    smaller share of shifts on either side of the enrichment. Neighbouring shifts are nearly equal, so that
    p is coarse: it says whether the place matters, not how sure that is of other faces.

    Raises: ContractError as in `sample_statistics`.
    Source: torus shifts, Lotwick and Silverman, Journal of the Royal Statistical Society B 44(3), 1982.
    """
    maps, rows = _checked(results, faces)
    regions = region_names(faces)
    lead, grid = maps.shape[:4], maps.shape[-2:]
    spectrum = np.zeros((*lead, len(regions), grid[0], grid[1] // 2 + 1), complex)
    area = np.zeros((*lead, len(regions)))
    for m, c, _, cover, part in _blocks(maps, faces, rows):
        absolute = np.abs(part, dtype=np.float64)
        total = absolute.sum((-2, -1), keepdims=True)
        counts = np.isfinite(total) & (total > 0)
        share = fft.rfft2(np.where(counts, absolute / np.where(counts, total, 1), 0))
        spectrum[m, c] += np.einsum("ktsyx,sryx->ktryx", share.conj(), fft.rfft2(cover), optimize=True)
        area[m, c] += np.einsum("kts,sr->ktr", counts[..., 0, 0], cover.mean((-2, -1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(area > 0, area, np.nan)[..., None, None]
        density = fft.irfft2(spectrum, s=grid) / shares
        null = np.log2(np.where(density > 1e-12, density, 0 * density))  # rounding of the transform is not mass
    flat = null.reshape(*null.shape[:-2], -1)
    dims = (*maps.dims[:4], "region")
    low, high = interval(np.moveaxis(flat, -1, 0), np.inf)
    tails = [side(flat, flat[..., :1]).mean(-1) for side in (np.less_equal, np.greater_equal)]
    p = np.where(np.isnan(flat[..., 0]), np.nan, np.minimum(2 * np.minimum(*tails), 1))
    made = {"enrichment": flat[..., 0], "low": low, "high": high, "p": p}
    coords = {name: maps[name].values for name in maps.dims[:4] if name in maps.coords} | {"region": regions}
    made = {name: (dims, values) for name, values in made.items()} | {"null": ((*dims, "dy", "dx"), null)}
    return xr.Dataset(made, coords, {name: results.attrs[name] for name in results.attrs if name != "kind"})


@checked
def region_statistics(results: Results, faces: Faces, *, draws: Count = 2000, seed: Seed = 0) -> xr.Dataset:
    """Return region statistics of every map, and their means over faces with 95 % intervals.

    For each quantity of `QUANTITIES`: `<name>` (model, condition, method, target, sample, region), and
    `<name>_mean`, `<name>_low`, `<name>_high` (model, condition, method, target, region), intervals of a bootstrap
    over subjects (`fcx.statistics.bootstrap.interval`). The mean density is mean share over mean area share, and the
    mean enrichment its log2, in each draw: a mean of log2 values would be -inf as soon as one face has no mass in a
    region. n counts the maps that have a share.

    Raises: ContractError as in `sample_statistics`; InputError for draws or a seed that cannot be used.

    >>> region_statistics(results, faces)["enrichment_mean"].sel(region="mask")  # doctest: +SKIP
    """
    table = sample_statistics(results, faces)
    made = {"n": table["share"].notnull().sum("sample")}
    for name in QUANTITIES:
        if name == "enrichment":  # log2 keeps the order, and the ends of an interval are draws
            continue
        drawn, count = region_draws(table, name, table[name].notnull(), draws, seed)
        made |= estimates(drawn, count, f"{name}_mean", f"{name}_low", f"{name}_high")
    table = table.assign(made)
    with np.errstate(divide="ignore"):
        table = table.assign({f"enrichment_{end}": np.log2(table[f"density_{end}"]) for end in ("mean", "low", "high")})
    return ordered(table).assign_attrs(draws=draws, seed=seed, interval=INTERVAL)


def region_draws(table, quantity: str, valid, draws: int, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Return means over the `valid` samples (1 + draw, ...), the data first, and how many clusters have one (...)."""
    counts = valid.any([dim for dim in valid.dims if dim != "sample"]).values
    table, valid = table.isel(sample=counts), valid.isel(sample=counts)
    bases = ("share", "area") if quantity in RATIOS else (quantity,)
    (drawn, count), *area = (means(table[name].where(valid), column(table, "subject"), draws, seed) for name in bases)
    drawn = drawn / area[0][0] if area else drawn
    with np.errstate(divide="ignore"):
        return np.log2(drawn) if quantity == "enrichment" else drawn, count
