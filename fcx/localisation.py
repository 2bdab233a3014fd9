"""Where a map lies: statistics of single maps by face region, and a null model of shifted maps.

Mass is absolute attribution unless a name says net, positive or negative. A region is a coverage in
[0, 1] for each pixel, so that soft edges count in part; the regions of the face partition the grid and
`mask`, the alpha of the masked twin, overlays it in every condition. A sample counts where its face is
usable in every condition. A map of zeros has no share, density, enrichment or AUC (NaN), and a region
that covers nothing has no statistics at all (NaN).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import fft

from fcx.contract import ContractError, check, usable
from fcx.evaluation import interval, match

QUANTITIES = {
    "share": "share of absolute attribution",
    "net": "net attribution, units of the map",
    "positive": "positive attribution, units of the map",
    "negative": "negative attribution, units of the map",
    "density": "share of absolute attribution over share of area",
    "enrichment": "log2 of density",
    "auc": "P(absolute attribution is larger inside than outside)",
}
FREE_BITS = 29  # of the mantissa of a float64 that holds a float32
BLOCK = 64  # samples whose maps are held at once, unless the store's chunks say more


def coverage(faces, rows, out: np.ndarray | None = None) -> np.ndarray:
    """Return (sample, region, y, x) float64 in [0, 1]: the partition, normalised to sum to 1, then `mask`.

    With `out`, of at least as many samples, it is written there: fresh memory can cost more than the arithmetic.

    Raises: ContractError where the regions leave a pixel uncovered.
    """
    cover = faces["regions"].isel(sample=rows).values
    total = cover.sum(1, dtype=np.uint16)[:, None]
    if (total == 0).any():
        name = str(faces["sample"].values[rows[np.argwhere(total == 0)[0, 0]]])
        raise ContractError(f"faces: the regions of {name!r} leave a pixel uncovered: they must partition the grid")
    conditions = [str(name) for name in faces["condition"].values]
    worn = conditions.index("masked") if "masked" in conditions else 0
    made = np.empty((len(cover), cover.shape[1] + 1, *cover.shape[2:])) if out is None else out[: len(cover)]
    np.divide(cover, total, out=made[:, :-1])
    np.divide(faces["alpha"].isel(condition=worn).isel(sample=rows).values, 255, out=made[:, -1])
    return made


def score_maps(maps, cover) -> dict[str, np.ndarray]:
    """Return each of `QUANTITIES`, (..., sample, region), of maps (..., sample, y, x) for cover (sample, region, y, x).

    auc = sum_ij c_i (1 - c_j) [m_i > m_j, ties half] / sum_ij c_i (1 - c_j) over pixels i, j of |map|, c the
    coverage. With r_i the number of pixels below i, ties and itself half, the numerator is
    sum_i c_i r_i - (sum_i c_i)^2 / 2, because [i > j] + [j > i] = 1: one ranking serves every region.

    Source: mass and enrichment after Kohlbrenner et al. 2020 (1910.09840); auc: Mann and Whitney 1947.

    >>> uniform, half = np.ones((1, 2, 2)), np.array([[[[1.0, 1.0], [0.0, 0.0]]]])
    >>> [float(score_maps(uniform, half)[name][0, 0]) for name in ("share", "enrichment", "auc")]
    [0.5, 0.0, 0.5]
    """
    maps = np.asarray(maps)
    each = maps.reshape(-1, *maps.shape[-3:])  # (map, sample, y, x)
    sides = np.array([_side(one) for one in each], int)
    scores = {name: np.empty((*each.shape[:2], cover.shape[1])) for name in QUANTITIES}
    for side in np.unique(sides):  # a map of constant blocks is scored on its cells
        cells = [each[number, :, ::side, ::side] for number in np.flatnonzero(sides == side)]
        for name, values in _score(cells, cover, side).items():
            scores[name][sides == side] = values
    return {name: values.reshape(*maps.shape[:-2], -1) for name, values in scores.items()}


def _side(maps: np.ndarray) -> int:
    """Return the largest power of two such that maps (..., y, x) are constant on blocks of that many pixels."""
    side = 1
    while not (maps.shape[-2] % (2 * side) or maps.shape[-1] % (2 * side)):
        if any(_uneven(some[..., ::side, ::side]) for some in (maps[:1], maps)):  # one sample often tells
            break
        side *= 2
    return side


def _uneven(cells: np.ndarray) -> bool:
    return (cells[..., ::2] != cells[..., 1::2]).any() or (cells[..., ::2, :] != cells[..., 1::2, :]).any()


def _score(cells: list[np.ndarray], cover: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Return `QUANTITIES` (map, sample, region) of maps, each (sample, row, column) of cells `side` pixels wide."""
    samples, rows, columns = cells[0].shape
    if side > 1:
        cover = cover.reshape(*cover.shape[:2], rows, side, -1).sum(3)
        cover = cover.reshape(*cover.shape[:3], columns, side).sum(4)
    weight = cover.reshape(*cover.shape[:2], -1).swapaxes(1, 2)  # (sample, cell, region), in pixels
    count, pixels = len(cells), rows * columns * side**2
    products = np.empty((samples, 3, count, weight.shape[-1]))
    total = np.empty((samples, count, 1))
    parts = np.empty((3, count, rows * columns))  # of one sample, which fits into the processor's cache
    ranks = Ranks(count, rows * columns, packed=cells[0].dtype == np.float32)
    for sample in range(samples):
        for number, one in enumerate(cells):  # a copy of all would cost as much as the ranks
            parts[1, number].reshape(rows, columns)[...] = one[sample]
        np.abs(parts[1], out=parts[0])
        ranks.write(parts[0], parts[2])
        total[sample] = parts[0].sum(-1, keepdims=True) * side**2
        # One product serves mass, net mass and ranks.
        with np.errstate(invalid="ignore"):  # a map may hold NaN or infinity, and is then left out
            np.matmul(parts.reshape(3 * count, -1), weight[sample], out=products[sample].reshape(3 * count, -1))
    size = weight.sum(1)[:, None]  # (sample, 1, region)
    with np.errstate(invalid="ignore", divide="ignore"):
        known = (size > 0) & np.isfinite(total)
        mass, net, larger = np.where(known[:, None], products, np.nan).swapaxes(0, 1)
        share = mass / np.where(total > 0, total, np.nan)
        density = share / (size / pixels)
        larger = larger * side**2 - size**2 / 2
        auc = np.where(np.isnan(share), np.nan, larger / (size * (pixels - size)))
        scores = (share, net, (mass + net) / 2, (net - mass) / 2, density, np.log2(density), auc)
    return {name: values.swapaxes(0, 1) for name, values in zip(QUANTITIES, scores, strict=True)}


