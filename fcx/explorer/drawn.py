"""A region that somebody drew: which pixels it holds, and what maps have in it."""

from __future__ import annotations

import numpy as np

MAPS_AT_ONCE = 64  # faces whose maps are held at once


def inside(points, shape: tuple[int, int]) -> np.ndarray:
    """Return (y, x) bool: the pixels whose centre lies in a polygon of grid points (x, y), by the even-odd rule.

    The same arithmetic as in the page, so that both agree on every pixel.
    Source: Shimrat, Communications of the ACM 5(8), 1962, algorithm 112.

    >>> inside([[-0.5, -0.5], [1.5, -0.5], [1.5, 0.5], [-0.5, 0.5]], (2, 3)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    y, x = np.indices(shape, dtype=float)
    odd = np.zeros(shape, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(np.asarray(points, float), 1, axis=0), strict=True):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return odd


def drawn_statistics(results, points, networks, method: str, target: str) -> dict[str, np.ndarray]:
    """Return mass, net and share of the whole mass (network, condition, sample) of maps in a drawn region.

    The share is NaN for a map of zeros.
    """
    maps = results["attribution"].sel({"model": list(networks), "method": method, "target": target})
    maps = maps.transpose("model", "condition", "sample", "y", "x")
    cover = inside(points, maps.shape[-2:])
    parts = []
    for first in range(0, maps.shape[2], MAPS_AT_ONCE):
        some = maps[:, :, first : first + MAPS_AT_ONCE].values.astype(np.float64)
        parts.append([np.abs(some[..., cover]).sum(-1), some[..., cover].sum(-1), np.abs(some).sum((-2, -1))])
    mass, net, whole = np.concatenate(parts, axis=-1)
    return {"mass": mass, "net": net, "share": mass / np.where(whole > 0, whole, np.nan)}
