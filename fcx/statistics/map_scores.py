"""Statistics of single maps by face region: mass, density, enrichment, rank AUC."""

from __future__ import annotations

import numpy as np

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
        with np.errstate(invalid="ignore", over="ignore"):  # a map may hold NaN or infinity, and is then left out
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