class Ranks:
    """How many values of a map are below each of them, ties and itself counted half, for `count` maps at a time.

    What was a float32 (`packed`) leaves 29 bits of its float64 free, which hold its place: sorting such keys is three
    times as fast as argsort. What is needed for it is allocated once, which takes as long as using it.
    """

    def __init__(self, count: int, cells: int, packed: bool):
        self.packed = packed
        self.keys, self.order = np.empty((count, cells)), np.empty((count, cells), np.int64)
        self.place = np.arange(count * cells).reshape(count, cells)  # of each value among all
        self.middle = np.tile(np.arange(cells) + 0.5, (count, 1))
        self.equal = np.zeros((count, cells), bool)  # to the next value in order; the last has none

    def write(self, values: np.ndarray, ranks: np.ndarray) -> None:
        """Write the ranks of values (map, cell) float64 >= 0 into `ranks` (map, cell), which is contiguous."""
        if self.packed:
            bits = self.keys.view(np.int64)
            np.bitwise_or(values.view(np.int64), self.place, out=bits)
            self.keys.sort(-1)
            np.bitwise_and(bits, 2**FREE_BITS - 1, out=self.order)
            np.right_shift(bits, FREE_BITS, out=bits)
            np.equal(bits[:, 1:], bits[:, :-1], out=self.equal[:, :-1])
        else:
            np.add(values.argsort(-1), self.place[:, :1], out=self.order)
            ordered = values.reshape(-1)[self.order]
            np.equal(ordered[:, 1:], ordered[:, :-1], out=self.equal[:, :-1])
        flat = ranks.reshape(-1)
        flat[self.order] = self.middle
        before = np.flatnonzero(self.equal)  # places, in order, whose value equals the next
        if len(before):
            apart = before[1:] > before[:-1] + 1
            first, last = before[np.append(True, apart)], before[np.append(apart, True)] + 1
            size = last - first + 1
            tied = np.repeat(last - np.cumsum(size) + 1, size) + np.arange(size.sum())
            cells = self.place.shape[1]
            flat[self.order.reshape(-1)[tied]] = np.repeat((first % cells + last % cells + 1) / 2, size)


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
    shares = table["share"].isel(region=slice(None, -1))  # NaN for a region that covers nothing
    if ((abs(shares.sum("region") - 1) > 1e-3) & shares.notnull().any("region")).any():
        raise ContractError("results: the shares of the regions do not sum to 1: they are not those of single maps")
    some = np.flatnonzero(table["area"].notnull().all("region"))
    some = some[:: max(1, len(some) // BLOCK)]
    if not np.allclose(coverage(faces, rows[some]).mean((-2, -1)), table["area"][some], atol=1e-5):
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
    step = min(maps.encoding.get("preferred_chunks", {}).get("sample", BLOCK), 4 * BLOCK)
    for start in range(0, len(rows), step):
        some = start + np.flatnonzero(good[start : start + step])
        if not len(some):
            continue
        cover = coverage(faces, rows[some])
        for m in range(maps.shape[0]):
            for c in range(maps.shape[1]):
                part = maps.isel(model=m, condition=c, sample=slice(start, start + step)).values
                yield m, c, some, cover, part[:, :, some - start]


def sample_statistics(results, faces) -> xr.Dataset:
    """Return `QUANTITIES` of every map, (model, condition, method, target, sample, region), and area (sample, region).

    The maps are read block by block, never all at once. Where they are compressed, or not there, the statistics
    are those that `fcx.attribute` computed before. NaN for faces that are not usable.

    Raises: ContractError where results hold neither whole maps nor statistics, or not the samples of `faces`.
    """
    if not exact(results) and "area" in results:
        return _stored(results, faces)
    maps, rows = _checked(results, faces)
    regions = [*map(str, faces["region"].values), "mask"]
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
    return made.assign_coords({n: ("sample", c.values[rows]) for n, c in faces.coords.items() if c.dims == ("sample",)})


def shift_null(results, faces) -> xr.Dataset:
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
    regions = [*map(str, faces["region"].values), "mask"]
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
    low, high = interval(np.moveaxis(flat, -1, 0))
    tails = [side(flat, flat[..., :1]).mean(-1) for side in (np.less_equal, np.greater_equal)]
    p = np.where(np.isnan(flat[..., 0]), np.nan, np.minimum(2 * np.minimum(*tails), 1))
    made = {"enrichment": flat[..., 0], "low": low, "high": high, "p": p}
    coords = {name: maps[name].values for name in maps.dims[:4] if name in maps.coords} | {"region": regions}
    return xr.Dataset({k: (dims, v) for k, v in made.items()} | {"null": ((*dims, "dy", "dx"), null)}, coords)
